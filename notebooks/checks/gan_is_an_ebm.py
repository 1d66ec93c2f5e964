"""Checks of notebook 06."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def _close(a: Tensor | float, b: Tensor | float, tolerance: float = 1e-5) -> bool:
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def _close_up_to_constant(a: Tensor, b: Tensor) -> bool:
    return (a.double() - b.double()).std().item() < 1e-5


def check_importance_mean(importance_mean: Callable[[Tensor, Tensor], tuple[float, float]]) -> None:
    """Exercise: (E_{p_d} f, effective sample size) from f(x) and d(x), both (n,), at samples x of p_g."""
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(50, generator=generator, dtype=torch.float64)
    d = 2 * torch.randn(50, generator=generator, dtype=torch.float64)
    answer = importance_mean(f, d)
    if unfinished(answer, "importance_mean"):
        return
    assert isinstance(answer, tuple) and len(answer) == 2, "two numbers are wanted: the mean and the ESS"
    mean, size = (float(value) for value in answer)
    w = d.exp()
    right, right_size = ((w * f).sum() / w.sum()).item(), (w.sum() ** 2 / w.square().sum()).item()
    p, flipped = torch.sigmoid(d), torch.exp(-d)
    mistakes = {
        "a probability stands where the logit belongs: the weights are exp(d)": (p * f).sum() / p.sum(),
        "the logit has the wrong sign: p_d/p_g is exp(+d)": (flipped * f).sum() / flipped.sum(),
        "the logits themselves are no weights: take exp(d)": (d * f).sum() / d.sum(),
        "divide by the sum of the weights: only for the exact d* is their mean 1": (w * f).mean(),
        "that is the mean over p_g: the weights are not used": f.mean(),
    }
    for mistake, wrong in mistakes.items():
        assert not _close(mean, wrong), mistake
    assert _close(mean, right), "the mean differs from sum(w f) / sum(w) with w = exp(d)"
    sizes = {
        "the effective sample size is upside down": 1 / right_size,
        "the effective sample size is a number of samples, not a share": right_size / len(d),
    }
    for mistake, wrong in sizes.items():
        assert not _close(size, wrong), mistake
    assert _close(size, right_size), "the effective sample size is (sum w)^2 / sum w^2"
    shifted = [float(value) for value in importance_mean(f, d + 1000)]
    assert _close(torch.tensor(shifted), torch.tensor([right, right_size])), (
        "a constant added to d must change nothing, but d + 1000 overflows: subtract the largest d first"
    )
    print("importance_mean: right.")


def check_acceptance_in_dimension(acceptance_rate: Callable[[float, float, int], float]) -> None:
    """Exercise: acceptance rate of rejection sampling, p_g = N(0, I_k) and p_d = N(m 1, s^2 I_k), s < 1."""
    m, s, k = 0.6, 0.8, 3
    value = acceptance_rate(m, s, k)
    if unfinished(value, "acceptance_rate"):
        return
    value = float(value)
    right = s * math.exp(-(m**2) / (2 * (1 - s**2)))  # in one dimension
    at_mean = s * math.exp(-(m**2) / 2)
    share = s * math.sqrt(2 - s**2) * math.exp(-(m**2) / (2 - s**2))
    mistakes = {
        "that is the bound c; the acceptance rate is 1/c": right**-k,
        "that is one dimension: the ratio is a product over the k coordinates": right,
        "the rates of the coordinates multiply, they do not add": 1 / (k / right),
        "the ratio is not largest at the mean of p_d: set its derivative to 0": at_mean**k,
        "that is the ESS share 1/E[w^2]; the acceptance rate is 1/max w": share**k,
        "that is its logarithm": k * math.log(right),
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value, wrong, rel_tol=1e-5), mistake
    for case in ((m, s, k), (0.0, 0.5, 1), (0.3, 0.9, 12)):
        mean, std, dim = case
        expected = (std * math.exp(-(mean**2) / (2 * (1 - std**2)))) ** dim
        got = float(acceptance_rate(*case))
        assert math.isclose(got, expected, rel_tol=1e-5), f"{case}: {got:.4g}, not {expected:.4g}"
    print("acceptance_rate: right.")


def check_pull_back(
    log_density: Callable[[Tensor, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], Tensor],
) -> None:
    """Exercise: log-density (n,) at z (n, k) of the latents whose images under an invertible G have p_d."""
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def G(z: Tensor) -> Tensor:  # turns the orientation: its determinant is negative
        first, second = z.unbind(1)
        return torch.stack([2 * second + first.sin(), first + 0.1 * first**3], 1)

    def log_p(x: Tensor) -> Tensor:
        return -0.5 * (x - 1).square().sum(1)

    value = log_density(z, G, log_p)
    if unfinished(value, "log_density"):
        return
    assert value.shape == (6,), f"one number a latent is wanted, shape (6,), not {tuple(value.shape)}"
    volume = (2 * (1 + 0.3 * z[:, 0] ** 2)).log()  # log |det dG/dz|
    prior = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    assert not value.isnan().any(), "the determinant may be negative: take its absolute value"
    mistakes = {
        "the Jacobian is missing: a density is per volume, and G changes volumes": log_p(G(z)),
        "the log-determinant has the wrong sign: dx = |det| dz, so it multiplies": log_p(G(z)) - volume,
        "the determinant must be inside the logarithm": log_p(G(z)) + volume.exp(),
        "the prior has no place here: it cancels": log_p(G(z)) + volume + prior,
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value.detach(), wrong), mistake
    assert _close(value.detach(), log_p(G(z)) + volume), "differs from log p_d(G(z)) + log |det dG/dz|"
    print("log_density: right.")


def check_uniform_prior(energy: Callable[[Tensor, Callable, Callable], Tensor]) -> None:
    """Exercise: energy (n,) at u (n, k), u ~ N(0, I) a priori, of a G with uniform latents on [-1, 1]^k."""
    u = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return 2 * z + z.square()

    def d(x: Tensor) -> Tensor:
        return x.sum(1) - 0.3 * x[:, 0] ** 2

    value = energy(u, G, d)
    if unfinished(value, "energy"):
        return
    assert value.shape == (8,), f"one energy a chain is wanted, shape (8,), not {tuple(value.shape)}"
    prior, share = 0.5 * u.square().sum(1), torch.special.ndtr(u)
    logit = d(G(2 * share - 1))
    mistakes = {
        "the prior of u is missing: z is uniform, but the chain moves in u": -logit,
        "the Jacobian has the wrong sign: p(u) = p(z) |dz/du|, and dz/du = 2 phi(u)": -prior - logit,
        "the Jacobian counts twice: N(u; 0, I) is already the density of u": 2 * prior - logit,
        "G gets u itself: give it z = 2 Phi(u) - 1": prior - d(G(u)),
        "Phi(u) lies in [0, 1]; the latents of G in [-1, 1]": prior - d(G(share)),
        "the logit has the wrong sign": prior + logit,
        "a probability stands where the logit belongs": prior - torch.sigmoid(logit),
    }
    for mistake, wrong in mistakes.items():
        assert not _close_up_to_constant(value, wrong), mistake
    assert _close_up_to_constant(value, prior - logit), "differs from |u|^2/2 - d(G(2 Phi(u) - 1))"
    print("energy: right.")


def check_kl_of_logit(kl: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise: KL(p_d || p_g e^d / Z) in nats from d and d* (n,) at samples of p_d; equal supports."""
    generator = torch.Generator().manual_seed(0)
    d_star = torch.randn(60, generator=generator, dtype=torch.float64)
    d = 0.5 * d_star + torch.randn(60, generator=generator, dtype=torch.float64) + 0.7
    value = kl(d, d_star)
    if unfinished(value, "kl"):
        return
    value, u = float(value), d - d_star
    right = (u.exp().mean().log() - u.mean()).item()
    mistakes = {
        "log Z is missing: p_g exp(d) has no mass 1": -u.mean(),
        "the difference is turned round: u = d - d*, not d* - d": (-u).exp().mean().log() + u.mean(),
        "log Z = log E_{p_d} exp(d - d*), for the samples are p_d's, not p_g's": (
            d.exp().mean().log() - u.mean()
        ),
        "the logarithm of Z has the wrong sign": -u.exp().mean().log() - u.mean(),
        "that is Z in place of log Z": u.exp().mean() - u.mean(),
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake
    assert _close(value, right), "the value differs from log mean exp(d - d*) - mean(d - d*)"
    assert _close(float(kl(d + 1000, d_star)), right), (
        "a constant added to d must change nothing, but d + 1000 overflows: use torch.logsumexp"
    )
    print("kl: right.")
