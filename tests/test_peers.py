"""Peers against their published cost, official names and conventions, and slow forms of what is special to each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from rethined.bench import latency, measure, peers, report
from rethined.bench.cli import register
from rethined.bench.peers import authors, checkpoint, coordfill, fourier, hifill, interface, lama, migan, patchmatch
from rethined.bench.peers.interface import Interface, Method, onnx_method
from rethined.bench.peers.timing import Field, from_spec
from rethined.config import DEFAULT
from rethined.errors import InputError, WeightsError
from rethined.export.core import Size, sample
from rethined.model.pipeline import Core, Rethined

DOCUMENT = Path(__file__).parents[1] / "docs" / "peers.md"

OFFICIAL = {
    "migan": (177, "681391fc254db4f1", {"encoder.b512.fromrgb.weight": (64, 4, 1, 1)}),
    "lama": (989, "1022d1ac9b2da601", {"model.5.conv1.ffc.convg2g.fu.conv_layer.weight": (384, 384, 1, 1)}),
    "coordfill": (272, "a75cd9c04e8b9875", {"asap.lowres_stream.out_para.0.weight": (12995, 513)}),
    "hifill": (192, "01da454d246d075d", {"generator/re_dil_d16/pw": (1, 1, 128, 128)}),
}
"""How many tensors the official code has, the digest of their names and shapes (`digest`), and one of them."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scene(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    mask = np.zeros((height, width), np.bool_)
    mask[height // 4 : height // 2, width // 3 : width // 2] = True
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), mask


def on_meta(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return peers._network(peers.PEERS[name].module)


# --- Published cost and official names ---


@pytest.mark.parametrize("name", peers.PEERS)
def test_cost_is_what_was_published(name: str) -> None:
    cost = peers.cost(name)
    assert cost.parameters / 1e6 == pytest.approx(peers.PEERS[name].parameters, rel=0.01)
    if peers.PEERS[name].gmacs is not None:
        assert cost.macs / 1e9 == pytest.approx(peers.PEERS[name].gmacs, rel=0.01)


def test_cost_at_other_sizes() -> None:
    assert peers.cost("migan", 1024) == peers.cost("migan")
    assert peers.cost("migan_full", 1024).macs == pytest.approx(60e9, rel=0.01)
    assert peers.cost("migan_full", 2000) == peers.cost("migan_full", 2048)
    some = np.zeros((1024, 1024), np.bool_)
    dense, none = peers.cost("coordfill", 1024).macs, peers.cost("coordfill", 1024, some).macs
    some[:256] = True  # a quarter of the cells
    assert peers.cost("coordfill", 1024, some).macs == pytest.approx(none + (dense - none) / 4, rel=1e-6)


COUNTED: dict[str, Callable[[], tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]] = {
    "rethined": lambda: (Core(Rethined(DEFAULT)), sample(DEFAULT, Size(256, 256), 0)),
    "migan": lambda: (migan.Migan(64), blank(64)),
    "lama": lambda: (lama.Lama(2, 16), blank(64)),
    "coordfill": lambda: (coordfill.CoordFill(), blank(64)),
    "hifill": lambda: (hifill.HiFill(), blank(512)),
    "authors": lambda: (authors.Authors(), blank(512)),
}


def blank(size: int) -> tuple[torch.Tensor, ...]:
    return torch.zeros(1, 3, size, size), torch.ones(1, 1, size, size)


@pytest.mark.parametrize("name", COUNTED)
def test_macs_agree_with_fvcore(name: str) -> None:
    """Convolutions and matrix products; fvcore counts resizing and norms as well, PyTorch's counter does not."""
    fvcore = pytest.importorskip("fvcore.nn")
    network, inputs = COUNTED[name]()
    network.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit's, whose tracer fvcore uses
        operators = fvcore.FlopCountAnalysis(network, inputs).unsupported_ops_warnings(False).by_operator()
        with FlopCounterMode(display=False) as counter:
            network(*inputs)
    theirs = sum(operators[key] for key in ("conv", "linear", "matmul", "addmm", "bmm", "einsum"))
    assert theirs == pytest.approx(counter.get_total_flops() / 2, rel=1e-4)


def digest(shapes: dict[str, tuple[int, ...]]) -> str:
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def variables(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """HiFill's parameters as the TensorFlow variables that they come from."""
    found = {}
    for name, shape in shapes.items():
        layer, part, kind = name.removeprefix("layers.").split(".")
        path = f"{layer}/{layer}_conv" if "_up_" in layer or "toRGB" in layer else layer
        if layer.startswith("c_"):
            path += "_feat" if part == "feature" else "_gate"
            path += "/w" if kind == "weight" else "/biases"
        else:
            ends = {"feature.weight": "w", "feature.bias": "biases", "gate.weight": "pw", "gate.bias": "ds_biases"}
            path += "/" + ends[f"{part}.{kind}"]
        found[f"generator/{path}"] = (*shape[2:], shape[1], shape[0]) if len(shape) == 4 else shape
    return found


@pytest.mark.parametrize("name", OFFICIAL)
def test_state_dict_is_the_official_one(name: str) -> None:
    shapes = {key: tuple(value.shape) for key, value in on_meta(name).state_dict().items()}
    if name == "hifill":
        names = variables(shapes)
        for (official, shape), mine in zip(names.items(), shapes, strict=True):
            with torch.device("meta"):
                renamed, value = hifill.rename(official, torch.empty(shape))
            assert (renamed, tuple(value.shape)) == (mine, shapes[mine])
        shapes = names
    count, official, example = OFFICIAL[name]
    assert example.items() <= shapes.items()
    assert (len(shapes), digest(shapes)) == (count, official)


def test_the_authors_names() -> None:
    names = set(on_meta("authors").state_dict())
    assert {"multihead_attention.w_qs.weight", "encoder_decoder.model.stage3.9.reparam_conv.weight"} <= names
    assert {"encoder_decoder.d4.weight", "final_conv.0.weight", "encoder_decoder.model.linear.weight"} <= names


def test_the_document_has_the_table() -> None:
    text = DOCUMENT.read_text()
    assert peers.markdown() in text
    assert all(f"`{name}`" in text for name in peers.names())


GOLDEN = {
    "migan": [0.12425, -0.933976, 0.016589, -0.046437, -0.144968],
    "lama": [0.504564, 0.466511, 0.4815, 0.50301, 0.481676],
    "coordfill": [-0.056418, -0.108287, 0.006006, -0.090803, 0.229225],
    "hifill": [-0.173724, 0.019797, 0.042146, -0.197185, 0.007183],
    "authors": [0.463447, 0.502628, 0.455241, 0.486986, 0.497679],
}
"""What the official code gives at five points with the weights of `numbers`, in each network's own range."""
GAINS = {"lama": 2.4, "hifill": 2.4}


def noise(shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Numbers in (-1, 1) that need no generator: the same in every framework."""
    steps = np.arange(int(np.prod(shape)), dtype=np.float64)
    return np.modf(np.sin(steps * 12.9898 + seed) * 43758.5453)[0].reshape(shape)


def numbers(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Weights of official names and shapes; filters of fixed coefficients are left out."""
    fixed = ("filter_const", "filter.weight", "num_batches_tracked")
    state = {}
    for seed, key in enumerate(sorted(key for key in shapes if not key.endswith(fixed))):
        shape, value = shapes[key], noise(shapes[key], seed)
        if len(shape) >= 2 and "noise" not in key:
            inputs = np.prod(shape[:-1] if name == "hifill" else shape[1:])
            value = GAINS.get(name, 1.2) * value / np.sqrt(inputs)
        elif key.endswith(("running_var", "bn.weight", "bn_l.weight", "bn_g.weight")):
            value = 1 + 0.3 * value
        else:
            value = 0.1 * value
        state[key] = torch.as_tensor(value, dtype=torch.float32)
    return state


@pytest.mark.parametrize("name", GOLDEN)
def test_the_same_weights_give_the_official_picture(name: str) -> None:
    small: dict[str, torch.nn.Module] = {"migan": migan.Migan(64), "lama": lama.Lama(2, 16)}
    network = small[name] if name in small else peers.build(name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    state = numbers(name, variables(shapes) if name == "hifill" else shapes)
    network.load_state_dict(dict(hifill.rename(*item) for item in state.items()), strict=False)
    size, chosen = 64 if name in small else 512, peers.PEERS[name].interface
    black, white = chosen.image
    picture = np.kron((noise((3, size // 8, size // 8), 7) + 1) / 2, np.ones((1, 8, 8))) * (white - black) + black
    hole = np.zeros((size, size), np.bool_)
    hole[size // 4 : size // 2, size // 4 : size * 5 // 8] = True
    if name in ("hifill", "authors"):
        picture *= ~hole
    mask = np.where(hole, chosen.mask[1], chosen.mask[0])
    with torch.no_grad():
        out = network.eval()(torch.from_numpy(picture)[None].float(), torch.from_numpy(mask)[None, None].float())
    points = ((0, 3, 3), (1, 3, 4), (2, 2, 2), (0, 1, 6), (2, 7, 7))
    got = [float(out[0, channel, size * y // 8, size * x // 8]) for channel, y, x in points]
    # float32 sums in another order; LaMa's small one varies by 0.015 only.
    np.testing.assert_allclose(got, GOLDEN[name], rtol=0, atol=1e-5 if name == "lama" else 1e-4)


# --- Weights ---


def test_official_weights_load(tmp_path: Path) -> None:
    """Random ones in official names: MI-GAN's as they are, HiFill's as TensorFlow variables."""
    network = peers.build("migan")
    with torch.no_grad():
        network.get_parameter("synthesis.b512.torgb.bias").fill_(0.25)
    save_file(network.state_dict(), tmp_path / "migan.safetensors")
    loaded = peers.build("migan", tmp_path / "migan.safetensors")
    assert loaded.get_parameter("synthesis.b512.torgb.bias").eq(0.25).all()
    shapes = {key: tuple(value.shape) for key, value in on_meta("hifill").state_dict().items()}
    state = {key: torch.randn(shape) for key, shape in variables(shapes).items()}
    save_file(state, tmp_path / "hifill.safetensors")
    method = peers.load("hifill", tmp_path / "hifill.safetensors")
    assert peers.hashes({"a": method, "b": print}).keys() == {"a"}
    network = peers.build("hifill", tmp_path / "hifill.safetensors")
    want = state["generator/re_dil_d16/w"].permute(3, 2, 0, 1)
    assert torch.equal(network.get_parameter("layers.re_dil_d16.feature.weight"), want)


def test_training_checkpoints_load(tmp_path: Path) -> None:
    """LaMa's is a Lightning checkpoint: nested, other networks beside, a prefix."""
    source, target = lama.Lama(1, 8), lama.Lama(1, 8)
    state = {f"generator.{name}": value for name, value in source.state_dict().items() if "num_batches" not in name}
    state["discriminator.model0.weight"] = torch.zeros(3)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "best.ckpt")
    checkpoint.load(target, tmp_path / "best.ckpt", "LaMa")
    assert torch.equal(target.get_parameter("model.17.weight"), source.get_parameter("model.17.weight"))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must never run",))


def test_wrong_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = lama.Lama(1, 8)
    state = network.state_dict()

    def refused(name: str, content: object, kind: type[Exception], match: str) -> None:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".safetensors":
            assert isinstance(content, dict)
            save_file(content, path)
        else:
            torch.save(content, path)
        with pytest.raises(kind, match=match) as caught:
            checkpoint.load(network, path, "LaMa")
        assert "\n" not in str(caught.value)

    with pytest.raises(InputError, match="no such file"):
        checkpoint.load(network, tmp_path / "none.pt", "LaMa")
    refused("text.pt", b"not weights", WeightsError, "without running code")
    refused("empty.ckpt", b"", WeightsError, "without running code")
    refused("text.safetensors", b"not weights", WeightsError, "not a safetensors file")
    refused("harmful.pt", {"state_dict": Harmful()}, WeightsError, "save its state dict with safetensors")
    refused("list.pt", [1, 2], WeightsError, "holds no state dict")
    refused("numbers.pt", {"epoch": 3}, WeightsError, "holds no state dict")
    refused("other.safetensors", {"a": torch.zeros(1)}, InputError, "weights of LaMa: .* is missing")
    refused("more.pt", state | {"model.99.weight": torch.zeros(1)}, InputError, "model.99.weight besides")
    wide = dict(lama.Lama(1, 16).state_dict())
    refused("wide.pt", wide, InputError, r"is \(16, 4, 7, 7\), wanted \(8, 4, 7, 7\)")
    assert "never run" not in capsys.readouterr().out


# --- Conventions ---


@pytest.mark.parametrize("name", peers.PEERS)
def test_conventions(name: str) -> None:
    """A network that answers grey: known pixels stay bit for bit, the hole is that grey, whatever the range."""
    chosen = peers.PEERS[name].interface
    black, white = chosen.image
    seen = []

    def grey(image: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
        seen.append((image, mask))
        return np.full_like(image, black + (white - black) * 100 / 255)

    for height, width in ((75, 130), (600, 40)):
        image, mask = scene(height, width)
        before = image.copy()
        filled = Method(chosen, grey)(image, mask)
        np.testing.assert_array_equal(filled[~mask], image[~mask])
        np.testing.assert_array_equal(image, before)
        assert (filled[mask] == 100).all()
        x, m = seen[-1]
        assert x.dtype == m.dtype == np.float32
        assert x.shape[2:] == m.shape[2:] == chosen.shape(height, width)
        assert set(np.unique(m)) == set(chosen.mask)
        assert (x.transpose(0, 2, 3, 1)[m[:, 0] == chosen.mask[1]] == 0).all()  # nothing of the hole is seen
        assert x.min() >= black - 1e-6
        assert x.max() <= white + 1e-6
        other = np.where(mask[..., None], 255 - image, image)
        np.testing.assert_array_equal(chosen.pack(other, mask)[0], x)
    assert Method(chosen, grey)(image, np.zeros_like(mask)) is not image
    with pytest.raises(InputError, match="whole image is hole"):
        Method(chosen, grey)(image, np.ones_like(mask))


@pytest.mark.parametrize(
    ("name", "image", "mask", "order"),
    [
        ("migan", (-1, 1), (1, 0), "RGB"),
        ("coordfill", (-1, 1), (1, 0), "RGB"),
        ("lama", (0, 1), (0, 1), "RGB"),
        ("hifill", (-1, 1), (0, 1), "BGR"),
        ("authors", (0, 1), (0, 1), "RGB"),
    ],
)
def test_range_and_polarity_are_the_official_ones(
    name: str, image: tuple[int, int], mask: tuple[int, int], order: str
) -> None:
    chosen = peers.PEERS[name].interface
    assert (chosen.image, chosen.mask, chosen.order) == (image, mask, order)


@pytest.mark.parametrize(("name", "network"), [("migan", migan.Migan(16)), ("lama", lama.Lama(1, 8))])
def test_networks_see_known_pixels_only(name: str, network: torch.nn.Module) -> None:
    """With the polarity of their conventions: a hole pixel changes nothing, a known one does."""
    known, hole = peers.PEERS[name].interface.mask
    image, mask = torch.rand(1, 3, 16, 16), torch.full((1, 1, 16, 16), float(known))
    mask[..., 4:9, 4:9] = hole
    inside, outside = image.clone(), image.clone()
    inside[..., 5, 5] += 1
    outside[..., 12, 12] += 1
    with torch.no_grad():
        want = network.eval()(image, mask)
        assert torch.equal(network(inside, mask), want)
        assert not torch.equal(network(outside, mask), want)


def test_pixels_survive_the_round_trip() -> None:
    image, mask = scene(64, 96)
    for chosen in (Interface(image=(-1, 1), order="BGR", multiple=32), Interface(image=(0, 255), output=(0, 255))):
        packed, _ = chosen.pack(image, np.zeros_like(mask))
        np.testing.assert_array_equal(chosen.unpack(packed, 255 - image, np.ones_like(mask)), image)
    assert Interface(image=(-1, 1), order="BGR").pack(image, mask)[0][0, 2, 0, 0] == pytest.approx(
        image[0, 0, 0] / 127.5 - 1, abs=1e-6
    )
    assert Interface(size=512).shape(100, 3000) == (512, 512)
    assert Interface(size=512, grows=True).shape(100, 1025) == (1536, 1536)
    assert Interface(multiple=8).shape(100, 3001) == (104, 3008)
    # A cell of a shrunk picture is hole if any of its pixels is.
    dot = np.zeros((1024, 1024), np.bool_)
    dot[7, 9] = True
    assert Interface(size=512).pack(np.zeros((1024, 1024, 3), np.uint8), dot)[1].sum() == 1
    filled = Interface(fill=True).pack(image, mask)[0]
    top, left = np.argwhere(mask)[0]
    np.testing.assert_allclose(filled[0, :, top, left + 3] * 255, image[top - 1, left + 3], atol=1e-3)


def test_descriptions() -> None:
    chosen = Interface.from_json('{"image": [-1, 1], "mask": [1, 0], "size": 512, "layout": "NHWC"}', "x")
    assert chosen == Interface(image=(-1, 1), mask=(1, 0), size=512, layout="NHWC")
    assert Interface.from_json(interface.EXAMPLE, "x").output == (0, 255)
    for text, match in (
        ("{", "not JSON"),
        ("[1]", "list"),
        ('{"range": 1}', "x has range; give an object of fill, "),
        ('{"image": [0]}', "image is .*two different numbers"),
        ('{"mask": [1, 1]}', "mask is .*two different numbers"),
        ('{"order": "GBR"}', "RGB or BGR"),
        ('{"size": "big"}', "size is 'big'; give a number of pixels"),
        ('{"multiple": 0}', "multiple is 0"),
        ('{"grows": 1}', "true or false"),
        ('{"grows": true}', "grows needs a size"),
    ):
        with pytest.raises(InputError, match=match):
            Interface.from_json(text, "x")


# --- ONNX files ---


def onnx_file(
    path: Path, inputs: list[tuple[str, int, list[Any]]], picture: str, kind: int = TensorProto.FLOAT
) -> Path:
    """A network that gives `picture`, one of its inputs, back."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    shape = next(shape for name, _, shape in inputs if name == picture)
    nodes = [helper.make_node("Identity", [picture], ["out"])]
    graph = helper.make_graph(nodes, "g", values, [helper.make_tensor_value_info("out", kind, shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def test_any_onnx_file(tmp_path: Path) -> None:
    """Inputs in either order, uint8 or float, either layout, of fixed size or of any."""
    image, mask = scene(60, 90)
    known = image[~mask]
    any_size = ["b", 3, "h", "w"]
    free = onnx_file(
        tmp_path / "free.onnx",
        [("m", TensorProto.UINT8, ["b", 1, "h", "w"]), ("x", TensorProto.UINT8, any_size)],
        "x",
        TensorProto.UINT8,
    )
    method = onnx_method(free, Interface(image=(0, 255), mask=(255, 0), fill=True), threads=1)
    filled = method(image, mask)
    np.testing.assert_array_equal(filled[~mask], known)
    assert (filled[mask] != 0).any()
    fixed = onnx_file(
        tmp_path / "fixed.onnx",
        [("x", TensorProto.FLOAT, [1, 64, 64, 3]), ("m", TensorProto.FLOAT, [1, 64, 64, 1])],
        "x",
    )
    method = onnx_method(fixed, Interface(layout="NHWC"), threads=1)
    assert method.interface.size == 64
    np.testing.assert_array_equal(method(image, mask)[~mask], known)
    with pytest.raises(InputError, match=r"has inputs of \[64, 64\] channels, wanted \[3, 1\]"):
        onnx_method(fixed, Interface())
    with pytest.raises(InputError, match="inputs of"):
        onnx_method(free, Interface(join="mask,image"))
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(WeightsError, match="cannot be run by ONNX Runtime"):
        onnx_method(tmp_path / "text.onnx", Interface())
    joined = onnx_file(tmp_path / "joined.onnx", [("x", TensorProto.FLOAT, [1, 4, "h", "w"])], "x")
    with pytest.raises(InputError, match="three channels"):
        onnx_method(joined, Interface(join="mask,image"), threads=1)(image, mask)
    wide = onnx_file(
        tmp_path / "wide.onnx",
        [("x", TensorProto.FLOAT, [1, 3, 64, 96]), ("m", TensorProto.FLOAT, [1, 1, 64, 96])],
        "x",
    )
    with pytest.raises(InputError, match="96 x 64 only"):
        onnx_method(wide, Interface())


def test_onnx_options(tmp_path: Path) -> None:
    shapes = [("x", TensorProto.FLOAT, [1, 3, 64, 64]), ("m", TensorProto.FLOAT, [1, 1, 64, 64])]
    path = onnx_file(tmp_path / "net.onnx", shapes, "x")
    assert peers.parse_onnx([f"a={path}"])["a"].interface == Interface()
    inline = peers.parse_onnx([f'a={path}:{{"mask": [1, 0]}}'])["a"]
    assert (inline.path, inline.interface.mask) == (path, (1, 0))
    Path(f"{path}.json").write_text('{"output": [0, 255]}')
    assert peers.parse_onnx([f"a={path}"])["a"].interface.output == (0, 255)
    loaded = measure.load_methods(["telea"], onnx=peers.parse_onnx([f"a={path}"]), threads=1)
    assert list(loaded) == ["telea", "a"]
    assert peers.hashes(loaded).keys() == {"a"}
    for option, match in (
        ("a", "NAME=FILE"),
        ("a=none.onnx", "no such file"),
        (f"telea={path}", "another method"),
        (f'a={path}:{{"x": 1}}', "the description of a has x"),
    ):
        with pytest.raises(InputError, match=match):
            peers.parse_onnx([option])


def test_an_export_is_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small LaMa and square 64: FFTs as matrix products give the same picture."""
    monkeypatch.setattr(peers, "_network", lambda module: lama.Lama(1, 8))
    image, mask = scene(64, 64)
    want = peers.load("lama")(image, mask)
    got = onnx_method(peers.to_onnx("lama", 64), peers.PEERS["lama"].interface, threads=1)(image, mask)
    assert np.abs(got.astype(int) - want).max() <= 1  # rounding of float32 sums in another order
    assert want[mask].std() > 0


# --- What is special to each ---


@pytest.mark.parametrize("shape", [(6, 8), (5, 7), (4, 9)])
def test_transforms_as_matrix_products(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, *shape)
    want = fourier.rfft2(x)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    got = fourier.rfft2(x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)  # float32 sums of 9 terms
    torch.testing.assert_close(fourier.irfft2(got, shape[1]), x, rtol=0, atol=1e-5)


def test_migan_is_fully_convolutional() -> None:
    """Twice the size: constants tile, and far from the border of a tiled picture it is the same network."""
    network = migan.Migan(16).eval()
    image, mask = torch.rand(1, 3, 16, 16) * 2 - 1, torch.ones(1, 1, 16, 16)
    with torch.no_grad():
        assert network(image, mask).shape == (1, 3, 16, 16)
        assert network(image.repeat(1, 1, 2, 3), mask.repeat(1, 1, 2, 3)).shape == (1, 3, 32, 48)
    up = migan.Upsample(2, 8)
    x = torch.rand(1, 2, 6, 4)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4  # zeros between pixels, then the filter
    want = F.conv_transpose2d(x, line.outer(line).repeat(2, 1, 1, 1), stride=2, padding=1, groups=2)
    torch.testing.assert_close(up(x), want)


def test_coordfill_s_queries() -> None:
    rows, columns = 2, 3
    picture = torch.arange(3 * 64 * 96, dtype=torch.float32).reshape(1, 3, 64, 96)
    split = coordfill.cells(picture, rows, columns)
    assert torch.equal(coordfill.uncells(split, rows, columns), picture)
    assert torch.equal(split[33, 4], picture[0, :, 1 * rows + 1, 1 * columns + 1])
    numbers = sum(out * (into + 1) for into, out in zip(coordfill.WIDTHS, coordfill.WIDTHS[1:], strict=False))
    weights, x = torch.randn(2, numbers) * 0.2, coordfill.coordinates(rows, columns, torch.zeros(1))
    got = coordfill.query(weights, x)
    for cell in range(2):  # one pixel at a time, one layer after the other
        for pixel in range(rows * columns):
            value, rest = x[pixel], weights[cell]
            for into, out in zip(coordfill.WIDTHS, coordfill.WIDTHS[1:], strict=False):
                bias, matrix, rest = (
                    rest[:out],
                    rest[out : out * (into + 1)].reshape(into, out),
                    rest[out * (into + 1) :],
                )
                value = value @ matrix + bias
                value = torch.where(value > 0, value, 0.01 * value) if len(rest) else value.tanh()
            torch.testing.assert_close(got[cell, pixel], value)


def test_hifill_s_parts() -> None:
    x = torch.rand(1, 2, 3, 4)
    up = hifill.upsample(x, 4)
    for y, column in ((0, 0), (4, 8), (5, 3), (11, 15)):  # TensorFlow 1: no half-pixel centres, edges repeated
        top, left = y // 4, column // 4
        bottom, right = min(top + 1, 2), min(left + 1, 3)
        v, u = y % 4 / 4, column % 4 / 4
        upper = x[..., top, left] * (1 - u) + x[..., top, right] * u
        lower = x[..., bottom, left] * (1 - u) + x[..., bottom, right] * u
        torch.testing.assert_close(up[..., y, column], upper * (1 - v) + lower * v)
    assert hifill.pad_same(x, 3, 1).shape == (1, 2, 5, 6)
    assert torch.equal(hifill.pad_same(x, 3, 2)[..., :3, :4], x)  # the odd pixel at the bottom and right
    mask = torch.zeros(1, 1, 512, 512)
    mask[..., :160, :64] = 1
    features = torch.rand(1, 4, 64, 64)
    attention = hifill.HiFill.attend(features, mask)
    hole = F.max_pool2d(F.max_pool2d(mask, 16), 3, 1, 1).reshape(-1) > 0
    assert (attention[:, hole] == 0).all()
    assert (attention.sum(1) <= 1 + 1e-5).all()
    # Every patch from itself: each pixel is counted as often as patches overlap it.
    same = hifill.transfer(features, torch.eye(1024), kernel=4, stride=2)
    torch.testing.assert_close(same[..., 1:-1, 1:-1], 4 * features[..., 1:-1, 1:-1])


def test_the_authors_patches() -> None:
    x = torch.rand(1, 3, 16, 24)
    torch.testing.assert_close(authors.patches(x, 8), F.pixel_unshuffle(x, 8))
    torch.testing.assert_close(authors.blur(torch.ones(1, 3, 9, 9)), torch.ones(1, 3, 9, 9))


def test_patchmatch_continues_a_texture() -> None:
    """Diagonal stripes, which no diffusion continues; the same at every call."""
    y, x = np.mgrid[:72, :90]
    image = np.repeat((((x + y) // 6 % 2) * 200)[..., None], 3, 2).astype(np.uint8)
    mask = np.zeros((72, 90), np.bool_)
    mask[28:48, 36:56] = True
    filled = patchmatch.patchmatch(np.where(mask[..., None], np.uint8(77), image), mask)
    np.testing.assert_array_equal(filled[~mask], image[~mask])
    assert np.abs(filled.astype(int) - image)[mask].mean() < 8
    diffused = peers.CLASSICAL["navier_stokes"](image, mask)
    np.testing.assert_array_equal(diffused[~mask], image[~mask])
    assert np.abs(diffused.astype(int) - image)[mask].mean() > 40
    np.testing.assert_array_equal(peers.CLASSICAL["patchmatch"](image, mask), filled)
    dotted = np.zeros((20, 20), np.bool_)
    dotted[::4, ::4] = True  # no known patch
    assert patchmatch.patchmatch(image[:20, :20], dotted).shape == (20, 20, 3)
    small = patchmatch.patchmatch(image[:3, :40], np.eye(3, 40, dtype=np.bool_))
    assert small.shape == (3, 40, 3)


# --- In the benchmarks ---


def test_quality_wants_weights() -> None:
    with pytest.raises(
        InputError, match=r"migan has no weights.*--weights migan=FILE.*bench latency --methods migan"
    ):
        measure.load_methods(["telea", "migan"])
    assert measure.load_methods(["navier_stokes"]).keys() == {"navier_stokes"}


def test_weights_options(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    file.write_bytes(b"")
    assert peers.parse_weights([f"migan={file}"]) == {"migan": file}
    assert peers.split_weights([str(file), f"lama={file}"]) == (file, {"lama": file})
    assert peers.split_weights([]) == (None, {})
    for options, match in (
        (["migan"], "NAME=FILE"),
        (["magic=a.pt"], "no peer 'magic'"),
        (["migan=none.pt"], "no such file"),
    ):
        with pytest.raises(InputError, match=match):
            peers.parse_weights(options)
    with pytest.raises(InputError, match="two files of the engine"):
        peers.split_weights([str(file), "b.onnx"])


def test_latency_beside_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_network", lambda module: lama.Lama(1, 8))
    monkeypatch.setattr(latency, "peak_memory", lambda *arguments: float(len(arguments)))
    field = Field(["rethined", "lama", "navier_stokes"], runtime="torch")
    result = latency.run_latency(None, sizes=[64], holes=[0.1], threads=1, runs=2, warmup=0, field=field)
    row = result["rows"][0]
    assert row["peers"].keys() == {"lama", "navier_stokes"}
    assert result["methods"].keys() == {"rethined", "lama", "navier_stokes"}
    times = row["peers"]["lama"]
    assert times["ratio"] == pytest.approx(times["median_ms"] / times["engine_ms"])
    assert (times["n"], times["peak_mib"], row["peak_mib"]) == (2, 5, 4)
    assert result["methods"]["lama"]["weights"] == "random"
    assert result["methods"]["lama"]["macs_512"] > times["macs"] > 0
    assert result["methods"]["navier_stokes"]["weights"] == "none"
    (tmp_path / "latency.json").write_text(json.dumps(result))
    table = report.tables(tmp_path)["peers"]
    assert re.search(r"\| 64x64 \| \d+% \| lama \| random \| 0\.\d\d \| 0\.0 \| \d+\.\d", table)
    assert re.search(r"\| rethined \| [0-9a-f]{10} \| 0\.\d\d \| \d\.\d \|", table)
    assert "its pictures mean nothing" in table
    with pytest.raises(InputError, match="no method 'magic' to time"):
        Field(["magic"])
    with pytest.raises(InputError, match="runtime is 'tpu'"):
        Field(["lama"], runtime="tpu")


def test_a_method_is_left_out_beyond_its_largest_image(tmp_path: Path) -> None:
    field = Field(["navier_stokes", "telea"], largest={"navier_stokes": 64})
    ready = {
        size: [name for name, _ in field.ready(size, np.eye(size, dtype=np.bool_), 1, tmp_path)] for size in (64, 65)
    }
    assert ready == {64: ["navier_stokes", "telea"], 65: ["telea"]}


def test_a_network_is_exported_once_for_every_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [("x", TensorProto.FLOAT, [1, 3, "h", "w"]), ("m", TensorProto.FLOAT, [1, 1, "h", "w"])]
    file = onnx_file(tmp_path / "net.onnx", shapes, "x").read_bytes()
    exported: list[tuple[str, int]] = []
    monkeypatch.setattr(peers, "to_onnx", lambda name, size, weights: exported.append((name, size)) or file)
    field = Field(["migan", "migan_full"])
    for size in (100, 128, 200):
        assert dict(field.ready(size, np.eye(size, dtype=np.bool_), 1, tmp_path)).keys() == {"migan", "migan_full"}
    # Squeezed to 512 whatever the size; otherwise padded to multiples of 128.
    assert exported == [("migan", 100), ("migan_full", 100), ("migan_full", 200)]


def test_memory_is_a_process_s_own(tmp_path: Path) -> None:
    shapes = [("x", TensorProto.FLOAT, [1, 3, "h", "w"]), ("m", TensorProto.FLOAT, [1, 1, "h", "w"])]
    path = onnx_file(tmp_path / "net.onnx", shapes, "x")
    field = Field(onnx={"mine": peers.OnnxFile(path, Interface(multiple=8))})
    _, mask = latency.scene(64, 0.1)
    ready = dict(field.ready(64, mask, 1, tmp_path))["mine"]
    image = np.full((64, 64, 3), 9, np.uint8)
    np.testing.assert_array_equal(from_spec(ready.spec, 1)(image, mask), ready.fill(image, mask))
    assert 10 < latency.peak_memory(None, 64, 0.1, 1, ready.spec) < 1000
    assert field.facts()["mine"]["weights"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_command_line(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    photos = Path(__file__).parent.parent / "examples" / "photos"
    commands = {
        "migan has no weights": ["quality", str(photos), "--methods", "migan"],
        "no such file": ["quality", str(tmp_path), "--weights", "migan=none.pt"],
        "no method 'magic'": ["latency", "--methods", "magic"],
        "NAME=FILE": ["latency", "--onnx", "none"],
    }
    for match, command in commands.items():
        done = CliRunner().invoke(app, ["bench", *command])
        assert isinstance(done.exception, InputError), done.output
        assert match in str(done.exception)


def test_variants_share_a_network() -> None:
    full, squeezed = peers.PEERS["migan_full"], peers.PEERS["migan"]
    assert dataclasses.replace(full, interface=squeezed.interface, sizes=squeezed.sizes) == squeezed
