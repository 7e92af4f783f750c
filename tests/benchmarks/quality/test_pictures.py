"""Picture metrics on pictures whose answers are known."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.quality.pictures import colour_distance, cpbd, flicker, grainy, mean_in, psnr, ssim_map
from engine.config import asset_path
from engine.face.image import load_image

Bytes = NDArray[np.uint8]


def photo() -> Bytes:
    return np.ascontiguousarray(load_image(asset_path("demo/astronaut.png")).rgb[:512, :512])


def noisy(picture: Bytes, deviation: float) -> Bytes:
    noise = np.random.default_rng(0).normal(0.0, deviation, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


def everywhere(picture: Bytes) -> NDArray[np.bool_]:
    return np.ones(picture.shape[:2], np.bool_)


def test_equal_pictures_have_no_distance() -> None:
    picture = photo()
    assert ssim_map(picture, picture).min() == pytest.approx(1.0, abs=1e-3)
    assert psnr(picture, picture) == pytest.approx(100.0)
    assert colour_distance(picture, everywhere(picture), picture, everywhere(picture)) < 1e-3


def test_psnr_is_that_of_the_noise() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    assert psnr(grey, grey + 5) == pytest.approx(20 * np.log10(255 / 5))
    half = np.zeros((128, 128), np.bool_)
    half[:64] = True
    other = grey.copy()
    other[:64] += 10
    assert psnr(grey, other, half) == pytest.approx(20 * np.log10(255 / 10))
    assert np.isnan(psnr(grey, other, ~everywhere(grey)))


def test_grain_is_noise_of_the_deviation_asked_for() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    worse = grainy(grey, np.random.default_rng(1), 3.0).astype(float)
    assert worse.mean() == pytest.approx(128.0, abs=0.1)
    assert worse.std() == pytest.approx(3.0, rel=0.03)


def test_ssim_of_constant_pictures_is_wangs_formula() -> None:
    a, b = np.full((64, 64, 3), 100, np.uint8), np.full((64, 64, 3), 120, np.uint8)
    c = (0.01 * 255) ** 2
    assert ssim_map(a, b).mean() == pytest.approx((2 * 100 * 120 + c) / (100**2 + 120**2 + c), abs=1e-3)


def test_ssim_falls_with_noise_where_the_noise_is() -> None:
    picture = photo()
    worse = picture.copy()
    worse[:256] = noisy(picture, 20.0)[:256]
    found = ssim_map(picture, worse)
    below = np.zeros(found.shape, np.bool_)
    below[270:] = True
    assert mean_in(found, below) > 0.999
    assert mean_in(found, ~below) < 0.9


def test_blur_lowers_cpbd_step_by_step() -> None:
    picture = photo()
    found = [cpbd(picture)]
    found += [cpbd(np.asarray(cv2.GaussianBlur(picture, (0, 0), s), np.uint8)) for s in (0.5, 0.7, 2.0)]
    assert found[0] > 0.2
    assert all(sharper > softer + 0.02 for sharper, softer in pairwise(found[:3]))
    assert found[3] < 0.01


@pytest.mark.parametrize(("width", "low", "high", "sharp"), [(2, 60, 160, 1.0), (8, 60, 160, 0.0)])
def test_cpbd_of_ramps_of_known_width(width: int, low: int, high: int, sharp: float) -> None:
    row = np.full(512, low, np.float32)
    for start in range(20, 500, 64):
        row[start : start + width + 1] = np.linspace(low, high, width + 1)
        row[start + width + 1 : start + 32] = high
        row[start + 32 : start + 33 + width] = np.linspace(high, low, width + 1)
    picture = np.repeat(np.tile(np.round(row).astype(np.uint8), (512, 1))[..., None], 3, axis=2)
    assert cpbd(picture) == sharp


def test_low_contrast_hides_more_blur() -> None:
    """An edge 4 px wide: seen at 3 px where contrast is high, not at 5 px where it is low."""
    for high, sharp in ((160, 0.0), (100, 1.0)):
        row = np.full(512, 60, np.float32)
        for start in range(20, 500, 64):
            row[start : start + 5] = np.linspace(60, high, 5)
            row[start + 5 : start + 32] = high
            row[start + 32 : start + 37] = np.linspace(high, 60, 5)
        picture = np.repeat(np.tile(np.round(row).astype(np.uint8), (512, 1))[..., None], 3, axis=2)
        assert cpbd(picture) == sharp


def test_a_flat_picture_has_no_sharpness() -> None:
    assert np.isnan(cpbd(np.full((256, 256, 3), 90, np.uint8)))


def test_colour_distance_grows_with_the_shift_and_ignores_place() -> None:
    picture = photo()
    whole = everywhere(picture)
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    assert colour_distance(picture, whole, mirrored, whole) < 1e-3
    warm = [np.clip(picture.astype(int) + np.array([k, 0, -k]), 0, 255).astype(np.uint8) for k in (10, 40)]
    near, far = (colour_distance(picture, whole, w, whole) for w in warm)
    assert 0.02 < near < far < 1.0


def test_flicker_counts_what_trembles_in_a_still_face_only() -> None:
    still = [np.full((64, 64, 3), 100, np.uint8) for _ in range(6)]
    whole = [np.ones((64, 64), np.bool_)] * 6
    trembling = [f + (4 if t % 2 else 0) for t, f in enumerate(still)]
    # x, x+4, x: second difference 8 levels in every frame.
    made, real = flicker(trembling, still, whole)
    assert made == pytest.approx(8.0, abs=1e-3)
    assert real == 0.0
    fading = [f + 2 * t for t, f in enumerate(still)]
    assert flicker(fading, still, whole)[0] == pytest.approx(0.0, abs=1e-3)
    moving = [f.copy() for f in still]
    for t, frame in enumerate(moving):
        frame[:, :32] += 30 * (t % 2)
    spoiled = [f.copy() for f in still]
    for t, frame in enumerate(spoiled):
        frame[:, :24] += 40 * (t % 2)
    # The left half moves in the real video: what happens there is not flicker.
    assert flicker(spoiled, moving, whole)[0] < 0.05
    assert np.isnan(flicker(still, still, [~m for m in whole])[0])
