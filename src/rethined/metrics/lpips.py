"""LPIPS v0.1 (Zhang et al., CVPR 2018) in plain torch over AlexNet or SqueezeNet: metric, map and loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rethined.errors import InputError, WeightsError
from rethined.metrics import backbones

Net = Literal["alex", "squeeze"]

STRIDE = 16
"""Total stride of both networks, in pixels: tiles start at multiples of it so that their features line up."""
HALO = 112
"""Pixels around a tile that its features see: 80 (alex), 102 (squeeze), rounded up to STRIDE."""
STRIP = 256
"""Rows of the full-size map that are worked on at once."""
SMALLEST = 32
"""Shortest side, in pixels, at which every tap of both networks still has a value."""


class Lpips(nn.Module):
    """Learned perceptual distance between images, frozen, always in evaluation mode.

    Images are float RGB (B, 3, H, W) in [0, 1], at least 32 pixels a side (InputError otherwise).
    `forward` and `distance` are differentiable in the images; the weights never train.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        if net == "alex":
            layers, self.taps, widths = _alexnet(), [1, 4, 7, 9, 11], [64, 192, 384, 256, 256]
        elif net == "squeeze":
            layers, self.taps = _squeezenet(), [1, 4, 7, 9, 10, 11, 12]
            widths = [64, 128, 256, 384, 384, 512, 512]
        else:
            raise InputError(f"LPIPS network is {net!r}; choose alex or squeeze")
        self.layers = nn.Sequential(*layers)
        # One non-negative weight per channel; kept as (1, C, 1, 1), the kernel of a 1x1 convolution.
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(1, width, 1, 1)) for width in widths])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, net: Net, path: Path | None = None) -> Lpips:
        """The published weights: `path`, or `lpips_<net>.safetensors` in $RETHINED_BACKBONES or the package.

        Raises:
            InputError: the file is not there.
            WeightsError: the file does not hold this network.
        """
        model = cls(net)
        tensors = backbones.load((f"lpips_{net}.safetensors",), path)
        renamed = {}
        for name, tensor in tensors.items():
            if name.startswith("lin"):  # lin3.model.1.weight
                renamed[f"heads.{name[3]}"] = tensor
            else:
                renamed[name.replace("features.", "layers.", 1)] = tensor
        try:
            model.load_state_dict({**renamed, "shift": model.shift, "scale": model.scale})
        except RuntimeError as error:  # names or shapes that differ
            raise WeightsError(f"{path or net} does not hold LPIPS over {net}: {error}") from error
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on CPUs two thirds of the time
        return model.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Lpips:
        """Stays in evaluation mode, so that a parent's `.train()` changes nothing."""
        return super().train(False)

    def features(self, x: Tensor, taps: int | None = None) -> list[Tensor]:
        """One map (B, C, h, w) per tap, channels scaled to unit length, of `x` (B, 3, H, W) in [0, 1]; the first
        `taps` only, if given."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[-2:]) < SMALLEST:
            raise InputError(f"LPIPS got {tuple(x.shape)}; give (B, 3, H, W) of at least {SMALLEST} pixels a side")
        x = ((2 * x - 1) - self.shift) / self.scale  # type: ignore[operator]  # buffers are typed Tensor | Module
        maps = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.taps:
                # 1e-8 keeps the gradient of dead pixels finite, as in torchmetrics. Sums in single precision, maps in
                # that of the network: under autocast the first tap would else be copied three times.
                length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
                maps.append(x * torch.rsqrt(length.square() + 1e-8).to(x.dtype))
                if len(maps) == taps:
                    break
        return maps

    def tap_maps(self, features_a: Sequence[Tensor], features_b: Sequence[Tensor]) -> list[Tensor]:
        """The distance at every tap's own resolution: list of (B, 1, h, w)."""
        pairs = zip(features_a, features_b, self.heads, strict=True)
        return [F.conv2d((a - b).square(), head) for a, b, head in pairs]

    def distance(
        self, features_a: Sequence[Tensor], features_b: Sequence[Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """LPIPS (B,) from two results of `features`, so that a target's features are computed once.

        With `mask` (B, 1, H, W), weights in [0, 1], each tap is averaged under the mask reduced to its size
        by area instead of over the whole image; an empty mask gives 0.
        """
        total: Tensor | None = None
        for tap in self.tap_maps(features_a, features_b):
            if mask is None:
                value = tap.mean((1, 2, 3))
            else:
                weight = F.adaptive_avg_pool2d(mask.to(tap.dtype), (tap.shape[-2], tap.shape[-1]))
                value = (tap * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1e-6)
            total = value if total is None else total + value
        assert total is not None
        return total

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS of each pair, (B,): the published number (mean over each tap, summed over the taps)."""
        return self.distance(self.features(a), self.features(b))

    def maps(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS at every pixel, (B, 1, H, W), as lpips' `spatial=True`: taps upsampled bilinearly, summed."""
        return _upsampled_sum(self.tap_maps(self.features(a), self.features(b)), a.shape[-2], a.shape[-1])

    @torch.no_grad()
    def compare(self, a: NDArray[np.uint8], b: NDArray[np.uint8], *, tile: int = 768) -> Distances:
        """Distances between two uint8 RGB images (H, W, 3) of any size, in bounded memory.

        The networks run on tiles of `tile` pixels (a multiple of 16) with their whole receptive field around
        them; only the distances, 1/16 of the pixels and one channel, are put together at full size. So the
        result equals the untiled one to float error.
        """
        if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8:
            raise InputError(f"LPIPS got {a.dtype} {a.shape} and {b.dtype} {b.shape}; give two uint8 images alike")
        if tile % STRIDE or tile <= 0:
            raise InputError(f"tile is {tile}; give a multiple of {STRIDE}")
        height, width = a.shape[:2]
        if min(height, width) < SMALLEST:
            raise InputError(f"LPIPS got {width}x{height}; both sides must be at least {SMALLEST} pixels")
        sizes = self._tap_sizes(height, width)
        whole = [torch.zeros(1, 1, rows, columns) for rows, columns, _ in sizes]
        for (top, y0, y1, bottom), (left, x0, x1, right) in product(_spans(height, tile), _spans(width, tile)):
            cut_a, cut_b = a[top:bottom, left:right], b[top:bottom, left:right]
            if np.array_equal(cut_a, cut_b):
                continue  # the distance is exactly 0
            taps = self.tap_maps(self.features(_to_tensor(cut_a)), self.features(_to_tensor(cut_b)))
            for target, tap, (rows, columns, stride) in zip(whole, taps, sizes, strict=True):
                # The last tile owns what its tap has at the image's end; others stop where the next starts.
                ys = slice(y0 // stride, rows if y1 == height else y1 // stride)
                xs = slice(x0 // stride, columns if x1 == width else x1 // stride)
                dy, dx = top // stride, left // stride
                target[..., ys, xs] = tap[..., ys.start - dy : ys.stop - dy, xs.start - dx : xs.stop - dx]
        return Distances(tuple(whole), height, width)

    def spatial_map_tiled(
        self, a: NDArray[np.uint8], b: NDArray[np.uint8], *, tile: int = 768
    ) -> NDArray[np.float32]:
        """`maps` of two uint8 RGB images (H, W, 3), computed by tiles: float32 (H, W)."""
        return self.compare(a, b, tile=tile).map()

    def in_hole(self, image: NDArray[np.uint8], target: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
        """Mean of the spatial map over hole pixels; `mask` (H, W), True = hole; NaN when there is no hole."""
        return self.compare(image, target).mean_in(mask) if mask.any() else float("nan")

    def _tap_sizes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Height, width and stride in pixels of every tap's map for an image of this size."""
        sizes = []
        stride = 1
        for index, layer in enumerate(self.layers):
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                height, width = _length(layer, height), _length(layer, width)
                stride *= layer.stride[0] if isinstance(layer.stride, tuple) else layer.stride
            if index in self.taps:
                sizes.append((height, width, stride))
        return sizes


@dataclass(frozen=True, eq=False)
class Distances:
    """LPIPS of one pair of images: the distances at every tap's own resolution, and what follows from them."""

    taps: tuple[Tensor, ...]
    """(1, 1, h, w) each."""
    height: int
    """Of the images, in pixels."""
    width: int
    """Of the images, in pixels."""

    def mean(self) -> float:
        """The published number: the mean over each tap, summed over the taps."""
        return sum(float(tap.double().mean()) for tap in self.taps)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop` of the map: float32 (stop - start, W). Taps upsampled bilinearly, summed."""
        total: Tensor | None = None
        for tap in self.taps:
            last = tap.shape[2] - 1
            at = ((torch.arange(start, stop) + 0.5) * (tap.shape[2] / self.height) - 0.5).clamp(0, last)
            above = at.long()
            below = (above + 1).clamp_max(last)
            share = (at - above)[:, None]
            strip = tap[:, :, above] * (1 - share) + tap[:, :, below] * share
            strip = F.interpolate(strip, (stop - start, self.width), mode="bilinear", align_corners=False)
            total = strip if total is None else total.add_(strip)
        assert total is not None
        return total[0, 0].numpy()

    def map(self) -> NDArray[np.float32]:
        """LPIPS at every pixel, as lpips' `spatial=True`: float32 (H, W)."""
        result = np.empty((self.height, self.width), np.float32)
        for start in range(0, self.height, STRIP):
            stop = min(start + STRIP, self.height)
            result[start:stop] = self.rows(start, stop)
        return result

    def mean_in(self, mask: NDArray[np.bool_]) -> float:
        """Mean of the map over hole pixels; `mask` (H, W), True = hole; NaN when there is no hole."""
        count = np.count_nonzero(mask)
        return float(self.sums_in(mask).sum() / count) if count else float("nan")

    def sums_in(self, mask: NDArray[np.bool_], cell: int = 16) -> NDArray[np.float64]:
        """Sums of the map over the hole pixels of each cell of `cell` x `cell` pixels: float64 (rows, columns).

        Where the worst is, at a 1/256 of the memory of the map. `cell` divides 256.
        """
        columns = range(0, self.width, cell)
        sums = np.zeros((-(-self.height // cell), len(columns)))
        for start in range(0, self.height, STRIP):
            stop = min(start + STRIP, self.height)
            if not mask[start:stop].any():
                continue
            inside = np.where(mask[start:stop], self.rows(start, stop), 0)
            by_row = np.add.reduceat(inside, columns, axis=1, dtype=np.float64)
            by_cell = np.add.reduceat(by_row, range(0, stop - start, cell), axis=0)
            sums[start // cell : start // cell + len(by_cell)] = by_cell
        return sums


def _length(layer: nn.Conv2d | nn.MaxPool2d, length: int) -> int:
    """How many outputs a convolution or pooling has along an axis of `length` (square kernels)."""
    kernel, stride, padding = (
        int(value[0]) if isinstance(value, tuple) else int(value)
        for value in (layer.kernel_size, layer.stride, layer.padding)
    )
    reach = length + 2 * padding - kernel
    if isinstance(layer, nn.MaxPool2d) and layer.ceil_mode:
        return -(-reach // stride) + 1  # kernel 3, stride 2, no padding: the last window always starts inside
    return reach // stride + 1


def _spans(length: int, tile: int) -> Iterator[tuple[int, int, int, int]]:
    """(outer start, start, end, outer end) of each tile along an axis; the outer ones include the halo."""
    for start in range(0, length, tile):
        end = min(start + tile, length)
        yield max(0, start - HALO), start, end, min(length, end + HALO)


def _to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) to float (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float().div_(255)


def _upsampled_sum(taps: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Every tap map (B, 1, h, w) upsampled bilinearly to (B, 1, height, width), summed."""
    total = F.interpolate(taps[0], (height, width), mode="bilinear", align_corners=False)
    for tap in taps[1:]:
        total = total + F.interpolate(tap, (height, width), mode="bilinear", align_corners=False)
    return total


class _Fire(nn.Module):
    """SqueezeNet's block: 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def _alexnet() -> list[nn.Module]:
    """torchvision's AlexNet `features`, up to index 11."""
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]


def _squeezenet() -> list[nn.Module]:
    """torchvision's SqueezeNet 1.1 `features`."""
    return [
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(64, 16, 64),
        _Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(128, 32, 128),
        _Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(256, 48, 192),
        _Fire(384, 48, 192),
        _Fire(384, 64, 256),
        _Fire(512, 64, 256),
    ]
