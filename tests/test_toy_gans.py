"""The 2-D GANs: stored ones are as good as they claim, refits improve d, the ratio on a grid is right."""

import pytest
import torch
from torch import nn

from data.recipes import toy_gans
from gifs import common, gaussians
from utils import zoo
from utils.density_ratio import logistic_loss, logits_of
from utils.metrics.toy import high_quality_share
from utils.plotting import grid_points
from utils.samplers import energy_and_gradient
from utils.toy import TARGETS, GaussianMixture, GridLogit


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("target", TARGETS)
def test_stored_gans_are_of_the_quality_they_claim(target):
    for quality, low, high in (("imperfect", 0.2, 0.9), ("good", 0.6, 1.0)):
        for seed in zoo.SEEDS:
            G, D = zoo.load_toy_gan(target, quality, seed)
            assert not G.training and not any(p.requires_grad for p in [*G.parameters(), *D.parameters()])
            x = zoo.samples_of(G)(2000, seeded(0))
            assert low < high_quality_share(x, TARGETS[target]) <= high
            assert D(x).shape == (2000,)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"target='x'.*25-gaussians"):
        zoo.load_toy_gan("x")
    with pytest.raises(ValueError, match="quality='x'"):
        zoo.load_toy_gan("25-gaussians", "x")
    with pytest.raises(ValueError, match="seed=9"):
        zoo.load_toy_gan("25-gaussians", "good", 9)


def test_training_is_repeatable(monkeypatch):
    monkeypatch.setitem(toy_gans.STEPS, "imperfect", 4)
    one, two = (toy_gans.train("25-gaussians", "imperfect", seed=3) for _ in range(2))
    assert one.history[-1]["step"] == 4
    for a, b in zip(one.G_ema.parameters(), two.G_ema.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_refit_and_calibration_lower_the_held_out_loss():
    target = TARGETS["25-gaussians"]
    G, D = zoo.load_toy_gan("25-gaussians", "imperfect", 0)
    draw = zoo.samples_of(G)
    real, fake = target.sample(5000, seeded(1)), draw(5000, seeded(2))
    calibrated = zoo.calibrate(D, target.sample, draw)
    refitted, history = zoo.refit(G, target.sample, n_steps=300)
    losses = [logistic_loss(logits_of(d, real), logits_of(d, fake)) for d in (D, calibrated, refitted)]
    assert losses[1] < losses[0] and losses[2] < losses[0]
    assert [step for step, _ in history] == [0, 250, 300]
    assert not refitted.training


class Shift(nn.Module):
    """p_g = N((1, 0), 0.5^2 I) exactly."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.register_parameter("unused", nn.Parameter(torch.zeros(1)))

    def forward(self, z):
        return 0.5 * z + torch.tensor([1.0, 0.0])


def test_grid_logit_is_the_log_ratio_of_known_densities():
    data = GaussianMixture("data", torch.tensor([[1.3, 0.2]]), 0.4)
    p_g = GaussianMixture("generator", torch.tensor([[1.0, 0.0]]), 0.5)
    G = Shift()
    logit = GridLogit(data.log_prob, zoo.samples_of(G), seeded(0), n_samples=2_000_000, bandwidth=0.03)
    x = p_g.sample(2000, seeded(1))
    right = data.log_prob(x) - p_g.log_prob(x)
    weight = p_g.log_prob(x).exp() > 0.05  # beyond, the counts are few
    assert (logit(x) - right)[weight].abs().mean() < 0.06
    assert (logit(x) - right)[weight].mean().abs() < 0.02
    # the density it implies has mass 1, and a gradient that points the right way
    cell = (2 * 3.9 / 300) ** 2
    assert (logit.log_p_g(grid_points(3.9, 300)).exp().sum() * cell).item() == pytest.approx(1, abs=0.01)
    _, gradient = energy_and_gradient(lambda x: -logit(x), x[weight])
    _, exact = energy_and_gradient(lambda x: p_g.log_prob(x) - data.log_prob(x), x[weight])
    assert torch.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0) > 0.8


def test_grid_logit_is_floored_where_there_are_no_samples():
    logit = GridLogit(lambda x: torch.zeros(len(x)), zoo.samples_of(Shift()), seeded(0), n_samples=1000)
    far = logit.log_p_g(torch.tensor([[-3.9, 3.9], [-30.0, 3.9]]))
    assert (
        far.isfinite().all()
        and far[0] < logit.log_p_g(torch.tensor([[1.0, 0.0]]))
        and far[0] == pytest.approx(far[1].item())
    )


def test_scene_draws_frames_and_writes_a_small_gif(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "refit", lambda G, draw, n_steps: (lambda x: -x.square().sum(1), []))
    path = gaussians.gaussians(tmp_path, n_steps=4, n_frames=3)
    assert path.name == "gaussians_chains.gif" and path.stat().st_size < 3_000_000
