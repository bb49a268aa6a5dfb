"""Fills holes in photographs of any size with a rethined core: ONNX Runtime and NumPy, nothing else.

    python inpaint.py rethined.onnx photo.ppm mask.pgm filled.ppm

Binary PPM (P6) and PGM (P5) of 8 bits, so that no decoder is needed; white in the mask is filled. To be read beside
`rethined.windows`, and `rethined.rim`, `rethined.search` and `rethined.upscale`, which do the same in compiled loops.
Names here are theirs.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it reports its use over the network; read as it loads
import onnxruntime as ort

f32 = np.float32
states = ort.capi.onnxruntime_pybind11_state
REFUSED = states.Fail, states.InvalidArgument, states.InvalidGraph, states.InvalidProtobuf, states.RuntimeException
INPUTS, OUTPUTS = ["image", "mask", "detail"], ["low", "query", "key"]  # networks may be trained without `detail`

STRIDE = 32  # of the network; both sides of its image are multiples of this
GRID = 44 * 2**13  # pixels that the grids of any photo may hold together
GRID_GROWTH = 6 * 2**13  # and for each unit of the factor, where that is more
WHOLE = 4  # from this factor on there is no half
BLOCK = 16  # side, in pixels, of the blocks that holes are put into boxes by
MARGIN, CROSSING = 16, 32  # grid pixels: seen around a box, at least; and of hole that a cut through it may cross
LEVELS, EXTRA = 5, 2**12  # cuts in a row; and grid pixels that another window is counted as beside its own
LEAST = 2  # strides that a grid has a side, at least, where the photo has them
THIN = 10  # grid pixels a side of a square that no thin hole fills
THIN_FROM = 2.5  # factor from which on thin holes have windows of their own
SOURCE = 20  # grid pixels a side of a square that is all known, as the surroundings of a source are
SCARCE = 20  # known blocks for each such square, at most, or they are in too small pieces to be copied
BAR = 80  # THIN behind a fence: what is thicker would be cut into windows that see nothing known
THIN_LEVELS, THIN_SHARE = 8, 12  # cuts of thin holes; and how many times the grid of the whole photo theirs may hold
PATCH = 8  # side of what a query and a key describe, in low-resolution pixels
CELL = 4  # side of what is copied at a time, in low-resolution pixels
RIM, FAR = 6, 2  # what is marked in rings: the hole, and the ring that all within are compared with
ARC = 16  # side of the blocks that rings are compared in, three by three, in low-resolution pixels
WHITE, UNIT = 120, 127  # what 1 is in colours and in queries and keys
WEIGHTS = np.array((8, 4, 2, 1), f32)  # what a cell counts in a comparison, by its depth in the hole
AFFINITY, LEAST_AFFINITY = 5, 6  # what query and key count: in sixteenths of all compared, and beside that
SEAM = 100  # what it costs that a neighbour does not go on with the same source
REPEAT = 60  # what each other cell of the same source costs
OFTEN = 4  # how many cost so
FAIR, CROWD, MOST = 8, 4, 8  # beyond FAIR times the mean MOST others cost CROWD times as much each
JUMPS = ((8, 4, 2, 1), (2, 1), (1,), (1,))  # of each round
GUESSES = (1, 2, 4)  # by level, finest first
STRAIGHT, ALIKE = 12, 13  # numbers of further draws: a place in the same row and column, and another cell
INHERITED = (3, 6)  # by level: how deep in the hole the coarser level has its say
DECISION = 8  # how strongly votes prefer what fits
NEARBY = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
NUDGE, NUDGES = 3, 3  # how far regions are moved, in low-resolution pixels, and how often
STAY = 600  # what each pixel of a move costs beside one border of a cell
FINE = 64  # parts of a low-resolution pixel in which moves are counted
TRUST, SMOOTH, EDGE, RELAXATION, SWEEPS = f32(0.005), f32(0.0012), f32(0.00032), f32(1.9), 30  # of `correction`
BESIDE = {0: 128, 1: 64, 2: 16, 4: 4, 5: 3, 8: 1}  # what pixels count in means around one, by squared distance
MENDED = (8, 4)  # tenths of their difference that it is moved by: where a known one touches it, and elsewhere


def inpaint(session: ort.InferenceSession, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """`image` (H, W, 3) uint8 RGB, filled where `hole` (H, W) bool is True; a new array."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {image.shape}; give uint8 (height, width, 3)")
    if hole.dtype != np.bool_ or hole.shape != image.shape[:2]:
        raise ValueError(f"mask is {hole.dtype} {hole.shape}; give bool {image.shape[:2]}")
    if not hole.any():
        return image.copy()
    result, hole = image.copy(), hole.copy()
    for window in windows(hole, core_size(session)):
        shown = window.shown
        result[shown] = fill(session, result[shown], hole[shown], window.scale, window.rows, window.columns)
        hole[window.holes] = False  # what one window has filled is known to the next
    return result


def fill(
    session: ort.InferenceSession, image: np.ndarray, hole: np.ndarray, scale: float, h: int, w: int
) -> np.ndarray:
    """What one window shows, filled, by way of a grid (h, w); a new array."""
    small, small_hole, detail = shrink(image, hole, scale, h, w)
    rims = rim(small, small_hole)
    small[:, rims], small_hole[rims] = 0, True
    detail[:, rims.reshape(h // PATCH, PATCH, w // PATCH, PATCH).any((1, 3))] = 0
    feeds = {"image": small[None], "mask": small_hole[None, None].astype(f32), "detail": detail[None]}
    asked = {value.name: feeds[value.name] for value in session.get_inputs()}
    low, query, key = (output[0] for output in session.run(OUTPUTS, asked))
    cells, patches = (h // CELL, w // CELL), (h // PATCH, w // PATCH)
    if low.shape != (3, *cells) or query.shape != key.shape or key.shape[1:] != patches:
        wanted = "low (3, {}, {}), and query and key (width, {}, {})".format(*cells, *patches)
        raise ValueError(f"the core does not answer with {wanted}")
    side = int(scale * CELL)
    begin, known = find(small, small_hole, low, query, key, scale)
    lacking = low.transpose(1, 2, 0) if begin is None else correction(low, begin, known, side)
    return mend(copy(image, hole, begin, known, lacking, side), hole, surrounded(rims, 1), int(2 * scale))


class Window(NamedTuple):
    """A part of the photo, how it meets the network, and whose holes it fills."""

    shown: tuple[slice, slice]
    """Rows and columns of the photo, in pixels."""
    scale: float
    """Full-resolution pixels to one of the grid's; a multiple of a half."""
    rows: int
    """Of the grid, as `columns` a multiple of STRIDE."""
    columns: int
    holes: tuple[slice, slice]
    """Rows and columns of what it fills for good, in pixels."""


def core_size(session: ort.InferenceSession) -> tuple[int, int] | None:
    """Rows and columns of the only grid that the core takes; None: of any."""
    h, w = session.get_inputs()[0].shape[2:]
    return (h, w) if isinstance(h, int) and isinstance(w, int) else None


def windows(hole: np.ndarray, size: tuple[int, int] | None = None) -> list[Window]:
    """Around the holes, with the smallest factor at which their grids together hold no more pixels than the whole
    photo's would; where that is large, around thin holes first, with a smaller one. In the order in which they are to
    be filled; each pixel of `hole`, at least one, is in the `holes` of one. Where the grid must be of a `size`, one
    around all, with the smallest factor at which that is enough."""
    height, width = hole.shape
    down, across = (-(-side // BLOCK) for side in hole.shape)
    padded = np.pad(hole, ((0, down * BLOCK - height), (0, across * BLOCK - width)))
    padded = padded.reshape(down, BLOCK, across, BLOCK)
    blocks, full = padded.any((1, 3)), padded[:, ::4].all((1, 3))

    def leaves(
        blocks: np.ndarray,
        top: int,
        bottom: int,
        left: int,
        right: int,
        levels: int,
        halves: int,
        least: tuple[int, int] = (0, 0),
        most: float = math.inf,
        thickest: float = math.inf,
    ) -> tuple[int, list[Window]]:
        """What the cheapest windows cost, in pixels of grids, around what of a box, in `blocks`, is hole, with at
        most `levels` cuts in a row; and these, with grids of at least `least`, and no more than `most` where they
        can be cut. The hole is no thicker than `thickest`."""
        rows, columns = (np.flatnonzero(blocks[top:bottom, left:right].any(axis)) for axis in (1, 0))
        top, bottom = top + int(rows[0]), top + int(rows[-1]) + 1
        left, right = left + int(columns[0]), left + int(columns[-1]) + 1
        tall = bottom - top >= right - left
        part = blocks[top:bottom, left:right] if tall else blocks[top:bottom, left:right].T
        count = len(part)
        thickness = min(np.count_nonzero(part) * BLOCK // count, thickest)  # the hole's area by its length
        margin, multiple = max(MARGIN * halves // 2, thickness), STRIDE * halves // 2
        holes = slice(top * BLOCK, min(bottom * BLOCK, height)), slice(left * BLOCK, min(right * BLOCK, width))
        lines, h = around(holes[0], height, margin, multiple, least[0])
        beside, w = around(holes[1], width, margin, multiple, least[1])
        cost = h * w
        whole = cost, [Window((lines, beside), halves / 2, h, w, holes)]
        if cost <= EXTRA or not levels or count * BLOCK <= 2 * MARGIN:
            return whole
        # Where least of the hole is cut through, of the middle half of lines; there, the most central.
        edge = max(count // 4, 1)
        cuts = np.arange(edge, count - edge + 1)
        crossings = (part[cuts - 1] & part[cuts]).sum(1) * BLOCK
        n = int(np.lexsort((abs(2 * cuts - count), crossings))[0])
        if 2 * crossings[n] > CROSSING * halves and cost <= most:
            return whole
        at = int(cuts[n])
        if tall:
            boxes = (top, top + at, left, right), (top + at, bottom, left, right)
        else:
            boxes = (top, bottom, left, left + at), (top, bottom, left + at, right)
        (first, one), (second, other) = (
            leaves(blocks, *box, levels - 1, halves, most=most, thickest=thickest) for box in boxes
        )
        return (first + second + EXTRA, one + other) if first + second + EXTRA < cost or cost > most else whole

    if size:
        for halves in factors():
            (window,) = leaves(blocks, 0, down, 0, across, 0, halves, size)[1]
            if (window.rows, window.columns) == size:
                return [window]
    for halves in factors():  # of the whole photo
        h, w = (-(-2 * side // (halves * STRIDE)) * STRIDE for side in hole.shape)
        if 2 * h * w <= max(2 * GRID, GRID_GROWTH * halves) or min(h, w) == STRIDE:
            break

    def finest(blocks: np.ndarray, levels: int, total: int, **limits: float) -> list[Window]:
        """With the smallest factor at which their grids hold no more than `total` pixels; every second one first."""
        found = (leaves(blocks, 0, down, 0, across, levels, halves, **limits) for halves in factors())
        parts = next(parts for cost, parts in found if cost <= total)
        return parts[::2] + parts[1::2]

    all_ = finest(blocks, LEVELS, h * w)
    coarse, known = all_[0].scale, ~blocks
    sources = np.count_nonzero(squares(known, int(SOURCE * coarse) // BLOCK + 1))
    fenced = coarse > 1 and sources * SCARCE < np.count_nonzero(known)  # next to nothing could be copied
    if coarse < THIN_FROM and not fenced:
        return all_
    bulky = thick(blocks, full, int((BAR if fenced else THIN) * coarse) // BLOCK)
    if (bulky == blocks).all():
        return all_
    thickest = int(THIN * coarse) // BLOCK * BLOCK
    fine = finest(blocks & ~bulky, THIN_LEVELS, THIN_SHARE * h * w, most=h * w, thickest=thickest)
    if fine[0].scale >= coarse:
        return all_
    return fine + (finest(bulky, LEVELS, h * w) if bulky.any() else [])


def thick(blocks: np.ndarray, full: np.ndarray, side: int) -> np.ndarray:
    """Which of the `blocks` hang together, by sides or corners, with a square of `side` x `side` that are `full`."""
    grown, found = squares(full, side), None
    while found is None or (grown != found).any():
        found = grown
        near = np.pad(found, 1)
        near = near[:-2] | near[1:-1] | near[2:]
        grown = (near[:, :-2] | near[:, 1:-1] | near[:, 2:]) & blocks
    return grown


def squares(blocks: np.ndarray, side: int) -> np.ndarray:
    """The first blocks of squares of `side` x `side` of the `blocks`."""
    padded = np.pad(blocks, ((0, side - 1), (0, side - 1)))
    lines = np.lib.stride_tricks.sliding_window_view(padded, side, axis=1).all(2)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(lines, side, axis=0).all(2))


def factors() -> itertools.chain[int]:
    """In halves, from 1 on."""
    return itertools.chain(range(2, 2 * WHOLE), itertools.count(2 * WHOLE, 2))


def around(hole: slice, length: int, margin: int, multiple: int, least: int) -> tuple[slice, int]:
    """The `hole` with a margin, rounded up to a multiple, or to `least` grid pixels, where the photo, of `length`,
    has as much; and the side of its grid."""
    begin, end = max(hole.start - margin, 0), min(hole.stop + margin, length)
    count = max(-(-(end - begin) // multiple), min(LEAST, -(-length // multiple)), least // STRIDE)
    size = min(count * multiple, length)
    begin = min(max(begin - (size - (end - begin)) // 2, 0), length - size)
    return slice(begin, begin + size), count * STRIDE


def shrink(
    image: np.ndarray, hole: np.ndarray, factor: float, h: int, w: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of boxes (3, h, w), 0 in holes and beyond the border; holes (h, w); detail (6, h / 8, w / 8)."""
    if factor % 1:  # of half pixels
        image, hole, factor = (*(pixels.repeat(2, 0).repeat(2, 1) for pixels in (image, hole)), 2 * factor)
    scale = int(factor)
    rows, columns = hole.shape[0] // scale, hole.shape[1] // scale
    inside = np.s_[: rows * scale, : columns * scale]
    small, holes, differences = np.zeros((3, h, w), f32), np.ones((h, w), bool), np.zeros((6, h, w))
    holes[:rows, :columns] = hole[inside].reshape(rows, scale, columns, scale).any((1, 3))
    known = ~holes[:rows, :columns]
    lines = image[inside].reshape(rows, scale, columns * scale * 3)
    half = scale // 2

    def boxes(lines: np.ndarray) -> np.ndarray:
        """(rows, n, ...) -> sums over n, with the pixels of each box apart: (3, rows, columns, scale)."""
        return lines.sum(1, dtype=np.int32).reshape(rows, columns, scale, 3).transpose(3, 0, 1, 2)

    sums = boxes(lines)
    gain = f32(1 / (scale * scale * 255))
    small[:, :rows, :columns] = sums.sum(-1).astype(f32) * gain * known
    if half:
        across = sums[..., :half].sum(-1) - sums[..., scale - half :].sum(-1)
        down = (boxes(lines[:, :half]) - boxes(lines[:, scale - half :])).sum(-1)
        differences[:, :rows, :columns] = np.concatenate([across, down]) * known
    blocks = differences.reshape(6, h // PATCH, PATCH, w // PATCH, PATCH)
    # Squares of whole numbers: in whatever order they are summed, the same.
    detail = np.sqrt((blocks**2).sum((2, 4))) / max(half * 2 * scale * 255 * PATCH, 1)
    return small, holes, detail.astype(f32)


def rim(small: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """What a tight mask leaves of a thing at the `holes` (h, w): pixels that neither network nor search are to see.

    Each known pixel near a hole is compared with the mean of those beside it that are one farther. Where these
    differences, averaged over an arc, are for one of the inner three rings much more than for the fourth, that, the
    next and all within are the rim.
    """
    h, w = holes.shape
    near, grown = holes.astype(np.int64), holes
    for _ in range(RIM - 1):
        grown = surrounded(grown, 1)
        near += grown
    grey = greys(small)
    y, x = np.nonzero((near >= FAR) & (near < RIM) & (np.indices((h, w)).sum(0) % 2 == 0))
    own, count, total = near[y, x], np.zeros(len(y), np.int64), np.zeros(len(y), np.int64)
    marks, padded = np.pad(near, 1), np.pad(grey, 1)
    for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
        there = y + 1 + dy, x + 1 + dx
        outer = marks[there] == own - 1
        count += outer
        total += outer * padded[there]
    differences = abs(grey[y, x] - (2 * total + count) // np.maximum(2 * count, 1))
    blocks = RIM, h // ARC, w // ARC
    place = np.ravel_multi_index((own, y // ARC, x // ARC), blocks)

    def arcs(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(place, values * (count > 0), math.prod(blocks)).astype(np.int64).reshape(blocks)
        padded = np.pad(sums, ((0, 0), (1, 1), (1, 1)))
        rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        return np.asarray(rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:])

    counts = arcs(np.ones_like(count))
    means = 4 * arcs(differences) // np.maximum(counts, 1)
    differs = (2 * means > 5 * means[FAR] + 72) & (counts[FAR] > 0)
    differs[: FAR + 1] = False
    inner = np.where(differs.any(0), differs.argmax(0) - 1, RIM).repeat(ARC, 0).repeat(ARC, 1)
    return np.asarray((near >= inner) & (near < RIM))


def greys(small: np.ndarray) -> np.ndarray:
    """R + G + B (h, w), of white 765."""
    return np.floor((small[0] + small[1] + small[2]) * f32(255) + f32(0.5)).astype(np.int32)


def find(
    small: np.ndarray, holes: np.ndarray, low: np.ndarray, query: np.ndarray, key: np.ndarray, scale: float
) -> tuple[np.ndarray | None, np.ndarray]:
    """For every cell where in the photo what it copies begins, row and column in pixels (h w, 2), or None where there
    is nothing to copy; and which cells are known."""
    levels = pyramid(small, holes, low, query, key)
    found = None
    for number in (2, 1, 0):
        found = search(*levels[number], number, found) or found
    known = levels[0][1]
    if found is None:
        return None, known
    place, source = found
    shift = np.where(known.reshape(-1), 0, source[place.reshape(-1)] - np.arange(known.size))
    corner = np.stack(np.divmod(np.arange(known.size) + shift, known.shape[1]), 1) * int(CELL * scale)
    return corner + (align(small, shift, known.shape[1]) * int(2 * scale) + FINE) // (2 * FINE), known


def pyramid(
    small: np.ndarray, holes: np.ndarray, low: np.ndarray, query: np.ndarray, key: np.ndarray
) -> list[tuple[np.ndarray, ...]]:
    """Of three sizes, finest first: values (h, w, 5), known (h, w), queries and keys (h, w, d). All are integers."""
    described, known = describe(small, holes)
    guess = np.floor(low.transpose(1, 2, 0).clip(0, 1) * f32(WHITE) + f32(0.5))
    texture = from_ancestors(described[..., 3:], known)
    values = np.where(known[..., None], described, np.concatenate([guess, texture], -1))
    q, k = (np.rint(vectors.transpose(1, 2, 0) * f32(UNIT)) for vectors in (query, key))
    levels = [(values, known, q.repeat(2, 0).repeat(2, 1), k.repeat(2, 0).repeat(2, 1))]
    for number in (1, 2):
        values, known = np.floor((quads(values) + 2) / 4), quads(known.astype(f32)) == 4
        if number == 2:
            q, k = (np.floor((quads(vectors) + 2) / 4) for vectors in (q, k))
        levels.append((values, known, q, k))
    return levels


def describe(small: np.ndarray, holes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of known cells colours and how much their pixels differ from those beside and below; and which are known."""
    _, h, w = small.shape
    known = ~holes.reshape(h // CELL, CELL, w // CELL, CELL).any((1, 3))
    pixel = small.reshape(3, h // CELL, CELL, w // CELL, CELL).transpose(2, 4, 0, 1, 3)  # [y, x] (3, rows, columns)
    grey = pixel[:, :, 0] + pixel[:, :, 1] + pixel[:, :, 2]
    colour = np.zeros(pixel.shape[2:], f32)
    across, down = np.zeros(grey.shape[2:], f32), np.zeros(grey.shape[2:], f32)
    for y in range(CELL):  # one by one: float sums depend on their order
        for x in range(CELL):
            colour += pixel[y, x]
            if x < CELL - 1:
                across += abs(grey[y, x] - grey[y, x + 1])
            if y < CELL - 1:
                down += abs(grey[y, x] - grey[y + 1, x])

    colour = np.floor(colour * f32(WHITE / 16) + f32(0.5))
    across, down = (np.floor(d * f32(WHITE * 2 / 36) + f32(0.5)).clip(max=WHITE) for d in (across, down))
    return np.where(known[..., None], np.stack([*colour, across, down], -1), f32(0)), known


def quads(values: np.ndarray) -> np.ndarray:
    """Sums of 2 x 2 cells."""
    return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]


def from_ancestors(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`values` (h, w, C) where `known`; elsewhere the rounded mean of the smallest block around that knows any."""
    h, w = known.shape
    sums, counts = np.where(known[..., None], values, 0), known.astype(f32)[..., None]
    result, open_ = values.copy(), ~known
    y, x = np.mgrid[:h, :w]
    while open_.any() and max(sums.shape[:2]) > 1:
        pad = (0, sums.shape[0] % 2), (0, sums.shape[1] % 2), (0, 0)
        sums, counts, y, x = quads(np.pad(sums, pad)), quads(np.pad(counts, pad)), y // 2, x // 2
        total, count = sums[y, x], counts[y, x]
        some = open_ & (count[..., 0] > 0)
        result[some] = np.floor((2 * total[some] + count[some]) / (2 * count[some]))
        open_ &= ~some
    return result


def shifted(bits: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """[y, x] is `bits`[y + dy, x + dx]; False beyond the border."""
    h, w = bits.shape
    return np.pad(bits, max(abs(dy), abs(dx)))[max(0, dx, dy, -dx, -dy) + dy :][:h, max(0, dx, dy, -dx, -dy) + dx :][
        :, :w
    ]


def surrounded(bits: np.ndarray, reach: int) -> np.ndarray:
    """`bits`, and what is at most `reach` away from them in both directions."""
    steps = range(-reach, reach + 1)
    return np.logical_or.reduce([shifted(bits, dy, dx) for dy in steps for dx in steps])


def interior(known: np.ndarray) -> np.ndarray:
    """Cells all of whose 5 x 5 surroundings are inside the picture and known."""
    return np.logical_and.reduce([shifted(known, dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)])


def depths(known: np.ndarray) -> np.ndarray:
    """City-block distance to the nearest known cell, 7 at most: what is deeper is treated alike."""
    depth, reached = np.zeros(known.shape, np.int64), known
    for _ in range(7):
        depth += ~reached
        reached = reached | np.logical_or.reduce([shifted(reached, *d) for d in ((0, 1), (0, -1), (1, 0), (-1, 0))])
    return depth


def search(
    values: np.ndarray,
    known: np.ndarray,
    query: np.ndarray,
    key: np.ndarray,
    number: int,
    coarser: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """PatchMatch at one level: place (h, w) of every hole cell, and of those beside, in a list, -1 of others; and
    what they copy, in that list's order. None where no cell's surroundings are known."""
    h, w = known.shape
    valid = interior(known)
    choices = np.flatnonzero(valid)
    if not len(choices) or known.all():
        return None
    near = np.logical_or.reduce([shifted(~known, dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    targets = np.flatnonzero(near)
    ty, tx = np.divmod(targets, w)
    place = np.full((h, w), -1)
    place[ty, tx] = np.arange(len(targets))
    first, _ = pseudo_random(targets, 64 * 64 + number)
    source = choices[first * len(choices) // 65521]
    depth = depths(known)
    hole = np.flatnonzero(~known)
    if coarser is not None:
        deep = depth.reshape(-1) >= INHERITED[number]
        source = inherited(targets, valid, deep[targets], source, *coarser)

    around = np.pad(WEIGHTS[np.minimum(depth, 3)], 2)
    weight = np.stack([around[ty + dy, tx + dx] for dy in range(5) for dx in range(5)], -1)  # (N, 25)
    affinity = np.floor((weight.sum(-1) * AFFINITY + 8) / 16) + LEAST_AFFINITY
    asked = query.reshape(h * w, -1)[targets]
    offered = key.reshape(h * w, -1)
    radius = max(h, w) // (4 if coarser is not None else 1)
    fair = max(OFTEN, FAIR * len(targets) // len(choices))

    def surroundings(values: np.ndarray) -> np.ndarray:
        """(h * w, 25, 5)"""
        padded = np.pad(values, ((2, 2), (2, 2), (0, 0)))
        return np.stack([padded[dy : dy + h, dx : dx + w] for dy in range(5) for dx in range(5)], 2).reshape(
            h * w, 25, 5
        )

    table = surroundings(values)
    mine = table[targets]

    def price(source: np.ndarray) -> np.ndarray:
        difference = table[source] - mine
        squares = np.einsum("nkc,nkc->nk", difference, difference)
        product = np.einsum("nd,nd->n", asked, offered[source])
        return (squares * weight).sum(-1) + affinity * np.maximum(UNIT * UNIT - product, 0)

    def improve(source: np.ndarray, jump: int, guesses: int, counter: int) -> tuple[np.ndarray, np.ndarray]:
        # How far the sources of the four neighbours are from them; 0, as never here, if they copy nothing.
        around = np.pad(np.where(place >= 0, source[place] - np.arange(h * w).reshape(h, w), 0), 1)
        beside = np.stack([around[ty + dy, tx + dx] for dy, dx in ((0, 1), (1, 0), (1, 2), (2, 1))])

        def apart(offer: np.ndarray) -> np.ndarray:
            """What seams and repeats cost."""
            others = uses[offer] - (offer == source)
            crowded = np.clip(others, 0, OFTEN) + CROWD * np.clip(others - fair, 0, MOST)
            return np.asarray(affinity * (SEAM * (beside != offer - targets).sum(0) + REPEAT * crowded))

        best, least = source.copy(), price(source) + apart(source)

        def offer(sy: np.ndarray, sx: np.ndarray, allowed: np.ndarray) -> None:
            good = allowed & (sy >= 0) & (sy < h) & (sx >= 0) & (sx < w)
            other = np.where(good, sy * w + sx, best)
            other = np.where(valid.reshape(-1)[other], other, best)
            cost = price(other) + apart(other)
            better = cost < least
            best[better], least[better] = other[better], cost[better]

        for n in (0, 1, 2, 3, 5, 6, 7, 8) if jump else ():
            dy, dx = (n // 3 - 1) * jump, (n % 3 - 1) * jump
            y, x = ty + dy, tx + dx
            inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
            there = np.where(inside, place[y.clip(0, h - 1), x.clip(0, w - 1)], -1)
            sy, sx = np.divmod(source[there], w)
            offer(sy - dy, sx - dx, there >= 0)
        if jump:
            a, b = pseudo_random(targets, counter * 16 + STRAIGHT)
            offer(ty, a % w, np.True_)
            offer(b % h, tx, np.True_)
            other = pseudo_random(targets, counter * 16 + ALIKE)[0] * len(targets) // 65521
            sy, sx = np.divmod(source[other], w)
            offer(sy - ty[other] + ty, sx - tx[other] + tx, np.True_)
        reach = max(1, radius // 4) if counter % 2 else radius  # every second step looks nearer
        for guess in range(guesses):
            a, b = pseudo_random(targets, counter * 16 + guess)
            offer(best // w + a % (2 * reach + 1) - reach, best % w + b % (2 * reach + 1) - reach, np.True_)
            reach = max(1, reach // 2)
        return best, least - apart(best)

    def vote(source: np.ndarray, cost: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """`values` with `cells` drawn as the means of what those around copy to there."""
        mean = max(1, int(cost.sum(dtype=np.float64)) // len(cost))
        votes = 2 ** (16 - np.minimum(16, cost.astype(np.int64) * DECISION // mean))
        flat = values.reshape(h * w, -1).astype(np.int64)
        sums, total = np.zeros((len(cells), flat.shape[1]), np.int64), np.zeros((len(cells), 1), np.int64)
        y0, x0 = np.divmod(cells, w)
        around = np.pad(place, 2, constant_values=-1)
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                n = around[y0 + dy + 2, x0 + dx + 2]
                share = np.where(n >= 0, votes[n], 0)[:, None]
                total += share
                sums += share * flat[np.where(n >= 0, source[n] - dy * w - dx, 0)]
        drawn = values.copy()
        drawn.reshape(h * w, -1)[cells] = (2 * sums + total) // (2 * total)
        return drawn

    def draw(cells: np.ndarray) -> None:
        nonlocal values, table, mine
        values = vote(source, cost, cells)
        table = surroundings(values)
        mine = table[targets]

    if coarser is not None:
        draw_deep = hole[deep[hole]]
        cost = price(source)
        draw(draw_deep)
    for turn, jumps in enumerate(JUMPS):
        uses = np.bincount(source, minlength=h * w)  # how many copy a cell
        for step, jump in enumerate(jumps):
            source, cost = improve(source, jump, GUESSES[number], (number * 8 + turn) * 8 + step)
        if turn < len(JUMPS) - 1:
            draw(hole)
    return place, source


def pseudo_random(cell: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers in 0..65520 for every cell, another pair for every `number`."""
    x = (cell * 7919 + number * 104729 + 12345) % 65521
    return x * 17364 % 65521, x * 31337 % 65521


def inherited(
    targets: np.ndarray,
    valid: np.ndarray,
    deep: np.ndarray,
    otherwise: np.ndarray,
    place: np.ndarray,
    source: np.ndarray,
) -> np.ndarray:
    """For the `deep` of `targets` what the coarser level copies there; for others, or if that fails, `otherwise`."""
    h, w = valid.shape
    y, x = np.divmod(targets, w)
    above = place[y // 2, x // 2]
    sy, sx = np.divmod(source[above], w // 2)
    sy, sx = sy * 2 + y % 2, sx * 2 + x % 2
    result, open_ = otherwise.copy(), deep & (above >= 0)
    for dy, dx in NEARBY:
        ny, nx = sy + dy, sx + dx
        good = open_ & (ny >= 0) & (nx >= 0) & (ny < h) & (nx < w)
        good &= valid[np.where(good, ny, 0), np.where(good, nx, 0)]
        result[good] = (ny * w + nx)[good]
        open_ &= ~good
    return result


def align(small: np.ndarray, shift: np.ndarray, w: int) -> np.ndarray:
    """How far beside their sources cells copy (h w, 2), down and to the right, in low-resolution pixels / FINE.

    A region, hole cells side by side of one `shift` (never 0; 0 where known), moves as a whole, to where what its
    source has beyond its border differs least from what lies there: first from known cells alone, then from what
    other regions copy after their move before. Parts of a pixel are those of the parabola through the costs.
    """
    grey = greys(small)
    cells = np.arange(shift.size).reshape(-1, w)
    left, right, upper, lower = cells[:, :-1], cells[:, 1:], cells[:-1], cells[1:]
    beside = (left, right), (right, left), (upper, lower), (lower, upper)
    inside, beyond = np.concatenate([np.stack(pair).reshape(2, -1) for pair in beside], 1)
    same = shift[inside] == shift[beyond]
    root, now = np.zeros(0, int), cells.reshape(-1)
    while not np.array_equal(root, now):  # the first cell of each one's region
        root, now = now, now.copy()
        np.minimum.at(now, inside[same], root[beyond[same]])
        now = now[now]
    first, region = np.unique(np.where(shift != 0, root, shift.size), return_inverse=True)  # last: known cells
    borders = ~same & (shift[inside] != 0)
    inside, beyond = inside[borders], beyond[borders]
    owner, count = region[inside], len(first)
    away = np.abs(np.arange(-NUDGE, NUDGE + 1))
    alone = STAY * np.bincount(owner, minlength=count)[:, None, None] * (away[:, None] + away)
    every = np.arange(count)
    moves, fine = np.zeros((count, 2), np.int64), np.zeros((count, 2), np.int64)

    def blocks(corner: np.ndarray, side: int) -> np.ndarray:
        """(n, side, side) grey values, from these pixels (n, 2) on."""
        y, x = (corner[:, :, None] + np.arange(side)).swapaxes(0, 1)
        return np.asarray(grey[y[:, :, None], x[:, None]])

    for turn in range(NUDGES):
        some = (shift[beyond] == 0) == (turn == 0)
        q, mover = beyond[some], owner[some]
        there = np.stack(np.divmod(q + shift[q], w), 1) * CELL + moves[region[q]]
        wanted = blocks(there, CELL)
        here = np.stack(np.divmod(q + shift[inside[some]], w), 1) * CELL - NUDGE
        around = blocks(here, CELL + 2 * NUDGE)
        costs = alone.copy()
        for down, across in np.ndindex(costs.shape[1:]):
            difference = around[:, down : down + CELL, across : across + CELL] - wanted
            squares = np.einsum("nyx,nyx->n", difference, difference)
            costs[:, down, across] += np.bincount(mover, squares, count).astype(np.int64)  # of doubles: exact
        if turn == 0:
            alone = costs
        table = costs.reshape(count, -1)
        stay, best = (moves + NUDGE) @ (len(away), 1), table.argmin(1)
        best = np.where(table[every, best] < table[every, stay], best, stay)
        at = np.stack(np.divmod(best, len(away)), 1)
        moves = at - NUDGE
        for n, step in ((0, len(away)), (1, 1)):
            between = (at[:, n] > 0) & (at[:, n] < 2 * NUDGE)
            least = table[every, best]
            before = table[every, best - step * between] - least
            after = table[every, best + step * between] - least
            bowl = (before > 0) & (after > 0)
            fine[:, n] = bowl * (before - after) * (FINE // 2) // np.maximum(before + after, 1)
    return np.asarray((moves * FINE + fine)[region])


def correction(low: np.ndarray, begin: np.ndarray, known: np.ndarray, side: int) -> np.ndarray:
    """What copied cells lack, (h, w, 3), of a low band in which what is copied from different places joins.

    That band has the differences between neighbours that copies have, and in part the network's colours, the less the
    smoother their source is: a screened Poisson equation, solved by over-relaxation, in each sweep first cells of
    even row plus column, then the others. `begin` from `find`, `side` of a cell in pixels.
    """
    _, h, w = low.shape
    colours, place = low.transpose(1, 2, 0).reshape(-1, 3), begin.astype(f32) / f32(side)
    hole = np.flatnonzero(~known)
    y, x = np.divmod(hole, w)
    depth = depths(known).reshape(-1)[hole].astype(f32)
    copied = sample(colours, place, h, w)
    wanted, rough, count = np.zeros_like(copied[hole]), *np.zeros((2, len(hole), 1), f32)
    for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
        inside = (y + dy >= 0) & (y + dy < h) & (x + dx >= 0) & (x + dx < w)
        beside, step = hole + (dy * w + dx) * inside, np.array((dy, dx), f32)
        here = copied[hole] - sample(colours, place[hole] + step, h, w)
        there = sample(colours, place[beside] - step, h, w) - copied[beside]
        mean = (here + there) / 2
        jump = copied[hole] - copied[beside] - mean  # an edge, where the network shows one
        before, after = (colours[(y + n * dy).clip(0, h - 1) * w + (x + n * dx).clip(0, w - 1)] for n in (-2, 3))
        squares, seen, size = (
            p[:, :1] + p[:, 1:2] + p[:, 2:] for p in (here * here, (before - after) * jump, jump * jump)
        )
        mean += np.minimum((2 * seen).clip(0), size) * size / (size * size + EDGE) * jump
        wanted += np.where(known.reshape(-1)[beside, None], here, mean) * inside[:, None]
        rough += squares * inside[:, None]
        count += inside[:, None]
    trust = (4 * ((4 - depth) / f32(2.5)).clip(0, 1) ** 2 + TRUST)[:, None] * (rough / (rough + SMOOTH))
    wanted += trust * colours[hole]
    joined = np.pad(colours.reshape(h, w, 3), ((1, 1), (1, 1), (0, 0))).reshape(-1, 3)
    at, row, gain = (y + 1) * (w + 2) + x + 1, w + 2, RELAXATION / (trust + count)
    for sweep in range(2 * SWEEPS):
        these = (y + x) % 2 == sweep % 2
        p = at[these]
        around = joined[p - row] + joined[p - 1] + joined[p + 1] + joined[p + row]
        joined[p] = (f32(1) - RELAXATION) * joined[p] + gain[these] * (wanted[these] + around)
    result = np.zeros_like(colours)
    result[hole] = joined[at] - copied[hole]
    return result.reshape(h, w, 3)


def sample(colours: np.ndarray, place: np.ndarray, h: int, w: int) -> np.ndarray:
    """`colours` (h w, 3) at `place` (n, 2), rows and columns inside: bilinear."""
    top, left = place.astype(np.int64).T
    fy, fx = (place - np.floor(place)).T[..., None]
    below, right = np.minimum(top + 1, h - 1), np.minimum(left + 1, w - 1)
    upper = colours[top * w + left] * ((1 - fx) * (1 - fy)) + colours[top * w + right] * (fx * (1 - fy))
    return np.asarray(upper + colours[below * w + left] * ((1 - fx) * fy) + colours[below * w + right] * (fx * fy))


def copy(
    image: np.ndarray, hole: np.ndarray, begin: np.ndarray | None, known: np.ndarray, lacking: np.ndarray, side: int
) -> np.ndarray:
    """The result: each hole pixel hears its own cell of `side` pixels and the nearest neighbours in both directions,
    through triangular windows twice as wide, each continuing what it copies; plus `lacking`, enlarged."""
    result = image.copy()
    h, w = known.shape
    ramp = (2 * side - np.abs(2 * np.arange(2 * side) + 1 - 2 * side)).astype(f32)  # whole: sums are exact
    for band in range(h):  # a row of cells at a time, for memory's sake
        y, x = np.nonzero(hole[band * side : (band + 1) * side])
        y += band * side
        cy, u = np.divmod(y, side)
        cx, v = np.divmod(x, side)
        total, norm = np.zeros((len(y), 3), f32), np.zeros((len(y), 1), f32)
        # The neighbour above is heard in a cell's upper half, the one below in its lower half.
        for dy in (np.zeros_like(u), np.where(u < side // 2, -1, 1)) if begin is not None else ():
            for dx in (np.zeros_like(v), np.where(v < side // 2, -1, 1)):
                ny, nx = cy + dy, cx + dx
                there = (ny >= 0) & (ny < h) & (nx >= 0) & (nx < w)
                n = np.where(there, ny * w + nx, 0)
                py, px = begin[n, 0] - dy * side, begin[n, 1] - dx * side  # continued from there
                sy, sx = (py + side // 2) // side, (px + side // 2) // side  # the nearest cell
                there &= ~known.reshape(-1)[n] & (sy >= 0) & (sy < h) & (sx >= 0) & (sx < w)
                there &= known[np.where(there, sy, 0), np.where(there, sx, 0)]
                share = (there * ramp[side // 2 + u - dy * side] * ramp[side // 2 + v - dx * side])[:, None]
                total += share * image[np.where(there, py + u, 0), np.where(there, px + v, 0)]
                norm += share
        values = total / np.maximum(norm, f32(1e-4)) + enlarged(lacking * f32(255), y, x, side)
        result[y, x] = (values.clip(0, 255) + f32(0.5)).astype(np.uint8)
    return result


def mend(image: np.ndarray, hole: np.ndarray, spared: np.ndarray, halves: int) -> np.ndarray:
    """A filled image whose hole pixels are brought nearer to the known ones beside them, so that no edge is seen
    there; but for those in `spared`, of a grid of so many half pixels: they are beside a rim."""
    y, x = np.nonzero(hole & surrounded(~hole, 2))
    mended = ~spared[2 * y // halves, 2 * x // halves]
    y, x = y[mended], x[mended]
    inside, around = np.pad(np.ones_like(hole), 2), np.pad(image, ((2, 2), (2, 2), (0, 0)))
    open_ = np.pad(hole, 2)
    # Of the known pixels, and of the hole's: weighted sum, and sum of weights.
    totals, counts = np.zeros((2, len(y), 3), np.int64), np.zeros((2, len(y), 1), np.int64)
    touched = np.zeros((len(y), 1), bool)
    for dy, dx in itertools.product(range(-2, 3), repeat=2):
        at, distance = (y + 2 + dy, x + 2 + dx), dy * dy + dx * dx
        for n, kind in enumerate((inside & ~open_, open_)):
            share = kind[at][:, None] * (BESIDE[distance] if n == 0 or distance <= 2 else 0)
            totals[n] += share * around[at]
            counts[n] += share
            touched |= (n == 0) & (distance <= 2) & (share > 0)
    pairs, result = counts[0] * counts[1], image.copy()
    moved = np.where(touched, *MENDED) * (totals[0] * counts[1] - totals[1] * counts[0])
    result[y, x] = (((10 * image[y, x].astype(np.int64) + 5) * pairs + moved) // (10 * pairs)).clip(0, 255)
    return result


def enlarged(picture: np.ndarray, y: np.ndarray, x: np.ndarray, scale: int) -> np.ndarray:
    """`picture` (h, w, 3) at the pixels `y`, `x` of its enlargement: bilinear, pixel centres aligned."""
    taps = []
    for at, size in ((y, picture.shape[0]), (x, picture.shape[1])):
        before, rest = np.divmod(2 * at + 1 - scale, 2 * scale)
        share = rest.astype(f32)[:, None] / f32(2 * scale)
        taps.append((before.clip(0, size - 1), (before + 1).clip(0, size - 1), share))
    (y0, y1, fy), (x0, x1, fx) = taps
    above, below = (picture[y, x0] * (1 - fx) + picture[y, x1] * fx for y in (y0, y1))
    return np.asarray(above * (1 - fy) + below * fy, f32)


def read_pnm(path: str, kind: str) -> np.ndarray:
    """A binary PPM (H, W, 3) or PGM (H, W) of 8 bits, as `kind` says; what follows the pixels is not read."""
    data = Path(path).read_bytes()
    header = re.match((b"P6" if kind == "PPM" else b"P5") + rb"(?:\s|#[^\n]*\n)+([1-9]\d{0,8})" * 3 + rb"\s", data)
    if header is None or header[3] != b"255":
        raise ValueError(f"{path} is not a binary {kind} of 8 bits")
    shape = (int(header[2]), int(header[1]), 3)[: 3 if kind == "PPM" else 2]
    if len(data) - header.end() < math.prod(shape):
        raise ValueError(f"{path} is cut short")
    return np.frombuffer(data, np.uint8, math.prod(shape), header.end()).reshape(shape)


def open_core(path: str) -> ort.InferenceSession:
    """A core, in ONNX Runtime."""
    data = Path(path).read_bytes()
    try:
        session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    except REFUSED as error:
        raise ValueError(f"{path} is not a model that ONNX Runtime can load") from error
    inputs, outputs = session.get_inputs(), {value.name for value in session.get_outputs()}
    fits = all((value.type, len(value.shape)) == ("tensor(float)", 4) for value in inputs)
    if not fits or [value.name for value in inputs] not in (INPUTS[:2], INPUTS) or not outputs.issuperset(OUTPUTS):
        raise ValueError(f"{path} is not a rethined core that searches; give one written by `rethined export onnx`")
    return session


def main() -> None:
    if len(sys.argv) != 5:
        raise ValueError("usage: python inpaint.py rethined.onnx photo.ppm mask.pgm filled.ppm")
    core, photo, mask, out = sys.argv[1:]
    image, hole = read_pnm(photo, "PPM"), read_pnm(mask, "PGM") >= 128
    session = open_core(core)
    try:
        result = inpaint(session, image, hole)
    except REFUSED as error:
        raise ValueError(f"{core} does not take what a rethined core takes") from error
    Path(out).write_bytes(b"P6\n%d %d\n255\n" % (result.shape[1], result.shape[0]) + result.tobytes())


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
