"""Checks of notebooks 12 and 13."""

import torch
from torch import nn

from notebooks.checks.common import exercise, normal, uniform


@exercise(edges=[lambda g: (300 + normal(2, 3)(g),)])
def check_pool_weights(d: normal(4, 3)):
    p = d.sigmoid()
    yield "right", d.softmax(1)
    yield "the sign is wrong: a high logit is likely", (-d).softmax(1)
    yield "a probability stands where the logit belongs", p / p.sum(1, keepdim=True)
    yield "normalised over the pools, not over the particles of a pool", d.softmax(0)
    yield "all particles have the same weight: d is not used", torch.full_like(d, 1 / 3)
    yield "not normalised: probabilities of a pool sum to 1", d.exp()
    yield "exp(300) overflows: only differences of logits matter", d.exp() / d.exp().sum(1, keepdim=True)


def check_score_from_denoiser(noised: normal(5, 2), denoised: normal(5, 2), sigma: uniform(0.5, 2)):
    yield "right", (denoised - noised) / sigma**2
    yield "the noise level counts by its variance", (denoised - noised) / sigma
    yield "the noise level is not used", denoised - noised
    yield "the denoised point itself is no score", denoised / sigma**2
    yield "that is the score of the noise: the prediction is not used", -noised / sigma**2


def _labels(g):
    return torch.randint(4, (6,), generator=g)


def check_guided_energy(energy: normal(6), logits: normal(6, 4), y: _labels, weight: uniform(1.5, 3)):
    def of(values):
        return values.gather(1, y[:, None])[:, 0]

    log_p = of(logits.log_softmax(1))
    yield "right", energy - weight * log_p
    yield "the sign is wrong: a likely class must lower the energy", energy + weight * log_p
    yield "the weight is not used", energy - log_p
    yield "a probability stands where its logarithm belongs", energy - weight * log_p.exp()
    yield "the class logits are not normalised", energy - weight * of(logits)
    yield "normalised over the batch, not over the classes", energy - weight * of(logits.log_softmax(0))
    yield "all classes are summed: only y counts", energy - weight * logits.log_softmax(1).sum(1)


def _network(g):
    """A discriminator in training mode."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1), nn.Sigmoid())
    for weights in network.parameters():
        weights.data = normal(*weights.shape)(g)
    return network.requires_grad_(False)


@exercise(edges=[lambda g: (_network(g), 4000 * normal(9, 2)(g))], curried=True)
def check_logit_of_sequential(network: _network, x: normal(4, 2)):
    right = network.eval()[:-1](x)
    p = right.sigmoid()[:, 0]
    yield "right", right[:, 0]
    yield "the shape is (n, 1): take the last axis away, or it will broadcast", right
    yield "that is still the probability", p
    yield "a clamp hides that the probability rounds: large logits are wrong", p.logit(1e-6)
    yield "the probability rounds to 0 and 1, and no formula brings the logit back", p.logit()
    yield "a point's logit depends on its neighbours: training mode is on", network.train()[:-1](x)[:, 0]


@exercise(up_to_constant=True)
def check_exponential_prior(z: normal(6, 3)):
    w = z.exp()
    yield "right", (z - w).sum(1)
    yield "the Jacobian is missing", -w.sum(1)
    yield "the Jacobian divides where it should multiply", (-w - z).sum(1)
    yield "that is the standard normal: the prior of w is exponential", -0.5 * z.square().sum(1)
    yield "that is the density of w at z", -z.sum(1)
    yield "that is a mean over coordinates, which are independent", (z - w).mean(1)


@exercise(edges=[lambda g: (normal(5)(g), 1.0)])
def check_unsmoothed_logit(
    smoothed: lambda g: (0.6 * uniform(0.02, 0.98, 5)(g)).logit(), s: uniform(0.7, 0.95)
):
    p, log_s = smoothed.sigmoid(), torch.tensor(s).log()
    right = smoothed - (s - (1 - s) * smoothed.exp()).log()
    yield "right", right
    yield "the smoothing is still in: the logits come back unchanged", smoothed
    yield "the probability is scaled by s, but its logit does not shift", smoothed - log_s
    yield "dividing the logit by s does not undo it", smoothed / s
    yield "that smooths once more", (s * p).logit() if s < 1 else smoothed + 1
    yield "right for s = 0.9 only", smoothed - (0.9 - 0.1 * smoothed.exp()).log()
