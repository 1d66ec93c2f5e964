"""DOT and DG-flow against closed forms, autograd and an exact assignment."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from utils.selection import LatentGAN
from utils.transport import FLOWS, discriminator_optimal_transport, effective_lipschitz, gradient_flow


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Stretch(nn.Module):
    """x = 3 z + 1 in the plane, in float64."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, z):
        return self.scale * z + 1


SLOPE = torch.tensor([0.6, -0.8], dtype=torch.float64)  # of length 1
CENTRE = torch.tensor([2.0, 0.0], dtype=torch.float64)
G = Stretch().eval()


def linear(x):
    return 5 + x @ SLOPE


def bowl(x):
    """d(x) = -|x - CENTRE|^2 / 2."""
    return -0.5 * (x - CENTRE).square().sum(1)


def wavy(x):
    return (2 * x[:, 0]).sin() * x[:, 1] + 0.3 * x[:, 1]


def starts(n: int, seed: int = 0) -> torch.Tensor:
    """The latents that a method with this seed begins with, if it draws nothing before."""
    return torch.randn(n, 2, generator=seeded(seed)).double()


# --- the Lipschitz constant


def test_lipschitz_constant_of_a_linear_function():
    x, y = torch.randn(2, 4000, 2, dtype=torch.float64, generator=seeded())
    steepness = ((x - y) @ (3 * SLOPE)).abs() / (x - y).norm(dim=1)
    value = effective_lipschitz(lambda v: v @ (3 * SLOPE), x, y)
    assert value == pytest.approx(steepness.max().item(), rel=1e-12)
    assert 2.99 < value <= 3


def test_lipschitz_constant_by_hand():
    x, y = (
        torch.tensor([[0.0], [1.0], [4.0]]),
        torch.tensor([[2.0], [1.0], [3.0]]),
    )  # the second pair is equal
    assert effective_lipschitz(lambda v: v[:, 0] ** 2, x, y) == 7  # |16 - 9| / 1, against |0 - 4| / 2


def test_lipschitz_constant_takes_data_of_any_shape():
    x, y = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)  # distance 2
    assert effective_lipschitz(lambda v: 10 * v[:, 0, 0], x, y) == 5


def test_lipschitz_constant_needs_pairs():
    with pytest.raises(ValueError, match="no pair that differs"):
        effective_lipschitz(linear, CENTRE[None], CENTRE[None])


def test_dot_estimates_the_constant_from_pairs_of_samples():
    samples = discriminator_optimal_transport(
        LatentGAN(G, linear), 3, seeded(), space="data", n_pairs=2000, n_steps=0
    )
    assert 0.995 < samples.info["lipschitz"] <= 1
    samples = discriminator_optimal_transport(
        LatentGAN(G, linear), 3, seeded(), space="latent", n_pairs=2000, n_steps=0
    )
    assert 3 * 0.995 < samples.info["lipschitz"] <= 3  # d(G(z)) is three times as steep in z
    first, second = starts(400).split(200)
    expected = effective_lipschitz(wavy, G(first), G(second))
    samples = discriminator_optimal_transport(
        LatentGAN(G, wavy), 3, seeded(), space="data", n_pairs=200, n_steps=0
    )
    assert samples.info["lipschitz"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="K_eff = 0"):
        discriminator_optimal_transport(LatentGAN(G, lambda x: 0 * x[:, 0]), 3, seeded())


# --- DOT


@pytest.mark.parametrize(("space", "steepness"), [("data", 1.0), ("latent", 3.0)])
@pytest.mark.parametrize("lipschitz", [0.5, 0.8])
def test_dot_on_a_linear_logit_walks_a_known_way(space, steepness, lipschitz):
    # the first step has no distance term; then each gains (steepness / K - 1) step_size along the slope
    n_steps, step_size = 12, 0.05
    samples = discriminator_optimal_transport(
        LatentGAN(G, linear),
        40,
        seeded(),
        space=space,
        lipschitz=lipschitz,
        n_steps=n_steps,
        step_size=step_size,
    )
    rate = steepness / lipschitz
    walked = step_size * (rate + (n_steps - 1) * (rate - 1)) * SLOPE
    start = starts(40)
    if space == "data":
        torch.testing.assert_close(samples.x, G(start) + walked)
        assert torch.equal(samples.z, start)
    else:
        torch.testing.assert_close(samples.z, start + walked)
        torch.testing.assert_close(samples.x, G(start + walked))
    assert samples.info["distance"] == pytest.approx(walked.norm().item())


def test_dot_stays_where_the_logit_is_flatter_than_its_constant():
    samples = discriminator_optimal_transport(
        LatentGAN(G, linear), 40, seeded(), space="data", lipschitz=2.0, step_size=0.01, n_steps=300
    )
    assert (samples.x - G(starts(40))).norm(dim=1).max() <= 0.02


def transport_into_the_bowl(n: int, radius: float, step_size: float = 0.02):
    """Where DOT and theory move n samples of G; radius is K_eff: |grad d| is the distance to CENTRE."""
    samples = discriminator_optimal_transport(
        LatentGAN(G, bowl), n, seeded(), space="data", lipschitz=radius, step_size=step_size, n_steps=800
    )
    y = G(starts(n))
    distance = (y - CENTRE).norm(dim=1, keepdim=True)
    expected = CENTRE + (y - CENTRE) / distance * distance.clamp_max(radius)
    return y.detach(), samples.x, expected.detach()


def test_dot_finds_its_optimum():
    # the minimum of |x - y| + |x - c|^2 / (2 K) is y within the distance K of c, else on the sphere there
    y, x, expected = transport_into_the_bowl(300, radius=1.5)
    assert ((y - CENTRE).norm(dim=1) < 1.5).double().mean() > 0.05  # some lie inside
    assert ((x - y).norm(dim=1) > 1).double().mean() > 0.5  # and most are moved
    assert (x - expected).norm(dim=1).max() < 0.04  # two steps: the distance has a kink at y


def test_dot_into_the_bowl_is_an_optimal_transport():
    y, x, _ = transport_into_the_bowl(150, radius=1.5)
    costs = torch.cdist(y, x).numpy()
    rows, columns = linear_sum_assignment(costs)  # W_1 between two sets of as many points
    assert costs.diagonal().mean() == pytest.approx(costs[rows, columns].mean(), abs=0.02)
    assert costs.diagonal().mean() > 1.5
    assert costs[np.arange(150), np.roll(np.arange(150), 1)].mean() > 1.5 * costs.diagonal().mean()


def test_dot_in_both_spaces_is_the_same_for_an_identity():
    class Identity(Stretch):
        def forward(self, z):
            return z

    identity = Identity().eval()
    settings = {"lipschitz": 0.7, "n_steps": 20}
    a, b = (
        discriminator_optimal_transport(LatentGAN(identity, wavy), 30, seeded(), space=space, **settings)
        for space in ("data", "latent")
    )
    torch.testing.assert_close(a.x, b.x)
    assert (a.x - starts(30)).norm(dim=1).max() > 0.01


# --- DG-flow


@pytest.mark.parametrize("space", ["data", "latent"])
@pytest.mark.parametrize("divergence", FLOWS)
def test_one_step_of_the_flow_is_its_formula(divergence, space):
    step_size = 0.3
    samples = gradient_flow(
        LatentGAN(G, wavy),
        50,
        seeded(),
        divergence=divergence,
        space=space,
        temperature=0,
        n_steps=1,
        step_size=step_size,
    )
    start = (G(starts(50)) if space == "data" else starts(50)).detach().requires_grad_(True)
    d = wavy(start) if space == "data" else wavy(G(start))
    probability = 1 / (1 + torch.exp(-d))
    if divergence == "KL":
        potential = d
    elif divergence == "JS":
        potential = torch.log1p(torch.exp(d))  # its gradient is D grad d
    else:
        potential = torch.log(probability)  # its gradient is (1 - D) grad d
    (drift,) = torch.autograd.grad(potential.sum(), start)
    moved = samples.x if space == "data" else samples.z
    torch.testing.assert_close(moved, start.detach() + step_size * drift)
    assert drift.abs().max() > 0.1


def test_noise_of_the_flow():
    n, step_size, temperature = 40_000, 0.2, 0.07
    samples = gradient_flow(
        LatentGAN(G, linear),
        n,
        seeded(),
        temperature=temperature,
        n_steps=1,
        step_size=step_size,
        space="data",
    )
    noise = samples.x - G(starts(n)).detach() - step_size * SLOPE
    assert noise.mean(0).abs().max() < 5 * (2 * step_size * temperature / n) ** 0.5
    assert ((noise.var(0) / (2 * step_size * temperature) - 1).abs() < 5 * (2 / n) ** 0.5).all()
    assert torch.corrcoef(noise.T)[0, 1].abs() < 5 / n**0.5


def test_the_flow_run_on_forgets_the_prior():
    # v' = (1 - eta) v + eta c + noise is an AR(1) process, whatever the prior of v
    n, step_size, temperature = 20_000, 0.2, 0.05
    samples = gradient_flow(
        LatentGAN(G, bowl),
        n,
        seeded(),
        temperature=temperature,
        n_steps=80,
        step_size=step_size,
        space="data",
    )
    variance = 2 * step_size * temperature / (1 - (1 - step_size) ** 2)
    assert (samples.x.mean(0) - CENTRE).abs().max() < 5 * (variance / n) ** 0.5
    assert ((samples.x.var(0) / variance - 1).abs() < 5 * (2 / n) ** 0.5).all()


def test_one_step_of_the_flow_lowers_its_divergence():
    # p_g = N(1, 9 I), p_d = N(0, I): KL(p || p_d) + gamma E log p of the Gaussian that a step leads to
    def logit(x):
        return -0.5 * x.square().sum(1) + 0.5 * ((x - 1) / 3).square().sum(1) + 2 * np.log(3)

    def free_energy(x, temperature):
        mean, variance = x.mean(0), x.var(0)
        kl = 0.5 * (variance + mean**2 - 1 - variance.log()).sum()
        entropy = 0.5 * (variance.log() + 1 + np.log(2 * np.pi)).sum()
        return (kl - temperature * entropy).item()

    for temperature in (0.0, 0.5):
        settings = {"temperature": temperature, "step_size": 0.02, "space": "data"}
        values = [
            free_energy(
                gradient_flow(LatentGAN(G, logit), 20_000, seeded(), n_steps=k, **settings).x, temperature
            )
            for k in (0, 1, 2)
        ]
        assert values[0] > values[1] > values[2]
    # run on with the ratio of the start, it overshoots: the points collapse
    collapsed = gradient_flow(
        LatentGAN(G, logit), 2000, seeded(), temperature=0, step_size=0.2, n_steps=100, space="data"
    )
    assert collapsed.x.var(0).max() < 1e-6


# --- errors


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (discriminator_optimal_transport, {"space": "pixel"}, "space='pixel' is unknown"),
        (discriminator_optimal_transport, {"lipschitz": 0.0}, "lipschitz=0.0 must be positive"),
        (discriminator_optimal_transport, {"step_size": -1.0}, "step_size=-1.0 must be positive"),
        (discriminator_optimal_transport, {"n_steps": -1}, "n_steps=-1 must be a whole number, at least 0"),
        (discriminator_optimal_transport, {"n_pairs": 0}, "n_pairs=0"),
        (gradient_flow, {"space": "pixel"}, "space='pixel' is unknown"),
        (gradient_flow, {"divergence": "TV"}, "divergence='TV' is unknown; choose one of KL, JS, log D"),
        (gradient_flow, {"temperature": -0.1}, "temperature=-0.1 must be 0 or more"),
        (gradient_flow, {"step_size": float("inf")}, "step_size=inf"),
        (gradient_flow, {"n_steps": -1}, "n_steps=-1 must be a whole number, at least 0"),
    ],
)
def test_bad_settings_name_the_argument(method, settings, message):
    with pytest.raises(ValueError, match=message):
        method(LatentGAN(G, wavy), 5, seeded(), **settings)


def test_an_infinite_gradient_is_an_error():
    with pytest.raises(FloatingPointError, match="not finite"):
        gradient_flow(LatentGAN(G, lambda x: x.abs().sum(1).sqrt() * 0 + float("nan")), 5, seeded())
