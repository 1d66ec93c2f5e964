"""The checks of notebook 07 accept the solutions and name typical mistakes."""

import math

import pytest
import torch

from notebooks import checks


def share(x, means, std, radius=4.0):
    return (torch.cdist(x, means).min(1).values <= radius * std).float().mean().item()


def balance(modes, k):
    h = torch.bincount(modes, minlength=k).double() / len(modes)
    return (torch.xlogy(h, h) + h * math.log(k)).sum().item()


def proposals(d, d_max):
    return 1 / (d - d_max).exp().mean().item()


SHARES = {
    "count": lambda x, m, s, r: len(x) * share(x, m, s, r),
    "bad points": lambda x, m, s, r: 1 - share(x, m, s, r),
    "nearest of all": lambda x, m, s, r: share(x, m[:1], s, r),
    "radius alone": lambda x, m, s, r: share(x, m, 1.0, r),
    "not used": lambda x, m, s, r: share(x, m, s, 4.0),
}
BALANCES = {
    "sign": lambda modes, k: -balance(modes, k),
    "bits": lambda modes, k: balance(modes, k) / math.log(2),
    "entropy": lambda modes, k: math.log(k) - balance(modes, k),
    "all k": lambda modes, k: balance(modes, 3),
    "without samples": lambda modes, k: float("nan"),
}
PROPOSALS = {
    "acceptance rate": lambda d, m: 1 / proposals(d, m),
    "average the probabilities": lambda d, m: (m - d).exp().mean().item(),
    "not used": lambda d, m: proposals(d, 0.0),
    "logit of the mean": lambda d, m: (m - d.mean()).exp().item(),
}
CASES = {
    checks.check_share_of_high_quality: (share, SHARES),
    checks.check_balance_of_modes: (balance, BALANCES),
    checks.check_proposals_per_sample: (proposals, PROPOSALS),
}


@pytest.mark.parametrize("check", CASES)
def test_solution_passes_and_a_stub_is_gentle(check, capsys):
    check(CASES[check][0])
    check(lambda *arguments: None)
    assert "right." in (out := capsys.readouterr().out) and "nothing returned yet" in out


@pytest.mark.parametrize(("check", "mistake"), [(c, m) for c, (_, wrong) in CASES.items() for m in wrong])
def test_mistake_is_named(check, mistake):
    with pytest.raises(AssertionError, match=mistake):
        check(CASES[check][1][mistake])
