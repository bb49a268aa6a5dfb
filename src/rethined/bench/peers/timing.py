"""Peers beside the engine in `bench latency`: made ready for one size, and again in a process of their own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rethined.bench import baselines, peers, provenance
from rethined.bench.peers.interface import Interface, onnx_method
from rethined.errors import InputError

RUNTIMES = ("onnx", "torch")
"""ONNX Runtime, as the engine has it, or PyTorch."""
UNTRAINED: dict[str, peers.Fill] = {
    "telea": baselines.telea,
    "telea_full": baselines.telea_full,
    "copy_reference": baselines.copy_reference,
    **peers.CLASSICAL,
}


@dataclass(frozen=True)
class Contender:
    """A method ready to be timed."""

    fill: peers.Fill
    spec: str
    """What `from_spec` makes it from again."""
    macs: int | None
    """Multiply-accumulates at this size and with this hole."""


@dataclass(frozen=True)
class Field:
    """Which methods, with which weights, in which runtime."""

    names: Sequence[str] = ()
    """Of peers, of methods without weights, and of `onnx`."""
    weights: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    """Files of peers; others get random weights, which cost the same."""
    onnx: Mapping[str, peers.OnnxFile] = dataclasses.field(default_factory=dict)
    """Users' files."""
    runtime: str = "onnx"
    """One of RUNTIMES, for peers."""
    largest: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Side of the largest image that a method is timed on; others are timed on all."""

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise InputError(f"runtime is {self.runtime!r}; choose {' or '.join(RUNTIMES)}")
        for name in self.all_names():
            if name not in self.onnx and name not in UNTRAINED and name not in peers.PEERS:
                known = ", ".join([*UNTRAINED, *peers.PEERS])
                raise InputError(f"no method {name!r} to time; choose of {known}, or give --onnx {name}=FILE")

    def all_names(self) -> list[str]:
        """Those asked for and those of `onnx`, once; `rethined` is the engine, which is timed anyway."""
        return [name for name in dict.fromkeys([*self.names, *self.onnx]) if name != "rethined"]

    def facts(self) -> dict[str, dict[str, Any]]:
        """By name: title, runtime, parameters and multiply-accumulates at 512 x 512, and what the weights are."""
        return {name: self._facts(name) for name in self.all_names()}

    def _facts(self, name: str) -> dict[str, Any]:
        empty = {"title": name, "runtime": None, "parameters": None, "macs_512": None}
        if name in self.onnx:
            return empty | {"runtime": "onnx", "weights": provenance.sha256(self.onnx[name].path)}
        if name in UNTRAINED:
            return empty | {"weights": "none"}
        cost = peers.cost(name)
        file = self.weights.get(name)
        return {
            "title": peers.PEERS[name].title,
            "runtime": self.runtime,
            "parameters": cost.parameters,
            "macs_512": cost.macs,
            "weights": "random" if file is None else provenance.sha256(file),
        }

    def ready(self, size: int, mask: peers.Mask, threads: int, folder: Path) -> Iterator[tuple[str, Contender]]:
        """The methods for square images of `size` pixels, each made when its turn comes: memory might not hold all.

        Networks are exported to `folder`, once for every shape.
        """
        for name in self.all_names():
            if size <= self.largest.get(name, size):
                yield name, self._ready(name, size, mask, threads, folder)

    def _ready(self, name: str, size: int, mask: peers.Mask, threads: int, folder: Path) -> Contender:
        macs = None
        spec: dict[str, Any]
        if name in self.onnx:
            spec = _onnx_spec(self.onnx[name].path, self.onnx[name].interface)
        elif name in UNTRAINED:
            spec = {"name": name}
        else:
            macs = peers.cost(name, size, mask).macs
            file = self.weights.get(name)
            if self.runtime == "onnx":
                height, width = peers.PEERS[name].interface.shape(size, size)
                path = folder / f"{name}-{height}x{width}.onnx"
                if not path.is_file():
                    path.write_bytes(peers.to_onnx(name, size, file))
                spec = _onnx_spec(path, peers.PEERS[name].interface)
            else:
                spec = {"name": name, "weights": file and str(file)}
        text = json.dumps(spec)
        return Contender(from_spec(text, threads), text, macs)


def from_spec(text: str, threads: int) -> peers.Fill:
    """The method that a `Contender.spec` describes."""
    spec = json.loads(text)
    if "onnx" in spec:
        interface = Interface.from_json(json.dumps(spec["interface"]), spec["onnx"])
        return onnx_method(Path(spec["onnx"]), interface, threads=threads)
    if spec["name"] in UNTRAINED:
        return UNTRAINED[spec["name"]]
    return peers.load(spec["name"], spec["weights"] and Path(spec["weights"]), threads=threads)


def _onnx_spec(path: Path, interface: Interface) -> dict[str, Any]:
    return {"onnx": str(path), "interface": dataclasses.asdict(interface)}
