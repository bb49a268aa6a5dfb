"""DF8K-Inpainting (section 4): DIV2K, Flickr2K and CAFHQ made into one data set with fixed test masks.

The paper's list of files was never published, nor how "outdoor" and "without people" were decided. So the choice here
is a rule on names alone, which gives everybody the same set, and a list of one's own can take its place.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rethined.data import mask_set
from rethined.data.manifest import (
    MANIFEST,
    MASKS,
    SPLITS,
    Entry,
    Manifest,
    default_threads,
    read_manifest,
    write_manifest,
)
from rethined.data.photos import (
    BadPhotosError,
    Facts,
    Problem,
    displayed_size,
    examine,
    find_photos,
    read_bytes,
    sha256_of,
    some,
)
from rethined.errors import InputError, OutputError
from rethined.image import is_image_name, write_atomic
from rethined.masks import PRESETS

NAME = "DF8K-Inpainting"
COUNT = 2850
"""Photographs in the paper's set."""
PATTERN = ("train",) * 7 + ("test",) * 2 + ("validation",)
"""70/20/10, the paper's split: of every ten photographs of a group, in order of rank."""
GROUPS = {"8k": 7680, "4k": 3840, "2k": 0}
"""By least pixels on the longer side, as the paper's names go: UHD is 3840 x 2160 and 7680 x 4320."""
BEGUN = ".df8k.json"
"""Says, in a data set that is not finished, what it is going to be."""
RULE = (
    "candidates ranked by SHA-256 of 'source/name' (no suffix), all of CAFHQ before DIV2K and Flickr2K; in each "
    "group, in order of rank, of every ten the first seven train, then two test, one validation"
)

_LINE = re.compile(
    r"""\s*(?:(?:"(?P<quoted>[^"]+)"|(?P<name>[^\s"#]\S*))(?:\s+(?P<split>[^\s#]\S*))?)?\s*(?:(?<!\S)#.*)?"""
)
"""A line of a list."""


@dataclass(frozen=True)
class Source:
    """A data set that photographs are taken from."""

    title: str
    """As its authors call it."""
    home: str
    """Where it comes from."""
    terms: str
    """What its authors allow, as far as they say."""
    names: tuple[str, ...] | None
    """All its photographs, without suffix; None where whatever is there is taken."""
    sides: tuple[int, int]
    """Least and most pixels on the longer side, to notice the low-resolution copies it comes with."""


SOURCES = {
    "div2k": Source(
        "DIV2K",
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        "academic research only; the photographs belong to their authors",
        tuple(f"{i:04}" for i in range(1, 901)),
        (1920, 3839),
    ),
    "flickr2k": Source(
        "Flickr2K",
        "https://github.com/limbee/NTIRE2017",
        "no terms were published; collected from Flickr, where each photograph has its own licence",
        tuple(f"{i:06}" for i in range(1, 2651)),
        (1920, 3839),
    ),
    "cafhq": Source(
        "CAFHQ",
        "https://github.com/owenzlz/SuperCAF",
        "Adobe Research License: noncommercial use, no redistribution",
        None,
        (1920, 65535),
    ),
}


@dataclass(frozen=True)
class Pick:
    """One photograph that belongs in the data set."""

    source: str
    """A key of SOURCES."""
    name: str
    """Within the source, in POSIX form, without suffix."""
    split: str | None = None
    """Where a list says so."""
    sha256: str | None = None
    """What the file must be, where a manifest says so."""

    def __str__(self) -> str:
        return f"{self.source}/{self.name}"

    @property
    def rank(self) -> str:
        """The order in which photographs are chosen and split: as good as random, and the same everywhere."""
        return hashlib.sha256(str(self).encode()).hexdigest()


# ---------------------------------------------------------------- choosing


def choose(
    available: Mapping[str, Mapping[str, Path]], *, number: int = COUNT, without: frozenset[str] = frozenset()
) -> list[Pick]:
    """The first `number` photographs by the rule, in order of rank, whether their files are there or not.

    `available` holds the files of each source by name; of DIV2K and Flickr2K all names are known beforehand.
    `without` holds 'source/name' of photographs to pass over.

    Raises:
        InputError: there are fewer candidates.
    """
    picks = [Pick(key, name) for key, source in SOURCES.items() for name in source.names or available[key]]
    picks = [pick for pick in picks if str(pick) not in without]
    if len(picks) < number:
        raise InputError(f"there are {len(picks)} photographs to choose {number} from; ask for fewer with --count")
    chosen = sorted(picks, key=lambda pick: (SOURCES[pick.source].names is not None, pick.rank))[:number]
    return sorted(chosen, key=lambda pick: pick.rank)


def read_list(path: Path) -> list[Pick]:
    """A selection: lines of `source/name` or `source/name split`, or the manifest of a data set made here.

    Blank lines, and # and what follows it where a word could begin, are passed over. A name with spaces, or a word
    that begins with #, is written in double quotes. A manifest also holds every file to its checksum.

    Raises:
        InputError: no such file, a line that is not understood, a name that comes twice, or splits for some only.
    """
    data = read_bytes(path) if path.is_file() else None
    if data is None:
        raise InputError(f"{path} does not exist; give a file with a line of source/name for each photograph")
    if data.lstrip().startswith(b"{"):
        entries = Manifest.from_json(data, str(path)).files
        picks = [Pick(entry.source or "", entry.source_name or "", entry.split, entry.sha256) for entry in entries]
    else:
        picks = []
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            match = _LINE.fullmatch(line)
            if not match or match["split"] not in (None, *SPLITS):
                raise InputError(
                    f"{path} line {number} is {line!r}; write source/name, then {', '.join(SPLITS)} or nothing, "
                    "and a name with spaces in double quotes"
                )
            if written := match["quoted"] or match["name"]:
                source, _, name = written.partition("/")
                stem = str(Path(name).with_suffix("").as_posix()) if is_image_name(Path(name)) else name
                picks.append(Pick(source, stem, match["split"]))
    for pick in picks:
        if pick.source not in SOURCES or not pick.name:
            raise InputError(f"{path} lists {pick}; names start with {', '.join(f'{key}/' for key in SOURCES)}")
    twice = [name for name, times in Counter(map(str, picks)).items() if times > 1]
    if twice:
        raise InputError(f"{path} lists {some(twice)} more than once; remove one")
    if not picks:
        raise InputError(f"{path} lists no photographs; write a line of source/name for each")
    if len({pick.split is None for pick in picks}) > 1:
        raise InputError(f"{path} has a split for some photographs only; give one for all or for none")
    return sorted(picks, key=lambda pick: pick.rank)


def index(key: str, folder: Path) -> dict[str, Path]:
    """The photographs of a source below `folder`, by name without suffix, wherever they lie in it.

    Of DIV2K and Flickr2K only files of their names count, which those of low resolution (0001x2.png) do not have.
    Of CAFHQ everything does but folders called masks or results, which its archives hold beside the photographs.

    Raises:
        InputError: no photographs of the source there, or two files of one name.
    """
    source = SOURCES[key]
    known = frozenset(source.names or ())
    found: dict[str, Path] = {}
    for path in find_photos(folder):
        relative = path.relative_to(folder)
        name = path.stem if source.names else relative.with_suffix("").as_posix()
        if source.names is not None and name not in known:
            continue
        if source.names is None and any(word in part.lower() for part in relative.parts[:-1] for word in APART):
            continue
        if name in found:
            raise InputError(
                f"{found[name]} and {path} are both {name} of {source.title}; give the folder of the full-size ones"
            )
        found[name] = path
    if not found:
        example = f", such as {source.names[0]}.png," if source.names else ""
        raise InputError(
            f"{folder} holds no photographs of {source.title}{example}; give the folder you unpacked it to"
        )
    return found


APART = ("mask", "result")


def group_of(width: int, height: int) -> str:
    """2k, 4k or 8k, by the longer side."""
    return next(group for group, least in GROUPS.items() if max(width, height) >= least)


def split(picks: list[Pick], groups: Mapping[Pick, str]) -> dict[Pick, str]:
    """train, test or validation for each, 70/20/10 in every group as nearly as whole photographs allow."""
    order = sorted(picks, key=lambda pick: (list(GROUPS).index(groups[pick]), pick.rank))
    return {pick: pick.split or PATTERN[i % len(PATTERN)] for i, pick in enumerate(order)}


# ---------------------------------------------------------------- building


def build(
    folders: Mapping[str, Path],
    out: Path,
    *,
    number: int = COUNT,
    listing: Path | None = None,
    without: Path | None = None,
    link: bool = False,
    seed: int = 0,
    threads: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Make the data set in `out` from local copies of its sources, by key of SOURCES; nothing is downloaded.

    Photographs are copied byte for byte (or linked to) as SPLIT/GROUP/SOURCE-NAME, test masks are drawn into masks/,
    and last the manifest is written. A run that was stopped goes on: what has its source's checksum stays.

    Raises:
        BadPhotosError: photographs of the selection are missing, corrupt, duplicate, of the wrong size, or not those
            of the manifest that was given as a list. No manifest is written; what was copied stays for the next run.
        InputError: folders, lists or an `out` that cannot be used.
        OutputError: `out` cannot be written to or the disk is full.
    """
    available: dict[str, Mapping[str, Path]] = {key: index(key, folder) for key, folder in folders.items()}
    if listing:
        picks = read_list(listing)
        if absent := sorted({pick.source for pick in picks} - available.keys()):
            raise InputError(
                f"{listing} lists photographs of {', '.join(absent)}; give its folder with --{absent[0]}"
            )
    else:
        if absent := sorted(SOURCES.keys() - available.keys()):
            raise InputError(f"--{absent[0]} is missing; give all three sources, or a selection with --list")
        passed_over = frozenset(str(pick) for pick in read_list(without)) if without else frozenset()
        picks = choose(available, number=number, without=passed_over)
    sizes = _sizes(picks, available)
    groups = {pick: group_of(*size) for pick, size in sizes.items()}
    splits = split(picks, groups)
    names = {pick: _name(pick, available[pick.source][pick.name], splits[pick], groups[pick]) for pick in picks}
    stems = Counter(name.rpartition(".")[0] for name in names.values())
    if twice := [stem for stem, times in stems.items() if times > 1]:
        raise InputError(f"several photographs would be called {some(twice)}; rename them in the source")
    _begin(out, {"files": {str(pick): names[pick] for pick in picks}, "masks": {"seed": seed}})

    def make(pick: Pick) -> Entry | Problem:
        path = available[pick.source][pick.name]
        try:
            facts = _place(pick, path, out / names[pick], sizes[pick], link=link)
        except InputError as error:
            return Problem("corrupt", str(pick), str(error))
        except _ChangedError as error:
            return Problem("changed", str(pick), str(error))
        return Entry(
            names[pick],
            **asdict(facts),
            split=splits[pick],
            group=groups[pick],
            source=pick.source,
            source_name=pick.name,
        )

    entries: list[Entry] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    with ThreadPoolExecutor(threads or default_threads()) as pool:
        for i, (pick, result) in enumerate(zip(picks, pool.map(make, picks), strict=True), 1):
            if isinstance(result, Problem):
                problems.append(result)
            elif (other := seen.setdefault(result.sha256, str(pick))) != str(pick):
                problems.append(Problem("duplicate", str(pick), f"the same as {other}"))
            else:
                entries.append(result)
            if i % 100 == 0:
                report(f"{i} of {len(picks)} photographs")
    if problems:
        raise BadPhotosError(f"{len(problems)} of the {len(picks)} photographs cannot be used", problems)
    entries.sort(key=lambda entry: entry.name)
    _sweep(out, {entry.name for entry in entries})
    jobs = mask_set.jobs_like(out / "test") if any(entry.split == "test" for entry in entries) else []
    if jobs:
        mask_set.write_masks(jobs, PRESETS["paper"], out / MASKS, preset_name="paper", seed=seed, report=report)
    manifest = Manifest(
        NAME, tuple(entries), _about(entries, listed=listing is not None, seed=seed, masks=bool(jobs))
    )
    write_manifest(manifest, out / MANIFEST)
    (out / BEGUN).unlink(missing_ok=True)
    return manifest


def _sizes(picks: list[Pick], available: Mapping[str, Mapping[str, Path]]) -> dict[Pick, tuple[int, int]]:
    """Width and height of each, from the files' headers: what is missing or too small is found before any work."""
    problems: list[Problem] = []
    sizes: dict[Pick, tuple[int, int]] = {}
    for pick in picks:
        path = available[pick.source].get(pick.name)
        if path is None:
            problems.append(Problem("missing", str(pick)))
            continue
        try:
            size = displayed_size(path)
        except InputError as error:
            problems.append(Problem("corrupt", str(pick), str(error)))
            continue
        least, most = SOURCES[pick.source].sides
        if not least <= max(size) <= most:
            wanted = f"{least} to {most} on the longer side"
            problems.append(
                Problem(
                    "wrong size", str(pick), f"{size[0]} x {size[1]}, {wanted} are wanted; --exclude passes it over"
                )
            )
        sizes[pick] = size
    if problems:
        raise BadPhotosError(f"{len(problems)} of the {len(picks)} photographs cannot be used", problems)
    return sizes


def _name(pick: Pick, path: Path, split: str, group: str) -> str:
    return f"{split}/{group}/{pick.source}-{pick.name.replace('/', '-')}{path.suffix.lower()}"


def _begin(out: Path, plan: dict[str, Any]) -> None:
    """Make `out`, or make sure that what is there is this same data set, or one that was never finished.

    Raises:
        InputError: it holds something else.
    """
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    marker = out / BEGUN
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the data set")
    if (out / MANIFEST).exists():
        manifest = read_manifest(out)
        there = {"files": {f"{entry.source}/{entry.source_name}": entry.name for entry in manifest.files}}
        there["masks"] = {"seed": manifest.about.get("masks", {}).get("seed", plan["masks"]["seed"])}
        if there != plan:
            raise InputError(f"{out} holds another data set or selection; choose another folder")
        return
    if marker.is_file():
        if marker.read_text() != digest:  # begun with another selection, which was changed because of what it lacked
            shutil.rmtree(out / MASKS, ignore_errors=True)
            write_atomic(marker, digest.encode(), overwrite=True)
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(marker, digest.encode())


def _sweep(out: Path, wanted: set[str]) -> None:
    """Delete what earlier, unfinished runs have left: copies of another selection, halves of files."""
    for name in SPLITS:
        for path in (out / name).glob("*/.*.tmp"):
            path.unlink()
        for path in (out / name).glob("*/*"):
            ours = path.name.partition("-")[0] in SOURCES and path.parent.name in GROUPS
            if ours and path.relative_to(out).as_posix() not in wanted:
                path.unlink()


class _ChangedError(Exception):
    """A source's file is not the one that the list's checksum is of."""


def _place(pick: Pick, path: Path, target: Path, size: tuple[int, int], *, link: bool) -> Facts:
    """Make `target` the photograph at `path`, unless it is already, and say what that is."""
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if pick.sha256 and digest != pick.sha256:
        raise _ChangedError("its checksum is not that of the list")
    if not link and not target.is_symlink() and target.is_file() and sha256_of(target) == digest:
        return Facts(*size, len(data), digest)  # an earlier run has decoded it before it wrote it
    facts = examine(data, str(pick))
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        _link(path.resolve(), target)
    else:
        if target.is_symlink():
            target.unlink()
        write_atomic(target, data, overwrite=True)
    return facts


def _link(path: Path, target: Path) -> None:
    if target.is_symlink() and target.resolve() == path:
        return
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.symlink_to(path)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{target} cannot be made a link: {error.strerror or error}; leave out --link") from error


def _about(entries: list[Entry], *, listed: bool, seed: int, masks: bool) -> dict[str, Any]:
    sources = {key: SOURCES[key] for key in SOURCES if any(entry.source == key for entry in entries)}
    about: dict[str, Any] = {
        "rule": "a list" if listed else RULE,
        "sources": {key: {"title": s.title, "home": s.home, "terms": s.terms} for key, s in sources.items()},
        "splits": {name: sum(entry.split == name for entry in entries) for name in SPLITS},
        "groups": {name: sum(entry.group == name for entry in entries) for name in reversed(GROUPS)},
    }
    if masks:
        about["masks"] = {"folder": MASKS, "preset": "paper", "seed": seed}
    return about
