"""`rethined eval` as it is run: the weights in the package, the example photographs, values against others' code."""

from __future__ import annotations

import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rethined
from rethined.bench import evaluate, measure, page
from rethined.bench.cases import Worst
from rethined.image import read_photo
from rethined.metrics.lpips import Lpips
from rethined.weights import DEFAULT_NAME

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "examples" / "photos"
ASSETS = ROOT / "src" / "rethined" / "assets"
SIZES = (128, 256)
ARGUMENTS = ("--sizes", "128,256,4000", "--threads", 1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rethined", "eval", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "RETHINED_BACKBONES"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the command has run: drawn holes, and a folder of masks."""
    folder = tmp_path_factory.mktemp("eval")
    masks = f"strokes-10-20,{ROOT / 'examples' / 'masks'}"
    done = run(
        folder, PHOTOS, *ARGUMENTS, "--masks", masks, "--name", "my run", "--pictures", "pictures", "--cases", 5
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "4000 pixels on the long side:\nno photograph is as large; left out" in done.stdout
    assert re.search(r"\| 256 \| masks \| 3 \| 0\.\d{3} \(\d\.\d\d\) \|", done.stdout), done.stdout
    return folder


@pytest.fixture(scope="module")
def result(evaluated: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((evaluated / "results" / "eval--my-run.json").read_text())
    return found


def test_the_result_says_what_where_and_with_what(evaluated: Path, result: dict[str, Any]) -> None:
    runs = [(run["masks"]["name"], run["size"], run["photos"], run["too_small"]) for run in result["runs"]]
    assert runs == [(name, size, 3, []) for name in ("strokes-10-20", "masks") for size in SIZES]
    digest = (ASSETS / f"{DEFAULT_NAME}.sha256").read_text().split()[0]
    assert result["weights"] == {"rethined": digest}
    assert result["model"]["sha256"] == digest
    assert {"commit", "dirty", "machine", "versions", "load_average", "date", "peak_mib"} <= result.keys()
    assert sorted(result["networks"]) == ["lpips_alex.safetensors", "lpips_squeeze.safetensors"]
    measured = {key for row in result["runs"][0]["rows"] for key in row}
    for key in measured - {"photo", "height", "width", "method"}:
        assert key in result["definitions"] or key.removesuffix("_hole") in result["definitions"], key
    # What is published from it tells nothing of the machine's folders.
    for path in (evaluated / "results").iterdir():
        assert str(ROOT) not in path.read_text()
        assert str(evaluated) not in path.read_text()
    assert not [path for path in evaluated.rglob("*") if path.name.endswith((".tmp", ".partial.json"))]
    assert "partial" not in result


def test_what_is_measured_stays_when_interrupted(tmp_path: Path, result: dict[str, Any]) -> None:
    masks = f"strokes-10-20,{ROOT / 'examples' / 'masks'}"
    options = ("--sizes", "128,256,1024", "--threads", "1", "--masks", masks, "--name", "stopped")
    command = [sys.executable, "-m", "rethined", "eval", str(PHOTOS), *options]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    partial = tmp_path / "results" / "eval--stopped.partial.json"
    while running.poll() is None and not partial.exists():
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=100)
    assert running.returncode == 130, errors
    assert list(partial.parent.iterdir()) == [partial]
    kept = json.loads(partial.read_text())
    assert re.fullmatch(r"\d of 6 kinds and sizes of holes", kept["partial"])
    assert kept["weights"] == result["weights"]
    for mine, whole in zip(kept["runs"][0]["rows"], result["runs"][0]["rows"], strict=True):
        assert mine["lpips_hole"] == pytest.approx(whole["lpips_hole"], abs=1e-3)  # threads of PyTorch


def test_the_values_are_those_of_others_code(result: dict[str, Any]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    drawn = {row["method"]: row for row in result["runs"][1]["rows"] if row["photo"] == "stones.jpg"}
    path = PHOTOS / "stones.jpg"
    with Image.open(path) as picture:
        assert picture.size == (1024, 576)
    original = measure.reduced(read_photo(path), 256)
    assert original is not None
    hole = measure.MaskSpec("strokes", 0.1, 0.2).of(path, read_photo(path), 144, 256)
    lpips = {net: Lpips.load(net, ASSETS / f"lpips_{net}.safetensors") for net in ("alex", "squeeze")}
    fills = {"rethined": rethined.Engine(threads=1)(original, hole)}
    fills |= {name: measure.BASELINES[name](original, hole) for name in ("telea", "copy_reference")}
    for name, fill in fills.items():
        row = drawn[name]
        assert row["hole"] == pytest.approx(hole.mean(), abs=1e-6)
        assert row["l1_hole"] == pytest.approx(np.abs(fill[hole] / 255 - original[hole] / 255).mean(), abs=1e-6)
        assert row["psnr"] == pytest.approx(metrics.peak_signal_noise_ratio(original, fill), abs=1e-5)
        assert row["psnr_hole"] == pytest.approx(
            metrics.peak_signal_noise_ratio(original[hole], fill[hole]), abs=1e-5
        )
        ssim, similarity = metrics.structural_similarity(
            original, fill, channel_axis=2, gaussian_weights=True, use_sample_covariance=False, full=True
        )
        assert row["ssim"] == pytest.approx(ssim, abs=2e-5)  # float32 against float64
        assert row["ssim_hole"] == pytest.approx(similarity[hole].mean(), abs=2e-5)
        a, b = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 255 for p in (fill, original))
        for key, model in (("lpips", lpips["alex"]), ("lpips_squeeze", lpips["squeeze"])):
            assert row[key] == pytest.approx(float(model(a, b)), abs=2e-6)  # as published, in one piece
            assert row[f"{key}_hole"] == pytest.approx(model.maps(a, b)[0, 0].numpy()[hole].mean(), abs=1e-5)


def test_every_run_carries_its_ratio_to_the_reference(result: dict[str, Any]) -> None:
    for run in result["runs"]:
        assert list(run["methods"]) == ["telea", "copy_reference", "rethined"]
        ours, theirs = (
            [row["lpips_hole"] for row in run["rows"] if row["method"] == name]
            for name in ("rethined", "copy_reference")
        )
        summary = run["methods"]["rethined"]
        assert summary["ratio"] == pytest.approx(np.mean(ours) / np.mean(theirs), abs=1e-4)  # rows are rounded
        assert summary["better"] == pytest.approx(np.mean(np.less(ours, theirs)), abs=1e-5)
        assert summary["median"]["lpips_hole"] == pytest.approx(np.median(ours), abs=1e-6)


class Page(html.parser.HTMLParser):
    """What matters of the report: everything it would load, and the cases in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.titles: list[str] = []
        self.panels: list[list[str]] = []
        self.policy = ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.loaded += [str(values[name]) for name in ("src", "href", "srcset", "poster") if name in values]
        self._in_title = tag == "h3"
        if tag == "article":
            self.panels.append([])
        if tag == "figure":
            self.panels[-1].append(str(values["data-label"]))
        if tag == "meta" and values.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(values["content"])

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.titles.append(data)
            self._in_title = False


def test_the_report_is_one_file_with_the_worst_first(evaluated: Path, result: dict[str, Any]) -> None:
    text = (evaluated / "results" / "eval--my-run.html").read_text()
    report = Page(text)
    rows = [(row["lpips_hole"], row["photo"]) for run in result["runs"] for row in run["rows"]]
    rows = [
        (row["lpips_hole"], row["photo"])
        for run in result["runs"]
        for row in run["rows"]
        if row["method"] == "rethined"
    ]
    worst = [name for _, name in sorted(rows, reverse=True)][:5]
    assert [title.split(". ")[1].strip() for title in report.titles] == worst
    assert report.panels == [["where", "masked", "telea", "copy_reference", "rethined", "original"]] * 5
    assert len(report.loaded) == 5 * 6
    assert all(source.startswith("data:image/webp;base64,") for source in report.loaded)
    assert report.policy.startswith("default-src 'none'")
    assert "url(" not in text
    assert len(text) < 5e6


def test_the_report_works_in_a_browser(evaluated: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        pytest.skip("needs chromium")
    address = (evaluated / "results" / "eval--my-run.html").as_uri()
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=2000",
    ]
    command = [browser, *options, "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.count('<input type="range"') == 5, done.stderr  # the script ran, under the page's policy
    assert done.stdout.count('aria-pressed="true">original') == 5


def test_the_pictures_are_the_worst_of_each_photograph(evaluated: Path, result: dict[str, Any]) -> None:
    assert sorted(picture["photo"] for picture in result["pictures"]) == ["city.jpg", "piazza.jpg", "stones.jpg"]
    ours = [picture["lpips_hole"]["rethined"] for picture in result["pictures"]]
    assert ours == sorted(ours, reverse=True)
    for picture in result["pictures"]:
        rows = [row for run in result["runs"] for row in run["rows"] if row["photo"] == picture["photo"]]
        assert picture["lpips_hole"]["rethined"] == max(
            row["lpips_hole"] for row in rows if row["method"] == "rethined"
        )
        left, top, right, bottom = picture["box"]
        with Image.open(evaluated / "results" / picture["file"]) as sheet:
            assert sheet.size == (5 * (right - left) + 4 * 4, bottom - top + 24)


def test_the_same_numbers_from_the_training_file(evaluated: Path, result: dict[str, Any]) -> None:
    """It is exported to a core first; that core is the one in the package."""
    weights = ROOT / "weights" / "rethined.safetensors"
    options = ("--sizes", 128, "--threads", 1, "--masks", "strokes-10-20", "--no-report", "--no-reference")
    done = run(evaluated, PHOTOS, *options, "--no-squeeze", "--limit", 2, "--weights", weights, "--name", "trained")
    assert done.returncode == 0, done.stderr
    found = json.loads((evaluated / "results" / "eval--trained.json").read_text())
    assert not (evaluated / "results" / "eval--trained.html").exists()
    assert found["method"] == "rethined:rethined.safetensors"
    assert list(found["weights"]) == ["rethined:rethined.safetensors"]
    (only,) = found["runs"]
    assert list(only["methods"]) == ["rethined:rethined.safetensors"]
    assert only["methods"]["rethined:rethined.safetensors"]["ratio"] is None
    before = [row for row in result["runs"][0]["rows"] if row["method"] == "rethined"][:2]
    assert [row["photo"] for row in only["rows"]] == ["city.jpg", "piazza.jpg"]
    for old, new in zip(before, only["rows"], strict=True):
        assert new["lpips_hole"] == pytest.approx(old["lpips_hole"], abs=2e-3)


def test_a_data_set_is_measured_as_it_lies(tmp_path: Path, within: Any) -> None:
    """In folders, as `rethined data df8k` makes it: photographs of one name differ, and have their own masks."""
    for name, source in (("2k/a.jpg", "city"), ("4k/a.jpg", "stones"), ("4k/b.jpg", "piazza")):
        (tmp_path / "test" / name).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(PHOTOS / f"{source}.jpg") as photo:
            photo.resize((160, 120)).save(tmp_path / "test" / name)
    (tmp_path / "test" / ".hidden").mkdir()
    shutil.copy(PHOTOS / "city.jpg", tmp_path / "test" / ".hidden")
    arguments = ("--sizes", 128, "--threads", 1, "--no-squeeze", "--no-report", "--no-reference", "--name", "nested")
    code, lines = within("masks", "--preset", "boxes", "--like", "test", "-o", "masks")
    assert code == 0, lines
    code, lines = within("eval", "test", *arguments, "--masks", "masks,strokes-10-20")
    assert code == 0, lines
    result = json.loads((tmp_path / "results" / "eval--nested.json").read_text())
    for run in result["runs"]:
        assert [row["photo"] for row in run["rows"]] == ["2k/a.jpg", "4k/a.jpg", "4k/b.jpg"]
    manifest = json.loads((tmp_path / "masks" / "masks.json").read_text())
    for row, entry in zip(result["runs"][0]["rows"], manifest["files"], strict=True):
        assert Path(entry["name"]).with_suffix(".jpg").as_posix() == row["photo"]
        assert row["hole"] == pytest.approx(entry["coverage"], abs=0.05)  # reduced, with every pixel that it touches
    # One folder of it, with the masks of all.
    code, lines = within("eval", "test/4k", *arguments, "--masks", "masks", "--name", "one")
    assert code == 0, lines
    one = json.loads((tmp_path / "results" / "eval--one.json").read_text())["runs"][0]["rows"]
    assert [row["photo"] for row in one] == ["a.jpg", "b.jpg"]
    assert [row["hole"] for row in one] == [row["hole"] for row in result["runs"][0]["rows"][1:]]
    (tmp_path / "masks" / "4k" / "a.png").unlink()
    code, lines = within("eval", "test", *arguments, "--masks", "masks")
    assert (code, len(lines)) == (2, 1)
    assert "masks has no mask for 4k/a.jpg; put 4k/a.png there" in lines[0]
    shutil.copy(tmp_path / "masks" / "2k" / "a.png", tmp_path / "masks")
    (tmp_path / "masks" / "2k" / "a.png").unlink()
    code, lines = within("eval", "test", *arguments, "--masks", "masks")
    assert (code, len(lines)) == (2, 1)
    assert "masks has one mask for 2k/a.jpg and 4k/a.jpg; give each its own" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "no photographs in none"),
        ([PHOTOS, "--masks", "clouds-10-20"], "give KIND-LOW-HIGH in percent"),
        ([PHOTOS, "--masks", "empty"], "empty has no mask for city.jpg, piazza.jpg, stones.jpg; put city.png there"),
        ([PHOTOS, "--sizes", "big"], "'big' is not a list of numbers"),
        ([PHOTOS, "--sizes", "0"], "sizes are 0"),
        ([PHOTOS, "--sizes", "9000"], "no photograph has 9000 pixels"),
        ([PHOTOS, "--weights", "a.pt"], "weights are a.pt; give a .safetensors"),
        ([PHOTOS, "--weights", "a.onnx"], "a.onnx: no such weights"),
        ([PHOTOS, "--fid"], "this metric needs pt_inception"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, within: Any, arguments: list[object], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    code, lines = within("eval", *arguments)
    assert code == 2, lines
    assert len(lines) == 1
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_the_page_holds_what_names_it_is_given() -> None:
    """A photograph may be called anything."""
    pixels, mask = np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), bool)
    worst = Worst(1)
    case = worst.consider("<b>&.jpg", 64, "a<b", pixels, mask, np.ones((4, 4)), 0.5)
    assert case is not None
    values = dict.fromkeys(("lpips_hole", "l1_hole", "psnr_hole", "ssim_hole"), 0.5)
    case.add('rethined:"x".onnx', pixels, values)
    methods = {'rethined:"x".onnx': {"mean": values, "median": values, "ratio": None, "better": None}}
    row = {"photo": "<b>&.jpg", "method": 'rethined:"x".onnx', "width": 64, "height": 64, "hole": 0.5, **values}
    some = {
        "size": 64,
        "masks": {"name": "a<b"},
        "photos": 1,
        "too_small": ["<i>"],
        "methods": methods,
        "rows": [row],
    }
    result = {
        "method": 'rethined:"x".onnx',
        "weights": {"x": "f" * 64},
        "model": {"parameters": 1, "runtime": "onnxruntime"},
        "runs": [some],
        "commit": None,
        "dirty": False,
        "date": "2025-01-02T03:04:05+00:00",
        "machine": {"cpu": "a<b", "cores": 1, "system": "Linux"},
        "versions": {"rethined": "1", "python": "3", "torch": "2"},
        "peak_mib": 1,
    }
    text = page.page(result, worst.cases, "<script>")
    assert "<b>&" not in text
    assert "<i>" not in text.split("<main>")[1].split("<script>")[0]
    assert text.count("<script>") == 1
    assert 'data-judged="rethined:&quot;x&quot;.onnx"' in text


def test_what_is_measured_beside_the_model() -> None:
    assert [name for name in evaluate.ALONG if name not in measure.BASELINES] == []
