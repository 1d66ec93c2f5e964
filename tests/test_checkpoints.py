"""Checkpoints: what is written is read, and whatever was damaged on the way is found."""

import argparse
import json
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from utils.checkpoints import (
    freeze,
    list_checkpoints,
    load_checkpoint,
    load_state_dict_file,
    locked,
    read_card,
    save_checkpoint,
    sha256,
    write_atomically,
)

CARD = {"task": "a test", "command": "python -m nothing"}


@pytest.fixture
def modules():
    torch.manual_seed(0)
    return {"G": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), "D": nn.Linear(3, 1)}


@pytest.fixture
def saved(tmp_path, modules):
    save_checkpoint("x", modules, CARD, tmp_path)
    return tmp_path


def test_round_trip(saved, modules):
    states, card = load_checkpoint("x", saved)
    assert states.keys() == modules.keys()
    for name, module in modules.items():
        assert states[name].keys() == module.state_dict().keys()
        for key, value in module.state_dict().items():
            assert torch.equal(states[name][key], value) and states[name][key].dtype == value.dtype
    path = saved / "x.safetensors"
    assert card == CARD | {
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "parameters": {"G": 2 * 3 + 3 + 3 + 3, "D": 4},
    }
    assert json.loads((saved / "x.json").read_text()) == card == read_card("x", saved)
    assert sorted(p.name for p in saved.iterdir()) == ["x.json", "x.safetensors"]
    assert CARD.keys() == {"task", "command"}  # the caller's card is not written to


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_saving_again_replaces(saved):
    layer = nn.Linear(1, 1)
    save_checkpoint("x", {"only": layer}, {}, saved)
    states, _ = load_checkpoint("x", saved)
    assert list(states) == ["only"]
    assert torch.equal(states["only"]["weight"], layer.weight)


def test_views_and_shared_weights(tmp_path):
    layer, tied = nn.Linear(4, 4), nn.Linear(4, 4)
    tied.weight = layer.weight
    layer.register_buffer("turned", torch.arange(6.0).view(2, 3).T)  # not contiguous
    save_checkpoint("x", {"m": nn.ModuleList([layer, tied])}, {}, tmp_path)
    state = load_checkpoint("x", tmp_path)[0]["m"]
    assert torch.equal(state["0.weight"], state["1.weight"])
    assert torch.equal(state["0.turned"], torch.arange(6.0).view(2, 3).T)


@pytest.mark.parametrize("place", [10, 100, -1])
def test_one_changed_byte_is_found(saved, place):
    path = saved / "x.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"sha256.*python -m nothing"):
        load_checkpoint("x", saved)


def test_a_cut_file_is_found(saved):
    path = saved / "x.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="sha256"):
        load_checkpoint("x", saved)


def test_another_sha256_in_the_card_is_found(saved):
    card = read_card("x", saved)
    (saved / "x.json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    with pytest.raises(ValueError, match="sha256"):
        load_checkpoint("x", saved)


def accept(folder, data: bytes) -> None:
    """Put `data` in place of the weights and make the card agree."""
    (folder / "x.safetensors").write_bytes(data)
    card = read_card("x", folder) | {"sha256": sha256(folder / "x.safetensors")}
    (folder / "x.json").write_text(json.dumps(card))


def test_damage_that_the_card_agrees_with_is_found(saved):
    accept(saved, (saved / "x.safetensors").read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"damaged.*retrain"):
        load_checkpoint("x", saved)


class Bomb:
    """Unpickling it would raise."""

    def __reduce__(self):
        return pytest.fail, ("code from a checkpoint was executed",)


def test_no_pickle_is_ever_loaded(saved, tmp_path):
    torch.save({"G": Bomb()}, tmp_path / "bomb.pt")
    for data in (pickle.dumps(Bomb()), (tmp_path / "bomb.pt").read_bytes()):
        accept(saved, data)
        with pytest.raises(ValueError, match="damaged"):
            load_checkpoint("x", saved)


def test_missing_weights(saved):
    (saved / "x.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights.*python -m nothing"):
        load_checkpoint("x", saved)
    assert list_checkpoints(saved) == []


def test_missing_card(saved):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'y'.*available: \['x'\]"):
        load_checkpoint("y", saved)
    (saved / "x.json").unlink()
    with pytest.raises(FileNotFoundError, match="available: none"):
        load_checkpoint("x", saved)


def test_list(saved, modules):
    save_checkpoint("a", modules, {}, saved)
    (saved / "lonely.safetensors").touch()
    assert list_checkpoints(saved) == ["a", "x"]
    assert list_checkpoints(saved / "nowhere") == []


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failing_writer_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half of the n")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]  # nor is anything left beside it


def test_atomic_write_makes_folders_and_never_shows_half(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"

    def write(temporary):
        temporary.write_text("whole")
        assert not path.exists() and temporary.parent == path.parent

    write_atomically(path, write)
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_save_leaves_the_old_checkpoint(saved, modules, monkeypatch):
    def fail(tensors, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("utils.checkpoints.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint("x", {"G": nn.Linear(9, 9)}, {}, saved)
    states, _ = load_checkpoint("x", saved)
    assert torch.equal(states["D"]["weight"], modules["D"].weight)


# ------------------------------------------------------------------------------------- writers that meet


def test_threads_that_write_one_file_leave_one_of_theirs_whole(tmp_path):
    def write(i):
        write_atomically(tmp_path / "a.txt", lambda p: p.write_text(str(i) * 100_000))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    text = (tmp_path / "a.txt").read_text()
    assert len(text) == 100_000 and len(set(text)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_load_beside_saves_never_sees_a_mismatch(tmp_path):
    """Weights, card and each other: whatever is loaded was saved together."""
    save_checkpoint("x", {"G": nn.Linear(1, 1)}, {"value": -1.0}, tmp_path)
    stop = threading.Event()

    def save(worker):
        layer = nn.Linear(40, 40)
        for i in range(12):
            value = float(100 * worker + i)
            nn.init.constant_(layer.weight, value)
            save_checkpoint("x", {"G": layer}, {"value": value}, tmp_path)

    def load(_):
        seen = 0
        while not stop.is_set() or not seen:
            states, card = load_checkpoint("x", tmp_path)
            assert card["value"] == -1 or (states["G"]["weight"] == card["value"]).all()
            seen += 1
        return seen

    with ThreadPoolExecutor(6) as pool:
        loads = [pool.submit(load, i) for i in range(2)]
        for saved in [pool.submit(save, i) for i in range(4)]:
            saved.result()
        stop.set()
        assert sum(load.result() for load in loads) >= 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json", "x.safetensors"]


def test_a_load_waits_for_the_pair_that_is_being_replaced(saved, modules):
    """The card of a save lies there already, its weights not yet: the state between the two steps."""
    before = (saved / "x.json").read_text()
    card = (saved / "x.json").read_text().replace(read_card("x", saved)["sha256"], "0" * 64)
    with ThreadPoolExecutor(1) as pool:
        with locked(saved / "x.safetensors"):
            (saved / "x.json").write_text(card)
            loading = pool.submit(load_checkpoint, "x", saved)
            time.sleep(0.1)
            assert not loading.done()
            (saved / "x.json").write_text(before)
        assert torch.equal(loading.result()[0]["D"]["weight"], modules["D"].weight)


# ------------------------------------------------------------------------------------- names and values


@pytest.mark.parametrize("name", ["G.ema", "", "."])
def test_names_that_would_mix_modules_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="no dot"):
        modules = {"G": nn.ModuleDict({"ema": nn.Linear(1, 1)}), name: nn.Linear(1, 1)}
        save_checkpoint("x", modules, {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_card_takes_numbers_of_numpy_and_torch_and_names_what_it_cannot_hold(tmp_path):
    card = {"a": np.float32(0.5), "b": [np.int64(3), torch.tensor(2.5)], "c": {"d": np.arange(3)}}
    save_checkpoint("x", {"G": nn.Linear(1, 1)}, card, tmp_path)
    loaded = read_card("x", tmp_path)
    assert loaded["a"] == 0.5 and loaded["b"] == [3, 2.5] and loaded["c"] == {"d": [0, 1, 2]}
    for bad in ({1, 2}, nn.Linear(1, 1), {"f": object()}):
        with pytest.raises(TypeError, match=r"card\['lr'\]"):
            save_checkpoint("x", {"G": nn.Linear(1, 1)}, {"fine": 1, "lr": bad}, tmp_path)
    assert read_card("x", tmp_path) == loaded


def test_wrappers_leave_no_trace_in_the_names(tmp_path):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    inner = nn.Sequential(torch.compile(net[0]), net[1])
    for wrapped in (nn.DataParallel(net), AveragedModel(net), torch.compile(net), inner):
        save_checkpoint("x", {"G": wrapped}, {}, tmp_path)
        state = load_checkpoint("x", tmp_path)[0]["G"]
        net.load_state_dict(state)  # strict
        assert torch.equal(state["0.weight"], net[0].weight)


# ----------------------------------------------------------------------------------- strangers' own files


@pytest.mark.parametrize(
    "wrap, key",
    [
        (lambda state: state, None),
        (lambda state: {"state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=1)}, None),
        (lambda state: {"g": state, "d": {"w": torch.zeros(1)}}, "g"),
        (lambda state: {"models": {"G": state, "D": {"w": torch.zeros(1)}}, "step": 1}, "models.G"),
        (lambda state: {f"module.{k}": v for k, v in state.items()}, None),
        (lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()}, None),
        (lambda state: {"n_averaged": torch.tensor(1)} | {f"module.{k}": v for k, v in state.items()}, None),
    ],
)
def test_a_state_dict_is_found_where_strangers_put_it(wrap, key, tmp_path):
    layer = nn.Linear(2, 1)
    torch.save(wrap(layer.state_dict()), tmp_path / "a.pth")
    state = load_state_dict_file(tmp_path / "a.pth", key)
    nn.Linear(2, 1).load_state_dict(state)  # strict
    assert torch.equal(state["weight"], layer.weight)


def test_a_state_dict_file_is_refused_by_name(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"g": nn.Linear(1, 1).state_dict(), "d": nn.Linear(1, 1).state_dict(), "step": 3}, path)
    for key in (None, "ema"):
        with pytest.raises(ValueError, match=rf"key={key!r} names no state dict .* \['g', 'd'\]"):
            load_state_dict_file(path, key)
    for content in (Bomb(), nn.Linear(1, 1), {"net": nn.Linear(1, 1)}):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"a\.pth is damaged or holds more than tensors.*state_dict"):
            load_state_dict_file(path)
    for data in (b"", b"html", pickle.dumps(Bomb())):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.pth is damaged"):
            load_state_dict_file(path)
    with pytest.raises(FileNotFoundError):
        load_state_dict_file(tmp_path / "b.pth")


# --------------------------------------------------------------------------------------------- freezing


def test_freezing_keeps_the_memory_format_of_a_stranger(tmp_path):
    class Viewed(nn.Sequential):
        def forward(self, x):
            return self[0](x).view(len(x), -1).sum(1)

    D = Viewed(nn.Conv2d(3, 4, 3))
    x = torch.randn(2, 3, 8, 8)
    expected = D(x)
    assert torch.equal(freeze(D)(x), expected)
    assert not D.training and not any(p.requires_grad for p in D.parameters())
    assert all(p.is_contiguous() for p in D.parameters())
    freeze(nn.Conv3d(1, 2, 3))  # 5-D parameters
