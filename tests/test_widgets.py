"""The drawing functions need no front end: they run, repeat themselves, and evaluate no more than needed."""

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from utils.energy import standard_normal
from utils.widgets import explore_langevin, show_langevin

SETTINGS = {"step_size": 0.05, "n_steps": 7, "n_chains": 30}


@pytest.fixture(autouse=True)
def no_windows():
    matplotlib.use("agg")
    yield
    plt.close("all")


def energy(z):
    return -standard_normal(z)


def double(z):
    return 2 * z


def picture(energy=energy, **settings):
    figure, axes = plt.subplots(1, 2)
    chain = show_langevin(axes, energy, double, **SETTINGS | settings)
    figure.canvas.draw()
    return figure, axes, chain


def test_same_seed_same_picture():
    (first, _, chain), (second, _, again), (_, _, other) = picture(), picture(), picture(seed=1)
    assert bytes(first.canvas.buffer_rgba()) == bytes(second.canvas.buffer_rgba())
    assert torch.equal(chain.z, again.z)
    assert not torch.equal(chain.z, other.z)


def test_energy_is_evaluated_once_a_step_and_once_for_the_map():
    calls = []
    picture(lambda z: calls.append(len(z)) or energy(z))
    assert calls.count(30) == 1 + SETTINGS["n_steps"]
    assert len(calls) == 2 + SETTINGS["n_steps"]


def test_ends_are_pushed_and_drawn_beside_the_ways_of_some_chains():
    _, (latent_axes, data_axes), chain = picture(n_traced=2)
    dots, *ways = latent_axes.lines
    torch.testing.assert_close(torch.tensor(dots.get_xydata()).float(), chain.z)
    assert len(ways) == 2
    torch.testing.assert_close(torch.tensor(ways[1].get_xydata()).float(), chain.path[:, 1])
    torch.testing.assert_close(torch.tensor(data_axes.lines[0].get_xydata()).float(), 2 * chain.z)


def test_chains_outside_the_picture_are_counted():
    _, (_, data_axes), chain = picture(extent=1.0)
    outside = int(((2 * chain.z).abs() > 1).any(1).sum())
    assert 0 < outside < 30
    assert f"{outside} outside" in data_axes.get_title()


def test_acceptance_is_told_only_with_the_correction():
    assert "acceptance" in picture(corrected=True)[1][1].get_title()
    assert "acceptance" not in picture()[1][1].get_title()


def test_a_density_is_drawn_when_given():
    assert len(picture()[1][1].images) == 0
    assert len(picture(log_prob=standard_normal)[1][1].images) == 1


def test_divergence_is_said_in_the_picture():
    _, (_, data_axes), chain = picture(lambda z: z.square().sum(1) ** 3, step_size=1.0, n_steps=30)
    assert chain is None
    assert "lower the step size" in data_axes.get_title()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="step_size"):
        picture(step_size=-1.0)
    with pytest.raises(ValueError, match="give two"):
        show_langevin([plt.gca()], energy, double, **SETTINGS)


def test_sliders_redraw_with_the_chosen_quality(monkeypatch):
    seen, made = [], []
    plain = ipywidgets.interact

    def recording(*arguments, **sliders):
        made.append(sliders)
        return plain(*arguments, **sliders)

    monkeypatch.setattr(ipywidgets, "interact", recording)
    explore_langevin(lambda quality: seen.append(quality) or energy, double, [0.0, 0.5, 1.0], n_chains=10)
    sliders = made[0]
    assert seen == [1.0]  # drawn once, with the best
    sliders["quality"].value = 0.5
    sliders["n_steps"].value = 20
    assert seen == [1.0, 0.5, 0.5]
    continuous = [s.continuous_update for s in sliders.values() if hasattr(s, "continuous_update")]
    assert continuous == [False] * 4


def test_qualities_may_have_labels():
    seen = []
    explore_langevin(lambda quality: seen.append(quality) or energy, double, [("bad", 1), ("good", 7)])
    assert seen == [7]
