"""How good the fills are: methods x photographs under seeded masks, one JSON result with provenance."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined import masks
from rethined.bench import baselines, peers, provenance
from rethined.errors import InputError, OutputError, RethinedError
from rethined.metrics import fid, image
from rethined.metrics.lpips import Lpips

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Method = Callable[[Image, Mask], Image]

REFERENCE = "copy_reference"
"""The method all others are compared to."""
BASELINES: dict[str, Method] = {
    "telea": baselines.telea,
    "telea_full": baselines.telea_full,
    REFERENCE: baselines.copy_reference,
}
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class MaskSpec:
    """Which holes: one seeded mask per photograph, the same whatever else is in the run."""

    kind: str = "strokes"
    """One of rethined.masks.KINDS."""
    low: float = 0.10
    """Least part of the image that is hole."""
    high: float = 0.20
    """Largest part of the image that is hole."""
    seed: int = 0
    """Another seed, other holes."""

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> MaskSpec:
        """`strokes-10-20`: kind and percentages.

        Raises:
            InputError: not of that form, or an unknown kind.
        """
        kind, *range_ = text.split("-")
        if kind not in masks.KINDS or len(range_) != 2 or not all(part.isdecimal() for part in range_):
            raise InputError(f"masks are {text!r}; give KIND-LOW-HIGH in percent, such as strokes-10-20")
        return cls(kind, int(range_[0]) / 100, int(range_[1]) / 100, seed)

    def __str__(self) -> str:
        return f"{self.kind}-{round(self.low * 100)}-{round(self.high * 100)}"

    def draw(self, name: str, height: int, width: int) -> Mask:
        """The mask (H, W) of the photograph called `name`."""
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return masks.free_form(height, width, rng, coverage=(self.low, self.high), kind=self.kind)


@dataclass(frozen=True)
class Metrics:
    """What is measured. LPIPS always; FID-768 over crops around the holes when its network is given."""

    lpips: Lpips
    """AlexNet is what papers report."""
    inception: fid.Inception768 | None = None
    """Network of FID-768."""
    fid_crops: int = 16
    """Crops per photograph for FID-768."""
    fid_size: int = 256
    """Their side in pixels."""


@dataclass
class _Case:
    """What a sheet shows of one photograph."""

    name: str
    badness: float
    panels: list[tuple[str, Image]] = field(default_factory=list)


def load_methods(
    names: Iterable[str],
    *,
    threads: int | None = None,
    weights: Mapping[str, Path] | None = None,
    onnx: Mapping[str, peers.OnnxFile] | None = None,
) -> dict[str, Method]:
    """Methods by name: telea, telea_full, copy_reference, rethined (bundled weights), rethined:FILE, and peers.

    Peers without weights are refused; what `onnx` names is loaded whether it is among `names` or not.

    Raises:
        InputError: an unknown name, or a peer without weights.
        WeightsError: weights that cannot be used.
    """
    loaded: dict[str, Method] = {}
    for name in dict.fromkeys([*names, *(onnx or ())]):
        if name in peers.names() or (onnx and name in onnx):
            loaded[name] = peers.load_method(name, weights, onnx, threads=threads)
        elif name in BASELINES:
            loaded[name] = BASELINES[name]
        elif name == "rethined" or name.startswith("rethined:"):
            from rethined.engine import Engine

            # What is uint8 stays uint8, which the engine's signature does not say.
            loaded[name] = cast(Method, Engine(weights_of(name), threads=threads))
        else:
            known = ", ".join([*BASELINES, *peers.names()])
            raise InputError(f"no method {name!r}; choose of {known}, rethined or rethined:FILE")
    return loaded


def weights_of(name: str) -> Path | None:
    """The FILE of `rethined:FILE`; None for other names."""
    return Path(name.partition(":")[2]) if name.startswith("rethined:") else None


def find_photos(folder: Path) -> list[Path]:
    """Pictures in `folder`, sorted by name, or `folder` itself when it is a file.

    Raises:
        InputError: there is none.
    """
    found = [folder] if folder.is_file() else sorted(folder.glob("*"))
    found = [path for path in found if path.suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(f"no photographs in {folder}; give a folder of {', '.join(SUFFIXES)}")
    return found


def read_photo(path: Path, size: int) -> Image | None:
    """The photograph as uint8 RGB with `size` pixels on its long side, by area; None when it has fewer.

    Raises:
        InputError: not a picture.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise InputError(f"{path} is not a picture OpenCV can read")
    height, width = bgr.shape[:2]
    factor = size / max(height, width)
    if factor > 1:
        return None
    shape = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.ascontiguousarray(cv2.resize(bgr, shape, interpolation=cv2.INTER_AREA)[..., ::-1], np.uint8)


def run_quality(
    methods: dict[str, Method],
    photos: Sequence[Path],
    size: int,
    spec: MaskSpec,
    metrics: Metrics,
    *,
    sheets: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fill every photograph with every method and measure; a JSON-ready result.

    Photographs with fewer than `size` pixels on the long side are left out and listed. Every metric is given
    over the whole image and (`_hole`) inside the hole; LPIPS of the whole image is its map's mean. `ratio` is
    a method's mean LPIPS in the hole over copy_reference's. With `sheets`, PNG sheets at 100 % are written
    there (original, masked, one panel per method), worst of the last method first.

    Raises:
        InputError: no photograph is large enough.
        RethinedError: a method changed known pixels.
        OutputError: a sheet cannot be written.
    """
    origin = provenance.provenance()
    rows: list[dict[str, Any]] = []
    small: list[str] = []
    cases: list[_Case] = []
    crops: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ("original", *methods)}
    for path in photos:
        photo = read_photo(path, size)
        if photo is None:
            small.append(path.name)
            continue
        height, width = photo.shape[:2]
        mask = spec.draw(path.stem, height, width)
        rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
        boxes = fid.crops(mask, metrics.fid_crops, metrics.fid_size, rng) if metrics.inception else []
        if metrics.inception:
            crops["original"].append(fid.features(metrics.inception, [photo[box] for box in boxes]))
        fills: dict[str, Image] = {}
        distances: NDArray[np.float32] | None = None
        for name, method in methods.items():
            start = time.perf_counter()
            fill = fills[name] = method(photo, mask)
            seconds = time.perf_counter() - start
            if not np.array_equal(fill[~mask], photo[~mask]):
                raise RethinedError(f"{name} changed known pixels of {path.name}; its numbers would be void")
            distances = metrics.lpips.spatial_map_tiled(fill, photo)
            row = {"photo": path.name, "height": height, "width": width, "hole": float(mask.mean())}
            row |= {"method": name, "seconds": seconds, **_measure(fill, photo, mask, distances)}
            rows.append(row)
            progress(f"{path.name} {name}: LPIPS in the hole {row['lpips_hole']:.4f}, {seconds:.2f} s")
            if metrics.inception:
                crops[name].append(fid.features(metrics.inception, [fill[box] for box in boxes]))
        if sheets is not None and distances is not None:
            cases.append(_case(path.stem, photo, mask, fills, distances, rows[-1]["lpips_hole"]))
    if not rows:
        raise InputError(f"no photograph has {size} pixels on its long side; give a smaller size")
    if sheets is not None:
        _write_sheets(sheets, cases)
    fids = {
        name: fid.frechet_distance(np.concatenate(crops[name]), np.concatenate(crops["original"]))
        for name in (methods if metrics.inception else ())
    }
    return {
        "kind": "quality",
        "size": size,
        "masks": {"name": str(spec), "seed": spec.seed},
        "photos": len({row["photo"] for row in rows}),
        "too_small": small,
        "fid768": {"crops": metrics.fid_crops, "size": metrics.fid_size} if metrics.inception else None,
        "weights": {name: _hash(name) for name in methods if name.startswith("rethined")} | peers.hashes(methods),
        "methods": _summary(rows, fids),
        "rows": rows,
        **origin,
    }


def _measure(fill: Image, photo: Image, mask: Mask, distances: NDArray[np.float32]) -> dict[str, float]:
    similarity = image.ssim_map(fill, photo)
    return {
        "lpips_hole": float(distances[mask].mean(dtype=np.float64)),
        "l1_hole": image.l1(fill, photo, mask),
        "psnr_hole": image.psnr(fill, photo, mask),
        "ssim_hole": float(similarity[mask].mean(dtype=np.float64)),
        "lpips": float(distances.mean(dtype=np.float64)),
        "l1": image.l1(fill, photo),
        "psnr": image.psnr(fill, photo),
        "ssim": float(similarity.mean(dtype=np.float64)),
    }


def _summary(rows: list[dict[str, Any]], fids: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Mean and median of every metric by method, FID-768, and the ratio to the reference."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    keys = [key for key in rows[0] if key not in ("photo", "height", "width", "hole", "method", "seconds")]
    result: dict[str, dict[str, Any]] = {}
    for name in names:
        columns = {key: [row[key] for row in rows if row["method"] == name] for key in keys}
        result[name] = {
            "mean": {key: float(np.mean(values)) for key, values in columns.items()},
            "median": {key: float(np.median(values)) for key, values in columns.items()},
            "fid768": fids.get(name),
        }
    for summary in result.values():
        reference = result.get(REFERENCE)
        ratio = reference and summary["mean"]["lpips_hole"] / reference["mean"]["lpips_hole"]
        summary["ratio"] = ratio
    return result


def _hash(name: str) -> str:
    path = weights_of(name) or provenance.BUNDLED
    return provenance.sha256(path)


def _case(
    name: str,
    photo: Image,
    mask: Mask,
    fills: dict[str, Image],
    distances: NDArray[np.float32],
    badness: float,
) -> _Case:
    """Panels at 100 % around where the last method is worst."""
    side = min(400, *mask.shape)
    inside = np.where(mask, distances, 0).astype(np.float32)
    spread = cv2.boxFilter(inside, -1, (side // 2, side // 2), borderType=cv2.BORDER_CONSTANT)
    y, x = np.unravel_index(int(spread.argmax()), mask.shape)
    top = int(np.clip(y - side // 2, 0, mask.shape[0] - side))
    left = int(np.clip(x - side // 2, 0, mask.shape[1] - side))
    box = np.s_[top : top + side, left : left + side]
    masked = np.where(mask[box][..., None], np.uint8(255), photo[box])
    panels = [("original", photo[box].copy()), ("masked", masked)]
    panels += [(method, fill[box].copy()) for method, fill in fills.items()]
    return _Case(name, badness, panels)


def _write_sheets(folder: Path, cases: list[_Case]) -> None:
    """`00-NAME.png` is the worst."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}") from error
    for rank, case in enumerate(sorted(cases, key=lambda case: -case.badness)):
        columns = []
        for label, panel in case.panels:
            bar = np.zeros((24, panel.shape[1], 3), np.uint8)
            cv2.putText(bar, label[-40:], (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
            columns.append(np.vstack([bar, panel]))
        path = folder / f"{rank:02d}-{case.name}.png"
        if not cv2.imwrite(str(path), np.hstack(columns)[..., ::-1]):
            raise OutputError(f"cannot write {path}; choose another folder")
