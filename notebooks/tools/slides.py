"""Make slides from the notebooks' own cells: `python run.py slides notebooks/11_cifar10.ipynb`.

Without arguments all notebooks are taken. One HTML deck each goes to `build/slides`; arrow keys to the right
go on, downwards to the next cell of the section. Which cell becomes what is set by rule in a copy, the stored
notebooks stay as they are. Figures are in the decks; animations are read from `gifs/`, and reveal.js and
MathJax from the network.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from traitlets.config import Config

from notebooks.tools.student import RELATIVE
from notebooks.tools.sync import NOTEBOOKS
from utils.setup import ROOT

SLIDES = ROOT / "build" / "slides"
HIDDEN = "hide-input"


def has_figure(cell: nbformat.NotebookNode) -> bool:
    """Whether a code cell's stored output shows a figure."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))


def kind_of_slide(cell: nbformat.NotebookNode, begun: bool) -> str:
    """The slide type of a cell before or after the first section has `begun`."""
    if cell.cell_type == "markdown":
        return "slide" if re.match(r"##? ", cell.source) else "-"
    return "subslide" if begun else "skip"  # set-up and imports


def with_slide_types(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of `notebook` with slide types: sections to the right, cells downwards, no exercises.

    Text after a cell stays on its slide; the code of a figure is hidden, other code is shown.
    """
    notebook = nbformat.from_dict(notebook)
    begun, shown = False, True
    for cell in notebook.cells:
        text = cell.source if cell.cell_type == "markdown" else ""
        if shown and (end := re.search(r"^## (?:[\d.]+ )?Exercises", text, re.M)):
            cell.source, shown = text[: end.start()].rstrip(), False
            kind = kind_of_slide(cell, begun) if cell.source else "skip"
        else:
            kind = kind_of_slide(cell, begun) if shown else "skip"
        cell.metadata["slideshow"] = {"slide_type": kind}
        begun |= text.startswith("## ")
        if cell.cell_type == "code" and has_figure(cell):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), HIDDEN]
    return notebook


def make(path: Path, reveal: str | None = None) -> str:
    """HTML of the slides of one notebook; `reveal` is a folder or address of reveal.js."""
    config = Config()
    config.SlidesExporter.reveal_scroll = True
    config.SlidesExporter.reveal_width, config.SlidesExporter.reveal_height = "1280", "760"
    if reveal:
        config.SlidesExporter.reveal_url_prefix = reveal
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = {HIDDEN}
    notebook = with_slide_types(nbformat.read(path, as_version=4))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = RELATIVE.sub(r"\1../", cell.source)  # seen from build/slides, one folder deeper
    return SlidesExporter(config=config).from_notebook_node(notebook, {"metadata": {"name": path.stem}})[0]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--reveal", help="folder or address of reveal.js, to show slides without a network")
    args = parser.parse_args(arguments)
    SLIDES.mkdir(parents=True, exist_ok=True)
    for path in [path.resolve() for path in args.notebooks] or sorted(NOTEBOOKS.glob("*.ipynb")):
        target = SLIDES / f"{path.stem}.slides.html"
        target.write_text(make(path, args.reveal), encoding="utf-8")
        print(target)


if __name__ == "__main__":
    main()
