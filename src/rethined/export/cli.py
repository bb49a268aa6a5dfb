"""`rethined export`. Heavy imports are inside the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rethined.errors import BackendError, InputError

FORMATS = ("onnx", "pipeline")


def register(app: typer.Typer) -> None:
    """Add the verb `export` to the main command line."""
    app.command()(export)


def export(
    format: Annotated[
        str,
        typer.Argument(
            help="onnx: the core, for any height and width. pipeline: photo and mask in, filled photo out."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="OUT")],
    weights: Annotated[
        Path | None,
        typer.Argument(
            help="The best.safetensors of a training run; of pipeline also an ONNX core.  [pipeline: those in the "
            "package]",
            metavar="WEIGHTS",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> int:
    """Write trained weights for a runtime; nothing is written if the result differs from PyTorch's."""
    from rethined.image import check_output

    if format not in FORMATS:
        raise InputError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
    check_output(output, overwrite=overwrite)
    if format == "pipeline":
        return _pipeline(weights, output)
    if weights is None:
        raise InputError("onnx needs WEIGHTS, the best.safetensors of a training run")
    try:
        from rethined.export.onnx import export_core, load_weights
    except ImportError as error:
        raise BackendError(f"export needs {error.name}; install it with: pip install 'rethined[export]'") from error
    model, metadata = load_weights(weights)
    training = {"rethined.training": metadata.get("rethined.training", "")}
    difference = export_core(model, output, training)
    differences = ", ".join(f"{name} {value:.1e}" for name, value in difference.items())
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB; largest differences to PyTorch: {differences}")
    return 0


def _pipeline(weights: Path | None, output: Path) -> int:
    from rethined.weights import read

    try:
        from rethined.export.pipeline import export_pipeline

        if weights is not None and weights.suffix == ".safetensors":
            from rethined.export.onnx import load_weights, to_onnx

            model, metadata = load_weights(weights)
            core = to_onnx(model, {"rethined.training": metadata.get("rethined.training", "")})
        else:
            _, core, _ = read(weights)
    except ImportError as error:
        raise BackendError(f"export needs {error.name}; install it with: pip install 'rethined[export]'") from error
    shares = ", ".join(f"{size} {share:.1e}" for size, share in export_pipeline(core, output).items())
    megabytes = output.stat().st_size / 1e6
    typer.echo(f"{output}: {megabytes:.1f} MB; hole pixels more than one grey level from the engine's: {shares}")
    return 0
