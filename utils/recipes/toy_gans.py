"""Train the GANs of the 2-D laboratory: `python -m utils.recipes.toy_gans 25-gaussians` or `swiss-roll`.

For each target five seeds of two qualities: `imperfect`, a run stopped early, whose samples are about as
poor as those of Table 1 of Che et al. (2020), and `good`, the same recipe run five times longer. Both
networks have three hidden layers of 128 units (the literature's have 256 to 512) and a latent of two.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from utils.checkpoints import freeze, load_checkpoint, save_checkpoint
from utils.config import pick_device
from utils.density_ratio import Affine, GridLogit, fit_logit, logistic_loss, logits_of, platt
from utils.models.mlp import MLPDiscriminator, MLPGenerator
from utils.toy import GaussianMixture, SwissRoll, gaussian_grid
from utils.training import TrainConfig, TrainResult, train_gan

TARGETS: dict[str, GaussianMixture | SwissRoll] = {"25-gaussians": gaussian_grid(), "swiss-roll": SwissRoll()}
STEPS = {"imperfect": 1000, "good": 5000}
SEEDS = range(5)
ARCHITECTURE = {"width": 128, "depth": 3}


def settings(quality: str, seed: int) -> TrainConfig:
    """The run of one GAN."""
    if quality not in STEPS:
        raise ValueError(f"quality={quality!r} is unknown; choose one of {', '.join(STEPS)}")
    return TrainConfig(
        n_steps=STEPS[quality],
        batch_size=256,
        lr_g=1e-3,
        lr_d=1e-3,
        betas=(0.5, 0.9),
        decay_from=0.6,
        seed=seed,
    )


def build(seed: int) -> tuple[MLPGenerator, MLPDiscriminator]:
    """New networks with the initial weights of `seed`."""
    torch.manual_seed(seed)
    return MLPGenerator(2, **ARCHITECTURE), MLPDiscriminator(**ARCHITECTURE)


def train(target: str, quality: str, seed: int, n_steps: int | None = None) -> TrainResult:
    """One GAN from scratch, for the steps of its quality unless `n_steps` is given: 5 ms each."""
    config = settings(quality, seed)
    G, D = build(seed)
    config = replace(config, n_steps=n_steps or config.n_steps)
    return train_gan(G, D, TARGETS[target].sample, config, progress=False)


def checkpoint_of(target: str) -> str:
    """Name of the checkpoint that holds all GANs of a target."""
    return f"toy-gans-{target}"


def load_toy_gan(
    target: str, quality: str = "imperfect", seed: int = 0, device: torch.device | str = "cpu"
) -> tuple[nn.Module, nn.Module]:
    """The frozen generator and discriminator of one stored run; D returns its raw logit.

    Args:
        target: "25-gaussians" or "swiss-roll".
        quality: "imperfect" or "good".
        seed: 0 to 4.
        device: where the networks go.
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


def samples_of(G: nn.Module) -> Callable[[int, torch.Generator], Tensor]:
    """`draw_fake(n, generator)` of a frozen generator."""

    @torch.no_grad()
    def draw(n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, G.latent_dim, generator=generator)
        return G(z.to(next(G.parameters()).device))

    return draw


def calibrate(
    logit: nn.Module, draw_real: Callable, draw_fake: Callable, n: int = 10_000, seed: int = 100
) -> Affine:
    """`logit` with Platt's slope and intercept from n fresh real points and n fresh samples."""
    generator = torch.Generator().manual_seed(seed)
    real, fake = draw_real(n, generator), draw_fake(n, generator)
    return freeze(Affine(logit, *platt(logits_of(logit, real), logits_of(logit, fake))))


def refit(
    G: nn.Module, draw_real: Callable, n_steps: int = 2500, r1_weight: float = 1e-4, seed: int = 0
) -> tuple[Affine, list[tuple[int, float]]]:
    """A new logit fitted to the frozen G by the logistic loss and Platt-scaled, and its held-out history.

    In the plane fresh data cost nothing, so there is no overfitting to stop early. A little R1 keeps d from
    growing without bound where there are data but hardly any samples.
    """
    draw_fake = samples_of(G)
    generator = torch.Generator().manual_seed(10_000 + seed)
    real, fake = draw_real(10_000, generator), draw_fake(10_000, generator)
    torch.manual_seed(1000 + seed)
    logit = MLPDiscriminator(**ARCHITECTURE).to(real.device)

    def held_out() -> float:
        return logistic_loss(logits_of(logit, real, 10_000), logits_of(logit, fake, 10_000))

    history = fit_logit(
        logit, draw_real, draw_fake, held_out, n_steps=n_steps, lr=4e-3, batch_size=512, decay=True,
        r1_weight=r1_weight, check_every=250, patience=1 + n_steps // 250, seed=seed,
    )  # fmt: skip
    return calibrate(freeze(logit), draw_real, draw_fake), history


def nearly_exact(
    G: nn.Module, target: GaussianMixture | SwissRoll, n_samples: int = 4_000_000, seed: int = 0
) -> GridLogit:
    """log p_d/p_g with p_g counted on a grid from `n_samples` samples of G."""
    generator = torch.Generator().manual_seed(20_000 + seed)
    return freeze(GridLogit(target.log_prob, samples_of(G), generator, n_samples=n_samples))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    args = parser.parse_args(arguments)
    modules: dict[str, nn.Module] = {}
    seconds = 0.0
    for quality in STEPS:
        for seed in SEEDS:
            result = train(args.target, quality, seed)
            modules |= {f"{quality}-{seed}-G": result.G_ema, f"{quality}-{seed}-D": result.D}
            seconds += result.seconds
            print(f"{args.target}, {quality}, seed {seed}: {result.seconds:.0f} s", flush=True)
    command = ["python", "-m", "utils.recipes.toy_gans", *(sys.argv[1:] if arguments is None else arguments)]
    card = {
        "task": f"points in the plane: {TARGETS[args.target].name}",
        "data": "fresh points at every step",
        "architecture": ARCHITECTURE | {"latent_dim": 2},
        "config": {quality: asdict(settings(quality, 0)) for quality in STEPS},
        "seeds": list(SEEDS),
        "command": shlex.join(command),
        "hardware": f"{pick_device().type}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "seconds": round(seconds),
    }
    path = save_checkpoint(checkpoint_of(args.target), modules, card)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
