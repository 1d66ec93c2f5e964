"""Measures of toy samples: cases made by hand, closed forms, scipy, quadrature."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from utils.metrics.toy import (
    ROLL_BINS,
    assign,
    distance_to_roll,
    divergences_on_grid,
    energy_distance,
    high_quality_share,
    mode_balance,
    modes_recovered,
    permutation_test,
    std_within_modes,
    summary,
)
from utils.toy import GaussianMixture, SwissRoll, gaussian_grid, mixture_1d

GRID = gaussian_grid(3, spacing=1.0, std=0.1)
ROLL = SwissRoll()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, dim: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, dtype=torch.float64, generator=seeded(seed))


# --- quality, modes, balance: by hand

# offsets in std: 3 and 3.9 are of high quality, 4.1 is not; the modes are 4, 4, 0 and 8
BY_HAND = GRID.means[[4, 4, 0, 8]] + 0.1 * torch.tensor([[3.0, 0.0], [0.0, -3.9], [0.0, 4.1], [0.0, 0.0]])


def test_modes_and_quality_by_hand():
    assert high_quality_share(BY_HAND, GRID) == 0.75
    assert modes_recovered(BY_HAND, GRID) == 2
    assert assign(BY_HAND, GRID).mode.tolist() == [4, 4, 0, 8]
    torch.testing.assert_close(
        assign(BY_HAND, GRID).distance, torch.tensor([3, 3.9, 4.1, 0]), rtol=1e-4, atol=1e-4
    )
    assert std_within_modes(BY_HAND, GRID) == pytest.approx(math.sqrt((3**2 + 3.9**2 + 0) / 3 / 2), rel=1e-4)


def test_balance_by_hand():
    assert mode_balance(GRID.means, GRID) == pytest.approx(0, abs=1e-6)
    assert mode_balance(GRID.means[[2, 2, 2]], GRID) == pytest.approx(math.log(9), abs=1e-6)
    two_to_one = GRID.means[[0, 0, 5]]
    assert mode_balance(two_to_one, GRID) == pytest.approx(
        2 / 3 * math.log(2 / 3 * 9) + 1 / 3 * math.log(1 / 3 * 9), abs=1e-6
    )
    # low quality points do not count
    far = torch.cat([two_to_one, GRID.means[[7]] + 0.45])
    assert mode_balance(far, GRID) == mode_balance(two_to_one, GRID)
    weighted = mixture_1d((0.0, 5.0), 0.1, (0.75, 0.25))
    assert mode_balance(torch.tensor([[0.0], [0.0], [0.0], [5.0]]), weighted) == pytest.approx(0, abs=1e-6)
    assert mode_balance(torch.tensor([[0.0], [5.0]]), weighted) == pytest.approx(
        stats.entropy([0.5, 0.5], [0.75, 0.25])
    )


def test_exact_samples_measure_as_the_docstrings_say():
    n = 200_000
    x = gaussian_grid().sample(n, seeded())
    row = summary(x, gaussian_grid())
    assert row["n"] == n and row["modes_recovered"] == 25
    outside = math.exp(-8)
    assert row["high_quality_share"] == pytest.approx(1 - outside, abs=5 * (outside / n) ** 0.5)
    expected = math.sqrt(1 - 8 * outside / (1 - outside))
    assert expected == pytest.approx(0.9987, abs=5e-5)
    assert row["std_within_modes"] == pytest.approx(expected, abs=5 / (4 * n) ** 0.5)
    assert row["mode_balance"] == pytest.approx(24 / (2 * n), abs=24 / (2 * n))


@pytest.mark.parametrize("width", [0.5, 1.5])
def test_std_within_modes_is_in_units_of_the_true_one(width):
    narrow = GaussianMixture("narrow", GRID.means, 0.1 * width)
    x = narrow.sample(50_000, seeded())
    cut = 4 / width  # the ball of high quality, in the samples' own std
    mass = 1 - math.exp(-(cut**2) / 2)
    expected = width * math.sqrt(1 - cut**2 / 2 * math.exp(-(cut**2) / 2) / mass)
    assert std_within_modes(x, GRID) == pytest.approx(expected, rel=0.02)


def test_a_displaced_cluster_is_wide():
    assert std_within_modes(GRID.means + torch.tensor([0.2, 0.0]), GRID) == pytest.approx(
        math.sqrt(2), rel=1e-4
    )


def test_nothing_of_high_quality():
    x = torch.full((3, 2), 0.5)
    assert high_quality_share(x, GRID) == 0 and modes_recovered(x, GRID) == 0
    assert math.isnan(std_within_modes(x, GRID)) and math.isnan(mode_balance(x, GRID))


def test_one_dimension():
    target = mixture_1d()
    row = summary(target.sample(20_000, seeded()), target)
    assert row["high_quality_share"] > 0.999 and row["modes_recovered"] == 3
    assert row["std_within_modes"] == pytest.approx(1, abs=0.02)


# --- the swiss roll


def test_distance_to_the_roll_is_the_minimum():
    x = torch.cat([ROLL.sample(20, seeded()), 3 * torch.rand(20, 2, generator=seeded()) - 1.5]).double()
    distance, t = distance_to_roll(x, ROLL)
    low, high = 1.5 * math.pi, 4.5 * math.pi
    for point, ours, ours_t in zip(x.numpy(), distance, t, strict=True):

        def squared(s, point=point):
            return ((np.array([s * np.cos(s), s * np.sin(s)]) / 7.5 - point) ** 2).sum()

        coarse = np.linspace(low, high, 3000)
        s = coarse[np.argmin([squared(s) for s in coarse])]
        best = optimize.minimize_scalar(
            squared,
            bounds=(max(low, s - 0.01), min(high, s + 0.01)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        # far inside the roll the steps along the curve need not converge: there the nearest node serves
        assert ours.item() * ROLL.std == pytest.approx(math.sqrt(best.fun), abs=2e-4)
        assert low <= ours_t <= high


def test_points_on_the_roll_are_found():
    t = torch.linspace(1.5 * math.pi + 0.01, 4.5 * math.pi - 0.01, 777, dtype=torch.float64)
    x = ROLL.curve(t)
    distance, found = distance_to_roll(x, ROLL)
    assert distance.max() < 1e-6
    torch.testing.assert_close(found, t, rtol=0, atol=1e-6)
    # 3 std along the normal is 3 std from the roll
    tangent = torch.stack([t.cos() - t * t.sin(), t.sin() + t * t.cos()], 1)
    across = torch.nn.functional.normalize(tangent, dim=1).flip(1) * torch.tensor([-1.0, 1.0])
    distance, found = distance_to_roll(x + 3 * ROLL.std * across, ROLL)
    torch.testing.assert_close(distance, torch.full_like(distance, 3.0), rtol=0, atol=1e-6)
    torch.testing.assert_close(found, t, rtol=0, atol=1e-5)


def test_measures_of_the_roll():
    row = summary(ROLL.sample(20_000, seeded()), ROLL)
    assert row["high_quality_share"] > 0.9997 and row["modes_recovered"] == ROLL_BINS
    assert row["std_within_modes"] == pytest.approx(1, abs=0.02)
    assert row["mode_balance"] == pytest.approx((ROLL_BINS - 1) / 40_000, abs=1e-3)
    # the outer third alone
    t = torch.linspace(3.5 * math.pi, 4.5 * math.pi, 3000)
    row = summary(ROLL.curve(t), ROLL)
    assert row["modes_recovered"] == math.ceil(ROLL_BINS / 3)
    assert row["mode_balance"] == pytest.approx(
        0.96 * math.log(3), abs=2e-3
    )  # 8 bins of 3 / 25, one of 1 / 25
    assert row["std_within_modes"] < 1e-3
    assert high_quality_share(torch.zeros(5, 2), ROLL) == 0


# --- two samples


def test_energy_distance_is_the_square_of_scipys():
    x, y = normal(300, 1), 0.5 + 1.3 * normal(200, 1, seed=1)
    expected = stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_energy_distance_by_a_direct_sum():
    x, y = normal(1203), 0.1 + normal(30, seed=1)  # more than a block of rows

    def mean(a, b):
        return np.mean([np.linalg.norm(b.numpy() - row, axis=1).mean() for row in a.numpy()])

    assert energy_distance(x, y) == pytest.approx(2 * mean(x, y) - mean(x, x) - mean(y, y), rel=1e-9)
    assert energy_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x))


def test_energy_distance_of_one_law_is_as_small_as_stated():
    # E|X - X'| is sqrt(pi) for standard normals in the plane
    values = [energy_distance(normal(100, seed=s), normal(200, seed=1000 + s)) for s in range(60)]
    expected = (1 / 100 + 1 / 200) * math.sqrt(math.pi)
    assert np.mean(values) == pytest.approx(expected, abs=5 * np.std(values) / 60**0.5)
    assert np.std(values) / 60**0.5 < 0.1 * expected


def test_permutation_test_counts_every_split():
    # with 3 + 4 points all 35 splits are known: the p-value is the share of those at least as large
    x, y = normal(3), 0.8 + normal(4, seed=1)
    pooled = torch.cat([x, y])
    values = []
    for chosen in combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        values.append(energy_distance(pooled[list(chosen)], pooled[rest]))
    exact = np.mean(np.array(values) >= values[0] - 1e-12)
    assert 0.03 < exact < 0.9
    p = permutation_test(x, y, seeded(), n_permutations=20_000)
    assert p == pytest.approx(exact, abs=5 * (0.25 / 20_000) ** 0.5)


def test_permutation_test_has_its_level_and_power():
    p = [permutation_test(normal(40, seed=s), normal(60, seed=500 + s), seeded(s), 99) for s in range(200)]
    assert stats.kstest(p, stats.uniform.cdf).pvalue > 0.001  # uniform on 0.01, ..., 1 under the hypothesis
    assert min(p) >= 0.01
    assert permutation_test(normal(100), 0.7 + normal(100, seed=1), seeded(), 199) == 1 / 200
    wide = 2 * normal(100, seed=1)
    assert permutation_test(normal(100), wide, seeded(), 199) == 1 / 200


def test_permutation_test_is_seeded():
    x, y = normal(50), 0.2 + normal(50, seed=1)
    first, again = (permutation_test(x, y, seeded(3), 99) for _ in range(2))
    assert first == again


# --- two densities


def line(n: int = 4000, extent: float = 12.0) -> tuple[torch.Tensor, float]:
    cell = 2 * extent / n
    return extent * ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1), cell


def gaussian(x, mean, std):
    return torch.distributions.Normal(mean, std).log_prob(x)


def test_divergences_of_gaussians_are_their_closed_forms():
    x, cell = line()
    result = divergences_on_grid(gaussian(x, 0.5, 1.5), gaussian(x, -0.3, 0.8), cell)

    def kl(m, s, m2, s2):
        return math.log(s2 / s) + (s**2 + (m - m2) ** 2) / (2 * s2**2) - 0.5

    assert result.kl == pytest.approx(kl(0.5, 1.5, -0.3, 0.8), abs=1e-6)
    shifted = divergences_on_grid(gaussian(x, 0.0, 1.0), gaussian(x, 1.4, 1.0), cell)
    assert shifted.total_variation == pytest.approx(2 * stats.norm.cdf(0.7) - 1, abs=1e-5)


def test_divergences_at_the_extremes():
    x, cell = line()
    log_p = gaussian(x, 0.0, 1.0)
    assert max(map(abs, divergences_on_grid(log_p, log_p, cell))) < 1e-12
    left = torch.where(x < 0, 0.0, -torch.inf) - math.log(12)
    right = torch.where(x > 0, 0.0, -torch.inf) - math.log(12)
    result = divergences_on_grid(left, right, cell)
    assert result.kl == math.inf and result.total_variation == pytest.approx(1)
    whole = torch.full_like(x, -math.log(24))
    assert divergences_on_grid(left, whole, cell).kl == pytest.approx(math.log(2))
    assert divergences_on_grid(whole, left, cell).kl == math.inf


def test_divergences_in_the_plane_and_of_unnormalised_densities():
    side = torch.linspace(-3, 3, 301, dtype=torch.float64)[:-1] + 0.01
    points = torch.cartesian_prod(side, side)
    p, q = GRID.log_prob(points), gaussian_grid(3, std=0.15).log_prob(points)
    result = divergences_on_grid(p, q, 0.02**2)
    # the modes hardly overlap: nearly the divergence of one component from its like
    assert result.kl == pytest.approx(2 * (math.log(1.5) + 1 / (2 * 1.5**2) - 0.5), abs=2e-3)
    again = divergences_on_grid(p + 3, q - 700, 0.02**2, normalise=True)
    assert tuple(again) == pytest.approx(tuple(result), rel=1e-6)


# --- errors


@pytest.mark.parametrize(
    "measure", [high_quality_share, modes_recovered, std_within_modes, mode_balance, summary]
)
@pytest.mark.parametrize("target", [GRID, ROLL])
def test_bad_points_are_errors(measure, target):
    for bad in (torch.zeros(0, 2), torch.zeros(3, 1), torch.zeros(2)):
        with pytest.raises(ValueError, match=r"x has shape .* \(n, 2\)"):
            measure(bad, target)
    with pytest.raises(ValueError, match="x is not finite in 1 of 2 rows"):
        measure(torch.tensor([[0.0, float("nan")], [0.0, 0.0]]), target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("target", [GRID, ROLL])
def test_points_of_other_types_are_measured_as_floats(dtype, target):
    x = target.sample(500, seeded()).to(dtype)
    assert summary(x, target, x) == pytest.approx(summary(x.float(), target, x.float()), nan_ok=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: energy_distance(x, normal(3, 1)), r"x has shape \(4, 2\); give points of shape \(n, 1\)"),
        (lambda x: energy_distance(x, x[0]), "y has shape"),
        (lambda x: energy_distance(x, x / 0), "y is not finite in 4 of 4 rows"),
        (lambda x: permutation_test(x, x, seeded(), 0), "n_permutations=0"),
        (lambda x: divergences_on_grid(x[:, 0], x[:2, 0], 1.0), "must both be"),
        (lambda x: divergences_on_grid(x[:, 0], x[:, 0], 0.0), "cell=0.0 must be positive"),
        (lambda x: divergences_on_grid(x[:, 0], x[:, 0], 9.0), "log_p has mass .* normalise=True"),
        (lambda x: divergences_on_grid(x[:, 0] * float("nan"), x[:, 0], 1.0), "log_p is NaN at 4 points"),
    ],
)
def test_bad_calls_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(4))
