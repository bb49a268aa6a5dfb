"""The page of `rethined bench report --html` in a real browser: telephone and desktop, from a file, offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rethined.bench import page, report
from rethined.bench.cases import Case, Worst, write_cases

ROOT = Path(__file__).parents[1]
METHODS = ["telea", "a_method_with_quite_a_long_name", "copy_reference", "rethined"]
PHONE, DESKTOP = (390, 844), (1280, 900)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COLOURS = {"masked": 0, "telea": 50, "a_method_with_quite_a_long_name": 100, "copy_reference": 150, "rethined": 200}
COLOURS |= {"original": 250}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with the committed results, and a case of 352 x 352 pixels whose panels are of one grey each."""
    results = tmp_path_factory.mktemp("page") / "results"
    results.mkdir()
    for path in (ROOT / "results").glob("*.json"):
        shutil.copy(path, results)
    values = dict.fromkeys(("lpips_hole", "l1_hole", "psnr_hole", "ssim_hole"), 0.25)
    grey = {name: np.full((400, 400, 3), value, np.uint8) for name, value in COLOURS.items()}
    mask = np.zeros((400, 400), bool)
    mask[48:, 48:] = True
    case = Worst(1).consider("photo.jpg", 400, "mixed-30-50", grey["original"], mask, np.ones((25, 25)), 0.25)
    assert isinstance(case, Case)
    case.masked = grey["masked"][:352, :352]
    for name in [METHODS[-1], *METHODS[:-1]]:
        case.add(name, grey[name], values)
    entries = write_cases(results / "pictures" / "figure3", [case, case], results / "figure3.json")
    run = {"size": 400, "masks": {"name": "mixed-30-50", "seed": 0}, "photos": 1, "rows": []}
    run["methods"] = {name: {"mean": values, "ratio": 1.0, "better": 0.0} for name in METHODS}
    origin = json.loads((results / "stream.json").read_text())
    result = origin | {"kind": "comparison", "runs": [run], "cases": entries}
    (results / "figure3.json").write_text(json.dumps(result))
    path = results.parent / "report.html"
    path.write_text(page.bench_page(report.sections(results), report.galleries(results), "<b>title"))
    return path.as_uri()


class Tab:
    """A browser's page, and what it complained of or asked for."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.complaints: list[str] = []
        self.asked: list[str] = []
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", lambda request: self.asked.append(request.url))

    def grey(self, selector: str, across: float) -> int:
        """What is seen at a part of the width of an element, halfway down."""
        data = np.frombuffer(self.tab.locator(selector).first.screenshot(), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert picture is not None
        return int(picture[picture.shape[0] // 2, int(across * picture.shape[1]), 0])


@pytest.fixture(params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def opened(request: pytest.FixtureRequest, address: str) -> Iterator[Tab]:
    playwright = pytest.importorskip("playwright.sync_api")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        pytest.skip("needs chromium")
    width, height = request.param
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=FLAGS, timeout=100_000)
        context = chromium.new_context(
            viewport={"width": width, "height": height}, has_touch=width < 500, offline=True, reduced_motion="reduce"
        )
        tab = Tab(context.new_page())
        tab.tab.set_default_timeout(100_000)  # a busy machine
        tab.tab.goto(address)
        yield tab
        chromium.close()


def test_it_loads_nothing_and_complains_of_nothing(opened: Tab, address: str) -> None:
    opened.tab.wait_for_timeout(200)
    assert opened.complaints == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [address]
    policy = opened.tab.locator("meta[http-equiv]").get_attribute("content")
    assert policy.startswith("default-src 'none'")
    assert opened.tab.locator("h1").inner_text() == "<b>title"


def test_it_fits_the_screen(opened: Tab) -> None:
    """Nothing but tables and strips of pictures is scrolled sideways."""
    wide, width = opened.tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide == width
    for box in opened.tab.locator(".stage, .plot img, .choice button, h2, nav a").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).map(r => [r.left, r.right, r.height])"
    ):
        assert 0 <= box[0] < box[1] <= width
        assert box[2] >= 18
    size = opened.tab.locator("td").first.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
    assert size >= 12


def test_every_table_and_picture_is_there(opened: Tab) -> None:
    tab = opened.tab
    headings = tab.locator("h2").all_inner_texts()
    assert headings[-1] == "Figure 3: side by side"
    assert "Frames of a video" in headings
    assert tab.locator("nav a").all_inner_texts() == headings
    tab.locator("nav a").last.click()
    assert tab.evaluate("scrollY") > 0
    broken = tab.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).length")
    assert broken == 0
    assert tab.locator("article").count() == 2
    assert tab.locator("article").first.locator(".strip figcaption").all_inner_texts() == list(COLOURS)


def test_before_and_after_of_every_method(opened: Tab) -> None:
    article = opened.tab.locator("article").first
    stage = "article .stage"
    near = 3  # WebP
    assert abs(opened.grey(stage, 0.25) - COLOURS["original"]) <= near
    assert abs(opened.grey(stage, 0.75) - COLOURS["rethined"]) <= near
    left, right = article.locator(".choice").nth(0), article.locator(".choice").nth(1)
    for name, grey in COLOURS.items():
        left.get_by_role("button", name=name, exact=True).click()
        right.get_by_role("button", name=name, exact=True).click()
        assert abs(opened.grey(stage, 0.25) - grey) <= near, name
        assert abs(opened.grey(stage, 0.75) - grey) <= near, name
        assert left.locator("[aria-pressed=true]").all_inner_texts() == [name]
    left.get_by_role("button", name="masked", exact=True).click()
    slider = article.locator("input[type=range]")
    slider.focus()
    slider.press("Home")
    assert abs(opened.grey(stage, 0.25) - COLOURS["original"]) <= near  # all of it the right one
    slider.press("End")
    assert abs(opened.grey(stage, 0.75) - COLOURS["masked"]) <= near
    box = opened.tab.locator(stage).first.bounding_box()
    assert box
    opened.tab.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 20)
    opened.tab.mouse.down()
    opened.tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    opened.tab.mouse.up()
    assert abs(float(slider.input_value()) - 500) <= 10
    assert abs(opened.grey(stage, 0.25) - COLOURS["masked"]) <= near
    assert abs(opened.grey(stage, 0.75) - COLOURS["original"]) <= near
    # The other article is its own.
    assert opened.tab.locator("article").nth(1).locator("input[type=range]").input_value() == "500"
