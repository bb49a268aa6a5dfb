"""The coarse network (3.2): a pull-push fill, and an encoder-decoder that predicts what it lacks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

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
        near = F.avg_pool2d(weight, side, 1, side // 2)
        mean = F.avg_pool2d(image * weight, side, 1, side // 2) / near.clamp(min=1e-3)
        # Weights are quarters, so a box holds 0.5 cells or less (0) or 0.75 or more (1): a comparison that no
        # rounding changes, of operators that every runtime has.
        some = (near * (16 * side**2) - 9.5).clamp(0, 1)
        filled = filled + (mean - filled) * some
    filled = image * weight + filled * (1 - weight)
    for image, weight in reversed(pyramid[:-1]):
        filled = F.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
        filled = image * weight + filled * (1 - weight)
    return filled


def known_means(image: Tensor, mask: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Means of what is known in every `side` x `side` cell of `image`, and how far each counts as known.

    `image` (B, 3, H, W), 0 in the hole; `mask` (B, 1, H, W), 1 = hole. A cell known by a quarter counts fully.
    """
    if side == 1:
        return image, 1 - mask
    known = 1 - F.avg_pool2d(mask, side)
    return F.avg_pool2d(image, side) / known.clamp(min=1e-3), (known * 4).clamp(max=1)


def hole_cells(mask: Tensor, side: int) -> Tensor:
    """1 for cells of `side` x `side` pixels of `mask` (B, 1, H, W), all 0 or 1, of which any is 1; else 0.

    From the means that `known_means` has, so that runtimes look at every pixel once.
    """
    return mask if side == 1 else (F.avg_pool2d(mask, side) * side**2).clamp(max=1)


class CoarseNetwork(nn.Module):
    """Encoder-decoder of re-parameterisable blocks with added skips; starts as the pull-push fill exactly.

    The residual head is zero-initialised: an untrained network returns the pull-push fill, and a barely trained one
    cannot be worse than it by much (METHOD: a network that draws colours from nothing is).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths, depths, branches = config.widths, config.depths, config.branches
        self.band = config.band
        self.levels = int(math.log2(config.stride // config.band))  # of the pyramid, until a cell is one stride

        def stage(width: int, depth: int) -> nn.Sequential:
            return nn.Sequential(*(RepBlock(width, width, branches=branches) for _ in range(depth)))

        self.stem = RepConv(4, widths[0], STEM, stride=STEM, branches=branches)
        self.encoder = nn.ModuleList(stage(w, d) for w, d in zip(widths, depths, strict=True))
        self.down = nn.ModuleList(RepBlock(a, b, stride=2, branches=branches) for a, b in pairwise(widths))
        self.up = nn.ModuleList(RepConv(b, a, 1, branches=branches, activation=False) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(stage(w, d) for w, d in zip(widths[:-1], depths[:-1], strict=True))
        self.head = nn.Conv2d(widths[0], 3 * (STEM // config.band) ** 2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(cast(Tensor, self.head.bias))

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`image` (B, 3, H, W) in [0, 1], 0 in the hole; `mask` (B, 1, H, W), 1 = hole.

        Returns the coarse image (B, 3, H / band, W / band), in which cells without a hole are their true means, and
        the decoder's features by stride 4, 8, 16, ... H and W are multiples of `ModelConfig.stride`.
        """
        means, weight = known_means(image, mask, self.band)
        base = pull_push(means, weight, self.levels)
        fill, hole = base, hole_cells(mask, self.band)
        if self.band > 1:
            fill = F.interpolate(base, scale_factor=float(self.band), mode="nearest")
        x = self.stem(torch.cat([image + fill * mask, mask], 1))
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
            return base + F.pixel_shuffle(residual, STEM // self.band) * hole, features
        return base + calmed(residual, hole) * hole, features


def calmed(residual: Tensor, hole: Tensor) -> Tensor:
    """`residual` (B, 3, h, w) smoothed where `hole` (B, 1, h, w), 1 = hole, is more than 3 cells deep.

    Near known cells the network sees what it continues; far from them it guesses, and what it guesses at a single
    cell is noise.
    """
    deep = F.avg_pool2d(1 - F.max_pool2d(1 - hole, 7, 1, 3), 3, 1, 1)
    return residual + (F.avg_pool2d(residual, 5, 1, 2) - residual) * deep
