"""The Frechet distance between Inception-v3 features of two sets of images: FID, or FID-768.

FID takes the usual 2048 features of the network's end, from a file that users bring. FID-768 is pytorch-fid's
`dims=768`, the mean of the 17 x 17 x 768 map in its middle: the numbers are smaller and must always be called
FID-768. Both read the images as pytorch-fid does.
"""

from __future__ import annotations

import re
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
FILES = (
    "pt_inception-2015-12-05-6726825d.pth",
    "weights-inception-2015-12-05-6726825d.pth",
    "inception2015_768.safetensors",
)
"""Where the network is looked for: the whole one first."""
BATCHNORM_EPSILON = 1e-3

_STEM = {"1a_3x3": "conv", "2a_3x3": "conv_1", "2b_3x3": "conv_2", "3b_1x1": "conv_3", "4a_3x3": "conv_4"}
_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
_TOWERS = {
    "branch1x1": "",
    "branch3x3": "tower_",
    "branch5x5": "tower_",
    "branch7x7": "tower_",
    "branch3x3dbl": "tower_1_",
    "branch7x7dbl": "tower_1_",
    "branch7x7x3": "tower_1_",
    "branch_pool": "tower_2_",
}


class Inception(nn.Module):
    """Inception-v3 of FID: (B, 3, H, W) in [0, 1] to (B, 2048), or (B, 768) where the weights end there."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """`weights` by TensorFlow's names, flat: `mixed_4_tower_1_conv_2.weight` (O, I, h, w) and `.bias`."""
        super().__init__()
        self.whole = "mixed_10_conv.weight" in weights
        for name, tensor in weights.items():
            self.register_buffer(name.replace(".", "__"), tensor.float())

    @property
    def label(self) -> str:
        """What a distance between its features is called."""
        return "FID" if self.whole else "FID-768"

    @classmethod
    def load(cls, path: Path | None = None) -> Inception:
        """From `path`, or the first of FILES in $RETHINED_BACKBONES.

        Raises:
            InputError: no such file.
            WeightsError: the file does not hold this network.
        """
        tensors = backbones.load(FILES, path)
        name = path or "the Inception file"
        try:
            model = cls(_folded(tensors) if "Conv2d_1a_3x3.conv.weight" in tensors else tensors).eval()
            with torch.no_grad():
                model(torch.zeros(1, 3, 8, 8))
        except (AttributeError, KeyError) as error:
            raise WeightsError(f"{name} lacks a layer of Inception-v3: {error}") from error
        except RuntimeError as error:
            raise WeightsError(f"{name} is not the Inception-v3 of FID: {error}") from error
        return model

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, (INPUT, INPUT), mode="bilinear", align_corners=False)
        x = self._conv(2 * x - 1, "conv", stride=2, same=False)
        x = self._conv(x, "conv_1", same=False)
        x = F.max_pool2d(self._conv(x, "conv_2"), 3, 2)
        x = F.max_pool2d(self._conv(self._conv(x, "conv_3"), "conv_4", same=False), 3, 2)
        for name in ("mixed", "mixed_1", "mixed_2"):  # 35 x 35
            x = self._mixed(x, name, tower=2, tower_1=3)
        x = self._reduction(x)
        for name in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):  # 17 x 17
            x = self._mixed(x, name, tower=3, tower_1=5)
        if self.whole:
            x = self._second_reduction(x)
            x = self._wide(x, "mixed_9", F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))  # 8 x 8
            x = self._wide(x, "mixed_10", F.max_pool2d(x, 3, 1, 1))  # so it was in 2015, and FID stayed with it
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

    def _second_reduction(self, x: Tensor) -> Tensor:
        """`mixed_8`: 17 x 17 to 8 x 8."""
        tower = self._conv(x, "mixed_8_tower_conv")
        tower_1 = self._chain(x, "mixed_8_tower_1", 3)
        return torch.cat(
            [
                self._conv(tower, "mixed_8_tower_conv_1", stride=2, same=False),
                self._conv(tower_1, "mixed_8_tower_1_conv_3", stride=2, same=False),
                F.max_pool2d(x, 3, 2),
            ],
            1,
        )

    def _wide(self, x: Tensor, name: str, pooled: Tensor) -> Tensor:
        """`mixed_9` and `mixed_10`: towers end in a 1x3 and a 3x1 convolution side by side."""
        tower = self._conv(x, f"{name}_tower_conv")
        tower_1 = self._chain(x, f"{name}_tower_1", 2)
        return torch.cat(
            [
                self._conv(x, f"{name}_conv"),
                self._conv(tower, f"{name}_tower_mixed_conv"),
                self._conv(tower, f"{name}_tower_mixed_conv_1"),
                self._conv(tower_1, f"{name}_tower_1_mixed_conv"),
                self._conv(tower_1, f"{name}_tower_1_mixed_conv_1"),
                self._conv(pooled, f"{name}_tower_2_conv"),
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


def _folded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names and separate batch normalisation (a state_dict) to ours, where it is in the weights."""
    folded = {}
    for name, weight in tensors.items():
        layer, _, kind = name.rpartition(".conv.")
        if kind != "weight":
            continue  # batch normalisation, taken below, and the classifier, which FID does not use
        gamma, beta, mean, variance = (
            tensors[f"{layer}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / (variance + BATCHNORM_EPSILON).sqrt()
        folded[f"{_renamed(layer)}.weight"] = weight.double() * scale[:, None, None, None]
        folded[f"{_renamed(layer)}.bias"] = beta - mean * scale
    return folded


def _renamed(layer: str) -> str:
    """torchvision's name of a layer to TensorFlow's: `Mixed_6b.branch7x7_2` to `mixed_4_tower_conv_1`."""
    block, _, branch = layer.partition(".")
    if not branch:
        return _STEM[block.removeprefix("Conv2d_")]
    index = _BLOCKS.index(block.removeprefix("Mixed_"))
    mixed = f"mixed_{index}" if index else "mixed"
    parts = re.fullmatch(r"(branch\w+?)(?:_(\d)([ab]?))?", branch)
    stem, number, letter = parts.groups() if parts else (branch, "", "")
    tower = _TOWERS[stem]
    if block == "Mixed_6a":  # which has one tower, and beside it a convolution
        tower = "tower_" if number else ""
    if letter:
        return f"{mixed}_{tower}mixed_conv" + ("_1" if letter == "b" else "")
    return f"{mixed}_{tower}conv" + (f"_{int(number) - 1}" if number and number > "1" else "")


@torch.no_grad()
def features(model: Inception, images: Iterable[NDArray[np.uint8]], *, batch: int = 8) -> NDArray[np.float64]:
    """One row of features per uint8 RGB image (H, W, 3) of any size: (N, 2048) or (N, 768)."""
    rows: list[NDArray[np.float64]] = []
    waiting: list[Tensor] = []

    def flush() -> None:
        rows.extend(model(torch.cat(waiting)).double().numpy())
        waiting.clear()

    for image in images:
        waiting.append(_reduced(image))  # as the network would, so that images of different sizes share a batch
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    return np.array(rows).reshape(-1, 2048 if model.whole else 768)


def _reduced(image: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) to (1, 3, 299, 299) in [0, 1]: `F.interpolate`, bilinear, with only the rows that it reads."""
    height = image.shape[0]
    at = ((torch.arange(INPUT) + 0.5) * (height / INPUT) - 0.5).clamp(0, height - 1)
    above = at.long()
    below = (above + 1).clamp_max(height - 1)
    share = (at - above)[:, None, None]
    top, bottom = (torch.from_numpy(image[rows.numpy()]).float() for rows in (above, below))
    rows = (top * (1 - share) + bottom * share).permute(2, 0, 1)[None].div_(255)
    return F.interpolate(rows, (INPUT, INPUT), mode="bilinear", align_corners=False)


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Distance between the Gaussians fitted to two sets of features, (N, D) and (M, D), N and M at least 2.

    |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr((A B)^1/2), with the unbiased covariances A and B. With A = X'X
    and B = Y'Y the last trace is the sum of the singular values of X Y': exact also when there are fewer
    images than features, where a matrix square root of A B is not.
    """
    if min(len(a), len(b)) < 2:
        raise InputError(f"FID got {len(a)} and {len(b)} images; it needs two or more of each")
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
