"""The residual SNGAN of Miyato et al. (2018), table 4, at 32x32 (one block more at 64x64)."""

import torch.nn.functional as F
from torch import Tensor, nn

from utils.models.layers import check_size, normalise_spectrally


def _conv(inside: int, outside: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    layer = nn.Conv2d(inside, outside, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class UpBlock(nn.Module):
    """(n, c, s, s) -> (n, c', 2s, 2s): norm, ReLU, upsample, conv, norm, ReLU, conv, plus a shortcut."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(outside)
        self.conv1, self.conv2 = _conv(inside, outside, 3, 2**0.5), _conv(outside, outside, 3, 2**0.5)
        self.shortcut = _conv(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.norm1(x)), scale_factor=2)
        h = self.conv2(F.relu(self.norm2(self.conv1(h))))
        return h + F.interpolate(self.shortcut(x), scale_factor=2)  # a 1x1 conv commutes with upsampling


class DownBlock(nn.Module):
    """(n, c, s, s) -> (n, c', s/2, s/2) or the same size; the first block of all starts without ReLU."""

    def __init__(self, inside: int, outside: int, *, halve: bool, first: bool = False):
        super().__init__()
        self.halve, self.first = halve, first
        self.conv1, self.conv2 = _conv(inside, outside, 3, 2**0.5), _conv(outside, outside, 3, 2**0.5)
        self.shortcut = _conv(inside, outside, 1) if halve or inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if not self.halve:
            return h + self.shortcut(x)
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))


class SNGANGenerator(nn.Module):
    """z (n, latent_dim) -> images (n, 3, image_size, image_size) in [-1, 1]. Width 256 in the paper."""

    def __init__(self, latent_dim: int = 128, width: int = 256, image_size: int = 32):
        super().__init__()
        self.latent_dim, self.width = latent_dim, width
        self.linear = nn.Linear(latent_dim, 16 * width)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.blocks = nn.Sequential(*[UpBlock(width, width) for _ in range(check_size(image_size))])
        self.to_rgb = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), _conv(width, 3, 3), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        h = self.linear(z).view(-1, self.width, 4, 4)  # (n, w, 4, 4)
        return self.to_rgb(self.blocks(h))  # (n, 3, s, s)


class SNGANDiscriminator(nn.Module):
    """Images (n, 3, image_size, image_size) -> logits (n,). Width 128 in the paper."""

    def __init__(self, width: int = 128, image_size: int = 32):
        super().__init__()
        halvings = check_size(image_size) - 1  # down to 8 x 8, as in the paper
        blocks = [DownBlock(3, width, halve=True, first=True)]
        blocks += [DownBlock(width, width, halve=True) for _ in range(halvings - 1)]
        blocks += [DownBlock(width, width, halve=False) for _ in range(2)]
        self.feature_dim = width
        self.body = normalise_spectrally(nn.Sequential(*blocks))
        head = nn.Linear(width, 1)
        nn.init.xavier_uniform_(head.weight)
        nn.init.zeros_(head.bias)
        self.head = normalise_spectrally(nn.Sequential(head))

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x)).sum(dim=(2, 3))  # (n, w): global sum pooling

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)).squeeze(1)  # (n,)
