"""The mesh animator's geometry and sampling map in torch, for whole batches, on any device.

The same mathematics as :mod:`engine.animators.mesh.geometry`, ``semantics`` and ``render``, which stay the
definition: expression units, lips and lids that meet, head motion, pinhole camera, the person's grid
inverted by Newton's method, the face mesh rasterised over it. Shapes are fixed and nothing asks the device
for a value, so that all of it can be recorded in a CUDA graph.

Two things are arranged otherwise, because :mod:`kernels.raster_flow` draws one mesh of shared triangles for
all rows: the opacity of the mesh over the grid is mixed in at the vertices, not at the pixels (both fields
are linear inside a triangle of about 3 px), and triangles that one face does not draw have a vertex that is
not finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.animators.gohd.region import LOWER, STEADY
from engine.animators.mesh.geometry import SparseUnits
from engine.animators.mesh.grid import CELL, NODES
from engine.animators.mesh.render import BLINK_UNITS, RIM, SIZE, FrameRenderer
from engine.animators.mesh.semantics import ABSOLUTE, HABIT, HABITUAL, MAX_ANGLE, MAX_SHIFT
from engine.face.basis import FaceBasis
from engine.types import MOTION
from kernels.raster_flow import raster_flow

__all__ = ["MeshMap", "Rows", "bilinear", "drawn_vertices", "mesh_rows", "region_corner"]

Rows = dict[str, Tensor]
"""Arrays of the faces of a batch, by name, each [B, ...]."""

_NEWTON_STEPS = 6
_FOLDS = 0.15
"""The Jacobian below which a grid (nearly) folds, as in :mod:`kernels.warp`."""
_TORN_PX = 2.5


def drawn_vertices(basis: FaceBasis) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Numbers [M] of the face's vertices and its triangles [F, 3] in terms of them."""
    ids, compact = np.unique(basis.triangles_of("face"), return_inverse=True)
    return ids.astype(np.int64), np.ascontiguousarray(compact.reshape(-1, 3), np.int32)


def mesh_rows(renderer: FrameRenderer) -> Rows:
    """What :class:`MeshMap` needs of one prepared face, each [...] of one row, float32."""
    face = renderer.identity
    ids, _ = drawn_vertices(renderer.basis)
    used = np.isin(ids, renderer.mesh.ids)
    names = {
        "base": renderer.base[ids],
        "weight": face.weight[ids],
        "hidden": np.where(used, 0.0, np.nan),
        "source": face.source[ids],
        "alpha": face.alpha[ids],
        "seal": face.seal[ids],
        "blink": face.blink[:, ids],
        "expression": face.expression,
        "base_expression": renderer.base_expression,
        "camera": face.camera,
        "intrinsics": face.intrinsics,
        "pivot": face.pivot,
        "interocular": face.scale[1:],
        "seal_gap": np.array([renderer.seal_gap]),
        "steady_offset": renderer.landmark_offset[STEADY],
        "node_points": face.node_points,
        "node_weight": face.node_weight,
        "node_hold": face.node_hold,
        "node_units": _dense(renderer.node_units, len(face.node_points)),
    }
    return {k: torch.from_numpy(np.ascontiguousarray(v, np.float32)) for k, v in names.items()}


def _dense(units: SparseUnits, vertices: int) -> NDArray[np.float32]:
    """[64, N, 3] of packed units."""
    dense = np.zeros((len(units.offset) - 1, vertices, 3), np.float32)
    for k in range(len(dense)):
        part = slice(units.offset[k], units.offset[k + 1])
        dense[k, units.vertex[part]] = units.value[part]
    return dense


class MeshMap(nn.Module):
    """Motion rows to sampling maps; holds what all faces share, in float32.

    Args:
        basis: the face basis.
        units: its expression units, packed as the mesh animator draws them.
        lip_opening: [64] how far each unit opens the lips, cm.
    """

    absolute: Tensor
    habitual: Tensor
    blinks: Tensor
    narrows: Tensor
    blink_at: Tensor
    lip_opening: Tensor
    units: Tensor
    triangles: Tensor
    steady_at: Tensor
    steady_weight: Tensor
    node_pixels: Tensor
    pixels: Tensor
    most_turn: Tensor
    most_shift: Tensor

    def __init__(self, basis: FaceBasis, units: SparseUnits, lip_opening: NDArray[np.float32]) -> None:
        super().__init__()
        ids, triangles = drawn_vertices(basis)
        place = np.full(len(basis.mean), -1, np.int64)
        place[ids] = np.arange(len(ids))
        y, x = np.mgrid[0:NODES, 0:NODES] * CELL
        v, u = np.mgrid[0:SIZE, 0:SIZE]
        wide = np.zeros((64, 64), np.float32)
        for side in ("Left", "Right"):
            wide[MOTION.index(f"eyeBlink{side}"), MOTION.index(f"eyeWide{side}")] = 1.0
        shared: dict[str, Any] = {
            "absolute": ABSOLUTE,
            "habitual": HABIT * HABITUAL.astype(np.float32),
            "blinks": np.isin(np.arange(64), BLINK_UNITS),
            "narrows": wide,
            "blink_at": np.array(BLINK_UNITS, np.int64),
            "lip_opening": lip_opening.astype(np.float32),
            "units": _dense(units, len(basis.mean))[:, ids].reshape(64, -1),
            "triangles": triangles,
            "steady_at": place[basis.landmark_tri[STEADY]].ravel(),
            "steady_weight": basis.landmark_bary[STEADY].astype(np.float32)[..., None],
            "node_pixels": np.stack([x.ravel(), y.ravel()], 1).astype(np.float32),
            "pixels": np.stack([u, v]).astype(np.float32),
            "most_turn": MAX_ANGLE,
            "most_shift": MAX_SHIFT,
        }
        for name, value in shared.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)), persistent=False)

    def forward(self, motion: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """``motion`` [B, 72] and the faces' rows to:

        1. positions [B, 2, 512, 512]: the crop px that each pixel shows;
        2. torn [B, 2, 512, 512], 1 where the mesh breaks off between a pixel and the next (x, then y);
        3. centre [B, 2]: the mean of the steady landmarks, px.
        """
        expression = self._expression(motion, rows["expression"])
        head = self._head(motion, rows)
        points = self._points(expression, rows)
        projected = _project(points, rows["weight"], head, rows)
        moved = expression - rows["expression"]
        nodes = rows["node_points"] + torch.einsum("bk,bknc->bnc", moved, rows["node_units"])
        backward = self._backward(_project(nodes, rows["node_weight"], head, rows), rows["node_hold"])
        steady = projected[..., :2].index_select(1, self.steady_at).reshape(-1, len(STEADY), 3, 2)
        centre = ((steady * self.steady_weight).sum(2) + rows["steady_offset"]).mean(1)
        positions, covered = self._positions(projected, backward, rows)
        return _fold(positions), _torn(positions, covered), centre

    def _expression(self, motion: Tensor, own: Tensor) -> Tensor:
        """:func:`engine.animators.mesh.semantics.effective_expression` of rows [B, 64]."""
        wanted = motion[:, MOTION.expression]
        kept = self.habitual * (own - wanted).clamp(min=0.0)
        e = torch.where(self.absolute, wanted + kept, own + wanted)
        e = torch.where(self.blinks, own + wanted * (1.0 - own), e)
        e = e * (1.0 - wanted.clamp(0.0, 1.0) @ self.narrows)
        above, below = (e - 1.0).clamp(min=0.0), e.clamp(max=0.0)
        return e.clamp(0.0, 1.0) + 0.15 * torch.tanh(above / 0.15) + 0.1 * torch.tanh(below / 0.1)

    def _head(self, motion: Tensor, rows: Rows) -> Tensor:
        """:func:`engine.animators.mesh.semantics.head_motion` of rows, [B, 3, 4]."""
        turn = _soft_limit(motion[:, MOTION.rotation], self.most_turn)
        shift = _soft_limit(motion[:, MOTION.translation], self.most_shift) * rows["interocular"]
        angle = torch.sqrt(turn.square().sum(1, keepdim=True) + 1e-16)
        x, y, z = (turn / angle).unbind(1)
        o = torch.zeros_like(x)
        cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], 1).reshape(-1, 3, 3)
        a = angle[..., None]
        turned = torch.eye(3, device=motion.device) + torch.sin(a) * cross
        turned = turned + (1.0 - torch.cos(a)) * (cross @ cross)
        pivot = rows["pivot"][..., None]
        return torch.cat([turned, pivot - turned @ pivot + shift[..., None]], 2)

    def _points(self, expression: Tensor, rows: Rows) -> Tensor:
        """Vertices [B, M, 3] in model space, lips and lids meeting where they should."""
        moved = (expression - rows["base_expression"]) @ self.units
        points: Tensor = rows["base"] + moved.reshape(rows["base"].shape)
        own = rows["expression"]
        gap = (expression * self.lip_opening).sum(1, keepdim=True)
        away = ((expression - own) * self.absolute).square().sum(1, keepdim=True)
        closed = ((gap - rows["seal_gap"]) / (0.05 - rows["seal_gap"])).clamp(0.0, 1.0)
        seal = closed.square() * (3.0 - 2.0 * closed) * (1.0 - torch.exp(-away / 0.15**2))
        points = points + seal[..., None] * rows["seal"]
        lids, open_lids = (e.index_select(1, self.blink_at) for e in (expression, own))
        shut = ((lids - open_lids) / (1.0 - open_lids).clamp(min=0.2)).clamp(0.0, 1.0)
        return points + (shut[..., None, None] * rows["blink"]).sum(1)

    def _backward(self, nodes: Tensor, hold: Tensor) -> Tensor:
        """Projected nodes [B, N, 3] to the backward displacement [B, 2, NODES, NODES], px."""
        x, y = (nodes[..., :2] - self.node_pixels).unbind(2)
        x = x - hold[..., 0] * x.clamp(min=0.0) - hold[..., 1] * x.clamp(max=0.0)
        y = y - hold[..., 2] * y.clamp(min=0.0) - hold[..., 3] * y.clamp(max=0.0)
        at = self.node_pixels / CELL
        inverse = _inverted(torch.stack([x, y], 2), at[:, 0], at[:, 1])
        return inverse.transpose(1, 2).reshape(-1, 2, NODES, NODES)

    def _positions(self, projected: Tensor, backward: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Sampling positions [B, 2, 512, 512] of grid and mesh, and the mesh's cover [B, 512, 512]."""
        batch, place = projected.shape[0], projected[..., :2]
        full = F.interpolate(backward, (SIZE + 1, SIZE + 1), mode="bilinear", align_corners=True)
        grid = self.pixels + full[..., :SIZE, :SIZE]
        under = place + _at_nodes(backward, place)
        source = under + rows["alpha"][..., None] * (rows["source"] - under)
        xyz = torch.cat([place + rows["hidden"][..., None], projected[..., 2:]], 2)
        flow = xyz.new_empty(batch, SIZE, SIZE, 2)
        covered = xyz.new_empty(batch, SIZE, SIZE)
        raster_flow(xyz, self.triangles, source, flow, covered, frame=(SIZE, SIZE))
        mesh = self.pixels + flow.permute(0, 3, 1, 2)
        return torch.where(covered[:, None] > 0.5, mesh, grid), covered


def _soft_limit(x: Tensor, limit: Tensor) -> Tensor:
    """:func:`engine.animators.mesh.semantics.soft_limit`."""
    knee, span = 0.7 * limit, 0.3 * limit
    over = (x.abs() - knee).clamp(min=0.0)
    return torch.sign(x) * (torch.minimum(x.abs(), knee) + span * torch.tanh(over / span))


def _project(points: Tensor, weight: Tensor, head: Tensor, rows: Rows) -> Tensor:
    """:func:`engine.animators.mesh.geometry.project` of rows [B, N, 3]."""
    camera = rows["camera"]
    seen = points @ camera[:, :, :3].transpose(1, 2) + camera[:, None, :, 3]
    turned = seen @ head[:, :, :3].transpose(1, 2) + head[:, None, :, 3]
    seen = seen + weight[..., None] * (turned - seen)
    focal, cx, cy = (v[:, None] for v in rows["intrinsics"].unbind(1))
    distance = -seen[..., 2]
    x = cx + focal * seen[..., 0] / distance
    return torch.stack([x, cy - focal * seen[..., 1] / distance, distance], 2)


def _inverted(forward: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """:func:`kernels.warp.invert_grid` of displacements [B, N, 2] at nodes (``column``, ``row``) [N]."""
    last, b = NODES - 1, -forward
    for _ in range(_NEWTON_STEPS):
        x = (column + b[..., 0] / CELL).clamp(0, last)
        y = (row + b[..., 1] / CELL).clamp(0, last)
        j, i = x.floor().clamp(max=last - 1), y.floor().clamp(max=last - 1)
        fx, fy = (x - j)[..., None], (y - i)[..., None]
        first = (i * NODES + j).long()
        f00, f01, f10, f11 = (_pick(forward, first + k) for k in (0, 1, NODES, NODES + 1))
        top, low = f01 - f00, f11 - f10
        start = f00 + fx * top
        down = f10 + fx * low - start
        missing = b + start + fy * down
        jxx, jyx = ((top + fy * (low - top)) / CELL).unbind(2)
        jxy, jyy = (down / CELL).unbind(2)
        jxx, jyy = jxx + 1.0, jyy + 1.0
        det = jxx * jyy - jxy * jyx
        mx, my = missing.unbind(2)
        newton = torch.stack([jyy * mx - jxy * my, jxx * my - jyx * mx], 2)
        sound = (det > _FOLDS)[..., None]
        b = b - torch.where(sound, newton / torch.where(sound, det[..., None], 1.0), missing)
    return b


def _pick(values: Tensor, at: Tensor) -> Tensor:
    """values [B, N, 2] at [B, K]."""
    return values.gather(1, at[..., None].expand(-1, -1, 2))


def _at_nodes(field: Tensor, place: Tensor) -> Tensor:
    """A field on the nodes [B, 2, NODES, NODES] at pixels ``place`` [B, M, 2]; the border holds beyond."""
    where = place[:, None] * (2.0 / (CELL * (NODES - 1))) - 1.0
    found = F.grid_sample(field, where, "bilinear", "border", align_corners=True)
    return found[:, :, 0].transpose(1, 2)


def bilinear(picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``picture`` [B, C, H, W] at pixels (``x``, ``y``) [B, h, w]; the border holds beyond."""
    height, width = picture.shape[2:]
    where = torch.stack([(2.0 * x + 1.0) / width - 1.0, (2.0 * y + 1.0) / height - 1.0], 3)
    return F.grid_sample(picture, where, "bilinear", "border", align_corners=False)


def _fold(positions: Tensor) -> Tensor:
    """Positions outside the picture folded back, as in :func:`engine.animators.mesh.pixels.keep_inside`."""
    last = float(SIZE - 1)
    p = torch.maximum(positions, (-positions).clamp(max=RIM))
    return torch.minimum(p, (2.0 * last - p).clamp(min=last - RIM))


def _torn(positions: Tensor, covered: Tensor) -> Tensor:
    """Where the map jumps between a pixel of the mesh and the next one: [B, 2, 512, 512] of 0 and 1."""
    torn = torch.zeros_like(positions)
    mesh = covered > 0.5
    for axis in (0, 1):
        dim = 3 - axis
        here, there = positions.narrow(dim, 0, SIZE - 1), positions.narrow(dim, 1, SIZE - 1)
        jump = there - here
        away = torch.maximum((jump[:, axis] - 1.0).abs(), jump[:, 1 - axis].abs()) > _TORN_PX
        touched = mesh.narrow(dim - 1, 0, SIZE - 1) | mesh.narrow(dim - 1, 1, SIZE - 1)
        torn[:, axis].narrow(dim - 1, 0, SIZE - 1).copy_(away & touched)
    return torn


def region_corner(centre: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Left and top [B] of the face region around ``centre`` [B, 2], moved to whole pixels."""
    left = torch.round(centre[:, 0] - side / 2)
    return left, torch.round(centre[:, 1] + LOWER * side - side / 2)
