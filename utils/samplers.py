"""Markov chains on an energy: kernels (ULA, MALA, HMC, underdamped Langevin), one runner, one warm-up.

An energy is any callable `energy(z) -> (n,)` for z of shape (n, *latent), a function of z alone; low energy
is likely, and the target at temperature T is p(z) proportional to exp(-energy(z) / T). A kernel is a pair of
functions, `init(z, evaluate) -> state` and `step(state, evaluate, generator) -> state`. Its state is its own,
a NamedTuple of tensors (n, ...); `sample` reads z, energy, accepted, probability and divergences of it.
Notebooks 04 and 06 derive the rules below. h and eps are step sizes, T is the temperature.
"""

import math
import sys
import warnings
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

Energy = Callable[[Tensor], Tensor]
Evaluate = Callable[..., tuple[Tensor, Tensor | None]]  # z -> (energy, gradient); gradient=False spares that


class State(NamedTuple):
    """State of most kernels; `leapfrog` and `log_acceptance` need the first three fields only."""

    z: Tensor  # (n, *latent)
    energy: Tensor  # (n,)
    gradient: Tensor | None  # (n, *latent), of the energy at z; None where a kernel needs none
    accepted: Tensor | None = None  # (n,) bool; False for a chain whose last proposal was rejected
    probability: Tensor | None = None  # (n,), with which the last proposal was accepted
    divergences: Tensor | None = None  # (n,) whole numbers, proposals so far that were not finite


class Kernel(NamedTuple):
    """A transition. Where `adjusted`, it rejects what is not finite; else it freezes such a chain."""

    init: Callable[[Tensor, Evaluate], NamedTuple]
    step: Callable[[NamedTuple, Evaluate, torch.Generator], NamedTuple]
    adjusted: bool = True


class Chain(NamedTuple):
    """What `sample` returns; all tensors are detached."""

    z: Tensor  # (n, *latent), the last state
    energy: Tensor  # (n,)
    acceptance: Tensor  # (n,), share of accepted proposals of each chain; ones for ula
    acceptance_probability: Tensor  # (n,), mean of min(1, ratio): the same with less noise
    divergences: Tensor  # (n,), proposals of each chain whose energy or gradient was not finite
    path: Tensor | None  # (1 + n_steps // thin, n, *latent), the start first; None without thin


def ula(step_size: float, temperature: float = 1.0) -> Kernel:
    """Unadjusted Langevin algorithm: z <- z - (eps/2) grad E(z) + sqrt(eps T) n, with n ~ N(0, I).

    Biased at any finite step size; gradient descent at `temperature=0`. A chain that diverges is frozen.
    """
    check_positive(step_size=step_size)
    check_positive(or_zero=True, temperature=temperature)

    def step(state: State, evaluate: Evaluate, generator: torch.Generator) -> State:
        return _move_or_freeze(_langevin(state, evaluate, generator, step_size, temperature), state)

    return Kernel(start, step, adjusted=False)


def mala(step_size: float, temperature: float = 1.0) -> Kernel:
    """Metropolis-adjusted Langevin algorithm (Roberts and Tweedie, 1996): ULA's move, then accept or stay.

    Exact at any step size: a rejected chain repeats its state. What is not finite is rejected.
    """
    check_positive(step_size=step_size, temperature=temperature)

    def step(state: State, evaluate: Evaluate, generator: torch.Generator) -> State:
        proposal = _langevin(state, evaluate, generator, step_size, temperature)
        log_ratio = log_acceptance(state, proposal, step_size, temperature)
        return _accept_or_stay(proposal, state, log_ratio, generator)

    return Kernel(start, step)


def _langevin(
    state: State, evaluate: Evaluate, generator: torch.Generator, step_size: float, temperature: float
) -> State:
    noise = noise_like(state.z, generator)
    z = state.z - 0.5 * step_size * state.gradient + math.sqrt(step_size * temperature) * noise
    return _at(state, z, evaluate)


def log_acceptance(state: State, proposal: State, step_size: float, temperature: float = 1.0) -> Tensor:
    """Log of the Metropolis-Hastings ratio of a Langevin move, before the minimum with 0; shape (n,).

    (E - E')/T - |z - z' + (eps/2) grad E'|^2 / (2 eps T) + |z' - z + (eps/2) grad E|^2 / (2 eps T).
    """
    back = state.z - proposal.z + 0.5 * step_size * proposal.gradient
    forth = proposal.z - state.z + 0.5 * step_size * state.gradient
    squares = forth.flatten(1).square().sum(1) - back.flatten(1).square().sum(1)  # (n,)
    return (state.energy - proposal.energy + squares / (2 * step_size)) / temperature


def hmc(step_size: float, n_leapfrog: int, temperature: float = 1.0) -> Kernel:
    """Hamiltonian Monte Carlo (Duane et al., 1987; Neal, 2011, arXiv 1206.1901): a leapfrog path, or stay.

    A momentum p ~ N(0, T I) is drawn, (z, p) moves by n_leapfrog steps of time h, one gradient each, and the
    end is accepted with probability min(1, exp((H - H') / T)), H = E(z) + |p|^2 / 2. Exact at any step size,
    as `mala`: hmc(h, 1), which proposes z - (h^2/2) grad E(z) + h sqrt(T) n, is mala(h^2). Notebook 04.
    """
    check_positive(step_size=step_size, temperature=temperature)
    check_whole(1, n_leapfrog=n_leapfrog)

    def step(state: State, evaluate: Evaluate, generator: torch.Generator) -> State:
        momentum = math.sqrt(temperature) * noise_like(state.z, generator)
        proposal, end = leapfrog(state, momentum, evaluate, step_size, n_leapfrog)
        kinetic, kinetic_end = (0.5 * p.flatten(1).square().sum(1) for p in (momentum, end))
        log_ratio = (state.energy - proposal.energy + kinetic - kinetic_end) / temperature
        return _accept_or_stay(proposal, state, log_ratio, generator)

    return Kernel(start, step)


def leapfrog(
    state: State, momentum: Tensor, evaluate: Evaluate, step_size: float, n_leapfrog: int
) -> tuple[State, Tensor]:
    """Follow dz/dt = p, dp/dt = -grad E(z) for the time n_leapfrog * step_size; momentum is like z.

    p <- p - (h/2) grad E(z), z <- z + h p, p <- p - (h/2) grad E(z), n_leapfrog times. It keeps volume,
    comes back to its start when the momentum is turned round, and keeps E + |p|^2/2 up to order h^2.
    """
    for _ in range(n_leapfrog):
        momentum = momentum - 0.5 * step_size * state.gradient
        state = _at(state, state.z + step_size * momentum, evaluate)
        momentum = momentum - 0.5 * step_size * state.gradient
    return state, momentum


MomentumState = namedtuple("MomentumState", [*State._fields, "momentum"])  # of `underdamped`; (n, *latent)


def underdamped(step_size: float, friction: float, temperature: float = 1.0) -> Kernel:
    """Underdamped Langevin dynamics, dz = p dt, dp = -(grad E + g p) dt + sqrt(2 g T) dW, by BAOAB splitting.

    Half a kick (B), half a drift (A), friction and noise exactly (O), half a drift, half a kick (Leimkuhler
    and Matthews, 2013, arXiv 1203.5428); one gradient a step. Chains start at rest. h is a time, as in `hmc`,
    below twice the smallest standard deviation; the friction g a rate: a large one makes it a random walk.
    The bias of z is of order h^2, and none on a Gaussian, where p has variance T (1 - h^2/(4 s^2)) along a
    standard deviation s.
    """
    check_positive(step_size=step_size, friction=friction)
    check_positive(or_zero=True, temperature=temperature)
    kept = math.exp(-friction * step_size)
    noise_std = math.sqrt(temperature * (1 - kept**2))

    def init(z: Tensor, evaluate: Evaluate) -> MomentumState:
        return MomentumState(*start(z, evaluate), momentum=torch.zeros_like(z))

    def step(state: MomentumState, evaluate: Evaluate, generator: torch.Generator) -> MomentumState:
        p = state.momentum - 0.5 * step_size * state.gradient
        z = state.z + 0.5 * step_size * p
        p = kept * p + noise_std * noise_like(z, generator)
        proposal = _at(state, z + 0.5 * step_size * p, evaluate)
        p = p - 0.5 * step_size * proposal.gradient
        return _move_or_freeze(proposal._replace(momentum=p), state)

    return Kernel(init, step, adjusted=False)


def sample(
    energy: Energy,
    z0: Tensor,
    kernel: Kernel,
    n_steps: int,
    generator: torch.Generator,
    *,
    thin: int | None = None,
    callback: Callable[[int, NamedTuple], None] | None = None,
    chunk_size: int | None = None,
    progress: bool = False,
    check: bool = True,
) -> Chain:
    """Run all chains together for `n_steps` from z0, floats (n, *latent), and return the last state.

    The kernel is one of this file, `selection.ex2mcmc` or your own; `generator` is the only source of
    randomness. `thin` keeps every thin-th state in `path`: memory then grows with n_steps / thin, else not at
    all. `callback(step, state)` is called with step 0 (the start) to n_steps. `chunk_size` chains pass
    through the energy at once, to bound memory; it changes rounding only. `check` compares the energies of 8
    starts with a second call and a smaller batch.

    Raises ValueError where a shape or setting is wrong or the energy is no function of z alone, and
    FloatingPointError where a start is not finite. Chains that diverge later, of a kernel that cannot
    reject, stay where they are, and a RuntimeWarning counts them.
    """
    check_generator(generator)
    check_whole(0, n_steps=n_steps)
    check_whole(1, thin=thin, chunk_size=chunk_size)
    evaluate = partial(energy_and_gradient, energy, chunk_size=chunk_size)
    state = _begin(evaluate, z0, kernel, check)
    accepted, probability = torch.zeros(2, len(z0), device=z0.device)
    path = z0.new_empty((1 + n_steps // thin, *z0.shape)) if thin else None
    for step in tqdm(range(n_steps + 1), disable=not progress, unit="step", file=sys.stdout):
        if step > 0:
            state = kernel.step(state, evaluate, generator)
            accepted += state.accepted
            probability += state.probability
        if thin and step % thin == 0:
            path[step // thin] = state.z
        if callback:
            callback(step, state)
    lost = int((state.divergences > 0).sum())
    if lost and not kernel.adjusted:
        what = f"{lost} of {len(z0)} chains diverged and stand at their last finite state (see divergences)"
        warnings.warn(f"{what}; lower step_size, or use mala, which rejects", RuntimeWarning, stacklevel=2)
    shares = (s / n_steps if n_steps else torch.ones_like(s) for s in (accepted, probability))
    return Chain(state.z, state.energy, *shares, state.divergences, path)


def adapt_step_size(
    energy: Energy,
    z0: Tensor,
    make_kernel: Callable[[float], Kernel],
    n_steps: int,
    generator: torch.Generator,
    target: float = 0.57,
) -> tuple[float, Tensor]:
    """The step size at which a kernel accepts `target`, by dual averaging, and where its chains ended, z.

    Hoffman and Gelman (2014, arXiv 1111.4246, section 3.2), with the acceptance averaged over all chains. As
    the step changes on the way, z are no draws of the target: start from them, with the step size fixed.
    Give 100 steps or more and, as `make_kernel`, `mala` or `lambda h: hmc(h, 10)`; 0.57 is best for MALA in
    many dimensions, 0.65 for HMC.
    """
    if not 0 < target < 1:
        raise ValueError(f"target={target} must lie between 0 and 1")
    check_whole(1, n_steps=n_steps)
    step_size, shortfall, mean_log = 0.1, 0.0, 0.0
    if not make_kernel(step_size).adjusted:
        raise ValueError("make_kernel gives a kernel that accepts everything; use mala or hmc")
    evaluate = partial(energy_and_gradient, energy)
    state = _begin(evaluate, z0, make_kernel(step_size))
    for m in range(1, n_steps + 1):
        state = make_kernel(step_size).step(state, evaluate, generator)
        shortfall += (target - state.probability.mean().item() - shortfall) / (m + 10)
        log_step = -math.sqrt(m) / 0.05 * shortfall  # drawn to log(10 * 0.1) = 0, ten times the first
        mean_log += m**-0.75 * (log_step - mean_log)
        step_size = math.exp(min(max(log_step, -40), 40))
    return math.exp(mean_log), state.z


def energy_and_gradient(
    energy: Energy, z: Tensor, chunk_size: int | None = None, gradient: bool = True
) -> tuple[Tensor, Tensor | None]:
    """E(z) (n,) and its gradient (n, *latent), detached; no other gradient is computed.

    Grad mode and inference mode stay as they were. `gradient=False` builds no graph and gives None for it.
    """
    values, gradients = [], []
    # `inference_mode(False)` and the copy: an inference tensor could not require a gradient
    with torch.inference_mode(False), torch.set_grad_enabled(gradient):
        for part in z.split(chunk_size or len(z)):
            leaf = part.detach().clone().requires_grad_(gradient)
            value = energy(leaf.clone())  # a copy again, for a network that works in place
            if value.shape != leaf.shape[:1]:
                shapes = f"shape {tuple(value.shape)} for z of shape {tuple(leaf.shape)}"
                raise ValueError(f"energy returned {shapes}; it must be one number a chain, ({len(leaf)},)")
            if gradient and not value.requires_grad:
                raise ValueError("energy has no gradient in z: does it detach z or compute under no_grad?")
            values.append(value.detach())
            gradients += torch.autograd.grad(value.sum(), leaf) if gradient else []
    return torch.cat(values).to(z.dtype), torch.cat(gradients) if gradient else None


def noise_like(z: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise, drawn where the generator lives: the same chain on every device."""
    return torch.randn(z.shape, generator=generator, device=generator.device, dtype=z.dtype).to(z.device)


def log_uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Logs of uniform draws from [0, 1), one for each row of `like`."""
    return torch.rand(len(like), generator=generator, device=generator.device).log().to(like)


def start(z: Tensor, evaluate: Evaluate) -> State:
    """The state of chains that have made no step."""
    ones = z.new_ones(len(z))
    return State(z, *evaluate(z), ones.bool(), ones, torch.zeros_like(ones, dtype=torch.long))


def _at(state: NamedTuple, z: Tensor, evaluate: Evaluate) -> NamedTuple:
    energy, gradient = evaluate(z)
    return state._replace(z=z, energy=energy, gradient=gradient)


def _finite(state: NamedTuple) -> Tensor:
    """Which chains are finite in all fields, (n,)."""
    fields = (field for field in state if field is not None)
    return torch.stack([field.isfinite().reshape(len(field), -1).all(1) for field in fields]).all(0)


def _accept_or_stay(proposal: State, state: State, log_ratio: Tensor, generator: torch.Generator) -> State:
    """`proposal` with probability min(1, exp(log_ratio)), else `state` again, chain by chain."""
    finite = _finite(proposal)
    log_ratio = log_ratio.where(finite & ~log_ratio.isnan(), -math.inf)
    accepted = log_uniform(log_ratio, generator) < log_ratio
    return _move(accepted, proposal, state, log_ratio.clamp_max(0).exp(), ~finite)


def _move_or_freeze(proposal: NamedTuple, state: NamedTuple) -> NamedTuple:
    """`proposal`, but a chain that is not finite, or was not before, stays at its last finite state."""
    frozen = state.divergences > 0
    moves = ~frozen & _finite(proposal)
    return _move(moves, proposal, state, moves.to(state.energy), ~(frozen | moves))


def _move(mask: Tensor, new: NamedTuple, old: NamedTuple, probability: Tensor, lost: Tensor) -> NamedTuple:
    """`new` for chains with mask True, `old` for the rest, with the counts brought up to date."""
    pairs = zip(new, old, strict=True)
    state = type(old)(*(torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))
    return state._replace(accepted=mask, probability=probability, divergences=old.divergences + lost)


def _begin(evaluate: Evaluate, z0: Tensor, kernel: Kernel, check: bool = True) -> NamedTuple:
    """The state of the starts, where all is well with them and with the energy."""
    if not (isinstance(z0, Tensor) and z0.is_floating_point() and z0.ndim > 1 and len(z0)):
        what = f"{tuple(z0.shape)} of {z0.dtype}" if isinstance(z0, Tensor) else type(z0).__name__
        raise ValueError(f"z0 is {what}; give floats (n_chains, *latent): torch.from_numpy(z0).float()")
    z = z0.detach().clone()
    try:
        if check:
            _check_function_of_z(evaluate, z[:8])
        state = kernel.init(z, evaluate)
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"energy fails for rows of z0, {tuple(z.shape)} of {z.dtype}: {error}. Float32 networks want "
            "z0.float(); if each chain has an energy of its own, say check=False"
        ) from error
    if bad := int((~_finite(state)).sum()):
        raise FloatingPointError(f"energy or gradient is not finite at z0 for {bad} of {len(z)} chains")
    return state


def _check_function_of_z(evaluate: Evaluate, z: Tensor) -> None:
    """Raise a ValueError where the energy of some starts changes from call to call, or with the batch."""
    half, tolerance = (len(z) + 1) // 2, 1e-8 if z.dtype == torch.float64 else 1e-3
    first, again, fewer = (evaluate(part, gradient=False)[0] for part in (z, z, z[:half]))
    rounding = 100 * torch.finfo(z.dtype).eps * first.abs().max()
    for change, allowed, cause in (
        (first - again, tolerance, "from call to call. Noise in G, or dropout? Fix the noise, call .eval()"),
        (first[:half] - fewer, 50 * tolerance, "with the batch. A mean over it, or batch norm? Call .eval()"),
    ):
        if (change := change.abs().max()) > allowed + rounding:
            raise ValueError(f"energy is no function of z alone: it changes by {change:.2g} {cause}")


def check_generator(generator: torch.Generator) -> None:
    """Raise a ValueError where a seed or nothing is given instead."""
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator={generator!r} must be a torch.Generator().manual_seed(0), say")


def check_whole(minimum: int, **settings: int | None) -> None:
    """Raise a ValueError that names a setting that is given, but no whole number of at least `minimum`."""
    for name, value in settings.items():
        if value is not None and (not hasattr(value, "__index__") or value < minimum):
            raise ValueError(f"{name}={value} must be a whole number, at least {minimum}")


def check_positive(*, or_zero: bool = False, **settings: float) -> None:
    """Raise a ValueError that names a setting that is not positive and finite."""
    for name, value in settings.items():
        if not (0 < value < math.inf or (or_zero and value == 0)):
            raise ValueError(f"{name}={value} must be {'0 or more' if or_zero else 'positive'} and finite")
