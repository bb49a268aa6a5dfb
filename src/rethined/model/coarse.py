"""The coarse network (3.2): a pull-push fill, and an encoder-decoder that predicts what it lacks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rethined.config import ModelConfig
from rethined.model.blocks import RepBlock, RepConv

STEM = 4
"""The network's first stride: full-resolution convolutions cost most and see least."""


def pull_push(image: Tensor, weight: Tensor, levels: int) -> Tensor:
    """Fill what is not known by averaging down a pyramid and interpolating back up (after Gortler et al. 1996).

    `image` (B, C, H, W), any value where nothing is known; `weight` (B, 1, H, W) in [0, 1], how far a cell is known;
    H and W multiples of 2**levels. Cells of weight 1 are returned as they came. It has no learned part and no border
    error.
    """
    # Weights saturate at 1 on the way down, so that no level holds numbers too small for fp16.
    pyramid = [(image, weight)]
    for _ in range(levels):
        known = F.avg_pool2d(weight, 2)
        image = F.avg_pool2d(image * weight, 2) / known.clamp(min=0.1)
        weight = (known * 4).clamp(max=1)
        pyramid.append((image, weight))
    # At the top, wide normalised box filters reach whatever is still empty; then the mean of all that is known.
    total = F.adaptive_avg_pool2d(weight, 1)
    filled = F.adaptive_avg_pool2d(image * weight, 1) / total.clamp(min=1e-3)
    for side in (31, 15, 7, 3):
        near = box_mean(weight, side)
        mean = box_mean(image * weight, side) / near.clamp(min=1e-3)
        # Weights are quarters, so a box holds 0.5 cells or less (0) or 0.75 or more (1): a comparison that no
        # rounding changes, of operators that every runtime has.
        some = (near * (16 * side**2) - 9.5).clamp(0, 1)
        filled = filled + (mean - filled) * some
    filled = image * weight + filled * (1 - weight)
    for image, weight in reversed(pyramid[:-1]):
        filled = F.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
        filled = image * weight + filled * (1 - weight)
    return filled


def box_mean(x: Tensor, side: int) -> Tensor:
    """Means of `side` x `side` around every cell of (B, C, h, w), zeros beyond the border; as two passes."""
    return F.avg_pool2d(F.avg_pool2d(x, (side, 1), 1, (side // 2, 0)), (1, side), 1, (0, side // 2))


def spread(cells: Tensor, mask: Tensor, by_rows: bool = True) -> Tensor:
    """`cells` (B, C, h, w) repeated over the pixels of `mask` (B, 1, H, W), times that.

    `by_rows`: along rows by interpolation, down columns by the product, which ONNX Runtime does in half the time.
    Where the size is not fixed that reads shapes, which not every format can.
    """
    batch, channels, height, width = *cells.shape[:2], *mask.shape[2:]
    side = mask.shape[2] // cells.shape[2]
    if side == 1:
        return cells * mask
    if not by_rows:
        return F.interpolate(cells, scale_factor=float(side), mode="nearest") * mask
    rows = F.interpolate(cells, scale_factor=(1.0, float(side)), mode="nearest")
    lead = (batch,) if batch > 1 else ()  # not every runtime knows more than four axes
    product = rows.reshape(*lead, channels, -1, 1, width) * mask.reshape(*lead, 1, -1, side, width)
    return product.reshape(batch, channels, height, width)


class CellMeans(nn.Module):
    """Means of cells of `side` x `side` pixels: (B, channels, H, W) -> (B, channels, H / side, W / side).

    Fused it is a convolution, which ONNX Runtime computes faster than an average of so few channels.
    """

    kernel: Tensor

    def __init__(self, channels: int, side: int, *, convolves: bool = False) -> None:
        super().__init__()
        self.channels, self.side, self.convolves = channels, side, convolves
        kernel = (torch.eye(channels) / side**2)[:, :, None, None].repeat(1, 1, side, side)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, stride=self.side) if self.convolves else F.avg_pool2d(x, self.side)

    def fused(self) -> CellMeans:
        return CellMeans(self.channels, self.side, convolves=self.side > 1).to(self.kernel.device)


class Coarse(NamedTuple):
    """What `CoarseNetwork` returns."""

    image: Tensor
    """(B, 3, H / band, W / band), in which cells without a hole are their true means."""
    features: list[Tensor]
    """The decoder's, by stride 4, 8, 16, ..."""
    hole: Tensor
    """(B, 1, H / band, W / band): 1 for cells of which any pixel is hole, else 0."""


class CoarseNetwork(nn.Module):
    """Encoder-decoder of re-parameterisable blocks with added skips; starts as the pull-push fill exactly.

    The residual head is zero-initialised: an untrained network returns the pull-push fill, and a barely trained one
    cannot be worse than it by much (METHOD: a network that draws colours from nothing is).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths, depths, branches = config.widths, config.depths, config.branches
        self.band = config.band
        self.by_rows = True  # see `spread`; an exporter may know better
        self.levels = int(math.log2(config.stride // config.band))  # of the pyramid, until a cell is one stride

        def stage(width: int, depth: int) -> nn.Sequential:
            return nn.Sequential(*(RepBlock(width, width, branches=branches) for _ in range(depth)))

        self.image_means, self.mask_means = CellMeans(3, config.band), CellMeans(1, config.band)
        self.stem = RepConv(4, widths[0], STEM, stride=STEM, branches=branches)
        self.encoder = nn.ModuleList(stage(w, d) for w, d in zip(widths, depths, strict=True))
        self.down = nn.ModuleList(RepBlock(a, b, stride=2, branches=branches) for a, b in pairwise(widths))
        self.up = nn.ModuleList(RepConv(b, a, 1, branches=branches, activation=False) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(stage(w, d) for w, d in zip(widths[:-1], depths[:-1], strict=True))
        self.head = nn.Conv2d(widths[0], 3 * (STEM // config.band) ** 2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(cast(Tensor, self.head.bias))

    def known(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of every cell the mean of what is known, how far that counts (a cell known by a quarter counts fully), and
        1 if any of its pixels is hole, else 0; arguments as in `forward`."""
        share = self.mask_means(mask)
        known = 1 - share
        # Shares are counts of pixels, without rounding.
        hole = (share * self.band**2).clamp(max=1)
        return self.image_means(image) / known.clamp(min=1e-3), (known * 4).clamp(max=1), hole

    def forward(self, image: Tensor, mask: Tensor) -> Coarse:
        """`image` (B, 3, H, W) in [0, 1], 0 in the hole; `mask` (B, 1, H, W), 1 = hole; H and W multiples of
        `ModelConfig.stride`."""
        means, weight, hole = self.known(image, mask)
        base = pull_push(means, weight, self.levels)
        x = self.stem(torch.cat([image + spread(base, mask, self.by_rows), mask], 1))
        skips = []
        for i, stage in enumerate(self.encoder):
            x = stage(x if i == 0 else self.down[i - 1](x))
            skips.append(x)
        features = [x]
        for i in reversed(range(len(self.up))):
            x = F.interpolate(self.up[i](x), scale_factor=2.0, mode="nearest")
            x = self.decoder[i](F.relu(x + skips[i]))
            features.insert(0, x)
        residual = self.head(x)
        if self.band < STEM:
            return Coarse(base + F.pixel_shuffle(residual, STEM // self.band) * hole, features, hole)
        return Coarse(base + calmed(residual, hole) * (hole * beside_thick(weight)), features, hole)


def beside_thick(weight: Tensor) -> Tensor:
    """1 in the middle of 5 x 5 cells if nothing is known of 5 or more of them, else 0; `weight` as in `pull_push`,
    0 where nothing is known. (B, 1, h, w) both.

    Elsewhere a hole is a scratch or a speck, known on both sides, and the pull-push fill a far better guess than the
    network's, which learned from holes that are wider.
    """
    unknown = 1 - (weight * 4).clamp(max=1)
    # A comparison that no rounding changes, as in `pull_push`.
    return (F.avg_pool2d(unknown, 5, 1, 2) * 50 - 8.5).clamp(0, 1)


def calmed(residual: Tensor, hole: Tensor) -> Tensor:
    """`residual` (B, 3, h, w) smoothed where `hole` (B, 1, h, w), 1 = hole, is more than 3 cells deep.

    Near known cells the network sees what it continues; far from them it guesses, and what it guesses at a single
    cell is noise.
    """
    deep = F.avg_pool2d(1 - F.max_pool2d(1 - hole, 7, 1, 3), 3, 1, 1)
    return residual + (F.avg_pool2d(residual, 5, 1, 2) - residual) * deep
