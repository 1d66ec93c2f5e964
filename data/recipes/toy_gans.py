"""Train the GANs of the 2-D laboratory: `python -m data.recipes.toy_gans 25-gaussians` or `swiss-roll`.

For each target five seeds of two qualities: `imperfect`, a run stopped early, whose samples are about as
poor as those of Table 1 of Che et al. (2020), and `good`, the same recipe run five times longer. Both
networks have three hidden layers of 128 units (the literature's have 256 to 512) and a latent of two.
"""

import argparse
from dataclasses import asdict

from torch import nn

from data.recipes import made_by
from utils.checkpoints import save_checkpoint
from utils.toy import TARGETS
from utils.training import TrainConfig, TrainResult, train_gan
from utils.zoo import ARCHITECTURE, SEEDS, STEPS, build, checkpoint_of


def settings(quality: str, seed: int) -> TrainConfig:
    """The run of one GAN."""
    return TrainConfig(
        n_steps=STEPS[quality], batch_size=256, lr_g=1e-3, lr_d=1e-3, betas=(0.5, 0.9), decay_from=0.6,
        seed=seed,
    )  # fmt: skip


def train(target: str, quality: str, seed: int) -> TrainResult:
    """One GAN from scratch: 5 ms a step."""
    return train_gan(*build(seed), TARGETS[target].sample, settings(quality, seed), progress=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    target = parser.parse_args(arguments).target
    modules: dict[str, nn.Module] = {}
    seconds = 0.0
    for quality in STEPS:
        for seed in SEEDS:
            result = train(target, quality, seed)
            modules |= {f"{quality}-{seed}-G": result.G_ema, f"{quality}-{seed}-D": result.D}
            seconds += result.seconds
            print(f"{target}, {quality}, seed {seed}: {result.seconds:.0f} s", flush=True)
    card = {
        "task": f"points in the plane: {TARGETS[target].name}",
        "data": "fresh points at every step",
        "architecture": ARCHITECTURE | {"latent_dim": 2},
        "config": {quality: asdict(settings(quality, 0)) for quality in STEPS},
        "seeds": list(SEEDS),
        **made_by("toy_gans", arguments, seconds),
    }
    path = save_checkpoint(checkpoint_of(target), modules, card)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
