"""Tables for people from results/*.json: rendered between markers in Markdown files, never typed.

`<!-- bench:NAME -->` and `<!-- /bench -->` enclose a table. NAME is the stem of a result file: all columns of
that one. `STEM.overview` is its LPIPS in the hole alone, one line per run; `STEM.pictures` the pictures of the
worst cases of an evaluation, with links from the folder that holds the folder of results. `latency` and
`quality` are every result of that kind, the latter as overview, `latency.stages` where the time goes, and `peers` the
latencies in which peers took part.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rethined.bench.provenance import read_json
from rethined.bench.schema import REFERENCE, cell, columns_of
from rethined.errors import InputError
from rethined.image import write_atomic

_BLOCK = re.compile(r"(<!-- bench:(?P<name>[\w.-]+) -->\n)(?P<table>.*?)(<!-- /bench -->)", re.DOTALL)
_START = re.compile(r"<!-- bench:[\w.-]+ -->")


def tables(results: Path) -> dict[str, str]:
    """Every table by name, from the result files in `results`.

    Raises:
        InputError: a file there is no result of `rethined bench`.
    """
    found = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    rendered = {}
    for stem, result in found.items():
        if result.get("kind") in ("quality", "eval"):
            rendered[stem] = _measures(_runs(result)) + _origin(result)
            rendered[f"{stem}.overview"] = _overview(_runs(result)) + _origin(result)
        elif result.get("kind") == "latency":
            rendered[stem] = _latency([result]) + _origin(result)
        elif result.get("kind") == "stream":
            rendered[stem] = _stream(result) + _origin(result)
        elif result.get("kind") == "ablation":
            rendered[stem] = _ablation(result) + _origin(result)
        # Other kinds of results have their own reports.
        if result.get("pictures"):
            rendered[f"{stem}.pictures"] = _pictures(result, results)
    quality = [run for result in found.values() if result.get("kind") == "quality" for run in _runs(result)]
    latency = [result for result in found.values() if result.get("kind") == "latency"]
    if quality:
        rendered["quality"] = _overview(quality)
    if latency:
        rendered["latency"] = _latency(latency)
    profiled = [row for result in latency for row in result["rows"] if "stages_ms" in row]
    if profiled:
        rendered["latency.stages"] = _stages(profiled)
    with_peers = [result for result in latency if "methods" in result]
    if with_peers:
        rendered["peers"] = _peers(with_peers)
    return rendered


def overview(result: dict[str, Any]) -> str:
    """LPIPS in the hole of a quality or eval result, one line per run, as a Markdown table."""
    return _overview(_runs(result))


def fill(text: str, rendered: dict[str, str]) -> str:
    """`text` with every marked block replaced by its table.

    Raises:
        InputError: a marker names no table, or is not closed.
    """
    if len(_START.findall(text)) != len(_BLOCK.findall(text)):
        raise InputError("a `<!-- bench:NAME -->` marker is not followed by a line and `<!-- /bench -->`; close it")

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in rendered:
            raise InputError(f"no result for `<!-- bench:{name} -->`; there are: {', '.join(rendered) or 'none'}")
        return f"{match[1]}{rendered[name]}{match[4]}"

    return _BLOCK.sub(replace, text)


def update(files: Sequence[Path], results: Path, *, check: bool = False) -> list[Path]:
    """Fill the markers of `files`; those whose text changes. With `check` nothing is written.

    Raises:
        InputError: a file cannot be read, or names a table that no result gives.
        OutputError: a file cannot be written.
    """
    rendered = tables(results)
    changed = []
    for path in files:
        try:
            before = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        after = fill(before, rendered)
        if after == before:
            continue
        changed.append(path)
        if not check:
            write_atomic(path, after.encode(), overwrite=True)
    return changed


def _runs(result: dict[str, Any]) -> list[dict[str, Any]]:
    """An evaluation has several, a quality result is one."""
    return list(result["runs"]) if result["kind"] == "eval" else [result]


def _measures(runs: Sequence[dict[str, Any]]) -> str:
    """All metrics, one line per method."""
    columns = columns_of(runs)
    head = ["long side", "holes", "photographs", "method", *(heading for _, heading, _ in columns)]
    lines = []
    for run in runs:
        for name, summary in run["methods"].items():
            line = [*_about(run), _method(name), *(cell(summary, key, digits) for key, _, digits in columns)]
            lines.append(line)
    return _table(head, lines)


def _overview(runs: Sequence[dict[str, Any]]) -> str:
    """LPIPS in the hole by masks, size and method, and its ratio to the reference in brackets."""
    names = list(dict.fromkeys(name for run in runs for name in run["methods"]))
    head = ["long side", "holes", "photographs", *map(_method, names)]
    lines = []
    for run in sorted(runs, key=lambda run: (run["masks"]["name"], run["size"])):
        line = _about(run)
        for name in names:
            summary = run["methods"].get(name)
            text = cell(summary, "lpips_hole", 3) if summary else "-"
            compared = summary and summary["ratio"] is not None and name != REFERENCE
            line.append(f"{text} ({summary['ratio']:.2f})" if compared else text)
        lines.append(line)
    return _table(head, lines)


def _about(run: dict[str, Any]) -> list[str]:
    return [str(run["size"]), _holes(run["masks"]["name"]), str(run["photos"])]


def _pictures(result: dict[str, Any], results: Path) -> str:
    """Caption and picture of each of the worst cases."""
    blocks = []
    for picture in result["pictures"]:
        file = Path(os.path.relpath(results / picture["file"], results.parent)).as_posix()
        numbers = ", ".join(f"{_method(name)} {value:.3f}" for name, value in picture["lpips_hole"].items())
        caption = (
            f"{picture['photo']}, {picture['size']} pixels, {_holes(picture['masks'])}; LPIPS in hole: {numbers}"
        )
        blocks.append(f"![{', '.join(picture['panels'])}]({file})\n\n*{caption}.*\n")
    return "\n".join(blocks)


def _latency(results: Sequence[dict[str, Any]]) -> str:
    """Times by machine, size and hole."""
    head = ["processor", "threads", "image", "hole", "median, ms", "IQR, ms", "least, ms"]
    head += ["of Telea", "of a copy", "peak, MiB"]
    lines = []
    noisy = False
    for result in sorted(results, key=lambda result: (result["machine"]["cpu"], result["date"])):
        for row in result["rows"]:
            noisy = noisy or row["noisy"]
            engine = row["engine"]
            line = [result["machine"]["cpu"], str(row["threads"]), f"{row['width']}x{row['height']}"]
            line += [f"{row['hole']:.0%}", _number(engine["median_ms"], 1) + ("*" if row["noisy"] else "")]
            line += [_number(engine["iqr_ms"], 1), _number(engine["min_ms"], 1)]
            line += [_number(row.get("ratio_telea"), 2), _number(row["ratio_copy"], 1)]
            lines.append([*line, _number(row["peak_mib"], 0)])
    return _table(head, lines) + ("\n\\* other programs were running.\n" if noisy else "")


def _stages(rows: Sequence[dict[str, Any]]) -> str:
    """Milliseconds of each stage by size and hole."""
    names = list(rows[0]["stages_ms"])
    lines = []
    for row in rows:
        stages = [_number(row["stages_ms"].get(name), 1) for name in names]
        lines.append([f"{row['width']}x{row['height']}", f"{row['hole']:.0%}", str(row["threads"]), *stages])
    return _table(["image", "hole", "threads", *(f"{name}, ms" for name in names)], lines)


def _stream(result: dict[str, Any]) -> str:
    """Frames per second by size."""
    head = ["frames", "hole", "threads", "frames/s", "median, ms", "IQR, ms", "allocated by a call, MiB"]
    lines = []
    for row in result["rows"]:
        line = [f"{row['name']} ({row['width']}x{row['height']})", f"{row['hole']:.0%}", str(row["threads"])]
        line += [_number(row["frames_per_second"], 1), _number(row["median_ms"], 1), _number(row["iqr_ms"], 1)]
        lines.append([*line, _number(row["allocated_mib"], 1)])
    return _table(head, lines)


def _ablation(result: dict[str, Any]) -> str:
    """One line per choice, with its difference to the released one."""
    rows = result["rows"]
    base = next(row for row in rows if row["name"] == "as released")
    costs = any("parameters" in row for row in rows)
    head = ["", "LPIPS in hole", "change", "right matches", *(["parameters, M", "GMAC at 512"] if costs else [])]
    lines = []
    for row in rows:
        change = f"{row['lpips'] / base['lpips'] - 1:+.1%}" if row is not base else "-"
        line = [row["name"], _number(row["lpips"], 4), change, f"{row['best1']:.1%}"]
        if costs:
            parameters, macs = row.get("parameters"), row.get("macs")
            line += [_number(parameters and parameters / 1e6, 2), _number(macs and macs / 1e9, 2)]
        lines.append(line)
    table = _table(head, lines)
    if "steps" in result:
        spent = f"{result['steps']} steps of {result['batch_size']} crops of {result['crop']} x {result['crop']}"
        table += f"\nEach trained from nothing for {spent}, measured on {result['photographs']} photographs.\n"
    return table


def _peers(results: Sequence[dict[str, Any]]) -> str:
    """Times, memory and cost of peers beside the engine, timed in turn."""
    head = ["processor", "threads", "image", "hole", "method", "weights", "parameters, M", "GMAC"]
    head += ["median, ms", "IQR, ms", "of rethined", "peak, MiB"]
    lines = []
    for result in results:
        for row in result["rows"]:
            about = [result["machine"]["cpu"], str(row["threads"]), f"{row['width']}x{row['height']}"]
            about.append(f"{row['hole']:.0%}")
            own = result["methods"]["rethined"] | {"weights": result["weights"]["rethined"]}
            # The network's grid has about 512 x 512 cells whatever the image.
            engine = row["engine"] | {"ratio": 1.0, "macs": own["macs_512"], "peak_mib": row["peak_mib"]}
            methods = [("rethined", own, engine)]
            methods += [(name, result["methods"][name], times) for name, times in row.get("peers", {}).items()]
            for name, facts, times in methods:
                weights = facts["weights"] if facts["weights"] in ("random", "none") else facts["weights"][:10]
                millions = None if facts["parameters"] is None else facts["parameters"] / 1e6
                billions = None if times["macs"] is None else times["macs"] / 1e9
                line = [*about, name, weights, _number(millions, 2), _number(billions, 1)]
                line += [_number(times["median_ms"], 1) + ("*" if row["noisy"] else ""), _number(times["iqr_ms"], 1)]
                lines.append([*line, _number(times["ratio"], 1), _number(times["peak_mib"], 0)])
    note = "Weights `random`: the peer had none; it costs the same, and its pictures mean nothing."
    return f"{_table(head, lines)}\n{note}\n"


def _origin(result: dict[str, Any]) -> str:
    """One line that says where the table comes from."""
    parts = [result["machine"]["cpu"], f"rethined {result['versions']['rethined']}", result["date"][:10]]
    if result["commit"]:
        parts.append(f"commit {result['commit'][:10]}" + (" with edits" if result["dirty"] else ""))
    parts += [f"{_method(name)} weights {digest[:10]}" for name, digest in result["weights"].items()]
    return f"\n{'; '.join(parts)}.\n"


def _holes(name: str) -> str:
    """`strokes-10-20` is shown as "strokes 10-20 %", a folder of masks by its name."""
    drawn = re.fullmatch(r"(\w+)-(\d+)-(\d+)", name)
    return "{} {}-{} %".format(*drawn.groups()) if drawn else name


def _method(name: str) -> str:
    """`rethined:path/to/file.onnx` is shown by its file's stem."""
    return f"rethined ({Path(name.partition(':')[2]).stem})" if ":" in name else name


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
