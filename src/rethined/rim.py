"""Known pixels that are not to be believed: what a tight mask leaves of a thing around the hole.

A mask that follows a thing to the pixel leaves its edge, which is mixed with what is behind; one drawn too small
leaves more. The network goes on with that, the search looks for more of it, and all of the fill takes its colour. So
where the pixels nearest to a hole differ from the next ones as those farther out do not, they are taken for such a
rim, and looked at no more than the hole is. They stay as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rethined import plain
from rethined.compiled import compiled

Floats = NDArray[np.float32]

WIDTH = 3
"""Low-resolution pixels beside a hole that are looked at; a rim is one wider at most."""
HOLE = WIDTH + 3
"""What a pixel of the hole is marked with; those of the rings around it with one less each, down to 1."""
FAR = 2
"""The mark of the ring that all within are compared with."""
ARC = 16
"""Side of the blocks that differences are averaged over, three by three."""
TIMES, MORE = (5, 2), 9
"""A rim's differences are more than 5 / 2 of those farther out, and MORE, in sums of 8-bit R, G and B."""
PARTS = 4
"""Of a unit of that, in which means are counted."""


def hide(image: Floats, holes: Floats, detail: Floats) -> NDArray[np.bool_] | None:
    """Make what `find` returns part of the hole, in all that `Upscaler.shrink` returned: `image` (3, h, w), `holes`
    (h, w) and `detail` (6, h / P, w / P)."""
    rim = find(image, holes)
    if rim is not None:
        # By places: they are few, and through masks of all pixels this would take as long as everything else here.
        places, side = np.flatnonzero(rim), len(holes) // detail.shape[1]
        holes.reshape(-1)[places], image.reshape(3, -1)[:, places] = 1, 0
        y, x = np.divmod(places, holes.shape[1])
        detail[:, y // side, x // side] = 0
    return rim


def find(image: Floats, holes: Floats) -> NDArray[np.bool_] | None:
    """The rim (h, w) around the `holes` (h, w), 1 = hole, of an `image` (3, h, w) in [0, 1], both from
    `Upscaler.shrink`; None where there is none.

    Known pixels are in rings around the hole, by their distance. Each is compared with the mean of those beside it in
    the next ring. Averaged over an arc, these differences are compared with those of ring WIDTH + 1: the outermost of
    the rings before that differs much more, the next, which is seldom free of it, and all within are the rim.
    """
    near = np.zeros(holes.shape, np.uint8)
    (_mark or plain.mark)(holes, near, HOLE)
    height, width = holes.shape
    blocks = (HOLE, -(-height // ARC) + 2, -(-width // ARC) + 2)  # with a margin
    sums, counts = np.zeros(blocks, np.int32), np.zeros(blocks, np.int32)
    (_compare or plain.compare)(image, near, sums, counts, ARC, FAR)
    count = _around(counts)
    mean = PARTS * _around(sums) // np.maximum(count, 1)  # 0 where there are none
    differs = (TIMES[1] * mean > TIMES[0] * mean[FAR] + TIMES[1] * PARTS * MORE) & (count[FAR] > 0)
    differs[: FAR + 1] = False
    if not differs.any():
        return None
    inner = np.where(differs.any(0), differs.argmax(0) - 1, HOLE).astype(np.uint8)
    result: NDArray[np.bool_] = near >= inner.repeat(ARC, 0)[:height].repeat(ARC, 1)[:, :width]
    return result & (near < HOLE)


def _around(blocks: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sums of 3 x 3 of `blocks` (..., h + 2, w + 2): (..., h, w)."""
    rows = blocks[..., :-2, :] + blocks[..., 1:-1, :] + blocks[..., 2:, :]
    result: NDArray[np.int32] = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    return result


@compiled()
def _mark(holes, near, hole):  # type: ignore[no-untyped-def]
    """To `near` (h, w), which is 0, `hole` in `holes` (h, w), 1 = hole, and in the rings around that, of pixels by
    their distance to the nearest, along a row, a column or a diagonal, one less each."""
    height, width = holes.shape
    grown = np.zeros((2, height + 2, width + 2), np.uint8)
    rows = np.zeros(width + 2, np.uint8)
    for y in range(height):
        for x in range(width):
            grown[0, y + 1, x + 1] = near[y, x] = np.uint8(holes[y, x] > 0)
    for turn in range(hole - 1):
        before, after = grown[turn % 2], grown[1 - turn % 2]
        for y in range(height):
            above, here, below, to, line = before[y], before[y + 1], before[y + 2], after[y + 1], near[y]
            for x in range(width + 2):
                rows[x] = above[x] | here[x] | below[x]
            for x in range(width):
                value = rows[x] | rows[x + 1] | rows[x + 2]
                to[x + 1] = value
                line[x] += value


@compiled()
def _grey(image, y, x):  # type: ignore[no-untyped-def]
    """R + G + B of a pixel of `image` (3, h, w), of white 765."""
    return np.int32((image[0, y, x] + image[1, y, x] + image[2, y, x]) * np.float32(255) + np.float32(0.5))


@compiled()
def _compare(image, near, sums, counts, arc, far):  # type: ignore[no-untyped-def]
    """To `sums` and `counts` (rings, h / arc + 2, w / arc + 2), which are 0, of each ring from the one marked `far`
    inwards, by its mark in `near` (h, w): how much pixels differ from the next ring's beside them, and of how many;
    every second one is looked at."""
    height, width = near.shape
    words = near.view(np.uint64)
    hole = len(sums)
    inside = np.uint64(hole * 0x0101010101010101)
    for y in range(height):
        for word in range(words.shape[1]):
            if words[y, word] == 0 or words[y, word] == inside:
                continue
            for x in range(8 * word + (y & 1), 8 * word + 8, 2):
                own = near[y, x]
                if own < far or own >= hole:
                    continue
                count, total = 0, np.int32(0)
                for n in range(4):
                    v, u = y + (n == 3) - (n == 0), x + (n == 2) - (n == 1)
                    if 0 <= v < height and 0 <= u < width and near[v, u] == own - 1:
                        count += 1
                        total += _grey(image, v, u)
                if count:
                    mean = (2 * total + count) // (2 * count)
                    sums[own, y // arc + 1, x // arc + 1] += abs(_grey(image, y, x) - mean)
                    counts[own, y // arc + 1, x // arc + 1] += 1
