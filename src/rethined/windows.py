"""Where the engine looks: windows around the holes, as fine as their number of pixels allows.

The network's grid holds a fixed number of pixels, whatever the photo's size. A wire, a scratch or a stroller on a
beach is a small part of a photo, and spread over all of it the grid would be coarse; spread over what surrounds the
hole alone it is fine. So the holes are put into boxes, boxes that are mostly known are cut in two, and each box is
seen with a margin around it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined.compiled import compiled

GRID = 44 * 2**13
"""Pixels that the low-resolution grids of any photo may hold together, padding included: 600 squared."""
GRID_GROWTH = 6 * 2**13
"""Pixels that they may hold for each unit of the factor: from factor 8, or 20 megapixels, on that is more, so that
larger photos are seen in more detail, at a cost that grows more slowly than they do."""
WHOLE = 4
"""From this factor on there is no half: it would cost a second look at lines of the photo, and win little."""
BLOCK = 16
"""Side, in pixels, of the blocks that holes are put into boxes by."""
MARGIN = 16
"""Grid pixels around a box that the network sees, at least, where the photo has them; and as many of the photo's as
the hole is thick, so that a thick hole is seen on no finer a grid than it is understood on."""
CROSSING = 32
"""Grid pixels of hole that a cut through it may cross."""
LEVELS = 5
"""Cuts in a row: at most 32 windows."""
EXTRA = 2**12
"""Grid pixels that another window is counted as beside its own. It takes the time of more, and is worth it."""
LEAST = 2
"""Strides that a grid has a side, at least, where the photo has them: in less there may be nothing to copy."""
THIN = 10
"""A hole is thin where it fills no square of so many grid pixels a side, of a grid that it is seen on like others."""
FINE = 2.5
"""Factor from which on thin holes are seen on finer grids than others: below, it would win little."""
THIN_LEVELS, THIN_SHARE = 8, 12
"""As LEVELS; and how many times as many pixels as the whole photo's grid those of thin holes may hold together."""
SOURCE, SCARCE, BAR = 20, 20, 80
"""Grid pixels a side of a square that is all known, as what is copied lies in the middle of one (`search.REACH`);
known blocks for each such square, at most, or what is known is in too small pieces to be copied, as behind a fence;
and THIN there: what is thicker would be cut into windows of which some see nothing known."""
ALONE = 2**15
"""Grid pixels up to which one thread is about as fast as several, which wait for one another more than they work."""
GAIN = 0.55
"""Threads to this power are as many times as fast as one, at what is larger."""


def _loop(function: Any) -> Any:
    """`function` compiled, or as it is: it is fast enough where the other loops are NumPy's."""
    return compiled()(function) or function


class Window(NamedTuple):
    """A part of the photo, in pixels, how it meets the network, and whose holes it fills."""

    top: int
    left: int
    height: int
    width: int
    scale: float
    """Full-resolution pixels to one of the grid's; a multiple of a half."""
    rows: int
    """Of the grid, as `columns` a multiple of the network's stride."""
    columns: int
    holes: tuple[slice, slice]
    """Rows and columns of what it fills for good, in pixels."""

    def of(self, picture: NDArray[Any]) -> NDArray[Any]:
        """What it shows of a picture (H, W, ...)."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


def whole(height: int, width: int, stride: int, band: int = 4) -> Window:
    """All of a photo of `height` x `width` pixels, with the smallest factor whose grid, padded to multiples of
    `stride`, is no larger than GRID, or than GRID_GROWTH for each unit of the factor.

    By area rather than by the long side: a panorama keeps as much detail as a square, at the same cost.
    """
    for halves in _scales(band):
        h, w = (-(-2 * side // (halves * stride)) * stride for side in (height, width))
        # A very thin photo is mostly padding, which no factor removes.
        if 2 * h * w <= max(2 * GRID, GRID_GROWTH * halves) or min(h, w) == stride:
            return Window(0, 0, height, width, halves / 2, h, w, (slice(0, height), slice(0, width)))
    raise AssertionError  # there is no last factor


def _scales(band: int) -> Iterator[int]:
    """Factors in halves, from 1 on: in steps of a half up to WHOLE, and then of one. Where `band`, the side of the
    low band's cells, is 1, none is a half: cells are whole pixels of the photo."""
    for halves in itertools.count(2):
        if halves % 2 == 0 or (band > 1 and halves < 2 * WHOLE):
            yield halves


def find(
    blocks: NDArray[np.bool_],
    full: NDArray[np.bool_],
    height: int,
    width: int,
    stride: int,
    band: int = 4,
    size: tuple[int, int] | None = None,
) -> list[Window]:
    """Windows of a photo of `height` x `width` pixels, with the smallest factor at which their grids together hold
    no more pixels than that of the `whole` photo; or one, whose grid is of `size`, for a network that takes no other.
    Where that factor is FINE or more, thin holes have one of their own, with THIN_SHARE times as many pixels; and the
    bars of a fence have, where next to nothing could be copied on a grid of that factor.

    `blocks` and `full` (rows, columns), as of `block`; at least one is not all known. In the order in which they are
    to be filled; each hole pixel is in the `holes` of the one that fills it, and of others after that at most.
    """
    photo = whole(height, width, stride, band)
    budget = photo.rows * photo.columns
    if size:
        (box,) = _divide(blocks, 0).tolist()
        for halves in _scales(band):
            window = _window(box, height, width, halves, stride, size)
            if window.rows <= size[0] and window.columns <= size[1]:
                return [window]
    windows = _finest(_divide(blocks, LEVELS), height, width, stride, band, budget)
    coarse = windows[0].scale
    fenced = coarse > 1 and _scarce(~blocks, int(SOURCE * coarse) // BLOCK + 1)
    if coarse < FINE and not fenced:
        return windows
    thick = _thick(blocks, full, int((BAR if fenced else THIN) * coarse) // BLOCK)
    if (thick == blocks).all():
        return windows
    boxes = _divide(blocks & ~thick, THIN_LEVELS)
    # Area by length is that of many letters, or of a net.
    boxes[:, 4] = np.minimum(boxes[:, 4], int(THIN * coarse) // BLOCK * BLOCK)
    found = _finest(boxes, height, width, stride, band, THIN_SHARE * budget, budget)
    if found[0].scale >= coarse:
        return windows
    if thick.any():  # after the thin ones, which then are known
        found += _finest(_divide(thick, LEVELS), height, width, stride, band, budget)
    return found


def waits(windows: Sequence[Window], mask: NDArray[np.bool_]) -> list[list[int]]:
    """For each of the `windows` those before it that must be filled first: what both show of the `mask` (H, W) has a
    hole, so that one fills what the other sees."""
    top, left, height, width = (np.array([window[n] for window in windows]) for n in range(4))
    apart = (top[:, None] >= top + height) | (left[:, None] >= left + width)
    first: list[list[int]] = [[] for _ in windows]
    for later, one in np.argwhere(np.tril(~(apart | apart.T), -1)).tolist():
        rows, columns = (
            slice(max(begin[one], begin[later]), min(begin[one] + size[one], begin[later] + size[later]))
            for begin, size in ((top, height), (left, width))
        )
        if mask[rows, columns].any():
            first[later].append(one)
    return first


def beside(windows: Sequence[Window], after: Sequence[Sequence[int]], threads: int) -> list[list[int]]:
    """The numbers of the `windows` in groups to be filled one after another: one window by all `threads`, or several
    beside each other by one thread each; whichever is expected to take less time. What a window waits for (`after`,
    of `waits`) is in no later group."""
    cost = [window.rows * window.columns + EXTRA for window in windows]
    groups: list[list[int]] = []
    several: list[int] = []
    large: list[int] = []  # more than a thread's part of all: these wait as long as nothing waits for them

    def close() -> None:
        together = sum(cost[n] if cost[n] <= ALONE + EXTRA else cost[n] / threads**GAIN for n in several)
        ends: dict[int, int] = {}  # of the longest chain of windows that wait for one another
        for n in several:
            ends[n] = cost[n] + max((ends.get(one, 0) for one in after[n]), default=0)
        alone = max(sum(cost[n] for n in several) / threads, *ends.values(), 0)
        groups.extend([several[:]] if len(several) > 1 and alone < together else [[n] for n in several])
        groups.extend([n] for n in large)
        several.clear()
        large.clear()

    for n in range(len(windows)):
        if not set(large).isdisjoint(after[n]):
            close()
        (large if cost[n] * threads > sum(cost) else several).append(n)
    close()
    return groups


def _scarce(known: NDArray[np.bool_], side: int) -> bool:
    """Whether the blocks that are `known` are in too small pieces, of which few are squares of `side` of them."""
    return bool(np.count_nonzero(_squares(known, side)) * SCARCE < np.count_nonzero(known))


def _thick(blocks: NDArray[np.bool_], full: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Which of the `blocks` hang together, by sides or corners, with a square of `side` of them that are `full`."""
    core = _squares(full, side)
    count, label = cv2.connectedComponents(blocks.view(np.uint8))
    holds = np.zeros(count, np.bool_)
    holds[label[core]] = True
    result: NDArray[np.bool_] = holds[label]
    return result


def _squares(blocks: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The middles of squares of `side` x `side` of the `blocks`."""
    square = np.ones((side, side), np.uint8)
    return cv2.erode(blocks.view(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0


def _finest(
    boxes: NDArray[np.int64], height: int, width: int, stride: int, band: int, budget: int, most: int = 2**62
) -> list[Window]:
    """Windows around what is in the `boxes` of `_divide`, with the smallest factor at which their grids together hold
    no more than `budget` pixels, and each, where it can be cut, `most`; every second one first, so that of those that
    see each other's holes, as along a wire, several can be filled at the same time."""
    for halves in _scales(band):
        cost, chosen = _choose(boxes, height, width, stride, halves, most)
        if cost <= budget:
            windows = [_window(box, height, width, halves, stride) for box in boxes[chosen].tolist()]
            return windows[::2] + windows[1::2]
    raise AssertionError  # there is no last factor


def block(mask: NDArray[np.bool_], blocks: NDArray[np.bool_], full: NDArray[np.bool_], first: int, last: int) -> None:
    """Rows `first` to `last` of `blocks`, for a C-contiguous `mask` (H, W): True where any of BLOCK x BLOCK pixels
    is; and of `full`: True where all of every fourth line of them are. Beyond the border nothing is."""
    part, width = mask[first * BLOCK : last * BLOCK], mask.shape[1]
    whole, lines = len(part) // BLOCK, np.zeros((last - first, blocks.shape[1] * BLOCK), np.bool_)
    upper, rest = part[: whole * BLOCK].reshape(whole, BLOCK, width), part[whole * BLOCK :]
    np.logical_or.reduce(upper, axis=1, out=lines[:whole, :width])
    lines[whole:, :width] = rest.any(0)
    # Along the line eight pixels are seen at once.
    words = lines.view(np.uint64)
    blocks[first:last] = words[:, ::2] | words[:, 1::2]
    np.logical_and.reduce(upper[:, ::4], axis=1, out=lines[:whole, :width])
    lines[whole:, :width] = rest[::4].all(0) & (len(rest) > BLOCK - 4)
    full[first:last] = words[:, ::2] & words[:, 1::2] == int.from_bytes(bytes([1] * 8))


@_loop
def _divide(blocks, levels):  # type: ignore[no-untyped-def]
    """What holes of `blocks` (rows, columns) are in, and what that can be cut into, `levels` times in a row at most.
    Boxes without empty lines around them, (N, 6): their edges in blocks (top, bottom, left, right), how thick the
    hole is there, its area by its length, in pixels, and how many pixels of hole the cut crosses.

    The halves of box n are boxes 2 n + 1 and 2 n + 2. It is cut across its longer side, before the line where least
    of the hole is cut through, of its middle half; of several the most central. The last number is -1 where a box
    cannot be cut, as halves would be no longer than their margins, and the last two where there is none.
    """
    count = 2 ** (levels + 1) - 1
    boxes = np.empty((count, 6), np.int64)
    boxes[:, 4:] = -1
    boxes[0, 0], boxes[0, 1], boxes[0, 2], boxes[0, 3] = 0, blocks.shape[0], 0, blocks.shape[1]
    lines, columns = np.empty(blocks.shape[0], np.int64), np.empty(blocks.shape[1], np.int64)
    for n in range(count):
        if n and boxes[(n - 1) // 2, 5] < 0:
            continue
        top, bottom, left, right = boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3]
        columns[left:right] = 0
        for y in range(top, bottom):
            line = 0
            for x in range(left, right):
                line += blocks[y, x]
                columns[x] += blocks[y, x]
            lines[y] = line
        area = 0
        for x in range(left, right):
            area += columns[x]
        while not lines[top]:
            top += 1
        while not lines[bottom - 1]:
            bottom -= 1
        while not columns[left]:
            left += 1
        while not columns[right - 1]:
            right -= 1
        upright = bottom - top >= right - left
        begin, length = (top, bottom - top) if upright else (left, right - left)
        boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = top, bottom, left, right
        boxes[n, 4] = area * BLOCK // length
        if 2 * n + 2 >= count or length * BLOCK <= 2 * MARGIN:
            continue
        first = max(length // 4, 1)
        # Of the lines before which it may be cut, how much of the hole goes on there.
        crossed = lines if upright else columns
        if upright:
            for y in range(top + first, bottom - first + 1):
                line = 0
                for x in range(left, right):
                    line += blocks[y, x] & blocks[y - 1, x]
                crossed[y] = line
        else:
            crossed[left:right] = 0
            for y in range(top, bottom):
                for x in range(left + first, right - first + 1):
                    crossed[x] += blocks[y, x] & blocks[y, x - 1]
        at = first
        for line in range(first + 1, length - first + 1):
            more = crossed[begin + line] - crossed[begin + at]
            if more < 0 or (more == 0 and abs(2 * line - length) < abs(2 * at - length)):
                at = line
        boxes[n, 5] = crossed[begin + at] * BLOCK
        for m in range(2 * n + 1, 2 * n + 3):
            boxes[m, 0], boxes[m, 1], boxes[m, 2], boxes[m, 3] = top, bottom, left, right
        edge = 0 if upright else 2
        boxes[2 * n + 2, edge] = boxes[2 * n + 1, edge + 1] = begin + at
    return boxes


@_loop
def _choose(boxes, height, width, stride, halves, most):  # type: ignore[no-untyped-def]
    """Which of the `boxes` of `_divide`, that together hold all of the hole, have the cheapest windows, of no more
    than `most` where they can be cut, from above or from the left on; and what these cost, in pixels of grids."""
    costs, cut = np.empty(len(boxes), np.int64), np.zeros(len(boxes), np.bool_)
    multiple = stride * halves // 2
    for n in range(len(boxes) - 1, -1, -1):
        top, bottom, left, right, thickness, crossing = boxes[n]
        if thickness < 0:
            continue
        margin = _margin(thickness, halves)
        down = _multiples(top * BLOCK, bottom * BLOCK, height, margin, multiple)
        costs[n] = down * _multiples(left * BLOCK, right * BLOCK, width, margin, multiple) * stride**2
        must = costs[n] > most
        if costs[n] > EXTRA + 2 * stride**2 and crossing >= 0 and (must or 2 * crossing <= CROSSING * halves):
            halved = costs[2 * n + 1] + costs[2 * n + 2] + EXTRA
            if must or halved < costs[n]:
                costs[n], cut[n] = halved, True
    chosen, waiting = np.empty(len(boxes), np.int64), np.zeros(len(boxes), np.int64)
    count, more = 0, 1
    while more:
        more -= 1
        n = waiting[more]
        if cut[n]:
            waiting[more], waiting[more + 1] = 2 * n + 2, 2 * n + 1
            more += 2
        else:
            chosen[count] = n
            count += 1
    return costs[0], chosen[:count]


@_loop
def _margin(thickness, halves):  # type: ignore[no-untyped-def]
    """In pixels."""
    return max(MARGIN * halves // 2, thickness)


@_loop
def _multiples(begin, end, length, margin, multiple):  # type: ignore[no-untyped-def]
    """How many it takes to hold a hole with its margin, as far as the photo, of `length`, goes."""
    count = -((max(begin - margin, 0) - min(end + margin, length)) // multiple)
    return max(count, min(LEAST, -(-length // multiple)))


def _window(
    box: list[int], height: int, width: int, halves: int, stride: int, size: tuple[int, int] = (0, 0)
) -> Window:
    """Around one of the boxes of `_divide`, with a grid of at least `size`."""
    top, bottom, left, right, thickness, _ = box
    holes = (
        slice(top * BLOCK, min(bottom * BLOCK, height)),
        slice(left * BLOCK, min(right * BLOCK, width)),
    )
    margin = _margin(thickness, halves)
    multiple = stride * halves // 2
    above, rows, down = _around(holes[0], height, margin, multiple, size[0] // stride)
    before, columns, across = _around(holes[1], width, margin, multiple, size[1] // stride)
    return Window(above, before, rows, columns, halves / 2, down * stride, across * stride, holes)


def _around(hole: slice, length: int, margin: int, multiple: int, least: int) -> tuple[int, int, int]:
    """Where the window begins, its length, and how many multiples that takes, at `least` some: the `hole` with a
    margin, rounded up to a multiple where the photo, of `length`, has as much."""
    count = max(_multiples(hole.start, hole.stop, length, margin, multiple), least)
    begin, end = max(hole.start - margin, 0), min(hole.stop + margin, length)
    size = min(count * multiple, length)
    begin = min(max(begin - (size - (end - begin)) // 2, 0), length - size)
    return begin, size, count
