"""The network in PyTorch as an engine's backend: what is being trained is measured as it will be used."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rethined.backends import CoreOutput
from rethined.model.pipeline import Core, Rethined


class TorchBackend:
    """Runs the core of `model` where its weights lie."""

    def __init__(self, model: Rethined) -> None:
        self.config = model.config
        self.size: tuple[int, int] | None = None
        self._core = Core(model).eval()
        self._device = next(model.parameters()).device

    @torch.no_grad()
    def run(
        self, image: NDArray[np.float32], mask: NDArray[np.float32], detail: NDArray[np.float32] | None
    ) -> CoreOutput:
        given = [torch.from_numpy(array).to(self._device) for array in (image, mask, detail) if array is not None]
        return CoreOutput(*(output.cpu().numpy() for output in self._core(*given)))

    def describe(self) -> dict[str, Any]:
        return {"runtime": f"torch {torch.__version__}", "threads": torch.get_num_threads()}
