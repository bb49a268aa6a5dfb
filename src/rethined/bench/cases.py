"""The worst cases of a run: crops at 100 % around the part of a hole where a fill is furthest from the original."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rethined.errors import OutputError
from rethined.image import write_atomic

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIDE = 352
"""Of a crop, in pixels: fits a telephone's screen at 100 %."""
OVERVIEW = 352
"""Long side of the picture of the whole, in pixels."""
CELL = 16
"""Side, in pixels, of the cells in which the worst part of a hole is looked for."""
HOLE = (214, 40, 130)
"""Colour of the hole where it is shown: one that photographs hardly have."""
GAP = 4
"""White pixels between the panels of a sheet."""


@dataclass
class Case:
    """One photograph with one hole at one size: the panels that show how it was filled, and the numbers."""

    photo: str
    """File name."""
    size: int
    """Pixels on the long side."""
    masks: str
    """Name of the holes."""
    badness: float
    """LPIPS inside the hole of the method that is judged."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the crop in the photograph of that size."""
    overview: Image
    """The whole, masked, with the crop framed."""
    masked: Image
    """The crop (h, w, 3) as the methods got it, and next, as it was."""
    original: Image
    fills: dict[str, Image] = field(default_factory=dict)
    """The crop by method; the judged one first."""
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """The photograph's metrics by method."""

    def add(self, method: str, fill: Image, values: dict[str, float]) -> None:
        """Show what `method` made of it."""
        left, top, right, bottom = self.box
        self.fills[method] = fill[top:bottom, left:right].copy()
        self.values[method] = values

    def panels(self) -> list[tuple[str, Image]]:
        """Label and crop: masked, other methods, the judged one, original."""
        judged, *others = self.fills
        return [
            ("masked", self.masked),
            *((name, self.fills[name]) for name in (*others, judged)),
            ("original", self.original),
        ]


@dataclass(frozen=True)
class Panel:
    """One encoded picture of a case, as a page shows it."""

    label: str
    width: int
    height: int
    webp: bytes


@dataclass(frozen=True)
class Shown:
    """A case as a page shows it, fresh from a run or read from the files that an earlier one left."""

    photo: str
    masks: str
    size: int
    box: tuple[int, int, int, int]
    judged: str
    """The method that is first seen beside the original."""
    overview: Panel
    panels: list[Panel]
    values: dict[str, dict[str, float]]


def shown(case: Case) -> Shown:
    """Encoded, at 100 %."""

    def panel(label: str, picture: Image) -> Panel:
        return Panel(label, picture.shape[1], picture.shape[0], encoded(picture, "WEBP", 92))

    panels = [panel(*pair) for pair in case.panels()]
    where = panel("where", case.overview)
    return Shown(case.photo, case.masks, case.size, case.box, next(iter(case.fills)), where, panels, case.values)


def write_cases(folder: Path, cases: Sequence[Case], json: Path) -> list[dict[str, Any]]:
    """Write every panel as WebP below `folder`, anew; `cases` of the result that will be written to `json`.

    File names are relative to the folder of `json`, with forward slashes.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    entries = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.webp"):
            old.unlink()
        for rank, case in enumerate(map(shown, cases), 1):
            files = []
            for number, panel in enumerate([case.overview, *case.panels]):
                path = folder / f"{rank}-{number}.webp"
                write_atomic(path, panel.webp, overwrite=True)
                file = Path(os.path.relpath(path.resolve(), json.parent.resolve())).as_posix()
                files.append({"label": panel.label, "width": panel.width, "height": panel.height, "file": file})
            entries.append(
                {"photo": case.photo, "masks": case.masks, "size": case.size, "box": list(case.box)}
                | {"judged": case.judged, "panels": files, "values": case.values}
            )
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
    return entries


def read_cases(entries: Sequence[dict[str, Any]], folder: Path) -> list[Shown]:
    """What `write_cases` wrote; `folder` is that of the result file. Cases whose pictures are gone are left out."""
    found = []
    for entry in entries:
        if not all((folder / panel["file"]).is_file() for panel in entry["panels"]):
            continue
        where, *panels = (
            Panel(panel["label"], panel["width"], panel["height"], (folder / panel["file"]).read_bytes())
            for panel in entry["panels"]
        )
        left, top, right, bottom = entry["box"]
        box = (left, top, right, bottom)
        found.append(
            Shown(entry["photo"], entry["masks"], entry["size"], box, entry["judged"], where, panels, entry["values"])
        )
    return found


class Worst:
    """Keeps the `count` worst cases it has been shown, and the worst of each of the `count` worst photographs."""

    def __init__(self, count: int, side: int = SIDE) -> None:
        self._count, self._side = count, side
        self._cases: list[Case] = []

    @property
    def cases(self) -> list[Case]:
        """Worst first."""
        return self._cases[: self._count]

    @property
    def of_each_photo(self) -> list[Case]:
        """The worst case of each photograph, worst first."""
        firsts: dict[str, Case] = {}
        for case in self._cases:
            firsts.setdefault(case.photo, case)
        return list(firsts.values())[: self._count]

    def consider(
        self, photo: str, size: int, masks: str, pixels: Image, mask: Mask, cells: NDArray[np.float64], badness: float
    ) -> Case | None:
        """The case to add fills to, or None where worse ones are enough.

        `cells` are sums of the distance over hole pixels by cells of CELL pixels; the crop is where a square of
        them adds up to most.
        """
        enough = len(self._cases) >= self._count and badness <= self._cases[self._count - 1].badness
        if enough and any(case.photo == photo and badness <= case.badness for case in self._cases):
            return None
        height, width = mask.shape
        box = _box(cells, height, width, self._side)
        left, top, right, bottom = box
        original = pixels[top:bottom, left:right].copy()
        masked = np.where(mask[top:bottom, left:right, None], np.array(HOLE, np.uint8), original)
        case = Case(photo, size, masks, badness, box, _overview(pixels, mask, box), masked, original)
        self._cases = sorted([*self._cases, case], key=lambda case: -case.badness)
        keep = [id(case) for case in (*self.cases, *self.of_each_photo)]
        self._cases = [case for case in self._cases if id(case) in keep]
        return case


def _box(cells: NDArray[np.float64], height: int, width: int, side: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the square of `side` pixels, inside the image, in which the cells sum to most."""
    reach = max(1, min(side, height, width) // CELL)
    window = np.ones((min(reach, cells.shape[0]), min(reach, cells.shape[1])))
    sums = cv2.filter2D(cells, -1, window, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    top = int(np.clip(row * CELL, 0, max(0, height - side)))
    left = int(np.clip(column * CELL, 0, max(0, width - side)))
    return left, top, min(left + side, width), min(top + side, height)


def _overview(pixels: Image, mask: Mask, box: tuple[int, int, int, int]) -> Image:
    """The photograph reduced to OVERVIEW pixels, its hole white, the crop framed."""
    factor = min(1.0, OVERVIEW / max(mask.shape))
    shape = (max(1, round(mask.shape[1] * factor)), max(1, round(mask.shape[0] * factor)))
    small = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(mask.view(np.uint8) * np.uint8(255), shape, interpolation=cv2.INTER_AREA)[..., None] / 255
    result = np.rint(small * (1 - share) + np.array(HOLE, np.float32) * share).astype(np.uint8)
    left, top, right, bottom = (round(value * factor) for value in box)
    for colour, inset in (((0, 0, 0), 0), ((255, 210, 0), 1)):
        corners = (left + inset, top + inset), (right - 1 - inset, bottom - 1 - inset)
        cv2.rectangle(result, *corners, colour, 1)
    return result


def encoded(picture: Image, format: str, quality: int) -> bytes:
    """JPEG without chroma subsampling, or WebP: the colours of edges are part of what is judged."""
    stream = io.BytesIO()
    options: dict[str, Any] = {"subsampling": 0} if format == "JPEG" else {"method": 4}
    PillowImage.fromarray(picture).save(stream, format, quality=quality, **options)
    return stream.getvalue()


def write_pictures(folder: Path, cases: Sequence[Case]) -> list[Path]:
    """A JPEG sheet at 100 % per case, `worst-1.jpg` first: masked, the methods, original, labelled.

    Sheets of a longer run before are removed, so that the folder shows one run.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for rank, case in enumerate(cases, 1):
            written.append(folder / f"worst-{rank}.jpg")
            write_atomic(written[-1], encoded(_sheet(case.panels()), "JPEG", 90), overwrite=True)
        rank = len(cases) + 1
        while (rest := folder / f"worst-{rank}.jpg").is_file():
            rest.unlink()
            rank += 1
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
    return written


def _sheet(panels: Sequence[tuple[str, Image]]) -> Image:
    columns = []
    for label, panel in panels:
        bar = np.zeros((24, panel.shape[1], 3), np.uint8)
        cv2.putText(bar, label[-40:], (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        columns += [np.vstack([bar, panel]), np.full((24 + panel.shape[0], GAP, 3), 255, np.uint8)]
    return np.hstack(columns[:-1])
