"""Checks of notebooks 07 and 08."""

import math

import torch

from notebooks.checks.common import exercise, normal, uniform, whole
from utils.samplers import mala, sample, ula
from utils.toy import SwissRoll


def _spots(g):
    """Random numbers of points at 1, 3, 5 and 9 standard deviations from one of two means."""
    means, std = torch.tensor([[0.0, 0.0], [6.0, 0.0]]) + normal(2)(g), uniform(0.1, 0.2)(g)
    away = std * torch.tensor([1.0, 3.0, 5.0, 9.0]).repeat_interleave(torch.randint(2, 9, (4,), generator=g))
    angles = uniform(0, 2 * math.pi, len(away))(g)
    offsets = away[:, None] * torch.stack([angles.cos(), angles.sin()], 1)
    return means[torch.randint(2, (len(away),), generator=g)] + offsets, means, std, 4.0


def _near_spots(g):
    """Two means so near that their discs overlap, and a point in the corner of a square about one."""
    means, std = torch.tensor([[0.0, 0.0], [3.0, 0.0]]), 1.0
    x = torch.tensor([[1.5, 0.0], [1.5, 1.0], [-3.5, -3.5], [9.0, 0.0], [0.0, 1.0]])
    return x, means, std, 4.0


@exercise(inputs=_spots, edges=[lambda g: (*_spots(g)[:3], 2.0), _near_spots])
def check_share_of_high_quality(x, means, std, radius):
    distance = torch.cdist(x, means)
    nearest = distance.min(1).values

    def share(distance, radius):
        return (distance <= radius).double().mean()

    yield "right", share(nearest, radius * std)
    yield "that is a count, not a share", (nearest <= radius * std).sum()
    yield "only one mean is used: there are other modes", share(distance[:, 0], radius * std)
    yield "the unit of the radius is std", share(nearest, radius)
    yield "the radius given is not used", share(nearest, 4 * std)
    yield "distances, not their squares", share(nearest**2, radius * std)
    yield "a point near two means counts once", (distance <= radius * std).double().sum(1).mean()
    corner = (x[:, None] - means).abs().amax(2).min(1).values
    yield "that is a square about each mean, not a disc", share(corner, radius * std)


def _visits(g):
    return torch.cat([torch.arange(4), torch.randint(3, (9,), generator=g)])


@exercise(edges=[lambda g: (torch.tensor([0, 0, 0, 2, 2, 3]), 5)])
def check_balance_of_modes(modes: _visits, k: lambda g: 4):
    n, h = len(modes), modes.bincount(minlength=k).double() / len(modes)
    entropy = torch.special.entr(h).sum()
    yield "right", math.log(k) - entropy
    yield "that is the entropy of h, not its divergence from uniform", entropy
    yield "that is the divergence the other way round", -(h * k).log().mean()
    yield "uniform over the modes that were seen: there are more", (h > 0).sum().log() - entropy
    yield "these are counts, not shares", torch.xlogy(n * h, n * h * k).sum()
    yield "a mode without samples must count 0, but 0 log 0 gives nan", (h * (h * k).log()).sum()


_LARGE = torch.tensor([300.0, 310.0, -300.0, -310.0, 300.0, -300.0])


@exercise(edges=[lambda g: (_LARGE, torch.tensor([310.0, 300.0, -310.0, -300.0, -300.0, 300.0]))])
def check_mh_acceptance(d_old: normal(6), d_new: normal(6)):
    change = d_new - d_old
    yield "right", change.clamp_max(0).exp()
    yield "the move goes the wrong way: uphill in d is always accepted", (-change).clamp_max(0).exp()
    yield "a probability is at most 1", change.exp()
    yield "that is Barker's rule: right in the limit, but it accepts less", change.sigmoid()
    yield (
        "rejection asks for d alone; here the ratio to where the chain stands counts",
        d_new.clamp_max(0).exp(),
    )
    yield "probabilities stand where logits belong", (d_new.sigmoid() / d_old.sigmoid()).clamp_max(1)
    yield "that is its logarithm", change.clamp_max(0)
    quotient = d_new.float().exp() / d_old.float().exp()
    yield "not a number where both exponentials overflow: subtract first", quotient.clamp_max(1)
    yield "that is rejection against the largest logit: here a chain moves", (d_new - d_new.max()).exp()


def _bowl(z):
    return (0.5 * z.square() * z.new_tensor([1.0, 4.0])).sum(1)


@exercise(
    inputs=lambda g: (
        _bowl,
        normal(8, 2)(g),
        [(0.5, 5), (0.01, 4)],
        whole(0, 999)(g),
    )
)
def check_run_schedule(energy, z, schedule, seed):
    z = z.float()

    def run(schedule, kernel=mala, start=None, afresh=False):
        generator, now = torch.Generator().manual_seed(seed), z
        for eps, n in schedule:
            generator = generator.manual_seed(seed) if afresh else generator
            now = sample(energy, now if start is None else start, kernel(eps), n, generator).z
        return now

    yield "right", run(schedule)
    yield "each stage starts where the last one ended, not at z", run(schedule, start=z)
    yield "the stages run in the wrong order", run(schedule[::-1])
    yield "only the first stage was run", run(schedule[:1])
    yield "only the last stage was run", run(schedule[-1:])
    yield "that is ULA, which is biased at long steps", run(schedule, ula)
    yield "the generator is seeded again for each stage: one serves all", run(schedule, afresh=True)
    yield "the starts come back: nothing was run", z


def check_proposals_per_sample(d: normal(6), d_max: uniform(5, 6)):
    rate = (d - d_max).exp().mean()
    yield "right", 1 / rate
    yield "a mean of inverses is not the inverse of a mean", (d_max - d).exp().mean()
    yield "d_max is not used", 1 / d.exp().mean()
    yield "the exponential comes before the mean", (d_max - d.mean()).exp()
    yield "that takes the mean of exp(d) for 1: estimate it", torch.tensor(d_max).double().exp()
    yield "the bound is given: the largest of these d may lie below it", (d.max() - d).exp().mean()
    yield "probabilities stand where logits belong", 1 / (d.sigmoid() / torch.tensor(d_max).sigmoid()).mean()


def _beside_roll(g):
    """Points at 0 to 12 standard deviations from the roll, towards the centre, in random numbers."""
    roll = SwissRoll()
    counts = torch.randint(5, 30, (6,), generator=g)
    offsets = torch.tensor([0.0, 1.0, 2.0, 3.0, 5.0, 12.0]).repeat_interleave(counts)[:, None] * roll.std
    curve = roll.curve(1.5 * math.pi * (1 + 2 * uniform(0.02, 0.98, len(offsets))(g)))
    return curve * (1 - offsets / curve.norm(dim=1, keepdim=True)), roll, 4.0


@exercise(inputs=_beside_roll, edges=[lambda g: (*_beside_roll(g)[:2], 2.5)])
def check_share_on_roll(x, roll, radius):
    def to(first, last):
        return torch.cdist(x, roll.curve(math.pi * torch.linspace(first, last, 5000).to(x)))

    nearest = to(1.5, 4.5).min(1).values

    def share(distance, radius):
        return (distance <= radius).double().mean()

    yield "right", share(nearest, radius * roll.std)
    yield "give a share between 0 and 1, not a count", (nearest <= radius * roll.std).sum()
    yield "the unit of the radius is roll.std", share(nearest, radius)
    yield "the radius given is not used", share(nearest, 4 * roll.std)
    yield "distances, not their squares", share(nearest**2, radius * roll.std)
    yield (
        "a mean over the curve is no distance from it",
        share(to(1.5, 4.5).mean(1), radius * roll.std),
    )
    yield "the parameter runs over other turns", share(to(0, 3).min(1).values, radius * roll.std)


def _hessian(g):
    root = torch.diag(torch.tensor([1.0, 2.0, 3.0])) + 0.3 * normal(3, 3)(g)
    return root @ root.T


def _frame(g):
    """J (5, 2, 2), far from singular, and a unit normal (5, 2)."""
    J = torch.tensor([[1.0, 0.4], [0.3, -0.8]]) + uniform(-0.2, 0.2, 5, 2, 2)(g)
    angle = uniform(0, 2 * math.pi, 5)(g)
    return J, torch.stack([angle.cos(), angle.sin()], 1)


@exercise(inputs=_frame)
def check_stretches(J, normal):
    across = torch.einsum("nij,ni->nj", J, normal).norm(dim=1)
    along = J.det().abs() / across
    singular = torch.linalg.svdvals(J)
    tangent = torch.stack([-normal[:, 1], normal[:, 0]], 1)
    yield "right", (across, along)
    yield "the two are exchanged", (along, across)
    wrong_side = torch.einsum("nij,nj->ni", J, normal).norm(dim=1)
    yield (
        "the normal lives in the data: it is J transposed that brings it back",
        (wrong_side, J.det().abs() / wrong_side),
    )
    yield "singular values know nothing of the roll's direction", (singular[:, 0], singular[:, 1])
    yield "a length is wanted, not its square", (across**2, along**2)
    yield (
        "along: that is the tangent pulled back, not a unit step along the trench pushed forward",
        (
            across,
            torch.einsum("nij,ni->nj", J, tangent).norm(dim=1),
        ),
    )
    yield "along: an area is a product of two lengths, so divide", (across, J.det().abs() * across)
    yield "a length is not negative: the determinant may be", (across, J.det() / across)


def check_largest_stable_step(H: _hessian):
    stiffness = torch.linalg.eigvalsh(H)
    yield "right", 4 / stiffness[-1]
    yield "the drift takes half the step, which doubles the bound", 2 / stiffness[-1]
    yield "the stiffest direction decides, not the softest", 4 / stiffness[0]
    yield "eigenvalues of H, not its diagonal", 4 / H.diagonal().max()
    yield "the largest eigenvalue, not their sum", 4 / H.trace()
    yield "the eigenvalue itself, not its root", 4 / stiffness[-1].sqrt()


def check_preconditioned_step(
    z: normal(5, 2), gradient: normal(5, 2), eps: uniform(0.1, 0.5), A: normal(2, 2), noise: normal(5, 2)
):
    def move(drift, spread):
        return z - 0.5 * eps * gradient @ drift.T + math.sqrt(eps) * noise @ spread.T

    one = torch.eye(2).to(z)
    yield "right", move(A @ A.T, A)
    yield "the noise knows nothing of A, which changes the target", move(A @ A.T, one)
    yield "the drift knows nothing of A, which changes the target", move(one, A)
    yield "the drift needs A twice", move(A, A)
    yield "the drift has A and its transpose in the wrong order", move(A.T @ A, A)
    yield "the noise: each row is a chain, so A acts on rows", move(A @ A.T, A.T)
    yield "the noise has A twice", move(A @ A.T, A @ A.T)
    yield "uphill: energy is to go down", move(-A @ A.T, A)
    yield "the half of the drift is missing", move(2 * A @ A.T, A)
    yield (
        "the noise grows with the step size itself",
        move(A @ A.T, math.sqrt(eps) * A),
    )


def _reflection(g):
    """A matrix with a negative determinant, far from singular."""
    return torch.tensor([[0.0, 2.0], [3.0, 1.0]]) + uniform(-0.3, 0.3, 2, 2)(g)


def check_density_of_linear_map(
    u: normal(4, 2), log_p: lambda g: lambda z: -0.5 * (z - 0.3).square().sum(1), A: _reflection
):
    inside, change = log_p(u @ A.T), torch.linalg.slogdet(A).logabsdet
    yield "right", inside + change
    yield "the determinant is missing", inside
    yield "the determinant has the wrong sign", inside - change
    yield "the determinant counts by its logarithm", inside + change.exp()
    yield "the density is taken at u, not at its z", log_p(u) + change
    yield "the map is inverted", log_p(torch.linalg.solve(A, u.T).T) + change
    yield "each row is a point, so A acts on rows", log_p(u @ A) + change
    yield "nan: the determinant may be negative, but a volume is not", inside + A.det().log()
