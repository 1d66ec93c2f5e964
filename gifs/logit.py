"""An animation for notebook 02: the logit of a discriminator in training approaches the log density ratio."""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.animation import write_animation
from utils.density_ratio import logit_snapshots
from utils.metrics.toy import value_on_grid
from utils.models.mlp import MLPDiscriminator
from utils.plotting import COLOURS
from utils.toy import mixture_1d


def logit_approaches(
    folder: Path,
    n_frames: int = 50,
    n_steps: int = 1500,
    seed: int = 0,
    size: int = 270,
    extension: str = "gif",
) -> Path:
    """D's logit approaches log p_d/p_g, and V(D) its upper bound 2 JSD - log 4, while D is trained.

    At most `n_frames` frames, evenly spaced in the logarithm of the step; writes
    `logit_training.<extension>`, `size` pixels high, into `folder` and returns its path.
    """
    if n_frames < 2:
        raise ValueError(f"n_frames={n_frames} shows no change; give at least 2")
    p_d, p_g = mixture_1d((-2.0, 0.0, 2.0), std=0.5), mixture_1d((0.0,), std=1.6)  # as in the notebook
    line = torch.linspace(-5, 5, 401)
    x, spacing = line[:, None], (line[1] - line[0]).item()
    log_p_d, log_p_g = p_d.log_prob(x), p_g.log_prob(x)
    torch.manual_seed(seed)
    snapshots = logit_snapshots(
        MLPDiscriminator(width=64, depth=2, data_shape=(1,)), p_d, p_g, x, n_steps=n_steps, every=5, seed=seed
    )
    steps = [step for step, _ in snapshots]
    values = [value_on_grid(d, log_p_d, log_p_g, spacing) for _, d in snapshots]
    bound = value_on_grid(log_p_d - log_p_g, log_p_d, log_p_g, spacing)  # 2 JSD - log 4

    figure = Figure(figsize=(8, 3), dpi=size / 3, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    left.plot(line, log_p_d - log_p_g, color="black", ls="--", label="log $p_d/p_g$")
    (curve,) = left.plot(line, snapshots[0][1], color=COLOURS["sampler"], lw=2, label="logit of D")
    for log_p, role, label in ((log_p_d, "data", "$p_d$"), (log_p_g, "generator", "$p_g$")):
        left.fill_between(line, -8, -8 + 12 * log_p.exp(), color=COLOURS[role], alpha=0.3, lw=0, label=label)
    left.set(xlim=(-5, 5), ylim=(-8, 3), xlabel="x", ylabel="nats")
    left.legend(loc="lower center", ncols=4, fontsize=8, bbox_to_anchor=(0.5, 1.0), frameon=False)
    right.axhline(bound, color="black", ls="--", label="2 JSD − log 4")
    right.axhline(-math.log(4), color="grey", ls=":", label="−log 4: D = 1/2")
    (trace,) = right.plot([], [], color=COLOURS["sampler"], lw=2, label="V(D)")
    right.set(
        xscale="symlog",
        xlim=(0, 1.07 * n_steps),
        ylim=(-1.48, -1.22),
        xlabel="training step",
        ylabel="V(D), nats",
    )
    right.legend(loc="lower right", fontsize=8, frameon=False)

    frames = []
    for i in sorted(set(np.geomspace(1, len(snapshots), n_frames).round().astype(int) - 1)):
        curve.set_ydata(snapshots[i][1])
        trace.set_data(steps[: i + 1], values[: i + 1])
        right.set_title(f"step {steps[i]}", fontsize=10)
        canvas.draw()
        figure.set_layout_engine("none")  # the first frame has placed everything; later ones keep its layout
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return write_animation(
        frames, folder / f"logit_training.{extension}", milliseconds=120, hold=3000, colours=128
    )
