"""Checks of notebook 09."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from notebooks.checks.common import unfinished


def _close(value: float, wanted: float) -> bool:
    return math.isclose(float(value), float(wanted), rel_tol=1e-4, abs_tol=1e-8)


def check_frechet_diagonal(distance: Callable[[Tensor, Tensor, Tensor, Tensor], float]) -> None:
    """Exercise: squared Fréchet distance of two Gaussians with diagonal covariances, given as variances."""
    means = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 1.0, -1.0])
    variances = torch.tensor([1.0, 4.0, 0.25]), torch.tensor([2.25, 1.0, 0.0])
    value = distance(means[0], variances[0], means[1], variances[1])
    if unfinished(value, "distance"):
        return
    shift = (means[0] - means[1]).square().sum().item()
    spread = (variances[0].sqrt() - variances[1].sqrt()).square().sum().item()
    product = (variances[0] + variances[1] - 2 * variances[0] * variances[1]).sum().item()
    mistakes = {
        "the variances are used as if they were standard deviations": shift
        + (variances[0] - variances[1]).square().sum().item(),
        "the square root of the product of the variances is missing": shift + product,
        "the means are missing": spread,
        "the covariance term is missing": shift,
        "return the squared distance, not its root": math.sqrt(shift + spread),
        "the overlap counts twice: - 2 sqrt(a b)": shift
        + (variances[0] + variances[1] - (variances[0] * variances[1]).sqrt()).sum().item(),
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake
    assert _close(value, shift + spread), "the distance differs from |m - m'|^2 + sum (s - s')^2"
    print("distance: right.")


def check_inception_score(score: Callable[[Tensor], float]) -> None:
    """Exercise: exp E_x KL(p(y|x) || p(y)) of posteriors (n, k), all rows as one part."""
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]).double()
    value = score(p)
    if unfinished(value, "score"):
        return
    marginal = p.mean(0)  # (3,)
    information = (torch.special.entr(marginal).sum() - torch.special.entr(p).sum(1).mean()).item()
    assert not math.isnan(float(value)), "0 log 0 is 0: torch.special.entr(p) = -p log p knows it"
    kept = p[:3]
    reverse = (marginal * (marginal / p.clamp(min=1e-12)).log()).sum(1).mean().exp().item()
    mistakes = {
        "the exponential is missing": information,
        "2 ** applied to nats, or e ** to bits: use one base": 2**information,
        "2 ** applied to nats, or e ** to bits: use one base ": math.exp(information / math.log(2)),
        "exp of the marginal entropy alone: subtract the mean entropy of the rows": math.exp(
            torch.special.entr(marginal).sum().item()
        ),
        "the divergence is the wrong way round: KL(p(y|x) || p(y))": reverse,
        "the sign of the divergence is wrong": math.exp(-information),
        "rows with zeros count too": math.exp(
            (torch.special.entr(kept.mean(0)).sum() - torch.special.entr(kept).sum(1).mean()).item()
        ),
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake.strip()
    assert _close(value, math.exp(information)), "the score differs from exp of the mean divergence"
    print("score: right.")


def check_extrapolation(extrapolate: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise: the limit for n to infinity of distances F(n) = F_inf + c / n, by least squares on 1/n."""
    sizes = torch.tensor([100.0, 200.0, 500.0, 2000.0], dtype=torch.float64)
    noise = torch.tensor([0.02, -0.03, 0.01, 0.015], dtype=torch.float64)
    values = 7.0 + 300.0 / sizes + noise
    value = extrapolate(sizes, values)
    if unfinished(value, "extrapolation"):
        return

    def line(x: Tensor) -> Tensor:
        design = torch.stack([torch.ones_like(x), x], dim=1)  # (4, 2)
        return torch.linalg.lstsq(design, values[:, None]).solution[:, 0]  # intercept, slope

    right, slope = line(1 / sizes).tolist()
    mistakes = {
        "regress on 1/n, not on n": line(sizes)[0],
        "regress on 1/n, not on n: in n the line has no value at infinity": line(sizes)[1],
        "regress on 1/n, not on its root": line(sizes.rsqrt())[0],
        "that is the slope; the limit is the intercept": slope,
        "that is the value at the largest n: it still holds the bias": values[-1],
        "that is the mean of the values: it still holds the bias": values.mean(),
        "that is the prediction at n = 1, not at 1/n = 0": right + slope,
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake
    assert _close(value, right), "the value differs from the intercept of the least squares line in 1/n"
    print("extrapolation: right.")


def check_precision(precision: Callable[[Tensor, Tensor, int], float]) -> None:
    """Exercise: share of fake (m, d) inside any ball of a real point (n, d) up to its k-th neighbour."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    fake = 1.0 + torch.randn(50, 2, generator=generator, dtype=torch.float64)
    value = precision(real, fake, 3)
    if unfinished(value, "precision"):
        return

    def share(points: Tensor, centres: Tensor, k: int) -> float:
        radii = torch.cdist(centres, centres).sort(dim=1).values[:, k]  # column 0 is the point itself
        return (torch.cdist(points, centres) <= radii).any(dim=1).double().mean().item()

    nearest = torch.cdist(fake, real).argmin(dim=1)
    own = torch.cdist(real, real).sort(dim=1).values[:, 3][nearest]
    mistakes = {
        "that is the recall: the balls belong round the real points": share(real, fake, 3),
        "a point is its own nearest neighbour at distance 0: take entry k + 1": share(fake, real, 2),
        "one neighbour too many: the k-th neighbour is entry k + 1, the point entry 1": share(fake, real, 4),
        "look at every ball, not at that of the nearest real point alone": (
            (torch.cdist(fake, real).amin(dim=1) <= own).double().mean().item()
        ),
        "that is a number of points, not a share": share(fake, real, 3) * len(fake),
    }
    for mistake, wrong in mistakes.items():
        assert not _close(value, wrong), mistake
    assert _close(value, share(fake, real, 3)), "the share differs: fake points in the union of real balls"
    print("precision: right.")
