"""Fast Fourier Convolution (Chi et al., NeurIPS 2020) as LaMa and CoordFill use it: local and global channels.

Written from the paper and LaMa's section 2.1. Names of layers are those of the official state dicts, where
global features flow `l2g`, `g2g`, `g2l` and local ones `l2l`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor | None]
"""Local and global features, (B, C_l, H, W) and (B, C_g, H, W) or None."""


def rfft2(x: Tensor) -> Tensor:
    """Orthonormal transform of real (B, C, H, W): (B, C, 2, H, W // 2 + 1), real and imaginary parts.

    Runtimes have no fast transform on a par with their matrix products, so it is exported as those.
    """
    if not torch.compiler.is_exporting():
        spectrum = torch.fft.rfft2(x, norm="ortho")
        return torch.stack([spectrum.real, spectrum.imag], 2)
    cos_h, sin_h = _waves(x.shape[-2], x.shape[-2], x)
    cos_w, sin_w = _waves(x.shape[-1], x.shape[-1] // 2 + 1, x)
    real, imaginary = x @ cos_w, -(x @ sin_w)
    return torch.stack([cos_h @ real + sin_h @ imaginary, cos_h @ imaginary - sin_h @ real], 2)


def irfft2(spectrum: Tensor, width: int) -> Tensor:
    """The inverse of `rfft2`: (B, C, 2, H, W // 2 + 1) to (B, C, H, W)."""
    real, imaginary = spectrum.unbind(2)
    height = real.shape[-2]
    if not torch.compiler.is_exporting():
        out: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=(height, width), norm="ortho")
        return out
    cos_h, sin_h = _waves(height, height, real)
    cos_w, sin_w = _waves(width, width // 2 + 1, real)
    # Frequencies other than the first (and the last of an even width) stand for two.
    twice = torch.full((width // 2 + 1, 1), 2.0, dtype=real.dtype, device=real.device)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    real, imaginary = cos_h @ real - sin_h @ imaginary, cos_h @ imaginary + sin_h @ real
    return real @ (twice * cos_w.T) - imaginary @ (twice * sin_w.T)


def _waves(length: int, frequencies: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, frequencies) of the orthonormal transform."""
    steps = torch.arange(length, device=like.device)
    angles = (steps[:, None] * steps[None, :frequencies] % length).to(like.dtype) * (2 * math.pi / length)
    return angles.cos() / math.sqrt(length), angles.sin() / math.sqrt(length)


class FourierUnit(nn.Module):
    """A 1x1 convolution of the spectrum: every output pixel sees the whole image."""

    def __init__(self, channels: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = norm
        self.conv_layer = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = rfft2(x).flatten(1, 2)  # channels alternate: real, imaginary
        spectrum = self.conv_layer(spectrum)
        spectrum = torch.relu(self.bn(spectrum) if self.norm else spectrum)
        return irfft2(spectrum.reshape(len(x), -1, 2, *spectrum.shape[2:]), x.shape[-1])


class SpectralTransform(nn.Module):
    """Half the channels through a `FourierUnit`, with a residual."""

    def __init__(self, channels: int, *, norm: bool) -> None:
        super().__init__()
        half = channels // 2
        layers = [nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()]
        self.conv1 = nn.Sequential(*(layer for layer in layers if norm or not isinstance(layer, nn.BatchNorm2d)))
        self.fu = FourierUnit(half, norm=norm)
        self.conv2 = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        out: Tensor = self.conv2(x + self.fu(x))
        return out


class Branches(nn.Module):
    """The four paths between local and global channels; a path without channels is absent."""

    def __init__(
        self, inputs: tuple[int, int], outputs: tuple[int, int], kernel: int, stride: int, padding: int, norm: bool
    ) -> None:
        super().__init__()

        def conv(source: int, target: int) -> nn.Conv2d | None:
            if not source or not target:
                return None
            return nn.Conv2d(source, target, kernel, stride, padding, bias=False, padding_mode="reflect")

        self.convl2l = conv(inputs[0], outputs[0])
        self.convl2g = conv(inputs[0], outputs[1])
        self.convg2l = conv(inputs[1], outputs[0])
        self.convg2g = SpectralTransform(outputs[1], norm=norm) if inputs[1] and outputs[1] else None

    def forward(self, x: Pair) -> tuple[Tensor | None, Tensor | None]:
        return (
            _sum([(self.convl2l, x[0]), (self.convg2l, x[1])]),
            _sum([(self.convl2g, x[0]), (self.convg2g, x[1])]),
        )


def _sum(paths: list[tuple[nn.Module | None, Tensor | None]]) -> Tensor | None:
    parts: list[Tensor] = [path(x) for path, x in paths if path is not None and x is not None]
    return None if not parts else sum(parts[1:], parts[0])


class FFC(nn.Module):
    """Fast Fourier convolution, batch norm, activation. A `share` of the channels is global.

    CoordFill's release carries batch norms that it never applies; with `norm` False they are there, and idle.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        share: tuple[float, float] = (0, 0),
        *,
        stride: int = 1,
        padding: int = 0,
        norm: bool = True,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        remote_in, remote = int(inputs * share[0]), int(outputs * share[1])
        shapes = (inputs - remote_in, remote_in), (outputs - remote, remote)
        self.ffc = Branches(*shapes, kernel, stride, padding, norm)
        self.bn_l = nn.BatchNorm2d(outputs - remote)
        self.bn_g = nn.BatchNorm2d(remote) if remote else None
        self.norm, self.activation = norm, activation()

    def forward(self, x: Pair | Tensor) -> Pair:
        local, remote = self.ffc(x if isinstance(x, tuple) else (x, None))
        assert local is not None
        local = self.activation(self.bn_l(local) if self.norm else local)
        if remote is not None and self.bn_g is not None:
            remote = self.activation(self.bn_g(remote) if self.norm else remote)
        return local, remote


class Concatenate(nn.Module):
    """Local and global features side by side."""

    def forward(self, x: Pair) -> Tensor:
        return torch.cat([part for part in x if part is not None], 1)
