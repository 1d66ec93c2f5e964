"""DDLS on CIFAR-10 beside its rivals at equal cost: `python -m data.recipes.beyond_study`.

Every method may use about 40 passes a sample, forward and backward counted one each. Each job is a file
below `data/studies/beyond/`; an interrupted study goes on where it was. Notebook 12 reads it.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from utils.checkpoints import write_atomically
from utils.config import DATA, pick_device
from utils.images import to_uint8
from utils.metrics.extractors import get_extractor
from utils.metrics.images import (
    Moments,
    Reference,
    frechet_distance,
    load_reference,
    precision_recall,
    squared_mmd,
)
from utils.models.layers import bake
from utils.samplers import hmc, mala, ula
from utils.selection import (
    LatentGAN,
    Samples,
    ex2mcmc,
    generator_only,
    iterated_resampling,
    mcmc,
    metropolis_hastings,
)
from utils.transport import discriminator_optimal_transport, gradient_flow
from utils.zoo import load_gan, load_logit

STUDY = DATA / "studies" / "beyond"
N, SEEDS = 500, (0, 1)  # samples of a job, and the seeds it may be run with
CHUNK = 100  # images at once

# a gradient is two passes, forward and backward; nearly all methods need one pass more for the last image
EQUAL_COST: dict[str, Callable[..., Samples]] = {
    "generator": generator_only,
    "ULA": partial(mcmc, kernel=ula(0.1), n_steps=19),
    "MALA": partial(mcmc, kernel=mala(0.03), n_steps=19),
    "HMC": partial(mcmc, kernel=hmc(0.17, 3), n_steps=6),
    "MH-GAN": partial(metropolis_hastings, n_steps=39),
    "i-SIR": partial(iterated_resampling, n_particles=5, n_steps=10),
    "Ex2MCMC": partial(mcmc, kernel=ex2mcmc(0.03, n_particles=5, n_moves=2), n_steps=4),
    "DOT, K estimated": partial(discriminator_optimal_transport, step_size=0.1, n_steps=20),
    "DOT, K = 1": partial(discriminator_optimal_transport, step_size=0.1, n_steps=20, lipschitz=1.0),
    "DG-flow": partial(gradient_flow, step_size=0.1, temperature=0.01, n_steps=20),
}


def truncated_normal(n: int, dim: int, cut: float, generator: torch.Generator) -> Tensor:
    """n standard normal vectors conditioned on all coordinates being at most `cut` in size, (n, dim)."""
    # the inverse of the distribution function, at numbers uniform between its values at the two cuts
    low = torch.special.ndtr(torch.tensor(-cut, dtype=torch.float64))
    u = low + (1 - 2 * low) * torch.rand(n, dim, generator=generator, dtype=torch.float64)
    return torch.special.ndtri(u).float()


def jackknife(statistic: Callable[[Tensor], Tensor], rows: Tensor, n_blocks: int = 20) -> float:
    """Standard error of a statistic of rows (n, k) by leaving out one block of rows after the other."""
    blocks = torch.arange(len(rows)) * n_blocks // len(rows)
    values = torch.stack([statistic(rows[blocks != b]) for b in range(n_blocks)])
    return ((n_blocks - 1) * values.var(correction=0)).sqrt().item()


def judge(images: Tensor, extractor, reference: Reference) -> dict[str, float]:
    """Measures of float images (n, 3, s, s) by the CIFAR-10 classifier, and errors."""
    features = extractor.extract(to_uint8(images))[0].double()
    real = reference.features.double()
    same = real[: len(features)]  # precision and recall need sets of one size
    precision, recall = precision_recall(same, features)

    def distance(rows: Tensor) -> Tensor:
        return squared_mmd(rows, real)

    return {
        "n": len(features),
        "kernel_distance": distance(features).item(),
        "kernel_distance_error": jackknife(distance, features),
        "frechet_distance": frechet_distance(reference.moments, Moments.from_features(features)),
        "precision": precision,
        "recall": recall,
        "spread": (features.var(0).sum() / reference.moments.cov.trace()).item(),  # 1 for real images
    }


def run_cost(name: str, seed: int, networks: tuple[nn.Module, nn.Module], scores: tuple) -> list[dict]:
    """One method: its samples' measures, and its passes a sample."""
    gan = LatentGAN(*networks, chunk_size=CHUNK)
    samples = EQUAL_COST[name](gan, N, torch.Generator().manual_seed(seed))
    cost = {"forwards": samples.forwards / N, "gradients": samples.gradients / N, "info": samples.info}
    return [judge(samples.x, *scores) | cost]


def class_energy(
    G: nn.Module, logit: nn.Module, log_posterior: Callable[[Tensor], Tensor], y: Tensor, weight: float
) -> Callable[[Tensor], Tensor]:
    """E(z) - weight * log p(y | G(z)) for chain i and class y[i], a callable for all chains together."""

    def energy(z: Tensor) -> Tensor:
        x = G(z)
        prior = 0.5 * z.square().sum(1)
        return prior - logit(x) + weight * F.nll_loss(log_posterior(x), y, reduction="none")

    return energy


def load_study() -> list[dict]:
    """One row for each method and seed that has been run."""
    return [row for p in sorted(STUDY.glob("cost-*.json")) for row in json.loads(p.read_text())]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=EQUAL_COST, nargs="*", default=list(EQUAL_COST))
    parser.add_argument("--seed", type=int, choices=SEEDS, nargs="*", default=[0])
    args = parser.parse_args(arguments)
    device = pick_device()
    G, D = load_gan(device=device)
    networks = bake(G), load_logit("continued-r1", D)
    extractor = get_extractor("cifar10-classifier", device)
    scores = extractor, load_reference(extractor, "train")
    wanted = [(name, seed) for seed in args.seed for name in args.method]
    for name, seed in tqdm(wanted, unit="job"):
        slug = "".join(c if c.isalnum() else "-" for c in name.lower())
        path = STUDY / f"cost-{slug}-seed{seed}.json"
        if not path.exists():
            rows = run_cost(name, seed, networks, scores)
            rows = [{"part": "cost", "name": name, "seed": seed} | row for row in rows]
            text = json.dumps(rows, indent=1) + "\n"
            write_atomically(path, lambda p, text=text: p.write_text(text))


if __name__ == "__main__":
    main()
