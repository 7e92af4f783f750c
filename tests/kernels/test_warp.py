"""The fast warp against the reference, and what an inverse must do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.warp import compose, dense_map, invert_grid

Float = NDArray[np.float32]


def smooth_grid(rows: int, columns: int, amplitude: float, seed: int = 0) -> Float:
    """A displacement field [rows, columns, 2] whose neighbours never cross at 8 px cells."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns] / max(rows, columns) * 2 * np.pi
    phase = rng.uniform(0, 6, (2, 2))
    field = [np.sin(x + p) * np.cos(y + q) for p, q in phase]
    return (amplitude * np.stack(field, -1)).astype(np.float32)


@pytest.mark.parametrize("shape", [(9, 9), (5, 12), (2, 2), (65, 65)])
@pytest.mark.parametrize("amplitude", [0.0, 5.0, 20.0])
def test_inverse_equals_reference(shape: tuple[int, int], amplitude: float) -> None:
    forward = np.zeros((shape[0] + 2, shape[1] + 1, 2), np.float32)[2:, 1:]  # a strided view
    forward[...] = smooth_grid(*shape, amplitude)
    fast, slow = np.empty_like(forward), np.empty_like(forward)
    invert_grid(forward, fast, 8.0)
    invert_grid(forward, slow, 8.0, impl="reference")
    # Where the grid folds the iteration is chaotic and only the bulk can agree.
    assert np.quantile(np.abs(fast - slow), 0.95 if amplitude > 5 else 1.0) < 2e-3


def test_inverse_undoes_the_displacement() -> None:
    forward = smooth_grid(33, 33, 9.0)
    backward = np.empty_like(forward)
    invert_grid(forward, backward, 8.0)
    positions = np.empty((256, 256, 2), np.float32)
    dense_map(backward, positions, 8)
    there = np.empty_like(positions)
    dense_map(forward, there, 8)  # absolute destination of every pixel
    inner = slice(40, 216)
    x = np.clip(there[inner, inner, 0].round().astype(int), 0, 255)
    y = np.clip(there[inner, inner, 1].round().astype(int), 0, 255)
    gy, gx = np.mgrid[inner, inner]
    error = np.hypot(positions[y, x, 0] - gx, positions[y, x, 1] - gy)
    assert np.median(error) < 0.6  # rounding to whole pixels alone gives about 0.4
    assert error.max() < 1.6


@pytest.mark.parametrize("size", [(64, 64), (61, 50), (1, 7), (8, 9)])
@pytest.mark.parametrize("cell", [8, 16, 5])
def test_dense_map_equals_reference(size: tuple[int, int], cell: int) -> None:
    backward = smooth_grid(size[0] // cell + 2, size[1] // cell + 2, 7.0, seed=1)
    fast, slow = np.empty((*size, 2), np.float32), np.empty((*size, 2), np.float32)
    dense_map(backward, fast, cell)
    dense_map(backward, slow, cell, impl="reference")
    np.testing.assert_allclose(fast, slow, atol=1e-4)


@pytest.mark.parametrize("cut", [1, 8, 29, 60])
def test_dense_map_in_bands_is_the_whole(cut: int) -> None:
    backward = smooth_grid(9, 8, 7.0, seed=1)
    whole, bands = np.empty((61, 50, 2), np.float32), np.empty((61, 50, 2), np.float32)
    dense_map(backward, whole, 8)
    dense_map(backward, bands[:cut], 8)
    dense_map(backward, bands[cut:], 8, cut)
    np.testing.assert_array_equal(bands, whole)


def test_dense_map_beyond_the_grid_is_refused() -> None:
    backward = np.zeros((3, 3, 2), np.float32)
    for first in (-1, 9):
        with pytest.raises(ValueError, match="does not cover rows"):
            dense_map(backward, np.zeros((8, 16, 2), np.float32), 8, first)


def test_no_displacement_is_the_identity() -> None:
    positions = np.empty((48, 48, 2), np.float32)
    dense_map(np.zeros((7, 7, 2), np.float32), positions, 8)
    gy, gx = np.mgrid[0:48, 0:48]
    np.testing.assert_array_equal(positions, np.stack([gx, gy], -1))


@pytest.mark.parametrize("size", [(16, 16), (7, 13), (1, 1)])
def test_compose_equals_reference(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    wide = rng.integers(0, 256, (size[0], size[1] * 2, 4)).astype(np.uint8)
    foreground = wide[:, ::2]
    background = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    fast, slow = np.empty_like(background), np.empty_like(background)
    compose(foreground, background, fast)
    compose(foreground, background, slow, impl="reference")
    np.testing.assert_array_equal(fast, slow)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="does not cover"):
        dense_map(np.zeros((3, 3, 2), np.float32), np.zeros((17, 16, 2), np.float32), 8)
    with pytest.raises(ValueError, match="sizes differ"):
        compose(np.zeros((4, 4, 4), np.uint8), np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 3), np.uint8))
