"""Fit the log density ratios of the faces' generator: `python -m data.recipes.celeba64_logits`."""

from data.recipes.cifar10_logits import Candidate, run
from utils.images import load_faces

CANDIDATES = {
    "maps line": Candidate("maps", hidden=0, penalty=160),
    "maps line 640": Candidate("maps", hidden=0, penalty=640),
    "maps line 2560": Candidate("maps", hidden=0, penalty=2560),
    "maps 100": Candidate("maps", penalty=100),
    "maps 30": Candidate("maps", penalty=30),
    "maps 3": Candidate("maps", penalty=3),
}


def main(arguments: list[str] | None = None) -> None:
    run("celeba64_logits", load_faces, "celeba64-gan", CANDIDATES, arguments)


if __name__ == "__main__":
    main()
