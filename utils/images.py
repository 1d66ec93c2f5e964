"""Images as uint8 tensors: CIFAR-10, CelebA-64, or any folder, zip or tar of images.

A data set is looked for in this order, and decoded only once:

1. the folder, zip or tar that `source=` or the environment variable `COURSE_IMAGES` points to;
2. the cache of this project (`utils.config.cache_dir`), one file per split;
3. a mirror, then the original host: never with `COURSE_OFFLINE=1` or `allow_download=False`.

An image is known by its file name (and class), not by what a decoder makes of its bytes: images are sorted by
the sha256 of that name, those of one name by the sha256 of their files. So an index means the same image from
every source, and a prefix is a fair sample. CIFAR-10 was published as pixels, and not every copy has names: a
split that equals the published one, by checksum, is sorted by the sha256 of each label and its pixels.
"""

import csv
import hashlib
import io
import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from utils import image_files as files
from utils.checkpoints import write_atomically
from utils.config import cache_dir, images_place, offline
from utils.image_files import Entry, ImagesNotFound, readable

CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
BATCHES = "cifar-10-batches-py"  # CIFAR-10 as its authors publish it
BATCH_NAMES = {"train": "data_batch_", "test": "test_batch"}
ATTEMPTS = 4  # of one download
PASSING = (408, 429, 500, 502, 503, 504)  # status codes of a failure that may pass
TIMEOUT = 10.0  # seconds without a byte
FORMAT = "2"  # of the cache: what another version wrote is made again
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


def download(url: str, path: Path, known_hash: str | None = None, fetch: Callable | None = None) -> Path:
    """Fetch `url` into `path` unless it is there; after an interruption the next call goes on in `path.part`.

    `known_hash` is a sha256, or "md5:" and an MD5; `fetch(url, file, pooch)` replaces plain HTTP. The file
    appears in one step, and of several processes that want it one fetches it. Raises OSError if the server
    cannot be reached, keeps failing, or sends another file.
    """
    from filelock import FileLock
    from pooch import retrieve
    from pooch.hashes import hash_matches
    from requests import RequestException

    if path.exists() and hash_matches(path, known_hash):
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            fetch = fetch or (lambda url, file, _: _fetch(url, part).replace(file))
            return Path(retrieve(url, known_hash, path.name, path.parent, downloader=fetch))
    except ValueError as error:  # of pooch, which has deleted the file
        raise OSError(f"{url} is not the file expected ({error}); call again") from error
    except RequestException as error:
        remedy = f"call again to go on where it stopped, or save that file as {path}"
        raise OSError(f"cannot download {url} ({error}); {remedy}") from error
    except OSError as error:
        remedy = "free some space there or set COURSE_CACHE to another folder, then call again to go on"
        raise OSError(f"cannot store {url} as {part} ({error}); {remedy}") from error


def _fetch(url: str, part: Path) -> Path:
    """Add to `part` the bytes it lacks; a failure that may pass, as a lost connection, is tried again."""
    import requests
    from urllib3 import Retry

    again = Retry(ATTEMPTS - 1, connect=1, backoff_factor=1, status_forcelist=PASSING, raise_on_status=False)
    with requests.Session() as session:
        for prefix in ("http://", "https://"):
            session.mount(prefix, requests.adapters.HTTPAdapter(max_retries=again))
        for attempt in range(1, ATTEMPTS + 1):
            have = part.stat().st_size if part.exists() else 0
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
            with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                if response.status_code == 416:  # nothing behind byte `have`: it may be of another file
                    part.unlink(missing_ok=True)
                    continue
                response.raise_for_status()
                have *= response.status_code == 206  # otherwise the server sends the whole file
                total = int(response.headers.get("Content-Length", 0)) + have or None
                bar = tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, leave=False)
                try:
                    with bar, open(part, "ab" if have else "wb") as file:
                        for chunk in response.iter_content(1 << 16):
                            bar.update(file.write(chunk))
                    return part
                except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError):
                    if attempt == ATTEMPTS:
                        raise
    raise OSError(f"{url} has no bytes to send")


# Cache


def _write_cache(path: Path, found: ImageSet, key: str, original: bool) -> None:
    """Store decoded images; a failure (full disk, no permission) costs only the time of the next load."""
    tensors = {"images": found.images} | ({} if found.labels is None else {"labels": found.labels})
    metadata = {"source": found.source, "key": key, "original": str(original), "format": FORMAT}
    try:
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
    except OSError as error:
        warnings.warn(f"no cache: {error}; the next load is slow again", stacklevel=2)


def _read_cache(path: Path, key: str | None = None) -> ImageSet | None:
    """The images at `path` if they were made from `key`, or without a key if they are the original split."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            good = metadata["key"] == key if key else metadata["original"] == "True"
            if metadata.get("format") != FORMAT or not good:
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
    """What the loader has to know. In names `{split}` stands for the split."""

    folders: tuple[str, ...]  # its name, and other names of a folder that holds it
    size: int  # height and width in pixels
    splits: dict[str, int]  # number of images in each complete split
    top: str  # folder of a split's images, in a folder or an archive; with classes, theirs lie in it
    archives: tuple[str, ...]  # patterns of names of archives
    remedy: str  # how to get the images
    downloads: dict[str, Callable[[str], Decoded]]
    classes: tuple[str, ...] = ()
    checksums: dict[str, str] = field(default_factory=dict)  # of labels and pixels, for each complete split

    def cache(self, split: str) -> Path:
        """File of the decoded split."""
        return cache_dir() / f"{self.folders[0]}-{split}.safetensors"


def _load(dataset: Dataset, split: str, source: str | Path | None, allow_download: bool) -> ImageSet:
    """Try the sources in order; see the top of this file. A `source` that is given must have the images."""
    name, tried = dataset.folders[0], []
    if split not in dataset.splits:
        raise ValueError(f"split={split!r} is unknown; {name} has {', '.join(dataset.splits)}")

    def give_up(line: str) -> None:
        tried.append(line)
        warnings.warn(f"{line}; looking elsewhere", stacklevel=4)

    if pointed := source or images_place():
        try:
            return _load_from(dataset, split, Path(pointed).expanduser().resolve())
        except ImagesNotFound as error:
            tried.append(f"source: {error}") if source else give_up(f"COURSE_IMAGES: {error}")
    if not source:
        if cached := _read_cache(dataset.cache(split)):
            return cached
        tried.append(f"cache: nothing usable at {dataset.cache(split)}")
        switched_off = offline() or not allow_download
        if switched_off:
            tried.append("network: switched off, by COURSE_OFFLINE or allow_download=False")
        for title, fetch in {} if switched_off else dataset.downloads.items():
            try:
                return _finish(dataset, split, fetch(split), title)
            except (OSError, ImportError, ValueError) as error:
                give_up(f"{title}: {error}")
    lines = "".join(f"\n  - {line}" for line in tried)
    raise ImagesNotFound(f"no {split} images of {name}. Tried:{lines}\n{dataset.remedy}")


def _load_from(dataset: Dataset, split: str, root: Path) -> ImageSet:
    """Load what the user pointed to. A split that is not the complete, original one gives a warning."""
    loose, archives = _locate(dataset, split, root)
    stats = ((file, file.stat()) for file in (*(e.file for e in loose), *archives) if file.exists())
    lines = (f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
    key = _key("\n".join(lines)).hex()  # changes whenever one of the files is replaced
    found = _read_cache(dataset.cache(split), key)
    if not found:
        decoded = _decode_set(dataset, split, root, loose, archives)
        found = _finish(dataset, split, decoded, readable(root), key)
    if NOT_ORIGINAL in found.source:
        warnings.warn(found.source, stacklevel=4)
    return found


def _key(name: str, digest: bytes = b"") -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest() + digest


def _arrange(pixels: np.ndarray, labels: Sequence[int] | None, keys: Sequence[bytes]):
    """Images (n, 3, h, w) and labels, sorted by their keys."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)[order].contiguous()
    return images, None if labels is None else torch.as_tensor(labels, dtype=torch.int64)[order]


def _finish(dataset: Dataset, split: str, decoded: Decoded, where: str, key: str = "") -> ImageSet:
    """Compare with the published split, sort and store. What came by download must be the original."""
    pixels, labels, keys = decoded
    original, note = not key, ""
    if dataset.checksums:
        pairs = zip(labels, pixels, strict=True)
        digests = [hashlib.sha256(bytes([label]) + image.tobytes()).digest() for label, image in pairs]
        checksum = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
        if original := checksum == dataset.checksums.get(split):
            keys = digests
        elif not key:
            raise ValueError(f"{len(pixels):,} images, checksum {checksum}: {NOT_ORIGINAL} {split} split")
        else:
            note = f", {NOT_ORIGINAL} {split} split"
    count = f"{len(pixels):,} of {dataset.splits[split]:,} images{note}"
    source = f"{dataset.folders[0]} {split}, {count}, from {where}"
    found = ImageSet(*_arrange(pixels, labels, keys), source)
    _write_cache(dataset.cache(split), found, key, original)
    return found


def _locate(dataset: Dataset, split: str, root: Path) -> tuple[list[Entry], list[Path]]:
    """Loose files, and archives that may hold a split: in folders below `root` named as the set, or in it."""
    if not root.exists():
        raise ImagesNotFound(f"{readable(root)} does not exist")
    if root.is_file():
        return [], [root]
    top, bases = dataset.top.format(split=split), [root]
    for base in bases:  # which grows
        named = [path.resolve() for path in sorted(base.iterdir()) if path.name.lower() in dataset.folders]
        bases += [path for path in named if path.is_dir() and path not in bases]
    for base in reversed(bases):
        names = {path.name.lower(): path for path in sorted(base.iterdir())}
        inside = [names[name] for name in (top, BATCHES) if name in names and names[name].is_dir()]
        if not inside and base.name.lower() in (top, BATCHES):
            inside = [base]
        loose = [e._replace(path=part.name / e.path) for part in inside for e in files.list_folder(part)]
        patterns = [pattern.format(split=split) for pattern in dataset.archives]
        archives = [p for n, p in names.items() if p.is_file() and any(fnmatch(n, q) for q in patterns)]
        if loose or archives:
            table = names.get(f"{split}labels.csv")
            return loose + ([Entry(table, None, PurePosixPath(table.name))] if table else []), archives
    return [], []


def _decode_set(
    dataset: Dataset, split: str, root: Path, loose: Sequence[Entry] = (), archives: Sequence[Path] = ()
) -> Decoded:
    """Decode a split in files and archives."""
    found = [*loose, *(entry for archive in archives for entry in files.list_archive(archive))]
    top, place = dataset.top.format(split=split), f"{split} split in {readable(root)}"
    inside = [entry for entry in found if top in map(str.lower, entry.path.parts[:-1])]
    if dataset.classes and not inside and (batches := [e for e in found if e.path.parent.name == BATCHES]):
        return _decode_batches(split, batches)
    tables = [entry for entry in found if entry.path.name.lower() == f"{split}labels.csv"]  # of Kaggle
    rows = csv.reader(line for _, data in files.read(tables) for line in data.decode().splitlines())
    table = {row[0]: row[1] for row in rows if len(row) > 1}

    def kind(entry: Entry) -> str:
        folder = entry.path.parent.name
        return folder if folder.lower() != top else table.get(entry.path.stem, "")

    def why_not(entry: Entry) -> str:
        return "" if kind(entry) else f"in no folder of a class, nor in {split}Labels.csv"

    entries = files.choose_images(inside, place, why_not if dataset.classes else None)
    kinds = [kind(entry) if dataset.classes else "" for entry in entries]
    if unknown := sorted(set(kinds) - set(dataset.classes or [""])):
        raise ValueError(f"{place} has classes {unknown[:5]}; name them {', '.join(dataset.classes)}")
    names = [f"{kind}/{entry.path.stem}" for kind, entry in zip(kinds, entries, strict=True)]
    files.refuse_doubles(entries, names)
    pixels, digests = files.decode(files.read(entries), len(entries), dataset.size, not dataset.classes)
    labels = [dataset.classes.index(kind) for kind in kinds] if dataset.classes else None
    return pixels, labels, [_key(*pair) for pair in zip(names, digests, strict=True)]


class _BatchUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers, and runs nothing else that a file may ask for."""

    def find_class(self, module: str, name: str):
        known = {"_reconstruct", "_frombuffer", "ndarray", "dtype", "encode"}
        if module.split(".")[0] in ("numpy", "_codecs") and name in known:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _decode_batches(split: str, entries: list[Entry]) -> Decoded:
    """CIFAR-10 in pickles of pixels, labels and, but for some copies, file names."""
    pixels, labels, keys = [], [], []
    for entry, data in files.read(e for e in entries if e.path.name.startswith(BATCH_NAMES[split])):
        try:
            batch = _BatchUnpickler(io.BytesIO(data), encoding="latin1").load()
            batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
            pixels.append(np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            names = batch.get("filenames", [f"{entry.path.name} {i}" for i in range(len(batch["labels"]))])
        except Exception as error:
            raise ValueError(f"{entry} is no batch of CIFAR-10 ({error}); download it again") from error
        labels += batch["labels"]
        keys += map(_key, map(str, names))
    if not pixels:
        raise ImagesNotFound(f"{entries[0]} has no {BATCH_NAMES[split]} beside it")
    return np.concatenate(pixels), labels, keys


# A fixed revision of the mirror, so that its files cannot change under us.
CIFAR10_MIRROR = "datasets/uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text"
CIFAR10_PARQUET = {
    "train": "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    "test": "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_ARCHIVE = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CELEBA_ID, CELEBA_MD5 = "0B7EVK8r0v71pZjFTYXZWM3FlRnM", "00d2c5bc6d35e252742224ab0c1e8fcb"


def _cifar10_parquet(split: str) -> Decoded:
    """From the columns `img` {bytes, path} and `label` of the mirror, which has no names."""
    from pyarrow import parquet

    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{host}/{CIFAR10_MIRROR}/{split}-00000-of-00001.parquet"
    path = download(url, cache_dir() / f"cifar10-{split}.parquet", CIFAR10_PARQUET[split])
    table = parquet.read_table(path, columns=["img", "label"])
    encoded = ((f"{path}, row {i}", cell["bytes"].as_py()) for i, cell in enumerate(table["img"]))
    pixels, digests = files.decode(encoded, table.num_rows, size=32)
    return pixels, table["label"].to_pylist(), digests


def _cifar10_host(split: str) -> Decoded:
    path = download(CIFAR10_URL, cache_dir() / "cifar-10-python.tar.gz", CIFAR10_ARCHIVE)
    return _decode_set(CIFAR10, split, path, archives=[path])


def _celeba_drive(split: str) -> Decoded:
    def fetch(url: str, file: str, _: object) -> None:
        import gdown

        try:
            gdown.download(id=CELEBA_ID, output=str(file), quiet=False)
        except Exception as error:  # of its own when the quota is exceeded, no OSError
            raise OSError(f"gdown: {error}") from error

    url, path = f"https://drive.google.com/uc?id={CELEBA_ID}", cache_dir() / "img_align_celeba.zip"
    download(url, path, f"md5:{CELEBA_MD5}", fetch)
    return _decode_set(CELEBA64, split, path, archives=[path])


CIFAR10 = Dataset(
    folders=("cifar10", "cifar-10", "archive"),
    size=32,
    splits={"train": 50_000, "test": 10_000},
    top="{split}",
    archives=("{split}*.zip", "cifar*10*.zip", "archive*.zip", "cifar-10-python.tar.gz"),
    classes=CIFAR10_CLASSES,
    checksums={
        "train": "d59acf989e068e709ce686cda292672c7b212c08d29d3d3e6d8c3aa99eba6a85",
        "test": "899683d46c3a8c66fd56e1af12202e69fe5a4517be10b0f68e04c78fe585c57c",
    },
    downloads={"Hugging Face mirror": _cifar10_parquet, "its own host": _cifar10_host},
    remedy="""Ways to get CIFAR-10:
  - set COURSE_IMAGES (or pass source=) to a folder with train/<class>/*.png, such files in train*.zip,
    Kaggle's train/*.png and trainLabels.csv, or cifar-10-batches-py; or to the folder above a folder cifar10;
  - with network access, leave COURSE_OFFLINE unset and allow_download=True: the mirror
    https://huggingface.co/datasets/uoft-cs/cifar10 (144 MB; HF_ENDPOINT names another host) comes first, then
    www.cs.toronto.edu, slow since June 2026 (up to an hour for 170 MB): call again to go on.""",
)

CELEBA64 = Dataset(
    folders=("celeba64", "celeba", "archive"),
    size=64,
    splits={"train": 202_599},
    top="img_align_celeba",
    archives=("train*.zip", "*celeba*.zip", "archive*.zip"),
    downloads={"Google Drive": _celeba_drive},
    remedy="""Ways to get CelebA (non-commercial research only, no redistribution):
  - download img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and set COURSE_IMAGES
    (or pass source=) to the folder that holds it;
  - `pip install gdown` and allow_download=True: the same 1.4 GB from Google Drive, which often answers that
    its quota is exceeded; then try again a day later, or take the first way.""",
)


def load_cifar10(
    split: str = "train", source: str | Path | None = None, allow_download: bool = True
) -> ImageSet:
    """CIFAR-10: images (n, 3, 32, 32), labels that index `CIFAR10_CLASSES`; 50,000 to train, 10,000 to test.

    Raises:
        ImagesNotFound: no source has them; the message lists the ways to get them.
        ValueError: unknown split or class, damaged file, image of another size, the same image twice.
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


def load_folder(path: str | Path, size: int, resize: bool = False) -> ImageSet:
    """All images in a folder and those below it, a zip or a tar: (n, 3, size, size), no labels, uncached.

    With `resize` the centred square of each image is scaled (bicubic, antialiased). Raises ImagesNotFound if
    there are none, ValueError for a damaged file or, without `resize`, an image of another size.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ImagesNotFound(f"path={readable(path)} does not exist")
    entries = files.list_archive(path) if path.is_file() else files.list_folder(path)
    entries = files.choose_images(entries, f"path={readable(path)}")
    files.refuse_doubles(entries, (str(entry.path) for entry in entries))
    pixels, digests = files.decode(files.read(entries), len(entries), size, resize)
    keys = [_key(entry.path.stem, digest) for entry, digest in zip(entries, digests, strict=True)]
    return ImageSet(*_arrange(pixels, None, keys), f"{len(entries):,} images from {readable(path)}")


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
