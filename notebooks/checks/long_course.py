"""What notebook 15 goes on with until a long build is right: the course's own functions, without checks."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import torch
from torch import Generator, nn
from torch.nn.functional import softplus

from utils import samplers
from utils.density_ratio import platt, weight_ess
from utils.energy import latent_energy
from utils.metrics.toy import energy_distance
from utils.models.mlp import mlp

T95 = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    6: 2.571,
    7: 2.447,
    8: 2.365,
}  # Student's t, 95 % two-sided, n - 1


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def seed_of(generator: Generator) -> int:
    return int(torch.randint(2**31, (), generator=generator))


def players(latent_dim, generator):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(generator))
        G = mlp([latent_dim, 64, 64, 2], partial(nn.LeakyReLU, 0.2))
        return G, nn.Sequential(mlp([2, 64, 64, 1], partial(nn.LeakyReLU, 0.2)), nn.Flatten(0))


def descend(optimiser, loss):
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def play_round(game, real, generator):
    fake = game.G(torch.randn(len(real), game.latent_dim, generator=generator))
    loss_d = softplus(-game.D(real)).mean() + softplus(game.D(fake.detach())).mean()
    return descend(game.optim_d, loss_d), descend(game.optim_g, softplus(-game.D(fake)).mean())


def train(draw_real, n_steps, generator):
    G, D = players(2, generator)
    optim_g, optim_d = (torch.optim.Adam(net.parameters(), 2e-3, betas=(0.5, 0.99)) for net in (G, D))
    G.latent_dim, game = 2, SimpleNamespace(G=G, D=D, latent_dim=2, optim_g=optim_g, optim_d=optim_d)
    for step in range(n_steps):
        for optimiser in (optim_g, optim_d):
            optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / n_steps)
        play_round(game, draw_real(128, generator), generator)
    return G, D


def ula(energy, z, step_size, generator):
    return samplers.sample(energy, z, samplers.ula(step_size), 1, generator, check=False).z


def mala(energy, z, step_size, generator):
    return samplers.sample(energy, z, samplers.mala(step_size), 1, generator, check=False).z


def hmc(energy, z, step_size, n_leapfrog, generator):
    return samplers.sample(energy, z, samplers.hmc(step_size, n_leapfrog), 1, generator, check=False).z


def leapfrog(energy, z, p, step_size, n_leapfrog):
    evaluate = partial(samplers.energy_and_gradient, energy)
    state = samplers.State(z.detach(), *evaluate(z))
    state, p = samplers.leapfrog(state, p, evaluate, step_size, n_leapfrog)
    return state.z, p


def wrap(net_G, net_D, latent_dim):
    net_G, net_D = frozen(net_G), frozen(net_D)
    layers = net_D[:-1]

    def G(z):
        return net_G(torch.special.erf(z / math.sqrt(2))[..., None, None])

    return G, lambda x: layers(x)[:, 0]


def frozen(net):
    """A frozen copy in evaluation mode."""
    return copy.deepcopy(net).eval().requires_grad_(False)


def weigh(G, d, latent_dim, draw_real, n, generator):
    def draw_fake():
        with torch.no_grad():
            return d(G(torch.randn(n, latent_dim, generator=generator)))

    a, b = platt(d(draw_real(n, generator)).detach(), draw_fake())
    logits = a * draw_fake() + b
    return a, b, logits.logsumexp(0).item() - math.log(n), weight_ess(logits) / n


def interval(before, after):
    """Mean of the paired differences `before - after`, and half the width of its 95 % interval."""
    from scipy import stats  # here, since it takes seconds

    change, half = torch.tensor(before) - torch.tensor(after), float(stats.t.ppf(0.975, len(before) - 1))
    return change.mean().item(), half * change.std().item() / len(before) ** 0.5


def report(G, d, latent_dim, draw_real, seeds, n):
    if len(seeds) < 3:
        raise ValueError(f"{len(seeds)} seeds: no interval stands on fewer than 3")
    slope, intercept, log_Z, ess = weigh(G, d, latent_dim, draw_real, 4000, seeded(seeds[0] + 10_000))
    energy = latent_energy(G, lambda x: slope * d(x) + intercept)
    rows = {arm: [] for arm in ("generator", "control", "ddls", "floor")}
    for seed in seeds:
        g = seeded(seed)
        z, real = torch.randn(n, latent_dim, generator=g), draw_real(n, g)
        moved = samplers.sample(energy, z, samplers.mala(0.3), 40, g).z
        points = {"generator": G(z), "control": G(0.8 * z), "ddls": G(moved), "floor": draw_real(n, g)}
        for arm, x in points.items():
            rows[arm].append(energy_distance(x.detach(), real))
    gain, over = (interval(rows[arm], rows["ddls"]) for arm in ("generator", "control"))
    verdict = "gain" if min(gain[0] - gain[1], over[0] - over[1]) > 0 else "no gain shown"
    verdict = "loss" if gain[0] + gain[1] < 0 else verdict
    found = {"slope": slope, "log_Z": log_Z, "ess": ess, "seeds": list(seeds), "verdict": verdict}
    return found | rows | {"gain": gain, "gain_over_control": over}
