"""GIFs: frames, times and loop as asked; grids and captions of the right size."""

import numpy as np
import pytest
import torch
from PIL import Image

from utils.animation import draw_points, map_frame, side_by_side, with_caption, write_gif
from utils.plotting import image_grid, to_pixels


def moving_square(n: int) -> list[np.ndarray]:
    frames = [np.full((24, 40, 3), 255, np.uint8) for _ in range(n)]
    for i, frame in enumerate(frames):
        frame[4:12, 2 * i : 2 * i + 8] = (200, 30, 90)
    return frames


def test_gif_has_all_frames_their_times_and_loops_forever(tmp_path):
    frames = moving_square(7)
    path = write_gif(frames, tmp_path / "a.gif", milliseconds=70, hold=900)
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
        write_gif([], tmp_path / "a.gif")


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
    assert to_pixels(torch.full((1, 3, 1, 1), 9.0)).max() == 255  # clamped, not wrapped


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
    assert frame[-3].mean() < 60 and frame[3].mean() > 200
    assert (map_frame(np.ones((4, 4)), 8) == map_frame(np.zeros((4, 4)), 8)).all()
