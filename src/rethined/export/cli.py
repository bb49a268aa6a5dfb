"""`rethined export`. Heavy imports are inside the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rethined.errors import BackendError, InputError

FORMATS = ("onnx",)


def register(app: typer.Typer) -> None:
    """Add the verb `export` to the main command line."""
    app.command()(export)


def export(
    format: Annotated[str, typer.Argument(help="onnx: the core, for any height and width.")],
    weights: Annotated[Path, typer.Argument(help="The best.safetensors of a training run.", metavar="WEIGHTS")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="OUT")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> int:
    """Write trained weights for a runtime; nothing is written if the result differs from PyTorch's."""
    from rethined.image import check_output

    if format not in FORMATS:
        raise InputError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
    check_output(output, overwrite=overwrite)
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
