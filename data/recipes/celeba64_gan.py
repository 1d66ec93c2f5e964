"""Train the faces' GAN of the course: `python -m data.recipes.celeba64_gan`.

Presets: `cpu`, the committed checkpoint (a small DCGAN, under an hour on two idle cores with bfloat16), and
`gpu`, a wide one. An interrupted run goes on where it was when called again. The images are for
non-commercial research only, see https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

from dataclasses import replace

from data.recipes.cifar10_gan import PROJECTED
from data.recipes.image_gan import run
from utils.images import load_faces
from utils.training import TrainConfig

FACES = {"family": "projected", "latent_dim": 128, "g_width": 64, "d_width": 128, "image_size": 64}
PRESETS = {
    "cpu": (FACES, replace(PROJECTED, n_steps=12_000)),
    "gpu": (FACES, replace(PROJECTED, n_steps=13_500, compile=True, save_every=2000)),
    "dcgan": (
        {"family": "dcgan", "latent_dim": 128, "g_width": 24, "d_width": 16, "image_size": 64},
        TrainConfig(loss="non_saturating", n_steps=8_000, lr_g=2e-4, lr_d=4e-4, precision="bfloat16"),
    ),
}


def main(arguments: list[str] | None = None) -> None:
    card = {
        "task": "CelebA faces at 64x64",
        "data": "{n} aligned CelebA images, centred square scaled to 64x64, in [-1, 1], no augmentation; "
        "the last 10,000 images of the set were held out",
    }
    run("celeba64_gan", __doc__.splitlines()[0], PRESETS, lambda: load_faces("train"), card, arguments)


if __name__ == "__main__":
    main()
