"""EBGAN's losses, its pulling-away term, its auto-encoder, and the recipes of notebook 05."""

import math

import pytest
import torch
from PIL import Image
from torch import nn

from data.recipes import ebgan_study as study
from gifs.ebgan import ebgan_energy
from utils.images import load_digits, split_digits
from utils.losses import LOSSES, ebgan, pulling_away
from utils.metrics.images import inception_score
from utils.metrics.judges import modified_score
from utils.models.autoencoder import AutoencoderEnergy


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------- margin loss


def test_margin_loss_by_hand():
    real, fake = torch.tensor([0.5, 1.5]), torch.tensor([0.0, 1.0, 4.0, 2.0])
    loss = ebgan(margin=2.0)
    assert loss.discriminator(real, fake).item() == pytest.approx(1.0 + (2 + 1 + 0 + 0) / 4)
    assert loss.generator(fake).item() == pytest.approx(7 / 4)


def test_beyond_the_margin_only_g_has_a_gradient():
    fake = torch.tensor([0.5, 3.0], requires_grad=True)
    loss = ebgan(margin=2.0)
    (of_d,) = torch.autograd.grad(loss.discriminator(torch.ones(2), fake), fake)
    (of_g,) = torch.autograd.grad(loss.generator(fake), fake)
    assert of_d.tolist() == [-0.5, 0.0]  # D pushes up what lies below the margin, and nothing else
    assert of_g.tolist() == [0.5, 0.5]


def test_d_pulls_real_energies_down():
    real = torch.tensor([0.5, 30.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(ebgan(2.0).discriminator(real, torch.ones(2)), real)
    assert gradient.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_margin_must_be_positive(margin):
    with pytest.raises(ValueError, match="margin"):
        ebgan(margin)


def test_the_table_of_losses_has_the_paper_s_margin():
    real, fake = torch.tensor([1.0]), torch.tensor([3.0])
    assert LOSSES["ebgan"].discriminator(real, fake).item() == pytest.approx(1 + 7)


# --------------------------------------------------------------------------------------- pulling away


def double_loop(features: torch.Tensor) -> float:
    n, total = len(features), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                cosine = torch.dot(features[i], features[j]) / (features[i].norm() * features[j].norm())
                total += cosine.item() ** 2
    return total / (n * (n - 1))


@pytest.mark.parametrize("shape", [(2, 3), (7, 4), (12, 30)])
def test_pulling_away_against_a_double_loop(shape):
    features = torch.randn(shape, generator=seeded(0), dtype=torch.float64) + 0.5
    assert pulling_away(features).item() == pytest.approx(double_loop(features), rel=1e-10)


def test_pulling_away_of_special_rows():
    row = torch.randn(6, generator=seeded(1), dtype=torch.float64)
    assert pulling_away(row.repeat(5, 1)).item() == pytest.approx(1)
    assert pulling_away(torch.stack([row, -row])).item() == pytest.approx(1)  # antipodal
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=seeded(2), dtype=torch.float64))
    assert pulling_away(rotation).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("s", [2, 5, 32])
def test_pulling_away_of_random_rows_is_one_over_their_length(s):
    # the squared cosine is Beta(1/2, (s - 1)/2): mean 1/s, variance 2 (s - 1) / (s^2 (s + 2)); the
    # n (n - 1)/2 pairs are uncorrelated, since the law of a pair's cosine is the same given one of its rows
    n = 600
    value = pulling_away(torch.randn(n, s, generator=seeded(3), dtype=torch.float64)).item()
    error = math.sqrt(2 * (s - 1) / (s**2 * (s + 2)) / (n * (n - 1) / 2))
    assert abs(value - 1 / s) < 5 * error


def test_pulling_away_ignores_lengths_and_a_dead_row_costs_nothing():
    features = torch.randn(6, 4, generator=seeded(4), dtype=torch.float64)
    lengths = torch.tensor([[0.1], [1.0], [2.0], [30.0], [4.0], [0.5]], dtype=torch.float64)
    torch.testing.assert_close(pulling_away(lengths * features), pulling_away(features))
    dead = torch.cat([features, torch.zeros(1, 4, dtype=torch.float64)])  # all units of a ReLU at 0
    assert pulling_away(dead).item() == pytest.approx(pulling_away(features).item() * 6 * 5 / (7 * 6))
    assert pulling_away(torch.zeros(3, 4)).item() == 0


def test_pulling_away_pushes_rows_apart():
    features = torch.tensor([[1.0, 0.1], [1.0, -0.1]], requires_grad=True)
    before = pulling_away(features)
    (gradient,) = torch.autograd.grad(before, features)
    with torch.no_grad():
        assert pulling_away(features - 0.1 * gradient) < before
    with pytest.raises(ValueError, match="at least 2"):
        pulling_away(torch.ones(1, 3))


# --------------------------------------------------------------------------------------- auto-encoder


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 4, 4)])
def test_shapes_and_the_energy_is_the_norm(shape):
    torch.manual_seed(0)
    D = AutoencoderEnergy(width=16, depth=2, code_dim=5, data_shape=shape)
    x = torch.randn(7, *shape, generator=seeded(5))
    error = (D.reconstruct(x) - x).flatten(1)
    assert D.reconstruct(x).shape == x.shape
    assert D.features(x).shape == (7, D.feature_dim) == (7, 5)
    assert D(x).shape == (7,)
    torch.testing.assert_close(D(x), torch.linalg.vector_norm(error, dim=1))
    assert not torch.allclose(D(x), error.square().mean(1), rtol=0.05)  # the mean square is something else


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_decoder_has_one_layer_and_depth_counts_the_encoder_s(depth):
    D = AutoencoderEnergy(width=16, depth=depth, code_dim=5)
    assert sum(isinstance(m, nn.Linear) for m in D.encoder.modules()) == depth
    assert isinstance(D.decoder, nn.Linear)
    assert (D.features(torch.randn(9, 2, generator=seeded(6))) >= 0).all()


def identity() -> AutoencoderEnergy:
    """An auto-encoder that reconstructs every point of the plane: x = relu(x) - relu(-x)."""
    D = AutoencoderEnergy(depth=1, code_dim=4)
    with torch.no_grad():
        plus_minus = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        D.encoder[1][0].weight.copy_(plus_minus)
        D.encoder[1][0].bias.zero_()
        D.decoder.weight.copy_(plus_minus.T)
        D.decoder.bias.zero_()
    return D


def test_a_perfect_reconstruction_has_energy_zero_and_a_finite_gradient():
    x = torch.randn(20, 2, generator=seeded(7)).requires_grad_()
    energy = identity()(x)
    assert (energy < 1e-5).all()
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    assert gradient.isfinite().all() and gradient.norm(dim=1).max() < 1e-2
    assert all(p.grad is None or p.grad.isfinite().all() for p in identity().parameters())


def test_gradient_of_the_energy_against_differences():
    torch.manual_seed(1)
    D = AutoencoderEnergy(width=16, depth=2, code_dim=5).double()
    x = torch.randn(5, 2, generator=seeded(8), dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x)
    direction = torch.randn(5, 2, generator=seeded(9), dtype=torch.float64)
    h = 1e-7
    with torch.no_grad():
        difference = (D(x + h * direction) - D(x - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(1), difference, rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------------------- recipes


def test_modified_score_by_hand_and_its_order():
    p = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    by_hand = sum(m * math.log(m / q) for row in p.tolist() for m, q in zip((0.6, 0.4), row, strict=True)) / 2
    assert modified_score(p) == pytest.approx(by_hand, rel=1e-6)
    assert modified_score(p) != pytest.approx(math.log(inception_score(p, splits=1)[0]), rel=0.01)
    assert modified_score(torch.tensor([[0.5, 0.5], [0.5, 0.5]])) == pytest.approx(0)
    with pytest.raises(ValueError, match="positive"):
        modified_score(torch.tensor([[1.0, 0.0]]))


def test_digits_are_split_without_overlap():
    train, test = split_digits()
    assert train.images.shape == (1437, 1, 8, 8) and test.images.shape == (360, 1, 8, 8)
    assert len(train.labels) == 1437 and len(test.labels) == 360
    both = torch.cat([train.images, test.images]).flatten(1)
    whole = load_digits().images.flatten(1)
    assert torch.equal(both.double().sum(0), whole.double().sum(0))  # each digit once
    assert not torch.equal(test.images, split_digits(seed=1)[1].images)


@pytest.mark.parametrize("data", ["digits", "ring"])
def test_the_same_seed_gives_the_same_run(data):
    settings = study.one_run(data=data, width_g=16, width_d=16, n_steps=6, margins=(2.0, 1.0))
    first, second = (study.train(settings).G_ema.state_dict() for _ in range(2))
    other = study.train(settings | {"seed": 1}).G_ema.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("arm", study.ARMS)
def test_few_labels_learns_something(arm):
    row = study.few_labels(study.one_classifier(arm, 100, 0, n_steps=60))
    assert row["error"] < 45  # chance is 90
    assert row["error"] * 360 / 100 == pytest.approx(round(row["error"] * 360 / 100), abs=1e-3)


def test_the_scene_writes_a_looping_gif(tmp_path):
    path = ebgan_energy(tmp_path, n_frames=3, n_steps=6)
    assert path.name == "ebgan_energy.gif"
    with Image.open(path) as image:
        assert image.n_frames > 1
        assert image.info.get("loop") == 0
    with pytest.raises(ValueError, match="n_frames"):
        ebgan_energy(tmp_path, n_frames=1)
