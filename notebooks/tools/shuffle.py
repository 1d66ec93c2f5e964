"""Run the notebooks as tests in a random order: `python run.py shuffle --seed 1`.

No notebook may depend on what another one left behind. Further arguments go to pytest.
"""

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Sequence

from utils.config import ROOT


def shuffled(seed: int) -> list[str]:
    """The notebooks and their exercises, as paths from the top of the repository, in the order of a seed."""
    found = (path.relative_to(ROOT) for path in (ROOT / "notebooks").rglob("*.ipynb"))
    files = sorted(str(path) for path in found if ".ipynb_checkpoints" not in path.parts)
    random.Random(seed).shuffle(files)
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    args, further = parser.parse_known_args(arguments)
    files = shuffled(args.seed)
    print(f"seed {args.seed}:", *files, sep="\n  ", flush=True)
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "600", *further]
    environment = {"COURSE_BUDGET": "fast", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", *options, *files]
    sys.exit(subprocess.call(command, cwd=ROOT, env=os.environ | environment))


if __name__ == "__main__":
    main()
