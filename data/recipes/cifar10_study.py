"""How far DDLS improves the CIFAR-10 generator: `python -m data.recipes.cifar10_study`.

Every job runs one set of chains and scores their images at several numbers of steps; `--worker 0/2` with
`--worker 1/2` shares them between two processes. Notebook 10 reads the study `cifar10`.

Three parts: `logit` (which d), `step` (which step size), both scored by the CIFAR-10 classifier, and
`final` (the settings they chose), scored also by an ImageNet network that had no part in choosing.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from data.recipes.study import Jobs, measure, networks, run_jobs
from utils.config import pick_device
from utils.energy import latent_energy, standard_normal
from utils.images import to_uint8
from utils.metrics.extractors import get_extractor
from utils.metrics.images import evaluate_images, load_reference
from utils.models.layers import bake
from utils.samplers import mala, sample, ula
from utils.zoo import load_gan, load_logit

VERSION = 1  # of this file and of celeba64_study: raise it when a change alters results
KERNELS = {"ula": ula, "mala": mala}
CLASSIFIER, IMAGENET = {"cifar10-classifier": "train"}, {"efficientnet-lite0": "test"}  # and the real images


def job(
    part: str,
    logit: str,
    step_size: float,
    marks: tuple[int, ...],
    n: int,
    *,
    extractors: dict[str, str] = CLASSIFIER,
    data: str = "cifar10",
    calibrated: bool = True,
    sampler: str = "ula",
    temperature: float = 1.0,
    seed: int = 0,
) -> dict:
    """Settings of one set of chains. `marks` are the numbers of steps at which the images are scored."""
    given = {key: value for key, value in locals().items() if key not in ("extractors", "data")}
    decides = {
        "kernel": partial(KERNELS[sampler], step_size, temperature),
        "precision": "float32" if sampler == "mala" else "bfloat16",  # MALA compares energies
        "measures": {name: measure(name, split, data) for name, split in extractors.items()},
    }
    return given | decides | networks(data) | {"version": VERSION}


def by_name(settings: list[dict]) -> dict[str, dict]:
    """The jobs under a name for each."""
    name = "{part}, {logit}, calibrated {calibrated}, {sampler} {step_size:g}, T {temperature:g}, seed {seed}"
    return {name.format(**job): job for job in settings}


# The settings that parts one and two chose, by the classifier alone.
CHOSEN_LOGIT, CHOSEN_STEP_SIZE = "continued-r1", 0.1
KINDS = [("raw", True), ("head", True), ("continued", True), ("continued-r1", True), ("raw", False)]
SHORT, LONG = (0, 10, 20, 40), (0, 10, 25, 50)


def run_chains(
    G: nn.Module, logit: nn.Module, settings: dict, chunk_size: int = 100
) -> tuple[dict, list[dict]]:
    """Images (n, 3, s, s) uint8 at each mark, and the chains' means there.

    The starts depend on the seed alone, so that jobs of one seed are compared on the same latents.
    """
    n, marks, seed = settings["n"], settings["marks"], settings["seed"]
    start = torch.randn(n, G.latent_dim, generator=torch.Generator().manual_seed(1000 + seed))
    images, trace = {}, []

    @torch.no_grad()
    def keep(step: int, state) -> None:
        if step in marks:
            images[step] = torch.cat([to_uint8(G(z)).cpu() for z in state.z.split(500)])
            d, norm = -state.energy - standard_normal(state.z), state.z.square().sum(1)
            means = {"energy": state.energy, "logit_mean": d, "squared_norm": norm}
            trace.append({"n_steps": step} | {key: value.mean().item() for key, value in means.items()})

    chain = sample(
        latent_energy(G, logit, precision=settings["precision"]), start.to(next(G.parameters()).device),
        settings["kernel"](), max(marks), torch.Generator().manual_seed(seed),
        callback=keep, chunk_size=chunk_size, progress=True,
    )  # fmt: skip
    return images, [row | {"acceptance": chain.acceptance.mean().item()} for row in trace]


def work(settings: dict, score: Callable[..., dict] = evaluate_images) -> list[dict]:
    """Run and score one job; one row for each mark. `score` takes uint8 images, extractor and reference."""
    device, marks = pick_device(), settings["marks"]
    G, D = load_gan(settings["gan"]["checkpoint"], device)
    place = settings["logits"]["checkpoint"]
    logit = load_logit(settings["logit"], D, calibrated=settings["calibrated"], name=place)
    images, rows = run_chains(bake(G), logit, settings)
    for i, (name, real) in enumerate(settings["measures"].items()):
        extractor = get_extractor(name, device)
        reference = load_reference(extractor, real["split"], real["data"])
        for row in rows:
            if i == 0 or row["n_steps"] in (marks[0], marks[-1]):  # a second extractor is slow
                row[name] = score(images[row["n_steps"]], extractor, reference)
    return rows


def jobs() -> Jobs:
    """The settings of all entries."""
    found = [job("logit", kind, 0.1, SHORT, 2000, calibrated=calibrated) for kind, calibrated in KINDS]
    found += [job("step", "raw", step_size, SHORT, 2000) for step_size in (0.01, 0.03, 0.2, 0.4)]
    final = partial(job, "final", CHOSEN_LOGIT, CHOSEN_STEP_SIZE, LONG, extractors=CLASSIFIER | IMAGENET)
    return {"cifar10": by_name(found + [final(n=10_000, seed=seed) for seed in range(3)])}


if __name__ == "__main__":
    run_jobs(__doc__, jobs(), work)
