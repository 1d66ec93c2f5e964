"""Diagnostics of chains against arviz, numpy and the closed forms of AR(1) processes."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from utils.metrics.chains import (
    autocorrelation,
    effective_sample_size,
    mode_switch_rate,
    r_hat,
)


def ar1(n: int, n_chains: int, coefficient: float, seed: int = 0) -> torch.Tensor:
    """Stationary x_t = a x_{t-1} + sqrt(1 - a^2) noise, (n, n_chains, 1): rho_t = a^t, variance 1."""
    noise = np.random.default_rng(seed).standard_normal((n, n_chains))
    noise[1:] *= math.sqrt(1 - coefficient**2)
    return torch.from_numpy(lfilter([1], [1, -coefficient], noise, axis=0))[..., None]


PATHS = {
    "white": ar1(1000, 4, 0.0),
    "slow": ar1(1000, 4, 0.95),
    "alternating": ar1(1000, 3, -0.6),
    "one chain": ar1(500, 1, 0.5),
    "odd length": ar1(333, 4, 0.8),
    "short": ar1(7, 3, 0.3),
    "very short": ar1(4, 2, 0.0),
    "never decorrelates": torch.linspace(0, 1, 50, dtype=torch.float64)[:, None, None] + ar1(50, 2, 0) / 1e4,
    "chains apart": ar1(400, 4, 0.5) + 3 * torch.arange(4.0)[None, :, None],
    "repeated states": ar1(400, 4, 0.5).round(decimals=1),
    "latent of two axes": torch.stack([ar1(200, 3, a, s) for s, a in enumerate((0.1, 0.5, 0.9, -0.3))], -1)
    .view(200, 3, 2, 2)
    .clone(),
}


@pytest.fixture(scope="module")
def arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # arviz announces its next version at import
        return pytest.importorskip("arviz")


def of_arviz(function, path: torch.Tensor, **options) -> torch.Tensor:
    """arviz on each coordinate, (*latent)."""
    columns = path.double().flatten(2).permute(2, 1, 0).numpy()  # coordinate, chain, draw
    values = [float(function(column, **options)) for column in columns]
    return torch.tensor(values, dtype=torch.float64).view(path.shape[2:])


# --- arviz


@pytest.mark.parametrize("name", PATHS)
def test_effective_sample_size_is_that_of_arviz(arviz, name):
    expected = of_arviz(arviz.ess, PATHS[name], method="mean")
    torch.testing.assert_close(effective_sample_size(PATHS[name]), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", [name for name in PATHS if name != "one chain"])
def test_r_hat_is_that_of_arviz(arviz, name):
    expected = of_arviz(arviz.rhat, PATHS[name], method="split")
    torch.testing.assert_close(r_hat(PATHS[name]), expected, rtol=1e-10, atol=0)


# --- closed forms


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.9, -0.5])
def test_autocorrelation_of_ar1(coefficient):
    path = ar1(20_000, 10, coefficient)
    lags = torch.arange(20)
    expected = torch.tensor(coefficient, dtype=torch.float64) ** lags
    # the standard error of rho is at most sqrt(tau / draws)
    tolerance = 5 * math.sqrt((1 + abs(coefficient)) / (1 - abs(coefficient)) / 200_000)
    torch.testing.assert_close(autocorrelation(path)[:20, 0], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.9, -0.5])
def test_effective_sample_size_of_ar1(coefficient):
    # tau = 1 + 2 sum a^t = (1 + a) / (1 - a)
    expected = 200_000 * (1 - coefficient) / (1 + coefficient)
    assert effective_sample_size(ar1(20_000, 10, coefficient)).item() == pytest.approx(expected, rel=0.05)


def test_effective_sample_size_is_the_variance_of_the_mean():
    # its definition: var(mean) = var / ESS, over 2,000 replications
    means = ar1(200, 2000, 0.7).mean(0)
    sizes = [effective_sample_size(part) for part in ar1(200, 2000, 0.7).split(20, 1)]
    assert 1 / means.var().item() == pytest.approx(torch.stack(sizes).mean().item() / 20, rel=0.12)


def test_autocorrelation_against_its_sum():
    path = torch.from_numpy(np.random.default_rng(1).standard_normal((13, 3, 2)).cumsum(0))
    n = len(path)
    centred = (path - path.mean(0)).numpy()
    within, between = path.var(0).mean(0).numpy(), path.mean(0).var(0).numpy()
    for t, rho in enumerate(autocorrelation(path)):
        covariance = sum(centred[i] * centred[i + t] for i in range(n - t)).mean(0) / n
        expected = 1 - (within - covariance) / ((n - 1) / n * within + between) if t else np.ones(2)
        np.testing.assert_allclose(rho.numpy(), expected, rtol=1e-10)


def test_scale_and_offset_do_not_matter():
    path = PATHS["slow"]
    moved = 1e3 + 1e-3 * path
    for measure in (effective_sample_size, r_hat):
        torch.testing.assert_close(measure(moved), measure(path), rtol=1e-6, atol=0)


def test_coordinates_are_independent_of_each_other():
    path = PATHS["latent of two axes"]
    for measure in (effective_sample_size, r_hat, autocorrelation):
        whole = measure(path)
        assert whole.shape[-2:] == (2, 2)
        torch.testing.assert_close(whole[..., 1, 0], measure(path[..., 1, 0]), rtol=1e-10, atol=1e-12)


def test_r_hat_sees_chains_apart_and_a_drift():
    good = ar1(1000, 4, 0.3)
    assert r_hat(good).item() < 1.01
    assert r_hat(good + torch.tensor([0.0, 0.0, 0.0, 1.0])[None, :, None]).item() > 1.05
    assert r_hat(good + torch.linspace(0, 2, 1000)[:, None, None]).item() > 1.05


def test_r_hat_by_hand():
    # halves (0, 2), (0, 2) of the one chain and (1, 3), (1, 3) of the other: W = 2, means 1, 1, 2, 2
    path = torch.tensor([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [2.0, 3.0]])
    assert r_hat(path).item() == pytest.approx(math.sqrt((0.5 * 2 + 1 / 3) / 2))


def test_a_path_that_never_changes_has_no_effective_sample_size():
    path = torch.cat([torch.full((100, 3, 1), 0.1), torch.randn(100, 3, 1)], 2)
    for measure in (effective_sample_size, r_hat):
        value = measure(path)
        assert value[0].isnan() and value[1].isfinite()
    stuck = torch.arange(3.0)[None, :, None].expand(100, 3, 1)
    assert r_hat(stuck).isinf() and effective_sample_size(stuck).item() < 7


# --- modes


def test_mode_switch_rate():
    assignments = torch.tensor([[0, 0], [1, 0], [1, 0], [0, 0], [2, 0]])
    torch.testing.assert_close(mode_switch_rate(assignments), torch.tensor([0.75, 0.0]).double())
    independent = torch.randint(5, (10_000, 4), generator=torch.Generator().manual_seed(0))
    assert mode_switch_rate(independent).mean().item() == pytest.approx(0.8, abs=0.01)


# --- errors


@pytest.mark.parametrize("measure", [autocorrelation, effective_sample_size, r_hat])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        (torch.zeros(10), "n_kept"),
        (torch.zeros(0, 2, 1), "n_kept"),
        (torch.zeros(10, 0, 1), "n_kept"),
        (torch.full((10, 2, 1), math.nan), "not finite"),
    ],
)
def test_a_bad_path_is_named(measure, path, message):
    with pytest.raises(ValueError, match=f"path.*{message}"):
        measure(path)


@pytest.mark.parametrize("assignments", [torch.zeros(5, 2), torch.zeros(5).long(), torch.zeros(1, 2).long()])
def test_bad_assignments_are_named(assignments):
    with pytest.raises(ValueError, match="assignments"):
        mode_switch_rate(assignments)
