"""Where things lie, how large a run is, and on which device: each decided here and nowhere else."""

import os
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


def cache_dir() -> Path:
    """Folder of downloads and decoded images: `COURSE_CACHE`, else `data/cache`."""
    return Path(os.environ.get("COURSE_CACHE", DATA / "cache")).expanduser()


def budget() -> str:
    """Size of every run, from `COURSE_BUDGET`: `fast` (tests), `demo` (stored outputs), `full`."""
    name = os.environ.get("COURSE_BUDGET", "demo")
    if name not in BUDGETS:
        raise ValueError(f"COURSE_BUDGET={name!r} is unknown; set it to one of {', '.join(BUDGETS)}")
    return name


def by_budget(*, fast: Size, demo: Size, full: Size) -> Size:
    """The value for the current budget. Only sizes may depend on it, never the code path."""
    return {"fast": fast, "demo": demo, "full": full}[budget()]


def pick_device() -> torch.device:
    """CUDA if there is one, else Apple's MPS, else the CPU; `COURSE_DEVICE` overrides."""
    if name := os.environ.get("COURSE_DEVICE"):
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
