"""Which parts of the mouth interior the photo itself shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.eyefit import smoothstep
from engine.animators.mesh.layers import SourceGeometry
from engine.face.residual import INNER_LIPS
from kernels.raster import raster_attributes

__all__ = ["PhotoMouth", "photo_mouth"]

Float = NDArray[np.float32]

_MIN_GAP_PX = 3.0
_MIN_GAP_CM = 0.32
_MAX_SHIFT_CM = 0.4
_LIP_MIDDLES = (0, 37, 267, 17, 84, 314, 72, 302, 85, 315)  # on the red of both lips


@dataclass(frozen=True)
class PhotoMouth:
    """What the photo shows between the lips."""

    weight: Float
    """[N] how much each interior vertex takes its colour from the photo, 0..1"""
    xyz: Float
    """[N, 3] interior in the photo (crop px, distance), upper teeth where the photo has them"""
    drop: float
    """cm by which the model's upper teeth are lowered to meet the photo's"""


def photo_mouth(source: SourceGeometry, vertices: NDArray[np.int32], upper: Float) -> PhotoMouth:
    """Match interior ``vertices`` [N] (``upper`` [N]: 1 goes with the skull) to the photo.

    A vertex takes its colour from the photo if it faces the camera, lies well inside the inner-lip
    contour, nothing else of the interior hides it and it belongs to the same row of teeth. Lips
    less than about 3 mm apart show nothing worth keeping.
    """
    lips = source.landmarks[INNER_LIPS]
    gap = float((lips[1, :, 1] - lips[0, :, 1]).max())
    xyz = np.ascontiguousarray(source.projected[vertices], np.float32)
    if gap < max(_MIN_GAP_PX, _MIN_GAP_CM * source.pixels_per_cm):
        return PhotoMouth(np.zeros(len(vertices), np.float32), xyz, 0.0)
    edge = _tooth_edge(source, lips)
    drop = 0.0
    if edge is not None:
        drop = _drop(source, xyz[_upper_teeth(source, vertices)], edge)
        lowered = source.vertices[vertices] - upper[:, None] * np.array([0.0, drop, 0.0], np.float32)
        xyz = np.ascontiguousarray(source.fit.project(lowered), np.float32)
    outline = np.concatenate([lips[0], lips[1, ::-1]]).astype(np.float32).reshape(-1, 1, 2)
    inside = np.array([cv2.pointPolygonTest(outline, (float(x), float(y)), True) for x, y, _ in xyz])
    weight = smoothstep(0.6, 2.4, inside.astype(np.float32))
    weight = weight * smoothstep(0.05, 0.35, source.normals[vertices, 2])
    weight = weight * _unhidden(source, vertices, xyz)
    if edge is not None:
        # Pixels above the edge of the upper teeth are theirs, pixels below are not.
        below = xyz[:, 1] - np.interp(xyz[:, 0], edge[:, 0], edge[:, 1])
        weight = weight * np.where(upper > 0.5, 1.0, smoothstep(0.5, 2.0, below.astype(np.float32)))
    weight = weight * _plausible(source, vertices, xyz, gap / source.pixels_per_cm)
    return PhotoMouth(np.asarray(weight, np.float32), xyz, drop)


def _plausible(source: SourceGeometry, vertices: NDArray[np.int32], xyz: Float, gap_cm: float) -> Float:
    """1 where the photo's pixel can be what the model says it is [N].

    In a narrow gap landmarks may call lips an opening: only tooth-coloured pixels on teeth count
    there. A wide-open mouth shows what it shows, except that a tongue is never tooth-coloured.
    """
    size = source.crop.shape[0]
    column, row = (np.clip(np.round(xyz[:, k]).astype(int), 0, size - 1) for k in (0, 1))
    pixel = cv2.blur(source.crop, (3, 3))[row, column].astype(np.float32)
    red = pixel[:, 0] / np.maximum(pixel[:, 1:].mean(1), 1.0)
    at = source.landmarks[list(_LIP_MIDDLES)].round().astype(int)
    lip = np.median(source.crop[at[:, 1], at[:, 0]].astype(np.float32), 0)
    lip_red = float(lip[0] / max(float(lip[1:].mean()), 1.0))
    pale = smoothstep(0.9, 0.6, (red - 1.0) / max(lip_red - 1.0, 0.12))
    pale = pale * smoothstep(0.75, 1.0, pixel.mean(1) / max(float(lip.mean()), 1.0))
    teeth = vertices >= source.basis.part("teeth_upper").start
    wide = float(smoothstep(0.8, 1.3, np.float32(gap_cm)))
    return np.where(teeth, pale, wide * (1.0 - pale)).astype(np.float32)


def _upper_teeth(source: SourceGeometry, vertices: NDArray[np.int32]) -> NDArray[np.bool_]:
    part = source.basis.part("teeth_upper")
    return np.asarray((vertices >= part.start) & (vertices < part.stop))


def _tooth_edge(source: SourceGeometry, lips: Float) -> Float | None:
    """Biting edge [n, 2] px of upper teeth in the photo, None where no teeth are seen.

    Column by column: from the upper lip down while pixels stay as bright as the brightest of the
    column's upper part. Where nothing dark follows, the lower lip is the edge.
    """
    grey = source.crop.astype(np.float32).mean(-1)
    red = source.crop[..., 0] / np.maximum(source.crop[..., 1:].astype(np.float32).mean(-1), 1.0)
    skin = float(np.median(grey[tuple(source.landmarks[[50, 280, 151]].round().astype(int).T[::-1])]))
    left, right = lips[:, 0, 0].min(), lips[:, -1, 0].max()
    margin = 0.15 * (right - left)
    found, columns = [], 0
    for x in range(int(left + margin), int(right - margin)):
        top = float(np.interp(x, lips[0, :, 0], lips[0, :, 1])) + 1.0
        bottom = float(np.interp(x, lips[1, :, 0], lips[1, :, 1])) - 1.0
        rows = np.arange(int(np.ceil(top)), int(bottom) + 1)
        if len(rows) < 3:
            continue
        columns += 1
        run = grey[rows, x]
        peak = float(run[: max(2, (2 * len(rows)) // 3)].max())
        first = int(run.argmax())
        if peak < 0.6 * skin or red[rows[first], x] > 1.5:
            continue
        dark = np.flatnonzero(run[first:] < 0.66 * peak)
        found.append((x, float(rows[first + dark[0]]) if len(dark) else bottom))
    if columns == 0 or len(found) < 0.4 * columns or len(found) < 4:
        return None
    edge = np.array(found, np.float32)
    # A single column may miss: the edge of a row of teeth is smooth.
    padded = np.pad(edge[:, 1], 3, mode="edge")
    edge[:, 1] = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7), axis=1)
    return edge


def _drop(source: SourceGeometry, teeth: Float, edge: Float) -> float:
    """How far (cm) the model's upper teeth [N, 3] must go down to meet ``edge`` in the middle."""
    middle = float(edge[:, 0].mean())
    near = edge[np.abs(edge[:, 0] - middle) < 1.2 * source.pixels_per_cm]
    gaps = []
    for x, y in near:
        column = teeth[np.abs(teeth[:, 0] - x) < 0.12 * source.pixels_per_cm]
        if len(column):
            gaps.append(y - column[:, 1].max())
    drop = float(np.median(gaps)) / source.pixels_per_cm if gaps else 0.0
    return float(np.clip(drop, -_MAX_SHIFT_CM, _MAX_SHIFT_CM))


def _unhidden(source: SourceGeometry, vertices: NDArray[np.int32], xyz: Float) -> Float:
    """1 where no other part of the interior is in front [N]."""
    index = np.full(len(source.basis.mean), -1, np.int32)
    index[vertices] = np.arange(len(vertices), dtype=np.int32)
    triangles = index[source.basis.triangles_of("gums", "tongue", "teeth_upper", "teeth_lower")]
    triangles = triangles[(triangles >= 0).all(1)]
    low = np.floor(xyz[:, :2].min(0)).astype(int) - 1
    high = np.ceil(xyz[:, :2].max(0)).astype(int) + 2
    width, height = (int(v) for v in np.maximum(high - low, 4))
    depth = np.full((height * 2, width * 2), np.inf, np.float32)
    nothing = np.zeros((height * 2, width * 2, 1), np.float32)
    raster_attributes(
        nothing, depth, xyz, np.ascontiguousarray(triangles, np.int32), np.zeros((len(xyz), 1), np.float32),
        x0=int(low[0]), y0=int(low[1]), sx=2, sy=2,
    )  # fmt: skip
    column = np.clip(((xyz[:, 0] - low[0] + 0.5) * 2).astype(int), 0, 2 * width - 1)
    row = np.clip(((xyz[:, 1] - low[1] + 0.5) * 2).astype(int), 0, 2 * height - 1)
    behind = xyz[:, 2] - depth[row, column]
    return smoothstep(0.35, 0.10, behind.astype(np.float32))
