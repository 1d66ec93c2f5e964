"""GANs of points in the plane as other people train them: not our loss, architecture, prior or loop.

`toy_study` trains them and sends them through the fits and samplers of the course. Their recipes were fixed
before anything was measured, and nothing was tuned on them: they test what was chosen on our own ten GANs.
"""

from collections.abc import Callable

import torch
from torch import nn

SEEDS = (0,)
RECIPES: dict[str, dict] = {
    "WGAN-GP": {"latent_dim": 4, "prior": "uniform", "kind": "critic", "n_steps": 3000, "critic_steps": 5},
    "LSGAN": {
        "latent_dim": 8, "prior": "normal", "kind": "least_squares", "n_steps": 6000, "critic_steps": 1,
    },
}  # fmt: skip


def perceptron(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    """Two hidden layers of 256 units."""
    between = [nn.BatchNorm1d(256)] if batch_norm else []
    return nn.Sequential(
        nn.Linear(inputs, 256), *between, nn.LeakyReLU(0.2),
        nn.Linear(256, 256), nn.LeakyReLU(0.2), nn.Linear(256, outputs),
    )  # fmt: skip


def penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """The two-sided gradient penalty of Gulrajani et al. (2017)."""
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


def train(recipe: str, draw_real: Callable, seed: int, batch: int = 256) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator, as training left them: in training mode, without an average of weights."""
    settings = RECIPES[recipe]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        k, wasserstein = settings["latent_dim"], settings["kind"] == "critic"
        netG, netD = perceptron(k, 2, batch_norm=not wasserstein), perceptron(2, 1, batch_norm=False)
        rate = 5e-4 if wasserstein else 1e-3
        optG, optD = (torch.optim.Adam(net.parameters(), rate, betas=(0.5, 0.9)) for net in (netG, netD))

        def latents() -> torch.Tensor:
            uniform = settings["prior"] == "uniform"
            return 2 * torch.rand(batch, k) - 1 if uniform else torch.randn(batch, k)

        for _ in range(settings["n_steps"]):
            for _ in range(settings["critic_steps"]):
                real, fake = draw_real(batch, generator), netG(latents()).detach()
                if wasserstein:
                    loss = netD(fake).mean() - netD(real).mean() + 10 * penalty(netD, real, fake)
                else:
                    loss = (netD(real) - 1).square().mean() + netD(fake).square().mean()
                optD.zero_grad()
                loss.backward()
                optD.step()
            out = netD(netG(latents()))
            loss = -out.mean() if wasserstein else (out - 1).square().mean()
            optG.zero_grad()
            loss.backward()
            optG.step()
    return netG, netD
