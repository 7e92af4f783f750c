"""Detector, landmarks and tracker on real pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config import asset_path
from engine.face.detector import FaceDetector
from engine.face.landmarks import (
    PRESENT,
    FaceTracker,
    LandmarkModel,
    Landmarks,
    find_faces,
    mouth_opening,
    roi_from_detection,
    roi_from_points,
    steady_landmarks,
)
from engine.face.roi import Roi, sample_roi

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def picture(name: str) -> Bytes:
    loaded = cv2.imread(str(asset_path(f"demo/{name}.png")), cv2.IMREAD_COLOR)
    assert loaded is not None
    return np.ascontiguousarray(loaded[..., ::-1], np.uint8)


def placed(rgb: Bytes, scale: float, degrees: float, size: tuple[int, int]) -> tuple[Bytes, Floats]:
    """``rgb`` scaled and turned in the middle of a grey frame (height, width), and the matrix used."""
    matrix = cv2.getRotationMatrix2D((rgb.shape[1] / 2, rgb.shape[0] / 2), degrees, scale)
    matrix[:, 2] += [size[1] / 2 - rgb.shape[1] / 2, size[0] / 2 - rgb.shape[0] / 2]
    grey = (128, 128, 128)
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    frame = cv2.warpAffine(rgb, matrix, size[::-1], flags=flags, borderValue=grey)
    return np.asarray(frame, np.uint8), np.asarray(matrix, np.float32)


def eye_distance(points: Floats) -> float:
    return float(np.linalg.norm(points[33] - points[263]))


@pytest.fixture(scope="module")
def astronaut() -> Bytes:
    return picture("astronaut")


@pytest.fixture(scope="module")
def face(astronaut: Bytes) -> Landmarks:
    faces = find_faces(astronaut)
    assert len(faces) == 1
    return faces[0]


def test_detector_finds_the_face_and_its_parts(astronaut: Bytes) -> None:
    found = FaceDetector().detect(astronaut)
    assert len(found) == 1
    assert found[0].score > 0.8
    x0, y0, x1, y1 = found[0].box
    right_eye, left_eye, nose, mouth = found[0].keypoints[:4]
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_eye[1] < nose[1] < mouth[1]
    assert x0 < right_eye[0] < left_eye[0] < x1
    assert y0 < right_eye[1] < mouth[1] < y1


def test_two_faces_come_largest_first(astronaut: Bytes) -> None:
    frame = np.full((600, 1200, 3), 128, np.uint8)
    frame[50:562, :512] = astronaut
    small = cv2.resize(astronaut, (307, 307), interpolation=cv2.INTER_AREA)
    frame[150:457, 800:1107] = small
    faces = find_faces(frame)
    assert len(faces) == 2
    assert faces[0].points[:, 0].mean() < 512 < faces[1].points[:, 0].mean()
    assert eye_distance(faces[0].points) > eye_distance(faces[1].points)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_no_face_in_a_flat_picture(value: int) -> None:
    rgb = np.full((300, 400, 3), value, np.uint8)
    assert find_faces(rgb) == []
    assert FaceTracker().track(rgb) is None


def test_no_face_in_noise() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert find_faces(rgb) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (33, 47)])
def test_tiny_and_narrow_pictures_are_no_trouble(shape: tuple[int, int]) -> None:
    assert find_faces(np.zeros((*shape, 3), np.uint8)) == []


def test_order_of_the_points(face: Landmarks) -> None:
    p = face.points
    assert p.shape == (478, 2)
    assert p.dtype == np.float32
    assert face.depth.shape == (478,)
    assert face.score > 0.99
    # The subject's right is the picture's left; y points down.
    assert p[33, 0] < p[133, 0] < p[362, 0] < p[263, 0]
    assert p[10, 1] < p[168, 1] < p[4, 1] < p[13, 1] < p[14, 1] < p[152, 1]
    assert face.depth[4] < face.depth[33] < face.depth[234]
    for corners, iris in (((33, 133), 468), ((362, 263), 473)):
        right, top, left, bottom = p[iris + 1 : iris + 5]
        assert p[corners[0], 0] < left[0] < p[iris, 0] < right[0] < p[corners[1], 0]
        assert top[1] < p[iris, 1] < bottom[1]


def test_irises_are_the_darkest_part_of_the_eyes(astronaut: Bytes, face: Landmarks) -> None:
    grey = cv2.GaussianBlur(cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY), (0, 0), 1).astype(float)
    for corners, iris in (((33, 133), 468), ((362, 263), 473)):
        x, y = face.points[iris].round().astype(int)
        row = grey[y, int(face.points[corners[0], 0]) + 2 : int(face.points[corners[1], 0]) - 1]
        assert grey[y, x] < np.percentile(row, 40)


@pytest.mark.parametrize(
    ("scale", "degrees", "size"),
    [(1.0, 0, (512, 512)), (0.5, 20, (480, 640)), (2.5, -25, (1280, 1280)), (1.4, 40, (720, 720))],
)
def test_landmarks_follow_scale_and_turn(
    astronaut: Bytes, face: Landmarks, scale: float, degrees: float, size: tuple[int, int]
) -> None:
    frame, matrix = placed(astronaut, scale, degrees, size)
    faces = find_faces(frame)
    assert len(faces) == 1
    expected = np.asarray(face.points @ matrix[:, :2].T + matrix[:, 2], np.float32)
    error = np.linalg.norm(faces[0].points - expected, axis=1) / eye_distance(expected)
    assert error.mean() < 0.03
    # What counts as pixel centre must not depend on the scale.
    drift = (faces[0].points - expected).mean(axis=0) / eye_distance(expected)
    assert np.abs(drift).max() < 0.015


def test_a_face_that_fills_the_frame_is_found(astronaut: Bytes, face: Landmarks) -> None:
    low = np.maximum(face.points.min(axis=0).astype(int), 0)
    high = face.points.max(axis=0).astype(int)
    tight = np.ascontiguousarray(astronaut[low[1] : high[1], low[0] : high[0]])
    faces = find_faces(tight)
    assert len(faces) == 1
    assert np.abs(faces[0].points + low - face.points).mean() / eye_distance(face.points) < 0.04


def test_a_small_face_in_a_large_photo_is_found(astronaut: Bytes) -> None:
    frame = np.full((1000, 1600, 3), 90, np.uint8)
    frame[500:660, 1300:1460] = cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA)
    faces = find_faces(frame)
    assert len(faces) == 1
    x, y = faces[0].points.mean(axis=0)
    assert 1300 < x < 1460
    assert 500 < y < 660


def test_the_drawn_character_has_a_face() -> None:
    faces = find_faces(picture("character"))
    assert len(faces) == 1
    assert faces[0].score > 0.9


def test_averaged_looks_scatter_less(astronaut: Bytes, face: Landmarks) -> None:
    model, random = LandmarkModel(), np.random.default_rng(1)
    roi = roi_from_points(face.points)
    single, averaged = [], []
    for dx, dy, grow in random.normal(0, 0.015, (8, 3)):
        near = Roi(roi.x + dx * roi.size, roi.y + dy * roi.size, roi.size * (1 + 2 * grow), roi.angle)
        single.append(model(astronaut, near).points)
        averaged.append(steady_landmarks(astronaut, near, model).points)
    assert np.std(averaged, axis=0).mean() < 0.85 * np.std(single, axis=0).mean()


def test_tracker_follows_and_finds_again(astronaut: Bytes) -> None:
    tracker = FaceTracker()
    empty = np.full((480, 640, 3), 60, np.uint8)
    for step, degrees in enumerate([0, 3, 6, None, None, -4, -8, -12]):
        frame = empty if degrees is None else placed(astronaut, 0.9, degrees, (480, 640))[0]
        face = tracker.track(frame)
        assert (face is None) == (degrees is None), step
        if face is not None and degrees is not None:
            dx, dy = face.points[263] - face.points[33]
            assert face.score >= PRESENT
            # The astronaut tilts her head by 3 degrees.
            assert np.degrees(np.arctan2(dy, dx)) == pytest.approx(3 - degrees, abs=2)


def test_tracker_does_not_lag(astronaut: Bytes, face: Landmarks) -> None:
    """After a jump the very next frame shows the new place: nothing is smoothed over time."""
    tracker = FaceTracker()
    first = tracker.track(astronaut)
    shifted = np.roll(astronaut, (6, 9), axis=(0, 1))
    second = tracker.track(shifted)
    assert first is not None
    assert second is not None
    moved = (second.points - first.points).mean(axis=0)
    np.testing.assert_allclose(moved, (9, 6), atol=1)


def test_two_trackers_share_nothing(astronaut: Bytes) -> None:
    small, _ = placed(astronaut, 0.6, 10, (480, 640))
    alone = FaceTracker()
    expected = [alone.track(frame) for frame in (astronaut, astronaut)]
    one, other = FaceTracker(), FaceTracker()
    got = []
    for _ in range(2):
        got.append(one.track(astronaut))
        other.track(small)
    for a, b in zip(expected, got, strict=True):
        assert a is not None
        assert b is not None
        np.testing.assert_array_equal(a.points, b.points)


def test_mouth_opening_ignores_pose_and_scale(face: Landmarks) -> None:
    """Turning the 3-D landmarks changes the picture, not the opening."""
    solid = np.column_stack([face.points, face.depth]).astype(np.float64)
    solid -= solid.mean(axis=0)
    views = []
    for yaw, pitch, roll, scale in [(0, 0, 0, 1), (30, 0, 0, 1), (0, 20, 0, 1), (-25, -15, 30, 0.4)]:
        rotation = np.eye(3)
        for axis, angle in ((2, roll), (1, yaw), (0, pitch)):
            rotation = cv2.Rodrigues(np.radians(angle) * np.eye(3)[axis])[0] @ rotation
        views.append((scale * solid @ rotation.T)[:, :2] + 100)
    opening = mouth_opening(np.array(views, np.float32))
    assert opening[0] > 0.05
    np.testing.assert_allclose(opening[1], opening[0], rtol=0.05)
    np.testing.assert_allclose(opening, opening[0], rtol=0.2)


def test_mouth_opening_counts_the_gap(face: Landmarks) -> None:
    points = np.repeat(face.points[None], 3, axis=0)
    upper, lower = [82, 13, 312], [87, 14, 317]
    points[1, lower] = points[1, upper]
    points[2, lower] = points[2, upper] + 2 * (points[0, lower] - points[0, upper])
    opening = mouth_opening(points)
    assert opening[1] == pytest.approx(0, abs=1e-6)
    assert opening[2] == pytest.approx(2 * opening[0], rel=1e-4)


def test_sample_roi_is_centre_true() -> None:
    """A ramp sampled at any scale and turn reads its own coordinates."""
    height, width = 300, 400
    x = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    rgb = np.stack([x] * 3, axis=-1).astype(np.uint8)
    for size, side, angle in ((100, 100, 0.0), (40, 96, 0.3), (220, 48, -0.4)):
        roi = Roi(200, 150, size, angle)
        crop = sample_roi(rgb, roi, side)[..., 0].astype(float)
        matrix = roi.to_image(side)
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1)
        place = grid @ matrix[:, :2].T + matrix[:, 2]
        expected = place[..., 0] / (width - 1) * 255
        inner = (slice(3, -3), slice(3, -3))
        assert np.abs(crop - expected)[inner].max() < 2.0
        assert abs((crop - expected)[inner].mean() + 0.5) < 0.35  # the ramp was rounded down


def test_mirrored_sample_is_the_mirror_image(astronaut: Bytes, face: Landmarks) -> None:
    roi = roi_from_points(face.points)
    plain = sample_roi(astronaut, roi, 96).astype(float)
    mirrored = sample_roi(astronaut, roi, 96, mirror=True).astype(float)
    assert np.abs(plain[:, ::-1] - mirrored).mean() < 0.5


@pytest.mark.parametrize("kind", ["photo", "art", "painting", "mixed", "sculpture", "cartoon3d", "anime"])
def test_every_kind_of_portrait_shows_its_face(data: Path, kind: str) -> None:
    files = sorted((data / "portraits").glob(f"{kind}_*"))[:6]
    assert files
    detector, model = FaceDetector(), LandmarkModel()
    for file in files:
        loaded = cv2.imread(str(file), cv2.IMREAD_COLOR)
        assert loaded is not None
        rgb = np.ascontiguousarray(loaded[..., ::-1], np.uint8)
        faces = find_faces(rgb, detector, model)
        assert len(faces) == 1, file.name
        assert faces[0].score > 0.9, file.name
        region = roi_from_detection(detector.detect(rgb)[0])
        assert np.hypot(*(faces[0].points.mean(axis=0) - (region.x, region.y))) < 0.25 * region.size
