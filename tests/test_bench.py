"""Baselines against slow loops; benchmarks and reports end to end on tiny inputs."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from rethined.bench import baselines, latency, measure, provenance, report
from rethined.bench.cases import Worst, write_pictures
from rethined.bench.cli import register
from rethined.errors import InputError, OutputError, RethinedError
from rethined.image import read_photo
from rethined.metrics.fid import Inception
from rethined.metrics.lpips import Lpips

SHARED = Path(os.environ.get("RETHINED_SHARED", Path(__file__).parents[2] / "shared")) / "weights"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small pictures: threads only wait for each other, and on a busy machine for long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def smooth(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A seeded uint8 picture with structure at several scales."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128.0)
    for cells in (3, 9, 27):
        noise = rng.normal(0, 25, (cells, cells, 3))
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return (picture + rng.normal(0, 8, picture.shape)).clip(0, 255).astype(np.uint8)


def small_hole(height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[height // 3 : height // 2, width // 4 : width // 2] = True
    return mask


# --- Baselines ---


@pytest.mark.parametrize("agreement", [1, 3])
def test_match_is_its_definition(agreement: int) -> None:
    """S'(i, j) = mean_d S(i + d, j + d), S = -SSD, over d inside the image on both sides; best known j."""
    rng = np.random.default_rng(0)
    height, width, side = 5, 4, baselines.PATCH
    guide = rng.random((height * side, width * side, 3)).astype(np.float32)
    corrupted = rng.random((height, width)) < 0.4
    corrupted[0, 0], corrupted[4, 3] = True, False
    patch = {
        (y, x): guide[y * side : (y + 1) * side, x * side : (x + 1) * side].astype(float)
        for y in range(height)
        for x in range(width)
    }
    reach = range(-(agreement // 2), agreement // 2 + 1)
    want = np.arange(height * width).reshape(height, width)
    for i in np.argwhere(corrupted):
        best = -np.inf
        for j in np.argwhere(~corrupted):
            scores = [
                -((patch[i[0] + y, i[1] + x] - patch[j[0] + y, j[1] + x]) ** 2).sum()
                for y in reach
                for x in reach
                if (i[0] + y, i[1] + x) in patch and (j[0] + y, j[1] + x) in patch
            ]
            if np.mean(scores) > best:
                best, want[tuple(i)] = float(np.mean(scores)), j[0] * width + j[1]
    np.testing.assert_array_equal(baselines.match(guide, corrupted, agreement=agreement), want)


def test_copy_above_is_its_definition() -> None:
    """out = up(low_guide) + sum_k w_k (image - up(low_image)) / sum_k w_k, pixel by pixel."""
    rng = np.random.default_rng(0)
    rows, columns, scale = 3, 4, 2
    side = baselines.PATCH * scale
    image = smooth(rows * side, columns * side)
    mask = small_hole(*image.shape[:2])
    corrupted = mask.reshape(rows, side, columns, side).any((1, 3))
    source = np.arange(rows * columns).reshape(rows, columns)
    source[corrupted] = rng.choice(np.flatnonzero(~corrupted), corrupted.sum())
    shape = (rows * baselines.PATCH, columns * baselines.PATCH, 3)
    low_guide, low_image = (rng.uniform(60, 200, shape).astype(np.float32) for _ in range(2))

    def up(low: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(low, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR))

    high = image - up(low_image)
    want = image.astype(float)
    for y, x in np.argwhere(mask):
        total, weight = np.zeros(3), 0.0
        for r, c in np.argwhere(corrupted):
            v, u = y - r * side + side // 2, x - c * side + side // 2  # in the window of patch (r, c)
            if not (0 <= v < 2 * side and 0 <= u < 2 * side):
                continue
            source_row, source_column = divmod(int(source[r, c]), columns)
            sy, sx = y + (source_row - r) * side, x + (source_column - c) * side
            if not (0 <= sy < mask.shape[0] and 0 <= sx < mask.shape[1]) or mask[sy, sx]:
                continue
            w = (np.sin(np.pi * (v + 0.5) / (2 * side)) * np.sin(np.pi * (u + 0.5) / (2 * side))) ** 2
            total, weight = total + w * high[sy, sx], weight + w
        want[y, x] = up(low_guide)[y, x] + total / weight
    got = baselines.copy_above(image, mask, source, low_guide, low_image, scale)
    assert np.abs(got - want.clip(0, 255)).max() <= 0.5 + 1e-3  # rounding, and float32


@pytest.mark.parametrize("method", [baselines.telea, baselines.telea_full, baselines.copy_reference])
@pytest.mark.parametrize(("height", "width"), [(97, 131), (40, 700), (16, 16)])
def test_baselines_keep_known_pixels_and_fill_holes(method: measure.Method, height: int, width: int) -> None:
    image, mask = smooth(height, width), small_hole(height, width)
    holed = np.where(mask[..., None], np.uint8(0), image)
    before = holed.copy()
    filled = method(holed, mask)
    assert filled.shape == image.shape
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[~mask], image[~mask])
    np.testing.assert_array_equal(holed, before)
    # Nearer to the truth than a flat fill would be from black.
    assert np.abs(filled[mask].astype(float) - image[mask]).mean() < 60
    np.testing.assert_array_equal(method(image, np.zeros_like(mask)), image)


def test_hole_content_never_leaks() -> None:
    image, mask = smooth(200, 600), small_hole(200, 600)
    other = np.where(mask[..., None], 255 - image, image)
    for method in measure.BASELINES.values():
        np.testing.assert_array_equal(method(image, mask), method(other, mask))


def test_copy_reference_continues_a_texture() -> None:
    """Stripes finer than the low-resolution grid: the copy restores them, as no fill of that grid can."""
    image = np.zeros((128, 1024, 3), np.uint8)
    image[..., :] = (np.arange(1024) % 2 * 200)[None, :, None]  # the low-resolution image is flat grey
    mask = np.zeros(image.shape[:2], bool)
    mask[50:80, 400:440] = True
    filled = baselines.copy_reference(image, mask)
    assert np.abs(filled.astype(int) - image)[mask].mean() < 2
    assert np.abs(baselines.telea(image, mask).astype(int) - image)[mask].mean() > 80


def test_copy_reference_without_known_patches_is_telea() -> None:
    image = smooth(64, 64)
    mask = np.zeros((64, 64), bool)
    mask[::8, ::8] = True
    np.testing.assert_array_equal(baselines.copy_reference(image, mask), baselines.telea(image, mask))


def test_baselines_refuse() -> None:
    image, mask = smooth(32, 32), small_hole(32, 32)
    with pytest.raises(InputError, match="uint8"):
        baselines.telea(image.astype(np.float32), mask)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="True = hole"):
        baselines.copy_reference(image, mask[:16])
    with pytest.raises(InputError, match="whole image is hole"):
        baselines.telea_full(image, np.ones_like(mask))


# --- Quality ---


@pytest.fixture(scope="module")
def lpips() -> Lpips:
    """Random weights: what the numbers mean is tested with the metrics."""
    torch.manual_seed(0)
    model = Lpips("alex")
    for name, parameter in model.named_parameters():
        if name.startswith("heads"):
            torch.nn.init.uniform_(parameter)
        elif name.endswith("weight"):
            torch.nn.init.kaiming_normal_(parameter)
    return model


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, (height, width) in enumerate([(120, 160), (200, 130), (40, 60)]):
        assert cv2.imwrite(str(folder / f"{index}.png"), smooth(height, width, index))
    return folder


@pytest.mark.parametrize("text", ["strokes-10-20", "wires-0.3-1", "objects-1-1"])
def test_masks_are_called_by_kind_and_percentages(text: str) -> None:
    assert str(measure.MaskSpec.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["strokes", "strokes-0-20", "strokes-20-10", "stars-1-2", "wires-.5-1", "wires-1-nan"]
)
def test_masks_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="KIND-LOW-HIGH"):
        measure.MaskSpec.parse(text)


def test_what_windows_are_worth_is_measured_against_the_whole_photo() -> None:
    image = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    mask = np.zeros((700, 900), np.bool_)
    mask[300:340, 400:480] = True
    whole, windows = measure.load_methods(["rethined_whole", "rethined"], threads=2).values()
    fills = whole(image, mask), windows(image, mask)
    assert (fills[0] != fills[1]).any()
    for fill in fills:
        np.testing.assert_array_equal(fill[~mask], image[~mask])
    nothing = np.zeros_like(mask)
    np.testing.assert_array_equal(whole(image, nothing), image)


def test_quality_measures_ranks_and_shows(photos: Path, lpips: Lpips, tmp_path: Path) -> None:
    methods = measure.load_methods(["telea", "copy_reference"])
    spec = measure.MaskSpec.parse("strokes-10-20", seed=3)
    lines: list[str] = []
    found = measure.find_photos(photos)
    worst = Worst(1, side=64)
    metrics = measure.Metrics(lpips, lpips)
    result = measure.run(methods, found, 128, spec, metrics, worst=worst, progress=lines.append)
    assert result["photos"] == 2
    assert result["too_small"] == ["2.png"]
    assert len(result["rows"]) == len(lines) == 4
    assert [row["method"] for row in result["rows"]] == ["telea", "copy_reference"] * 2
    assert all(0.05 < row["hole"] <= 0.2 and row["lpips_hole"] > row["lpips"] > 0 for row in result["rows"])
    assert all(row["lpips_squeeze_hole"] == pytest.approx(row["lpips_hole"]) for row in result["rows"])
    assert result["methods"]["copy_reference"]["ratio"] == 1
    means = {name: summary["mean"]["lpips_hole"] for name, summary in result["methods"].items()}
    assert result["methods"]["telea"]["ratio"] == pytest.approx(means["telea"] / means["copy_reference"])
    telea, ours = ([r["lpips_hole"] for r in result["rows"] if r["method"] == name] for name in methods)
    assert result["methods"]["telea"]["median"]["lpips_hole"] == pytest.approx(np.median(telea))
    assert result["methods"]["telea"]["better"] == np.mean(np.less(telea, ours))
    # Any subset, the same masks.
    alone = measure.run({"telea": methods["telea"]}, found[1:2], 128, spec, measure.Metrics(lpips))
    assert alone["rows"][0]["lpips_hole"] == result["rows"][2]["lpips_hole"]
    assert alone["methods"]["telea"]["ratio"] is None
    assert "lpips_squeeze" not in alone["rows"][0]
    # Cases: the worst of the last method, and the worst of each of as many photographs: here the same one.
    bad = max((row for row in result["rows"] if row["method"] == "copy_reference"), key=lambda r: r["lpips_hole"])
    assert [case.photo for case in worst.cases] == [case.photo for case in worst.of_each_photo] == [bad["photo"]]
    assert list(worst.cases[0].fills) == ["copy_reference", "telea"]
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets" / "worst-2.jpg").write_text("of a run before")
    write_pictures(tmp_path / "sheets", worst.of_each_photo)
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["worst-1.jpg"]
    assert cv2.imread(str(tmp_path / "sheets" / "worst-1.jpg")).shape == (64 + 24, 4 * 64 + 3 * 4, 3)
    # And it is JSON with provenance.
    path = provenance.write_json(tmp_path / "deep" / "quality.json", result | provenance.provenance())
    read = provenance.read_json(path)
    assert read["machine"]["cores"] == os.cpu_count()
    assert read["versions"]["numpy"] == np.__version__
    assert {"commit", "date", "load_average", "dirty"} <= read.keys()


def test_the_crop_is_where_the_distance_is() -> None:
    pixels, mask = np.zeros((1000, 1500, 3), np.uint8), np.zeros((1000, 1500), bool)
    mask[:, 700:] = True
    cells = np.zeros((63, 94))
    cells[2, 50] = 1
    cells[40:44, 80:84] = 0.5  # together 8, at rows 640 to 704 and columns 1280 to 1344
    case = Worst(1, side=100).consider("a", 1500, "m", pixels, mask, cells, 1.0)
    assert case is not None
    left, top, right, bottom = case.box
    assert (right - left, bottom - top) == (100, 100)
    assert 1344 - 100 <= left + 16 <= 1280 + 16
    assert 704 - 100 <= top + 16 <= 640 + 16
    assert case.original.shape == case.masked.shape == (100, 100, 3)
    small = Worst(1, side=400).consider("a", 60, "m", pixels[:50, :60], mask[:50, 670:730], np.ones((4, 4)), 1.0)
    assert small is not None
    assert small.box == (0, 0, 60, 50)


def test_the_worst_are_kept_and_one_of_each_photograph() -> None:
    pixels, mask, cells = np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), bool), np.ones((2, 2))
    worst = Worst(2)
    for photo, badness in (("a", 0.5), ("a", 0.9), ("b", 0.3), ("a", 0.8), ("c", 0.1), ("b", 0.2)):
        worst.consider(photo, 32, "m", pixels, mask, cells, badness)
    assert [(case.photo, case.badness) for case in worst.cases] == [("a", 0.9), ("a", 0.8)]
    assert [(case.photo, case.badness) for case in worst.of_each_photo] == [("a", 0.9), ("b", 0.3)]


def test_quality_counts_fid768(photos: Path, lpips: Lpips) -> None:
    path = SHARED / "inception2015_768.safetensors"
    if not path.is_file():
        pytest.skip(f"needs {path} (set RETHINED_SHARED)")
    metrics = measure.Metrics(lpips, None, Inception.load(path), crops=2, crop_size=64)
    methods: dict[str, measure.Method] = {
        "nothing": lambda image, mask: image.copy(),
        "telea": baselines.telea,
    }
    found = measure.find_photos(photos)
    result = measure.run(methods, found, 128, measure.MaskSpec(), metrics)
    assert result["fid"] == {"name": "FID-768", "crops": 2, "crop_size": 64}
    assert "fid" not in result["methods"]["telea"]
    for key in ("fid768", "fid768_hole"):
        assert result["methods"]["nothing"][key] == pytest.approx(0, abs=1e-9)
        assert result["methods"]["telea"][key] > 1e-3
    one = measure.run(methods, found[:1], 128, measure.MaskSpec(), metrics)
    assert "fid768" not in one["methods"]["telea"]  # one picture is no distribution; its crops are
    assert one["methods"]["telea"]["fid768_hole"] > 0


def test_masks_from_a_folder(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    folder.mkdir()
    found = measure.find_photos(photos)[:1]
    (holes,) = measure.parse_masks(str(folder))
    assert str(holes) == "drawn"
    with pytest.raises(InputError, match=r"no mask for 0\.png; put 0\.png there"):
        holes.check(found)
    mask = np.zeros((120, 160), np.uint8)
    mask[:, 80] = 255  # a hairline, kept at any size
    photo = read_photo(found[0])
    assert cv2.imwrite(str(folder / "0.png"), mask)
    holes.check(found)
    np.testing.assert_array_equal(holes.of(found[0], photo, 120, 160), mask > 0)
    quarter = holes.of(found[0], photo, 30, 40)
    assert quarter[:, 20].all()
    assert quarter.sum() == 30
    for name, wrong, message in (
        ("empty", np.zeros((120, 160)), "without white"),
        ("full", np.full((120, 160), 255), "all white"),
        ("small", np.zeros((60, 80)), "80 x 60 but"),
    ):
        assert cv2.imwrite(str(folder / f"{name}.png"), wrong.astype(np.uint8))
        with pytest.raises(InputError, match=message):
            holes.of(photos / f"{name}.png", photo, 120, 160)


def test_quality_refuses(photos: Path, lpips: Lpips, tmp_path: Path) -> None:
    found, metrics = measure.find_photos(photos), measure.Metrics(lpips)
    with pytest.raises(RethinedError, match="changed known pixels of 0"):
        measure.run({"bad": lambda image, mask: 255 - image}, found, 128, measure.MaskSpec(), metrics)
    assert measure.run({"telea": baselines.telea}, found, 4096, measure.MaskSpec(), metrics)["rows"] == []
    with pytest.raises(InputError, match="no method 'magic'"):
        measure.load_methods(["magic"])
    for text in ("strokes", "clouds-10-20", "strokes-a-b", "strokes-20-10", "strokes-0-10", "no/such/folder"):
        with pytest.raises(InputError, match=r"KIND-LOW-HIGH.*or a folder"):
            measure.parse_masks(text)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no photographs in"):
        measure.find_photos(tmp_path / "empty")
    with pytest.raises(InputError, match=r"weights are a\.pt; give"):
        measure.load_engine(tmp_path / "a.pt")
    with pytest.raises(InputError, match="every side needs 64"):
        measure.reduced(read_photo(photos / "2.png"), 50)
    (photos / "0.jpg").write_text("no picture")
    with pytest.raises(InputError, match="two photographs called 0"):
        measure.find_photos(photos)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file is a file"):
        provenance.write_json(tmp_path / "file" / "a.json", {})
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="holds a list"):
        provenance.read_json(tmp_path / "list.json")


# --- Latency ---


class FakeEngine:
    """The engine's shape, so that neither weights nor runtime are needed."""

    def __init__(self, weights: Path | None = None, *, threads: int | None = None) -> None:
        assert threads == 1

    def __call__(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        return baselines.telea(image, mask)

    def profile(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> dict[str, float]:
        return {"core": 1.0, "copy": 2.0}


def test_latency_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = types.ModuleType("rethined.engine")
    engine.Engine = FakeEngine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rethined.engine", engine)
    monkeypatch.setattr(latency, "peak_memory", lambda *arguments: 123.0)
    weights = tmp_path / "weights.onnx"
    weights.write_bytes(b"weights")
    result = latency.run_latency(weights, sizes=[512, 600], holes=[0.1], threads=1, runs=3, warmup=1, profile=True)
    first, second = result["rows"]
    assert first["engine"]["n"] == 3
    assert 0 < first["engine"]["min_ms"] <= first["engine"]["median_ms"]
    assert first["ratio_telea"] == pytest.approx(first["engine"]["median_ms"] / first["telea"]["median_ms"])
    assert "telea" not in second  # only at the sizes of TELEA_SIZES
    assert second["ratio_copy"] > 0
    assert first["stages_ms"] == {"core": 1, "copy": 2}
    assert result["weights"]["rethined"] == provenance.sha256(weights)
    assert json.loads(provenance.write_json(tmp_path / "l.json", result).read_text())["rows"][0]["peak_mib"] == 123
    with pytest.raises(InputError, match="runs is 0"):
        latency.run_latency(weights, runs=0)


def test_calls_alternate() -> None:
    calls: list[str] = []
    result = latency.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, runs=2, warmup=1)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert set(result) == {"a", "b", "busy_elsewhere", "noisy"}


def test_a_contender_may_time_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([10.0, 1000.0])
    monkeypatch.setattr(latency, "_others_cpu_seconds", iter([0.0, 990.0]).__next__)
    result = latency.alternate({"a": lambda: 123.0}, runs=3, warmup=0, helpers=used.__next__)
    assert result["a"]["median_ms"] == 123
    assert result["busy_elsewhere"] == 0  # all of it was the helpers'
    assert not result["noisy"]


def test_calls_are_timed_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.01)

    monkeypatch.setattr(latency, "PAUSE", 0.005)
    contenders: dict[str, Callable[[], object]] = {"quick": lambda: calls.append("quick"), "slow": slow}
    result = latency.alternate(contenders, runs=2, warmup=1)
    # The slow one is called right after the quick one, and before it nothing else was, so once suffices.
    assert calls[2:] == ["quick", "quick", "slow", "quick", "quick", "slow"]
    assert result["quick"]["n"] == result["slow"]["n"] == 2
    monkeypatch.setattr(latency, "LONG", 0.001)
    calls.clear()
    latency.alternate({"slow": slow, "other": lambda: time.sleep(0.01)}, runs=3, warmup=0)
    assert len(calls) == 3


def test_a_slow_contender_makes_the_least_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "PAUSE", math.inf)
    calls: list[str] = []

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.02)

    contenders: dict[str, Callable[[], object]] = {"quick": lambda: calls.append("quick"), "slow": slow}
    result = latency.alternate(contenders, runs=latency.LEAST + 3, warmup=4, seconds=0.01)
    assert result["quick"]["n"] == latency.LEAST + 3
    assert result["slow"]["n"] == latency.LEAST
    assert calls.count("slow") == 1 + latency.LEAST  # of its warm-up one
    assert calls[5:7] == ["quick", "slow"]


def test_scene_has_the_hole_asked_for() -> None:
    for hole in (0.1, 0.25):
        image, mask = latency.scene(256, hole)
        assert image.dtype == np.uint8
        assert image.std() > 10
        assert abs(mask.mean() - hole) < 0.02
    np.testing.assert_array_equal(latency.scene(128, 0.1)[0], latency.scene(128, 0.1)[0])


def test_memory_failure_is_told(tmp_path: Path) -> None:
    with pytest.raises(RethinedError, match="measuring memory failed"):
        latency.peak_memory(tmp_path / "none.onnx", 64, 0.1, 1)


# --- Report ---

ORIGIN: dict[str, Any] = {
    "date": "2025-01-02T03:04:05+00:00",
    "commit": "0123456789abcdef",
    "dirty": False,
    "machine": {"cpu": "Test CPU", "cores": 2, "system": "Linux"},
    "versions": {"rethined": "1.0"},
}
MEASURES = dict.fromkeys(("lpips", "l1", "psnr", "ssim", "lpips_hole", "l1_hole", "psnr_hole", "ssim_hole"), 0.25)
RUN: dict[str, Any] = {
    "size": 2048,
    "masks": {"name": "strokes-10-20", "seed": 0},
    "photos": 12,
    "methods": {
        "copy_reference": {"mean": MEASURES, "ratio": 1.0, "better": 0.0},
        "rethined:a/b.onnx": {"mean": MEASURES, "fid768": 0.25, "ratio": 0.856, "better": 0.75},
    },
}
WEIGHTS = {"rethined:a/b.onnx": "f" * 64}
QUALITY: dict[str, Any] = {"kind": "quality", **RUN, "weights": WEIGHTS, **ORIGIN}
PICTURE: dict[str, Any] = {
    "file": "../docs/worst-1.jpg",
    "photo": "a.jpg",
    "size": 512,
    "masks": "drawn",
    "panels": ["masked", "rethined"],
    "lpips_hole": {"rethined": 0.3},
}
EVAL: dict[str, Any] = {"kind": "eval", "runs": [RUN], "pictures": [PICTURE], "weights": WEIGHTS, **ORIGIN}
TIMES = {"n": 9, "median_ms": 33.33, "iqr_ms": 1.0, "min_ms": 30.0}
LATENCY: dict[str, Any] = {
    "kind": "latency",
    "weights": {"rethined": "e" * 64},
    "rows": [
        {"height": 4096, "width": 4096, "hole": 0.1, "threads": 2, "engine": TIMES, "copy": TIMES}
        | {"ratio_copy": 12.0, "peak_mib": 512.4, "noisy": True, "stages_ms": {"copy": 0.04, "core": 9.96}}
    ],
    **ORIGIN,
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    provenance.write_json(folder / "quality--tiny.json", QUALITY)
    provenance.write_json(folder / "eval--tiny.json", EVAL)
    provenance.write_json(folder / "latency--tiny.json", LATENCY)
    provenance.write_json(folder / "other.json", {"kind": "something else"})
    return folder


def test_report_renders_tables(results: Path) -> None:
    rendered = report.tables(results)
    evaluated = ["eval--tiny", "eval--tiny.overview", "eval--tiny.pictures"]
    assert sorted(rendered) == [
        *evaluated,
        *("latency", "latency--tiny", "latency.stages", "quality", "quality--tiny", "quality--tiny.overview"),
        "recipes",
    ]
    assert rendered["quality"] == (
        "| long side | holes | photographs | copy_reference | rethined (b) |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| 2048 | strokes 10-20 % | 12 | 0.250 | 0.250 (0.86) |\n"
        "\nTest CPU; rethined 1.0; 2025-01-02; commit 0123456789; rethined (b) weights ffffffffff.\n"
    )
    assert rendered["eval--tiny.overview"].startswith(rendered["quality"].partition("\n\n")[0])
    assert rendered["eval--tiny"] == rendered["quality--tiny"]
    assert rendered["eval--tiny.pictures"] == (
        "![masked, rethined](docs/worst-1.jpg)\n\n*a.jpg, 512 pixels, drawn; LPIPS in hole: rethined 0.300.*\n"
    )
    assert rendered["latency"] == (
        "| processor | threads | image | hole | median, ms | IQR, ms | least, ms "
        "| of Telea | of a copy | peak, MiB |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| Test CPU | 2 | 4096x4096 | 10% | 33.3* | 1.0 | 30.0 | - | 12.0 | 512 |\n"
        "\n\\* other programs were running.\n"
    )
    assert rendered["latency.stages"] == (
        "| image | hole | threads | copy, ms | core, ms |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| 4096x4096 | 10% | 2 | 0.0 | 10.0 |\n"
    )
    table, origin = rendered["quality--tiny"].split("\n\n")
    head, _, _, ours = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    row = dict(zip(head, ours, strict=True))
    assert row["method"] == "rethined (b)"
    assert (row["ratio"], row["better"], row["FID-768"]) == ("0.86", "75%", "0.250")
    assert "LPIPS (Squeeze)" not in row  # nobody measured it
    assert origin == "Test CPU; rethined 1.0; 2025-01-02; commit 0123456789; rethined (b) weights ffffffffff.\n"


def test_report_fills_markers_once(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench:quality -->\nstale\n<!-- /bench -->\nafter\n")
    assert report.update([page], results, check=True) == [page]
    assert "stale" in page.read_text()
    assert report.update([page], results) == [page]
    text = page.read_text()
    assert text.startswith("before\n<!-- bench:quality -->\n| long side |")
    assert text.endswith("weights ffffffffff.\n<!-- /bench -->\nafter\n")
    assert "stale" not in text
    assert report.update([page], results) == []


def test_report_refuses(results: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no result for .*speed.*latency, .*quality"):
        report.fill("<!-- bench:speed -->\n<!-- /bench -->\n", {"latency": "", "quality": ""})
    with pytest.raises(InputError, match="close it"):
        report.fill("<!-- bench:quality -->\ntable\n", {"quality": ""})
    with pytest.raises(InputError, match="cannot read"):
        report.update([tmp_path / "none.md"], results)


def test_command_line(results: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:latency -->\n<!-- /bench -->\n")
    command = ["bench", "report", str(page), "--results", str(results)]
    checked = CliRunner().invoke(app, [*command, "--check"])
    assert checked.exit_code == 1
    assert "out of date" in checked.output
    assert CliRunner().invoke(app, command).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--check"]).exit_code == 0
    bad = CliRunner().invoke(app, ["bench", "latency", "--sizes", "big"])
    assert isinstance(bad.exception, InputError)
