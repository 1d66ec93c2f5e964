"""Loading images: sources, order, cache, download, and what is said when something is missing or damaged."""
# ruff: noqa: F811  fixtures of another file

import ast
import dataclasses
import hashlib
import io
import pickle
import socket
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_download import server  # noqa: F401  a fixture
from torchvision import datasets

from utils import images
from utils.images import (
    CIFAR10_CLASSES,
    ImagesNotFound,
    load_celeba64,
    load_cifar10,
    to_uint8,
    to_unit,
)
from utils.training import draw_from

N = 12


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No test sees the settings, the cache or the network of the machine it runs on."""
    for name in ("COURSE_IMAGES", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.fixture
def arrays():
    """Pixels (N, 32, 32, 3) and labels of a tiny data set; two images are equal but for their label."""
    pixels = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    pixels[1] = pixels[0]
    return pixels, [i % 10 for i in range(N)]


@pytest.fixture
def known(arrays, monkeypatch):
    """Let the tiny data set be the complete and original `train` split."""
    contents = (bytes([label]) + image.tobytes() for image, label in zip(*arrays, strict=True))
    checksum = hashlib.sha256(b"".join(sorted(hashlib.sha256(c).digest() for c in contents))).hexdigest()
    tiny = dataclasses.replace(images.CIFAR10, splits={"train": N}, checksums={"train": checksum})
    monkeypatch.setattr(images, "CIFAR10", tiny)


def saved(image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode(pixels, kind="PNG", **options) -> bytes:
    return saved(Image.fromarray(pixels), kind, **options)


def write_folder(root, arrays):
    for i, (image, label) in enumerate(zip(*arrays, strict=True)):
        path = root / "train" / CIFAR10_CLASSES[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image))
    return root


def write_zips(root, arrays, order=None):
    """Two zips of lossless WebP, in another order than the folder."""
    root.mkdir(parents=True, exist_ok=True)
    order = list(order or reversed(range(N)))
    for part in range(2):
        with zipfile.ZipFile(root / f"train-{part:02d}.zip", "w") as archive:
            archive.writestr("__MACOSX/train/cat/._1.webp", b"no image")
            for i in order[part::2]:
                name = f"train/{CIFAR10_CLASSES[arrays[1][i]]}/{i}.webp"
                archive.writestr(name, encode(arrays[0][i], "WEBP", lossless=True))
    return root


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_zip(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it stands, backslashes and all
            archive.writestr(info, data)


def batches(arrays):
    """CIFAR-10 as its authors publish it: {name: pickle}; five batches to train with."""
    flat = arrays[0].transpose(0, 3, 1, 2).reshape(len(arrays[0]), -1)
    files = {"test_batch": pickle.dumps({"data": flat[:1], "labels": list(arrays[1])[:1]})}
    for k in range(5):
        batch = {"data": flat[k::5], "labels": list(arrays[1])[k::5]}
        files[f"data_batch_{k + 1}"] = pickle.dumps(batch)
    return files | {"batches.meta": pickle.dumps({"label_names": list(CIFAR10_CLASSES)})}


def published(files, monkeypatch):
    """Let torchvision take `files` for those of the authors."""
    known = [[name, hashlib.md5(data).hexdigest()] for name, data in files.items()]
    for kind in ("train", "test"):
        chosen = [pair for pair in known if kind.replace("train", "data") in pair[0]]
        monkeypatch.setattr(datasets.CIFAR10, f"{kind}_list", chosen)
    meta = {"filename": "batches.meta", "key": "label_names", "md5": dict(known)["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)


def write_parquet(path, arrays):
    import pyarrow as pa
    from pyarrow import parquet

    cells = [{"bytes": encode(image), "path": None} for image in arrays[0]]
    parquet.write_table(pa.table({"img": cells, "label": arrays[1]}), path)
    return path.read_bytes()


def same(a, b):
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


# Values


def test_units_invert_each_other():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    unit = to_unit(values)
    assert unit.dtype == torch.float32 and unit.min() == -1 and unit.max() == 1
    assert torch.equal(to_uint8(unit), values)
    assert to_uint8(torch.tensor([-1.4, -1.0, 0.003, 1.0, 1.2])).tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(TypeError, match=r"images has dtype torch.float32.*uint8"):
        to_unit(unit)
    with pytest.raises(TypeError, match=r"x has dtype torch.uint8.*floating point"):
        to_uint8(values)
    drawn = draw_from(unit)(1, torch.Generator())  # floats are taken as they are, not scaled twice
    assert torch.isin(drawn, unit).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values_that_no_image_has_are_refused_or_said(dtype):
    plausible = torch.linspace(-1, 1, 48, dtype=dtype).reshape(1, 3, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in (plausible, plausible[:0], -torch.ones_like(plausible), plausible * 0, plausible * 1.2):
            to_uint8(x)
    for value in (float("nan"), float("inf"), -float("inf")):
        broken = plausible.clone()
        broken[0, 1, 2, 3] = value
        with pytest.raises(ValueError, match="x holds NaN or infinity"):
            to_uint8(broken)
    with pytest.warns(UserWarning, match=r"x lies in \[0, 1\].*2 \* x - 1"):
        to_uint8((plausible + 1) / 2)
    for wide in (plausible * 2.6, (plausible + 1) * 127.5):
        with pytest.warns(UserWarning, match=r"far outside \[-1, 1\]"):
            to_uint8(wide)


# Sources and order


def test_every_source_gives_the_same(tmp_path, arrays, known, server, monkeypatch):
    folder = load_cifar10("train", write_folder(tmp_path / "tree", arrays))
    assert folder.images.shape == (N, 3, 32, 32) and folder.images.dtype == torch.uint8
    assert folder.labels.dtype == torch.int64 and sorted(folder.labels.tolist()) == sorted(arrays[1])
    write_zips(tmp_path / "both" / "cifar10", arrays)
    with pytest.warns(UserWarning, match=r"read 12 images; skipped 2 files \(2 hidden: __MACOSX"):
        zips = load_cifar10("train", tmp_path / "both")
    assert same(folder, zips) and "both" in zips.source

    monkeypatch.delenv("COURSE_OFFLINE")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.body = write_parquet(tmp_path / "x.parquet", arrays)
    monkeypatch.setitem(images.CIFAR10_PARQUET, "train", hashlib.sha256(server.body).hexdigest())
    mirror = load_cifar10("train")
    assert same(folder, mirror) and "mirror" in mirror.source

    files = batches(arrays)
    for name, data in files.items():
        put(tmp_path / "cifar-10-batches-py" / name, data)
    with pytest.raises(ValueError, match="cifar-10-batches-py is not as published"):
        load_cifar10("train", tmp_path)
    published(files, monkeypatch)
    assert same(folder, load_cifar10("train", tmp_path))
    assert same(folder, load_cifar10("train", tmp_path / "cifar-10-batches-py"))


def test_labels_follow_their_images(tmp_path, arrays, known):
    loaded = load_cifar10("train", write_zips(tmp_path, arrays))
    pairs = {
        (i.permute(1, 2, 0).numpy().tobytes(), int(y))
        for i, y in zip(loaded.images, loaded.labels, strict=True)
    }
    assert pairs == {(image.tobytes(), label) for image, label in zip(*arrays, strict=True)}


def test_order_of_the_source_does_not_matter(tmp_path, arrays, known):
    shuffled = np.random.default_rng(2).permutation(N).tolist()
    a = load_cifar10("train", write_zips(tmp_path / "a", arrays))
    b = load_cifar10("train", write_zips(tmp_path / "b", arrays, shuffled))
    assert same(a, b)


def test_environment_variable_and_argument(tmp_path, arrays, known, monkeypatch):
    monkeypatch.setenv("COURSE_IMAGES", str(write_folder(tmp_path / "env" / "cifar10", arrays).parent))
    assert "env" in load_cifar10("train").source
    assert "arg" in load_cifar10("train", write_folder(tmp_path / "arg", arrays)).source


def test_another_size_of_set_is_accepted_with_a_warning(tmp_path, arrays):
    root = write_folder(tmp_path / "tree", arrays)
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(UserWarning, match="12 of 50,000"):
            loaded = load_cifar10("train", root)
    assert len(loaded.images) == N
    with pytest.raises(ImagesNotFound):  # it does not pass for the data set itself
        load_cifar10("train")


def test_celeba_is_cropped_and_scaled(tmp_path):
    original = np.zeros((218, 178, 3), np.uint8)
    original[20:198] = 200  # the central square; the rest must be cut off
    scaled = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
        archive.writestr("img_align_celeba/000001.png", encode(original))
        archive.writestr("img_align_celeba/000002.png", encode(scaled))
    faces = load_celeba64(tmp_path)
    assert faces.images.shape == (2, 3, 64, 64) and faces.labels is None and "2 of 202,599" in faces.source
    assert any((face == 200).all() for face in faces.images)
    (tmp_path / "cifar-10-batches-py").mkdir()  # of another set
    assert any(torch.equal(face.permute(1, 2, 0), torch.from_numpy(scaled)) for face in faces.images)
    assert torch.equal(load_celeba64(tmp_path).images, faces.images)
    with pytest.raises(ImagesNotFound, match="mmlab"):
        load_celeba64()


# Cache


def test_second_load_decodes_nothing(tmp_path, arrays, known, monkeypatch):
    root = write_zips(tmp_path / "zips", arrays)
    first = load_cifar10("train", root)
    monkeypatch.setattr(images.files, "decode", lambda *arguments: pytest.fail("decoded again"))
    assert same(first, load_cifar10("train", root))
    assert same(first, load_cifar10("train"))  # the verified split serves without the source too


def test_changed_source_is_decoded_again(tmp_path, arrays):
    root = write_folder(tmp_path / "tree", arrays)
    with pytest.warns(UserWarning):
        load_cifar10("train", root)
        next(root.rglob("*.png")).unlink()
        assert len(load_cifar10("train", root).images) == N - 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_damaged_cache_is_made_again(tmp_path, arrays, known):
    root = write_folder(tmp_path / "tree", arrays)
    first = load_cifar10("train", root)
    cache = images.CIFAR10.cache("train")
    cache.write_bytes(cache.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match="damaged"):
        assert same(first, load_cifar10("train", root))
    assert same(first, load_cifar10("train"))


def test_full_disk_costs_only_the_cache(tmp_path, arrays, known, monkeypatch):
    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images, "save_file", fail)
    with pytest.warns(UserWarning, match="No space left"):
        loaded = load_cifar10("train", write_folder(tmp_path / "tree", arrays))
    assert len(loaded.images) == N
    assert list((tmp_path / "cache").iterdir()) == []


# Errors


def test_nothing_anywhere_lists_the_ways(monkeypatch):
    monkeypatch.setattr(images, "download", lambda *a, **k: pytest.fail("touched the network"))
    for allow_download in (True, False):
        monkeypatch.setenv("COURSE_OFFLINE", "1" if allow_download else "0")
        with pytest.raises(ImagesNotFound) as error:
            load_cifar10("test", allow_download=allow_download)
        for word in ("COURSE_IMAGES", "COURSE_OFFLINE", "huggingface.co", "toronto.edu", "slow", "cache"):
            assert word in str(error.value)


def test_unreachable_network_names_every_source(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.delenv("COURSE_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("COURSE_IMAGES", str(tmp_path))
    with pytest.warns(UserWarning, match="looking elsewhere"), pytest.raises(ImagesNotFound) as error:
        load_cifar10("train")
    for word in ("COURSE_IMAGES", "nothing usable", "train-00000-of-00001.parquet", "refused"):
        assert word in str(error.value)


def test_unknown_split():
    with pytest.raises(ValueError, match=r"split='valid'.*train, test"):
        load_cifar10("valid")


def test_truncated_zip(tmp_path, arrays):
    path = write_zips(tmp_path, arrays) / "train-01.zip"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"train-01\.zip cannot be read as a zip.*download it again"):
        load_cifar10("train", tmp_path)


def test_damaged_image_in_a_zip(tmp_path, arrays):
    path = write_zips(tmp_path, arrays) / "train-00.zip"
    data = bytearray(path.read_bytes())
    data[data.index(b"RIFF") + 100] ^= 255
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="hidden"), pytest.raises(ValueError, match=r"train-00\.zip.*CRC"):
        load_cifar10("train", tmp_path)


def test_damaged_image_in_a_folder(tmp_path, arrays):
    path = write_folder(tmp_path, arrays) / "train" / CIFAR10_CLASSES[0] / "0.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"0\.png cannot be decoded"):
        load_cifar10("train", tmp_path)


def test_wrong_size(tmp_path, arrays):
    write_folder(tmp_path, ([np.zeros((28, 30, 3), np.uint8)], [3]))
    with pytest.raises(ValueError, match=r"train/cat/0\.png has 30x28 pixels, expected 32x32"):
        load_cifar10("train", tmp_path)


def test_unknown_class(tmp_path, arrays):
    write_folder(tmp_path, arrays)
    (tmp_path / "train" / "cat").rename(tmp_path / "train" / "kitten")
    with pytest.raises(ValueError, match=r"'kitten'.*airplane"):
        load_cifar10("train", tmp_path)


def test_source_without_images(tmp_path, arrays, known, monkeypatch):
    load_cifar10("train", write_folder(tmp_path / "tree", arrays))
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.7z").touch()
    for source, words in (("empty", "holds no image"), ("absent", "does not exist")):
        with pytest.raises(ImagesNotFound, match=f"{source} {words}"):
            load_cifar10("train", tmp_path / source)  # a source that is named must do
        monkeypatch.setenv("COURSE_IMAGES", str(tmp_path / source))
        with pytest.warns(UserWarning, match=f"COURSE_IMAGES.*{source}"):
            assert len(load_cifar10("train").images) == N  # the variable only comes first
    with pytest.raises(ValueError, match=r"x\.7z is neither a folder nor a zip"):
        load_cifar10("train", tmp_path / "x.7z")


def test_module_does_not_import_torchvision():
    tree = ast.parse(Path(images.__file__).read_text(encoding="utf-8"))
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports and not [line for line in imports if "torchvision" in line or "pyarrow" in line]


# Real images


@pytest.mark.images
def test_real_images_are_the_published_ones_and_load_fast(image_source):
    if image_source is None:
        pytest.skip("no CIFAR-10 images: set COURSE_IMAGES")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a split that is not complete and original would warn
        first = load_cifar10("test", image_source)
        start = time.perf_counter()
        second = load_cifar10("test", image_source)
        seconds = time.perf_counter() - start
    assert same(first, second) and seconds < 2
    assert first.images.shape == (10_000, 3, 32, 32)
    assert first.labels.bincount().tolist() == [1_000] * 10
    assert first.labels[:1000].bincount().min() > 70  # a prefix is a fair sample
