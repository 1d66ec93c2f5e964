"""The explorer of one chain of images: what it draws is the chain, and it costs no more than that."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from utils.energy import Prior, latent_energy
from utils.plotting import image_grid
from utils.samplers import sample, ula
from utils.widgets import explore_chain, show_chain


@pytest.fixture(autouse=True)
def no_windows():
    matplotlib.use("agg")
    yield
    plt.close("all")


class Picture(nn.Module):
    """z (n, 3) -> flat images (n, 3, 2, 2) of brightness tanh z_1."""

    latent_dim = 3

    def forward(self, z):
        return torch.tanh(z[:, 0])[:, None, None, None].expand(-1, 3, 2, 2)


G = Picture().eval()


def logit(x):
    return x.flatten(1).sum(1)


def picture(G=G, logit=logit, **settings):
    figure, axes = plt.subplots(2, 1)
    chain = show_chain(axes, G, logit, **{"step_size": 0.2, "n_steps": 10} | settings)
    return figure, axes, chain


def test_the_picture_is_the_chain():
    _, (strip_axes, trace_axes), chain = picture(start=4, seed=7)
    z0 = torch.randn(1, 3, generator=torch.Generator().manual_seed(4))
    noise = torch.Generator().manual_seed(1007)
    expected = sample(latent_energy(G, logit), z0, ula(0.2), 10, noise, thin=1)
    torch.testing.assert_close(chain.z, expected.z)
    shown = strip_axes.images[0].get_array()
    np.testing.assert_array_equal(shown, image_grid(G(expected.path[[0, 2, 4, 6, 8, 10], 0]), columns=6))
    x, y = trace_axes.lines[0].get_data()
    np.testing.assert_array_equal(x, range(11))
    energies = latent_energy(G, logit)(expected.path[:, 0])
    np.testing.assert_allclose(y, energies, rtol=1e-5)


def test_same_settings_same_picture_and_each_setting_counts():
    base = picture()[2].z
    assert torch.equal(base, picture()[2].z)
    for change in ({"start": 1}, {"step_size": 0.3}, {"temperature": 0.5}, {"n_steps": 9}, {"seed": 1}):
        assert not torch.equal(base, picture(**change)[2].z), change


def test_start_and_noise_of_one_seed_are_different_draws():
    flat = {"logit": lambda x: 0 * x.flatten(1).sum(1), "step_size": 1.0, "n_steps": 1}
    z0 = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    noise = picture(start=0, seed=0, **flat)[2].z - z0 / 2  # z_1 = z_0 - z_0 / 2 + noise
    assert not torch.allclose(noise, z0, atol=0.1)


def test_the_prior_that_a_generator_brings_is_used():
    flat = Picture().eval()
    flat.prior = Prior(lambda n, g: torch.tensor([[1.0, 2, 3]]), lambda z: 0 * z.sum(1))
    chain = picture(flat, temperature=0.0, step_size=0.2, n_steps=1)[2]
    slope = 12 * (1 - torch.tensor(1.0).tanh() ** 2)  # of d(G(z)): 12 pixel values of tanh z_1
    torch.testing.assert_close(chain.z, torch.tensor([[1.0, 2, 3]]) + torch.tensor([[0.1, 0, 0]]) * slope)


def test_divergence_is_said_in_the_picture():
    _, (strip_axes, _), chain = picture(logit=lambda x: x.flatten(1).sum(1) * float("inf"))
    assert chain is None and "lower the step size" in strip_axes.get_title()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="G has no latent_dim"):
        picture(G=lambda z: G(z))
    with pytest.raises(ValueError, match="n_steps=0"):
        picture(n_steps=0)
    with pytest.raises(ValueError, match="G is in training mode"):
        picture(G=Picture())


def test_sliders_redraw_with_the_chosen_settings(monkeypatch):
    seen, panels = [], []
    monkeypatch.setattr("utils.widgets.explore", lambda draw, **controls: panels.append((draw, controls)))
    monkeypatch.setattr("utils.widgets.show_chain", lambda axes, G, logit, **settings: seen.append(settings))
    explore_chain(G, logit)
    ((draw, controls),) = panels
    draw(**{name: control.value for name, control in controls.items()})
    assert seen == [{"start": 0, "step_size": 0.1, "temperature": 1.0, "n_steps": 10}]


def test_a_picture_costs_what_the_chain_costs_and_one_evaluation_for_the_strip():
    calls = []

    def counted(x):
        calls.append(len(x))
        return logit(x)

    sample(latent_energy(G, counted), torch.zeros(1, 3), ula(0.2), 10, torch.Generator())
    alone = len(calls)
    picture(logit=counted, n_steps=10)
    assert calls[alone:] == [*calls[:alone], 6]
