"""Builds ``engine/assets/face_basis.safetensors`` from the ICT face model.

    python -m engine.train.basis --data DIR

reads ``DIR/face/ict_face_model.npz`` and ``DIR/face/mediapipe_to_ict.npz`` and writes the basis,
its model card and its licence notice. What it does to the source model: quads become triangles;
parts are labelled; the gap between the middle teeth is closed; hidden tooth roots, the cornea cap,
lashes and tear film are dropped; scalp, neck, socket and other hidden skin are simplified; five
units are authored (:mod:`engine.train.units`). Nothing visible on the face moves or is removed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.spatial import cKDTree

from engine.config import asset_path
from engine.face.basis import BASIS_VERSION, PARTS, read_basis
from engine.train.provenance import commit
from engine.train.simplify import simplify
from engine.train.units import INNER_LOWER, INNER_UPPER, Head, author, smoothstep
from engine.types import EXPRESSION_NAMES

__all__ = ["build", "main"]

Double = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

# Vertex ranges of the ICT topology.
FACE = slice(0, 9409)
HEAD = slice(0, 11248)
MOUTH_SOCKET = slice(11248, 13294)
EYE_SOCKETS = slice(13294, 14062)
GUMS_TONGUE = slice(14062, 17039)
TEETH = slice(17039, 21451)
EYES = ((21451, 22221, 23021), (23021, 23791, 24591))  # left, right: sclera start, iris start, end
LAST = 24591  # tear film, occlusion strips and lashes come after
LIP_LOOP = slice(6632, 6706)
LID_LOOPS = (slice(6548, 6590), slice(6590, 6632))  # left, right

EYE_RADIUS, IRIS_RADIUS = 1.50, 0.59  # cm
IDENTITIES = 80


@dataclass
class Source:
    """The ICT model as read: arrays over its own vertices, cm."""

    points: Double
    triangles: Int
    identity: Double
    units: dict[str, Double]
    landmark_tri: Int
    landmark_bary: Double
    landmark_weight: Double


def read_source(data: Path) -> Source:
    """Read both archives; triangles are the quads split along their first diagonal."""
    model = np.load(data / "face" / "ict_face_model.npz")
    marks = np.load(data / "face" / "mediapipe_to_ict.npz")
    faces = model["faces"].astype(np.int64)
    quads = faces[faces[:, 3] >= 0]
    triangles = np.concatenate([faces[:, :3], quads[:, [0, 2, 3]]])
    names = [str(n) for n in model["expression_names"]]
    expression = model["expression"].astype(np.float64)
    return Source(
        points=model["neutral"].astype(np.float64),
        triangles=triangles[triangles.max(1) < LAST],
        identity=model["identity"][:IDENTITIES].astype(np.float64),
        units=dict(zip(names, expression, strict=True)),
        landmark_tri=marks["tri"].astype(np.int64),
        landmark_bary=marks["bary"].astype(np.float64),
        landmark_weight=marks["weight"].astype(np.float64),
    )


def mirror_map(source: Source) -> Int:
    """The vertex across the mid-line [V].

    Lips and lids touch at rest, so matching uses where a vertex goes as well as where it is.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    here, there = [source.points], [source.points * flip]
    for left, right in (("jawOpen",) * 2, ("mouthFunnel",) * 2, ("eyeBlink_L", "eyeBlink_R")):
        here.append(source.units[left])
        there.append(source.units[right] * flip)
    tree = cKDTree(np.concatenate(here, 1))
    mirror: Int = tree.query(np.concatenate(there, 1))[1]
    broken = mirror[mirror] != np.arange(len(mirror))
    mirror[broken] = np.flatnonzero(broken)
    return mirror


def _tongue(points: Double, triangles: Int, jaw: Double) -> Bool:
    """Tongue vertices: the dorsum and all that is reached without crossing a concave crease."""
    inside = (triangles >= GUMS_TONGUE.start) & (triangles < GUMS_TONGUE.stop) & (jaw[triangles] >= 0.2)
    mesh = triangles[inside.all(1)]
    a, b, c = (points[mesh[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    centre = (a + b + c) / 3
    edges: dict[tuple[int, int], list[int]] = {}
    for f, triangle in enumerate(mesh):
        for i, j in ((0, 1), (1, 2), (2, 0)):
            u, v = int(triangle[i]), int(triangle[j])
            edges.setdefault((min(u, v), max(u, v)), []).append(f)
    links: dict[int, list[int]] = {}
    for sides in edges.values():
        if len(sides) == 2:
            f, g = sides
            way = centre[f] - centre[g]
            if normal[g] @ way < 0.1 * np.linalg.norm(way):
                links.setdefault(f, []).append(g)
                links.setdefault(g, []).append(f)
    stack = [int(np.argmin(np.linalg.norm(centre - [0.0, -3.07, 7.2], axis=1)))]
    seen = set(stack)
    while stack:
        fresh = [g for g in links.get(stack.pop(), []) if g not in seen]
        seen.update(fresh)
        stack.extend(fresh)
    flag = np.zeros(len(points), bool)
    flag[mesh[sorted(seen)]] = True
    return flag


def label_parts(source: Source) -> NDArray[np.int64]:
    """Index into PARTS for every source vertex up to LAST."""
    p, jaw = source.points, np.linalg.norm(source.units["jawOpen"], axis=1)
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    part = np.full(len(p), -1)
    part[HEAD] = PARTS.index("scalp")
    part[FACE] = PARTS.index("face")
    ear = (x > 7.0) & (y > -5) & (y < 5.5) & (z < 3.2)
    neck = y + np.clip(z - 4, 0, 6) * 0.5 < -8.5
    skin = np.arange(len(p)) < HEAD.stop
    face = np.arange(len(p)) < FACE.stop
    part[face & (y > 10.5)] = PARTS.index("scalp")
    part[skin & ~face & (y < -4)] = PARTS.index("neck")
    part[skin & neck] = PARTS.index("neck")
    part[face & ear] = PARTS.index("ear")
    part[MOUTH_SOCKET] = PARTS.index("socket")
    part[EYE_SOCKETS] = PARTS.index("eye_socket")
    part[GUMS_TONGUE] = PARTS.index("gums")
    part[_tongue(p, source.triangles, jaw)] = PARTS.index("tongue")
    upper = jaw[TEETH] < 0.2
    part[TEETH] = np.where(upper, PARTS.index("teeth_upper"), PARTS.index("teeth_lower"))
    for side, (sclera, iris, end) in zip(("left", "right"), EYES, strict=True):
        part[sclera:iris] = PARTS.index(f"eye_{side}")
        part[iris:end] = PARTS.index(f"iris_{side}")
    return part


def _rooted(source: Source) -> Bool:
    """Tooth vertices that are hidden in the gums: more than a crown's height from the biting edge."""
    hidden = np.zeros(len(source.points), bool)
    triangles = source.triangles[source.triangles[:, 0] >= TEETH.start]
    triangles = triangles[triangles[:, 0] < TEETH.stop]
    parent = np.arange(len(source.points))
    for _ in range(60):  # label the separate solids by their smallest vertex
        low = parent[triangles].min(1)
        np.minimum.at(parent, triangles.ravel(), np.repeat(low, 3))
    y = source.points[:, 1]
    jaw = np.linalg.norm(source.units["jawOpen"], axis=1)
    for tooth in np.unique(parent[TEETH]):
        v = TEETH.start + np.flatnonzero(parent[TEETH] == tooth)
        height = y[v] - y[v].min() if jaw[v].mean() < 0.2 else y[v].max() - y[v]
        hidden[v] = height > 1.45
    return hidden


def close_teeth_gap(points: Double) -> Double:
    """The mean head with both dental arches pulled together at the mid-line."""
    out = points.copy()
    x = points[TEETH, 0]
    out[TEETH, 0] = x - np.sign(x) * 0.035 * np.clip(1.0 - np.abs(x) / 1.2, 0.0, 1.0)
    return out


def _eyes(points: Double) -> tuple[Double, Bool]:
    """Centres [2, 3] of the eyeballs; vertices never seen: sclera over the iris, iris ball inside."""
    centres = np.zeros((2, 3))
    unseen = np.zeros(len(points), bool)
    for k, (sclera, iris, end) in enumerate(EYES):
        ball = points[iris:end]
        system = np.concatenate([2 * ball, np.ones((len(ball), 1))], 1)
        centres[k] = np.linalg.lstsq(system, (ball**2).sum(1), rcond=None)[0][:3]
        shell = points[sclera:iris] - centres[k]
        axis = shell[np.argmax(shell[:, 2])] * [0.0, 1.0, 1.0] + [np.sign(centres[k, 0]) * 0.09, 0, 0]
        axis /= np.linalg.norm(axis)
        for first, last in ((sclera, iris), (iris, end)):
            ray = points[first:last] - centres[k]
            off_axis = np.linalg.norm(ray - (ray @ axis)[:, None] * axis, axis=1)
            front = ray @ axis > 0
            near = off_axis < IRIS_RADIUS if first == sclera else off_axis < IRIS_RADIUS + 0.2
            unseen[first:last] = near & front if first == sclera else ~(near & front)
    return centres, unseen


def _lower_weight(source: Source, part: Int) -> Double:
    """[V] 0..1 goes with the jaw; near the lips the split is at half the jaw motion across the gap."""
    jaw = np.linalg.norm(source.units["jawOpen"], axis=1)
    at = (jaw[source.landmark_tri] * source.landmark_bary).sum(1)
    middle = (at[INNER_UPPER] + at[INNER_LOWER]) / 2
    edge = (source.points[source.landmark_tri] * source.landmark_bary[..., None]).sum(1)[INNER_UPPER, 0]
    half = np.interp(source.points[:, 0], edge, middle)
    weight = smoothstep(0.8, 1.2, jaw / np.maximum(half, 0.1))
    rigid = np.isin(part, [PARTS.index(n) for n in ("tongue", "teeth_upper", "teeth_lower")])
    return np.where(rigid, (jaw > 0.2).astype(float), weight)


def expression_units(source: Source, head: Head) -> Double:
    """[64, V, 3] in the order of EXPRESSION_NAMES."""
    u = source.units
    authored = author(head)
    both = {"browInnerUp", "cheekPuff"}
    out = []
    for name in EXPRESSION_NAMES:
        if name in authored:
            out.append(authored[name])
        elif name in both:
            out.append(u[f"{name}_L"] + u[f"{name}_R"])
        else:
            stem = name[0].upper() + name[1:] if name.startswith("pupil") else name
            stem = stem.removesuffix("Left") + "_L" if stem.endswith("Left") and stem not in u else stem
            stem = stem.removesuffix("Right") + "_R" if stem.endswith("Right") and stem not in u else stem
            out.append(u[stem])
    return np.stack(out)


def _keep_weight(source: Source, part: Int) -> Double:
    """How dearly each vertex is kept by the simplifier (inf = always)."""
    p = source.points
    weight = np.full(len(p), np.inf)
    z, y = p[:, 2], p[:, 1]
    for name, value in (("scalp", 0.4), ("neck", 0.4), ("ear", 25.0), ("eye_socket", 4.0)):
        weight[part == PARTS.index(name)] = value
    socket = part == PARTS.index("socket")
    weight[socket & (z < 9.5)] = 5.0
    gums = part == PARTS.index("gums")
    weight[gums & ((z < 7.5) | (y < -4.8) | (y > -1.7))] = 4.0
    for sclera, iris, _ in EYES:
        back = np.arange(sclera, iris)
        weight[back[z[back] < 8.2]] = 10.0
    weight[source.landmark_tri] = np.inf
    return weight


def _arc(loop: list[int], start: int, stop: int) -> list[int]:
    """Walk the closed ``loop`` from ``start`` to ``stop``, both included."""
    i, j = loop.index(start), loop.index(stop)
    return loop[i : j + 1] if i <= j else loop[i:] + loop[: j + 1]


def ordered_loop(triangles: Int, members: slice, surface: Bool) -> list[int]:
    """The vertices of ``members`` in order along the border of the triangles inside ``surface``."""
    mesh = triangles[surface[triangles].all(1)]
    count: dict[tuple[int, int], int] = {}
    for a, b, c in mesh:
        for u, v in ((a, b), (b, c), (c, a)):
            count[int(u), int(v)] = 1
    follow = {u: v for (u, v) in count if (v, u) not in count and members.start <= u < members.stop}
    loop = [members.start]
    while follow[loop[-1]] != loop[0]:
        loop.append(follow[loop[-1]])
    return loop


def two_arcs(points: Double, loop: list[int], start: int, stop: int) -> tuple[Int, Int]:
    """(upper, lower) arcs of a loop from ``start`` to ``stop``."""
    one = _arc(loop, start, stop)
    other = _arc(loop, stop, start)[::-1]
    if points[one, 1].mean() < points[other, 1].mean():
        one, other = other, one
    return np.array(one), np.array(other)


def build(data: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Tensors and metadata of the basis file."""
    source = read_source(data)
    source.points = close_teeth_gap(source.points)
    part, mirror = label_parts(source), mirror_map(source)
    centres, unseen = _eyes(source.points)
    gone = _rooted(source) | unseen
    triangles = source.triangles[~gone[source.triangles].any(1)]
    lower = _lower_weight(source, part)
    head = Head(
        points=source.points,
        triangles=triangles,
        tongue=part == PARTS.index("tongue"),
        skin=np.isin(part, [PARTS.index("face"), PARTS.index("socket")]),
        lower=lower,
        upper_teeth=part == PARTS.index("teeth_upper"),
        landmarks=(source.points[source.landmark_tri] * source.landmark_bary[..., None]).sum(1),
    )
    expression = expression_units(source, head)
    loops = _loops(source)
    triangles = simplify(source.points, triangles, _keep_weight(source, part), mirror, 2e-3)
    kept = np.unique(np.concatenate([triangles.ravel(), source.landmark_tri.ravel()]))
    kept = kept[np.lexsort((kept, part[kept]))]
    new = np.full(len(source.points), -1)
    new[kept] = np.arange(len(kept))
    triangles = new[triangles]
    triangle_part = part[kept][triangles].min(1)
    order = np.argsort(triangle_part, kind="stable")
    across = new[mirror[kept]]
    across = np.where(across < 0, np.arange(len(kept)), across)
    offset, vertex, value = _sparse(expression[:, kept])
    tensors: dict[str, NDArray[np.generic]] = {
        "mean": source.points[kept].astype(np.float32),
        "identity": source.identity[:, kept].astype(np.float16),
        "expression_offset": offset,
        "expression_vertex": vertex,
        "expression_value": value,
        "triangles": triangles[order].astype(np.uint16),
        "vertex_part": part[kept].astype(np.uint8),
        "triangle_part": triangle_part[order].astype(np.uint8),
        "mirror": across.astype(np.uint16),
        "source_vertex": kept.astype(np.uint16),
        "lower": lower[kept].astype(np.float32),
        "landmark_tri": new[source.landmark_tri].astype(np.uint16),
        "landmark_bary": source.landmark_bary.astype(np.float32),
        "landmark_weight": source.landmark_weight.astype(np.float32),
        "eye_centre": centres.astype(np.float32),
        "eye_radius": np.full(2, EYE_RADIUS, np.float32),
        "iris_radius": np.full(2, IRIS_RADIUS, np.float32),
    }
    tensors |= {name: new[arc].astype(np.uint16) for name, arc in loops.items()}
    # safetensors writes memory as it lies; indexing may have left other strides.
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    return tensors, _metadata(source, expression, kept, tensors)


def _loops(source: Source) -> dict[str, Int]:
    """Lip and lid arcs in source vertex ids."""
    p = source.points
    face = np.arange(len(p)) < FACE.stop
    lip = ordered_loop(source.triangles, LIP_LOOP, face)
    upper, lower = two_arcs(p, lip, min(lip, key=lambda v: p[v, 0]), max(lip, key=lambda v: p[v, 0]))
    arcs = {"lip_upper": upper, "lip_lower": lower}
    for side, members in zip(("left", "right"), LID_LOOPS, strict=True):
        lid = ordered_loop(source.triangles, members, face)
        inner, outer = (f(lid, key=lambda v: abs(p[v, 0])) for f in (min, max))
        arcs[f"lid_{side}_upper"], arcs[f"lid_{side}_lower"] = two_arcs(p, lid, inner, outer)
    return arcs


def _sparse(expression: Double) -> tuple[NDArray[np.int32], NDArray[np.uint16], NDArray[np.float16]]:
    """Offsets [65], vertices [N] and values [N, 3] of the rows that move by more than 4 micrometres."""
    moving = np.abs(expression).max(2) > 4e-4
    unit, vertex = np.nonzero(moving)
    offset = np.searchsorted(unit, np.arange(len(expression) + 1)).astype(np.int32)
    return offset, vertex.astype(np.uint16), expression[moving].astype(np.float16)


def _metadata(
    source: Source, expression: Double, kept: Int, tensors: dict[str, NDArray[np.generic]]
) -> dict[str, str]:
    """Provenance and the measured storage error of random heads."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, IDENTITIES)), rng.uniform(size=(20, len(EXPRESSION_NAMES)))
    exact = np.tensordot(a, source.identity[:, kept], 1) + np.tensordot(b, expression[:, kept], 1)
    stored = np.zeros_like(expression[:, kept])
    offset = tensors["expression_offset"].astype(np.int64)
    unit = np.repeat(np.arange(len(stored)), np.diff(offset))
    stored[unit, tensors["expression_vertex"].astype(np.int64)] = tensors["expression_value"]
    lossy = np.tensordot(a, tensors["identity"].astype(np.float64), 1) + np.tensordot(b, stored, 1)
    return {
        "version": str(BASIS_VERSION),
        "expression_names": json.dumps(EXPRESSION_NAMES),
        "source": "USC-ICT face model, light version (MIT licence)",
        "commit": commit(),
        "storage_error_cm": f"{np.abs(exact - lossy).max():.6f}",
        "vertices": str(len(kept)),
        "triangles": str(len(tensors["triangles"])),
    }


def main() -> None:
    """Command line: build, write, read back and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds face/")
    parser.add_argument("--out", type=Path, default=asset_path("face_basis.safetensors"))
    options = parser.parse_args()
    tensors, metadata = build(options.data)
    save_file(tensors, options.out, metadata)
    basis = read_basis(options.out)
    counts = {name: basis.part(name).stop - basis.part(name).start for name in PARTS}
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, {len(basis.mean)} vertices,")
    print(f"{len(basis.triangles)} triangles, storage error {metadata['storage_error_cm']} cm; {counts}")


if __name__ == "__main__":
    main()
