"""Fit the log density ratios of the faces' generator: `python -m data.recipes.celeba64_logits`."""

from data.recipes.image_logits import Candidate, run
from utils.images import load_faces

CANDIDATES = {
    "maps line": Candidate("maps", hidden=0, penalty=160),
    "maps 30": Candidate("maps", penalty=30),
    "maps 10": Candidate("maps", penalty=10),
    "maps 3": Candidate("maps", penalty=3),
}


def main(arguments: list[str] | None = None) -> None:
    run("celeba64_logits", load_faces, "celeba64-gan", CANDIDATES, arguments)


if __name__ == "__main__":
    main()
