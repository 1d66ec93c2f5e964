"""The table of all builds and exercises for TEACHING.md; `python run.py student` writes it there.

It is read from the notebooks: `**Build k: name** · P points · N min` in the text above a build, and headings
`### Exercise k: name (difficulty, N minutes)`, where the points follow from the difficulty.
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
BUILD = re.compile(r"^\*\*Build (\d+)(?:[:.] ([^*]+?))?[.:]?\*\* · (\d+) points? · (\d+) min\b", re.M)
ANY_BUILD = re.compile(r"^\*\*Build\b.*$", re.M)


class Exercise(NamedTuple):
    """One exercise or build: its notebook's file name, number there, name, kind, minutes, and points."""

    notebook: str
    number: int
    title: str
    difficulty: str  # of an exercise; "build" of a build
    minutes: int
    points: int


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
        minutes, points = int(match[4]), POINTS[match[3]]
        found.append(Exercise(notebook, int(match[1]), match[2], match[3], minutes, points))
    return found


def builds_of(markdown: str, notebook: str) -> list[Exercise]:
    """The builds in a notebook's text.

    Raises:
        ValueError: the line above one lacks its number, the points or the minutes.
    """
    found = []
    for line in ANY_BUILD.findall(markdown):
        if not (match := BUILD.match(line)):
            form = "**Build k: name** · P points · N min"
            raise ValueError(f"{notebook}: '{line}' is not of the form '{form}'")
        name = match[2] or "build"
        found.append(Exercise(notebook, int(match[1]), name, "build", int(match[4]), int(match[3])))
    return found


def all_exercises() -> list[Exercise]:
    """The builds and exercises of all notebooks, in order."""
    found = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        found += builds_of(text, path.name) + exercises_of(text, path.name)
    return found


def table(exercises: list[Exercise]) -> str:
    """Markdown table of `exercises` with their points and sums."""
    lines = ["| notebook | exercise | kind | minutes | points |", "|---|---|---|---|---|"]
    for e in exercises:
        link = f"[{e.notebook[:2]}](notebooks/exercises/{e.notebook})"
        number = f"B{e.number}" if e.difficulty == "build" else e.number
        lines.append(f"| {link} | {number}. {e.title} | {e.difficulty} | {e.minutes} | {e.points} |")
    minutes, points = (sum(numbers) for numbers in zip(*(e[-2:] for e in exercises), strict=True))
    lines.append(f"| all | {len(exercises)} | | {minutes} | {points} |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """The text of TEACHING.md with today's table between its two markers."""
    before, rest = page.split(START)
    return f"{before}{START}\n{table(all_exercises())}\n{END}{rest.split(END)[1]}"
