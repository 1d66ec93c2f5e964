"""Networks, data and judge of `architecture_study`; one switch a mechanism, which notebook 09 explains."""

import base64
import zlib
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.checkpoints import freeze
from utils.images import load_digits, to_unit
from utils.metrics.images import Moments, frechet_distance, precision_recall
from utils.models.layers import normalise_spectrally
from utils.models.mlp import mlp

LATENT, N_CLASSES = 16, 10
PARTS = {"train": (0, 900), "judge": (900, 1400), "reference": (1400, 1797)}  # of the shuffled digits


class SelfAttention(nn.Module):
    """x + gamma * attention(x) on maps (n, c, h, w), gamma starting at 0 (Zhang et al., 2019)."""

    def __init__(self, c: int):
        super().__init__()
        self.qkv, self.out = nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, 2)  # (n, positions, c)
        o = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        return x + self.gamma * self.out(o)


class Generator(nn.Module):
    """z (n, 16) -> images (n, 1, 16, 16) in [-1, 1].

    With `label` z has ten more numbers, the largest of which is the class, and ten label maps follow the
    image. With `style` z goes into the normalisation of each layer in place of the first layer's input.
    """

    def __init__(self, width: int, style: bool, attention: bool, label: str):
        super().__init__()
        self.label, self.style, sizes = label, style, (4 * width, 2 * width, width)
        self.latent_dim = LATENT + N_CLASSES * bool(label)
        self.start = nn.Linear(1 if style else self.latent_dim, 16 * sizes[0])
        self.mapping = nn.Sequential(mlp([LATENT, 64, 64]), nn.LayerNorm(64)) if style else None
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.Linear(64, 2 * c) if style else nn.BatchNorm2d(c) for c in sizes)
        if style:  # so that styles differ from the start: without it all images are one, and stay it
            for layer in self.norms:
                nn.init.normal_(layer.weight, 0, 1 / 8)
        self.attention = SelfAttention(sizes[1]) if attention else nn.Identity()
        self.end = nn.Conv2d(width, 1, 3, padding=1)

    def normalise(self, i: int, h: Tensor, w: Tensor) -> Tensor:
        if not self.style:
            return self.norms[i](h).relu()
        scale, bias = self.norms[i](w)[..., None, None].chunk(2, 1)
        return ((1 + scale) * F.instance_norm(h) + bias).relu()

    def draw(self, first: Tensor, ws: list[Tensor]) -> Tensor:
        """Images from the first layer's input and the style of each of three layers."""
        h = self.normalise(0, self.start(first).view(len(first), -1, 4, 4), ws[0])
        for i, up in enumerate(self.ups, 1):
            h = self.normalise(i, up(h), ws[i])
            h = self.attention(h) if i == 1 else h  # at 8 x 8
        return self.end(h).tanh()

    def forward(self, z: Tensor) -> Tensor:
        if self.style:
            w = self.mapping(z)
            half = len(w) // 2  # in training half of a batch takes its later styles from a neighbour
            late = torch.cat([w[1 : half + 1], w[half:]]) if self.training else w
            return self.draw(torch.ones_like(z[:, :1]), [w, late, late])
        if not self.label:
            return self.draw(z, [z] * 3)
        y = F.one_hot(z[:, LATENT:].argmax(1), N_CLASSES).to(z)
        z = torch.cat([z[:, :LATENT], y], 1)
        return with_label(self.draw(z, [z] * 3), y)


def with_label(x: Tensor, y: Tensor) -> Tensor:
    """Images (n, 1, s, s) and labels (n, 10), one-hot -> (n, 11, s, s)."""
    return torch.cat([x, y[..., None, None].expand(-1, -1, *x.shape[2:])], 1)


def low_layers(inside: int, w: int) -> nn.ModuleList:
    """From 16 to 4 pixels."""
    return nn.ModuleList([nn.Conv2d(inside, w, 4, 2, 1), nn.Conv2d(w, 2 * w, 4, 2, 1)])


class Classifier(nn.Module):
    """Class logits of images (n, 1, 16, 16); its low layers are those of the discriminator."""

    def __init__(self, w: int, feature_dim: int = 24):
        super().__init__()
        self.low, self.last = low_layers(1, w), nn.Linear(32 * w, feature_dim)
        self.head = nn.Linear(feature_dim, N_CLASSES)

    def features(self, x: Tensor) -> Tensor:
        for layer in self.low:
            x = F.leaky_relu(layer(x), 0.1)
        return F.leaky_relu(self.last(x.flatten(1)), 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Discriminator(nn.Module):
    """Images (n, 1, 16, 16), with `label` with label maps behind -> logits (n,)."""

    def __init__(
        self, width: int, spectral: bool, attention: bool, batch_std: bool, label: str, frozen: bool
    ):
        super().__init__()
        w = 2 * width
        self.label, self.batch_std, self.frozen = label, batch_std, frozen
        self.low = low_layers(1 + N_CLASSES * (label == "concatenation"), w)
        self.attention = SelfAttention(w) if attention else nn.Identity()
        self.high = nn.Conv2d(2 * w + batch_std, 4 * w, 3, padding=1)
        self.head = nn.Linear(64 * w, 1)
        self.embed = nn.Linear(N_CLASSES, 64 * w, bias=False) if label == "projection" else None
        if spectral:
            normalise_spectrally(self)

    def features(self, x: Tensor) -> Tensor:
        x = x if self.label == "concatenation" else x[:, :1]
        h = self.attention(F.leaky_relu(self.low[0](x), 0.1))
        h = F.leaky_relu(self.low[1](h), 0.1)  # (n, 4 width, 4, 4)
        if self.batch_std:  # of real and of generated images apart: they come in one batch
            parts = h.chunk(2) if self.training and len(h) > 32 else [h]
            h = torch.cat([torch.cat([p, p.std(0).mean().expand(len(p), 1, 4, 4)], 1) for p in parts])
        return F.leaky_relu(self.high(h), 0.1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        phi = self.features(x)
        d = self.head(phi).squeeze(1)
        return d + (self.embed(x[:, 1:, 0, 0]) * phi).sum(1) if self.embed else d

    def requires_grad_(self, requires_grad: bool = True) -> "Discriminator":
        """Switch what is trained: with `frozen` the low layers never are."""
        super().requires_grad_(requires_grad)
        self.low.requires_grad_(requires_grad and not self.frozen)
        return self


@cache
def digits(part: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 16, 16) in [-1, 1] and labels of one part; the order is drawn once."""
    whole = load_digits()
    order = torch.randperm(len(whole.images), generator=torch.Generator().manual_seed(9))[slice(*PARTS[part])]
    x = F.interpolate(to_unit(whole.images[order]), size=16, mode="bicubic", align_corners=False)
    return x.clamp(-1, 1), whole.labels[order]


@cache
@torch.enable_grad()
def classifier(part: str, width: int = 32, n_steps: int = 500) -> nn.Module:
    """A frozen classifier fitted to one part."""
    torch.manual_seed(0)
    network, (x, y) = Classifier(width), digits(part)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.1)
    for _ in range(n_steps):
        i = torch.randint(len(x), (64,))
        optimiser.zero_grad()
        F.cross_entropy(network(x[i]), y[i]).backward()
        optimiser.step()
    return freeze(network)


@torch.no_grad()
def measures(x: Tensor, asked: Tensor | None = None) -> dict[str, float]:
    """Images (n, 1, 16, 16) against the reference, in the features of the judge."""
    judge, (real, labels) = classifier("judge"), digits("reference")
    a, b, found = judge.features(x).double(), judge.features(real).double(), judge(x).argmax(1)
    shares = [y.bincount(minlength=10) / len(y) for y in (found, labels)]
    precision, recall = precision_recall(b, a[: len(b)])
    row = {
        "frechet": frechet_distance(Moments.from_features(a), Moments.from_features(b)),
        "precision": precision,
        "recall": recall,
        "classes": 0.5 * (shares[0] - shares[1]).abs().sum().item(),
    }
    return row if asked is None else row | {"asked": (found == asked).double().mean().item()}


def packed(x: Tensor) -> str:
    """Images in [-1, 1] as text: sixteen greys, two pixels a byte, zlib, base 64."""
    grey = ((x.flatten() + 1) * 7.5).round().byte()
    return base64.b64encode(zlib.compress(bytes((16 * grey[::2] + grey[1::2]).tolist()), 9)).decode()
