"""Background fill: the photo outside stays, the ring inside continues it."""

from __future__ import annotations

import cv2
import numpy as np

from engine.face.inpaint import fill_background, push_pull


def _hole() -> np.ndarray:
    matte = np.zeros((512, 512), np.float32)
    cv2.ellipse(matte, (256, 300), (110, 190), 0, 0, 360, 1.0, -1)
    return matte


def _ring(matte: np.ndarray, depth: int) -> np.ndarray:
    """Pixels inside the hole at most ``depth`` px from its edge."""
    distance = cv2.distanceTransform((matte > 0.03).astype(np.uint8), cv2.DIST_L2, 5)
    return (distance > 6) & (distance < depth)


def _person(scene: np.ndarray, matte: np.ndarray) -> np.ndarray:
    covered = scene.copy()
    covered[matte > 0] = (200, 40, 160)
    return covered


def test_background_stays_as_it_is() -> None:
    scene = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    matte = _hole()
    filled = fill_background(_person(scene, matte), matte)
    far = cv2.dilate((matte > 0).astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    assert np.array_equal(filled[far], scene[far])


def test_nothing_to_fill() -> None:
    scene = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(fill_background(scene, np.zeros((64, 64), np.float32)), scene)


def test_everything_to_fill_does_not_fail() -> None:
    scene = np.full((512, 512, 3), 90, np.uint8)
    filled = fill_background(scene, np.ones((512, 512), np.float32))
    assert filled.shape == scene.shape


def test_gradient_is_continued() -> None:
    ramp = np.linspace(40, 220, 512)[None, :, None].repeat(512, 0).repeat(3, 2)
    scene = ramp.astype(np.uint8)
    matte = _hole()
    filled = fill_background(_person(scene, matte), matte)
    ring = _ring(matte, 60)
    assert np.abs(filled[ring].astype(float) - scene[ring]).mean() < 12.0


def test_texture_is_continued_not_blurred() -> None:
    y, x = np.mgrid[0:512, 0:512]
    stripes = np.where((x // 12 + y // 12) % 2, 190, 70)[..., None].repeat(3, 2).astype(np.uint8)
    matte = _hole()
    filled = fill_background(_person(stripes, matte), matte)
    ring = _ring(matte, 50)
    assert filled[ring].std() > 0.7 * stripes[ring].std()
    assert abs(float(filled[ring].mean()) - float(stripes[ring].mean())) < 15
    # The person's colour is gone.
    assert np.abs(filled[ring].astype(int) - [200, 40, 160]).sum(1).min() > 40


def test_same_photo_same_background() -> None:
    scene = np.random.default_rng(1).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), 3), np.uint8)
    matte = _hole()
    first, second = fill_background(scene, matte), fill_background(scene, matte)
    assert np.array_equal(first, second)


def test_push_pull_keeps_known_and_fills_smoothly() -> None:
    image = np.full((33, 47, 3), 100.0, np.float32)
    known = np.ones((33, 47), np.float32)
    known[10:20, 10:30] = 0.0
    image[10:20, 10:30] = 999.0
    filled = push_pull(image, known)
    assert np.allclose(filled, 100.0, atol=1e-2)
