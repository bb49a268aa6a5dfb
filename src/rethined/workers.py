"""Threads that the engine's loops are shared by."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")
SHARED = 32
"""Rows or patches that are worth waking another thread for."""


class Workers:
    """`threads` threads, the caller's among them; safe to share between threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._others: list[int] = []
        self._pool = ThreadPoolExecutor(threads - 1, initializer=self._started) if threads > 1 else None
        self._kept_free: tuple[int, int] | None = None
        """The core that other threads are kept off, and how many of them."""

    def together(self, work: Callable[[], object]) -> None:
        """Call `work` on every thread, the caller's too, at once; those that have not begun when the caller's returns
        are not waited for, and never begin."""
        others = [self._submit(self._pool, work) for _ in range(self._threads - 1)] if self._pool else []
        work()
        for other in others:
            if not other.cancel():
                other.result()

    def begin(self, work: Callable[[], T]) -> Callable[[], T]:
        """Call `work` on another thread, if there is one; what is returned waits for it, and returns its result, or
        does it where no thread has been free to begin."""
        if self._pool is None:
            done = work()
            return lambda: done
        begun = self._submit(self._pool, work)
        return lambda: work() if begun.cancel() else begun.result()

    def spread(self, work: Callable[[int, int], object], count: int) -> None:
        """Call work(first, last) on consecutive parts of range(count); whichever thread is free takes the next."""
        if count < 2 * SHARED:
            work(0, count)
            return
        parts = min(4 * self._threads, count // SHARED)
        # Of a list: threads may share its iterator, which they may not with a generator's.
        edges = iter(list(pairwise([count * n // parts for n in range(parts + 1)])))

        def take() -> None:
            for first, last in edges:
                work(first, last)

        self.together(take)

    def _started(self) -> None:
        self._others.append(threading.get_native_id())

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> Future[T]:
        """Call `work` on a thread of the `pool`; where the system lets us, on another core than the caller's, but for
        a thread that is called for the first time.

        Left to itself the system at times wakes a thread where the one that calls it goes on, and leaves both there
        for a whole fill, which then takes as long as on one core: many fills after a pause did.
        """
        core, count = _core(), len(self._others)
        if core is not None and (core, count) != self._kept_free and len(cores := os.sched_getaffinity(0)) > 1:
            self._kept_free = core, count
            for thread in self._others:
                with suppress(OSError):  # where that is forbidden
                    os.sched_setaffinity(thread, cores - {core})
        return pool.submit(work)


def _find_core() -> Callable[[], int] | None:
    """What says which core the calling thread is on; None where that cannot be known, or threads not be moved. Both
    can on Linux alone."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        function: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError):
        return None
    return function


_core: Callable[[], int | None] = _find_core() or (lambda: None)
