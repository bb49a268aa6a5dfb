"""The search for sources: compiled and plain loops against the slow ones of `reference`, and its promises."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray

from rethined import plain, search
from rethined.backends import CoreOutput
from rethined.config import DEFAULT
from rethined.engine import Engine
from rethined.errors import RethinedWarning
from rethined.masks import free_form
from rethined.workers import Workers

Floats = NDArray[np.float32]
SHAPES = [(64, 64), (96, 64), (32, 160), (128, 96)]


def scene(height: int, width: int, seed: int, coverage: float = 0.25, length: int = 32) -> tuple[Floats, ...]:
    """What `search.find` is given of a picture of `height` x `width` pixels with texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.02, 0.9, (3, 3))])
    mask = free_form(height, width, rng, coverage=(coverage - 0.1, coverage + 0.1))
    holes = mask.astype(np.float32)
    small = (0.5 + 0.3 * waves + rng.normal(0, 0.05, waves.shape)).clip(0, 1).astype(np.float32) * (1 - holes)
    low = rng.uniform(-0.05, 1.05, (3, height // 4, width // 4)).astype(np.float32)
    vectors = rng.normal(size=(2, length, height // 8, width // 8)).astype(np.float32)
    query, key = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return small, holes, low, query, key


def alone(work: Callable[[], object]) -> None:
    work()


@pytest.mark.parametrize("length", [8, 40, 64])
def test_queries_may_have_any_length(length: int, request: pytest.FixtureRequest) -> None:
    inputs = scene(128, 96, seed=length, length=length)
    fast = search.find(*inputs, alone)
    request.getfixturevalue("without_numba")
    slow = search.find(*inputs, alone)
    assert fast is not None
    assert slow is not None
    np.testing.assert_array_equal(fast.source, slow.source)


@pytest.mark.parametrize("processor", [{}, {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}])
def test_vectors_are_multiplied_alike_on_all_processors(processor: dict[str, str]) -> None:
    code = """
import numpy as np
from numba import njit
from rethined.compiled import bits, count, dot, lowest, slide, surroundings, tally, unlike

@njit
def dots(a, b):
    return dot(a, np.int64(3), b, np.int64(5))

@njit
def differences(values, weights):
    return unlike(values, weights, np.int64(11), np.int64(290), np.int64(50))

@njit
def tallies(values, shift, votes):
    return tally(values, shift, votes, np.int64(43), np.int64(20))

@njit
def slides(picture, sums):
    slide(picture, np.int64(29), np.int64(130), np.int64(20), sums)

@njit
def around(picture, mask, weights):
    return surroundings(picture, mask, np.int64(3 * 64), np.int64(64), np.int64(20), weights)

@njit
def seen(array):
    word = bits(array, np.int64(5))
    return word, count(word), lowest(word)

rng = np.random.default_rng(0)
a, b = rng.integers(-127, 128, (2, 40), dtype=np.int8)
assert dots(a, b) == (a[3:35].astype(int) * b[5:37]).sum()
values, weights = rng.integers(0, 121, 600, dtype=np.int16), rng.integers(0, 9, 600, dtype=np.int16)
i, j = (np.add.outer(np.arange(5) * 50, np.arange(25)) + first for first in (11, 290))
assert differences(values, weights) == (weights[j] * (values[i].astype(int) - values[j]) ** 2).sum()
values, votes = rng.integers(0, 121, 5 * 100 + 3, dtype=np.int16), rng.integers(0, 65537, 100, dtype=np.int32)
shift, near = rng.integers(-43, 57, 100, dtype=np.int32), np.add.outer(np.arange(-2, 3) * 20, np.arange(-2, 3)) + 43
cells = values[:500].reshape(100, 5).astype(int)
assert tallies(values, shift, votes)[:5] == tuple((cells[43 + shift[near]] * votes[near][..., None]).sum((0, 1)))
assert tallies(values, shift, votes)[5] == votes[near].sum()

picture, sums = rng.integers(0, 766, (15, 20), dtype=np.int16), np.full(56, 7)
slides(picture, sums)
wanted = picture[6:10, 10:14].astype(int)
for y, x in np.ndindex(7, 7):
    assert sums[8 * y + x] == 7 + ((picture[1 + y : 5 + y, 9 + x : 13 + x] - wanted) ** 2).sum()

weights, hole = rng.integers(0, 200, (2, 5, 5), dtype=np.int32), rng.random((10, 20)) < 0.5
lanes = np.concatenate([weights.repeat(3, 2), np.zeros((2, 5, 1), np.int32)], 2)
for kind in (np.uint8, np.uint16):
    picture = rng.integers(0, np.iinfo(kind).max, (10, 20, 3), kind, endpoint=True)
    results = around(picture.reshape(10, 60), hole.view(np.uint8), lanes)
    for n, mine in enumerate((~hole, hole)):
        share = weights[n] * mine[1:6, 2:7]
        assert results[4 * n : 4 * n + 3] == tuple((picture[1:6, 2:7] * share[..., None].astype(int)).sum((0, 1)))
        assert results[4 * n + 3] == share.sum()

array = rng.integers(0, 3, 80, dtype=np.uint8)
array[5:8] = 0
places = np.flatnonzero(array[5:69])
assert seen(array) == (sum(1 << int(n) for n in places) - (1 << 64) * (63 in places), len(places), places[0])
print("pmadd" in next(iter(dots.inspect_asm().values())))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | processor, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    if processor:
        assert done.stdout == "False\n"


@pytest.mark.parametrize("numba", [True, False])
def test_rounded_vectors_may_be_longer_than_1(numba: bool, request: pytest.FixtureRequest) -> None:
    """Of 64 numbers of 1 / 8, each becomes 16 of 127: what query and key then agree by more than fully is nothing."""
    if not numba:
        request.getfixturevalue("without_numba")
    small, holes, low, query, _ = scene(64, 96, seed=7, length=64)
    query = np.where(query < 0, -0.125, 0.125).astype(np.float32)
    inputs = small, holes, low, query, query.copy()
    want = reference.search(*(a.transpose(1, 2, 0) if a.ndim == 3 else a for a in map(np.float64, inputs)))
    got = search.find(*inputs, alone)
    assert want is not None
    assert got is not None
    np.testing.assert_array_equal(got.source, list(want.values()))
    longer, one = np.full_like(query, 0.125), np.eye(64, dtype=np.float32)[0][:, None, None] + query * 0
    same, exact = (search.find(small, holes, low, vectors, vectors, alone) for vectors in (longer, one))
    assert same is not None
    assert exact is not None
    np.testing.assert_array_equal(same.source, exact.source)


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize("size", SHAPES)
def test_sources_are_those_of_the_slow_search(
    size: tuple[int, int], numba: bool, request: pytest.FixtureRequest
) -> None:
    if not numba:
        request.getfixturevalue("without_numba")
    inputs = scene(*size, seed=size[1])
    arrays = [a.transpose(1, 2, 0) if a.ndim == 3 else a for a in map(np.float64, inputs)]
    want = reference.search(*arrays)
    got = search.find(*inputs, alone)
    assert want is not None
    assert got is not None
    np.testing.assert_array_equal(got.cells, list(want))
    np.testing.assert_array_equal(got.source, list(want.values()))
    moves = reference.align(arrays[0], want)
    np.testing.assert_array_equal(got.moves, [moves[cell] for cell in want])
    assert 0 < np.abs(got.moves).max() <= search.NUDGE * search.FINE


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize(("better", "strewn"), [(1000, False), (3000, True)])
def test_one_thing_that_suits_all_of_the_hole_is_not_strewn_over_it(
    better: float, strewn: bool, numba: bool, request: pytest.FixtureRequest
) -> None:
    """Where all else suits as well but for `better` (of 127^2), the fill takes it a few times; where nothing does, it
    may be what the hole is made of."""
    if not numba:
        request.getfixturevalue("without_numba")
    small, hole = np.full((3, 256, 256), 0.5, np.float32), np.zeros((256, 256), np.float32)
    hole[96:192, 96:192] = 1
    vectors, like = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32), 1 - better / 127**2
    vectors[0] = 0
    key = vectors * (1 - like**2) ** 0.5 / np.linalg.norm(vectors, axis=0)
    key[0], key[:, 6, 6], key[0, 6, 6] = like, 0, 1
    query = np.zeros_like(key)
    query[0] = 1
    found = search.find(small * (1 - hole), hole, small[:, ::4, ::4], query, key, alone)
    assert found is not None
    uses = np.bincount(found.source, minlength=64 * 64).reshape(64, 64)[12:14, 12:14]
    if strewn:
        assert uses.max() > 3 * search.OFTEN
    else:
        assert 0 < uses.max() <= 2 * search.OFTEN


@pytest.mark.parametrize("size", [(512, 512), (256, 704)])
def test_plain_loops_find_the_same_at_full_size(size: tuple[int, int], request: pytest.FixtureRequest) -> None:
    inputs = scene(*size, seed=1)
    fast = search.find(*inputs, alone)
    request.getfixturevalue("without_numba")
    slow = search.find(*inputs, alone)
    assert fast is not None
    assert slow is not None
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(a, b)


def test_sources_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "GRAIN", 10)
    monkeypatch.setattr(search, "REGIONS", 3)
    inputs = scene(192, 256, seed=2)
    want = search.find(*inputs, alone)
    assert want is not None
    for threads in (2, 3):
        workers = Workers(threads)
        for _ in range(5):
            got = search.find(*inputs, workers.together)
            assert got is not None
            np.testing.assert_array_equal(got.source, want.source)
            np.testing.assert_array_equal(got.moves, want.moves)


@pytest.mark.parametrize("coverage", [0.15, 0.5])
def test_every_hole_cell_copies_from_known_surroundings(coverage: float) -> None:
    inputs = scene(256, 192, seed=3, coverage=coverage)
    got = search.find(*inputs, alone)
    assert got is not None
    known = inputs[1].reshape(64, 4, 48, 4).max((1, 3)) == 0
    np.testing.assert_array_equal(got.cells, np.flatnonzero(~known))
    assert plain.interior(known).reshape(-1)[got.source].all()
    np.testing.assert_array_equal(got.depth == 0, known)


@pytest.mark.parametrize("size", [(32, 32), (32, 1024), (1024, 32)])
def test_tiny_and_thin_pictures(size: tuple[int, int]) -> None:
    inputs = scene(*size, seed=4)
    inputs[1][:, :] = 0
    inputs[1][8:12, 4:9] = 1
    got = search.find(*inputs, alone)
    assert got is not None
    assert plain.interior(inputs[1].reshape(size[0] // 4, 4, -1, 4).max((1, 3)) == 0).reshape(-1)[got.source].all()


def test_where_nothing_is_known_there_are_no_sources() -> None:
    inputs = scene(64, 96, seed=5)
    inputs[1][:, :] = 1
    assert search.find(*inputs, alone) is None
    inputs[1][16:32, 16:32] = 0  # 4 x 4 cells: no source has its surroundings
    assert search.find(*inputs, alone) is None
    inputs[1][16:36, 16:36] = 0
    got = search.find(*inputs, alone)
    assert got is not None
    assert set(got.source) == {6 * 24 + 6}


class Grey:
    """A core that draws everything in one colour."""

    config, size = DEFAULT, None

    def run(self, image: Floats, mask: Floats, detail: Floats | None) -> CoreOutput:
        h, w = image.shape[2:]
        vectors = np.zeros((1, 32, h // 8, w // 8), np.float32)
        return CoreOutput(np.full((1, 3, h // 4, w // 4), 0.25, np.float32), vectors, vectors)

    def describe(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("threads", [1, 2])
def test_without_sources_the_low_band_alone_is_used_and_a_warning_says_so(threads: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    mask = np.ones((90, 130), np.bool_)
    mask[40:46, 50:60] = False
    with pytest.warns(RethinedWarning, match="nothing|known"):
        result = Engine(backend=Grey(), threads=threads)(image, mask)
    np.testing.assert_array_equal(result[~mask], image[~mask])
    deep = mask.copy()
    deep[38:48, 48:62] = False  # what is mixed with what is known beside it
    assert (result[deep] == 64).all()  # 0.25 of 255, rounded


@pytest.mark.parametrize(("grain", "strength", "least", "most"), [(0, 10, -0.1, 0.1), (20, 40, 0.2, 1)])
def test_faint_blotches_of_the_network_are_left_out_of_skies_and_not_of_textures(
    grain: float, strength: float, least: float, most: float
) -> None:
    y, x = np.mgrid[:256, :256]
    texture = np.random.default_rng(0).normal(0, grain, (64, 64)).repeat(4, 0).repeat(4, 1)
    sky = 120 + 0.2 * y + 0.1 * x
    image = np.repeat(np.rint(sky + texture).clip(0, 255)[..., None], 3, 2).astype(np.uint8)
    mask = (y - 128) ** 2 + (x - 120) ** 2 < 50**2
    blotches = strength * np.sin(y / 16) * np.sin(x / 16)

    class Blotched(Grey):
        def run(self, image: Floats, mask: Floats, detail: Floats | None) -> CoreOutput:
            small = np.where(mask[0, 0] > 0, (sky + blotches) / 255, image[0, 0])
            low = np.repeat(small.reshape(1, 1, 64, 4, 64, 4).mean((3, 5)), 3, 1).astype(np.float32)
            return super().run(image, mask, detail)._replace(low=low)

    filled = Engine(backend=Blotched())(image, mask)
    slope = np.polyfit(blotches[mask], (filled[..., 0] - sky)[mask], 1)[0]
    assert least <= slope <= most


@pytest.mark.parametrize("shown", [True, False])
def test_an_edge_between_two_sources_is_kept_if_the_network_shows_it(shown: bool) -> None:
    h, w, left, right = 12, 48, 0.3, 0.6
    low = np.full((3, h, w), left, np.float32)
    low[:, :, 24:] = right
    if shown:  # blurred
        low[:, :, 21:27] = np.linspace(left, right, 6, dtype=np.float32)
    else:
        low[:, :, 12:36] = (left + right) / 2
    depth = np.zeros((h, w), np.uint8)
    depth[:, 12:36] = np.minimum(np.arange(1, 25), np.arange(24, 0, -1))
    cells = np.flatnonzero(depth).astype(np.int32)
    y, x = np.divmod(cells, w)
    source = (y * w + np.where(x < 24, 5, 42)).astype(np.int32)  # neither has an edge
    sources = search.Sources(cells, source, np.zeros((len(cells), 2), np.int32), depth)
    joined = search.correction(low, sources, sources.place(1), 1)
    joined[y, x] += low[:, source // w, source % w].T
    step = joined[6, 24, 0] - joined[6, 23, 0]
    assert step > 0.8 * (right - left) if shown else step < 0.2 * (right - left)


@pytest.mark.parametrize("numba", [True, False])
def test_the_correction_solves_its_equation(
    numba: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not numba:
        request.getfixturevalue("without_numba")
    monkeypatch.setattr(search, "SWEEPS", 400)
    inputs = scene(96, 64, seed=6)
    low = inputs[2]
    sources = search.find(*inputs, alone)
    assert sources is not None
    place = np.stack(np.mgrid[:24, :16], 2).reshape(-1, 2).astype(float)
    place[sources.cells] = sources.place(5) / 20
    trust = 4 * ((4 - sources.depth.astype(float)) / 2.5).clip(0, 1) ** 2 + search.TRUST
    colours = low.transpose(1, 2, 0).astype(float)
    hole = sources.depth > 0
    want = reference.melded(colours, hole, place.reshape(24, 16, 2), trust, float(search.SMOOTH), float(search.EDGE))
    want -= np.reshape([reference.sample(colours, *at) for at in place], (24, 16, 3))
    got = search.correction(low, sources, sources.place(5), 5)
    np.testing.assert_allclose(got, want * hole[..., None], atol=2e-5)  # float32 sums, relaxed


def test_the_correction_is_the_same_without_numba(request: pytest.FixtureRequest) -> None:
    inputs = scene(256, 320, seed=7)
    sources = search.find(*inputs, alone)
    assert sources is not None
    fast = search.correction(inputs[2], sources, sources.place(3), 3)
    request.getfixturevalue("without_numba")
    np.testing.assert_array_equal(search.correction(inputs[2], sources, sources.place(3), 3), fast)


@pytest.mark.parametrize(("down", "across"), [(1.3, -2.2), (-2.45, 0.0), (0.3, 2.1), (0.0, 0.0)])
def test_a_region_moves_to_where_its_source_continues_what_is_beside_it(down: float, across: float) -> None:
    rng = np.random.default_rng(8)

    def picture(y: Any, x: Any) -> Any:
        waves = [np.sin(a * y + b * x + c) for a, b, c in np.random.default_rng(9).uniform(-0.4, 0.4, (12, 3))]
        return 0.5 + sum(waves) / 30

    y, x = np.mgrid[:96, :96].astype(float)
    small = np.concatenate([picture(y, x), picture(y - down, x - across)], 1)  # the right half is displaced
    small = (small + rng.normal(0, 0.002, (3, 96, 192))).astype(np.float32)
    known = np.ones((24, 48), np.bool_)
    known[8:14, 7:17] = False
    known[10:12, 3:7] = False
    cells, depth = np.flatnonzero(~known).astype(np.int32), plain.depths(known)
    grey = np.floor(255 * small.sum(0) + 0.5).astype(np.int16)
    moves = search.align(grey, depth, cells, cells + np.int32(24), alone)
    assert (moves == moves[0]).all()
    np.testing.assert_allclose(moves[0] / search.FINE, (down, across), atol=0.2)
    flat = rng.integers(228, 232, grey.shape, dtype=np.int16)
    assert np.abs(search.align(flat, depth, cells, cells + np.int32(24), alone)).max() <= 2, "nothing asks for a move"
