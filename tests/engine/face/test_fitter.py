"""The fitter: exact on its own projections, accurate on photos, steady on video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from engine.errors import FaceError
from engine.face import fitter, solver
from engine.face.basis import load_basis
from engine.face.fitter import NECK_PIVOT, FaceFit, fit_face, fit_frame
from engine.face.models import model_status
from engine.face.residual import INNER_LIPS, spread
from engine.types import EXPRESSION_NAMES, MOTION

Float = NDArray[np.float32]

have_models = pytest.mark.skipif(
    not all(m.present for m in model_status()), reason="face-model files are not installed (make setup)"
)


def expression(**units: float) -> Float:
    out = np.zeros(64, np.float32)
    for name, value in units.items():
        out[EXPRESSION_NAMES.index(name)] = value
    return out


def head(seed: int = 0, turn: tuple[float, float, float] = (0.0, 0.0, 0.0), **units: float) -> FaceFit:
    """A random person seen by a known camera."""
    rng = np.random.default_rng(seed)
    basis = load_basis()
    return FaceFit(
        identity=(0.8 * rng.normal(size=80)).astype(np.float32),
        expression=expression(**units),
        rotation=Rotation.from_rotvec(turn).as_matrix().astype(np.float32),
        translation=np.array([1.0, -2.0, -100.0], np.float32),
        focal=1450.0,
        centre=np.array([256, 256], np.float32),
        gaze=np.zeros(2, np.float32),
        correction=np.zeros_like(basis.mean),
        error_percent=0.0,
        spread_error_percent=0.0,
    )


def seen(fit: FaceFit, pitch: float = 0.0, yaw: float = 0.0) -> Float:
    """Landmarks [478, 2] of ``fit``, eyes turned by ``pitch`` and ``yaw``."""
    basis = load_basis()
    shape = fit.vertices()
    out = np.zeros((478, 2), np.float32)
    out[:468] = fit.project(basis.at_landmarks(shape))[:, :2]
    way = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    for k, (name, first) in enumerate((("iris_left", 473), ("iris_right", 468))):
        part = basis.part(name)
        centre = basis.eye_centre[k] + (fit.neutral()[part] - basis.mean[part]).mean(0)
        iris = (centre + fitter.IRIS_DEPTH * way).astype(np.float32)
        out[first : first + 5] = fit.project(iris[None])[:, :2]
    return out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_recovers_what_it_projected(seed: int) -> None:
    truth = head(seed, (0.1, 0.3 - 0.3 * seed, 0.1), jawOpen=0.4, mouthSmileLeft=0.6, mouthSmileRight=0.6)
    found = fit_face(seen(truth, 0.1, -0.2), 512)
    assert found.error_percent < 0.6
    assert found.spread_error_percent < 0.15
    turn = Rotation.from_matrix(found.rotation @ truth.rotation.T).magnitude()
    assert np.degrees(turn) < 3.0
    jaw = found.expression[EXPRESSION_NAMES.index("jawOpen")]
    assert 0.25 < jaw < 0.55
    assert found.expression.min() >= 0
    assert found.expression.max() <= 1
    assert np.abs(found.gaze - [0.1, -0.2]).max() < 0.1


def test_scale_and_place_of_the_picture_do_not_matter() -> None:
    points = seen(head(3, (0.0, 0.2, 0.0), jawOpen=0.2))
    small = fit_face(points, 512)
    large = fit_face(points * 3, (1536, 1536))
    assert np.allclose(small.identity, large.identity, atol=0.05)
    assert np.allclose(small.rotation, large.rotation, atol=2e-3)
    assert large.focal == pytest.approx(3 * small.focal, rel=1e-3)


def test_jacobian_is_the_derivative() -> None:
    model = solver.mark_basis()
    columns = np.concatenate([model.identity, model.expression])
    rotation = Rotation.from_rotvec([0.1, 0.3, 0.05]).as_matrix()
    camera = solver.Camera(rotation, np.array([1.0, -2.0, -100.0]), 1450.0, np.array([256.0, 256.0]))
    rest = model.mean
    slope = solver._jacobian(camera, camera.place(rest), columns)
    here = camera.see(camera.place(rest))
    for k in (0, 7, 79, 85, 110):
        step = camera.see(camera.place(rest + 1e-5 * columns[k])) - here
        assert np.abs(step / 1e-5 - slope[:, :, 6 + k]).max() < 1e-2
    for k in range(3):
        turned = replace(camera, rotation=Rotation.from_rotvec(1e-6 * np.eye(3)[k]).as_matrix() @ rotation)
        assert np.abs((turned.see(turned.place(rest)) - here) / 1e-6 - slope[:, :, k]).max() < 1e-2
        moved = replace(camera, shift=camera.shift + 1e-6 * np.eye(3)[k])
        assert np.abs((moved.see(moved.place(rest)) - here) / 1e-6 - slope[:, :, 3 + k]).max() < 1e-2


@pytest.mark.parametrize("seed", range(6))
def test_solve_box_equals_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, 30))
    rows[:, 12] = rows[:, 13] + 0.01 * rows[:, 14]
    matrix, vector = rows.T @ rows + 0.01 * np.eye(30), 3 * rows.T @ rng.normal(size=40)
    low = np.concatenate([np.full(10, -np.inf), np.zeros(20)])
    high = np.concatenate([np.full(10, np.inf), np.ones(20)])
    root = np.linalg.cholesky(matrix)
    best = lsq_linear(root.T, np.linalg.solve(root, vector), (low, high), method="bvls", tol=1e-12).x
    found = solver.solve_box(matrix, vector, low, high)
    assert 0.5 * found @ matrix @ found - vector @ found <= 0.5 * best @ matrix @ best - vector @ best + 1e-9
    assert (found >= low).all()
    assert (found <= high).all()


def test_spread_closes_misses_without_tying_the_lips() -> None:
    basis = load_basis()
    miss = np.zeros((468, 3), np.float32)
    miss[INNER_LIPS[1], 1] = -0.3
    moved = basis.at_landmarks(spread(miss))
    assert moved[INNER_LIPS[1][3:-3], 1].mean() < -0.2
    assert np.abs(moved[INNER_LIPS[0][3:-3], 1]).mean() < 0.15
    assert np.abs(moved[[10, 33, 263], 1]).max() < 0.05


def test_frame_recovers_motion() -> None:
    person = fit_face(seen(head(5, (0.05, 0.1, 0.0))), 512)
    turn, shift = np.array([0.12, -0.2, 0.08]), np.array([0.1, -0.05, 0.0])
    rotation = Rotation.from_rotvec(turn).as_matrix() @ person.rotation
    pivot = person.to_camera(NECK_PIVOT) + shift * person.interocular_cm
    wanted = expression(jawOpen=0.5, eyeBlinkLeft=0.8, eyeBlinkRight=0.8)
    moved = replace(
        person,
        rotation=rotation.astype(np.float32),
        translation=(pivot - rotation @ NECK_PIVOT).astype(np.float32),
        expression=np.maximum(person.expression, wanted),
    )
    motion = fit_frame(seen(moved, *person.gaze), person)
    assert motion.shape == (MOTION.size,)
    assert np.abs(motion[MOTION.rotation] - turn).max() < np.radians(2)
    assert np.abs(motion[MOTION.translation][:2] - shift[:2]).max() < 0.03
    assert motion[MOTION.index("jawOpen")] == pytest.approx(0.5, abs=0.15)
    assert motion[MOTION.index("eyeBlinkLeft")] > 0.5
    assert np.abs(motion[MOTION.gaze]).max() < 0.12


def test_frame_of_the_portrait_itself_is_rest() -> None:
    points = seen(head(6, (0.0, -0.2, 0.05), mouthSmileLeft=0.5, mouthSmileRight=0.5), 0.05, 0.1)
    person = fit_face(points, 512)
    motion = fit_frame(points, person)
    assert np.abs(motion[MOTION.pose]).max() < 0.03
    assert np.abs(motion[MOTION.gaze]).max() < 0.03
    assert motion[:64][fitter.IS_RELATIVE].max() < 0.15


def test_frame_closes_lips_within_one_frame() -> None:
    person = fit_face(seen(head(7)), 512)
    opened = replace(person, expression=expression(jawOpen=0.5))
    closed = replace(person, expression=expression(lipsSealed=1.0))
    previous = fit_frame(seen(opened), person)
    motion = fit_frame(seen(closed), person, previous)
    assert previous[MOTION.index("jawOpen")] > 0.3
    assert motion[MOTION.index("jawOpen")] < 0.08
    assert motion[MOTION.index("lipsSealed")] > 0.5


def test_noise_is_steadied_and_turns_pass() -> None:
    person = fit_face(seen(head(8)), 512)
    rng = np.random.default_rng(0)
    still, previous = [], None
    for _ in range(12):
        noisy = seen(person) + rng.normal(0, 0.5, (478, 2)).astype(np.float32)
        previous = fit_frame(noisy, person, previous)
        still.append(previous[MOTION.rotation])
    assert np.degrees(np.std(still, axis=0).max()) < 0.25
    rotation = Rotation.from_rotvec([0, np.radians(10), 0]).as_matrix() @ person.rotation
    turned = replace(person, rotation=rotation.astype(np.float32))
    motion = fit_frame(seen(turned), person, previous)
    assert np.degrees(motion[MOTION.index("ry")]) == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    "points",
    [np.zeros((468, 2), np.float32), np.zeros((478, 2), np.float32), np.full((478, 2), np.nan, np.float32)],
    ids=["short", "collapsed", "nan"],
)
def test_bad_landmarks_are_refused(points: Float) -> None:
    with pytest.raises(FaceError):
        fit_face(points, 512)


@have_models
@pytest.mark.parametrize(
    ("prefix", "limit"), [(("photo", "mixed", "ai"), 1.5), (("art", "painting", "anime"), 3.0)]
)
def test_reprojection_error_on_portraits(data: Path, prefix: tuple[str, ...], limit: float) -> None:
    """Every third portrait (the benchmark measures all of them)."""
    from engine.face.image import load_image
    from engine.face.landmarks import find_faces

    errors = {}
    for path in sorted((data / "portraits").iterdir())[::3]:
        if not path.name.startswith(prefix):
            continue
        picture = load_image(path)
        faces = find_faces(picture.rgb)
        if faces:
            fit = fit_face(faces[0].points, (picture.width, picture.height))
            errors[path.name] = fit.error_percent
            assert fit.spread_error_percent < 0.35, path.name
    assert len(errors) >= 4
    assert max(errors.values()) <= limit, errors
