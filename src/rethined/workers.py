"""Threads that the engine's loops are shared by."""

from __future__ import annotations

import ctypes
import math
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SHARED = 32
"""Rows or patches that are worth waking another thread for."""


class Workers:
    """`threads` threads, the caller's among them; safe to share between threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._begin_anew()
        _every.add(self)

    def _begin_anew(self) -> None:
        """As at first, without any other thread, as after a fork, which copies none."""
        self._others: list[int] = []
        """Threads that work for the caller, by the system's numbers: this one's own, and those of `adopt`."""
        # No method: threads hold it as long as they live, and they live as long as this does.
        note = partial(_note, self._others)
        self._pool = ThreadPoolExecutor(self.threads - 1, initializer=note) if self.threads > 1 else None
        self._kept_free: tuple[int, int] | None = None
        """The core that other threads are kept off, and how many of them."""
        self._held = threading.Lock()
        """While a caller is held on its core."""

    def adopt(self, make: Callable[[], T]) -> T:
        """What `make()` returns; the threads that it begins, of a library that is no Python and one fewer than these
        are, are placed as this one's own are. Where others begin at that moment, nobody is: they might be those of
        another program's part."""
        with _adopting:
            before = _threads()
            made = make()
            begun = _threads() - before
        if len(begun) == self.threads - 1:
            self._others.extend(begun)
        return made

    def together(self, work: Callable[[], object]) -> None:
        """Call `work` on every thread, the caller's too, at once; those that have not begun when the caller's returns
        are not waited for, and never begin."""
        others = [other for _ in range(self.threads - 1) if (other := self._submit(work))]
        try:
            with self.apart() if others else nullcontext():
                work()
        finally:
            begun = [other for other in others if not other.cancel()]
            if begun:
                wait(begun)
        for other in begun:
            other.result()

    def begin(self, work: Callable[[], T]) -> Callable[[], T]:
        """Call `work` on another thread, if there is one; what is returned waits for it, and returns its result, or
        does it where no thread has been free to begin. It may be called often, and by several threads."""
        begun = self._submit(work)
        if begun is None:
            done = work()
            return lambda: done
        results: list[T] = []
        lock = threading.Lock()

        def result() -> T:
            with lock:  # work is done once
                if not results:
                    results.append(work() if begun.cancel() else begun.result())
            return results[0]

        return result

    def spread(self, work: Callable[[int, int], object], count: int) -> None:
        """Call work(first, last) on consecutive parts of range(count); whichever thread is free takes the next."""
        if count < 2 * SHARED:
            work(0, count)
            return
        parts = min(4 * self.threads, count // SHARED)
        # Of a list: threads may share its iterator, which they may not with a generator's.
        edges = iter(list(pairwise([count * n // parts for n in range(parts + 1)])))

        def take() -> None:
            for first, last in edges:
                work(first, last)

        self.together(take)

    def in_order(self, work: Callable[[int], object], after: Mapping[int, Collection[int]]) -> None:
        """Call work(n) for every n of `after`, once it has returned for all of `after[n]` that are in `after`, too,
        earlier in it; whichever thread is free takes the first that may begin."""
        left = {n: {m for m in after[n] if m in after} for n in after}
        ended, changed = set[int](), threading.Condition()

        def ready() -> int | None:
            return next((n for n in left if left[n] <= ended), None)

        def take() -> int | None:
            with changed:
                # What is not ready waits for something that another thread is at.
                changed.wait_for(lambda: not left or ready() is not None)
                n = ready()
                if n is not None:
                    del left[n]
                return n

        def go_on() -> None:
            while (n := take()) is not None:
                try:
                    work(n)
                except BaseException:
                    with changed:
                        left.clear()  # nobody begins, or waits for, anything more
                        changed.notify_all()
                    raise
                with changed:
                    ended.add(n)
                    changed.notify_all()

        self.together(go_on)

    def _submit(self, work: Callable[[], T]) -> Future[T] | None:
        """Call `work` on another thread, on another core than the caller's but for the first time; None if there is
        none."""
        if self._pool is None:
            return None
        self._keep_off()
        try:
            return self._pool.submit(work)
        except RuntimeError:  # at a program's end, when no thread may begin, others still work
            return None

    @contextmanager
    def apart(self) -> Iterator[None]:
        """While this lasts, the calling thread and those that work for it are on different cores, where the system
        lets us.

        Left to itself the system at times wakes one of them where another goes on, and leaves both there for a whole
        fill, which then takes as long as on one core: many fills after a pause did. So others are kept off the
        caller's core. The caller waits for them now and then and is woken, too: where it has no more cores than
        threads it is held where it is, if no other caller is held already.
        """
        core, cores = self._keep_off()
        if not 1 < len(cores) <= self.threads or not self._held.acquire(blocking=False):
            yield
            return
        try:
            _move(0, {core})
            yield
        finally:
            try:
                _move(0, cores)
            except BaseException:  # an interrupt may come here, too
                _move(0, cores)
                raise
            finally:
                self._held.release()

    def _keep_off(self) -> tuple[int, set[int]]:
        """Others are kept off the caller's core: which that is, and on which it may be; none where that is unknown,
        and nobody is moved."""
        core = _core()
        if core is None:
            return 0, set()
        cores, kept = os.sched_getaffinity(0), (core, len(self._others))
        if kept != self._kept_free and len(cores) > 1:
            self._kept_free = kept
            caller = threading.get_native_id()
            for thread in self._others:
                if thread != caller:
                    _move(thread, cores - {core})
        return core, cores


def _move(thread: int, cores: set[int]) -> None:
    """Let a thread, 0 for the caller, be on these cores alone, unless the system forbids it or the thread is gone."""
    with suppress(OSError):
        os.sched_setaffinity(thread, cores)


_adopting = threading.Lock()
_every = weakref.WeakSet[Workers]()


def _after_fork() -> None:
    """In a child: other threads are the parent's, and not to be moved or waited for."""
    global _adopting
    _adopting = threading.Lock()
    for workers in _every:
        workers._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _threads() -> set[int]:
    """Threads of this process that Python knows nothing of, by the system's numbers; none where that cannot be known,
    as on other systems than Linux."""
    try:
        every = {int(task.name) for task in Path("/proc/self/task").iterdir()}
    except OSError:
        return set()
    return every - {thread.native_id for thread in threading.enumerate()}


def _note(threads: list[int]) -> None:
    threads.append(threading.get_native_id())


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


def usable_cores() -> int:
    """Cores that this process may use all of: a container on a machine of many can be held to some of them, or to as
    much time as some have, and where that is used up all its threads stand still."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(int(min(cores, _time_limit())), 1)


def _time_limit(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Seconds of all cores together that Linux gives this process in a second, by its control group or one of those
    around that; infinite where it sets no limit."""
    limit = math.inf
    with suppress(OSError, ValueError):  # another system, or one that does not say so
        for line in groups.read_text().splitlines():
            _, kinds, name = line.split(":", 2)  # no kinds: of the second version
            if kinds and "cpu" not in kinds.split(","):
                continue
            top = root / "cpu" if kinds else root
            group = top / name.lstrip("/")
            # From inside a container its name may lead nowhere, and only the top be seen.
            limit = min(limit, *(_quota(place) for place in (group, *group.parents) if place.is_relative_to(top)))
    return limit


def _quota(group: Path) -> float:
    """What `group` itself says."""
    with suppress(OSError, ValueError):  # "max" where there is no limit
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf
