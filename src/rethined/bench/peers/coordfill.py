"""CoordFill (Liu et al., AAAI 2023): high-resolution inpainting by querying parametrised coordinate networks.

An attentional FFC encoder of the picture at 256 x 256 writes, for each of 32 x 32 cells, the weights of a small
network that turns the coordinates of a pixel in its cell into a colour. Only cells with a hole are asked.
Written from the paper; the state dict is that of NiFangBaAGe/CoordFill (BSD-3-Clause).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rethined.bench.peers.fourier import FFC, Concatenate, Pair

SIDE = 256
"""Of the picture that the encoder sees."""
CELLS = 32
"""Of the encoder's output, each way."""
WIDTHS = (4, 64, 64, 64, 64, 3)
"""The pixel network: four coordinates in, RGB out."""
SHARE = 0.75
"""Part of the encoder's channels that is global."""


class AttentionalFFC(nn.Module):
    """Attentional FFC (3.1): a mask is predicted, what it finds is taken away, and something else put in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.add = FFC(channels, channels, 3, (SHARE, SHARE), padding=1, norm=False)
        self.minus = FFC(channels + 1, channels, 3, (0, SHARE), padding=1, norm=False)
        self.mask = FFC(channels, 1, 3, (SHARE, 0), padding=1, norm=False, activation=nn.Sigmoid)

    def forward(self, x: Pair) -> Pair:
        local, remote = x
        assert remote is not None
        mask, _ = self.mask(x)
        minus = self.minus(torch.cat([local, remote, mask], 1))
        assert minus[1] is not None
        kept = local - minus[0], remote - minus[1]
        add = self.add(kept)
        assert add[1] is not None
        return kept[0] + add[0], kept[1] + add[1]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dowm = nn.Sequential(
            nn.ReflectionPad2d(3),
            FFC(4, 64, 7, norm=False),
            FFC(64, 128, 4, stride=2, padding=1, norm=False),
            FFC(128, 256, 4, stride=2, padding=1, norm=False),
            FFC(256, 512, 4, (0, SHARE), stride=2, padding=1, norm=False),
        )
        for index in range(1, 7):
            setattr(self, f"block{index}", AttentionalFFC(512))
        self.c = Concatenate()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4, 256, 256) to (B, 512, 32, 32)."""
        features = self.dowm(x)
        for index in range(1, 7):
            features = getattr(self, f"block{index}")(features)
        out: Tensor = self.c(features)
        return out


class CoordFill(nn.Module):
    """Encoder and the linear layer that writes the pixel networks' weights; sides are multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.refine = Encoder()
        numbers = sum(out * (into + 1) for into, out in pairwise(WIDTHS))
        self.asap = nn.Module()
        self.asap.lowres_stream = nn.Module()
        self.asap.lowres_stream.out_para = nn.Sequential(nn.Linear(512 + 1, numbers))
        self.counted = CELLS * CELLS

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """`image` (1, 3, H, W) in [-1, 1], `mask` (1, 1, H, W), 1 = known; the same range comes back."""
        height, width = image.shape[-2:]
        small = F.interpolate(image, (SIDE, SIDE), mode="bilinear")
        small_mask = F.interpolate(mask, (SIDE, SIDE), mode="nearest")
        features = self.refine(torch.cat([small * small_mask, small_mask], 1))
        tokens = features[0].flatten(1).T  # (1024, 512)
        tokens = torch.cat([tokens, torch.full_like(tokens[:, :1], CELLS / width)], 1)  # 3.2: scale injection
        tile = height // CELLS, width // CELLS
        picture = cells(image * mask, *tile)
        if image.is_meta:  # without data, as when operations are counted, a number of cells stands for the hole
            asked = torch.arange(self.counted, device=image.device)
        else:
            asked = (cells(mask, *tile) < 1).flatten(1).any(1).nonzero().squeeze(1)
        weights = self.asap.get_submodule("lowres_stream.out_para")(tokens[asked])
        picture = picture.index_copy(0, asked, query(weights, coordinates(*tile, image)))
        return uncells(picture, *tile) * (1 - mask) + image * mask


def query(weights: Tensor, x: Tensor) -> Tensor:
    """The pixel networks (3.3): `weights` (N, numbers), `x` (pixels, 4) to colours (N, pixels, 3)."""
    start = 0
    for into, out in pairwise(WIDTHS):
        bias = weights[:, None, start : start + out]
        matrix = weights[:, start + out : start + out + into * out].reshape(weights.shape[0], into, out)
        start += out * (into + 1)
        x = x @ matrix + bias
        x = F.leaky_relu(x, 0.01) if start < weights.shape[1] else torch.tanh(x)
    return x


def coordinates(rows: int, columns: int, like: Tensor) -> Tensor:
    """cos x, sin x, cos y, sin y of a cell's pixels, (rows columns, 4).

    A cell is 7/8 of a turn. The release derives y from the scaled x, so that y is scaled twice; weights rely on it.
    """
    x, y = (torch.arange(side, dtype=like.dtype, device=like.device) / side for side in (columns, rows))
    scale_x, scale_y = (line.max().clamp_min(1e-6) / (7 / 8) for line in (x, y))
    x, y = 2 * math.pi * (x / scale_x), 2 * math.pi * (y / scale_y / scale_y)
    x, y = x.repeat(rows), y.repeat_interleave(columns)
    return torch.stack([x.cos(), x.sin(), y.cos(), y.sin()], 1)


def cells(x: Tensor, rows: int, columns: int) -> Tensor:
    """(1, C, H, W) to (cells, rows columns, C)."""
    x = x[0].reshape(-1, CELLS, rows, CELLS, columns)
    return x.permute(1, 3, 2, 4, 0).reshape(CELLS * CELLS, rows * columns, -1)


def uncells(x: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `cells`."""
    x = x.reshape(CELLS, CELLS, rows, columns, -1).permute(4, 0, 2, 1, 3)
    return x.reshape(1, -1, CELLS * rows, CELLS * columns)
