"""The loops of `rethined.upscale` and `rethined.search` in NumPy, for machines without numba.

The same results, but for the last bit of what is not an integer, many times slower.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Shorts = NDArray[np.int16]
Bytes = NDArray[np.int8]
Bools = NDArray[np.bool_]


def shrink(
    image: NDArray[Any], mask: NDArray[np.bool_], scale: int, halved: int, grid: tuple[int, int], patch_size: int
) -> tuple[Floats, Floats, Floats]:
    """What `Upscaler.shrink` returns: image (1, 3, h, w), mask (1, 1, h, w), detail (1, 6, h / P, w / P).

    Boxes are of `scale` pixels a side, of half pixels if `halved`, 1 not 0.
    """
    h, w = grid
    rows, columns = (min((a << halved) // scale, b) for a, b in zip(mask.shape, grid, strict=True))
    small, holes = np.zeros((3, h, w), np.float32), np.ones(grid, np.float32)
    squares = np.zeros((6, h, w))
    half = scale // 2
    gain = np.float32(1 / (scale * scale * np.iinfo(image.dtype).max))
    for y in range(rows):  # a row of boxes at a time: nothing of the photo's size
        lines: Any = slice(y * scale, (y + 1) * scale), slice(columns * scale)
        if halved:
            lines = np.ix_(*(np.arange(part.stop)[part] >> 1 for part in lines))
        hole = mask[lines].reshape(scale, columns, scale).any((0, 2))
        boxes = image[lines].reshape(scale, columns, scale, 3).astype(np.int64)
        holes[y, :columns] = hole
        small[:, y, :columns] = np.where(hole, 0, boxes.sum((0, 2)).T.astype(np.float32) * gain)
        if half:
            first = [boxes[:, :, :half], boxes[:half]]
            last = [boxes[:, :, scale - half :], boxes[scale - half :]]
            before, after = (np.concatenate([b.sum((0, 2)).T for b in part]) for part in (first, last))
            squares[:, y, :columns] = np.where(hole, 0, (before - after) ** 2)
    energy = squares.reshape(6, h // patch_size, patch_size, -1, patch_size).sum((2, 4))
    return small[None], holes[None, None], deviation(energy, scale, patch_size, image.dtype)[None]


def deviation(energy: NDArray[np.float64], scale: int, patch_size: int, kind: np.dtype[Any]) -> Floats:
    """`rethined.model.pipeline.fine_detail` of patches from `energy`, the sums over each of the squares of what the
    halves of boxes differ by; `scale` and `kind` are the photo's. Squares are whole numbers, and so are their sums:
    what is summed first does not count, here or in another program."""
    return (np.sqrt(energy) / float(max(scale // 2, 1) * 2 * scale * np.iinfo(kind).max * patch_size)).astype(
        np.float32
    )


def mark(holes: Floats, near: NDArray[np.uint8], hole: int) -> None:
    """What `rim._mark` does."""
    grown = (holes > 0).astype(np.uint8)
    near += grown
    for _ in range(hole - 1):
        grown = np.asarray(cv2.dilate(grown, np.ones((3, 3), np.uint8)))
        near += grown


def compare(image: Floats, near: NDArray[np.uint8], sums: Ints, counts: Ints, arc: int, far: int) -> None:
    """What `rim._compare` does."""
    grey = ((image[0] + image[1] + image[2]) * np.float32(255) + np.float32(0.5)).astype(np.int32)
    marks = near.astype(np.int32)
    y, x = np.nonzero((near >= far) & (near < len(sums)) & (np.indices(near.shape).sum(0) % 2 == 0))
    own, count, total = marks[y, x], np.zeros(len(y), np.int32), np.zeros(len(y), np.int32)
    marks, padded = np.pad(marks, 1), np.pad(grey, 1)
    for v, u in ((0, 1), (1, 0), (1, 2), (2, 1)):
        next_ = marks[y + v, x + u] == own - 1
        count += next_
        total += next_ * padded[y + v, x + u]
    some = count > 0
    differences = np.abs(grey[y, x] - (2 * total + count) // np.maximum(2 * count, 1))
    place = own[some], y[some] // arc + 1, x[some] // arc + 1
    np.add.at(sums, place, differences[some])
    np.add.at(counts, place, 1)


def contribute(
    place: Ints,
    weight: Floats,
    corrupted: Bools,
    columns: int,
    side: int,
    rows: NDArray[np.int64],
    begin: Ints,
    heard: Floats,
) -> None:
    """To `begin` (R, 9, k, 2) and `heard` (R, 9, k), zeros, what `upscale.contributions` says of patches `rows`."""
    height = len(corrupted) // columns
    dy, dx = np.divmod(np.arange(9), 3)
    dy, dx = dy - 1, dx - 1
    y, x = rows[:, None] // columns + dy, rows[:, None] % columns + dx  # (R, 9)
    n = np.clip(y, 0, height - 1) * columns + np.clip(x, 0, columns - 1)
    there = (y >= 0) & (y < height) & (x >= 0) & (x < columns) & corrupted[n]
    corner = place[n] - side * np.stack([dy, dx], 1)[:, None]  # (R, 9, k, 2)
    sy, sx = np.moveaxis((corner + side // 2) // side, 3, 0)
    inside = there[..., None] & (sy >= 0) & (sy < height) & (sx >= 0) & (sx < columns)
    known = inside & ~corrupted[np.where(inside, sy * columns + sx, 0)]
    begin[:] = corner * known[..., None]
    heard[:] = weight[n] * known


def fill(
    target: NDArray[Any],
    mask: NDArray[np.bool_],
    heard: tuple[NDArray[np.int64], Ints, Floats],
    ramps: Floats,
    correction: Floats,
    scale: int,
    columns: int,
) -> None:
    """Write the hole pixels of `target` (H, W, 3) in place; see `Upscaler.fill`.

    `ramps` (3, S) in whole numbers, for patches of S pixels, `correction` (h, w, 3) in the target's units, `scale`
    pixels a cell, `columns` patches a row.
    """
    side = ramps.shape[1]
    height, width = mask.shape
    peak = np.iinfo(target.dtype).max
    # In the compiled loop's order: oneself, those beside, above and below, and at corners.
    order = [(e, *divmod(e, 3)) for e in (4, 3, 5, 1, 7, 0, 2, 6, 8)] if heard[2].shape[1] == 9 else [(0, 1, 1)]
    for row, place, weight in zip(*heard, strict=True):
        top, left = row // columns * side, row % columns * side
        there = np.s_[top : min(top + side, height), left : min(left + side, width)]
        hole = mask[there]
        if not hole.any():
            continue
        rows, wide = hole.shape
        total = np.zeros((rows, wide, 3), np.float32)
        norm = np.zeros((rows, wide, 1), np.float32)
        one, least, most = np.zeros_like(total), np.full(norm.shape, np.inf), np.full(norm.shape, -np.inf)
        for e, down, across in order:
            for k in np.flatnonzero(weight[e]):
                window = (weight[e, k] * ramps[down, :rows, None, None]) * ramps[across, :wide, None]
                # Where the window is 0, a source may end outside the picture.
                y, x = place[e, k]
                inside = np.s_[max(0, -y) : min(rows, height - y), max(0, -x) : min(wide, width - x)]
                window = window[inside]
                source = target[max(0, y) : min(y + rows, height), max(0, x) : min(x + wide, width)]
                total[inside] += window * source
                norm[inside] += window
                np.copyto(one[inside], source, where=window > 0)
                for bound, closer in ((least, np.minimum), (most, np.maximum)):
                    closer(bound[inside], float(y * width + x), out=bound[inside], where=window > 0)
        # What is copied from one place alone is not rounded.
        mixed = np.where(least == most, one, total / np.maximum(norm, np.float32(1e-4)))
        values = mixed + _upsampled(correction, scale, top, left, rows, wide)
        target[there][hole] = (values[hole].clip(0, peak) + np.float32(0.5)).astype(target.dtype)


def mend(
    target: NDArray[Any],
    mask: NDArray[np.bool_],
    spared: NDArray[np.uint8],
    halves: int,
    weights: NDArray[np.int64],
    mended: tuple[int, int],
) -> None:
    """Bring the hole pixels of `target` (H, W, 3) beside known ones nearer to these, in place, but for those in
    `spared`, of a grid of `halves` half pixels, or empty; see `Upscaler.mend`."""
    reach = len(weights) // 2
    known, hole = np.pad(~mask, reach), np.pad(mask, reach)
    line = np.arange(-reach, reach + 1)
    reached = np.zeros(mask.shape, np.bool_)
    for dy in line:
        for dx in line:
            reached |= known[reach + dy :, reach + dx :][: mask.shape[0], : mask.shape[1]]
    ys, xs = np.nonzero(mask & reached)
    if len(spared):
        stay = spared[2 * ys // halves, 2 * xs // halves] > 0
        ys, xs = ys[~stay], xs[~stay]
    totals, counts = np.zeros((2, len(ys), 3), np.int64), np.zeros((2, len(ys), 1), np.int64)
    beside = np.zeros((len(ys), 1), np.bool_)
    height, width = mask.shape
    for dy in line:
        for dx in line:
            values = target[(ys + dy).clip(0, height - 1), (xs + dx).clip(0, width - 1)].astype(np.int64)
            near = max(abs(dy), abs(dx)) < reach
            for n, kind in enumerate((known, hole)[: 1 + near]):  # of the hole only what is nearer
                there = kind[ys + dy + reach, xs + dx + reach][:, None]
                share = there * weights[dy + reach, dx + reach]
                totals[n] += share * values
                counts[n] += share
                beside |= there & (kind is known and near)
    pairs = counts[0] * counts[1]
    moved = np.where(beside, *mended) * (totals[0] * counts[1] - totals[1] * counts[0])
    mixed = ((10 * target[ys, xs].astype(np.int64) + 5) * pairs + moved) // (10 * pairs)
    target[ys, xs] = mixed.clip(0, np.iinfo(target.dtype).max).astype(target.dtype)


def _upsampled(picture: Floats, scale: int, top: int, left: int, rows: int, columns: int) -> Floats:
    """A part of `picture` (h, w, 3) enlarged bilinearly by `scale`, pixel centres aligned, borders replicated."""

    def taps(first: int, count: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        before, rest = np.divmod(2 * np.arange(first, first + count) + 1 - scale, 2 * scale)
        share = rest.astype(np.float32) / np.float32(2 * scale)
        return before.clip(0, size - 1), (before + 1).clip(0, size - 1), share

    y0, y1, fy = taps(top, rows, picture.shape[0])
    x0, x1, fx = taps(left, columns, picture.shape[1])
    above, below = (picture[y][:, x0] * (1 - fx)[:, None] + picture[y][:, x1] * fx[:, None] for y in (y0, y1))
    return np.asarray(above * (1 - fy)[:, None, None] + below * fy[:, None, None], np.float32)


def describe(
    small: Floats,
    holes: Floats,
    low: Floats,
    query: Floats,
    key: Floats,
    values: Shorts,
    known: Bools,
    grey: Shorts,
    q: Bytes,
    k: Bytes,
    first: int,
    last: int,
) -> None:
    """To rows `first` to `last` of `values`, `known`, `grey`, `q` and `k`: see `search._describe`.

    Sums are in the compiled loop's order: the same bits.
    """
    half = np.float32(0.5)
    patches = slice(first // 2, last // 2)
    for vectors, quantised in ((query, q), (key, k)):
        quantised[patches, :, : len(vectors)] = np.rint(vectors[:, patches].transpose(1, 2, 0) * np.float32(127))
    height, width = last - first, known.shape[1]

    def pixels(picture: NDArray[Any]) -> NDArray[Any]:
        """(..., 4, 4, height, width): first which pixel of a cell, then which cell."""
        rows = picture[..., 4 * first : 4 * last, :]
        cells = rows.reshape(*rows.shape[:-2], height, 4, width, 4)
        return np.moveaxis(cells, (-3, -1), (-4, -3))

    whole = (pixels(holes) == 0).all((0, 1))
    colours = pixels(small)
    total = colours[0] + colours[1] + colours[2]
    sums = np.zeros((5, height, width), np.float32)
    for y in range(4):
        for x in range(4):
            sums[:3] += colours[:, y, x]
            if x < 3:
                sums[3] += np.abs(total[y, x] - total[y, x + 1])
            if y < 3:
                sums[4] += np.abs(total[y, x] - total[y + 1, x])
    gains = np.asarray([120 / 16] * 3 + [120 * 2 / 36] * 2, np.float32)[:, None, None]
    described = np.floor(sums * gains + half)
    described[3:] = np.minimum(described[3:], 120)
    known[first:last] = whole
    guess = np.floor(low[:, first:last].clip(0, 1) * np.float32(120) + half)
    values[:3, first:last] = np.where(whole, described[:3], guess)
    values[3:, first:last] = described[3:] * whole
    pixels(grey)[:] = np.floor(total * np.float32(255) + half) * whole


def halved(values: NDArray[Any], rows: int, columns: int, parts: int) -> NDArray[Any]:
    """Sums over 2 x 2 cells, which axes `rows` and `columns` of `values` are, divided by `parts` and rounded; sides
    are even."""
    lines = np.add(*(np.moveaxis(values, rows, 0)[n::2].astype(np.int32) for n in (0, 1)))
    sums: NDArray[Any] = np.add(*(np.moveaxis(np.moveaxis(lines, 0, rows), columns, 0)[n::2] for n in (0, 1)))
    return np.moveaxis((sums + parts // 2) // parts, 0, columns)


def halve(values: Shorts, known: Bools) -> tuple[Shorts, Bools]:
    """The next level: see `search._halve`."""
    return halved(values, 1, 2, 4).astype(np.int16), halved(known, 0, 1, 1) == 4


def pool(vectors: Bytes) -> Bytes:
    """Rounded means of 2 x 2: see `search._pool`."""
    return halved(vectors, 0, 1, 4).astype(np.int8)


def surround(values: Shorts, known: Bools) -> None:
    """Fill what is not known of `values` (C, h, w), in place: see `search._surround`."""
    sums = np.concatenate([values * known, known[None]]).astype(np.int32)  # last, how many cells are known
    values *= known
    y, x = np.nonzero(~known)
    halvings = 0
    while len(y) and max(sums[0].shape) > 1:
        height, width = sums[0].shape
        if height % 2 or width % 2:
            sums = np.pad(sums, ((0, 0), (0, height % 2), (0, width % 2)))
        sums, halvings = halved(sums, 1, 2, 1), halvings + 1
        block = sums[:, y >> halvings, x >> halvings]
        some = block[-1] > 0
        total, count = block[:-1, some], block[-1, some]
        values[:, y[some], x[some]] = (2 * total + count) // (2 * count)
        y, x = y[~some], x[~some]


def interior(known: Bools) -> Bools:
    """Cells all of whose surroundings, within 2, are inside the picture and known."""
    return np.asarray(
        cv2.erode(known.view(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    ).view(np.bool_)


def depths(known: Bools) -> NDArray[np.uint8]:
    """Distances to what is known: see `search._depths`."""
    if not known.any():
        return np.full(known.shape, 255, np.uint8)
    distance = cv2.distanceTransform((~known).view(np.uint8), cv2.DIST_L1, 3, dstType=cv2.CV_32F)
    return np.asarray(np.minimum(distance, 255), np.uint8)


def pseudo_random(cell: NDArray[np.int64], number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two numbers in 0..65520 for every cell's index, another pair for every `number`; no product reaches 2^31."""
    x = (cell * 7919 + number * 104729 + 12345) % 65521
    return x * 17364 % 65521, x * 31337 % 65521


def framed(values: NDArray[Any], beyond: int = 0) -> NDArray[Any]:
    """(h, w) or (h, w, C) with a margin of 8 cells that holds `beyond`."""
    height, width, *rest = values.shape
    result = np.full((height + 16, width + 16, *rest), beyond, values.dtype)
    result[8:-8, 8:-8] = values
    return result


def prepare(
    values: Shorts, depth: NDArray[np.uint8], side: int, number: int, coarser: Ints, inherits: int
) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...], tuple[NDArray[np.int64], ...]]:
    """What `run` needs of a level: see `search._prepare`."""
    hole, valid = depth > 0, interior(depth == 0)
    near = cv2.dilate(hole.view(np.uint8), np.ones((3, 3), np.uint8)) * np.uint8(valid.any())
    targets = np.flatnonzero(near)
    places, choices, holes = (np.flatnonzero(framed(cells)) for cells in (near, valid, hole))
    random, _ = pseudo_random(targets, 64 * 64 + number)
    source = choices[random * len(choices) // 65521] if len(targets) else targets
    deep = framed(depth).reshape(-1) >= inherits
    if len(coarser):
        source = inherited(targets, framed(valid), deep[places], source, coarser)
    y, x = np.indices(depth.shape, np.int32) // np.int32(side)
    own = y * np.int32(depth.shape[1] // side) + x
    picture = framed(values.transpose(1, 2, 0)).reshape(-1)
    patch = framed(np.where(valid, own, -1), -1).reshape(-1)
    counts = framed(np.asarray([8, 4, 2, 1], np.int16)[np.minimum(depth, 3)])
    weights = counts.reshape(-1).repeat(5)
    compared = cv2.boxFilter(counts, cv2.CV_32F, (5, 5), normalize=False)
    affinity = (compared.reshape(-1)[places].astype(np.int32) * 5 + 8) // 16 + 6
    shift = np.zeros((2, len(patch)), np.int32)
    shift[:, places] = source - places
    votes, uses = np.zeros((2, len(patch)), np.int32)
    return (
        (np.stack([picture, picture]), weights, patch, shift, votes, uses),
        (places, targets, own.reshape(-1)[targets], affinity, np.zeros(len(places), np.int32)),
        (holes[deep[holes]], holes),
    )


def inherited(
    targets: NDArray[np.int64], around: Bools, deep: Bools, otherwise: NDArray[np.int64], coarser: Ints
) -> NDArray[np.int64]:
    """For each of `targets` that is `deep` what the coarser level copies there: the first valid source beside it; for
    others, and where there is none, `otherwise`.

    `targets` are of the grid without a margin; sources, here and in `otherwise`, of that with one, where `around`
    says which are valid.
    """
    stride = around.shape[1]
    width, across = stride - 16, stride // 2 + 8
    result = otherwise.copy()
    y, x = np.divmod(targets, width)
    above = ((y >> 1) + 8) * across + (x >> 1) + 8
    open_ = np.flatnonzero(deep & (coarser[above] != 0))
    sy, sx = np.divmod(above[open_] + coarser[above[open_]], across)
    sy, sx = (sy - 8) * 2 + (y[open_] & 1) + 8, (sx - 8) * 2 + (x[open_] & 1) + 8
    for dy, dx in ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        good = around[sy + dy, sx + dx]
        result[open_[good]] = (sy[good] + dy) * stride + sx[good] + dx
        open_, sy, sx = open_[~good], sy[~good], sx[~good]
    return result


def run(
    schedule: NDArray[np.int64],
    values: Shorts,
    weights: Shorts,
    patch: Ints,
    shift: Ints,
    votes: Ints,
    uses: Ints,
    query: Bytes,
    key: Bytes,
    places: NDArray[np.int64],
    cells: NDArray[np.int64],
    asked: Ints,
    affinity: Ints,
    cost: Ints,
    deep: NDArray[np.int64],
    holes: NDArray[np.int64],
    height: int,
    width: int,
    stride: int,
    radius: int,
    seam: int,
    repeats: Ints,
    decision: int,
    grain: int,
) -> None:
    """All phases of a level: see `search._run`."""
    now = drawn = 0
    for what, jump, guesses, counter, fresh in schedule.tolist():
        if what == 0:
            targets = query, key, places, cells, asked, affinity, shift[now], shift[1 - now], cost
            numbers = height, width, stride, jump, guesses, radius, seam, repeats, counter
            improve(values[drawn], weights, patch, uses, *targets, *numbers, bool(fresh))
            now = 1 - now
        elif what == 1:
            mean = max(1, int(cost.sum(dtype=np.int64)) // len(cost))
            votes[places] = 1 << (16 - np.minimum(16, cost.astype(np.int64) * decision // mean))
        elif what == 4:
            uses[:] = np.bincount(places + shift[now][places], minlength=len(uses))
        else:
            vote(values[drawn], values[1 - drawn], shift[now], votes, deep if what == 2 else holes, stride)
            drawn = 1 - drawn


def improve(
    values: Shorts,
    weights: Shorts,
    patch: Ints,
    uses: Ints,
    query: Bytes,
    key: Bytes,
    places: NDArray[np.int64],
    cells: NDArray[np.int64],
    asked: Ints,
    affinity: Ints,
    shift: Ints,
    better: Ints,
    cost: Ints,
    height: int,
    width: int,
    stride: int,
    jump: int,
    guesses: int,
    radius: int,
    seam: int,
    repeats: Ints,
    counter: int,
    fresh: bool,
) -> None:
    """One step of the search: see `search._improve`."""
    margin = (stride - width) // 2
    around = np.arange(-2, 3)[:, None] * stride + np.arange(-2, 3)  # (5, 5) cells
    pictures, counts = values.reshape(-1, 5), weights.reshape(-1, 5)[:, 0].astype(np.int32)
    near = places[:, None] + around.reshape(-1)
    mine, share = pictures[near].astype(np.int32), counts[near]
    asking = query[asked].astype(np.int32)
    best = shift[places].astype(np.int64)
    beside = shift[places + np.asarray((-1, 1, -stride, stride))[:, None]]
    dear, own = affinity.astype(np.int64), best.copy()

    def apart(moved: NDArray[np.int64]) -> NDArray[np.int64]:
        """What seams and repeats cost."""
        others = np.clip(uses[places + moved] - (moved == own), 0, len(repeats) - 1)
        return np.asarray(dear * (seam * (beside != moved).sum(0) + repeats[others]))

    least = np.full(len(places), 2**31 - 1) if fresh else cost + apart(best)

    def offer(moved: NDArray[np.int64], tried: Bools) -> None:
        """Take `moved` as source where it is `tried`, valid and cheaper."""
        tried = tried & (patch[places + moved] >= 0)
        chosen, extra = np.flatnonzero(tried), apart(moved)
        product = (asking[chosen] * key[patch[places[chosen] + moved[chosen]]]).sum(1)
        price = affinity[chosen] * np.maximum(16129 - product, 0) + extra[chosen]
        hopeful = price < least[chosen]  # what else it costs is not negative
        chosen, price = chosen[hopeful], price[hopeful]
        there = near[chosen] + moved[chosen, None]
        price += np.einsum("nct,nct,nc->n", *[pictures[there] - mine[chosen]] * 2, share[chosen])
        cheaper = price < least[chosen]
        least[chosen[cheaper]], best[chosen[cheaper]] = price[cheaper], moved[chosen[cheaper]]

    if fresh:
        offer(best.copy(), np.ones(len(places), np.bool_))
    for n in (0, 1, 2, 3, 5, 6, 7, 8) if jump else ():
        moved = shift[places + ((n // 3 - 1) * stride + n % 3 - 1) * jump].astype(np.int64)
        offer(moved, moved != best)
    if jump:
        y0, x0 = np.divmod(cells, width)
        across, down = pseudo_random(cells, counter * 16 + 12)
        other = places[pseudo_random(cells, counter * 16 + 13)[0] * len(places) // 65521]
        away_y, away_x = np.subtract(np.divmod(other + shift[other], stride), np.divmod(other, stride))
        for y, x in (y0, across % width), (down % height, x0), (y0 + away_y, x0 + away_x):
            inside = (y >= 0) & (x >= 0) & (y < height) & (x < width)
            offer(((y - y0) * stride + x - x0) * inside, inside)
    reach = max(1, radius // 4) if counter % 2 else radius
    for n in range(guesses):
        down, across = (random % (2 * reach + 1) - reach for random in pseudo_random(cells, counter * 16 + n))
        reach = max(1, reach // 2)
        y, x = np.divmod(places + best, stride)
        y, x = y - margin + down, x - margin + across
        inside = (y >= 0) & (x >= 0) & (y < height) & (x < width)
        offer(best + (down * stride + across) * inside, inside)
    better[places] = best
    cost[:] = least - apart(best)


def vote(values: Shorts, drawn: Shorts, shift: Ints, votes: Ints, places: NDArray[np.int64], stride: int) -> None:
    """What hole cells are drawn as: see `search._vote`."""
    total, sums = np.zeros(len(places), np.int64), np.zeros((len(places), 5), np.int64)
    pictures = values.reshape(-1, 5)
    for y in range(-2, 3):
        for x in range(-2, 3):
            n = places + y * stride + x
            total += votes[n]
            sums += votes[n][:, None] * pictures[places + shift[n]].astype(np.int64)
    drawn.reshape(-1, 5)[places] = (2 * sums + total[:, None]) // (2 * total[:, None])


def regions(shift: Ints, cells: Ints, width: int) -> tuple[Ints, Ints, NDArray[np.int64], Ints]:
    """Regions of one shift, and the cells beyond their borders: see `search._regions`."""
    grid = shift.reshape(-1, width)
    root = np.arange(shift.size).reshape(grid.shape)
    while True:  # the smallest neighbour of the same region, then its root, until nothing changes
        now = root.copy()
        for labels, shifts in ((now, grid), (now.T, grid.T)):
            same = shifts[1:] == shifts[:-1]
            lower = np.minimum(labels[1:], labels[:-1])
            labels[1:] = np.where(same, lower, labels[1:])
            labels[:-1] = np.where(same, np.minimum(lower, labels[:-1]), labels[:-1])
        now = now.reshape(-1)[now]
        if (now == root).all():
            break
        root = now
    first, number = np.unique(root.reshape(-1)[cells], return_inverse=True)
    region = np.full(shift.size, -1, np.int32)
    region[cells] = number
    y, x = np.divmod(cells[:, None].astype(np.int64), width)
    y, x = y + np.asarray([-1, 0, 0, 1]), x + np.asarray([0, -1, 1, 0])
    inside = (y >= 0) & (y < grid.shape[0]) & (x >= 0) & (x < width)
    beyond = np.where(inside, y * width + x, 0)
    border = inside & (region[beyond] != region[cells][:, None])
    side = np.broadcast_to(region[cells][:, None], beyond.shape)[border]
    order = side.argsort(kind="stable")
    begin = np.zeros(len(first) + 1, np.int64)
    np.cumsum(np.bincount(side, minlength=len(first)), out=begin[1:])
    return region, beyond[border][order].astype(np.int32), begin, shift[first]


def nudge(
    grey: Shorts,
    shift: Ints,
    width: int,
    region: Ints,
    beyond: Ints,
    first: NDArray[np.int64],
    own: Ints,
    moves: Ints,
    costs: NDArray[np.int64],
    fine: Ints,
    stay: int,
    turn: int,
    start: int,
    stop: int,
) -> None:
    """Move regions `start` to `stop`: see `search._nudge`."""
    before, after = moves[turn], moves[turn + 1]
    side = costs.shape[1]
    reach = side // 2
    axis = np.arange(4)
    away = np.abs(np.arange(side) - reach)
    for r in range(start, stop):
        if turn == 0:
            costs[r] = stay * (first[r + 1] - first[r]) * (away[:, None] + away)
        q = beyond[first[r] : first[r + 1]].astype(np.int64)
        q = q[(shift[q] == 0) == (turn == 0)]
        y, x = 4 * np.stack(np.divmod(q + own[r], width)) - reach
        ty, tx = 4 * np.stack(np.divmod(q + shift[q], width))
        if turn:
            ty, tx = ty + before[region[q], 0], tx + before[region[q], 1]
        wanted = grey[(ty[:, None] + axis)[:, :, None], (tx[:, None] + axis)[:, None]].astype(np.int64)
        reached = np.arange(side + 3)
        around = grey[(y[:, None] + reached)[:, :, None], (x[:, None] + reached)[:, None]].astype(np.int64)
        offers = costs[r].copy()
        for a in range(side):
            for b in range(side):
                offers[a, b] += np.square(around[:, a : a + 4, b : b + 4] - wanted).sum()
        if turn == 0:
            costs[r] = offers
        down, across = before[r] + reach
        if offers.min() < offers[down, across]:
            down, across = np.divmod(offers.argmin(), side)
        after[r] = down - reach, across - reach
        fine[r] = 0
        for n, (at, line) in enumerate(((down, offers[:, across]), (across, offers[down]))):
            if 0 < at < side - 1:
                lower, upper = line[at - 1] - line[at], line[at + 1] - line[at]
                if lower > 0 and upper > 0:
                    fine[r, n] = (lower - upper) * 32 // (lower + upper)


def meld(
    low: Floats,
    cells: Ints,
    source: Floats,
    depth: NDArray[np.uint8],
    trust: np.float32,
    smooth: np.float32,
    edge: np.float32,
    relaxation: np.float32,
    sweeps: int,
) -> Floats:
    """What `search.correction` returns: see `search._meld`; `source` is its `place`."""

    def total(products: Floats) -> Floats:
        red, green, blue = products.T
        return np.asarray(red + green + blue)

    h, w = depth.shape
    colours = np.ascontiguousarray(low.transpose(1, 2, 0), np.float32)
    y, x = np.divmod(cells, np.int32(w))
    odd = (y + x) % 2 == 1
    order = odd.argsort(kind="stable")
    cells, source, y, x = cells[order], source[order], y[order], x[order]
    half = len(cells) - int(odd.sum())
    place, copied = np.zeros((h * w, 2), np.float32), colours.reshape(-1, 3).copy()
    place[cells], copied[cells] = source, sample(colours, source)
    near = ((4 - depth[y, x].astype(np.float32)) / np.float32(2.5)).clip(0, 1)
    wanted, rough, count = np.zeros((len(cells), 3), np.float32), *np.zeros((2, len(cells)), np.float32)
    for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
        inside = np.flatnonzero((y + dy >= 0) & (y + dy < h) & (x + dx >= 0) & (x + dx < w))
        count[inside] += 1
        here, there = cells[inside], (y[inside] + dy) * w + x[inside] + dx
        step = np.asarray([dy, dx], np.float32)
        onward = copied[here] - sample(colours, place[here] + step)
        rough[inside] += total(onward * onward)
        hole = depth.reshape(-1)[there] > 0
        wanted[inside[~hole]] += onward[~hole]
        back = sample(colours, place[there[hole]] - step) - copied[there[hole]]
        mean = (onward[hole] + back) * np.float32(0.5)
        jump = copied[here[hole]] - copied[there[hole]] - mean
        holes = inside[hole]
        before, after = (
            colours[(y[holes] + n * dy).clip(0, h - 1), (x[holes] + n * dx).clip(0, w - 1)] for n in (-2, 3)
        )
        size, seen = total(jump * jump), total((before - after) * jump)
        part = np.minimum((2 * seen).clip(0), size) * size / (size * size + edge)
        wanted[holes] += mean + part[:, None] * jump
    trusted = (np.float32(4) * near * near + trust) * (rough / (rough + smooth))
    wanted += trusted[:, None] * colours[y, x]
    gain = (relaxation / (trusted + count))[:, None]
    flat = np.pad(colours, ((1, 1), (1, 1), (0, 0))).reshape(-1, 3)
    target = (y + 1) * (w + 2) + x + 1
    for _ in range(sweeps):
        for part in (slice(0, half), slice(half, None)):
            p = target[part]
            around = flat[p - w - 2] + flat[p - 1] + flat[p + 1] + flat[p + w + 2]
            flat[p] = (np.float32(1) - relaxation) * flat[p] + gain[part] * (wanted[part] + around)
    result = np.zeros((h * w, 3), np.float32)
    result[cells] = flat[target] - copied[cells]
    return result.reshape(h, w, 3)


def sample(colours: Floats, place: Floats) -> Floats:
    """`colours` (h, w, 3) at `place` (n, 2), rows and columns of cells, interpolated: see `search._sample`."""
    y, x = place.T
    top, left = y.astype(np.int64), x.astype(np.int64)
    f, g = (y - top.astype(np.float32))[:, None], (x - left.astype(np.float32))[:, None]
    bottom, right = np.minimum(top + 1, colours.shape[0] - 1), np.minimum(left + 1, colours.shape[1] - 1)
    upper = colours[top, left] * ((1 - g) * (1 - f)) + colours[top, right] * (g * (1 - f))
    return np.asarray(upper + colours[bottom, left] * ((1 - g) * f) + colours[bottom, right] * (g * f), np.float32)
