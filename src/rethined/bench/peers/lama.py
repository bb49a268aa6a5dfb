"""Resolution-robust Large Mask Inpainting with Fourier Convolutions (Suvorov et al., WACV 2022): big-LaMa.

A ResNet of fast Fourier convolutions (section 2.1) between three strided and three transposed convolutions.
Written from the paper; the state dict is that of `generator` in advimman/lama (Apache-2.0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rethined.bench.peers.fourier import FFC, Concatenate, Pair

SHARE = 0.75
"""Part of the bottleneck's channels that is global."""


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = FFC(channels, channels, 3, (SHARE, SHARE), padding=1)
        self.conv2 = FFC(channels, channels, 3, (SHARE, SHARE), padding=1)

    def forward(self, x: Pair) -> Pair:
        local, remote = self.conv2(self.conv1(x))
        assert x[1] is not None
        assert remote is not None
        return x[0] + local, x[1] + remote


class Lama(nn.Module):
    """big-LaMa: 18 blocks of 512 channels. Runs at every multiple of 8."""

    def __init__(self, blocks: int = 18, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), FFC(4, width, 7)]
        layers += [FFC(width, 2 * width, 3, stride=2, padding=1)]
        layers += [FFC(2 * width, 4 * width, 3, stride=2, padding=1)]
        layers += [FFC(4 * width, 8 * width, 3, (0, SHARE), stride=2, padding=1)]
        layers += [ResidualBlock(8 * width) for _ in range(blocks)]
        layers += [Concatenate()]
        for wide in (8 * width, 4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(wide, wide // 2, 3, stride=2, padding=1, output_padding=1)]
            layers += [nn.BatchNorm2d(wide // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Sigmoid()]
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """`image` (B, 3, H, W) in [0, 1], `mask` (B, 1, H, W), 1 = hole; the same range comes back."""
        out: Tensor = self.model(torch.cat([image * (1 - mask), mask], 1))
        return out
