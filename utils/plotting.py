"""One style for all figures, fixed colour roles, image grids and strips."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from torch import Tensor

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
    plt.rcParams.update(
        {
            "figure.dpi": 90,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "image.interpolation": "nearest",
            "legend.frameon": False,
        }
    )


def to_pixels(images: Tensor) -> np.ndarray:
    """Float images (n, 3, h, w) in [-1, 1] -> uint8 array (n, h, w, 3)."""
    pixels = images.detach().float().add(1).mul(127.5).round().clamp(0, 255)
    return pixels.byte().permute(0, 2, 3, 1).cpu().numpy()


def image_grid(images: Tensor, columns: int = 8, pad: int = 1, zoom: int = 1) -> np.ndarray:
    """Tile float images (n, 3, h, w) in [-1, 1], row by row, into one uint8 array (H, W, 3)."""
    pixels = to_pixels(images)
    n, h, w, _ = pixels.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (h + pad) + pad, columns * (w + pad) + pad, 3), 255, np.uint8)
    for i, tile in enumerate(pixels):
        top, left = pad + (i // columns) * (h + pad), pad + (i % columns) * (w + pad)
        canvas[top : top + h, left : left + w] = tile
    return canvas.repeat(zoom, 0).repeat(zoom, 1)


def save_image_grid(images: Tensor, path: Path, columns: int = 8, zoom: int = 2) -> None:
    """Write an image grid as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_grid(images, columns, zoom=zoom)).save(path)


def show_grid(ax: plt.Axes, images: Tensor, columns: int = 8, title: str = "") -> None:
    """Draw an image grid into `ax` without axes."""
    ax.imshow(image_grid(images, columns))
    ax.set_title(title)
    ax.set_axis_off()
