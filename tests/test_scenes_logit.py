"""The animation of notebook 02: what it shows is true, and the file is a small endless GIF."""

import math

import pytest
import torch
from PIL import Image
from scipy import integrate

from gifs.logit import logit_approaches
from utils.density_ratio import logit_snapshots
from utils.metrics.toy import value_on_grid
from utils.models.mlp import MLPDiscriminator
from utils.toy import mixture_1d

P_D, P_G = mixture_1d((1.0,), std=1.0), mixture_1d((0.0,), std=1.5)


def test_value_on_grid_agrees_with_adaptive_quadrature():
    x = torch.linspace(-12, 12, 2001, dtype=torch.float64)[:, None]
    d = 0.3 * x[:, 0] - 0.2

    def integrand(point: float) -> float:
        at = torch.tensor([[point]], dtype=torch.float64)
        p_d, p_g = P_D.log_prob(at).exp().item(), P_G.log_prob(at).exp().item()
        D = 1 / (1 + math.exp(0.2 - 0.3 * point))
        return p_d * math.log(D) + p_g * math.log(1 - D)

    expected = integrate.quad(integrand, -12, 12)[0]
    assert value_on_grid(d, P_D.log_prob(x), P_G.log_prob(x), 24 / 2000) == pytest.approx(expected, abs=1e-8)


def test_snapshots_approach_the_exact_ratio():
    x = torch.linspace(-2, 3, 51)[:, None]
    torch.manual_seed(0)
    logit = MLPDiscriminator(width=32, depth=2, data_shape=(1,))
    snapshots = logit_snapshots(logit, P_D, P_G, x, n_steps=300, every=50)
    errors = [(d - P_D.log_prob(x) + P_G.log_prob(x)).square().mean().sqrt().item() for _, d in snapshots]
    assert [step for step, _ in snapshots] == list(range(0, 301, 50))
    assert errors[-1] < 0.4 * errors[0]
    assert not any(d.requires_grad for _, d in snapshots)


def test_too_few_frames_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="n_frames"):
        logit_approaches(tmp_path, n_frames=1)


def test_animation_is_small_and_loops(tmp_path):
    path = logit_approaches(tmp_path, n_frames=3)
    assert path.stat().st_size < 1_000_000
    with Image.open(path) as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0
