"""Every exercise of every notebook: the stub is gentle, the folded solution passes its own check."""

import functools
import re
from pathlib import Path

import matplotlib
import nbformat
import pytest

from utils.config import ROOT

SOLUTION = re.compile(r"<details>\s*<summary>[^<]*</summary>(.*?)</details>", re.S)
CODE = re.compile(r"```python\n(.*?)```", re.S)
CHECK = re.compile(r"^checks\.check_\w+\(.*\)$")


@functools.cache
def cells_of(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


@functools.cache
def exercises() -> list[tuple[Path, nbformat.NotebookNode]]:
    """Each stub cell with its notebook: a cell whose last line calls a check."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in cells_of(path):
            if cell.cell_type == "code" and CHECK.match(cell.source.rstrip().splitlines()[-1]):
                found.append((path, cell))
    return found


def solution(path: Path, stub: nbformat.NotebookNode) -> str:
    """The code of the solution that is folded right after a stub."""
    cells = cells_of(path)
    after = cells[[cell.source for cell in cells].index(stub.source) + 1]
    folded = SOLUTION.search(after.source)
    assert after.cell_type == "markdown" and folded, "no folded solution right after the stub"
    code = CODE.search(folded[1])
    assert code, "the folded solution has no ```python block"
    return code[1]


@pytest.fixture(autouse=True)
def no_windows():
    matplotlib.use("agg")


@pytest.mark.parametrize(("path", "cell"), exercises(), ids=lambda x: x.stem if isinstance(x, Path) else x.id)
def test_stub_is_gentle_and_solution_passes(path, cell, capsys: pytest.CaptureFixture):
    codes = [cell.source for cell in cells_of(path) if cell.cell_type == "code"]
    names: dict = {"device": "cpu"}
    exec(codes[1], names)  # the imports, after the set-up
    stub = cell.source.rstrip()
    exec(stub, names)
    assert "nothing returned yet" in capsys.readouterr().out
    exec(solution(path, cell), names)
    exec(stub.splitlines()[-1], names)
    assert capsys.readouterr().out.rstrip().endswith("right.")
