"""Each check accepts the solution, rejects typical mistakes by name, and is gentle with an empty stub."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from notebooks import checks


def logistic(real, fake):
    def stable(d):
        return d.clamp(min=0) + torch.log1p(torch.exp(-d.abs()))

    return stable(-real).mean() + stable(fake).mean()


def non_saturating(d):
    return softplus(-d).mean()


def gradients(d):
    return -torch.sigmoid(d), torch.sigmoid(d) - 1


def affine(x, A, b):
    z = torch.linalg.solve(A, (x - b).T).T
    log_prior = -0.5 * z.square().sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)
    return log_prior - torch.linalg.slogdet(A).logabsdet


def count(x, means, radius, least):
    distance, nearest = torch.cdist(x, means).min(1)
    hits = torch.bincount(nearest[distance <= radius], minlength=len(means))
    return int((hits >= least * len(x)).sum())


SOLUTIONS = {
    checks.check_stable_logistic_loss: logistic,
    checks.check_non_saturating_loss: non_saturating,
    checks.check_generator_gradients: gradients,
    checks.check_affine_pushforward: affine,
    checks.check_mode_count: count,
}


def naive(real, fake):
    return -torch.sigmoid(real).log().mean() - (1 - torch.sigmoid(fake)).log().mean()


def with_plain_log(real, fake):
    def rough(d):
        return d.clamp(min=0) + torch.log(1 + torch.exp(-d.abs()))

    return rough(-real).mean() + rough(fake).mean()


def count_coordinates(x, means, radius, least):
    distance, nearest = (x[:, None] - means).abs().amax(2).min(1)
    hits = torch.bincount(nearest[distance <= radius], minlength=len(means))
    return int((hits >= least * len(x)).sum())


def count_shares_of_the_near(x, means, radius, least):
    distance, nearest = torch.cdist(x, means).min(1)
    near = nearest[distance <= radius]
    return int((torch.bincount(near, minlength=len(means)) >= least * len(near)).sum())


def strictly_more(x, means, radius, least):
    distance, nearest = torch.cdist(x, means).min(1)
    hits = torch.bincount(nearest[distance <= radius], minlength=len(means))
    return int((hits > least * len(x)).sum())


WRONG = [
    (checks.check_stable_logistic_loss, "labels are swapped", lambda r, f: logistic(-r, -f)),
    (checks.check_stable_logistic_loss, "sign is wrong", lambda r, f: -logistic(r, f)),
    (checks.check_stable_logistic_loss, "half of it", lambda r, f: logistic(r, f) / 2),
    (
        checks.check_stable_logistic_loss,
        "sum instead of mean",
        lambda r, f: softplus(-r).sum() + softplus(f).sum(),
    ),
    (
        checks.check_stable_logistic_loss,
        "one mean for each class",
        lambda r, f: torch.cat([softplus(-r), softplus(f)]).mean(),
    ),
    (checks.check_stable_logistic_loss, "second sigmoid", lambda r, f: logistic(r.sigmoid(), f.sigmoid())),
    (checks.check_stable_logistic_loss, "overflow", naive),
    (checks.check_stable_logistic_loss, "digits are lost", with_plain_log),
    (checks.check_stable_logistic_loss, "differs", lambda r, f: logistic(r, f) + 1),
    (checks.check_non_saturating_loss, "sign is wrong", lambda d: -softplus(-d).mean()),
    (checks.check_non_saturating_loss, "minimax loss", lambda d: -softplus(d).mean()),
    (checks.check_non_saturating_loss, "label is wrong", lambda d: softplus(d).mean()),
    (checks.check_non_saturating_loss, "sum instead of mean", lambda d: softplus(-d).sum()),
    (checks.check_non_saturating_loss, "a scalar is wanted", lambda d: softplus(-d)),
    (checks.check_non_saturating_loss, "logarithm is missing", lambda d: -d.sigmoid().mean()),
    (checks.check_non_saturating_loss, "not finite", lambda d: -d.sigmoid().log().mean()),
    (checks.check_non_saturating_loss, "saturates", lambda d: softplus(-d.clamp(min=-50)).mean()),
    (checks.check_non_saturating_loss, "differs", lambda d: softplus(1 - d).mean()),
    (checks.check_generator_gradients, "wrong order", lambda d: gradients(d)[::-1]),
    (checks.check_generator_gradients, "minimax: the sign", lambda d: (d.sigmoid(), d.sigmoid() - 1)),
    (
        checks.check_generator_gradients,
        "log is missing",
        lambda d: (-d.sigmoid() * (-d).sigmoid(), -(-d).sigmoid()),
    ),
    (checks.check_generator_gradients, "non-saturating: the sign", lambda d: (-d.sigmoid(), (-d).sigmoid())),
    (
        checks.check_generator_gradients,
        "non-saturating: that is dL/dD",
        lambda d: (-d.sigmoid(), -1 / d.sigmoid()),
    ),
    (
        checks.check_generator_gradients,
        "minimax: that is dL/dD",
        lambda d: (-1 / (-d).sigmoid(), -(-d).sigmoid()),
    ),
    (checks.check_generator_gradients, "minimax: differs", lambda d: (-2 * d.sigmoid(), -(-d).sigmoid())),
    (
        checks.check_generator_gradients,
        "non-saturating: differs",
        lambda d: (-d.sigmoid(), -2 * (-d).sigmoid()),
    ),
    (
        checks.check_affine_pushforward,
        "factor is missing",
        lambda x, A, b: affine(x, A, b) + A.det().abs().log(),
    ),
    (
        checks.check_affine_pushforward,
        "wrong sign",
        lambda x, A, b: affine(x, A, b) + 2 * A.det().abs().log(),
    ),
    (checks.check_affine_pushforward, "transposed", lambda x, A, b: affine(x, A.T, b)),
    (
        checks.check_affine_pushforward,
        "evaluated at x",
        lambda x, A, b: affine(x, torch.eye(3).to(x), 0 * b) - A.det().abs().log(),
    ),
    (checks.check_affine_pushforward, "its logarithm is wanted", lambda x, A, b: affine(x, A, b).exp()),
    (
        checks.check_affine_pushforward,
        "constant",
        lambda x, A, b: affine(x, A, b) + 1.5 * math.log(2 * math.pi),
    ),
    (
        checks.check_affine_pushforward,
        "absolute value",
        lambda x, A, b: affine(x, A, b) + A.det().abs().log() - A.det().log(),
    ),
    (checks.check_affine_pushforward, "one number a point", lambda x, A, b: affine(x, A, b).sum()),
    (checks.check_affine_pushforward, "differs", lambda x, A, b: affine(x, 2 * A, b)),
    (checks.check_mode_count, "count modes", lambda x, m, r, s: (torch.cdist(x, m).min(1)[0] < 0.05).sum()),
    (checks.check_mode_count, "radius is not used", lambda x, m, r, s: count(x, m, 100.0, 0.0)),
    (checks.check_mode_count, "share is not used", lambda x, m, r, s: count(x, m, r, 1e-9)),
    (checks.check_mode_count, "Euclidean", count_coordinates),
    (checks.check_mode_count, "just reached", strictly_more),
    (checks.check_mode_count, "of all points", count_shares_of_the_near),
    (checks.check_mode_count, "exactly two", lambda x, m, r, s: 1),
    (checks.check_mode_count, "answer is 0", lambda x, m, r, s: max(1, count(x, m, r, s))),
]


def test_solutions_pass(capsys):
    for check, solution in SOLUTIONS.items():
        check(solution)
    checks.check_stable_logistic_loss(
        lambda r, f: (
            binary_cross_entropy_with_logits(r, torch.ones_like(r))
            + binary_cross_entropy_with_logits(f, torch.zeros_like(f))
        )
    )
    assert capsys.readouterr().out.count("right") == len(SOLUTIONS) + 1


@pytest.mark.parametrize(
    ("check", "message", "answer"), WRONG, ids=[f"{c.__name__}-{m}" for c, m, _ in WRONG]
)
def test_wrong_answers_are_named(check, message, answer):
    with pytest.raises(AssertionError, match=message):
        check(answer)


def test_an_empty_stub_is_told_so(capsys):
    for check in SOLUTIONS:
        check(lambda *arguments: None)
    assert capsys.readouterr().out.count("nothing returned yet") == len(SOLUTIONS)
