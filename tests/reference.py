"""The paper's equations as slow loops over NumPy arrays, to be read beside the paper."""

from __future__ import annotations

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
    its sources, through a squared-sine window twice its side; what would come from corrupted patches is left out.
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
                            w *= np.sin(np.pi * (t + margin + 0.5) / (2 * side)) ** 2
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
