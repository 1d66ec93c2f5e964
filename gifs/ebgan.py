"""An animation for notebook 05: the energy of EBGAN's discriminator while it learns a ring of Gaussians."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from utils.animation import write_animation
from utils.models.autoencoder import AutoencoderEnergy
from utils.models.mlp import MLPGenerator
from utils.plotting import COLOURS, grid_points
from utils.toy import gaussian_ring
from utils.training import TrainConfig, train_gan

EXTENT, CELLS = 3.2, 100


def energy_frames(
    real: Tensor, highest: float, size: int = 296
) -> Callable[[str, Tensor, Tensor], np.ndarray]:
    """A function that draws one frame (H, W, 3) from a title, energies of the grid and samples (n, 2).

    The figure is laid out once and changed from frame to frame, which is several times faster. Dark is low
    energy, as everywhere; the colours end at `highest`; `size` is the height in pixels.
    """
    figure = Figure(figsize=(4.6, 3.7), dpi=size / 3.7, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    ax = figure.subplots()
    picture = ax.imshow(
        np.zeros((CELLS, CELLS)), origin="lower", extent=(-EXTENT, EXTENT, -EXTENT, EXTENT), cmap="cividis",
        vmin=0, vmax=highest,
    )  # fmt: skip
    figure.colorbar(picture, ax=ax, label="energy U(x), in the units of x", shrink=0.9)
    ax.plot(real[:, 0], real[:, 1], "x", ms=4, color="white", label="data")
    (points,) = ax.plot([], [], ".", ms=4, mew=0, color=COLOURS["generator"], label="samples")
    ax.legend(
        loc="upper right", fontsize=8, facecolor="0.3", labelcolor="white", frameon=True, markerscale=1.5
    )
    ax.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), title="generator step")
    ax.grid(False)
    canvas.draw()
    figure.set_layout_engine("none")

    def draw(title: str, energies: Tensor, samples: Tensor) -> np.ndarray:
        picture.set_data(energies.view(CELLS, CELLS).numpy())
        points.set_data(*samples.T.numpy())
        ax.set_title(title, fontsize=10)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    return draw


def ebgan_energy(
    folder: Path,
    n_frames: int = 40,
    n_steps: int = 1500,
    seed: int = 2,
    size: int = 296,
    extension: str = "gif",
) -> Path:
    """The energy surface of EBGAN's D on the ring during training, with real points and samples.

    Trains from scratch; writes at most `n_frames` frames to `ebgan_energy.<extension>` in `folder`, and
    returns its path.
    """
    if not 2 <= n_frames <= n_steps:
        raise ValueError(f"n_frames={n_frames} must lie between 2 and n_steps={n_steps}")
    ring, margin = gaussian_ring(n_modes=8, radius=2.0, std=0.1), 0.5
    torch.manual_seed(seed)
    G, D = MLPGenerator(2, 64, 3, (2,)), AutoencoderEnergy(64, 2, data_shape=(2,))
    config = TrainConfig(
        loss="ebgan", margin=margin, n_steps=n_steps, batch_size=128, lr_g=1e-3, lr_d=1e-3, betas=(0.5, 0.9),
        decay_from=0.6, ema_decay=0.99, seed=seed, save_every=math.ceil(n_steps / (n_frames - 1)),
    )  # fmt: skip
    grid, z = grid_points(EXTENT, CELLS), torch.randn(400, 2, generator=torch.Generator().manual_seed(100))
    draw = energy_frames(ring.sample(80, torch.Generator().manual_seed(seed)), 2 * margin, size)
    frames = []

    @torch.no_grad()
    def keep(step: int, G_ema: nn.Module) -> None:
        frames.append(draw(f"generator step {step}", D(grid), G_ema(z)))

    keep(0, G)
    train_gan(G, D, ring.sample, config, on_save=keep, progress=False)
    return write_animation(frames, folder / f"ebgan_energy.{extension}", milliseconds=160, colours=128)
