"""Train the CIFAR-10 GAN of the course: `python -m data.recipes.cifar10_gan`.

A projected GAN (Sauer et al., 2021). Presets: `cpu`, seven hours on two cores with `--compile`; `gpu`, that
of the stored checkpoints. An interrupted run goes on when called again.
"""

from dataclasses import replace

from data.recipes.image_gan import run
from utils.images import load_cifar10
from utils.training import TrainConfig

NETWORKS = {"family": "projected", "latent_dim": 128, "g_width": 64, "d_width": 128, "image_size": 32}
PROJECTED = TrainConfig(
    loss="hinge", n_steps=30_000, betas=(0.0, 0.99), decay_from=0.6, precision="bfloat16",
    augment=("colour", "translation"), share_fakes=True, save_every=500,
)  # fmt: skip
PRESETS = {
    "cpu": (NETWORKS, PROJECTED),
    "gpu": (NETWORKS, replace(PROJECTED, n_steps=20_400, compile=True, save_every=2000)),
}
DATA = "{n} images of the CIFAR-10 training split, in [-1, 1], no augmentation"


def main(arguments: list[str] | None = None) -> None:
    run("cifar10_gan", PRESETS, load_cifar10, "CIFAR-10 images at 32x32", DATA, arguments)


if __name__ == "__main__":
    main()
