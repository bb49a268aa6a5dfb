"""`rethined masks` and `rethined data ...`. Heavy imports are inside the verbs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rethined.errors import InputError

if TYPE_CHECKING:
    from rethined.data.photos import Problem

data = typer.Typer(help="Make and check sets of photographs for training and testing.", no_args_is_help=True)

Threads = Annotated[int | None, typer.Option(min=1, help="Files to read at a time.  [default: one per core]")]
All = Annotated[bool, typer.Option("--all", help="Name all that is wrong, not only the first 12 of each kind.")]
Attribution = Annotated[
    Path | None,
    typer.Option(
        help="CSV whose column `file` names photographs; the other columns are carried along.", metavar="CSV"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb `masks` and the group `data` to the main command line."""
    app.command()(masks)
    app.add_typer(data, name="data")


# ---------------------------------------------------------------- masks


def masks(
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the masks.", metavar="FOLDER")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="thin, medium, thick, paper, boxes, objects, wires or letters.")
    ] = "paper",
    kind: Annotated[
        str | None, typer.Option(help="Instead of the preset's: strokes, boxes, objects, wires, letters or mixed.")
    ] = None,
    coverage: Annotated[
        str | None, typer.Option(help="Instead of the preset's: hole in percent of the image.", metavar="LOW-HIGH")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="A mask for each photograph there, named like it.", metavar="FOLDER")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Masks of one size instead, numbered.", metavar="WIDTHxHEIGHT")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="How many of that size.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other masks.")] = 0,
    verify: Annotated[
        Path | None, typer.Option(help="Draw nothing; check the masks in this folder.", metavar="FOLDER")
    ] = None,
    every: All = False,
) -> int:
    """Draw fixed masks (white = hole), with a manifest, masks.json, and a contact sheet, sheet.png.

    A mask depends on preset, seed, and the name and size of its photograph, not on what else is drawn; the same
    command gives the same files. --verify names what is missing, changed or not in the manifest.
    """
    import dataclasses

    from rethined.data import mask_set
    from rethined.masks import PRESETS

    if verify:
        if out or like or size:
            raise InputError("--verify only checks; leave out --output, --like and --size")
        return _report(list(mask_set.verify(verify)), f"{verify}: masks are as the manifest says", every=every)
    if preset not in PRESETS:
        raise InputError(f"preset is {preset!r}; choose one of {', '.join(PRESETS)}")
    if not out:
        raise InputError("there is nowhere to write to; name a folder with --output")
    if (like is None) == (size is None) or (size is None) != (count is None):
        raise InputError("give either --like FOLDER, or --size WIDTHxHEIGHT and --count")
    chosen = PRESETS[preset]
    chosen = dataclasses.replace(
        chosen, kind=kind or chosen.kind, coverage=_coverage(coverage) if coverage else chosen.coverage
    )
    name = preset if chosen == PRESETS[preset] else None
    with naming_problems(every=every):
        jobs = mask_set.jobs_like(like) if like else mask_set.jobs_of_size(*_size(size or ""), count or 0)
    manifest = mask_set.write_masks(jobs, chosen, out, preset_name=name, seed=seed, report=typer.echo)
    typer.echo(f"{out}: {mask_set.describe(manifest)}; look at {out / mask_set.SHEET}")
    return 0


def _coverage(text: str) -> tuple[float, float]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if not match or not 0 < float(match[1]) <= float(match[2]) < 100:
        raise InputError(f"coverage is {text!r}; give LOW-HIGH in percent, such as 30-50")
    return float(match[1]) / 100, float(match[2]) / 100


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match or not int(match[1]) or not int(match[2]):
        raise InputError(f"size is {text!r}; give WIDTHxHEIGHT in pixels, such as 1024x768")
    return int(match[1]), int(match[2])


# ---------------------------------------------------------------- data


@data.command()
def df8k(
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the data set.", metavar="FOLDER")],
    div2k: Annotated[
        Path | None, typer.Option(help="DIV2K_train_HR and DIV2K_valid_HR, or a folder of both.", metavar="FOLDER")
    ] = None,
    flickr2k: Annotated[Path | None, typer.Option(help="Flickr2K_HR.", metavar="FOLDER")] = None,
    cafhq: Annotated[Path | None, typer.Option(help="The photographs of CAFHQ.", metavar="FOLDER")] = None,
    count: Annotated[int, typer.Option(min=1, help="Photographs to choose.")] = 2850,
    listing: Annotated[
        Path | None,
        typer.Option("--list", help="A selection of one's own, or another's manifest.json.", metavar="FILE"),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(help='Photographs to pass over, a source/name a line, in "" if it has spaces.', metavar="FILE"),
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Link to the sources instead of copying.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the test masks.")] = 0,
    every: All = False,
    threads: Threads = None,
) -> int:
    """Make DF8K-Inpainting, the paper's data set, from local copies of DIV2K, Flickr2K and CAFHQ.

    Nothing is downloaded. 70/20/10 for train, test and validation, in folders 2k, 4k and 8k, with fixed masks for
    test and manifest.json. Photographs that are missing, corrupt, duplicate or of the wrong size are named; run it
    again to go on.
    """
    from rethined.data import df8k as task

    given = {"div2k": div2k, "flickr2k": flickr2k, "cafhq": cafhq}
    with naming_problems(every=every):
        manifest = task.build(
            {key: folder for key, folder in given.items() if folder},
            out,
            number=count,
            listing=listing,
            without=exclude,
            link=link,
            seed=seed,
            threads=threads,
            report=typer.echo,
        )
    parts = ", ".join(
        f"{number} {name}" for name, number in (manifest.about["splits"] | manifest.about["groups"]).items()
    )
    typer.echo(f"{out}: {len(manifest.files)} photographs ({parts})")
    return 0


@data.command()
def folder(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    attribution: Attribution = None,
    min_side: Annotated[int, typer.Option(min=1, help="Pixels the shorter side must have.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest that exists.")] = False,
    every: All = False,
    threads: Threads = None,
) -> int:
    """Read every photograph of a folder and write manifest.json into it: names, sizes and checksums.

    Corrupt, duplicate and too small ones are named, and nothing is written.
    """
    from rethined.data import manifest as task
    from rethined.image import check_output

    if photos.is_dir():
        check_output(photos / task.MANIFEST, overwrite=overwrite)
    with naming_problems(every=every):
        manifest = task.from_folder(
            photos, attribution=attribution, min_side=min_side, threads=threads, report=typer.echo
        )
    task.write_manifest(manifest, photos / task.MANIFEST)
    typer.echo(f"{photos / task.MANIFEST}: {len(manifest.files)} photographs")
    return 0


@data.command()
def verify(
    dataset: Annotated[Path, typer.Argument(help="Folder with manifest.json.", metavar="FOLDER")],
    every: All = False,
    threads: Threads = None,
) -> int:
    """Hold photographs and masks against the manifest; what is missing, corrupt, changed or extra is named."""
    from rethined.data import manifest as task

    return _report(
        list(task.verify(dataset, threads=threads)), f"{dataset}: all is as the manifest says", every=every
    )


@data.command()
def shards(
    dataset: Annotated[Path, typer.Argument(help="Folder with manifest.json.", metavar="FOLDER")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the shards.", metavar="FOLDER")],
    split: Annotated[str | None, typer.Option(help="train, test or validation.  [default: all]")] = None,
    shard_mb: Annotated[float, typer.Option(min=0.1, help="Million bytes a shard has at most.")] = 500,
    every: All = False,
) -> int:
    """Pack photographs into WebDataset shards (tar files of KEY.jpg and KEY.json), for training on clusters."""
    from rethined.data import shards as task

    with naming_problems(every=every):
        index = task.write_shards(dataset, out, split=split, shard_mb=shard_mb, report=typer.echo)
    typer.echo(f"{out}: {index['samples']} photographs in {len(index['shards'])} shards")
    return 0


@data.command()
def pack(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", metavar="FILE")],
    max_mb: Annotated[float, typer.Option(min=0.01, help="Million bytes it has at most.")] = 45,
    short_side: Annotated[int, typer.Option(min=16, help="Pixels to reduce the shorter side to, at least.")] = 768,
    attribution: Attribution = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    threads: Threads = None,
) -> int:
    """Pack a folder of photographs, reduced, into one compact file that `rethined train --data` takes."""
    from rethined.data import pack as task
    from rethined.image import check_output

    check_output(out, overwrite=overwrite)
    with naming_problems(every=True):
        index = task.write_pack(
            photos,
            out,
            max_mb=max_mb,
            short_side=short_side,
            attribution=attribution,
            overwrite=overwrite,
            threads=threads,
            report=typer.echo,
        )
    typer.echo(f"{out}: {len(index['files'])} photographs, {out.stat().st_size / 1e6:.1f} MB")
    return 0


@contextmanager
def naming_problems(*, every: bool) -> Iterator[None]:
    """Photographs that cannot be used are named before the error that says how many they are."""
    from rethined.data.photos import BadPhotosError

    try:
        yield
    except BadPhotosError as error:
        name_problems(error.problems, every=every)
        raise


def name_problems(problems: list[Problem], *, every: bool) -> None:
    """Each on a line of its own; of thousands of one kind, the first few, lest they drown the others."""
    from rethined.data.photos import LISTED

    for kind in dict.fromkeys(problem.kind for problem in problems):
        alike = [problem for problem in problems if problem.kind == kind]
        shown = alike if every else alike[:LISTED]
        for problem in shown:
            typer.echo(f"error: {problem}", err=True)
        if len(shown) < len(alike):
            typer.echo(f"error: {kind}: {len(alike) - len(shown)} more; --all names them", err=True)


def _report(problems: list[Problem], fine: str, *, every: bool) -> int:
    """The exit code of a check: 1 where something is wrong, each on a line of its own."""
    from rethined.data.photos import count

    name_problems(problems, every=every)
    typer.echo(f"error: {count(problems)}" if problems else fine, err=bool(problems))
    return 1 if problems else 0
