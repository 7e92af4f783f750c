"""Which parts of the mouth interior the photo itself shows."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.eyefit import smoothstep
from engine.animators.mesh.layers import SourceGeometry
from engine.face.residual import INNER_LIPS
from kernels.raster import raster_attributes

__all__ = ["photo_weight"]

Float = NDArray[np.float32]

_MIN_GAP_PX = 3.0
_MIN_GAP_CM = 0.22


def photo_weight(source: SourceGeometry, vertices: NDArray[np.int32]) -> Float:
    """How much each interior vertex takes its colour from the photo, 0..1 [N].

    A vertex counts if it faces the camera, lies well inside the inner-lip contour and nothing else
    of the interior hides it. Lips less than about 2 mm apart show nothing worth keeping.
    """
    lips = source.landmarks[INNER_LIPS]
    gap = float((lips[1, :, 1] - lips[0, :, 1]).max())
    if gap < max(_MIN_GAP_PX, _MIN_GAP_CM * source.pixels_per_cm):
        return np.zeros(len(vertices), np.float32)
    xyz = np.ascontiguousarray(source.projected[vertices], np.float32)
    outline = np.concatenate([lips[0], lips[1, ::-1]]).astype(np.float32).reshape(-1, 1, 2)
    inside = np.array([cv2.pointPolygonTest(outline, (float(x), float(y)), True) for x, y, _ in xyz])
    edge = smoothstep(0.6, 2.4, inside.astype(np.float32))
    facing = smoothstep(0.05, 0.35, source.normals[vertices, 2])
    return np.asarray(edge * facing * _unhidden(source, vertices, xyz), np.float32)


def _unhidden(source: SourceGeometry, vertices: NDArray[np.int32], xyz: Float) -> Float:
    """1 where no other part of the interior is in front [N]."""
    first = int(vertices[0])
    triangles = source.basis.triangles_of("gums", "tongue", "teeth_upper", "teeth_lower") - first
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
