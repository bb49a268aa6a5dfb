"""NeuralPatchMatch without a score matrix (3.3): which known cell every hole cell copies, found by PatchMatch.

The network draws a low band, one colour per cell of 4 x 4 low-resolution pixels, and gives each patch a query and a
key (Eq. 1). An arg-max over all pairs knows nothing of neighbours, and what it copies is a mosaic. Here every hole
cell looks for the place whose surroundings are most like its own, as they look once everything is copied, and whose
key suits its query: by propagation and random guesses (Barnes et al. 2009), some of them along rows and columns, as
most of what people build is level or upright, from coarse to fine, with votes in between (Wexler et al. 2007).

Every number that a choice depends on is an integer, held where sums are largest as a float32 below 2^24: the same
inputs give the same sources in any order of summation, on any number of threads, and in any language.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rethined import plain
from rethined.compiled import LANES, advance, compiled, dot, slide, tally, unlike

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Shorts = NDArray[np.int16]
Bytes = NDArray[np.int8]

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
LEAST_AFFINITY = 6
"""What it counts beside that: deep in holes, little else is certain."""
SEAM = 100
"""What it costs that one of the four neighbours does not go on with the same source, in units of UNIT^2 of affinity.
It keeps what is copied whole where surroundings say little; without it wide holes become mosaics of small tiles."""
REPEAT = 60
"""What it costs, in the units of SEAM, that another cell copies the same source, and again for each further one."""
OFTEN, FAIR, CROWD, MOST = 4, 8, 4, 8
"""Others that cost so: OFTEN. Of those beyond it, or beyond FAIR times as many as all sources would have if they were
copied alike, MOST cost CROWD times as much each. Else textures are made of one motif, and one sharp thing is strewn
over a hole in a blurred background; where little is known, all of it must be copied often."""
LEVELS = 3
"""Sizes at which holes are filled, each half of the one before."""
ROUNDS = 4
"""Searches at each level, with a vote after each but the last."""
JUMPS = ((8, 4, 2, 1), (2, 1), (1,), (1,))
"""In each round: how far away, in cells, the neighbours are whose sources are tried."""
GUESSES = (1, 2, 4)
"""By level, finest first: random places tried last, each within half the last one's distance."""
STRAIGHT, ALIKE = 12, 13
"""Numbers of further random draws of a step, after those of guesses: of a place in the cell's row and one in its
column, where what is level or upright goes on; and of another cell, to copy from as far away as it does."""
NARROW = 4
"""In every second step of a round the first of them is within that part of the distance."""
INHERITED = (3, 6)
"""By level: how deep in the hole, in cells, the coarser level has its say. Nearer to what is known, small cells and
the low band say more."""
DECISION = 8
"""How strongly votes prefer those whose surroundings fit: one of the mean cost counts 2^DECISION times less."""
NEARBY = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Where a source is looked for that a coarser level proposes, rows and columns."""

MARGIN = max(REACH, *(jump for jumps in JUMPS for jump in jumps))
"""Cells around every grid in which nothing is, so that neighbours are looked up without minding the border."""
GRAIN = 128
"""Cells that a thread takes at a time."""
REGIONS = 16
"""Regions that a thread takes at a time."""
TRUST = np.float32(0.005)
"""What the network's colours count, deep in the hole, beside one difference between neighbours."""
SMOOTH = np.float32(0.0012)
"""What squared differences of a source from its four neighbours add up to where the network's colours count half: 2.5
of 255 each. In a sky, what goes on smoothly from the hole's border is better than these: smudges are seen there."""
EDGE = np.float32(0.00032)
"""Square of the added up squared differences of colours from which on what neither of two sources shows, where they
meet, is an edge and no step in the light: 20 of 255 each. It is kept as far as the network shows half of it there."""
RELAXATION = np.float32(1.9)
"""Of the solver; between 1 and 2."""
SWEEPS = 30
"""Of the solver."""
NUDGE = 3
"""How far, in low-resolution pixels, a region may be moved to fit what is beside it. With half a cell of window, or a
cell that is compared, that stays within REACH cells of its source."""
NUDGES = 3
"""How often all regions are moved: first those beside known cells, by these alone."""
STAY = 600
"""What each pixel of a move costs beside one border of a cell, in squared sums of 8-bit R, G and B: regions without
structure stay where they are."""
FINE = 64
"""Parts of a low-resolution pixel in which moves are counted."""

Together = Callable[[Callable[[], object]], None]
"""Calls a function on several threads at once: see `Workers.together`."""

SEARCH, WEIGH, DRAW_DEEP, DRAW, COUNT = range(5)
"""What `_run` does in a phase."""


class Sources(NamedTuple):
    """What every hole cell copies."""

    cells: Ints
    """(R,) the hole cells, in reading order, as indices of the grid's cells."""
    source: Ints
    """(R,) for each, the cell it copies; all cells within REACH of that are known."""
    moves: Ints
    """(R, 2) for each, how far beside that it copies, down and to the right, in low-resolution pixels / FINE; at most
    NUDGE FINE."""
    depth: NDArray[np.uint8]
    """(h / CELL, w / CELL): city-block distance to the nearest known cell, 255 at most."""

    def place(self, scale: float) -> Ints:
        """(R, 2): where in the photo, of `scale` pixels to a low-resolution one, what each copies begins: row and
        column in pixels."""
        corner = np.stack(np.divmod(self.source, np.int32(self.depth.shape[1])), 1) * np.int32(CELL * scale)
        result: Ints = corner + (self.moves * np.int32(2 * scale) + np.int32(FINE)) // np.int32(2 * FINE)
        return result


class Level(NamedTuple):
    """The picture at one size, of h x w cells."""

    values: Shorts
    """(CHANNELS, h, w), 0 to WHITE; guesses in the hole."""
    depth: NDArray[np.uint8]
    """(h, w): city-block distance to the nearest known cell, 255 at most, and where none is known."""
    cells: int
    """Side of a patch in cells."""
    query: Bytes
    """(N, D) of the patches, in units of 1 / UNIT; after the last of a vector zeros, until D is one that is quickly
    multiplied."""
    key: Bytes
    """(N, D)"""


def find(small: Floats, holes: Floats, low: Floats, query: Floats, key: Floats, together: Together) -> Sources | None:
    """Sources of all hole cells; None if nowhere (2 REACH + 1)^2 cells are known, so that there is nothing to copy.

    `small` (3, h, w) in [0, 1] and `holes` (h, w), 1 = hole, from `Upscaler.shrink`; `low` (3, h / CELL, w / CELL),
    `query` and `key` (D, h / 2 CELL, w / 2 CELL) from the core.
    """
    found: Ints | None = None
    levels, grey = pyramid(small, holes, low, query, key, together)
    for number in reversed(range(LEVELS)):
        found = search(levels[number], number, found, together)
    if found is None:
        return None
    depth = levels[0].depth
    width = depth.shape[1]
    stride = width + 2 * MARGIN
    cells = np.flatnonzero(depth).astype(np.int32)
    y, x = np.divmod(cells, np.int32(width))
    place = (y + np.int32(MARGIN)) * np.int32(stride) + x + np.int32(MARGIN)
    y, x = np.divmod(place + found[place], np.int32(stride))
    source = (y - np.int32(MARGIN)) * np.int32(width) + x - np.int32(MARGIN)
    return Sources(cells, source, align(grey, depth, cells, source, together), depth)


def pyramid(
    small: Floats, holes: Floats, low: Floats, query: Floats, key: Floats, together: Together
) -> tuple[list[Level], Shorts]:
    """The picture at LEVELS sizes, finest first; holes have the low band's colours and the texture around. And the
    known cells' R + G + B, of white 765, in full low resolution (h, w)."""
    height, width = low.shape[1:]
    values, known = np.empty((CHANNELS, height, width), np.int16), np.empty((height, width), np.bool_)
    grey = np.empty(small.shape[1:], np.int16)
    length = -(-len(query) // (2 * LANES)) * 2 * LANES
    q, k = (np.zeros((*vectors.shape[1:], length), np.int8) for vectors in (query, key))
    describe, rows = _describe or plain.describe, iter(range(0, height, 8))  # a multiple of 8, as both sides are

    def take() -> None:
        for row in rows:
            describe(small, holes, low, query, key, values, known, grey, q, k, row, row + 8)

    together(take)
    (_surround or plain.surround)(values[3:], known)
    levels = []
    for number in range(LEVELS):
        if number:
            values, known = (_halve or plain.halve)(values, known)
        if number > 1:
            q, k = ((_pool or plain.pool)(vectors) for vectors in (q, k))
        side = len(known) // len(q)
        depth = (_depths or plain.depths)(known)
        levels.append(Level(values, depth, side, q.reshape(-1, q.shape[2]), k.reshape(-1, k.shape[2])))
    return levels, grey


@functools.cache
def schedule(number: int, top: bool) -> NDArray[np.int64]:
    """The phases of level `number`, coarsest (`top`) or not: what to do, jump, guesses, number of the step, whether
    costs are new."""
    phases: list[tuple[int, int, int, int, bool]] = []
    if not top:  # what is copied at the level above says more of the hole than the guess
        phases += [(SEARCH, 0, 0, 0, True), (WEIGH, 0, 0, 0, False), (DRAW_DEEP, 0, 0, 0, False)]
    for turn in range(ROUNDS):
        phases.append((COUNT, 0, 0, 0, False))
        for step, jump in enumerate(JUMPS[turn]):
            phases.append((SEARCH, jump, GUESSES[number], (number * 8 + turn) * 8 + step, step == 0))
        if turn < ROUNDS - 1:
            phases += [(WEIGH, 0, 0, 0, False), (DRAW, 0, 0, 0, False)]
    return np.asarray(phases, np.int64)


def crowding(targets: int, sources: int) -> Ints:
    """(N,): what it costs, in the units of SEAM, that so many others copy the same source; N or more as N - 1."""
    fair = max(OFTEN, FAIR * targets // sources)
    others = np.arange(fair + MOST + 1, dtype=np.int32)
    result: Ints = REPEAT * (others.clip(0, OFTEN) + CROWD * (others - np.int32(fair)).clip(0, MOST))
    return result


def search(level: Level, number: int, coarser: Ints | None, together: Together) -> Ints | None:
    """Shifts to the sources of the hole cells of one level, and of those beside them, 0 for others: flat, of a grid
    with a margin.

    None where no cell's surroundings are known, or there is no hole; `coarser` is what the level above returned.
    """
    height, width = level.depth.shape
    top = coarser is None
    grids, targets, drawn = (_prepare or plain.prepare)(
        *(level.values, level.depth, level.cells, number),
        *(np.empty(0, np.int32) if coarser is None else coarser, 256 if top else INHERITED[number]),
    )
    if not len(targets[0]):
        return None
    phases = schedule(number, top)
    radius = max(height, width) // (1 if top else 4)
    repeats = crowding(len(targets[0]), int(np.count_nonzero(grids[2] >= 0)))
    arguments = (
        *(*grids, level.query, level.key, *targets, *drawn),
        *(height, width, width + 2 * MARGIN, radius, SEAM, repeats, DECISION, GRAIN),
    )
    if _run is None:
        plain.run(phases, *arguments)
    else:
        run, progress = _run, np.zeros((2, len(phases)), np.int64)
        together(lambda: run(phases, progress, *arguments))
    found: Ints = grids[3][np.count_nonzero(phases[:, 0] == SEARCH) % 2]
    return found


def align(grey: Shorts, depth: NDArray[np.uint8], cells: Ints, source: Ints, together: Together) -> Ints:
    """How regions are moved so that what they copy continues what is beside them: `Sources.moves`.

    Sources are found by the cell, which is 4 low-resolution pixels; a roof's edge is seen to break at less. A region,
    hole cells side by side that copy with one shift, moves as a whole, as far as its border asks: of all moves of at
    most NUDGE pixels the one is taken with which what the region's source has beyond the border differs least from
    what lies there (sum of squares over the cells on the other side), then refined by the parabola through the
    neighbouring moves. All regions move at once, by what lies there after the move before.

    `grey` (h, w) from `pyramid`; the others as in `Sources`.
    """
    shift = np.zeros(depth.size, np.int32)  # never 0 in the hole, and 0 elsewhere
    shift[cells] = source - cells
    region, beyond, first, own = (_regions or plain.regions)(shift, cells, depth.shape[1])
    count = len(own)
    moves, fine = np.zeros((NUDGES + 1, count, 2), np.int32), np.zeros((count, 2), np.int32)
    costs = np.zeros((count, 2 * NUDGE + 1, 2 * NUDGE + 1), np.int64)
    arguments = (grey, shift, depth.shape[1], region, beyond, first, own, moves, costs, fine, STAY)
    if _settle is None:
        for turn in range(NUDGES):
            plain.nudge(*arguments, turn, 0, count)
    else:
        settle, progress = _settle, np.zeros((2, NUDGES), np.int64)
        together(lambda: settle(progress, *arguments, REGIONS))
    result: Ints = (moves[NUDGES] * np.int32(FINE) + fine)[region[cells]]
    return result


def correction(low: Floats, sources: Sources, place: Ints, scale: float) -> Floats:
    """What copied cells lack, (h, w, 3), of a low band in which what is copied from different places joins: in the
    hole as `low` (3, h, w), from the core, says, outside 0. `place` is what `sources.place(scale)` says.

    That band u has at best the differences between neighbours p, q that the copies have, and the network's colours:
    it is the least sum over pairs of (u_q - u_p - g_pq)^2, with u = `low` in known cells, plus that over hole cells
    of t_p (u_p - low_p)^2 (a screened Poisson equation, after Perez et al. 2003); g_pq is the difference in the
    source of p, averaged with that in the source of q, or where a wall is copied beside a sky, so that neither has an
    edge, as far as the network shows one, that of what they copy. The network is trusted (t) most beside known cells,
    whose colours it sees; far from them it guesses; and less, the smoother the source of p is.
    """
    begin = place.astype(np.float32) / np.float32(CELL * scale)
    meld = _meld or plain.meld
    result: Floats = meld(low, sources.cells, begin, sources.depth, TRUST, SMOOTH, EDGE, RELAXATION, SWEEPS)
    return result


@compiled()
def _row_and_column(cell, width):  # type: ignore[no-untyped-def]
    """Where a cell is in a grid of `width`, by uint32, which is divided in half the time of int64."""
    cell, width = np.uint32(cell), np.uint32(width)
    return np.int64(cell // width), np.int64(cell % width)


@compiled()
def _regions(shift, cells, width):  # type: ignore[no-untyped-def]
    """Which region each of the grid's cells is in, -1 for known ones; for all regions in turn the cells beyond their
    borders, once for each side; where each region's begin in that list; and its shift.

    `shift` of every cell, 0 where known; `cells` the others, in reading order, of a grid of `width`.
    """
    root = np.arange(len(shift), dtype=np.int32)
    for i in range(len(cells)):
        edge = _row_and_column(cells[i], width)[1] == 0
        for step in (width, 1):
            before = cells[i] - step
            if before < 0 or (step == 1 and edge) or shift[before] != shift[cells[i]]:
                continue
            a, b = np.int64(before), np.int64(cells[i])
            while root[a] != a:
                a = root[a]
            while root[b] != b:
                b = root[b]
            root[max(a, b)] = min(a, b)
    region = np.full(len(shift), -1, np.int32)
    own = np.empty(len(cells), np.int32)
    count = 0
    for i in range(len(cells)):  # the root is the first of its region's cells
        a = np.int64(cells[i])
        while root[a] != a:
            a = root[a]
        if a == cells[i]:
            region[a] = count
            own[count] = shift[a]
            count += 1
        region[cells[i]] = region[a]
    first = np.zeros(count + 1, np.int64)
    beyond = np.empty(4 * len(cells), np.int32)
    for turn in range(2):  # counted, then listed
        for i in range(len(cells)):
            here = region[cells[i]]
            x = _row_and_column(cells[i], width)[1]
            for n in range(4):
                dx = -1 if n == 1 else 1 if n == 2 else 0
                q = cells[i] + dx + (-width if n == 0 else width if n == 3 else 0)
                if not (0 <= q < len(shift) and 0 <= x + dx < width) or region[q] == here:
                    continue
                if turn:
                    beyond[first[here]] = q
                    first[here] += 1
                else:
                    first[here + 1] += 1
        if turn:
            for r in range(count, 0, -1):
                first[r] = first[r - 1]
            first[0] = 0
        else:
            for r in range(count):
                first[r + 1] += first[r]
    return region, beyond[: first[count]], first, own[:count]


@compiled()
def _nudge(  # type: ignore[no-untyped-def]
    grey, shift, width, region, beyond, first, own, moves, costs, fine, stay, turn, start, stop
):
    """Move regions `start` to `stop` from `moves[turn]` to `moves[turn + 1]`, and what of a pixel is left to `fine`,
    by `align`.

    `grey` (h, w); `shift` of all cells, of a grid of `width`; `region`, `beyond`, `first` and `own` from
    `_regions`. In turn 0 only known cells count, and what they say is kept in `costs`.
    """
    before, after = moves[turn], moves[turn + 1]
    reach, side = NUDGE, 2 * NUDGE + 1
    sums = np.empty(8 * side, np.int64)
    offers = sums.reshape((side, 8))
    pixels = np.int64(grey.shape[1])
    for r in range(start, stop):
        if turn > 1:  # where nothing around has moved since the last turn, neither does this
            still = True
            for n in range(first[r], first[r + 1]):
                other = region[beyond[n]]
                if other >= 0:
                    still &= (before[other, 0] == moves[turn - 1, other, 0]) & (
                        before[other, 1] == moves[turn - 1, other, 1]
                    )
            if still:
                after[r, 0], after[r, 1] = before[r, 0], before[r, 1]
                continue
        sums[:] = 0
        for a in range(side):
            for b in range(side):
                away = stay * (first[r + 1] - first[r]) * (abs(a - reach) + abs(b - reach))
                offers[a, b] = costs[r, a, b] if turn else away
        for n in range(first[r], first[r + 1]):
            q = np.int64(beyond[n])
            if (shift[q] == 0) != (turn == 0):
                continue
            row, column = _row_and_column(q + own[r], width)  # what the region's source has where q is
            top, left = CELL * row - reach, CELL * column - reach
            row, column = _row_and_column(q + shift[q], width)
            y, x = CELL * row, CELL * column
            if turn:
                y, x = y + before[region[q], 0], x + before[region[q], 1]
            slide(grey, top * pixels + left, y * pixels + x, pixels, sums)
        down, across = before[r, 0] + reach, before[r, 1] + reach
        least = offers[down, across]
        for a in range(side):
            for b in range(side):
                if turn == 0:
                    costs[r, a, b] = offers[a, b]
                if offers[a, b] < least:
                    least, down, across = offers[a, b], a, b
        after[r, 0], after[r, 1] = down - reach, across - reach
        fine[r, 0] = fine[r, 1] = 0
        if 0 < down < side - 1:
            above, below = offers[down - 1, across] - least, offers[down + 1, across] - least
            if above > 0 and below > 0:
                fine[r, 0] = (above - below) * (FINE // 2) // (above + below)
        if 0 < across < side - 1:
            above, below = offers[down, across - 1] - least, offers[down, across + 1] - least
            if above > 0 and below > 0:
                fine[r, 1] = (above - below) * (FINE // 2) // (above + below)


@compiled()
def _settle(  # type: ignore[no-untyped-def]
    progress, grey, shift, width, region, beyond, first, own, moves, costs, fine, stay, grain
):
    """All turns of `_nudge`, shared by threads as the phases of `_run` are. `progress` (2, turns), zeros."""
    begun, done, count = progress[0], progress[1], len(own)
    for turn in range(progress.shape[1]):
        while True:
            start = grain * advance(begun, turn, 1)
            if start >= count:
                break
            stop = min(start + grain, count)
            _nudge(grey, shift, width, region, beyond, first, own, moves, costs, fine, stay, turn, start, stop)
            advance(done, turn, 1)
        while grain * advance(done, turn, 0) < count:
            pass


@compiled()
def _sample(colours, y, x):  # type: ignore[no-untyped-def]
    """`colours` (h, w, 3) at row `y` and column `x`, which are inside, interpolated bilinearly."""
    top, left = np.int64(y), np.int64(x)
    f, g = y - np.float32(top), x - np.float32(left)
    bottom, right = min(top + 1, colours.shape[0] - 1), min(left + 1, colours.shape[1] - 1)
    one, half, last = np.float32(1), (np.float32(1) - g) * (np.float32(1) - f), g * f
    right_share, bottom_share = g * (one - f), (one - g) * f
    a, b, c, d = colours[top, left], colours[top, right], colours[bottom, left], colours[bottom, right]
    return (
        a[0] * half + b[0] * right_share + c[0] * bottom_share + d[0] * last,
        a[1] * half + b[1] * right_share + c[1] * bottom_share + d[1] * last,
        a[2] * half + b[2] * right_share + c[2] * bottom_share + d[2] * last,
    )


@compiled()
def _meld(low, cells, place, depth, trust, smooth, edge, relaxation, sweeps):  # type: ignore[no-untyped-def]
    """What `correction` returns: its equation is solved by successive over-relaxation, in each sweep first for the
    `cells` (R,) of which row plus column is even, then for the others.

    `low` (3, h, w); `place` (R, 2), in cells, where what each copies begins; `depth` (h, w); `trust` of the deepest;
    `smooth` and `edge` as SMOOTH and EDGE.
    All is rounded in the order that `plain.meld` and every other program keeps: results are the same everywhere.
    """
    h, w = depth.shape
    joined = np.zeros((h + 2, w + 2, 3), np.float32)  # with a margin of zeros
    colours = np.empty((h, w, 3), np.float32)
    for y in range(h):
        for c in range(3):
            for x in range(w):
                colours[y, x, c] = joined[y + 1, x + 1, c] = low[c, y, x]
    flat = joined.reshape(-1, 3)
    order = np.empty(len(cells), np.int64)
    number = np.full(h * w, -1, np.int32)  # of each cell in `order`
    even, odd = 0, 0
    for i in range(len(cells)):
        y, x = _row_and_column(cells[i], w)
        even += (y + x) % 2 == 0
    half, even = even, 0
    for i in range(len(cells)):
        y, x = _row_and_column(cells[i], w)
        if (y + x) % 2 == 0:
            at, even = even, even + 1
        else:
            at, odd = half + odd, odd + 1
        order[at] = i
        number[cells[i]] = at
    target = np.empty(len(cells), np.int64)
    copied = np.empty((len(cells), 3), np.float32)
    wanted = np.zeros((len(cells), 3), np.float32)  # what neighbours and trust add up to, but for u itself
    share = np.empty(len(cells), np.float32)
    steps, jump = np.empty((2, 3), np.float32)
    for i in range(len(cells)):
        own = place[order[i]]
        copied[i, 0], copied[i, 1], copied[i, 2] = _sample(colours, own[0], own[1])
    for i in range(len(cells)):
        own, cell = place[order[i]], cells[order[i]]
        y, x = _row_and_column(cell, w)
        target[i] = (y + 1) * (w + 2) + x + 1
        near = min(max((np.float32(4) - np.float32(depth[y, x])) / np.float32(2.5), np.float32(0)), np.float32(1))
        rough, count = np.float32(0), np.float32(0)
        for n in range(4):
            dy = -1 if n == 0 else 1 if n == 3 else 0
            dx = -1 if n == 1 else 1 if n == 2 else 0
            qy, qx = y + dy, x + dx
            if not (0 <= qy < h and 0 <= qx < w):
                continue
            count += np.float32(1)
            down, across = np.float32(dy), np.float32(dx)
            ahead, beside = own[0] + down, own[1] + across
            # u_p - u_q as the source of p has it, and as that of q has it; a known cell is its own source.
            q = number[qy * w + qx]
            other = place[order[max(q, 0)]]
            on = q >= 0 and (  # both copy on from one place to the next
                (ahead == other[0]) & (beside == other[1]) & (ahead - down == own[0]) & (beside - across == own[1])
            )
            onward = (copied[q, 0], copied[q, 1], copied[q, 2]) if on else _sample(colours, ahead, beside)
            for c in range(3):
                steps[c] = copied[i, c] - onward[c]
            rough += steps[0] * steps[0] + steps[1] * steps[1] + steps[2] * steps[2]
            if q >= 0 and not on:
                back = _sample(colours, other[0] - down, other[1] - across)
                here = colours[min(max(y - 2 * dy, 0), h - 1), min(max(x - 2 * dx, 0), w - 1)]
                there = colours[min(max(qy + 2 * dy, 0), h - 1), min(max(qx + 2 * dx, 0), w - 1)]
                size, seen = np.float32(0), np.float32(0)
                for c in range(3):
                    steps[c] = (steps[c] + (back[c] - copied[q, c])) * np.float32(0.5)
                    jump[c] = (copied[i, c] - copied[q, c]) - steps[c]
                    size += jump[c] * jump[c]
                    seen += (here[c] - there[c]) * jump[c]
                part = min(max(np.float32(2) * seen, np.float32(0)), size) * size / (size * size + edge)
                for c in range(3):
                    steps[c] += part * jump[c]
            for c in range(3):
                wanted[i, c] += steps[c]
        trusted = (np.float32(4) * (near * near) + trust) * (rough / (rough + smooth))
        for c in range(3):
            wanted[i, c] += trusted * colours[y, x, c]
        share[i] = relaxation / (trusted + count)
    rest = np.float32(1) - relaxation
    for _ in range(sweeps):
        for i in range(len(cells)):
            p = np.uintp(target[i])
            above, below = np.uintp(target[i] - w - 2), np.uintp(target[i] + w + 2)
            before, after = np.uintp(target[i] - 1), np.uintp(target[i] + 1)
            for c in range(3):
                around = flat[above, c] + flat[before, c] + flat[after, c] + flat[below, c]
                flat[p, c] = rest * flat[p, c] + share[i] * (wanted[i, c] + around)
    lacking = np.zeros((h * w, 3), np.float32)
    for i in range(len(cells)):
        for c in range(3):
            lacking[cells[order[i]], c] = flat[target[i], c] - copied[i, c]
    return lacking.reshape((h, w, 3))


@compiled()
def _describe(small, holes, low, query, key, values, known, grey, q, k, first, last):  # type: ignore[no-untyped-def]
    """What `pyramid` compares of the cells of rows `first` to `last`: to `values` (CHANNELS, h, w), in the hole the
    colours of `low` and no texture; whether they are wholly known, to `known` (h, w); if so, their pixels to `grey`,
    else 0; and `query` and `key` (D, h / 2, w / 2) to `q` and `k` (h / 2, w / 2, D).

    A row at a time and column by column, which fills vector registers; sums are of a cell's pixels in reading order.
    """
    half, white, unit = np.float32(0.5), np.float32(WHITE), np.float32(UNIT)
    colour, difference = np.float32(WHITE / 16), np.float32(WHITE * TEXTURE / 36)
    width = known.shape[1]
    rounded = np.empty((len(query), width // 2), np.int8)
    for y in range(first // 2, last // 2):
        for vectors, to in ((query, q), (key, k)):
            for d in range(len(query)):
                line, row = vectors[d, y], rounded[d]
                for x in range(len(row)):
                    row[x] = np.int8(np.rint(line[x] * unit))
            for x in range(width // 2):
                for d in range(len(query)):
                    to[y, x, d] = rounded[d, x]
    bright = np.empty((4, 4 * width), np.float32)
    sums, whole = np.empty((CHANNELS, width), np.float32), np.empty(width, np.bool_)
    for cy in range(first, last):
        sums[:] = 0
        whole[:] = True
        for v in range(4):
            red, green, blue, line = small[0, 4 * cy + v], small[1, 4 * cy + v], small[2, 4 * cy + v], bright[v]
            for x in range(4 * width):
                line[x] = red[x] + green[x] + blue[x]
        for v in range(4):
            hole = holes[4 * cy + v]
            for cx in range(width):
                at = np.uintp(4 * cx)
                whole[cx] &= (hole[at] == 0) & (hole[at + 1] == 0) & (hole[at + 2] == 0) & (hole[at + 3] == 0)
            for c in range(3):
                line, total = small[c, 4 * cy + v], sums[c]
                for cx in range(width):
                    at = np.uintp(4 * cx)
                    total[cx] = total[cx] + line[at] + line[at + 1] + line[at + 2] + line[at + 3]
            line, across, down = bright[v], sums[3], sums[4]
            for cx in range(width):
                at = np.uintp(4 * cx)
                a, b, c, d = line[at], line[at + 1], line[at + 2], line[at + 3]
                across[cx] = across[cx] + abs(a - b) + abs(b - c) + abs(c - d)
            if v < 3:
                below = bright[v + 1]
                for cx in range(width):
                    at = np.uintp(4 * cx)
                    a, b = abs(line[at] - below[at]), abs(line[at + 1] - below[at + 1])
                    c, d = abs(line[at + 2] - below[at + 2]), abs(line[at + 3] - below[at + 3])
                    down[cx] = down[cx] + a + b + c + d
        for v in range(4):
            line, pixels = bright[v], grey[4 * cy + v]
            for cx in range(width):
                for u in range(4):
                    at = np.uintp(4 * cx + u)
                    pixels[at] = np.int16(np.floor(line[at] * np.float32(255) + half)) * whole[cx]
        for cx in range(width):  # to assign arrays here takes numba 2 seconds more, once, for messages nobody sees
            known[cy, cx] = whole[cx]
        for c in range(3):
            guess, total, to = low[c, cy], sums[c], values[c, cy]
            for cx in range(width):
                value = total[cx] * colour if whole[cx] else min(max(guess[cx], np.float32(0)), np.float32(1)) * white
                to[cx] = np.int16(np.floor(value + half))
        for c in range(3, 5):
            total, to = sums[c], values[c, cy]
            for cx in range(width):
                to[cx] = np.int16(min(white, np.floor(total[cx] * difference + half))) * whole[cx]


@compiled()
def _surround(values, known):  # type: ignore[no-untyped-def]
    """To cells of `values` (2, h, w) that are not `known` the mean of the smallest block of 2^n x 2^n cells around
    that knows any, rounded; where none does they stay."""
    height, width = known.shape
    levels = 0
    while (max(height, width) - 1) >> levels:
        levels += 1
    # The sums of all blocks, one size after the other; after those of the values, how many cells are known.
    starts = np.zeros(levels + 2, np.int64)
    for n in range(levels + 1):
        starts[n + 1] = starts[n] + (((height - 1) >> n) + 1) * (((width - 1) >> n) + 1)
    sums = np.empty((starts[levels + 1], 3), np.int32)
    for y in range(height):
        for x in range(width):
            some = np.int32(known[y, x])
            at = y * width + x
            sums[at, 0], sums[at, 1], sums[at, 2] = values[0, y, x] * some, values[1, y, x] * some, some
    for n in range(1, levels + 1):
        rows, columns = ((height - 1) >> (n - 1)) + 1, ((width - 1) >> (n - 1)) + 1
        at = starts[n]
        for y in range(0, rows, 2):
            for x in range(0, columns, 2):
                a = b = c = np.int32(0)
                for v in range(y, min(y + 2, rows)):
                    for u in range(x, min(x + 2, columns)):
                        part = starts[n - 1] + v * columns + u
                        a, b, c = a + sums[part, 0], b + sums[part, 1], c + sums[part, 2]
                sums[at, 0], sums[at, 1], sums[at, 2] = a, b, c
                at += 1
    for y in range(height):
        for x in range(width):
            if known[y, x]:
                continue
            for n in range(1, levels + 1):
                at = starts[n] + (y >> n) * (((width - 1) >> n) + 1) + (x >> n)
                count = sums[at, 2]
                if count:
                    values[0, y, x] = np.uint32(2 * sums[at, 0] + count) // np.uint32(2 * count)
                    values[1, y, x] = np.uint32(2 * sums[at, 1] + count) // np.uint32(2 * count)
                    break


@compiled()
def _halve(values, known):  # type: ignore[no-untyped-def]
    """`values` (C, h, w) at half the size, rounded means of four, and where all four are `known`; sides are even."""
    channels, height, width = values.shape
    halved = np.empty((channels, height // 2, width // 2), np.int16)
    whole = np.empty((height // 2, width // 2), np.bool_)
    for y in range(height // 2):
        above, below = 2 * y, 2 * y + 1
        for x in range(width // 2):
            whole[y, x] = (
                known[above, 2 * x] & known[above, 2 * x + 1] & known[below, 2 * x] & known[below, 2 * x + 1]
            )
        for c in range(channels):
            for x in range(width // 2):
                upper = values[c, above, 2 * x] + values[c, above, 2 * x + 1]
                lower = values[c, below, 2 * x] + values[c, below, 2 * x + 1]
                halved[c, y, x] = (upper + lower + 2) >> 2
    return halved, whole


@compiled()
def _pool(vectors):  # type: ignore[no-untyped-def]
    """Rounded means of 2 x 2 of `vectors` (h, w, D); sides are even."""
    height, width, length = vectors.shape
    result = np.empty((height // 2, width // 2, length), np.int8)
    for y in range(height // 2):
        for x in range(width // 2):
            for d in range(length):
                upper = np.int16(vectors[2 * y, 2 * x, d]) + np.int16(vectors[2 * y, 2 * x + 1, d])
                lower = np.int16(vectors[2 * y + 1, 2 * x, d]) + np.int16(vectors[2 * y + 1, 2 * x + 1, d])
                result[y, x, d] = (upper + lower + 2) >> 2
    return result


@compiled()
def _depths(known):  # type: ignore[no-untyped-def]
    """City-block distance of every cell to the nearest `known` one, at most 255; where none is known, 255."""
    height, width = known.shape
    result = np.empty((height, width), np.uint8)
    for y in range(height):  # from above and from the left
        last = np.int32(255)
        for x in range(width):
            above = np.int32(result[y - 1, x]) if y else np.int32(255)
            last = np.int32(0) if known[y, x] else min(above, last, np.int32(254)) + np.int32(1)
            result[y, x] = last
    for y in range(height - 1, -1, -1):  # from below and from the right
        last = np.int32(255)
        for x in range(width - 1, -1, -1):
            here = np.int32(result[y, x])
            if here:
                below = np.int32(result[y + 1, x]) if y < height - 1 else np.int32(255)
                here = min(here, min(below, last) + np.int32(1))
                result[y, x] = here
            last = here
    return result


@compiled()
def _pseudo_random(cell, number):  # type: ignore[no-untyped-def]
    """`plain.pseudo_random` of one cell, as uint32, which is divided in half the time of int64."""
    x = np.uint32((cell * 7919 + number * 104729 + 12345) % 65521)
    return x * np.uint32(17364) % np.uint32(65521), x * np.uint32(31337) % np.uint32(65521)


@compiled()
def _prepare(values, depth, side, number, coarser, inherits):  # type: ignore[no-untyped-def]
    """What `_run` needs of a level: grids with a margin, flat, in which cells are places and sources are shifts;
    of every target its place, cell, patch, affinity and cost; and the places of deep hole cells, and of all.

    `values` (CHANNELS, h, w), `depth` (h, w) and `side`, of a patch, as in `Level`; `coarser` is what `search` of the
    level above returned, or empty; cells of depth `inherits` begin with its sources, others with random ones. Where
    there are no sources or no holes there are no targets.
    """
    height, width = depth.shape
    stride = width + 2 * MARGIN
    size = (height + 2 * MARGIN) * stride
    picture = np.zeros((2, CHANNELS * size), np.int16)
    weights = np.zeros(CHANNELS * size, np.int16)
    patch = np.full(size, -1, np.int32)
    shift, votes, uses = np.zeros((2, size), np.int32), np.zeros(size, np.int32), np.zeros(size, np.int32)
    counts, compared = np.zeros(size, np.int16), np.zeros(size, np.int16)
    for y in range(height):
        begin = (y + MARGIN) * stride + MARGIN
        for x in range(width):
            count = np.int16(WEIGHTS[min(depth[y, x], len(WEIGHTS) - 1)])
            counts[begin + x] = count
            for c in range(CHANNELS):
                weights[CHANNELS * (begin + x) + c] = count
                picture[0, CHANNELS * (begin + x) + c] = values[c, y, x]
    for n in range(len(weights)):  # as in `_describe`
        picture[1, n] = picture[0, n]
    # What is compared: sums over surroundings, first of columns.
    column = np.empty(stride, np.int16)
    for y in range(MARGIN, height + MARGIN):
        column[:] = 0
        for dy in range(-REACH, REACH + 1):
            line = counts[(y + dy) * stride : (y + dy + 1) * stride]
            for x in range(stride):
                column[x] += line[x]
        line = compared[y * stride + REACH : (y + 1) * stride - REACH]
        for x in range(len(line)):
            line[x] = column[x] + column[x + 1] + column[x + 2] + column[x + 3] + column[x + 4]
    whole = WEIGHTS[0] * (2 * REACH + 1) ** 2
    choices, places = np.empty(height * width, np.int64), np.empty(height * width, np.int64)
    cells, asked = np.empty(height * width, np.int64), np.empty(height * width, np.int32)
    affinity = np.empty(height * width, np.int32)
    deep, holes = np.empty(height * width, np.int64), np.empty(height * width, np.int64)
    valid = near = low = inside = 0
    aside = np.empty(width, np.int32)
    for x in range(width):
        aside[x] = x // side
    for y in range(height):
        upper = np.int32((y // side) * (width // side))
        for x in range(width):
            here = (y + MARGIN) * stride + x + MARGIN
            own = upper + aside[x]
            if compared[here] == whole:  # so that it is no target
                patch[here] = own
                choices[valid] = here
                valid += 1
                continue
            hole = False
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    hole |= 0 < counts[here + dy * stride + dx] < WEIGHTS[0]
            if not hole:
                continue
            places[near], cells[near], asked[near] = here, y * width + x, own
            affinity[near] = (np.int32(compared[here]) * AFFINITY + 8) // 16 + LEAST_AFFINITY
            near += 1
            if depth[y, x]:
                holes[inside] = here
                inside += 1
                if depth[y, x] >= inherits:
                    deep[low] = here
                    low += 1
    if not valid:
        near = 0
    across = (width >> 1) + 2 * MARGIN
    for i in range(near):
        here = places[i]
        y, x = _row_and_column(cells[i], width)
        source = np.int64(0)
        if len(coarser) and depth[y, x] >= inherits:
            above = ((y >> 1) + MARGIN) * across + (x >> 1) + MARGIN
            if coarser[above]:
                above += coarser[above]
                sy, sx = 2 * (above // across - MARGIN) + (y & 1), 2 * (above % across - MARGIN) + (x & 1)
                for dy, dx in NEARBY:
                    there = (sy + dy + MARGIN) * stride + sx + dx + MARGIN
                    if not source and patch[there] >= 0:
                        source = there
        if not source:
            source = choices[np.int64(_pseudo_random(cells[i], 64 * 64 + number)[0]) * valid // 65521]
        shift[0, here] = shift[1, here] = source - here
    return (
        (picture, weights, patch, shift, votes, uses),
        (places[:near], cells[:near], asked[:near], affinity[:near], np.zeros(near, np.int32)),
        (deep[:low], holes[:inside]),
    )


@compiled()
def _improve(  # type: ignore[no-untyped-def]
    values,
    weights,
    patch,
    uses,
    query,
    key,
    places,
    cells,
    asked,
    affinity,
    shift,
    better,
    cost,
    height,
    width,
    stride,
    jump,
    guesses,
    radius,
    seam,
    repeats,
    counter,
    fresh,
    first,
    last,
):
    """One step of the search for targets `first` to `last`: of their own source, the neighbours' at `jump` cells, one
    in the target's row, one in its column, one as far away as another target's, and `guesses` others within `radius`,
    the cheapest, to `better`, and what it costs but for seams and repeats, to `cost`.

    All read `shift` of the step before, so that their order does not matter; `fresh`: what it costs is not known. A
    jump of 0 only finds that. Grids have a margin, rows of `stride` cells, and are flat: `values` and `weights` (with
    CHANNELS numbers a cell), `patch` (-1 where not valid), `uses` (how many targets copy a cell), `shift` and
    `better`. In the order of targets: `places` in such grids, `cells` in that of height x width, `asked` (their
    patch), `affinity` and `cost`. `repeats` is from `crowding`.
    """
    margin = np.int64(stride - width) // 2
    line = np.int64(5 * stride)
    length, most = np.int64(query.shape[1]), np.int64(len(repeats) - 1)
    offers = np.empty(12, np.int64)
    moves_y, moves_x = np.empty(guesses, np.int64), np.empty(guesses, np.int64)
    for i in range(first, last):
        here = np.int64(places[i])
        mine = 5 * (here - 2 * stride - 2)
        asking = np.int64(asked[i]) * length
        best = np.int64(shift[here])
        left, right = np.int64(shift[here - 1]), np.int64(shift[here + 1])
        above, below = np.int64(shift[here - stride]), np.int64(shift[here + stride])
        dear = np.int32(affinity[i] * seam)
        alone = 4 - (best == left) - (best == right) - (best == above) - (best == below)
        own = best
        others = min(max(uses[np.uintp(here + own)] - 1, 0), most)
        bare, least = cost[i], np.int32(cost[i] + dear * alone + affinity[i] * repeats[np.uintp(others)])
        # Which branches are taken cannot be foreseen, and that costs more than what they spare: first all offers.
        count = 0
        if fresh:
            bare = least = np.int32(2**31 - 1)
            offers[0] = best
            count = 1
        if jump:
            for n in range(9):
                offer = np.int64(shift[np.uintp(here + ((n // 3 - 1) * stride + n % 3 - 1) * jump)])
                offers[count] = offer
                count += (offer != best) & (patch[np.uintp(here + offer)] >= 0)
            across, down = _pseudo_random(cells[i], counter * 16 + STRAIGHT)
            column = np.int64(np.uint32(here) % np.uint32(stride)) - margin
            along = np.int64(across % np.uint32(width)) - column
            upright = (np.int64(down % np.uint32(height)) + margin) * stride + margin + column - here
            number = np.int64(_pseudo_random(cells[i], counter * 16 + ALIKE)[0]) * len(places) // 65521
            other = np.int64(places[np.uintp(number)])
            alike = np.int64(shift[np.uintp(other)])
            moved = np.int64(np.uint32(other + alike) % np.uint32(stride)) - np.int64(
                np.uint32(other) % np.uint32(stride)
            )
            inside = (column + moved >= 0) & (column + moved < width)  # above and below there is a margin
            inside &= (here + alike >= 0) & (here + alike < len(patch))
            for offer in (along, upright, alike * inside):  # not valid where it is 0
                offers[count] = offer
                count += (offer != best) & (patch[np.uintp(here + offer)] >= 0)
        reach = max(1, radius // NARROW) if counter % 2 else radius
        for n in range(guesses):
            down, across = _pseudo_random(cells[i], counter * 16 + n)
            span = np.uint32(2 * reach + 1)
            moves_y[n], moves_x[n] = np.int64(down % span) - reach, np.int64(across % span) - reach
            reach = max(1, reach // 2)
        y = x = np.int64(-1)
        for candidate in range(count + guesses):
            if candidate < count:
                offer = offers[candidate]
            else:
                if y < 0:
                    there = np.uint32(here + best)
                    y, x = np.int64(there // np.uint32(stride)) - margin, np.int64(there % np.uint32(stride)) - margin
                down, across = moves_y[candidate - count], moves_x[candidate - count]
                inside = (y + down >= 0) & (x + across >= 0) & (y + down < height) & (x + across < width)
                offer = best + (down * stride + across) * inside
                if (offer == best) | (patch[np.uintp(here + offer)] < 0):
                    continue
            answering = np.int64(patch[np.uintp(here + offer)]) * length
            product = dot(query, asking, key, answering)
            for t in range(2 * LANES, length, 2 * LANES):
                product = np.int32(product + dot(query, asking + t, key, answering + t))
            alone = 4 - (offer == left) - (offer == right) - (offer == above) - (offer == below)
            others = min(max(uses[np.uintp(here + offer)] - (offer == own), 0), most)
            apart = np.int32(dear * alone + affinity[i] * repeats[np.uintp(others)])
            price = np.int32(affinity[i] * max(np.int32(16129) - product, np.int32(0)) + apart)
            if price >= least:
                continue
            price = np.int32(price + unlike(values, weights, mine + 5 * offer, mine, line))
            if price < least:
                least, bare = price, np.int32(price - apart)
                best = offer
                y = np.int64(-1)
        better[here] = best
        cost[i] = bare


@compiled()
def _vote(values, drawn, shift, votes, places, stride, first, last):  # type: ignore[no-untyped-def]
    """Hole cells `first` to `last` of `places`, to `drawn`: means of what those around copy to there, rounded.

    Grids as in `_improve`; `votes` is how much what a cell copies counts, 0 for those that copy nothing.
    """
    for i in range(first, last):
        here = np.int64(places[i])
        a, b, c, d, e, total = tally(values, shift, votes, here, stride)
        for t, summed in enumerate((a, b, c, d, e)):
            drawn[5 * here + t] = np.int16(np.float64(np.int32(2) * summed + total) / np.float64(np.int32(2) * total))


@compiled()
def _run(  # type: ignore[no-untyped-def]
    schedule,
    progress,
    values,
    weights,
    patch,
    shift,
    votes,
    uses,
    query,
    key,
    places,
    cells,
    asked,
    affinity,
    cost,
    deep,
    holes,
    height,
    width,
    stride,
    radius,
    seam,
    repeats,
    decision,
    grain,
):
    """All phases of a level. Several threads may run it at once with the same arguments: they share the parts of each
    phase, and begin the next when all of this one's are done; none waits for a thread that has taken no part.

    `schedule` (N, 5): what to do, then `jump`, `guesses`, `counter` and `fresh` of `_improve`. `progress` (2, N),
    zeros. `values` (2, ...) and `shift` (2, ...) are read and written in turn: at the start both hold the same.
    """
    begun, done = progress[0], progress[1]
    now = drawn = 0
    for phase in range(len(schedule)):
        what, jump, guesses, counter, fresh = schedule[phase]
        count = len(deep) if what == DRAW_DEEP else len(holes) if what == DRAW else len(places)
        if what == COUNT:  # by one thread
            count = 1
        while True:
            first = grain * advance(begun, phase, 1)
            if first >= count:
                break
            last = min(first + grain, count)
            if what == SEARCH:
                _improve(
                    values[drawn],
                    weights,
                    patch,
                    uses,
                    query,
                    key,
                    places,
                    cells,
                    asked,
                    affinity,
                    shift[now],
                    shift[1 - now],
                    cost,
                    height,
                    width,
                    stride,
                    jump,
                    guesses,
                    radius,
                    seam,
                    repeats,
                    counter,
                    fresh,
                    first,
                    last,
                )
            elif what == COUNT:
                uses[:] = 0
                for i in range(len(places)):
                    uses[places[i] + shift[now, places[i]]] += 1
            elif what == WEIGH:
                mean = max(1, cost.sum() // len(cost))
                for i in range(first, last):
                    votes[places[i]] = 1 << (16 - min(16, np.int64(cost[i]) * decision // mean))
            else:
                chosen = deep if what == DRAW_DEEP else holes
                _vote(values[drawn], values[1 - drawn], shift[now], votes, chosen, stride, first, last)
            advance(done, phase, 1)
        while grain * advance(done, phase, 0) < count:
            pass
        if what == SEARCH:
            now = 1 - now
        elif what in (DRAW, DRAW_DEEP):
            drawn = 1 - drawn
