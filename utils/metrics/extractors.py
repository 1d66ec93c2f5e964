"""Networks that turn images into features and class posteriors: each a named choice.

| name                 | features | posteriors     | weights                                   |
|----------------------|----------|----------------|-------------------------------------------|
| `inception`          | 2,048    | 1,008 ImageNet | 95 MB, got once; torch-fidelity runs it   |
| `efficientnet-lite0` | 1,280    | 1,000 ImageNet | installed from PyPI with the course       |
| `efficientnet-lite2` | 1,280    | 1,000 ImageNet | the same; has trained nothing here        |
| `cifar10-classifier` | 160      | 10 CIFAR-10    | committed, made by our own training code  |

A distance means something only beside the extractor that measured it, so `Extractor.name` says all that
changes the features. All networks run in float32: in bfloat16 the features of the same 1,500 images lie at a
Fréchet distance of 2.4 (EfficientNet-Lite0).
"""

import io
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.checkpoints import freeze, load_checkpoint, load_state_dict_file, sha256
from utils.config import cache_dir, inception_weights, offline, pick_device
from utils.images import download, to_unit
from utils.models.classifier import Classifier
from utils.models.efficientnet import load_efficientnet, require, weights_file

INCEPTION = "Inception-v3 (TensorFlow 2015)"
INCEPTION_URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


@dataclass(frozen=True)
class Extractor:
    """A frozen network with a name: what to print beside every number; equal names mean equal features.

    `network` maps uint8 images (n, 3, h, w) to features (n, feature_dim) and posteriors (n, k); `weights`
    identifies its weights, so that statistics made with others are noticed.
    """

    name: str
    feature_dim: int
    network: nn.Module
    weights: str

    def __post_init__(self) -> None:
        freeze(self.network)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def extract(self, images: Tensor, batch_size: int = 32) -> tuple[Tensor, Tensor]:
        """Features (n, d) in float32 and posteriors (n, k) of uint8 images (n, 3, h, w), on the CPU.

        Small batches are fastest on a CPU, where they stay in the cache; on a GPU take a few hundred. Raises
        as `check_images`, and ValueError for features of another number or not finite.
        """
        check_images(images)
        features, posteriors = [], []
        for batch in images.split(batch_size):
            batch = batch.to(self.device).contiguous(memory_format=torch.channels_last)
            f, p = self.network(batch)  # (b, d), (b, k)
            if f.shape != (len(batch), self.feature_dim):
                raise ValueError(f"{self.name} returned {tuple(f.shape)}, not (n, {self.feature_dim})")
            if not f.isfinite().all():
                raise ValueError(f"{self.name} returned features that are not finite")
            features.append(f.float().cpu())
            posteriors.append(p.cpu())
        return torch.cat(features), torch.cat(posteriors)


def check_images(images: Tensor) -> None:
    """Raise unless `images` are uint8 (n, 3, h, w) with n >= 1; warn where hardly an image can be meant."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8 in 0..255, not {images.dtype}: see utils.images.to_uint8")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images must be (n, 3, h, w) with n >= 1, not {tuple(images.shape)}")
    darkest, brightest = images.flatten(1).amin(1), images.flatten(1).amax(1)  # (n,)
    constant = int((darkest == brightest).sum())
    if 2 * constant > len(images):
        colour = "black" if brightest.max() == 0 else "of one grey"
        warnings.warn(f"{constant} of {len(images)} images are constant ({colour})", stacklevel=3)
    elif len(images) > 1 and darkest.min() >= 127:  # (0 + 1) 127.5
        warnings.warn("no pixel is darker than grey: were images in [0, 1] taken for [-1, 1]?", stacklevel=3)
    elif brightest.max() <= 1:
        warnings.warn("no pixel is above 1 of 255: were images in [0, 1] cast to uint8?", stacklevel=3)


class Cifar10Network(nn.Module):
    """Penultimate features and posteriors of a classifier that takes images (n, 3, 32, 32) in [-1, 1].

    Label smoothing makes the plain posteriors too flat; `temperature` divides the logits to calibrate them.
    """

    def __init__(self, classifier: nn.Module, temperature: float = 1.0):
        super().__init__()
        self.classifier, self.temperature = classifier, temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[2:] != (32, 32):
            raise ValueError(f"the CIFAR-10 classifier takes 32x32 images, not {tuple(images.shape[2:])}")
        features = self.classifier.features(to_unit(images))  # (n, d)
        return features, (self.classifier.classify(features) / self.temperature).softmax(dim=1)


def cifar10_classifier() -> Extractor:
    """The committed CIFAR-10 classifier: posteriors of the true classes, features tuned to this data set."""
    states, card = load_checkpoint("cifar10-classifier")
    classifier = Classifier(**card["architecture"])
    classifier.load_state_dict(states["classifier"])
    network = Cifar10Network(classifier, card["temperature"]).to(memory_format=torch.channels_last)
    return Extractor("CIFAR-10 classifier", classifier.feature_dim, network, card["sha256"][:16])


class EfficientNetNetwork(nn.Module):
    """Globally averaged features and ImageNet posteriors of images resized to `resolution` pixels."""

    def __init__(self, body: nn.Module, resolution: int):
        super().__init__()
        self.body, self.resolution = body, resolution

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        size = (self.resolution, self.resolution)
        x = F.interpolate(images.float(), size=size, mode="bicubic", antialias=True).clamp(0, 255)
        x = (x - 127) / 128  # (n, 3, resolution, resolution), the scale of the TensorFlow Lite original
        features = self.body.extract_features(x).mean(dim=(2, 3))  # (n, 1280)
        return features, self.body._fc(features).softmax(dim=1)  # (n, 1000)


def efficientnet(variant: str = "lite0", resolution: int = 128) -> Extractor:
    """EfficientNet-Lite (Tan and Le, 2019), "lite0" or its relative "lite2", at `resolution` pixels.

    At 224 pixels, as Lite0 was trained, an image costs four times as much as at 128, where its features still
    tell the classes of CIFAR-10 apart: a logistic regression on 2,000 training images gets 84 % of 1,000 test
    images right, against 87 % at 224, 80 % at 96, 67 % at 64 and 45 % at 32 pixels.
    """
    network = EfficientNetNetwork(load_efficientnet(variant, resolution), resolution)
    name = f"EfficientNet-{variant.capitalize()} at {resolution} px"
    return Extractor(name, 1280, network, weights_file(variant).stem)


class InceptionNetwork(nn.Module):
    """Pool3 features (n, 2048) and posteriors (n, 1008), for which the original score drops the biases."""

    def __init__(self, make: type[nn.Module], weights: Path):
        super().__init__()
        tensors = io.BytesIO()  # torch-fidelity unpickles what it is given: this holds tensors alone
        torch.save(load_state_dict_file(weights), tensors)
        tensors.seek(0)
        self.body = make("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=tensors)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.body(images)
        return features, logits.softmax(dim=1)


def find_inception_weights() -> Path:
    """The file `COURSE_INCEPTION_WEIGHTS`, else the course's own, downloaded once unless `COURSE_OFFLINE=1`.

    Raises FileNotFoundError, with remedies, where the weights cannot be had, ValueError for other weights.
    """
    named = inception_weights()
    path = named or cache_dir() / Path(INCEPTION_URL).name
    if not path.is_file():
        try:
            if named or offline():
                raise OSError("COURSE_INCEPTION_WEIGHTS names no file" if named else "COURSE_OFFLINE is set")
            download(INCEPTION_URL, path, INCEPTION_SHA256)
        except OSError as error:
            raise FileNotFoundError(
                f"the Inception-v3 weights are not on this machine ({error}). Either\n"
                f"  - save {INCEPTION_URL} as {path}, or set COURSE_INCEPTION_WEIGHTS to that file,\n"
                "  - or, with network access, unset COURSE_OFFLINE: it is downloaded once,\n"
                "  - or measure with get_extractor('efficientnet-lite0'), which needs no download."
            ) from error
    if sha256(path) != INCEPTION_SHA256:
        raise ValueError(
            f"{path} is damaged or holds other weights: its sha256 is not {INCEPTION_SHA256}. torchvision's "
            f"own Inception weights do not serve: their distances are on another scale. Get {INCEPTION_URL}"
        )
    return path


def inception_v3() -> Extractor:
    """The Inception-v3 of the FID and IS literature (Szegedy et al., 2015; Heusel et al., 2017).

    Weights, wiring, resizing and scaling are those of the TensorFlow graph `inception-2015-12-05`, as
    torch-fidelity ports them: numbers compare with published ones. torchvision's own weights, which torcheval
    takes by default, give distances on another scale. Raises ImportError without torch-fidelity, else as
    `find_inception_weights`.
    """
    port = require("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity")
    network = InceptionNetwork(port.FeatureExtractorInceptionV3, find_inception_weights())
    return Extractor(INCEPTION, 2048, network, INCEPTION_SHA256[:16])


EXTRACTORS = {
    "inception": inception_v3,
    "efficientnet-lite0": partial(efficientnet, "lite0"),
    "efficientnet-lite2": partial(efficientnet, "lite2"),
    "cifar10-classifier": cifar10_classifier,
}


def get_extractor(name: str, device: torch.device | str | None = None) -> Extractor:
    """The extractor called `name`, on `device` (default: `pick_device()`); ValueError for an unknown name."""
    if name not in EXTRACTORS:
        raise ValueError(f"extractor {name!r} is unknown; choose one of {', '.join(EXTRACTORS)}")
    extractor = EXTRACTORS[name]()
    extractor.network.to(device or pick_device())
    return extractor
