"""The core in every runtime that is installed: time, memory, size, difference to PyTorch, LPIPS of the fills."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rethined import image, masks
from rethined.backends import CoreOutput
from rethined.bench import provenance, web
from rethined.bench.latency import alternate
from rethined.bench.schema import RUNTIMES
from rethined.config import ModelConfig
from rethined.engine import Engine
from rethined.errors import InputError, RethinedError
from rethined.export import core, formats

if TYPE_CHECKING:
    from rethined.metrics.lpips import Lpips

Floats = NDArray[np.float32]
Picture = tuple[NDArray[np.uint8], NDArray[np.bool_]]

REFERENCE = ("onnx", "fp32")
"""Whose fills the LPIPS of all others is compared with; it is timed in turn with each."""
WEB_THREADS = (1, 2)
"""In the browser; a page that is not isolated has one."""
HOLES = (0.1, 0.3)
"""Part of each photograph that is hole when quality is measured."""


class RunBackend:
    """Any runtime's core, of one size, as the engine's backend."""

    def __init__(self, config: ModelConfig, run: core.Run, size: core.Size) -> None:
        self.config = config
        self.size: tuple[int, int] | None = (size.height, size.width)
        self._run = run

    def run(self, image: Floats, mask: Floats, detail: Floats | None) -> CoreOutput:
        assert detail is not None
        return CoreOutput(*self._run((image, mask, detail)))

    def describe(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Subject:
    """One file in one runtime, ready to be measured."""

    run: core.Run
    call: Callable[[], object] | None
    """Runs it once for `alternate`; None where it cannot be timed here."""
    peak_mib: Callable[[], float | None]
    helpers: Callable[[], float] = lambda: 0.0
    """As of `alternate`."""


def run_device(
    weights: Path | None,
    photos: Path,
    *,
    runtimes: Sequence[str] = tuple(RUNTIMES),
    sizes: Sequence[str] = ("512x512",),
    threads: int = 2,
    runs: int = 20,
    limit: int = 8,
    told: Mapping[str, float] | None = None,
    name: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Export to each of `runtimes` that is installed, in each precision, run it here, and measure; JSON-ready.

    A row has `runtime`, `precision`, `size`, `threads`; `median_ms` of the core, from array to array, and `ratio` to
    the reference timed in turn with it; `peak_mib` of a fresh process, or of WebAssembly's memory; `file_bytes`;
    `difference`, the largest to PyTorch of any output; `lpips_change`, the mean LPIPS (AlexNet) in the hole over the
    middles of at most `limit` of `photos` less that of the reference; and `same`, the part of their hole pixels that
    is within one grey level of the reference's. The browser has a row of 1 and one of 2 threads. Core ML is timed on
    macOS and evaluated elsewhere: its time is then None.

    `told` are milliseconds by precision that a device's own tool measured, one on which this cannot run; the device
    is then called `name`, and all but the time is measured here.

    Raises:
        InputError: an unknown runtime, or no photographs that are large enough, or `told` without a name or of more
            than one runtime and size.
        BackendError: an export differs too much from PyTorch, or a runtime does not start.
    """
    from rethined.metrics import backbones
    from rethined.metrics.lpips import Lpips

    for one in runtimes:
        if one not in RUNTIMES:
            raise InputError(f"runtime is {one!r}; choose from {', '.join(RUNTIMES)}")
    if told and (len(runtimes), len(sizes), bool(name)) != (1, 1, True):
        raise InputError("times that were told are of one device, runtime and size; give --name, and one of each")
    origin = provenance.provenance()
    if told:
        origin["machine"] = {"cpu": name, "cores": None, "system": None}
    lpips = Lpips.load("alex", backbones.find("lpips_alex.safetensors"))
    model, _ = core.load_weights(weights)
    config = model.config
    absent = [f"{one} ({', '.join(packages)})" for one in runtimes if (packages := _missing(one, told))]
    wanted = [one for one in runtimes if not _missing(one, told)]
    files = [(one, precision) for one in wanted for precision in _precisions(one, told)]
    for line in absent:
        progress(f"not installed, left out: {line}")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for size in sizes:
            cells = core.parse_sizes(size, config.stride)[0]
            pictures = _pictures(photos, cells, limit)
            inputs = tuple(value.numpy() for value in core.sample(config, cells, 0))
            file = folder / f"base-{size}.onnx"
            formats.export(REFERENCE[0], weights, file, size=size, precision=REFERENCE[1])
            reference = _module("onnx").load(file, threads)
            base = _fills(config, reference, cells, pictures)
            for one, precision in files:
                form = formats.FORMATS[RUNTIMES[one].form]
                path = folder / f"{one}-{precision}-{size}{form.suffix}"
                calibration = photos if precision == "int8" else None
                options: dict[str, Any] = {"size": size, "precision": precision, "calibration": calibration}
                _, file_bytes = formats.export(RUNTIMES[one].form, weights, path, **options)
                for count in WEB_THREADS if one == "web" else (threads,):
                    row: dict[str, Any] = {"runtime": one, "precision": precision, "size": size, "threads": count}
                    row |= dict.fromkeys(("median_ms", "ratio", "peak_mib", "noisy"))
                    with _ready(one, path, precision, size, count, inputs) as subject:
                        row["difference"] = max(core.differences(model, subject.run, [cells]).values())
                        fills = _fills(config, subject.run, cells, pictures)
                        if told:
                            row |= {"median_ms": told[precision], "told": True}
                        elif subject.call:
                            subject.run(inputs)  # which a page keeps
                            calls: dict[str, Callable[[], object]] = {
                                "this": subject.call,
                                "base": partial(reference, inputs),
                            }
                            times = alternate(calls, runs=runs, warmup=3, helpers=subject.helpers)
                            row["median_ms"] = times["this"]["median_ms"]
                            row["ratio"] = times["this"]["median_ms"] / times["base"]["median_ms"]
                            row["noisy"] = times["noisy"]
                            row["peak_mib"] = subject.peak_mib()
                    row["file_bytes"] = file_bytes
                    row["lpips_change"] = _lpips(fills, pictures, lpips) - _lpips(base, pictures, lpips)
                    row["same"] = _same(fills, base, pictures)
                    rows.append(row)
                    took = "not timed" if row["median_ms"] is None else f"{row['median_ms']:.1f} ms"
                    progress(
                        f"{one} {precision} {size}, threads {count}: {took}, difference {row['difference']:.1e}, "
                        f"LPIPS {row['lpips_change']:+.4f}, same {row['same']:.2%}"
                    )
    return {
        "kind": "device",
        "weights": {"rethined": provenance.sha256(weights or provenance.BUNDLED)},
        "photographs": len(pictures),
        "absent": absent,
        "versions_of": {one: _versions(one) for one in wanted},
        "rows": rows,
        **origin,
    }


def _missing(name: str, told: Mapping[str, float] | None) -> list[str]:
    """What has to be installed before `name` can be measured."""
    runtime = RUNTIMES[name]
    packages = formats.missing_packages(runtime.form)
    if name == "web":
        packages += web.missing()
    if name == "litert_gpu" and not told:
        packages.append("a phone; measure there and give --told")
    if runtime.provider and not told:
        import onnxruntime as ort

        packages += [] if runtime.provider in ort.get_available_providers() else [runtime.provider]
    return packages


def _precisions(name: str, told: Mapping[str, float] | None) -> tuple[str, ...]:
    """Those to measure. Raises InputError: one was told that there is not."""
    runtime = RUNTIMES[name]
    able = runtime.precisions or formats.FORMATS[runtime.form].precisions
    for precision in told or ():
        if precision not in able:
            raise InputError(f"{name} is not measured in {precision} but in {' or '.join(able)}")
    return tuple(precision for precision in able if not told or precision in told)


def _versions(name: str) -> dict[str, str]:
    return formats.versions(RUNTIMES[name].form) | (web.versions() if name == "web" else {})


@contextlib.contextmanager
def _ready(name: str, path: Path, precision: str, size: str, threads: int, inputs: core.Arrays) -> Iterator[Subject]:
    """`path`, loaded by the runtime `name`."""
    runtime = RUNTIMES[name]
    if name == "web":
        with web.opened(path, threads) as page:
            yield Subject(page, page.milliseconds, page.peak_mib, page.cpu_seconds)
        return
    peak: Callable[[], float | None] = partial(_peak, runtime.form, path, size, threads)
    module = _module(runtime.form)
    if runtime.provider:
        run = module.session(path.read_bytes(), threads, runtime.provider, runtime.computing.get(precision))
        yield Subject(run, partial(run, inputs), lambda: None)  # an accelerator's memory is not the process's
    elif runtime.form == "coreml":
        on_mac = sys.platform == "darwin"
        run = module.predictor(path) if on_mac else module.load(path, threads)
        yield Subject(run, partial(run, inputs) if on_mac else None, lambda: None)
    else:
        run = module.load(path, threads)
        yield Subject(run, partial(run, inputs), peak)


def _module(name: str) -> Any:
    return importlib.import_module(f"rethined.export.{name}")


def _pictures(folder: Path, size: core.Size, limit: int) -> list[Picture]:
    """Middles of photographs, twice as large as `size`, or as large where that is all they are, with seeded holes."""
    found = [path for path in sorted(folder.glob("*")) if image.is_image_name(path)] if folder.is_dir() else []
    pictures: list[Picture] = []
    for path in found:
        pixels = image.read_photo(path).pixels
        factor = min(2, pixels.shape[0] // size.height, pixels.shape[1] // size.width)
        if not factor or len(pictures) == limit:
            continue
        h, w = factor * size.height, factor * size.width
        top, left = (pixels.shape[0] - h) // 2, (pixels.shape[1] - w) // 2
        hole = masks.free_form(h, w, np.random.default_rng(len(pictures)), coverage=HOLES)
        cut = np.ascontiguousarray(pixels[top : top + h, left : left + w])
        pictures.append((np.asarray(cut if cut.dtype == np.uint8 else cut // 257, np.uint8), hole))
    if not pictures:
        raise InputError(f"{folder} has no photograph of at least {size} pixels; give a folder of larger ones")
    return pictures


def _fills(
    config: ModelConfig, run: core.Run, size: core.Size, pictures: Sequence[Picture]
) -> list[NDArray[np.uint8]]:
    """What the engine makes of `pictures` with `run` as its core."""
    engine = Engine(backend=RunBackend(config, run, size))
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
