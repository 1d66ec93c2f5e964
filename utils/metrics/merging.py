"""Measures of `metrics.images` whose states merge across processes, as metrics of torcheval.

Each process updates its own metric with its share of the samples; `torcheval.metrics.toolkit` then gathers
the states by torch.distributed and calls `merge_state`. All states are float64 on the CPU. The result is
that of one process which saw everything, but for the last digits.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torcheval.metrics import Metric

from utils.metrics.images import Moments, check_features


class MergedMoments(Metric[Moments]):
    """Count, mean and covariance of features (n, d); merges by Chan, Golub and LeVeque's exact rule.

    torcheval's own Fréchet distance sums float32 features and their products, which costs digits where
    the mean is large; here batches and processes are merged as centred moments in float64.

    Args:
        dim: number of features d.
    """

    def __init__(self, dim: int):
        super().__init__()
        self._add_state("count", 0)
        self._add_state("mean", torch.zeros(dim, dtype=torch.float64))
        self._add_state("cov", torch.zeros(dim, dim, dtype=torch.float64))

    def update(self, features: Tensor) -> "MergedMoments":
        """Add features (n, d), n >= 1; raises ValueError for another shape or values that are not finite."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"features must be (n, {len(self.mean)}), not {tuple(features.shape)}")
        return self._add(Moments.from_features(features))

    def compute(self) -> Moments:
        """The moments of all features so far; raises ValueError if there were none."""
        if not self.count:
            raise ValueError("there are no features to take moments of")
        return Moments(self.count, self.mean, self.cov)

    def merge_state(self, metrics: Iterable["MergedMoments"]) -> "MergedMoments":
        for metric in metrics:  # torcheval hands over objects that have the states and nothing else
            if metric.count:
                self._add(Moments(metric.count, metric.mean, metric.cov))
        return self

    def _add(self, part: Moments) -> "MergedMoments":
        total = self.compute().merge(part) if self.count else part
        self.count, self.mean, self.cov = total.count, total.mean, total.cov
        return self


class MergedClassifierScore(Metric[tuple[float, float]]):
    """`images.inception_score` of posteriors that arrive in any order, each row with its place among n.

    KL(p(y|x) || p(y)) averages to the entropy of the mean posterior less the mean entropy, so that sums
    are all that has to be kept of each part.

    Args:
        n: number of rows in the end; the parts are consecutive rows, as even as possible.
        classes: number of classes k.
        splits: number of parts, at most n.
    """

    def __init__(self, n: int, classes: int, splits: int = 10):
        super().__init__()
        if not 1 <= splits <= n:
            raise ValueError(f"splits={splits} must lie between 1 and n={n}")
        sizes = [len(part) for part in torch.arange(n).tensor_split(splits)]
        self.ends = torch.tensor(sizes).cumsum(0)  # (splits,)
        self._add_state("counts", torch.zeros(splits, dtype=torch.float64))
        self._add_state("posteriors", torch.zeros(splits, classes, dtype=torch.float64))
        self._add_state("entropies", torch.zeros(splits, dtype=torch.float64))

    def update(self, probabilities: Tensor, first: int) -> "MergedClassifierScore":
        """Add posteriors (b, k) of the rows `first`, `first` + 1, ... of n."""
        p = check_features(probabilities, "probabilities")
        if not 0 <= first <= self.ends[-1] - len(p):
            raise ValueError(f"rows {first} to {first + len(p) - 1} do not lie below n={int(self.ends[-1])}")
        part = torch.bucketize(torch.arange(first, first + len(p)), self.ends, right=True)  # (b,)
        self.counts.index_add_(0, part, torch.ones(len(p), dtype=torch.float64))
        self.posteriors.index_add_(0, part, p)
        self.entropies.index_add_(0, part, torch.special.entr(p).sum(dim=1))
        return self

    def compute(self) -> tuple[float, float]:
        """Mean and standard deviation over the parts; raises ValueError while rows are missing."""
        if self.counts.sum() != self.ends[-1]:
            raise ValueError(f"{int(self.counts.sum())} of n={int(self.ends[-1])} rows were given")
        mean = self.posteriors / self.counts[:, None]  # (splits, k)
        scores = (torch.special.entr(mean).sum(dim=1) - self.entropies / self.counts).exp()
        return scores.mean().item(), scores.std(correction=0).item()

    def merge_state(self, metrics: Iterable["MergedClassifierScore"]) -> "MergedClassifierScore":
        for metric in metrics:
            self.counts += metric.counts
            self.posteriors += metric.posteriors
            self.entropies += metric.entropies
        return self
