"""Each check accepts the solution, rejects typical mistakes by name, and is gentle with an empty stub."""

import math

import pytest
import torch

from notebooks import checks


def step(z, gradient, step_size, temperature, noise):
    return z - 0.5 * step_size * gradient + math.sqrt(step_size * temperature) * noise


STEPS = {
    "wrong sign": lambda z, g, e, t, n: step(z, -g, e, t, n),
    "eps/2": lambda z, g, e, t, n: step(z, 2 * g, e, t, n),
    "root of eps T": lambda z, g, e, t, n: z - 0.5 * e * g + e * t * n,
    "under the root": lambda z, g, e, t, n: z - 0.5 * e * g + e**0.5 * t * n,
    "temperature is not used": lambda z, g, e, t, n: step(z, g, e, 1.0, n),
    "gradient descent": lambda z, g, e, t, n: step(z, g, e, 0.0, n),
    "the new z": lambda z, g, e, t, n: step(z, g, e, t, n) - z,
    "shape": lambda z, g, e, t, n: step(z, g, e, t, n).sum(1),
    "differs": lambda z, g, e, t, n: step(z, g, e, t, n) + 1,
}


def variance(step_size, scale, temperature):
    if step_size >= 4 * scale**2:
        return math.inf
    return temperature * scale**2 / (1 - step_size / (4 * scale**2))


VARIANCES = {
    "target's variance": lambda e, s, t: t * s**2,
    "temperature is missing": lambda e, s, t: variance(e, s, 1.0),
    "wrong sign": lambda e, s, t: t * s**2 / (1 + e / (4 * s**2)),
    "half the step": lambda e, s, t: t * s**2 / (1 - e / (2 * s**2)),
    "standard deviation": lambda e, s, t: math.sqrt(variance(e, s, t)),
    "solve": lambda e, s, t: variance(e, s, t) + 1,
    "no stationary law": lambda e, s, t: t * s**2 / (1 - e / (4 * s**2) + 1e-12),
}


def log_ratio(energy, gradient, z, new, step_size, temperature):
    def log_q(here, there):
        return -(there - here + 0.5 * step_size * gradient(here)).square().sum(1) / (
            2 * step_size * temperature
        )

    return (energy(z) - energy(new)) / temperature + log_q(new, z) - log_q(z, new)


def proposals(energy, gradient, z, new, step_size, temperature):
    """log q(z | new) - log q(new | z)."""
    return log_ratio(lambda z: torch.zeros(len(z)), gradient, z, new, step_size, temperature)


def energies(energy, gradient, z, new, step_size, temperature):
    return (energy(z) - energy(new)) / temperature


RATIOS = {
    "not symmetric": energies,
    "whole ratio is upside down": lambda *a: -log_ratio(*a),
    "densities are upside down": lambda *a: energies(*a) - proposals(*a),
    "energies are upside down": lambda *a: proposals(*a) - energies(*a),
    "temperature is missing$": lambda *a: log_ratio(*a[:5], 1.0),
    "missing in the proposal": lambda *a: energies(*a) + proposals(*a[:5], 1.0),
    "missing in the target": lambda *a: energies(*a[:5], 1.0) + proposals(*a),
    "one of the two": lambda e, g, z, new, s, t: (
        (e(z) - e(new)) / t - (z - new + 0.5 * s * g(new)).square().sum(1) / (2 * s * t)
    ),
    "minimum": lambda *a: log_ratio(*a).clamp(max=0),
    "logarithm": lambda *a: log_ratio(*a).exp(),
    "one number a chain": lambda *a: log_ratio(*a).sum(),
    "differs": lambda *a: log_ratio(*a) + 1,
}
SIZES = {
    "independent": lambda a, n: n,
    "upside down": lambda a, n: n * (1 + a) / (1 - a),
    "counts twice": lambda a, n: n * (1 - a),
    "starts at lag 1": lambda a, n: n / (1 + 2 / (1 - a)),
    "squares": lambda a, n: n * (1 - a**2) / (1 + a**2),
    "that is tau": lambda a, n: (1 + a) / (1 - a),
    "geometric": lambda a, n: n * (1 - a) / (1 + a) + 1,
}


def derivatives(energy, x, create_graph=True):
    x = x.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=create_graph)
    return slope, curvature


def matching(energy, x):
    slope, curvature = derivatives(energy, x)
    return (0.5 * slope**2 - curvature).mean()


def weighed(square, second):
    def loss(energy, x):
        slope, curvature = derivatives(energy, x)
        return (square * slope**2 + second * curvature).mean()

    return loss


def half_detached(energy, x):
    slope, curvature = derivatives(energy, x)
    return (0.5 * slope**2 - curvature.detach()).mean()


MATCHINGS = {
    "E'' has the wrong sign": weighed(0.5, 1),
    "half of E'\\^2 is missing": weighed(1, -1),
    "E'' is missing": weighed(0.5, 0),
    "E'\\^2 alone": weighed(0.5, -0.5),
    "whole loss": weighed(-0.5, 1),
    "not the sum": lambda energy, x: len(x) * matching(energy, x),
    "no gradient": lambda energy, x: matching(energy, x).detach(),
    "lost on the way": half_detached,
    "differs": lambda energy, x: matching(energy, x) + 1,
    "one number": lambda energy, x: 0.5 * derivatives(energy, x)[0] ** 2,
}
CHECKS = {
    "check_langevin_step": (step, STEPS),
    "check_ula_variance": (variance, VARIANCES),
    "check_log_acceptance": (log_ratio, RATIOS),
    "check_ar1_effective_sample_size": (lambda a, n: n * (1 - a) / (1 + a), SIZES),
    "check_score_matching": (matching, MATCHINGS),
}


@pytest.mark.parametrize("name", CHECKS)
def test_solutions_pass(name, capsys):
    getattr(checks, name)(CHECKS[name][0])
    assert "right" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "mistake"), [(n, m) for n, (_, wrong) in CHECKS.items() for m in wrong])
def test_mistakes_are_named(name, mistake):
    with pytest.raises(AssertionError, match=mistake):
        getattr(checks, name)(CHECKS[name][1][mistake])


@pytest.mark.parametrize("name", CHECKS)
def test_an_empty_stub_is_told_so(name, capsys):
    getattr(checks, name)(lambda *arguments: None)
    assert "nothing returned yet" in capsys.readouterr().out
