"""GAN losses on logits. `softplus(-d)` is -log sigmoid(d) and `softplus(d)` is -log(1 - sigmoid(d)).

Each loss is a pair: `discriminator(real_logits, fake_logits)` and `generator(fake_logits)`, scalars.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu, softplus


class GANLoss(NamedTuple):
    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def logistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))) (Goodfellow et al., 2014): its optimum is d = log p_d/p_g."""
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def ebgan(margin: float = 10.0) -> GANLoss:
    """The margin loss of EBGAN (Zhao et al., 2017) on *energies* U >= 0, low on data; notebook 05.

    Discriminator: E U(x) + E max(0, margin - U(G(z))). Generator: E U(G(z)).
    """
    if not margin > 0:
        raise ValueError(f"margin={margin} must be positive")
    return GANLoss(lambda real, fake: real.mean() + relu(margin - fake).mean(), lambda fake: fake.mean())


LOSSES = {
    # the zero-sum game, E log(1 - D(G(z))) for G: its gradient vanishes where D wins
    "minimax": GANLoss(logistic_discriminator, lambda fake: -softplus(fake).mean()),
    # -E log D(G(z)) for G (Goodfellow et al., 2014, section 3)
    "non_saturating": GANLoss(logistic_discriminator, lambda fake: softplus(-fake).mean()),
    # Lim and Ye, 2017: the optimal d is no log ratio
    "hinge": GANLoss(
        lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(), lambda fake: -fake.mean()
    ),
    # Arjovsky et al., 2017: for a d with bounded slope; its optimum, a Kantorovich potential, is no log ratio
    "wasserstein": GANLoss(lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()),
    # Mao et al., 2017: the optimal d is the *probability* D*
    "least_squares": GANLoss(
        lambda real, fake: 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean(),
        lambda fake: 0.5 * (fake - 1).square().mean(),
    ),
    "ebgan": ebgan(),  # training takes the margin of its config
}


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """E ||grad_x d(x)||^2 / 2 on real data (Mescheder et al., 2018), differentiable in D's weights."""
    return 0.5 * _squared_slopes(discriminator, real).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """E (||grad_x d(x)|| - 1)^2 at random points between pairs of real and fake (Gulrajani et al., 2017)."""
    u = torch.rand(len(real), *[1] * (real.ndim - 1), generator=generator).to(real.device)
    squares = _squared_slopes(discriminator, u * real + (1 - u) * fake)
    return (torch.sqrt(squares + 1e-12) - 1).square().mean()  # differentiable at 0


def _squared_slopes(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """||grad_x d(x)||^2, (n,), with a graph back to D's weights."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def pulling_away(features: Tensor) -> Tensor:
    """Mean squared cosine over all pairs of different rows of `features` (n, f) (Zhao et al., 2017).

    1 for parallel rows (antipodal ones too), 0 for orthogonal ones, 1/f in the mean for random ones.
    """
    n = len(features)
    if n < 2:
        raise ValueError(f"features has {n} row; the pulling-away term needs at least 2")
    unit = normalize(features, dim=1)
    squares = (unit @ unit.T).square()  # (n, n); a row of zeros (all ReLUs off) counts as orthogonal
    return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))
