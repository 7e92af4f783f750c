"""The matte: real portraits, and the promises its callers rely on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.face.matte import face_frame, person_matte

ASTRONAUT = Path(__file__).parents[3] / "engine" / "assets" / "demo" / "astronaut.png"


def _drawn(
    hair: tuple[int, int, int], wall: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A drawn person on a noisy wall: picture [512, 512, 3], landmarks [468, 2], true mask."""
    rng = np.random.default_rng(3)
    picture = np.full((512, 512, 3), wall, np.uint8)
    truth = np.zeros((512, 512), np.uint8)
    for target, colours in ((picture, (hair, (60, 70, 120), (215, 170, 145))), (truth, (1, 1, 1))):
        cv2.ellipse(target, (256, 215), (118, 150), 0, 0, 360, colours[0], -1)
        cv2.ellipse(target, (256, 540), (190, 160), 0, 0, 360, colours[1], -1)
        cv2.rectangle(target, (215, 300), (297, 420), colours[2], -1)
        cv2.ellipse(target, (256, 240), (80, 110), 0, 0, 360, colours[2], -1)
    noisy = picture.astype(np.float32) + rng.normal(0, 6, picture.shape)
    angle = np.linspace(0, 2 * np.pi, 468, endpoint=False)
    points = np.stack([256 + 78 * np.sin(angle), 240 - 108 * np.cos(angle)], 1)
    for index, place in {
        10: (256, 132), 152: (256, 348), 33: (212, 225), 133: (240, 225), 362: (272, 225), 263: (300, 225),
    }.items():  # fmt: skip
        points[index] = place
    return np.clip(noisy, 0, 255).astype(np.uint8), points.astype(np.float32), truth


@pytest.mark.parametrize(
    ("hair", "wall"),
    [((30, 22, 18), (190, 195, 200)), ((225, 222, 220), (70, 90, 60)), ((120, 80, 40), (150, 30, 30))],
)
def test_drawn_person_is_found(hair: tuple[int, int, int], wall: tuple[int, int, int]) -> None:
    picture, points, truth = _drawn(hair, wall)
    matte = person_matte(picture, points)
    assert matte.shape == (512, 512)
    assert matte.dtype == np.float32
    assert float(matte.min()) >= 0.0
    assert float(matte.max()) <= 1.0
    found = matte > 0.5
    person = truth > 0
    head = np.arange(512)[:, None] < 365  # above the chin line plus a little neck
    overlap = (found & person & head).sum() / ((found | person) & head).sum()
    assert overlap > 0.94
    assert matte[person].mean() > 0.96  # the head is never cut
    # Shoulders are held generously, and have no holes; a wall two hand's widths above is left alone.
    body = person & (np.arange(512)[:, None] > 420)
    assert float(matte[body].min()) > 0.9
    far = cv2.dilate(truth, np.ones((81, 81), np.uint8)) == 0
    assert float(matte[far].max()) < 0.05


def test_wall_of_hair_colour_keeps_the_head() -> None:
    """Where colours say nothing, the matte keeps background rather than cutting the head."""
    picture, points, _ = _drawn((120, 110, 100), (120, 110, 100))
    matte = person_matte(picture, points)
    skull = cv2.ellipse(np.zeros((512, 512), np.uint8), (256, 225), (80, 120), 0, 0, 360, 1, -1) > 0
    assert matte[skull].mean() > 0.95


def test_own_transparency_is_the_truth() -> None:
    picture, points, truth = _drawn((30, 22, 18), (190, 195, 200))
    alpha = truth * np.uint8(255)
    assert np.array_equal(person_matte(picture, points, alpha), truth.astype(np.float32))
    opaque = np.full((512, 512), 255, np.uint8)
    assert np.array_equal(person_matte(picture, points, opaque), person_matte(picture, points))


def test_frame_follows_the_roll_of_the_face() -> None:
    _, points, _ = _drawn((0, 0, 0), (9, 9, 9))
    turn = np.deg2rad(20.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    frame = face_frame((points - 256) @ rotation.T + 256)
    assert np.allclose(frame.right, [np.cos(turn), np.sin(turn)], atol=1e-3)
    assert frame.height == pytest.approx(216, rel=0.02)


def test_astronaut() -> None:
    from engine.face.landmarks import FaceTracker

    rgb = np.asarray(cv2.cvtColor(np.asarray(cv2.imread(str(ASTRONAUT))), cv2.COLOR_BGR2RGB), np.uint8)
    found = FaceTracker().track(rgb)
    assert found is not None
    matte = person_matte(rgb, found.points)
    assert matte[100, 225] > 0.95  # face
    assert matte[20, 215] > 0.8  # hair
    assert matte[400, 200] > 0.9  # suit
    assert matte[60, 340] < 0.2  # wall between head and shuttle
