"""Train the faces' GAN of the course: `python -m utils.recipes.celeba64_gan`.

Presets: `cpu`, the committed checkpoint (a DCGAN, about an hour and a half on two cores with bfloat16), and
`gpu`, a wide one. An interrupted run goes on where it was when called again. The images are for
non-commercial research only, see https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

from utils.images import load_celeba64
from utils.recipes.image_gan import run
from utils.training import TrainConfig

PRESETS = {
    "cpu": (
        {"family": "dcgan", "latent_dim": 128, "g_width": 32, "d_width": 24, "image_size": 64},
        TrainConfig(loss="non_saturating", n_steps=12_000, lr_g=2e-4, lr_d=4e-4, precision="bfloat16"),
    ),
    "gpu": (
        {"family": "dcgan", "latent_dim": 128, "g_width": 64, "d_width": 48, "image_size": 64},
        TrainConfig(loss="non_saturating", n_steps=60_000, lr_g=2e-4, lr_d=4e-4, precision="bfloat16"),
    ),
}


def main(arguments: list[str] | None = None) -> None:
    card = {
        "task": "CelebA faces at 64x64",
        "data": "{n} aligned CelebA images, centred square scaled to 64x64, in [-1, 1], no augmentation",
    }
    run("celeba64_gan", __doc__.splitlines()[0], PRESETS, load_celeba64, card, arguments)


if __name__ == "__main__":
    main()
