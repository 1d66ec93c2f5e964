"""Render the animations of the course: `python -m utils.recipes.gifs [scene ...]`, `--list` names them.

Without arguments every scene is made anew from the committed checkpoints (the two that show training train).
Options go to the scenes that know them: `gifs cifar10 --steps 100 --frames 11 --size 400 --format mp4`.
"""

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path

from torch import nn

from utils.animation import FORMATS, animate_chains
from utils.checkpoints import list_checkpoints
from utils.config import GIFS
from utils.models.layers import bake
from utils.recipes import scenes_ebgan, scenes_logit, scenes_plane
from utils.recipes.image_logits import load_gan, load_logit

STEP_SIZES = {"cifar10": (0.01, 0.1, 1.0), "celeba": (0.001, 0.03, 0.3)}  # gentle, good, extreme


def load_image_gan(checkpoint: str, logit: str = "continued-r1") -> tuple[nn.Module, nn.Module]:
    """The frozen generator of an image checkpoint and a logit, baked.

    The logit of this kind is taken from the checkpoint's fitted ones (`x-logits` for `x-gan`); where there
    are none, it is the raw logit of D, and a line says so.
    """
    G, D = load_gan(checkpoint)
    fitted = checkpoint.removesuffix("-gan") + "-logits"
    if fitted in list_checkpoints():
        return bake(G), load_logit(logit, D, name=fitted)
    print(f"no checkpoint {fitted}: the chains follow the raw logit of D")
    return bake(G), bake(D)


def image_chains(
    folder: Path,
    checkpoint: str,
    name: str,
    *,
    step_sizes: tuple[float, ...],
    logit: str,
    n_chains: int,
    n_steps: int,
    n_frames: int,
    size: int,
    seed: int,
    extension: str,
) -> Path:
    """The same starts under a gentle, a good and an extreme step size, side by side, from any image GAN."""
    G, d = load_image_gan(checkpoint, logit)
    return animate_chains(
        G, d, folder / f"{name}.{extension}", step_size=step_sizes, n_steps=n_steps, n_frames=n_frames,
        n_chains=n_chains, size=size, seed=seed,
    )  # fmt: skip


def cifar10(
    folder: Path,
    n_steps: int = 60,
    n_frames: int = 21,
    size: int = 264,
    seed: int = 1,
    checkpoint: str = "cifar10-gan",
    logit: str = "continued-r1",
    extension: str = "gif",
) -> Path:
    """Sixteen chains on CIFAR-10 under a gentle, a good and an extreme step size, side by side."""
    return image_chains(
        folder, checkpoint, "cifar10_chains", step_sizes=STEP_SIZES["cifar10"], logit=logit, n_chains=16,
        n_steps=n_steps, n_frames=n_frames, size=size, seed=seed, extension=extension,
    )  # fmt: skip


def celeba(
    folder: Path,
    n_steps: int = 60,
    n_frames: int = 21,
    size: int = 264,
    seed: int = 1,
    checkpoint: str = "celeba64-gan",
    logit: str = "coarse",
    extension: str = "gif",
) -> Path:
    """Twelve chains on faces under a gentle, a good and an extreme step size, side by side."""
    return image_chains(
        folder, checkpoint, "celeba_chains", step_sizes=STEP_SIZES["celeba"], logit=logit, n_chains=12,
        n_steps=n_steps, n_frames=n_frames, size=size, seed=seed, extension=extension,
    )  # fmt: skip


SCENES: dict[str, Callable[..., Path]] = {
    "logit": scenes_logit.logit_approaches,
    "ebgan": scenes_ebgan.ebgan_energy,
    "gaussians": scenes_plane.gaussians,
    "swiss-roll": scenes_plane.swiss_roll,
    "cifar10": cifar10,
    "celeba": celeba,
}
OPTIONS = {  # of the command line -> argument of a scene
    "steps": "n_steps",
    "frames": "n_frames",
    "size": "size",
    "seed": "seed",
    "checkpoint": "checkpoint",
    "logit": "logit",
    "format": "extension",
}


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """The command line, and the settings that it gives to every scene named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", nargs="*", metavar="scene", help=f"of {', '.join(SCENES)}; all if none")
    parser.add_argument("--list", action="store_true", help="name the scenes and their options, and stop")
    parser.add_argument("--folder", type=Path, default=GIFS)
    parser.add_argument("--steps", type=int, help="of the chains, or of training")
    parser.add_argument("--frames", type=int, help="at most so many")
    parser.add_argument("--size", type=int, help="of a panel, or height of the figure, in pixels: about")
    parser.add_argument("--seed", type=int, help="of starts, noise and training")
    parser.add_argument("--checkpoint", help="image GAN, or imperfect-0 ... good-4 of the plane")
    parser.add_argument("--logit", help="of an image GAN: raw, head, continued, continued-r1 or coarse")
    parser.add_argument("--format", choices=FORMATS, help="gif unless given; mp4 needs ffmpeg")
    args = parser.parse_args(arguments)
    if unknown := set(args.scenes) - set(SCENES):
        parser.error(f"unknown scene {', '.join(unknown)}; choose from {', '.join(SCENES)}")
    args.scenes = args.scenes or list(SCENES)
    for option in ("steps", "frames", "size"):
        if (value := getattr(args, option)) is not None and value < 1:
            parser.error(f"--{option} {value} must be at least 1")
    given = {option: getattr(args, option) for option in OPTIONS if getattr(args, option) is not None}
    for scene in args.scenes:
        if unknown := [option for option in given if option not in options_of(scene)]:
            known = ", ".join(f"--{option}" for option in options_of(scene))
            parser.error(f"scene {scene} has no --{', --'.join(unknown)}; it has {known}")
    return args, {OPTIONS[option]: value for option, value in given.items()}


def options_of(scene: str) -> list[str]:
    """Names of the options that a scene takes."""
    known = inspect.signature(SCENES[scene]).parameters
    return [option for option, argument in OPTIONS.items() if argument in known]


def main(arguments: list[str] | None = None) -> None:
    args, settings = parse(arguments)
    for name in args.scenes:
        scene = SCENES[name]
        if args.list:
            print(f"{name}: {scene.__doc__.splitlines()[0]}")
            print("    " + " ".join(f"--{option}" for option in options_of(name)))
        else:
            path = scene(args.folder, **settings)
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)


if __name__ == "__main__":
    main()
