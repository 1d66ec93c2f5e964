"""The repository's address stands in pyproject.toml alone; everything else follows it."""

import subprocess

import nbformat
import pytest

from notebooks.tools import sync as sync_setup_cells
from notebooks.tools.student import student_version
from notebooks.tools.sync import NOTEBOOKS, repository, sync, with_address
from utils.config import ROOT

NEW = "https://github.com/someone/elsewhere"
FOLLOWS = ("notebooks/", "README.md", "CONTRIBUTING.md")  # written by sync_setup_cells and student


def short(address: str) -> str:
    """Owner and name."""
    return address.removeprefix("https://github.com/")


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_follow(path, tmp_path, monkeypatch):
    copy = tmp_path / path.name
    copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    old = short(repository())
    monkeypatch.setattr(sync_setup_cells, "repository", lambda: NEW)
    assert sync(copy)
    solved = nbformat.read(copy, as_version=4)
    for text in (nbformat.writes(solved), nbformat.writes(student_version(solved, path.name))):
        assert old not in text
        assert text.count(short(NEW)) == 2, "badge and set-up cell"


def test_pages_follow(monkeypatch):
    badge = sync_setup_cells.badge("01_x.ipynb")
    text = f"{badge}\n\n    git clone {repository()}\n"
    old = short(repository())
    monkeypatch.setattr(sync_setup_cells, "repository", lambda: NEW)
    assert old not in with_address(text)
    assert with_address(text).count(short(NEW)) == 2


def test_no_other_file_names_it():
    try:
        command = ["git", "grep", "--untracked", "-lIF", short(repository())]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and its working tree")
    others = [name for name in listing.splitlines() if not name.startswith(FOLLOWS)]
    assert others == ["pyproject.toml"]
