"""The mesh animator on a real portrait: what it must show, and that it keeps every law of a stage."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.geometry import deform, pack_units, project
from engine.animators.mesh.grid import hold_borders
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.paste import PasteBack
from engine.animators.mesh.render import SIZE, FrameBuffers, FrameRenderer
from engine.animators.mesh.semantics import effective_expression, head_motion, rest_motion, soft_limit
from engine.animators.mesh.sheet import contact_sheet, motions, moved
from engine.animators.mesh.warm_up import warm_up
from engine.config import asset_path
from engine.errors import AssetError, AvatarError, ConfigError, StreamError
from engine.face.basis import load_basis
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.face.residual import INNER_LIPS, LEFT_LIDS, RIGHT_LIDS
from engine.types import EXPRESSION_NAMES, MOTION, Cond, MotionChunk, PixelFormat
from kernels.i420 import rgb_to_i420
from tests.laws import LAWS, Case, motion_case

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@lru_cache
def portrait() -> Portrait:
    try:
        return analyse_portrait(load_image(asset_path("demo/astronaut.png")))
    except AssetError as error:
        pytest.skip(str(error))


@lru_cache
def identity() -> MeshIdentity:
    return MeshAnimator().prepare(portrait())


@lru_cache
def renderer() -> FrameRenderer:
    return MeshAnimator().renderer(identity())


@lru_cache
def buffers() -> FrameBuffers:
    return FrameBuffers.for_basis(load_basis())


def draw(motion: Float, tier: int = 0) -> Bytes:
    out = np.empty((SIZE, SIZE, 3), np.uint8)
    renderer().draw(motion, buffers(), out, tier)
    return out


def change(**values: float) -> Float:
    return moved(identity().rest, values)


def marks(motion: Float) -> Float:
    return renderer().geometry(motion, buffers()).landmarks.copy()


def psnr(a: Bytes, b: Bytes) -> float:
    error = float(np.mean((a.astype(float) - b) ** 2))
    return float(10 * np.log10(255.0**2 / max(error, 1e-9)))


def lip_gap(points: Float) -> float:
    return float(points[INNER_LIPS[1, 5], 1] - points[INNER_LIPS[0, 5], 1])


def test_rest_returns_the_photo() -> None:
    assert psnr(draw(identity().rest), identity().crop) >= 40.0


def test_rest_is_reached_continuously() -> None:
    rest = draw(identity().rest)
    near = draw(change(jawOpen=0.004, ry=0.06, gazeYaw=0.1))
    assert psnr(rest, near) > 33.0
    assert np.abs(rest.astype(int) - near).mean() < 1.0


def test_jaw_opens_the_mouth_and_leaves_the_rest_alone() -> None:
    rest, open_ = draw(identity().rest), draw(change(jawOpen=0.6))
    low, high = marks(identity().rest), marks(change(jawOpen=0.6))
    assert lip_gap(high) > lip_gap(low) + 12.0
    assert high[152, 1] > low[152, 1] + 10.0  # chin
    difference = np.abs(open_.astype(int) - rest).max(-1)
    mouth = low[INNER_LIPS.ravel()].mean(0).astype(int)
    assert difference[mouth[1] : mouth[1] + 20, mouth[0] - 10 : mouth[0] + 10].mean() > 15
    assert difference[:60].max() == 0  # hair and wall
    assert difference[-40:].max() == 0  # shoulders


def test_neutral_mouth_closes_lips_that_the_photo_shows_parted() -> None:
    closed = moved(identity().rest, {"neutral": 1.0})
    assert lip_gap(identity().landmarks) > 6.0
    assert abs(lip_gap(marks(closed))) < 1.5
    # No tooth shows between them: nothing brighter than the skin around along the contact.
    picture, points = draw(closed), marks(closed)
    line = points[INNER_LIPS[:, 2:9]].mean(0).round().astype(int)
    light = picture.mean(-1)
    cheek = light[int(points[205, 1]) - 4 : int(points[205, 1]) + 4, int(points[205, 0]) - 4 :][:, :8].mean()
    assert light[line[:, 1], line[:, 0]].max() < cheek


@pytest.mark.parametrize(("unit", "rows"), [("eyeBlinkRight", RIGHT_LIDS), ("eyeBlinkLeft", LEFT_LIDS)])
def test_blink_covers_one_eye_with_skin(unit: str, rows: NDArray[np.int64]) -> None:
    rest, shut = draw(identity().rest), draw(change(**{unit: 1.0}))
    still, points = marks(identity().rest), marks(change(**{unit: 1.0}))
    opening = np.abs(points[rows[1, 3:6], 1] - points[rows[0, 3:6], 1])
    assert opening.max() < 0.4 * np.abs(still[rows[1, 4], 1] - still[rows[0, 4], 1])
    iris = identity().landmarks[468 if unit.endswith("Right") else 473].round().astype(int)
    patch = (slice(iris[1] - 3, iris[1] + 3), slice(iris[0] - 3, iris[0] + 3))
    assert shut[patch].mean() > rest[patch].mean() + 25  # the dark iris is gone
    other = identity().landmarks[473 if unit.endswith("Right") else 468].round().astype(int)
    patch = (slice(other[1] - 3, other[1] + 3), slice(other[0] - 3, other[0] + 3))
    assert np.abs(shut[patch].astype(int) - rest[patch]).max() <= 3


def test_gaze_turns_the_iris_and_not_the_lids() -> None:
    still, turned = marks(identity().rest), marks(change(gazeYaw=20.0))
    np.testing.assert_allclose(still[RIGHT_LIDS], turned[RIGHT_LIDS], atol=1.0)
    assert psnr(draw(identity().rest), draw(change(gazeYaw=20.0))) < 50


@pytest.mark.parametrize(
    ("name", "angle", "axis", "sign"),
    [("ry", 20, 0, 1), ("ry", -20, 0, -1), ("rx", 15, 1, 1), ("rx", -15, 1, -1)],
)
def test_head_turns_while_shoulders_and_background_stay(
    name: str, angle: float, axis: int, sign: int
) -> None:
    motion = change(**{name: float(angle)})
    shift = (marks(motion) - marks(identity().rest))[1, axis]
    assert shift * sign > 15.0
    difference = np.abs(draw(motion).astype(int) - identity().crop).max(-1)
    assert difference[-6:].max() <= 6
    assert difference[-40:].mean() < 4
    assert difference[:120, :40].max() <= 3  # wall
    assert difference.mean() > 3


def test_roll_is_counter_clockwise() -> None:
    points = marks(change(rz=15.0))
    assert points[263, 1] < points[33, 1] - 10  # the subject's left eye rises


def test_sweeps_have_no_jumps() -> None:
    """Neighbouring frames of slow motions differ about equally: nothing pops."""
    for values in ({"eyeBlink": 1.0}, {"ry": 24.0}, {"jawOpen": 0.7}, {"mouthPucker": 1.0}):
        steps = [
            moved(identity().rest, {k: v * t for k, v in values.items()}) for t in np.linspace(0.1, 1, 16)
        ]
        frames = [draw(m).astype(np.int16) for m in steps]
        change_ = np.array([np.abs(b - a).mean() for a, b in itertools.pairwise(frames)])
        assert change_.max() < 3.0 * np.median(change_) + 0.05, values


def test_wild_motion_is_limited() -> None:
    wild = np.random.default_rng(0).normal(0, 3, MOTION.size).astype(np.float32)
    picture = draw(wild)
    assert np.isfinite(buffers().projected).all()
    assert picture.std() > 10
    far, further = marks(change(ry=60.0)), marks(change(ry=170.0))
    np.testing.assert_allclose(far, further, atol=0.5)


def test_second_tier_shows_the_same_face() -> None:
    motion = change(jawOpen=0.4, ry=8.0)
    assert psnr(draw(motion, tier=1), draw(motion)) > 30


def test_arrays_restore_the_identity() -> None:
    arrays = identity().to_arrays()
    again = MeshIdentity.from_arrays(arrays)
    out, motion = np.empty((SIZE, SIZE, 3), np.uint8), change(jawOpen=0.3, eyeBlink=0.5, ry=5.0)
    MeshAnimator().renderer(again).draw(motion, buffers(), out)
    np.testing.assert_array_equal(out, draw(motion))
    with pytest.raises(AvatarError, match="version"):
        MeshIdentity.from_arrays({**arrays, "version": np.array([0], np.int32)})
    with pytest.raises(AvatarError, match="lacks"):
        MeshIdentity.from_arrays({k: v for k, v in arrays.items() if k != "neutral"})


def _cond() -> Cond:
    rest = torch.from_numpy(identity().rest).repeat(2, 1)
    return Cond(seed=torch.arange(2), rest=rest, identity=(identity(), identity()))


def mesh_case() -> Case:
    return motion_case("mesh_animator", MeshAnimator(), _cond())


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_law(law: Callable[[Case], None]) -> None:
    law(mesh_case())


def test_i420_is_the_converted_rgb() -> None:
    data = torch.from_numpy(np.stack([change(jawOpen=0.3), change(ry=10.0)]))[None]
    cond = _cond().row(0)
    rgb = MeshAnimator().forward(MotionChunk(0, data), cond)
    packed = MeshAnimator(PixelFormat.I420).forward(MotionChunk(0, data), cond)
    assert list(packed.shape) == [1, 2, SIZE * 3 // 2, SIZE]
    for t in range(2):
        np.testing.assert_array_equal(packed[0, t].numpy(), rgb_to_i420(rgb[0, t].numpy()))


def test_wrong_input_is_named() -> None:
    animator = MeshAnimator()
    with pytest.raises(ConfigError, match="prepared face"):
        animator.init_state(1, Cond.default(1))
    state = animator.init_state(2, _cond())
    with pytest.raises(ConfigError, match="motion must be"):
        animator.step(MotionChunk(0, torch.zeros(2, 1, 70)), state)
    animator.step(MotionChunk(5, torch.zeros(2, 1, 72)), state)
    with pytest.raises(StreamError, match="expected 6"):
        animator.step(MotionChunk(8, torch.zeros(2, 1, 72)), state)


def test_sheet_has_a_tile_per_motion() -> None:
    table = dict(list(motions(identity().rest).items())[:2])
    sheet = contact_sheet(identity(), table, columns=2)
    assert sheet.shape == (2 * SIZE, 2 * SIZE, 3)
    np.testing.assert_array_equal(sheet[60:SIZE, :SIZE], identity().crop[60:])
    assert len(motions(identity().rest)) == 14


def test_paste_back_keeps_the_picture_outside_the_crop() -> None:
    source = portrait()
    picture = source.picture.rgb
    paste = PasteBack(picture, source.crop_from_image, identity().person[..., 3] / 255)
    full = paste(draw(identity().rest))
    assert full.shape == (picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2, 3)
    assert psnr(full, picture[: full.shape[0], : full.shape[1]]) > 30
    red = np.zeros((SIZE, SIZE, 3), np.uint8)
    red[..., 0] = 255
    touched = (paste(red) != paste.picture).any(-1)
    corners = np.linalg.inv(np.vstack([source.crop_from_image, [0, 0, 1]]))[:2] @ np.array(
        [[0, 511], [0, 511], [1, 1]]
    )
    x0, x1 = np.clip(corners[0], 0, touched.shape[1]).round().astype(int)
    y0, y1 = np.clip(corners[1], 0, touched.shape[0]).round().astype(int)
    outside = touched.copy()
    outside[max(y0 - 1, 0) : y1 + 2, max(x0 - 1, 0) : x1 + 2] = False
    assert not outside.any()
    assert touched[(y0 + y1) // 2, (x0 + x1) // 2]


def test_expression_semantics() -> None:
    own = np.zeros(64, np.float32)
    jaw, brow, blink = (EXPRESSION_NAMES.index(n) for n in ("jawOpen", "browInnerUp", "eyeBlinkLeft"))
    own[[jaw, brow, blink]] = 0.3, 0.4, 0.2
    rest = rest_motion(own)
    assert rest[jaw] == np.float32(0.3)
    assert rest[brow] == 0.0
    np.testing.assert_array_equal(effective_expression(rest, own), own)
    motion = rest.copy()
    motion[[jaw, brow, blink]] = 0.0, 0.2, 1.0
    shown = effective_expression(motion, own)
    np.testing.assert_allclose(shown[[jaw, brow, blink]], [0.0, 0.6, 1.0], atol=1e-6)


def test_soft_limit_is_smooth_and_bounded() -> None:
    x = np.linspace(-4, 4, 4001).astype(np.float32)
    y = soft_limit(x, 0.5)
    assert np.abs(y).max() <= 0.5
    np.testing.assert_array_equal(y[np.abs(x) < 0.35], x[np.abs(x) < 0.35])
    slope = np.diff(y) / np.diff(x)
    assert slope.min() > -1e-3
    assert np.abs(np.diff(slope)).max() < 0.05


def test_head_motion_turns_about_the_pivot() -> None:
    pivot = np.array([1.0, -7.0, -101.0], np.float32)
    motion = np.zeros(72, np.float32)
    np.testing.assert_array_equal(head_motion(motion, pivot, 9.0), np.eye(3, 4, dtype=np.float32))
    motion[MOTION.index("ry")] = np.radians(10)
    head = head_motion(motion, pivot, 9.0)
    np.testing.assert_allclose(head[:, :3] @ pivot + head[:, 3], pivot, atol=1e-4)
    nose = head[:, :3] @ (pivot + np.array([0, 0, 10], np.float32)) + head[:, 3]
    assert nose[0] > pivot[0] + 1.5  # to image right


def test_geometry_equals_dense_arithmetic() -> None:
    rng = np.random.default_rng(3)
    dense = rng.normal(0, 1, (5, 40, 3)).astype(np.float32) * (rng.random((5, 40, 1)) < 0.4)
    base, weights = rng.normal(0, 1, (40, 3)).astype(np.float32), rng.random(5).astype(np.float32)
    units = pack_units(dense.astype(np.float32), 0.0)
    out = np.empty_like(base)
    deform(base, weights, units.offset, units.vertex, units.value, out)
    np.testing.assert_allclose(out, base + np.tensordot(weights, dense, 1), atol=1e-5)


def test_projection_agrees_with_the_fit() -> None:
    fit, face = portrait().fit, identity()
    out = np.empty_like(face.neutral)
    vertices = fit.vertices().astype(np.float32)
    focal, cx, cy = (float(v) for v in face.intrinsics)
    project(vertices, face.weight, face.camera, np.eye(3, 4, dtype=np.float32), focal, cx, cy, out)
    np.testing.assert_allclose(out, fit.project(vertices), atol=5e-3)


def test_borders_hold_only_what_would_open_a_gap() -> None:
    displacement = np.array([[5, 0], [-5, 0], [0, 4], [0, -4]], np.float32)
    hold = np.tile(np.array([1, 0, 1, 0], np.float32), (4, 1))  # left and top border
    hold_borders(displacement, hold)
    np.testing.assert_array_equal(displacement, [[0, 0], [-5, 0], [0, 0], [0, -4]])


def test_warm_up_compiles() -> None:
    warm_up()
