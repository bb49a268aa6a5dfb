"""NeuralPatchMatch without a score matrix (3.3): which known cell every hole cell copies, found by PatchMatch.

The network draws a low band, one colour per cell of 4 x 4 low-resolution pixels, and gives each patch a query and a
key (Eq. 1). An arg-max over all pairs knows nothing of neighbours, and what it copies is a mosaic. Here every hole cell
looks for the place whose surroundings are most like its own, as they look once everything is copied, and whose key
suits its query: by propagation and random guesses (Barnes et al. 2009), from coarse to fine, with votes in between
(Wexler et al. 2007).

Every number that a choice depends on is an integer, held where sums are largest as a float32 below 2^24: the same
inputs give the same sources in any order of summation, on any number of threads, and in any language.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined import plain
from rethined.compiled import compiled

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

CELL = 4
"""Side of a cell in low-resolution pixels."""
REACH = 2
"""Surroundings are compared over 2 REACH + 1 cells a side."""
CHANNELS = 5
"""Of a cell: its mean R, G and B, and how much its pixels differ from those beside and those below them."""
WHITE = 120
"""What 1 is in these; so small that sums of weighted squares stay below 2^24."""
TEXTURE = 2
"""How much more than colours differences between pixels count."""
UNIT = 127
"""What 1 is in queries and keys."""
WEIGHTS = (8, 4, 2, 1)
"""What a cell counts in a comparison, by its depth in the hole: 0 is known, 3 is three cells or more."""
AFFINITY = 5
"""What the product of query and key counts, in sixteenths of all that is compared."""
LEVELS = 3
"""Sizes at which holes are filled, each half of the one before."""
ROUNDS = 4
"""Searches at each level, with a vote after each but the last."""
JUMPS = ((8, 4, 2, 1), (2, 1), (2, 1), (2, 1))
"""In each round: how far away, in cells, the neighbours are whose sources are tried."""
GUESSES = (3, 6, 12)
"""By level, finest first: random places tried after the neighbours', each within half the distance of the one before."""
INHERITED = (3, 6)
"""By level: how deep in the hole, in cells, the coarser level has its say. Nearer to what is known, small cells and the
low band say more."""
DECISION = 8
"""How strongly votes prefer those whose surroundings fit: one of the mean cost counts 2^DECISION times less."""
NEARBY = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Where a source is looked for that a coarser level proposes, rows and columns."""

TRUST = np.float32(0.02)
"""What the network's colours count, deep in the hole, beside one difference between neighbours."""
RELAXATION = np.float32(1.7)
"""Of the solver; between 1 and 2."""
SWEEPS = 20
"""Of the solver."""

Spread = Callable[[Callable[[int, int], None], int], None]
"""Calls work(first, last) on consecutive parts of range(count), at once if it can."""


class Sources(NamedTuple):
    """What every hole cell copies."""

    cells: Ints
    """(R,) the hole cells, in reading order, as indices of the grid's cells."""
    source: Ints
    """(R,) for each, the cell it copies; all cells within REACH of that are known."""
    depth: NDArray[np.uint8]
    """(h / CELL, w / CELL): city-block distance to the nearest known cell, 255 at most."""


class Level(NamedTuple):
    """The picture at one size, of h x w cells."""

    values: Floats
    """(h, w, CHANNELS), 0 to WHITE; guesses in the hole."""
    known: Bools
    """(h, w)"""
    query: Floats
    """(h, w, D), in units of 1 / UNIT."""
    key: Floats
    """(h, w, D)"""


def find(small: Floats, holes: Floats, low: Floats, query: Floats, key: Floats, spread: Spread) -> Sources | None:
    """Sources of all hole cells; None if nowhere (2 REACH + 1)^2 cells are known, so that there is nothing to copy.

    `small` (3, h, w) in [0, 1] and `holes` (h, w), 1 = hole, from `Upscaler.shrink`; `low` (3, h / CELL, w / CELL),
    `query` and `key` (D, h / 2 CELL, w / 2 CELL) from the core.
    """
    found: tuple[Ints, Ints] | None = None
    levels = pyramid(small, holes, low, query, key)
    for number in reversed(range(LEVELS)):
        found = search(levels[number], number, found, spread) or found
    known = levels[0].known
    cells = np.flatnonzero(~known).astype(np.int32)
    valid = interior(known)
    if found is None or not valid.any():
        return None
    place, source = found
    return Sources(cells, source[place.reshape(-1)[cells]], depths(known))


def pyramid(small: Floats, holes: Floats, low: Floats, query: Floats, key: Floats) -> list[Level]:
    """The picture at LEVELS sizes, finest first; holes have the low band's colours and the texture around."""
    described, known = (_describe or plain.describe)(small, holes)
    guess = np.floor(low.transpose(1, 2, 0).clip(0, 1) * np.float32(WHITE) + np.float32(0.5))
    texture = from_ancestors(described[..., 3:], known)
    values = np.where(known[..., None], described, np.concatenate([guess, texture], -1)).astype(np.float32)
    q, k = (np.rint(vectors.transpose(1, 2, 0) * np.float32(UNIT)) for vectors in (query, key))
    levels = [Level(values, known, q.repeat(2, 0).repeat(2, 1), k.repeat(2, 0).repeat(2, 1))]
    for number in range(1, LEVELS):
        values, known = np.floor((_sums(values) + 2) / 4), _sums(known.astype(np.float32)) == 4
        if number > 1:
            q, k = (np.floor((_sums(vectors) + 2) / 4) for vectors in (q, k))
        levels.append(Level(values, known, q, k))
    return levels


def _sums(values: Floats) -> Floats:
    """Sums of 2 x 2 cells; sides are even."""
    total: Floats = values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
    return total


def from_ancestors(values: Floats, known: Bools) -> Floats:
    """`values` (h, w, C), integers, where `known`; elsewhere the mean of the smallest block of 2^n x 2^n cells around
    that knows any, rounded."""
    sums, counts = [np.where(known[..., None], values, 0)], [known.astype(np.float32)]
    while counts[-1].min() == 0 and max(counts[-1].shape) > 1:
        height, width = counts[-1].shape
        pad = ((0, height % 2), (0, width % 2))
        sums.append(_sums(np.pad(sums[-1], (*pad, (0, 0)))))
        counts.append(_sums(np.pad(counts[-1], pad)))
    filled = np.zeros_like(sums[-1])
    for total, count in zip(reversed(sums), reversed(counts), strict=True):
        height, width = count.shape
        above = filled.repeat(2, 0).repeat(2, 1)[:height, :width] if filled.shape != total.shape else filled
        some = count[..., None]
        filled = np.where(some > 0, np.floor((2 * total + some) / (2 * np.maximum(some, 1))), above)
    return filled.astype(np.float32)


def interior(known: Bools) -> Bools:
    """Cells all of whose surroundings, within REACH, are inside the picture and known."""
    side = 2 * REACH + 1
    return np.asarray(
        cv2.erode(known.astype(np.uint8), np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    ).astype(np.bool_)


def depths(known: Bools) -> NDArray[np.uint8]:
    """City-block distance of every cell to the nearest known one, in cells, at most 255; where none is known, 255."""
    if not known.any():
        return np.full(known.shape, 255, np.uint8)
    distance = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L1, 3, dstType=cv2.CV_32F)
    return np.asarray(np.minimum(distance, 255), np.uint8)


def pseudo_random(cell: NDArray[np.int64], number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two numbers in 0..65520 for every cell's index, another pair for every `number`; no product reaches 2^31."""
    x = (cell * 7919 + number * 104729 + 12345) % 65521
    return x * 17364 % 65521, x * 31337 % 65521


def search(level: Level, number: int, coarser: tuple[Ints, Ints] | None, spread: Spread) -> tuple[Ints, Ints] | None:
    """Sources of the hole cells of one level, and of those beside them.

    Returns `place` (h, w), the position of every such cell in a list, -1 for others, and `source`, in that list's
    order; or None where no cell's surroundings are known. `coarser` is what the level above returned.
    """
    known = level.known
    height, width = known.shape
    valid = interior(known)
    choices = np.flatnonzero(valid)
    if not len(choices) or known.all():
        return None
    hole = ~known
    targets = np.flatnonzero(cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8))).astype(np.int32)
    place = np.full((height, width), -1, np.int32)
    place.reshape(-1)[targets] = np.arange(len(targets))
    first, _ = pseudo_random(targets.astype(np.int64), 64 * 64 + number)
    source = choices[first * len(choices) // 65521].astype(np.int32)
    depth = depths(known)
    cells = np.flatnonzero(hole).astype(np.int32)
    if coarser is not None:
        deep = depth.reshape(-1) >= INHERITED[number]
        source = inherited(targets, valid, deep[targets], source, *coarser)
    weights = np.asarray(WEIGHTS, np.float32)[np.minimum(depth, len(WEIGHTS) - 1)]
    values = np.ascontiguousarray(level.values.reshape(height, width * CHANNELS))
    cost = np.empty(len(targets), np.float32)
    query, key = (np.ascontiguousarray(vectors, np.float32) for vectors in (level.query, level.key))
    radius = max(height, width) // (4 if coarser is not None else 1)
    improve, vote = _improve or plain.improve, _vote or plain.vote

    def try_others(jump: int, guesses: int, counter: int, fresh: bool) -> None:
        nonlocal source, cost
        better, lower = np.empty_like(source), np.empty_like(cost)
        given = (values, weights, valid, place, targets, source, cost, better, lower, query, key)
        spread(lambda a, b: improve(*given, jump, guesses, radius, counter, fresh, a, b), len(targets))
        source, cost = better, lower

    def draw(cells: Ints) -> None:
        nonlocal values
        mean = max(1, int(cost.sum(dtype=np.float64)) // len(cost))
        votes = np.ldexp(1.0, 16 - np.minimum(16, cost.astype(np.int64) * DECISION // mean))
        drawn = values.copy()
        spread(lambda a, b: vote(values, drawn, place, source, votes, cells, a, b), len(cells))
        values = drawn

    if coarser is not None:  # what is copied at the level above says more of the hole than the guess
        try_others(0, 0, 0, True)
        draw(cells[deep[cells]])
    for turn in range(ROUNDS):
        for step, jump in enumerate(JUMPS[turn]):
            try_others(jump, GUESSES[number], (number * 8 + turn) * 8 + step, step == 0)
        if turn < ROUNDS - 1:
            draw(cells)
    return place, source


def inherited(targets: Ints, valid: Bools, deep: Bools, otherwise: Ints, place: Ints, source: Ints) -> Ints:
    """For each of `targets` that is `deep` what the coarser level, of `place` and `source`, copies there: the first
    valid source of NEARBY; for others, and where there is none, `otherwise`. All but `valid` in the targets' order."""
    height, width = valid.shape
    y, x = np.divmod(targets, np.int32(width))
    above = place[y >> 1, x >> 1]
    sy, sx = np.divmod(source[above], np.int32(width >> 1))
    sy, sx = sy * 2 + (y & 1), sx * 2 + (x & 1)
    result, open_ = otherwise.copy(), deep & (above >= 0)
    for dy, dx in NEARBY:
        ny, nx = sy + dy, sx + dx
        good = open_ & (ny >= 0) & (nx >= 0) & (ny < height) & (nx < width)
        good &= valid[np.where(good, ny, 0), np.where(good, nx, 0)]
        result[good] = (ny * width + nx)[good]
        open_ &= ~good
    return result


def correction(low: Floats, sources: Sources) -> Floats:
    """What copied cells lack, (h, w, 3), of a low band in which what is copied from different places joins: in the hole
    as `low` (3, h, w), from the core, says, outside 0.

    That band u has at best the differences between neighbours p, q that the copies have, and the network's colours:
    it is the least sum over pairs of (u_q - u_p - g_pq)^2, with u = `low` in known cells, plus that over hole cells of
    t_p (u_p - low_p)^2 (a screened Poisson equation, after Perez et al. 2003); g_pq is the difference in the source of
    p, averaged with that in the source of q. The network is trusted (t) most beside known cells, whose colours it
    sees; far from them it guesses.
    """
    h, w = low.shape[1:]
    colours = np.ascontiguousarray(low.transpose(1, 2, 0), np.float32)
    source = np.arange(h * w, dtype=np.int32)
    source[sources.cells] = sources.source
    source = source.reshape(h, w)
    depth = sources.depth.astype(np.float32)
    trust = 4 * np.clip((4 - depth) / np.float32(2.5), 0, 1) ** 2 + TRUST
    joined = colours.copy()
    (_meld or plain.meld)(joined, colours, source, trust, sources.cells, RELAXATION, SWEEPS)
    joined -= colours.reshape(-1, 3)[source]
    joined[sources.depth == 0] = 0
    return joined


@compiled("contract")
def _meld(joined, colours, source, trust, cells, relaxation, sweeps):  # type: ignore[no-untyped-def]
    """Solve `correction`'s equation in place of `joined` (h, w, 3), at `cells`, by successive over-relaxation: in each
    sweep first the cells of which row plus column is even, then the others."""
    h, w = source.shape
    wanted = np.empty((len(cells), 3), np.float32)  # what neighbours and trust add up to, but for u itself
    share = np.empty(len(cells), np.float32)
    for i in range(len(cells)):
        y, x = cells[i] // w, cells[i] % w
        own = source[y, x]
        sy, sx = own // w, own % w
        share[i] = trust[y, x]
        for c in range(3):
            wanted[i, c] = trust[y, x] * colours[y, x, c]
        for n in range(4):
            dy = -1 if n == 0 else 1 if n == 3 else 0
            dx = -1 if n == 1 else 1 if n == 2 else 0
            qy, qx = y + dy, x + dx
            if not (0 <= qy < h and 0 <= qx < w):
                continue
            share[i] += np.float32(1)
            beside = source[qy, qx]
            by, bx = beside // w, beside % w
            for c in range(3):
                # u_p - u_q as the source of p has it, and as that of q has it; a known cell is its own source.
                here = colours[sy, sx, c] - colours[sy + dy, sx + dx, c]
                there = colours[by - dy, bx - dx, c] - colours[by, bx, c]
                if beside == qy * w + qx:
                    wanted[i, c] += here
                else:
                    wanted[i, c] += (here + there) * np.float32(0.5)
    for _ in range(sweeps):
        for parity in range(2):
            for i in range(len(cells)):
                y, x = cells[i] // w, cells[i] % w
                if (y + x) % 2 != parity:
                    continue
                for c in range(3):
                    total = wanted[i, c]
                    if y > 0:
                        total += joined[y - 1, x, c]
                    if x > 0:
                        total += joined[y, x - 1, c]
                    if x < w - 1:
                        total += joined[y, x + 1, c]
                    if y < h - 1:
                        total += joined[y + 1, x, c]
                    joined[y, x, c] += relaxation * (total / share[i] - joined[y, x, c])


@compiled("contract")
def _describe(small, holes):  # type: ignore[no-untyped-def]
    """What `pyramid` compares of every cell, (h / CELL, w / CELL, CHANNELS), zeros where it is not wholly known; and
    whether it is."""
    h, w = holes.shape[0] // 4, holes.shape[1] // 4
    values = np.zeros((h, w, 5), np.float32)
    known = np.zeros((h, w), np.bool_)
    for cy in range(h):
        for cx in range(w):
            whole = True
            red = green = blue = across = down = np.float32(0)
            for y in range(4 * cy, 4 * cy + 4):
                for x in range(4 * cx, 4 * cx + 4):
                    whole = whole and holes[y, x] == 0
                    r, g, b = small[0, y, x], small[1, y, x], small[2, y, x]
                    red += r
                    green += g
                    blue += b
                    grey = r + g + b
                    if x < 4 * cx + 3:
                        across += abs(grey - (small[0, y, x + 1] + small[1, y, x + 1] + small[2, y, x + 1]))
                    if y < 4 * cy + 3:
                        down += abs(grey - (small[0, y + 1, x] + small[1, y + 1, x] + small[2, y + 1, x]))
            if not whole:
                continue
            known[cy, cx] = True
            colour = np.float32(120 / 16)
            difference = np.float32(120 * 2 / 36)
            values[cy, cx, 0] = np.floor(red * colour + np.float32(0.5))
            values[cy, cx, 1] = np.floor(green * colour + np.float32(0.5))
            values[cy, cx, 2] = np.floor(blue * colour + np.float32(0.5))
            values[cy, cx, 3] = min(np.float32(120), np.floor(across * difference + np.float32(0.5)))
            values[cy, cx, 4] = min(np.float32(120), np.floor(down * difference + np.float32(0.5)))
    return values, known


@compiled("contract", "reassoc", "nsz")
def _improve(  # type: ignore[no-untyped-def]
    values, weights, valid, place, targets, source, cost, better, lower, query, key, jump, guesses, radius, counter,
    fresh, first, last
):
    """One step of the search for targets `first` to `last`: of their own source, the neighbours' at `jump` cells, and
    `guesses` others within `radius`, the cheapest, to `better`, and what it costs, to `lower`.

    `values` (h, w * 5), `weights` and `valid` (h, w), `place` (h, w); `query`, `key` (h, w, D). All read `source` and
    `cost` (unless `fresh`: then not that) of the step before, so that their order does not matter. A jump of 0 only
    finds costs.
    """
    height, width = valid.shape
    dimensions = query.shape[2]
    mine = np.zeros((5, 32), np.float32)  # surroundings; rows of 25, and what fills vector registers
    share = np.zeros((5, 32), np.float32)
    for i in range(first, last):
        cell = targets[i]
        y0, x0 = cell // width, cell % width
        total = np.float32(0)
        for r in range(5):
            y = y0 + r - 2
            for c in range(5):
                x = x0 + c - 2
                weight = np.float32(0)
                if 0 <= y < height and 0 <= x < width:
                    weight = weights[y, x]
                    for t in range(5):
                        mine[r, 5 * c + t] = values[y, 5 * x + t]
                total += weight
                for t in range(5):
                    share[r, 5 * c + t] = weight
        affinity = np.floor((total * np.float32(5) + np.float32(8)) / np.float32(16))
        asked = query[y0, x0]
        best = source[i]
        least = np.float32(3e38) if fresh else cost[i]
        reach = radius
        for candidate in range(-1 if fresh else 0, 8 + guesses if jump else 0):
            if candidate < 0:
                sy, sx = best // width, best % width
            elif candidate < 8:
                n = candidate if candidate < 4 else candidate + 1
                dy, dx = (n // 3 - 1) * jump, (n % 3 - 1) * jump
                y, x = y0 + dy, x0 + dx
                if not (0 <= y < height and 0 <= x < width) or place[y, x] < 0:
                    continue
                there = source[place[y, x]]
                sy, sx = there // width - dy, there % width - dx
            else:
                a = (cell * 7919 + (counter * 16 + candidate - 8) * 104729 + 12345) % 65521
                sy = best // width + (a * 17364 % 65521) % (2 * reach + 1) - reach
                sx = best % width + (a * 31337 % 65521) % (2 * reach + 1) - reach
                reach = max(1, reach // 2)
            if not (0 <= sy < height and 0 <= sx < width) or not valid[sy, sx]:
                continue
            offer = sy * width + sx
            if offer == best and candidate >= 0:
                continue
            product = np.float32(0)
            offered = key[sy, sx]
            for t in range(dimensions):
                product += asked[t] * offered[t]
            price = affinity * (np.float32(16129) - product)
            for r in range(5):
                if price >= least:
                    break
                row = values[sy + r - 2, 5 * (sx - 2) : 5 * (sx - 2) + 25]
                part = np.float32(0)
                for t in range(25):
                    d = row[t] - mine[r, t]
                    part += share[r, t] * d * d
                price += part
            if price < least:
                least = price
                best = offer
        better[i] = best
        lower[i] = least


@compiled("contract")
def _vote(values, drawn, place, source, votes, cells, first, last):  # type: ignore[no-untyped-def]
    """Hole cells `first` to `last` of `cells`, to `drawn` (h, w * 5): means of what those around copy to there."""
    height, width = place.shape
    sums = np.zeros(5, np.float64)
    for i in range(first, last):
        y0, x0 = cells[i] // width, cells[i] % width
        sums[:] = 0
        total = 0.0
        for y in range(max(y0 - 2, 0), min(y0 + 3, height)):
            for x in range(max(x0 - 2, 0), min(x0 + 3, width)):
                n = place[y, x]
                if n < 0:
                    continue
                vote = votes[n]
                total += vote
                sy, sx = source[n] // width - (y - y0), source[n] % width - (x - x0)
                for t in range(5):
                    sums[t] += vote * values[sy, 5 * sx + t]
        for t in range(5):
            drawn[y0, 5 * x0 + t] = np.floor((2 * sums[t] + total) / (2 * total))
