"""Contextual Residual Aggregation for Ultra High-Resolution Image Inpainting (Yi et al., CVPR 2020): HiFill.

The closest ancestor of RETHINED: attention over 32 x 32 patches at 512 x 512 says where each patch of the hole
comes from, and at full resolution only what the upsampled picture lacks, the residual, is mixed by it. Written
from the paper; layers are named as in duxingren14/Hifill-tensorflow (MIT), whose variables load.
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 512
"""Of the generator's picture."""
GRID = 32
"""Patches each way over which attention goes."""


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear as TensorFlow 1 did it, without half-pixel centres: pixel i of the input is pixel i `factor`."""
    height, width = x.shape[-2:]
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    x = F.interpolate(x, (height * factor + 1, width * factor + 1), mode="bilinear", align_corners=True)
    return x[..., :-1, :-1]


def pad_same(x: Tensor, kernel: int, stride: int, rate: int = 1) -> Tensor:
    """TensorFlow's SAME for sides that `stride` divides: the odd pixel goes to the bottom and right."""
    total = max((kernel - 1) * rate + 1 - stride, 0)
    return F.pad(x, (total // 2, total - total // 2) * 2)


class GatedConv(nn.Module):
    """Light-weight gated convolution (3.4): one gate for all channels, or a pointwise one (`separable`)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, rate: int = 1, *, separable: bool
    ) -> None:
        super().__init__()
        self.feature = nn.Conv2d(inputs, outputs, kernel, stride, dilation=rate)
        if separable:
            self.gate = nn.Conv2d(inputs, outputs, 1, stride)
        else:
            self.gate = nn.Conv2d(inputs, 1, kernel, stride, dilation=rate)
        self.separable, self.reach = separable, (kernel, stride, rate)

    def forward(self, x: Tensor) -> Tensor:
        padded = pad_same(x, *self.reach)
        return torch.sigmoid(self.gate(x if self.separable else padded)) * F.elu(self.feature(padded))


class HiFill(nn.Module):
    """Coarse and refinement network (Fig. 2), and the aggregation of residuals; sides are a multiple of 512."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, GatedConv] = {}

        def coarse(name: str, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, rate: int = 1) -> None:
            layers[name] = GatedConv(inputs, outputs, kernel, stride, rate, separable=False)

        def refine(name: str, inputs: int, outputs: int, stride: int = 1, rate: int = 1) -> None:
            layers[name] = GatedConv(inputs, outputs, 3, stride, rate, separable=True)

        coarse("c_en_down_128", 4, 32, kernel=5, stride=2)
        coarse("c_en_conv_128", 32, 32)
        coarse("c_en_down_64", 32, 64, stride=2)
        for index in (1, 2, 3):
            coarse(f"c_en_conv{index}_64", 64, 64)
        for index, rate in enumerate((1, 1, 1, 2, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8), 1):
            coarse(f"c_dil_d{index}", 64, 64, rate=rate)
        for index in (1, 2, 3):
            coarse(f"c_de_conv{index}_64", 64, 64)
        coarse("c_de_up_128", 64, 32)
        coarse("c_de_conv_128", 32, 32)
        coarse("c_de_toRGB", 32, 3)
        for side, inputs, outputs in ((256, 4, 32), (128, 32, 64), (64, 64, 128)):
            refine(f"re_en_down_{side}", inputs, outputs, stride=2)
            refine(f"re_en_conv_{side}", outputs, outputs)
        for rate in (1, 2, 4, 8, 16):
            refine(f"re_dil_d{rate}", 128, 128, rate=rate)
        refine("re_att_64_att1", 128, 128)
        refine("re_att_64_att3", 256, 128)
        for side, inputs, outputs in ((128, 128, 64), (256, 128, 32)):
            refine(f"re_de_up__{side}", inputs, outputs)
            refine(f"re_de_conv_{side}", outputs, outputs)
            refine(f"re_de_att_{side}_1", outputs, outputs)
            refine(f"re_de_att_{side}_2", outputs, outputs, rate=2)
        refine("re_de_toRGB__256", 64, 3)
        self.layers = nn.ModuleDict(layers)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """`image` (1, 3, H, W) BGR in [-1, 1], `mask` (1, 1, H, W), 1 = hole; H = W, a multiple of 512."""
        factor = image.shape[-1] // SIDE
        small = F.avg_pool2d(image, factor)
        small_mask = F.max_pool2d(mask, factor)  # any hole in the block; the release takes one pixel of it
        inpainted, attention = self.generate(small * (1 - small_mask), small_mask)
        if factor == 1:
            return inpainted
        known = F.interpolate(1 - small_mask, scale_factor=float(factor), mode="nearest")
        residual = (image - upsample(small, factor)) * known  # 3.2: what the upsampled picture lacks
        patches = F.pixel_unshuffle(residual, image.shape[-1] // GRID).flatten(2)  # (1, 3 p^2, 1024)
        mixed = (patches @ attention.T).reshape(1, -1, GRID, GRID)
        mixed = F.pixel_shuffle(mixed, image.shape[-1] // GRID)
        return (upsample(inpainted, factor) + mixed).clamp(-1, 1)

    def generate(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The network at 512 x 512: `image` with holes 0; the filled picture, and attention (1024, 1024)."""
        x = torch.cat([image, mask], 1)[..., ::2, ::2]  # which is TensorFlow 1's bilinear halving
        for name in self._names("c_en", "c_dil", "c_de_conv"):
            x = self.layers[name](x) if name != "c_de_conv_128" else x
        x = self.layers["c_de_conv_128"](self.layers["c_de_up_128"](upsample(x, 2)))
        x = self.layers["c_de_toRGB"](upsample(x, 2)).clamp(-1, 1)
        coarse = upsample(x, 2) * mask + image * (1 - mask)

        x = torch.cat([coarse, mask], 1)
        skips = {}
        for side in (256, 128, 64):
            skips[side] = x = self.layers[f"re_en_conv_{side}"](self.layers[f"re_en_down_{side}"](x))
        for name in self._names("re_dil"):
            x = self.layers[name](x)
        attention = self.attend(x, mask)
        mixed = self.layers["re_att_64_att1"](transfer(x, attention, kernel=3, stride=2))
        x = self.layers["re_att_64_att3"](torch.cat([x, mixed], 1))
        for side in (128, 256):
            x = self.layers[f"re_de_conv_{side}"](self.layers[f"re_de_up__{side}"](upsample(x, 2)))
            mixed = transfer(skips[side], attention, kernel=2 * side // GRID, stride=side // GRID)  # 3.3
            mixed = self.layers[f"re_de_att_{side}_2"](self.layers[f"re_de_att_{side}_1"](mixed))
            x = torch.cat([mixed, x], 1)
        return self.layers["re_de_toRGB__256"](upsample(x, 2)).clamp(-1, 1), attention

    def _names(self, *starts: str) -> list[str]:
        return [name for name in self.layers if name.startswith(starts)]

    @staticmethod
    def attend(x: Tensor, mask: Tensor) -> Tensor:
        """Attention scores (3.3), (1024, 1024): row i says which known patches make patch i.

        Similarity of 3 x 3 neighbourhoods at every other pixel of `x` (1, C, 64, 64), summed along both diagonals so
        that neighbours copy from neighbours, softmax over known patches.
        """
        x = x[..., ::2, ::2]
        vectors = F.unfold(x, 3, padding=1)[0]  # (9 C, 1024)
        scores = vectors.T @ (vectors / vectors.norm(dim=0).clamp_min(1e-8))
        for _ in range(2):
            fused = F.conv2d(scores[None, None], torch.eye(3, dtype=x.dtype, device=x.device)[None, None], padding=1)
            # Row-major to column-major order of the patches, and back the second time.
            scores = fused.reshape(GRID, GRID, GRID, GRID).permute(1, 0, 3, 2).reshape(GRID**2, GRID**2)
        hole = F.max_pool2d(F.max_pool2d(mask, SIDE // GRID), 3, 1, 1)
        known = 1 - hole.reshape(1, -1)
        return torch.softmax(scores * known * 10, 1) * known


def transfer(x: Tensor, attention: Tensor, *, kernel: int, stride: int) -> Tensor:
    """Attention transfer (3.3): overlapping patches of (1, C, H, W), mixed and added up where they overlap."""
    side = x.shape[-1]
    total = max(kernel - stride, 0)
    padded = pad_same(x, kernel, stride)
    patches = F.unfold(padded, kernel, stride=stride)[0]  # (C k^2, 1024)
    mixed = F.fold((patches @ attention.T)[None], padded.shape[-2:], kernel, stride=stride)
    return mixed[..., total // 2 : total // 2 + side, total // 2 : total // 2 + side]


def rename(name: str, value: Tensor) -> tuple[str, Tensor]:
    """A TensorFlow variable as a parameter: `generator/re_dil_d1/pw` (h, w, in, out) to `...gate.weight`.

    Names that are parameters' already pass.
    """
    path = re.fullmatch(
        r"generator/(?P<layer>\w+?)(/(?P=layer)_conv)?(?P<part>_feat|_gate)?/(?P<kind>\w+)(:0)?", name
    )
    if path is None:
        return name, value
    gate = path["part"] == "_gate" or path["kind"] in ("pw", "ds_biases")
    kind = "bias" if path["kind"] in ("biases", "ds_biases") else "weight"
    value = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
    return f"layers.{path['layer']}.{'gate' if gate else 'feature'}.{kind}", value
