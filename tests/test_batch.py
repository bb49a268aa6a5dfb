"""Folder runs, in process, with engines that are plain functions."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rethined import batch, image
from rethined.batch import Options, plan, run
from rethined.errors import InputError, RethinedWarning

SIZE = (40, 30)


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, SIZE[0])[None, :, None] + rng.integers(0, 50, (SIZE[1], SIZE[0], 3))
    return Image.fromarray(ramp.astype(np.uint8))


def mask(box: tuple[int, int, int, int] = (5, 5, 15, 12)) -> Image.Image:
    drawn = Image.new("L", SIZE)
    drawn.paste(255, box)
    return drawn


def black(pixels: np.ndarray[Any, Any], hole: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(hole[..., None], 0, pixels).astype(pixels.dtype)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """in/{a.png, a.jpg, sub/a.png, sub/b.webp, desktop.ini, .hidden.png} and masks/{a, sub/a, sub/b}.png"""
    for i, name in enumerate(["a.png", "a.jpg", "sub/a.png", "sub/b.webp", ".hidden.png"]):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(path, lossless=True, quality=95)
    (tmp_path / "in" / "desktop.ini").write_text("[.ShellClassInfo]")
    for name in ("a.png", "sub/a.png", "sub/b.png"):
        path = tmp_path / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mask().save(path)
    return tmp_path


def names(jobs: list[batch.Job]) -> list[str]:
    return [job.name for job in jobs]


def test_plan_mirrors_the_tree_and_counts_other_files(tree: Path) -> None:
    jobs, others = plan(tree / "in", tree / "masks", tree / "out")
    assert names(jobs) == ["a.jpg", "a.png", "sub/a.png", "sub/b.webp"]
    assert [job.output.relative_to(tree / "out").as_posix() for job in jobs] == names(jobs)
    masks = [job.mask.relative_to(tree / "masks").as_posix() for job in jobs if job.mask]
    assert masks == ["a.png", "a.png", "sub/a.png", "sub/b.png"]
    assert others == 1


def test_plan_never_reads_masks_or_results_as_photos(tree: Path) -> None:
    inner = tree / "in" / "results"
    jobs, _ = plan(tree / "in", tree / "masks", inner)
    assert all(outcome.status == "filled" for outcome in run(jobs, black, Options(side_by_side=True)))
    (tree / "masks").rename(tree / "in" / "masks")
    again, _ = plan(tree / "in", tree / "in" / "masks", inner)
    assert names(again) == names(jobs)
    one, _ = plan(tree / "in", tree / "in" / "a.png", inner)  # the one mask lies among the photos
    assert "a.png" not in names(one)
    assert len(list(inner.rglob("*.side-by-side.jpg"))) == 4


def test_plan_survives_a_link_that_leads_back(tree: Path) -> None:
    (tree / "in" / "sub" / "loop").symlink_to(tree / "in")
    assert len(plan(tree / "in", tree / "masks", tree / "out")[0]) == 4


def test_plan_refuses_what_cannot_go_well(tree: Path) -> None:
    (tree / "empty").mkdir()
    cases = {
        "own folder; name another": (tree / "in", tree / "masks", tree / "in"),
        "own folder; put the masks": (tree / "in", tree / "in", tree / "out"),
        "does not exist": (tree / "in", tree / "none", tree / "out"),
        "holds no images": (tree / "empty", tree / "masks", tree / "out"),
        "is a file": (tree / "in", tree / "masks", tree / "masks" / "a.png"),
    }
    for message, folders in cases.items():
        with pytest.raises(InputError, match=message):
            plan(*folders)
    assert len(plan(tree / "in", tree / "masks", tree / "in", overwrite=True)[0]) == 4


def test_run_goes_past_bad_files_in_order_and_resumes(tree: Path) -> None:
    (tree / "in" / "a.jpg").write_bytes((tree / "in" / "a.jpg").read_bytes()[:300])
    (tree / "masks" / "sub" / "b.png").unlink()
    jobs, _ = plan(tree / "in", tree / "masks", tree / "out")
    outcomes = list(run(jobs, black, Options()))
    assert [(outcome.job.name, outcome.status) for outcome in outcomes] == [
        ("a.jpg", "failed"),
        ("a.png", "filled"),
        ("sub/a.png", "filled"),
        ("sub/b.webp", "failed"),
    ]
    assert "damaged" in outcomes[0].message
    assert "no mask" in outcomes[3].message
    assert sorted(path.name for path in (tree / "out").rglob("*") if path.is_file()) == ["a.png", "a.png"]
    after = np.asarray(Image.open(tree / "out" / "sub" / "a.png"))
    assert np.array_equal(after, black(np.asarray(picture(2)), np.asarray(mask()) > 0))

    picture(9).save(tree / "in" / "a.jpg")
    calls: list[int] = []
    again = list(run(jobs, lambda pixels, hole: calls.append(1) or black(pixels, hole), Options()))
    assert [outcome.status for outcome in again] == ["filled", "skipped", "skipped", "failed"]
    assert len(calls) == 1
    forced = list(run(jobs, black, Options(), overwrite=True))
    assert [outcome.status for outcome in forced] == ["filled", "filled", "filled", "failed"]


def test_one_photo_that_breaks_the_engine_does_not_stop_the_others(tree: Path) -> None:
    def breaks(pixels: np.ndarray[Any, Any], hole: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if np.array_equal(pixels, np.asarray(picture(0))):
            raise ZeroDivisionError("of its own")
        return black(pixels, hole)

    jobs, _ = plan(tree / "in", tree / "masks", tree / "out")
    outcomes = list(run(jobs, breaks, Options()))
    assert [outcome.status for outcome in outcomes] == ["filled", "failed", "filled", "filled"]
    assert outcomes[1].message == "ZeroDivisionError: of its own"


def test_a_write_that_fails_is_reported_and_leaves_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image.os, "fsync", full)
    jobs, _ = plan(tree / "in", tree / "masks", tree / "out")
    outcomes = list(run(jobs, black, Options()))
    assert {outcome.status for outcome in outcomes} == {"failed"}
    assert "No space left" in outcomes[0].message
    assert not [path for path in (tree / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("cores", "pixels", "least", "most"),
    [(1, None, 2, 3), (8, None, 4, 9), (64, None, 4, 9), (8, SIZE[0] * SIZE[1], 2, 3)],
)
def test_so_many_photos_are_in_memory(
    cores: int, pixels: int | None, least: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "usable_cores", lambda: cores)
    if pixels is not None:
        monkeypatch.setattr(batch, "AHEAD_PIXELS", pixels)
    (tmp_path / "in").mkdir()
    for i in range(12):
        picture(i).save(tmp_path / "in" / f"{i:02}.png")
    mask().save(tmp_path / "mask.png")
    lock, alive, peak = threading.Lock(), 0, 0
    read, encode = batch.read, batch.encode

    def reading(*arguments: Any) -> Any:
        nonlocal alive, peak
        with lock:
            alive += 1
            peak = max(peak, alive)
        return read(*arguments)

    def encoding(*arguments: Any) -> Any:
        nonlocal alive
        time.sleep(0.02)  # as a large one takes
        files = encode(*arguments)
        with lock:
            alive -= 1
        return files

    monkeypatch.setattr(batch, "read", reading)
    monkeypatch.setattr(batch, "encode", encoding)
    jobs, _ = plan(tmp_path / "in", tmp_path / "mask.png", tmp_path / "out")
    outcomes = list(run(jobs, black, Options()))
    assert [outcome.job.name for outcome in outcomes] == [f"{i:02}.png" for i in range(12)]
    assert least <= peak <= most


def test_a_run_that_is_abandoned_stops(tree: Path) -> None:
    jobs, _ = plan(tree / "in", tree / "masks", tree / "out")
    results = run(jobs, black, Options())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len([path for path in (tree / "out").rglob("*") if path.is_file()]) <= 3


def test_pipes_are_not_waited_for(tree: Path) -> None:
    os.mkfifo(tree / "in" / "b.png")
    (tree / "masks" / "a.png").unlink()
    os.mkfifo(tree / "masks" / "a.png")
    mask().save(tree / "masks" / "b.png")
    jobs, _ = plan(tree / "in", tree / "masks", tree / "out")
    outcomes = {outcome.job.name: outcome for outcome in run(jobs, black, Options())}
    failed = {"a.jpg": "masks/a.png", "a.png": "masks/a.png", "b.png": "in/b.png"}
    for name, outcome in outcomes.items():
        assert outcome.status == ("failed" if name in failed else "filled")
        if name in failed:
            assert outcome.message == f"{tree / failed[name]} is not a regular file; give a picture file"


def test_masks_that_look_like_a_mistake_are_warned_about(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "p.png")
    Image.new("L", SIZE, 1).save(tmp_path / "labels.png")
    mask((0, 0, 40, 20)).save(tmp_path / "most.png")
    labels = pytest.warns(RethinedWarning, match="brightest pixel of labels.png is 1; white")
    with labels, pytest.warns(RethinedWarning, match="mask of p.png is empty"):
        photo, hole = batch.read(tmp_path / "p.png", tmp_path / "labels.png", Options())
    assert np.array_equal(batch.fill(photo, hole, lambda *_: pytest.fail("not needed")), photo.pixels)
    assert batch.encode(photo, hole, photo.pixels, Options()).photo == (tmp_path / "p.png").read_bytes()
    with pytest.warns(RethinedWarning, match="covers 67% of p.png.*--mask-invert"):
        batch.read(tmp_path / "p.png", tmp_path / "most.png", Options())


def test_options_reach_the_files(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "p.png")
    mask((0, 0, 40, 20)).save(tmp_path / "most.png")
    options = Options(invert=True, dilate=2, feather=3, side_by_side=True)
    photo, hole = batch.read(tmp_path / "p.png", tmp_path / "most.png", options)
    assert hole.sum() == 40 * 12
    files = batch.encode(photo, hole, black(photo.pixels, hole), options)
    after = np.asarray(Image.open(io.BytesIO(files.photo))).astype(int)
    assert files.side_by_side is not None
    assert (after[22:] == 0).all()  # 4 rows and more inside the hole
    weight = np.array([0.25, 0.5, 0.75])[:, None, None]
    assert np.abs(after[18:21] - np.asarray(picture(0))[18:21] * (1 - weight)).max() <= 0.5
    low = batch.encode(photo, hole, photo.pixels, Options(quality=10), format="JPEG")
    high = batch.encode(photo, hole, photo.pixels, Options(quality=90), format="JPEG")
    assert len(low.photo) < len(high.photo)
