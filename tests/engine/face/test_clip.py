"""One clip, one person: known motion comes back, closures and blinks whole, nothing lags."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.clip import ClipFit, choose_frames, fit_clip
from engine.face.fitter import IRIS_DEPTH, NECK_PIVOT, FaceFit, eye_centres, fit_face
from engine.face.person import fit_person
from engine.face.smooth import bridge, fit_curve, gentle, lively, runs
from engine.types import MOTION

Float = NDArray[np.float32]
FRAMES, SCATTER = 60, 0.003
NOBODY = slice(36, 39)


def person(seed: int = 1) -> FaceFit:
    basis = load_basis()
    return FaceFit(
        identity=(0.7 * np.random.default_rng(seed).normal(size=80)).astype(np.float32),
        expression=np.zeros(64, np.float32),
        rotation=Rotation.from_rotvec([0.05, -0.1, 0.03]).as_matrix().astype(np.float32),
        translation=np.array([1.0, -2.0, -100.0], np.float32),
        focal=1450.0,
        centre=np.array([256, 256], np.float32),
        gaze=np.zeros(2, np.float32),
        correction=np.zeros_like(basis.mean),
        error_percent=0.0,
        spread_error_percent=0.0,
    )


@lru_cache(maxsize=1)
def known() -> Float:
    """[T, 72]: talking with three closures of two frames, two blinks, a jerk of the head at frame 30."""
    t = np.arange(FRAMES)
    motion = np.zeros((FRAMES, MOTION.size), np.float32)
    motion[:, MOTION.index("jawOpen")] = 0.35 + 0.1 * np.sin(t / 3.0)
    for start in (12, 25, 50):
        motion[start : start + 2, MOTION.index("jawOpen")] = 0.0
    for side in ("Left", "Right"):
        for peak in (8, 45):
            motion[:, MOTION.index("eyeBlink" + side)] += np.clip(1.0 - np.abs(t - peak) / 3.0, 0.0, 1.0)
        motion[:, MOTION.index("browOuterUp" + side)] = 0.5 * np.clip(np.sin(t / 9.0), 0.0, 1.0)
    motion[:, MOTION.index("ry")] = 0.15 * np.sin(t / 8.0) + 0.12 * (t >= 30)
    motion[:, MOTION.index("rx")] = 0.06 * np.sin(t / 5.0)
    motion[:, MOTION.index("gazeYaw")] = 0.1 * np.sign(np.sin(t / 7.0))
    return motion


def seen(who: FaceFit, motion: Float, scatter: float = SCATTER) -> Float:
    """Landmarks [T, 478, 2] with noise."""
    basis, centres = load_basis(), eye_centres(who.identity, who.correction)
    points = np.zeros((len(motion), 478, 2), np.float32)
    for t, row in enumerate(motion):
        turn = Rotation.from_rotvec(row[MOTION.rotation]).as_matrix() @ who.rotation
        pivot = who.to_camera(NECK_PIVOT) + row[MOTION.translation] * who.interocular_cm
        posed = replace(who, rotation=turn, translation=pivot - turn @ NECK_PIVOT)
        points[t, :468] = posed.project(basis.at_landmarks(who.vertices(row[MOTION.expression])))[:, :2]
        pitch, yaw = row[MOTION.gaze]
        way = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        irises = posed.project((centres + IRIS_DEPTH * way).astype(np.float32))[:, :2]
        points[t, 473:], points[t, 468:473] = irises[0], irises[1]
    noise = np.random.default_rng(0).normal(0.0, scatter * who.interocular_px, points.shape)
    return (points + noise).astype(np.float32)


@lru_cache(maxsize=1)
def fitted() -> ClipFit:
    points = seen(person(), known())
    valid = np.ones(FRAMES, np.bool_)
    valid[NOBODY] = False
    points[NOBODY] = np.nan
    return fit_clip(points, valid, (512, 512))


def column(name: str) -> Float:
    return fitted().motion[:, MOTION.index(name)]


def test_unseen_frames_are_unknown() -> None:
    fit = fitted()
    unseen = ~np.isfinite(fit.motion).all(axis=1)
    assert np.flatnonzero(unseen).tolist() == list(range(NOBODY.start, NOBODY.stop))
    for curve in (fit.blink, fit.residual, fit.yaw):
        assert np.array_equal(np.isnan(curve), unseen)


def test_rest_is_the_clips_own() -> None:
    motion = fitted().motion[np.isfinite(fitted().motion).all(axis=1)]
    for columns in (MOTION.pose, MOTION.gaze):
        assert np.abs(np.median(motion[:, columns], axis=0)).max() < 5e-3
    assert np.quantile(motion[:, MOTION.index("browOuterUpLeft")], 0.19) == 0.0


@pytest.mark.parametrize(("name", "bound_deg"), [("rx", 0.3), ("ry", 0.4), ("rz", 0.2), ("gazeYaw", 2.0)])
def test_pose_and_gaze_come_back(name: str, bound_deg: float) -> None:
    found, real = column(name), known()[:, MOTION.index(name)]
    here = np.isfinite(found)
    off = (found - np.median(found[here])) - (real - np.median(real[here]))
    assert np.degrees(np.abs(off[here]).mean()) < bound_deg


def test_a_jerk_of_the_head_is_not_rounded() -> None:
    step = column("ry")[30] - column("ry")[29]
    real = known()[30, MOTION.index("ry")] - known()[29, MOTION.index("ry")]
    assert step == pytest.approx(real, rel=0.15)


def test_closures_stay_closed() -> None:
    jaw = column("jawOpen")
    for start in (12, 25, 50):
        assert jaw[start : start + 2].max() < 0.06
        assert min(jaw[start - 1], jaw[start + 2]) > 0.2


def test_blinks_are_full_and_in_place() -> None:
    for peak in (8, 45):
        assert column("eyeBlinkLeft")[peak] > 0.9
        assert fitted().blink[peak] > 0.9
        assert column("eyeBlinkRight")[peak - 4] < 0.15
        assert fitted().blink[peak + 4] < 0.15


def test_brows_follow_without_trembling() -> None:
    found, real = column("browOuterUpLeft"), known()[:, MOTION.index("browOuterUpLeft")]
    here = np.isfinite(found)
    assert np.corrcoef(found[here], real[here])[0, 1] > 0.97
    assert np.diff(found[: NOBODY.start], 2).std() < 0.03


def test_nobody_is_refused() -> None:
    with pytest.raises(FaceError, match="no frame"):
        fit_clip(np.full((5, 478, 2), np.nan, np.float32), np.zeros(5, np.bool_), (512, 512))
    with pytest.raises(FaceError, match="478"):
        fit_person(np.zeros((2, 468, 2), np.float32), (512, 512))


def test_one_frame_gives_what_a_photo_gives() -> None:
    points = seen(person(2), known()[20:21])
    alone, photo = fit_person(points, (512, 512)), fit_face(points[0], 512)
    assert np.abs(alone.identity - photo.identity).max() < 0.02
    assert alone.focal == pytest.approx(photo.focal)


def test_several_frames_know_the_person_better_than_one() -> None:
    who = person(3)
    points = seen(who, known(), 0.006)
    several = fit_person(points[choose_frames(points, np.ones(FRAMES, np.bool_))], (512, 512))
    single = fit_face(points[int(choose_frames(points, np.ones(FRAMES, np.bool_))[0])], 512)
    basis = load_basis()

    def wrong(fit: FaceFit) -> float:
        """Mean distance of resting landmarks, size and place aside, cm."""
        a, b = (basis.at_landmarks(f.neutral()).astype(float) for f in (fit, who))
        a, b = a - a.mean(0), b - b.mean(0)
        return float(np.linalg.norm(a * ((a * b).sum() / (a * a).sum()) - b, axis=1).mean())

    assert wrong(several) < 0.85 * wrong(single)


def test_chosen_frames_look_ahead_and_have_open_eyes() -> None:
    motion = known().copy()
    motion[:20, MOTION.index("ry")] = 0.9
    chosen = choose_frames(seen(person(), motion), np.ones(FRAMES, np.bool_))
    assert len(set(chosen.tolist())) == 6
    assert chosen.min() >= 20
    assert not set(chosen.tolist()) & {44, 45, 46}


def test_smoothing_keeps_what_it_should() -> None:
    there = np.array([True] * 12 + [False] * 2 + [True] * 10)
    assert runs(there) == [slice(0, 12), slice(14, 24)]
    t = np.arange(24.0)[:, None]
    assert np.allclose(fit_curve(t**2, there, 7)[there], (t**2)[there])
    step = (t >= 6).astype(float)
    assert np.allclose(gentle(step, there, 1.0)[14:], 1.0)  # nothing leaks across the gap
    assert np.abs(lively(step, gentle(step, there, 1.0), 0.01) - step).max() < 0.01
    assert np.abs(lively(step * 1e-3, 0.0 * step, 1.0)).max() < 1e-6
    assert np.allclose(bridge(t, there), t)
