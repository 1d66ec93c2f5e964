"""Checks of notebook 15: what is built there has no one right value, so properties decide.

Each looks at what an answer does on problems drawn afresh. Where chance decides, a right answer fails less
than once in some thousand gradings: levels of 1e-6, tolerances of five standard errors, or wider.
"""

import math
from functools import lru_cache
from types import SimpleNamespace

import torch
from torch import nn

from notebooks.checks import long_course as course
from notebooks.checks.common import NotYet, exercise, whole
from notebooks.checks.long_course import seed_of, seeded
from utils.density_ratio import calibration_error, platt
from utils.metrics.toy import HIGH_QUALITY, assign, energy_distance
from utils.toy import GaussianMixture

LEVEL, TRAINING = 1e-6, 800  # of each test; steps of a graded training


def _generator(g):
    return seeded(seed_of(g))


def _same(run):
    """Whether seed 1 gives the same numbers again, whatever the global generator does, and seed 2 others."""
    values = [(torch.manual_seed(k), run(seed))[1] for k, seed in enumerate((1, 1, 2))]
    return torch.equal(*values[:2]) and not torch.equal(values[0], values[2])


def _alone(f, x):
    """Whether what f makes of a row does not depend on the rows beside it."""
    return torch.allclose(f(x)[:3], f(x[:3]), atol=1e-4)


# -- a GAN ------------------------------------------------------------------------------------------------


def _bends(net, k):
    a, b = 3 * torch.randn(2, 50, k, generator=seeded(5))
    return (net(a) + net(b) - 2 * net((a + b) / 2)).abs().max() > 1e-4


def _probabilities(D):
    d = D(1000 * torch.randn(200, 2, generator=seeded(3)))
    return ((d >= 0) & (d <= 1)).all()


@exercise(
    random=True,
    course=course.players,
    properties={
        "G takes z (n, latent_dim) to points (n, 2), D points to one number a row, (n,)": lambda r, k, _: (
            r[0](torch.ones(7, k)).shape == (7, 2) and r[1](torch.ones(7, 2)).shape == (7,)
        ),
        "D's values stay between 0 and 1: probabilities stand where logits belong": lambda r, *_: (
            not _probabilities(r[1])
        ),
        "a row depends on the rows beside it": lambda r, k, _: (
            _alone(r[0], torch.randn(9, k)) and _alone(r[1], torch.randn(9, 2))
        ),
        "a network is a straight line: nothing in it bends": lambda r, k, _: (
            _bends(r[0], k) and _bends(r[1], 2)
        ),
    },
    demands={
        "the generator that is passed does not decide the weights, or not alone": lambda f, k, _: _same(
            lambda seed: f(k, seeded(seed))[0](torch.ones(9, k))
        )
    },
)
def check_players(latent_dim: whole(2, 5), generator: _generator):
    yield "right", course.players(latent_dim, generator)


_REAL, _Z = torch.randn(64, 2, generator=seeded(7)) + 2, torch.randn(500, 2, generator=seeded(8))


def _game(seed=0, rate_d=0.0, rate_g=0.0, sure=0.0):
    """Players of random weights with plain gradient descent; D's logit is lower by `sure`."""
    G, D = course.players(2, seeded(seed))
    D[0][-1].bias.data -= sure
    optim_g, optim_d = torch.optim.SGD(G.parameters(), rate_g), torch.optim.SGD(D.parameters(), rate_d)
    return SimpleNamespace(G=G, D=D, latent_dim=2, optim_g=optim_g, optim_d=optim_d)


def _weights(net):
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def _round(f, seed=1, stale=False, **settings):
    """A game after one round: how far each player moved, margin of D, D's value of samples, both weights."""
    game, reached = _game(**settings), []
    parameters = [*game.G.parameters()]
    for p in (*parameters, *game.D.parameters()) if stale else ():
        p.grad = torch.full_like(p, 9.0)
    had = [None if p.grad is None else p.grad.clone() for p in parameters]

    def before_d_steps(*_):
        pairs = zip(parameters, had, strict=True)
        reached.append(any(p.grad is not None and p.grad.any() and not (
            h is not None and torch.equal(h, p.grad)) for p, h in pairs))  # fmt: skip

    game.optim_d.register_step_pre_hook(before_d_steps)
    start = _weights(game.G), _weights(game.D)
    f(game, _REAL, seeded(seed))
    g, d = _weights(game.G), _weights(game.D)
    on_fake = game.D(game.G(_Z)).mean().item()
    moved = {"G": (g - start[0]).norm(), "D": (d - start[1]).norm(), "weights": torch.cat([g, d])}
    margin = game.D(_REAL).mean().item() - on_fake
    return SimpleNamespace(**moved, reached=any(reached), fake=on_fake, margin=margin)


def _untouched():
    return _round(lambda *_: None)


@exercise(
    random=True,
    draws=1,
    course=course.play_round,
    demands={
        "the generator that is passed does not decide the samples, or not alone": lambda f, *_: _same(
            lambda seed: _round(f, seed, rate_d=0.1, rate_g=0.1).weights
        ),
        "D's loss reaches G: the graph is not cut between the two": lambda f, *_: (
            not _round(f, rate_d=0.1).reached
        ),
        "D's step moves G": lambda f, *_: _round(f, rate_d=0.1).G == 0,
        "G's step moves D": lambda f, *_: _round(f, rate_g=0.1).D == 0,
        "D learns to take samples for data: its losses are swapped": lambda f, *_: (
            _round(f, rate_d=0.02).margin > _untouched().margin
        ),
        "G moves to where D finds samples": lambda f, *_: _round(f, rate_g=0.02).fake > _untouched().fake,
        "G stands still where D is sure of its samples: its loss saturates": lambda f, *_: (
            _round(f, rate_g=0.1, sure=30).G > 1e-4
        ),
        "gradients of an earlier round are still in": lambda f, *_: torch.allclose(
            *(_round(f, stale=stale, rate_d=0.1, rate_g=0.1).weights for stale in (False, True))
        ),
    },
)
def check_round(game: lambda g: _game(seed_of(g)), real: lambda g: _REAL, generator: _generator):
    yield "right", course.play_round(game, real.float(), generator)


class Ring:
    """Eight Gaussians on a ring of its own centre, radius and angle; it remembers all that it gave out."""

    def __init__(self, seed):
        self.seed, (turn, size, *centre), self.given = seed, torch.rand(4, generator=seeded(seed)), []
        angles = 2 * math.pi * (torch.arange(8) + turn) / 8
        means = 2 * torch.tensor(centre) - 1 + (1.5 + size) * torch.stack([angles.cos(), angles.sin()], 1)
        self.mixture = GaussianMixture("ring", means, std=0.15)

    def __call__(self, n, generator):
        self.given.append(self.mixture.sample(n, generator))
        return self.given[-1]


@lru_cache(maxsize=1)
def _trained(f, seed, n=4000):
    """A training on a fresh ring, and what a grader sees of it: samples, data held out, logits of both."""
    ring, g = Ring(seed), seeded(seed + 1)
    G, D = f(ring, TRAINING, g)
    with torch.no_grad():
        x, real = G(torch.randn(n, G.latent_dim, generator=g)), ring.mixture.sample(n, g)
        if x.shape != (n, 2) or not x.isfinite().all() or D(real).shape != (n,):
            raise NotYet("G makes finite points (n, 2) of z (n, G.latent_dim), D one number a row, (n,)")
        return SimpleNamespace(G=G, D=D, ring=ring, x=x, real=real, on_real=D(real), on_fake=D(x))


def _covers(run):
    distance, mode, _ = assign(run.x, run.ring.mixture)
    return (mode[distance <= HIGH_QUALITY].bincount(minlength=8) > 0.02 * len(run.x)).sum() >= 7


def _far(run):
    floor = energy_distance(run.ring.mixture.sample(1000, seeded(0)), run.real[:1000])
    return energy_distance(run.x[:1000], run.real[:1000]) > 30 * floor


def _remembers(run):
    exactly = {"compute_mode": "donot_use_mm_for_euclid_dist"}
    given = torch.cat(run.ring.given)
    return (torch.cdist(run.x[:200], given, **exactly).amin(1) < 1e-5).float().mean() > 0.02


def _calibrated(run):
    half = len(run.x) // 2
    a, b = platt(run.on_real[:half], run.on_fake[:half])
    return 0.1 < a < 20 and calibration_error(a * run.on_real[half:] + b, a * run.on_fake[half:] + b) < 0.15


def _of_run(holds):
    return lambda f, draw_real, *_: holds(_trained(f, draw_real.seed))


def _points(f, seed):
    G, _ = f(Ring(3), 10, seeded(seed))
    return G(torch.ones(5, G.latent_dim)).detach()


@exercise(
    random=True,
    draws=1,
    course=course.train,
    demands={
        "the samples are points that it was given: that is memory": _of_run(lambda run: not _remembers(run)),
        "the generator that is passed does not decide the training, or not alone": lambda f, *_: _same(
            lambda seed: _points(f, seed)
        ),
        "modes are missing: of eight, at least seven should have 2 % of the samples": _of_run(_covers),
        "the samples are far from this ring, whose centre, radius and angle are drawn afresh": _of_run(
            lambda run: not _far(run)
        ),
        "a point depends on the points beside it": _of_run(
            lambda run: _alone(run.D, run.real) and _alone(run.G, torch.randn(9, run.G.latent_dim))
        ),
        "D's values stay between 0 and 1: probabilities stand where logits belong": _of_run(
            lambda run: not _probabilities(run.D)
        ),
        "D tells data that it has not seen from samples no better than a coin": _of_run(
            lambda run: (run.on_real[:1000, None] > run.on_fake[:1000]).float().mean() > 0.52
        ),
        "D is far from a log ratio: Platt's slope, or the calibration after it": _of_run(_calibrated),
    },
)
def check_train(draw_real: lambda g: Ring(seed_of(g)), n_steps: whole(2, 3), generator: _generator):
    yield "right", course.train(draw_real, n_steps, generator)
