"""Peers: other methods of image inpainting, in the shape of every method here, `(image, mask) -> image`.

Networks are written from their papers; official weights load (`docs/peers.md`). Without weights a peer has random
ones: good for latency, memory, operations and parameters, and refused where quality is measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rethined.bench import baselines, provenance
from rethined.bench.peers.interface import EXAMPLE, Array, Interface, Method, onnx_method
from rethined.errors import BackendError, InputError

if TYPE_CHECKING:
    from torch import nn

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Fill = Callable[[Image, Mask], Image]


@dataclass(frozen=True)
class Peer:
    """Another method: where it comes from, what it costs as published, and how it wants its pixels."""

    title: str
    """As its paper calls it."""
    paper: str
    """Authors, venue, arXiv."""
    repository: str
    """The official code, on GitHub."""
    licence: str
    """Of the official code; weights may have another."""
    parameters: float
    """Millions, published or counted in the official code."""
    gmacs: float | None
    """Billions of multiply-accumulates at 512 x 512, published or counted in the official code."""
    sizes: str
    """How it runs at other sizes than 512 x 512."""
    interface: Interface
    """Its conventions."""
    module: str
    """Below `rethined.bench.peers`."""


_MIGAN = Peer(
    title="MI-GAN",
    paper="Sargsyan et al., ICCV 2023",
    repository="Picsart-AI-Research/MI-GAN",
    licence="MIT",
    parameters=5.97,
    gmacs=15.1,
    sizes="squeezed to 512 x 512, the result upsampled",
    interface=Interface(image=(-1, 1), mask=(1, 0), size=512),
    module="migan",
)
_LAMA = Peer(
    title="big-LaMa",
    paper="Suvorov et al., WACV 2022, arXiv 2109.07161",
    repository="advimman/lama",
    licence="Apache-2.0",
    parameters=51.0,
    gmacs=220,
    sizes="fully convolutionally, sides mirrored up to multiples of 8",
    interface=Interface(multiple=8),
    module="lama",
)


PEERS: dict[str, Peer] = {
    "migan": _MIGAN,
    "migan_full": dataclasses.replace(
        _MIGAN,
        sizes="fully convolutionally, sides mirrored up to multiples of 128",
        interface=Interface(image=(-1, 1), mask=(1, 0), multiple=128),
    ),
    "coordfill": Peer(
        title="CoordFill",
        paper="Liu et al., AAAI 2023, arXiv 2303.08524",
        repository="NiFangBaAGe/CoordFill",
        licence="BSD-3-Clause",
        parameters=31.6,
        gmacs=None,
        sizes="encoder at 256 x 256, hole cells queried at full size, sides mirrored up to multiples of 32",
        interface=Interface(image=(-1, 1), mask=(1, 0), multiple=32),
        module="coordfill",
    ),
    "lama": _LAMA,
    "lama_512": dataclasses.replace(_LAMA, sizes=_MIGAN.sizes, interface=Interface(size=512)),
    "hifill": Peer(
        title="HiFill",
        paper="Yi et al., CVPR 2020, arXiv 2005.09704",
        repository="duxingren14/Hifill-tensorflow",
        licence="MIT",
        parameters=2.72,
        gmacs=None,
        sizes="generator at 512 x 512, residuals aggregated at the next multiple of it",
        interface=Interface(image=(-1, 1), order="BGR", size=512, grows=True),
        module="hifill",
    ),
    "authors": Peer(
        title="RETHINED, the authors' code",
        paper="Sanchez et al., WACV 2025, arXiv 2503.14757",
        repository="CrisalixSA/rethined",
        licence="no licence file",
        parameters=61.9,
        gmacs=74,
        sizes="network at 512 x 512, attention upscaling at the next multiple of it",
        interface=Interface(size=512, grows=True),
        module="authors",
    ),
}
"""Networks. `CLASSICAL` has the methods without."""


def _patchmatch(image: Image, mask: Mask) -> Image:
    from rethined.bench.peers.patchmatch import patchmatch  # compiles

    return patchmatch(image, mask)


CLASSICAL: dict[str, Fill] = {"navier_stokes": baselines.navier_stokes, "patchmatch": _patchmatch}
"""Methods without weights, beside those of `bench.baselines`."""


_UNUSED = frozenset({"qk_mask", "mask_query"})
"""Tensors in the authors' state dict that are constants, or used by nothing."""


@dataclass(frozen=True)
class Cost:
    """What a network costs at one size."""

    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and matrix products, as PyTorch counts them; FFTs are not among them."""


def build(name: str, weights: Path | None = None) -> nn.Module:
    """The network of peer `name` in evaluation mode: with `weights`, or with seeded random ones.

    Its `forward(image, mask)` takes and gives (1, 3, H, W) and (1, 1, H, W) in `PEERS[name].interface`.

    Raises:
        InputError: no such peer or file, or the weights of something else.
        WeightsError: a file that cannot be read.
    """
    import torch

    from rethined.bench.peers import checkpoint

    peer = _peer(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _network(peer.module)
    if weights is not None:
        rename: checkpoint.Rename | None = None
        if peer.module == "hifill":
            from rethined.bench.peers import hifill

            rename = hifill.rename
        checkpoint.load(network, weights, peer.title, rename, _UNUSED)
    return network.eval()


def _network(module: str) -> nn.Module:
    if module == "migan":
        from rethined.bench.peers.migan import Migan

        return Migan()
    if module == "lama":
        from rethined.bench.peers.lama import Lama

        return Lama()
    if module == "coordfill":
        from rethined.bench.peers.coordfill import CoordFill

        return CoordFill()
    if module == "hifill":
        from rethined.bench.peers.hifill import HiFill

        return HiFill()
    from rethined.bench.peers.authors import Authors

    return Authors()


def _peer(name: str) -> Peer:
    if name not in PEERS:
        raise InputError(f"no peer {name!r}; choose {', '.join(PEERS)}")
    return PEERS[name]


def cost(name: str, size: int = 512, mask: Mask | None = None) -> Cost:
    """Count peer `name` on a square of `size` pixels, without computing anything.

    What depends on the hole, CoordFill's queries, is counted for `mask` (size, size), or as if all were hole.

    Raises:
        InputError: no such peer.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    peer = _peer(name)
    height, width = peer.interface.shape(size, size)
    with torch.device("meta"), torch.no_grad():
        network = _network(peer.module).eval()
        inputs = torch.empty(1, 3, height, width), torch.empty(1, 1, height, width)
        if mask is not None and peer.module == "coordfill":
            setattr(network, "counted", _hole_cells(peer, mask))  # noqa: B010
        with FlopCounterMode(display=False) as counter:
            network(*inputs)
    return Cost(sum(p.numel() for p in network.parameters()), int(counter.get_total_flops()) // 2)


def _hole_cells(peer: Peer, mask: Mask) -> int:
    """How many of CoordFill's cells have a hole."""
    from rethined.bench.peers.coordfill import CELLS

    hole = peer.interface.pack(np.zeros((*mask.shape, 3), np.uint8), mask)[1] == peer.interface.mask[1]
    height, width = hole.shape[2:]
    return int(hole.reshape(CELLS, height // CELLS, CELLS, width // CELLS).any((1, 3)).sum())


def load(name: str, weights: Path | None = None, *, threads: int | None = None) -> Method:
    """Peer `name` in PyTorch, as `(image, mask) -> image`; without `weights` the result means nothing.

    `threads` are those of the whole process, as PyTorch has it.

    Raises:
        InputError: no such peer or file, or the weights of something else.
        WeightsError: a file that cannot be read.
    """
    import torch

    network = build(name, weights)
    if threads is not None:
        torch.set_num_threads(threads)

    def run(image: Array, mask: Array) -> Array:
        with torch.inference_mode():
            out = network(torch.from_numpy(image), torch.from_numpy(mask))
        return np.asarray(out.numpy())

    return Method(PEERS[name].interface, run, weights)


def to_onnx(name: str, size: int, weights: Path | None = None) -> bytes:
    """Peer `name` as an ONNX file (opset 18) for square images of `size` pixels: `image`, `mask` to `output`.

    It is called in `PEERS[name].interface`. FFTs become matrix products, which ONNX Runtime is faster at.

    Raises:
        InputError: no such peer or file, or the weights of something else.
        WeightsError: a file that cannot be read.
        BackendError: the exporter is not installed.
    """
    import torch

    network = build(name, weights)
    height, width = PEERS[name].interface.shape(size, size)
    mask = torch.zeros(1, 1, height, width)
    mask[..., height // 4 : height // 2, width // 4 : width // 2] = 1
    known, hole = PEERS[name].interface.mask
    inputs = torch.zeros(1, 3, height, width), mask * (hole - known) + known
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                network,
                inputs,
                dynamo=True,
                opset_version=18,
                input_names=["image", "mask"],
                output_names=["output"],
                optimize=True,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise BackendError("exporting needs: pip install 'rethined[export]'") from error
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


@dataclass(frozen=True)
class OnnxFile:
    """A user's network: `--onnx NAME=FILE`, with the description of its inputs."""

    path: Path
    interface: Interface


def parse_weights(options: Iterable[str]) -> dict[str, Path]:
    """`NAME=FILE` each.

    Raises:
        InputError: not of that form, no such peer, or no such file.
    """
    found = {}
    for option in options:
        name, _, file = option.partition("=")
        if not file:
            raise InputError(f"--weights is {option!r}; give NAME=FILE, such as migan=migan_512_places2.pt")
        _peer(name)
        if not Path(file).is_file():
            raise InputError(f"{file}: no such file; give the weights of {name}")
        found[name] = Path(file)
    return found


def split_weights(options: Iterable[str]) -> tuple[Path | None, dict[str, Path]]:
    """A bare FILE, which is the engine's, and the rest as `parse_weights` has it.

    Raises:
        InputError: two bare files, or as `parse_weights`.
    """
    options = list(options)
    bare = [option for option in options if "=" not in option or Path(option).is_file()]
    if len(bare) > 1:
        raise InputError(
            f"--weights names two files of the engine, {bare[0]} and {bare[1]}; give NAME=FILE for peers"
        )
    return (Path(bare[0]) if bare else None), parse_weights(option for option in options if option not in bare)


def parse_onnx(options: Iterable[str]) -> dict[str, OnnxFile]:
    """`NAME=FILE` or `NAME=FILE:{...}` each; without a description, that in FILE.json, or else the defaults.

    Raises:
        InputError: not of that form, no such file, or a description that cannot be.
    """
    found = {}
    for option in options:
        name, _, rest = option.partition("=")
        file, brace, inline = rest.partition(":{")
        path, beside = Path(file), Path(f"{file}.json")
        if name == "rethined" or hasattr(baselines, name) or name in CLASSICAL or ":" in name:
            raise InputError(f"--onnx names its file {name!r}, which is another method; choose another name")
        if not name or not file:
            raise InputError(f"--onnx is {option!r}; give NAME=FILE or NAME=FILE:{EXAMPLE}")
        if not path.is_file():
            raise InputError(f"{file}: no such file; give an ONNX file for {name}")
        if brace:
            interface = Interface.from_json("{" + inline, f"the description of {name}")
        elif beside.is_file():
            interface = Interface.from_json(beside.read_text(encoding="utf-8"), str(beside))
        else:
            interface = Interface()
        found[name] = OnnxFile(path, interface)
    return found


def names() -> list[str]:
    """What `load_method` knows without options."""
    return [*CLASSICAL, *PEERS]


def load_method(
    name: str,
    weights: Mapping[str, Path] | None = None,
    onnx: Mapping[str, OnnxFile] | None = None,
    *,
    threads: int | None = None,
) -> Fill:
    """A method whose results mean something: classical, with weights, or a user's ONNX file.

    Raises:
        InputError: an unknown name, or a peer without weights.
        WeightsError: weights or a file that cannot be used.
    """
    if onnx and name in onnx:
        method = onnx_method(onnx[name].path, onnx[name].interface, threads=threads)
        return dataclasses.replace(method, source=onnx[name].path)
    if name in CLASSICAL:
        return CLASSICAL[name]
    if not weights or name not in weights:
        title = _peer(name).title
        raise InputError(
            f"{name} has no weights, so its pictures mean nothing; give the official ones of {title} with "
            f"--weights {name}=FILE, or measure its speed only, with `rethined bench latency --methods {name}`"
        )
    return load(name, weights[name], threads=threads)


def hashes(methods: Mapping[str, object]) -> dict[str, str]:
    """SHA-256 of the weights of those `methods` that were loaded from a file here."""
    loaded = {name: method.source for name, method in methods.items() if isinstance(method, Method)}
    return {name: provenance.sha256(source) for name, source in loaded.items() if source is not None}


def markdown() -> str:
    """The table of `docs/peers.md`: origin, licence, parameters, operations at 512 x 512, other sizes."""
    head = ["name", "method", "paper", "code", "licence", "parameters, M", "GMAC at 512", "at other sizes"]
    lines = []
    for name, peer in PEERS.items():
        counted = cost(name)
        link = f"[{peer.repository}](https://github.com/{peer.repository})"
        numbers = [f"{counted.parameters / 1e6:.2f}", f"{counted.macs / 1e9:.1f}"]
        lines.append([f"`{name}`", peer.title, peer.paper, link, peer.licence, *numbers, peer.sizes])
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *lines])
