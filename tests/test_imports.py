"""Imports run one way: the layers that CONTRIBUTING draws, and what the package may not know."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest

from utils.config import ROOT

FILES = sorted((ROOT / "utils").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
OUTSIDE = ("data", "gifs", "notebooks", "benchmarks", "tests")
NO_TORCHVISION = """import sys
sys.modules["torchvision"] = None
import utils.samplers, utils.toy, utils.plotting, utils.animation"""


def name(path: Path) -> str:
    """`utils/models/mlp.py` -> `utils.models.mlp`, and a package's `__init__.py` -> the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path): path for path in FILES}


def imports(source: str) -> set[str]:
    """Every module that a text imports, anywhere in it: `from a import b` counts as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used here"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


GRAPH = {module: imports(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}
OURS = {module: (found & MODULES.keys()) - {"utils", module} for module, found in GRAPH.items()}


def room(module: str) -> str:
    """The file or folder of `utils/` to which a module belongs."""
    return module.split(".")[1]


def layers() -> list[list[str]]:
    """The layers in CONTRIBUTING, from the one that imports nothing upwards."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [line.split() for line in re.search(r"```text\n(.*?)\n```", text, re.S)[1].splitlines()]


def test_arrows_run_one_way():
    level = {name: i for i, names in enumerate(layers()) for name in names}
    edges = [(room(a), room(b)) for a, found in OURS.items() for b in found if a != "utils"]
    assert {room(module) for module in MODULES if module != "utils"} <= level.keys(), "a room without a layer"
    assert [f"{a} imports {b}" for a, b in edges if a != b and level[b] >= level[a]] == []
    TopologicalSorter(OURS).prepare()  # raises where modules import each other in a circle


def test_imports_are_seen():
    source = "import a.b\ndef f():\n    from c import d\nif x:\n    from e.f import (g, h)"
    assert imports(source) == {"a.b", "c", "c.d", "e.f", "e.f.g", "e.f.h"}


def test_the_package_knows_nothing_outside():
    back = {module: {x for x in found if x.split(".")[0] in OUTSIDE} for module, found in GRAPH.items()}
    assert {module: found for module, found in back.items() if found} == {}
    assert OURS["utils.samplers"] == set()  # no model, plot or data set: a sampler takes an energy


def test_samplers_toys_and_pictures_need_no_torchvision():
    subprocess.run([sys.executable, "-c", NO_TORCHVISION], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "notebooks").as_posix())
def test_notebooks_import_no_recipe_and_no_tool(path: Path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    found = set().union(*(imports(re.sub(r"^[%!].*", "", cell.source, flags=re.M)) for cell in cells))
    assert [x for x in sorted(found) if re.match(r"(data|gifs|notebooks\.tools)\b", x)] == []


def test_the_package_does_not_grow():
    # the aim is 4,500 lines: lower this with every cut
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in FILES) <= 5_381
