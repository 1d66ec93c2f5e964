"""Pictures with sliders: a plain function draws a picture from settings, a thin wrapper adds the sliders.

The plain functions need no front end; a notebook draws its static figure with the same function. A slider
redraws when it is let go, not while it moves. Introduced in notebook 06; the one for images in notebook 10.
"""

import warnings
from collections.abc import Callable, Sequence

import ipywidgets
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from utils.animation import frame_steps
from utils.energy import LogDensity, latent_energy, standard_normal
from utils.plotting import COLOURS, image_grid, show_density, show_function
from utils.samplers import Chain, Energy, State, mala, sample, ula


def show_langevin(
    axes: Sequence[plt.Axes],
    energy: Energy,
    push: Callable[[Tensor], Tensor],
    *,
    step_size: float,
    n_steps: int,
    temperature: float = 1.0,
    corrected: bool = False,
    log_prob: Callable[[Tensor], Tensor] | None = None,
    n_chains: int = 400,
    n_traced: int = 3,
    latent_extent: float = 3.5,
    extent: float = 3.5,
    seed: int = 0,
) -> Chain | None:
    """Run Langevin chains from z ~ N(0, I) in the plane and draw them in latent and in data space.

    Args:
        axes: two; the first shows the energy, the ends of the chains and the way of some, the second the
            pushed ends on the density of the data.
        energy: E(z) in nats, (n, 2) -> (n,).
        push: G, (n, 2) -> (n, 2).
        step_size, n_steps, temperature: of the chains; `corrected` takes MALA in place of ULA.
        log_prob: log p_d in nats, (n, 2) -> (n,); left out, no density is drawn.
        n_chains, n_traced: number of chains, and of those whose way is drawn.
        latent_extent, extent: half the side of the two pictures, in units of z and of x.
        seed: of starts and noise; the same seed gives the same picture.

    Returns:
        The chain, or None where it diverged, which the picture then says.

    Raises:
        ValueError: a setting is wrong (see `utils.samplers`), or `axes` are not two.
    """
    if len(axes) != 2:
        raise ValueError(f"axes holds {len(axes)} axes; give two, for the latent and for the data space")
    latent_axes, data_axes = axes
    generator = torch.Generator().manual_seed(seed)
    kernel = (mala if corrected else ula)(step_size, temperature)
    starts = torch.randn(n_chains, 2, generator=generator)
    try:
        with warnings.catch_warnings(action="error", category=RuntimeWarning):
            chain = sample(energy, starts, kernel, n_steps, generator, thin=1)
    except (FloatingPointError, RuntimeWarning):
        chain = None
    _show_energy(latent_axes, energy, latent_extent)
    latent_axes.set(xlabel="$z_1$", ylabel="$z_2$")
    data_axes.set(xlabel="$x_1$", ylabel="$x_2$")
    if log_prob:
        show_density(data_axes, log_prob, extent)
    if chain is None:
        data_axes.set_title("diverged: lower the step size", color=COLOURS["wrong"])
        return None
    _show_ends(latent_axes, chain.z, latent_extent, "latent space: E(z)")
    path = chain.path[:, :n_traced]  # (1 + n_steps, n_traced, 2)
    latent_axes.plot(path[..., 0], path[..., 1], color=COLOURS["chain"], lw=0.8)
    with torch.no_grad():
        ends = push(chain.z)
    outside = int((ends.abs() > extent).any(1).sum())
    title = f"data space, acceptance {chain.acceptance.mean():.0%}" if corrected else "data space"
    _show_ends(data_axes, ends, extent, title + (f", {outside} outside" if outside else ""))
    return chain


def _show_ends(ax: plt.Axes, x: Tensor, extent: float, title: str) -> None:
    """Draw the ends of all chains; larger than `plotting.show_points`, for they are few."""
    ax.plot(x[:, 0].cpu(), x[:, 1].cpu(), ".", ms=4, alpha=0.8, mew=0, color=COLOURS["sampler"])
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", title=title)


def _show_energy(ax: plt.Axes, energy: Energy, extent: float) -> None:
    """Draw E(z) over its least value on the map, up to 10 nats."""

    def above_least(z: Tensor) -> Tensor:
        value = energy(z)
        return value - value[value.isfinite()].min()

    show_function(ax, above_least, extent, n=100, vmin=0, vmax=10, alpha=0.6)


def explore_langevin(
    energy_of_quality: Callable[[float], Energy],
    push: Callable[[Tensor], Tensor],
    qualities: Sequence,
    step_size: float = 10**-1.5,
    **picture,
) -> None:
    """Sliders over `show_langevin`: quality of the discriminator, step size, number of steps, temperature.

    Args:
        energy_of_quality: one of `qualities` -> the energy with a discriminator of this quality.
        push: G, (n, 2) -> (n, 2).
        qualities: the slider's places, from worst to best: names, numbers, or (label, value) pairs.
        step_size: where its slider starts, between 1e-5 and 1.
        picture: further arguments of `show_langevin`: log_prob, n_chains, extent, ...
    """

    def draw(quality, step_size: float, n_steps: int, temperature: float, corrected: bool) -> None:
        _, axes = plt.subplots(1, 2, figsize=(8, 3.8))
        settings = {"step_size": step_size, "n_steps": n_steps, "temperature": temperature}
        show_langevin(axes, energy_of_quality(quality), push, corrected=corrected, **settings, **picture)

    lazy = {"continuous_update": False}
    ipywidgets.interact(
        draw,
        quality=ipywidgets.SelectionSlider(options=qualities, value=_last(qualities), **lazy),
        step_size=ipywidgets.FloatLogSlider(value=step_size, min=-5, max=0, step=0.25, **lazy),
        n_steps=ipywidgets.IntSlider(value=100, min=0, max=200, step=10, **lazy),
        temperature=ipywidgets.FloatSlider(value=1.0, min=0.1, max=2.0, step=0.1, **lazy),
        corrected=ipywidgets.Checkbox(value=False, description="accept/reject"),
    )


def _last(qualities: Sequence):
    """Value of the last place, which may be a (label, value) pair."""
    return qualities[-1][1] if isinstance(qualities[-1], tuple) else qualities[-1]


def show_chain(
    axes: Sequence[plt.Axes],
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    *,
    start: int = 0,
    step_size: float = 0.1,
    n_steps: int = 10,
    temperature: float = 1.0,
    starts: Tensor | None = None,
    latent_dim: int | None = None,
    prior: LogDensity = standard_normal,
    n_tiles: int = 6,
    seed: int = 0,
) -> Chain | None:
    """Run one Langevin chain on E(z) = -log p_0(z) - d(G(z)) and draw its images and its energy.

    Args:
        axes: two; the first takes the strip of images from start to end, the second the energy.
        G: z (n, *latent) -> images (n, 3 or 1, h, w) in [-1, 1]; in evaluation mode.
        logit: d, images -> (n,), in nats; in evaluation mode.
        start: number of the start: a row of `starts`, or the seed of a draw from N(0, I).
        step_size, n_steps, temperature: of the chain, by ULA; n_steps is 1 or more.
        starts: rows (m, *latent) to choose from.
        latent_dim: of the drawn start; left out, it is `G.latent_dim`.
        prior: log p_0, z -> (n,).
        n_tiles: most images of the strip, evenly spaced; the first and the last are the ends.
        seed: of the noise; the same settings give the same picture.

    Returns:
        The chain, or None where it diverged, which the picture then says.

    Raises:
        ValueError: a setting is wrong, a network is in training mode, or `axes` are not two.
    """
    if len(axes) != 2:
        raise ValueError(f"axes holds {len(axes)} axes; give two, for the images and for the energy")
    strip_axes, trace_axes = axes
    z0 = _start(G, start, starts, latent_dim)
    tiles, energies, latents = frame_steps(n_steps, n_tiles), [], []

    def keep(step: int, state: State) -> None:
        energies.append(state.energy.item())
        if step in tiles:
            latents.append(state.z)

    noise = torch.Generator().manual_seed(seed)
    energy = latent_energy(G, logit, prior)
    try:
        with warnings.catch_warnings(action="error", category=RuntimeWarning):
            chain = sample(energy, z0, ula(step_size, temperature), n_steps, noise, callback=keep)
    except (FloatingPointError, RuntimeWarning):
        chain = None
    trace_axes.plot(energies, ".-", color=COLOURS["chain"])
    trace_axes.set(xlabel="Langevin step", ylabel="energy E(z) in nats", xlim=(0, n_steps))
    strip_axes.set_axis_off()
    if chain is None:
        strip_axes.set_title("diverged: lower the step size", color=COLOURS["wrong"])
        return None
    with torch.no_grad():
        images = G(torch.cat(latents))  # (tiles, c, h, w)
        d = logit(images)
    strip_axes.imshow(image_grid(images, columns=len(images)))
    strip_axes.set_title(f"steps {', '.join(map(str, tiles))}: d from {d[0]:+.1f} to {d[-1]:+.1f} nats")
    return chain


def _start(G: Callable, start: int, starts: Tensor | None, latent_dim: int | None) -> Tensor:
    """The chosen start, (1, *latent)."""
    if starts is not None:
        if not 0 <= start < len(starts):
            raise ValueError(f"start={start} is no row of starts, which has {len(starts)}")
        return starts[start : start + 1]
    latent_dim = latent_dim or getattr(G, "latent_dim", None)
    if latent_dim is None:
        raise ValueError("G has no attribute latent_dim: give latent_dim, or starts")
    z0 = torch.randn(1, latent_dim, generator=torch.Generator().manual_seed(start))
    device = next(G.parameters(), z0).device if isinstance(G, torch.nn.Module) else "cpu"
    return z0.to(device)


def explore_chain(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    *,
    step_size: float = 0.1,
    n_steps: int = 10,
    most_steps: int = 60,
    starts: Tensor | None = None,
    **picture,
) -> None:
    """Sliders over `show_chain`: start, step size, temperature and number of steps of one chain of images.

    Args:
        G, logit: as in `show_chain`.
        step_size: where its slider starts, between 1e-4 and 10.
        n_steps, most_steps: where its slider starts and ends.
        starts: rows (m, *latent) to choose from; left out, the draws of N(0, I) with the seeds 0 to 99.
        picture: further arguments of `show_chain`: latent_dim, prior, n_tiles, seed.
    """

    def draw(start: int, step_size: float, temperature: float, n_steps: int) -> None:
        _, axes = plt.subplots(2, 1, figsize=(7, 3.6), height_ratios=(3, 4))
        settings = {"start": start, "step_size": step_size, "temperature": temperature, "n_steps": n_steps}
        show_chain(axes, G, logit, starts=starts, **settings, **picture)

    lazy = {"continuous_update": False}
    last = 99 if starts is None else len(starts) - 1
    ipywidgets.interact(
        draw,
        start=ipywidgets.IntSlider(value=0, min=0, max=last, **lazy),
        step_size=ipywidgets.FloatLogSlider(value=step_size, min=-4, max=1, step=0.25, **lazy),
        temperature=ipywidgets.FloatSlider(value=1.0, min=0.0, max=2.0, step=0.1, **lazy),
        n_steps=ipywidgets.IntSlider(value=n_steps, min=1, max=most_steps, **lazy),
    )
