"""The first run, which compiles the loops."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rethined import ahead

pytest.importorskip("numba")

LOOPS = {
    "finish": "search._regions, search._settle, search._meld, "
    "upscale._contribute, upscale._fill, upscale._mend, upscale._put",
    "find": "search._prepare, search._run",
}


def run(program: str, **environment: str) -> Any:
    """What `program` prints, as JSON, with an engine at hand."""
    prelude = "import json; from rethined import ahead, search, upscale; from rethined.engine import Engine\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + program],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        timeout=240,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("part", LOOPS)
def test_another_process_compiles_what_a_call_needs(part: str) -> None:
    counts = f"print(json.dumps([len(loop.signatures) for loop in ({LOOPS[part]})]))"
    assert set(run(f"ahead.PARTS[{part!r}](); Engine().warm_up(); {counts}")) == {1}  # of other types there were two


def test_the_user_is_told_once(tmp_path: Path) -> None:
    program = "told = []; ahead.warm_up(Engine(), told.append); print(json.dumps(told))"
    (told,) = run(program, NUMBA_CACHE_DIR=str(tmp_path))
    assert "compiles for this processor, once" in told
    assert run(program, NUMBA_CACHE_DIR=str(tmp_path)) == []


def test_the_user_is_told_where_loops_cannot_be_kept(tmp_path: Path) -> None:
    """In a copy of the package, as for an administrator every folder can be written."""
    package = Path(ahead.__file__).parent
    shutil.copytree(package, tmp_path / "rethined", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "rethined" / "__pycache__").write_text("a file, where a folder would be made")
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "NUMBA_CACHE_DIR": os.devnull}
    program = (
        "import time, warnings\n"
        "class Slow:\n"
        "    def warm_up(self): time.sleep(2 * ahead.PATIENCE)\n"
        "told = []; warnings.simplefilter('always')\n"
        "warnings.showwarning = lambda message, *_: told.append(str(message))\n"
        "ahead.warm_up(Slow(), told.append); print(json.dumps(told))"
    )
    (told,) = run(program, PYTHONPATH=str(tmp_path), **nowhere)
    assert "every run takes" in told
    assert "NUMBA_CACHE_DIR" in told
    assert run(program, PYTHONPATH=str(tmp_path), **nowhere, NUMBA_DISABLE_JIT="1") == []
