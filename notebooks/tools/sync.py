"""Write the set-up cell and the Colab badge into every notebook: `python run.py sync`.

The cell's text is `notebooks/setup_cell.py`; the repository's address stands in `pyproject.toml` alone. While
none stands there, that of git's remote `origin` is written into it, if it is on GitHub. Without any there is
no badge, and the set-up cell says how to get the repository.
"""

import argparse
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import nbformat

from utils.setup import ROOT, read_project

NOTEBOOKS = ROOT / "notebooks"
UNSET = "https://github.com/OWNER/REPO"
GITHUB = re.compile(r"(?:https://|ssh://git@|git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?")
BADGE = re.compile(r"\s*\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")


def repository() -> str:
    """Address of this repository, empty while it is not known."""
    address = read_project()["urls"]["Repository"]
    return "" if address == UNSET else address


def address_of_remote(url: str) -> str:
    """Web address of a git remote on GitHub, by https or ssh; empty for any other."""
    match = GITHUB.fullmatch(url.strip())
    return f"https://github.com/{match[1]}" if match else ""


def adopt_remote() -> bool:
    """Write the address of git's remote `origin` into pyproject.toml if none stands there."""
    command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    try:
        url = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    if repository() or not (address := address_of_remote(url)):
        return False
    project = ROOT / "pyproject.toml"
    project.write_text(project.read_text(encoding="utf-8").replace(UNSET, address), encoding="utf-8")
    return True


def setup_cell() -> str:
    """Text of the set-up cell."""
    template = (NOTEBOOKS / "setup_cell.py").read_text(encoding="utf-8").rstrip("\n")
    return template.replace("{repository}", repository())


def badge(notebook: str) -> str:
    """Markdown of the Colab badge of the notebook file `notebook`; empty unless the address is on GitHub."""
    if not repository().startswith("https://github.com/"):
        return ""
    owner_and_name = repository().removeprefix("https://github.com/")
    page = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/notebooks/{notebook}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({page})"


def with_badge(title: str, notebook: str) -> str:
    """Text of a title cell that ends with the badge of the notebook file `notebook`, if there is one."""
    return f"{BADGE.sub('', title)}\n\n{badge(notebook)}".rstrip("\n")


def is_setup_cell(cell: dict) -> bool:
    """Whether a notebook's cell is the set-up cell, current or outdated: its first line decides."""
    return cell["cell_type"] == "code" and cell["source"].startswith("# Set-up, the same in every notebook")


def sync(path: Path) -> bool:
    """Put badge and set-up cell into one notebook, at the end of its title cell and after it.

    Returns whether anything changed; stored outputs stay.
    """
    notebook = nbformat.read(path, as_version=4)
    before = nbformat.writes(notebook)
    title = notebook.cells[0]
    title.source = with_badge(title.source, path.name)
    cell = next(filter(is_setup_cell, notebook.cells), None)
    if cell is None:
        notebook.cells.insert(1, nbformat.v4.new_code_cell(setup_cell()))
    else:
        cell.source = setup_cell()
    if nbformat.writes(notebook) == before:
        return False
    nbformat.write(notebook, path)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    changed = ["pyproject.toml"] if adopt_remote() else []
    changed += [path.name for path in sorted(NOTEBOOKS.glob("*.ipynb")) if sync(path)]
    print("changed:", ", ".join(changed) or "nothing")


if __name__ == "__main__":
    main()
