"""MI-GAN: A Simple Baseline for Image Inpainting on Mobile Devices (Sargsyan et al., ICCV 2023), as deployed.

The generator after re-parametrisation (section 3.3): a Co-Mod-GAN in depthwise-separable convolutions whose
branches are folded and whose style network is gone. Written from the paper; the state dict is that of the
inference model in Picsart-AI-Research/MI-GAN (MIT).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def channels(resolution: int) -> int:
    return min(32768 // resolution, 512)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance, clamped as in StyleGAN2."""
    return (F.leaky_relu(x, 0.2) * math.sqrt(2)).clamp(-256, 256)


def tiled(pattern: Tensor, like: Tensor) -> Tensor:
    """(..., h, w) repeated to the height and width of `like`: the weights' own size needs no repeating."""
    height, width = like.shape[-2:]
    rows, columns = -(-height // pattern.shape[-2]), -(-width // pattern.shape[-1])
    if rows * columns > 1:
        pattern = pattern.repeat(*[1] * (pattern.ndim - 2), rows, columns)
    return pattern[..., :height, :width]


def binomial(channels: int, gain: float) -> nn.Parameter:
    """The filter [1 3 3 1] x [1 3 3 1] per channel, (C, 1, 4, 4), summing to `gain`."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return nn.Parameter((line.outer(line) * (gain / 64)).repeat(channels, 1, 1, 1))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, 4, stride=2, padding=1, groups=channels, bias=False)
        self.filter.weight = binomial(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.filter(x)
        return out


class Upsample(nn.Module):
    """Zeros between the pixels, then the filter; as nearest upsampling times a constant, for mobile runtimes."""

    def __init__(self, channels: int, resolution: int) -> None:
        super().__init__()
        comb = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).repeat(1, 1, resolution // 2, resolution // 2)
        self.register_buffer("filter_const", comb)
        self.filter = nn.Conv2d(channels, channels, 4, groups=channels, bias=False)
        self.filter.weight = binomial(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = x * tiled(self.get_buffer("filter_const"), x)
        out: Tensor = self.filter(F.pad(x, (2, 1, 2, 1)))
        return out


class SeparableConv(nn.Module):
    """Depthwise 3x3, pointwise 1x1, each activated (3.2); down- or upsampling between; learned noise strength."""

    def __init__(self, inputs: int, outputs: int, *, down: bool = False, up: int = 0, noise: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
        self.conv2 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.downsample = Downsample(inputs) if down else None
        self.upsample = Upsample(outputs, up) if up else None
        self.noisy = bool(noise)
        if noise:
            self.register_buffer("noise_const", torch.randn(noise, noise))
            self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor) -> Tensor:
        x = activate(self.conv1(x))
        if self.downsample is not None:
            x = self.downsample(x)
        x = self.conv2(x)
        if self.upsample is not None:
            x = self.upsample(x)
        if self.noisy:
            x = x + tiled(self.get_buffer("noise_const"), x) * self.noise_strength
        return activate(x)


class EncoderBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, image: int = 0, down: bool = True) -> None:
        super().__init__()
        if image:
            self.fromrgb = nn.Conv2d(image, inputs, 1)
        self.conv1 = SeparableConv(inputs, inputs)
        self.conv2 = SeparableConv(inputs, outputs, down=down)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its features at the size of its input, for the decoder."""
        if hasattr(self, "fromrgb"):
            x = activate(self.fromrgb(x))
        skip = self.conv1(x)
        return self.conv2(skip), skip


class SynthesisBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, resolution: int) -> None:
        super().__init__()
        first = resolution == 4
        self.conv1 = SeparableConv(inputs, outputs, up=0 if first else resolution, noise=0 if first else resolution)
        self.conv2 = SeparableConv(outputs, outputs, noise=0 if first else resolution)
        self.torgb = nn.Conv2d(outputs, 3, 1)
        if not first:
            self.upsample = Upsample(3, resolution)

    def forward(self, x: Tensor, skip: Tensor, image: Tensor | None) -> tuple[Tensor, Tensor]:
        x = self.conv2(self.conv1(x) + skip)
        colours = self.torgb(x)
        return x, colours if image is None else self.upsample(image) + colours


class Migan(nn.Module):
    """The generator of 512 x 512; fully convolutional, so that multiples of 128 run as well."""

    def __init__(self, resolution: int = 512) -> None:
        super().__init__()
        sides = [2**i for i in range(resolution.bit_length() - 1, 1, -1)]  # 512, 256, ..., 4
        encoder = {
            f"b{side}": EncoderBlock(
                channels(side),
                channels(max(4, side // 2)),
                image=4 if side == resolution else 0,
                down=side > 4,
            )
            for side in sides
        }
        synthesis = {f"b{side}": SynthesisBlock(channels(max(4, side // 2)), channels(side), side) for side in sides}
        self.encoder = nn.ModuleDict(encoder)
        self.synthesis = nn.ModuleDict(dict(reversed(synthesis.items())))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """`image` (B, 3, H, W) in [-1, 1], `mask` (B, 1, H, W), 1 = known; the same range comes back."""
        x = torch.cat([mask - 0.5, image * mask], 1)
        skips = {}
        for name, block in self.encoder.items():  # Fig. 2, left
            x, skips[name] = block(x)
        out: Tensor | None = None
        for name, block in self.synthesis.items():  # Fig. 2, right: every resolution adds to the picture
            x, out = block(x, skips[name], out)
        assert out is not None
        return out
