"""The paper's ablations (Tables 4 and 5) and our deviations one by one: short trainings of equal budget.

A few hundred small steps say in which direction a choice points, not how far it leads: the table says what was spent.
Choices that need no training are also tried on finished weights.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rethined.bench import provenance
from rethined.config import DEFAULT, ModelConfig
from rethined.train.config import CPU_RECIPE, TrainConfig

BASE = "as released"
TRAINED: dict[str, dict[str, Any]] = {
    BASE: {},
    "patch size 16 (Table 4)": {"patch_size": 16},
    "patch size 32 (Table 4)": {"patch_size": 32},
    "no feature conditioning (Table 5)": {"feature_conditioning": False},
    "key width 8 (Table 5)": {"key_dim": 8},
    "key width 64 (Table 5)": {"key_dim": 64},
    "queries do not start as diffused keys": {"diffusion": False},
    "no detail above the grid": {"detail": False},
    "the network draws every pixel (band 1)": {"band": 1},
    "softmax over all patches, hard tiles, band 1": {"band": 1, "top_k": 0, "overlap": False},
    "four branches": {"branches": 4},
    "matches not supervised": {"match_weight": 0.0},
    "no perceptual loss": {"perceptual_weight": 0.0},
    "no L1": {"coarse_weight": 0.0, "refined_weight": 0.0},
    "with the frequency loss": {"frequency_weight": 0.05},
    "with the discriminator": {"adversarial_weight": 0.02, "feature_weight": 0.2},
}
"""Changes to the released model or to the recipe, each trained from nothing."""
UNTRAINED: dict[str, dict[str, Any]] = {
    BASE: {},
    "no pixel distance": {"pixel_distance": 0.0},
    "pixel distance without the patches around": {"agreement": False},
    "no border cost": {"border_cost": 0.0},
    "sources do not continue their neighbours'": {"continuity": 0.0},
    "hard tiles": {"overlap": False},
    "the best 4 patches mixed": {"top_k": 4},
}
"""Changes to the released model that its weights can be used with."""


def run_ablation(
    data: Path,
    val: Path,
    weights: Path | None,
    *,
    steps: int = 300,
    batch_size: int = 8,
    crop: int = 128,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train every row of TRAINED for `steps` steps on `data` and validate it on `val`; JSON-ready.

    With `weights` (safetensors), the rows of UNTRAINED too. Values are `train.loop.Trainer.validate`'s: LPIPS
    (AlexNet) in 10-20 % free-form holes at 768 pixels, and how often the chosen patch is among the 1 % best.

    Raises:
        InputError: no photographs, or weights that cannot be read.
    """
    from rethined.export.onnx import count_macs, load_weights
    from rethined.model import Rethined
    from rethined.train.data import load_folder
    from rethined.train.loop import Trainer, train

    origin = provenance.provenance()
    recipe = dataclasses.replace(
        CPU_RECIPE, steps=steps, batch_size=batch_size, crops=(crop,), warmup=max(1, steps // 10)
    )
    photos = load_folder(val, 768)[:8]
    rows = []

    def measured(kind: str, name: str, trainer: Trainer) -> None:
        values, _ = trainer.validate(photos)
        row = {"kind": kind, "name": name, "lpips": values["full"], "best1": values["best1%"]}
        if kind == "trained":
            model = trainer.ema
            row["parameters"] = sum(p.numel() for p in model.fused_copy().parameters())
            row["macs"] = count_macs(model) if trainer.config.model.top_k else None
        rows.append(row)
        progress(f"{name}: LPIPS {row['lpips']:.4f}, right matches {row['best1']:.1%}")

    with tempfile.TemporaryDirectory() as folder:
        for number, (name, changes) in enumerate(TRAINED.items()):
            trainer = train(_changed(recipe, changes), data, Path(folder) / str(number), report=lambda p: None)
            measured("trained", name, trainer)
        if weights is not None:
            released, _ = load_weights(weights)
            for number, (name, changes) in enumerate(UNTRAINED.items()):
                config = dataclasses.replace(released.config, **changes)
                trainer = Trainer(dataclasses.replace(recipe, model=config), Path(folder) / f"u{number}")
                model = Rethined(config)
                model.load_state_dict(released.state_dict())
                trainer.ema = model.eval()
                measured("untrained", name, trainer)
    return {
        "kind": "ablation",
        "steps": steps,
        "batch_size": batch_size,
        "crop": crop,
        "photographs": len(photos),
        "weights": {"rethined": provenance.sha256(weights)} if weights else {},
        "rows": rows,
        **origin,
    }


def _changed(recipe: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """`recipe` with changes to its own fields or to its model's."""
    model = {field.name for field in dataclasses.fields(ModelConfig)} & changes.keys()
    own = {name: value for name, value in changes.items() if name not in model}
    architecture = dataclasses.replace(DEFAULT, **{name: changes[name] for name in model})
    return dataclasses.replace(recipe, model=architecture, **own)
