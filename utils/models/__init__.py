"""Networks. Discriminators return a logit (EBGAN's an energy); generators map z (n, latent_dim) to data."""

from torch import nn

from utils.models.dcgan import DCGANDiscriminator, DCGANGenerator
from utils.models.layers import channels_last
from utils.models.projected import ProjectedDiscriminator, ProjectedGenerator

GANS = {
    "dcgan": (DCGANGenerator, DCGANDiscriminator),
    "projected": (ProjectedGenerator, lambda width, _: ProjectedDiscriminator(width)),  # it resizes its input
}


def build_gan(
    family: str,
    *,
    latent_dim: int = 128,
    g_width: int,
    d_width: int,
    image_size: int = 32,
    discriminator: bool = True,
) -> tuple[nn.Module, nn.Module | None]:
    """A new generator and, if wanted, discriminator of one family; the arguments are what a card stores."""
    if family not in GANS:
        raise ValueError(f"family={family!r} is unknown; choose one of {', '.join(GANS)}")
    make_generator, make_discriminator = GANS[family]
    G = channels_last(make_generator(latent_dim, g_width, image_size))
    return G, channels_last(make_discriminator(d_width, image_size)) if discriminator else None
