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
from gifs.valleys import valleys
from utils.animation import FORMATS
from utils.config import GIFS

SCENES: dict[str, Callable[..., Path]] = {
    "logit": logit_approaches,
    "valleys": valleys,
    "ebgan": ebgan_energy,
    "gaussians": gaussians,
    "swiss-roll": swiss_roll,
    "cifar10": cifar10,
    "celeba": celeba,
}
OPTIONS = {  # argument of a scene -> option of the command line
    "n_steps": ("--steps", {"type": int, "help": "of the chains, or of training"}),
    "n_frames": ("--frames", {"type": int, "help": "at most so many"}),
    "size": ("--size", {"type": int, "help": "of a panel, or height of the figure, in pixels: about"}),
    "seed": ("--seed", {"type": int, "help": "of starts, noise and training"}),
    "checkpoint": ("--checkpoint", {"help": "image GAN, or imperfect-0 ... good-4 of the plane"}),
    "logit": ("--logit", {"help": "of an image GAN: one of its fitted ones (default: the chosen one)"}),
    "extension": ("--format", {"choices": FORMATS, "help": "gif unless given; mp4 needs ffmpeg"}),
}


def options_of(scene: str) -> dict[str, str]:
    """The arguments of a scene that the command line sets, and their options."""
    known = inspect.signature(SCENES[scene]).parameters
    return {argument: option for argument, (option, _) in OPTIONS.items() if argument in known}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", nargs="*", metavar="scene", help=f"of {', '.join(SCENES)}; all if none")
    parser.add_argument("--list", action="store_true", help="name the scenes and their options, and stop")
    parser.add_argument("--folder", type=Path, default=GIFS)
    for argument, (option, settings) in OPTIONS.items():
        parser.add_argument(option, dest=argument, **settings)
    args = parser.parse_args(arguments)
    if unknown := set(args.scenes) - set(SCENES):
        parser.error(f"unknown scene {', '.join(unknown)}; choose from {', '.join(SCENES)}")
    given = {key: value for key in OPTIONS if (value := getattr(args, key)) is not None}
    for key in ("n_steps", "n_frames", "size"):
        if given.get(key, 1) < 1:
            parser.error(f"{OPTIONS[key][0]} {given[key]} must be at least 1")
    scenes = args.scenes or list(SCENES)
    for name in scenes:
        if unknown := [OPTIONS[key][0] for key in given if key not in options_of(name)]:
            known = ", ".join(options_of(name).values())
            parser.error(f"scene {name} has no {', '.join(unknown)}; it has {known}")
    for name in scenes:
        if args.list:
            print(f"{name}: {SCENES[name].__doc__.splitlines()[0]}")
            print(f"    {' '.join(options_of(name).values())}")
        else:
            path = SCENES[name](args.folder, **given)
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)


if __name__ == "__main__":
    main()
