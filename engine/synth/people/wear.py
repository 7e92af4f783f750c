"""Clothes and glasses: meshes in head coordinates (cm) and their materials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.synth.people.look import Glasses, hsv
from engine.synth.people.model import head_model

__all__ = [
    "Clothes",
    "Mesh",
    "clothes_mesh",
    "collar_drop",
    "draw_clothes",
    "frame_mesh",
    "lens_mesh",
    "normals_of",
]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Mesh:
    """``points`` [M, 3], ``normal`` [M, 3], ``paint`` [M, 4], ``triangles`` [F, 3]."""

    points: Float
    normal: Float
    paint: Float
    triangles: Int


@dataclass(frozen=True)
class Clothes:
    """``kind`` crew, v, turtleneck, wide; colours sRGB; ``pattern`` 0 plain, 1 stripes, 2 checks, 3 blotches,
    4 knit; ``front`` 0 closed, 1 jacket over a shirt, 2 with a tie; ``collar`` none, shirt, roll, hood."""

    kind: int
    depth: float
    a: Float
    b: Float
    c: Float
    pattern: int
    scale: float
    folds: float
    sheen: float
    front: int
    collar: str
    broad: float


def _cloth_colour(rng: Rng) -> Float:
    if rng.random() < 0.45:
        v = float(rng.choice([0.06, 0.12, 0.25, 0.5, 0.75, 0.9]))
        return hsv(float(rng.random()), 0.08, v)
    return hsv(float(rng.random()), float(rng.uniform(0.2, 0.75)), float(rng.uniform(0.12, 0.85)))


def draw_clothes(rng: Rng, male: float) -> Clothes:
    """Something to wear, by chance."""
    suit = rng.random() < 0.13
    kind = int(
        rng.choice([0, 1, 2, 3], p=[0.45, 0.3, 0.12, 0.13] if male < 0.5 else [0.55, 0.28, 0.14, 0.03])
    )
    collar = str(rng.choice(["none", "shirt", "hood"], p=[0.62, 0.23, 0.15]))
    front = 0
    if suit:
        kind, collar, front = 0, "shirt", int(rng.choice([1, 2]))
    if kind == 2:
        collar = "roll"
    if kind == 3:
        collar = "none"
    if collar == "shirt" and not suit:
        kind = 1
    pattern = 0 if suit else int(rng.choice([0, 1, 2, 3, 4], p=[0.6, 0.12, 0.1, 0.08, 0.1]))
    a, b = _cloth_colour(rng), _cloth_colour(rng)
    if suit:
        a = hsv(float(rng.uniform(0.55, 0.7)), float(rng.uniform(0, 0.4)), float(rng.uniform(0.06, 0.3)))
        b = hsv(float(rng.uniform(0.5, 0.7)), float(rng.uniform(0, 0.2)), float(rng.uniform(0.75, 0.95)))
    c = b if suit and front == 1 else _cloth_colour(rng)
    return Clothes(
        kind, float(rng.uniform(0.3, 4.0) if kind == 1 else rng.uniform(0, 3.0)), a, b, c, pattern,
        float(rng.uniform(0.7, 2.2)), float(rng.uniform(0, 30)), float(rng.uniform(0.0, 0.12)), front, collar,
        float(rng.uniform(0.9, 1.02) if male < 0.5 else rng.uniform(1.0, 1.16)),
    )  # fmt: skip


def normals_of(points: Float, triangles: Int) -> Float:
    """Area-weighted unit normals [M, 3]."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    out = np.zeros_like(points)
    for k in range(3):
        np.add.at(out, triangles[:, k], face)
    return np.asarray(out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-8), np.float32)


def _sheet(rows: Float, closed: bool = True) -> tuple[Float, Int]:
    """Points [R * C, 3] and triangles of a grid ``rows`` [R, C, 3]; columns wrap where ``closed``."""
    r, c = rows.shape[:2]
    index = np.arange(r * c).reshape(r, c)
    right = np.roll(index, -1, 1) if closed else index[:, 1:]
    left = index if closed else index[:, :-1]
    a, b, d, e = left[:-1].ravel(), right[:-1].ravel(), left[1:].ravel(), right[1:].ravel()
    triangles = np.concatenate([np.stack([a, d, b], 1), np.stack([b, d, e], 1)])
    return rows.reshape(-1, 3).astype(np.float32), triangles.astype(np.int32)


_DOWN = np.array([7.6, 8.6, 9.6, 10.6, 11.6, 12.6, 13.6, 14.8, 16.0, 17.5, 19.5, 22.0, 26.0, 32.0, 42.0])
_WIDE = np.array([6.5, 6.5, 6.8, 7.6, 8.9, 10.8, 13.4, 16.2, 18.4, 19.9, 20.9, 21.5, 21.8, 21.8, 21.5])
_FRONT = np.array([4.4, 4.3, 4.5, 4.9, 5.4, 6.0, 6.7, 7.5, 8.2, 8.9, 9.7, 10.4, 11.0, 11.4, 11.6])
_BACK = np.array([7.0, 7.0, 7.2, 7.5, 8.0, 8.6, 9.4, 10.2, 10.8, 11.2, 11.4, 11.5, 11.6, 11.6, 11.4])


def _torso(head: Float, broad: float) -> tuple[Float, Int]:
    """Loft from the neck to the chest, never inside the person's own bust."""
    basis = head_model().basis
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    rows = []
    for down, wide, front, back in zip(_DOWN, _WIDE, _FRONT, _BACK, strict=True):
        power = float(np.interp(down, [9, 16, 26], [1.0, 0.9, 0.75]))
        s, c = np.sin(angle), np.cos(angle)
        x = (
            wide
            * (1.0 + (broad - 1.0) * min(1.0, max(0.0, (down - 10) / 5)))
            * np.sign(s)
            * np.abs(s) ** power
        )
        z = np.where(c > 0, front + 1.0, back - 1.0) * np.sign(c) * np.abs(c) ** power - 1.0
        rows.append(np.stack([x, np.full_like(x, -down), z], 1))
    grid = np.array(rows, np.float32)
    # Sampled over the triangles: the bust's vertices are sparse.
    t = basis.triangles_of("neck")
    weight = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], (8, len(t)))
    bust = np.einsum("sfk,fkc->sfc", weight, head[t]).reshape(-1, 3)
    about = np.arctan2(bust[:, 0], bust[:, 2] + 1.0)
    radius = np.hypot(bust[:, 0], bust[:, 2] + 1.0)
    bins = ((about / (2 * np.pi) + 1.0) * 72).astype(int) % 72
    for row, down in zip(grid, _DOWN, strict=True):
        near = np.abs(-bust[:, 1] - down) < 0.4
        most = np.zeros(72)
        np.maximum.at(most, bins[near], radius[near])
        most = np.maximum.reduce([np.roll(most, k) for k in (-2, -1, 0, 1, 2)])
        own = np.hypot(row[:, 0], row[:, 2] + 1.0)
        least = np.interp(down, [11.0, 14.0], [0.6, 1.0])  # high rows hug the neck
        scale = np.maximum(least, (most + 0.42) / np.maximum(own, 1e-3))
        row[:, 0] *= scale
        row[:, 2] = (row[:, 2] + 1.0) * scale - 1.0
    return _sheet(grid)


def _ring(
    heights: tuple[float, ...], radii: tuple[float, ...], gap: float, tilt: float, thick: float = 0.0
) -> tuple[Float, Int]:
    """A band around the neck, open in front by ``gap`` rad, lower in front by ``tilt`` cm."""
    angle = np.linspace(gap, 2 * np.pi - gap, 64)
    rows = []
    for height, radius in zip(heights, radii, strict=True):
        drop = tilt * (0.5 + 0.5 * np.cos(angle))
        rows.append(
            np.stack([radius * 1.02 * np.sin(angle), height - drop, radius * np.cos(angle) * 0.92 - 1.3], 1)
        )
    return _sheet(np.array(rows, np.float32), closed=False)


def _shirt_collar(r: float, gap: float) -> list[tuple[Float, Int]]:
    """A band that stands around a neck of radius ``r`` cm, and the leaf that falls over it to two points."""
    angle = np.linspace(gap, 2 * np.pi - gap, 64)
    s, c = 1.02 * np.sin(angle), 0.92 * np.cos(angle)
    drop = 4.2 * (0.5 + 0.5 * np.cos(angle))
    point = np.exp(-(((np.minimum(angle, 2 * np.pi - angle) - 0.38) / 0.28) ** 2))
    stand, fold = [], []
    for top, more in ((-12.2, 0.9), (-9.4, 0.3), (-7.7, 0.15)):
        stand.append(np.stack([(r + more) * s, top - drop, (r + more) * c - 1.3], 1))
    for share in (0.0, 0.12, 0.5, 1.0):
        around = r + 0.2 + 0.5 * np.sqrt(share) + share * (0.55 + 0.75 * point)
        height = -7.65 - drop - share * (2.2 + 2.6 * point) + 0.2 * (share == 0.12)
        out = 1.1 * share * point * np.sign(s)
        fold.append(np.stack([around * s + out, height, around * c - 1.3], 1))
    return [_sheet(np.array(rows, np.float32), closed=False) for rows in (stand, fold)]


def _collar(kind: str, head: Float, gap: float) -> list[tuple[Float, Int]]:
    neck = head[head_model().basis.part("neck")]
    near = np.abs(neck[:, 1] + 9.5) < 1.5
    r = float(np.quantile(np.hypot(neck[near, 0], neck[near, 2] + 1.3), 0.9)) + 0.35 if near.any() else 6.6
    if kind == "roll":
        return [
            _ring(
                (-6.4, -6.2, -6.6, -8.4, -10.4, -12.2),
                (r - 0.1, r + 0.25, r + 0.5, r + 0.65, r + 0.9, r + 1.7),
                0.0,
                1.6,
            )
        ]
    if kind == "hood":
        return [
            _ring(
                (-12.8, -11.2, -9.9, -9.4, -9.9, -11.2, -12.8),
                (r + 0.8, r + 0.5, r + 0.9, r + 1.9, r + 3.0, r + 3.5, r + 3.4),
                0.12,
                3.6,
            )
        ]
    if kind == "shirt":
        return _shirt_collar(r, gap)
    return []


def clothes_mesh(clothes: Clothes, head: Float) -> Mesh:
    """Torso and collar around neutral vertices ``head`` [V, 3]; paint: strip, occlusion, collar colour."""
    points, triangles = _torso(head, clothes.broad)
    ao = np.clip((-points[:, 1] - 7.0) / 7.0, 0.45, 1.0)
    paint = [np.stack([np.zeros(len(points)), ao, np.zeros(len(points)), np.ones(len(points))], 1)]
    all_points, all_triangles, normal = [points], [triangles], [normals_of(points, triangles)]
    count = len(points)
    for band, faces in _collar(clothes.collar, head, 0.0 if clothes.front else 0.2):
        n = len(band)
        paint.append(
            np.stack([np.ones(n), np.full(n, 0.85), np.full(n, float(clothes.front > 0)), np.ones(n)], 1)
        )
        all_points.append(band)
        all_triangles.append(faces + count)
        normal.append(normals_of(band, faces))
        count += n
    return Mesh(
        np.concatenate(all_points), np.concatenate(normal), np.concatenate(paint).astype(np.float32),
        np.concatenate(all_triangles).astype(np.int32),
    )  # fmt: skip


def collar_drop(points: Float, clothes: Clothes) -> Float:
    """How far below the neckline points [N, 3] lie, cm [N]; the shaders' ``collar_line`` in numpy."""
    x, y, z = points.T
    t = np.clip((z + 3.0) / 6.0, 0.0, 1.0)
    f = t * t * (3.0 - 2.0 * t)
    if clothes.kind == 0:
        front, back = np.full_like(x, -12.6 - 0.35 * clothes.depth), -9.6
    elif clothes.kind == 1:
        u = np.clip(np.abs(x) / (5.5 + 0.2 * clothes.depth), 0.0, 1.0)
        front, back = -13.0 - clothes.depth + (2.5 + clothes.depth) * u * u * (3.0 - 2.0 * u), -9.4
    elif clothes.kind == 2:
        front, back = np.full_like(x, -9.3), -8.7
    else:
        front, back = np.full_like(x, -16.5 - 0.5 * clothes.depth), -12.0
    line = back + f * (front - back)
    radius = np.hypot(x, 0.9 * (z + 1.0))
    return np.asarray(line - y + 0.22 * np.maximum(radius - 7.5, 0.0), np.float32)


# -- glasses ------------------------------------------------------------------------------------


def _rim(glasses: Glasses) -> Float:
    """Outline [48, 2] of the left lens around its middle; +x outwards."""
    a = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    power = {"round": 1.0, "square": 0.45, "aviator": 0.8, "cat": 0.7}[glasses.shape]
    x = np.sign(np.cos(a)) * np.abs(np.cos(a)) ** power * glasses.width / 2
    y = np.sign(np.sin(a)) * np.abs(np.sin(a)) ** power * glasses.height / 2
    if glasses.shape == "aviator":
        x = x * np.where(y < 0, 0.86, 1.0) + 0.05 * glasses.width * (y < 0)
    if glasses.shape == "cat":
        y = y + 0.22 * glasses.height * np.clip(x / glasses.width * 2, 0, 1) ** 2 * (y > 0)
    return np.stack([x, y], 1).astype(np.float32)


def _tube(path: Float, radius: float, closed: bool) -> tuple[Float, Float, Int]:
    """Points, normals and triangles of a six-sided tube along ``path`` [K, 3]."""
    along = np.gradient(path, axis=0) if not closed else np.roll(path, -1, 0) - np.roll(path, 1, 0)
    along = along / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-8)
    up = np.cross(along, np.array([0.3, 0.2, 1.0]))
    up /= np.linalg.norm(up, axis=1, keepdims=True) + 1e-8
    side = np.cross(along, up)
    a = np.linspace(0, 2 * np.pi, 7)[:, None, None]
    normal = np.cos(a) * up[None] + np.sin(a) * side[None]
    rows = path[None] + radius * normal
    points, triangles = _sheet(rows.astype(np.float32), closed=closed)
    return points, normal.reshape(-1, 3).astype(np.float32), triangles


def _place(head: Float) -> tuple[Float, float, float]:
    """Middle of the left lens on this face, half the bridge, and how far forward the ears' hinge lies."""
    marks = head_model().basis.at_landmarks(head)
    eye = 0.5 * (marks[[33, 133]].mean(0) * [-1, 1, 1] + marks[[263, 362]].mean(0))
    z = max(float(marks[6, 2]) - 0.15, float(eye[2]) + 1.7, float(marks[[66, 296], 2].mean()) + 0.2)
    middle = np.array([float(eye[0]), float(eye[1]) - 0.35, z], np.float32)
    return middle, float(marks[454, 0]), float(marks[454, 2])


def frame_mesh(glasses: Glasses, head: Float) -> Mesh:
    """Rims, bridge and arms on neutral vertices ``head`` [V, 3]."""
    middle, ear_x, ear_z = _place(head)
    rim, parts = _rim(glasses), []
    r = glasses.thick
    for sign in (1.0, -1.0):
        x = np.maximum(middle[0], glasses.width / 2 + 0.75) + rim[:, 0]
        z = middle[2] - 0.028 * x**2
        parts.append(_tube(np.stack([sign * x, middle[1] + rim[:, 1], z], 1), r, True))
        hinge = np.array([x.max(), middle[1] + 0.28 * glasses.height, float(z[np.argmax(x)])])
        ear = np.array([max(ear_x + 0.55, 7.4), middle[1] + 0.9, ear_z - 1.5])
        t = np.linspace(0, 1, 10)[:, None]
        arm = hinge + (ear - hinge) * t + np.array([0.5, 0, 0]) * np.sin(np.pi * t) * 0.6
        arm[-2:, 1] -= [0.4, 1.2]
        parts.append(_tube(arm * [sign, 1, 1], r * 0.9, False))
    inner = float(np.maximum(middle[0], glasses.width / 2 + 0.75) - glasses.width / 2)
    t = np.linspace(-1, 1, 9)
    bridge = np.stack(
        [
            t * inner,
            middle[1] + 0.18 * glasses.height + 0.25 * (1 - t**2),
            middle[2] + 0.15 * (1 - t**2) - 0.028 * inner**2,
        ],
        1,
    )
    parts.append(_tube(bridge, r * 0.85, False))
    offset, triangles = 0, []
    for points, _, faces in parts:
        triangles.append(faces + offset)
        offset += len(points)
    paint = np.ones((offset, 4), np.float32)
    return Mesh(
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        paint,
        np.concatenate(triangles).astype(np.int32),
    )


def lens_mesh(glasses: Glasses, head: Float) -> Mesh:
    """Both lenses as fans."""
    middle, _, _ = _place(head)
    rim, points, triangles, normal = _rim(glasses), [], [], []
    for k, sign in enumerate((1.0, -1.0)):
        x = np.maximum(middle[0], glasses.width / 2 + 0.75) + np.concatenate([[0], rim[:, 0]])
        y = middle[1] + np.concatenate([[0], rim[:, 1]])
        z = middle[2] - 0.028 * x**2 + 0.02
        points.append(np.stack([sign * x, y, z], 1))
        n = np.stack([sign * (0.056 * x + 0.05 * (x - x[0])), 0.06 * (y - y[0]), np.ones_like(x)], 1)
        normal.append(n / np.linalg.norm(n, axis=1, keepdims=True))
        ring = np.arange(48)
        fan = np.stack([np.zeros(48, int), 1 + ring, 1 + (ring + 1) % 48], 1)
        triangles.append(fan + 49 * k)
    paint = np.ones((98, 4), np.float32)
    return Mesh(
        np.concatenate(points).astype(np.float32),
        np.concatenate(normal).astype(np.float32),
        paint,
        np.concatenate(triangles).astype(np.int32),
    )
