"""TEACHING.md: the exercises it lists are whole, and every section it names exists."""

import re

import nbformat
import pytest

from notebooks.tools.sync import NOTEBOOKS
from notebooks.tools.teaching import PAGE, all_exercises, builds_of, exercises_of


def test_exercises_are_numbered_and_take_sensible_time():
    exercises = all_exercises()
    for notebook in sorted({e.notebook for e in exercises}):
        here = [e for e in exercises if e.notebook == notebook]
        for part in [[e for e in here if (e.difficulty == "build") == build] for build in (True, False)]:
            assert [e.number for e in part] == list(range(1, len(part) + 1)), notebook
        assert len(here) >= 3, notebook
    assert all(5 <= e.minutes <= 90 for e in exercises)


@pytest.mark.parametrize(
    "heading",
    [
        "### Exercise 1: a name",
        "### Exercise 1: a name (easy)",
        "### Exercise 1: a name (trivial, 5 minutes)",
        "### Exercise: a name (easy, 5 minutes)",
    ],
)
def test_incomplete_headings_are_refused(heading: str):
    with pytest.raises(ValueError, match="not of the form"):
        exercises_of(heading, "01_x.ipynb")


def test_builds_are_found():
    (build,) = builds_of("a\n\n**Build 2: the step.** · 3 points · 10 min\n\nWrite it.", "01_x.ipynb")
    assert build[1:] == (2, "the step", "build", 10, 3)
    with pytest.raises(ValueError, match="not of the form"):
        builds_of("**Build 2** (10 min)", "01_x.ipynb")


def test_sections_named_exist():
    named = re.findall(r"\b(\d\d), section (\d+)", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 40
    missing = []
    for number, section in sorted(set(named)):
        (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        if not re.search(rf"^## {section}\. ", text, re.M):
            missing.append((number, section))
    assert not missing
