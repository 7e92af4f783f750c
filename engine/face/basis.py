"""The face basis: one linear head model shared by fitter, animators and synthetic data.

A head is ``mean + identity @ a + expression @ b`` over one fixed topology. Coordinates are
centimetres, +x to the subject's left, +y up, +z to the camera; triangles wind counter-clockwise
seen from outside. The vertices derive from USC-ICT's face model (MIT licence, see
``engine/assets/face_basis.LICENSE``) and ``engine/train/basis.py`` rebuilds the file.

This module reads the file and knows nothing about images, cameras or fitting.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from engine.config import asset_path
from engine.errors import AssetError
from engine.types import EXPRESSION_NAMES

__all__ = ["BASIS_VERSION", "PARTS", "FaceBasis", "load_basis", "read_basis"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]

BASIS_VERSION = 1

# Parts in vertex order: the vertices of one part are contiguous.
PARTS: tuple[str, ...] = (
    "face",  # the skin from hairline to jaw, lips, lids, nostrils; full detail
    "ear",  # both
    "neck",  # throat, nape and shoulders, simplified
    "scalp",  # top and back of the skull, simplified
    "eye_socket",  # both, the skin behind the lids
    "socket",  # the mouth bag behind the lips
    "gums",
    "tongue",
    "teeth_upper",
    "teeth_lower",
    "eye_left",  # white shell, open in front of the iris
    "iris_left",  # inner ball that carries iris and pupil
    "eye_right",
    "iris_right",
)


@dataclass(frozen=True)
class FaceBasis:
    """Arrays of the head model; V vertices, F triangles.

    Everything is read-only and shared: copy before changing.
    """

    mean: Float
    """[V, 3] cm, the average head with closed lips and open eyes."""
    identity: Float
    """[80, V, 3] cm per standard deviation: coefficients are about N(0, 1)."""
    expression: Float
    """[64, V, 3] cm at coefficient 1, in the order of ``engine.types.EXPRESSION_NAMES``."""
    triangles: Int
    """[F, 3] vertex indices, counter-clockwise seen from outside; grouped by part."""
    vertex_part: NDArray[np.uint8]
    """[V] index into :data:`PARTS`; ascending."""
    triangle_part: NDArray[np.uint8]
    """[F] the part a triangle belongs to (that of its first vertex in the source model)."""
    mirror: Int
    """[V] the vertex across the mid-line; itself on the mid-line and for the few without a partner."""
    source_vertex: Int
    """[V] vertex id in the ICT model, for tools that know that numbering."""
    lower: Float
    """[V] 0..1: how much a vertex goes with the jaw (1 lower lip, lower teeth, tongue; 0 upper lip,
    skull). Lips touch at rest, so use this, never distance alone, to tell the upper from the lower."""
    lip_upper: Int
    """[N] the inner upper lip from the subject's right corner to the left one, corners included.
    It lies behind the visible lip edge, where the skin ends and the mouth bag begins."""
    lip_lower: Int
    """[N] likewise the lower lip, right corner to left corner."""
    lid_left: tuple[Int, Int]
    """(upper, lower) lid margin of the left eye, inner corner to outer corner, corners included."""
    lid_right: tuple[Int, Int]
    """(upper, lower) lid margin of the right eye, inner corner to outer corner."""
    landmark_tri: Int
    """[468, 3] vertices of the triangle that carries each face-mesh landmark."""
    landmark_bary: Float
    """[468, 3] barycentric weights in that triangle."""
    landmark_weight: Float
    """[468] 0..1 reliability: low on the silhouette, where landmarks slide over the skin."""
    eye_centre: Float
    """[2, 3] centre of rotation of the left and the right eyeball, cm, on the mean head."""
    eye_radius: Float
    """[2] cm."""
    iris_radius: Float
    """[2] cm."""
    metadata: dict[str, str]
    """Provenance: source, licence, commit of the builder, measured errors."""

    def part(self, name: str) -> slice:
        """Vertices of one of :data:`PARTS`; ValueError for an unknown name."""
        if name not in PARTS:
            raise ValueError(f"no part {name!r} in the face basis; there are {', '.join(PARTS)}")
        code = PARTS.index(name)
        first, last = np.searchsorted(self.vertex_part, [code, code + 1])
        return slice(int(first), int(last))

    def parts(self, first: str, last: str) -> slice:
        """Vertices from part ``first`` to part ``last``, both included."""
        return slice(self.part(first).start, self.part(last).stop)

    @property
    def skin(self) -> slice:
        """Vertices of face, ears, neck and scalp: one connected surface."""
        return self.parts("face", "scalp")

    def triangles_of(self, *names: str) -> Int:
        """Triangles [F', 3] of the named parts."""
        codes = [PARTS.index(n) for n in names]
        return self.triangles[np.isin(self.triangle_part, codes)]

    def shape(self, identity: Float | None = None, expression: Float | None = None) -> Float:
        """Vertices [V, 3] of a head: ``identity`` [K <= 80], ``expression`` [64]."""
        vertices = self.mean.copy()
        if identity is not None:
            vertices += np.tensordot(identity, self.identity[: len(identity)], 1).astype(np.float32)
        if expression is not None:
            vertices += np.tensordot(expression, self.expression, 1).astype(np.float32)
        return vertices

    def at_landmarks(self, values: Float) -> Float:
        """Values [..., V, C] carried to the 468 landmarks: [..., 468, C]."""
        picked = values[..., self.landmark_tri, :]
        carried: Float = np.einsum("...lkc,lk->...lc", picked, self.landmark_bary)
        return carried


def _expression(tensors: dict[str, NDArray[np.generic]], vertices: int) -> Float:
    """Dense [64, V, 3] from the rows that move: unit u owns entries offset[u]:offset[u + 1]."""
    dense = np.zeros((len(EXPRESSION_NAMES), vertices, 3), np.float32)
    offset = tensors["expression_offset"].astype(np.int64)
    unit = np.repeat(np.arange(len(EXPRESSION_NAMES)), np.diff(offset))
    dense[unit, tensors["expression_vertex"].astype(np.int64)] = tensors["expression_value"]
    return dense


def read_basis(path: Path) -> FaceBasis:
    """Read a basis file; AssetError if it is missing, damaged or of another version."""
    if not path.is_file():
        raise AssetError(
            f"the face basis {path} is missing: reinstall visavis, or rebuild the file with "
            "'python -m engine.train.basis --data DIR'"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise AssetError(f"the face basis {path} is damaged ({error}): reinstall visavis") from error
    if metadata.get("version") != str(BASIS_VERSION):
        raise AssetError(
            f"the face basis {path} has version {metadata.get('version')}, this visavis reads "
            f"{BASIS_VERSION}: reinstall visavis, or rebuild it with 'python -m engine.train.basis'"
        )
    if tuple(json.loads(metadata["expression_names"])) != EXPRESSION_NAMES:
        raise AssetError(
            f"the expression units of {path} are not those of engine.types: rebuild the file with "
            "'python -m engine.train.basis --data DIR'"
        )
    return _assemble(tensors, metadata)


def _assemble(tensors: dict[str, NDArray[np.generic]], metadata: dict[str, str]) -> FaceBasis:
    vertices = len(tensors["mean"])

    def real(name: str) -> Float:
        return np.ascontiguousarray(tensors[name], np.float32)

    def index(name: str) -> Int:
        return np.ascontiguousarray(tensors[name], np.int32)

    basis = FaceBasis(
        mean=real("mean"),
        identity=real("identity"),
        expression=_expression(tensors, vertices),
        triangles=index("triangles"),
        vertex_part=tensors["vertex_part"].astype(np.uint8),
        triangle_part=tensors["triangle_part"].astype(np.uint8),
        mirror=index("mirror"),
        source_vertex=index("source_vertex"),
        lower=real("lower"),
        lip_upper=index("lip_upper"),
        lip_lower=index("lip_lower"),
        lid_left=(index("lid_left_upper"), index("lid_left_lower")),
        lid_right=(index("lid_right_upper"), index("lid_right_lower")),
        landmark_tri=index("landmark_tri"),
        landmark_bary=real("landmark_bary"),
        landmark_weight=real("landmark_weight"),
        eye_centre=real("eye_centre"),
        eye_radius=real("eye_radius"),
        iris_radius=real("iris_radius"),
        metadata=metadata,
    )
    for value in vars(basis).values():
        for array in value if isinstance(value, tuple) else (value,):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
    return basis


@lru_cache(maxsize=1)
def load_basis() -> FaceBasis:
    """The shipped basis, read once per process (frozen arrays, so sharing is safe)."""
    return read_basis(asset_path("face_basis.safetensors"))
