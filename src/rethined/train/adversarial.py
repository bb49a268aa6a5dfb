"""A patch discriminator (Isola et al. 2017) with LaMa's labels: only what overlaps the hole is false."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Discriminator(nn.Module):
    """(B, 3, H, W) in [0, 1] -> one logit per 16 x 16 pixels, (B, 1, H / 16, W / 16), and what led to it."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 4 * width]
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, features = 2 * image - 1, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features


def discriminator_loss(judge: Discriminator, fake: Tensor, real: Tensor, mask: Tensor, r1: float) -> Tensor:
    """Non-saturating loss and R1 (Mescheder et al. 2018), (B,). `fake`, `real` (B, 3, H, W), `mask` (B, 1, H, W).

    What the hole does not touch is true in both pictures.
    """
    real = real.detach().requires_grad_(r1 > 0)
    logits, _ = judge(real)
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True) if r1 else (torch.zeros_like(real),)
    opinion, _ = judge(fake.detach())
    false = F.max_pool2d(mask, mask.shape[2] // opinion.shape[2])
    wrong = F.softplus(opinion) * false + F.softplus(-opinion) * (1 - false)
    return F.softplus(-logits).mean((1, 2, 3)) + wrong.mean((1, 2, 3)) + 0.5 * r1 * slope.square().sum((1, 2, 3))


def generator_loss(judge: Discriminator, fake: Tensor, real: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How true the hole looks, (B,), and the L1 between the features of both pictures, (B,)."""
    opinion, features = judge(fake)
    false = F.max_pool2d(mask, mask.shape[2] // opinion.shape[2])
    with torch.no_grad():
        _, wanted = judge(real)
    matching = torch.stack([(a - b).abs().mean((1, 2, 3)) for a, b in zip(features, wanted, strict=True)]).mean(0)
    return (F.softplus(-opinion) * false).sum((1, 2, 3)) / false.sum((1, 2, 3)).clamp(min=1), matching
