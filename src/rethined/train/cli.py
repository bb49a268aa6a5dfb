"""`rethined train`. Heavy imports are inside the verb."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rethined.errors import BackendError, InputError

if TYPE_CHECKING:
    from rethined.train.loop import Progress


def register(app: typer.Typer) -> None:
    """Add the verb `train` to the main command line."""
    app.command()(train)


def train(
    recipe: Annotated[
        str, typer.Argument(help="cpu (two cores, two hours), default (a GPU) or paper (section 5.1).")
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of photographs to learn from, or a pack of them.", metavar="FOLDER")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that exists is resumed.", metavar="FOLDER")],
    val: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs to choose the best weights by.", metavar="FOLDER"),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Weights (safetensors) that a new run begins with, as far as they fit.", metavar="FILE"),
    ] = None,
    time_limit: Annotated[str | None, typer.Option(help="Stop and save after, for instance, 90s, 5m or 2h.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Instead of the recipe's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with.")] = None,
) -> int:
    """Train weights on a folder of photographs; can be stopped and resumed at any moment.

    Writes OUT/best.safetensors (for `rethined export onnx`), OUT/last.safetensors (to resume), OUT/log.jsonl,
    OUT/samples and OUT/tensorboard. On several GPUs: accelerate launch -m rethined train ...
    """
    import dataclasses

    limit = duration(time_limit) if time_limit else math.inf
    try:
        import torch

        from rethined.train.config import RECIPES
        from rethined.train.loop import train as run
    except ImportError as error:
        raise BackendError(f"training needs {error.name}; install it with: pip install 'rethined[train]'") from error
    if recipe not in RECIPES:
        raise InputError(f"recipe is {recipe!r}; choose one of {', '.join(RECIPES)}")
    changes: dict[str, Any] = {name: value for name, value in (("steps", steps), ("batch_size", batch_size)) if value}
    if threads:
        torch.set_num_threads(threads)
    with _watch(out) as report:
        trainer = run(
            dataclasses.replace(RECIPES[recipe], **changes),
            data,
            out,
            val=val,
            init=init,
            time_limit=limit,
            report=report,
        )
    typer.echo(f"{out}: stopped at step {trainer.step} of {trainer.config.steps}")
    return 0


@contextlib.contextmanager
def _watch(out: Path) -> Iterator[Callable[[Progress], None]]:
    """A bar with the time left on a terminal; else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    def line(p: Progress) -> str:
        terms = "  ".join(f"{name} {value:.3g}" for name, value in p.terms.items())
        return f"{p.images_per_second:.1f} images/s  {p.seconds_left / 60:.0f} min left  {terms}"

    def verdict(p: Progress) -> str:
        assert p.val is not None
        return f"step {p.step}: on val, LPIPS in the hole {p.val['full']:.4f}, right matches {p.val['best1%']:.1%}"

    if not sys.stdout.isatty():

        def say(p: Progress) -> None:
            typer.echo(f"step {p.step}/{p.steps}  {line(p)}")
            if p.val:
                typer.echo(verdict(p))

        yield say
        return
    columns = (TextColumn(str(out)), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[line]}"))
    with Bar(*columns, console=Console()) as bar:
        task = bar.add_task("train", total=None, line="reading photographs")

        def show(p: Progress) -> None:
            bar.update(task, total=p.steps, completed=p.step, line=line(p))
            if p.val:
                bar.console.print(verdict(p))

        yield show


def duration(text: str) -> float:
    """Seconds in texts like 90s, 5m, 2h or 1.5h.

    Raises:
        InputError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match:
        raise InputError(f"time limit is {text!r}; give a number and a unit, like 90s, 5m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
