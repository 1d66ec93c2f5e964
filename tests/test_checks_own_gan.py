"""Each check accepts the solution, rejects typical mistakes by name, and is gentle with an empty stub."""

import pytest
import torch
from torch import nn

from notebooks import checks


def right_logit(network):
    layers = network[:-1].eval()
    return lambda x: layers(x).squeeze(1)


def through_probability(network, eps=None):
    network.eval()
    return lambda x: torch.logit(network(x), eps).squeeze(1)


LOGITS = {
    "squeeze": lambda network: network[:-1].eval(),
    "still the probability": lambda network: lambda x: network.eval()(x).squeeze(1),
    "infinite": through_probability,
    "clamp hides": lambda network: through_probability(network, 1e-6),
    "training mode": lambda network: (
        lambda x: network[:-1](torch.cat([x, torch.full((1, 2), 0.3)]))[:-1].squeeze(1)
    ),
    "sign": lambda network: lambda x: -right_logit(network)(x),
    "differs": lambda network: lambda x: 2 * right_logit(network)(x),
}
PRIORS = {
    "Jacobian is missing": lambda z: -z.exp().sum(1),
    "divided by": lambda z: (-z.exp() - z).sum(1),
    "other sign": lambda z: (z.exp() - z).sum(1),
    "standard normal": lambda z: -0.5 * z.square().sum(1),
    "density of w at z": lambda z: -z.sum(1),
    "logarithm": lambda z: (z - z.exp()).sum(1).exp(),
    "do not average": lambda z: (z - z.exp()).mean(1),
    "summed over": lambda z: z - z.exp(),
    "differs": lambda z: (2 * z - z.exp()).sum(1),
}


def right_unsmoothed(d, s):
    return d - torch.log(s - (1 - s) * torch.exp(d))


UNSMOOTHED = {
    "unchanged": lambda d, s: d,
    "does not shift": lambda d, s: d - torch.tensor(s, dtype=d.dtype).log(),
    "dividing": lambda d, s: d / s,
    "on top": lambda d, s: -right_unsmoothed(d, s),
    "once more": lambda d, s: d + torch.tensor(s, dtype=d.dtype).log() - torch.log((1 - s) * d.exp() + 1),
    "its logarithm": lambda d, s: right_unsmoothed(d, s).exp(),
    "0.9 only": lambda d, s: right_unsmoothed(d, 0.9),
    "differs": lambda d, s: right_unsmoothed(d, s) + 1,
}


def test_solutions_pass(capsys):
    checks.check_logit_of_sequential(right_logit)
    checks.check_exponential_prior(lambda z: (z - z.exp()).sum(1))
    checks.check_unsmoothed_logit(right_unsmoothed)
    assert capsys.readouterr().out.count("right") == 3


def test_identity_in_place_of_the_sigmoid_is_a_solution_too():
    def replaced(network):
        network[-1] = nn.Identity()
        network.eval()
        return lambda x: network(x)[:, 0]

    checks.check_logit_of_sequential(replaced)


@pytest.mark.parametrize("mistake", LOGITS)
def test_wrong_logits_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_logit_of_sequential(LOGITS[mistake])


@pytest.mark.parametrize("mistake", PRIORS)
def test_wrong_priors_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_exponential_prior(PRIORS[mistake])


@pytest.mark.parametrize("mistake", UNSMOOTHED)
def test_wrong_unsmoothings_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_unsmoothed_logit(UNSMOOTHED[mistake])


def test_an_empty_stub_is_told_so(capsys):
    for check in (
        checks.check_logit_of_sequential,
        checks.check_exponential_prior,
        checks.check_unsmoothed_logit,
    ):
        check(lambda *arguments: None)
    assert capsys.readouterr().out.count("nothing returned yet") == 3
