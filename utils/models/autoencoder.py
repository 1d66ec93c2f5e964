"""The auto-encoder that EBGAN uses as a discriminator: its energy is the reconstruction error."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from utils.models.mlp import mlp


class AutoencoderEnergy(nn.Module):
    """Data (n, *data_shape) -> energies (n,), the Euclidean norm |Dec(Enc(x)) - x| (Zhao et al., 2017).

    It is an energy, not a logit: low on data, never negative. The norm fixes the unit of the margin; the
    mean square in its place would rescale it silently. Notebook 05 derives what training makes of it.
    """

    def __init__(
        self, width: int = 256, depth: int = 2, code_dim: int = 32, data_shape: Sequence[int] = (2,)
    ):
        super().__init__()
        size = math.prod(data_shape)
        self.feature_dim = code_dim
        self.encoder = nn.Sequential(nn.Flatten(), mlp([size, *[width] * (depth - 1), code_dim]), nn.ReLU())
        self.decoder = nn.Linear(code_dim, size)  # one layer, as in the paper

    def features(self, x: Tensor) -> Tensor:
        return self.encoder(x)  # (n, code_dim), what the pulling-away term spreads

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x)).view_as(x)

    def forward(self, x: Tensor) -> Tensor:
        # the small constant keeps the root differentiable at a perfect reconstruction
        return torch.sqrt((self.reconstruct(x) - x).flatten(1).square().sum(1) + 1e-12)  # (n,)
