"""Data sets from small real photographs: DF8K-Inpainting, folders, shards and packs, whole, stopped and damaged."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from rethined.data import df8k, manifest, mask_set, pack, shards
from rethined.data.df8k import SOURCES, Pick
from rethined.errors import InputError
from rethined.masks import PRESETS

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "examples" / "photos"
COUNT = 20
CAFHQ = [f"images/{i}" for i in range(6)]


def content(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def save(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def place(sources: Path, pick: Pick) -> Path:
    """Where a source's authors put it."""
    if pick.source == "div2k":
        part = "train" if int(pick.name) <= 800 else "valid"
        return sources / "div2k" / f"DIV2K_{part}_HR" / f"{pick.name}.png"
    if pick.source == "flickr2k":
        return sources / "flickr2k" / "Flickr2K" / "Flickr2K_HR" / f"{pick.name}.png"
    return sources / "cafhq" / f"{pick.name}.jpg"


@pytest.fixture(scope="module")
def city() -> np.ndarray[Any, Any]:
    with Image.open(PHOTOS / "city.jpg") as photo:
        return np.array(photo)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, city: np.ndarray[Any, Any]) -> Path:
    """DIV2K, Flickr2K and CAFHQ as their authors lay them out, with strips of one photograph in them, and only those
    files that the selection of COUNT asks for."""
    sources = tmp_path_factory.mktemp("sources")
    for i, name in enumerate(CAFHQ):
        strips = [city[24 * i : 24 * (i + 1)], city[200 + 24 * i : 200 + 24 * (i + 1)]]
        save(place(sources, Pick("cafhq", name)), np.hstack(strips if i % 2 else strips[:1]))
    chosen = df8k.choose({key: dict.fromkeys(CAFHQ, Path()) for key in SOURCES}, number=COUNT)
    for i, pick in enumerate(pick for pick in chosen if pick.source != "cafhq"):
        save(place(sources, pick), city[1000 + 32 * i : 1032 + 32 * i, : 2040 + i % 2 * 8])
    save(sources / "div2k/DIV2K_train_LR_bicubic/X2/0001x2.png", city[:16, :1020])
    save(sources / "cafhq/masks/0.png", city[:24, :3840, 0])
    return sources


def arguments(sources: Path) -> list[str]:
    return [word for key in SOURCES for word in (f"--{key}", str(sources / key))] + ["--count", str(COUNT)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Path:
    """The data set, made without a stop."""
    out = tmp_path_factory.mktemp("built") / "df8k"
    df8k.build({key: sources / key for key in SOURCES}, out, number=COUNT)
    return out


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


# ---------------------------------------------------------------- DF8K-Inpainting


def test_the_whole_set_is_split_as_the_paper_s() -> None:
    """With 900 of CAFHQ, whose number we do not know: 2850 photographs in all, 70/20/10 of them and of each group."""
    names = [f"{i}" for i in range(900)]
    picks = df8k.choose({key: dict.fromkeys(names, Path()) for key in SOURCES})
    assert len(set(picks)) == 2850
    assert sum(pick.source == "cafhq" for pick in picks) == 900
    groups = {pick: "2k" if pick.source != "cafhq" else "8k" if int(pick.name) % 3 else "4k" for pick in picks}
    splits = df8k.split(picks, groups)
    assert [list(splits.values()).count(name) for name in manifest.SPLITS] == [1995, 570, 285]
    for group in ("2k", "4k", "8k"):
        inside = [splits[pick] for pick in picks if groups[pick] == group]
        assert inside.count("train") == pytest.approx(0.7 * len(inside), abs=3)
        assert inside.count("test") == pytest.approx(0.2 * len(inside), abs=3)
    # Everybody must get the same: the rule may not change.
    first = ["flickr2k/000799", "flickr2k/002516", "flickr2k/000335"]
    assert [str(pick) for pick in picks if pick.source != "cafhq"][:3] == first


def test_the_command_makes_the_data_set(tmp_path: Path, sources: Path, built: Path, rethined: Any) -> None:
    done = rethined("data", "df8k", *arguments(sources), "-o", "df8k", "--threads", 2)
    assert done.returncode == 0, done.stderr
    assert b"20 photographs (14 train, 4 test, 2 validation, 14 2k, 3 4k, 3 8k)" in done.stdout
    assert content(tmp_path / "df8k") == content(built)
    assert not (tmp_path / "df8k" / df8k.BEGUN).exists()

    whole = json.loads((built / "manifest.json").read_text())
    assert whole["name"] == "DF8K-Inpainting"
    assert str(tmp_path) not in (built / "manifest.json").read_text()
    assert whole["about"]["sources"]["cafhq"]["terms"].startswith("Adobe Research License")
    for entry in whole["files"]:
        source = place(sources, Pick(entry["source"], entry["source_name"]))
        assert (built / entry["name"]).read_bytes() == source.read_bytes()
        assert entry["name"].startswith(f"{entry['split']}/{entry['group']}/{entry['source']}-")
        assert entry["group"] == df8k.group_of(entry["width"], entry["height"])
    tests = {entry["name"]: (entry["height"], entry["width"]) for entry in whole["files"] if entry["split"] == "test"}
    for name, size in tests.items():
        mask = mask_set.decode(built / "masks" / Path(name).relative_to("test").with_suffix(".png"))
        np.testing.assert_array_equal(mask, PRESETS["paper"].draw(Path(name).stem, *size))
    assert len(json.loads((built / "masks/masks.json").read_text())["files"]) == len(tests)

    done = rethined("data", "verify", "df8k")
    assert done.returncode == 0, done.stderr


def test_a_build_that_is_killed_goes_on(tmp_path: Path, sources: Path, built: Path) -> None:
    out = tmp_path / "df8k"
    command = [
        sys.executable,
        "-m",
        "rethined",
        "data",
        "df8k",
        *arguments(sources),
        "-o",
        str(out),
        "--threads",
        "1",
    ]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while running.poll() is None and len(list(out.glob("*/*/*-*"))) < 2:
        time.sleep(0.001)
    running.kill()
    running.communicate()
    assert not (out / "manifest.json").exists(), "it was too fast for this test"
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/*/[!.]*")}
    assert kept
    (out / "train/2k").mkdir(parents=True, exist_ok=True)
    (out / "train/2k/.div2k-0001.png.0123.tmp").write_bytes(b"half")
    df8k.build({key: sources / key for key in SOURCES}, out, number=COUNT)
    assert content(out) == content(built)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_photographs_that_cannot_be_used_are_named(
    tmp_path: Path, sources: Path, built: Path, rethined: Any, city: np.ndarray[Any, Any]
) -> None:
    broken = copy(sources, tmp_path / "sources")
    chosen = df8k.choose({key: dict.fromkeys(CAFHQ, Path()) for key in SOURCES}, number=COUNT)
    picks = [pick for pick in chosen if pick.source == "flickr2k"][:5]
    missing, small, cut, same, other = (place(broken, pick) for pick in picks)
    missing.unlink()
    save(small, city[:16, :1020])
    done = rethined("data", "df8k", *arguments(broken), "-o", "df8k")
    assert done.returncode == 2
    text = done.stderr.decode()
    assert f"error: missing: {picks[0]}\n" in text
    assert f"error: wrong size: {picks[1]} (1020 x 16, 1920 to 3839 on the longer side are wanted; --exclude" in text
    assert text.splitlines()[-1].startswith("error: 2 of the 20 photographs cannot be used: ")
    assert not (tmp_path / "df8k").exists()

    shutil.copy(place(sources, picks[0]), missing)
    shutil.copy(place(sources, picks[1]), small)
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-2000])
    with pytest.raises(manifest.BadPhotosError, match=f"1 corrupt: {picks[2]}"):
        df8k.build({key: broken / key for key in SOURCES}, tmp_path / "df8k", number=COUNT)
    assert not (tmp_path / "df8k").exists()
    cut.write_bytes(whole[: len(whole) // 2] + bytes(200) + whole[len(whole) // 2 + 200 :])
    shutil.copy(other, same)
    done = rethined("data", "df8k", *arguments(broken), "-o", "df8k")
    assert done.returncode == 2
    text = done.stderr.decode()
    assert f"error: corrupt: {picks[2]} (" in text
    assert "error: duplicate: flickr2k/" in text
    assert f"the same as {picks[3]}" in text or f"the same as {picks[4]}" in text
    assert not (tmp_path / "df8k/manifest.json").exists()

    for path in (cut, same):
        shutil.copy(place(sources, picks[(missing, small, cut, same).index(path)]), path)
    df8k.build({key: broken / key for key in SOURCES}, tmp_path / "df8k", number=COUNT)
    assert content(tmp_path / "df8k") == content(built)


def test_thousands_that_are_missing_do_not_drown_the_others(tmp_path: Path, sources: Path, rethined: Any) -> None:
    words = [word for word in arguments(sources) if word != str(COUNT)]
    done = rethined("data", "df8k", *words, 2850, "-o", "df8k")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert len(lines) == 14
    assert re.fullmatch(r"error: missing: 28\d\d more; --all names them", lines[12]), lines[12]
    done = rethined("data", "df8k", *words, 2850, "-o", "df8k", "--all")
    assert len(done.stderr.decode().splitlines()) > 2800


def test_a_manifest_gives_the_same_set_again(tmp_path: Path, sources: Path, built: Path) -> None:
    folders = {key: sources / key for key in SOURCES}
    again = df8k.build(folders, tmp_path / "again", listing=built / "manifest.json", link=True)
    assert again.files == manifest.read_manifest(built).files
    assert (tmp_path / "again" / again.files[0].name).is_symlink()
    assert not list(manifest.verify(tmp_path / "again"))
    whole = json.loads((built / "manifest.json").read_text())
    whole["files"][3]["sha256"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(whole))
    with pytest.raises(manifest.BadPhotosError, match="1 changed"):
        df8k.build(folders, tmp_path / "other", listing=tmp_path / "other.json")


def test_a_selection_of_one_s_own(tmp_path: Path, sources: Path) -> None:
    folders = {"cafhq": sources / "cafhq"}
    listing = tmp_path / "list.txt"
    listing.write_text("# mine\ncafhq/images/0.jpg test\ncafhq/images/1 train  # a lake\n\ncafhq/images/3 train\n")
    made = df8k.build(folders, tmp_path / "mine", listing=listing)
    names = ["test/4k/cafhq-images-0.jpg", "train/8k/cafhq-images-1.jpg", "train/8k/cafhq-images-3.jpg"]
    assert [entry.name for entry in made.files] == names
    assert made.about["rule"] == "a list"
    with pytest.raises(InputError, match="another folder"):
        df8k.build({key: sources / key for key in SOURCES}, tmp_path / "mine", number=COUNT)

    odd = tmp_path / "odd"
    for name in ("a b", "c#1", "d #2"):
        odd.mkdir(exist_ok=True)
        shutil.copy(place(sources, Pick("cafhq", CAFHQ[len(list(odd.iterdir()))])), odd / f"{name}.jpg")
    listing.write_text('"cafhq/a b.jpg" test  # mine\ncafhq/c#1.jpg train\n"cafhq/d #2" train#2\n')
    with pytest.raises(InputError, match=r"line 3 .* a name with spaces in double quotes"):
        df8k.read_list(listing)
    listing.write_text('"cafhq/a b.jpg" test  # mine\ncafhq/c#1.jpg train\n"cafhq/d #2" train\n')
    made = df8k.build({"cafhq": odd}, tmp_path / "quoted", listing=listing)
    assert {entry.source_name for entry in made.files} == {"a b", "c#1", "d #2"}

    exclude = tmp_path / "people.txt"
    exclude.write_text("cafhq/images/2\n")
    chosen = df8k.choose(
        {key: dict.fromkeys(CAFHQ, Path()) for key in SOURCES}, number=5, without=frozenset(["cafhq/images/2"])
    )
    assert sorted(str(pick) for pick in chosen) == [f"cafhq/images/{i}" for i in (0, 1, 3, 4, 5)]
    made = df8k.build({key: sources / key for key in SOURCES}, tmp_path / "less", number=5, without=exclude)
    assert "images/2" not in {entry.source_name for entry in made.files}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("div2k/0001 training", "line 1"),
        ("cafhq/a b c", "line 1"),
        ('"cafhq/a b', "line 1"),
        ("places/0001", "div2k/, flickr2k/, cafhq/"),
        ("cafhq/images/1\ncafhq/images/1.jpg", "more than once"),
        ("cafhq/images/1 test\ncafhq/images/3", "for all or for none"),
        ("# nothing", "lists no photographs"),
        ('{"format": 9}', "not a manifest"),
        ("div2k/0001", "--div2k"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, sources: Path, text: str, words: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        df8k.build({"cafhq": sources / "cafhq"}, tmp_path / "out", listing=tmp_path / "list.txt")
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, sources: Path) -> None:
    folders = {key: sources / key for key in SOURCES}
    with pytest.raises(InputError, match="--cafhq is missing"):
        df8k.build({"div2k": sources / "div2k", "flickr2k": sources / "flickr2k"}, tmp_path / "out")
    with pytest.raises(InputError, match=r"no photographs of DIV2K, such as 0001\.png"):
        df8k.build(folders | {"div2k": sources / "cafhq"}, tmp_path / "out", number=COUNT)
    with pytest.raises(InputError, match="--count"):
        df8k.build(folders, tmp_path / "out", number=10_000)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not empty"):
        df8k.build(folders, tmp_path / "full", number=COUNT)
    twice = copy(sources / "div2k", tmp_path / "twice")
    first = next(twice.glob("*_HR/*.png"))
    save(twice / "other" / first.name, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="are both"):
        df8k.build(folders | {"div2k": twice}, tmp_path / "out", number=COUNT)


def test_verifying_a_data_set_names_what_is_wrong(tmp_path: Path, built: Path, rethined: Any) -> None:
    out = copy(built, tmp_path / "df8k")
    names = [entry.name for entry in manifest.read_manifest(out).files if entry.name.endswith(".png")]
    (out / names[0]).unlink()
    (out / names[1]).write_bytes((out / names[1]).read_bytes()[:-2000])
    save(out / names[2], np.zeros((8, 2040, 3), np.uint8))
    with Image.open(out / names[3]) as photo:
        size = photo.size
    Image.new("RGB", size).save(out / names[3])
    shutil.copy(out / names[4], out / "train/copy.png")
    save(out / "train/mine.png", np.zeros((8, 9, 3), np.uint8))
    mask = next((out / "masks/2k").iterdir())
    mask.unlink()
    done = rethined("data", "verify", "df8k")
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    for start in (
        f"missing: {names[0]}",
        f"corrupt: {names[1]} (",
        f"wrong size: {names[2]} (2040 x 8",
        f"changed: {names[3]}",
        f"duplicate: train/copy.png (the same as {names[4]})",
        "extra: train/mine.png",
        f"missing: masks/2k/{mask.name}",
    ):
        assert any(line.startswith(f"error: {start}") for line in lines), (start, lines)
    assert len(lines) == 8


# ---------------------------------------------------------------- any folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three real photographs, small, in two splits, and a table of where they come from."""
    folder = tmp_path / "photos"
    for name, split in (("city", "train"), ("piazza", "train"), ("stones", "val")):
        (folder / split).mkdir(parents=True, exist_ok=True)
        with Image.open(PHOTOS / f"{name}.jpg") as photo:
            photo.resize((photo.width * 240 // photo.height, 240)).save(folder / split / f"{name}.jpg", quality=95)
    (folder / "index.csv").write_text("file,licence,author,tags\ntrain/city.jpg,CC0-1.0,BuddiesOfBudgie,\n")
    return folder


def test_a_folder_of_photographs_gets_a_manifest(tmp_path: Path, photos: Path, rethined: Any) -> None:
    done = rethined("data", "folder", "photos", "--attribution", "photos/index.csv")
    assert done.returncode == 0, done.stderr
    first = (photos / "manifest.json").read_bytes()
    files = json.loads(first)["files"]
    assert [(entry["name"], entry["split"]) for entry in files] == [
        ("train/city.jpg", "train"),
        ("train/piazza.jpg", "train"),
        ("val/stones.jpg", "validation"),
    ]
    assert files[0]["attribution"] == {"licence": "CC0-1.0", "author": "BuddiesOfBudgie"}
    assert "attribution" not in files[1]
    assert (files[0]["width"], files[0]["height"]) == (360, 240)
    assert files[0]["sha256"] == hashlib.sha256((photos / "train/city.jpg").read_bytes()).hexdigest()
    assert not list(manifest.verify(photos))
    done = rethined("data", "folder", "photos")
    assert done.returncode == 2
    assert b"--overwrite" in done.stderr
    manifest.write_manifest(
        manifest.from_folder(photos, attribution=photos / "index.csv", threads=1), photos / "manifest.json"
    )
    assert (photos / "manifest.json").read_bytes() == first


def test_a_folder_with_bad_photographs_gets_none(photos: Path, rethined: Any) -> None:
    shutil.copy(photos / "train/city.jpg", photos / "val/again.jpg")
    (photos / "val/cut.jpg").write_bytes((photos / "train/city.jpg").read_bytes()[:3000])
    save(photos / "val/tiny.png", np.zeros((100, 200, 3), np.uint8))
    done = rethined("data", "folder", "photos", "--min-side", 200)
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "error: duplicate: val/again.jpg (the same as train/city.jpg)"
    assert lines[1].startswith("error: corrupt: val/cut.jpg (")
    assert lines[2].startswith("error: wrong size: val/tiny.png (200 x 100")
    assert "3 of 6 photographs in photos cannot be used: 1 duplicate, 1 corrupt, 1 wrong size" in lines[3]
    assert not (photos / "manifest.json").exists()
    (photos / "bad.csv").write_text("name\nx\n")
    with pytest.raises(InputError, match="column `file`"):
        manifest.from_folder(photos, attribution=photos / "bad.csv")


@pytest.mark.parametrize("name", ["../out.jpg", "/etc/passwd"])
def test_a_manifest_cannot_lead_out_of_its_folder(photos: Path, name: str) -> None:
    entry = manifest.Entry(name, 1, 1, 1, "0" * 64)
    (photos / "manifest.json").write_bytes(manifest.Manifest("x", (entry,)).to_json())
    with pytest.raises(InputError, match="not below its folder"):
        manifest.read_manifest(photos)


# ---------------------------------------------------------------- shards


def test_shards_hold_what_the_folder_holds(tmp_path: Path, built: Path, rethined: Any) -> None:
    shutil.copytree(built, tmp_path / "df8k")
    done = rethined("data", "shards", "df8k", "-o", "shards", "--split", "test", "--shard-mb", 0.2)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "shards"
    index = json.loads((out / "shards.json").read_text())
    assert len(index["shards"]) > 1
    entries = {entry.name: entry for entry in manifest.read_manifest(built).files if entry.split == "test"}
    keys = []
    for shard in index["shards"]:
        path = out / shard["name"]
        assert shard["name"].startswith("test-00000")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
            assert {member.mtime for member in tar} == {0}
        assert path.stat().st_size <= 200_000 or shard["samples"] == 1
        for key in sorted({name.partition(".")[0] for name in members}):
            facts = json.loads(members[f"{key}.json"])
            entry = entries.pop(facts["name"])
            assert members[f"{key}{Path(entry.name).suffix}"] == (built / entry.name).read_bytes()
            mask = np.array(Image.open(io.BytesIO(members[f"{key}.mask.png"])))
            assert mask.shape == (entry.height, entry.width)
            keys.append(key)
    assert not entries
    assert keys == sorted(set(keys))

    before = content(out)
    kept = out / index["shards"][0]["name"]
    (out / index["shards"][-1]["name"]).write_bytes(b"damaged")
    (out / ".test-000001.tar.0123.tmp").write_bytes(b"half")
    stamp = kept.stat().st_mtime_ns
    shards.write_shards(built, out, split="test", shard_mb=0.2)
    assert content(out) == before
    assert kept.stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="another folder"):
        shards.write_shards(built, out, split="train", shard_mb=0.2)


def test_shards_of_what_is_not_there_are_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(InputError, match="rethined data folder"):
        shards.write_shards(photos, tmp_path / "out")
    manifest.write_manifest(manifest.from_folder(photos), photos / "manifest.json")
    with pytest.raises(InputError, match="train, validation"):
        shards.write_shards(photos, tmp_path / "out", split="test")
    shutil.copy(photos / "train/city.jpg", photos / "train/piazza.jpg")
    with pytest.raises(manifest.BadPhotosError, match=r"1 changed: train/piazza\.jpg"):
        shards.write_shards(photos, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))
    (photos / "train/piazza.jpg").unlink()
    with pytest.raises(manifest.BadPhotosError, match="1 missing"):
        shards.write_shards(photos, tmp_path / "other")


# ---------------------------------------------------------------- packs


def test_a_pack_is_small_and_comes_back(tmp_path: Path, photos: Path, rethined: Any) -> None:
    options = ["--max-mb", 1, "--short-side", 160, "--attribution", "photos/index.csv"]
    done = rethined("data", "pack", "photos", "-o", "photos.pack", *options)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "photos.pack"
    with tarfile.open(path) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert (index["short_side"], index["quality"]) == (160, 92)
    assert [file["name"] for file in index["files"]] == ["train/city.jpg", "train/piazza.jpg", "val/stones.jpg"]
    assert index["files"][0]["attribution"]["author"] == "BuddiesOfBudgie"
    loaded = pack.load_pack(path)
    for picture, file in zip(loaded, index["files"], strict=True):
        assert picture.dtype == np.uint8
        assert picture.shape == (file["height"], file["width"], 3)
        assert min(picture.shape[:2]) == 160
        original = np.array(Image.open(photos / file["name"]))
        expected = cv2.resize(original, picture.shape[1::-1], interpolation=cv2.INTER_AREA)
        # Lossy, but the same picture, red first.
        error, swapped = (np.abs(picture.astype(int) - other).mean() for other in (expected, expected[..., ::-1]))
        assert error < 4
        assert error < swapped
    again = tmp_path / "again.pack"
    pack.write_pack(photos, again, max_mb=1, short_side=160, attribution=photos / "index.csv", threads=1)
    assert again.read_bytes() == path.read_bytes()


def test_a_pack_gives_up_quality_and_then_pixels(tmp_path: Path, photos: Path) -> None:
    found = []
    for megabytes in (1, 0.06, 0.03):
        path = tmp_path / f"{megabytes}.pack"
        index = pack.write_pack(photos, path, max_mb=megabytes, short_side=240)
        assert path.stat().st_size <= megabytes * 1e6
        found.append((index["short_side"], index["quality"]))
    assert found[0] == (240, 92)
    assert found[0] > found[1] > found[2]
    assert found[2][0] < 240
    with pytest.raises(InputError, match="fewer photographs or a larger --max-mb"):
        pack.write_pack(photos, tmp_path / "none.pack", max_mb=0.011)
    assert not (tmp_path / "none.pack").exists()


def test_what_cannot_be_packed_is_named(
    tmp_path: Path, photos: Path, rethined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, whether it is among those that the size is estimated from or not."""
    whole = (photos / "train/city.jpg").read_bytes()
    for i in range(60):
        shutil.copy(photos / "val/stones.jpg", photos / f"val/{i:02}.jpg")
    bad = ["train/cut.jpg", "val/cut.jpg", "val/none.png"]
    for name in bad:
        (photos / name).write_bytes(whole[:3000])
    save(photos / "val/strip.png", np.zeros((16, 16400, 3), np.uint8))
    done = rethined("data", "pack", "photos", "-o", "photos.pack", "--short-side", 64)
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert [line.split(" (")[0] for line in lines[:3]] == [f"error: corrupt: {name}" for name in bad]
    assert lines[3].startswith("error: wrong size: val/strip.png (it would have 16400 x 16 pixels")
    assert "4 of 67 photographs in photos cannot be used: 3 corrupt, 1 wrong size: train/cut.jpg" in lines[4]
    assert len(lines) == 5
    assert not (tmp_path / "photos.pack").exists()
    monkeypatch.setattr(pack, "SAMPLE", 1)
    with pytest.raises(InputError, match="4 of 67 photographs"):
        pack.write_pack(photos, tmp_path / "photos.pack", short_side=64)
    assert not (tmp_path / "photos.pack").exists()


def test_what_is_no_pack_is_refused(tmp_path: Path, photos: Path) -> None:
    path = tmp_path / "photos.pack"
    pack.write_pack(photos, path, max_mb=1, short_side=64)
    whole = path.read_bytes()
    with pytest.raises(InputError, match="does not exist"):
        pack.load_pack(tmp_path / "nothing")
    with pytest.raises(InputError, match="not a pack"):
        pack.load_pack(photos / "train/city.jpg")
    at = whole.index(b"WEBPVP8") + 40
    for cut in (600, at):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"cut short|not a pack|damaged"):
            pack.load_pack(path)
    path.write_bytes(whole[: at - 30] + bytes(60) + whole[at + 30 :])
    with pytest.raises(InputError, match=r"train/city\.jpg"):
        pack.load_pack(path)


def test_the_trainer_takes_a_pack_for_a_folder(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("torch")
    from rethined.train.data import load_folder

    path = tmp_path / "photos.pack"
    pack.write_pack(photos, path, max_mb=1, short_side=96)
    for packed, plain in zip(load_folder(path, 96), load_folder(photos, 96), strict=True):
        assert packed.shape == plain.shape
        assert np.abs(packed.astype(int) - plain).mean() < 5


SHARED = Path(os.environ.get("RETHINED_SHARED", ROOT.parent / "shared")) / "photos"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no photographs in {SHARED}")
def test_attribution_of_the_shared_photographs_is_carried(tmp_path: Path) -> None:
    path = tmp_path / "val.pack"
    index = pack.write_pack(SHARED / "val", path, max_mb=0.5, short_side=256, attribution=SHARED / "index.csv")
    assert path.stat().st_size <= 500_000
    assert len(pack.load_pack(path)) == len(index["files"]) > 10
    assert all(file["attribution"]["licence"] and file["attribution"]["author"] for file in index["files"])
