"""Every loss against numbers worked out by hand and against torch's own cross-entropy."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.losses import LOSSES, gradient_penalty, logistic_discriminator, r1_penalty

REAL = torch.tensor([2.0, -0.5, 0.3], dtype=torch.float64)
FAKE = torch.tensor([-1.5, 0.4], dtype=torch.float64)


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_logistic_discriminator(name):
    by_hand = -mean(log_sigmoid(d) for d in (2.0, -0.5, 0.3)) - mean(log_sigmoid(-d) for d in (-1.5, 0.4))
    assert LOSSES[name].discriminator(REAL, FAKE).item() == pytest.approx(by_hand, rel=1e-12)
    reference = F.binary_cross_entropy_with_logits(REAL, torch.ones_like(REAL))
    reference = reference + F.binary_cross_entropy_with_logits(FAKE, torch.zeros_like(FAKE))
    torch.testing.assert_close(LOSSES[name].discriminator(REAL, FAKE), reference)


def test_minimax_generator():
    by_hand = mean(log_sigmoid(-d) for d in (-1.5, 0.4))
    assert LOSSES["minimax"].generator(FAKE).item() == pytest.approx(by_hand, rel=1e-12)
    reference = -F.binary_cross_entropy_with_logits(FAKE, torch.zeros_like(FAKE))
    torch.testing.assert_close(LOSSES["minimax"].generator(FAKE), reference)


def test_non_saturating_generator():
    by_hand = -mean(log_sigmoid(d) for d in (-1.5, 0.4))
    assert LOSSES["non_saturating"].generator(FAKE).item() == pytest.approx(by_hand, rel=1e-12)
    reference = F.binary_cross_entropy_with_logits(FAKE, torch.ones_like(FAKE))
    torch.testing.assert_close(LOSSES["non_saturating"].generator(FAKE), reference)


def test_hinge():
    by_hand = (0 + 1.5 + 0.7) / 3 + (0 + 1.4) / 2
    assert LOSSES["hinge"].discriminator(REAL, FAKE).item() == pytest.approx(by_hand)
    assert LOSSES["hinge"].generator(FAKE).item() == pytest.approx((1.5 - 0.4) / 2)


# least squares pulls towards its targets 0 and 1 instead, and EBGAN's D returns an energy: see below
@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("least_squares", "ebgan")])
def test_losses_pull_the_right_way(name):
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    LOSSES[name].discriminator(real, fake).backward()
    assert (real.grad <= 0).all() and real.grad.any()  # D raises d on real data
    assert (fake.grad >= 0).all() and fake.grad.any()  # and lowers it on samples
    fake.grad = None
    LOSSES[name].generator(fake).backward()
    assert (fake.grad < 0).all()  # G raises d on samples


def test_where_d_wins_minimax_saturates_and_the_others_do_not():
    gradients = {}
    for name, loss in LOSSES.items():
        fake = torch.tensor([-20.0], requires_grad=True)
        loss.generator(fake).backward()
        gradients[name] = fake.grad.item()
    assert abs(gradients["minimax"]) < 1e-8
    assert gradients["non_saturating"] == pytest.approx(-1) == gradients["hinge"]


def test_wasserstein():
    assert LOSSES["wasserstein"].discriminator(REAL, FAKE).item() == pytest.approx(-0.55 - 0.6)
    assert LOSSES["wasserstein"].generator(FAKE).item() == pytest.approx(0.55)


def test_least_squares_pulls_to_its_targets():
    by_hand = 0.5 * (1 + 2.25 + 0.49) / 3 + 0.5 * (2.25 + 0.16) / 2
    assert LOSSES["least_squares"].discriminator(REAL, FAKE).item() == pytest.approx(by_hand)
    assert LOSSES["least_squares"].generator(FAKE).item() == pytest.approx(0.5 * (6.25 + 0.36) / 2)
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    LOSSES["least_squares"].discriminator(real, fake).backward()
    torch.testing.assert_close(real.grad, (REAL - 1) / 3)
    torch.testing.assert_close(fake.grad, FAKE / 2)


def test_ebgan_pulls_energies_the_other_way():
    real, fake = (
        torch.tensor([0.5, 2.0], requires_grad=True),
        torch.tensor([0.3, 9.0, 20.0], requires_grad=True),
    )
    LOSSES["ebgan"].discriminator(real, fake).backward()  # margin 10
    assert (real.grad > 0).all()  # D lowers the energy of data
    assert (fake.grad[:2] < 0).all() and fake.grad[2] == 0  # raises that of samples, up to the margin
    fake.grad = None
    LOSSES["ebgan"].generator(fake).backward()
    assert (fake.grad > 0).all()  # G lowers it, beyond the margin too


@pytest.mark.parametrize("norm", [0.2, 1.0, 3.0])
def test_gradient_penalty_of_a_linear_critic(norm):
    weight = torch.tensor([0.6, -0.8], dtype=torch.float64) * norm
    real, fake = torch.randn(2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    penalty = gradient_penalty(lambda x: x @ weight, real, fake, torch.Generator().manual_seed(1))
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-9)


def test_gradient_penalty_looks_between_the_pairs_and_trains_the_critic():
    seen = []
    scale = torch.ones(1, requires_grad=True)

    def critic(x):
        seen.append(x.detach())
        return scale * x.square().sum(1)

    real, fake = torch.zeros(200, 1), torch.ones(200, 1)
    gradient_penalty(critic, real, fake, torch.Generator().manual_seed(0)).backward()
    assert 0 <= seen[0].min() < 0.1 and 0.9 < seen[0].max() <= 1
    assert scale.grad.abs() > 0 and not real.requires_grad and fake.grad is None


def test_extreme_logits_stay_finite():
    value = logistic_discriminator(torch.tensor([-1e4]), torch.tensor([1e4]))
    assert value.item() == pytest.approx(2e4)


def test_r1_of_a_linear_discriminator():
    weight = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    penalty = r1_penalty(lambda x: (x * weight).sum((1, 2, 3)) + 7, x)
    torch.testing.assert_close(penalty, 0.5 * weight.square().sum())


def test_r1_of_a_quadratic_discriminator():
    Q = torch.tensor([[1.0, 0.5], [0.5, -2.0]], dtype=torch.float64)
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    penalty = r1_penalty(lambda x: 0.5 * torch.einsum("ni,ij,nj->n", x, Q, x), x)
    torch.testing.assert_close(penalty, 0.5 * (x @ Q).square().sum(1).mean())


def test_r1_has_a_gradient_in_the_weights_and_touches_nothing_else():
    layer = nn.Linear(3, 1).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    r1_penalty(lambda x: layer(x).squeeze(1), x).backward()
    torch.testing.assert_close(layer.weight.grad, layer.weight.detach())  # of |w|^2 / 2
    assert not x.requires_grad and x.grad is None
