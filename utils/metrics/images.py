"""How good are generated images: Fréchet and kernel distance, classifier score, precision and recall.

Everything is computed from features and posteriors that a named extractor gives (`metrics.extractors`), in
float64, on the CPU. The distances are called FID and KID, and the score Inception score, for the Inception
network of the literature alone.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from utils.checkpoints import write_atomically
from utils.config import STATISTICS
from utils.metrics.extractors import INCEPTION, Extractor, check_images, require


def check_features(features: Tensor, name: str = "features") -> Tensor:
    """`features` (n, d) as float64 on the CPU; raises ValueError unless n >= 1 and all are finite."""
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(f"{name} must be (n, d) with n >= 1, not {tuple(features.shape)}")
    features = features.detach().cpu().double()
    if not features.isfinite().all():
        raise ValueError(f"{name} contain values that are not finite")
    return features


# -- moments and the Fréchet distance -----------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Count n, mean (d,) and covariance (d, d) (divided by n - 1) of features, in float64."""

    count: int
    mean: Tensor
    cov: Tensor

    @classmethod
    def from_features(cls, features: Tensor, chunk_size: int = 1024) -> "Moments":
        """Moments of features (n, d), in chunks, so that the copy in float64 stays small."""
        return cls.from_batches(features.split(chunk_size))

    @classmethod
    def from_batches(cls, batches: Iterable[Tensor]) -> "Moments":
        """Moments of all rows of some batches (b, d); raises ValueError when there are none."""
        total = None
        for batch in batches:
            x = check_features(batch)  # (b, d)
            mean = x.mean(dim=0)  # (d,)
            centred = x - mean  # never the sum of raw squares: it loses all digits where the mean is large
            part = cls(len(x), mean, centred.T @ centred / max(len(x) - 1, 1))
            total = part if total is None else total.merge(part)
        if total is None:
            raise ValueError("there are no features to take moments of")
        return total

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan, Golub and LeVeque, 1979): exact, whatever the split."""
        n = self.count + other.count
        shift = other.mean - self.mean  # (d,)
        scatter = self.cov * (self.count - 1) + other.cov * (other.count - 1)  # (d, d)
        scatter += torch.outer(shift, shift) * (self.count * other.count / n)
        return Moments(n, self.mean + shift * (other.count / n), scatter / max(n - 1, 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians with these moments.

    |m_a - m_b|^2 + tr A + tr B - 2 tr (A^(1/2) B A^(1/2))^(1/2), Dowson and Landau (1982); FID is this for
    features of Inception (Heusel et al., 2017). The product is symmetric, so its eigenvalues are real and
    no complex square root is needed. The bias is upwards and of order 1/n: compare at equal n.

    Warns:
        RuntimeWarning: n <= d, where a covariance has no full rank and the bias is large.

    Raises:
        ValueError: other numbers of features, or fewer than two samples.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"cannot compare {len(a.mean)} features with {len(b.mean)}: are the extractors the same?"
        )
    n, d = min(a.count, b.count), len(a.mean)
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 samples, not {n}")
    if n <= d:
        warnings.warn(
            f"{n} samples for {d} features: the covariance has rank {n - 1} at most and the distance is "
            f"biased strongly upwards; take many more than {d} samples",
            RuntimeWarning,
            stacklevel=2,
        )
    values, vectors = torch.linalg.eigh(a.cov)  # (d,), (d, d)
    root = vectors * values.clamp(min=0).sqrt()  # (d, d) with root @ root.T = A
    product = torch.linalg.eigvalsh(root.T @ b.cov @ root)  # (d,), the eigenvalues of A^(1/2) B A^(1/2)
    overlap = product.clamp(min=0).sqrt().sum()  # rounding makes zeros slightly negative
    squared = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * overlap
    return squared.item()


class _FeaturesOnly(nn.Module):
    """An extractor's network without its posteriors, as torcheval wants it."""

    def __init__(self, extractor: Extractor):
        super().__init__()
        self.network = extractor.network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[0]


def fid_torcheval(
    real: Tensor, fake: Tensor, extractor: Extractor, batch_size: int = 32, progress: bool = False
) -> float:
    """Fréchet distance of two sets of uint8 images (n, 3, h, w) by torcheval's `FrechetInceptionDistance`.

    An independent check of `frechet_distance`. torcheval sums features and their products in float32: it
    loses the digits that the squared mean takes, so features with a mean far above their spread give
    wrong, even negative distances. The network is our `extractor`; torcheval's own one resizes without
    antialiasing, skips the normalisation its weights ask for, and gives numbers unlike the literature's.

    Raises:
        TypeError, ValueError: not uint8 images, or fewer than two (torcheval would return 0 or NaN).
    """
    metrics = require("torcheval.metrics", "torcheval torchvision")
    metric = metrics.FrechetInceptionDistance(
        model=_FeaturesOnly(extractor), feature_dim=extractor.feature_dim, device=extractor.device
    )
    for images, is_real in ((real, True), (fake, False)):
        check_images(images)
        if len(images) < 2:
            raise ValueError(f"a covariance needs at least 2 images, not {len(images)}")
        for batch in tqdm(images.split(batch_size), unit="batch", disable=not progress):
            metric.update(batch.to(extractor.device), is_real=is_real)
    return metric.compute().item()


# -- the other measures -------------------------------------------------------------------------------


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """exp E_x KL(p(y|x) || p(y)): mean and standard deviation over `splits` parts (Salimans et al., 2016).

    Between 1 and k. It is a *classifier score* unless the posteriors come from Inception. It rewards
    confident and balanced posteriors and never looks at a real image. Rows are split in the order given.

    Args:
        probabilities: (n, k) posteriors, each row summing to 1.
        splits: number of parts; a part of few rows scores too low.

    Raises:
        ValueError: rows that are no probabilities, or fewer rows than splits.
    """
    p = check_features(probabilities, "probabilities")  # (n, k)
    if (p < 0).any() or not torch.allclose(p.sum(dim=1), torch.ones(1, dtype=p.dtype), atol=1e-4):
        raise ValueError("probabilities must be >= 0 and sum to 1 in each row; apply a softmax to logits")
    if not 1 <= splits <= len(p):
        raise ValueError(f"splits={splits} must lie between 1 and the number of rows, {len(p)}")
    scores = []
    for part in p.tensor_split(splits):
        # E KL(p(y|x) || p(y)) = H(mean p) - mean H(p)
        entropy_of_mean = torch.special.entr(part.mean(dim=0)).sum()
        mean_entropy = torch.special.entr(part).sum(dim=1).mean()
        scores.append((entropy_of_mean - mean_entropy).exp())
    scores = torch.stack(scores)  # (splits,)
    return scores.mean().item(), scores.std(correction=0).item()


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum over all pairs of the kernel (x . y / d + 1)^3, a block of rows at a time."""
    return sum(((block @ y.T / x.shape[1] + 1) ** 3).sum() for block in x.split(1024))


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of features (n, d) and (m, d), n and m at least 2.

    The kernel is (x . y / d + 1)^3; no sample is paired with itself, so the value may be negative.
    """
    within = 0.0
    for z in (x, y):
        n = len(z)
        itself = ((z.square().sum(dim=1) / z.shape[1] + 1) ** 3).sum()
        within += (_kernel_sum(z, z) - itself) / (n * (n - 1))
    return within - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def _random_subsets(n: int, size: int, count: int, generator: torch.Generator) -> Tensor:
    """Indices (count, size) of random subsets of n things, disjoint as far as the things last."""
    per_round = n // size
    rounds = [
        torch.randperm(n, generator=generator)[: per_round * size].view(per_round, size)
        for _ in range(-(-count // per_round))
    ]
    return torch.cat(rounds)[:count]


def kernel_distance(
    a: Tensor, b: Tensor, *, generator: torch.Generator, subset_size: int = 1000, n_subsets: int = 10
) -> tuple[float, float]:
    """Unbiased squared MMD with the kernel (x . y / d + 1)^3: mean and standard error over random subsets.

    KID for features of Inception (Binkowski et al., 2018). Being unbiased, its mean does not depend on n,
    and it may be negative where the sets are alike. The standard error holds for disjoint subsets; once
    n_subsets * subset_size exceeds a set, subsets share samples and it is too small.

    Args:
        a, b: features (n, d) and (m, d).
        generator: draws the subsets, on the CPU.
        subset_size: samples of each set in a subset; at least 2, at most n and m.
        n_subsets: at least 2.

    Raises:
        ValueError: shapes that differ, or sizes out of range.
    """
    a, b = check_features(a, "a"), check_features(b, "b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"cannot compare {a.shape[1]} features with {b.shape[1]}: are the extractors the same?"
        )
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(f"subset_size={subset_size} must lie between 2 and {min(len(a), len(b))}")
    if n_subsets < 2:
        raise ValueError(f"n_subsets={n_subsets} must be at least 2")
    pairs = zip(
        _random_subsets(len(a), subset_size, n_subsets, generator),
        _random_subsets(len(b), subset_size, n_subsets, generator),
        strict=True,
    )
    values = torch.stack([squared_mmd(a[i], b[j]) for i, j in pairs])  # (n_subsets,)
    return values.mean().item(), (values.std() / n_subsets**0.5).item()


def _covered(points: Tensor, centres: Tensor, k: int) -> float:
    """Share of `points` within any ball around a centre that reaches to its k-th nearest other centre."""
    # The nearest centre of all is the centre itself, hence k + 1.
    radii = torch.cat([torch.cdist(c, centres).kthvalue(k + 1, dim=1).values for c in centres.split(1024)])
    inside = [(torch.cdist(p, centres) <= radii).any(dim=1) for p in points.split(1024)]
    return torch.cat(inside).double().mean().item()


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of fakes that look real, and of the real that fakes reach (Kynkäänniemi et al., 2019).

    Each set's manifold is the union of balls around its features, as wide as the distance to the k-th
    nearest neighbour. Both depend on n and k: compare at equal sizes. Costs (n + m)^2 distances.

    Args:
        real, fake: features (n, d) and (m, d), each of more than k rows.

    Raises:
        ValueError: shapes that differ, or too few rows.
    """
    real, fake = check_features(real, "real"), check_features(fake, "fake")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"cannot compare {real.shape[1]} features with {fake.shape[1]}")
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k={k} must lie between 1 and {min(len(real), len(fake)) - 1}")
    return _covered(fake, real, k), _covered(real, fake, k)


# -- reference statistics -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What is kept of real images: moments and, for the kernel distance, some features (m, d) or None."""

    extractor: str
    weights: str
    data: str
    split: str
    moments: Moments
    features: Tensor | None = None


def reference_path(
    extractor: Extractor, split: str, data: str = "cifar10", folder: Path = STATISTICS
) -> Path:
    """Where the statistics of one extractor on one split lie; features lie beside, in `*.features.*`."""
    return folder / f"{data}-{split}-{extractor.slug}.safetensors"


def save_reference(path: Path, reference: Reference) -> None:
    """Write moments, and features if there are any, each to a file of its own.

    Of the symmetric covariance the upper triangle is kept, in float32: 3.3 MB for 1,280 features, 8.4 MB
    for 2,048. The rounding, 6e-8 of each entry, is far below the sampling error of any number of images.
    Features are kept in float16.
    """
    labels = {key: getattr(reference, key) for key in ("extractor", "weights", "data", "split")}
    moments = reference.moments
    rows, columns = torch.triu_indices(*moments.cov.shape)
    tensors = {
        "count": torch.tensor(moments.count),
        "mean": moments.mean,
        "cov": moments.cov[rows, columns].float(),
    }
    write_atomically(path, lambda p: save_file(tensors, p, metadata=labels))
    if reference.features is not None:
        features = {"features": reference.features.half().contiguous()}
        write_atomically(path.with_suffix(".features.safetensors"), lambda p: save_file(features, p, labels))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged ({error}); restore it with `git checkout -- {path.name}` in {path.parent}, "
            "or make it again with `python -m data.recipes.reference_statistics`"
        ) from error


def load_reference(
    extractor: Extractor, split: str, data: str = "cifar10", folder: Path = STATISTICS
) -> Reference:
    """The stored statistics of the real images of one split, as `extractor` sees them.

    Raises:
        FileNotFoundError: nobody computed them; the message names the command that does.
        ValueError: they were made with other weights of the extractor, or are damaged.
    """
    path = reference_path(extractor, split, data, folder)
    command = "make them with `python -m data.recipes.reference_statistics`"
    if not path.exists():
        there = sorted(p.name for p in folder.glob("*.safetensors"))
        raise FileNotFoundError(
            f"no statistics at {path}; {command}; there are: {', '.join(there) or 'none'}"
        )
    tensors, labels = _read(path)
    if labels["weights"] != extractor.weights:
        raise ValueError(
            f"{path} was made with weights {labels['weights']}, not {extractor.weights}; {command}"
        )
    d = len(tensors["mean"])
    rows, columns = torch.triu_indices(d, d)
    cov = torch.empty(d, d, dtype=torch.float64)
    cov[rows, columns] = cov[columns, rows] = tensors["cov"].double()
    moments = Moments(int(tensors["count"]), tensors["mean"], cov)
    beside, features = path.with_suffix(".features.safetensors"), None
    if beside.exists():
        stored, labels_beside = _read(beside)
        if labels_beside != labels:
            raise ValueError(f"{beside} does not belong to {path.name}; {command}")
        features = stored["features"].float()
    return Reference(**labels, moments=moments, features=features)


# -- reports ------------------------------------------------------------------------------------------


def metric_names(extractor: str) -> dict[str, str]:
    """What to call each key of a report, with the extractor; only Inception's have names of their own."""
    if extractor == INCEPTION:
        return {"frechet_distance": "FID", "kernel_distance": "KID", "classifier_score": "Inception score"}
    return {
        "frechet_distance": f"Fréchet distance ({extractor})",
        "kernel_distance": f"kernel distance ({extractor})",
        "classifier_score": f"classifier score ({extractor})",
    }


def evaluate_features(
    features: Tensor, probabilities: Tensor | None, extractor: Extractor, reference: Reference
) -> dict:
    """All measures of features (n, d) and posteriors (n, k) against a reference of the same extractor.

    Returns:
        A dict of `extractor`, `n`, `data`, `split`, `n_reference`, `frechet_distance`; `kernel_distance` and
        `kernel_distance_error` where the reference holds features; `classifier_score` and
        `classifier_score_std` where there are posteriors and at least 10 images.

    Raises:
        ValueError: the reference was made by another extractor.
    """
    if (reference.extractor, reference.weights) != (extractor.name, extractor.weights):
        raise ValueError(f"the reference was made by {reference.extractor}, not by {extractor.name}")
    report = {
        "extractor": extractor.name,
        "n": len(features),
        "data": reference.data,
        "split": reference.split,
        "n_reference": reference.moments.count,
        "frechet_distance": frechet_distance(reference.moments, Moments.from_features(features)),
    }
    if reference.features is not None:
        # Ten disjoint subsets of the generated images; the real ones are the same for all that is compared.
        size = max(2, min(1000, len(features) // 10, len(reference.features)))
        fixed = torch.Generator().manual_seed(0)
        value, error = kernel_distance(reference.features, features, generator=fixed, subset_size=size)
        report |= {"kernel_distance": value, "kernel_distance_error": error}
    if probabilities is not None and len(probabilities) >= 10:
        score, std = inception_score(probabilities)
        report |= {"classifier_score": score, "classifier_score_std": std}
    return report


def evaluate_images(
    images: Tensor,
    extractor: Extractor,
    reference: Reference,
    batch_size: int = 32,
    progress: bool = False,
) -> dict:
    """`evaluate_features` of uint8 images (n, 3, h, w)."""
    features, probabilities = extractor.extract(images, batch_size, progress)
    return evaluate_features(features, probabilities, extractor, reference)


def format_report(report: dict) -> str:
    """One line: every measure, then the extractor, n, and the real images they were compared with."""
    names = {
        key: name.removesuffix(f" ({report['extractor']})")
        for key, name in metric_names(report["extractor"]).items()
    }
    parts = [f"{names['frechet_distance']} {report['frechet_distance']:.2f}"]
    if "kernel_distance" in report:
        value, error = report["kernel_distance"], report["kernel_distance_error"]
        parts.append(f"{names['kernel_distance']} {value:.5f} ± {error:.5f}")
    if "classifier_score" in report:
        value, std = report["classifier_score"], report["classifier_score_std"]
        parts.append(f"{names['classifier_score']} {value:.2f} ± {std:.2f}")
    against = f"{report['n_reference']:,} of {report['data']} {report['split']}"
    return f"{', '.join(parts)} [{report['extractor']}, n = {report['n']:,} against {against}]"
