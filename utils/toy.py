"""Small targets with an exact log-density, to compare everything else with: mixtures, ring, swiss roll.

Each target has `sample(n, generator) -> (n, dim)`, which is also what training and fitting take as
`draw_real`, and `log_prob(x) -> (n,)` in nats. Scales are in the units of x. Introduced in notebook 01.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn


@dataclass(frozen=True)
class GaussianMixture:
    """Isotropic Gaussians with one `std` at `means` (k, dim), with `weights` (k,) that sum to 1."""

    name: str
    means: Tensor
    std: float
    weights: Tensor = None

    def __post_init__(self) -> None:
        if self.means.ndim != 2:
            raise ValueError(f"means has shape {tuple(self.means.shape)}; give (k, dim)")
        if not self.std > 0:
            raise ValueError(f"std={self.std} must be positive")
        k = len(self.means)
        weights = torch.full((k,), 1 / k) if self.weights is None else self.weights
        if weights.shape != self.means.shape[:1] or (weights < 0).any() or abs(weights.sum() - 1) > 1e-5:
            raise ValueError(f"weights={weights.tolist()} must be {k} shares that sum to 1")
        object.__setattr__(self, "weights", weights)

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent draws, (n, dim)."""
        picked = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.means[picked] + self.std * torch.randn(n, self.dim, generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (n, dim) -> (n,)."""
        squares = (x[:, None, :] - self.means.to(x)).square().sum(2)  # (n, k)
        normaliser = self.dim * math.log(self.std * math.sqrt(2 * math.pi))
        terms = self.weights.to(x).log() - 0.5 * squares / self.std**2 - normaliser
        return torch.logsumexp(terms, 1)


def gaussian_grid(side: int = 5, spacing: float = 1.0, std: float = 0.1) -> GaussianMixture:
    """side x side Gaussians around the origin; 25 of them are the GAN literature's favourite.

    Spacing 1 and std 0.1 fit the std column of Table 1 of Che et al. (2020); others take std 0.05 at spacing
    1 or 2. Results depend on std / spacing.
    """
    line = spacing * (torch.arange(side) - (side - 1) / 2)
    return GaussianMixture(f"{side * side} Gaussians", torch.cartesian_prod(line, line), std)


def gaussian_ring(n_modes: int = 8, radius: float = 2.0, std: float = 0.05) -> GaussianMixture:
    """Gaussians at equal angles on a circle around the origin."""
    angles = 2 * math.pi * torch.arange(n_modes) / n_modes
    means = radius * torch.stack([angles.cos(), angles.sin()], 1)
    return GaussianMixture(f"ring of {n_modes}", means, std)


def mixture_1d(means=(-2.0, 0.0, 2.0), std: float = 0.3, weights=None) -> GaussianMixture:
    """Gaussians on the line, x of shape (n, 1)."""
    means = torch.tensor(means, dtype=torch.float32)[:, None]
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    return GaussianMixture(f"{len(means)} Gaussians in 1-D", means, std, weights)


@dataclass(frozen=True)
class SwissRoll:
    """scikit-learn's swiss roll, axes 0 and 2, divided by `scale`: (t cos t, t sin t) plus Gaussian noise.

    t is uniform on [1.5 pi, 4.5 pi]. With the literature's noise and scale the roll has a thickness (`std`)
    of 1/30 and reaches out to about 1.9; the density, an integral over t by Gauss-Legendre quadrature, then
    has an error below 1e-6 nats in float64.
    """

    name: str = "swiss roll"
    noise: float = 0.25
    scale: float = 7.5
    n_nodes: int = 1000
    dim: int = field(default=2, init=False)

    @property
    def std(self) -> float:
        """Standard deviation across the roll, in the units of x."""
        return self.noise / self.scale

    def curve(self, t: Tensor) -> Tensor:
        """Points of the noiseless roll, (n,) -> (n, 2)."""
        return torch.stack([t * t.cos(), t * t.sin()], 1) / self.scale

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent draws, (n, 2)."""
        t = 1.5 * math.pi * (1 + 2 * torch.rand(n, generator=generator))
        return self.curve(t) + self.std * torch.randn(n, 2, generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (n, 2) -> (n,)."""
        u, weights = (torch.from_numpy(a).to(x) for a in leggauss(self.n_nodes))  # u in [-1, 1]
        nodes = self.curve(math.pi * (3 + 1.5 * u))  # (n_nodes, 2)
        normaliser = 2 * math.log(self.std * math.sqrt(2 * math.pi))
        log_weights = (weights / 2).log() - normaliser  # (n_nodes,)

        def part(x: Tensor) -> Tensor:
            squares = (x[:, None, :] - nodes).square().sum(2)  # (n, n_nodes)
            return torch.logsumexp(log_weights - 0.5 * squares / self.std**2, 1)

        return torch.cat([part(rows) for rows in x.split(4096)])  # bounds memory


def distance_to_mode(x: Tensor, target: GaussianMixture) -> tuple[Tensor, Tensor]:
    """Distance of x (n, dim) to the nearest mean, in units of `target.std`, and its index; both (n,)."""
    distances, nearest = torch.cdist(x, target.means.to(x)).min(1)
    return distances / target.std, nearest


TARGETS: dict[str, GaussianMixture | SwissRoll] = {"25-gaussians": gaussian_grid(), "swiss-roll": SwissRoll()}


class GridLogit(nn.Module):
    """d(x) = log p_d(x) - log p_g(x) in the plane, with p_g from very many samples: nearly the exact ratio.

    The samples are counted on n x n cells of [-extent, extent]^2, the counts smoothed by a Gaussian of
    `bandwidth`, and log p_g is interpolated by cubics: d has a continuous gradient, and an error of order
    bandwidth^2 plus the counts' noise. Where p_g is below one sample a cell, it is held there.
    """

    def __init__(
        self,
        log_prob: Callable[[Tensor], Tensor],
        draw_fake: Callable[[int, torch.Generator], Tensor],
        generator: torch.Generator,
        *,
        n_samples: int = 4_000_000,
        extent: float = 4.0,
        n: int = 800,
        bandwidth: float = 0.02,
    ):
        from scipy.ndimage import gaussian_filter  # here, since it takes seconds

        super().__init__()
        self.log_prob, self.extent = log_prob, extent
        counts, side, chunk = torch.zeros(n * n), 2 * extent / n, 500_000
        for start in range(0, n_samples, chunk):
            x = draw_fake(min(chunk, n_samples - start), generator).cpu()
            cell = ((x / extent + 1) * (n / 2)).floor().long()  # (m, 2): column, row
            inside = ((cell >= 0) & (cell < n)).all(1)
            counts += torch.bincount(cell[inside, 1] * n + cell[inside, 0], minlength=n * n)
        density = gaussian_filter(counts.view(n, n).numpy(), bandwidth / side, mode="constant")
        one = gaussian_filter(np.eye(1, 2 * n - 1, n - 1)[0], bandwidth / side)  # what a single sample makes
        log_counts = torch.from_numpy(density).clamp_min(one.max() ** 2).log()
        log_density = log_counts - math.log(n_samples * side**2)
        self.register_buffer("log_density", log_density[None, None])  # (1, 1, n, n)

    def log_p_g(self, x: Tensor) -> Tensor:
        """log p_g(x), (m, 2) -> (m,)."""
        where = (x / self.extent).view(1, 1, -1, 2)  # cell centres map to pixel centres
        grid, settings = self.log_density, {"mode": "bicubic", "padding_mode": "border"}
        return F.grid_sample(grid, where.to(grid), align_corners=False, **settings).view(-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.log_prob(x) - self.log_p_g(x)
