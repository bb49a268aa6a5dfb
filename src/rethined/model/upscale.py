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
    config: ModelConfig, image: Tensor, mask: Tensor, image_lr: Tensor, refined: Tensor, attention: Attention
) -> Tensor:
    """Eq. 3-4: add to the upsampled low-resolution result the high frequencies that the same attention mixes.

    `image` (B, 3, s H, s W) in [0, 1] and `mask` (B, 1, s H, s W), 1 = hole, at full resolution; `image_lr` and
    `refined` (B, 3, H, W). High frequencies are p - up(p_LR): what the low-resolution grid cannot hold (Eq. 3).
    Every step is linear, so
        sum_j A_ij (X_j - up(LR_j)) + up(refined)  =  sum_j A_ij X_j + up(refined - sum_j A_ij LR_j),
    and the latter, which needs no high-frequency image, is computed here and in every engine.
    Returns (B, 3, s H, s W) with known pixels untouched.
    """
    side = config.patch_size
    scale = image.shape[2] // refined.shape[2]
    grid = (refined.shape[2] // side, refined.shape[3] // side)
    mask_lr = F.max_pool2d(mask, scale)
    corrupted = corrupted_patches(mask_lr, side)
    rows = torch.nonzero(corrupted.flatten())[:, 0]
    heard = flatten_rows(contributions(attention, corrupted, grid, config.overlap), rows)

    def mixed(picture: Tensor, side: int) -> Tensor:
        """`picture` with its corrupted patches replaced by what they copy; 0 where nothing is known."""
        tokens = patchify(picture, side)
        table = tokens.flatten(0, 1)
        new = mix(table, heard, window(side, config.overlap).to(picture))
        return unpatchify(table.index_copy(0, rows, new).view_as(tokens), side, grid)

    inside = F.interpolate(
        torch.unflatten(corrupted, 1, grid)[:, None].float(), scale_factor=float(side), mode="nearest"
    )
    correction = (refined - mixed(image_lr, side)) * inside
    smooth = F.interpolate(correction, scale_factor=float(scale), mode="bilinear", align_corners=False)
    return torch.where(mask > 0, (mixed(image, side * scale) + smooth).clamp(0, 1), image)
