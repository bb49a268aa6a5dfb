"""RETHINED as its authors published it (Sanchez et al., WACV 2025), made to run: what it costs, not how good it is.

CrisalixSA/rethined has no weights, lacks its backbone and does not run. Two changes make it: the backbone is
MobileOne-S4 (Vasu et al., CVPR 2023) with its branches folded, and the decoder's channels and the index of the
concatenated features are those that this backbone has. All else is done as published, whatever the paper says;
`docs/peers.md` lists what that means. The repository names no licence for the code; this is written anew.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 512
"""Of the low-resolution picture."""
PATCH = 8
"""Side of a token in its pixels."""
WIDTHS = (64, 192, 448, 896, 2048)
"""Channels of MobileOne-S4's stages."""
BLOCKS = (2, 8, 10, 1)
"""Blocks of stages 1 to 4."""


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 16, 1)
        self.expand = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(scale)


class Block(nn.Module):
    """MobileOne's block with its branches folded into one convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, excite: bool) -> None:
        super().__init__()
        self.reparam_conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        self.se = SqueezeExcite(outputs) if excite else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.reparam_conv(x)
        return torch.relu(x if self.se is None else self.se(x))


class MobileOne(nn.Module):
    """MobileOne-S4. The classifier is never called, and is one of the published model's 61.9 M parameters' parts."""

    def __init__(self) -> None:
        super().__init__()
        self.stage0 = Block(3, WIDTHS[0], 3, 2, 1, excite=False)
        for stage, count in enumerate(BLOCKS, 1):
            blocks: list[nn.Module] = []
            for index in range(count):
                inputs, outputs = WIDTHS[stage - 1] if index == 0 else WIDTHS[stage], WIDTHS[stage]
                excite = stage == 4 or (stage == 3 and index >= count // 2)
                blocks += [Block(inputs, inputs, 3, 2 if index == 0 else 1, inputs, excite)]
                blocks += [Block(inputs, outputs, 1, 1, 1, excite)]
            setattr(self, f"stage{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(WIDTHS[-1], 1000)


class Coarse(nn.Module):
    """Encoder and transposed convolutions with concatenated skips (3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MobileOne()
        self.d4 = nn.ConvTranspose2d(WIDTHS[4], WIDTHS[3], 4, 2, 1)
        self.d3 = nn.ConvTranspose2d(2 * WIDTHS[3], WIDTHS[2], 4, 2, 1)
        self.d2 = nn.ConvTranspose2d(2 * WIDTHS[2], WIDTHS[1], 4, 2, 1)
        self.d1 = nn.ConvTranspose2d(2 * WIDTHS[1], WIDTHS[0], 4, 2, 1)
        self.d0 = nn.ConvTranspose2d(2 * WIDTHS[0], 3, 4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The picture in [0, 1], and the features of stage 3, (1, 896, 32, 32) at 512."""
        skips = []
        for stage in range(5):
            x = getattr(self.model, f"stage{stage}")(x)
            skips.append(x)
        for decoder, skip in zip((self.d4, self.d3, self.d2, self.d1), skips[3::-1], strict=True):
            x = torch.cat([torch.relu(decoder(x)), skip], 1)
        return torch.sigmoid(self.d0(x)), skips[3]


class Attention(nn.Module):
    """One head of 576 (3.3)."""

    def __init__(self, inputs: int, values: int, width: int = 576) -> None:
        super().__init__()
        self.w_qs = nn.Linear(inputs, width, bias=False)
        self.w_ks = nn.Linear(inputs, width, bias=False)
        self.w_vs = nn.Linear(values, values, bias=False)
        self.fc = nn.Linear(values, values, bias=False)

    def forward(self, x: Tensor, values: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
        scores = (self.w_qs(x) / self.w_qs.out_features**0.5) @ self.w_ks(x).transpose(1, 2)
        attention = torch.softmax(scores + torch.diag_embed(diagonal), -1)
        return self.fc(attention @ self.w_vs(values)), attention


class Authors(nn.Module):
    """`PatchInpainting` and `AttentionUpscaling`; sides are a multiple of 512, and equal."""

    def __init__(self) -> None:
        super().__init__()
        numbers = 3 * PATCH**2
        self.multihead_attention = Attention(numbers + WIDTHS[3], numbers)
        self.encoder_decoder = Coarse()
        conv = nn.Conv2d(numbers, numbers, 3, padding=1, padding_mode="reflect")
        self.final_conv = nn.Sequential(conv, nn.Sigmoid())

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """`image` (1, 3, H, W) in [0, 1] with holes 0, `mask` (1, 1, H, W), 1 = hole; about [0, 1] comes back."""
        side = image.shape[-1]
        if side == SIDE:
            return self.refine(image, mask)[0]
        small = F.interpolate(image, (SIDE, SIDE), mode="bicubic", antialias=True)
        small_mask = F.interpolate(mask, (SIDE, SIDE), mode="nearest")
        refined, attention = self.refine(small * (1 - small_mask), small_mask)
        base = F.interpolate(refined, (side, side), mode="bicubic")
        patch = side // SIDE * PATCH
        high = patches(image, patch) - patches(blur(image), patch)  # Eq. 3
        mixed = attention @ high.flatten(2).transpose(1, 2)  # Eq. 4, densely
        return base + F.pixel_shuffle(mixed.transpose(1, 2).reshape(high.shape), patch)

    def refine(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The low-resolution picture, and attention (1, N, N) with N = 4096 tokens."""
        coarse, features = self.encoder_decoder(image)
        image = coarse * mask + image * (1 - mask)
        blurred = patches(blur(image), PATCH)
        sharp = patches(image, PATCH) - blurred
        features = F.interpolate(features, sharp.shape[-2:], mode="bilinear")
        tokens = torch.cat([sharp, features], 1).flatten(2).transpose(1, 2)
        values = sharp.flatten(2).transpose(1, 2)
        hole = mask[..., ::PATCH, ::PATCH].flatten(1)  # as published: a patch's first pixel decides
        # As published: a known patch keeps itself, a hole must not; hole patches may copy from hole patches.
        mixed, attention = self.multihead_attention(tokens, values, 1e4 * (1 - 2 * hole))
        mixed = mixed - blurred.flatten(2).transpose(1, 2)  # as published: Eq. 2 would have it added
        hole = hole[..., None]
        mixed = mixed * hole + values * (1 - hole)
        mixed = self.final_conv(mixed.transpose(1, 2).reshape(sharp.shape))  # coherence layer
        return F.pixel_shuffle(mixed, PATCH), attention


def patches(x: Tensor, side: int) -> Tensor:
    """(1, C, H, W) to (1, C side^2, H / side, W / side), as published: a convolution with one-hot kernels."""
    channels = x.shape[1]
    kernels = torch.eye(side**2, dtype=x.dtype, device=x.device).reshape(-1, 1, side, side)
    return F.conv2d(x, kernels.repeat(channels, 1, 1, 1), stride=side, groups=channels)


def blur(x: Tensor) -> Tensor:
    """Gaussian of sigma 2.01 over 7 x 7 pixels, whatever the resolution; not separated."""
    steps = torch.arange(-3, 4, dtype=x.dtype, device=x.device)
    line = torch.exp(-(steps**2) / (2 * 2.01**2))
    line = line / line.sum()
    kernel = torch.outer(line, line).repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), kernel, groups=x.shape[1])
