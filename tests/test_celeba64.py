"""The faces' checkpoints and study: what is stored, and the code that made it at a tiny size."""

import pytest
import torch
from data.recipes.celeba64_study import CHOSEN_LOGIT, small_batch_distances

from data.recipes.image_logits import NAMES
from utils import images as image_room
from utils.checkpoints import read_card
from utils.images import ImageSet
from utils.metrics.images import Moments, frechet_distance
from utils.zoo import load_gan, load_logit, new_coarse_logit


def test_checkpoint_is_small_and_its_logits_are_log_ratios():
    G, D = load_gan("celeba64-gan")
    x = G(torch.randn(4, G.latent_dim, generator=torch.Generator().manual_seed(0)))
    assert x.shape == (4, 3, 64, 64) and x.abs().max() <= 1
    assert read_card("celeba64-gan")["bytes"] < 10e6
    entries = read_card("celeba64-logits")["logits"]
    assert CHOSEN_LOGIT in entries and set(entries) <= {*NAMES, "coarse"}
    for kind in entries:
        scaled, plain = entries[kind]["calibrated"], entries[kind]["uncalibrated"]
        assert scaled["loss"] < plain["loss"] + 0.01 and scaled["calibration_error"] < 0.03
        d = load_logit(kind, D, name="celeba64-logits")(x)
        raw = load_logit(kind, D, calibrated=False, name="celeba64-logits")(x)
        assert torch.allclose(d, entries[kind]["slope"] * raw + entries[kind]["intercept"], atol=1e-4)


def test_coarse_logit_sees_block_means_only():
    coarse = new_coarse_logit().eval()
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    blocks = x.unflatten(3, (16, 4)).unflatten(2, (16, 4)).mean((3, 5))  # (3, 3, 16, 16)
    flat = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.allclose(coarse(x), coarse(flat), atol=1e-5) and coarse(x).shape == (3,)
    assert torch.allclose(coarse(x), coarse.body(blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)))
    assert not torch.allclose(coarse(x), coarse(x.flip(2)), atol=1e-5)


def test_split_holds_the_last_images_out(monkeypatch):
    images = torch.arange(10_004, dtype=torch.int32).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    monkeypatch.setattr(image_room, "load_celeba64", lambda **_: ImageSet(images, None, "numbers"))
    train, test = (image_room.load_faces(split).images[:, 0, 0, 0] for split in ("train", "test"))
    assert train.tolist() == [0, 1, 2, 3] and len(test) == 10_000 and test[0] == 4
    with pytest.raises(ValueError, match="split='valid'"):
        image_room.load_faces("valid")
    monkeypatch.setattr(image_room, "load_celeba64", lambda **_: ImageSet(images[:9], None, "few"))
    with pytest.raises(ValueError, match="found 9 faces"):
        image_room.load_faces("train")


def test_small_batches_agree_with_the_general_distance():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(400, 20, generator=generator) @ torch.randn(20, 20, generator=generator)
    fake = 1 + 2 * torch.randn(64, 20, generator=generator)
    reference = Moments.from_features(real)
    values = small_batch_distances(fake, reference, size=8, repeats=3, seed=1)
    draw = torch.Generator().manual_seed(1)
    for value in values:
        batch = fake[torch.randperm(64, generator=draw)[:8]]
        expected = frechet_distance(reference, Moments.from_features(batch))
        assert value.item() == pytest.approx(expected, rel=1e-6)
