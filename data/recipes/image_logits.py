"""Fit log density ratios to a frozen image generator; `cifar10_logits` and `celeba64_logits` use it.

Candidates: heads on frozen features (which features, how strong a ridge penalty), and a small convolutional
discriminator with R1. Images: `fit` and `validation` are training images that the classifier behind the
features never saw; Platt's line and the choice use validation, the reported figures the test split.

The choice is made by samples of G alone, reweighted by e^d: the kernel distance of the last pooled maps of
EfficientNet-Lite0, the network that trained G and reports nothing, to the training images of the fit.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utils.checkpoints import freeze, save_checkpoint
from utils.config import pick_device
from utils.density_ratio import (
    FeatureHead,
    describe,
    fit_logit,
    logistic_loss,
    logits_of,
    platt,
    reliability_curve,
)
from utils.images import ImageSet, to_unit
from utils.training import draw_from
from utils.zoo import draw_samples, load_features, load_gan, new_logit

FIT, VALIDATION, EVALUATION = 8000, 2000, 5000  # images of each class
LAST_BLOCK = 320  # features of the last block, at the end of the pooled maps


@dataclass(frozen=True)
class Candidate:
    """How one logit is fitted: a head on `features`, or the convolutional one without."""

    features: str | None = None
    hidden: int = 128
    penalty: float = 3.0

    @property
    def architecture(self) -> dict:
        return {"features": self.features, "hidden": self.hidden} if self.features else {"width": 24}


def weighted_distance(fake: Tensor, weights: Tensor, real: Tensor) -> float:
    """Kernel distance (x . y / d + 1)^3 of real features to fake ones (n, d) that count by weights (n,).

    As `metrics.images.squared_mmd`, no sample is paired with itself: small for a few heavy weights only if
    their images are good.
    """
    w = (weights / weights.sum()).double()

    def mean_of_pairs(a: Tensor, b: Tensor, u: Tensor, v: Tensor) -> Tensor:
        blocks = zip(a.split(1000), u.split(1000), strict=True)
        return sum(p @ ((x @ b.T / b.shape[1] + 1) ** 3) @ v for x, p in blocks)

    def within(a: Tensor, u: Tensor) -> Tensor:
        itself = u.square() @ (a.square().mean(1) + 1) ** 3
        return (mean_of_pairs(a, a, u, u) - itself) / (1 - u.square().sum())

    x, y = fake.double(), real.double()
    even = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
    return (within(x, w) + within(y, even) - 2 * mean_of_pairs(x, y, w, even)).item()


@torch.no_grad()
def in_batches(f: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([f(part) for part in images.split(250)])


def run(
    module: str,
    load: Callable[[str], ImageSet],
    gan: str,
    candidates: dict[str, Candidate],
    arguments: list[str] | None = None,
) -> None:
    """The command line of a recipe for logits: fit, scale, describe, choose, write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gan", default=gan)
    parser.add_argument("--kinds", nargs="+", choices=candidates, default=list(candidates))
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    device = pick_device()
    G = load_gan(args.gan, device)
    held_out = load("train").images[-FIT - VALIDATION :]
    test = load("test").images[:EVALUATION]
    generator = torch.Generator().manual_seed(10_000)
    sets = {
        "real fit": to_unit(held_out[:FIT]), "real validation": to_unit(held_out[FIT:]),
        "real evaluation": to_unit(test), "fake fit": draw_samples(G, FIT, generator),
        "fake validation": draw_samples(G, VALIDATION, generator),
        "fake evaluation": draw_samples(G, EVALUATION, generator),
    }  # fmt: skip
    wanted = {c.features for c in (candidates[kind] for kind in args.kinds) if c.features} | {"maps"}
    features = {
        name: {
            key: in_batches(load_features(name).to(device).features, x.to(device)) for key, x in sets.items()
        }
        for name in sorted(wanted)
    }
    maps = {key: x[:, -LAST_BLOCK:] for key, x in features["maps"].items()}
    maps = {key: x / maps["real fit"].std(0) for key, x in maps.items()}

    def choose_by(weights: Tensor) -> float:
        return weighted_distance(maps["fake evaluation"], weights, maps["real fit"][:EVALUATION])

    def fit(kind: str) -> tuple[nn.Module, Callable[[str], Tensor], dict]:
        """The logit, its values on a set, and what the fit says of itself."""
        candidate, started = candidates[kind], time.perf_counter()
        logit = new_logit(**candidate.architecture).to(device)
        if isinstance(logit, FeatureHead):
            known = features[candidate.features]
            logit.fit(known["real fit"], known["fake fit"], candidate.penalty)
            log = {"penalty": candidate.penalty}
            values = lambda key: logit.from_features(known[key]).detach()  # noqa: E731
        else:
            log = {"r1_weight": 0.1, "lr": 3e-4, "n_steps": 600}
            draws = draw_from(sets["real fit"], device, mirror=True), draw_from(sets["fake fit"], device)
            values = lambda key: logits_of(logit, sets[key].to(device)).detach()  # noqa: E731
            history = fit_logit(
                logit, *draws, lambda: logistic_loss(values("real validation"), values("fake validation")),
                batch_size=64, check_every=100, decay=True, precision="bfloat16", **log,
            )  # fmt: skip
            log["history"] = history
        return logit, values, log | {"seconds": round(time.perf_counter() - started)}

    entries, modules = {}, {}
    for kind in args.kinds:
        logit, values, log = fit(kind)
        slope, intercept = platt(values("real validation"), values("fake validation"))
        real, fake = (slope * values(f"{who} evaluation") + intercept for who in ("real", "fake"))
        weights = torch.softmax(fake.double(), 0)
        entries[kind] = {
            "architecture": candidates[kind].architecture,
            "slope": slope,
            "intercept": intercept,
            **describe(real, fake),
            "raw_loss": logistic_loss(values("real evaluation"), values("fake evaluation")),
            "logit_real": real.mean().item(),
            "logit_fake": fake.mean().item(),
            "logit_target": (weights * fake).sum().item(),  # E d under p_t, by importance weights
            "reliability": [curve.tolist() for curve in reliability_curve(real, fake)],
            "chooser": choose_by(weights),
            **log,
        }
        modules[kind] = freeze(logit.net if isinstance(logit, FeatureHead) else logit)
        e = entries[kind]
        print(
            f"{kind:16s} slope {slope:.2f} loss {e['loss']:.4f} accuracy {e['accuracy']:.3f} ESS"
            f" {e['ess_share']:.3f} E_t[d] {e['logit_target']:.2f} chooser {e['chooser']:.4f}"
        )
    chooser = {"none": choose_by(torch.ones(EVALUATION))}
    card = {
        "task": f"log density ratios for the generator {args.gan}",
        "data": f"fit {FIT}, validation {VALIDATION} (the last training images), evaluation {EVALUATION} "
        "(test) images, and as many fresh samples each",
        "logits": entries,
        "chooser": chooser | {kind: entry["chooser"] for kind, entry in entries.items()},
        "chosen": min(entries, key=lambda kind: entries[kind]["chooser"]),
        "command": f"python -m data.recipes.{module} --gan {args.gan} --kinds {' '.join(args.kinds)}",
    }
    print("chosen:", card["chosen"], "chooser without d:", round(chooser["none"], 4))
    save_checkpoint(f"{args.gan}-logits", modules, card, int8=True)
