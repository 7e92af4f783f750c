"""The eye layer: the iris turns, the white is clean, the photo stays where nothing moves."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.animators.mesh.eyefit import LIDS, EyeFit, fit_eyes
from engine.animators.mesh.eyes import EyeLayer
from engine.face.basis import load_basis
from engine.face.residual import LEFT_LIDS, RIGHT_LIDS
from kernels.raster import Canvas
from tests.engine.animators.faces import Face, face

Float = NDArray[np.float32]
ROWS = (RIGHT_LIDS.ravel(), LEFT_LIDS.ravel())


@pytest.fixture(params=["astronaut.png", "character.png"])
def someone(request: pytest.FixtureRequest) -> Face:
    return face(request.param)


def _layer(someone: Face) -> EyeLayer:
    return EyeLayer(EyeLayer.prepare(someone.source), load_basis())


def _draw(someone: Face, motion: Float, part: int) -> tuple[Canvas, Canvas]:
    """The window of one eye before and after the layer."""
    frame = someone.frame(motion)
    before, after = (someone.window(frame, ROWS[part]) for _ in range(2))
    _layer(someone).draw(after, frame, part)
    return before, after


def _inside(canvas: Canvas, someone: Face, part: int) -> NDArray[np.bool_]:
    """Frame pixels well inside the lids of the photo."""
    upper, lower = (RIGHT_LIDS, LEFT_LIDS)[part]
    outline = np.concatenate([someone.source.landmarks[upper], someone.source.landmarks[lower][::-1]])
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    cv2.fillPoly(mask, [(outline - [canvas.x0, canvas.y0]).round().astype(np.int32)], 1)
    return cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0


def _dark_centre(image: Float, inside: NDArray[np.bool_]) -> float:
    """Mean column of the darkest third of the opening: the iris."""
    grey = image.mean(-1)
    dark = inside & (grey < np.quantile(grey[inside], 0.33))
    return float(np.nonzero(dark)[1].mean())


@pytest.mark.parametrize("part", [0, 1])
def test_rest_is_left_to_the_photo(someone: Face, part: int) -> None:
    before, after = _draw(someone, someone.identity.rest, part)
    assert np.array_equal(before.pixels, after.pixels)


@pytest.mark.parametrize("part", [0, 1])
def test_tiny_motion_shows_the_photo_unchanged(someone: Face, part: int) -> None:
    """Just off rest the layer is drawn in full: its pixels must be the photo's."""
    motion = someone.motion(gazeYaw=0.02, tx=0.0)
    before, after = _draw(someone, motion, part)
    inside = _inside(after, someone, part)
    error = (after.resolve() - before.resolve())[inside]
    assert 10 * np.log10(255.0**2 / np.mean(error**2)) > 28.0


@pytest.mark.parametrize("part", [0, 1])
def test_gaze_moves_the_iris(part: int) -> None:
    someone = face("astronaut.png")
    columns = []
    for yaw in (-0.35, 0.0, 0.35):
        _, after = _draw(someone, someone.motion(gazeYaw=yaw, gazePitch=1e-3), part)
        columns.append(_dark_centre(after.resolve(), _inside(after, someone, part)))
    assert columns[0] + 1.5 < columns[1] < columns[2] - 1.5


def test_uncovered_white_is_white() -> None:
    """Where the iris was, the eye is about as bright as its visible white."""
    someone = face("astronaut.png")
    fits = fit_eyes(someone.source.crop, someone.source.landmarks)
    assert all(fit.reliable for fit in fits)
    _, after = _draw(someone, someone.motion(gazeYaw=0.45), 0)
    picture, fit = after.resolve(), fits[0]
    x, y = (round(float(v)) for v in fit.iris - [after.x0, after.y0])
    left = picture[y, x - round(0.8 * fit.radius)].mean()
    was = someone.source.crop[y + after.y0, x + after.x0 - round(0.8 * fit.radius)].mean()
    assert left > was + 25


def _drawn_eyes(radius: float, tall: float = 1.0) -> tuple[NDArray[np.uint8], Float, NDArray[np.float64]]:
    """A drawn face of two eyes: picture, landmarks [478, 2] and true iris centres [2, 2]."""
    picture = np.full((512, 512, 3), (205, 160, 140), np.uint8)
    landmarks = np.zeros((478, 2), np.float32)
    centres = np.array([[186.0, 220.0], [326.0, 220.0]])
    for part, (x, y) in enumerate(centres):
        angle = np.linspace(np.pi, -np.pi, 16, endpoint=False)
        outline = np.stack([x + 30 * np.cos(angle), y - 11 * np.sin(angle)], 1)
        fine = (outline * 16).round().astype(np.int32)
        eye = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(eye, [fine], 1, cv2.LINE_AA, shift=4)
        layer = np.full_like(picture, (225, 218, 212))
        centre = (round((x + 1.5) * 16), round(y * 16))
        axes = (round(radius * 16), round(radius * tall * 16))
        cv2.ellipse(layer, centre, axes, 0, 0, 360, (70, 50, 35), -1, cv2.LINE_AA, 4)
        picture[eye > 0] = layer[eye > 0]
        landmarks[_outline(part)] = outline
        first = (468, 473)[part]
        landmarks[first] = (x, y)
        landmarks[first + 1 : first + 5] = [(x + 10, y), (x, y - 10), (x - 10, y), (x, y + 10)]
    soft = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), np.uint8)
    return soft, landmarks, centres + np.array([1.5, 0.0])


def _outline(part: int) -> list[int]:
    below = ([155, 154, 153, 145, 144, 163, 7], [249, 390, 373, 374, 380, 381, 382])[part]
    return [*LIDS[part], *below]


@pytest.mark.parametrize("radius", [9.0, 11.0, 12.5])
def test_iris_is_found_to_a_fraction_of_a_pixel(radius: float) -> None:
    picture, landmarks, centres = _drawn_eyes(radius)
    for fit, centre in zip(fit_eyes(picture, landmarks), centres, strict=True):
        assert fit.reliable
        assert abs(fit.radius - radius) < 0.12 * radius
        assert abs(float(fit.iris[0]) - centre[0]) < 1.2


def test_painted_iris_that_is_no_circle_is_not_believed() -> None:
    picture, landmarks, _ = _drawn_eyes(19.0)
    assert not any(fit.reliable for fit in fit_eyes(picture, landmarks))
    plain = np.full_like(picture, 128)
    assert not any(fit.reliable for fit in fit_eyes(plain, landmarks))


def test_unreliable_eyes_only_shift_a_little() -> None:
    someone = face("astronaut.png")
    blurred = cv2.GaussianBlur(someone.source.crop, (0, 0), 9)
    source = replace(someone.source, crop=np.asarray(blurred, np.uint8))
    layer = EyeLayer(EyeLayer.prepare(source), load_basis())
    frame = someone.frame(someone.motion(gazeYaw=0.5))
    canvas = someone.window(frame, ROWS[0])
    inside = _inside(canvas, someone, 0)
    layer.draw(canvas, frame, 0)
    drawn = canvas.resolve()
    photo = source.crop[canvas.y0 : canvas.y0 + canvas.height, canvas.x0 : canvas.x0 + canvas.width]
    assert np.abs(drawn - photo)[inside].max() < 60


def test_magnified_region_averages_back_to_the_photo() -> None:
    someone = face("astronaut.png")
    fit: EyeFit = fit_eyes(someone.source.crop, someone.source.landmarks)[0]
    (x, y), (w, h) = fit.origin, fit.size
    big = fit.magnify(someone.source.crop)
    assert big.shape == (h * fit.zoom, w * fit.zoom, 3)
    small = cv2.resize(big, (w, h), interpolation=cv2.INTER_AREA)
    assert np.abs(small - someone.source.crop[y : y + h, x : x + w]).mean() < 3.0


def test_layer_survives_saving(someone: Face, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("eyes") / "layer.npz"
    np.savez(path, **EyeLayer.prepare(someone.source))  # type: ignore[arg-type]
    with np.load(path) as arrays:
        loaded = EyeLayer(dict(arrays), load_basis())
    frame = someone.frame(someone.motion(gazeYaw=0.3, gazePitch=-0.1))
    first, second, again = (someone.window(frame, ROWS[1]) for _ in range(3))
    _layer(someone).draw(first, frame, 1)
    loaded.draw(second, frame, 1)
    loaded.draw(again, frame, 1)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(second.pixels, again.pixels)
