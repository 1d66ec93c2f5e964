"""GAN, EBGAN and EBGAN-PT over many settings: `python -m data.recipes.ebgan_study [part ...]`.

Four parts, each one JSON file below `data/studies/ebgan/`; each row holds its CPU seconds on one thread:

    grid     8x8 digits, 16 architectures x 2 seeds for each of the three methods
    margins  8x8 digits, EBGAN with margins from 0.5 to 32, and one that decays
    ring     eight Gaussians on a circle, two depths of D x 5 seeds for each of the three methods
    labels   classifying the digits with 10, 20 or 100 labels, with and without EBGAN's samples, 8 seeds

Rows are written as they are made, so an interrupted study goes on where it was. Notebook 05 reads them.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from tqdm.auto import tqdm

from utils.checkpoints import write_atomically
from utils.config import DATA
from utils.images import load_digits, to_unit
from utils.losses import ebgan, pulling_away
from utils.metrics.images import Moments, frechet_distance, inception_score
from utils.metrics.toy import high_quality_share, mode_balance, modes_recovered
from utils.models.autoencoder import AutoencoderEnergy
from utils.models.mlp import MLPDiscriminator, MLPGenerator
from utils.toy import gaussian_ring
from utils.training import TrainConfig, TrainResult, train_gan

STUDY = DATA / "studies" / "ebgan"
METHODS = {"GAN": ("non_saturating", 0.0), "EBGAN": ("ebgan", 0.0), "EBGAN-PT": ("ebgan", 0.1)}
DIGIT_SHAPE, N_TRAIN, N_SAMPLES = (1, 8, 8), 1437, 2000
RING = gaussian_ring(n_modes=8, radius=2.0, std=0.1)
ARMS = ("labels only", "auto-encoder", "EBGAN")  # of the part `labels`


@dataclass(frozen=True)
class Setting:
    """One training run; several `margins` are taken one after the other, for equal numbers of steps."""

    method: str = "EBGAN"
    data: str = "digits"  # or "ring"
    depth_g: int = 2
    depth_d: int = 2
    width_g: int = 128
    width_d: int = 128
    margins: tuple[float, ...] = (5.0,)
    n_steps: int = 800
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is unknown; choose one of {', '.join(METHODS)}")
        if self.data not in ("digits", "ring"):
            raise ValueError(f"data={self.data!r} is unknown; use 'digits' or 'ring'")


def ring_setting(method: str = "EBGAN", seed: int = 0, n_steps: int = 1500, margin: float = 0.5) -> Setting:
    """The networks that the ring gets in the pictures; its energies are below 1, hence the small margin."""
    return Setting(method, "ring", 3, 3 if method == "GAN" else 2, 64, 64, (margin,), n_steps, seed)


@dataclass(frozen=True)
class Digits:
    """The digits, split at random once: floats in [-1, 1] and labels."""

    train: Tensor  # (1437, 1, 8, 8)
    train_labels: Tensor
    test: Tensor  # (360, 1, 8, 8)
    test_labels: Tensor


@cache
def split_digits(seed: int = 0) -> Digits:
    """1,437 digits to train with and 360 held out, at random by `seed`."""
    digits = load_digits()
    order = torch.randperm(len(digits.images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:N_TRAIN], order[N_TRAIN:]
    x = to_unit(digits.images)
    return Digits(x[train], digits.labels[train], x[test], digits.labels[test])


@cache
def digit_classifier() -> MLPClassifier:
    """p(y | x) of the scores: 64 hidden units, fitted to the training digits of `split_digits()`."""
    digits = split_digits()
    network = MLPClassifier((64,), alpha=1.0, max_iter=300, random_state=0)
    return network.fit(digits.train.flatten(1).numpy(), digits.train_labels.numpy())


def modified_score(probabilities: Tensor) -> float:
    """E_x KL(p(y) || p(y|x)) in nats for posteriors (n, k), all positive (Zhao et al., 2017, section 4.1).

    p(y) is the mean of the rows. The order differs from the Inception score's: a row that is nearly certain
    counts by -log of its smallest probabilities, so there is no upper bound.
    """
    p = probabilities.double()
    if p.ndim != 2 or not (p > 0).all():
        raise ValueError("probabilities must be (n, k) with positive entries, the posteriors of a classifier")
    marginal = p.mean(0)
    return (marginal * (marginal.log() - p.log())).sum(1).mean().item()


def digit_scores(x: Tensor) -> dict[str, float]:
    """Scores of images (n, 1, 8, 8) in [-1, 1]; the Fréchet distance is to held-out pixels."""
    pixels = x.flatten(1)
    posteriors = torch.from_numpy(digit_classifier().predict_proba(pixels.numpy())).double()
    held_out = Moments.from_features(split_digits().test.flatten(1))
    return {
        "modified_score": modified_score(posteriors.clamp_min(1e-12)),
        "classifier_score": inception_score(posteriors, splits=1)[0],
        "frechet_distance": frechet_distance(Moments.from_features(pixels), held_out),
        "classes": len(posteriors.argmax(1).unique()),
    }


def ring_scores(x: Tensor) -> dict[str, float | None]:
    """Scores of points (n, 2) against the ring; `mode_balance`, 0 at best, is None if no point is good."""
    balance = mode_balance(x, RING)
    return {
        "high_quality_share": high_quality_share(x, RING),
        "modes_recovered": modes_recovered(x, RING),
        "mode_balance": None if math.isnan(balance) else balance,
    }


def build(setting: Setting) -> tuple[MLPGenerator, nn.Module]:
    """New networks with the initial weights of the setting's seed."""
    torch.manual_seed(setting.seed)
    on_ring = setting.data == "ring"
    shape = (2,) if on_ring else DIGIT_SHAPE
    G = MLPGenerator(2 if on_ring else 16, setting.width_g, setting.depth_g, shape, bounded=not on_ring)
    family = MLPDiscriminator if setting.method == "GAN" else AutoencoderEnergy
    return G, family(setting.width_d, setting.depth_d, data_shape=shape)


def config_of(setting: Setting, stage: int = 0) -> TrainConfig:
    """The run of one stage, that is of one margin. Adam with 1e-3 as in the paper's grid on MNIST."""
    loss, weight = METHODS[setting.method]
    last = stage == len(setting.margins) - 1
    return TrainConfig(
        loss=loss,
        margin=setting.margins[stage],
        pulling_away_weight=weight,
        n_steps=setting.n_steps // len(setting.margins),
        batch_size=128 if setting.data == "ring" else 64,
        lr_g=1e-3,
        lr_d=1e-3,
        betas=(0.5, 0.9),
        decay_from=0.6 if last else 1.0,
        ema_decay=0.99,
        seed=setting.seed + 1000 * stage,
    )


def train(setting: Setting, D: nn.Module | None = None) -> TrainResult:
    """One run from scratch, 2 to 4 ms a step on one CPU core; `D` replaces the setting's discriminator."""
    G, own = build(setting)
    draw = RING.sample if setting.data == "ring" else draw_digits
    for stage in range(len(setting.margins)):
        result = train_gan(G, own if D is None else D, draw, config_of(setting, stage), progress=False)
    result.G_ema.eval()
    result.D.eval()
    return result


def draw_digits(n: int, generator: torch.Generator) -> Tensor:
    """n training digits, with replacement."""
    return split_digits().train[torch.randint(N_TRAIN, (n,), generator=generator)]


@torch.no_grad()
def draw_samples(G: nn.Module, n: int = N_SAMPLES, seed: int = 100) -> Tensor:
    """n samples of a generator, the same latents for each."""
    return G(torch.randn(n, G.latent_dim, generator=torch.Generator().manual_seed(seed)))


def run(setting: Setting) -> dict:
    """Train one setting and score `N_SAMPLES` samples of its averaged generator."""
    started = time.process_time()
    x = draw_samples(train(setting).G_ema)
    scores = ring_scores(x) if setting.data == "ring" else digit_scores(x)
    return asdict(setting) | scores | {"cpu_seconds": round(time.process_time() - started, 1)}


# -- few labels ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FewLabels:
    """A classifier on the encoder of an auto-encoder, trained on a few labels and all training images."""

    arm: str
    n_labels: int
    seed: int
    n_steps: int = 500
    weight: float = 0.1  # of the energy's loss beside the cross-entropy
    margin: float = 5.0  # at the start; it falls linearly to 0

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise ValueError(f"arm={self.arm!r} is unknown; choose one of {', '.join(ARMS)}")
        if self.n_labels < 10 or self.n_labels % 10:
            raise ValueError(f"n_labels={self.n_labels} must be a multiple of 10: as many of each digit")


def energy_loss(job: FewLabels, step: int, D: nn.Module, real: Tensor, fake: Tensor | None) -> Tensor:
    """What the unlabelled images add: their energy, and in EBGAN's arm the margin loss on samples."""
    if fake is None:
        return D(real).mean()
    margin = max(job.margin * (1 - step / job.n_steps), 1e-6)
    return ebgan(margin).discriminator(*D(torch.cat([real, fake])).chunk(2))


def few_labels(job: FewLabels) -> dict:
    """Train one classifier; its error in per cent is on the 360 held-out digits of the seed's split."""
    started = time.process_time()
    digits = split_digits(job.seed)
    generator = torch.Generator().manual_seed(job.seed)
    picked = torch.cat([(digits.train_labels == c).nonzero()[: job.n_labels // 10, 0] for c in range(10)])
    torch.manual_seed(job.seed)
    D, head = AutoencoderEnergy(128, 2, 64, DIGIT_SHAPE), nn.Linear(64, 10)
    G = MLPGenerator(16, 128, 2, DIGIT_SHAPE, bounded=True)
    optim_d = torch.optim.Adam([*D.parameters(), *head.parameters()], 1e-3)
    optim_g = torch.optim.Adam(G.parameters(), 1e-3, (0.5, 0.9))

    def draw_fake() -> Tensor:
        return G(torch.randn(64, G.latent_dim, generator=generator))

    for step in range(job.n_steps):
        batch = picked[torch.randint(len(picked), (32,), generator=generator)]
        loss = F.cross_entropy(head(D.features(digits.train[batch])), digits.train_labels[batch])
        if job.arm != "labels only":
            real = digits.train[torch.randint(N_TRAIN, (64,), generator=generator)]
            fake = draw_fake().detach() if job.arm == "EBGAN" else None
            loss = loss + job.weight * energy_loss(job, step, D, real, fake)
        optim_d.zero_grad()
        loss.backward()
        optim_d.step()
        if job.arm == "EBGAN":
            fake = draw_fake()
            optim_g.zero_grad()
            (D(fake).mean() + 0.1 * pulling_away(D.features(fake))).backward()
            optim_g.step()
    with torch.no_grad():
        wrong = head(D.features(digits.test)).argmax(1) != digits.test_labels
    error = 100 * wrong.float().mean().item()
    return asdict(job) | {"error": error, "cpu_seconds": round(time.process_time() - started, 1)}


# -- the study ----------------------------------------------------------------------------------------

ARCHITECTURES = tuple(product((2, 4), (2, 4), (64, 256), (64, 256)))  # depth of G, D; width of G, D
MARGINS = ((0.5,), (1.0,), (2.0,), (4.0,), (8.0,), (16.0,), (32.0,), (8.0, 4.0, 2.0, 1.0))  # the last decays
GRID_JOBS = [
    Setting(method, "digits", *architecture, seed=seed)
    for seed, architecture, method in product(range(2), ARCHITECTURES, METHODS)
]
RING_JOBS = [ring_setting(method, seed) for seed, method in product(range(5), METHODS)]
RING_JOBS += [replace(job, depth_d=5 - job.depth_d) for job in RING_JOBS]  # 2 and 3 for each method
PARTS = {
    "grid": (GRID_JOBS, run),
    "margins": ([Setting(margins=m, seed=s) for m, s in product(MARGINS, range(2))], run),
    "ring": (RING_JOBS, run),
    "labels": ([FewLabels(arm, n, s) for s, n, arm in product(range(8), (10, 20, 100), ARMS)], few_labels),
}


def stored(part: str) -> Path:
    """File of one part."""
    if part not in PARTS:
        raise ValueError(f"part={part!r} is unknown; choose one of {', '.join(PARTS)}")
    return STUDY / f"{part}.json"


def load_study(part: str) -> list[dict]:
    """The stored rows of one part: the settings, the scores and the CPU seconds of each run."""
    path = stored(part)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all if none")
    args = parser.parse_args(arguments)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    torch.set_num_threads(1)
    digit_classifier()  # so that its time counts for no run
    for part in args.parts or PARTS:
        jobs, work = PARTS[part]
        rows = load_study(part)
        for job in tqdm(jobs[len(rows) :], desc=part, initial=len(rows), total=len(jobs)):
            rows.append(work(job))
            text = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"
            write_atomically(stored(part), lambda path, text=text: path.write_text(text, encoding="utf-8"))
        print(f"{part}: {len(rows)} runs, {sum(row['cpu_seconds'] for row in rows):.0f} CPU seconds")


if __name__ == "__main__":
    main()
