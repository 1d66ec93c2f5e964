"""Images as uint8 tensors: CIFAR-10, CelebA-64, and scikit-learn's digits.

CIFAR-10 and CelebA are looked for in this order, and decoded only once:

1. the folder or zip that `source=` or the environment variable `COURSE_IMAGES` points to;
2. the cache of this project (`utils.config.cache_dir`), one file per split;
3. for CIFAR-10 a mirror: never with `COURSE_OFFLINE=1` or `allow_download=False`.

An image is known by its file name (and class), not by what a decoder makes of its bytes: images are sorted by
the sha256 of that name, those of one name by the sha256 of their files. So an index means the same image from
every source, and a prefix is a fair sample. CIFAR-10 was published as pixels, and not every copy has names: a
split that equals the published one, by checksum, is sorted by the sha256 of each label and its pixels.
"""

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from utils import image_files as files
from utils.checkpoints import locked, sha256, write_atomically
from utils.config import cache_dir, images_place, offline
from utils.image_files import Entry, ImagesNotFound, readable

CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
BATCHES = "cifar-10-batches-py"  # the folder of CIFAR-10 as its authors publish it
ATTEMPTS = 4  # of one download
PASSING = (None, 408, 429, 500, 502, 503, 504)  # status codes of a failure that may pass; None: no answer
TIMEOUT = 10.0  # seconds without a byte
NOT_ORIGINAL = "not the complete and original"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images (n, 3, h, w) in uint8, labels (n,) in int64 or None, and a line on where they are from."""

    images: Tensor
    labels: Tensor | None
    source: str


def to_unit(images: Tensor) -> Tensor:
    """Map uint8 values 0..255 to float32 in [-1, 1]; any shape. Raises TypeError for any other dtype."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images has dtype {images.dtype}, expected torch.uint8; floats are scaled already")
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(x: Tensor) -> Tensor:
    """Inverse of `to_unit`: round to the nearest of 0..255; values beyond [-1, 1] are clamped.

    Raises TypeError unless x is floating point, ValueError if it holds NaN or infinity. Warns of values that
    seem to be on another scale: all in [0, 1], or far outside [-1, 1].
    """
    if not x.is_floating_point():
        raise TypeError(f"x has dtype {x.dtype}, expected floating point values in [-1, 1]")
    x = x.detach().float()
    low, high = (value.item() for value in x.aminmax()) if x.numel() else (0.0, 0.0)
    if not -float("inf") < low <= high < float("inf"):
        raise ValueError("x holds NaN or infinity, which no pixel can show: find the step that made it")
    if low >= 0 and high <= 1 and high - low > 0.5:
        warnings.warn(f"x lies in [{low:.2g}, {high:.2g}]; if it is in [0, 1], pass 2 * x - 1", stacklevel=2)
    if max(-low, high) > 1.5:
        message = f"x reaches from {low:.3g} to {high:.3g}, far outside [-1, 1]: clamped; scale it first"
        warnings.warn(message, stacklevel=2)
    return x.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


# Download


def download(url: str, path: Path, known_hash: str | None = None) -> Path:
    """Fetch `url` into `path` unless it is there; after an interruption the next call goes on in `path.part`.

    `known_hash` is a sha256. The file appears in one step, and of several processes that want it one fetches
    it. Raises OSError if the server cannot be reached, keeps failing, or sends another file.
    """
    from requests import RequestException

    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if not path.exists() or known_hash not in (None, sha256(path)):
                _fetch(url, part)
                if known_hash not in (None, found := sha256(part)):
                    part.unlink()
                    raise RequestException(f"not the file expected (expected {known_hash}, got {found})")
                part.replace(path)
            return path
    except RequestException as error:
        remedy = f"call again to go on where it stopped, or save that file as {path}"
        raise OSError(f"cannot download {url} ({error}); {remedy}") from error
    except OSError as error:
        remedy = "free some space there or set COURSE_CACHE to another folder, then call again to go on"
        raise OSError(f"cannot store {url} as {part} ({error}); {remedy}") from error


def _fetch(url: str, part: Path) -> None:
    """Add to `part` the bytes it lacks; a failure that may pass, as a lost connection, is tried again."""
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        have = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                if response.status_code == 416:  # nothing behind byte `have`: it may be of another file
                    part.unlink(missing_ok=True)
                    continue
                response.raise_for_status()
                have *= response.status_code == 206  # otherwise the server sends the whole file
                total = int(response.headers.get("Content-Length", 0)) + have or None
                bar = tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, leave=False)
                with bar, open(part, "ab" if have else "wb") as file:
                    for chunk in response.iter_content(1 << 16):
                        bar.update(file.write(chunk))
                return
        except requests.RequestException as error:
            if attempt == ATTEMPTS or getattr(error.response, "status_code", None) not in PASSING:
                raise
            time.sleep(attempt)
    raise requests.RequestException("it has no bytes to send")


# Cache


def _write_cache(path: Path, found: ImageSet, keys: list[str]) -> None:
    """Store decoded images; a failure (full disk, no permission) costs only the time of the next load."""
    tensors = {"images": found.images} | ({} if found.labels is None else {"labels": found.labels})
    metadata = {"source": found.source, "keys": " ".join(keys)}
    try:
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
    except OSError as error:
        warnings.warn(f"no cache: {error}; the next load is slow again", stacklevel=2)


def _read_cache(path: Path, key: str) -> ImageSet | None:
    """The images at `path`, if they were stored under `key`."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if key not in metadata["keys"].split():
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return ImageSet(tensors["images"], tensors.get("labels"), metadata["source"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        warnings.warn(f"the cache {path} is damaged ({error!r}); making it again", stacklevel=2)
        return None


# Data sets

Decoded = tuple[np.ndarray, Sequence[int] | None, list[bytes]]  # pixels (n, h, w, 3), labels, sorting keys


@dataclass(frozen=True)
class Dataset:
    """What the loader has to know."""

    names: tuple[str, ...]  # its own, and others that a folder or zip with it has
    size: int  # height and width in pixels
    splits: dict[str, int]  # number of images in each complete split
    remedy: str  # how to get the images
    mirror: Callable[[str], Decoded] | None = None
    top: str = ""  # folder of the images, in a folder or a zip; without, the split's, which has one a class
    classes: tuple[str, ...] = ()
    checksums: dict[str, str] | None = None  # of labels and pixels, for each complete split

    def cache(self, split: str) -> Path:
        """File of the decoded split."""
        return cache_dir() / f"{self.names[0]}-{split}.safetensors"


def _load(dataset: Dataset, split: str, source: str | Path | None, allow_download: bool) -> ImageSet:
    """Try the sources in order; see the top of this file. A `source` that is given must have the images."""
    name, tried = dataset.names[0], []
    if split not in dataset.splits:
        raise ValueError(f"split={split!r} is unknown; {name} has {', '.join(dataset.splits)}")
    if pointed := source or images_place():
        try:
            return _load_from(dataset, split, Path(pointed).expanduser().resolve())
        except ImagesNotFound as error:
            tried.append(f"{'source' if source else 'COURSE_IMAGES'}: {error}")
    if not source:
        if tried:
            warnings.warn(f"{tried[0]}; looking elsewhere", stacklevel=3)
        if cached := _read_cache(dataset.cache(split), "original"):
            return cached
        tried.append(f"cache: nothing usable at {dataset.cache(split)}")
        if dataset.mirror and allow_download and not offline():
            try:
                return _finish(dataset, split, dataset.mirror(split), "its mirror")
            except OSError as error:
                tried.append(f"mirror: {error}")
        elif dataset.mirror:
            tried.append("network: switched off, by COURSE_OFFLINE or allow_download=False")
    lines = "".join(f"\n  - {line}" for line in tried)
    raise ImagesNotFound(f"no {split} images of {name}. Tried:{lines}\n{dataset.remedy}")


def _load_from(dataset: Dataset, split: str, root: Path) -> ImageSet:
    """Load what the user pointed to. A split that is not the complete, original one gives a warning."""
    places = _places(dataset, split, root)
    entries = [entry for place in places for entry in files.list_files(place)]
    stats = {entry.file: entry.file.stat() for entry in entries if entry.file.exists()}
    lines = (f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats.items())
    key = _key("\n".join(lines)).hex()  # changes whenever one of the files is replaced
    found = _read_cache(dataset.cache(split), key)
    if not found:
        batches = [place for place in places if place.name == BATCHES]
        decoded = _batches(split, batches[0]) if batches else _decode(dataset, split, root, entries)
        found = _finish(dataset, split, decoded, readable(root), key)
    if NOT_ORIGINAL in found.source:
        warnings.warn(found.source, stacklevel=4)
    return found


def _key(name: str, digest: bytes = b"") -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest() + digest


def _finish(dataset: Dataset, split: str, decoded: Decoded, where: str, key: str = "") -> ImageSet:
    """Compare with the published split, sort and store."""
    pixels, labels, keys = decoded
    stored_as, note = [key], ""
    if dataset.checksums:
        pairs = zip(labels, pixels, strict=True)
        digests = [hashlib.sha256(bytes([label]) + image.tobytes()).digest() for label, image in pairs]
        if hashlib.sha256(b"".join(sorted(digests))).hexdigest() == dataset.checksums.get(split):
            keys, stored_as = digests, [key, "original"]
        else:
            note = f", {NOT_ORIGINAL} {split} split"
    order = sorted(range(len(keys)), key=keys.__getitem__)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)[order].contiguous()
    labels = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)[order]
    count = f"{len(pixels):,} of {dataset.splits[split]:,} images{note}"
    found = ImageSet(images, labels, f"{dataset.names[0]} {split}, {count}, from {where}")
    _write_cache(dataset.cache(split), found, stored_as)
    return found


def _places(dataset: Dataset, split: str, root: Path) -> list[Path]:
    """Folders and zips that may hold a split: in folders below `root` named as the set, or in it."""
    if not root.exists():
        raise ImagesNotFound(f"{readable(root)} does not exist")
    if root.is_file():
        return [root]
    bases = [root]
    for base in bases:  # which grows
        named = [path.resolve() for path in sorted(base.iterdir()) if path.name.lower() in dataset.names]
        bases += [path for path in named if path.is_dir() and path not in bases]
    folders = (dataset.top,) if dataset.top else (split, BATCHES)
    zips = [f"{split}*.zip", *(f"*{name}*.zip" for name in dataset.names)]

    def fits(path: Path) -> bool:
        name = path.name.lower()
        return name in folders if path.is_dir() else any(fnmatch(name, pattern) for pattern in zips)

    for base in reversed(bases):
        if found := [path for path in sorted(base.iterdir()) if fits(path)] or [base] * fits(base):
            return found
    return []


def _decode(dataset: Dataset, split: str, root: Path, entries: Sequence[Entry]) -> Decoded:
    """Decode a split's images among `entries`; of a set with classes, each by the folder that it lies in."""
    top, place = dataset.top or split, f"{split} split in {readable(root)}"
    inside = [entry for entry in entries if top in map(str.lower, entry.path.parts[:-1])]
    entries = files.choose_images(inside, place)
    kinds = [entry.path.parent.name if dataset.classes else "" for entry in entries]
    if unknown := sorted(set(kinds) - set(dataset.classes or [""])):
        raise ValueError(f"{place} has classes {unknown[:5]}; name them {', '.join(dataset.classes)}")
    names = [f"{kind}/{entry.path.stem}" for kind, entry in zip(kinds, entries, strict=True)]
    files.refuse_doubles(entries, names)
    pixels, digests = files.decode(files.read(entries), len(entries), dataset.size, not dataset.classes)
    labels = [dataset.classes.index(kind) for kind in kinds] if dataset.classes else None
    return pixels, labels, [_key(*pair) for pair in zip(names, digests, strict=True)]


def _batches(split: str, folder: Path) -> Decoded:
    """CIFAR-10 as its authors pickled it: torchvision opens no file but theirs, which it knows by its MD5."""
    from torchvision import datasets

    try:
        found = datasets.CIFAR10(folder.parent, train=split == "train")
    except RuntimeError as error:
        remedy = "download and unpack it again"
        raise ValueError(f"{readable(folder)} is not as published, by MD5; {remedy}") from error
    return found.data, found.targets, [b""] * len(found.data)


# A fixed revision of the mirror, so that its files cannot change under us.
CIFAR10_MIRROR = "datasets/uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text"
CIFAR10_PARQUET = {
    "train": "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    "test": "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
}


def _cifar10_mirror(split: str) -> Decoded:
    """From the columns `img` {bytes, path} and `label` of the mirror, which has no names."""
    from pyarrow import parquet

    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{host}/{CIFAR10_MIRROR}/{split}-00000-of-00001.parquet"
    path = download(url, cache_dir() / f"cifar10-{split}.parquet", CIFAR10_PARQUET[split])
    table = parquet.read_table(path, columns=["img", "label"])
    encoded = ((f"{path}, row {i}", cell["bytes"].as_py()) for i, cell in enumerate(table["img"]))
    pixels, digests = files.decode(encoded, table.num_rows, size=32)
    return pixels, table["label"].to_pylist(), digests


CIFAR10 = Dataset(
    names=("cifar10", "cifar-10", "archive"),
    size=32,
    splits={"train": 50_000, "test": 10_000},
    classes=CIFAR10_CLASSES,
    checksums={
        "train": "d59acf989e068e709ce686cda292672c7b212c08d29d3d3e6d8c3aa99eba6a85",
        "test": "899683d46c3a8c66fd56e1af12202e69fe5a4517be10b0f68e04c78fe585c57c",
    },
    mirror=_cifar10_mirror,
    remedy="""Ways to get CIFAR-10:
  - set COURSE_IMAGES (or pass source=) to a folder with train/<class>/*.png, such files in train*.zip, or
    cifar-10-batches-py (https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz, unpacked; slow since June
    2026); or to the folder above a folder cifar10;
  - with network access, leave COURSE_OFFLINE unset and allow_download=True: 144 MB come from the mirror
    https://huggingface.co/datasets/uoft-cs/cifar10 (HF_ENDPOINT names another host); call again to go on.""",
)

CELEBA64 = Dataset(
    names=("celeba64", "celeba", "archive"),
    size=64,
    splits={"train": 202_599},
    top="img_align_celeba",
    remedy="""Ways to get CelebA (non-commercial research only, no redistribution):
  - download img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, or the same 1.4 GB
    by `gdown 0B7EVK8r0v71pZjFTYXZWM3FlRnM` (pip install gdown; if its quota is exceeded, a day later);
  - set COURSE_IMAGES (or pass source=) to the folder that holds it.""",
)


def load_cifar10(
    split: str = "train", source: str | Path | None = None, allow_download: bool = True
) -> ImageSet:
    """CIFAR-10: images (n, 3, 32, 32), labels that index `CIFAR10_CLASSES`; 50,000 to train, 10,000 to test.

    Raises ImagesNotFound if no source has them, with the ways to get them; ValueError for an unknown split or
    class, a damaged file, an image of another size, the same image twice.
    """
    return _load(CIFAR10, split, source, allow_download)


def load_celeba64(source: str | Path | None = None, allow_download: bool = True) -> ImageSet:
    """Aligned CelebA faces, images (n, 3, 64, 64) without labels; raises as `load_cifar10` does.

    Of the originals (178x218) the central square is scaled; images of 64x64 are taken as they are. There is
    no checksum: n and the exact pixels are those of the source, so name the source beside each result.
    """
    return _load(CELEBA64, "train", source, allow_download)


def load_digits() -> ImageSet:
    """scikit-learn's handwritten digits, (1797, 1, 8, 8) with labels; they come with the package."""
    from sklearn import datasets

    digits = datasets.load_digits()
    pixels = torch.from_numpy(digits.images)[:, None]  # (1797, 1, 8, 8), whole numbers from 0 to 16
    images = (pixels * (255 / 16)).round().to(torch.uint8)
    return ImageSet(images, torch.from_numpy(digits.target).long(), "1,797 digits of scikit-learn, 8x8")


def split_digits(seed: int = 0, n_train: int = 1437) -> tuple[ImageSet, ImageSet]:
    """`load_digits` at random by `seed`: `n_train` to train with, and the rest held out."""
    digits = load_digits()
    order = torch.randperm(len(digits.images), generator=torch.Generator().manual_seed(seed))
    parts = order[:n_train], order[n_train:]
    return tuple(ImageSet(digits.images[part], digits.labels[part], digits.source) for part in parts)


N_HELD_OUT = 10_000  # faces, the last ones: never trained on, for calibration and reference statistics


def load_faces(split: str, allow_download: bool = True) -> ImageSet:
    """CelebA at 64x64, split into "train" (all but the last 10,000 images) and "test" (those).

    The order is that of names, whatever the source: who trained on a part of the set has not seen what the
    whole set holds out. The official split keeps identities apart; this one holds for pictures, not people.
    """
    faces = load_celeba64(allow_download=allow_download)
    if len(faces.images) <= N_HELD_OUT:
        raise ValueError(f"found {len(faces.images)} faces, but {N_HELD_OUT:,} are held out: more are needed")
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is unknown; use 'train' or 'test'")
    part = slice(None, -N_HELD_OUT) if split == "train" else slice(-N_HELD_OUT, None)
    return replace(faces, images=faces.images[part])
