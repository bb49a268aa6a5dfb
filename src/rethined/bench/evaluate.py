"""One model judged: its fills of a folder of photographs beside the training-free reference, at several sizes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rethined.bench import measure, provenance
from rethined.bench.cases import Case, Worst, write_pictures
from rethined.bench.schema import REFERENCE
from rethined.errors import InputError

ALONG = ("telea", REFERENCE)
"""Measured beside the model, so that every result carries its ratio to what needs no training."""


def evaluate(
    weights: Path | None,
    photos: Sequence[Path],
    sizes: Sequence[int],
    holes: Sequence[measure.Holes],
    metrics: measure.Metrics,
    *,
    reference: bool = True,
    threads: int | None = None,
    worst: Worst | None = None,
    progress: Callable[[str], None] = lambda line: None,
    keep: Callable[[dict[str, Any]], object] = lambda result: None,
) -> dict[str, Any]:
    """Measure `weights` (None: those in the package) on `photos` at every size under all holes; JSON-ready.

    One run (`measure.run`) for every kind of hole and size; sizes that no photograph has are left out. Without
    `reference` the methods in ALONG are not measured, and there are no ratios. `keep` is given what there is after
    every run, with `partial` saying how much of all that is.

    Raises:
        InputError: photographs, masks or weights cannot be used, or no photograph has the least size.
        WeightsError: the weights are damaged.
        BackendError: a package for exporting a .safetensors file is missing.
    """
    for some in holes:
        some.check(photos)
    origin = provenance.provenance()
    name = f"rethined:{weights.name}" if weights else "rethined"
    engine = measure.load_engine(weights, threads=threads)
    methods = {along: measure.BASELINES[along] for along in ALONG if reference}
    methods[name] = measure.as_method(engine)
    runs: list[dict[str, Any]] = []

    def result() -> dict[str, Any]:
        return {
            "kind": "eval",
            "method": name,
            "weights": {name: provenance.sha256(weights or provenance.BUNDLED)},
            "model": engine.describe(),
            "runs": runs,
            "pictures": [],
            **measure.described(metrics),
            "peak_mib": round(provenance.peak_mib()),
            **origin,
        }

    for number, (some, size) in enumerate(product(holes, sizes), 1):
        progress(f"{some}, {size} pixels on the long side:")
        run = measure.run(methods, photos, size, some, metrics, worst=worst, progress=progress)
        if run["rows"]:
            runs.append(run)
            keep(result() | {"partial": f"{number} of {len(holes) * len(sizes)} kinds and sizes of holes"})
        else:
            progress("no photograph is as large; left out")
    if not runs:
        raise InputError(f"no photograph has {min(sizes)} pixels on its long side; give a smaller size")
    return result()


def write_worst(folder: Path, cases: Sequence[Case], json: Path) -> list[dict[str, Any]]:
    """Write the cases as pictures; `pictures` of the result that will be written to `json`.

    `file` is relative to the folder of `json`, with forward slashes.

    Raises:
        OutputError: a picture cannot be written.
    """
    return [
        {
            "file": Path(os.path.relpath(path.resolve(), json.parent.resolve())).as_posix(),
            "photo": case.photo,
            "size": case.size,
            "masks": case.masks,
            "box": list(case.box),
            "panels": [label for label, _ in case.panels()],
            "lpips_hole": {name: values["lpips_hole"] for name, values in case.values.items()},
        }
        for path, case in zip(write_pictures(folder, cases), cases, strict=True)
    ]
