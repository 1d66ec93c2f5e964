"""An animation for notebook 08: chains on the swiss roll, in data space and in the latent plane."""

from pathlib import Path

from gifs.common import SIDE, plane_chains


def swiss_roll(
    folder: Path,
    n_steps: int = 120,
    n_frames: int = 41,
    size: int = SIDE,
    seed: int = 3,
    checkpoint: str = "imperfect-3",
    extension: str = "gif",
) -> Path:
    """2,000 chains move from an imperfect generator's smear onto the swiss roll."""
    return plane_chains(
        folder, "swiss-roll", checkpoint, "swiss_roll", 600, n_steps=n_steps, n_frames=n_frames,
        size=size, seed=seed, extension=extension,
    )  # fmt: skip
