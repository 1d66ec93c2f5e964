"""The kernels against closed forms: what they leave, where they go, what they may not touch."""

import warnings
import weakref
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Normal

from utils.energy import Prior, latent_energy
from utils.samplers import (
    State,
    adapt_step_size,
    energy_and_gradient,
    hmc,
    leapfrog,
    log_acceptance,
    mala,
    sample,
    ula,
    underdamped,
)
from utils.selection import ex2mcmc

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
SCALE = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
N = 20_000  # chains of a statistical test: a variance is known to 1 %


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(z: torch.Tensor) -> torch.Tensor:
    """Energy of N(MEAN, diag(SCALE^2)), (n, 3) -> (n,)."""
    return 0.5 * ((z - MEAN) / SCALE).square().sum(1)


def quartic(z: torch.Tensor) -> torch.Tensor:
    """A non-Gaussian energy of latents of any shape, (n, *latent) -> (n,)."""
    z = z.flatten(1)
    return (0.25 * z**4 - 0.3 * z).sum(1) + 0.1 * z[:, 0] * z[:, -1]


def gaussian_starts(seed: int = 1) -> torch.Tensor:
    return torch.randn(N, 3, dtype=torch.float64, generator=seeded(seed))


def assert_moments(z: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Mean, variance and zero correlation of (n, d) draws, each within five standard errors."""
    n = len(z)
    assert ((z.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all(), z.mean(0)
    assert ((z.var(0) / variance - 1).abs() < 5 * (2 / n) ** 0.5).all(), z.var(0) / variance
    correlation = torch.corrcoef(z.T) - torch.eye(z.shape[1], dtype=z.dtype)
    assert correlation.abs().max() < 5 / n**0.5, correlation


# --- temperature 0


def test_temperature_zero_and_zero_gradient_leave_z_still():
    z0 = torch.randn(5, 4, generator=seeded())
    chain = sample(lambda z: (z * 0).sum(1), z0, ula(0.3, temperature=0), 20, seeded())
    assert torch.equal(chain.z, z0)
    assert torch.equal(chain.acceptance, torch.ones(5))


def test_temperature_zero_is_gradient_descent_on_a_quadratic():
    curvature = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)
    z0 = torch.randn(4, 3, dtype=torch.float64, generator=seeded())
    step_size, n_steps = 0.2, 7
    chain = sample(
        lambda z: 0.5 * (curvature * (z - MEAN) ** 2).sum(1),
        z0, ula(step_size, temperature=0), n_steps, seeded(),
    )  # fmt: skip
    expected = MEAN + (1 - 0.5 * step_size * curvature) ** n_steps * (z0 - MEAN)
    torch.testing.assert_close(chain.z, expected, rtol=1e-12, atol=1e-12)


# --- stationary laws


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("step_size", [0.5, 0.1])
def test_ula_has_its_known_biased_variance(step_size, temperature):
    # z' = (1 - eps / (2 s^2)) z + sqrt(eps T) n is an AR(1) process of variance T s^2 / (1 - eps / (4 s^2))
    starts = MEAN + temperature**0.5 * SCALE * gaussian_starts()
    chain = sample(gaussian, starts, ula(step_size, temperature), 120, seeded())
    variance = temperature * SCALE**2 / (1 - step_size / (4 * SCALE**2))
    assert_moments(chain.z, MEAN, variance)
    # the test above could not pass for an unbiased sampler: the bias is visible
    assert (variance / (temperature * SCALE**2) - 1).max() > 10 * (2 / N) ** 0.5


def test_bias_of_ula_shrinks_with_the_step_size():
    starts = MEAN + SCALE * gaussian_starts()  # exact draws; the first and shortest scale is looked at
    biases = []
    for step_size in (0.5, 0.25, 0.125):
        chain = sample(gaussian, starts, ula(step_size), 40, seeded())
        biases.append((chain.z.var(0) / SCALE**2 - 1)[0].item())
    assert biases[0] > 1.8 * biases[1] > 1.8 * 1.8 * biases[2] > 0.2  # 1, 1/3, 1/7 in theory


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("step_size", [0.5, 0.9])
def test_mala_is_exact_where_ula_is_not(step_size, temperature):
    chain = sample(gaussian, gaussian_starts(), mala(step_size, temperature), 120, seeded())
    assert_moments(chain.z, MEAN, temperature * SCALE**2)
    biased = sample(gaussian, gaussian_starts(), ula(step_size, temperature), 120, seeded())
    with pytest.raises(AssertionError):
        assert_moments(biased.z, MEAN, temperature * SCALE**2)


def test_mala_samples_a_mixture():
    weights, means, scales = np.array([0.3, 0.7]), np.array([-1.5, 1.5]), np.array([0.5, 0.8])

    def energy(z):
        components = Normal(torch.tensor(means), torch.tensor(scales)).log_prob(z)  # (n, 1) -> (n, 2)
        return -torch.logsumexp(components + torch.tensor(weights).log(), 1)

    def cdf(x):
        return (weights * stats.norm.cdf(x[:, None], means, scales)).sum(1)

    z0 = 2 * torch.randn(4000, 1, dtype=torch.float64, generator=seeded(1))
    exact = sample(energy, z0, mala(0.9), 300, seeded())
    biased = sample(energy, z0, ula(0.9), 300, seeded())
    assert stats.kstest(exact.z[:, 0].numpy(), cdf).pvalue > 0.01
    assert stats.kstest(biased.z[:, 0].numpy(), cdf).pvalue < 1e-6


# --- the Metropolis-Hastings correction


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
def test_log_acceptance_from_proposal_densities(temperature):
    z, proposed = torch.randn(2, 6, 2, 3, dtype=torch.float64, generator=seeded())
    here, there = (State(x, *energy_and_gradient(quartic, x), None) for x in (z, proposed))
    step_size = 0.4

    def log_transition(start, end):
        law = Normal(start.z - 0.5 * step_size * start.gradient, (step_size * temperature) ** 0.5)
        return law.log_prob(end.z).sum((1, 2))

    expected = (here.energy - there.energy) / temperature
    expected = expected + log_transition(there, here) - log_transition(here, there)
    actual = log_acceptance(here, there, step_size, temperature)
    assert expected.abs().min() > 1e-3
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mala_acceptance_is_its_double_integral(temperature):
    step_size, scale = 1.5, temperature**0.5  # the target of z^2 / 2 at temperature T is N(0, T)
    x = np.linspace(-8, 8, 1601) * scale
    here, there = x[:, None], x[None, :]
    noise = (step_size * temperature) ** 0.5
    forth = stats.norm.logpdf(here, 0, scale) + stats.norm.logpdf(there, here * (1 - step_size / 2), noise)
    expected = np.exp(np.minimum(forth, forth.T)).sum() * (x[1] - x[0]) ** 2
    z0 = scale * torch.randn(N, 1, dtype=torch.float64, generator=seeded(1))  # in equilibrium already
    chain = sample(lambda z: 0.5 * z.square().sum(1), z0, mala(step_size, temperature), 30, seeded())
    assert 0.7 < expected < 0.95
    assert chain.acceptance.mean().item() == pytest.approx(expected, abs=0.003)


def test_mala_acceptance_tends_to_one():
    z0 = MEAN + SCALE * gaussian_starts()[:2000]
    rejected = [
        1 - sample(gaussian, z0, mala(step_size), 50, seeded()).acceptance.mean().item()
        for step_size in (0.8, 0.08, 0.008)
    ]
    # the rejection rate is of the order eps^(3/2): about 1/30 at a tenth of the step
    assert rejected[0] > 10 * rejected[1] > 100 * rejected[2]
    assert rejected[2] < 1e-3


def test_a_rejected_chain_repeats_its_state():
    states = []
    z0 = torch.randn(300, 2, dtype=torch.float64, generator=seeded())
    chain = sample(quartic, z0, mala(1.5), 12, seeded(), callback=lambda _, state: states.append(state))
    for before, after in pairwise(states):
        stayed = ~after.accepted
        assert 0 < stayed.sum() < len(z0)
        for old, new in zip(before[:3], after[:3], strict=True):  # z, energy and gradient
            assert torch.equal(old[stayed], new[stayed])
            assert (old[~stayed] != new[~stayed]).flatten(1 if old.ndim > 1 else 0).any(-1).all()
        value, gradient = energy_and_gradient(quartic, after.z)  # energy and gradient belong to z
        assert torch.equal(after.energy, value) and torch.equal(after.gradient, gradient)
    share = torch.stack([state.accepted for state in states[1:]]).double().mean(0)
    torch.testing.assert_close(chain.acceptance.double(), share)
    assert torch.equal(chain.divergences, torch.zeros(300, dtype=torch.long))


@pytest.mark.parametrize("kernel", [mala(1.5), hmc(0.9, 3)])
def test_acceptance_probability_is_the_acceptance_with_less_noise(kernel):
    chain = sample(gaussian, MEAN + SCALE * gaussian_starts(), kernel, 30, seeded())
    share, probability = chain.acceptance.mean(), chain.acceptance_probability.mean()
    assert 0.2 < share < 0.9 and share == pytest.approx(probability.item(), abs=0.005)
    assert chain.acceptance_probability.var() < 0.8 * chain.acceptance.var()


# --- Hamiltonian Monte Carlo


def evaluate(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return energy_and_gradient(quartic, z)


def phase_points(n: int = 20) -> tuple[State, torch.Tensor]:
    """Places and momenta, (n, 2, 3)."""
    z, momentum = torch.randn(2, n, 2, 3, dtype=torch.float64, generator=seeded())
    return State(z, *evaluate(z), torch.ones(n, dtype=torch.bool)), momentum


def hamiltonian(state: State, momentum: torch.Tensor) -> torch.Tensor:
    return state.energy + 0.5 * momentum.flatten(1).square().sum(1)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_one_leapfrog_step_is_mala(temperature):
    # the same noise gives the same proposal, and the two acceptance ratios are one formula
    step_size = 0.6
    state, noise = phase_points()
    momentum = temperature**0.5 * noise
    proposal, end = leapfrog(state, momentum, evaluate, step_size**0.5, 1)
    expected = state.z - 0.5 * step_size * state.gradient + (step_size * temperature) ** 0.5 * noise
    torch.testing.assert_close(proposal.z, expected, rtol=1e-12, atol=1e-12)
    log_ratio = (hamiltonian(state, momentum) - hamiltonian(proposal, end)) / temperature
    assert log_ratio.abs().min() > 1e-3
    torch.testing.assert_close(log_ratio, log_acceptance(state, proposal, step_size, temperature))
    chains = [
        sample(quartic, state.z, kernel, 40, seeded(3), thin=1)
        for kernel in (hmc(step_size**0.5, 1, temperature), mala(step_size, temperature))
    ]
    assert 0.3 < chains[0].acceptance.mean() < 0.95
    for a, b in zip(*chains, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_leapfrog_is_reversible():
    start, momentum = phase_points()
    there, p = leapfrog(start, momentum, evaluate, 0.1, 25)
    assert (there.z - start.z).abs().max() > 1
    back, q = leapfrog(there, -p, evaluate, 0.1, 25)
    torch.testing.assert_close(back.z, start.z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(-q, momentum, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_leapfrog", [1, 4])
def test_leapfrog_keeps_volume(n_leapfrog):
    def differentiable(z):  # energy and gradient, with a graph behind them
        z = z if z.requires_grad else z.detach().requires_grad_(True)
        value = quartic(z)
        return value, torch.autograd.grad(value.sum(), z, create_graph=True)[0]

    def move(zp):  # our map of (z, p) in six dimensions onto itself
        z, p = zp[None, :3], zp[None, 3:]
        end, p = leapfrog(State(z, *differentiable(z)), p, differentiable, 0.3, n_leapfrog)
        return torch.cat([end.z, p], 1)[0]

    for zp in torch.randn(5, 6, dtype=torch.float64, generator=seeded()):
        jacobian = torch.autograd.functional.jacobian(move, zp)
        assert (jacobian - torch.eye(6)).abs().max() > 0.2
        assert torch.linalg.det(jacobian).item() == pytest.approx(1, abs=1e-9)


def test_leapfrog_keeps_the_energy_to_second_order():
    start, momentum = phase_points(200)
    errors = []
    for step_size in (0.1, 0.05, 0.025):
        end = leapfrog(start, momentum, evaluate, step_size, round(1 / step_size))
        errors.append((hamiltonian(*end) - hamiltonian(start, momentum)).square().mean().sqrt().item())
    assert errors[0] > 1e-3
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(4, rel=0.15)


def test_leapfrog_follows_the_circle_of_a_quadratic_energy():
    # E = z^2/2: the exact flow is a rotation, z(t) = z cos t + p sin t
    z, momentum = torch.randn(2, 5, 1, dtype=torch.float64, generator=seeded())
    energy = lambda z: 0.5 * z.square().sum(1)  # noqa: E731
    state = State(z, *energy_and_gradient(energy, z), torch.ones(5, dtype=torch.bool))
    end, p = leapfrog(state, momentum, lambda z: energy_and_gradient(energy, z), 1e-3, 1500)
    t = torch.tensor(1.5, dtype=torch.float64)
    torch.testing.assert_close(end.z, z * t.cos() + momentum * t.sin(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(p, momentum * t.cos() - z * t.sin(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize(("step_size", "n_leapfrog"), [(0.4, 5), (0.8, 3)])
def test_hmc_has_the_moments_of_its_target(step_size, n_leapfrog, temperature):
    chain = sample(gaussian, gaussian_starts(), hmc(step_size, n_leapfrog, temperature), 40, seeded())
    assert 0.2 < chain.acceptance.mean() < 0.99  # else the correction would not be tested
    assert_moments(chain.z, MEAN, temperature * SCALE**2)


def test_hmc_samples_what_is_not_gaussian():
    def energy(z):
        return 0.25 * z.pow(4).sum(1) - 0.3 * z.sum(1)

    grid = np.linspace(-6, 6, 20_001)
    mass = np.cumsum(np.exp(-(0.25 * grid**4) + 0.3 * grid))
    z0 = torch.randn(4000, 1, dtype=torch.float64, generator=seeded(1))
    chain = sample(energy, z0, hmc(0.7, 3), 40, seeded())
    assert chain.acceptance.mean() < 0.97
    assert stats.kstest(chain.z[:, 0].numpy(), lambda x: np.interp(x, grid, mass / mass[-1])).pvalue > 0.01


@pytest.mark.parametrize(
    ("kernel", "gradients"), [(ula(0.1), 1), (mala(0.1), 1), (hmc(0.1, 7), 7), (underdamped(0.1, 1.0), 1)]
)
def test_a_step_costs_its_gradients(kernel, gradients):
    calls = []

    def energy(z):
        calls.append(torch.is_grad_enabled())
        return quartic(z)

    sample(energy, torch.ones(3, 2), kernel, 4, seeded())
    assert sum(calls) == 1 + 4 * gradients
    assert calls.count(False) == 3  # the check of the start


# --- underdamped Langevin


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize(("step_size", "friction"), [(0.8, 0.5), (0.8, 4.0), (0.4, 1.0)])
def test_underdamped_has_its_known_variances(step_size, friction, temperature):
    # BAOAB on a Gaussian: z has no bias at any step, p has T (1 - h^2 / (4 s^2)), and the two no correlation
    states = []
    starts = MEAN + temperature**0.5 * SCALE * gaussian_starts()
    sample(
        gaussian, starts, underdamped(step_size, friction, temperature), 60, seeded(),
        callback=lambda _, state: states.append(state),
    )  # fmt: skip
    last = states[-1]
    assert_moments(last.z, MEAN, temperature * SCALE**2)
    momentum_variance = temperature * (1 - step_size**2 / (4 * SCALE**2))
    assert_moments(last.momentum, torch.zeros(3, dtype=torch.float64), momentum_variance)
    for z, p in zip((last.z - MEAN).T, last.momentum.T, strict=True):
        assert torch.corrcoef(torch.stack([z, p]))[0, 1].abs() < 5 / N**0.5
    if step_size == 0.8:  # the bias of p is visible: a sampler without it would fail
        assert (momentum_variance / temperature - 1).abs().max() > 10 * (2 / N) ** 0.5


def test_underdamped_from_rest_and_without_gradient_diffuses_as_it_should():
    # E = 0: p is an Ornstein-Uhlenbeck process from 0, of variance T (1 - e^{-2gt}) after a time t
    state = []
    flat = lambda z: (z * 0).sum(1)  # noqa: E731
    z0 = torch.zeros(N, 1, dtype=torch.float64)
    chain = sample(
        flat, z0, underdamped(0.3, 0.7, 2.0), 5, seeded(), callback=lambda _, s: state.append(s.momentum)
    )
    variance = 2 * (1 - np.exp(-2 * 0.7 * 0.3 * 5))
    assert state[-1].var().item() == pytest.approx(variance, rel=5 * (2 / N) ** 0.5)
    assert torch.equal(state[0], torch.zeros_like(z0)) and chain.z.var() > 0.5


def test_bias_of_underdamped_is_of_second_order():
    # the energy log cosh 2z has curvature at most 4; E[z^2] by quadrature
    def energy(z):
        return torch.log(torch.cosh(2 * z)).sum(1)

    grid = torch.linspace(-15, 15, 30_001, dtype=torch.float64)[:, None]
    density = (-energy(grid)).exp()
    exact = (density * grid[:, 0] ** 2).sum() / density.sum()
    uniform = torch.rand(100_000, generator=seeded(), dtype=torch.float64)
    start = grid[torch.searchsorted(density.cumsum(0) / density.sum(), uniform).clamp_max(30_000)]
    errors = []
    for step_size in (0.9, 0.45):
        chain = sample(energy, start, underdamped(step_size, 1.0), round(20 / step_size), seeded(2), thin=1)
        errors.append((chain.path[round(10 / step_size) :].square().mean() / exact - 1).item())
    assert errors[0] > 0.04  # visible
    assert errors[0] > 3 * abs(errors[1])  # a bias of first order would halve


def test_underdamped_at_temperature_zero_is_a_damped_oscillator():
    # dz = p dt, dp = -(z + g p) dt from rest: z(t) = e^{-gt/2} (cos wt + (g / 2w) sin wt), w^2 = 1 - g^2/4
    g, t = 0.6, 3.0
    w = (1 - g**2 / 4) ** 0.5
    exact = np.exp(-g * t / 2) * (np.cos(w * t) + g / (2 * w) * np.sin(w * t))
    z0 = torch.ones(1, 1, dtype=torch.float64)
    errors = [
        sample(
            lambda z: 0.5 * z.square().sum(1), z0, underdamped(h, g, temperature=0), round(t / h), seeded()
        ).z.item()
        - exact
        for h in (0.1, 0.05)
    ]
    assert abs(errors[0]) < 0.01 and errors[0] / errors[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("friction", [0.0, -1.0, float("nan"), float("inf")])
def test_underdamped_needs_friction(friction):
    with pytest.raises(ValueError, match="friction"):
        underdamped(0.1, friction)


# --- the warm-up


@pytest.mark.parametrize("make", [mala, partial(hmc, n_leapfrog=1)])
@pytest.mark.parametrize("target", [0.57, 0.8])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_warm_up_reaches_the_wished_acceptance(scale, target, make):
    def energy(z):
        return 0.5 * (z / scale).square().sum(1)

    z0 = scale * torch.randn(200, 10, dtype=torch.float64, generator=seeded())
    step_size, z = adapt_step_size(energy, z0, make, 300, seeded(1), target)
    chain = sample(energy, z, make(step_size), 100, seeded(2))
    assert chain.acceptance.mean().item() == pytest.approx(target, abs=0.03)
    assert z.std().item() == pytest.approx(scale, rel=0.15)


def test_adapted_steps_scale_as_theory_says():
    # of MALA: with the square of the length; and with the dimension to the power -1/3
    def adapted(scale, dim):
        z0 = scale * torch.randn(400, dim, dtype=torch.float64, generator=seeded())
        return adapt_step_size(lambda z: 0.5 * (z / scale).square().sum(1), z0, mala, 400, seeded(1))[0]

    assert adapted(7.0, 20) / adapted(1.0, 20) == pytest.approx(49, rel=0.05)
    slope = np.log(adapted(1.0, 400) / adapted(1.0, 25)) / np.log(16)
    assert slope == pytest.approx(-1 / 3, abs=0.05)


def test_the_warm_up_needs_a_kernel_that_rejects_and_a_target():
    with pytest.raises(ValueError, match="make_kernel"):
        adapt_step_size(quartic, torch.ones(3, 2), ula, 10, seeded())
    with pytest.raises(ValueError, match="target=1"):
        adapt_step_size(quartic, torch.ones(3, 2), mala, 10, seeded(), target=1.0)


# --- one chain, alone or among others


def hmc_3(step_size: float, temperature: float = 1.0):
    """HMC of three leapfrog steps, with the arguments of ula and mala."""
    return hmc(step_size**0.5 if step_size > 0 else step_size, 3, temperature)


def underdamped_1(step_size: float, temperature: float = 1.0):
    """Underdamped Langevin of friction 1, with the arguments of ula and mala."""
    return underdamped(step_size**0.5 if step_size > 0 else step_size, 1.0, temperature)


KERNELS = [ula, mala, hmc_3, underdamped_1]
ALL = [*KERNELS, ex2mcmc]


def reference_chain(z0, step_size, temperature, n_steps, seed, metropolis):
    """The same chain in numpy, each start alone, from the same stream of random numbers."""
    generator = seeded(seed)
    z = z0.numpy().copy()

    def energy(x):
        return (0.25 * x**4 - 0.3 * x).sum() + 0.1 * x[0] * x[-1]

    def gradient(x):
        g = x**3 - 0.3
        g[0] += 0.1 * x[-1]
        g[-1] += 0.1 * x[0]
        return g

    for _ in range(n_steps):
        noise = torch.randn(z.shape, generator=generator, dtype=torch.float64).numpy()
        uniform = torch.rand(len(z), generator=generator).numpy() if metropolis else np.zeros(len(z))
        for i, x in enumerate(z):
            new = x - step_size / 2 * gradient(x) + np.sqrt(step_size * temperature) * noise[i]
            back = ((x - new + step_size / 2 * gradient(new)) ** 2).sum()
            log_ratio = energy(x) - energy(new) - back / (2 * step_size)
            log_ratio = log_ratio / temperature + (noise[i] ** 2).sum() / 2
            if not metropolis or uniform[i] < np.exp(log_ratio):
                z[i] = new
    return torch.tensor(z)


@pytest.mark.parametrize("kernel", [ula, mala])
def test_a_batch_is_as_many_single_chains(kernel):
    z0 = torch.randn(6, 3, dtype=torch.float64, generator=seeded(2))
    chain = sample(quartic, z0, kernel(0.6, 0.7), 15, seeded(5))
    expected = reference_chain(z0, 0.6, 0.7, 15, 5, metropolis=kernel is mala)
    torch.testing.assert_close(chain.z, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", ALL)
def test_same_seed_same_chain(kernel):
    z0 = torch.randn(8, 3, generator=seeded())
    first, again, other = (sample(quartic, z0, kernel(0.2), 10, seeded(s), thin=1) for s in (4, 4, 5))
    assert torch.equal(first.path, again.path)
    assert not torch.equal(first.z, other.z)


@pytest.mark.parametrize("kernel", ALL)
def test_global_random_state_is_not_used(kernel):
    before = torch.get_rng_state()
    sample(quartic, torch.ones(3, 2), kernel(0.2), 5, seeded())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_do_not_change_the_chain(kernel, chunk_size):
    z0 = torch.randn(8, 3, dtype=torch.float64, generator=seeded())
    sizes = set()

    def energy(z):
        sizes.add(len(z))
        return quartic(z)

    whole = sample(quartic, z0, kernel(0.3), 20, seeded(), thin=4)
    parts = sample(energy, z0, kernel(0.3), 20, seeded(), thin=4, chunk_size=chunk_size)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert max(sizes) == min(chunk_size, 8 * 4 if kernel is ex2mcmc else 8)  # a pool has four newcomers


# --- path, callback, shapes, types


@pytest.mark.parametrize("shape", [(7, 3, 4), (2, 1), (1, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", ALL)
def test_shapes_and_types(kernel, dtype, shape):
    z0 = torch.randn(shape, dtype=dtype, generator=seeded())
    chain = sample(quartic, z0, kernel(0.1), 6, seeded(), thin=3)
    assert chain.z.shape == shape and chain.path.shape == (3, *shape)
    assert chain.energy.shape == chain.acceptance.shape == chain.divergences.shape == shape[:1]
    assert chain.acceptance_probability.shape == shape[:1] and chain.divergences.dtype == torch.long
    assert chain.z.dtype == chain.energy.dtype == chain.path.dtype == dtype
    torch.testing.assert_close(chain.energy, quartic(chain.z))


def test_latents_of_any_shape_are_one_vector():
    z0 = torch.randn(50, 12, dtype=torch.float64, generator=seeded())
    flat = sample(quartic, z0, mala(0.5), 20, seeded())
    shaped = sample(quartic, z0.view(50, 3, 4), mala(0.5), 20, seeded())
    assert 0 < flat.acceptance.mean() < 1
    assert torch.equal(flat.acceptance, shaped.acceptance)
    torch.testing.assert_close(flat.z, shaped.z.flatten(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n_steps", "thin", "kept"), [(10, 1, 11), (10, 3, 4), (10, 20, 1), (0, 1, 1)])
def test_path_and_callback(n_steps, thin, kept):
    seen = {}
    z0 = torch.randn(4, 2, generator=seeded())
    chain = sample(
        quartic,
        z0,
        mala(0.3),
        n_steps,
        seeded(),
        thin=thin,
        callback=lambda k, state: seen.update({k: state}),
    )
    assert list(seen) == list(range(n_steps + 1))
    assert chain.path.shape == (kept, 4, 2)
    assert torch.equal(chain.path[0], z0)
    assert torch.equal(seen[n_steps].z, chain.z)
    for i, z in enumerate(chain.path):
        assert torch.equal(z, seen[i * thin].z)


def test_no_path_unless_asked_and_no_steps_stay_at_the_start():
    z0 = torch.randn(4, 2, generator=seeded())
    chain = sample(quartic, z0, mala(0.3), 0, seeded())
    assert chain.path is None
    assert torch.equal(chain.z, z0) and torch.equal(chain.acceptance, torch.ones(4))
    torch.testing.assert_close(chain.energy, quartic(z0))


def test_the_start_is_not_written_to():
    z0 = torch.randn(4, 2, generator=seeded())
    before = z0.clone()
    sample(quartic, z0, ula(0.3), 5, seeded())
    assert torch.equal(z0, before)


# --- what belongs to the caller


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("trainable", [True, False])
def test_parameters_are_left_alone(network, kernel, trainable):
    network.requires_grad_(trainable)
    network[0].weight.grad = torch.full((8, 3), 7.0)
    before = [p.clone() for p in network.parameters()]
    chain = sample(lambda z: network(z).squeeze(1), torch.randn(5, 3), kernel(0.1), 5, seeded(), thin=1)
    assert all(p.requires_grad == trainable for p in network.parameters())
    assert torch.equal(network[0].weight.grad, torch.full((8, 3), 7.0))
    assert all(p.grad is None for p in list(network.parameters())[1:])
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    for tensor in chain:
        assert tensor.grad_fn is None and not tensor.requires_grad


@pytest.mark.parametrize("kernel", ALL)
def test_a_start_that_requires_a_gradient_keeps_it_and_gets_none(kernel):
    z0 = torch.randn(5, 3, generator=seeded(), requires_grad=True)
    chain = sample(quartic, z0, kernel(0.1), 5, seeded())
    assert z0.requires_grad and z0.is_leaf and z0.grad is None
    assert chain.z.grad_fn is None and not chain.z.requires_grad


def test_callback_states_are_detached():
    def callback(step, state):
        assert all(tensor.grad_fn is None and not tensor.requires_grad for tensor in state)

    sample(quartic, torch.ones(3, 2, requires_grad=True), mala(0.1), 3, seeded(), callback=callback)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kernel", KERNELS)
def test_grad_mode_of_the_caller(network, kernel, mode):
    z0 = torch.randn(5, 3, generator=seeded())
    expected = sample(lambda z: network(z).squeeze(1), z0, kernel(0.1), 5, seeded())
    with mode():
        state = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        start = z0.clone()  # under inference_mode, a tensor that cannot require a gradient
        chain = sample(lambda z: network(z).squeeze(1), start, kernel(0.1), 5, seeded())
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == state
        with pytest.raises(ValueError, match="energy"):
            sample(lambda z: z, start, kernel(0.1), 5, seeded())
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == state
    assert torch.equal(chain.z, expected.z)


class Watched(torch.autograd.Function):
    """The identity, with a graph node that the test can watch."""

    nodes: list = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, z):
        Watched.nodes.append(weakref.ref(ctx))
        return z.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.mark.parametrize("kernel", KERNELS)
def test_memory_does_not_grow_with_the_steps(kernel):
    alive, states, state_fields = {}, [], []
    Watched.nodes.clear()

    def callback(step, state):
        state_fields.append(state._fields)
        states.extend(weakref.ref(tensor) for tensor in state)
        if step in (10, 200):
            alive[step] = [sum(ref() is not None for ref in refs) for refs in (Watched.nodes, states)]

    sample(
        lambda z: quartic(Watched.apply(z)), torch.ones(4, 2), kernel(0.1), 200, seeded(), callback=callback
    )
    assert len(Watched.nodes) >= 201
    assert alive[10] == alive[200]
    assert alive[200][0] == 0  # no graph is left behind
    assert alive[200][1] <= 2 * len(state_fields[0])  # this state and at most the one before


# --- errors


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "settings",
    [{"step_size": v} for v in (0, -1.0, float("nan"), float("inf"))]
    + [{"temperature": v} for v in (-0.1, float("nan"), float("inf"))],
)
def test_bad_settings_are_named(kernel, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        kernel(**{"step_size": 0.1} | settings)


def test_a_metropolis_step_needs_a_temperature():
    with pytest.raises(ValueError, match="temperature"):
        mala(0.1, temperature=0)
    with pytest.raises(ValueError, match="temperature"):
        hmc(0.1, 3, temperature=0)


@pytest.mark.parametrize("n_leapfrog", [0, -1, 1.5])
def test_hmc_needs_leapfrog_steps(n_leapfrog):
    with pytest.raises(ValueError, match="n_leapfrog"):
        hmc(0.1, n_leapfrog)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("z0", torch.randn(5)),
        ("z0", torch.zeros(0, 3)),
        ("z0", torch.ones(5, 3, dtype=torch.long)),
        ("z0", np.zeros((5, 3), np.float32)),
        ("z0", [[0.0, 1.0]]),
        ("n_steps", -1),
        ("n_steps", 1e2),
        ("generator", None),
        ("generator", 0),
        ("thin", 0),
        ("chunk_size", 0),
        ("chunk_size", -2),
    ],
)
def test_bad_arguments_are_named(name, value):
    arguments = {"z0": torch.ones(5, 3), "n_steps": 2, "generator": seeded()} | {name: value}
    with pytest.raises(ValueError, match=name):
        sample(quartic, kernel=ula(0.1), **arguments)


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        (lambda z: z, r"energy returned shape \(5, 3\)"),
        (lambda z: z.sum(), r"energy returned shape \(\)"),
        (lambda z: z.sum(1, keepdim=True), r"energy returned shape \(5, 1\)"),
        (lambda z: z.detach().sum(1), "energy has no gradient"),
        (lambda z: torch.zeros(len(z)), "energy has no gradient"),
    ],
)
def test_a_bad_energy_is_named(energy, message):
    with pytest.raises(ValueError, match=message):
        sample(energy, torch.ones(5, 3), ula(0.1), 2, seeded())


@pytest.mark.parametrize(
    "energy",
    [
        lambda z: z.log().sum(1),  # nan for the one negative chain
        lambda z: z.sum(1) / (z[:, 0] > 0),  # infinite for it
        lambda z: (z + 1).sqrt().sum(1),  # its value is finite, its gradient is not
    ],
)
def test_a_start_that_is_not_finite_is_an_error_with_a_count(energy):
    z0 = torch.ones(5, 3)
    z0[2] = -1
    z0[2, 1:] = 0
    with pytest.raises(FloatingPointError, match=r"energy.*z0 for 1 of 5 chains"):
        sample(energy, z0, ula(0.1), 2, seeded())


def half_line(z: torch.Tensor) -> torch.Tensor:
    """Energy of exp(-z) on z > 0, (n, 1) -> (n,); nan outside, minus infinity below -0.5."""
    place = z.sum(1)
    below = place < -0.5
    return torch.where(below, -torch.inf, place + 0 * place.where(~below, 1.0).sqrt())


@pytest.mark.parametrize("kernel", [mala(0.5), hmc(0.5, 3)])
def test_what_is_not_finite_is_rejected_counted_and_the_law_stays(kernel):
    # the wall is met all the time; the chains must keep the exponential law, exactly
    z0 = -torch.rand(6000, 1, dtype=torch.float64, generator=seeded(1)).log()
    with warnings.catch_warnings(action="error"):
        chain = sample(half_line, z0, kernel, 100, seeded())
    assert stats.kstest(chain.z[:, 0].numpy(), stats.expon.cdf).pvalue > 0.01
    assert 0.05 < chain.divergences.double().mean() / 100 < 0.7
    assert (chain.acceptance + chain.divergences / 100 <= 1 + 1e-5).all()
    assert (chain.energy > 0).all() and chain.acceptance_probability.isfinite().all()


@pytest.mark.parametrize("kernel", [mala(0.5), hmc(0.7, 2)])
def test_one_bad_chain_leaves_the_others_alone(kernel):
    def energy(z):  # beyond 20 it is finite at one place only
        outside = (z[:, 0] > 20) & (z != 100).any(1)
        return quartic(z * (z[:, :1] < 20)) + torch.where(outside, torch.inf, 0.0)

    z0 = torch.randn(5, 2, dtype=torch.float64, generator=seeded())
    start = z0.clone()
    start[1] = 100
    chain, alone = (sample(energy, z, kernel, 20, seeded(3)) for z in (start, z0))
    assert torch.equal(chain.z[1], start[1]) and chain.acceptance[1] == 0
    assert chain.divergences.tolist() == [0, 20, 0, 0, 0]
    torch.testing.assert_close(chain.z[[0, 2, 3, 4]], alone.z[[0, 2, 3, 4]])
    assert alone.acceptance.mean() > 0.3


@pytest.mark.parametrize("kernel", [ula(0.4), underdamped(0.6, 1.0)])
def test_chains_that_diverge_are_frozen_and_named_and_the_others_go_on(kernel):
    # quartic energies throw a chain out that starts far away; near ones stay
    z0 = torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    z0[[1, 4]] = torch.tensor([[30.0, -40.0], [50.0, 60.0]], dtype=torch.float64)
    states = []
    with pytest.warns(RuntimeWarning, match=r"2 of 6 chains diverged.*lower step_size") as told:
        chain = sample(quartic, z0, kernel, 50, seeded(3), callback=lambda _, state: states.append(state))
    assert len(told) == 1
    assert chain.divergences.tolist() == [0, 1, 0, 0, 1, 0]
    assert chain.z.isfinite().all() and chain.energy.isfinite().all()
    assert (chain.acceptance[[1, 4]] < 0.3).all() and (chain.acceptance[[0, 2, 3, 5]] == 1).all()
    torch.testing.assert_close(states[-1].z[[1, 4]], states[20].z[[1, 4]], rtol=0, atol=0)
    assert (states[-1].z[0] != states[-2].z[0]).all()
    near = [0, 2, 3, 5]
    alone = z0.clone()
    alone[[1, 4]] = 0  # the same noise, and no chain that diverges
    torch.testing.assert_close(chain.z[near], sample(quartic, alone, kernel, 50, seeded(3)).z[near])


# --- an energy that is no function of z alone


class Noisy(nn.Module):
    """G with fresh noise in each call."""

    latent_dim = 2

    def forward(self, z):
        return z + 0.1 * torch.randn(z.shape)


def plain(x: torch.Tensor) -> torch.Tensor:
    return x @ x.new_tensor([3.0, 0.0])


def batch_norm(training: bool) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 1), nn.Flatten(0)).train(training)


class Holder:
    """A method around a network, which nobody can see from outside."""

    def __init__(self, network):
        self.network = network

    def energy(self, z, scale=1.0):
        return scale * self.network(z)


FOREIGN = {
    "noise inside G": latent_energy(Noisy().eval(), plain),
    "dropout": nn.Sequential(nn.Linear(2, 64), nn.Dropout(0.5), nn.Linear(64, 1), nn.Flatten(0)).train(),
    "batch norm": batch_norm(training=True),
    "a partial": partial(Holder(batch_norm(training=True)).energy, scale=2.0),
    "a mean over the batch": lambda z: plain(z).mean().expand(len(z)),
    "a centred batch": lambda z: (z - z.mean(0)).square().sum(1),
    "neighbours": lambda z: z.square().sum(1) + torch.cdist(z, z).sum(1),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_an_energy_that_is_no_function_of_z_is_refused(name):
    torch.manual_seed(0)
    z0 = torch.randn(20, 2, generator=seeded())
    with pytest.raises(ValueError, match=r"energy is no function of z alone.*call|Call \.eval"):
        sample(FOREIGN[name], z0, mala(0.1), 3, seeded())
    with pytest.raises(ValueError, match="no function of z alone"):
        adapt_step_size(FOREIGN[name], z0, mala, 3, seeded())


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_energies_that_are_functions_of_z_pass(n, dtype):
    z0 = torch.randn(n, 2, dtype=dtype, generator=seeded())
    large = lambda z: 1e6 + quartic(z)  # noqa: E731
    for energy in (quartic, large, batch_norm(training=False).to(dtype)):
        sample(energy, z0, ula(1e-4), 2, seeded())


def test_each_chain_may_have_an_energy_of_its_own_if_one_says_so():
    centre = torch.arange(9.0)[:, None]
    energy = lambda z: 50 * (z - centre).square().sum(1)  # noqa: E731
    with pytest.raises(ValueError, match="check=False"):
        sample(energy, torch.zeros(9, 1), ula(0.01), 2, seeded())
    chain = sample(energy, torch.zeros(9, 1), ula(0.01), 100, seeded(), check=False)
    assert (chain.z - centre).abs().max() < 0.5


@pytest.mark.parametrize("returned", [lambda d: d.mean(0).view(1), lambda d: d.mean(), lambda d: d[:, None]])
def test_a_critic_of_another_shape_is_refused(returned):
    energy = latent_energy(nn.Identity().eval(), lambda x: returned(plain(x)))
    with pytest.raises(ValueError, match=r"logit has shape"):
        sample(energy, torch.randn(4, 2, generator=seeded()), mala(1.0), 3, seeded())


def test_latents_of_another_type_are_named():
    network = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"z0.*float64.*z0\.float\(\)"):
        sample(network, torch.ones(4, 3).double(), ula(0.1), 2, seeded())
    with pytest.raises(ValueError, match=r"torch\.from_numpy\(z0\)\.float\(\)"):
        sample(network, np.ones((4, 3)), ula(0.1), 2, seeded())


def test_an_energy_that_works_in_place_changes_nothing_of_ours():
    in_place = lambda z: quartic(z.mul_(2.0))  # noqa: E731
    z0 = torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    before = z0.clone()
    for kernel in (mala(0.2), ex2mcmc(0.2)):
        chain = sample(in_place, z0, kernel, 10, seeded(1))
        assert torch.equal(z0, before)
        torch.testing.assert_close(chain.z, sample(lambda z: quartic(2 * z), z0, kernel, 10, seeded(1)).z)


# --- Ex2MCMC as a kernel


def test_ex2mcmc_is_exact_with_any_prior_that_covers_the_target():
    wide = Prior(
        lambda n, g: 1 + 3 * torch.randn(n, 3, dtype=torch.float64, generator=g),
        lambda z: Normal(1.0, 3.0).log_prob(z).sum(1),
    )
    for prior in (None, wide):
        kernel = ex2mcmc(0.3, prior, n_particles=4)
        assert_moments(sample(gaussian, gaussian_starts(), kernel, 60, seeded()).z, MEAN, SCALE**2)
