"""Checks of notebook 13."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from notebooks.checks.common import unfinished

Logit = Callable[[Tensor], Tensor]


def check_logit_of_sequential(logit_of: Callable[[nn.Sequential], Logit]) -> None:
    """Exercise: the logit x -> (n,) of an nn.Sequential that ends in a sigmoid, exact at any size."""
    x = torch.tensor([[-2.0, 1.0], [0.3, 0.1], [40.0, -50.0], [-30.0, 45.0]])
    network, exact = _network()
    d = logit_of(network)
    if unfinished(d, "logit"):
        return
    with torch.no_grad():
        value, alone = d(x), d(x[:2])
    assert value.shape in ((4,), (4, 1)), f"one logit a point is wanted, shape (4,), not {tuple(value.shape)}"
    assert value.shape == (4,), "the shape is (n, 1): squeeze the last dimension, or E will broadcast"
    right = exact(x)
    assert not torch.allclose(value, torch.sigmoid(right)), "that is still the probability"
    assert not (value.isinf().any() or value.isnan().any()), (
        "torch.logit of the probability is infinite where the sigmoid rounds to 1: take the layer before it"
    )
    assert torch.allclose(value[:2], alone, atol=1e-5), (
        "a point's logit depends on its neighbours: the network is in training mode, call eval()"
    )
    small = right.abs() < 10
    clamped = torch.allclose(value[small], right[small], rtol=1e-3) and not torch.allclose(value, right)
    assert not clamped, "small logits are right and large ones are not: a clamp hides the saturation"
    assert not torch.allclose(value, -right), "the sign is wrong: a high logit looks real"
    assert torch.allclose(value, right, rtol=1e-4), "the logit differs from the layer before the sigmoid"
    print("logit: right.")


def _network() -> tuple[nn.Sequential, Logit]:
    """A discriminator in training mode whose logits reach +-60, and its exact logit in evaluation mode."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1), nn.Sigmoid())
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(2))
        network[0].bias.zero_()
        network[1].eps = 1e-9
        network[2].weight.copy_(torch.tensor([[1.0, -0.4]]))
        network[2].bias.fill_(0.2)
    return network.train(), lambda x: x[:, 0] - 0.4 * x[:, 1] + 0.2


def check_exponential_prior(prior: Callable[[Tensor], Tensor]) -> None:
    """Exercise: log density of z where w = exp(z) has independent Exponential(1) coordinates."""
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = prior(z)
    if unfinished(value, "prior"):
        return
    assert value.shape == (6,), f"one number a point, summed over coordinates: (6,), not {tuple(value.shape)}"
    right = (z - z.exp()).sum(1)
    mistakes = {
        "the Jacobian is missing: p(z) = p(w) |dw/dz|": -z.exp().sum(1),
        "the Jacobian is divided by: p(z) = p(w) |dw/dz| with dw/dz = exp(z)": (-z.exp() - z).sum(1),
        "that is the energy: the logarithm of the density has the other sign": -right,
        "that is the standard normal: the prior of w is exponential": -0.5 * z.square().sum(1),
        "that is the density of w at z: put w = exp(z) into it": -z.sum(1),
        "the logarithm of the density is wanted": right.exp(),
        "sum over coordinates, do not average": right / 3,
    }
    for mistake, wrong in mistakes.items():
        constant = value - wrong
        assert constant.std() > 1e-9, mistake
    assert (value - right).std() < 1e-9, "the density differs from p(w) |dw/dz| at w = exp(z)"
    print("prior: right.")


def check_unsmoothed_logit(unsmoothed: Callable[[Tensor, float], Tensor]) -> None:
    """Exercise: d* = log p_d/p_g from the optimal logits of a discriminator trained with real label s."""
    d = torch.linspace(-4, 4, 9, dtype=torch.float64)

    def smooth(s: float) -> Tensor:
        return d + torch.log(torch.tensor(s, dtype=d.dtype)) - torch.log((1 - s) * d.exp() + 1)

    value = unsmoothed(smooth(0.9), 0.9)
    if unfinished(value, "d"):
        return
    assert value.shape == d.shape, f"one logit a point, {tuple(d.shape)}, not {tuple(value.shape)}"
    given = smooth(0.9)
    log_s = torch.log(torch.tensor(0.9, dtype=d.dtype))
    mistakes = {
        "the smoothing is still in: the logits come back unchanged": given,
        "only the probability is s times the right one; its logit does not shift by log s": given - log_s,
        "dividing the logit by s does not undo it": given / 0.9,
        "the sign is wrong: p_d belongs on top": -d,
        "that smooths once more: solve for p_d/p_g": given + log_s - torch.log(0.1 * given.exp() + 1),
        "the ratio itself: its logarithm is wanted": d.exp(),
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong, rtol=1e-6), mistake
    assert torch.allclose(value, d), "it differs from log r with exp(d_s) = s r / ((1 - s) r + 1)"
    assert torch.allclose(unsmoothed(smooth(0.7), 0.7), d), "right for s = 0.9 only: use s"
    assert torch.allclose(unsmoothed(d, 1.0), d), "s = 1 is no smoothing: the logits stay as they are"
    print("d: right.")
