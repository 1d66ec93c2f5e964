"""Checks of notebook 01."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def check_stable_logistic_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise: the discriminator's loss from logits, E log(1 + e^-d) on real + E log(1 + e^d) on fake."""
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-1.5, 0.0, 1.0, 0.3])
    value = loss(real, fake)
    if unfinished(value, "stable_logistic_loss"):
        return
    value = float(value)

    def right(real: Tensor, fake: Tensor) -> float:
        on_real = [math.log1p(math.exp(-d)) for d in real.tolist()]
        on_fake = [math.log1p(math.exp(d)) for d in fake.tolist()]
        return sum(on_real) / len(on_real) + sum(on_fake) / len(on_fake)

    on_real, on_fake = right(real, torch.tensor([-100.0])), right(torch.tensor([100.0]), fake)
    mistakes = {
        "the labels are swapped: a real image has a high logit": right(-real, -fake),
        "the sign is wrong: D minimises minus the log-probability of the right label": -right(real, fake),
        "half of it: add the means of the two classes, so that d = 0 gives 2 log 2": 0.5 * right(real, fake),
        "sum instead of mean within a class": 3 * on_real + 4 * on_fake,
        "mean over all logits together: take one mean for each class": (3 * on_real + 4 * on_fake) / 7,
        "a second sigmoid: logits go in as they are": right(real.sigmoid(), fake.sigmoid()),
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value, wrong, rel_tol=1e-4), mistake
    assert math.isclose(value, right(real, fake), rel_tol=1e-4), "the value differs from the logistic loss"
    far = torch.tensor([1000.0])
    for a, b, expected in ((-far, -far, 1000.0), (far, far, 1000.0), (far, -far, 0.0)):
        at_far = float(loss(a, b))
        assert math.isfinite(at_far), "overflow at logits of ±1000: only exp(-|d|) is safe"
        assert math.isclose(at_far, expected, abs_tol=1e-3), f"{at_far} at logits of ±1000, not {expected}"
    small = float(loss(torch.tensor([12.0]), -far))
    assert math.isclose(small, math.exp(-12.0), rel_tol=1e-3), (
        "digits are lost where the loss is small: log(1 + u) with small u needs log1p(u)"
    )
    print("stable_logistic_loss: right.")


def check_non_saturating_loss(loss: Callable[[Tensor], Tensor]) -> None:
    """Exercise: the non-saturating generator loss -E log sigmoid(d), and the way its gradient points."""
    fake = torch.tensor([-3.0, -0.5, 0.0, 2.0], requires_grad=True)
    value = loss(fake)
    if unfinished(value, "non_saturating_loss"):
        return
    assert value.ndim == 0, f"a scalar is wanted, the mean over the batch, not shape {tuple(value.shape)}"
    logits = fake.tolist()
    log_d = [-math.log1p(math.exp(-d)) for d in logits]  # log sigmoid(d)
    log_rest = [-math.log1p(math.exp(d)) for d in logits]  # log(1 - sigmoid(d))
    mistakes = {
        "the sign is wrong: G minimises minus E log D(G(z))": sum(log_d) / 4,
        "that is the minimax loss E log(1 - D(G(z)))": sum(log_rest) / 4,
        "the label is wrong: that trains G to be called fake": -sum(log_rest) / 4,
        "sum instead of mean over the batch": -sum(log_d),
        "the logarithm is missing": -sum(map(math.exp, log_d)) / 4,
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value.item(), wrong, rel_tol=1e-4), mistake
    assert math.isclose(value.item(), -sum(log_d) / 4, rel_tol=1e-4), (
        "the value differs from -E log sigmoid(d)"
    )
    lost = torch.tensor([-200.0], requires_grad=True)
    far = loss(lost)
    assert far.isfinite(), "not finite at d = -200: do not take the logarithm of a sigmoid"
    (gradient,) = torch.autograd.grad(far, lost)
    assert math.isclose(gradient.item(), -1.0, rel_tol=1e-4), "no gradient at d = -200: this loss saturates"
    print("non_saturating_loss: right.")


def check_generator_gradients(gradients: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """Exercise: dL/dd of both generator losses at logits d (n,), minimax first."""
    d = torch.tensor([-6.0, -1.0, 0.5, 4.0], dtype=torch.float64)
    value = gradients(d)
    if unfinished(value, "generator_gradients"):
        return
    assert len(value) == 2, "two tensors are wanted: the minimax one, then the non-saturating one"
    minimax, non_saturating = value
    p = torch.sigmoid(d)
    same = torch.allclose
    assert not (same(minimax, p - 1) and same(non_saturating, -p)), "the two are in the wrong order"
    assert not same(minimax, p), "minimax: the sign is wrong, the loss falls as d grows"
    assert not same(minimax, -p * (1 - p)), (
        "minimax: that is the derivative of -sigmoid(d); the log is missing"
    )
    assert not same(non_saturating, 1 - p), "non-saturating: the sign is wrong, the loss falls as d grows"
    assert not same(non_saturating, -1 / p), "non-saturating: that is dL/dD; multiply by dD/dd = D (1 - D)"
    assert not same(minimax, -1 / (1 - p)), "minimax: that is dL/dD; multiply by dD/dd = D (1 - D)"
    assert same(minimax, -p), "minimax: differs from the derivative of log(1 - sigmoid(d))"
    assert same(non_saturating, p - 1), "non-saturating: differs from the derivative of -log sigmoid(d)"
    print("generator_gradients: right.")


def check_affine_pushforward(log_density: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise: log p_g(x) for G(z) = A z + b, z ~ N(0, I), at x (n, k), A (k, k), b (k,)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    b = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
    A = torch.tensor([[0.5, 0.2, 0.0], [0.0, -1.5, 0.3], [0.1, 0.0, 3.0]], dtype=torch.float64)  # det < 0
    value = log_density(x, A, b)
    if unfinished(value, "affine_log_density"):
        return
    assert value.shape == (5,), f"one number a point is wanted, shape (5,), not {tuple(value.shape)}"
    assert not value.isnan().any(), "nan: the determinant may be negative, its absolute value counts"
    z = torch.linalg.solve(A, (x - b).T).T
    log_prior = -0.5 * z.square().sum(1) - 1.5 * math.log(2 * math.pi)
    log_det = torch.linalg.slogdet(A).logabsdet
    transposed = torch.linalg.solve(A.T, (x - b).T).T
    mistakes = {
        "the volume factor is missing: subtract log|det A|": log_prior,
        "the volume factor has the wrong sign: stretching thins the density out": log_prior + log_det,
        "A is transposed: z = A^-1 (x - b) for every row x": log_prior
        + 0.5 * (z.square() - transposed.square()).sum(1)
        - log_det,
        "the density is evaluated at x instead of at z = A^-1 (x - b)": -0.5 * x.square().sum(1)
        - 1.5 * math.log(2 * math.pi)
        - log_det,
        "that is the density: its logarithm is wanted": (log_prior - log_det).exp(),
        "the constant (k/2) log(2 pi) of the prior is missing": -0.5 * z.square().sum(1) - log_det,
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong), mistake
    normal = torch.distributions.MultivariateNormal(b, A @ A.T)
    assert torch.allclose(value, normal.log_prob(x)), "differs from the log-density of N(b, A A^T)"
    print("affine_log_density: right.")


def check_mode_count(count: Callable[[Tensor, Tensor, float, float], int]) -> None:
    """Exercise: modes that at least `least` of all points x (n, 2) lie within `radius` of."""
    means = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
    on_first, on_second = torch.zeros(60, 2), means[1].expand(37, 2)
    stray = means[2].expand(1, 2) + torch.tensor([0.1, 0.0])  # one point near the third mode
    off = means[3].expand(2, 2) + torch.tensor([0.8, 0.8])  # nearest to the fourth, 1.13 away from it
    x = torch.cat([on_first, on_second, stray, off])  # 100 points
    value = count(x, means, 1.0, 0.02)
    if unfinished(value, "count_modes"):
        return
    value = int(value)
    assert value != 97, "that is the number of points near a mode: count modes"
    assert value != 4, "the radius is not used: a point far from every mode belongs to none"
    assert value != 3, (
        "a mode hit by too few points was counted (the share is not used), or the radius is applied to each "
        "coordinate: use the Euclidean distance"
    )
    assert value == 2, f"{value} modes, but exactly two hold at least 2 % of the points"
    assert int(count(x, means, 1.0, 0.01)) == 3, "at least `least`: a share that is just reached counts"
    crowd = torch.cat([on_first[:1], x[97:].repeat(33, 1)])  # 1 + 33 + 66 points
    assert int(count(crowd, means, 1.0, 0.02)) == 1, "the share is of all points, not of those near a mode"
    assert int(count(x[98:], means, 1.0, 0.02)) == 0, "no point is near a mode here, so the answer is 0"
    print("count_modes: right.")
