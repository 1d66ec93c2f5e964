"""Execute a notebook: `python run.py python -m notebooks.tools.execute notebooks/11_cifar10.ipynb`.

The executed copy goes to `build/`; with `--in-place` (how stored outputs are made) it replaces the notebook.
"""

import argparse
import base64
import io
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image

from utils.config import ROOT, budget, writable

WIDGET = "application/vnd.jupyter.widget-view+json"
BUILD = ROOT / "build"
LARGE = 95_000  # bytes of a figure; the structure tests allow 100,000
SILENT = 3.0  # seconds a cell may take without a bar
SEEN = 0.7  # levels of 255, in the mean over a figure: a palette that errs less looks the same


def shrink(png: str) -> str:
    """A figure (base64) with a palette of 256 colours, unless that would show or save nothing.

    Lines and bars lose nothing; photographs keep their colours as long as they have at most `LARGE` bytes.
    """
    data, small = base64.b64decode(png), io.BytesIO()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    palette = image.quantize(256)
    palette.save(small, "png", optimize=True)
    error = np.abs(np.asarray(image, int) - np.asarray(palette.convert("RGB"), int)).mean()
    if len(small.getvalue()) >= len(data) or (error > SEEN and len(data) <= LARGE):
        return png
    return base64.b64encode(small.getvalue()).decode()


def clean(notebook: nbformat.NotebookNode) -> None:
    """Remove what GitHub cannot show and what only differs from machine to machine."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            for output in cell.outputs:
                if "text" in output:  # a warning names the file it comes from
                    output.text = output.text.replace(str(ROOT / "_")[:-1], "")
            for data in (output.get("data", {}) for output in cell.outputs):
                if "image/png" in data:
                    data["image/png"] = shrink(data["image/png"])


def execute(source: Path, target: Path, folder: Path = BUILD) -> None:
    """Execute the notebook `source` in its own folder and write it to `target`, with progress by section.

    Cells that take over `SILENT` seconds and show no bar are named, so that one is given to them.

    Raises:
        CellExecutionError: a cell raised; what ran until then is in `folder`.
    """
    notebook = nbformat.read(source, as_version=4)
    start, began = time.time(), {}

    def announce(cell: dict, cell_index: int) -> None:
        began[cell_index] = time.time()
        heading = re.search(r"^#+ (.+)", cell["source"], re.M) if cell["cell_type"] == "markdown" else None
        if heading:
            minutes, seconds = divmod(int(time.time() - start), 60)
            progress = f"{cell_index + 1}/{len(notebook.cells)}"
            print(f"[{minutes:02d}:{seconds:02d}] cell {progress}: {heading[1]}", flush=True)

    def time_silence(cell: dict, cell_index: int, **_) -> None:
        seconds = time.time() - began[cell_index]
        if seconds > SILENT and not any("%|" in output.get("text", "") for output in cell["outputs"]):
            print(f"cell {cell_index + 1}: {seconds:.0f} s without a bar", flush=True)

    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(source.parent)}},
        extra_arguments=["--log-level=ERROR"],
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        on_cell_start=announce,
        on_cell_executed=time_silence,
    )
    # nbclient imitates the Output widget, and now and then waits for ever in that. Without it, what an
    # `interact` shows first is stored as an ordinary output, and so is the error that it would swallow.
    client.comm_open_handlers = {"jupyter.widget": lambda message: None}
    try:
        client.execute()
        for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
            if output.output_type == "error":
                raise CellExecutionError("\n".join(output.traceback), output.ename, output.evalue)
    except BaseException:
        target = folder / source.name
        raise
    finally:
        clean(notebook)
        target.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, target)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--in-place", action="store_true", help="store the outputs in the notebook itself")
    parser.add_argument("--folder", type=Path, default=BUILD, help="of copies; a failed one goes there too")
    args = parser.parse_args(arguments)
    if args.in_place and budget() == "fast":
        parser.error("outputs of the budget `fast` are never stored; unset COURSE_BUDGET")
    folder = args.folder.resolve()
    try:  # before the work, which would be lost
        for place in {folder, *(path.resolve().parent for path in args.notebooks if args.in_place)}:
            writable(place, "give --folder a folder of yours, and leave --in-place out")
    except OSError as error:
        parser.error(str(error))
    for source in (path.resolve() for path in args.notebooks):
        target = source if args.in_place else folder / source.name
        print(f"executing {source} (budget: {budget()})", flush=True)
        try:
            execute(source, target, folder)
        except (CellExecutionError, DeadKernelError) as error:
            sys.exit(f"{error}\n{source.name} stopped at an error; see {folder / source.name}")
        print(f"executed notebook: {target}", flush=True)


if __name__ == "__main__":
    main()
