"""Train the faces' GAN of the course: `python -m data.recipes.celeba64_gan`.

Presets: `cpu`, and `gpu`, that of the stored checkpoint. An interrupted run goes on when called again. The
images are for non-commercial research only, see https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

from dataclasses import replace

from data.recipes.cifar10_gan import NETWORKS, PROJECTED, run
from utils.images import load_faces

FACES = NETWORKS | {"image_size": 64}
PRESETS = {
    "cpu": (FACES, replace(PROJECTED, n_steps=12_000)),
    "gpu": (FACES, replace(PROJECTED, n_steps=13_500, compile=True, save_every=2000)),
}
DATA = (
    "{n} aligned CelebA images, centred square scaled to 64x64, in [-1, 1], no augmentation; "
    "the last 10,000 images of the set were held out"
)


def main(arguments: list[str] | None = None) -> None:
    run("celeba64_gan", PRESETS, load_faces, "CelebA faces at 64x64", DATA, arguments)


if __name__ == "__main__":
    main()
