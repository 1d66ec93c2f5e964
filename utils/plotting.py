"""One style for all figures, fixed colour roles, image grids, maps of the plane."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from utils.images import to_uint8

# Colour roles: the same thing has the same colour in every notebook (Okabe and Ito's safe palette).
COLOURS = {
    "data": "#0072B2",
    "generator": "#E69F00",
    "sampler": "#009E73",
    "chain": "#CC79A7",
    "wrong": "#D55E00",
}


def use_style() -> None:
    """Set matplotlib's defaults for the course: legible, small files, no top and right spines."""
    plt.rc("figure", dpi=90, **{"constrained_layout.use": True})
    plt.rc("savefig", bbox="tight")
    plt.rc("font", size=10)
    plt.rc("axes", grid=True, **{"spines.top": False, "spines.right": False})
    plt.rc("grid", alpha=0.25)
    plt.rc("image", interpolation="nearest")
    plt.rc("legend", frameon=False)


def image_grid(images: Tensor, columns: int = 8, pad: int = 1, zoom: int = 1) -> np.ndarray:
    """Tile float images (n, 3 or 1, h, w) in [-1, 1], row by row, into one uint8 array (H, W, 3)."""
    from torchvision.utils import make_grid  # the plane needs no torchvision

    grid = make_grid(to_uint8(images), columns, pad, pad_value=255).permute(1, 2, 0)
    return grid.cpu().numpy().repeat(zoom, 0).repeat(zoom, 1)


def show_grid(ax: plt.Axes, images: Tensor, columns: int = 8, title: str = "") -> None:
    """Draw an image grid into `ax` without axes."""
    ax.imshow(image_grid(images, columns))
    ax.set_title(title)
    ax.set_axis_off()


def grid_points(extent: float, n: int = 200) -> Tensor:
    """Centres of n x n cells that tile the square [-extent, extent]^2, (n * n, 2), row by row from below."""
    line = extent * ((2 * torch.arange(n) + 1) / n - 1)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


@torch.no_grad()
def show_function(
    ax: plt.Axes, f: Callable[[Tensor], Tensor], extent: float, n: int = 160, colour_bar: str = "", **image
) -> None:
    """Draw f: (m, 2) -> (m,) as a map over [-extent, extent]^2; a `colour_bar` label adds a bar."""
    values = f(grid_points(extent, n)).view(n, n).cpu()
    square = (-extent, extent, -extent, extent)
    picture = ax.imshow(values, **{"origin": "lower", "extent": square, "cmap": "cividis"} | image)
    ax.grid(False)
    if colour_bar:
        ax.figure.colorbar(picture, ax=ax, label=colour_bar, shrink=0.85)


def show_density(ax: plt.Axes, log_prob: Callable[[Tensor], Tensor], extent: float, **image) -> None:
    """Draw exp(log_prob) as a pale grey map, made to lie under points."""
    style = {"cmap": "Greys", "alpha": 0.7} | image
    show_function(ax, lambda x: log_prob(x).exp(), extent, **style)


def show_points(
    ax: plt.Axes, x: Tensor, role: str, extent: float | None = None, title: str = "", n_most: int = 2000
) -> None:
    """Scatter the first `n_most` points of x (n, 2) in the colour of `role`, on equal axes."""
    x = x[:n_most].detach().cpu()
    ax.plot(x[:, 0], x[:, 1], ".", ms=3, alpha=0.6, mew=0, color=COLOURS[role], rasterized=True)
    ax.set_aspect("equal")
    if extent:
        ax.set(xlim=(-extent, extent), ylim=(-extent, extent))
    ax.set_title(title)
