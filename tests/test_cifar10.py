"""The spine, end to end: committed checkpoints, their energy, chains on it, the stored study, the GIF."""

import math

import pytest
import torch

from data.recipes.cifar10_study import job, run_chains
from data.recipes.image_logits import NAMES, describe, held_out_halves
from gifs import __main__ as gifs
from utils.checkpoints import read_card
from utils.config import CHECKPOINTS
from utils.energy import latent_energy
from utils.images import load_cifar10
from utils.models.layers import bake
from utils.samplers import sample, ula
from utils.zoo import load_gan, load_logit


@pytest.fixture(scope="module")
def gan():
    G, D = load_gan()
    return bake(G), D


def test_checkpoint_is_small_and_its_card_is_complete():
    card = read_card("cifar10-gan")
    assert (CHECKPOINTS / "cifar10-gan.safetensors").stat().st_size < 10e6
    assert {"architecture", "data", "config", "command", "hardware", "seconds", "sha256"} <= set(card)
    assert card["history"][-1]["step"] == card["config"]["n_steps"]


def test_every_logit_loads_and_calibration_is_its_line(gan):
    G, D = gan
    with torch.no_grad():
        x = G(torch.randn(6, G.latent_dim, generator=torch.Generator().manual_seed(0)))
        for kind in NAMES:
            entry = read_card("cifar10-logits")["logits"][kind]
            plain, scaled = load_logit(kind, D, calibrated=False)(x), load_logit(kind, D)(x)
            torch.testing.assert_close(scaled, entry["slope"] * plain + entry["intercept"])
            assert entry["calibrated"]["loss"] <= entry["uncalibrated"]["loss"] + 0.01
    with pytest.raises(ValueError, match="kind"):
        load_logit("sigmoid", D)


def test_loading_a_logit_leaves_the_discriminator_as_it_was(gan):
    _, D = gan
    before = {k: v.clone() for k, v in D.state_dict().items()}
    load_logit("raw", D)
    after = D.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_chains_climb_the_logit_and_keep_the_prior(gan):
    G, D = gan
    logit = load_logit("continued-r1", D)
    z0 = torch.randn(32, G.latent_dim, generator=torch.Generator().manual_seed(0))
    chain = sample(latent_energy(G, logit), z0, ula(0.1), 20, torch.Generator().manual_seed(1))
    with torch.no_grad():
        gain = logit(G(chain.z)) - logit(G(z0))
    assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain))
    assert 100 < chain.z.square().sum(1).mean() < 170  # chi-square of 128 degrees: 128 +- 16 a chain


def test_chains_of_a_seed_share_their_start(gan):
    G, D = gan
    logit = load_logit("raw", D)
    images, trace = run_chains(G, logit, job("test", "raw", 0.1, (0, 2), n=12), chunk_size=5)
    again, _ = run_chains(G, logit, job("test", "raw", 0.5, (0, 1), n=12), chunk_size=12)
    assert torch.equal(images[0], again[0]) and not torch.equal(images[2], again[1])
    assert images[2].shape == (12, 3, 32, 32) and images[2].dtype == torch.uint8
    with torch.no_grad():
        z0 = torch.randn(12, 128, generator=torch.Generator().manual_seed(1000))
        assert trace[0]["logit_mean"] == pytest.approx(logit(G(z0)).mean().item(), abs=0.1)  # bfloat16


def test_gif_scene_renders_and_the_list_names_it(tmp_path, capsys):
    path = gifs.cifar10(tmp_path, n_steps=4, n_frames=3)
    assert path.name == "cifar10_chains.gif" and 0 < path.stat().st_size < 3e6
    gifs.main(["--list"])
    assert "cifar10" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gifs.main(["nonsense"])


@pytest.mark.images
def test_held_out_figures_of_the_card(gan, image_source, monkeypatch):
    if image_source is None:
        pytest.skip("needs CIFAR-10")
    monkeypatch.setenv("COURSE_IMAGES", str(image_source))
    G, D = gan
    _, evaluation = held_out_halves(G, 400, torch.device("cpu"), load_cifar10)
    figures = describe(load_logit("raw", D), evaluation)
    stored = read_card("cifar10-logits")["logits"]["raw"]["calibrated"]
    assert figures["accuracy"] == pytest.approx(stored["accuracy"], abs=0.06)  # 800 draws: 5 errors of 0.012
