"""The repository keeps its shape: notebooks in their frame, small files, live links, clean lint."""

import base64
import copy
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

from notebooks.tools.sync import is_setup_cell, setup_cell, with_badge
from utils.checkpoints import sha256
from utils.config import CHECKPOINTS, GIFS, ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECTIONS = ("What you will learn", "When this fails", "What we saw", "Exercises", "References")
CARD = {"task", "data", "command", "sha256", "bytes"}
FORBIDDEN = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".zip", ".tar", ".gz", ".parquet", ".npz", ".npy")
BY_PRODUCTS = re.compile(r"/(\.\w+_cache|\.venv|\.git|\.ipynb_\w+|__pycache__|build|data/cache|data/runs)/")
MB = 1_000_000


def repository_files() -> list[Path]:
    """Files that are or may be committed: git's word, or without git all but known by-products."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        files = [ROOT / name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [path for path in ROOT.rglob("*") if not BY_PRODUCTS.search(f"/{name(path)}")]
    return [path for path in files if path.is_file()]


def name(path: Path) -> str:
    """Path relative to the repository, as the name of a test."""
    return path.relative_to(ROOT).as_posix()


# ------------------------------------------------------------------------------------------ notebooks


def texts(output: dict) -> str:
    """All plain text of one output."""
    return "".join([output.get("text", ""), output.get("data", {}).get("text/plain", "")])


def heading(title: str) -> re.Pattern:
    """Finds the section with this heading, numbered or not; group 2 is its text."""
    return re.compile(rf"^(##+) (?:[\d.]+ )?{title}[^\n]*\n?(.*?)(?=^\1 |\Z)", re.M | re.S | re.I)


def frame_faults(notebook: dict, file: str) -> list[str]:
    """What is missing of the frame that every notebook has."""
    cells = notebook["cells"]
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    markdown = "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    title = cells[0]["source"] if cells and cells[0]["cell_type"] == "markdown" else ""
    faults = []
    if not title.startswith("# "):
        faults.append("the first cell is not a title")
    if with_badge(title, file) != title:
        faults.append("the title cell's Colab badge is missing or outdated (python run.py sync)")
    places = [heading(s).search(markdown) for s in SECTIONS]
    faults += [f"no section '{s}'" for s, place in zip(SECTIONS, places, strict=True) if not place]
    found = [place.start() for place in places if place]
    if found != sorted(found):
        faults.append("sections in another order than " + ", ".join(SECTIONS))
    learn, *_, exercises, _ = (place[2] if place else "" for place in places)
    bullets = len(re.findall(r"^[-*] ", learn, re.M))
    if not 3 <= bullets <= 5:
        faults.append(f"{bullets} bullets in '{SECTIONS[0]}', not 3 to 5")
    builds = sum("### BEGIN SOLUTION" in text for text in code)  # tests/test_builds.py looks at them
    for what, number in (
        ("exercise headings", len(re.findall(r"^#{3,} ", exercises, re.M))),
        ("folded solutions (<details>)", exercises.count("<details>")),
    ):
        if number + builds < 3:
            faults.append(f"{number} {what}, with builds not at least 3")
    if sum(map(is_setup_cell, cells)) != 1 or setup_cell() not in code:
        faults.append("the set-up cell is missing or outdated (python run.py sync)")
    elif code[0] != setup_cell():
        faults.append("the set-up cell is not the first code cell")
    long = [i for i, text in enumerate(code) if text.count("\n") >= 25]
    faults += [f"code cell {i} has more than 25 lines" for i in long]
    return faults


def output_faults(notebook: dict) -> list[str]:
    """What is wrong with the stored outputs."""
    faults = ["widget state is stored"] if "widgets" in notebook["metadata"] else []
    printed = ""
    for i, cell in enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        if cell["source"].strip() and cell["execution_count"] is None:
            faults.append(f"code cell {i} has not been executed")
        for output in cell["outputs"]:
            data = output.get("data", {})
            printed += texts(output) + "\n"
            if output["output_type"] == "error":
                faults.append(f"code cell {i} stored an error: {output['ename']}")
            if any("widget" in kind for kind in data):
                faults.append(f"code cell {i} stored a widget")
            if odd := [kind for kind in data if kind.startswith("image/") and kind != "image/png"]:
                faults.append(f"code cell {i} stored {odd}, not image/png")
            size = len(base64.b64decode(data.get("image/png", "")))
            if size > 100_000:
                faults.append(f"code cell {i} has a figure of {size // 1000} kB, more than 100 kB")
            if path := re.search(r"(?:^|[\s'\"(=])((?:/[\w.-]+){3,}|[A-Z]:\\Users)", texts(output)):
                faults.append(f"code cell {i} shows a path of one machine: {path[1]}")
    if not re.search(r"budget: (demo|full)", printed):
        faults.append("outputs are not from the budget demo or full (python run.py store)")
    return faults


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook(path: Path):
    notebook = json.loads(nbformat.writes(nbformat.read(path, as_version=4), split_lines=False))
    faults = frame_faults(notebook, path.name) + output_faults(notebook)
    if path.stat().st_size > 1.5 * MB:
        faults.append(f"{path.stat().st_size / MB:.1f} MB, more than 1.5 MB")
    if not re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name):
        faults.append("name is not NN_topic.ipynb")
    assert not faults, "\n".join([name(path), *faults])


def good_notebook() -> dict:
    """The smallest notebook that keeps all rules."""
    cell, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    said = nbformat.v4.new_output("stream", text="torch 2 | budget: demo | seed: 0\n")
    figure = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(b"png").decode()})
    cells = [
        text(with_badge("# Title\n\nClaim.\n\n## What you will learn\n- a\n- b\n- c", "01_x.ipynb")),
        cell(setup_cell(), execution_count=1, outputs=[said]),
        cell("plot()", execution_count=2, outputs=[figure]),
        text("## 2. When this fails\n\n## What we saw\n\n## Exercises\n" + 3 * EXERCISE + "\n## References"),
    ]
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells), split_lines=False))


def test_checker_accepts_a_good_notebook():
    assert frame_faults(good_notebook(), "01_x.ipynb") + output_faults(good_notebook()) == []


def change(where: str, value):
    """A function that sets one entry of a notebook, given by a dotted path."""

    def apply(notebook):
        *path, last = [int(key) if key.isdigit() else key for key in where.split(".")]
        for key in path:
            notebook = notebook[key]
        notebook[last] = value

    return apply


def replace(cell: int, old: str, new: str):
    """A function that replaces text in one cell of a notebook."""

    def apply(notebook):
        assert old in notebook["cells"][cell]["source"]
        notebook["cells"][cell]["source"] = notebook["cells"][cell]["source"].replace(old, new)

    return apply


EXERCISE = "### Exercise\n\n<details><summary>Solution</summary>x</details>\n"
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
BAD = {
    "not a title": replace(0, "# Title", "Title"),
    "Colab badge is missing or outdated": replace(0, "- c", "- c\n\n[![Open in Colab](x)](y/02_y.ipynb)"),
    "no section 'When this fails'": replace(3, "When this fails", "Failing"),
    "another order": replace(3, "## What we saw", "## References"),
    "2 bullets": replace(0, "- c", ""),
    "2 exercise headings": replace(3, EXERCISE + "\n", ""),
    "0 folded solutions": replace(3, "<details>", ""),
    "missing or outdated": replace(1, "seed=0", "seed=1"),
    "more than 25 lines": change("cells.2.source", "x\n" * 25),
    "has not been executed": change("cells.2.execution_count", None),
    "stored an error: ValueError": change("cells.2.outputs.0", ERROR),
    "widget state": change("metadata.widgets", {}),
    "stored a widget": change("cells.2.outputs.0.data", {"application/vnd.jupyter.widget-view+json": {}}),
    "not image/png": change("cells.2.outputs.0.data", {"image/svg+xml": "<svg/>"}),
    "more than 100 kB": change("cells.2.outputs.0.data", {"image/png": "x" * 133_336}),
    "path of one machine": change("cells.2.outputs.0.data", {"text/plain": "saved '/opt/x/course/a.gif'"}),
    "not from the budget demo": change("cells.1.outputs.0.text", "budget: fast"),
}


@pytest.mark.parametrize("fault", BAD)
def test_checker_catches(fault: str):
    notebook = copy.deepcopy(good_notebook())
    BAD[fault](notebook)
    faults = frame_faults(notebook, "01_x.ipynb") + output_faults(notebook)
    assert any(fault in message for message in faults), faults


def test_there_are_notebooks():
    assert NOTEBOOKS


# ---------------------------------------------------------------------------------------------- links


def markdown_of(path: Path) -> str:
    """The Markdown of a page: a .md file, or the text cells of a notebook."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def links(markdown: str) -> list[str]:
    """Targets of links and images, without those inside code and mathematics."""
    for aside in (r"```.*?```", r"\$\$.*?\$\$", r"`[^`\n]*`", r"\$[^$\n]+\$"):
        markdown = re.sub(aside, "", markdown, flags=re.S)
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", markdown)
    return targets + re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']+)", markdown)


def anchors(path: Path) -> set[str]:
    """What may follow `#` in a link to a file: headings as GitHub names them, or lines of code."""
    if path.suffix not in (".md", ".ipynb"):
        return {f"L{i}" for i in range(1, 1 + path.read_bytes().count(b"\n"))}
    headings = re.findall(r"^#+ +(.+?) *$", markdown_of(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def opens(link: str, page: Path) -> bool:
    """Whether a relative link of `page` leads to a file of the repository, a place in it, a picture."""
    file, _, anchor = link.partition("#")
    path = (page.parent / file).resolve() if file else page
    if not (path.exists() and path.is_relative_to(ROOT)):
        return False
    if path.suffix in (".png", ".gif"):
        with Image.open(path) as image:
            image.load()
    return not anchor or anchor in anchors(path)


def broken_links(markdown: str, page: Path) -> list[str]:
    """Links in the text of `page` that need no network and lead nowhere, or out of the repository."""
    return [link for link in links(markdown) if not re.match(r"[a-z]+:|//", link) and not opens(link, page)]


@pytest.mark.parametrize("path", [p for p in repository_files() if p.suffix in (".md", ".ipynb")], ids=name)
def test_links_lead_somewhere(path: Path):
    assert broken_links(markdown_of(path), path) == []


def test_link_checker():
    good = "[a](run.py#L1) [c](TEACHING.md#six-weeks) [d](#notebooks) [e](http://f) $g[x](y)$ `[c](d)`"
    bad = '![b](no.png) [f](..) [g](utils/config.py#L9999) [h](TEACHING.md#seven-weeks) <img src="no.gif">'
    found = ["no.png", "..", "utils/config.py#L9999", "TEACHING.md#seven-weeks", "no.gif"]
    assert broken_links(good + bad, ROOT / "README.md") == found


@pytest.mark.parametrize("page", ["README.md", "NOTATION.md", "CONTRIBUTING.md", "LICENSE"])
def test_page_exists(page: str):
    assert (ROOT / page).exists(), f"{page} is missing"


def test_readme_table_lists_every_notebook():
    rows = re.findall(r"^\|.*", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    listed = re.findall(r"\]\((?:\./)?notebooks/([^)]+\.ipynb)\)", "\n".join(rows))
    assert sorted(set(listed)) == [path.name for path in NOTEBOOKS]


# ------------------------------------------------------------------------------------- files and sizes


def test_sizes():
    sizes = {name(path): path.stat().st_size for path in repository_files()}
    assert [file for file, size in sizes.items() if size > 10 * MB] == []
    assert sum(sizes.values()) < 60 * MB


def test_no_pickles_and_no_archives_of_data():
    assert [name(path) for path in repository_files() if path.suffix.lower() in FORBIDDEN] == []


@pytest.mark.parametrize("path", sorted(GIFS.glob("*.gif")), ids=name)
def test_gif_is_small_and_loops_forever(path: Path):
    assert path.stat().st_size <= 3 * MB
    with Image.open(path) as image:
        assert image.n_frames > 1
        assert image.info.get("loop") == 0


def test_there_are_checkpoints():
    assert list(CHECKPOINTS.glob("*.safetensors"))


@pytest.mark.parametrize("path", sorted(CHECKPOINTS.glob("*.*")), ids=name)
def test_checkpoint_and_card_belong_together(path: Path):
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert CARD <= card.keys(), f"the card lacks {CARD - card.keys()}"
    assert sha256(path.with_suffix(".safetensors")) == card["sha256"]


# ------------------------------------------------------------------------------------------ dependencies


def declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + project["optional-dependencies"]["dev"]


def test_environment_agrees_with_pyproject():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pip = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    assert sorted(line for line in pip if not line.startswith("-")) == sorted(declared())
    assert "-c requirements.lock" in pip


def test_lock_agrees_with_pyproject():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"^-|://|file:| @ ", lock, re.M), "the lock names a package index or a file"
    locked = {r.name: r for r in map(Requirement, lock.splitlines())}
    for requirement in map(Requirement, declared()):
        version = next(iter(locked[requirement.name].specifier)).version
        assert requirement.specifier.contains(version), f"{requirement}, but {version} is locked"


# ------------------------------------------------------------------------------------------------ style


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids="-".join)
def test_ruff(command: tuple[str, ...]):
    ruff = [sys.executable, "-m", "ruff", *command, "."]
    result = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
