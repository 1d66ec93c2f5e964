"""Train the GANs of the 2-D laboratory: `python -m data.recipes.toy_gans 25-gaussians` or `swiss-roll`.

For each target five seeds of two qualities: `imperfect`, a run stopped early, whose samples are about as
poor as those of Table 1 of Che et al. (2020), and `good`, the same recipe run five times longer. Both
networks have three hidden layers of 128 units (the literature's have 256 to 512) and a latent of two.
"""

import argparse
import shlex
import sys
from dataclasses import asdict, replace

import torch
from torch import nn

from utils.checkpoints import save_checkpoint
from utils.config import pick_device
from utils.toy import TARGETS
from utils.training import TrainConfig, TrainResult, train_gan
from utils.zoo import ARCHITECTURE, SEEDS, STEPS, build, checkpoint_of


def settings(quality: str, seed: int) -> TrainConfig:
    """The run of one GAN."""
    if quality not in STEPS:
        raise ValueError(f"quality={quality!r} is unknown; choose one of {', '.join(STEPS)}")
    return TrainConfig(
        n_steps=STEPS[quality], batch_size=256, lr_g=1e-3, lr_d=1e-3, betas=(0.5, 0.9), decay_from=0.6,
        seed=seed,
    )  # fmt: skip


def train(target: str, quality: str, seed: int, n_steps: int | None = None) -> TrainResult:
    """One GAN from scratch, for the steps of its quality unless `n_steps` is given: 5 ms each."""
    config = settings(quality, seed)
    G, D = build(seed)
    config = replace(config, n_steps=n_steps or config.n_steps)
    return train_gan(G, D, TARGETS[target].sample, config, progress=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    args = parser.parse_args(arguments)
    modules: dict[str, nn.Module] = {}
    seconds = 0.0
    for quality in STEPS:
        for seed in SEEDS:
            result = train(args.target, quality, seed)
            modules |= {f"{quality}-{seed}-G": result.G_ema, f"{quality}-{seed}-D": result.D}
            seconds += result.seconds
            print(f"{args.target}, {quality}, seed {seed}: {result.seconds:.0f} s", flush=True)
    command = ["python", "-m", "data.recipes.toy_gans", *(sys.argv[1:] if arguments is None else arguments)]
    card = {
        "task": f"points in the plane: {TARGETS[args.target].name}",
        "data": "fresh points at every step",
        "architecture": ARCHITECTURE | {"latent_dim": 2},
        "config": {quality: asdict(settings(quality, 0)) for quality in STEPS},
        "seeds": list(SEEDS),
        "command": shlex.join(command),
        "hardware": f"{pick_device().type}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "seconds": round(seconds),
    }
    path = save_checkpoint(checkpoint_of(args.target), modules, card)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
