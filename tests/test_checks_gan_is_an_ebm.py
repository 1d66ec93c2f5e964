"""Each check accepts the solution, rejects typical mistakes by name, and is gentle with an empty stub."""

import math

import pytest
import torch
from torch.autograd.functional import jacobian

from notebooks import checks


def importance_mean(f, d):
    w = torch.softmax(d, 0)
    return (w * f).sum().item(), 1 / w.square().sum().item()


def weigh(f, d, weights):
    return ((weights * f).sum() / weights.sum()).item(), importance_mean(f, d)[1]


def naive(f, d):
    w = d.exp()
    return ((w * f).sum() / w.sum()).item(), (w.sum() ** 2 / w.square().sum()).item()


def acceptance_rate(m, s, k):
    return s**k * math.exp(-k * m**2 / (2 * (1 - s**2)))


def log_det(z, G):
    return jacobian(lambda z: G(z).sum(0), z).transpose(0, 1).det()


def pull_back(z, G, log_p):
    return log_p(G(z)) + log_det(z, G).abs().log()


def uniform_energy(u, G, d):
    return 3 + 0.5 * u.square().sum(1) - d(G(2 * torch.special.ndtr(u) - 1))


def kl(d, d_star):
    u = d - d_star
    return (torch.logsumexp(u, 0) - math.log(len(u)) - u.mean()).item()


SOLUTIONS = {
    checks.check_importance_mean: importance_mean,
    checks.check_acceptance_in_dimension: acceptance_rate,
    checks.check_pull_back: pull_back,
    checks.check_uniform_prior: uniform_energy,
    checks.check_kl_of_logit: kl,
}
WRONG = [
    (checks.check_importance_mean, "probability", lambda f, d: weigh(f, d, torch.sigmoid(d))),
    (checks.check_importance_mean, "wrong sign", lambda f, d: weigh(f, d, torch.exp(-d))),
    (checks.check_importance_mean, "no weights", lambda f, d: weigh(f, d, d)),
    (checks.check_importance_mean, "divide by the sum", lambda f, d: ((d.exp() * f).mean().item(), 1.0)),
    (checks.check_importance_mean, "mean over p_g", lambda f, d: (f.mean().item(), 1.0)),
    (checks.check_importance_mean, "upside down", lambda f, d: (naive(f, d)[0], 1 / naive(f, d)[1])),
    (checks.check_importance_mean, "not a share", lambda f, d: (naive(f, d)[0], naive(f, d)[1] / len(f))),
    (checks.check_importance_mean, "overflows", naive),
    (checks.check_importance_mean, "two numbers", lambda f, d: naive(f, d)[0]),
    (checks.check_acceptance_in_dimension, "1/c", lambda m, s, k: 1 / acceptance_rate(m, s, k)),
    (checks.check_acceptance_in_dimension, "one dimension", lambda m, s, k: acceptance_rate(m, s, 1)),
    (checks.check_acceptance_in_dimension, "do not add", lambda m, s, k: acceptance_rate(m, s, 1) / k),
    (checks.check_acceptance_in_dimension, "derivative", lambda m, s, k: (s * math.exp(-(m**2) / 2)) ** k),
    (
        checks.check_acceptance_in_dimension,
        "ESS share",
        lambda m, s, k: (s * (2 - s**2) ** 0.5 * math.exp(-(m**2) / (2 - s**2))) ** k,
    ),
    (checks.check_acceptance_in_dimension, "logarithm", lambda m, s, k: math.log(acceptance_rate(m, s, k))),
    (checks.check_acceptance_in_dimension, "not", lambda m, s, k: s**k * math.exp(-k * m / (1 - s**2))),
    (checks.check_pull_back, "Jacobian is missing", lambda z, G, p: p(G(z))),
    (checks.check_pull_back, "wrong sign", lambda z, G, p: p(G(z)) - log_det(z, G).abs().log()),
    (checks.check_pull_back, "absolute value", lambda z, G, p: p(G(z)) + log_det(z, G).log()),
    (checks.check_pull_back, "inside", lambda z, G, p: p(G(z)) + log_det(z, G).abs()),
    (
        checks.check_pull_back,
        "cancels",
        lambda z, G, p: pull_back(z, G, p) - 0.5 * z.square().sum(1) - math.log(2 * math.pi),
    ),
    (checks.check_pull_back, "one number", lambda z, G, p: pull_back(z, G, p).sum()),
    (checks.check_pull_back, "differs", lambda z, G, p: pull_back(z, G, p) + z[:, 0]),
    (checks.check_uniform_prior, "missing", lambda u, G, d: -d(G(2 * torch.special.ndtr(u) - 1))),
    (checks.check_uniform_prior, "Jacobian has", lambda u, G, d: uniform_energy(u, G, d) - u.square().sum(1)),
    (checks.check_uniform_prior, "twice", lambda u, G, d: uniform_energy(u, G, d) + 0.5 * u.square().sum(1)),
    (checks.check_uniform_prior, "u itself", lambda u, G, d: 0.5 * u.square().sum(1) - d(G(u))),
    (
        checks.check_uniform_prior,
        r"\[0, 1\]",
        lambda u, G, d: 0.5 * u.square().sum(1) - d(G(torch.special.ndtr(u))),
    ),
    (checks.check_uniform_prior, "logit has", lambda u, G, d: u.square().sum(1) - uniform_energy(u, G, d)),
    (
        checks.check_uniform_prior,
        "probability",
        lambda u, G, d: 0.5 * u.square().sum(1) - torch.sigmoid(d(G(2 * torch.special.ndtr(u) - 1))),
    ),
    (checks.check_uniform_prior, "one energy", lambda u, G, d: uniform_energy(u, G, d).sum()),
    (checks.check_uniform_prior, "differs", lambda u, G, d: 2 * uniform_energy(u, G, d)),
    (checks.check_kl_of_logit, "log Z is missing", lambda d, star: (star - d).mean()),
    (checks.check_kl_of_logit, "turned round", lambda d, star: kl(star, d)),
    (
        checks.check_kl_of_logit,
        "not p_g's",
        lambda d, star: kl(d, torch.zeros_like(d)) + star.mean().item(),
    ),
    (
        checks.check_kl_of_logit,
        "wrong sign",
        lambda d, star: -(d - star).exp().mean().log() - (d - star).mean(),
    ),
    (checks.check_kl_of_logit, "in place of", lambda d, star: (d - star).exp().mean() - (d - star).mean()),
    (
        checks.check_kl_of_logit,
        "overflows",
        lambda d, star: (d - star).exp().mean().log() - (d - star).mean(),
    ),
    (checks.check_kl_of_logit, "differs", lambda d, star: 0.5 * (d - star).var()),
]


@pytest.mark.parametrize("check", SOLUTIONS, ids=lambda check: check.__name__)
def test_solutions_pass(check, capsys):
    check(SOLUTIONS[check])
    assert "right" in capsys.readouterr().out


@pytest.mark.parametrize(("check", "mistake", "answer"), WRONG)
def test_wrong_answers_are_named(check, mistake, answer):
    with pytest.raises(AssertionError, match=mistake):
        check(answer)


@pytest.mark.parametrize("check", SOLUTIONS, ids=lambda check: check.__name__)
def test_an_empty_stub_is_told_so(check, capsys):
    check(lambda *arguments: None)
    assert "nothing returned yet" in capsys.readouterr().out
