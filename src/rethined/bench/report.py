"""What people read, from results/*.json: rendered between markers in Markdown files and on one page, never typed.

`<!-- bench:NAME -->` and `<!-- /bench -->` enclose a block. NAME is the stem of a result file: all columns of
that one. `STEM.overview` is its LPIPS in the hole alone, one line per run; `STEM.pictures` the pictures of the
worst cases of an evaluation. `latency` and `quality` are every result of that kind, the latter as overview, and
`peers` the latencies in which peers took part. `table1` to `table5`, `figure1`, `figure3` and `figure5` are the
paper's, `table1.plot` to `table5.plot` the plots of the tables, `table1.measures` all columns of that one, and
`claims` what the paper says of other methods.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rethined.bench import plots
from rethined.bench.cases import Shown, read_cases
from rethined.bench.provenance import read_json
from rethined.bench.schema import REFERENCE, cell, columns_of
from rethined.errors import InputError
from rethined.image import write_atomic

_BLOCK = re.compile(r"(<!-- bench:(?P<name>[\w.-]+) -->\n)(?P<table>.*?)(<!-- /bench -->)", re.DOTALL)
_START = re.compile(r"<!-- bench:[\w.-]+ -->")
PAPER_BLOCKS = frozenset(
    ["claims", "figure1", "figure3", "figure5"]
    + [f"table{number}{plot}" for number in range(1, 6) for plot in ("", ".plot")]
)
"""Blocks of the paper's tables and figures, whether they have been measured or not."""
FIGURE1_SIZES = (2048, 1024, 512, 4096)
"""Pixels on the long side; Figure 1 shows the first for which there are quality and latency."""


@dataclass(frozen=True)
class Table:
    """Cells may hold `code`, *emphasis* and pictures in Markdown; so may notes, which are paragraphs below."""

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self, start: Path) -> str:
        rows = [self.head, ["---"] * len(self.head), *self.lines]
        return "".join(f"| {' | '.join(row)} |\n" for row in rows) + _paragraphs(self.notes)

    def with_notes(self, *notes: str) -> Table:
        return dataclasses.replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True)
class Picture:
    """A file with its caption; `columns` are the names of what it shows."""

    file: Path
    columns: str
    caption: str


@dataclass(frozen=True)
class Pictures:
    """The worst cases of an evaluation."""

    pictures: Sequence[Picture]

    def markdown(self, start: Path) -> str:
        return "\n".join(f"![{one.columns}]({_link(one.file, start)})\n\n*{one.caption}.*\n" for one in self.pictures)


@dataclass(frozen=True)
class Strips:
    """Cases, one line each: what the methods made of one hole, with a number below each."""

    entries: Sequence[dict[str, Any]]
    """`cases` of a result."""
    folder: Path
    """Of the result file."""
    notes: Sequence[str] = ()

    def markdown(self, start: Path) -> str:
        labels = list(dict.fromkeys(panel["label"] for case in self.entries for panel in case["panels"][1:]))
        lines = []
        for case in self.entries:
            files = {panel["label"]: self.folder / panel["file"] for panel in case["panels"]}
            line = []
            for label in labels:
                value = case["values"].get(label)
                number = f"<br>{value['lpips_hole']:.3f}" if value else ""
                line.append(f"![{label}]({_link(files[label], start)}){number}" if label in files else "-")
            lines.append(line)
        return Table(labels, lines, self.notes).markdown(start)


@dataclass(frozen=True)
class Plot:
    """An SVG beside the results, drawn from numbers."""

    file: Path
    kind: str
    data: dict[str, Any]
    caption: str

    def markdown(self, start: Path) -> str:
        return f"![{self.caption}]({_link(self.file, start)})\n"

    def is_drawn(self) -> bool:
        """Whether the file shows these numbers."""
        return self.file.is_file() and plots.digest(self.kind, self.data) in self.file.read_text(encoding="utf-8")

    def svg(self) -> bytes:
        """From the file if it is up to date. Raises BackendError: it is not, and matplotlib is not installed."""
        return self.file.read_bytes() if self.is_drawn() else plots.draw(self.kind, self.data)


Block = Table | Pictures | Strips | Plot


def blocks(results: Path) -> dict[str, Block]:
    """Every block by name, from the result files in `results`.

    Raises:
        InputError: a file there is no result of `rethined bench`.
    """
    found = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    rendered: dict[str, Block] = {}
    for stem, result in found.items():
        if result.get("kind") == "comparison":
            rendered[f"{stem}.measures"] = _measures(_runs(result)).with_notes(_origin(result))
        elif result.get("kind") in ("quality", "eval"):
            rendered[stem] = _measures(_runs(result)).with_notes(_origin(result))
            rendered[f"{stem}.overview"] = _overview(_runs(result)).with_notes(_origin(result))
        elif result.get("kind") == "latency":
            rendered[stem] = _latency([result]).with_notes(_origin(result))
        elif result.get("kind") == "stream":
            rendered[stem] = _stream(result).with_notes(_origin(result))
        elif result.get("kind") == "ablation":
            rendered[stem] = _ablation(result)
        # Other kinds of results have their own reports.
        if result.get("pictures"):
            rendered[f"{stem}.pictures"] = _pictures(result, results)
    quality = [run for result in found.values() if result.get("kind") == "quality" for run in _runs(result)]
    latency = [result for result in found.values() if result.get("kind") == "latency"]
    if quality:
        rendered["quality"] = _overview(quality)
    alone = [result for result in latency if "methods" not in result]
    if alone:
        rendered["latency"] = _latency(alone)
    with_peers = [result for result in latency if "methods" in result]
    if with_peers:
        rendered["peers"] = _peers(with_peers)
    return rendered | _paper(found, results)


def tables(results: Path, start: Path | None = None) -> dict[str, str]:
    """`blocks` as Markdown; links lead from the folder `start`, or from the one that holds `results`."""
    return {name: block.markdown(start or results.parent) for name, block in blocks(results).items()}


def overview(result: dict[str, Any]) -> str:
    """LPIPS in the hole of a quality or eval result, one line per run, as a Markdown table."""
    return _overview(_runs(result)).markdown(Path())


def fill(text: str, rendered: dict[str, str]) -> str:
    """`text` with every marked block replaced by its table; the paper's that are not measured yet are empty.

    Raises:
        InputError: a marker names no table, or is not closed.
    """
    if len(_START.findall(text)) != len(_BLOCK.findall(text)):
        raise InputError("a `<!-- bench:NAME -->` marker is not followed by a line and `<!-- /bench -->`; close it")

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in rendered and name not in PAPER_BLOCKS:
            raise InputError(f"no result for `<!-- bench:{name} -->`; there are: {', '.join(rendered) or 'none'}")
        return f"{match[1]}{rendered.get(name, '')}{match[4]}"

    return _BLOCK.sub(replace, text)


def update(files: Sequence[Path], results: Path, *, check: bool = False) -> list[Path]:
    """Fill the markers of `files` and draw the plots they show; what changes. With `check` nothing is written.

    Raises:
        InputError: a file cannot be read, or names a block that no result gives.
        OutputError: a file cannot be written.
        BackendError: a plot is out of date, and matplotlib is not installed.
    """
    found = blocks(results)
    changed = []
    for path in files:
        try:
            before = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        after = fill(before, {name: block.markdown(path.parent) for name, block in found.items()})
        shown = [block for name in names(before) if isinstance(block := found.get(name), Plot)]
        for plot in {plot.file: plot for plot in shown if not plot.is_drawn()}.values():
            changed.append(plot.file)
            if not check:
                plot.file.parent.mkdir(exist_ok=True)
                write_atomic(plot.file, plot.svg(), overwrite=True)
        if after == before:
            continue
        changed.append(path)
        if not check:
            write_atomic(path, after.encode(), overwrite=True)
    return changed


def names(text: str) -> list[str]:
    """Of the blocks that a Markdown file shows."""
    return [match["name"] for match in _BLOCK.finditer(text)]


@dataclass(frozen=True)
class Section:
    """A heading of the page, and what is below it."""

    title: str
    text: str
    blocks: Sequence[Block]


def sections(results: Path) -> list[Section]:
    """Every table and plot, in the order of the page.

    Raises:
        InputError: a file there is no result of `rethined bench`, or there is none at all.
    """
    found = blocks(results)
    if not found:
        raise InputError(f"{results} holds no result of `rethined bench`; measure something first")
    made = []
    used: set[str] = set()
    for title, text, wanted in _SECTIONS:
        shown = [name for name in wanted if name in found]
        used |= set(shown)
        if shown:
            made.append(Section(title, text, [found[name] for name in shown]))
    for name, block in found.items():
        if name not in used and not _ELSEWHERE.search(name):
            made.append(Section(name, "", [block]))
    return made


def galleries(results: Path) -> list[tuple[str, list[Shown]]]:
    """Title and cases of every result whose pictures are there."""
    made = []
    for path in sorted(results.glob("*.json")):
        result = read_json(path)
        cases = read_cases(result.get("cases", []), results)
        if cases:
            made.append((_GALLERIES.get(path.stem, path.stem), cases))
    return made


_SECTIONS = (
    (
        "Table 1 and Figure 1: quality against latency",
        "LPIPS, L1 and SSIM over the whole picture as in the paper, LPIPS also inside the hole. Lower LPIPS and L1, "
        "higher SSIM are better.",
        ("table1", "figure1", "table1.plot", "table1.measures"),
    ),
    ("What the paper says of other methods", "", ("claims",)),
    ("Table 2: runtimes and precisions on this device", "", ("table2", "table2.plot")),
    (
        "Table 3: latency by resolution",
        "Median milliseconds from array to array, uint8 in and out, in turn with the engine in one process, with the "
        "same arrays and threads; in brackets as a multiple of the engine's.",
        ("table3", "table3.plot", "peers"),
    ),
    ("Table 4: patch size", "", ("table4", "table4.plot")),
    ("Table 5: feature conditioning and key width", "", ("table5", "table5.plot")),
    ("Latency of the engine alone", "Medians from array to array, uint8 in and out.", ("latency",)),
    ("Frames of a video", "With one mask, filled in place.", ("stream",)),
)
_ELSEWHERE = re.compile(r"^(quality$|latency--|figure[35])|\.(overview|pictures)$")
"""Blocks that the page shows as part of another, or as its pictures."""
_GALLERIES = {
    "table1": "The worst of Table 1, by size",
    "figure3": "Figure 3: side by side",
    "figure5": "Figure 5: one hole at several resolutions",
}


def _runs(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A quality result is one run, others have several."""
    return [result] if result["kind"] == "quality" else list(result["runs"])


def _measures(runs: Sequence[dict[str, Any]]) -> Table:
    """All metrics, one line per method."""
    columns = columns_of(runs)
    head = ["long side", "holes", "photographs", "method", *(heading for _, heading, _ in columns)]
    lines = []
    for run in runs:
        for name, summary in run["methods"].items():
            line = [*_about(run), _method(name), *(cell(summary, key, digits) for key, _, digits in columns)]
            lines.append(line)
    return Table(head, lines)


def _overview(runs: Sequence[dict[str, Any]]) -> Table:
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
    return Table(head, lines)


def _about(run: dict[str, Any]) -> list[str]:
    return [str(run["size"]), _holes(run["masks"]["name"]), str(run["photos"])]


def _pictures(result: dict[str, Any], results: Path) -> Pictures:
    """Caption and picture of each of the worst cases."""
    made = []
    for picture in result["pictures"]:
        numbers = ", ".join(f"{_method(name)} {value:.3f}" for name, value in picture["lpips_hole"].items())
        where = f"{picture['photo']}, {picture['size']} pixels, {_holes(picture['masks'])}"
        caption = f"{where}; LPIPS in hole: {numbers}"
        made.append(Picture(results / picture["file"], ", ".join(picture["panels"]), caption))
    return Pictures(made)


def _latency(results: Sequence[dict[str, Any]]) -> Table:
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
    return Table(head, lines, [_NOISY] if noisy else [])


def _stream(result: dict[str, Any]) -> Table:
    """Frames per second by size."""
    head = ["frames", "hole", "threads", "frames/s", "median, ms", "IQR, ms", "allocated by a call, MiB"]
    lines = []
    for row in result["rows"]:
        line = [f"{row['name']} ({row['width']}x{row['height']})", f"{row['hole']:.0%}", str(row["threads"])]
        line += [_number(row["frames_per_second"], 1), _number(row["median_ms"], 1), _number(row["iqr_ms"], 1)]
        lines.append([*line, _number(row["allocated_mib"], 1)])
    return Table(head, lines)


def _ablation(result: dict[str, Any]) -> Table:
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
    notes = []
    if "steps" in result:
        spent = f"{result['steps']} steps of {result['batch_size']} crops of {result['crop']} x {result['crop']}"
        notes.append(f"Each trained from nothing for {spent}, measured on {result['photographs']} photographs.")
    return Table(head, lines, [*notes, _origin(result)])


def _peers(results: Sequence[dict[str, Any]]) -> Table:
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
                weights = _weights(facts["weights"])
                millions = None if facts["parameters"] is None else facts["parameters"] / 1e6
                billions = None if times["macs"] is None else times["macs"] / 1e9
                line = [*about, name, weights, _number(millions, 2), _number(billions, 1)]
                line += [_number(times["median_ms"], 1) + ("*" if row["noisy"] else ""), _number(times["iqr_ms"], 1)]
                lines.append([*line, _number(times["ratio"], 1), _number(times["peak_mib"], 0)])
    return Table(head, lines, [_RANDOM])


def _origin(result: dict[str, Any]) -> str:
    """One line that says where the table comes from."""
    parts = [result["machine"]["cpu"], f"rethined {result['versions']['rethined']}", result["date"][:10]]
    if result["commit"]:
        parts.append(f"commit {result['commit'][:10]}" + (" with edits" if result["dirty"] else ""))
    parts += [f"{_method(name)} weights {digest[:10]}" for name, digest in result["weights"].items()]
    return f"{'; '.join(parts)}."


def _holes(name: str) -> str:
    """`strokes-10-20` is shown as "strokes 10-20 %", a folder of masks by its name."""
    drawn = re.fullmatch(r"(\w+)-(\d+)-(\d+)", name)
    return "{} {}-{} %".format(*drawn.groups()) if drawn else name


def _method(name: str) -> str:
    """`rethined:path/to/file.onnx` is shown by its file's stem."""
    return f"rethined ({Path(name.partition(':')[2]).stem})" if ":" in name else name


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _weights(text: str) -> str:
    """`random`, `none` or the beginning of a sha256."""
    return text if text in ("random", "none") else text[:10]


def _paragraphs(notes: Iterable[str]) -> str:
    return "".join(f"\n{note}\n" for note in notes)


def _link(file: Path, start: Path) -> str:
    return Path(os.path.relpath(file.resolve(), start.resolve())).as_posix()


_NOISY = "\\* other programs were running."
_RANDOM = "Weights `random`: the peer had none; it costs the same, and its pictures mean nothing."


# ---------------------------------------------------------------- the paper's tables and figures


def printed_numbers() -> dict[str, Any]:
    """What the paper prints, with its source."""
    text = (resources.files("rethined") / "bench" / "quoted.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _paper(found: dict[str, dict[str, Any]], results: Path) -> dict[str, Block]:
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
        values = {
            f"{row['runtime']}, {row['precision']}": row["median_ms"]
            for row in devices[0]["rows"]
            if row["size"] == devices[0]["rows"][0]["size"] and row.get("median_ms") is not None
        }
        plot("table2.plot", "bars", {"values": values, "x": "median, ms"}, "Latency by runtime and precision")
    for name in ("table4", "table5"):
        if name in found:
            values = {row["name"]: row["lpips"] for row in found[name]["rows"]}
            caption = "LPIPS in the hole after equal, short trainings, lower is better"
            plot(f"{name}.plot", "bars", {"values": values, "x": "LPIPS in hole", "base": _BASE}, caption)
    for name in ("figure3", "figure5"):
        if name in found:
            note = "Below each picture LPIPS in the whole hole, lower is better."
            made[name] = Strips(found[name]["cases"], results, [note, _origin(found[name])])
    return made


_BASE = "as released"


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
            line += [_number(summary["mean"][k], digits) if summary else "-" for k, digits in columns]
            line.append(_number(summary.get(key), 3 if key == "fid768" else 1) if summary else "-")
            line.append(_number(time["median_ms"], 1) + noisy if time else "-")
            line.append(_number(time["ratio"], 1) if time else "-")
            lines.append([*line, _millions(facts.get(name, {}).get("parameters"))])
        for row in printed["table1"]:
            if row["size"] == size:
                line = [str(size), "-", f"*{row['method']}, quoted*", _number(row["lpips"], 3), "-"]
                line += [
                    _number(row["l1"], 4),
                    _number(row["ssim"], 3),
                    "-" if key == "fid768" else f"{row['fid']:.1f}",
                ]
                own = next(r["ms"] for r in printed["table1"] if (r["method"], r["size"]) == ("RETHINED", size))
                line += [f"{row['ms']:.1f}", f"{row['ms'] / own:.1f}"]
                lines.append([*line, _millions(printed["parameters"][row["method"]])])
    holes = " and ".join(dict.fromkeys(_holes(run["masks"]["name"]) for run in runs.values()))
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
            notes.append(_NOISY)
    else:
        notes.append("Times are not measured yet: `rethined bench paper table3`.")
    return Table(head, lines, [*notes, _origin(quality)])


def _table2(devices: Sequence[dict[str, Any]]) -> Table:
    """Runtimes and precisions; a number that was not measured is a dash."""
    head = ["processor", "runtime", "precision", "size", "median, ms", "peak, MiB", "file, MB"]
    head += ["largest difference", "change of LPIPS"]
    lines = []
    for result in devices:
        for row in result["rows"]:
            line = [result["machine"]["cpu"], row["runtime"], row["precision"], str(row["size"])]
            line += [_number(row.get("median_ms"), 1), _number(row.get("peak_mib"), 0)]
            size, difference, change = (row.get(key) for key in ("file_bytes", "difference", "lpips_change"))
            line += [_number(size and size / 1e6, 1), "-" if difference is None else f"{difference:.1e}"]
            lines.append([*line, "-" if change is None else f"{change:+.4f}"])
    return Table(head, lines, [_origin(result) for result in devices])


def _table3(latency: dict[str, Any]) -> Table:
    """Median and ratio, a line per method and a column per size."""
    rows = latency["rows"]
    head = ["method", "weights", "parameters, M", "GMAC at 512"]
    head += [f"{row['width']} x {row['height']}" + (" \\*" if row["noisy"] else "") for row in rows]
    lines = []
    for name in dict.fromkeys(name for row in rows for name in _times(row)):
        facts = latency["methods"][name]
        weights = latency["weights"]["rethined"] if name == "rethined" else facts["weights"]
        line = [name, _weights(weights), _millions(facts["parameters"])]
        line.append(_number(facts["macs_512"] and facts["macs_512"] / 1e9, 1))
        for row in rows:
            time = _times(row).get(name)
            line.append(f"{time['median_ms']:.1f} ({time['ratio']:.1f})" if time else "-")
        lines.append(line)
    hole, threads = rows[0]["hole"], rows[0]["threads"]
    about = f"Medians in ms, in brackets multiples of rethined's; hole {hole:.0%}; threads: {threads}."
    empty = "A dash: it would take minutes, or more memory than 16 GiB."
    busy = [_NOISY] if any(row["noisy"] for row in rows) else []
    load = latency.get("load_average")
    loaded = [f"Load average before: {load[0]:.2f}."] if load else []
    return Table(head, lines, [f"{about} {empty}", _RANDOM, *busy, *loaded, _origin(latency)])


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
    return Table(head, lines, [f"The paper's times are of {printed_numbers()['device']}. {_origin(latency)}"])


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


def _millions(parameters: float | None) -> str:
    return _number(parameters and parameters / 1e6, 2)
