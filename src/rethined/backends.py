"""The one seam: whatever can run the core."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rethined import weights
from rethined.config import ModelConfig
from rethined.errors import BackendError, WeightsError
from rethined.workers import Workers


class CoreOutput(NamedTuple):
    """What the core says of a low-resolution image."""

    low: NDArray[np.float32]
    """(1, 3, h / band, w / band) in [0, 1], give or take: the low band. Known cells are their true means."""
    first: NDArray[Any]
    """With `ModelConfig.search` the queries (1, D, h / P, w / P), float32, of unit length. Without, the sources
    (N, k), int32: for every patch, in reading order, the patches it copies."""
    second: NDArray[np.float32]
    """With `search` the keys (1, D, h / P, w / P). Without, the weights (N, k) of the sources, which sum to 1, or to
    0 where no patch is known."""


class Backend(Protocol):
    """Runs the core; safe to call from several threads at once."""

    config: ModelConfig
    size: tuple[int, int] | None
    """Height and width of the only grid that it takes; None: of any."""

    def run(
        self, image: NDArray[np.float32], mask: NDArray[np.float32], detail: NDArray[np.float32] | None
    ) -> CoreOutput:
        """`image` (1, 3, h, w) in [0, 1], `mask` (1, 1, h, w), 1 = hole; h and w multiples of `config.stride`.

        `detail` (1, 6, h / P, w / P) if `config.detail`, else None: see `rethined.upscale.Small`.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Facts for a bug report."""
        ...


def session_options(threads: int) -> Any:
    """ONNX Runtime's, for every session that is timed or works beside others; 0 threads are one per core."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Workers that spin on after a call would slow whoever wants the cores next: our own loops, or what is compared.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Nor do they spin for long within one. Where another program has a core, whoever waits for the thread there would
    # spin, and so would that thread while it might let the other go on. Longer than a usual wait, so that little is
    # lost where cores are free; older versions do not know it, and spin on.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "40")
    return options


def _session(data: bytes, threads: int) -> Any:
    import onnxruntime as ort

    return ort.InferenceSession(data, session_options(threads), providers=["CPUExecutionProvider"])


class OnnxBackend:
    """ONNX Runtime on the CPU, with as many threads as `workers` has; its own are placed as theirs are.

    Raises:
        InputError: no such file.
        WeightsError: not an intact core written by rethined's exporter.
    """

    def __init__(self, path: Path | None, workers: Workers) -> None:
        import onnxruntime as ort
        from onnxruntime.capi import onnxruntime_pybind11_state as states

        ort.disable_telemetry_events()  # where it was loaded before this package, which tells it to send nothing
        name, data, digest = weights.read(path)
        try:
            self._session = workers.adopt(lambda: _session(data, workers.threads))
        except (states.InvalidProtobuf, states.InvalidGraph, states.Fail, states.InvalidArgument) as error:
            raise WeightsError(f"{name} is not an ONNX model that runs here: {str(error).splitlines()[0]}") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.config = weights.config(name, metadata)
        shape = self._session.get_inputs()[0].shape[2:]
        self.size = (shape[0], shape[1]) if all(isinstance(side, int) for side in shape) else None
        self._facts = {
            "weights": name,
            "sha256": digest,
            "licence": metadata.get("rethined.licence"),
            "training": metadata.get("rethined.training"),
            "parameters": int(metadata.get("rethined.parameters", 0)),
            "macs at 512": int(metadata.get("rethined.macs", 0)),
            "runtime": f"onnxruntime {ort.__version__}",
            "providers": self._session.get_providers(),
            "threads": workers.threads,
        }
        self._data, self._workers = data, workers
        self._alone: OnnxBackend | None = None
        self._asked = False

    def alone(self) -> OnnxBackend:
        """The same on the caller's thread alone, with equal results, for threads that each run it: those of one pool
        would wait for one another. It is loaded when it is asked for again: a program that fills a single photograph
        would wait longer for it than it gains.
        """
        if not self._asked:
            self._asked = True
            return self
        if self._alone is None:
            other = copy.copy(self)
            other._session, other._workers = _session(self._data, 1), Workers(1)
            self._alone = other
        return self._alone

    def run(
        self, image: NDArray[np.float32], mask: NDArray[np.float32], detail: NDArray[np.float32] | None
    ) -> CoreOutput:
        feeds = {"image": image, "mask": mask} | ({} if detail is None else {"detail": detail})
        try:
            with self._workers.apart():
                return CoreOutput(*self._session.run(None, feeds))
        except RuntimeError as error:
            raise BackendError(f"ONNX Runtime could not run the model: {str(error).splitlines()[0]}") from error

    def describe(self) -> dict[str, Any]:
        return dict(self._facts)
