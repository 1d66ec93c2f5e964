"""Losses, regularisers, batches and optimisers on a ring of eight: `python -m data.recipes.ring_study`.

500 steps at a learning rate that is meant to hurt, eight seeds a row. Notebook 03 reads the study `ring`.
"""

from dataclasses import asdict
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from data.recipes.study import Jobs, run_jobs
from utils.metrics.toy import energy_distance, high_quality_share, modes_recovered
from utils.models.mlp import MLPDiscriminator, MLPGenerator
from utils.toy import gaussian_ring
from utils.training import TrainConfig, TrainResult, train_gan

VERSION = 1  # of this file: raise it when a change alters results
N, N_DISTANCE, SEEDS, N_STEPS = 2500, 1000, range(8), 500
COMMON = {"lr_g": 5e-3, "lr_d": 5e-3, "decay_from": 1.0, "batch_size": 256, "ema_decay": 0.99}
R1 = {"r1_weight": 0.1, "r1_every": 4}
PAPER = {"d_steps": 5, "betas": (0.0, 0.9)}  # of WGAN-GP
CLIP = {"loss": "wasserstein", "weight_clip": 0.1}
PENALTY = {"loss": "wasserstein", "gradient_penalty_weight": 1.0}

ROWS: dict[str, dict] = {  # what differs from COMMON and from TrainConfig's defaults
    "minimax": {"loss": "minimax"},
    "non-saturating": {},
    "batch 64": {"batch_size": 64},
    "batch 16": {"batch_size": 16},
    "lr D / 5": {"lr_d": 1e-3},
    "lr D x 4": {"lr_d": 2e-2},
    "lr G / 4": {"lr_g": 1.25e-3},
    "momentum 0": {"betas": (0.0, 0.999)},
    "R1": R1,
    "R1, batch 16": R1 | {"batch_size": 16},
    "R1, momentum 0.9": R1 | {"betas": (0.9, 0.999)},
    "R1, lr G / 4": R1 | {"lr_g": 1.25e-3},
    "least squares": {"loss": "least_squares"},
    "hinge": {"loss": "hinge"},
    "hinge, spectral": {"loss": "hinge", "spectral": True},
    "clip": CLIP,
    "clip, 5 steps": CLIP | {"d_steps": 5},
    "clip, momentum 0": CLIP | {"betas": (0.0, 0.999)},
    "clip, betas": CLIP | {"betas": (0.0, 0.9)},
    "clip, both": CLIP | PAPER,
    "penalty": PENALTY,
    "penalty, both": PENALTY | PAPER,
}


class Scaled(nn.Module):
    """K d(x): a spectrally normalised D whose slope may reach K."""

    def __init__(self, D: nn.Module, K: float = 10.0):
        super().__init__()
        self.D, self.K = D, K

    def forward(self, x: Tensor) -> Tensor:
        return self.K * self.D(x)


def one_run(row: str, seed: int) -> dict:
    """Settings of one training."""
    special = dict(ROWS[row])
    spectral = special.pop("spectral", False)
    config = TrainConfig(n_steps=N_STEPS, log_every=N_STEPS, seed=seed, **COMMON | special)
    target = partial(gaussian_ring, n_modes=8, radius=2.0, std=0.05)
    networks = {"width": 64, "depth": 2, "spectral": spectral, "target": target, "n": N}
    return {"row": row, "seed": seed} | networks | {"config": asdict(config), "version": VERSION}


def train(s: dict) -> TrainResult:
    """One run from scratch, 1 to 7 seconds on one CPU core."""
    torch.manual_seed(s["seed"])
    G = MLPGenerator(2, s["width"], s["depth"])
    D = MLPDiscriminator(s["width"], s["depth"], activation=nn.LeakyReLU, spectral=s["spectral"])
    D = Scaled(D) if s["spectral"] else D
    return train_gan(G, D, s["target"]().sample, TrainConfig(**s["config"]), progress=False)


def slope(D: nn.Module) -> float:
    """Largest gradient of d over 2,000 points of the square [-3, 3]^2."""
    x = 6 * torch.rand(2000, 2, generator=torch.Generator().manual_seed(4)) - 3
    x.requires_grad_(True)
    return torch.autograd.grad(D.eval()(x).sum(), x)[0].norm(dim=1).max().item()


def work(settings: dict) -> dict:
    """Modes, share of high quality and energy distance of G and of its running mean, and D's slope."""
    result, ring = train(settings), settings["target"]()
    z = torch.randn(N, 2, generator=torch.Generator().manual_seed(11))
    exact = ring.sample(N_DISTANCE, torch.Generator().manual_seed(12))
    found: dict = {"slope": slope(result.D)}
    with torch.no_grad():
        for name, G in (("last", result.G), ("mean", result.G_ema)):
            x = G(z)
            distance = energy_distance(x[:N_DISTANCE], exact)
            found[name] = {
                "modes": modes_recovered(x, ring),
                "share": high_quality_share(x, ring),
                "distance": distance,
                "width": x.std(0).max().item(),
            }
    return found


def jobs() -> Jobs:
    """The settings of all entries."""
    return {"ring": {f"{row}, seed {seed}": one_run(row, seed) for seed, row in product(SEEDS, ROWS)}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_jobs(__doc__, jobs(), work)
