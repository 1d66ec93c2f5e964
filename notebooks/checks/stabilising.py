"""Checks of notebook 03."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def check_spectral_norm(estimate: Callable[[Tensor, Tensor, int], float]) -> None:
    """Exercise: the largest singular value of W (m, n) by `n_steps` rounds of power iteration from u (m,)."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(5, 3, generator=generator)
    u = torch.randn(5, generator=generator)
    value = estimate(W, u, 200)
    if unfinished(value, "spectral_norm"):
        return
    value = float(value)
    singular = torch.linalg.svdvals(W)
    assert math.isfinite(value), "not finite after many rounds: normalise u and v in every round"
    mistakes = {
        "that is the square of it: u and v together carry sigma once, as u^T W v": singular[0] ** 2,
        "that is the Frobenius norm, the root of the sum of *all* squared singular values": W.norm(),
        "that is the smallest singular value: multiply by W and W^T, do not solve": singular[-1],
        "that is the largest entry": W.abs().max(),
        "that is the largest row sum, the norm for the maximum norm": W.abs().sum(1).max(),
        "that is the sum of all singular values": singular.sum(),
        "that is 1 / sigma: the norm itself is wanted": 1 / singular[0],
    }
    for mistake, wrong in mistakes.items():
        assert not math.isclose(value, wrong.item(), rel_tol=1e-4), mistake
    assert math.isclose(value, singular[0].item(), rel_tol=1e-4), (
        f"after 200 rounds it must be {singular[0]:.4f}, not {value:.4f}"
    )
    once = float(estimate(W, u, 1))
    v = W.T @ u / (W.T @ u).norm()
    assert not math.isclose(once, singular[0].item(), rel_tol=1e-4), (
        "one round cannot be exact yet: n_steps is not used, or the answer comes from a decomposition"
    )
    assert not math.isclose(once, ((W.T @ u).norm() / u.norm()).item(), rel_tol=1e-4), (
        "half a round: update v, then u, and return u^T W v"
    )
    assert math.isclose(once, (W @ v).norm().item(), rel_tol=1e-4), (
        f"after one round from u it must be {(W @ v).norm():.4f}, not {once:.4f}"
    )
    print("spectral_norm: right.")


def check_gradient_penalty(
    penalty: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor], Tensor],
) -> None:
    """Exercise: E (||grad d(x)|| - 1)^2 at x = u real + (1 - u) fake, differentiable in d's weights."""
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(6, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    u = torch.rand(6, 1, generator=generator, dtype=torch.float64)
    a = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)

    def d(x: Tensor) -> Tensor:
        return 0.5 * a * x.square().sum(1) + 3  # its gradient is a x

    value = penalty(d, real, fake, u)
    if unfinished(value, "gradient_penalty"):
        return
    assert value.ndim == 0, f"a scalar is wanted, the mean over the batch, not shape {tuple(value.shape)}"

    def at(x: Tensor) -> Tensor:
        return a.detach() * x  # (6, 2), the true gradients

    def two_sided(gradient: Tensor) -> Tensor:
        return (gradient.norm(dim=1) - 1).square().mean()

    between = at(u * real + (1 - u) * fake)
    mistakes = {
        "the penalty is taken at real points: it belongs between real and fake": two_sided(at(real)),
        "the penalty is taken at fake points: it belongs between real and fake": two_sided(at(fake)),
        "the weights are swapped: x = u real + (1 - u) fake": two_sided(at((1 - u) * real + u * fake)),
        "that is E ||grad||^2: the norm has to be compared with 1": between.square().sum(1).mean(),
        "the norm, not its square, is compared with 1": (between.square().sum(1) - 1).square().mean(),
        "one norm for the whole batch: each point has its own gradient": (between.norm() - 1).square(),
        "the mean gradient has no meaning here: take norms first": (between.mean(0).norm() - 1).square(),
        "differentiate the sum over the batch: the mean makes every gradient n times too short": (
            two_sided(between / 6)
        ),
        "that is the one-sided penalty: slopes below 1 cost as well": (
            (between.norm(dim=1) - 1).clamp(min=0).square().mean()
        ),
        "the square is missing": (between.norm(dim=1) - 1).mean(),
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong), mistake
    right = two_sided(between)
    assert torch.allclose(value, right), f"it is {right:.4f} here, not {value.item():.4f}"
    assert value.requires_grad, "D cannot learn from it: create_graph=True keeps the graph of the gradient"
    (slope,) = torch.autograd.grad(value, a)
    norms = between.norm(dim=1)
    assert torch.allclose(slope, (2 * (norms - 1) * norms / a.detach()).mean()), (
        "the value is right, its gradient in D's weights is not: detach nothing after the gradient is taken"
    )
    print("gradient_penalty: right.")


def check_adain(adain: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise: AdaIN of features x (n, c, h, w) with style scale (n, c) and bias (n, c)."""
    generator = torch.Generator().manual_seed(0)
    x = 3 + 2 * torch.randn(4, 3, 4, 4, generator=generator, dtype=torch.float64)
    scale = 1 + torch.rand(4, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    value = adain(x, scale, bias)
    if unfinished(value, "adain"):
        return
    assert value.shape == x.shape, f"the shape must stay {tuple(x.shape)}, not {tuple(value.shape)}"

    def styled(dims: tuple[int, ...], correction: int = 0, power: float = 0.5) -> Tensor:
        mean = x.mean(dims, keepdim=True)
        variance = x.var(dims, correction=correction, keepdim=True)
        return scale[..., None, None] * (x - mean) / variance**power + bias[..., None, None]

    right = styled((2, 3))
    plain = (right - bias[..., None, None]) / scale[..., None, None]
    mistakes = {
        "mean and variance over the batch too: that is batch normalisation": styled((0, 2, 3)),
        "mean and variance over the channels too: that is layer normalisation": styled((1, 2, 3)),
        "divide by the standard deviation, not by the variance": styled((2, 3), power=1.0),
        "the variance divides by h w (correction=0), as in instance normalisation": styled((2, 3), 1),
        "the style's bias is not used": scale[..., None, None] * plain,
        "the style's scale is not used": plain + bias[..., None, None],
        "scale and bias are swapped": bias[..., None, None] * plain + scale[..., None, None],
        "the style is added before normalising, which removes it again": plain,
        "x itself is scaled: subtract its mean and divide by its std first": (
            scale[..., None, None] * x + bias[..., None, None]
        ),
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong, rtol=1e-3, atol=1e-3), mistake
    assert torch.allclose(value, right, rtol=1e-3, atol=1e-3), "differs from scale (x - mean) / std + bias"
    constant = adain(torch.ones(1, 1, 4, 4), torch.ones(1, 1), torch.zeros(1, 1))
    assert constant.isfinite().all(), "a constant channel gives 0/0: add a small number to the variance"
    print("adain: right.")


def check_orthogonal_penalty(penalty: Callable[[Tensor], Tensor]) -> None:
    """Exercise: the sum of squared inner products of different rows of W (m, n), over ordered pairs."""
    W = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = penalty(W)
    if unfinished(value, "orthogonal_penalty"):
        return
    assert value.ndim == 0, f"a scalar is wanted, not shape {tuple(value.shape)}"
    products = W @ W.T
    off = products - products.diagonal().diag()
    across = W.T @ W
    unit = W / W.norm(dim=1, keepdim=True)
    mistakes = {
        "the diagonal counts too: norms of filters must stay free": products.square().sum(),
        "that is ||W W^T - I||^2, the older form, which also drives all norms to 1": (
            (products - torch.eye(4)).square().sum()
        ),
        "that compares the columns (inputs); torch keeps filters in the rows: W W^T": (
            (across - across.diagonal().diag()).square().sum()
        ),
        "the square is missing: the squared Frobenius norm is wanted": off.square().sum().sqrt(),
        "inner products of both signs cancel: square them before summing": off.sum(),
        "each pair counts twice, as i j and as j i": 0.5 * off.square().sum(),
        "that is a mean: the Frobenius norm sums": off.square().sum() / 12,
        "also a mean: the Frobenius norm sums": off.square().mean(),
        "inner products of the filters as they are, not of normalised ones": (
            (unit @ unit.T - torch.eye(4)).square().sum()
        ),
    }
    for mistake, wrong in mistakes.items():
        assert not torch.allclose(value, wrong.to(value)), mistake
    right = off.square().sum()
    assert torch.allclose(value, right), f"it is {right:.4f} here, not {value.item():.4f}"
    print("orthogonal_penalty: right.")
