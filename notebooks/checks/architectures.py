"""Checks of notebook 09."""

import math

import torch

from notebooks.checks.common import exercise, normal, uniform


def check_attend(q: normal(2, 6, 4), k: normal(2, 6, 4), v: normal(2, 6, 3)):
    s = q @ k.transpose(1, 2)
    root = math.sqrt(q.shape[2])
    yield "right", (s / root).softmax(2) @ v
    yield "each key's weights add to 1: each query's must", (s / root).softmax(1) @ v
    yield "queries and keys have changed places", (s.transpose(1, 2) / root).softmax(2) @ v
    yield "the scores are not scaled", s.softmax(2) @ v
    yield "divided by the number of channels: its root is wanted", (s / root**2).softmax(2) @ v
    yield "the scores are no weights yet: they add to no 1", (s / root) @ v
    yield "a sigmoid of each score: the weights of a query must add to 1", (s / root).sigmoid() @ v
    yield "all positions get equal weights", v.mean(1, keepdim=True).expand(v.shape)


def check_with_batch_std(h: normal(5, 3, 2, 2)):
    def behind(value):
        return torch.cat([h, value.expand(len(h), 1, *h.shape[2:])], 1)

    over_batch = h.std(0, correction=0)  # (c, s, s)
    yield "right", behind(over_batch.mean())
    yield "that is the unbiased deviation, which is nan for a batch of one", behind(h.std(0).mean())
    yield "one deviation of all numbers: it must be taken over the batch", behind(h.std(correction=0))
    yield (
        "deviations over the positions of each image: the batch is meant",
        behind(h.std((2, 3), correction=0).mean()),
    )
    yield "that is the variance: its root is missing", behind(h.var(0, correction=0).mean())
    yield (
        "averaged over channels alone: one number for all positions",
        behind(over_batch.mean(0, keepdim=True)[None]),
    )
    yield "that is the batch's mean, not its spread", behind(h.mean())
    yield "the new map comes first: it belongs behind", behind(over_batch.mean())[:, [3, 0, 1, 2]]


def _classes(g):
    return torch.randint(4, (6,), generator=g)


def check_projection_logit(
    phi: normal(6, 3), y: _classes, w: normal(3), b: uniform(0.5, 1.5), V: normal(4, 3)
):
    free, scores = phi @ w + b, phi @ V.T  # (n,), (n, k)
    own = scores.gather(1, y[:, None])[:, 0]
    yield "right", free + own
    yield "the class is not used", free
    yield "the part that no class has is missing", own
    yield "the bias is missing", free + own - b
    yield "the class must lower nothing: its part is added", free - own
    yield "all classes are summed: only y counts", free + scores.sum(1)
    yield "that is a classifier's log posterior: nothing is normalised here", free + own - scores.logsumexp(1)
    yield "the class's row is summed without the features", free + V[y].sum(1)


def _shares(g):
    return (normal(4)(g)).softmax(0)


def check_within_class(d: normal(6), y: _classes, share_d: _shares, share_g: _shares):
    term = (share_d / share_g).log()
    yield "right", d - term[y]
    yield "the class term is to be taken away, not added", d + term[y]
    yield "the shares of classes are not used", d + 0 * term[y]
    yield "a ratio stands where its logarithm belongs", d - term.exp()[y]
    yield "the generator's share is not used", d - share_d.log()[y]
    yield "the data's share is not used", d + share_g.log()[y]
    yield "the mean over classes is taken away: each point has its own", d - term.mean()


@exercise(inputs=lambda g: (normal(3, 2, 3, 3)(g), 8), tolerance=1e-3)
def check_circular_norm(kernel, side):
    flat = torch.linalg.matrix_norm(kernel.flatten(1), 2)
    waves = torch.fft.fft2(kernel, (side, side))
    norms = torch.linalg.matrix_norm(waves.permute(2, 3, 0, 1), 2)  # one a frequency
    yield "right", norms.max()
    yield "that is the reshaped kernel's norm, not the operator's", flat
    yield "that is the bound: the norm itself is smaller", kernel.shape[-1] * flat
    yield "only the constant image is tried: frequency zero", norms[0, 0]
    yield "the mean over frequencies: the largest is wanted", norms.mean()
    yield "channels are not mixed: a matrix stands at each frequency", waves.abs().max()
    yield "that is the Frobenius norm of each matrix", waves.abs().square().sum((0, 1)).sqrt().max()
    yield "that is its square", norms.max() ** 2
