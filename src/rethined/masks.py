"""Seeded free-form masks: LaMa-like strokes, boxes and object-shaped blobs. True = hole."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined.errors import InputError

Mask = NDArray[np.bool_]

KINDS = ("strokes", "boxes", "objects", "mixed")


def free_form(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    coverage: tuple[float, float] = (0.1, 0.2),
    kind: str = "mixed",
) -> Mask:
    """One random mask (H, W), True = hole, whose area is within `coverage` (fractions of the image).

    Shapes scale with the image, so that one seed looks alike at every resolution.

    Raises:
        InputError: an unknown kind, or a coverage that is no range inside 0..1.
    """
    low, high = coverage
    if kind not in KINDS:
        raise InputError(f"mask kind is {kind!r}; choose one of {', '.join(KINDS)}")
    if not 0 < low <= high < 1:
        raise InputError(f"coverage is {low}-{high}; give two fractions between 0 and 1, the smaller first")
    goal = rng.uniform(low, high)
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(200):
        area = np.count_nonzero(canvas) / canvas.size
        if area >= goal:
            break
        before = canvas.copy()
        _draw(canvas, rng, kind, goal - area)
        if np.count_nonzero(canvas) / canvas.size > high:
            canvas = before  # too much: try another shape rather than leave the range
    return canvas.astype(bool)


def _draw(canvas: NDArray[np.uint8], rng: np.random.Generator, kind: str, missing: float) -> None:
    if kind == "mixed":
        kind = str(rng.choice(["strokes", "strokes", "strokes", "boxes", "objects"]))
    if kind == "strokes":
        _stroke(canvas, rng, missing)
    elif kind == "boxes":
        _box(canvas, rng, missing)
    else:
        _blob(canvas, rng, missing)


def _stroke(canvas: NDArray[np.uint8], rng: np.random.Generator, missing: float) -> None:
    """A polyline with round joints, as LaMa draws them: up to 5 segments, turning up to 60 degrees each."""
    height, width = canvas.shape
    side = min(height, width)
    thick = max(1, round(side * rng.uniform(0.02, 0.02 + min(0.14, 0.5 * missing + 0.03))))
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(1, 6))):
        angle += rng.uniform(-np.pi / 3, np.pi / 3)
        length = side * rng.uniform(0.05, 0.35)
        nx = float(np.clip(x + length * np.cos(angle), 0, width - 1))
        ny = float(np.clip(y + length * np.sin(angle), 0, height - 1))
        cv2.line(canvas, (int(x), int(y)), (int(nx), int(ny)), 1, thick)
        cv2.circle(canvas, (int(nx), int(ny)), thick // 2, 1, -1)
        x, y = nx, ny


def _box(canvas: NDArray[np.uint8], rng: np.random.Generator, missing: float) -> None:
    height, width = canvas.shape
    area = height * width * min(missing, 0.15) * rng.uniform(0.3, 1.0)
    aspect = np.exp(rng.uniform(-0.7, 0.7))
    w, h = max(1, int((area * aspect) ** 0.5)), max(1, int((area / aspect) ** 0.5))
    x, y = int(rng.integers(0, max(1, width - w))), int(rng.integers(0, max(1, height - h)))
    canvas[y : y + h, x : x + w] = 1


def _blob(canvas: NDArray[np.uint8], rng: np.random.Generator, missing: float) -> None:
    """An object-like outline: a circle whose radius is a random smooth function of the angle."""
    height, width = canvas.shape
    radius = (height * width * min(missing, 0.2) * rng.uniform(0.3, 1.0) / np.pi) ** 0.5
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    wave = np.ones_like(angles)
    for frequency in range(1, 6):
        wave += rng.normal(0, 0.28 / frequency) * np.cos(frequency * angles + rng.uniform(0, 2 * np.pi))
    stretch = np.exp(rng.uniform(-0.6, 0.6))
    turn = rng.uniform(0, np.pi)
    px = radius * np.clip(wave, 0.2, None) * np.cos(angles) * stretch**0.5
    py = radius * np.clip(wave, 0.2, None) * np.sin(angles) / stretch**0.5
    cx, cy = rng.uniform(0, width), rng.uniform(0, height)
    points = np.stack(
        [cx + px * np.cos(turn) - py * np.sin(turn), cy + px * np.sin(turn) + py * np.cos(turn)], axis=1
    )
    cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
