"""The joint, single-stage loop (5.1): resumable at any step, killable at any moment."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rethined.errors import InputError
from rethined.masks import free_form
from rethined.metrics.lpips import Lpips
from rethined.model import Rethined
from rethined.model.patch_match import corrupted_patches
from rethined.model.pipeline import downsample
from rethined.train.config import TrainConfig
from rethined.train.data import Batches, load_folder
from rethined.train.losses import descriptors, hole_l1, match_loss, match_rank, match_targets

CHECKPOINT = "last.safetensors"
BEST = "best.safetensors"
SUPERVISED_ROWS = 96
"""Corrupted patches per picture whose matches are supervised at each step."""


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, a plateau, then a cosine to 0 over the last `decay` of the steps."""
    tail = max(1.0, config.decay * config.steps)
    left = min(1.0, (config.steps - step) / tail)
    return config.learning_rate * min(1.0, (step + 1) / config.warmup) * 0.5 * (1 - math.cos(math.pi * left))


class Trainer:
    """One run in one folder: `last.safetensors` (to resume), `best.safetensors` (averaged weights), `log.jsonl`."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        self.config, self.out = config, out
        torch.manual_seed(config.seed)
        self.model = Rethined(config.model)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.model.parameters(), config.learning_rate, betas=(0.9, 0.99))
        self.alex, self.squeeze = Lpips.load("alex"), Lpips.load("squeeze")
        for metric in (self.alex, self.squeeze):
            metric.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.step, self.best, self.rank = 0, math.inf, torch.zeros(())
        out.mkdir(parents=True, exist_ok=True)

    # ---------------------------------------------------------------- one step

    def losses(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Every weighted term for images (B, 3, H, W) in [0, 1] and masks (B, 1, H, W), 1 = hole."""
        config, match = self.config, self.model.patch_match
        coarse, features = self.model.coarse(image * (1 - mask), mask)
        corrupted = corrupted_patches(mask, config.model.patch_size)
        # What is matched is data for the matching: its gradient trains queries and keys, not the picture.
        guide = coarse.detach()
        # No gradient runs through a choice; through a softmax it does.
        with torch.set_grad_enabled(config.model.top_k != 1):
            rows, scores = match.corrupted_scores(*match.scores(guide, features, corrupted), corrupted)
            attention = match.attend(rows, scores, corrupted)
        refined = match.refine(coarse, features, mask, attention)
        terms = {
            "coarse": config.coarse_weight * hole_l1(coarse, image, mask),
            "refined": config.refined_weight * hole_l1(refined, image, mask),
        }
        alex, squeeze = self.alex, self.squeeze
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                true_alex, true_squeeze = alex.features(image), squeeze.features(image)
            terms["perceptual"] = config.perceptual_weight * (
                alex.distance(alex.features(refined), true_alex, mask).float().mean()
                + squeeze.distance(squeeze.features(refined), true_squeeze, mask).float().mean()
            )
        # An even sample of the rows is supervised: the others would say the same at several times the cost.
        every = math.ceil(rows.shape[1] / SUPERVISED_ROWS)
        rows = rows[:, ::every]
        scores = match.score_rows(*match.similarity(guide, features), corrupted, rows)
        grid = (image.shape[2] // config.model.patch_size, image.shape[3] // config.model.patch_size)
        with torch.no_grad():
            target = match_targets(descriptors(true_squeeze, squeeze, grid), rows, corrupted)
            self.rank = match_rank(scores.argmax(-1), rows, corrupted, target)
        terms["match"] = config.match_weight * match_loss(scores, rows, corrupted, target)
        return terms

    def train_step(self, image: Tensor, mask: Tensor) -> dict[str, float]:
        """One optimiser step; a step whose gradient is not finite changes nothing but the step count."""
        rate = learning_rate(self.config, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        terms = self.losses(image.contiguous(memory_format=torch.channels_last), mask)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
            self._average()
        self.step += 1
        return {name: float(term.detach()) for name, term in terms.items()} | {
            "norm": float(norm),
            "best1%": float(self.rank),
            "lr": rate,
        }

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at first, so that the average does not drag random weights along.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for averaged, value in zip(self.ema.parameters(), self.model.parameters(), strict=True):
            averaged.lerp_(value, 1 - decay)
        for statistic, now in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            if now.dtype.is_floating_point:
                statistic.lerp_(now, 1 - decay)
            else:
                statistic.copy_(now)

    # ---------------------------------------------------------------- validation

    @torch.no_grad()
    def validate(self, photos: list[np.ndarray[Any, np.dtype[np.uint8]]], scale: int = 2) -> dict[str, float]:
        """Of the averaged weights: LPIPS-Alex inside 10-20 % free-form holes, mean over `photos`, at `scale` times
        the low-resolution grid, for the coarse image, the refined one and the full-resolution result."""
        totals: dict[str, list[float]] = {"coarse": [], "refined": [], "full": []}
        unit = self.config.model.stride * scale
        for index, photo in enumerate(photos):
            height, width = (side // unit * unit for side in photo.shape[:2])
            hole = free_form(height, width, np.random.default_rng(index), coverage=(0.1, 0.2))
            image = torch.from_numpy(photo[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255
            mask = torch.from_numpy(hole)[None, None].float()
            image_lr, mask_lr = downsample(image, mask, scale)
            true_lr = F.avg_pool2d(image, scale)
            coarse, features = self.ema.coarse(image_lr, mask_lr)
            refined, _ = self.ema.patch_match(coarse, features, mask_lr)
            full = self.ema(image, mask, scale)
            for name, result, truth, where in (
                ("coarse", coarse, true_lr, mask_lr),
                ("refined", refined, true_lr, mask_lr),
                ("full", full, image, mask),
            ):
                distance = self.alex.maps(result.clamp(0, 1), truth)
                totals[name].append(float((distance * where).sum() / where.sum()))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    # ---------------------------------------------------------------- checkpoints

    def save(self, name: str = CHECKPOINT) -> None:
        """Everything a bit-exact resume needs, written beside the old file and moved over it in one step."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in state.items()}
        meta = {
            "config": json.dumps(dataclasses.asdict(self.config)),
            "progress": json.dumps({"step": self.step, "best": self.best}),
        }
        self._write(name, tensors, meta)

    def save_best(self) -> None:
        """The averaged weights alone: what `rethined export onnx` reads."""
        meta = {"rethined.config": self.config.model.to_json(), "rethined.steps": str(self.step)}
        self._write(BEST, dict(self.ema.state_dict()), meta)

    def _write(self, name: str, tensors: dict[str, Tensor], meta: dict[str, str]) -> None:
        temporary = self.out / f"{name}.tmp"
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, meta)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if name == CHECKPOINT and (self.out / name).exists():
            (self.out / name).replace(self.out / f"previous.{name}")
        temporary.replace(self.out / name)

    def resume(self) -> bool:
        """Continue from the newest checkpoint that can be read whole; False if there is none."""
        from safetensors import SafetensorError, safe_open

        for path in (self.out / CHECKPOINT, self.out / f"previous.{CHECKPOINT}"):
            if not path.exists():
                continue
            try:
                tensors = load_file(path)
                with safe_open(path, "pt") as file:
                    meta = file.metadata()
            except SafetensorError:
                continue  # cut off while being written: the one before it is whole

            def part(prefix: str, tensors: dict[str, Tensor] = tensors) -> dict[str, Tensor]:
                return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

            self.model.load_state_dict(part("model."))
            self.ema.load_state_dict(part("ema."))
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in part("adam.").items():
                index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})
            progress = json.loads(meta["progress"])
            self.step, self.best = int(progress["step"]), float(progress["best"])
            return True
        return False


def train(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    val: Path | None = None,
    time_limit: float = math.inf,
    save_every: int = 200,
    validate_every: int = 500,
    log_every: int = 20,
    report: Callable[[str], None] = lambda line: None,
) -> Trainer:
    """Train on the photographs below `data`, resuming what `out` holds; stops after `time_limit` seconds.

    SIGTERM and SIGINT finish the step, save and return. Every `validate_every` steps the averaged weights are
    measured on `val`, and kept in `best.safetensors` if their full-resolution LPIPS is the lowest so far (without
    `val`, always).
    `report` is given a line for people every `log_every` steps.

    Raises:
        InputError: no photographs, or sizes that do not fit the architecture.
    """
    if config.crop % config.model.stride:
        raise InputError(f"crop is {config.crop}; give a multiple of the network's stride {config.model.stride}")
    started = time.monotonic()
    trainer = Trainer(config, out)
    if trainer.resume():
        report(f"resuming {out} at step {trainer.step}")
    batches = Batches(load_folder(data), config.batch_size, config.crop, config.coverage, config.seed)
    val_photos = load_folder(val, 768)[:8] if val else []
    stop = False

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}

    def check() -> None:
        if not val_photos:
            trainer.save_best()
            return
        result = trainer.validate(val_photos)
        log({"step": trainer.step, "val": result})
        report(f"step {trainer.step}: LPIPS in the hole on val {result['full']:.4f} (best so far {trainer.best:.4f})")
        if result["full"] < trainer.best:
            trainer.best = result["full"]
            trainer.save_best()

    def log(row: dict[str, Any]) -> None:
        with (out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    try:
        with ThreadPoolExecutor(1) as loader:
            coming: Future[tuple[Tensor, Tensor]] = loader.submit(batches.__getitem__, trainer.step)
            mark, mark_step, sums = time.monotonic(), trainer.step, dict[str, float]()
            while trainer.step < config.steps and not stop and time.monotonic() - started < time_limit:
                image, mask = coming.result()
                coming = loader.submit(batches.__getitem__, trainer.step + 1)
                for name, value in trainer.train_step(image, mask).items():
                    sums[name] = sums.get(name, 0.0) + value
                if trainer.step % log_every == 0:
                    steps, now = trainer.step - mark_step, time.monotonic()
                    rate = {"images_per_second": round(steps * config.batch_size / (now - mark), 2)}
                    log({"step": trainer.step} | {k: v / steps for k, v in sums.items()} | rate)
                    left = (config.steps - trainer.step) / steps * (now - mark)
                    report(
                        f"step {trainer.step}/{config.steps}  {rate['images_per_second']:.1f} images/s  "
                        f"{min(left, time_limit - (now - started)) / 60:.0f} min left  "
                        + "  ".join(f"{k} {v / steps:.3g}" for k, v in sums.items())
                    )
                    mark, mark_step, sums = now, trainer.step, {}
                if trainer.step % save_every == 0:
                    trainer.save()
                if trainer.step % validate_every == 0:
                    check()
        trainer.save()
        check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return trainer
