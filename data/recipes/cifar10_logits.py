"""Make d of the CIFAR-10 GAN a log density ratio, in four ways: `python -m data.recipes.cifar10_logits`."""

from data.recipes.image_logits import run
from utils.images import load_cifar10


def main(arguments: list[str] | None = None) -> None:
    run("cifar10_logits", __doc__, "CIFAR-10", load_cifar10, n_steps=600, r1_weight=0.02, arguments=arguments)


if __name__ == "__main__":
    main()
