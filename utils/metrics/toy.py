"""How close points are to a known target: modes, quality, balance, distances between samples, divergences.

Quality, modes and balance look at samples against the target's geometry; the distances and the test look
at whole distributions. Report both halves: a sampler can clean every point and still ruin the balance.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from utils.toy import GaussianMixture, SwissRoll, distance_to_mode

Target = GaussianMixture | SwissRoll

HIGH_QUALITY = 4.0  # std, the convention of Azadi et al. (2019) and Che et al. (2020)
ROLL_BINS = 25  # stretches of the swiss roll that count as modes


def _points(x: Tensor, dim: int | None = None, name: str = "x") -> Tensor:
    """x (n, dim) as float32 or float64."""
    if x.ndim != 2 or x.shape[1] != (dim or x.shape[1]) or len(x) == 0 or x.is_complex():
        found = f"shape {tuple(x.shape)}; give points of shape (n, {dim or 'dim'}) with n >= 1"
        raise ValueError(f"{name} has {found}, real numbers (type {x.dtype})")
    if not x.isfinite().all():
        raise ValueError(f"{name} is not finite in {int((~x.isfinite()).any(1).sum())} of {len(x)} rows")
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class Assignment(NamedTuple):
    """What each point belongs to."""

    distance: Tensor  # (n,), to its mode or to the roll, in units of the target's std
    mode: Tensor  # (n,), index of the mode
    weights: Tensor  # (k,), the target's probability of each mode


def assign(x: Tensor, target: Target) -> Assignment:
    """The nearest mode of each point x (n, dim), and its distance from it in units of `target.std`.

    A mixture's modes are its means. The swiss roll is one curve: its distance is to the nearest point of the
    curve, and its modes are `ROLL_BINS` stretches of equal length in t, thus of equal probability. Raises
    ValueError for x that is empty, of another dimension than the target, or not finite.
    """
    x = _points(x, target.dim)
    if isinstance(target, GaussianMixture):
        return Assignment(*distance_to_mode(x, target), target.weights.to(x))
    distance, t = distance_to_roll(x, target)
    mode = ((t / math.pi - 1.5) / 3 * ROLL_BINS).long().clamp(0, ROLL_BINS - 1)
    return Assignment(distance, mode, x.new_full((ROLL_BINS,), 1 / ROLL_BINS))


def distance_to_roll(x: Tensor, roll: SwissRoll) -> tuple[Tensor, Tensor]:
    """Distance of x (n, 2) to the noiseless roll, in units of `roll.std`, and its nearest t; both (n,)."""
    ts = 1.5 * math.pi * (1 + 2 * torch.linspace(0, 1, 1000)).to(x)
    nodes = roll.curve(ts)
    found = []
    for part in x.split(2000):
        distance, nearest = torch.cdist(part, nodes).min(1)
        t = ts[nearest]
        for _ in range(4):  # Gauss-Newton steps along the curve from the nearest node
            tangent = torch.stack([t.cos() - t * t.sin(), t.sin() + t * t.cos()], 1) / roll.scale
            step = ((part - roll.curve(t)) * tangent).sum(1) / tangent.square().sum(1)
            t = (t + step).clamp(ts[0], ts[-1])
        refined = (part - roll.curve(t)).norm(dim=1)
        better = refined < distance  # far from the roll the steps need not converge
        found.append((torch.where(better, refined, distance), torch.where(better, t, ts[nearest])))
    distances, ts_found = (torch.cat(parts) for parts in zip(*found, strict=True))
    return distances / roll.std, ts_found


def high_quality_share(x: Tensor, target: Target) -> float:
    """Share of points within 4 std of the nearest mode (of the roll, for the swiss roll).

    Exact samples have 1 - exp(-8) = 0.9997 for Gaussians in the plane, not 1.
    """
    return (assign(x, target).distance <= HIGH_QUALITY).double().mean().item()


def modes_recovered(x: Tensor, target: Target) -> int:
    """Number of modes that are nearest to at least one high-quality point (Azadi et al., 2019).

    It grows with n: with enough points even a poor sampler hits every mode once. Give n beside it.
    """
    distance, mode, _ = assign(x, target)
    return len(mode[distance <= HIGH_QUALITY].unique())


def std_within_modes(x: Tensor, target: Target) -> float:
    """Root mean square offset per coordinate of the high-quality points from their mode, over the true std.

    Offsets are from the mode's true mean, so that a misplaced cluster counts as wide; for the swiss roll only
    the distance across it counts. NaN if no point is of high quality. For exact samples in the plane it is
    0.9987: the high-quality ball cuts the tails.
    """
    distance, _, _ = assign(x, target)
    across = target.dim if isinstance(target, GaussianMixture) else 1  # coordinates that carry the noise
    return (distance[distance <= HIGH_QUALITY].double().square().mean() / across).sqrt().item()


def mode_balance(x: Tensor, target: Target) -> float:
    """KL(h || w) in nats of the histogram h of the high-quality points' modes to the target's weights w.

    0 is perfect. A mode left out costs no infinity: all points on one of k equal modes give log k. Exact
    samples of n points have about (k - 1) / (2 n). NaN if no point is of high quality.
    """
    distance, mode, weights = assign(x, target)
    counts = torch.bincount(mode[distance <= HIGH_QUALITY], minlength=len(weights)).double()
    shares = counts / counts.sum()
    return (torch.xlogy(shares, shares) - torch.xlogy(shares, weights.double())).sum().item()


def summary(x: Tensor, target: Target, reference: Tensor | None = None) -> dict[str, float]:
    """A table's row: all of the above; with a sample of the target as `reference`, the energy distance."""
    row = {
        "n": len(x),
        "high_quality_share": high_quality_share(x, target),
        "modes_recovered": modes_recovered(x, target),
        "std_within_modes": std_within_modes(x, target),
        "mode_balance": mode_balance(x, target),
    }
    return row if reference is None else row | {"energy_distance": energy_distance(x, reference)}


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x (n, dim) and y (m, dim) in float64."""
    y = _points(y, name="y").double()
    return _points(x, y.shape[1]).double(), y


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| between samples x (n, dim) and y (m, dim) (Székely and Rizzo, 2013).

    All pairs count, a point with itself too: then it is never negative, 0 only for equal samples, and about
    (1/n + 1/m) E|X - X'| for samples of one law. In one dimension it is the square of
    `scipy.stats.energy_distance`, which takes the root. In the units of x.
    """
    x, y = _pair(x, y)

    def mean(a: Tensor, b: Tensor) -> float:  # of all distances, a block of rows at a time
        return sum(torch.cdist(part, b).sum().item() for part in a.split(1000)) / (len(a) * len(b))

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def permutation_test(x: Tensor, y: Tensor, generator: torch.Generator, n_permutations: int = 999) -> float:
    """p-value of the hypothesis that x (n, dim) and y (m, dim) are samples of one law, by `energy_distance`.

    The labels of the pooled points are permuted; p = (1 + number of permutations with a statistic at least
    as large) / (1 + n_permutations), so the level is exact for any n, if the points are independent. States
    of one chain are not; last states of separate chains are. Memory is of order (n + m)^2.
    """
    x, y = _pair(x, y)
    if n_permutations < 1:
        raise ValueError(f"n_permutations={n_permutations} must be at least 1")
    pooled, n, m = torch.cat([x, y]), len(x), len(y)
    pairs = torch.cdist(pooled, pooled)
    ranks = torch.rand(n_permutations, n + m, generator=generator, device=generator.device).argsort(1)
    order = torch.cat([torch.arange(n + m)[None], ranks.cpu()]).to(x.device)  # first row: as observed
    label = (order < n).double()  # (1 + n_permutations, n + m): 1 for the n points that play x
    within_x = ((label @ pairs) * label).sum(1)
    from_x = label @ pairs.sum(1)  # from the points that play x to all
    within_y = pairs.sum() - 2 * from_x + within_x
    values = 2 * (from_x - within_x) / (n * m) - within_x / n**2 - within_y / m**2
    reached = values[1:] >= values[0] - 1e-12  # a permutation that changes nothing may differ by rounding
    return (1 + int(reached.sum())) / (1 + n_permutations)


class Divergences(NamedTuple):
    """Divergences of p from q."""

    kl: float  # KL(p || q), in nats
    total_variation: float  # half the integral of |p - q|, between 0 and 1


def divergences_on_grid(log_p: Tensor, log_q: Tensor, cell: float, normalise: bool = False) -> Divergences:
    """Divergences of two densities by the midpoint rule, e.g. at the centres from `plotting.grid_points`.

    `log_p` and `log_q` (m,) are in nats, at the centres of cells of volume `cell`, whose side is well below
    the narrowest std; `normalise` gives both mass 1 on the grid, for densities known up to a constant.
    Raises ValueError for shapes that differ, NaN, or a mass on the grid that is not within 1 % of 1.
    """
    if log_p.shape != log_q.shape or log_p.ndim != 1:
        raise ValueError(f"log_p {tuple(log_p.shape)} and log_q {tuple(log_q.shape)} must both be (m,)")
    if not cell > 0:
        raise ValueError(f"cell={cell} must be positive")
    logs = []
    for name, values in {"log_p": log_p, "log_q": log_q}.items():
        if values.isnan().any():
            raise ValueError(f"{name} is NaN at {int(values.isnan().sum())} points")
        log_mass = torch.logsumexp(values.double(), 0) + math.log(cell)
        if not normalise and not abs(log_mass.exp() - 1) < 0.01:
            found = f"{name} has mass {log_mass.exp():.4f} on the grid"
            raise ValueError(f"{found}; take a wider or finer grid, or normalise=True")
        logs.append(values.double() - (log_mass if normalise else 0))
    log_p, log_q = logs
    p, q = log_p.exp(), log_q.exp()
    kl = torch.where(p > 0, p * (log_p - log_q), 0.0).sum().item() * cell
    return Divergences(kl, 0.5 * (p - q).abs().sum().item() * cell)


def value_on_grid(d: Tensor, log_p_d: Tensor, log_p_g: Tensor, spacing: float) -> float:
    """V(D) = E_pd log D + E_pg log(1 - D) in nats, by the sum over an even grid; all tensors (n,)."""
    softplus = torch.nn.functional.softplus
    return -(log_p_d.exp() * softplus(-d) + log_p_g.exp() * softplus(d)).sum().item() * spacing
