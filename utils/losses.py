"""GAN losses on logits. `softplus(-d)` is -log sigmoid(d) and `softplus(d)` is -log(1 - sigmoid(d)).

Each loss is a pair: `discriminator(real_logits, fake_logits)` and `generator(fake_logits)`, scalars.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class GANLoss(NamedTuple):
    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def logistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))) (Goodfellow et al., 2014): its optimum is d = log p_d/p_g."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def minimax_generator(fake_logits: Tensor) -> Tensor:
    """E log(1 - D(G(z))): the zero-sum game. Its gradient vanishes where D wins."""
    return -F.softplus(fake_logits).mean()


def non_saturating_generator(fake_logits: Tensor) -> Tensor:
    """-E log D(G(z)) (Goodfellow et al., 2014, section 3)."""
    return F.softplus(-fake_logits).mean()


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E max(0, 1 - d(x)) + E max(0, 1 + d(G(z))) (Lim and Ye, 2017). Its optimum is no log ratio."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def hinge_generator(fake_logits: Tensor) -> Tensor:
    """-E d(G(z))."""
    return -fake_logits.mean()


def wasserstein_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E d(x) + E d(G(z)) (Arjovsky et al., 2017): meaningful only for a d with bounded slope.

    Its optimum is a Kantorovich potential, which is no log ratio either.
    """
    return fake_logits.mean() - real_logits.mean()


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E (d(x) - 1)^2 / 2 + E d(G(z))^2 / 2 (Mao et al., 2017): its optimum is the *probability* D*."""
    return 0.5 * (real_logits - 1).square().mean() + 0.5 * fake_logits.square().mean()


def least_squares_generator(fake_logits: Tensor) -> Tensor:
    """E (d(G(z)) - 1)^2 / 2."""
    return 0.5 * (fake_logits - 1).square().mean()


def ebgan(margin: float = 10.0) -> GANLoss:
    """The margin loss of EBGAN (Zhao et al., 2017) on *energies* U >= 0, low on data; notebook 05.

    Discriminator: E U(x) + E max(0, margin - U(G(z))). Generator: E U(G(z)).
    """
    if not margin > 0:
        raise ValueError(f"margin={margin} must be positive")

    def discriminator(real_energies: Tensor, fake_energies: Tensor) -> Tensor:
        return real_energies.mean() + F.relu(margin - fake_energies).mean()

    return GANLoss(discriminator, lambda fake_energies: fake_energies.mean())


LOSSES = {
    "minimax": GANLoss(logistic_discriminator, minimax_generator),
    "non_saturating": GANLoss(logistic_discriminator, non_saturating_generator),
    "hinge": GANLoss(hinge_discriminator, hinge_generator),
    "wasserstein": GANLoss(wasserstein_discriminator, hinge_generator),
    "least_squares": GANLoss(least_squares_discriminator, least_squares_generator),
    "ebgan": ebgan(),  # training takes the margin of its config
}


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """E ||grad_x d(x)||^2 / 2 on real data (Mescheder et al., 2018), differentiable in D's weights."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * gradient.flatten(1).square().sum(1).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """E (||grad_x d(x)|| - 1)^2 at random points between pairs of real and fake (Gulrajani et al., 2017)."""
    u = torch.rand(len(real), *[1] * (real.ndim - 1), generator=generator).to(real.device)
    between = (u * real + (1 - u) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    norms = torch.sqrt(gradient.flatten(1).square().sum(1) + 1e-12)  # differentiable at 0
    return (norms - 1).square().mean()


def pulling_away(features: Tensor) -> Tensor:
    """Mean squared cosine over all pairs of different rows of `features` (n, f) (Zhao et al., 2017).

    1 for parallel rows (antipodal ones too), 0 for orthogonal ones, 1/f in the mean for random ones.
    """
    n = len(features)
    if n < 2:
        raise ValueError(f"features has {n} row; the pulling-away term needs at least 2")
    unit = F.normalize(features, dim=1)
    squares = (unit @ unit.T).square()  # (n, n); a row of zeros (all ReLUs off) counts as orthogonal
    return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))
