"""The commands that make what lies in `data/`: checkpoints, statistics, studies."""

import platform
import shlex
import sys
from typing import Any

import torch

from utils.config import pick_device


def made_by(module: str, arguments: list[str] | None, seconds: float) -> dict[str, Any]:
    """What a card says of how its checkpoint was made; without `arguments`, by those of the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    device = pick_device()
    where = f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"
    return {
        "command": shlex.join(["python", "-m", f"data.recipes.{module}", *arguments]),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else where,
        "torch": torch.__version__,
        "seconds": round(seconds),
    }
