"""An animation for notebook 07: chains on 25 Gaussians, in data space and in the latent plane."""

from pathlib import Path

from gifs.common import SIDE, plane_chains


def gaussians(
    folder: Path,
    n_steps: int = 120,
    n_frames: int = 41,
    size: int = SIDE,
    seed: int = 0,
    checkpoint: str = "imperfect-0",
    extension: str = "gif",
) -> Path:
    """2,000 chains move from an imperfect generator's smear onto the 25 Gaussians."""
    return plane_chains(
        folder, "25-gaussians", checkpoint, "gaussians_chains", 1000, n_steps=n_steps, n_frames=n_frames,
        size=size, seed=seed, extension=extension,
    )  # fmt: skip
