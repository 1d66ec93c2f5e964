"""Where things lie, how large a run is, and on which device: each decided here and nowhere else.

The course's environment variables are read in this file alone, and CONTRIBUTING lists them. Empty means
unset, and a relative path starts at the top of the repository, whatever the working folder is.
"""

import os
import tempfile
from pathlib import Path
from typing import TypeVar

import torch

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
CHECKPOINTS = DATA / "checkpoints"
STATISTICS = DATA / "statistics"
RUNS = DATA / "runs"  # unfinished training runs, ignored by git
GIFS = ROOT / "gifs"

BUDGETS = ("fast", "demo", "full")
Size = TypeVar("Size")


def _place(variable: str) -> Path | None:
    """The path that an environment variable names, or None where it is empty or unset."""
    value = os.environ.get(variable, "").strip()
    return ROOT / Path(value).expanduser() if value else None  # an absolute path stays what it is


def cache_dir() -> Path:
    """Folder of downloads and decoded images: `COURSE_CACHE`, else `data/cache`."""
    return _place("COURSE_CACHE") or DATA / "cache"


def images_place() -> Path | None:
    """Folder or archive with images of the data sets: `COURSE_IMAGES`, or None."""
    return _place("COURSE_IMAGES")


def inception_weights() -> Path | None:
    """File with the weights of Inception-v3: `COURSE_INCEPTION_WEIGHTS`, or None."""
    return _place("COURSE_INCEPTION_WEIGHTS")


def offline() -> bool:
    """Whether downloads are forbidden: `COURSE_OFFLINE` is neither empty nor 0."""
    return os.environ.get("COURSE_OFFLINE", "").strip() not in ("", "0")


def budget() -> str:
    """Size of every run, from `COURSE_BUDGET`: `fast` (tests), `demo` (stored outputs), `full`."""
    name = os.environ.get("COURSE_BUDGET", "").strip() or "demo"
    if name not in BUDGETS:
        raise ValueError(f"COURSE_BUDGET={name!r} is unknown; set it to one of {', '.join(BUDGETS)}")
    return name


def by_budget(*, fast: Size, demo: Size, full: Size) -> Size:
    """The value for the current budget. Only sizes may depend on it, never the code path."""
    return {"fast": fast, "demo": demo, "full": full}[budget()]


def pick_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU; or `COURSE_DEVICE`, a ValueError if it is not of this machine."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    choices = ["cuda"] * (gpus > 0) + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    name = os.environ.get("COURSE_DEVICE", "").strip() or choices[0]
    choices += [f"cuda:{i}" for i in range(gpus)]
    if name not in choices:
        wrong = f"COURSE_DEVICE={name!r} is not among the devices of this machine ({', '.join(choices)})"
        raise ValueError(f"{wrong}; use cpu, cuda, cuda:0 (the first of several) or mps, or unset it")
    return torch.device(name)


def writable(folder: Path, remedy: str) -> Path:
    """`folder`, made if it is not there and tried; OSError with `remedy` if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror or error}): {remedy}") from error
