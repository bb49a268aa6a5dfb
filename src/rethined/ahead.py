"""The first run on a machine compiles the loops; here two or three processes do, each a part of them."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rethined import search, upscale, windows
from rethined.compiled import LANES
from rethined.engine import Engine
from rethined.errors import RethinedWarning
from rethined.workers import Workers, usable_cores

COLLECTING = (100_000, 50, 50)
"""How seldom cycles are looked for: what compiling makes, stays, and looking took a seventh of the time."""
PATIENCE = 0.5
"""Seconds after which loops that are kept on disk would have been loaded."""


def warm_up(engine: Engine, tell: Callable[[str], object]) -> None:
    """`engine.warm_up()`; if loops must be compiled, `tell` the user, and have other processes, one for each further
    core, compile those that a call needs later. What they write to disk numba finds when it comes to them. Where it
    cannot be written to, and every run compiles, a warning says so.

    For the command line alone: only there is it certain what `sys.executable` runs.
    """
    helpers: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    def assist() -> None:
        while not (finished := ready.wait(PATIENCE)) and _kept() and not _compiling():
            pass  # where others have the cores it takes longer until it shows
        if finished:
            return
        if not _kept():
            warnings.warn(
                "no folder can be written that would keep compiled loops, so every run takes half a minute longer; "
                "name one in the environment variable NUMBA_CACHE_DIR",
                RethinedWarning,
                stacklevel=1,
            )
            return
        tell("the first run compiles for this processor, once: some ten seconds")
        nothing = subprocess.DEVNULL
        for part in list(PARTS)[: usable_cores() - 1]:
            command = [sys.executable, "-m", "rethined.ahead", part]
            with contextlib.suppress(OSError):  # where no process can be started, this one compiles all
                helpers.append(subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing))

    helping = threading.Thread(target=assist)
    helping.start()
    usual = gc.get_threshold()
    gc.set_threshold(*COLLECTING)
    try:
        engine.warm_up()
    finally:
        gc.set_threshold(*usual)
        ready.set()
        helping.join()
        for helper in helpers:
            helper.terminate()
            helper.wait()


def _kept() -> bool:
    """Whether compiled loops are kept on disk, or there are none."""
    stats = getattr(upscale._shrink, "stats", None)  # none without numba
    return stats is None or stats.cache_path is not None


def _compiling() -> bool:
    """Whether the first loop was not on disk."""
    stats = getattr(upscale._shrink, "stats", None)
    return stats is not None and bool(stats.cache_misses)


SIDE = 8
"""Of a grid of cells, of which one copies another, that is filled to have loops compiled."""


def _depth() -> NDArray[np.uint8]:
    depth = np.zeros((SIDE, SIDE), np.uint8)
    depth[0, 0] = 1
    return depth


def finish() -> None:
    """What comes after the search, with arrays of the types that it gives."""
    upscaler = upscale.Upscaler(1)
    depth, cells, source = _depth(), np.zeros(1, np.int32), np.full(1, SIDE * SIDE // 2 + SIDE // 2, np.int32)
    grey, low = np.zeros((4 * SIDE, 4 * SIDE), np.int16), np.zeros((3, SIDE, SIDE), np.float32)
    moves = search.align(grey, depth, cells, source, upscaler.workers.together)
    sources = search.Sources(cells, source, moves, depth)
    correction = search.correction(low, sources, sources.place(1.0), 1.0)
    place, weight = np.zeros((SIDE * SIDE, 1, 2), np.int32), np.ones((SIDE * SIDE, 1), np.float32)
    heard = upscale.contributions(place, weight, depth.reshape(-1) > 0, SIDE, search.CELL, True)
    image, mask = np.zeros((4 * SIDE, 4 * SIDE, 3), np.uint8), np.zeros((4 * SIDE, 4 * SIDE), np.bool_)
    window = windows.whole(*mask.shape, stride=4 * SIDE)
    upscaler.fill(image, mask, window, correction, heard, side=search.CELL, scale=search.CELL, overlap=True)
    upscaler.mend(image, mask, window)


def find() -> None:
    """One level of the search, with arrays of the types of `search.pyramid`."""
    patches = np.zeros((SIDE * SIDE // 4, 2 * LANES), np.int8)
    values = np.zeros((search.CHANNELS, SIDE, SIDE), np.int16)
    search.search(search.Level(values, _depth(), 2, patches, patches), 0, None, Workers(1).together)


PARTS = {"finish": finish, "find": find}
"""Parts of the loops' compiling that other processes take, the more urgent first; this process begins with the
others."""


if __name__ == "__main__":
    gc.set_threshold(*COLLECTING)
    PARTS[sys.argv[1]]()
