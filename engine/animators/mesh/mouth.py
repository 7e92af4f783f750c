"""The mouth interior: socket, gums, tongue and teeth of the face basis, lit and coloured to the photo.

Nothing of this can be seen in most photos, so its colours come from what can: tongue and gums from
the lips, teeth from the whites of the eyes and the skin's tint. Light falls off towards the throat
and under the lips (distance to the inner-lip contour), everything is a little wet. Where the photo
itself shows the inside, those pixels are projected onto the geometry and travel with it: upper teeth
with the skull, lower teeth and tongue with the jaw.

The face mesh is painted afterwards, so the lips cut this layer off.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.eyefit import smoothstep
from engine.animators.mesh.eyelight import pick_triangles
from engine.animators.mesh.layers import Arrays, FrameGeometry, SourceGeometry
from engine.animators.mesh.mouthcolour import mouth_colours, vertex_colours
from engine.animators.mesh.mouthlight import LipLine, light_interior
from engine.animators.mesh.mouthphoto import photo_mouth
from engine.face.basis import PARTS, FaceBasis
from engine.face.residual import INNER_LIPS
from kernels.raster import Canvas, draw_coloured, draw_textured

__all__ = ["MouthLayer"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]

_PARTS = ("socket", "gums", "tongue", "teeth_upper", "teeth_lower")
_CLOSED_PX = 0.25  # lips closer than this hide everything
_NEARER_CM = 0.03  # the photo's pixels lie this much in front of the model's


class MouthLayer:
    """Draws the mouth interior; see :class:`~engine.animators.mesh.layers.Layer`."""

    @classmethod
    def prepare(cls, source: SourceGeometry) -> Arrays:
        """Colours per vertex, the photo's own interior and its weights."""
        basis = source.basis
        colours = mouth_colours(source)
        vertices, _ = _interior(basis)
        base, gloss = vertex_colours(basis, colours)
        lips = LipLine.of(source.landmarks[INNER_LIPS], source.projected[vertices, 2], source.pixels_per_cm)
        seen = photo_mouth(source, vertices, 1.0 - basis.lower[vertices])
        light = np.empty((len(vertices), 4), np.float32)
        light_interior(
            seen.xyz, source.normals[vertices], base[vertices], gloss[vertices],
            colours.direction, *lips.arrays(), light,
        )  # fmt: skip
        return {
            "base": base[vertices],
            "gloss": gloss[vertices],
            "weight": seen.weight,
            "pixels": np.ascontiguousarray(seen.xyz[:, :2]),
            "drop": np.array([seen.drop], np.float32),
            "rest_light": np.maximum(light[:, 3], 0.0),
            "direction": colours.direction,
            "dark": colours.dark,
            "lips": np.ascontiguousarray(source.landmarks[INNER_LIPS], np.float32),
            **_photo_window(source),
        }

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]], basis: FaceBasis) -> None:
        def real(name: str) -> Float:
            return np.ascontiguousarray(arrays[name], np.float32)

        self._vertices, triangles = _interior(basis)
        self._socket, self._solid = triangles
        self._base, self._gloss, self._weight = real("base"), real("gloss"), real("weight")
        self._direction, self._dark = real("direction"), real("dark")
        self._rest_light, self._rest_lips = real("rest_light"), real("lips")
        self._photo = np.ascontiguousarray(arrays["photo"], np.uint8)
        self._uv = np.ascontiguousarray(real("pixels") - real("photo_origin"), np.float32)
        self._drop = real("drop")[0]
        self._upper = np.ascontiguousarray(1.0 - basis.lower[self._vertices], np.float32)
        self._tooth = np.ascontiguousarray(basis.mean[basis.part("teeth_upper")].mean(0), np.float32)
        solid = np.concatenate([self._socket, self._solid])
        self._seen = np.ascontiguousarray(solid[(self._weight[solid] > 0.0).any(1)])

    def draw(self, canvas: Canvas, frame: FrameGeometry, part: int) -> None:
        """Paint the interior into ``canvas``; nothing at rest or behind closed lips."""
        lips = np.ascontiguousarray(frame.landmarks[INNER_LIPS], np.float32)
        gap = float((lips[1, :, 1] - lips[0, :, 1]).max())
        moved = float(np.abs(lips - self._rest_lips).max())
        presence = float(smoothstep(0.02, 0.4, np.float32(moved)))
        if gap > _CLOSED_PX and presence > 0.0:
            before = canvas.pixels.copy() if presence < 1.0 else None
            self._draw_interior(canvas, frame, lips)
            if before is not None:
                canvas.pixels[:] = before + presence * (canvas.pixels - before)

    def _draw_interior(self, canvas: Canvas, frame: FrameGeometry, lips: Float) -> None:
        xyz = frame.projected[self._vertices]
        if self._drop != 0.0:
            ends = np.stack([self._tooth, self._tooth - np.array([0.0, self._drop, 0.0], np.float32)])
            start, end = frame.place(ends)
            xyz += self._upper[:, None] * (end - start)
        line = LipLine.of(lips, xyz[:, 2], frame.pixels_per_cm)
        rgba = np.empty((len(xyz), 4), np.float32)
        light_interior(
            xyz, frame.normals[self._vertices], self._base, self._gloss, self._direction, *line.arrays(), rgba
        )
        light = rgba[:, 3].copy()
        solid = _picked(self._solid, light)
        rgba[:, 3] = 1.0
        self._draw_throat(canvas, lips)
        draw_coloured(canvas, xyz, self._socket, rgba, test=True, write=False, cull=True)
        draw_coloured(canvas, xyz, solid, rgba, cull=True)
        if len(self._seen):
            xyz[:, 2] -= _NEARER_CM
            change = np.clip(light / np.maximum(self._rest_light, 0.02), 0.25, 1.25)
            shade = np.repeat(change[:, None], 3, 1).astype(np.float32)
            draw_textured(
                canvas, xyz, self._seen, self._photo, self._uv, self._weight, shade, write=False, cull=True
            )

    def _draw_throat(self, canvas: Canvas, lips: Float) -> None:
        """The opening itself, dark: whatever the geometry leaves uncovered."""
        outline = np.concatenate([lips[0], lips[1, -2:0:-1]])
        middle = outline.mean(0)
        outward = outline - middle
        outline = outline + outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-3)
        xyz = np.zeros((len(outline) + 1, 3), np.float32)
        xyz[0, :2], xyz[1:, :2] = middle, outline
        rgba = np.ones((len(xyz), 4), np.float32)
        rgba[:, :3] = self._dark
        draw_coloured(canvas, xyz, _fan(len(outline)), rgba, test=False, write=False)


def _picked(triangles: Int, light: Float) -> Int:
    """The triangles of which something can be seen."""
    out = np.empty_like(triangles)
    return out[: pick_triangles(triangles, light, out)]


def _interior(basis: FaceBasis) -> tuple[Int, tuple[Int, Int]]:
    """Interior vertices [N] that can be seen, and triangles over them: (socket, all solids).

    Left out: what always faces the throat.
    """
    socket = _seen_from_front(basis, basis.triangles_of("socket"))
    solid = _seen_from_front(basis, basis.triangles_of(*_PARTS[1:]))
    vertices = np.unique(np.concatenate([socket, solid])).astype(np.int32)
    index = np.full(len(basis.mean), -1, np.int32)
    index[vertices] = np.arange(len(vertices), dtype=np.int32)
    return vertices, (np.ascontiguousarray(index[socket]), np.ascontiguousarray(index[solid]))


def _seen_from_front(basis: FaceBasis, triangles: Int) -> Int:
    """Triangles that face the camera in some motion."""
    corner = basis.mean[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    facing = normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
    # Jaw and tongue tip by up to about 25 degrees, the head turns by 25.
    tongue = basis.vertex_part[triangles[:, 0]] == PARTS.index("tongue")
    return np.asarray(triangles[(facing > -0.5) | tongue], np.int32)


def _photo_window(source: SourceGeometry) -> Arrays:
    """The photo around the lips as a texture, and the crop pixel of its first texel."""
    points = source.landmarks[INNER_LIPS].reshape(-1, 2)
    size = source.crop.shape[0]
    low = np.clip(np.floor(points.min(0)).astype(int) - 4, 0, size - 8)
    high = np.clip(np.ceil(points.max(0)).astype(int) + 5, low + 8, size)
    window = source.crop[low[1] : high[1], low[0] : high[0]]
    photo = np.dstack([window, np.full(window.shape[:2], 255, np.uint8)])
    return {"photo": np.ascontiguousarray(photo), "photo_origin": low.astype(np.float32)}


def _fan(count: int) -> Int:
    """Triangles from vertex 0 to a closed ring of ``count`` vertices behind it."""
    k = np.arange(count, dtype=np.int32)
    return np.ascontiguousarray(np.stack([np.zeros_like(k), 1 + k, 1 + (k + 1) % count], 1), np.int32)
