"""Studies know their settings: a change runs a job again, and stored rows are what today's code asks for."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from data.recipes import architecture_study, digit_energy, ebgan_study, image_study, ring_study, toy_study
from data.recipes.study import run_jobs, ula_chains
from utils import studies
from utils.config import ROOT
from utils.metrics.images import Moments, Reference, frechet_distance
from utils.metrics.judges import jackknife, judge
from utils.samplers import mala
from utils.studies import described, load, plain, read, run_once, update

RECIPES = [toy_study, ebgan_study, ring_study, image_study, digit_energy, architecture_study]
JOBS = {recipe: recipe.jobs for recipe in RECIPES}


def scale(x, factor=2.0, *, places=(1, 2), after=None):
    """A function to describe."""


def test_described_resolves_partials_and_defaults():
    name = f"{__name__}.scale"
    assert described(scale) == {"function": name, "factor": 2.0, "places": [1, 2], "after": None}
    nested = partial(partial(scale, places=(3,)), 5, after=partial(mala, 0.1))
    after = {"function": "utils.samplers.mala", "step_size": 0.1, "temperature": 1.0}
    expected = {"function": name, "x": 5, "factor": 2.0, "places": [3], "after": after}
    assert described(nested) == expected and json.loads(json.dumps(expected)) == expected
    assert described(replace)["function"] == "dataclasses.replace"
    for nameless in (lambda x: x, torch.zeros(2), object()):
        with pytest.raises(ValueError, match="cannot be a setting"):
            plain({"method": nameless})


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The names of the jobs that were run, in an empty folder of studies."""
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    return []


def job(calls, settings, name="a", result=None):
    return run_once("folder/s", settings, lambda: calls.append(name) or result or {"value": len(calls)}, name)


def test_unchanged_settings_are_loaded_and_changed_ones_run_again_and_say_which(calls, capsys):
    settings = {"n": 3, "marks": (0, 1), "call": partial(mala, 0.1), "deep": [{"lr": 1e-3}]}
    assert job(calls, settings) == {"value": 1} == job(calls, settings | {"marks": [0, 1]})
    assert calls == ["a"] and capsys.readouterr().out == ""
    changes = {
        "n: 3 -> 4": {"n": 4},
        "marks: [0, 1] -> [0, 2]": {"marks": (0, 2)},
        "call.step_size: 0.1 -> 0.2": {"call": partial(mala, 0.2)},
        "call.temperature: 1.0 -> 0.5": {"call": partial(mala, 0.1, temperature=0.5)},
        "deep.0.lr: 0.001 -> 0.01": {"deep": [{"lr": 1e-2}]},
        "seed: nothing -> 0": {"seed": 0},
    }
    for said, change in changes.items():
        job(calls, settings)
        capsys.readouterr()
        assert job(calls, settings | change)["value"] == len(calls)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 and said in lines[0] and "; " not in lines[0]
    assert job(calls, {"n": 3}, "b") == {"value": len(calls)}  # another entry
    assert set(read("folder/s")) == {"a", "b"}
    assert read("folder/s")["a"]["made_with"]["torch"] == torch.__version__


def test_a_default_changed_in_the_signature_is_noticed(calls, capsys, monkeypatch):
    job(calls, {"call": scale})
    monkeypatch.setattr(scale, "__defaults__", (3.0,))
    job(calls, {"call": scale})
    assert calls == ["a", "a"] and "call.factor: 2.0 -> 3.0" in capsys.readouterr().out


WRITER = """
import sys
from pathlib import Path
from utils import studies
studies.STUDIES, worker = Path(sys.argv[1]), sys.argv[2]
for i in range(20):
    studies.run_once("many", {"i": i}, lambda: worker, f"{worker} {i}")
"""


def test_concurrent_writers_lose_nothing(tmp_path, monkeypatch):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, worker], cwd=ROOT) for worker in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    assert set(read("many")) == {f"{worker} {i}" for worker in "ab" for i in range(20)}


def test_an_interrupted_write_leaves_the_old_file(calls, tmp_path, monkeypatch):
    job(calls, {"n": 1})
    before = (tmp_path / "folder" / "s.json").read_bytes()
    with pytest.raises(TypeError), monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", lambda *_, **__: int([]))  # fails amid the write
        job(calls, {"n": 2})
    assert (tmp_path / "folder" / "s.json").read_bytes() == before
    assert job(calls, {"n": 1}) == {"value": 1}
    assert [path.suffix for path in (tmp_path / "folder").iterdir() if "lock" not in path.name] == [".json"]
    (tmp_path / "folder" / "s.json").write_bytes(before[:40])
    with pytest.raises(ValueError, match=r"damaged.*git checkout"):
        job(calls, {"n": 1})


def test_load_merges_settings_and_names_what_differs(calls):
    job(calls, {"n": 5, "call": partial(mala, 0.1)}, "many", [{"step": 0, "d": 1.5}, {"step": 9, "d": 2.5}])
    job(calls, {"n": 5, "call": partial(mala, 0.1)}, "one", {"d": 3.5})
    rows = load("folder/s", n=5, **{"call.step_size": 0.1})
    assert [(row["name"], row.get("step"), row["d"], row["n"]) for row in rows] == [
        ("many", 0, 1.5, 5),
        ("many", 9, 2.5, 5),
        ("one", None, 3.5, 5),
    ]
    for asked, said in (({"n": 6}, "n=5, not 6"), ({"seed": 0}, "seed='nothing', not 0")):
        with pytest.raises(ValueError, match=said):
            load("folder/s", **asked)
    with pytest.raises(ValueError, match=r"call.step_size=0.1, not 0.2.*data.recipes.folder_study s`"):
        load("folder/s", **{"call.step_size": 0.2})
    for study, command in (("image/x", "image_study x`"), ("toy/swiss-roll", "toy_study swiss-roll`")):
        with pytest.raises(FileNotFoundError, match=f"make it with `python -m data.recipes.{command}"):
            load(study)


# ---------------------------------------------------------------------------------- the stored studies


def test_every_stored_row_has_the_settings_that_today_s_code_asks_for():
    wanted = {study: named for recipe in RECIPES for study, named in recipe.jobs().items()}
    folder = studies.STUDIES
    stored = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")}
    assert stored == wanted.keys() - {"toy/swiss-roll"}
    for study in sorted(stored):
        entries = read(study)
        assert entries.keys() == wanted[study].keys(), study
        for name, entry in entries.items():
            assert not studies.changes(entry["settings"], plain(wanted[study][name])), (study, name)
            assert entry["made_with"] and entry["result"]


def tiny_toy(monkeypatch, step_size=1e-3):
    monkeypatch.setattr(toy_study, "N", 60)
    call = toy_study.METHODS["DDLS, ULA"]
    kernel = partial(call.keywords["kernel"], step_size=step_size)
    monkeypatch.setitem(toy_study.DDLS, "DDLS, ULA", partial(call, kernel=kernel, n_steps=2))
    monkeypatch.setitem(toy_study.METHODS, "DDLS, ULA", toy_study.DDLS["DDLS, ULA"])
    return "25-gaussians/imperfect 0, raw, DDLS, ULA"


def tiny_ebgan(monkeypatch, step_size=0.1):
    monkeypatch.setitem(ebgan_study.METHODS, "EBGAN-PT", ("ebgan", step_size))
    monkeypatch.setattr(ebgan_study, "ARCHITECTURES", ((2, 2, 8, 8),))
    monkeypatch.setattr(ebgan_study.one_run, "__defaults__", (*ebgan_study.one_run.__defaults__[:-2], 4, 0))
    return "grid/EBGAN-PT"


def tiny_ring(monkeypatch, step_size=0.1):
    monkeypatch.setattr(ring_study, "N", 60)
    monkeypatch.setattr(ring_study, "N_STEPS", 4)
    monkeypatch.setitem(ring_study.ROWS, "minimax", {"loss": "minimax", "lr_g": step_size})
    return "minimax, seed 0"


def tiny_architectures(monkeypatch, step_size):
    monkeypatch.setattr(architecture_study, "N", 400)
    for setting, value in {"n_steps": 2, "lr_g": step_size}.items():
        monkeypatch.setitem(architecture_study.COMMON, setting, value)
    return "MLP, seed 0"


def tiny_images(monkeypatch, step_size):
    asked = image_study.job(
        "final", "ULA", partial(ula_chains, step_size=step_size, n_steps=1), 40, kind="line"
    )
    monkeypatch.setattr(image_study, "jobs", lambda: {"image/cifar10": {"small": asked}})
    return "small"


def tiny_digits(monkeypatch, step_size):
    for name, value in {"CHAINS": 200, "N": 40, "MARKS": (2, 3), "ANNEALING": 3}.items():
        monkeypatch.setattr(digit_energy, name, value)
    few = digit_energy.COMMON | {"updates": 2, "step_size": step_size}
    monkeypatch.setattr(digit_energy, "COMMON", few)
    return "replay, seed 0"


TINY = {
    digit_energy: tiny_digits,
    toy_study: tiny_toy,
    ebgan_study: tiny_ebgan,
    ring_study: tiny_ring,
    image_study: tiny_images,
    architecture_study: tiny_architectures,
}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__.split(".")[-1])
def test_a_changed_setting_runs_a_job_again_and_an_unchanged_one_does_not(recipe, calls, monkeypatch, capsys):
    def work(settings):
        calls.append(settings)
        return recipe.work(settings)

    for step_size, runs in ((0.02, 1), (0.02, 1), (0.03, 2)):
        word = TINY[recipe](monkeypatch, step_size=step_size)
        capsys.readouterr()
        run_jobs(recipe.__doc__, recipe.jobs(), work, [word])
        assert len(calls) == runs * (2 if recipe is ebgan_study else 1)  # two seeds
        assert ("0.02 -> 0.03" in capsys.readouterr().out) == (runs == 2)
    stored = [
        entry for path in studies.STUDIES.rglob("*.json") for entry in json.loads(path.read_text()).values()
    ]
    assert plain(calls[-1]) in [entry["settings"] for entry in stored]


def test_the_command_line_picks_jobs_and_drops_what_none_asks_for(calls, capsys):
    jobs = {"s": {name: {"name": name} for name in "abcd"}}

    def work(settings):
        calls.append(settings["name"])
        return 1

    update("s", lambda _: {"old": {"settings": {}, "made_with": {}, "result": 0}})
    run_jobs("Title.", jobs, work, ["s/b"])
    assert calls == ["b"] and set(read("s")) == {"b"} and "dropped" in capsys.readouterr().out
    run_jobs("Title.", jobs, work, ["s/d", "s/b"])
    run_jobs("Title.", jobs, work, [])
    assert calls == ["b", "d", "a", "c"]
    run_jobs("Title.", jobs, work, ["--list"])
    assert capsys.readouterr().out.split() == ["s/a", "s/b", "s/c", "s/d"] and len(calls) == 4
    with pytest.raises(SystemExit):
        run_jobs("Title.", jobs, work, ["z"])


# ------------------------------------------------------------------------------------------ the judge


class Pixels:
    """An extractor whose features are twelve pixels."""

    def extract(self, images):
        return images.flatten(1)[:, :12].float(), None


def test_the_judge_is_calm_about_real_images_and_sees_a_shift():
    draw = torch.randint(0, 200, (600, 3, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    features = draw[:400].flatten(1).float()
    moments = Moments.from_features(features)
    reference = Reference("pixels", "none", "noise", "train", moments, features)
    same, shifted = (judge(x.float() / 127.5 - 1, Pixels(), reference) for x in (draw[400:], draw[400:] + 50))
    assert abs(same["kernel_distance"]) < 3 * same["kernel_distance_error"]
    assert shifted["kernel_distance"] > 5 * shifted["kernel_distance_error"]
    expected = frechet_distance(moments, Moments.from_features((draw[400:] + 50).flatten(1).float()))
    assert shifted["frechet_distance"] == pytest.approx(expected, rel=1e-6)
    assert shifted["precision"] < 0.5 * same["precision"] and shifted["recall"] < 0.5 * same["recall"]
    assert same["spread"] == pytest.approx(1, abs=0.1) == shifted["spread"]


def test_the_jackknife_of_a_mean_is_its_standard_error():
    rows = torch.randn(400, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    error = jackknife(lambda part: part.mean(), rows, n_blocks=400)
    assert error == pytest.approx((rows.std() / 20).item(), rel=1e-9)
