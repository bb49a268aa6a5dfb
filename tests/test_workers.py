"""Loops are shared by threads without gap or overlap, and by threads on different cores."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

import pytest

from rethined import workers
from rethined.engine import Engine
from rethined.workers import Workers, usable_cores


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


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "300000 100000\n"}, 1),
        ("0::/elsewhere/scope\n", {"cpu.max": "300000 100000\n"}, 3),
        (
            "9:name=x:/\n4:cpu,cpuacct:/a\n0::/\n",
            {"cpu/a/cpu.cfs_quota_us": "50", "cpu/a/cpu.cfs_period_us": "100"},
            0.5,
        ),
        ("4:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100\n"}, math.inf),
        ("nonsense", {"cpu.max": "100000 100000"}, math.inf),
    ],
)
def test_a_container_is_heard(tmp_path: Path, groups: str, files: dict[str, str], limit: float) -> None:
    root = tmp_path / "groups"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "cgroup").write_text(groups)
    assert workers._time_limit(tmp_path / "cgroup", root) == limit


@pytest.mark.parametrize(("limit", "threads"), [(math.inf, 8), (3.9, 3), (0.2, 1)])
def test_threads_by_default(monkeypatch: pytest.MonkeyPatch, limit: float, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(workers, "_time_limit", lambda: limit)
    assert usable_cores() == (64 if limit == math.inf else threads)
    assert Engine().describe()["threads"] == threads
    assert Engine(threads=9).describe()["threads"] == 9
