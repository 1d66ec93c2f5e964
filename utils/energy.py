"""The energy of Discriminator Driven Latent Sampling: E(z) = -log p_0(z) - d(G(z)) (Che et al., 2020).

At the optimum d(x) = log p_d(x) / p_g(x), so exp(-E) pulls p_d back to the latent space. d must be a
logit: a probability in its place gives another, nearly flat target. Notebook 06 derives all of this.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

LogDensity = Callable[[Tensor], Tensor]


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, (n, *latent) -> (n,)."""
    z = z.flatten(1)
    return -0.5 * z.square().sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)


def check_evaluation_mode(**modules: Callable) -> None:
    """Raise a ValueError that names a module in training mode: its samples would depend on each other."""
    for name, module in modules.items():
        if isinstance(module, nn.Module) and any(m.training for m in module.modules()):
            raise ValueError(f"{name} is in training mode; call {name}.eval() first")


def latent_energy(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    prior: LogDensity = standard_normal,
    *,
    precision: str = "float32",
) -> Callable[[Tensor], Tensor]:
    """The callable E(z) = -log p_0(z) - d(G(z)), in nats, (n, *latent) -> (n,).

    Args:
        G: generator, z -> x; in evaluation mode.
        logit: d, x -> (n,), the (calibrated) logit of the discriminator; in evaluation mode.
        prior: log p_0, z -> (n,).
        precision: "float32", or "bfloat16" to run G and d under autocast: about twice as fast, with an
            error of some hundredths of a nat in E. Use float32 where energies are compared, as in MALA.

    Raises:
        ValueError: a network is in training mode. Batch norm would then make the energy of one sample
            depend on its neighbours, and there would be no fixed target to sample.
    """
    check_evaluation_mode(G=G, logit=logit)
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision={precision!r} is unknown; use 'float32' or 'bfloat16'")

    def energy(z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            d = logit(G(z))
        return -prior(z) - d.to(z.dtype)

    return energy
