"""What people read, from results/*.json: rendered between markers in Markdown files and on one page, never typed.

`<!-- bench:NAME -->` and `<!-- /bench -->` enclose a block. NAME is the stem of a result file: all columns of
that one. `STEM.overview` is its LPIPS in the hole alone, one line per run; `STEM.pictures` the pictures of the
worst cases of an evaluation. `latency` and `quality` are every result of that kind, the latter as overview,
`latency.stages` where the time goes, `peers` the latencies in which peers took part, and `matches` how often
attention finds what is right, before and after training. `table1` to `table5`,
`figure1`, `figure3` and `figure5` are the paper's, `table1.plot` to `table5.plot` the plots of the tables,
`table1.measures` all columns of that one, `claims` what the paper says of other methods, and `frontier` and
`frontier.plot` the latency and quality of other widths and depths. `recipes`, of no result, is what training can be
told.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rethined.bench.blocks import (
    NOISY,
    RANDOM,
    Block,
    Picture,
    Pictures,
    Plot,
    Table,
    holes_of,
    method_of,
    number,
    origin_of,
    spent_of,
    weights_of,
)
from rethined.bench.cases import Shown, read_cases
from rethined.bench.paper_tables import PAPER_BLOCKS, paper_blocks
from rethined.bench.provenance import read_json
from rethined.bench.schema import DESIGN, REFERENCE, cell, columns_of
from rethined.config import DEFAULT, ModelConfig
from rethined.errors import InputError
from rethined.image import write_atomic
from rethined.train.config import RECIPES, TrainConfig
from rethined.windows import whole

_BLOCK = re.compile(r"(<!-- bench:(?P<name>[\w.-]+) -->\n)(?P<table>.*?)(<!-- /bench -->)", re.DOTALL)
_START = re.compile(r"<!-- bench:[\w.-]+ -->")


def blocks(results: Path) -> dict[str, Block]:
    """Every block that is measured, by name, from the result files in `results`.

    Raises:
        InputError: a file there is no result of `rethined bench`.
    """
    found = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    rendered: dict[str, Block] = {}
    for stem, result in found.items():
        if result.get("kind") == "comparison":
            rendered[f"{stem}.measures"] = _measures(_runs(result)).with_notes(origin_of(result))
        elif result.get("kind") in ("quality", "eval"):
            rendered[stem] = _measures(_runs(result)).with_notes(origin_of(result))
            rendered[f"{stem}.overview"] = _overview(_runs(result)).with_notes(origin_of(result))
        elif result.get("kind") == "latency":
            rendered[stem] = _latency([result]).with_notes(origin_of(result))
        elif result.get("kind") == "stream":
            rendered[stem] = _stream(result).with_notes(origin_of(result))
        elif result.get("kind") == "ablation":
            rendered[stem] = _ablation(result)
        # Other kinds of results have their own reports.
        if result.get("pictures"):
            rendered[f"{stem}.pictures"] = _pictures(result, results)
    quality = [result for result in found.values() if result.get("kind") == "quality"]
    latency = [result for result in found.values() if result.get("kind") == "latency"]
    if quality:
        rendered["quality"] = _overview(quality).with_notes(*dict.fromkeys(map(origin_of, quality)))
    alone = [result for result in latency if "methods" not in result]
    if alone:
        rendered["latency"] = _latency(alone)
    if "ablation--trained" in found and "ablation--weights" in found:
        rendered["matches"] = _matches(found["ablation--trained"], found["ablation--weights"])
    profiled = [row for result in alone for row in result["rows"] if "stages_ms" in row]
    if profiled:
        rendered["latency.stages"] = _stages(profiled)
    with_peers = [result for result in latency if "methods" in result]
    if with_peers:
        rendered["peers"] = _peers(with_peers)
    return rendered | paper_blocks(found, results)


def _for_documents(results: Path) -> dict[str, Block]:
    """`blocks`, and what documents show beside them."""
    return blocks(results) | {"recipes": _recipes()}


def tables(results: Path, start: Path | None = None) -> dict[str, str]:
    """What documents show as Markdown; links lead from the folder `start`, or from the one that holds `results`."""
    return {name: block.markdown(start or results.parent) for name, block in _for_documents(results).items()}


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
    found = _for_documents(results)
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
    ("Table 2: runtimes and precisions", "", ("table2", "table2.plot")),
    (
        "Table 3: latency by resolution",
        "Median milliseconds from array to array, uint8 in and out, each in turn with the engine in one process, "
        "with the same arrays and threads; in brackets as a multiple of what the engine took meanwhile.",
        ("table3", "table3.plot", "peers"),
    ),
    ("Table 4: patch size", "", ("table4", "table4.plot")),
    ("Table 5: feature conditioning and key width", "", ("table5", "table5.plot")),
    (
        "The frontier: width and depth of the coarse network",
        "What the network takes against how good its fills are after trainings of equal and small budget.",
        ("frontier", "frontier.plot"),
    ),
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
            line = [*_about(run), method_of(name), *(cell(summary, key, digits) for key, _, digits in columns)]
            lines.append(line)
    return Table(head, lines)


def _overview(runs: Sequence[dict[str, Any]]) -> Table:
    """LPIPS in the hole by masks, size and method, and its ratio to the reference in brackets."""
    names = list(dict.fromkeys(name for run in runs for name in run["methods"]))
    head = ["long side", "holes", "photographs", *map(method_of, names)]
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
    return [str(run["size"]), holes_of(run["masks"]["name"]), str(run["photos"])]


def _pictures(result: dict[str, Any], results: Path) -> Pictures:
    """Caption and picture of each of the worst cases."""
    made = []
    for picture in result["pictures"]:
        numbers = ", ".join(f"{method_of(name)} {value:.3f}" for name, value in picture["lpips_hole"].items())
        where = f"{picture['photo']}, {picture['size']} pixels, {holes_of(picture['masks'])}"
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
            line += [f"{row['hole']:.0%}", number(engine["median_ms"], 1) + ("*" if row["noisy"] else "")]
            line += [number(engine["iqr_ms"], 1), number(engine["min_ms"], 1)]
            line += [number(row.get("ratio_telea"), 2), number(row["ratio_copy"], 1)]
            lines.append([*line, number(row["peak_mib"], 0)])
    return Table(head, lines, [NOISY] if noisy else [])


def _stages(rows: Sequence[dict[str, Any]]) -> Table:
    """Milliseconds of each stage by size and hole."""
    names = list(rows[0]["stages_ms"])
    lines = []
    for row in rows:
        stages = [number(row["stages_ms"].get(name), 1) for name in names]
        lines.append([f"{row['width']}x{row['height']}", f"{row['hole']:.0%}", str(row["threads"]), *stages])
    return Table(["image", "hole", "threads", *(f"{name}, ms" for name in names)], lines)


def _stream(result: dict[str, Any]) -> Table:
    """Frames per second by size."""
    head = ["frames", "hole", "threads", "frames/s", "median, ms", "IQR, ms", "allocated by a call, MiB"]
    lines = []
    for row in result["rows"]:
        line = [f"{row['name']} ({row['width']}x{row['height']})", f"{row['hole']:.0%}", str(row["threads"])]
        line += [number(row["frames_per_second"], 1), number(row["median_ms"], 1), number(row["iqr_ms"], 1)]
        lines.append([*line, number(row["allocated_mib"], 1)])
    return Table(head, lines)


def _row(result: dict[str, Any], name: str) -> dict[str, Any]:
    for row in result["rows"]:
        if row["name"] == name:
            return dict(row)
    raise InputError(f"a result of bench ablation has no row {name!r}; measure it again with this version")


def _ablation(result: dict[str, Any]) -> Table:
    """One line per choice, with its difference to the released one."""
    rows = result["rows"]
    base = _row(result, DESIGN)
    costs = any("parameters" in row for row in rows)
    head = ["", "LPIPS in hole", "change", "right matches", *(["parameters, M", "GMAC at 512"] if costs else [])]
    lines = []
    for row in rows:
        change = f"{row['lpips'] / base['lpips'] - 1:+.1%}" if row["name"] != DESIGN else "-"
        line = [row["name"], number(row["lpips"], 4), change, f"{row['best1']:.1%}"]
        if costs:
            parameters, macs = row.get("parameters"), row.get("macs")
            line += [number(parameters and parameters / 1e6, 2), number(macs and macs / 1e9, 2)]
        lines.append(line)
    notes = []
    if "steps" in result:
        notes.append(
            f"Each trained from nothing for {spent_of(result)}, measured on {result['photographs']} photographs."
        )
    return Table(head, lines, [*notes, origin_of(result)])


def _matches(trained: dict[str, Any], released: dict[str, Any]) -> Table:
    """How often what attention takes first is right: without training, after little of it, and as released."""
    shown = {
        "before training": (trained, "before training"),
        f"after {spent_of(trained)}": (trained, DESIGN),
        "as released": (released, DESIGN),
    }
    lines = []
    for label, (result, name) in shown.items():
        row = _row(result, name)
        lines.append([label, f"{row['best1']:.1%}"])
    return Table(["weights", "right matches"], lines, [origin_of(trained), origin_of(released)])


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
            grid = whole(row["height"], row["width"], DEFAULT.stride)
            macs = own["macs_512"] * grid.rows * grid.columns / 512**2  # at most; of a convolutional network
            engine = row["engine"] | {"ratio": 1.0, "macs": macs, "peak_mib": row["peak_mib"]}
            methods = [("rethined", own, engine)]
            methods += [(name, result["methods"][name], times) for name, times in row.get("peers", {}).items()]
            for name, facts, times in methods:
                weights = weights_of(facts["weights"])
                millions = None if facts["parameters"] is None else facts["parameters"] / 1e6
                billions = None if times["macs"] is None else times["macs"] / 1e9
                line = [*about, name, weights, number(millions, 2), number(billions, 1)]
                line += [number(times["median_ms"], 1) + ("*" if row["noisy"] else ""), number(times["iqr_ms"], 1)]
                lines.append([*line, number(times["ratio"], 1), number(times["peak_mib"], 0)])
    return Table(head, lines, [RANDOM])


def _recipes() -> Table:
    """Every setting of the recipes, as `rethined train --set` takes it, its values and what it is."""
    lines = []
    for kind in (TrainConfig, ModelConfig):
        for name, meaning in _fields(kind):
            values = (getattr(recipe if kind is TrainConfig else recipe.model, name) for recipe in RECIPES.values())
            lines.append([f"`{name}`", *map(_setting, values), meaning])
    return Table(["setting", *(f"`{name}`" for name in RECIPES), "what it is"], lines)


def _setting(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_setting, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _fields(kind: type) -> Iterator[tuple[str, str]]:
    """Names of a configuration's fields, but for the model in a recipe, and what their docstrings say."""
    (defined,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(defined, ast.ClassDef)
    wanted = {field.name for field in dataclasses.fields(kind)} - {"model"}
    for field, text in zip(defined.body, defined.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id in wanted:
            assert isinstance(text, ast.Expr)
            assert isinstance(text.value, ast.Constant)
            yield field.target.id, " ".join(str(text.value.value).split())
