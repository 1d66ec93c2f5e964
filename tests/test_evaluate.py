"""Evaluation by several processes: the same result as by one, resumed after a stop, with clear errors."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import multiprocessing, nn

from data.recipes import evaluate as recipe
from data.recipes.cifar10_study import Job
from data.recipes.evaluate import block_seed, evaluate, main
from utils.config import ROOT
from utils.images import to_unit
from utils.metrics.extractors import Extractor
from utils.metrics.images import Moments, Reference, evaluate_features, inception_score
from utils.metrics.merging import MergedClassifierScore, MergedMoments

SIDE, DIM, CLASSES = 4, 6, 3
JOB = Job("evaluate", "toy", True, "ula", 0.1, (0, 2), n=43, seed=5)


class ToyGenerator(nn.Module):
    latent_dim = 5

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(self.latent_dim, 3 * SIDE**2), nn.Tanh())

    def forward(self, z):
        return self.net(z).view(-1, 3, SIDE, SIDE)


class ToyFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(3 * SIDE**2, DIM), nn.Linear(DIM, CLASSES)

    def forward(self, images):
        features = self.linear(to_unit(images).flatten(1))
        return features, self.head(features).softmax(dim=1)


def toy():
    """G, logit, extractor and reference, the same in every process."""
    torch.manual_seed(0)
    G, logit = ToyGenerator(), nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 1), nn.Flatten(0))
    extractor = Extractor("toy", DIM, ToyFeatures(), "none")
    features = torch.randn(30, DIM)
    reference = Reference("toy", "none", "data", "test", Moments.from_features(features), features)
    return G.eval().requires_grad_(False), logit.eval().requires_grad_(False), extractor, reference


def evaluate_toy(folder: Path, job: Job = JOB, **settings) -> list[dict]:
    settings = {"block_size": 10, "precision": "float32", "progress": False} | settings
    G, logit, extractor, reference = toy()
    return evaluate(G, logit, job, extractor, reference, folder, **settings)


def blocks(folder: Path) -> dict[str, dict]:
    return {path.name: load_file(path) for path in sorted(folder.glob("block-*.safetensors"))}


# ------------------------------------------------------------------------------------------- the metrics


def test_merged_metrics_are_those_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    features = 100 + torch.randn(57, DIM, generator=generator)
    probabilities = torch.randn(57, CLASSES, generator=generator).softmax(dim=1)
    parts = [MergedMoments(DIM) for _ in range(3)]
    scores = [MergedClassifierScore(57, CLASSES, splits=4) for _ in range(3)]
    for i, first in enumerate(range(0, 57, 9)):  # the third part of three gets the blocks 2 and 5
        parts[i % 3].update(features[first : first + 9])
        scores[i % 3].update(probabilities[first : first + 9], first)
    merged = MergedMoments(DIM).merge_state(parts).compute()
    whole = Moments.from_features(features)
    assert merged.count == 57
    assert torch.allclose(merged.mean, whole.mean, rtol=1e-14)
    assert torch.allclose(merged.cov, whole.cov, rtol=1e-12, atol=1e-13)
    score = MergedClassifierScore(57, CLASSES, splits=4).merge_state(scores).compute()
    assert score == pytest.approx(inception_score(probabilities, splits=4), rel=1e-12)


def test_metrics_refuse_what_they_cannot_count():
    with pytest.raises(ValueError, match="no features"):
        MergedMoments(DIM).merge_state([MergedMoments(DIM)]).compute()
    with pytest.raises(ValueError, match=r"features must be \(n, 6\)"):
        MergedMoments(DIM).update(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="splits=10 must lie between 1 and n=9"):
        MergedClassifierScore(9, CLASSES)
    score = MergedClassifierScore(20, CLASSES)
    with pytest.raises(ValueError, match="rows 15 to 24 do not lie below n=20"):
        score.update(torch.full((10, CLASSES), 1 / CLASSES), first=15)
    with pytest.raises(ValueError, match="10 of n=20 rows were given"):
        score.update(torch.full((10, CLASSES), 1 / CLASSES), first=0).compute()


# ---------------------------------------------------------------------------------------- one or several


def test_rows_agree_with_the_measures_of_all_features_at_once(tmp_path):
    rows = evaluate_toy(tmp_path)
    _, _, extractor, reference = toy()
    for row in rows:
        stored = blocks(tmp_path).values()
        features = torch.cat([block[f"features {row['n_steps']}"] for block in stored])
        probabilities = torch.cat([block[f"probabilities {row['n_steps']}"] for block in stored])
        whole = evaluate_features(features, probabilities, extractor, reference)
        assert row["n"] == len(features) == 43
        for key in ("frechet_distance", "classifier_score", "classifier_score_std"):
            assert row[key] == pytest.approx(whole[key], rel=1e-9), key
        # both are unbiased; blocks of 10 here, subsets of 4 there
        error = (row["kernel_distance_error"] ** 2 + whole["kernel_distance_error"] ** 2) ** 0.5
        assert abs(row["kernel_distance"] - whole["kernel_distance"]) < 4 * error
    assert [row["n_steps"] for row in rows] == [0, 2]
    assert rows[0]["frechet_distance"] != rows[1]["frechet_distance"]


SIZES = (43, 9)  # of 9 chains, one block, the second worker gets none


def worker(rank: int, workers: int, folder: Path) -> None:
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    torch.set_num_threads(1)
    rows = [evaluate_toy(folder / f"two{n}", replace(JOB, n=n)) for n in SIZES]
    (folder / f"rows{rank}.json").write_text(json.dumps(rows))
    dist.destroy_process_group()


def assert_same(rows: list[dict], others: list[dict], rel: float = 1e-9) -> None:
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    for row, other in zip(rows, others, strict=True):
        for key, value in row.items():
            same = pytest.approx(value, rel=rel, abs=1e-9) if isinstance(value, float) else value
            assert other[key] == same, key


def test_two_processes_give_what_one_gives(tmp_path):
    multiprocessing.spawn(worker, (2, tmp_path), nprocs=2)
    for i, n in enumerate(SIZES):
        alone = evaluate_toy(tmp_path / f"one{n}", replace(JOB, n=n))
        for rank in range(2):
            assert_same(alone, json.loads((tmp_path / f"rows{rank}.json").read_text())[i])
        made, expected = blocks(tmp_path / f"two{n}"), blocks(tmp_path / f"one{n}")
        assert made.keys() == expected.keys() and len(made) == -(-n // 10)
        for name, block in made.items():  # not only the averages: every chain
            for key, value in block.items():
                assert torch.allclose(value, expected[name][key], rtol=1e-5, atol=1e-6), (name, key)


@pytest.mark.slow
def test_torchrun_on_the_stored_gan_gives_what_one_process_gives(tmp_path, monkeypatch):
    def arguments(name: str) -> list[str]:
        places = ["--folder", str(tmp_path / name), "--output", str(tmp_path / f"{name}.json")]
        return [*"-n 40 --block-size 10 --steps 1 --precision float32".split(), *places]

    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 -m data.recipes.evaluate"
    result = subprocess.run(
        [sys.executable, *torchrun.split(), *arguments("two")],
        cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COURSE_DEVICE": "cpu"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Fréchet distance" in result.stdout and result.stdout.count("written") == 1
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    main(arguments("one"))
    two, one = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("two", "one"))
    # 40 samples leave eigenvalues of 1e-16 in the covariance, of which the distance takes the square root
    assert_same(one["rows"], two["rows"], rel=1e-6)
    assert (two["protocol"].pop("workers"), one["protocol"].pop("workers")) == (2, 1)
    for key in ("seconds", "threads"):
        assert two["protocol"].pop(key) > 0 and one["protocol"].pop(key) > 0
    assert two["protocol"] == one["protocol"]
    assert {"n", "seed", "step_size", "marks", "logit", "checkpoints", "extractor"} <= one["protocol"].keys()


# ------------------------------------------------------------------------------------------------ resume


def test_a_stopped_run_makes_only_what_is_missing(tmp_path, monkeypatch):
    unbroken = evaluate_toy(tmp_path / "unbroken")
    make, made = recipe.make_block, []

    def stop_at_the_third(G, logit, extractor, job, precision):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(job.seed)
        return make(G, logit, extractor, job, precision)

    monkeypatch.setattr(recipe, "make_block", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate_toy(tmp_path / "run")
    assert len(blocks(tmp_path / "run")) == 2
    monkeypatch.setattr(recipe, "make_block", lambda *a: made.append(a[3].seed) or make(*a))
    assert evaluate_toy(tmp_path / "run") == unbroken
    assert made == [block_seed(5, k) for k in range(5)]  # each block once
    assert evaluate_toy(tmp_path / "run") == unbroken and len(made) == 5


def test_a_larger_n_takes_over_the_whole_blocks(tmp_path, monkeypatch):
    evaluate_toy(tmp_path / "run")
    make, made = recipe.make_block, []
    monkeypatch.setattr(recipe, "make_block", lambda *a: made.append(a[3].n) or make(*a))
    larger = replace(JOB, n=60)
    rows = evaluate_toy(tmp_path / "run", larger)
    assert made == [10, 10]  # block 4 had 3 chains only, block 5 is new
    assert rows == evaluate_toy(tmp_path / "fresh", larger)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"", lambda data: b"\xff" * 50])
def test_a_damaged_block_is_made_again(damage, tmp_path):
    rows = evaluate_toy(tmp_path)
    path = tmp_path / "block-00001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match=r"block-00001.safetensors is damaged .* making it again"):
        assert evaluate_toy(tmp_path) == rows
    assert path.read_bytes() == whole


def test_a_full_disk_loses_no_finished_block(tmp_path, monkeypatch):
    save, calls = recipe.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(recipe, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate_toy(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "block-00000.safetensors",
        "block-00001.safetensors",
        "settings.json",
    ]


def test_blocks_of_other_settings_are_not_mixed(tmp_path):
    evaluate_toy(tmp_path)
    with pytest.raises(ValueError, match=r"other settings of \['block_size'\].*delete that folder.*--folder"):
        evaluate_toy(tmp_path, block_size=20)
    with pytest.raises(ValueError, match=r"\['gan'\]"):
        evaluate_toy(tmp_path, origin={"gan": "another"})


# ------------------------------------------------------------------------------------------ few and wrong


def test_few_samples_leave_out_what_they_cannot_give(tmp_path):
    first, _ = evaluate_toy(tmp_path, replace(JOB, n=9))
    assert "frechet_distance" in first
    assert "kernel_distance" not in first and "classifier_score" not in first


def test_blocks_have_seeds_of_their_own():
    assert len({block_seed(seed, k) for seed in range(20) for k in range(100)}) == 2000


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--logit nonsense", r"kind='nonsense' is unknown; choose one of raw, head, continued"),
        ("--gan nobody-gan", r"no checkpoint 'nobody-gan' in .*; available: .*cifar10-gan"),
        ("--n 0", "n=0 must be at least 2"),
        ("--n -5", "n=-5 must be at least 2"),
        ("--steps -1", r"steps=\[-1\]"),
        ("--step-size 0", "step_size=0.0 must be positive"),
        ("--seed -1", "seed=-1 must be 0 or more"),
        ("--block-size 1", "block_size=1 must be at least 2"),
        ("--split test", r"no statistics at .*cifar10-test-cifar-10-classifier.*reference_statistics"),
    ],
)
def test_errors_are_one_line_that_names_the_argument(arguments: str, message: str, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    with pytest.raises(SystemExit, match=message):
        main([*arguments.split(), "--folder", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_the_worker_s_number_chooses_the_gpu(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("COURSE_DEVICE", "cuda")
    for rank, index in ("0", 0), ("1", 1), ("2", 0):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert recipe.pick_worker_device() == torch.device("cuda", index) == chosen[-1]
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert recipe.pick_worker_device() == torch.device("cpu")
