"""Photographs, decoded once into memory as uint8; crops and masks that depend on the seed and the step alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rethined.data.pack import load_pack
from rethined.errors import InputError
from rethined.masks import free_form

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
SHORT_SIDE = 384
"""What the short side of a photograph has in the engine's low-resolution grid, for the usual 3:2."""


def load_folder(folder: Path, short_side: int = SHORT_SIDE) -> list[NDArray[np.uint8]]:
    """All photographs below `folder`, sorted by name, each (h, w, 3) RGB reduced to `short_side` by area.

    `folder` may also be a file that `rethined data pack` has written.

    Raises:
        InputError: no photograph there, or one that cannot be read.
    """
    if folder.is_file():
        return [_reduced(picture, short_side) for picture in load_pack(folder)]
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"no photographs below {folder}; give a folder with JPEG, PNG or WebP files")

    def load(path: Path) -> NDArray[np.uint8]:
        picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise InputError(f"{path} cannot be decoded; remove it or replace it")
        return _reduced(np.asarray(picture, np.uint8), short_side)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(load, files))


def _reduced(picture: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True)
class Batches:
    """Training batches by number: `self[step]` is the same on every run, so a resumed run sees what it would have."""

    photos: list[NDArray[np.uint8]]
    batch_size: int
    crop: int
    coverage: tuple[float, float]
    seed: int

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, crop, crop) in [0, 1] and masks (B, 1, crop, crop), 1 = hole."""
        rng = np.random.default_rng((self.seed, step))
        images, masks = zip(*(self._sample(rng) for _ in range(self.batch_size)), strict=True)
        image = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        return image, torch.from_numpy(np.stack(masks))[:, None].float()

    def _sample(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        photo = self.photos[int(rng.integers(len(self.photos)))]
        # Whole photographs shrunk to nearly one crop, and closer views, down to the stored resolution.
        smallest = self.crop / min(photo.shape[:2])
        scale = rng.uniform(min(smallest, 1.0), 1.0) if smallest <= 1 else smallest
        side = round(self.crop / scale)
        y = int(rng.integers(photo.shape[0] - side + 1))
        x = int(rng.integers(photo.shape[1] - side + 1))
        view = photo[y : y + side, x : x + side]
        if side != self.crop:
            view = np.asarray(cv2.resize(view, (self.crop, self.crop), interpolation=cv2.INTER_AREA), np.uint8)
        if rng.random() < 0.5:
            view = view[:, ::-1]
        mask = free_form(self.crop, self.crop, rng, coverage=self.coverage)
        if rng.random() < 0.25:
            # The engine pads the grid at the bottom and right with hole; the network must have seen that.
            pad_y, pad_x = rng.integers(0, 33, 2)
            mask[self.crop - pad_y :] = True
            mask[:, self.crop - pad_x :] = True
        return np.ascontiguousarray(view), mask
