"""Checks of notebook 10."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def check_energy(energy: Callable[[Tensor, Callable, Callable], Tensor]) -> None:
    """Exercise: E(z) = -log p_0(z) - d(G(z)) for z (n, k), G and d; a constant may be left out."""
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return 2 * z + 1

    def d(x: Tensor) -> Tensor:
        return x.sum(1)

    value = energy(z, G, d)
    if unfinished(value, "energy"):
        return
    assert value.shape == (6,), f"one energy a chain is wanted, shape (6,), not {tuple(value.shape)}"
    prior, logit = 0.5 * z.square().sum(1), d(G(z))
    mistakes = {
        "the energy has the wrong sign": -prior + logit,
        "the logit has the wrong sign: a real-looking image must have low energy": prior + logit,
        "the prior is missing": -logit,
        "a probability stands where the logit belongs": prior - torch.sigmoid(logit),
        "the prior's half is missing: -log p_0(z) = |z|^2/2 + constant": 2 * prior - logit,
    }

    def up_to_constant(a: Tensor, b: Tensor) -> bool:
        return (a - b).std().item() < 1e-6

    for mistake, wrong in mistakes.items():
        assert not up_to_constant(value, wrong), mistake
    assert up_to_constant(value, prior - logit), "the energy differs from -log p_0(z) - d(G(z))"
    print("energy: right.")


def check_temperature(temperature: Callable[[float, float], float]) -> None:
    """Exercise: the temperature that a step size and a noise standard deviation amount to."""
    value = temperature(0.01, 0.1)
    if unfinished(value, "temperature"):
        return
    cases = [(0.01, 0.1), (0.01, 0.01), (10.0, 0.005)]
    values = [temperature(*case) for case in cases]
    right = [std**2 / step_size for step_size, std in cases]
    roots = [std / math.sqrt(step_size) for step_size, std in cases]
    assert not all(map(math.isclose, values, roots)), "that is the root of the temperature: square it"
    assert not all(math.isclose(v, 1 / r) for v, r in zip(values, right, strict=True)), "upside down"
    assert all(map(math.isclose, values, right)), "match sqrt(eps T) with the noise's standard deviation"
    print("temperature: right.")


def check_platt(loss: Callable[[Tensor, Tensor, float, float], float]) -> None:
    """Exercise: the logistic loss of slope * d + intercept, the mean over both classes, in nats."""
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 0.0, 1.0])
    value = loss(real, fake, 2.0, -0.5)
    if unfinished(value, "loss"):
        return

    def right(a: float, b: float) -> float:
        terms = [math.log1p(math.exp(-(a * d + b))) for d in real.tolist()]
        others = [math.log1p(math.exp(a * d + b)) for d in fake.tolist()]
        return 0.5 * sum(terms) / len(terms) + 0.5 * sum(others) / len(others)

    swapped = [math.log1p(math.exp(2 * d - 0.5)) for d in real.tolist()]
    swapped_others = [math.log1p(math.exp(-(2 * d - 0.5))) for d in fake.tolist()]
    wrong = 0.5 * sum(swapped) / 2 + 0.5 * sum(swapped_others) / 3
    value = float(value)
    assert not math.isclose(value, wrong, rel_tol=1e-4), "the labels are swapped"
    assert not math.isclose(value, 2 * right(2.0, -0.5), rel_tol=1e-4), "take the mean of the two classes"
    assert not math.isclose(value, right(1.0, 0.0), rel_tol=1e-4), "slope and intercept are not used"
    assert math.isclose(value, right(2.0, -0.5), rel_tol=1e-4), "the loss differs from the logistic loss"
    print("loss: right.")
