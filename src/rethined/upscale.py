"""Attention upscaling (3.4), Eq. 3-4 in place: compiled loops over the corrupted patches only.

Nothing of full size is ever made: no high-frequency image, no blurred image, no patches, no floats. A corrupted
patch is  sum_j A_ij X_j + up(L - sum_j A_ij L_j)  with X the photo and L the low band that the core returns; the
bracket is a small picture, computed once. `rethined.model.upscale` is the same in plain
PyTorch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined import plain
from rethined.compiled import LANES, bits, compiled, count, lowest, surroundings
from rethined.windows import Window
from rethined.workers import Workers

BESIDE = np.array(
    ((1, 3, 4, 3, 1), (3, 16, 64, 16, 3), (4, 64, 128, 64, 4), (3, 16, 64, 16, 3), (1, 3, 4, 3, 1)), np.int64
)
"""What pixels count in means around the one in their middle: 64 by the fourth power of their distance, itself 128."""
BESIDE_LANES = np.zeros((2, 5, LANES), np.int32)
"""The same as `surroundings` takes them: of what is known, and of what is hole and no further than one away."""
BESIDE_LANES[0, :, :15] = BESIDE.repeat(3, 1)
BESIDE_LANES[1, 1:4, 3:12] = BESIDE[1:4, 1:4].repeat(3, 1)
MENDED = (8, 4)
"""Tenths of the difference that a hole pixel is moved by where a neighbour of it is known, and the one behind it."""


class Heard(NamedTuple):
    """Whom corrupted patches copy from: E neighbours' sources, 9 in reading order, or 1 without overlap."""

    rows: NDArray[np.int64]
    """(R,) the corrupted patches, as indices of the grid's."""
    place: NDArray[np.int32]
    """(R, E, k, 2): where in the photo the source begins, row and column in pixels."""
    weight: NDArray[np.float32]
    """(R, E, k), not negative."""


def ramps(side: int, overlap: bool) -> NDArray[np.float32]:
    """(3, side): along one axis, how much a pixel hears its neighbour before, its own patch, and the one after.

    A triangular window twice the patch's side (`rethined.model.patch_match.window`); flat without overlap.
    """
    result = np.zeros((3, side), np.float32)
    if not overlap:
        result[1] = 1
        return result
    ramp = 1 - np.abs((np.arange(2 * side) + 0.5) / side - 1)
    half = side // 2
    first = side - half  # where the neighbour after begins to be heard
    result[1] = ramp[half : half + side]
    result[0, :half] = ramp[half + side : 2 * side][:half]
    result[2, first:] = ramp[:half]
    return result


def contributions(
    place: NDArray[np.int32],
    weight: NDArray[np.float32],
    corrupted: NDArray[np.bool_],
    columns: int,
    side: int,
    overlap: bool,
) -> Heard:
    """Whom each corrupted patch copies from, once its neighbours' windows reach into it.

    `place` (N, k, 2), where in the photo what each patch copies begins, row and column, `weight` (N, k), `corrupted`
    (N,), `columns` the grid's width, `side` a patch's in pixels. Neighbour i + e copies from place(i + e), so in
    patch i it continues with place(i + e) - e; that weighs 0 where i + e is not corrupted, or where the patch nearest
    to place(i + e) - e is corrupted or outside the picture.
    """
    rows = np.flatnonzero(corrupted)
    if not overlap:
        return Heard(rows, place[rows][:, None], weight[rows][:, None])
    begin = np.zeros((len(rows), 9, *place.shape[1:]), np.int32)
    heard = np.zeros(begin.shape[:3], np.float32)
    (_contribute or plain.contribute)(place, weight, corrupted, columns, side, rows, begin, heard)
    return Heard(rows, begin, heard)


@compiled()
def _contribute(place, weight, corrupted, columns, side, rows, begin, heard):  # type: ignore[no-untyped-def]
    """The places and weights that `contributions` describes, to `begin` and `heard`, which are 0."""
    height = len(corrupted) // columns
    nearest = np.empty(place.shape, np.int32)  # of all patches, row and column; moved by e, it moves by e
    for r in range(len(rows)):
        for k in range(place.shape[1]):
            for axis in range(2):
                nearest[rows[r], k, axis] = (place[rows[r], k, axis] + side // 2) // side
    for r in range(len(rows)):
        y, x = rows[r] // columns, rows[r] % columns
        for e in range(9):
            dy, dx = e // 3 - 1, e % 3 - 1
            if not (0 <= y + dy < height and 0 <= x + dx < columns):
                continue
            n = rows[r] + dy * columns + dx
            if not corrupted[n]:
                continue
            for k in range(place.shape[1]):
                sy, sx = nearest[n, k, 0] - dy, nearest[n, k, 1] - dx
                if 0 <= sy < height and 0 <= sx < columns and not corrupted[sy * columns + sx]:
                    begin[r, e, k, 0], begin[r, e, k, 1] = place[n, k, 0] - dy * side, place[n, k, 1] - dx * side
                    heard[r, e, k] = weight[n, k]


def low_correction(low: NDArray[np.float32], heard: Heard, side: int, scale: int) -> NDArray[np.float32]:
    """low - sum_j A_ij low_j in corrupted patches of `side` cells of `scale` pixels, 0 in others; `low` and result
    (h, w, 3). Sources are whole patches."""
    rows, place, weight = heard
    h, w = low.shape[:2]
    blocks = low.reshape(h // side, side, w // side, side, 3).swapaxes(1, 2)
    table = blocks.reshape(-1, side * side, 3)
    patch = place // (side * scale)
    index = patch[..., 0] * (w // side) + patch[..., 1]
    count = index.shape[1]
    axis = ramps(side, count == 9)
    windows = (
        (axis[:, None, :, None] * axis[None, :, None, :]).reshape(9, -1) if count == 9 else np.ones((1, side**2))
    )
    # Neighbour by neighbour, so that nothing larger than the corrupted patches is made.
    total = np.zeros((len(rows), side * side, 3), np.float32)
    norm = np.zeros((len(rows), side * side, 1), np.float32)
    for e in range(count):
        for k in range(index.shape[2]):
            share = (weight[:, e, k, None] * windows[e].astype(np.float32))[..., None]
            total += share * table[index[:, e, k]]
            norm += share
    correction = np.zeros_like(table)
    correction[rows] = table[rows] - total / np.maximum(norm, np.float32(1e-4))
    return np.ascontiguousarray(correction.reshape(blocks.shape).swapaxes(1, 2).reshape(h, w, 3))


@compiled()
def _fill(target, mask, edge, width, rows, place, weight, vertical, horizontal, correction, scale, columns, peak):  # type: ignore[no-untyped-def]
    """Write the hole pixels of the patches `rows` of `target` (H, W * 3), reading sources from `target` itself.

    That is safe because sources lie in known cells, which are never written. Only `width` columns from `edge` on are
    looked at, and counted from there. `mask` (H, W); `place` (R, E, k, 2),
    `weight` (R, E, k); `vertical` (3, S) and `horizontal` (3, 3 S) ramps in whole numbers, S the patch's side;
    `correction` (h, w * 3), already in the target's units, `scale` target pixels a cell; `peak` is the largest value.

    Sums of 8-bit pixels by whole weights are exact up to patches of 128 pixels; what else is rounded is rounded in
    the order that `plain.fill` and every other program keeps, and no product is added unrounded. So results are the
    same everywhere, and so is what a later window, to which they are known, makes of them.
    """
    height = mask.shape[0]
    side = vertical.shape[1]
    low_height, low_width = correction.shape[0], correction.shape[1] // 3
    low_side = side // scale
    middle = side // 2
    overlap = place.shape[1] == 9
    count = place.shape[2]
    fine = np.empty((2, 3 * side), np.float32)
    total = np.empty(3 * side, np.float32)
    norm = np.empty(3 * side, np.float32)
    entry_top = np.empty(4 * count, np.int64)
    entry_left = np.empty(4 * count, np.int64)
    entry_weight = np.empty(4 * count, np.float32)
    entry_dy = np.empty(4 * count, np.int64)
    entry_dx = np.empty(4 * count, np.int64)
    position = np.empty(side, np.int64)
    fraction = np.empty(side, np.float32)
    for v in range(side):
        at = 2 * v + 1 + scale
        position[v] = at // (2 * scale)
        fraction[v] = np.float32(at % (2 * scale)) / np.float32(2 * scale)
    parts, everything = 2 if overlap else 1, np.float32((2 * side) ** 2)
    for r in range(len(rows)):
        py, px = rows[r] // columns, rows[r] % columns
        top, left = py * side, px * side
        bottom, right = min(top + side, height), min(left + side, width)
        if top >= height or left >= width:
            continue
        # The four neighbours heard by each quadrant: up or down, left or right, both, and oneself.
        for qy in range(parts):
            y0 = top + (middle if qy else 0)
            y1 = bottom if qy or parts == 1 else min(top + middle, bottom)
            for qx in range(parts):
                x0 = left + (middle if qx else 0)
                x1 = right if qx or parts == 1 else min(left + middle, right)
                if y0 >= y1 or x0 >= x1:
                    continue
                entries = 0
                whole = np.float32(0)
                same = True
                for a in range(parts):
                    dy = qy * 2 if a else 1
                    for b in range(parts):
                        dx = qx * 2 if b else 1
                        e = dy * 3 + dx if overlap else 0
                        for k in range(count):
                            w = weight[r, e, k]
                            if w > 0:
                                entry_top[entries], entry_left[entries] = place[r, e, k, 0], place[r, e, k, 1]
                                entry_weight[entries] = w
                                entry_dy[entries] = dy
                                entry_dx[entries] = dx
                                whole += w
                                if place[r, e, k, 0] != entry_top[0] or place[r, e, k, 1] != entry_left[0]:
                                    same = False
                                entries += 1
                # Where every neighbour is heard, the windows sum to the same by construction.
                complete = overlap and entries == 4 and whole > np.float32(3.9999)
                begin, length = (x0 - left) * 3, (x1 - x0) * 3
                before = -2
                for y in range(y0, y1):
                    holes = 0
                    for x in range(x0, x1):
                        holes += mask[y, edge + x] != 0
                    if not holes:
                        continue
                    u = y - top
                    # up(correction): two rows of it, stretched once for all that lie between, then mixed.
                    row, f = py * low_side - 1 + position[u], fraction[u]
                    if row != before:
                        before = row
                        for n in range(2):
                            line = correction[min(max(row + n, 0), low_height - 1)]
                            for v in range(x0 - left, x1 - left):
                                i = px * low_side - 1 + position[v]
                                here, after = 3 * min(max(i, 0), low_width - 1), 3 * min(max(i + 1, 0), low_width - 1)
                                for c in range(3):
                                    fine[n, 3 * v + c] = (
                                        line[here + c] * (np.float32(1) - fraction[v]) + line[after + c] * fraction[v]
                                    )
                    if entries == 0:
                        total[:length] = 0
                    elif same:
                        start = (edge + entry_left[0]) * 3 + begin
                        first = target[entry_top[0] + u, start : start + length]
                        for t in range(length):
                            total[t] = first[t]
                    elif complete:  # as below, in two passes
                        along = np.int64(3 * edge + begin)
                        one = target[entry_top[0] + u, along + 3 * entry_left[0] :]
                        two = target[entry_top[1] + u, along + 3 * entry_left[1] :]
                        three = target[entry_top[2] + u, along + 3 * entry_left[2] :]
                        four = target[entry_top[3] + u, along + 3 * entry_left[3] :]
                        own, beside = horizontal[1, begin:], horizontal[entry_dx[1], begin:]
                        w1, w2 = entry_weight[0] * vertical[1, u], entry_weight[1] * vertical[1, u]
                        w3, w4 = (
                            entry_weight[2] * vertical[entry_dy[2], u],
                            entry_weight[3] * vertical[entry_dy[2], u],
                        )
                        for t in range(length):
                            total[t] = w1 * own[t] * one[t]
                        for t in range(length):
                            value = np.float32(total[t] + w2 * beside[t] * two[t])
                            value = np.float32(value + w3 * own[t] * three[t])
                            total[t] = np.float32(value + w4 * beside[t] * four[t]) / everything
                    else:
                        total[:length] = 0
                        norm[:length] = 0
                        for n in range(entries):
                            start = (edge + entry_left[n]) * 3 + begin
                            other = target[entry_top[n] + u, start : start + length]
                            ramp = horizontal[entry_dx[n], begin : begin + length]
                            w = entry_weight[n] * vertical[entry_dy[n], u]
                            for t in range(length):
                                total[t] += w * ramp[t] * other[t]
                                norm[t] += w * ramp[t]
                        for t in range(length):
                            total[t] /= max(norm[t], np.float32(1e-4))
                    drawn = target[y, (edge + x0) * 3 : (edge + x1) * 3]
                    above, below = fine[0, begin : begin + length], fine[1, begin : begin + length]
                    for t in range(length):
                        value = total[t] + (above[t] * (np.float32(1) - f) + below[t] * f)
                        total[t] = min(max(value, np.float32(0)), peak) + np.float32(0.5)
                    if holes == x1 - x0:
                        for t in range(length):
                            drawn[t] = total[t]
                        continue
                    for x in range(x1 - x0):
                        if mask[y, edge + x0 + x]:
                            for c in range(3):
                                drawn[3 * x + c] = total[3 * x + c]


@compiled()
def _shrink(image, mask, edge, width, scale, halved, side, small, holes, energy, first, last, gain, like):  # type: ignore[no-untyped-def]
    """Low-resolution rows `first` to `last` of `width` columns from `edge` on of an image (H, W * 3) and mask (H, W),
    into (3, h, w) and (h, w).

    Boxes of scale x scale: the mean of the image, zero where any pixel is a hole or beyond the border; hole 1 there.
    If `halved`, 1 not 0, boxes are of half pixels.
    `energy` (6, h, w / side) gets the sums along each row of a patch of the squares of what halves of boxes differ
    by, whole numbers.
    `like` is of a type that holds the sum of a column of a box.
    """
    height = mask.shape[0]
    half = scale // 2
    covered = (scale + halved) >> halved  # pixels a side, some of them by half
    sums = np.empty(width * 3, like.dtype)
    # The upper half of rows minus the lower; the middle one is in neither.
    slopes = np.empty(width * 3, like.dtype)
    anywhere = np.empty(width, np.uint8)
    boxes = (width << halved) // scale
    for y in range(first, last):
        inside = width if scale == 1 and y < height else 0  # where there is nothing to sum
        holes[y, inside:], energy[:, y], small[:, y, inside:] = np.float32(1), 0.0, np.float32(0)
        if (y + 1) * scale > height << halved:
            continue
        if inside:
            line, known = image[y, 3 * edge : 3 * (edge + width)], mask[y, edge : edge + width]
            for x in range(width):
                holes[y, x] = np.float32(known[x] != 0)
            for c in range(3):
                row = small[c, y]
                for x in range(width):
                    row[x] = np.float32(line[3 * x + c]) * (gain * (np.float32(1) - holes[y, x]))
            continue
        sums[:] = 0
        slopes[:] = 0
        anywhere[:] = 0
        # Two rows at a time, which halves what is read and written of sums: of the upper half to `slopes`, of the
        # lower to `sums`; the middle one, of an odd number, is in neither.
        for lower in range(2):
            total = sums if lower else slopes
            for row in range(0, half, 2):
                v = y * scale + lower * (scale - half) + row
                more = v + (row + 1 < half)
                line = image[v >> halved, 3 * edge : 3 * (edge + width)]
                known = mask[v >> halved, edge : edge + width]
                if more == v:
                    for t in range(width * 3):
                        total[t] += line[t]
                    for t in range(width):
                        anywhere[t] |= known[t]
                    continue
                other = image[more >> halved, 3 * edge : 3 * (edge + width)]
                also = mask[more >> halved, edge : edge + width]
                for t in range(width * 3):
                    total[t] += line[t] + other[t]
                for t in range(width):
                    anywhere[t] |= known[t] | also[t]
        for t in range(width * 3):
            upper = slopes[t]
            slopes[t] = upper - sums[t]
            sums[t] += upper
        if scale % 2:
            v = (y * scale + half) >> halved
            line, known = image[v, 3 * edge : 3 * (edge + width)], mask[v, edge : edge + width]
            for t in range(width * 3):
                sums[t] += line[t]
            for t in range(width):
                anywhere[t] |= known[t]
        for block in range(energy.shape[2]):
            # Of a patch's row; in registers, where sums of R, G and B wait for nothing.
            across_red = across_green = across_blue = down_red = down_green = down_blue = np.int64(0)
            for x in range(block * side, min(block * side + side, boxes)):
                hole = np.uint8(0)
                for t in range(covered):
                    hole |= anywhere[np.uintp((x * scale >> halved) + t)]
                if hole:
                    continue
                holes[y, x] = np.float32(0)
                # In two halves; the middle column of an odd box is in neither.
                red = green = blue = np.int64(0)
                tilt_red = tilt_green = tilt_blue = np.int64(0)
                left_red = left_green = left_blue = last_red = last_green = last_blue = np.int64(0)
                column, n = x * scale, np.uintp(3 * (x * scale >> halved))
                for part in range(3):
                    for _ in range(half if part != 1 else scale - 2 * half):
                        red, green, blue = red + sums[n], green + sums[n + np.uintp(1)], blue + sums[n + np.uintp(2)]
                        tilt_red, tilt_green = tilt_red + slopes[n], tilt_green + slopes[n + np.uintp(1)]
                        tilt_blue += slopes[n + np.uintp(2)]
                        if halved:
                            column += 1
                            n = np.uintp(3 * (column >> 1))
                        else:
                            n += np.uintp(3)
                    if part == 0:
                        left_red, left_green, left_blue = red, green, blue
                    elif part == 1:
                        last_red, last_green, last_blue = red, green, blue
                small[0, y, x] = np.float32(red) * gain
                small[1, y, x] = np.float32(green) * gain
                small[2, y, x] = np.float32(blue) * gain
                across_red += (left_red - red + last_red) ** 2
                across_green += (left_green - green + last_green) ** 2
                across_blue += (left_blue - blue + last_blue) ** 2
                down_red += tilt_red**2
                down_green += tilt_green**2
                down_blue += tilt_blue**2
            # Below 2^63, unless of 16 bits and more than 90000 pixels wide.
            energy[0, y, block], energy[3, y, block] = max(across_red, 0), max(down_red, 0)
            energy[1, y, block], energy[4, y, block] = max(across_green, 0), max(down_green, 0)
            energy[2, y, block], energy[5, y, block] = max(across_blue, 0), max(down_blue, 0)


@compiled()
def _moved(word, by):  # type: ignore[no-untyped-def]
    """The bits of an int64 `by` places towards the lowest, less than 64 either way, and ones where none were."""
    if by < 0:
        return (word << -by) | ~(np.int64(-1) << -by)
    return (word >> by) | (np.int64(-1) << (63 - by) << 1)


@compiled()
def _mend(target, mask, edge, width, spared, halves, first, last, weights, direct, further):  # type: ignore[no-untyped-def]
    """What rows `first` to `last` are to become, of `width` columns from `edge` on of `target` (H, W * 3) and `mask`
    (H, W), uint8, by what `Upscaler.mend` says: where, (n,) places in all of `target`, and what, (n, 3). `weights`
    are as `surroundings` takes them. `spared`, of a grid of as many half pixels, or empty."""
    height, line_length = target.shape
    columns, near = mask.shape[1], weights[1, :, :15].sum() // 3
    sums = np.empty((2, 4), np.int64)  # of what is known and of what is hole: R, G and B, weighted, and the weights
    peak = np.int64(np.iinfo(target.dtype).max)
    # First which they are: of 60 columns at a time, as with two beside them these are the bits of a word.
    words, n = np.empty((last - first, (width + 59) // 60), np.int64), 0
    for y in range(first, last):
        for part in range(words.shape[1]):
            todo, open_, begin = np.int64(0), np.int64(-1), 60 * part - 2
            for v in (0, -2, -1, 1, 2):
                row, word = min(max(y + v, 0), height - 1), np.int64(-1)
                if width < 64:
                    for x in range(max(begin, 0), min(begin + 64, width)):
                        word ^= np.int64(mask[row, edge + x] == 0) << (x - begin)
                else:
                    seen = min(max(begin, 0), width - 64)
                    word = _moved(bits(mask, row * columns + edge + seen), begin - seen)
                if v == 0:
                    todo = word >> 2 & (np.int64(1) << min(60, width - begin - 2)) - 1
                    if not todo:
                        break
                open_ &= word
            # Around those of which all is hole nothing is known.
            todo &= ~(open_ & open_ >> 1 & open_ >> 2 & open_ >> 3 & open_ >> 4)
            words[y - first, part], n = todo, n + count(todo)
    places, values = np.empty(n, np.int64), np.empty((n, 3), target.dtype)
    n = 0
    for y in range(first, last):
        for part in range(words.shape[1]):
            todo = words[y - first, part]
            while todo:
                x = 60 * part + lowest(todo)
                todo &= todo - 1
                if len(spared) and spared[2 * y // halves, 2 * x // halves]:
                    continue
                if 2 <= y < height - 2 and 2 <= x < min(width - 2, columns - edge - 5):
                    here = y * columns + edge + x
                    around = surroundings(target, mask, 3 * here, here, columns, weights)
                    sums[0, 0], sums[0, 1], sums[0, 2], sums[0, 3] = around[:4]
                    sums[1, 0], sums[1, 1], sums[1, 2], sums[1, 3] = around[4:]
                    beside = sums[1, 3] < near
                else:
                    sums[:] = 0
                    beside = False
                    for v in range(max(y - 2, 0), min(y + 3, height)):
                        line, holes = target[v], mask[v]
                        for u in range(max(x - 2, 0), min(x + 3, width)):
                            kind = np.uintp(holes[edge + u] != 0)
                            beside |= abs(v - y) < 2 and abs(u - x) < 2 and not kind
                            at, share = 3 * (edge + u), np.int64(weights[kind, v - y + 2, 3 * (u - x + 2)])
                            for c in range(3):
                                sums[kind, c] += share * np.int64(line[at + c])
                            sums[kind, 3] += share
                known, own = sums[0, 3], sums[1, 3]
                k, pairs, at = direct if beside else further, known * own, 3 * (edge + x)
                places[n] = y * line_length + at
                for c in range(3):
                    step = sums[0, c] * own - sums[1, c] * known
                    mixed = (10 * np.int64(target[y, at + c]) + 5) * pairs + k * step
                    # Of so few digits that the quotient is rounded to no whole number that it does not reach.
                    quotient = np.floor(np.float64(mixed) / np.float64(10 * pairs))
                    values[n, c] = min(max(np.int64(quotient), 0), peak)
                n += 1
    return places[:n], values[:n]


@compiled()
def _put(target, places, values):  # type: ignore[no-untyped-def]
    """The `values` (n, 3) to their `places` (n,) in `target`, flat."""
    for n in range(len(places)):
        for c in range(3):
            target[places[n] + c] = values[n, c]


class Small(NamedTuple):
    """A photo on the low-resolution grid, zero in its holes."""

    image: NDArray[np.float32]
    """(1, 3, h, w) in [0, 1]."""
    mask: NDArray[np.float32]
    """(1, 1, h, w), 1 = hole."""
    detail: NDArray[np.float32]
    """(1, 6, h / P, w / P): what `rethined.model.pipeline.fine_detail` says of patches without a hole."""


def _flat(image: NDArray[Any], mask: NDArray[np.bool_], window: Window) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """The rows that `window` shows of `image` (H, W, 3) and `mask` (H, W), as loops want them: (height, W * 3) and
    bits (height, W), C-contiguous, from whose column `window.left` on they count."""
    lines = slice(window.top, window.top + window.height)
    return image[lines].reshape(window.height, -1), mask[lines].view(np.uint8)


def _clean(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of bytes that are 0 or 1, as NumPy takes for granted: those of a view of another mask, of 0 and 255, are not.
    The compiled loops take any that is not 0 for True."""
    return np.asarray(mask.view(np.uint8) != 0)


class Upscaler:
    """The two ends of the engine that touch every pixel, spread over `threads`; safe to share between threads."""

    def __init__(self, threads: int) -> None:
        self.workers = Workers(threads)
        self._kept = threading.local()

    def shrink(self, image: NDArray[Any], mask: NDArray[np.bool_], window: Window, patch_size: int) -> Small:
        """3.1: the `window` of `image` (H, W, 3) and `mask` (H, W), True = hole, to its grid (h, w), of boxes of
        `scale` pixels a side, a multiple of a half: then as if every pixel were four.

        The arrays are this thread's, and hold what they do until its next call.
        """
        h, w = window.rows, window.columns
        halved = int(window.scale % 1 > 0)
        factor = int(window.scale * (1 + halved))
        if _shrink is None:
            part = window.of(image), _clean(window.of(mask))
            return Small(*plain.shrink(*part, factor, halved, (h, w), patch_size))
        small, holes, energy = self._buffers(h, w, patch_size)
        flat, bits = _flat(image, mask, window)
        gain = np.float32(1 / (factor * factor * np.iinfo(image.dtype).max))
        like = np.empty(0, np.int16 if image.dtype == np.uint8 and factor <= 128 else np.int32)
        arguments = (flat, bits, window.left, window.width, factor, halved, patch_size, small, holes, energy)
        if factor == 1:  # less work than to wake another thread
            _shrink(*arguments, 0, h, gain, like)
            return Small(
                small[None], holes[None, None], np.zeros((1, 6, h // patch_size, w // patch_size), np.float32)
            )
        self.workers.spread(lambda a, b: _shrink(*arguments, a, b, gain, like), h)
        sums = energy.reshape(6, h // patch_size, patch_size, -1).sum(2)
        return Small(small[None], holes[None, None], plain.deviation(sums, factor, patch_size, image.dtype)[None])

    def _buffers(self, h: int, w: int, patch_size: int) -> tuple[NDArray[Any], ...]:
        """Image, mask and detail as `_shrink` wants them, kept by each thread: frames of one size share them."""
        key = (h, w, patch_size)
        if getattr(self._kept, "key", None) != key:
            shapes = (3, h, w), (h, w), (6, h, w // patch_size)
            kinds = np.float32, np.float32, np.float64
            self._kept.key, self._kept.arrays = key, tuple(map(np.empty, shapes, kinds))
        kept: tuple[NDArray[Any], ...] = self._kept.arrays
        return kept

    def open(self, mask: NDArray[np.bool_], windows: Sequence[Window]) -> NDArray[np.bool_]:
        """`mask` to be written to, right where `windows` show it; this thread's, until its next call: frames of one
        size share it."""
        kept: NDArray[np.bool_] | None = getattr(self._kept, "open", None)
        if kept is None or kept.shape != mask.shape:
            kept = self._kept.open = np.empty_like(mask)
        for window in windows:
            window.of(kept)[...] = window.of(mask)
        return kept

    def fill(
        self,
        target: NDArray[Any],
        mask: NDArray[np.bool_],
        window: Window,
        correction: NDArray[np.float32],
        heard: Heard,
        *,
        side: int,
        scale: int,
        overlap: bool,
    ) -> None:
        """3.4: write the holes in the `window` of `target` (H, W, 3), C-contiguous, in place; all else stays.

        `correction` (h, w, 3), of white 1, is what copied pixels lack, on a grid of `scale` pixels; `heard` from
        `contributions`, of patches of `side` pixels.
        """
        peak = np.float32(np.iinfo(target.dtype).max)
        correction = correction * peak
        h, w = correction.shape[:2]
        rows, place, weight = heard
        columns = w * scale // side
        vertical = np.rint(ramps(side, overlap) * np.float32(2 * side))
        flat, bits = _flat(target, mask, window)
        flat_correction = correction.reshape(h, w * 3)
        horizontal = np.repeat(vertical, 3, axis=1)
        if _fill is None:
            plain.fill(window.of(target), _clean(window.of(mask)), heard, vertical, correction, scale, columns)
            return
        self.workers.spread(
            lambda a, b: _fill(
                flat,
                bits,
                window.left,
                window.width,
                rows[a:b],
                place[a:b],
                weight[a:b],
                vertical,
                horizontal,
                flat_correction,
                scale,
                columns,
                peak,
            ),
            len(rows),
        )

    def mend(
        self,
        target: NDArray[Any],
        mask: NDArray[np.bool_],
        window: Window,
        rim: NDArray[np.bool_] | None = None,
    ) -> None:
        """Bring the filled holes in the `window` of `target` (H, W, 3), C-contiguous, nearer to known pixels at most
        two away, in place: what was copied and joined by cells need not meet the border to the pixel, and an edge
        would be seen there. Pixels are moved by part of how much the mean of the known ones around them differs from
        that of themselves and the hole pixels beside them, so that they keep their grain; in integers, of what all
        were before. What is in or beside the `rim` of the window's grid, or its own neighbours there, stays.
        """
        spared = np.zeros((0, 0), np.uint8)
        if rim is not None:
            spared = np.asarray(cv2.dilate(rim.view(np.uint8), np.ones((3, 3), np.uint8)))
        if _mend is None:
            plain.mend(window.of(target), _clean(window.of(mask)), spared, int(2 * window.scale), BESIDE, MENDED)
            return
        flat, bits = _flat(target, mask, window)
        arguments = (flat, bits, window.left, window.width, spared, int(2 * window.scale))
        parts: list[tuple[NDArray[np.int64], NDArray[Any]]] = []
        options = (BESIDE_LANES, *MENDED)
        self.workers.spread(lambda a, b: parts.append(_mend(*arguments, a, b, *options)), window.height)
        for places, values in parts:
            _put(flat.reshape(-1), places, values)
