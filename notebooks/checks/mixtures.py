"""Checks of notebook 07."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def check_share_of_high_quality(share: Callable[[Tensor, Tensor, float, float], float]) -> None:
    """Exercise: the share of points within radius * std of the nearest mean."""
    means = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    x = torch.tensor([[0.1, 0.0], [0.5, 0.0], [0.75, 0.2], [1.0, 0.35], [0.0, -0.7]])
    # distances from the nearest mean: 0.1, 0.5, 0.32, 0.35, 0.7
    value = share(x, means, 0.1, 4.0)
    if unfinished(value, "share"):
        return
    value = float(value)
    assert not math.isclose(value, 3.0, rel_tol=1e-5), "that is a count: divide by the number of points"
    assert not math.isclose(value, 0.4, abs_tol=1e-6), "the share of bad points, or of another radius"
    assert not math.isclose(value, 0.2, abs_tol=1e-6), "only one mean is used: take the nearest of all"
    assert not math.isclose(value, 1.0, rel_tol=1e-5), "the radius is radius * std, not radius alone"
    assert math.isclose(value, 0.6, abs_tol=1e-6), (
        "the share within radius * std of the nearest mean is 0.6 here"
    )
    assert math.isclose(float(share(x, means, 0.1, 1.5)), 0.2, abs_tol=1e-6), "the radius is not used"
    print("share: right.")


def check_balance_of_modes(balance: Callable[[Tensor, int], float]) -> None:
    """Exercise: KL(h || uniform) of the histogram of modes, in nats."""
    modes = torch.tensor([0, 0, 0, 1, 1, 2])
    value = balance(modes, 4)
    if unfinished(value, "balance"):
        return
    value = float(value)
    assert math.isfinite(value), "a mode without samples must count 0: use torch.xlogy, or leave it out"
    h = [3 / 6, 2 / 6, 1 / 6]
    right = sum(p * math.log(4 * p) for p in h)
    mistakes = {
        "the sign is wrong: a Kullback-Leibler divergence is never negative": -right,
        "that is in bits: use the natural logarithm": right / math.log(2),
        "that is the entropy of h, not its divergence from uniform": -sum(p * math.log(p) for p in h),
        "uniform over the modes that were seen; use all k": sum(p * math.log(3 * p) for p in h),
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value, wrong, rel_tol=1e-4), mistake
    assert math.isclose(value, right, rel_tol=1e-4), f"the divergence is {right:.4f} here, not {value:.4f}"
    print("balance: right.")


def check_proposals_per_sample(proposals: Callable[[Tensor, float], float]) -> None:
    """Exercise: the mean number of proposals for one accepted sample of rejection sampling."""
    d, d_max = torch.tensor([-2.0, 0.0, 1.0, 1.5]), 2.0
    value = proposals(d, d_max)
    if unfinished(value, "proposals"):
        return
    value = float(value)
    accept = [math.exp(v - d_max) for v in d.tolist()]
    right = 4 / sum(accept)
    mistakes = {
        "that is the acceptance rate: take one over it": 1 / right,
        "average the probabilities first, then invert": sum(1 / a for a in accept) / 4,
        "d_max is not used": 4 / sum(math.exp(v) for v in d.tolist()),
        "the logit of the mean is not the mean of exp(d)": math.exp(d_max - d.mean().item()),
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value, wrong, rel_tol=1e-4), mistake
    assert math.isclose(value, right, rel_tol=1e-4), f"it is {right:.3f} here, not {value:.3f}"
    print("proposals: right.")
