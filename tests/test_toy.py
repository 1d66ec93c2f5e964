"""Toy targets: densities integrate to 1, samples follow them, and other libraries agree."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.datasets import make_swiss_roll

from utils.metrics.toy import permutation_test
from utils.toy import (
    GaussianMixture,
    SwissRoll,
    distance_to_mode,
    gaussian_grid,
    gaussian_ring,
    mixture_1d,
)

WEIGHTED = mixture_1d((-1.0, 2.0, 3.0), std=0.5, weights=(0.2, 0.5, 0.3))
LOPSIDED = GaussianMixture("two", torch.tensor([[0.0, 1.0], [-1.0, 0.5]]), 0.3, torch.tensor([0.9, 0.1]))
PLANE = {
    "grid": gaussian_grid(),
    "wide grid": gaussian_grid(3, spacing=2.0, std=0.4),
    "ring": gaussian_ring(),
    "lopsided": LOPSIDED,
    "roll": SwissRoll(),
    "thick roll": SwissRoll(noise=1.0, n_nodes=200),
}
EXTENT = {"wide grid": 4.5, "thick roll": 3.0}  # else 2.5
TILES, INNER = 16, 8  # the square is cut into tiles, and each tile into cells


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def tile_masses(name: str) -> tuple[float, torch.Tensor]:
    """Half the side of a square that holds the target, and the mass in each of its tiles by quadrature."""
    extent, n = EXTENT.get(name, 2.5), TILES * INNER
    line = extent * ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1)
    # a cell's side h is at most 1.2 std: the midpoint rule's error, of order exp(-2 (pi std / h)^2), is 1e-6
    density = PLANE[name].log_prob(torch.cartesian_prod(line, line)).exp()
    return extent, density.view(TILES, INNER, TILES, INNER).sum((1, 3)) * (2 * extent / n) ** 2


# --- densities


@pytest.mark.parametrize("name", PLANE)
def test_densities_of_the_plane_integrate_to_one(name):
    assert tile_masses(name)[1].sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("target", [mixture_1d(), WEIGHTED])
def test_densities_of_the_line_integrate_to_one(target):
    x = torch.linspace(-6, 7, 4001, dtype=torch.float64)
    assert integrate.simpson(target.log_prob(x[:, None]).exp().numpy(), x=x) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("target", [gaussian_grid(), gaussian_ring(5), LOPSIDED, WEIGHTED])
def test_log_prob_of_a_mixture_is_scipys(target):
    x = 2 * torch.randn(200, target.dim, dtype=torch.float64, generator=seeded())
    density = sum(
        weight * stats.multivariate_normal.pdf(x.numpy(), mean, target.std**2)
        for weight, mean in zip(target.weights.double().numpy(), target.means.double().numpy(), strict=True)
    )
    ours = target.log_prob(x).numpy()
    inside = density > 1e-250  # scipy's own density underflows beyond
    np.testing.assert_allclose(ours[inside], np.log(density[inside]), rtol=1e-5)
    assert inside.sum() > 50 and np.isfinite(ours).all()


def test_log_prob_of_the_roll_is_its_integral():
    roll = SwissRoll()
    x = torch.cat([roll.sample(4, seeded()), torch.tensor([[0.0, 0.0], [0.9, 0.4]])]).double()

    def integrand(t, point):
        squares = (t * np.cos(t) / 7.5 - point[0]) ** 2 + (t * np.sin(t) / 7.5 - point[1]) ** 2
        return np.exp(-0.5 * squares / roll.std**2) / (2 * np.pi * roll.std**2) / (3 * np.pi)

    for point, ours in zip(x.numpy(), roll.log_prob(x), strict=True):
        pieces = [
            integrate.quad(integrand, a, b, args=(point,), epsabs=0, epsrel=1e-10)[0]
            for a, b in pairwise(np.linspace(1.5 * np.pi, 4.5 * np.pi, 40))
        ]
        assert ours.item() == pytest.approx(math.log(sum(pieces)), abs=1e-6)


def test_log_prob_has_a_gradient():
    for target in (gaussian_grid(), SwissRoll()):
        x = target.sample(50, seeded()).double().requires_grad_(True)
        (gradient,) = torch.autograd.grad(target.log_prob(x).sum(), x)
        step = torch.tensor([1e-6, 0.0], dtype=torch.float64)
        with torch.no_grad():
            slope = (target.log_prob(x + step) - target.log_prob(x - step)) / 2e-6
        torch.testing.assert_close(gradient[:, 0], slope, rtol=1e-5, atol=1e-5)


# --- samples


@pytest.mark.parametrize("target", [mixture_1d(), WEIGHTED])
def test_samples_of_the_line_follow_the_density(target):
    x = target.sample(4000, seeded())[:, 0].numpy()

    def cdf(values):
        means = target.means.numpy()[:, 0]
        return (target.weights.numpy() * stats.norm.cdf(values[:, None], means, target.std)).sum(1)

    assert stats.kstest(x, cdf).pvalue > 0.01


@pytest.mark.parametrize("name", PLANE)
def test_samples_of_the_plane_follow_the_density(name):
    n = 5000
    extent, mass = tile_masses(name)
    x = PLANE[name].sample(n, seeded(1))
    edges = np.linspace(-extent, extent, TILES + 1)
    counts = np.histogram2d(x[:, 0].numpy(), x[:, 1].numpy(), bins=(edges, edges))[0]
    expected = n * mass.numpy()
    few = expected < 5
    observed = np.append(counts[~few], n - counts[~few].sum())
    expected = np.append(expected[~few], n - expected[~few].sum())
    if expected[-1] < 5:  # hardly anything is rare: join it to the last tile
        observed, expected = (np.append(a[:-2], a[-2:].sum()) for a in (observed, expected))
    assert len(observed) >= 4
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 0.01


def test_the_roll_is_that_of_scikit_learn():
    theirs = make_swiss_roll(700, noise=0.25, random_state=0)[0][:, [0, 2]] / 7.5
    theirs = torch.from_numpy(theirs).float()
    assert permutation_test(SwissRoll().sample(700, seeded()), theirs, seeded(), 199) > 0.02
    mirrored = theirs * torch.tensor([1.0, -1.0])
    assert permutation_test(SwissRoll().sample(700, seeded()), mirrored, seeded(), 199) < 0.01


def test_weights_are_kept():
    shares = LOPSIDED.sample(20_000, seeded())
    _, mode = distance_to_mode(shares, LOPSIDED)
    gap = (LOPSIDED.means[0] - LOPSIDED.means[1]).norm().item() / LOPSIDED.std
    strays = stats.norm.sf(gap / 2)  # points that are nearer to the other mode
    assert (mode == 0).double().mean().item() == pytest.approx(0.9 - 0.8 * strays, abs=0.012)


@pytest.mark.parametrize("target", [*PLANE.values(), WEIGHTED])
def test_seeds_and_shapes(target):
    before = torch.get_rng_state()
    first, again, other = (target.sample(7, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (7, target.dim) and first.dtype == torch.float32
    assert target.log_prob(first).shape == (7,)
    assert torch.equal(torch.get_rng_state(), before)


# --- geometry


def test_means():
    assert gaussian_grid(5, spacing=2.0).means.shape == (25, 2)
    assert gaussian_grid(3).means.tolist()[:2] == [[-1.0, -1.0], [-1.0, 0.0]]
    torch.testing.assert_close(gaussian_grid().means.mean(0), torch.zeros(2))
    ring = gaussian_ring(8, radius=3.0)
    torch.testing.assert_close(ring.means.norm(dim=1), torch.full((8,), 3.0))
    gaps = (ring.means - ring.means.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(gaps, gaps[:1].expand(8))
    assert mixture_1d((0.0, 1.0)).means.shape == (2, 1)


def test_distance_to_mode():
    target = gaussian_grid(3, spacing=1.0, std=0.1)
    distance, mode = distance_to_mode(torch.tensor([[0.3, 0.0], [1.0, -1.2]]), target)
    torch.testing.assert_close(distance, torch.tensor([3.0, 2.0]), rtol=1e-4, atol=1e-4)
    assert target.means[mode].tolist() == [[0.0, 0.0], [1.0, -1.0]]


def test_curve_of_the_roll():
    roll = SwissRoll()
    assert roll.std == pytest.approx(1 / 30)
    ends = roll.curve(torch.tensor([1.5 * math.pi, 4.5 * math.pi])).double()
    expected = torch.tensor([[0.0, -1.5], [0.0, 4.5]], dtype=torch.float64) * math.pi / 7.5
    torch.testing.assert_close(ends, expected, rtol=1e-5, atol=1e-5)


# --- errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"means": torch.zeros(3)}, "means has shape"),
        ({"std": 0.0}, "std=0.0 must be positive"),
        ({"std": float("nan")}, "std=nan must be positive"),
        ({"weights": torch.tensor([0.5, 0.6])}, "weights="),
        ({"weights": torch.tensor([1.5, -0.5])}, "weights="),
        ({"weights": torch.tensor([1.0])}, "2 shares that sum to 1"),
    ],
)
def test_bad_settings_name_the_argument(settings, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**{"name": "x", "means": torch.zeros(2, 2), "std": 1.0} | settings)
