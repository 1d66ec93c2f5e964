"""Studies: published numbers, each stored beside the complete settings that made it.

A study is a file `data/studies/<study>.json`; each of its entries holds `settings`, which decide the result
and are compared, `made_with`, which is only recorded, and `result`. The commands that make studies lie in
`data/recipes/`, the notebooks read them with `load`.
"""

import inspect
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from utils.checkpoints import locked, read_card, write_atomically
from utils.config import DATA

STUDIES = DATA / "studies"


def described(function: Callable) -> dict[str, Any]:
    """Name and arguments of a function or partial, defaults filled in; those without a value are left out."""
    bound = partial(function) if callable(function) else function  # of a partial it is the same
    name = getattr(getattr(bound, "func", bound), "__qualname__", "<")
    if "<" in name:
        raise ValueError(f"{function!r} cannot be a setting: use numbers, strings, or functions of a file")
    arguments = inspect.signature(bound.func).bind_partial(*bound.args, **bound.keywords)
    arguments.apply_defaults()
    return plain({"function": f"{bound.func.__module__}.{name}"} | arguments.arguments)


def plain(settings: Any) -> Any:
    """Settings in JSON's types: tuples become lists, functions are `described`; ValueError for all else."""
    return json.loads(json.dumps(settings, default=described))


def fingerprint(checkpoint: str) -> dict[str, str]:
    """Name and sha256 of a checkpoint, for settings."""
    return {"checkpoint": checkpoint, "sha256": read_card(checkpoint)["sha256"]}


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all leaves; a list of plain numbers or strings is a leaf."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def changes(old: dict, new: dict) -> list[str]:
    """`key: old -> new` of every setting that differs."""
    a, b = dict(flat(old)), dict(flat(new))
    pairs = {key: (a.get(key, "nothing"), b.get(key, "nothing")) for key in a | b}
    return [f"{key}: {before} -> {after}" for key, (before, after) in pairs.items() if before != after]


def read(study: str | Path) -> dict[str, dict]:
    """All entries of a study by name; none if there is no file. Raises ValueError if it is damaged."""
    path = STUDIES / f"{study}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        remedy = f"restore it with `git checkout -- {path.name}` in {path.parent}, or delete it"
        raise ValueError(f"study {path} is damaged ({error}); {remedy}") from error


def update(study: str | Path, change: Callable[[dict[str, dict]], dict[str, dict]]) -> None:
    """Replace the entries of a study by change(entries), sorted by name; processes take turns."""
    path = STUDIES / f"{study}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        entries = sorted(change(read(study)).items())
        text = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries)
        write_atomically(path, lambda temporary: temporary.write_text(f"{{\n{text}\n}}\n", encoding="utf-8"))


def run_once(study: str | Path, settings: dict, work: Callable[[], Any], name: str = "") -> Any:
    """The stored result of `work()`, or a new one where there is none or its settings changed, which is said.

    `study` is its file below `data/studies`, without the ending, `name` one entry there: others, and what
    other processes write meanwhile, are kept. `settings` are all that decides the result (`plain`).
    """
    settings, stored = plain(settings), read(study).get(name)
    if stored and not (changed := changes(stored["settings"], settings)):
        return stored["result"]
    if stored:
        print(f"{study} {name}: run again, since {'; '.join(changed)}", flush=True)
    started = time.perf_counter()
    result = plain(work())
    seconds = round(time.perf_counter() - started, 1)
    made_with = {"torch": torch.__version__, "threads": torch.get_num_threads(), "seconds": seconds}
    entry = {"settings": settings, "made_with": made_with, "result": result}
    update(study, lambda entries: entries | {name: entry})
    return result


def load(study: str | Path, **asked: Any) -> list[dict]:
    """The rows of a study: its results, and the items of results that are lists, with `name` and settings.

    `asked` are settings that all rows must have, as `n=2500` or `**{"call.step_size": 0.1}`: ValueError if
    one has another. FileNotFoundError, with the command that makes it, if there is no such study.
    """
    command = "python -m data.recipes.{}_study {}".format(*f"{study}/".split("/")[:2]).strip()
    if not (entries := read(study)):
        raise FileNotFoundError(f"no study {study} in {STUDIES}; make it with `{command}`")
    rows = []
    for name, entry in entries.items():
        stored = dict(flat(entry["settings"])) | entry["settings"]
        for key, value in plain(asked).items():
            if (found := stored.get(key, "nothing")) != value:
                made = f"study {study}: {name!r} was made with {key}={found!r}, not {value!r}"
                raise ValueError(f"{made}; ask for that, or change the recipe and run `{command}`")
        results = entry["result"] if isinstance(entry["result"], list) else [entry["result"]]
        rows += [{"name": name} | entry["settings"] | row for row in results]
    return rows
