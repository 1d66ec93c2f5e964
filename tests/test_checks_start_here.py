"""Each check of notebook 00 accepts the solution, names typical mistakes, and is gentle with a stub."""

import pytest
import torch

from notebooks import checks


def gradient_of(energy, z, reduce=torch.sum):
    z = z.detach().requires_grad_(True)
    return torch.autograd.grad(reduce(energy(z)), z)[0]


def step(energy, z, step_size, noise):
    return z - 0.5 * step_size * gradient_of(energy, z) + step_size**0.5 * noise


def attached(energy, z, step_size, noise):
    z.requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy(z).sum(), z)
    return z - 0.5 * step_size * gradient + step_size**0.5 * noise


STEPS = {
    "climbs": lambda E, z, eps, n: z + 0.5 * eps * gradient_of(E, z) + eps**0.5 * n,
    "half is missing": lambda E, z, eps, n: z - eps * gradient_of(E, z) + eps**0.5 * n,
    "noise is missing": lambda E, z, eps, n: z - 0.5 * eps * gradient_of(E, z),
    "needs the root": lambda E, z, eps, n: z - 0.5 * eps * gradient_of(E, z) + eps * n,
    "not scaled": lambda E, z, eps, n: z - 0.5 * eps * gradient_of(E, z) + n,
    "2 eps": lambda E, z, eps, n: z - 0.5 * eps * gradient_of(E, z) + (2 * eps) ** 0.5 * n,
    "mean energy": lambda E, z, eps, n: z - 0.5 * eps * gradient_of(E, z, torch.mean) + eps**0.5 * n,
    "shape of z": lambda E, z, eps, n: step(E, z, eps, n)[0],
    "detach": attached,
    "differs": lambda E, z, eps, n: step(E, z, eps, n) + 1,
}
LOGITS = {
    "sign is wrong": lambda D: -torch.logit(D),
    "is missing": torch.log,
    "take its logarithm": lambda D: D / (1 - D),
    "second sigmoid": torch.sigmoid,
    "natural logarithm": lambda D: torch.log10(D) - torch.log10(1 - D),
    "cut off": lambda D: torch.log(D + 1e-8) - torch.log(1 - D + 1e-8),
    "a clamp": lambda D: torch.logit(D, eps=1e-6),
    "one logit a probability": lambda D: torch.logit(D).sum(),
    "differs": lambda D: torch.logit(D) + 1,
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def draw_twice(seed, n):
    return torch.randn(n, 2, generator=seeded(seed)), torch.randn(n, 2, generator=seeded(seed))


def with_one_generator(seed, n):
    generator = seeded(seed)
    return torch.randn(n, 2, generator=generator), torch.randn(n, 2, generator=generator)


def with_the_global_seed(seed, n):
    torch.manual_seed(seed)
    a = torch.randn(n, 2)
    torch.manual_seed(seed)
    return a, torch.randn(n, 2)


def uniform_draws(seed, n):
    return torch.rand(n, 2, generator=seeded(seed)), torch.rand(n, 2, generator=seeded(seed))


DRAWS = {
    "a generator moves on": with_one_generator,
    "global generator": with_the_global_seed,
    "one draw returned twice": lambda seed, n: (draw_twice(seed, n)[0],) * 2,
    "seed is not used": lambda seed, n: draw_twice(0, n),
    "not standard normal": uniform_draws,
    "two tensors": lambda seed, n: tuple(x[:, 0] for x in draw_twice(seed, n)),
}


def test_solutions_pass(capsys):
    checks.check_step_from_energy(step)
    checks.check_logit_of_probability(lambda D: torch.log(D) - torch.log1p(-D))
    checks.check_logit_of_probability(torch.logit)
    checks.check_equal_draws(draw_twice)
    assert capsys.readouterr().out.count("right") == 4


@pytest.mark.parametrize("mistake", STEPS)
def test_wrong_steps_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_step_from_energy(STEPS[mistake])


@pytest.mark.parametrize("mistake", LOGITS)
def test_wrong_logits_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_logit_of_probability(LOGITS[mistake])


@pytest.mark.parametrize("mistake", DRAWS)
def test_wrong_draws_are_named(mistake):
    with pytest.raises(AssertionError, match=mistake):
        checks.check_equal_draws(DRAWS[mistake])


def test_the_global_generator_is_put_back():
    before = torch.get_rng_state()
    with pytest.raises(AssertionError):
        checks.check_equal_draws(with_the_global_seed)
    assert torch.equal(before, torch.get_rng_state())


def test_an_empty_stub_is_told_so(capsys):
    for check in (checks.check_step_from_energy, checks.check_logit_of_probability, checks.check_equal_draws):
        check(lambda *arguments: None)
    assert capsys.readouterr().out.count("nothing returned yet") == 3
