"""Projected GAN: what is frozen stays frozen, fakes serve both players, augmentation by its laws."""

import copy
import functools

import pytest
import torch
from torch import nn

from utils.augmentation import augment, colour, translation
from utils.losses import LOSSES
from utils.models import build_gan
from utils.models.projected import FrozenPyramid, ProjectedGenerator
from utils.training import TrainConfig, draw_from, train_gan

pytest.importorskip("efficientnet_lite_pytorch")
IMAGES = torch.randint(256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settings(**changes) -> TrainConfig:
    small = {"loss": "hinge", "n_steps": 2, "batch_size": 4, "share_fakes": True, "norm_batches": 1}
    return TrainConfig(**(small | {"augment": ("colour", "translation"), "log_every": 1} | changes))


@functools.cache
def new(seed: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    return build_gan("projected", latent_dim=5, g_width=2, d_width=4)


def pair(seed: int = 0) -> tuple[nn.Module, nn.Module]:
    return copy.deepcopy(new(seed))


def train(modules, config, folder=None):
    return train_gan(*modules, draw_from(IMAGES), config, folder, progress=False)


# --- networks


@pytest.mark.parametrize("size", [32, 64])
def test_the_generator_is_a_function_of_each_latent_alone(size):
    G, z = ProjectedGenerator(5, 2, size).eval(), torch.randn(6, 5, generator=seeded())
    x = G(z)
    assert x.shape == (6, 3, size, size) and x.abs().max() <= 1 and x.std() > 0
    assert torch.equal(x, G(z))
    torch.testing.assert_close(x[2:3], G(z[2:3]), rtol=1e-4, atol=1e-5)


def test_maps_and_outputs_have_their_shapes():
    _, D = pair()
    x = torch.rand(2, 3, 32, 32, generator=seeded()) * 2 - 1
    maps = D.project(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 24, 24), (64, 12, 12), (128, 6, 6), (128, 3, 3)]
    outputs = D.eval()(x)
    assert outputs.shape == (2, 4, 36)
    coarse = outputs[:, 3].view(2, 3, 2, 3, 2)  # 3 x 3 patches, each repeated 2 x 2
    assert torch.equal(coarse, coarse[:, :, :1, :, :1].expand_as(coarse))
    torch.testing.assert_close(outputs[1:], D(x[1:]), rtol=1e-3, atol=1e-4)


def test_the_pyramid_is_frozen_and_the_same_in_every_run():
    torch.manual_seed(1)
    first = FrozenPyramid()
    torch.manual_seed(2)
    same = FrozenPyramid()
    assert not any(p.requires_grad for p in first.parameters())
    assert not first.train().body.training
    again = same.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.state_dict().items())


def test_training_moves_the_heads_and_the_generator_alone():
    G, D = modules = pair()
    before = copy.deepcopy({"G": G.state_dict(), "D": D.state_dict()})
    train(modules, settings())
    changed = [key for key, value in D.state_dict().items() if not torch.equal(value, before["D"][key])]
    assert changed and all(key.startswith("heads.") for key in changed)
    assert any(not torch.equal(value, before["G"][key]) for key, value in G.state_dict().items())
    assert all(p.requires_grad for p in D.heads.parameters())


# --- one batch of fakes for both


def test_shared_fakes_give_the_gradient_of_two_passes():
    """D's gradient of a shared step is that of whole passes over the same reals and fakes."""
    G, D = pair()
    reference = copy.deepcopy((G, D))
    gradients = []

    class Recording(torch.optim.Adam):
        def step(self, closure=None):
            gradients.append([p.grad.clone() for p in self.param_groups[0]["params"]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Recording)
        train((G, D), settings(n_steps=1, augment=()))
    G, D = (module.train() for module in reference)
    generator = seeded()
    real = draw_from(IMAGES)(4, generator)
    fake = G(torch.randn(4, 5, generator=generator))
    outputs = D(torch.cat([real, fake.detach()]))  # one pass: one power iteration of spectral norm
    LOSSES["hinge"].discriminator(outputs[:4], outputs[4:]).backward()
    for ours, weight in zip(gradients[0], D.heads.parameters(), strict=True):
        torch.testing.assert_close(ours, weight.grad, rtol=1e-3, atol=1e-5)
    LOSSES["hinge"].generator(D(fake)).backward()  # D stood still: the recording optimiser makes no step
    for ours, weight in zip(gradients[1], G.parameters(), strict=True):
        torch.testing.assert_close(ours, weight.grad, rtol=1e-3, atol=1e-5)


def test_a_resumed_projected_run_is_an_unbroken_one(tmp_path):
    unbroken = train(pair(), settings(n_steps=4))

    def interrupted(n, generator, calls=[]):  # noqa: B006
        calls.append(n)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw_from(IMAGES)(n, generator)

    config = settings(n_steps=4, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        train_gan(*pair(), interrupted, config, tmp_path, progress=False)
    resumed = train(pair(7), config, tmp_path)
    for name in ("G", "D", "G_ema"):
        expected = getattr(unbroken, name).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in getattr(resumed, name).state_dict().items())


# --- augmentation


def test_translation_is_a_shift_with_zeros():
    x = torch.rand(6, 3, 16, 16, generator=seeded()) + 1  # no zero in it
    shifted = translation(x, seeded(3))
    shifts = torch.randint(0, 5, (6, 2), generator=seeded(3)) - 2  # an eighth of 16 in both directions
    assert len(shifts.unique()) > 2
    for image, result, (down, right) in zip(x, shifted, shifts.tolist(), strict=True):
        for i in range(16):
            for j in range(16):
                inside = 0 <= i + down < 16 and 0 <= j + right < 16
                expected = image[:, i + down, j + right] if inside else torch.zeros(3)
                assert torch.equal(result[:, i, j], expected)


def test_colour_changes_each_image_by_an_affine_law():
    x = torch.rand(200, 3, 8, 8, generator=seeded(), dtype=torch.float64)
    y = colour(x, seeded(1))
    brightness = y.mean((1, 2, 3)) - x.mean((1, 2, 3))  # the other two keep the mean
    assert -0.5 <= brightness.min() < -0.4 and 0.4 < brightness.max() <= 0.5
    grey_x, grey_y = x.mean(1), y.mean(1)  # saturation keeps grey: contrast is the ratio of spreads
    contrast = grey_y.std((1, 2)) / grey_x.std((1, 2))
    assert 0.5 <= contrast.min() < 0.6 and 1.4 < contrast.max() <= 1.5
    saturation = (y - grey_y[:, None]).std((1, 2, 3)) / (x - grey_x[:, None]).std((1, 2, 3)) / contrast
    assert 0 <= saturation.min() < 0.2 and 1.8 < saturation.max() <= 2


def test_augmentation_repeats_and_lets_gradients_through():
    x = torch.rand(3, 3, 16, 16, generator=seeded(), requires_grad=True)
    policy = ("colour", "translation")
    y = augment(x, policy, seeded(1))
    assert torch.equal(y, augment(x, policy, seeded(1))) and not torch.equal(y, augment(x, policy, seeded(2)))
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient.isfinite().all() and (gradient.flatten(1).abs().sum(1) > 0).all()
    assert augment(x, (), seeded()) is x
