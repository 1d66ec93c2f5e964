"""The classifier of the image metrics: its shapes, its training step, and its committed checkpoint."""

import pytest
import torch

from data.recipes import cifar10_classifier as recipe
from data.recipes.cifar10_classifier import augment, best_temperature, make_optimizer, predict, train_step
from utils.checkpoints import freeze, load_checkpoint
from utils.config import CHECKPOINTS
from utils.images import ImageSet, load_cifar10
from utils.models.classifier import Classifier

NAME = "cifar10-classifier"


@pytest.fixture(autouse=True)
def one_thread():
    """For networks this small, threads wait for each other far longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def images():
    return torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pretrained():
    states, card = load_checkpoint(NAME)
    model = Classifier(**card["architecture"])
    model.load_state_dict(states["classifier"])
    return freeze(model)


def test_features_feed_the_head():
    model = freeze(Classifier(width=4, n_classes=7))
    x = torch.randn(3, 3, 32, 32)
    features = model.features(x)
    assert features.shape == (3, model.feature_dim) == (3, 10)
    assert model(x).shape == (3, 7)
    torch.testing.assert_close(model(x), model.head(features) / 8)


def test_first_layer_whitens_patches():
    model = Classifier(width=4)
    x = torch.randn(64, 3, 32, 32).cumsum(dim=3) / 6  # neighbours are strongly correlated
    model.whiten_patches(x)
    patches = model.whiten(x)[:, :12].permute(1, 0, 2, 3).flatten(1)  # (12, 64 * 31 * 31)
    torch.testing.assert_close(patches.cov(), torch.eye(12), atol=0.02, rtol=0)


def test_training_lowers_the_loss_and_leaves_the_whitening(images):
    torch.manual_seed(0)
    model = Classifier(width=8)
    x, labels = images / 127.5 - 1, torch.arange(8)
    model.whiten_patches(x)
    before = model.whiten.weight.clone()
    optimizer = make_optimizer(model)
    losses = [train_step(model, optimizer, x, labels).item() for _ in range(10)]
    assert losses[-1] < losses[0] - 0.2
    assert torch.equal(model.whiten.weight, before)


def test_augmentation_only_flips_and_shifts(images):
    x = augment(images, torch.Generator().manual_seed(0))  # (8, 3, 32, 32)
    for image, original in zip(x, images / 127.5 - 1, strict=True):
        inner = image[:, 2:-2, 2:-2]
        views = [
            view[:, i : i + 28, j : j + 28]
            for view in (original, original.flip(2))
            for i in range(5)
            for j in range(5)
        ]
        assert any(torch.allclose(inner, view) for view in views)


def test_temperature_undoes_a_scale_of_the_logits():
    logits = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert best_temperature((1.5 * logits).log_softmax(1), labels) == pytest.approx(1.5, abs=0.06)


def test_interrupted_run_resumes_exactly(monkeypatch, tmp_path):
    pixels = torch.randint(
        256, (512, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    data = ImageSet(pixels, torch.arange(512) % 10, "noise")
    saved, steps = [], []
    monkeypatch.setattr(recipe, "load_cifar10", lambda split: data)
    monkeypatch.setattr(recipe, "RUNS", tmp_path)

    def save(name, modules, card):
        saved.append((modules["classifier"].state_dict(), card))
        return tmp_path / name

    def interrupted_step(*args):
        steps.append(1)
        if len(steps) == 4:  # in the second epoch of two steps
            raise KeyboardInterrupt
        return train_step(*args)

    monkeypatch.setattr(recipe, "save_checkpoint", save)
    arguments = ["--epochs", "2", "--width", "2"]
    recipe.main(arguments)
    (tmp_path / "cifar10-classifier" / "state.pt").unlink()
    monkeypatch.setattr(recipe, "train_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        recipe.main(arguments)
    recipe.main(arguments)
    assert len(steps) == 4 + 2
    (whole, card), (resumed, _) = saved
    assert card["architecture"] == {"width": 2, "n_classes": 10}
    for key in whole:
        torch.testing.assert_close(resumed[key], whole[key])
    with pytest.raises(
        SystemExit, match=r"state\.pt was made with .*'width': 2.* use the same, or delete it"
    ):
        recipe.main(["--epochs", "2", "--width", "4"])


def test_committed_checkpoint_is_small_and_accurate(pretrained):
    _, card = load_checkpoint(NAME)
    assert (CHECKPOINTS / f"{NAME}.safetensors").stat().st_size <= 3_000_000
    assert card["metrics"]["test_accuracy"] >= 0.91
    assert card["metrics"]["n_test"] == 10_000


def test_committed_checkpoint_on_test_images(pretrained, image_source):
    if image_source is None:
        pytest.skip("CIFAR-10 is not available here")
    test = load_cifar10("test", source=image_source)
    prediction = predict(pretrained, test.images[:1000]).argmax(dim=1)
    assert (prediction == test.labels[:1000]).float().mean() > 0.88
