"""Meshes drawn as flow: what a known motion must give, beyond the laws that all kernels keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kernels.fuse import fuse
from kernels.raster_flow import Impl, raster_flow

Floats = NDArray[np.float32]


def sheet(n: int, low: float, high: float) -> tuple[Floats, NDArray[np.int32]]:
    """A flat grid of n x n vertices [1, n * n, 3] over low..high, wound to face the camera."""
    y, x = np.meshgrid(*[np.linspace(low, high, n, dtype=np.float32)] * 2, indexing="ij")
    q = np.arange(n * n, dtype=np.int32).reshape(n, n)
    a, b, c, d = q[:-1, :-1].ravel(), q[:-1, 1:].ravel(), q[1:, 1:].ravel(), q[1:, :-1].ravel()
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)])
    return np.stack([x, y, np.full_like(x, 5.0)], -1).reshape(1, -1, 3), triangles


def drawn(xyz: Any, triangles: Any, source: Any, size: tuple[int, int], **options: Any) -> tuple[Any, Any]:
    flow, mask = np.full((1, *size, 2), 9, np.float32), np.full((1, *size), 9, np.float32)
    raster_flow(xyz, triangles, source, flow, mask, **options)
    return flow[0], mask[0]


@pytest.mark.parametrize("impl", ["ref", "cpu"])
@pytest.mark.parametrize("size", [(40, 40), (10, 10), (13, 7)])
def test_a_shifted_sheet_gives_one_flow_at_every_resolution(impl: Impl, size: tuple[int, int]) -> None:
    """The frame is 40 x 40 whatever the map's size; the flow is in frame pixels."""
    xyz, triangles = sheet(6, -5, 45)
    source = xyz[..., :2] + np.array([3.25, -1.5], np.float32)
    flow, mask = drawn(xyz, triangles, source, size, frame=(40, 40), impl=impl)
    assert (mask == 1).all()
    np.testing.assert_allclose(flow, np.broadcast_to([3.25, -1.5], flow.shape), atol=2e-2)


def test_cells_beside_the_mesh_are_zero() -> None:
    xyz, triangles = sheet(3, 4.0, 8.0)
    flow, mask = drawn(xyz, triangles, xyz[..., :2] + 1, (16, 16), frame=(16, 16))
    assert mask.sum() == 16
    assert mask[4:8, 4:8].all()
    assert not flow[mask == 0].any()
    np.testing.assert_allclose(flow[mask == 1], 1.0, atol=1e-2)


@pytest.mark.parametrize("impl", ["ref", "cpu"])
def test_the_nearer_sheet_hides_the_other(impl: Impl) -> None:
    xyz, triangles = sheet(3, -2.0, 12.0)
    nearer = xyz.copy()
    nearer[..., 2] = 4.0
    both = np.concatenate([xyz, nearer], 1)
    faces = np.concatenate([triangles, triangles + xyz.shape[1]])
    source = np.concatenate([xyz[..., :2] + 7, xyz[..., :2] - 2], 1)
    for order in (faces, faces[::-1].copy()):
        flow, _ = drawn(both, order, source, (10, 10), frame=(10, 10), impl=impl)
        np.testing.assert_allclose(flow, -2.0, atol=1e-2)


def test_faces_that_turn_away_are_dropped_unless_asked_for() -> None:
    xyz, triangles = sheet(3, -2.0, 12.0)
    away = triangles[:, ::-1].copy()
    assert not drawn(xyz, away, xyz[..., :2], (10, 10), frame=(10, 10))[1].any()
    assert drawn(xyz, away, xyz[..., :2], (10, 10), frame=(10, 10), cull=False)[1].all()


def test_flow_feeds_the_warp() -> None:
    """A sheet that moved by whole pixels, drawn as a quarter-size flow, moves the picture so."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    xyz, triangles = sheet(9, -8.0, 40.0)
    flow, mask = np.zeros((1, 8, 8, 2), np.float32), np.zeros((1, 8, 8), np.float32)
    raster_flow(xyz, triangles, xyz[..., :2] + np.array([4, 2], np.float32), flow, mask, frame=(32, 32))
    out = np.zeros_like(picture)
    fuse(picture, picture, flow.round(2), mask, None, out)
    assert np.abs(out[0, :-2, :-4].astype(int) - picture[0, 2:, 4:]).mean() < 1.0


def test_channels_first_buffers_are_written_in_place() -> None:
    xyz, triangles = sheet(4, -2.0, 12.0)
    buffer = torch.zeros(1, 3, 5, 6)
    nhwc = buffer.permute(0, 2, 3, 1)
    faces, moved = torch.from_numpy(triangles), torch.from_numpy(xyz)
    raster_flow(moved, faces, moved[..., :2] + 2, nhwc[..., :2], nhwc[..., 2], frame=(10, 12))
    torch.testing.assert_close(buffer[0, 0], torch.full((5, 6), 2.0), atol=2e-2, rtol=0)
    assert bool((buffer[0, 2] == 1).all())


def test_wrong_input_is_refused() -> None:
    xyz, triangles = sheet(3, 0.0, 4.0)
    flow, mask = np.zeros((1, 4, 4, 2), np.float32), np.zeros((1, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"source must be float32 \[1, 9, 2\]"):
        raster_flow(xyz, triangles, xyz, flow, mask, frame=(4, 4))
    with pytest.raises(ValueError, match="triangles must be int32"):
        raster_flow(xyz, triangles.astype(np.int64), xyz[..., :2], flow, mask, frame=(4, 4))
    with pytest.raises(ValueError, match="frame"):
        raster_flow(xyz, triangles, xyz[..., :2], flow, mask, frame=(0, 4))
