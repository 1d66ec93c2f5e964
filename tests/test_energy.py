"""E(z) = -log p_0(z) - d(G(z)): closed forms, finite differences, and a target recovered end to end."""

import copy
import functools
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from utils.checkpoints import freeze
from utils.energy import Prior, latent_energy, prior_of, standard_normal
from utils.models import build_gan
from utils.models.layers import bake
from utils.samplers import energy_and_gradient, mala, sample

A = torch.tensor([[1.2, 0.3], [-0.4, 0.8]], dtype=torch.float64)
B = torch.tensor([0.5, -1.0], dtype=torch.float64)
P_G = MultivariateNormal(B, A @ A.T)  # the law of G(z) = A z + B
P_D = MultivariateNormal(
    torch.tensor([1.2, -0.4], dtype=torch.float64),
    torch.tensor([[0.9, -0.35], [-0.35, 0.6]], dtype=torch.float64),
)


def G(z):
    return z @ A.T + B


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_pair(family: str = "dcgan") -> tuple[nn.Module, nn.Module]:
    """A generator and discriminator with weights large enough to matter, in evaluation mode."""
    torch.manual_seed(0)
    G, D = build_gan(family, latent_dim=6, g_width=4, d_width=4, image_size=8)
    with torch.no_grad():
        for p in G.parameters():
            p.mul_(4 if family == "dcgan" else 1)
        for p in D.parameters():
            p.add_(0.05 * torch.randn(p.shape))
        for _ in range(3):  # statistics of batch norm and spectral norm
            D.train()(G.train()(torch.randn(32, 6)))
    return freeze(G), freeze(D)


class Holder:
    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)


def test_standard_normal_is_its_density():
    z = torch.randn(5, 2, 3, generator=seeded())
    torch.testing.assert_close(standard_normal(z), Normal(0, 1).log_prob(z).sum((1, 2)))


def test_linear_generator_and_quadratic_logit_in_closed_form():
    Q = torch.tensor([[0.7, 0.2], [0.2, -0.3]], dtype=torch.float64)
    z = torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    value, gradient = energy_and_gradient(latent_energy(G, lambda x: (x @ Q * x).sum(1)), z)
    x = G(z)
    expected = 0.5 * z.square().sum(1) + math.log(2 * math.pi) - torch.einsum("ni,ij,nj->n", x, Q, x)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, z - 2 * x @ Q @ A)


def test_another_prior():
    prior = Normal(1.0, 2.0)
    energy = latent_energy(G, lambda x: x[:, 0], prior=lambda z: prior.log_prob(z).sum(1))
    z = torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    value, gradient = energy_and_gradient(energy, z)
    torch.testing.assert_close(value, -prior.log_prob(z).sum(1) - G(z)[:, 0])
    torch.testing.assert_close(gradient, (z - 1) / 4 - A[0])


def test_a_constant_logit_leaves_the_prior():
    energy = latent_energy(G, lambda x: 0 * x[:, 0] + 3.0)
    n = 10_000
    z0 = 3 + 0.3 * torch.randn(n, 2, dtype=torch.float64, generator=seeded(1))
    z = sample(energy, z0, mala(1.0), 60, seeded()).z
    assert z.mean(0).abs().max() < 5 / n**0.5
    assert (z.T.cov() - torch.eye(2, dtype=torch.float64)).abs().max() < 5 * (2 / n) ** 0.5


def assert_recovers_data(logit) -> None:
    """MALA on the energy of `logit` must give samples of p_d: mean and covariance within 5 errors."""
    n = 10_000
    z0 = torch.randn(n, 2, dtype=torch.float64, generator=seeded(1))
    chain = sample(latent_energy(G, logit), z0, mala(0.6), 80, seeded())
    assert chain.acceptance.mean() > 0.5
    x = G(chain.z)
    variance = P_D.variance
    assert ((x.mean(0) - P_D.mean).abs() < 5 * (variance / n).sqrt()).all(), x.mean(0)
    error = ((variance[:, None] * variance[None, :] + P_D.covariance_matrix**2) / n).sqrt()
    assert ((x.T.cov() - P_D.covariance_matrix).abs() < 5 * error).all(), x.T.cov()


def log_ratio(x):
    return P_D.log_prob(x) - P_G.log_prob(x)


def test_the_optimal_logit_gives_back_the_data():
    assert_recovers_data(log_ratio)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: -log_ratio(x),
        lambda x: torch.sigmoid(log_ratio(x)),
        lambda x: log_ratio(x) / 2,
        lambda x: 0 * log_ratio(x),
    ],
    ids=["sign", "probability", "half", "none"],
)
def test_a_wrong_logit_does_not(wrong):
    with pytest.raises(AssertionError):
        assert_recovers_data(wrong)


@pytest.mark.parametrize("baked", [False, True])
@pytest.mark.parametrize("family", ["dcgan"])
def test_gradient_through_networks_by_finite_differences(family, baked):
    G, D = (module.double() for module in tiny_pair(family))
    if baked:
        bake(D)
    energy = latent_energy(G, D)
    z = torch.randn(3, 6, dtype=torch.float64, generator=seeded())
    value, gradient = energy_and_gradient(energy, z)
    torch.testing.assert_close(value, 0.5 * z.square().sum(1) + 3 * math.log(2 * math.pi) - D(G(z)))
    h = 1e-6
    for i in range(6):
        step = h * torch.eye(6, dtype=torch.float64)[i]
        slope = (energy(z + step) - energy(z - step)) / (2 * h)  # (3,)
        torch.testing.assert_close(gradient[:, i], slope, rtol=1e-5, atol=1e-7)
    assert (gradient - z).abs().max() > 1e-3  # the networks have a say in it


def test_energies_of_a_batch_do_not_depend_on_each_other():
    G, D = tiny_pair()
    energy = latent_energy(G, D)
    z = torch.randn(8, 6, generator=seeded())
    alone = torch.cat([energy(row[None]) for row in z])
    torch.testing.assert_close(energy(z), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["G", "logit"])
def test_training_mode_is_an_error(name):
    G, D = tiny_pair()
    part = {"G": G, "logit": D}[name]
    part.train()
    with pytest.raises(ValueError, match=rf"{name}.*\.eval\(\)"):
        latent_energy(G, D)
    part.eval()
    latent_energy(G, D)
    list(part.modules())[-1].train()  # one layer is enough
    with pytest.raises(ValueError, match=f"{name} is in training mode"):
        latent_energy(G, D)


def test_plain_functions_have_no_mode():
    assert latent_energy(G, log_ratio)(torch.zeros(2, 2, dtype=torch.float64)).shape == (2,)


@pytest.mark.parametrize(
    "hide", [functools.partial, lambda net: net.forward, Holder], ids=["partial", "method", "object"]
)
def test_a_network_in_training_mode_is_found_inside(hide):
    G, D = tiny_pair()
    latent_energy(hide(G), hide(D))
    with pytest.raises(ValueError, match=r"logit is in training mode.*network in it"):
        latent_energy(hide(G), hide(D.train()))


@pytest.mark.parametrize(
    "logit",
    [
        lambda x: x.mean().view(1), lambda x: x.mean(), lambda x: x[:, :1], lambda x: x[:, :1, None, None],
        lambda x: (x[:, 0], x), lambda x: x[:, 0].detach().numpy(),
    ],
    ids=["(1,)", "()", "(n, 1)", "(n, 1, 1, 1)", "tuple", "numpy"],
)  # fmt: skip
def test_a_logit_that_would_broadcast_is_refused(logit):
    z = torch.zeros(4, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"logit has shape .*\(4,\)"):
        latent_energy(G, logit)(z)
    with pytest.raises(ValueError, match=r"prior has shape \(4, 2\)"):
        latent_energy(G, lambda x: x[:, 0], prior=Normal(0.0, 1.0))(z)


def test_what_G_cannot_take_or_gives_is_named():
    net = nn.Linear(2, 2).eval()
    with pytest.raises(
        ValueError, match=r"G cannot take z of shape \(4, 2\) and type torch.float64.*as_generator"
    ):
        latent_energy(net, lambda x: x[:, 0])(torch.zeros(4, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"G returned a tuple.*pick="):
        latent_energy(lambda z: (z, z), lambda x: x[:, 0])(torch.zeros(4, 2))


def test_a_first_layer_that_works_in_place_leaves_z_alone():
    z = torch.randn(5, 2, generator=seeded())
    before = z.clone()
    energy = latent_energy(nn.ReLU(inplace=True).eval(), lambda x: x[:, 0])
    torch.testing.assert_close(energy(z), -standard_normal(before) - before[:, 0].clamp_min(0))
    assert torch.equal(z, before)


def test_the_prior_of_a_generator_is_taken_along():
    net = nn.Identity().eval()
    with pytest.raises(ValueError, match="latent_dim"):
        prior_of(net)
    net.prior = Prior(lambda n, g: torch.ones(n, 2), lambda z: -z.square().sum(1))
    z = torch.randn(5, 2, generator=seeded())
    torch.testing.assert_close(latent_energy(net, lambda x: 0 * x[:, 0])(z), z.square().sum(1))
    assert torch.equal(prior_of(net).draw(3, seeded()), torch.ones(3, 2))


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision"):
        latent_energy(G, log_ratio, precision="float16")


@pytest.mark.parametrize("family", ["dcgan"])
def test_bfloat16_is_near_float32(family):
    G, D = tiny_pair(family)
    types = set()
    D.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    z = torch.randn(64, 6, generator=seeded())
    value, gradient = energy_and_gradient(latent_energy(G, D), z)
    rough_value, rough_gradient = energy_and_gradient(latent_energy(G, D, precision="bfloat16"), z)
    assert types == {torch.float32, torch.bfloat16}
    assert rough_value.dtype == rough_gradient.dtype == torch.float32
    prior_gradient = z  # of -log p_0: what is left is due to the networks
    d_gradient, rough_d_gradient = gradient - prior_gradient, rough_gradient - prior_gradient
    d = standard_normal(z) + value
    assert (value - rough_value).abs().max() < 0.02 * d.abs().max()
    assert (d_gradient - rough_d_gradient).norm() < 0.15 * d_gradient.norm()


def test_precision_holds_inside_the_callers_autocast():
    G, D = tiny_pair()
    z = torch.randn(4, 6, generator=seeded())
    expected = latent_energy(G, D)(z)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(latent_energy(G, D)(z), expected)


def test_chains_leave_frozen_and_trainable_networks_alone():
    G, D = tiny_pair()
    D.requires_grad_(True)
    before = copy.deepcopy({**G.state_dict(), **{f"D.{k}": v for k, v in D.state_dict().items()}})
    sample(latent_energy(G, D), torch.randn(4, 6, generator=seeded()), mala(0.1), 5, seeded())
    after = {**G.state_dict(), **{f"D.{k}": v for k, v in D.state_dict().items()}}
    assert all(torch.equal(before[k], after[k]) for k in before)  # batch norm and spectral norm included
    assert all(p.grad is None for p in [*G.parameters(), *D.parameters()])
    assert not any(p.requires_grad for p in G.parameters()) and all(p.requires_grad for p in D.parameters())
