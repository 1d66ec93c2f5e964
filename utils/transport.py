"""Moving samples of G along the gradient of d: optimal transport (DOT) and gradient flow (DG-flow).

Called as the methods of `selection.py`. Neither samples p_t, or any law known beforehand, even with the
best d: they improve samples, which is another aim. Their docstrings say how far each is from its theory.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from utils.samplers import check_positive, check_whole, noise_like
from utils.selection import LatentGAN, Samples

# s(d) of the gradient flow that decreases each divergence of the current law from p_d
FLOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "KL": torch.ones_like,
    "JS": torch.sigmoid,
    "log D": lambda d: torch.sigmoid(-d),
}


def effective_lipschitz(function: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """K_eff = max over i of |f(x_i) - f(y_i)| / |x_i - y_i|, a lower estimate of the Lipschitz constant.

    Of f = `function`, (m, *shape) -> (m,), and pairs x, y (m, *shape), without those of equal members.
    """
    distance = (x - y).flatten(1).norm(dim=1)  # (m,)
    apart = distance > 0
    if not apart.any():
        raise ValueError("x and y have no pair that differs; draw more pairs, or has G collapsed?")
    return ((function(x) - function(y)).abs()[apart] / distance[apart]).max().item()


def discriminator_optimal_transport(
    gan: LatentGAN,
    n: int,
    generator: torch.Generator,
    *,
    step_size: float = 0.01,
    n_steps: int = 100,
    space: str = "latent",
    lipschitz: float | None = None,
    n_pairs: int = 100,
) -> Samples:
    """DOT (Tanaka, 2019, arXiv 1910.06832): gradient descent on |v - y| - f(v) / K_eff from v = y = G(z).

    In the latent space v and y are latents and f = d(G(v)); in the data space f = d. Were f / K_eff a
    Kantorovich potential of W_1(p_d, p_g), the minimum would be where the optimal plan moves y to; but it
    need not be unique, d is a log ratio, K_eff an estimate, and the descent is stopped. The gradient of the
    distance at v = y is 0. In the latent space nothing holds v near p_0: the paper's projection is left out.

    `space` is "latent" or "data"; in the latter z of the result is where v started. `lipschitz` is K_eff in
    nats per unit of length; None takes `effective_lipschitz` of `n_pairs` pairs of samples, 100 in the
    paper's code. Where |grad f| < K_eff, v stays within two steps of y. info has `lipschitz` and `distance`,
    the mean |v - y|.
    """
    before, f = gan.passes, _potential(gan, space, step_size, n_steps)
    check_whole(1, n_pairs=n_pairs)
    if lipschitz is None:
        _, pairs = _starts(gan, 2 * n_pairs, generator, space)
        lipschitz = effective_lipschitz(lambda v: gan.evaluate(f, v)[0], *pairs.split(n_pairs))
    if not lipschitz > 0:
        why = "K_eff = 0 where d is the same at all pairs: give lipschitz, or check logit"
        raise ValueError(f"lipschitz={lipschitz} must be positive; {why}")
    z, start = _starts(gan, n, generator, space)
    v = start
    for _ in range(n_steps):
        _, gradient = gan.evaluate(f, v, gradient=True)
        direction = normalize((v - start).flatten(1), dim=1).view_as(v)  # 0 at v = start
        v = v - step_size * (direction - gradient / lipschitz)
    distance = (v - start).flatten(1).norm(dim=1).mean().item()
    return _finish(gan, before, space, v, z, lipschitz=lipschitz, distance=distance)


def gradient_flow(
    gan: LatentGAN,
    n: int,
    generator: torch.Generator,
    *,
    divergence: str = "KL",
    step_size: float = 0.1,
    temperature: float = 0.01,
    n_steps: int = 25,
    space: str = "latent",
) -> Samples:
    """DG-flow (Ansari et al., 2021, arXiv 2012.00780): v <- v + eta s(f) grad f + sqrt(2 eta gamma) noise.

    The flow decreases a `divergence` of the law of v from p_d, less gamma = `temperature` times the entropy
    of that law; s is 1 for "KL" (of that law from p_d), sigmoid(f) for "JS", sigmoid(-f) for "log D"; eta is
    `step_size`. It needs f to be the log ratio of p_d and the *current* law of v. Here as in the paper f is
    frozen at d, the log ratio of p_d and p_g, so the theory holds at the first step and wears off.

    With `space="data"` f = d and v starts at G(z). In the latent space f = d(G(v)), and no prior holds v: run
    on, v has a stationary law only where exp(S(f) / gamma) is integrable, S being the integral of s; as eta
    shrinks it is proportional to that, which is not p_t.
    """
    before, f = gan.passes, _potential(gan, space, step_size, n_steps)
    check_positive(or_zero=True, temperature=temperature)
    if divergence not in FLOWS:
        raise ValueError(f"divergence={divergence!r} is unknown; choose one of {', '.join(FLOWS)}")
    z, v = _starts(gan, n, generator, space)
    for _ in range(n_steps):
        value, gradient = gan.evaluate(f, v, gradient=True)
        speed = FLOWS[divergence](value).view(-1, *[1] * (v.ndim - 1))
        noise = (2 * step_size * temperature) ** 0.5 * noise_like(v, generator)
        v = v + step_size * speed * gradient + noise
    return _finish(gan, before, space, v, z)


def _potential(gan: LatentGAN, space: str, step_size: float, n_steps: int) -> Callable[[Tensor], Tensor]:
    """d in the data space, d(G(z)) in the latent one."""
    check_whole(0, n_steps=n_steps)
    check_positive(step_size=step_size)
    if space not in ("latent", "data"):
        raise ValueError(f"space={space!r} is unknown; use 'latent' or 'data'")
    return gan.d_of_x if space == "data" else gan.d_of_z


def _starts(gan: LatentGAN, n: int, generator: torch.Generator, space: str) -> tuple[Tensor, Tensor]:
    """z ~ p_0, and the points that move: z or G(z)."""
    z = gan.draw(n, generator)
    return z, gan.generate(z) if space == "data" else z


def _finish(gan: LatentGAN, before: tuple, space: str, v: Tensor, z: Tensor, **info: float) -> Samples:
    return gan.samples(z, before, v, **info) if space == "data" else gan.samples(v, before, **info)
