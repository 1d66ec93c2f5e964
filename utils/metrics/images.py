"""How good are generated images: Fréchet and kernel distance, classifier score, precision and recall.

Everything is computed from features and posteriors that a named extractor gives (`metrics.extractors`), in
float64, on the CPU. The distances are called FID and KID, and the score Inception score, for the Inception
network of the literature alone.
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from utils.checkpoints import write_atomically
from utils.config import STATISTICS
from utils.metrics.extractors import Extractor

COMMAND = "make them with `python -m data.recipes.reference_statistics`"


def check_features(features: Tensor, name: str = "features", width: int | None = None) -> Tensor:
    """`features` (n, d) as float64 on the CPU; ValueError unless n >= 1, d is `width` and all are finite."""
    features = torch.as_tensor(features)
    if features.ndim != 2 or 0 in features.shape or features.is_complex():
        found = f"{tuple(features.shape)} of {features.dtype}"
        raise ValueError(f"{name} must be real numbers (n, d) with n >= 1, not {found}")
    features = features.detach().cpu().double()
    if not features.isfinite().all():
        raise ValueError(f"{name} contain values that are not finite")
    _check_width(width or features.shape[1], features.shape[1])
    return features


def _check_width(a: int, b: int) -> None:
    if a != b:
        raise ValueError(f"cannot compare {a} features with {b}: are the extractors the same?")


@dataclass(frozen=True)
class Moments:
    """Count n, mean (d,) and covariance (d, d) (divided by n - 1) of features, in float64."""

    count: int
    mean: Tensor
    cov: Tensor

    def __post_init__(self) -> None:
        for name in ("mean", "cov"):  # numpy's arrays too, as other tools store them
            value = torch.as_tensor(getattr(self, name)).double()
            if not value.isfinite().all():
                raise ValueError(f"{name} has values that are not finite; make the statistics again")
            object.__setattr__(self, name, value)

    @classmethod
    def from_features(cls, features: Tensor, chunk_size: int = 1024) -> "Moments":
        """Moments of features (n, d), in chunks, so that the copy in float64 stays small."""
        return cls.from_batches(torch.as_tensor(features).split(chunk_size))

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
    """|m_a - m_b|^2 + tr A + tr B - 2 tr (A^(1/2) B A^(1/2))^(1/2), squared 2-Wasserstein of two Gaussians.

    Dowson and Landau (1982); FID is this for features of Inception (Heusel et al., 2017). The bias is up and
    of order 1/n: compare at equal n. Warns (RuntimeWarning) where n <= d or a set has no spread; raises
    ValueError for fewer than two samples or other numbers of features.
    """
    _check_width(len(a.mean), len(b.mean))
    n, d = min(a.count, b.count), len(a.mean)
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 samples, not {n}")
    found = None
    if n <= d:
        found = f"{n} samples for {d} features: the distance is biased strongly upwards; take many more"
    if not min(a.cov.trace(), b.cov.trace()) > 0:
        found = "all samples of one set have the same features: are its images constant?"
    if found:
        warnings.warn(found, RuntimeWarning, stacklevel=2)
    values, vectors = torch.linalg.eigh(a.cov)  # (d,), (d, d)
    root = vectors * values.clamp(min=0).sqrt()  # (d, d) with root @ root.T = A
    product = torch.linalg.eigvalsh(root.T @ b.cov @ root)  # (d,), of A^(1/2) B A^(1/2), symmetric: real
    overlap = product.clamp(min=0).sqrt().sum()  # rounding makes zeros slightly negative
    squared = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * overlap
    return squared.item()


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """exp E_x KL(p(y|x) || p(y)) of posteriors (n, k): mean and standard deviation over consecutive parts.

    Between 1 and k (Salimans et al., 2016); a *classifier score* unless Inception gave the posteriors. It
    rewards confident and balanced ones and never looks at a real image; parts of few rows score too low.
    Raises ValueError for rows that are no probabilities within their type's rounding, or fewer than splits.
    """
    p = check_features(probabilities, "probabilities")  # (n, k)
    rounding = torch.finfo(probabilities.dtype).eps if torch.is_floating_point(probabilities) else 0
    sums = p.sum(dim=1, keepdim=True)  # (n, 1)
    if (p < 0).any() or ((sums - 1).abs() > max(1e-4, rounding)).any():
        found = f"not to {sums.min():.4g} to {sums.max():.4g}"
        raise ValueError(f"probabilities must be >= 0 and rows sum to 1, {found}; apply a softmax to logits")
    if not 1 <= splits <= len(p):
        raise ValueError(f"splits={splits} must lie between 1 and the number of rows, {len(p)}")
    scores = []
    for part in (p / sums).tensor_split(splits):
        # E KL(p(y|x) || p(y)) = H(mean p) - mean H(p)
        entropy_of_mean = torch.special.entr(part.mean(dim=0)).sum()
        mean_entropy = torch.special.entr(part).sum(dim=1).mean()
        scores.append((entropy_of_mean - mean_entropy).exp())
    scores = torch.stack(scores)  # (splits,)
    return scores.mean().item(), scores.std(correction=0).item()


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of features (n, d) and (m, d), n and m at least 2.

    The kernel is (x . y / d + 1)^3; no sample is paired with itself, so the value may be negative.
    """

    def pairs(a: Tensor, b: Tensor) -> Tensor:  # the sum over all, a block of rows at a time
        return sum(((block @ b.T / b.shape[1] + 1) ** 3).sum() for block in a.split(1024))

    def within(a: Tensor) -> Tensor:
        itself = ((a.square().mean(dim=1) + 1) ** 3).sum()
        return (pairs(a, a) - itself) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * pairs(x, y) / (len(x) * len(y))


def _random_subsets(n: int, size: int, count: int, generator: torch.Generator) -> Tensor:
    """Indices (count, size) of random subsets of n things, disjoint as far as the things last."""
    per_round = n // size
    orders = [torch.randperm(n, generator=generator) for _ in range(-(-count // per_round))]
    return torch.cat([order[: per_round * size].view(per_round, size) for order in orders])[:count]


def kernel_distance(
    a: Tensor, b: Tensor, *, generator: torch.Generator, subset_size: int = 1000, n_subsets: int = 10
) -> tuple[float, float]:
    """`squared_mmd` of features (n, d) and (m, d): mean and standard error over random subsets of each.

    KID for features of Inception (Binkowski et al., 2018). Its mean does not depend on n. The standard error
    is too small once n_subsets * subset_size exceeds a set: then subsets share samples. The generator lies on
    the CPU. Raises ValueError for widths that differ, or sizes out of range.
    """
    a = check_features(a, "a")
    b = check_features(b, "b", a.shape[1])
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(f"subset_size={subset_size} must lie between 2 and {min(len(a), len(b))}")
    if n_subsets < 2:
        raise ValueError(f"n_subsets={n_subsets} must be at least 2")
    of_a, of_b = (_random_subsets(len(x), subset_size, n_subsets, generator) for x in (a, b))
    values = torch.stack([squared_mmd(a[i], b[j]) for i, j in zip(of_a, of_b, strict=True)])  # (n_subsets,)
    return values.mean().item(), (values.std() / n_subsets**0.5).item()


def _covered(points: Tensor, centres: Tensor, k: int) -> float:
    """Share of `points` within any ball around a centre that reaches to its k-th nearest other centre."""
    # The nearest centre of all is the centre itself, hence k + 1.
    radii = torch.cat([torch.cdist(c, centres).kthvalue(k + 1, dim=1).values for c in centres.split(1024)])
    inside = [(torch.cdist(p, centres) <= radii).any(dim=1) for p in points.split(1024)]
    return torch.cat(inside).double().mean().item()


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of fakes that look real, and of the real that fakes reach; features (n, d) and (m, d).

    A set's manifold is the union of balls around its features, each to its k-th nearest neighbour
    (Kynkäänniemi et al., 2019). Both depend on n and k: compare at equal sizes. Costs (n + m)^2 distances.
    Raises ValueError for widths that differ, or k rows or fewer.
    """
    real = check_features(real, "real")
    fake = check_features(fake, "fake", real.shape[1])
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k={k} must lie between 1 and {min(len(real), len(fake)) - 1}")
    return _covered(fake, real, k), _covered(real, fake, k)


# -- reference statistics -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What is kept of real images: moments and, for the kernel distance, some features (m, d)."""

    extractor: str
    weights: str
    data: str
    split: str
    moments: Moments
    features: Tensor


def reference_path(
    extractor: Extractor, split: str, data: str = "cifar10", folder: Path = STATISTICS
) -> Path:
    """Where the moments of one extractor on one split lie; features lie beside, in `*.features.*`."""
    slug = re.sub(r"[^a-z0-9]+", "-", extractor.name.lower()).strip("-")
    return folder / f"{data}-{split}-{slug}.safetensors"


def save_reference(path: Path, reference: Reference) -> None:
    """Write moments and features, each to a file of its own.

    The upper triangle of the covariance is float32 (3.3 MB for 1,280 features), features are float16: the
    rounding is far below the sampling error of any number of images.
    """
    labels = {key: getattr(reference, key) for key in ("extractor", "weights", "data", "split")}
    moments = reference.moments
    upper = moments.cov[*torch.triu_indices(*moments.cov.shape)].float()
    tensors = {"count": torch.tensor(moments.count), "mean": moments.mean, "cov": upper}
    features = {"features": reference.features.half().contiguous()}
    write_atomically(path, lambda p: save_file(tensors, p, labels))
    write_atomically(path.with_suffix(".features.safetensors"), lambda p: save_file(features, p, labels))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    except SafetensorError as error:
        remedy = f"restore it with `git checkout -- {path.name}` in {path.parent}, or {COMMAND}"
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error


def load_reference(
    extractor: Extractor, split: str, data: str = "cifar10", folder: Path = STATISTICS
) -> Reference:
    """The stored statistics of the real images of one split, as `extractor` sees them.

    Raises FileNotFoundError, naming the command that computes them, where nobody did; ValueError if they were
    made with other weights of the extractor or are damaged.
    """
    path = reference_path(extractor, split, data, folder)
    beside = path.with_suffix(".features.safetensors")
    if not (path.exists() and beside.exists()):
        there = ", ".join(sorted(p.name for p in folder.glob("*.safetensors"))) or "none"
        raise FileNotFoundError(f"no statistics at {path}; {COMMAND}; there are: {there}")
    (tensors, labels), (stored, labels_beside) = _read(path), _read(beside)
    if labels["weights"] != extractor.weights:
        other = f"{labels['weights']}, not {extractor.weights}"
        raise ValueError(f"{path} was made with weights {other}; {COMMAND}")
    if labels_beside != labels:
        raise ValueError(f"{beside} does not belong to {path.name}; {COMMAND}")
    d = len(tensors["mean"])
    rows, columns = torch.triu_indices(d, d)
    cov = torch.empty(d, d, dtype=torch.float64)
    cov[rows, columns] = cov[columns, rows] = tensors["cov"].double()
    moments = Moments(int(tensors["count"]), tensors["mean"], cov)
    return Reference(**labels, moments=moments, features=stored["features"].float())


def evaluate_features(
    features: Tensor, probabilities: Tensor, extractor: Extractor, reference: Reference
) -> dict:
    """All measures of features (n, d) and posteriors (n, k) against a reference of the same extractor.

    Fewer than 10 images have no classifier score. Raises ValueError for a reference of another extractor,
    numbers of rows that differ, or values that are not finite.
    """
    if (reference.extractor, reference.weights) != (extractor.name, extractor.weights):
        raise ValueError(f"the reference was made by {reference.extractor}, not by {extractor.name}")
    if len(probabilities) != len(features):
        raise ValueError(f"there are {len(probabilities)} probabilities for {len(features)} features")
    # ten disjoint subsets of the generated images, and the same real ones for all that is compared
    size = max(2, min(1000, len(features) // 10, len(reference.features)))
    fixed = torch.Generator().manual_seed(0)
    kernel, error = kernel_distance(reference.features, features, generator=fixed, subset_size=size)
    report = {
        "extractor": extractor.name,
        "n": len(features),
        "data": reference.data,
        "split": reference.split,
        "n_reference": reference.moments.count,
        "frechet_distance": frechet_distance(reference.moments, Moments.from_features(features)),
        "kernel_distance": kernel,
        "kernel_distance_error": error,
    }
    if len(features) >= 10:
        score, std = inception_score(probabilities)
        report |= {"classifier_score": score, "classifier_score_std": std}
    return report
