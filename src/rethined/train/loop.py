"""The joint, single-stage loop (5.1): resumable at any step, killable at any moment, on one process or many."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from rethined.engine import Engine
from rethined.errors import InputError, OutputError
from rethined.image import warn, write_atomic
from rethined.masks import free_form
from rethined.metrics.lpips import Lpips
from rethined.model import Rethined
from rethined.model.backend import TorchBackend
from rethined.model.patch_match import corrupted_patches
from rethined.model.pipeline import downsample, fine_detail
from rethined.model.upscale import upscale
from rethined.train.adversarial import Discriminator, discriminator_loss, generator_loss
from rethined.train.config import TrainConfig
from rethined.train.data import Batches, DeviceBatches, HostBatches, Photos, load_folder
from rethined.train.distributed import average_gradients, synchronise
from rethined.train.losses import (
    descriptors,
    frequency_loss,
    hole_l1,
    match_loss,
    match_rank,
    match_targets,
    supervised_rows,
)

CHECKPOINT = "last.safetensors"
PREVIOUS = f"previous.{CHECKPOINT}"
BEST = "best.safetensors"
PROGRESS = ("step", "before", "validation_seconds")
"""What of a trainer is in a checkpoint beside tensors."""
SAVE_SECONDS = 120
"""A checkpoint is never older than this, and a step: steps may take long, and a kill should cost little."""
VALIDATED = 8
"""Photographs of `val` that are measured, the first by name."""
FORETOLD = 60
"""Steps after which it is said where the time limit will end a run."""
DESCRIBED = 16
"""Pictures that a GPU describes at once for the matching: all of a large batch might not fit into its memory."""
SAMPLES = 4
"""Validation photographs on each sample sheet."""


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, a plateau, then a cosine to 0 over the last `decay` of the steps."""
    tail = max(1.0, config.decay * config.steps)
    left = min(1.0, (config.steps - step) / tail)
    return config.learning_rate * min(1.0, (step + 1) / config.warmup) * 0.5 * (1 - math.cos(math.pi * left))


class Trainer:
    """One run in one folder: `last.safetensors` (to resume), `best.safetensors` (averaged weights), `log.jsonl`.

    Under `accelerate launch` each process holds one; they see different pictures and stay equal.
    """

    def __init__(self, config: TrainConfig, out: Path, accelerator: Accelerator | None = None) -> None:
        self.config, self.out = config, out
        self.accelerator = accelerator or Accelerator()
        self.device = self.accelerator.device
        torch.manual_seed(config.seed)
        self.model = Rethined(config.model).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        synchronise(self.model)
        self.coarse = torch.compile(self.model.coarse) if config.compile else self.model.coarse
        self.optimiser = torch.optim.Adam(self.model.parameters(), config.learning_rate, betas=(0.9, 0.99))
        self.judge: Discriminator | None = None
        if config.adversarial_weight or config.feature_weight:
            self.judge = Discriminator().to(self.device)
            self.judge_optimiser = torch.optim.Adam(self.judge.parameters(), config.learning_rate / 10, (0.0, 0.99))
        self.alex, self.squeeze = Lpips.load("alex").to(self.device), Lpips.load("squeeze").to(self.device)
        self.step = 0
        self.before: float | None = None
        """LPIPS on val before the first step."""
        self.latest: float | None = None
        """The same at the last validation of this process."""
        self.validation_seconds = 0.0
        """What the last validation took."""
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{out} cannot be made: {error.strerror or error}; give another folder") from error
        self.best = _lowest(out / BEST)

    # ---------------------------------------------------------------- one step

    def losses(self, image: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """For images (B, 3, s H, s W) in [0, 1] and masks (B, 1, H, W), 1 = hole: every weighted term, the filled
        low-resolution image (B, 3, H, W), and what is only to be watched."""
        config, model, match = self.config, self.config.model, self.model.patch_match
        scale = image.shape[2] // mask.shape[2]
        true = F.avg_pool2d(image, scale)
        detail = fine_detail(image, torch.zeros_like(image[:, :1]), scale, model.patch_size) if model.detail else None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.half):
            coarse, features, _ = self.coarse(true * (1 - mask), mask)
        coarse, features = coarse.float(), [level.float() for level in features]
        corrupted = corrupted_patches(mask, model.patch_size)
        # What is matched is data for the matching: its gradient trains queries and keys, not the picture.
        query, key = match.scores(coarse.detach(), features, detail, corrupted)
        # No gradient runs through a choice; through a softmax it does.
        with torch.set_grad_enabled(model.top_k != 1):
            rows, scores = match.corrupted_scores(query, key, corrupted)
            attention = match.attend(rows, scores, corrupted)
        refined = upscale(model, true, mask, mask, match.low(coarse, mask, attention), attention)
        cells = F.avg_pool2d(true, model.band) if model.band > 1 else true
        terms = {
            "coarse": config.coarse_weight * hole_l1(coarse, cells, F.max_pool2d(mask, model.band)),
            "refined": config.refined_weight * hole_l1(refined, true, mask),
        }
        if config.frequency_weight:
            terms["frequency"] = config.frequency_weight * frequency_loss(refined, true, mask)
        if config.perceptual_weight:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.half):
                with torch.no_grad():
                    seen, wanted = self.squeeze.features(true), self.alex.features(true)
                distance = self.alex.distance(self.alex.features(refined), wanted, mask)
                # Of one network alone the loss is soon deceived: dots appear that only it takes for texture.
                distance = distance + self.squeeze.distance(self.squeeze.features(refined), seen, mask)
            terms["perceptual"] = config.perceptual_weight * distance.float() / 2
        if self.judge is not None and self.step >= config.adversarial_start:
            opinion, matching = generator_loss(self.judge, refined, true, mask)
            terms["adversarial"] = config.adversarial_weight * opinion
            terms["features"] = config.feature_weight * matching
        if not config.match_weight:
            return terms, refined, {}
        # What trains the attention, and how right it is.
        rows = supervised_rows(corrupted, self.step)
        scores = match.score_rows(query, key, corrupted, rows)
        with torch.no_grad():
            target = match_targets(self._described(image, mask), rows, corrupted)
            right = match_rank(scores.argmax(-1), rows, corrupted, target)
        terms["match"] = config.match_weight * match_loss(scores, rows, corrupted, target)
        return terms, refined, {"best1%": right}

    def _described(self, image: Tensor, mask: Tensor) -> Tensor:
        """`descriptors` of patches at full resolution: what is above the grid says, too, which of them look alike."""
        side = self.config.model.patch_size
        grid = (mask.shape[2] // side, mask.shape[3] // side)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.half):
            # On a processor one picture at a time: what lies in its cache is made in half the time.
            parts = torch.split(image, 1 if self.device.type == "cpu" else DESCRIBED)
            each = (self.squeeze.features(part, 3) for part in parts)
            return torch.cat([descriptors(taps, self.squeeze, grid) for taps in each])

    def train_step(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """One optimiser step; a step whose gradient is not finite changes nothing but the step count.

        Returns the terms of this process's pictures, on the device: reading them waits for it.
        """
        rate = learning_rate(self.config, self.step)
        self.model.train()
        modules = [module for module in (self.model, self.judge) if module is not None]
        # Batch norm and spectral norm keep what they have seen before there is a gradient.
        buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
        image, mask = image.to(self.device), mask.to(self.device)
        terms, refined, watched = self.losses(image.contiguous(memory_format=torch.channels_last), mask)
        norm = self._descend(self.optimiser, self.model, torch.stack(list(terms.values())).sum(0).mean(), rate)
        finite = bool(torch.isfinite(norm))
        if finite and self.judge is not None and self.step >= self.config.adversarial_start:
            true = F.avg_pool2d(image, image.shape[2] // mask.shape[2])
            every = discriminator_loss(self.judge, refined, true, mask, self.config.r1_weight)
            self._descend(self.judge_optimiser, self.judge, every.mean(), rate / 10)
            watched["discriminator"] = every
        if finite:
            self._average()
        else:
            for buffer, before in buffers:
                buffer.copy_(before)
        self.step += 1
        return {name: value.detach().mean() for name, value in (terms | watched).items()} | {
            "norm": norm,
            "lr": torch.tensor(rate),
        }

    def _descend(self, optimiser: torch.optim.Optimizer, module: nn.Module, loss: Tensor, rate: float) -> Tensor:
        """One step down `loss`; returns the gradient's norm."""
        for group in optimiser.param_groups:
            group["lr"] = rate
        parameters = list(module.parameters())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip)
        if torch.isfinite(norm):
            optimiser.step()
        return norm

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at first, so that the average does not drag random weights along.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)
        for statistic, now in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            if now.dtype.is_floating_point:
                statistic.copy_(now)

    # ---------------------------------------------------------------- validation

    @torch.no_grad()
    def validate(self, photos: Photos, scale: int = 2) -> tuple[dict[str, float], NDArray[np.uint8]]:
        """Of the averaged weights, at `scale` times the low-resolution grid, under 10-20 % free-form holes.

        `full`: LPIPS-Alex inside the hole of what the engine makes with them, mean over `photos`; `best1%`: how often
        the patch that a corrupted one attends to most is among the 1 % best true matches. And a sheet of the first
        photographs: with their holes, filled, as they are.
        """
        model, match = self.config.model, self.ema.patch_match
        totals: dict[str, list[float]] = {"full": [], "best1%": []}
        engine = Engine(backend=TorchBackend(self.ema))
        unit = model.stride * scale
        sheet = []
        for index, photo in enumerate(photos):
            height, width = (side // unit * unit for side in photo.shape[:2])
            photo = np.ascontiguousarray(photo[:height, :width])
            hole = free_form(height, width, np.random.default_rng(index), coverage=(0.1, 0.2))
            image, full = (self._tensor(picture) for picture in (photo, engine(photo, hole)))
            mask = torch.from_numpy(hole)[None, None].to(image)
            totals["full"].append(float((self.alex.maps(full, image) * mask).sum() / mask.sum()))
            image_lr, mask_lr = downsample(image, mask, scale)
            coarse, features, _ = self.ema.coarse(image_lr, mask_lr)
            detail = fine_detail(image, mask, scale, model.patch_size) if model.detail else None
            corrupted = corrupted_patches(mask_lr, model.patch_size)
            rows = supervised_rows(corrupted, 0)
            scores = match.score_rows(*match.scores(coarse, features, detail, corrupted), corrupted, rows)
            grid = (mask_lr.shape[2] // model.patch_size, mask_lr.shape[3] // model.patch_size)
            target = match_targets(descriptors(self.squeeze.features(image, 3), self.squeeze, grid), rows, corrupted)
            totals["best1%"].append(float(match_rank(scores.argmax(-1), rows, corrupted, target).mean()))
            if index < SAMPLES:
                row = torch.cat([image * (1 - mask) + 0.5 * mask, full, image], 3)
                sheet.append(F.adaptive_avg_pool2d(row, (256, 1152))[0])
        picture = (torch.cat(sheet, 1).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return {name: float(np.mean(values)) for name, values in totals.items()}, picture

    def _tensor(self, picture: NDArray[Any]) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, H, W) in [0, 1] on the device."""
        return torch.from_numpy(picture).permute(2, 0, 1)[None].to(self.device) / 255

    # ---------------------------------------------------------------- checkpoints

    def save(self) -> None:
        """Everything a bit-exact resume needs, written beside the old file and moved over it in one step."""
        if not self.accelerator.is_main_process:
            return
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= _moments("adam", self.optimiser)
        if self.judge is not None:
            tensors |= {f"judge.{k}": v for k, v in self.judge.state_dict().items()}
            tensors |= _moments("judge_adam", self.judge_optimiser)
        meta = {
            "config": json.dumps(dataclasses.asdict(self.config)),
            "progress": json.dumps({name: getattr(self, name) for name in PROGRESS}),
        }
        self._write(CHECKPOINT, tensors, meta | {"sha256": _sha256(tensors, meta)})

    def save_best(self, lpips: float | None = None) -> None:
        """The averaged weights alone: what `rethined export onnx` reads. `lpips` is what `validate` says of them."""
        meta = {"rethined.config": self.config.model.to_json(), "rethined.steps": str(self.step)}
        if lpips is not None:
            self.best, meta["rethined.lpips"] = lpips, str(lpips)
        self._write(BEST, dict(self.ema.state_dict()), meta)

    def _write(self, name: str, tensors: dict[str, Tensor], meta: dict[str, str]) -> None:
        temporary = self.out / f"{name}.tmp"  # one name: what a killed run has left is written over
        try:
            with temporary.open("wb") as file:
                file.write(save({k: v.cpu().contiguous() for k, v in tensors.items()}, meta))
                file.flush()
                os.fsync(file.fileno())
            if name == CHECKPOINT and (self.out / name).exists():
                (self.out / name).replace(self.out / PREVIOUS)
            temporary.replace(self.out / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"{self.out / name} cannot be written: {error.strerror or error}") from error

    def resume(self) -> bool:
        """Continue from the newest checkpoint that can be read whole; False if there is none.

        Raises:
            InputError: the run in this folder has another recipe (its number of steps may change), or has
                checkpoints none of which can be read.
        """
        found = [path for path in (self.out / CHECKPOINT, self.out / PREVIOUS) if path.exists()]
        if not found:
            return False
        for path in found:
            if held := _read_checkpoint(path):
                break
        else:
            raise InputError(
                f"no checkpoint in {self.out} can be read whole ({' and '.join(path.name for path in found)}); put "
                "back a copy, give another folder, or move them away to begin at step 0"
            )
        tensors, meta = held
        # As JSON says it: tuples are lists there.
        then, now = json.loads(meta["config"]), json.loads(json.dumps(dataclasses.asdict(self.config)))
        other = [key for key in now if key != "steps" and then.get(key) != now[key]]
        if other:
            raise InputError(
                f"the run in {self.out} has another {' and '.join(other)}; give its recipe and settings, or another "
                "folder"
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.ema.load_state_dict(part("ema."))
        _set_moments(self.optimiser, part("adam."))
        if self.judge is not None:
            self.judge.load_state_dict(part("judge."))
            _set_moments(self.judge_optimiser, part("judge_adam."))
        progress = json.loads(meta["progress"])
        for name in PROGRESS:
            setattr(self, name, progress.get(name, getattr(self, name)))  # the first runs' have fewer
        if path is not found[0] and self.accelerator.is_main_process:
            warn(f"{found[0]} is damaged; going on from the checkpoint before it, of step {self.step}")
        return True

    def start_from(self, weights: Path) -> tuple[int, int]:
        """Begin with the tensors of `weights` (safetensors) whose names and shapes fit; returns how many did, of how
        many.

        Raises:
            InputError: no such file, or nothing in it fits.
        """
        try:
            given = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{weights} cannot be read as safetensors ({error}); give trained weights") from error
        own = self.model.state_dict()
        fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
        if not fitting:
            raise InputError(f"nothing in {weights} fits this architecture; give weights of a rethined model")
        for model in (self.model, self.ema):
            model.load_state_dict(own | fitting)
        return len(fitting), len(given)


def _sha256(tensors: dict[str, Tensor], meta: dict[str, str]) -> str:
    """Of everything in a checkpoint, in order of name: disks return wrong bytes, too, not only too few."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Tensors and metadata of a checkpoint; None if it is cut short, damaged or something else."""
    try:
        with safe_open(path, "pt") as file:
            meta = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    digest = meta.pop("sha256", None)  # checkpoints of this project's first runs have none
    return (tensors, meta) if "config" in meta and digest in (None, _sha256(tensors, meta)) else None


def _lowest(path: Path) -> float:
    """LPIPS of the best weights so far, by their own file: whatever stops a run, the two are never apart."""
    try:
        with safe_open(path, "pt") as file:
            return float((file.metadata() or {}).get("rethined.lpips", math.inf))
    except (OSError, SafetensorError):  # none yet, or damaged: any are better
        return math.inf


def _moments(prefix: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An Adam's state by `prefix`.index.name."""
    state = optimiser.state_dict()["state"]
    return {f"{prefix}.{index}.{k}": v for index, values in state.items() for k, v in values.items()}


def _set_moments(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `_moments` took, without its prefix."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a run tells those who watch it, every few steps."""

    step: int
    steps: int
    seconds_left: float
    """Until the last step or the time limit, at the present speed."""
    images_per_second: float
    """Over all processes."""
    waiting: float
    """Part of the time in which training waited for data; near 0, the processor or GPU is what limits. Of data
    that are made on a GPU only the ordering counts."""
    terms: dict[str, float]
    """Means of what `Trainer.train_step` returns."""


def train(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    val: Path | None = None,
    init: Path | None = None,
    time_limit: float = math.inf,
    save_every: int = 200,
    validate_every: int = 500,
    log_every: int = 20,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> Trainer:
    """Train on the photographs below `data`, resuming what `out` holds; stops within `time_limit` seconds.

    SIGTERM and SIGINT finish the step, save and return. Before the first step, every `validate_every` steps and at
    the end the averaged weights are measured on the first VALIDATED photographs of `val`, and kept in
    `best.safetensors` if their full-resolution LPIPS is the lowest so far (without `val`, always). The limit leaves
    time for the last validation, as long as others took. A new run begins with what fits of the weights in `init`.
    Logs: `log.jsonl`, TensorBoard's in `tensorboard/` where that is installed, sheets of samples in `samples/`.
    `report` and `say` are called by the main process only.

    Raises:
        InputError: no photographs, sizes that do not fit, another run in `out`, or no folder can be made there.
        OutputError: the disk is full, or `out` cannot be written to.
    """
    started = time.monotonic()
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the run")
    accelerator = Accelerator()
    world, main = accelerator.num_processes, accelerator.is_main_process
    if config.batch_size % world:
        raise InputError(f"a batch of {config.batch_size} cannot be shared by {world} processes; give a multiple")
    if main:
        say(f"{world} process{'es' if world > 1 else ''} on {accelerator.device.type}")
    tell = warn if main else lambda message: None
    photos = load_folder(data, report=tell)
    val_photos = load_folder(val, 768, VALIDATED, report=tell) if val else []
    trainer = Trainer(config, out, accelerator)
    resumed = trainer.resume()
    if resumed:
        if main:
            say(f"going on at step {trainer.step}" + (f"; {init} is for new runs and not read" if init else ""))
    elif init is not None:
        fitting, given = trainer.start_from(init)
        if main:
            say(f"begins with {fitting} of {given} tensors of {init}")
    draw = (photos, config.batch_size, config.crops, config.coverage, config.seed, accelerator.process_index, world)
    batches: Batches = HostBatches(*draw)
    if trainer.device.type != "cpu":
        batches = DeviceBatches(*draw, device=trainer.device)
    board = _board(out) if main else None
    stop = False
    step_seconds, checked = 0.0, None

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    def stopping() -> bool:
        """Whether any process has been asked to stop or has no time left: all of them stop at the same step."""
        ahead = step_seconds + (trainer.validation_seconds if val_photos else 0)  # one more step, and the last check
        over = stop or time.monotonic() - started + ahead > time_limit
        return bool(accelerator.gather(torch.tensor([over], device=trainer.device)).any()) if world > 1 else over

    def log(row: dict[str, Any]) -> None:
        with (out / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": trainer.step} | row) + "\n")
        if board is not None:
            for name, value in row.get("val", row).items():
                board.add_scalar(f"val/{name}" if "val" in row else name, value, trainer.step)

    def check() -> None:
        if not main:
            return
        if not val_photos:
            trainer.save_best()
            return
        nonlocal checked
        checked, begun = trainer.step, time.monotonic()
        result, sheet = trainer.validate(val_photos)
        trainer.validation_seconds = time.monotonic() - begun
        trainer.latest = result["full"]
        log({"val": result})
        at = f"step {trainer.step}" if trainer.step else "before training"
        say(f"{at}: on val, LPIPS in the hole {result['full']:.4f}, right matches {result['best1%']:.1%}")
        _save_sheet(out / "samples" / f"{trainer.step:07d}.png", sheet)
        if board is not None:
            board.add_image("samples", sheet, trainer.step, dataformats="HWC")
        if result["full"] < trainer.best:
            trainer.save_best(result["full"])

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if main:
            _cut_log(out / "log.jsonl", trainer.step if resumed else -1)
        if val_photos and not trainer.step and trainer.before is None:
            check()
            trainer.before = trainer.latest
        with ThreadPoolExecutor(1) as loader:

            def ask(step: int) -> Callable[[], tuple[Tensor, Tensor]]:
                # On a processor nothing is gained by making a batch beside a step, whose threads wait for each other
                # at every layer: one that is disturbed delays all, and a step takes up to half as long again.
                if trainer.device.type == "cpu":
                    return partial(batches.__getitem__, step)
                return loader.submit(batches.__getitem__, step).result

            coming = ask(trainer.step)
            begun = saved = mark = time.monotonic()
            mark_step, waited = trainer.step, 0.0
            foretell: int | None = trainer.step + FORETOLD
            seen: list[dict[str, Tensor]] = []
            while trainer.step < config.steps and not stopping():
                asked = time.monotonic()
                image, mask = coming()
                waited += time.monotonic() - asked
                coming = ask(trainer.step + 1)
                seen.append(trainer.train_step(image, mask))
                step_seconds = time.monotonic() - asked
                if trainer.step % save_every == 0 or time.monotonic() - saved > SAVE_SECONDS:
                    trainer.save()
                    saved = time.monotonic()
                validating = trainer.step % validate_every == 0
                if main and (trainer.step % log_every == 0 or validating):
                    steps, now = trainer.step - mark_step, time.monotonic()
                    names = seen[-1].keys()  # a term may begin in the course of a run
                    terms = {n: float(torch.stack([s[n].cpu() for s in seen if n in s]).mean()) for n in names}
                    rate = steps * config.batch_size / (now - mark)
                    left = min((config.steps - trainer.step) / steps * (now - mark), time_limit - (now - started))
                    share = waited / (now - mark)
                    log(terms | {"images_per_second": round(rate, 2), "waiting": round(share, 3)})
                    report(Progress(trainer.step, config.steps, max(left, 0), rate, share, terms))
                    if foretell is not None and trainer.step >= foretell:
                        every = (now - begun) / (trainer.step - foretell + FORETOLD)
                        time_left = time_limit - (now - started) - trainer.validation_seconds
                        within = trainer.step + int(min(max(time_left, 0) / every, config.steps))
                        foretell = None
                        if within < 0.95 * config.steps:
                            say(
                                f"the time limit ends this at about step {within} of {config.steps}; go on later, or "
                                f"begin anew with --set steps={within}, by which the learning rate falls to 0"
                            )
                    mark, mark_step, waited, seen = time.monotonic(), trainer.step, 0.0, []
                if validating:
                    check()
                    mark = time.monotonic()
        trainer.save()
        if trainer.step != checked:
            check()
        accelerator.wait_for_everyone()
    except OSError as error:  # of logs and samples: nothing is read here any more
        raise OutputError(
            f"{out} cannot be written to: {error.strerror or error}; the last checkpoint stays"
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if board is not None:
            with contextlib.suppress(OSError):  # a full disk has been heard of
                board.close()
    return trainer


def _cut_log(path: Path, step: int) -> None:
    """Take away what was logged after `step`, where a run goes on that was killed later: it will be logged again. And
    lines that the kill has cut short."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return

    def stays(line: bytes) -> bool:
        try:
            return bool(json.loads(line)["step"] <= step)
        except (ValueError, KeyError, TypeError):
            return False

    kept = b"".join(line + b"\n" for line in data.splitlines() if stays(line))
    if kept != data:
        write_atomic(path, kept, overwrite=True)


def _board(out: Path) -> Any:
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))


def _save_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    _, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    write_atomic(path, data.tobytes(), overwrite=True)
