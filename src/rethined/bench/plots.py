"""Plots of results as SVG, drawn from plain numbers, so that the same numbers give the same plot."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rethined.errors import BackendError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWN = "rethined"
"""Drawn in front, in its own colour."""
_COLOUR = "#0b62c4"
_OTHERS = (
    "#c2571a",
    "#2e7d4f",
    "#8a4fa3",
    "#b3261e",
    "#7a6a00",
    "#00707a",
    "#5a6472",
    "#a0527a",
    "#4d5bd1",
    "#333333",
)
_QUOTED = "#8a8f98"
_GRID: dict[str, Any] = {"color": "#e6e6e2", "linewidth": 0.7}


def digest(kind: str, data: Mapping[str, Any]) -> str:
    """Of what a plot is drawn from. `draw` writes it into the file: one can tell a plot that is out of date."""
    return hashlib.sha256(json.dumps([kind, data], sort_keys=True).encode()).hexdigest()


def draw(kind: str, data: Mapping[str, Any]) -> bytes:
    """`kind` is one of `bubbles`, `frontier`, `lines`, `bars`; `data` as those functions take it.

    Raises:
        BackendError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendError("plots need matplotlib; install it with: pip install 'rethined[bench]'") from error
    # Small enough to be read on a telephone, and the same bytes every time.
    settings: Any = {
        "font.size": 9,
        "svg.hashsalt": "rethined",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(4.5, 3.4), layout="constrained", facecolor="white")
        _KINDS[kind](figure, **data)
        for axes in figure.axes:
            axes.set_axisbelow(True)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Description": digest(kind, data)})
    return stream.getvalue()


def bubbles(
    figure: Figure,
    *,
    points: Sequence[Mapping[str, Any]],
    only_x: Mapping[str, float],
    x: str,
    y: str,
) -> None:
    """Quality against time, its scale logarithmic. `points` have name, x, y, parameters (None: a small square) and
    quoted; `only_x` are names of which only the time is known, marked in a strip below."""
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    axes.grid(**_GRID)
    axes.set_xscale("log")
    colours = _colours([point["name"] for point in points if not point["quoted"]] + list(only_x))
    spread = max(point["y"] for point in points) - min(point["y"] for point in points)
    above = None
    for point in sorted(points, key=lambda point: -float(point["y"])):
        colour = _QUOTED if point["quoted"] else colours[point["name"]]
        size = 26.0 if point["parameters"] is None else 14 + 11 * point["parameters"] / 1e6
        marker = "s" if point["parameters"] is None else "o"
        face = "none" if point["quoted"] else colour
        axes.scatter([point["x"]], [point["y"]], s=size, marker=marker, facecolor=face, edgecolor=colour, alpha=0.8)
        label = point["name"] + (", quoted" if point["quoted"] else "")
        weight = "bold" if point["name"] == OWN else "normal"
        # Of two that lie closely above each other the lower one's name goes below it.
        near = above is not None and above["y"] - point["y"] < 0.08 * spread and 0.3 < above["x"] / point["x"] < 3
        offset = (4 + size**0.5 / 2, -10 if near else 3)
        above = point
        place = (point["x"], point["y"])
        axes.annotate(label, place, offset, textcoords="offset points", color=colour, weight=weight, fontsize=8)
    axes.margins(x=0.12, y=0.12)
    axes.set_ylabel(y)
    for rank, (name, time) in enumerate(sorted(only_x.items(), key=lambda item: item[1])):
        height = 0.1 + 0.3 * (rank % 3)
        strip.plot([time], [height], "|", color=colours[name], markersize=8, markeredgewidth=2)
        strip.annotate(name, (time, height), (3, -3), textcoords="offset points", color=colours[name], fontsize=7)
    strip.set_ylim(-0.1, 0.95)
    strip.set_yticks([])
    strip.set_ylabel("latency\nonly", fontsize=7)
    low, high = strip.get_xlim()
    strip.set_xlim(low, high * 2.5)  # room for names
    strip.xaxis.set_major_formatter("{x:g}")
    strip.set_xlabel(x)


def frontier(
    figure: Figure,
    *,
    points: Sequence[Mapping[str, Any]],
    front: Sequence[str],
    base: str,
    x: str,
    y: str,
) -> None:
    """Quality against time. `points` have name, x, y and parameters, by which go their areas; a line joins those that
    `front` names, in its order, others are hollow; `base` has the engine's colour."""
    axes = figure.add_subplot()
    axes.grid(**_GRID)
    places = {point["name"]: (point["x"], point["y"]) for point in points}
    axes.plot(*zip(*(places[name] for name in front), strict=True), color=_QUOTED, linewidth=1.2, zorder=1)
    colours = _colours([point["name"] for point in points if point["name"] != base]) | {base: _COLOUR}
    for point in sorted(points, key=lambda point: float(point["x"])):
        name, size = point["name"], 110 * point["parameters"] / 1e6
        face = colours[name] if name in front else "white"
        label = f"{name}, {point['parameters'] / 1e6:.2f} M"
        axes.scatter(*places[name], s=size, facecolor=face, edgecolor=colours[name], linewidth=1.5, label=label)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    # Beside the plot: architectures that differ little lie close together, and so would their names.
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1), labelspacing=1)


def lines(
    figure: Figure,
    *,
    series: Mapping[str, Sequence[Sequence[float]]],
    x: str,
    y: str,
    log: bool,
    quoted: Sequence[str] = (),
) -> None:
    """`series` of (x, y) by name over sides of images; `log`: both scales are logarithmic. `quoted` are dashed."""
    axes = figure.add_subplot()
    axes.grid(**_GRID)
    axes.set_xscale("log", base=2)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    colours = _colours([name for name in series if name not in quoted]) | dict.fromkeys(quoted, _QUOTED)
    for name, points in series.items():
        horizontal, vertical = zip(*points, strict=True)
        width, style = (2.4 if name == OWN else 1.2), ("--" if name in quoted else "-")
        axes.plot(
            horizontal, vertical, style, marker="o", markersize=3.5, linewidth=width, color=colours[name], label=name
        )
    ticks = sorted({point[0] for points in series.values() for point in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def bars(figure: Figure, *, values: Mapping[str, float], x: str, base: str | None = None) -> None:
    """Horizontal bars by name, the first on top; a line at the value of `base`."""
    figure.set_size_inches(4.5, 0.8 + 0.3 * len(values))
    axes = figure.add_subplot()
    axes.grid(axis="x", **_GRID)
    names = list(values)
    colours = [_COLOUR if name == base else "#9aa3ae" for name in names]
    axes.barh(names[::-1], [values[name] for name in names[::-1]], color=colours[::-1], height=0.62)
    for place, name in enumerate(names[::-1]):
        axes.annotate(f"{values[name]:.3g}", (values[name], place), (3, 0), textcoords="offset points", va="center")
    if base is not None:
        axes.axvline(values[base], color=_COLOUR, linewidth=0.8)
    axes.margins(x=0.15)
    axes.set_xlabel(x)


_KINDS: dict[str, Callable[..., None]] = {"bubbles": bubbles, "frontier": frontier, "lines": lines, "bars": bars}


def _colours(names: Sequence[str]) -> dict[str, str]:
    """The engine has its own; others one each, by the order of their names."""
    others = sorted(set(names) - {OWN})
    return {OWN: _COLOUR} | {name: _OTHERS[rank % len(_OTHERS)] for rank, name in enumerate(others)}
