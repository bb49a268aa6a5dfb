"""What holds the package together: import directions, no torch at inference, public names, versions."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rethined

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "rethined"

RANKS = [
    {"errors"},
    {"compiled", "config", "containers", "plain", "workers"},
    {"lzw", "windows"},
    {"image", "masks", "rim", "search", "upscale", "weights"},
    {"backends"},
    {"engine"},
    {"ahead", "batch"},
    {"cli", "__init__"},
    {"__main__"},
]
"""A module imports from lower ranks, and from its own only within the same package."""
LABORATORY = {
    "model": set[str](),
    "metrics": set[str](),
    "data": set[str](),
    "train": {"model", "metrics", "data"},
    "export": {"model"},
    "bench": {"model", "metrics", "export", "train"},
}
"""May use torch; each may import these others, and the runtime up to the engine."""
VERBS = {f"{name}.cli" for name in ("train", "export", "bench", "data")}
"""What the command line may import of the laboratory: modules that import torch in their verbs only."""


def modules() -> dict[str, ast.Module]:
    """Every module by dotted name below `rethined`."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imports(tree: ast.AST) -> set[str]:
    """Dotted names of all modules and names imported anywhere in `tree`, inside functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide direction"
            assert node.module
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(tree: ast.AST) -> set[str]:
    """Modules below `rethined` that are imported: `engine`, `model.blocks`; `__init__` for its own names."""
    found = set()
    for name in imports(tree):
        parts = name.split(".")
        if parts[0] != "rethined":
            continue
        inner = parts[1:]
        while inner and ".".join(inner) not in MODULES:
            inner.pop()
        found.add(".".join(inner) or "__init__")
    return found


def test_import_directions() -> None:
    ranks = {name: rank for rank, names in enumerate(RANKS) for name in names}
    runtime = {name for name in MODULES if name.split(".")[0] not in LABORATORY}
    assert runtime == set(ranks), "a new module needs a rank"
    for name in runtime:
        for other in ours(MODULES[name]):
            if other in VERBS:
                assert name == "cli", f"{name} imports {other}"
            elif name == "__init__":
                assert other in ranks, f"{name} imports {other}"
            elif other == "__init__":
                assert ranks[name] >= ranks["cli"], f"{name} imports the package's own names"
            else:
                assert other in ranks, f"{name} imports {other}, which is of the laboratory"
                assert ranks[other] < ranks[name], f"{name} imports {other}"
    for name in set(MODULES) - runtime:
        package = name.split(".")[0]
        for other in ours(MODULES[name]):
            first = other.split(".")[0]
            if first in LABORATORY:
                allowed = LABORATORY[package] | {package}
                assert first in allowed, f"{name} imports {other}"
            else:
                assert ranks[other] <= ranks["engine"], f"{name} imports {other}"


@pytest.mark.parametrize("banned", ["torch", "safetensors", "torchvision"])
def test_the_runtime_never_imports_the_laboratory_s_packages(banned: str) -> None:
    for name, tree in MODULES.items():
        if name.split(".")[0] not in LABORATORY:
            assert banned not in {other.split(".")[0] for other in imports(tree)}, name


WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "onnx", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
"""


def write_pair(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 130, 3), dtype=np.uint8)
    mask = np.zeros((90, 130), np.bool_)
    mask[30:50, 40:80] = True
    Image.fromarray(image).save(folder / "image.png")
    Image.fromarray(mask).save(folder / "mask.png")
    return image, mask


def test_the_command_line_fills_a_hole_where_there_is_no_torch(tmp_path: Path, rethined: Any) -> None:
    image, mask = write_pair(tmp_path)
    done = rethined("inpaint", "image.png", "mask.png", "-o", "out.png", prelude=WITHOUT_TORCH)
    assert done.returncode == 0, done.stderr
    out = np.array(Image.open(tmp_path / "out.png"))
    np.testing.assert_array_equal(out[~mask], image[~mask])
    assert (out[mask] != image[mask]).any()


def test_the_library_fills_a_hole_where_there_is_no_torch(tmp_path: Path) -> None:
    write_pair(tmp_path)
    program = f"""{WITHOUT_TORCH}
from PIL import Image
import rethined
rethined.inpaint(Image.open("image.png"), Image.open("mask.png")).save("out.png")
assert "torch" not in sys.modules
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").is_file()


def test_help_is_instant_because_it_loads_nothing(tmp_path: Path, rethined: Any) -> None:
    heavy = ["numpy", "onnxruntime", "cv2", "numba", "PIL", "rich", "torch"]
    loaded = f"[name for name in {heavy} if name in sys.modules]"
    check = f"import atexit, sys\natexit.register(lambda: print('LOADED', {loaded}))"
    done = rethined("--help", prelude=check)
    assert b"LOADED []" in done.stdout, done.stdout[-300:]


def test_public_names() -> None:
    assert sorted(rethined.__all__) == [
        "BackendError",
        "Engine",
        "InputError",
        "ModelConfig",
        "OutputError",
        "RethinedError",
        "RethinedWarning",
        "WeightsError",
        "inpaint",
    ]
    for name in rethined.__all__:
        assert getattr(rethined, name).__name__ == name


def test_what_the_package_ships() -> None:
    files = resources.files("rethined")
    assert (files / "py.typed").is_file()
    assert (files / "assets" / "rethined.onnx").is_file()
    assert (files / "assets" / "rethined.onnx.sha256").is_file()


def test_one_version() -> None:
    version = rethined.__version__
    assert importlib.metadata.version("rethined") == version
    assert re.search(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version  # type: ignore[index]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_one_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "\nlicense: Apache-2.0\n" in (ROOT / "CITATION.cff").read_text()


def symbols(tree: ast.Module) -> set[str]:
    """Names that a module defines at its top, and `Class.name` of what its classes do."""
    found = set()

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign):
                found.update(prefix + target.id for target in node.targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)

    walk(tree.body, "")
    return found


def test_the_documents_name_symbols_that_exist() -> None:
    named = set()
    for page in (ROOT / "docs").glob("*.md"):
        named |= set(re.findall(r"`([\w/]+\.py)(?::([\w.]+))?`", page.read_text()))
    assert ("model/pipeline.py", "Rethined.forward") in named
    for file, symbol in named:
        path = SOURCE / file if (SOURCE / file).is_file() else ROOT / file
        assert path.is_file(), file
        assert not symbol or symbol in symbols(ast.parse(path.read_text())), f"{file}:{symbol}"


@pytest.mark.parametrize(
    "part", ["Fig. 2", "2", "3.1", "3.2", "3.3", "3.4", "3.5", "Eq. 1", "Eq. 2", "Eq. 3", "Eq. 4", "5.1"]
)
def test_every_part_of_the_paper_is_placed(part: str) -> None:
    rows = [line.split("|")[1] for line in (ROOT / "docs/paper.md").read_text().splitlines() if line.startswith("| ")]
    assert any(part in [word.strip() for word in row.split(",")] for row in rows), part


def test_the_repository_holds_no_large_files() -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        weights = name.startswith("src/rethined/assets/")
        if name and not weights and (ROOT / name).is_file():
            assert (ROOT / name).stat().st_size <= 4 * 2**20, name


def test_the_runtime_reports_nothing(tmp_path: Path) -> None:
    """ONNX Runtime keeps what it wants to report in the user's cache, sends it, and is told not to."""
    program = (
        "import numpy as np, rethined\n"
        "image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.bool_)\n"
        "mask[8:16, 8:16] = True\n"
        "rethined.inpaint(image, mask)\n"
    )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "LOCALAPPDATA": str(tmp_path)}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | home
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower()]
