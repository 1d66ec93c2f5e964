"""The checks of notebook 08 accept the solutions, name typical mistakes, and are gentle with empty stubs."""

import math

import pytest
import torch

from notebooks import checks
from utils.metrics.toy import distance_to_roll, high_quality_share


def to_curve(x, roll, first=1.5):
    """Distances (n, k) of points to many points of the roll."""
    t = math.pi * torch.linspace(first, 4.5, 5000)
    return torch.cdist(x, roll.curve(t))


def share(x, roll, radius):
    return (to_curve(x, roll).min(1).values <= radius * roll.std).float().mean().item()


SHARES = {
    "not a count": lambda x, roll, r: (to_curve(x, roll).min(1).values <= r * roll.std).sum().item(),
    "radius counts standard deviations": lambda x, roll, r: (
        (to_curve(x, roll).min(1).values <= r).float().mean().item()
    ),
    "not their squares": lambda x, roll, r: (
        (to_curve(x, roll).square().min(1).values <= r * roll.std).float().mean().item()
    ),
    "nearest point of the curve": lambda x, roll, r: (
        (to_curve(x, roll).mean(1) <= r * roll.std).float().mean().item()
    ),
    "share outside": lambda x, roll, r: 1 - share(x, roll, r),
    "radius given is not used": lambda x, roll, r: share(x, roll, 4.0),
    "t runs from": lambda x, roll, r: (
        (torch.cdist(x, roll.curve(math.pi * torch.linspace(0, 3, 5000))).min(1).values <= r * roll.std)
        .float()
        .mean()
        .item()
    ),
}
STEPS = {
    "not 2": lambda H: 2 / torch.linalg.eigvalsh(H)[-1],
    "not the smallest": lambda H: 4 / torch.linalg.eigvalsh(H)[0],
    "not its diagonal": lambda H: 4 / H.diagonal().max(),
    "not their sum": lambda H: 4 / H.trace(),
    "not its root": lambda H: 4 / torch.linalg.eigvalsh(H)[-1].sqrt(),
    "upside down": lambda H: torch.linalg.eigvalsh(H)[-1] / 4,
    "not 1": lambda H: 1.0,
}


def step(z, gradient, step_size, A, noise):
    return z - 0.5 * step_size * gradient @ (A @ A.T) + math.sqrt(step_size) * noise @ A.T


MOVES = {
    "noise must be multiplied": lambda z, g, e, A, n: z - 0.5 * e * g @ (A @ A.T) + e**0.5 * n,
    "drift must be multiplied": lambda z, g, e, A, n: z - 0.5 * e * g + e**0.5 * n @ A.T,
    "not A$": lambda z, g, e, A, n: z - 0.5 * e * g @ A.T + e**0.5 * n @ A.T,
    "not A\\^T A": lambda z, g, e, A, n: z - 0.5 * e * g @ (A.T @ A) + e**0.5 * n @ A.T,
    "rows": lambda z, g, e, A, n: z - 0.5 * e * g @ (A @ A.T) + e**0.5 * n @ A,
    "not A A\\^T": lambda z, g, e, A, n: z - 0.5 * e * g @ (A @ A.T) + e**0.5 * n @ (A @ A.T),
    "half": lambda z, g, e, A, n: z - e * g @ (A @ A.T) + e**0.5 * n @ A.T,
    "root of the step size": lambda z, g, e, A, n: z - 0.5 * e * g @ (A @ A.T) + e * n @ A.T,
    "uphill": lambda z, g, e, A, n: z + 0.5 * e * g @ (A @ A.T) + e**0.5 * n @ A.T,
    "shape": lambda z, g, e, A, n: step(z, g, e, A, n).sum(1),
    "is wanted": lambda z, g, e, A, n: z,
}


def log_density(u, log_p, A):
    return log_p(u @ A.T) + torch.linalg.slogdet(A).logabsdet


DENSITIES = {
    "is missing": lambda u, log_p, A: log_p(u @ A.T),
    "sign of log": lambda u, log_p, A: log_p(u @ A.T) - A.det().abs().log(),
    "by its logarithm": lambda u, log_p, A: log_p(u @ A.T) + A.det().abs(),
    "absolute value": lambda u, log_p, A: log_p(u @ A.T) + A.det().log(),
    "not at u": lambda u, log_p, A: log_p(u) + A.det().abs().log(),
    "not A\\^{-1} u": lambda u, log_p, A: log_p(torch.linalg.solve(A, u.T).T) + A.det().abs().log(),
    "rows": lambda u, log_p, A: log_p(u @ A) + A.det().abs().log(),
    "one number a row": lambda u, log_p, A: log_density(u, log_p, A).sum(),
    "is wanted": lambda u, log_p, A: log_density(u, log_p, A) + 1,
}
CASES = [
    (checks.check_share_on_roll, SHARES),
    (checks.check_largest_stable_step, STEPS),
    (checks.check_preconditioned_step, MOVES),
    (checks.check_density_of_linear_map, DENSITIES),
]


def test_solutions_pass(capsys):
    checks.check_share_on_roll(share)
    checks.check_largest_stable_step(lambda H: 4 / torch.linalg.eigvalsh(H)[-1].item())
    checks.check_preconditioned_step(step)
    checks.check_density_of_linear_map(log_density)
    assert capsys.readouterr().out.count("right") == 4


def test_the_library_passes_the_check_of_the_share():
    checks.check_share_on_roll(
        lambda x, roll, radius: (
            high_quality_share(x, roll)
            if radius == 4
            else (distance_to_roll(x, roll)[0] <= radius).float().mean().item()
        )
    )


@pytest.mark.parametrize(
    ("check", "answer", "mistake"),
    [(check, answer, mistake) for check, wrong in CASES for mistake, answer in wrong.items()],
    ids=[f"{check.__name__}-{mistake}" for check, wrong in CASES for mistake in wrong],
)
def test_wrong_answers_are_named(check, answer, mistake):
    with pytest.raises(AssertionError, match=mistake):
        check(answer)


def test_an_empty_stub_is_told_so(capsys):
    for check, _ in CASES:
        check(lambda *arguments: None)
    assert capsys.readouterr().out.count("nothing returned yet") == 4
