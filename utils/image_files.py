"""Image files as RGB pixels: from folders and zips that others made, with their names and all modes.

What cannot be read is a ValueError with the file's name and the remedy; what is skipped is said.
"""

import hashlib
import io
import itertools
import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

SUFFIXES = set(".png .jpg .jpeg .jfif .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm".split())
LITTER = {".ds_store", "thumbs.db", "desktop.ini"}  # of file managers: skipped without a word


class ImagesNotFound(FileNotFoundError):
    """No source has the images; the message says what was tried and how to get them."""


class Entry(NamedTuple):
    """A file on disk, or one in a zip."""

    file: Path  # itself, or the zip
    member: zipfile.ZipInfo | None
    path: PurePosixPath  # below the folder that holds the listed folder, or inside the zip

    def __str__(self) -> str:
        return readable(self.file if self.member is None else self.file / self.path)


def readable(path: PurePath | str) -> str:
    """A path for messages: a name that is not UTF-8 cannot be printed as it is."""
    return os.fsencode(path).decode("utf-8", "replace")


def list_files(place: Path) -> Iterator[Entry]:
    """The files in a zip, or below a folder and in linked ones, each real folder once: links make no loop."""
    if place.is_file():
        with open_zip(place) as archive:  # some programs on Windows write backslashes
            names = [(info, info.filename.replace("\\", "/")) for info in archive.infolist()]
        yield from (Entry(place, info, PurePosixPath(name)) for info, name in names if not name.endswith("/"))
        return
    seen: set[Path] = set()
    for folder, folders, names in os.walk(place, followlinks=True):
        real = Path(folder).resolve()
        if real in seen or (seen and place.resolve().is_relative_to(real)):
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        below = PurePosixPath(*Path(folder).relative_to(place.parent).parts)
        yield from (Entry(Path(folder, name), None, below / name) for name in sorted(names))


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip; whatever its module raises becomes a ValueError."""
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise ValueError(f"{readable(path)} is neither a folder nor a zip; unpack it, and name that")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except RuntimeError as error:  # Deflate64 and other methods that zipfile does not know; a password
        remedy = "unpack it with 7-Zip or your file manager and point to the folder"
        raise ValueError(f"{readable(path)} cannot be unpacked by Python ({error}); {remedy}") from error
    except Exception as error:  # of zipfile, zlib, struct, ...
        what = f"{readable(path)} cannot be read as a zip ({error})"
        raise ValueError(f"{what}; copy or download it again") from error


def read(entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Each entry with its bytes; each zip is opened once."""
    for (file, loose), group in itertools.groupby(entries, lambda entry: (entry.file, entry.member is None)):
        if loose:
            yield from ((entry, file.read_bytes()) for entry in group)
        else:
            with open_zip(file) as archive:
                yield from ((entry, archive.read(entry.member)) for entry in group)


def why_skip(entry: Entry) -> str | None:
    """Why a file is no image to read; None if it is one."""
    if any(part.startswith(".") or part == "__MACOSX" for part in entry.path.parts):
        return "hidden"
    if entry.path.suffix.lower() == ".zip":
        return "archive (unpack it, or pass its own path)"
    if entry.path.suffix.lower() not in SUFFIXES:
        return "of another type"
    return None if entry.member or entry.file.is_file() else "link to nothing"


def choose_images(entries: Iterable[Entry], place: str) -> list[Entry]:
    """The images among `entries`; one warning says what was skipped, and why.

    Raises ImagesNotFound if none is left.
    """
    images, skipped = [], {}
    for entry in entries:
        if not (reason := why_skip(entry)):
            images.append(entry)
        elif entry.path.name.lower() not in LITTER:
            skipped.setdefault(reason, []).append(readable(entry.path))
    parts = [f"{len(v)} {k}: {', '.join(v[:2])}{', ...' if v[2:] else ''}" for k, v in skipped.items()]
    said = f"; skipped {sum(map(len, skipped.values()))} files ({'; '.join(parts)})" if skipped else ""
    if not images:
        raise ImagesNotFound(f"{place} holds no image ({' '.join(sorted(SUFFIXES))}){said}")
    if said:
        warnings.warn(f"{place}: read {len(images):,} images{said}", stacklevel=3)
    return images


def refuse_doubles(entries: Sequence[Entry], names: Iterable[str]) -> None:
    """Raise if two entries have one name, as those of a zip beside its unpacked folder."""
    first: dict[str, Entry] = {}
    for entry, name in zip(entries, names, strict=True):
        if (other := first.setdefault(name, entry)) is not entry:
            remedy = "delete one copy, or point to the other alone"
            raise ValueError(f"{other} and {entry} are one image twice: {remedy}")


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB as a viewer shows it: turned as EXIF says, 16 bits scaled, what is transparent on white."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        levels = np.asarray(image).astype(np.int64)
        levels[levels == image.info.get("transparency")] = 65535
        return Image.fromarray((levels / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no stated range: save it with 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def decode_image(name: object, data: bytes, size: int, resize: bool = False) -> Image.Image:
    """One RGB image of `size`; with `resize` the centred square of another size is scaled."""
    try:
        image = to_rgb(Image.open(io.BytesIO(data)))
    except Exception as error:  # Pillow's plugins raise nearly everything
        bomb = isinstance(error, Image.DecompressionBombError)
        remedy = "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS" if bomb else "delete or copy it again"
        raise ValueError(f"{name} cannot be decoded ({error}); {remedy}") from error
    if image.size == (size, size):
        return image
    if not resize:
        found = f"{image.width}x{image.height} pixels, expected {size}x{size}"
        raise ValueError(f"{name} has {found}; scale it first")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def decode(
    encoded: Iterable[tuple[object, bytes]], n: int, size: int, resize: bool = False
) -> tuple[np.ndarray, list[bytes]]:
    """Decode `n` images, of each the first frame: an array (n, size, size, 3), and the sha256 of each."""
    pixels, digests = np.empty((n, size, size, 3), np.uint8), []
    bar = tqdm(encoded, "decoding", n, leave=False, mininterval=0.5, unit=" images")
    for i, (name, data) in enumerate(bar):
        pixels[i] = decode_image(name, data, size, resize)
        digests.append(hashlib.sha256(data).digest())
    return pixels, digests
