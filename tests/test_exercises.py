"""Every exercise of every notebook: the stub is gentle, the folded solution passes its own check."""

import re
from pathlib import Path

import matplotlib
import nbformat
import pytest

from utils.config import ROOT

SOLUTION = re.compile(r"<details>\s*<summary>[^<]*</summary>(.*?)</details>", re.S)
CODE = re.compile(r"```python\n(.*?)```", re.S)
CHECK = re.compile(r"^checks\.check_\w+\(.*\)$")


def exercises() -> list[tuple[Path, int]]:
    """Each stub cell, by notebook and cell number: a cell whose last line calls a check."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for i, cell in enumerate(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "code" and CHECK.match(cell.source.rstrip().splitlines()[-1]):
                found.append((path, i))
    return found


@pytest.fixture(autouse=True)
def no_windows():
    matplotlib.use("agg")


@pytest.mark.parametrize(("path", "i"), exercises(), ids=lambda x: x.stem if isinstance(x, Path) else str(x))
def test_stub_is_gentle_and_solution_passes(path: Path, i: int, capsys: pytest.CaptureFixture):
    cells = nbformat.read(path, as_version=4).cells
    imports = [cell.source for cell in cells if cell.cell_type == "code"][1]  # the cell after the set-up
    names: dict = {"device": "cpu"}
    exec(imports, names)
    stub = cells[i].source.rstrip()
    exec(stub, names)
    assert "nothing returned yet" in capsys.readouterr().out
    after = "\n".join(cell.source for cell in cells[i + 1 : i + 2] if cell.cell_type == "markdown")
    folded = SOLUTION.search(after)
    assert folded, "no folded solution right after the stub"
    code = CODE.search(folded[1])
    assert code, "the folded solution has no ```python block"
    exec(code[1], names)
    exec(stub.splitlines()[-1], names)
    assert "nothing returned yet" not in capsys.readouterr().out
