"""The core in every runtime that is installed: time, memory, size, difference to PyTorch, LPIPS of the fills."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rethined import image, masks
from rethined.backends import CoreOutput
from rethined.bench import provenance
from rethined.bench.latency import alternate
from rethined.config import ModelConfig
from rethined.engine import Engine, plan
from rethined.errors import InputError, RethinedError
from rethined.export import core, formats

if TYPE_CHECKING:
    from rethined.metrics.lpips import Lpips

Floats = NDArray[np.float32]
Picture = tuple[NDArray[np.uint8], NDArray[np.bool_]]

REFERENCE = ("onnx", "fp32")
"""Whose fills the LPIPS of all others is compared with; it is timed in turn with each."""
HOLES = (0.1, 0.3)
"""Part of each photograph that is hole when quality is measured."""


class RunBackend:
    """Any runtime's core as the engine's backend."""

    def __init__(self, config: ModelConfig, run: core.Run) -> None:
        self.config = config
        self._run = run

    def run(self, image: Floats, mask: Floats, detail: Floats | None) -> CoreOutput:
        assert detail is not None
        return CoreOutput(*self._run((image, mask, detail)))

    def describe(self) -> dict[str, Any]:
        return {}


def run_device(
    weights: Path | None,
    photos: Path,
    *,
    runtimes: Sequence[str] = tuple(formats.FORMATS),
    sizes: Sequence[str] = ("512x512",),
    threads: int = 2,
    runs: int = 20,
    limit: int = 8,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Export to each of `runtimes` that is installed, in each precision, run it here, and measure; JSON-ready.

    A row has `runtime`, `precision`, `size`; `median_ms` of the core, and `ratio` to the reference timed in turn with
    it; `peak_mib` of a fresh process; `file_bytes`; `difference`, the largest to PyTorch of any output;
    `lpips_change`, the mean LPIPS (AlexNet) in the hole over the middles of at most `limit` of `photos` less that of
    the reference; and `same`, the part of their hole pixels within one grey level of the reference's. Core ML is
    evaluated, not run: its time and memory are None.

    Raises:
        InputError: an unknown runtime, or no photographs that are large enough.
        BackendError: an export differs too much from PyTorch.
    """
    from rethined.metrics import backbones
    from rethined.metrics.lpips import Lpips

    for name in runtimes:
        if name not in formats.FORMATS:
            raise InputError(f"runtime is {name!r}; choose from {', '.join(formats.FORMATS)}")
    origin = provenance.provenance()
    lpips = Lpips.load("alex", backbones.find("lpips_alex.safetensors"))
    config = core.load_weights(weights)[0].config
    rows, absent = [], []
    for name in runtimes:
        if missing := formats.missing_packages(name):
            absent.append(f"{name} ({', '.join(missing)})")
    wanted = [name for name in runtimes if not formats.missing_packages(name)]
    for line in absent:
        progress(f"not installed, left out: {line}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for size in sizes:
            cells = core.parse_sizes(size, config.stride)[0]
            pictures = _pictures(photos, cells, config.stride, limit)
            file = folder / f"base-{size}.onnx"
            formats.export(*REFERENCE[:1], weights, file, size=size, precision=REFERENCE[1])
            reference = _module("onnx").load(file, threads)
            base = _fills(config, reference, pictures)
            for name in wanted:
                form = formats.FORMATS[name]
                for precision in form.precisions:
                    path = folder / f"{name}-{precision}-{size}{form.suffix}"
                    difference, file_bytes = formats.export(
                        name,
                        weights,
                        path,
                        size=size,
                        precision=precision,
                        calibration=photos if precision == "int8" else None,
                    )
                    run = _module(name).load(path, threads)
                    row: dict[str, Any] = {"runtime": name, "precision": precision, "size": size, "threads": threads}
                    row |= dict.fromkeys(("median_ms", "ratio", "peak_mib"))
                    if name != "coreml":
                        inputs = tuple(value.numpy() for value in core.sample(config, cells, 0))
                        calls: dict[str, Callable[[], object]] = {
                            "this": partial(run, inputs),
                            "base": partial(reference, inputs),
                        }
                        times = alternate(calls, runs=runs, warmup=3)
                        row["median_ms"] = times["this"]["median_ms"]
                        row["ratio"] = times["this"]["median_ms"] / times["base"]["median_ms"]
                        row["noisy"] = times["noisy"]
                        row["peak_mib"] = _peak(name, path, size, threads)
                    row["file_bytes"] = file_bytes
                    row["difference"] = max(difference.values())
                    fills = _fills(config, run, pictures)
                    row["lpips_change"] = _lpips(fills, pictures, lpips) - _lpips(base, pictures, lpips)
                    row["same"] = _same(fills, base, pictures)
                    rows.append(row)
                    progress(
                        f"{name} {precision} {size}: {row['median_ms'] or float('nan'):.1f} ms, difference "
                        f"{row['difference']:.1e}, LPIPS {row['lpips_change']:+.4f}, same {row['same']:.2%}"
                    )
    return {
        "kind": "device",
        "weights": {"rethined": provenance.sha256(weights or provenance.BUNDLED)},
        "photographs": len(pictures),
        "absent": absent,
        "versions_of": {name: formats.versions(name) for name in wanted},
        "rows": rows,
        **origin,
    }


def _module(name: str) -> Any:
    return importlib.import_module(f"rethined.export.{name}")


def _pictures(folder: Path, size: core.Size, stride: int, limit: int) -> list[Picture]:
    """Middles of photographs, as large as what the engine reduces to `size`, with seeded holes."""
    factors = [f for f in (2, 1) if plan(f * size.height, f * size.width, stride) == (f, *size)]
    if not factors:
        raise InputError(f"size is {size}, to which the engine reduces no photograph; give one such as 512x512")
    found = [path for path in sorted(folder.glob("*")) if image.is_image_name(path)] if folder.is_dir() else []
    pictures: list[Picture] = []
    h, w = factors[0] * size.height, factors[0] * size.width
    for path in found:
        pixels = image.read_photo(path).pixels
        if pixels.shape[0] < h or pixels.shape[1] < w or len(pictures) == limit:
            continue
        top, left = (pixels.shape[0] - h) // 2, (pixels.shape[1] - w) // 2
        hole = masks.free_form(h, w, np.random.default_rng(len(pictures)), coverage=HOLES)
        cut = np.ascontiguousarray(pixels[top : top + h, left : left + w])
        pictures.append((np.asarray(cut if cut.dtype == np.uint8 else cut // 257, np.uint8), hole))
    if not pictures:
        raise InputError(f"{folder} has no photograph of at least {w}x{h} pixels; give a folder of larger ones")
    return pictures


def _fills(config: ModelConfig, run: core.Run, pictures: Sequence[Picture]) -> list[NDArray[np.uint8]]:
    """What the engine makes of `pictures` with `run` as its core."""
    engine = Engine(backend=RunBackend(config, run))
    return [np.asarray(engine(picture, hole), np.uint8) for picture, hole in pictures]


def _lpips(fills: Sequence[NDArray[np.uint8]], pictures: Sequence[Picture], lpips: Lpips) -> float:
    """Mean LPIPS in the hole."""
    pairs = zip(fills, pictures, strict=True)
    return float(np.mean([lpips.compare(fill, picture).mean_in(hole) for fill, (picture, hole) in pairs]))


def _same(
    fills: Sequence[NDArray[np.uint8]], others: Sequence[NDArray[np.uint8]], pictures: Sequence[Picture]
) -> float:
    """Part of all hole pixels in which no channel is more than one grey level apart."""
    apart = [
        np.abs(fill[hole].astype(np.int16) - other[hole]).max(1)
        for fill, other, (_, hole) in zip(fills, others, pictures, strict=True)
    ]
    return float((np.concatenate(apart) <= 1).mean())


def _peak(name: str, path: Path, size: str, threads: int) -> float:
    """MiB of resident memory that loading `path` and running it once takes a fresh process, at most."""
    command = [sys.executable, "-m", __name__, name, str(path), size, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RethinedError(f"measuring memory of {name} failed: {done.stderr.strip()[-500:]}")
    return float(done.stdout.split()[-1])


def _main(arguments: Sequence[str]) -> None:
    """What `_peak` runs."""
    name, path, size, threads = arguments
    height, width = (int(side) for side in size.split("x"))
    inputs = tuple(
        np.zeros((1, channels, height // side, width // side), np.float32)
        for channels, side in ((3, 1), (1, 1), (6, 8))
    )
    module = _module(name)
    with contextlib.suppress(OSError):  # Linux: what it took to import PyTorch does not count
        Path("/proc/self/clear_refs").write_text("5")
    before = provenance.peak_mib()
    module.load(Path(path), int(threads))(inputs)
    print(provenance.peak_mib() - before)


if __name__ == "__main__":
    _main(sys.argv[1:])
