"""Reports as one HTML file each, with everything in it: of `rethined eval` worst cases first, crops at 100 %; of
`rethined bench report --html` every table, plot and picture."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from rethined.bench.blocks import Plot, Table
from rethined.bench.cases import Case, Panel, Shown, shown
from rethined.bench.report import Section
from rethined.bench.schema import COLUMNS, DEFINITIONS, REFERENCE, cell, columns_of

CASE_COLUMNS = ("lpips_hole", "l1_hole", "psnr_hole", "ssim_hole")
"""Those of COLUMNS that are shown of a single case."""


def page(result: dict[str, Any], cases: Sequence[Case], title: str) -> str:
    """The whole page. It loads nothing, and says so to the browser; without scripts all panels are still there."""
    body = [f"<header><h1>{escape(title)}</h1>{_origin(result)}</header>", "<main>", "<h2>Results</h2>"]
    body += [_table(result), _definitions()]
    body.append(f"<h2>Worst cases</h2><p class=note>By LPIPS inside the hole, worst first, {len(cases)} of ")
    body.append(f"{sum(run['photos'] for run in result['runs'])}. Crops are at 100 %: one pixel of the picture to ")
    body.append("one CSS pixel; encoded as WebP.</p>")
    body += [_case(f"{rank}. {case.photo}", shown(case)) for rank, case in enumerate(cases, 1)]
    body += ["<h2>Every photograph</h2>", *(_rows(run, result["method"]) for run in result["runs"]), "</main>"]
    return _whole(title, body)


def bench_page(sections: Sequence[Section], galleries: Sequence[tuple[str, Sequence[Shown]]], title: str) -> str:
    """Tables and plots, then the pictures of every method that was measured on some. It loads nothing.

    Raises:
        BackendError: a plot is not drawn yet, and matplotlib is not installed.
    """
    headings = [section.title for section in sections] + [name for name, _ in galleries]
    links = "".join(f'<li><a href="#s{index}">{escape(text)}</a></li>' for index, text in enumerate(headings))
    body = [f"<header><h1>{escape(title)}</h1><nav><ul>{links}</ul></nav></header>", "<main>"]
    for index, section in enumerate(sections):
        body.append(f'<h2 id="s{index}">{escape(section.title)}</h2>')
        body.append(f"<p class=note>{escape(section.text)}</p>" if section.text else "")
        for block in section.blocks:
            if isinstance(block, Plot):
                body.append(_plot(block))
            elif isinstance(block, Table):
                body.append(_plain(block))
    for index, (name, cases) in enumerate(galleries, len(sections)):
        body.append(
            f'<h2 id="s{index}">{escape(name)}</h2><p class=note>Choose what is left and right of the line, and '
        )
        body.append("move it. Encoded as WebP.</p>")
        body += [_case(case.photo, case) for case in cases]
    return _whole(title, [*body, _definitions(), "</main>"])


def _whole(title: str, body: Sequence[str]) -> str:
    style, script = ((resources.files("rethined") / "bench" / name).read_text() for name in ("page.css", "page.js"))
    return _PAGE.format(policy=_POLICY, title=escape(title), style=style, script=script, body="\n".join(body))


def _plain(table: Table) -> str:
    words = [any(not _NUMBER.match(line[column]) for line in table.lines) for column in range(len(table.head))]
    kinds_of = [
        " class=method" if heading == "method" else " class=words" if some else ""
        for heading, some in zip(table.head, words, strict=True)
    ]
    groups = len({line[0] for line in table.lines}) < len(table.lines)
    head = "".join(f"<th{kind}>{_inline(text)}</th>" for kind, text in zip(kinds_of, table.head, strict=True))
    lines, before = [], ""
    for line in table.lines:
        kinds = ["judged"] if "rethined" in line else []
        kinds += ["first"] if groups and line[0] != before else []
        before = line[0]
        cells = "".join(f"<td{kind}>{_inline(text)}</td>" for kind, text in zip(kinds_of, line, strict=True))
        lines.append(f'<tr class="{" ".join(kinds)}">{cells}</tr>')
    notes = "".join(f"<p class=note>{_inline(note)}</p>" for note in table.notes)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f"<div class=scroll tabindex=0><table>{body}</table></div>{notes}"


_NUMBER = re.compile(r"^[-+\d]")
"""What a column of numbers has in every cell; a dash is none that was measured."""


def _inline(text: str) -> str:
    """The little Markdown that cells and notes have."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    text = re.sub(r"(?<!\\)\*([^*]+)\*", r"<em>\1</em>", text)
    return text.replace("\\*", "*")


def _plot(plot: Plot) -> str:
    data = base64.b64encode(plot.svg()).decode()
    alt = escape(plot.caption)
    return (
        f'<figure class=plot><img alt="{alt}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{alt}</figcaption></figure>"
    )


def _origin(result: dict[str, Any]) -> str:
    machine, versions, model = result["machine"], result["versions"], result["model"]
    commit = (result["commit"] or "unknown")[:10] + (" with edits" if result["dirty"] else "")
    facts = {
        "weights": f"{result['method']}, sha256 {next(iter(result['weights'].values()))[:16]}",
        "parameters": f"{model['parameters']:,}",
        "commit": commit,
        "machine": f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        "versions": f"rethined {versions['rethined']}, Python {versions['python']}, torch {versions['torch']}, "
        f"{model['runtime']}",
        "date": result["date"][:16].replace("T", " ") + " UTC",
        "peak memory": f"{result['peak_mib']} MiB",
    }
    return "<dl>" + "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items()) + "</dl>"


def _table(result: dict[str, Any]) -> str:
    columns = columns_of(result["runs"])
    head = ["holes", "long side", "n", "method", *(heading for _, heading, _ in columns)]
    lines = []
    for run in result["runs"]:
        for index, (name, summary) in enumerate(run["methods"].items()):
            about = [run["masks"]["name"], run["size"], run["photos"]] if not index else ["", "", ""]
            kind = "judged" if name == result["method"] else "reference" if name == REFERENCE else ""
            cells = [*about, name, *(cell(summary, key, digits) for key, _, digits in columns)]
            first = " first" if not index else ""
            lines.append(
                f'<tr class="{kind}{first}">' + "".join(f"<td>{escape(str(c))}</td>" for c in cells) + "</tr>"
            )
    heads = "".join(f"<th>{escape(text)}</th>" for text in head)
    return f"<div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _definitions() -> str:
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in DEFINITIONS.items())
    return f"<details><summary>What the numbers mean</summary><dl>{items}</dl></details>"


def _case(title: str, case: Shown) -> str:
    judged = case.judged
    left, top, right, bottom = case.box
    where = f"{case.masks}, {case.size} pixels on the long side, crop {left}-{right} x {top}-{bottom}"
    ratio = ""
    if REFERENCE in case.values:
        quotient = case.values[judged]["lpips_hole"] / max(case.values[REFERENCE]["lpips_hole"], 1e-9)
        kind = "worse" if quotient >= 1.005 else "better" if quotient < 0.995 else "note"
        ratio = f' <span class="{kind}">{quotient:.2f} of the reference</span>'
    lines = []
    for name in [panel.label for panel in case.panels if panel.label in case.values]:
        values = case.values[name]
        cells = [name, *(f"{values[key]:.{digits}f}" for key, _, digits in COLUMNS if key in CASE_COLUMNS)]
        kind = " class=judged" if name == judged else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(text)}</td>" for text in cells) + "</tr>")
    head = "".join(f"<th>{heading}</th>" for key, heading, _ in COLUMNS if key in CASE_COLUMNS)
    table = f"<table><thead><tr><th>method</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    figures = "".join(map(_figure, case.panels))
    width, height = case.panels[0].width, case.panels[0].height
    return (
        f'<article data-judged="{escape(judged)}" style="--w:{width}px;--h:{height}px">'
        f"<h3>{escape(title)}{ratio}</h3><p class=note>{escape(where)}</p>"
        f"<div class=about>{_figure(case.overview)}<div class=scroll>{table}</div></div>"
        f"<div class=strip>{figures}</div></article>"
    )


def _figure(panel: Panel) -> str:
    data = base64.b64encode(panel.webp).decode()
    label = escape(panel.label)
    return (
        f'<figure data-label="{label}"><img width={panel.width} height={panel.height} alt="{label}" '
        f'src="data:image/webp;base64,{data}"><figcaption>{label}</figcaption></figure>'
    )


def _rows(run: dict[str, Any], judged: str) -> str:
    ours = sorted((row for row in run["rows"] if row["method"] == judged), key=lambda row: -row["lpips_hole"])
    reference = {row["photo"]: row["lpips_hole"] for row in run["rows"] if row["method"] == REFERENCE}
    lines = []
    for row in ours:
        ratio = f"{row['lpips_hole'] / max(reference[row['photo']], 1e-9):.2f}" if reference else "-"
        cells = [
            row["photo"],
            f"{row['width']}x{row['height']}",
            f"{row['hole']:.0%}",
            f"{row['lpips_hole']:.3f}",
            ratio,
        ]
        cells += [f"{row['l1_hole']:.4f}", f"{row['psnr_hole']:.2f}", f"{row['ssim_hole']:.3f}"]
        lines.append("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in cells) + "</tr>")
    heads = ("photograph", "size", "hole", "LPIPS in hole", "of the reference", "L1 in hole", "PSNR in hole, dB")
    head = "".join(f"<th>{text}</th>" for text in (*heads, "SSIM in hole"))
    small = f"<p class=note>Smaller, left out: {escape(', '.join(run['too_small']))}.</p>" if run["too_small"] else ""
    return (
        f"<details><summary>{escape(run['masks']['name'])}, {run['size']} pixels: {run['photos']}</summary>"
        f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>{small}"
        "</details>"
    )


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
<script>
{script}</script>
</body>
</html>
"""
