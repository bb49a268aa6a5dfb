"""The loop on real photographs: resumed bit-exactly, killed at any moment, and learning."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rethined.config import DEFAULT, PAPER
from rethined.errors import InputError
from rethined.masks import KINDS, free_form
from rethined.train.cli import duration
from rethined.train.config import RECIPES, TrainConfig
from rethined.train.data import Batches, load_folder
from rethined.train.loop import Trainer, learning_rate, train
from rethined.train.losses import match_loss, match_rank, match_targets

TINY = TrainConfig(
    model=dataclasses.replace(DEFAULT, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1)),
    steps=12,
    batch_size=2,
    crop=64,
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
        part = image[200 * index : 200 * index + 160, 300 * index : 300 * index + 200]
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
    batches = Batches(load_folder(photos), TINY.batch_size, TINY.crop, TINY.coverage, TINY.seed)
    for step in range(5):
        trainer.train_step(*batches[step])
    trainer.save()
    resumed = run(TINY, photos, tmp_path / "parts")
    assert resumed.step == 12
    assert_equal_states(state(whole), state(resumed))
    averaged = load_file(tmp_path / "parts" / "best.safetensors")
    for key, value in resumed.ema.state_dict().items():
        assert torch.equal(averaged[key], value)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(photos: Path, tmp_path: Path) -> None:
    run(TINY, photos, tmp_path, save_every=5)
    last = tmp_path / "last.safetensors"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    trainer = Trainer(TINY, tmp_path)
    assert trainer.resume()
    assert trainer.step == 10
    last.unlink()
    (tmp_path / "previous.last.safetensors").unlink()
    assert not Trainer(TINY, tmp_path).resume()


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


def test_a_batch_depends_on_seed_and_step_alone(photos: Path) -> None:
    loaded = load_folder(photos)
    batches = Batches(loaded, 3, 64, (0.1, 0.3), 7)
    image, mask = batches[4]
    again, mask_again = Batches(loaded, 3, 64, (0.1, 0.3), 7)[4]
    assert torch.equal(image, again)
    assert torch.equal(mask, mask_again)
    assert not torch.equal(image, batches[5][0])
    assert image.shape == (3, 3, 64, 64)
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    trainer = Trainer(TINY, tmp_path)
    before = {k: v.clone() for k, v in trainer.model.named_parameters()}
    image = torch.rand(2, 3, 64, 64)
    image[0, 0, 0, 0] = float("nan")
    trainer.train_step(image, torch.ones(2, 1, 64, 64).triu())
    for key, value in trainer.model.named_parameters():
        assert torch.equal(value, before[key])
    assert trainer.step == 1


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
    with pytest.raises(InputError, match=r"a\.jpg"):
        load_folder(tmp_path)
    with pytest.raises(InputError, match="multiple"):
        train(dataclasses.replace(TINY, crop=65), tmp_path, tmp_path / "out")


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
            "--steps",
            "2",
            "--batch-size",
            "2",
        ],
        capture_output=True,
        text=True,
        timeout=280,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "stopped at step 2 of 2" in done.stdout
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
