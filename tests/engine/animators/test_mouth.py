"""The mouth interior: appears when lips part, is lit from the opening, reuses the photo's teeth."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.animators.mesh.mouth import MouthLayer
from engine.animators.mesh.mouthcolour import mouth_colours, vertex_colours
from engine.animators.mesh.mouthlight import LipLine, light_interior
from engine.animators.mesh.mouthphoto import photo_mouth
from engine.face.basis import load_basis
from engine.face.residual import INNER_LIPS
from kernels.raster import Canvas
from tests.engine.animators.faces import Face, face

Float = NDArray[np.float32]
ROWS = INNER_LIPS.ravel()


@pytest.fixture(params=["astronaut.png", "character.png"])
def someone(request: pytest.FixtureRequest) -> Face:
    return face(request.param)


def _layer(someone: Face) -> MouthLayer:
    return MouthLayer(MouthLayer.prepare(someone.source), load_basis())


def _draw(someone: Face, motion: Float) -> tuple[Canvas, Canvas, Float]:
    """Canvas before and after the layer, and the inner lips of the frame [2, 11, 2]."""
    frame = someone.frame(motion)
    before, after = someone.window(frame, ROWS), someone.window(frame, ROWS)
    _layer(someone).draw(after, frame, 0)
    return before, after, frame.landmarks[INNER_LIPS]


def _opening(canvas: Canvas, lips: Float, shrink: float = 1.0) -> NDArray[np.bool_]:
    outline = np.concatenate([lips[0], lips[1, ::-1]])
    outline = (outline - outline.mean(0)) * shrink + outline.mean(0)
    samples = (outline - [canvas.x0, canvas.y0] + 0.5) * 2 - 0.5
    mask = np.zeros(canvas.depth.shape, np.uint8)
    cv2.fillPoly(mask, [samples.round().astype(np.int32)], 1)
    return mask > 0


def test_rest_is_left_to_the_photo(someone: Face) -> None:
    before, after, _ = _draw(someone, someone.identity.rest)
    assert np.array_equal(before.pixels, after.pixels)


def test_closed_lips_hide_everything(someone: Face) -> None:
    frame = someone.frame(someone.motion(jawOpen=0.0))
    frame.landmarks[INNER_LIPS[1]] = frame.landmarks[INNER_LIPS[0]]
    before, after = someone.window(frame, ROWS), someone.window(frame, ROWS)
    _layer(someone).draw(after, frame, 0)
    assert np.array_equal(before.pixels, after.pixels)


def test_open_mouth_is_covered_completely(someone: Face) -> None:
    frame = someone.frame(someone.motion(jawOpen=0.6))
    canvas = someone.window(frame, ROWS)
    canvas.pixels[:] = (0.0, 255.0, 0.0)
    _layer(someone).draw(canvas, frame, 0)
    inside = canvas.pixels[_opening(canvas, frame.landmarks[INNER_LIPS], 0.97)]
    green = (inside[:, 1] > 200) & (inside[:, 0] < 60)
    assert len(inside) > 500
    assert not green.any()


def test_teeth_are_bright_and_the_throat_dark(someone: Face) -> None:
    smile = {"mouthUpperUpLeft": 0.6, "mouthUpperUpRight": 0.6, "jawOpen": 0.25}
    _, after, lips = _draw(someone, someone.motion(**smile))
    inside = after.pixels[_opening(after, lips)].mean(-1)
    assert np.percentile(inside, 97) > 1.6 * np.percentile(inside, 10)


def test_a_slit_lets_less_light_in() -> None:
    basis = load_basis()
    part = basis.part("teeth_upper")
    xyz = np.ascontiguousarray(basis.mean[part] * [20, -20, -1] + [256, 256, 100], np.float32)
    normals = np.tile(np.array([0, 0, 1], np.float32), (len(xyz), 1))
    base = np.full((len(xyz), 3), 200, np.float32)
    gloss = np.tile(np.array([0.1, 20, 0.2, 0.5, 0.0], np.float32), (len(xyz), 1))
    light = np.array([0.0, 0.34, 0.94], np.float32)
    seen = []
    for half in (0.01, 0.1, 0.4):
        y = float(xyz[:, 1].mean())
        x = np.linspace(xyz[:, 0].min() - 20, xyz[:, 0].max() + 20, 11)
        lips = np.stack([np.stack([x, np.full(11, y + s * half * 20)], 1) for s in (-1, 1)]).astype(
            np.float32
        )
        out = np.empty((len(xyz), 4), np.float32)
        light_interior(xyz, normals, base, gloss, light, *LipLine.of(lips, xyz[:, 2], 20.0).arrays(), out)
        reached = out[:, 3]
        assert float(reached.max()) <= 1.0
        seen.append(float(reached[reached >= 0].mean()))
    assert seen[0] < 0.7 * seen[1] < seen[2]


def test_tongue_moves_with_its_units(someone: Face) -> None:
    _, out, lips = _draw(someone, someone.motion(jawOpen=0.45, tongueOut=1.0))
    _, rest, _ = _draw(someone, someone.motion(jawOpen=0.45))
    inside = _opening(out, lips, 0.8)
    assert np.abs(out.pixels - rest.pixels)[inside].mean() > 4.0


def test_photo_teeth_are_reused_only_where_there_are_teeth() -> None:
    basis = load_basis()
    vertices = np.arange(basis.part("socket").start, basis.part("teeth_lower").stop, dtype=np.int32)
    upper = 1.0 - basis.lower[vertices]
    smiling = photo_mouth(face("astronaut.png").source, vertices, upper)
    teeth = (vertices >= basis.part("teeth_upper").start) & (vertices < basis.part("teeth_upper").stop)
    assert smiling.weight[teeth].max() > 0.8
    assert smiling.weight[~teeth].max() < 0.5
    assert abs(smiling.drop) <= 0.4
    closed = face("character.png").source
    lips = closed.landmarks[INNER_LIPS]
    if float((lips[1, :, 1] - lips[0, :, 1]).max()) < 2.0:
        assert not photo_mouth(closed, vertices, upper).weight.any()


def test_colours_follow_the_photo() -> None:
    """The same face under red light has redder teeth and gums."""
    source = face("astronaut.png").source
    tinted = np.clip(source.crop * np.array([1.0, 0.7, 0.6]), 0, 255).astype(np.uint8)
    plain, red = mouth_colours(source), mouth_colours(replace(source, crop=tinted))
    for name in ("tooth", "tongue", "gum"):
        a, b = getattr(plain, name), getattr(red, name)
        assert b[0] / b[2] > 1.08 * a[0] / a[2]
    base, gloss = vertex_colours(source.basis, plain)
    upper = source.basis.part("teeth_upper")
    assert plain.tooth.mean() > 1.1 * plain.tongue.mean() > plain.dark.mean()
    assert base[upper].std(0).min() > 1.0  # not one flat colour
    assert gloss[upper].min() >= 0.0


def test_layer_survives_saving(someone: Face, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("mouth") / "layer.npz"
    np.savez(path, **MouthLayer.prepare(someone.source))  # type: ignore[arg-type]
    with np.load(path) as arrays:
        loaded = MouthLayer(dict(arrays), load_basis())
    frame = someone.frame(someone.motion(jawOpen=0.4))
    first, second = someone.window(frame, ROWS), someone.window(frame, ROWS)
    _layer(someone).draw(first, frame, 0)
    loaded.draw(second, frame, 0)
    loaded.draw(again := someone.window(frame, ROWS), frame, 0)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(second.pixels, again.pixels)
