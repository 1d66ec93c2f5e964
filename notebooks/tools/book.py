"""Build the series as a static site that works without a network: `python run.py book`.

Sphinx with MyST-NB reads the notebooks with their stored outputs (nothing is executed); the site goes to
`build/book`, open its index.html. MathJax and its fonts are copied into the site, search needs no server; the
playground is a page of it. Code that is not the lesson is folded; a cell tagged `show-code` never is.
The tools belong to the extra `dev`, which `run.py` and `environment.yml` install.
"""

import argparse
import contextlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup

from notebooks.tools import playground
from notebooks.tools.dark import dark_figure
from notebooks.tools.slides import has_figure
from notebooks.tools.sync import NOTEBOOKS, is_setup_cell, repository
from utils.setup import ROOT

HERE = Path(__file__).parent
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
html_css_files = ["book.css"]
html_js_files = ["book.js"]
templates_path = ["templates"]
html_sidebars = {"**": ["sidebar/brand.html", "sidebar/search.html", "sidebar/scroll-start.html",
                        "playground.html", "sidebar/navigation.html", "sidebar/scroll-end.html"]}
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
mathjax3_config = {"options": {"enableMenu": False}}
"""
# Tools for the eye: what the pages wear, and what they do by themselves; `texts.js` is made from the pages.
STATIC = ("book.css", "book.js")
# On the side bar of every page.
SIDEBAR = """\
<p class="playground"><a class="reference" href="{{ pathto('playground.html', 1) }}">Playground</a><br>
samplers that run while you look</p>
"""
# Where a notebook opens the playground: its number -> (settings, what they show); the first stand in a frame
# where Jupyter has sliders.
LINKS = {
    "00": (("", "chains mend a generator"), ("d=none", "without a log ratio nothing gets better"),
           ("d=raw", "the logit as training left it")),
    "04": (("tab=valleys&we=0.02", "a small step: ULA, MALA and HMC on two valleys"),
           ("tab=valleys&we=0.5", "the same with a step that is far too large")),
    "06": (("d=exact&s=mala", "a log ratio that is nearly right"), ("d=none", "none: the prior"),
           ("d=exact&e=0.1", "ULA with a step that is too large")),
    "07": (("", "refitted"), ("d=raw", "the raw logit"), ("d=calibrated", "calibrated"),
           ("d=exact&s=mala", "nearly exact"), ("e=0.1", "ULA, too large a step"),
           ("s=mala&e=0.1", "MALA, the same step")),
    "08": (("t=swiss-roll&s=mala", "the trench, by MALA"),
           ("t=swiss-roll&s=mala&e=0.03", "the same with a step that is too large")),
}  # fmt: skip
SLIDERS = (
    "Sliders change the picture below once this cell has been run."  # what `utils.widgets.explore` prints
)
NAMES = (
    "le ge ne ll sim approx propto equiv in to leftarrow mapsto cdot times pm nabla partial int sum prod sqrt"
)
NAMES += " infty mid lVert rVert Vert lvert rvert lambda dots cdots prime top square"
SIGNS = dict(zip(NAMES.split(), "≤≥≠≪~≈∝≡∈→←↦·×±∇∂∫∑∏√∞|‖‖‖||λ……′ᵀ□", strict=True))  # of TeX, in snippets
WORDS = ("log", "exp", "max", "min", "sup", "inf", "det", "sin", "cos", "sinh", "tanh", "Pr")
FIGURE = re.compile(r'<img (?=[^>]*src="\.\./(_images/[^"]+)\.png")[^>]*>')  # in a built page of a notebook
LONG = 10  # lines of code from which a cell is folded
OPEN = re.compile(r"= build\(|### BEGIN SOLUTION|# your code")  # the lesson itself, never folded
WRITTEN = {  # by the code of a figure: what kind of text -> where it stands
    "": re.compile(r"""(?:set_title\(|suptitle\(|[^\w]title=)\s*[rf]*"([^"]+)"""),
    "axes": re.compile(r"""(?:set_[xy]label\(|[^\w][xy]label=)\s*[rf]*"([^"]+)"""),
    "marks": re.compile(r"""[^\w]label=\s*[rf]*"([^"]+)"""),
}


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


def playground_links(number: str) -> str:
    """The line "Open in the playground" of the notebook with this number; empty where nothing is shown."""
    links = [f'<a href="../playground.html#{at}">{says}</a>' for at, says in LINKS.get(number, ())]
    return f'<p class="playground"><b>In the playground:</b> {" · ".join(links)}</p>' if links else ""


def is_folded(cell: nbformat.NotebookNode) -> bool:
    """Whether a code cell lies behind "Show the code": the set-up, figures, what is long; no build."""
    kept = "show-code" in cell.metadata.get("tags", []) or OPEN.search(cell.source)
    long = cell.source.count("\n") + 1 >= LONG
    return is_setup_cell(cell) or ((long or has_figure(cell)) and not kept)


def alternative(heading: str, source: str) -> str:
    """A figure in words: its section's heading, and what its code writes on it; "…" stands for a variable."""

    def words(text: str) -> str:
        text = re.sub(r"\$([^$]*)\$", lambda match: plain(match[1]), text.replace(r"\n", " "))
        return " ".join(re.sub(r"\{[^}]*\}", "…", text).split()).strip(" :,☆")

    said = []
    for kind, where in WRITTEN.items():
        found = [words(text) for text in where.findall(source)]
        if found := [text for text in dict.fromkeys(found) if re.search(r"\w", text)]:
            said.append(f"{kind} {', '.join(found)}".strip())
    return f"Figure, {words(heading)}" + (f": {'; '.join(said)}" if said else "")


def without_sliders(cell: nbformat.NotebookNode, links: str) -> nbformat.NotebookNode | None:
    """Take the sentence about sliders from a cell's outputs; what the book says in its place, else None."""
    kept = [output for output in cell.outputs if SLIDERS not in output.get("text", "")]
    if len(kept) == len(cell.outputs):
        return None
    cell.outputs = kept
    note = "Run in Jupyter (`python run.py lab`), this picture has sliders."
    if not links:
        return nbformat.v4.new_markdown_cell(note)
    at = re.search(r"playground\.html(#[^\"]*)", links)[1]
    frame = f'<iframe class="playground" name="framed" title="Playground" src="../playground.html{at}"'
    text = f'{note} Here the playground runs in their place.\n\n{frame} loading="lazy"></iframe>\n\n{links}'
    return nbformat.v4.new_markdown_cell(text)


def notebook_for_book(notebook: nbformat.NotebookNode, number: str = "") -> nbformat.NotebookNode:
    """A copy of `notebook` for the book.

    The badge's image, which lies elsewhere, is text; code that is not the lesson is folded; figures say what
    they show; links open the playground below the title, at the end, and where Jupyter has sliders.
    """
    notebook, links, heading, cells = nbformat.from_dict(notebook), playground_links(number), "", []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)", cell.source, re.M) or [heading])[-1]
            cell.source = for_book(COLAB.sub("[Open in Colab]", cell.source))
        elif cell.cell_type == "code":
            cell.metadata["mystnb"] = {"image": {"alt": alternative(heading, cell.source)}}
            if is_folded(cell):
                cell.metadata["tags"] = ["hide-input"]
            if note := without_sliders(cell, links):
                cells.append(note)
    if links:
        cells[1:1] = [nbformat.v4.new_markdown_cell(links)]
        cells.append(nbformat.v4.new_markdown_cell(links))
    notebook.cells = cells
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
    for folder in ("static", "templates"):
        (SOURCE / folder).mkdir()
    for name in STATIC:
        shutil.copy(HERE / name, SOURCE / "static")
    (SOURCE / "templates" / "playground.html").write_text(SIDEBAR, encoding="utf-8")
    notebooks = sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in notebooks:
        notebook = notebook_for_book(nbformat.read(path, as_version=4), path.stem[:2])
        nbformat.write(notebook, SOURCE / "notebooks" / path.name)
    for page in PAGES:
        text = for_book((ROOT / page).read_text(encoding="utf-8"))
        name, end = ("index.md", table_of_contents(notebooks)) if page == "README.md" else (page, "")
        (SOURCE / name).write_text(text + end, encoding="utf-8")


def plain(formula: str) -> str:
    """A formula of TeX in a line of text, as far as that goes, for the search's snippets."""

    def sign(match: re.Match) -> str:
        letter = match[1].removeprefix("var")
        size = "CAPITAL" if letter[:1].isupper() else "SMALL"
        with contextlib.suppress(KeyError):
            return SIGNS.get(match[1]) or unicodedata.lookup(f"GREEK {size} LETTER {letter}")
        return f" {match[1]} " if match[1] in WORDS else " "

    formula = re.sub(r"\\(begin|end|tag)\{[^}]*\}", " ", formula)
    formula = re.sub(r"([_^])\{([^{}]*)\}", r"\1\2", formula)
    formula = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"(\1)/(\2)", formula)
    formula = re.sub(r"\\([A-Za-z]+)", sign, formula.replace(r"\|", "‖"))
    return re.sub(r"[{}]", "", re.sub(r"\\.|[&$]", " ", formula))


def texts(page: Path) -> list[tuple[str, str, str]]:
    """(anchor, heading, text without code) of every section of a built page, for the search's snippets."""
    article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find("article")
    found = []
    for part in article.select("pre, script, a.headerlink, details.hide > summary") if article else []:
        part.decompose()
    for formula in article.select(".math") if article else []:
        formula.string = plain(formula.get_text())
    for section in reversed(article.find_all("section", id=True) if article else []):  # inner ones first
        title = section.find(re.compile("^h[1-6]$"))
        heading = title.extract().get_text() if title else ""
        found.insert(0, (section["id"], heading, " ".join(section.extract().get_text(" ").split())))
    return found


def add_dark_figures() -> None:
    """Give the figures of the built notebooks a twin for the dark theme; one without a twin stays a card."""
    made = {}

    def with_twin(match: re.Match) -> str:
        tag, name = match[0], match[1]
        if name not in made:
            made[name] = dark_figure((BOOK / f"{name}.png").read_bytes())
        if made[name] is None:
            return tag
        (BOOK / f"{name}.dark.png").write_bytes(made[name])
        light, dark = (tag.replace("<img ", f'<img class="only-{theme}" ', 1) for theme in ("light", "dark"))
        return light + dark.replace(f"{name}.png", f"{name}.dark.png")

    for page in sorted((BOOK / "notebooks").glob("*.html")):
        page.write_text(FIGURE.sub(with_twin, page.read_text(encoding="utf-8")), encoding="utf-8")


def build() -> Path:
    """Build the site, the playground in it, and return its first page.

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
    add_dark_figures()
    pages = {path.relative_to(BOOK).as_posix(): texts(path) for path in sorted(BOOK.rglob("*.html"))}
    data = json.dumps(pages, ensure_ascii=False)
    (BOOK / "_static" / "texts.js").write_text(f"const BOOK_TEXTS = {data};\n", encoding="utf-8")
    playground.main(["--output", str(BOOK / "playground.html")])
    return BOOK / "index.html"


def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    try:
        print(build())
    except (ModuleNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
