"""Attention upscaling (3.4) in plain PyTorch: what every fast implementation is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rethined.config import ModelConfig
from rethined.model.patch_match import (
    Attention,
    contributions,
    corrupted_patches,
    flatten_rows,
    mix,
    patchify,
    unpatchify,
    window,
)


def upscale(
    config: ModelConfig, image: Tensor, mask: Tensor, mask_lr: Tensor, low: Tensor, attention: Attention
) -> Tensor:
    """Eq. 3-4: add to the upsampled low band the higher frequencies that the attention mixes.

    `image` (B, 3, s H, s W) in [0, 1] and `mask` (B, 1, s H, s W), 1 = hole, at full resolution; `mask_lr`
    (B, 1, H, W); `low` (B, 3, H / band, W / band). High frequencies are p - up(p_low): what the cells of `low` cannot
    hold (Eq. 3). Every step is linear, so
        sum_j A_ij (X_j - up(low_j)) + up(low)  =  sum_j A_ij X_j + up(low - sum_j A_ij low_j),
    and the latter, which needs no high-frequency image, is computed here and in every engine (exact for hard tiles;
    blended windows are sampled at the cells).
    Returns (B, 3, s H, s W) with known pixels untouched.
    """
    side = config.patch_size
    scale = image.shape[2] // mask_lr.shape[2]
    grid = (mask_lr.shape[2] // side, mask_lr.shape[3] // side)
    corrupted = corrupted_patches(mask_lr, side)
    rows = torch.nonzero(corrupted.flatten())[:, 0]
    heard = flatten_rows(contributions(attention, corrupted, grid, config.overlap), rows)

    def mixed(picture: Tensor, side: int) -> Tensor:
        """`picture` with its corrupted patches replaced by what they copy; 0 where nothing is known."""
        tokens = patchify(picture, side)
        table = tokens.flatten(0, 1)
        new = mix(table, heard, window(side, config.overlap).to(picture))
        return unpatchify(table.index_copy(0, rows, new).view_as(tokens), side, grid)

    cells = side // config.band
    inside = F.interpolate(
        torch.unflatten(corrupted, 1, grid)[:, None].to(low.dtype), scale_factor=float(cells), mode="nearest"
    )
    # Known patches are data, not predictions: no gradient runs through what is copied.
    correction = (low - mixed(low.detach(), cells)) * inside
    smooth = F.interpolate(correction, scale_factor=float(scale * config.band), mode="bilinear", align_corners=False)
    return torch.where(mask > 0, (mixed(image, side * scale) + smooth).clamp(0, 1), image)
