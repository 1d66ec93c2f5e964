"""Each check of notebook 05 accepts the solution, names typical mistakes, and is gentle with a stub."""

import math

import pytest
import torch

from notebooks import checks
from utils.losses import ebgan, pulling_away


def energy(x, reconstruct):
    return (reconstruct(x) - x).flatten(1).norm(dim=1)


def error(x, reconstruct):
    return (reconstruct(x) - x).flatten(1)


def losses(real, fake, margin):
    return real.mean() + (margin - fake).clamp(min=0).mean(), fake.mean()


def argmin(a, b, margin):
    if a == b:
        return (0.0, margin) if a > 0 else (0.0, math.inf)
    if a < b:
        return (margin, margin) if a > 0 else (margin, math.inf)
    return 0.0, 0.0


def cosines(features):
    unit = features / features.norm(dim=1, keepdim=True)
    return unit @ unit.T


def off_diagonal(matrix):
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]


ENERGIES = {
    "root is missing": lambda x, r: error(x, r).square().sum(1),
    "mean square": lambda x, r: error(x, r).square().mean(1),
    r"\*mean\* square": lambda x, r: error(x, r).square().mean(1).sqrt(),
    "absolute": lambda x, r: error(x, r).abs().sum(1),
    "not of the error": lambda x, r: r(x).flatten(1).norm(dim=1),
    "wrong sign": lambda x, r: -energy(x, r),
    "one energy for each row": lambda x, r: energy(x, r).mean(),
    "flatten all axes": lambda x, r: (r(x) - x).norm(dim=1),
    "differs from": lambda x, r: energy(x, r) + 1,
}
LOSSES = {
    "hinge is missing": lambda r, f, m: (r.mean() + (m - f).mean(), f.mean()),
    "taken of the mean": lambda r, f, m: (r.mean() + (m - f.mean()).clamp(min=0), f.mean()),
    "wrong way": lambda r, f, m: (r.mean() + (f - m).clamp(min=0).mean(), f.mean()),
    "swapped": lambda r, f, m: losses(f, r, m),
    "sums": lambda r, f, m: (r.sum() + (m - f).clamp(min=0).sum(), f.mean()),
    "real data is missing": lambda r, f, m: ((m - f).clamp(min=0).mean(), f.mean()),
    "G's loss has the wrong sign": lambda r, f, m: (losses(r, f, m)[0], -f.mean()),
    "not minus D's hinge": lambda r, f, m: (losses(r, f, m)[0], -(m - f).clamp(min=0).mean()),
    "two numbers": lambda r, f, m: losses(r, f, m)[0],
    "one number": lambda r, f, m: (r + 1, f),
    "loss of D differs": lambda r, f, m: (losses(r, f, m)[0] + 1, f.mean()),
    "loss of G differs": lambda r, f, m: (losses(r, f, m)[0], f.mean() + 1),
}
ARGMINS = {
    "swapped": lambda a, b, m: argmin(b, a, m),
    "tie": lambda a, b, m: (m, m) if a < b else (0, 0),
    "two numbers": lambda a, b, m: m if a < b else 0,
    "nothing holds": lambda a, b, m: (0, m) if a == b else (m, m) if a < b else (0, 0),
    "0 everywhere": lambda a, b, m: (0, m) if a == b else argmin(a, b, m),
}
TERMS = {
    "not squared": lambda s: off_diagonal(cosines(s)).mean(),
    "diagonal": lambda s: cosines(s).square().mean(),
    "n\\^2": lambda s: off_diagonal(cosines(s)).square().sum() / len(s) ** 2,
    "sum over pairs": lambda s: off_diagonal(cosines(s)).square().sum(),
    "not normalised": lambda s: off_diagonal(s @ s.T).square().mean(),
    "counts once": lambda s: 0.5 * pulling_away(s),
    "sign is wrong": lambda s: -pulling_away(s),
    "one number": lambda s: cosines(s).square().mean(1),
    "differs from": lambda s: pulling_away(s) + 1,
}


def test_solutions_pass(capsys):
    checks.check_reconstruction_energy(energy)
    checks.check_margin_loss(losses)
    checks.check_margin_loss(lambda r, f, m: (ebgan(m).discriminator(r, f), ebgan(m).generator(f)))
    checks.check_phi_argmin(argmin)
    checks.check_pulling_away(pulling_away)
    assert capsys.readouterr().out.count("right") == 5


@pytest.mark.parametrize("mistake", ENERGIES)
def test_wrong_energies_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_reconstruction_energy(ENERGIES[mistake])


@pytest.mark.parametrize("mistake", LOSSES)
def test_wrong_losses_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_margin_loss(LOSSES[mistake])


@pytest.mark.parametrize("mistake", ARGMINS)
def test_wrong_minimisers_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_phi_argmin(ARGMINS[mistake])


@pytest.mark.parametrize("mistake", TERMS)
def test_wrong_terms_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_pulling_away(TERMS[mistake])


def test_an_empty_stub_is_told_so(capsys):
    for check in (
        checks.check_reconstruction_energy,
        checks.check_margin_loss,
        checks.check_phi_argmin,
        checks.check_pulling_away,
    ):
        check(lambda *arguments: None)
    assert capsys.readouterr().out.count("nothing returned yet") == 4
