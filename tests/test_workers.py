"""Loops are shared by threads without gap or overlap, and by threads on different cores."""

from __future__ import annotations

import _thread
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
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


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_work_waits_for_what_comes_before_it(threads: int) -> None:
    several, count = Workers(threads), 60
    after = {n: [m for m in range(-9, n) if (n * m) % 7 == 3] for n in range(count)}  # some were done before
    begun: list[int] = []
    ended: list[int] = []

    def work(n: int) -> None:
        begun.append(n)
        assert {*ended, *range(-9, 0)}.issuperset(after[n])
        time.sleep(0.001 * (n % 3))
        ended.append(n)

    several.in_order(work, after)
    assert sorted(begun) == sorted(ended) == list(range(count))
    assert threads > 1 or begun == list(range(count))
    several.in_order(work, {})


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_once_everybody_has_stopped(threads: int) -> None:
    several = Workers(threads)
    at_work: set[int] = set()

    def work(n: int) -> None:
        at_work.add(n)
        time.sleep(0.01)
        at_work.discard(n)
        if n == 4:
            raise ValueError("the fifth")

    with pytest.raises(ValueError, match="the fifth"):
        several.in_order(work, {n: [4] * (n > 4) for n in range(25)})
    assert not at_work


def test_what_is_begun_is_done_once_whoever_waits() -> None:
    two, times = Workers(2), []
    hold = threading.Event()
    two.begin(lambda: hold.wait(10))  # so that the next is not begun before it is waited for
    result = two.begin(lambda: times.append(time.sleep(0.01)) or len(times))
    got: list[int] = []
    waiting = [threading.Thread(target=lambda: got.append(result())) for _ in range(5)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    hold.set()
    assert got == [1] * 5


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


@pytest.mark.skipif(workers._core() is None, reason="the system does not say where threads run")
def test_a_caller_with_no_more_cores_than_threads_is_held_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("there is one core")
    several, core = Workers(len(cores)), min(cores)
    monkeypatch.setattr(workers, "_core", lambda: core)
    inside: list[set[int]] = []
    go, gone = threading.Event(), threading.Event()

    def look() -> None:
        inside.append(os.sched_getaffinity(0))

    def call_too() -> None:
        assert go.wait(10)
        with several.apart():
            look()
        gone.set()

    second = threading.Thread(target=call_too)
    second.start()

    def fail() -> None:
        with several.apart():
            look()
            with several.apart():
                look()
            look()  # still held
            go.set()  # a second caller is not
            assert gone.wait(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    second.join()
    look()
    with several.apart():  # for who is released may be held again
        look()
    caller = threading.get_native_id()
    several.together(lambda: look() if threading.get_native_id() == caller else None)
    look()
    assert inside == [{core}, {core}, {core}, cores, cores, {core}, {core}, cores]
    inside.clear()
    with Workers(len(cores) - 1).apart():  # with a core to spare the system may move it
        look()
    assert inside == [cores]


@pytest.mark.skipif(workers._core() is None, reason="the system does not say where threads run")
def test_threads_of_the_network_are_kept_off_the_core_of_the_caller() -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("there is one core")
    before = workers._threads()
    engine = Engine(threads=2)
    (own,) = workers._threads() - before
    assert os.sched_getaffinity(own) == cores
    image, mask = np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512), np.bool_)
    mask[100:300, 100:300] = True
    engine(image, mask)
    allowed = os.sched_getaffinity(own)
    assert allowed < cores
    assert len(allowed) == len(cores) - 1
    assert os.sched_getaffinity(0) == cores


@pytest.mark.skipif(workers._core() is None, reason="the system does not say where threads run")
def test_who_is_held_is_released_even_if_interrupted_then(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("there is one core")
    several, move = Workers(len(cores)), workers._move
    interrupts = [KeyboardInterrupt()]

    def moved(thread: int, to: set[int]) -> None:
        if to == cores and interrupts:
            raise interrupts.pop()
        move(thread, to)

    monkeypatch.setattr(workers, "_move", moved)
    with pytest.raises(KeyboardInterrupt), several.apart():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == cores
    with several.apart():
        assert len(os.sched_getaffinity(0)) == 1  # once more


@pytest.mark.skipif(not workers._threads(), reason="the system does not say which threads there are")
def test_nobody_elses_thread_is_adopted() -> None:
    with unknown_threads() as begin:
        mine, theirs = Workers(2), Workers(2)
        mine.adopt(begin)
        theirs.adopt(lambda: (begin(), begin()))
        assert len(mine._others) == 1
        assert theirs._others == []


@contextmanager
def unknown_threads() -> Iterator[Callable[[], None]]:
    """What begins a thread that Python's list of threads does not have, until the end."""
    end = threading.Event()

    def begin() -> None:
        there = threading.Event()

        def wait() -> None:
            there.set()
            end.wait(10)

        _thread.start_new_thread(wait, ())
        assert there.wait(10)

    yield begin
    end.set()


FORKED = """
import os, time
import numpy as np
from rethined.engine import Engine

image = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
mask = np.zeros((600, 800), np.bool_)
mask[100:300, 200:600] = True
engine = Engine(threads=2)
want = [engine(image, mask) for _ in range(2)][1]
workers = engine._upscaler.workers
affinity = getattr(os, "sched_getaffinity", lambda thread: None)
before = [affinity(thread) for thread in workers._others]
child = os.fork()
if not child:
    same = all((engine(image, mask) == want).all() for _ in range(5))
    deadline = time.monotonic() + 10
    while workers._pool._work_queue.qsize() and time.monotonic() < deadline:  # somebody takes what waits
        time.sleep(0.01)
    os._exit(0 if same and workers._pool._work_queue.qsize() == 0 else 1)
assert os.waitpid(child, 0)[1] == 0
assert [affinity(thread) for thread in workers._others] == before
assert (engine(image, mask) == want).all()
"""
ENDED = """
import threading, time
import numpy as np
from rethined.engine import Engine

image = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
mask = np.zeros((600, 800), np.bool_)
mask[100:300, 200:600] = mask[500:505, :5] = True
engine = Engine(threads=2)
want = engine(image, mask)

def late():
    threading.main_thread().join()
    time.sleep(0.2)
    print((engine(image, mask) == want).all())

threading.Thread(target=late).start()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_begins_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=120)


def test_a_thread_that_outlives_the_main_one_fills() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED], check=True, timeout=120, capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert done.stderr == ""


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
