"""Sampling p_t(z), proportional to p_0(z) exp(d(G(z))), by selection or by Langevin; the cost is counted.

Every function here and in `transport.py` is called as `method(G, logit, n, generator, ...)` and returns
`Samples`, so a table over methods is a loop. All functions of this file aim at p_t, the law that DDLS
samples, and reach it in a limit that their docstrings name; G(z) then has the law p_g(x) exp(d(x)) / Z.
Selection needs no gradient: it draws z from the prior and decides by d alone what to keep.
"""

import math
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from utils.energy import LogDensity, check_evaluation_mode, latent_energy, standard_normal
from utils.samplers import State, energy_and_gradient, hmc, mala, sample, ula

DrawPrior = Callable[[int, torch.Generator], Tensor]  # (n, generator) -> z (n, *latent)


class Samples(NamedTuple):
    """What every method returns; all tensors are detached.

    The cost is counted in rows, over all samples together. A row that passes through G, through d or
    through both counts once: in `gradients` if it went forward and backward, else in `forwards`.
    """

    x: Tensor  # (n, *data)
    z: Tensor  # (n, *latent)
    forwards: int
    gradients: int
    info: dict[str, float]  # what else the method has to tell, such as the share of accepted proposals


class Proposal(NamedTuple):
    """Independent draws from p_g, one for each sample that is under way."""

    z: Tensor  # (n, *latent)
    x: Tensor  # (n, *data)
    d: Tensor  # (n,)
    log_uniform: Tensor  # (n,), the log of a uniform number for the decision about this proposal

    def where(self, mask: Tensor, other: "Proposal") -> "Proposal":
        """This proposal for rows with mask True, `other` for the rest."""
        pairs = zip(self, other, strict=True)
        return Proposal(*(torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


class Networks:
    """Frozen G and d that count the rows passing through them and take at most `chunk_size` at once."""

    def __init__(
        self,
        G: Callable[[Tensor], Tensor],
        logit: Callable[[Tensor], Tensor],
        n: int,
        generator: torch.Generator,
        draw_prior: DrawPrior | None,
        chunk_size: int,
    ):
        check_evaluation_mode(G=G, logit=logit)
        if not isinstance(generator, torch.Generator):
            raise ValueError(
                f"generator={generator!r} must be a torch.Generator, e.g. torch.Generator().manual_seed(0)"
            )
        if draw_prior is None and not hasattr(G, "latent_dim"):
            raise ValueError("G has no latent_dim; give it one, or give draw_prior(n, generator) -> z")
        check_at_least(1, n=n, chunk_size=chunk_size)
        self.G, self.logit, self.n, self.generator = G, logit, n, generator
        self.chunk_size, self.draw_prior = chunk_size, draw_prior
        weight = next(G.parameters(), None) if isinstance(G, nn.Module) else None
        self.like = torch.empty(0) if weight is None else weight.detach()  # device and type of z
        self.forwards = self.gradients = 0

    def draw(self, n: int) -> Tensor:
        """z ~ p_0, (n, *latent), on the device of G."""
        if self.draw_prior is not None:
            return self.draw_prior(n, self.generator).to(self.like.device)
        g = self.generator
        z = torch.randn(n, self.G.latent_dim, generator=g, device=g.device, dtype=self.like.dtype)
        return z.to(self.like.device)

    @torch.no_grad()
    def generate(self, z: Tensor) -> Tensor:
        """G(z), (n, *data)."""
        self.forwards += len(z)
        return torch.cat([self.G(part) for part in z.split(self.chunk_size)])

    @torch.no_grad()
    def evaluate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """G(z) and d(G(z)), (n, *data) and (n,)."""
        self.forwards += len(z)
        xs = [self.G(part) for part in z.split(self.chunk_size)]
        d = torch.cat([self.logit(x) for x in xs])
        if d.shape != z.shape[:1]:
            raise ValueError(
                f"logit returned shape {tuple(d.shape)}; it must be one number a row, ({len(z)},)"
            )
        if not d.isfinite().all():
            raise FloatingPointError(
                f"logit is not finite for {int((~d.isfinite()).sum())} of {len(d)} samples"
            )
        return torch.cat(xs), d

    @torch.no_grad()
    def values(self, function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
        """function(points), (n,), with `function` made of G and d."""
        self.forwards += len(points)
        return torch.cat([function(part) for part in points.split(self.chunk_size)])

    def gradient(self, function: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
        """function(points) (n,) and its gradient (n, *shape), with `function` made of G and d."""
        self.gradients += len(points)
        return energy_and_gradient(function, points, self.chunk_size)

    def log_uniform(self, n: int) -> Tensor:
        """Logs of n uniform numbers, (n,)."""
        g = self.generator
        return torch.rand(n, generator=g, device=g.device).log().to(self.like.device)

    def proposals(self, count: int) -> Iterator[Proposal]:
        """`count` times n independent draws from p_g; as many are evaluated at once as chunk_size allows."""
        at_once = max(1, self.chunk_size // self.n)
        for start in range(0, count, at_once):
            # drawn one by one, so that chunk_size does not change the numbers
            drawn = [
                (self.draw(self.n), self.log_uniform(self.n)) for _ in range(min(at_once, count - start))
            ]
            xs, ds = self.evaluate(torch.cat([z for z, _ in drawn]))
            for (z, u), x, d in zip(drawn, xs.split(self.n), ds.split(self.n), strict=True):
                yield Proposal(z, x, d, u)

    def samples(self, x: Tensor, z: Tensor, **info: float) -> Samples:
        """The result, with what it cost so far."""
        return Samples(x.detach(), z.detach(), self.forwards, self.gradients, info)


def check_at_least(minimum: int, **settings: int) -> None:
    """Raise a ValueError that names a setting below `minimum`."""
    for name, value in settings.items():
        if value < minimum:
            raise ValueError(f"{name}={value} must be at least {minimum}")


def generator_only(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    draw_prior: DrawPrior | None = None,
    chunk_size: int = 1000,
) -> Samples:
    """x = G(z) with z ~ p_0: the baseline, exact where d is constant. The logit is not used.

    Args:
        G: generator in evaluation mode, z (m, *latent) -> x (m, *data).
        logit: d in nats, x -> (m,), in evaluation mode; all methods take it.
        n: number of samples.
        generator: the only source of randomness.
        draw_prior: (m, generator) -> z ~ p_0; standard normal in G.latent_dim dimensions if None.
        chunk_size: rows that pass through the networks at once, to bound memory.

    Raises:
        ValueError: a setting is out of range, or a network is in training mode. So do all methods.
        FloatingPointError: d is not finite. So do all methods that evaluate d.
    """
    networks = Networks(G, logit, n, generator, draw_prior, chunk_size)
    z = networks.draw(n)
    return networks.samples(networks.generate(z), z)


def log_odds(d: Tensor, log_bound: float, epsilon: float = 1e-14) -> Tensor:
    """F = delta - log(1 - exp(delta - epsilon)) with delta = d - log_bound <= 0, so sigmoid(F) = exp(delta).

    The equality holds up to epsilon, which keeps F finite at delta = 0 (Azadi et al., 2019). In float64.
    """
    delta = (d.double() - log_bound).clamp_max(0)
    return delta - (-torch.expm1(delta - epsilon)).log()


def rejection(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    log_bound: float | None = None,
    gamma: float = 0.0,
    percentile: float | None = None,
    n_burn_in: int = 10_000,
    max_proposals: int = 1000,
    draw_prior: DrawPrior | None = None,
    chunk_size: int = 1000,
) -> Samples:
    """Rejection sampling, and discriminator rejection sampling (DRS, Azadi et al., 2019, arXiv 1810.06758).

    Accepts G(z) with probability sigmoid(F - gamma), F = `log_odds`; at gamma = 0 that is exp(d - log_bound).
    Exact, with independent samples, at gamma = 0 if `log_bound` is at least the supremum of d.

    Args:
        log_bound: an upper bound of d in nats, the log of rejection's constant. None is DRS: the bound is
            the largest d seen, in the burn-in and since; a batch is judged by a bound that includes its own
            largest d. This is not exact, as values larger still may follow.
        gamma: nats taken off F. Below 0 more is accepted, and the law is pulled back to p_g; above 0 less is,
            and the law is pulled to the largest d. Either way it is no longer p_t.
        percentile: sets gamma to this percentile (0 to 100) of F over the burn-in instead, at the current
            bound, so that about 100 - percentile of a hundred samples have an acceptance above one half.
        n_burn_in: samples that estimate the largest d and the percentile; then thrown away. With `log_bound`
            and without `percentile` there is no burn-in.
        max_proposals: proposals per sample wanted after which to give up.
        others: see `generator_only`.

    Returns:
        Samples; info has `acceptance`, the share of accepted proposals, and the last `log_bound` and `gamma`.

    Raises:
        ValueError: also if d exceeds the `log_bound` given.
        RuntimeError: n * max_proposals proposals did not give n samples.
    """
    networks = Networks(G, logit, n, generator, draw_prior, chunk_size)
    check_at_least(1, n_burn_in=n_burn_in, max_proposals=max_proposals)
    if not math.isfinite(gamma) or not math.isfinite(log_bound or 0):
        raise ValueError(f"gamma={gamma} and log_bound={log_bound} must be finite")
    if percentile is not None and (gamma != 0 or not 0 <= percentile <= 100):
        raise ValueError(f"percentile={percentile} must lie between 0 and 100, and leave gamma={gamma} at 0")
    estimated = log_bound is None
    if estimated or percentile is not None:
        parts = networks.draw(n_burn_in).split(chunk_size)
        burn_in = torch.cat([networks.evaluate(z)[1] for z in parts])
        log_bound = burn_in.max().item() if estimated else log_bound
        quantile = burn_in.quantile((percentile or 0) / 100, interpolation="nearest")

    kept_x, kept_z, kept, proposed = [], [], 0, 0
    while kept < n:
        if proposed >= n * max_proposals:
            raise RuntimeError(
                f"{proposed} proposals gave {kept} of n={n} samples at log_bound={log_bound:.3g}; d is far "
                "below its bound nearly everywhere: use a chain, raise max_proposals, or take gamma < 0"
            )
        # as many as the acceptance so far asks for, so that few evaluations are wasted
        rows = math.ceil((n - kept) * proposed / max(kept, 1)) if proposed else n
        z = networks.draw(min(rows, chunk_size))
        x, d = networks.evaluate(z)
        highest = d.max().item()
        if estimated:
            log_bound = max(log_bound, highest)
        elif highest > log_bound + 1e-4:  # float32 may round d up
            raise ValueError(
                f"log_bound={log_bound} is no bound: d reached {highest:.4g}; raise it, or leave it out (DRS)"
            )
        if percentile is not None:
            gamma = log_odds(quantile, log_bound).item()
        uniform = networks.log_uniform(len(d)).double()
        accepted = uniform < nn.functional.logsigmoid(log_odds(d, log_bound) - gamma)
        kept_x.append(x[accepted])
        kept_z.append(z[accepted])
        kept, proposed = kept + int(accepted.sum()), proposed + len(d)
    info = {"acceptance": kept / proposed, "log_bound": log_bound, "gamma": gamma}
    return networks.samples(torch.cat(kept_x)[:n], torch.cat(kept_z)[:n], **info)


def metropolis_hastings(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    n_steps: int = 640,
    real_logits: Tensor | None = None,
    draw_prior: DrawPrior | None = None,
    chunk_size: int = 1000,
) -> Samples:
    """The last states of n independence chains (MH-GAN, Turner et al., 2019, arXiv 1811.11357).

    A proposal z' ~ p_0 is accepted with probability min(1, exp(d' - d)): for target p_t and proposal p_0
    the ratio p_t(z') p_0(z) / (p_t(z) p_0(z')) is exp(d' - d). A rejected proposal repeats the state.
    Exact as n_steps grows, and at a known speed: after k steps the law is within (1 - 1/M)^k of p_t in total
    variation, where M = sup p_t / p_0 = sup exp(d) / Z (Mengersen and Tweedie, 1996).

    Args:
        n_steps: proposals of each chain; 640 in the paper.
        real_logits: d of held-out real data, (m,); each chain starts at one of them picked at random, as in
            the paper, which shortens the burn-in. A chain that never left its real point is run again from
            a draw of G, so that no real point is returned. None starts at draws of G.
        others: see `generator_only`.

    Returns:
        Samples; info has `acceptance`, the mean share of accepted proposals, and `restarts`, the share of
        chains that were run again.
    """
    networks = Networks(G, logit, n, generator, draw_prior, chunk_size)
    check_at_least(1, n_steps=n_steps)
    if real_logits is None:
        proposals = networks.proposals(1 + n_steps)
        state = next(proposals)
    else:
        if real_logits.ndim != 1 or len(real_logits) == 0 or not real_logits.isfinite().all():
            raise ValueError(
                f"real_logits has shape {tuple(real_logits.shape)}; give finite d of real data, (m,)"
            )
        picked = torch.randint(len(real_logits), (n,), generator=generator, device=generator.device)
        proposals = networks.proposals(n_steps)
        first = next(proposals)
        proposals = chain([first], proposals)
        # z and x of the start do not matter: a chain that keeps it is run again
        state = first._replace(d=real_logits.to(first.d)[picked.to(first.d.device)])
    moves = torch.zeros(n, device=state.d.device)
    for proposal in proposals:
        accepted = proposal.log_uniform < proposal.d - state.d
        state = proposal.where(accepted, state)
        moves += accepted
    x, z, acceptance = state.x, state.z, moves.mean().item() / n_steps
    stuck = (moves == 0).nonzero().squeeze(1) if real_logits is not None else moves.new_empty(0)
    if len(stuck):
        again = metropolis_hastings(
            G, logit, len(stuck), generator, n_steps=n_steps, draw_prior=draw_prior, chunk_size=chunk_size
        )
        x, z = x.index_copy(0, stuck, again.x), z.index_copy(0, stuck, again.z)
        networks.forwards += again.forwards
    return networks.samples(x, z, acceptance=acceptance, restarts=len(stuck) / n)


def _resample(state: Proposal, proposals: Iterator[Proposal], count: int) -> tuple[Proposal, Tensor]:
    """Of the state and the next `count` proposals one, picked by weights exp(d); and whether it is new, (n,).

    One after the other: a newcomer replaces the present choice with probability exp(d) over the total so
    far, itself included. In the end each is the choice with probability exp(d) over the whole total.
    """
    log_total, moved = state.d, torch.zeros_like(state.d, dtype=torch.bool)
    for proposal in islice(proposals, count):
        log_total = torch.logaddexp(log_total, proposal.d)
        replace = proposal.log_uniform < proposal.d - log_total
        state, moved = proposal.where(replace, state), moved | replace
    return state, moved


def importance_resampling(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    n_particles: int = 100,
    draw_prior: DrawPrior | None = None,
    chunk_size: int = 1000,
) -> Samples:
    """Sampling importance resampling (SIR, Rubin, 1987): one of `n_particles` draws of G, by weights exp(d).

    The weights are normalised within the pool. Each sample has a pool of its own, so the samples are
    independent. Exact as n_particles grows; the bias is of order 1 / n_particles.

    Args:
        n_particles: size of each pool; with 1 the method is `generator_only`.
        others: see `generator_only`.
    """
    networks = Networks(G, logit, n, generator, draw_prior, chunk_size)
    check_at_least(1, n_particles=n_particles)
    proposals = networks.proposals(n_particles)
    state, _ = _resample(next(proposals), proposals, n_particles - 1)
    return networks.samples(state.x, state.z)


def iterated_resampling(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    n_steps: int = 50,
    n_particles: int = 10,
    draw_prior: DrawPrior | None = None,
    chunk_size: int = 1000,
) -> Samples:
    """The last states of n chains of iterated SIR (i-SIR, Andrieu et al., 2010; Tjelmeland, 2004).

    A step pools the state with n_particles - 1 new draws of G and picks one by weights exp(d). p_t is
    invariant for any n_particles >= 2, so this is exact as n_steps grows. It is the global move of
    Ex2MCMC (Samsonov et al., 2022, arXiv 2111.02702).

    Args:
        n_steps: transitions.
        n_particles: size of a pool, the state included; at least 2.
        others: see `generator_only`.

    Returns:
        Samples; info has `acceptance`, the mean share of steps in which the state changed.
    """
    networks = Networks(G, logit, n, generator, draw_prior, chunk_size)
    check_at_least(1, n_steps=n_steps)
    check_at_least(2, n_particles=n_particles)
    proposals = networks.proposals(1 + n_steps * (n_particles - 1))
    state, moves = next(proposals), 0.0
    for _ in range(n_steps):
        state, moved = _resample(state, proposals, n_particles - 1)
        moves += moved.float().mean().item()
    return networks.samples(state.x, state.z, acceptance=moves / n_steps)


def ex2mcmc(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    n_steps: int = 20,
    n_particles: int = 5,
    n_moves: int = 2,
    step_size: float = 0.01,
    prior: LogDensity = standard_normal,
    draw_prior: DrawPrior | None = None,
    chunk_size: int = 1000,
) -> Samples:
    """The last states of n chains of Ex2MCMC (Samsonov et al., 2022, arXiv 2111.02702): jump, then explore.

    A step of `iterated_resampling`, then n_moves of MALA from where it ended. Both leave p_t invariant,
    so this is exact as n_steps grows. MALA needs the gradient at the state it starts from: it is computed
    anew after the jump. Notebook 12 shows the bias of leaving that out.

    Args:
        n_steps: transitions. Each costs n_particles - 1 forward passes and 1 + n_moves gradients a chain.
        n_particles: size of a pool of the jump, the state included; at least 2.
        n_moves: moves of MALA after a jump.
        step_size: eps of these moves.
        prior: log p_0, z -> (m,); it must belong to `draw_prior`.
        others: see `generator_only`.

    Returns:
        Samples; info has `jumps`, the mean share of jumps that changed the state, and `acceptance`, of the
        moves of MALA.
    """
    networks = Networks(G, logit, n, generator, draw_prior, chunk_size)
    check_at_least(1, n_steps=n_steps, n_moves=n_moves)
    check_at_least(2, n_particles=n_particles)
    energy, kernel = latent_energy(G, logit, prior), mala(step_size)

    def evaluate(z: Tensor) -> tuple[Tensor, Tensor]:
        return networks.gradient(energy, z)

    z = networks.draw(n)
    _, d = networks.evaluate(z)
    jumps = accepted = 0.0
    for _ in range(n_steps):
        # only z and d are followed: a move of MALA changes x too
        pool = (p._replace(x=p.d) for p in networks.proposals(n_particles - 1))
        jumped, moved = _resample(Proposal(z, d, d, d), pool, n_particles - 1)
        state = State(jumped.z, *evaluate(jumped.z), moved)
        jumps += moved.float().mean().item() / n_steps
        for _ in range(n_moves):
            state = kernel(state, evaluate, generator)
            accepted += state.accepted.float().mean().item() / (n_steps * n_moves)
        z, d = state.z, -prior(state.z) - state.energy
    return networks.samples(networks.generate(z), z, jumps=jumps, acceptance=accepted)


def hamiltonian(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    step_size: float = 0.1,
    n_leapfrog: int = 5,
    n_steps: int = 40,
    prior: LogDensity = standard_normal,
    draw_prior: DrawPrior | None = None,
    chunk_size: int = 1000,
) -> Samples:
    """Last states of n Hamiltonian chains (`samplers.hmc`) on -log p_0(z) - d(G(z)); exact as n_steps grows.

    Args:
        step_size: h of the leapfrog.
        n_leapfrog: its steps in a transition, one gradient each.
        n_steps: transitions.
        prior: log p_0, z -> (m,); it must belong to `draw_prior`.
        others: see `generator_only`.

    Returns:
        Samples; info has `acceptance`, the mean share of accepted transitions.
    """
    networks = Networks(G, logit, n, generator, draw_prior, chunk_size)
    energy, kernel = latent_energy(G, logit, prior), hmc(step_size, n_leapfrog)
    result = sample(energy, networks.draw(n), kernel, n_steps, generator, chunk_size=chunk_size)
    networks.gradients += n * (1 + n_steps * n_leapfrog)  # the start is evaluated too
    return networks.samples(networks.generate(result.z), result.z, acceptance=result.acceptance.mean().item())


def langevin(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    step_size: float = 0.01,
    n_steps: int = 200,
    adjusted: bool = False,
    prior: LogDensity = standard_normal,
    draw_prior: DrawPrior | None = None,
    chunk_size: int = 1000,
) -> Samples:
    """DDLS (Che et al., 2020, arXiv 2003.06060): last states of n Langevin chains on -log p_0(z) - d(G(z)).

    Unadjusted as in the paper it has a bias of order step_size even as n_steps grows; `adjusted` is MALA,
    exact as n_steps grows. Chains start at z ~ p_0.

    Args:
        step_size: eps of z - (eps/2) grad E + sqrt(eps) n.
        n_steps: transitions.
        adjusted: accept or reject each move.
        prior: log p_0, z -> (m,); it must belong to `draw_prior`.
        others: see `generator_only`.

    Returns:
        Samples; info has `acceptance`, the mean share of accepted moves; 1 if not adjusted.
    """
    networks = Networks(G, logit, n, generator, draw_prior, chunk_size)
    energy, kernel = latent_energy(G, logit, prior), mala(step_size) if adjusted else ula(step_size)
    result = sample(energy, networks.draw(n), kernel, n_steps, generator, chunk_size=chunk_size)
    networks.gradients += n * (1 + n_steps)  # the start is evaluated too
    return networks.samples(networks.generate(result.z), result.z, acceptance=result.acceptance.mean().item())
