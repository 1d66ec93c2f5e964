"""Grading a folder of students' notebooks, and the release without solutions."""

import csv
import re
import subprocess

import nbformat
import pytest

from notebooks.tools import student
from notebooks.tools.autograde import course_notebook, graded, main, table, tasks_of
from notebooks.tools.student import BEGIN, EXERCISES, student_code
from notebooks.tools.sync import NOTEBOOKS
from tests.test_builds import builds
from tests.test_exercises import exercises, solution
from tests.test_structure import broken_links, markdown_of

NAME = "02_optimal_discriminator.ipynb"
TASKS = [task for task in tasks_of(NOTEBOOKS / NAME) if task.check]


def right_code(name: str) -> str:
    """The solved cell of a build, or the folded solution of an exercise."""
    cells = nbformat.read(NOTEBOOKS / NAME, as_version=4).cells
    (cell,) = [cell for cell in cells if cell.cell_type == "code" and f"def {name}(" in cell.source]
    return cell.source if BEGIN in cell.source else solution(NOTEBOOKS / NAME, cell)


def test_every_task_is_found_once():
    """Discussions, and exercises without code, have no check; all else has its own."""
    found = 0
    for path in NOTEBOOKS.glob("*.ipynb"):
        tasks = tasks_of(path)
        assert len({task.exercise for task in tasks}) == len(tasks)
        assert not [task for task in tasks if task.check and task.exercise.difficulty == "discussion"]
        found += sum(bool(task.check) for task in tasks)
    assert found == len(exercises()) + len(builds())


def sheet(folder, who: str, **answers: str):
    """A made-up answer sheet: the student version, some functions replaced by these lines."""
    notebook = nbformat.read(EXERCISES / NAME, as_version=4)
    for cell in notebook.cells:
        for name, code in answers.items():
            if f"def {name}(" in cell.source:
                cell.source = code
    path = folder / who / NAME
    path.parent.mkdir()
    nbformat.write(notebook, path)


def test_three_sheets(tmp_path, capsys):
    """One with all answers right, one as it was handed out, one with a stop and a cell that is no Python."""
    sheet(tmp_path, "anna", **{task.name: right_code(task.name) for task in TASKS})
    sheet(tmp_path, "ben")
    wrong = {TASKS[0].name: f"def {TASKS[0].name}(:", TASKS[1].name: f"def {TASKS[1].name}(*x):\n    1 / 0"}
    sheet(tmp_path, "cleo", **wrong, corrected_logit="corrected_logit = lambda d, n, m: d")
    (tmp_path / "notes.ipynb").write_text("{}")
    main([str(tmp_path), "--csv", str(tmp_path / "grades.csv")])
    said = capsys.readouterr().out
    assert "left out: " + str(tmp_path / "notes.ipynb") in said
    sums = dict(re.findall(r"^\| (\w+) \|.* (\d+)/\d+ \| \d+ \|$", said, re.M))
    assert sums == {"anna": str(sum(task.exercise.points for task in TASKS)), "ben": "0", "cleo": "0"}
    assert "cannot be read" in said and "ZeroDivisionError" in said and "nothing was corrected" in said
    rows = list(csv.DictReader((tmp_path / "grades.csv").open(encoding="utf-8")))
    assert len(rows) == 3 * len(tasks_of(NOTEBOOKS / NAME))
    assert {row["says"] for row in rows if row["student"] == "anna"} == {"right", "to be read"}


def test_a_page_that_does_not_end(tmp_path):
    sheet(tmp_path, "dora", corrected_logit="def corrected_logit(*x):\n    while True:\n        pass")
    rows = graded(tmp_path / "dora" / NAME, tmp_path, timeout=1)
    assert sum(row.points or 0 for row in rows) == 0 and "not finished after 1 s" in table(rows)


def test_names_of_files():
    assert course_notebook(NOTEBOOKS / f"anna_{NAME}") == NOTEBOOKS / NAME
    assert course_notebook(NOTEBOOKS / "other.ipynb") is None


def test_release_without_solutions(tmp_path):
    if subprocess.run(["git", "ls-files"], cwd=NOTEBOOKS, capture_output=True).returncode:
        pytest.skip("needs git and its working tree")
    folder = tmp_path / "release"
    student.main(["--no-solutions", str(folder)])
    pages = sorted((folder / "notebooks").glob("*.ipynb"))
    assert [page.name for page in pages] == [path.name for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    assert not (folder / "tests").exists() and not (folder / "notebooks" / "exercises").exists()
    for page in pages:
        cells = nbformat.read(page, as_version=4).cells
        assert not [cell for cell in cells if re.search("<summary>Solution|SOLUTION", cell.source)]
        assert not [cell for cell in cells if cell.get("outputs")]
        code = [cell.source for cell in cells if cell.cell_type == "code"]
        solved = nbformat.read(NOTEBOOKS / page.name, as_version=4).cells
        assert code == [student_code(cell.source) for cell in solved if cell.cell_type == "code"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.test_structure.ROOT", folder)
        for page in [*pages, *folder.glob("*.md")]:
            assert broken_links(markdown_of(page), page) == [], page.name
    with pytest.raises(FileExistsError):
        student.release(folder)
