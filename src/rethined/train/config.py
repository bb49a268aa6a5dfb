"""Recipes: frozen values whose docstring holds their command and their result."""

from __future__ import annotations

from dataclasses import dataclass

from rethined.config import DEFAULT, PAPER, ModelConfig


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Every field has one effect."""

    model: ModelConfig = DEFAULT
    """Architecture to train."""
    steps: int = 600_000
    """Optimiser steps in all."""
    batch_size: int = 32
    """Pictures per step."""
    crop: int = 256
    """Side of the square crops, in low-resolution pixels; a multiple of the network's stride."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam."""
    warmup: int = 500
    """Steps over which the learning rate rises linearly from 0."""
    decay: float = 1.0
    """Last fraction of the steps over which it falls to 0 along a cosine (1.0: the paper's schedule)."""
    ema: float = 0.999
    """Decay of the averaged weights, which are what is evaluated and exported."""
    coverage: tuple[float, float] = (0.05, 0.45)
    """Range of the hole's area, as fractions of the crop; drawn anew at every step."""
    coarse_weight: float = 2.0
    """L1 of the coarse image, inside the hole."""
    refined_weight: float = 0.5
    """L1 of the refined image, inside the hole."""
    perceptual_weight: float = 1.0
    """LPIPS of the refined image, under the hole."""
    match_weight: float = 0.5
    """Cross-entropy of the attention against the matches that the ground truth prefers."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Of weights, crops and masks: the same seed gives the same run on one machine."""


PAPER_RECIPE = TrainConfig(model=PAPER, batch_size=128, warmup=5000, match_weight=0.0)
"""Paper 5.1: Adam at 1e-3, warm-up, cosine, 600,000 steps at batch 128, joint and in one stage.

`rethined train paper --data FOLDER --out runs/paper`. Never run to its end by us: about 77 million pictures.
"""

CPU_RECIPE = TrainConfig(steps=8000, batch_size=8, warmup=200, decay=0.5)
"""What two CPU cores can do in about two hours: `rethined train cpu --data FOLDER --out runs/cpu`."""

RECIPES = {"paper": PAPER_RECIPE, "cpu": CPU_RECIPE}
