"""Recipes: frozen values whose docstring holds their command and their result."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rethined.config import DEFAULT, PAPER, ModelConfig
from rethined.errors import InputError


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Every field has one effect.

    Raises:
        ValueError: values that no run can have.
    """

    model: ModelConfig = DEFAULT
    """Architecture to train."""
    steps: int = 600_000
    """Optimiser steps in all."""
    batch_size: int = 32
    """Pictures per step, over all processes."""
    crops: tuple[int, ...] = (256,)
    """Sides of the square crops, in low-resolution pixels, multiples of the network's stride; each step draws one."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam."""
    warmup: int = 500
    """Steps over which the learning rate rises linearly from 0."""
    decay: float = 1.0
    """Last fraction of the steps over which it falls to 0 along a cosine (1.0: the paper's schedule)."""
    ema: float = 0.999
    """Decay of the averaged weights, which are what is evaluated and exported."""
    coverage: tuple[float, float] = (0.1, 0.5)
    """Range of the hole's area, as fractions of the picture; drawn anew at every step."""
    coarse_weight: float = 4.0
    """L1 of the coarse image, inside the hole. (Outside it is exact by construction.)"""
    refined_weight: float = 0.2
    """L1 of the filled low-resolution image, inside the hole."""
    perceptual_weight: float = 1.0
    """LPIPS (mean of AlexNet and SqueezeNet) of the filled low-resolution image, under the hole."""
    frequency_weight: float = 0.0
    """Difference of its log spectra, block by block, where there is a hole: what blur lacks, wherever it lies."""
    match_weight: float = 0.5
    """Cross-entropy of the attention against the matches that the ground truth prefers."""
    adversarial_weight: float = 0.0
    """Patch discriminator's opinion of the filled low-resolution image."""
    feature_weight: float = 0.0
    """L1 between the discriminator's features of the filled and the true image."""
    r1_weight: float = 1.0
    """Gradient penalty of the discriminator at true images (with `adversarial_weight` only)."""
    adversarial_start: int = 0
    """Step at which the discriminator begins; before it, the rest becomes stable."""
    half: bool = True
    """Whether the network computes in bfloat16 (weights and sums stay in single precision)."""
    compile: bool = False
    """Whether the coarse network is compiled; it pays on GPUs in long runs."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Of weights, crops and masks: the same seed gives the same run on one machine's processor."""

    def __post_init__(self) -> None:
        stride = self.model.stride
        for crop in self.crops:
            if crop < stride or crop % stride:
                raise ValueError(f"crop is {crop}; give a multiple of the network's stride {stride}")
        if not self.crops:
            raise ValueError("there are no crops; give at least one side")
        for name, least in (("steps", 1), ("batch_size", 2), ("warmup", 1), ("adversarial_start", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} or more")
        for name in ("learning_rate", "decay", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        if self.decay > 1:
            raise ValueError(f"decay is {self.decay}; give a fraction of the steps, 1 at most")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; give 0 or more, and less than 1")
        for name in (field.name for field in dataclasses.fields(self) if field.name.endswith("_weight")):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        if len(self.coverage) != 2 or not 0 < self.coverage[0] <= self.coverage[1] < 1:
            raise ValueError(f"coverage is {self.coverage}; give the least and the most, fractions between 0 and 1")


def parse(settings: Iterable[str]) -> dict[str, Any]:
    """What `changed` takes of texts like learning_rate=5e-4, crops=256,384 or half=false; the last of a name counts.

    Raises:
        InputError: not a name and a value, no field of that name, or not a value of its type.
    """
    types = typing.get_type_hints(ModelConfig) | typing.get_type_hints(TrainConfig)
    del types["model"]
    result: dict[str, Any] = {}
    for text in settings:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in types:
            raise InputError(f"{text!r} changes nothing; give NAME=VALUE, with one of {', '.join(sorted(types))}")
        kind = types[name]
        inner = typing.get_args(kind)
        try:
            result[name] = (
                tuple(_value(inner[0], part) for part in value.split(",")) if inner else _value(kind, value)
            )
        except ValueError:
            wanted = f"numbers like {'0.1,0.5' if float in inner else '256,384'}" if inner else _LIKE[kind]
            raise InputError(f"{name} is {value!r}; give {wanted}") from None
    return result


_LIKE: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false"}


def _value(kind: type, text: str) -> Any:
    if kind is not bool:
        return kind(text)
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def changed(recipe: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """`recipe` with other values of its fields, or of its model's; no two have one name.

    Raises:
        InputError: values that no run or no model can have.
    """
    model = {field.name for field in dataclasses.fields(ModelConfig)} & changes.keys()
    own = {name: value for name, value in changes.items() if name not in model}
    try:
        architecture = dataclasses.replace(recipe.model, **{name: changes[name] for name in model})
        return dataclasses.replace(recipe, model=architecture, **own)
    except ValueError as error:
        raise InputError(str(error)) from error


PAPER_RECIPE = TrainConfig(
    model=PAPER, batch_size=128, warmup=5000, coverage=(0.3, 0.5), match_weight=0.0, perceptual_weight=0.0
)
"""Paper 5.1: Adam at 1e-3, warm-up, cosine, 600,000 steps at batch 128, joint and in one stage.

`rethined train paper --data FOLDER --out runs/paper`. Its reconstruction terms only, as the weights of others were
not to be had. What section 5.1 does not state is ours, as the fields have it: weights of 4 and 0.2 of the two L1,
Adam's betas of 0.9 and 0.99, gradients clipped to a norm of 1, averaged weights (EMA), crops of 256 low-resolution
pixels at twice the grid. Never run to its end by us: about 77 million pictures.
"""

DEFAULT_RECIPE = TrainConfig(
    steps=100_000,
    batch_size=64,
    crops=(256, 320, 384, 512),
    warmup=1000,
    decay=0.5,
    adversarial_weight=0.02,
    feature_weight=0.2,
    adversarial_start=20_000,
    compile=True,
)
"""For a GPU: `rethined train default --data FOLDER --out runs/default`. Not yet run to its end by us.

Losses are those that the ablation (docs/paper.md, "Ablations") speaks for, and the adversarial ones, of which it says
nothing: it is over long before they would begin. The frequency loss, which it does not speak for, is left out.
"""

CPU_RECIPE = TrainConfig(steps=5500, batch_size=8, warmup=200, decay=0.5)
"""What two CPU cores do in less than two hours: `rethined train cpu --data FOLDER --out runs/cpu`.

docs/training.md has what it is worth.
"""

RECIPES = {"paper": PAPER_RECIPE, "default": DEFAULT_RECIPE, "cpu": CPU_RECIPE}
