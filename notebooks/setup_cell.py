# Set-up, the same in every notebook: find this repository (fetch it where there is none, as in Colab).
import subprocess
import sys
from pathlib import Path

repository = "{repository}"
here = Path(globals().get("__vsc_ipynb_file__", "notebook.ipynb")).resolve()
root = next((folder for folder in here.parents if (folder / "utils" / "config.py").exists()), None)
if root is None and not repository:
    remedy = "get all of it (its zip, or git clone) and open this page there; in Colab, %cd into it first"
    raise FileNotFoundError(f"{here.parent} is not in the course's repository: {remedy}")
if root is None:
    root = here.parent / repository.rsplit("/", 1)[-1]
    if not root.exists():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", repository, str(root)], check=True)
sys.path.insert(0, str(root))

import utils

assert Path(utils.__file__).is_relative_to(root), f"not this course: {utils.__file__}; restart the kernel"
from utils.setup import begin

device = begin(seed=0)
