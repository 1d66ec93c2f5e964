"""Markov chains on an energy: unadjusted and adjusted Langevin (ULA, MALA), Hamiltonian (HMC), one runner.

An energy is any callable `energy(z) -> (n,)` for z of shape (n, *latent); low energy is likely, and the
target at temperature T is p(z) proportional to exp(-energy(z) / T). This file knows no network, no
plot and no data set. The notebooks 04 and 06 derive the rules below.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

Energy = Callable[[Tensor], Tensor]


class State(NamedTuple):
    """Where all chains stand. `accepted` is False for a chain whose last proposal was rejected."""

    z: Tensor  # (n, *latent)
    energy: Tensor  # (n,)
    gradient: Tensor  # (n, *latent), of the energy at z
    accepted: Tensor  # (n,) bool


class Chain(NamedTuple):
    """What `sample` returns; all tensors are detached."""

    z: Tensor  # (n, *latent), the last state
    energy: Tensor  # (n,)
    acceptance: Tensor  # (n,), share of accepted proposals of each chain; ones for ula
    path: Tensor | None  # (1 + n_steps // thin, n, *latent), the start first; None without thin


Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]  # z -> (energy, gradient)
Kernel = Callable[[State, Evaluate, torch.Generator], State]


def ula(step_size: float, temperature: float = 1.0) -> Kernel:
    """Unadjusted Langevin algorithm: z <- z - (eps/2) grad E(z) + sqrt(eps T) n, with n ~ N(0, I).

    Biased at any finite step size. At `temperature=0` it is gradient descent.
    """
    _check_settings(step_size, temperature)

    def step(state: State, evaluate: Evaluate, generator: torch.Generator) -> State:
        z = _langevin_proposal(state, step_size, temperature, _noise_like(state.z, generator))
        energy, gradient = evaluate(z)
        return State(z, energy, gradient, torch.ones_like(state.accepted))

    return step


def mala(step_size: float, temperature: float = 1.0) -> Kernel:
    """Metropolis-adjusted Langevin algorithm (Roberts and Tweedie, 1996): ULA's move, then accept or stay.

    Exact at any step size: a rejected chain repeats its state. The temperature must be positive.
    """
    _check_settings(step_size, temperature)
    _check_metropolis(temperature)

    def step(state: State, evaluate: Evaluate, generator: torch.Generator) -> State:
        noise = _noise_like(state.z, generator)
        z = _langevin_proposal(state, step_size, temperature, noise)
        energy, gradient = evaluate(z)
        proposal = State(z, energy, gradient, state.accepted)
        log_ratio = log_acceptance(state, proposal, step_size, temperature)
        return _accept_or_stay(proposal, state, log_ratio, generator)

    return step


def hmc(step_size: float, n_leapfrog: int, temperature: float = 1.0) -> Kernel:
    """Hamiltonian Monte Carlo (Duane et al., 1987; Neal, 2011, arXiv 1206.1901): a leapfrog path, or stay.

    A momentum p ~ N(0, T I) is drawn, (z, p) moves by `leapfrog`, and the end is accepted with probability
    min(1, exp((H - H') / T)), H = E(z) + |p|^2 / 2. Exact at any step size: a rejected chain repeats its
    state. Notebook 04 derives it.

    Args:
        step_size: h, the time of one leapfrog step. A single one proposes
            z - (h^2/2) grad E(z) + h sqrt(T) n, so that hmc(h, 1) is mala(h^2): here eps = h^2.
        n_leapfrog: leapfrog steps of a transition, 1 or more; each costs one gradient.
        temperature: T, positive.

    Raises:
        ValueError: a setting is wrong. An energy that is not finite on the way raises FloatingPointError
            from `sample`, as for every kernel: the step size is too large.
    """
    _check_settings(step_size, temperature)
    _check_metropolis(temperature)
    if n_leapfrog < 1 or n_leapfrog != int(n_leapfrog):
        raise ValueError(f"n_leapfrog={n_leapfrog} must be a whole number, 1 or more")

    def step(state: State, evaluate: Evaluate, generator: torch.Generator) -> State:
        momentum = math.sqrt(temperature) * _noise_like(state.z, generator)
        proposal, end = leapfrog(state, momentum, evaluate, step_size, n_leapfrog)
        kinetic, kinetic_end = (0.5 * p.flatten(1).square().sum(1) for p in (momentum, end))
        log_ratio = (state.energy - proposal.energy + kinetic - kinetic_end) / temperature
        return _accept_or_stay(proposal, state, log_ratio, generator)

    return step


def leapfrog(
    state: State, momentum: Tensor, evaluate: Evaluate, step_size: float, n_leapfrog: int
) -> tuple[State, Tensor]:
    """Follow dz/dt = p, dp/dt = -grad E(z) for the time n_leapfrog * step_size; momentum is like z.

    p <- p - (h/2) grad E(z), z <- z + h p, p <- p - (h/2) grad E(z), n_leapfrog times. It keeps volume,
    comes back to its start when the momentum is turned round, and keeps E + |p|^2/2 up to order h^2.
    """
    for _ in range(n_leapfrog):
        momentum = momentum - 0.5 * step_size * state.gradient
        z = state.z + step_size * momentum
        state = State(z, *evaluate(z), state.accepted)
        momentum = momentum - 0.5 * step_size * state.gradient
    return state, momentum


def _langevin_proposal(state: State, step_size: float, temperature: float, noise: Tensor) -> Tensor:
    return state.z - 0.5 * step_size * state.gradient + math.sqrt(step_size * temperature) * noise


def log_acceptance(state: State, proposal: State, step_size: float, temperature: float = 1.0) -> Tensor:
    """Log of the Metropolis-Hastings ratio of a Langevin move, before the minimum with 0; shape (n,).

    (E - E')/T - |z - z' + (eps/2) grad E'|^2 / (2 eps T) + |z' - z + (eps/2) grad E|^2 / (2 eps T),
    where the last term is |noise|^2 / 2.
    """
    back = state.z - proposal.z + 0.5 * step_size * proposal.gradient
    forth = proposal.z - state.z + 0.5 * step_size * state.gradient
    squares = forth.flatten(1).square().sum(1) - back.flatten(1).square().sum(1)  # (n,)
    return (state.energy - proposal.energy + squares / (2 * step_size)) / temperature


def sample(
    energy: Energy,
    z0: Tensor,
    kernel: Kernel,
    n_steps: int,
    generator: torch.Generator,
    *,
    thin: int | None = None,
    callback: Callable[[int, State], None] | None = None,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Chain:
    """Run all chains together for `n_steps` and return the last state.

    Args:
        energy: callable (n, *latent) -> (n,).
        z0: starts of the chains, (n, *latent), a floating-point tensor.
        kernel: `ula(...)`, `mala(...)` or `hmc(...)`.
        n_steps: number of transitions, 0 or more.
        generator: the only source of randomness; the same seed gives the same chain.
        thin: keep every `thin`-th state in `path`; memory then grows with n_steps / thin, else not at all.
        callback: called as `callback(step, state)` with step 0 (the start) to n_steps.
        chunk_size: chains whose energy is evaluated at once, to bound memory. It does not change the
            chain but for rounding, since the noise is drawn for all chains together.
        progress: show a bar.

    Raises:
        ValueError: a shape or setting is wrong.
        FloatingPointError: an energy or its gradient is not finite.
    """
    _check_run(z0, n_steps, generator, thin, chunk_size)

    def evaluate(z: Tensor) -> tuple[Tensor, Tensor]:
        return energy_and_gradient(energy, z, chunk_size)

    z = z0.detach().clone()
    state = State(z, *evaluate(z), torch.ones(len(z), dtype=torch.bool, device=z.device))
    accepted = torch.zeros(len(z), device=z.device)
    path = z.new_empty((1 + n_steps // thin, *z.shape)) if thin else None
    for step in tqdm(range(n_steps + 1), disable=not progress, initial=0, unit="step"):
        if step > 0:
            state = kernel(state, evaluate, generator)
            accepted += state.accepted
        if thin and step % thin == 0:
            path[step // thin] = state.z
        if callback:
            callback(step, state)
    acceptance = accepted / n_steps if n_steps else torch.ones_like(accepted)
    return Chain(state.z, state.energy, acceptance, path)


def energy_and_gradient(energy: Energy, z: Tensor, chunk_size: int | None = None) -> tuple[Tensor, Tensor]:
    """E(z) (n,) and its gradient (n, *latent), detached; no other gradient is computed.

    Works under `torch.no_grad` and `torch.inference_mode`, whose state it leaves as it was.
    """
    values, gradients = [], []
    # `inference_mode(False)` and the copy: an inference tensor could not require a gradient
    with torch.inference_mode(False), torch.enable_grad():
        for part in z.split(chunk_size or len(z)):
            leaf = part.detach().clone().requires_grad_(True)
            value = energy(leaf)
            if value.shape != leaf.shape[:1]:
                raise ValueError(
                    f"energy returned shape {tuple(value.shape)} for z of shape {tuple(leaf.shape)}; "
                    f"it must return one number a chain, ({len(leaf)},)"
                )
            if not value.requires_grad:
                raise ValueError("energy has no gradient in z: does it detach z or compute under no_grad?")
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            values.append(value.detach())
            gradients.append(gradient)
    value, gradient = torch.cat(values).to(z.dtype), torch.cat(gradients)
    bad = ~(value.isfinite() & gradient.flatten(1).isfinite().all(1))
    if bad.any():
        raise FloatingPointError(
            f"energy or its gradient is not finite for {int(bad.sum())} of {len(z)} chains; "
            "lower step_size, or check the energy at these z"
        )
    return value, gradient


def _noise_like(z: Tensor, generator: torch.Generator) -> Tensor:
    # drawn where the generator lives, so that a CPU generator gives the same chain on every device
    return torch.randn(z.shape, generator=generator, device=generator.device, dtype=z.dtype).to(z.device)


def _accept_or_stay(proposal: State, state: State, log_ratio: Tensor, generator: torch.Generator) -> State:
    """`proposal` with probability min(1, exp(log_ratio)), else `state` again, chain by chain."""
    uniform = torch.rand(len(log_ratio), generator=generator, device=generator.device).to(log_ratio.device)
    return _where(uniform.log() < log_ratio, proposal, state)


def _where(mask: Tensor, new: State, old: State) -> State:
    """`new` for chains with mask True, `old` for the rest."""
    wide = mask.view(-1, *[1] * (new.z.ndim - 1))
    return State(
        torch.where(wide, new.z, old.z),
        torch.where(mask, new.energy, old.energy),
        torch.where(wide, new.gradient, old.gradient),
        mask,
    )


def _check_settings(step_size: float, temperature: float) -> None:
    if not (step_size > 0 and math.isfinite(step_size)):
        raise ValueError(f"step_size={step_size} must be positive and finite")
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature={temperature} must be 0 or more and finite")


def _check_metropolis(temperature: float) -> None:
    if temperature == 0:
        raise ValueError(
            "temperature=0 has no Metropolis correction; use ula, or a small positive temperature"
        )


def _check_run(
    z0: Tensor, n_steps: int, generator: torch.Generator, thin: int | None, chunk_size: int | None
) -> None:
    if z0.ndim < 2 or not z0.is_floating_point() or len(z0) == 0:
        raise ValueError(
            f"z0 has shape {tuple(z0.shape)} and type {z0.dtype}; give floats of shape (n_chains, *latent)"
        )
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"generator={generator!r} must be a torch.Generator, e.g. torch.Generator().manual_seed(0)"
        )
    if n_steps < 0:
        raise ValueError(f"n_steps={n_steps} must be 0 or more")
    for name, value in {"thin": thin, "chunk_size": chunk_size}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
