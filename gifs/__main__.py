"""Render the animations of the course: `python -m gifs [scene ...]`, `--list` names them.

Without arguments every scene is made anew from the committed checkpoints (the two that show training train).
Options go to the scenes that know them: `gifs cifar10 --steps 100 --frames 11 --size 400 --format mp4`.
"""

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path

from gifs.celeba import celeba
from gifs.cifar10 import cifar10
from gifs.ebgan import ebgan_energy
from gifs.gaussians import gaussians
from gifs.logit import logit_approaches
from gifs.swiss_roll import swiss_roll
from utils.animation import FORMATS
from utils.config import GIFS

SCENES: dict[str, Callable[..., Path]] = {
    "logit": logit_approaches,
    "ebgan": ebgan_energy,
    "gaussians": gaussians,
    "swiss-roll": swiss_roll,
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
