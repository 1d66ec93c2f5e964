"""Notebook 09: each check accepts the solution, rejects typical mistakes by name, is gentle with a stub."""

import math

import pytest
import torch

from notebooks import checks


def distance(m, a, w, b):
    return ((m - w).square().sum() + (a.sqrt() - b.sqrt()).square().sum()).item()


def score(p):
    information = torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()
    return information.exp().item()


def line(x, values):
    design = torch.stack([torch.ones_like(x), x], 1)
    return torch.linalg.lstsq(design, values[:, None]).solution[:, 0]


def extrapolate(sizes, values):
    return line(1 / sizes, values)[0].item()


def precision(real, fake, k, extra=1):
    radii = torch.cdist(real, real).kthvalue(k + extra, dim=1).values
    return (torch.cdist(fake, real) <= radii).any(1).double().mean().item()


def precision_of_the_nearest(real, fake, k):
    radii = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    distances, nearest = torch.cdist(fake, real).min(1)
    return (distances <= radii[nearest]).double().mean().item()


RIGHT = {
    "check_frechet_diagonal": distance,
    "check_inception_score": score,
    "check_extrapolation": extrapolate,
    "check_precision": precision,
}
WRONG = [
    (
        "check_frechet_diagonal",
        "as if they were standard deviations",
        lambda m, a, w, b: distance(m, a**2, w, b**2),
    ),
    (
        "check_frechet_diagonal",
        "square root of the product",
        lambda m, a, w, b: ((m - w) ** 2).sum() + (a + b - 2 * a * b).sum(),
    ),
    ("check_frechet_diagonal", "means are missing", lambda m, a, w, b: distance(m, a, m, b)),
    ("check_frechet_diagonal", "covariance term is missing", lambda m, a, w, b: distance(m, a, w, a)),
    ("check_frechet_diagonal", "not its root", lambda m, a, w, b: math.sqrt(distance(m, a, w, b))),
    (
        "check_frechet_diagonal",
        "counts twice",
        lambda m, a, w, b: distance(m, a, w, b) + (a * b).sqrt().sum(),
    ),
    ("check_frechet_diagonal", "differs", lambda m, a, w, b: distance(m, a, w, b) + 1),
    ("check_inception_score", "exponential is missing", lambda p: math.log(score(p))),
    ("check_inception_score", "one base", lambda p: 2 ** math.log(score(p))),
    ("check_inception_score", "one base", lambda p: math.exp(math.log2(score(p)))),
    ("check_inception_score", "marginal entropy alone", lambda p: torch.special.entr(p.mean(0)).sum().exp()),
    (
        "check_inception_score",
        "wrong way round",
        lambda p: (p.mean(0) * (p.mean(0) / p.clamp(min=1e-12)).log()).sum(1).mean().exp(),
    ),
    ("check_inception_score", "0 log 0", lambda p: (p * (p / p.mean(0)).log()).sum(1).mean().exp()),
    ("check_inception_score", "rows with zeros", lambda p: score(p[:3])),
    ("check_inception_score", "sign", lambda p: 1 / score(p)),
    ("check_extrapolation", "on 1/n, not on n", lambda n, f: line(n, f)[0]),
    ("check_extrapolation", "not on its root", lambda n, f: line(n**-0.5, f)[0]),
    ("check_extrapolation", "slope", lambda n, f: line(1 / n, f)[1]),
    ("check_extrapolation", "largest n", lambda n, f: f[-1]),
    ("check_extrapolation", "mean of the values", lambda n, f: f.mean()),
    ("check_extrapolation", "prediction at n = 1", lambda n, f: line(1 / n, f).sum()),
    ("check_precision", "recall", lambda r, f, k: precision(f, r, k)),
    ("check_precision", "its own nearest neighbour", lambda r, f, k: precision(r, f, k, extra=0)),
    ("check_precision", "one neighbour too many", lambda r, f, k: precision(r, f, k, extra=2)),
    ("check_precision", "every ball", precision_of_the_nearest),
    ("check_precision", "not a share", lambda r, f, k: len(f) * precision(r, f, k)),
    ("check_precision", "differs", lambda r, f, k: 1.0),
]


@pytest.mark.parametrize("check", RIGHT)
def test_solution_passes(check, capsys):
    getattr(checks, check)(RIGHT[check])
    assert "right" in capsys.readouterr().out


@pytest.mark.parametrize(("check", "mistake", "answer"), WRONG, ids=[f"{c}-{m}" for c, m, _ in WRONG])
def test_mistake_is_named(check, mistake, answer):
    with pytest.raises(AssertionError, match=mistake):
        getattr(checks, check)(answer)


@pytest.mark.parametrize("check", RIGHT)
def test_an_empty_stub_is_told_so(check, capsys):
    getattr(checks, check)(lambda *arguments: None)
    assert "nothing returned yet" in capsys.readouterr().out
