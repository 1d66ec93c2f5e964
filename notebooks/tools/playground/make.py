"""What the playground draws: `python -m notebooks.tools.playground networks`, or `strips`.

`networks` rounds the stored 2-D GANs to half precision and fits to each what notebooks 07 and 08 fit: a new
logit, the calibration lines, a table of log p_g; of the ring it trains a GAN by the same recipe. `strips`
renders chains of the CIFAR-10 generator over step sizes and steps into one sheet.
"""

import json
import zlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from data.recipes.toy_gans import settings
from utils.checkpoints import freeze, read_card, save_checkpoint, write_atomically
from utils.config import DATA
from utils.density_ratio import Affine
from utils.energy import latent_energy, standard_normal
from utils.plotting import image_grid
from utils.samplers import sample, ula
from utils.setup import ROOT
from utils.toy import TARGETS, GridLogit, gaussian_ring
from utils.training import train_gan
from utils.zoo import build, calibrate, checkpoint_of, load_gan, load_logit, load_toy_gan, refit, samples_of

PLAYGROUND = DATA / "playground"
PLANES = TARGETS | {"ring": gaussian_ring()}
SEEDS = {"25-gaussians": 0, "swiss-roll": 3, "ring": 0}  # the runs that the notebooks look at
# of log p_g: half the side of its square and the bandwidth, in the units of x
TABLES = {"25-gaussians": (3.2, 0.03), "swiss-roll": (2.6, 0.018), "ring": (2.8, 0.025)}
CELLS = 320  # a side of the table
SCALE = 1024  # log p_g is stored as whole numbers of 1/1024 nats
QUALITIES = ("imperfect", "good")

GAN = "cifar10-gan"
CHAINS, STEP_SIZES, STEPS = 8, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), (0, 1, 3, 10, 30, 60, 100)


def halved(module: nn.Module) -> nn.Module:
    """The module with its weights rounded to half precision, computing in single."""
    return freeze(module.half().float())


def packed(table: Tensor) -> Tensor:
    """log p_g (n, n) as deflated bytes: differences along the rows, in whole numbers of 1/SCALE nats."""
    steps = np.diff((SCALE * table).round().int().numpy(), axis=1, prepend=0)
    return torch.frombuffer(bytearray(zlib.compress(steps.astype("<i2").tobytes(), 9)), dtype=torch.uint8)


def gan_of(target: str, quality: str) -> tuple[nn.Module, nn.Module]:
    """The stored GAN, or for the ring a new one by the recipe of the others; weights rounded."""
    if target in TARGETS:
        G, D = load_toy_gan(target, quality, SEEDS[target])
    else:
        G, D = build(SEEDS[target])
        result = train_gan(G, D, PLANES[target].sample, settings(quality, SEEDS[target]), progress=False)
        G, D = result.G_ema, result.D
    return halved(G), halved(D)


def make_networks(n_steps: int = 2500, n_samples: int = 4_000_000) -> None:
    """Write `networks.safetensors` and its card, which holds the calibration lines (slope, intercept)."""
    modules: dict[str, nn.Module] = {}
    lines, generator = {}, torch.Generator()
    for target, density in PLANES.items():
        for quality in QUALITIES:
            key = f"{target}-{quality}"
            G, D = gan_of(target, quality)
            fitted, history = refit(G, density.sample, n_steps=n_steps)
            fitted = halved(fitted.logit)
            for kind, logit in {"raw": D, "refitted": fitted}.items():
                line: Affine = calibrate(logit, density.sample, samples_of(G))
                lines[f"{key}-{kind}"] = [line.slope.item(), line.intercept.item()]
            extent, bandwidth = TABLES[target]
            exact = GridLogit(
                density.log_prob, samples_of(G), generator.manual_seed(20_000), n_samples=n_samples,
                extent=extent, n=CELLS, bandwidth=bandwidth,
            )  # fmt: skip
            modules[f"{key}-refitted"] = fitted.half()
            modules[f"{key}-table"] = table = nn.Module()
            table.register_buffer("packed", packed(exact.log_density[0, 0]))
            if target not in TARGETS:
                modules |= {f"{key}-G": G.half(), f"{key}-D": D.half()}
            print(f"{key}: held-out loss {history[-1][1]:.3f} nats", lines[f"{key}-raw"], flush=True)
    card = {
        "task": "networks of the playground, for generators rounded to half precision",
        "data": "fresh points at every step",
        "seeds": SEEDS,
        "tables": TABLES,
        "lines": lines,
        "made_from": {target: read_card(checkpoint_of(target))["sha256"] for target in TARGETS},
        "command": "python -m notebooks.tools.playground networks",
    }
    print("wrote", save_checkpoint("networks", modules, card, PLAYGROUND).relative_to(ROOT))


def make_strips() -> None:
    """Write the sheet: a row of tiles for each step size and number of steps, one tile a chain."""
    G = load_gan(GAN)
    energy = latent_energy(G, load_logit(name=GAN))
    z0 = torch.randn(CHAINS, G.latent_dim, generator=torch.Generator().manual_seed(0))
    rows, logit, length = [], [], []
    for step_size in STEP_SIZES:

        def keep(step: int, state) -> None:
            if step in STEPS:
                rows.append(G(state.z))
                logit.append((-state.energy - standard_normal(state.z)).mean().item())
                length.append(state.z.square().sum(1).mean().item())

        noise = torch.Generator().manual_seed(1)  # the same for every step size
        with torch.no_grad():
            sample(energy, z0, ula(step_size), max(STEPS), noise, callback=keep)
        print(f"{GAN}, step size {step_size}: mean logit {logit[-1]:.2f}", flush=True)
    picture = Image.fromarray(image_grid(torch.cat(rows), columns=CHAINS, pad=0))
    write_atomically(PLAYGROUND / "strips.webp", lambda p: picture.save(p, "WEBP", quality=60, method=6))
    about = {
        "gan": GAN,
        "logit": read_card(f"{GAN}-logits")["chosen"],
        "task": read_card(GAN)["task"],
        "tile": rows[0].shape[-1],
        "chains": CHAINS,
        "step_sizes": STEP_SIZES,
        "steps": STEPS,
        "mean_logit": [round(value, 3) for value in logit],
        "mean_squared_length": [round(value, 2) for value in length],
        "latent_dim": G.latent_dim,
        "command": "python -m notebooks.tools.playground strips",
    }
    text = json.dumps(about, indent=2) + "\n"
    write_atomically(PLAYGROUND / "strips.json", lambda p: p.write_text(text, encoding="utf-8"))
    print(f"wrote a sheet of {(PLAYGROUND / 'strips.webp').stat().st_size / 1000:.0f} kB")
