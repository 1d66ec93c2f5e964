"""Each check of notebook 11 accepts the solution, names typical mistakes, and is gentle with a stub."""

import math

import pytest
import torch

from notebooks import checks


def displacement(step_size, n_steps, dim, drift=True, noise=True):
    a = 1 - step_size / 2
    moved = drift * (1 - a**n_steps) ** 2 + noise * (1 - a ** (2 * n_steps)) / (1 - step_size / 4)
    return math.sqrt(dim * moved)


def slerp(a, b, t):
    omega = torch.arccos(torch.dot(a, b) / (a.norm() * b.norm()))
    return (torch.sin((1 - t) * omega) * a + torch.sin(t * omega) * b) / torch.sin(omega)


def errors_below(a, s_a, b, s_b):
    return (a - b) / math.hypot(s_a, s_b)


DISPLACEMENTS = {
    "root is missing": lambda e, n, k: displacement(e, n, k) ** 2,
    "one coordinate": lambda e, n, k: displacement(e, n, 1),
    "noise is missing": lambda e, n, k: displacement(e, n, k, noise=False),
    "drift is missing": lambda e, n, k: displacement(e, n, k, drift=False),
    "limit of small": lambda e, n, k: math.sqrt(k * n * e),
    "root of N": lambda e, n, k: n * math.sqrt(k * e),
    "it should be": lambda e, n, k: 1.1 * displacement(e, n, k),
}
SLERPS = {
    "straight line": lambda a, b, t: (1 - t) * a + t * b,
    "t = 0 must": lambda a, b, t: slerp(b, a, t),
    "divide by sin": lambda a, b, t: slerp(a, b, t) * 0.8,
    "wrong speed": lambda a, b, t: torch.nn.functional.normalize((1 - t) * a + t * b, dim=0),
    "unit vectors": lambda a, b, t: 0.9 * slerp(a, b, t),
    "other lengths": lambda a, b, t: slerp(a, b / b.norm(), t),
}
ERRORS = {
    "sign": lambda *v: -errors_below(*v),
    "variances do": lambda a, s_a, b, s_b: (a - b) / (s_a + s_b),
    "root is missing": lambda a, s_a, b, s_b: (a - b) / (s_a**2 + s_b**2),
    "only one": lambda a, s_a, b, s_b: (a - b) / s_b,
    "summed variances": lambda a, s_a, b, s_b: a - b,
}
CASES = [
    (check, mistake, wrong)
    for check, mistakes in (
        (checks.check_displacement, DISPLACEMENTS),
        (checks.check_slerp, SLERPS),
        (checks.check_errors_below, ERRORS),
    )
    for mistake, wrong in mistakes.items()
]


def test_solutions_pass(capsys):
    checks.check_displacement(displacement)
    checks.check_slerp(slerp)
    checks.check_errors_below(errors_below)
    assert capsys.readouterr().out.count("right") == 3


@pytest.mark.parametrize("check, mistake, wrong", CASES, ids=[case[1] for case in CASES])
def test_mistakes_are_named(check, mistake, wrong):
    with pytest.raises(AssertionError, match=mistake):
        check(wrong)


@pytest.mark.parametrize("check", [checks.check_displacement, checks.check_slerp, checks.check_errors_below])
def test_stubs_are_gentle(check, capsys):
    check(lambda *arguments: None)
    assert "nothing returned yet" in capsys.readouterr().out
