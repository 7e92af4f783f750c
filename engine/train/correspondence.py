"""Refines where the face-mesh landmarks lie on the face basis, on real portraits.

    python -m engine.train.correspondence --data DIR

The first correspondence comes from renders of random heads, and a network sees real faces a little
differently. So: fit every portrait that ``DIR/MANIFEST.csv`` marks ``use=train``, take each
landmark's median miss in head coordinates (left and right pooled, the face is symmetric), slide the
landmark over the surface by it, and repeat. Landmarks that scatter get a lower weight. Rewrites
``engine/assets/face_basis.safetensors`` in place; run it after ``engine.train.basis``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from engine.config import asset_path
from engine.face import residual, solver
from engine.face.basis import FaceBasis, load_basis
from engine.face.fitter import fit_face, landmark_misses
from engine.face.image import load_image
from engine.face.landmarks import find_faces
from engine.types import EXPRESSION_NAMES

__all__ = ["closest_on_surface", "main", "refine"]

Float = NDArray[np.float32]
Int = NDArray[np.int64]

ROUNDS = 4
MAX_YAW = np.radians(25)
SKIP = ("cyclops", "sculpture", "cartoon3d")  # not human proportions


def training_landmarks(data: Path) -> list[tuple[Float, tuple[int, int]]]:
    """Landmarks [478, 2] and picture size of the largest face of every training portrait."""
    found = []
    with (data / "MANIFEST.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["path"].startswith("portraits/") and r["use"] == "train"]
    for row in rows:
        if any(word in row["path"] for word in SKIP):
            continue
        rgb = load_image(data / row["path"]).rgb
        faces = find_faces(rgb)
        if faces:
            found.append((faces[0].points, (rgb.shape[1], rgb.shape[0])))
    return found


def mirrored_landmarks(basis: FaceBasis) -> Int:
    """[468] the landmark across the mid-line; matched by place and by motion, for lips touch."""
    flip = np.array([-1.0, 1.0, 1.0])
    unit = {name: k for k, name in enumerate(EXPRESSION_NAMES)}
    here = [basis.at_landmarks(basis.mean)]
    there = [here[0] * flip]
    for left, right in (("jawOpen", "jawOpen"), ("eyeBlinkLeft", "eyeBlinkRight")):
        here.append(basis.at_landmarks(basis.expression[unit[left]]))
        there.append(basis.at_landmarks(basis.expression[unit[right]]) * flip)
    # The best one-to-one pairing: next to the mouth corners single nearest neighbours go astray.
    apart = cdist(np.concatenate(here, 1), np.concatenate(there, 1))
    mirror: Int = linear_sum_assignment(apart + apart.T)[1]
    return np.where(mirror[mirror] == np.arange(len(mirror)), mirror, np.arange(len(mirror)))


def _barycentric(point: Float, corners: Float) -> Float:
    """Weights of the point of the triangle ``corners`` [3, 3] closest to ``point``."""
    a, ab, ac = corners[0], corners[1] - corners[0], corners[2] - corners[0]
    gram = np.array([[ab @ ab, ab @ ac], [ab @ ac, ac @ ac]]) + 1e-9 * np.eye(2)
    u, v = np.linalg.solve(gram, [ab @ (point - a), ac @ (point - a)])
    weight = np.clip([1 - u - v, u, v], 0.0, 1.0)
    result: Float = (weight / weight.sum()).astype(np.float32)
    return result


def closest_on_surface(basis: FaceBasis, point: Float, lower: float) -> tuple[Int, Float]:
    """Face triangle [3] and weights [3] nearest to ``point``, on the same lip as ``lower`` (0..1) says."""
    triangles = basis.triangles_of("face")
    corners = basis.mean[triangles]
    near = np.argsort(np.linalg.norm(corners.mean(1) - point, axis=1))[:60]
    best, result = np.inf, (triangles[near[0]].astype(np.int64), np.full(3, 1 / 3, np.float32))
    for k in near:
        weight = _barycentric(point, corners[k])
        side = float(weight @ basis.lower[triangles[k]])
        distance = float(np.linalg.norm(weight @ corners[k] - point)) + (
            1.0 if abs(side - lower) > 0.4 else 0.0
        )
        if distance < best:
            best, result = distance, (triangles[k].astype(np.int64), weight)
    return result


def head_misses(faces: list[tuple[Float, tuple[int, int]]]) -> Float:
    """[N, 468, 3] cm, what the fitted coefficients leave unexplained, in head coordinates."""
    out = []
    for points, size in faces:
        fit = fit_face(points, size)
        if abs(fit.yaw) < MAX_YAW:
            out.append(landmark_misses(fit, points))
    return np.array(out)


def refine(misses: Float, basis: FaceBasis) -> tuple[Int, Float, Float]:
    """New landmark_tri, landmark_bary and landmark_weight."""
    mirror = mirrored_landmarks(basis)
    pooled = np.concatenate([misses, misses[:, mirror] * [-1.0, 1.0, 1.0]])
    # Half symmetric, half as measured: the network has a small handedness of its own.
    shift = (np.median(pooled, 0) + np.median(misses, 0)) / 2
    scatter = 1.48 * np.median(np.linalg.norm(pooled - shift, axis=2), 0)
    weight = np.clip((1.5 * np.median(scatter) / scatter) ** 2, 0.1, 1.0)
    at = basis.at_landmarks(basis.mean) + shift
    lower = basis.at_landmarks(basis.lower[:, None])[:, 0]
    moved = [
        closest_on_surface(basis, p.astype(np.float32), float(s)) for p, s in zip(at, lower, strict=True)
    ]
    tri, bary = (np.array(x) for x in zip(*moved, strict=True))
    return tri, bary.astype(np.float32), weight.astype(np.float32)


def rewrite(path: Path, changes: dict[str, NDArray[np.generic]], note: dict[str, str]) -> None:
    """Replace some tensors and metadata of the basis file."""
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors |= {name: np.ascontiguousarray(value) for name, value in changes.items()}
    save_file(tensors, path, metadata | note)
    for cached in (load_basis, solver.mark_basis, residual.process):
        cached.cache_clear()


def main() -> None:
    """Command line: a few rounds, the mean error printed after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with MANIFEST.csv and portraits/")
    options = parser.parse_args()
    path = asset_path("face_basis.safetensors")
    faces = training_landmarks(options.data)
    for number in range(ROUNDS + 1):
        misses = head_misses(faces)
        mean = np.linalg.norm(misses, axis=2).mean()
        print(f"round {number}: {len(misses)} portraits, mean miss {mean:.4f} cm")
        if number == ROUNDS:
            break
        tri, bary, weight = refine(misses, load_basis())
        changes: dict[str, NDArray[np.generic]] = {
            "landmark_tri": tri.astype(np.uint16),
            "landmark_bary": bary,
            "landmark_weight": weight,
        }
        rewrite(path, changes, {"correspondence": f"{len(misses)} training portraits, {number + 1} rounds"})


if __name__ == "__main__":
    main()
