"""Self-reenactment pairs: known motion comes back for the portrait, and its own frame shows the portrait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engine.animators.mesh.semantics import ABSOLUTE, effective_expression, rest_motion
from engine.config import asset_path
from engine.errors import FaceError
from engine.face.clip import fit_clip
from engine.face.crop import CropBox
from engine.face.fitter import IS_RELATIVE, NECK_PIVOT, FaceFit
from engine.face.image import load_image
from engine.face.portrait import analyse_portrait
from engine.face.reenact import (
    box_of,
    fitted_motion,
    landmarks_shown,
    motion_for_portrait,
    open_reenactment,
    usable_frames,
    view_of_crop,
)
from engine.face.video import track_video
from engine.types import MOTION
from tests.engine.face.test_clip import FRAMES, known, person, seen
from tests.engine.face.test_video import write

OWN = 20
"""The synthetic portrait: this frame of :func:`known`, mouth open, head turned."""


def synthetic_portrait() -> FaceFit:
    who, row = person(), known()[OWN]
    turn = Rotation.from_rotvec(row[MOTION.rotation]).as_matrix() @ who.rotation
    pivot = who.to_camera(NECK_PIVOT) + row[MOTION.translation] * who.interocular_cm
    return replace(
        who,
        rotation=turn.astype(np.float32),
        translation=(pivot - turn @ NECK_PIVOT).astype(np.float32),
        expression=row[MOTION.expression].copy(),
        gaze=row[MOTION.gaze].copy(),
    )


def test_animators_and_tracks_agree_on_what_is_relative() -> None:
    assert np.array_equal(ABSOLUTE, ~IS_RELATIVE)


def test_the_portraits_row_becomes_its_rest() -> None:
    rest = rest_motion(synthetic_portrait().expression)
    found = motion_for_portrait(known(), known()[OWN], rest)
    assert np.abs(found[OWN] - rest).max() < 1e-6
    assert found.dtype == np.float32
    assert found.shape == (FRAMES, MOTION.size)


def test_rotations_compose_about_the_portraits() -> None:
    motion = np.zeros((2, MOTION.size), np.float32)
    motion[:, MOTION.rotation] = [[0.2, 0.3, -0.1], [0.1, -0.4, 0.2]]
    found = motion_for_portrait(motion, motion[1], np.zeros(MOTION.size, np.float32))
    first, own = (Rotation.from_rotvec(row[MOTION.rotation]) for row in motion)
    again = Rotation.from_rotvec(found[0, MOTION.rotation]) * own
    assert (again * first.inv()).magnitude() < 1e-6


def test_a_head_seen_from_the_side_turns_about_the_crops_axes() -> None:
    view = Rotation.from_rotvec([0.0, 0.4, 0.0])
    motion = np.zeros((1, MOTION.size), np.float32)
    motion[0, MOTION.rotation], motion[0, MOTION.translation] = [0.3, 0.0, 0.0], [0.0, 0.0, 0.5]
    zero = np.zeros(MOTION.size, np.float32)
    found = motion_for_portrait(motion, zero, zero, view=view)[0]
    assert found[MOTION.rotation] == pytest.approx(view.apply([0.3, 0.0, 0.0]), abs=1e-6)
    assert found[MOTION.translation] == pytest.approx(view.apply([0.0, 0.0, 0.5]), abs=1e-6)


def test_lids_are_counted_from_the_portraits_to_shut() -> None:
    motion = np.zeros((3, MOTION.size), np.float32)
    lid = MOTION.index("eyeBlinkLeft")
    motion[:, lid] = [0.2, 0.6, 1.0]
    rest = np.zeros(MOTION.size, np.float32)
    found = motion_for_portrait(motion, motion[0], rest)
    assert found[:, lid] == pytest.approx([0.0, 0.5, 1.0], abs=1e-6)
    portrait = np.zeros(64, np.float32)
    portrait[lid] = 0.2
    shown = [float(effective_expression(row, portrait)[lid]) for row in found]
    assert shown == pytest.approx([0.2, 0.6, 1.0], abs=1e-6)


def test_unseen_rows_stay_unknown_and_lips_stay_in_range() -> None:
    motion = known().copy()
    motion[5] = np.nan
    rest = np.zeros(MOTION.size, np.float32)
    found = motion_for_portrait(motion, motion[OWN], rest)
    assert np.isnan(found[5]).all()
    assert np.isfinite(np.delete(found, 5, axis=0)).all()
    lips = np.delete(found, 5, axis=0)[:, MOTION.expression][:, ABSOLUTE]
    assert lips.min() >= 0.0
    assert lips.max() <= 1.0


def test_landmarks_give_the_motion_for_the_portrait() -> None:
    fit = synthetic_portrait()
    valid = np.ones(FRAMES, np.bool_)
    valid[3] = False
    found = fitted_motion(seen(person(), known()), valid, fit)
    assert np.isnan(found[3]).all()
    here = np.flatnonzero(valid)
    wanted = motion_for_portrait(known(), known()[OWN], rest_motion(fit.expression))
    turn = Rotation.from_rotvec(found[here][:, MOTION.rotation])
    off = turn * Rotation.from_rotvec(wanted[here][:, MOTION.rotation]).inv()
    assert np.degrees(off.magnitude()).mean() < 0.5
    for name, bound in (("jawOpen", 0.03), ("eyeBlinkLeft", 0.15), ("browOuterUpLeft", 0.1)):
        k = MOTION.index(name)
        assert np.abs(found[here, k] - wanted[here, k]).mean() < bound, name
    assert np.abs(found[here][:, MOTION.translation] - wanted[here][:, MOTION.translation]).mean() < 0.02
    gaze = found[here][:, MOTION.gaze] - wanted[here][:, MOTION.gaze]
    assert np.degrees(np.abs(gaze).mean()) < 2.0


def test_the_motion_says_where_the_landmarks_are() -> None:
    fit, points = synthetic_portrait(), seen(person(), known(), scatter=0.0)
    shown = landmarks_shown(fitted_motion(points, np.ones(FRAMES, np.bool_), fit), fit)
    away = np.linalg.norm(shown - points[:, :468], axis=-1).mean(axis=1) / fit.interocular_px
    assert away.mean() < 0.01
    rest = np.zeros((1, MOTION.size), np.float32)
    rest[0] = rest_motion(fit.expression)
    own = landmarks_shown(rest, fit)[0]
    assert np.linalg.norm(own - points[OWN, :468], axis=-1).mean() < 0.2


def test_the_crops_camera_looks_at_its_middle() -> None:
    box, focal = CropBox(900.0, 100.0, 400.0), 1500.0
    turn = view_of_crop(box, focal, (1920, 1080))
    x, y = (1100.0 - 960.0) * box.scale, (300.0 - 540.0) * box.scale
    ray = turn.apply(np.array([x, -y, -focal]) / np.linalg.norm([x, y, focal]))
    assert np.abs(ray - [0.0, 0.0, -1.0]).max() < 1e-9
    assert view_of_crop(CropBox(760.0, 340.0, 400.0), focal, (1920, 1080)).magnitude() < 1e-9


def test_portraits_look_to_the_camera_with_open_eyes() -> None:
    motion = np.zeros((6, MOTION.size), np.float32)
    motion[:, MOTION.index("ry")] = np.radians([40, 5, 5, 10, 2, 0])
    motion[0] = np.where(np.arange(MOTION.size) == MOTION.index("ry"), np.radians(40), 0)
    motion[5] = np.nan
    blink = np.array([0.0, 0.9, 0.1, 0.0, 0.0, np.nan], np.float32)
    sure = np.array([1.0, 1.0, 0.2, 1.0, 1.0, 0.0], np.float32)
    order = usable_frames(motion, np.zeros(MOTION.size, np.float32), blink, sure)
    assert order.tolist() == [3, 4, 0, 2, 1]
    rest = np.zeros(MOTION.size, np.float32)
    rest[MOTION.index("ry")] = np.radians(-40)
    assert usable_frames(motion, rest, blink, np.ones(6, np.float32))[0] == 0


@pytest.fixture(scope="module")
def moved_photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip in which a photo shifts by 2 px a frame."""
    photo = load_image(asset_path("demo/astronaut.png")).rgb
    frames = [np.ascontiguousarray(np.roll(photo, 2 * n, axis=1)[:, 20:-20]) for n in range(10)]
    return write(tmp_path_factory.mktemp("clip") / "shift.mp4", frames, [24 * n for n in range(10)])


def test_a_clip_becomes_pairs(moved_photo: Path) -> None:
    track = track_video(moved_photo)
    fit = fit_clip(track.points, track.valid, (track.size[1], track.size[0]))
    arrays = {
        "points": track.points,
        "valid": track.valid,
        "motion": fit.motion,
        "rest": np.zeros(MOTION.size, np.float32),
        "blink": fit.blink,
        "confidence": np.ones(len(track), np.float32),
    }
    scene = open_reenactment(moved_photo, arrays, candidates=[2, 0])
    assert scene.frame == 2
    pairs = {n: (crop, motion) for n, crop, motion in scene.frames([2, 9])}
    assert sorted(pairs) == [2, 9]
    crop, motion = pairs[2]
    assert np.array_equal(crop, scene.portrait.crop)
    assert np.abs(motion[MOTION.pose]).max() < 0.02
    assert np.degrees(np.abs(motion[MOTION.gaze])).max() < 3.0
    # Seven frames of 2 px, in units of the eyes' distance.
    shift = 14.0 * scene.box.scale / scene.portrait.fit.interocular_px
    assert pairs[9][1][MOTION.index("tx")] - motion[MOTION.index("tx")] == pytest.approx(shift, rel=0.15)
    with pytest.raises(FaceError, match="no frame"):
        open_reenactment(moved_photo, arrays, candidates=[])


def test_the_box_is_the_portraits() -> None:
    portrait = analyse_portrait(load_image(asset_path("demo/astronaut.png")))
    assert np.abs(box_of(portrait).crop_from_image - portrait.crop_from_image).max() < 1e-9
