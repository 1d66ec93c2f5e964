"""Whatever a notebook loads that was made before: the stored GANs, their fitted logits, and the toy GANs.

The commands that made them lie in `data/recipes/`.
"""

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from utils.checkpoints import freeze, load_checkpoint
from utils.density_ratio import (
    Affine,
    CoarseLogit,
    FeatureHead,
    describe,
    fit_logit,
    logistic_loss,
    logits_of,
    platt,
)
from utils.energy import prior_of
from utils.models import build_gan
from utils.models.classifier import Classifier
from utils.models.dcgan import DCGANDiscriminator
from utils.models.efficientnet import PooledMaps
from utils.models.layers import bake, channels_last, copy_network
from utils.models.mlp import MLPDiscriminator, MLPGenerator
from utils.toy import TARGETS, GaussianMixture, GridLogit, SwissRoll

STEPS = {"imperfect": 1000, "good": 5000}
SEEDS = range(5)
ARCHITECTURE = {"width": 128, "depth": 3}


# -- images ---------------------------------------------------------------------------------------------


def load_gan(name: str = "cifar10-gan", device: torch.device | str = "cpu") -> nn.Module:
    """The frozen generator of a checkpoint, a function of z (n, 128) alone."""
    states, card = load_checkpoint(name)
    G, _ = build_gan(**card["architecture"], discriminator=False)
    G.load_state_dict(states["G"])
    return freeze(bake(G), device)


def load_discriminator(name: str = "cifar10-gan", device: torch.device | str = "cpu") -> nn.Module:
    """The frozen discriminator that trained a stored generator: outputs (n, 4, 36), no log ratio."""
    states, card = load_checkpoint(f"{name}-heads")
    _, D = build_gan(**card["architecture"])
    D.heads.load_state_dict(states["heads"])
    return freeze(bake(D), device)


@cache
def load_features(name: str) -> nn.Module:
    """Frozen features for a logit: "classifier", of CIFAR-10's classes, or "maps", of EfficientNet-Lite0."""
    if name == "maps":
        return freeze(PooledMaps())
    states, card = load_checkpoint("cifar10-features")
    body = Classifier(**card["architecture"])
    body.load_state_dict(states["classifier"])
    return freeze(channels_last(body))


def load_logit(
    kind: str | None = None, name: str = "cifar10-gan", device: torch.device | str = "cpu"
) -> nn.Module:
    """A fitted log ratio of a generator, a frozen module x -> (n,); without `kind`, the chosen one."""
    states, card = load_checkpoint(f"{name}-logits")
    kind = kind or card["chosen"]
    if kind not in card["logits"]:
        raise ValueError(f"kind={kind!r} is unknown; choose one of {', '.join(card['logits'])}")
    entry = card["logits"][kind]
    logit = new_logit(**entry["architecture"])
    (getattr(logit, "net", logit)).load_state_dict(states[kind])
    return freeze(bake(Affine(logit, entry["slope"], entry["intercept"])), device)


def new_logit(features: str | None = None, hidden: int = 0, width: int = 24) -> nn.Module:
    """An untrained logit: a head on frozen features, or a convolutional D of its own without `features`."""
    if features:
        return FeatureHead(copy.deepcopy(load_features(features)), hidden)
    return channels_last(DCGANDiscriminator(width, image_size=32))


@torch.no_grad()
def draw_samples(G: nn.Module, n: int, generator: torch.Generator, batch_size: int = 500) -> Tensor:
    """n fresh samples of G, such as images (n, 3, s, s)."""
    z = prior_of(G).draw(n, generator).to(next(G.parameters(), torch.empty(0)).device)
    return torch.cat([G(part) for part in z.split(batch_size)])


def samples_of(G: nn.Module) -> Callable[[int, torch.Generator], Tensor]:
    """`draw_fake(n, generator)` of a frozen generator."""
    return lambda n, generator: draw_samples(G, n, generator)


def calibrate(
    logit: nn.Module, draw_real: Callable, draw_fake: Callable, n: int = 10_000, seed: int = 100
) -> Affine:
    """A frozen copy of `logit` with Platt's slope and intercept from n real points and n samples, held out.

    Warns where the result can guide nowhere, or separates too well to guide (`density_ratio.describe`).
    """
    generator = torch.Generator().manual_seed(seed)
    logit = freeze(copy_network(logit) if isinstance(logit, nn.Module) else logit)
    pair = [logits_of(logit, x) for x in (draw_real(n, generator), draw_fake(n, generator))]
    slope, intercept = platt(*pair)
    describe(*(slope * d + intercept for d in pair))
    return freeze(Affine(logit, slope, intercept))


def refit(
    G: nn.Module,
    draw_real: Callable,
    n_steps: int = 2500,
    r1_weight: float = 1e-4,
    seed: int = 0,
    *,
    draw_held_out: Callable | None = None,
) -> tuple[Affine, list[tuple[int, float]]]:
    """A new logit fitted to the frozen G by the logistic loss and Platt-scaled, and its held-out history.

    In the plane fresh data cost nothing, so there is no overfitting to stop early. A little R1 keeps d from
    growing without bound where there are data but hardly any samples. Of images d sees means over blocks
    alone, 8 on a side, and the fit stops as soon as the loss on `draw_held_out`, images that draw_real never
    gives (ValueError without), stays above its best: supports of images hardly overlap, and a d that
    separates them guides worse than none (notebooks 11 and 12).
    """
    draw_fake, generator = samples_of(G), torch.Generator().manual_seed(10_000 + seed)
    images = draw_real(1, torch.Generator().manual_seed(0)).ndim == 4
    if images and draw_held_out is None:
        raise ValueError("draw_held_out is missing: on images give draw(n, generator) of images held out")
    draw_held_out, n = draw_held_out or draw_real, 2000 if images else 10_000
    real, fake = draw_held_out(n, generator), draw_fake(n, generator)
    torch.manual_seed(1000 + seed)
    fit = {"n_steps": n_steps, "r1_weight": r1_weight, "seed": seed}
    if images:
        logit = CoarseLogit(new_logit(width=16), max(1, real.shape[-1] // 8))
        fit |= {"lr": 2e-4, "batch_size": 64, "check_every": 10, "patience": 10}
    else:
        logit = MLPDiscriminator(**ARCHITECTURE)
        fit |= {"lr": 4e-3, "batch_size": 512, "check_every": 250, "patience": n_steps, "decay": True}
    logit = logit.to(real.device)

    def held_out() -> float:
        return logistic_loss(logits_of(logit, real), logits_of(logit, fake))

    history = fit_logit(logit, draw_real, draw_fake, held_out, **fit)
    return calibrate(logit, draw_held_out, draw_fake, n), history


# -- the plane ------------------------------------------------------------------------------------------


def build(seed: int) -> tuple[MLPGenerator, MLPDiscriminator]:
    """New networks with the initial weights of `seed`."""
    torch.manual_seed(seed)
    return MLPGenerator(2, **ARCHITECTURE), MLPDiscriminator(**ARCHITECTURE)


def checkpoint_of(target: str) -> str:
    """Name of the checkpoint that holds all GANs of a target."""
    return f"toy-gans-{target}"


def load_toy_gan(
    target: str, quality: str = "imperfect", seed: int = 0, device: torch.device | str = "cpu"
) -> tuple[nn.Module, nn.Module]:
    """The frozen generator and discriminator (its raw logit) of one stored run.

    `target` is "25-gaussians" or "swiss-roll", `quality` "imperfect" or "good", `seed` 0 to 4, or ValueError.
    """
    if target not in TARGETS:
        raise ValueError(f"target={target!r} is unknown; choose one of {', '.join(TARGETS)}")
    states, _ = load_checkpoint(checkpoint_of(target))
    if f"{quality}-{seed}-G" not in states:
        raise ValueError(f"quality={quality!r}, seed={seed}: stored are {', '.join(STEPS)}, seeds 0 to 4")
    G, D = build(seed)
    G.load_state_dict(states[f"{quality}-{seed}-G"])
    D.load_state_dict(states[f"{quality}-{seed}-D"])
    return freeze(G, device), freeze(D, device)


def nearly_exact(
    G: nn.Module, target: GaussianMixture | SwissRoll, n_samples: int = 4_000_000, seed: int = 0
) -> GridLogit:
    """log p_d/p_g with p_g counted on a grid from `n_samples` samples of G."""
    generator = torch.Generator().manual_seed(20_000 + seed)
    return freeze(GridLogit(target.log_prob, samples_of(G), generator, n_samples=n_samples))
