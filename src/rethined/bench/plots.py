"""Plots of results as SVG, drawn from plain numbers, so that the same numbers give the same plot."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rethined.errors import BackendError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def digest(kind: str, data: Mapping[str, Any]) -> str:
    """Of what a plot is drawn from. `draw` writes it into the file: one can tell a plot that is out of date."""
    return hashlib.sha256(json.dumps([kind, data], sort_keys=True).encode()).hexdigest()


def draw(kind: str, data: Mapping[str, Any]) -> bytes:
    """`kind` is one of `bubbles`, `lines`, `bars`; `data` as those functions take it.

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
        "font.size": 8.5,
        "svg.hashsalt": "rethined",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        axes.grid(color="#e6e6e2", linewidth=0.7)
        axes.set_axisbelow(True)
        _KINDS[kind](axes, **data)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Description": digest(kind, data)})
    return stream.getvalue()


def bubbles(
    axes: Axes,
    *,
    points: Sequence[Mapping[str, Any]],
    only_x: Mapping[str, float],
    x: str,
    y: str,
) -> None:
    """Quality against time, its scale logarithmic. `points` have name, x, y, parameters (None: a small square) and
    quoted; `only_x` are names of which only the time is known, marked below."""
    axes.set_xscale("log")
    names = [point["name"] for point in points if not point["quoted"]] + list(only_x)
    colours = _colours(names)
    for point in points:
        colour = _QUOTED if point["quoted"] else colours[point["name"]]
        size = 26.0 if point["parameters"] is None else 14 + 11 * point["parameters"] / 1e6
        marker = "s" if point["parameters"] is None else "o"
        face = "none" if point["quoted"] else colour
        axes.scatter([point["x"]], [point["y"]], s=size, marker=marker, facecolor=face, edgecolor=colour, alpha=0.8)
        label = point["name"] + (", quoted" if point["quoted"] else "")
        weight = "bold" if point["name"] == OWN else "normal"
        offset = (4 + size**0.5 / 2, 3)
        axes.annotate(
            label, (point["x"], point["y"]), offset, textcoords="offset points", color=colour, weight=weight
        )
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    for rank, (name, time) in enumerate(sorted(only_x.items(), key=lambda item: item[1])):
        axes.axvline(time, 0, 0.03, color=colours[name], linewidth=2)
        place = (time, 0.045 + 0.055 * (rank % 3))
        transform = axes.get_xaxis_transform()
        axes.text(*place, name, transform=transform, color=colours[name], ha="center", fontsize=7)
    axes.margins(x=0.15)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def lines(
    axes: Axes,
    *,
    series: Mapping[str, Sequence[Sequence[float]]],
    x: str,
    y: str,
    log: bool,
    quoted: Sequence[str] = (),
) -> None:
    """`series` of (x, y) by name over sides of images; `log`: both scales are logarithmic. `quoted` are dashed."""
    axes.set_xscale("log", base=2)
    if log:
        axes.set_yscale("log")
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


def bars(axes: Axes, *, values: Mapping[str, float], x: str, base: str | None = None) -> None:
    """Horizontal bars by name, the first on top; a line at the value of `base`."""
    names = list(values)
    colours = [_COLOUR if name == base else "#9aa3ae" for name in names]
    axes.barh(names[::-1], [values[name] for name in names[::-1]], color=colours[::-1], height=0.62)
    for place, name in enumerate(names[::-1]):
        axes.annotate(f"{values[name]:.4g}", (values[name], place), (3, 0), textcoords="offset points", va="center")
    if base is not None:
        axes.axvline(values[base], color=_COLOUR, linewidth=0.8)
    axes.margins(x=0.15)
    axes.set_xlabel(x)
    axes.grid(visible=False, axis="y")


_KINDS: dict[str, Callable[..., None]] = {"bubbles": bubbles, "lines": lines, "bars": bars}


def _colours(names: Sequence[str]) -> dict[str, str]:
    """The engine has its own; others one each, by the order of their names."""
    others = sorted(set(names) - {OWN})
    return {OWN: _COLOUR} | {name: _OTHERS[rank % len(_OTHERS)] for rank, name in enumerate(others)}
