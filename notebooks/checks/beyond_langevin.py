"""Checks of notebook 12."""

from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def check_pool_weights(pool_weights: Callable[[Tensor], Tensor]) -> None:
    """Exercise: probabilities with which i-SIR picks from pools with logits d (n, n_particles)."""
    d = torch.tensor([[0.0, 1.0, -2.0], [300.0, 301.0, 299.0]], dtype=torch.float64)
    value = pool_weights(d)
    if unfinished(value, "pool_weights"):
        return
    assert value.shape == d.shape, (
        f"one weight a particle is wanted, {tuple(d.shape)}, not {tuple(value.shape)}"
    )
    sigmoid = torch.sigmoid(d)
    mistakes = {
        "the sign is wrong: a high logit is likely": (-d).softmax(1),
        "a probability D(x) stands where exp(d) belongs": sigmoid / sigmoid.sum(1, keepdim=True),
        "normalise over the particles of a pool (dim 1), not over the pools": d.softmax(0),
        "all particles have the same weight: d is not used": torch.full_like(d, 1 / 3),
    }
    assert value.isfinite().all(), "exp(300) overflows: subtract the largest logit first, or use softmax"
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong), mistake
    assert torch.allclose(value, d.softmax(1)), "the weights of a pool are exp(d) over their sum"
    print("pool_weights: right.")


def check_score_from_denoiser(score: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise: the score of the noised density from x_t, E[x_0 | x_t] and sigma."""
    noised = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    variance, sigma = 0.25, 1.5  # x_0 ~ N(0, variance)
    denoised = noised * variance / (variance + sigma**2)
    value = score(noised, denoised, sigma)
    if unfinished(value, "score_from_denoiser"):
        return
    assert value.shape == noised.shape, f"the score has the shape of x_t, (5, 2), not {tuple(value.shape)}"
    right = (denoised - noised) / sigma**2
    mistakes = {
        "the score has the wrong sign: it points from x_t towards the mean of x_0": -right,
        "divide by the variance sigma^2, not by sigma": right * sigma,
        "the division by sigma^2 is missing": right * sigma**2,
        "subtract x_t: the denoised point itself is no score": denoised / sigma**2,
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong), mistake
    assert torch.allclose(value, right), "the score differs from (E[x_0 | x_t] - x_t) / sigma^2"
    print("score_from_denoiser: right.")


def check_guided_energy(guided: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Exercise: E(z) - weight * log p(y | G(z)) from E (n,), class logits (n, k), classes y (n,)."""
    generator = torch.Generator().manual_seed(1)
    energy = torch.randn(6, generator=generator, dtype=torch.float64)
    logits = 3 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    y, weight = torch.tensor([0, 1, 2, 3, 0, 1]), 2.0
    value = guided(energy, logits, y, weight)
    if unfinished(value, "guided_energy"):
        return
    assert value.shape == (6,), f"one energy a chain is wanted, shape (6,), not {tuple(value.shape)}"
    log_p = logits.log_softmax(1).gather(1, y[:, None])[:, 0]
    mistakes = {
        "the sign is wrong: a likely class must lower the energy": energy + weight * log_p,
        "the weight is not used": energy - log_p,
        "a probability stands where its logarithm belongs": energy - weight * log_p.exp(),
        "normalise the class logits: take log_softmax first": energy
        - weight * logits.gather(1, y[:, None])[:, 0],
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong), mistake
    assert torch.allclose(value, energy - weight * log_p), "the energy differs from E - weight log p(y | x)"
    print("guided_energy: right.")
