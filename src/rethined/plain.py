"""The loops of `rethined.upscale` in NumPy, for machines without numba: the same results, several times slower."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def shrink(
    image: NDArray[Any], mask: NDArray[np.bool_], scale: int, grid: tuple[int, int], patch_size: int
) -> tuple[Floats, Floats, Floats]:
    """What `Upscaler.shrink` returns: image (1, 3, h, w), mask (1, 1, h, w), detail (1, 6, h / P, w / P)."""
    h, w = grid
    rows, columns = (min(a // scale, b) for a, b in zip(mask.shape, grid, strict=True))
    small = np.zeros((3, h, w), np.float32)
    holes = np.ones(grid, np.float32)
    differences = np.zeros((6, h, w), np.float32)
    half = scale // 2
    gain = np.float32(1 / np.iinfo(image.dtype).max)
    for y in range(rows):  # a row of boxes at a time: no float copy of the photo
        strip = slice(y * scale, (y + 1) * scale), slice(0, columns * scale)
        hole = mask[strip].reshape(scale, columns, scale).any((0, 2))
        boxes = image[strip].reshape(scale, columns, scale, 3).astype(np.float32) * gain
        holes[y, :columns] = hole
        small[:, y, :columns] = np.where(hole, 0, boxes.mean((0, 2), dtype=np.float32).T)
        if half:
            across = boxes[:, :, :half].mean((0, 2)) - boxes[:, :, scale - half :].mean((0, 2))
            down = boxes[:half].mean((0, 2)) - boxes[scale - half :].mean((0, 2))
            differences[:, y, :columns] = np.where(hole, 0, np.concatenate([across.T, down.T]) / 2)
    blocks = differences.reshape(6, h // patch_size, patch_size, w // patch_size, patch_size)
    return small[None], holes[None, None], np.sqrt((blocks**2).mean((2, 4), dtype=np.float32))[None]


def fill(
    target: NDArray[Any],
    mask: NDArray[np.bool_],
    heard: tuple[NDArray[np.int64], NDArray[np.int32], Floats],
    ramps: Floats,
    correction: Floats,
    scale: int,
    columns: int,
) -> None:
    """Write the hole pixels of `target` (H, W, 3) in place; see `Upscaler.fill`.

    `ramps` (3, S) for patches of S pixels, `correction` (h, w, 3) in the target's units, `scale` pixels a cell,
    `columns` patches a row.
    """
    side = ramps.shape[1]
    height, width = mask.shape
    peak = np.iinfo(target.dtype).max
    windows = (ramps[:, None, :, None] * ramps[None, :, None, :]).reshape(9, side, side, 1)
    for row, index, weight in zip(*heard, strict=True):
        top, left = row // columns * side, row % columns * side
        there = np.s_[top : min(top + side, height), left : min(left + side, width)]
        hole = mask[there]
        if not hole.any():
            continue
        rows, wide = hole.shape
        total = np.zeros((rows, wide, 3), np.float32)
        norm = np.zeros((rows, wide, 1), np.float32)
        for e, k in zip(*np.nonzero(weight), strict=True):
            window = windows[e if len(index) == 9 else 4, :rows, :wide] * weight[e, k]
            y, x = index[e, k] // columns * side, index[e, k] % columns * side
            total += window * target[y : y + rows, x : x + wide]
            norm += window
        values = total / np.maximum(norm, np.float32(1e-4)) + _upsampled(correction, scale, top, left, rows, wide)
        target[there][hole] = (values[hole].clip(0, peak) + np.float32(0.5)).astype(target.dtype)


def _upsampled(picture: Floats, scale: int, top: int, left: int, rows: int, columns: int) -> Floats:
    """A part of `picture` (h, w, 3) enlarged bilinearly by `scale`, pixel centres aligned, borders replicated."""

    def taps(first: int, count: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        at = (np.arange(first, first + count, dtype=np.float32) + np.float32(0.5)) / np.float32(scale)
        at = at - np.float32(0.5)
        before = np.floor(at).astype(np.int64)
        return before.clip(0, size - 1), (before + 1).clip(0, size - 1), (at - before).astype(np.float32)

    y0, y1, fy = taps(top, rows, picture.shape[0])
    x0, x1, fx = taps(left, columns, picture.shape[1])
    lines = picture[y0] * (1 - fy)[:, None, None] + picture[y1] * fy[:, None, None]
    return np.asarray(lines[:, x0] * (1 - fx)[:, None] + lines[:, x1] * fx[:, None], np.float32)
