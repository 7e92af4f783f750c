"""From pictures to portraits: choosing, judging and cropping the face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from engine.config import asset_path
from engine.errors import FaceError
from engine.face.basis import PARTS, load_basis
from engine.face.crop import CROP_SIDE, crop_box, cut, face_width
from engine.face.image import Picture, load_image
from engine.face.models import model_status
from engine.face.portrait import Portrait, analyse_portrait, check_turn
from engine.face.residual import SILHOUETTE

pytestmark = pytest.mark.skipif(
    not all(m.present for m in model_status()), reason="face-model files are not installed (make setup)"
)

Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def astronaut() -> Picture:
    return load_image(asset_path("demo/astronaut.png"))


@pytest.fixture(scope="module")
def portrait(astronaut: Picture) -> Portrait:
    return analyse_portrait(astronaut)


def scaled(rgb: Bytes, factor: float) -> Bytes:
    kernel = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=kernel), np.uint8)


def beside(*pictures: Bytes) -> Picture:
    """Pictures side by side on grey."""
    height = max(p.shape[0] for p in pictures)
    padded = [
        cv2.copyMakeBorder(p, 0, height - len(p), 0, 0, cv2.BORDER_CONSTANT, value=(90, 90, 90))
        for p in pictures
    ]
    return Picture(np.hstack(padded), source="group.jpg")


def test_one_face(portrait: Portrait) -> None:
    assert portrait.crop.shape == (CROP_SIDE, CROP_SIDE, 3)
    assert portrait.crop_alpha is None
    assert portrait.landmarks.points.min() > 0
    assert portrait.landmarks.points.max() < CROP_SIDE
    assert portrait.fit.error_percent < 1.5
    assert 0.3 < face_width(portrait.landmarks.points) / CROP_SIDE < 0.5


def test_crop_maps_back_to_the_picture(astronaut: Picture, portrait: Portrait) -> None:
    matrix = portrait.crop_from_image
    again = cv2.warpAffine(astronaut.rgb, matrix, (CROP_SIDE, CROP_SIDE), flags=cv2.INTER_CUBIC)
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(again[inner].astype(int) - portrait.crop[inner]).mean() < 1.0


def test_fit_lands_on_the_landmarks(portrait: Portrait) -> None:
    seen = portrait.fit.project(load_basis().at_landmarks(portrait.fit.vertices()))[:, :2]
    miss = np.linalg.norm(seen - portrait.landmarks.points[:468], axis=1)
    assert miss.mean() < 0.4


def test_two_faces_need_a_choice(astronaut: Picture) -> None:
    group = beside(scaled(astronaut.rgb, 0.8), astronaut.rgb)
    with pytest.raises(FaceError, match=r"2 faces in group.jpg: choose one with --face N") as caught:
        analyse_portrait(group)
    assert "face 1 at (" in str(caught.value)
    assert "px wide" in str(caught.value)
    first, second = analyse_portrait(group, face=1), analyse_portrait(group, face=2)
    assert first.crop_from_image[0, 0] < second.crop_from_image[0, 0]
    assert first.crop_from_image[0, 2] < second.crop_from_image[0, 2]
    with pytest.raises(FaceError, match="no face 3.*choose 1 to 2".replace(".*", "[^;]*")):
        analyse_portrait(group, face=3)


def test_a_small_bystander_needs_no_choice(astronaut: Picture) -> None:
    group = beside(scaled(astronaut.rgb, 3), astronaut.rgb)
    found = analyse_portrait(group)
    assert found.crop_from_image[0, 0] < 1.0


def test_small_face(astronaut: Picture) -> None:
    with pytest.raises(FaceError, match="at least 64 are needed: give a larger"):
        analyse_portrait(Picture(scaled(astronaut.rgb, 0.6), source="far.jpg"))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_no_face(value: int) -> None:
    with pytest.raises(FaceError, match=r"no face found in plain.png: give a photo"):
        analyse_portrait(Picture(np.full((300, 400, 3), value, np.uint8), source="plain.png"))


BROWS = [70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276]
LIPS = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146, 13, 14]


def painted_head(degrees: float) -> Bytes:
    """The mean head turned to the side, painted triangle by triangle from back to front."""
    basis = load_basis()
    marks, middle = basis.at_landmarks(basis.mean), basis.mean[basis.triangles].mean(1)
    colour = np.tile(np.array([0.9, 0.72, 0.62]), (len(middle), 1))
    colour[np.isin(basis.triangle_part, [PARTS.index("eye_left"), PARTS.index("eye_right")])] = 1.0
    colour[np.isin(basis.triangle_part, [PARTS.index("iris_left"), PARTS.index("iris_right")])] = (
        0.2,
        0.3,
        0.5,
    )
    colour[basis.triangle_part == PARTS.index("scalp")] = (0.25, 0.18, 0.12)
    for numbers, paint in ((BROWS, (0.25, 0.17, 0.12)), (LIPS, (0.75, 0.4, 0.38))):
        near = cKDTree(marks[numbers]).query(middle)[0] < 0.36
        colour[near & (basis.triangle_part == 0)] = paint
    turned = Rotation.from_rotvec([0, np.radians(degrees), 0]).apply(basis.mean)
    corners = turned[basis.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    shade = colour * (0.25 + 0.75 * np.clip(normal @ [0.3, 0.4, 0.86], 0, 1))[:, None]
    picture = np.full((512, 512, 3), 115, np.uint8)
    flat = (
        (np.stack([256 + 16 * corners[..., 0], 240 - 16 * corners[..., 1]], -1) * 16).round().astype(np.int32)
    )
    for f in np.argsort(corners[..., 2].mean(1)):
        if normal[f, 2] > 0:
            cv2.fillConvexPoly(picture, flat[f], (255 * shade[f]).tolist(), cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0), np.uint8)


@pytest.mark.parametrize("degrees", [0, 35, -45])
def test_turned_head(degrees: float) -> None:
    found = analyse_portrait(Picture(painted_head(degrees), source="side.png"))
    assert np.degrees(found.fit.yaw) == pytest.approx(degrees, abs=8)


@pytest.mark.parametrize("degrees", [72, -78])
def test_profile(degrees: float) -> None:
    with pytest.raises(FaceError, match=r"side.png is turned .* looks more to the camera|no face found"):
        analyse_portrait(Picture(painted_head(degrees), source="side.png"))


def test_turn_limit() -> None:
    picture = Picture(np.zeros((8, 8, 3), np.uint8), source="side.jpg")
    check_turn(np.radians(59), picture)
    with pytest.raises(FaceError, match=r"side.jpg is turned 61 degrees"):
        check_turn(np.radians(61), picture)


def test_transparency_is_cropped_along(astronaut: Picture) -> None:
    alpha = np.full(astronaut.rgb.shape[:2], 255, np.uint8)
    alpha[:, :150] = 0
    found = analyse_portrait(Picture(astronaut.rgb, alpha))
    assert found.crop_alpha is not None
    assert found.crop_alpha.shape == (CROP_SIDE, CROP_SIDE)
    column = int(found.crop_from_image[0] @ [150, 0, 1])
    assert found.crop_alpha[:, : column - 4].max() == 0
    assert found.crop_alpha[:, column + 4 :].min() == 255


def outline(x: float, y: float, width: float) -> NDArray[np.float32]:
    """Landmarks whose silhouette is an ellipse, 1.25 times as tall as wide."""
    points = np.full((478, 2), (x, y), np.float32)
    angle = np.linspace(0, 2 * np.pi, len(SILHOUETTE), endpoint=False)
    points[SILHOUETTE, 0] += width / 2 * np.sin(angle)
    points[SILHOUETTE, 1] += width * 0.625 * np.cos(angle)
    return points


@pytest.mark.parametrize("place", [(500, 400), (60, 80), (940, 700), (500, 20)])
@pytest.mark.parametrize("width", [70, 200, 500])
def test_crop_stays_inside(place: tuple[float, float], width: float) -> None:
    box = crop_box(outline(*place, width), 1000, 720)
    assert box.left >= 0
    assert box.top >= 0
    assert box.left + box.side <= 1000 + 1e-6
    assert box.top + box.side <= 720 + 1e-6
    if width <= 200:
        assert width / box.side == pytest.approx(0.4, rel=0.1)


def test_fitting_crop_is_not_resampled() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (700, 900, 3), np.uint8)
    box = crop_box(outline(450.3, 350.8, 203), 900, 700)
    assert box.side == CROP_SIDE
    left, top = int(box.left), int(box.top)
    assert (cut(image, box) == image[top : top + CROP_SIDE, left : left + CROP_SIDE]).all()
    assert np.allclose(box.crop_from_image, [[1, 0, -left], [0, 1, -top]])


def test_drawn_character() -> None:
    found = analyse_portrait(load_image(asset_path("demo/character.png")))
    assert found.fit.error_percent < 3.0


def test_files_of_every_kind_give_the_same_face(
    astronaut: Picture, portrait: Portrait, tmp_path: Path
) -> None:
    from PIL import Image

    grey = tmp_path / "grey.jpg"
    Image.fromarray(astronaut.rgb).convert("L").save(grey, quality=95)
    large = tmp_path / "large.jpg"
    Image.fromarray(astronaut.rgb).resize((6144, 6144), Image.Resampling.BICUBIC).save(large)
    for path in (grey, large):
        found = analyse_portrait(load_image(path))
        away = np.abs(found.landmarks.points - portrait.landmarks.points).mean()
        assert away < 6, path.name
