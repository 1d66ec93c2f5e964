"""Set everything up in `.venv` and run a job; needs Python >= 3.11 and PyPI, nothing else.

    python run.py cifar10          execute notebooks/11_cifar10.ipynb from its checkpoint, remake its GIF
    python run.py test             run all tests: unit, structure, notebooks
    python run.py lab              open the notebooks in JupyterLab

What follows a job goes on to its program: `python run.py gifs --list`, `python run.py test -k links`.
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
from collections.abc import Callable
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


def cifar10(arguments: list[str]) -> int:
    """Execute the notebook into `build/` and remake its GIF. What `fast` makes never replaces the GIF."""
    status = run("-m", "notebooks.tools.execute", "notebooks/11_cifar10.ipynb", *arguments)
    if status == 0 and os.environ.get("COURSE_BUDGET") != "fast":
        status = run("-m", "gifs", "cifar10")
    return status


def test(arguments: list[str]) -> int:
    """Run pytest on everything, or on what `arguments` say; `--long` adds what takes minutes."""
    workers = max(1, min(4, os.cpu_count() or 1))
    options = ["-n", str(workers), "--dist", "loadscope", "--no-loadscope-reorder"]
    options += ["--nbval-lax", "--nbval-current-env"]
    options += ["--nbval-cell-timeout", "600", "--nbval-kernel-startup-timeout", "120"]
    # One thread in each worker: more workers with more threads than cores run many times slower.
    variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    return run("-m", "pytest", *options, *arguments, COURSE_BUDGET="fast", **variables)


def lab(arguments: list[str]) -> int:
    """Serve the whole repository, for links out of `notebooks/`, and open the first notebook."""
    places = [f"--ServerApp.root_dir={ROOT}", "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
    return run("-m", "jupyter", "lab", *places, *arguments)


def store(arguments: list[str]) -> int:
    """Execute all notebooks, or those named, and store their outputs."""
    named = any(argument.endswith(".ipynb") for argument in arguments)
    every = [] if named else [str(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    return run("-m", "notebooks.tools.execute", "--in-place", *every, *arguments)


def lint(arguments: list[str]) -> int:
    """Check style and format, both even if the first finds faults."""
    return max(run("-m", "ruff", *check, ".", *arguments) for check in (("check",), ("format", "--check")))


def format_all(arguments: list[str]) -> int:
    """Mend what ruff can mend."""
    return max(run("-m", "ruff", *mend, ".", *arguments) for mend in (("check", "--fix"), ("format",)))


def lock(arguments: list[str]) -> int:
    """Write the versions that pyproject.toml asks for; those that stand stay, unless `--upgrade`."""
    options = ["--universal", "--python-version", "3.11", "--extra", "dev", "--no-header", "--no-annotate"]
    options += ["--no-emit-index-url", "--quiet", "--output-file", LOCK.name]
    return run("-m", "uv", "pip", "compile", *options, *arguments, "pyproject.toml")


def python(arguments: list[str]) -> int:
    """Run the environment's Python; on Linux with an allocator that keeps what it has freed.

    Training on a CPU frees and asks for the same large blocks in every step. glibc hands each back to the
    system, which fills it with zeros anew; kept instead, training is 15 to 30 % faster, in more memory.
    """
    keep = {"MMAP_THRESHOLD_": 1 << 32, "TRIM_THRESHOLD_": 1 << 33, "TOP_PAD_": 1 << 28}  # bytes
    settings = {f"MALLOC_{name}": str(size) for name, size in keep.items()} if sys.platform == "linux" else {}
    unset = {name: size for name, size in settings.items() if name not in os.environ}
    return run(*arguments, **unset)


def module(name: str) -> Callable[[list[str]], int]:
    """A job that runs one module of this repository."""
    return lambda arguments: run("-m", name, *arguments)


JOBS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "setup": (lambda _: 0, "only set up"),
    "test": (test, "run all tests (--long: also what takes minutes); arguments go to pytest"),
    "lab": (lab, "open the notebooks in JupyterLab"),
    "cifar10": (cifar10, "execute notebook 11 into build/ and remake its animation"),
    "gifs": (module("gifs"), "make the animations anew"),
    "book": (module("notebooks.tools.book"), "the notebooks as a site, into build/book"),
    "playground": (module("notebooks.tools.playground"), "one page that samples live in a browser"),
    "slides": (module("notebooks.tools.slides"), "one HTML deck a notebook, into build/slides"),
    "student": (
        module("notebooks.tools.student"),
        "student versions, TEACHING.md's tables; --no-solutions: a release",
    ),
    "autograde": (module("notebooks.tools.autograde"), "points for a folder of students' notebooks"),
    "sync": (module("notebooks.tools.sync"), "set-up cell and Colab badge into every notebook"),
    "store": (store, "execute every notebook, or those named, and store the outputs"),
    "shuffle": (module("notebooks.tools.shuffle"), "run the notebooks as tests in a random order"),
    "bench": (module("benchmarks.bench_sampler"), "the sampler's speed, as ratios"),
    "lint": (lint, "check style and format"),
    "format": (format_all, "mend style and format"),
    "lock": (lock, "write requirements.lock; --upgrade takes newer versions"),
    "python": (python, "the environment's Python: python run.py python -m data.recipes.cifar10_gan"),
}


def main(arguments: list[str] | None = None) -> int:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written, allow_abbrev=False)
    cpu = argparse.ArgumentParser(add_help=False)
    text = "install CPU builds of torch (first run only)"
    cpu.add_argument("--cpu", action="store_true", default=argparse.SUPPRESS, help=text)
    parser.add_argument("--cpu", action="store_true", help=text)
    jobs = parser.add_subparsers(dest="job", required=True, metavar="job")
    for name, (_, text) in JOBS.items():
        own = name == "setup" or not STAMP.exists()  # `--help` goes on to the program, once there is one
        parents = [] if name == "python" else [cpu]
        jobs.add_parser(name, help=text, description=text, parents=parents, add_help=own, allow_abbrev=False)
    options, further = parser.parse_known_args(arguments)
    if options.job == "setup" and further:
        parser.error(f"setup takes no {' '.join(further)}")
    set_up(options.cpu)
    return JOBS[options.job][0](further)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
