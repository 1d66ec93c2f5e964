"""DCGAN generator (Radford et al., 2016) and a spectrally normalised convolutional discriminator.

The discriminator follows the standard CNN of Miyato et al. (2018), table 3.
"""

from itertools import pairwise

from torch import Tensor, nn

from utils.models.layers import check_size, initialise, normalise_spectrally


class DCGANGenerator(nn.Module):
    """z (n, latent_dim) -> images (n, 3, image_size, image_size) in [-1, 1]."""

    def __init__(self, latent_dim: int = 128, width: int = 64, image_size: int = 32):
        super().__init__()
        self.latent_dim = latent_dim
        channels = [width * 2**i for i in reversed(range(check_size(image_size)))]  # 32 px: 4w, 2w, w
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, channels[0], 4, 1, 0, bias=False)]
        for inside, outside in pairwise(channels):
            layers += [nn.BatchNorm2d(inside), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(inside, outside, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh()]
        self.net = initialise(nn.Sequential(*layers))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z[:, :, None, None])  # (n, latent_dim, 1, 1) -> (n, 3, s, s)


class DCGANDiscriminator(nn.Module):
    """Images (n, 3, image_size, image_size) -> logits (n,). `features` gives what the last layer sees."""

    def __init__(self, width: int = 64, image_size: int = 32):
        super().__init__()
        *channels, top = [width * 2**i for i in range(check_size(image_size) + 1)]  # 32 px: w, 2w, 4w and 8w
        layers: list[nn.Module] = []
        for inside, outside in pairwise([3, *channels]):  # each halves the resolution, down to 4 x 4
            layers += [nn.Conv2d(inside, outside, 3, 1, 1), nn.LeakyReLU(0.1, inplace=True)]
            layers += [nn.Conv2d(outside, outside, 4, 2, 1), nn.LeakyReLU(0.1, inplace=True)]
        layers += [nn.Conv2d(channels[-1], top, 3, 1, 1), nn.LeakyReLU(0.1, inplace=True), nn.Flatten()]
        self.feature_dim = top * 16
        self.body = normalise_spectrally(initialise(nn.Sequential(*layers)))
        self.head = normalise_spectrally(initialise(nn.Sequential(nn.Linear(self.feature_dim, 1))))

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)  # (n, 16 * 8w) at 32 px

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)).squeeze(1)  # (n,)
