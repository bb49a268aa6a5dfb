"""Programs that do not import rethined against the engine: the runners in examples/runners, and the ONNX pipeline."""

from __future__ import annotations

import ast
import base64
import dataclasses
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

from rethined import rim
from rethined.backends import Backend, CoreOutput
from rethined.config import ModelConfig
from rethined.engine import Engine
from rethined.errors import BackendError, RethinedWarning, WeightsError
from rethined.masks import free_form
from rethined.windows import BLOCK, block, find

ROOT = Path(__file__).parent.parent
RUNNERS = ROOT / "examples" / "runners"
CORE = ROOT / "src" / "rethined" / "assets" / "rethined.onnx"
NET = [(x, 0, x + 400, 900, 11) for x in range(-400, 1200, 90)]  # of many windows, each of which sees others' fills
WIRE = [(40, 90, 1000, 610, 5)]  # lines: from x, y to x, y, and how thick
DUST = [  # which a grid of all would lose, and what is large beside it
    (650, 1500, 1250, 1700, 500),
    (1300, 300, 1900, 420, 9),
    (1700, 1500, 1700, 1500, 21),
    (150, 1890, 150, 1890, 15),
]
SPOTS = [
    (250, 330, 250, 330, 210),
    (1700, 90, 1720, 430, 99),
    (900, 1050, 1160, 1180, 220),
    (1950, 1250, 1950, 1250, 9),
]
THINGS = [(360, 420, 640, 520, 240), (1650, 900, 1720, 1010, 70)]  # dark, of which the hole leaves a rim
PIECES: dict[str, tuple[str, int, int, Any]] = {  # name: photo, height, width, and how much is hole, or lines
    "512": ("stones", 512, 512, 0.3),
    "1024x768": ("city", 768, 1024, 0.15),
    "2048": ("piazza", 2048, 2048, 0.2),
    "odd": ("city", 701, 333, 0.4),
    "nothing known": ("stones", 40, 37, 1.0),
    "wire": ("piazza", 683, 1024, WIRE),
    "dust": ("piazza", 2048, 2048, DUST),
    "spots": ("city", 1365, 2048, SPOTS),
    "rim": ("piazza", 1365, 2048, THINGS),
    "net": ("city", 900, 1200, NET),
}


class Case(NamedTuple):
    image: Any
    hole: Any
    want: Any
    photo: Path
    """The image as PPM."""
    mask: Path
    """The hole as PGM."""

    def check(self, got: Any, backend: Backend | None = None, exact: bool = True) -> None:
        """Pixel by pixel, or if not `exact`, where ONNX Runtime is of another version, to one grey level in 99.9 % of
        hole pixels; known ones bit by bit.

        `backend`: the core as that program ran it. Another runtime's floats differ in the seventh digit, which may
        now and then round a query otherwise: then some cells find another source, and their region moves otherwise.
        """
        np.testing.assert_array_equal(got[~self.hole], self.image[~self.hole])
        want = self.want
        if backend is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RethinedWarning)
                want = Engine(backend=backend)(self.image, self.hole)
            assert (np.abs(want.astype(int) - self.want).max(-1)[self.hole] <= 1).mean() > 0.8
        apart = np.abs(got.astype(int) - want).max(-1)[self.hole]
        assert (apart <= 1).mean() >= 0.999
        assert not exact or not apart.any(), (apart > 0).sum()


class Answered:
    """A core that has answered already, for one window."""

    def __init__(self, answer: CoreOutput) -> None:
        self.config, self.size, self._answer = ModelConfig(), None, answer

    def run(self, image: Any, mask: Any, detail: Any) -> CoreOutput:
        return self._answer

    def describe(self) -> dict[str, Any]:
        return {}


class OpenVino:
    """The core as the C++ runner runs it."""

    def __init__(
        self, core: Path = CORE, size: tuple[int, int] | None = None, config: ModelConfig | None = None
    ) -> None:
        import openvino

        self.config, self.size = config or ModelConfig(), size
        self._core = openvino.Core().compile_model(core, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(self, image: Any, mask: Any, detail: Any) -> CoreOutput:
        result = self._core({"image": image, "mask": mask} | ({} if detail is None else {"detail": detail}))
        return CoreOutput(*(np.array(result[name]) for name in ("low", "query", "key")))

    def describe(self) -> dict[str, Any]:
        return {}


def write(path: Path, pixels: Any) -> Path:
    kind = 6 if pixels.ndim == 3 else 5
    path.write_bytes(b"P%d\n%d %d\n255\n" % (kind, pixels.shape[1], pixels.shape[0]) + pixels.tobytes())
    return path


def read(path: Path, like: Any) -> Any:
    return np.frombuffer(path.read_bytes()[-like.size :], np.uint8).reshape(like.shape)


def lines(height: int, width: int, drawn: list[tuple[int, ...]]) -> Any:
    hole = np.zeros((height, width), np.uint8)
    for x0, y0, x1, y1, thick in drawn:
        cv2.line(hole, (x0, y0), (x1, y1), 1, thick)
    return hole > 0


def covered(height: int, width: int, seed: int, coverage: float) -> Any:
    return free_form(height, width, np.random.default_rng(seed), coverage=(coverage - 0.05, coverage + 0.05))


def stained(image: Any, hole: Any) -> Any:
    """`image` with something dark in the `hole`, whose edge is not sharp."""
    share = cv2.GaussianBlur(hole.astype(np.float64), (0, 0), 2)[..., None]
    return (image * (1 - share) + share * np.array([60, 30, 20])).round().astype(np.uint8)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder, engine, made = tmp_path_factory.mktemp("cases"), Engine(), {}
    for seed, (name, (photo, height, width, drawn)) in enumerate(PIECES.items()):
        with Image.open(ROOT / "examples" / "photos" / f"{photo}.jpg") as file:
            image = cv2.resize(np.asarray(file.convert("RGB")), (width, height), interpolation=cv2.INTER_AREA)
        if drawn == 1:
            hole = np.ones((height, width), np.bool_)
            with pytest.warns(RethinedWarning, match="smooth guess"):
                want = engine(image, hole)
        else:
            hole = lines(height, width, drawn) if isinstance(drawn, list) else covered(height, width, seed, drawn)
            image = stained(image, hole) if drawn is THINGS else image
            want = engine(image, hole)
        files = write(folder / f"{seed}.ppm", image), write(folder / f"{seed}.pgm", hole.astype(np.uint8) * 255)
        made[name] = Case(image, hole, want, *files)
    return made


def test_one_has_a_rim(cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rim, "find", lambda image, holes: None)
    case = cases["rim"]
    with pytest.raises(AssertionError):
        case.check(Engine()(case.image, case.hole))


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def python_runner() -> Any:
    """As a module."""
    spec = importlib.util.spec_from_file_location("runner", RUNNERS / "python" / "inpaint.py")
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    return runner


def scattered(height: int, width: int, seed: int) -> tuple[Any, Any]:
    """Specks, a wire and a stroke, but for seed 0 a box, too; for 4 a net, which is to be cut however much of it that
    cuts through, and for 5 that alone; for 6 a fence, and for 7 one with a square that is no bar. And the engine's
    windows as the pipeline has them."""
    rng = np.random.default_rng(seed)
    drawn = [(x, y, x, y, thick) for x, y, thick in rng.integers((0, 0, 5), (width, height, 30), (60, 3)).tolist()]
    drawn += [(0, height // 2, width, height // 3, 9), (width // 2, 0, width // 3, height // 4, 90)]
    if seed > 3:
        net = [(x, 0, x + 500, height, 7) for x in range(-500, width, 90)]
        drawn = net + [(0, y, width, y - 300, 12) for y in range(0, height + 300, 110)] + drawn * (seed == 4)
    if seed > 5:
        drawn = [
            (x, 0, x + run, height, 60) for x in range(-height, width + height, 200) for run in (-height, height)
        ]
    hole = lines(height, width, drawn)
    if seed in (4, 5):
        hole[:, width * 4 // 5 :] = False
    if seed == 7:
        hole[height // 4 : height * 3 // 4, : width // 3] = True
        hole[:, width // 3 : width // 3 + 80] = False
    if 0 < seed < 5:
        hole[height // 3 : height * 3 // 4, width // 4 : width * 2 // 3] = True
    blocks, full = np.zeros((2, *(-(-side // BLOCK) for side in hole.shape)), np.bool_)
    block(hole, blocks, full, 0, len(blocks))
    found = find(blocks, full, height, width, 32)
    shown = [(slice(top, top + h), slice(left, left + w)) for top, left, h, w, *_ in found]
    return hole, [numbers(part, *ends) for part, ends in zip(found, shown, strict=True)]


def numbers(part: Any, rows: slice, columns: slice) -> list[int]:
    """Of a window that shows these rows and columns."""
    ends = [(axis.start, axis.stop) for axis in (rows, columns, *part.holes)]
    return [int(2 * part.scale), *ends[0], *ends[1], part.rows, part.columns, *ends[2], *ends[3]]


SCATTERED = [
    (2400, 3600, 0),
    (2400, 3600, 1),
    (3100, 2300, 2),
    (2011, 2963, 3),
    (2013, 2967, 4),
    (2013, 2967, 5),
    (2013, 2967, 6),
    (2013, 2967, 7),
]


@pytest.mark.parametrize("size", SCATTERED)
def test_python_finds_the_windows(size: tuple[int, int, int]) -> None:
    hole, want = scattered(*size)
    assert len({halves for halves, *_ in want}) == (1 if size[2] in (5, 6) else 2)
    assert [numbers(part, *part.shown) for part in python_runner().windows(hole)] == want


@pytest.mark.parametrize("name", PIECES)
def test_python(cases: dict[str, Case], name: str, tmp_path: Path) -> None:
    case, out = cases[name], tmp_path / "out.ppm"
    run(sys.executable, "-I", RUNNERS / "python" / "inpaint.py", CORE, case.photo, case.mask, out)
    case.check(read(out, case.image))


class Loaded:
    """A core in any format, as the Python runner asks ONNX Runtime."""

    def __init__(self, run: Callable[[Any], Any]) -> None:
        self._run = run

    def run(self, names: list[str], feeds: dict[str, Any]) -> Any:
        assert (names, [*feeds]) == (["low", "query", "key"], ["image", "mask", "detail"])
        return self._run(tuple(feeds.values()))

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name, shape=[1, 3, "height", "width"]) for name in ("image", "mask", "detail")]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, tuple[int, int]], Loaded]:
    """The package's core in a format and a precision, for a grid where the format takes one alone; made once."""
    formats = importlib.import_module("rethined.export.formats")
    folder, made = tmp_path_factory.mktemp("stored"), {}

    def get(name: str, precision: str, grid: tuple[int, int]) -> Loaded:
        for package in formats.missing_packages(name):
            pytest.skip(f"{package} is not installed")
        form, module = formats.FORMATS[name], importlib.import_module(f"rethined.export.{name}")
        core = importlib.import_module("rethined.export.core")
        sizes = None if form.any_size else [core.Size(*grid)]
        key = name, precision, sizes and tuple(sizes)
        if key not in made:
            path = folder / f"{len(made)}{form.suffix}"
            if (name, precision) == ("onnx", "fp16"):  # what the package holds
                path = CORE
            else:
                model, metadata = core.load_weights(None)
                module.convert(model, path, sizes, precision, metadata, [])
            made[key] = Loaded(module.load(path, 2))
        return made[key]

    return get


ONE_WINDOW = [name for name, (_, _, _, drawn) in PIECES.items() if isinstance(drawn, float) and drawn < 1]


@pytest.mark.parametrize(
    ("form", "name"),
    [(form, name) for form in ("onnx", "openvino", "ncnn") for name in ONE_WINDOW] + [("litert", "512")],
)
def test_weights_in_16_bits_fill_alike(
    stored: Callable[[str, str, tuple[int, int]], Loaded], cases: dict[str, Case], form: str, name: str
) -> None:
    runner, case = python_runner(), cases[name]
    (window,) = runner.windows(case.hole)
    grid = window.rows, window.columns
    exact, half = (
        runner.inpaint(stored(form, precision, grid), case.image, case.hole) for precision in ("fp32", "fp16")
    )
    assert np.abs(half.astype(int) - exact).max() <= (form != "onnx")
    if form == "onnx":  # another runtime's rounding may choose other sources
        case.check(half)


def test_python_needs_numpy_and_onnxruntime_alone() -> None:
    tree = ast.parse((RUNNERS / "python" / "inpaint.py").read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name for name in names if name not in sys.stdlib_module_names} == {"numpy", "onnxruntime"}


@pytest.fixture(scope="module")
def typescript() -> Path:
    """The folder of the TypeScript runner, compiled."""
    need("node")
    folder = RUNNERS / "typescript"
    for package in ("typescript", "onnxruntime-node", "onnxruntime-web"):
        if not (folder / "node_modules" / package).is_dir():
            pytest.skip(f"{package} is not installed; run: npm ci --ignore-scripts, in {folder.relative_to(ROOT)}")
    run("node", folder / "node_modules" / "typescript" / "bin" / "tsc", "--project", folder)
    return folder


@pytest.mark.parametrize("name", PIECES)
def test_node(typescript: Path, cases: dict[str, Case], name: str, tmp_path: Path) -> None:
    case, out = cases[name], tmp_path / "out.ppm"
    run("node", typescript / "dist" / "node.js", CORE, case.photo, case.mask, out)
    case.check(read(out, case.image), exact=False)


@pytest.fixture(scope="module")
def page(typescript: Path, pipeline: Path) -> Iterator[Any]:
    """The demo page in Chromium; the runner's core at rethined.onnx, the pipeline at dist/pipeline.onnx."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    need("chromium")
    shutil.copy(pipeline, typescript / "dist" / "pipeline.onnx")
    server = ["node", str(typescript / "dist" / "serve.js"), str(CORE), "0"]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process, playwright.sync_playwright() as play:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        flags += "--disable-component-update --disable-sync"
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=flags.split())
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(address)
        said(page, "Ready")
        yield page
        browser.close()
        process.terminate()


def said(page: Any, begin: str) -> str:
    page.wait_for_function(f"document.getElementById('said').value.startsWith('{begin}')")
    return str(page.evaluate("document.getElementById('said').value"))


IN_PAGE = """async ([image, mask, width, height, pipeline]) => {
  const ort = await import("onnxruntime-web/wasm");
  const { inpaint, onnxCore } = await import("./dist/rethined.js");
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const base64 = (data) => {
    let text = "";
    for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
    return btoa(text);
  };
  const answers = [];
  const core = onnxCore(ort.Tensor, await ort.InferenceSession.create("rethined.onnx"));
  const heard = async (...inputs) => {
    const answer = await core(...inputs);
    answers.push(inputs[3], inputs[4]);
    for (const name of ["low", "query", "key"]) answers.push(base64(new Uint8Array(answer[name].slice().buffer)));
    return answer;
  };
  let result = await inpaint(heard, { data: bytes(image), width, height }, bytes(mask));
  if (pipeline) {
    const session = await ort.InferenceSession.create("dist/pipeline.onnx");
    const feeds = {
      image: new ort.Tensor("uint8", bytes(image), [height, width, 3]),
      mask: new ort.Tensor("uint8", bytes(mask), [height, width]),
    };
    result = (await session.run(feeds)).result.data;
  }
  return [base64(result), ...answers];
}"""


@pytest.mark.parametrize(("name", "whole"), [("512", False), ("odd", False), ("odd", True)])
def test_browser(page: Any, cases: dict[str, Case], name: str, whole: bool) -> None:
    case = cases[name]
    height, width = case.hole.shape
    image, mask = (base64.b64encode(a.tobytes()).decode() for a in (case.image, case.hole.astype(np.uint8) * 255))
    got, h, w, *answers = page.evaluate(IN_PAGE, [image, mask, width, height, whole])
    floats = [np.frombuffer(base64.b64decode(answer), np.float32) for answer in answers]
    shapes = (1, 3, h // 4, w // 4), (1, 32, h // 8, w // 8), (1, 32, h // 8, w // 8)
    answer = CoreOutput(*(values.reshape(shape) for values, shape in zip(floats, shapes, strict=True)))
    case.check(np.frombuffer(base64.b64decode(got), np.uint8).reshape(case.image.shape), Answered(answer))


def test_demo_page(page: Any, cases: dict[str, Case], tmp_path: Path) -> None:
    paint(page, tmp_path / "photo.png", cases["1024x768"].image)
    page.click("#fill")
    assert said(page, "Filled in ").endswith(" ms")
    png = base64.b64decode(page.evaluate("document.getElementById('photo').toDataURL().split(',')[1]"))
    shown = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    changed = (shown != cases["1024x768"].image).any(-1)
    assert 0 < changed.mean() < 0.1  # what was painted, nothing else
    assert not changed[:100].any()


def paint(page: Any, photo: Path, image: Any) -> None:
    """Choose a photo on the demo page, and paint over a part of it."""
    Image.fromarray(image).save(photo)
    page.set_input_files("#file", photo)
    said(page, f"{image.shape[1]} x {image.shape[0]}")
    hole = page.locator("#hole").bounding_box()
    page.mouse.move(hole["x"] + 200, hole["y"] + 200)
    page.mouse.down()
    page.mouse.move(hole["x"] + 400, hole["y"] + 300, steps=10)
    page.mouse.up()


WATCH = """async () => {
  const [said, ...inputs] = ["said", "fill", "file"].map((id) => document.getElementById(id));
  const start = performance.now();
  let last = start, longest = 0, free = 0;
  inputs[0].click();
  while (!/^(Filled|Failed)/.test(said.value)) {
    if (inputs.some((input) => !input.disabled)) free++;
    await new Promise((done) => setTimeout(done));
    longest = Math.max(longest, performance.now() - last), last = performance.now();
  }
  return [said.value, longest, last - start, free];
}"""


def test_demo_page_answers_while_it_computes(page: Any, cases: dict[str, Case], tmp_path: Path) -> None:
    paint(page, tmp_path / "photo.png", cases["2048"].image)
    text, longest, whole, free = page.evaluate(WATCH)
    assert text.startswith("Filled in ")
    assert longest < whole / 2  # of what a page that computed itself would not have answered in
    assert free == 0
    assert page.is_enabled("#fill")
    assert page.is_enabled("#file")


def test_demo_page_says_what_failed(page: Any) -> None:
    other = page.context.browser.new_page()
    other.route("**/rethined.onnx", lambda route: route.fulfill(status=404))
    other.goto(page.url)
    assert said(other, "Failed: ").endswith("rethined.onnx")
    other.close()


@pytest.fixture(scope="module")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ runner, built."""
    need("cmake", "g++")
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    find = "from openvino.utils import get_cmake_path; print(get_cmake_path())"
    found = run(sys.executable, "-c", find).strip()
    build = tmp_path_factory.mktemp("build")
    run("cmake", "-S", RUNNERS / "cpp", "-B", build, "-DCMAKE_BUILD_TYPE=Release", f"-DOpenVINO_DIR={found}")
    run("cmake", "--build", build)
    return build / "rethined"


@pytest.mark.parametrize("name", PIECES)
def test_cpp(cpp: Path, cases: dict[str, Case], name: str, tmp_path: Path) -> None:
    case, out = cases[name], tmp_path / "out.ppm"
    run(cpp, CORE, case.photo, case.mask, out)
    case.check(read(out, case.image), OpenVino())


@pytest.fixture(params=["python", "node", "cpp"])
def program(request: pytest.FixtureRequest) -> list[Any]:
    """The command of each runner."""
    if request.param == "python":
        return [sys.executable, "-I", RUNNERS / "python" / "inpaint.py"]
    if request.param == "node":
        return ["node", request.getfixturevalue("typescript") / "dist" / "node.js"]
    return [request.getfixturevalue("cpp")]


@pytest.fixture(scope="module")
def one_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's core, for one grid alone."""
    formats = importlib.import_module("rethined.export.formats")
    for package in formats.missing_packages("onnx"):
        pytest.skip(f"{package} is not installed")
    path = tmp_path_factory.mktemp("one") / "core.onnx"
    formats.export("onnx", None, path, size="384x512", precision="fp16")
    return path


@pytest.mark.parametrize("name", ["512", "1024x768", "odd", "spots"])
def test_runners_take_a_core_of_one_size(
    program: list[Any], one_size: Path, cases: dict[str, Case], name: str, tmp_path: Path
) -> None:
    case, out = cases[name], tmp_path / "out.ppm"
    run(*program, one_size, case.photo, case.mask, out)
    got, want = read(out, case.image), Engine(one_size)(case.image, case.hole)
    backend = None if program[0] in ("node", sys.executable) else OpenVino(one_size, (384, 512))
    case._replace(want=want).check(got, backend, exact=program[0] != "node")
    with pytest.raises(AssertionError):
        case.check(got)


def changed(path: Path, same: bool = False, **config: object) -> tuple[Path, ModelConfig]:
    """The package's core as if it were of another configuration, and that: without detail it sees none; what is more
    than 32 of queries and keys is 0, and comes first. With `same`, all their numbers are 1 / 8."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    model, helper, made = onnx.load(CORE), onnx.helper, dataclasses.replace(ModelConfig(), **config)
    graph, more = model.graph, made.key_dim - 32
    for output in graph.output[1:]:
        (node,) = (node for node in graph.node if output.name in node.output)
        node.output[:] = [f"{output.name}/32"]
        graph.initializer.append(
            onnx.numpy_helper.from_array(np.array([0, more, 0, 0] + [0] * 4), f"{output.name}/pad")
        )
        padded = f"{output.name}/64" if same else output.name
        graph.node.append(helper.make_node("Pad", [f"{output.name}/32", f"{output.name}/pad"], [padded]))
        if same:
            for name, number, kind, given in (("0", 0, "Mul", padded), ("1", 1 / 8, "Add", f"{output.name}/0")):
                graph.initializer.append(onnx.numpy_helper.from_array(np.float32(number), f"{output.name}/by{name}"))
                made_of = [given, f"{output.name}/by{name}"]
                answer = output.name if kind == "Add" else f"{output.name}/0"
                graph.node.append(helper.make_node(kind, made_of, [answer]))
        output.type.tensor_type.shape.dim[1].dim_value += more
    if not made.detail:
        nothing = onnx.numpy_helper.from_array(np.zeros((6, 1, 8, 8), np.float32), "nothing")
        graph.initializer.append(nothing)
        graph.node.insert(0, helper.make_node("Conv", ["mask", "nothing"], ["detail"], strides=[8, 8]))
        del graph.input[2]
    (told,) = (entry for entry in model.metadata_props if entry.key == "rethined.config")
    told.value = made.to_json()
    path.write_bytes(model.SerializeToString())
    return path, made


@pytest.mark.parametrize(
    "config", [{"detail": False}, {"key_dim": 48}, {"key_dim": 64}, {"key_dim": 64, "same": True}], ids=str
)
def test_runners_take_networks_that_training_can_make(
    program: list[Any], cases: dict[str, Case], config: dict[str, object], tmp_path: Path
) -> None:
    case, out, (core, made) = cases["512"], tmp_path / "out.ppm", changed(tmp_path / "core.onnx", **config)
    run(*program, core, case.photo, case.mask, out)
    if not made.detail or "same" in config:
        case = case._replace(want=Engine(core)(case.image, case.hole))
    backend = OpenVino(core, config=made) if program[1:] == [] else None
    case.check(read(out, case.image), backend, exact=program[0] != "node")


def no_core(path: Path, names: str = "low query key", rank: int = 4) -> Path:
    """A model with a core's inputs, of a `rank`, which answers these `names` with some of them."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, inputs, outputs = onnx.helper, ["image", "mask", "detail"], names.split()
    ends = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * rank) for name in some]
        for some in (inputs, outputs)
    ]
    nodes = [helper.make_node("Identity", [given], [answer]) for given, answer in zip(inputs, outputs, strict=True)]
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(helper.make_graph(nodes, "no core", *ends), opset_imports=opsets, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def small(folder: Path) -> tuple[Path, Path]:
    """A photo and a mask of 40 x 33 pixels."""
    image = np.random.default_rng(0).integers(0, 256, (33, 40, 3), np.uint8)
    mask = np.zeros((33, 40), np.uint8)
    mask[10:20, 15:25] = 255
    return write(folder / "photo.ppm", image), write(folder / "mask.pgm", mask)


def test_runners_read_comments_and_nothing_behind_the_pixels(program: list[Any], tmp_path: Path) -> None:
    photo, mask = small(tmp_path)
    run(*program, CORE, photo, mask, tmp_path / "plain.ppm")
    for path in (photo, mask):
        magic, size, rest = path.read_bytes().split(b"\n", 2)
        path.write_bytes(magic + b" # 7 8\n#\n" + size.replace(b" ", b" # 9\n\t") + b"\n" + rest + b"\n# more\n")
    run(*program, CORE, photo, mask, tmp_path / "commented.ppm")
    assert (tmp_path / "commented.ppm").read_bytes() == (tmp_path / "plain.ppm").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("cut photo", "photo.ppm is cut short"),
        ("cut mask", "mask.pgm is cut short"),
        ("cut header", "photo.ppm is not a binary"),
        ("text", "photo.ppm is not a binary"),
        ("16 bits", "photo.ppm is not a binary"),
        ("comment before pixels", "photo.ppm is not a binary"),
        ("large", "photo.ppm is cut short"),
        ("swapped", "mask.pgm is not a binary"),
        ("other mask", "mask is"),
        ("no photo", "photo.ppm"),
        ("no model", "none.onnx"),
        ("cut model", "cut.onnx"),
        ("pipeline", "pipeline.onnx"),
        ("other outputs", "other.onnx is not a rethined core"),
        ("no low", "other.onnx is not a rethined core"),
        ("other ranks", "other.onnx is not a rethined core"),
        ("other answers", "does not answer with low (3, 16, 16), and query and key (width, 8, 8)"),
        ("no folder", "out.ppm"),
        ("full disk", ""),
        ("full disk, one pixel", ""),
    ],
)
def test_runners_say_in_a_sentence_what_they_were_not_given(
    program: list[Any], pipeline: Path, tmp_path: Path, wrong: str, words: str
) -> None:
    (photo, mask), core, out = small(tmp_path), CORE, tmp_path / "out.ppm"
    pixels = photo.read_bytes()
    if wrong == "cut photo":
        photo.write_bytes(pixels[:-3])
    if wrong == "cut mask":
        mask.write_bytes(mask.read_bytes()[:-1])
    if wrong == "cut header":
        photo.write_bytes(pixels[:8])
    if wrong == "text":
        photo.write_bytes(pixels.replace(b"P6", b"P3", 1))
    if wrong == "16 bits":
        photo.write_bytes(pixels.replace(b"255", b"65535", 1))
    if wrong == "comment before pixels":
        photo.write_bytes(pixels.replace(b"255\n", b"255# more\n", 1))
    if wrong == "large":
        photo.write_bytes(pixels.replace(b"40 33", b"99999999 99999999", 1))
    if wrong == "swapped":
        photo, mask = mask, photo
    if wrong == "other mask":
        write(mask, np.full((40, 33), 255, np.uint8))
    if wrong == "no photo":
        photo.unlink()
    if wrong == "no model":
        core = tmp_path / "none.onnx"
    if wrong == "cut model":
        core = tmp_path / "cut.onnx"
        core.write_bytes(CORE.read_bytes()[:1000])
    if wrong == "pipeline":
        core = pipeline
    if wrong == "other outputs":
        core = no_core(tmp_path / "other.onnx", "one two three")
    if wrong == "no low":
        core = no_core(tmp_path / "other.onnx", "high query key")
    if wrong == "other ranks":
        core = no_core(tmp_path / "other.onnx", rank=1)
    if wrong == "other answers":
        core = no_core(tmp_path / "other.onnx")
    if wrong == "no folder":
        out = tmp_path / "none" / "out.ppm"
    if wrong.startswith("full disk"):
        out = Path("/dev/full")
        if not out.is_char_device():
            pytest.skip("there is no /dev/full")
    if wrong == "full disk, one pixel":
        write(photo, np.zeros((1, 1, 3), np.uint8))
        write(mask, np.zeros((1, 1), np.uint8))
    command = [*program, core, photo, mask, out]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out.ppm").exists()
    if wrong == "other mask":
        assert {"33", "40"} <= set(re.findall(r"\d+", done.stderr))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed")
    from rethined.export.pipeline import export_pipeline

    path = tmp_path_factory.mktemp("pipeline") / "pipeline.onnx"
    assert max(export_pipeline(CORE.name, CORE.read_bytes(), path).values()) <= 1e-3
    return path


@pytest.fixture(scope="module")
def finder() -> Any:
    """Of the pipeline what finds windows, alone."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    import onnxruntime as ort

    from rethined.export import pipeline as made

    g = made.Graph()
    mask = made.Value(g, "mask")
    height, width = (g.gather(g.op("Shape", mask), axis) for axis in (0, 1))
    result = made.find_windows(g, mask, height, width, 32).name
    info = onnx.helper.make_tensor_value_info
    ends = [info("mask", made.BYTE, [None, None])], [info(result, made.INT, [None, None])]
    graph = onnx.helper.make_graph(g.nodes, "windows", *ends, [*g.initializers.values()])
    opsets = [onnx.helper.make_opsetid("", made.OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", SCATTERED)
def test_pipeline_finds_the_windows(finder: Any, size: tuple[int, int, int]) -> None:
    hole, want = scattered(*size)
    (got,) = finder.run(None, {"mask": hole.astype(np.uint8)})
    np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module")
def session(pipeline: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are what is tested
    return ort.InferenceSession(str(pipeline), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", PIECES)
def test_pipeline(session: Any, cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    (got,) = session.run(None, {"image": case.image, "mask": case.hole.astype(np.uint8) * 255})
    case.check(got)


@pytest.mark.filterwarnings("ignore::rethined.errors.RethinedWarning")  # of the least, nothing is known
@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (64, 64), (700, 40)])
@pytest.mark.parametrize("hole", [0.0, 0.5])
def test_pipeline_of_any_shape(session: Any, size: tuple[int, int], hole: float) -> None:
    rng = np.random.default_rng(1)
    image, mask = rng.integers(0, 256, (*size, 3), np.uint8), np.zeros(size, np.bool_)
    mask[:, : round(size[1] * hole)] = True
    (got,) = session.run(None, {"image": image, "mask": mask.astype(np.uint8) * 128})
    np.testing.assert_array_equal(got, Engine()(image, mask))
    np.testing.assert_array_equal(got[~mask], image[~mask])


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.zeros((64, 48, 3), np.uint8), np.zeros((48, 64), np.uint8), "mask_must_have_the_size_of_image"),
        (np.zeros((64, 48, 3), np.uint8), np.zeros((1, 1), np.uint8), "mask_must_have_the_size_of_image"),
        (np.zeros((60, 80, 3), np.uint8), np.zeros((0, 0), np.uint8), "mask_must_have_the_size_of_image"),
        (np.zeros((60, 80, 3), np.uint8), np.zeros((0, 80), np.uint8), "mask_must_have_the_size_of_image"),
        (np.zeros((60, 80, 3), np.uint8), np.zeros((60, 0), np.uint8), "mask_must_have_the_size_of_image"),
        (np.zeros((0, 0, 3), np.uint8), np.zeros((60, 80), np.uint8), "image_must_have_pixels"),
        (np.zeros((0, 80, 3), np.uint8), np.zeros((0, 80), np.uint8), "image_must_have_pixels"),
        (np.zeros((60, 0, 3), np.uint8), np.zeros((60, 0), np.uint8), "image_must_have_pixels"),
        (np.zeros((64, 48, 3), np.float32), np.zeros((64, 48), np.uint8), r"expected: \(tensor\(uint8\)\)"),
        (np.zeros((64, 48, 3), np.uint8), np.zeros((64, 48), np.bool_), r"expected: \(tensor\(uint8\)\)"),
        (np.zeros((64, 48, 4), np.uint8), np.zeros((64, 48), np.uint8), "Got: 4 Expected: 3"),
        (np.zeros((1, 3, 64, 48), np.uint8), np.zeros((64, 48), np.uint8), "Got: 4 Expected: 3"),
    ],
)
def test_pipeline_refuses(session: Any, image: Any, mask: Any, message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        session.run(None, {"image": image, "mask": mask})
    assert type(caught.value).__module__.startswith("onnxruntime")


def test_pipeline_has_standard_operators_alone(pipeline: Path) -> None:
    import onnx

    def nodes(graph: Any) -> Iterator[Any]:
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    yield from nodes(attribute.g)

    model = onnx.load(pipeline)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert not {node.op_type for node in nodes(model.graph) if node.domain}
    assert model.doc_string.startswith("Fills the hole of a photograph")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["rethined.licence"] == "Apache-2.0"
    assert facts["rethined.parameters"] == "888308"
    assert json.loads(facts["rethined.inputs"]).keys() == {"image", "mask", "result"}
    load_weights = importlib.import_module("rethined.export.core").load_weights
    for read in (Engine, load_weights):
        with pytest.raises(WeightsError, match=r"pipeline\.onnx is a pipeline, not a core"):
            read(pipeline)


def test_pipeline_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    from rethined.export import pipeline

    monkeypatch.setattr(pipeline, "CHECKED", ((300, 200, 0.2),))
    monkeypatch.setattr(pipeline, "pseudo_random", lambda cell, number: (cell % 65521, cell % 65521))
    with pytest.raises(BackendError, match="disagrees with the engine"):
        pipeline.export_pipeline(CORE.name, CORE.read_bytes(), tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


def test_pipeline_of_what_is_no_core(pipeline: Path, tmp_path: Path) -> None:
    from rethined.export.pipeline import export_pipeline

    for core, message in (
        (b"nothing of the kind", "some.onnx is not an ONNX file"),
        (b"", "some.onnx is not a rethined core"),
        (pipeline.read_bytes(), "some.onnx is a pipeline, not a core"),
    ):
        with pytest.raises(WeightsError, match=message):
            export_pipeline("some.onnx", core, tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_pipeline_of_a_core_of_one_size_is_refused(rethined: Any, tmp_path: Path, precision: str) -> None:
    formats = importlib.import_module("rethined.export.formats")
    for package in formats.missing_packages("onnx"):
        pytest.skip(f"{package} is not installed")
    photos = ROOT / "examples/photos" if precision == "int8" else None
    formats.export("onnx", None, tmp_path / "one.onnx", size="64x96", precision=precision, calibration=photos)
    done = rethined("export", "pipeline", "one.onnx", "-o", "out.onnx")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: one.onnx takes 64x96 alone and a pipeline any size")
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_pipeline_replaces_nothing_and_names_its_extra(rethined: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    (tmp_path / "out.onnx.sha256").write_text("mine")
    done = rethined("export", "pipeline", "-o", "out.onnx")
    assert done.returncode == 2
    assert b"out.onnx.sha256 exists already" in done.stderr
    done = rethined("export", "pipeline", "-o", "other.onnx", prelude="import sys; sys.modules['onnx'] = None")
    assert done.returncode == 2
    assert b"pip install 'rethined[export]'" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["out.onnx.sha256"]
    assert (tmp_path / "out.onnx.sha256").read_text() == "mine"


@pytest.mark.parametrize("sample", ["swift/Inpainter.swift", "kotlin/Inpainter.kt"])
def test_samples_parse(sample: str) -> None:
    language = sample.split("/")[0]
    tree_sitter = pytest.importorskip("tree_sitter", reason="tree-sitter is not installed")
    grammar = pytest.importorskip(f"tree_sitter_{language}", reason=f"tree-sitter-{language} is not installed")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    source = (RUNNERS / sample).read_bytes()
    assert not parser.parse(source).root_node.has_error
    assert parser.parse(source + b"fun func {").root_node.has_error
