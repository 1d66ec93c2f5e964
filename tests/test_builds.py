"""Every build of every notebook: its solved code passes, its stub goes on with the course's function."""

import ast
import contextlib
import functools
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import matplotlib
import nbformat
import pytest
from nbclient import NotebookClient

from notebooks import checks
from notebooks.checks.common import grade
from notebooks.tools.student import EXERCISES, solutions, student_code, student_version
from notebooks.tools.teaching import builds_of
from utils.config import ROOT

CALL = re.compile(r"^(\w+) = build\((?:checks\.)?(check_\w+), \1\)$", re.M)


class Build(NamedTuple):
    path: Path
    place: int  # of its cell in the notebook
    name: str
    check: str
    code: str

    @property
    def solution(self) -> str:
        """The code without its markers, up to the call of `build`."""
        return CALL.split(self.code)[0]


@functools.cache
def cells_of(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


@functools.cache
def builds() -> list[Build]:
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for i, cell in enumerate(cells_of(path)):
            if cell.cell_type == "code" and (calls := CALL.findall(cell.source)):
                found += [Build(path, i, *call, cell.source) for call in calls]
    return found


def test_markers_and_builds_belong_together():
    """A cell has both or neither, and no more solutions than it needs; `x = build(checks.check_x, x)`."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in (cell for cell in cells_of(path) if cell.cell_type == "code"):
            where = (path.name, cell.id)
            assert bool(solutions(cell.source)) == bool(CALL.search(cell.source)), where
            assert len(re.findall(r"^\w+ = build\(", cell.source, re.M)) == len(CALL.findall(cell.source)), (
                where
            )


def definitions(path: Path, end: int) -> dict:
    """What a notebook's cells before `end` import and define; nothing is computed."""
    names: dict = {"device": "cpu"}
    codes = [cell.source for cell in cells_of(path)[:end] if cell.cell_type == "code"]
    for code in codes[1:]:  # behind the set-up
        if "%" in code and re.search(r"^\s*[%!]", code, re.M):
            continue
        kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
        kept = [node for node in ast.parse(code).body if isinstance(node, kinds)]
        for node in kept:
            with contextlib.suppress(NameError):  # a default that the page computes
                exec(compile(ast.Module([node], []), path.name, "exec"), names)
    return names


each = pytest.mark.parametrize("made", builds(), ids=lambda made: f"{made.path.stem[:2]}-{made.name}")


@each
def test_text_above(made: Build):
    """The task with its points and minutes, and hints in three depths."""
    above = cells_of(made.path)[made.place - 1]
    assert above.cell_type == "markdown"
    assert builds_of(above.source, made.path.name), "**Build k: name** · P points · N min"
    hints = re.findall(r"<details>\s*<summary>Hint (\d)", above.source)
    assert hints == ["1", "2", "3"], hints


@each
def test_solution_passes_and_stub_goes_on(made: Build, capsys: pytest.CaptureFixture):
    matplotlib.use("agg")
    names = definitions(made.path, made.place)
    exec(made.code, names)
    assert f"{made.name}: right; from here on this page uses yours" in capsys.readouterr().out
    names = definitions(made.path, made.place)
    exec(student_code(made.code), names)
    said = capsys.readouterr().out
    assert "yet" in said and "the page goes on with the course's" in said
    check = getattr(checks, made.check)
    assert inspect.unwrap(names[made.name]) == check.course
    grade(check, check.course, seed=0)


@each
def test_stub_holds_what_a_student_needs(made: Build):
    """Signature and a docstring; four mistakes at least are known, which test_checks.py makes."""
    check = getattr(checks, made.check)
    table = dict(check.table(*check.inputs(checks.common.Generator().manual_seed(0))))
    assert len(table) - 1 + len(check.demands) + len(check.properties) >= 4
    functions = [
        node for node in ast.parse(made.code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assert any(ast.get_docstring(node) for node in functions)


@each
def test_the_student_version_hides_nothing_but_what_is_built(made: Build):
    """So where nothing is built, the page is the solved one with the course's functions in these places."""
    built = {name for name, _ in CALL.findall(made.code)}
    for begin, end in solutions(made.code):
        (owner,) = [
            n for n in ast.parse(made.code).body if n.lineno <= begin + 1 and end + 1 <= n.end_lineno + 1
        ]
        assert isinstance(owner, ast.FunctionDef | ast.ClassDef) and owner.name in built


PAGES = sorted({made.path for made in builds()})
QUICK = ("05",)
RUNS = [page if page.stem[:2] in QUICK else pytest.param(page, marks=pytest.mark.long) for page in PAGES]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_run_all_of_the_student_version_never_stops(path: Path, monkeypatch: pytest.MonkeyPatch):
    """As it is handed out, in the smallest budget: nothing is built, the page goes on with the course's."""
    monkeypatch.setenv("COURSE_BUDGET", "fast")
    notebook = student_version(nbformat.read(path, as_version=4), path.name)
    place = {"metadata": {"path": str(EXERCISES)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
    client.comm_open_handlers = {"jupyter.widget": lambda message: None}  # as in notebooks/tools/execute.py
    client.execute()
    printed = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", ()))
    assert printed.count("the page goes on with the course's") == len([b for b in builds() if b.path == path])
