"""Kills, full disks and damaged files: a clear error that names file and remedy, and nothing is lost."""

import errno
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_training import CONFIG, assert_same, draw_images, tiny, train, unbroken  # noqa: F401  a fixture
from torch import nn

from data.recipes import cifar10_classifier
from utils import checkpoints, images, training
from utils.checkpoints import load_checkpoint, read_card, save_checkpoint, write_atomically
from utils.config import ROOT
from utils.images import download
from utils.metrics.extractors import Extractor
from utils.metrics.images import Moments, Reference, load_reference, reference_path, save_reference

FULL = OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -------------------------------------------------------------------------------------------------- kill

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from test_training import CONFIG, draw_images, tiny, train
from utils import checkpoints

saves = []
replace = os.replace
def replace_or_die(source, target):
    saves.append(Path(target).name)
    if saves.count("state.pt") == {save}:
        with open(source, "r+b") as file:
            file.truncate(500)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

checkpoints.os.replace = replace_or_die
train(tiny(), draw_images, CONFIG, Path({folder!r}))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_a_training_killed_while_it_saves_ends_as_an_unbroken_one(tmp_path, unbroken):  # noqa: F811
    code = KILLED.format(root=str(ROOT), tests=str(ROOT / "tests"), folder=str(tmp_path), save=3)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 6  # the save before: whole
    assert_same(train(tiny(5), draw_images, CONFIG, tmp_path), unbroken)


# --------------------------------------------------------------------------------------------- full disk


def test_a_full_disk_during_training_leaves_the_last_state(tmp_path, monkeypatch, unbroken):  # noqa: F811
    save, calls = torch.save, []

    def full(state, file):
        calls.append(state["step"])
        if len(calls) == 2:
            file.write(b"half")
            raise FULL
        save(state, file)

    monkeypatch.setattr(training.torch, "save", full)
    with pytest.raises(OSError, match=r"cannot write .*state\.pt .*No space left.*is the disk full") as error:
        train(tiny(), draw_images, CONFIG, tmp_path)
    assert error.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["state.pt"]
    assert_same(train(tiny(5), draw_images, CONFIG, tmp_path), unbroken)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_is_really_full_is_named(tmp_path, monkeypatch):
    class Full(type(tmp_path)):
        def with_name(self, name):
            return Path("/dev/full")

    monkeypatch.setattr(Path, "unlink", lambda *a, **k: None)  # of the temporary file, /dev/full
    for write in (
        lambda path: path.write_text("x" * 100_000),
        lambda path: open(path, "wb").write(b"x" * 100_000),
    ):
        with pytest.raises(OSError, match=r"cannot write .*x\.txt .*No space left"):
            write_atomically(Full(tmp_path / "x.txt"), write)
    assert names(tmp_path) == []


@pytest.mark.parametrize("which", ["weights", "card"])
def test_a_full_disk_leaves_weights_and_card_as_they_were(which: str, tmp_path, monkeypatch):
    old = nn.Linear(2, 2)
    save_checkpoint("x", {"G": old}, {"command": "c"}, tmp_path)

    def full(*args, **kwargs):
        raise FULL

    if which == "weights":
        monkeypatch.setattr(checkpoints, "save_file", full)
    else:
        monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(
        OSError, match=r"cannot write .*x\..*No space left.*Nothing at that place has changed"
    ):
        save_checkpoint("x", {"G": nn.Linear(3, 3)}, {}, tmp_path)
    states, card = load_checkpoint("x", tmp_path)
    assert torch.equal(states["G"]["weight"], old.weight) and card["command"] == "c"
    assert names(tmp_path) == ["x.json", "x.safetensors"]


def test_a_full_disk_during_a_download_keeps_what_came(tmp_path, monkeypatch):
    def fetch(url, part):
        part.write_bytes(b"the first half")
        raise FULL

    monkeypatch.setattr(images, "_fetch", fetch)
    with pytest.raises(OSError, match=r"x\.zip\.part .*No space left.*COURSE_CACHE"):
        download("https://host/x.zip", tmp_path / "x.zip")
    assert names(tmp_path) == [".x.zip.lock", "x.zip.part"]  # the next call goes on from there


# ----------------------------------------------------------------------------------------- damaged files


def flipped(data: bytes) -> bytes:
    return data[:8] + bytes([data[8] ^ 255]) + data[9:]  # the first byte of the header


DAMAGE = {
    "flipped": flipped,
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "pickle": lambda data: pickle.dumps({"mean": 0}),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("which", ["", ".features"])
def test_damaged_statistics_are_named(damage: str, which: str, tmp_path):
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    extractor = Extractor("net", 4, nn.Identity(), "w")
    path = reference_path(extractor, "test", folder=tmp_path)
    save_reference(path, Reference("net", "w", "cifar10", "test", Moments.from_features(features), features))
    assert load_reference(extractor, "test", folder=tmp_path).moments.count == 30
    damaged = path.with_suffix(f"{which}.safetensors")
    damaged.write_bytes(DAMAGE[damage](damaged.read_bytes()))
    with pytest.raises(ValueError, match=rf"{damaged.name} is damaged .*git checkout.*reference_statistics"):
        load_reference(extractor, "test", folder=tmp_path)


@pytest.mark.parametrize("text", ["", '{"task": "a te', "[1, 2"])
def test_a_damaged_card_is_named(text: str, tmp_path):
    save_checkpoint("x", {"G": nn.Linear(2, 2)}, {}, tmp_path)
    (tmp_path / "x.json").write_text(text)
    for read in (read_card, load_checkpoint):
        with pytest.raises(ValueError, match=r"card .*x\.json is damaged .*git checkout"):
            read("x", tmp_path)
    assert load_file(tmp_path / "x.safetensors").keys() == {"G.weight", "G.bias"}


@pytest.mark.parametrize("damage", ["cut", "empty", "pickle"])
def test_a_damaged_snapshot_of_the_classifier_is_named(damage: str, tmp_path, monkeypatch):
    path = tmp_path / "snapshot.pt"
    monkeypatch.setattr(cifar10_classifier, "SNAPSHOT", path)
    with pytest.raises(SystemExit, match=r"no snapshot at .*snapshot\.pt; leave out --resume"):
        cifar10_classifier.read_snapshot()
    torch.save({"epoch": 1}, path)
    assert cifar10_classifier.read_snapshot() == {"epoch": 1}
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    if damage == "pickle":
        path.write_bytes(pickle.dumps(Path))  # a plain dict is harmless and may be read
    with pytest.raises(SystemExit, match=r"snapshot\.pt cannot be read .*leave out --resume"):
        cifar10_classifier.read_snapshot()
    assert path.exists()
