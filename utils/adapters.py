"""A stranger's GAN as this course takes it: G from z (n, latent_dim) to x (n, *data), d from x to (n,).

`as_generator` and `as_logit` learn shapes by calling the network, convert what can be converted safely, and
refuse the rest by name. They work on a copy. Notebook 14 derives the conversions.
"""

import math
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from utils.checkpoints import WRAPPERS
from utils.energy import Prior, check_evaluation_mode, networks_in
from utils.models.layers import copy_network

LATENT_NAMES = ("latent_dim", "z_dim", "nz", "latent_size", "dim_z")
KINDS = ("logit", "sigmoid", "least_squares", "hinge", "critic", "energy")


def uniform(z: Tensor) -> Tensor:
    """2 Phi(z) - 1, uniform on [-1, 1] for z ~ N(0, 1), coordinate by coordinate."""
    return torch.special.erf(z / math.sqrt(2))


def truncated(z: Tensor, bound: float = 2.0) -> Tensor:
    """N(0, 1) cut to [-bound, bound], for z ~ N(0, 1); `functools.partial` sets another bound."""
    low = 0.5 * math.erfc(bound / math.sqrt(2))  # Phi(-bound)
    share = low + (1 - 2 * low) * torch.special.ndtr(z.double())
    return torch.special.ndtri(share).to(z.dtype)


PRIORS = {"normal": torch.positive, "uniform": uniform, "truncated": truncated}


class Adapted(nn.Module):
    """What G and d share: a frozen copy of the network, called in its own dtype, with one tensor out."""

    def __init__(self, net: Callable, pick: str | int | None):
        super().__init__()
        while isinstance(net, WRAPPERS) or hasattr(net, "_orig_mod"):  # _orig_mod: of torch.compile
            net = net.module if isinstance(net, WRAPPERS) else net._orig_mod
        if isinstance(net, nn.Module):
            net = copy_network(net).eval().requires_grad_(False)
        check_evaluation_mode(net=net)
        self.net, self.pick, self.training = net, pick, False

    @property
    def like(self) -> Tensor:
        """A weight of net, for its dtype and device."""
        return next((p for network in networks_in(self.net) for p in network.parameters()), torch.empty(0))

    def call(self, x: Tensor) -> Tensor:
        """What net returns for a copy of x (a first layer may work in place), in the type of x."""
        out = self.net(x.to(self.like.dtype if self.like.numel() else x.dtype, copy=True))
        if not isinstance(out, Tensor):
            parts = dict(enumerate(out)) if isinstance(out, list | tuple) else out
            parts = parts if isinstance(parts, Mapping) else vars(out)
            tensors = [key for key, value in parts.items() if isinstance(value, Tensor)]
            usual = [key for key in tensors if key in ("sample", "logits")] or tensors
            keys = [self.pick] if self.pick is not None else usual
            if len(keys) != 1 or keys[0] not in tensors:
                raise ValueError(f"net returned a {type(out).__name__} of {list(parts)}; name one by pick=")
            out = parts[keys[0]]
        return out.to(x.dtype)

    def check(self, function: Callable, x: Tensor) -> Tensor:
        """function(x), if it is finite, has a gradient, and each row is a function of its row alone."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_(True)
            out = function(x)
        if out.shape[:1] != x.shape[:1] or not out.isfinite().all():
            raise ValueError(f"net returned shape {tuple(out.shape)} for {len(x)} rows, or values not finite")
        if not out.requires_grad:
            raise ValueError("net has no gradient in its input; does it detach, or work under no_grad?")
        with torch.no_grad():
            eps, half = torch.finfo(self.like.dtype).eps, (len(x) + 1) // 2
            noise, batch = function(x) - out, function(x[:half]) - out[:half]
        if noise.abs().max() > 100 * eps * out.abs().max():
            raise ValueError("net draws fresh noise in each call; fix it (in StyleGAN: noise_mode='const')")
        if batch.abs().max() > max(1e-3, 30 * eps) * out.abs().max():
            raise ValueError("a row depends on its neighbours; does net use statistics of its batch?")
        return out.detach()


class AdaptedGenerator(Adapted):
    """See `as_generator`."""

    def __init__(self, net, latent_shape, prior, output, pick):
        super().__init__(net, pick)
        if isinstance(prior, Prior):
            self.prior, prior = prior, "normal"
        self.warp, self.output = PRIORS.get(prior) if isinstance(prior, str) else prior, output
        if not callable(self.warp):
            raise ValueError(f"prior={prior!r}; use {', '.join(PRIORS)}, a map of N(0, I), or a Prior")
        failures = []
        for shape in _shapes(self.net, latent_shape):
            self.latent_shape, self.latent_dim = shape, math.prod(shape)
            z = torch.randn(8, self.latent_dim, generator=torch.Generator().manual_seed(0))
            try:
                z = z.to(self.like.device)
                self.call(self.warp(z).view(8, *shape))
                break
            except (RuntimeError, TypeError, IndexError) as error:
                failures.append(f"{(8, *shape)}: {str(error)[:120]}")
        else:
            raise ValueError(f"net takes no z of {failures}; give latent_shape=, or lambda z: net(z, ...)")
        x = self.check(self.forward, z)
        low, high = x.min().item(), x.max().item()
        if x.ndim == 4 and (low < -1.02 or high > 1.02 or low >= 0):
            said = f"x is in [{low:.2f}, {high:.2f}], with output={output}: images should fill [-1, 1]"
            warnings.warn(said, stacklevel=3)

    def forward(self, z: Tensor) -> Tensor:
        if not isinstance(z, Tensor) or not z.is_floating_point():
            raise ValueError(f"z is a {type(z).__name__}; give floats, e.g. torch.as_tensor(z).float()")
        if z.ndim < 2 or math.prod(z.shape[1:]) != self.latent_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; give (n, {self.latent_dim})")
        x = self.call(self.warp(z.flatten(1)).view(len(z), *self.latent_shape))
        low, high = self.output or (-1, 1)
        return x if (low, high) == (-1, 1) else (x - low) * (2 / (high - low)) - 1


def _shapes(net: Callable, given: int | tuple[int, ...] | None) -> list[tuple[int, ...]]:
    """Shapes of one latent to try: the given one, else what net's attributes or first layer say."""
    if given is None:
        sizes = [getattr(net, name, None) for name in LATENT_NAMES]
        for m in net.modules() if isinstance(net, nn.Module) else ():
            sizes.append(getattr(m, "in_features", getattr(m, "in_channels", None)))
        given = next((size for size in sizes if isinstance(size, int)), None)
    if given is None:
        raise ValueError("latent_shape cannot be read from net; give latent_shape=, a number or a tuple")
    shape = (given,) if isinstance(given, int) else tuple(given)
    return [shape, (*shape, 1, 1)] if len(shape) == 1 else [shape]


class AdaptedLogit(Adapted):
    """See `as_logit`."""

    def __init__(self, net, kind, reduce, pick):
        super().__init__(net, pick)
        if kind not in KINDS or reduce not in (None, "mean", "sum"):
            raise ValueError(f"kind={kind!r} or reduce={reduce!r} is unknown: see as_logit")
        self.kind, self.reduce, self.checked = kind, reduce, False
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.modules()):
            why = "D has batch norm: in evaluation mode it is not the function that was trained"
            warnings.warn(f"{why}, and can be far worse; see its accuracy (describe), or refit", stacklevel=3)
        if kind not in ("logit", "sigmoid"):
            warnings.warn(f"kind={kind!r} is no log density ratio; calibrate it, or refit", stacklevel=3)

    def forward(self, x: Tensor) -> Tensor:
        if not self.checked:
            with torch.no_grad():
                self._learn(x[:64])
            self.check(self.value, x[:64])
            self.checked = True
        return self.value(x)

    def value(self, x: Tensor) -> Tensor:
        """What `forward` returns, by what is known of net."""
        d = self.call(x)
        if d.shape[:1] != x.shape[:1]:
            said = f"net returned shape {tuple(d.shape)} for {len(x)} rows"
            raise ValueError(f"{said}: one number a row, no mean")
        d = d.reshape(len(x), -1)  # (n, k)
        if d.shape[1] > 1 and self.reduce is None:
            said = f"net returned {d.shape[1]} numbers a row (patches?)"
            raise ValueError(f"{said}; say reduce='mean' or 'sum'")
        if self.kind == "sigmoid":
            d = torch.logit(d, torch.finfo(self.like.dtype).eps)
        return (d.sum(1) if self.reduce == "sum" else d.mean(1)) * (-1 if self.kind == "energy" else 1)

    def _learn(self, x: Tensor) -> None:
        """Hold `kind` against the values on a few rows, and take off a last nn.Sigmoid."""
        p = self.call(x)
        inside = ((p >= 0) & (p <= 1)).all()
        if self.kind == "sigmoid" and not inside:
            raise ValueError("kind='sigmoid', but net returns values outside [0, 1]: is it a logit?")
        if self.kind == "logit" and inside and p.numel() > 8:
            warnings.warn("all of d lies in [0, 1]; for a probability say kind='sigmoid'", stacklevel=4)
        if self.kind == "sigmoid" and not self._remove_sigmoid(x, p):
            why = "no nn.Sigmoid can be taken off: beyond 16 nats d has no gradient"
            warnings.warn(f"{why}; return the layer before it, with kind='logit'", stacklevel=4)

    def _remove_sigmoid(self, x: Tensor, p: Tensor) -> bool:
        """Whether a module nn.Sigmoid was found that only forms the output, and is now an Identity."""
        for parent in list(self.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Sigmoid):
                    setattr(parent, name, nn.Identity())
                    if torch.allclose(torch.sigmoid(self.call(x)), p, atol=1e-4):
                        self.kind = "logit"
                        return True
                    setattr(parent, name, child)
        return False


def as_generator(
    net: Callable,
    latent_shape: int | tuple[int, ...] | None = None,
    prior: str | Callable[[Tensor], Tensor] | Prior = "normal",
    output: tuple[float, float] | None = None,
    *,
    pick: str | int | None = None,
) -> AdaptedGenerator:
    """A frozen copy of `net`, a network or a function around one, as G: z (n, latent_dim) -> x.

    `latent_shape` is that of one latent, as 100 or (100, 1, 1); left out, it is read from net. `prior` is the
    law of net's latent: "normal"; "uniform" on [-1, 1] or "truncated" at 2, by a change of variables after
    which z ~ N(0, I); a map from N(0, I) to it; or a Prior, which becomes `G.prior`. `output` is the range of
    net's images, as (0, 1), to be mapped to [-1, 1]; left out, x stays as it is. `pick` is the key, attribute
    or index of x where net returns several things. Raises ValueError, with the remedy, if net takes no such z
    or x is not a function of its own row of z alone: fresh noise in each call, statistics of the batch.
    """
    if isinstance(net, AdaptedGenerator):
        return net
    return AdaptedGenerator(net, latent_shape, prior, output, pick)


def as_logit(
    net: Callable, kind: str = "logit", *, reduce: str | None = None, pick: str | int | None = None
) -> AdaptedLogit:
    """A frozen copy of `net`, a network or a function around one, as d: x -> (n,) in nats.

    `kind` says what net returns: "logit"; "sigmoid", a probability (a last nn.Sigmoid is taken off); or no
    log ratio, to be calibrated: "least_squares", "hinge", "critic" (Wasserstein), "energy" (low is real; its
    sign is turned). `reduce` is "mean" or "sum" over patches, where net returns several numbers for a row.
    The first call checks d; raises ValueError as `as_generator` does, or if d does not fit `kind`.
    """
    return net if isinstance(net, AdaptedLogit) else AdaptedLogit(net, kind, reduce, pick)
