"""Selection and Langevin against laws known in closed form or by quadrature, and against each other."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import expit
from torch import nn

from utils.energy import Prior, latent_energy
from utils.metrics.toy import permutation_test
from utils.samplers import hmc, mala, sample, ula, underdamped
from utils.selection import (
    LatentGAN,
    ex2mcmc,
    generator_only,
    importance_resampling,
    iterated_resampling,
    log_odds,
    mcmc,
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


def gan_of(latent_dim: int = 1, constant: float = 0.0, chunk_size: int = 1000, **more) -> LatentGAN:
    return LatentGAN(Stretch(latent_dim).eval(), ExactLogit(constant).eval(), chunk_size=chunk_size, **more)


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
    "MALA": partial(mcmc, kernel=mala(0.3), n_steps=60),
    "HMC": partial(mcmc, kernel=hmc(0.5, 2), n_steps=20),
    "Ex2MCMC": partial(mcmc, kernel=ex2mcmc(0.2, n_particles=3), n_steps=15),
    "Ex2MCMC with one move": partial(mcmc, kernel=ex2mcmc(0.2, n_particles=2, n_moves=1), n_steps=30),
}
OTHERS = {
    "generator": generator_only,
    "ULA": partial(mcmc, kernel=ula(0.9), n_steps=60),
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
    "ULA": partial(mcmc, kernel=ula(0.01), n_steps=5),
    "MALA": partial(mcmc, kernel=mala(0.01), n_steps=5),
    "HMC": partial(mcmc, kernel=hmc(0.1, 3), n_steps=5),
    "underdamped": partial(mcmc, kernel=underdamped(0.1, 1.0), n_steps=5),
    "Ex2MCMC": partial(mcmc, kernel=ex2mcmc(0.1, n_particles=3), n_steps=4),
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
    samples = method(gan_of(), 4000, seeded(1))
    assert p_value(samples) > 0.01
    torch.testing.assert_close(samples.x, 2 * samples.z + 1)


@pytest.mark.parametrize("method", EXACT.values(), ids=EXACT)
def test_exact_methods_are_distinguished_from_a_wrong_logit(method):
    gan = gan_of()
    G, logit = gan.G, gan.logit
    settings = {"log_bound": 1.0} if getattr(method, "keywords", {}).get("log_bound") else {}
    squashed = LatentGAN(G, lambda x: torch.sigmoid(logit(x)))
    assert p_value(method(squashed, 2500, seeded(1), **settings)) < 1e-6
    if settings:
        return  # -d has no bound that rejection could take
    assert p_value(method(LatentGAN(G, lambda x: -logit(x).clamp(-3)), 2500, seeded(1))) < 1e-6


@pytest.mark.parametrize("method", EXACT.values(), ids=EXACT)
def test_exact_methods_agree_with_each_other_in_the_plane(method):
    gan = gan_of(2)
    bound = {"log_bound": 2 * BOUND} if getattr(method, "keywords", {}).get("log_bound") else {}
    ours = method(gan, 400, seeded(5), **bound).x
    other = rejection(gan, 400, seeded(3), log_bound=2 * BOUND).x
    assert permutation_test(ours, other, seeded()) > 0.005
    rough = generator_only(gan, 400, seeded(4)).x
    assert permutation_test(ours, rough, seeded()) < 0.005


@pytest.mark.parametrize("name", OTHERS)
def test_the_others_do_not_have_the_target_law(name):
    assert p_value(OTHERS[name](gan_of(), 4000, seeded(1))) < 1e-3


def test_generator_only_has_the_generators_law():
    assert p_value(generator_only(gan_of(), 4000, seeded()), stats.norm(1, 2).cdf) > 0.01


@pytest.mark.parametrize("method", [m for name, m in EXACT.items() if name != "MH from real points"])
def test_the_constant_in_d_does_not_matter(method):
    # the weights must be normalised and the bound must be relative, or a constant would change the result
    bound = getattr(method, "keywords", {}).get("log_bound")
    settings = {"log_bound": bound + 40} if bound else {}
    plain = method(gan_of(), 200, seeded())
    moved = method(gan_of(constant=40.0), 200, seeded(), **settings)
    torch.testing.assert_close(moved.x, plain.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_particles", [2, 4])
def test_resampling_few_particles_has_its_known_biased_law(n_particles):
    # the picked one of a pool has density p_0(z) E[N e^d(z) / (e^d(z) + sum of the others' e^d)]
    others = np.exp(logit_of(np.random.default_rng(0).standard_normal((1500, n_particles - 1)))).sum(1)

    def density(z):
        weight = np.exp(logit_of(z))[:, None]
        return stats.norm.pdf(z) * (weight / (weight + others)).mean(1)

    samples = importance_resampling(gan_of(), 8000, seeded(), n_particles=n_particles)
    assert p_value(samples, cdf_of(density)) > 0.01
    assert p_value(samples) < 1e-6


def test_a_pool_is_resampled_by_its_normalised_weights():
    # the weights of a pool must not depend on its order, and one is picked: d takes four values here
    values = torch.tensor([0.5, 2.0, -1.0, 1.0], dtype=torch.float64)
    uniform = Prior(
        lambda n, g: values[torch.randint(4, (n, 1), generator=g)], lambda z: torch.zeros(len(z)).to(z)
    )
    n = 20_000
    gan = LatentGAN(Stretch().eval(), lambda x: (x[:, 0] - 1) / 2, uniform, chunk_size=n)
    picked = (iterated_resampling(gan, n, seeded(), n_steps=20, n_particles=4).z - values).abs().argmin(1)
    counts = torch.bincount(picked, minlength=4).numpy()
    assert stats.chisquare(counts, n * torch.softmax(values, 0).numpy()).pvalue > 0.01


# --- rejection


def test_log_odds_is_the_odds_of_rejection():
    d = torch.tensor([-30.0, -3.0, -0.1, -1e-6, 0.0], dtype=torch.float64) + 2
    np.testing.assert_allclose(torch.sigmoid(log_odds(d, 2.0)), np.exp(d.numpy() - 2), rtol=1e-9)
    assert log_odds(d, 2.0).isfinite().all()
    direct = d[:3] - 2 - torch.log(1 - torch.exp(d[:3] - 2 - 1e-14))
    torch.testing.assert_close(log_odds(d[:3], 2.0), direct)


@pytest.mark.parametrize("slack", [0.0, 0.7])
def test_acceptance_is_one_over_the_constant(slack):
    samples = rejection(gan_of(), 20_000, seeded(), log_bound=BOUND + slack)
    assert samples.info["acceptance"] == pytest.approx(np.exp(-BOUND - slack), abs=0.01)
    assert samples.forwards == pytest.approx(20_000 / samples.info["acceptance"] + 20_000, rel=0.05)


@pytest.mark.parametrize("gamma", [-2.0, 1.5])
def test_gamma_gives_the_law_of_drs(gamma):
    def density(z):
        accept = expit(log_odds(torch.as_tensor(logit_of(z)), BOUND).numpy() - gamma)
        return stats.norm.pdf(z) * accept

    samples = rejection(gan_of(), 8000, seeded(), log_bound=BOUND, gamma=gamma)
    assert p_value(samples, cdf_of(density)) > 0.01
    assert p_value(samples) < 1e-3
    acceptance = integrate.simpson(density(np.linspace(-6, 6, 4001)), x=np.linspace(-6, 6, 4001))
    assert samples.info["acceptance"] == pytest.approx(acceptance, abs=0.02)


def test_percentile_is_a_gamma():
    samples = rejection(gan_of(), 3000, seeded(), log_bound=BOUND, percentile=80)
    z = stats.norm.ppf(np.linspace(0.5, 9999.5, 10_000) / 10_000)
    f = log_odds(torch.as_tensor(logit_of(z)), BOUND)
    assert samples.info["gamma"] == pytest.approx(f.quantile(0.8).item(), abs=0.17)  # 4 standard errors
    again = rejection(gan_of(), 3000, seeded(1), log_bound=BOUND, gamma=samples.info["gamma"])
    assert again.info["acceptance"] == pytest.approx(samples.info["acceptance"], abs=0.02)
    assert samples.forwards - 13_000 == pytest.approx(3000 / samples.info["acceptance"], rel=0.1)


def test_drs_updates_its_bound():
    samples = rejection(gan_of(), 2000, seeded(), n_burn_in=1)
    assert samples.info["log_bound"] >= ExactLogit()(samples.x).max()
    assert samples.info["log_bound"] == pytest.approx(BOUND, abs=0.01)


def test_a_wrong_bound_is_an_error():
    with pytest.raises(ValueError, match="is no bound: d reached"):
        rejection(gan_of(), 1000, seeded(), log_bound=BOUND - 0.5)


def test_hopeless_rejection_ends():
    with pytest.raises(RuntimeError, match=r"proposals gave 0 of n=10 .*gamma < 0"):
        rejection(gan_of(chunk_size=100), 10, seeded(), log_bound=50.0, max_proposals=100)


# --- chains


def test_acceptance_of_the_independence_chain_is_its_double_integral():
    z = np.linspace(-6, 6, 801)
    d, cell = logit_of(z), z[1] - z[0]
    start, proposal = stats.norm.pdf(z, SHIFT, SCALE)[:, None], stats.norm.pdf(z)[None]
    expected = (start * proposal * np.exp(np.minimum(0, d[None] - d[:, None]))).sum() * cell**2
    samples = metropolis_hastings(gan_of(), 2000, seeded(), n_steps=300)
    assert samples.info["acceptance"] == pytest.approx(expected, abs=0.005)
    assert samples.info["restarts"] == 0


def test_acceptance_of_paired_resampling_is_its_double_integral():
    z = np.linspace(-6, 6, 801)
    w, cell = np.exp(logit_of(z)), z[1] - z[0]
    start, proposal = stats.norm.pdf(z, SHIFT, SCALE)[:, None], stats.norm.pdf(z)[None]
    expected = (start * proposal * w[None] / (w[None] + w[:, None])).sum() * cell**2
    samples = iterated_resampling(gan_of(), 2000, seeded(), n_steps=300, n_particles=2)
    assert samples.info["acceptance"] == pytest.approx(expected, abs=0.005)


def test_no_chain_returns_a_real_point():
    # no proposal can compete with these: every chain has to be run again from a sample of G
    method = partial(metropolis_hastings, n_steps=30, real_logits=torch.full((7,), 1e3))
    samples = method(gan_of(), 2000, seeded())
    assert samples.info == {"acceptance": 0.0, "restarts": 1.0}
    assert p_value(samples) > 0.01
    assert samples.forwards == 2000 * 30 + 2000 * 31 + 2 * 2000  # the images, of each run
    torch.testing.assert_close(samples.x, 2 * samples.z + 1)


def test_real_starts_shorten_the_burn_in():
    def distance(**settings):
        samples = metropolis_hastings(gan_of(), 20_000, seeded(), n_steps=3, **settings)
        return stats.kstest(samples.x[:, 0].numpy(), TARGET.cdf).statistic

    assert distance(real_logits=real_logits()) < distance() - 0.01


def test_mcmc_is_the_sampler():
    gan = gan_of(2)
    samples = mcmc(gan, 30, seeded(), kernel=mala(0.2), n_steps=9)
    g = seeded()
    z0 = torch.randn(30, 2, generator=g).double()
    result = sample(latent_energy(gan.G, gan.logit), z0, mala(0.2), 9, g)
    assert torch.equal(samples.z, result.z) and torch.equal(samples.x, gan.G(result.z))
    assert samples.info["acceptance"] == pytest.approx(result.acceptance.mean().item())
    assert samples.gradients == 300 and samples.info["diverged"] == 0


def test_unadjusted_langevin_has_its_known_bias():
    samples = mcmc(gan_of(), 4000, seeded(), kernel=ula(0.5), n_steps=100)
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
    gan = gan_of(prior=Prior(draw_prior, log_prior))
    chains = {
        "MH": partial(metropolis_hastings, n_steps=40),
        "i-SIR": partial(iterated_resampling, n_steps=40),
    }
    chains |= {
        "bound": partial(rejection, log_bound=BOUND),
        "MALA": partial(mcmc, kernel=mala(0.1), n_steps=60),
    }
    for q in (None, gan.prior):  # Ex2MCMC may jump by any law
        chains[f"Ex2MCMC, {q}"] = partial(mcmc, kernel=ex2mcmc(0.1, q), n_steps=20)
    for name, method in chains.items():
        assert p_value(method(gan, 4000, seeded()), law) > 0.01, name
        assert p_value(method(gan_of(), 4000, seeded()), law) < 1e-6, name  # the prior matters


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
    G, logit = Spy(Stretch(2)).eval(), Spy(ExactLogit()).eval()
    gan = LatentGAN(G, logit, chunk_size=chunk_size)
    assert gan.passes == (0, 0)
    G.plain = logit.plain = 0  # two rows went through at once, to see that they do
    samples = QUICK[name](gan, 60, seeded())
    assert gan.passes == samples[2:4]
    if name in DATA_SPACE:
        assert samples.forwards == G.plain + logit.plain
        assert samples.gradients == logit.backward_rows and G.backward_rows == 0
    else:
        assert samples.forwards == G.plain >= logit.plain
        assert samples.gradients == G.backward_rows == logit.backward_rows
    assert max(G.largest, logit.largest) <= chunk_size
    assert len(samples.x) == len(samples.z) == 60
    again = QUICK[name](gan, 60, seeded(1))  # a second call is charged for itself
    assert gan.passes == tuple(a + b for a, b in zip(samples[2:4], again[2:4], strict=True))


def test_cost_of_ex2mcmc_as_its_networks_see_it():
    G, logit = Spy(Stretch(2)).eval(), Spy(ExactLogit()).eval()
    gan = LatentGAN(G, logit)
    for spy in (G, logit):
        spy.plain = spy.backward_rows = 0
    mcmc(gan, 7, seeded(), kernel=ex2mcmc(0.1, n_particles=3, n_moves=2), n_steps=15)
    check = 7 + 7 + 4  # of the start: all seven twice, and four of them
    assert (logit.plain, logit.backward_rows) == (check + 7 * (1 + 15 * 2), 7 * 15 * (1 + 2))
    assert (G.plain, G.backward_rows) == (logit.plain + 7, logit.backward_rows)  # the images at the end


def test_a_jump_is_followed_by_a_gradient_of_where_it_ended():
    seen = []

    class Watched(Stretch):
        def forward(self, z):
            if z.requires_grad:
                seen.append(z.detach().clone())
            return super().forward(z)

    gan = LatentGAN(Watched(1).eval(), ExactLogit().eval())
    states = []
    z0 = gan.draw(50, seeded())
    sample(
        gan.energy, z0, ex2mcmc(1e-12, n_particles=4, n_moves=1), 3, seeded(1),
        callback=lambda _, state: states.append(state),
    )  # fmt: skip
    for k, state in enumerate(states[1:]):  # a move of this size stays where the jump ended
        torch.testing.assert_close(seen[2 * k], state.z, rtol=0, atol=1e-4)
        assert 0.3 < state.accepted.double().mean() < 1


@pytest.mark.parametrize("name", [n for n in QUICK if n not in ("rejection", "DRS")])
def test_chunks_do_not_change_the_result(name):
    whole, parts = (QUICK[name](gan_of(2, chunk_size=c), 60, seeded()) for c in (10_000, 17))
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", QUICK)
def test_same_seed_same_samples_and_nothing_else_is_touched(name):
    before = torch.get_rng_state()
    gan = gan_of(2)
    G = gan.G
    first, again, other = (QUICK[name](gan, 60, seeded(s)) for s in (4, 4, 5))
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
    samples = QUICK[name](LatentGAN(ImageGenerator().eval(), logit), 5, seeded(), **settings)
    assert samples.x.shape == (5, 2, 2, 2) and samples.z.shape == (5, 3)
    assert samples.x.dtype == samples.z.dtype == torch.float32
    assert all(np.isfinite(value) for value in samples.info.values())


# --- errors


def test_a_network_in_training_mode_is_an_error():
    G, logit = Stretch(), ExactLogit()
    with pytest.raises(ValueError, match=r"G is in training mode; call G\.eval\(\)"):
        LatentGAN(G.train(), logit.eval())
    with pytest.raises(ValueError, match="logit is in training mode"):
        LatentGAN(G.eval(), partial(logit.train().forward))


@pytest.mark.parametrize("name", QUICK)
def test_bad_calls_name_the_argument(name):
    with pytest.raises(ValueError, match="n=0 must be"):
        QUICK[name](gan_of(), 0, seeded())
    with pytest.raises(ValueError, match="generator=0 must be"):
        QUICK[name](gan_of(), 5, 0)


class Foreign(nn.Module):
    """G of another kind: what it takes or returns is `kind`."""

    latent_dim = 3

    def __init__(self, kind):
        super().__init__()
        self.kind, self.net = kind, nn.ConvTranspose2d(3, 3, 4)

    def forward(self, z):
        if self.kind == "convolutional":
            return self.net(z)
        x = z.double() if self.kind == "type" else z[:, :2]
        return (x, z) if self.kind == "tuple" else x


def first(x):
    return x[:, 0].float()


@pytest.mark.parametrize(
    ("G", "logit", "message"),
    [
        (Foreign("tuple"), first, "G returned a tuple"),
        (Foreign("convolutional"), lambda x: x.mean((1, 2, 3)), r"G cannot take z of shape \(2, 3\)"),
        (Foreign(""), lambda x: x[:, :1], r"logit has shape \(2, 1\)"),
        (Foreign(""), lambda x: first(x).mean(), r"logit has shape \(\)"),
        (Foreign(""), lambda x: first(x).mean(0, keepdim=True), r"logit has shape \(1,\)"),
        (Foreign(""), lambda x: (first(x), x), "logit has shape tuple"),
        (lambda z: 2 * z, first, "G has no latent_dim"),
    ],
)
def test_networks_of_another_kind_are_refused_at_the_door(G, logit, message):
    with pytest.raises(ValueError, match=message):
        LatentGAN(G.eval() if isinstance(G, nn.Module) else G, logit)


def test_a_prior_of_another_kind_is_refused_at_the_door():
    draw = lambda n, g: torch.randn(n, 1, generator=g)  # noqa: E731
    with pytest.raises(ValueError, match="prior has shape"):
        gan_of(prior=Prior(draw, lambda z: z))
    with pytest.raises(ValueError, match="chunk_size=0"):
        gan_of(chunk_size=0)


def test_the_shape_and_the_type_of_latents_are_those_of_the_prior_and_of_the_generator():
    square = Prior(lambda n, g: torch.randn(n, 3, 1, 1, generator=g, dtype=torch.float64))
    gan = LatentGAN(Foreign("convolutional").eval(), lambda x: x.mean((1, 2, 3)), square)
    for method in (generator_only, partial(mcmc, kernel=ex2mcmc(0.1, square), n_steps=2)):
        samples = method(gan, 4, seeded())
        assert samples.z.shape == (4, 3, 1, 1) and samples.x.shape == (4, 3, 4, 4)
        assert samples.z.dtype == torch.float32


@pytest.mark.parametrize("name", QUICK)
def test_networks_that_work_in_place_give_the_same(name):
    class InPlace(Stretch):
        def forward(self, z):
            return super().forward(z.mul_(3).sub_(1))

    class Plain(Stretch):
        def forward(self, z):
            return super().forward(3 * z - 1)

    settings = {"log_bound": 2.0} if name == "rejection" else {}
    ours, expected = (
        QUICK[name](LatentGAN(G(2).eval(), ExactLogit().eval()), 20, seeded(), **settings)
        for G in (InPlace, Plain)
    )
    torch.testing.assert_close(ours.z, expected.z)
    torch.testing.assert_close(ours.x, expected.x)


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
        (importance_resampling, {"n_particles": 1}, "n_particles"),
        (importance_resampling, {"n_particles": 2.5}, "n_particles"),
        (iterated_resampling, {"n_particles": 1}, "n_particles"),
        (iterated_resampling, {"n_steps": -1}, "n_steps"),
        (mcmc, {"kernel": ula(0.1), "n_steps": -1}, "n_steps"),
    ],
)
def test_bad_settings_name_the_argument(method, settings, message):
    with pytest.raises(ValueError, match=message):
        method(gan_of(), 5, seeded(), **settings)


def test_settings_of_ex2mcmc_are_named():
    for settings in ({"n_particles": 1}, {"n_moves": -1}, {"step_size": -1.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            ex2mcmc(**{"step_size": 0.1} | settings)


def test_what_is_not_finite_is_an_error_of_selection_and_a_rejection_of_chains():
    gan = gan_of()
    gan.logit = lambda x: ExactLogit()(x) * float("nan")
    with pytest.raises(FloatingPointError, match="logit is not finite for 5 of 5"):
        metropolis_hastings(gan, 5, seeded(), n_steps=1)
    gan.G = lambda z: z * float("inf")
    with pytest.raises(FloatingPointError, match=r"G\(z\) is not finite for 5 of 5"):
        generator_only(gan, 5, seeded())
    # a logit that is not a number for x > 3: those places are left out, and the rest keeps its law
    gan = gan_of()
    gan.logit = lambda x: ExactLogit()(x) + 0 * (3 - x[:, 0]).sqrt()
    inside = Prior(lambda n, g: torch.rand(n, 1, generator=g).double() - 1, gan.prior.log_prob)  # x below 1
    gan.prior = inside
    chain = mcmc(gan, 4000, seeded(), kernel=mala(0.3), n_steps=80)
    assert chain.info["diverged"] > 0.5
    cut = stats.truncnorm(-np.inf, (3 - TARGET.mean()) / TARGET.std(), TARGET.mean(), TARGET.std())
    assert p_value(chain, cut.cdf) > 0.01
