"""The repository's address stands in pyproject.toml alone; everything else follows it, or does without."""

import re
import subprocess

import nbformat
import pytest

from notebooks.tools import sync as sync_tool
from notebooks.tools.student import student_version
from notebooks.tools.sync import NOTEBOOKS, UNSET, address_of_remote, adopt_remote, badge, repository, sync
from utils import setup
from utils.config import ROOT

NEW = "https://github.com/someone/elsewhere"
FOLLOWS = ("notebooks/0", "notebooks/1", "notebooks/exercises/")  # written by sync and student


def git_grep(text: str) -> list[str]:
    """Files of the repository that hold `text`."""
    command = ["git", "grep", "--untracked", "-lIF", text]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode > 1:
        pytest.skip("needs git and its working tree")
    return result.stdout.splitlines()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of pyproject.toml without an address, in a git repository without a remote."""
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(sync_tool, "ROOT", tmp_path)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    unset = re.sub(r'^Repository = ".*"', f'Repository = "{UNSET}"', text, flags=re.M)
    (tmp_path / "pyproject.toml").write_text(unset, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_follow(path, tmp_path, monkeypatch):
    """With an address a badge and a clone in each notebook and student version; without it neither."""
    copy = tmp_path / path.name
    copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    outputs = [cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells]
    for address, times in (NEW, 2), ("", 0), (NEW + "2", 2):
        monkeypatch.setattr(sync_tool, "repository", lambda address=address: address)
        assert sync(copy) and not sync(copy)
        solved = nbformat.read(copy, as_version=4)
        assert [cell.get("outputs") for cell in solved.cells] == outputs
        for text in (nbformat.writes(solved), nbformat.writes(student_version(solved, path.name))):
            assert len(re.findall("someone/elsewhere" + address.removeprefix(NEW) + r"\b", text)) == times
            assert text.count("Open in Colab") == times / 2


def test_an_unset_address_is_none_and_that_of_the_remote_is_adopted(project):
    assert (repository(), badge("01_x.ipynb"), adopt_remote()) == ("", "", False)
    remote = ["git", "-C", str(project), "remote"]
    subprocess.run([*remote, "add", "origin", "git@github.com:someone/elsewhere.git"], check=True)
    assert adopt_remote() and repository() == NEW
    subprocess.run([*remote, "set-url", "origin", NEW + "2"], check=True)
    assert not adopt_remote() and repository() == NEW  # one that was written by hand, or before, stays


@pytest.mark.parametrize(
    "url, address",
    [
        ("https://github.com/someone/elsewhere.git\n", NEW),
        ("ssh://git@github.com/someone/elsewhere", NEW),
        ("git@github.com:someone/else.where.git", "https://github.com/someone/else.where"),
        ("https://user:secret@github.com/someone/elsewhere", ""),  # never write what may be a password
        ("/srv/git/course.git", ""),
        ("https://example.org/github.com/a/b", ""),
    ],
)
def test_addresses_of_remotes(url, address):
    assert address_of_remote(url) == address


def test_no_other_file_names_it():
    assert [file for file in git_grep(UNSET.removeprefix("https://")) if not file.startswith("tests/")] in (
        ["notebooks/tools/sync.py"],
        ["notebooks/tools/sync.py", "pyproject.toml"],
    )
    named = git_grep(repository().removeprefix("https://github.com/")) if repository() else ["pyproject.toml"]
    assert [file for file in named if not file.startswith(FOLLOWS)] == ["pyproject.toml"]
