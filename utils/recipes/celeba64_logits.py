"""Make d of the faces' GAN a log density ratio, in four ways: `python -m utils.recipes.celeba64_logits`."""

from utils.recipes.celeba64_gan import load_split
from utils.recipes.image_logits import run


def main(arguments: list[str] | None = None) -> None:
    run("celeba64_logits", __doc__, "aligned CelebA at 64x64", load_split, n_steps=300, arguments=arguments)


if __name__ == "__main__":
    main()
