"""Checks of notebook 04."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def check_langevin_step(step: Callable[[Tensor, Tensor, float, float, Tensor], Tensor]) -> None:
    """Exercise: z - (eps/2) gradient + sqrt(eps T) noise for z, gradient, eps, T, noise."""
    z, gradient, noise = torch.randn(3, 5, 2, generator=_seeded(), dtype=torch.float64)
    step_size, temperature = 0.3, 0.6
    value = step(z, gradient, step_size, temperature, noise)
    if unfinished(value, "step"):
        return
    assert value.shape == z.shape, f"the new z has the shape {tuple(z.shape)} of the old, not {value.shape}"
    drift = -0.5 * step_size * gradient
    spread = math.sqrt(step_size * temperature)
    mistakes = {
        "the gradient has the wrong sign: energy is to go down": z - drift + spread * noise,
        "the drift is eps/2 times the gradient, not eps": z + 2 * drift + spread * noise,
        "the noise's standard deviation is the root of eps T": z + drift + step_size * temperature * noise,
        "the noise has variance eps T: T belongs under the root": z
        + drift
        + step_size**0.5 * temperature * noise,
        "the temperature is not used": z + drift + math.sqrt(step_size) * noise,
        "the noise is missing: that is gradient descent": z + drift,
        "return the new z, not the change of it": drift + spread * noise,
    }
    _reject(mistakes, value)
    assert torch.allclose(value, z + drift + spread * noise), "the step differs from the Langevin step"
    print("step: right.")


def check_ula_variance(variance: Callable[[float, float, float], float]) -> None:
    """Exercise: stationary variance of ULA for E = z^2 / (2 scale^2), inf where there is none."""
    cases = [(0.5, 1.0, 1.0), (0.1, 0.4, 2.0), (3.0, 1.5, 0.5)]  # (eps, scale, T)
    first = variance(*cases[0])
    if unfinished(first, "variance"):
        return
    values = torch.tensor([float(variance(*case)) for case in cases], dtype=torch.float64)

    def table(formula: Callable[[float, float, float], float]) -> Tensor:
        return torch.tensor([formula(*case) for case in cases], dtype=torch.float64)

    mistakes = {
        "that is the target's variance: ULA has another": lambda e, s, t: t * s**2,
        "the temperature is missing": lambda e, s, t: s**2 / (1 - e / (4 * s**2)),
        "the bias has the wrong sign: 1 - a^2 = (eps/s^2)(1 - eps/(4 s^2))": lambda e, s, t: (
            t * s**2 / (1 + e / (4 * s**2))
        ),
        "a is 1 - eps/(2 s^2), with half the step": lambda e, s, t: t * s**2 / (1 - e / (2 * s**2)),
        "that is the standard deviation": lambda e, s, t: math.sqrt(t * s**2 / (1 - e / (4 * s**2))),
    }
    _reject({mistake: table(formula) for mistake, formula in mistakes.items()}, values)
    right = table(lambda e, s, t: t * s**2 / (1 - e / (4 * s**2)))
    assert torch.allclose(values, right), "solve v = a^2 v + eps T with a = 1 - eps/(2 s^2)"
    for step_size in (4.0, 5.0):
        beyond = float(variance(step_size, 1.0, 1.0))
        assert math.isinf(beyond), (
            f"at eps={step_size:g} and scale 1 the chain has no stationary law: return inf"
        )
    print("variance: right.")


def check_log_acceptance(log_ratio: Callable[..., Tensor]) -> None:
    """Exercise: log Metropolis-Hastings ratio of a Langevin proposal, for a step size and a temperature."""
    z, new = torch.randn(2, 6, 2, generator=_seeded(), dtype=torch.float64)
    step_size, temperature = 0.7, 0.5

    def energy(x: Tensor) -> Tensor:
        return (0.25 * x**4 + 0.2 * x).sum(1)

    def gradient(x: Tensor) -> Tensor:
        return x**3 + 0.2

    value = log_ratio(energy, gradient, z, new, step_size, temperature)
    if unfinished(value, "log_ratio"):
        return
    assert value.shape == (6,), f"one number a chain is wanted, shape (6,), not {tuple(value.shape)}"
    forth = (new - z + 0.5 * step_size * gradient(z)).square().sum(1) / (2 * step_size)
    back = (z - new + 0.5 * step_size * gradient(new)).square().sum(1) / (2 * step_size)
    target = energy(z) - energy(new)
    right = (target + forth - back) / temperature
    mistakes = {
        "the proposal densities are missing: a Langevin proposal is not symmetric": target / temperature,
        "the whole ratio is upside down": -right,
        "the proposal densities are upside down: q(z | new) is on top": (target - forth + back) / temperature,
        "the energies are upside down: p(new) is on top": (-target + forth - back) / temperature,
        "the temperature is missing": right * temperature,
        "the temperature is missing in the proposal densities": target / temperature + forth - back,
        "the temperature is missing in the target": target + (forth - back) / temperature,
        "one of the two proposal densities is missing": (target - back) / temperature,
        "the minimum with 0 is not wanted here": right.clamp(max=0),
        "the logarithm of the ratio is wanted": right.exp(),
    }
    _reject(mistakes, value)
    assert torch.allclose(value, right), "the ratio differs from p(new) q(z | new) / (p(z) q(new | z))"
    print("log_ratio: right.")


def check_ar1_effective_sample_size(size: Callable[[float, int], float]) -> None:
    """Exercise: effective sample size of n states of a stationary AR(1) chain with coefficient a."""
    cases = [(0.5, 100), (0.98, 5000), (-0.4, 70)]
    if unfinished(size(*cases[0]), "size"):
        return
    values = torch.tensor([float(size(*case)) for case in cases], dtype=torch.float64)

    def table(formula: Callable[[float, int], float]) -> Tensor:
        return torch.tensor([formula(*case) for case in cases], dtype=torch.float64)

    mistakes = {
        "that is the number of states, as if they were independent": lambda a, n: n,
        "upside down: tau divides n": lambda a, n: n * (1 + a) / (1 - a),
        "each lag counts twice, for t and -t: tau = 1 + 2 sum a^t": lambda a, n: n * (1 - a),
        "the sum starts at lag 1: tau = 1 + 2 sum over t >= 1": lambda a, n: n / (1 + 2 / (1 - a)),
        "that is the size for the mean of the squares; rho_t is a^t": lambda a, n: (
            n * (1 - a * a) / (1 + a * a)
        ),
        "that is tau; the size is n / tau": lambda a, n: (1 + a) / (1 - a),
    }
    _reject({mistake: table(formula) for mistake, formula in mistakes.items()}, values)
    right = table(lambda a, n: n * (1 - a) / (1 + a))
    assert torch.allclose(values, right), "sum the geometric series in tau = 1 + 2 (a + a^2 + ...)"
    print("size: right.")


def check_score_matching(loss: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> None:
    """Exercise: mean of E'(x)^2 / 2 - E''(x) over a sample x (n, 1), differentiable in E's parameters."""
    x = torch.randn(50, 1, generator=_seeded(), dtype=torch.float64)
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def energy(x: Tensor) -> Tensor:
        return (weight * x**4 / 4 + x**2).squeeze(1)

    value = loss(energy, x)
    if unfinished(value, "loss"):
        return
    slope, curvature = weight * x**3 + 2 * x, 3 * weight * x**2 + 2
    half_square = 0.5 * slope.square().mean()
    right = half_square - curvature.mean()
    value = torch.as_tensor(value)
    assert value.shape == (), f"one number is wanted, not shape {tuple(value.shape)}"
    mistakes = {
        "E'' has the wrong sign: the score is -E', its derivative -E''": half_square + curvature.mean(),
        "the half of E'^2 is missing": 2 * half_square - curvature.mean(),
        "E'' is missing: alone, E'^2 is least for a flat energy": half_square,
        "the half belongs to E'^2 alone": half_square - 0.5 * curvature.mean(),
        "the whole loss has the wrong sign": -right,
        "take the mean over the sample, not the sum": right * len(x),
    }
    _reject({mistake: wrong.detach() for mistake, wrong in mistakes.items()}, value.detach())
    assert torch.allclose(value, right), "the loss differs from the mean of E'^2 / 2 - E''"
    assert value.requires_grad, "the loss has no gradient in the parameters: give create_graph=True"
    (actual,), (expected,) = (torch.autograd.grad(v, weight, retain_graph=True) for v in (value, right))
    assert torch.allclose(actual, expected), (
        "the gradient is lost on the way: give create_graph=True both times"
    )
    print("loss: right.")


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _reject(mistakes: dict[str, Tensor], value: Tensor) -> None:
    """Raise with the name of the mistake that gives `value`."""
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong, rtol=1e-6), mistake
