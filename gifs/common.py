"""What scenes share: chains of an image GAN, and chains of a GAN of the plane."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor, nn

from utils.animation import (
    animate_chains,
    draw_points,
    follow,
    frame_steps,
    side_by_side,
    with_caption,
    write_animation,
)
from utils.energy import latent_energy
from utils.metrics.toy import high_quality_share
from utils.plotting import COLOURS, grid_points
from utils.samplers import ula
from utils.toy import TARGETS
from utils.zoo import load_gan, load_logit, load_toy_gan, refit

DATA_EXTENT, LATENT_EXTENT, SIDE = 2.75, 3.5, 330  # of the two panels of 2-D chains


def image_chains(
    folder: Path,
    checkpoint: str,
    name: str,
    *,
    step_sizes: tuple[float, ...],
    logit: str | None,
    n_chains: int,
    n_steps: int,
    n_frames: int,
    size: int,
    seed: int,
    extension: str,
) -> Path:
    """The same starts under a gentle, a good and an extreme step size, side by side, from any image GAN."""
    G, d = load_gan(checkpoint), load_logit(logit, checkpoint)
    return animate_chains(
        G, d, folder / f"{name}.{extension}", step_size=step_sizes, n_steps=n_steps, n_frames=n_frames,
        n_chains=n_chains, size=size, seed=seed,
    )  # fmt: skip


def map_frame(values: np.ndarray, side: int) -> np.ndarray:
    """A frame (side, side, 3) of values (n, n) given row by row from below: pale, it lies under points."""
    low, high = values.min(), values.max()
    shades = 1 - 0.55 * (1 - colormaps["Greys"]((values - low) / (high - low or 1.0))[::-1, :, :3])
    return np.asarray(Image.fromarray((255 * shades).astype(np.uint8)).resize((side, side), Image.BICUBIC))


def chain_frames(
    target: str, G: nn.Module, logit: nn.Module, n_steps: int, n_frames: int, seed: int, side: int
) -> list[np.ndarray]:
    """At most `n_frames` frames of 2,000 ULA chains that start at the prior, evenly spaced in time.

    `target`, "25-gaussians" or "swiss-roll", is the left background; `side` is that of each panel in pixels.
    """
    wanted, energy = frame_steps(n_steps, n_frames), latent_energy(G, logit)

    def ground(f: Callable[[Tensor], Tensor], extent: float) -> np.ndarray:
        with torch.no_grad():
            return map_frame(f(grid_points(extent, 165)).view(165, 165).numpy(), side)

    left = ground(lambda x: TARGETS[target].log_prob(x).exp(), DATA_EXTENT)
    lowest = energy(grid_points(LATENT_EXTENT, 165)).min()
    right = ground(lambda z: -energy(z).clamp_max(lowest + 8), LATENT_EXTENT)  # all above 8 nats is white
    generator = torch.Generator().manual_seed(seed)
    z0 = torch.randn(2000, 2, generator=generator)
    frames = []
    for step, z, x in zip(wanted, *follow(G, energy, z0, ula(1e-3), wanted, generator), strict=True):
        share = high_quality_share(x, TARGETS[target])
        text = f"step {step:3d}   {share:5.1%} within 4 std      data space (left), latent space (right)"
        panels = [
            draw_points(left, x.numpy(), DATA_EXTENT, COLOURS["chain"]),
            draw_points(right, z.numpy(), LATENT_EXTENT, COLOURS["chain"]),
        ]
        frames.append(with_caption(side_by_side(panels), text))
    return frames


def plane_chains(
    folder: Path,
    target: str,
    checkpoint: str,
    name: str,
    refit_steps: int,
    *,
    n_steps: int,
    n_frames: int,
    size: int,
    seed: int,
    extension: str,
) -> Path:
    """2,000 chains of a stored GAN of the plane, guided by a logit fitted to its frozen generator."""
    quality, _, run = checkpoint.rpartition("-")
    if not run.isdigit():
        raise ValueError(f"checkpoint={checkpoint!r} is unknown; use imperfect-0 to -4 or good-0 to -4")
    G, _ = load_toy_gan(target, quality, int(run))
    logit, _ = refit(G, TARGETS[target].sample, n_steps=refit_steps)
    frames = chain_frames(target, G, logit, n_steps, n_frames, seed, size)
    return write_animation(frames, folder / f"{name}.{extension}", milliseconds=90, colours=32)
