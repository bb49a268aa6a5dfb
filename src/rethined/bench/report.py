"""Tables for people from results/*.json: rendered between markers in Markdown files, never typed.

`<!-- bench:NAME -->` and `<!-- /bench -->` enclose a table. NAME is `quality` (every quality result, one line
per method), `latency` (every latency result), `peers` (those in which peers took part), or the stem of a result
file (all columns of that one).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rethined.bench.provenance import read_json
from rethined.errors import InputError, OutputError

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
        if result.get("kind") == "quality":
            rendered[stem] = _quality(result) + _origin(result)
        elif result.get("kind") == "latency":
            rendered[stem] = _latency([result]) + _origin(result)
        # Other kinds of results have their own reports.
    quality = [result for result in found.values() if result.get("kind") == "quality"]
    latency = [result for result in found.values() if result.get("kind") == "latency"]
    if quality:
        rendered["quality"] = _quality_overview(quality)
    if latency:
        rendered["latency"] = _latency(latency)
    with_peers = [result for result in latency if "methods" in result]
    if with_peers:
        rendered["peers"] = _peers(with_peers)
    return rendered


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
            try:
                path.write_text(after, encoding="utf-8")
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return changed


def _quality(result: dict[str, Any]) -> str:
    """All metrics of one run, one line per method."""
    with_fid = result["fid768"] is not None
    head = ["method", "LPIPS in hole", "ratio", "median", "L1 in hole", "PSNR in hole, dB", "SSIM in hole"]
    head += ["LPIPS", "L1", "SSIM"] + (["FID-768"] if with_fid else [])
    lines = []
    for name, summary in result["methods"].items():
        mean, median = summary["mean"], summary["median"]
        line = [_method(name), _number(mean["lpips_hole"], 3), _number(summary["ratio"], 2)]
        line += [_number(median["lpips_hole"], 3), _number(mean["l1_hole"], 4), _number(mean["psnr_hole"], 2)]
        line += [_number(mean["ssim_hole"], 3), _number(mean["lpips"], 4), _number(mean["l1"], 4)]
        line += [_number(mean["ssim"], 4)]
        lines.append(line + ([_number(summary["fid768"], 3)] if with_fid else []))
    return _table(head, lines)


def _quality_overview(results: Sequence[dict[str, Any]]) -> str:
    """LPIPS in the hole by masks, size and method."""
    head = ["long side", "holes", "photographs", "method", "LPIPS in hole", "ratio", "FID-768"]
    lines = []
    for result in sorted(results, key=lambda result: (result["masks"]["name"], result["size"], result["date"])):
        for name, summary in result["methods"].items():
            line = [
                str(result["size"]),
                _holes(result["masks"]["name"]),
                str(result["photos"]),
                _method(name),
            ]
            line += [_number(summary["mean"]["lpips_hole"], 3), _number(summary["ratio"], 2)]
            lines.append([*line, _number(summary["fid768"], 3)])
    return _table(head, lines)


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


def _peers(results: Sequence[dict[str, Any]]) -> str:
    """Times, memory and cost of peers beside the engine, timed in turn."""
    head = ["processor", "threads", "image", "hole", "method", "weights", "parameters, M", "GMAC"]
    head += ["median, ms", "IQR, ms", "of rethined", "peak, MiB"]
    lines = []
    for result in results:
        for row in result["rows"]:
            about = [result["machine"]["cpu"], str(row["threads"]), f"{row['width']}x{row['height']}"]
            about.append(f"{row['hole']:.0%}")
            own = {"weights": result["weights"]["rethined"], "parameters": None}
            engine = row["engine"] | {"ratio": 1.0, "macs": None, "peak_mib": row["peak_mib"]}
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
    if result["kind"] == "quality":
        parts.insert(0, f"{result['photos']} photographs, {result['size']} pixels, {_holes(result['masks']['name'])}")
    return f"\n{'; '.join(parts)}.\n"


def _holes(name: str) -> str:
    kind, low, high = name.split("-")
    return f"{kind} {low}-{high} %"


def _method(name: str) -> str:
    """`rethined:path/to/file.onnx` is shown by its file's stem."""
    return f"rethined ({Path(name.partition(':')[2]).stem})" if ":" in name else name


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
