"""An energy of handwritten digits by maximum likelihood: `python -m data.recipes.digit_energy`.

scikit-learn's 8x8 digits, blurred by a little Gaussian noise so that they have a density in 64 dimensions.
The negatives are MALA chains; rows differ in where these start, in their length and temperature, and in how
fast the energy moves. Notebook 05 reads the study `digit_energy`.
"""

import base64
import math
from functools import cache

import torch
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from data.recipes.study import Jobs, run_jobs
from utils.images import split_digits, to_uint8, to_unit
from utils.metrics.toy import energy_distance
from utils.models.layers import copy_network
from utils.models.mlp import mlp
from utils.samplers import mala, sample
from utils.training import update_ema

VERSION = 1  # of this file: raise it when a change alters results
SEEDS, BATCH, CHAINS, N = range(3), 128, 2000, 360
MARKS, ANNEALING = (20, 200, 1000), 1000  # steps
COMMON = {"blur": 0.2, "replay": True, "fresh": 0.02, "temperature": 1.0, "step_size": 0.02, "chain": 20}
COMMON |= {"lr": 5e-4, "updates": 1500, "penalty": 0.0}
ROWS: dict[str, dict] = {  # what differs from COMMON
    "replay": {},
    "noise start": {"replay": False},
    "cold": {"temperature": 0.01},
    "two steps": {"chain": 2},
    "two steps, fast": {"chain": 2, "lr": 3e-2},
    "two steps, fast, penalised": {"chain": 2, "lr": 3e-2, "penalty": 0.01},
}
MIXTURES = (1, 10, 30)  # components of the densities beside it


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Training and held-out digits, (1437, 64) and (360, 64) in [-1, 1]."""
    return tuple(to_unit(part.images).flatten(1) for part in split_digits(0))


@cache
def gaussian() -> torch.distributions.MultivariateNormal:
    """The Gaussian with the moments of the blurred training digits."""
    x = digits()[0]
    return torch.distributions.MultivariateNormal(x.mean(0), x.T.cov() + COMMON["blur"] ** 2 * torch.eye(64))


class Energy(nn.Module):
    """E(x) = net(x) - log q(x), (n, 64) -> (n,): the Gaussian q of the data, tilted by a network."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.net = mlp([64, width, width, 1], nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(1) - gaussian().log_prob(x)


def strangers(test: Tensor) -> dict[str, Tensor]:
    """Images of the size of `test` that are no digits."""
    square, order = test.view(-1, 8, 8), torch.randperm(len(test), generator=torch.Generator().manual_seed(1))
    return {
        "uniform noise": 2 * torch.rand(test.shape, generator=torch.Generator().manual_seed(2)) - 1,
        "inverted": -test,
        "a quarter turn": square.rot90(1, (1, 2)).flatten(1),
        "two halves": torch.cat([square[:, :4], square[order][:, 4:]], 1).flatten(1),
        "blank": torch.full_like(test, -1.0),
        "mean digit": test.mean(0).expand_as(test),
    }


def log_partition(energy: Energy, generator: torch.Generator, n: int = 200) -> tuple[float, float]:
    """log Z by annealed importance sampling from the Gaussian, and the useful share of its n weights."""
    z = gaussian().mean + torch.randn(n, 64, generator=generator) @ gaussian().scale_tril.T
    log_w = torch.zeros(n)
    for k in range(1, ANNEALING + 1):
        with torch.no_grad():
            log_w -= energy.net(z).squeeze(1) / ANNEALING
        between = lambda z, b=k / ANNEALING: b * energy.net(z).squeeze(1) - gaussian().log_prob(z)  # noqa: E731
        z = sample(between, z, mala(0.02), 1, generator).z
    ess = (log_w.softmax(0).square().sum() * n).reciprocal()
    return (log_w.logsumexp(0) - math.log(n)).item(), ess.item()


def train(settings: dict, generator: torch.Generator) -> tuple[Energy, Tensor, list]:
    """The averaged energy, its replayed chains (CHAINS, 64), and the gap of energies along training."""
    torch.manual_seed(settings["seed"])
    energy = Energy()
    average = copy_network(energy)
    optimiser = torch.optim.Adam(energy.parameters(), settings["lr"], betas=(0.0, 0.99))
    factor = lambda k: min(1, 2 * (1 - k / settings["updates"]))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    kernel = mala(settings["step_size"], settings["temperature"])
    x, history = digits()[0], []
    buffer = torch.randn(CHAINS, 64, generator=generator)
    for update in range(settings["updates"]):
        real = x[torch.randint(len(x), (BATCH,), generator=generator)]
        real = real + settings["blur"] * torch.randn(real.shape, generator=generator)
        chosen = torch.randperm(CHAINS, generator=generator)[:BATCH]
        new = torch.rand(BATCH, 1, generator=generator) < (settings["fresh"] if settings["replay"] else 1)
        start = torch.where(new, torch.randn(BATCH, 64, generator=generator), buffer[chosen])
        buffer[chosen] = fake = sample(energy, start, kernel, settings["chain"], generator).z
        on_real, on_fake = energy(real), energy(fake)
        loss = on_real.mean() - on_fake.mean()
        size = (on_real.square() + on_fake.square()).mean()
        optimiser.zero_grad()
        (loss + settings["penalty"] * size).backward()
        optimiser.step()
        schedule.step()
        update_ema(average, energy, 0.995)
        if update % max(1, settings["updates"] // 60) == 0:
            history.append([update, loss.item(), fake.norm(dim=1).mean().item()])
    return average, buffer, history


def picture(x: Tensor) -> str:
    """40 digits as base64 of their 40 x 64 bytes."""
    return base64.b64encode(to_uint8(x[:40].clamp(-1, 1)).numpy().tobytes()).decode()


def work(settings: dict) -> dict:
    """Train one energy (or fit one mixture), and ask what it has learned."""
    torch.set_flush_denormal(True)
    generator, (train_x, test_x) = torch.Generator().manual_seed(settings["seed"]), digits()
    blurred = [x + COMMON["blur"] * torch.randn(x.shape, generator=generator) for x in (train_x, test_x)]
    if "components" in settings:
        fit = GaussianMixture(settings["components"], reg_covar=1e-3, random_state=settings["seed"])
        fit.fit(blurred[0].double().numpy())
        drawn = torch.from_numpy(fit.sample(N)[0]).float()
        score = fit.score(blurred[1].double().numpy())
        return {"log_likelihood": score, "distance": energy_distance(drawn, blurred[1])}
    energy, buffer, history = train(settings, generator)
    marks, chains, done = {}, torch.randn(N, 64, generator=generator), 0
    for steps in MARKS:  # of the chains after training, from noise
        chains, done = sample(energy, chains, mala(0.02), steps - done, generator).z, steps
        marks[str(steps)] = {"distance": energy_distance(chains, blurred[1]), "picture": picture(chains)}
    log_z, ess = log_partition(energy, generator)
    with torch.no_grad():
        own = energy(blurred[1])
        noise = COMMON["blur"] * torch.randn(test_x.shape, generator=generator)
        others = {name: energy(x + noise) for name, x in strangers(test_x).items()}
    sure = {
        name: roc_auc_score([0] * len(own) + [1] * len(e), torch.cat([own, e]).nan_to_num(0).tolist())
        for name, e in others.items()
    }
    return {
        "history": history,
        "marks": marks,
        "replayed": energy_distance(buffer[:N], blurred[1]),
        "log_likelihood": -own.mean().item() - log_z,
        "ais_ess": ess,
        "train_log_likelihood": -energy(blurred[0]).mean().item() - log_z,
        "floor": energy_distance(blurred[0][:N], blurred[1]),
        "auroc": sure,
    }


def jobs() -> Jobs:
    """The settings of all entries."""
    found = {
        f"{name}, seed {seed}": COMMON | differs | {"row": name, "seed": seed, "version": VERSION}
        for seed in SEEDS
        for name, differs in ROWS.items()
    }
    for k in MIXTURES:
        found[f"mixture of {k}"] = {"components": k, "row": f"mixture of {k}", "seed": 0, "version": VERSION}
    return {"digit_energy": found}


if __name__ == "__main__":
    run_jobs(__doc__, jobs(), work)
