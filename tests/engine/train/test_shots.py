from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.face.basis import load_basis
from engine.train.shots import eye_distance, find_shots

Float = NDArray[np.float32]


def talk(frames: int = 40) -> tuple[Float, NDArray[np.bool_]]:
    """A face that wanders a little: points [T, 478, 2] px, all valid."""
    basis = load_basis()
    face = np.zeros((478, 2), np.float32)
    face[:468] = basis.at_landmarks(basis.mean)[:, :2] * [10.0, -10.0] + 256.0
    drift = np.sin(np.arange(frames) / 6.0)[:, None, None] * 6.0
    return (face + drift).astype(np.float32), np.ones(frames, np.bool_)


def test_a_moving_head_is_one_shot() -> None:
    points, valid = talk()
    assert find_shots(points, valid) == [slice(0, 40)]
    assert eye_distance(points)[0] == pytest.approx(89.0, rel=0.1)


def test_a_face_lost_for_a_moment_is_the_same_shot() -> None:
    points, valid = talk()
    valid[:2] = valid[20:24] = False
    points[:2] = np.nan
    assert find_shots(points, valid) == [slice(2, 40)]


@pytest.mark.parametrize("kind", ["elsewhere", "larger", "someone else"])
def test_a_cut_is_seen(kind: str) -> None:
    points, valid = talk()
    if kind == "elsewhere":
        points[15:] += 90.0
    elif kind == "larger":
        points[15:] = (points[15:] - 256.0) * 1.4 + 256.0
    else:
        points[15:, [168, 6, 197, 195, 5, 4, 2, 98, 327]] += np.array([0.0, 40.0], np.float32)
    assert find_shots(points, valid) == [slice(0, 15), slice(15, 40)]


def test_no_face_no_shot() -> None:
    points, valid = talk()
    assert find_shots(points, np.zeros_like(valid)) == []
