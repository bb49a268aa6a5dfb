"""Exports: each file does on its runtime what PyTorch does, or is not written."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from safetensors.torch import save_file

from rethined import Engine
from rethined.bench import device, schema, web
from rethined.config import DEFAULT, PAPER, ModelConfig
from rethined.errors import BackendError, InputError, WeightsError
from rethined.export import core, formats, hub
from rethined.export.onnx import ALLOWED, quiet, session, to_onnx
from rethined.export.pipeline import to_pipeline
from rethined.model import Rethined
from rethined.model.pipeline import Core

ROOT = Path(__file__).parents[1]
SMALL = dataclasses.replace(DEFAULT, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1))
SIZE = "64x96"


def write_weights(path: Path, config: ModelConfig) -> Path:
    """A network that draws something, as training writes it."""
    torch.manual_seed(0)
    model = Rethined(config)
    torch.nn.init.normal_(model.coarse.head.weight, std=0.1)
    torch.nn.init.normal_(model.coarse.head.bias, std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # no two layers alike, which would be written once
            torch.nn.init.normal_(module.bias, std=0.1)
    save_file(model.state_dict(), path, {"rethined.config": config.to_json(), "rethined.training": "none"})
    return path


@pytest.fixture(autouse=True, scope="module")
def once() -> Iterator[None]:
    """Every graph is made once: tracing is most of what an export takes."""
    made: dict[tuple[Any, ...], bytes] = {}

    def remembered(
        model: Rethined, metadata: dict[str, str], size: core.Size | None = None, *, half: bool = False
    ) -> bytes:
        weights = sum(float(value.sum()) for value in model.state_dict().values())
        key = (model.config, weights, model.coarse.by_rows, size, half)
        if key not in made:
            made[key] = to_onnx(model, metadata, size, half=half)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rethined.export.onnx.to_onnx", remembered)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "small.safetensors", SMALL)


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The small network in a format and a precision, for 64x96; made once."""
    folder, made = tmp_path_factory.mktemp("exported"), {}

    def get(name: str, precision: str) -> Path:
        for package in formats.missing_packages(name):
            pytest.skip(f"{package} is not installed")
        if (name, precision) not in made:
            path = folder / f"{name}-{precision}{formats.FORMATS[name].suffix}"
            photos = ROOT / "examples/photos" if precision == "int8" else None
            formats.export(name, weights, path, size=SIZE, precision=precision, calibration=photos)
            made[name, precision] = path
        return made[name, precision]

    return get


STORED = [name for name, form in formats.FORMATS.items() if "fp16" in form.precisions and not form.computes_in_half]


@pytest.mark.parametrize("name", STORED)
def test_weights_stored_in_16_bits_are_the_same_function(exported: Callable[[str, str], Path], name: str) -> None:
    """Bit for bit, in a smaller file."""
    module = importlib.import_module(f"rethined.export.{name}")
    paths = [exported(name, precision) for precision in ("fp32", "fp16")]
    exact, half = (module.load(path, 2) for path in paths)
    beside = formats.FORMATS[name].beside
    exact_bytes, half_bytes = (path.with_suffix(beside or path.suffix).stat().st_size for path in paths)
    assert half_bytes < exact_bytes
    for seed in range(3):
        inputs = tuple(value.numpy() for value in core.sample(SMALL, core.Size(64, 96), seed))
        for ours, theirs in zip(half(inputs), exact(inputs), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_weights_are_rounded_once() -> None:
    """What runtimes get is in half precision, without numbers below 2^-14; what it came from is as it was."""
    torch.manual_seed(0)
    model = Rethined(SMALL)
    with torch.no_grad():
        model.coarse.head.bias[:] = torch.tensor([1 + 2**-12, -(2.0**-15), 2.0**-14])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deployed = Core(model)
    for weight in deployed.parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weight.half().float())
        assert not ((weight != 0) & (weight.abs() < 2**-14)).any()
    assert deployed.model.coarse.head.bias.tolist() == [1, 0, 2**-14]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for exact, rounded in zip(model.fused_copy().parameters(), deployed.parameters(), strict=True):
        torch.testing.assert_close(rounded, exact, rtol=2**-11, atol=2**-14)


@pytest.mark.parametrize("value", [70000.0, np.nan])
def test_weights_beyond_half_precision_are_refused(tmp_path: Path, value: float) -> None:
    model = Rethined(SMALL)
    with torch.no_grad():
        model.coarse.head.weight[0, 0] = value
    path = tmp_path / "large.safetensors"
    save_file(model.state_dict(), path, {"rethined.config": SMALL.to_json()})
    for name, form in formats.FORMATS.items():
        if not formats.missing_packages(name):
            with pytest.raises(WeightsError, match=r"a weight is (7e\+04|nan) .*half precision the largest is 65504"):
                formats.export(name, path, tmp_path / f"core{form.suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


EVERY = [(name, precision) for name, form in formats.FORMATS.items() for precision in form.precisions]


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_what_is_written_does_what_pytorch_does(
    exported: Callable[[str, str], Path], weights: Path, name: str, precision: str
) -> None:
    """Once more from the files alone, on inputs that the exporter has not seen."""
    path = exported(name, precision)
    model, _ = core.load_weights(weights)
    run = importlib.import_module(f"rethined.export.{name}").load(path, 2)
    inputs = core.sample(model.config, core.Size(64, 96), 77)
    got = run(tuple(value.numpy() for value in inputs))
    with torch.no_grad():
        want = [value.numpy() for value in Core(model).eval()(*inputs)]
    for ours, theirs in zip(got, want, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == np.float32
        apart = np.abs(ours - theirs)
        allowed = formats.tolerance(name, precision)
        assert apart.max() <= allowed
        assert apart.mean() <= {1e-4: 1e-5, 2 / 255: 2e-3, 0.5: 0.05}[allowed]
        if precision == "int8":
            assert apart.max() > 0, "nothing was quantised"


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_no_operator_is_a_surprise(exported: Callable[[str, str], Path], name: str, precision: str) -> None:
    module = importlib.import_module(f"rethined.export.{name}")
    found = module.operators(exported(name, precision))
    assert len(found) > 3
    assert found <= module.ALLOWED


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_fixed_core_is_what_compilers_ask_for(exported: Callable[[str, str], Path], precision: str) -> None:
    """TensorRT, QNN, browsers: constant shapes of rank 4 at most, no integers but constants, plain resizing."""
    proto = onnx.shape_inference.infer_shapes(onnx.load(exported("onnx", precision)), strict_mode=True)
    assert proto.opset_import[0].version == 18
    constants = {tensor.name for tensor in proto.graph.initializer}
    values = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]
    assert len(values) > 50
    for value in values:
        kind = value.type.tensor_type
        assert kind.elem_type not in (TensorProto.INT64, TensorProto.BOOL), value.name
        assert len(kind.shape.dim) <= 4, value.name
        assert all(dimension.dim_value > 0 for dimension in kind.shape.dim), value.name
    for node in proto.graph.node:
        assert node.domain == "", node.name
        if node.op_type in ("Resize", "Reshape", "Split"):
            assert all(name in constants for name in node.input[1:] if name), node.name
        if node.op_type == "Resize":
            attributes = {attribute.name: attribute for attribute in node.attribute}
            assert "antialias" not in attributes or attributes["antialias"].i == 0
    half = {tensor.data_type for tensor in proto.graph.initializer if "weight" in tensor.name}
    assert (
        half
        == {
            "fp32": {TensorProto.FLOAT},
            "fp16": {TensorProto.FLOAT16},
            "int8": {TensorProto.FLOAT, TensorProto.INT8},
        }[precision]
    )


def test_a_size_given_twice_is_one_size() -> None:
    assert core.parse_sizes("512x512, 448x576,512x512", 32) == [core.Size(512, 512), core.Size(448, 576)]


def test_one_core_takes_any_size(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "core.onnx"
    difference, size = formats.export("onnx", weights, path)
    assert size == path.stat().st_size
    assert max(difference.values()) < 1e-5
    assert {node.op_type for node in onnx.load(path).graph.node} <= ALLOWED
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*onnx.load(path).graph.input, *onnx.load(path).graph.output)
    }
    assert shapes["image"] == [1, 3, "height", "width"]
    assert shapes["low"] == [1, 3, "height/4", "width/4"]
    assert shapes["query"] == shapes["key"] == [1, 32, "height/8", "width/8"]
    assert path.with_name("core.onnx.sha256").read_text().split() == [
        hashlib.sha256(path.read_bytes()).hexdigest(),
        "core.onnx",
    ]
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    hole = np.zeros((70, 90), np.bool_)
    hole[30:40, 30:50] = True
    assert (Engine(path)(image, hole)[~hole] == image[~hole]).all()


def compare(name: str, path: Path, weights: Path, precision: str, sizes: list[core.Size]) -> None:
    """The file alone with PyTorch, at sizes and on inputs that the exporter may not have seen."""
    model, _ = core.load_weights(weights)
    module = importlib.import_module(f"rethined.export.{name}")
    assert module.operators(path) <= module.ALLOWED
    run = module.load(path, 2)
    for seed, size in enumerate(sizes, 50):
        inputs = core.sample(model.config, size, seed)
        with torch.no_grad():
            want = Core(model).eval()(*inputs)
        for ours, theirs in zip(run(tuple(value.numpy() for value in inputs)), want, strict=True):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs.numpy()).max() <= formats.tolerance(name, precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_one_openvino_core_takes_any_size(weights: Path, tmp_path: Path, precision: str) -> None:
    for package in formats.missing_packages("openvino"):
        pytest.skip(f"{package} is not installed")
    path = tmp_path / "core.xml"
    photos = ROOT / "examples/photos" if precision == "int8" else None
    formats.export("openvino", weights, path, precision=precision, calibration=photos)
    assert json.loads(path.with_name("core.xml.json").read_text())["sizes"] == "any"
    compare("openvino", path, weights, precision, [core.Size(96, 352), core.Size(224, 64)])


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_one_core_ml_program_takes_several_sizes(weights: Path, tmp_path: Path, precision: str) -> None:
    for package in formats.missing_packages("coreml"):
        pytest.skip(f"{package} is not installed")
    path, sizes = tmp_path / "core.mlpackage", "64x96,96x64,128x128"
    formats.export("coreml", weights, path, size=sizes, precision=precision)
    assert json.loads(path.with_name("core.mlpackage.json").read_text())["sizes"] == sizes.split(",")
    compare("coreml", path, weights, precision, core.parse_sizes(sizes, SMALL.stride))


@pytest.mark.parametrize("hole", ["a spot", "spots far apart", "most of it"])
def test_the_engine_takes_a_core_of_one_size(weights: Path, tmp_path: Path, hole: str) -> None:
    path = tmp_path / "core.onnx"
    formats.export("onnx", weights, path, size="128x192")
    image = np.random.default_rng(0).integers(0, 256, (333, 470, 3), dtype=np.uint8)
    mask = np.zeros((333, 470), np.bool_)
    mask[150:170, 200:230] = True
    if hole == "spots far apart":
        mask[:9, :9] = mask[-9:, -9:] = True
    if hole == "most of it":
        mask[120:, 200:] = True
    result = Engine(path, threads=1)(image, mask)
    np.testing.assert_array_equal(result[~mask], image[~mask])
    assert (result[mask] != image[mask]).any()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_come_out_of_a_core_again(
    exported: Callable[[str, str], Path], weights: Path, precision: str
) -> None:
    again, metadata = core.load_weights(exported("onnx", precision))
    assert metadata["rethined.training"] == "none"
    trained = dict(Core(core.load_weights(weights)[0]).named_parameters())
    for name, weight in Core(again).named_parameters():
        if not name.endswith("temperature"):  # which a core that searches does without
            assert torch.equal(weight, trained[name]), name


def test_biases_of_zero_come_out_again(weights: Path, tmp_path: Path) -> None:
    """The exporter leaves them out."""
    model, metadata = core.load_weights(weights)
    torch.nn.init.zeros_(model.coarse.head.bias)
    (tmp_path / "core.onnx").write_bytes(to_onnx(model, metadata))
    again, _ = core.load_weights(tmp_path / "core.onnx")
    for (name, weight), (_, other) in zip(
        Core(model).named_parameters(), Core(again).named_parameters(), strict=True
    ):
        assert torch.equal(weight, other) or name.endswith("temperature"), name


def test_without_weights_it_is_the_package_s_own() -> None:
    model, metadata = core.load_weights(None)
    assert metadata["rethined.config"] == model.config.to_json()
    packaged = ROOT / "src/rethined/assets/rethined.onnx"
    run = session(packaged.read_bytes())
    assert max(core.differences(model, run, [core.Size(96, 64)]).values()) < 1e-5
    assert packaged.stat().st_size < 2.2 * sum(weight.numel() for weight in Core(model).parameters())


def test_a_runtime_that_differs_gets_no_file(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (1e-3, np.nan):

        def load(path: Path, threads: int, wrong: float = wrong) -> core.Run:
            run = session(path.read_bytes())
            return lambda inputs: tuple(value + wrong for value in run(inputs))

        monkeypatch.setattr("rethined.export.onnx.load", load)
        with pytest.raises(BackendError, match=r"ONNX core differs from PyTorch by low .* nothing is written"):
            formats.export("onnx", weights, tmp_path / "wrong.onnx", size=SIZE)
        assert not list(tmp_path.iterdir())


def test_an_operator_that_is_not_allowed_gets_no_file(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rethined.export.onnx.ALLOWED", ALLOWED - {"Resize"})
    with pytest.raises(BackendError, match="Resize"):
        formats.export("onnx", weights, tmp_path / "wrong.onnx", size=SIZE)
    assert not list(tmp_path.iterdir())


def test_files_beside_say_what_they_are(exported: Callable[[str, str], Path]) -> None:
    path = exported("openvino", "fp16")
    told = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert told["sizes"] == [SIZE]
    assert told["precision"] == "fp16"
    assert told["rethined.licence"] == "Apache-2.0"
    assert ModelConfig.from_json(told["rethined.config"]) == SMALL
    assert told["sha256"].keys() == {path.name, path.with_suffix(".bin").name}
    for name, digest in told["sha256"].items():
        assert hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == digest


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("tea", {}, r"'tea'; choose one of onnx, openvino, coreml, executorch, litert, ncnn, pipeline or hub"),
    ("onnx", {"size": "512"}, r"multiples of 32 from 32 to 4096, such as 512x512"),
    ("onnx", {"size": "100x512"}, r"100x512"),
    ("onnx", {"size": ""}, r"size is empty; give HEIGHTxWIDTH"),
    ("onnx", {"size": "64x64,"}, r"size is empty"),
    ("onnx", {"size": "٦٤x٦٤"}, r"multiples of 32"),
    ("onnx", {"size": "99999x64"}, r"size is 99999x64"),
    ("onnx", {"precision": ""}, r"not exported in '' but in fp32"),
    ("onnx", {"size": "64x64,96x96"}, r"several work with coreml"),
    ("onnx", {"precision": "int4"}, r"fp32 or fp16 or int8"),
    ("ncnn", {"precision": "int8"}, r"int8 works with onnx and openvino"),
    ("onnx", {"precision": "int8"}, r"--calibration"),
    ("onnx", {"calibration": Path()}, r"leave it out"),
    ("onnx", {"precision": "int8", "calibration": Path("nowhere")}, r"no photograph"),
]


@pytest.mark.parametrize(("name", "options", "words"), BAD)
def test_what_cannot_be_is_refused_in_one_sentence(
    weights: Path, tmp_path: Path, name: str, options: dict[str, Any], words: str
) -> None:
    suffix = formats.FORMATS[name].suffix if name in formats.FORMATS else ".x"
    with pytest.raises(InputError, match=words) as caught:
        formats.export(name, weights, tmp_path / f"out{suffix}", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_outputs_are_not_guessed_and_not_overwritten(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.xml"):
        formats.export("openvino", weights, tmp_path / "core.onnx")
    for out in ("core", "core.json", "core.onnx.sha256", "core.ONNX", "."):
        with pytest.raises(InputError, match=r"ends in \.onnx"):
            formats.export("onnx", weights, tmp_path / out)
    with pytest.raises(InputError, match=r"ends in \.xml"):
        formats.export("openvino", weights, tmp_path / "core.bin")
    with pytest.raises(InputError, match="create it first"):
        formats.export("onnx", weights, tmp_path / "none" / "core.onnx")
    (tmp_path / "core.bin").write_text("mine")
    with pytest.raises(InputError, match=r"core\.bin exists already"):
        formats.export("openvino", weights, tmp_path / "core.xml")
    assert (tmp_path / "core.bin").read_text() == "mine"


def test_a_missing_package_names_the_extra(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = dataclasses.replace(formats.FORMATS["ncnn"], packages=("no_such_package",))
    monkeypatch.setitem(formats.FORMATS, "ncnn", changed)
    with pytest.raises(InputError, match=r"ncnn needs no_such_package; .*'rethined\[ncnn\]'"):
        formats.export("ncnn", weights, tmp_path / "core.param")


def test_weights_of_another_kind_are_refused(weights: Path, tmp_path: Path) -> None:
    mixing = dataclasses.replace(PAPER, widths=(8, 8, 16, 16))
    for config, sentence in ((mixing, "softmax over all"), (dataclasses.replace(mixing, top_k=4), "onnx in fp32")):
        attending = write_weights(tmp_path / "paper.safetensors", config)
        with pytest.raises(InputError, match=sentence):
            formats.export("openvino", attending, tmp_path / "core.xml")
    with pytest.raises(InputError, match="softmax over all"):  # by the pipeline and eval, too
        to_onnx(Rethined(mixing), {})
    newer = tmp_path / "newer.safetensors"
    state = core.load_weights(weights)[0].state_dict()
    save_file(state, newer, {"rethined.config": SMALL.to_json().replace('"version": 3', '"version": 9')})
    with pytest.raises(WeightsError, match=r"newer\.safetensors: .*upgrade rethined"):
        formats.export("onnx", newer, tmp_path / "core.onnx")
    save_file(state, newer, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"newer\.safetensors is not a rethined core"):
        formats.export("onnx", newer, tmp_path / "core.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(WeightsError, match=r"text\.onnx"):
        formats.export("onnx", tmp_path / "text.onnx", tmp_path / "core.onnx")


@pytest.mark.parametrize("widths", [(8, 8, 16), (8, 8, 8, 8, 16)])
def test_networks_of_other_strides_export_where_they_attend(widths: tuple[int, ...], tmp_path: Path) -> None:
    """The search, and programs that run its core, rely on 32."""
    depths = (1,) * len(widths)
    config = dataclasses.replace(DEFAULT, search=False, widths=widths, depths=depths)
    other = write_weights(tmp_path / "other.safetensors", config)
    difference, _ = formats.export("onnx", other, tmp_path / "other.onnx")
    assert difference["low"] < 1e-4
    with pytest.raises(InputError, match=r"other\.onnx attends by itself \(search off\), .*rethined inpaint"):
        to_pipeline("other.onnx", (tmp_path / "other.onnx").read_bytes())
    image, hole = np.full((300, 260, 3), 100, np.uint8), np.zeros((300, 260), np.bool_)
    hole[100:180, 90:120] = True
    assert Engine(tmp_path / "other.onnx")(image, hole).shape == image.shape
    with pytest.raises(ValueError, match=f"search needs 4 widths, not {len(widths)}"):
        dataclasses.replace(config, search=True)


def test_weights_do_not_come_out_of_a_quantised_core(exported: Callable[[str, str], Path]) -> None:
    with pytest.raises(InputError, match=r"int8\.onnx is quantised.* in fp32 or fp16, or the safetensors"):
        core.load_weights(exported("onnx", "int8"))


def test_the_command_line_refuses_in_one_line(tmp_path: Path, within: Any) -> None:
    for arguments in (
        ("export", "onnx", "--size", "512", "-o", "x.onnx"),
        ("export", "litert", "--dynamic", "-o", "x.tflite"),
        ("export", "onnx", "--dynamic", "--size", SIZE, "-o", "x.onnx"),
        ("export", "hub", "--precision", "fp16", "-o", "x"),
        ("export", "hub", "-o", "x"),
        ("export", "hub", "--size", "", "-o", "x"),
        ("export", "coreml", "-o", "x"),
        ("export", "pipeline", "-o", "x.txt"),
        ("export", "pipeline", "-o", "."),
    ):
        code, lines = within(*arguments)
        assert code == 2, lines
        assert len(lines) == 1
    assert not list(tmp_path.iterdir())


def test_converters_are_not_heard(capfd: pytest.CaptureFixture[str]) -> None:
    def convert() -> None:
        with quiet():
            os.write(2, b"compiled parts know standard error by its number\n")
            raise InputError("what is wrong")

    with pytest.raises(InputError):
        convert()
    assert capfd.readouterr().err == ""
    os.write(2, b"and it is back\n")
    assert capfd.readouterr().err == "and it is back\n"


@pytest.mark.parametrize("name", formats.FORMATS)
def test_the_command_line_says_nothing_but_what_it_wrote(weights: Path, within: Any, name: str) -> None:
    """In standard error, where a compiled converter writes too."""
    for package in formats.missing_packages(name):
        pytest.skip(f"{package} is not installed")
    output = f"x{formats.FORMATS[name].suffix}"
    assert within("export", name, weights, "--size", SIZE, "-o", output) == (0, [])


PUBLISHED = {"README.md", "LICENSE", "config.json", "model.safetensors", "model.onnx", "model.onnx.sha256"}


def test_a_hub_folder_has_core_ml(weights: Path, tmp_path: Path) -> None:
    for package in formats.missing_packages("coreml"):
        pytest.skip(f"{package} is not installed")
    folder = tmp_path / "hub"
    list(hub.publish(weights, folder))
    package = folder / "RETHINED.mlpackage"
    assert {path.name for path in folder.iterdir()} == PUBLISHED | {package.name, f"{package.name}.json"}
    assert f"`{package.name}`" in (folder / "README.md").read_text()
    assert json.loads((folder / f"{package.name}.json").read_text())["sizes"] == hub.ASPECTS.split(",")
    compare("coreml", package, weights, "fp16", core.parse_sizes(hub.ASPECTS, SMALL.stride)[1:2])


def test_a_hub_folder_loads_again(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "coremltools" else find(name))
    folder = tmp_path / "hub"
    lines = list(hub.publish(weights, folder))
    names = {path.name for path in folder.iterdir()}
    assert names == PUBLISHED
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]
    assert "coreml" in lines[0]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert all(f"`{name}`" in card for name in names - {"README.md", "LICENSE", "model.onnx.sha256"})
    for value in (*onnx.load(folder / "model.onnx").graph.input, *onnx.load(folder / "model.onnx").graph.output):
        sides = [side.dim_value or side.dim_param for side in value.type.tensor_type.shape.dim]
        shape = ", ".join(map(str, sides)).replace("height", "h").replace("width", "w")
        assert f"`{value.name}` | ({shape}) |" in card
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert len({path.stat().st_mode for path in folder.iterdir() if path.is_file()}) == 1  # one may read what all may
    loaded = hub.HubModel.from_pretrained(folder)
    want = core.load_weights(weights)[0].state_dict()
    assert all(torch.equal(value, want[name]) for name, value in loaded.state_dict().items())
    again, metadata = core.load_weights(folder / "model.safetensors")
    assert all(torch.equal(value, want[name]) for name, value in again.state_dict().items())
    assert (metadata["rethined.training"], metadata["rethined.licence"]) == ("none", "Apache-2.0")
    assert Engine(folder / "model.onnx").config == SMALL
    config = folder / "config.json"
    config.write_text(config.read_text().replace('version\\": 3', 'version\\": 9'))
    with pytest.raises(WeightsError, match="upgrade rethined"):
        hub.HubModel.from_pretrained(folder)
    with pytest.raises(InputError, match="exists already"):
        list(hub.publish(weights, folder))
    with pytest.raises(InputError, match="trained on"):
        list(hub.publish(None, tmp_path / "other"))


def test_devices_are_measured(weights: Path) -> None:
    result = device.run_device(weights, ROOT / "examples/photos", runtimes=["onnx"], sizes=[SIZE], runs=1, limit=1)
    assert [row["precision"] for row in result["rows"]] == ["fp32", "fp16", "int8"]
    for row in result["rows"]:
        assert row["runtime"] == "onnx"
        assert row["size"] == SIZE
        assert row["median_ms"] > 0
        assert row["peak_mib"] > 0
        assert 0 < row["difference"] <= formats.tolerance("onnx", row["precision"])
    exact, half, _ = result["rows"]
    for row in (exact, half):
        assert (row["lpips_change"], row["same"]) == (0, 1)
    assert half["difference"] == exact["difference"]
    assert half["file_bytes"] < exact["file_bytes"]
    with pytest.raises(InputError, match="'tea'"):
        device.run_device(weights, ROOT / "examples/photos", runtimes=["tea"])
    with pytest.raises(InputError, match="larger"):
        device.run_device(weights, ROOT / "docs", runtimes=["onnx"])


def measured(weights: Path, *runtimes: str, **more: Any) -> dict[str, Any]:
    return device.run_device(
        weights, ROOT / "examples/photos", runtimes=runtimes, sizes=[SIZE], runs=1, limit=1, **more
    )


def test_the_browser_is_measured(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if absent := web.missing():
        pytest.skip(absent[0])
    result = measured(weights, "web")
    assert [(row["runtime"], row["threads"]) for row in result["rows"]] == [("web", 1), ("web", 2)]
    for row in result["rows"]:
        assert row["median_ms"] > 0
        assert row["ratio"] > 0
        assert row["peak_mib"] > 1
        assert 0 < row["difference"] <= formats.TOLERANCES["fp32"]
        assert row["same"] > 0.95
    assert result["versions_of"]["web"]["onnxruntime-web"]


def test_a_browser_that_is_missing_is_left_out(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    result = measured(weights, "web", "cuda", "litert_gpu", progress=said.append)
    assert result["rows"] == []
    assert said == [f"not installed, left out: {line}" for line in result["absent"]]
    assert "npm ci" in said[0]
    assert "CUDAExecutionProvider" in said[1]
    assert "--told" in said[2]


def test_a_provider_that_does_not_start_is_no_row(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    able = schema.Runtime("Test", "onnx", ("fp32",), "CPUExecutionProvider")
    monkeypatch.setitem(device.RUNTIMES, "cuda", able)
    (row,) = measured(weights, "cuda")["rows"]
    assert (row["runtime"], row["precision"], row["peak_mib"]) == ("cuda", "fp32", None)
    assert row["median_ms"] > 0
    monkeypatch.setitem(device.RUNTIMES, "cuda", dataclasses.replace(able, provider="CUDAExecutionProvider"))
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.warns(UserWarning, match="provider"), pytest.raises(BackendError, match="does not start"):
        measured(weights, "cuda")


def test_times_that_a_phone_told(weights: Path) -> None:
    result = measured(weights, "onnx", told={"fp16": 3.5}, name="Phone 1")
    (row,) = result["rows"]
    assert (row["precision"], row["median_ms"], row["told"]) == ("fp16", 3.5, True)
    assert row["ratio"] is None
    assert row["difference"] > 0
    assert result["machine"]["cpu"] == "Phone 1"
    with pytest.raises(InputError, match="--name"):
        measured(weights, "onnx", told={"fp16": 3.5})
    with pytest.raises(InputError, match="one of each"):
        measured(weights, "onnx", "openvino", told={"fp16": 3.5}, name="Phone 1")
    with pytest.raises(InputError, match="not measured in int4"):
        measured(weights, "onnx", told={"int4": 3.5}, name="Phone 1")
