"""`rethined eval`, and `rethined bench` with its verbs. Heavy imports are inside the verbs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, TypeVar

import typer

from rethined.errors import BackendError, InputError

Number = TypeVar("Number", int, float)

bench = typer.Typer(help="Measure quality and speed; render the tables.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the verb `eval` and the group `bench` with its verbs to the main command line."""
    app.command("eval")(evaluate)
    app.add_typer(bench, name="bench")


Photos = Annotated[Path, typer.Argument(help="Folder of photographs, or one.", metavar="PHOTOS")]
Masks = Annotated[
    str,
    typer.Option(
        help="KIND-LOW-HIGH in percent, of strokes, boxes, objects, wires, letters, mixed; or a folder of PNG masks "
        "named like the photographs, white = hole; comma between.",
        metavar="SPECS",
    ),
]
Sizes = Annotated[str, typer.Option(help="Pixels on the long side; comma between.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the masks.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many photographs.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads to compute with.  [default: one per core, up to 8]")
]
Fid = Annotated[
    bool,
    typer.Option(help="Also FID, where $RETHINED_BACKBONES holds the whole Inception, or else FID-768."),
]
Inception = Annotated[
    Path | None, typer.Option(help="Inception of pytorch-fid or torch-fidelity, for --fid.", metavar="FILE")
]
Out = Annotated[Path, typer.Option(help="Folder of results.", metavar="FOLDER")]
Pictures = Annotated[
    Path | None,
    typer.Option(
        help="Also write worst-1.jpg, ... there: the worst case of each photograph, at 100 %.", metavar="FOLDER"
    ),
]
Cases = Annotated[int, typer.Option(min=1, help="Most cases, and most pictures, to show.")]


def evaluate(
    photos: Photos,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="An ONNX core, or the .safetensors of a training run.  [default: those in the package]",
            metavar="FILE",
        ),
    ] = None,
    sizes: Sizes = "512,1024,2048,4096",
    masks: Masks = "strokes-10-20,objects-10-20,mixed-30-50",
    seed: Seed = 0,
    limit: Limit = None,
    threads: Threads = None,
    squeeze: Annotated[bool, typer.Option(help="LPIPS over SqueezeNet as well as over AlexNet.")] = True,
    fid: Fid = False,
    inception: Inception = None,
    reference: Annotated[
        bool, typer.Option(help="Measure telea and copy_reference as well, and the ratio to the latter.")
    ] = True,
    name: Annotated[str | None, typer.Option(help="Of the results.  [default: the folder's]")] = None,
    out: Out = Path("results"),
    report: Annotated[bool, typer.Option(help="Also write eval--NAME.html: worst cases first, at 100 %.")] = True,
    pictures: Pictures = None,
    cases: Cases = 24,
) -> int:
    """Judge one model: LPIPS, L1, PSNR, SSIM and FID of its fills, over the whole image and inside the hole.

    Writes OUT/eval--NAME.json, with a row for every photograph and method, and OUT/eval--NAME.html. Until it is done,
    what has been measured is in OUT/eval--NAME.partial.json, and stays there if it is interrupted.
    """
    evaluation, measure = _laboratory()
    from rethined.bench.cases import Worst
    from rethined.bench.page import page
    from rethined.bench.provenance import check_folder, write_json
    from rethined.bench.report import overview
    from rethined.image import write_atomic

    found = measure.find_photos(photos)[:limit]
    holes = measure.parse_masks(masks, seed)
    pixels = _sizes(sizes)
    name = _file_name(name or photos.resolve().stem)
    for folder in (out, pictures or out):
        check_folder(folder)
    _use_threads(threads)
    worst = Worst(cases)
    json, partial = (out / f"eval--{name}{suffix}" for suffix in (".json", ".partial.json"))
    result = evaluation.evaluate(
        weights,
        found,
        pixels,
        holes,
        measure.Metrics.load(squeeze=squeeze, distances=fid, inception=inception),
        reference=reference,
        threads=threads,
        worst=worst,
        progress=typer.echo,
        keep=lambda so_far: write_json(partial, so_far),
    )
    out.mkdir(parents=True, exist_ok=True)
    if pictures:
        result["pictures"] = evaluation.write_worst(pictures, worst.of_each_photo, json)
    if report:
        html = json.with_suffix(".html")
        write_atomic(html, page(result, worst.cases, f"rethined eval: {name}").encode(), overwrite=True)
        typer.echo(f"wrote {html}")
    typer.echo(f"wrote {write_json(json, result)}")
    partial.unlink(missing_ok=True)
    typer.echo(f"\nLPIPS in the hole (of copy_reference's):\n{overview(result)}", nl=False)
    return 0


@bench.command()
def quality(
    photos: Photos,
    methods: Annotated[
        str,
        typer.Option(
            help="telea, telea_full, copy_reference, rethined, rethined:FILE, rethined_whole, peers; comma between."
        ),
    ] = "telea,copy_reference,rethined",
    peer_weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=FILE: official weights of a peer.")
    ] = None,
    onnx: Annotated[list[str] | None, typer.Option(help="NAME=FILE or NAME=FILE:{...}: any network.")] = None,
    sizes: Sizes = "2048",
    masks: Masks = "strokes-10-20",
    seed: Seed = 0,
    limit: Limit = None,
    threads: Threads = None,
    squeeze: Annotated[bool, typer.Option(help="LPIPS over SqueezeNet as well as over AlexNet.")] = False,
    fid: Fid = False,
    inception: Inception = None,
    name: Annotated[str, typer.Option(help="Ends the result's file name.")] = "",
    out: Out = Path("results"),
    pictures: Annotated[
        Path | None, typer.Option(help="Keep the worst case of each photograph there, for reports.", metavar="FOLDER")
    ] = None,
    cases: Cases = 24,
) -> int:
    """Compare methods, or several weights, by what `rethined eval` measures: one result per masks and size."""
    _, measure = _laboratory()
    from rethined.bench import peers, provenance
    from rethined.bench.cases import Worst, write_cases

    files, exports = peers.parse_weights(peer_weights or []), peers.parse_onnx(onnx or [])
    found = measure.find_photos(photos)[:limit]
    holes = measure.parse_masks(masks, seed)
    pixels = _sizes(sizes)
    for some in holes:
        some.check(found)
    for folder in (out, pictures or out):
        provenance.check_folder(folder)
    _use_threads(threads)
    metrics = measure.Metrics.load(squeeze=squeeze, distances=fid, inception=inception)
    loaded = measure.load_methods(methods.split(","), threads=threads, weights=files, onnx=exports)
    for some in holes:
        for size in pixels:
            origin = provenance.provenance()
            worst = Worst(cases)
            run = measure.run(loaded, found, size, some, metrics, worst=worst, progress=typer.echo)
            if not run["rows"]:
                raise InputError(f"no photograph has {size} pixels on its long side; give a smaller size")
            stem = "--".join(["quality", str(some), str(size)] + ([_file_name(name)] if name else []))
            json = out / f"{stem}.json"
            if pictures:
                run["cases"] = write_cases(pictures / stem, worst.of_each_photo, json)
            weights = {name: measure.sha256_of(name) for name in loaded if name.startswith("rethined")}
            weights |= peers.hashes(loaded)
            result = {"kind": "quality", **run, "weights": weights, **measure.described(metrics), **origin}
            typer.echo(f"wrote {provenance.write_json(json, result)}")
    return 0


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
def stream(
    weights: Annotated[Path | None, typer.Option(help="Weight file; the bundled one by default.")] = None,
    hole: Annotated[float, typer.Option(help="Part of the frame that is hole.")] = 0.05,
    threads: Annotated[int, typer.Option(help="Threads of the engine.")] = 2,
    frames: Annotated[int, typer.Option(help="Timed frames of each size.")] = 60,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
) -> None:
    """Frames per second at 720p, 1080p and 4K with a fixed mask, in memory."""
    from rethined.bench import stream as task
    from rethined.bench.provenance import write_json

    result = task.run_stream(weights, hole=hole, threads=threads, frames=frames, progress=typer.echo)
    typer.echo(f"wrote {write_json(out / 'stream.json', result)}")


@bench.command()
def ablation(
    val: Annotated[Path, typer.Option(help="Folder of photographs to measure on.", metavar="FOLDER")],
    data: Annotated[
        Path | None, typer.Option(help="Folder or pack of photographs: trains every choice on it.", metavar="FOLDER")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Trained weights (.safetensors): tries on them what needs no training.", metavar="FILE"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each training.")] = 200,
    batch_size: Annotated[int, typer.Option(min=2, help="Pictures per step.")] = 8,
    crop: Annotated[int, typer.Option(min=64, help="Side of the crops, in low-resolution pixels.")] = 128,
    only: Annotated[str, typer.Option(help="With --data: only choices that have this in their name.")] = "",
    threads: Threads = None,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
) -> None:
    """The paper's ablations and our deviations one by one: short trainings of equal budget, or finished weights."""
    _laboratory()
    from rethined.bench import ablation as task
    from rethined.bench.provenance import write_json
    from rethined.bench.schema import DESIGN

    if data is None and weights is None:
        raise InputError("nothing to do; give --data to train every choice, or --weights to try finished ones")
    choices = {name: changes for name, changes in task.TRAINED.items() if only in name or name == DESIGN}
    if only and len(choices) == 1:
        raise InputError(f"no choice has {only!r} in its name; there are: {', '.join(task.TRAINED)}")
    _use_threads(threads)
    if data is not None:
        result = task.run_trained(
            data, val, choices, steps=steps, batch_size=batch_size, crop=crop, progress=typer.echo
        )
        typer.echo(f"wrote {write_json(out / 'ablation--trained.json', result)}")
    if weights is not None:
        result = task.run_untrained(weights, val, progress=typer.echo)
        typer.echo(f"wrote {write_json(out / 'ablation--weights.json', result)}")


@bench.command()
def paper(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="table1, table3, table4, table5, frontier, figure3, figure5.",
            metavar="[PARTS]...",
            show_default="all",
        ),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs to measure on.", metavar="FOLDER")
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            help="Other photographs, or a pack: table4, table5 and frontier train on them.", metavar="FOLDER"
        ),
    ] = None,
    weights: Annotated[list[str] | None, typer.Option(help="NAME=FILE: official weights of a peer.")] = None,
    onnx: Annotated[list[str] | None, typer.Option(help="NAME=FILE or NAME=FILE:{...}: any network.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes instead of half an hour, and rougher.")] = False,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Of each training.  [default: 150, of frontier 600; with --quick 10]"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of every method.")] = 2,
    fid: Fid = False,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
) -> None:
    """Measure the paper's tables and figures, a result each; `rethined bench report` renders them."""
    _laboratory()
    from rethined.bench import paper as task
    from rethined.bench import peers

    budget = task.QUICK if quick else task.FULL
    if steps is not None:
        budget = dataclasses.replace(budget, steps=steps, frontier_steps=steps)
    settings = task.Settings(
        budget,
        out,
        photos,
        train,
        peers.parse_weights(weights or []),
        peers.parse_onnx(onnx or []),
        threads,
        fid,
        typer.echo,
    )
    _use_threads(threads)
    task.run(parts or list(task.PARTS), settings)
    typer.echo(f"\nSee them with: rethined bench report --results {out} --html {out / 'report.html'}")


@bench.command()
def device(
    photos: Photos,
    weights: Annotated[Path | None, typer.Option(help="As of rethined export; the bundled ones by default.")] = None,
    runtimes: Annotated[
        str,
        typer.Option(
            help="onnx, openvino, web, executorch, litert, ncnn, coreml, litert_gpu, qnn, tensorrt, cuda; comma "
            "between.  [default: all that are installed]",
            show_default=False,
        ),
    ] = "",
    sizes: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the low-resolution image; comma between.")] = "512x512",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtimes.")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="Timed calls of each.")] = 20,
    limit: Annotated[int, typer.Option(min=1, help="Most photographs.")] = 8,
    told: Annotated[
        list[str] | None,
        typer.Option(
            help="PRECISION=MS: a time that the device's own tool told, where this program does not run.",
            metavar="PRECISION=MS",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="The device's; ends the result's file name.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
) -> None:
    """The core in every runtime that is installed here: time, memory, file size, difference to PyTorch, LPIPS."""
    _laboratory()
    from rethined.bench import device as task
    from rethined.bench.provenance import check_folder, cpu_name, write_json
    from rethined.bench.schema import RUNTIMES

    check_folder(out)
    times = [text.partition("=") for text in told or []]
    result = task.run_device(
        weights,
        photos,
        runtimes=runtimes.split(",") if runtimes else tuple(RUNTIMES),
        sizes=sizes.split(","),
        threads=threads,
        runs=runs,
        limit=limit,
        told={precision: _numbers(value, float)[0] for precision, _, value in times},
        name=name,
        progress=typer.echo,
    )
    path = out / f"device--{_file_name(name or cpu_name())}.json"
    typer.echo(f"wrote {write_json(path, result)}")


@bench.command()
def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Markdown files with markers.", show_default="README, model card and docs"),
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    check: Annotated[bool, typer.Option(help="Write nothing; fail when a table is out of date.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Instead write one page with all tables, plots and pictures there.", metavar="FILE"),
    ] = None,
) -> None:
    """Render tables and plots between `<!-- bench:NAME -->` and `<!-- /bench -->`, or as a page."""
    from rethined.bench import report as task

    if html is not None:
        from rethined.bench.page import bench_page
        from rethined.bench.provenance import check_folder
        from rethined.image import write_atomic

        if files or check:
            raise InputError("--html writes a page and fills no files; leave out FILES and --check")
        check_folder(html.parent)
        text = bench_page(task.sections(results), task.galleries(results), "rethined bench")
        html.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(html, text.encode(), overwrite=True)
        typer.echo(f"wrote {html}")
        return
    documents = (*map(Path, ("README.md", "MODEL_CARD.md")), *sorted(Path("docs").glob("*.md")))
    targets = files or [path for path in documents if path.is_file()]
    if not targets:
        raise InputError("no README.md or MODEL_CARD.md here; name the Markdown files to fill")
    changed = task.update(targets, results, check=check)
    for path in changed:
        typer.echo(f"{'out of date' if check else 'updated'}: {path}")
    if check and changed:
        raise typer.Exit(1)


def _laboratory() -> tuple[ModuleType, ModuleType]:
    """The modules that measure, which need torch."""
    try:
        from rethined.bench import evaluate, measure
    except ImportError as error:
        raise BackendError(f"measuring needs {error.name}; install it with: pip install 'rethined[bench]'") from error
    return evaluate, measure


def _use_threads(threads: int | None) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _sizes(text: str) -> list[int]:
    sizes = sorted(set(_numbers(text, int)))
    if sizes[0] < 1:
        raise InputError(f"sizes are {text}; give pixels on the long side, such as 1024,2048")
    return sizes


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "photos"


def _numbers(text: str, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{text!r} is not a list of numbers; write them with commas between") from error
