"""Seeded free-form masks: LaMa-like strokes, boxes, object-shaped blobs, wires and letters. True = hole."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined.errors import InputError

Mask = NDArray[np.bool_]
Canvas = NDArray[np.uint8]
Range = tuple[float, float]

KINDS = ("strokes", "boxes", "objects", "wires", "letters", "mixed")
WIRE = (0.002, 0.008)
"""How thick wires are, in parts of the image's shorter side."""
LETTERS = (0.015, 0.06)
"""How high letters are, in these."""
_MIXTURE = ("strokes", "strokes", "strokes", "boxes", "objects")


@dataclass(frozen=True)
class Preset:
    """A named sort of mask; where two presets differ in one field only, so do their masks."""

    kind: str = "mixed"
    """One of KINDS."""
    coverage: Range = (0.3, 0.5)
    """Least and largest part of the image that is hole."""
    stroke_width: Range | None = None
    """Of strokes, wires and letters, in parts of the image's shorter side; None: of strokes wider where more is
    missing, 2 to 16 %, of wires WIRE, of letters a tenth to a fifth of their height."""

    def draw(self, name: str, height: int, width: int, seed: int = 0) -> Mask:
        """The mask (H, W) of the photograph called `name` (no folder, no suffix): the same whatever else is drawn.

        Raises:
            InputError: as `free_form`, or the image is too small for such a coverage.
        """
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        low, high = self.coverage
        for _ in range(20):  # where the range is narrow, or the image tiny, shapes may all be too large to fit it
            mask = free_form(
                height, width, rng, coverage=self.coverage, kind=self.kind, stroke_width=self.stroke_width
            )
            if low <= np.count_nonzero(mask) / mask.size <= high:
                return mask
        raise InputError(
            f"{self.kind} that cover {100 * low:.4g}% to {100 * high:.4g}% of {width} x {height} pixels "
            "were not found; give a wider range of coverage, or a larger image"
        )


PRESETS = {
    "thin": Preset("strokes", (0.1, 0.4), (0.01, 0.04)),
    "medium": Preset("strokes", (0.1, 0.4), (0.04, 0.16)),
    "thick": Preset("strokes", (0.1, 0.4), (0.16, 0.4)),
    "paper": Preset("mixed", (0.3, 0.5)),
    "boxes": Preset("boxes", (0.1, 0.4)),
    "objects": Preset("objects", (0.05, 0.2)),
    "wires": Preset("wires", (0.003, 0.02), WIRE),
    "letters": Preset("letters", (0.02, 0.1)),
}
"""By name. thin, medium and thick differ in stroke width alone, up to nearly the widths of LaMa's sets of these names
(20, 100 and 250 of 512 pixels), whose coverage is mostly 10 to 40 % in all three. paper is what section 4 tests on;
objects is for object removal, wires for what is thin and long: wires, scratches, folds; letters for text and
watermarks."""


def free_form(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    coverage: Range = (0.1, 0.2),
    kind: str = "mixed",
    stroke_width: Range | None = None,
) -> Mask:
    """One random mask (H, W), True = hole, whose area is within `coverage` (fractions of the image).

    Shapes scale with the image, so that one seed looks alike at every resolution. `stroke_width` is that of `Preset`.
    Where the range is narrow, or the image tiny, no shape may be left that fits, and less than `coverage` is hole;
    never is it more.

    Raises:
        InputError: an unknown kind, or a coverage or stroke width that is no range inside 0..1.
    """
    low, high = coverage
    if kind not in KINDS:
        raise InputError(f"mask kind is {kind!r}; choose one of {', '.join(KINDS)}")
    if not 0 < low <= high < 1:
        raise InputError(f"coverage is {low}-{high}; give two fractions between 0 and 1, the smaller first")
    if stroke_width and not 0 < stroke_width[0] <= stroke_width[1] < 1:
        widths = f"{stroke_width[0]}-{stroke_width[1]}"
        raise InputError(f"stroke width is {widths}; give two fractions between 0 and 1, the smaller first")
    goal = rng.uniform(low, high)
    canvas = np.zeros((height, width), np.uint8)
    covered = 0
    for _ in range(200):
        missing = goal - covered / canvas.size
        if missing <= 0:
            break
        window, paint = _shape(height, width, rng, kind, missing, stroke_width)
        # Only where the shape falls is anything copied or counted: at 8K the whole would be 30 MB a shape.
        part = canvas[window]
        before = part.copy()
        paint(canvas)
        grown = covered + cv2.countNonZero(part) - cv2.countNonZero(before) if part.size else covered
        if grown / canvas.size > high:
            part[...] = before  # too much: try another shape rather than leave the range
        else:
            covered = grown
    return canvas.view(np.bool_)


Shape = tuple[tuple[slice, slice], Callable[[Canvas], object]]
"""The rows and columns outside which nothing changes, and what paints the shape."""


def _shape(
    height: int, width: int, rng: np.random.Generator, kind: str, missing: float, stroke_width: Range | None
) -> Shape:
    if kind == "mixed":
        kind = _MIXTURE[rng.choice(len(_MIXTURE))]
    if kind == "strokes":
        return _stroke(height, width, rng, missing, stroke_width)
    if kind == "wires":
        return _wire(height, width, rng, stroke_width or WIRE)
    if kind == "letters":
        return _word(height, width, rng, stroke_width)
    return (_box if kind == "boxes" else _blob)(height, width, rng, missing)


def _stroke(height: int, width: int, rng: np.random.Generator, missing: float, stroke_width: Range | None) -> Shape:
    """A polyline with round joints, as LaMa draws them: up to 5 segments, turning up to 60 degrees each."""
    side = min(height, width)
    thick = max(1, round(side * rng.uniform(*(stroke_width or (0.02, 0.02 + min(0.14, 0.5 * missing + 0.03))))))
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    angle = rng.uniform(0, 2 * np.pi)
    points = [(int(x), int(y))]
    for _ in range(int(rng.integers(1, 6))):
        angle += rng.uniform(-np.pi / 3, np.pi / 3)
        length = side * rng.uniform(0.05, 0.35)
        x = min(max(x + length * np.cos(angle), 0.0), width - 1.0)
        y = min(max(y + length * np.sin(angle), 0.0), height - 1.0)
        points.append((int(x), int(y)))

    def paint(canvas: Canvas) -> None:
        for start, end in itertools.pairwise(points):
            cv2.line(canvas, start, end, 1, thick)
            cv2.circle(canvas, end, thick // 2, 1, -1)

    return _window(points, thick // 2 + 3), paint


def _wire(height: int, width: int, rng: np.random.Generator, stroke_width: Range) -> Shape:
    """From border to border in any direction, sagging by up to a tenth of the shorter side."""
    side = min(height, width)
    thick = max(1, round(side * rng.uniform(*stroke_width)))
    x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, np.pi)
    along, sag = np.linspace(-1, 1, 33) * (height + width), side * rng.uniform(0, 0.1)
    bend = sag * (1 - (along / side) ** 2)
    px = x + along * np.cos(angle)
    py = y + along * np.sin(angle) + bend
    points = np.stack([px, py], 1).astype(np.int32)
    return _window(points.tolist(), thick // 2 + 3), lambda canvas: cv2.polylines(canvas, [points], False, 1, thick)


def _word(height: int, width: int, rng: np.random.Generator, stroke_width: Range | None) -> Shape:
    """3 to 9 letters in a line, in any direction; of no alphabet: each joins 3 to 5 points of a grid of 3 x 3."""
    side = min(height, width)
    size = side * rng.uniform(*LETTERS)
    thick = max(1, round(side * rng.uniform(*stroke_width) if stroke_width else size * rng.uniform(0.1, 0.2)))
    x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * np.pi)
    along = size * np.array((np.cos(angle), np.sin(angle)))
    letters = []
    for n in range(rng.integers(3, 10)):
        down, right = np.array(np.divmod(rng.permutation(9)[: rng.integers(3, 6)], 3)) / 2
        places = (x, y) + (0.85 * n + 0.6 * right)[:, None] * along + down[:, None] * (-along[1], along[0])
        letters.append(places.astype(np.int32))
    window = _window(np.concatenate(letters).tolist(), thick // 2 + 3)
    return window, lambda canvas: cv2.polylines(canvas, letters, False, 1, thick)


def _box(height: int, width: int, rng: np.random.Generator, missing: float) -> Shape:
    area = height * width * min(missing, 0.15) * rng.uniform(0.3, 1.0)
    aspect = np.exp(rng.uniform(-0.7, 0.7))
    w, h = max(1, int((area * aspect) ** 0.5)), max(1, int((area / aspect) ** 0.5))
    x, y = int(rng.integers(0, max(1, width - w))), int(rng.integers(0, max(1, height - h)))
    window = slice(y, y + h), slice(x, x + w)
    return window, lambda canvas: canvas[window].fill(1)


def _blob(height: int, width: int, rng: np.random.Generator, missing: float) -> Shape:
    """An object-like outline: a circle whose radius is a random smooth function of the angle."""
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
    ).astype(np.int32)
    return _window(points.tolist(), 1), lambda canvas: cv2.fillPoly(canvas, [points], 1)


def _window(points: list[tuple[int, int]], margin: int) -> tuple[slice, slice]:
    """Rows and columns around (x, y) points; what lies beyond the image is cut off by slicing."""
    xs, ys = zip(*points, strict=True)
    rows = slice(max(0, min(ys) - margin), max(0, max(ys) + margin + 1))
    return rows, slice(max(0, min(xs) - margin), max(0, max(xs) + margin + 1))
