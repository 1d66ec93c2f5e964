"""The GANs at tiny width: shapes, one step of each, spectral norm, baking, round trip."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from utils.checkpoints import freeze, load_checkpoint, save_checkpoint
from utils.losses import LOSSES
from utils.models import GANS, build_gan
from utils.models.dcgan import DCGANDiscriminator, DCGANGenerator
from utils.models.layers import CONVOLUTIONS, bake, initialise
from utils.models.mlp import MLPDiscriminator, MLPGenerator, mlp

FAMILIES = ("dcgan",)


def tiny(family: str, image_size: int = 32, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    return build_gan(family, latent_dim=5, g_width=4, d_width=6, image_size=image_size)


def normalised(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if parametrize.is_parametrized(m)]


@pytest.mark.parametrize("image_size", [8, 32, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_shapes(family, image_size):
    G, D = tiny(family, image_size)
    x = G(torch.randn(3, G.latent_dim))
    assert G.latent_dim == 5
    assert x.shape == (3, 3, image_size, image_size)
    assert x.abs().max() <= 1
    assert D(x).shape == (3,)
    assert D.features(x).shape == (3, D.feature_dim)
    torch.testing.assert_close(D.eval()(x), D.head(D.features(x)).squeeze(1))
    assert D(x[:1]).shape == (1,)  # one image keeps its axis


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_no_probabilities(family):
    _, D = tiny(family)
    with torch.no_grad():
        next(iter(D.head.parameters())).fill_(-7)  # the bias
    assert (D.eval()(torch.zeros(2, 3, 32, 32)) < -1).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("image_size", [4, 0, -8, 33, 48])
def test_bad_image_size(family, image_size):
    for make in GANS[family]:
        with pytest.raises(ValueError, match=f"image_size={image_size}"):
            make(image_size=image_size)


def test_bad_family():
    with pytest.raises(ValueError, match=r"family='biggan'.*dcgan, projected"):
        build_gan("biggan", g_width=2, d_width=2)


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_of_each_moves_every_parameter(family, loss, image_size):
    G, D = tiny(family, image_size)
    optimisers = [torch.optim.Adam(module.parameters(), 1e-3) for module in (G, D)]
    before = copy.deepcopy([list(module.parameters()) for module in (G, D)])
    x = torch.rand(4, 3, image_size, image_size) * 2 - 1
    fake = G(torch.randn(4, 5))
    LOSSES[loss].discriminator(D(x), D(fake.detach())).backward()
    optimisers[1].step()
    LOSSES[loss].generator(D(fake)).backward()
    optimisers[0].step()
    for old, module in zip(before, (G, D), strict=True):
        moved = [not torch.equal(a, b) for a, b in zip(old, module.parameters(), strict=True)]
        # inside the margins of the hinge, the two classes pull the last bias equally in both ways
        assert all(moved) or (loss == "hinge" and sum(moved) >= len(moved) - 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_discriminator_weight_has_spectral_norm_one(family):
    G, D = tiny(family, image_size=8)
    layers = [m for m in D.modules() if isinstance(m, CONVOLUTIONS)]
    assert normalised(D) == layers and len(layers) >= 4
    assert not normalised(G)
    with torch.no_grad():
        for m in layers:
            m.parametrizations.weight.original.normal_()  # far from where the power iteration began
        for _ in range(300):
            D(torch.zeros(1, 3, 8, 8))
    D.eval()
    for m in layers:
        matrix = m.weight.detach().flatten(1)
        assert torch.linalg.matrix_norm(matrix, ord=2).item() == pytest.approx(1, abs=1e-3)
        raw = m.parametrizations.weight.original.detach().flatten(1)
        torch.testing.assert_close(matrix, raw / torch.linalg.matrix_norm(raw, ord=2), rtol=1e-3, atol=1e-4)


def test_evaluation_mode_runs_no_power_iteration():
    _, D = tiny("dcgan", image_size=8)
    D.eval()
    before = copy.deepcopy(D.state_dict())
    D(torch.zeros(1, 3, 8, 8))
    assert all(torch.equal(before[key], value) for key, value in D.state_dict().items())
    D.train()(torch.zeros(1, 3, 8, 8))
    assert any(not torch.equal(before[key], value) for key, value in D.state_dict().items())


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_baking_keeps_the_function(family, training, trainable):
    _, D = tiny(family)
    x = torch.randn(4, 3, 32, 32)
    expected = D.eval()(x)
    D.train(training).requires_grad_(trainable)
    baked = bake(D)
    assert baked is D and not normalised(D)
    assert D.training == training
    assert all(p.requires_grad == trainable and p.is_leaf for p in D.parameters())
    assert not any("parametrizations" in key for key in D.state_dict())
    torch.testing.assert_close(D.eval()(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bake(D)(x), expected, rtol=1e-5, atol=1e-5)  # twice does no harm


@pytest.mark.parametrize("family", FAMILIES)
def test_baking_a_copy_leaves_the_original_whole(family):
    _, D = tiny(family)
    x = torch.randn(2, 3, 32, 32)
    expected = D.eval()(x)
    copied = bake(copy.deepcopy(D))
    torch.testing.assert_close(D(x), expected)
    assert normalised(D)
    bake(copy.deepcopy(D))
    torch.testing.assert_close(copied(x), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_freezing_keeps_the_function(family):
    G, D = tiny(family)
    z = torch.randn(4, 5)
    expected = D.eval()(G.eval()(z))
    G, D = freeze(G.train()), freeze(D.train())
    assert not any(m.training for module in (G, D) for m in module.modules())
    assert not any(p.requires_grad for module in (G, D) for p in module.parameters())
    torch.testing.assert_close(D(G(z)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip_through_a_checkpoint(family, tmp_path):
    G, D = tiny(family)
    for _ in range(3):
        D(G(torch.randn(4, 5)))  # moves the statistics of batch norm and spectral norm
    architecture = {"family": family, "latent_dim": 5, "g_width": 4, "d_width": 6, "image_size": 32}
    save_checkpoint("pair", {"G": G, "D": D}, {"architecture": architecture}, tmp_path)
    states, card = load_checkpoint("pair", tmp_path)
    torch.manual_seed(1)
    G2, D2 = build_gan(**card["architecture"])
    G2.load_state_dict(states["G"])
    D2.load_state_dict(states["D"])
    z = torch.randn(4, 5)
    assert torch.equal(D.eval()(G.eval()(z)), D2.eval()(G2.eval()(z)))


def test_initialisation_reaches_every_weight():
    torch.manual_seed(0)
    for module in (DCGANGenerator(16, 16), DCGANDiscriminator(16)):
        for name, p in module.named_parameters():
            if p.ndim > 1:
                assert p.std().item() == pytest.approx(0.02, rel=0.15), name
            elif "bias" in name:
                assert not p.any(), name
    layer = initialise(nn.Linear(300, 300))
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02) and not layer.bias.any()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def conv(inside: int, outside: int, kernel: int) -> int:
    return inside * outside * kernel**2 + outside


def test_dcgan_size_by_hand():
    w = 4
    transposed = 5 * 4 * w * 16 + 4 * w * 2 * w * 16 + 2 * w * w * 16 + w * 3 * 16 + 3
    assert count(DCGANGenerator(5, w)) == transposed + 2 * (4 + 2 + 1) * w
    pairs = sum(conv(i, o, 3) + conv(o, o, 4) for i, o in [(3, w), (w, 2 * w), (2 * w, 4 * w)])
    assert count(DCGANDiscriminator(w)) == pairs + conv(4 * w, 8 * w, 3) + 8 * w * 16 + 1


@pytest.mark.parametrize("data_shape", [(2,), (1, 8, 8)])
def test_perceptron_shapes(data_shape):
    G = MLPGenerator(latent_dim=5, width=7, depth=2, data_shape=data_shape)
    D = MLPDiscriminator(width=6, depth=2, data_shape=data_shape)
    x = G(torch.randn(3, G.latent_dim))
    assert G.latent_dim == 5
    assert x.shape == (3, *data_shape)
    assert D(x).shape == (3,)
    assert D(x[:1]).shape == (1,)  # one point keeps its axis
    assert D.features(x).shape == (3, D.feature_dim) == (3, 6)
    torch.testing.assert_close(D(x), D.head(D.features(x)).squeeze(1))


@pytest.mark.parametrize("depth", [1, 3])
def test_perceptron_sizes_by_hand(depth):
    inner = (depth - 1) * (7 * 7 + 7)
    assert count(MLPGenerator(5, width=7, depth=depth)) == (5 + 1) * 7 + inner + (7 + 1) * 2
    images = MLPDiscriminator(width=7, depth=depth, data_shape=(1, 8, 8))
    assert count(images) == (64 + 1) * 7 + inner + (7 + 1)


def test_mlp_is_linear_layers_with_an_activation_between_them():
    torch.manual_seed(0)
    net = mlp([3, 4, 2], nn.Tanh)
    x = torch.randn(5, 3)
    first, _, last = net
    expected = (x @ first.weight.T + first.bias).tanh() @ last.weight.T + last.bias
    torch.testing.assert_close(net(x), expected)
    assert [type(m) for m in mlp([3, 4, 4, 2])] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [type(m) for m in mlp([3, 2])] == [nn.Linear]


def test_only_a_bounded_generator_stays_in_the_box():
    for bounded in (True, False):
        torch.manual_seed(0)
        G = MLPGenerator(3, width=8, depth=1, bounded=bounded)
        z = 1000 * torch.randn(50, 3)
        assert (G(z).abs().max() <= 1) == bounded
        torch.testing.assert_close(G(z), G.net(z).tanh() if bounded else G.net(z))


def test_perceptron_logits_are_no_probabilities():
    D = MLPDiscriminator(width=4, depth=1)
    with torch.no_grad():
        D.head.bias.fill_(-7)
        D.head.weight.zero_()
    assert (D(torch.randn(3, 2)) == -7).all()


def test_the_activation_is_used_everywhere():
    D = MLPDiscriminator(width=4, depth=3, activation=nn.LeakyReLU)
    kinds = {type(m) for m in D.body.modules()}
    assert nn.LeakyReLU in kinds and nn.ReLU not in kinds
    assert sum(isinstance(m, nn.LeakyReLU) for m in D.body.modules()) == 3  # the features are activated too


def test_perceptron_with_spectral_norm_has_slope_at_most_one():
    torch.manual_seed(0)
    D = MLPDiscriminator(width=32, depth=2, spectral=True)
    assert len(normalised(D)) == 3
    with torch.no_grad():
        for m in normalised(D):
            m.parametrizations.weight.original.normal_()
        for _ in range(300):
            D(torch.zeros(1, 2))
    x = torch.randn(200, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(D.eval()(x).sum(), x)
    assert 0 < slope.norm(dim=1).max() <= 1.001  # three layers of norm 1 and 1-Lipschitz activations


@pytest.mark.parametrize("loss", ["non_saturating", "minimax"])
def test_one_step_of_each_moves_every_perceptron_parameter(loss):
    torch.manual_seed(0)
    G = MLPGenerator(5, width=16, depth=2, data_shape=(1, 8, 8), bounded=True)
    D = MLPDiscriminator(width=16, depth=2, data_shape=(1, 8, 8), activation=nn.LeakyReLU)
    optimisers = [torch.optim.Adam(module.parameters(), 1e-3) for module in (G, D)]
    before = copy.deepcopy([list(module.parameters()) for module in (G, D)])
    fake = G(torch.randn(64, 5))
    LOSSES[loss].discriminator(D(torch.rand(64, 1, 8, 8)), D(fake.detach())).backward()
    optimisers[1].step()
    LOSSES[loss].generator(D(fake)).backward()
    optimisers[0].step()
    for old, module in zip(before, (G, D), strict=True):
        assert not any(torch.equal(a, b) for a, b in zip(old, module.parameters(), strict=True))
