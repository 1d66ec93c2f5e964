"""Checkpoints: weights as safetensors (no code is executed on loading) beside a readable JSON card.

A checkpoint `name` is the pair `data/checkpoints/name.safetensors` and `name.json`. The card says how
the weights were made (architecture, data, steps, seed, command, metrics) and carries their sha256.
"""

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from utils.config import CHECKPOINTS


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomically(path: Path, write) -> None:
    """Call `write(temporary)`, then move the result to `path`: a full disk or a kill leaves the old file.

    Raises OSError, naming `path`, if `write` cannot write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        number = [error.errno] if getattr(error, "errno", None) else []
        remedy = "is the disk full, or the folder read-only? Nothing at that place has changed"
        raise OSError(*number, f"cannot write {path} ({error}): {remedy}") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(name: str, modules: dict[str, nn.Module], card: dict, folder: Path = CHECKPOINTS) -> Path:
    """Write the state of `modules` and the card; returns the path of the weights.

    Keys are `<module>.<parameter>`. The card gains `sha256`, `bytes` and `parameters` (a count). If either
    cannot be written, both old files stay.
    """
    tensors = {
        f"{prefix}.{key}": value.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for key, value in module.state_dict().items()
    }
    path = folder / f"{name}.safetensors"

    def write(temporary: Path) -> None:
        save_file(tensors, temporary)
        whole = card | {
            "sha256": sha256(temporary),
            "bytes": temporary.stat().st_size,
            "parameters": {k: sum(p.numel() for p in m.parameters()) for k, m in modules.items()},
        }
        text = json.dumps(whole, indent=2) + "\n"
        write_atomically(path.with_suffix(".json"), lambda p: p.write_text(text, encoding="utf-8"))

    write_atomically(path, write)
    return path


def read_card(name: str, folder: Path = CHECKPOINTS) -> dict:
    """The card of a checkpoint.

    Raises:
        FileNotFoundError: there is none; the message lists what there is.
        ValueError: the card is damaged.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(
            f"no checkpoint {name!r} in {folder}; available: {list_checkpoints(folder) or 'none'}"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = f"restore it with `git checkout -- {path.name}` in {path.parent}"
        raise ValueError(f"card {path} is damaged ({error}); {remedy}") from error


def list_checkpoints(folder: Path = CHECKPOINTS) -> list[str]:
    """Names of the checkpoints in `folder`."""
    return sorted(p.stem for p in folder.glob("*.json") if p.with_suffix(".safetensors").exists())


def load_checkpoint(name: str, folder: Path = CHECKPOINTS) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """Return `({module: state_dict}, card)` after checking the file against its card.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: the weights are damaged or are not those the card describes.
    """
    card = read_card(name, folder)
    path = folder / f"{name}.safetensors"
    remedy = (
        f"restore it with `git checkout -- {path.name}` in {path.parent}, or retrain: {card.get('command')}"
    )
    if not path.exists():
        raise FileNotFoundError(f"checkpoint {name!r} has a card but no weights at {path}; {remedy}")
    if sha256(path) != card["sha256"]:
        raise ValueError(f"checkpoint {path} does not match the sha256 of its card; {remedy}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path} is damaged ({error}); {remedy}") from error
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        module, _, parameter = key.partition(".")
        states.setdefault(module, {})[parameter] = value
    return states, card


def freeze(module: nn.Module, device: torch.device | str | None = None) -> nn.Module:
    """Put a module in evaluation mode with no parameter requiring a gradient; returns it."""
    return module.to(device).eval().requires_grad_(False)
