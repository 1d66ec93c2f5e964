"""Pictures with sliders: a plain function draws a picture from settings, a thin wrapper adds the sliders.

The picture below the sliders is an ordinary output, replaced while they move, so that saving keeps the last
one and it shows wherever notebooks do. Introduced in notebook 00; the one for images in notebook 12.
"""

import io
import warnings
from collections.abc import Callable, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from IPython.display import Image, display
from torch import Tensor

from utils.animation import draw_starts, frame_steps
from utils.energy import latent_energy
from utils.plotting import COLOURS, image_grid, show_density, show_function, show_points
from utils.samplers import Chain, Energy, State, mala, sample, ula

# For the browser. A focused slider's arrow keys are its own, not the notebook's, which keeps Ctrl+S and all
# other letters; a slider without its kernel says so. The picture cannot load: that runs the line after
# `onerror`.
FRONT_END = """<style>.course-lost {display: none; color: #D55E00}
.jupyter-widgets-disconnected .course-lost {display: inline}</style>
<span class="course-lost">The kernel has been restarted: run this cell again.</span>
<img src="data:," style="display: none" onerror="window.addEventListener('keydown', ({target, key}) =&gt;
target.closest?.('.noUi-handle')?.toggleAttribute('data-lm-suppress-shortcuts', key.length &gt; 1), true)">"""


def explore(draw: Callable[..., None], **controls: widgets.DOMWidget) -> None:
    """Show the figure that `draw` makes with pyplot from the values of `controls`, anew when one changes."""
    sign, reset = widgets.Label(), widgets.Button(description="Reset", layout={"width": "6em"})
    first = {control: control.value for control in controls.values()}

    def picture() -> Image:
        png = io.BytesIO()
        try:
            draw(**{name: control.value for name, control in controls.items()})
            plt.savefig(png, format="png")
        finally:
            plt.close()
        return Image(png.getvalue(), format="png")

    def redraw(_) -> None:
        sign.value = "computing ..."
        try:
            shown.update(picture())
            sign.value = ""
        except Exception as error:  # the front end would hide it
            sign.value = f"{type(error).__name__}: {error}"

    def put_back(_) -> None:
        for control, value in first.items():
            control.value = value

    # This stays where no widget does: on GitHub, in the book, after a restart of the kernel.
    print("Sliders change the picture below once this cell has been run.")
    display(widgets.VBox([*first, widgets.HBox([reset, sign, widgets.HTML(FRONT_END)])]))
    shown = display(picture(), display_id=True)
    for control in first:
        control.observe(redraw, "value")
    reset.on_click(put_back)


def slider(kind: type, label: str, **settings) -> widgets.DOMWidget:
    """A slider of ipywidgets with its whole label beside a track wide enough to aim at."""
    wide = {"layout": {"width": "32em"}, "style": {"description_width": "9em"}}
    return kind(description=label, continuous_update=True, **wide, **settings)


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
    extent: float = 3.5,
    marked: bool = True,
    seed: int = 0,
) -> Chain | None:
    """Run Langevin chains from N(0, I) in the plane, draw both spaces; None, and a title, where one diverged.

    The first of the two `axes` shows E(z) in nats, the ends of `n_chains` chains and the way of `n_traced`;
    the second the ends pushed by G, `push`, on the density of the data, exp(log_prob), within `extent`, in
    units of x. E, `push` and `log_prob` take (n, 2). `corrected` is MALA in place of ULA, `marked` adds a
    colour bar and a legend, and the same `seed`, of starts and noise, gives the same picture.

    Raises ValueError for a setting that is wrong (see `utils.samplers`).
    """
    latent_axes, data_axes = axes
    generator = torch.Generator().manual_seed(seed)
    kernel = (mala if corrected else ula)(step_size, temperature)
    starts = torch.randn(n_chains, 2, generator=generator)
    chain = _sample(data_axes, energy, starts, kernel, n_steps, generator, thin=1)

    def above_least(z: Tensor) -> Tensor:  # low is dark, 10 nats more is pale
        value = energy(z)
        return value - value[value.isfinite()].min()

    bar = "E(z), nats above its least" if marked else ""
    show_function(latent_axes, above_least, 3.5, n=100, colour_bar=bar, vmin=0, vmax=10, alpha=0.6)
    latent_axes.set(xlabel="$z_1$", ylabel="$z_2$")
    data_axes.set(xlabel="$x_1$", ylabel="$x_2$")
    if log_prob:
        show_density(data_axes, log_prob, extent)
    if chain is None:
        return None
    show_points(latent_axes, chain.z, "sampler", 3.5, "latent space: E(z)")
    path = chain.path[:, :n_traced]  # (1 + n_steps, n_traced, 2)
    ways = latent_axes.plot(path[..., 0], path[..., 1], color=COLOURS["chain"], lw=0.8)
    if ways and marked:
        names = ["chains, at their ends", f"the way of {len(ways)}"]
        latent_axes.legend([latent_axes.lines[0], ways[0]], names, loc="upper left", fontsize=8, frameon=True)
    with torch.no_grad():
        ends = push(chain.z)
    outside = int((ends.abs() > extent).any(1).sum())
    title = f"data space, acceptance {chain.acceptance.mean():.0%}" if corrected else "data space"
    show_points(data_axes, ends, "sampler", extent, title + (f", {outside} outside" if outside else ""))
    return chain


def _sample(ax: plt.Axes, *settings, **options) -> Chain | None:
    """`samplers.sample`, or None where a chain diverges, which the title of `ax` then says."""
    try:
        with warnings.catch_warnings(action="error", category=RuntimeWarning):  # a chain that has diverged
            chain = sample(*settings, **options)
    except (FloatingPointError, RuntimeWarning):
        chain = None
    if chain is None or not (chain.energy < 1e6).all():  # nats: no chain that samples is there
        ax.set_title("diverged: lower the step size", color=COLOURS["wrong"])
        return None
    return chain


def explore_langevin(
    energy_of_quality: Callable[[float], Energy],
    push: Callable[[Tensor], Tensor],
    qualities: Sequence,
    step_size: float = 10**-1.5,
    **picture,
) -> None:
    """Sliders over `show_langevin`: quality of the discriminator, step size, number of steps, temperature.

    `energy_of_quality` takes one of `qualities` (names, numbers or (label, value) pairs, the best last) to an
    energy; `step_size`, in [1e-5, 1], is where its slider starts; `picture` goes to `show_langevin`.
    """

    def draw(quality, **settings) -> None:
        _, axes = plt.subplots(1, 2, figsize=(8.6, 3.8))
        show_langevin(axes, energy_of_quality(quality), push, **settings, **picture)

    explore(
        draw,
        quality=slider(widgets.SelectionSlider, "quality of d", options=qualities, index=len(qualities) - 1),
        step_size=slider(widgets.FloatLogSlider, "step size ε", value=step_size, min=-5, max=0, step=0.25),
        n_steps=slider(widgets.IntSlider, "steps", value=100, min=0, max=200, step=10),
        temperature=slider(widgets.FloatSlider, "temperature T", value=1.0, min=0.1, max=2.0, step=0.1),
        corrected=widgets.Checkbox(description="accept or reject (MALA)", value=False),
    )


def show_chain(
    axes: Sequence[plt.Axes],
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    *,
    start: int = 0,
    step_size: float = 0.1,
    n_steps: int = 10,
    temperature: float = 1.0,
    seed: int = 0,
) -> Chain | None:
    """Run a chain by ULA on E(z) = -log p_0(z) - d(G(z)), draw its images and energy; None if it diverged.

    The first of the two `axes` takes at most six images (n, 3 or 1, h, w) in [-1, 1] of the way, the second
    the energy in nats. `start` is the seed of a draw from G's prior, `seed` that of the noise, which repeats
    no start's draw; the same settings give the same picture.

    Raises ValueError for a setting that is wrong, or a network in training mode.
    """
    strip_axes, trace_axes = axes
    tiles, energies, latents = frame_steps(n_steps, 6), [], []

    def keep(step: int, state: State) -> None:
        energies.append(state.energy.item())
        if step in tiles:
            latents.append(state.z)

    noise = torch.Generator().manual_seed(1000 + seed)  # the seeds of the starts lie below
    energy, z0 = latent_energy(G, logit), draw_starts(G, 1, start)
    chain = _sample(strip_axes, energy, z0, ula(step_size, temperature), n_steps, noise, callback=keep)
    trace_axes.plot(energies, ".-", color=COLOURS["chain"])
    trace_axes.set(xlabel="Langevin step", ylabel="energy E(z) in nats", xlim=(0, n_steps))
    strip_axes.set_axis_off()
    if chain is None:
        return None
    with torch.no_grad():
        d = logit(images := G(torch.cat(latents)))  # (tiles,) and (tiles, c, h, w)
    strip_axes.imshow(image_grid(images, columns=len(images)))
    strip_axes.set_title(f"steps {', '.join(map(str, tiles))}: d from {d[0]:+.1f} to {d[-1]:+.1f} nats")
    return chain


def explore_chain(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    *,
    step_size: float = 0.1,
    n_steps: int = 10,
) -> None:
    """Sliders over `show_chain`: start, step size, temperature and number of steps of one chain of images.

    `step_size`, between 1e-4 and 10, and `n_steps`, between 1 and 60, are where their sliders start.
    """

    def draw(**settings) -> None:
        _, axes = plt.subplots(2, 1, figsize=(7, 3.6), height_ratios=(3, 4))
        show_chain(axes, G, logit, **settings)

    explore(
        draw,
        start=slider(widgets.IntSlider, "start", value=0, min=0, max=99),
        step_size=slider(widgets.FloatLogSlider, "step size ε", value=step_size, min=-4, max=1, step=0.25),
        temperature=slider(widgets.FloatSlider, "temperature T", value=1.0, min=0.0, max=2.0, step=0.1),
        n_steps=slider(widgets.IntSlider, "steps", value=n_steps, min=1, max=60),
    )
