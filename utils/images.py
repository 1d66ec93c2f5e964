"""Images as uint8 tensors: CIFAR-10, CelebA-64, or any folder or zip of images.

A data set is looked for in this order, and decoded only once:

1. the folder or zip that `source=` or the environment variable `COURSE_IMAGES` points to;
2. the cache of this project (`utils.config.cache_dir`), one file per split;
3. a mirror, then the original host: never with `COURSE_OFFLINE=1` or `allow_download=False`.

Whatever the source, images are sorted by the sha256 of label and pixels. So an index means the same image
everywhere, and since that order has nothing to do with the content, a prefix is a fair sample.
"""

import hashlib
import io
import itertools
import os
import ssl
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path, PurePath
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from utils.checkpoints import sha256 as sha256_of
from utils.checkpoints import write_atomically
from utils.config import ROOT, cache_dir

CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
Entry = tuple[Path, str | None]  # a file, and the name inside it if it is a zip
ATTEMPTS = 3  # of one download
TIMEOUT = 10.0  # seconds without a byte


class ImagesNotFound(FileNotFoundError):
    """No source has the images; the message says what was tried and how to get them."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images (n, 3, h, w) in uint8, labels (n,) in int64 or None, and a line on where they are from."""

    images: Tensor
    labels: Tensor | None
    source: str


def to_unit(images: Tensor) -> Tensor:
    """Map uint8 values 0..255 to float32 in [-1, 1]; any shape."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images has dtype {images.dtype}, expected torch.uint8")
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(x: Tensor) -> Tensor:
    """Inverse of `to_unit`: round to the nearest of 0..255; values beyond [-1, 1] are clamped."""
    if not x.is_floating_point():
        raise TypeError(f"x has dtype {x.dtype}, expected floating point values in [-1, 1]")
    return x.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


# Download


def download(url: str, path: Path, sha256: str | None = None) -> Path:
    """Fetch `url` into `path` unless it is there; after an interruption the next call goes on in `path.part`.

    Raises OSError if the server cannot be reached, keeps failing, or sends a file with another sha256.
    """
    if path.exists():
        if sha256 in (None, sha256_of(path)):
            return path
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(url, part)
            break
        except (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            # A host that is unreachable or refuses stays so: better to try the next source at once.
            hopeless = isinstance(error, URLError) and getattr(error, "code", 0) < 500
            if hopeless or attempt == ATTEMPTS:
                remedy = f"call again to go on where it stopped, or save that file as {path}"
                raise OSError(f"cannot download {url} ({error}); {remedy}") from error
            time.sleep(attempt)
        except OSError as error:
            remedy = "free some space there or set COURSE_CACHE to another folder, then call again to go on"
            raise OSError(f"cannot store {url} as {part} ({error}); {remedy}") from error
    if sha256 is not None and (found := sha256_of(part)) != sha256:
        part.unlink()
        raise OSError(f"{url} has sha256 {found}, expected {sha256}; it was deleted, call again")
    os.replace(part, path)
    return path


def _fetch(url: str, part: Path) -> None:
    """Add to `part` the bytes it lacks; start afresh if the server does not support `Range`."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "python"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies behind byte `have`: the part is the whole file, or it belongs to another one.
        if not error.headers.get("Content-Range", "").endswith(f"/{have}"):
            part.unlink()
            _fetch(url, part)
        return
    with response:
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        name = url.rpartition("/")[2]
        bar = tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True, leave=False)
        with bar, open(part, "ab" if have else "wb") as file:
            while chunk := response.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and part.stat().st_size != total:
            raise ConnectionError(f"connection closed after {part.stat().st_size:,} of {total:,} bytes")


# Files, zips and pixels


def _is_image(path: PurePath) -> bool:
    # macOS writes `._name.png` beside each image of a zip: those hold no image.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


@contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as a zip ({error}); copy or download it again") from error


def _list_images(files: Iterable[Path], pattern: str = "*") -> list[Entry]:
    """The image files among `files`, and the images in their zips whose path ends as `pattern` says."""
    entries: list[Entry] = []
    for file in files:
        if file.suffix != ".zip":
            entries.append((file, None))
            continue
        with _open_zip(file) as archive:
            paths = ((name, PurePath(name)) for name in archive.namelist())
            entries += [(file, name) for name, path in paths if _is_image(path) and path.match(pattern)]
    return entries


def _read_images(entries: Sequence[Entry]) -> Iterator[tuple[str, bytes]]:
    """Name and encoded bytes of each entry; each zip is opened once."""
    for file, members in itertools.groupby(entries, key=lambda entry: entry[0]):
        if file.suffix != ".zip":
            yield str(file), file.read_bytes()
            continue
        with _open_zip(file) as archive:
            for _, member in members:
                yield f"{file}/{member}", archive.read(member)


def _decode_image(name: str, data: bytes, size: int, resize: bool) -> Image.Image:
    """One RGB image of `size`; with `resize` the centred square of an image of another size is scaled."""
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{name} cannot be decoded ({error}); delete it or copy it again") from error
    if image.size == (size, size):
        return image
    if not resize:
        found = f"{image.width}x{image.height} pixels, expected {size}x{size}"
        raise ValueError(f"{name} has {found}; scale it first, or use `load_folder(..., resize=True)`")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def _decode(encoded: Iterable[tuple[str, bytes]], n: int, size: int, resize: bool = False) -> np.ndarray:
    """Decode `n` images into an array (n, size, size, 3)."""
    pixels = np.empty((n, size, size, 3), np.uint8)
    bar = tqdm(encoded, "decoding", n, leave=False, mininterval=0.5, unit=" images")
    for i, (name, data) in enumerate(bar):
        pixels[i] = _decode_image(name, data, size, resize)
    return pixels


def _canonical(pixels: np.ndarray, labels: Sequence[int] | None) -> tuple[Tensor, Tensor | None, str]:
    """Images (n, 3, h, w) and labels in canonical order, and one checksum of all of them.

    An image's digest is sha256(label byte + its h*w*3 bytes), without the byte if there are no labels; the
    checksum is the sha256 of the sorted digests, hence independent of the order of the source.
    """
    prefixes = [b""] * len(pixels) if labels is None else [bytes([label]) for label in labels]
    contents = (prefix + image.tobytes() for prefix, image in zip(prefixes, pixels, strict=True))
    digests = [hashlib.sha256(content).digest() for content in contents]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    checksum = hashlib.sha256(b"".join(digests[i] for i in order)).hexdigest()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)[order].contiguous()
    return images, None if labels is None else torch.as_tensor(labels, dtype=torch.int64)[order], checksum


# Cache


def _write_cache(path: Path, found: ImageSet, key: str) -> None:
    """Store decoded images; a failure (full disk, no permission) costs only the time of the next load."""
    tensors = {"images": found.images} | ({} if found.labels is None else {"labels": found.labels})
    try:
        write_atomically(path, lambda p: save_file(tensors, p, {"source": found.source, "key": key}))
    except OSError as error:
        warnings.warn(f"no cache: {error}; the next load is slow again", stacklevel=2)


def _read_cache(path: Path, key: str | None = None) -> ImageSet | None:
    """The images stored at `path`; None if there are none, or if they were not made from `key`."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if key is not None and metadata["key"] != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return ImageSet(tensors["images"], tensors.get("labels"), metadata["source"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        warnings.warn(f"the cache {path} is damaged ({error!r}); making it again", stacklevel=2)
        return None


def _fingerprint(files: Iterable[Path]) -> str:
    """Changes whenever one of the files is replaced; takes no reading of them."""
    stats = ((str(file), file.stat()) for file in files)
    lines = (f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# Data sets


@dataclass(frozen=True)
class Dataset:
    """What the loader has to know. In the patterns `{split}` stands for the split."""

    name: str  # also the folder below `COURSE_IMAGES`
    size: int  # height and width in pixels
    splits: dict[str, int]  # number of images in each complete split
    zips: tuple[str, ...]  # patterns of zip names
    images: str  # pattern of image paths, in a folder or in a zip; its last folder is the class
    remedy: str  # how to get the images
    classes: tuple[str, ...] = ()
    resize: bool = False
    checksums: dict[str, str] = field(default_factory=dict)  # of `_canonical`, for each complete split
    downloads: dict[str, Callable[[str], tuple[np.ndarray, Sequence[int]]]] = field(default_factory=dict)

    def cache(self, split: str, suffix: str = "") -> Path:
        """File of the decoded split; without a suffix it holds only what was verified."""
        return cache_dir() / f"{self.name}-{split}{suffix}.safetensors"


def _load(dataset: Dataset, split: str, source: str | Path | None, allow_download: bool) -> ImageSet:
    """Try the sources in order; see the top of this file. A `source` that is given must have the images."""
    if split not in dataset.splits:
        raise ValueError(f"split={split!r} is unknown; {dataset.name} has {', '.join(dataset.splits)}")
    tried: list[str] = []
    # Notebooks run in a folder of their own: a relative COURSE_IMAGES is taken from the root of the project.
    if pointed := source or os.environ.get("COURSE_IMAGES"):
        try:
            root = Path(pointed).expanduser()
            return _load_from(dataset, split, root if source else ROOT / root)
        except ImagesNotFound as error:
            tried.append(f"{'source' if source else 'COURSE_IMAGES'}: {error}")
    if not source and (found := _load_elsewhere(dataset, split, allow_download, tried)):
        return found
    lines = "".join(f"\n  - {line}" for line in tried)
    raise ImagesNotFound(f"no {split} images of {dataset.name}. Tried:{lines}\n{dataset.remedy}")


def _load_elsewhere(dataset: Dataset, split: str, allow_download: bool, tried: list[str]) -> ImageSet | None:
    """The cache, then the network; each failure is added to `tried`."""
    if tried:
        warnings.warn(f"{tried[0]}; looking elsewhere", stacklevel=4)
    if cached := _read_cache(dataset.cache(split)):
        return cached
    tried.append(f"cache: nothing usable at {dataset.cache(split)}")
    offline = not allow_download or os.environ.get("COURSE_OFFLINE", "0") not in ("", "0")
    if offline and dataset.downloads:
        tried.append("network: switched off, by COURSE_OFFLINE or allow_download=False")
        return None
    for title, read in dataset.downloads.items():
        try:
            return _load_download(dataset, split, title, read)
        except (OSError, ImportError, ValueError, RuntimeError) as error:
            tried.append(f"{title}: {error}")
            warnings.warn(f"{tried[-1]}; looking elsewhere", stacklevel=4)
    return None


def _find_files(dataset: Dataset, split: str, root: Path) -> list[Path]:
    """Zips and image files of a split: in `root/<name>`, else in `root`, which may be a zip itself."""
    if not root.exists():
        raise ImagesNotFound(f"{root} does not exist")
    if root.is_file():
        return _only_zip(root)
    base = root / dataset.name if (root / dataset.name).is_dir() else root
    zips = {path for pattern in dataset.zips for path in base.glob(pattern.format(split=split))}
    return sorted(zips) + sorted(filter(_is_image, base.glob(dataset.images.format(split=split))))


def _only_zip(path: Path) -> list[Path]:
    if path.suffix != ".zip":
        raise ValueError(f"{path} is neither a folder nor a zip; unpack it and point to the folder")
    return [path]


def _load_from(dataset: Dataset, split: str, root: Path) -> ImageSet:
    """Load what the user pointed to. A split that is not the complete, original one gives a warning."""
    root = root.resolve()
    files = _find_files(dataset, split, root)
    key = _fingerprint(files)
    if cached := _read_cache(dataset.cache(split), key):
        return cached
    # What is not verified must not pass for the data set later on: it gets a file of its own.
    own = dataset.cache(split, "-" + hashlib.sha256(str(root).encode()).hexdigest()[:8])
    found = _read_cache(own, key)
    if found is None:
        found, complete = _decode_files(dataset, split, root, files)
        _write_cache(dataset.cache(split) if complete else own, found, key)
        if complete:
            return found
    if dataset.checksums:
        warnings.warn(f"not the complete and original {split} split: {found.source}", stacklevel=4)
    return found


def _decode_files(dataset: Dataset, split: str, root: Path, files: list[Path]) -> tuple[ImageSet, bool]:
    """Decode a split from files and zips; also tells whether it is the complete, original one."""
    pattern = dataset.images.format(split=split)
    entries = _list_images(files, pattern)
    if not entries:
        zips = " or ".join(dataset.zips).format(split=split)
        raise ImagesNotFound(f"{root} has no images {pattern}, and no zip {zips} with such images")
    labels = None
    if dataset.classes:
        folders = [PurePath(member or file).parent.name for file, member in entries]
        if unknown := sorted(set(folders) - set(dataset.classes)):
            raise ValueError(f"{root} has classes {unknown[:5]}; name them {', '.join(dataset.classes)}")
        labels = [dataset.classes.index(folder) for folder in folders]
    pixels = _decode(_read_images(entries), len(entries), dataset.size, dataset.resize)
    images, labels, checksum = _canonical(pixels, labels)
    source = f"{dataset.name} {split}, {len(images):,} of {dataset.splits[split]:,} images, from {root}"
    return ImageSet(images, labels, source), checksum == dataset.checksums.get(split)


def _load_download(dataset: Dataset, split: str, title: str, read: Callable) -> ImageSet:
    """Download a split and check it, pixel by pixel and label by label, against the pinned checksum."""
    images, labels, checksum = _canonical(*read(split))
    if checksum != dataset.checksums.get(split, checksum):  # CelebA: its archive was checked instead
        raise ValueError(f"{len(images):,} images, checksum {checksum}: not the original {split} split")
    found = ImageSet(images, labels, f"{dataset.name} {split}, all {len(images):,} images, from {title}")
    _write_cache(dataset.cache(split), found, key="")
    return found


# A fixed revision of the mirror, so that its files cannot change under us.
CIFAR10_MIRROR = "datasets/uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text"
CIFAR10_PARQUET = {
    "train": "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    "test": "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
}
CIFAR10_ARCHIVE = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


def _cifar10_parquet(split: str) -> tuple[np.ndarray, Sequence[int]]:
    """Pixels (n, 32, 32, 3) and labels from the columns `img` {bytes, path} and `label` of the mirror."""
    from pyarrow import parquet

    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{host}/{CIFAR10_MIRROR}/{split}-00000-of-00001.parquet"
    path = download(url, cache_dir() / f"cifar10-{split}.parquet", CIFAR10_PARQUET[split])
    table = parquet.read_table(path, columns=["img", "label"])
    encoded = ((f"{path}, row {i}", cell["bytes"].as_py()) for i, cell in enumerate(table["img"]))
    return _decode(encoded, table.num_rows, size=32), table["label"].to_pylist()


def _cifar10_torchvision(split: str) -> tuple[np.ndarray, Sequence[int]]:
    """Pixels (n, 32, 32, 3) and labels from the original archive, unpacked and read by torchvision."""
    from torchvision.datasets import CIFAR10 as Archive

    # Fetched here because torchvision does not resume, and this host can take an hour.
    folder = cache_dir() / "torchvision"
    download(Archive.url, folder / Archive.filename, CIFAR10_ARCHIVE)
    data = Archive(folder, train=split == "train", download=True)
    return data.data, data.targets


def _celeba_torchvision(split: str) -> tuple[np.ndarray, None]:
    """Pixels (n, 64, 64, 3) of the archive on Google Drive, found and checked by torchvision."""
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive

    folder = cache_dir() / "torchvision"
    file_id, md5, name = next(row for row in CelebA.file_list if row[2] == "img_align_celeba.zip")
    download_file_from_google_drive(file_id, folder, name, md5)  # needs gdown; often over its quota
    entries = _list_images([folder / name], CELEBA64.images)
    return _decode(_read_images(entries), len(entries), CELEBA64.size, resize=True), None


CIFAR10 = Dataset(
    name="cifar10",
    size=32,
    splits={"train": 50_000, "test": 10_000},
    zips=("{split}*.zip",),
    images="{split}/*/*",
    classes=CIFAR10_CLASSES,
    checksums={
        "train": "d59acf989e068e709ce686cda292672c7b212c08d29d3d3e6d8c3aa99eba6a85",
        "test": "899683d46c3a8c66fd56e1af12202e69fe5a4517be10b0f68e04c78fe585c57c",
    },
    downloads={"Hugging Face mirror": _cifar10_parquet, "torchvision": _cifar10_torchvision},
    remedy="""Ways to get CIFAR-10:
  - have it already? Set COURSE_IMAGES (or pass source=) to a folder with train/<class>/*.png, or with such
    files in train*.zip, and the same for test; or to the folder above it if its name is cifar10;
  - with network access, leave COURSE_OFFLINE unset and allow_download=True: the mirror
    https://huggingface.co/datasets/uoft-cs/cifar10 (144 MB) comes first; HF_ENDPOINT names another host;
  - torchvision.datasets.CIFAR10 comes last: its own host, www.cs.toronto.edu, has been slow since June 2026
    (up to an hour for 170 MB); what was downloaded is kept, so an interrupted call can be repeated.""",
)

CELEBA64 = Dataset(
    name="celeba64",
    size=64,
    splits={"train": 202_599},
    zips=("train*.zip", "img_align_celeba*.zip"),
    images="img_align_celeba/*",
    resize=True,  # the usual recipe: of the 178x218 original the central 178x178, scaled to 64x64
    downloads={"torchvision": _celeba_torchvision},
    remedy="""Ways to get CelebA (non-commercial research only, no redistribution):
  - download img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and set COURSE_IMAGES
    (or pass source=) to the folder that holds it;
  - `pip install gdown` and allow_download=True: torchvision fetches the same 1.4 GB from Google Drive, which
    often answers that its quota is exceeded; then try again a day later, or take the first way.""",
)


def load_cifar10(
    split: str = "train", source: str | Path | None = None, allow_download: bool = True
) -> ImageSet:
    """CIFAR-10: images (n, 3, 32, 32), labels that index `CIFAR10_CLASSES`; 50,000 to train, 10,000 to test.

    Raises:
        ImagesNotFound: no source has them; the message lists the ways to get them.
        ValueError: unknown split, damaged or truncated file, image of another size, unknown class.
    """
    return _load(CIFAR10, split, source, allow_download)


def load_celeba64(source: str | Path | None = None, allow_download: bool = True) -> ImageSet:
    """Aligned CelebA faces, images (n, 3, 64, 64) without labels; raises as `load_cifar10` does.

    The originals (178x218) are cropped and scaled; images of 64x64 are taken as they are. There is no
    checksum: n and the exact pixels are those of the source, so name the source beside each result.
    """
    return _load(CELEBA64, "train", source, allow_download)


def load_digits() -> ImageSet:
    """scikit-learn's handwritten digits, (1797, 1, 8, 8) with labels; they come with the package."""
    from sklearn import datasets

    digits = datasets.load_digits()
    pixels = torch.from_numpy(digits.images)[:, None]  # (1797, 1, 8, 8), whole numbers from 0 to 16
    images = (pixels * (255 / 16)).round().to(torch.uint8)
    return ImageSet(images, torch.from_numpy(digits.target).long(), "1,797 digits of scikit-learn, 8x8")


def load_folder(path: str | Path, size: int, resize: bool = False) -> ImageSet:
    """All images in a folder and its subfolders, or in a zip: (n, 3, size, size), without labels, uncached.

    With `resize` the centred square of each image is scaled (bicubic, antialiased). Raises ImagesNotFound if
    there are none, ValueError for a damaged file or, without `resize`, an image of another size.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ImagesNotFound(f"path={path} does not exist")
    files = _only_zip(path) if path.is_file() else sorted(filter(_is_image, path.rglob("*")))
    entries = _list_images(files)
    if not entries:
        raise ImagesNotFound(f"path={path} holds no image ({', '.join(sorted(SUFFIXES))})")
    images, _, _ = _canonical(_decode(_read_images(entries), len(entries), size, resize), None)
    return ImageSet(images, None, f"{len(images):,} images from {path}")


N_HELD_OUT = 10_000  # faces, the last ones: never trained on, for calibration and reference statistics


def load_faces(split: str, allow_download: bool = True) -> ImageSet:
    """CelebA at 64x64, split into "train" (all but the last 10,000 images) and "test" (those).

    The official split keeps identities apart; this one does not, since a subset of the images may be all
    there is. It holds for pictures, not for people.
    """
    faces = load_celeba64(allow_download=allow_download)
    if len(faces.images) <= N_HELD_OUT:
        raise ValueError(f"found {len(faces.images)} faces, but {N_HELD_OUT:,} are held out: more are needed")
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is unknown; use 'train' or 'test'")
    part = slice(None, -N_HELD_OUT) if split == "train" else slice(-N_HELD_OUT, None)
    return replace(faces, images=faces.images[part])
