"""Methods without any training, in the engine's shape: `(image, mask) -> image`.

Images are uint8 RGB (H, W, 3) of any size, masks bool (H, W), True = hole. A new array comes back; known
pixels are bit-identical. These are yardsticks, written to be read: `copy_reference` is the training-free form
of 3.3 and 3.4 against which learned weights are judged, and must not change when the engine does.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined.errors import InputError

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

PATCH = 8
"""Side P of a patch in low-resolution pixels (3.3)."""
LONG_SIDE = 512
"""The low-resolution image is the photograph divided by ceil(long side / LONG_SIDE)."""
SIGMA = 2.0
"""Gaussian, in low-resolution pixels, below which the guide is kept and above which patches are copied."""
RADIUS = 3.0
"""OpenCV's neighbourhood, in pixels."""


def telea_full(image: Image, mask: Mask) -> Image:
    """OpenCV's Telea fill at full resolution."""
    check(image, mask)
    return np.where(mask[..., None], _inpaint(image, mask), image)


def navier_stokes(image: Image, mask: Mask) -> Image:
    """OpenCV's Navier-Stokes fill (Bertalmio et al., CVPR 2001) at full resolution."""
    check(image, mask)
    return np.where(mask[..., None], _inpaint(image, mask, cv2.INPAINT_NS), image)


def telea(image: Image, mask: Mask) -> Image:
    """Telea fill of the low-resolution image, upsampled bilinearly into the hole."""
    check(image, mask)
    padded, hole, scale = _padded(image, mask)
    guide = _telea_guide(padded, hole, scale)
    filled = _upsampled(guide, scale)
    height, width = mask.shape
    return np.where(mask[..., None], _to_uint8(filled[:height, :width]), image)


def copy_reference(image: Image, mask: Mask) -> Image:
    """Match and copy without training: Telea guide, top-1 matches that agree, split at SIGMA.

    `out = up(G * guide) + mix(HR - up(G * composite))`. The composite (known pixels put back into the guide)
    is the guide itself, as Telea leaves known pixels alone. An image without one known patch gets `telea`.
    """
    check(image, mask)
    padded, hole, scale = _padded(image, mask)
    guide = _telea_guide(padded, hole, scale)
    corrupted = _any_in_block(hole, PATCH * scale)
    if corrupted.all():
        return telea(image, mask)
    source = match(guide, corrupted)
    low = np.asarray(cv2.GaussianBlur(guide, (0, 0), SIGMA), np.float32)
    out = copy_above(padded, hole, source, low, low, scale)
    height, width = mask.shape
    return np.where(mask[..., None], out[:height, :width], image)


def match(guide: Floats, corrupted: Mask, *, agreement: int = 3) -> NDArray[np.int64]:
    """The best known patch of every corrupted one, as flat indices (h, w); known ones keep themselves (3.3).

    `guide` (h P, w P, C) float32, `corrupted` (h, w). The score of patch i against patch j is minus their
    squared difference, averaged over the `agreement` x `agreement` neighbours d at equal offsets:
    `S'(i, j) = mean_d S(i + d, j + d)` over those d for which both patches lie inside the image.
    """
    height, width = corrupted.shape
    tokens = guide.reshape(height, PATCH, width, PATCH, -1).swapaxes(1, 2).reshape(height, width, -1)
    tokens = tokens - tokens.mean((0, 1))  # differences are unchanged, and float32 keeps more of them
    reach = agreement // 2
    around = np.pad(tokens, ((reach, reach), (reach, reach), (0, 0)))
    inside = np.pad(np.ones((height, width), np.float32), reach)
    shifts = [np.s_[y : y + height, x : x + width] for y in range(agreement) for x in range(agreement)]
    # One long vector per patch: its neighbours' tokens side by side, zero outside the image.
    vectors = np.concatenate([around[shift] for shift in shifts], -1).reshape(height * width, -1)
    squares = np.stack([(around[shift] ** 2).sum(-1) for shift in shifts], -1).reshape(height * width, -1)
    present = np.stack([inside[shift] for shift in shifts], -1).reshape(height * width, -1)
    known = np.flatnonzero(~corrupted)
    source = np.arange(height * width)
    for rows in np.array_split(np.flatnonzero(corrupted), max(1, corrupted.sum() // 512)):
        # sum_d |a_d - b_d|^2 over the d present on both sides, as three matrix products.
        distance = squares[rows] @ present[known].T + present[rows] @ squares[known].T
        distance -= 2 * (vectors[rows] @ vectors[known].T)
        distance /= present[rows] @ present[known].T
        source[rows] = known[distance.argmin(1)]
    return source.reshape(height, width)


def copy_above(
    image: Image, mask: Mask, source: NDArray[np.int64], low_guide: Floats, low_image: Floats, scale: int
) -> Image:
    """Eq. 4 at full resolution: `up(low_guide) + mix(image - up(low_image))` in the hole, `image` elsewhere.

    `image` (h P s, w P s, 3), `source` (h, w) as from `match`, both lows float32 (h P, w P, 3) in 0..255.
    Patches are copied as windows of twice their side at their own stride, under a squared sine that sums to
    one, normalised over the contributions that are known pixels inside the image.
    """
    rows, columns = source.shape
    side = PATCH * scale
    half = side // 2
    sine = np.sin(np.pi * (np.arange(2 * side, dtype=np.float32) + 0.5) / (2 * side)) ** 2
    window = np.outer(sine, sine)
    border = ((half, half), (half, half))
    padded = np.pad(image, (*border, (0, 0)))
    valid = np.pad(~mask, border)  # nothing outside the image is copied
    # Half a patch of window, and the pixel that upsampling reaches: crops then upsample as the whole.
    low_image = np.pad(low_image, ((PATCH // 2 + 1,) * 2, (PATCH // 2 + 1,) * 2, (0, 0)), mode="edge")
    out = image.copy()
    base = np.pad(low_guide, ((PATCH // 2 + 1,) * 2, (1, 1), (0, 0)), mode="edge")
    flat = np.arange(rows * columns).reshape(rows, columns)
    copied = np.zeros((2 * side, padded.shape[1], 3), np.float32)  # a band of one row of windows
    weight = np.zeros(copied.shape[:2], np.float32)
    for row in range(rows + 1):
        for column in np.flatnonzero(source[row] != flat[row]) if row < rows else ():
            r, c = divmod(int(source[row, column]), columns)
            at = np.s_[r * side : (r + 2) * side, c * side : (c + 2) * side]
            crop = low_image[r * PATCH : (r + 2) * PATCH + 2, c * PATCH : (c + 2) * PATCH + 2]
            low = _upsampled(crop, scale)[scale:-scale, scale:-scale]
            share = window * valid[at]
            to = np.s_[:, column * side : (column + 2) * side]
            copied[to] += share[..., None] * (padded[at] - low)
            weight[to] += share
        # The band's upper half has every window it will get: rows [row P s - half, row P s + half).
        top, bottom = max(0, row * side - half), min(rows * side, row * side + half)
        band = np.s_[top - row * side + half : bottom - row * side + half, half:-half]
        crop = base[row * PATCH : (row + 1) * PATCH + 2]
        low = _upsampled(crop, scale)[scale:-scale, scale:-scale][band[0]]
        hole = mask[top:bottom]
        detail = copied[band][hole] / weight[band][hole][:, None]
        out[top:bottom][hole] = _to_uint8(low[hole] + detail)
        copied[:side], weight[:side] = copied[side:], weight[side:]
        copied[side:], weight[side:] = 0, 0
    return out


def _any_in_block(mask: Mask, side: int) -> Mask:
    """(h side, w side) to (h, w): True where any pixel of the block is."""
    height, width = mask.shape[0] // side, mask.shape[1] // side
    return np.asarray(mask.reshape(height, side, width, side).any((1, 3)))


def _padded(image: Image, mask: Mask) -> tuple[Image, Mask, int]:
    """Image and mask mirrored at their ends to whole patches, and the integer scale s."""
    height, width = mask.shape
    scale = -(-max(height, width) // LONG_SIDE)
    pad = ((0, -height % (PATCH * scale)), (0, -width % (PATCH * scale)))
    return np.pad(image, (*pad, (0, 0)), mode="symmetric"), np.pad(mask, pad, mode="symmetric"), scale


def _telea_guide(image: Image, mask: Mask, scale: int) -> Floats:
    """The low-resolution image by area averaging, its hole (any hole pixel in the block) filled by Telea."""
    small = cv2.resize(image, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    return _inpaint(np.asarray(small, np.uint8), _any_in_block(mask, scale)).astype(np.float32)


def _inpaint(image: Image, mask: Mask, method: int = cv2.INPAINT_TELEA) -> Image:
    return np.asarray(cv2.inpaint(image, mask.astype(np.uint8), RADIUS, method), np.uint8)


def _upsampled(image: Floats, scale: int) -> Floats:
    larger = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return np.asarray(larger, np.float32)


def _to_uint8(image: NDArray[np.floating]) -> Image:
    return np.asarray(np.rint(image).clip(0, 255), np.uint8)


def check(image: Image, mask: Mask) -> None:
    """Raises InputError unless `image` is uint8 (H, W, 3), `mask` bool (H, W), and something is known."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"image is {image.dtype} {image.shape}; give uint8 (H, W, 3) RGB")
    if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise InputError(f"mask is {mask.dtype} {mask.shape}; give bool {image.shape[:2]}, True = hole")
    if mask.all():
        raise InputError("the whole image is hole; nothing is left to fill it from")
