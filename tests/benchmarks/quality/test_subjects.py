"""Tracked people: the offset of their sound, their rest, what counts as free talk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.subjects import read_subjects, rest_of, tracked_motion
from engine.errors import InputError
from engine.samplers.factors import LIPS
from engine.types import MOTION

JAW, SEAL, BROW = (MOTION.index(n) for n in ("jawOpen", "lipsSealed", "browInnerUp"))


def test_pose_is_relative_to_its_median_and_expression_absolute() -> None:
    motion = np.full((40, 72), 0.2)
    found = tracked_motion(motion, np.ones(40, bool), 0.0)
    assert np.allclose(found[:, MOTION.pose], 0.0)
    assert np.allclose(found[:, JAW], 0.2)


def test_a_mouth_that_is_late_is_moved_to_its_sound() -> None:
    motion = np.zeros((60, 72))
    motion[30, JAW] = 1.0
    found = tracked_motion(motion, np.ones(60, bool), 80.0)
    assert int(np.nanargmax(found[:, JAW])) == 28
    assert np.isnan(found[58:]).all(), "what lies beyond the clip's end is not known"


def test_frames_beside_an_unseen_one_are_unknown() -> None:
    valid = np.ones(60, bool)
    valid[20] = False
    found = tracked_motion(np.zeros((60, 72)), valid, 20.0)
    assert np.isnan(found[[19, 20]]).all()
    assert np.isfinite(found[22:50]).all()
    assert np.isnan(tracked_motion(np.zeros((60, 72)), np.zeros(60, bool), 0.0)).all()


def test_rest_is_the_closed_mouth_and_the_quiet_face_without_the_seal() -> None:
    motion = np.zeros((100, 72))
    motion[:, JAW] = np.linspace(0.05, 0.6, 100)
    motion[:, BROW] = np.linspace(0.1, 0.9, 100)
    motion[:, SEAL] = 0.8
    motion[:, MOTION.pose] = 0.3
    rest = rest_of(motion, motion[:, JAW])
    assert rest[JAW] == pytest.approx(0.09, abs=0.02)
    assert rest[BROW] == pytest.approx(0.18, abs=0.02)
    assert rest[SEAL] == 0.0
    assert not rest[MOTION.pose].any()
    assert not rest_of(np.full((100, 72), np.nan), np.full(100, np.nan))[LIPS].any()


def test_tracks_without_motion_are_refused(tmp_path: Path, data: Path) -> None:
    points = np.random.default_rng(0).uniform(50, 200, (75, 478, 2)).astype(np.float32)
    np.savez(
        tmp_path / "grid__s2_bbaf2s.mp4.npz",
        points=points,
        valid=np.ones(75, bool),
        audio=np.zeros(75 * 640, np.int16),
    )
    with pytest.raises(InputError, match="visavis track"):
        read_subjects(data, tmp_path, ("test",))


def test_people_of_the_split_and_people_to_learn_from(tmp_path: Path, data: Path) -> None:
    noise = np.random.default_rng(0)
    for name in ("grid__s2_bbaf2s.mp4", "syncnet_example.avi", "styletalk_Obama_clip3.mov"):
        np.savez(
            tmp_path / f"{name}.npz",
            points=noise.uniform(50, 200, (75, 478, 2)).astype(np.float32),
            valid=np.ones(75, bool),
            audio=np.zeros(75 * 640, np.int16),
            motion=noise.uniform(0, 0.5, (75, 72)).astype(np.float32),
        )
    measured, training = read_subjects(data, tmp_path, ("test",))
    assert {s.name: s.free_talk for s in measured} == {
        "grid/s2_bbaf2s.mp4": False,
        "syncnet_example.avi": True,
    }
    assert [s.name for s in training] == ["styletalk_Obama_clip3.mov"]
    assert not read_subjects(data, tmp_path, ("test",), training=False)[1]
