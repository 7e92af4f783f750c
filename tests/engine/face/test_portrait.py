"""From pictures to portraits: choosing, judging and cropping the face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from engine.config import asset_path
from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.crop import CROP_SIDE, crop_box, cut, face_width
from engine.face.fitter import FaceFit, fit_face
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


@pytest.mark.parametrize(("degrees", "refused"), [(40, False), (55, False), (66, True), (-70, True)])
def test_profile(degrees: float, refused: bool) -> None:
    basis = load_basis()
    turn = Rotation.from_rotvec([0, np.radians(degrees), 0]).as_matrix().astype(np.float32)
    truth = FaceFit(
        identity=np.zeros(80, np.float32),
        expression=np.zeros(64, np.float32),
        rotation=turn,
        translation=np.array([0, 0, -100], np.float32),
        focal=1450.0,
        centre=np.array([256, 256], np.float32),
        gaze=np.zeros(2, np.float32),
        correction=np.zeros_like(basis.mean),
        error_percent=0.0,
        spread_error_percent=0.0,
    )
    points = np.zeros((478, 2), np.float32)
    points[:468] = truth.project(basis.at_landmarks(basis.mean))[:, :2]
    points[468:] = points[[33]]
    fit = fit_face(points, 512)
    picture = Picture(np.zeros((8, 8, 3), np.uint8), source="side.jpg")
    if refused:
        with pytest.raises(FaceError, match=r"side.jpg is turned .* looks more to the camera"):
            check_turn(fit, picture)
    else:
        check_turn(fit, picture)


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
