"""The definition, in torch on any device: every cell tested against every triangle."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["raster_flow", "to_cells"]


def to_cells(xyz: Tensor, frame: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """Vertices [..., 3] with x and y in cells instead of frame pixels; all bodies see these values."""
    # Plain numbers: a tensor made of them would be a copy from the host, which a CUDA graph cannot record.
    x = (xyz[..., 0] + 0.5) * (cells[1] / frame[1]) - 0.5
    y = (xyz[..., 1] + 0.5) * (cells[0] / frame[0]) - 0.5
    return torch.stack([x, y, xyz[..., 2]], -1)


def raster_flow(
    frame: tuple[int, int],
    cull: bool,
    xyz: Tensor,
    triangles: Tensor,
    source: Tensor,
    flow: Tensor,
    mask: Tensor,
) -> None:
    """See :func:`kernels.raster_flow.raster_flow`."""
    height, width = flow.shape[1:3]
    moved = to_cells(xyz, frame, (height, width))
    own_y = (torch.arange(height, device=flow.device) + 0.5) * (frame[0] / height) - 0.5
    own_x = (torch.arange(width, device=flow.device) + 0.5) * (frame[1] / width) - 0.5
    for b in range(xyz.shape[0]):
        depth = xyz.new_full((height, width), torch.inf)
        place = xyz.new_zeros(height, width, 2)
        for ids in triangles.long():
            _draw(moved[b, ids], source[b, ids], cull, depth, place)
        covered = depth < torch.inf
        own = torch.stack([own_x.expand(height, width), own_y[:, None].expand(height, width)], -1)
        flow[b] = torch.where(covered[..., None], place - own, 0.0)
        mask[b] = covered.float()


def _draw(corners: Tensor, values: Tensor, cull: bool, depth: Tensor, place: Tensor) -> None:
    """One triangle [3, 3] (x, y in cells, depth) with ``values`` [3, 2] into depth [h, w], place."""
    snapped = (corners[:, :2].double() * 256.0 + 0.5).floor()
    if not bool((snapped.abs() < 1.0e9).all()):
        return
    x, y = snapped.long().unbind(1)
    area = int((x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]))
    if area == 0 or (cull and area > 0):
        return
    sign = 1 if area > 0 else -1
    grid_y = 256 * torch.arange(depth.shape[0], device=depth.device)[:, None]
    grid_x = 256 * torch.arange(depth.shape[1], device=depth.device)
    inside, edges = torch.ones_like(depth, dtype=torch.bool), []
    for u, v in ((1, 2), (2, 0), (0, 1)):
        dx, dy = sign * (x[v] - x[u]), sign * (y[v] - y[u])
        value = dx * (grid_y - y[u]) - dy * (grid_x - x[u])
        left_or_top = bool((dy < 0) | ((dy == 0) & (dx > 0)))
        inside &= value >= 0 if left_or_top else value > 0
        edges.append(value)
    inverse = torch.tensor(1.0 / (area * sign), dtype=torch.float32, device=depth.device)
    w0, w1 = edges[0].float() * inverse, edges[1].float() * inverse
    w2 = 1.0 - w0 - w1
    z = w0 * corners[0, 2] + w1 * corners[1, 2] + w2 * corners[2, 2]
    near = inside & (z < depth)
    depth[near] = z[near]
    weights = torch.stack([w0, w1, w2], -1)[near]
    place[near] = (weights[..., None] * values).sum(1)
