"""Image files as others make them: modes, archives, links, names; read right, or refused with the remedy."""
# ruff: noqa: F811  fixtures of another file

import os
import pickle
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from test_images import (  # noqa: F401  some are fixtures
    N,
    alone,
    arrays,
    encode,
    known,
    put,
    same,
    saved,
    write_folder,
    write_zip,
)

from utils.image_files import decode_image
from utils.images import CIFAR10_CLASSES, ImagesNotFound, load_celeba64, load_cifar10

TOP = "img_align_celeba"


def load_one(name, data):
    """A file's pixels as a tensor (3, 16, 16)."""
    return torch.from_numpy(np.array(decode_image(name, data, 16))).permute(2, 0, 1)


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
WIDE = RAMP.astype(np.uint16) * 257  # the same picture in 16 bits


def png16(pixels):
    """A PNG of 16 bits a channel from (h, w, c), written by hand: Pillow writes grey only."""

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    h, w, c = pixels.shape
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[c], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "data"),
    {
        "grey.png": saved(Image.fromarray(WIDE)),
        "grey.tif": saved(Image.fromarray(WIDE), "TIFF"),
        "grey.pgm": b"P5 16 16 65535\n" + WIDE.astype(">u2").tobytes(),
        "rgb.png": png16(np.dstack([WIDE] * 3)),
        "rgba.png": png16(np.dstack([WIDE] * 3 + [WIDE * 0 + 65535])),
        "grey alpha.png": saved(Image.fromarray(np.dstack([RAMP, RAMP * 0 + 255]))),
        "8 bits.png": saved(Image.fromarray(RAMP)),
        "palette.gif": saved(Image.fromarray(RAMP).convert("P"), "GIF"),
        "animated.gif": saved(
            Image.fromarray(RAMP), "GIF", save_all=True, append_images=[Image.fromarray(255 - RAMP)]
        ),
        "pages.tiff": saved(
            Image.fromarray(RAMP), "TIFF", save_all=True, append_images=[Image.fromarray(255 - RAMP)]
        ),
        "cmyk.tif": saved(
            Image.merge("CMYK", [Image.fromarray(255 - RAMP)] * 3 + [Image.new("L", (16, 16))]), "TIFF"
        ),
    }.items(),
)
def test_one_picture_in_any_mode(name, data):
    assert torch.equal(load_one(name, data), torch.from_numpy(RAMP).expand(3, -1, -1))


def test_other_modes():
    bits = Image.fromarray(np.eye(16) > 0)
    assert load_one("1.png", saved(bits))[0].tolist() == (255 * np.eye(16)).tolist()
    for k, kind in enumerate(("JPEG", "WEBP", "BMP", "PPM")):
        image = load_one(
            f"x.{('jfif', 'webp', 'bmp', 'ppm')[k]}",
            saved(Image.new("RGB", (16, 16), (200, 100, 50)), kind),
        )
        assert (image.float().mean((1, 2)) - torch.tensor([200.0, 100, 50])).abs().max() < 3
    with pytest.raises(ValueError, match=r"f\.tif.*mode F has no stated range"):
        load_one("f.tif", saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "key"])
def test_what_is_transparent_is_white(mode):
    noise = np.random.default_rng(5).integers(0, 255, (16, 16), dtype=np.uint8)
    grey, alpha = (
        Image.fromarray(noise),
        Image.fromarray(np.where(np.arange(16) < 8, 0, 255)[None].repeat(16, 0).astype(np.uint8)),
    )
    if mode == "P":
        data = saved(grey.convert("P"), transparency=bytes(255 * (i >= 128) for i in range(256)))
        clear = noise < 128
    elif mode == "key":
        data, clear = saved(grey, transparency=int(noise[0, 0])), noise == noise[0, 0]
    else:
        image = grey.convert(mode)
        image.putalpha(alpha)
        data, clear = saved(image), np.asarray(alpha) == 0
    expected = np.where(clear, 255, noise)
    assert (load_one("x.png", data).numpy() == expected).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_exif_says(orientation):
    turns = {3: 2, 6: 3, 8: 1}  # np.rot90's, by the tables of the standard; the even others are mirrored
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(RAMP), "PNG", exif=exif)
    mirrored = {2: RAMP[:, ::-1], 4: RAMP[::-1], 5: RAMP.T, 7: RAMP[::-1, ::-1].T}
    expected = mirrored.get(orientation, np.rot90(RAMP, turns.get(orientation, 0)))
    assert (load_one("x.png", data)[0].numpy() == expected).all()


def test_skipped_files_are_said_and_linked_folders_read(tmp_path):
    png = encode(np.zeros((8, 8, 3), np.uint8))
    root = tmp_path / TOP
    for name in (
        "a.png",
        "cat.png/b.PNG",
        ".ipynb_checkpoints/a-checkpoint.png",
        "__MACOSX/._a.png",
        "x.txt",
        "y.zip",
    ):
        put(root / name, png)
    put(root / ".DS_Store", b"")
    put(tmp_path / "elsewhere" / "deep" / "c.tif", encode(np.zeros((8, 8, 3), np.uint8), "TIFF"))
    if os.name != "nt":
        (root / "linked").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "again").symlink_to(root)
        (tmp_path / "elsewhere" / "up").symlink_to(tmp_path)
        (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.warns(UserWarning) as said:
        loaded = load_celeba64(root)
    assert len(loaded.images) == 3 and len(said) == 1
    for words in (
        "read 3 images",
        "skipped 5 files",
        "2 hidden: ",
        "-checkpoint.png",
        "1 of another type: img_align_celeba/x.txt",
        "y.zip",
        "1 link to nothing: img_align_celeba/gone.png",
    ):
        assert words in str(said[0].message)
    with pytest.raises(ImagesNotFound, match=r"holds no image .*another type: img_align_celeba/x\.txt"):
        put(tmp_path / "none" / TOP / "x.txt", b"")
        load_celeba64(tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_names_that_are_no_text(tmp_path):
    for top in ("img_align_celeba", "train/cat"):
        folder = os.fsencode(tmp_path / top)
        os.makedirs(folder)
        with open(folder + b"/caf\xe9.png", "wb") as file:
            file.write(encode(np.zeros((32, 32, 3), np.uint8)))
    assert len(load_celeba64(tmp_path).images) == 1
    with pytest.warns(UserWarning, match="1 of 50,000"):
        assert load_cifar10("train", tmp_path).labels.tolist() == [3]


def test_the_same_image_twice_is_refused(tmp_path):
    faces = {f"img_align_celeba/{i:06d}.png": encode(np.full((64, 64, 3), i, np.uint8)) for i in range(3)}
    for name in (
        "a/img_align_celeba.zip",
        "b/celeba/img_align_celeba.zip",
        "b/celeba/img_align_celeba (1).ZIP",
    ):
        write_zip(tmp_path / name, faces)
    for name, data in faces.items():
        put(tmp_path / "a" / name, data)
        put(tmp_path / "c" / name, data)
        put(tmp_path / "c" / name.replace("png", "bmp"), data)
    for root in "abc":
        with pytest.raises(
            ValueError, match=r"0000\d\d\.\w+ and .*0000\d\d\.\w+ are one image twice: delete one"
        ):
            load_celeba64(tmp_path / root)
    for one in ("a/img_align_celeba.zip", "a/img_align_celeba"):
        assert len(load_celeba64(tmp_path / one).images) == 3


def test_archives_that_cannot_be_unpacked_say_what_to_do(tmp_path):
    write_zip(
        tmp_path / "a.zip",
        {
            f"{TOP}/1.png": encode(np.zeros((8, 8, 3), np.uint8)),
            f"{TOP}/cat.png/": b"",
            f"{TOP}\\dog.png\\": b"",
            f"{TOP}/b.zip": b"",
        },
    )
    good = (tmp_path / "a.zip").read_bytes()
    with pytest.warns(UserWarning, match=r"archive .*b\.zip"):
        assert len(load_celeba64(tmp_path / "a.zip").images) == 1
    for name, offset, value in (("deflate64", 8, 9), ("lost", 8, 97), ("encrypted", 6, 1)):
        data = bytearray(good)
        for start, shift in ((data.find(b"PK\3\4"), 0), (data.find(b"PK\1\2"), 2)):
            data[start + offset + shift] = value
        (tmp_path / f"{name}.zip").write_bytes(data)
        with (
            pytest.warns(UserWarning),
            pytest.raises(ValueError, match=rf"{name}\.zip cannot be unpacked.*7-Zip"),
        ):
            load_celeba64(tmp_path / f"{name}.zip")
    put(tmp_path / "bomb.zip" / TOP / "bomb.png", saved(Image.new("1", (14_000, 14_000))))
    with pytest.raises(ValueError, match=r"bomb\.png cannot be decoded .*exceeds limit.*make it smaller"):
        load_celeba64(tmp_path / "bomb.zip")


class Bomb:
    """Unpickling it would fail the test."""

    def __reduce__(self):
        return pytest.fail, ("code from a pickle was executed",)


def test_a_batch_that_would_run_code_is_refused(tmp_path):
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        put(tmp_path / "cifar-10-batches-py" / name, pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="cifar-10-batches-py is not as published"):
        load_cifar10("train", tmp_path)


@pytest.mark.filterwarnings("ignore:cifar10 train, 12 of 50,000")
def test_layouts_of_others(tmp_path, arrays, known):
    expected = load_cifar10("train", write_folder(tmp_path / "tree", arrays))
    pngs = [encode(image) for image in arrays[0]]
    names = [f"{CIFAR10_CLASSES[label]}/{i}.png" for i, label in enumerate(arrays[1])]
    files = dict(zip(names, pngs, strict=True))
    for name, data in files.items():
        put(tmp_path / "kaggle" / "cifar10" / "cifar10" / "Train" / name, data)
    archive = {f"cifar10/train/{name}": data for name, data in files.items()}
    write_zip(tmp_path / "zip" / "archive.ZIP", archive)
    windows = {f"train/{name[:-4]}.PNG".replace("/", "\\"): data for name, data in files.items()}
    write_zip(tmp_path / "windows" / "TRAIN.zip", windows)
    for root in ("kaggle", "kaggle/cifar10", "zip", "zip/archive.ZIP", "windows", "tree/train"):
        assert same(load_cifar10("train", tmp_path / root), expected), root


def test_order_is_of_names_whatever_the_decoder(tmp_path, arrays):
    """One changed bit in each image, another format, a part of the set: each image keeps its place."""
    flipped = arrays[0] ^ (np.arange(N) % 2).astype(np.uint8)[:, None, None, None]
    for name, pixels in (("a", arrays[0]), ("b", flipped)):
        faces = {f"img_align_celeba/{i:06d}": np.tile(image, (2, 2, 1)) for i, image in enumerate(pixels)}
        suffix, kind = (".png", "PNG") if name == "a" else (".bmp", "BMP")
        write_zip(tmp_path / name / "celeba.zip", {f"{k}{suffix}": encode(v, kind) for k, v in faces.items()})
        for path, pixel in faces.items():
            put(tmp_path / f"{name} part" / f"{path}{suffix}", encode(pixel, kind))
        write_folder(tmp_path / f"{name} classes", (pixels, arrays[1]))
    for i in (1, 2, 5):
        (tmp_path / "b part" / "img_align_celeba" / f"{i:06d}.bmp").unlink()
    a, b, part = (load_celeba64(tmp_path / name).images for name in ("a", "b", "b part"))
    assert (a.int() - b.int()).abs().amax() == 1
    places = [int((b == image).flatten(1).all(1).nonzero()[0]) for image in part]
    assert len(part) == N - 3 and places == sorted(places)  # so a held-out tail holds no face of the rest
    with pytest.warns(UserWarning, match="not the complete and original train split"):
        a, b = (load_cifar10("train", tmp_path / f"{name} classes") for name in "ab")
    assert torch.equal(a.labels, b.labels) and (a.images.int() - b.images.int()).abs().amax() == 1
