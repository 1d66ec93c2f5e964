"""Figures for a dark page, made from those drawn on white paper: the paper becomes transparent, ink light.

Nothing is drawn anew. Black and grey are ink: the darker, the lighter it becomes; grey maps of density too.
Colours keep their hue and order. Coloured maps and colour bars stay pixel by pixel: low energy is dark on any
page. A figure with photographs or digits stays as it is, a card: white is a part of them.
"""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

PAPER = 250  # a pixel whose channels are all at least this is paper
INK = 224  # how light black becomes
TINT = 0.5  # coverage from which a colour is opaque; a paler one lets the page through
FAINT = 0.14  # luminance below which a coloured line is made lighter
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def saturation(pixels: np.ndarray) -> np.ndarray:
    """Largest less smallest channel (..., 3) -> (...)."""
    return pixels.max(-1) - pixels.min(-1)


def solid_parts(pixels: np.ndarray) -> np.ndarray:
    """Where a figure (h, w, 3) is filled: no line, no letter, no paper -> (h, w) bool."""
    return ndimage.binary_opening(pixels.min(-1) < PAPER, np.ones((7, 7)))


def has_photographs(pixels: np.ndarray) -> bool:
    """Whether a figure (h, w, 3) holds images or digits: of its filled parts, some are black."""
    solid = solid_parts(pixels).mean()
    black = ndimage.binary_opening((saturation(pixels) < 20) & (pixels.max(-1) < 60), np.ones((3, 3))).mean()
    return bool(solid > 0.05 and black > 0.04 * solid)


def is_map(pixels: np.ndarray, solid: np.ndarray) -> bool:
    """Whether a box (h, w, 3) with filled parts (h, w) is a map or a colour bar: a rectangle of many colours.

    An area under a curve fills few sides of its box; a band, a bar, a label's box have one pale colour.
    """
    sides = np.mean([side.mean() for side in (solid[0], solid[-1], solid[:, 0], solid[:, -1])])
    if solid.size < 600 or sides < 0.75 or solid.mean() < 0.45:
        return False
    counts = np.bincount((pixels[solid] >> 4) @ [256, 16, 1])  # four bits a channel
    most = counts.argmax()
    pale = counts[most] > 0.77 * counts.sum() and min(most >> 8, most >> 4 & 15, most & 15) >= 5
    return np.count_nonzero(counts) > 8 and not pale


def maps(pixels: np.ndarray) -> np.ndarray:
    """Where a figure (h, w, 3) shows maps and colour bars -> (h, w) bool."""
    solid, found = solid_parts(pixels), np.zeros(pixels.shape[:2], bool)
    for box in ndimage.find_objects(ndimage.label(solid)[0]):
        found[box] |= is_map(pixels[box], solid[box])
    return found


def for_dark(pixels: np.ndarray) -> np.ndarray:
    """A figure on white paper (h, w, 3) uint8 for a dark page (h, w, 4), paper transparent."""
    pixels = pixels.astype(int)
    cover = 1 - pixels.min(-1, keepdims=True) / 255  # of the paper, by an ink with a channel that is 0
    opaque = np.minimum(cover / TINT, 1)
    colour = 255 - (255 - pixels) / np.maximum(opaque, 1 / 255)  # that lies over white with this opacity
    light = colour @ LUMINANCE[:, None] / 255
    colour += np.maximum(0.8 * (FAINT - light) / (1 - light), 0) * (255 - colour)
    share = saturation(pixels)[..., None] / 255 / np.maximum(cover, 1 / 255)  # 0 is grey, 1 a pure colour
    hue = np.clip((share - 0.15) / 0.2, 0, 1)
    alpha = hue * opaque + (1 - hue) * cover
    mixed = (hue * opaque * colour + (1 - hue) * cover * INK) / np.maximum(alpha, 1 / 255)
    made = np.concatenate([mixed, 255 * alpha], -1)
    kept = maps(pixels)
    made[kept] = np.concatenate([pixels[kept], np.full((kept.sum(), 1), 255)], -1)
    return made.clip(0, 255).round().astype(np.uint8)


def dark_figure(png: bytes) -> bytes | None:
    """The PNG of a figure for a dark page, or None where it stays a card."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    if has_photographs(pixels):
        return None
    made = io.BytesIO()
    Image.fromarray(for_dark(pixels)).save(made, "png")
    return made.getvalue()
