"""A small residual CIFAR-10 classifier: class posteriors and features for the image metrics.

The design follows the fast-training literature (Jordan, "94% on CIFAR-10 in 3.29 seconds", 2024): a fixed
patch-whitening layer, an early max-pool, and few but wide 3x3 convolutions.
"""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Convolve to `n_out` channels and halve the side, then add a residual convolution."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        first, second = (nn.Conv2d(n, n_out, 3, padding=1, bias=False) for n in (n_in, n_out))
        self.widen = nn.Sequential(first, nn.MaxPool2d(2), nn.BatchNorm2d(n_out), nn.GELU())
        self.refine = nn.Sequential(second, nn.BatchNorm2d(n_out), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        h = self.widen(x)  # (n, n_out, side // 2, side // 2)
        return h + self.refine(h)  # the same


class Classifier(nn.Module):
    """Images (n, 3, 32, 32) in [-1, 1] -> logits (n, n_classes); blocks of 1, 2 and 2.5 `width` channels."""

    def __init__(self, width: int = 64, n_classes: int = 10):
        super().__init__()
        self.feature_dim = 5 * width // 2
        self.whiten = nn.Conv2d(3, 24, 2)  # weight set by `whiten_patches`, then fixed; the bias is learned
        self.whiten.weight.requires_grad_(False)
        self.blocks = nn.Sequential(
            nn.GELU(), Block(24, width), Block(width, 2 * width), Block(2 * width, self.feature_dim)
        )
        self.head = nn.Linear(self.feature_dim, n_classes, bias=False)

    @torch.no_grad()
    def whiten_patches(self, images: Tensor) -> None:
        """Fix the first layer to whiten the 2x2 patches of `images` (n, 3, 32, 32) in [-1, 1].

        Its 24 filters are the 12 eigenvectors of the patch covariance, each divided by the root of its
        eigenvalue, with both signs, so that no direction is lost in the nonlinearity that follows.
        """
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1)  # (n, 3, 31, 31, 2, 2)
        patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)  # (n * 31 * 31, 12)
        values, vectors = torch.linalg.eigh(patches.T.cov())  # (12,), (12, 12): eigenvectors are columns
        filters = (vectors / (values + 1e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))  # (24, 3, 2, 2)
        self.whiten.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        """What the head sees, (n, feature_dim): the last block's maps (n, feature_dim, 3, 3), max-pooled."""
        return self.blocks(self.whiten(x)).amax(dim=(2, 3))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (n, n_classes) of `features` (n, feature_dim)."""
        return self.head(features) / 8  # a small scale keeps the head stable at a large learning rate

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))
