"""The training loop: it learns, a resumed run ends as an unbroken one, and errors say what is wrong."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import utils.training
from utils.models import build_gan
from utils.training import (
    TrainConfig,
    draw_from,
    learning_rate_factor,
    recompute_batch_norm,
    train_gan,
    update_ema,
)

MEAN = torch.tensor([2.0, -1.0])


class Generator(nn.Module):
    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x).squeeze(1)


def toy(seed: int = 0) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    return Generator(), Discriminator()


def tiny(seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """Image networks with batch norm and spectral norm, whose buffers a resumed run needs as well."""
    torch.manual_seed(seed)
    return build_gan("dcgan", latent_dim=4, g_width=2, d_width=2, image_size=8)


def draw_toy(n: int, generator: torch.Generator) -> torch.Tensor:
    return MEAN + 0.5 * torch.randn(n, 2, generator=generator)


IMAGES = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
draw_images = draw_from(IMAGES)


def settings(**changes) -> TrainConfig:
    small = {"n_steps": 8, "batch_size": 8, "norm_batches": 1, "log_every": 2, "save_every": 3}
    return TrainConfig(**(small | changes))


def train(modules, draw_real, config, run_dir=None, on_save=None):
    return train_gan(*modules, draw_real, config, run_dir, on_save, progress=False)


# --- it learns


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
def test_a_small_gan_finds_the_data(loss):
    G, D = toy()
    config = settings(
        loss=loss, n_steps=500, batch_size=128, lr_g=2e-3, lr_d=2e-3, r1_weight=0.1, ema_decay=0.98
    )
    result = train((G, D), draw_toy, config)
    assert result.G is G and result.D is D and result.seconds > 0
    with torch.no_grad():
        x = result.G_ema(torch.randn(4000, 2, generator=torch.Generator().manual_seed(1)))
    assert (x.mean(0) - MEAN).abs().max() < 0.25
    assert (x.std(0) - 0.5).abs().max() < 0.3
    assert all(p.requires_grad for p in [*G.parameters(), *D.parameters()])
    assert not any(p.requires_grad for p in result.G_ema.parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["dcgan"])
def test_image_networks_in_both_precisions(family, precision):
    torch.manual_seed(0)
    G, D = build_gan(family, latent_dim=4, g_width=4, d_width=4, image_size=8)
    types = set()
    D.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    result = train((G, D), draw_images, settings(precision=precision, r1_weight=0.1, r1_every=4))
    expected = {torch.float32} | ({torch.bfloat16} if precision == "bfloat16" else set())
    assert types == expected  # the R1 penalty is always taken in float32
    assert all(p.dtype == torch.float32 for p in [*G.parameters(), *D.parameters()])
    assert [row["step"] for row in result.history] == [2, 4, 6, 8]
    assert all(math.isfinite(value) for row in result.history for value in row.values())


def test_draw_from_scales_and_repeats():
    images = draw_images(200, torch.Generator().manual_seed(1))
    assert images.dtype == torch.float32 and images.shape == (200, 3, 8, 8)
    known = IMAGES.double() / 127.5 - 1
    distance = (images[:, None].double() - known[None]).abs().amax((2, 3, 4))  # (200, 50)
    assert distance.amin(1).max() < 1e-6
    assert len(distance.argmin(1).unique()) > 40
    assert torch.equal(images, draw_images(200, torch.Generator().manual_seed(1)))


def test_draw_from_takes_floats_as_they_are_and_refuses_other_ranges():
    floats = IMAGES.float() / 127.5 - 1
    assert torch.equal(
        draw_from(floats)(20, torch.Generator().manual_seed(1)),
        draw_images(20, torch.Generator().manual_seed(1)),
    )
    for wrong in (IMAGES / 255, IMAGES.float(), IMAGES.long(), floats * float("nan")):
        with pytest.raises(ValueError, match=r"images are .* give uint8, or floats"):
            draw_from(wrong)


@pytest.mark.parametrize("n_last", [3, 16])
def test_a_short_last_batch_is_split_by_what_came(n_last):
    """All real points score 10, all fakes -10, in a full batch and in the loader's last one."""

    class Score(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.scale * x[:, 0]

    class Point(nn.Module):
        latent_dim = 1

        def __init__(self):
            super().__init__()
            self.at = nn.Parameter(torch.tensor([-10.0]))

        def forward(self, z):
            return 0 * z + self.at

    batches = iter([torch.full((n, 1), 10.0) for n in (8, n_last)])
    config = settings(n_steps=2, log_every=1, lr_g=0, lr_d=0)
    rows = train((Point(), Score()), lambda n, g: next(batches), config).history
    assert [(row["logit_real"], row["logit_fake"]) for row in rows] == [(10, -10), (10, -10)]


def test_a_discriminator_that_returns_its_batch_mean_is_named():
    with pytest.raises(ValueError, match="D returned shape"):
        train((Generator(), MeanOf(Discriminator())), draw_toy, settings())


class MeanOf(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x).mean().view(1)


def test_networks_with_computed_weights_or_five_dimensions_train_twice():
    class Foreign(Generator):
        def __init__(self):
            super().__init__()
            nn.utils.spectral_norm(self.net[0])  # the old one, which keeps its product
            self.odd = nn.Parameter(torch.zeros(1, 1, 1, 1, 2))

        def forward(self, z):
            return self.net(z) + self.odd.view(2)

    G, D = Foreign(), nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 1)), nn.Flatten(0))
    for n_steps in (2, 4):
        result = train((G, D), draw_toy, settings(n_steps=n_steps))
    z = torch.randn(3, 2)
    assert not torch.equal(result.G_ema(z), G(z))  # the average has weights of its own


def test_the_layout_of_the_networks_is_left_alone():
    """A discriminator that flattens by `view` trains: nothing is put channels-last behind its back."""

    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 1)

        def forward(self, x):
            return self.head(self.conv(x).view(len(x), -1)).view(-1)

    G = nn.Sequential(nn.Linear(4, 192), nn.Unflatten(1, (3, 8, 8)))
    G.latent_dim = 4
    train((G, Viewing()), draw_images, settings(n_steps=2))


# --- parts of a step


def test_learning_rate():
    config = settings(n_steps=10, decay_from=0.6)
    factors = [learning_rate_factor(step, config) for step in range(11)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])
    linear = settings(n_steps=10, decay_from=0.0)
    assert [learning_rate_factor(step, linear) for step in (0, 5, 9)] == pytest.approx([1, 0.5, 0.1])
    assert learning_rate_factor(9, settings(n_steps=10, decay_from=1.0)) == 1


def test_learning_rates_reach_the_optimisers(monkeypatch):
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or step(self)
    )
    train(toy(), draw_toy, settings(n_steps=4, decay_from=0.5, lr_g=0.1, lr_d=0.3))
    assert rates == pytest.approx([0.3, 0.1, 0.3, 0.1, 0.3, 0.1, 0.15, 0.05])  # D, G, D, G, ...


def test_update_ema():
    average, module = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    with torch.no_grad():
        average.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        module.weight.copy_(torch.tensor([5.0, 0.0, 3.0]))
        module.running_mean.fill_(7)
    update_ema(average, module, 0.75)
    torch.testing.assert_close(average.weight, nn.Parameter(torch.tensor([2.0, 1.5, 3.0])))
    assert torch.equal(average.running_mean, torch.full((3,), 7.0))
    assert torch.equal(module.weight, nn.Parameter(torch.tensor([5.0, 0.0, 3.0])))


def test_the_average_follows_its_recursion():
    G, D = toy()
    expected = [p.detach().double() for p in G.parameters()]

    def on_save(step, G_ema):
        decay = min(0.5, (1 + step) / (10 + step))
        for i, p in enumerate(G.parameters()):
            expected[i] = decay * expected[i] + (1 - decay) * p.detach().double()

    config = settings(n_steps=12, save_every=1, ema_decay=0.5, lr_g=0.05)
    result = train((G, D), draw_toy, config, on_save=on_save)
    for average, p, value in zip(result.G_ema.parameters(), G.parameters(), expected, strict=True):
        torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-6)
        assert not torch.equal(average, p)


def test_updates_alternate(monkeypatch):
    G, D = toy()
    order, sizes = [], []
    step = torch.optim.Adam.step

    def record(self):
        order.append("G" if self.param_groups[0]["params"][0] is next(G.parameters()) else "D")
        return step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", record)
    train((G, D), lambda n, g: sizes.append(n) or draw_toy(n, g), settings(n_steps=3, d_steps=2))
    assert order == ["D", "D", "G"] * 3
    assert sizes == [8] * 6


def test_a_generator_step_leaves_the_discriminator_without_gradient():
    G, D = toy()
    frozen = []
    G.register_forward_hook(lambda *_: frozen.append(not any(p.requires_grad for p in D.parameters())))
    train((G, D), draw_toy, settings(n_steps=2))
    assert frozen == [False, True, False, True]


def test_r1_is_lazy_and_weighs_the_same(monkeypatch):
    calls, config = [], settings(n_steps=8, r1_weight=0.5, r1_every=4)

    def penalty(D, real):
        calls.append(len(real))
        return sum(p.sum() for p in D.parameters())  # its gradient is one everywhere

    monkeypatch.setattr(utils.training, "r1_penalty", penalty)
    gradients = []
    step = torch.optim.Adam.step

    def record(self):
        if self.param_groups[0]["params"][0] is next(D.parameters()):
            gradients.append(self.param_groups[0]["params"][-1].grad.item())  # of the last bias
        return step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", record)
    _, D = modules = toy()
    train(modules, draw_toy, config)
    assert calls == [8, 8]
    assert [round(gradient / 2) for gradient in gradients] == [1, 0, 0, 0, 1, 0, 0, 0]  # 0.5 * 4 * 1


def test_r1_makes_the_discriminator_smoother():
    slopes = []
    for weight in (0.0, 10.0):
        G, D = toy()
        train((G, D), draw_toy, settings(n_steps=150, batch_size=64, lr_d=0.01, r1_weight=weight, r1_every=4))
        slopes.append(utils.training.r1_penalty(D, draw_toy(500, torch.Generator().manual_seed(0))).item())
    assert slopes[1] < 0.2 * slopes[0]


def test_batch_norm_statistics_are_those_of_a_big_batch():
    G, _ = tiny()
    with torch.no_grad():
        for p in G.parameters():
            p.mul_(10)
    norms = [m for m in G.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[0].momentum = 0.3
    inputs = {}
    for m in norms:
        m.register_forward_hook(lambda m, args, output: inputs.update({m: args[0].detach()}))
    recompute_batch_norm(G, n_batches=40, batch_size=256, seed=1)
    assert not G.training and [m.momentum for m in norms] == [0.3, *[0.1] * (len(norms) - 1)]
    statistics = [(m.running_mean.clone(), m.running_var.clone()) for m in norms]
    with torch.no_grad():
        G.train()(torch.randn(20_000, 4, generator=torch.Generator().manual_seed(2)))
    for m, (mean, variance) in zip(norms, statistics, strict=True):
        true_mean, true_variance = inputs[m].mean((0, 2, 3)), inputs[m].var((0, 2, 3))
        assert ((mean - true_mean).abs() < 0.05 * true_variance.sqrt()).all()
        torch.testing.assert_close(variance, true_variance, rtol=0.08, atol=0)


def test_the_returned_average_has_fresh_statistics():
    result = train(tiny(), draw_images, settings())
    statistics = copy.deepcopy(result.G_ema.state_dict())
    assert not result.G_ema.training
    recompute_batch_norm(result.G_ema, n_batches=1)
    assert all(torch.equal(statistics[k], v) for k, v in result.G_ema.state_dict().items())


# --- interruption


def weights_of(result) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value
        for name in ("G", "D", "G_ema")
        for key, value in getattr(result, name).state_dict().items()
    }


def without_time(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


class Interrupting:
    """`draw_images`, with Ctrl-C at one call."""

    def __init__(self, at: int):
        self.left = at

    def __call__(self, n, generator):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return draw_images(n, generator)


CONFIG = settings(n_steps=11, d_steps=2, r1_weight=0.1, r1_every=2, ema_decay=0.9, lr_g=1e-3, lr_d=1e-3)


@pytest.fixture(scope="module")
def unbroken():
    return train(tiny(), draw_images, CONFIG)


def assert_same(result, expected):
    ours, theirs = weights_of(result), weights_of(expected)
    assert ours.keys() == theirs.keys()
    assert not [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert without_time(result.history) == without_time(expected.history)


def test_same_seed_same_weights(unbroken):
    assert_same(train(tiny(), draw_images, CONFIG), unbroken)
    other = train(tiny(), draw_images, TrainConfig(**vars(CONFIG) | {"seed": 1}))
    assert not torch.equal(weights_of(other)["G.net.0.weight"], weights_of(unbroken)["G.net.0.weight"])


@pytest.mark.parametrize("same_modules", [False, True])
@pytest.mark.parametrize("at", [1, 2, 10, 16, 22])
def test_a_resumed_run_ends_as_an_unbroken_one(at, same_modules, unbroken, tmp_path):
    modules = tiny()
    with pytest.raises(KeyboardInterrupt):
        train(modules, Interrupting(at), CONFIG, tmp_path)
    # steps 3, 6 and 9 are on disk; a new process begins with any weights, as it will load others
    began = (tmp_path / "state.pt").exists()
    assert began == (at > 6)
    if not (same_modules and began):
        modules = tiny(seed=5 if began else 0)
    assert_same(train(modules, draw_images, CONFIG, tmp_path), unbroken)


def test_an_error_in_on_save_does_not_lose_the_state(unbroken, tmp_path):
    def on_save(step, G_ema):
        if step == 6:
            raise RuntimeError("no room for the samples")

    with pytest.raises(RuntimeError, match="no room"):
        train(tiny(), draw_images, CONFIG, tmp_path, on_save)
    steps = []
    result = train(tiny(5), draw_images, CONFIG, tmp_path, lambda step, G_ema: steps.append(step))
    assert steps == [9, 11]
    assert_same(result, unbroken)


def test_on_save_may_look_at_the_average_without_changing_the_run(unbroken):
    @torch.no_grad()
    def on_save(step, G_ema):
        G_ema.eval()(torch.randn(4, 4))

    assert_same(train(tiny(), draw_images, CONFIG, on_save=on_save), unbroken)


def test_an_interrupted_generator_step_leaves_modules_that_can_go_on(unbroken, tmp_path):
    G, D = tiny()
    calls = []

    def interrupt(module, inputs):
        calls.append(0)
        if len(calls) == 12:  # G is called d_steps + 1 times a step: in the fourth step, for its own update
            raise KeyboardInterrupt

    handle = G.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train((G, D), draw_images, CONFIG, tmp_path)
    handle.remove()
    assert_same(train((G, D), draw_images, CONFIG, tmp_path), unbroken)
    assert all(p.requires_grad for p in D.parameters())


def test_a_finished_run_is_returned_at_once(unbroken, tmp_path):
    train(tiny(), draw_images, CONFIG, tmp_path)

    def draw_nothing(n, generator):
        raise AssertionError("a finished run must not train")

    assert_same(train(tiny(5), draw_nothing, CONFIG, tmp_path), unbroken)


def test_changed_settings_do_not_resume(tmp_path):
    train(toy(), draw_toy, settings(), tmp_path)
    for changes in ({"lr_g": 0.1}, {"n_steps": 9}, {"betas": (0.0, 0.9)}, {"loss": "hinge"}):
        name = next(iter(changes))
        with pytest.raises(
            ValueError, match=rf"state\.pt was made with other settings.*{name}.*another folder"
        ):
            train(toy(), draw_toy, settings(**changes), tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 99]
)
def test_a_damaged_state_is_named(damage, tmp_path):
    train(toy(), draw_toy, settings(), tmp_path)
    path = tmp_path / "state.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"state\.pt cannot be read .*delete it"):
        train(toy(), draw_toy, settings(), tmp_path)


def test_a_state_cannot_carry_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("code from a state was executed",)

    torch.save({"G": Bomb()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        train(toy(), draw_toy, settings(), tmp_path)


# --- files and errors


def test_the_history_has_the_logged_steps_and_the_last(tmp_path):
    rows = train(toy(), draw_toy, settings(n_steps=7), tmp_path / "run").history
    assert [row["step"] for row in rows] == [2, 4, 6, 7]
    assert set(rows[0]) == {"step", "loss_d", "logit_real", "logit_fake", "loss_g", "seconds"}
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["state.pt"]


def test_metrics_are_those_of_the_step():
    G, D = toy()
    rows = train((G, D), draw_toy, settings(n_steps=1, lr_d=1e-12, lr_g=1e-12)).history
    generator = torch.Generator().manual_seed(0)
    real = D(draw_toy(8, generator))
    fake = D(G(torch.randn(8, 2, generator=generator)))
    again = D(G(torch.randn(8, 2, generator=generator)))
    softplus = nn.functional.softplus
    assert rows[0]["logit_real"] == pytest.approx(real.mean().item(), rel=1e-4)
    assert rows[0]["logit_fake"] == pytest.approx(fake.mean().item(), rel=1e-4)
    assert rows[0]["loss_d"] == pytest.approx(
        (softplus(-real).mean() + softplus(fake).mean()).item(), rel=1e-4
    )
    assert rows[0]["loss_g"] == pytest.approx(softplus(-again).mean().item(), rel=1e-4)


def test_nothing_is_written_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(toy(), draw_toy, settings())
    assert list(Path(tmp_path).iterdir()) == []


def test_divergence_is_an_error_and_is_not_saved(tmp_path):
    with pytest.raises(FloatingPointError, match=r"step 2.*lower lr_g and lr_d"):
        train(toy(), lambda n, g: draw_toy(n, g) / 0, settings(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    [{"loss": "mse"}, {"precision": "float16"}]
    + [{name: 0} for name in ("n_steps", "batch_size", "d_steps", "norm_batches", "log_every", "save_every")],
)
def test_bad_settings_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TrainConfig(**setting)


# --- the cures of notebook 03 and the losses of notebook 05


def test_weights_are_clipped_and_the_gradient_penalty_bounds_the_slope():
    G, D = toy()
    train((G, D), draw_toy, settings(loss="wasserstein", weight_clip=0.05, lr_d=1e-2))
    assert max(p.abs().max().item() for p in D.parameters()) <= 0.05 + 1e-7

    def slope(weight: float) -> float:
        G, D = toy()
        changes = {"n_steps": 150, "batch_size": 64, "lr_d": 1e-2, "d_steps": 2}
        train((G, D), draw_toy, settings(loss="wasserstein", gradient_penalty_weight=weight, **changes))
        x = draw_toy(100, torch.Generator().manual_seed(5)).requires_grad_()
        (gradient,) = torch.autograd.grad(D(x).sum(), x)
        return gradient.norm(dim=1).mean().item()

    assert 0.4 < slope(10.0) < 2.0 < slope(0.0)


def test_ebgan_trains_with_its_margin_and_pulls_features_apart():
    from utils.models.autoencoder import AutoencoderEnergy

    def run(**changes):
        torch.manual_seed(0)
        modules = Generator(), AutoencoderEnergy(width=64, code_dim=16)
        return train(modules, draw_toy, settings(loss="ebgan", margin=2.0, n_steps=20, **changes))

    plain, apart = run(), run(pulling_away_weight=1.0)
    assert math.isfinite(plain.history[-1]["loss_d"]) and plain.history[-1]["logit_real"] >= 0
    pairs = zip(plain.G.parameters(), apart.G.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    with pytest.raises(ValueError, match="margin"):
        train((Generator(), AutoencoderEnergy(width=8)), draw_toy, settings(loss="ebgan", margin=-1.0))


def test_a_state_from_before_a_setting_existed_can_be_resumed(tmp_path):
    train(toy(), draw_toy, settings(n_steps=6), tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["config"]["gradient_penalty_weight"], state["config"]["margin"]
    torch.save(state, tmp_path / "state.pt")
    assert train(toy(), draw_toy, settings(n_steps=6), tmp_path).history[-1]["step"] == 6
