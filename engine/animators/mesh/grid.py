"""The person layer: the whole photo on a coarse grid of points in space.

Every node of a 65 x 65 grid gets a depth (the fitted head's where it is, a soft continuation over
hair and shoulders elsewhere), a share in the head's motion (skull 1, fading down the neck to 0 at
the shoulders and at the crop's border) and the expression units of the skin it lies on, spread
outwards until they die. A node is then just another vertex of the model: it deforms, turns and
projects like the face, so hair and neck follow the head smoothly and without a solver per frame.

Smooth continuation solves (a L + b L^2 + W) x = W x_known, a membrane with bending stiffness
(Terzopoulos, "The computation of visible-surface representations", 1988); L is the grid Laplacian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from engine.animators.mesh.geometry import SparseUnits, pack_units
from engine.animators.mesh.layers import SourceGeometry
from kernels.raster import raster_attributes

__all__ = ["CELL", "NODES", "PersonGrid", "head_weight", "hold_borders", "prepare_grid", "smoothstep"]

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

CELL = 8
NODES = 65
_MEMBRANE, _BENDING = 0.06, 0.25
# Steepest usable depth: at the largest yaw, dx/dx = 1 - slope * sin(yaw) must stay positive.
_MAX_SLOPE = 1.5
_CHIN = 152  # landmark
_EAR = np.array([0.0, 1.0, 0.0], np.float32)
"""The ears' plane, model space."""


@dataclass(frozen=True)
class PersonGrid:
    """``points`` float32 [NODES**2, 3] model space at rest; ``weight`` float32 [NODES**2] share in
    the head's motion; ``hold`` float32 [NODES**2, 4] see :func:`hold_borders`; ``units`` expression
    units of the nodes."""

    points: Float
    weight: Float
    hold: Float
    units: SparseUnits


def smoothstep(low: float, high: float, x: NDArray[np.floating[Any]] | float) -> Float:
    """0 below ``low``, 1 above ``high``, cubic between (``low`` > ``high`` falls)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def head_weight(points: Float) -> Float:
    """Share [N] of model-space ``points`` [N, 3] in the head's motion.

    The jaw belongs to the skull wherever it is; what lies behind and below it is neck, which bends,
    and shoulders, which stay.
    """
    height = points[:, 1] + 0.45 * np.clip(points[:, 2] - 4.0, 0.0, 7.0)
    height = height - 0.35 * np.maximum(np.abs(points[:, 0]) - 7.5, 0.0)
    # The slow foot of the curve is cut off: what hardly moves should not move at all.
    return np.asarray(np.maximum(smoothstep(-18.5, -6.5, height) - 0.03, 0.0) / 0.97, np.float32)


def near_head(points: Float) -> Float:
    """Share [N] of the head's motion that is left at model-space ``points`` [N, 3], by their distance
    from the skull: hair follows, and what the matte took for hair further out bends instead of tearing."""
    up = points[:, 1] - 3.0
    return smoothstep(23.0, 12.5, np.hypot(points[:, 0], np.where(up > 0.0, up / 1.25, 0.6 * up)))


def laplacian(n: int) -> sp.csr_matrix:
    """Graph Laplacian of an n x n 4-neighbour grid."""
    index = np.arange(n * n).reshape(n, n)
    pairs = np.concatenate(
        [
            np.stack([index[:-1].ravel(), index[1:].ravel()], 1),
            np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], 1),
        ]
    )
    ones = np.ones(len(pairs))
    adjacency = sp.coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(n * n, n * n)).tocsr()
    adjacency = adjacency + adjacency.T
    return sp.csr_matrix(sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency)


def _node_positions() -> Float:
    """Crop px of the nodes, float32 [NODES**2, 2]."""
    y, x = np.mgrid[0:NODES, 0:NODES] * CELL
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)


def _node_depth(source: SourceGeometry, alpha: Float) -> Float:
    """Camera distance (cm) of every node: the head's where it is, continued elsewhere."""
    size, basis = source.crop.shape[0], source.basis
    depth = np.full((size, size), np.inf, np.float32)
    seen = np.zeros((size, size, 2), np.float32)
    # Throat, ears and the underside of the jaw lie far behind chin and cheeks; soft slopes down to
    # them keep the outlines of ear and neck whole.
    trust = 0.004 + 4.0 * alpha
    trust[basis.part("scalp")] = 0.2
    skin = basis.triangles_of("face", "ear", "neck", "scalp")
    values = np.stack([source.projected[:, 2], trust], 1)
    raster_attributes(seen, depth, source.projected, skin, values, cull=True)
    pick = np.ix_(*[np.minimum(np.arange(NODES) * CELL, size - 1)] * 2)
    known = np.isfinite(depth[pick]).ravel()
    # Elsewhere the person is as deep as the ears: hair beside the head neither lags nor leads.
    beside = float(-source.fit.to_camera(_EAR)[2])
    value = np.where(known, seen[pick][..., 0].ravel(), beside)
    weight = np.where(known, seen[pick][..., 1].ravel(), 0.004)
    lap = laplacian(NODES)
    system = lap + _BENDING * (lap @ lap) + sp.diags(weight)
    z = sla.spsolve(system.tocsc(), weight * value).reshape(NODES, NODES).astype(np.float32)
    step_cm = CELL / source.pixels_per_cm
    for _ in range(12):
        gy, gx = np.gradient(z, step_cm)
        steep = smoothstep(0.8 * _MAX_SLOPE, 1.2 * _MAX_SLOPE, np.hypot(gx, gy))
        spread = ndimage.gaussian_filter(steep, 1.0)
        z = z + spread * (ndimage.gaussian_filter(z, 1.0) - z)
    return np.asarray(z.ravel(), np.float32)


def _border_hold(matte: Float, bottom: float) -> Float:
    """Share [NODES**2, 4] of a motion away from the left, right, top and bottom border that is held
    back, 0..1.

    Where hair or shoulders run out of the crop there is nothing to pull in from outside, so they
    stay attached to the border and stretch; a border that shows only background needs no such care.
    ``bottom`` is how far up (px) the bottom border reaches: not above the chin.
    """
    size = matte.shape[0]
    xy = _node_positions()
    hold = np.zeros((len(xy), 4), np.float32)
    edges = (
        (matte[:, :3].T, 1, xy[:, 0]),
        (matte[:, -3:].T, 1, size - xy[:, 0]),
        (matte[:3], 0, xy[:, 1]),
        (matte[-3:], 0, size - xy[:, 1]),
    )
    reach = (112.0, 112.0, 112.0, bottom)
    for k, (strip, along, inset) in enumerate(edges):
        touch = np.clip(2.0 * ndimage.gaussian_filter1d(strip.max(0), 20.0, mode="nearest"), 0.0, 1.0)
        at = np.minimum(xy[:, along], size - 1).astype(int)
        hold[:, k] = touch[at] * (1.0 - smoothstep(0.0, reach[k], inset))
    return hold


@nb.njit(cache=True, nogil=True)
def hold_borders(displacement: Float, hold: Float) -> None:
    """Take back, in place, what would open a gap: ``displacement`` [N, 2] px, ``hold`` [N, 4]."""
    for i in range(displacement.shape[0]):
        x, y = displacement[i, 0], displacement[i, 1]
        displacement[i, 0] = x - (hold[i, 0] if x > 0.0 else hold[i, 1]) * x
        displacement[i, 1] = y - (hold[i, 2] if y > 0.0 else hold[i, 3]) * y


def _spread_units(source: SourceGeometry, nodes: Float, carried: Bool, weight: Float) -> SparseUnits:
    """Expression units of the nodes: those of the skin under them, dying out around it.

    ``carried`` bool [V] are the vertices whose motion the surroundings follow (not lips, not lids).
    """
    ids = np.nonzero(carried)[0]
    near, which = cKDTree(source.projected[ids, :2]).query(nodes)
    on_skin = near < 5.0
    vertex = ids[which]
    strength = np.where(on_skin, 0.5, 0.02 * (1.0 - weight) + 0.002).astype(np.float64)
    lap = laplacian(NODES)
    factor = sla.splu((_MEMBRANE * lap + _BENDING * (lap @ lap) + sp.diags(strength)).tocsc())
    units = source.basis.expression[:, vertex] * on_skin[None, :, None]
    dense = np.zeros((len(units), len(nodes), 3), np.float32)
    for k in np.nonzero(np.abs(units).max((1, 2)) > 0.01)[0]:
        dense[k] = factor.solve(strength[:, None] * units[k].astype(np.float64))
    return pack_units(dense, 0.01)


def prepare_grid(source: SourceGeometry, camera: Float, carried: Bool, alpha: Float) -> PersonGrid:
    """Build the person layer's nodes; ``camera`` [3, 4] is model -> camera space,
    ``carried`` bool [V] vertices whose expression the surroundings follow, ``alpha`` [V] where the
    face mesh is shown."""
    nodes = _node_positions()
    distance = _node_depth(source, alpha)
    fit = source.fit
    x = (nodes[:, 0] - fit.centre[0]) * distance / fit.focal
    y = -(nodes[:, 1] - fit.centre[1]) * distance / fit.focal
    in_camera = np.stack([x, y, -distance], 1)
    points = ((in_camera - camera[:, 3]) @ camera[:, :3]).astype(np.float32)
    # Shoulders run out of the crop at its bottom: nothing moves there, whatever the pose.
    size = source.crop.shape[0]
    bottom = float(np.clip(1.2 * (size - source.landmarks[_CHIN, 1]), 40.0, 112.0))
    weight = head_weight(points) * smoothstep(8.0, 0.7 * bottom, size - nodes[:, 1])
    weight *= near_head(points)
    units = _spread_units(source, nodes, carried, weight)
    return PersonGrid(points, weight, _border_hold(source.matte, bottom), units)
