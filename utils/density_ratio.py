"""From a discriminator to a log density ratio: calibration, refitting, and how to tell whether it helped.

A logistic discriminator estimates d(x) = log p_d(x)/p_g(x) only as far as it is trained, regular and
calibrated. Everything here weighs the two classes equally, so that no log(n_real / n_fake) slips in.
"""

import copy
import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.energy import check_rows
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
    """d(x) on frozen features f(x) (n, body.feature_dim): a line, or one hidden layer of `hidden` units.

    It sees what the features show and nothing else: a log ratio of the laws of f(x). Few features and a
    ridge penalty keep the classes overlapping, as a guide needs (notebook 11).
    """

    def __init__(self, body: nn.Module, hidden: int = 128):
        super().__init__()
        if not hasattr(body, "features") or not hasattr(body, "feature_dim"):
            raise ValueError("body needs features(x) -> (n, f) and feature_dim = f; or train all of it")
        self.body = body.requires_grad_(False)
        hidden_layer = [nn.Linear(body.feature_dim, hidden), nn.ReLU()] if hidden else []
        self.net = nn.Sequential(*hidden_layer, nn.Linear(hidden or body.feature_dim, 1))

    def train(self, mode: bool = True) -> "FeatureHead":
        super().train(mode)
        self.body.eval()  # frozen means its running statistics too, which move in training mode
        return self

    def from_features(self, features: Tensor) -> Tensor:
        return self.net(features.to(self.net[0].weight.dtype)).squeeze(1)  # (n, f) -> (n,)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # nats, not the rounding of bfloat16
            return self.from_features(self.body.features(x.to(self.net[0].weight.dtype)))

    @torch.no_grad()
    def fit(self, real: Tensor, fake: Tensor, penalty: float = 3.0) -> None:
        """Fit to features (n, f) and (m, f) by the logistic loss with a ridge penalty, by scikit-learn.

        `penalty` is `alpha` of `MLPClassifier`, which holds out a tenth and stops early, and of the line
        1 / C: weights w cost penalty |w|^2 / 2 beside the sum of the losses. Both classes weigh the same.
        """
        from sklearn.linear_model import LogisticRegression  # here, since it takes seconds
        from sklearn.neural_network import MLPClassifier

        x = torch.cat([real, fake]).double()
        mean, std = x.mean(0), x.std(0).clamp_min(1e-9)
        scaled, labels = ((x - mean) / std).numpy(), [1] * len(real) + [0] * len(fake)
        if len(self.net) == 1:
            fitted = LogisticRegression(C=1 / penalty, max_iter=1000).fit(scaled, labels)
            weights, biases = [fitted.coef_.T], [fitted.intercept_]
        else:
            fitted = MLPClassifier(
                (self.net[0].out_features,), alpha=penalty, batch_size=256, early_stopping=True, max_iter=100,
                random_state=0,
            ).fit(scaled, labels)  # fmt: skip
            weights, biases = fitted.coefs_, fitted.intercepts_
        for layer, weight, bias in zip(self.net[::2], weights, biases, strict=True):
            layer.weight.copy_(torch.from_numpy(weight).T)
            layer.bias.copy_(torch.from_numpy(bias))
        first = self.net[0]  # takes the features as they are
        first.weight /= std.float()
        first.bias -= first.weight @ mean.float()
        self.net[-1].bias -= math.log(len(real) / len(fake))


class CoarseLogit(nn.Module):
    """d(T(x)) with T the mean over blocks of `factor` x `factor` pixels: a log ratio of the laws of T(x).

    If d is that log ratio, p_g(x) e^{d(T(x))} has the right law of T(x), whatever the supports of the fine
    details do: reweighting by a function of T(x) alone changes the law of T(x) by exactly that factor.
    `body` is d, (n, 3, 32, 32) -> (n,); pixels, and a lone channel, are repeated up to that.
    """

    def __init__(self, body: nn.Module, factor: int):
        super().__init__()
        self.body, self.factor = body, factor

    def forward(self, x: Tensor) -> Tensor:
        coarse = F.interpolate(F.avg_pool2d(x, self.factor), size=32)
        return self.body(coarse.expand(-1, 3, -1, -1))


def _vectors(**logits: Tensor) -> list[Tensor]:
    """The logits in float64 on the CPU, after a check that each is (n,) and finite."""
    for name, d in logits.items():
        check_rows(name, d, len(d))
        if len(d) == 0 or not d.isfinite().all():
            raise FloatingPointError(f"{name} must be finite, 1 or more; {(~d.isfinite()).sum()} are not")
    return [d.detach().cpu().double() for d in logits.values()]


def platt(real_logits: Tensor, fake_logits: Tensor) -> tuple[float, float]:
    """Slope and intercept that minimise the logistic loss of `slope * d + intercept`, by scikit-learn.

    Give logits (n,) of held-out real images and of fresh samples: on data that D was fitted to, the slope is
    too steep. Where d is constant both are 0, with a warning.
    """
    from sklearn.linear_model import LogisticRegression  # here, since it takes seconds

    real, fake = _vectors(real_logits=real_logits, fake_logits=fake_logits)
    d = torch.cat([real, fake])
    scale, middle = d.std(correction=0), d.mean()
    if scale <= 1e-6 * (1e-6 + middle.abs()):
        warnings.warn("d is constant: it cannot tell real from fake, the slope is 0", stacklevel=2)
        return 0.0, 0.0
    if real.min() >= fake.max() or fake.min() >= real.max():
        raise FloatingPointError("real_logits and fake_logits do not overlap: the best slope is infinite")
    fit = LogisticRegression(C=math.inf, class_weight="balanced", solver="newton-cholesky", tol=1e-10)
    fit.fit(((d - middle) / scale)[:, None].numpy(), [1] * len(real) + [0] * len(fake))
    slope = fit.coef_[0, 0] / scale.item()
    return slope, fit.intercept_[0] - slope * middle.item()


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

    Where supports hardly overlap, as on images, a fit to the end separates well and guides badly: check
    every few steps there, and fit a `CoarseLogit` or a `FeatureHead` (notebooks 11 and 12).
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [p for p in logit.parameters() if p.requires_grad]
    if not weights:
        raise ValueError("logit has nothing to train: it is frozen; call logit.requires_grad_(True) first")
    optimiser = torch.optim.Adam(weights, lr, betas=(0.5, 0.999))
    device = weights[0].device.type
    logit.eval()
    history = [(0, held_out())]
    best, best_state, waited = history[0][1], copy.deepcopy(logit.state_dict()), 0
    for step in range(1, n_steps + 1):
        logit.train()
        optimiser.param_groups[0]["lr"] = lr * (1 - (step - 1) / n_steps if decay else 1)
        real, fake = draw_real(batch_size, generator), draw_fake(batch_size, generator)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            d = logit(torch.cat([real, fake])).float()
        check_rows("logit", d, len(real) + len(fake))
        loss = logistic_discriminator(d[: len(real)], d[len(real) :])
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
    return torch.cat([check_rows("logit", logit(x), len(x)) for x in images.split(batch_size)]).float()


def logistic_loss(real_logits: Tensor, fake_logits: Tensor) -> float:
    """Mean of the two classes' cross-entropies in nats: log 2 = 0.693 for a useless d, lower is better."""
    return 0.5 * logistic_discriminator(*_vectors(real_logits=real_logits, fake_logits=fake_logits)).item()


def accuracy(real_logits: Tensor, fake_logits: Tensor) -> float:
    """Share of right decisions at d = 0, both classes weighing the same."""
    real, fake = _vectors(real_logits=real_logits, fake_logits=fake_logits)
    return 0.5 * ((real > 0).double().mean() + (fake <= 0).double().mean()).item()


def reliability_curve(real_logits: Tensor, fake_logits: Tensor, n_bins: int = 12) -> tuple[Tensor, Tensor]:
    """Mean predicted P(real) and observed share of real data in bins of equal count, each (n_bins,)."""
    real, fake = _vectors(real_logits=real_logits, fake_logits=fake_logits)
    n = min(len(real), len(fake))  # equal classes
    p, order = torch.sigmoid(torch.cat([real[:n], fake[:n]])).sort()
    is_real = (order < n).double()
    predicted, observed = (
        torch.stack([part.mean() for part in values.tensor_split(n_bins)]) for values in (p, is_real)
    )
    return predicted, observed


def calibration_error(real_logits: Tensor, fake_logits: Tensor, n_bins: int = 12) -> float:
    """Mean |predicted - observed| over bins of equal count."""
    predicted, observed = reliability_curve(real_logits, fake_logits, n_bins)
    return (predicted - observed).abs().mean().item()


def effective_ratio_check(fake_logits: Tensor) -> float:
    """log of the mean of exp(d) over samples of p_g: 0 for a true log ratio, since E_{p_g}[p_d/p_g] = 1."""
    (fake,) = _vectors(fake_logits=fake_logits)
    return torch.logsumexp(fake, 0).item() - math.log(len(fake))


def weight_ess(fake_logits: Tensor) -> float:
    """Draws of p_d that the samples are worth by their weights w = exp(d): (sum w)^2 / sum w^2, 1 to n."""
    (fake,) = _vectors(fake_logits=fake_logits)
    return (2 * torch.logsumexp(fake, 0) - torch.logsumexp(2 * fake, 0)).exp().item()


def describe(real_logits: Tensor, fake_logits: Tensor) -> dict[str, float]:
    """What held-out logits (n,), (m,) say of d as a guide; a warning where it can do nothing, or too much."""
    share = weight_ess(fake_logits) / len(fake_logits)
    figures = {
        "loss": logistic_loss(real_logits, fake_logits),
        "accuracy": accuracy(real_logits, fake_logits),
        "calibration_error": calibration_error(real_logits, fake_logits),
        "log_mean_ratio": effective_ratio_check(fake_logits),
        "ess_share": share,
    }
    if share > 0.95:
        spread = f"d varies by {fake_logits.float().std():.2f} nats"
        warnings.warn(f"{spread} over the samples: it guides nowhere. Calibrate it, or refit", stacklevel=2)
    elif share < 0.005 or figures["accuracy"] > 0.99:
        why = f"accuracy {figures['accuracy']:.3f}, weights worth {share:.2%} of the samples"
        warnings.warn(f"d separates too well to guide ({why}): stop earlier, or coarser", stacklevel=2)
    return figures


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

    It ends with the weights that were best on 2,000 held-out points of each density, so it can differ a
    little from the last snapshot.
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
