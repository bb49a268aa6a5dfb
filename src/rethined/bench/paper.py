"""The paper's tables and figures, each by a fixed protocol: `rethined bench paper`.

What is measured how is decided by `measure`, `latency` and `ablation`; here is only with what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as PillowImage

from rethined.bench import ablation, latency, measure, peers, provenance
from rethined.bench.cases import SIDE, Case, Image, Mask, Worst, write_cases
from rethined.bench.peers.timing import Field
from rethined.bench.schema import DESIGN, REFERENCE
from rethined.errors import InputError
from rethined.export import formats

PARTS = {
    "table1": "quality by method and size, beside the latencies of table3",
    "table3": "latency, memory and cost of the engine and its peers by size",
    "table4": "patch size, by short trainings",
    "table5": "feature conditioning and key width, by short trainings",
    "frontier": "widths and depths of the coarse network: latency against quality, by short trainings",
    "figure3": "every method's fill of the same hole, side by side",
    "figure5": "one hole at several resolutions",
}
"""What can be measured. Table 2 is `rethined bench device`; Figure 1 is drawn from tables 1 and 3."""
PHOTOGRAPHED = ("table1", "table4", "table5", "frontier", "figure3", "figure5")
"""Parts that need photographs."""
ABLATED = ("table4", "table5")
"""Parts that share their trainings."""
TRAINED = (*ABLATED, "frontier")
"""Parts that need other photographs to train on."""
HOLES = measure.MaskSpec("mixed", 0.3, 0.5)
"""The paper's test holes (5.1)."""
TIMED_HOLE = 0.4
"""Part of the image that is hole where speed is measured: the middle of those."""
QUALITY = ("telea", "navier_stokes", "patchmatch", REFERENCE)
"""Methods without weights whose fills are measured beside the engine's."""
TIMED = ("telea", "navier_stokes", "patchmatch", REFERENCE, *peers.PEERS)
"""Methods timed in turn with the engine; `lama_512`, which is `lama` at 512 and a resize, is left out."""
LARGEST = {"patchmatch": 1024, "lama": 1024, "migan_full": 2048, "authors": 2048}
"""Sides beyond which a method takes minutes, or more memory than 16 GiB."""
FIGURE5_SIDE = 3 * SIDE
"""Of the crop at the largest resolution, which is shown at a third of its size."""


@dataclass(frozen=True)
class Budget:
    """How much is measured."""

    name: str
    """Written into the results."""
    photographs: Mapping[int, int]
    """Long sides in pixels, and how many photographs are measured at each."""
    sides: tuple[int, ...]
    """Of the square images that are timed."""
    timed: tuple[str, ...]
    """Methods that are timed."""
    runs: int
    """Timed calls of each, ..."""
    seconds: float
    """... unless they take longer in all (`latency.alternate`)."""
    steps: int
    """Of each training for tables 4 and 5."""
    frontier_steps: int
    """Of each for the frontier: those who choose an architecture by it want to be surer."""
    figure3: int
    """Pixels on the long side."""
    figure5: tuple[int, ...]
    """Pixels on the long side; the photograph's own, if it has fewer than the last."""


FULL = Budget(
    "full",
    photographs={1024: 12, 2048: 12, 4096: 4},
    sides=(512, 1024, 2048, 4096),
    timed=tuple(name for name in TIMED if name != "lama_512"),
    runs=15,
    seconds=8,
    steps=150,
    frontier_steps=600,
    figure3=1024,
    figure5=(512, 1024, 2048, 4096),
)
"""`make bench`: under 40 minutes on two quiet cores, without the frontier, whose trainings take as long again."""
QUICK = Budget(
    "quick",
    photographs={512: 3},
    sides=(512, 1024),
    timed=("telea", "navier_stokes", REFERENCE, "migan", "coordfill"),
    runs=5,
    seconds=3,
    steps=10,
    frontier_steps=10,
    figure3=512,
    figure5=(512, 1024, 2048),
)
"""`make bench-quick`: under 5 minutes."""


@dataclass(frozen=True)
class Settings:
    """What every part is measured with."""

    budget: Budget
    out: Path
    """Folder of results; pictures go below it, in `pictures/PART`."""
    photos: Path | None = None
    """Folder of photographs to measure on."""
    train: Path | None = None
    """Folder or pack of photographs to train on."""
    weights: Mapping[str, Path] | None = None
    """Official weights of peers."""
    onnx: Mapping[str, peers.OnnxFile] | None = None
    """Users' networks."""
    threads: int = 2
    """Of every method."""
    fid: bool = False
    """Also FID, or FID-768."""
    progress: Callable[[str], None] = lambda line: None
    """Told of every step."""


def run(parts: Sequence[str], settings: Settings) -> list[Path]:
    """Measure `parts` and write one result each, `OUT/PART.json`, as soon as it is there; the files written.

    Raises:
        InputError: an unknown part, or one whose photographs are not there.
        RethinedError: as what measures.
    """
    check(parts, settings)
    provenance.check_folder(settings.out)
    written = []

    def write(part: str, result: dict[str, Any]) -> None:
        measured = result | {"part": part, "budget": settings.budget.name}
        written.append(provenance.write_json(settings.out / f"{part}.json", measured))
        settings.progress(f"wrote {written[-1]}")

    pictured = [part for part in ("table1", "figure3", "figure5") if part in parts]
    metrics = measure.Metrics.load(distances=settings.fid) if pictured else None
    for part in pictured:
        assert metrics is not None
        write(part, _PICTURED[part](settings, metrics))
    if "table3" in parts:
        write("table3", _latency(settings))
    ablated = [part for part in ABLATED if part in parts]
    if ablated:
        result = _ablation(settings, ablated)
        for part in ablated:
            rows = [row for row in result["rows"] if "(Table" not in row["name"] or _title(part) in row["name"]]
            write(part, result | {"rows": rows})
    if "frontier" in parts:
        write("frontier", _frontier(settings))
    return written


def check(parts: Sequence[str], settings: Settings) -> None:
    """Raise InputError where a part is unknown, or its photographs are not named."""
    for part in parts:
        if part not in PARTS:
            raise InputError(f"no part {part!r}; choose of {', '.join(PARTS)}")
        if part in PHOTOGRAPHED and settings.photos is None:
            raise InputError(f"{part} needs photographs; give --photos FOLDER")
        if part in TRAINED and settings.train is None:
            raise InputError(f"{part} trains; give --train FOLDER, with other photographs than --photos")
        if part == "frontier" and (missing := formats.missing_packages("onnx")):
            raise InputError(
                f"frontier exports what it trained, which needs {', '.join(missing)}; "
                "install it with: pip install 'rethined[export]'"
            )
    folders = [folder.resolve() for folder in (settings.photos, settings.train) if folder]
    if len(set(folders)) < len(folders):
        raise InputError("--train and --photos are the same folder; what is trained on cannot be measured on")


def _title(part: str) -> str:
    """`table4` is marked "(Table 4)" in the names of `ablation.TRAINED`."""
    return f"(Table {part.removeprefix('table')})"


def _methods(settings: Settings) -> dict[str, measure.Method]:
    """Whatever has pictures, the engine last: it is the one that is judged."""
    names = ["rethined", *QUALITY, *(settings.weights or {})]
    loaded = measure.load_methods(names, threads=settings.threads, weights=settings.weights, onnx=settings.onnx)
    loaded["rethined"] = loaded.pop("rethined")
    return loaded


def _compare(
    part: str, settings: Settings, metrics: measure.Metrics, photographs: Mapping[int, int], cases: int
) -> dict[str, Any]:
    """Every method on the first photographs that are large enough, by size, and the worst `cases` at each."""
    assert settings.photos is not None
    origin = provenance.provenance()
    found = measure.find_photos(settings.photos)
    methods = _methods(settings)
    runs, pictures = [], []
    for size, limit in photographs.items():
        large = [path for path in found if _long_side(path) >= size][:limit]
        if not large:
            settings.progress(f"no photograph has {size} pixels on its long side; left out")
            continue
        settings.progress(f"{part}, {size} pixels on the long side:")
        some = {name: method for name, method in methods.items() if size <= LARGEST.get(name, size)}
        worst = Worst(cases)
        runs.append(measure.run(some, large, size, HOLES, metrics, worst=worst, progress=settings.progress))
        pictures += worst.of_each_photo
    if not runs:
        raise InputError(f"no photograph in {settings.photos} has {min(photographs)} pixels on its long side")
    weights = {"rethined": measure.sha256_of("rethined")} | peers.hashes(methods)
    return _pictured(part, settings, metrics, runs, pictures) | {"weights": weights, **origin}


def _pictured(
    part: str, settings: Settings, metrics: measure.Metrics, runs: list[dict[str, Any]], cases: Sequence[Case]
) -> dict[str, Any]:
    shown = write_cases(settings.out / "pictures" / part, cases, settings.out / f"{part}.json")
    return {"kind": "comparison", "runs": runs, "cases": shown, **measure.described(metrics)}


def _table1(settings: Settings, metrics: measure.Metrics) -> dict[str, Any]:
    return _compare("table1", settings, metrics, settings.budget.photographs, 4)


def _figure3(settings: Settings, metrics: measure.Metrics) -> dict[str, Any]:
    return _compare("figure3", settings, metrics, {settings.budget.figure3: 3}, 3)


def _figure5(settings: Settings, metrics: measure.Metrics) -> dict[str, Any]:
    """The largest photograph, reduced to each size: the same hole, and the same part of the picture."""
    assert settings.photos is not None
    origin = provenance.provenance()
    path = max(measure.find_photos(settings.photos), key=_long_side)
    *smaller, largest = settings.budget.figure5
    native = min(_long_side(path), largest)
    engine = measure.as_method(measure.load_engine(None, threads=settings.threads))
    fills: dict[int, Image] = {}
    runs = []
    worst = Worst(1, side=FIGURE5_SIDE)
    for size in [size for size in smaller if size < native] + [native]:

        def fill(image: Image, mask: Mask, size: int = size) -> Image:
            fills[size] = engine(image, mask)
            return fills[size]

        worst = Worst(1, side=FIGURE5_SIDE)
        runs.append(measure.run({"rethined": fill}, [path], size, HOLES, metrics, worst=worst))
    case = worst.cases[0]
    values = {run["size"]: run["methods"]["rethined"]["mean"] for run in runs}
    # Of the others what shows the same as the crop of the largest.
    parts = {size: _part(fill, case.box, size / native) for size, fill in fills.items()}
    case.original, case.masked = (_part(crop, (0, 0, *crop.shape[1::-1]), 1) for crop in (case.original, case.masked))
    order = [native, *(size for size in parts if size != native)]
    case.fills = {f"{size} pixels": parts[size] for size in order}
    case.values = {f"{size} pixels": values[size] for size in order}
    result = _pictured("figure5", settings, metrics, runs, [case])
    return result | {"weights": {"rethined": measure.sha256_of("rethined")}, **origin}


_PICTURED = {"table1": _table1, "figure3": _figure3, "figure5": _figure5}


def _part(picture: Image, box: tuple[int, int, int, int], scale: float) -> Image:
    """What `box`, scaled, encloses; SIDE pixels wide: reduced by area, or enlarged so that pixels are seen."""
    left, top, right, bottom = (round(value * scale) for value in box)
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    height = round(SIDE * (box[3] - box[1]) / (box[2] - box[0]))
    by = cv2.INTER_AREA if part.shape[1] > SIDE else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(part, (SIDE, height), interpolation=by), np.uint8)


def _long_side(path: Path) -> int:
    with PillowImage.open(path) as picture:
        return max(picture.size)


def _latency(settings: Settings) -> dict[str, Any]:
    budget = settings.budget
    timed = [*budget.timed, *(name for name in settings.weights or {} if name not in budget.timed)]
    field = Field(timed, settings.weights or {}, settings.onnx or {}, largest=LARGEST)
    return latency.run_latency(
        None,
        sizes=budget.sides,
        holes=[TIMED_HOLE],
        threads=settings.threads,
        runs=budget.runs,
        warmup=2,
        seconds=budget.seconds,
        field=field,
        progress=settings.progress,
    )


def _ablation(settings: Settings, parts: Sequence[str]) -> dict[str, Any]:
    assert settings.train is not None
    assert settings.photos is not None
    choices = {
        name: changes
        for name, changes in ablation.TRAINED.items()
        if name == DESIGN or any(_title(part) in name for part in parts)
    }
    return ablation.run_trained(
        settings.train, settings.photos, choices, steps=settings.budget.steps, progress=settings.progress
    )


def _frontier(settings: Settings) -> dict[str, Any]:
    assert settings.train is not None
    assert settings.photos is not None
    return ablation.run_frontier(
        settings.train,
        settings.photos,
        steps=settings.budget.frontier_steps,
        threads=settings.threads,
        progress=settings.progress,
    )
