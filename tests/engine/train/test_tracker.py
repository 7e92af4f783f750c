"""Training of the tracker network: labels follow their pictures, errors mean what they say, losses fall."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.face.attention import LEFT_EYE_MESH, RIGHT_EYE_MESH
from engine.face.tracker import SIDE, Look, TrackerNet
from engine.train.tracker import (
    Labelled,
    Pictures,
    TrackerTrainer,
    draw,
    errors,
    losses,
    plain,
    score,
    set_shape_model,
)
from engine.train.tracker_data import WIDE, Rows, mirror_order

MIRROR = mirror_order()


def _rows(count: int = 6, seed: int = 0) -> Rows:
    """Bright discs at a few landmarks of otherwise random faces on a dark ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:WIDE, 0:WIDE]
    points = random.uniform(70.0, 122.0, (count, 478, 2)).astype(np.float32)
    # Eyes apart, nose below them: what the unit of errors is measured by.
    points[:, 33], points[:, 263], points[:, 168], points[:, 2] = (70, 80), (122, 80), (96, 80), (96, 115)
    frames = np.full((count, WIDE, WIDE, 3), 20, np.uint8)
    for k in range(count):
        for mark in (33, 263, 2):
            px, py = points[k, mark]
            frames[k][(x - px) ** 2 + (y - py) ** 2 < 25.0] = 250
    rotation = random.normal(0.0, 0.2, (count, 3)).astype(np.float32)
    parts = [random.uniform(0.0, 0.4, (count, n)).astype(np.float32) for n in (64, 2, 2)]
    return Rows(frames, points, parts[0], rotation, parts[1], parts[2])


def test_mirror_order_swaps_sides() -> None:
    assert (MIRROR[MIRROR] == np.arange(478)).all()
    assert MIRROR[list(RIGHT_EYE_MESH)].tolist() == list(LEFT_EYE_MESH)
    assert MIRROR[[4, 61, 13, 468, 469]].tolist() == [4, 291, 13, 473, 476]


def test_landmarks_stay_on_what_they_mark() -> None:
    rows, random = _rows(), np.random.default_rng(3)
    lit = []
    for n in range(60):
        picture, points, *_ = draw(rows, n % len(rows), random)
        at = np.round((points + 1.0) * (0.5 * SIDE) - 0.5).astype(int)
        for mark in (33, 263, 2):
            x, y = np.clip(at[mark], 0, SIDE - 1)
            lit.append(float(picture[:, y, x].mean()) > float(picture.mean()) + 0.05)
    # All but the few that a covering patch hides.
    assert np.mean(lit) > 0.95


def test_plain_rows_are_the_middle_of_the_picture() -> None:
    rows = _rows()
    truth = plain(rows, [2])
    expected = (rows.points[2] - WIDE / 8 + 0.5) / (0.75 * WIDE) * 2.0 - 1.0
    np.testing.assert_allclose(truth.points[0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(truth.rotation[0].numpy(), rows.rotation[2], atol=1e-5)


def test_turning_the_picture_rolls_the_head() -> None:
    rows = _rows(1)
    rows.rotation[:] = 0.0
    random = np.random.default_rng(5)
    for _ in range(20):
        _, points, _, rotation, _, _ = draw(rows, 0, random)
        right, left = points[33], points[263]
        if right[0] > left[0]:  # a mirrored one keeps the subject's right eye left in the picture
            pytest.fail("mirrored points were not renumbered")
        slope = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
        assert rotation == pytest.approx([0.0, 0.0, -slope], abs=1e-4)


def test_errors_have_the_units_they_name() -> None:
    truth = plain(_rows(2), [0, 1])
    unit = 52.0 / (0.75 * WIDE) * 2.0
    look = Look(
        truth.points + torch.tensor([0.01 * unit, 0.0]),
        truth.expression.clone(),
        truth.rotation.clone(),
        torch.zeros(2, 2),
        truth.blink + 0.1,
    )
    level = Labelled(
        truth.pictures, truth.points, truth.expression, truth.rotation,
        torch.tensor([[0.0, np.radians(3.0)]] * 2), truth.blink,
    )  # fmt: skip
    found = errors(look, level)
    assert found["points_percent"] == pytest.approx([1.0, 1.0], rel=1e-3)
    assert found["expression"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert found["rotation_deg"] == pytest.approx([0.0, 0.0], abs=1e-3)
    assert found["gaze_deg"] == pytest.approx([3.0, 3.0], rel=1e-3)
    assert float(losses(look, level)["rotation"]) == 0.0


def test_a_few_steps_learn_something() -> None:
    torch.manual_seed(0)
    rows = _rows(4)
    sources = {"portraits__toy": rows}
    pictures = Pictures(sources, seed=0)
    net = TrackerNet()
    set_shape_model(net, pictures, count=100)
    trainer = TrackerTrainer(net, pictures, batch=4, rate=2e-3)
    course = [sum(trainer.advance().values()) for _ in range(10)]
    assert np.mean(course[-4:]) < 0.92 * np.mean(course[:2])
    scores = score(trainer.mean, sources, 2)
    assert scores["points_percent"] > 0.0
    assert all(np.isfinite(value) for value in scores.values())
    other = TrackerTrainer(TrackerNet(), pictures, 8, 2e-3)
    other.restore(trainer.state())
    assert other.step == trainer.step
    torch.testing.assert_close(other.net.mean, net.mean)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no training rows"):
        Pictures({}, 0)
