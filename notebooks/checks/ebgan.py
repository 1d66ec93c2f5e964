"""Checks of notebook 05."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def _same(a: Tensor | float, b: Tensor | float) -> bool:
    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def check_reconstruction_energy(energy: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]) -> None:
    """Exercise: U(x) = |reconstruct(x) - x|, the norm over everything but the first axis; x (n, *shape)."""
    x = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def reconstruct(x: Tensor) -> Tensor:
        return 0.5 * x + 0.1

    value = energy(x, reconstruct)
    if unfinished(value, "energy"):
        return
    error = (reconstruct(x) - x).flatten(1)  # (n, size)
    assert value.shape == (3,), (
        f"one energy for each row is wanted, shape (3,), not {tuple(value.shape)}: "
        "flatten all axes but the first"
    )
    mistakes = {
        "the root is missing: this is the squared norm": error.square().sum(1),
        "this is the mean square: it divides by the number of coordinates and so rescales the margin": (
            error.square().mean(1)
        ),
        "this is the root of the *mean* square: sum over the coordinates": error.square().mean(1).sqrt(),
        "this is the sum of absolute values: the energy is the Euclidean norm": error.abs().sum(1),
        "this is the norm of the reconstruction, not of the error": reconstruct(x).flatten(1).norm(dim=1),
        "the energy has the wrong sign: a bad reconstruction must have high energy": -error.norm(dim=1),
    }
    for mistake, wrong in mistakes.items():
        assert not _same(value, wrong), mistake
    assert _same(value, error.norm(dim=1)), "the energy differs from |reconstruct(x) - x|"
    print("energy: right.")


def check_margin_loss(losses: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]) -> None:
    """Exercise: (L_D, L_G) of EBGAN from energies of real data (n,), of samples (k,), and the margin."""
    real, fake, margin = torch.tensor([0.5, 1.0, 0.0]), torch.tensor([0.25, 3.0, 1.5, 6.0]), 2.0
    value = losses(real, fake, margin)
    if unfinished(value, "losses"):
        return
    assert isinstance(value, tuple | list) and len(value) == 2, "return two numbers: (loss of D, loss of G)"
    loss_d, loss_g = (torch.as_tensor(v) for v in value)
    hinge = (margin - fake).clamp(min=0)
    right = real.mean() + hinge.mean()
    assert loss_d.ndim == 0 == loss_g.ndim, "each loss is one number: take means over the batch"
    mistakes = {
        "the hinge is missing: energies beyond the margin must add nothing": real.mean()
        + (margin - fake).mean(),
        "the hinge is taken of the mean: take the mean of the hinges": real.mean()
        + (margin - fake.mean()).clamp(min=0),
        "the hinge points the wrong way: it is max(0, margin - U)": real.mean()
        + (fake - margin).clamp(min=0).mean(),
        "real and fake are swapped: data get low energy": fake.mean() + (margin - real).clamp(min=0).mean(),
        "these are sums: take means over each batch": real.sum() + hinge.sum(),
        "the energy of the real data is missing": hinge.mean(),
    }
    for mistake, wrong in mistakes.items():
        assert not _same(loss_d, wrong), mistake
    assert _same(loss_d, right), "the loss of D differs from mean U(x) + mean max(0, margin - U(G(z)))"
    assert not _same(loss_g, -fake.mean()), "G's loss has the wrong sign: G lowers the energy of its samples"
    assert not _same(loss_g, -hinge.mean()), (
        "G's loss is not minus D's hinge: beyond the margin that has no gradient, and G needs one"
    )
    assert _same(loss_g, fake.mean()), "the loss of G differs from mean U(G(z))"
    print("losses: right.")


def check_phi_argmin(argmin: Callable[[float, float, float], tuple[float, float]]) -> None:
    """Exercise: the ends of the set on which a y + b max(0, margin - y), y >= 0, is least; a, b >= 0."""
    value = argmin(1.0, 2.0, 3.0)
    if unfinished(value, "argmin"):
        return

    def ends(a: float, b: float, margin: float) -> tuple[float, float]:
        pair = argmin(a, b, margin)
        assert isinstance(pair, tuple | list) and len(pair) == 2, (
            "return two numbers, the lowest and the highest minimiser (equal if there is only one)"
        )
        return tuple(map(float, pair))

    assert ends(1.0, 2.0, 3.0) != (0, 0) and ends(2.0, 1.0, 3.0) != (3, 3), (
        "the cases are swapped: where fakes are denser (a < b), D raises the energy to the margin"
    )
    assert ends(1.0, 2.0, 3.0) == (3, 3), "for a < b the slope a - b is negative up to the margin: (m, m)"
    assert ends(2.0, 1.0, 3.0) == (0, 0), "for a > b phi rises from the start: (0, 0)"
    assert ends(1.5, 1.5, 2.0) == (0, 2), (
        "the tie is wrong: for a = b > 0 phi is flat on all of [0, m], so return (0, m)"
    )
    assert ends(0.0, 1.0, 2.0) == (2, math.inf), (
        "for a = 0 < b nothing holds the energy down beyond the margin: return (m, math.inf)"
    )
    assert ends(0.0, 0.0, 2.0) == (0, math.inf), "for a = b = 0 phi is 0 everywhere: return (0, math.inf)"
    print("argmin: right.")


def check_pulling_away(term: Callable[[Tensor], Tensor]) -> None:
    """Exercise: the mean over pairs i != j of the squared cosine of rows i and j of features (n, s)."""
    features = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features[:, 0] += 1.0  # so that the cosines do not average out
    value = term(features)
    if unfinished(value, "term"):
        return
    value = torch.as_tensor(value, dtype=torch.float64)
    n = len(features)
    unit = features / features.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    off = ~torch.eye(n, dtype=torch.bool)
    products = (features @ features.T)[off]
    assert value.ndim == 0, f"one number for the batch is wanted, not shape {tuple(value.shape)}"
    mistakes = {
        "the cosines are not squared: antipodal rows would cancel parallel ones": cosines[off].mean(),
        "the pairs of a row with itself are in the mean: leave the diagonal out": cosines.square().mean(),
        "divide by the number of pairs, n (n - 1), not by n^2": cosines[off].square().sum() / n**2,
        "this is the sum over pairs: divide by n (n - 1)": cosines[off].square().sum(),
        "the rows are not normalised: divide each by its length": products.square().mean(),
        "each pair counts once in the sum but twice in the divisor": 0.5 * cosines[off].square().mean(),
        "the sign is wrong: G lowers its loss by spreading, so parallel rows must cost": (
            -cosines[off].square().mean()
        ),
    }
    for mistake, wrong in mistakes.items():
        assert not _same(value, wrong), mistake
    assert _same(value, cosines[off].square().mean()), (
        "the term differs from the mean squared cosine of pairs"
    )
    print("term: right.")
