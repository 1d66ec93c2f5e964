"""The energy of Discriminator Driven Latent Sampling: E(z) = -log p_0(z) - d(G(z)) (Che et al., 2020).

At the optimum d(x) = log p_d(x) / p_g(x), so exp(-E) pulls p_d back to the latent space. d must be a
logit: a probability in its place gives another, nearly flat target. Notebook 06 derives all of this.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

LogDensity = Callable[[Tensor], Tensor]


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, (n, *latent) -> (n,)."""
    z = z.flatten(1)
    return -0.5 * z.square().sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)


class Prior(NamedTuple):
    """The law p_0 of the latent: how to draw from it, and the log density of the same law."""

    draw: Callable[[int, torch.Generator], Tensor]  # (n, generator) -> z (n, *latent), on generator's device
    log_prob: LogDensity = standard_normal


def prior_of(G: Callable[[Tensor], Tensor]) -> Prior:
    """`G.prior` if G brings one, else N(0, I) in `G.latent_dim` dimensions."""
    if prior := getattr(G, "prior", None):
        return prior
    if not hasattr(G, "latent_dim"):
        raise ValueError("G has no latent_dim: set it, wrap G by as_generator, or give prior or starts")
    return Prior(lambda n, g: torch.randn(n, G.latent_dim, generator=g, device=g.device))


def networks_in(function: Callable) -> list[nn.Module]:
    """The networks that a callable holds: itself, or in a partial, a bound method or an attribute."""
    if isinstance(function, functools.partial):
        parts = (function.func, *function.args, *function.keywords.values())
        return [network for part in parts for network in networks_in(part)]
    owner = getattr(function, "__self__", function)
    return [m for m in (owner, *getattr(owner, "__dict__", {}).values()) if isinstance(m, nn.Module)]


def check_evaluation_mode(**functions: Callable) -> None:
    """Raise a ValueError that names a network in training mode: its samples would depend on each other."""
    for name, function in functions.items():
        if any(m.training for network in networks_in(function) for m in network.modules()):
            inside = "" if isinstance(function, nn.Module) else " of the network in it"
            raise ValueError(f"{name} is in training mode; call {name}.eval(){inside} first")


def check_rows(name: str, value: Tensor, n: int) -> Tensor:
    """`value`, called `name`; a ValueError unless its shape is (n,), as (1,) or (n, 1) would broadcast."""
    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if shape != (n,):
        hint = "; see as_logit" if name == "logit" else ""
        raise ValueError(f"{name} has shape {shape}, not ({n},), one number a row{hint}")
    return value


def latent_energy(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    prior: LogDensity | Prior | None = None,
    *,
    precision: str = "float32",
) -> Callable[[Tensor], Tensor]:
    """The callable E(z) = -log p_0(z) - d(G(z)), in nats, (n, *latent) -> (n,).

    G maps z to x, `logit` is d, x -> (n,), calibrated; both in evaluation mode, as batch norm would make the
    energy of one sample depend on its neighbours. `prior` is a Prior or log p_0, z -> (n,); left out,
    `G.prior` if there is one, else N(0, I). With `precision="bfloat16"` G and d run under autocast: about
    twice as fast, with an error of some hundredths of a nat, too much where MALA compares energies.

    Raises a ValueError where a network is in training mode, G cannot take z, or d or log p_0 is not (n,).
    """
    check_evaluation_mode(G=G, logit=logit)
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision={precision!r} is unknown; use 'float32' or 'bfloat16'")
    prior = prior or getattr(G, "prior", standard_normal)
    log_prob = getattr(prior, "log_prob", prior)

    def energy(z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            try:
                x = G(z.clone())  # a copy: a first layer may work in place
            except RuntimeError as error:
                given = f"z of shape {tuple(z.shape)} and type {z.dtype}"
                raise ValueError(f"G cannot take {given} ({error}); as_generator(G) can") from error
            if not isinstance(x, Tensor):
                raise ValueError(f"G returned a {type(x).__name__}; as_generator(G, pick=...) picks x")
            d = check_rows("logit", logit(x), len(z))
        return -check_rows("prior", log_prob(z), len(z)) - d.to(z.dtype)

    return energy
