"""Train the CIFAR-10 GAN of the course: `python -m utils.recipes.cifar10_gan`.

Presets: `cpu`, the committed checkpoint (a DCGAN, about an hour on two cores with bfloat16), and `gpu`,
the SNGAN recipe of Miyato et al. (2018). An interrupted run goes on where it was when called again.
"""

import argparse
import platform
import shlex
import sys
from dataclasses import asdict

import torch

from utils.checkpoints import save_checkpoint
from utils.config import RUNS, pick_device
from utils.images import load_cifar10
from utils.models import build_gan
from utils.plotting import save_image_grid
from utils.training import TrainConfig, draw_from, train_gan

PRESETS = {
    "cpu": (
        {"family": "dcgan", "latent_dim": 128, "g_width": 48, "d_width": 32, "image_size": 32},
        TrainConfig(loss="non_saturating", n_steps=20_000, lr_g=2e-4, lr_d=4e-4, precision="bfloat16"),
    ),
    "gpu": (
        {"family": "sngan", "latent_dim": 128, "g_width": 256, "d_width": 128, "image_size": 32},
        TrainConfig(
            loss="hinge", n_steps=100_000, d_steps=5, betas=(0.0, 0.9), decay_from=0.0,
            ema_decay=0.9999, precision="bfloat16", compile=True,
        ),
    ),
}  # fmt: skip


def describe_device(device: torch.device) -> str:
    """The hardware in words, for the card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--name", default="cifar10-gan", help="name of the checkpoint")
    parser.add_argument("--steps", type=int, help="generator steps, instead of the preset's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads")
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)

    architecture, config = PRESETS[args.preset]
    config = TrainConfig(**asdict(config) | {"seed": args.seed, "n_steps": args.steps or config.n_steps})
    device = pick_device()
    torch.manual_seed(args.seed)  # the initial weights
    G, D = build_gan(**architecture)
    G, D = G.to(device), D.to(device)
    train = load_cifar10("train")
    run_dir = RUNS / args.name

    fixed = torch.randn(64, G.latent_dim, generator=torch.Generator().manual_seed(1)).to(device)

    @torch.no_grad()
    def save_grid(step: int, G_ema: torch.nn.Module) -> None:
        save_image_grid(G_ema.eval()(fixed), run_dir / f"samples-{step:06d}.png")

    result = train_gan(G, D, draw_from(train.images, device), config, run_dir, save_grid)
    command = shlex.join(["python", "-m", "utils.recipes.cifar10_gan", *(arguments or sys.argv[1:])])
    card = {
        "task": "CIFAR-10 images at 32x32",
        "architecture": architecture,
        "data": f"{len(train.images)} images of the CIFAR-10 training split, in [-1, 1], no augmentation",
        "config": asdict(config),
        "command": command,
        "hardware": describe_device(device),
        "torch": torch.__version__,
        "seconds": round(result.seconds),
        "history": [{k: round(v, 4) for k, v in row.items()} for row in result.history[1::2]],
    }
    path = save_checkpoint(args.name, {"G": result.G_ema, "D": result.D}, card)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
