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
    """Of weights, crops and masks: the same seed gives the same run on one machine."""


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

CPU_RECIPE = TrainConfig(steps=11_000, batch_size=8, warmup=200, decay=0.5)
"""What two CPU cores can do in two hours: `rethined train cpu --data FOLDER --out runs/cpu`."""

RECIPES = {"paper": PAPER_RECIPE, "default": DEFAULT_RECIPE, "cpu": CPU_RECIPE}
