"""Frames of sampling dynamics -> GIF or MP4, and `animate_chains` for any G and D of yours (notebook 14)."""

import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import imageio.v2 as imageio
import imageio_ffmpeg
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
COLUMNS = 4  # tiles in a row of images


def write_animation(
    frames: Pictures, path: Path, milliseconds: float = 80, hold: float = 1500, colours: int = 256
) -> Path:
    """Write a GIF or an MP4, as the ending of `path` says; returns the path.

    `frames` are pictures of one size (see `as_frames`), `milliseconds` is the time of each (a GIF's unit is
    10), `hold` that of the last. A GIF has one palette of `colours`, at most 256, halved, down to 16, until
    it has `MAX_BYTES`.

    Raises ValueError for a setting or a frame that is wrong, RuntimeError where an .mp4 finds no ffmpeg.
    """
    ending, path, frames = check_format(path, milliseconds, hold), Path(path), as_frames(frames)
    if ending == "mp4":
        data = mp4_bytes(frames, milliseconds, hold)
    else:
        while len(data := gif_bytes(frames, milliseconds, hold, colours)) > MAX_BYTES:
            if colours <= 16:
                size = f"{len(data) / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:g} MB"
                raise ValueError(f"{path.name}: {size}: take fewer or smaller frames, or an .mp4")
            colours //= 2
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
    return path


def check_format(path: Path, milliseconds: float, hold: float) -> str:
    """The format that `path` ends in, "gif" or "mp4"; raises as `write_animation`, before frames are made."""
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise ValueError(f"path={str(path)!r} must end in .gif or .mp4")
    for name, value in (("milliseconds", milliseconds), ("hold", hold)):
        if not 20 <= value <= 655_350:  # browsers slow down what is faster
            raise ValueError(f"{name}={value} must lie between 20 and 655,350")
        if ending == "gif" and value % 10:
            warnings.warn(f"{name}={value} becomes {value // 10 * 10:g}: a GIF's unit is 10", stacklevel=3)
    if ending == "mp4":
        imageio_ffmpeg.get_ffmpeg_exe()  # a RuntimeError, with the remedy, where there is none
    return ending


def as_frames(frames: Pictures) -> np.ndarray:
    """Pictures of one size as uint8 (n, H, W, 3); raises ValueError, naming it, for what is no picture.

    They are arrays or tensors, grey (H, W) or (H, W, 1), RGB (H, W, 3), or RGBA (H, W, 4), laid on white, of
    booleans, whole numbers in [0, 255], or floats, all in [0, 1] or else all in [0, 255].
    """
    frames = [np.asarray(f.detach().cpu() if isinstance(f, Tensor) else f) for f in frames]
    if not frames:
        raise ValueError("frames is empty: give at least one picture (H, W, 3)")
    if len(shapes := {frame.shape for frame in frames}) > 1:
        raise ValueError(f"frames have different shapes {sorted(shapes)}; make all of one size")
    stack, shape = np.stack(frames), frames[0].shape
    if len(shape) == 2 and shape[1] not in (3, 4):  # else the rows of one picture
        stack = stack[..., None]
    if stack.ndim != 4 or 0 in shape or stack.shape[3] not in (1, 3, 4):
        raise ValueError(f"a frame has shape {shape}; give a list of pictures (H, W, 3)")
    kind, low, high = stack.dtype.kind, stack.min(), stack.max()
    if kind not in "buif" or not 0 <= low <= high <= 255 or (kind == "f" and 1 < high <= 2):
        wanted = "whole numbers in [0, 255], or floats in [0, 1] or in [0, 255]"
        raise ValueError(f"frames are {stack.dtype} from {low} to {high}; give {wanted}")
    if kind == "b" or (kind == "f" and high <= 1):
        stack = stack * 255.0
    stack = np.rint(stack).astype(np.uint8)
    if stack.shape[3] == 4:
        alpha = stack[..., 3:] / 255
        stack = np.rint(alpha * stack[..., :3] + (1 - alpha) * 255).astype(np.uint8)
    return np.broadcast_to(stack, (*stack.shape[:3], 3))


def gif_bytes(frames: np.ndarray, milliseconds: float, hold: float, colours: int) -> bytes:
    """An endlessly looping GIF with one palette, which eight frames decide."""
    palette = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 8)], 0)).quantize(colours)
    first, *rest = (Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    times = [milliseconds] * len(rest) + [hold] if rest else hold
    buffer = io.BytesIO()
    try:
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=times, loop=0)
    except OverflowError as error:
        raise ValueError("frames that are alike stay longer than 655,350 ms, a GIF's longest time") from error
    return buffer.getvalue()


def mp4_bytes(frames: np.ndarray, milliseconds: float, hold: float) -> bytes:
    """An H.264 video that every browser plays; an odd side gains a white row or column, as 4:2:0 needs."""
    h, w = frames.shape[1:3]
    padded = list(np.pad(frames, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), constant_values=255))
    padded += [padded[-1]] * (max(1, round(hold / milliseconds)) - 1)
    settings = {"fps": 1000 / milliseconds, "quality": None, "macro_block_size": 2}
    settings["output_params"] = ["-crf", "18", "-movflags", "+faststart"]
    return imageio.mimwrite("<bytes>", padded, format="mp4", **settings)


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
    side, picture = len(background), Image.fromarray(background)
    ink = ImageDraw.Draw(picture)
    pixels = np.floor((points * [1, -1] / extent + 1) * (side / 2)).clip(-9, side + 9)
    for column, row in pixels.astype(int).tolist():
        ink.rectangle((column - 1, row - 1, column + 1, row + 1), fill=colour)
    return np.asarray(picture)


def frame_steps(n_steps: int, n_frames: int) -> list[int]:
    """Steps 0 to `n_steps` at which at most `n_frames` frames are drawn, evenly; both ends are among them."""
    check_whole(2, n_frames=n_frames)
    check_whole(1, n_steps=n_steps)
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
    size: int = 264,
    milliseconds: float = 160,
    hold: float = 1500,
    seed: int = 0,
) -> Path:
    """Animate Langevin chains (DDLS: Che et al., 2020) of a generator and a logit, yours or anybody's.

    The chains run on E(z) = -log p_0(z) - d(G(z)) by ULA. Images are shown as a grid, one tile a chain;
    points in the plane as dots. A caption gives the step size, the step and the mean logit.

    Args:
        G: z (n, *latent) -> images (n, 3 or 1, h, w) in [-1, 1], or points (n, 2).
        logit: d, x -> (n,), in nats, no probability (notebook 14); as G in evaluation mode.
        path: of the animation, returned; ends in .gif or .mp4.
        step_size: eps of the Langevin step; for several, panels from the same starts stand side by side.
        n_steps, n_frames: steps of a chain; most frames, evenly spaced from step 0 to the last.
        n_chains: draws of G's prior; left out, 16 for images and 1,000 for points.
        size: about the side of a panel in pixels.
        milliseconds, hold: time of a frame and of the last one.
        seed: of starts and noise; the same seed gives the same file.

    Raises ValueError for a wrong setting, a network in training mode or what cannot be drawn, and
    FloatingPointError where the energy or an image is not finite: lower the step size.
    """
    check_format(path, milliseconds, hold)
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
    draw = _drawing([x for chain in chains for x in chain], size)
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
    shape, images = tuple(x.shape), x.ndim == 4
    if not (images and shape[1] in (1, 3)) and shape[1:] != (2,):
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


def _drawing(shown: list[Tensor], size: int) -> Callable[[Tensor], np.ndarray]:
    """A function x -> frame: a grid of images, or dots on axes that hold nearly all points ever shown."""
    if shown[0].ndim == 4:
        zoom = max(1, round(size / (COLUMNS * (shown[0].shape[-1] + 1))))
        return lambda x: image_grid(x, COLUMNS, zoom=zoom)
    extent = 1.1 * torch.cat(shown).abs().amax(1).quantile(0.995).item()
    white = np.full((size, size, 3), 255, np.uint8)
    return lambda x: draw_points(white, x.cpu().numpy(), extent, COLOURS["chain"])
