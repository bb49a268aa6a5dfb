"""Frames per second over a video of one size with a fixed mask, frame to frame in memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rethined import masks
from rethined.bench import provenance
from rethined.bench.latency import scene
from rethined.errors import InputError

SIZES = {"720p": (720, 1280), "1080p": (1080, 1920), "4K": (2160, 3840)}
"""Height and width by name."""


def run_stream(
    weights: Path | None,
    *,
    hole: float = 0.05,
    threads: int = 2,
    frames: int = 60,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fill `frames` shifted frames of every size in place (`Engine(..., out=frame)`); JSON-ready.

    Times are of one call, without reading or showing a frame. `allocated_mib` is the most that one call allocates
    from Python and NumPy, which is to stay far below a frame's size.

    Raises:
        InputError: fewer than 2 frames asked for.
    """
    from rethined.engine import Engine

    if frames < 2:
        raise InputError(f"frames is {frames}; give at least 2")
    origin = provenance.provenance()
    engine = Engine(weights, threads=threads)
    rows = []
    for name, (height, width) in SIZES.items():
        whole, _ = scene(max(height, width), 0.1)
        rng = np.random.default_rng(0)
        mask = masks.free_form(height, width, rng, coverage=(0.8 * hole, 1.2 * hole), kind="objects")
        frame = np.empty((height, width, 3), np.uint8)
        times = []
        for index in range(frames + 3):
            np.copyto(
                frame, whole[index : index + height, :width] if index + height <= len(whole) else whole[:height]
            )
            started = time.perf_counter()
            engine(frame, mask, out=frame)
            times.append(time.perf_counter() - started)
        tracemalloc.start()
        engine(frame, mask, out=frame)
        allocated = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        low, median, high = np.percentile(times[3:], [25, 50, 75])
        row = {
            "name": name,
            "height": height,
            "width": width,
            "hole": float(mask.mean()),
            "threads": threads,
            "frames": frames,
            "median_ms": 1000 * float(median),
            "iqr_ms": 1000 * float(high - low),
            "frames_per_second": 1 / float(median),
            "allocated_mib": allocated / 2**20,
            "frame_mib": frame.nbytes / 2**20,
        }
        rows.append(row)
        progress(f"{name}: {row['frames_per_second']:.1f} frames/s ({row['median_ms']:.1f} ms)")
    return {
        "kind": "stream",
        "weights": {"rethined": provenance.sha256(weights or provenance.BUNDLED)},
        "rows": rows,
        **origin,
    }
