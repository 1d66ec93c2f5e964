"""What all studies share: their command line, and how networks, measures and chains are written down."""

import argparse
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from tqdm.auto import tqdm

from utils.energy import latent_energy
from utils.images import load_cifar10, load_faces, to_unit
from utils.metrics.extractors import get_extractor
from utils.metrics.images import load_reference
from utils.samplers import Kernel, sample, ula
from utils.selection import LatentGAN, Samples, mcmc
from utils.studies import read, run_once, update

LOADERS = {"cifar10": load_cifar10, "celeba64": load_faces}
Jobs = dict[str, dict[str, dict]]  # study -> name of an entry -> settings


@cache
def measure(name: str, split: str, data: str = "cifar10") -> dict[str, Any]:
    """Settings of an extractor and of the real images it compares with."""
    extractor = get_extractor(name, "cpu")
    count = load_reference(extractor, split, data).moments.count
    who = {"extractor": extractor.name, "weights": extractor.weights}
    return who | {"data": data, "split": split, "n_reference": count}


def chains(
    gan: LatentGAN, n: int, generator: torch.Generator, *, kernel: Callable[[], Kernel], n_steps: int
) -> Samples:
    """`mcmc` with a kernel that is built here, so that settings can name it and its arguments."""
    return mcmc(gan, n, generator, kernel=kernel(), n_steps=n_steps)


def scaled(gan: LatentGAN, n: int, generator: torch.Generator, *, scale: float) -> Samples:
    """G(s z): a control, which knows no discriminator."""
    z = scale * gan.draw(n, generator)
    return Samples(gan.generate(z), z, n, 0, {})


def ula_chains(
    gan: LatentGAN, n: int, generator: torch.Generator, *, step_size: float, n_steps: int
) -> Samples:
    """ULA in bfloat16, twice as fast; the other methods compare energies and stay in float32."""
    energy = latent_energy(gan.G, gan.logit, gan.prior, precision="bfloat16")
    z = gan.draw(n, generator)
    chain = sample(energy, z, ula(step_size), n_steps, generator, chunk_size=gan.chunk_size)
    return Samples(gan.generate(chain.z), chain.z, n, n * n_steps, {})


def prior_chains(
    gan: LatentGAN, n: int, generator: torch.Generator, *, step_size: float, n_steps: int
) -> Samples:
    """ULA on the prior alone, from the starts of `ula_chains`: a control, which moves and knows no guide."""
    z = gan.draw(n, generator)
    z = sample(lambda z: -gan.prior.log_prob(z), z, ula(step_size), n_steps, generator).z
    return Samples(gan.generate(z), z, n, 0, {})


def real(gan: LatentGAN, n: int, generator: torch.Generator, *, data: str, split: str) -> Samples:
    """Real images in place of samples, for the floor."""
    images = LOADERS[data](split).images
    x = to_unit(images[torch.randperm(len(images), generator=generator)[:n]])
    return Samples(x, torch.zeros(n, 1), 0, 0, {})


def run_jobs(doc: str, jobs: Jobs, work: Callable[[dict], Any], arguments: list[str] | None = None) -> None:
    """The command line of a study: run what is not stored with these settings, drop what no job asks for.

    `doc` is the recipe's, `work` maps the settings of one job to its result. Each entry is written when it is
    done, so an interrupted study goes on where it was, and processes given different words work side by side.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("word", nargs="*", help="run only jobs with one of these words in `study/name`")
    parser.add_argument("--list", action="store_true", help="list the jobs and do nothing")
    args = parser.parse_args(arguments)
    every = {f"{study}/{name}": (study, name) for study, named in jobs.items() for name in named}
    wanted = {k: job for k, job in every.items() if not args.word or any(word in k for word in args.word)}
    if not wanted:
        parser.error(f"no job has a word of {args.word}; --list lists them")
    if args.list:
        print(*wanted, sep="\n")
        return
    for study, name in tqdm(wanted.values(), unit="job"):
        run_once(study, jobs[study][name], partial(work, jobs[study][name]), name)
    for study in {study for study, _ in wanted.values()}:
        if stale := read(study).keys() - jobs[study].keys():
            print(f"{study}: dropped, as no job asks for them: {', '.join(sorted(stale))}")
            update(study, lambda entries, drop=stale: {k: v for k, v in entries.items() if k not in drop})
