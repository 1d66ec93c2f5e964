"""ULA, MALA and HMC against closed forms: what they leave, where they go, what they may not touch."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Normal

from utils.samplers import State, energy_and_gradient, hmc, leapfrog, log_acceptance, mala, sample, ula

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
        for old, new in zip(before[:3], after[:3], strict=True):
            assert torch.equal(old[stayed], new[stayed])
            assert (old[~stayed] != new[~stayed]).flatten(1 if old.ndim > 1 else 0).any(-1).all()
        value, gradient = energy_and_gradient(quartic, after.z)  # energy and gradient belong to z
        assert torch.equal(after.energy, value) and torch.equal(after.gradient, gradient)
    share = torch.stack([state.accepted for state in states[1:]]).double().mean(0)
    torch.testing.assert_close(chain.acceptance.double(), share)


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


def test_leapfrog_keeps_volume():
    def move(zp):
        z, p = zp[None, :3], zp[None, 3:]
        for _ in range(4):  # the update rule itself, so that it can be differentiated
            p = p - 0.1 * (z**3 + z)
            z = z + 0.2 * p
            p = p - 0.1 * (z**3 + z)
        return torch.cat([z, p], 1)[0]

    zp = torch.randn(6, dtype=torch.float64, generator=seeded())

    def energy(z):
        return (0.25 * z**4 + 0.5 * z**2).sum(1)

    z = zp[None, :3]
    state = State(z, *energy_and_gradient(energy, z), torch.ones(1, dtype=torch.bool))
    end, p = leapfrog(state, zp[None, 3:], lambda z: energy_and_gradient(energy, z), 0.2, 4)
    torch.testing.assert_close(torch.cat([end.z, p], 1)[0], move(zp))
    determinant = torch.linalg.det(torch.autograd.functional.jacobian(move, zp))
    assert determinant.item() == pytest.approx(1, abs=1e-10)


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


def test_hmc_costs_one_gradient_a_leapfrog_step():
    calls = []

    def energy(z):
        calls.append(len(z))
        return quartic(z)

    sample(energy, torch.ones(3, 2), hmc(0.1, 7), 4, seeded())
    assert len(calls) == 1 + 4 * 7


# --- one chain, alone or among others


def hmc_3(step_size: float, temperature: float = 1.0):
    """HMC of three leapfrog steps, with the arguments of ula and mala."""
    return hmc(step_size**0.5 if step_size > 0 else step_size, 3, temperature)


KERNELS = [ula, mala, hmc_3]


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


@pytest.mark.parametrize("kernel", KERNELS)
def test_same_seed_same_chain(kernel):
    z0 = torch.randn(8, 3, generator=seeded())
    first, again, other = (sample(quartic, z0, kernel(0.2), 10, seeded(s), thin=1) for s in (4, 4, 5))
    assert torch.equal(first.path, again.path)
    assert not torch.equal(first.z, other.z)


@pytest.mark.parametrize("kernel", KERNELS)
def test_global_random_state_is_not_used(kernel):
    before = torch.get_rng_state()
    sample(quartic, torch.ones(3, 2), kernel(0.2), 5, seeded())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kernel", KERNELS)
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
    assert max(sizes) == min(chunk_size, 8)


# --- path, callback, shapes, types


@pytest.mark.parametrize("shape", [(7, 3, 4), (2, 1), (1, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", KERNELS)
def test_shapes_and_types(kernel, dtype, shape):
    z0 = torch.randn(shape, dtype=dtype, generator=seeded())
    chain = sample(quartic, z0, kernel(0.1), 6, seeded(), thin=3)
    assert chain.z.shape == shape and chain.path.shape == (3, *shape)
    assert chain.energy.shape == chain.acceptance.shape == shape[:1]
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


@pytest.mark.parametrize("kernel", KERNELS)
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
    alive, states = {}, []
    Watched.nodes.clear()

    def callback(step, state):
        states.extend(weakref.ref(tensor) for tensor in state)
        if step in (10, 200):
            alive[step] = [sum(ref() is not None for ref in refs) for refs in (Watched.nodes, states)]

    sample(
        lambda z: quartic(Watched.apply(z)), torch.ones(4, 2), kernel(0.1), 200, seeded(), callback=callback
    )
    assert len(Watched.nodes) >= 201
    assert alive[10] == alive[200]
    assert alive[200][0] == 0  # no graph is left behind
    assert alive[200][1] <= 8  # this state and at most the one before


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
        ("n_steps", -1),
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
def test_what_is_not_finite_is_an_error_with_a_count(energy):
    z0 = torch.ones(5, 3)
    z0[2] = -1
    z0[2, 1:] = 0
    with pytest.raises(FloatingPointError, match=r"energy.*1 of 5 chains.*step_size"):
        sample(energy, z0, ula(0.1), 2, seeded())


@pytest.mark.parametrize("kernel", [ula(50.0), hmc(7.0, 30)])
def test_divergence_is_an_error(kernel):
    with pytest.raises(FloatingPointError, match="step_size"):
        sample(quartic, torch.ones(5, 3), kernel, 100, seeded())
