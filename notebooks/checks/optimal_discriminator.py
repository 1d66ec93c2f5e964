"""Checks of notebook 02."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from notebooks.checks.common import unfinished


def _close(a: Tensor | float, b: Tensor | float, tolerance: float = 1e-4) -> bool:
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def check_gaussian_logit(logit: Callable[[Tensor, float, float, float, float], Tensor]) -> None:
    """Exercise: log p_d/p_g at x (n,) of p_d = N(mean_d, std_d^2) and p_g = N(mean_g, std_g^2)."""
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    case = (1.0, 0.7, -0.5, 1.8)
    value = logit(x, *case)
    if unfinished(value, "logit"):
        return
    assert value.shape == (7,), f"one logit a point is wanted, shape (7,), not {tuple(value.shape)}"
    mean_d, std_d, mean_g, std_g = case
    right = Normal(mean_d, std_d).log_prob(x) - Normal(mean_g, std_g).log_prob(x)
    constant = math.log(std_g / std_d)
    squares_d, squares_g = (x - mean_d).square(), (x - mean_g).square()
    roots = Normal(mean_d, std_d**0.5).log_prob(x) - Normal(mean_g, std_g**0.5).log_prob(x)
    mistakes = {
        "the sign is wrong: the logit is high where the data are likely": -right,
        "the normalising constants are missing: log(std_g / std_d)": right - constant,
        "the constant has the wrong sign: log(std_g / std_d), not log(std_d / std_g)": right - 2 * constant,
        "a standard deviation stands where its square belongs": roots,
        "the half is missing: log N(x; m, s) = -(x - m)^2 / (2 s^2) - log s + constant": (
            squares_g / std_g**2 - squares_d / std_d**2 + constant
        ),
        "that is the probability D; the logit is log D/(1 - D)": torch.sigmoid(right),
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake
    assert _close(value, right), "the value differs from log p_d(x) - log p_g(x)"
    far = logit(torch.tensor([100.0], dtype=torch.float64), *case)
    assert torch.isfinite(far).all(), "not finite at x = 100: subtract logarithms, take no log of a quotient"
    print("logit: right.")


def check_jensen_shannon(divergence: Callable[[Tensor, Tensor, float], float]) -> None:
    """Exercise: JSD in nats of two densities (n,) on an even grid with this spacing; zeros allowed."""
    x = (torch.arange(4000, dtype=torch.float64) + 0.5) / 200 - 10
    spacing = 1 / 200
    p, q = Normal(0.5, 1.0).log_prob(x).exp(), Normal(-0.5, 1.5).log_prob(x).exp()
    value = divergence(p, q, spacing)
    if unfinished(value, "divergence"):
        return
    m = (p + q) / 2

    def kl(a: Tensor, b: Tensor) -> float:
        return torch.xlogy(a, a / b).sum().item() * spacing

    right = 0.5 * kl(p, m) + 0.5 * kl(q, m)
    mistakes = {
        "that is 2 JSD: each of the two KL terms has the weight 1/2": 2 * right,
        "that is in bits: take the natural logarithm": right / math.log(2),
        "that is the square root, a distance; the divergence has no root": math.sqrt(right),
        "the mixture is (p + q)/2, not p + q": right - math.log(2),
        "that is KL(p || q): the second argument is the mixture (p + q)/2": kl(p, q),
        "that is the mean of the two KLs between p and q: compare each with (p + q)/2": (
            0.5 * kl(p, q) + 0.5 * kl(q, p)
        ),
        "half is missing: KL(p || m) and KL(q || m) both count": 0.5 * kl(p, m),
        "a sum is no integral: multiply by the spacing": right / spacing,
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake
    assert _close(value, right), f"JSD is {right:.4f} nats here, not {float(value):.4f}"
    left, far = ((x > a) & (x < a + 1) for a in (-3, 3))
    apart = float(divergence(left.double(), far.double(), spacing))
    assert not math.isnan(apart), "not a number where a density is 0: 0 log 0 counts as 0 (torch.xlogy)"
    assert _close(apart, math.log(2)), f"densities that do not meet have JSD log 2, not {apart:.4f}"
    print("divergence: right.")


def check_corrected_logit(correct: Callable[[Tensor, int, int], Tensor]) -> None:
    """Exercise: log p_d/p_g from the logit (n,) of a classifier fitted to n_real and n_fake pooled points."""
    ratio = torch.tensor([-2.0, 0.0, 1.5])
    n_real, n_fake = 3000, 500
    prior = math.log(n_real / n_fake)
    pooled = ratio + prior
    value = correct(pooled, n_real, n_fake)
    if unfinished(value, "corrected logit"):
        return
    mistakes = {
        "nothing was corrected": pooled,
        "wrong direction: the larger class has raised the logit, so subtract": pooled + prior,
        "the logarithm is missing: subtract log(n_real / n_fake)": pooled - n_real / n_fake,
        "subtract the log odds log(n_real / n_fake), not the log of the share": (
            pooled - math.log(n_real / (n_real + n_fake))
        ),
        "divide a ratio, subtract from a logit": pooled / (n_real / n_fake),
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake
    assert _close(value, ratio), "the result differs from log p_d/p_g"
    print("corrected logit: right.")


def check_kl_from_logit(estimate: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise: the Donsker-Varadhan bound on KL(p_d || p_g) from logits of real and of fake points."""
    real = torch.tensor([1.0, 2.5, 0.3], dtype=torch.float64)
    fake = torch.tensor([-1.0, 0.2, 0.9, -2.0], dtype=torch.float64)
    value = estimate(real, fake)
    if unfinished(value, "estimate"):
        return
    log_mean = math.log(fake.exp().mean())
    right = real.mean().item() - log_mean
    mistakes = {
        "that is the mean of d alone: it is no bound; subtract log E exp(d) over the fakes": real.mean(),
        "that is the weaker bound 1 + E d - E exp(d): take the logarithm of the mean": (
            1 + real.mean() - fake.exp().mean()
        ),
        "real and fake are swapped": fake.mean() - math.log(real.exp().mean()),
        "the sign is wrong": -right,
        "logsumexp is the log of a sum; the mean needs - log n": right - math.log(len(fake)),
        "log E exp(d) is not E d: the exponential comes before the mean": real.mean() - fake.mean(),
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake
    assert _close(value, right), f"the bound is {right:.4f} here, not {float(value):.4f}"
    large = float(estimate(real + 1000, fake + 1000))
    assert math.isfinite(large), "exp overflows at d = 1000: use torch.logsumexp"
    assert _close(large, right), "a constant added to d must cancel"
    print("estimate: right.")
