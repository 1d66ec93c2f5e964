"""Grade a folder of student notebooks: `python run.py autograde FOLDER`.

Every notebook below FOLDER whose file name ends like one of the course's, as `anna/01_gan_basics.ipynb` and
`anna_01_gan_basics.ipynb`, is graded by the course's own checks, on fresh inputs, in a process of its own and
with a time limit. Only imports, constants, functions and classes of a page are executed, in order; training
runs and figures are not, so a notebook takes seconds. As on the page, what comes later uses the function of
the student where it is right, and the course's where it is not.

Discussions have no check; their points are listed as open. What students have written runs with your rights.
"""

import argparse
import ast
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat

from notebooks.tools.sync import NOTEBOOKS, is_setup_cell
from notebooks.tools.teaching import Exercise, builds_of, exercises_of
from utils.setup import ROOT

CALL = re.compile(
    r"^(?:(?P<build>\w+) = build\((?:checks\.)?|checks\.)(?P<check>check_\w+)[(,]\s*(?P<name>\w+)", re.M
)


class Task(NamedTuple):
    """A build or exercise of a page, its check, and the name of the answer; both empty for a discussion."""

    exercise: Exercise
    check: str
    name: str


def tasks_of(path: Path) -> list[Task]:
    """The builds and exercises of a solved notebook, in order."""
    found, open_ = [], []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            found += [Task(e, "", "") for e in open_]
            open_ = builds_of(cell.source, path.name) + exercises_of(cell.source, path.name)
        elif open_ and (call := CALL.search(cell.source)):
            found.append(Task(open_.pop(), call["check"], call["name"]))
    return found + [Task(e, "", "") for e in open_]


def harmless(node: ast.stmt) -> bool:
    """Whether a statement only names something: an import, a function, a class, a constant."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        try:
            return isinstance(node.value, ast.Lambda) or ast.literal_eval(node.value) is not Ellipsis
        except (ValueError, TypeError):
            return False
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def verdicts(student: Path, solved: Path) -> dict[str, str]:
    """For each check of the notebook `solved`: "right", or what is wrong with the answer in `student`."""
    from notebooks import checks
    from notebooks.checks.common import NotYet, grade

    asked = {task.name: task.check for task in tasks_of(solved) if task.check}
    said = {check: f"{name} is not defined on this page" for name, check in asked.items()}
    names: dict = {"__name__": "__student__", "device": "cpu"}
    for cell in nbformat.read(student, as_version=4).cells:
        if cell.cell_type != "code" or is_setup_cell(cell):
            continue
        code = re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.M)  # magics
        defined = [name for name in asked if re.search(rf"^(def|class) {name}\b|^{name}\s*=", code, re.M)]
        try:
            body = ast.parse(code).body
        except SyntaxError as error:
            said |= {asked[name]: f"the cell cannot be read: {error}" for name in defined}
            continue
        for node in filter(harmless, body):
            try:
                exec(compile(ast.Module([node], []), student.name, "exec"), names)
            except Exception as error:
                said |= {asked[name]: f"the cell stops with {error!r}" for name in defined}
        for name in (name for name in defined if name in names):
            check = getattr(checks, asked[name])
            try:
                grade(check, names[name])
                said[asked[name]] = "right"
            except NotYet as problem:
                said[asked[name]] = str(problem)
                names[name] = check.course
    return said


class Row(NamedTuple):
    """One build or exercise of one student."""

    student: str
    notebook: str
    exercise: str
    points: int | None  # None: a discussion, to be read
    of: int
    says: str


def graded(path: Path, folder: Path, timeout: float) -> list[Row]:
    """The results of one student's notebook, by a process that is stopped after `timeout` seconds."""
    solved = course_notebook(path)
    command = [sys.executable, "-m", "notebooks.tools.autograde", "--one", str(path.resolve()), str(solved)]
    tasks = tasks_of(solved)
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
        said = json.loads(run.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        said = {task.check: f"not finished after {timeout:g} s" for task in tasks}
    except (IndexError, json.JSONDecodeError):
        last = (run.stderr.splitlines() or ["no output"])[-1]
        said = {task.check: f"the grader's process ended: {last}" for task in tasks}
    inside = path.relative_to(folder)
    student = (
        (inside.parent.as_posix() if inside.parent.name else "")
        or inside.name.removesuffix(solved.name).strip("_- ")
        or "."
    )
    rows = []
    for exercise, check, name in tasks:
        label = f"{'B' if exercise.difficulty == 'build' else ''}{exercise.number} {name or exercise.title}"
        says = said[check] if check else "to be read"
        points = (exercise.points if says == "right" else 0) if check else None
        rows.append(Row(student, solved.stem, label, points, exercise.points, says))
    return rows


def course_notebook(path: Path) -> Path | None:
    """The solved notebook to which a student's file belongs, by the end of its name."""
    return next((solved for solved in NOTEBOOKS.glob("*.ipynb") if path.name.endswith(solved.name)), None)


def table(rows: list[Row]) -> str:
    """Markdown: one line for each student and notebook with points by exercise, then what is wrong where."""
    lines, wrong = [], []
    for notebook in sorted({row.notebook for row in rows}):
        here = [row for row in rows if row.notebook == notebook]
        labels = list(dict.fromkeys(row.exercise for row in here))
        lines += ["", f"| {notebook} | {' | '.join(labels)} | sum | open |", "|---" * (len(labels) + 3) + "|"]
        for student in sorted({row.student for row in here}):
            own = [row for row in here if row.student == student]
            marks = ["?" if row.points is None else f"{row.points}/{row.of}" for row in own]
            checked = [row for row in own if row.points is not None]
            total = f"{sum(row.points for row in checked)}/{sum(row.of for row in checked)}"
            still = sum(row.of for row in own if row.points is None)
            lines.append(f"| {student} | {' | '.join(marks)} | {total} | {still} |")
            wrong += [
                f"- {student}, {notebook[:2]}, {row.exercise}: {row.says}"
                for row in checked
                if not row.points
            ]
    return "\n".join([*lines, "", *wrong]).strip()


def main(arguments: Sequence[str] | None = None) -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("folder", type=Path)
    parser.add_argument("solved", type=Path, nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one notebook")
    parser.add_argument("--csv", type=Path, help="write one line for each exercise of each student there")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.one:
        out, sys.stdout = sys.stdout, io.StringIO()  # what the student's code prints
        said = verdicts(args.folder, args.solved)
        print(json.dumps(said), file=out)
        return
    paths = sorted(path for path in args.folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    if unknown := [str(path) for path in paths if not course_notebook(path)]:
        print("not of this course, left out:", ", ".join(unknown))
    rows = [row for path in paths if course_notebook(path) for row in graded(path, args.folder, args.timeout)]
    if not rows:
        parser.error(f"no notebook of the course in {args.folder}")
    print(table(rows))
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([Row._fields, *rows])


if __name__ == "__main__":
    main()
