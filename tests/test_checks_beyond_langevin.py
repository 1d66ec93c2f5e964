"""Notebook 12's checks accept the solution, reject typical mistakes by name, and are gentle with a stub."""

import pytest
import torch

from notebooks import checks


def log_p(logits, y):
    return logits.log_softmax(1).gather(1, y[:, None])[:, 0]


WRONG = {
    checks.check_pool_weights: {
        "sign is wrong": lambda d: (-d).softmax(1),
        "probability": lambda d: torch.sigmoid(d) / torch.sigmoid(d).sum(1, keepdim=True),
        "not over the pools": lambda d: d.softmax(0),
        "overflows": lambda d: d.float().exp() / d.float().exp().sum(1, keepdim=True),
        "d is not used": lambda d: torch.full_like(d, 1 / d.shape[1]),
    },
    checks.check_score_from_denoiser: {
        "wrong sign": lambda x, mean, sigma: (x - mean) / sigma**2,
        "not by sigma": lambda x, mean, sigma: (mean - x) / sigma,
        "division by sigma\\^2 is missing": lambda x, mean, sigma: mean - x,
        "subtract x_t": lambda x, mean, sigma: mean / sigma**2,
    },
    checks.check_guided_energy: {
        "sign is wrong": lambda e, logits, y, w: e + w * log_p(logits, y),
        "weight is not used": lambda e, logits, y, w: e - log_p(logits, y),
        "probability": lambda e, logits, y, w: e - w * log_p(logits, y).exp(),
        "log_softmax first": lambda e, logits, y, w: e - w * logits.gather(1, y[:, None])[:, 0],
        "one energy a chain": lambda e, logits, y, w: (e - w * log_p(logits, y)).sum(),
    },
}


def test_solutions_pass(capsys):
    checks.check_pool_weights(lambda d: d.softmax(1))
    checks.check_score_from_denoiser(lambda x, mean, sigma: (mean - x) / sigma**2)
    checks.check_guided_energy(lambda e, logits, y, w: e - w * log_p(logits, y))
    assert capsys.readouterr().out.count("right") == 3


@pytest.mark.parametrize(
    ("check", "mistake"), [(check, mistake) for check, wrong in WRONG.items() for mistake in wrong]
)
def test_mistakes_are_named(check, mistake):
    with pytest.raises(AssertionError, match=mistake):
        check(WRONG[check][mistake])


def test_an_empty_stub_is_told_so(capsys):
    for check in WRONG:
        check(lambda *arguments: None)
    assert capsys.readouterr().out.count("nothing returned yet") == 3
