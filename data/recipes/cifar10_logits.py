"""Fit the log density ratios of the CIFAR-10 generators: `python -m data.recipes.cifar10_logits`.

For the generators of other seeds: `--gan cifar10-gan-1 --kinds "classifier 3"`.
"""

from data.recipes.image_logits import Candidate, run
from utils.images import load_cifar10

CANDIDATES = {
    "line": Candidate("classifier", hidden=0, penalty=160),
    "classifier 30": Candidate("classifier", penalty=30),
    "classifier 10": Candidate("classifier", penalty=10),
    "classifier 3": Candidate("classifier", penalty=3),
    "classifier 1": Candidate("classifier", penalty=1),
    "maps line": Candidate("maps", hidden=0, penalty=160),
    "maps 3": Candidate("maps", penalty=3),
    "conv": Candidate(),
}


def main(arguments: list[str] | None = None) -> None:
    run("cifar10_logits", load_cifar10, "cifar10-gan", CANDIDATES, arguments)


if __name__ == "__main__":
    main()
