"""Frames of sampling dynamics -> GIF. A frame is a uint8 array (H, W, 3)."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from utils.checkpoints import write_atomically


def write_gif(
    frames: Sequence[np.ndarray], path: Path, milliseconds: int = 80, hold: int = 1500, colours: int = 256
) -> Path:
    """Write an endlessly looping GIF whose last frame stays for `hold` milliseconds; returns its path.

    All frames share one palette, chosen from a sample of them, which keeps files small and colours still.
    GIF times have a unit of 10 ms.
    """
    if not len(frames):
        raise ValueError("frames is empty: give at least one array (H, W, 3)")
    sample = frames[:: max(1, len(frames) // 8)]
    palette = Image.fromarray(np.concatenate(list(sample), 0)).quantize(colours)
    quantised = [
        np.asarray(Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB"))
        for f in frames
    ]
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    write_atomically(path, lambda p: iio.imwrite(p, quantised, extension=".gif", duration=durations, loop=0))
    return path


def with_caption(frame: np.ndarray, text: str, height: int = 18) -> np.ndarray:
    """Add a white line with `text` above a frame."""
    line = Image.new("RGB", (frame.shape[1], height), "white")
    ImageDraw.Draw(line).text((4, 3), text, fill="black", font_size=12)
    return np.concatenate([np.asarray(line), frame], 0)


def side_by_side(panels: Sequence[np.ndarray], gap: int = 10) -> np.ndarray:
    """Put frames of equal height next to each other, white between."""
    white = np.full((panels[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for panel in panels for part in (panel, white)]
    return np.concatenate(parts[:-1], 1)


def draw_points(background: np.ndarray, points: np.ndarray, extent: float, colour: str) -> np.ndarray:
    """A frame with points (n, 2) of the square [-extent, extent]^2 as dots of 3 x 3 pixels, y upwards.

    `background` is a square frame (side, side, 3); it stays as it is. Far faster than a plot a frame.
    """
    side = len(background)
    column, row = np.floor((points * [1, -1] / extent + 1) * (side / 2)).astype(int).T
    offsets = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 2)
    frame = background.copy()
    ink = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    for down, right in offsets:
        inside = (row + down >= 0) & (row + down < side) & (column + right >= 0) & (column + right < side)
        frame[row[inside] + down, column[inside] + right] = ink
    return frame


def map_frame(values: np.ndarray, side: int, colour_map: str = "Greys") -> np.ndarray:
    """A square frame (side, side, 3) of values (n, n) given row by row from below, scaled to their range."""
    low, high = values.min(), values.max()
    shades = colormaps[colour_map]((values - low) / (high - low or 1.0))[::-1, :, :3]
    return np.asarray(Image.fromarray((255 * shades).astype(np.uint8)).resize((side, side), Image.BICUBIC))
