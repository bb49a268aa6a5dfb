"""The paper's ablations (Tables 4 and 5) and our deviations one by one: short trainings of equal budget.

A few hundred small steps say in which direction a choice points, not how far it leads: the table says what was spent.
Choices that need no training are also tried on finished weights.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rethined.backends import OnnxBackend
from rethined.bench import latency, provenance
from rethined.bench.schema import DESIGN
from rethined.export.core import Size, count_macs, load_weights, sample
from rethined.export.onnx import export_core
from rethined.model import Rethined
from rethined.train.config import CPU_RECIPE, TrainConfig, changed
from rethined.train.data import Batches, DeviceBatches, HostBatches, Photos, load_folder
from rethined.train.loop import Trainer
from rethined.workers import Workers

PHOTOGRAPHS = 8
"""Of the validation folder, measured on."""
TRAINED: dict[str, dict[str, Any]] = {
    DESIGN: {},
    "the same from another seed: what differs no more than this is chance": {"seed": 1},
    "attention over all pairs, patch size 8 (Table 4)": {"search": False},
    "attention over all pairs, patch size 16 (Table 4)": {"search": False, "patch_size": 16},
    "attention over all pairs, patch size 32 (Table 4)": {"search": False, "patch_size": 32},
    "no feature conditioning (Table 5)": {"feature_conditioning": False},
    "key width 8 (Table 5)": {"key_dim": 8},
    "key width 64 (Table 5)": {"key_dim": 64},
    "queries do not start as diffused keys": {"diffusion": False},
    "no detail above the grid": {"detail": False},
    "the network draws every pixel (band 1)": {"search": False, "band": 1},
    "softmax over all patches, hard tiles, band 1": {"search": False, "band": 1, "top_k": 0, "overlap": False},
    "four branches": {"branches": 4},
    "matches not supervised": {"match_weight": 0.0},
    "no perceptual loss": {"perceptual_weight": 0.0},
    "no L1": {"coarse_weight": 0.0, "refined_weight": 0.0},
    "with the frequency loss": {"frequency_weight": 0.05},
    "with the discriminator": {"adversarial_weight": 0.02, "feature_weight": 0.2},
}
"""Changes to the released model or to the recipe, each trained from nothing."""
FRONTIER: dict[str, dict[str, Any]] = {
    DESIGN: {},
    "narrowest": {"widths": (24, 48, 96, 160)},
    "narrow": {"widths": (32, 64, 128, 208)},
    "wide": {"widths": (64, 128, 256, 416)},
    "shallow": {"depths": (1, 1, 2, 2)},
    "deep": {"depths": (1, 3, 4, 6)},
}
"""Coarse networks of other widths and depths, the released one first; all within the paper's 4.3 M parameters."""
TIMED_SIDE = 512
"""Pixels of the square low-resolution image that cores are timed with: the engine's grid has as many."""
TIMED_RUNS = 100
"""Calls of each core; one takes milliseconds."""
UNTRAINED: dict[str, dict[str, Any]] = {
    DESIGN: {},
    "sources by attention over all pairs of patches": {"search": False},
    "attention over all pairs, hard tiles": {"search": False, "overlap": False},
    "attention over all pairs, the best 4 mixed": {"search": False, "top_k": 4},
}
"""Changes to the released model that its weights can be used with."""


def run_trained(
    data: Path,
    val: Path,
    choices: Mapping[str, dict[str, Any]] = TRAINED,
    *,
    steps: int = 200,
    batch_size: int = 8,
    crop: int = 128,
    finished: Callable[[str, Rethined], object] = lambda name, model: None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train every one of `choices` for `steps` steps on `data` and validate it on `val`; JSON-ready.

    Values are `train.loop.Trainer.validate`'s: LPIPS (AlexNet) in 10-20 % free-form holes at 768 pixels, and how
    often the chosen patch is among the 1 % best. The first row is the base before any training. `finished` is given
    the name and the averaged weights of each choice.

    Raises:
        InputError: no photographs.
    """
    origin = provenance.provenance()
    recipe = dataclasses.replace(
        CPU_RECIPE, steps=steps, batch_size=batch_size, crops=(crop,), warmup=max(1, steps // 10)
    )
    photos = load_folder(val, 768, PHOTOGRAPHS)
    seen = load_folder(data)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder) / "untrained")
        rows.append(_row("before training", trainer, photos, progress))
        for number, (name, changes) in enumerate(choices.items()):
            trainer = trained(changed(recipe, changes), seen, Path(folder) / str(number))
            model = trainer.ema
            cost: dict[str, Any] = {"parameters": sum(p.numel() for p in model.fused_copy().parameters())}
            cost["macs"] = count_macs(model)
            rows.append(_row(name, trainer, photos, progress) | cost)
            finished(name, model)
    budget = {"steps": steps, "batch_size": batch_size, "crop": crop}
    return {"kind": "ablation", **budget, "photographs": len(photos), "weights": {}, "rows": rows, **origin}


def run_frontier(
    data: Path,
    val: Path,
    *,
    steps: int = 600,
    threads: int = 2,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """`run_trained` of FRONTIER and, once all are trained, what the core of each takes; JSON-ready.

    Rows of what was trained also have `widths`, `depths`, and of the ONNX core at TIMED_SIDE pixels `median_ms`,
    `iqr_ms`, `n`, and `ratio` to the released one.

    Raises:
        InputError: no photographs.
        BackendError: an exported core disagrees with PyTorch.
    """
    models: dict[str, Rethined] = {}
    result = run_trained(data, val, FRONTIER, steps=steps, finished=models.__setitem__, progress=progress)
    times = core_times(models, threads)
    for row in result["rows"]:
        if row["name"] in models:
            config, time = models[row["name"]].config, times[row["name"]]
            ratio = time["median_ms"] / times[DESIGN]["median_ms"]
            row |= {"widths": list(config.widths), "depths": list(config.depths), **time, "ratio": ratio}
            progress(f"{row['name']}: {time['median_ms']:.2f} ms, {ratio:.2f} times the released one's")
    about = {
        "side": TIMED_SIDE,
        "threads": threads,
        "noisy": times["noisy"],
        "busy_elsewhere": times["busy_elsewhere"],
    }
    return result | {"kind": "frontier", **about}


def core_times(models: Mapping[str, Rethined], threads: int) -> dict[str, Any]:
    """What `latency.alternate` says of the ONNX cores of `models`, by name: one session each, in one process.

    Raises:
        BackendError: an exported core disagrees with PyTorch.
    """
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, model) in enumerate(models.items()):
            file = Path(folder) / f"{number}.onnx"
            export_core(model, file, {})
            inputs = sample(model.config, Size(TIMED_SIDE, TIMED_SIDE), 0)
            calls[name] = partial(OnnxBackend(file, Workers(threads)).run, *(value.numpy() for value in inputs))
        return latency.alternate(calls, runs=TIMED_RUNS, warmup=10)


def run_untrained(weights: Path, val: Path, *, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Validate finished `weights` (safetensors) on `val` with every row of UNTRAINED; JSON-ready.

    Raises:
        InputError: no photographs, or no such file.
        WeightsError: a file that does not hold weights.
    """
    origin = provenance.provenance()
    photos = load_folder(val, 768, PHOTOGRAPHS)
    released, _ = load_weights(weights)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, changes) in enumerate(UNTRAINED.items()):
            config = dataclasses.replace(released.config, **changes)
            trainer = Trainer(dataclasses.replace(CPU_RECIPE, model=config), Path(folder) / str(number))
            trainer.ema.load_state_dict(released.state_dict())
            rows.append(_row(name, trainer, photos, progress))
    digest = {"rethined": provenance.sha256(weights)}
    return {"kind": "ablation", "photographs": len(photos), "weights": digest, "rows": rows, **origin}


def trained(config: TrainConfig, photos: Photos, out: Path) -> Trainer:
    """What `train.loop.train` makes of photographs that are in memory, without its logs, files and validation."""
    trainer = Trainer(config, out)
    draw = (photos, config.batch_size, config.crops, config.coverage, config.seed, 0, 1)
    on_host = trainer.device.type == "cpu"
    batches: Batches = HostBatches(*draw) if on_host else DeviceBatches(*draw, device=trainer.device)
    for step in range(config.steps):
        trainer.train_step(*batches[step])
    return trainer


def _row(name: str, trainer: Trainer, photos: Photos, progress: Callable[[str], None]) -> dict[str, Any]:
    values, _ = trainer.validate(photos)
    progress(f"{name}: LPIPS {values['full']:.4f}, right matches {values['best1%']:.1%}")
    return {"name": name, "lpips": values["full"], "best1": values["best1%"]}
