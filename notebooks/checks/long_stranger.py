"""Checks of notebook 15, third part: DDLS on a stranger's networks, and its report. See `long`."""

import math

import torch
from torch import nn

from notebooks.checks import long_course as course
from notebooks.checks.common import exercise, uniform
from notebooks.checks.long import LEVEL, _alone, _generator, _same
from notebooks.checks.long_course import seed_of, seeded
from utils.energy import latent_energy
from utils.metrics.toy import energy_distance


def _stranger(g, scale=3.0):
    """Two networks in training mode: latents (n, 3, 1, 1) uniform on (-1, 1), D ends in a sigmoid."""
    net_G = nn.Sequential(nn.Flatten(), nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 2))
    net_D = nn.Sequential(
        nn.Linear(2, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid()
    )
    for weights in (*net_G.parameters(), *net_D.parameters()):
        weights.data = scale * torch.randn(weights.shape, generator=g) / weights.shape[-1] ** 0.5
    net_G[2].running_mean += 0.5
    return net_G, net_D, 3


def _latents(n, seed, k=3):
    return torch.randn(n, k, generator=seeded(seed))


def _same_law(f, net_G, net_D, k):
    from scipy import stats  # here, since it takes seconds

    G, _ = f(net_G, net_D, k)
    with torch.no_grad():
        theirs = net_G.eval()(2 * torch.rand(4000, k, 1, 1, generator=seeded(1)) - 1)
        pairs = zip(G(_latents(4000, 2)).T, theirs.T, strict=True)
        return all(stats.ks_2samp(a, b).pvalue > LEVEL for a, b in pairs)


def _leaves_alone(f, net_G, net_D, k):
    before = [value.clone() for net in (net_G, net_D) for value in net.state_dict().values()]
    G, d = f(net_G, net_D, k)
    d(G(_latents(50, 3)))
    after = [value for net in (net_G, net_D) for value in net.state_dict().values()]
    return all(map(torch.equal, before, after))


def _sure(f, net_G, net_D, k):
    """Where D's sigmoid has rounded to 0 or 1 the logit still is finite and has a slope."""
    net_D[3].bias.data.fill_(0.0)
    net_D[3].weight.data *= 1e3
    x = _latents(200, 4, 2).requires_grad_(True)
    d = f(net_G, net_D, k)[1](x)
    (slope,) = torch.autograd.grad(d.sum(), x)
    return d.isfinite().all() and slope.isfinite().all() and (slope.norm(dim=1) > 1e-3).all()


def _sigmoid_back(f, net_G, net_D, k):
    x = _latents(200, 5, 2)
    return torch.allclose(f(net_G, net_D, k)[1](x).sigmoid(), net_D.eval()(x)[:, 0], atol=1e-4)


def _differences_agree(f, net_G, net_D, k, delta=1e-6):
    G, d = f(net_G.double(), net_D.double(), k)
    energy, z = latent_energy(G, d), _latents(20, 6).double().requires_grad_(True)
    (slope,) = torch.autograd.grad(energy(z).sum(), z)
    step = torch.zeros(1, k).double()
    step[0, 0] = delta
    return torch.allclose(
        slope[:, 0], ((energy(z + step) - energy(z - step)) / (2 * delta)).detach(), 1e-3, 1e-3
    )


@exercise(
    inputs=_stranger,
    random=True,
    draws=1,
    course=course.wrap,
    demands={
        "G takes z (n, latent_dim), d gives one number a row, (n,)": lambda f, g, d, k: (
            f(g, d, k)[0](_latents(7, 7)).shape == (7, 2) and f(g, d, k)[1](_latents(7, 7, 2)).shape == (7,)
        ),
        "a row depends on the rows beside it: training mode is on": lambda f, g, d, k: (
            _alone(f(g, d, k)[0], _latents(9, 8)) and _alone(f(g, d, k)[1], _latents(9, 9, 2))
        ),
        "the stranger's networks are changed: weights, or running averages": _leaves_alone,
        "for normal z the law of G(z) is not that of the stranger's samples: the prior": _same_law,
        "where D is sure of itself, d is infinite or has no slope": _sure,
        "the sigmoid of d does not give back D's probability": _sigmoid_back,
        "the gradient of the energy is not what finite differences say": _differences_agree,
    },
)
def check_wrap(net_G, net_D, latent_dim):
    yield "right", course.wrap(net_G, net_D, latent_dim)


class Shift:
    """Data N((m, 0), I), a generator that returns z; the log ratio times `sure`, plus `beside`.

    For m = 0, where nothing is to be gained, a logit that has nothing to do with it.
    """

    def __init__(self, m=1.0, sure=1.0, beside=0.0):
        self.m, self.sure, self.beside = m, sure, beside

    def real(self, n, generator):
        return torch.randn(n, 2, generator=generator) + torch.tensor([self.m, 0.0])

    def d(self, x):
        return self.sure * (self.m * x[:, 0] - self.m**2 / 2 if self.m else (3 * x[:, 1]).sin()) + self.beside


def _identity(z):
    return z + 0


def _toy(g):
    toy = Shift(uniform(0.8, 1.1)(g), uniform(2, 4)(g), uniform(-1, 1)(g))
    return _identity, toy.d, 2, toy.real, 200, _generator(g)


def _weighed(f, toy, g):
    return f(_identity, toy.d, 2, toy.real, 20_000, g)


def _of_toy(holds, sure=3.0, beside=1.0, m=1.0):
    return lambda f, *given: holds(_weighed(f, Shift(m, sure, beside), given[-1]))


@exercise(
    inputs=_toy,
    random=True,
    draws=1,
    course=course.weigh,
    demands={
        "the slope does not undo a logit that is three times too sure": _of_toy(
            lambda r: abs(3 * r[0] - 1) < 0.12
        ),
        "the intercept does not undo a constant": _of_toy(lambda r: abs(r[1] + 1 / 3) < 0.1),
        "samples weighed by the calibrated logit have not the mass 1: log Z": _of_toy(
            lambda r: abs(r[2]) < 0.1
        ),
        "the effective sample size is not the share that these weights are worth": _of_toy(
            lambda r: abs(r[3] - math.exp(-1)) < 0.08
        ),
        "the generator that is passed does not decide the draws, or not alone": lambda f, *given: _same(
            lambda seed: torch.tensor(_weighed(f, Shift(), seeded(seed)))
        ),
    },
)
def check_weigh(G, d, latent_dim, draw_real, n, generator):
    yield "right", course.weigh(G, d, latent_dim, draw_real, n, generator)


SEEDS = (3, 5, 8, 13)


def _report(f, toy, seeds=SEEDS, n=300):
    return f(_identity, toy.d, 2, toy.real, seeds, n)


def _refuses_two(f, *given):
    try:
        _report(f, Shift(), SEEDS[:2], 50)
    except ValueError:
        return True
    return False


def _whole(f, *given):
    r = _report(f, Shift())
    rows = [r[arm] for arm in ("generator", "control", "ddls", "floor")]
    return all(len(row) == len(set(row)) == len(SEEDS) for row in rows) and list(r["seeds"]) == list(SEEDS)


def _floor_is_real(f, *given):
    toy, r = Shift(), _report(f, Shift())
    floors = [energy_distance(toy.real(300, seeded(k)), toy.real(300, seeded(k + 50))) for k in range(4)]
    return 0.4 < sum(r["floor"]) / sum(floors) < 2.5


def _intervals(r):
    return [course.interval(r[arm], r["ddls"]) for arm in ("generator", "control")]


def _bars(f, *given):
    r = _report(f, Shift())
    return torch.allclose(
        torch.tensor([r["gain"], r["gain_over_control"]]), torch.tensor(_intervals(r)), 1e-2, 1e-5
    )


def _verdicts(f, draw_seeds, *given):
    """With a gain, with a loss that no logit can hide, and many times with nothing to be gained."""
    for k in range(10):
        r = _report(f, Shift(0.0) if k else Shift(), [seed_of(seeded(k)) + j for j in range(3)], 60)
        (gain, half), (over, half_over) = _intervals(r)
        want = "gain" if min(gain - half, over - half_over) > 0 else "no gain shown"
        if r["verdict"] != ("loss" if gain + half < 0 else want):
            return False
    return True


def _gains(f, *given):
    r = _report(f, Shift(1.0, 4.0))
    return sum(r["ddls"]) < 0.4 * sum(r["generator"])


@exercise(
    inputs=lambda g: (*_toy(g)[:4], SEEDS, 40),
    random=True,
    draws=1,
    course=course.report,
    demands={
        "two seeds are accepted: raise a ValueError below three": _refuses_two,
        "each of the four arms has one energy distance a seed, no two of them equal": _whole,
        "two reports on the same seeds differ": lambda f, *_: _report(f, Shift()) == _report(f, Shift()),
        "the control is the generator: its latents are not scaled": lambda f, *_: (
            not set((r := _report(f, Shift()))["control"]) & set(r["generator"])
        ),
        "the floor is not what data against data give": _floor_is_real,
        "a logit that is four times too sure, but right in form, spoils the samples": _gains,
        "a gain or its error is not that of the rows, paired by seed": _bars,
        "the verdict does not follow from the intervals": _verdicts,
    },
)
def check_report(G, d, latent_dim, draw_real, seeds, n):
    yield "right", course.report(G, d, latent_dim, draw_real, seeds, n)
