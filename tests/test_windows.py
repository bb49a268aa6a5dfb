"""Where the engine looks: every hole in one window, no more grid than the whole photo would take."""

from __future__ import annotations

import threading
import time
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from rethined import windows
from rethined.backends import CoreOutput, OnnxBackend
from rethined.engine import Engine
from rethined.errors import RethinedWarning
from rethined.masks import free_form
from rethined.upscale import Upscaler
from rethined.windows import BLOCK, FINE, GRID, GRID_GROWTH, MARGIN, THIN_SHARE, Window, find, whole
from rethined.workers import Workers

Bools = NDArray[np.bool_]
PHOTOS = Path(__file__).parent.parent / "examples" / "photos"


def blocks_of(mask: Bools) -> tuple[Bools, Bools]:
    blocks, full = np.zeros((2, *(-(-side // BLOCK) for side in mask.shape)), np.bool_)
    windows.block(np.ascontiguousarray(mask), blocks, full, 0, len(blocks))
    return blocks, full


def found(mask: Bools) -> list[Window]:
    return find(*blocks_of(mask), *mask.shape, 32)


@pytest.mark.parametrize(
    "size", [(1, 1), (7, 5), (512, 512), (513, 512), (3000, 4000), (400, 12000), (8192, 8192), (3, 20000)]
)
def test_the_whole_photo_is_within_budget(size: tuple[int, int]) -> None:
    window = whole(*size, 32)
    assert window[:4] == (0, 0, *size)
    scale, height, width = window[4:7]
    assert height % 32 == width % 32 == 0
    assert height * scale >= size[0]
    assert width * scale >= size[1]
    assert height * width <= max(GRID, GRID_GROWTH * scale) or min(height, width) == 32
    assert scale * 2 % 1 == 0 if scale < 4 else scale % 1 == 0
    if max(size) <= 512:
        assert scale == 1


def test_the_grid_grows_more_slowly_than_the_photo() -> None:
    """600 squared at most, padding included, up to 17 megapixels; less than twice as many pixels at 64."""
    sides = [512, 768, 1024, 2048, 3072, 4096, 6144, 8192]
    grids = [whole(side, side, 32) for side in sides]
    assert [grid.rows for grid in grids] == [512, 512, 512, 512, 512, 512, 640, 704]
    assert [grid.scale for grid in grids] == [1, 1.5, 2, 4, 6, 8, 10, 12]
    assert whole(768, 1024, 32)[4:7] == (1.5, 512, 704)
    assert whole(768, 1024, 32, band=1)[4:7] == (2, 384, 512)
    assert whole(1536, 2048, 32)[4:7] == (3, 512, 704)
    assert whole(3000, 4000, 32)[4:7] == (6, 512, 672)
    assert whole(4000, 6000, 32)[4:7] == (8, 512, 768)


@pytest.mark.parametrize("size", [(1, 1), (16, 33), (100, 513), (255, 64)])
def test_blocks_are_true_where_any_pixel_is_and_full_where_all_are(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for share in (0, 0.0005, 0.005, 0.995, 1):
        mask = rng.random(size) < share
        got, full = blocks_of(mask)
        padded = np.pad(mask, [(0, BLOCK * count - side) for count, side in zip(got.shape, size, strict=True)])
        for y, x in np.ndindex(*got.shape):
            part = padded[y * BLOCK : (y + 1) * BLOCK, x * BLOCK : (x + 1) * BLOCK]
            assert got[y, x] == part.any()
            assert full[y, x] == part[::4].all()


def spots(height: int, width: int, seed: int) -> Bools:
    """Some spots and lines of random places, sizes and directions."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.bool_)
    for _ in range(rng.integers(1, 12)):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        if rng.random() < 0.3:
            angle = rng.uniform(0, np.pi)
            mask |= np.abs((y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)) < rng.uniform(1, 8)
        else:
            mask |= (y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(1, 2 + 0.1 * (height + width)) ** 2
    mask[int(cy) % height, int(cx) % width] = True
    return mask


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 1150), width=st.integers(1, 1150), seed=st.integers(0, 1000))
def test_every_hole_is_in_one_window_with_its_margin(height: int, width: int, seed: int) -> None:
    mask = spots(height, width, seed)
    all_, parts = whole(height, width, 32), found(mask)
    assert all_.scale < FINE
    scale = parts[0].scale
    assert scale <= all_.scale
    assert sum(part.rows * part.columns for part in parts) <= all_.rows * all_.columns
    times = np.zeros(mask.shape, int)
    for part in parts:
        times[part.holes] += 1
        assert part.scale == scale
        assert part.rows % 32 == part.columns % 32 == 0
        for begin, length, grid, hole, side in (
            (part.top, part.height, part.rows, part.holes[0], height),
            (part.left, part.width, part.columns, part.holes[1], width),
        ):
            assert 0 <= begin <= max(hole.start - MARGIN * scale, 0)
            assert min(hole.stop + MARGIN * scale, side) <= begin + length <= side
            # Only what reaches all across the photo is filled up with hole.
            assert length == grid * scale or (length == side and grid * scale < side + 32 * scale)
    assert (times[mask] == 1).all()
    assert times.max() <= 1


@pytest.mark.parametrize("band", [1, 4])
def test_without_numba_windows_are_the_same(band: int, request: pytest.FixtureRequest) -> None:
    masks = [spots(*size, seed) for seed, size in enumerate([(700, 900), (90, 1300), (2600, 3000), (1, 1)])]
    fast = [find(*blocks_of(mask), *mask.shape, 32, band) for mask in masks]
    request.getfixturevalue("without_numba")
    assert fast == [find(*blocks_of(mask), *mask.shape, 32, band) for mask in masks]
    assert max(map(len, fast)) > 2


def test_a_small_hole_is_seen_at_full_resolution_however_large_the_photo() -> None:
    mask = np.zeros((4000, 6000), np.bool_)
    mask[2000:2100, 3000:3080] = True
    (one,) = found(mask)
    assert one.scale == 1
    assert one.rows * one.columns < 0.3 * GRID


def test_what_lies_far_apart_has_windows_of_its_own() -> None:
    mask = np.zeros((3000, 4000), np.bool_)
    for y, x in ((100, 100), (2900, 200), (1500, 3900)):
        mask[y - 20 : y + 20, x - 20 : x + 20] = True
    assert [part.scale for part in found(mask)] == [1, 1, 1]


def dusty(height: int, width: int, count: int) -> Bools:
    """Specks of 6 to 28 pixels, a 9 pixel wire, and nothing else."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    mask = np.abs(y - height // 2 - 0.1 * (x - width // 2)) < 4.5
    for _ in range(count):
        cy, cx, radius = rng.integers(0, height), rng.integers(0, width), rng.integers(3, 15)
        part = slice(max(cy - radius, 0), cy + radius), slice(max(cx - radius, 0), cx + radius)
        mask[part] |= np.hypot(y[part] - cy, x[part] - cx) < radius
    return mask


def test_specks_and_wires_are_seen_finely_whatever_else_is_masked() -> None:
    dust = dusty(2400, 3600, 40)
    assert {part.scale for part in found(dust)} == {1}
    both = dust.copy()
    both[1500:2400, 1000:2600] = True
    parts, all_ = found(both), whole(2400, 3600, 32)
    thin, thick = ([part for part in parts if (part.scale == 5) == coarse] for coarse in (False, True))
    assert parts == thin + thick  # what is thin is known when the rest is filled
    assert {part.scale for part in thin} == {1}
    assert len(thick) == 1
    pixels = all_.rows * all_.columns
    assert sum(part.rows * part.columns for part in thin) <= THIN_SHARE * pixels
    assert thick[0].rows * thick[0].columns <= pixels
    times = np.zeros(both.shape, int)
    for part in thin:
        times[part.holes] += 1
    assert times.max() == 1
    for part in thick:
        times[part.holes] += 1
    assert (times[both] > 0).all()


def letters(height: int, width: int, size: int, every: int) -> Bools:
    """Words of letters of `size` pixels all over, one line `every` so many pixels."""
    mask = np.zeros((height, width), np.uint8)
    for row, y in enumerate(range(size, height, every)):
        for x in range(-100 * (row % 2), width, size * 8):
            cv2.putText(mask, "SAMPLE", (x, y), cv2.FONT_HERSHEY_SIMPLEX, size / 22, 1, max(size // 10, 2))
    return mask > 0


@pytest.mark.parametrize(("size", "every"), [(60, 220), (120, 400), (160, 560)])
def test_letters_all_over_a_photo_are_seen_finely_a_part_at_a_time(size: int, every: int) -> None:
    mask = letters(2400, 3600, size, every)
    parts, all_ = found(mask), whole(2400, 3600, 32)
    budget = all_.rows * all_.columns
    assert max(part.scale for part in parts) <= 1.5 < all_.scale
    assert budget < sum(part.rows * part.columns for part in parts) <= THIN_SHARE * budget
    assert max(part.rows * part.columns for part in parts) <= budget
    times = np.zeros(mask.shape, int)
    for part in parts:
        times[part.holes] += 1
    assert (times[mask] == 1).all()


def test_thin_parts_of_what_is_thick_are_not_taken_apart() -> None:
    y, x = np.mgrid[:2400, :3600]
    mask = (np.hypot(y - 1200, x - 1800) < 700) | (np.abs(y - 1200) < 8)
    assert len({part.scale for part in found(mask)}) == 1


def test_holes_at_the_border_have_something_to_copy() -> None:
    for at in (0, 1000, 2984):
        mask = np.zeros((3000, 4000), np.bool_)
        mask[at : at + 16, :16] = True
        (one,) = found(mask)
        assert min(one.rows, one.columns) >= 64


def test_a_wire_is_cut_and_a_broad_hole_is_not() -> None:
    y, x = np.mgrid[:3000, :4000]
    wire, bar = (np.abs(y - 0.7 * x) < half for half in (6, 500))
    assert len(found(wire)) > 3
    assert found(wire)[0].scale < 6 == found(bar)[0].scale
    assert len(found(bar)) == 1


def test_a_network_of_one_size_gets_that_size() -> None:
    mask = np.zeros((3000, 4000), np.bool_)
    mask[100:300, 50:250] = mask[200, :1000] = True
    (one,) = find(*blocks_of(mask), *mask.shape, 32, size=(384, 512))
    assert (one.rows, one.columns) == (384, 512)
    assert one.height == one.rows * one.scale
    assert one.width == one.columns * one.scale
    (tiny,) = find(*blocks_of(~mask[:100, :300]), 100, 300, 32, size=(384, 512))
    assert tiny[:7] == (0, 0, 100, 300, 1, 384, 512)


def without_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "find", lambda blocks, full, *size: [whole(*size[:3])])


def test_a_wire_is_filled_better_than_on_the_grid_of_the_whole_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(PHOTOS / "city.jpg") as file:
        image = np.asarray(file.convert("RGB"))
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    wire = np.abs(y - 0.1 * x - 1075) < 4
    engine = Engine(threads=2)
    fine = engine(image, wire)
    without_windows(monkeypatch)
    coarse = engine(image, wire)
    apart = [np.abs(fill[wire].astype(int) - image[wire]).mean() for fill in (fine, coarse)]
    assert apart[0] < 0.7 * apart[1]


def fence(height: int, width: int, every: int, thick: int) -> Bools:
    mask = np.zeros((height, width), np.uint8)
    for x in range(-height, width + height, every):
        for run in (-height, height):
            cv2.line(mask, (x, 0), (x + run, height), 1, thick)
    return mask > 0


@pytest.mark.parametrize(("every", "thick"), [(130, 40), (210, 70)])
def test_behind_a_fence_the_photo_goes_on(every: int, thick: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the grid of the whole photo nothing that is known is wide enough to be copied."""
    with Image.open(PHOTOS / "city.jpg") as file:
        image = np.asarray(file.convert("RGB"))[:1400, :2100]
    mask, engine = fence(*image.shape[:2], every, thick), Engine(threads=2)
    assert {part.scale for part in found(mask)} == {1}
    assert sum(part.rows * part.columns for part in found(mask)) <= THIN_SHARE * GRID
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine = engine(image, mask)
    without_windows(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RethinedWarning)
        coarse = engine(image, mask)

    def texture(picture: NDArray[np.uint8]) -> float:
        steps = np.abs(np.diff(picture.astype(int), axis=1))[mask[:, 1:] & mask[:, :-1]]
        return float(steps.mean() / np.abs(np.diff(image.astype(int), axis=1))[mask[:, 1:] & mask[:, :-1]].mean())

    assert 0.75 < texture(fine) < 1.25
    assert texture(coarse) < 0.9 * texture(fine)
    apart = [np.abs(fill[mask].astype(int) - image[mask]).mean() for fill in (fine, coarse)]
    assert apart[0] < 1.1 * apart[1]  # though a smooth guess is what makes that small


@pytest.mark.parametrize(
    "known",
    [np.s_[:48], np.s_[:, 1000:1048], np.s_[640:704, 960:1024], np.s_[-100:, :110], np.s_[::900]],
    ids=["above", "column", "square", "corner", "lines"],
)
def test_every_window_sees_what_is_known(known: Any) -> None:
    """Little may be known, and that is no fence: what a network draws that sees nothing is black, and the next window
    would take it for the photo."""
    mask = np.ones((2560, 3840), np.bool_)
    mask[known] = False
    parts = found(mask)
    assert all(not part.of(mask).all() for part in parts)
    assert all(part.scale >= 4 for part in parts)
    frame = np.ones_like(mask)
    frame[:48] = frame[-48:] = frame[:, :48] = frame[:, -48:] = False
    assert [(part.rows, part.columns) for part in found(frame)] == [(part.rows, part.columns) for part in parts[:1]]


@pytest.mark.parametrize("compiled", [True, False])
def test_in_place_and_in_any_window_the_fill_is_the_same(compiled: bool, request: pytest.FixtureRequest) -> None:
    if not compiled:
        request.getfixturevalue("without_numba")
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (90, 120, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    mask = np.zeros((720, 960), np.bool_)
    for y, x in ((40, 60), (500, 90), (300, 800)):
        mask[y : y + 30, x : x + 90] = True
    engine = Engine(threads=2)
    want = engine(image, mask)
    np.testing.assert_array_equal(want[~mask], image[~mask])
    assert len(found(mask)) > 1
    here = image.copy()
    assert engine(here, mask, out=here) is here
    np.testing.assert_array_equal(here, want)


def test_a_window_sees_what_those_before_it_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As known pixels, and it fills them no more."""
    mask = free_form(900, 1200, np.random.default_rng(2), coverage=(0.02, 0.03), kind="strokes")
    image = np.random.default_rng(3).integers(0, 256, (900, 1200, 3), np.uint8)
    parts = found(mask)
    assert len(parts) > 1
    seen: dict[str, Any] = {}
    shrink = Upscaler.shrink

    def watched(self: Upscaler, photo: Any, open_: Any, window: Window, patch: int) -> Any:
        seen[repr(window)] = window.of(photo).copy(), window.of(open_).copy()
        return shrink(self, photo, open_, window, patch)

    monkeypatch.setattr(Upscaler, "shrink", watched)
    result = Engine(threads=2)(image, mask)
    left = mask.copy()
    assert len(seen) == len(parts)
    for part in parts:
        photo, open_ = seen[repr(part)]
        np.testing.assert_array_equal(open_, part.of(left))
        np.testing.assert_array_equal(photo[~open_], part.of(result)[~open_])
        left[part.holes] = False
    assert not left.any()


def specks(height: int, width: int, count: int, seed: int) -> Bools:
    rng, mask = np.random.default_rng(seed), np.zeros((height, width), np.bool_)
    for y, x in rng.integers(0, (height - 20, width - 20), (count, 2)):
        mask[y : y + 12, x : x + 20] = True
    return mask


@settings(max_examples=30, deadline=None)
@given(st.integers(200, 1500), st.integers(200, 1500), st.integers(1, 30), st.integers(2, 8), st.integers(0, 99))
def test_windows_wait_for_what_they_see_filled(height: int, width: int, count: int, threads: int, seed: int) -> None:
    mask = specks(height, width, count, seed)
    parts = found(mask)
    after = windows.waits(parts, mask)
    for later, part in enumerate(parts):
        shown = np.zeros_like(mask)
        part.of(shown)[...] = True
        assert after[later] == [n for n in range(later) if (parts[n].of(shown) & parts[n].of(mask)).any()]
    groups = windows.beside(parts, after, threads)
    assert sorted(n for group in groups for n in group) == list(range(len(parts)))
    done: set[int] = set()
    for group in groups:
        assert group == sorted(group)
        assert done.union(group).issuperset(one for n in group for one in after[n])
        done.update(group)
    assert windows.beside(parts, after, 1) == [[n] for n in range(len(parts))]


def test_windows_are_filled_beside_each_other_or_not_whichever_is_faster() -> None:
    parts = found(specks(2000, 2000, 12, 0))
    assert len(parts) > 5
    free: list[list[int]] = [[] for _ in parts]
    assert windows.beside(parts, free, 2) == [list(range(len(parts)))]
    chain = [list(range(n)) for n in range(len(parts))]
    assert windows.beside(parts, chain, 2) == [[n] for n in range(len(parts))]
    # One that is larger than all others together gets all threads, after those that it need not wait for.
    large = [whole(512, 512, 32), *parts]
    assert windows.beside(large, [[], *free], 2) == [list(range(1, len(large))), [0]]
    assert windows.beside(large, [[], *([0] for _ in parts)], 2) == [[0], list(range(1, len(large)))]


@pytest.mark.parametrize("threads", [2, 3])
def test_beside_each_other_windows_are_filled_alike(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(PHOTOS / "city.jpg") as file:
        image = np.asarray(file.convert("RGB"))[:1200, :1600].copy()
    mask = specks(1200, 1600, 40, 1) | (np.abs(np.subtract.outer(np.arange(1200), np.arange(1600) // 3)) < 3)
    parts = found(mask)
    after = windows.waits(parts, mask)
    assert any(after), "some wait"
    assert any(len(group) > 1 for group in windows.beside(parts, after, threads)), "some do not"
    engine = Engine(threads=threads)
    results = [engine(image, mask) for _ in range(3)]  # the core for one thread is loaded at the second
    here = image.copy()
    results.append(engine(here, mask, out=here))
    monkeypatch.setattr(windows, "beside", lambda parts, after, threads: [[n] for n in range(len(parts))])
    want = engine(image, mask)
    np.testing.assert_array_equal(want[~mask], image[~mask])
    for result in results:
        np.testing.assert_array_equal(result, want)


def test_another_runtime_is_not_called_by_several_threads() -> None:
    class Other:
        """What fails if it is."""

        def __init__(self) -> None:
            self._core, self._busy = OnnxBackend(None, Workers(1)), threading.Lock()
            self.config, self.size = self._core.config, self._core.size

        def run(self, *inputs: Any) -> CoreOutput:
            assert self._busy.acquire(blocking=False)
            time.sleep(0.002)
            result = self._core.run(*inputs)
            self._busy.release()
            return result

        def describe(self) -> dict[str, Any]:
            return {}

    mask = specks(1200, 1600, 40, 1)
    image = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    np.testing.assert_array_equal(Engine(backend=Other(), threads=3)(image, mask), Engine(threads=3)(image, mask))


def test_what_fails_in_one_of_several_windows_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = specks(2000, 2000, 12, 0)
    image = np.zeros((2000, 2000, 3), np.uint8)
    engine, last = Engine(threads=2), found(mask)[-1]
    shrink = Upscaler.shrink

    def failing(self: Upscaler, photo: Any, open_: Any, window: Window, patch: int) -> Any:
        if window == last:
            raise MemoryError("no more")
        return shrink(self, photo, open_, window, patch)

    monkeypatch.setattr(Upscaler, "shrink", failing)
    with pytest.raises(MemoryError, match="no more"):
        engine(image, mask)
    monkeypatch.undo()
    assert engine(image, mask).shape == image.shape
