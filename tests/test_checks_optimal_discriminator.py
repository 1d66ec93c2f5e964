"""Each check of notebook 02 accepts the solution, names typical mistakes, is gentle with an empty stub."""

import math

import pytest
import torch

from notebooks import checks


def gaussian_logit(x, mean_d, std_d, mean_g, std_g):
    data = -0.5 * ((x - mean_d) / std_d) ** 2 - math.log(std_d)
    return data + 0.5 * ((x - mean_g) / std_g) ** 2 + math.log(std_g)


def no_half(x, mean_d, std_d, mean_g, std_g):
    return ((x - mean_g) / std_g) ** 2 - ((x - mean_d) / std_d) ** 2 + math.log(std_g / std_d)


def by_quotient(x, mean_d, std_d, mean_g, std_g):
    p_d = torch.exp(-0.5 * ((x - mean_d) / std_d) ** 2) / std_d
    return torch.log(p_d / (torch.exp(-0.5 * ((x - mean_g) / std_g) ** 2) / std_g))


LOGITS = {
    "sign is wrong": lambda *a: -gaussian_logit(*a),
    "constants are missing": lambda x, m, s, k, t: gaussian_logit(x, m, s, k, t) - math.log(t / s),
    "constant has the wrong sign": lambda x, m, s, k, t: gaussian_logit(x, m, s, k, t) - 2 * math.log(t / s),
    "its square belongs": lambda x, m, s, k, t: gaussian_logit(x, m, s**0.5, k, t**0.5),
    "half is missing": no_half,
    "probability": lambda *a: torch.sigmoid(gaussian_logit(*a)),
    "one logit a point": lambda *a: gaussian_logit(*a).sum(),
    "subtract logarithms": by_quotient,
    "differs": lambda *a: gaussian_logit(*a) + 0.5,
}


def kl(a, b, spacing):
    return torch.xlogy(a, a / b.clamp_min(1e-300)).sum().item() * spacing


def jensen_shannon(p, q, spacing):
    m = (p + q) / 2
    return 0.5 * kl(p, m, spacing) + 0.5 * kl(q, m, spacing)


def without_zeros(p, q, spacing):
    m = (p + q) / 2
    return 0.5 * spacing * ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()).item()


DIVERGENCES = {
    "that is 2 JSD": lambda p, q, h: 2 * jensen_shannon(p, q, h),
    "in bits": lambda p, q, h: jensen_shannon(p, q, h) / math.log(2),
    "square root": lambda p, q, h: math.sqrt(jensen_shannon(p, q, h)),
    "not p [+] q": lambda p, q, h: 0.5 * (kl(p, p + q, h) + kl(q, p + q, h)),
    "that is KL": kl,
    "mean of the two KLs": lambda p, q, h: 0.5 * (kl(p, q, h) + kl(q, p, h)),
    "half is missing": lambda p, q, h: 0.5 * kl(p, (p + q) / 2, h),
    "spacing": lambda p, q, h: jensen_shannon(p, q, 1.0),
    "0 log 0": without_zeros,
    "nats here": lambda p, q, h: 0.3,
}
CORRECTIONS = {
    "nothing was corrected": lambda d, n, m: d,
    "wrong direction": lambda d, n, m: d + math.log(n / m),
    "logarithm is missing": lambda d, n, m: d - n / m,
    "not the log of the share": lambda d, n, m: d - math.log(n / (n + m)),
    "subtract from a logit": lambda d, n, m: d / (n / m),
    "differs": lambda d, n, m: torch.zeros_like(d),
}


def kl_from_logit(real, fake):
    return (real.mean() - torch.logsumexp(fake, 0) + math.log(len(fake))).item()


ESTIMATES = {
    "no bound": lambda real, fake: real.mean(),
    "weaker bound": lambda real, fake: 1 + real.mean() - fake.exp().mean(),
    "swapped": lambda real, fake: kl_from_logit(fake, real),
    "sign is wrong": lambda real, fake: -kl_from_logit(real, fake),
    "- log n": lambda real, fake: real.mean() - torch.logsumexp(fake, 0),
    "exponential comes before": lambda real, fake: real.mean() - fake.mean(),
    "overflows": lambda real, fake: real.mean() - fake.exp().mean().log(),
    "the bound is": lambda real, fake: 7.0,
}
EXERCISES = {
    "check_gaussian_logit": (gaussian_logit, LOGITS),
    "check_jensen_shannon": (jensen_shannon, DIVERGENCES),
    "check_corrected_logit": (lambda d, n, m: d - math.log(n / m), CORRECTIONS),
    "check_kl_from_logit": (kl_from_logit, ESTIMATES),
}
WRONG = [(check, mistake) for check, (_, mistakes) in EXERCISES.items() for mistake in mistakes]


@pytest.mark.parametrize("check", EXERCISES)
def test_solution_passes(check, capsys):
    getattr(checks, check)(EXERCISES[check][0])
    assert "right" in capsys.readouterr().out


@pytest.mark.parametrize(("check", "mistake"), WRONG)
def test_wrong_answers_are_named(check, mistake):
    with pytest.raises(AssertionError, match=mistake):
        getattr(checks, check)(EXERCISES[check][1][mistake])


@pytest.mark.parametrize("check", EXERCISES)
def test_an_empty_stub_is_told_so(check, capsys):
    getattr(checks, check)(lambda *arguments: None)
    assert "nothing returned yet" in capsys.readouterr().out
