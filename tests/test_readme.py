"""Commands and programs of the documents are run as they stand; links, options and numbers are checked."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rethined.bench import report
from rethined.bench.blocks import Plot

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(
    [
        README,
        *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "MODEL_CARD")),
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("examples/*.md"),
    ]
)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of `language` in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would be: a folder with `examples`; blocks of one page run in it one after the other."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("node_modules"))
    return folder


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """With this Python's `rethined` and `python` first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_every_command_runs(folder: Path) -> None:
    scripts = blocks(README, "sh")
    assert scripts
    for script in scripts:
        done = run(["bash", "-euo", "pipefail", "-c", script], folder)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    with Image.open(folder / "examples/photos/city.jpg") as photo, Image.open(folder / "city.jpg") as result:
        assert result.size == photo.size
        assert result.info["icc_profile"] == photo.info["icc_profile"]
    assert (folder / "city.jpg.side-by-side.jpg").is_file()
    assert len(list((folder / "filled").iterdir())) == 3


def test_every_program_runs(folder: Path) -> None:
    programs = [program for page in PAGES for program in blocks(page, "python")]
    assert programs
    for program in programs:
        done = run([sys.executable, "-W", "error", "-c", program], folder)
        assert done.returncode == 0, f"{program}\n{done.stdout}{done.stderr}"


def test_commands_that_are_only_shown_have_these_verbs_and_options(folder: Path) -> None:
    """```bash blocks take hours or install things: their `rethined` lines are checked against --help."""
    lines = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    shown = [line.split(" #")[0].split() for line in lines if line.startswith("rethined ")]
    assert shown

    @functools.cache
    def told(*verbs: str) -> str:
        page = run(["rethined", *verbs, "--help"], folder)
        assert page.returncode == 0, f"{' '.join(verbs)}: {page.stderr}"
        return page.stdout

    for _, *words in shown:
        page = told(*words[:1])
        if "Commands:" in page:
            page = told(*words[:2])
        for option in [word for word in words if word.startswith("-")]:
            assert re.search(rf"(^|\s|,){option}\b", page), f"{' '.join(words)}: no {option}\n{page}"


def test_make_targets_exist() -> None:
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for block in blocks(page, "bash"):
            for target in re.findall(r"^make ([a-z]+)", block, re.MULTILINE):
                assert target in rules, f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_tables_are_rendered_from_results() -> None:
    """Every table and plot is what `rethined bench report` writes, and nothing where there is no result yet."""
    found = report.blocks(ROOT / "results")
    for page in PAGES:
        for name in report.names(page.read_text()):
            block = found.get(name)
            assert not isinstance(block, Plot) or block.is_drawn(), f"{name}: run: rethined bench report"
        rendered = report.tables(ROOT / "results", page.parent)
        for name, table in re.findall(r"<!-- bench:([\w.-]+) -->\n(.*?)<!-- /bench -->", page.read_text(), re.DOTALL):
            assert table == rendered.get(name, ""), f"{page.name}: {name} is out of date; run: rethined bench report"


def test_the_table_of_the_copying_experiment_is_its_json() -> None:
    page = (ROOT / "docs/paper.md").read_text()
    block = re.search(r"<!-- experiment:copying -->\n(.*?)<!-- /experiment -->", page, re.DOTALL)
    assert block
    assert block[1] == copying_table(), f"paste into docs/paper.md:\n{copying_table()}"


COPYING = {
    "a reference": "the reference: Telea guide, top-1, agreement 3 x 3, windows, split at sigma 2",
    "0 telea": "the guide alone, nothing copied",
    "a hard tiles": "hard tiles instead of windows",
    "b no agreement": "no agreement",
    "c agreement 5": "agreement over 5 x 5",
    "c agreement 7": "agreement over 7 x 7",
    "f seam LR": "seams diffused at low resolution",
    "i sigma 1": "split at sigma 1",
    "i sigma 4": "split at sigma 4",
    "h pull-push guide": "an untrained pull-push fill as the guide",
    "e oracle SSD 8x8": "true matches by pixels",
    "e oracle LR squeeze taps0-2 c4,2,1": "true matches by SqueezeNet features, low resolution",
    "e oracle HR squeeze taps0-2 c4": "true matches by SqueezeNet features, full resolution",
    "g true low, Telea match": "true low band",
    "g true low + oracle LR squeeze taps0-2 c4,2,1": "true low band and matches by features, low resolution",
}


def copying_table() -> str:
    """Means over photographs, as ratios to the reference."""
    result = json.loads((ROOT / "results/experiments-copying.json").read_text())
    methods = result["experiments"][0]["methods"]
    mean = {name: float(np.mean(values["lpips_hole"])) for name, values in methods.items()}
    lines = ["| what is changed | LPIPS in hole | ratio |", "| --- | --- | --- |"]
    for name, words in COPYING.items():
        lines.append(f"| {words} | {mean[name]:.3f} | {mean[name] / mean[result['setup']['reference']]:.2f} |")
    return "\n".join([*lines, "", f"Means over {len(result['experiments'][0]['photos'])} photographs."]) + "\n"
