"""Make d of the faces' GAN a log density ratio, in five ways: `python -m data.recipes.celeba64_logits`."""

from data.recipes.image_logits import run
from utils.images import load_faces


def main(arguments: list[str] | None = None) -> None:
    data = "aligned CelebA at 64x64"
    settings = {"n_steps": 150, "r1_weight": 1.0, "coarse": True}
    run("celeba64_logits", __doc__, data, load_faces, **settings, arguments=arguments)


if __name__ == "__main__":
    main()
