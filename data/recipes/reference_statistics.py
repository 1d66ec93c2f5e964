"""Statistics of real images: `python -m data.recipes.reference_statistics --extractor NAME --split train`.

Writes the moments of all features and the first few features themselves below `data/statistics`, so that a
machine without the images can still measure.
"""

import argparse

import torch
from tqdm import tqdm

from data.recipes.study import LOADERS
from utils.metrics.extractors import EXTRACTORS, Extractor, get_extractor
from utils.metrics.images import Moments, Reference, reference_path, save_reference

CHUNK = 1000  # images whose features are in memory at once


def compute_reference(
    images: torch.Tensor, extractor: Extractor, split: str, n_features: int = 1000, data: str = "cifar10"
) -> Reference:
    """Statistics of uint8 images (n, 3, h, w); the first `n_features` features are kept."""
    kept = []

    def batches():
        for i, chunk in enumerate(tqdm(images.split(CHUNK), desc=extractor.name, unit="chunk")):
            features, _ = extractor.extract(chunk)  # (CHUNK, d)
            kept.append(features[: max(0, n_features - i * CHUNK)])
            yield features

    moments = Moments.from_batches(batches())
    return Reference(extractor.name, extractor.weights, data, split, moments, torch.cat(kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extractor", choices=EXTRACTORS, required=True)
    parser.add_argument("--data", choices=LOADERS, default="cifar10")
    parser.add_argument("--split", choices=("train", "test"), required=True)
    args = parser.parse_args()
    extractor = get_extractor(args.extractor)
    images = LOADERS[args.data](args.split).images  # (n, 3, h, w) uint8
    path = reference_path(extractor, args.split, args.data)
    save_reference(path, compute_reference(images, extractor, args.split, data=args.data))
    print(f"{path.name}: n = {len(images):,}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
