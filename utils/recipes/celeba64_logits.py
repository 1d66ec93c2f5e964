"""Make d of the faces' GAN a log density ratio, in five ways: `python -m utils.recipes.celeba64_logits`."""

from utils.recipes.celeba64_gan import load_split
from utils.recipes.image_logits import run


def main(arguments: list[str] | None = None) -> None:
    data = "aligned CelebA at 64x64"
    settings = {"n_steps": 150, "r1_weight": 1.0, "coarse": True}
    run("celeba64_logits", __doc__, data, load_split, **settings, arguments=arguments)


if __name__ == "__main__":
    main()
