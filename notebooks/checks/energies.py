"""Checks of notebooks 04 to 06."""

import math

import torch
from torch import nn
from torch.autograd import grad

from notebooks.checks.common import exercise, normal, uniform, whole

# Notebook 04


def check_langevin_step(
    z: normal(5, 2), gradient: normal(5, 2), eps: uniform(0.1, 0.5), T: uniform(0.4, 0.8), noise: normal(5, 2)
):
    down, kick = -0.5 * eps * gradient, math.sqrt(eps * T) * noise
    return {
        "right": z + down + kick,
        "the gradient has the wrong sign: energy is to go down": z - down + kick,
        "the gradient's half is missing": z + 2 * down + kick,
        "the noise's standard deviation is the root of that": z + down + eps * T * noise,
        "the temperature belongs under the root": z + down + eps**0.5 * T * noise,
        "the temperature is not used": z + down + eps**0.5 * noise,
        "the noise is missing: that is gradient descent": z + down,
        "return the new z, not the change of it": down + kick,
    }


def _unstable(g):
    return uniform(4, 5)(g), 1.0, 1.0


@exercise(edges=[lambda g: (4.0, 1.0, 1.0), _unstable])
def check_ula_variance(eps: uniform(0.1, 0.5), scale: uniform(0.7, 1.5), T: uniform(0.5, 2)):
    u, target = eps / (4 * scale**2), T * scale**2
    right = target / (1 - u) if u < 1 else math.inf
    return {
        "right": right,
        "that is the target's variance: ULA has another": target,
        "the temperature is missing": right / T,
        "the bias has the wrong sign: ULA is too wide": target / (1 + u),
        "the drift takes half the step": target / (1 - 2 * u) if u != 0.5 else math.inf,
        "that is the standard deviation": right**0.5,
        "beyond this step there is no stationary law: return inf": target / abs(1 - u) if u != 1 else 0.0,
    }


def _quartic(x):
    return (0.25 * x**4 + 0.2 * x).sum(1)


def _cubic(x):
    return x**3 + 0.2


@exercise(inputs=lambda g: (_quartic, _cubic, normal(6, 2)(g), normal(6, 2)(g), uniform(0.5, 0.8)(g), 0.5))
def check_log_acceptance(energy, gradient, z, new, eps, T):
    forth = (new - z + 0.5 * eps * gradient(z)).square().sum(1) / (2 * eps)
    back = (z - new + 0.5 * eps * gradient(new)).square().sum(1) / (2 * eps)
    target = energy(z) - energy(new)
    return {
        "right": (target + forth - back) / T,
        "the proposal densities are missing: a Langevin proposal is not symmetric": target / T,
        "the proposal densities are upside down": (target - forth + back) / T,
        "the energies are upside down": (-target + forth - back) / T,
        "the temperature is missing": target + forth - back,
        "the temperature is missing in the proposal densities": target / T + forth - back,
        "the temperature is missing in the target": target + (forth - back) / T,
        "one of the two proposal densities is missing": (target - back) / T,
        "the minimum with 0 is not wanted here": ((target + forth - back) / T).clamp(max=0),
    }


def check_ar1_effective_sample_size(a: uniform(-0.5, 0.95), n: whole(100, 5000)):
    return {
        "right": n * (1 - a) / (1 + a),
        "that is the number of states, as if they were independent": n,
        "upside down: a sticky chain is worth less": n * (1 + a) / (1 - a),
        "each lag counts twice, for t and -t": n * (1 - a),
        "lag 0 is counted with the others: the sum starts at lag 1": n / (1 + 2 / (1 - a)),
        "that is the size for the mean of the squares": n * (1 - a * a) / (1 + a * a),
        "that is the autocorrelation time": (1 + a) / (1 - a),
    }


class _Quartic(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return (self.weight * x**4 / 4 + x**2).squeeze(1)


def _has_slope(loss, energy, x):
    return loss(energy, x).requires_grad


def _has_right_slope(loss, energy, x):
    (slope,) = grad(loss(energy, x), energy.weight)
    return torch.allclose(slope, ((energy.weight * x**3 + 2 * x) * x**3 - 3 * x**2).mean(), rtol=1e-3)


_OF_LOSS = {
    "the loss has no gradient in the parameters: give create_graph=True": _has_slope,
    "the gradient is lost on the way: give create_graph=True both times": _has_right_slope,
}


@exercise(demands=_OF_LOSS)
def check_score_matching(energy: lambda g: _Quartic(uniform(0.5, 1)(g)), x: normal(50, 1)):
    square = 0.5 * (energy.weight * x**3 + 2 * x).square().mean()
    curvature = (3 * energy.weight * x**2 + 2).mean()
    return {
        "right": square - curvature,
        "the second derivative has the wrong sign": square + curvature,
        "the half of the square is missing": 2 * square - curvature,
        "the second derivative is missing: alone, the square is least for a flat energy": square,
        "the half belongs to the square alone": square - curvature / 2,
        "take the mean over the sample, not the sum": (square - curvature) * len(x),
    }


# Notebook 05


def check_reconstruction_energy(x: normal(3, 2, 4, 5), reconstruct: lambda g: lambda x: 0.5 * x + 0.1):
    error = (reconstruct(x) - x).flatten(1)
    return {
        "right": error.norm(dim=1),
        "this is the squared norm": error.square().sum(1),
        "this is the mean square: it rescales the margin": error.square().mean(1),
        "this is the root of the *mean* square: sum over the coordinates": error.square().mean(1).sqrt(),
        "this is the sum of absolute values: the norm is Euclidean": error.abs().sum(1),
        "this is the norm of the reconstruction, not of the error": reconstruct(x).flatten(1).norm(dim=1),
        "one energy for each row: all axes but the first belong to it": (reconstruct(x) - x).norm(dim=1),
    }


def check_margin_loss(real: uniform(0, 1, 3), fake: uniform(0.2, 5, 6), margin: uniform(1.5, 3)):
    hinge = (margin - fake).relu()
    return {
        "right": (real.mean() + hinge.mean(), fake.mean()),
        "the hinge is missing: beyond the margin nothing is added": (
            real.mean() + margin - fake.mean(),
            fake.mean(),
        ),
        "the hinge is taken of the mean": (real.mean() + (margin - fake.mean()).relu(), fake.mean()),
        "the hinge points the wrong way": (real.mean() + (fake - margin).relu().mean(), fake.mean()),
        "D's loss: real and fake are swapped": (fake.mean() + (margin - real).relu().mean(), fake.mean()),
        "real and fake are swapped": (fake.mean() + (margin - real).relu().mean(), real.mean()),
        "these are sums: take means over each batch": (real.sum() + hinge.sum(), fake.sum()),
        "the energy of the real data is missing": (hinge.mean(), fake.mean()),
        "G's loss has the wrong sign: G lowers energies": (real.mean() + hinge.mean(), -fake.mean()),
        "G's loss is not minus D's hinge, which has no gradient far out": (
            real.mean() + hinge.mean(),
            -hinge.mean(),
        ),
        "the two losses are in the wrong order": (fake.mean(), real.mean() + hinge.mean()),
    }


def _argmin(a, b, m):
    return (m if a < b else 0.0), (math.inf if a == 0 else m if a <= b else 0.0)


_COSTS = [(2.0, 1.0), (1.5, 1.5), (0.0, 1.0), (0.0, 0.0)]


@exercise(
    inputs=lambda g: (uniform(0.5, 1)(g), uniform(1.5, 2)(g), uniform(2, 3)(g)),
    edges=[lambda g, costs=costs: (*costs, 2.0) for costs in _COSTS],
)
def check_phi_argmin(a, b, m):
    right, plain = _argmin(a, b, m), (m, m) if a < b else (0.0, 0.0)
    return {
        "right": right,
        "the cases are swapped: where fakes are denser, D raises the energy": _argmin(b, a, m),
        "the two ends are in the wrong order": right[::-1],
        "for a > b phi rises from the start": (right[0], m) if a > b else right,
        "the tie is wrong: phi is flat there": plain if a == b else right,
        "for a = 0 nothing holds the energy down beyond the margin": plain if a == 0 < b else right,
        "for a = b = 0 phi is 0 everywhere": (0.0, m) if a == b == 0 else right,
    }


def check_pulling_away(features: normal(5, 3)):
    n, unit = len(features), features / features.norm(dim=1, keepdim=True)
    cosines, products = unit @ unit.T, features @ features.T
    squares = cosines.square().sum() - n
    return {
        "right": squares / (n * (n - 1)),
        "the cosines are not squared: antipodal rows would cancel parallel ones": (cosines.sum() - n)
        / (n * (n - 1)),
        "the pairs of a row with itself are in the mean": cosines.square().mean(),
        "the pairs of a row with itself count in the divisor": squares / n**2,
        "this is the sum over pairs": squares,
        "the rows are not normalised": (products - products.diagonal().diag()).square().sum() / (n * (n - 1)),
        "each pair counts once in the sum but twice in the divisor": squares / (2 * n * (n - 1)),
    }


# Notebook 06


@exercise(edges=[lambda g: (normal(9)(g).double(), 1000 + normal(9)(g).double())])
def check_importance_mean(f: normal(50), d: normal(50)):
    w, p = d.softmax(0), d.sigmoid()
    size, flipped, raw = 1 / w.square().sum(), (-d).softmax(0), d.exp()
    return {
        "right": ((w * f).sum(), size),
        "a probability stands where the logit belongs": (
            (p * f).sum() / p.sum(),
            p.sum() ** 2 / p.square().sum(),
        ),
        "the logit has the wrong sign": ((flipped * f).sum(), 1 / flipped.square().sum()),
        "the logits themselves are no weights": ((d * f).sum() / d.sum(), d.sum() ** 2 / d.square().sum()),
        "divide by the sum of the weights, not by their number": ((raw * f).mean(), size),
        "that is the mean over p_g: the weights are not used": (f.mean(), size),
        "the effective sample size is upside down": ((w * f).sum(), 1 / size),
        "the effective sample size is a number of samples, not a share": ((w * f).sum(), size / len(d)),
        "a constant added to d must change nothing, but exp overflows": (
            (raw * f).sum() / raw.sum(),
            raw.sum() ** 2 / raw.square().sum(),
        ),
    }


def check_acceptance_in_dimension(m: uniform(0.3, 0.6), s: uniform(0.6, 0.9), k: whole(2, 5)):
    right = s * math.exp(-(m**2) / (2 * (1 - s**2)))  # in one dimension
    return {
        "right": right**k,
        "that is the bound c, not the rate": right**-k,
        "that is one dimension: the ratio is a product over the coordinates": right,
        "the rates of the coordinates multiply, they do not add": right / k,
        "the ratio is not largest at the mean of p_d": (s * math.exp(-(m**2) / 2)) ** k,
        "that is the share of the effective sample size": (
            s * (2 - s**2) ** 0.5 * math.exp(-(m**2) / (2 - s**2))
        )
        ** k,
        "the ratio of the normalising constants is missing": (right / s) ** k,
    }


def _swap(z):
    """Invertible; it turns the orientation, so its determinant is negative."""
    first, second = z.unbind(1)
    return torch.stack([2 * second + first.sin(), first + 0.1 * first**3], 1)


def _log_density(x):
    return -0.5 * (x - 1).square().sum(1)


@exercise(inputs=lambda g: (normal(6, 2)(g), _swap, _log_density))
def check_pull_back(z, G, log_p_d):
    there, volume = log_p_d(G(z)), 2 * (1 + 0.3 * z[:, 0] ** 2)
    return {
        "right": there + volume.log(),
        "the Jacobian is missing: a density is per volume, and G changes volumes": there,
        "the log-determinant has the wrong sign": there - volume.log(),
        "the determinant counts by its logarithm": there + volume,
        "the density is taken at z instead of at its image": log_p_d(z) + volume.log(),
        "the prior has no place here: it cancels": there
        + volume.log()
        - z.square().sum(1) / 2
        - math.log(2 * math.pi),
        "nan: the determinant may be negative, but a volume is not": there + (-volume).log(),
    }


@exercise(
    inputs=lambda g: (normal(8, 3)(g), lambda z: 2 * z + z.square(), lambda x: x.sum(1) - 0.3 * x[:, 0] ** 2),
    up_to_constant=True,
)
def check_uniform_prior(u, G, d):
    prior, share = 0.5 * u.square().sum(1), torch.special.ndtr(u)
    logit = d(G(2 * share - 1))
    return {
        "right": prior - logit,
        "the prior of u is missing: z is uniform, but the chain moves in u": -logit,
        "the Jacobian has the wrong sign": -prior - logit,
        "the Jacobian counts twice: the law of u is already that of the chain": 2 * prior - logit,
        "G gets u itself": prior - d(G(u)),
        "Phi(u) lies in [0, 1]; the latents of G in [-1, 1]": prior - d(G(share)),
        "the logit has the wrong sign": prior + logit,
        "a probability stands where the logit belongs": prior - logit.sigmoid(),
    }


@exercise(edges=[lambda g: (1000 + normal(9)(g).double(), normal(9)(g).double())])
def check_kl_of_logit(d: normal(60), d_star: normal(60)):
    u, log_n = d - d_star, math.log(len(d))
    log_Z = u.logsumexp(0) - log_n
    return {
        "right": log_Z - u.mean(),
        "the normaliser is missing: p_g exp(d) has no mass 1": -u.mean(),
        "d and d* are in each other's place": (-u).logsumexp(0) - log_n + u.mean(),
        "the normaliser is a mean over p_g, but the samples are p_d's": d.logsumexp(0) - log_n - u.mean(),
        "the logarithm of the normaliser has the wrong sign": -log_Z - u.mean(),
        "the logarithm of the normaliser is missing": log_Z.exp() - u.mean(),
        "the mean of the difference is missing": log_Z,
        "logsumexp is the log of a sum, not of a mean": log_Z + log_n - u.mean(),
        "a constant added to d must change nothing, but exp overflows": u.exp().mean().log() - u.mean(),
    }
