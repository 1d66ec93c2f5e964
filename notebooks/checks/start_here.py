"""Checks of notebook 00."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def check_step_from_energy(step: Callable[[Callable, Tensor, float, Tensor], Tensor]) -> None:
    """Exercise: z - (eps/2) grad E(z) + sqrt(eps) noise, for an energy (n, k) -> (n,), z and noise (n, k)."""
    generator = torch.Generator().manual_seed(0)
    z, noise = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    stiffness = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    step_size = 0.09

    def energy(z: Tensor) -> Tensor:
        return 0.5 * (stiffness * z.square()).sum(1)

    value = step(energy, z.clone(), step_size, noise)
    if unfinished(value, "step"):
        return
    assert value.shape == z.shape, f"the new z has the shape of z, (5, 3), not {tuple(value.shape)}"
    assert not value.requires_grad, "detach the result: the graph would grow with every step"
    gradient = stiffness * z
    drift, kick = 0.5 * step_size * gradient, math.sqrt(step_size) * noise
    mistakes = {
        "the step climbs: subtract the gradient of the energy": z + drift + kick,
        "the gradient's half is missing": z - 2 * drift + kick,
        "the noise is missing: that is gradient descent": z - drift,
        "the noise needs the root of the step size": z - drift + step_size * noise,
        "the noise is not scaled by the root of the step size": z - drift + noise,
        "the noise has sqrt(2 eps): with the half at the gradient it is sqrt(eps)": (
            z - drift + math.sqrt(2) * kick
        ),
        "that is the gradient of the mean energy: take the sum, for each chain has its own": (
            z - drift / len(z) + kick
        ),
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong), mistake
    assert torch.allclose(value, z - drift + kick), (
        "the step differs from z - (eps/2) grad E + sqrt(eps) noise"
    )
    print("step: right.")


def check_logit_of_probability(logit: Callable[[Tensor], Tensor]) -> None:
    """Exercise: d = log D - log(1 - D) for probabilities strictly between 0 and 1, shape (n,)."""
    probability = torch.tensor([0.5, 0.9, 0.02, 1e-12])
    value = logit(probability)
    if unfinished(value, "logit"):
        return
    assert value.shape == (4,), f"one logit a probability is wanted, shape (4,), not {tuple(value.shape)}"
    exact = probability.double()
    right = exact.log() - torch.log1p(-exact)

    def is_close(a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4)

    mistakes = {
        "the sign is wrong: a probability above one half has a positive logit": -right,
        "log(1 - D) is missing": exact.log(),
        "that is the ratio D / (1 - D): take its logarithm": exact / (1 - exact),
        "that is a second sigmoid, not its inverse": torch.sigmoid(exact),
        "use the natural logarithm: logits are in nats": right / math.log(10),
    }
    for mistake, wrong in mistakes.items():
        assert not is_close(value, wrong), mistake
    assert not (is_close(value[:3], right[:3]) and value[3] > right[3] + 0.1), (
        "small probabilities are cut off: a small number added to D, or a clamp, caps the logit"
    )
    assert is_close(value, right), "the logit differs from log D - log(1 - D)"
    print("logit: right.")


def check_equal_draws(draw_twice: Callable[[int, int], tuple[Tensor, Tensor]]) -> None:
    """Exercise: two equal draws (n, 2) from N(0, I) from a seed, the global generator left alone."""
    state = torch.get_rng_state()
    pair = draw_twice(7, 2000)
    touched = not torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(state)
    if unfinished(pair, "draw_twice"):
        return
    a, b = pair
    assert a.shape == b.shape == (2000, 2), f"two tensors (n, 2), not {tuple(a.shape)}, {tuple(b.shape)}"
    assert not touched, "the global generator was used: pass generator= to torch.randn"
    assert a.data_ptr() != b.data_ptr(), "that is one draw returned twice: draw again, with a new generator"
    assert torch.equal(a, b), "the draws differ: a generator moves on with each draw, so seed a second one"
    other, _ = draw_twice(8, 2000)
    assert not torch.equal(a, other), "the seed is not used: seeds 7 and 8 give the same draws"
    # 4,000 numbers: the mean has a standard error of 0.016, the standard deviation one of 0.011
    is_normal = abs(a.mean()) < 0.08 and abs(a.std() - 1) < 0.06
    assert is_normal, "the draws are not standard normal: use torch.randn"
    print("draw_twice: right.")
