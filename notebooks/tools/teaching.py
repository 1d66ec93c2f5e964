"""The table of all exercises for TEACHING.md; `python run.py student` writes it there.

It is read from the notebooks' headings, `### Exercise k: name (difficulty, N minutes)`; the points follow
from the difficulty.
"""

import re
from typing import NamedTuple

import nbformat

from notebooks.tools.sync import NOTEBOOKS
from utils.setup import ROOT

PAGE = ROOT / "TEACHING.md"
START, END = "<!-- exercises: start -->", "<!-- exercises: end -->"
POINTS = {"easy": 1, "medium": 2, "hard": 4, "discussion": 1}
ANY = re.compile(r"^#{3,} (Exercise\b.*)$", re.M)
HEADING = re.compile(r"Exercise (\d+): (.+) \((\w+), (\d+) minutes(?:, no code)?\)")


class Exercise(NamedTuple):
    """One exercise: its notebook's file name, number there, name, difficulty, and minutes."""

    notebook: str
    number: int
    title: str
    difficulty: str
    minutes: int


def exercises_of(markdown: str, notebook: str) -> list[Exercise]:
    """The exercises in a notebook's text.

    Raises:
        ValueError: a heading lacks its number, name, a known difficulty or the minutes.
    """
    found = []
    for line in ANY.findall(markdown):
        match = HEADING.fullmatch(line.strip())
        if not match or match[3] not in POINTS:
            form = f"Exercise k: name ({'|'.join(POINTS)}, N minutes)"
            raise ValueError(f"{notebook}: heading '{line}' is not of the form '{form}'")
        found.append(Exercise(notebook, int(match[1]), match[2], match[3], int(match[4])))
    return found


def all_exercises() -> list[Exercise]:
    """The exercises of all notebooks, in order."""
    found = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        found += exercises_of(text, path.name)
    return found


def table(exercises: list[Exercise]) -> str:
    """Markdown table of `exercises` with their points and sums."""
    lines = ["| notebook | exercise | difficulty | minutes | points |", "|---|---|---|---|---|"]
    for e in exercises:
        link = f"[{e.notebook[:2]}](notebooks/exercises/{e.notebook})"
        lines.append(
            f"| {link} | {e.number}. {e.title} | {e.difficulty} | {e.minutes} | {POINTS[e.difficulty]} |"
        )
    points = sum(POINTS[e.difficulty] for e in exercises)
    lines.append(f"| all | {len(exercises)} | | {sum(e.minutes for e in exercises)} | {points} |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """The text of TEACHING.md with today's table between its two markers."""
    before, rest = page.split(START)
    return f"{before}{START}\n{table(all_exercises())}\n{END}{rest.split(END)[1]}"
