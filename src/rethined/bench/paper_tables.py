"""The paper's tables and figures from results, its own numbers beside ours and marked as quoted."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from rethined.bench.blocks import (
    NOISY,
    RANDOM,
    Block,
    Plot,
    Strips,
    Table,
    holes_of,
    millions,
    number,
    origin_of,
    spent_of,
    weights_of,
)
from rethined.bench.schema import DESIGN, RUNTIMES, WAITING

PAPER_BLOCKS = frozenset(
    ["claims", "figure1", "figure3", "figure5", "frontier", "frontier.plot"]
    + [f"table{number}{plot}" for number in range(1, 6) for plot in ("", ".plot")]
)
"""Blocks of the paper's tables and figures, whether they have been measured or not."""
FIGURE1_SIZES = (2048, 1024, 512, 4096)
"""Pixels on the long side; Figure 1 shows the first for which there are quality and latency."""


def printed_numbers() -> dict[str, Any]:
    """What the paper prints, with its source."""
    text = (resources.files("rethined") / "bench" / "quoted.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def paper_blocks(found: dict[str, dict[str, Any]], results: Path) -> dict[str, Block]:
    """The blocks for which there are results, by name."""
    made: dict[str, Block] = {}

    def plot(name: str, kind: str, data: dict[str, Any], caption: str) -> None:
        made[name] = Plot(results / "plots" / f"{name}.svg", kind, data, caption)

    quality, latency = found.get("table1"), found.get("table3")
    if quality:
        made["table1"] = _table1(quality, latency)
        caption = "LPIPS inside the hole by size, lower is better"
        axes = {"x": "pixels on the long side", "y": "LPIPS in hole", "log": False}
        plot("table1.plot", "lines", {"series": _by_size(quality), **axes}, caption)
    if latency:
        made["table3"] = _table3(latency)
        made["claims"] = _claims(latency)
        names = dict.fromkeys(name for row in latency["rows"] for name in _times(row))
        series = {
            name: [[row["height"], _times(row)[name]["median_ms"]] for row in latency["rows"] if name in _times(row)]
            for name in names
        }
        axes = {"x": "side of the square image, pixels", "y": "median, ms", "log": True}
        plot("table3.plot", "lines", {"series": series, **axes}, "Latency by resolution, both scales logarithmic")
    if quality and latency:
        figure = _figure1(quality, latency)
        if figure:
            size, data = figure
            caption = (
                f"LPIPS of the whole picture against latency at {size} pixels; area by parameters, squares have none"
            )
            plot("figure1", "bubbles", data, caption)
    devices = [result for result in found.values() if result.get("kind") == "device"]
    if devices:
        made["table2"] = _table2(devices)
        rows = _device_rows(devices)
        size = statistics.mode(row["size"] for _, row in rows)
        first = next(device for device, row in rows if row["size"] == size)
        values = {
            f"{_runtime(row['runtime'])}, {row['precision']}, threads {row['threads']}": row["ratio"]
            for device, row in rows
            if (device, row["size"]) == (first, size) and row.get("ratio") is not None
        }
        # Not milliseconds: what is timed in turn compares, whatever else the machine did in the minutes between.
        caption = f"Time of the core by runtime at {size}, of ONNX Runtime's in turn with it; {first}"
        plot("table2.plot", "bars", {"values": values, "x": "of ONNX Runtime's median"}, caption)
    for name in ("table4", "table5"):
        if name in found:
            values = {row["name"]: row["lpips"] for row in found[name]["rows"]}
            caption = "LPIPS in the hole after equal, short trainings, lower is better"
            plot(f"{name}.plot", "bars", {"values": values, "x": "LPIPS in hole", "base": DESIGN}, caption)
    if "frontier" in found:
        frontier = found["frontier"]
        made["frontier"] = _frontier(frontier)
        caption = f"LPIPS in the hole against latency of the core after {spent_of(frontier)}; area by parameters"
        plot("frontier.plot", "frontier", _frontier_plot(frontier), caption)
    for name in ("figure3", "figure5"):
        if name in found:
            note = "Below each picture LPIPS in the whole hole, lower is better."
            made[name] = Strips(found[name]["cases"], results, [note, origin_of(found[name])])
    return made


def _times(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Times of one row by method, the engine first."""
    return {"rethined": row["engine"] | {"ratio": 1.0, "peak_mib": row["peak_mib"]}, **row.get("peers", {})}


def _by_size(quality: dict[str, Any]) -> dict[str, list[list[float]]]:
    """(long side, LPIPS in the hole) by method."""
    names = dict.fromkeys(name for run in quality["runs"] for name in run["methods"])
    return {
        name: [
            [run["size"], run["methods"][name]["mean"]["lpips_hole"]]
            for run in quality["runs"]
            if name in run["methods"]
        ]
        for name in names
    }


def _table1(quality: dict[str, Any], latency: dict[str, Any] | None) -> Table:
    """Quality and latency by size and method; the paper's own numbers below ours."""
    columns = (("lpips", 3), ("lpips_hole", 3), ("l1", 4), ("ssim", 3))
    key = next(
        (k for k in ("fid", "fid768") if any(k in s for r in quality["runs"] for s in r["methods"].values())), ""
    )
    head = [
        "long side",
        "n",
        "method",
        "LPIPS",
        "LPIPS in hole",
        "L1",
        "SSIM",
        "FID-768" if key == "fid768" else "FID",
    ]
    head += ["median, ms", "of rethined", "parameters, M"]
    rows = {row["height"]: row for row in latency["rows"]} if latency else {}
    facts = latency["methods"] if latency else {}
    printed = printed_numbers()
    lines = []
    runs = {run["size"]: run for run in quality["runs"]}
    for size, run in runs.items():
        times = _times(rows[size]) if size in rows else {}
        noisy = "*" if size in rows and rows[size]["noisy"] else ""
        for name in dict.fromkeys([*run["methods"], *times]):
            summary, time = run["methods"].get(name), times.get(name)
            line = [str(size), str(run["photos"]) if summary else "-", name + ("" if summary else " (latency only)")]
            line += [number(summary["mean"][k], digits) if summary else "-" for k, digits in columns]
            line.append(number(summary.get(key), 3 if key == "fid768" else 1) if summary else "-")
            line.append(number(time["median_ms"], 1) + noisy if time else "-")
            line.append(number(time["ratio"], 1) if time else "-")
            lines.append([*line, millions(facts.get(name, {}).get("parameters"))])
        for row in printed["table1"]:
            if row["size"] == size:
                line = [str(size), "-", f"*{row['method']}, quoted*", number(row["lpips"], 3), "-"]
                line += [
                    number(row["l1"], 4),
                    number(row["ssim"], 3),
                    "-" if key == "fid768" else f"{row['fid']:.1f}",
                ]
                own = next(r["ms"] for r in printed["table1"] if (r["method"], r["size"]) == ("RETHINED", size))
                line += [f"{row['ms']:.1f}", f"{row['ms'] / own:.1f}"]
                lines.append([*line, millions(printed["parameters"][row["method"]])])
    holes = " and ".join(dict.fromkeys(holes_of(run["masks"]["name"]) for run in runs.values()))
    notes = [f"Means over n photographs with holes: {holes}."]
    if any(row["size"] in runs for row in printed["table1"]):
        notes[0] += (
            f" *Quoted* rows are the paper's: {printed['data']}, timed on {printed['device']}; other photographs "
            "and another machine, so compare ratios only."
        )
    if latency:
        square = latency["rows"][0]
        notes.append(
            f"Times are those of Table 3: square images of that side, hole {square['hole']:.0%}, "
            f"threads: {square['threads']}. *Latency only*: no weights at hand, so its pictures would mean nothing."
        )
        if any(row["noisy"] for row in rows.values()):
            notes.append(NOISY)
    else:
        notes.append("Times are not measured yet: `rethined bench paper table3`.")
    filled = [column for column in range(len(head)) if any(line[column] != "-" for line in lines)]
    shown = [[line[column] for column in filled] for line in lines]
    return Table([head[column] for column in filled], shown, [*notes, origin_of(quality)])


def _table2(devices: Sequence[dict[str, Any]]) -> Table:
    """A line per device, runtime, precision, size and threads; what nobody has measured is a dash.

    Below them the devices that wait for somebody who has one, and what the paper says.
    """
    head = ["device", "runtime", "precision", "size", "threads", "median, ms", "of ONNX Runtime", "peak, MiB"]
    head += ["file, MB", "largest difference", "change of LPIPS", "same pixels"]
    rows = _device_rows(devices)
    lines = []
    for device, row in rows:
        line = [device, _runtime(row["runtime"]), row["precision"], str(row["size"]), number(row.get("threads"), 0)]
        flag = "*" if row.get("noisy") else " (told)" if row.get("told") else ""
        line += [number(row.get("median_ms"), 1) + flag, number(row.get("ratio"), 2), number(row.get("peak_mib"), 0)]
        size, difference, change = (row.get(key) for key in ("file_bytes", "difference", "lpips_change"))
        line += [number(size and size / 1e6, 1), "-" if difference is None else f"{difference:.1e}"]
        same = row.get("same")
        lines.append([*line, "-" if change is None else f"{change:+.4f}", "-" if same is None else f"{same:.1%}"])
    timed = {row["runtime"] for _, row in rows if row.get("median_ms") is not None}
    waiting = [one for one in WAITING if one[1] not in timed]
    for device, runtime, precision, _ in waiting:
        lines.append([device, _runtime(runtime), precision, *["-"] * (len(head) - 3)])
    printed = printed_numbers()
    dashes = ["-"] * (len(head) - 6)
    for row in printed["table1"]:
        if row["method"] == "RETHINED":
            size = f"{row['size']}x{row['size']}"
            lines.append([printed["device"].split(",")[0], "*the paper's, quoted*", "fp16", size, "-"])
            lines[-1] += [f"{row['ms']:.1f}", *dashes]
    lines.append(
        ["mobile phones", "*the paper's, quoted*", "-", "-", "-", f"at most {printed['mobile_ms']}", *dashes]
    )
    notes = [
        "Timed is the core alone, from array to array; *of ONNX Runtime* is the time as a multiple of ONNX Runtime's "
        "in fp32, called in turn with it. Memory is what loading and running it takes a fresh process, and in the "
        "browser (Chromium) the size of WebAssembly's memory. *Largest difference* is to PyTorch; LPIPS in the hole "
        "(lower is better) and *same pixels* (within one grey level) are of the engine's fills, against those with "
        "ONNX Runtime in fp32.",
        "fp16 is what weights are stored in; Core ML and TensorRT compute in it, too, all others in 32 bits.",
        "*Quoted* rows are the paper's own times, of its whole method at that size, with its own weights: not "
        "comparable with the core's.",
    ]
    if any(row.get("noisy") for _, row in rows):
        notes.append(NOISY)
    if any(row.get("told") for _, row in rows):
        notes.append("Told: by the device's own tool; the other numbers are those of the same file on a computer.")
    if any(row["runtime"] == "coreml" and row.get("median_ms") is None for _, row in rows):
        notes.append(
            "Core ML runs on Apple's systems alone; elsewhere the saved program is evaluated, and not timed."
        )
    if waiting:
        filled = "; ".join(f"{device}, `{runtime}{more}`" for device, runtime, _, more in waiting)
        notes.append(
            "Rows of dashes wait for somebody who has the device; each is filled by one command, `rethined bench "
            f"device PHOTOS --name NAME --runtimes X`, where X is for: {filled}. MS is what the phone's own tool "
            "told of the exported file: Xcode's performance report, LiteRT's `benchmark_model --use_gpu=true`."
        )
    return Table(head, lines, [*notes, *dict.fromkeys(origin_of(result) for result in devices)])


def _device_rows(devices: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """(device, row) of all results as one table, in the order of RUNTIMES; of what was measured twice the last."""
    found = {}
    for result in sorted(devices, key=lambda result: str(result["date"])):
        for row in result["rows"]:
            device = result["machine"]["cpu"]
            found[device, row["runtime"], row["precision"], row["size"], row.get("threads")] = (device, row)
    order, names = list(RUNTIMES), list(dict.fromkeys(result["machine"]["cpu"] for result in devices))
    return sorted(found.values(), key=lambda one: (names.index(one[0]), order.index(one[1]["runtime"])))


def _runtime(name: str) -> str:
    return RUNTIMES[name].title


def _table3(latency: dict[str, Any]) -> Table:
    """Median and ratio, a line per method and a column per size."""
    rows = latency["rows"]
    head = ["method", "weights", "parameters, M", "GMAC at 512"]
    head += [f"{row['width']} x {row['height']}" + (" \\*" if row["noisy"] else "") for row in rows]
    lines = []
    for name in dict.fromkeys(name for row in rows for name in _times(row)):
        facts = latency["methods"][name]
        weights = latency["weights"]["rethined"] if name == "rethined" else facts["weights"]
        line = [name, weights_of(weights), millions(facts["parameters"])]
        line.append(number(facts["macs_512"] and facts["macs_512"] / 1e9, 1))
        for row in rows:
            time = _times(row).get(name)
            line.append(f"{time['median_ms']:.1f} ({time['ratio']:.1f})" if time else "-")
        lines.append(line)
    hole, threads = rows[0]["hole"], rows[0]["threads"]
    about = f"Medians in ms, in brackets multiples of rethined's; hole {hole:.0%}; threads: {threads}."
    empty = "A dash: it would take minutes, or more memory than 16 GiB."
    busy = [NOISY] if any(row["noisy"] for row in rows) else []
    load = latency.get("load_average")
    loaded = [f"Load average before: {load[0]:.2f}."] if load else []
    return Table(head, lines, [f"{about} {empty}", RANDOM, *busy, *loaded, origin_of(latency)])


def _claims(latency: dict[str, Any]) -> Table:
    """What the paper says of other methods, and the same here."""
    rows = latency["rows"]
    head = ["the paper says", "against", *(f"here at {row['height']}" for row in rows)]
    own = latency["methods"]["rethined"]["parameters"]
    lines = []
    for claim in printed_numbers()["claims"]:
        for name in [name for name in claim["peers"] if name in latency["methods"]]:
            if claim["of"] == "parameters":
                values = [latency["methods"][name]["parameters"] / own] * len(rows)
            else:
                values = [_times(row)[name]["ratio"] if name in _times(row) else None for row in rows]
            text = f"{claim['claim']}"
            lines.append([text, name, *("-" if value is None else f"{value:.1f}x" for value in values)])
    return Table(head, lines, [f"The paper's times are of {printed_numbers()['device']}. {origin_of(latency)}"])


def _figure1(quality: dict[str, Any], latency: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
    """Size and data of the plot; None where no size has both."""
    runs = {run["size"]: run for run in quality["runs"]}
    rows = {row["height"]: row for row in latency["rows"]}
    size = next((size for size in FIGURE1_SIZES if size in runs and size in rows), None)
    if size is None:
        return None
    times, methods = _times(rows[size]), runs[size]["methods"]

    def point(name: str, x: float, y: float, parameters: float | None, *, quoted: bool) -> dict[str, Any]:
        return {"name": name, "x": x, "y": y, "parameters": parameters, "quoted": quoted}

    points = [
        point(
            name,
            times[name]["median_ms"],
            summary["mean"]["lpips"],
            latency["methods"][name]["parameters"],
            quoted=False,
        )
        for name, summary in methods.items()
        if name in times
    ]
    printed = printed_numbers()
    points += [
        point(row["method"], row["ms"], row["lpips"], printed["parameters"][row["method"]], quoted=True)
        for row in printed["table1"]
        if row["size"] == size
    ]
    only = {name: time["median_ms"] for name, time in times.items() if name not in methods}
    x = f"median at {size} pixels, ms (quoted: {printed['device']})"
    return size, {"points": points, "only_x": only, "x": x, "y": "LPIPS of the whole picture"}


def _unbeaten(result: dict[str, Any]) -> list[str]:
    """Names of the rows that no other beats in both latency and quality, the fastest first."""
    left = [row for row in result["rows"] if "median_ms" in row]
    names, best = [], float("inf")
    for row in sorted(left, key=lambda row: (row["median_ms"], row["lpips"])):
        if row["lpips"] < best:
            names.append(row["name"])
            best = row["lpips"]
    return names


def _frontier(result: dict[str, Any]) -> Table:
    """A line per architecture, the fastest first."""
    head = ["", "widths", "depths", "parameters, M", "GMAC at 512", "median, ms", "of released"]
    head += ["LPIPS in hole", "right matches", "on the frontier"]
    unbeaten = _unbeaten(result)
    star = "*" if result["noisy"] else ""
    lines = []
    for row in sorted(result["rows"], key=lambda row: row.get("median_ms", 0)):
        line = [row["name"]]
        if "median_ms" in row:
            line += [", ".join(map(str, row["widths"])), ", ".join(map(str, row["depths"]))]
            line += [millions(row["parameters"]), number(row["macs"] / 1e9, 2)]
            line += [number(row["median_ms"], 2) + star, number(row["ratio"], 2)]
        else:
            line += ["-"] * 6
        line += [number(row["lpips"], 4), f"{row['best1']:.1%}"]
        lines.append([*line, "yes" if row["name"] in unbeaten else "-"])
    notes = [
        f"Each trained from nothing for {spent_of(result)}, measured on {result['photographs']} photographs; then "
        f"all cores timed in turn at {result['side']} x {result['side']}, threads: {result['threads']}. "
        "On the frontier is what no other beats in both latency and LPIPS.",
        *([NOISY] if result["noisy"] else []),
    ]
    return Table(head, lines, [*notes, origin_of(result)])


def _frontier_plot(result: dict[str, Any]) -> dict[str, Any]:
    points = [
        {"name": row["name"], "x": row["median_ms"], "y": row["lpips"], "parameters": row["parameters"]}
        for row in result["rows"]
        if "median_ms" in row
    ]
    x = f"core at {result['side']} x {result['side']}, threads: {result['threads']}; median, ms"
    y = f"LPIPS in hole,\n{spent_of(result)}"
    return {"points": points, "front": _unbeaten(result), "base": DESIGN, "x": x, "y": y}
