"""An animation for notebook 12: chains on faces under three step sizes."""

from pathlib import Path

from gifs.common import image_chains

STEP_SIZES = (0.002, 0.05, 0.5)  # gentle, good, extreme


def celeba(
    folder: Path,
    n_steps: int = 20,
    n_frames: int = 11,
    size: int = 264,
    seed: int = 1,
    checkpoint: str = "celeba64-gan",
    logit: str | None = None,
    extension: str = "gif",
) -> Path:
    """Twelve chains on faces under a gentle, a good and an extreme step size, side by side."""
    return image_chains(
        folder, checkpoint, "celeba_chains", step_sizes=STEP_SIZES, logit=logit, n_chains=12,
        n_steps=n_steps, n_frames=n_frames, size=size, seed=seed, extension=extension,
    )  # fmt: skip
