"""What DDLS does to the faces' generator: `python -m data.recipes.celeba64_study`.

Jobs as in `cifar10_study`, each a file below `data/studies/celeba64`: which logit (`logit`), step sizes by
numbers of steps (`grid`), and MALA and other temperatures (`sampler`). All are scored by
EfficientNet against held-out faces.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.recipes.cifar10_study import Job, command_line, read_rows, run_chains
from utils.config import DATA
from utils.metrics.extractors import get_extractor
from utils.metrics.images import Moments, Reference, evaluate_features, load_reference, precision_recall
from utils.models.layers import bake
from utils.zoo import load_gan, load_logit

STUDY = DATA / "studies" / "celeba64"
EXTRACTOR, DATA_SET, SPLIT = "efficientnet-lite0", "celeba64", "test"
CHOSEN_LOGIT = "coarse"  # by the part `logit`
STEP_SIZES = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
DIVERGING = 0.3  # leaves the generator's latents within 50 steps: not followed further
SMALL_BATCH, N_RESAMPLES = 32, 200


@dataclass(frozen=True)
class FaceJob(Job):
    @property
    def path(self) -> Path:
        tempered = "" if self.temperature == 1 else f"-temperature{self.temperature:g}"
        return STUDY / (super().path.stem + tempered + ".json")


def job(part: str, step_size: float, marks: tuple[int, ...], n: int, **settings) -> FaceJob:
    defaults = {"logit": CHOSEN_LOGIT, "calibrated": True, "sampler": "ula", "seed": 0}
    return FaceJob(part=part, step_size=step_size, marks=marks, n=n, **defaults | settings)


ALL_MARKS = (0, 10, 20, 50, 100, 200, 500)
JOBS = [
    *[job("logit", 0.1, (0, 10, 40), 1000, logit=kind) for kind in ("coarse", "raw")],
    *[job("grid", step_size, ALL_MARKS, 2000) for step_size in STEP_SIZES if step_size != DIVERGING],
    job("grid", DIVERGING, (0, 10, 20, 50), 2000),
    job("sampler", 0.1, (0, 20, 40), 500, sampler="mala"),
    *[job("sampler", 0.1, (0, 20, 40), 500, temperature=t) for t in (0.25, 1.0, 2.0)],
]


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


def score(features: Tensor, extractor, reference: Reference) -> dict:
    """All measures of one set of features (n, d); precision and recall among equally many real ones."""
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


def run_job(job: Job, device: torch.device) -> list[dict]:
    """Run and score one job; one row for each mark."""
    G, D = load_gan("celeba64-gan", device)
    logit = load_logit(job.logit, D, calibrated=job.calibrated, name="celeba64-logits")
    images, rows = run_chains(bake(G), logit, job)
    extractor = get_extractor(EXTRACTOR, device)
    reference = load_reference(extractor, SPLIT, DATA_SET)
    for row in rows:
        row.update({k: v for k, v in asdict(job).items() if k not in ("marks", "extractors")})
        features, _ = extractor.extract(images[row["n_steps"]])
        row[EXTRACTOR] = score(features, extractor, reference)
    return rows


def load_study() -> list[dict]:
    """All stored rows: one for each job and number of steps."""
    return read_rows(STUDY)


def main(arguments: list[str] | None = None) -> None:
    command_line(__doc__.splitlines()[0], JOBS, run_job, arguments)


if __name__ == "__main__":
    main()
