"""An animation for notebook 05: the energy of EBGAN's discriminator while it learns a ring of Gaussians."""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from utils.animation import write_gif
from utils.plotting import COLOURS, show_function, show_points
from utils.recipes.ebgan_study import RING, Setting, build, config_of, draw_samples, ring_setting
from utils.training import TrainConfig, train_gan

EXTENT = 3.2


def energy_frame(title: str, D: nn.Module, real: Tensor, samples: Tensor, margin: float) -> np.ndarray:
    """The energy over the plane with data and samples on it, as a uint8 array (H, W, 3)."""
    figure = Figure(figsize=(4.6, 3.8), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    ax = figure.subplots()
    label = "energy U(x), in the units of x"
    show_function(ax, D, EXTENT, n=100, colour_bar=label, vmin=0, vmax=2 * margin)
    show_points(ax, samples, "generator", EXTENT)
    ax.plot(real[:, 0], real[:, 1], "x", ms=4, color="white")
    ax.plot([], [], "x", color="white", label="data")
    ax.plot([], [], "o", ms=4, color=COLOURS["generator"], label="samples")
    ax.legend(loc="upper right", fontsize=8, labelcolor="white")
    ax.set_title(title, fontsize=10)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def config_with_saves(setting: Setting, every: int) -> TrainConfig:
    """The setting's configuration, with a snapshot every `every` steps."""
    return TrainConfig(**(vars(config_of(setting)) | {"save_every": every}))


def ebgan_energy(folder: Path, n_frames: int = 40, n_steps: int = 1500, seed: int = 1) -> Path:
    """The energy surface of EBGAN's D on the ring during training, with real points and samples.

    Trains from scratch, writes `ebgan_energy.gif` with at most `n_frames` frames into `folder`, returns its path.
    Bright is high energy. The colours end at twice the margin.
    """
    if not 2 <= n_frames <= n_steps:
        raise ValueError(f"n_frames={n_frames} must lie between 2 and n_steps={n_steps}")
    setting = ring_setting(seed=seed, n_steps=n_steps)
    G, D = build(setting)
    real = RING.sample(80, torch.Generator().manual_seed(seed))
    frames = []

    def draw(step: int, G_ema: nn.Module) -> None:
        x = draw_samples(G_ema, 400)
        frames.append(energy_frame(f"generator step {step}", D, real, x, setting.margins[0]))

    draw(0, G)
    config = config_with_saves(setting, every=math.ceil(n_steps / (n_frames - 1)))
    train_gan(G, D, RING.sample, config, on_save=draw, progress=False)
    return write_gif(frames, folder / "ebgan_energy.gif", milliseconds=160, colours=64)
