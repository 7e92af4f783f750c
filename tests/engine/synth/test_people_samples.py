"""Samples of synthetic people: coverage, depth, perspective, and the way back into a picture."""

from __future__ import annotations

import numpy as np
import pytest

from engine.synth.people import raster
from engine.synth.people.samples import compose, first_places, gather, scatter, taps, veil

S = 48
LENS = np.array([60.0, 23.5, 23.5], np.float32)
HERE = np.eye(4, dtype=np.float32)
NO_COVER = np.zeros((2, 2), np.float32)
QUAD = np.array([[0, 1, 2], [2, 1, 3]], np.int32)


def _stood(points: list[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.zeros((len(points), 16), np.float32)
    table[:, :3], table[:, 3] = points, 1.0
    stood, screen = table.copy(), np.zeros((len(points), 4), np.float32)
    raster.place(table, 0, len(points), True, HERE, HERE, stood)
    raster.screen_of(stood, 0, len(points), LENS, 1.0, screen)
    return stood, screen


def _tilted() -> tuple[np.ndarray, np.ndarray]:
    """A wall that leans far back: 20 cm away at its foot, 60 at its top."""
    return _stood([(-5.0, -5.0, -20.0), (5.0, -5.0, -20.0), (-15.0, 15.0, -60.0), (15.0, 15.0, -60.0)])


def _drawn(screen: np.ndarray, stood: np.ndarray, holes: int = raster.SOLID) -> tuple[np.ndarray, np.ndarray]:
    ids, near = np.zeros((S, S), np.int32), np.zeros((S, S), np.float32)
    raster.draw(ids, near, screen, stood, QUAD, 1 << 24, 0, holes, NO_COVER, 0.0)
    return ids, near


@pytest.mark.parametrize("seed", range(5))
def test_a_triangle_covers_the_samples_inside_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    screen = np.zeros((3, 4), np.float32)
    screen[:, :2], screen[:, 2] = rng.uniform(-10, S + 10, (3, 2)), 0.1
    ids, near = np.zeros((S, S), np.int32), np.zeros((S, S), np.float32)
    table, one = np.zeros((3, 16), np.float32), np.array([[0, 1, 2]], np.int32)
    raster.draw(ids, near, screen, table, one, 7, 0, raster.SOLID, NO_COVER, 0.0)
    y, x = np.mgrid[0:S, 0:S]
    a, b, c = screen[:, :2].astype(float)
    edges = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in ((a, b), (b, c), (c, a))]
    sign = np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
    margin = np.min([e * sign for e in edges], axis=0)
    assert (ids[margin > 0.05] == 7).all()
    assert not ids[margin < -0.05].any()
    assert np.allclose(near[ids == 7], 0.1)


def test_two_triangles_leave_no_gap_and_the_nearer_surface_wins() -> None:
    stood, screen = _tilted()
    ids, near = _drawn(screen, stood)
    inside = ids[10:-10, 12:-12]
    assert (inside > 0).all()
    front, seen = _stood([(-2.0, -2.0, -10.0), (2.0, -2.0, -10.0), (-2.0, 2.0, -10.0), (2.0, 2.0, -10.0)])
    raster.draw(ids, near, seen, front, QUAD, 2 << 24, 0, raster.SOLID, NO_COVER, 0.0)
    assert ids[24, 24] >> 24 == 2
    before = ids.copy()
    raster.draw(ids, near, screen, stood, QUAD, 3 << 24, 0, raster.SOLID, NO_COVER, 0.0)
    assert np.array_equal(ids, before)  # what lies behind or at the same place changes nothing


def test_culling_drops_one_winding_and_a_rim_cuts_holes() -> None:
    stood, screen = _tilted()
    ids = [np.zeros((S, S), np.int32) for _ in range(2)]
    for k, cull in enumerate((1, -1)):
        near = np.zeros((S, S), np.float32)
        raster.draw(ids[k], near, screen, stood, QUAD, 1 << 24, cull, raster.SOLID, NO_COVER, 0.0)
    assert (ids[0] > 0).any() != (ids[1] > 0).any()
    screen[:, 3] = [-1.0, 1.0, -1.0, 1.0]  # the left half is a hole
    cut, _ = _drawn(screen, stood, raster.RIM)
    assert not cut[:, :23].any()
    assert cut[24, 25:30].all()


def test_cards_are_drawn_where_their_texture_covers() -> None:
    stood, screen = _stood([(-5.0, -5.0, -20.0), (5.0, -5.0, -20.0), (-5.0, 5.0, -20.0), (5.0, 5.0, -20.0)])
    stood[:, 7], stood[:, 11] = [0.0, 1.0, 0.0, 1.0], [0.9, 0.9, 0.1, 0.1]
    cover = np.zeros((8, 16), np.float32)
    cover[:, 8:] = 1.0
    ids, near = np.zeros((S, S), np.int32), np.zeros((S, S), np.float32)
    raster.draw(ids, near, screen, stood, QUAD, 1 << 24, 0, raster.CARD, cover, 0.5)
    assert not ids[24, 12:23].any()
    assert ids[24, 26:36].all()
    stood[:, 12] = 1.0  # at the strands' ends the same cover is not enough
    ids[:], near[:] = 0, 0.0
    raster.draw(ids, near, screen, stood, QUAD, 1 << 24, 0, raster.CARD, cover, 0.7)
    assert not ids.any()


def test_gathered_rows_lie_on_the_ray_of_their_sample() -> None:
    stood, screen = _tilted()
    ids, _ = _drawn(screen, stood)
    corners = np.column_stack([QUAD, [3, 4]]).astype(np.int32)
    rows, where = np.zeros((40, 64, 16), np.float32), np.zeros((40, 64), np.int32)
    lines = np.zeros(4, np.int32)
    end = gather(ids, (1, 2), 0, stood, screen, corners, rows, where, lines)
    count = int((ids > 0).sum())
    assert lines[1] == 0
    assert lines[2] == end == -(-count // 64)
    used = where[:end].ravel() >= 0
    assert used.sum() == count
    at, sample = rows[:end].reshape(-1, 16)[used], where[:end].ravel()[used]
    x = LENS[1] - LENS[0] * at[:, 0] / at[:, 2]
    y = LENS[2] + LENS[0] * at[:, 1] / at[:, 2]
    assert np.abs(x - sample % S).max() < 0.01
    assert np.abs(y - sample // S).max() < 0.01
    assert np.abs(at[:, 2] - (-30.0 - 2.0 * at[:, 1])).max() < 0.01  # the wall's own plane
    assert set(at[:, 3]) == {3.0, 4.0}


def test_first_places_follow_a_moved_surface() -> None:
    stood, screen = _tilted()
    ids, _ = _drawn(screen, stood)
    corners = np.column_stack([QUAD, [1, 1]]).astype(np.int32)
    before = stood.copy()
    before[:, 0] += 2.0  # in the first frame it was 2 cm to the right
    at, out = np.arange(0, S, 4, dtype=np.int32), np.empty((S // 4, S // 4, 3), np.float32)
    first_places(ids, at, before, screen, corners, LENS, out)
    seen = ids[at[:, None], at] > 0
    px = np.stack(np.meshgrid(at, at), 2)
    assert not out[~seen].any()
    assert np.abs(out[seen][:, 0] - px[seen][:, 0] - LENS[0] * 2.0 / out[seen][:, 2]).max() < 0.01
    assert np.abs(out[seen][:, 1] - px[seen][:, 1]).max() < 0.01


@pytest.mark.parametrize(("side", "size"), [(48, 32), (40, 32), (32, 32), (64, 32), (50, 32)])
def test_taps_average_by_area(side: int, size: int) -> None:
    first, weight = taps(side, size)
    assert np.allclose(weight.sum(1), 1.0, atol=1e-6)
    assert first.min() >= 0
    assert (first + weight.shape[1]).max() <= side
    total = np.zeros(side)
    for f, w in zip(first, weight, strict=True):
        total[f : f + len(w)] += w
    assert np.allclose(total, size / side, atol=1e-6)


def test_colours_return_to_their_samples_and_the_backdrop_shows_elsewhere() -> None:
    shaded = np.zeros((2, 4, 4), np.uint8)
    shaded[0, :3] = [[10, 20, 30, 1], [40, 50, 60, 2], [70, 80, 90, 3]]
    where = np.array([[5, 0, 15, -1], [-1, -1, -1, -1]], np.int32)
    samples = np.full((4, 4, 4), 9, np.uint8)
    scatter(shaded, where, samples)
    assert samples[1, 1].tolist() == [10, 20, 30, 1]
    assert samples[3, 3].tolist() == [70, 80, 90, 3]
    assert not samples[2].any()
    backdrop = np.full((2, 2, 3), 200, np.uint8)
    out = np.empty((2, 2, 3), np.float32)
    compose(samples, backdrop, *taps(4, 2), out)
    assert np.allclose(out[0, 1], 200.0)
    assert np.allclose(out[1, 1], 0.75 * 200.0 + 0.25 * np.array([70, 80, 90]))
    glass = np.array([[[100, 100, 100, 51]]], np.uint8)
    veil(glass, np.array([[3]], np.int32), samples, backdrop, 13)
    assert samples[0, 3].tolist() == [180, 180, 180, 13]
