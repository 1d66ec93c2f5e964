"""The tables of hours and of all builds and exercises for TEACHING.md; `python run.py student` writes them.

They are read from the notebooks: `**Build k: name** · P points · N min` in the text above a build, headings
`### Exercise k: name (difficulty, N minutes)`, where the points follow from the difficulty, and the marks
`*core · N min*` and `*optional ☆ · N min*` below the heading of a section. Which notebooks a week has is read
from TEACHING.md's own headings, `### Week k: name (01, 02)`.
"""

import re
from typing import NamedTuple

import nbformat

from notebooks.tools.sync import NOTEBOOKS
from utils.setup import ROOT

PAGE = ROOT / "TEACHING.md"
START, END = "<!-- exercises: start -->", "<!-- exercises: end -->"
HOURS = "<!-- hours: start -->", "<!-- hours: end -->"
POINTS = {"easy": 1, "medium": 2, "hard": 4, "discussion": 1}
ANY = re.compile(r"^#{3,} (Exercise\b.*)$", re.M)
HEADING = re.compile(r"Exercise (\d+): (.+) \((\w+), (\d+) minutes(?:, no code)?\)")
BUILD = re.compile(r"^\*\*Build (\d+)(?:[:.] ([^*]+?))?[.:]?\*\* · (\d+) points? · (\d+) min\b", re.M)
MARK = re.compile(r"^\*(core|optional)\b[^*\n]*?(\d+) min\b", re.M)
WEEK = re.compile(r"^### Week (\d+): [^(\n]+\(([^)]+)\)", re.M)
READING = 200  # words a minute, where a notebook has no marks
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


class Load(NamedTuple):
    """What a notebook asks for, in minutes, and the points of its builds and exercises."""

    core: float
    optional: float
    builds: float
    exercises: float
    points: float


def load_of(markdown: str, notebook: str) -> Load:
    """The load of a notebook by its own marks; without any its words are counted."""
    marks = MARK.findall(markdown)
    core, optional = (sum(int(n) for kind, n in marks if kind == which) for which in ("core", "optional"))
    builds, exercises = builds_of(markdown, notebook), exercises_of(markdown, notebook)
    minutes = [sum(e.minutes for e in part) for part in (builds, exercises)]
    words = 0 if marks else round(len(markdown.split()) / READING)
    return Load(core + words, optional, *minutes, sum(e.points for e in builds + exercises))


def loads() -> dict[str, Load]:
    """The load of each notebook, by its number as in "01"."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        found[path.name[:2]] = load_of(text, path.name)
    return found


def weeks_of(page: str) -> dict[int, tuple[list[str], list[str]]]:
    """For each week the notebooks that all read, and those of which one is read: (10, one of 12, 13)."""
    found = {}
    for week, names in WEEK.findall(page):
        fixed, _, choice = names.partition("one of")
        found[int(week)] = re.findall(r"\d\d", fixed), re.findall(r"\d\d", choice)
    return found


def hours(page: str, of: dict[str, Load]) -> str:
    """Markdown table of the weeks: minutes by kind, hours at home, points; of a choice the mean."""
    lines = ["| week | notebooks | reading | builds | exercises | hours at home | points |", "|---" * 7 + "|"]
    total = 0.0
    for week, (fixed, choice) in weeks_of(page).items():
        parts = [(of[name], 1.0) for name in fixed] + [(of[name], 1 / len(choice)) for name in choice]
        core, _, builds, exercises, points = (
            sum(load[k] * share for load, share in parts) for k in range(len(Load._fields))
        )
        total += core + builds + exercises
        names = ", ".join(fixed) + (f", one of {', '.join(choice)}" if choice else "")
        row = f"{core:.0f} | {builds:.0f} | {exercises:.0f} | {(core + builds + exercises) / 60:.1f}"
        lines.append(f"| {week} | {names} | {row} | {points:.0f} |")
    lines.append(f"| all | | | | | {total / 60:.1f} | |")
    return "\n".join(lines)


def between(page: str, markers: tuple[str, str], text: str) -> str:
    """The page with `text` between two markers, which stay."""
    start, end = markers
    before, rest = page.split(start)
    return f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}"


def with_table(page: str) -> str:
    """The text of TEACHING.md with today's tables between their markers."""
    page = between(page, HOURS, hours(page, loads()))
    return between(page, (START, END), table(all_exercises()))
