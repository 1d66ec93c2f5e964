"""Checks of notebooks 04 to 06."""

import math

import torch
from torch import nn
from torch.autograd import grad

from notebooks.checks.common import attached, exercise, normal, uniform, whole


def check_langevin_step(
    z: normal(5, 2), gradient: normal(5, 2), eps: uniform(0.1, 0.5), T: uniform(0.4, 0.8), noise: normal(5, 2)
):
    down, kick = -0.5 * eps * gradient, math.sqrt(eps * T) * noise
    yield "right", z + down + kick
    yield "the gradient has the wrong sign: energy is to go down", z - down + kick
    yield "the gradient's half is missing", z + 2 * down + kick
    yield "the noise has a variance where a standard deviation belongs", z + down + eps * T * noise
    yield (
        "the noise grows with T itself, as its variance should",
        z + down + eps**0.5 * T * noise,
    )
    yield "the temperature is not used", z + down + eps**0.5 * noise
    yield "the noise is missing: that is gradient descent", z + down
    yield "return the new z, not the change of it", down + kick
    yield (
        "that is a step of twice the size, as in texts whose equation has no half",
        z + 2 * down + 2**0.5 * kick,
    )
    yield "the temperature belongs to the noise, not to the gradient", z + down / T + eps**0.5 * noise
    yield "the temperature stands at both, noise and gradient", z + down / T + kick
    yield "the noise is not scaled", z + down + noise


_STEPS = [(4.0, 1.0, 1.0), (5.0, 1.0, 1.0), (3.0, 1.0, 1.0), (3.0, 1.0, 0.5), (5.0, 1.0, 2.0)]


@exercise(edges=[lambda g, step=step: step for step in _STEPS])
def check_ula_variance(eps: uniform(0.1, 0.5), scale: uniform(0.7, 1.5), T: uniform(0.5, 2)):
    u, target = eps / (4 * scale**2), T * scale**2
    right = target / (1 - u) if u < 1 else math.inf
    yield "right", right
    yield "that is the target's variance: ULA has another", target
    yield "the temperature is missing", right / T
    yield "the bias has the wrong sign: ULA is too wide", target / (1 + u)
    yield "the drift takes half the step", target / (1 - 2 * u) if u != 0.5 else math.inf
    yield "beyond this step there is no stationary law: return inf", target / abs(1 - u) if u != 1 else 0.0
    yield "that is too cautious: there is a stationary law at larger steps", right if u < 0.5 else math.inf
    yield "whether there is a law does not depend on T", target / (1 - u) if u < T else math.inf
    wide = eps * scale**2 / 4
    yield "the step is divided by the square of the scale", target / (1 - wide) if wide != 1 else math.inf
    yield (
        "scale is a standard deviation, not a variance",
        (T * scale / abs(1 - u * scale) if u * scale != 1 else 0.0),
    )
    yield "the coefficient a of the chain counts by its square", 2 * target


def _quartic(x):
    return (0.25 * x**4 + 0.2 * x).sum(1)


def _cubic(x):
    return x**3 + 0.2


def _warm(g):
    """A step size, and a temperature that is no simple fraction."""
    return uniform(0.5, 0.8)(g), uniform(0.55, 0.75)(g)


@exercise(inputs=lambda g: (_quartic, _cubic, normal(6, 3)(g), normal(6, 3)(g), *_warm(g)))
def check_log_acceptance(energy, gradient, z, new, eps, T):
    def square(move):
        return move.square().sum(1) / (2 * eps)

    down, on = 0.5 * eps * gradient(z), 0.5 * eps * gradient(new)
    forth, back = square(new - z + down), square(z - new + on)
    target = energy(z) - energy(new)
    yield "right", (target + forth - back) / T
    yield "the proposal densities are missing: a Langevin proposal is not symmetric", target / T
    yield "the proposal densities are upside down", (target - forth + back) / T
    yield "the energies are upside down", (-target + forth - back) / T
    yield "the temperature is missing", target + forth - back
    yield "the temperature is missing in the proposal densities", target / T + forth - back
    yield "the temperature is missing in the target", target + (forth - back) / T
    yield "one of the two proposal densities is missing", (target - back) / T
    yield "the minimum with 0 is not wanted here", ((target + forth - back) / T).clamp(max=0)
    yield "that is r itself: its logarithm is wanted", ((target + forth - back) / T).exp()
    yield (
        "the way back starts at the new state: its gradient is another",
        (target + forth - square(z - new + down)) / T,
    )
    yield (
        "the drift of the proposal has the wrong sign",
        (target + square(new - z - down) - square(z - new - on)) / T,
    )
    yield (
        "the distances are squared in a normal density",
        (target + (forth / 2 / eps).sqrt() - (back / 2 / eps).sqrt()) / T,
    )
    yield "a squared norm is a sum over the coordinates, not their mean", (target + (forth - back) / 3) / T
    yield (
        "that is one sum over all chains: each has a ratio of its own",
        (target + forth.sum() - back.sum()) / T,
    )
    yield "the step size multiplies where it has to divide", (target + (forth - back) * eps**2) / T
    yield (
        "the variance of the proposal is squared: it is no standard deviation",
        (target / T + (forth - back) / (eps * T**2)),
    )
    yield (
        "that is the proposal of a step of twice the size",
        (target + square(new - z + 2 * down) / 2 - square(z - new + 2 * on) / 2) / T,
    )


@exercise(edges=[lambda g: (uniform(-0.6, -0.3)(g), whole(20_000, 50_000)(g))], tolerance=2e-3)
def check_ar1_effective_sample_size(a: uniform(0.3, 0.9), n: whole(20_000, 50_000)):
    yield "right", n * (1 - a) / (1 + a)
    yield "that is the number of states, as if they were independent", n
    yield "upside down: a sticky chain is worth less", n * (1 + a) / (1 - a)
    yield "half of the lags are forgotten: correlation looks back, too", n * (1 - a)
    yield "lag 0 is counted with the others", n / (1 + 2 / (1 - a))
    yield "that is the size for the mean of the squares", n * (1 - a * a) / (1 + a * a)
    yield "that is the autocorrelation time", (1 + a) / (1 - a)
    yield "a chain that alternates is worth more than its length", min(n, n * (1 - a) / (1 + a))
    yield "the sign of a matters: errors that alternate cancel", n * (1 - abs(a)) / (1 + abs(a))


class _Quartic(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return (self.weight * x**4 / 4 + x**2).squeeze(1)


def _slopes(loss, energy, x):
    (slope,) = grad(loss(energy, x), energy.weight)
    return torch.allclose(slope, ((energy.weight * x**3 + 2 * x) * x**3 - 3 * x**2).mean(), rtol=1e-3)


@exercise(
    demands={
        "the loss has no gradient in the parameters": lambda f, *given: attached(f(*given)),
        "the gradient is lost on the way, in one of the two derivatives": _slopes,
    }
)
def check_score_matching(energy: lambda g: _Quartic(uniform(0.5, 1)(g)), x: normal(50, 1)):
    square = 0.5 * (energy.weight * x**3 + 2 * x).square().mean()
    curvature = (3 * energy.weight * x**2 + 2).mean()
    yield "right", square - curvature
    yield "the second derivative has the wrong sign", square + curvature
    yield "the half of the square is missing", 2 * square - curvature
    yield "the half belongs to the square alone", square - curvature / 2
    yield "the second derivative is missing: alone, a flat energy is best", square
    yield "that is a sum over the sample, not a mean", (square - curvature) * len(x)
    yield (
        "that differentiates the mean energy: each x has a slope of its own",
        square / len(x) ** 2 - curvature / len(x),
    )


def check_reconstruction_energy(x: normal(3, 2, 4, 5), reconstruct: lambda g: lambda x: 0.5 * x + 0.1):
    error = (reconstruct(x) - x).flatten(1)
    yield "right", error.norm(dim=1)
    yield "this is the mean square: it rescales the margin", error.square().mean(1)
    yield "this is the root of the *mean* square", error.square().mean(1).sqrt()
    yield "this is the sum of absolute values: the norm is Euclidean", error.abs().sum(1)
    yield "this is the norm of the reconstruction, not of the error", reconstruct(x).flatten(1).norm(dim=1)
    yield "one energy for each row: all axes but the first belong to it", (reconstruct(x) - x).norm(dim=1)


def _near_and_far(g):
    return torch.cat([uniform(0, 1, 2)(g), uniform(4, 6, 3)(g)])


def check_margin_loss(real: uniform(0, 1, 3), fake: _near_and_far, margin: uniform(1.5, 2.3)):
    hinge = (margin - fake).relu()
    yield "right", (real.mean() + hinge.mean(), fake.mean())
    yield "the hinge is missing: it ends at the margin", (real.mean() + margin - fake.mean(), fake.mean())
    yield "the hinge is taken of the mean", (real.mean() + (margin - fake.mean()).relu(), fake.mean())
    yield "the hinge points the wrong way", (real.mean() + (fake - margin).relu().mean(), fake.mean())
    yield "D's loss: real and fake are swapped", (fake.mean() + (margin - real).relu().mean(), fake.mean())
    yield "these are sums over each batch, not means", (real.sum() + hinge.sum(), fake.sum())
    yield "the energy of the real data is missing", (hinge.mean(), fake.mean())
    yield "G's loss is no hinge: far out it has no gradient", (real.mean() + hinge.mean(), -hinge.mean())
    yield "the two losses are in the wrong order", (fake.mean(), real.mean() + hinge.mean())


def _argmin(a, b, m):
    return (m if a < b else 0.0), (math.inf if a == 0 else m if a <= b else 0.0)


_COSTS = [(2.0, 1.0), (1.5, 1.5), (0.0, 1.0), (0.0, 0.0)]


@exercise(edges=[lambda g, costs=costs: (*costs, 2.0) for costs in _COSTS])
def check_phi_argmin(a: uniform(0.5, 1), b: uniform(1.5, 2), m: uniform(2, 3)):
    right, plain = _argmin(a, b, m), (m, m) if a < b else (0.0, 0.0)
    yield "right", right
    yield "the cases are swapped: where fakes are denser, D raises the energy", _argmin(b, a, m)
    yield "the two ends are in the wrong order", right[::-1]
    yield "the tie is wrong: phi is flat there", plain if a == b else right
    yield "for a = 0 nothing holds the energy down beyond the margin", plain if a == 0 < b else right
    yield "for a = b = 0 phi is 0 everywhere", (0.0, m) if a == b == 0 else right


def check_pulling_away(features: normal(5, 3)):
    n, unit = len(features), features / features.norm(dim=1, keepdim=True)
    cosines, products, lengths = unit @ unit.T, features @ features.T, features.square().sum(1)
    squares = cosines.square().sum() - n
    yield "right", squares / (n * (n - 1))
    yield "the cosines are not squared: they would cancel", (cosines.sum() - n) / (n * (n - 1))
    yield "the pairs of a row with itself are in the mean", cosines.square().mean()
    yield "the pairs of a row with itself count in the divisor", squares / n**2
    yield "the rows are not normalised", (products.square().sum() - lengths.square().sum()) / (n * (n - 1))


@exercise(edges=[lambda g: (normal(9)(g).double(), 1000 + normal(9)(g).double())])
def check_importance_mean(f: normal(50), d: normal(50)):
    def estimate(w):
        return (w * f).sum() / w.sum(), w.sum() ** 2 / w.square().sum()

    mean, size = estimate(d.softmax(0))
    yield "right", (mean, size)
    yield "a probability stands where the logit belongs", estimate(d.sigmoid())
    yield "the logit has the wrong sign", estimate((-d).softmax(0))
    yield "the logits themselves are no weights", estimate(d)
    yield "the weights are not normalised: they do not sum to 1", ((d.exp() * f).mean(), size)
    largest_one = (d - d.max()).exp()
    yield "the weights are not normalised: only the largest is 1", ((largest_one * f).mean(), size)
    yield "these weights sum to 1 already: that divides by n once more", (mean / len(d), size)
    yield "that is the mean over p_g: the weights are not used", (f.mean(), size)
    yield "the effective sample size is upside down", (mean, 1 / size)
    yield "the effective sample size is a number of samples, not a share", (mean, size / len(d))
    yield "the effective sample size asks for normalised weights", (mean, 1 / largest_one.square().sum())
    sums = largest_one.sum() / largest_one.square().sum()
    yield "the sum of the weights counts by its square in the effective sample size", (mean, sums)
    yield "the effective sample size cannot exceed n: a factor n is too much", (mean, size * len(d))
    yield "a constant added to d must change nothing, but exp overflows", estimate(d.exp())


def check_acceptance_in_dimension(m: uniform(0.3, 0.6), s: uniform(0.6, 0.9), k: whole(2, 5)):
    right = s * math.exp(-(m**2) / (2 * (1 - s**2)))  # in one dimension
    yield "right", right**k
    yield "that is one dimension: the ratio is a product over the coordinates", right
    yield "the rates of the coordinates multiply, they do not add", right / k
    yield "the ratio is not largest at the mean of p_d", (s * math.exp(-(m**2) / 2)) ** k
    yield "that is the share of the ESS", (s * (2 - s**2) ** 0.5 * math.exp(-(m**2) / (2 - s**2))) ** k
    yield "the ratio of the normalising constants is missing", (right / s) ** k
    yield "that is k times the rate of one coordinate: the rates multiply", k * right
    yield "the exponent is that of one coordinate alone", right * s ** (k - 1)
    yield "the factor s is that of one coordinate alone", s * (right / s) ** k
    yield "1 - s^2 stands below the fraction bar", (s * math.exp(-(m**2) / 2 * (1 - s**2))) ** k


def _swap(z):
    """Invertible; it turns the orientation, so its determinant is negative."""
    first, second = z.unbind(1)
    return torch.stack([2 * second + first.sin(), first + 0.1 * first**3 + 0.2 * second], 1)


def _log_density(x):
    return -0.5 * (x - 1).square().sum(1)


@exercise(inputs=lambda g: (normal(6, 2)(g), _swap, _log_density))
def check_pull_back(z, G, log_p_d):
    prior = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    there, diagonal = log_p_d(G(z)), 0.2 * z[:, 0].cos()
    volume = 2 * (1 + 0.3 * z[:, 0] ** 2) - diagonal
    yield "right", there + volume.log()
    yield "the Jacobian is missing: a density is per volume, and G changes volumes", there
    yield "the log-determinant has the wrong sign", there - volume.log()
    yield "the determinant counts by its logarithm", there + volume
    yield "the prior has no place here: it cancels", there + volume.log() + prior
    yield "nan: the determinant may be negative, but a volume is not", there + (-volume).log()
    yield "log p_d belongs to x = G(z), not to z", log_p_d(z) + volume.log()
    yield "the product of the diagonal is no determinant", there + diagonal.abs().log()
    yield "the Jacobian of a mean over the batch is n times too small", there + (volume / len(z) ** 2).log()


def _steers(energy, z, G, d):
    """Whether a chain can follow the energy: its gradient in the latents."""
    return attached(energy(z.requires_grad_(True), G, d))


def _cut_off(z, G, d):
    return (0.5 * z.square().sum(1) - d(G(z))).detach()


def _cut_off_uniform(u, G, d):
    return (0.5 * u.square().sum(1) - d(G(2 * torch.special.ndtr(u) - 1))).detach()


_NO_GRADIENT = "the values are right, but no gradient reaches the latent: a chain cannot follow them"


@exercise(
    inputs=lambda g: (normal(8, 3)(g), lambda z: 2 * z + z.square(), lambda x: x.sum(1) - 0.3 * x[:, 0] ** 2),
    up_to_constant=True,
    demands={_NO_GRADIENT: _steers},
    wrong={_NO_GRADIENT: _cut_off_uniform},
)
def check_uniform_prior(u, G, d):
    prior, share = 0.5 * u.square().sum(1), torch.special.ndtr(u)
    logit = d(G(2 * share - 1))
    yield "right", prior - logit
    yield "the prior of u is missing: z is uniform, but the chain moves in u", -logit
    yield "the Jacobian has the wrong sign", -prior - logit
    yield "the prior counts twice: its half is missing, or a Jacobian has been added", 2 * prior - logit
    yield "the prior is taken of z: it belongs to u", 0.5 * (2 * share - 1).square().sum(1) - logit
    yield "Phi is not the logistic function", prior - d(G(2 * u.sigmoid() - 1))
    yield "the error function belongs to another variance than 1", prior - d(G(u.erf()))
    density = (-0.5 * u.square()).exp() / math.sqrt(2 * math.pi)
    yield "Phi is the distribution function, not the density", prior - d(G(2 * density - 1))
    yield "G gets u itself", prior - d(G(u))
    yield "Phi(u) lies in [0, 1]; the latents of G in [-1, 1]", prior - d(G(share))
    yield "the logit has the wrong sign", prior + logit
    yield "a probability stands where the logit belongs", prior - logit.sigmoid()


@exercise(edges=[lambda g: (1000 + normal(9)(g).double(), normal(9)(g).double())])
def check_kl_of_logit(d: normal(60), d_star: normal(60)):
    u, log_n = d - d_star, math.log(len(d))
    log_Z = u.logsumexp(0) - log_n
    yield "right", log_Z - u.mean()
    yield "the normaliser is missing: p_g exp(d) has no mass 1", -u.mean()
    yield "that is the logarithm of a sum, not of a mean: n is missing", log_Z + log_n - u.mean()
    yield "that is log Z alone: the mean error is missing", log_Z
    yield "the mean error has the wrong sign", log_Z + u.mean()
    yield "a sum over the samples, not their mean", log_Z - u.sum()
    yield "that holds for small errors only", 0.5 * u.var()
    yield "the errors count with their signs", u.abs().logsumexp(0) - log_n - u.abs().mean()
    yield "d and d* are in each other's place", (-u).logsumexp(0) - log_n + u.mean()
    yield "the normaliser is a mean over p_g, but the samples are p_d's", d.logsumexp(0) - log_n - u.mean()
    yield "the logarithm of the normaliser has the wrong sign", -log_Z - u.mean()
    yield "the logarithm of the normaliser is missing", log_Z.exp() - u.mean()
    yield "a constant added to d must change nothing, but exp overflows", u.exp().mean().log() - u.mean()


@exercise(
    inputs=lambda g: (normal(6, 3)(g), lambda z: 2 * z + z.square(), lambda x: x.sum(1)),
    up_to_constant=True,
    demands={_NO_GRADIENT: _steers},
    wrong={_NO_GRADIENT: _cut_off},
)
def check_latent_energy(z, G, d):
    prior, logit = 0.5 * z.square().sum(1), d(G(z))
    yield "right", prior - logit
    yield "the logit has the wrong sign: what looks real has low energy", prior + logit
    yield "the prior has the wrong sign: far out is unlikely", -prior - logit
    yield "the prior is missing, or summed over all latents at once", -logit
    yield "a probability stands where the logit belongs", prior - logit.sigmoid()
    yield "that is the log of a probability: the logit itself belongs there", prior - logit.sigmoid().log()
    yield "the prior's half is missing", 2 * prior - logit
    yield "the norm counts by its square", 0.5 * z.norm(dim=1) - logit
    yield "the squared norm is a sum over the coordinates, not their mean", prior / 3 - logit
    yield "that is the density: the energy is what stands in its exponent", (logit - prior).exp()
    yield "the prior is taken of x: it belongs to the latent", 0.5 * G(z).square().sum(1) - logit
    yield "the logit is taken of z: G is not used", prior - d(z)


def _cells(g):
    u = 1.5 * normal(40)(g)
    w = normal(40)(g).exp() * (1 + u.square())  # largest where the error is, so that A matters
    return u, w, normal(40)(g).softmax(0), uniform(0.1, 0.5)(g), uniform(0.7, 0.9)(g)


@exercise(inputs=_cells)
def check_local_bound(u, w, p, regret, q):
    size, order = u.abs(), u.abs().argsort()
    B = size[order][(p[order].cumsum(0) < q).sum()]
    inside = size <= B

    def psi(t):
        return (t.exp() - 1 - t) / t**2

    def bound(c, over, rest, factor=2.0):
        return factor * (1 + c) * over * regret + rest

    def of(A, B):  # the bound with another set
        return bound(w[A].max(), psi(B) / psi(-B), outside[~A].sum())

    def at_share(values, weights):  # of `values` that from which on `weights`, in their order, reach q
        return values[(weights.cumsum(0) < q).sum()]

    c, over = w[inside].max(), psi(B) / psi(-B)
    outside = p * (u.exp() - 1 - u)
    rest = outside[~inside].sum()
    smaller = size[order][(p[order].cumsum(0) < q).sum() - 1]
    yield "right", bound(c, over, rest)
    yield "what lies outside A is missing", bound(c, over, 0.0)
    yield "the ratio is bounded on A only", bound(w.max(), over, rest)
    yield (
        "B is the largest error in A, not of all cells",
        bound(w.max(), psi(size.max()) / psi(-size.max()), 0.0),
    )
    yield "1 is missing beside c", bound(c - 1, over, rest)
    yield "there is no centring: psi is taken at B, not at 2 B", bound(c, psi(2 * B) / psi(-B), rest)
    yield "psi of -B divides: the regret sees a large error less", bound(c, psi(B), rest)
    yield "a factor 2 is missing: data are half of the mixture", bound(c, over, rest, 1.0)
    yield (
        "outside A the cells count by the data's probability",
        bound(c, over, (u.exp() - 1 - u)[~inside].sum()),
    )
    yield "A holds too little: it is to reach the share q", of(size <= smaller, smaller)
    yield "a cell of error B belongs to A", of(size < B, B)
    unsorted, signed = at_share(size, p), at_share(size[u.argsort()], p[u.argsort()])
    yield "the cells are not sorted by their error", of(size <= unsorted, unsorted)
    yield "the cells are sorted by the error with its sign", of(size <= signed, signed)
    yield "q is a share of the data, not of the cells", of(size <= size.quantile(q), size.quantile(q))
    yield "the two values of psi are upside down", bound(c, 1 / over, rest)
    yield "psi is missing", bound(c, 1.0, rest)
    yield "the last term is a sum over A, not over what lies outside", bound(c, over, outside[inside].sum())
    yield "the last term is a sum over all cells", bound(c, over, outside.sum())
    fold = (p * (size.exp() - 1 - size))[~inside].sum()
    yield "in the last term the error counts with its sign", bound(c, over, fold)


@exercise(inputs=lambda g: (normal(6, 2)(g), normal(6, 2)(g), _cubic, uniform(0.1, 0.3)(g), whole(2, 4)(g)))
def check_leapfrog(z, p, gradient, h, L):
    def path(first=0.5, last=0.5, kick=lambda before, after: after, steps=L, drift=1.0, late=0.0):
        a, b = z, p
        for _ in range(steps):
            force = gradient(a)
            before, a = a, a + drift * h * (b - (first - late) * h * force)
            b = b - first * h * force - last * h * gradient(kick(before, a))
        return a, b

    def kick_between(a, b):
        for _ in range(L):
            a = a + 0.5 * h * b
            b = b - h * gradient(a)
            a = a + 0.5 * h * b
        return a, b

    right = path()
    yield "right", right
    yield "these are whole kicks: each is half a step long", path(1.0, 1.0)
    yield "one half kick of each step is missing", path(0.5, 0.0)
    yield "a whole kick before the drift is Euler's step, not symmetric", path(1.0, 0.0)
    yield "the last half kick takes the gradient at the new place", path(kick=lambda before, after: before)
    yield "the kicks have the wrong sign: the force is downhill", path(-0.5, -0.5)
    yield "that is one step, not L of them", path(steps=1)
    yield "that is one step too many", path(steps=L + 1)
    yield "position and momentum are in the wrong order", right[::-1]
    yield "the drift is a whole step long", path(drift=0.5)
    yield "the drift takes the momentum after the half kick", path(late=0.5)
    yield "that is a kick between two half drifts: the kicks stand outside", kick_between(z, p)
    end, speed = right
    yield "the last kick of all is half a step long", (end, speed - 0.5 * h * gradient(end))
    yield "the momentum is turned round at the end: that is left to HMC", (end, -speed)
