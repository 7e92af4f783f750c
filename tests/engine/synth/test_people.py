"""Synthetic people: equal seeds give equal people, and every kind of truth agrees with the others."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from engine.errors import BackendError
from engine.face.basis import load_basis
from engine.face.crop import face_width
from engine.face.fitter import fit_face, fit_frame
from engine.synth.people.figure import make_figure, pose_figure
from engine.synth.people.look import BEARDS, HAIR_STYLES, draw_look
from engine.synth.people.model import LABELS, hair_mask, head_model, label
from engine.synth.people.motions import first_motion, lively_motion, tracked_motions
from engine.synth.people.skin import paint_relief, paint_skin
from engine.synth.people.wear import draw_clothes
from engine.types import MOTION

S = 128
PEOPLE, FRAMES = 4, 4


@lru_cache(maxsize=1)
def _studio():  # type: ignore[no-untyped-def]
    pytest.importorskip("moderngl")
    from engine.synth.people.person import Studio

    try:
        return Studio(S)
    except BackendError as error:
        pytest.skip(str(error))


@lru_cache(maxsize=1)
def _people():  # type: ignore[no-untyped-def]
    return [_studio().person(3, k, FRAMES) for k in range(PEOPLE)]


# -- looks and motions, no renderer ----------------------------------------------------------------


def test_looks_are_deterministic_and_varied() -> None:
    looks = [draw_look(np.random.default_rng([0, k])) for k in range(150)]
    again = draw_look(np.random.default_rng([0, 7]))
    assert again.seed == looks[7].seed
    assert np.array_equal(again.identity, looks[7].identity)
    assert {look.hair for look in looks} >= set(HAIR_STYLES) - {"afro"}
    assert {look.beard for look in looks} == set(BEARDS)
    assert any(look.glasses for look in looks)
    assert not all(look.glasses for look in looks)
    tones = np.array([look.skin.mean() for look in looks])
    assert tones.min() < 0.35
    assert tones.max() > 0.7


def test_skin_has_darker_brows_redder_lips_and_the_regions_labels_need() -> None:
    look = draw_look(np.random.default_rng(5))
    skin, relief = paint_skin(look).astype(float), paint_relief(look)
    from engine.synth.people.skin import regions

    r = regions()
    cheek = skin[r.cheeks > 0.8, :3].mean(0)
    lips = skin[r.lips > 0.95, :3].mean(0)
    assert lips[0] / lips[1] > cheek[0] / cheek[1]
    assert skin[r.brow_zone > 0.9, 3].mean() > 3 * skin[r.cheeks > 0.8, 3].mean() + 5
    assert (relief[r.lips > 0.95, 3] > 200).all()


def test_hair_grows_on_the_crown_and_not_on_the_face() -> None:
    marks = head_model().marks
    assert hair_mask(np.array([[0.0, 14.0, 0.0]], np.float32))[0] > 0.99
    assert hair_mask(marks[[1, 152, 50, 280, 168]]).max() < 0.01
    assert hair_mask(np.array([[0.0, 9.9, 9.5]], np.float32), recede=3.0)[0] < 0.5


def test_motions_keep_their_ranges_and_first_ones_are_calm() -> None:
    rng = np.random.default_rng(0)
    first = first_motion(rng)
    assert first[MOTION.columns("eye")].max() == 0.0
    assert first[MOTION.index("jawOpen")] <= 0.12
    rows = np.stack([lively_motion(rng, first) for _ in range(300)])
    assert rows[:, MOTION.expression].min() >= 0.0
    assert rows[:, MOTION.expression].max() <= 1.0
    assert not rows[:, MOTION.columns("eyeLook")].any()
    degrees = np.degrees(np.abs(rows[:, MOTION.rotation]).max(0))
    assert (degrees > [8, 15, 8]).all()
    assert (degrees < [26, 37, 20]).all()
    moved = rows.max(0)
    seen = (
        "jawOpen",
        "lipsSealed",
        "lowerLipIn",
        "mouthPucker",
        "eyeBlinkLeft",
        "mouthSmileRight",
        "browInnerUp",
    )
    assert all(moved[MOTION.index(name)] > 0.6 for name in seen)


def test_tracked_motions_come_from_one_clip() -> None:
    clips = [np.full((20, 72), v, np.float32) for v in (0.1, 0.6)]
    first = np.zeros(72, np.float32)
    rows = tracked_motions(clips, np.random.default_rng(1), first, 6)
    assert rows.shape == (6, 72)
    assert np.ptp(rows[:, 17]) == 0.0
    assert rows[0, 17] in (np.float32(0.1), np.float32(0.6))


def test_lids_stay_outside_the_eyeball_and_meet_in_a_blink() -> None:
    rng = np.random.default_rng(2)
    figure = make_figure(draw_look(rng), draw_clothes(rng, 0.0))
    motion = np.zeros(72, np.float32)
    motion[MOTION.columns("eyeBlink")] = 1.0
    basis = load_basis()
    for shut in (motion, motion * 0):
        posed = pose_figure(figure, shut)
        for eye, rows in enumerate((basis.lid_left, basis.lid_right)):
            away = np.linalg.norm(posed.vertices[np.concatenate(rows)] - figure.centres[eye], axis=1)
            assert away.min() > basis.eye_radius[eye]
    posed = pose_figure(figure, motion)
    marks = basis.at_landmarks(posed.vertices)
    open_marks = basis.at_landmarks(figure.neutral)
    gap, before = marks[159, 1] - marks[145, 1], open_marks[159, 1] - open_marks[145, 1]
    assert gap < 0.35 * before


# -- people -------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_people() -> None:
    person, again = _people()[1], _studio().person(3, 1, FRAMES)
    for name in ("frames", "motion", "landmarks", "labels", "flow", "flow_valid"):
        assert np.array_equal(getattr(person, name), getattr(again, name)), name
    assert not np.array_equal(person.frames, _people()[2].frames)


def test_shapes_and_first_frames() -> None:
    for person in _people():
        assert person.frames.shape == (FRAMES, S, S, 3)
        assert person.frames.dtype == np.uint8
        assert person.flow.shape == (FRAMES, S // 4, S // 4, 2)
        assert person.flow.dtype == np.float16
        assert not person.motion[0, MOTION.pose].any()
        assert not person.motion[0, MOTION.gaze].any()
        assert np.abs(person.flow[0]).max() < 0.3  # the first frame is where it is
        assert person.frames[0].std() > 10
        assert person.labels.max() < len(LABELS)
        assert 0.25 * S < face_width(person.landmarks[0]) < 0.62 * S


def test_labels_lie_where_the_landmarks_are() -> None:
    hits, total = 0, 0
    pairs = (
        (4, "skin"),
        (0, "lip_upper"),
        (17, "lip_lower"),
        (468, "irises"),
        (473, "irises"),
        (151, "skin"),
    )
    for person in _people():
        for mark, name in pairs:
            x, y = np.round(person.landmarks[0, mark]).astype(int)
            around = person.labels[0, y - 2 : y + 3, x - 2 : x + 3]
            hits += int((around == label(name)).any())
            total += 1
    assert hits >= total - 2  # hair or glasses may hide some


def test_flow_carries_the_landmarks_to_the_first_frame() -> None:
    for person in _people():
        for k in range(1, FRAMES):
            for mark in (4, 6, 199):  # nose and chin
                x, y = person.landmarks[k, mark]
                r, c = int((y + 0.5) // 4), int((x + 0.5) // 4)
                if person.labels[k, int(y + 0.5), int(x + 0.5)] != label("skin"):
                    continue
                moved = person.landmarks[0, mark] - person.landmarks[k, mark]
                box = person.flow[k, r - 1 : r + 2, c - 1 : c + 2].astype(float)
                assert np.abs(box - moved).sum(2).min() < 2.0


def test_the_fitter_reads_the_same_motion_from_the_landmarks() -> None:
    for person in _people():
        fit = fit_face(person.landmarks[0], S)
        for k in range(1, FRAMES):
            found = fit_frame(person.landmarks[k], fit)
            turn = np.degrees(found[MOTION.rotation] - person.motion[k, MOTION.rotation])
            assert np.abs(turn).max() < 6.0
            assert np.abs(found[MOTION.gaze] - person.motion[k, MOTION.gaze]).max() < 0.12
            assert abs(found[MOTION.index("jawOpen")] - person.motion[k, MOTION.index("jawOpen")]) < 0.2


def test_a_wide_mouth_shows_teeth_or_mouth_and_a_closed_one_hardly_any() -> None:
    inside = (label("teeth"), label("mouth"))
    for person in _people():
        share = np.isin(person.labels, inside).mean((1, 2))
        jaw = person.motion[:, MOTION.index("jawOpen")]
        if jaw.max() > 0.5:
            assert share[jaw.argmax()] > 0.001
        assert share[0] < 0.01


def test_odd_sizes_are_refused() -> None:
    pytest.importorskip("moderngl")
    from engine.synth.people.person import Studio

    with pytest.raises(ValueError, match="multiple of 8"):
        Studio(100)
