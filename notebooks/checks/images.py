"""Checks of notebooks 10 to 12."""

import math

import torch
from torch.nn.functional import softplus

from notebooks.checks.common import exercise, normal, uniform, whole


def check_frechet_diagonal(
    mean_a: normal(4), variance_a: uniform(0, 3, 4), mean_b: normal(4), variance_b: uniform(0, 3, 4)
):
    shift, both = (mean_a - mean_b).square().sum(), (variance_a + variance_b).sum()
    overlap, product = (variance_a * variance_b).sqrt().sum(), (variance_a * variance_b).sum()
    yield "right", shift + both - 2 * overlap
    yield "the variances are used like standard deviations", shift + (variance_a - variance_b).square().sum()
    yield "the square root of the product of the variances is missing", shift + both - 2 * product
    yield "the means are missing", both - 2 * overlap
    yield "the covariances are missing", shift
    yield "the overlap counts twice", shift + both - overlap


_SURE = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.2, 0.7, 0.1, 0.0], [0.5, 0.5, 0.0, 0.0]])  # never the last


@exercise(edges=[lambda g: (_SURE,)])
def check_inception_score(p: lambda g: (2 * normal(5, 3)(g)).softmax(1)):
    marginal, entropy = p.mean(0), torch.special.entr(p).sum(1).mean()
    total = torch.special.entr(marginal).sum()
    yield "right", (total - entropy).exp()
    yield "2 ** applied to nats: use one base", 2 ** (total - entropy)
    yield "e ** applied to bits: use one base", ((total - entropy) / math.log(2)).exp()
    yield "that is of the marginal alone: the rows' entropies are missing", total.exp()
    yield "the divergence is the wrong way round", (marginal * (marginal / p).log()).sum(1).mean().exp()
    yield "nan at a posterior of zero: 0 log 0 counts as 0", (p * (p / marginal).log()).sum(1).mean().exp()


def _distances(g):
    sizes = torch.tensor([100.0, 200.0, 500.0, 2000.0]).double() * whole(1, 3)(g)
    return sizes, 7 + 300 / sizes + 0.03 * normal(4)(g)


@exercise(inputs=_distances)
def check_extrapolation(sizes, values):
    def line(x):
        return torch.linalg.lstsq(torch.stack([torch.ones_like(x), x], 1), values[:, None]).solution[:, 0]

    (right, slope), last = line(1 / sizes), sizes.argmax()
    yield "right", right
    yield "that is a line in n, which has no value at infinity", line(sizes)[0]
    yield "the bias falls faster than the root of 1/n", line(sizes.rsqrt())[0]
    yield "that is the slope: the limit is wanted", slope
    yield "that is the value at the largest n: it still holds the bias", values[last]
    yield "that is the mean of the values: it still holds the bias", values.mean()
    yield "that is the prediction for a single image", right + slope


def _features(g, n=40):
    """Correlated features (n, 3) with a mean."""
    return normal(n, 3)(g) @ (torch.eye(3) + 0.5 * normal(3, 3)(g)) + normal(3)(g)


@exercise(
    inputs=lambda g: (_features(g), _features(g, 30)),
    edges=[lambda g: (normal(5, 12)(g).double(), normal(6, 12)(g).double())],
)
def check_frechet_features(a, b):
    A, B = a.T.cov(), b.T.cov()
    shift, both = (a.mean(0) - b.mean(0)).square().sum(), A.trace() + B.trace()

    def overlap(A, B):
        return torch.linalg.eigvals(A @ B).real.clamp(min=0).sqrt().sum()

    def root(C):
        values, vectors = torch.linalg.eigh(C)
        return vectors * values.clamp(min=0).sqrt() @ vectors.T

    right, biased = shift + both - 2 * overlap(A, B), [x.T.cov(correction=0) for x in (a, b)]
    yield "right", right.item()
    yield "the means are missing", right - shift
    yield "the covariances are missing", shift
    yield "the overlap counts twice", shift + both - overlap(A, B)
    unclamped = torch.linalg.eigvals(A @ B).real.sqrt().sum()
    yield "few images: rounding makes a zero eigenvalue negative, its root nan", shift + both - 2 * unclamped
    yield "the square root of the product of the covariances is missing", shift + both - 2 * (A @ B).trace()
    yield "the root of each entry is not the root of a matrix", shift + both - 2 * (A @ B).sqrt().trace()
    yield "roots of A and B alone do: only if A and B commute", shift + both - 2 * (root(A) @ root(B)).trace()
    of_n = sum(C.trace() for C in biased) - 2 * overlap(*biased)
    yield "the covariances are divided by n", shift + of_n
    B_too = B * (len(b) - 1) / (len(a) - 1)  # by the other's number of rows
    together = A.trace() + B_too.trace() - 2 * overlap(A, B_too)
    yield "each covariance is divided by its own number of rows, less one", shift + together
    yield "the distance of the means is not squared", shift.sqrt() + right - shift


@exercise(edges=[lambda g: (normal(6, 3)(g),) * 2])
def check_kernel_distance(x: normal(7, 3), y: lambda g: 1 + normal(5, 3)(g)):
    def of(power=3, divisor=x.shape[1], one=1.0, cross=2, diagonal=False, count=1):
        def k(a, b):
            return (a @ b.T / divisor + one) ** power

        def within(a):
            values = k(a, a)
            if diagonal:
                return values.mean()
            return (values.sum() - values.trace()) / (len(a) * (len(a) - count))

        return (within(x) + within(y) - cross * k(x, y).mean()).item()

    yield "right", of()
    yield "a sample is paired with itself: that is biased", of(diagonal=True)
    yield "an unbiased estimate may be negative: leave it so", max(of(), 0.0)
    yield "the pairs of a sample with itself have left the sum but not the count", of(count=0)
    yield "the cross term counts twice", of(cross=1)
    yield "the kernel has another power", of(power=2)
    yield "the inner product is not divided by the number of features", of(divisor=1)
    yield "the one in the kernel is missing", of(one=0.0)


def _clouds(g):
    return normal(60, 2)(g), 2 * normal(80, 2)(g)


@exercise(edges=[lambda g: (*_clouds(g), 2), lambda g: (*_clouds(g), 4)])
def check_precision(real: normal(60, 2), fake: lambda g: 2 * normal(80, 2)(g), k: whole(2, 4)):
    def share(points, centres, k):
        radii = torch.cdist(centres, centres).sort(dim=1).values[:, k]  # column 0 is the point itself
        return (torch.cdist(points, centres) <= radii).any(1).double().mean()

    distance, nearest = torch.cdist(fake, real).min(1)
    own = torch.cdist(real, real).sort(dim=1).values[nearest, k]
    yield "right", share(fake, real, k)
    yield "that is the recall: the balls belong round the real points", share(real, fake, k)
    yield "a point is its own nearest neighbour, at distance 0", share(fake, real, k - 1)
    yield "one neighbour too many", share(fake, real, k + 1)
    yield "the k given is not used", share(fake, real, 3)
    yield "only the ball of the nearest point was looked at", (distance <= own).double().mean()
    yield "that is a number of points, not a share", share(fake, real, k) * len(fake)


@exercise(inputs=lambda g: (normal(6, 3)(g), lambda z: 2 * z + 1, lambda x: x.sum(1)), up_to_constant=True)
def check_energy(z, G, d):
    prior, logit = 0.5 * z.square().sum(1), d(G(z))
    yield "right", prior - logit
    yield "the logit has the wrong sign: what looks real has low energy", prior + logit
    yield "the prior is missing", -logit
    yield "a probability stands where the logit belongs", prior - logit.sigmoid()
    yield "the prior's half is missing", 2 * prior - logit
    yield "the prior takes the square of the length, not the length", z.norm(dim=1) - logit
    yield "the logit is taken of z: G is not used", prior - d(z)


def check_temperature(eps: uniform(0.01, 1), std: uniform(0.01, 1)):
    yield "right", std**2 / eps
    yield "the noise counts by its variance", std / eps
    yield "the step size enters once, not squared", std**2 / eps**2
    yield "a larger step with the same noise is colder", std**2 * eps
    yield "the half belongs to the gradient alone", 2 * std**2 / eps


@exercise(edges=[lambda g: (torch.tensor([300.0, -200.0]), torch.tensor([-150.0, 400.0]), 1.5, 0.5)])
def check_platt(real: normal(3), fake: normal(6), a: uniform(1.5, 3), b: uniform(-1, -0.3)):
    def loss(real, fake):
        return (softplus(-real).mean() + softplus(fake).mean()) / 2

    x, y = a * real + b, a * fake + b
    through = -(x.sigmoid().log().mean() + (1 - y.sigmoid()).log().mean()) / 2
    yield "right", loss(x, y)
    yield "the labels are swapped: real has a high logit", loss(-x, -y)
    yield "pooled: the larger class gets more weight than the other", softplus(torch.cat([-x, y])).mean()
    yield "the intercept is not used", loss(a * real, a * fake)
    yield "the slope is not used", loss(real + b, fake + b)
    yield "neither slope nor intercept is used", loss(real, fake)
    yield "the intercept is scaled too", loss(a * (real + b), a * (fake + b))
    yield "slope and intercept are swapped", loss(b * real + a, b * fake + a)
    yield "infinite at logits of a hundred: a probability was rounded to 0", through


@exercise(edges=[lambda g: (1e-4, 20, 128)])
def check_displacement(eps: uniform(0.05, 0.2), n: whole(10, 20), dim: whole(50, 200)):
    a = 1 - eps / 2
    drift, noise = (1 - a**n) ** 2, (1 - a ** (2 * n)) / (1 - eps / 4)
    yield "right", math.sqrt(dim * (drift + noise))
    yield "that is one coordinate: all of them move", math.sqrt(drift + noise)
    yield "the noise is missing", math.sqrt(dim * drift)
    yield "the drift is missing", math.sqrt(dim * noise)
    yield "this is the limit of short chains; here the drift towards 0 counts", math.sqrt(dim * n * eps)
    yield "independent steps add up in the square, not in length", n * math.sqrt(dim * eps)
    yield "that takes the stationary variance of ULA for 1", math.sqrt(dim * (drift + 1 - a ** (2 * n)))


def check_slerp(a: normal(4), b: lambda g: 2 * normal(4)(g), t: uniform(0.1, 0.4)):
    def path(a, b, t, omega):
        return (((1 - t) * omega).sin() * a + (t * omega).sin() * b) / omega.sin()

    straight, cosine = (1 - t) * a + t * b, a @ b / (a.norm() * b.norm())
    omega = torch.arccos(cosine)
    yield "right", path(a, b, t, omega)
    yield "that is the straight line", straight
    yield "t = 0 must give a, t = 1 must give b", path(a, b, 1 - t, omega)
    yield "a normalised straight line has the wrong speed and length", straight / straight.norm()
    yield "the ends lose their lengths", path(a / a.norm(), b / b.norm(), t, omega)
    yield "the weights are not normalised: at t = 0 that is not a", path(a, b, t, omega) * omega.sin()
    yield "the angle was taken between vectors of other lengths than 1", path(a, b, t, torch.arccos(a @ b))
    yield "the angle is missing: the inner product is its cosine", path(a, b, t, cosine)


@exercise(inputs=lambda g: tuple(law(g) for law in (uniform(0.3, 0.9), whole(100, 500)) * 2))
def check_ratio_of_shares(p, n, q, m):
    ratio, of_p, of_q = p / q, (1 - p) / (n * p), (1 - q) / (m * q)  # squared relative errors
    one = ratio * math.sqrt(n * of_p + m * of_q)
    yield "right", (ratio, ratio * math.sqrt(of_p + of_q))
    yield "the error of the lower share is missing", (ratio, ratio * math.sqrt(of_p))
    yield "relative errors do not add, their squares do", (ratio, ratio * (math.sqrt(of_p) + math.sqrt(of_q)))
    yield "that is the error of the difference", (ratio, math.sqrt(p * (1 - p) / n + q * (1 - q) / m))
    yield "that is the relative error: it has to be times the ratio", (ratio, math.sqrt(of_p + of_q))
    yield "that is the error of one image: a share is a mean over many", (ratio, one)
    yield "that is the variance", (ratio, ratio**2 * (of_p + of_q))
    yield "the ratio is upside down", (1 / ratio, math.sqrt(of_p + of_q) / ratio)


def check_errors_below(a: uniform(8, 12), s_a: uniform(0.2, 0.5), b: uniform(5, 9), s_b: uniform(0.2, 0.5)):
    yield "right", (a - b) / math.hypot(s_a, s_b)
    yield "standard errors were added like numbers: they are independent", (a - b) / (s_a + s_b)
    yield "that is divided by a variance", (a - b) / (s_a**2 + s_b**2)
    yield "only the error of b is used", (a - b) / s_b
    yield "that is the difference itself: how many errors is it?", a - b


def check_paired_gain(before: normal(5), after: normal(5)):
    change = after - before
    error = change.std() / 5**0.5
    yield "right", torch.stack([change.mean(), error])
    yield "after minus before: a gain of a distance is negative", torch.stack([-change.mean(), error])
    yield (
        "that is the spread of one difference, not the error of their mean",
        torch.stack([change.mean(), change.std()]),
    )
    yield (
        "the pairs share their starts: take the differences first",
        torch.stack([change.mean(), ((before.var() + after.var()) / 5) ** 0.5]),
    )
    yield (
        "divide by one less than the number of differences",
        torch.stack([change.mean(), change.std(correction=0) / 5**0.5]),
    )
    yield "the error is missing its root", torch.stack([change.mean(), change.var() / 5])
