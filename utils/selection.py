"""Sampling p_t(z), proportional to p_0(z) exp(d(G(z))), by selection or by chains; the cost is counted.

`LatentGAN(G, logit)` draws, generates, evaluates and counts. Every method here and in `transport.py` is a
function `method(gan, n, generator, ...) -> Samples`, so a table over methods is a loop. All methods of this
file aim at p_t, the law that DDLS samples, and reach it in a limit that their docstrings name; G(z) then has
the law p_g(x) exp(d(x)) / Z. Selection needs no gradient: it decides by d alone what to keep.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from utils.energy import Prior, check_rows, latent_energy, prior_of, standard_normal
from utils.samplers import (
    Kernel,
    State,
    check_generator,
    check_whole,
    energy_and_gradient,
    log_uniform,
    mala,
    sample,
    start,
)


class Samples(NamedTuple):
    """What every method returns; all tensors are detached.

    The cost is counted in rows, over all samples together: one that passes through G, d or both counts once,
    in `gradients` if it went forward and backward, else in `forwards`.
    """

    x: Tensor  # (n, *data)
    z: Tensor  # (n, *latent)
    forwards: int
    gradients: int
    info: dict[str, float]  # what else the method has to tell, such as the share of accepted proposals


class LatentGAN:
    """A frozen generator, a logit and the prior of the latents, with a count of the rows that pass through.

    Arguments as of `latent_energy`, which two latents pass through at once, to raise its errors; the prior
    also draws, and `chunk_size` rows pass through the networks at a time, to bound memory.
    """

    def __init__(self, G: Callable, logit: Callable, prior: Prior | None = None, chunk_size: int = 1000):
        check_whole(1, chunk_size=chunk_size)
        self.G, self.logit, self.chunk_size = G, logit, chunk_size
        self.prior = prior or prior_of(G)
        self.like = next(G.parameters(), None) if isinstance(G, nn.Module) else None  # device and type of z
        self.passes = (0, 0)  # rows that went forward only, and forward and backward
        with torch.no_grad():
            latent_energy(G, logit, self.prior)(self.draw(2, torch.Generator().manual_seed(0)))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """z ~ p_0, (n, *latent), on the device of G."""
        check_whole(1, n=n)
        check_generator(generator)
        z = self.prior.draw(n, generator)
        return z if self.like is None else z.to(self.like)

    def d_of_x(self, x: Tensor) -> Tensor:
        """d(x), (m,)."""
        return self._d(x, x)

    def d_of_z(self, z: Tensor) -> Tensor:
        """d(G(z)), (m,)."""
        return self._d(z, self.G(z.clone()))  # a copy: a first layer may work in place

    def energy(self, z: Tensor) -> Tensor:
        """-log p_0(z) - d(G(z)), (m,): the energy of p_t."""
        return -self.prior.log_prob(z) - self.d_of_z(z).to(z.dtype)

    def _d(self, rows: Tensor, x: Tensor) -> Tensor:
        self._count(rows)
        return check_rows("logit", self.logit(x), len(x))

    @torch.no_grad()
    def generate(self, z: Tensor) -> Tensor:
        """G(z), (m, *data), in chunks."""
        self._count(z)
        return _finite("G(z)", torch.cat([self.G(part.clone()) for part in z.split(self.chunk_size)]))

    def evaluate(self, f: Callable, points: Tensor, gradient: bool = False) -> tuple[Tensor, Tensor | None]:
        """f(points) (m,) of f = `d_of_x` or `d_of_z`, and its gradient (m, *shape) or None, in chunks."""
        value, slope = energy_and_gradient(f, points, self.chunk_size, gradient)
        return _finite("logit", value), _finite("gradient of logit", slope) if gradient else None

    def samples(self, z: Tensor, before: tuple[int, int], x: Tensor | None = None, **info: float) -> Samples:
        """The result of a method, x = G(z) if left out, with the passes since `before`."""
        x = self.generate(z) if x is None else x
        cost = [now - then for then, now in zip(before, self.passes, strict=True)]
        return Samples(x.detach(), z.detach(), *cost, info)

    def _count(self, rows: Tensor) -> None:
        n, (forwards, gradients) = len(rows), self.passes
        backward = rows.requires_grad and torch.is_grad_enabled()
        self.passes = (forwards, gradients + n) if backward else (forwards + n, gradients)


def _finite(name: str, values: Tensor) -> Tensor:
    if bad := int((~values.isfinite().reshape(len(values), -1).all(1)).sum()):
        raise FloatingPointError(f"{name} is not finite for {bad} of {len(values)} samples")
    return values


def generator_only(gan: LatentGAN, n: int, generator: torch.Generator) -> Samples:
    """x = G(z) with z ~ p_0: the baseline, exact where d is constant. The logit is not used."""
    before = gan.passes
    return gan.samples(gan.draw(n, generator), before)


def mcmc(gan: LatentGAN, n: int, generator: torch.Generator, *, kernel: Kernel, n_steps: int) -> Samples:
    """Last states of n chains from z ~ p_0 on the energy of p_t; DDLS (Che et al., 2020, arXiv 2003.06060).

    The paper's kernel is `ula(step_size)`, with a bias of order step_size even as n_steps grows; with `mala`,
    `hmc` or `ex2mcmc` it is exact as n_steps grows. info has `acceptance` and `acceptance_probability`, means
    over the chains, and `diverged`, the share of chains that met what is not finite.
    """
    before, z = gan.passes, gan.draw(n, generator)
    chain = sample(gan.energy, z, kernel, n_steps, generator, chunk_size=gan.chunk_size)
    info = {
        "acceptance": chain.acceptance.mean().item(),
        "acceptance_probability": chain.acceptance_probability.mean().item(),
        "diverged": (chain.divergences > 0).float().mean().item(),
    }
    return gan.samples(chain.z, before, **info)


def ex2mcmc(
    step_size: float, prior: Prior | None = None, *, n_particles: int = 5, n_moves: int = 2
) -> Kernel:
    """Ex2MCMC (Samsonov et al., 2022, arXiv 2111.02702): jump as i-SIR does, then explore by MALA; exact.

    The state and n_particles - 1 draws of q make a pool, of which one is picked by weights exp(-E) / q; then
    n_moves of MALA with step `step_size`. Both leave exp(-E) invariant. q is `prior`, such as that of a
    `LatentGAN`, or N(0, I). MALA needs the gradient where it starts: it is computed anew after the jump, and
    notebook 13 shows the bias of leaving that out. A step costs n_particles - 1 energies and 1 + n_moves
    gradients, none if n_moves = 0, which is i-SIR alone. The acceptance of a chain is that of its jumps.
    """
    check_whole(2, n_particles=n_particles)
    check_whole(0, n_moves=n_moves)
    walk = mala(step_size)

    def init(z: Tensor, evaluate: Callable) -> State:
        return start(z, partial(evaluate, gradient=False))

    def step(state: State, evaluate: Callable, generator: torch.Generator) -> State:
        n, shape = len(state.z), state.z.shape[1:]
        q = prior or Prior(lambda m, g: torch.randn(m, *shape, generator=g, device=g.device), standard_normal)
        drawn = q.draw(n * (n_particles - 1), generator).to(state.z)
        pool = torch.cat([state.z, drawn])  # (n_particles * n, *latent), the states first
        energies = torch.cat([state.energy, evaluate(drawn, gradient=False)[0]])
        log_weights = (-energies - q.log_prob(pool)).view(n_particles, n)
        weights = log_weights.where(log_weights.isfinite(), -math.inf).softmax(0)
        uniform = torch.rand(n, generator=generator, device=generator.device).to(weights)
        picked = (weights.cumsum(0) < uniform).sum(0).clamp_max(n_particles - 1)  # (n,)
        z, energy = (a[picked * n + torch.arange(n, device=a.device)] for a in (pool, energies))
        divergences = state.divergences + (~energies.isfinite()).view(n_particles, n).sum(0)
        if n_moves:
            walker = walk.init(z, evaluate)
            for _ in range(n_moves):
                walker = walk.step(walker, evaluate, generator)
            z, energy, divergences = walker.z, walker.energy, divergences + walker.divergences
        return State(z, energy, None, picked > 0, 1 - weights[0], divergences)

    return Kernel(init, step)


def importance_resampling(
    gan: LatentGAN, n: int, generator: torch.Generator, *, n_particles: int = 100
) -> Samples:
    """Sampling importance resampling (SIR, Rubin, 1987): one of `n_particles` draws of G, by weights exp(d).

    One step of `iterated_resampling`: each sample has a pool of its own, so the samples are independent.
    Exact as n_particles grows, with a bias of order 1 / n_particles.
    """
    return iterated_resampling(gan, n, generator, n_steps=1, n_particles=n_particles)


def iterated_resampling(
    gan: LatentGAN, n: int, generator: torch.Generator, *, n_steps: int = 50, n_particles: int = 10
) -> Samples:
    """The last states of n chains of iterated SIR (i-SIR, Andrieu et al., 2010; Tjelmeland, 2004).

    A step pools the state with n_particles - 1 new draws of G and picks one by weights exp(d). p_t is
    invariant for any n_particles >= 2, so this is exact as n_steps grows. info is that of `mcmc`.
    """
    kernel = ex2mcmc(1.0, gan.prior, n_particles=n_particles, n_moves=0)
    return mcmc(gan, n, generator, kernel=kernel, n_steps=n_steps)


def metropolis_hastings(
    gan: LatentGAN,
    n: int,
    generator: torch.Generator,
    *,
    n_steps: int = 640,
    real_logits: Tensor | None = None,
) -> Samples:
    """The last states of n independence chains (MH-GAN, Turner et al., 2019, arXiv 1811.11357).

    A proposal z' ~ p_0 is accepted with probability min(1, exp(d' - d)): for target p_t and proposal p_0
    the ratio p_t(z') p_0(z) / (p_t(z) p_0(z')) is exp(d' - d). A rejected proposal repeats the state.
    Exact as n_steps grows, and at a known speed: after k steps the law is within (1 - 1/M)^k of p_t in total
    variation, where M = sup p_t / p_0 = sup exp(d) / Z (Mengersen and Tweedie, 1996).

    Chains start at draws of G; with `real_logits` (m,), d of held-out real data, at real points picked at
    random, as in the paper, which shortens the burn-in. A chain that never left its real point is run again
    from a draw of G. info has `acceptance`, and `restarts`, the share of chains that were run again.
    """
    before, z = gan.passes, gan.draw(n, generator)
    check_whole(1, n_steps=n_steps)
    if real_logits is None:
        d, _ = gan.evaluate(gan.d_of_z, z)
    elif real_logits.ndim != 1 or len(real_logits) == 0 or not real_logits.isfinite().all():
        raise ValueError(f"real_logits, {tuple(real_logits.shape)}, must be finite d of real data, (m,)")
    else:  # z does not matter then: a chain that keeps it is run again
        picked = torch.randint(len(real_logits), (n,), generator=generator, device=generator.device)
        d = real_logits.to(z)[picked.to(z.device)]
    moves = torch.zeros(n, device=z.device)
    for _ in range(n_steps):
        proposal = gan.draw(n, generator)
        d_proposal, _ = gan.evaluate(gan.d_of_z, proposal)
        accepted = log_uniform(d, generator) < d_proposal - d
        z, d = z.clone(), d_proposal.where(accepted, d)
        z[accepted] = proposal[accepted]
        moves += accepted
    stuck = (moves == 0).nonzero().squeeze(1) if real_logits is not None else ()
    if len(stuck):
        z[stuck] = metropolis_hastings(gan, len(stuck), generator, n_steps=n_steps).z
    info = {"acceptance": moves.mean().item() / n_steps, "restarts": len(stuck) / n}
    return gan.samples(z, before, **info)


def log_odds(d: Tensor, log_bound: float, epsilon: float = 1e-14) -> Tensor:
    """F = delta - log(1 - exp(delta - epsilon)) with delta = d - log_bound <= 0, so sigmoid(F) = exp(delta).

    The equality holds up to epsilon, which keeps F finite at delta = 0 (Azadi et al., 2019). In float64.
    """
    delta = (d.double() - log_bound).clamp_max(0)
    return delta - (-torch.expm1(delta - epsilon)).log()


def rejection(
    gan: LatentGAN,
    n: int,
    generator: torch.Generator,
    *,
    log_bound: float | None = None,
    gamma: float = 0.0,
    percentile: float | None = None,
    n_burn_in: int = 10_000,
    max_proposals: int = 1000,
) -> Samples:
    """Rejection sampling, and discriminator rejection sampling (DRS, Azadi et al., 2019, arXiv 1810.06758).

    Accepts G(z) with probability sigmoid(F - gamma), F = `log_odds`; at gamma = 0 that is exp(d - log_bound).
    Exact, with independent samples, at gamma = 0 if `log_bound` is at least the supremum of d.

    Args:
        log_bound: an upper bound of d in nats. None is DRS: the largest d seen so far, in the burn-in and
            since. This is not exact, as values larger still may follow.
        gamma: nats taken off F. Below 0 more is accepted, and the law is pulled back to p_g; above 0 less is,
            and the law is pulled to the largest d. Either way it is no longer p_t.
        percentile: sets gamma to this percentile (0 to 100) of F over the burn-in instead, at the current
            bound, so that about 100 - percentile of a hundred samples have an acceptance above one half.
        n_burn_in: samples for the largest d and the percentile, drawn where one of them is asked for.
        max_proposals: proposals per sample wanted after which to give up by a RuntimeError.

    info has `acceptance`, the share of accepted proposals, and the last `log_bound` and `gamma`.
    """
    before, estimated = gan.passes, log_bound is None
    check_whole(1, n=n, n_burn_in=n_burn_in, max_proposals=max_proposals)
    if not math.isfinite(gamma) or not math.isfinite(log_bound or 0):
        raise ValueError(f"gamma={gamma} and log_bound={log_bound} must be finite")
    if percentile is not None and (gamma != 0 or not 0 <= percentile <= 100):
        raise ValueError(f"percentile={percentile} must lie between 0 and 100, and leave gamma={gamma} at 0")
    if estimated or percentile is not None:
        burn_in, _ = gan.evaluate(gan.d_of_z, gan.draw(n_burn_in, generator))
        log_bound = burn_in.max().item() if estimated else log_bound
        quantile = burn_in.quantile((percentile or 0) / 100, interpolation="nearest")
    kept, n_kept, proposed = [], 0, 0
    while n_kept < n:
        if proposed >= n * max_proposals:
            raise RuntimeError(
                f"{proposed} proposals gave {n_kept} of n={n} samples at log_bound={log_bound:.3g}; d is far "
                "below its bound nearly everywhere: use a chain, raise max_proposals, or take gamma < 0"
            )
        # as many as the acceptance so far asks for, so that few evaluations are wasted
        rows = math.ceil((n - n_kept) * proposed / max(n_kept, 1)) if proposed else n
        z = gan.draw(min(rows, gan.chunk_size), generator)
        d, _ = gan.evaluate(gan.d_of_z, z)
        highest = d.max().item()
        if estimated:
            log_bound = max(log_bound, highest)
        elif highest > log_bound + 1e-4:  # float32 may round d up
            raise ValueError(f"log_bound={log_bound} is no bound: d reached {highest:.4g}; raise it")
        if percentile is not None:
            gamma = log_odds(quantile, log_bound).item()
        log_chance = nn.functional.logsigmoid(log_odds(d, log_bound) - gamma)
        kept.append(z[log_uniform(d, generator).double() < log_chance])
        n_kept, proposed = n_kept + len(kept[-1]), proposed + len(d)
    z = torch.cat(kept)[:n]
    info = {"acceptance": n_kept / proposed, "log_bound": log_bound, "gamma": gamma}
    return gan.samples(z, before, **info)
