"""Preparation of the face mesh: which skin the photo shows, and where each vertex takes its colour.

Vertices the photo hides (inner lips, lid folds, the far cheek) take the colour of the nearest
visible skin along the surface; where the mesh knows too little it fades into the person layer.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from engine.animators.mesh.geometry import unit_normals
from engine.animators.mesh.grid import head_weight, smoothstep
from engine.face.basis import FaceBasis
from engine.face.fitter import FaceFit
from engine.face.residual import INNER_LIPS, LEFT_LIDS, RIGHT_LIDS
from kernels.raster import raster_attributes

__all__ = ["SkinRegions", "face_alpha", "skin_graph", "skin_regions", "source_positions", "visible_skin"]

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

_LIP_REACH_CM, _LID_REACH_CM = 2.0, 1.1
_PRESS_CM, _LID_PRESS_CM = 0.035, 0.02
"""Closed lips and lids overlap by this much, so that no seam of light stays between them."""
_ROUNDS = 3


class SkinRegions:
    """Masks over all vertices [V]: ``mouth`` and ``eyes`` are the skin around lips and lids."""

    def __init__(self, basis: FaceBasis, vertices: Float) -> None:
        lips = np.concatenate([basis.lip_upper, basis.lip_lower])
        lids = np.concatenate([*basis.lid_left, *basis.lid_right])
        skin = np.zeros(len(vertices), bool)
        skin[basis.skin] = True
        self.skin: Bool = skin
        self.mouth: Bool = skin & (cKDTree(vertices[lips]).query(vertices)[0] < _LIP_REACH_CM)
        self.eyes: Bool = skin & (cKDTree(vertices[lids]).query(vertices)[0] < _LID_REACH_CM)


def skin_regions(basis: FaceBasis, vertices: Float) -> SkinRegions:
    """Regions of the skin for this person's ``vertices`` [V, 3]."""
    return SkinRegions(basis, vertices)


def skin_graph(basis: FaceBasis, vertices: Float) -> sp.csr_matrix:
    """Edge lengths (cm) of the skin mesh, sparse [V, V], symmetric."""
    t = basis.triangles_of("face", "ear", "neck", "scalp").astype(np.int64)
    edges = np.unique(np.sort(np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]]), axis=1), axis=0)
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1) + 1e-6
    n = len(vertices)
    graph = sp.coo_matrix((length, (edges[:, 0], edges[:, 1])), shape=(n, n)).tocsr()
    return sp.csr_matrix(graph + graph.T)


def visible_skin(basis: FaceBasis, projected: Float, normals: Float, size: int) -> Bool:
    """bool [V]: skin vertices the portrait shows (nearest along their ray, not grazing)."""
    depth = np.full((size, size), np.inf, np.float32)
    seen = np.zeros((size, size, 1), np.float32)
    skin = basis.triangles_of("face", "ear", "neck", "scalp")
    raster_attributes(seen, depth, projected, skin, projected[:, 2:].copy(), cull=True)
    # A vertex on an edge may fall just outside its own triangles: ask the neighbourhood.
    around = cv2.dilate(np.where(np.isfinite(depth), depth, 0.0), np.ones((3, 3), np.uint8))
    xy = projected[:, :2].round().astype(int)
    inside = ((xy >= 0) & (xy < size)).all(1)
    xy = np.clip(xy, 0, size - 1)
    shown = inside & (projected[:, 2] < around[xy[:, 1], xy[:, 0]] + 0.12) & (normals[:, 2] > 0.1)
    mask = np.zeros(len(projected), bool)
    mask[basis.skin] = shown[basis.skin]
    return mask


def source_positions(
    basis: FaceBasis, regions: SkinRegions, projected: Float, visible: Bool, graph: sp.csr_matrix
) -> Float:
    """Where each vertex takes its colour, crop px [V, 2].

    Visible vertices at their own place. Hidden ones copy the geodesically nearest visible vertex
    and are then smoothed, so that a lip rolling outwards stretches its last visible millimetre
    instead of showing teeth, and a nostril its own dark rim.
    """
    source = projected[:, :2].copy()
    good = visible & regions.skin
    _, _, origin = csgraph.dijkstra(
        graph, directed=False, indices=np.nonzero(good)[0], min_only=True, return_predecessors=True
    )
    fix = regions.skin & ~good & (origin >= 0)
    source[fix] = source[origin[fix]]
    step = graph.astype(bool).astype(np.float32)
    degree = np.maximum(np.asarray(step.sum(1)).ravel(), 1.0)
    mean = sp.diags(1.0 / degree) @ step
    for _ in range(6):
        source[fix] = (0.5 * source + 0.5 * (mean @ source))[fix]
    return source.astype(np.float32)


def face_alpha(
    basis: FaceBasis, regions: SkinRegions, neutral: Float, normals: Float, graph: sp.csr_matrix
) -> Float:
    """How much of the mesh is shown at each vertex [V]: 1 on the reliable face, 0 at its rim.

    Distance along the skin from anything doubtful: grazing skin, ears, scalp, neck, the border.
    """
    face = np.zeros(len(neutral), bool)
    face[basis.part("face")] = True
    doubtful = regions.skin & (normals[:, 2] < 0.25) & ~regions.mouth & ~regions.eyes
    mean = basis.mean
    # The underside of nose and brow grazes the view but lies in the middle of a known face.
    core = (np.abs(mean[:, 0]) < 4.3) & (mean[:, 1] > -5.5) & (mean[:, 1] < 6.5) & (mean[:, 2] > 6.5)
    doubtful &= ~core
    doubtful |= regions.skin & ~face
    doubtful |= regions.skin & (head_weight(neutral) < 0.93)
    doubtful |= regions.skin & ~regions.mouth & _under_jaw(basis)
    distance = csgraph.dijkstra(graph, directed=False, indices=np.nonzero(doubtful)[0], min_only=True)
    alpha = smoothstep(0.15, 1.5, np.asarray(distance, np.float32))
    alpha[(regions.mouth | regions.eyes) & face] = 1.0
    alpha[~regions.skin] = 0.0
    # The throat below the jaw may face the camera again, but it does not move like the face.
    shown = np.nonzero(alpha > 0.3)[0]
    _, island = csgraph.connected_components(graph[shown][:, shown], directed=False)
    largest = np.bincount(island).argmax()
    mainland = np.zeros(len(alpha), bool)
    mainland[shown[island == largest]] = True
    reach = csgraph.dijkstra(graph, directed=False, indices=np.nonzero(mainland)[0], min_only=True, limit=0.6)
    alpha[~np.isfinite(reach)] = 0.0
    return np.asarray(alpha, np.float32)


def _under_jaw(basis: FaceBasis) -> Bool:
    """bool [V]: the average head's skin below the jaw line, which faces down."""
    normals = np.empty_like(basis.mean)
    unit_normals(basis.mean, basis.triangles, np.eye(3, dtype=np.float32), normals)
    down = (normals[:, 1] < -0.4) & (normals[:, 2] < 0.6)
    return np.asarray(down & (basis.mean[:, 1] < -3.5), np.bool_)


def carrying_skin(basis: FaceBasis, regions: SkinRegions, visible: Bool, normals: Float) -> Bool:
    """bool [V]: skin whose expression the surroundings (hair, throat) follow: not lips, lids, ears.

    The chin counts however the open jaw tilts it away from the view.
    """
    mean_normals = np.empty_like(basis.mean)
    unit_normals(basis.mean, basis.triangles, np.eye(3, dtype=np.float32), mean_normals)
    face = np.zeros(len(visible), bool)
    face[basis.part("face")] = True
    chin = face & (basis.mean[:, 1] < -6.0) & (mean_normals[:, 2] > 0.25) & (normals[:, 2] > -0.3)
    carried = (visible & (normals[:, 2] > 0.2)) | chin
    carried[basis.part("ear")] = False
    return np.asarray(carried & ~regions.mouth & ~regions.eyes, np.bool_)


def _curve_gap(basis: FaceBasis, vertices: Float, rows: NDArray[np.int64]) -> tuple[Float, Float]:
    """3D points of two facing landmark rows [2, n]: (upper [n, 3], lower [n, 3])."""
    at = basis.at_landmarks(vertices)
    return at[rows[0]], at[rows[1]]


def lip_seal(basis: FaceBasis, closed: Float) -> Float:
    """Moves [V, 3] (cm) that bring the visible lip edges of ``closed`` (jaw shut) together.

    The model's own lip loops lie behind the visible edge and a fit leaves a fraction of a
    millimetre between them: a bright line between lips that should touch.
    """
    skin = np.zeros(len(closed), bool)
    skin[: basis.part("gums").start] = True
    pull = np.where(basis.lower > 0.5, -0.5, 0.5) * skin
    moves = np.zeros_like(closed)
    for _ in range(_ROUNDS):
        vertices = closed + moves
        upper, lower = _curve_gap(basis, vertices, INNER_LIPS)
        gap = lower - upper
        gap[:, 1] -= _PRESS_CM
        gap[[0, -1]] = 0.0
        middle = 0.5 * (upper + lower)
        order = np.argsort(middle[:, 0])
        x = vertices[:, 0]
        across = np.stack(
            [np.interp(x, middle[order, 0], gap[order, k], left=0, right=0) for k in range(3)], 1
        )
        across[:, 2] *= 0.5
        distance = cKDTree(np.concatenate([upper, lower])).query(vertices)[0]
        ends = smoothstep(-0.5, 0.3, x - middle[:, 0].min()) * smoothstep(-0.5, 0.3, middle[:, 0].max() - x)
        reach = np.exp(-((distance / 0.75) ** 2)) * ends * (distance < 2.0)
        moves += (pull * reach)[:, None] * across
    return np.asarray(moves, np.float32)


def blink_completion(
    basis: FaceBasis, neutral: Float, expression: Float, unit: int, rows: NDArray[np.int64]
) -> Float:
    """Moves [V, 3] (cm) that the full blink ``unit`` lacks to bring upper lid onto lower lid.

    ``rows`` [2, 9] are the landmarks of the visible lid edges; the model's lid loops lie behind
    them. The upper lid's own blink field carries the correction.
    """
    shut = expression.copy()
    shut[unit] = 1.0
    vertices = neutral + np.tensordot(shut, basis.expression, 1).astype(np.float32)
    size = np.linalg.norm(basis.expression[unit], axis=1)
    size[basis.skin.stop :] = 0.0
    share = np.clip(size / max(float(np.percentile(size[size > 0.3 * size.max()], 85)), 1e-6), 0.0, 1.0)
    # Which vertices belong to the upper lid must not change while it moves.
    _, lower = _curve_gap(basis, neutral, rows)
    order = np.argsort(lower[:, 0])
    floor = np.interp(neutral[:, 0], lower[order, 0], lower[order, 1])
    share = share * smoothstep(0.0, 0.2, neutral[:, 1] - floor)
    lid = share > 0.6
    moves = np.zeros_like(vertices)
    for _ in range(_ROUNDS):
        now = vertices + moves
        _, lower = _curve_gap(basis, now, rows)
        order = np.argsort(lower[:, 0])
        x = np.linspace(lower[order[0], 0], lower[order[-1], 0], 21)[1:-1]
        edge = _lowest(now[lid], x)
        gap = np.interp(x, lower[order, 0], lower[order, 1]) - _LID_PRESS_CM - edge
        gap = np.convolve(np.pad(gap, 2, mode="edge"), np.full(5, 0.2), "valid")
        gap *= np.sin(np.pi * (np.arange(len(x)) + 1) / (len(x) + 1)) ** 0.3
        moves[:, 1] += share * np.interp(now[:, 0], x, gap)
    return np.asarray(moves, np.float32)


def _lowest(points: Float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower envelope of ``points`` [n, 3] at each of ``x`` [m]: the smallest y nearby."""
    near = np.abs(points[:, 0][None] - x[:, None]) < 0.13
    y = np.where(near, points[:, 1][None], np.inf).min(1)
    known = np.isfinite(y)
    return np.asarray(np.interp(x, x[known], y[known]) if known.any() else np.zeros_like(x), np.float64)


def camera_normals(basis: FaceBasis, vertices: Float, fit: FaceFit) -> Float:
    """Outward unit normals [V, 3] in camera space."""
    out = np.empty_like(vertices)
    unit_normals(vertices, basis.triangles, np.ascontiguousarray(fit.rotation, np.float32), out)
    return out


LID_ROWS = (RIGHT_LIDS, LEFT_LIDS)
"""Lid landmarks of the right and the left eye."""
