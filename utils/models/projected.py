"""Projected GAN (Sauer et al., 2021): discriminators that look through a frozen ImageNet network.

The features are there before training starts: four maps of a frozen EfficientNet-Lite0, mixed by fixed random
convolutions so that no head can ignore most of them. One small head a scale judges patches. The generator is
a light one after FastGAN (Liu et al., 2021). The output is no log density ratio (notebook 11): the d of DDLS
is fitted afterwards, with G frozen.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.models.efficientnet import block_maps, load_efficientnet
from utils.models.layers import check_size, normalise_spectrally

RESOLUTION = 96  # side to which images are resized before the frozen network
TAPS = {2: 24, 4: 40, 10: 112, 15: 320}  # blocks after which maps are taken -> their channels
MIXED = (64, 64, 128, 128)  # channels of the maps after random mixing, fine to coarse
GRID = 6  # each head judges GRID x GRID patches


class GatedUp(nn.Module):
    """(n, c, s, s) -> (n, c', 2s, 2s): transposed convolution, batch norm, gated linear unit."""

    def __init__(self, inside: int, outside: int, stride: int = 2, padding: int = 1):
        super().__init__()
        self.conv = nn.ConvTranspose2d(inside, 2 * outside, 4, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(2 * outside)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.norm(self.conv(x)), dim=1)  # a * sigmoid(b) for the two halves a, b of the channels


class SkipExcitation(nn.Module):
    """Scale the channels of a fine map by a coarse 4 x 4 map: a shortcut for gradients, almost free."""

    def __init__(self, coarse: int, fine: int):
        super().__init__()
        first, second = nn.Conv2d(coarse, fine, 4), nn.Conv2d(fine, fine, 1)
        self.gate = nn.Sequential(first, nn.SiLU(), second, nn.Sigmoid())

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return fine * self.gate(coarse)  # (n, fine, 1, 1) times (n, fine, s, s)


class ProjectedGenerator(nn.Module):
    """z (n, latent_dim) -> images (n, 3, image_size, image_size) in [-1, 1], a function of z alone."""

    def __init__(self, latent_dim: int = 128, width: int = 64, image_size: int = 32):
        super().__init__()
        self.latent_dim = latent_dim
        # 32 px: 4w, 3w, 2w, w at 4, 8, 16, 32 pixels
        channels = [width * max(1, 4 - i) for i in range(check_size(image_size) + 1)]
        self.start = GatedUp(latent_dim, channels[0], stride=1, padding=0)
        self.ups = nn.ModuleList(GatedUp(inside, outside) for inside, outside in pairwise(channels))
        self.skip = SkipExcitation(channels[0], channels[2])  # from 4 to 16 pixels
        self.to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        coarse = h = self.start(z[:, :, None, None])  # (n, 4w, 4, 4)
        for i, up in enumerate(self.ups):
            h = up(h)
            if i == 1:
                h = self.skip(coarse, h)
        return torch.tanh(self.to_rgb(h))


class FrozenPyramid(nn.Module):
    """Images (n, 3, s, s) in [-1, 1] -> four maps, fine to coarse; nothing in it is ever trained.

    Mixing across channels (1 x 1) and across scales (top-down, 3 x 3) uses fixed random convolutions.
    """

    def __init__(self):
        super().__init__()
        self.body = load_efficientnet("lite0", RESOLUTION)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.mix = nn.ModuleList(nn.Conv2d(c, m, 1) for c, m in zip(TAPS.values(), MIXED, strict=True))
            self.down = nn.ModuleList(nn.Conv2d(MIXED[i + 1], MIXED[i], 3, padding=1) for i in range(3))
            for layer in (*self.mix, *self.down):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenPyramid":
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = block_maps(self.body, x, RESOLUTION)
        mixed = [mix(maps[tap]) for mix, tap in zip(self.mix, TAPS, strict=True)]
        pyramid = [mixed[-1]]
        for i in (2, 1, 0):  # from coarse to fine
            above = F.interpolate(self.down[i](pyramid[0]), scale_factor=2, mode="bilinear")
            pyramid.insert(0, mixed[i] + above)
        return pyramid  # (n, 64, 24, 24), (n, 64, 12, 12), (n, 128, 6, 6), (n, 128, 3, 3)


class ProjectedDiscriminator(nn.Module):
    """Images (n, 3, s, s) in [-1, 1] -> hinge outputs (n, 4, 36), one a head and patch.

    `project` is frozen, `judge` is trained: the features of one batch of fakes serve both players' updates.
    """

    def __init__(self, width: int = 128):
        super().__init__()
        self.pyramid = FrozenPyramid()
        self.heads = nn.ModuleList()
        for channels, halvings in zip(MIXED, (2, 1, 0, 0), strict=True):
            layers: list[nn.Module] = []
            for _ in range(halvings):
                layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
                channels = width
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
            layers += [nn.Conv2d(width, 1, 3, padding=1)]
            self.heads.append(normalise_spectrally(nn.Sequential(*layers)))

    def project(self, x: Tensor) -> list[Tensor]:
        """The frozen maps of images; float32 on a CPU, whose backward pass in bfloat16 is slower there."""
        with torch.autocast(x.device.type, enabled=x.device.type != "cpu"):
            return self.pyramid(x.float() if x.device.type == "cpu" else x)

    def judge(self, maps: list[Tensor]) -> Tensor:
        """Outputs (n, 4, 36) of the heads; the coarse one's 9 patches are repeated: all heads weigh alike."""
        outputs = [head(m) for head, m in zip(self.heads, maps, strict=True)]
        return torch.stack([F.interpolate(o, size=(GRID, GRID)).flatten(1) for o in outputs], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.judge(self.project(x))

    def requires_grad_(self, requires_grad: bool = True) -> "ProjectedDiscriminator":
        """Switch the heads alone: the frozen part stays frozen."""
        self.heads.requires_grad_(requires_grad)
        return self
