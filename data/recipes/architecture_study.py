"""A digit GAN, and variants that change one thing each: `python -m data.recipes.architecture_study`.

scikit-learn's digits at 16x16: 900 train the GANs, 500 the judge, 397 are the reference; neither of the last
two trains a GAN. Notebook 09 reads the study `architecture`.
"""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import nn

from data.recipes import digit_gans as gans
from data.recipes.digit_gans import LATENT, PARTS, classifier, digits, measures, packed
from data.recipes.study import Jobs, run_jobs
from utils.models.mlp import MLPDiscriminator, MLPGenerator
from utils.training import TrainConfig, TrainResult, draw_from, train_gan

VERSION = 1  # of this file: raise it when a change alters results
N_STEPS, N, N_GRID = 400, 900, 20
SEEDS = range(3)
TAUS, PSIS = (0.5, 1.0, 1.5), (0.3, 0.5, 0.7)
BASE = {"family": "conv", "spectral": True, "attention": False, "batch_std": False, "style": False}
BASE |= {"label": "", "frozen": "", "n_images": 900, "augment": (), "width": 8}
BASE |= {"leak": False}  # augmentation is for D's eyes alone: no row changes the data themselves
COMMON = {"batch_size": 32, "lr_g": 2e-3, "lr_d": 2e-3, "betas": (0.0, 0.99), "ema_decay": 0.99}
COMMON |= {"norm_batches": 10, "n_steps": N_STEPS, "log_every": N_STEPS}
ROWS: dict[str, dict] = {  # what differs from BASE
    "baseline": {},
    "MLP": {"family": "mlp"},
    "MLP, batch norm": {"family": "mlp, batch norm"},
    "no spectral norm": {"spectral": False},
    "attention": {"attention": True},
    "minibatch std": {"batch_std": True},
    "style, no minibatch std": {"style": True},
    "style": {"style": True, "batch_std": True},
    "class, concatenation": {"label": "concatenation"},
    "class, projection": {"label": "projection"},
    "frozen trained": {"frozen": "trained"},
    "100 images": {"n_images": 100},
    "100 images, translation": {"n_images": 100, "augment": ("translation",)},
}


def one_run(row: str, seed: int) -> dict:
    """Settings of one training, or of the floor."""
    s = BASE | ROWS.get(row, {})
    config = TrainConfig(**COMMON, augment=s.pop("augment"), seed=seed)
    made = {"n": N, "n_grid": N_GRID, "parts": PARTS, "taus": TAUS, "psis": PSIS, "version": VERSION}
    return {"row": row, "seed": seed} | s | made | {"config": asdict(config)}


def train(s: dict) -> TrainResult:
    """One run from scratch, 5 to 15 seconds on one CPU core."""
    x, y = (part[: s["n_images"]] for part in digits("train"))
    torch.manual_seed(s["seed"])
    if s["family"].startswith("mlp"):
        G = MLPGenerator(LATENT, 128, 2, x.shape[1:], bounded=True)
        if "batch norm" in s["family"]:  # before each ReLU, as in the convolutional G; draws no weights
            for i in (3, 1):
                G.net.insert(i, nn.BatchNorm1d(128))
        D = MLPDiscriminator(128, 2, x.shape[1:], nn.LeakyReLU, spectral=True)
    else:
        G = gans.Generator(s["width"], s["style"], s["attention"], s["label"])
        switches = (s[k] for k in ("width", "spectral", "attention", "batch_std", "label"))
        D = gans.Discriminator(*switches, frozen=bool(s["frozen"]))
    if s["frozen"] == "trained":
        low = classifier("train", 2 * s["width"]).low.state_dict()
        values = {k.replace("weight", "parametrizations.weight.original"): w for k, w in low.items()}
        D.low.load_state_dict(values, strict=False)  # its power iteration goes on
    draw = draw_from(gans.with_label(x, F.one_hot(y, 10).float()) if s["label"] else x)
    return train_gan(G, D, draw, TrainConfig(**s["config"]), progress=False)


@torch.no_grad()
def work(s: dict) -> dict:
    """Measures of G, of its running mean, and of truncated latents; what D knows by heart."""
    (x, y), (new, new_y) = digits("train"), digits("reference")
    if s["row"] == "real":  # the floor: as many training digits; and how good the judge is
        accuracy = (classifier("judge")(new).argmax(1) == new_y).double().mean().item()
        floor = measures(x[: s["n"]], y[: s["n"]])
        return {"mean": floor, "accuracy": accuracy, "grid": packed(x[: s["n_grid"]])}
    with torch.enable_grad():
        result = train(s)
    G, generator = result.G_ema.eval(), torch.Generator().manual_seed(11)
    z = torch.randn(s["n"], G.latent_dim, generator=generator)
    asked = z[:, LATENT:].argmax(1) if s["label"] else None
    row = {"last": measures(result.G.eval()(z)[:, :1], asked), "mean": measures(G(z)[:, :1], asked)}
    if s["row"] in ("baseline", "style"):
        cut = {t: nn.init.trunc_normal_(z.clone(), a=-t, b=t, generator=generator) for t in s["taus"]}
        row["tau"] = {t: measures(G(few)) for t, few in cut.items()}
    if s["row"] == "style":
        w, one = G.mapping(z), torch.ones(len(z), 1)
        row["psi"] = {t: measures(G.draw(one, [w.mean(0) + t * (w - w.mean(0))] * 3)) for t in s["psis"]}
    if not s["label"]:
        seen = {"seen": x[: s["n_images"]], "new": new, "fake": G(z)}
        row["d"] = {name: result.D.eval()(images).mean().item() for name, images in seen.items()}
    else:
        z = torch.cat([z[asked == c][: s["n_grid"] // 10] for c in range(10)])
    return row | {"grid": packed(G(z[: s["n_grid"]])[:, :1]) if s["seed"] == 0 else ""}


def jobs() -> Jobs:
    """The settings of all entries."""
    found = {f"{row}, seed {k}": one_run(row, k) for row in ROWS for k in SEEDS}
    return {"architecture": {"real": one_run("real", 0)} | found}


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_jobs(__doc__, jobs(), work)
