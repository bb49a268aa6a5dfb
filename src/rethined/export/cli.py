"""`rethined export`. Heavy imports are inside the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rethined.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verb `export` to the main command line."""
    app.command()(export)


def export(
    format: Annotated[
        str,
        typer.Argument(
            help="onnx, openvino, coreml, executorch, litert, ncnn: the network. pipeline: photo and mask in, filled "
            "photo out, one ONNX file. hub: a folder for a model hub.",
            metavar="FORMAT",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="OUT")],
    weights: Annotated[
        Path | None,
        typer.Argument(
            help="The best.safetensors of a training run, or an ONNX core in fp32 or fp16.  [default: those in the "
            "package]",
            metavar="[WEIGHTS]",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="HEIGHTxWIDTH of the low-resolution image, multiples of 32; coreml also takes several, comma "
            "between.  [default: any size where the format can, else 512x512]",
        ),
    ] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Any size, in onnx and openvino.")] = False,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or int8.  [default: fp32; of coreml fp16]", metavar="PRECISION")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Photographs that int8 is calibrated with.", metavar="FOLDER")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> int:
    """Write weights for a runtime; nothing is written if the result differs from PyTorch's."""
    from rethined.export import formats

    given = dynamic or any(option is not None for option in (size, precision, calibration))
    if format == "hub":
        if given:
            raise InputError("hub has no size, precision or calibration: it holds the usual forms; leave these out")
        return _hub(weights, output)
    if format == "pipeline":
        if given:
            raise InputError("pipeline takes any size and has one form; leave out size, precision and calibration")
        beside = output.parent / f"{output.name}.sha256"
        formats.check_outputs([output, beside], formats.FORMATS["onnx"], overwrite=overwrite)
        return _pipeline(weights, output)
    if dynamic:
        if size is not None:
            raise InputError(f"--dynamic is any size and --size is {size}; give one of them")
        if format in formats.FORMATS and not formats.FORMATS[format].any_size:
            able = [name for name, form in formats.FORMATS.items() if form.any_size]
            raise InputError(
                f"{format} has fixed sizes only; give --size, or export {' or '.join(able)} for any size"
            )
    difference, size_bytes = formats.export(
        format, weights, output, size=size, precision=precision, calibration=calibration, overwrite=overwrite
    )
    told = ", ".join(f"{name} {value:.1e}" for name, value in difference.items())
    typer.echo(f"{output}: {size_bytes / 1e6:.1f} MB; largest difference to PyTorch: {told}")
    return 0


def _hub(weights: Path | None, output: Path) -> int:
    try:
        from rethined.export.hub import publish
    except ImportError as error:
        raise InputError(f"hub needs {error.name}; install it with: pip install 'rethined[export]'") from error
    for line in publish(weights, output):
        typer.echo(line)
    return 0


def _pipeline(weights: Path | None, output: Path) -> int:
    from rethined.weights import read

    try:
        from rethined.export.core import load_weights
        from rethined.export.onnx import to_onnx
        from rethined.export.pipeline import export_pipeline

        if weights is not None and weights.suffix == ".safetensors":
            model, metadata = load_weights(weights)
            name = weights.name
            core = to_onnx(model, {"rethined.training": metadata.get("rethined.training", "")}, half=True)
        else:
            name, core, _ = read(weights)
    except ImportError as error:
        raise InputError(f"pipeline needs {error.name}; install it with: pip install 'rethined[export]'") from error
    shares = ", ".join(f"{size} {share:.1e}" for size, share in export_pipeline(name, core, output).items())
    megabytes = output.stat().st_size / 1e6
    typer.echo(f"{output}: {megabytes:.1f} MB; hole pixels more than one grey level from the engine's: {shares}")
    return 0
