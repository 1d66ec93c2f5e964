"""Make d of an image GAN a log density ratio, in four ways; `cifar10_logits` and `celeba64_logits` use it.

Raw logit; a small head on D's frozen features; D trained on with G frozen, plainly and with R1; and, where
real and generated images can be told apart perfectly, a new d of coarser images. Each is then
Platt-scaled. Fitting uses training images and fresh samples; early stopping and Platt scaling use one half
of the test split ("validation"), and every reported figure the other half ("evaluation").
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utils.checkpoints import freeze, save_checkpoint
from utils.config import pick_device
from utils.density_ratio import (
    Affine,
    FeatureHead,
    accuracy,
    calibration_error,
    effective_ratio_check,
    fit_logit,
    logistic_loss,
    logits_of,
    platt,
    reliability_curve,
)
from utils.images import ImageSet, to_unit
from utils.training import draw_from
from utils.zoo import HIDDEN, draw_samples, load_gan, new_coarse_logit

NAMES = ("raw", "head", "continued", "continued-r1")
COARSE_STEPS = 100  # stopped on purpose while the classes still overlap
LoadSplit = Callable[[str], ImageSet]  # takes "train" or "test"


@dataclass
class HeldOut:
    """Real images never seen in training and fresh samples, (n, 3, s, s) in [-1, 1]."""

    real: Tensor
    fake: Tensor

    def logits(self, logit: nn.Module) -> tuple[Tensor, Tensor]:
        return logits_of(logit, self.real), logits_of(logit, self.fake)


def held_out_halves(
    G: nn.Module, n: int, device: torch.device, load: LoadSplit, seed: int = 10_000
) -> tuple[HeldOut, HeldOut]:
    """(validation, evaluation): disjoint halves of the test split, each with as many fresh samples."""
    test = to_unit(load("test").images).to(device)
    generator = torch.Generator().manual_seed(seed)
    half = len(test) // 2
    starts = (0, half)
    return tuple(HeldOut(test[s : s + n], draw_samples(G, n, generator)) for s in starts)


def describe(logit: nn.Module, data: HeldOut) -> dict[str, float]:
    """Held-out figures of one logit."""
    real, fake = data.logits(logit)
    return {
        "loss": logistic_loss(real, fake),
        "accuracy": accuracy(real, fake),
        "calibration_error": calibration_error(real, fake),
        "log_mean_ratio": effective_ratio_check(fake),
        "logit_real": real.mean().item(),
        "logit_fake": fake.mean().item(),
        "reliability": [curve.tolist() for curve in reliability_curve(real, fake)],  # predicted, observed
    }


def run(
    module: str,
    title: str,
    data_set: str,
    load: LoadSplit,
    n_steps: int,
    r1_weight: float,
    coarse: bool = False,
    arguments: list[str] | None = None,
) -> None:
    """The command line of a recipe for logits: fit, scale, describe, and write the checkpoint and its card.

    Args:
        module: name of the recipe's module; the names of its checkpoints begin with its first part.
        title: one line for `--help`.
        data_set: its name, for the card.
        load: gives the splits "train" and "test".
        n_steps: most steps of a fit, unless `--steps` says otherwise.
        r1_weight: of 'continued-r1', unless `--r1` says otherwise.
        coarse: whether a d of coarser images is fitted too.
        arguments: instead of the command line's.
    """
    prefix = module.split("_")[0]
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--gan", default=f"{prefix}-gan")
    parser.add_argument("--name", default=f"{prefix}-logits")
    parser.add_argument("--steps", type=int, default=n_steps, help="most steps of a fit")
    parser.add_argument("--n", type=int, default=5000, help="images of each half and class, at most 5000")
    parser.add_argument("--r1", type=float, default=r1_weight, help="weight of R1 for 'continued-r1'")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)

    device = pick_device()
    G, D = load_gan(args.gan, device)
    validation, evaluation = held_out_halves(G, args.n, device, load)
    quick = HeldOut(validation.real[:2000], validation.fake[:2000])
    train = load("train").images

    @torch.no_grad()
    def draw_fake(n: int, generator: torch.Generator) -> Tensor:
        return G(torch.randn(n, G.latent_dim, generator=generator).to(device))

    def fit(logit: nn.Module, n_steps: int = args.steps, **settings) -> dict:
        started = time.perf_counter()
        history = fit_logit(
            logit, draw_from(train, device), draw_fake, lambda: logistic_loss(*quick.logits(logit)),
            n_steps=n_steps, precision="bfloat16", **settings,
        )  # fmt: skip
        return {"fit": settings, "history": history, "seconds": round(time.perf_counter() - started)}

    logits: dict[str, nn.Module] = {"raw": D, "head": FeatureHead(copy.deepcopy(D), HIDDEN).to(device)}
    for kind in ("continued", "continued-r1"):
        logits[kind] = copy.deepcopy(D).requires_grad_(True)
    fits = {
        "raw": {},
        "head": fit(logits["head"], lr=1e-3, weight_decay=1e-3),
        "continued": fit(logits["continued"], lr=1e-4),
        "continued-r1": fit(logits["continued-r1"], lr=1e-4, r1_weight=args.r1),
    }
    if coarse:
        logits["coarse"] = new_coarse_logit().to(device)
        fits["coarse"] = fit(logits["coarse"], n_steps=COARSE_STEPS, lr=5e-4, decay=True)
    entries, left_out = {}, {}
    for kind, logit in logits.items():
        freeze(logit)
        try:
            slope, intercept = platt(*validation.logits(logit))
        except FloatingPointError as error:  # a perfect classifier has no scale: its ratio is infinite
            left_out[kind] = {"reason": str(error), **fits[kind]}
            print(f"{kind:14s} left out: {error}")
            continue
        entries[kind] = {
            "slope": slope,
            "intercept": intercept,
            "uncalibrated": describe(logit, evaluation),
            "calibrated": describe(Affine(logit, slope, intercept), evaluation),
            **fits[kind],
        }
        c = entries[kind]["calibrated"]
        print(f"{kind:14s} slope {slope:.2f} loss {c['loss']:.4f} accuracy {c['accuracy']:.3f}")
    card = {
        "task": "log density ratios for the generator of " + args.gan,
        "data": f"fit: {data_set}, training split; validation and evaluation: n = {len(validation.real)} "
        "images of disjoint halves of the test split, and as many fresh samples each",
        "logits": entries,
        "left_out": left_out,
        "command": f"python -m data.recipes.{module} --steps {args.steps} --r1 {args.r1}",
    }
    # half precision: the files stay small, and the rounding is far below the error of any fit
    fitted = {"head": logits["head"].net, "coarse": logits["coarse"].body if coarse else None}
    modules = {kind: fitted.get(kind, logits[kind]).half() for kind in entries if kind != "raw"}
    save_checkpoint(args.name, modules, card)
