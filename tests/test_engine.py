"""The engine with the weights in the package: any size, any mask, every guarantee."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import rethined
from rethined import windows
from rethined.engine import Engine, _interruptible
from rethined.errors import InputError, RethinedWarning, WeightsError
from rethined.masks import free_form


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(threads=2)


def picture(height: int, width: int, seed: int = 0, dtype: type = np.uint8) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.01, 0.4, (3, 3))]
    image = np.stack(waves, -1) * 60 + 128 + rng.normal(0, 12, (height, width, 3))
    peak = np.iinfo(dtype).max
    return (image.clip(0, 255) / 255 * peak).astype(dtype)


def check(engine: Engine, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    before, before_mask = image.copy(), mask.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RethinedWarning)
        result = engine(image, mask)
    np.testing.assert_array_equal(image, before)  # inputs untouched
    np.testing.assert_array_equal(mask, before_mask)
    assert result.shape == image.shape
    assert result.dtype == image.dtype
    assert not np.shares_memory(result, image)
    np.testing.assert_array_equal(result[~mask], image[~mask])
    return result


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    seed=st.integers(0, 1000),
    coverage=st.floats(0.02, 0.9),
    sixteen=st.booleans(),
)
def test_any_size_and_mask(
    engine: Engine, height: int, width: int, seed: int, coverage: float, sixteen: bool
) -> None:
    image = picture(height, width, seed, np.uint16 if sixteen else np.uint8)
    mask = np.random.default_rng(seed).random((height // 9 + 1, width // 9 + 1)) < coverage
    mask = np.kron(mask, np.ones((9, 9), np.bool_))[:height, :width].astype(bool)
    check(engine, image, mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (513, 511), (400, 3000), (1200, 900)])
def test_odd_sizes(engine: Engine, size: tuple[int, int]) -> None:
    mask = np.zeros(size, np.bool_)
    mask[: max(1, size[0] // 3), : max(1, size[1] // 3)] = True  # a hole at the corner
    check(engine, picture(*size), mask)


def test_hairline_and_single_pixel_holes(engine: Engine) -> None:
    image = picture(600, 800)
    mask = np.zeros((600, 800), np.bool_)
    mask[300, :] = mask[:, 5] = mask[10, 700] = True
    result = check(engine, image, mask)
    assert np.abs(result[mask].astype(int) - image[mask]).mean() < 40  # near its neighbours, not black or white


def test_empty_mask_returns_the_photo(engine: Engine) -> None:
    image = picture(100, 120)
    np.testing.assert_array_equal(engine(image, np.zeros((100, 120), np.bool_)), image)


def test_full_mask_warns_and_is_finite(engine: Engine) -> None:
    image = picture(100, 120)
    with pytest.warns(RethinedWarning, match="nothing|known"):
        result = engine(image, np.ones((100, 120), np.bool_))
    assert result.shape == image.shape


def test_deterministic_and_thread_safe(engine: Engine) -> None:
    image = picture(700, 500)
    mask = free_form(700, 500, np.random.default_rng(0))
    want = engine(image, mask)
    results: list[NDArray[np.uint8]] = []
    threads = [threading.Thread(target=lambda: results.append(engine(image, mask))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.append(Engine(threads=1)(image, mask))
    for result in results:
        assert np.abs(result.astype(int) - want).max() <= (0 if result is not results[-1] else 255)
    for result in results[:4]:
        np.testing.assert_array_equal(result, want)


def test_a_flat_photo_stays_flat(engine: Engine) -> None:
    """Whatever the network draws, a hole in a plain wall must not be visible from afar."""
    image = np.full((512, 512, 3), (90, 140, 200), np.uint8)
    mask = free_form(512, 512, np.random.default_rng(0))
    assert np.abs(engine(image, mask).astype(int) - image).max() <= 24


def test_layouts_that_are_not_contiguous(engine: Engine) -> None:
    image = picture(300, 400)
    mask = free_form(300, 400, np.random.default_rng(0))
    want = engine(image, mask)
    np.testing.assert_array_equal(engine(np.asfortranarray(image), np.asfortranarray(mask)), want)
    np.testing.assert_array_equal(engine(image[:, ::-1][:, ::-1], mask), want)


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.bool_), "height, width, 3"),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.bool_), "uint8 or uint16"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), "give bool"),
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 5), np.bool_), "5x4 but image is 6x4"),
        (np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.bool_), "empty"),
        (np.zeros((4, 4, 3), ">u2"), np.zeros((4, 4), np.bool_), "image is >u2, of the byte order of other machines"),
        ([[[0, 0, 0]]], np.zeros((1, 1), np.bool_), "image is of type list; give a NumPy array or a PIL image"),
        (None, np.zeros((1, 1), np.bool_), "image is of type NoneType"),
        ("photo.jpg", np.zeros((1, 1), np.bool_), "image is of type str"),
        (np.zeros((1, 1, 3), np.uint8), [[True]], "mask is of type list; give a NumPy array or a PIL image"),
        (Image.new("RGB", (1, 1)), None, "mask is of type NoneType"),
        (Image.new("RGB", (0, 0)), np.zeros((0, 0), np.bool_), "image is empty"),
    ],
)
def test_bad_images_and_masks(engine: Engine, image: Any, mask: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        engine(image, mask)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "CMYK", "1", "I;16"])
def test_pil_images_come_back_as_they_were(mode: str) -> None:
    base = Image.fromarray(picture(96, 128))
    if mode == "I;16":
        image = Image.fromarray(picture(96, 128)[..., 0].astype(np.uint16) * 257)
    elif mode in ("RGBA", "LA"):
        image = base.convert(mode)
        image.putalpha(Image.fromarray(picture(96, 128, 1)[..., 0]))
    else:
        image = base.convert(mode)
    hole = np.zeros((96, 128), np.bool_)
    hole[20:50, 30:70] = True
    result = rethined.inpaint(image, Image.fromarray(hole))
    assert isinstance(result, Image.Image)
    assert result.mode == image.mode
    assert result.size == image.size
    np.testing.assert_array_equal(np.asarray(result)[~hole], np.asarray(image)[~hole])
    if mode in ("RGBA", "LA"):
        np.testing.assert_array_equal(np.asarray(result)[..., -1], np.asarray(image)[..., -1])
    if mode in ("RGB", "L"):
        assert (np.asarray(result)[hole] != np.asarray(image)[hole]).any()


def test_weights_are_checked(tmp_path: Path) -> None:
    from importlib import resources

    packaged = resources.files("rethined") / "assets"
    data = bytearray((packaged / "rethined.onnx").read_bytes())
    good = tmp_path / "mine.onnx"
    good.write_bytes(data)
    (tmp_path / "mine.onnx.sha256").write_text((packaged / "rethined.onnx.sha256").read_text())
    assert Engine(good).describe()["weights"] == "mine.onnx"
    data[len(data) // 2] ^= 1
    good.write_bytes(data)
    with pytest.raises(WeightsError, match="corrupt"):
        Engine(good)
    (tmp_path / "mine.onnx.sha256").unlink()
    good.write_bytes(b"not a model")
    with pytest.raises(WeightsError, match=r"mine\.onnx"):
        Engine(good)
    with pytest.raises(InputError, match="no such weights"):
        Engine(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="weights is of type int; give the path"):
        Engine(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1, 2.5, "2"])
def test_threads_are_a_whole_number(threads: Any) -> None:
    with pytest.raises(InputError, match=f"threads is {threads!r}; give a whole number"):
        Engine(threads=threads)
    assert Engine(threads=np.int64(2)).describe()["threads"] == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_copies_an_engine_is_told_what_to_do(engine: Engine, copied: Callable[[Engine], object]) -> None:
    with pytest.raises(TypeError, match="create one in each process"):
        copied(engine)


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize(("height", "width"), [(150, 200), (1100, 900), (40, 1500)])
def test_a_mask_may_be_a_view_of_other_bytes(
    numba: bool, height: int, width: int, request: pytest.FixtureRequest
) -> None:
    if not numba:
        request.getfixturevalue("without_numba")
    engine, image = Engine(threads=2), picture(height, width)
    rng = np.random.default_rng(1)
    mask = free_form(height, width, rng, coverage=(0.2, 0.3))
    mask[:3, :7] = mask[-2:, -50:] = mask[20:, :1] = True  # also where windows end
    want = engine(image, mask)
    for other in (mask * np.uint8(255), mask * np.uint8(2), mask * rng.integers(1, 256, mask.shape).astype(np.uint8)):
        np.testing.assert_array_equal(engine(image, other.view(np.bool_)), want)


def test_an_interrupt_stays_one() -> None:
    def fail(cause: BaseException | None) -> None:
        raise SystemError("a function returned a result with an exception set") from cause

    for cause, raised in ((KeyboardInterrupt(), KeyboardInterrupt), (ValueError(), SystemError), (None, SystemError)):
        with pytest.raises(raised):
            _interruptible(fail)(cause)


def test_profile_names_every_stage(engine: Engine) -> None:
    times = engine.profile(picture(64, 64), free_form(64, 64, np.random.default_rng(0)))
    assert list(times) == ["copy", "plan", "shrink", "core", "match", "upscale"]
    assert all(value >= 0 for value in times.values())


def test_stages_take_no_longer_than_the_call(engine: Engine) -> None:
    mask = np.zeros((2000, 2000), np.bool_)
    mask[100:150, 100:150] = mask[100:150, 1800:1850] = mask[1400:1800, 800:1200] = True
    found = engine._windows(mask)
    groups = windows.beside(found, windows.waits(found, mask), 2)
    assert [len(group) for group in groups] == [2, 1]  # two windows beside each other, and then one by all threads
    image = picture(2000, 2000)
    started = time.perf_counter()
    times = engine.profile(image, mask)
    assert 0 < sum(times.values()) <= 1000 * (time.perf_counter() - started)


def test_frames_are_filled_in_place_and_into_given_arrays(engine: Engine) -> None:
    mask = np.zeros((720, 1280), np.bool_)
    mask[200:300, 400:700] = True
    frames = [picture(720, 1280, seed) for seed in range(3)]
    want = [engine(frame, mask) for frame in frames]
    out, image_bytes = np.empty_like(frames[0]), frames[0].nbytes
    for frame, filled in zip(frames, want, strict=True):
        assert engine(frame, mask, out=out) is out
        np.testing.assert_array_equal(out, filled)
        assert engine(frame, mask, out=frame) is frame
        np.testing.assert_array_equal(frame, filled)
    for wrong in (out[:, ::2], np.empty((720, 1280, 3), np.uint16)):
        with pytest.raises(InputError, match="C-contiguous uint8"):
            engine(frames[0], mask, out=wrong)
    with pytest.raises(InputError, match="out is of type list"):
        engine(frames[0], mask, out=[1])  # type: ignore[call-overload]
    shared = np.zeros(2 * image_bytes, np.uint8)
    image = shared[:image_bytes].reshape(frames[0].shape)
    for part in (3000, image_bytes - 3000):  # an array of its own is one that has no byte in common
        with pytest.raises(InputError, match="memory in common"):
            engine(image, mask, out=shared[part : part + image_bytes].reshape(image.shape))
    hole = shared[: mask.size].view(np.bool_).reshape(mask.shape)
    with pytest.raises(InputError, match="memory in common with the image or the mask"):
        engine(frames[0], hole, out=image)
    beside = shared[image_bytes:].reshape(image.shape)
    image[...] = frames[0]
    np.testing.assert_array_equal(engine(image, mask, out=beside), want[0])
    out.flags.writeable = False
    with pytest.raises(InputError, match="out is read-only"):
        engine(frames[0], mask, out=out)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_call_with_out_allocates_nothing_of_the_frames_size(in_place: bool, engine: Engine) -> None:
    import tracemalloc

    image, mask = picture(2160, 3840), np.zeros((2160, 3840), np.bool_)
    mask[500:900, 1000:1500] = True
    out = image if in_place else np.empty_like(image)
    image.flags.writeable = mask.flags.writeable = in_place  # as decoders return them, where it is False
    engine(image, mask, out=out)
    tracemalloc.start()
    engine(image, mask, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < image.nbytes / 5


def test_a_wire_leaves_no_smooth_trace_in_a_grainy_photo(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    photo = np.repeat(rng.normal(120, 8, (300, 400, 1)), 3, 2).round().clip(0, 255).astype(np.uint8)
    mask = np.zeros((300, 400), np.bool_)
    for x in range(400):
        mask[100 + x // 4 : 104 + x // 4, x] = True
    filled = engine(photo, mask)[mask]
    assert 0.65 < filled.std() / photo.std() < 1.1
    assert abs(filled.mean() - 120) < 1


class _Kind(np.ndarray):
    """A class of arrays, as those of files in memory, of masked values and of units are."""


@pytest.mark.parametrize("kind", ["class", "masked", "file", "read-only"])
def test_an_image_of_any_class_is_not_changed(kind: str, tmp_path: Path) -> None:
    photo, mask = picture(90, 120), np.zeros((90, 120), np.bool_)
    mask[30:50, 40:80] = True
    pixels: Any = photo.copy()
    if kind == "class":
        pixels = pixels.view(_Kind)
    elif kind == "masked":
        pixels = np.ma.array(pixels)
    elif kind == "file":
        photo.tofile(tmp_path / "raw")
        pixels = np.memmap(tmp_path / "raw", photo.dtype, "r+", shape=photo.shape)
    else:
        pixels.flags.writeable = False
    engine = Engine(threads=1)
    filled = engine(pixels, mask)
    assert type(filled) is np.ndarray
    assert filled.flags.writeable
    assert not np.may_share_memory(filled, pixels)
    np.testing.assert_array_equal(np.asarray(pixels), photo)
    np.testing.assert_array_equal(filled, engine(photo, mask))
    if kind == "file":
        np.testing.assert_array_equal(np.fromfile(tmp_path / "raw", photo.dtype), photo.ravel())


def test_threads_end_with_their_engine() -> None:
    photo, mask = picture(400, 400), np.zeros((400, 400), np.bool_)
    mask[100:300, 100:300] = True
    before = threading.active_count()
    for _ in range(3):
        Engine(threads=4)(photo, mask)
    gc.collect()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before
