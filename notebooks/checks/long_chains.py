"""Checks of notebook 15, second part: a library of samplers. See `long`."""

import torch

from notebooks.checks import long_course as course
from notebooks.checks.common import exercise, uniform
from notebooks.checks.long import LEVEL, _generator, _same
from notebooks.checks.long_course import seeded

# Below, `step(energy, z, scale, generator)` is one transition; `scale` is eps of a Langevin move, h^2 of HMC.


def _bowl(z):
    return 0.5 * z.square().sum(1)


def _end(step, start, scale, n_steps, generator, n=10_000, energy=_bowl):
    z = torch.full((n, 2), float(start))
    for _ in range(n_steps):
        z = step(energy, z, scale, generator)
    return z


def _variance_is(step, scale, want, g):
    """In the plane: both variances, no correlation, a mean of 0, each within six standard errors."""
    z = _end(step, 3, scale, 60, g)
    error = 6 / len(z) ** 0.5
    off = ((z.var(0) / want - 1).abs() > error * 2**0.5).any() or (z.mean(0).abs() > error * want**0.5).any()
    return not off and abs(torch.corrcoef(z.T)[0, 1]) < error


def sbc_ranks(step, scale, n_steps, generator, n=2000, draws=7):
    """Ranks (n,) of theta ~ Gamma(2, 2) among ends of chains for y ~ Poisson(theta), in z = log theta.

    Simulation-based calibration (Talts et al., 2018). Row i of z has its own y; all chains start at z = 1.
    """
    theta = torch._standard_gamma(torch.full((n,), 2.0), generator=generator) / 2
    shape = (2 + torch.poisson(theta, generator=generator)).repeat_interleave(draws)
    z = torch.ones(n * draws, 1)
    for _ in range(n_steps):
        z = step(lambda z: 3 * z[:, 0].exp() - shape * z[:, 0], z, scale, generator)
    return (z.view(n, draws) < theta.log()[:, None]).sum(1)


def sbc_p_value(ranks, draws=7):
    """p-value of the chi-square test that the ranks 0 to `draws` are equally likely."""
    from scipy import stats  # here, since it takes seconds

    return stats.chisquare(ranks.bincount(minlength=draws + 1)).pvalue


def _keeps_rejected(step, g):
    """At a step far too large some chains move, and many stay exactly where they were."""
    z = 1.5 * torch.randn(4000, 2, generator=g)
    stays = (step(lambda z: 4 * _bowl(z), z, 1.0, g) == z).all(1).float().mean()
    return 0.05 < stays < 0.99


def _descends(step, g):
    """From 6, where the pull is strong, small steps come nearer, all of them and by themselves."""
    return _end(step, 6, 0.1, 10, g, 2000).mean() < 5.2


def _finite(step, g):
    """The energy is nan outside a disc: proposals that leave it are refused."""
    z = step(lambda z: -(4 - z.square().sum(1)).log(), torch.full((500, 2), 0.5), 4.0, g)
    return (z.norm(dim=1) < 2).all()


def _of_samplers(call, exact):
    """The demands on an answer f, of which `call(f)` makes a `step`; `exact`, or with ULA's variance."""

    def of(holds):
        return lambda f, energy, z, *given: holds(call(f), given[-1])

    law = {
        "the law is another at a large step: 10,000 chains from 3 on a normal target end with another mean,"
        " variance or correlation than this sampler has": of(
            lambda step, g: _variance_is(step, 1.5, 1, g) if exact else _variance_is(step, 0.8, 1.25, g)
        )
    }
    more = {
        "a rejected proposal does not leave the chain exactly where it was": of(_keeps_rejected),
        "ranks are not uniform: simulation-based calibration on a skewed posterior rejects": of(
            lambda step, g: sbc_p_value(sbc_ranks(step, 0.4, 60, g)) > LEVEL
        ),
        "a chain went where the energy is not finite: such a proposal is to be refused": of(_finite),
    }
    return {
        "chains do not come down from a far start: stuck, or climbing": of(_descends),
        "the result is still attached: its graph grows with every step": of(
            lambda step, g: not step(_bowl, torch.ones(3, 2), 0.1, g).requires_grad
        ),
        "the generator that is passed does not decide the moves, or not alone": of(
            lambda step, g: _same(lambda seed: _end(step, 1, 0.3, 2, seeded(seed), 9))
        ),
    } | (more | law if exact else law)


def _states(g):
    return _bowl, torch.randn(6, 2, generator=g), uniform(0.1, 0.5)(g), _generator(g)


@exercise(
    inputs=_states, random=True, draws=1, course=course.ula, demands=_of_samplers(lambda f: f, exact=False)
)
def check_ula_library(energy, z, step_size, generator):
    yield "right", course.ula(energy, z, step_size, generator)


@exercise(
    inputs=_states, random=True, draws=1, course=course.mala, demands=_of_samplers(lambda f: f, exact=True)
)
def check_mala_library(energy, z, step_size, generator):
    yield "right", course.mala(energy, z, step_size, generator)


def _with_path(f):
    return lambda energy, z, scale, generator: f(energy, z, scale**0.5, 2, generator)


def _refreshes(f, energy, z, h, n, generator):
    """Two transitions from one place, by a generator that moves on, go different ways."""
    first, second = (f(_bowl, torch.zeros(500, 2), 0.1, 3, generator) for _ in "12")
    return abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.3


@exercise(
    inputs=lambda g: (*_states(g)[:3], 3, _generator(g)),
    random=True,
    draws=1,
    course=course.hmc,
    demands={"the momentum is not drawn afresh for each transition": _refreshes}
    | _of_samplers(_with_path, exact=True),
)
def check_hmc_library(energy, z, step_size, n_leapfrog, generator):
    yield "right", course.hmc(energy, z, step_size, n_leapfrog, generator)


def _well(z):
    return 0.25 * z.pow(4).sum(1) + 0.3 * z[:, 0] * z[:, -1]


def _comes_back(f, energy, z, p, h, n):
    z, p = z.double(), p.double()
    there, moving = f(_well, z, p, h, n)
    back, turned = f(_well, there, -moving, h, n)
    return torch.allclose(back, z, atol=1e-6) and torch.allclose(turned, -p, atol=1e-6)


def _straight(f, energy, z, p, h, n):
    z, p = z.double(), p.double()
    there, moving = f(lambda z: 0 * z.sum(1), z, p, h, n)
    return torch.allclose(there, z + n * h * p) and torch.allclose(moving, p)


def _volume(f, energy, z, p, h, n, delta=1e-5):
    """The determinant of the map (z, p) -> (z', p') at each row of one coordinate, by central differences."""
    z, p, columns = z[:, :1].double(), p[:, :1].double(), []
    for dz, dp in ((delta, 0), (0, delta)):
        ends = [torch.cat(f(_well, z + s * dz, p + s * dp, h, n), 1) for s in (1, -1)]
        columns.append((ends[0] - ends[1]) / (2 * delta))
    return (torch.linalg.det(torch.stack(columns, 2)) - 1).abs().max() < 1e-4


def _drift(f, z, p, n):
    there, moving = f(_well, z, p, 1 / n, n)
    return (_well(there) + _bowl(moving) - _well(z) - _bowl(p)).abs().mean()


@exercise(
    inputs=lambda g: (_well, *torch.randn(2, 5, 2, generator=g), uniform(0.1, 0.3)(g), 4),
    random=True,
    draws=1,
    course=course.leapfrog,
    demands={
        "a result is still attached: its graph grows with every step": lambda f, *given: (
            not any(part.requires_grad for part in f(*given))
        ),
        "where nothing pulls, a path is not straight, or its time is wrong": _straight,
        "a ball let go on a slope rolls up": lambda f, e, z, *_: (
            f(_bowl, z, 0 * z, 0.1, 3)[0].abs() < z.abs()
        ).all(),
        "turned round, a path does not come back: no proposal of HMC may do that": _comes_back,
        "volume is not kept: the ratio of HMC lacks a factor": _volume,
        "E + |p|^2 / 2 drifts too fast: half the step, a quarter of the error": lambda f, e, z, p, *_: (
            _drift(f, z.double(), p.double(), 20) > 3 * _drift(f, z.double(), p.double(), 40)
        ),
    },
)
def check_leapfrog_library(energy, z, p, step_size, n_leapfrog):
    yield "right", course.leapfrog(energy, z, p, step_size, n_leapfrog)
