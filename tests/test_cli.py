"""The command line, run as a user runs it: one process a command, real weights, real files."""

from __future__ import annotations

import io
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from PIL import Image, ImageOps

SIZE = (96, 64)


def texture(seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    waves = [120 + 90 * np.sin(x / (5 + c) + y / 9) for c in range(3)]
    return (np.stack(waves, -1) + rng.normal(0, 8, (SIZE[1], SIZE[0], 3))).clip(0, 255).astype(np.uint8)


HOLE = np.zeros(SIZE[::-1], bool)
HOLE[20:40, 30:60] = True


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """p.png, p.jpg, its mask m.png, and things that are none."""
    Image.fromarray(texture()).save(tmp_path / "p.png", dpi=(300, 300))
    Image.fromarray(texture()).save(tmp_path / "p.jpg", quality=92)
    Image.fromarray(HOLE).save(tmp_path / "m.png")
    Image.new("L", (95, 64), 255).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "p.jpg").read_bytes()[:2000])
    (tmp_path / "cut.png").write_bytes((tmp_path / "p.png").read_bytes()[:2000])
    (tmp_path / "bad.onnx").write_bytes(b"no weights")
    return tmp_path


def lines(stream: bytes) -> list[str]:
    return stream.decode().splitlines()


def opened(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


# ---------------------------------------------------------------- one photo


def test_fills_the_hole_and_nothing_else(files: Path, rethined: Run) -> None:
    done = rethined("inpaint", "p.png", "m.png", "-o", "out.png", "--side-by-side")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(lines(done.stdout)) == 1
    after = opened(files / "out.png")
    assert np.array_equal(after[~HOLE], texture()[~HOLE])
    assert (after[HOLE] != texture()[HOLE]).any(axis=1).mean() > 0.5
    with Image.open(files / "out.png") as picture:
        assert round(picture.info["dpi"][0]) == 300
    assert opened(files / "out.png.side-by-side.jpg").shape == (SIZE[1], 3 * SIZE[0], 3)
    assert not list(files.glob(".*"))


def test_with_the_compiler_off_it_fills_the_same(files: Path, rethined: Run) -> None:
    for name, switch in (("on.png", "0"), ("off.png", "1")):
        environment = os.environ | {"NUMBA_DISABLE_JIT": switch}
        assert rethined("inpaint", "p.png", "m.png", "-o", name, env=environment).returncode == 0
    on, off = (opened(files / name) for name in ("on.png", "off.png"))
    np.testing.assert_array_equal(on, off)


def test_feather_and_dilate_and_invert_and_quality(files: Path, rethined: Run) -> None:
    Image.fromarray(~HOLE).save(files / "inverted.png")
    done = rethined(
        "inpaint", "p.jpg", "inverted.png", "-o", "out.png", "--mask-invert", "--dilate", 3, "--feather", 2
    )
    assert (done.returncode, done.stderr) == (0, b"")
    before, after = opened(files / "p.jpg"), opened(files / "out.png")
    changed = (before != after).any(axis=2)
    assert not changed[: 20 - 3].any()
    assert not changed[:, : 30 - 3].any()
    assert changed[17:20, 30:60].any()
    assert (files / "out.png").stat().st_size > 5000
    done = rethined("inpaint", "p.jpg", "m.png", "-o", "out.jpg", "--quality", 20)
    assert done.returncode == 0
    with Image.open(files / "out.jpg") as low, Image.open(files / "p.jpg") as high:
        assert sum(low.quantization[0]) > 3 * sum(high.quantization[0])  # type: ignore[attr-defined]


def test_standard_input_and_output(files: Path, rethined: Run) -> None:
    photo = (files / "p.png").read_bytes()
    done = rethined("inpaint", "-", "m.png", "-o", "-", input=photo)
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(io.BytesIO(done.stdout)) as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture)[~HOLE], texture()[~HOLE])
    mask_in = rethined("inpaint", "p.png", "-", "-o", "-", input=(files / "m.png").read_bytes())
    assert mask_in.stdout == done.stdout


def test_a_rotated_phone_photo_and_a_mask_drawn_on_it(files: Path, rethined: Run) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(texture()).save(files / "phone.jpg", exif=exif, quality=95, icc_profile=b"a profile")
    Image.fromarray(np.rot90(HOLE, -1)).save(files / "drawn.png")
    done = rethined("inpaint", "phone.jpg", "drawn.png", "-o", "out.jpg")
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(files / "phone.jpg") as before, Image.open(files / "out.jpg") as after:
        assert after.size == before.size == SIZE
        assert after.info["icc_profile"] == b"a profile"
        assert dict(after.getexif()) == dict(before.getexif())
        shown = [np.asarray(ImageOps.exif_transpose(picture)).astype(int) for picture in (before, after)]
    known = np.ones(shown[0].shape[:2], bool)
    ys, xs = np.nonzero(np.rot90(HOLE, -1))
    known[ys.min() - 16 : ys.max() + 17, xs.min() - 16 : xs.max() + 17] = False
    assert np.abs(shown[0] - shown[1])[known].mean() < 2
    assert np.abs(shown[0] - shown[1])[np.rot90(HOLE, -1)].mean() > 4
    done = rethined("inpaint", "phone.jpg", "m.png", "-o", "no.jpg")
    assert done.returncode == 2
    assert "64 x 96" in done.stderr.decode()
    assert "EXIF rotation" in done.stderr.decode()


def test_into_a_folder_and_over_a_file(files: Path, rethined: Run) -> None:
    (files / "out").mkdir()
    assert rethined("inpaint", "p.png", "m.png", "-o", "out").returncode == 0
    first = (files / "out" / "p.png").read_bytes()
    again = rethined("inpaint", "p.png", "m.png", "-o", "out", "--mask-invert")
    assert again.returncode == 2
    assert (files / "out" / "p.png").read_bytes() == first
    forced = rethined("inpaint", "p.png", "m.png", "-o", "out", "--mask-invert", "--overwrite")
    assert forced.returncode == 0
    assert lines(forced.stderr) == [
        "warning: the mask covers 90% of p.png; if it is the wrong way round, use --mask-invert"
    ]
    assert (files / "out" / "p.png").read_bytes() != first


def test_an_empty_mask_returns_the_photo_and_a_full_one_warns(files: Path, rethined: Run) -> None:
    Image.new("L", SIZE).save(files / "black.png")
    Image.new("L", SIZE, 255).save(files / "white.png")
    done = rethined("inpaint", "p.jpg", "black.png", "-o", "out.jpg")
    assert done.returncode == 0
    assert (files / "out.jpg").read_bytes() == (files / "p.jpg").read_bytes()
    assert len(lines(done.stderr)) == 1
    assert "is empty" in done.stderr.decode()
    done = rethined("inpaint", "p.jpg", "white.png", "-o", "full.jpg")
    assert done.returncode == 0
    assert len(lines(done.stderr)) == 2  # over half; and the engine has nothing to go by
    assert all(line.startswith("warning: ") for line in lines(done.stderr))


# ---------------------------------------------------------------- folders


def test_a_folder_with_one_bad_file(files: Path, rethined: Run) -> None:
    for name in ("in/a.png", "in/deep/a.png", "in/deep/b.jpg"):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(len(name))).save(files / name)
    (files / "in" / "bad.jpg").write_bytes((files / "cut.jpg").read_bytes())
    (files / "in" / "desktop.ini").write_text("x")
    Image.new("L", SIZE).save(files / "in" / "deep" / "c.png")
    done = rethined("inpaint", "in", "m.png", "-o", "out")
    assert done.returncode == 1
    assert len(lines(done.stderr)) == 1
    assert lines(done.stderr)[0].startswith("error: bad.jpg: ")
    *reports, summary = lines(done.stdout)
    assert [report.split(":")[0] for report in reports] == ["a.png", "deep/a.png", "deep/b.jpg", "deep/c.png"]
    assert summary.startswith("4 filled, 0 skipped, 1 failed in ")
    assert summary.endswith(" s (1 other files ignored)")
    found = sorted(path.relative_to(files / "out").as_posix() for path in (files / "out").rglob("*.*"))
    assert found == ["a.png", "deep/a.png", "deep/b.jpg", "deep/c.png"]
    again = rethined("inpaint", "in", "m.png", "-o", "out")
    assert again.returncode == 1
    assert lines(again.stdout)[-1].startswith("0 filled, 4 skipped, 1 failed in ")
    (files / "in" / "bad.jpg").unlink()
    assert rethined("inpaint", "in", "m.png", "-o", "out").returncode == 0


def test_a_folder_on_a_terminal_shows_a_bar(files: Path) -> None:
    (files / "in").mkdir()
    for i in range(3):
        Image.fromarray(texture(i)).save(files / "in" / f"{i}.png")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rethined", "inpaint", "in", "m.png", "-o", "out"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=files, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert b"3/3" in shown
    assert b"3 filled, 0 skipped, 0 failed" in shown


# ---------------------------------------------------------------- bad input

BAD: dict[str, tuple[int, list[object], str]] = {
    "no such image": (2, ["none.png", "m.png", "-o", "out.png"], "none.png does not exist"),
    "no such mask": (2, ["p.png", "none.png", "-o", "out.png"], "none.png does not exist"),
    "not an image": (2, ["text.png", "m.png", "-o", "out.png"], "text.png is not an image"),
    "mask not an image": (2, ["p.png", "text.png", "-o", "out.png"], "text.png is not an image"),
    "truncated JPEG": (1, ["cut.jpg", "m.png", "-o", "out.jpg"], "cut.jpg is a damaged"),
    "truncated PNG": (1, ["cut.png", "m.png", "-o", "out.png"], "cut.png is a damaged"),
    "too many pixels": (2, ["p.png", "m.png", "-o", "out.png", "--max-pixels", 99], "p.png has 96 x 64"),
    "mask of another size": (
        2,
        ["p.png", "small.png", "-o", "out.png"],
        "small.png is 95 x 64 but p.png is 96 x 64",
    ),
    "mask is a folder": (2, ["p.png", ".", "-o", "out.png"], "folder where one image is wanted"),
    "unknown output format": (2, ["p.png", "m.png", "-o", "out.xyz"], ".xyz files cannot be written"),
    "no output folder": (2, ["p.png", "m.png", "-o", "none/out.png"], "none is not a folder"),
    "output exists": (2, ["p.png", "m.png", "-o", "p.jpg"], "p.jpg exists already"),
    "corrupt weights": (1, ["p.png", "m.png", "-o", "out.png", "--weights", "bad.onnx"], "bad.onnx"),
    "unknown option": (2, ["p.png", "m.png", "-o", "out.png", "--bogus"], "--bogus"),
    "option value": (2, ["p.png", "m.png", "-o", "out.png", "--quality", 101], "--quality"),
    "no output": (2, ["p.png", "m.png"], "--output"),
    "both from stdin": (2, ["-", "-", "-o", "out.png"], "standard input"),
    "side by side of stdout": (2, ["p.png", "m.png", "-o", "-", "--side-by-side"], "--side-by-side"),
    "stdin is no image": (2, ["-", "m.png", "-o", "out.png"], "the image is empty"),
    "folder into itself": (2, [".", "m.png", "-o", "."], "own folder"),
    "folder onto a file": (2, [".", "m.png", "-o", "p.png"], "is a file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_no_file(case: str, files: Path, rethined: Run) -> None:
    code, arguments, message = BAD[case]
    before = sorted(files.rglob("*"))
    done = rethined("inpaint", *arguments, input=b"")
    assert done.returncode == code
    assert done.stdout == b""
    (line,) = lines(done.stderr)
    assert line.startswith("error: ")
    assert message in line
    assert sorted(files.rglob("*")) == before


def test_a_disk_that_is_full(files: Path, rethined: Run) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    before = sorted(files.rglob("*"))
    done = rethined("inpaint", "p.png", "m.png", "-o", "out.png", preexec_fn=small_files)
    assert done.returncode == 1
    assert lines(done.stderr) == ["error: out.png cannot be written: File too large"]
    assert sorted(files.rglob("*")) == before
    with Path("/dev/full").open("wb") as full:
        done = rethined("inpaint", "p.png", "m.png", "-o", "-", stdout=full)
    assert done.returncode == 1
    assert lines(done.stderr) == ["error: standard output cannot be written: No space left on device"]
    with Path("/dev/full").open("wb") as full:
        done = rethined("inpaint", "p.png", "m.png", "-o", "out.png", stdout=full)
    assert done.returncode == 1
    assert len(lines(done.stderr)) == 1
    assert (files / "out.png").exists()  # only the report could not be written


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_that_is_closed(closed: int, files: Path, rethined: Run) -> None:
    (files / "in").mkdir()
    (files / "p.png").rename(files / "in" / "p.png")

    def close() -> None:
        os.close(closed)

    for arguments in (["in/p.png", "m.png", "-o", "out.png"], ["in", "m.png", "-o", "out"]):
        done = rethined("inpaint", *arguments, preexec_fn=close, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        assert bool(done.stdout) == (closed != 1)
    assert (files / "out.png").read_bytes() == (files / "out" / "p.png").read_bytes()
    done = rethined("inpaint", "-", "m.png", "-o", "-", preexec_fn=close, input=(files / "p.jpg").read_bytes())
    assert done.returncode == (2 if closed < 2 else 0)
    if closed < 2:
        assert ("standard output is closed" if closed else "the image is empty") in done.stderr.decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_stopped_in_the_middle_of_writing(number: int, code: int, files: Path, rethined: Run) -> None:
    prelude = f"import os; os.fsync = lambda _: os.kill(os.getpid(), {int(number)})"
    done = rethined("inpaint", "p.png", "m.png", "-o", "out.png", prelude=prelude)
    assert done.returncode == code
    assert not (files / "out.png").exists()
    if number != signal.SIGKILL:
        assert not list(files.glob(".*"))
        assert lines(done.stderr) == [f"error: {'interrupted' if code == 130 else 'terminated'}"]


def test_one_signal_ends_a_run_that_waits_for_a_pipe(files: Path) -> None:
    os.mkfifo(files / "pipe.png")
    command = [sys.executable, "-m", "rethined", "inpaint", "pipe.png", "m.png", "-o", "out.png"]
    running = subprocess.Popen(command, cwd=files, stderr=subprocess.PIPE)
    with running as process, (files / "pipe.png").open("wb") as pipe:  # which opens once the other side reads
        pipe.write(b"\x89PNG")
        pipe.flush()
        process.terminate()
        assert process.stderr is not None
        assert lines(process.stderr.read()) == ["error: terminated"]
        assert process.wait(30) == 143


@pytest.mark.parametrize("seconds", [0, 100])  # until it is to be written
def test_a_signal_in_a_destructor_is_not_lost(seconds: int, files: Path, rethined: Run) -> None:
    prelude = f"""if True:
        import os, signal, time
        from rethined import batch
        class Reference:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0)
        def encode(*arguments, encode=batch.encode):
            Reference()
            time.sleep({seconds})
            return encode(*arguments)
        batch.encode = encode
    """
    done = rethined("inpaint", "p.png", "m.png", "-o", "out.png", prelude=prelude, timeout=50)
    assert (done.returncode, lines(done.stderr)) == (143, ["error: terminated"])
    assert not (files / "out.png").exists()


def test_a_bug_is_one_line_unless_debugging(files: Path, rethined: Run) -> None:
    prelude = "import rethined.batch; rethined.batch.encode = lambda *_: 1 // 0"
    done = rethined("inpaint", "p.png", "m.png", "-o", "out.png", prelude=prelude)
    assert done.returncode == 1
    (line,) = lines(done.stderr)
    assert line.startswith("error: ZeroDivisionError: ")
    assert "please report" in line
    done = rethined(
        "inpaint",
        "p.png",
        "m.png",
        "-o",
        "out.png",
        prelude=prelude,
        env=os.environ | {"RETHINED_DEBUG": "1"},
    )
    assert done.returncode == 1
    assert b"Traceback" in done.stderr


# ---------------------------------------------------------------- other verbs


def test_info_is_what_a_bug_report_needs(rethined: Run) -> None:
    done = rethined("info", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    facts = json.loads(done.stdout)
    wanted = {"rethined", "weights", "sha256", "parameters", "macs at 512", "providers", "threads", "config"}
    assert facts["config"]["patch_size"] > 0
    assert wanted | {"python", "onnxruntime", "numpy", "os", "cpu", "cores"} <= facts.keys()
    text = rethined("info").stdout.decode()
    assert f"rethined:{'':15}{facts['rethined']}" in text
    assert facts["sha256"] in text


def test_info_with_corrupt_weights_still_tells_the_rest(files: Path, rethined: Run) -> None:
    done = rethined("info", "--json", "--weights", "bad.onnx")
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert "bad.onnx" in facts["error"]
    assert "numpy" in facts


def test_help_imports_nothing_heavy(rethined: Run) -> None:
    prelude = (
        "import atexit, sys\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'numba', 'torch', 'PIL', 'rich', 'imagecodecs'}\n"
        "atexit.register(lambda: print('LOADED', sorted(heavy & sys.modules.keys())))"
    )
    for arguments in ([], ["--help"], ["inpaint", "--help"], ["--version"]):
        done = rethined(*arguments, prelude=prelude)
        assert (done.returncode, done.stderr) == (0, b"")
        assert lines(done.stdout)[-1] == "LOADED []"


def test_inpaint_never_imports_torch(files: Path, rethined: Run) -> None:
    done = rethined("inpaint", "p.png", "m.png", "-o", "out.png", prelude="import sys; sys.modules['torch'] = None")
    assert (done.returncode, done.stderr) == (0, b"")
