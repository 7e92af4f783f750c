"""All vertices and triangles of a person in a few arrays, and their drawing into ids and depths."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from engine.synth.people import raster
from engine.synth.people.figure import Pose

__all__ = ["Kind", "Lookup", "Part"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]

_NONE = np.zeros((2, 2), np.float32)


class Kind(IntEnum):
    """What a triangle is made of; 0 is the backdrop."""

    SKIN = 1
    EYE = 2
    MOUTH = 3
    CLOTH = 4
    HAIR = 5
    BEARD = 6
    LASH = 7
    FRAME = 8
    LENS = 9


_CULLED = (Kind.SKIN, Kind.EYE, Kind.MOUTH)
_HOLES = {Kind.CLOTH: raster.RIM, Kind.HAIR: raster.CARD, Kind.BEARD: raster.CARD, Kind.LASH: raster.LASH}


@dataclass(frozen=True)
class Part:
    """N vertices in head coordinates and the triangles between them, by kind."""

    points: Float
    """[N, 3]"""
    weight: Float
    """[N] share in the head's motion"""
    triangles: dict[Kind, Int]
    normal: Float
    """[N, 3]"""
    soft: Float
    """[N, 3] normals averaged over a few millimetres or tangents, which turn; or places at rest"""
    turning: int
    """so many vertices, from the first on, have something in ``soft`` that turns"""
    uv: Float | None = None
    """[N, 2]"""
    paint: Float | None = None
    """[N, 4]"""
    code: Float | None = None
    """[N] labels"""
    rim: Float | None = None
    """[N] cm from a hole's rim, negative inside"""
    shadow: Int | None = None
    """[F, 3] triangles that throw a shadow"""

    def rows(self) -> Float:
        """[N, 16] as :mod:`engine.synth.people.raster` wants them; the fourth is the weight."""
        out = np.zeros((len(self.points), 16), np.float32)
        out[:, :3], out[:, 3], out[:, 4:7], out[:, 8:11] = self.points, self.weight, self.normal, self.soft
        if self.uv is not None:
            out[:, 7], out[:, 11] = self.uv[:, 0], self.uv[:, 1]
        if self.paint is not None:
            out[:, 12:] = self.paint
        return out


class Lookup:
    """The arrays of the person that was loaded last.

    ``table`` [V, 16] are vertices in head coordinates, ``stood`` the same in camera space, ``screen`` [V, 4]
    on the screen; ``corners`` [F, 4] triangles and their labels.
    """

    def __init__(self) -> None:
        self.table = self.stood = np.zeros((0, 16), np.float32)
        self.screen = np.zeros((0, 4), np.float32)
        self.corners = np.zeros((0, 4), np.int32)
        self.slices: dict[str, slice] = {}
        self._triangles: dict[Kind, tuple[int, Int]] = {}
        self._shadows: list[tuple[str, Int]] = []
        self._turning: dict[str, int] = {}

    def load(self, parts: dict[str, Part]) -> None:
        """Replace the person."""
        self.table = np.concatenate([part.rows() for part in parts.values()])
        self.stood, self.screen = self.table.copy(), np.zeros((len(self.table), 4), np.float32)
        corners, at, seen = [], 0, 0
        self.slices, self._triangles, self._shadows, self._turning = {}, {}, [], {}
        for name, part in parts.items():
            self.slices[name] = slice(at, at + len(part.points))
            self._turning[name] = at + part.turning
            if part.rim is not None:
                self.screen[self.slices[name], 3] = part.rim
            if part.shadow is not None:
                self._shadows.append((name, np.ascontiguousarray(part.shadow + at, np.int32)))
            for kind, local in part.triangles.items():
                code = np.zeros(len(local)) if part.code is None else part.code[local[:, 2]]
                triangles = np.ascontiguousarray(local + at, np.int32)
                corners.append(np.column_stack([triangles, code.astype(np.int32)]))
                self._triangles[kind] = (kind << 24 | seen, triangles)
                seen += len(triangles)
            at += len(part.points)
        self.corners = np.ascontiguousarray(np.concatenate(corners), np.int32)

    def rows(self, name: str) -> Float:
        """View [N, 16] of a part's rows of ``table``."""
        return self.table[self.slices[name]]

    def stand(self, pose: Pose) -> None:
        """Bring all vertices to camera space."""
        for name, part in self.slices.items():
            turned = self._turning[name]
            raster.place(self.table, part.start, turned, True, pose.body, pose.head, self.stood)
            raster.place(self.table, turned, part.stop, False, pose.body, pose.head, self.stood)

    def see(self, lens: Float, per_px: float) -> None:
        """Project all vertices; see :func:`raster.screen_of`."""
        raster.screen_of(self.stood, 0, len(self.stood), lens, per_px, self.screen)

    def draw(self, kinds: tuple[Kind, ...], ids: Int, near: Float, cover: Float, cut: float) -> None:
        """Draw the person's triangles of ``kinds`` into ``ids`` and ``near`` [S, S], in this order."""
        for kind in kinds:
            if kind in self._triangles:
                first, triangles = self._triangles[kind]
                raster.draw(
                    ids, near, self.screen, self.stood, triangles, first, int(kind in _CULLED),
                    _HOLES.get(kind, raster.SOLID), cover, cut,
                )  # fmt: skip

    def draw_shadow(self, sun: Float, side: int, cover: Float, cut: float) -> Float:
        """Depths [side, side] that the light sees, 0 near .. 1."""
        near, ids = np.zeros((side, side), np.float32), np.empty((side, side), np.int32)
        screen = np.empty((len(self.stood), 4), np.float32)
        for name, triangles in self._shadows:
            part = self.slices[name]
            raster.shadow_of(self.stood, part.start, part.stop, sun, side, screen)
            holes = raster.CARD if name in ("hair", "beard") else raster.SOLID
            raster.draw(ids, near, screen, self.stood, triangles, 0, -(name == "head"), holes, cover, cut)
        return np.float32(1.0) - near
