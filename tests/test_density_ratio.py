"""Calibration and refitting against known log ratios, quadrature and scikit-learn."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.calibration import calibration_curve
from torch import nn

from utils.density_ratio import (
    Affine,
    FeatureHead,
    accuracy,
    calibration_error,
    describe,
    effective_ratio_check,
    fit_logit,
    logistic_loss,
    logits_of,
    platt,
    reliability_curve,
    weight_ess,
)
from utils.models import build_gan

SHIFT = 1.5  # p_d = N(SHIFT, 1), p_g = N(0, 1): log p_d/p_g = SHIFT x - SHIFT^2 / 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact_ratio(x):
    return SHIFT * x - SHIFT**2 / 2


def draw(n_real: int, n_fake: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(seed)
    real = SHIFT + torch.randn(n_real, generator=generator, dtype=torch.float64)
    return real, torch.randn(n_fake, generator=generator, dtype=torch.float64)


def best_loss() -> float:
    """log 2 - JSD(p_d, p_g), by quadrature: the loss of the exact ratio."""

    def integrand(x):
        real, fake = stats.norm.pdf(x, SHIFT), stats.norm.pdf(x)
        mean = (real + fake) / 2
        return 0.5 * (real * np.log(real / mean) + fake * np.log(fake / mean))

    return math.log(2) - integrate.quad(integrand, -10, 12)[0]


# --- Platt scaling


@pytest.mark.parametrize(
    ("slope", "intercept", "spread"),
    [(1, 0, 1), (0.2, -0.7, 8), (0.02, 0.3, 60), (40, 1, 0.05), (-0.5, 0.2, 2)],
)
def test_platt_recovers_slope_and_intercept(slope, intercept, spread):
    generator = seeded()
    d = spread * torch.randn(100_000, generator=generator, dtype=torch.float64)
    is_real = torch.rand(len(d), generator=generator, dtype=torch.float64) < torch.sigmoid(
        slope * d + intercept
    )
    odds = is_real.double().mean() / (~is_real).double().mean()
    fitted_slope, fitted_intercept = platt(d[is_real], d[~is_real])
    assert fitted_slope == pytest.approx(slope, rel=0.05)
    # the two classes weigh the same, whatever their counts: log(n_real / n_fake) is taken off
    assert fitted_intercept == pytest.approx(intercept - odds.log().item(), abs=0.05)


def test_platt_is_where_the_loss_is_flat():
    real, fake = draw(3000, 300)
    theta = torch.tensor(platt(real, fake), dtype=torch.float64, requires_grad=True)
    real, fake = (theta[0] * d + theta[1] for d in (real, fake))
    loss = nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()
    (gradient,) = torch.autograd.grad(loss, theta)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_dead_discriminator_gets_slope_0_and_says_so(value):
    with pytest.warns(UserWarning, match="cannot tell real from fake"):
        assert platt(torch.full((50,), value), torch.full((40,), value)) == (0, 0)


def test_class_imbalance_does_not_shift_platt():
    for n_real, n_fake in ((50_000, 50_000), (50_000, 5_000), (5_000, 50_000)):
        slope, intercept = platt(*draw(n_real, n_fake))
        assert slope == pytest.approx(SHIFT, abs=0.1)
        assert intercept == pytest.approx(-(SHIFT**2) / 2, abs=0.1)


def test_platt_of_the_exact_ratio_is_the_identity_and_lowers_the_loss_of_a_bad_one():
    real, fake = (exact_ratio(x) for x in draw(50_000, 50_000))
    assert platt(real, fake) == pytest.approx((1, 0), abs=0.05)
    steep_real, steep_fake = 4 * real + 2, 4 * fake + 2
    slope, intercept = platt(steep_real, steep_fake)
    calibrated = logistic_loss(slope * steep_real + intercept, slope * steep_fake + intercept)
    assert calibrated < logistic_loss(steep_real, steep_fake) - 0.1
    assert calibrated == pytest.approx(best_loss(), abs=0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_separation_is_an_error(sign):
    with pytest.raises(FloatingPointError, match="real_logits and fake_logits"):
        platt(sign * (1 + torch.rand(50, generator=seeded())), -sign * torch.rand(50, generator=seeded()))


def test_logits_that_are_not_finite_are_an_error():
    with pytest.raises(FloatingPointError):
        platt(torch.tensor([1.0, 2.0, float("nan")]), torch.tensor([0.0, 1.5]))


def test_affine():
    logit = Affine(nn.Flatten(0), slope=2.0, intercept=-1.0)
    torch.testing.assert_close(logit(torch.tensor([[0.0], [3.0]])), torch.tensor([-1.0, 5.0]))
    assert {"slope", "intercept"} == set(logit.state_dict())
    assert not list(logit.parameters())


# --- a head on frozen features


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    return build_gan("dcgan", latent_dim=4, g_width=2, d_width=2, image_size=8)[1]


def test_feature_head(discriminator):
    head = FeatureHead(discriminator, hidden=5)
    x = torch.randn(3, 3, 8, 8)
    features = head.body.features(x)
    assert features.shape == (3, discriminator.feature_dim)
    torch.testing.assert_close(head.eval()(x), head.from_features(features))
    assert head(x).shape == (3,)


@pytest.mark.parametrize("hidden", [0, 64])
def test_a_head_finds_the_ratio_of_its_features_and_leaves_them_frozen(hidden):
    class Features(nn.Module):
        feature_dim = 2

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([3.0, 0.1]))

        def features(self, x):
            return self.scale * x + 5

    x = torch.randn(2, 6000, 2, generator=seeded())
    x[0, :, 0] += SHIFT  # p_d = N((SHIFT, 0), I), p_g = N(0, I)
    head = FeatureHead(Features(), hidden)
    parts = x[0, :4000], x[1]  # classes of unequal size
    real, fake = (head.body.features(part).detach() for part in parts)
    head.fit(real, fake, penalty=1e-3)
    error = head.from_features(fake).detach() - exact_ratio(x[1, :, 0])
    assert error.abs().mean() < 0.2  # of a ratio that spreads by 1.5
    assert head.body.scale.tolist() == pytest.approx([3.0, 0.1]) and not head.body.scale.requires_grad


# --- fitting


class Quadratic(nn.Module):
    """a + b x + c x^2, a family that holds the exact ratio."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.modes = []

    def forward(self, x):
        return self.linear(torch.cat([x, x**2], 1)).squeeze(1)  # (n, 1) -> (n,)


def fit(logit, held_out=None, **settings):
    real, fake = (x[:, None].float() for x in draw(20_000, 20_000, seed=1))

    def loss():
        logit.modes.append(logit.training)
        return logistic_loss(logits_of(logit, real), logits_of(logit, fake))

    return fit_logit(
        logit,
        lambda n, g: SHIFT + torch.randn(n, 1, generator=g),
        lambda n, g: torch.randn(n, 1, generator=g),
        held_out or loss,
        **({"n_steps": 400, "lr": 0.02, "batch_size": 256} | settings),
    )


def test_fit_reaches_the_loss_of_the_exact_ratio():
    torch.manual_seed(0)
    logit = Quadratic()
    history = fit(logit)
    assert [step for step, _ in history] == [0, 100, 200, 300, 400]
    assert history[0][1] == pytest.approx(math.log(2), abs=1e-6)
    assert min(loss for _, loss in history) == pytest.approx(best_loss(), abs=0.01)
    x = torch.linspace(-1, 2.5, 20)[:, None]
    assert (logit(x) - exact_ratio(x[:, 0])).abs().max() < 0.35
    assert not logit.training
    assert not any(logit.modes)  # each held-out loss is taken in evaluation mode, the first one too


def test_fit_is_reproducible():
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        logit = Quadratic()
        fit(logit, n_steps=20, check_every=10, seed=seed)
        weights.append(logit.linear.weight.clone())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_fit_stops_early_and_restores_the_best_weights():
    losses = iter([0.9, 0.5, 0.4, 0.6, 0.45, 0.41, 0.1])
    seen = []
    torch.manual_seed(0)
    logit = Quadratic()

    def held_out():
        seen.append(copy.deepcopy(logit.state_dict()))
        return next(losses)

    history = fit(logit, held_out, n_steps=60, check_every=10, patience=3)
    assert history == [(0, 0.9), (10, 0.5), (20, 0.4), (30, 0.6), (40, 0.45), (50, 0.41)]
    for key, value in logit.state_dict().items():
        assert torch.equal(value, seen[2][key])
    assert not torch.equal(seen[2]["linear.weight"], seen[5]["linear.weight"])


def test_fit_keeps_the_start_if_nothing_is_better():
    losses = iter([0.1, 0.2, 0.3])
    logit = Quadratic()
    before = copy.deepcopy(logit.state_dict())
    fit(logit, lambda: next(losses), n_steps=20, check_every=10)
    assert all(torch.equal(before[key], value) for key, value in logit.state_dict().items())


def test_r1_and_bfloat16_in_a_fit():
    slopes = {}
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        logit = Quadratic()
        fit(logit, n_steps=150, check_every=50, r1_weight=weight, precision="bfloat16")
        slopes[weight] = logit.linear.weight[0, 0].item()
        assert logit.linear.weight.dtype == torch.float32
    assert slopes[0.0] > 0.7 * SHIFT > 2 * slopes[2.0] > 0


@pytest.mark.parametrize(("n_real", "n_fake"), [(2, 4), (4, 3)])
def test_fit_splits_by_what_came(n_real, n_fake):
    """Real points at 1 and fakes at -1, in batches of different size: the slope's gradient is -1 at 0."""
    logit = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Flatten(0))
    nn.init.zeros_(logit[0].weight)
    gradients = []
    logit[0].weight.register_hook(lambda g: gradients.append(g.item()))
    fit_logit(
        logit, lambda n, g: torch.ones(n_real, 1), lambda n, g: -torch.ones(n_fake, 1), lambda: 0.0,
        n_steps=1, lr=1e-3,
    )  # fmt: skip
    assert gradients == [pytest.approx(-1)]


def test_what_cannot_be_fitted_is_named():
    frozen = Quadratic().requires_grad_(False)
    with pytest.raises(ValueError, match=r"nothing to train.*requires_grad_\(True\)"):
        fit(frozen)
    with pytest.raises(ValueError, match=r"body needs features"):
        FeatureHead(frozen)
    column = nn.Linear(1, 1)
    column.modes = []
    with pytest.raises(ValueError, match=r"logit.*\(20000,\)|logit.*one number a row"):
        fit(column)


# --- figures


@pytest.mark.parametrize("figure", [platt, logistic_loss, accuracy, calibration_error, describe])
def test_a_column_of_logits_is_refused(figure):
    real, fake = (x[:, None] for x in draw(50, 50))
    with pytest.raises(ValueError, match=r"_logits has shape \(50, 1\).*\(50,\)"):
        figure(real, fake)


def test_effective_sample_size_of_weights():
    assert weight_ess(torch.zeros(7)) == pytest.approx(7)
    assert weight_ess(torch.tensor([800.0, 0.0, 0.0])) == pytest.approx(1)
    assert weight_ess(torch.tensor([0.0, math.log(3)])) == pytest.approx(16 / 10)
    _, fake = draw(1, 400_000)  # E w = 1 and E w^2 = exp(SHIFT^2) for this ratio
    assert weight_ess(exact_ratio(fake)) / len(fake) == pytest.approx(math.exp(-(SHIFT**2)), rel=0.25)


def test_a_guide_that_does_nothing_or_separates_too_well_says_so(recwarn):
    real, fake = (exact_ratio(x) for x in draw(20_000, 20_000))
    figures = describe(real, fake)
    assert not recwarn.list and figures["loss"] == pytest.approx(best_loss(), abs=0.01)
    with pytest.warns(UserWarning, match="guides nowhere"):
        describe(real / 20, fake / 20)
    with pytest.warns(UserWarning, match="separates too well"):
        describe(30 + real, fake - 30)


def test_logits_in_batches():
    x = torch.randn(7, 3, generator=seeded())
    logits = logits_of(lambda part: part.sum(1).bfloat16(), x, batch_size=3)
    assert logits.dtype == torch.float32 and not logits.requires_grad
    torch.testing.assert_close(logits, x.sum(1), atol=0.05, rtol=0.01)


def test_loss_of_the_exact_ratio_is_quadrature():
    real, fake = draw(200_000, 200_000)
    assert logistic_loss(exact_ratio(real), exact_ratio(fake)) == pytest.approx(best_loss(), abs=0.003)
    assert logistic_loss(torch.zeros(5), torch.zeros(3)) == pytest.approx(math.log(2), abs=1e-12)
    few = exact_ratio(fake[:20_000])  # a mean for each class, whatever its count
    assert logistic_loss(exact_ratio(real), few) == pytest.approx(best_loss(), abs=0.008)


def test_accuracy_by_hand():
    assert accuracy(torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -2.0, 3.0, 4.0, -5.0])) == pytest.approx(
        0.55
    )
    real, fake = (exact_ratio(x) for x in draw(100_000, 100_000))
    assert accuracy(real, fake) == pytest.approx(stats.norm.cdf(SHIFT / 2), abs=0.004)


def test_reliability_curve():
    real, fake = (exact_ratio(x) for x in draw(60_000, 60_000))
    predicted, observed = reliability_curve(real, fake)
    assert predicted.shape == observed.shape == (12,)
    assert (predicted.diff() > 0).all()
    y, p = np.repeat([1, 0], 60_000), torch.sigmoid(torch.cat([real, fake])).numpy()
    reference = calibration_curve(y, p, n_bins=12, strategy="quantile")
    np.testing.assert_allclose(observed, reference[0], atol=2e-4)
    np.testing.assert_allclose(predicted, reference[1], atol=2e-4)
    assert calibration_error(real, fake) < 0.008
    assert calibration_error(3 * real, 3 * fake) > 0.05
    assert calibration_error(real + 1, fake + 1) > 0.05
    assert calibration_error(real, fake[:20_000]) < 0.015  # as many of each class


def test_calibration_error_by_hand():
    logit = math.log(0.8 / 0.2)
    real, fake = torch.tensor([logit, logit, -logit]), torch.tensor([-logit, -logit, logit])
    # low bin: predicted 0.2, observed 1/3; high bin: predicted 0.8, observed 2/3
    assert calibration_error(real, fake, n_bins=2) == pytest.approx(0.8 - 2 / 3)


def test_mean_of_the_exact_ratio_over_samples_is_one():
    _, fake = draw(1, 200_000)
    assert effective_ratio_check(exact_ratio(fake)) == pytest.approx(0, abs=0.03)
    assert effective_ratio_check(exact_ratio(fake) + 1) == pytest.approx(1, abs=0.03)
    assert effective_ratio_check(torch.tensor([0.0, math.log(3)])) == pytest.approx(math.log(2), abs=1e-6)
    assert effective_ratio_check(torch.full((4,), 2000.0)) == pytest.approx(2000)  # does not overflow
