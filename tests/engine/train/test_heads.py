"""Photo scenes: another appearance changes the person, not the geometry."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.render import SIZE, FrameBuffers
from engine.config import asset_path
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.train.heads import _another, _moved, portraits_in
from engine.types import MOTION


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return analyse_portrait(load_image(asset_path("demo/astronaut.png")))


def test_the_share_decides_and_the_seed_repeats(portrait: Portrait) -> None:
    same, worn = _another(portrait, 5, 0.0, ())
    assert same is portrait
    assert worn is None
    changed, _ = _another(portrait, 5, 1.0, ())
    again, _ = _another(portrait, 5, 1.0, ())
    assert (changed.crop == again.crop).all()
    assert changed.crop.shape == portrait.crop.shape
    assert (changed.crop != portrait.crop).any()
    assert changed.fit is portrait.fit
    assert changed.landmarks is portrait.landmarks
    kept = sum(_another(portrait, seed, 0.02, ())[0] is portrait for seed in range(30))
    assert kept >= 27


def test_moved_fit_is_where_the_renderer_puts_the_head(portrait: Portrait) -> None:
    animator = MeshAnimator()
    identity = animator.prepare(portrait)
    renderer = animator.renderer(identity)
    buffers, frame = FrameBuffers.for_basis(renderer.basis), np.empty((SIZE, SIZE, 3), np.uint8)
    skull = identity.weight > 0.999
    for column, value in ((MOTION.rotation.start + 1, 0.25), (MOTION.translation.start, 0.2)):
        motion = identity.rest.copy()
        motion[column] += value
        renderer.draw(motion, buffers, frame)
        moved = _moved(portrait.fit, identity, motion)
        away = np.linalg.norm(moved.project(moved.vertices())[:, :2] - buffers.projected[:, :2], axis=1)
        still = portrait.fit.project(portrait.fit.vertices())[:, :2]
        shift = np.linalg.norm(still - buffers.projected[:, :2], axis=1)
        assert np.median(away[skull]) < 0.5
        assert np.median(shift[skull]) > 5.0


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_portraits_as_asked_for(count: int) -> None:
    frames = 400
    track: dict[str, NDArray[np.generic]] = {
        "motion": np.zeros((frames, MOTION.size), np.float32),
        "rest": np.zeros(MOTION.size, np.float32),
        "blink": np.zeros(frames, np.float32),
        "confidence": np.ones(frames, np.float32),
    }
    taken = portraits_in(track, count)
    assert len(taken) == len(set(taken)) == count
