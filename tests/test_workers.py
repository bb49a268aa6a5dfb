"""Loops are shared by threads without gap or overlap, and by threads on different cores."""

from __future__ import annotations

import os
import threading
import time

import pytest

from rethined import workers
from rethined.workers import Workers


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 5, 1000])
def test_work_is_spread_without_gap_or_overlap_and_errors_are_raised(threads: int, count: int) -> None:
    several = Workers(threads)
    parts: list[tuple[int, int]] = []
    several.spread(lambda first, last: parts.append((first, last)), count)
    assert sorted(i for first, last in parts for i in range(first, last)) == list(range(count))

    def fail(first: int, last: int) -> None:
        if last == count:
            raise ValueError("the last part")

    with pytest.raises(ValueError, match="the last part"):
        several.spread(fail, count)
    with pytest.raises(ValueError, match="beside"):
        several.begin(lambda: int("beside"))()


@pytest.mark.skipif(workers._core() is None, reason="the system does not say where threads run")
def test_work_beside_the_callers_is_done_on_another_core() -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("there is one core")
    two = Workers(2)

    def other() -> int | None:
        """Where the other thread is, once it has begun beside one that does not rest."""
        begun, seen = threading.Event(), []

        def look() -> None:
            seen.append(workers._core())
            begun.set()

        done = two.begin(look)
        end = time.monotonic() + 10
        while not begun.is_set() and time.monotonic() < end:
            sum(range(1000))
        done()
        return seen[0]

    other()  # a new thread is placed when it is called again
    try:
        for _ in range(3):
            for core in cores:
                os.sched_setaffinity(0, {core})  # the caller moves, and may use this core alone
                where = other()
                assert where is not None
                os.sched_setaffinity(0, cores)
                if other() == core:
                    pytest.fail("both were on one core")
    finally:
        os.sched_setaffinity(0, cores)
