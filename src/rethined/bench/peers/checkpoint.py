"""State dicts from safetensors, or from PyTorch's files without running what they may hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rethined.errors import InputError, WeightsError

State = dict[str, Tensor]
Rename = Callable[[str, Tensor], tuple[str, Tensor]]

NESTED = ("state_dict", "model_state_dict", "params_ema", "params", "generator", "G_ema", "g_ema", "net", "model")
"""Where training programs keep a state dict inside a checkpoint."""


def read(path: Path) -> State:
    """The state dict in `path`: .safetensors, or whatever `torch.load(weights_only=True)` takes.

    Raises:
        InputError: no such file.
        WeightsError: damaged, holding code, or holding no state dict.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the weights' file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError) as error:
        raise WeightsError(
            f"{path} cannot be read without running code that it may hold ({_gist(error)}); if you trust it, load it "
            "where its program is installed and save its state dict with safetensors.torch.save_file"
        ) from error
    while isinstance(found, dict) and not any(isinstance(value, Tensor) for value in found.values()):
        found = next((found[key] for key in NESTED if isinstance(found.get(key), dict)), None)
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds no state dict; give a dictionary of tensors, or one with {NESTED[0]!r}")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def load(
    module: nn.Module, path: Path, title: str, rename: Rename | None = None, unused: frozenset[str] = frozenset()
) -> None:
    """Load `path` into `module`. A prefix of all names, such as `generator.`, is taken off; other networks' are left.

    `rename` translates each name and tensor first; the names in `unused` may be there as well.

    Raises:
        InputError: no such file, or the weights of something else.
        WeightsError: a file that cannot be read.
    """
    state = read(path)
    if rename is not None:
        state = dict(rename(name, value) for name, value in state.items())
    wanted = module.state_dict()
    state = _without_prefix(state, next(iter(wanted)))
    # Counters that evaluation never reads; older releases lack them.
    state |= {name: wanted[name] for name in wanted if name.endswith("num_batches_tracked")}
    for name, value in wanted.items():
        if name not in state:
            raise InputError(f"{path} does not hold the weights of {title}: {name} is missing")
        if state[name].shape != value.shape:
            shapes = f"{tuple(state[name].shape)}, wanted {tuple(value.shape)}"
            raise InputError(f"{path} does not hold the weights of {title}: {name} is {shapes}")
    extra = sorted(state.keys() - wanted.keys() - unused)
    if extra:
        raise InputError(f"{path} does not hold the weights of {title}: it has {extra[0]} besides")
    module.load_state_dict({name: state[name].to(value.dtype) for name, value in wanted.items()})


def _without_prefix(state: State, first: str) -> State:
    """The part of `state` whose names are P + name, with P such that P + `first` is there; all of it without P."""
    prefixes = sorted(
        {name.removesuffix(first) for name in state if name == first or name.endswith(f".{first}")}, key=len
    )
    prefix = prefixes[0] if prefixes else ""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _gist(error: Exception) -> str:
    """An exception's first sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0].rstrip(".")[:160]
