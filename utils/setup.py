"""What every notebook does first: look for missing packages, set style and seed, say where it runs."""

import importlib.metadata
import platform
import random
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # not that of utils.config, which needs torch


def read_project() -> dict:
    """The `[project]` table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def is_installed(package: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def missing_requirements() -> list[str]:
    """The course's requirements of which no version is installed. A running kernel needs no `jupyter`."""
    names = {line: re.match(r"[\w.-]+", line)[0] for line in read_project()["dependencies"]}
    return [line for line, name in names.items() if name != "jupyter" and not is_installed(name)]


def install_in_colab(requirements: list[str]) -> None:
    """Install `requirements` beside Colab's own packages; its torch, torchvision and numpy stay."""
    own = filter(is_installed, ("torch", "torchvision", "numpy"))
    kept = "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in own)
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"  # what pip must keep if it touches it at all
        constraints.write_text(kept, encoding="utf-8")
        options = ["--quiet", "--constraint", str(constraints)]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *requirements], check=True)


def working(parts: Iterable, what: str) -> Iterable:
    """`parts`, while a line of text says `what` is done, how far, and the time left; it stays when done."""
    from tqdm import tqdm  # not of tqdm.auto: a widget would be lost when the page is saved

    return tqdm(parts, what, file=sys.stdout, ncols=100, mininterval=0.5)


def begin(seed: int = 0):
    """Set figure style and global seeds, print one line about the machine; returns the `torch.device` to use.

    Raises ModuleNotFoundError if a package of the course is missing; in Colab it is installed instead.
    """
    if missing := missing_requirements():
        if "google.colab" not in sys.modules:
            raise ModuleNotFoundError(
                f"missing in {sys.executable}: {', '.join(missing)}. Run `python run.py setup` at the top of "
                "the repository and choose its .venv as the kernel, or start Jupyter by `python run.py lab`."
            )
        install_in_colab(missing)

    import numpy as np
    import torch

    from utils.config import budget, pick_device
    from utils.plotting import use_style

    use_style()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  for libraries that draw from the global generator
    torch.manual_seed(seed)
    device = pick_device()
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else f"{torch.get_num_threads()} threads"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{versions} | device: {device.type} ({name}) | budget: {budget()} | seed: {seed}")
    return device
