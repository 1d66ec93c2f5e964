"""Fit log density ratios to a frozen image generator; `cifar10_logits` and `celeba64_logits` use it.

Candidates: heads on frozen features (which features, how strong a ridge penalty), and a small convolutional
discriminator with R1. Images: `fit` and `validation` are training images that the classifier behind the
features never saw; Platt's line and the choice use validation, the reported figures the test split.

Chosen is the least held-out loss among those whose weights e^d are worth a tenth of the samples at least, or
without such the one whose weights are worth most: a guide that separates better than that guides worse
(notebook 11). No judge of images takes part.
"""

import argparse
import shlex
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
LEAST_ESS = 0.1


@dataclass(frozen=True)
class Candidate:
    """How one logit is fitted: a head on `features`, or the convolutional one without."""

    features: str | None = None
    hidden: int = 128
    penalty: float = 3.0

    @property
    def architecture(self) -> dict:
        return {"features": self.features, "hidden": self.hidden} if self.features else {"width": 24}


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
    args = parser.parse_args(arguments)
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
    wanted = {c.features for c in (candidates[kind] for kind in args.kinds) if c.features}
    features = {
        name: {
            key: in_batches(load_features(name).to(device).features, x.to(device)) for key, x in sets.items()
        }
        for name in sorted(wanted)
    }

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
        before = values("real validation"), values("fake validation")
        slope, intercept = platt(*before)
        real, fake = (slope * values(f"{who} evaluation") + intercept for who in ("real", "fake"))
        weights = torch.softmax(fake.double(), 0)
        entries[kind] = {
            "architecture": candidates[kind].architecture,
            "slope": slope,
            "intercept": intercept,
            "validation": describe(*(slope * d + intercept for d in before)),
            **describe(real, fake),
            "raw_loss": logistic_loss(values("real evaluation"), values("fake evaluation")),
            "logit_real": real.mean().item(),
            "logit_fake": fake.mean().item(),
            "logit_target": (weights * fake).sum().item(),  # E d under p_t, by importance weights
            "reliability": [curve.tolist() for curve in reliability_curve(real, fake)],
            **log,
        }
        modules[kind] = freeze(logit.net if isinstance(logit, FeatureHead) else logit)
        e = entries[kind]
        print(
            f"{kind:16s} slope {slope:.2f} loss {e['loss']:.4f} accuracy {e['accuracy']:.3f} ESS"
            f" {e['ess_share']:.3f} E_t[d] {e['logit_target']:.2f}"
        )
    smooth = [kind for kind, e in entries.items() if e["validation"]["ess_share"] >= LEAST_ESS]
    smooth = smooth or [max(entries, key=lambda kind: entries[kind]["validation"]["ess_share"])]
    chosen = min(smooth, key=lambda kind: entries[kind]["validation"]["loss"])
    card = {
        "task": f"log density ratios for the generator {args.gan}",
        "data": f"fit {FIT}, validation {VALIDATION} (the last training images), evaluation {EVALUATION} "
        "(test) images, and as many fresh samples each",
        "logits": entries,
        "chosen": chosen,
        "command": shlex.join(
            ["python", "-m", f"data.recipes.{module}", "--gan", args.gan, "--kinds", *args.kinds]
        ),
    }
    print("chosen:", chosen)
    save_checkpoint(f"{args.gan}-logits", modules, card, int8=True)
