"""What training minimises, one value per picture; each term's reason is in docs/paper.md, its weight in
`TrainConfig`. Values per picture, so that a mean over processes is the mean over all their pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rethined.metrics.lpips import Lpips

SUPERVISED_ROWS = 96
"""Corrupted patches per picture whose matches are supervised at each step."""
SPECTRUM = 16
"""Side of the blocks whose spectra are compared, in pixels."""


def hole_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over hole pixels, (B,); images (B, 3, H, W), `mask` (B, 1, H, W), 1 = hole."""
    return ((prediction - target).abs() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3))).clamp(min=1)


def frequency_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean difference of log amplitudes over blocks with holes, (B,); images (B, 3, H, W), `mask` (B, 1, H, W).

    Phases are left out: how much there is of each frequency counts, not where it lies, so blur is what costs.
    """

    def amplitudes(image: Tensor) -> Tensor:
        blocks = image.unfold(2, SPECTRUM, SPECTRUM).unfold(3, SPECTRUM, SPECTRUM)
        return torch.log(torch.fft.rfft2(blocks.float(), norm="ortho").abs() + 0.01)

    share = F.avg_pool2d(mask, SPECTRUM)[:, 0]  # (B, h, w)
    difference = (amplitudes(prediction) - amplitudes(target)).abs().mean((1, 4, 5))
    return (difference * share).sum((1, 2)) / share.sum((1, 2)).clamp(min=1e-3)


def descriptors(taps: list[Tensor], lpips: Lpips, grid: tuple[int, int]) -> Tensor:
    """What a patch looks like to the first three taps of LPIPS: (B, D, N), squared distances are perceptual ones.

    Features are averaged over quarters of a patch (whole patches at the third tap), so that texture counts and its
    exact position does not.
    """
    parts = []
    for tap, head, cells in zip(taps[:3], lpips.heads, (2, 2, 1), strict=False):
        # Averages first, then the weights: the first tap is the largest thing of a training step.
        pooled = F.adaptive_avg_pool2d(tap, (grid[0] * cells, grid[1] * cells)).float() * head.sqrt()
        parts.append(F.pixel_unshuffle(pooled, cells).flatten(2) / cells)
    return torch.cat(parts, 1)


def supervised_rows(corrupted: Tensor, step: int) -> Tensor:
    """An even sample of each picture's corrupted patches, (B, SUPERVISED_ROWS), another at every `step`.

    The others would say the same at several times the cost. A picture with fewer has some twice; one with none has
    known patches, which count nothing. `corrupted` (B, N).
    """
    order = corrupted.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    count = corrupted.sum(1, keepdim=True)
    place = (torch.arange(SUPERVISED_ROWS, device=corrupted.device) + (step * 0.618) % 1) / SUPERVISED_ROWS
    return order.gather(1, (place * count).long().clamp(max=corrupted.shape[1] - 1))


def match_targets(described: Tensor, rows: Tensor, corrupted: Tensor) -> Tensor:
    """For each corrupted patch, which known patches the ground truth says are best: (B, R, N), rows sum to 1.

    `described` (B, D, N) are `descriptors` of the true image. A softmax of minus the squared distance, in units of a
    fifth of the row's standard deviation. Perceptual distances choose far better sources than pixels do: with perfect
    knowledge of the truth, LPIPS in the hole falls to 0.75 of the training-free reference instead of 0.92.
    """
    chosen = described.gather(2, rows[:, None].expand(-1, described.shape[1], -1))
    norm = described.square().sum(1)
    distance = norm.gather(1, rows)[:, :, None] + norm[:, None] - 2 * chosen.transpose(1, 2) @ described
    known = (~corrupted[:, None]).to(distance.dtype)
    count = known.sum(-1, keepdim=True).clamp(min=1)
    mean = (distance * known).sum(-1, keepdim=True) / count
    deviation = (((distance - mean).square() * known).sum(-1, keepdim=True) / count).sqrt()
    logits = -5 * distance / deviation.clamp(min=1e-6)
    return logits.masked_fill(corrupted[:, None], -torch.inf).softmax(-1)


def match_loss(scores: Tensor, rows: Tensor, corrupted: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy between the attention (Eq. 1) and `target` from `match_targets`, over corrupted patches, (B,).

    It trains queries and keys directly: through a top-1 copy no gradient reaches them, and through a wide softmax
    only the wish to blur does.
    """
    real = corrupted.gather(1, rows) & (~corrupted).any(1, keepdim=True)
    # Columns at -inf have no probability in either; 0 * inf must not make NaN of them.
    log_attention = scores.log_softmax(-1).masked_fill(corrupted[:, None], 0.0)
    per_row = -(target.nan_to_num() * log_attention).sum(-1)
    return (per_row * real).sum(1) / real.sum(1).clamp(min=1)


@torch.no_grad()
def match_rank(chosen: Tensor, rows: Tensor, corrupted: Tensor, target: Tensor) -> Tensor:
    """Fraction of corrupted patches whose `chosen` source (B, R) is among the 1 % best true matches, (B,)."""
    real = corrupted.gather(1, rows) & (~corrupted).any(1, keepdim=True)
    better = (target > target.gather(2, chosen[..., None])).sum(-1)
    limit = (~corrupted).sum(1, keepdim=True) / 100
    return ((better < limit) & real).sum(1) / real.sum(1).clamp(min=1)
