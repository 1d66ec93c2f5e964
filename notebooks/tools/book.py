"""Build the series as a static site that works without a network: `python run.py book`.

Sphinx with MyST-NB reads the notebooks with their stored outputs (nothing is executed); the site goes to
`build/book`, open its index.html. MathJax and its fonts are copied into the site, search needs no server.
The tools belong to the extra `dev`, which `run.py` and `environment.yml` install.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

from notebooks.tools.sync import NOTEBOOKS, is_setup_cell, repository
from utils.setup import ROOT

BOOK = ROOT / "build" / "book"
SOURCE = ROOT / "build" / "book-source"
PAGES = ("README.md", "NOTATION.md", "TEACHING.md", "CONTRIBUTING.md")
TOOLS = ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline")
FILE_LINK = re.compile(r"\[([^\[\]]*)\]\((?![a-z]+:|#)(?:\.\./)*([^)\s#]+)\)")
COLAB = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]")
IMAGES = (".gif", ".png")

CONFIGURATION = r"""
project = html_title = "GANs as energy-based models"
author = copyright = "the authors of the course"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
root_doc = "index"
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_dmath_double_inline = True
myst_dmath_allow_labels = False
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # no widget is stored, and the default is loaded from the network
html_theme = "furo"
html_copy_source = False
html_show_search_summary = False  # it would need a server
html_permalinks_icon = "#"
html_static_path = ["static"]
html_css_files = ["width.css"]
mathjax3_config = {"options": {"enableMenu": False}}
"""
# A line of code has up to 110 characters: widen the text where both side bars leave room for it.
STYLE = """\
@media (min-width: 88em), (min-width: 74em) and (max-width: 82em) {
  .content { width: 54em; padding: 0 2em; }
  .sidebar-drawer { width: calc(50% - 32em); }
  body { --code-font-size: 78%; }
}
"""


def missing_tools() -> list[str]:
    """The tools of the book that are not installed."""
    return [name for name in TOOLS if importlib.util.find_spec(name) is None]


def link_for_book(match: re.Match) -> str:
    """A relative link as it is in the book, if the book holds its target, else one to the repository.

    Without an address of the repository only the text is left. Code like `f[x](y)` is no link.
    """
    text, path = match.groups()
    if (path.endswith((".ipynb", *IMAGES)) and "exercises/" not in path) or Path(path).name in PAGES:
        return match[0].replace("README.md", "index.md")
    if not (ROOT / path).exists():
        return match[0]
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"[{text}]({repository()}/{kind}/main/{path})" if repository() else text


def for_book(text: str) -> str:
    """Markdown of a page with links that work in the book."""
    return FILE_LINK.sub(link_for_book, text)


def notebook_for_book(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of `notebook`: the badge's image, which lies elsewhere, as text; the set-up cell folded."""
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = for_book(COLAB.sub("[Open in Colab]", cell.source))
        elif is_setup_cell(cell):
            cell.metadata["tags"] = ["hide-input"]
    return notebook


def table_of_contents(notebooks: list[Path]) -> str:
    """Sphinx's list of pages, in order, for the side bar."""
    chapters = "\n".join(f"notebooks/{path.stem}" for path in notebooks)
    pages = "\n".join(Path(page).stem for page in PAGES[1:])
    block = "```{{toctree}}\n:hidden:\n:caption: {}\n\n{}\n```"
    return f"\n\n{block.format('Notebooks', chapters)}\n\n{block.format('Pages', pages)}\n"


def write_source() -> None:
    """Put what Sphinx reads into `build/book-source`."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    (SOURCE / "notebooks").mkdir(parents=True)
    shutil.copytree(ROOT / "gifs", SOURCE / "gifs")
    (SOURCE / "conf.py").write_text(CONFIGURATION, encoding="utf-8")
    (SOURCE / "static").mkdir()
    (SOURCE / "static" / "width.css").write_text(STYLE, encoding="utf-8")
    notebooks = sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in notebooks:
        nbformat.write(notebook_for_book(nbformat.read(path, as_version=4)), SOURCE / "notebooks" / path.name)
    for page in PAGES:
        text = for_book((ROOT / page).read_text(encoding="utf-8"))
        name, end = ("index.md", table_of_contents(notebooks)) if page == "README.md" else (page, "")
        (SOURCE / name).write_text(text + end, encoding="utf-8")


def build() -> Path:
    """Build the site and return its first page.

    Raises:
        ModuleNotFoundError: a tool is not installed.
        subprocess.CalledProcessError: Sphinx found a fault (warnings count, a lost link is one).
    """
    if missing := missing_tools():
        raise ModuleNotFoundError(f"{', '.join(missing)} missing: python -m pip install -e '.[dev]'")
    write_source()
    shutil.rmtree(BOOK, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-b", "html"]
    subprocess.run([*command, "-d", str(SOURCE / ".doctrees"), str(SOURCE), str(BOOK)], check=True)
    return BOOK / "index.html"


def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    try:
        print(build())
    except (ModuleNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
