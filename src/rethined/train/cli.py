"""`rethined train`. Heavy imports are inside the verb."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rethined.data.cli import naming_problems
from rethined.errors import BackendError, InputError

if TYPE_CHECKING:
    from rethined.train.loop import Progress, Trainer


def register(app: typer.Typer) -> None:
    """Add the verb `train` to the main command line."""
    app.command()(train)


def train(
    recipe: Annotated[
        str, typer.Argument(help="cpu (two cores, two hours), default (a GPU) or paper (section 5.1).")
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of photographs to learn from, or of shards, or a pack.", metavar="FOLDER")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that exists is resumed.", metavar="FOLDER")],
    val: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs to choose the best weights by: the first 8 in order of name.",
            metavar="FOLDER",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Weights (safetensors) that a new run begins with, as far as they fit.", metavar="FILE"),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Stop, validate and save within, for instance, 90s, 5m or 2h.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Another value than the recipe's, like steps=5000 or crops=256,384; may be given many times.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with.")] = None,
) -> int:
    """Train weights on a folder of photographs; can be stopped and resumed at any moment.

    Writes OUT/best.safetensors (for `rethined export onnx`), OUT/last.safetensors (to resume), OUT/log.jsonl,
    OUT/samples and OUT/tensorboard. On several GPUs: accelerate launch -m rethined train ...; in two processes on
    CPUs: ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m rethined train ...
    """
    import time

    started = time.monotonic()
    limit = duration(time_limit) if time_limit else math.inf
    try:
        import torch

        from rethined.train.config import RECIPES, changed, parse
        from rethined.train.loop import train as run
    except ImportError as error:
        raise BackendError(f"training needs {error.name}; install it with: pip install 'rethined[train]'") from error
    if recipe not in RECIPES:
        raise InputError(f"recipe is {recipe!r}; choose one of {', '.join(RECIPES)}")
    config = changed(RECIPES[recipe], parse(set_ or ()))
    if threads:
        torch.set_num_threads(threads)
    with naming_problems(every=True), _watch(out) as (report, say):
        trainer = run(
            config,
            data,
            out,
            val=val,
            init=init,
            time_limit=limit - (time.monotonic() - started),
            report=report,
            say=say,
        )
    if trainer.accelerator.is_main_process:
        typer.echo(f"{out}: stopped at step {trainer.step} of {trainer.config.steps}{_verdict(trainer)}")
    return 0


def _verdict(trainer: Trainer) -> str:
    """What training was worth so far, where there are photographs to tell by."""
    if trainer.latest is None:
        return ""
    before = f", before training {trainer.before:.4f}" if trainer.before is not None else ""
    lowest = f", the lowest {trainer.best:.4f} in best.safetensors" if trainer.best < trainer.latest else ""
    return f"; validation LPIPS {trainer.latest:.4f}{before}{lowest}"


@contextlib.contextmanager
def _watch(out: Path) -> Iterator[tuple[Callable[[Progress], None], Callable[[str], None]]]:
    """What shows progress, and what says a line: with a bar and the time left on a terminal, else plainly."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    def line(p: Progress) -> str:
        terms = "  ".join(f"{name} {value:.3g}" for name, value in p.terms.items())
        return f"{p.images_per_second:.1f} images/s  {p.seconds_left / 60:.0f} min left  {terms}"

    if not sys.stdout.isatty():
        yield lambda p: typer.echo(f"step {p.step}/{p.steps}  {line(p)}"), typer.echo
        return
    columns = (TextColumn(str(out)), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[line]}"))
    bar = Bar(*columns, console=Console())
    task = bar.add_task("train", total=None, line="reading photographs")

    def show(p: Progress) -> None:
        bar.update(task, total=p.steps, completed=p.step, line=line(p))

    def say(text: str) -> None:
        bar.start()  # not before: of several processes only the main one ever says something
        bar.console.print(text, markup=False, highlight=False)

    try:
        yield show, say
    finally:
        bar.stop()


def duration(text: str) -> float:
    """Seconds in texts like 90s, 5m, 2h or 1.5h.

    Raises:
        InputError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match:
        raise InputError(f"time limit is {text!r}; give a number and a unit, like 90s, 5m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
