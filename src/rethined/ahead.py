"""The first run on a machine compiles the loops; here two processes do, each half of them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rethined import search, upscale

if TYPE_CHECKING:
    from rethined.engine import Engine

PATIENCE = 0.5
"""Seconds after which loops that are kept on disk would have been loaded."""


def warm_up(engine: Engine, tell: Callable[[str], object]) -> None:
    """`engine.warm_up()`; if loops must be compiled, `tell` the user, and have another process compile those that a
    call needs last. What it writes to disk numba finds when it comes to them.

    For the command line alone: only there is it certain what `sys.executable` runs.
    """
    helpers: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    def help() -> None:
        if ready.wait(PATIENCE) or not _compiling():
            return
        tell("the first run compiles for this processor, once: some ten seconds")
        nothing = subprocess.DEVNULL
        command = [sys.executable, "-m", "rethined.ahead"]
        with contextlib.suppress(OSError):  # where no process can be started, this one compiles all
            helpers.append(subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing))

    helping = threading.Thread(target=help)
    helping.start()
    try:
        engine.warm_up()
    finally:
        ready.set()
        helping.join()
        for helper in helpers:
            helper.terminate()
            helper.wait()


def _compiling() -> bool:
    """Whether the first loop was not on disk, and will be there once compiled."""
    stats = getattr(upscale._shrink, "stats", None)  # none without numba
    return stats is not None and stats.cache_path is not None and bool(stats.cache_misses)


def compile_last() -> None:
    """Call the second half of the engine's loops, from `search.align` on, with arrays of the types that it gives."""
    upscaler = upscale.Upscaler(1)
    side = 8  # of a grid of cells of which one copies another
    depth, cells = np.zeros((side, side), np.uint8), np.zeros(1, np.int32)
    depth[0, 0] = 1
    source = np.full(1, side * side // 2 + side // 2, np.int32)
    grey, low = np.zeros((4 * side, 4 * side), np.int16), np.zeros((3, side, side), np.float32)
    moves = search.align(grey, depth, cells, source, upscaler.together)
    sources = search.Sources(cells, source, moves, depth)
    correction = search.correction(low, sources, 1.0)
    place, weight = np.zeros((side * side, 1, 2), np.int32), np.ones((side * side, 1), np.float32)
    heard = upscale.contributions(place, weight, depth.reshape(-1) > 0, side, search.CELL, True)
    image, mask = np.zeros((4 * side, 4 * side, 3), np.uint8), np.zeros((4 * side, 4 * side), np.bool_)
    upscaler.fill(image, mask, correction, heard, side=search.CELL, scale=search.CELL, overlap=True)


if __name__ == "__main__":
    compile_last()
