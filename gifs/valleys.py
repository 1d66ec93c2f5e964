"""An animation for notebook 04: Langevin dynamics, MALA and HMC on its landscape with two curved valleys."""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from utils.animation import write_animation
from utils.plotting import COLOURS, show_function
from utils.samplers import State, energy_and_gradient, leapfrog, log_acceptance

EXTENT, STEP_ULA, STEP_MALA, STEP_HMC, FLIGHT = 3.2, 0.1, 0.35, 0.22, 10
Move = tuple[
    Tensor, Tensor | None
]  # where the chain is after a gradient; a refused proposal, if there is one


def two_valleys(z: Tensor) -> Tensor:
    """The energy of notebook 04, (n, 2) -> (n,)."""
    x, y = z.unbind(1)
    return 0.4 * (x**2 - 2.25) ** 2 + 0.3 * x + (y + 0.75 - x**2 / 3) ** 2


def evaluate(z: Tensor) -> tuple[Tensor, Tensor]:
    return energy_and_gradient(two_valleys, z)


def langevin_moves(n: int, step_size: float, adjusted: bool, generator: torch.Generator) -> list[Move]:
    """n moves of one chain of ULA, or of MALA if `adjusted`, from the left valley."""
    z = torch.tensor([[-1.5, 0.0]])
    state, moves = State(z, *evaluate(z)), []
    for _ in range(n):
        noise = math.sqrt(step_size) * torch.randn(1, 2, generator=generator)
        z = state.z - 0.5 * step_size * state.gradient + noise
        proposal, u = State(z, *evaluate(z)), torch.rand(1, generator=generator)
        refused = adjusted and u.log() >= log_acceptance(state, proposal, step_size)
        moves.append((state.z[0], z[0]) if refused else (z[0], None))
        state = state if refused else proposal
    return moves


def hmc_moves(n: int, generator: torch.Generator) -> list[Move]:
    """n leapfrog steps of one chain of HMC; a refused flight jumps back to where it began."""
    z = torch.tensor([[-1.5, 0.0]])
    state, moves = State(z, *evaluate(z)), []
    while len(moves) < n:
        momentum = torch.randn(1, 2, generator=generator)
        start, before = state, state.energy + 0.5 * momentum.square().sum(1)
        for _ in range(FLIGHT):
            state, momentum = leapfrog(state, momentum, evaluate, STEP_HMC, 1)
            moves.append((state.z[0], None))
        change = state.energy + 0.5 * momentum.square().sum(1) - before
        if torch.rand(1, generator=generator).log() >= -change:
            moves[-1], state = (start.z[0], state.z[0]), start
    return moves[:n]


def valleys(
    folder: Path,
    n_steps: int = 120,
    n_frames: int = 60,
    seed: int = 3,
    size: int = 260,
    extension: str = "gif",
) -> Path:
    """Langevin dynamics, MALA (red: refused) and HMC on two curved valleys, the same number of gradients.

    Writes at most `n_frames` frames to `valleys_samplers.<extension>` in `folder`, and returns its path.
    """
    if not 2 <= n_frames <= n_steps:
        raise ValueError(f"n_frames={n_frames} must lie between 2 and n_steps={n_steps}")
    runs = {
        "Langevin (ULA)": langevin_moves(n_steps, STEP_ULA, False, torch.Generator().manual_seed(seed)),
        "MALA": langevin_moves(n_steps, STEP_MALA, True, torch.Generator().manual_seed(seed)),
        f"HMC, {FLIGHT} leapfrog steps": hmc_moves(n_steps, torch.Generator().manual_seed(seed)),
    }
    figure = Figure(figsize=(9, 3.3), dpi=size / 3.3, layout="constrained")
    canvas, lines = FigureCanvasAgg(figure), []
    for ax, title in zip(figure.subplots(1, 3), runs, strict=True):
        show_function(ax, lambda z: two_valleys(z).clamp(max=8), EXTENT, n=100)
        style = {"color": "white", "lw": 0.7, "ms": 2.5}
        (path,), (here,) = ax.plot([], [], "o-", **style), ax.plot([], [], "o", ms=7, color=COLOURS["chain"])
        (refused,) = ax.plot([], [], "x", ms=6, color=COLOURS["wrong"])
        lines.append((path, here, refused))
        ax.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), xticks=[], yticks=[], title=title)
    canvas.draw()
    figure.set_layout_engine("none")
    frames = []
    for shown in np.unique(np.linspace(1, n_steps, n_frames).astype(int)):
        for moves, (path, here, refused) in zip(runs.values(), lines, strict=True):
            path.set_data(*torch.stack([z for z, _ in moves[:shown]]).T.numpy())
            here.set_data(*moves[shown - 1][0][:, None].numpy())
            crosses = [z for _, z in moves[:shown] if z is not None]
            refused.set_data(*(torch.stack(crosses).T.numpy() if crosses else ([], [])))
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return write_animation(frames, folder / f"valleys_samplers.{extension}", milliseconds=120, colours=192)
