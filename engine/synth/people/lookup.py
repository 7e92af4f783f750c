"""All vertices and triangles of a person in two tables, which shaders and ground truth look up.

A vertex has four texels: place and its share in the head's motion; normal and u; soft normal (or place at
rest) and v; paint. A triangle has three vertices and the label of the third.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from engine.synth.people.gpu import Gpu, Table

__all__ = ["Kind", "Lookup", "Part"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]

_ROWS = 1024


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


@dataclass(frozen=True)
class Part:
    """N vertices and the triangles between them, by kind."""

    points: Float
    """[N, 3]"""
    weight: Float
    """[N]"""
    triangles: dict[Kind, Int]
    normal: Float | None = None
    """[N, 3]"""
    soft: Float | None = None
    """[N', 3] of the first N' vertices"""
    uv: Float | None = None
    """[N, 2]"""
    paint: Float | None = None
    """[N, 4]"""
    code: Float | None = None
    """[N] labels"""

    def rows(self) -> Float:
        """[N, 4, 4] as the table holds them."""
        out = np.zeros((len(self.points), 4, 4), np.float32)
        out[:, 0, :3], out[:, 0, 3] = self.points, self.weight
        if self.normal is not None:
            out[:, 1, :3] = self.normal
        if self.soft is not None:
            out[: len(self.soft), 2, :3] = self.soft
        if self.uv is not None:
            out[:, 1, 3], out[:, 2, 3] = self.uv[:, 0], self.uv[:, 1]
        if self.paint is not None:
            out[:, 3] = self.paint
        return out


def _padded(count: int, of: int) -> int:
    return -(-count // of) * of


class Lookup:
    """The tables of the person that was loaded last.

    Parts that move within the head come first, so that a frame uploads a prefix.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._vertices, self._corners = Table(gpu.context, "f4"), Table(gpu.context, "i4")
        self.table = np.zeros((0, 4, 4), np.float32)
        self.corners = np.zeros((0, 4), np.int32)
        self.first = np.zeros((0, 4), np.float32)
        self.first_id: dict[Kind, int] = {}
        self.slices: dict[str, slice] = {}
        self._moving = 0

    def load(self, parts: dict[str, Part], moving: int) -> None:
        """Replace the person; the first ``moving`` parts change from frame to frame."""
        count = sum(len(p.points) for p in parts.values())
        self.table = np.zeros((_padded(count, _ROWS // 4), 4, 4), np.float32)
        corners, at, seen = [], 0, 0
        self.slices, self.first_id = {}, {}
        for k, (name, part) in enumerate(parts.items()):
            self.slices[name] = slice(at, at + len(part.points))
            self.table[self.slices[name]] = part.rows()
            for kind, triangles in part.triangles.items():
                code = np.zeros(len(triangles)) if part.code is None else part.code[triangles[:, 2]]
                corners.append(np.column_stack([triangles + at, code.astype(np.int32)]))
                self.first_id[kind] = kind << 24 | seen
                seen += len(triangles)
            at += len(part.points)
            if k + 1 == moving:
                self._moving = _padded(at, _ROWS // 4)
        self.corners = np.zeros((_padded(seen, _ROWS), 4), np.int32)
        self.corners[:seen] = np.concatenate(corners)
        self.first = self.table[:, 0].copy()
        self._corners.write(self.corners)
        self._vertices.write(self.table.reshape(-1, 4))

    def points(self, name: str) -> Float:
        """View [N, 3] of a part's vertices."""
        return self.table[self.slices[name], 0, :3]

    def upload(self) -> None:
        """Send what moves."""
        self._vertices.write(self.table[: self._moving].reshape(-1, 4))

    def use(self, corners: int, vertices: int) -> None:
        """Bind the tables to texture units."""
        self._corners.use(corners)
        self._vertices.use(vertices)
