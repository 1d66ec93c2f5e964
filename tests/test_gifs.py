"""Animations: arguments reach the scenes, files loop, hold their last frame and keep their frame times."""

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gifs import __main__ as gifs
from gifs import common
from utils import animation, zoo
from utils.adapters import as_generator
from utils.animation import animate_chains, frame_steps, write_animation
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.energy import Prior
from utils.models import build_gan


class Stretch(nn.Module):
    """z (n, 2) -> points 2 z."""

    latent_dim = 2

    def forward(self, z):
        return 2 * z


class Picture(nn.Module):
    """z (n, 3) -> flat images (n, channels, 4, 4) of brightness tanh z_1."""

    latent_dim = 3

    def __init__(self, channels=3):
        super().__init__()
        self.channels = channels

    def forward(self, z):
        return torch.tanh(z[:, 0])[:, None, None, None].expand(-1, self.channels, 4, 4)


def logit(x):
    return -x.flatten(1).square().sum(1)


def gif_of(path):
    """(frames, their times in ms, the loop count) of a GIF."""
    with Image.open(path) as gif:
        frames, times = [], []
        for i in range(gif.n_frames):
            gif.seek(i)
            frames.append(np.asarray(gif.convert("RGB")).copy())
            times.append(gif.info["duration"])
        return frames, times, gif.info["loop"]


def mp4_of(path):
    """(frames, frames a second) of a video."""
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    w, h = meta["size"]
    return [np.frombuffer(frame, np.uint8).reshape(h, w, 3) for frame in reader], meta["fps"]


def shades(n, height=24, width=40):
    return [np.full((height, width, 3), 40 + 20 * i, np.uint8) for i in range(n)]


# ---------------------------------------------------------------------------------------------- files


def test_mp4_keeps_frame_times_and_repeats_its_last_frame(tmp_path):
    path = write_animation(shades(6), tmp_path / "a.mp4", milliseconds=100, hold=500)
    frames, fps = mp4_of(path)
    assert fps == 10 and len(frames) == 5 + 5
    for i, frame in enumerate(frames):
        assert abs(float(frame.mean()) - (40 + 20 * min(i, 5))) < 3


def test_mp4_of_odd_sides_is_padded_by_white(tmp_path):
    frames, _ = mp4_of(write_animation(shades(3, 23, 41), tmp_path / "a.mp4", milliseconds=100, hold=100))
    assert len(frames) == 3 and frames[0].shape == (24, 42, 3)


def test_mp4_without_ffmpeg_says_what_to_do(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(RuntimeError, match="No ffmpeg"):
        write_animation(shades(2), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_gif_that_is_too_large_loses_colours_not_frames(tmp_path, monkeypatch):
    noise = np.random.default_rng(0)
    frames = [noise.integers(0, 256, (40, 40, 3), np.uint8) for _ in range(5)]
    full = write_animation(frames, tmp_path / "full.gif").stat().st_size
    monkeypatch.setattr(animation, "MAX_BYTES", int(0.7 * full))
    small = write_animation(frames, tmp_path / "small.gif")
    assert small.stat().st_size <= 0.7 * full and len(gif_of(small)[0]) == 5
    with pytest.raises(ValueError, match=r"none\.gif: .*fewer or smaller frames"):
        monkeypatch.setattr(animation, "MAX_BYTES", 100)
        write_animation(frames, tmp_path / "none.gif")


def test_other_endings_and_mixed_sizes_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"\.gif or \.mp4"):
        write_animation(shades(2), tmp_path / "a.webp")
    with pytest.raises(ValueError, match="different shapes"):
        write_animation([*shades(1), *shades(1, 30)], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="empty"):
        write_animation([], tmp_path / "a.mp4")


def test_frames_are_even_and_reach_both_ends():
    assert frame_steps(60, 21) == list(range(0, 61, 3))
    assert frame_steps(10, 4) == [0, 3, 7, 10]
    assert frame_steps(2, 50) == [0, 1, 2]
    with pytest.raises(ValueError, match="n_frames=1"):
        frame_steps(10, 1)
    with pytest.raises(ValueError, match="n_steps=0"):
        frame_steps(0, 3)


# ------------------------------------------------------------------------------------ chains of any GAN


def test_chains_of_points_loop_hold_and_repeat(tmp_path):
    settings = {"step_size": [0.01, 0.1], "n_steps": 6, "n_frames": 4, "n_chains": 40, "size": 100}
    path = animate_chains(Stretch().eval(), logit, tmp_path / "a.gif", milliseconds=70, hold=900, **settings)
    frames, times, loop = gif_of(path)
    assert len(frames) == 4 and times == [70, 70, 70, 900] and loop == 0
    assert frames[0].shape == (118, 210, 3)  # a caption, and two panels with a gap
    assert np.array_equal(frames[0][18:, :100], frames[0][18:, 110:])  # the same starts
    assert not np.array_equal(frames[3][18:, :100], frames[3][18:, 110:])
    again = animate_chains(Stretch().eval(), logit, tmp_path / "b.gif", milliseconds=70, hold=900, **settings)
    assert path.read_bytes() == again.read_bytes()
    other = animate_chains(Stretch().eval(), logit, tmp_path / "c.gif", seed=1, **settings)
    assert not np.array_equal(gif_of(other)[0][0], frames[0])


@pytest.mark.parametrize("channels", [1, 3])
def test_chains_of_images_are_a_grid(tmp_path, channels):
    settings = {"n_steps": 4, "n_frames": 3, "n_chains": 6, "size": 80}
    frames, _, _ = gif_of(animate_chains(Picture(channels).eval(), logit, tmp_path / "a.gif", **settings))
    assert len(frames) == 3
    assert frames[0].shape == (18 + 11 * 4, 21 * 4, 3)  # 2 x 4 tiles of 4 pixels with a border, zoom 4


def test_starts_are_those_of_the_prior_that_a_generator_brings(tmp_path):
    seen, G = [], Stretch().eval()
    G.prior = Prior(lambda n, g: torch.full((n, 2), 0.5))
    animate_chains(G, lambda x: seen.append(x) or logit(x), tmp_path / "a.gif", n_steps=3, size=40)
    assert torch.equal(seen[0], torch.ones(16, 2)) and len(seen[-1]) == 1000


def test_errors_of_a_readers_gan_name_the_argument(tmp_path):
    with pytest.raises(ValueError, match="has no latent_dim"):
        animate_chains(lambda z: z, logit, tmp_path / "a.gif")
    with pytest.raises(ValueError, match="can be drawn"):
        animate_chains(as_generator(lambda z: 1 * z, 5), logit, tmp_path / "a.gif", n_steps=1)
    with pytest.raises(ValueError, match="G is in training mode"):
        animate_chains(Stretch(), logit, tmp_path / "a.gif")
    with pytest.raises(ValueError, match="step_size"):
        animate_chains(Stretch().eval(), logit, tmp_path / "a.gif", step_size=0.0)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------- command


@pytest.fixture
def recorded(monkeypatch):
    """Scenes replaced by ones of the same signature that only record their settings."""
    calls = {}

    def replacement(name, scene):
        def record(folder, **settings):
            calls[name] = settings
            folder.mkdir(exist_ok=True)
            (folder / name).touch()
            return folder / name

        record.__doc__ = scene.__doc__
        record.__signature__ = gifs.inspect.signature(scene)
        return record

    monkeypatch.setattr(gifs, "SCENES", {name: replacement(name, s) for name, s in gifs.SCENES.items()})
    return calls


def test_without_arguments_every_scene_is_made_from_its_defaults(recorded, tmp_path):
    gifs.main(["--folder", str(tmp_path)])
    assert recorded == {
        name: {} for name in ("logit", "valleys", "ebgan", "gaussians", "swiss-roll", "cifar10", "celeba")
    }


def test_options_reach_the_scenes(recorded, tmp_path):
    options = "--steps 9 --frames 4 --size 300 --seed 2 --checkpoint x-gan --logit raw --format mp4"
    gifs.main(["cifar10", "celeba", "--folder", str(tmp_path), *options.split()])
    expected = {"n_steps": 9, "n_frames": 4, "size": 300, "seed": 2, "checkpoint": "x-gan", "logit": "raw"}
    assert recorded == {name: expected | {"extension": "mp4"} for name in ("cifar10", "celeba")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "choose from logit"),
        (["ebgan", "--checkpoint", "x"], "ebgan has no --checkpoint; it has --steps"),
        (["cifar10", "--steps", "0"], "--steps 0 must be at least 1"),
        (["cifar10", "--format", "avi"], "invalid choice"),
    ],
)
def test_bad_options_are_named(recorded, arguments, message, capsys):
    with pytest.raises(SystemExit):
        gifs.main(arguments)
    assert message in capsys.readouterr().err
    assert recorded == {}


def test_list_names_scenes_and_options_and_makes_nothing(recorded, capsys):
    gifs.main(["--list"])
    out = capsys.readouterr().out
    assert all(f"{name}: " in out for name in gifs.SCENES) and "--checkpoint --logit --format" in out
    assert recorded == {}


def test_any_image_gan_renders_with_its_logit(tmp_path, monkeypatch):
    architecture = {"family": "dcgan", "latent_dim": 8, "g_width": 4, "d_width": 4, "image_size": 64}
    torch.manual_seed(0)
    G, D = build_gan(**architecture)
    save_checkpoint("tiny-gan", {"G": G}, {"architecture": architecture}, tmp_path)
    monkeypatch.setattr(zoo, "load_checkpoint", lambda name: load_checkpoint(name, tmp_path))
    monkeypatch.setattr(common, "load_logit", lambda kind, name: D.eval())
    path = gifs.celeba(tmp_path, n_steps=2, n_frames=2, checkpoint="tiny-gan")
    frames, _, loop = gif_of(path)
    assert path.name == "celeba_chains.gif" and len(frames) == 2 and loop == 0
    assert path.stat().st_size <= animation.MAX_BYTES
    assert frames[0].shape == (18 + 3 * 65 + 1, 3 * 261 + 20, 3)


def test_scene_of_the_plane_takes_any_stored_gan(tmp_path):
    with pytest.raises(ValueError, match="imperfect-0"):
        gifs.SCENES["gaussians"](tmp_path, checkpoint="imperfect")
    with pytest.raises(ValueError, match="seed=9"):
        gifs.SCENES["swiss-roll"](tmp_path, checkpoint="good-9")
