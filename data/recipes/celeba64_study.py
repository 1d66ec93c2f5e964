"""What DDLS does to the faces' generator: `python -m data.recipes.celeba64_study`.

Jobs as in `cifar10_study`: which logit (`logit`), step sizes by numbers of steps (`grid`), and MALA and other
temperatures (`sampler`). All are scored by EfficientNet against held-out faces. Notebook 11 reads the study
`celeba64`.
"""

from functools import partial

import torch
from torch import Tensor

from data.recipes import cifar10_study
from data.recipes.study import Jobs, run_jobs
from utils.metrics.extractors import Extractor
from utils.metrics.images import Moments, Reference, evaluate_features, precision_recall

CHOSEN_LOGIT = "coarse"  # by the part `logit`
STEP_SIZES = (0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
DIVERGING = 0.3  # leaves the generator's latents within 50 steps: not followed further
ALL_MARKS, FEW_MARKS = (0, 10, 20, 50, 100, 200, 500), (0, 20, 40)
SMALL_BATCH, N_RESAMPLES = 32, 200


def small_batch_distances(features: Tensor, reference: Moments, size: int, repeats: int, seed: int) -> Tensor:
    """Fréchet distances of `repeats` random batches of `size` features (n, d) to the reference, (repeats,).

    A batch's covariance is A Aᵀ with A (d, size), so the square root needs only the eigenvalues of the
    small matrix Aᵀ S A, with S the reference's covariance.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(repeats):
        batch = features[torch.randperm(len(features), generator=generator)[:size]].double()
        mean = batch.mean(0)
        A = (batch - mean).T / (size - 1) ** 0.5  # (d, size)
        roots = torch.linalg.eigvalsh(A.T @ reference.cov @ A).clamp(min=0).sqrt()
        traces = reference.cov.trace() + A.square().sum() - 2 * roots.sum()
        found.append((mean - reference.mean).square().sum() + traces)
    return torch.stack(found)


def score(images: Tensor, extractor: Extractor, reference: Reference) -> dict:
    """All measures of uint8 images (n, 3, s, s); precision and recall among equally many real ones."""
    features, _ = extractor.extract(images)
    report = evaluate_features(features, None, extractor, reference)
    m = min(len(features), len(reference.features))
    precision, recall = precision_recall(reference.features[:m], features[:m])
    spread = features.double().var(0).sum() / reference.moments.cov.trace()
    batches = small_batch_distances(features, reference.moments, SMALL_BATCH, N_RESAMPLES, seed=0)
    low, middle, high = batches.quantile(torch.tensor([0.05, 0.5, 0.95]).double()).tolist()
    return report | {
        "precision": precision,
        "recall": recall,
        "n_precision_recall": m,
        "spread": spread.item(),  # total variance of the features, relative to that of real images
        "small_batch": {"size": SMALL_BATCH, "repeats": N_RESAMPLES, "q05": low, "q50": middle, "q95": high},
    }


def work(settings: dict) -> list[dict]:
    """Run and score one job; one row for each mark."""
    return cifar10_study.work(settings, score)


def jobs() -> Jobs:
    """The settings of all entries."""
    job = partial(cifar10_study.job, data="celeba64", extractors=cifar10_study.IMAGENET)
    found = [job("logit", kind, 0.1, (0, 10, 40), 1000) for kind in (CHOSEN_LOGIT, "raw")]
    found += [job("grid", CHOSEN_LOGIT, step_size, ALL_MARKS, 2000) for step_size in STEP_SIZES]
    found += [job("grid", CHOSEN_LOGIT, DIVERGING, ALL_MARKS[:4], 2000)]
    found += [job("sampler", CHOSEN_LOGIT, 0.1, FEW_MARKS, 500, temperature=t) for t in (0.25, 1.0, 2.0)]
    found += [job("sampler", CHOSEN_LOGIT, 0.1, FEW_MARKS, 500, sampler="mala")]
    resampled = {"small_batch": {"size": SMALL_BATCH, "repeats": N_RESAMPLES, "seed": 0}}
    return {"celeba64": {name: job | resampled for name, job in cifar10_study.by_name(found).items()}}


if __name__ == "__main__":
    run_jobs(__doc__, jobs(), work)
