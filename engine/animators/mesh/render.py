"""One frame of one face: from a motion row to RGB, in buffers that live in the stream's state.

Order: person layer (grid) with the face mesh mixed into its sampling map, one remap, background;
then for each eye and the mouth a supersampled window: layer behind, face mesh in front, lids'
paint and lashes, averaged back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from engine.animators.mesh.geometry import SparseUnits, carry, deform, mesh_attributes, project, unit_normals
from engine.animators.mesh.grid import CELL, NODES, hold_borders, smoothstep
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.layers import FrameGeometry, Layer
from engine.animators.mesh.lids import lash_strip, lid_edge, soft_line
from engine.animators.mesh.pixels import (
    average_window,
    blend_map,
    bounds,
    fill_window,
    keep_inside,
    paint_face,
    soften_edges,
)
from engine.animators.mesh.semantics import ABSOLUTE, effective_expression, head_motion
from engine.animators.mesh.sharing import in_bands, start
from engine.animators.portrait_stage import SIZE
from engine.face.basis import FaceBasis
from engine.face.residual import INNER_LIPS, LEFT_LIDS, RIGHT_LIDS
from engine.types import EXPRESSION_NAMES
from kernels.raster import Canvas, draw_coloured, raster_attributes
from kernels.warp import compose, dense_map, invert_grid

__all__ = ["BLINK_UNITS", "RIM", "SIZE", "FrameBuffers", "FrameRenderer"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

RIM = 2.0
"""px of the crop's border that are mirrored when something enters from outside."""
_WINDOW = 256
"""Largest side of a supersampled window, frame px."""
BLINK_UNITS = (EXPRESSION_NAMES.index("eyeBlinkRight"), EXPRESSION_NAMES.index("eyeBlinkLeft"))
_LIDS = (RIGHT_LIDS, LEFT_LIDS)
_CENTRAL_LIPS = INNER_LIPS[:, 4:7]
_INTERIOR = ("eye_socket", "socket", "gums", "tongue", "teeth_upper", "teeth_lower")
_SAMPLES = ((2, 2), (1, 1))
"""Samples per pixel (x, y) inside windows, by tier."""


def _floats(*shape: int) -> Float:
    return np.zeros(shape, np.float32)


@dataclass
class WindowBuffers:
    """Room for one supersampled window."""

    pixels: Float = field(default_factory=lambda: _floats(4 * _WINDOW * _WINDOW * 3))
    depth: Float = field(default_factory=lambda: _floats(4 * _WINDOW * _WINDOW))
    over: Float = field(default_factory=lambda: _floats(4 * _WINDOW * _WINDOW))
    """Depth of the face mesh, which lies over whatever was drawn."""
    attributes: Float = field(default_factory=lambda: _floats(4 * _WINDOW * _WINDOW * 7))

    def open(self, points: Float, margin: float, tier: int, frame: Bytes) -> Canvas | None:
        """A window around ``points`` [N, 2] that shows ``frame`` so far; None if it is outside."""
        x0, y0, w, h = _box(points, margin, SIZE)
        w, h = min(w, _WINDOW), min(h, _WINDOW)
        if w < 2 or h < 2:
            return None
        sx, sy = _SAMPLES[tier]
        count = w * h * sx * sy
        pixels = self.pixels[: count * 3].reshape(h * sy, w * sx, 3)
        depth = self.depth[:count].reshape(h * sy, w * sx)
        depth.fill(np.inf)
        fill_window(pixels, frame, x0, y0, sx, sy)
        return Canvas(pixels, depth, x0, y0, sx, sy)

    def cover(self, canvas: Canvas, values: int) -> tuple[Float, Float]:
        """Room for the face mesh in that window: attributes [h, w, ``values``] and depth [h, w]."""
        h, w = canvas.depth.shape
        return self.attributes[: h * w * values].reshape(h, w, values), self.over[: h * w].reshape(h, w)


@dataclass
class FrameBuffers:
    """Everything one stream writes while it draws; allocated once, nothing kept between frames."""

    vertices: Float
    projected: Float
    normals: Float
    mesh_xyz: Float
    mesh_narrow: Float
    mesh_wide: Float
    landmarks: Float = field(default_factory=lambda: _floats(468, 2))
    nodes: Float = field(default_factory=lambda: _floats(NODES * NODES, 3))
    nodes_projected: Float = field(default_factory=lambda: _floats(NODES * NODES, 3))
    forward: Float = field(default_factory=lambda: _floats(NODES, NODES, 2))
    backward: Float = field(default_factory=lambda: _floats(NODES, NODES, 2))
    positions: Float = field(default_factory=lambda: _floats(SIZE, SIZE, 2))
    face: Float = field(default_factory=lambda: _floats(SIZE * SIZE * 3))
    depth: Float = field(default_factory=lambda: _floats(SIZE * SIZE))
    warped: Bytes = field(default_factory=lambda: np.zeros((SIZE, SIZE, 4), np.uint8))
    eye_window: WindowBuffers = field(default_factory=lambda: WindowBuffers())
    mouth_window: WindowBuffers = field(default_factory=lambda: WindowBuffers())

    @staticmethod
    def for_basis(basis: FaceBasis) -> FrameBuffers:
        v = len(basis.mean)
        return FrameBuffers(
            _floats(v, 3), _floats(v, 3), _floats(v, 3), _floats(v, 3), _floats(v, 3), _floats(v, 7)
        )


@dataclass(frozen=True)
class DrawnMesh:
    """The skin triangles that are drawn, on their own M vertices.

    ``ids`` int32 [M] in the basis; ``triangles`` int32 [F, 3] into ``ids``, ``around`` the same near
    the right eye, the left eye and the mouth; ``source`` [M, 2], ``alpha`` [M] and ``paint`` [M, 5] as
    :func:`~engine.animators.mesh.geometry.mesh_attributes` takes them.
    """

    ids: NDArray[np.int32]
    triangles: NDArray[np.int32]
    around: tuple[NDArray[np.int32], ...]
    source: Float
    alpha: Float
    paint: Float

    @staticmethod
    def of(face: MeshIdentity, basis: FaceBasis) -> DrawnMesh:
        ids, compact = np.unique(face.triangles, return_inverse=True)
        triangles = np.ascontiguousarray(compact.reshape(-1, 3), np.int32)
        paint = np.zeros((len(ids), 5), np.float32)
        first = face.lid[0, ids, 3] >= face.lid[1, ids, 3]
        paint[:, :3] = np.where(first[:, None], face.lid[0, ids, :3], face.lid[1, ids, :3])
        paint[:, 3], paint[:, 4] = face.lid[0, ids, 3], face.lid[1, ids, 3]
        place = basis.mean[ids]
        marks = basis.at_landmarks(basis.mean)
        around = []
        for rows, reach in ((RIGHT_LIDS, 2.4), (LEFT_LIDS, 2.4), (INNER_LIPS, 4.0)):
            near = cKDTree(marks[rows.ravel()]).query(place)[0] < reach
            around.append(np.ascontiguousarray(triangles[near[triangles].any(1)]))
        return DrawnMesh(
            ids.astype(np.int32), triangles, tuple(around), face.source[ids], face.alpha[ids], paint
        )


class FrameRenderer:
    """Draws one prepared face; holds nothing that changes.

    Args:
        identity: the prepared face.
        basis: the face basis it was prepared with.
        units: the basis' expression units, packed.
        layers: mouth and eye layers by name ("mouth", "eyes").
    """

    def __init__(
        self, identity: MeshIdentity, basis: FaceBasis, units: SparseUnits, layers: Mapping[str, Layer]
    ) -> None:
        self.identity = identity
        self.basis = basis
        self.units = units
        self.node_units = identity.node_units
        self.layers = layers
        y, x = np.mgrid[0:NODES, 0:NODES] * CELL
        self.node_pixels = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
        # Where landmarks are drawn minus where the mesh carries them, in the portrait.
        carried = basis.at_landmarks(identity.projected)[:, :2]
        self.landmark_offset = (identity.landmarks[:468] - carried).astype(np.float32)
        # Units that motion adds to the portrait's own are mostly still: their own part is built in.
        self.base_expression = np.where(ABSOLUTE, 0.0, identity.expression).astype(np.float32)
        still = np.tensordot(self.base_expression, basis.expression, 1)
        self.base = (identity.neutral + still).astype(np.float32)
        # How far each unit opens the lips of the average head, cm: linear in the coefficients.
        opening = basis.at_landmarks(basis.expression)[:, :, 1]
        self.lip_opening = (opening[:, _CENTRAL_LIPS[0]] - opening[:, _CENTRAL_LIPS[1]]).mean(1)
        self.interior = basis.triangles_of(*_INTERIOR)
        # A portrait with parted lips is left alone until they close further than in the portrait.
        rest_gap = float(self.lip_opening @ identity.expression)
        self.seal_gap = 0.45 if rest_gap < 0.05 else max(rest_gap, 0.12)
        self.mesh = DrawnMesh.of(identity, basis)
        # The paint of a lid appears while it closes; flat drawn lids cover the eye's bold lines at once.
        drawn = identity.lash[:, 3] > 0.9
        self.paint_start = np.where(drawn, 0.2, 0.1).astype(np.float32)
        self.paint_ramp = np.where(drawn, 0.2, 0.65).astype(np.float32)
        self.lid_vertices = [np.nonzero(identity.lid[eye, :, 3] > 0.01)[0] for eye in range(2)]

    def draw(
        self,
        motion: Float,
        buffers: FrameBuffers,
        out: Bytes,
        tier: int = 0,
        helper: Executor | None = None,
    ) -> None:
        """Draw ``motion`` float32 [72] into ``out`` uint8 [512, 512, 3].

        ``helper`` (one thread) takes over half of the work; the picture is the same without.
        """
        frame = self.geometry(motion, buffers, tier, helper)
        self.person(frame, buffers, out, helper)
        self.windows(frame, buffers, out, helper)

    def geometry(
        self, motion: Float, buffers: FrameBuffers, tier: int = 0, helper: Executor | None = None
    ) -> FrameGeometry:
        """Vertices, normals and landmarks of this frame; the person layer's grid, inverted."""
        face, b = self.identity, buffers
        expression = effective_expression(motion, face.expression)
        head = head_motion(motion, face.pivot, float(face.scale[1]))
        finish = start(helper, self._grid, expression, head, b)
        u = self.units
        deform(self.base, expression - self.base_expression, u.offset, u.vertex, u.value, b.vertices)
        self._close_lips_and_lids(expression, b.vertices)
        focal, cx, cy = (float(v) for v in face.intrinsics)
        project(b.vertices, face.weight, face.camera, head, focal, cx, cy, b.projected)
        turned = np.ascontiguousarray(head[:, :3] @ face.camera[:, :3])
        unit_normals(b.vertices, self.interior, turned, b.normals)
        carry(b.projected, self.basis.landmark_tri, self.basis.landmark_bary, b.landmarks)
        b.landmarks += self.landmark_offset
        finish()
        return FrameGeometry(
            motion=motion,
            expression=expression,
            vertices=b.vertices,
            projected=b.projected,
            normals=b.normals,
            landmarks=b.landmarks,
            head=head,
            camera=face.camera,
            focal=focal,
            centre=(cx, cy),
            pixels_per_cm=float(face.scale[0]),
            tier=tier,
        )

    def _seal_strength(self, expression: Float) -> float:
        """1 where the model's lips touch; 0 where they are open, and in the portrait itself."""
        gap = float(self.lip_opening @ expression)
        away = float(np.square((expression - self.identity.expression)[ABSOLUTE]).sum())
        return float(smoothstep(self.seal_gap, 0.05, gap)) * (1.0 - math.exp(-away / 0.15**2))

    def _close_lips_and_lids(self, expression: Float, vertices: Float) -> None:
        """Identity-specific contact of lips and lids, nothing at rest."""
        face = self.identity
        seal = self._seal_strength(expression)
        if seal > 1e-4:
            vertices += np.float32(seal) * face.seal
        for eye, unit in enumerate(BLINK_UNITS):
            shut = self._lid_travel(expression, unit)
            if shut > 1e-4:
                vertices += np.float32(shut) * face.blink[eye]

    def _lid_travel(self, expression: Float, unit: int) -> float:
        """0 where the portrait's lid is, 1 closed."""
        own = float(self.identity.expression[unit])
        return float(np.clip((float(expression[unit]) - own) / max(1.0 - own, 0.2), 0.0, 1.0))

    def person(
        self, frame: FrameGeometry, b: FrameBuffers, out: Bytes, helper: Executor | None = None
    ) -> None:
        """The person through the sampling map, over the background; without eyes, mouth and lids."""
        reach = self._gather(frame, b)
        attributes, depth, x0, y0 = window = self._face_window(b)
        middle = len(depth) // 2

        def draw(first: int, stop: int) -> None:
            self._spread(b, window, reach, first, stop)
            self._show(b, out, first, stop)
            # Rows that are smoothed look at their neighbours: those at the cut have to wait.
            low, high = (0, middle - 2) if first == 0 else (middle + 2, len(depth))
            soften_edges(out, attributes, depth, x0, y0, low, high)

        in_bands(helper, draw, SIZE, min(y0 + middle, SIZE))
        soften_edges(out, attributes, depth, x0, y0, middle - 2, middle + 2)

    def sampling_map(self, frame: FrameGeometry, b: FrameBuffers) -> None:
        """Only the positions that :meth:`person` samples: the inverted grid spread over all pixels, the
        face mesh mixed in."""
        reach = self._gather(frame, b)
        self._spread(b, self._face_window(b), reach, 0, SIZE)

    def _gather(self, frame: FrameGeometry, b: FrameBuffers) -> int:
        """The drawn vertices with what is drawn of them; how far (px) the grid moves at most."""
        mesh, m = self.mesh, len(self.mesh.ids)
        shut = np.array([self._lid_travel(frame.expression, unit) for unit in BLINK_UNITS], np.float32)
        mesh_attributes(
            frame.projected, mesh.ids, mesh.source, mesh.alpha, mesh.paint,
            smoothstep(0.0, 1.0, (shut - self.paint_start) / self.paint_ramp),
            b.mesh_xyz[:m], b.mesh_narrow[:m], b.mesh_wide,
        )  # fmt: skip
        return int(np.abs(b.backward).max()) + CELL

    def _spread(
        self, b: FrameBuffers, window: tuple[Float, Float, int, int], reach: int, first: int, stop: int
    ) -> None:
        """Rows ``first``..``stop`` of the sampling map; ``window`` as :meth:`_face_window` has it."""
        m, (attributes, depth, x0, y0) = len(self.mesh.ids), window
        low, high = (min(max(row - y0, 0), len(depth)) for row in (first, stop))
        face, far = attributes[low:high], depth[low:high]
        far.fill(np.inf)
        raster_attributes(
            face, far, b.mesh_xyz[:m], self.mesh.triangles, b.mesh_narrow[:m], x0=x0, y0=y0 + low
        )  # fmt: skip
        dense_map(b.backward, b.positions[first:stop], CELL, first)
        blend_map(b.positions, face, far, x0, y0 + low)
        keep_inside(b.positions, RIM, reach, first, stop)

    def _show(self, b: FrameBuffers, out: Bytes, first: int, stop: int) -> None:
        """Rows ``first``..``stop`` of the person, sampled, over the background."""
        no_second = cast(Bytes, None)  # the map is one [H, W, 2] array
        warped, face = b.warped[first:stop], self.identity
        if len(warped):
            places, border = b.positions[first:stop], cv2.BORDER_REPLICATE
            cv2.remap(face.person, places, no_second, cv2.INTER_LINEAR, warped, border)
            compose(warped, face.background[first:stop], out[first:stop])

    def _grid(self, expression: Float, head: Float, b: FrameBuffers) -> None:
        """The person layer's nodes moved, and that motion inverted."""
        face, g = self.identity, self.node_units
        focal, cx, cy = (float(v) for v in face.intrinsics)
        deform(face.node_points, expression - face.expression, g.offset, g.vertex, g.value, b.nodes)
        project(b.nodes, face.node_weight, face.camera, head, focal, cx, cy, b.nodes_projected)
        flat = b.forward.reshape(-1, 2)
        np.subtract(b.nodes_projected[:, :2], self.node_pixels, out=flat)
        hold_borders(flat, face.node_hold)
        invert_grid(b.forward, b.backward, float(CELL))

    def _face_window(self, b: FrameBuffers) -> tuple[Float, Float, int, int]:
        """Attributes and depth of the box around this frame's face mesh, and its corner."""
        x0, y0, w, h = _box(b.mesh_xyz[: len(self.mesh.ids)], 1.0, SIZE)
        return b.face[: w * h * 3].reshape(h, w, 3), b.depth[: w * h].reshape(h, w), x0, y0

    def windows(
        self, frame: FrameGeometry, b: FrameBuffers, out: Bytes, helper: Executor | None = None
    ) -> None:
        """Eyes and mouth, which never overlap: layer, face, paint."""
        around = frame.landmarks[INNER_LIPS.ravel()]
        room, mesh = b.mouth_window, self.mesh
        canvas = room.open(around, 0.6 * frame.pixels_per_cm, frame.tier, out)
        # The mouth takes longer than both eyes: its mesh is their thread's.
        covered = start(helper, self._cover, canvas, b, room, mesh.around[2], b.mesh_narrow)
        finish = start(helper, self._draw_eyes, frame, b, out)
        if canvas is not None:
            self._layer("mouth", canvas, frame, 0)
            covered()
            self._paint(canvas, b, room, out, b.mesh_narrow.shape[1])
            self._lip_line(canvas, frame)
            average_window(canvas.pixels, out, canvas.x0, canvas.y0, canvas.sx, canvas.sy)
        finish()

    def _draw_eyes(self, frame: FrameGeometry, b: FrameBuffers, out: Bytes) -> None:
        room = b.eye_window
        for eye, rows in enumerate(_LIDS):
            lids = frame.projected[self.lid_vertices[eye], :2]
            around = np.concatenate([frame.landmarks[rows.ravel()], lids])
            canvas = room.open(around, 0.3 * frame.pixels_per_cm, frame.tier, out)
            if canvas is not None:
                self._layer("eyes", canvas, frame, eye)
                self._cover(canvas, b, room, self.mesh.around[eye], b.mesh_wide)
                self._paint(canvas, b, room, out, b.mesh_wide.shape[1])
                self._lashes(canvas, frame, eye)
                average_window(canvas.pixels, out, canvas.x0, canvas.y0, canvas.sx, canvas.sy)

    def _layer(self, name: str, canvas: Canvas, frame: FrameGeometry, part: int) -> None:
        if name in self.layers:
            self.layers[name].draw(canvas, frame, part)

    def _cover(
        self,
        canvas: Canvas | None,
        b: FrameBuffers,
        room: WindowBuffers,
        triangles: NDArray[np.int32],
        values: Float,
    ) -> None:
        """What the face mesh shows in a window; ``values`` per vertex, with paint or without."""
        if canvas is None:
            return
        m = len(self.mesh.ids)
        attributes, over = room.cover(canvas, values.shape[1])
        over.fill(np.inf)
        raster_attributes(
            attributes, over, b.mesh_xyz[:m], triangles, values[:m],
            x0=canvas.x0, y0=canvas.y0, sx=canvas.sx, sy=canvas.sy,
        )  # fmt: skip

    def _paint(self, canvas: Canvas, b: FrameBuffers, room: WindowBuffers, out: Bytes, values: int) -> None:
        """The face mesh, as :meth:`_cover` left it, over what the layer drew."""
        attributes, over = room.cover(canvas, values)
        window = (canvas.x0, canvas.y0, canvas.sx, canvas.sy)
        paint_face(canvas.pixels, attributes, over, b.positions, self.identity.crop, out, window)

    def _lip_line(self, canvas: Canvas, frame: FrameGeometry) -> None:
        """The shadow between lips that the portrait shows parted; closed lips bring their own."""
        line = self.identity.lip_line
        strength = float(line[3]) * self._seal_strength(frame.expression)
        if strength < 0.01:
            return
        contact = 0.5 * (frame.landmarks[INNER_LIPS[0]] + frame.landmarks[INNER_LIPS[1]])
        xyz, triangles = soft_line(lid_edge(contact, 25), 0.07 * frame.pixels_per_cm)
        rgba = np.zeros((len(xyz), 4), np.float32)
        rgba[:, :3] = line[:3]
        rgba[25:50, 3] = strength
        draw_coloured(canvas, xyz, triangles, rgba, test=False, write=False)

    def _lashes(self, canvas: Canvas, frame: FrameGeometry, eye: int) -> None:
        """The dark line of a closing lid."""
        lash = self.identity.lash[eye]
        shut = self._lid_travel(frame.expression, BLINK_UNITS[eye])
        strength = float(lash[3]) * float(smoothstep(0.1, 0.7, shut))
        if strength < 0.01:
            return
        upper, lower = (frame.landmarks[row] for row in _LIDS[eye])
        # Once shut, the upper lid rests on the lower one, whose edge is the steadier curve.
        edge = lid_edge(upper + smoothstep(0.5, 1.0, shut) * (lower - upper), 25)
        xyz, triangles = lash_strip(edge, 0.09 * frame.pixels_per_cm)
        rgba = np.zeros((len(xyz), 4), np.float32)
        rgba[:, :3] = lash[:3]
        rgba[25:50, 3] = strength
        draw_coloured(canvas, xyz, triangles, rgba, test=False, write=False)


def _box(points: Float, margin: float, size: int) -> tuple[int, int, int, int]:
    """x0, y0, width, height of the px box around ``points`` [N, >=2], inside the frame."""
    low_x, low_y, high_x, high_y = bounds(points)
    x0, y0 = max(math.floor(low_x - margin), 0), max(math.floor(low_y - margin), 0)
    x1, y1 = min(math.ceil(high_x + margin), size - 1), min(math.ceil(high_y + margin), size - 1)
    return x0, y0, max(x1 - x0 + 1, 0), max(y1 - y0 + 1, 0)
