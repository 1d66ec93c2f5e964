"""The spine, end to end: committed generators, their log ratios and energy, chains on it, the GIF."""

import math

import pytest
import torch

from data.recipes import image_study
from gifs import __main__ as gifs
from utils.checkpoints import read_card
from utils.config import CHECKPOINTS
from utils.density_ratio import FeatureHead, accuracy, logits_of
from utils.energy import latent_energy
from utils.images import load_cifar10, to_unit
from utils.samplers import sample, ula
from utils.zoo import draw_samples, load_discriminator, load_gan, load_logit

GANS = ["cifar10-gan", "cifar10-gan-1", "cifar10-gan-2"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", GANS)
def test_checkpoints_are_small_and_their_cards_complete(name):
    card = read_card(name)
    assert (CHECKPOINTS / f"{name}.safetensors").stat().st_size < 10e6
    assert {"architecture", "data", "config", "command", "hardware", "seconds", "sha256"} <= set(card)
    assert card["history"][-1]["step"] <= card["config"]["n_steps"]
    x = draw_samples(load_gan(name), 4, seeded())
    assert x.shape == (4, 3, 32, 32) and x.abs().max() <= 1 and x.std() > 0.2


@pytest.mark.parametrize("name", GANS)
def test_the_chosen_logit_is_the_best_smooth_one(name):
    card = read_card(f"{name}-logits")
    smooth = {k: e["validation"] for k, e in card["logits"].items() if e["validation"]["ess_share"] >= 0.1}
    assert card["chosen"] == min(smooth, key=lambda kind: smooth[kind]["loss"])
    assert card["logits"][card["chosen"]]["calibration_error"] < 0.03


def test_every_logit_loads_with_its_line():
    x = draw_samples(load_gan(), 6, seeded())
    values = {}
    for kind, entry in read_card("cifar10-gan-logits")["logits"].items():
        logit = load_logit(kind)
        values[kind] = logit(x)
        assert values[kind].shape == (6,)
        torch.testing.assert_close(values[kind], entry["slope"] * logit.logit(x) + entry["intercept"])
        assert isinstance(logit.logit, FeatureHead) == bool(entry["architecture"].get("features"))
    assert len({tuple(v.tolist()) for v in values.values()}) == len(values)
    with pytest.raises(ValueError, match="kind"):
        load_logit("sigmoid")


def test_the_discriminator_that_trained_g_separates_little():
    G, D = load_gan(), load_discriminator()
    outputs = D(draw_samples(G, 8, seeded()))
    assert outputs.shape == (8, 4, 36) and outputs.abs().mean() < 3


def test_chains_climb_the_logit_and_keep_the_prior():
    G, logit = load_gan(), load_logit()
    z0 = torch.randn(160, G.latent_dim, generator=seeded())
    chain = sample(latent_energy(G, logit), z0, ula(0.1), 6, seeded(1), chunk_size=64)
    with torch.no_grad():
        gain = logit(G(chain.z)) - logit(G(z0))
    assert gain.mean() > 2 * gain.std() / math.sqrt(len(gain))
    assert 110 < chain.z.square().sum(1).mean() < 150  # chi-square of 128 degrees: 128 +- 16 a chain


def test_methods_of_one_seed_share_their_start(monkeypatch):
    gan = image_study.networks("cifar10-gan", "line")
    alone = image_study.generator_only(gan, 3, seeded(5))
    scaled = image_study.scaled(gan, 3, seeded(5), scale=1.5)
    torch.testing.assert_close(scaled.z, 1.5 * alone.z)
    still = image_study.ula_chains(gan, 3, seeded(5), step_size=1e-12, n_steps=1)
    torch.testing.assert_close(still.z, alone.z, atol=1e-4, rtol=0)
    assert still.gradients == 3


def test_contrast_is_matched():
    real = (torch.rand(20, 3, 8, 8, generator=seeded()) * 255).to(torch.uint8)
    grey = real.float().mean((1, 2, 3), keepdim=True)
    flat = (grey + 0.3 * (real.float() - grey)).to(torch.uint8)
    matched = image_study.contrast_matched(flat, real)
    assert matched.float().std().item() == pytest.approx(real.float().std().item(), rel=0.05)
    assert flat.float().std() < 0.5 * real.float().std()


def test_divergence_sees_a_difference_and_no_more():
    x, y = (torch.randn(400, 4, generator=seeded(s)) for s in (0, 1))
    assert abs(image_study.divergence(x, y)) < 0.02
    assert image_study.divergence(x, y + 4) > 0.4  # at most log 2 = 0.693


def test_gif_scene_renders_and_the_list_names_it(tmp_path, capsys):
    path = gifs.cifar10(tmp_path, n_steps=4, n_frames=3)
    assert path.name == "cifar10_chains.gif" and 0 < path.stat().st_size < 3e6
    gifs.main(["--list"])
    assert "cifar10" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gifs.main(["nonsense"])


@pytest.mark.images
def test_held_out_figures_of_the_card(image_source, monkeypatch):
    if image_source is None:
        pytest.skip("needs CIFAR-10")
    monkeypatch.setenv("COURSE_IMAGES", str(image_source))
    real = to_unit(load_cifar10("test").images[:400])
    logit = load_logit("classifier 3")
    found = accuracy(logits_of(logit, real), logits_of(logit, draw_samples(load_gan(), 400, seeded(3))))
    stored = read_card("cifar10-gan-logits")["logits"]["classifier 3"]["accuracy"]
    assert found == pytest.approx(stored, abs=0.08)  # 800 draws: 5 errors of 0.016
