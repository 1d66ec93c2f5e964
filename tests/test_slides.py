"""Slides: which cell becomes what, and one deck made from a real notebook."""

import re

import nbformat

from notebooks.tools.slides import HIDDEN, SLIDES, make, with_slide_types
from notebooks.tools.sync import NOTEBOOKS
from utils.config import GIFS


def test_rule():
    figure = [nbformat.v4.new_output("display_data", {"image/png": "AAAA"})]
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    cells = [text("# T"), code("set-up"), code("import math"), text("## 1. A"), code("x = 1")]
    cells += [
        code("plot()", outputs=figure),
        text("*What to see:* x.\n\n## Exercises\n\n### Exercise 1"),
        code("s"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    slides = with_slide_types(notebook).cells
    kinds = [cell.metadata.slideshow.slide_type for cell in slides]
    assert kinds == ["slide", "skip", "skip", "slide", "subslide", "subslide", "-", "skip"]
    assert slides[5].metadata.tags == [HIDDEN]
    assert slides[6].source == "*What to see:* x."
    assert "Exercise" in notebook.cells[6].source, "the notebook itself must not change"
    assert all("slideshow" not in cell.metadata for cell in notebook.cells)


def test_deck():
    path = NOTEBOOKS / "02_optimal_discriminator.ipynb"
    html = make(path)
    sections = [c.source for c in nbformat.read(path, as_version=4).cells if c.source.startswith("## ")]
    assert html.count("<section>") > len(sections)
    assert "data:image/png;base64" in html
    (gif,) = re.findall(r'src="([^"]+\.gif)"', html)
    assert (SLIDES / gif).resolve().is_relative_to(GIFS)
    assert "Exercise 1:" not in html
    assert "Set-up, the same in every notebook" not in html
