"""Loops are shared by threads without gap or overlap, and by threads on different cores."""

from __future__ import annotations

import os
import threading

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
def test_other_threads_are_kept_off_the_core_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("there is one core")
    two = Workers(2)

    def allowed() -> set[int]:
        """Where the other thread may be, once it has begun."""
        begun, seen = threading.Event(), []

        def look() -> None:
            seen.append(os.sched_getaffinity(0))
            begun.set()

        done = two.begin(look)
        assert begun.wait(10)
        done()
        return seen[0]

    allowed()  # a new thread is placed when it is called again
    for core in [*cores, *cores]:
        monkeypatch.setattr(workers, "_core", lambda core=core: core)
        assert allowed() == cores - {core}
        try:
            os.sched_setaffinity(0, {core})  # the caller may use no other: nobody is moved, now or for good
            monkeypatch.setattr(workers, "_core", lambda core=core: core + 1000)
            assert allowed() == cores - {core}
        finally:
            os.sched_setaffinity(0, cores)
        assert allowed() == cores
