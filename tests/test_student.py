"""Student versions: made from the notebooks of today, without a solution, and they run up to the stubs."""

import re
from pathlib import Path

import matplotlib
import nbformat
import pytest

from notebooks.tools.student import (
    BEGIN,
    END,
    EXERCISES,
    student_code,
    student_files,
    student_text,
    student_version,
)
from notebooks.tools.sync import NOTEBOOKS, setup_cell, with_badge
from notebooks.tools.teaching import PAGE
from utils.config import ROOT

SOLVED = sorted(NOTEBOOKS.glob("*.ipynb"))
STUB = re.compile(r"^checks\.check_\w+\(.*\)$")


def sources(path: Path, kind: str) -> list[str]:
    """Sources of a notebook's cells of one kind, `code` or `markdown`."""
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def stubs(path: Path) -> list[str]:
    """The cells to be filled in: each ends with its check."""
    return [text for text in sources(path, "code") if STUB.match(text.rstrip().splitlines()[-1])]


def test_student_versions_are_current():
    wanted = student_files()
    stored = {path: path.read_text(encoding="utf-8") for path in [*EXERCISES.glob("*.ipynb"), PAGE]}
    stale = [path.name for path in stored.keys() | wanted.keys() if stored.get(path) != wanted.get(path)]
    assert not stale, f"python run.py student ({', '.join(sorted(stale))})"


@pytest.mark.parametrize("solved", SOLVED, ids=lambda path: path.stem)
def test_no_solution_leaks(solved: Path):
    """The solutions are read here line by line, not by the pattern that removes them."""
    hidden, shown = set(), set()
    for kind in "markdown", "code":
        inside = False
        for line in "\n".join(sources(solved, kind)).splitlines():
            inside = inside or bool(re.search("<summary>(<b>)?Solution", line)) or line.strip() == BEGIN
            (hidden if inside else shown).add(line.strip())
            inside = inside and "</details>" not in line and line.strip() != END
    student = nbformat.read(EXERCISES / solved.name, as_version=4).cells
    lines = {line.strip() for cell in student for line in cell.source.splitlines()} - {"</details>"}
    assert len(hidden - shown) >= 3, "no solutions found"
    assert not lines & (hidden - shown)
    assert not [line for line in lines if re.search(r"<summary>\W*Solution|SOLUTION", line)]
    assert stubs(EXERCISES / solved.name) == stubs(solved)


@pytest.mark.parametrize("solved", SOLVED, ids=lambda path: path.stem)
def test_first_cells(solved: Path):
    student = EXERCISES / solved.name
    title = sources(student, "markdown")[0]
    assert f"](../{solved.name})" in title
    assert with_badge(title, f"exercises/{solved.name}") == title
    assert sources(student, "code")[0] == setup_cell()


@pytest.mark.parametrize("solved", SOLVED, ids=lambda path: path.stem)
def test_student_version_runs_and_its_stubs_are_gentle(solved: Path, capsys, monkeypatch):
    """Set-up cell, import cell and every stub; the cells between are those of the solved notebook."""
    matplotlib.use("agg")
    student = EXERCISES / solved.name
    assert sources(student, "code") == [student_code(text) for text in sources(solved, "code")]
    monkeypatch.chdir(student.parent)
    names: dict = {}
    for text in sources(student, "code")[:2]:  # set-up and imports
        exec(text, names)
    assert Path(names["root"]) == ROOT
    for stub in stubs(student):
        capsys.readouterr()
        exec(stub, names)
        assert "nothing returned yet" in capsys.readouterr().out, stub


def test_student_text():
    fold = "<details open>\n<summary>Solution</summary>\n\n1\n</details>"
    text = f"### Exercise\n\n{fold}\n\n### Next\n![](../gifs/a.gif)"
    assert student_text(text) == "### Exercise\n\n### Next\n![](../../gifs/a.gif)"


def test_hints_stay_and_what_is_to_be_seen_is_folded():
    hint = "<details><summary>Hint 1</summary>\n\n*What to see:* no.\n</details>"
    text = student_text(f"*What to see:* one\ntwo.\n\n- three\n\n- four\n\nFive.\n\n{hint}")
    fold = "<details><summary>What to see: say it yourself first</summary>"
    assert text == f"{fold}\n\none\ntwo.\n\n- three\n\n- four\n\n</details>\n\nFive.\n\n{hint}"


@pytest.mark.parametrize(
    "text", ["<details><summary>Solution</summary>\n\n42", "<details><summary>A</summary><details></details>"]
)
def test_an_open_fold_is_refused(text):
    cells = [nbformat.v4.new_markdown_cell("# T\n\n" + text)]
    with pytest.raises(ValueError, match="not closed"):
        student_version(nbformat.v4.new_notebook(cells=cells), "01_x.ipynb")


def marked(code: str) -> str:
    return code.replace("<<", BEGIN).replace(">>", END)


@pytest.mark.parametrize(
    ("solved", "student"),
    [
        ("def f(x):\n    <<\n    return x\n    >>\n\nf(1)", "def f(x):\n    return None\n\nf(1)"),
        (
            "def f(x):\n    for i in x:\n        <<\n        y = i\n        >>\n    return y",
            "def f(x):\n    for i in x:\n        return None\n    return y",
        ),
        (
            "class A:\n    <<\n    def f(self):\n        return 1\n    >>\n\n    def g(self):\n"
            "        <<\n        return 2\n        >>",
            "class A:\n    ...\n\n    def g(self):\n        return None",
        ),
        ("<<\na, b = 1, 2\ndef g(): c = 3\n>>\nprint(a)", "a = b = g = None\nprint(a)"),
        ("<<\nprint(1)\n>>", "..."),
        ("x = 1\n", "x = 1\n"),
    ],
)
def test_solution_lines_become_stubs(solved, student):
    made = student_code(marked(solved))
    compile(made, "cell", "exec")
    assert made.replace("  # your code", "") == student


@pytest.mark.parametrize("code", ["<<\nx", "<<\n>>", ">>\nx\n<<", "<<\nx\n<<\ny\n>>", "# << x\ny\n>>"])
def test_markers_without_a_partner_are_refused(code):
    with pytest.raises(ValueError, match="BEGIN SOLUTION"):
        student_code(marked(code))
