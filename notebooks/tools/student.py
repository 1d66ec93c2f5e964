"""Write the student versions of all notebooks and TEACHING.md's table of exercises: `python run.py student`.

The solved notebooks in `notebooks/` are the only source. Their folded solutions are removed, the stubs and
the checks stay, outputs are cleared, and the result goes to `notebooks/exercises/` under the same name.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat

from notebooks.tools.sync import NOTEBOOKS, with_badge
from notebooks.tools.teaching import PAGE, with_table

EXERCISES = NOTEBOOKS / "exercises"
FOLDED = re.compile(r"[ \t]*<details\b[^>]*>.*?</details>[ \t]*\n?", re.S | re.I)
RELATIVE = re.compile(r"(\]\(\s*<?|(?:src|href)\s*=\s*[\"'])(?=\.\./)")
NOTICE = (
    "**Student version**, without solutions; the solved notebook, with all outputs, is [{name}](../{name}). "
    "This file is made from that one by `python run.py student`."
)


def student_text(text: str) -> str:
    """A text cell without its folded solutions, its relative links seen from one folder deeper."""
    unfolded = re.sub(r"\n{3,}", "\n\n", FOLDED.sub("", text)).strip("\n")
    return RELATIVE.sub(r"\1../", unfolded)


def student_version(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """The student version of the solved `notebook` whose file is called `name`.

    Raises:
        ValueError: a `<details>` or `</details>` has no partner, so that a solution could stay.
    """
    cells = []
    for cell in notebook.cells:
        cell = nbformat.from_dict(cell)  # a copy
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = student_text(cell.source)
            if re.search(r"</?(details|summary)\b", cell.source, re.I):
                raise ValueError(f"{name}: a folded solution is not closed; write <details> ... </details>")
        if cell.source:
            cells.append(cell)
    title, rest = with_badge(cells[0].source, f"exercises/{name}").split("\n", 1)
    cells[0].source = f"{title}\n\n{NOTICE.format(name=name)}\n{rest}"
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def student_files() -> dict[Path, str]:
    """What `notebooks/exercises/` and TEACHING.md should hold: the text of each file."""
    made = {PAGE: with_table(PAGE.read_text(encoding="utf-8"))}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        version = student_version(nbformat.read(path, as_version=4), path.name)
        made[EXERCISES / path.name] = nbformat.writes(version) + "\n"
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
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
