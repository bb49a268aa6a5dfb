"""The command line: one function per verb, everything heavy imported inside, so that --help is instant.

Exit codes: 0 done; 2 the command cannot be carried out as given (options, names, masks that do not fit, kinds
of file not supported): change the command; 1 it failed all the same (a damaged file, a full disk, corrupt
weights, or some photos of a folder); 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from rethined import __version__
from rethined.bench import cli as bench_cli
from rethined.data import cli as data_cli
from rethined.errors import InputError, OutputError, RethinedError, RethinedWarning
from rethined.export import cli as export_cli
from rethined.train import cli as train_cli

if TYPE_CHECKING:
    from rethined.batch import Options, Outcome

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # importing rich costs more than all the rest of --help
    pretty_exceptions_enable=False,
    help="Real-time, high-resolution image inpainting on the machine you have.",
)

DASH = Path("-")
Weights = Annotated[Path | None, typer.Option(help="Weights to use instead of those in the package.", metavar="FILE")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads to compute with.  [default: one per core, up to 8]")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rethined {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


# ---------------------------------------------------------------- inpaint


@app.command()
def inpaint(
    image: Annotated[Path, typer.Argument(help="A photo, a folder of photos, or - for standard input.")],
    mask: Annotated[
        Path,
        typer.Argument(
            help="White is filled, and should reach a few pixels beyond the object. Of the photo's size as "
            "displayed. For a folder: a folder of masks named like the photos, or one mask for all."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A file, a folder, or - for standard output.", metavar="OUT"),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    mask_invert: Annotated[bool, typer.Option("--mask-invert", help="Fill black instead of white.")] = False,
    dilate: Annotated[
        int, typer.Option(min=0, help="Pixels to grow the hole by, such as 4 where it leaves the object's rim.")
    ] = 0,
    feather: Annotated[
        int,
        typer.Option(min=0, help="Pixels over which the fill fades in, all inside the hole."),
    ] = 0,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Of JPEG, WebP and AVIF.  [default: as the input; 95 or 90 in a new format]",
        ),
    ] = None,
    side_by_side: Annotated[
        bool,
        typer.Option("--side-by-side", help="Also write OUT.side-by-side.jpg: original, masked, result."),
    ] = False,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest width times height to read.")] = 400_000_000,
    weights: Weights = None,
    threads: Threads = None,
) -> int:
    """Fill the masked parts of a photo, or of every photo in a folder.

    The result has the format, size, mode, profile and metadata of the photo; what is not masked stays as it
    is. A folder run mirrors the tree, skips results that exist and goes on past photos that fail.
    """
    import logging

    from rethined.batch import Options

    logging.getLogger().addHandler(logging.NullHandler())  # decoders' notes; what matters is raised as well
    options = Options(
        invert=mask_invert,
        dilate=dilate,
        feather=feather,
        quality=quality,
        side_by_side=side_by_side,
        max_pixels=max_pixels,
    )
    if image.is_dir():
        return _inpaint_folder(image, mask, output, options, overwrite, weights, threads)
    _inpaint_file(image, mask, output, options, overwrite, weights, threads)
    return 0


def _inpaint_file(
    image: Path,
    mask: Path,
    output: Path,
    options: Options,
    overwrite: bool,
    weights: Path | None,
    threads: int | None,
) -> None:
    import time

    from rethined import batch
    from rethined.image import check_format, check_output, format_of

    started = time.perf_counter()
    if image == DASH and mask == DASH:
        raise InputError("image and mask cannot both come from standard input; give one of them as a file")
    format = None
    if output == DASH:
        if options.side_by_side:
            raise InputError("--side-by-side needs an output file to be written beside, not standard output")
        if sys.__stdout__ is None:
            raise InputError("standard output is closed; redirect it to a file or name one with -o")
        if sys.stdout.isatty():
            raise InputError("standard output is a terminal; redirect it to a file or name one with -o")
    else:
        if output.is_dir() and image != DASH:
            output = output / image.name
        format = format_of(output)
        check_output(output, overwrite=overwrite)
        if options.side_by_side:
            check_output(batch.side_by_side_path(output), overwrite=overwrite)
    with batch.reading_threads() as reader:  # while the engine loads
        reading = reader.submit(batch.read, _source(image), _source(mask), options)
        engine = _engine(weights, threads)
        _warm_up(engine)
        _heed_signal()  # before what may take for ever
        photo, hole = reading.result()
    check_format(photo, format or photo.format)
    filled = batch.encode(photo, hole, batch.fill(photo, hole, engine), options, format)
    _heed_signal()
    if output == DASH:
        _write_standard_output(filled.photo)
    else:
        batch.write(output, filled, overwrite=overwrite)
        typer.echo(f"{output}: {filled.summary}, {time.perf_counter() - started:.2f} s")


def _inpaint_folder(
    image: Path,
    mask: Path,
    output: Path,
    options: Options,
    overwrite: bool,
    weights: Path | None,
    threads: int | None,
) -> int:
    import time

    from rethined import batch

    if DASH in (mask, output):
        raise InputError("a folder of images needs a mask or folder of masks, and a folder for the results, not -")
    started = time.perf_counter()
    jobs, others = batch.plan(image, mask, output, overwrite=overwrite)
    counts = {"filled": 0, "skipped": 0, "failed": 0}
    engine = _engine(weights, threads)
    warm_up = functools.cache(lambda: _warm_up(engine))

    def fill(photo: Any, hole: Any) -> Any:
        warm_up()  # not before: perhaps all results exist
        return engine(photo, hole)

    with _progress(len(jobs)) as advance:
        for outcome in batch.run(jobs, fill, options, overwrite=overwrite):
            counts[outcome.status] += 1
            advance(outcome)
    ignored = f" ({others} other files ignored)" if others else ""
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    typer.echo(f"{summary} in {time.perf_counter() - started:.1f} s{ignored}")
    return 1 if counts["failed"] else 0


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Yields a function that reports an outcome: on a bar on a terminal, on a line of its own in a pipe."""

    def report(outcome: Outcome) -> None:
        name = outcome.job.name
        if outcome.status == "failed":
            typer.echo(f"error: {name}: {outcome.message}", err=True)
        elif not sys.stdout.isatty():
            typer.echo(f"{name}: {outcome.status}, {outcome.message}")

    if not sys.stdout.isatty():
        yield report
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=total)

        def report_and_advance(outcome: Outcome) -> None:
            report(outcome)
            progress.update(task, advance=1, description=outcome.job.name.replace("[", "\\["))

        yield report_and_advance


def _engine(weights: Path | None, threads: int | None) -> Any:
    from rethined.engine import Engine

    return Engine(weights, threads=threads)


def _warm_up(engine: Any) -> None:
    from rethined import ahead

    ahead.warm_up(engine, lambda message: typer.echo(message, err=True) if sys.stderr.isatty() else None)


def _source(path: Path) -> Path | bytes:
    return sys.stdin.buffer.read() if path == DASH else path


def _write_standard_output(data: bytes) -> None:
    try:
        # unbuffered, so that nothing is left to fail when the interpreter exits
        with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as stream:
            rest = memoryview(data)
            while rest:
                rest = rest[stream.write(rest) :]
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error


# ---------------------------------------------------------------- info


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    weights: Weights = None,
    threads: Threads = None,
) -> int:
    """Show versions, weights and machine: what a bug report needs."""
    import importlib.metadata
    import json
    import platform

    facts: dict[str, Any] = {"rethined": __version__}
    failure = None
    try:
        facts |= _engine(weights, threads).describe()
        if isinstance(facts.get("config"), str):
            facts["config"] = json.loads(facts["config"])
    except RethinedError as error:  # the rest is all the more wanted
        failure = facts["error"] = str(error)
    facts["python"] = platform.python_version()
    for package in ("onnxruntime", "numpy", "opencv-python-headless", "pillow", "numba"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # another distribution of the same module
            facts[package] = None
    facts["os"] = platform.platform()
    facts["cpu"] = _cpu_name()
    facts["cores"] = os.cpu_count()
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
    else:
        for key, value in facts.items():
            typer.echo(f"{key + ':':24}{json.dumps(value, default=str) if isinstance(value, dict) else value}")
    return 1 if failure else 0


def _cpu_name() -> str:
    import platform

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# ---------------------------------------------------------------- for researchers

bench_cli.register(app)
data_cli.register(app)
export_cli.register(app)
train_cli.register(app)


# ---------------------------------------------------------------- running


class _Signalled(BaseException):
    """SIGINT or SIGTERM: unwinds through everything that cleans up after itself."""


_signal: int | None = None
"""What the process was sent."""


def _on_signal(number: int, _frame: object) -> NoReturn:
    global _signal
    _signal = number
    raise _Signalled(number)


def _heed_signal() -> None:
    """Raise it again where it may have been raised in vain."""
    if _signal is not None:
        raise _Signalled(_signal)


def _on_unraisable(ignored: Any) -> None:
    """In a destructor, such as ONNX Runtime's, Python ignores what is raised: then the signal is sent once more."""
    if ignored.exc_type is _Signalled:
        threading.Timer(0.05, os.kill, (os.getpid(), _signal)).start()
    else:
        sys.__unraisablehook__(ignored)


def _open_closed_streams() -> None:
    """Python has None for a stream that was closed before it began, and the next file opened would take its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    from rethined.batch import current

    name = current.get()
    text = str(message)
    typer.echo(f"warning: {name}: {text}" if name else f"warning: {text}", err=True)


def main() -> NoReturn:
    """The console script."""
    _open_closed_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", RethinedWarning)
    warnings.showwarning = _show_warning
    code = _run(sys.argv[1:] or ["--help"])
    if _signal is not None:
        os._exit(code)  # the interpreter would wait for threads, and one of them perhaps for a pipe
    gc.freeze()  # else the interpreter looks through all that was loaded before it ends
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run the command line; whatever goes wrong becomes one line on stderr and an exit code."""
    try:
        code = app(arguments, prog_name="rethined", standalone_mode=False)
        _heed_signal()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except _Signalled as stop:
        number = int(stop.args[0])
        return _fail("interrupted" if number == signal.SIGINT else "terminated", 128 + number)
    except InputError as error:
        from rethined.image import UnreadableError

        return _fail(str(error), 1 if isinstance(error, UnreadableError) else 2)
    except RethinedError as error:
        return _fail(str(error), 1)
    except MemoryError:
        return _fail("there is not enough memory for this photo", 1)
    except OSError as error:
        if os.environ.get("RETHINED_DEBUG"):
            raise
        with contextlib.suppress(OSError, ValueError):  # a full or closed stdout would complain again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(str(error), 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's usage errors, whose base class has no public name
            return _fail(error.format_message(), 2)
        if os.environ.get("RETHINED_DEBUG"):
            raise
        reason = f"{type(error).__name__}: {error}"
        return _fail(f"{reason} (this is a bug, please report it; RETHINED_DEBUG=1 shows where)", 1)


def _fail(message: str, code: int) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return code
