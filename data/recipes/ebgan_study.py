"""GAN, EBGAN and EBGAN-PT over many settings: `python -m data.recipes.ebgan_study` (or with a part's name).

Five parts, each a study of its own. Notebook 05 reads them.

    ebgan/grid     8x8 digits, 16 architectures x 2 seeds for each of the three methods
    ebgan/margins  8x8 digits, EBGAN with margins from 0.5 to 32, and one that decays
    ebgan/ring     eight Gaussians on a circle, two depths of D x 5 seeds for each of the three methods
    ebgan/energy   what the energy says on the ring: order, scale, and -U against log p_d/p_g, 8 seeds
    ebgan/labels   classifying the digits with 10, 20 or 100 labels, with and without EBGAN's samples, 8 seeds
"""

import math
from dataclasses import asdict
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.recipes.study import Jobs, run_jobs
from utils.density_ratio import platt
from utils.images import split_digits, to_unit
from utils.losses import ebgan, pulling_away
from utils.metrics.judges import digit_classifier, digit_scores
from utils.metrics.toy import high_quality_share, mode_balance, modes_recovered
from utils.models.autoencoder import AutoencoderEnergy
from utils.models.mlp import MLPDiscriminator, MLPGenerator
from utils.toy import GridLogit, distance_to_mode, gaussian_ring
from utils.training import TrainConfig, TrainResult, draw_from, train_gan

VERSION = 1  # of this file: raise it when a change alters results
METHODS = {"GAN": ("non_saturating", 0.0), "EBGAN": ("ebgan", 0.0), "EBGAN-PT": ("ebgan", 0.1)}
ARMS = ("labels only", "auto-encoder", "EBGAN")  # of the part `labels`
DIGIT_SHAPE, N_SAMPLES = (1, 8, 8), 2000
DATA = {"digits": split_digits, "ring": partial(gaussian_ring, n_modes=8, radius=2.0, std=0.1)}
JUDGES = {"digits": digit_classifier, "ring": None}


def one_run(
    method: str = "EBGAN",
    data: str = "digits",
    depth_g: int = 2,
    depth_d: int = 2,
    width_g: int = 128,
    width_d: int = 128,
    margins: tuple[float, ...] = (5.0,),
    n_steps: int = 800,
    seed: int = 0,
) -> dict:
    """Settings of one run; several `margins` are taken one after the other, for equal numbers of steps."""
    settings = dict(locals())
    loss, weight = METHODS[method]
    stages = [
        TrainConfig(
            loss=loss, margin=margin, pulling_away_weight=weight, n_steps=n_steps // len(margins),
            batch_size=128 if data == "ring" else 64, lr_g=1e-3, lr_d=1e-3, betas=(0.5, 0.9),
            decay_from=0.6 if stage == len(margins) - 1 else 1.0, ema_decay=0.99, seed=seed + 1000 * stage,
        )
        for stage, margin in enumerate(margins)
    ]  # fmt: skip
    made = {"data_set": DATA[data], "judge": JUDGES[data], "n_samples": N_SAMPLES, "version": VERSION}
    return settings | {"stages": [asdict(config) for config in stages]} | made


def train(s: dict) -> TrainResult:
    """One run from scratch, 2 to 4 ms a step on one CPU core."""
    torch.manual_seed(s["seed"])
    on_ring = s["data"] == "ring"
    shape = (2,) if on_ring else DIGIT_SHAPE
    G = MLPGenerator(2 if on_ring else 16, s["width_g"], s["depth_g"], shape, bounded=not on_ring)
    family = MLPDiscriminator if s["method"] == "GAN" else AutoencoderEnergy
    D = family(s["width_d"], s["depth_d"], data_shape=shape)
    draw = s["data_set"]().sample if on_ring else draw_from(s["data_set"]()[0].images)
    for config in s["stages"]:
        result = train_gan(G, D, draw, TrainConfig(**config), progress=False)
    result.G_ema.eval()
    return result


def run(s: dict) -> dict:
    """Train one setting and score samples of its averaged generator."""
    G = train(s).G_ema
    with torch.no_grad():
        x = G(torch.randn(s["n_samples"], G.latent_dim, generator=torch.Generator().manual_seed(100)))
    if s["data"] == "digits":
        return digit_scores(x)
    ring = s["data_set"]()
    balance = mode_balance(x, ring)
    return {
        "high_quality_share": high_quality_share(x, ring),
        "modes_recovered": modes_recovered(x, ring),
        "mode_balance": None if math.isnan(balance) else balance,  # no point is good
    }


# -- the energy on the ring ---------------------------------------------------------------------------


def one_energy(
    seed: int,
    reconstruction_steps: tuple[int, ...] = (150, 1500, 10_000),
    n_counted: int = 2_000_000,
    n_pool: int = 400_000,
) -> dict:
    """Settings of an EBGAN on the ring, to compare its energy with reconstruction and with the log ratio."""
    return dict(locals()) | {"run": one_run("EBGAN", "ring", 3, 2, 64, 64, (0.5,), 1500, seed)}


def contrast(D: nn.Module, ring: nn.Module) -> dict[str, float]:
    """Mean U on data and more than 5 std off them, and P(U off > U on) for a random pair; a tie is half."""
    data = ring.sample(4000, torch.Generator().manual_seed(1))
    square = 6 * torch.rand(8000, 2, generator=torch.Generator().manual_seed(2)) - 3
    with torch.no_grad():
        on, off = D(data), D(square[distance_to_mode(square, ring)[0] > 5])
    order = 0.5 + 0.5 * (off[:2000, None] - on[:2000]).sign().mean().item()
    return {"on": on.mean().item(), "off": off.mean().item(), "order": order}


def energy_row(s: dict) -> dict:
    """What reconstruction alone makes of the energy, what EBGAN does, and how far -U is from a log ratio."""
    ring, generator = s["run"]["data_set"](), torch.Generator().manual_seed(s["seed"])
    torch.manual_seed(s["seed"])
    alone, done, row = AutoencoderEnergy(64, 2, data_shape=(2,)), 0, {}
    optimiser = torch.optim.Adam(alone.parameters(), 1e-3)
    for n_steps in s["reconstruction_steps"]:
        for _ in range(n_steps - done):
            optimiser.zero_grad()
            alone(ring.sample(128, generator)).mean().backward()
            optimiser.step()
        done = n_steps
        row[f"reconstruction, {n_steps} steps"] = contrast(alone, ring)
    result = train(s["run"])
    G, D = result.G_ema, result.D.eval()
    row["EBGAN"] = contrast(D, ring)

    @torch.no_grad()
    def draw(n: int, generator: torch.Generator) -> Tensor:
        return G(torch.randn(n, G.latent_dim, generator=generator))

    ratio = GridLogit(ring.log_prob, draw, generator, n_samples=s["n_counted"])
    pool, real = draw(s["n_pool"], generator), ring.sample(20_000, generator)
    with torch.no_grad():
        u, d = D(pool), ratio(pool).double()
        slope, _ = platt(-D(real), -u[:20_000])
    laws = {"generator": 0 * d, "-U": -u.double(), "-U, Platt-scaled": -slope * u.double(), "log ratio": d}
    log_w = {name: logit.log_softmax(0) for name, logit in laws.items()}
    distance, mode = distance_to_mode(pool, ring)
    target, near = log_w["log ratio"], d > -3  # where the two densities overlap
    shares = {k: torch.zeros(8).double().index_add(0, mode, w.exp()) for k, w in log_w.items()}
    for name, w in log_w.items():
        row[name] = {
            "kl_target": (target.exp() * (target - w)).sum().item(),
            "high_quality_share": w.exp()[distance <= 4].sum().item(),
            "tv_modes_target": 0.5 * (shares[name] - shares["log ratio"]).abs().sum().item(),
            "tv_modes_data": 0.5 * (shares[name] - 1 / 8).abs().sum().item(),
        }
    together = torch.stack([-u.double(), d])
    row |= {"Z": d.exp().mean().item(), "slope": slope, "near": near.double().mean().item()}
    row["correlation"] = torch.corrcoef(together)[0, 1].item()
    row["correlation_near"] = torch.corrcoef(together[:, near])[0, 1].item() if near.sum() > 100 else None
    return row


# -- few labels ---------------------------------------------------------------------------------------


def one_classifier(
    arm: str, n_labels: int, seed: int, n_steps: int = 500, weight: float = 0.1, margin: float = 5.0
) -> dict:
    """Settings of a classifier on the encoder of an auto-encoder, trained on few labels and all images.

    `weight` is that of the energy's loss beside the cross-entropy; `margin` falls linearly to 0.
    """
    return dict(locals()) | {"data_set": partial(split_digits, seed), "version": VERSION}


def few_labels(s: dict) -> dict:
    """Train one classifier; its error in per cent is on the 360 held-out digits of the seed's split."""
    train, test = s["data_set"]()
    images, labels, generator = to_unit(train.images), train.labels, torch.Generator().manual_seed(s["seed"])
    picked = torch.cat([(labels == c).nonzero()[: s["n_labels"] // 10, 0] for c in range(10)])
    torch.manual_seed(s["seed"])
    D, head = AutoencoderEnergy(128, 2, 64, DIGIT_SHAPE), nn.Linear(64, 10)
    G = MLPGenerator(16, 128, 2, DIGIT_SHAPE, bounded=True)
    optim_d = torch.optim.Adam([*D.parameters(), *head.parameters()], 1e-3)
    optim_g = torch.optim.Adam(G.parameters(), 1e-3, (0.5, 0.9))

    def draw_fake() -> Tensor:
        return G(torch.randn(64, G.latent_dim, generator=generator))

    for step in range(s["n_steps"]):
        batch = picked[torch.randint(len(picked), (32,), generator=generator)]
        loss = F.cross_entropy(head(D.features(images[batch])), labels[batch])
        if s["arm"] != "labels only":
            real = images[torch.randint(len(images), (64,), generator=generator)]
            if s["arm"] == "EBGAN":
                margin = ebgan(max(s["margin"] * (1 - step / s["n_steps"]), 1e-6))
                energy = margin.discriminator(*D(torch.cat([real, draw_fake().detach()])).chunk(2))
            else:
                energy = D(real).mean()
            loss = loss + s["weight"] * energy
        optim_d.zero_grad()
        loss.backward()
        optim_d.step()
        if s["arm"] == "EBGAN":
            fake = draw_fake()
            optim_g.zero_grad()
            (D(fake).mean() + 0.1 * pulling_away(D.features(fake))).backward()
            optim_g.step()
    with torch.no_grad():
        wrong = head(D.features(to_unit(test.images))).argmax(1) != test.labels
    return {"error": 100 * wrong.float().mean().item()}


# -- the study ----------------------------------------------------------------------------------------

ARCHITECTURES = tuple(product((2, 4), (2, 4), (64, 256), (64, 256)))  # depth of G, D; width of G, D
MARGINS = ((0.5,), (1.0,), (2.0,), (4.0,), (8.0,), (16.0,), (32.0,), (8.0, 4.0, 2.0, 1.0))  # the last decays


def jobs() -> Jobs:
    """The settings of all entries."""
    named = "{method} G {depth_g}x{width_g} D {depth_d}x{width_d} margins {margins} seed {seed}"
    runs = {
        "ebgan/grid": [
            one_run(method, "digits", *architecture, seed=seed)
            for seed, architecture, method in product(range(2), ARCHITECTURES, METHODS)
        ],
        "ebgan/margins": [one_run(margins=m, seed=seed) for m, seed in product(MARGINS, range(2))],
        "ebgan/ring": [  # its energies are below 1, hence the small margin
            one_run(method, "ring", 3, depth, 64, 64, (0.5,), 1500, seed)
            for depth, seed, method in product((2, 3), range(5), METHODS)
        ],
    }
    labels = [one_classifier(arm, n, s) for s, n, arm in product(range(8), (10, 20, 100), ARMS)]
    return {part: {named.format(**s): s for s in settings} for part, settings in runs.items()} | {
        "ebgan/energy": {f"seed {seed}": one_energy(seed) for seed in range(8)},
        "ebgan/labels": {"{arm}, {n_labels} labels, seed {seed}".format(**s): s for s in labels},
    }


def work(settings: dict) -> dict:
    """The result of one entry of any part."""
    if "n_pool" in settings:
        return energy_row(settings)
    return few_labels(settings) if "arm" in settings else run(settings)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_jobs(__doc__, jobs(), work)
