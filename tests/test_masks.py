"""Masks: coverage, seeds, presets; folders of them with checksums, and what is said when one is not as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from rethined import masks
from rethined.data import mask_set
from rethined.errors import InputError
from rethined.masks import KINDS, PRESETS, Preset, free_form

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def slow_free_form(
    height: int, width: int, rng: np.random.Generator, coverage: tuple[float, float], kind: str
) -> np.ndarray[Any, Any]:
    """The same shapes, with the whole canvas copied and counted for each."""
    goal = rng.uniform(*coverage)
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(200):
        area = np.count_nonzero(canvas) / canvas.size
        if area >= goal:
            break
        before = canvas.copy()
        masks._shape(height, width, rng, kind, goal - area, None)[1](canvas)
        if np.count_nonzero(canvas) / canvas.size > coverage[1]:
            canvas = before
    return canvas.astype(bool)


@pytest.mark.parametrize("kind", KINDS)
def test_counting_only_where_a_shape_falls_changes_nothing(kind: str) -> None:
    for height, width in ((160, 240), (37, 211), (8, 8), (1, 5)):
        for coverage in ((0.1, 0.2), (0.3, 0.5)):
            for seed in range(3):
                a, b = np.random.default_rng(seed), np.random.default_rng(seed)
                mask = free_form(height, width, a, coverage=coverage, kind=kind)
                np.testing.assert_array_equal(mask, slow_free_form(height, width, b, coverage, kind))
                assert a.random() == b.random()


def test_masks_are_those_that_the_results_were_measured_with() -> None:
    """Committed results name kind, coverage and seed only: another stream of random numbers would make them lies."""
    drawn = [free_form(96, 128, np.random.default_rng(7), coverage=(0.1, 0.3), kind=kind).mean() for kind in KINDS]
    # Platforms may round a corner to another pixel.
    np.testing.assert_allclose(drawn, [0.2297, 0.2251, 0.2261, 0.2284, 0.2253, 0.2319], atol=2e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_to_their_coverage(name: str) -> None:
    low, high = PRESETS[name].coverage
    for photo in range(10):
        mask = PRESETS[name].draw(str(photo), 192, 256)
        assert low <= mask.mean() <= high
    np.testing.assert_array_equal(mask, PRESETS[name].draw(str(photo), 192, 256))
    assert (mask != PRESETS[name].draw(str(photo), 192, 256, seed=1)).any()
    assert (mask != PRESETS[name].draw("other", 192, 256)).any()


def test_thin_medium_and_thick_are_what_they_are_called() -> None:
    """Half the widest part, in pixels, is the largest distance to known pixels."""
    widths = []
    for name in ("thin", "medium", "thick"):
        drawn = [PRESETS[name].draw(str(i), 256, 256).astype(np.uint8) for i in range(8)]
        widths.append(np.median([cv2.distanceTransform(mask, cv2.DIST_L2, 3).max() for mask in drawn]))
    assert widths[0] * 2 < widths[1]
    assert widths[1] * 1.5 < widths[2]


def test_a_mask_is_that_of_the_benchmark() -> None:
    mask = Preset("strokes", (0.1, 0.2)).draw("city", 120, 160, seed=3)
    rng = np.random.default_rng([3, zlib.crc32(b"city")])
    np.testing.assert_array_equal(mask, free_form(120, 160, rng, coverage=(0.1, 0.2), kind="strokes"))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="wider range"):
        Preset("boxes", (0.3, 0.301)).draw("x", 2, 2)
    with pytest.raises(InputError, match=r"cover 0\.01% to 0\.02% of 9 x 9 pixels"):
        Preset("strokes", (0.0001, 0.0002)).draw("x", 9, 9)
    with pytest.raises(InputError, match="stroke width"):
        free_form(8, 8, np.random.default_rng(0), stroke_width=(0.5, 0.1))


# ---------------------------------------------------------------- on disk


def content(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photographs, small, one of them in a folder and one turned by its EXIF."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for name, size in (("city.jpg", (300, 200)), ("more/stones.png", (256, 144))):
        with Image.open(PHOTOS / f"{Path(name).stem}.jpg") as photo:
            photo.resize(size).save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(PHOTOS / "piazza.jpg") as photo:
        photo.resize((180, 120)).save(folder / "piazza.jpg", exif=exif)
    with Image.open(PHOTOS / "piazza.jpg") as photo:
        photo.resize((90, 60)).save(folder / "turned.png", exif=exif)
    (folder / "notes.txt").write_text("not a photograph")
    return folder


def test_masks_for_photographs_are_named_and_sized_like_them(tmp_path: Path, photos: Path, rethined: Any) -> None:
    done = rethined("masks", "--preset", "paper", "--like", photos, "--seed", 5, "-o", "masks")
    assert done.returncode == 0, done.stderr
    assert b"4 masks" in done.stdout
    out = tmp_path / "masks"
    manifest = json.loads((out / "masks.json").read_text())
    assert (manifest["preset"], manifest["kind"], manifest["seed"]) == ("paper", "mixed", 5)
    assert manifest["rethined"]
    sizes = {entry["name"]: (entry["width"], entry["height"]) for entry in manifest["files"]}
    assert sizes == {
        "city.png": (300, 200),
        "more/stones.png": (256, 144),
        "piazza.png": (120, 180),
        "turned.png": (60, 90),
    }
    for entry in manifest["files"]:
        with Image.open(out / entry["name"]) as image:
            assert image.mode == "1"
            mask = np.array(image)
        assert mask.shape == (entry["height"], entry["width"])
        assert 0.3 <= mask.mean() <= 0.5
        assert mask.mean() == pytest.approx(entry["coverage"], abs=1e-6)
        np.testing.assert_array_equal(mask, PRESETS["paper"].draw(Path(entry["name"]).stem, *mask.shape, seed=5))
        assert entry["sha256"] == hashlib.sha256((out / entry["name"]).read_bytes()).hexdigest()
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 3 * mask_set.CELL

    before = content(out)
    (out / "city.png").unlink()  # as a run that was stopped leaves it
    (out / "masks.json").unlink()
    assert rethined("masks", "--like", photos, "--seed", 5, "-o", "masks").returncode == 0
    assert content(out) == before


def test_masks_of_one_size_are_numbered(tmp_path: Path, rethined: Any) -> None:
    options = ["--preset", "thin", "--kind", "boxes", "--coverage", "5-7.5", "--size", "200x100", "--count", 60]
    done = rethined("masks", *options, "-o", "masks")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "masks/masks.json").read_text())
    assert [entry["name"] for entry in manifest["files"]][::59] == ["0000.png", "0059.png"]
    assert manifest["preset"] is None
    assert all(0.05 <= entry["coverage"] <= 0.075 for entry in manifest["files"])
    assert rethined("masks", "--verify", "masks").returncode == 0


def test_what_a_killed_run_has_left_goes_with_the_next(tmp_path: Path) -> None:
    jobs = [*mask_set.jobs_of_size(64, 48, 2), mask_set.Job(f"more/{120 * 'x'}.png", (64, 48))]
    (tmp_path / "more").mkdir()
    halves = [".0001.png.0123abcd.tmp", ".masks.json.0123abcd.tmp", f"more/.{100 * 'x'}.0123abcd.tmp"]
    others = [".notes.tmp", ".0007.png.0123abcd.tmp", "more/.0001.png.0123abcd.tmp"]
    for name in (*halves, *others):
        (tmp_path / name).write_bytes(b"half")
    mask_set.write_masks(jobs, PRESETS["boxes"], tmp_path, preset_name="boxes")
    assert not [name for name in halves if (tmp_path / name).exists()]
    assert [name for name in others if (tmp_path / name).exists()] == others


def test_verifying_names_what_is_wrong(tmp_path: Path, rethined: Any) -> None:
    assert rethined("masks", "--size", "64x48", "--count", 6, "-o", "masks").returncode == 0
    out = tmp_path / "masks"
    with Image.open(out / "0000.png") as image:  # another file with the same pixels is the same mask
        image.copy().save(out / "0000.png", compress_level=1)
    (out / "0001.png").unlink()
    (out / "0002.png").write_bytes((out / "0002.png").read_bytes()[:60])
    shutil.copy(out / "0004.png", out / "0003.png")
    Image.new("1", (48, 64)).save(out / "0005.png")
    shutil.copy(out / "0004.png", out / "mine.png")
    done = rethined("masks", "--verify", "masks")
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    starts = [
        "missing: 0001.png",
        "corrupt: 0002.png",
        "changed: 0003.png",
        "wrong size: 0005.png",
        "extra: mine.png",
    ]
    assert len(lines) == len(starts) + 1, lines
    for line, start in zip(lines, starts, strict=False):
        assert line.startswith(f"error: {start}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "masks"], "--like FOLDER, or --size"),
        (["--size", "64x48", "-o", "masks"], "--count"),
        (["--size", "64", "--count", "1", "-o", "masks"], "1024x768"),
        (["--size", "64x48", "--count", "1"], "--output"),
        (["--size", "64x48", "--count", "1", "--coverage", "50-30", "-o", "masks"], "30-50"),
        (["--size", "64x48", "--count", "1", "--preset", "fat", "-o", "masks"], "thin, medium"),
        (["--size", "64x48", "--count", "1", "--kind", "stars", "-o", "masks"], "strokes, boxes"),
        (["--like", "nowhere", "-o", "masks"], "does not exist"),
        (["--like", "empty", "-o", "masks"], "no photographs"),
        (["--like", "twins", "-o", "masks"], "rename one"),
        (["--verify", "empty"], "no masks.json"),
        (["--verify", "broken"], "make the masks again"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, rethined: Any, arguments: list[str], words: str) -> None:
    for name in ("empty", "twins", "broken"):
        (tmp_path / name).mkdir()
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / "twins" / name)
    (tmp_path / "broken/a.jpg").write_bytes(b"\xff\xd8\xffnothing more")
    (tmp_path / "broken/masks.json").write_text("[]")
    done = rethined("masks", *arguments)
    assert done.returncode in (1, 2)
    assert words in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "masks").exists()


def test_every_photograph_that_cannot_be_read_is_named(tmp_path: Path, photos: Path, rethined: Any) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/a.jpg").write_bytes(b"\xff\xd8\xffnothing more")
    for i in range(13):
        (tmp_path / f"photos/more/{i:02}.webp").write_bytes(b"nothing")
    done = rethined("masks", "--like", "photos", "-o", "masks")
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("error: corrupt: a.jpg (")
    assert [line.split(" (")[0] for line in lines[1:12]] == [f"error: corrupt: more/{i:02}.webp" for i in range(11)]
    assert lines[12] == "error: corrupt: 2 more; --all names them"
    assert lines[13].startswith(
        "error: 14 of 18 photographs in photos cannot be read: 14 corrupt: a.jpg, more/00.webp"
    )
    assert len(lines) == 14
    done = rethined("masks", "--like", "photos", "-o", "masks", "--all")
    assert done.stderr.count(b"\n") == 15
    assert not (tmp_path / "masks").exists()


def test_other_masks_are_not_written_over(tmp_path: Path, rethined: Any) -> None:
    make = ["masks", "--size", "64x48", "--count", 3, "-o", "masks"]
    assert rethined(*make).returncode == 0
    before = content(tmp_path / "masks")
    for changed in (["--seed", 1], ["--preset", "thin"], ["--count", 4]):
        done = rethined(*make, *changed)
        assert done.returncode == 2
        assert b"another folder" in done.stderr
    (tmp_path / "masks/masks.json").unlink()
    done = rethined(*make, "--seed", 1)
    assert done.returncode == 2
    assert b"0000.png exists already" in done.stderr
    del before["masks.json"]
    assert content(tmp_path / "masks") == before
