"""Any image, any mask: find windows, shrink, run the core, copy at full resolution (Fig. 2 without PyTorch)."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, ParamSpec, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from rethined import rim, search, windows
from rethined.backends import Backend, CoreOutput, OnnxBackend
from rethined.config import ModelConfig
from rethined.errors import InputError, RethinedWarning
from rethined.upscale import Heard, Upscaler, contributions, low_correction
from rethined.windows import Window
from rethined.workers import usable_cores

if TYPE_CHECKING:
    from PIL import Image as PillowImage

Image = NDArray[np.uint8 | np.uint16]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
P = ParamSpec("P")
T = TypeVar("T")


MOST = 8
"""Threads, unless told: a fill is cut into too few parts for more, and those without one only wait."""


def _interruptible(function: Callable[P, T]) -> Callable[P, T]:
    """An interrupt that comes as a compiled loop returns is made a SystemError there, which a program takes for an
    error and goes on: it is raised as what it was."""

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return function(*arguments, **named)
        except SystemError as error:
            if error.__cause__ is None or isinstance(error.__cause__, Exception):
                raise
            raise error.__cause__ from None

    return call


class Copies(NamedTuple):
    """What `Upscaler.fill` needs."""

    heard: Heard
    correction: Floats
    """(h / band, w / band, 3): what copied pixels lack of the low band."""
    side: int
    """Of what is copied at a time, in low-resolution pixels."""


class _Laps:
    """Milliseconds of stages, one after another, added to `times`."""

    def __init__(self, times: dict[str, float], share: float = 1e3) -> None:
        self._times, self._share = times, share
        self._clock = time.perf_counter()

    def end(self, stage: str) -> None:
        """What the last one has left until now."""
        now = time.perf_counter()
        with _noting:
            self._times[stage] = self._times.get(stage, 0) + (now - self._clock) * self._share
        self._clock = now

    def resume(self) -> None:
        """What has passed since the last stage is no part of any of these: others have noted it."""
        self._clock = time.perf_counter()

    def beside(self, threads: int) -> _Laps:
        """From now on, into the same times, of a thread that has as many others beside it as make `threads`: so much
        less of each is waited for."""
        return _Laps(self._times, self._share / threads)


_noting = threading.Lock()


class Engine:
    """Load once in each process, call often, share between threads.

    Args:
        weights: an ONNX core written by rethined's exporter; None is the one in the package.
        threads: to compute with; None is one per core that this process may use all of, up to 8.
        backend: another runtime for the core, instead of `weights`.

    Raises:
        InputError: no such file, or threads that are no whole number of 1 or more.
        WeightsError: weights that are corrupt or not ours.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        threads: int | None = None,
        backend: Backend | None = None,
    ) -> None:
        if threads is not None and (not isinstance(threads, int | np.integer) or threads < 1):
            raise InputError(f"threads is {threads!r}; give a whole number, 1 or more")
        if not isinstance(weights, str | os.PathLike | None):
            raise InputError(f"weights is of type {type(weights).__name__}; give the path of a file")
        threads = int(threads or min(usable_cores(), MOST))
        path = Path(weights) if weights is not None else None
        self._upscaler, self._alone = Upscaler(threads), Upscaler(1)
        self._backend = backend or OnnxBackend(path, self._upscaler.workers)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Engine cannot be pickled or copied; create one in each process and share it between threads"
        )

    @property
    def config(self) -> ModelConfig:
        """The architecture that the weights carry."""
        return self._backend.config

    @overload
    def __call__(self, image: Image, mask: Mask | PillowImage.Image, *, out: Image | None = None) -> Image: ...

    @overload
    def __call__(self, image: PillowImage.Image, mask: Mask | PillowImage.Image) -> PillowImage.Image: ...

    def __call__(
        self, image: Image | PillowImage.Image, mask: Mask | PillowImage.Image, *, out: Image | None = None
    ) -> Image | PillowImage.Image:
        """Fill `image` where `mask` is True.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16, or a PIL image of mode 1, L, LA, P, RGB, RGBA, CMYK or I;16; any
                size; it is not changed.
            mask: (H, W) bool, True = hole, or a PIL image of such a mode (white >= 128 = hole).
            out: an array to write the result of an array to, of its shape and type, C-contiguous; it may be `image`
                itself. For frames of a video: then nothing of their size is allocated.

        Returns:
            A new image, or `out`, of the type, size and mode of `image`; pixels outside the hole are bit-identical.

        Raises:
            InputError: neither an array nor a PIL image, another type, shape or mode, or a mask of another size.

        Warns:
            RethinedWarning: around a hole no patch of the photo is known, so that there is nothing to copy from.
        """
        from rethined import image as files

        hole = mask if isinstance(mask, np.ndarray) else files.mask_from_pillow(mask)
        if isinstance(image, np.ndarray):
            if not isinstance(out, np.ndarray | None):
                raise InputError(f"out is of type {type(out).__name__}; give a NumPy array")
            if out is not None and not out.flags.writeable:
                raise InputError("out is read-only; give an array that can be written to")
            return self._fill(image, hole, {}, out)
        photo = files.photo_from_pillow(image)
        if out is not None:
            raise InputError("out is for arrays; a PIL image is returned anew")
        _check(photo.pixels, hole)
        return files.pillow_result(photo, self._fill(photo.pixels, hole, {}), hole)

    def profile(self, image: Image, mask: Mask) -> dict[str, float]:
        """Milliseconds of each stage of one call on arrays; `copy` is only what the other stages wait for it. Of
        windows that threads fill beside each other, each counts by the threads' part."""
        times: dict[str, float] = {}
        self._fill(image, mask, times)
        return times

    def describe(self) -> dict[str, Any]:
        """Weights, parameters, runtime and threads, for a bug report."""
        return self._backend.describe() | {"config": self.config.to_json()}

    def warm_up(self) -> None:
        """Fill a tiny picture: loads the compiled loops, which otherwise the first call waits for."""
        image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.bool_)
        mask[:8, :8] = True
        self._fill(image, mask, {})

    @_interruptible
    def _fill(self, image: Image, mask: Mask, times: dict[str, float], out: Image | None = None) -> Image:
        laps = _Laps(times)
        _check(image, mask)
        if out is not None:
            _check_out(out, image, mask)
        source = _plain(image)
        mine = not np.may_share_memory(source, image)
        result = out if out is not None else source if mine else np.empty_like(source)
        copied = self._upscaler.workers.begin(
            partial(np.copyto, result, source) if result is not source else lambda: None
        )
        laps.end("copy")
        mask = _plain(mask)
        parts = self._windows(mask)
        # What one window has filled is known to the next.
        open_ = self._upscaler.open(mask, parts) if len(parts) > 1 else mask
        guessed: list[int] = []
        workers, lone = self._upscaler.workers, self._backend
        after, groups = [[*range(n)] for n in range(len(parts))], [[n] for n in range(len(parts))]
        # Another runtime's threads are its own, and one for an accelerator gains nothing by several that call it.
        if len(parts) > 1 and isinstance(lone, OnnxBackend):
            after = windows.waits(parts, mask)
            groups = windows.beside(parts, after, workers.threads)
            if len(groups) < len(parts):
                lone = lone.alone()

        def fill(n: int, alone: bool) -> None:
            """Window `n`, with all threads, or alone, where others are at other windows."""
            backend, upscaler = (lone, self._alone) if alone else (self._backend, self._threads_for(parts[n]))
            own = laps.beside(workers.threads) if alone else laps
            # What nobody has filled yet need not be copied yet.
            seen = result if after[n] else source
            if self._fill_window(seen, result, open_, parts[n], backend, upscaler, copied, own):
                guessed.append(n)
            if len(parts) > 1:
                open_[parts[n].holes] = False

        laps.end("plan")
        for group in groups:
            if len(group) == 1:
                fill(group[0], alone=False)
            else:
                workers.in_order(partial(fill, alone=True), {n: after[n] for n in group})
                laps.resume()
        copied()
        if guessed:
            warnings.warn(
                "too little is known around a hole to copy from; its fill is a smooth guess",
                RethinedWarning,
                stacklevel=3,
            )
        return result

    def _fill_window(
        self,
        seen: Image,
        result: Image,
        mask: Mask,
        window: Window,
        backend: Backend,
        upscaler: Upscaler,
        copied: Callable[[], object],
        laps: _Laps,
    ) -> bool:
        """Fill what is hole of a `window` of the `mask` in the `result`, which is as it should be once `copied()` has
        returned; until then `seen` shows the same there. Whether there was nothing to copy from."""
        config = self.config
        small, holes, detail = upscaler.shrink(seen, mask, window, config.patch_size)
        rims = rim.hide(small[0], holes[0, 0], detail[0])
        laps.end("shrink")
        core = backend.run(small, holes, detail if config.detail else None)
        laps.end("core")
        match = self._searched if config.search else self._attended
        copies = match(small, holes, core, window.scale, upscaler)
        known = copies or _nothing(core.low[0], config.band)
        laps.end("match")
        copied()
        laps.end("copy")
        upscaler.fill(
            result,
            mask,
            window,
            known.correction,
            known.heard,
            side=int(window.scale * known.side),
            scale=int(window.scale * config.band),
            overlap=config.overlap,
        )
        upscaler.mend(result, mask, window, rims)
        laps.end("upscale")
        return copies is None

    def _windows(self, mask: Mask) -> list[Window]:
        height, width = mask.shape
        blocks, full = np.zeros((2, -(-height // windows.BLOCK), -(-width // windows.BLOCK)), np.bool_)
        self._upscaler.workers.spread(partial(windows.block, mask, blocks, full), len(blocks))
        if not blocks.any():
            return []
        config = self.config
        return windows.find(blocks, full, height, width, config.stride, config.band, self._backend.size)

    def _threads_for(self, window: Window) -> Upscaler:
        """Of a window that is filled with no other beside it."""
        return self._upscaler if window.rows * window.columns > windows.ALONE else self._alone

    def _searched(
        self, small: Floats, holes: Floats, core: CoreOutput, scale: float, upscaler: Upscaler
    ) -> Copies | None:
        """3.3 by `search.find`: hole cells copy cells."""
        workers = upscaler.workers
        sources = search.find(small[0], holes[0, 0], core.low[0], core.first[0], core.second[0], workers.together)
        if sources is None:
            return None
        count, columns = sources.depth.size, sources.depth.shape[1]
        places = sources.place(scale)
        place, hole = np.zeros((count, 1, 2), np.int32), np.zeros(count, np.bool_)
        place[sources.cells, 0], hole[sources.cells] = places, True
        ones, side = np.ones((count, 1), np.float32), int(search.CELL * scale)
        overlap = self.config.overlap
        heard = workers.begin(lambda: contributions(place, ones, hole, columns, side, overlap))
        lacking = search.correction(core.low[0], sources, places, scale)
        return Copies(correction=lacking, heard=heard(), side=search.CELL)

    def _attended(
        self, small: Floats, holes: Floats, core: CoreOutput, scale: float, upscaler: Upscaler
    ) -> Copies | None:
        """3.3 by attention over all pairs, which the core has computed: corrupted patches copy patches."""
        side = self.config.patch_size
        h, w = holes.shape[2:]
        strips = holes.reshape(h // side, side, w).max(1)  # whole rows first: ten times as fast as both axes at once
        corrupted = strips.reshape(-1, side).max(1) > 0
        if corrupted.all():
            return None
        pixels = int(side * scale)
        place = np.stack(np.divmod(core.first, np.int32(w // side)), 2) * np.int32(pixels)
        heard = contributions(place, core.second, corrupted, w // side, pixels, self.config.overlap)
        low = np.ascontiguousarray(core.low[0].transpose(1, 2, 0))
        band = self.config.band
        return Copies(heard, low_correction(low, heard, side // band, int(scale * band)), side)


def _nothing(low: Floats, band: int) -> Copies:
    """The low band alone: every cell is told to copy nothing."""
    cells = np.arange(low.shape[1] * low.shape[2])
    heard = Heard(cells, np.zeros((len(cells), 1, 1, 2), np.int32), np.zeros((len(cells), 1, 1), np.float32))
    return Copies(heard, np.ascontiguousarray(low.transpose(1, 2, 0)), band)


def inpaint(image: Any, mask: Any) -> Any:
    """Fill `image` where `mask` is True, with the weights in the package: see `Engine.__call__`.

    The engine is loaded at the first call and kept.
    """
    global _shared
    if _shared is None:
        _shared = Engine()
    return _shared(image, mask)


_shared: Engine | None = None


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """`array` as loops are compiled for, to be read: of no other class, C-contiguous and writeable; itself or a view,
    and only where it is not contiguous a copy."""
    array = np.asarray(array, order="C")
    return array if array.flags.writeable else np.asarray(_Opened(array))


class _Opened:
    """What NumPy takes for a writeable array: loops would have to be compiled for others, too, and a copy takes time
    and memory, of a picture read by Pillow for one."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # as long as anyone has a view of this
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


def _check(image: Image, mask: Mask) -> None:
    if not image.dtype.isnative:
        raise InputError(
            f"image is {image.dtype}, of the byte order of other machines; "
            "give image.astype(image.dtype.newbyteorder('='))"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"image is {image.dtype} of shape {image.shape}; give uint8 or uint16 of shape (height, width, 3), RGB"
        )
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise InputError(
            f"mask is {mask.dtype} of shape {mask.shape}; give bool of shape (height, width), True where to fill"
        )
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"mask is {mask.shape[1]}x{mask.shape[0]} but image is {image.shape[1]}x{image.shape[0]}; "
            "resize the mask with nearest neighbour"
        )
    if not mask.size:
        raise InputError("image is empty; give at least one pixel")


def _check_out(out: Image, image: Image, mask: Mask) -> None:
    if out.shape != image.shape or out.dtype != image.dtype or not out.flags.c_contiguous:
        raise InputError(f"out is {out.dtype} {out.shape}; give a C-contiguous {image.dtype} {image.shape}")
    whole = out.ctypes.data == image.ctypes.data and image.flags.c_contiguous
    if np.may_share_memory(out, mask) or (np.may_share_memory(out, image) and not whole):
        raise InputError(
            "out has part of its memory in common with the image or the mask; give an array of its own, or the image "
            "itself"
        )
