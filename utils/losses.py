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


LOSSES = {
    "minimax": GANLoss(logistic_discriminator, minimax_generator),
    "non_saturating": GANLoss(logistic_discriminator, non_saturating_generator),
    "hinge": GANLoss(hinge_discriminator, hinge_generator),
}


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """E ||grad_x d(x)||^2 / 2 on real data (Mescheder et al., 2018), differentiable in D's weights."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * gradient.flatten(1).square().sum(1).mean()
