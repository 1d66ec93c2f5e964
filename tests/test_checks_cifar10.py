"""Each check accepts the solution, rejects typical mistakes by name, and is gentle with an empty stub."""

import pytest
import torch
from torch.nn.functional import softplus

from notebooks import checks

ENERGIES = {
    "wrong sign": lambda z, G, d: -(0.5 * z.square().sum(1) - d(G(z))),
    "logit has the wrong sign": lambda z, G, d: 0.5 * z.square().sum(1) + d(G(z)),
    "prior is missing": lambda z, G, d: -d(G(z)),
    "probability": lambda z, G, d: 0.5 * z.square().sum(1) - torch.sigmoid(d(G(z))),
    "one energy a chain": lambda z, G, d: (0.5 * z.square().sum(1) - d(G(z))).sum(),
    "half": lambda z, G, d: z.square().sum(1) - d(G(z)),
}
TEMPERATURES = {
    "square it": lambda step_size, std: std / step_size**0.5,
    "upside down": lambda step_size, std: step_size / std**2,
    "match": lambda step_size, std: std,
}


def loss(real, fake, slope, intercept):
    real, fake = slope * real + intercept, slope * fake + intercept
    return 0.5 * (softplus(-real).mean() + softplus(fake).mean()).item()


LOSSES = {
    "swapped": lambda r, f, a, b: 0.5 * (softplus(a * r + b).mean() + softplus(-(a * f + b)).mean()),
    "mean of the two": lambda r, f, a, b: 2 * loss(r, f, a, b),
    "not used": lambda r, f, a, b: loss(r, f, 1.0, 0.0),
    "differs": lambda r, f, a, b: loss(r, f, a, b) + 1,
}


def test_solutions_pass(capsys):
    checks.check_energy(lambda z, G, d: 3.0 + 0.5 * z.square().sum(1) - d(G(z)))
    checks.check_temperature(lambda step_size, std: std**2 / step_size)
    checks.check_platt(loss)
    assert capsys.readouterr().out.count("right") == 3


@pytest.mark.parametrize("mistake", ENERGIES)
def test_wrong_energies_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_energy(ENERGIES[mistake])


@pytest.mark.parametrize("mistake", TEMPERATURES)
def test_wrong_temperatures_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_temperature(TEMPERATURES[mistake])


@pytest.mark.parametrize("mistake", LOSSES)
def test_wrong_losses_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_platt(LOSSES[mistake])


def test_an_empty_stub_is_told_so(capsys):
    for check in (checks.check_energy, checks.check_temperature, checks.check_platt):
        check(lambda *arguments: None)
    assert capsys.readouterr().out.count("nothing returned yet") == 3
