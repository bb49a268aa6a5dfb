"""How fast the engine is, array to array, beside OpenCV's Telea and a plain copy timed in the same run."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined import masks
from rethined.bench import baselines, provenance
from rethined.errors import InputError, RethinedError

if TYPE_CHECKING:
    from rethined.bench.peers.timing import Field
    from rethined.engine import Engine

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIZES = (512, 1024, 2048, 4096)
HOLES = (0.10, 0.25)
TELEA_SIZES = (512, 1024, 2048)
"""Telea's time grows with the hole's area: beyond these it would be most of the benchmark."""
NOISY_CORES = 0.15
"""A row during which other processes used more of the machine than this, in cores, is flagged."""
NOISY_SPREAD = 0.25
"""So is one whose interquartile range is more than this part of its median."""
LEAST = 3
"""Timed calls that a slow contender makes in any case."""
PAUSE, LONG = 0.02, 1.0
"""Seconds: a pause after which caches may hold what others need, and a call to which that is nothing."""


def run_latency(
    weights: Path | None,
    *,
    sizes: Sequence[int] = SIZES,
    holes: Sequence[float] = HOLES,
    threads: int = 2,
    runs: int = 20,
    warmup: int = 3,
    seconds: float = math.inf,
    profile: bool = False,
    field: Field | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Time the engine on square images of `sizes` pixels with `holes` (parts of the area); JSON-ready.

    Times are milliseconds of one call. Engine, copy and (up to 2048) Telea radius 3 alternate, so that
    whatever else the machine does falls on all of them: keep the ratios. Peak memory is that of a fresh
    process filling one image. With `profile`, medians of `engine.profile(image, mask)` by stage are added.
    The methods of `field` follow one by one, each in turn with the engine: `peers` of each row, with their `ratio`
    to what the engine took meanwhile, `engine_ms`. Once a contender's timed calls of one size add up to `seconds`,
    it makes no more of them, beyond LEAST.

    Raises:
        InputError: no runs asked for.
        WeightsError: weights of a peer that cannot be used.
    """
    from rethined.engine import Engine

    if runs < 1:
        raise InputError(f"runs is {runs}; give at least 1")
    origin = provenance.provenance()
    engine = Engine(weights, threads=threads)
    rows = []
    with tempfile.TemporaryDirectory() as exports:
        for size, hole in itertools.product(sizes, holes):
            image, mask = scene(size, hole)
            contenders: dict[str, Callable[[], object]] = {
                "engine": partial(engine, image, mask),
                "copy": partial(np.copy, image),
            }
            if size in TELEA_SIZES:
                contenders["telea"] = partial(baselines.telea_full, image, mask)
            row: dict[str, Any] = {
                "height": size,
                "width": size,
                "hole": float(mask.mean()),
                "threads": threads,
            }
            row |= alternate(contenders, runs=runs, warmup=warmup, seconds=seconds)
            for other in ("copy", "telea"):
                if other in contenders:
                    row[f"ratio_{other}"] = row["engine"]["median_ms"] / row[other]["median_ms"]
            row["peak_mib"] = peak_memory(weights, size, hole, threads)
            for name, peer in field.ready(size, mask, threads, Path(exports)) if field else ():
                pair: dict[str, Callable[[], object]] = {
                    "engine": contenders["engine"],
                    "peer": partial(peer.fill, image, mask),
                }
                measured = alternate(pair, runs=runs, warmup=warmup, seconds=seconds)
                times = measured["peer"]
                times["ratio"] = times["median_ms"] / measured["engine"]["median_ms"]
                times["engine_ms"] = measured["engine"]["median_ms"]
                times["macs"], spec = peer.macs, peer.spec
                # A large network and the process that measures it might not fit into memory together.
                del pair, peer
                times["peak_mib"] = peak_memory(weights, size, hole, threads, spec)
                row["noisy"] = row["noisy"] or measured["noisy"]
                row.setdefault("peers", {})[name] = times
            if profile:
                stages = [engine.profile(image, mask) for _ in range(runs)]
                row["stages_ms"] = {key: float(np.median([stage[key] for stage in stages])) for key in stages[0]}
            rows.append(row)
            noisy = " (noisy)" if row["noisy"] else ""
            progress(f"{size}x{size}, hole {hole:.0%}: {row['engine']['median_ms']:.1f} ms{noisy}")
            for name, times in row.get("peers", {}).items():
                progress(f"  {name}: {times['median_ms']:.1f} ms, {times['ratio']:.1f} times the engine's")
    return {
        "kind": "latency",
        "weights": {"rethined": provenance.sha256(weights or provenance.BUNDLED)},
        **({"methods": {"rethined": _facts(engine)} | field.facts()} if field else {}),
        "rows": rows,
        **origin,
    }


def _facts(engine: Engine) -> dict[str, Any]:
    told = engine.describe()
    return {"title": "rethined", "parameters": told.get("parameters"), "macs_512": told.get("macs at 512")}


def alternate(
    contenders: dict[str, Callable[[], object]],
    *,
    runs: int,
    warmup: int,
    seconds: float = math.inf,
    helpers: Callable[[], float] = lambda: 0.0,
) -> dict[str, Any]:
    """Call each in turn, `runs` times: n, median_ms, iqr_ms, min_ms by name; busy_elsewhere, noisy.

    All are timed warm: where the others have taken more than PAUSE, one is called once more before it is timed.
    Once one's timed calls add up to `seconds` it makes no more of them, beyond LEAST; nor does its warm-up. One that
    returns a float has timed itself, in milliseconds; programs that work for it have used `helpers()` seconds of
    processor time so far.
    `busy_elsewhere` is how many cores other processes kept busy meanwhile, None where the system does not
    tell. `noisy`: that is much, or the first contender's times spread widely.
    """
    ended = {}
    for name, call in contenders.items():
        started = time.perf_counter()
        for _ in range(warmup):
            call()
            if time.perf_counter() - started > seconds:
                break
        ended[name] = time.perf_counter()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    others, helped, started = _others_cpu_seconds(), helpers(), time.perf_counter()
    for index in range(runs):
        for name, call in contenders.items():
            if index >= LEAST and sum(times[name]) > 1000 * seconds:
                continue
            if time.perf_counter() - ended[name] > PAUSE and (not index or times[name][-1] < 1000 * LONG):
                call()
            start = time.perf_counter()
            told = call()
            ended[name] = time.perf_counter()
            times[name].append(told if isinstance(told, float) else 1000 * (ended[name] - start))
    elapsed = time.perf_counter() - started
    now = _others_cpu_seconds()
    busy = None if others is None or now is None else max(0.0, (now - others - helpers() + helped) / elapsed)
    result: dict[str, Any] = {name: _statistics(values) for name, values in times.items()}
    first = result[next(iter(contenders))]
    result["busy_elsewhere"] = busy
    result["noisy"] = bool((busy or 0) > NOISY_CORES or first["iqr_ms"] > NOISY_SPREAD * first["median_ms"])
    return result


def scene(size: int, hole: float) -> tuple[Image, Mask]:
    """A seeded square image with structure at every scale, and strokes over about `hole` of it."""
    rng = np.random.default_rng(size)
    image = np.zeros((size, size, 3), np.float32)
    cells = 4
    while cells <= size:
        noise = rng.normal(0, 40 / np.log2(cells), (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR)
        cells *= 4
    coverage = (max(hole - 0.01, 0.001), min(hole + 0.01, 0.999))
    mask = masks.free_form(size, size, np.random.default_rng(0), coverage=coverage, kind="strokes")
    return np.asarray((image + 128).clip(0, 255), np.uint8), mask


def peak_memory(weights: Path | None, size: int, hole: float, threads: int, other: str = "") -> float:
    """Largest resident memory, in MiB, of a fresh process that loads the engine and fills one image.

    With `other`, the `spec` of a contender, that instead of the engine.

    Raises:
        RethinedError: that process failed; the message ends with its error.
    """
    command = [sys.executable, "-m", __name__, str(weights or ""), str(size), str(hole), str(threads)]
    command += [other] if other else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RethinedError(f"measuring memory failed: {done.stderr.strip()[-500:]}")
    return float(done.stdout.split()[-1])


def _statistics(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return {
        "n": len(values),
        "median_ms": float(median),
        "iqr_ms": float(high - low),
        "min_ms": float(min(values)),
    }


def _others_cpu_seconds() -> float | None:
    """Processor time that everyone but this process has used since the system started; Linux only."""
    if sys.platform != "linux":
        return None
    with Path("/proc/stat").open() as file:
        ticks = [int(value) for value in file.readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks[:8]
    everyone = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    mine = os.times()
    return everyone - mine.user - mine.system


def _main(arguments: Sequence[str]) -> None:
    """What `peak_memory` runs: fill one image, print the peak in MiB."""
    weights, size, hole, threads, *other = arguments
    image, mask = scene(int(size), float(hole))
    with contextlib.suppress(OSError):  # Linux: what it took to make the picture does not count
        Path("/proc/self/clear_refs").write_text("5")
    if other:
        from rethined.bench.peers.timing import from_spec

        from_spec(other[0], int(threads))(image, mask)
    else:
        from rethined.engine import Engine

        Engine(Path(weights) if weights else None, threads=int(threads))(image, mask)
    print(provenance.peak_mib())


if __name__ == "__main__":
    _main(sys.argv[1:])
