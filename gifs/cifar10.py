"""An animation for notebook 11: chains on CIFAR-10 under three step sizes."""

from pathlib import Path

from gifs.common import image_chains

STEP_SIZES = (0.005, 0.05, 0.2)  # gentle, good, as large as is useful


def cifar10(
    folder: Path,
    n_steps: int = 20,
    n_frames: int = 11,
    size: int = 264,
    seed: int = 1,
    checkpoint: str = "cifar10-gan",
    logit: str | None = None,
    extension: str = "gif",
) -> Path:
    """Sixteen chains on CIFAR-10 under a gentle, a good and a large step size, side by side."""
    return image_chains(
        folder, checkpoint, "cifar10_chains", step_sizes=STEP_SIZES, logit=logit, n_chains=16,
        n_steps=n_steps, n_frames=n_frames, size=size, seed=seed, extension=extension,
    )  # fmt: skip
