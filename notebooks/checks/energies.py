"""Checks of notebooks 04 to 06."""

import math

import torch
from torch import nn
from torch.autograd import grad

from notebooks.checks.common import exercise, normal, uniform, whole


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


@exercise(edges=[lambda g: (4.0, 1.0, 1.0), lambda g: (5.0, 1.0, 1.0)])
def check_ula_variance(eps: uniform(0.1, 0.5), scale: uniform(0.7, 1.5), T: uniform(0.5, 2)):
    u, target = eps / (4 * scale**2), T * scale**2
    right = target / (1 - u) if u < 1 else math.inf
    yield "right", right
    yield "that is the target's variance: ULA has another", target
    yield "the temperature is missing", right / T
    yield "the bias has the wrong sign: ULA is too wide", target / (1 + u)
    yield "the drift takes half the step", target / (1 - 2 * u) if u != 0.5 else math.inf
    yield "beyond this step there is no stationary law: return inf", target / abs(1 - u) if u != 1 else 0.0


def _quartic(x):
    return (0.25 * x**4 + 0.2 * x).sum(1)


def _cubic(x):
    return x**3 + 0.2


@exercise(inputs=lambda g: (_quartic, _cubic, normal(6, 2)(g), normal(6, 2)(g), uniform(0.5, 0.8)(g), 0.5))
def check_log_acceptance(energy, gradient, z, new, eps, T):
    forth = (new - z + 0.5 * eps * gradient(z)).square().sum(1) / (2 * eps)
    back = (z - new + 0.5 * eps * gradient(new)).square().sum(1) / (2 * eps)
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


def check_ar1_effective_sample_size(a: uniform(-0.5, 0.95), n: whole(100, 5000)):
    yield "right", n * (1 - a) / (1 + a)
    yield "that is the number of states, as if they were independent", n
    yield "upside down: a sticky chain is worth less", n * (1 + a) / (1 - a)
    yield "half of the lags are forgotten: correlation looks back, too", n * (1 - a)
    yield "lag 0 is counted with the others", n / (1 + 2 / (1 - a))
    yield "that is the size for the mean of the squares", n * (1 - a * a) / (1 + a * a)
    yield "that is the autocorrelation time", (1 + a) / (1 - a)


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
        "the loss has no gradient in the parameters": lambda f, *given: f(*given).requires_grad,
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
    yield "that is the mean over p_g: the weights are not used", (f.mean(), size)
    yield "the effective sample size is upside down", (mean, 1 / size)
    yield "the effective sample size is a number of samples, not a share", (mean, size / len(d))
    yield "a constant added to d must change nothing, but exp overflows", estimate(d.exp())


def check_acceptance_in_dimension(m: uniform(0.3, 0.6), s: uniform(0.6, 0.9), k: whole(2, 5)):
    right = s * math.exp(-(m**2) / (2 * (1 - s**2)))  # in one dimension
    yield "right", right**k
    yield "that is one dimension: the ratio is a product over the coordinates", right
    yield "the rates of the coordinates multiply, they do not add", right / k
    yield "the ratio is not largest at the mean of p_d", (s * math.exp(-(m**2) / 2)) ** k
    yield "that is the share of the ESS", (s * (2 - s**2) ** 0.5 * math.exp(-(m**2) / (2 - s**2))) ** k
    yield "the ratio of the normalising constants is missing", (right / s) ** k


def _swap(z):
    """Invertible; it turns the orientation, so its determinant is negative."""
    first, second = z.unbind(1)
    return torch.stack([2 * second + first.sin(), first + 0.1 * first**3], 1)


def _log_density(x):
    return -0.5 * (x - 1).square().sum(1)


@exercise(inputs=lambda g: (normal(6, 2)(g), _swap, _log_density))
def check_pull_back(z, G, log_p_d):
    prior = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    there, volume = log_p_d(G(z)), 2 * (1 + 0.3 * z[:, 0] ** 2)
    yield "right", there + volume.log()
    yield "the Jacobian is missing: a density is per volume, and G changes volumes", there
    yield "the log-determinant has the wrong sign", there - volume.log()
    yield "the determinant counts by its logarithm", there + volume
    yield "the prior has no place here: it cancels", there + volume.log() + prior
    yield "nan: the determinant may be negative, but a volume is not", there + (-volume).log()


@exercise(
    inputs=lambda g: (normal(8, 3)(g), lambda z: 2 * z + z.square(), lambda x: x.sum(1) - 0.3 * x[:, 0] ** 2),
    up_to_constant=True,
)
def check_uniform_prior(u, G, d):
    prior, share = 0.5 * u.square().sum(1), torch.special.ndtr(u)
    logit = d(G(2 * share - 1))
    yield "right", prior - logit
    yield "the prior of u is missing: z is uniform, but the chain moves in u", -logit
    yield "the Jacobian has the wrong sign", -prior - logit
    yield "the Jacobian counts twice: u is normal already", 2 * prior - logit
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
    yield "d and d* are in each other's place", (-u).logsumexp(0) - log_n + u.mean()
    yield "the normaliser is a mean over p_g, but the samples are p_d's", d.logsumexp(0) - log_n - u.mean()
    yield "the logarithm of the normaliser has the wrong sign", -log_Z - u.mean()
    yield "the logarithm of the normaliser is missing", log_Z.exp() - u.mean()
    yield "a constant added to d must change nothing, but exp overflows", u.exp().mean().log() - u.mean()


@exercise(
    inputs=lambda g: (normal(6, 3)(g), lambda z: 2 * z + z.square(), lambda x: x.sum(1)), up_to_constant=True
)
def check_latent_energy(z, G, d):
    prior, logit = 0.5 * z.square().sum(1), d(G(z))
    yield "right", prior - logit
    yield "the logit has the wrong sign: what looks real has low energy", prior + logit
    yield "the prior has the wrong sign: far out is unlikely", -prior - logit
    yield "the prior is missing", -logit
    yield "a probability stands where the logit belongs", prior - logit.sigmoid()
    yield "the prior's half is missing", 2 * prior - logit
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

    c, over = w[inside].max(), psi(B) / psi(-B)
    rest = (p * (u.exp() - 1 - u))[~inside].sum()
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


@exercise(inputs=lambda g: (normal(6, 2)(g), normal(6, 2)(g), _cubic, uniform(0.1, 0.3)(g), whole(2, 4)(g)))
def check_leapfrog(z, p, gradient, h, L):
    def path(first=0.5, last=0.5, kick=lambda before, after: after, steps=L):
        a, b = z, p
        for _ in range(steps):
            b = b - first * h * gradient(a)
            before, a = a, a + h * b
            b = b - last * h * gradient(kick(before, a))
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
