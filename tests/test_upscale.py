"""The compiled loops against the plain PyTorch reference of 3.4, and the engine around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rethined.engine import Engine
from rethined.masks import free_form
from rethined.upscale import Upscaler, contributions, low_correction, ramps
from rethined.windows import Window

torch = pytest.importorskip("torch", reason="the reference of 3.4 is written in PyTorch")


def scene(height: int, width: int, scale: int, seed: int, coverage: tuple[float, float] = (0.2, 0.3)):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height * scale, width * scale, 3), dtype=np.uint8)
    mask = free_form(height * scale, width * scale, rng, coverage=coverage)
    return rng, image, mask


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("overlap", "k", "scale", "band"),
    [(True, 1, 4, 4), (True, 3, 2, 1), (False, 2, 3, 4), (True, 1, 1, 4), (True, 1, 7, 4), (True, 2, 3, 1)],
)
def test_fill_is_the_reference_within_one_grey_level(
    overlap: bool, k: int, scale: int, band: int, dtype: type, compiled: bool, request: pytest.FixtureRequest
) -> None:
    import dataclasses

    from test_model import random_attention

    if not compiled:
        request.getfixturevalue("without_numba")

    from rethined.config import DEFAULT
    from rethined.model.patch_match import corrupted_patches
    from rethined.model.pipeline import downsample, fine_detail
    from rethined.model.upscale import upscale

    height, width = 40, 56
    rng, image, mask = scene(height, width, scale, 0)
    peak = np.iinfo(dtype).max
    image = image.astype(dtype) * (peak // 255)
    tensor = torch.from_numpy(image.astype(np.float32) / peak).permute(2, 0, 1)[None]
    hole = torch.from_numpy(mask)[None, None].float()
    small, small_mask = downsample(tensor, hole, scale)
    detail = fine_detail(tensor, hole, scale, 8)
    bad = corrupted_patches(small_mask, 8)
    attention = random_attention(bad, k)
    low = torch.from_numpy(rng.random((1, 3, height // band, width // band), np.float32))
    config = dataclasses.replace(DEFAULT, search=False, overlap=overlap, band=band)
    want = upscale(config, tensor, hole, small_mask, low, attention)[0].permute(1, 2, 0).numpy() * peak

    window = shown(mask, scale, (height, width))
    for threads in (1, 2):
        upscaler = Upscaler(threads)
        got_small = upscaler.shrink(image, mask, window, 8)
        np.testing.assert_array_equal(got_small.mask, small_mask.numpy())
        np.testing.assert_allclose(got_small.image, small.numpy(), atol=1e-5)
        known = ~bad[0].numpy().reshape(height // 8, width // 8)
        np.testing.assert_allclose(got_small.detail[0][:, known], detail[0].numpy()[:, known], atol=1e-5)
        place = places(attention.source[0].numpy(), width // 8, 8 * scale)
        heard = contributions(place, attention.weight[0].numpy(), bad[0].numpy(), width // 8, 8 * scale, overlap)
        got = image.copy()
        lacking = low_correction(
            np.ascontiguousarray(low[0].numpy().transpose(1, 2, 0)), heard, 8 // band, scale * band
        )
        upscaler.fill(got, mask, window, lacking, heard, side=8 * scale, scale=scale * band, overlap=overlap)
        # Rounding alone, and of 16 bits what float32 sums lose; one grey level is allowed.
        assert np.abs(got.astype(float) - want).max() <= (0.51 if dtype is np.uint8 else 1)
        np.testing.assert_array_equal(got[~mask], image[~mask])


def shown(mask: NDArray[np.bool_], scale: float, grid: tuple[int, int]) -> Window:
    """All of a picture."""
    height, width = mask.shape
    return Window(0, 0, height, width, scale, *grid, (slice(0, height), slice(0, width)))


def places(source: NDArray[Any], columns: int, side: int) -> NDArray[np.int32]:
    """Where patches of `side` pixels begin: indices of any shape to rows and columns, along a new last axis."""
    return (np.stack(np.divmod(source, columns), -1) * side).astype(np.int32)


@pytest.mark.parametrize("side", [2, 8, 32, 56])
def test_ramps_are_the_reference_window_and_sum_to_one(side: int) -> None:
    from rethined.model.patch_match import window

    axis = ramps(side, True)
    np.testing.assert_allclose(axis.sum(0), 1, atol=1e-6)
    both = axis[:, None, :, None] * axis[None, :, None, :]
    np.testing.assert_allclose(both.reshape(9, side, side), window(side, True).numpy(), atol=1e-6)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_contributions_are_the_reference(k: int, compiled: bool, request: pytest.FixtureRequest) -> None:
    if not compiled:
        request.getfixturevalue("without_numba")
    from test_model import hole, random_attention

    from rethined.model import patch_match

    bad = patch_match.corrupted_patches(hole(64, 80, 4), 8)
    attention = random_attention(bad, k)
    want = patch_match.contributions(attention, bad, (8, 10), True)
    place = places(attention.source[0].numpy(), 10, 24)
    rows, begin, weight = contributions(place, attention.weight[0].numpy(), bad[0].numpy(), 10, 24, True)
    np.testing.assert_array_equal(rows, np.flatnonzero(bad[0]))
    want_weight = want.weight[0].numpy()[rows].reshape(weight.shape)
    np.testing.assert_array_equal(weight, want_weight)
    heard = weight > 0
    want_begin = places(want.source[0].numpy()[rows].reshape(weight.shape), 10, 24)
    np.testing.assert_array_equal(begin[heard], want_begin[heard])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_boxes_of_half_pixels_are_those_of_the_photo_at_twice_the_size(
    dtype: type, compiled: bool, request: pytest.FixtureRequest
) -> None:
    if not compiled:
        request.getfixturevalue("without_numba")
    rng = np.random.default_rng(0)
    image = rng.integers(0, np.iinfo(dtype).max, (70, 101, 3), dtype)
    mask = free_form(70, 101, rng, coverage=(0.1, 0.2))
    upscaler = Upscaler(2)
    for scale in (1.5, 2.5, 6.5):
        h, w = (-(-int(2 * side) // int(2 * scale * 32)) * 32 for side in mask.shape)
        grid = h, w
        got = [part.copy() for part in upscaler.shrink(image, mask, shown(mask, scale, grid), 8)]
        double = [picture.repeat(2, 0).repeat(2, 1) for picture in (image, mask)]
        want = upscaler.shrink(*double, shown(double[1], 2 * scale, grid), 8)
        for part, wanted in zip(got, want, strict=True):
            np.testing.assert_array_equal(part, wanted)
        assert got[1].min() == 0


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("dtype", "left", "width"), [(np.uint8, 10, 70), (np.uint16, 0, 140), (np.uint8, 99, 41)])
def test_mended_is_what_it_says(
    dtype: type, left: int, width: int, compiled: bool, request: pytest.FixtureRequest
) -> None:
    if not compiled:
        request.getfixturevalue("without_numba")
    rng = np.random.default_rng(2)
    image = rng.integers(0, np.iinfo(dtype).max, (70, 140, 3), dtype, endpoint=True)
    mask = free_form(70, 140, rng, coverage=(0.3, 0.4))
    right = left + width
    window = Window(5, left, 60, width, 1, 64, 160, (slice(5, 65), slice(left, right)))
    want = image.copy()
    for y, x in np.argwhere(mask):
        weights: list[list[int]] = [[], []]
        values: list[list[NDArray[np.int_]]] = [[], []]
        beside = False
        for v, u in np.ndindex(5, 5):
            v, u = v + y - 2, u + x - 2
            away = (v - y) ** 2 + (u - x) ** 2
            if window.top <= v < 65 and left <= u < right and (away <= 2 or not mask[v, u]):
                weights[int(mask[v, u])].append(round(64 / away**2) if away else 128)
                values[int(mask[v, u])].append(image[v, u].astype(int))
                beside |= not mask[v, u] and away <= 2
        if weights[0] and 5 <= y < 65 and left <= x < right:
            known, own = (np.average(np.stack(v), 0, w) for v, w in zip(values, weights, strict=True))
            mended = image[y, x] + (0.8 if beside else 0.4) * (known - own)
            want[y, x] = np.floor(mended.clip(0, np.iinfo(dtype).max) + 0.5 + 1e-9)
    for threads in (1, 2):
        got = image.copy()
        Upscaler(threads).mend(got, mask, window)
        np.testing.assert_array_equal(got, want)
    assert (want != image).mean() > 0.02


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("size", [(701, 1203), (96, 64), (2000, 300), (640, 1001)])
def test_without_numba_the_engine_gives_the_same(
    size: tuple[int, int], deep: bool, request: pytest.FixtureRequest
) -> None:
    _, image, mask = scene(*size, 1, 3)
    if deep:
        image = image.astype(np.uint16) * 257 + np.arange(size[1], dtype=np.uint16)[:, None] % 99
    fast = Engine(threads=2)(image, mask)
    request.getfixturevalue("without_numba")
    slow = Engine(threads=2)(image, mask)
    np.testing.assert_array_equal(fast, slow)
