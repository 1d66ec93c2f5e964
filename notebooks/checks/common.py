"""The engine of all checks: `grade` compares an answer with the right value and with what mistakes give.

A check is a table as a function of random inputs, whose laws are its annotations: under "right" what is
wanted, under each other key, which is what the student will read, what that mistake gives.

    def check_shrink(x: normal(5), factor: uniform(1, 2)):
        return {
            "right": x / factor,
            "that stretches: divide": x * factor,
        }

    check = Check(check_shrink)
    check(lambda x, factor: x / factor)  # prints that it is right
    check(lambda x, factor: x * factor)  # raises NotYet: that stretches: divide
    check(lambda x, factor: 1.0)  # raises NotYet: a tensor of shape (5,) is wanted, not one number: ...

Keys are ASCII and name a mistake; they never say how to compute the answer. What may happen anywhere, such
as a wrong sign, stands in `ANYWHERE`. Tests and autograding use the same table and `grade`.

A build is an exercise in the middle of a page, which goes on with what the student has written once it is
right, and until then with the course's function; it never stops a page:

    def shrink(x, factor):
        ### BEGIN SOLUTION
        return x / factor
        ### END SOLUTION

    shrink = build(checks.check_shrink, shrink)
"""

import copy
import functools
import inspect
import math
import traceback
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor, nn

DRAWS = 3  # fresh random inputs of each grading, unless a check says otherwise
ANYWHERE = {  # what to say -> what the right value has become
    "the sign is wrong": lambda x: -x,
    "that is twice what is wanted": lambda x: 2 * x,
    "that is half of what is wanted": lambda x: x / 2,
    "that is its square: a root is missing": lambda x: x**2,
    "that is its root": lambda x: x.sqrt(),
    "upside down": lambda x: 1 / x,
    "that is its exponential: a logarithm is missing": lambda x: x.exp(),
    "that is its logarithm: an exponential is missing": lambda x: x.log(),
    "that is its sigmoid: a probability stands where a logit belongs": lambda x: x.sigmoid(),
    "that is one minus it": lambda x: 1 - x,
    "that is in bits: use the natural logarithm": lambda x: x / math.log(2),
    "use the natural logarithm, not the decimal one": lambda x: x / math.log(10),
}


class NotYet(AssertionError):
    """What is wrong with an answer; a notebook shows this sentence and no traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(_ascii(message))

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"Not yet: {self}"]


class Unfinished(NotYet):
    """The stub still returns None."""


def normal(*shape: int) -> Callable[[Generator], Tensor]:
    """The law of standard normal numbers of this shape, in float32 as in a notebook."""
    return lambda generator: torch.randn(shape, generator=generator)


def uniform(low: float, high: float, *shape: int) -> Callable[[Generator], Tensor | float]:
    """The law of numbers between `low` and `high`; without a shape, of a float with three digits."""
    to_float = (lambda x: x) if shape else (lambda x: round(x.item(), 3))
    return lambda generator: to_float(low + (high - low) * torch.rand(shape, generator=generator))


def whole(low: int, high: int) -> Callable[[Generator], int]:
    """The law of a whole number from `low` to `high`, both included."""
    return lambda generator: int(torch.randint(low, high + 1, (), generator=generator))


def attached(value: object) -> bool:
    """Whether a result can train what it was computed from: a tensor that has not left its graph."""
    return isinstance(value, Tensor) and value.requires_grad


def exercise(**options: object) -> Callable[[Callable], Callable]:
    """Give a table options.

    Args:
        inputs: generator -> all arguments, in place of annotations.
        edges: more such functions, tried afterwards. Of wrong values there that are no mistake's, one is
            named that is right before and wrong there.
        properties: what to say -> holds(result, *arguments), of results that no value can be compared with.
        demands: what to say -> holds(answer, *arguments), for what results do not show; tried last.
        wrong: what to say -> an answer of which it must be said; for tests, and for demands above all.
        course: the function with which a page goes on while the student's is not right; "right" by default.
        draws: how many fresh inputs; fewer where an answer takes seconds.
        curried: whether the answer returns a function, which gets the last argument.
        random: whether "right" shows type and shape only and properties and demands decide.
        up_to_constant: whether a constant may be added.
        tolerance: relative to the largest value; 1e-4 unless said.
    """
    return lambda table: setattr(table, "options", options) or table


class Check:
    """One exercise; called with an answer it prints that it is right, or raises `NotYet`."""

    def __init__(self, table: Callable[..., dict]) -> None:
        laws = [parameter.annotation for parameter in inspect.signature(table).parameters.values()]
        defaults = {"inputs": lambda g: tuple(law(g) for law in laws), "edges": [], "demands": {}}
        defaults |= {"properties": {}, "wrong": {}, "course": self._right, "draws": DRAWS}
        flags = {"curried": False, "random": False, "up_to_constant": False, "tolerance": 1e-4}
        self.__dict__ |= defaults | flags | getattr(table, "options", {}) | {"table": table}

    def __call__(self, answer: Callable) -> None:
        name = self._name_of(answer)
        try:
            grade(self, answer)
            print(f"{name}: right.")
        except Unfinished as stub:
            print(f"{name}: {stub}")

    def _right(self, *given: object, **named: object) -> object:
        """The right value; of a curried exercise the function that returns it."""
        if self.curried:
            return lambda x: _right_of(self.table(*given, x, **named))
        return _right_of(self.table(*given, **named))

    def _name_of(self, answer: object) -> str:
        return _ascii(getattr(answer, "__name__", self.table.__name__.removeprefix("check_")))


def build(check: Check | Callable[..., dict], answer: Callable) -> Callable:
    """The student's function if it is right, otherwise the course's; says which, and what is wrong.

    Args:
        check: the build's check, or its table.
        answer: the function that the student has written.
    """
    check = check if isinstance(check, Check) else Check(check)
    name = check._name_of(answer)
    try:
        grade(check, answer)
    except NotYet as problem:
        print(f"{name}: {problem}\nUntil it is right, the page goes on with the course's.")
        return _called_as(answer, check.course)
    print(f"{name}: right; from here on this page uses yours.")
    return answer


def _called_as(answer: object, course: Callable) -> Callable:
    """`course`, with the defaults that the student's function has: the page's calls stay what they are."""
    if not inspect.isfunction(answer):
        return course
    signature = inspect.signature(answer)

    @functools.wraps(course)
    def with_defaults(*given: object, **named: object) -> object:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        return course(*bound.args, **bound.kwargs)

    return with_defaults


def grade(check: Check, answer: Callable, seed: int | None = None) -> None:
    """Return if a student's function is right: type and shape first, then values, then demands.

    Args:
        check: the exercise. Answers get its inputs in float32; "right" is computed in float64.
        answer: the function. The global random generator is put back after its calls.
        seed: of the inputs; fresh ones by default.

    Raises:
        Unfinished: it returns None.
        NotYet: it is wrong, and how.
    """
    if answer is None:
        raise Unfinished("nothing here yet. Fill in the stub and run this cell again.")
    if not callable(answer):
        raise NotYet(f"a function is wanted, not {_describe(answer)}: pass it without calling it")
    generator = Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    cases = [inputs(generator) for inputs in (*[check.inputs] * check.draws, *check.edges)]
    with torch.random.fork_rng(devices=[]):
        seen = [_run(check, answer, case) for case in cases]
        if seen[0] is None:
            raise Unfinished("nothing returned yet. Fill in the stub and run this cell again.")
        wanted = [_right_of(check.table(*map(_double, case))) for case in cases]
        seen = [_taken_apart(value, want) for value, want in zip(seen, wanted, strict=True)]
        usual = [] if check.random else _usual(check, wanted[: check.draws])
        for i in range(len(cases)):
            problem = _complaint(seen[i], wanted[i], answer)
            least = usual if i < check.draws else None  # an edge may be about small values
            if problem or not (check.random or _close(check, seen[i], wanted[i], usual=least)):
                known = _recognise(check, cases, seen, wanted, i)
                if not (known or problem or check.random):
                    again = _taken_apart(_run(check, answer, cases[i]), wanted[i])
                    if _complaint(again, wanted[i]) or not _close(check, again, seen[i], mistake=True):
                        problem = (
                            "called twice on the same inputs it gives two results: it draws its own noise"
                        )
                raise NotYet(known or problem or _explain(check, seen, wanted, i))
        for say, holds in check.properties.items():
            if not all(_holds(holds, value, case) for value, case in zip(seen, cases, strict=True)):
                raise NotYet(say)
        for say, holds in check.demands.items():
            if not _holds(holds, answer, cases[0]):
                raise NotYet(say)


def _right_of(table: object) -> object:
    """The right value of a table, a dict or pairs of which those behind it are not computed."""
    pairs = table.items() if isinstance(table, dict) else table
    return next(value for say, value in pairs if say == "right")


def _holds(holds: Callable, what: object, case: tuple) -> bool:
    """Whether a property or demand holds; an answer that stops under it does so with `NotYet`."""
    try:
        return holds(what, *copy.deepcopy(case))
    except NotYet:
        raise
    except Exception as error:
        raise NotYet(_complaint(error, None, what)) from None


def _run(check: Check, answer: Callable, case: tuple) -> object:
    """The answer's result, or the exception that stopped it."""
    given = copy.deepcopy(case)
    try:
        value = answer(*given[:-1]) if check.curried else answer(*given)
        if check.curried and value is not None:
            if not callable(value):
                return NotYet(f"return a function, not {_describe(value)}")
            value = value(given[-1])
    except Exception as error:
        return error
    if all(torch.equal(a, b) for a, b in zip(case, given, strict=True) if isinstance(a, Tensor)):
        return value
    return NotYet("an argument is changed in place: whoever passed it has lost it; make a new tensor")


def _taken_apart(value: object, want: object) -> object:
    """An array with one entry for each result that is wanted may be unpacked like a tuple of them."""
    many = isinstance(want, tuple) and isinstance(value, Tensor | np.ndarray) and value.ndim > 0
    return tuple(value) if many and len(value) == len(want) else value


def _double(value: object) -> object:
    is_float = isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.is_floating_point())
    return copy.deepcopy(value).double() if is_float else value


def _ascii(text: object) -> str:
    return str(text).encode("ascii", "backslashreplace").decode()


def _describe(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"one of shape {tuple(value.shape)}"
    return "a function" if callable(value) else f"{value!r:.40} (a {type(value).__name__})"


def _complaint(value: object, want: object, answer: Callable | None = None) -> str | None:
    """What is wrong with the type or the shape of a result, None if nothing is."""
    if isinstance(value, NotYet):
        return str(value)
    if isinstance(value, Exception):
        file = getattr(getattr(answer, "__code__", None), "co_filename", None)
        lines = [step.line for step in traceback.extract_tb(value.__traceback__) if step.filename == file]
        where = f" (at: {lines[-1]})" if lines else ""
        return f"the function stops with {type(value).__name__}: {value}{where}"
    if isinstance(want, tuple):
        if not isinstance(value, tuple | list) or len(value) != len(want):
            return f"a tuple of {len(want)} results is wanted, not {_describe(value)}"
        problems = [_complaint(v, w) for v, w in zip(value, want, strict=True)]
        return next((f"result {k}: {problem}" for k, problem in enumerate(problems, 1) if problem), None)
    if isinstance(want, dict):
        lacks = want.keys() - (value.keys() if isinstance(value, dict) else set())
        return f"a dict is wanted that has {', '.join(map(repr, sorted(lacks)))}" if lacks else None
    if callable(want):  # a network or function: what it does is left to properties
        kind, say = (nn.Module, "a network") if isinstance(want, nn.Module) else (Callable, "a function")
        return None if isinstance(value, kind) else f"{say} is wanted, not {_describe(value)}"
    shape = tuple(np.shape(want))
    wanted = f"a tensor of shape {shape}" if shape else "one number"
    if isinstance(value, bool) or not isinstance(value, Tensor | np.ndarray | np.generic | int | float):
        return f"{wanted} is wanted, not {_describe(value)}"
    dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    if dtype not in ("float32", "float64", "float") and (shape or not dtype.startswith("int")):
        return f"{wanted} in float32 or float64 is wanted, not {dtype}"
    if (found := tuple(np.shape(value))) == shape:
        return None
    if not shape and math.prod(found) == 1:
        return f"one number is wanted, not a tensor of shape {found}: take the axis away"
    if not shape:
        return f"one number is wanted, not a tensor of shape {found}: is a mean or a sum missing?"
    if not found:
        return f"{wanted} is wanted, not one number: a mean or a sum too many?"
    hint = ": take the last axis away, or it will broadcast" if found == (*shape, 1) else ""
    hint = ": a column and a row were combined; keep no axis in a sum" if found == shape * 2 else hint
    return f"{wanted} is wanted, not one of shape {found}{hint}"


def _parts(value: object) -> list[Tensor]:
    values = value if isinstance(value, tuple | list) else [value]
    return [torch.as_tensor(v).detach().double() for v in values]


def _compared(check: Check, value: object) -> list[Tensor]:
    """The parts of a result, each without its mean where a constant may be added."""
    return [x - x.mean() if check.up_to_constant else x for x in _parts(value)]


def _sizes(check: Check, value: object) -> list[float]:
    """The largest finite absolute value of each part of a result, 0 without any."""
    found = [x[x.isfinite()].abs() for x in _compared(check, value)]
    return [x.amax().item() if len(x) else 0.0 for x in found]


def _usual(check: Check, wanted: list) -> list[float]:
    """The middle of these sizes over the draws: so large is rounding where one draw's value cancels."""
    return [sorted(sizes)[len(sizes) // 2] for sizes in zip(*(_sizes(check, w) for w in wanted), strict=True)]


def _close(
    check: Check, value: object, want: object, mistake: bool = False, usual: list[float] | None = None
) -> bool:
    """Whether two results of one shape agree; beside a mistake, any nan or inf is like any other."""
    sizes = _sizes(check, want)
    sizes = [max(pair) for pair in zip(sizes, usual, strict=True)] if usual else sizes
    for a, b, size in zip(_compared(check, value), _compared(check, want), sizes, strict=True):
        lost = ~a.isfinite() & ~b.isfinite() & mistake
        a, b = a.masked_fill(lost, 0), b.masked_fill(lost, 0)
        least = torch.finfo(torch.float32).tiny  # below it float32 has no digits
        if not torch.allclose(a, b, rtol=check.tolerance, atol=max(check.tolerance * (size or 1), least)):
            return False
    return True


def _recognise(check: Check, cases: list[tuple], seen: list, wanted: list, i: int) -> str | None:
    """The mistake that agrees with what is seen on all draws and up to case i; or one that fails as late."""

    def agree(mine: object, theirs: object, part: slice) -> bool:
        whole = _complaint(mine, theirs) is None
        return whole and _close(check, _parts(mine)[part], _parts(theirs)[part], mistake=True)

    tables = [dict(check.table(*copy.deepcopy(case))) for case in cases]
    parts = [slice(None), slice(1), slice(1, 2)]  # the whole result; if there are two, one of them
    for part in parts if isinstance(wanted[i], tuple) else parts[:1]:
        if part != slice(None) and agree(seen[i], wanted[i], part):
            continue  # this one is right: that a mistake leaves it so too says nothing
        scores = {"": 0}
        for say in [say for say in tables[0] if say != "right"]:
            agreed = [agree(mine, table[say], part) for mine, table in zip(seen, tables, strict=True)]
            late = i >= check.draws and all(agreed[:i]) and not agree(tables[i][say], wanted[i], part)
            scores[say] = 1 + sum(agreed) if all(agreed[: max(i + 1, check.draws)]) else int(late)
        if best := max(scores, key=scores.get):
            return best
    return None


def _explain(check: Check, seen: list, wanted: list, i: int) -> str:
    """What can be said of wrong values behind which is no mistake of the table."""
    pairs = zip(_parts(seen[i]), _parts(wanted[i]), strict=True)
    part = [_close(check, *pair) for pair in pairs].index(False)
    which = f"result {part + 1}: " if isinstance(wanted[i], tuple) else ""
    draws = range(check.draws)
    whole = [k for k in draws if _complaint(seen[k], wanted[k]) is None] if i < check.draws else [i]
    a, b = (torch.cat([_parts(values[k])[part].flatten() for k in whole]) for values in (seen, wanted))
    if (lost := ~a.isfinite() & b.isfinite()).any():
        return f"{which}{a[lost][0].item()} comes out where a finite number is wanted"
    if b.unique().numel() > 1:
        if a.unique().numel() == 1:
            return f"{which}the value is {a[0].item():.4g} whatever goes in"
        for say, become in ANYWHERE.items():
            if torch.allclose(a, become(b), rtol=1e-3, atol=0):
                return which + say
        for say, relation in (("times", a / b), ("beside", a - b)):
            if torch.allclose(relation, relation[0], rtol=1e-3, atol=0):
                return f"{which}every value is {relation[0].item():.4g} {say} what is wanted"
    k = (a - b).abs().argmax().item()
    return f"{which}{a[k].item():.4g} comes out where {b[k].item():.4g} is wanted, by no mistake known here"
