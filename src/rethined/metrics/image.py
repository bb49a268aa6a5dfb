"""L1, PSNR and SSIM over the whole image or inside the hole.

Images are uint8 RGB (H, W, 3); masks bool (H, W), True = hole. Every function works in strips, so that
8192 x 8192 needs no full-size float image. An empty hole gives NaN: there is nothing to judge.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined.errors import InputError

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

STRIP = 256
"""Rows worked on at once."""
WINDOW = 11
"""Side of SSIM's Gaussian window, in pixels (sigma 1.5), as in Wang et al. 2004."""


def l1(image: Image, target: Image, mask: Mask | None = None) -> float:
    """Mean absolute difference over pixels and channels, in [0, 1]; inside the hole when `mask` is given."""
    return _mean_power(image, target, mask, 1) / 255


def psnr(image: Image, target: Image, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; infinite for equal images."""
    mean = _mean_power(image, target, mask, 2)
    return float("inf") if mean == 0 else float(10 * np.log10(255**2 / mean))


def _mean_power(image: Image, target: Image, mask: Mask | None, power: int) -> float:
    """Mean of |image - target|^power over what counts, summed exactly in strips; nan over an empty hole."""
    _check(image, target, mask)
    total = count = 0
    for strip in _strips(image.shape[0]):
        difference = cv2.absdiff(image[strip], target[strip])
        if mask is not None:
            difference = difference[mask[strip]]
        total += int(np.power(difference, power, dtype=np.int64).sum())
        count += difference.size
    return total / count if count else float("nan")


def ssim(image: Image, target: Image, mask: Mask | None = None) -> float:
    """Mean SSIM of the image less half a window at its ends (as scikit-image), or of the hole.

    Raises:
        InputError: as `ssim_map`.
    """
    whole, hole = _ssim_means(image, target, mask)
    return whole if mask is None else hole


def measure(image: Image, target: Image, mask: Mask) -> dict[str, float]:
    """All of this module in one go: `l1`, `psnr`, `ssim` of the whole image; `l1_hole`... inside the hole.

    Raises:
        InputError: as `ssim_map`, or a mask of another shape.
    """
    whole, hole = _ssim_means(image, target, mask)
    return {
        "l1_hole": l1(image, target, mask),
        "psnr_hole": psnr(image, target, mask),
        "ssim_hole": hole,
        "l1": l1(image, target),
        "psnr": psnr(image, target),
        "ssim": whole,
    }


def ssim_map(image: Image, target: Image) -> NDArray[np.float32]:
    """SSIM at every pixel, mean of the channels, float32 (H, W).

    Wang et al. 2004: Gaussian window of sigma 1.5 (11 x 11), C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2. Equals
    scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False, full=True)` to
    1e-4 (here float32, there float64) at a tenth of its time.

    Raises:
        InputError: images that differ in shape, or are smaller than the window.
    """
    return np.concatenate([similarity for _, similarity in _ssim_strips(image, target)])


def _ssim_means(image: Image, target: Image, mask: Mask | None) -> tuple[float, float]:
    """Over the whole image less half a window at its ends, and inside the hole (nan where there is none)."""
    _check(image, target, mask)
    height, width = image.shape[:2]
    half = WINDOW // 2
    whole = hole = 0.0
    for strip, similarity in _ssim_strips(image, target):
        inner = slice(max(half - strip.start, 0), max(height - half - strip.start, 0))
        whole += float(similarity[inner, half:-half].sum(dtype=np.float64))
        if mask is not None:
            hole += float(similarity[mask[strip]].sum(dtype=np.float64))
    count = 0 if mask is None else np.count_nonzero(mask)
    return whole / ((height - 2 * half) * (width - 2 * half)), hole / count if count else float("nan")


def _ssim_strips(image: Image, target: Image) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Rows and their SSIM, from top to bottom."""
    _check(image, target, None)
    height, width = image.shape[:2]
    if min(height, width) < WINDOW:
        raise InputError(f"SSIM got {width}x{height}; both sides must be at least {WINDOW} pixels")
    half = WINDOW // 2
    for strip in _strips(height):
        top, bottom = max(0, strip.start - half), min(height, strip.stop + half)
        a, b = image[top:bottom], target[top:bottom]
        if np.array_equal(a, b):  # SSIM is exactly 1
            yield strip, np.ones((strip.stop - strip.start, width), np.float32)
        else:
            yield strip, _ssim(a, b)[strip.start - top : strip.stop - top].mean(2)


def _ssim(a: Image, b: Image) -> NDArray[np.float32]:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def mean(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(x, (WINDOW, WINDOW), 1.5, borderType=cv2.BORDER_REFLECT), np.float32)

    # Around the middle of the range float32 loses least in E[x^2] - E[x]^2.
    x, y = a.astype(np.float32) - 128, b.astype(np.float32) - 128
    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    mean_x += 128
    mean_y += 128
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure: NDArray[np.float32] = (2 * covariance + c2) / (variances + c2)
    return luminance * structure


def _strips(height: int) -> Iterator[slice]:
    for start in range(0, height, STRIP):
        yield slice(start, min(start + STRIP, height))


def _check(image: Image, target: Image, mask: Mask | None) -> None:
    if image.shape != target.shape or image.dtype != np.uint8 or target.dtype != np.uint8:
        raise InputError(
            f"got {image.dtype} {image.shape} and {target.dtype} {target.shape}; give two uint8 images alike"
        )
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != image.shape[:2]):
        raise InputError(f"mask is {mask.dtype} {mask.shape}; give bool {image.shape[:2]}, True = hole")
