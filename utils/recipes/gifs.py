"""Render the animations of the course: `python -m utils.recipes.gifs [scene ...]`, `--list` names them."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from utils.animation import side_by_side, with_caption, write_gif
from utils.config import GIFS
from utils.energy import latent_energy
from utils.models.layers import bake
from utils.plotting import image_grid
from utils.recipes import scenes_ebgan, scenes_logit, scenes_plane
from utils.recipes.cifar10_logits import load_gan, load_logit
from utils.samplers import State, sample, ula


def chain_frames(
    G, logit, z0: torch.Tensor, step_size: float, n_steps: int, every: int, seed: int = 0, columns: int = 4
) -> list[np.ndarray]:
    """One frame every `every` steps of ULA chains from z0 (n, latent_dim), each captioned by its mean logit.

    `G` and `logit` are any modules in evaluation mode: z -> images in [-1, 1], images -> logits (n,).
    """
    frames = []

    @torch.no_grad()
    def draw(step: int, state: State) -> None:
        if step % every == 0:
            x = G(state.z)
            text = f"eps = {step_size:g}   step {step:3d}   mean d = {logit(x).mean().item():+.2f}"
            frames.append(with_caption(image_grid(x, columns, zoom=2), text))

    generator = torch.Generator().manual_seed(seed)
    sample(latent_energy(G, logit), z0, ula(step_size), n_steps, generator, callback=draw)
    return frames


def cifar10(
    folder: Path, step_sizes=(0.01, 0.1, 1.0), n_steps: int = 60, every: int = 3, seed: int = 1
) -> Path:
    """The same sixteen starts under a gentle, a good and a too large step size, side by side."""
    G, D = load_gan()
    G = bake(G)
    logit = load_logit("continued-r1", D)
    z0 = torch.randn(16, G.latent_dim, generator=torch.Generator().manual_seed(seed))
    panels = [chain_frames(G, logit, z0, eps, n_steps, every) for eps in step_sizes]
    frames = [side_by_side(parts) for parts in zip(*panels, strict=True)]
    return write_gif(frames, folder / "cifar10_chains.gif", milliseconds=160)


SCENES: dict[str, Callable[..., Path]] = {
    "logit": scenes_logit.logit_approaches,
    "ebgan": scenes_ebgan.ebgan_energy,
    "gaussians": scenes_plane.gaussians,
    "swiss-roll": scenes_plane.swiss_roll,
    "cifar10": cifar10,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", nargs="*", metavar="scene", help=f"of {', '.join(SCENES)}; all if none")
    parser.add_argument("--list", action="store_true", help="name the scenes and stop")
    parser.add_argument("--folder", type=Path, default=GIFS)
    args = parser.parse_args(arguments)
    if unknown := set(args.scenes) - set(SCENES):
        parser.error(f"unknown scene {', '.join(unknown)}; choose from {', '.join(SCENES)}")
    for name in args.scenes or SCENES:
        scene = SCENES[name]
        if args.list:
            print(f"{name}: {scene.__doc__.splitlines()[0]}")
        else:
            path = scene(args.folder)
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
