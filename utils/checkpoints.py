"""Checkpoints: weights as safetensors (no code is executed on loading) beside a readable JSON card.

A checkpoint `name` is the pair `data/checkpoints/name.safetensors` and `name.json`. The card says how
the weights were made (architecture, data, steps, seed, command, metrics) and carries their sha256.
"""

import argparse
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import safetensors.torch
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from utils.config import CHECKPOINTS

STEP = ".int8_step"  # after the name of a rounded weight
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
States = dict[str, dict[str, Tensor]]  # module -> state dict


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)`, move the result to `path`; OSError if that fails, and the old file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        number = [error.errno] if getattr(error, "errno", None) else []
        remedy = "is the disk full, or the folder read-only? Nothing at that place has changed"
        raise OSError(*number, f"cannot write {path} ({error}): {remedy}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep all others that ask for the lock of `path` waiting, threads and processes; leaves no file."""
    with FileLock(lock := path.with_name(f".{path.name}.lock")):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows deletes no open file
                lock.unlink()


def save_checkpoint(
    name: str, modules: dict[str, nn.Module], card: dict, folder: Path = CHECKPOINTS, int8: bool = False
) -> Path:
    """Write the state of `modules` and the card; returns the path of the weights.

    Keys are `<module>.<parameter>`, without what `torch.compile`, `DataParallel` and `AveragedModel` add.
    With `int8`, matrices and kernels are rounded to 255 levels a row, with errors up to 1/254 of its largest
    weight. The card gains `sha256`, `bytes` and `parameters` (a count). If either cannot be written, both old
    files stay. ValueError for a module's name with a dot, TypeError for a card's key that JSON cannot hold.
    """
    if bad := [prefix for prefix in modules if not prefix or "." in prefix]:
        raise ValueError(f"modules has the names {bad}: they must have no dot and not be empty; rename them")
    tensors, counts, path = {}, {}, folder / f"{name}.safetensors"
    for prefix, module in modules.items():
        while isinstance(module, WRAPPERS):
            module = module.module
        counts[prefix] = sum(p.numel() for p in module.parameters())
        for key, value in module.state_dict().items():
            clean = f"{prefix}.{key.replace('_orig_mod.', '')}"
            tensors[clean] = value.detach().cpu().contiguous().clone()
    if int8:
        tensors = _rounded(tensors)
    for key, value in card.items():
        try:
            json.dumps(value, default=_plain)
        except (TypeError, ValueError) as error:
            raise TypeError(f"card[{key!r}] cannot be written as JSON: {error}") from error

    def write(temporary: Path) -> None:
        save_file(tensors, temporary)
        made = {"sha256": sha256(temporary), "bytes": temporary.stat().st_size, "parameters": counts}
        text = json.dumps(card | made, indent=2, default=_plain) + "\n"
        write_atomically(path.with_suffix(".json"), lambda p: p.write_text(text, encoding="utf-8"))

    with locked(path):
        write_atomically(path, write)
    return path


def _rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of two and more dimensions as int8, with the step of each row beside them."""
    rounded = {}
    for key, weight in tensors.items():
        if weight.is_floating_point() and weight.ndim > 1:
            step = weight.float().abs().flatten(1).amax(1).clamp_min(1e-30) / 127
            step = step.view(-1, *[1] * (weight.ndim - 1))
            rounded |= {key: (weight / step).round().to(torch.int8), key + STEP: step}
        else:
            rounded[key] = weight
    return rounded


def _plain(value: object) -> object:
    """Numbers and arrays of numpy and torch, and paths, in the types of JSON."""
    return value.tolist() if hasattr(value, "tolist") else os.fspath(value)


def read_card(name: str, folder: Path = CHECKPOINTS) -> dict:
    """The card of a checkpoint; FileNotFoundError, with what there is, or ValueError where it is damaged."""
    path = folder / f"{name}.json"
    if not path.exists():
        there = list_checkpoints(folder) or "none"
        raise FileNotFoundError(f"no checkpoint {name!r} in {folder}; available: {there}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = f"restore it with `git checkout -- {path.name}` in {path.parent}"
        raise ValueError(f"card {path} is damaged ({error}); {remedy}") from error


def list_checkpoints(folder: Path = CHECKPOINTS) -> list[str]:
    """Names of the checkpoints in `folder`."""
    return sorted(p.stem for p in folder.glob("*.json") if p.with_suffix(".safetensors").exists())


def load_checkpoint(name: str, folder: Path = CHECKPOINTS) -> tuple[States, dict]:
    """`({module: state_dict}, card)`; FileNotFoundError, or ValueError if the weights are not the card's."""
    try:
        return _load(name, folder)
    except (ValueError, FileNotFoundError):  # or the pair is just being replaced: look again when it is not
        with suppress(OSError), locked(folder / f"{name}.safetensors"):
            return _load(name, folder)
        raise


def _load(name: str, folder: Path) -> tuple[States, dict]:
    card, path = read_card(name, folder), folder / f"{name}.safetensors"
    remedy = f"restore it with `git checkout -- {path.name}` in {path.parent}, or retrain: "
    remedy += str(card.get("command"))
    if not path.exists():
        raise FileNotFoundError(f"checkpoint {name!r} has a card but no weights at {path}; {remedy}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise ValueError(f"checkpoint {path} does not match the sha256 of its card; {remedy}")
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path} is damaged ({error}); {remedy}") from error
    states: States = {}
    for key, value in tensors.items():
        if not key.endswith(STEP):
            module, _, parameter = key.partition(".")
            step = tensors.get(key + STEP)
            states.setdefault(module, {})[parameter] = value if step is None else value * step
    return states, card


def load_state_dict_file(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """A state dict, on the CPU, from a stranger's `.pth` or `.safetensors` file; none of its code is run.

    `key` says which, as "G" or "models.G", where the file holds several. Parameters' names lose what
    `DataParallel` and `torch.compile` put before them. Raises ValueError for a file that is damaged or holds
    a pickled object, and for a key that is wanted or unknown; the keys are listed.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            loaded = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # often beside: it only holds values
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        what = f"{path} is damaged or holds more than tensors ({str(error).partition('. ')[0]})"
        remedy = "load it in the program that made it, and store net.state_dict()"
        raise ValueError(f"{what}. To unpickle a network runs code: {remedy}") from error
    found = dict(_state_dicts(loaded))
    if key is None and len(found) == 1:
        (key,) = found
    if key not in found:
        raise ValueError(f"key={key!r} names no state dict in {path}; give one of {list(found)}")
    state = {name.replace("_orig_mod.", ""): value for name, value in found[key].items()}
    while state and all(name.startswith("module.") or name == "n_averaged" for name in state):
        state = {name[7:]: value for name, value in state.items() if name != "n_averaged"}
    return state


def _state_dicts(value: object, name: str = "") -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The dicts of tensors in nested dicts, with their keys joined by dots."""
    if isinstance(value, Mapping) and value:
        if all(isinstance(v, Tensor) for v in value.values()):
            yield name, value
        else:
            for key, inner in value.items():
                yield from _state_dicts(inner, f"{name}.{key}".lstrip("."))


def freeze(module: nn.Module, device: torch.device | str | None = None) -> nn.Module:
    """Put a module in evaluation mode with no parameter requiring a gradient; returns it."""
    return module.to(device).eval().requires_grad_(False)
