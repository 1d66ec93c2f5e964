"""Diagnostics of Markov chains: autocorrelation, effective sample size, R-hat, mode switches.

A path is what `utils.samplers.sample` keeps with `thin`: (n_kept, n_chains, *latent). Drop the warm-up first,
`chain.path[warm_up:]`. Every coordinate of the latent is judged on its own, in float64; one that never
changes gives nan. Notebook 04 introduces these measures.
"""

import math

import torch
from torch import Tensor


def autocorrelation(path: Tensor) -> Tensor:
    """Autocorrelation at the lags 0 to n_kept - 1 of all chains together, (n_kept, *latent); n_kept >= 2.

    rho_t = 1 - (W - mean over chains of s_t) / V, where s_t = (1/n) sum_i (x_i - m)(x_{i+t} - m) is the
    autocovariance of one chain about its own mean m, by FFT; W = n/(n - 1) mean s_0 is the variance
    within chains; V = (n - 1)/n W + variance between the chains' means. Chains that disagree about the
    mean therefore count as correlated (Vehtari et al., 2021, arXiv 1903.08008, equation 10).
    """
    path = _checked(path, at_least=2)
    n = len(path)
    centred = path - path.mean(0)
    length = 2 ** math.ceil(math.log2(2 * n))  # zeros behind the path, so that its ends do not meet
    spectrum = torch.fft.rfft(centred, length, dim=0).abs().square()
    covariance = torch.fft.irfft(spectrum, length, dim=0)[:n].mean(1) / n  # (n, *latent)
    within, total = _variances(path)
    rho = 1 - (within - covariance) / total
    rho[0] = 1
    return torch.where(total > 0, rho, math.nan)


def effective_sample_size(path: Tensor) -> Tensor:
    """How many independent draws give the mean as precisely as this path does, (*latent); n_kept >= 4.

    S / tau with S = n_kept * n_chains draws and tau = 1 + 2 sum_t rho_t, from `autocorrelation` of the chains
    cut in halves. The sum is Geyer's initial monotone sequence: pairs rho_2k + rho_2k+1 up to the first
    that is not positive, none larger than the one before (Geyer, 1992; Stan's estimator, arviz's
    method="mean"). At most S log10 S, since anticorrelated chains can beat independent draws.
    """
    halves = _split(_checked(path, at_least=4))
    rho = autocorrelation(halves)  # (n, *latent)
    n, draws = len(rho), halves.shape[0] * halves.shape[1]
    n_pairs = max(1, math.ceil(n / 2) - 1)  # the last lags are estimated from a handful of products
    even, odd = rho[0 : 2 * n_pairs : 2], rho[1 : 2 * n_pairs : 2]
    pairs = even + odd  # (n_pairs, *latent)
    kept = (pairs > 0).cumprod(0).bool()
    kept[-1] = False  # where no pair is negative, the last one ends the sum
    cut = kept.sum(0, keepdim=True)
    monotone = pairs.cummin(0).values
    tau = -1 + 2 * (monotone * kept).sum(0) + even.gather(0, cut)[0].clamp(min=0)
    return draws / tau.clamp(min=1 / math.log10(draws))


def r_hat(path: Tensor) -> Tensor:
    """Split R-hat, (*latent): sqrt(V / W), 1 for chains that agree, above 1.01 for unmixed ones; n_kept >= 4.

    Each chain is cut in halves, so that a drift counts as disagreement too. W is the mean variance within
    the halves, V = (n - 1)/n W + variance of their means (Gelman and Rubin, 1992; Gelman et al., 2013). It is
    inf where only the chains differ.
    """
    within, total = _variances(_split(_checked(path, at_least=4)))
    return (total / within).sqrt()


def mode_switch_rate(assignments: Tensor) -> Tensor:
    """Share of steps at which a chain's mode changes, (n_chains,).

    `assignments` (n_kept, n_chains) holds the index of each state's nearest mode, as by
    `utils.toy.distance_to_mode`. Independent draws of k equally likely modes switch at rate 1 - 1/k.
    """
    if assignments.ndim != 2 or len(assignments) < 2 or assignments.is_floating_point():
        found = f"shape {tuple(assignments.shape)} and type {assignments.dtype}"
        raise ValueError(f"assignments has {found}; give integers (n_kept, n_chains) with n_kept >= 2")
    return (assignments[1:] != assignments[:-1]).double().mean(0)


def _variances(path: Tensor) -> tuple[Tensor, Tensor]:
    """W, the mean variance within chains, and V, the variance of all draws as chains that agree have it."""
    n, n_chains = path.shape[:2]
    within = path.var(0).mean(0)
    # rounding would leave a constant path a tiny variance
    within = torch.where((path == path[:1]).all(0).all(0), 0.0, within)
    total = (n - 1) / n * within
    return within, total + path.mean(0).var(0) if n_chains > 1 else total


def _split(path: Tensor) -> Tensor:
    """Each chain as two: its first and its last half (a middle state is left out)."""
    half = len(path) // 2
    return torch.cat([path[:half], path[-half:]], 1)  # (half, 2 * n_chains, *latent)


def _checked(path: Tensor, at_least: int) -> Tensor:
    if path.ndim < 2 or len(path) < at_least or path.shape[1] == 0:
        shape = f"(n_kept, n_chains, *latent) with n_kept >= {at_least}, as sample(..., thin=1).path"
        raise ValueError(f"path has shape {tuple(path.shape)}; give {shape}")
    if not path.isfinite().all():
        raise ValueError("path is not finite; a chain diverged")
    return path.detach().double()
