"""Landmark metrics: known landmarks give known distances."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.quality import faces
from benchmarks.quality.faces import Looks
from benchmarks.quality.mouth import LIP_LANDMARKS
from engine.config import asset_path
from engine.face.image import load_image
from engine.face.landmarks import LandmarkModel
from engine.face.portrait import Portrait, analyse_portrait
from engine.face.residual import LEFT_LIDS, RIGHT_LIDS
from engine.types import MOTION

Floats = NDArray[np.float32]
FRAMES, UNIT = 24, 100.0


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return analyse_portrait(load_image(asset_path("demo/astronaut.png")))


def looks(portrait: Portrait, points: Floats | None = None, motion: Floats | None = None) -> Looks:
    """The portrait's landmarks in every frame, unless other ones are given."""
    points = np.repeat(portrait.landmarks.points[None], FRAMES, 0) if points is None else points
    motion = np.zeros((len(points), MOTION.size), np.float32) if motion is None else motion
    turn = Rotation.from_rotvec(motion[:, MOTION.rotation]).as_matrix() @ portrait.fit.rotation
    return Looks(points, np.ones(len(points), np.float32), motion, turn)


def test_a_shift_counts_for_lmd_and_not_for_the_mouth(portrait: Portrait) -> None:
    real = looks(portrait)
    made = looks(portrait, real.points + np.array([3.0, 4.0], np.float32))
    assert faces.lmd(made, real, UNIT) == pytest.approx(5.0, abs=1e-3)
    assert faces.lmd_mouth(made, real, UNIT) == pytest.approx(0.0, abs=1e-3)


def test_a_wider_mouth_counts_for_the_mouth(portrait: Portrait) -> None:
    real = looks(portrait)
    points = real.points.copy()
    lips = list(LIP_LANDMARKS)
    middle = points[:, lips].mean(axis=1, keepdims=True)
    points[:, lips] = middle + 1.1 * (points[:, lips] - middle)
    away = np.linalg.norm(0.1 * (real.points[0, lips] - middle[0]), axis=-1).mean()
    assert faces.lmd_mouth(looks(portrait, points), real, UNIT) == pytest.approx(away, rel=1e-3)


def test_gaze_and_pose_errors_are_angles(portrait: Portrait) -> None:
    real = looks(portrait)
    motion = np.zeros((FRAMES, MOTION.size), np.float32)
    motion[:, MOTION.index("gazeYaw")] = np.radians(8.0)
    motion[:, MOTION.rotation] = np.radians([0.0, 3.0, 4.0])
    made = looks(portrait, motion=motion)
    assert faces.gaze_error(made, real) == pytest.approx(8.0, abs=0.01)
    assert faces.pose_error(made, real) == pytest.approx(5.0, abs=0.01)


def test_shut_lids_are_a_blink_and_hide_the_gaze(portrait: Portrait) -> None:
    points = np.repeat(portrait.landmarks.points[None], FRAMES, 0)
    for lids in (LEFT_LIDS, RIGHT_LIDS):
        middle = 0.5 * (points[:6, lids[0]] + points[:6, lids[1]])
        points[:6, lids[0]], points[:6, lids[1]] = middle, middle
    gaze = np.zeros((FRAMES, MOTION.size), np.float32)
    gaze[:6, MOTION.index("gazePitch")] = 0.5
    real, made = looks(portrait, points, gaze), looks(portrait)
    shut = faces.lids_shut(real, faces.usual_openings(real))
    assert shut[:6].min() == pytest.approx(1.0)
    assert shut[6:].max() == pytest.approx(0.0, abs=1e-6)
    assert faces.blink_error(made, real) == pytest.approx(6 / FRAMES, abs=1e-6)
    assert faces.gaze_error(made, real) == pytest.approx(0.0, abs=1e-3)


def test_jitter_is_the_second_difference_within_runs(portrait: Portrait) -> None:
    real = looks(portrait)
    points = real.points.copy()
    points[1::2, :, 0] += 2.0
    runs = [slice(0, 12), slice(12, FRAMES)]
    assert faces.jitter(looks(portrait, points), runs, UNIT) == pytest.approx(4.0, abs=1e-3)
    assert faces.jitter(real, runs, UNIT) == 0.0
    steady = real.points + np.arange(FRAMES, dtype=np.float32)[:, None, None]
    assert faces.jitter(looks(portrait, steady), runs, UNIT) == pytest.approx(0.0, abs=1e-3)
    jump = real.points.copy()
    jump[12:] += 50.0
    assert faces.jitter(looks(portrait, jump), runs, UNIT) == 0.0


def test_jitter_error_punishes_tremble_and_missing_motion_alike(portrait: Portrait) -> None:
    still = looks(portrait)
    points = still.points.copy()
    points[1::2, :, 0] += 2.0
    moving, runs = looks(portrait, points), [slice(0, FRAMES)]
    assert faces.jitter_error(moving, moving, runs, UNIT) == 0.0
    for made, real in ((still, moving), (moving, still)):
        assert faces.jitter_error(made, real, runs, UNIT) == pytest.approx(4.0, abs=1e-3)


def test_runs_are_consecutive() -> None:
    assert faces.consecutive([3, 4, 5, 9, 10, 20]) == [slice(0, 3), slice(3, 5), slice(5, 6)]


def test_another_head_has_another_shape(portrait: Portrait) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 0.3, (FRAMES, 478, 2)).astype(np.float32)
    real = looks(portrait, np.repeat(portrait.landmarks.points[None], FRAMES, 0) + noise)
    same = looks(portrait, real.points[::-1].copy())
    points = real.points.copy()
    points[..., 0] = 256.0 + 0.9 * (points[..., 0] - 256.0)
    narrow = faces.shape_distance(looks(portrait, points), real, 512)
    assert faces.shape_distance(real, real, 512) == pytest.approx(0.0, abs=1e-6)
    assert faces.shape_distance(same, real, 512) < 0.7
    assert narrow > 2.0


def test_masks_hold_what_they_name(portrait: Portrait) -> None:
    points = portrait.landmarks.points
    face, mouth = faces.face_mask(points, 512), faces.mouth_mask(points, 512)
    at = np.round(points[:468]).astype(int)
    assert face[at[:, 1], at[:, 0]].all()
    lips = at[list(LIP_LANDMARKS)]
    assert mouth[lips[:, 1], lips[:, 0]].all()
    assert not mouth[at[[33, 263, 10], 1], at[[33, 263, 10], 0]].any()
    assert mouth.sum() < 0.35 * face.sum()


def test_the_detector_sees_the_portrait_itself(portrait: Portrait) -> None:
    model, near = LandmarkModel(), portrait.landmarks.points[None]
    seen = faces.look([portrait.crop], near, portrait.fit, model)
    assert seen.found.all()
    assert np.linalg.norm(seen.points[0, :468] - near[0, :468], axis=-1).mean() < 2.0
    assert np.degrees(np.abs(seen.motion[0, MOTION.rotation]).max()) < 2.0
    moved = faces.look([portrait.crop], near + 60.0, portrait.fit, model)
    assert np.linalg.norm(moved.points[0, :468] - near[0, :468], axis=-1).mean() < 3.0
