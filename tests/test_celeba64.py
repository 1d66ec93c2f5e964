"""The faces' checkpoints, study and detector: what is stored, and what its claims rest on."""

import math

import pytest
import torch

from data.recipes import face_detector
from data.recipes.image_study import FACES, networks, ula_chains
from utils import images as image_room
from utils.checkpoints import read_card
from utils.config import CHECKPOINTS
from utils.density_ratio import CoarseLogit
from utils.images import ImageSet
from utils.studies import read
from utils.zoo import load_gan, load_logit, new_logit


def test_generator_is_small_and_its_log_ratios_are_held_out_and_scaled():
    G = load_gan(FACES)
    x = G(torch.randn(4, G.latent_dim, generator=torch.Generator().manual_seed(0)))
    assert x.shape == (4, 3, 64, 64) and x.abs().max() <= 1
    sizes = (path.stat().st_size for path in CHECKPOINTS.glob(f"{FACES}*.safetensors"))
    assert sum(sizes) < 10e6
    card = read_card(f"{FACES}-logits")
    assert FACES in card["task"] and card["chosen"] in card["logits"]
    for kind, entry in card["logits"].items():
        assert entry["loss"] < math.log(2) and entry["logit_fake"] < entry["logit_real"]
        assert entry["loss"] < entry["raw_loss"] + 0.01 and entry["calibration_error"] < 0.03
        assert load_logit(kind, FACES)(x).shape == (4,)


def test_study_is_of_the_stored_checkpoints_and_the_detector_passes_its_own_test():
    rows = read("image/celeba64")
    sums = {row["settings"]["logits"]["sha256"] for row in rows.values()}
    assert sums == {read_card(f"{FACES}-logits")["sha256"]}
    found = {}
    for row in rows.values():
        assert row["settings"]["detector"] == face_detector.DETECTOR
        if row["settings"]["part"] == "detector":
            found.setdefault(row["settings"]["method"], []).append(row["result"]["faces"])
    share = {method: sum(values) / len(values) for method, values in found.items()}
    assert share["CIFAR-10 test"] < 0.05 and share["real test"] > 0.8  # it knows a face from none
    assert share["generator"] > 0.8 * share["real test"]


def test_marks_of_one_run_are_starts_and_chains_of_the_same_noise():
    kind = read_card(f"{FACES}-logits")["chosen"]
    gan, seeded = networks(FACES, kind), torch.Generator().manual_seed
    few, more = (ula_chains(gan, 2, seeded(3), step_size=0.05, n_steps=n) for n in (2, 4))
    again = ula_chains(gan, 2, seeded(3), step_size=0.05, n_steps=2)
    assert torch.equal(few.z, again.z) and not torch.equal(few.z, more.z)
    assert (few.gradients, more.gradients) == (4, 8)


def test_detector_without_its_package_names_it(monkeypatch):
    face_detector._cascade.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(ImportError, match="opencv-python-headless<5"):
        face_detector.has_face(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    face_detector._cascade.cache_clear()


def test_coarse_logit_sees_block_means_only():
    coarse = CoarseLogit(new_logit(width=16), 4).eval()
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    blocks = x.unflatten(3, (16, 4)).unflatten(2, (16, 4)).mean((3, 5))  # (3, 3, 16, 16)
    flat = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.allclose(coarse(x), coarse(flat), atol=1e-5) and coarse(x).shape == (3,)
    assert not torch.allclose(coarse(x), coarse(x.flip(2)), atol=1e-5)


def test_split_holds_the_last_images_out(monkeypatch):
    images = torch.arange(10_004, dtype=torch.int32).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    monkeypatch.setattr(image_room, "load_celeba64", lambda **_: ImageSet(images, None, "numbers"))
    train, test = (image_room.load_faces(split).images[:, 0, 0, 0] for split in ("train", "test"))
    assert train.tolist() == [0, 1, 2, 3] and len(test) == 10_000 and test[0] == 4
    with pytest.raises(ValueError, match="split='valid'"):
        image_room.load_faces("valid")
    monkeypatch.setattr(image_room, "load_celeba64", lambda **_: ImageSet(images[:9], None, "few"))
    with pytest.raises(ValueError, match="found 9 faces"):
        image_room.load_faces("train")
