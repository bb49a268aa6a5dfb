"""What a tight mask leaves of a thing does not colour the fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rethined import plain, rim
from rethined.engine import Engine
from rethined.masks import free_form
from rethined.rim import ARC, FAR, HOLE
from rethined.upscale import Upscaler
from rethined.windows import whole

Floats = NDArray[np.float32]
PHOTOS = Path(__file__).parent.parent / "examples" / "photos"


def stained(size: int, radius: float, left: float) -> tuple[Floats, Floats, NDArray[np.float64]]:
    """A bright, noisy wall (size, size, 3) with a dark disc, a mask that ends `left` pixels within its blurred edge,
    and the distance to its middle."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:size, :size].astype(np.float64)
    distance = np.hypot(y - size / 2, x - size / 2)
    wall = np.stack([150 + 40 * y / size, 170 + 30 * x / size, 200 + 0 * x], -1) + rng.normal(0, 3, (size, size, 1))
    disc = cv2.GaussianBlur((distance < radius).astype(np.float64), (0, 0), 1.2)[..., None]
    photo = wall * (1 - disc) + disc * np.array([60, 30, 20])
    return photo.clip(0, 255).round().astype(np.uint8), distance < radius - left, distance


@pytest.mark.parametrize("left", [0, 1, 2])
def test_the_edge_of_a_thing_does_not_colour_the_fill(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, mask, distance = stained(480, 90, left)
    middle = distance < 50
    wall = np.array([170, 185, 200])
    engine = Engine(threads=1)
    assert np.abs(engine(photo, mask)[middle].mean(0) - wall).max() < 8
    monkeypatch.setattr(rim, "find", lambda image, holes: None)
    assert np.abs(engine(photo, mask)[middle].mean(0) - wall).max() > 20


def grid(photo: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    small = Upscaler(1).shrink(photo, mask, whole(*mask.shape, 32), 8)
    return small.image[0].copy(), small.mask[0, 0].copy()


def slow(image: Floats, holes: Floats) -> NDArray[np.bool_]:
    """`rim.find`, pixel by pixel and arc by arc."""
    height, width = holes.shape
    grey = np.floor((image[0] + image[1] + image[2]) * np.float32(255) + np.float32(0.5)).astype(int)
    ys, xs = np.nonzero(holes)
    ring = np.full(holes.shape, HOLE)
    for y, x in np.ndindex(*holes.shape):
        if len(ys) and not holes[y, x]:
            ring[y, x] = max(HOLE - np.maximum(np.abs(ys - y), np.abs(xs - x)).min(), 0)
    blocks: dict[tuple[int, int, int], list[int]] = {}
    for y, x in np.ndindex(*holes.shape):
        beside = [(y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)]
        outer = [grey[v, u] for v, u in beside if 0 <= v < height and 0 <= u < width and ring[v, u] == ring[y, x] - 1]
        if FAR <= ring[y, x] < HOLE and outer and (x + y) % 2 == 0:
            mean = int(np.floor(np.mean(outer) + 0.5))
            blocks.setdefault((ring[y, x], y // ARC, x // ARC), []).append(abs(grey[y, x] - mean))
    result = np.zeros(holes.shape, np.bool_)
    for y, x in np.ndindex(*holes.shape):
        means = []
        for own in range(HOLE):
            near = [blocks.get((own, y // ARC + v, x // ARC + u), []) for v in range(-1, 2) for u in range(-1, 2)]
            values = [value for block in near for value in block]
            means.append(4 * sum(values) // len(values) if values else None)
        far = means[FAR]
        differs = [m for m in range(FAR + 1, HOLE) if far is not None and means[m] and 2 * means[m] > 5 * far + 72]
        result[y, x] = bool(differs) and min(differs) - 1 <= ring[y, x] < HOLE
    return result


def test_rims_are_what_the_definition_says() -> None:
    photo, mask, _ = stained(96, 24, 1)
    image, holes = grid(photo, mask)
    found = rim.find(image, holes)
    assert found is not None
    np.testing.assert_array_equal(found, slow(image, holes))
    photo[40:60] = 255 - photo[40:60]
    mask[3:8, 70:] = mask[:, 2] = True
    image, holes = grid(photo, mask)
    found = rim.find(image, holes)
    assert found is not None
    np.testing.assert_array_equal(found, slow(image, holes))


@pytest.mark.parametrize("seed", range(3))
def test_without_numba_it_is_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photo = np.asarray(Image.open(sorted(PHOTOS.glob("*.jpg"))[seed]).convert("RGB").resize((320, 256)))
    image, holes = grid(photo, free_form(256, 320, rng, coverage=(0.1, 0.3)))
    results: list[Any] = []
    for mark, compare in ((rim._mark, rim._compare), (plain.mark, plain.compare)):
        near = np.zeros(holes.shape, np.uint8)
        mark(holes, near, HOLE)
        sums, counts = np.zeros((2, HOLE, 18, 22), np.int32)
        compare(image, near, sums, counts, ARC, FAR)
        results.append((near, sums, counts))
    for compiled, other in zip(*results, strict=True):
        np.testing.assert_array_equal(compiled, other)


def test_few_clean_masks_have_one() -> None:
    found, rings = 0, 0
    for n, file in enumerate(sorted(PHOTOS.glob("*.jpg"))):
        photo = np.asarray(Image.open(file).convert("RGB").resize((512, 384)))
        image, holes = grid(photo, free_form(384, 512, np.random.default_rng(n), coverage=(0.1, 0.2)))
        some = rim.find(image, holes)
        found += 0 if some is None else int(some.sum())
        rings += int(cv2.dilate(holes, np.ones((7, 7))).sum() - holes.sum())
    assert found < 0.05 * rings


def test_what_is_hidden_is_a_hole_in_all_that_the_network_sees() -> None:
    photo, mask, _ = stained(96, 24, 1)
    small = Upscaler(1).shrink(photo, mask, whole(96, 96, 32), 8)
    small.detail[:] = 1
    found = rim.hide(small.image[0], small.mask[0, 0], small.detail[0])
    assert found is not None
    assert (small.mask[0, 0][found] == 1).all()
    assert (small.image[0][:, found] == 0).all()
    patches = found.reshape(12, 8, 12, 8).any((1, 3))
    assert (small.detail[0][:, patches] == 0).all()
    assert (small.detail[0][:, ~patches] == 1).all()


def test_beside_a_rim_nothing_is_mended() -> None:
    rng = np.random.default_rng(0)
    photo, mask = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8), np.zeros((64, 64), np.bool_)
    mask[16:48, 16:48] = True
    window = whole(64, 64, 32)
    marked = np.zeros((64, 64), np.bool_)
    marked[16:48, 15] = True
    mended, spared = photo.copy(), photo.copy()
    upscaler = Upscaler(1)
    upscaler.mend(mended, mask, window)
    upscaler.mend(spared, mask, window, marked)
    left = np.zeros_like(mask)
    left[15:49, 14:17] = True
    assert (mended != photo)[mask & left].any()
    np.testing.assert_array_equal(spared[left], photo[left])
    np.testing.assert_array_equal(spared[~left], mended[~left])
