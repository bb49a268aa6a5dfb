"""On macOS: Core ML's own predictions beside ONNX Runtime's. Needs coremltools, onnxruntime and NumPy alone.

python coreml_check.py core.mlpackage core.onnx
"""

from __future__ import annotations

import sys
import time

import coremltools as ct
import numpy as np
import onnxruntime as ort


def main(package: str, onnx: str) -> int:
    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    worst = 0.0
    for units in (ct.ComputeUnit.CPU_ONLY, ct.ComputeUnit.CPU_AND_GPU, ct.ComputeUnit.CPU_AND_NE):
        model = ct.models.MLModel(package, compute_units=units)
        described = model.get_spec().description.input[0].type.multiArrayType
        shapes = [tuple(one.shape) for one in described.enumeratedShapes.shapes] or [tuple(described.shape)]
        for _, _, h, w in shapes:
            rng = np.random.default_rng(0)
            mask = np.zeros((1, 1, h, w), np.float32)
            mask[..., h // 4 : h // 2, w // 3 : w // 2] = 1
            cells = rng.random((1, 3, h // 8, w // 8), np.float32).repeat(8, 2).repeat(8, 3)
            detail = rng.random((1, 6, h // 8, w // 8), np.float32) / 10
            inputs = {"image": cells * (1 - mask), "mask": mask, "detail": detail}
            model.predict(inputs)  # loads and compiles
            start = time.perf_counter()
            got = model.predict(inputs)
            took = 1000 * (time.perf_counter() - start)
            wanted = zip(("low", "query", "key"), session.run(["low", "query", "key"], inputs), strict=True)
            apart = {name: float(np.abs(got[name] - value).max()) for name, value in wanted}
            worst = max(worst, *apart.values())
            print(units.name, f"{h}x{w}", f"{took:.1f} ms", {name: f"{value:.1e}" for name, value in apart.items()})
    print("as promised" if worst <= 2 / 255 else "NOT as promised: please report it")
    return int(worst > 2 / 255)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
