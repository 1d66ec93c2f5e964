"""Write the set-up cell and the Colab badge into every notebook: `python -m notebooks.tools.sync`.

The cell's text is `notebooks/setup_cell.py`, the repository's address is in `pyproject.toml`. After a change
of either, this command carries it into the notebooks and into README's links.
"""

import re
from pathlib import Path

import nbformat

from utils.config import ROOT
from utils.setup import read_project

NOTEBOOKS = ROOT / "notebooks"
IN_COLAB = re.compile(r"(?<=colab\.research\.google\.com/github/)[^/\s]+/[^/\s]+(?=/)")
CLONED = re.compile(r"(?<=git clone )https://\S+?(?=[\s`]|$)")
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")


def repository() -> str:
    """Address of this repository."""
    return read_project()["urls"]["Repository"]


def setup_cell() -> str:
    """Text of the set-up cell."""
    template = (NOTEBOOKS / "setup_cell.py").read_text(encoding="utf-8").rstrip("\n")
    return template.replace("{repository}", repository())


def badge(notebook: str) -> str:
    """Markdown of the Colab badge of the notebook file `notebook`."""
    owner_and_name = repository().removeprefix("https://github.com/")
    page = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/notebooks/{notebook}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({page})"


def with_address(text: str) -> str:
    """Markdown with this repository's address in its Colab links and `git clone` commands."""
    text = IN_COLAB.sub(repository().removeprefix("https://github.com/"), text)
    return CLONED.sub(repository(), text)


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
    if BADGE.search(title.source):
        title.source = BADGE.sub(badge(path.name), title.source)
    else:
        title.source += "\n\n" + badge(path.name)
    cell = next(filter(is_setup_cell, notebook.cells), None)
    if cell is None:
        notebook.cells.insert(1, nbformat.v4.new_code_cell(setup_cell()))
    else:
        cell.source = setup_cell()
    if nbformat.writes(notebook) == before:
        return False
    nbformat.write(notebook, path)
    return True


def main() -> None:
    changed = [path.name for path in sorted(NOTEBOOKS.glob("*.ipynb")) if sync(path)]
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        text = path.read_text(encoding="utf-8")
        if with_address(text) != text:
            path.write_text(with_address(text), encoding="utf-8")
            changed.append(path.name)
    print("changed:", ", ".join(changed) or "nothing")


if __name__ == "__main__":
    main()
