"""Write the student versions of all notebooks and TEACHING.md's table of exercises: `python run.py student`.

The solved notebooks in `notebooks/` are the only source; what is made goes to `notebooks/exercises/` under
the same name. There

- lines of code between `### BEGIN SOLUTION` and `### END SOLUTION` become a stub that returns None,
- `<details>` whose summary begins with "Solution" are gone; hints, proofs and answers stay,
- a paragraph that begins with `*What to see`, with a list right behind it, is folded,
- outputs are cleared.

`--no-solutions FOLDER` writes a release to hand out: the repository with the student versions in place of the
solved notebooks, without tests. The checks stay, and with them the right values in `notebooks/checks/`.
"""

import argparse
import ast
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import nbformat

from notebooks.tools.sync import NOTEBOOKS, with_badge
from notebooks.tools.teaching import PAGE, with_table
from utils.config import ROOT

EXERCISES = NOTEBOOKS / "exercises"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
YOURS = "# your code"
FOLD = re.compile(r"(<details\b[^>]*>.*?</details>)", re.S | re.I)
SOLUTION = re.compile(
    r"[ \t]*<details\b[^>]*>\s*<summary\b[^>]*>\s*(?:<\w+>\s*)?Solution\b.*?</details>[ \t]*\n?", re.S | re.I
)
SEEN = re.compile(  # a paragraph, and the paragraphs of a list behind it
    r"^\*{1,2}What to see[.:]?\*{1,2}[.:,]?[ \n]*(.*?(?:\n[ \t]*\n(?:[-*] |\d+\. ).*?)*)(?=\n[ \t]*\n|\Z)",
    re.S | re.M,
)
UNSEEN = r"<details><summary>What to see: say it yourself first</summary>\n\n\1\n\n</details>"
RELATIVE = re.compile(r"(\]\(\s*<?|(?:src|href)\s*=\s*[\"'])(?=\.\./)")
NOTICE = (
    "**Student version**, without solutions; the solved notebook, with all outputs, is [{name}](../{name}). "
    "This file is made from that one by `python run.py student`."
)
NOTICE_ALONE = "**Student version**, without solutions: the checks say what is wrong with an answer."


def student_text(text: str, deeper: bool = True) -> str:
    """A text cell without solutions, with folds, its relative links seen from one folder deeper."""
    parts = FOLD.split(re.sub(r"\n{3,}", "\n\n", SOLUTION.sub("", text)).strip("\n"))
    parts[::2] = [SEEN.sub(UNSEEN, part) for part in parts[::2]]  # every other part is a fold already
    return RELATIVE.sub(r"\1../", "".join(parts)) if deeper else "".join(parts)


def solutions(code: str) -> list[tuple[int, int]]:
    """Where the marked solutions of a code cell stand: numbers, from 0, of the lines with their markers.

    Raises:
        ValueError: a marker has no partner, or nothing stands between the two.
    """
    marks = [(i, line.strip()) for i, line in enumerate(code.splitlines()) if "SOLUTION" in line]
    places = [i for i, _ in marks]
    pairs = list(zip(places[::2], places[1::2], strict=False))
    if [mark for _, mark in marks] != [BEGIN, END] * len(pairs) or any(b - a < 2 for a, b in pairs):
        raise ValueError(f"solution lines stand between {BEGIN} and {END}, each alone on a line:\n{code}")
    return pairs


def stub(code: str, begin: int, end: int) -> str:
    """What stands for the lines `begin` to `end` of a code cell, so that the cell still runs.

    In a function that is `return None`, in a class `...`; on the page itself what is assigned becomes None.
    """
    tree = ast.parse(code)
    scopes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno <= begin < node.end_lineno
    ]
    scope = max(scopes, key=lambda node: node.lineno, default=tree)
    if isinstance(scope, ast.FunctionDef):
        return f"return None  {YOURS}"
    made = []
    for node in (node for node in scope.body if scope is tree and begin < node.lineno - 1 < end):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.append(node.name)
        else:
            names = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
            made += [name.id for name in names if isinstance(name.ctx, ast.Store)]
    return " = ".join([*dict.fromkeys(made), "None"]) + f"  {YOURS}" if made else f"...  {YOURS}"


def student_code(code: str) -> str:
    """A code cell with a stub in place of each marked solution."""
    lines = code.splitlines()
    for begin, end in reversed(solutions(code)):
        indent = lines[begin][: -len(lines[begin].lstrip())]
        lines[begin : end + 1] = [indent + stub(code, begin, end)]
    return "\n".join(lines) if len(lines) != len(code.splitlines()) else code


def student_version(notebook: nbformat.NotebookNode, name: str, alone: bool = False) -> nbformat.NotebookNode:
    """The student version of the solved `notebook` whose file is called `name`; `alone` in its place.

    Raises:
        ValueError: a `<details>` or a marker has no partner, so that a solution could stay.
    """
    cells = []
    for cell in notebook.cells:
        cell = nbformat.from_dict(cell)  # a copy
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = student_code(cell.source)
        else:
            tags = re.findall(r"</?(?:details|summary)\b", cell.source.lower())
            fold = ["<details", "<summary", "</summary", "</details"]
            if tags != fold * (len(tags) // 4):
                raise ValueError(f"{name}: a fold is not closed, or in another; write <details><summary>...")
            cell.source = student_text(cell.source, deeper=not alone)
        if cell.source:
            cells.append(cell)
    notice, place = (NOTICE_ALONE, name) if alone else (NOTICE.format(name=name), f"exercises/{name}")
    title, rest = with_badge(cells[0].source, place).split("\n", 1)
    cells[0].source = f"{title}\n\n{notice}\n{rest}"
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def student_files() -> dict[Path, str]:
    """What `notebooks/exercises/` and TEACHING.md should hold: the text of each file."""
    made = {PAGE: with_table(PAGE.read_text(encoding="utf-8"))}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        version = student_version(nbformat.read(path, as_version=4), path.name)
        made[EXERCISES / path.name] = nbformat.writes(version) + "\n"
    return made


def release(folder: Path) -> None:
    """Write the repository without solutions into `folder`.

    Raises:
        FileExistsError: the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listing = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    for file in map(Path, filter(None, listing)):
        source, target = ROOT / file, folder / file
        if file.parts[0] == "tests" or EXERCISES in source.parents or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.parent == NOTEBOOKS and file.suffix == ".ipynb":
            version = student_version(nbformat.read(source, as_version=4), file.name, alone=True)
            nbformat.write(version, target)
        elif file.suffix == ".md":
            text = source.read_text(encoding="utf-8").replace("notebooks/exercises/", "notebooks/")
            target.write_text(text, encoding="utf-8")
        else:
            shutil.copy(source, target)


def main(arguments: Sequence[str] | None = None) -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--no-solutions", type=Path, metavar="FOLDER", help="write a release there instead")
    args = parser.parse_args(arguments)
    if args.no_solutions:
        release(args.no_solutions)
        print(
            f"{args.no_solutions}: the course without solutions; notebooks/checks/ still holds right values"
        )
        return
    files = student_files()
    EXERCISES.mkdir(exist_ok=True)
    changed = []
    for path in sorted(set(EXERCISES.glob("*.ipynb")) - set(files)):  # its solved notebook has gone
        path.unlink()
        changed.append(path.name)
    for path, text in files.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path.name)
    print("changed:", ", ".join(changed) or "nothing")


if __name__ == "__main__":
    main()
