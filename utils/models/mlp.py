"""Multilayer perceptrons for points in the plane and for 8x8 digits."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from utils.models.layers import normalise_spectrally


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of these sizes with an activation between them, none after the last."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise(sizes):
        layers += [nn.Linear(inside, outside), activation()]
    return nn.Sequential(*layers[:-1])


class MLPGenerator(nn.Module):
    """z (n, latent_dim) -> data (n, *data_shape); with `bounded`, in [-1, 1] by a tanh."""

    def __init__(
        self,
        latent_dim: int = 2,
        width: int = 256,
        depth: int = 3,
        data_shape: Sequence[int] = (2,),
        bounded: bool = False,
    ):
        super().__init__()
        self.latent_dim, self.data_shape = latent_dim, tuple(data_shape)
        self.net = mlp([latent_dim, *[width] * depth, math.prod(data_shape)])
        self.squash = nn.Tanh() if bounded else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        return self.squash(self.net(z)).view(-1, *self.data_shape)


class MLPDiscriminator(nn.Module):
    """Data (n, *data_shape) -> logits (n,). `features` gives what the last layer sees, (n, width)."""

    def __init__(
        self,
        width: int = 256,
        depth: int = 3,
        data_shape: Sequence[int] = (2,),
        activation: type[nn.Module] = nn.ReLU,
        spectral: bool = False,
    ):
        super().__init__()
        self.feature_dim = width
        self.body = nn.Sequential(
            nn.Flatten(), mlp([math.prod(data_shape), *[width] * depth], activation), activation()
        )
        self.head = nn.Linear(width, 1)
        if spectral:
            normalise_spectrally(self)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)  # (n, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)).squeeze(1)  # (n,)
