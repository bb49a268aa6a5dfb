"""NeuralPatchMatch (3.3): for every corrupted patch, which known patches to copy, and the copying itself."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rethined.config import ModelConfig
from rethined.model.coarse import STEM, pull_push

DETAIL = 6
"""Channels of `pipeline.fine_detail`."""


def patchify(image: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, N, C * side^2) with N = H W / side^2, patches in reading order."""
    batch, channels, height, width = image.shape
    blocks = image.view(batch, channels, height // side, side, width // side, side)
    # One transposition that keeps rows of `side` pixels whole; pixel_unshuffle moves single pixels and costs 8 times
    # as much.
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * side**2)


def unpatchify(tokens: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `patchify` (3.3's pixel shuffle); `grid` is (H / side, W / side)."""
    batch, channels = tokens.shape[0], tokens.shape[2] // side**2
    blocks = tokens.view(batch, *grid, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    return blocks.reshape(batch, channels, grid[0] * side, grid[1] * side)


def corrupted_patches(mask: Tensor, side: int) -> Tensor:
    """(B, 1, H, W), 1 = hole -> (B, N) bool: a patch is corrupted if any of its pixels is (3.3)."""
    return F.max_pool2d(mask, side).flatten(1) > 0


class Attention(NamedTuple):
    """The sparse form of A (Eq. 1): row i mixes patches `source[:, i]` with `weight[:, i]`."""

    source: Tensor
    """(B, N, k) int64 patch indices; a known patch has itself."""
    weight: Tensor
    """(B, N, k), rows sum to 1, or to 0 where no patch is known."""


class Rows(NamedTuple):
    """Rows of A of all pictures, one after another: `flatten_rows`."""

    source: Tensor
    """(R, k) int64 indices of patches, counted through all pictures; all k of a row are of its own."""
    weight: Tensor
    """(R, k)."""
    pictures: int
    """How many there are."""


def window(side: int, overlap: bool) -> Tensor:
    """The weights (E, side, side) with which a pixel hears its own patch and its neighbours.

    Every patch is copied through a triangular window twice its side, so a pixel lies in four windows, and E = 9
    neighbours in reading order. Without overlap E = 1 and the window is flat (hard tiles).
    """
    if not overlap:
        return torch.ones(1, side, side)
    ramp = 1 - ((torch.arange(2 * side) + 0.5) / side - 1).abs()  # over [-side / 2, 3 side / 2) of the patch
    half = side // 2
    own = ramp[half : half + side]
    # A neighbour to the left reaches our left half with the tail of its window, and so on.
    left = F.pad(ramp[half + side :], (0, side - half))
    right = F.pad(ramp[:half], (side - half, 0))
    axis = torch.stack([left, own, right])  # (3, side): neighbours -1, 0, +1
    return (axis[:, None, :, None] * axis[None, :, None, :]).reshape(9, side, side)


def contributions(attention: Attention, corrupted: Tensor, grid: tuple[int, int], overlap: bool) -> Attention:
    """Whom each patch copies from, once its neighbours' windows reach into it: (B, N, E k) indices and weights.

    Neighbour i + e copies from source(i + e), so in patch i it continues with source(i + e) - e. That is dropped
    where i + e is not corrupted, or where source(i + e) - e is corrupted or outside the picture.
    """
    if not overlap:
        return attention
    rows, columns = grid
    k = attention.source.shape[-1]
    corrupted_grid = torch.unflatten(corrupted, 1, grid)

    def as_grid(values: Tensor) -> Tensor:
        return torch.unflatten(values.transpose(1, 2), 2, grid)  # (B, k, rows, columns)

    source, weight = as_grid(attention.source), as_grid(attention.weight)
    weight = weight * corrupted_grid[:, None].to(weight.dtype)
    padded_source, padded_weight = F.pad(source, (1, 1, 1, 1)), F.pad(weight, (1, 1, 1, 1))
    known = 1 - corrupted.to(weight.dtype)
    indices, weights = [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            there = padded_source[:, :, 1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]
            w = padded_weight[:, :, 1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]
            row = there // columns
            y, x = row - dy, there - row * columns - dx
            inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            index = (y * columns + x) * inside.to(y.dtype)
            flat = index.flatten(1)
            w = w * (inside.to(w.dtype) * torch.unflatten(known.gather(1, flat), 1, (k, rows, columns)))
            indices.append(index)
            weights.append(w)
    index, weight = torch.cat(indices, 1), torch.cat(weights, 1)  # (B, E k, rows, columns)
    return Attention(index.flatten(2).transpose(1, 2), weight.flatten(2).transpose(1, 2))


def mix(tokens: Tensor, attention: Rows, windows: Tensor) -> Tensor:
    """Eq. 2 and 4, normalised over the contributions that exist: p_i = sum_j A_ij W_ij q_j / sum_j A_ij W_ij.

    `tokens` (B N, C side^2), `attention` (R, E k) from `contributions` with rows flattened, `windows`
    (E, side, side). Returns (R, C side^2); rows without any contribution come out as 0.
    """
    side = windows.shape[-1]
    rows, count = attention.source.shape
    k, channels = count // windows.shape[0], tokens.shape[1] // side**2
    if count == k and k > 16:  # a wide softmax over hard tiles is a matrix product; gathering would copy k patches
        total = attention.weight.sum(1, keepdim=True).clamp(min=1e-4)
        source, pictures = attention.source, attention.pictures
        patches = tokens.shape[0] // pictures
        dense = tokens.new_zeros(rows, patches)
        if pictures == 1:
            return dense.scatter_add(1, source, attention.weight / total) @ tokens
        # Picture by picture: one matrix for all would grow with the square of their number.
        dense = dense.scatter_add(1, source % patches, attention.weight / total)
        counts = torch.bincount(source[:, 0] // patches, minlength=pictures).tolist()
        parts = zip(torch.split(dense, counts), torch.split(tokens, patches), strict=True)
        return torch.cat([weights @ own for weights, own in parts])
    flat = windows.to(tokens.dtype).flatten(1).repeat_interleave(k, 0)  # (E k, side^2)
    values = tokens.index_select(0, attention.source.flatten()).view(rows, count, channels, side * side)
    scale = attention.weight[..., None] * flat  # (R, E k, side^2)
    total = scale.sum(1, keepdim=True).clamp(min=1e-4)
    return (values * (scale / total)[:, :, None]).sum(1).flatten(1)


def flatten_rows(attention: Attention, rows: Tensor) -> Rows:
    """The chosen `rows` (R,), in order, of all pictures' B N rows."""
    batch, count, k = attention.source.shape
    source = attention.source
    if batch > 1:
        source = source + torch.arange(batch, device=source.device)[:, None, None] * count
    source, weight = (values.reshape(-1, k).index_select(0, rows) for values in (source, attention.weight))
    return Rows(source, weight, batch)


class NeuralPatchMatch(nn.Module):
    """Scores every corrupted patch against every known one, and chooses what it copies (3.3)."""

    windows: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        side = config.patch_size
        level = [STEM * 2**i for i in range(len(config.widths))].index(side)
        self.level = level
        # A linear map of a patch's pixels is a convolution with the patch's side as kernel and stride.
        self.pixels = nn.Conv2d(3, 2 * config.key_dim, side // config.band, side // config.band)
        self.context = nn.Conv2d(config.widths[level], 2 * config.key_dim, 1) if config.feature_conditioning else None
        self.detail = nn.Conv2d(DETAIL, 2 * config.key_dim, 1) if config.detail else None
        with torch.no_grad():  # queries and keys start equal: alike patches match before any training
            for projection in (self.pixels, self.context, self.detail):
                if projection is not None:
                    for parameter in projection.parameters():
                        parameter[config.key_dim :] = parameter[: config.key_dim]
        self.temperature = nn.Parameter(torch.tensor(math.log(10.0)))
        if config.band == 1:
            self.register_buffer("windows", window(side, config.overlap), persistent=False)
            self.coherence = nn.Conv2d(3, 3, 3, padding=1)
            nn.init.zeros_(self.coherence.weight)
            nn.init.zeros_(cast(Tensor, self.coherence.bias))

    def embed(
        self, coarse: Tensor, features: list[Tensor], detail: Tensor | None, hole: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, d_k, H / P, W / P): a patch's pixels, the network's features there and the detail
        above the grid, projected. `coarse` (B, 3, H / band, W / band), `detail` (B, 6, H / P, W / P), see
        `pipeline.fine_detail`; `hole` (B, 1, H / P, W / P), 1 = corrupted."""
        both = self.pixels(coarse - 0.5)
        if self.context is not None:
            both = both + self.context(features[self.level])
        known = 1 - hole
        if self.detail is not None:
            assert detail is not None, "a model with `detail` needs it"
            # Logarithms: twice the detail is one step, in the dark as in the light.
            both = both + self.detail(torch.log(detail + 0.01) + 3) * known
        query, key = both.chunk(2, 1)
        if self.config.diffusion:
            query = query + diffuse(key, known)
        # Unit length: scores are cosines, bounded, so fp16 cannot overflow and the temperature is one number.
        return unit(query), unit(key)

    def scores(
        self, coarse: Tensor, features: list[Tensor], detail: Tensor | None, corrupted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The two factors (B, N, d_k) of the score matrix S = query key^T, Eq. 1 before its softmax; arguments as in
        `embed`."""
        cells = self.config.patch_size // self.config.band
        grid = (coarse.shape[2] // cells, coarse.shape[3] // cells)
        hole = torch.unflatten(corrupted, 1, grid)[:, None].to(coarse.dtype)
        both = self.embed(coarse, features, detail, hole)
        query, key = (vectors.flatten(2).transpose(1, 2) for vectors in both)
        return query * self.temperature.exp(), key

    def corrupted_scores(self, query: Tensor, key: Tensor, corrupted: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of corrupted rows against known columns only: true masking (3.3), in batches.

        Returns rows (B, R), the corrupted patches of each picture in reading order, padded with known ones to the
        longest list; and scores (B, R, N) with -inf in corrupted columns (none where nothing is known).
        """
        longest = int(corrupted.sum(1).max())
        rows = corrupted.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
        return rows, self.score_rows(query, key, corrupted, rows)

    def score_rows(self, query: Tensor, key: Tensor, corrupted: Tensor, rows: Tensor) -> Tensor:
        """Scores (B, R, N) of `rows` (B, R), -inf in corrupted columns (none where nothing is known)."""
        some = (~corrupted).any(1, keepdim=True)
        chosen = query.gather(1, rows[..., None].expand(-1, -1, query.shape[-1]))
        scores = chosen @ key.transpose(1, 2)
        return scores.masked_fill((corrupted & some)[:, None, :], -torch.inf)

    def attend(self, rows: Tensor, scores: Tensor, corrupted: Tensor) -> Attention:
        """Eq. 1 on what `corrupted_scores` returns; known rows keep themselves."""
        batch, count = corrupted.shape
        some = (~corrupted).any(1)[:, None, None]
        if self.config.top_k == 1:
            value, best = scores.max(-1, keepdim=True)
        else:
            value, best = scores.topk(min(self.config.top_k or count, count), -1)
        weight = value.softmax(-1) * some.to(value.dtype)
        k = best.shape[-1]
        own = torch.arange(count, device=rows.device)[None, :, None].expand(batch, -1, k)
        one = F.one_hot(torch.zeros_like(own[..., 0]), k).to(weight.dtype)
        index = rows[..., None].expand(-1, -1, k)
        source, weight = own.scatter(1, index, best), one.scatter(1, index, weight)
        here = corrupted[..., None]
        return Attention(torch.where(here, source, own), torch.where(here, weight, one))

    def attend_rows(self, query: Tensor, key: Tensor, corrupted: Tensor) -> Attention:
        """What `attend` computes, from corrupted rows and known columns only: the exported form. B = 1; where
        `top_k` is 0, k is the number of known columns."""
        none = ~(~corrupted).any(1, keepdim=True)
        rows = torch.nonzero(corrupted[0])[:, 0]
        columns = torch.nonzero((~corrupted | none)[0])[:, 0]
        scores = query.flatten(0, 1).index_select(0, rows) @ key.flatten(0, 1).index_select(0, columns).T
        if self.config.top_k == 1:
            best = scores.argmax(-1, keepdim=True)
            weight = torch.ones_like(best, dtype=query.dtype)
        else:
            value, best = scores.topk(self.config.top_k or len(columns), -1)
            weight = value.softmax(-1)
        weight = weight * (~none).to(weight.dtype)
        own = torch.arange(corrupted.shape[1], device=rows.device)[:, None].expand(-1, best.shape[1])
        one = F.one_hot(torch.zeros_like(own[:, 0]), best.shape[1]).to(weight.dtype)
        source = own.index_copy(0, rows, columns[best])
        return Attention(source[None], one.index_copy(0, rows, weight)[None])

    def forward(
        self, coarse: Tensor, features: list[Tensor], mask: Tensor, detail: Tensor | None = None
    ) -> tuple[Tensor, Attention]:
        """`coarse` and decoder `features` of `CoarseNetwork`, `mask` (B, 1, H, W), 1 = hole, `detail` as in `embed`.

        Returns what `low` returns, and the attention.
        """
        corrupted = corrupted_patches(mask, self.config.patch_size)
        query, key = self.scores(coarse, features, detail, corrupted)
        rows, scores = self.corrupted_scores(query, key, corrupted)
        attention = self.attend(rows, scores, corrupted)
        return self.low(coarse, mask, attention), attention

    def low(self, coarse: Tensor, mask: Tensor, attention: Attention) -> Tensor:
        """The band that is not copied at full resolution (B, 3, H / band, W / band).

        The coarse image itself; or, for band 1, token mixing (Eq. 2) and the coherence layer inside the hole.
        """
        if self.config.band > 1:
            return coarse
        side = self.config.patch_size
        grid = (coarse.shape[2] // side, coarse.shape[3] // side)
        corrupted = corrupted_patches(mask, side)
        # Known patches are data, not predictions: no gradient runs through what is copied.
        tokens = patchify(coarse.detach(), side).flatten(0, 1)
        rows = torch.nonzero(corrupted.flatten())[:, 0]
        heard = flatten_rows(contributions(attention, corrupted, grid, self.config.overlap), rows)
        # Where nothing at all is known there is nothing to mix, and the coarse result stands.
        own = patchify(coarse, side).flatten(0, 1).index_select(0, rows)
        mixed = torch.where(heard.weight.sum(-1, keepdim=True) > 0, mix(tokens, heard, self.windows), own)
        mixed = unpatchify(tokens.index_copy(0, rows, mixed).view(coarse.shape[0], -1, 3 * side**2), side, grid)
        refined = coarse * (1 - mask) + mixed * mask
        return refined + cast(Tensor, self.coherence(refined - 0.5)) * mask


def unit(vectors: Tensor) -> Tensor:
    """`vectors` (B, C, h, w) scaled to length 1 over their channels, by arithmetic that every runtime has."""
    return vectors / ((vectors * vectors).sum(1, keepdim=True) + 1e-6).sqrt()


def diffuse(vectors: Tensor, known: Tensor) -> Tensor:
    """Pull-push of `vectors` (B, C, h, w) from where `known` (B, 1, h, w) is 1, for any h and w."""
    rows, columns = vectors.shape[2:]
    padding = (0, -columns % 4, 0, -rows % 4)
    if padding == (0, 0, 0, 0):  # always so where patches are 8 pixels
        return pull_push(vectors, known, 2)
    return pull_push(F.pad(vectors, padding), F.pad(known, padding), 2)[:, :, :rows, :columns]
