"""What a report is made of: tables, pictures and plots that become Markdown or HTML, and how numbers are written."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rethined.bench import plots

NOISY = "\\* other programs were running."
RANDOM = "Weights `random`: the peer had none; it costs the same, and its pictures mean nothing."


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


def origin_of(result: dict[str, Any]) -> str:
    """One line that says where the table comes from."""
    parts = [result["machine"]["cpu"], f"rethined {result['versions']['rethined']}", result["date"][:10]]
    if result["commit"]:
        parts.append(f"commit {result['commit'][:10]}" + (" with edits" if result["dirty"] else ""))
    parts += [f"{method_of(name)} weights {digest[:10]}" for name, digest in result["weights"].items()]
    return f"{'; '.join(parts)}."


def spent_of(result: dict[str, Any]) -> str:
    """The budget of each training."""
    return f"{result['steps']} steps of {result['batch_size']} crops of {result['crop']} x {result['crop']}"


def holes_of(name: str) -> str:
    """`strokes-10-20` is shown as "strokes 10-20 %", a folder of masks by its name."""
    drawn = re.fullmatch(r"(\w+)-([\d.]+)-([\d.]+)", name)
    return "{} {}-{} %".format(*drawn.groups()) if drawn else name


def method_of(name: str) -> str:
    """`rethined:path/to/file.onnx` is shown by its file's stem."""
    return f"rethined ({Path(name.partition(':')[2]).stem})" if ":" in name else name


def number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def weights_of(text: str) -> str:
    """`random`, `none` or the beginning of a sha256."""
    return text if text in ("random", "none") else text[:10]


def _paragraphs(notes: Iterable[str]) -> str:
    return "".join(f"\n{note}\n" for note in notes)


def _link(file: Path, start: Path) -> str:
    return Path(os.path.relpath(file.resolve(), start.resolve())).as_posix()


def millions(parameters: float | None) -> str:
    return number(parameters and parameters / 1e6, 2)
