"""Set everything up in `.venv` and run a job; needs Python >= 3.11 and PyPI, nothing else.

    python run.py cifar10          execute notebooks/10_cifar10.ipynb from its checkpoint, remake its GIF
    python run.py test             run all tests: unit, structure, notebooks (further arguments go to pytest)
    python run.py lab              open the notebooks in JupyterLab
    python run.py setup            only set up
    python run.py python ...       the environment's Python: python run.py python -m gifs

The first run downloads about 3 GB (6 GB unpacked): PyPI's torch for Linux carries NVIDIA's libraries, and
works with and without a GPU. With `--cpu` the first run takes torch and torchvision from PyTorch's own index
of CPU builds instead: about 1 GB unpacked, no GPU. Later runs reuse `.venv`; delete it to start over.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  this is what tells readers with an older one
    sys.exit("This course needs Python 3.11 or newer; this is Python " + sys.version.split()[0] + ".")

import argparse
import hashlib
import os
import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements.lock"
STAMP = ENVIRONMENT / "installed.txt"  # hash of the lock that is installed, and which torch
GPU_ONLY = ("cuda-", "nvidia-", "triton==")  # packages that only the GPU build of torch needs


def run(*command: str, **variables: str) -> int:
    """Run the environment's Python in the repository's root with extra environment variables."""
    always = {"PYTHONUTF8": "1", "JUPYTER_PREFER_ENV_PATH": "1"}  # for Windows; before kernels of the user's
    return subprocess.call([str(PYTHON), *command], cwd=ROOT, env=os.environ | always | variables)


def without_gpu(lock: str) -> str:
    """The lock without the packages that only the GPU build of torch needs."""
    return "".join(line for line in lock.splitlines(keepends=True) if not line.startswith(GPU_ONLY))


def set_up(cpu: bool) -> None:
    """Make `.venv` hold exactly what `requirements.lock` says, or do nothing if it does already."""
    installed = STAMP.read_text().split() if STAMP.exists() else []
    kind = "cpu" if cpu else (installed or ["default"])[-1]  # an environment made with --cpu stays one
    wanted = [hashlib.sha256(LOCK.read_bytes()).hexdigest(), kind]
    if installed == wanted:
        return
    if installed and installed[-1] != kind:
        sys.exit(f"{ENVIRONMENT} holds the default torch; delete that folder first to change to --cpu.")
    size = "1 GB" if kind == "cpu" else "6 GB on Linux, 1 GB elsewhere"
    print(f"Setting up {ENVIRONMENT} ({size}; only the first time) ...", flush=True)
    if not STAMP.exists():
        try:
            venv.create(ENVIRONMENT, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv")
    requirements = ENVIRONMENT / "requirements.txt"
    text = LOCK.read_text()
    requirements.write_text(without_gpu(text) if kind == "cpu" else text)
    options = ["--torch-backend", "cpu"] if kind == "cpu" else []
    for command in (
        ["pip", "install", "--quiet", "--upgrade", "uv>=0.8"],
        ["uv", "pip", "install", "--python", str(PYTHON), "-r", str(requirements), *options],
    ):
        if run("-m", *command):
            sys.exit(
                "Setting up failed, see above. Most often the package index cannot be reached (network, "
                "proxy) or the disk is full. Finished downloads are kept: run the same command to go on."
            )
    STAMP.write_text(" ".join(wanted))


def cifar10() -> int:
    """Execute the notebook into `build/` and remake its GIF. What `fast` makes never replaces the GIF."""
    made = [ROOT / "build" / "10_cifar10.ipynb"]
    status = run("-m", "notebooks.tools.execute", "notebooks/10_cifar10.ipynb")
    if status == 0 and os.environ.get("COURSE_BUDGET") != "fast":
        made.append(ROOT / "gifs" / "cifar10_chains.gif")
        status = run("-m", "gifs", "cifar10")
    if status == 0:
        print("Done. Look at", *made, sep="\n  ")
    return status


def test(arguments: list[str]) -> int:
    """Run pytest on everything, or on what `arguments` say."""
    workers = max(1, min(4, os.cpu_count() or 1))
    options = ["-n", str(workers), "--dist", "loadscope", "--nbval-lax", "--nbval-current-env"]
    options += ["--nbval-cell-timeout", "600", "--nbval-kernel-startup-timeout", "120"]
    # One thread in each worker: more workers with more threads than cores run many times slower.
    variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    return run("-m", "pytest", *options, *arguments, COURSE_BUDGET="fast", **variables)


def main() -> int:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--cpu", action="store_true", help="install CPU builds of torch (first run only)")
    parser.add_argument("job", choices=["cifar10", "test", "lab", "setup", "python"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on by test, lab and python")
    options = parser.parse_args()
    if "--cpu" in options.arguments:  # allow it after the job too
        options.arguments.remove("--cpu")
        options.cpu = True
    set_up(options.cpu)
    if options.job == "cifar10":
        return cifar10()
    if options.job == "test":
        return test(options.arguments)
    if options.job == "lab":
        return run("-m", "jupyter", "lab", "notebooks", *options.arguments)
    return run(*options.arguments) if options.job == "python" else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
