"""Statistics of real images: `python -m data.recipes.reference_statistics --extractor NAME --split train`.

Writes the moments of all features and the first few features themselves below `data/statistics`, so that a
machine without the images can still measure.
"""

import argparse
import os
import time

import torch
from tqdm.auto import tqdm

from utils.images import load_cifar10, load_faces
from utils.metrics.extractors import EXTRACTORS, Extractor, get_extractor
from utils.metrics.images import Moments, Reference, reference_path, save_reference

DATA_SETS = {"cifar10": load_cifar10, "celeba64": load_faces}
CHUNK = 1000  # images whose features are in memory at once


def compute_reference(
    images: torch.Tensor, extractor: Extractor, split: str, n_features: int, data: str = "cifar10"
) -> Reference:
    """Statistics of uint8 images (n, 3, h, w); the first `n_features` features are kept."""
    kept = []

    def batches():
        with tqdm(total=len(images), desc=extractor.name, unit="image") as bar:
            for chunk in images.split(CHUNK):
                features, _ = extractor.extract(chunk)  # (CHUNK, d)
                kept.append(features[: max(0, n_features - bar.n)])
                bar.update(len(chunk))
                yield features

    moments = Moments.from_batches(batches())
    features = torch.cat(kept) if n_features > 0 else None
    return Reference(extractor.name, extractor.weights, data, split, moments, features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extractor", choices=EXTRACTORS, required=True)
    parser.add_argument("--data", choices=DATA_SETS, default="cifar10")
    parser.add_argument("--split", choices=("train", "test"), required=True)
    parser.add_argument("--n", type=int, help="number of images, from the first (default: all)")
    parser.add_argument("--features", type=int, default=1000, help="feature vectors to keep, 0 for none")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    extractor = get_extractor(args.extractor)
    images = DATA_SETS[args.data](args.split).images[: args.n]  # (n, 3, h, w) uint8
    start = time.time()
    reference = compute_reference(images, extractor, args.split, args.features, args.data)
    path = reference_path(extractor, args.split, args.data)
    save_reference(path, reference)
    print(
        f"{path.name}: n = {len(images):,}, {path.stat().st_size / 1e6:.1f} MB, {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
