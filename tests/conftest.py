"""Fixtures that more than one test file uses."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def image_source() -> Path | None:
    """Folder with `cifar10/`: `COURSE_IMAGES`, else `../shared/data`; None if neither has it."""
    pointed = os.environ.get("COURSE_IMAGES")
    folder = ROOT / Path(pointed).expanduser() if pointed else ROOT.parent / "shared" / "data"
    return folder.resolve() if (folder / "cifar10").is_dir() else None
