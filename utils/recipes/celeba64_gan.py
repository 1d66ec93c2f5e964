"""Train the faces' GAN of the course: `python -m utils.recipes.celeba64_gan`.

Presets: `cpu`, the committed checkpoint (a small DCGAN, under an hour on two idle cores with bfloat16), and
`gpu`, a wide one. An interrupted run goes on where it was when called again. The images are for
non-commercial research only, see https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

from dataclasses import replace

from utils.images import ImageSet, load_celeba64
from utils.recipes.image_gan import run
from utils.training import TrainConfig

N_HELD_OUT = 10_000  # the last images: never trained on, for calibration and reference statistics


def load_split(split: str, allow_download: bool = True) -> ImageSet:
    """CelebA at 64x64, split into "train" (all but the last 10,000 images) and "test" (those).

    The official split keeps identities apart; this one does not, since a subset of the images may be all
    there is. It holds for pictures, not for people.
    """
    faces = load_celeba64(allow_download=allow_download)
    if len(faces.images) <= N_HELD_OUT:
        raise ValueError(f"found {len(faces.images)} faces, but {N_HELD_OUT:,} are held out: more are needed")
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is unknown; use 'train' or 'test'")
    part = slice(None, -N_HELD_OUT) if split == "train" else slice(-N_HELD_OUT, None)
    return replace(faces, images=faces.images[part])


PRESETS = {
    "cpu": (
        {"family": "dcgan", "latent_dim": 128, "g_width": 24, "d_width": 16, "image_size": 64},
        TrainConfig(loss="non_saturating", n_steps=8_000, lr_g=2e-4, lr_d=4e-4, precision="bfloat16"),
    ),
    "gpu": (
        {"family": "dcgan", "latent_dim": 128, "g_width": 64, "d_width": 48, "image_size": 64},
        TrainConfig(loss="non_saturating", n_steps=60_000, lr_g=2e-4, lr_d=4e-4, precision="bfloat16"),
    ),
}


def main(arguments: list[str] | None = None) -> None:
    card = {
        "task": "CelebA faces at 64x64",
        "data": "{n} aligned CelebA images, centred square scaled to 64x64, in [-1, 1], no augmentation; "
        "the last 10,000 images of the set were held out",
    }
    run("celeba64_gan", __doc__.splitlines()[0], PRESETS, lambda: load_split("train"), card, arguments)


if __name__ == "__main__":
    main()
