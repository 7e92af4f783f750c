"""What all synthetic people share: the head's parts as they are drawn, its skin chart, its occlusion.

The *skin chart* is a cylinder around the head of the mean face: column = azimuth, row = height. Skin
textures are painted in it, and every vertex keeps the chart position of the mean head, so features stay
on the skin whatever identity and expression do. Units are cm in the head coordinates of
:mod:`engine.face.basis`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from engine.animators.mesh.geometry import SparseUnits, pack_units
from engine.animators.mesh.grid import head_weight, smoothstep
from engine.face.basis import FaceBasis, load_basis

__all__ = [
    "CHART", "HEAD_CENTRE", "LABELS", "HeadModel", "chart_pixels", "hair_mask", "head_model", "label",
    "manly",
]  # fmt: skip

Float = NDArray[np.float32]
Int = NDArray[np.int32]

LABELS: tuple[str, ...] = (
    "background", "skin", "ears", "neck", "brows", "eyes", "irises", "lip_upper", "lip_lower", "teeth",
    "mouth", "hair", "beard", "glasses", "clothes",
)  # fmt: skip
"""Names of the segmentation labels; the index is the value."""

CHART = 512
"""Side of the skin chart, px."""
_AZIMUTH, _TOP, _BOTTOM, _AXIS = 1.5, 12.0, -14.0, -1.0

HEAD_CENTRE = np.array([0.0, 4.5, 0.5], np.float32)
"""Middle of the skull: hair directions are counted from here."""


def label(name: str) -> int:
    """The value of a segmentation label."""
    return LABELS.index(name)


def chart_pixels(points: Float) -> Float:
    """Chart px [N, 2] (column, row) of points [N, 3] of the mean head."""
    azimuth = np.arctan2(points[:, 0], points[:, 2] - _AXIS)
    column = (azimuth / (2 * _AZIMUTH) + 0.5) * CHART
    row = (_TOP - points[:, 1]) / (_TOP - _BOTTOM) * CHART
    return np.stack([column, row], 1).astype(np.float32)


@dataclass(frozen=True)
class HeadModel:
    """Arrays of the drawn head; V vertices of the basis, all of them used."""

    basis: FaceBasis
    units: SparseUnits
    """expression units; eyeballs excepted, which turn"""
    marks: Float
    """[468, 3] landmarks of the mean head"""
    chart: Float
    """[V, 2] place in the skin chart, 0..1"""
    weight: Float
    """[V] share in the head's motion, 0 at the shoulders"""
    code: Float
    """[V] segmentation label"""
    skin: Int
    """[F, 3] triangles of face, ears, neck, scalp and lids"""
    coarse: Int
    """[F', 3] about the same surface with few triangles, for shadows"""
    mouth: Int
    """[F, 3] mouth bag, gums, tongue, teeth"""
    eyes: Int
    """[F, 3] whites and irises"""
    eye_slices: tuple[slice, slice]
    """vertices of the left and of the right eyeball"""
    smooth: sp.csr_matrix
    """[V', V'] one step of averaging over neighbours on the V' skin vertices"""
    hair: Float
    """[V'] 0..1 where head hair grows"""
    spokes: Int
    """[64, 128] the outermost skin vertex in each direction from HEAD_CENTRE (polar angle, azimuth)"""


def hair_mask(points: Float, recede: float = 0.0, temple: float = 0.0, wobble: float = 0.0) -> Float:
    """0..1 [N]: where hair grows on the mean head.

    ``recede`` lifts the middle of the hairline and ``temple`` its corners, cm; ``wobble`` shifts its shape.
    """
    azimuth = np.abs(np.arctan2(points[:, 0], points[:, 2] - 1.0))
    at = np.array([0.0, 0.35, 0.62, 0.85, 1.0, 1.12, 1.2, 1.5, 1.75, 1.95, 2.3, 3.2])
    height = np.array([9.3, 9.3, 9.0, 7.6, 6.0, 4.6, 2.4, 4.6, 4.8, 0.5, -4.2, -5.6])
    height = height + recede * np.exp(-((at / 0.55) ** 2)) + temple * np.exp(-(((at - 0.62) / 0.3) ** 2))
    line = np.interp(azimuth, at, height) + wobble * np.sin(7.0 * azimuth + 3.0 * wobble)
    return smoothstep(-0.35, 0.45, points[:, 1] - line)


def _codes(basis: FaceBasis) -> Float:
    code = np.zeros(len(basis.mean), np.float32)
    of = {
        "face": "skin", "ear": "ears", "neck": "neck", "scalp": "skin", "eye_socket": "skin",
        "socket": "mouth", "gums": "mouth", "tongue": "mouth", "teeth_upper": "teeth",
        "teeth_lower": "teeth", "eye_left": "eyes", "eye_right": "eyes", "iris_left": "irises",
        "iris_right": "irises",
    }  # fmt: skip
    for part, name in of.items():
        code[basis.part(part)] = label(name)
    skin = basis.mean[: basis.skin.stop]
    throat = (skin[:, 1] < -8.6 - 0.55 * np.clip(skin[:, 2] - 9.0, -7.0, 0.0)) & (skin[:, 1] < 2.0)
    behind = (skin[:, 1] < -3.5) & (skin[:, 2] < 1.0)
    code[: len(skin)][(throat | behind) & (code[: len(skin)] == label("skin"))] = label("neck")
    return code


def _smoothing(basis: FaceBasis, count: int) -> sp.csr_matrix:
    t = basis.triangles
    t = t[(t < count).all(1)]
    i = np.concatenate([t[:, 0], t[:, 1], t[:, 2], t[:, 1], t[:, 2], t[:, 0]])
    j = np.concatenate([t[:, 1], t[:, 2], t[:, 0], t[:, 0], t[:, 1], t[:, 2]])
    graph = sp.csr_matrix((np.ones(len(i), np.float32), (i, j)), (count, count))
    graph.data[:] = 1.0
    graph = graph + sp.identity(count, dtype=np.float32, format="csr")
    return sp.csr_matrix(sp.diags(1.0 / np.asarray(graph.sum(1)).ravel()) @ graph, dtype=np.float32)


def _spokes(points: Float) -> Int:
    """The outermost vertex of ``points`` in 64 x 128 directions; empty ones take their neighbour's."""
    d = points - HEAD_CENTRE
    radius = np.linalg.norm(d, axis=1)
    polar = np.arccos(np.clip(d[:, 1] / radius, -1, 1)) / np.pi * 64
    azimuth = (np.arctan2(d[:, 0], d[:, 2]) / (2 * np.pi) + 0.5) * 128
    best = np.full((64, 128), -1, np.int32)
    row, column = np.clip(polar.astype(int), 0, 63), azimuth.astype(int) % 128
    for k in np.argsort(radius):
        best[row[k], column[k]] = k
    from scipy.ndimage import distance_transform_edt

    wide = np.concatenate([best, best, best], 1)
    _, (r, c) = distance_transform_edt(wide < 0, return_indices=True)
    filled: Int = wide[r, c][:, 128:256]
    return np.ascontiguousarray(filled, np.int32)


def _clustered(points: Float, triangles: Int, cell: float) -> Int:
    """Triangles between one vertex per cubic ``cell`` (cm); those that collapse are dropped."""
    _, first, place = np.unique(
        np.floor(points / cell).astype(int), axis=0, return_index=True, return_inverse=True
    )
    moved = first[place.reshape(-1)][triangles]
    real = (moved[:, 0] != moved[:, 1]) & (moved[:, 1] != moved[:, 2]) & (moved[:, 0] != moved[:, 2])
    return np.ascontiguousarray(moved[real], np.int32)


@lru_cache(maxsize=1)
def manly() -> Float:
    """[80] the smallest change of identity towards a man's average face, about one deviation.

    Broader in the jaw, heavier in the brow, longer in the chin and nose, thinner in the lips, with smaller
    eyes and a thicker neck: ridge regression on these ten lengths.
    """
    basis = load_basis()
    moves = basis.at_landmarks(basis.identity)

    def span(a: int, b: int, axis: int) -> Float:
        return np.asarray(moves[:, a, axis] - moves[:, b, axis], np.float32)

    neck = basis.identity[:, basis.part("neck")]
    wide = np.sign(basis.mean[basis.part("neck"), 0]) * (
        np.abs(basis.mean[basis.part("neck"), 1] + 9.0) < 2.0
    )
    features = np.stack([
        span(397, 172, 0), span(378, 149, 0), span(14, 152, 1), span(327, 98, 0), span(168, 2, 1),
        span(0, 13, 1) + span(14, 17, 1), span(386, 374, 1) + span(159, 145, 1),
        span(107, 168, 2) + span(336, 168, 2),
        span(105, 159, 1) + span(334, 386, 1), (neck[..., 0] * wide).mean(1),
    ])  # fmt: skip
    size = np.linalg.norm(features, axis=1, keepdims=True) + 1e-6
    want = np.array([1.0, 1.0, 0.7, 0.7, 0.6, -0.8, -0.6, 1.0, -0.8, 0.8])
    step = np.linalg.lstsq(
        np.vstack([features / size, 0.35 * np.eye(features.shape[1])]),
        np.append(want, np.zeros(features.shape[1])),
        rcond=None,
    )[0]
    return np.asarray(step, np.float32)


@lru_cache(maxsize=1)
def head_model() -> HeadModel:
    """The shared arrays, made once per process."""
    basis = load_basis()
    dense = basis.expression.copy()
    dense[:, basis.parts("eye_left", "iris_right")] = 0.0
    eyes = ("eye_left", "iris_left", "eye_right", "iris_right")
    count = basis.skin.stop
    chart = chart_pixels(basis.mean) / CHART
    head = basis.mean[:count]
    return HeadModel(
        basis=basis,
        units=pack_units(dense, 1e-4),
        marks=basis.at_landmarks(basis.mean),
        chart=chart.astype(np.float32),
        weight=head_weight(basis.mean),
        code=_codes(basis),
        skin=basis.triangles_of("face", "ear", "neck", "scalp", "eye_socket"),
        coarse=_clustered(basis.mean, basis.triangles_of("face", "ear", "neck", "scalp"), 0.55),
        mouth=basis.triangles_of("socket", "gums", "tongue", "teeth_upper", "teeth_lower"),
        eyes=basis.triangles_of(*eyes),
        eye_slices=(basis.parts("eye_left", "iris_left"), basis.parts("eye_right", "iris_right")),
        smooth=_smoothing(basis, count),
        hair=hair_mask(head) * (basis.vertex_part[:count] != 1),
        spokes=_spokes_without_ears(basis, count),
    )


def _spokes_without_ears(basis: FaceBasis, count: int) -> Int:
    kept = np.flatnonzero(basis.vertex_part[:count] != 1).astype(np.int32)
    kept = kept[basis.mean[kept, 1] > -9.0]
    chosen: Int = kept[_spokes(basis.mean[kept])]
    return chosen
