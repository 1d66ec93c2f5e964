"""Frames of sampling dynamics -> GIF or MP4, and `animate_chains` for any G and D of yours (notebook 14)."""

import io
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from utils.checkpoints import write_atomically
from utils.energy import latent_energy, prior_of
from utils.plotting import COLOURS, image_grid
from utils.samplers import Kernel, check_whole, sample, ula

FORMATS = ("gif", "mp4")
Pictures = Iterable[np.ndarray | Tensor]
MAX_BYTES = 3_000_000  # of a GIF in the repository
PALE_DATA = "#7fb8d8"  # COLOURS["data"] halfway to white
COLUMNS = 4  # tiles in a row of images


def write_animation(
    frames: Pictures, path: Path, milliseconds: float = 80, hold: float = 1500, colours: int = 256
) -> Path:
    """Write a GIF or an MP4, as the ending of `path` says; returns the path.

    `frames` are pictures of one size (see `as_frames`), `milliseconds` is the time of each (in a GIF 20 or
    more, its unit is 10), `hold` that of the last, `colours` the size of a GIF's palette, at most 256.

    Raises ValueError for a setting or a frame that is wrong, RuntimeError where an .mp4 finds no ffmpeg.
    """
    ending, path, frames = check_format(path, milliseconds, hold), Path(path), as_frames(frames)
    make = partial(gif_bytes, colours=colours) if ending == "gif" else mp4_bytes
    try:
        data = make(frames, milliseconds, hold)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
    return path


def check_format(path: Path, milliseconds: float, hold: float) -> str:
    """The format, "gif" or "mp4", that `path` ends in; ValueError for another, or times it cannot keep."""
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise ValueError(f"path={str(path)!r} must end in .gif or .mp4")
    low, high = (20, 655_350) if ending == "gif" else (1, math.inf)  # browsers slow down what is faster
    for name, value in (("milliseconds", milliseconds), ("hold", hold)):
        if not low <= value <= high:
            raise ValueError(f"{name}={value} must lie between {low} and {high:,} for a .{ending}")
        if ending == "gif" and value % 10:
            warnings.warn(f"{name}={value} becomes {value // 10 * 10:g}: a GIF's unit is 10", stacklevel=3)
    return ending


def as_frames(frames: Pictures) -> list[np.ndarray]:
    """Pictures of one size as uint8 arrays (H, W, 3); raises ValueError, naming it, for what is no picture.

    They are arrays or tensors, grey (H, W) or (H, W, 1), RGB (H, W, 3), or RGBA (H, W, 4), laid on white, of
    booleans, whole numbers in [0, 255], or floats, all in [0, 1] or else all in [0, 255].
    """
    frames = [np.asarray(f.detach().cpu() if isinstance(f, Tensor) else f) for f in frames]
    if not frames:
        raise ValueError("frames is empty: give at least one picture (H, W, 3)")
    if len(shapes := {frame.shape for frame in frames}) > 1:
        raise ValueError(f"frames have different shapes {sorted(shapes)}; make all of one size")
    (shape,) = shapes
    if len(shape) not in (2, 3) or 0 in shape or (*shape, 1)[2] not in (1, 3, 4) or shape[1:] in ((3,), (4,)):
        raise ValueError(f"a frame has shape {shape}; give a list of pictures (H, W, 3)")
    stack, kind = np.stack(frames), np.result_type(*frames).kind  # (n, H, W[, c])
    low, high = stack.min(), stack.max()
    if kind not in "buif" or not 0 <= low <= high <= 255 or (kind == "f" and 1 < high <= 2):
        wanted = "whole numbers in [0, 255], or floats in [0, 1] or in [0, 255]"
        raise ValueError(f"frames are {stack.dtype} from {low} to {high}; give {wanted}")
    if kind == "b" or (kind == "f" and high <= 1):
        stack = stack * 255.0
    stack = np.rint(stack).astype(np.uint8).reshape(*stack.shape[:3], -1)
    if stack.shape[3] == 4:
        alpha = stack[..., 3:] / 255
        stack = np.rint(alpha * stack[..., :3] + (1 - alpha) * 255).astype(np.uint8)
    return list(np.broadcast_to(stack, (*stack.shape[:3], 3)))


def gif_bytes(frames: list[np.ndarray], milliseconds: float, hold: float, colours: int) -> bytes:
    """An endlessly looping GIF with one palette, halved, down to 16, until it has `MAX_BYTES`."""
    buffer, durations = io.BytesIO(), [milliseconds] * (len(frames) - 1) + [hold]
    palette = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 8)], 0)).quantize(colours)
    first, *rest = (Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    try:
        times = {"duration": durations if rest else hold, "loop": 0}
        first.save(buffer, "GIF", save_all=True, append_images=rest, **times)
    except OverflowError as error:
        raise ValueError("frames that are alike stay longer than 655,350 ms, a GIF's longest time") from error
    if buffer.tell() <= MAX_BYTES:
        return buffer.getvalue()
    if colours <= 16:
        size = f"{buffer.tell() / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:g} MB"
        raise ValueError(f"{size}: take fewer or smaller frames, or an .mp4")
    return gif_bytes(frames, milliseconds, hold, colours // 2)


def mp4_bytes(frames: list[np.ndarray], milliseconds: float, hold: float) -> bytes:
    """An H.264 video that every browser plays (`<video loop>`: again and again).

    An odd side gains a white row or column, since the format stores colours for squares of 2 x 2 pixels.
    """
    require_ffmpeg()
    import imageio.v2 as imageio

    h, w = frames[0].shape[:2]
    padded = [np.pad(f, ((0, h % 2), (0, w % 2), (0, 0)), constant_values=255) for f in frames]
    padded += [padded[-1]] * (max(1, round(hold / milliseconds)) - 1)
    settings = {"fps": 1000 / milliseconds, "quality": None, "macro_block_size": 2}
    settings["output_params"] = ["-crf", "18", "-movflags", "+faststart"]
    return imageio.mimwrite("<bytes>", padded, format="mp4", **settings)


def require_ffmpeg() -> None:
    """Raise RuntimeError, with the remedy, where there is no ffmpeg."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        remedy = "`pip install imageio-ffmpeg` brings one, or set IMAGEIO_FFMPEG_EXE to the path of yours"
        raise RuntimeError(f"an .mp4 needs ffmpeg: {remedy}; a .gif needs none") from error


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
    """A square frame with points (n, 2) of [-extent, extent]^2 as dots of 3 x 3 pixels, y upwards; a copy."""
    side = len(background)
    column, row = np.floor((points * [1, -1] / extent + 1) * (side / 2)).astype(int).T
    offsets = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 2)
    frame = background.copy()
    ink = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    for down, right in offsets:
        inside = (row + down >= 0) & (row + down < side) & (column + right >= 0) & (column + right < side)
        frame[row[inside] + down, column[inside] + right] = ink
    return frame


def frame_steps(n_steps: int, n_frames: int) -> list[int]:
    """Steps 0 to `n_steps` at which at most `n_frames` frames are drawn, evenly; both ends are among them."""
    if n_frames < 2:
        raise ValueError(f"n_frames={n_frames} shows no change; give at least 2")
    if n_steps < 1:
        raise ValueError(f"n_steps={n_steps} shows no change; give at least 1")
    n_frames = min(n_frames, n_steps + 1)
    return [round(i * n_steps / (n_frames - 1)) for i in range(n_frames)]


def animate_chains(
    G: Callable[[Tensor], Tensor],
    logit: Callable[[Tensor], Tensor],
    path: Path,
    *,
    step_size: float | Sequence[float] = 0.1,
    n_steps: int = 60,
    n_frames: int = 21,
    n_chains: int | None = None,
    real: Tensor | None = None,
    size: int = 264,
    milliseconds: float = 160,
    hold: float = 1500,
    seed: int = 0,
) -> Path:
    """Animate Langevin chains (DDLS: Che et al., 2020) of a generator and a logit, yours or anybody's.

    The chains run on E(z) = -log p_0(z) - d(G(z)) by ULA. Images are shown as a grid, one tile a chain;
    points in the plane as dots. A caption gives the step size, the step and the mean logit.

    Args:
        G: z (n, *latent) -> images (n, 3 or 1, h, w) in [-1, 1], or points (n, 2); in evaluation mode, with
            `latent_dim` or a `prior` (else see `as_generator`).
        logit: d, x -> (n,), the logit in nats (no probability); in evaluation mode (see notebook 14).
        path: of the animation, returned; ends in .gif or .mp4.
        step_size: eps of the Langevin step; for several, panels from the same starts stand side by side.
        n_steps, n_frames: steps of a chain; most frames, evenly spaced from step 0 to the last.
        n_chains: draws of the prior; left out, 16 for images and 1,000 for points.
        real: points (m, 2) of the data, drawn under the chains' points.
        size: about the side of a panel in pixels.
        milliseconds, hold: time of a frame and of the last one.
        seed: of starts and noise; the same seed gives the same file.

    Raises:
        ValueError: a setting is wrong, or a network is in training mode, or G's output cannot be drawn.
        FloatingPointError: the energy or an image is not finite; lower the step size.
    """
    if check_format(path, milliseconds, hold) == "mp4":
        require_ffmpeg()
    check_whole(1, n_chains=n_chains)
    energy, wanted = latent_energy(G, logit), frame_steps(n_steps, n_frames)
    z0 = draw_starts(G, n_chains or 16, seed)
    with torch.no_grad():
        energy(z0[:64])  # names what G or logit cannot take or returns
        _check_drawable(x := G(z0[:64]))
    if n_chains is None and x.ndim == 2:
        z0 = draw_starts(G, 1000, seed)
    step_sizes = list(step_size) if isinstance(step_size, Sequence) else [step_size]
    chains = []
    for eps in step_sizes:
        noise = torch.Generator().manual_seed(seed + 1)  # not the seed of the starts, which it would repeat
        chains.append(follow(G, energy, z0, ula(eps), wanted, noise)[1])
    draw = _drawing([x for chain in chains for x in chain], real, size)
    frames = []
    for step, *shown in zip(wanted, *chains, strict=True):
        panels = []
        for eps, x in zip(step_sizes, shown, strict=True):
            with torch.no_grad():
                mean = logit(x).mean().item()
            panels.append(with_caption(draw(x), f"eps = {eps:g}   step {step:3d}   mean d = {mean:+.2f}"))
        frames.append(side_by_side(panels))
    return write_animation(frames, path, milliseconds, hold)


def _check_drawable(x: Tensor) -> None:
    """Raise, or warn, unless x are finite images (n, 3 or 1, h, w) in [-1, 1] or points (n, 2)."""
    images = x.ndim == 4
    if x.ndim not in (2, 4) or x.shape[1] not in ((1, 3) if images else (2,)):
        shape = tuple(x.shape)
        raise ValueError(f"G returned shape {shape}; images (n, 3 or 1, h, w) or points (n, 2) can be drawn")
    if not x.isfinite().all():
        raise ValueError("G returned values that are not finite")
    found = f"G's images lie between {x.min():.3g} and {x.max():.3g}"
    if images and x.abs().max() > 1.5:
        raise ValueError(f"{found}; scale them to [-1, 1]")
    if images and x.min() >= 0:
        warnings.warn(f"{found}, not [-1, 1]: is lambda z: 2 * G(z) - 1 what you mean?", stacklevel=3)


def draw_starts(G: Callable[[Tensor], Tensor], n: int, seed: int) -> Tensor:
    """n draws (n, *latent) of the prior that G brings, else of N(0, I), on its device."""
    z = prior_of(G).draw(n, torch.Generator().manual_seed(seed))
    return z.to(next(G.parameters(), z).device) if isinstance(G, nn.Module) else z


@torch.no_grad()
def follow(
    G, energy, z0: Tensor, kernel: Kernel, wanted: Sequence[int], noise: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """z (k, n, *latent) at the k wanted steps of one run, and x = G(z) at each."""
    path = sample(energy, z0, kernel, wanted[-1], noise, thin=1).path[list(wanted)]
    shown = [G(z) for z in path]
    if not all(x.isfinite().all() for x in shown):
        raise FloatingPointError("a chain diverged; lower step_size")
    return path, shown


def _drawing(shown: list[Tensor], real: Tensor | None, size: int) -> Callable:
    """A function x -> frame: a grid of images, or dots on axes that hold nearly all points ever shown."""
    shape = tuple(shown[0].shape)
    if len(shape) == 4:
        zoom = max(1, round(size / (COLUMNS * (shape[-1] + 1))))
        return lambda x: image_grid(x, COLUMNS, zoom=zoom)
    points = torch.cat([*shown, real] if real is not None else shown)
    extent = 1.1 * points.abs().amax(1).quantile(0.995).item()
    background = np.full((size, size, 3), 255, np.uint8)
    if real is not None:
        background = draw_points(background, real.cpu().numpy(), extent, PALE_DATA)
    return lambda x: draw_points(background, x.cpu().numpy(), extent, COLOURS["chain"])
