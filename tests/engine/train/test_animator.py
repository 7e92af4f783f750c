"""The animator's trainer on a scene made of noise: batches, augmentation, losses, a few steps, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.animators.gohd.network import LITE, GohdNet
from engine.errors import ConfigError
from engine.train.animator import AnimatorTrainer, dev_scores
from engine.train.animator_data import (
    HeadPairs,
    Scenes,
    augment,
    collect,
    cropped,
    region_weights,
    rest_rows,
    unguided,
)
from engine.train.animator_losses import pyramid, temporal, weighted_l1

SIDE = 64
SMALL = replace(LITE, side=SIDE, channels=(4, 8, 8, 8), code=16, directions=4)


@pytest.fixture
def scenes(tmp_path: Path) -> Scenes:
    """One scene of six consecutive frames; the truth is the guide, brighter."""
    random = np.random.default_rng(0)
    folder = tmp_path / "someone.0"
    folder.mkdir()
    guide = random.integers(0, 200, (6, SIDE, SIDE, 3), np.uint8)
    arrays = {
        "source": guide[0],
        "guide": guide,
        "target": guide + np.uint8(40),
        "grid": random.uniform(-1, 1, (6, SIDE // 4, SIDE // 4, 2)).astype(np.float16),
        "window": 0.1 * random.standard_normal((6, 3, 72)).astype(np.float32),
        "points": random.uniform(10, 50, (6, 478, 2)).astype(np.float16),
        "index": np.arange(6, dtype=np.int32),
    }
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value)
    (folder / "meta.json").write_text(json.dumps({"frames": 6}))
    return Scenes([tmp_path])


def test_a_batch_is_runs_of_two_consecutive_frames(scenes: Scenes) -> None:
    batch = HeadPairs(scenes, {}, seed=1).draw(3)
    assert batch.guide.shape == (6, 3, SIDE, SIDE)
    assert batch.follows.tolist() == [False, True] * 3
    assert torch.allclose(batch.target, batch.guide + 40 / 255, atol=1e-6)


def test_no_scenes_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="visavis train heads"):
        Scenes([tmp_path])


def test_augmentation_treats_guide_and_truth_alike(scenes: Scenes) -> None:
    batch = HeadPairs(scenes, {}, seed=1).draw(4)
    batch.target = batch.guide.clone()
    before = batch.window.clone()
    done = augment(batch, np.random.default_rng(3))
    assert torch.equal(done.target, done.guide)
    assert not torch.equal(done.window, before)  # some run is mirrored


def test_rest_rows_show_the_portrait_unmoved(scenes: Scenes) -> None:
    batch = rest_rows(HeadPairs(scenes, {}, seed=1).draw(2), np.random.default_rng(0), share=1.0)
    assert torch.equal(batch.guide, batch.source)
    assert torch.equal(batch.target, batch.source)
    assert not batch.window.any()
    assert not batch.follows.any()


def test_the_ablation_sees_neither_picture_nor_flow_of_the_mesh(scenes: Scenes) -> None:
    batch = unguided(HeadPairs(scenes, {}, seed=1).draw(2))
    assert torch.equal(batch.guide, batch.source)
    assert torch.equal(batch.grid[0], batch.grid[3])
    assert batch.grid[0, 0, 0].tolist() == pytest.approx([1 / 16 - 1, 1 / 16 - 1])


def test_a_crop_is_the_same_square_of_everything(scenes: Scenes) -> None:
    whole = HeadPairs(scenes, {}, seed=1).draw(1)
    part, (y, x) = cropped(whole, np.random.default_rng(5), 32)
    assert torch.equal(part.guide, whole.guide[..., y : y + 32, x : x + 32])
    assert torch.equal(part.grid, whole.grid[:, y // 4 : y // 4 + 8, x // 4 : x // 4 + 8])
    assert part.source.shape[-1] == SIDE


def test_mouth_and_eyes_count_most() -> None:
    points = np.zeros((1, 478, 2), np.float32)
    angle = np.linspace(0, 2 * np.pi, 478)
    points[0] = 128 + 100 * np.stack([np.cos(angle), np.sin(angle)], 1)
    mouth = [61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91]
    turn = np.linspace(0, 2 * np.pi, len(mouth), endpoint=False)
    points[0, mouth] = [128, 180] + 20 * np.stack([np.cos(turn), np.sin(turn)], 1)
    weight = region_weights(points, 256)[0, 0]
    assert weight[180, 128] > 4.5
    assert weight[2, 2] == pytest.approx(0.25, abs=0.01)


def test_losses_vanish_on_the_truth_alone(scenes: Scenes) -> None:
    batch = HeadPairs(scenes, {}, seed=1).draw(2)
    for loss in (weighted_l1, pyramid):
        assert float(loss(batch.target, batch.target, batch.weight)) == 0.0
        assert float(loss(batch.target.flip(3), batch.target, batch.weight)) > 0.01
    # A constant difference is no difference between steps, nor between edges.
    assert float(temporal(batch.guide, batch.target, batch.weight, batch.follows)) < 1e-6
    assert float(pyramid(batch.guide, batch.target, batch.weight)) < 1e-6


def test_a_few_steps_bring_the_picture_nearer(scenes: Scenes) -> None:
    torch.manual_seed(0)
    trainer = AnimatorTrainer(
        GohdNet(SMALL), HeadPairs(scenes, {}), 2, rate=3e-3, adversary_from=10, crop=SIDE
    )
    start = dev_scores(trainer.net, scenes)
    for _ in range(30):
        losses = trainer.advance()
    assert "adversarial" in trainer.advance() or "adversarial" in losses
    assert dev_scores(trainer.net, scenes)["l1"] < 0.8 * start["l1"]


def test_a_run_goes_on_where_it_stopped(scenes: Scenes) -> None:
    torch.manual_seed(0)
    first = AnimatorTrainer(GohdNet(SMALL), HeadPairs(scenes, {}), 1, 1e-3, adversary_from=100, crop=SIDE)
    first.advance()
    other = AnimatorTrainer(GohdNet(SMALL), HeadPairs(scenes, {}), 1, 1e-3, adversary_from=100, crop=SIDE)
    other.restore(first.state())
    assert other.step == 1
    batch = collect([(scenes.scenes[0], 0, False)])
    made = [t.net(batch.guide, batch.grid, batch.window, *t.net.encoder(batch.source), batch.strength)
            for t in (first, other)]  # fmt: skip
    assert torch.equal(made[0][1], made[1][1])
