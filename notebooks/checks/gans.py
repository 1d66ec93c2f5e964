"""Checks of notebooks 00 to 03."""

import math
from types import SimpleNamespace

import torch
from torch import nn
from torch.distributions import Normal
from torch.nn.functional import softplus

from notebooks.checks.common import attached, exercise, normal, uniform, whole
from utils.density_ratio import platt


def _bowl(g):
    stiffness = uniform(1, 5, 3)(g)
    return lambda z: 0.5 * (stiffness * z.square()).sum(1)


_OF_STEP = {
    "the result is still attached: its graph grows with every step": lambda f, *given: not attached(f(*given))
}


def _langevin_step(energy, z, step_size, noise):
    z = z.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy(z).sum(), z)
    return z.detach() - 0.5 * step_size * gradient + step_size**0.5 * noise


@exercise(demands=_OF_STEP, course=_langevin_step)
def check_step_from_energy(energy: _bowl, z: normal(5, 3), eps: uniform(0.05, 0.2), noise: normal(5, 3)):
    (gradient,) = torch.autograd.grad(energy(z.requires_grad_(True)).sum(), z)
    z, down, kick = z.detach(), -0.5 * eps * gradient, math.sqrt(eps) * noise
    yield "right", z + down + kick
    yield "the step climbs: energy is to go down", z - down + kick
    yield "the gradient's half is missing", z + 2 * down + kick
    yield "the noise is missing: that is gradient descent", z + down
    yield "the noise grows with the step size itself, as its variance should", z + down + eps * noise
    yield "the noise is not scaled by the step size", z + down + noise
    yield "the noise is too large by the root of 2", z + down + 2**0.5 * kick
    yield "that is the gradient of the mean energy: each chain has its own", z + down / len(z) + kick
    yield "return the new z, not the change of it", down + kick


@exercise(edges=[lambda g: (torch.tensor([1e-12, 0.5, 0.3]),)])
def check_logit_of_probability(D: uniform(0.02, 0.98, 5)):
    yield "right", D.log() - torch.log1p(-D)
    yield "the probability of the other class is missing", D.log()
    yield "the two logarithms are added", D.log() + (1 - D).log()
    yield "that is the ratio of the two probabilities: its logarithm is wanted", D / (1 - D)
    yield "that is a second sigmoid, not its inverse", D.sigmoid()
    yield "small probabilities are cut off: a number added, or a clamp, caps the logit", (D + 1e-8).logit()


def _draw(seed, n):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def _leaves_generator(draw_twice, seed, n):
    before = torch.get_rng_state()
    draw_twice(seed, n)
    return torch.equal(before, torch.get_rng_state())


def _is_normal(draw_twice, seed, n):  # 4,000 numbers: standard errors of 0.016 and 0.011
    a, _ = draw_twice(seed, 2000)
    return abs(a.mean()) < 0.08 and abs(a.std() - 1) < 0.06


_OF_DRAWS = {
    "the global generator was used: it has moved on for everybody": _leaves_generator,
    "that is one draw returned twice, not two equal draws": (
        lambda f, seed, n: len({x.data_ptr() for x in f(seed, n)}) == 2
    ),
    "the draws differ: a generator moves on with each draw": lambda f, seed, n: torch.equal(*f(seed, n)),
    "the seed is not used: other seeds give the same draws": (
        lambda f, seed, n: not torch.equal(f(seed, n)[0], f(seed + 1, n)[0])
    ),
    "the draws are not standard normal": _is_normal,
}


@exercise(random=True, demands=_OF_DRAWS)
def check_equal_draws(seed: whole(0, 1000), n: whole(50, 60)):
    yield "right", (_draw(seed, n), _draw(seed, n))


_FAR = torch.tensor([1000.0, 500.0])


def _safely_steep(loss, real, fake):
    logits = torch.tensor([1000.0, 0.0, -1000.0]).requires_grad_(True)
    slopes = [torch.autograd.grad(loss(*pair), logits)[0] for pair in ((logits, fake), (real, logits))]
    return all(slope.isfinite().all() for slope in slopes)


def _bent(real, fake):
    branches = [torch.where(t > 20, t, torch.log1p(torch.exp(t))).mean() for t in (-real, fake)]
    return sum(branches)


_CUT = "the value is right, but nothing can learn from it: its graph is cut off"


@exercise(
    edges=[lambda g: (-_FAR, _FAR), lambda g: (torch.tensor([16.0, 17.5]), -_FAR)],
    demands={
        _CUT: lambda f, real, fake: attached(f(real.requires_grad_(True), fake)),
        "the values are right, the gradient is nan at logits of 1000": _safely_steep,
    },
    wrong={
        _CUT: lambda real, fake: (softplus(-real).mean() + softplus(fake).mean()).item(),
        "the gradient is nan at logits of 1000": _bent,
    },
)
def check_stable_logistic_loss(real: normal(3), fake: normal(5)):
    on_real, on_fake = softplus(-real).mean(), softplus(fake).mean()
    plain = [d.relu().mean() + (1 + (-d.abs()).exp()).log().mean() for d in (-real, fake)]
    rough = -real.sigmoid().log().mean() - (-fake).sigmoid().log().mean()
    again = softplus(-real.sigmoid()).mean() + softplus(fake.sigmoid()).mean()
    yield "right", on_real + on_fake
    yield "the labels are swapped: real has a high logit", softplus(real).mean() + softplus(-fake).mean()
    yield "sum instead of mean within a class", 3 * on_real + 5 * on_fake
    yield "mean over all logits together: the larger class counts more", (3 * on_real + 5 * on_fake) / 8
    yield "a second sigmoid: logits go in as they are", again
    yield "the real points are missing", on_fake
    yield "the generated points are missing", on_real
    yield "overflow, or a clamp, at logits of 1000", rough
    yield "digits are lost where the loss is small: 1 + u rounds to 1 there", sum(plain)


class _Point(nn.Module):
    """A generator that moves its latents by a number."""

    def __init__(self, place):
        super().__init__()
        self.place = nn.Parameter(torch.tensor(place))

    def forward(self, z):
        return z + self.place


class _Slope(nn.Module):
    """A discriminator whose logit is a number times the first coordinate."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x):
        return self.slope * x[:, 0]


def _players(g):
    G, D = _Point(uniform(-1, 1)(g)), _Slope(uniform(-1, 1)(g))
    rate = uniform(0.3, 0.6)(g)
    optimisers = {f"optim_{k}": torch.optim.SGD(net.parameters(), rate) for k, net in (("g", G), ("d", D))}
    return SimpleNamespace(G=G, D=D, **optimisers)


def _play(players, reals, z_d, z_g):
    losses = []
    for real, for_d, for_g in zip(reals, z_d, z_g, strict=True):
        loss_d = softplus(-players.D(real)).mean() + softplus(players.D(players.G(for_d).detach())).mean()
        players.optim_d.zero_grad()
        loss_d.backward()
        players.optim_d.step()
        loss_g = softplus(-players.D(players.G(for_g))).mean()
        players.optim_g.zero_grad()
        loss_g.backward()
        players.optim_g.step()
        losses.append([loss_d.item(), loss_g.item()])
    return torch.tensor(losses)


def _losses(
    players, reals, z_d, z_g, label=1, goal="fool", together=False, kept=0.0, left=0.0, moves=(1, 1), size=1.0
):
    """The losses of all steps of plain gradient descent, (steps, 2), with one mistake or none."""
    slope, place = players.D.slope.detach().to(reals), players.G.place.detach().to(reals)
    rate, pull, push, losses = players.optim_d.param_groups[0]["lr"], 0.0, 0.0, []
    for real, for_d, for_g in zip(reals[..., 0], z_d[..., 0], z_g[..., 0], strict=True):

        def loss_d(slope, real=real, fake=for_d + place):
            return size * (softplus(-label * slope * real).mean() + softplus(label * slope * fake).mean())

        first, pull = loss_d(slope), torch.func.grad(loss_d)(slope) + pull
        seen = slope if together else slope - moves[0] * rate * pull

        def loss_g(place, seen, for_g=for_g):
            d = seen * (for_g + place)
            return {"fool": softplus(-d), "minimax": -softplus(d), "be caught": softplus(d)}[goal].mean()

        slope = slope - moves[0] * rate * pull
        second, push = loss_g(place, seen), torch.func.grad(loss_g)(place, seen) + kept * push
        pull = kept * pull + left * torch.func.grad(loss_g, 1)(place, seen)  # what stays in D's .grad
        losses.append(torch.stack([first, second]))
        place = place - moves[1] * rate * push
    return torch.stack(losses)


@exercise(course=_play)
def check_play(
    players: _players,
    reals: lambda g: 1 + normal(3, 6, 1)(g),
    z_d: normal(3, 6, 1),
    z_g: normal(3, 6, 1),
):
    given = players, reals, z_d, z_g
    yield "right", _losses(*given)
    yield "D does not move: its optimiser takes no step", _losses(*given, moves=(0, 1))
    yield (
        "G does not move: no step, or its samples are cut off in its own loss",
        _losses(*given, moves=(1, 0)),
    )
    yield "neither player moves: each optimiser takes a step", _losses(*given, moves=(0, 0))
    yield "gradients of earlier steps are still there: clear them", _losses(*given, kept=1.0, left=1.0)
    yield "G's backward pass has left gradients in D: clear just before backward", _losses(*given, left=1.0)
    yield "D's two means are added, not averaged", _losses(*given, size=0.5)
    yield "D's losses are means over each batch, not sums", _losses(*given, size=reals.shape[1])
    yield "the latents are swapped: the first are for D's step", _losses(players, reals, z_g, z_d)
    yield "G answers the D of before: D moves first", _losses(*given, together=True)
    yield "G's loss rewards being caught", _losses(*given, goal="be caught")
    yield "the labels of D's loss are swapped: real has a high logit", _losses(*given, label=-1)
    yield "G's loss is the minimax one, which saturates", _losses(*given, goal="minimax")
    yield "D's loss comes first in a row, then G's", _losses(*given).flip(1)
    yield "G has latents of its own", _losses(players, reals, z_d, z_d)


@exercise(
    edges=[lambda g: (torch.tensor([-200.0, -150.0]),)],
    demands={_CUT: lambda f, d: attached(f(d.requires_grad_(True)))},
    wrong={_CUT: lambda d: softplus(-d).mean().item()},
)
def check_non_saturating_loss(d: normal(4)):
    yield "right", softplus(-d).mean()
    yield "that is the minimax loss, which saturates", -softplus(d).mean()
    yield "the label is wrong: that trains G to be called fake", softplus(d).mean()
    yield "the logarithm is missing", -d.sigmoid().mean()
    yield "that is the Wasserstein loss: it has no sigmoid", -d.mean()
    yield "wrong at d = -200: the logarithm of what has rounded to 0, or a clamp", -d.sigmoid().log().mean()


def check_generator_gradients(d: normal(4)):
    p, q = d.sigmoid(), (-d).sigmoid()
    yield "right", (-p, -q)
    yield "the two are in the wrong order", (-q, -p)
    yield "both signs are wrong: the losses fall as d grows", (p, q)
    yield "minimax: the sign is wrong, the loss falls as d grows", (p, -q)
    yield "non-saturating: the sign is wrong, the loss falls as d grows", (-p, q)
    yield "minimax: the logarithm is missing", (-p * q, -q)
    yield "minimax: that is dL/dD, but D depends on d", (-1 / q, -q)
    yield "non-saturating: that is dL/dD, but D depends on d", (-p, -1 / p)
    yield "those are the losses: their derivatives are wanted", (-softplus(d), softplus(-d))


def _turned(g):
    """A matrix far from singular, with a negative determinant."""
    return torch.diag(torch.tensor([1.5, -2.0, 3.0])) + 0.3 * uniform(-1, 1, 3, 3)(g)


def check_affine_pushforward(x: normal(5, 3), A: _turned, b: normal(3)):
    volume, constant = torch.linalg.slogdet(A).logabsdet, 1.5 * math.log(2 * math.pi)

    def prior(A, b=b):
        return -0.5 * torch.linalg.solve(A, (x - b).T).square().sum(0) - constant

    yield "right", prior(A) - volume
    yield "the volume factor is missing", prior(A)
    yield "the volume factor has the wrong sign: stretching thins out", prior(A) + volume
    yield "A is transposed: each row of x is a point", prior(A.T) - volume
    yield "the prior is evaluated at x instead of at its latent", prior(torch.eye(3).to(x), 0 * b) - volume
    yield "b is not taken away", prior(A, 0 * b) - volume
    yield (
        "the prior is evaluated at G(x): the latent is what G maps to x",
        (-0.5 * (x @ A.T + b).square().sum(1) - constant - volume),
    )
    yield "the determinant counts by its logarithm", prior(A) - A.det().abs()
    yield "the constant of the normal density is missing", prior(A) - volume + constant
    yield "nan: the determinant may be negative, but a volume is not", prior(A) - A.det().log()


def _modes(g):
    """100 points: full modes, one just at 4 %, thin ones, and fives beside modes, some of them diagonally."""
    hits = [15] * whole(1, 3)(g) + [4, 3, 2, 1]
    beside = [[1.7, 0.0], [0.85, 0.85], [0.6, 0.6], [1.1, 0.0]] * 2
    offsets = [[0.0, 0.0]] * (len(hits) + 1) + beside
    hits = torch.tensor([60 - sum(hits), *hits, *[5] * len(beside)])
    places = torch.randperm(16, generator=g)[: len(hits)]
    means = 4.0 * torch.stack([places // 4, places % 4], 1)
    scale = uniform(0.4, 0.6)(g)  # no radius of 1: that is its own square
    x = (means + torch.tensor(offsets)).repeat_interleave(hits, 0)
    return scale * x, scale * means, scale, 0.04


def _no_mode(g):
    return uniform(20, 30, 9, 2)(g), torch.eye(2), 1.0, 0.02


def _near_two(g):
    return uniform(0, 0.1, 9, 2)(g), torch.tensor([[0.0, 0.0], [0.5, 0.0]]), 1.0, 0.1


@exercise(inputs=_modes, edges=[_no_mode, _near_two])
def check_mode_count(x, means, radius, least):
    distance, nearest = torch.cdist(x, means).min(1)
    square = nearest[(x - means[nearest]).abs().amax(1) <= radius]
    close, least = nearest[distance <= radius], round(least * len(x), 3)
    around, squared = nearest[(x - means[nearest]).abs().sum(1) <= radius], nearest[distance**2 <= radius]
    several = (torch.cdist(x, means) <= radius).sum(0) >= least

    def count(close, least):
        return int((torch.bincount(close, minlength=len(means)) >= least).sum())

    yield "right", count(close, least)
    yield "the radius is not used: a far point belongs to no mode", count(nearest, least)
    yield "the share is not used, or not that of all points: too small a mode counts", count(close, 1)
    yield "the radius is Euclidean, not of each coordinate", count(square, least)
    yield "a share that is just reached counts", count(close, least + 0.01)
    yield "the share is of all points, not of those near a mode", count(close, least * len(close) / len(x))
    yield "no point is near a mode here, so the answer is 0", max(1, count(close, least))
    yield "a point belongs to its nearest mode only", several.sum()
    yield "the radius is Euclidean, not a sum of coordinates", count(around, least)
    yield "the distance is squared, the radius is not", count(squared, least)


def _gaussians(g):
    return uniform(0.5, 1)(g), uniform(0.5, 0.9)(g), uniform(-1, -0.5)(g), uniform(1.2, 2)(g)


@exercise(
    inputs=lambda g: (2 * normal(7)(g), *_gaussians(g)),
    edges=[lambda g: (torch.tensor([100.0, -100.0]), *_gaussians(g))],
)
def check_gaussian_logit(x, mean_d, std_d, mean_g, std_g):
    constant, a, b = math.log(std_g / std_d), (x - mean_d) ** 2, (x - mean_g) ** 2
    right = b / std_g**2 / 2 - a / std_d**2 / 2 + constant
    p_d, p_g = (Normal(m, s).log_prob(x).exp() for m, s in ((mean_d, std_d), (mean_g, std_g)))
    yield "right", right
    yield "the normalising constants are missing", right - constant
    yield "the normalising constants have the wrong sign", right - 2 * constant
    yield "a standard deviation stands where its square belongs", b / std_g / 2 - a / std_d / 2 + constant / 2
    yield "the half in the exponent is missing", 2 * right - constant
    yield "wrong at x = 100: both densities round to 0 there", (p_d / p_g).log()


def _densities(g):
    x = (torch.arange(800) + 0.5) / 100 - 4
    mean, std, other, larger = _gaussians(g)
    return Normal(mean, std).log_prob(x).exp(), Normal(other, larger).log_prob(x).exp(), 1 / 100


_LEFT, _MIDDLE, _ALL = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5]])


@exercise(
    inputs=_densities,
    edges=[
        lambda g: (torch.tensor([1.0, 0.5, 1e-9]), torch.tensor([1e-9, 0.5, 1.0]), 0.5),
        lambda g: (_LEFT, _ALL, 0.5),
        lambda g: (_LEFT, _MIDDLE, 0.5),
    ],
    tolerance=1e-5,
)
def check_best_discriminator(p, q, h):
    def value(on_real, on_fake):
        return (torch.xlogy(p, on_real) + torch.xlogy(q, on_fake)).sum() * h

    both = p + q
    D, other = (torch.where(both > 0, x / both, 0.5) for x in (p, q))
    plain = (p * D.log() + q * other.log()).sum() * h
    V = value(D, other)
    yield "right", (D, V)
    yield "D is turned round: it is to be high where the data are", (other, value(other, D))
    yield "that is the ratio of the densities: D is a probability", (p / q, value(p / q, 1 - p / q))
    yield "D is twice too large: the mean of the two densities has mass 1, their sum 2", (2 * D, -torch.inf)
    yield "a sum is no integral: the spacing is missing", (D, V / h)
    masses = both.sum() * h - 2
    yield "2 JSD - log 4 takes both masses for 1: on a grid they need not be", (D, V + math.log(2) * masses)
    yield "that is the Jensen-Shannon divergence: the value of the game is wanted", (D, V / 2 + math.log(2))
    yield "that is D's loss as a mean of two cross-entropies: V is what D maximises", (D, -V / 2)
    yield "the generated points are missing in V", (D, value(D, torch.ones_like(D)))
    yield "V scores generated points as if they were real", (D, value(D, D))
    yield (
        "not finite where D rounds to 1: the share of the generated points is lost there",
        (D, value(D, 1 - D)),
    )
    yield "nan where one density is 0: 0 log 0 counts as 0", (D, plain)
    yield "where both densities are 0 their ratio is 0/0: D = 1/2 is wanted there", (p / both, plain)


@exercise(edges=[lambda g: (-_FAR, _FAR)])
def check_game_value(real: normal(5), fake: normal(9)):
    def summary(on_real, on_fake, power=0.5, drop=0):
        shares = [x.var() / len(x) for x in (on_real, on_fake)][drop:]
        return on_real.mean() + on_fake.mean(), sum(shares) ** power

    terms = -softplus(-real), -softplus(fake)
    V, error = summary(*terms)
    spreads = [x.std() for x in terms]
    together = torch.cat(terms)
    again = summary(-softplus(-real.sigmoid()), -softplus(fake.sigmoid()))
    rough = summary(real.sigmoid().log(), (1 - fake.sigmoid()).log())
    yield "right", (V, error)
    yield "real and generated are swapped", summary(-softplus(real), -softplus(-fake))
    yield "that is one mean over all points: the larger class counts more", (together.mean(), error)
    yield "that is half of it: minus the mean of the two cross-entropies", (V / 2, error / 2)
    yield "a sum over points, not their mean", (terms[0].sum() + terms[1].sum(), error)
    yield "a second sigmoid: logits go in as they are", again
    yield "not finite at logits of 1000: a probability was rounded before its logarithm", rough
    yield "that is the spread of the points, not that of their mean", (V, sum(spreads))
    yield "independent errors were added like numbers", (V, spreads[0] / 5**0.5 + spreads[1] / 3)
    yield "that is the square of the standard error", summary(*terms, power=1)
    yield "the error of the real points is missing", summary(*terms, drop=1)
    yield "the error of the generated points is missing", (V, spreads[0] / 5**0.5)
    biased = sum(x.var(correction=0) / len(x) for x in terms) ** 0.5
    yield "a sample variance divides by one less than the number of points", (V, biased)
    as_real = summary(terms[0], -softplus(-fake))
    yield "generated points are scored as if they were real: V has log(1 - D) there", as_real
    yield "the error of all points together: each class has its own mean", (V, 2 * together.std() / 14**0.5)


def _fitted(real, fake, weights, use=(1.0, 1.0)):
    """Slope and intercept of least weighted logistic loss, by Newton's steps on what `use` allows."""
    d, use = torch.cat([real, fake]).double(), torch.tensor(use, dtype=torch.float64)
    label = torch.cat([torch.ones(len(real)), torch.zeros(len(fake))]).double()
    weight = torch.where(label > 0, *(torch.tensor(w, dtype=torch.float64) for w in weights))
    columns = torch.stack([d, torch.ones_like(d)], 1)
    fit = torch.tensor([1 - use[0], 0.0], dtype=torch.float64) + 0.1 * use * torch.tensor([1.0, 0.0])
    for _ in range(30):
        p = (columns @ fit).sigmoid()
        slope = columns.T @ (weight * (p - label)) * use
        curvature = (columns.T * (weight * p * (1 - p))) @ columns * use[:, None] * use
        fit = fit - torch.linalg.solve(curvature + torch.diag(1 - use), slope)
    return fit[0], fit[1]


@exercise(course=platt, tolerance=3e-3)
def check_platt_scaling(real: lambda g: 2 + 2 * normal(160)(g), fake: lambda g: 2 * normal(80)(g) - 1):
    balanced = 1 / len(real), 1 / len(fake)
    slope, intercept = _fitted(real, fake, balanced)
    yield "right", (slope, intercept)
    yield "the larger class counts more: each class is to weigh the same", _fitted(real, fake, (1.0, 1.0))
    yield "the labels are swapped", (-slope, -intercept)
    yield "nothing has been fitted: that leaves d as it is", (1.0, 0.0)
    yield "only the slope has been fitted", _fitted(real, fake, balanced, (1.0, 0.0))
    yield "only the intercept has been fitted", _fitted(real, fake, balanced, (0.0, 1.0))
    yield "slope and intercept are in the wrong order", (intercept, slope)
    yield "the intercept has been scaled with the slope", (slope, intercept / slope)


def check_corrected_logit(d: normal(4), n_real: whole(2000, 3000), n_fake: whole(400, 600)):
    odds = math.log(n_real / n_fake)
    yield "right", d - odds
    yield "nothing was corrected", d
    yield "wrong direction: the larger class has raised the logit", d + odds
    yield "a ratio is divided, a logit is not", d / (n_real / n_fake)
    yield "the logarithm is missing", d - n_real / n_fake
    yield "that is the log of a share: odds shift a logit", d - math.log(n_real / (n_real + n_fake))
    yield "use the natural logarithm: logits are in nats", d - odds / math.log(10)


@exercise(
    edges=[
        lambda g: (1000 + normal(5)(g).double(), 1000 + normal(7)(g).double()),
        lambda g: (1000 + normal(5)(g).double(), normal(7)(g).double() - 1000),
    ]
)
def check_kl_from_logit(real: normal(5), fake: normal(7)):
    log_mean, mean = torch.logsumexp(fake, 0) - math.log(len(fake)), real.mean()
    yield "right", mean - log_mean
    yield "that is the mean of d alone: it is no bound, the fakes are missing", mean
    yield "that is the weaker bound, without the logarithm of the mean", 1 + mean - fake.exp().mean()
    yield "that is neither bound: the logarithm of the mean is missing", mean - fake.exp().mean()
    yield "real and fake are swapped", fake.mean() - torch.logsumexp(real, 0) + math.log(len(real))
    yield "that is the log of a sum, not of a mean", mean - log_mean - math.log(len(fake))
    yield "exponential and mean are in the wrong order", mean - fake.mean()
    yield "a constant added to all logits must cancel, but exp overflows", mean - fake.exp().mean().log()
    top = torch.cat([real, fake]).max()
    yield (
        "taken off was the largest logit of all: those of samples underflow, take their own",
        mean - top - (fake - top).exp().mean().log(),
    )
    yield "the constant that was taken off must come back", mean - (fake - fake.max()).exp().mean().log()
    yield "a mean over real points is missing", real.sum() - log_mean


@exercise(edges=[lambda g: (normal(5, 3)(g), normal(5)(g), 300)])
def check_spectral_norm(W: normal(5, 3), u: normal(5), n_steps: whole(1, 2)):
    singular, start = torch.linalg.svdvals(W), u
    for _ in range(n_steps):
        before, v = u, W.T @ u / (W.T @ u).norm()
        u = W @ v / (W @ v).norm()
    grown = torch.linalg.matrix_power(W @ W.T, n_steps - 1) @ start
    raw = torch.linalg.vector_norm(W @ (W.T @ grown)) / (W.T @ grown).norm()
    yield "right", u @ W @ v
    yield "n_steps is not used, or the answer comes from a decomposition", singular[0]
    yield "that is the Frobenius norm", W.norm()
    yield "that is the smallest singular value", singular[-1]
    yield "that is the largest row sum, the norm for the maximum norm", W.abs().sum(1).max()
    yield "half a round: v is new, u is not", before @ W @ v / before.norm()
    yield "one round too many", (W @ (W.T @ u)).norm() / (W.T @ u).norm()
    yield "not finite after many rounds: the vectors grow", raw


class _Parabola(nn.Module):
    """A discriminator whose gradient at x is a x."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x):
        return 0.5 * self.a * x.square().sum(1) + 3


def _learns_rightly(penalty, D, real, fake, u):
    norms = (u * real + (1 - u) * fake).norm(dim=1)
    (slope,) = torch.autograd.grad(penalty(D, real, fake, u), D.a)
    return torch.allclose(slope, (2 * (D.a * norms - 1) * norms).mean(), rtol=1e-3)


def _two_sided(D, real, fake, u):
    x = (u * real + (1 - u) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()


@exercise(
    course=_two_sided,
    demands={
        "D cannot learn from it: no gradient reaches its weights": lambda f, *given: attached(f(*given)),
        "the value is right, its gradient in D's weights is not: a part is detached": _learns_rightly,
    },
)
def check_gradient_penalty(
    D: lambda g: _Parabola(uniform(0.7, 1.3)(g)),
    real: normal(6, 2),
    fake: normal(6, 2),
    u: uniform(0, 1, 6, 1),
):
    def two_sided(x, power=1, scale=1.0):
        return ((scale * D.a * x).norm(dim=1) ** power - 1).square().mean()

    x = u * real + (1 - u) * fake
    norms = (D.a * x).norm(dim=1)
    yield "right", two_sided(x)
    yield "the penalty is taken at real points: it belongs between real and fake", two_sided(real)
    yield "the penalty is taken at fake points: it belongs between real and fake", two_sided(fake)
    yield "one norm for the whole batch: each point has its own gradient", (norms.norm() - 1).square()
    yield "the square is missing", (norms - 1).mean()
    yield "the weights of real and fake are swapped", two_sided((1 - u) * real + u * fake)
    yield "the norm has to be compared with 1", norms.square().mean()
    yield "the norm, not its square, is compared with 1", two_sided(x, power=2)
    yield "the norm of the mean gradient has no meaning here", ((D.a * x).mean(0).norm() - 1).square()
    yield "the mean over the batch makes every gradient n times too short", two_sided(x, scale=1 / len(x))
    yield "that is the one-sided penalty: slopes below 1 cost as well", (norms - 1).relu().square().mean()


def _r1(D, real, create_graph=True):
    x = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=create_graph)
    return 0.5 * gradient.square().sum(1).mean()


def _r1_teaches(penalty, D, real):
    (slope,) = torch.autograd.grad(penalty(D, real), D.a)
    return torch.allclose(slope, D.a * real.square().sum(1).mean(), rtol=1e-3)


def _r1_half(D, real):
    value = _r1(D, real)
    return 0.5 * (value + value.detach())


@exercise(
    course=_r1,
    demands={
        "D cannot learn from it: keep the graph of the gradient": lambda f, *given: attached(f(*given)),
        "the value is right, its gradient in D's weights is not": _r1_teaches,
    },
    wrong={
        "D cannot learn from it": lambda D, real: _r1(D, real, create_graph=False),
        "its gradient in D's weights": _r1_half,
    },
)
def check_r1_penalty(D: lambda g: _Parabola(uniform(0.7, 1.3)(g)), real: normal(6, 3)):
    gradient = D.a * real
    norms = gradient.norm(dim=1)
    yield "right", 0.5 * norms.square().mean()
    yield "the norm's square is missing", 0.5 * norms.mean()
    yield (
        "mean over points and coordinates: a squared norm is a sum over coordinates",
        norms.square().mean() / 6,
    )
    yield "sum over the batch: a mean over points is wanted", 0.5 * norms.square().sum()
    yield "the mean gradient has no meaning here: take norms first", 0.5 * gradient.mean(0).square().sum()
    yield "the mean over the batch makes every gradient n times too short", norms.square().mean() / 72
    yield "a slope of 1 is not wanted here: a flat D costs nothing", 0.5 * (norms - 1).square().mean()


def _constant_channel(g):
    return torch.ones(1, 1, 4, 4), torch.ones(1, 1), torch.zeros(1, 1)


@exercise(
    inputs=lambda g: (3 + 2 * normal(4, 3, 4, 4)(g), 1 + uniform(0, 1, 4, 3)(g), normal(4, 3)(g)),
    edges=[_constant_channel],
    tolerance=1e-3,
)
def check_adain(x, scale, bias):
    scale, bias = scale[..., None, None], bias[..., None, None]

    def plain(*dims, power=0.5, correction=0, eps=1e-9):
        variance = x.var(dims, correction=correction, keepdim=True)
        return (x - x.mean(dims, keepdim=True)) / (variance + eps) ** power

    yield "right", scale * plain(2, 3) + bias
    yield "mean and variance over the batch too: that is batch normalisation", scale * plain(0, 2, 3) + bias
    yield "mean and variance over channels too: layer normalisation", scale * plain(1, 2, 3) + bias
    yield "the style comes before normalising, which removes it again", plain(2, 3)
    yield "the variance divides where its root belongs", scale * plain(2, 3, power=1) + bias
    yield (
        "that is the unbiased variance, not the mean square",
        scale * plain(2, 3, correction=1) + bias,
    )
    yield "the style's bias is not used", scale * plain(2, 3)
    yield "the style's scale is not used", plain(2, 3) + bias
    yield "scale and bias are swapped", bias * plain(2, 3) + scale
    yield "x itself is scaled: it has not been normalised", scale * x + bias
    yield "a constant channel gives 0/0", scale * plain(2, 3, eps=0) + bias


def check_orthogonal_penalty(W: normal(4, 6)):
    def off(products):
        return products - products.diagonal().diag()

    products, unit = W @ W.T, W / W.norm(dim=1, keepdim=True)
    yield "right", off(products).square().sum()
    yield "the diagonal counts too: norms of filters must stay free", products.square().sum()
    yield "that compares the columns; filters are the rows", off(W.T @ W).square().sum()
    yield "that is the older form, which drives norms to 1", (products - torch.eye(4).to(W)).square().sum()
    yield "inner products of both signs cancel", off(products).sum()
    yield "the filters as they are, not normalised ones", off(unit @ unit.T).square().sum()
