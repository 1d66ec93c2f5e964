"""Checks of notebook 08."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished
from utils.toy import SwissRoll


def check_share_on_roll(share: Callable[[Tensor, SwissRoll, float], float]) -> None:
    """Exercise: the share of points within `radius` standard deviations of the noiseless roll."""
    roll = SwissRoll()
    t = 1.5 * math.pi * (1 + 2 * torch.linspace(0.02, 0.98, 50))  # (50,)
    offsets = torch.tensor([0.0, 1.0, 2.0, 3.0, 5.0, 12.0]) * roll.std  # towards the centre, nearly across
    outwards = roll.curve(t) / roll.curve(t).norm(dim=1, keepdim=True)
    x = torch.cat([roll.curve(t) - offset * outwards for offset in offsets])  # (300, 2)
    value = share(x, roll, 4.0)
    if unfinished(value, "share"):
        return
    distance = torch.cdist(x, roll.curve(1.5 * math.pi * (1 + 2 * torch.linspace(0, 1, 20_000))))
    nearest = distance.min(1).values  # (300,)
    right = (nearest <= 4 * roll.std).float().mean().item()
    value = float(value)

    def same(a: float, b: float) -> bool:
        return abs(a - b) < 0.01

    if not same(value, right):
        other_turns = torch.cdist(x, roll.curve(math.pi * torch.linspace(0, 3, 20_000))).min(1).values
        mistakes = {
            "give a share between 0 and 1, not a count": right * len(x),
            "the radius counts standard deviations: compare with radius * roll.std": 1.0,
            "compare distances, not their squares, with radius * roll.std": (
                (nearest.square() <= 4 * roll.std).float().mean().item()
            ),
            "take the distance to the nearest point of the curve, not to the mean of all": 0.0,
            "that is the share outside": 1 - right,
            "t runs from 1.5 pi to 4.5 pi": (other_turns <= 4 * roll.std).float().mean().item(),
        }
        for mistake, wrong in mistakes.items():
            assert not same(value, wrong), mistake
    assert same(value, right), f"the share is {right:.3f} for the test's points, not {value:.3f}"
    assert same(float(share(x, roll, 2.5)), (nearest <= 2.5 * roll.std).float().mean().item()), (
        "right at radius 4, but the radius given is not used"
    )
    print("share: right.")


def check_largest_stable_step(step: Callable[[Tensor], float]) -> None:
    """Exercise: the step size at which ULA on E = z^T H z / 2 stops having a stationary law."""
    H = torch.tensor([[5.0, 3.0, 0.0], [3.0, 5.0, 0.0], [0.0, 0.0, 0.5]])  # eigenvalues 8, 2, 0.5
    value = step(H)
    if unfinished(value, "step"):
        return
    value = float(value)
    mistakes = {
        "the drift carries eps/2, so the limit is 4 over the eigenvalue, not 2": 2 / 8,
        "the stiffest direction decides: the largest eigenvalue, not the smallest": 4 / 0.5,
        "eigenvalues of H, not its diagonal": 4 / 5,
        "the largest eigenvalue, not their sum": 4 / 10.5,
        "the eigenvalue itself, not its root": 4 / math.sqrt(8),
        "upside down: the stiffer, the smaller the step": 8 / 4,
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value, wrong, rel_tol=1e-4), mistake
    assert math.isclose(value, 4 / 8, rel_tol=1e-4), f"for eigenvalues 8, 2, 0.5 it is 0.5, not {value:.4g}"
    print("step: right.")


def check_preconditioned_step(step: Callable[[Tensor, Tensor, float, Tensor, Tensor], Tensor]) -> None:
    """Exercise: the Langevin step in z that is a plain one in u, where z = A u."""
    generator = torch.Generator().manual_seed(0)
    z, gradient, noise = (torch.randn(5, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    A, eps = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64), 0.3
    value = step(z, gradient, eps, A, noise)
    if unfinished(value, "step"):
        return
    assert value.shape == z.shape, f"the step has shape {tuple(value.shape)}; it must be that of z, (5, 2)"

    def move(drift: Tensor, spread: Tensor) -> Tensor:
        """Both matrices act on rows."""
        return z - 0.5 * eps * gradient @ drift.T + math.sqrt(eps) * noise @ spread.T

    one = torch.eye(2, dtype=torch.float64)
    mistakes = {
        "the noise must be multiplied by A, or the target changes": move(A @ A.T, one),
        "the drift must be multiplied by A A^T, or the target changes": move(one, A),
        "the drift takes A A^T, not A": move(A, A),
        "the drift takes A A^T, not A^T A": move(A.T @ A, A),
        "rows: A n for each row n is noise @ A.T": move(A @ A.T, A.T),
        "the noise takes A, not A A^T": move(A @ A.T, A @ A.T),
        "the half of the drift is missing": z - eps * gradient @ (A @ A.T) + math.sqrt(eps) * noise @ A.T,
        "the noise takes the root of the step size": z - 0.5 * eps * gradient @ (A @ A.T) + eps * noise @ A.T,
        "uphill: the gradient is subtracted": 2 * z - move(A @ A.T, A) + 2 * math.sqrt(eps) * noise @ A.T,
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong), mistake
    assert torch.allclose(value, move(A @ A.T, A)), "z - eps/2 A A^T gradient + sqrt(eps) A noise is wanted"
    print("step: right.")


def check_density_of_linear_map(
    log_density: Callable[[Tensor, Callable[[Tensor], Tensor], Tensor], Tensor],
) -> None:
    """Exercise: the log-density of u = A^{-1} z, given that of z."""
    A = torch.tensor([[0.0, 2.0], [3.0, 1.0]], dtype=torch.float64)  # determinant -6
    u = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def log_p(z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(1) - math.log(2 * math.pi)

    value = log_density(u, log_p, A)
    if unfinished(value, "log-density"):
        return
    assert value.shape == (4,), f"one number a row is wanted, shape (4,), not {tuple(value.shape)}"
    assert not value.isnan().any(), "the determinant is negative here: take its absolute value"
    inside, change = log_p(u @ A.T), math.log(6)
    mistakes = {
        "the factor |det A| is missing": inside,
        "the sign of log |det A| is wrong": inside - change,
        "|det A| enters by its logarithm": inside + 6,
        "z = A u: evaluate log p_z at A u, not at u": log_p(u) + change,
        "z = A u, not A^{-1} u": log_p(torch.linalg.solve(A, u.T).T) + change,
        "rows: A u for each row u is u @ A.T": log_p(u @ A) + change,
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong), mistake
    assert torch.allclose(value, inside + change), "log p_z(A u) + log |det A| is wanted"
    print("log-density: right.")
