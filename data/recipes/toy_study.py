"""DDLS and its rivals on the 2-D GANs: `python -m data.recipes.toy_study 25-gaussians` (or `swiss-roll`).

For each quality and seed: the ladder of logits (raw, calibrated, refitted, nearly exact) under DDLS with
ULA and with MALA, then all rivals on the refitted logit. n samples each, all measured against the same
fresh points. Two foreign GANs (another loss, architecture and prior, trained by `foreign_toy`) go through
the same with the same settings. Notebook 07 reads the study `toy/25-gaussians`.
"""

import time
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import product

import torch
from torch import nn

from data.recipes import foreign_toy
from data.recipes.study import Jobs, chains, run_jobs
from utils.adapters import as_generator, as_logit
from utils.metrics.toy import summary
from utils.samplers import mala, ula
from utils.selection import (
    LatentGAN,
    Samples,
    generator_only,
    importance_resampling,
    metropolis_hastings,
    rejection,
)
from utils.studies import fingerprint
from utils.toy import TARGETS
from utils.transport import discriminator_optimal_transport, gradient_flow
from utils.zoo import SEEDS, STEPS, calibrate, checkpoint_of, load_toy_gan, nearly_exact, refit, samples_of

VERSION = 1  # of this file: raise it when a change alters results
N, N_REFERENCE = 2500, 5000  # samples of each method, and the points they are measured against
LADDER = {"raw": None, "calibrated": calibrate, "refitted": refit, "nearly exact": nearly_exact}
DDLS = {
    "DDLS, ULA": partial(chains, kernel=partial(ula, step_size=1e-3), n_steps=300),
    "DDLS, MALA": partial(chains, kernel=partial(mala, step_size=1e-3), n_steps=300),
}
# the settings are those of each paper where it names them, else the defaults of our functions
METHODS: dict[str, Callable[..., Samples]] = {
    "generator": generator_only,
    "DRS": rejection,
    "DRS, gamma at 80 %": partial(rejection, percentile=80.0),
    "MH-GAN": metropolis_hastings,
    "importance resampling": importance_resampling,
    "DOT": partial(discriminator_optimal_transport, space="data"),
    "DG-flow": gradient_flow,
} | DDLS


@lru_cache(maxsize=1)
def foreign_gan(recipe: str, target: str, seed: int) -> tuple[nn.Module, nn.Module]:
    """Generator and critic of a foreign recipe, as the course takes them."""
    netG, netD = foreign_toy.train(recipe, TARGETS[target].sample, seed)
    settings = foreign_toy.RECIPES[recipe]
    return as_generator(netG, prior=settings["prior"]), as_logit(netD, kind=settings["kind"])


@lru_cache(maxsize=1)  # jobs of one logit follow each other
def latent_gan(target: str, quality: str, seed: int, logit: str) -> LatentGAN:
    """A stored GAN, or a foreign one, with one logit of the ladder, each worth more than the one before."""
    draw_real = TARGETS[target].sample
    if quality in foreign_toy.RECIPES:
        G, D = foreign_gan(quality, target, seed)
    else:
        G, D = load_toy_gan(target, quality, seed)
    if logit == "calibrated":
        D = calibrate(D, draw_real, samples_of(G))
    elif logit == "refitted":
        D, _ = refit(G, draw_real, seed=seed)
    elif logit == "nearly exact":
        D = nearly_exact(G, TARGETS[target], seed=seed)
    return LatentGAN(G, D, chunk_size=5000)


def work(settings: dict) -> dict:
    """One row of the table: quality of n samples, their cost in network evaluations and seconds.

    Rejection gives up after 1,000 proposals a sample; its row then says so and holds nothing else.
    """
    target, seed, n = TARGETS[settings["target"]], settings["seed"], settings["n"]
    reference = target.sample(settings["n_reference"], torch.Generator().manual_seed(400))
    gan = latent_gan(*(settings[key] for key in ("target", "quality", "seed", "logit")))
    started = time.process_time()
    try:
        samples = settings["call"](gan, n, torch.Generator().manual_seed(seed))
    except RuntimeError as error:
        return {"gave_up": str(error)}
    seconds = time.process_time() - started
    cost = {"forwards": samples.forwards, "gradients": samples.gradients, "seconds": round(seconds, 2)}
    return summary(samples.x, target, reference) | cost | {"info": samples.info}


def jobs() -> Jobs:
    """The settings of all entries."""
    found: Jobs = {f"toy/{target}": {} for target in TARGETS}
    for target, quality, seed, logit in product(TARGETS, (*STEPS, *foreign_toy.RECIPES), SEEDS, LADDER):
        gan = fingerprint(checkpoint_of(target))
        if quality in foreign_toy.RECIPES:
            if target != "25-gaussians" or seed not in foreign_toy.SEEDS:
                continue
            gan = {"trained": foreign_toy.train, **foreign_toy.RECIPES[quality]}
        made = {"target": target, "gan": gan, "quality": quality, "seed": seed, "logit": logit}
        made |= {"fit": LADDER[logit], "n": N, "n_reference": N_REFERENCE, "version": VERSION}
        for method, call in (METHODS if logit == "refitted" else DDLS).items():
            name = f"{quality} {seed}, {logit}, {method}"
            found[f"toy/{target}"][name] = made | {"method": method, "call": call}
    return found


if __name__ == "__main__":
    run_jobs(__doc__, jobs(), work)
