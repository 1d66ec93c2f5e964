"""Networks as strangers leave them, through the adapters: closed forms, and refusals that name the remedy."""

import copy
import functools
import math

import pytest
import torch
from scipy import stats
from torch import nn

from utils.adapters import as_generator, as_logit, truncated, uniform
from utils.density_ratio import accuracy, describe, fit_logit, logistic_loss, logits_of
from utils.energy import Prior, latent_energy, prior_of
from utils.samplers import mala, sample
from utils.zoo import calibrate, draw_samples, samples_of

pytestmark = pytest.mark.filterwarnings("ignore:.*(weight_norm|spectral_norm).*deprecated")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conv_generator(end: nn.Module) -> nn.Module:
    """DCGAN as it is taught everywhere: latents (n, 6, 1, 1), batch norm, images of 8 x 8."""
    return nn.Sequential(
        nn.ConvTranspose2d(6, 8, 4), nn.BatchNorm2d(8), nn.ReLU(True), nn.ConvTranspose2d(8, 1, 4, 2, 1), end
    )


def conv_critic(*end: nn.Module, norm=lambda layer: layer, channels: int = 1) -> nn.Module:
    layers = [
        norm(nn.Conv2d(channels, 4, 4, 2, 1)),
        nn.LeakyReLU(0.2, inplace=True),
        norm(nn.Conv2d(4, 1, 4)),
    ]
    return nn.Sequential(*layers, *end)


class Tupled(nn.Module):
    """A critic that flattens by `view` and returns (score, features)."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 4, 2, 1), nn.Linear(64, 1)

    def forward(self, x):
        h = self.conv(x).view(len(x), -1)
        return self.head(h), h


def foreign(name: str) -> tuple[nn.Module, dict, nn.Module, dict]:
    """A stranger's G and D in training mode, after a step, and what the adapters must be told."""
    torch.manual_seed(0)
    G, told_g, told_d = conv_generator(nn.Tanh()), {}, {}
    if name == "sigmoid":
        D = conv_critic(nn.Sigmoid())
        told_g, told_d = {"prior": "uniform"}, {"kind": "sigmoid"}
    elif name == "least squares":
        G, D = conv_generator(nn.Sigmoid()), conv_critic(nn.Flatten())
        told_g, told_d = {"output": (0, 1)}, {"kind": "least_squares"}
    elif name == "hinge":
        D, told_d = conv_critic(norm=nn.utils.spectral_norm), {"kind": "hinge"}
    elif name == "critic":
        D, told_d = Tupled(), {"kind": "critic", "pick": 0}
    else:
        G, D, told_d = torch.compile(G), nn.DataParallel(conv_critic(nn.Flatten(0))), {}
    D(getattr(G, "_orig_mod", G)(torch.randn(4, 6, 1, 1)))
    return G, told_g, D, told_d


NAMES = ["sigmoid", "least squares", "hinge", "critic", "wrapped"]


def images(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=generator) * 2 - 1


# --- README's ten lines, on five foreign GANs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:kind=", "ignore:x is in", "ignore:d varies", "ignore:d separates")
def test_bring_your_own_gan(name):
    my_G, told_g, my_D, told_d = foreign(name)
    draw_real = images
    before = copy.deepcopy(dict(my_G.named_buffers()))

    G = as_generator(my_G, **told_g)
    d = as_logit(my_D, **told_d)
    d = calibrate(d, draw_real, samples_of(G), n=300)
    z = prior_of(G).draw(16, seeded())
    chain = sample(latent_energy(G, d), z, mala(step_size=0.01), n_steps=5, generator=seeded(1))
    x = G(chain.z)

    assert x.shape == (16, 1, 8, 8) and x.abs().max() <= 1 and chain.acceptance.mean() > 0.3
    assert my_G.training and my_D.training and all(p.requires_grad for p in my_D.parameters())
    assert all(torch.equal(value, before[key]) for key, value in my_G.named_buffers())
    with pytest.raises(ValueError, match=r"nothing to train.*requires_grad_\(True\)"):
        fit_logit(d, draw_real, samples_of(G), lambda: 0.0, n_steps=1, lr=1e-3)
    fit = {"n_steps": 2, "lr": 1e-3, "batch_size": 8}
    fit_logit(
        d.logit.requires_grad_(True), draw_real, samples_of(G),
        lambda: logistic_loss(logits_of(d, x), logits_of(d, x)), **fit,
    )  # fmt: skip
    assert draw_samples(G, 5, seeded()).shape == (5, 1, 8, 8)


# --- generators


def test_latents_of_every_shape_give_what_the_network_gives():
    my_G = conv_generator(nn.Tanh())
    my_G(torch.randn(64, 6, 1, 1))
    G = as_generator(my_G)
    z = torch.randn(5, 6, generator=seeded())
    expected = my_G.eval()(z[:, :, None, None])
    for given in (z, z[:, :, None, None]):
        torch.testing.assert_close(G(given), expected)
    assert G(z.double()).dtype == torch.float64 and as_generator(G) is G and G.latent_dim == 6
    half = as_generator(copy.deepcopy(my_G).bfloat16())
    assert half(z).dtype == torch.float32 and (half(z) - expected).abs().max() < 0.05
    with pytest.raises(ValueError, match=r"z is a ndarray.*torch\.as_tensor"):
        G(z.numpy())
    with pytest.raises(ValueError, match=r"give \(n, 6\)"):
        G(torch.randn(5, 7))


@pytest.mark.parametrize(
    ("prior", "law"),
    [
        ("uniform", stats.uniform(-1, 2)),
        ("truncated", stats.truncnorm(-2, 2)),
        (functools.partial(truncated, bound=0.7), stats.truncnorm(-0.7, 0.7)),
        (torch.exp, stats.lognorm(1)),
        ("normal", stats.norm()),
    ],
)
def test_the_network_gets_latents_of_its_prior(prior, law):
    G = as_generator(lambda w: 1 * w, latent_shape=3, prior=prior)
    w = samples_of(G)(4000, seeded())
    assert stats.kstest(w.flatten(), law.cdf).pvalue > 1e-3


def test_langevin_under_a_uniform_prior_is_exact():
    """d = 1.5 w on w uniform in (-1, 1): the target is exp(1.5 w) there."""
    G = as_generator(lambda w: 1 * w, latent_shape=1, prior="uniform")
    energy = latent_energy(G, as_logit(lambda x: 1.5 * x))
    w = G(sample(energy, torch.zeros(3000, 1), mala(0.8), 150, seeded()).z)[:, 0]
    cdf = lambda w: (math.e ** (1.5 * w) - math.exp(-1.5)) / (math.exp(1.5) - math.exp(-1.5))  # noqa: E731
    assert stats.kstest(w, cdf).pvalue > 1e-3
    assert uniform(torch.zeros(1)) == 0


def test_a_prior_that_the_user_gives_is_used_by_all():
    prior = Prior(lambda n, g: 5 + torch.randn(n, 2, generator=g), lambda z: -0.5 * (z - 5).square().sum(1))
    G = as_generator(lambda z: 2 * z, latent_shape=2, prior=prior)
    assert abs(samples_of(G)(2000, seeded()).mean() - 10) < 0.2
    z = torch.tensor([[5.0, 6.0]])
    torch.testing.assert_close(latent_energy(G, lambda x: 0 * x[:, 0])(z), torch.tensor([0.5]))


class Noisy(nn.Module):
    latent_dim = 4

    def __init__(self, spread: float):
        super().__init__()
        self.layer, self.spread = nn.Linear(4, 3), spread

    def forward(self, z):
        h = self.layer(z)
        return h + self.spread * torch.randn_like(h)


class Labelled(nn.Linear):
    def forward(self, z, y):
        return super().forward(z) + y


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Noisy(0.01), "fresh noise.*noise_mode"),
        (
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)),
            "depends on its neigh",
        ),
        (functools.partial(nn.Sequential(nn.Linear(4, 3), nn.Dropout())), "in training mode"),
        (nn.Sequential(nn.Linear(4, 3), nn.Dropout()).forward, "in training mode"),
        (lambda z, y: z, "latent_shape"),
        (Labelled(4, 3), r"lambda z: net\(z"),
        (torch.no_grad()(nn.Linear(4, 3).eval().forward), "latent_shape|no gradient"),
    ],
    ids=["noise", "batch statistics", "partial", "method", "function", "two inputs", "no grad"],
)
def test_generators_that_cannot_be_used_are_refused_by_name(net, message):
    with pytest.raises(ValueError, match=message):
        as_generator(net)


def test_outputs_are_taken_by_name_and_ranges_are_said():
    class Both(nn.Linear):
        def forward(self, z):
            return {"sample": super().forward(z), "w": z}

    z = torch.randn(2, 4)
    net = Both(4, 3)
    torch.testing.assert_close(as_generator(net)(z), net(z)["sample"])
    with pytest.raises(ValueError, match=r"returned a tuple of \[0, 1\].*pick="):
        as_generator(lambda z: (z, z), latent_shape=4)
    torch.testing.assert_close(as_generator(lambda z: (z, None), latent_shape=4)(z), z)
    with pytest.warns(UserWarning, match=r"output=None.*\[-1, 1\]"):
        as_generator(conv_generator(nn.Sigmoid()))
    with pytest.warns(UserWarning, match=r"output=\(0, 1\)"):
        as_generator(conv_generator(nn.Tanh()), output=(0, 1))


# --- logits


def test_the_sigmoid_is_taken_off_and_large_logits_keep_their_gradient():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Sigmoid())
    nn.init.ones_(net[0].weight)
    x = torch.linspace(-40, 40, 81)[:, None].requires_grad_(True)
    d = as_logit(net, "sigmoid")
    torch.testing.assert_close(d(x), x[:, 0])
    (slope,) = torch.autograd.grad(d(x).sum(), x)
    assert (slope == 1).all() and isinstance(net[1], nn.Sigmoid)
    with pytest.warns(UserWarning, match="beyond 16 nats"):
        inverse = as_logit(lambda x: torch.sigmoid(x), "sigmoid")(x)
    assert inverse.isfinite().all()
    torch.testing.assert_close(inverse[30:51], x[30:51, 0], atol=0.02, rtol=0)


def test_shapes_of_logits():
    x = torch.randn(6, 5, generator=seeded())
    for shape in ((), (1,), (1, 1, 1)):
        assert torch.equal(as_logit(lambda x, s=shape: x[:, 0].view(-1, *s))(x), x[:, 0])
    for mean in (lambda x: x.mean(), lambda x: x.mean().view(1)):
        with pytest.raises(ValueError, match="one number a row"):
            as_logit(mean)(x)
    with pytest.raises(ValueError, match="say reduce="):
        as_logit(lambda x: x[:, :4].reshape(-1, 1, 2, 2))(x)
    patches = as_logit(lambda x: x[:, :4].reshape(-1, 1, 2, 2), reduce="mean")
    torch.testing.assert_close(patches(x), x[:, :4].mean(1))
    torch.testing.assert_close(as_logit(lambda x: x[:, 0] ** 2, "energy")(x), -(x[:, 0] ** 2))


def test_what_a_discriminator_is_said_to_be_is_held_against_its_values():
    x = torch.rand(20, 1, generator=seeded())
    with pytest.warns(UserWarning, match="kind='sigmoid'"):
        as_logit(lambda x: 1 * x)(x)
    with pytest.raises(ValueError, match="outside"):
        as_logit(lambda x: 3 * x, "sigmoid")(x)
    with pytest.warns(UserWarning, match="no log density ratio"):
        as_logit(lambda x: 1 * x, "critic")
    with pytest.warns(UserWarning, match="batch norm.*accuracy"):
        as_logit(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)))
    real, fake = torch.full((50,), 0.18) + 0.02 * torch.rand(50), torch.full((50,), 0.17)
    with pytest.warns(UserWarning, match="guides nowhere"):
        describe(real, fake)
    assert accuracy(real, fake) == 0.5
