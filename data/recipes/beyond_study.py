"""DDLS on CIFAR-10 beside its rivals at equal cost: `python -m data.recipes.beyond_study`.

Every method may use about 40 passes a sample, forward and backward counted one each. Notebook 12 reads the
study `beyond`.
"""

from collections.abc import Callable
from functools import cache, partial

import torch

from data.recipes.study import Jobs, chains, measure, networks, run_jobs
from utils.config import pick_device
from utils.metrics.extractors import get_extractor
from utils.metrics.images import load_reference
from utils.metrics.judges import judge
from utils.models.layers import bake
from utils.samplers import hmc, mala, ula
from utils.selection import (
    LatentGAN,
    Samples,
    ex2mcmc,
    generator_only,
    iterated_resampling,
    metropolis_hastings,
)
from utils.transport import discriminator_optimal_transport, gradient_flow
from utils.zoo import load_gan, load_logit

VERSION = 1  # of this file: raise it when a change alters results
N, SEEDS, LOGIT = 500, (0,), "continued-r1"
EXTRACTOR, SPLIT = "cifar10-classifier", "train"

# a gradient is two passes, forward and backward; nearly all methods need one pass more for the last image
EQUAL_COST: dict[str, Callable[..., Samples]] = {
    "generator": generator_only,
    "ULA": partial(chains, kernel=partial(ula, step_size=0.1), n_steps=19),
    "MALA": partial(chains, kernel=partial(mala, step_size=0.03), n_steps=19),
    "HMC": partial(chains, kernel=partial(hmc, step_size=0.17, n_leapfrog=3), n_steps=6),
    "MH-GAN": partial(metropolis_hastings, n_steps=39),
    "i-SIR": partial(iterated_resampling, n_particles=5, n_steps=10),
    "Ex2MCMC": partial(chains, kernel=partial(ex2mcmc, step_size=0.03, n_particles=5, n_moves=2), n_steps=4),
    "DOT, K estimated": partial(discriminator_optimal_transport, step_size=0.1, n_steps=20),
    "DOT, K = 1": partial(discriminator_optimal_transport, step_size=0.1, n_steps=20, lipschitz=1.0),
    "DG-flow": partial(gradient_flow, step_size=0.1, temperature=0.01, n_steps=20),
}


@cache
def latent_gan() -> LatentGAN:
    """The stored generator with its chosen logit."""
    G, D = load_gan(device=pick_device())
    return LatentGAN(bake(G), load_logit(LOGIT, D), chunk_size=100)


def work(settings: dict) -> dict:
    """One method: its samples' measures, and its passes a sample."""
    n = settings["n"]
    samples = settings["call"](latent_gan(), n, torch.Generator().manual_seed(settings["seed"]))
    cost = {"forwards": samples.forwards / n, "gradients": samples.gradients / n, "info": samples.info}
    extractor = get_extractor(EXTRACTOR)
    return judge(samples.x, extractor, load_reference(extractor, SPLIT)) | cost


def jobs() -> Jobs:
    """The settings of all entries."""
    shared = networks("cifar10") | {
        "logit": LOGIT,
        "n": N,
        "judge": measure(EXTRACTOR, SPLIT),
        "version": VERSION,
    }
    return {
        "beyond": {
            f"{method}, seed {seed}": {"method": method, "call": call, "seed": seed} | shared
            for method, call in EQUAL_COST.items()
            for seed in SEEDS
        }
    }


if __name__ == "__main__":
    run_jobs(__doc__, jobs(), work)
