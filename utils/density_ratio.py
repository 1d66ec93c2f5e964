"""From a discriminator to a log density ratio: calibration, refitting, and how to tell whether it helped.

A logistic discriminator estimates d(x) = log p_d(x)/p_g(x) only as far as it is trained, regular and
calibrated. Everything here weighs the two classes equally, so that no log(n_real / n_fake) slips in.
"""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.losses import logistic_discriminator, r1_penalty
from utils.toy import GaussianMixture

Logit = Callable[[Tensor], Tensor]


class Affine(nn.Module):
    """d(x) -> slope * d(x) + intercept (Platt, 1999): monotone and differentiable, unlike isotonic steps."""

    def __init__(self, logit: nn.Module, slope: float = 1.0, intercept: float = 0.0):
        super().__init__()
        self.logit = logit
        self.register_buffer("slope", torch.tensor(float(slope)))
        self.register_buffer("intercept", torch.tensor(float(intercept)))

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * self.logit(x) + self.intercept  # (n,)


class FeatureHead(nn.Module):
    """A small network on the frozen features of a discriminator, as the DDLS paper adds for images."""

    def __init__(self, body: nn.Module, hidden: int = 256):
        super().__init__()
        self.body = body.requires_grad_(False)
        self.net = nn.Sequential(
            nn.Linear(body.feature_dim, hidden), nn.LeakyReLU(0.1),
            nn.Linear(hidden, hidden), nn.LeakyReLU(0.1),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def train(self, mode: bool = True) -> "FeatureHead":
        super().train(mode)
        self.body.eval()  # frozen means its spectral norm too, which moves in training mode
        return self

    def from_features(self, features: Tensor) -> Tensor:
        return self.net(features).squeeze(1)  # (n, f) -> (n,)

    def forward(self, x: Tensor) -> Tensor:
        return self.from_features(self.body.features(x))


class CoarseLogit(nn.Module):
    """d(T(x)) with T the mean over blocks of pixels: a log ratio of the laws of T(x), not of x.

    If d is the log ratio of T(x) for real and generated x, then p_g(x) e^{d(T(x))} has the right law of T(x),
    whatever the supports of the fine details do: reweighting by a function of T(x) alone changes the law of
    T(x) by exactly that factor. Derived in notebook 11.

    Args:
        body: d, (n, c, size, size) -> (n,).
        factor: side of a block in pixels.
        size: what the coarse image is enlarged to, by repeating pixels.
    """

    def __init__(self, body: nn.Module, factor: int, size: int = 32):
        super().__init__()
        self.body, self.factor, self.size = body, factor, size

    def forward(self, x: Tensor) -> Tensor:
        return self.body(F.interpolate(F.avg_pool2d(x, self.factor), size=self.size))


def platt(real_logits: Tensor, fake_logits: Tensor, n_iterations: int = 50) -> tuple[float, float]:
    """Slope and intercept that minimise the logistic loss of `slope * d + intercept`, by Newton's method.

    Give logits of held-out real images and of fresh samples: on data that D was fitted to, the slope is
    too steep.
    """
    real_logits, fake_logits = real_logits.cpu().double(), fake_logits.cpu().double()
    if real_logits.min() >= fake_logits.max() or fake_logits.min() >= real_logits.max():
        raise FloatingPointError("real_logits and fake_logits do not overlap: the best slope is infinite")
    d = torch.cat([real_logits, fake_logits])
    y = torch.cat([torch.ones_like(real_logits), torch.zeros_like(fake_logits)])
    weight = torch.where(y == 1, 0.5 / len(real_logits), 0.5 / len(fake_logits))
    design = torch.stack([d, torch.ones_like(d)], 1)  # (n, 2)

    def loss(theta: Tensor) -> Tensor:
        return (weight * F.softplus((1 - 2 * y) * (design @ theta))).sum()

    theta = torch.zeros(2, dtype=torch.float64)
    for _ in range(n_iterations):
        p = torch.sigmoid(design @ theta)
        gradient = design.T @ (weight * (p - y))
        hessian = design.T @ (design * (weight * p * (1 - p))[:, None])
        step = torch.linalg.solve(hessian, gradient)
        if gradient @ step < 1e-18:
            return theta[0].item(), theta[1].item()
        while loss(theta - step) > loss(theta) and step.abs().max() > 1e-12:
            step = step / 2  # far from the optimum a full Newton step can overshoot
        theta = theta - step
    raise FloatingPointError(f"platt did not converge in {n_iterations} iterations; are all logits finite?")


def fit_logit(
    logit: nn.Module,
    draw_real: Callable[[int, torch.Generator], Tensor],
    draw_fake: Callable[[int, torch.Generator], Tensor],
    held_out: Callable[[], float],
    *,
    n_steps: int,
    lr: float,
    batch_size: int = 128,
    r1_weight: float = 0.0,
    weight_decay: float = 0.0,
    check_every: int = 100,
    patience: int = 5,
    decay: bool = False,
    precision: str = "float32",
    seed: int = 0,
) -> list[tuple[int, float]]:
    """Train `logit` in place by the logistic loss on real data against fresh samples of a frozen G.

    Every `check_every` steps, and after the last, the held-out loss is taken; after `patience` checks
    without a new best the fit stops, and the best weights are put back. With `decay` the learning rate
    falls linearly to 0. Returns [(step, held-out loss)].
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [p for p in logit.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr, betas=(0.5, 0.999), weight_decay=weight_decay)
    device = weights[0].device.type
    logit.eval()
    history = [(0, held_out())]
    best, best_state, waited = history[0][1], copy.deepcopy(logit.state_dict()), 0
    for step in range(1, n_steps + 1):
        logit.train()
        optimiser.param_groups[0]["lr"] = lr * (1 - (step - 1) / n_steps if decay else 1)
        real, fake = draw_real(batch_size, generator), draw_fake(batch_size, generator)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            real_logits, fake_logits = logit(torch.cat([real, fake])).float().chunk(2)
        loss = logistic_discriminator(real_logits, fake_logits)
        if r1_weight:
            loss = loss + r1_weight * r1_penalty(logit, real)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % check_every == 0 or step == n_steps:
            logit.eval()
            history.append((step, held_out()))
            waited += 1
            if history[-1][1] < best:
                best, best_state, waited = history[-1][1], copy.deepcopy(logit.state_dict()), 0
            if waited >= patience:
                break
    logit.load_state_dict(best_state)
    logit.eval()
    return history


@torch.no_grad()
def logits_of(logit: Logit, images: Tensor, batch_size: int = 500) -> Tensor:
    """d of float images in [-1, 1] (n, c, h, w), or of features, in batches; (n,)."""
    return torch.cat([logit(part).float() for part in images.split(batch_size)])


def logistic_loss(real_logits: Tensor, fake_logits: Tensor) -> float:
    """Mean of the two classes' cross-entropies in nats: log 2 = 0.693 for a useless d, lower is better."""
    return 0.5 * logistic_discriminator(real_logits.double(), fake_logits.double()).item()


def accuracy(real_logits: Tensor, fake_logits: Tensor) -> float:
    """Share of right decisions at d = 0, both classes weighing the same."""
    return 0.5 * ((real_logits > 0).double().mean() + (fake_logits <= 0).double().mean()).item()


def reliability_curve(real_logits: Tensor, fake_logits: Tensor, n_bins: int = 12) -> tuple[Tensor, Tensor]:
    """Mean predicted P(real) and observed share of real data in bins of equal count, each (n_bins,)."""
    n = min(len(real_logits), len(fake_logits))  # equal classes
    p = torch.sigmoid(torch.cat([real_logits[:n], fake_logits[:n]]).cpu().double())
    y = torch.cat([torch.ones(n), torch.zeros(n)]).double()
    order = p.argsort()
    predicted = torch.stack([part.mean() for part in p[order].tensor_split(n_bins)])
    observed = torch.stack([part.mean() for part in y[order].tensor_split(n_bins)])
    return predicted, observed


def calibration_error(real_logits: Tensor, fake_logits: Tensor, n_bins: int = 12) -> float:
    """Mean |predicted - observed| over bins of equal count."""
    predicted, observed = reliability_curve(real_logits, fake_logits, n_bins)
    return (predicted - observed).abs().mean().item()


def effective_ratio_check(fake_logits: Tensor) -> float:
    """log of the mean of exp(d) over samples of p_g: 0 for a true log ratio, since E_{p_g}[p_d/p_g] = 1."""
    return (torch.logsumexp(fake_logits.double(), 0) - torch.tensor(float(len(fake_logits))).log()).item()


class GridLogit(nn.Module):
    """d(x) = log p_d(x) - log p_g(x) in the plane, with p_g from very many samples: nearly the exact ratio.

    The samples are counted on n x n cells of [-extent, extent]^2, the counts smoothed by a Gaussian of
    `bandwidth`, and log p_g is interpolated by cubics, so that d has a continuous gradient. The error is
    the smoothing's bias, of order bandwidth^2, plus the counts' noise. Where p_g is below one sample a
    cell, it is held there.
    """

    def __init__(
        self,
        log_prob: Logit,
        draw_fake: Callable[[int, torch.Generator], Tensor],
        generator: torch.Generator,
        *,
        n_samples: int = 4_000_000,
        extent: float = 4.0,
        n: int = 800,
        bandwidth: float = 0.02,
    ):
        super().__init__()
        self.log_prob, self.extent = log_prob, extent
        counts = torch.zeros(n * n)
        chunk = 500_000
        for start in range(0, n_samples, chunk):
            x = draw_fake(min(chunk, n_samples - start), generator).cpu()
            cell = ((x / extent + 1) * (n / 2)).floor().long()  # (m, 2): column, row
            inside = ((cell >= 0) & (cell < n)).all(1)
            counts += torch.bincount(cell[inside, 1] * n + cell[inside, 0], minlength=n * n)
        side = 2 * extent / n
        reach = math.ceil(4 * bandwidth / side)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) * side / bandwidth).square())
        kernel = kernel / kernel.sum()
        density = counts.view(1, 1, n, n)
        density = F.conv2d(density, kernel.view(1, 1, 1, -1), padding=(0, reach))
        density = F.conv2d(density, kernel.view(1, 1, -1, 1), padding=(reach, 0))
        floor = kernel.max().square().item()  # the peak that a single sample makes
        log_density = density.clamp_min(floor).log() - math.log(n_samples * side**2)
        self.register_buffer("log_density", log_density)  # (1, 1, n, n)

    def log_p_g(self, x: Tensor) -> Tensor:
        """log p_g(x), (m, 2) -> (m,)."""
        where = (x / self.extent).view(1, 1, -1, 2)  # cell centres map to pixel centres
        values = F.grid_sample(
            self.log_density, where.to(self.log_density), mode="bicubic", padding_mode="border",
            align_corners=False,
        )  # fmt: skip
        return values.view(-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.log_prob(x) - self.log_p_g(x)


def logit_snapshots(
    logit: nn.Module,
    p_d: GaussianMixture,
    p_g: GaussianMixture,
    x: Tensor,
    *,
    n_steps: int,
    every: int = 10,
    batch_size: int = 256,
    lr: float = 3e-3,
    seed: int = 0,
) -> list[tuple[int, Tensor]]:
    """Fit `logit` in place to fresh samples of p_d against p_g and return [(step, d(x))] every `every` steps.

    The weights that are put back in the end are the best on 2,000 held-out points of each density, so the
    network itself can differ a little from the last snapshot.
    """
    generator = torch.Generator().manual_seed(seed)
    real, fake = p_d.sample(2000, generator), p_g.sample(2000, generator)
    snapshots: list[tuple[int, Tensor]] = []

    @torch.no_grad()
    def held_out() -> float:
        snapshots.append((min(every * len(snapshots), n_steps), logit(x)))
        return logistic_loss(logit(real), logit(fake))

    fit_logit(
        logit, p_d.sample, p_g.sample, held_out, n_steps=n_steps, lr=lr, batch_size=batch_size,
        check_every=every, patience=n_steps, seed=seed,
    )  # fmt: skip
    return snapshots
