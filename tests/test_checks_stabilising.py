"""Notebook 03's checks accept the solution, reject typical mistakes by name, and are gentle with a stub."""

import pytest
import torch
from torch.nn.functional import instance_norm

from notebooks import checks

# --- solutions


def spectral_norm(W, u, n_steps):
    for _ in range(n_steps):
        v = W.T @ u
        v = v / v.norm()
        u = W @ v
        u = u / u.norm()
    return (u @ W @ v).item()


def gradient_penalty(D, real, fake, u):
    x = (u * real + (1 - u) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()


def adain(x, scale, bias):
    return scale[..., None, None] * instance_norm(x) + bias[..., None, None]


def orthogonal_penalty(W):
    products = W @ W.T
    return (products - products.diagonal().diag()).square().sum()


# --- typical mistakes


def unnormalised(W, u, n_steps):
    for _ in range(n_steps):
        v = W.T @ u
        u = W @ v
    return (u @ W @ v / (u.norm() * v.norm())).item()


def half_round(W, u, n_steps):
    for _ in range(n_steps):
        v = W.T @ u / (W.T @ u).norm()
        before, u = u / u.norm(), W @ v / (W @ v).norm()
    return before @ W @ v


def with_gradient(D, x, f, create_graph=True, reduce=torch.sum):
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(reduce(D(x)), x, create_graph=create_graph)
    return f(gradient)


def two_sided(gradient):
    return (gradient.norm(dim=1) - 1).square().mean()


def normalised(x, dims, eps=1e-5, correction=0):
    variance = x.var(dims, correction=correction, keepdim=True)
    return (x - x.mean(dims, keepdim=True)) / (variance + eps).sqrt()


def style(x, scale, bias):
    return scale[..., None, None] * x + bias[..., None, None]


def off(products):
    return products - products.diagonal().diag()


WRONG = {
    "spectral_norm": {
        "normalise u and v in every round": unnormalised,
        "square of it": lambda W, u, n: spectral_norm(W, u, n) ** 2,
        "Frobenius": lambda W, u, n: W.norm(),
        "smallest": lambda W, u, n: torch.linalg.svdvals(W)[-1],
        "largest entry": lambda W, u, n: W.abs().max(),
        "largest row sum": lambda W, u, n: torch.linalg.matrix_norm(W, float("inf")),
        "sum of all singular values": lambda W, u, n: torch.linalg.matrix_norm(W, "nuc"),
        "1 / sigma": lambda W, u, n: 1 / spectral_norm(W, u, n),
        "n_steps is not used": lambda W, u, n: torch.linalg.matrix_norm(W, 2),
        "half a round": half_round,
        "after 200 rounds": lambda W, u, n: spectral_norm(W, u, n) + 0.1,
        "after one round": lambda W, u, n: spectral_norm(W, u, n + 1),
    },
    "gradient_penalty": {
        "taken at real": lambda D, r, f, u: with_gradient(D, r, two_sided),
        "taken at fake": lambda D, r, f, u: with_gradient(D, f, two_sided),
        "weights are swapped": lambda D, r, f, u: gradient_penalty(D, f, r, u),
        "compared with 1": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, lambda g: g.square().sum(1).mean()
        ),
        "not its square": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, lambda g: (g.square().sum(1) - 1).square().mean()
        ),
        "one norm for the whole batch": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, lambda g: (g.norm() - 1).square()
        ),
        "take norms first": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, lambda g: (g.mean(0).norm() - 1).square()
        ),
        "n times too short": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, two_sided, reduce=torch.mean
        ),
        "one-sided": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, lambda g: (g.norm(dim=1) - 1).relu().square().mean()
        ),
        "square is missing": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, lambda g: (g.norm(dim=1) - 1).mean()
        ),
        "create_graph": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, two_sided, create_graph=False
        ),
        "its gradient in D's weights": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, lambda g: ((g.norm(dim=1) - 1) * (g.norm(dim=1) - 1).detach()).mean()
        ),
        "a scalar": lambda D, r, f, u: with_gradient(
            D, u * r + (1 - u) * f, lambda g: (g.norm(dim=1) - 1).square()
        ),
        "it is": lambda D, r, f, u: 10 * gradient_penalty(D, r, f, u),
    },
    "adain": {
        "batch normalisation": lambda x, s, b: style(normalised(x, (0, 2, 3)), s, b),
        "layer normalisation": lambda x, s, b: style(normalised(x, (1, 2, 3)), s, b),
        "not by the variance": lambda x, s, b: style(
            (x - x.mean((2, 3), keepdim=True)) / x.var((2, 3), correction=0, keepdim=True), s, b
        ),
        "correction=0": lambda x, s, b: style(normalised(x, (2, 3), correction=1), s, b),
        "bias is not used": lambda x, s, b: adain(x, s, 0 * b),
        "scale is not used": lambda x, s, b: adain(x, torch.ones_like(s), b),
        "swapped": lambda x, s, b: adain(x, b, s),
        "before normalising": lambda x, s, b: instance_norm(style(x, s, b)),
        "x itself is scaled": style,
        "differs": lambda x, s, b: adain(x, s, b) + 0.1,
        "0/0": lambda x, s, b: style(normalised(x, (2, 3), eps=0.0), s, b),
        "shape must stay": lambda x, s, b: adain(x, s, b).mean((2, 3)),
    },
    "orthogonal_penalty": {
        "diagonal counts too": lambda W: (W @ W.T).square().sum(),
        "older form": lambda W: (W @ W.T - torch.eye(len(W))).square().sum(),
        "columns": lambda W: off(W.T @ W).square().sum(),
        "squared Frobenius norm is wanted": lambda W: off(W @ W.T).norm(),
        "cancel": lambda W: off(W @ W.T).sum(),
        "counts twice": lambda W: (W @ W.T).triu(1).square().sum(),
        "that is a mean": lambda W: orthogonal_penalty(W) / (len(W) * (len(W) - 1)),
        "also a mean": lambda W: off(W @ W.T).square().mean(),
        "normalised ones": lambda W: orthogonal_penalty(W / W.norm(dim=1, keepdim=True)),
        "a scalar": lambda W: off(W @ W.T).square(),
        "it is": lambda W: 1e-4 * orthogonal_penalty(W),
    },
}
SOLUTIONS = {
    "spectral_norm": spectral_norm,
    "gradient_penalty": gradient_penalty,
    "adain": adain,
    "orthogonal_penalty": orthogonal_penalty,
}


def check(name, answer):
    getattr(checks, f"check_{name}")(answer)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solution_passes(name, capsys):
    check(name, SOLUTIONS[name])
    assert capsys.readouterr().out == f"{name}: right.\n"


@pytest.mark.parametrize(("name", "mistake"), [(name, m) for name in WRONG for m in WRONG[name]])
def test_mistake_is_named(name, mistake):
    with pytest.raises(AssertionError, match=mistake):
        check(name, WRONG[name][mistake])


@pytest.mark.parametrize("name", SOLUTIONS)
def test_an_empty_stub_is_told_so(name, capsys):
    check(name, lambda *arguments: None)
    assert "nothing returned yet" in capsys.readouterr().out
