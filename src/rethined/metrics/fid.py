"""FID-768: the Frechet distance between Inception-v3 features of two sets of images.

This is pytorch-fid's `dims=768` (the mean of the 17 x 17 x 768 map), not the usual 2048-wide FID: the numbers
are smaller and must always be called FID-768.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rethined.errors import InputError, WeightsError
from rethined.metrics import backbones

INPUT = 299
"""Side to which every image is resized (bilinear, no antialiasing, as pytorch-fid)."""


class Inception768(nn.Module):
    """Inception-v3 of FID up to its 17 x 17 x 768 map, averaged: (B, 3, H, W) in [0, 1] to (B, 768)."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in weights.items():
            # Stored in float16; TensorFlow's names, flat: `mixed_4_tower_1_conv_2.weight`.
            self.register_buffer(name.replace(".", "__"), tensor.float())

    @classmethod
    def load(cls, path: Path | None = None) -> Inception768:
        """From `path` or `inception2015_768.safetensors` in $RETHINED_BACKBONES.

        Raises:
            InputError: the file is not there.
            WeightsError: the file does not hold this network.
        """
        weights = backbones.load("inception2015_768.safetensors", path)
        model = cls(weights).eval()
        try:
            with torch.no_grad():
                model(torch.zeros(1, 3, 8, 8))
        except AttributeError as error:
            raise WeightsError(f"{path or 'inception2015_768.safetensors'} lacks a layer: {error}") from error
        return model

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, (INPUT, INPUT), mode="bilinear", align_corners=False)
        x = self._conv(2 * x - 1, "conv", stride=2, same=False)
        x = self._conv(x, "conv_1", same=False)
        x = F.max_pool2d(self._conv(x, "conv_2"), 3, 2)
        x = F.max_pool2d(self._conv(self._conv(x, "conv_3"), "conv_4", same=False), 3, 2)
        for name in ("mixed", "mixed_1", "mixed_2"):
            x = self._mixed(x, name, tower=2, tower_1=3)
        x = self._reduction(x)
        for name in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
            x = self._mixed(x, name, tower=3, tower_1=5)
        return x.mean((2, 3))

    def _mixed(self, x: Tensor, name: str, *, tower: int, tower_1: int) -> Tensor:
        """Four branches side by side: 1x1; towers of so many convolutions; average pool and 1x1."""
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat(
            [
                self._conv(x, f"{name}_conv"),
                self._chain(x, f"{name}_tower", tower),
                self._chain(x, f"{name}_tower_1", tower_1),
                self._conv(pooled, f"{name}_tower_2_conv"),
            ],
            1,
        )

    def _reduction(self, x: Tensor) -> Tensor:
        """`mixed_3`: 35 x 35 to 17 x 17."""
        tower = self._chain(x, "mixed_3_tower", 2)
        return torch.cat(
            [
                self._conv(x, "mixed_3_conv", stride=2, same=False),
                self._conv(tower, "mixed_3_tower_conv_2", stride=2, same=False),
                F.max_pool2d(x, 3, 2),
            ],
            1,
        )

    def _chain(self, x: Tensor, name: str, length: int) -> Tensor:
        for index in range(length):
            x = self._conv(x, f"{name}_conv" + (f"_{index}" if index else ""))
        return x

    def _conv(self, x: Tensor, name: str, *, stride: int = 1, same: bool = True) -> Tensor:
        weight, bias = getattr(self, f"{name}__weight"), getattr(self, f"{name}__bias")
        padding = (weight.shape[2] // 2, weight.shape[3] // 2) if same else (0, 0)
        return F.relu(F.conv2d(x, weight, bias, stride, padding))


@torch.no_grad()
def features(model: Inception768, images: Iterable[NDArray[np.uint8]], *, batch: int = 8) -> NDArray[np.float64]:
    """One row of 768 numbers per uint8 RGB image (H, W, 3) of any size: (N, 768)."""
    rows: list[NDArray[np.float64]] = []
    waiting: list[Tensor] = []

    def flush() -> None:
        rows.extend(model(torch.cat(waiting)).double().numpy())
        waiting.clear()

    for image in images:
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float().div_(255)
        # Resized here, as the network would, so that images of different sizes share a batch.
        waiting.append(F.interpolate(tensor, (INPUT, INPUT), mode="bilinear", align_corners=False))
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    return np.array(rows).reshape(-1, 768)


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Distance between the Gaussians fitted to two sets of features, (N, D) and (M, D), N and M at least 2.

    |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr((A B)^1/2), with the unbiased covariances A and B. With A = X'X
    and B = Y'Y the last trace is the sum of the singular values of X Y': exact also when there are fewer
    images than features, where a matrix square root of A B is not.
    """
    if min(len(a), len(b)) < 2:
        raise InputError(f"FID-768 got {len(a)} and {len(b)} images; it needs two or more of each")
    x = (a - a.mean(0)) / np.sqrt(len(a) - 1)
    y = (b - b.mean(0)) / np.sqrt(len(b) - 1)
    traces = (x**2).sum() + (y**2).sum()
    # X and its triangular factor have the same X'X: with many images the smaller one does.
    x, y = (np.asarray(np.linalg.qr(m, mode="r")) if len(m) > m.shape[1] else m for m in (x, y))
    common = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * common)


def crops(mask: NDArray[np.bool_], count: int, size: int, rng: np.random.Generator) -> list[tuple[slice, slice]]:
    """`count` squares of `size` pixels, each around a random hole pixel and inside the image, as indices.

    FID of a dozen whole photographs says nothing; the same crops of fills and of their originals make a set.
    A side shorter than `size` is taken whole. No hole gives no crops.
    """
    holes = np.flatnonzero(mask)
    height, width = mask.shape
    boxes = []
    for at in rng.choice(holes, count) if len(holes) else ():
        y, x = divmod(int(at), width)
        top = min(max(0, y - size // 2), max(0, height - size))
        left = min(max(0, x - size // 2), max(0, width - size))
        boxes.append((slice(top, min(height, top + size)), slice(left, min(width, left + size))))
    return boxes
