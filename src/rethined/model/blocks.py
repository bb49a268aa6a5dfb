"""Re-parameterisable convolutions (3.5): several branches while training, one plain convolution afterwards."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn


class RepConv(nn.Module):
    """Sum of convolution + batch norm branches, then ReLU; `fused()` is the same function as one convolution.

    Branches: `branches` of kernel x kernel, one 1x1 where an odd kernel > 1 has a centre, one identity where shapes
    allow (MobileOne). An even kernel takes no padding: it cuts the picture into blocks of its stride.
    (B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        branches: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.groups, self.kernel = stride, groups, kernel
        self.padding = kernel // 2 if kernel % 2 else 0
        kernels = [kernel] * branches + ([1] if kernel > 1 and kernel % 2 else [])
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    in_channels,
                    out_channels,
                    k,
                    stride,
                    0 if k == 1 else self.padding,
                    groups=groups,
                    bias=False,
                ),
                nn.BatchNorm2d(out_channels),
            )
            for k in kernels
        )
        self.skip = nn.BatchNorm2d(in_channels) if in_channels == out_channels and stride == 1 else None
        self.activation = nn.ReLU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        total = sum(conv(x) for conv in self.convs)
        if self.skip is not None:
            total = total + self.skip(x)
        return cast(Tensor, self.activation(total))

    def fused(self) -> nn.Sequential:
        """The plain convolution (with bias) and activation that compute the same in evaluation mode."""
        first = cast(nn.Conv2d, cast(nn.Sequential, self.convs[0])[0])
        conv = nn.Conv2d(
            first.in_channels, first.out_channels, self.kernel, self.stride, self.padding, groups=self.groups
        ).to(first.weight.device)
        weight = torch.zeros_like(conv.weight)
        bias = torch.zeros_like(cast(Tensor, conv.bias))
        for branch in self.convs:
            branch_conv, norm = cast(nn.Sequential, branch)
            w, b = _fold(cast(nn.Conv2d, branch_conv).weight, cast(nn.BatchNorm2d, norm))
            weight += _centre(w, self.kernel)
            bias += b
        if self.skip is not None:
            # The identity is a 1x1 kernel of ones on the diagonal, zero-padded to the kernel's size (3.5).
            per_group = first.in_channels // self.groups
            identity = torch.zeros(first.in_channels, per_group, 1, 1, device=first.weight.device)
            index = torch.arange(first.in_channels)
            identity[index, index % per_group] = 1.0
            w, b = _fold(identity, self.skip)
            weight += _centre(w, self.kernel)
            bias += b
        conv.weight.data.copy_(weight)
        cast(Tensor, conv.bias).data.copy_(bias)
        return nn.Sequential(conv, copy.deepcopy(self.activation))


def _fold(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """W' = W * gamma / sigma, b' = beta - mu * gamma / sigma (3.5)."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    gain = norm.weight.detach() / torch.sqrt(variance + norm.eps)
    return weight.detach() * gain[:, None, None, None], norm.bias.detach() - mean * gain


def _centre(weight: Tensor, kernel: int) -> Tensor:
    pad = (kernel - weight.shape[-1]) // 2
    return nn.functional.pad(weight, (pad, pad, pad, pad))


class RepBlock(nn.Sequential):
    """Depthwise 3x3, then pointwise 1x1 (3.2, 3.5): (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, branches: int = 1) -> None:
        super().__init__(
            RepConv(in_channels, in_channels, 3, stride=stride, groups=in_channels, branches=branches),
            RepConv(in_channels, out_channels, 1, branches=branches),
        )


def fused(module: nn.Module) -> nn.Module:
    """A copy of `module` in evaluation mode with everything that has `fused()` replaced by that."""
    own = getattr(module, "fused", None)
    if own is not None:
        return cast(nn.Module, own()).eval()
    result = copy.copy(module)
    result._modules = {name: None if child is None else fused(child) for name, child in module._modules.items()}
    result.training = False
    return result
