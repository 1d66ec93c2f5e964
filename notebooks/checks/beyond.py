"""Checks of notebooks 13 and 14."""

import math

import torch
from torch import nn

from notebooks.checks.common import exercise, normal, uniform
from utils.density_ratio import platt


@exercise(edges=[lambda g: (normal(40, 3, 2)(g), 300 + normal(40, 3)(g), uniform(0, 1, 40)(g))])
def check_pick(pool: normal(40, 3, 2), d: normal(40, 3), u: uniform(0, 1, 40)):
    def by(p):
        index = (p.cumsum(1) <= u[:, None]).sum(1).clamp(max=p.shape[1] - 1)
        return pool[torch.arange(len(pool)), index]

    def normalised(weights):
        return weights / weights.sum(1, keepdim=True)

    yield "right", by(d.softmax(1))
    yield "the sign is wrong: a high logit is likely", by((-d).softmax(1))
    yield "a probability stands where the logit belongs", by(normalised(d.sigmoid()))
    yield "all particles have the same weight: d is not used", by(torch.full_like(d, 1 / d.shape[1]))
    yield "that takes the best of each pool: it samples nothing", pool[torch.arange(len(pool)), d.argmax(1)]
    yield "normalised over the pools, not over the particles of a pool", by(d.softmax(0))
    yield "that is the pool's mean: one particle is to be picked", (d.softmax(1)[..., None] * pool).sum(1)
    yield "exp(300) overflows: only differences of logits matter", by(normalised(d.exp()))


@exercise(edges=[lambda g: (normal(2, 3)(g), normal(2, 3)(g), 400 * normal(2)(g), torch.zeros(2) + 500)])
def check_acceptance(z: normal(9, 3), z_new: normal(9, 3), d: normal(9), d_new: normal(9)):
    ratio, prior = d_new - d, 0.5 * (z.square() - z_new.square()).sum(1)
    yield "right", ratio.clamp(max=0).exp()
    yield "the ratio is upside down: a higher new logit is always accepted", (-ratio).clamp(max=0).exp()
    yield "a probability is at most 1", ratio.exp()
    yield "the prior counts twice: newcomers are drawn from it already", (ratio + prior).clamp(max=0).exp()
    yield "the prior counts, and upside down", (ratio - prior).clamp(max=0).exp()
    yield "that is the rule of i-SIR with two particles, also exact, but slower", ratio.sigmoid()
    yield "probabilities stand where logits belong", (d_new.sigmoid() / d.sigmoid()).clamp(max=1)
    yield "the ratio of the odds is exp(d' - d), not that of the logits", (d_new / d).clamp(max=1)


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


def _two_classes(g):
    """Logits of 90 real points and 50 samples that overlap, on a wrong scale."""
    return 0.4 * normal(90)(g) + 0.5, 0.4 * normal(50)(g) - 0.1


@exercise(inputs=_two_classes, tolerance=1e-2)
def check_platt_line(real, fake):
    d = torch.cat([real, fake])[:, None].double()
    y = torch.cat([torch.ones(len(real)), torch.zeros(len(fake))]).double()

    def fit(**options):
        from sklearn.linear_model import LogisticRegression  # here, since it takes seconds

        model = LogisticRegression(C=math.inf, tol=1e-10, **options).fit(d.numpy(), y.numpy())
        return model.coef_[0, 0], model.intercept_[0] if options.get("fit_intercept", True) else 0.0

    a, b = platt(real, fake)
    line = torch.linalg.lstsq(torch.cat([d, torch.ones_like(d)], 1), y).solution
    yield "right", (a, b)
    yield "the classes are exchanged: a high value must mean real", (-a, -b)
    yield "slope first, then intercept", (b, a)
    yield "each class weighs the same, however many points it has: a mean over each", fit()
    yield "the intercept is missing", fit(fit_intercept=False, class_weight="balanced")
    yield "that is least squares on the labels, whose line is a probability", (line[0], line[1])
    yield "the logits come back as they are", (1.0, 0.0)


def _toy(g):
    weight = normal(2)(g)
    return normal(6, 2)(g), lambda w: 1.5 * w + 0.2 * w**2, lambda x: (x * weight.to(x)).sum(1)


@exercise(inputs=_toy, up_to_constant=True)
def check_energy_of_uniform(z, G, d):
    w = torch.special.erf(z / math.sqrt(2))
    normal_part, slope = 0.5 * z.square().sum(1), (-0.5 * z.square()).sum(1)
    yield "right", normal_part - d(G(w))
    yield "the prior is missing: z is normal", -d(G(w))
    yield "d enters with the wrong sign: real must be low", normal_part + d(G(w))
    yield "G takes the uniform latent, not z", normal_part - d(G(z))
    yield "the uniform runs from -1 to 1, not from 0 to 1", normal_part - d(G((w + 1) / 2))
    yield "that is erf without the root of 2: not uniform", normal_part - d(G(torch.special.erf(z)))
    yield "the prior of w has no place here: z is what moves", 0.5 * w.square().sum(1) - d(G(w))
    yield "no Jacobian: the density of z is the normal already", normal_part - slope - d(G(w))
    yield "tanh has the logistic law, not the normal one", normal_part - d(G(torch.tanh(z / 2)))
