"""The paper's tables and figures: measured end to end on small settings, and rendered from results."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from rethined.backends import OnnxBackend
from rethined.bench import ablation, blocks, latency, paper, paper_tables, plots, report
from rethined.bench.cases import read_cases
from rethined.bench.cli import register
from rethined.bench.schema import DESIGN
from rethined.config import DEFAULT
from rethined.errors import InputError
from rethined.model import Rethined
from rethined.train.config import CPU_RECIPE, changed
from rethined.train.data import load_folder
from rethined.train.loop import train
from rethined.workers import Workers

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "examples" / "photos"
TINY = paper.Budget(
    "tiny",
    photographs={128: 2, 256: 1, 9000: 1},
    sides=(64, 128),
    timed=("telea", "patchmatch"),
    runs=2,
    seconds=1,
    steps=1,
    frontier_steps=1,
    figure3=128,
    figure5=(128, 256),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything but the trainings was measured, patchmatch on the smaller pictures only."""
    out = tmp_path_factory.mktemp("paper") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "LARGEST", {"patchmatch": 64})
        patch.setattr(latency, "peak_memory", lambda *arguments: 99.0)
        written = paper.run(["table1", "table3", "figure3", "figure5"], settings(out))
    assert [path.name for path in written] == ["table1.json", "figure3.json", "figure5.json", "table3.json"]
    return out


def settings(out: Path, **changes: Any) -> paper.Settings:
    return dataclasses.replace(paper.Settings(TINY, out, PHOTOS, threads=1), **changes)


def read(results: Path, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / f"{part}.json").read_text())
    return found


# --- Measuring ---


def test_table1_is_the_first_photographs_at_each_size(results: Path) -> None:
    result = read(results, "table1")
    assert (result["part"], result["budget"], result["kind"]) == ("table1", "tiny", "comparison")
    sizes = [(run["size"], run["photos"], run["masks"]["name"]) for run in result["runs"]]
    assert sizes == [(128, 2, "mixed-30-50"), (256, 1, "mixed-30-50")]  # nobody has 9000
    methods = ["telea", "navier_stokes", "copy_reference", "rethined"]
    assert [list(run["methods"]) for run in result["runs"]] == [methods, methods]  # patchmatch has 64 at most
    assert [case["size"] for case in result["cases"]] == [128, 128, 256]
    assert {"commit", "machine", "versions", "load_average", "date", "networks"} <= result.keys()


def test_the_pictures_are_there_for_every_method(results: Path) -> None:
    for part, judged, labels in (
        ("figure3", "rethined", ["masked", "telea", "navier_stokes", "copy_reference", "rethined", "original"]),
        ("figure5", "256 pixels", ["masked", "128 pixels", "256 pixels", "original"]),
    ):
        cases = read_cases(read(results, part)["cases"], results)
        assert len(cases) == (3 if part == "figure3" else 1)
        for case in cases:
            assert case.judged == judged
            assert [panel.label for panel in case.panels] == labels
            for panel in (case.overview, *case.panels):
                picture = cv2.imdecode(np.frombuffer(panel.webp, np.uint8), cv2.IMREAD_COLOR_RGB)
                assert picture is not None
                assert picture.shape == (panel.height, panel.width, 3)


def test_figure5_shows_the_same_part_at_every_size(results: Path) -> None:
    (case,) = read_cases(read(results, "figure5")["cases"], results)
    panels = {panel.label: cv2.imdecode(np.frombuffer(panel.webp, np.uint8), 1) for panel in case.panels}
    known = np.abs(panels["masked"].astype(int) - panels["original"]).max(2) < 24
    assert 0.05 < known.mean() < 0.95
    small, large = (panels[name].astype(float)[known] for name in ("128 pixels", "256 pixels"))
    assert np.abs(large - panels["original"][known]).mean() < 4  # WebP
    assert np.abs(small - large).mean() < 30  # the same, coarser
    shifted = np.roll(panels["128 pixels"], 40, 1).astype(float)[known]
    assert np.abs(small - large).mean() < 0.6 * np.abs(shifted - large).mean()


def test_cases_without_their_pictures_are_left_out(results: Path, tmp_path: Path) -> None:
    assert read_cases(read(results, "figure3")["cases"], tmp_path) == []


def test_trainings_are_shared_by_tables_4_and_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run_trained(data: Path, val: Path, choices: dict[str, Any], **options: Any) -> dict[str, Any]:
        asked.append(list(choices))
        assert (data, val, options["steps"]) == (tmp_path, PHOTOS, 1)
        return {"kind": "ablation", "rows": [{"name": name} for name in ["before training", *choices]]}

    monkeypatch.setattr(ablation, "run_trained", run_trained)
    paper.run(["table4", "table5"], settings(tmp_path / "out", train=tmp_path))
    assert len(asked) == 1
    rows = {part: [row["name"] for row in read(tmp_path / "out", part)["rows"]] for part in paper.ABLATED}
    both = ["before training", "the released design"]
    assert rows["table4"] == [
        *both,
        *(f"attention over all pairs, patch size {side} (Table 4)" for side in (8, 16, 32)),
    ]
    assert rows["table5"][:2] == both
    assert len(rows["table5"]) == 5
    assert all("(Table 5)" in name for name in rows["table5"][2:])


def test_refusals_come_before_any_work(tmp_path: Path) -> None:
    for parts, changes, message in (
        (["table9"], {}, "no part 'table9'; choose of table1"),
        (["figure3"], {"photos": None}, "figure3 needs photographs; give --photos"),
        (["table4"], {}, "table4 trains; give --train"),
        (["frontier"], {}, "frontier trains; give --train"),
        (["table4"], {"train": PHOTOS / ".." / "photos"}, "the same folder"),
        (["table1"], {"photos": tmp_path / "none"}, "no photographs in"),
    ):
        with pytest.raises(InputError, match=message):
            paper.run(parts, settings(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


# --- Ablations ---


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (80, 64)))
    return folder


def test_an_ablation_trains_as_training_does(pictures: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(CPU_RECIPE, steps=2, batch_size=2, crops=(64,), warmup=1)
    ours = ablation.trained(recipe, load_folder(pictures), tmp_path / "ours").model.state_dict()
    theirs = train(recipe, pictures, tmp_path / "theirs").model.state_dict()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0, msg=name)


def test_ablations_load_photographs_once(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []

    def load(folder: Path, *arguments: int) -> list[Any]:
        loaded.append(folder)
        return load_folder(folder, 128)[:1]

    monkeypatch.setattr(ablation, "load_folder", load)
    choices = {name: ablation.TRAINED[name] for name in (DESIGN, "attention over all pairs, patch size 16 (Table 4)")}
    result = ablation.run_trained(pictures, pictures, choices, steps=1, batch_size=2, crop=64)
    assert loaded == [pictures, pictures]
    assert [row["name"] for row in result["rows"]] == ["before training", *choices]
    assert all(0 < row["lpips"] < 2 for row in result["rows"])
    assert result["rows"][2]["macs"] < result["rows"][1]["macs"]


def test_the_frontier_trains_everything_before_it_times_anything(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    choices = {name: ablation.FRONTIER[name] for name in (DESIGN, "narrowest")}

    def core(path: Path, workers: Workers) -> OnnxBackend:
        assert workers.threads == 1
        events.append("loaded")
        return OnnxBackend(path, workers)

    monkeypatch.setattr(ablation, "load_folder", lambda folder, *arguments: load_folder(folder, 128)[:1])
    monkeypatch.setattr(ablation, "FRONTIER", choices)
    monkeypatch.setattr(ablation, "TIMED_SIDE", 64)
    monkeypatch.setattr(ablation, "TIMED_RUNS", 3)
    monkeypatch.setattr(ablation, "OnnxBackend", core)
    out, others = tmp_path / "out", tmp_path / "others"
    shutil.copytree(pictures, others)
    paper.run(["frontier"], settings(out, photos=pictures, train=others, progress=events.append))
    assert [event.split(":")[0] for event in events if event.startswith(("loaded", *choices))] == [
        *choices,
        "loaded",
        "loaded",
        *choices,
    ]
    result = read(out, "frontier")
    assert (result["kind"], result["part"], result["steps"], result["threads"]) == ("frontier", "frontier", 1, 1)
    before, base, narrowest = result["rows"]
    assert "median_ms" not in before
    assert base["ratio"] == 1
    assert narrowest["ratio"] == pytest.approx(narrowest["median_ms"] / base["median_ms"], rel=1e-3)  # as rounded
    assert (narrowest["n"], narrowest["widths"], narrowest["depths"]) == (3, [24, 48, 96, 160], [1, 2, 3, 4])
    assert narrowest["macs"] < base["macs"]
    assert {"frontier", "frontier.plot"} <= report.blocks(out).keys()


def test_every_architecture_of_the_frontier_is_another_within_the_papers_parameters() -> None:
    configs = {name: changed(CPU_RECIPE, changes).model for name, changes in ablation.FRONTIER.items()}
    assert len(set(configs.values())) == len(configs)
    assert configs[DESIGN] == CPU_RECIPE.model
    for name, config in configs.items():
        assert sum(parameter.numel() for parameter in Rethined(config).parameters()) <= 4.3e6, name


# --- Rendering ---


def lines(table: str) -> list[list[str]]:
    """Cells of a Markdown table."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_table1_has_quality_latency_and_the_quoted_numbers(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    quality, times = read(results, "table1"), read(results, "table3")
    for run, size in zip(quality["runs"], (1024, 2048), strict=True):
        run["size"] = size
    for row, size in zip(times["rows"], (1024, 4096), strict=True):
        row["height"] = row["width"] = size
    (folder / "table1.json").write_text(json.dumps(quality))
    head, _, *rows = lines(report.tables(folder)["table1"])
    assert "Times are not measured yet" in report.tables(folder)["table1"]
    (folder / "table3.json").write_text(json.dumps(times))
    rendered = report.tables(folder)
    head, _, *rows = lines(rendered["table1"])
    at = {name: index for index, name in enumerate(head)}
    found = {(row[0], row[at["method"]]): row for row in rows}
    ours = found["1024", "rethined"]
    assert ours[at["LPIPS"]] == f"{quality['runs'][0]['methods']['rethined']['mean']['lpips']:.3f}"
    assert ours[at["median, ms"]].rstrip("*") == f"{times['rows'][0]['engine']['median_ms']:.1f}"
    assert ours[at["of rethined"]] == "1.0"
    assert found["2048", "rethined"][at["median, ms"]] == "-"  # timed at other sizes only
    peer = found["1024", "patchmatch (latency only)"]
    assert peer[at["LPIPS"]] == peer[at["n"]] == "-"
    printed = found["2048", "*MI-GAN, quoted*"]
    assert printed[at["LPIPS"]] == "0.056"
    assert printed[at["median, ms"]] == "3905.4"
    assert printed[at["of rethined"]] == "113.8"
    assert "compare ratios only" in rendered["table1"]
    assert report.blocks(folder)["figure1"].data["points"][-1]["quoted"]  # type: ignore[union-attr]


def test_table3_is_a_line_per_method(results: Path) -> None:
    times = read(results, "table3")
    head, _, *rows = lines(report.tables(results)["table3"])
    assert [text.removesuffix(" \\*") for text in head[-2:]] == ["64 x 64", "128 x 128"]
    assert [row[0] for row in rows] == ["rethined", "telea", "patchmatch"]
    first = times["rows"][0]["peers"]["telea"]
    assert rows[1][-2] == f"{first['median_ms']:.1f} ({first['ratio']:.1f})"
    assert rows[2][-1] == "-"


def test_claims_are_ratios_of_this_machine(tmp_path: Path, results: Path) -> None:
    times = read(results, "table3")
    for row in times["rows"]:
        row["peers"] |= {"migan": {"median_ms": 70.0, "ratio": 7.0}, "coordfill": {"median_ms": 9.0, "ratio": 0.9}}
    times["methods"] |= {"migan": {"parameters": 6e6}, "coordfill": {"parameters": 2.5e7}}
    times["methods"]["rethined"]["parameters"] = 1e7
    block = paper_tables._claims(times)
    assert [line[1:] for line in block.lines] == [
        ["migan", "7.0x", "7.0x"],
        ["coordfill", "0.9x", "0.9x"],  # where a peer is better it says so
        ["coordfill", "2.5x", "2.5x"],
    ]


def device_result(date: str, cpu: str, *rows: dict[str, Any]) -> dict[str, Any]:
    origin = {"date": date, "commit": None, "dirty": False, "machine": {"cpu": cpu}, "weights": {}}
    return origin | {"versions": {"rethined": "1"}, "kind": "device", "rows": rows}


def device_row(runtime: str, precision: str, median_ms: float | None, **more: Any) -> dict[str, Any]:
    size = {"size": "512x512", "threads": 2}
    return {"runtime": runtime, "precision": precision, "median_ms": median_ms, **size, **more}


def test_table2_is_rendered_from_device_results(tmp_path: Path) -> None:
    measured = {"peak_mib": 200.4, "file_bytes": 2_100_000, "difference": 0.00021, "lpips_change": -0.00012}
    measured |= {"ratio": 1.5, "noisy": True, "same": 0.98765}
    mine = device_result(
        "2025-01-02", "Mine", device_row("ncnn", "fp16", 12.34, **measured), device_row("coreml", "fp16", None)
    )
    later = device_result(
        "2025-01-03",
        "Mine",
        device_row("litert", "fp32", 5, ratio=1.2),
        device_row("onnx", "fp32", 4, ratio=1.01),
        device_row("ncnn", "fp16", 11, ratio=2.5),
    )
    earlier = device_result("2025-01-01", "Mine", device_row("onnx", "fp32", 40))
    phone = device_result("2025-01-04", "iPhone 15", device_row("coreml", "fp16", 3, told=True))
    for name, result in {"1": later, "2": mine, "3": earlier, "4": phone}.items():
        (tmp_path / f"device--{name}.json").write_text(json.dumps(result))
    table = report.blocks(tmp_path)["table2"]
    assert isinstance(table, blocks.Table)
    rows = [row for row in table.lines if row[0] in ("Mine", "iPhone 15")]
    # One table in the order of runtimes, and of what was measured twice the last.
    assert [row[:6] for row in rows] == [
        ["Mine", "ONNX Runtime", "fp32", "512x512", "2", "4.0"],
        ["Mine", "LiteRT, XNNPACK", "fp32", "512x512", "2", "5.0"],
        ["Mine", "ncnn", "fp16", "512x512", "2", "11.0"],
        ["Mine", "Core ML", "fp16", "512x512", "2", "-"],
        ["iPhone 15", "Core ML", "fp16", "512x512", "2", "3.0 (told)"],
    ]
    plot = report.blocks(tmp_path)["table2.plot"]
    assert isinstance(plot, blocks.Plot)
    assert list(plot.data["values"].values()) == [1.01, 1.2, 2.5]
    assert plot.caption == "Time of the core by runtime at 512x512, of ONNX Runtime's in turn with it; Mine"
    small = [device_row(runtime, "fp32", 1, ratio=1) | {"size": "256x256"} for runtime in ("onnx", "ncnn")]
    (tmp_path / "device--0.json").write_text(json.dumps(device_result("2025-01-05", "Another", *small)))
    plot = report.blocks(tmp_path)["table2.plot"]  # bars are of one device, at the size that most rows are of
    assert isinstance(plot, blocks.Plot)
    assert list(plot.data["values"].values()) == [1.01, 1.2, 2.5]
    (tmp_path / "device--0.json").unlink()

    (tmp_path / "device--1.json").unlink()
    table = report.blocks(tmp_path)["table2"]
    assert isinstance(table, blocks.Table)
    row = next(row for row in table.lines if row[1] == "ncnn")
    assert row[5:] == ["12.3*", "1.50", "200", "2.1", "2.1e-04", "-0.0001", "98.8%"]
    assert blocks.NOISY in table.notes


def test_table2_asks_for_devices_and_quotes_the_paper(tmp_path: Path) -> None:
    def table(*rows: dict[str, Any]) -> blocks.Table:
        (tmp_path / "device--x.json").write_text(json.dumps(device_result("2025-01-02", "Mine", *rows)))
        block = report.blocks(tmp_path)["table2"]
        assert isinstance(block, blocks.Table)
        return block

    before = table(device_row("coreml", "fp16", None), device_row("litert", "fp32", 5))
    for device, runtime in (("iPhone", "coreml"), ("Android phone", "litert_gpu"), ("Snapdragon", "qnn")):
        row = next(row for row in before.lines if row[0] == device)
        assert set(row[3:]) == {"-"}
        assert any(f"`{runtime}" in note and "rethined bench device" in note for note in before.notes)
    quoted = [row for row in before.lines if "quoted" in row[1]]
    assert [row[5] for row in quoted] == ["17.6", "34.3", "39.4", "at most 30"]
    assert {len(row) for row in before.lines} == {len(before.head)}
    assert "array to array" in before.notes[0]
    after = table(device_row("coreml", "fp16", 3, told=True), device_row("cuda", "fp16", 1))
    missing = {row[0] for row in before.lines} - {row[0] for row in after.lines}
    assert missing == {"iPhone"}  # of the two rows for NVIDIA one remains
    assert sum(row[0] == "NVIDIA GPU" for row in after.lines) == 1
    assert not any("`coreml" in note for note in after.notes)


def test_the_frontier_is_what_no_other_beats(tmp_path: Path) -> None:
    origin = {"date": "2025-01-02T03", "commit": None, "dirty": False, "machine": {"cpu": "Test"}, "weights": {}}
    origin |= {"versions": {"rethined": "1"}, "kind": "frontier", "noisy": False, "side": 512, "threads": 2}
    origin |= {"steps": 600, "batch_size": 8, "crop": 128, "photographs": 8}
    rows: list[dict[str, Any]] = [{"name": "before training", "lpips": 0.5, "best1": 0.01}]
    for name, time, lpips in (
        ("the released design", 4.0, 0.30),
        ("fast", 2.0, 0.40),
        ("slow", 8.0, 0.25),
        ("beaten", 5.0, 0.31),
        ("as slow", 8.0, 0.26),
    ):
        row = {"name": name, "median_ms": time, "ratio": time / 4, "lpips": lpips, "best1": 0.125}
        rows.append(row | {"widths": [8, 16], "depths": [1, 2], "parameters": 1_230_000, "macs": 4_560_000_000})
    (tmp_path / "frontier.json").write_text(json.dumps(origin | {"rows": rows}))
    table = report.tables(tmp_path)["frontier"]
    _, _, *shown = lines(table)
    assert "600 steps of 8 crops of 128 x 128" in table
    names = ["before training", "fast", "the released design", "beaten", "slow", "as slow"]
    assert [line[0] for line in shown] == names
    assert shown[1] == ["fast", "8, 16", "1, 2", "1.23", "4.56", "2.00", "0.50", "0.4000", "12.5%", "yes"]
    assert [line[0] for line in shown if line[-1] == "yes"] == ["fast", "the released design", "slow"]
    plot = report.blocks(tmp_path)["frontier.plot"]
    assert isinstance(plot, blocks.Plot)
    assert plot.data["front"] == ["fast", "the released design", "slow"]
    assert sorted(point["name"] for point in plot.data["points"]) == sorted(names[1:])
    assert "600 steps of 8 crops of 128 x 128" in plot.data["y"]
    assert "the released design, 1.23 M" in plot.svg().decode()


def test_figures_are_tables_of_pictures(results: Path, tmp_path: Path) -> None:
    head, _, *rows = lines(report.tables(results, results.parent / "docs")["figure3"])
    assert head == ["masked", "telea", "navier_stokes", "copy_reference", "rethined", "original"]
    assert len(rows) == 3
    case = read(results, "figure3")["cases"][0]
    value = case["values"]["rethined"]["lpips_hole"]
    assert rows[0][4] == f"![rethined](../results/pictures/figure3/1-5.webp)<br>{value:.3f}"
    assert rows[0][0] == "![masked](../results/pictures/figure3/1-1.webp)"


def test_documents_get_tables_and_plots_once(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "".join(
            f"<!-- bench:{name} -->\n<!-- /bench -->\n" for name in ("table3", "table3.plot", "figure5", "table2")
        )
    )
    drawn = results / "plots" / "table3.plot.svg"
    assert report.update([page], results, check=True) == [drawn, page]
    assert not drawn.exists()
    assert report.update([page], results) == [drawn, page]
    assert report.update([page], results) == []
    text = page.read_text()
    assert re.search(r"!\[Latency by resolution[^]]*\]\(\S+/results/plots/table3.plot.svg\)", text)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (tmp_path / link).is_file(), link
    assert text.endswith("<!-- bench:table2 -->\n<!-- /bench -->\n")  # not measured yet
    before = drawn.read_bytes()
    drawn.write_text(drawn.read_text().replace(plots.digest("lines", _data(results)), "0" * 64))
    assert report.update([page], results, check=True) == [drawn]
    assert report.update([page], results) == [drawn]
    assert drawn.read_bytes() == before  # the same numbers, the same bytes


def _data(results: Path) -> dict[str, Any]:
    block = report.blocks(results)["table3.plot"]
    assert isinstance(block, blocks.Plot)
    return block.data


@pytest.mark.parametrize(
    ("kind", "data", "texts"),
    [
        (
            "bubbles",
            {
                "points": [
                    {"name": "rethined", "x": 20.0, "y": 0.2, "parameters": 1e6, "quoted": False},
                    {"name": "telea", "x": 30.0, "y": 0.3, "parameters": None, "quoted": False},
                    {"name": "MI-GAN", "x": 3000.0, "y": 0.1, "parameters": 6e6, "quoted": True},
                ],
                "only_x": {"lama": 900.0},
                "x": "ms",
                "y": "LPIPS",
            },
            ["rethined", "telea", "MI-GAN, quoted", "lama", "ms", "LPIPS"],
        ),
        (
            "lines",
            {
                "series": {"rethined": [[512, 20.0], [1024, 30.0]], "b": [[512, 9.0]]},
                "x": "px",
                "y": "ms",
                "log": True,
            },
            ["rethined", "b", "512", "1024", "px", "ms"],
        ),
        (
            "frontier",
            {
                "points": [
                    {"name": "narrow", "x": 2.0, "y": 0.3, "parameters": 4e5},
                    {"name": "wide", "x": 8.0, "y": 0.2, "parameters": 1.5e6},
                    {"name": "beaten", "x": 9.0, "y": 0.25, "parameters": 1e6},
                ],
                "front": ["narrow", "wide"],
                "base": "wide",
                "x": "ms",
                "y": "LPIPS",
            },
            ["narrow, 0.40 M", "wide, 1.50 M", "beaten, 1.00 M", "ms", "LPIPS"],
        ),
        ("bars", {"values": {"a": 0.5, "b": 0.25}, "x": "LPIPS", "base": "a"}, ["a", "b", "0.5", "0.25", "LPIPS"]),
    ],
)
def test_plots_show_what_they_are_given(kind: str, data: dict[str, Any], texts: list[str]) -> None:
    svg = plots.draw(kind, data)
    assert svg == plots.draw(kind, data)
    assert plots.digest(kind, data) in svg.decode()
    ElementTree.fromstring(svg)
    comments = re.findall(r"<!-- (.*?) -->", svg.decode())  # matplotlib names there what it draws as paths
    for text in texts:
        assert text in comments, text


def test_the_quoted_numbers_are_those_of_the_paper() -> None:
    printed = paper_tables.printed_numbers()
    assert len(printed["table1"]) == 9
    own = [row["ms"] for row in printed["table1"] if row["method"] == "RETHINED"]
    assert own == [17.59, 34.33, 39.43]
    assert "Table 1" in printed["source"]


def test_command_line(results: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    run = CliRunner().invoke
    wrong = run(app, ["bench", "paper", "table9", "--out", str(tmp_path / "out")])
    assert isinstance(wrong.exception, InputError)
    page = tmp_path / "deep" / "page.html"
    done = run(app, ["bench", "report", "--results", str(results), "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert "Table 3: latency by resolution" in page.read_text()
    both = run(app, ["bench", "report", "README.md", "--results", str(results), "--html", str(page)])
    assert isinstance(both.exception, InputError)
    empty = run(app, ["bench", "report", "--results", str(tmp_path), "--html", str(tmp_path / "b.html")])
    assert "measure something first" in str(empty.exception)
    assert not (tmp_path / "b.html").exists()


def test_steps_replace_those_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[paper.Budget] = []
    monkeypatch.setattr(paper, "run", lambda parts, settings: budgets.append(settings.budget))
    app = typer.Typer()
    register(app)
    for options in ([], ["--quick"], ["--quick", "--steps", "7"]):
        done = CliRunner().invoke(app, ["bench", "paper", "frontier", *options])
        assert done.exit_code == 0, done.output
    assert budgets == [paper.FULL, paper.QUICK, dataclasses.replace(paper.QUICK, steps=7, frontier_steps=7)]


def test_pictures_of_a_comparison_are_on_the_page(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    out, pictures = tmp_path / "out", tmp_path / "elsewhere" / "pictures"
    command = ["bench", "quality", str(PHOTOS), "--methods", "telea,copy_reference", "--sizes", "128", "--limit", "2"]
    done = CliRunner().invoke(app, [*command, "--out", str(out), "--pictures", str(pictures), "--threads", "1"])
    assert done.exit_code == 0, done.output
    ((title, cases),) = report.galleries(out)
    assert title == "quality--strokes-10-20--128"
    assert {case.photo for case in cases} == {"city.jpg", "piazza.jpg"}
    first, second = (case.values["copy_reference"]["lpips_hole"] for case in cases)
    assert first > second  # the worst first
    assert [panel.label for panel in cases[0].panels] == ["masked", "telea", "copy_reference", "original"]


def test_every_choice_is_another_recipe() -> None:
    for name, changes in ablation.TRAINED.items():
        recipe = changed(CPU_RECIPE, changes)
        assert (recipe == CPU_RECIPE) == (name == DESIGN), name


def test_what_needs_no_training_changes_the_architecture_alone() -> None:
    for name, changes in ablation.UNTRAINED.items():
        assert (dataclasses.replace(DEFAULT, **changes) == DEFAULT) == (name == DESIGN), name
