"""Evaluation by several processes: what one gives, as every table is measured; resumed after a stop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import multiprocessing, nn

from data.recipes import evaluate as recipe
from data.recipes.evaluate import block_seed, evaluate, main
from utils.config import ROOT
from utils.energy import latent_energy
from utils.images import to_uint8, to_unit
from utils.metrics.extractors import Extractor
from utils.metrics.images import Moments, Reference, evaluate_features
from utils.samplers import mala, sample

SETTINGS = {
    "sampler": "ula", "step_size": 0.1, "steps": [0, 2], "precision": "float32", "block_size": 10,
}  # fmt: skip


class ToyFeatures(nn.Sequential):
    def forward(self, images):
        features = self[0](to_unit(images).flatten(1))
        return features, self[1](features).softmax(dim=1)


def toy():
    """G, logit, extractor and reference, the same in every process."""
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(5, 48), nn.Tanh(), nn.Unflatten(1, (3, 4, 4)))
    G.latent_dim = 5
    logit = nn.Sequential(nn.Flatten(), nn.Linear(48, 1), nn.Flatten(0))
    extractor = Extractor("toy", 6, ToyFeatures(nn.Linear(48, 6), nn.Linear(6, 3)), "none")
    features = torch.randn(30, 6)
    reference = Reference("toy", "none", "data", "test", Moments.from_features(features), features)
    return G.eval().requires_grad_(False), logit.eval().requires_grad_(False), extractor, reference


def evaluate_toy(folder: Path, n: int = 43, seed: int = 5, **changes) -> list[dict] | None:
    return evaluate(*toy(), n, seed, SETTINGS | changes, folder)


def blocks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/block-*"))


def assert_same(row: dict, other: dict, rel: float = 1e-6) -> None:
    assert row.keys() == other.keys()
    for key, value in row.items():
        assert other[key] == (pytest.approx(value, rel, 1e-9) if isinstance(value, float) else value), key


def test_keys_mean_what_they_mean_for_images_in_every_table(tmp_path):
    """Chains run here by hand, block by block, and one call of `evaluate_features`, give the same row."""
    settings = {"sampler": "mala", "step_size": 0.3, "steps": [3]}
    (row,) = evaluate_toy(tmp_path, 43, **settings)
    G, logit, extractor, reference = toy()
    chains = []
    for k, n in enumerate((10, 10, 10, 10, 3)):
        generator = torch.Generator().manual_seed(block_seed(5, k))
        z0 = torch.randn(n, 5, generator=generator)
        chains.append(sample(latent_energy(G, logit), z0, mala(0.3), 3, generator))
    z = torch.cat([chain.z for chain in chains])
    expected = evaluate_features(*extractor.extract(to_uint8(G(z))), extractor, reference)
    assert {"frechet_distance", "kernel_distance", "classifier_score"} <= expected.keys()
    for key, value in expected.items():  # up to the order of sums over blocks
        assert row[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6)), key
    assert torch.cat([chain.acceptance for chain in chains]).mean() < 1  # some proposals were rejected


def test_steps_measured_on_the_way_do_not_change_the_chains(tmp_path):
    _, last = evaluate_toy(tmp_path, steps=[1, 4], sampler="mala", step_size=0.5)
    (alone,) = evaluate_toy(tmp_path, steps=[4], sampler="mala", step_size=0.5)
    assert_same(last, alone)


def worker(rank: int, workers: int, folder: Path) -> None:
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    torch.set_num_threads(1)
    rows = [evaluate_toy(folder / "two", n) for n in (43, 9)]  # of 9 chains, one block, the second has none
    (folder / f"rows{rank}.json").write_text(json.dumps(rows))
    dist.destroy_process_group()


def test_two_processes_give_what_one_gives(tmp_path):
    multiprocessing.spawn(worker, (2, tmp_path), nprocs=2)
    alone = [evaluate_toy(tmp_path / "one", n) for n in (43, 9)]
    for rows, expected in zip(json.loads((tmp_path / "rows0.json").read_text()), alone, strict=True):
        for row, other in zip(rows, expected, strict=True):
            assert_same(row, other)
    assert json.loads((tmp_path / "rows1.json").read_text()) == [None, None]
    made, expected = blocks(tmp_path / "two"), blocks(tmp_path / "one")
    assert [p.name for p in made] == [p.name for p in expected] and len(made) == 5 + 1
    for path, other in zip(made, expected, strict=True):  # not only the averages: every chain
        for key, value in load_file(path).items():
            torch.testing.assert_close(value, load_file(other)[key], rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_torchrun_on_the_stored_gan_gives_what_one_process_gives(tmp_path, monkeypatch):
    def arguments(name: str) -> list[str]:
        return [*"-n 40 --block-size 10 --steps 1 --sampler mala".split(), "--folder", str(tmp_path / name)]

    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 -m data.recipes.evaluate"
    command = [sys.executable, *torchrun.split(), *arguments("two")]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "frechet_distance" in result.stdout and result.stdout.count("written") == 1
    main(arguments("one"))
    two, one = (
        json.loads(path.read_text()) for name in ("two", "one") for path in (tmp_path / name).glob("*.json")
    )
    assert two["protocol"] == one["protocol"]
    # 40 samples leave eigenvalues of 1e-16 in the covariance, of which the distance takes the square root
    assert_same(two["rows"][0], one["rows"][0])
    assert {"n", "seed", "step_size", "steps", "logit", "sha256", "precision"} <= one["protocol"].keys()


def test_a_stopped_run_makes_only_what_is_missing_and_a_larger_n_takes_it_over(tmp_path, monkeypatch):
    unbroken, larger = (evaluate_toy(tmp_path / "unbroken", n) for n in (43, 60))
    make, made = recipe.make_block, []

    def stop_at_the_third(*what):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(what[3:5])
        return make(*what)

    monkeypatch.setattr(recipe, "make_block", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate_toy(tmp_path / "run")
    assert len(blocks(tmp_path / "run")) == 2
    monkeypatch.setattr(recipe, "make_block", lambda *what: made.append(what[3:5]) or make(*what))
    assert evaluate_toy(tmp_path / "run") == unbroken
    assert made == [(n, block_seed(5, k)) for k, n in enumerate((10, 10, 10, 10, 3))]
    assert evaluate_toy(tmp_path / "run", 60) == larger
    assert made[5:] == [(10, block_seed(5, 4)), (10, block_seed(5, 5))]
    blocks(tmp_path / "run")[1].write_bytes(b"\xff" * 50)  # damaged: made again
    assert evaluate_toy(tmp_path / "run") == unbroken and len(made) == 8


def test_other_settings_and_seeds_have_other_blocks(tmp_path):
    rows = [evaluate_toy(tmp_path), evaluate_toy(tmp_path, step_size=0.2), evaluate_toy(tmp_path, seed=6)]
    assert len({row[1]["frechet_distance"] for row in rows}) == len(list(tmp_path.iterdir())) == 3
    assert len({block_seed(seed, k) for seed in range(20) for k in range(100)}) == 2000


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--logit nonsense", r"kind='nonsense' is unknown; choose one of line, classifier 30"),
        ("--gan nobody-gan", r"no checkpoint 'nobody-gan' in .*; available: .*cifar10-gan"),
        ("--n 1", "n=1"),
        ("--steps -1", r"steps=\[-1\]"),
        ("--block-size 0", "block_size=0"),
        ("--split train", r"no statistics at .*cifar10-train-cifar-10-classifier.*reference_statistics"),
    ],
)
def test_errors_are_one_line_that_names_the_argument(arguments: str, message: str, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    with pytest.raises(SystemExit, match=message):
        main([*arguments.split(), "--folder", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
