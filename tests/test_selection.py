"""Selection and Langevin against laws known in closed form or by quadrature, and against each other."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import expit
from torch import nn

from utils.energy import latent_energy
from utils.metrics.toy import permutation_test
from utils.samplers import mala, sample
from utils.selection import (
    generator_only,
    importance_resampling,
    iterated_resampling,
    langevin,
    log_odds,
    metropolis_hastings,
    rejection,
)
from utils.transport import discriminator_optimal_transport, gradient_flow

# In the latent space p_0 = N(0, 1) and p_t = N(SHIFT, SCALE^2) in each coordinate. SCALE < 1 bounds d.
SHIFT, SCALE = 0.7, 0.6
BOUND = SHIFT**2 / (2 * (1 - SCALE**2)) - np.log(SCALE)  # the maximum of d in one dimension


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Stretch(nn.Module):
    """x = 2 z + 1, in float64: p_g = N(1, 4) in each coordinate."""

    def __init__(self, latent_dim: int = 1):
        super().__init__()
        self.latent_dim = latent_dim
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, z):
        return self.scale * z + 1


class ExactLogit(nn.Module):
    """log p_d / p_g for p_d = N(1 + 2 SHIFT, (2 SCALE)^2) in each coordinate, plus a constant."""

    def __init__(self, constant: float = 0.0):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        z = (x - 1) / 2
        terms = 0.5 * z**2 - 0.5 * ((z - SHIFT) / SCALE) ** 2 - np.log(SCALE)
        return terms.flatten(1).sum(1) + self.constant


def networks(latent_dim: int = 1):
    return Stretch(latent_dim).eval(), ExactLogit().eval()


def real_logits() -> torch.Tensor:
    x = 1 + 2 * (SHIFT + SCALE * torch.randn(300, 1, dtype=torch.float64, generator=seeded(9)))
    return ExactLogit()(x)


TARGET = stats.norm(1 + 2 * SHIFT, 2 * SCALE)
EXACT = {
    "rejection": partial(rejection, log_bound=BOUND),
    "rejection with a loose bound": partial(rejection, log_bound=BOUND + 1),
    "DRS": rejection,
    "MH": partial(metropolis_hastings, n_steps=40),
    "MH from real points": partial(metropolis_hastings, n_steps=40, real_logits=real_logits()),
    "SIR": partial(importance_resampling, n_particles=300),
    "i-SIR": partial(iterated_resampling, n_steps=20, n_particles=5),
    "i-SIR of pairs": partial(iterated_resampling, n_steps=60, n_particles=2),
    "MALA": partial(langevin, step_size=0.3, n_steps=60, adjusted=True),
}
OTHERS = {
    "generator": generator_only,
    "ULA": langevin,
    "DOT": discriminator_optimal_transport,
    "DOT in the data space": partial(discriminator_optimal_transport, space="data"),
    "DG-flow": gradient_flow,
    "DG-flow in the data space": partial(gradient_flow, space="data"),
}
# the same at little cost, for tests that do not look at the law
QUICK = {
    "generator": generator_only,
    "rejection": partial(rejection, log_bound=4 * BOUND),
    "DRS": partial(rejection, n_burn_in=50, percentile=70),
    "MH": partial(metropolis_hastings, n_steps=13),
    "MH from real points": partial(metropolis_hastings, n_steps=13, real_logits=real_logits()),
    "SIR": partial(importance_resampling, n_particles=9),
    "i-SIR": partial(iterated_resampling, n_steps=4, n_particles=5),
    "ULA": partial(langevin, n_steps=5),
    "MALA": partial(langevin, n_steps=5, adjusted=True),
    "DOT": partial(discriminator_optimal_transport, n_steps=5),
    "DOT in the data space": partial(discriminator_optimal_transport, n_steps=5, space="data"),
    "DG-flow": partial(gradient_flow, n_steps=5),
    "DG-flow in the data space": partial(gradient_flow, n_steps=5, space="data"),
}
DATA_SPACE = [name for name in QUICK if "data space" in name]


def p_value(samples, law=TARGET.cdf) -> float:
    return stats.kstest(samples.x[:, 0].numpy(), law).pvalue


def cdf_of(density) -> callable:
    """The distribution function in x of a law in z with this unnormalised density."""
    z = np.linspace(-6, 6, 4001)
    cumulative = integrate.cumulative_simpson(density(z), x=z, initial=0)
    return lambda x: np.interp((x - 1) / 2, z, cumulative / cumulative[-1])


def logit_of(z):
    return ExactLogit()(torch.as_tensor(2 * z + 1)[..., None].reshape(-1, 1)).numpy().reshape(np.shape(z))


def test_the_setting_is_what_it_says():
    z = np.linspace(-4, 4, 101)
    assert logit_of(z).max() == pytest.approx(BOUND, abs=1e-3) and logit_of(z).max() <= BOUND
    np.testing.assert_allclose(stats.norm.pdf(z) * np.exp(logit_of(z)), stats.norm.pdf(z, SHIFT, SCALE))


# --- the law


@pytest.mark.parametrize("method", EXACT.values(), ids=EXACT)
def test_exact_methods_have_the_target_law(method):
    samples = method(*networks(), 4000, seeded(1))
    assert p_value(samples) > 0.01
    torch.testing.assert_close(samples.x, 2 * samples.z + 1)


@pytest.mark.parametrize("method", EXACT.values(), ids=EXACT)
def test_exact_methods_are_distinguished_from_a_wrong_logit(method):
    G, logit = networks()
    settings = {"log_bound": 1.0} if getattr(method, "keywords", {}).get("log_bound") else {}
    assert p_value(method(G, lambda x: torch.sigmoid(logit(x)), 2500, seeded(1), **settings)) < 1e-6
    if settings:
        return  # -d has no bound that rejection could take
    assert p_value(method(G, lambda x: -logit(x).clamp(-3), 2500, seeded(1))) < 1e-6


@pytest.mark.parametrize("method", EXACT.values(), ids=EXACT)
def test_exact_methods_agree_with_each_other_in_the_plane(method):
    G, logit = networks(2)
    bound = {"log_bound": 2 * BOUND} if getattr(method, "keywords", {}).get("log_bound") else {}
    ours = method(G, logit, 400, seeded(5), **bound).x
    other = rejection(G, logit, 400, seeded(3), log_bound=2 * BOUND).x
    assert permutation_test(ours, other, seeded()) > 0.005
    rough = generator_only(G, logit, 400, seeded(4)).x
    assert permutation_test(ours, rough, seeded()) < 0.005


@pytest.mark.parametrize("name", OTHERS)
def test_the_others_do_not_have_the_target_law(name):
    settings = {"step_size": 0.9, "n_steps": 60} if name == "ULA" else {}
    assert p_value(OTHERS[name](*networks(), 4000, seeded(1), **settings)) < 1e-3


def test_generator_only_has_the_generators_law():
    assert p_value(generator_only(*networks(), 4000, seeded()), stats.norm(1, 2).cdf) > 0.01


@pytest.mark.parametrize("method", [m for name, m in EXACT.items() if name != "MH from real points"])
def test_the_constant_in_d_does_not_matter(method):
    # the weights must be normalised and the bound must be relative, or a constant would change the result
    bound = getattr(method, "keywords", {}).get("log_bound")
    settings = {"log_bound": bound + 40} if bound else {}
    G, logit = networks()
    plain = method(G, logit, 200, seeded())
    moved = method(G, ExactLogit(40.0).eval(), 200, seeded(), **settings)
    torch.testing.assert_close(moved.x, plain.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_particles", [2, 4])
def test_resampling_few_particles_has_its_known_biased_law(n_particles):
    # the picked one of a pool has density p_0(z) E[N e^d(z) / (e^d(z) + sum of the others' e^d)]
    others = np.exp(logit_of(np.random.default_rng(0).standard_normal((1500, n_particles - 1)))).sum(1)

    def density(z):
        weight = np.exp(logit_of(z))[:, None]
        return stats.norm.pdf(z) * (weight / (weight + others)).mean(1)

    samples = importance_resampling(*networks(), 8000, seeded(), n_particles=n_particles)
    assert p_value(samples, cdf_of(density)) > 0.01
    assert p_value(samples) < 1e-6


def test_a_pool_is_resampled_by_its_normalised_weights():
    # every pool holds these four logits, in this order
    d = torch.tensor([0.5, 2.0, -1.0, 1.0], dtype=torch.float64)
    pool = iter(d)
    n = 20_000
    samples = importance_resampling(
        Stretch().eval(), lambda x: (x[:, 0] - 1) / 2, n, seeded(), n_particles=4,
        draw_prior=lambda n, _: next(pool).expand(n, 1), chunk_size=n,
    )  # fmt: skip
    picked = (samples.z - d).abs().argmin(1)
    counts = torch.bincount(picked, minlength=4).numpy()
    assert stats.chisquare(counts, n * torch.softmax(d, 0).numpy()).pvalue > 0.01


def test_one_particle_is_the_generator():
    samples = importance_resampling(*networks(), 50, seeded(), n_particles=1)
    assert samples.forwards == 50
    assert (
        p_value(importance_resampling(*networks(), 4000, seeded(), n_particles=1), stats.norm(1, 2).cdf)
        > 0.01
    )


# --- rejection


def test_log_odds_is_the_odds_of_rejection():
    d = torch.tensor([-30.0, -3.0, -0.1, -1e-6, 0.0], dtype=torch.float64) + 2
    np.testing.assert_allclose(torch.sigmoid(log_odds(d, 2.0)), np.exp(d.numpy() - 2), rtol=1e-9)
    assert log_odds(d, 2.0).isfinite().all()
    direct = d[:3] - 2 - torch.log(1 - torch.exp(d[:3] - 2 - 1e-14))
    torch.testing.assert_close(log_odds(d[:3], 2.0), direct)


@pytest.mark.parametrize("slack", [0.0, 0.7])
def test_acceptance_is_one_over_the_constant(slack):
    samples = rejection(*networks(), 20_000, seeded(), log_bound=BOUND + slack)
    assert samples.info["acceptance"] == pytest.approx(np.exp(-BOUND - slack), abs=0.01)
    assert samples.forwards == pytest.approx(20_000 / samples.info["acceptance"], rel=0.05)


@pytest.mark.parametrize("gamma", [-2.0, 1.5])
def test_gamma_gives_the_law_of_drs(gamma):
    def density(z):
        accept = expit(log_odds(torch.as_tensor(logit_of(z)), BOUND).numpy() - gamma)
        return stats.norm.pdf(z) * accept

    samples = rejection(*networks(), 8000, seeded(), log_bound=BOUND, gamma=gamma)
    assert p_value(samples, cdf_of(density)) > 0.01
    assert p_value(samples) < 1e-3
    acceptance = integrate.simpson(density(np.linspace(-6, 6, 4001)), x=np.linspace(-6, 6, 4001))
    assert samples.info["acceptance"] == pytest.approx(acceptance, abs=0.02)


def test_percentile_is_a_gamma():
    G, logit = networks()
    samples = rejection(G, logit, 3000, seeded(), log_bound=BOUND, percentile=80)
    z = stats.norm.ppf(np.linspace(0.5, 9999.5, 10_000) / 10_000)
    f = log_odds(torch.as_tensor(logit_of(z)), BOUND)
    assert samples.info["gamma"] == pytest.approx(f.quantile(0.8).item(), abs=0.05)
    again = rejection(G, logit, 3000, seeded(1), log_bound=BOUND, gamma=samples.info["gamma"])
    assert again.info["acceptance"] == pytest.approx(samples.info["acceptance"], abs=0.02)
    assert samples.forwards - 10_000 == pytest.approx(3000 / samples.info["acceptance"], rel=0.1)


def test_drs_updates_its_bound():
    G, logit = networks()
    samples = rejection(G, logit, 2000, seeded(), n_burn_in=1)
    assert samples.info["log_bound"] >= logit(samples.x).max()
    assert samples.info["log_bound"] == pytest.approx(BOUND, abs=0.01)


def test_a_wrong_bound_is_an_error():
    with pytest.raises(ValueError, match="is no bound: d reached"):
        rejection(*networks(), 1000, seeded(), log_bound=BOUND - 0.5)


def test_hopeless_rejection_ends():
    with pytest.raises(RuntimeError, match=r"proposals gave 0 of n=10 .*gamma < 0"):
        rejection(*networks(), 10, seeded(), log_bound=50.0, max_proposals=100, chunk_size=100)


# --- chains


def test_acceptance_of_the_independence_chain_is_its_double_integral():
    z = np.linspace(-6, 6, 801)
    d, cell = logit_of(z), z[1] - z[0]
    start, proposal = stats.norm.pdf(z, SHIFT, SCALE)[:, None], stats.norm.pdf(z)[None]
    expected = (start * proposal * np.exp(np.minimum(0, d[None] - d[:, None]))).sum() * cell**2
    samples = metropolis_hastings(*networks(), 2000, seeded(), n_steps=300)
    assert samples.info["acceptance"] == pytest.approx(expected, abs=0.005)
    assert samples.info["restarts"] == 0


def test_acceptance_of_paired_resampling_is_its_double_integral():
    z = np.linspace(-6, 6, 801)
    w, cell = np.exp(logit_of(z)), z[1] - z[0]
    start, proposal = stats.norm.pdf(z, SHIFT, SCALE)[:, None], stats.norm.pdf(z)[None]
    expected = (start * proposal * w[None] / (w[None] + w[:, None])).sum() * cell**2
    samples = iterated_resampling(*networks(), 2000, seeded(), n_steps=300, n_particles=2)
    assert samples.info["acceptance"] == pytest.approx(expected, abs=0.005)


def test_no_chain_returns_a_real_point():
    # no proposal can compete with these: every chain has to be run again from a sample of G
    method = partial(metropolis_hastings, n_steps=30, real_logits=torch.full((7,), 1e3))
    samples = method(*networks(), 2000, seeded())
    assert samples.info == {"acceptance": 0.0, "restarts": 1.0}
    assert p_value(samples) > 0.01
    assert samples.forwards == 2000 * 30 + 2000 * 31
    torch.testing.assert_close(samples.x, 2 * samples.z + 1)


def test_real_starts_shorten_the_burn_in():
    def distance(**settings):
        samples = metropolis_hastings(*networks(), 20_000, seeded(), n_steps=3, **settings)
        return stats.kstest(samples.x[:, 0].numpy(), TARGET.cdf).statistic

    assert distance(real_logits=real_logits()) < distance() - 0.01


def test_langevin_is_the_sampler():
    G, logit = networks(2)
    samples = langevin(G, logit, 30, seeded(), step_size=0.2, n_steps=9, adjusted=True)
    g = seeded()
    z0 = torch.randn(30, 2, dtype=torch.float64, generator=g)
    result = sample(latent_energy(G, logit), z0, mala(0.2), 9, g)
    assert torch.equal(samples.z, result.z) and torch.equal(samples.x, G(result.z))
    assert samples.info["acceptance"] == pytest.approx(result.acceptance.mean().item())
    assert (samples.forwards, samples.gradients) == (30, 300)


def test_unadjusted_langevin_has_its_known_bias():
    samples = langevin(*networks(), 4000, seeded(), step_size=0.5, n_steps=100)
    std = SCALE / (1 - 0.5 / (4 * SCALE**2)) ** 0.5
    assert p_value(samples, stats.norm(1 + 2 * SHIFT, 2 * std).cdf) > 0.01
    assert p_value(samples) < 1e-6 and samples.info["acceptance"] == 1


def test_another_prior():
    # p_0 = N(1, 0.5^2): the target is p_0 e^d, Gaussian again
    def draw_prior(n, generator):
        return 1 + 0.5 * torch.randn(n, 1, dtype=torch.float64, generator=generator)

    def log_prior(z):
        return -0.5 * ((z - 1) / 0.5).square().sum(1)

    precision = 1 / 0.25 + 1 / SCALE**2 - 1
    mean = (1 / 0.25 + SHIFT / SCALE**2) / precision
    law = stats.norm(1 + 2 * mean, 2 / precision**0.5).cdf
    settings = {"draw_prior": draw_prior}
    assert p_value(rejection(*networks(), 4000, seeded(), log_bound=BOUND, **settings), law) > 0.01
    assert p_value(metropolis_hastings(*networks(), 4000, seeded(), n_steps=40, **settings), law) > 0.01
    chains = partial(langevin, step_size=0.1, n_steps=60, adjusted=True, prior=log_prior, **settings)
    assert p_value(chains(*networks(), 4000, seeded()), law) > 0.01


# --- cost, memory, randomness, shapes


class Spy(nn.Module):
    """Passes on what it wraps, and counts rows with and without a gradient."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.latent_dim = inner, getattr(inner, "latent_dim", None)
        self.plain = self.backward_rows = self.largest = 0

    def forward(self, x):
        self.largest = max(self.largest, len(x))
        if torch.is_grad_enabled():
            self.backward_rows += len(x)
        else:
            self.plain += len(x)
        return self.inner(x)


@pytest.mark.parametrize("chunk_size", [1000, 23])
@pytest.mark.parametrize("name", QUICK)
def test_cost_is_what_the_networks_saw(name, chunk_size):
    G, logit = (Spy(f).eval() for f in networks(2))
    samples = QUICK[name](G, logit, 60, seeded(), chunk_size=chunk_size)
    if name in DATA_SPACE:
        assert samples.forwards == G.plain + logit.plain
        assert samples.gradients == logit.backward_rows and G.backward_rows == 0
    else:
        assert samples.forwards == G.plain >= logit.plain
        assert samples.gradients == G.backward_rows == logit.backward_rows
    assert max(G.largest, logit.largest) <= chunk_size
    assert len(samples.x) == len(samples.z) == 60


@pytest.mark.parametrize("name", [n for n in QUICK if n not in ("rejection", "DRS")])
def test_chunks_do_not_change_the_result(name):
    whole, parts = (QUICK[name](*networks(2), 60, seeded(), chunk_size=c) for c in (10_000, 17))
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", QUICK)
def test_same_seed_same_samples_and_nothing_else_is_touched(name):
    before = torch.get_rng_state()
    G, logit = networks(2)
    first, again, other = (QUICK[name](G, logit, 60, seeded(s)) for s in (4, 4, 5))
    assert torch.equal(first.x, again.x) and torch.equal(first.z, again.z)
    assert not torch.equal(first.x, other.x)
    assert torch.equal(torch.get_rng_state(), before)
    assert G.scale.grad is None and G.scale.requires_grad and torch.is_grad_enabled()
    for tensor in first[:2]:
        assert tensor.grad_fn is None and not tensor.requires_grad


@pytest.mark.parametrize("name", QUICK)
def test_images_keep_their_shape_and_type(name):
    class ImageGenerator(nn.Module):
        latent_dim = 3

        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Unflatten(1, (2, 2, 2)))

        def forward(self, z):
            return self.net(z)

    torch.manual_seed(0)
    logit = nn.Sequential(nn.Flatten(), nn.Linear(8, 1), nn.Flatten(0)).eval()
    settings = {"log_bound": 3.0} if name == "rejection" else {}
    samples = QUICK[name](ImageGenerator().eval(), logit, 5, seeded(), **settings)
    assert samples.x.shape == (5, 2, 2, 2) and samples.z.shape == (5, 3)
    assert samples.x.dtype == samples.z.dtype == torch.float32
    assert all(np.isfinite(value) for value in samples.info.values())


# --- errors


@pytest.mark.parametrize("name", QUICK)
def test_a_network_in_training_mode_is_an_error(name):
    G, logit = networks()
    with pytest.raises(ValueError, match=r"G is in training mode; call G\.eval\(\)"):
        QUICK[name](G.train(), logit, 5, seeded())
    with pytest.raises(ValueError, match="logit is in training mode"):
        QUICK[name](G.eval(), logit.train(), 5, seeded())


@pytest.mark.parametrize("name", QUICK)
def test_bad_calls_name_the_argument(name):
    G, logit = networks()
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        QUICK[name](G, logit, 0, seeded())
    with pytest.raises(ValueError, match="chunk_size=0"):
        QUICK[name](G, logit, 5, seeded(), chunk_size=0)
    with pytest.raises(ValueError, match="generator=0 must be"):
        QUICK[name](G, logit, 5, 0)
    with pytest.raises(ValueError, match="G has no latent_dim"):
        QUICK[name](lambda z: 2 * z, logit, 5, seeded())


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (rejection, {"gamma": float("nan")}, "gamma"),
        (rejection, {"log_bound": float("inf")}, "log_bound"),
        (rejection, {"percentile": 101}, "percentile"),
        (rejection, {"percentile": 50, "gamma": 1.0}, "percentile"),
        (rejection, {"n_burn_in": 0}, "n_burn_in"),
        (rejection, {"max_proposals": 0}, "max_proposals"),
        (metropolis_hastings, {"n_steps": 0}, "n_steps"),
        (metropolis_hastings, {"real_logits": torch.zeros(3, 1)}, "real_logits"),
        (metropolis_hastings, {"real_logits": torch.tensor([float("nan")])}, "real_logits"),
        (importance_resampling, {"n_particles": 0}, "n_particles"),
        (iterated_resampling, {"n_particles": 1}, "n_particles"),
        (iterated_resampling, {"n_steps": 0}, "n_steps"),
        (langevin, {"step_size": 0.0}, "step_size"),
        (langevin, {"n_steps": -1}, "n_steps"),
    ],
)
def test_bad_settings_name_the_argument(method, settings, message):
    with pytest.raises(ValueError, match=message):
        method(*networks(), 5, seeded(), **settings)


def test_bad_logits_are_errors():
    G, logit = networks()
    with pytest.raises(ValueError, match="logit returned shape"):
        metropolis_hastings(G, lambda x: logit(x)[:, None], 5, seeded())
    with pytest.raises(FloatingPointError, match="logit is not finite for 5 of 5"):
        importance_resampling(G, lambda x: logit(x) * float("nan"), 5, seeded(), n_particles=1)
