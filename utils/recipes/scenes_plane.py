"""Animations of 2-D sampling: the same chains in data space and in the latent plane, side by side."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from utils.animation import draw_points, frame_steps, map_frame, side_by_side, with_caption, write_animation
from utils.energy import latent_energy
from utils.metrics.toy import high_quality_share
from utils.plotting import COLOURS, grid_points
from utils.recipes.toy_gans import TARGETS, load_toy_gan, refit
from utils.samplers import State, sample, ula

DATA_EXTENT, LATENT_EXTENT, SIDE = 2.75, 3.5, 330


@torch.no_grad()
def pale_map(
    f: Callable[[Tensor], Tensor], extent: float, darkest: float = 0.55, n: int = 165, side: int = SIDE
) -> np.ndarray:
    """f: (m, 2) -> (m,) over the square as a grey frame (side, side, 3), pale enough to lie under points."""
    frame = map_frame(f(grid_points(extent, n)).view(n, n).numpy(), side)
    return (255 - darkest * (255 - frame.astype(float))).astype(np.uint8)


def chain_frames(
    target: str,
    G: nn.Module,
    logit: nn.Module,
    n_chains: int = 2000,
    step_size: float = 1e-3,
    n_steps: int = 120,
    every: int = 3,
    seed: int = 0,
    n_frames: int | None = None,
    side: int = SIDE,
) -> list[np.ndarray]:
    """Frames of ULA chains that start at the prior: one every `every` steps, or `n_frames` of them.

    Args:
        target: "25-gaussians" or "swiss-roll"; its density is the left background.
        G, logit: frozen generator z (n, 2) -> x (n, 2) and d (n, 2) -> (n,).
        side: of each of the two panels in pixels.
    """
    wanted = frame_steps(n_steps, n_frames) if n_frames else range(0, n_steps + 1, every)
    energy = latent_energy(G, logit)
    left = pale_map(lambda x: TARGETS[target].log_prob(x).exp(), DATA_EXTENT, side=side)
    lowest = energy(grid_points(LATENT_EXTENT, 165)).min()
    # all above 8 nats is white
    right = pale_map(lambda z: -energy(z).clamp_max(lowest + 8), LATENT_EXTENT, side=side)
    frames = []

    @torch.no_grad()
    def draw(step: int, state: State) -> None:
        if step in wanted:
            x = G(state.z)
            share = high_quality_share(x, TARGETS[target])
            text = f"step {step:3d}   {share:5.1%} within 4 std      data space (left), latent space (right)"
            panels = [
                draw_points(left, x.numpy(), DATA_EXTENT, COLOURS["chain"]),
                draw_points(right, state.z.numpy(), LATENT_EXTENT, COLOURS["chain"]),
            ]
            frames.append(with_caption(side_by_side(panels), text))

    generator = torch.Generator().manual_seed(seed)
    z0 = torch.randn(n_chains, 2, generator=generator)
    sample(energy, z0, ula(step_size), n_steps, generator, callback=draw)
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
    **settings,
) -> Path:
    """2,000 chains of a stored GAN of the plane, guided by a logit fitted to its frozen generator."""
    quality, _, run = checkpoint.rpartition("-")
    if not run.isdigit():
        raise ValueError(f"checkpoint={checkpoint!r} is unknown; use imperfect-0 to -4 or good-0 to -4")
    G, _ = load_toy_gan(target, quality, int(run))
    logit, _ = refit(G, TARGETS[target].sample, n_steps=refit_steps)
    frames = chain_frames(
        target, G, logit, n_steps=n_steps, n_frames=n_frames, seed=seed, side=size, **settings
    )
    return write_animation(frames, folder / f"{name}.{extension}", milliseconds=90, colours=32)


def gaussians(
    folder: Path,
    n_steps: int = 120,
    n_frames: int = 41,
    size: int = SIDE,
    seed: int = 0,
    checkpoint: str = "imperfect-0",
    extension: str = "gif",
    **settings,
) -> Path:
    """2,000 chains move from an imperfect generator's smear onto the 25 Gaussians."""
    return plane_chains(
        folder, "25-gaussians", checkpoint, "gaussians_chains", 1000, n_steps=n_steps, n_frames=n_frames,
        size=size, seed=seed, extension=extension, **settings,
    )  # fmt: skip


def swiss_roll(
    folder: Path,
    n_steps: int = 120,
    n_frames: int = 41,
    size: int = SIDE,
    seed: int = 3,
    checkpoint: str = "imperfect-3",
    extension: str = "gif",
    **settings,
) -> Path:
    """2,000 chains move from an imperfect generator's smear onto the swiss roll."""
    return plane_chains(
        folder, "swiss-roll", checkpoint, "swiss_roll", 600, n_steps=n_steps, n_frames=n_frames,
        size=size, seed=seed, extension=extension, **settings,
    )  # fmt: skip
