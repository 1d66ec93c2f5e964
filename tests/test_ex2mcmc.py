"""Ex2MCMC and HMC on a GAN's latent space, against a target that is known in closed form."""

import pytest
import torch
from torch import nn

from utils.selection import ex2mcmc, hamiltonian

# p_0 = N(0, 1), G(z) = z, d(x) = a x - b x^2 / 2: then p_t = N(a / (1 + b), 1 / (1 + b))
SLOPE, CURVATURE = 1.5, 2.0


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Same(nn.Module):
    latent_dim = 1

    def forward(self, z):
        return z


def logit(x):
    return (SLOPE * x - 0.5 * CURVATURE * x.square()).sum(1)


METHODS = {
    "ex2mcmc": lambda n, generator, **more: ex2mcmc(
        Same().eval(), logit, n, generator, n_steps=15, n_particles=3, n_moves=2, step_size=0.5, **more
    ),
    "hamiltonian": lambda n, generator, **more: hamiltonian(
        Same().eval(), logit, n, generator, step_size=0.5, n_leapfrog=2, n_steps=20, **more
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_gaussian_target(name):
    n = 20_000
    x = METHODS[name](n, seeded(1), chunk_size=n).x[:, 0].double()
    variance = 1 / (1 + CURVATURE)
    assert abs(x.mean() - SLOPE * variance) < 5 * (variance / n) ** 0.5
    assert abs(x.var() - variance) < 5 * variance * (2 / n) ** 0.5


def test_cost_is_counted():
    samples = METHODS["ex2mcmc"](7, seeded())
    assert samples.forwards == 7 * (1 + 15 * 2 + 1)  # the start, the pools, the images at the end
    assert samples.gradients == 7 * 15 * (1 + 2)  # one after each jump, one for each move
    assert METHODS["hamiltonian"](7, seeded()).gradients == 7 * (1 + 20 * 2)


@pytest.mark.parametrize("name", METHODS)
def test_chunks_do_not_matter_and_the_seed_decides(name):
    first, second = (METHODS[name](9, seeded(3), chunk_size=size).x for size in (1000, 4))
    assert torch.allclose(first, second)
    assert not torch.allclose(first, METHODS[name](9, seeded(4)).x)


@pytest.mark.parametrize(
    "settings", [{"n_steps": 0}, {"n_particles": 1}, {"n_moves": 0}, {"step_size": -1.0}]
)
def test_bad_settings_are_named(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        ex2mcmc(Same().eval(), logit, 5, seeded(), **settings)
