"""Speed and memory of the latent sampler: `python -m benchmarks.bench_sampler`, in four to five minutes.

The networks are CIFAR-10's generator and its guide. Rates are chain-steps per second, each the best of a few
rounds in which all candidates take turns, so that the ratios compare like with like on a busy machine. The
last rows hold the projected generator, with each of two guides, against the arithmetic limit: as many
chain-steps as a product of two large matrices of the same precision has FLOPs in a second.
"""

import argparse
import copy
import math
import platform
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from utils.checkpoints import freeze, list_checkpoints
from utils.energy import latent_energy
from utils.models import build_gan
from utils.models.layers import bake
from utils.samplers import sample, ula
from utils.zoo import load_gan, load_logit, new_logit

NAME = "cifar10-gan"
STEP_SIZE = 0.01
N_CHAINS = 256
CHUNK_SIZES = (32, 64, 128, 256)
PRECISIONS = ("float32", "bfloat16")
BATCHES = (8, 128)  # chains of the passes held against the limit
MATRIX = 1024  # side of the matrices


def load_pair() -> tuple[nn.Module, nn.Module, str]:
    """(G, D, where they come from); the speed does not depend on the weights."""
    if NAME in list_checkpoints():
        return load_gan(NAME), load_logit(name=NAME), f"checkpoint {NAME!r}"
    torch.manual_seed(0)
    G, D = build_gan("dcgan", g_width=48, d_width=32)
    return freeze(G), freeze(D), "random weights"


def draw(n: int, latent_dim: int) -> Tensor:
    return torch.randn(n, latent_dim, generator=torch.Generator().manual_seed(0))  # (n, latent_dim)


def time_sampler(G: nn.Module, D: nn.Module, precision: str, chunk_size: int, n_steps: int) -> list[float]:
    """Seconds of each step of all chains; the evaluation at the start is left out."""
    stamps: list[float] = []
    energy = latent_energy(G, D, precision=precision)
    generator = torch.Generator().manual_seed(0)
    sample(
        energy, draw(N_CHAINS, G.latent_dim), ula(STEP_SIZE), n_steps, generator,
        chunk_size=chunk_size, callback=lambda step, state: stamps.append(time.perf_counter()),
    )  # fmt: skip
    return [after - before for before, after in pairwise(stamps)]


def time_bare(
    G: nn.Module, D: nn.Module, precision: str, chunk_size: int, n_rounds: int, n_chains: int = N_CHAINS
) -> list[float]:
    """Seconds of one forward and one latent-gradient backward pass of all chains, and nothing else."""
    seconds, parts = [], draw(n_chains, G.latent_dim).split(chunk_size)
    for _ in range(n_rounds):
        started = time.perf_counter()
        for part in parts:
            leaf = part.requires_grad_(True)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                d = D(G(leaf))
            torch.autograd.grad(d.sum(), leaf)
        seconds.append(time.perf_counter() - started)
    return seconds


def time_product(precision: str) -> list[float]:
    """Seconds of a product of two square matrices, the most arithmetic for the least memory that there is."""
    a = torch.ones(MATRIX, MATRIX, dtype=getattr(torch, precision))
    started = time.perf_counter()
    a @ a
    return [time.perf_counter() - started]


def flops_of_a_step(G: nn.Module, D: nn.Module) -> float:
    """Floating-point operations of a chain-step: a forward and a latent-gradient backward pass."""
    n = 2
    with FlopCounterMode(display=False) as counter:
        D(G(draw(n, G.latent_dim).requires_grad_(True))).sum().backward()  # no weight requires a gradient
    return counter.get_total_flops() / n


def shares_of_the_limit(n_rounds: int) -> dict[str, list[str]]:
    """Rows of the table: bare passes of the projected generator in percent of the arithmetic limit."""
    G, _ = build_gan("projected", g_width=64, d_width=1, discriminator=False)
    G = bake(freeze(G))
    guides = {"head on features": new_logit("classifier"), "d of width 24": new_logit()}
    guides = {name: bake(freeze(logit)) for name, logit in guides.items()}
    passes = {
        (name, n, p): lambda D=D, n=n, p=p: time_bare(G, D, p, n, 2, n)
        for name, D in guides.items()
        for n in BATCHES
        for p in PRECISIONS
    }
    best = fastest(passes | {p: lambda p=p: time_product(p) for p in PRECISIONS}, n_rounds)
    rate = {p: 2 * MATRIX**3 / best[p] for p in PRECISIONS}  # FLOP per second
    rows = {"product of matrices, GFLOP per second": [f"{rate[p] / 1e9:.0f}" for p in PRECISIONS]}
    for name, D in guides.items():
        flops = flops_of_a_step(G, D)
        for n in BATCHES:
            steps = {p: n / best[name, n, p] for p in PRECISIONS}  # chain-steps per second
            rows[f"projected G, {name}, {n} chains"] = [f"{steps[p]:.0f}" for p in PRECISIONS]
            share = [f"{steps[p] * flops / rate[p]:.0%}" for p in PRECISIONS]
            rows[f"  of the limit, {flops / 1e6:.0f} MFLOP each, {n} chains"] = share
    return rows


def time_naive(G: nn.Module, D: nn.Module, n_steps: int) -> list[float]:
    """Seconds of each step of one chain as first written: weights that require gradients, `backward`."""
    seconds, z = [], draw(1, G.latent_dim)
    for _ in range(n_steps):
        started = time.perf_counter()
        z = z.detach().requires_grad_(True)
        energy = 0.5 * z.square().sum() - D(G(z)).sum()
        energy.backward()
        z = z - 0.5 * STEP_SIZE * z.grad + math.sqrt(STEP_SIZE) * torch.randn_like(z)
        seconds.append(time.perf_counter() - started)
    return seconds


def fastest(candidates: dict[object, Callable[[], list[float]]], n_rounds: int) -> dict[object, float]:
    """Least seconds of each candidate; they take turns."""
    best = {name: math.inf for name in candidates}
    for _ in range(n_rounds):
        for name, run in candidates.items():
            best[name] = min(best[name], *run())
    return best


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def memory_of_steps(G: nn.Module, D: nn.Module, steps: tuple[int, ...], n_chains: int = 4) -> list[float]:
    """Peak memory after runs of so many steps, shortest first."""
    peaks = []
    for n_steps in steps:
        z0, generator = draw(n_chains, G.latent_dim), torch.Generator().manual_seed(0)
        sample(latent_energy(G, D), z0, ula(STEP_SIZE), n_steps, generator)
        peaks.append(peak_memory())
    return peaks


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice unless given")
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)

    trained_G, trained_D, origin = load_pair()
    naive_G, naive_D = (copy.deepcopy(m).requires_grad_(True) for m in (trained_G, trained_D))
    for m in (naive_G, naive_D):
        m.to(memory_format=torch.contiguous_format)
    G, D = bake(trained_G), bake(trained_D)

    peaks = memory_of_steps(G, D, (10, 1000))  # first, before anything larger is in memory
    search = fastest(
        {
            (precision, size): lambda p=precision, s=size: time_bare(G, D, p, s, 1)
            for precision in PRECISIONS
            for size in CHUNK_SIZES
        },
        max(2, args.rounds // 2),
    )
    chunk = {p: min(CHUNK_SIZES, key=lambda size, p=p: search[p, size]) for p in PRECISIONS}
    best = fastest(
        {("bare", p): lambda p=p: time_bare(G, D, p, chunk[p], 3) for p in PRECISIONS}
        | {("sampler", p): lambda p=p: time_sampler(G, D, p, chunk[p], 3) for p in PRECISIONS}
        | {"naive": lambda: time_naive(naive_G, naive_D, 20)},
        args.rounds,
    )

    bare, sampler = ({p: N_CHAINS / best[kind, p] for p in PRECISIONS} for kind in ("bare", "sampler"))
    naive = 1 / best["naive"]
    threads = torch.get_num_threads()
    print(f"CIFAR-10 pair, {origin}; torch {torch.__version__}, {platform.machine()}, threads: {threads}")
    print(f"{'chain-steps per second':44}" + "".join(f"{p:>10}" for p in PRECISIONS))
    rows = {
        "best chunk_size": [f"{chunk[p]}" for p in PRECISIONS],
        f"sample(..., ula({STEP_SIZE})), {N_CHAINS} chains": [f"{sampler[p]:.0f}" for p in PRECISIONS],
        "one forward and one latent-gradient pass": [f"{bare[p]:.0f}" for p in PRECISIONS],
        "  sampler / bare passes": [f"{sampler[p] / bare[p]:.2f}" for p in PRECISIONS],
        "single chains, full autograd, float32": [f"{naive:.0f}", ""],
        "  sampler / single chains": [f"{sampler[p] / naive:.1f}" for p in PRECISIONS],
    } | shares_of_the_limit(args.rounds)
    for name, values in rows.items():
        print(f"{name:44}" + "".join(f"{value:>10}" for value in values))
    growth = peaks[1] - peaks[0]
    print(f"peak memory: {peaks[0]:.0f} MB after 10 steps, {growth:+.1f} MB after 1,000 steps more")


if __name__ == "__main__":
    main()
