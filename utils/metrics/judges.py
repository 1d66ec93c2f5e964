"""Reports by networks of our own: of images by an extractor of choice, of 8x8 digits by a small one."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from utils.images import split_digits, to_uint8, to_unit
from utils.metrics.images import (
    Moments,
    Reference,
    frechet_distance,
    inception_score,
    precision_recall,
    squared_mmd,
)


def jackknife(statistic: Callable[[Tensor], Tensor], rows: Tensor, n_blocks: int = 10) -> float:
    """Standard error of a statistic of rows (n, k) by leaving out one block of rows after the other."""
    blocks = torch.arange(len(rows)) * n_blocks // len(rows)
    values = torch.stack([statistic(rows[blocks != b]) for b in range(n_blocks)])
    return ((n_blocks - 1) * values.var(correction=0)).sqrt().item()


def judge(images: Tensor, extractor, reference: Reference) -> dict[str, float]:
    """Distances, precision, recall and spread of float images (n, 3, s, s) by an extractor; notebook 13.

    Precision and recall compare as many images as real features, the fewer of n and what the reference holds.
    """
    features = extractor.extract(to_uint8(images))[0].double()
    real = reference.features.double()
    m = min(len(features), len(real))
    precision, recall = precision_recall(real[:m], features[:m])
    return {
        "n": len(features),
        "kernel_distance": squared_mmd(features, real).item(),
        "kernel_distance_error": jackknife(lambda rows: squared_mmd(rows, real), features),
        "frechet_distance": frechet_distance(reference.moments, Moments.from_features(features)),
        "precision": precision,
        "recall": recall,
        "spread": (features.var(0).sum() / reference.moments.cov.trace()).item(),  # 1 for real images
    }


@cache
def digit_classifier(width: int = 64, weight_decay: float = 1.0, n_epochs: int = 300):
    """p(y | x) of `digit_scores`, fitted to the training digits of `split_digits()`; x is (n, 64)."""
    from sklearn.neural_network import MLPClassifier  # here, since it takes seconds

    train, _ = split_digits()
    network = MLPClassifier((width,), alpha=weight_decay, max_iter=n_epochs, random_state=0)
    return network.fit(to_unit(train.images).flatten(1).numpy(), train.labels.numpy())


def modified_score(probabilities: Tensor) -> float:
    """E_x KL(p(y) || p(y|x)) in nats for posteriors (n, k), all positive (Zhao et al., 2017, section 4.1).

    p(y) is the mean of the rows. The order differs from the Inception score's: a row that is nearly certain
    counts by -log of its smallest probabilities, so there is no upper bound.
    """
    p = probabilities.double()
    if p.ndim != 2 or not (p > 0).all():
        raise ValueError("probabilities must be (n, k) with positive entries, the posteriors of a classifier")
    marginal = p.mean(0)
    return (marginal * (marginal.log() - p.log())).sum(1).mean().item()


def digit_scores(x: Tensor) -> dict[str, float]:
    """Scores of digits (n, 1, 8, 8) in [-1, 1]; the Fréchet distance is to held-out pixels. Notebook 05."""
    pixels = x.flatten(1)
    posteriors = torch.from_numpy(digit_classifier().predict_proba(pixels.numpy())).double()
    held_out = Moments.from_features(to_unit(split_digits()[1].images).flatten(1))
    return {
        "modified_score": modified_score(posteriors.clamp_min(1e-12)),
        "classifier_score": inception_score(posteriors, splits=1)[0],
        "frechet_distance": frechet_distance(Moments.from_features(pixels), held_out),
        "classes": len(posteriors.argmax(1).unique()),
    }
