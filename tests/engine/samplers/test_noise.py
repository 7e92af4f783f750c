"""Counter-based noise: uniform, independent, stateless, smooth."""

from __future__ import annotations

import numpy as np

from engine.samplers.noise import normals, smooths, uniforms

SEEDS = np.array([0, 1, 2**63 + 5], dtype=np.uint64)


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    values = np.concatenate([uniforms(SEEDS, 7, frame, 4).ravel() for frame in range(5000)])
    assert values.min() >= 0.0
    assert values.max() < 1.0
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    assert np.abs(counts / counts.mean() - 1).max() < 0.05


def test_streams_seeds_and_frames_are_independent() -> None:
    a = np.stack([uniforms(SEEDS, 0, f, 2)[0] for f in range(4000)])
    b = np.stack([uniforms(SEEDS, 1, f, 2)[0] for f in range(4000)])
    stacked = np.concatenate([a, b, np.roll(a, 1, axis=0)], axis=1)
    correlation = np.corrcoef(stacked.T) - np.eye(9)
    assert np.abs(correlation).max() < 0.08


def test_the_same_key_gives_the_same_number_in_any_order_and_batch() -> None:
    whole = uniforms(SEEDS, 3, 10**9, 5)
    assert np.array_equal(whole[:, 1:2], uniforms(SEEDS[1:2], 3, 10**9, 5))
    assert np.array_equal(whole[2:], uniforms(SEEDS, 5, 10**9, 3))
    assert np.array_equal(uniforms(SEEDS, 3, -4, 1), uniforms(SEEDS, 3, -4, 1))


def test_normals_have_unit_variance() -> None:
    values = np.concatenate([normals(SEEDS, 3, f, 3).ravel() for f in range(4000)])
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02


def test_smooth_noise_is_bounded_and_continuous_across_lattice_cells() -> None:
    positions = np.arange(-5, 400, 0.01)
    wave = np.stack([smooths(SEEDS, 9, np.array([p]))[0] for p in positions])
    assert np.abs(wave).max() < 1.0
    assert 0.3 < wave.std() < 0.5
    # Slope at most 2 per cell for lattice values within ±1, so 0.02 a step.
    assert np.abs(np.diff(wave, axis=0)).max() < 0.02
