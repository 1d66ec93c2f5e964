"""GIFs: frames, times and loop as asked; grids and captions of the right size."""

import numpy as np
import pytest
import torch
from PIL import Image

from gifs.common import map_frame
from utils.animation import (
    animate_chains,
    as_frames,
    draw_points,
    side_by_side,
    with_caption,
    write_animation,
)
from utils.plotting import image_grid


def moving_square(n: int) -> list[np.ndarray]:
    frames = [np.full((24, 40, 3), 255, np.uint8) for _ in range(n)]
    for i, frame in enumerate(frames):
        frame[4:12, 2 * i : 2 * i + 8] = (200, 30, 90)
    return frames


def test_gif_has_all_frames_their_times_and_loops_forever(tmp_path):
    frames = moving_square(7)
    path = write_animation(frames, tmp_path / "a.gif", milliseconds=70, hold=900)
    with Image.open(path) as gif:
        assert gif.n_frames == 7
        assert gif.info["loop"] == 0
        times = []
        for i, frame in enumerate(frames):
            gif.seek(i)
            times.append(gif.info["duration"])
            shown = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(shown - frame).max() <= 8  # the palette holds these two colours
    assert times == [70] * 6 + [900]


def test_no_frames_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="frames"):
        write_animation([], tmp_path / "a.gif")


def test_caption_and_panels_have_the_expected_size():
    frame = np.zeros((30, 50, 3), np.uint8)
    captioned = with_caption(frame, "step 1", height=18)
    assert captioned.shape == (48, 50, 3) and (captioned[18:] == frame).all()
    assert captioned[:18].min() < 128  # there is ink
    assert side_by_side([frame, frame], gap=10).shape == (30, 110, 3)


def test_grid_places_images_row_by_row():
    images = torch.stack([torch.full((3, 2, 2), v) for v in (-1.0, 0.0, 1.0)])
    grid = image_grid(images, columns=2, pad=1)
    assert grid.shape == (7, 7, 3)
    assert (grid[1:3, 1:3] == 0).all() and (grid[1:3, 4:6] == 128).all() and (grid[4:6, 1:3] == 255).all()
    assert image_grid(torch.full((1, 3, 1, 1), 9.0), pad=0).max() == 255  # clamped, not wrapped


def test_points_land_where_they_belong_and_the_background_stays():
    background = np.full((40, 40, 3), 255, np.uint8)
    points = np.array([[0.0, 0.0], [-0.9, 0.9], [5.0, 5.0]])  # centre, upper left, outside
    frame = draw_points(background, points, extent=1.0, colour="#102030")
    assert (background == 255).all()
    inked = (frame == [0x10, 0x20, 0x30]).all(2)
    assert inked.sum() == 2 * 9
    assert inked[20, 20] and inked[2, 2]


def test_points_at_the_border_are_cut_not_wrapped():
    frame = draw_points(np.zeros((20, 20, 3), np.uint8), np.array([[0.999, -0.999]]), 1.0, "#ffffff")
    assert (frame == 255).all(2).sum() == 4 and frame[19, 19].all() and not frame[0].any()


def test_map_frame_has_the_first_row_below_and_survives_a_constant():
    values = np.zeros((4, 4))
    values[0] = 1.0  # the lowest row is dark in "Greys"
    frame = map_frame(values, side=40)
    assert frame.shape == (40, 40, 3) and frame.dtype == np.uint8
    assert frame[-3].mean() < 130 and frame[3].mean() > 240  # pale: it lies under points
    assert (map_frame(np.ones((4, 4)), 8) == map_frame(np.zeros((4, 4)), 8)).all()


# -- frames of other kinds: the same file as the uint8 ones, or a ValueError that names it --------------

A, B = (np.random.default_rng(i).integers(0, 256, (16, 24, 3), np.uint8) for i in range(2))
SAME = {
    "floats in [0, 1]": lambda x: x / 255,
    "floats in [0, 255]": lambda x: x.astype(np.float32),
    "int64": lambda x: x.astype(np.int64),
    "tensors": torch.from_numpy,
    "opaque RGBA": lambda x: np.dstack([x, np.full(x.shape[:2], 255, np.uint8)]),
    "float RGBA": lambda x: np.dstack([x / 255, np.ones(x.shape[:2])]),
}


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_frames_that_mean_the_same_make_the_same_file(kind, ending, tmp_path):
    expected = write_animation([A, B], tmp_path / f"a.{ending}").read_bytes()
    assert write_animation([SAME[kind](A), SAME[kind](B)], tmp_path / f"b.{ending}").read_bytes() == expected


def test_grey_bool_alpha_and_one_array():
    grey = A[..., 0]
    for frames in ([grey], [grey[..., None]], grey[None], (grey for _ in range(1))):
        (picture,) = as_frames(frames)
        assert picture.shape == (16, 24, 3) and all((picture[..., c] == grey).all() for c in range(3))
    assert (as_frames([A > 100])[0] == 255 * (A > 100)).all()
    clear = np.dstack([A, np.zeros(A.shape[:2], np.uint8)])
    assert (as_frames([clear])[0] == 255).all()  # what cannot be seen is white, as the page
    half = as_frames([np.dstack([A, np.full(A.shape[:2], 51, np.uint8)])])[0]
    assert np.abs(half - (0.2 * A + 0.8 * 255)).max() <= 0.5
    assert all((x == y).all() for x, y in zip(as_frames(np.stack([A, B])), (A, B), strict=True))


@pytest.mark.parametrize(
    "frames, message",
    [
        ([A / 127.5 - 1], r"float64 from -1.0 to 1.0"),
        ([A / 255 * 1.5], r"from 0.0 to 1.5"),
        ([A / 0.5], "to 510"),
        ([A.astype(int) - 3], "int64 from -3"),
        ([np.full((4, 4, 3), np.nan)], "nan"),
        ([A.astype(complex)], "complex128"),
        ([np.array([["a"] * 3] * 4)], "shape|U"),
        ([A.transpose(2, 0, 1)], r"shape \(3, 16, 24\)"),
        (A, r"shape \(24, 3\); give a list of pictures"),
        ([A[:, :, :2]], r"shape \(16, 24, 2\)"),
        ([A[:0]], r"shape \(0, 24, 3\)"),
        ([A, B[:8]], "different shapes"),
        ([], "empty"),
    ],
)
@pytest.mark.parametrize("ending", ["gif", "MP4"])
def test_frames_that_are_no_pictures_are_named(frames, message, ending, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_animation(frames, tmp_path / f"a.{ending}")
    assert list(tmp_path.iterdir()) == []


def test_one_frame_and_frames_alike_keep_their_time(tmp_path):
    for frames, total in (([A], 900), ([A, A, A], 1060), ([A, B, B], 1060)):
        with Image.open(write_animation(frames, tmp_path / "a.GIF", 80, 900)) as gif:
            times = []
            for i in range(gif.n_frames):
                gif.seek(i)
                times.append(gif.info["duration"])
        assert sum(times) == total
    with pytest.raises(ValueError, match="alike stay longer"):
        write_animation([A] * 3, tmp_path / "b.gif", 300_000, 300_000)


@pytest.mark.parametrize("name", ["milliseconds", "hold"])
@pytest.mark.parametrize(
    "ending, value", [*(("gif", v) for v in (19, 5, 0, -80, 655_360, np.nan)), ("mp4", 0), ("mp4", -80)]
)
def test_times_that_a_format_cannot_keep_are_refused(name, ending, value, tmp_path):
    with pytest.raises(ValueError, match=f"{name}={value} must lie between"):
        write_animation([A, B], tmp_path / f"a.{ending}", **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_a_time_between_two_units_is_said(tmp_path):
    with pytest.warns(UserWarning, match="milliseconds=33.3 becomes 30"):
        write_animation([A, B], tmp_path / "a.gif", milliseconds=33.3)


# -- a stranger's generator is looked at before its chains run ------------------------------------------


class Counting(torch.nn.Module):
    latent_dim = 4

    def __init__(self, shape, change):
        super().__init__()
        self.layer, self.shape, self.change, self.calls = torch.nn.Linear(4, 12), shape, change, 0

    def forward(self, z):
        self.calls += 1
        return self.change(self.layer(z)).view(len(z), *self.shape)


def brightness(x):
    return x.nan_to_num().flatten(1).mean(1)


@pytest.mark.parametrize(
    "shape, change, settings, message",
    [
        ((4, 3, 1), torch.tanh, {}, r"shape \(16, 4, 3, 1\)"),
        ((3, 2, 2), lambda x: 255 * torch.sigmoid(x), {}, r"lie between .* scale them to \[-1, 1\]"),
        ((3, 2, 2), lambda x: x * torch.nan, {}, "not finite"),
        ((3, 2, 2), torch.tanh, {"path": "a.webp"}, "must end in"),
        ((3, 2, 2), torch.tanh, {"milliseconds": 5}, "milliseconds=5"),
        ((3, 2, 2), torch.tanh, {"hold": 700_000}, "hold=700000"),
        ((3, 2, 2), torch.tanh, {"n_chains": 0}, "n_chains=0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_chains_run(shape, change, settings, message, tmp_path):
    G = Counting(shape, change).eval()
    path = tmp_path / settings.pop("path", "a.gif")
    with pytest.raises(ValueError, match=message):
        animate_chains(G, brightness, path, n_steps=20, **settings)
    assert G.calls <= 4 and list(tmp_path.iterdir()) == []  # the door looks, no chain has run


def test_images_in_the_unit_interval_are_noticed(tmp_path):
    with pytest.warns(UserWarning, match=r"images lie between 0\.\d+ and 0\.\d+, not \[-1, 1\]"):
        animate_chains(Counting((3, 2, 2), torch.sigmoid).eval(), brightness, tmp_path / "a.gif", n_steps=2)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda z: (z, z), "G returned a tuple"),
        (
            lambda z: torch.nn.functional.conv_transpose2d(z, torch.ones(4, 3, 4, 4)),
            "G cannot take z of shape",
        ),
    ],
)
def test_what_a_generator_cannot_take_or_returns_is_named_before_the_chains(tmp_path, forward, message):
    class G(torch.nn.Module):
        latent_dim = 4

        def forward(self, z):
            return forward(z)

    with pytest.raises(ValueError, match=message):
        animate_chains(G().eval(), lambda x: x.flatten(1).sum(1), tmp_path / "a.gif", n_steps=2)
