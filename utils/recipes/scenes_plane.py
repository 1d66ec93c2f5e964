"""Animations of 2-D sampling: the same chains in data space and in the latent plane, side by side."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from utils.animation import draw_points, map_frame, side_by_side, with_caption, write_gif
from utils.energy import latent_energy
from utils.metrics.toy import high_quality_share
from utils.plotting import COLOURS, grid_points
from utils.recipes.toy_gans import TARGETS, load_toy_gan, refit
from utils.samplers import State, sample, ula

DATA_EXTENT, LATENT_EXTENT, SIDE = 2.75, 3.5, 330


@torch.no_grad()
def pale_map(f: Callable[[Tensor], Tensor], extent: float, darkest: float = 0.55, n: int = 165) -> np.ndarray:
    """f: (m, 2) -> (m,) over the square as a grey frame (SIDE, SIDE, 3), pale enough to lie under points."""
    frame = map_frame(f(grid_points(extent, n)).view(n, n).numpy(), SIDE)
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
) -> list[np.ndarray]:
    """One frame every `every` steps of ULA chains that start at the prior.

    Args:
        target: "25-gaussians" or "swiss-roll"; its density is the left background.
        G, logit: frozen generator z (n, 2) -> x (n, 2) and d (n, 2) -> (n,).
    """
    energy = latent_energy(G, logit)
    left = pale_map(lambda x: TARGETS[target].log_prob(x).exp(), DATA_EXTENT)
    lowest = energy(grid_points(LATENT_EXTENT, 165)).min()
    right = pale_map(lambda z: -energy(z).clamp_max(lowest + 8), LATENT_EXTENT)  # all above 8 nats is white
    frames = []

    @torch.no_grad()
    def draw(step: int, state: State) -> None:
        if step % every == 0:
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


def gaussians(folder: Path, seed: int = 0, **settings) -> Path:
    """2,000 chains move from an imperfect generator's smear onto the 25 Gaussians."""
    G, _ = load_toy_gan("25-gaussians", "imperfect", seed)
    logit, _ = refit(G, TARGETS["25-gaussians"].sample, n_steps=1000)
    frames = chain_frames("25-gaussians", G, logit, seed=seed, **settings)
    return write_gif(frames, folder / "gaussians_chains.gif", milliseconds=90, colours=32)


def swiss_roll(folder: Path, seed: int = 3, **settings) -> Path:
    """2,000 chains move from an imperfect generator's smear onto the swiss roll."""
    G, _ = load_toy_gan("swiss-roll", "imperfect", seed)
    logit, _ = refit(G, TARGETS["swiss-roll"].sample, n_steps=600)
    frames = chain_frames("swiss-roll", G, logit, seed=seed, **settings)
    return write_gif(frames, folder / "swiss_roll.gif", milliseconds=90, colours=32)
