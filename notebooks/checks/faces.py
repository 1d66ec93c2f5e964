"""Checks of notebook 11."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def check_displacement(displacement: Callable[[float, int, int], float]) -> None:
    """Exercise: root of E|z_N - z_0|^2 for N steps of ULA on N(0, I), started from it."""
    value = displacement(0.1, 20, 128)
    if unfinished(value, "displacement"):
        return

    def right(step_size: float, n_steps: int, dim: int) -> float:
        a = 1 - step_size / 2
        return math.sqrt(dim * ((1 - a**n_steps) ** 2 + (1 - a ** (2 * n_steps)) / (1 - step_size / 4)))

    a = 0.95
    mistakes = {
        "the root is missing": right(0.1, 20, 128) ** 2,
        "that is one coordinate: all dim of them move": right(0.1, 20, 1),
        "the noise is missing": math.sqrt(128) * (1 - a**20),
        "the drift is missing": math.sqrt(128 * (1 - a**40) / (1 - 0.1 / 4)),
        "this is the limit of small N eps; here the drift towards 0 counts": math.sqrt(128 * 20 * 0.1),
        "independent steps add up in the square: the noise grows like the root of N": 20 * math.sqrt(12.8),
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value, wrong, rel_tol=1e-3), mistake
    for case in ((0.1, 20, 128), (1e-7, 20, 128), (1.0, 3, 2)):
        assert math.isclose(displacement(*case), right(*case), rel_tol=1e-4), (
            f"for step_size, n_steps, dim = {case} it should be {right(*case):.4g}"
        )
    print("displacement: right.")


def check_slerp(slerp: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise: spherical interpolation between a (k,) and b (k,) at t."""
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.6, 0.8, 0.0])
    t = 0.3
    value = slerp(a, b, t)
    if unfinished(value, "slerp"):
        return
    assert tuple(value.shape) == (3,), f"one latent is wanted, shape (3,), not {tuple(value.shape)}"

    def path(omega: float, t: float) -> Tensor:
        return (math.sin((1 - t) * omega) * a + math.sin(t * omega) * b) / math.sin(omega)

    omega = math.acos(0.6)
    straight = (1 - t) * a + t * b
    assert not torch.allclose(value, straight, atol=1e-4), "that is the straight line"
    assert not torch.allclose(value, path(omega, 1 - t), atol=1e-4), "t = 0 must give a, t = 1 must give b"
    assert not torch.allclose(value, path(omega, t) * math.sin(omega), atol=1e-4), "divide by sin(omega)"
    assert not torch.allclose(value, straight / straight.norm(), atol=1e-4), (
        "a normalised straight line has the wrong speed and length"
    )
    b_long, unit = 3 * b, path(omega, t)
    assert torch.allclose(value, unit, atol=1e-4), (
        "the angle is that between the unit vectors a/|a| and b/|b|"
    )
    expected = unit + (b_long - b) * math.sin(t * omega) / math.sin(omega)
    assert torch.allclose(slerp(a, b_long, t), expected, atol=1e-4), "wrong for vectors of other lengths"
    print("slerp: right.")


def check_errors_below(errors_below: Callable[[float, float, float, float], float]) -> None:
    """Exercise: by how many standard errors of the difference b lies below a."""
    a, s_a, b, s_b = 10.0, 0.3, 8.0, 0.4
    value = errors_below(a, s_a, b, s_b)
    if unfinished(value, "errors_below"):
        return
    mistakes = {
        "the sign is wrong: positive if b < a": (b - a) / 0.5,
        "standard errors do not add, variances do": (a - b) / (s_a + s_b),
        "the root is missing": (a - b) / (s_a**2 + s_b**2),
        "only one of the two errors is used": (a - b) / s_b,
        "only one of the two errors is used ": (a - b) / s_a,
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value, wrong, rel_tol=1e-6), mistake.strip()
    assert math.isclose(value, 4.0, rel_tol=1e-6), "difference over the root of the summed variances"
    print("errors_below: right.")
