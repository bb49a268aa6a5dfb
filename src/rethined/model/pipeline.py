"""The whole of Fig. 2, left to right."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rethined.config import ModelConfig
from rethined.errors import WeightsError
from rethined.model.blocks import fused
from rethined.model.coarse import CoarseNetwork
from rethined.model.patch_match import NeuralPatchMatch, corrupted_patches
from rethined.model.upscale import upscale


def downsample(image: Tensor, mask: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """3.1 by an integer factor: box average of the image, and a pixel is a hole if any of its pixels is.

    The box is the low-pass that needs no border handling, is one pass in every runtime, and leaves fully known
    blocks exact whatever the hole holds.
    """
    if scale == 1:
        return image * (1 - mask), mask
    mask_lr = F.max_pool2d(mask, scale)
    return F.avg_pool2d(image, scale) * (1 - mask_lr), mask_lr


def fine_detail(image: Tensor, mask: Tensor, scale: int, side: int) -> Tensor:
    """How much detail each patch holds just above what the low-resolution grid can: (B, 6, H / side, W / side).

    The root mean square, over a patch, of half the difference between the halves of each low-resolution pixel's box:
    left from right for R, G and B, then upper from lower. `image` (B, 3, s H, s W) in [0, 1], `mask`
    (B, 1, s H, s W), 1 = hole. At scale 1 there is none.
    """
    batch, channels, height, width = image.shape
    if scale == 1:
        return image.new_zeros(batch, 2 * channels, height // side, width // side)
    boxes = (image * (1 - mask)).view(batch, channels, height // scale, scale, width // scale, scale)
    half = scale // 2
    across = boxes[..., :half].mean((3, 5)) - boxes[..., scale - half :].mean((3, 5))
    down = boxes[:, :, :, :half].mean((3, 5)) - boxes[:, :, :, scale - half :].mean((3, 5))
    return F.avg_pool2d((torch.cat([across, down], 1) / 2).square(), side).sqrt()


class Rethined(nn.Module):
    """RETHINED (WACV 2025). `config` says which variant; `fused_copy()` is the deployed form of the same function."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse = CoarseNetwork(config)
        self.patch_match = NeuralPatchMatch(config)

    def forward(self, image: Tensor, mask: Tensor, scale: int = 1) -> Tensor:
        """Fill `image` (B, 3, s H, s W) in [0, 1] where `mask` (B, 1, s H, s W) is 1; H, W multiples of stride."""
        image_lr, mask_lr = downsample(image, mask, scale)  # 3.1
        coarse, features, _ = self.coarse(image_lr, mask_lr)  # 3.2
        detail = fine_detail(image, mask, scale, self.config.patch_size) if self.config.detail else None
        low, attention = self.patch_match(coarse, features, mask_lr, detail)  # 3.3
        return upscale(self.config, image, mask, mask_lr, low, attention)  # 3.4

    def fused_copy(self) -> Rethined:
        """A copy in evaluation mode in which every block is one plain convolution (3.5)."""
        copy = fused(self)
        assert isinstance(copy, Rethined)
        return copy


def halved(weight: Tensor) -> Tensor:
    """`weight` rounded to what half precision holds, in its own type; below 2^-14, where converters differ, to 0.

    Raises:
        WeightsError: numbers that half precision has not.
    """
    kinds = torch.finfo(torch.float16)
    rounded = weight.half().to(weight.dtype)
    if not torch.isfinite(rounded).all():
        raise WeightsError(
            f"a weight is {weight.abs().max():.3g} once blocks are fused, and in half precision the largest is "
            f"{kinds.max:.0f}; train with another seed or a lower rate, or give other weights"
        )
    return torch.where(rounded.abs() < kinds.smallest_normal, 0, rounded)


class Core(nn.Module):
    """What every runtime runs, fused. B = 1; inputs are the low-resolution image, its mask, and its detail.

    Weights are numbers of half precision, so that a file which stores them in 16 bits is the same function; all
    arithmetic is in single precision, since the search would take other sources after less.

    Raises:
        WeightsError: as of `halved`.
    """

    def __init__(self, model: Rethined) -> None:
        super().__init__()
        self.model = copy.deepcopy(model.fused_copy())  # fused blocks are new, but the rest is shared
        for parameter in self.model.parameters():
            parameter.data = halved(parameter.data)

    def forward(self, image: Tensor, mask: Tensor, detail: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(1, 3, H, W) in [0, 1], 0 in the hole; (1, 1, H, W), 1 = hole; (1, 6, H / P, W / P) from `fine_detail`
        -> low (1, 3, H / band, W / band) and, with `search`, query and key (1, d_k, H / P, W / P) of unit length;
        without it, source (N, k) and weight (N, k)."""
        match = self.model.patch_match
        coarse, features, hole = self.model.coarse(image, mask)
        if match.config.search:  # a number a patch, not a bool: not every runtime has those
            corrupted = F.max_pool2d(hole, match.config.patch_size // match.config.band)
            return coarse, *match.embed(coarse, features, detail, corrupted)
        corrupted = corrupted_patches(mask, match.config.patch_size)
        attention = match.attend_rows(*match.scores(coarse, features, detail, corrupted), corrupted)
        low = match.low(coarse, mask, attention)
        return low, attention.source[0].to(torch.int32), attention.weight[0]
