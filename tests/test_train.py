"""The loop on real photographs: resumed bit-exactly, killed at any moment, and learning."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from rethined.config import DEFAULT, PAPER, ModelConfig
from rethined.data import mask_set
from rethined.data.manifest import from_folder, write_manifest
from rethined.data.photos import BadPhotosError
from rethined.data.shards import write_shards
from rethined.errors import InputError, OutputError, RethinedWarning
from rethined.masks import KINDS, PRESETS, free_form
from rethined.train import loop
from rethined.train.cli import duration
from rethined.train.config import RECIPES, TrainConfig, changed, parse
from rethined.train.data import SCALE, DeviceBatches, HostBatches, load_folder
from rethined.train.distributed import SyncedBatchNorm
from rethined.train.loop import Progress, Trainer, learning_rate, train
from rethined.train.losses import frequency_loss, hole_l1, match_loss, match_rank, match_targets, supervised_rows

TINY = TrainConfig(
    model=dataclasses.replace(DEFAULT, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1)),
    steps=12,
    batch_size=2,
    crops=(64, 96),
    warmup=2,
    learning_rate=3e-3,
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here and in the processes below: small layers' threads only wait for each other, on a busy machine for long."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of the example photograph; the real thing, small."""
    folder = tmp_path_factory.mktemp("photos")
    source = sorted((Path(__file__).parent.parent / "examples" / "photos").glob("*.jpg"))[0]
    image = cv2.imread(str(source))
    for index in range(4):
        part = image[200 * index : 200 * index + 200, 300 * index : 300 * index + 240]
        cv2.imwrite(str(folder / f"{index}.png"), part)
    return folder


def run(config: TrainConfig, photos: Path, out: Path, **options: object) -> Trainer:
    torch.manual_seed(99)  # whatever state the process is in must not matter
    return train(config, photos, out, **options)  # type: ignore[arg-type]


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {f"m.{k}": v for k, v in trainer.model.state_dict().items()} | {
        f"e.{k}": v for k, v in trainer.ema.state_dict().items()
    }


def assert_equal_states(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key


def test_resumed_is_bit_exactly_uninterrupted(photos: Path, tmp_path: Path) -> None:
    whole = run(TINY, photos, tmp_path / "whole")
    assert whole.step == 12
    first = run(TINY, photos, tmp_path / "parts", time_limit=0)  # not one step
    assert first.step == 0
    trainer = Trainer(TINY, tmp_path / "parts")
    trainer.resume()
    batches = HostBatches(load_folder(photos), TINY.batch_size, TINY.crops, TINY.coverage, TINY.seed)
    for step in range(5):
        trainer.train_step(*batches[step])
    trainer.save()
    resumed = run(TINY, photos, tmp_path / "parts")
    assert resumed.step == 12
    assert_equal_states(state(whole), state(resumed))
    averaged = load_file(tmp_path / "parts" / "best.safetensors")
    for key, value in resumed.ema.state_dict().items():
        assert torch.equal(averaged[key], value)
    files = [path for path in (tmp_path / "parts").iterdir() if path.is_file()]
    assert len({path.stat().st_mode for path in files}) == 1, files  # who may read the log may read the weights


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(photos: Path, tmp_path: Path, damage: str) -> None:
    run(TINY, photos, tmp_path, save_every=5)
    last, before = tmp_path / "last.safetensors", tmp_path / "previous.last.safetensors"

    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle] ^= 1
        path.write_bytes(data[:middle] if damage == "cut" else data)

    whole = before.read_bytes()
    spoil(last)
    trainer = Trainer(TINY, tmp_path)
    with pytest.warns(RethinedWarning, match=r"/last.safetensors is damaged; .* of step 10"):
        assert trainer.resume()
    assert trainer.step == 10
    spoil(before)
    best = (tmp_path / "best.safetensors").read_bytes()
    with pytest.raises(InputError, match="move them away to begin at step 0"):
        run(TINY, photos, tmp_path)
    assert (tmp_path / "best.safetensors").read_bytes() == best
    last.unlink()
    before.write_bytes(whole)  # as a run leaves them that is killed between two renames
    trainer = Trainer(TINY, tmp_path)
    assert trainer.resume()
    assert trainer.step == 10
    before.unlink()
    assert not Trainer(TINY, tmp_path).resume()


def test_the_best_weights_are_never_replaced_by_worse_ones(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in order, or killed between a validation and the next checkpoint."""
    values = {0: 0.6, 4: 0.5, 6: 0.3, 8: 0.4, 12: 0.45}
    sheet = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(Trainer, "validate", lambda self, photos: ({"full": values[self.step], "best1%": 0.0}, sheet))
    options = {"val": photos, "validate_every": 4, "log_every": 1}
    ticks, late = count(), [0.0]
    clock = SimpleNamespace(monotonic=lambda: 0.001 * next(ticks) + late[0])

    def stop(progress: Progress) -> None:
        late[0] = 1e6 if progress.step == 6 else 0

    def steps_of_best(out: Path) -> tuple[int, float]:
        with safe_open(out / "best.safetensors", "pt") as file:
            return int(file.metadata()["rethined.steps"]), float(file.metadata()["rethined.lpips"])

    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", clock)
        assert run(TINY, photos, tmp_path / "stopped", report=stop, time_limit=1e5, **options).step == 6
    assert steps_of_best(tmp_path / "stopped") == (6, 0.3)
    assert run(TINY, photos, tmp_path / "stopped", **options).step == 12
    assert steps_of_best(tmp_path / "stopped") == (6, 0.3)

    class Killed(BaseException):
        pass

    def die(self: Trainer) -> None:
        if self.step == 6:
            raise Killed
        save(self)

    save = Trainer.save
    monkeypatch.setattr(Trainer, "save", die)
    with pytest.raises(Killed):
        run(TINY, photos, tmp_path / "killed", save_every=3, **options)
    assert steps_of_best(tmp_path / "killed") == (4, 0.5)
    monkeypatch.setattr(Trainer, "save", save)
    values |= {4: 0.6, 8: 0.7, 12: 0.7}  # whatever comes after the checkpoint of step 3
    assert run(TINY, photos, tmp_path / "killed", **options).step == 12
    assert steps_of_best(tmp_path / "killed") == (4, 0.5)


def test_killed_at_random_moments_it_ends_the_same(photos: Path, tmp_path: Path) -> None:
    script = (
        "import dataclasses, sys; from pathlib import Path; sys.path.insert(0, sys.argv[3])\n"
        "from test_train import TINY; from rethined.train.loop import train\n"
        "train(TINY, Path(sys.argv[1]), Path(sys.argv[2]), save_every=1)"
    )
    command = [
        sys.executable,
        "-c",
        script,
        str(photos),
        str(tmp_path / "killed"),
        str(Path(__file__).parent),
    ]
    rng = random.Random(0)
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        last = tmp_path / "killed" / "last.safetensors"
        deadline = time.monotonic() + 120
        before = last.stat().st_mtime_ns if last.exists() else None
        while time.monotonic() < deadline and process.poll() is None:  # until it has made at least one step
            if last.exists() and last.stat().st_mtime_ns != before:
                break
            time.sleep(0.02)
        time.sleep(rng.random() * 0.3)
        process.send_signal(number)
        process.wait(60)
        if number == signal.SIGTERM:
            assert process.returncode == 0
    subprocess.run(command, check=True, timeout=200)
    trainer, whole = Trainer(TINY, tmp_path / "killed"), run(TINY, photos, tmp_path / "whole")
    assert trainer.resume()
    assert trainer.step == 12
    assert_equal_states(state(whole), state(trainer))


def test_the_time_limit_holds_with_the_last_validation(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(self: Trainer, photos: object) -> tuple[dict[str, float], np.ndarray]:
        checks.append(self.step)
        time.sleep(2)
        return {"full": 1 / (1 + self.step), "best1%": 0.0}, np.zeros((8, 8, 3), np.uint8)

    checks: list[int] = []
    monkeypatch.setattr(Trainer, "validate", validate)
    config = dataclasses.replace(TINY, steps=10_000)
    started = time.monotonic()
    trainer = run(config, photos, tmp_path, val=photos, time_limit=6)
    assert 3 < time.monotonic() - started < 7  # a step takes a tenth of a second, others may delay it
    assert checks == [0, trainer.step]
    assert trainer.before == 1
    resumed = run(config, photos, tmp_path, val=photos, time_limit=0)
    assert resumed.before == 1, "what was before training is known later"
    assert checks == [0, trainer.step, trainer.step]


def test_where_the_time_limit_ends_a_run_is_said_in_time(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Heard(BaseException):
        pass

    def hear(line: str) -> None:
        if "time limit" in line:
            raise Heard(line)

    monkeypatch.setattr(loop, "FORETOLD", 1)
    run(TINY, photos, tmp_path / "short", time_limit=1e6, log_every=1, say=hear)
    run(TINY, photos, tmp_path / "no limit", log_every=1, say=hear)
    with pytest.raises(Heard, match=r"ends this at about step (\d+) of 1000000; .* --set steps=\1,"):
        run(
            dataclasses.replace(TINY, steps=1_000_000),
            photos,
            tmp_path / "long",
            time_limit=100,
            log_every=1,
            say=hear,
        )


def test_a_kill_costs_no_more_than_some_minutes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long steps take."""

    class Killed(BaseException):
        pass

    def die(progress: Progress) -> None:
        if progress.step == 3:
            raise Killed

    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    with pytest.raises(Killed):
        run(TINY, photos, tmp_path, log_every=1, report=die)
    trainer = Trainer(TINY, tmp_path)
    assert trainer.resume()
    assert trainer.step == 3


def test_the_log_has_each_step_once(photos: Path, tmp_path: Path) -> None:
    """Though what a killed run had made after its checkpoint is made again."""

    class Killed(BaseException):
        pass

    def die(progress: Progress) -> None:
        if progress.step == 7:
            raise Killed

    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in log.read_text().splitlines()]

    log = tmp_path / "log.jsonl"
    with pytest.raises(Killed):  # before its first checkpoint
        run(TINY, photos, tmp_path, log_every=1, report=die)
    with pytest.raises(Killed):
        run(TINY, photos, tmp_path, log_every=1, save_every=4, report=die)
    assert steps() == [*range(1, 8)]
    rows = log.read_text().splitlines()
    log.write_text("\n".join([*rows, '{"step": 8, "coa']))
    run(TINY, photos, tmp_path, log_every=1)
    assert steps() == [*range(1, 13)]
    assert log.read_text().splitlines()[:4] == rows[:4]
    whole = log.read_bytes()
    run(TINY, photos, tmp_path)  # it has ended
    assert log.read_bytes() == whole
    assert not [path for path in tmp_path.iterdir() if "tmp" in path.name]


def test_training_learns(photos: Path, tmp_path: Path) -> None:
    """On four pictures it must soon do better than it began, in each of its terms."""
    config = dataclasses.replace(TINY, steps=80, batch_size=4, decay=0.5)
    run(config, photos, tmp_path, log_every=8)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "coarse" in row]
    assert len(rows) == 10
    for name in ("perceptual", "match"):
        assert np.mean([row[name] for row in rows[-3:]]) < np.mean([row[name] for row in rows[:3]]), name
    assert rows[-1]["images_per_second"] > 0


@pytest.mark.parametrize("kind", [HostBatches, DeviceBatches])
def test_a_batch_depends_on_seed_and_step_alone_and_is_shared_out(photos: Path, kind: type) -> None:
    loaded = load_folder(photos)
    options = {"device": torch.device("cpu")} if kind is DeviceBatches else {}

    def batches(rank: int = 0, world: int = 1) -> HostBatches | DeviceBatches:
        return kind(loaded, 6, (64, 96), (0.1, 0.3), 7, rank, world, **options)

    sizes = set()
    for step in range(6):
        image, mask = batches()[step]
        again, mask_again = batches()[step]
        assert torch.equal(image, again)
        assert torch.equal(mask, mask_again)
        crop = mask.shape[-1]
        sizes.add(crop)
        assert image.shape == (6, 3, SCALE * crop, SCALE * crop)
        assert 0 <= image.min() <= image.max() <= 1
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        for rank in range(2):
            part, part_mask = batches(rank, 2)[step]
            assert torch.equal(part, image[rank::2])
            assert torch.equal(part_mask, mask[rank::2])
    assert sizes == {64, 96}
    assert not torch.equal(batches()[0][0][..., :64, :64], batches()[1][0][..., :64, :64])


def test_masks_drawn_on_a_device_are_like_the_others(photos: Path) -> None:
    """Areas in the wanted range for most, holes in one piece or few, not one shape only."""
    batches = DeviceBatches(load_folder(photos), 64, (256,), (0.1, 0.5), 0, device=torch.device("cpu"))
    masks = batches[0][1]
    area = masks.mean((1, 2, 3))
    assert ((area > 0.05) & (area < 0.6)).float().mean() > 0.9
    assert 0.15 < area.mean() < 0.45
    assert area.std() > 0.05
    borders = (masks[..., 1:] != masks[..., :-1]).float().mean()
    assert borders < 0.03


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    trainer = Trainer(TINY, tmp_path)
    before = {k: v.clone() for k, v in trainer.model.named_parameters()}
    image = torch.rand(2, 3, 128, 128)
    image[0, 0, 0, 0] = float("nan")
    trainer.train_step(image, torch.ones(2, 1, 64, 64).triu())
    for key, value in trainer.model.named_parameters():
        assert torch.equal(value, before[key])
    assert trainer.step == 1


def test_a_bad_batch_leaves_no_trace(photos: Path, tmp_path: Path) -> None:
    """Not in what batch norms, the discriminator and the optimisers remember, nor in the averages."""
    trainer = Trainer(dataclasses.replace(TINY, adversarial_weight=0.1), tmp_path)
    assert trainer.judge is not None

    def everything() -> dict[str, torch.Tensor]:
        assert trainer.judge is not None
        kept = state(trainer) | {f"j.{k}": v for k, v in trainer.judge.state_dict().items()}
        kept |= loop._moments("adam", trainer.optimiser) | loop._moments("judge", trainer.judge_optimiser)
        return {k: v.clone() for k, v in kept.items()}

    batches = HostBatches(load_folder(photos), TINY.batch_size, TINY.crops, TINY.coverage, TINY.seed)
    trainer.train_step(*batches[0])
    before = everything()
    image, mask = batches[1]
    image[0, 0, 0, 0] = torch.inf
    assert not torch.isfinite(trainer.train_step(image, mask)["norm"])
    assert_equal_states(everything(), before)
    assert trainer.step == 2
    assert torch.isfinite(trainer.train_step(*batches[2])["norm"])
    after = everything()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(value, before[k]) for k, value in after.items() if k.startswith("e."))


def test_a_gpu_describes_pictures_in_chunks(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(dataclasses.replace(TINY, half=False), tmp_path)
    image, mask = HostBatches(load_folder(photos), 5, (64,), TINY.coverage, TINY.seed)[0]
    sizes: list[int] = []
    features = trainer.squeeze.features

    def counted(x: torch.Tensor, taps: int) -> list[torch.Tensor]:
        sizes.append(len(x))
        return features(x, taps)

    monkeypatch.setattr(trainer.squeeze, "features", counted)
    monkeypatch.setattr(loop, "DESCRIBED", 2)
    want = trainer._described(image, mask)
    monkeypatch.setattr(trainer, "device", torch.device("cuda"))
    torch.testing.assert_close(trainer._described(image, mask), want)
    assert sizes == [1] * 5 + [2, 2, 1]


def test_learning_rate_is_warmup_plateau_cosine() -> None:
    config = dataclasses.replace(TINY, steps=1000, warmup=100, decay=0.5, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[99:500] == pytest.approx([1.0] * 401)
    assert rates[750] == pytest.approx(0.5)
    assert rates[999] < 1e-5
    assert all(a >= b for a, b in pairwise(rates[500:]))


def test_match_targets_and_rank() -> None:
    """Three known patches at distances 0, 1 and 4 of one corrupted patch."""
    described = torch.tensor([[0.0, 0.0, 1.0, 2.0]])[None]
    corrupted = torch.tensor([[True, False, False, False]])
    rows = torch.tensor([[0]])
    target = match_targets(described, rows, corrupted)
    assert target[0, 0, 0] == 0
    assert target.sum() == pytest.approx(1)
    distance = np.array([0.0, 1, 4])
    want = np.exp(-5 * distance / distance.std())
    np.testing.assert_allclose(target[0, 0, 1:].numpy(), want / want.sum(), rtol=1e-5)

    scores = torch.tensor([[[-torch.inf, 3.0, 2.0, 1.0]]], requires_grad=True)
    loss = match_loss(scores, rows, corrupted, target)
    log_p = torch.tensor([3.0, 2.0, 1.0]).log_softmax(-1)
    assert loss.item() == pytest.approx(-(target[0, 0, 1:] * log_p).sum().item(), rel=1e-5)
    loss.backward()
    assert torch.isfinite(scores.grad).all()
    assert match_rank(torch.tensor([[1]]), rows, corrupted, target) == 1
    assert match_rank(torch.tensor([[3]]), rows, corrupted, target) == 0


def test_supervised_rows_are_corrupted_and_even() -> None:
    corrupted = torch.zeros(3, 400, dtype=torch.bool)
    corrupted[0, 100:350] = True
    corrupted[1, 5:15] = True
    rows = supervised_rows(corrupted, 3)
    assert corrupted[0][rows[0]].all()
    assert corrupted[1][rows[1]].all()
    assert set(rows[1].tolist()) == set(range(5, 15))
    assert len(set(rows[0].tolist())) == 96
    assert rows[0].diff().min() >= 2
    assert rows[0].diff().max() <= 3
    assert set(supervised_rows(corrupted, 4)[0].tolist()) != set(rows[0].tolist())


def test_losses_are_per_picture_and_see_the_hole_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    true, mask = torch.rand(2, 3, 64, 64, generator=generator), torch.zeros(2, 1, 64, 64)
    mask[0, :, 16:40, 20:50] = 1
    mask[1, :, :32] = 1
    wrong = true + 0.5 * torch.rand(2, 3, 64, 64, generator=generator) * mask
    for loss in (hole_l1, frequency_loss):
        both = loss(wrong, true, mask)
        assert both.shape == (2,)
        for i in range(2):
            torch.testing.assert_close(loss(wrong[i : i + 1], true[i : i + 1], mask[i : i + 1])[0], both[i])
        assert (loss(true, true, mask) == 0).all()
    blurred = true * (1 - mask) + mask * torch.nn.functional.avg_pool2d(true, 5, 1, 2)
    shifted = true * (1 - mask) + mask * true.roll(16, 3)
    assert (frequency_loss(blurred, true, mask) > 1.3 * frequency_loss(shifted, true, mask)).all()


def test_the_discriminator_learns_and_resumes(photos: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, steps=6, adversarial_weight=0.1, feature_weight=0.1, frequency_weight=0.1, adversarial_start=2
    )
    whole = run(config, photos, tmp_path / "whole", log_every=1)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert "adversarial" not in rows[1]
    assert rows[5]["adversarial"] > 0
    assert rows[5]["discriminator"] > 0
    run(dataclasses.replace(config, steps=4), photos, tmp_path / "parts")
    # The schedule of the first four steps depends on how many there are in all; weights must still come from there.
    resumed = run(config, photos, tmp_path / "parts")
    assert resumed.judge is not None
    trainer = Trainer(config, tmp_path / "parts")
    assert trainer.resume()
    assert trainer.judge is not None
    assert_equal_states(resumed.judge.state_dict(), trainer.judge.state_dict())
    assert whole.judge is not None
    assert any(
        not torch.equal(a, b) for a, b in zip(whole.judge.parameters(), trainer.judge.parameters(), strict=True)
    )


TWO = """
import dataclasses, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[3])
from test_train import TINY
from rethined.train import loop
config = dataclasses.replace(TINY, batch_size=4, half=False, steps=3, clip=1e9)
kept = []
step = torch.optim.Adam.step
def keep(self, *rest, **options):
    kept.append([p.grad.clone() for group in self.param_groups for p in group["params"]])
    return step(self, *rest, **options)
torch.optim.Adam.step = keep
trainer = loop.train(config, Path(sys.argv[1]), Path(sys.argv[2]), say=print)
if trainer.accelerator.is_main_process:
    statistics = {k: v for k, v in trainer.model.state_dict().items() if "running" in k}
    torch.save((kept[0], statistics, trainer.accelerator.num_processes), sys.argv[2] + "/kept.pt")
"""


def test_two_processes_are_one_with_twice_the_pictures(photos: Path, tmp_path: Path) -> None:
    """Gradients of the first step, and the statistics of batch norms, within float error; real processes."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    results = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        # Accelerate's own launcher starts several processes on GPUs only; torchrun is what it calls there.
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [*launch, str(script), str(photos), str(out), str(Path(__file__).parent)]
        environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [f"{processes} process{'es' if processes > 1 else ''} on cpu"]
        results.append(torch.load(out / "kept.pt", weights_only=True))
    (one, one_statistics, count), (two, two_statistics, counts) = results
    assert (count, counts) == (1, 2)
    whole, other = (torch.cat([gradient.flatten() for gradient in part]) for part in (one, two))
    assert whole.norm() > 0.01
    assert (whole - other).norm() <= 1e-3 * whole.norm()
    for a, b in zip(one, two, strict=True):  # where a gradient is next to nothing, sums in another order show
        assert (a - b).norm() <= 2e-2 * a.norm() + 1e-5 * whole.norm()
    for name, value in one_statistics.items():
        torch.testing.assert_close(two_statistics[name], value, rtol=2e-2, atol=2e-3)


def test_shared_statistics_are_compiled_with_the_network() -> None:
    """In one graph, with the same gradients; as a process of one, where nobody else need be waited for."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8))
        for module in plain:
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = SyncedBatchNorm  # as `synchronise` does for several
        other = copy.deepcopy(plain)
        compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
        x, weight = torch.rand(2, 3, 16, 16), torch.arange(14.0)
        for network in (plain, compiled):
            (network(x).square() * weight).mean().backward()
        for (name, a), b in zip(plain.named_parameters(), other.parameters(), strict=True):
            assert a.grad is not None
            torch.testing.assert_close(b.grad, a.grad, msg=name)
        for a, b in zip(plain.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(b, a)
    finally:
        torch.distributed.destroy_process_group()


def test_any_value_of_a_recipe_can_be_set() -> None:
    """By the command line, as text; the model's, too."""
    texts = ["steps=7", "learning_rate=5e-4", "crops=256, 384", "coverage=0.2,0.4", "half=False", "key_dim=64"]
    got = changed(RECIPES["cpu"], parse([*texts, "steps=9"]))
    model = dataclasses.replace(DEFAULT, key_dim=64)
    wanted = {"steps": 9, "learning_rate": 5e-4, "crops": (256, 384), "coverage": (0.2, 0.4), "half": False}
    assert got == dataclasses.replace(RECIPES["cpu"], model=model, **wanted)
    every = [field.name for kind in (TrainConfig, ModelConfig) for field in dataclasses.fields(kind)]
    assert len(set(every)) == len(every), "no two have one name"
    written = dataclasses.asdict(RECIPES["paper"])
    values = written | written.pop("model")
    text = [f"{n}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for n, v in values.items()]
    assert changed(RECIPES["cpu"], parse(text)) == RECIPES["paper"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "steps is ''; give a whole number"),
        ("steps=1.5", "steps is '1.5'; give a whole number"),
        ("learning_rate=fast", "give a number"),
        ("learning_rate=nan", "learning_rate is nan; give a number above 0"),
        ("half=1", "half is '1'; give true or false"),
        ("crops=256,", "give numbers like 256,384"),
        ("crops=100", "crop is 100; give a multiple of the network's stride 32"),
        ("crops=0", "multiple of the network's stride"),
        ("coverage=0.5", "the least and the most"),
        ("coverage=0.5,0.1", "the least and the most"),
        ("batch_size=1", "batch_size is 1; give 2 or more"),
        ("match_weight=-1", "match_weight is -1.0; give 0 or more"),
        ("ema=1", "less than 1"),
        ("decay=2", "1 at most"),
        ("model=paper", "'model=paper' changes nothing; give NAME=VALUE, with one of adversarial_start, "),
        ("speed=3", "one of adversarial_start, "),
        ("key_dim=0", "key_dim is 0, which is less than 1"),
        ("widths=8,8", "widths has 2 entries but depths has 4"),
        ("patch_size=16", "search needs band 4 and patch_size 8"),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        changed(RECIPES["cpu"], parse([text]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_of_another_recipe_is_refused(photos: Path, tmp_path: Path) -> None:
    run(dataclasses.replace(TINY, steps=1), photos, tmp_path)
    with pytest.raises(InputError, match="another seed"):
        run(dataclasses.replace(TINY, seed=5), photos, tmp_path)


def test_a_full_disk_and_no_folder_are_one_sentence(photos: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    out = tmp_path / "run"
    run(dataclasses.replace(TINY, steps=2), photos, out)
    kept = (out / "last.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, limits[1]))  # the kernel stops it half way
    try:
        with pytest.raises(OutputError, match=r"last\.safetensors cannot be written: File too large"):
            run(TINY, photos, out, save_every=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (out / "last.safetensors").read_bytes() == kept
    assert not [path for path in out.rglob("*") if "tmp" in path.name]
    (out / "log.jsonl").unlink(missing_ok=True)
    (out / "log.jsonl").mkdir()
    with pytest.raises(OutputError, match="run cannot be written to: Is a directory"):
        run(TINY, photos, out, log_every=1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file is a file; give a folder for the run"):
        run(TINY, photos, tmp_path / "file")
    with pytest.raises(InputError, match="cannot be made: Not a directory"):
        run(TINY, photos, tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_starts_from_what_fits(photos: Path, tmp_path: Path) -> None:
    first = run(dataclasses.replace(TINY, steps=1), photos, tmp_path / "first")
    wider = dataclasses.replace(TINY.model, key_dim=8)
    weights = tmp_path / "first" / "best.safetensors"
    said: list[str] = []

    def second_run() -> Trainer:
        config = dataclasses.replace(TINY, model=wider)
        return run(config, photos, tmp_path / "second", init=weights, time_limit=0, say=said.append)

    second = second_run()
    a, b = first.ema.state_dict(), second.model.state_dict()
    fitting = sum(a[name].shape == b[name].shape for name in a)
    assert said[1] == f"begins with {fitting} of {len(a)} tensors of {weights}"
    assert fitting < len(a)
    said.clear()
    second_run()
    assert said[1] == f"going on at step 0; {weights} is for new runs and not read"
    assert torch.equal(a["coarse.head.weight"], b["coarse.head.weight"])
    assert a["patch_match.pixels.weight"].shape != b["patch_match.pixels.weight"].shape
    with pytest.raises(InputError, match="cannot be read"):
        run(TINY, photos, tmp_path / "third", init=tmp_path / "nothing")


def test_samples_and_logs_are_kept(photos: Path, tmp_path: Path) -> None:
    run(dataclasses.replace(TINY, steps=2), photos, tmp_path, val=photos, validate_every=2, log_every=1)
    sheets = sorted((tmp_path / "samples").glob("*.png"))
    assert [sheet.name for sheet in sheets] == ["0000000.png", "0000002.png"]
    assert cv2.imread(str(sheets[1])).std() > 10
    assert list((tmp_path / "tensorboard").iterdir())
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "val" in row] == [0, 2]
    val = next(row["val"] for row in rows if "val" in row)
    assert 0 < val["full"] < 2
    assert 0 <= val["best1%"] <= 1
    assert all(0 <= row["waiting"] <= 1 for row in rows if "waiting" in row)


def test_the_paper_recipe_is_section_5_1() -> None:
    paper = RECIPES["paper"]
    assert (paper.steps, paper.batch_size, paper.learning_rate, paper.decay) == (600_000, 128, 1e-3, 1.0)
    assert paper.model == PAPER


@pytest.mark.parametrize("kind", KINDS)
def test_masks_keep_to_their_coverage_and_seed(kind: str) -> None:
    for seed in range(10):
        mask = free_form(160, 240, np.random.default_rng(seed), coverage=(0.1, 0.3), kind=kind)
        assert mask.shape == (160, 240)
        assert 0.05 < mask.mean() <= 0.3
        again = free_form(160, 240, np.random.default_rng(seed), coverage=(0.1, 0.3), kind=kind)
        np.testing.assert_array_equal(mask, again)
    with pytest.raises(InputError, match="coverage"):
        free_form(8, 8, np.random.default_rng(0), coverage=(0.5, 0.2))
    with pytest.raises(InputError, match="strokes"):
        free_form(8, 8, np.random.default_rng(0), kind="stars")


def test_durations() -> None:
    assert [duration(t) for t in ("90s", "5m", "1.5h")] == [90, 300, 5400]
    with pytest.raises(InputError, match="90s, 5m or 2h"):
        duration("soon")


def test_bad_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photographs"):
        load_folder(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    (tmp_path / "b.avif").write_bytes(b"nor this")
    with pytest.raises(BadPhotosError, match=r"2 of 2 photographs .* cannot be read: 2 corrupt: a\.jpg, b\.avif"):
        load_folder(tmp_path)
    with pytest.raises(ValueError, match="multiple"):
        dataclasses.replace(TINY, crops=(64, 65))


def test_every_kind_that_rethined_reads_is_learnt_from(photos: Path, tmp_path: Path) -> None:
    first = load_folder(photos)[0]
    with Image.open(photos / "0.png") as picture:
        for name in ("a.avif", "b.TIFF", "c.webp", "d.jpg", "e.bmp"):
            picture.save(tmp_path / name, format=None if name[0] != "b" else "TIFF")
    loaded = load_folder(tmp_path)
    assert [picture.shape for picture in loaded] == [first.shape] * 5
    for picture in loaded:
        assert np.abs(picture.astype(int) - first).mean() < 6  # lossy
    np.testing.assert_array_equal(loaded[1], first)
    assert len(load_folder(tmp_path, 768, 2)) == 2


def test_what_is_too_small_to_learn_from_is_left_out(photos: Path, tmp_path: Path) -> None:
    """Enlarged as others are, a strip of 3000 x 2 pixels would take 2.6 GB."""
    strips = tmp_path / "strips"
    strips.mkdir()
    cv2.imwrite(str(strips / "strip.png"), np.zeros((2, 3000, 3), np.uint8))
    cv2.imwrite(str(strips / "long.png"), np.zeros((64, 3000, 3), np.uint8))
    with pytest.raises(InputError, match=r"large enough .*: long\.png, strip\.png"):
        load_folder(strips)
    (strips / "0.png").write_bytes((photos / "0.png").read_bytes())
    with pytest.warns(RethinedWarning, match=r"2 of 3 photographs .* left out .*: long\.png, strip\.png"):
        assert len(load_folder(strips)) == 1


def test_shards_are_learnt_from(photos: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "photos"
    (dataset / "test").mkdir(parents=True)
    for path in photos.iterdir():
        (dataset / "test" / path.name).write_bytes(path.read_bytes())
    write_manifest(from_folder(dataset), dataset / "manifest.json")
    mask_set.write_masks(
        mask_set.jobs_like(dataset / "test"), PRESETS["paper"], dataset / "masks", preset_name="paper"
    )
    index = write_shards(dataset, tmp_path / "shards", shard_mb=0.1)
    assert len(index["shards"]) > 1
    loaded, whole = load_folder(tmp_path / "shards"), load_folder(photos)
    assert sorted(picture.tobytes() for picture in loaded) == sorted(picture.tobytes() for picture in whole)
    assert run(dataclasses.replace(TINY, steps=1), tmp_path / "shards", tmp_path / "run").step == 1
    last = tmp_path / "shards" / index["shards"][-1]["name"]
    data = last.read_bytes()
    for cut in (0, 600, len(data) // 2):
        last.write_bytes(data[:cut])
        with pytest.raises(InputError, match="get the whole file"):
            load_folder(tmp_path / "shards")


def test_command_line_trains_validates_and_exports(photos: Path, tmp_path: Path) -> None:
    """Minutes on a real machine; here two steps of the real recipe, then the real export, then the real engine."""
    environment = {k: v for k, v in os.environ.items() if k != "RETHINED_BACKBONES"}
    base = [sys.executable, "-m", "rethined"]
    out = tmp_path / "run"
    done = subprocess.run(
        [
            *base,
            "train",
            "cpu",
            "--data",
            str(photos),
            "--val",
            str(photos),
            "--out",
            str(out),
            "--set",
            "steps=2",
            "--set",
            "batch_size=2",
        ],
        capture_output=True,
        text=True,
        timeout=280,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 process on cpu\nbefore training: on val, LPIPS in the hole 0.")
    last = done.stdout.splitlines()[-1]
    assert re.match(r".*: stopped at step 2 of 2; validation LPIPS 0\.\d{4}, before training 0\.\d{4}", last), last
    assert (out / "best.safetensors").exists()
    model = tmp_path / "mine.onnx"
    done = subprocess.run(
        [*base, "export", "onnx", str(out / "best.safetensors"), "-o", str(model)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "difference to PyTorch" in done.stdout
    from rethined import Engine

    facts = Engine(model).describe()
    assert facts["parameters"] < 4.3e6
    assert facts["macs at 512"] > 1e8
    image = np.full((70, 90, 3), 128, np.uint8)
    hole = np.zeros((70, 90), np.bool_)
    hole[30:40, 30:50] = True
    assert Engine(model)(image, hole).shape == image.shape
    for arguments in (
        ["export", "tea", "x", "-o", "y"],
        ["export", "onnx", "missing", "-o", str(tmp_path / "y")],
    ):
        done = subprocess.run([*base, *arguments], capture_output=True, text=True, timeout=100)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "y").exists()
