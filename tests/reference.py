"""The paper's equations as slow loops over NumPy arrays, to be read beside the paper."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def corrupted(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """3.3: a patch is corrupted if any of its pixels is. `mask` (H, W) -> (rows, columns)."""
    rows, columns = mask.shape[0] // side, mask.shape[1] // side
    result = np.zeros((rows, columns), np.bool_)
    for r in range(rows):
        for c in range(columns):
            result[r, c] = mask[r * side : (r + 1) * side, c * side : (c + 1) * side].any()
    return result


def attention(query: Array, key: Array, corrupted: NDArray[np.bool_], top_k: int) -> Array:
    """Eq. 1 with true masking, as a dense matrix (N, N); query, key (N, d), corrupted (N,)."""
    count = len(corrupted)
    result = np.zeros((count, count))
    for i in range(count):
        if not corrupted[i]:
            result[i, i] = 1
            continue
        known = [j for j in range(count) if not corrupted[j]]
        scores = np.array([query[i] @ key[j] for j in known])
        best = np.argsort(-scores, kind="stable")[: top_k or len(known)]
        weights = np.exp(scores[best] - scores[best].max())
        for j, w in zip(best, weights / weights.sum(), strict=True):
            result[i, known[j]] = w
    return result


def fine_detail(image: Array, scale: int, side: int) -> Array:
    """What each patch holds just above the low-resolution grid; `image` (s h, s w, 3) -> (h / side, w / side, 6)."""
    height, width = image.shape[0] // scale, image.shape[1] // scale
    half = scale // 2
    energy = np.zeros((height // side, width // side, 6))
    for y in range(height if half else 0):
        for x in range(width):
            box = image[y * scale : (y + 1) * scale, x * scale : (x + 1) * scale]
            across = box[:, :half].mean((0, 1)) - box[:, scale - half :].mean((0, 1))
            down = box[:half].mean((0, 1)) - box[scale - half :].mean((0, 1))
            energy[y // side, x // side] += (np.concatenate([across, down]) / 2) ** 2
    return np.sqrt(energy / side**2)


def mixture(image: Array, weights: Array, bad: NDArray[np.bool_], side: int, overlap: bool) -> Array:
    """Eq. 2 / 4: every corrupted patch of `image` (H, W, 3) as the weighted sum of what it copies.

    `weights` (N, N) is Eq. 1; `bad` (rows, columns). With overlap, each corrupted patch also copies what surrounds
    its sources, through a triangular window twice its side; what would come from corrupted patches is left out.
    """
    rows, columns = bad.shape
    total = np.zeros_like(image)
    norm = np.zeros(image.shape[:2])
    margin = side // 2 if overlap else 0
    for i in range(rows * columns):
        iy, ix = divmod(i, columns)
        if not bad[iy, ix]:
            continue
        for j in np.flatnonzero(weights[i]):
            jy, jx = divmod(int(j), columns)
            for u in range(-margin, side + margin):
                for v in range(-margin, side + margin):
                    y, x, sy, sx = iy * side + u, ix * side + v, jy * side + u, jx * side + v
                    if not (0 <= y < image.shape[0] and 0 <= x < image.shape[1]):
                        continue
                    if not (0 <= sy < image.shape[0] and 0 <= sx < image.shape[1]):
                        continue
                    if not bad[y // side, x // side] or bad[sy // side, sx // side]:
                        continue
                    w = weights[i, j]
                    if overlap:
                        for t in (u, v):
                            w *= 1 - abs((t + margin + 0.5) / side - 1)
                    total[y, x] += w * image[sy, sx]
                    norm[y, x] += w
    result = image.copy()
    hit = norm > 0
    result[hit] = total[hit] / norm[hit][:, None]
    return result


def upsample(image: Array, scale: int) -> Array:
    """Bilinear by an integer factor, pixel centres aligned, borders replicated: (h, w, C) -> (s h, s w, C)."""
    height, width = image.shape[:2]
    result = np.zeros((height * scale, width * scale, image.shape[2]))
    for y in range(height * scale):
        for x in range(width * scale):
            fy, fx = (y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5
            y0, x0 = int(np.floor(fy)), int(np.floor(fx))
            for yy, wy in ((y0, 1 - (fy - y0)), (y0 + 1, fy - y0)):
                for xx, wx in ((x0, 1 - (fx - x0)), (x0 + 1, fx - x0)):
                    source = image[min(max(yy, 0), height - 1), min(max(xx, 0), width - 1)]
                    result[y, x] += wy * wx * source
    return result


def pull_push(image: Array, mask: NDArray[np.bool_], levels: int) -> Array:
    """The coarse network's starting point, one pixel at a time: (H, W, 3), True = hole."""
    values, weights = [image * ~mask[..., None]], [(~mask).astype(float)]
    for _ in range(levels):
        v, w = values[-1], weights[-1]
        height, width = w.shape[0] // 2, w.shape[1] // 2
        nv, nw = np.zeros((height, width, 3)), np.zeros((height, width))
        for y in range(height):
            for x in range(width):
                part_w = w[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                part_v = v[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                known = part_w.mean()
                nv[y, x] = (part_v * part_w[..., None]).mean((0, 1)) / max(known, 0.1)
                nw[y, x] = min(known * 4, 1)
        values.append(nv)
        weights.append(nw)
    v, w = values.pop(), weights.pop()
    height, width = w.shape
    whole = (v * w[..., None]).mean((0, 1)) / max(w.mean(), 1e-3)
    filled = np.broadcast_to(whole, v.shape).copy()
    for side in (31, 15, 7, 3):
        reach = side // 2
        for y in range(height):
            for x in range(width):
                box = np.s_[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
                near = w[box].sum() / side**2
                if near > 0.5 / side**2:
                    filled[y, x] = (v[box] * w[box][..., None]).sum((0, 1)) / side**2 / max(near, 1e-3)
    filled = v * w[..., None] + filled * (1 - w[..., None])
    for v, w in zip(reversed(values), reversed(weights), strict=True):
        filled = v * w[..., None] + upsample(filled, 2) * (1 - w[..., None])
    return filled


def cells(small: Array, holes: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What `search` compares of cells of 4 x 4 pixels, (h, w, 5), and which are known; `small` (H, W, 3)."""
    height, width = holes.shape[0] // 4, holes.shape[1] // 4
    values, known = np.zeros((height, width, 5), np.int64), np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            there = np.s_[4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            if holes[there].any():
                continue
            known[y, x] = True
            pixels = small[there]
            grey = pixels.mean(-1)
            across, down = np.abs(np.diff(grey, axis=1)).mean(), np.abs(np.diff(grey, axis=0)).mean()
            parts = [*(120 * pixels.mean((0, 1))), min(240 * across, 120), min(240 * down, 120)]
            values[y, x] = [int(np.floor(part + 0.5)) for part in parts]
    return values, known


def texture_around(values: NDArray[np.int64], known: NDArray[np.bool_], y: int, x: int) -> NDArray[np.int64]:
    """The mean of what is known in the smallest aligned block of 2^n x 2^n cells around one, rounded; else 0."""
    side = 2
    while side < 2 * max(known.shape):
        top, left = y // side * side, x // side * side
        there = np.s_[top : top + side, left : left + side]
        if known[there].any():
            count = int(known[there].sum())
            return (2 * values[there][known[there]].sum(0) + count) // (2 * count)
        side *= 2
    return np.zeros(values.shape[-1], np.int64)


def search(small: Array, holes: Array, low: Array, query: Array, key: Array) -> dict[int, int] | None:
    """`rethined.search.find` one cell and one candidate at a time: from each hole cell to the cell it copies.

    `small` (H, W, 3), `holes` (H, W), `low` (H / 4, W / 4, 3), `query` and `key` (H / 8, W / 8, D).
    """
    values, known = cells(small, holes)
    textures = values[..., 3:].copy()
    for y, x in zip(*np.nonzero(~known), strict=True):
        values[y, x, :3] = np.floor(low[y, x].clip(0, 1) * 120 + 0.5)
        values[y, x, 3:] = texture_around(textures, known, y, x)
    q, k = np.rint(127 * query).astype(np.int64), np.rint(127 * key).astype(np.int64)

    def halved(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2] + 2) // 4

    levels = [(values, known, q.repeat(2, 0).repeat(2, 1), k.repeat(2, 0).repeat(2, 1))]
    levels.append((halved(values), halved(known * 4) == 4, q, k))
    levels.append((halved(levels[1][0]), halved(levels[1][1] * 4) == 4, halved(q), halved(k)))
    found: dict[int, int] | None = None
    for number in (2, 1, 0):
        found = level(*levels[number], number, found)
    return {cell: found[cell] for cell in map(int, np.flatnonzero(~known))} if found is not None else None


def level(
    values: NDArray[np.int64],
    known: NDArray[np.bool_],
    query: NDArray[np.int64],
    key: NDArray[np.int64],
    number: int,
    coarser: dict[int, int] | None,
) -> dict[int, int] | None:
    """One level of `search`: from every hole cell, and those beside them, to the cell it copies."""
    from rethined import search as constants

    height, width = known.shape
    hole = [(int(y), int(x)) for y, x in zip(*np.nonzero(~known), strict=True)]
    targets = [
        (y, x)
        for y in range(height)
        for x in range(width)
        if not known[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].all()
    ]

    def valid(y: int, x: int) -> bool:
        inside = 2 <= y < height - 2 and 2 <= x < width - 2
        return inside and bool(known[y - 2 : y + 3, x - 2 : x + 3].all())

    choices = [(y, x) for y in range(height) for x in range(width) if valid(y, x)]
    if not choices or not hole:
        return None
    everywhere = np.argwhere(known)
    depth = {(y, x): int(np.abs(everywhere - (y, x)).sum(1).min()) for y in range(height) for x in range(width)}

    def random(y: int, x: int, counter: int) -> tuple[int, int]:
        seed = ((y * width + x) * 7919 + counter * 104729 + 12345) % 65521
        return seed * 17364 % 65521, seed * 31337 % 65521

    source = {}
    deep = constants.INHERITED[number] if coarser is not None else None
    for y, x in targets:
        source[y, x] = choices[random(y, x, 64 * 64 + number)[0] * len(choices) // 65521]
        above = coarser.get((y // 2) * (width // 2) + x // 2) if coarser is not None else None
        if above is not None and deep is not None and depth[y, x] >= deep:
            sy, sx = above // (width // 2) * 2 + y % 2, above % (width // 2) * 2 + x % 2
            nearby = [(sy + dy, sx + dx) for dy, dx in constants.NEARBY if valid(sy + dy, sx + dx)]
            source[y, x] = nearby[0] if nearby else source[y, x]

    def weight(y: int, x: int) -> int:
        return constants.WEIGHTS[min(depth[y, x], 3)] if 0 <= y < height and 0 <= x < width else 0

    window = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
    around = {
        (y, x): [(dy, dx, weight(y + dy, x + dx)) for dy, dx in window if weight(y + dy, x + dx)] for y, x in targets
    }

    def price(values: NDArray[np.int64], at: tuple[int, int], offer: tuple[int, int]) -> int:
        (y, x), (sy, sx) = at, offer
        whole = sum(w for _, _, w in around[at])
        affinity = (whole * constants.AFFINITY + 8) // 16 + constants.LEAST_AFFINITY
        total = affinity * max(127 * 127 - int(query[y, x] @ key[sy, sx]), 0)
        for dy, dx, w in around[at]:
            apart = values[y + dy, x + dx] - values[sy + dy, sx + dx]
            total += w * int(apart @ apart)
        return total

    fair = max(constants.OFTEN, constants.FAIR * len(targets) // len(choices))

    def apart(at: tuple[int, int], offer: tuple[int, int], uses: dict[tuple[int, int], int]) -> int:
        (y, x), (sy, sx) = at, offer
        affinity = (sum(w for _, _, w in around[at]) * constants.AFFINITY + 8) // 16 + constants.LEAST_AFFINITY
        beside = ((-1, 0), (1, 0), (0, -1), (0, 1))
        alone = sum(source.get((y + dy, x + dx)) != (sy + dy, sx + dx) for dy, dx in beside)
        others = uses.get(offer, 0) - (offer == source[at])
        crowded = min(max(others, 0), constants.OFTEN) + constants.CROWD * min(max(others - fair, 0), constants.MOST)
        return affinity * (constants.SEAM * alone + constants.REPEAT * crowded)

    def step(
        values: NDArray[np.int64],
        cost: dict[tuple[int, int], int],
        uses: dict[tuple[int, int], int],
        jump: int,
        guesses: int,
        counter: int,
    ) -> tuple[dict[tuple[int, int], tuple[int, int]], dict[tuple[int, int], int]]:
        better, lower = {}, {}
        for y, x in targets:
            best = source[y, x]
            bare = cost[y, x] if (y, x) in cost else price(values, (y, x), best)
            least = bare + apart((y, x), best, uses)
            offers: list[tuple[int, int] | None] = []
            for dy in (-jump, 0, jump) if jump else ():
                for dx in (-jump, 0, jump):
                    if (dy, dx) != (0, 0) and (y + dy, x + dx) in source:
                        sy, sx = source[y + dy, x + dx]
                        offers.append((sy - dy, sx - dx))
            if jump:
                across, down = random(y, x, counter * 16 + constants.STRAIGHT)
                offers += [(y, across % width), (down % height, x)]
                ty, tx = targets[random(y, x, counter * 16 + constants.ALIKE)[0] * len(targets) // 65521]
                offers.append((source[ty, tx][0] - ty + y, source[ty, tx][1] - tx + x))
            offers += [None] * guesses
            reach = max(height, width) // (4 if coarser is not None else 1)
            reach = max(1, reach // constants.NARROW) if counter % 2 else reach
            for n, offer in enumerate(offers):
                if offer is None:
                    a, b = random(y, x, counter * 16 + n - len(offers) + guesses)
                    offer = best[0] + a % (2 * reach + 1) - reach, best[1] + b % (2 * reach + 1) - reach
                    reach = max(1, reach // 2)
                if not valid(*offer):
                    continue
                now, extra = price(values, (y, x), offer), apart((y, x), offer, uses)
                if now + extra < least:
                    best, bare, least = offer, now, now + extra
            better[y, x], lower[y, x] = best, bare
        return better, lower

    def drawn(
        values: NDArray[np.int64], cost: dict[tuple[int, int], int], wanted: list[tuple[int, int]]
    ) -> NDArray[np.int64]:
        mean = max(1, sum(cost.values()) // len(cost))
        votes = {at: 2 ** (16 - min(16, cost[at] * constants.DECISION // mean)) for at in targets}
        result = values.copy()
        for y, x in wanted:
            heard = [(y + dy, x + dx) for dy, dx in window if (y + dy, x + dx) in votes]
            total = sum(votes[at] for at in heard)
            sums = sum(votes[v, u] * values[source[v, u][0] - v + y, source[v, u][1] - u + x] for v, u in heard)
            result[y, x] = (2 * sums + total) // (2 * total)
        return result

    if deep is not None:
        source, cost = step(values, {}, {}, 0, 0, 0)
        values = drawn(values, cost, [at for at in hole if depth[at] >= deep])
    for turn in range(constants.ROUNDS):
        cost, uses = {}, dict(Counter(source.values()))
        for n, jump in enumerate(constants.JUMPS[turn]):
            source, cost = step(values, cost, uses, jump, constants.GUESSES[number], (number * 8 + turn) * 8 + n)
        if turn < constants.ROUNDS - 1:
            values = drawn(values, cost, hole)
    return {y * width + x: sy * width + sx for (y, x), (sy, sx) in source.items()}


def align(small: Array, sources: dict[int, int]) -> dict[int, tuple[int, int]]:
    """`rethined.search.align`, one region, move and pixel at a time: from each hole cell to its move, in pixels / 64.

    `small` (H, W, 3), `sources` from `search`.
    """
    height, width = small.shape[0] // 4, small.shape[1] // 4
    grey = np.floor(small.sum(2) * 255 + 0.5).astype(np.int64)
    shift = {divmod(cell, width): divmod(source, width) for cell, source in sources.items()}
    shift = {(y, x): (sy - y, sx - x) for (y, x), (sy, sx) in shift.items()}
    regions: list[list[tuple[int, int]]] = []
    region: dict[tuple[int, int], int] = {}
    for at in shift:
        if at in region:
            continue
        region[at] = len(regions)
        found = [at]
        for y, x in found:  # grows while it is read
            for q in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if q not in region and shift.get(q) == shift[at]:
                    region[q] = len(regions)
                    found.append(q)
        regions.append(found)
    moves = [(0, 0)] * len(regions)
    for turn in range(3):
        before, moves, fine = moves, [], []
        for number, cells_ in enumerate(regions):
            down, across = shift[cells_[0]]
            border = [
                (y + dy, x + dx)
                for y, x in cells_
                for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0))
                if 0 <= y + dy < height and 0 <= x + dx < width and region.get((y + dy, x + dx)) != number
            ]

            def cost(
                a: int,
                b: int,
                border: list[tuple[int, int]] = border,
                shifted: tuple[int, int] = (down, across),
                turn: int = turn,
                before: list[tuple[int, int]] = before,
            ) -> int:
                total = 600 * len(border) * (abs(a) + abs(b))
                for y, x in border:
                    ty, tx = 4 * y, 4 * x
                    if (y, x) in shift:
                        if turn == 0:
                            continue
                        move = before[region[y, x]]
                        ty, tx = (4 * (c + s) + m for c, s, m in zip((y, x), shift[y, x], move, strict=True))
                    sy, sx = 4 * (y + shifted[0]) + a, 4 * (x + shifted[1]) + b
                    apart = grey[sy : sy + 4, sx : sx + 4] - grey[ty : ty + 4, tx : tx + 4]
                    total += int((apart * apart).sum())
                return total

            offers = [before[number]] + [(a, b) for a in range(-3, 4) for b in range(-3, 4)]
            a, b = min(offers, key=lambda offer: cost(*offer))  # the first of equals
            moves.append((a, b))
            parts = []
            for at, lower, upper in ((a, (a - 1, b), (a + 1, b)), (b, (a, b - 1), (a, b + 1))):
                part = 0
                if abs(at) < 3:
                    down, up = cost(*lower) - cost(a, b), cost(*upper) - cost(a, b)
                    if down > 0 and up > 0:
                        part = (down - up) * 32 // (down + up)
                parts.append(part)
            fine.append((parts[0], parts[1]))
    return {
        y * width + x: (64 * moves[r][0] + fine[r][0], 64 * moves[r][1] + fine[r][1]) for (y, x), r in region.items()
    }


def melded(low: Array, hole: NDArray[np.bool_], place: Array, trust: Array, smooth: float, edge: float) -> Array:
    """The low band that `search.correction` describes, by one dense system; `low` (h, w, 3), `hole` and `trust`
    (h, w), of a source without bound rough; `smooth` and `edge` as `search.SMOOTH` and `EDGE`; `place` (h, w, 2), in
    cells, where what each hole cell copies begins."""
    h, w = hole.shape
    holes = {(y, x): n for n, (y, x) in enumerate(np.argwhere(hole).tolist())}
    system, right = np.zeros((len(holes), len(holes))), np.zeros((len(holes), 3))
    for (y, x), n in holes.items():
        rough = 0.0
        for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
            qy, qx = y + dy, x + dx
            if not (0 <= qy < h and 0 <= qx < w):
                continue
            difference = sample(low, *place[y, x]) - sample(low, *(place[y, x] + (dy, dx)))
            rough += float((difference**2).sum())
            system[n, n] += 1
            if (qy, qx) in holes:
                there = place[qy, qx]
                copies = sample(low, *place[y, x]) - sample(low, *there)
                difference = (difference + sample(low, *(there - (dy, dx))) - sample(low, *there)) / 2
                jump = copies - difference
                size = float(jump @ jump)
                if size:
                    drawn = [
                        low[min(max(v, 0), h - 1), min(max(u, 0), w - 1)]
                        for v, u in ((y - 2 * dy, x - 2 * dx), (qy + 2 * dy, qx + 2 * dx))
                    ]
                    shown = min(max(2 * float((drawn[0] - drawn[1]) @ jump) / size, 0), 1)
                    difference = difference + shown * size**2 / (size**2 + edge) * jump
                system[n, holes[qy, qx]] -= 1
            else:
                right[n] += low[qy, qx]
            right[n] += difference
        trusted = trust[y, x] * rough / (rough + smooth)
        system[n, n] += trusted
        right[n] += trusted * low[y, x]
    result = low.copy()
    for (y, x), values in zip(holes, np.linalg.solve(system, right), strict=True):
        result[y, x] = values
    return result


def sample(low: Array, y: float, x: float) -> Array:
    """`low` (h, w, 3) at a place between cells, bilinearly."""
    result = np.zeros(3)
    for v in (int(y), int(y) + 1):
        for u in (int(x), int(x) + 1):
            share = (1 - abs(y - v)) * (1 - abs(x - u))
            if share > 0:
                result = result + share * low[v, u]
    return result
