"""Every check accepts the right answer, names each mistake, and is kind to anything else."""

import ast
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.autograd import grad
from torch.distributions import MultivariateNormal
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from notebooks import checks
from notebooks.checks.common import (
    ANYWHERE,
    Check,
    NotYet,
    Unfinished,
    build,
    exercise,
    grade,
    normal,
    uniform,
)
from tests.test_builds import builds
from tests.test_exercises import exercises, solution
from tests.test_long_builds import LONG
from utils.config import ROOT
from utils.losses import pulling_away
from utils.metrics.toy import distance_to_roll

CHECKS = {name: check for name, check in vars(checks).items() if name.startswith("check_")}


def table(check: Check) -> dict:
    return dict(check.table(*check.inputs(torch.Generator().manual_seed(0))))


def answer_with(check: Check, say: str):
    """An answer that gives what the table gives under this key."""
    if check.curried:
        return lambda *given: lambda x: dict(check.table(*given, x))[say]
    return lambda *given: dict(check.table(*given))[say]


def verdict(check: Check, answer, seed: int | None = None) -> str:
    try:
        grade(check, answer, seed)
    except NotYet as error:
        return str(error)
    return "right"


TABLES = [(name, say) for name, check in CHECKS.items() for say in table(check)]


@pytest.mark.parametrize(("name", "say"), TABLES)
def test_table(name, say):
    """The right answer is right, each mistake is called by its own name, for any inputs."""
    for seed in range(3):
        assert verdict(CHECKS[name], answer_with(CHECKS[name], say), seed) == say


def seeded(seed, n, sample=torch.randn):
    return sample(n, 2, generator=torch.Generator().manual_seed(seed))


def attached_step(energy, z, eps, noise):
    z = z.requires_grad_(True)
    return z - 0.5 * eps * grad(energy(z).sum(), z)[0] + eps**0.5 * noise


def penalty(D, real, fake, u, create_graph=True, half=False):
    x = (u * real + (1 - u) * fake).requires_grad_(True)
    off = grad(D(x).sum(), x, create_graph=create_graph)[0].norm(dim=1) - 1
    return (off * (off.detach() if half else off)).mean()


def matching(energy, x, keep=True, half=False):
    x = x.requires_grad_(True)
    (slope,) = grad(energy(x).sum(), x, create_graph=True)
    (curvature,) = grad(slope.sum(), x, create_graph=keep)
    loss = (slope**2 / 2 - (curvature.detach() if half else curvature)).mean()
    return loss if keep else loss.detach()


def twice(sample=torch.randn, other=0, seed=1):
    return lambda s, n: (seeded(seed * s, n, sample), seeded(seed * s + other, n, sample))


DEMANDED = [
    ("check_step_from_energy", "still attached", attached_step),
    ("check_equal_draws", "global", lambda s, n: [torch.randn(n, 2) for _ in "12" if torch.manual_seed(s)]),
    ("check_equal_draws", "one draw returned twice", lambda s, n: (seeded(s, n),) * 2),
    ("check_equal_draws", "moves on", twice(other=1)),
    ("check_equal_draws", "seed is not used", twice(seed=0)),
    ("check_equal_draws", "standard normal", twice(torch.rand)),
    ("check_gradient_penalty", "cannot learn", lambda *given: penalty(*given, create_graph=False)),
    ("check_gradient_penalty", "its gradient in D's weights", lambda *given: penalty(*given, half=True)),
    ("check_score_matching", "no gradient", lambda *given: matching(*given, keep=False)),
    ("check_score_matching", "lost on the way", lambda *given: matching(*given, half=True)),
]


WRONG = [(name, say, wrong) for name, check in CHECKS.items() for say, wrong in check.wrong.items()]


def test_demands():
    for name, say, wrong in DEMANDED + WRONG:
        assert say in verdict(CHECKS[name], wrong)
    demanded = {(name, say) for name, c in CHECKS.items() for say in (*c.demands, *c.properties)}
    tried = {
        (name, say) for name, say in demanded for n, s, _ in DEMANDED + WRONG + LONG if n == name and s in say
    }
    assert tried == demanded, "give a wrong answer to each: @exercise(wrong={say: answer})"


def test_each_check_knows_four_mistakes_and_is_used():
    counts = {
        name: len(table(check)) - 1 + len(check.demands) + len(check.properties)
        for name, check in CHECKS.items()
    }
    assert min(counts.values()) >= 4, counts
    used = [re.search(r"checks\.(check_\w+)\(", cell.source)[1] for _, cell in exercises()]
    used += [made.check for made in builds()]
    assert sorted(used) == sorted(CHECKS)


def converted(check: Check, before, after):
    """The right answer, its tensors put through one function, its result through another."""

    def answer(*given):
        given = [before(x) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in given]
        value = dict(check.table(*given))["right"]
        return tuple(map(after, value)) if isinstance(value, tuple) else after(value)

    return answer


def to_numpy(x):
    return x.detach().numpy() if isinstance(x, torch.Tensor) else np.float64(x)


@pytest.mark.parametrize(
    "check", [check for check in CHECKS.values() if not (check.demands or check.properties or check.curried)]
)
def test_right_in_float64_and_numpy(check):
    assert verdict(check, converted(check, torch.Tensor.double, lambda x: x)) == "right"
    assert verdict(check, converted(check, lambda x: x, to_numpy)) == "right"


def independent_share(x, roll, radius):
    return (distance_to_roll(x, roll)[0] <= radius).float().mean()


def loss_by_torch(real, fake):
    pairs = (real, torch.ones_like(real)), (fake, torch.zeros_like(fake))
    return sum(binary_cross_entropy_with_logits(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("check_stable_logistic_loss", loss_by_torch),
        ("check_logit_of_probability", torch.logit),
        ("check_pulling_away", pulling_away),
        ("check_share_on_roll", independent_share),
        ("check_orthogonal_penalty", lambda W: (W @ W.T * (1 - torch.eye(len(W)))).square().sum().item()),
        ("check_energy", lambda z, G, d: 7 - torch.distributions.Normal(0, 1).log_prob(z).sum(1) - d(G(z))),
    ],
)
def test_independent_answers_are_right(name, answer):
    assert verdict(CHECKS[name], answer) == "right"


def sq(x):
    return x.square().sum(1)


def log_ratio(energy, gradient, z, new, eps, T, back=None, over=lambda eps: 2 * eps, power=1.0):
    on = gradient(z if back == "old" else new)
    forth, back = sq(new - z + eps / 2 * gradient(z)), sq(z - new + eps / 2 * on)
    return (energy(z) - energy(new) + (forth**power - back**power) / over(eps)) / T


def verlet(z, p, gradient, h, L):
    for _ in range(L):
        z = z + h / 2 * p
        p = p - h * gradient(z)
        z = z + h / 2 * p
    return z, p


def undrifted(z, p, gradient, h, L):
    for _ in range(L):
        z, p = z + h * p, p - h / 2 * gradient(z)
        p = p - h / 2 * gradient(z)
    return z, p


def played(players, reals, z_d, z_g, clear="first", size=1, swap=False):
    """The first notebook's game, with optimisers cleared before each backward, after each step, or never."""
    G, D, steps = players.G, players.D, (players.optim_d, players.optim_g)
    losses = []
    for x, a, b in zip(reals, *((z_g, z_d) if swap else (z_d, z_g)), strict=True):
        row = []
        for k, optimiser in enumerate(steps):
            loss = softplus(-D(G(b))).mean() if k else (softplus(-D(x)) + softplus(D(G(a).detach()))).mean()
            if clear == "first":
                optimiser.zero_grad()
            (loss := loss if k else size * loss).backward()
            optimiser.step()
            if clear == "last":
                optimiser.zero_grad()
            row.append(loss.item())
        losses.append(row)
    return torch.tensor(losses)


def jacobians(G, z):
    return torch.autograd.functional.jacobian(lambda z: G(z).sum(0), z).transpose(0, 1)


def shares(x, means, radius, power=1, p=2.0, least=0.0, own=False):
    distance, nearest = torch.cdist(x, means, p=p).min(1)
    near, everything = (
        torch.bincount(i, minlength=len(means)) for i in (nearest[distance**power <= radius], nearest)
    )
    return int((near / (everything if own else len(x)) >= least).sum())


def two_psi(u, w, p, regret, q, by=torch.abs, last="rest", upside=1):
    """The local bound as one writes it from its hints, with a slip in it."""
    order = by(u).argsort()
    B = u.abs()[order][(p[order].cumsum(0) < q).sum()]
    psi = lambda t: (torch.expm1(t) - t) / t**2  # noqa: E731
    inside, over = u.abs() <= B, (psi(B) / psi(-B)) ** upside
    outside = ~inside if last == "rest" else inside
    return 2 * (1 + w[inside].max()) * over * regret + (p * (u.exp() - 1 - u))[outside].sum()


BY_A_STUDENT = [  # tried by a reader who had seen the student's pages only: (check, what was said, answer)
    ("langevin_step", "twice the size", lambda z, g, e, T, n: z - e * g + math.sqrt(2 * e * T) * n),
    ("langevin_step", "belongs to the noise", lambda z, g, e, T, n: z - e / 2 * g / T + math.sqrt(e) * n),
    (
        "langevin_step",
        "its own noise",
        lambda z, g, e, T, n: z - e / 2 * g + (e * T) ** 0.5 * torch.randn_like(z),
    ),
    ("log_acceptance", "the way back starts", lambda *given: log_ratio(*given, back="old")),
    ("log_acceptance", "multiplies where", lambda *given: log_ratio(*given, over=lambda e: 2 / e)),
    ("log_acceptance", "are squared", lambda *given: log_ratio(*given, power=0.5, over=lambda e: 2 * e)),
    ("log_acceptance", "r itself", lambda *given: log_ratio(*given).exp()),
    ("leapfrog", "between two half drifts", verlet),
    ("leapfrog", "after the half kick", undrifted),
    (
        "ula_variance",
        "too cautious",
        lambda e, s, T: T * s**2 / (1 - e / 4 / s**2) if e < 2 * s**2 else math.inf,
    ),
    (
        "ula_variance",
        "not depend on T",
        lambda e, s, T: T * s**2 / (1 - e / 4 / s**2) if e < 4 * s**2 * T else math.inf,
    ),
    ("ar1_effective_sample_size", "that alternates", lambda a, n: min(n, n * (1 - a) / (1 + a))),
    ("ar1_effective_sample_size", "errors that alternate", lambda a, n: n * (1 - abs(a)) / (1 + abs(a))),
    ("score_matching", "no gradient", lambda energy, x: matching(energy, x).item()),
    ("play", "are still there", lambda *given: played(*given, clear="never")),
    ("play", "clear just before", lambda *given: played(*given, clear="last")),
    ("play", "not averaged", lambda *given: played(*given, size=0.5)),
    ("play", "latents are swapped", lambda *given: played(*given, swap=True)),
    (
        "stable_logistic_loss",
        "nan at logits",
        CHECKS["check_stable_logistic_loss"].wrong["the gradient is nan at logits of 1000"],
    ),
    ("non_saturating_loss", "cut off", lambda d: softplus(-d).mean().item()),
    ("generator_gradients", "tuple of 2", lambda d: -d.sigmoid()),
    ("affine_pushforward", "not taken away", lambda x, A, b: MultivariateNormal(0 * b, A @ A.T).log_prob(x)),
    ("mode_count", "squared, the radius", lambda x, m, r, least: shares(x, m, r, 2, least=least)),
    ("mode_count", "a sum of coordinates", lambda x, m, r, least: shares(x, m, r, p=1.0, least=least)),
    ("mode_count", "not that of all points", lambda x, m, r, least: shares(x, m, r, least=least, own=True)),
    ("importance_mean", "by n once more", lambda f, d: ((w := d.softmax(0)) @ f / len(d), 1 / (w @ w))),
    (
        "importance_mean",
        "asks for normalised",
        lambda f, d: (d.softmax(0) @ f, 1 / (2 * d - 2 * d.max()).exp().sum()),
    ),
    ("latent_energy", "no gradient", lambda z, G, d: (sq(z) / 2 - d(G(z))).detach()),
    ("latent_energy", "not their mean", lambda z, G, d: z.square().mean(1) / 2 - d(G(z))),
    ("kl_of_logit", "n is missing", lambda d, star: (d - star).logsumexp(0) - (d - star).mean()),
    ("local_bound", "upside down", lambda *given: two_psi(*given, upside=-1)),
    ("local_bound", "with its sign", lambda *given: two_psi(*given, by=torch.clone)),
    ("local_bound", "over A", lambda *given: two_psi(*given, last="inside")),
    ("acceptance_in_dimension", "below", lambda m, s, k: (s * math.exp(-(m**2) / 2 * (1 - s**2))) ** k),
    ("pull_back", "not to z", lambda z, G, log_p: log_p(z) + jacobians(G, z).det().abs().log()),
    ("uniform_prior", "not the logistic", lambda u, G, d: sq(u) / 2 - d(G(2 * u.sigmoid() - 1))),
    ("uniform_prior", "no gradient", lambda u, G, d: (sq(u) / 2 - d(G(torch.erf(u / 2**0.5)))).detach()),
]


@pytest.mark.parametrize(("name", "say", "answer"), BY_A_STUDENT)
def test_what_a_student_wrote_is_named(name, say, answer):
    for seed in range(2):
        assert say in verdict(CHECKS[f"check_{name}"], answer, seed)


RIGHT_TOO = [  # right, if written in another way than the page's
    ("log_acceptance", log_ratio),
    ("play", lambda *given: played(*given).double()),
    ("generator_gradients", lambda d: torch.stack([-d.sigmoid(), d.sigmoid() - 1])),
    ("affine_pushforward", lambda x, A, b: MultivariateNormal(b, A @ A.T).log_prob(x)),
    ("mode_count", lambda x, m, r, least: shares(x, m, r, least=least)),
    (
        "ar1_effective_sample_size",
        lambda a, n: round(n / (1 + 2 * sum((1 - t / n) * a**t for t in range(1, 500)))),
    ),
    ("importance_mean", lambda f, d: torch.stack([(w := d.softmax(0)) @ f, 1 / (w @ w)])),
    ("local_bound", lambda *given: two_psi(*given).item()),
    ("latent_energy", lambda z, G, d: -torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1) - d(G(z))),
    ("uniform_prior", lambda u, G, d: sq(u) / 2 - d(G(torch.erf(u / 2**0.5)))),
    ("pull_back", lambda z, G, log_p: log_p(G(z)) + torch.linalg.slogdet(jacobians(G, z))[1]),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT_TOO)
def test_another_way_is_right_too(name, answer):
    assert verdict(CHECKS[f"check_{name}"], answer) == "right"


NAN = float("nan")
NUMBERS = [NAN, math.inf, 0.0, 1, True, 1j, (1.0, 2.0), (NAN, NAN), (None, None), [1.0, 2.0], np.zeros(3)]
OBJECTS = ["\u00e9", {}, int, np.array([None, "x"]), lambda *given: torch.zeros(4)]
TENSORS = [torch.tensor(0.0), torch.zeros(0), torch.full((4,), NAN), torch.zeros(4).long(), torch.ones(4) > 0]
NONSENSE = [*NUMBERS, *OBJECTS, *TENSORS, torch.ones(4) * 1j, torch.ones(5).half()]


@pytest.mark.parametrize("name", CHECKS)
def test_nonsense_is_answered_kindly(name):
    for value in NONSENSE:
        message = verdict(CHECKS[name], lambda *given, value=value: value)
        assert message != "right" and message.strip() and message.isascii(), value
        assert "Error" not in message or (CHECKS[name].curried and callable(value)), (value, message)


def test_shapes_of_right_answers_are_told():
    assert "(5, 1)" in verdict(CHECKS["check_logit_of_probability"], lambda D: torch.logit(D)[:, None])
    assert "one number" in verdict(CHECKS["check_logit_of_probability"], lambda D: 0.3)
    assert "is a mean or a sum missing" in verdict(CHECKS["check_kl_of_logit"], lambda d, star: d - star)
    assert "float16" in verdict(CHECKS["check_logit_of_probability"], lambda D: torch.logit(D).half())
    assert "in place" in verdict(CHECKS["check_logit_of_probability"], lambda D: D.logit_())
    assert "a tuple of 2" in verdict(CHECKS["check_generator_gradients"], lambda d: -d.sigmoid())
    assert "zero (at: " + "assert" in verdict(CHECKS["check_temperature"], lambda eps, std: 1 / 0)
    assert "pass it without calling" in verdict(CHECKS["check_temperature"], 3.0)


def double_it(x: normal(5), factor: uniform(1, 2)):
    yield "right", (x * factor).abs()
    yield "the size is wanted", x * factor


@pytest.mark.parametrize("say", ANYWHERE)
def test_what_may_happen_anywhere_is_named(say):
    check = Check(double_it)
    assert verdict(check, lambda x, factor: ANYWHERE[say]((x * factor).abs())) == say
    assert "3 times" in verdict(check, lambda x, factor: 3 * (x * factor).abs())
    assert "0.5 beside" in verdict(check, lambda x, factor: (x * factor).abs() + 0.5)
    assert "nan comes out" in verdict(check, lambda x, factor: (x * factor - 0.5).sqrt() + (x * factor).abs())


def test_grading_leaves_the_global_generator_and_draws_afresh():
    seen, before = [], torch.get_rng_state()
    for _ in range(2):
        verdict(Check(double_it), lambda x, factor: (seen.append(x), torch.randn(5))[1])
    assert torch.equal(before, torch.get_rng_state())
    assert len({x[0].item() for x in seen}) == 6 and len(seen) == 8  # wrong: a second look at the same inputs
    assert "draws its own noise" in verdict(Check(double_it), lambda x, factor: torch.randn(5))


def test_a_stub_and_a_mistake_are_shown_without_a_traceback(capsys):
    for name, check in CHECKS.items():
        check(lambda *given: None)
        assert "nothing returned yet" in capsys.readouterr().out, name
    with pytest.raises(Unfinished):
        grade(Check(double_it), lambda x, factor: None)
    assert NotYet("\u00e9")._render_traceback_() == ["Not yet: \\xe9"]


def squeezed(text: str) -> str:
    return re.sub(r"\s|torch\.|math\.", "", text)


def test_no_message_holds_the_solution():
    """No expression of a folded solution stands in what its check can say."""
    solved = [
        (re.search(r"checks\.(check_\w+)\(", cell.source)[1], solution(path, cell))
        for path, cell in exercises()
    ]
    for name, code in solved + [(made.check, made.solution) for made in builds()]:
        check = CHECKS[name]
        said = [squeezed(text) for text in (*table(check), *check.demands, *check.properties, *ANYWHERE)]
        nodes = [node.value for node in ast.walk(ast.parse(code)) if hasattr(node, "value")]
        parts = {squeezed(ast.unparse(node)) for node in nodes if isinstance(node, ast.AST)}
        leaks = [part for part in parts if len(part) > 9 and any(part in text for text in said)]
        assert not leaks, (name, leaks)


def test_a_build_goes_on_with_the_students_function_only_if_it_is_right(capsys):
    def mine(x, factor):
        return (x * factor).abs()

    assert build(double_it, mine) is mine
    assert capsys.readouterr().out == "mine: right; from here on this page uses yours.\n"
    answers = {"Fill in": lambda x, factor: None, "the size is wanted": lambda x, factor: x * factor}
    answers |= {
        "nothing here yet": None,
        "a function is wanted": 3.0,
        "ZeroDivision": lambda x, factor: 1 / 0,
    }
    for say, answer in answers.items():
        course = build(Check(double_it), answer)
        said = capsys.readouterr().out
        assert say in said and "goes on with the course's" in said
        assert torch.equal(course(torch.tensor([-1.0]), factor=3.0), torch.tensor([3.0]))
    assert build(exercise(course=mine)(lambda x, factor: double_it(x, factor)), None) is mine


def test_a_demand_under_which_an_answer_stops_is_not_met():
    table = exercise(demands={"it runs": lambda f, x, factor: f(None, factor)})(double_it)
    try:
        assert "stops with TypeError" in verdict(Check(table), lambda x, factor: abs(x * factor))
    finally:
        del table.options


def test_draws():
    seen = []
    table = exercise(draws=1)(lambda x: {"right": x})
    check = Check(table)
    check.inputs = lambda g: (torch.ones(2),)
    assert verdict(check, lambda x: seen.append(x) or x) == "right" and len(seen) == 1


SCRIPT = """
import sys
from notebooks import checks
for name, check in vars(checks).items():
    if name.startswith("check_"):
        right = lambda *given: dict(check.table(*given))["right"]
        right.__name__ = "r\\u00e9ponse"
        if not (check.demands or check.properties or check.curried):
            check(right)
        try:
            check(lambda *given: 0.125)
            sys.exit(name + ": a wrong answer is right")
        except AssertionError as error:
            print(error)
"""


def test_without_asserts_and_docstrings_on_a_narrow_console():
    environment = os.environ | {"PYTHONIOENCODING": "cp932", "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-OO", "-c", SCRIPT], env=environment, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.count(b"right.") >= 40
