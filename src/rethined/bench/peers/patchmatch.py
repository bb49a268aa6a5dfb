"""PatchMatch (Barnes et al., SIGGRAPH 2009) in space-time completion's pyramid (Wexler et al., PAMI 2007).

At every scale, patches around the hole look for their nearest known patch: by chance, from their neighbours'
finds, and around their own; then every pixel of the hole is the mean of what the patches over it vote for.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined.bench import baselines
from rethined.compiled import compiled

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

HALF = 3
"""A patch is 2 HALF + 1 = 7 pixels wide."""
ROUNDS = 4
"""Searches and votes at each scale; twice as many at the coarsest."""
PASSES = 2
"""Propagations, there and back, of each search."""
COARSEST = 32
"""The pyramid ends before a side has fewer pixels."""


def patchmatch(image: Image, mask: Mask) -> Image:
    """Uint8 RGB (H, W, 3), bool (H, W), True = hole, to a new array; the same at every call.

    An image without one known patch at full size gets `telea`.

    Raises:
        InputError: not such arrays, or nothing known.
    """
    baselines.check(image, mask)
    if not mask.any():
        return image.copy()
    height, width = mask.shape
    side = 2 * HALF + 1
    pad = ((0, max(0, side - height)), (0, max(0, side - width)))
    start = np.where(mask[..., None], 0, image).astype(np.float32)
    scales = [(np.pad(start, (*pad, (0, 0)), mode="symmetric"), np.pad(mask, pad, mode="symmetric"))]
    if not _sources(scales[0][1]).any():
        return baselines.telea(image, mask)
    while min(scales[-1][1].shape) >= 2 * COARSEST:
        smaller = _halved(*scales[-1])
        if not _sources(smaller[1]).any():
            break
        scales.append(smaller)
    picture, hole = scales[-1]
    known = picture.astype(np.uint8)
    picture = cv2.inpaint(known, hole.astype(np.uint8), baselines.RADIUS, cv2.INPAINT_TELEA).astype(np.float32)
    found = np.full((*hole.shape, 2), -1, np.int32)
    for index, (original, hole) in reversed(list(enumerate(scales))):
        sources, targets = _sources(hole), _targets(hole)
        if index == len(scales) - 1:
            rounds = 2 * ROUNDS
        else:
            rounds = ROUNDS
            found = _doubled(found, *hole.shape)
            picture = original
        _start(found, targets, sources, np.flatnonzero(sources), index)
        if index < len(scales) - 1:  # the finds of the coarser scale are this one's first content
            picture = _vote(picture, hole, targets, found, np.ones(hole.shape, np.float32))
        for turn in range(rounds):
            distance = _search(picture, targets, sources, found, PASSES, 1000 * index + turn)
            spread = max(float(np.percentile(distance[targets], 75)), 1.0)
            weight = np.exp(-distance / (2 * spread)).astype(np.float32)
            picture = _vote(picture, hole, targets, found, weight)
    filled = np.rint(picture[:height, :width]).clip(0, 255).astype(np.uint8)
    return np.where(mask[..., None], filled, image)


def _halved(image: Floats, mask: Mask) -> tuple[Floats, Mask]:
    """Half the size by area; a pixel is hole if any of its four is. An odd last row or column is mirrored."""
    pad = ((0, mask.shape[0] % 2), (0, mask.shape[1] % 2))
    image, mask = np.pad(image, (*pad, (0, 0)), mode="symmetric"), np.pad(mask, pad, mode="symmetric")
    height, width = mask.shape[0] // 2, mask.shape[1] // 2
    small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    return small, np.asarray(mask.reshape(height, 2, width, 2).any((1, 3)))


def _targets(hole: Mask) -> Mask:
    """Centres of patches that lie in the image and reach the hole."""
    return _interior(cv2.dilate(hole.astype(np.uint8), np.ones((2 * HALF + 1,) * 2, np.uint8)) > 0)


def _sources(hole: Mask) -> Mask:
    """Centres of patches that lie in the image and are known."""
    return _interior(cv2.dilate(hole.astype(np.uint8), np.ones((2 * HALF + 1,) * 2, np.uint8)) == 0)


def _interior(centres: NDArray[Any]) -> Mask:
    inside = np.zeros(centres.shape, np.bool_)
    inside[HALF:-HALF, HALF:-HALF] = centres[HALF:-HALF, HALF:-HALF]
    return inside


def _doubled(found: NDArray[np.int32], height: int, width: int) -> NDArray[np.int32]:
    """The finds at twice the size: the same places, at the pixel's own parity."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    coarse = found[rows // 2, columns // 2]
    odd = np.stack(np.broadcast_arrays(rows % 2, columns % 2), -1)
    return np.where(coarse >= 0, 2 * coarse + odd, -1).astype(np.int32)


@compiled("contract")
def _start(found, targets, sources, known, seed):  # type: ignore[no-untyped-def]
    """Targets without a find that is a source get one by chance."""
    np.random.seed(seed)
    height, width = targets.shape
    for y in range(height):
        for x in range(width):
            if not targets[y, x]:
                continue
            v, u = found[y, x]
            if v < 0 or u < 0 or v >= height or u >= width or not sources[v, u]:
                pick = known[np.random.randint(len(known))]
                found[y, x, 0], found[y, x, 1] = pick // width, pick % width


@compiled("contract")
def _distance(picture, y, x, v, u, limit):  # type: ignore[no-untyped-def]
    """Squared difference of the patches at (y, x) and (v, u), or more than `limit`."""
    total = np.float32(0)
    for dy in range(-HALF, HALF + 1):
        for dx in range(-HALF, HALF + 1):
            for c in range(3):
                difference = picture[y + dy, x + dx, c] - picture[v + dy, u + dx, c]
                total += difference * difference
        if total > limit:
            break
    return total


@compiled("contract")
def _search(picture, targets, sources, found, passes, seed):  # type: ignore[no-untyped-def]
    """Improve `found` in place; the squared difference of each target to its find."""
    np.random.seed(seed)
    height, width = targets.shape
    best = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            if targets[y, x]:
                best[y, x] = _distance(picture, y, x, found[y, x, 0], found[y, x, 1], np.float32(1e30))
    for turn in range(2 * passes):
        step = 1 if turn % 2 == 0 else -1
        for i in range(height * width):
            at = i if step == 1 else height * width - 1 - i
            y, x = at // width, at % width
            if not targets[y, x]:
                continue
            for axis in range(2):  # propagation: the neighbour's find, moved back by one
                ny, nx = (y - step, x) if axis == 0 else (y, x - step)
                if ny < 0 or nx < 0 or ny >= height or nx >= width or not targets[ny, nx]:
                    continue
                v, u = found[ny, nx, 0] + (y - ny), found[ny, nx, 1] + (x - nx)
                if 0 <= v < height and 0 <= u < width and sources[v, u]:
                    distance = _distance(picture, y, x, v, u, best[y, x])
                    if distance < best[y, x]:
                        best[y, x], found[y, x, 0], found[y, x, 1] = distance, v, u
            radius = max(height, width)
            while radius >= 1:  # random search: around the best so far, ever nearer
                v = found[y, x, 0] + np.random.randint(-radius, radius + 1)
                u = found[y, x, 1] + np.random.randint(-radius, radius + 1)
                if 0 <= v < height and 0 <= u < width and sources[v, u]:
                    distance = _distance(picture, y, x, v, u, best[y, x])
                    if distance < best[y, x]:
                        best[y, x], found[y, x, 0], found[y, x, 1] = distance, v, u
                radius //= 2
    return best


@compiled("contract")
def _vote(picture, hole, targets, found, weight):  # type: ignore[no-untyped-def]
    """A new picture: hole pixels are the weighted mean of what the finds of all patches over them hold there."""
    height, width = hole.shape
    total = np.zeros((height, width, 4), np.float32)
    for y in range(height):
        for x in range(width):
            if not targets[y, x]:
                continue
            v, u, w = found[y, x, 0], found[y, x, 1], weight[y, x] + np.float32(1e-6)
            for dy in range(-HALF, HALF + 1):
                for dx in range(-HALF, HALF + 1):
                    if hole[y + dy, x + dx]:
                        for c in range(3):
                            total[y + dy, x + dx, c] += w * picture[v + dy, u + dx, c]
                        total[y + dy, x + dx, 3] += w
    out = picture.copy()
    for y in range(height):
        for x in range(width):
            if hole[y, x]:
                for c in range(3):
                    out[y, x, c] = total[y, x, c] / total[y, x, 3]
    return out
