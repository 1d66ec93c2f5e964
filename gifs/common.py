"""What scenes share: chains of an image GAN, and chains of a GAN of the plane."""

from pathlib import Path

from utils.animation import animate_chains, chain_frames, write_animation
from utils.toy import TARGETS
from utils.zoo import load_gan, load_logit, load_toy_gan, refit


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
