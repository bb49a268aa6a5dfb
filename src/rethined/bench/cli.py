"""`rethined bench quality | latency | report`. Heavy imports are inside the verbs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from rethined.errors import InputError

Number = TypeVar("Number", int, float)

bench = typer.Typer(help="Measure quality and speed; render the tables.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group `bench` with its verbs to the main command line."""
    app.add_typer(bench, name="bench")


@bench.command()
def quality(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs, or one.")],
    methods: Annotated[
        str, typer.Option(help="telea, telea_full, copy_reference, rethined, rethined:FILE, peers; comma between.")
    ] = "telea,copy_reference,rethined",
    weights: Annotated[list[str] | None, typer.Option(help="NAME=FILE: official weights of a peer.")] = None,
    onnx: Annotated[list[str] | None, typer.Option(help="NAME=FILE or NAME=FILE:{...}: any network.")] = None,
    sizes: Annotated[str, typer.Option(help="Pixels on the long side; comma between.")] = "2048",
    masks: Annotated[
        str, typer.Option(help="KIND-LOW-HIGH in percent, of strokes, boxes, objects, mixed; comma between.")
    ] = "strokes-10-20",
    seed: Annotated[int, typer.Option(help="Of the masks.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Only the first so many photographs.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine.")] = None,
    fid: Annotated[bool, typer.Option(help="Also FID-768, over crops around the holes.")] = False,
    name: Annotated[str, typer.Option(help="Ends the result's file name.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    sheets: Annotated[Path | None, typer.Option(help="Folder for PNG sheets at 100 %, worst first.")] = None,
) -> None:
    """LPIPS, L1, PSNR, SSIM (whole image and inside the hole) and FID-768 of methods on photographs."""
    from rethined.bench import peers
    from rethined.bench import quality as task
    from rethined.bench.provenance import write_json
    from rethined.metrics.fid import Inception768
    from rethined.metrics.lpips import Lpips

    specs = [task.MaskSpec.parse(text, seed) for text in masks.split(",")]
    metrics = task.Metrics(Lpips.load("alex"), Inception768.load() if fid else None)
    files, exports = peers.parse_weights(weights or []), peers.parse_onnx(onnx or [])
    loaded = task.load_methods(methods.split(","), threads=threads, weights=files, onnx=exports)
    found = task.find_photos(photos)[:limit]
    for spec in specs:
        for pixels in _numbers(sizes, int):
            stem = "--".join(["quality", str(spec), str(pixels)] + ([name] if name else []))
            folder = sheets and sheets / stem
            result = task.run_quality(loaded, found, pixels, spec, metrics, sheets=folder, progress=typer.echo)
            typer.echo(f"wrote {write_json(out / f'{stem}.json', result)}")


@bench.command()
def latency(
    weights: Annotated[
        list[str] | None,
        typer.Option(help="FILE: the engine's, or the bundled one; NAME=FILE: a peer's, or random ones."),
    ] = None,
    methods: Annotated[str, typer.Option(help="Peers to time in turn with the engine; comma between.")] = "",
    onnx: Annotated[list[str] | None, typer.Option(help="NAME=FILE or NAME=FILE:{...}: any network.")] = None,
    runtime: Annotated[str, typer.Option(help="Of peers: onnx, as the engine's, or torch.")] = "onnx",
    sizes: Annotated[str, typer.Option(help="Sides of the square image; comma between.")] = "512,1024,2048,4096",
    holes: Annotated[str, typer.Option(help="Parts of the image that are hole; comma between.")] = "0.1,0.25",
    threads: Annotated[int, typer.Option(help="Threads of the engine.")] = 2,
    runs: Annotated[int, typer.Option(help="Timed calls of each.")] = 20,
    warmup: Annotated[int, typer.Option(help="Calls before timing.")] = 3,
    profile: Annotated[bool, typer.Option(help="Also the time of each stage.")] = False,
    name: Annotated[str, typer.Option(help="Ends the result's file name.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
) -> None:
    """Milliseconds and memory of the engine, beside OpenCV's Telea and a plain copy."""
    from rethined.bench import latency as task
    from rethined.bench import peers
    from rethined.bench.peers.timing import Field
    from rethined.bench.provenance import write_json

    own, others = peers.split_weights(weights or [])
    names = [name for name in methods.split(",") if name]
    field = Field(names, others, peers.parse_onnx(onnx or []), runtime)
    result = task.run_latency(
        own,
        sizes=_numbers(sizes, int),
        holes=_numbers(holes, float),
        threads=threads,
        runs=runs,
        warmup=warmup,
        profile=profile,
        field=field if field.all_names() else None,
        progress=typer.echo,
    )
    stem = "--".join(["latency"] + ([name] if name else []))
    typer.echo(f"wrote {write_json(out / f'{stem}.json', result)}")


@bench.command()
def report(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Markdown files with markers.", show_default="README and docs")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    check: Annotated[bool, typer.Option(help="Write nothing; fail when a table is out of date.")] = False,
) -> None:
    """Render the tables between `<!-- bench:NAME -->` and `<!-- /bench -->`."""
    from rethined.bench import report as task

    documents = (Path("README.md"), Path("MODEL_CARD.md"), Path("docs/benchmarks.md"))
    targets = files or [path for path in documents if path.is_file()]
    if not targets:
        raise InputError("no README.md or docs/benchmarks.md here; name the Markdown files to fill")
    changed = task.update(targets, results, check=check)
    for path in changed:
        typer.echo(f"{'out of date' if check else 'updated'}: {path}")
    if check and changed:
        raise typer.Exit(1)


def _numbers(text: str, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{text!r} is not a list of numbers; write them with commas between") from error
