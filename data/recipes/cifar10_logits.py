"""Fit the log density ratios of the CIFAR-10 generators: `python -m data.recipes.cifar10_logits`.

For the generators of other seeds: `--gan cifar10-gan-1 --kinds "classifier 3"`. `celeba64_logits` uses `run`
too.

Candidates: heads on frozen features (which features, how strong a ridge penalty), and a small convolutional
discriminator with R1. Images: `fit` and `validation` are training images that the classifier behind the
features never saw; Platt's line and the choice use validation, the reported figures the test split.

Chosen is the least held-out loss among those whose weights e^d are worth a tenth of the samples at least, or
without such the one whose weights are worth most: a guide that separates better than that guides worse
(notebook 11). No judge of images takes part.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.recipes import made_by
from utils.checkpoints import freeze, save_checkpoint
from utils.config import pick_device
from utils.density_ratio import describe, fit_logit, logistic_loss, logits_of, platt
from utils.images import ImageSet, load_cifar10, to_unit
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


CANDIDATES = {
    "line": Candidate("classifier", hidden=0, penalty=160),
    "classifier 30": Candidate("classifier", penalty=30),
    "classifier 10": Candidate("classifier", penalty=10),
    "classifier 3": Candidate("classifier", penalty=3),
    "classifier 1": Candidate("classifier", penalty=1),
    "maps line": Candidate("maps", hidden=0, penalty=160),
    "maps 3": Candidate("maps", penalty=3),
    "conv": Candidate(),
}


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
    started, device = time.perf_counter(), pick_device()
    G, generator = load_gan(args.gan, device), torch.Generator().manual_seed(10_000)
    last, test = load("train").images[-FIT - VALIDATION :], load("test").images[:EVALUATION]
    sets = {}
    for part, images in {"fit": last[:FIT], "validation": last[FIT:], "evaluation": test}.items():
        sets[f"real {part}"] = to_unit(images)
        sets[f"fake {part}"] = draw_samples(G, len(images), generator)
    features = {}
    for name in sorted({candidates[kind].features for kind in args.kinds} - {None}):
        body = load_features(name).to(device)
        with torch.no_grad():
            features[name] = {
                key: torch.cat([body.features(part.to(device)) for part in x.split(250)])
                for key, x in sets.items()
            }

    def fit(candidate: Candidate) -> tuple[nn.Module, Callable[[str], Tensor], dict]:
        """The logit, its values on a set, and what the fit says of itself."""
        logit = new_logit(**candidate.architecture).to(device)
        if candidate.features:
            known = features[candidate.features]
            logit.fit(known["real fit"], known["fake fit"], candidate.penalty)
            values = lambda key: logit.from_features(known[key]).detach()  # noqa: E731
            return logit.net, values, {"penalty": candidate.penalty}
        log = {"r1_weight": 0.1, "lr": 3e-4, "n_steps": 600}
        draws = draw_from(sets["real fit"], device, mirror=True), draw_from(sets["fake fit"], device)
        values = lambda key: logits_of(logit, sets[key].to(device))  # noqa: E731
        history = fit_logit(
            logit, *draws, lambda: logistic_loss(values("real validation"), values("fake validation")),
            batch_size=64, check_every=100, decay=True, precision="bfloat16", **log,
        )  # fmt: skip
        return logit, values, log | {"history": history}

    entries, modules = {}, {}
    for kind in args.kinds:
        logit, values, log = fit(candidates[kind])
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
            **log,
        }
        modules[kind] = freeze(logit)
        shown = {key: f"{entries[kind][key]:.3f}" for key in ("slope", "loss", "ess_share", "logit_target")}
        print(kind, shown, flush=True)
    smooth = [kind for kind, e in entries.items() if e["validation"]["ess_share"] >= LEAST_ESS]
    smooth = smooth or [max(entries, key=lambda kind: entries[kind]["validation"]["ess_share"])]
    chosen = min(smooth, key=lambda kind: entries[kind]["validation"]["loss"])
    command = ["--gan", args.gan, "--kinds", *args.kinds]
    card = {
        "task": f"log density ratios for the generator {args.gan}",
        "data": f"fit {FIT}, validation {VALIDATION} (the last training images), evaluation {EVALUATION} "
        "(test) images, and as many fresh samples each",
        "logits": entries,
        "chosen": chosen,
        **made_by(module, command, time.perf_counter() - started),
    }
    print("chosen:", chosen)
    save_checkpoint(f"{args.gan}-logits", modules, card, int8=True)


def main(arguments: list[str] | None = None) -> None:
    run("cifar10_logits", load_cifar10, "cifar10-gan", CANDIDATES, arguments)


if __name__ == "__main__":
    main()
