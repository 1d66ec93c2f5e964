"""Differentiable augmentation (Zhao et al., 2020): the discriminator sees neither real nor fake images plain.

The same random changes are made to both, with gradients through them, so that D cannot learn the training
images by heart while G is not asked to make changed images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _uniform(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(n, 1, 1, 1, generator=generator, device=generator.device).to(device)


def colour(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random brightness (+-0.5), saturation (0 to 2) and contrast (0.5 to 1.5) of each image (n, 3, s, s)."""
    x = x + _uniform(len(x), generator, x.device) - 0.5
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * 2 * _uniform(len(x), generator, x.device)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (0.5 + _uniform(len(x), generator, x.device))


def translation(x: Tensor, generator: torch.Generator, share: float = 0.125) -> Tensor:
    """Shift each image by up to `share` of its side in both directions; zeros come in."""
    n, c, side, _ = x.shape
    reach = int(side * share + 0.5)
    shift = torch.randint(0, 2 * reach + 1, (n, 2), generator=generator, device=generator.device).to(x.device)
    line = torch.arange(side, device=x.device)
    rows, columns = shift[:, :1] + line, shift[:, 1:] + line  # (n, side)
    padded = F.pad(x, (reach,) * 4)
    index = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(c, device=x.device)[None, :, None, None]
    return padded[index, channel, rows[:, None, :, None], columns[:, None, None, :]]


POLICIES = {"colour": colour, "translation": translation}


def augment(x: Tensor, policy: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Apply the named changes in order to images (n, 3, s, s) in [-1, 1]; () changes nothing."""
    for name in policy:
        x = POLICIES[name](x, generator)
    return x.contiguous(memory_format=torch.channels_last) if policy else x
