"""Checks of notebooks 00 to 03."""

import math

import torch
from torch import nn
from torch.distributions import Normal
from torch.nn.functional import softplus

from notebooks.checks.common import exercise, normal, uniform, whole


def _bowl(g):
    stiffness = uniform(1, 5, 3)(g)
    return lambda z: 0.5 * (stiffness * z.square()).sum(1)


_OF_STEP = {
    "the result is still attached: its graph grows with every step": lambda f, *given: (
        not f(*given).requires_grad
    )
}


@exercise(demands=_OF_STEP)
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


@exercise(edges=[lambda g: (-_FAR, _FAR), lambda g: (torch.tensor([16.0, 17.5]), -_FAR)])
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
    yield "overflow, or a clamp, at logits of 1000", rough
    yield "digits are lost where the loss is small: 1 + u rounds to 1 there", sum(plain)


@exercise(edges=[lambda g: (torch.tensor([-200.0, -150.0]),)])
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
    yield "the constant of the normal density is missing", prior(A) - volume + constant
    yield "nan: the determinant may be negative, but a volume is not", prior(A) - A.det().log()


def _modes(g):
    """100 points: full modes, one just at 4 %, thin ones, and fives beside modes, some of them diagonally."""
    hits = [15] * whole(1, 3)(g) + [4, 3, 2, 1]
    offsets = [[0.0, 0.0]] * (len(hits) + 1) + [[1.7, 0.0]] * 3 + [[0.85, 0.85]] * 2
    hits = torch.tensor([75 - sum(hits), *hits, *[5] * 5])
    places = torch.randperm(16, generator=g)[: len(hits)]
    means = 4.0 * torch.stack([places // 4, places % 4], 1)
    return (means + torch.tensor(offsets)).repeat_interleave(hits, 0), means, 1.0, 0.04


def _no_mode(g):
    return uniform(20, 30, 9, 2)(g), torch.eye(2), 1.0, 0.02


def _near_two(g):
    return uniform(0, 0.1, 9, 2)(g), torch.tensor([[0.0, 0.0], [0.5, 0.0]]), 1.0, 0.1


@exercise(inputs=_modes, edges=[_no_mode, _near_two])
def check_mode_count(x, means, radius, least):
    distance, nearest = torch.cdist(x, means).min(1)
    square = nearest[(x - means[nearest]).abs().amax(1) <= radius]
    close, least = nearest[distance <= radius], round(least * len(x), 3)
    several = (torch.cdist(x, means) <= radius).sum(0) >= least

    def count(close, least):
        return int((torch.bincount(close, minlength=len(means)) >= least).sum())

    yield "right", count(close, least)
    yield "the radius is not used: a far point belongs to no mode", count(nearest, least)
    yield "the share is not used: a mode hit by too few points was counted", count(close, 1)
    yield "the radius is Euclidean, not of each coordinate", count(square, least)
    yield "a share that is just reached counts", count(close, least + 0.01)
    yield "the share is of all points, not of those near a mode", count(close, least * len(close) / len(x))
    yield "no point is near a mode here, so the answer is 0", max(1, count(close, least))
    yield "a point belongs to its nearest mode only", several.sum()


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
    x = (torch.arange(2000) + 0.5) / 100 - 10
    mean, std, other, larger = _gaussians(g)
    return Normal(mean, std).log_prob(x).exp(), Normal(other, larger).log_prob(x).exp(), 1 / 100


_LEFT, _MIDDLE, _ALL = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5]])


@exercise(inputs=_densities, edges=[lambda g: (_LEFT, _ALL, 0.5), lambda g: (_LEFT, _MIDDLE, 0.5)])
def check_jensen_shannon(p, q, h):
    m = (p + q) / 2

    def kl(a, b):
        return torch.xlogy(a, torch.where(b > 0, a / b, 1)).sum() * h

    right = (kl(p, m) + kl(q, m)) / 2
    plain = p * (p / m).log() + q * (q / m).log()
    xlogy = torch.xlogy(p, p / m) + torch.xlogy(q, q / m)
    yield "right", right
    yield "the mixture is no density: its mass is 2", right - math.log(2)
    yield "that is KL(p || q): compare with the mixture", kl(p, q)
    yield "that is the mean of the KLs between p and q: compare with the mixture", (kl(p, q) + kl(q, p)) / 2
    yield "the divergences are turned round: the mixture comes second", (kl(m, p) + kl(m, q)) / 2
    yield "only p is compared with the mixture: q counts too", kl(p, m) / 2
    yield "a sum is no integral: the spacing is missing", right / h
    yield "nan where one density is 0: 0 log 0 counts as 0", plain.sum() * h / 2
    yield "nan where both are 0: their ratio is 0/0, and torch.xlogy keeps that", xlogy.sum() * h / 2


def check_corrected_logit(d: normal(4), n_real: whole(2000, 3000), n_fake: whole(400, 600)):
    odds = math.log(n_real / n_fake)
    yield "right", d - odds
    yield "nothing was corrected", d
    yield "wrong direction: the larger class has raised the logit", d + odds
    yield "a ratio is divided, a logit is not", d / (n_real / n_fake)
    yield "the logarithm is missing", d - n_real / n_fake
    yield "that is the log of a share: odds shift a logit", d - math.log(n_real / (n_real + n_fake))
    yield "use the natural logarithm: logits are in nats", d - odds / math.log(10)


@exercise(edges=[lambda g: (1000 + normal(5)(g).double(), 1000 + normal(7)(g).double())])
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


@exercise(
    demands={
        "D cannot learn from it: no gradient reaches its weights": lambda f, *given: f(*given).requires_grad,
        "the value is right, its gradient in D's weights is not: a part is detached": _learns_rightly,
    }
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
