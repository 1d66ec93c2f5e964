"""Checks of notebooks 12 and 13."""

import torch
from torch import nn

from notebooks.checks.common import exercise, normal, uniform

# Notebook 12


@exercise(edges=[lambda g: (300 + normal(2, 3)(g),)])
def check_pool_weights(d: normal(4, 3)):
    p = d.sigmoid()
    return {
        "right": d.softmax(1),
        "the sign is wrong: a high logit is likely": (-d).softmax(1),
        "a probability stands where the logit belongs": p / p.sum(1, keepdim=True),
        "normalise over the particles of a pool, not over the pools": d.softmax(0),
        "normalise over each pool, not over all of them": d.flatten().softmax(0).view_as(d),
        "all particles have the same weight: d is not used": torch.full_like(d, 1 / 3),
        "not normalised: probabilities of a pool sum to 1": d.exp(),
        "exp(300) overflows: only differences of logits matter": d.exp() / d.exp().sum(1, keepdim=True),
    }


def check_score_from_denoiser(noised: normal(5, 2), denoised: normal(5, 2), sigma: uniform(0.5, 2)):
    return {
        "right": (denoised - noised) / sigma**2,
        "the score has the wrong sign: it points towards the clean point": (noised - denoised) / sigma**2,
        "the noise level counts by its variance": (denoised - noised) / sigma,
        "the noise level is not used": denoised - noised,
        "the denoised point itself is no score": denoised / sigma**2,
        "multiplied where it should be divided": (denoised - noised) * sigma**2,
        "that is the score of the noise: the prediction is not used": -noised / sigma**2,
    }


def _labels(g):
    return torch.randint(4, (6,), generator=g)


def check_guided_energy(energy: normal(6), logits: normal(6, 4), y: _labels, weight: uniform(1.5, 3)):
    def of(values):
        return values.gather(1, y[:, None])[:, 0]

    log_p = of(logits.log_softmax(1))
    return {
        "right": energy - weight * log_p,
        "the sign is wrong: a likely class must lower the energy": energy + weight * log_p,
        "the weight is not used": energy - log_p,
        "the weight belongs to the class alone": weight * (energy - log_p),
        "a probability stands where its logarithm belongs": energy - weight * log_p.exp(),
        "the class logits are not normalised": energy - weight * of(logits),
        "normalise over the classes, not over the batch": energy - weight * of(logits.log_softmax(0)),
        "all classes are summed: only y counts": energy - weight * logits.log_softmax(1).sum(1),
    }


# Notebook 13


def _network(g):
    """A discriminator in training mode with logits beyond +-40, and points."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1), nn.Sigmoid())
    for parameter in network.parameters():
        parameter.data = normal(*parameter.shape)(g)
    network[2].weight.data = torch.tensor([[50.0, -30.0]])
    return network.train().requires_grad_(False), torch.cat([0.05 * normal(3, 2)(g), 9 + normal(2, 2)(g)])


@exercise(inputs=_network, curried=True)
def check_logit_of_sequential(network, x):
    trained = network[:-1](x)[:, 0]
    right = network.eval()[:-1](x)
    p = right.sigmoid()[:, 0]
    return {
        "right": right[:, 0],
        "the shape is (n, 1): take the last axis away, or it will broadcast": right,
        "that is still the probability": p,
        "the probability rounds to 0 and 1, and no formula brings the logit back": p.logit(),
        "a clamp hides that the probability has rounded: large logits are wrong": p.logit(1e-6),
        "a point's logit depends on its neighbours: the network is in training mode": trained,
        "the sign is wrong: a high logit looks real": -right[:, 0],
    }


@exercise(up_to_constant=True)
def check_exponential_prior(z: normal(6, 3)):
    w = z.exp()
    return {
        "right": (z - w).sum(1),
        "the Jacobian is missing": -w.sum(1),
        "the Jacobian divides where it should multiply": (-w - z).sum(1),
        "that is the energy: the logarithm of the density has the other sign": (w - z).sum(1),
        "that is the standard normal: the prior of w is exponential": -0.5 * z.square().sum(1),
        "that is the density of w at z": -z.sum(1),
        "the logarithm of the density is wanted": (z - w).sum(1).exp(),
        "sum over coordinates, do not average": (z - w).mean(1),
    }


@exercise(edges=[lambda g: (normal(5)(g), 1.0)])
def check_unsmoothed_logit(
    smoothed: lambda g: (0.6 * uniform(0.02, 0.98, 5)(g)).logit(), s: uniform(0.7, 0.95)
):
    p, log_s = smoothed.sigmoid(), torch.tensor(s).log()
    right = smoothed - (s - (1 - s) * smoothed.exp()).log()
    return {
        "right": right,
        "the smoothing is still in: the logits come back unchanged": smoothed,
        "the probability is scaled by s, but its logit does not shift": smoothed - log_s,
        "dividing the logit by s does not undo it": smoothed / s,
        "the sign is wrong: the density of the data belongs on top": -right,
        "that smooths once more": (s * p).logit() if s < 1 else smoothed + 1,
        "that is the ratio: its logarithm is wanted": right.exp(),
        "right for s = 0.9 only": smoothed - (0.9 - 0.1 * smoothed.exp()).log(),
    }
