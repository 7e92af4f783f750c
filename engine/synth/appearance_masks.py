"""What a photograph shows where: skin, hair, eyes, mouth and the fitted head, for changes of appearance.

No trained network: the landmarks say where the face is, the matte (:mod:`engine.face.matte`) where the
person is, and colour histograms of sure skin, sure hair and sure surroundings vote on the rest, together
with how likely each is at a place around the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from engine.animators.mesh.geometry import unit_normals
from engine.errors import FaceError
from engine.face.basis import load_basis
from engine.face.crop import CROP_SIDE
from engine.face.fitter import FaceFit
from engine.face.matte import FaceFrame, face_frame, person_matte
from engine.face.portrait import Portrait
from engine.face.residual import INNER_LIPS, LEFT_LIDS, RIGHT_LIDS

__all__ = ["OUTER_LIPS", "OVAL", "Sitter", "blur", "guided", "polygon", "sitter_of"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
"""Landmarks of the face's outline, in order."""
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""Landmarks of the outer edge of the lips, in order."""
_BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (336, 296, 334, 293, 300, 285, 295, 282, 283, 276))

_SMALL = 192  # side at which colours vote


@dataclass(frozen=True)
class Sitter:
    """A photographed person, in px of the picture [H, W]; masks are float32 [H, W] in 0..1."""

    points: Float
    """[478, 2] landmarks"""
    mesh: Float
    """[V, 3] vertices of the fitted head: px, px, distance (cm)"""
    normals: Float
    """[V, 3] their unit normals: image right, up, to the camera"""
    scale: float
    """px of the picture per px of the portrait's crop"""
    frame: FaceFrame
    """the face's own axes"""
    person: Float
    """everything that is not background; beyond the crop as at its border"""
    skin: Float
    """face, ears, neck and other bare skin, without eyes, brows and the inside of the mouth"""
    hair: Float
    """hair of the head"""
    eyes: Float
    """1 between the lids"""
    mouth: Float
    """1 between the lips"""
    fit: FaceFit
    """the fitted head, in px of the crop"""
    from_crop: NDArray[np.float64]
    """[2, 3] px of the crop to px of the picture"""

    def project(self, points: Float) -> Float:
        """Head coordinates [N, 3] (cm) to px, px and distance (cm)."""
        seen = self.fit.project(points)
        seen[:, :2] = seen[:, :2] @ self.from_crop[:, :2].T + self.from_crop[:, 2]
        return np.ascontiguousarray(seen, np.float32)


def polygon(shape: tuple[int, int], points: Float, soft: float = 0.0) -> Float:
    """float32 [H, W]: 1 inside the closed ``points`` [N, 2] px, falling off over ``soft`` px *outside*."""
    shift = 4
    fixed = np.rint(points.astype(np.float64) * (1 << shift)).astype(np.int32)
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_AA, shift=shift)
    inside = mask.astype(np.float32) / 255.0
    if soft <= 0.0:
        return inside
    away = np.asarray(cv2.distanceTransform((mask < 128).astype(np.uint8), cv2.DIST_L2, 5), np.float32)
    return np.asarray(np.maximum(inside, np.clip(1.0 - away / soft, 0.0, 1.0)), np.float32)


def blur(image: Float, sigma: float) -> Float:
    """Gaussian blur; by way of a smaller picture where ``sigma`` (px) is large."""
    step = max(1, int(sigma / 4.0))
    if step == 1:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), max(sigma, 0.1)), np.float32)
    height, width = image.shape[:2]
    size = (max(1, width // step), max(1, height // step))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def guided(guide: Float, source: Float, radius: int, eps: float = 1e-3) -> Float:
    """Guided filter (He et al. 2013): ``source`` [H, W] made locally affine in ``guide`` [H, W] 0..1."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Float) -> Float:
        return np.asarray(cv2.blur(x, size, borderType=cv2.BORDER_REFLECT), np.float32)

    centre, value = mean(guide), mean(source)
    slope = (mean(guide * source) - centre * value) / (mean(guide * guide) - centre**2 + eps)
    out = mean(slope) * guide + mean(value - slope * centre)
    return np.asarray(np.clip(out, 0.0, 1.0), np.float32)


def sitter_of(portrait: Portrait) -> Sitter:
    """Segment ``portrait`` and carry its fitted head to px of its picture.

    Raises:
        FaceError: the fit or the landmarks are not finite.
    """
    fit = portrait.fit
    if not np.isfinite(portrait.landmarks.points).all() or not np.isfinite(fit.translation).all():
        raise FaceError("the portrait's landmarks or fit are not finite: analyse the picture again")
    basis = load_basis()
    vertices = np.ascontiguousarray(fit.vertices(), np.float32)
    normals = np.empty_like(vertices)
    unit_normals(vertices, basis.triangles, np.ascontiguousarray(fit.rotation, np.float32), normals)
    back = np.asarray(cv2.invertAffineTransform(portrait.crop_from_image), np.float64)
    mesh = fit.project(vertices)
    mesh[:, :2] = mesh[:, :2] @ back[:, :2].T + back[:, 2]
    points = (portrait.landmarks.points @ back[:, :2].T + back[:, 2]).astype(np.float32)
    shape = portrait.picture.rgb.shape[:2]
    person, skin, hair = (_carried(m, back, shape) for m in _segments(portrait))
    scale = float(back[0, 0])
    eyes = np.maximum(*(polygon(shape, _ring(points, lids), 1.2 * scale) for lids in (LEFT_LIDS, RIGHT_LIDS)))
    mouth = polygon(shape, _ring(points, INNER_LIPS), 1.0 * scale)
    skin = np.asarray(skin * (1.0 - eyes) * (1.0 - mouth), np.float32)
    return Sitter(
        points, np.ascontiguousarray(mesh, np.float32), normals, scale, face_frame(points), person, skin,
        np.asarray(hair * (1.0 - eyes), np.float32), np.asarray(eyes, np.float32), mouth, fit, back,
    )  # fmt: skip


def _ring(points: Float, edges: NDArray[np.generic]) -> Float:
    """Closed outline from two edges [2, K] of landmarks."""
    upper, lower = np.asarray(edges, np.int64)
    return np.concatenate([points[upper], points[lower][::-1]])


def _hull(points: Float) -> Float:
    return np.asarray(cv2.convexHull(points)[:, 0], np.float32)


def _carried(mask: Float, back: NDArray[np.floating], shape: tuple[int, int]) -> Float:
    """A mask of the crop, in px of the picture."""
    return np.asarray(
        cv2.warpAffine(
            mask, back, (shape[1], shape[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ),
        np.float32,
    )


# -- colours vote --------------------------------------------------------------------------------


def _segments(portrait: Portrait) -> tuple[Float, Float, Float]:
    """Person, skin and hair of the crop, float32 [512, 512] each."""
    crop, points = portrait.crop, portrait.landmarks.points
    person = person_matte(crop, points, portrait.crop_alpha)
    step = np.float32(_SMALL / CROP_SIDE)
    small = np.asarray(cv2.resize(crop, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA), np.uint8)
    matte = np.asarray(cv2.resize(person, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA), np.float32)
    marks = np.asarray((points + 0.5) * step - 0.5, np.float32)
    scalp = np.asarray((portrait.fit.project(portrait.fit.vertices())[:, :2] + 0.5) * step - 0.5, np.float32)
    skin, hair = _votes(small, marks, matte, scalp[load_basis().part("scalp")])
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    out = []
    for share in (skin, hair):
        large = np.asarray(cv2.resize(share, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_CUBIC))
        out.append(guided(grey, np.clip(large, 0, 1).astype(np.float32), 6) * person)
    return person, out[0], out[1]


def _votes(small: Bytes, marks: Float, matte: Float, scalp: Float) -> tuple[Float, Float]:
    """Shares of skin and of hair in each px of the small picture [S, S]."""
    shape = (_SMALL, _SMALL)
    frame = face_frame(marks)
    y, x = np.mgrid[0:_SMALL, 0:_SMALL].astype(np.float32)
    u, v = frame.coordinates(x, y)
    face = polygon(shape, marks[list(OVAL)])
    brows = np.maximum(*(polygon(shape, _hull(marks[list(b)]), 1.5) for b in _BROWS))
    features = np.maximum(brows, polygon(shape, marks[list(OUTER_LIPS)], 2.0))
    for lids in (LEFT_LIDS, RIGHT_LIDS):
        features = np.maximum(features, polygon(shape, _ring(marks, lids), 3.0))
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    sure_skin = np.asarray((face > 0.9) & (features < 0.1) & (v > -0.22), np.float32)
    unlike = _distance(lab, sure_skin > 0)
    skull = polygon(shape, _hull(scalp))
    above = np.asarray((skull > 0.5) & (face < 0.1) & (v < 0.15) & (matte > 0.85), np.float32)
    sure_hair = above * np.clip((unlike - 2.0) / 4.0, 0.0, 1.0)
    chest = ((np.abs(u) < 0.22) & (v > 0.95)).astype(np.float32) * np.clip((unlike - 2.0) / 4.0, 0, 1)
    other = np.maximum(np.asarray(matte < 0.1, np.float32), chest)
    skin_at, hair_at, other_at = _places(u, v, face, matte)
    cells = _cells(lab)
    weights = [_likelihood(cells, seed) for seed in (sure_skin, sure_hair, other)]
    if sure_hair.sum() < 0.004 * _SMALL**2:  # bald, or hair that looks like skin
        weights[1] = np.zeros_like(weights[1])
    skin, hair, rest = weights[0] * skin_at, weights[1] * hair_at, weights[2] * other_at + 1e-7
    total = skin + hair + rest
    skin, hair = blur(skin / total, 1.0), blur(hair / total, 1.0)
    # Inside the face shadows and highlights are skin too, unless the votes clearly call them hair.
    inner = blur(face * (v > -0.42), 2.0)
    skin = np.maximum(skin, inner * np.clip(1.4 - 2.0 * hair, 0.0, 1.0))
    skin = skin * (1.0 - 0.8 * brows * np.clip((unlike - 1.0) / 2.0, 0, 1))
    return np.asarray(np.clip(skin, 0, 1), np.float32), np.asarray(np.clip(hair, 0, 1), np.float32)


def _distance(lab: Float, skin: NDArray[np.bool_]) -> Float:
    """How far each px is from the median of the ``skin`` px, in spreads; lightness counts half."""
    middle = np.median(lab[skin], 0) if skin.any() else np.array([128.0, 140.0, 140.0])
    spread = np.median(np.abs(lab[skin] - middle), 0) * 1.48 if skin.any() else np.ones(3)
    spread = np.maximum(spread, [14.0, 3.0, 3.0]) * [1.4, 1.0, 1.0]
    return np.asarray(np.sqrt((((lab - middle) / spread) ** 2).sum(-1)), np.float32)


def _places(u: Float, v: Float, face: Float, matte: Float) -> tuple[Float, Float, Float]:
    """Prior shares of skin, hair and everything else by place in the face's axes."""
    around = np.hypot(u / 0.95, (v + 0.15) / 1.05)
    hair = np.clip(1.6 - around, 0.02, 1.0) * np.where(face > 0.5, np.where(v < -0.25, 0.5, 0.06), 1.0)
    # Under the chin is neck and cloth, beside it hair may fall.
    hair = hair * np.where((np.abs(u) < 0.3) & (v > 0.5), 0.1, 1.0)
    hair = hair * np.clip(1.0 - 2.0 * (v - 0.65), 0.05, 1.0)
    ears = (np.abs(np.abs(u) - 0.52) < 0.12) & (np.abs(v + 0.02) < 0.3)
    neck = (np.abs(u) < 0.42) & (v > 0.3) & (v < 0.95)
    skin = np.where(face > 0.5, 1.0, np.where(ears | neck, 0.6, np.where(v > 1.0, 0.05, 0.1)))
    return (
        np.asarray(skin * matte, np.float32),
        np.asarray(hair * matte, np.float32),
        np.asarray(np.where(face > 0.5, 0.02, 0.12 + 0.9 * (1.0 - matte)), np.float32),
    )


def _cells(lab: Float) -> NDArray[np.int64]:
    """Cell of every px in a 20 x 20 x 20 histogram, chroma on a square-root scale."""
    chroma = lab[..., 1:] - 128.0
    chroma = 10.0 + 1.1 * np.sign(chroma) * np.sqrt(np.abs(chroma))
    q = np.clip(np.dstack([lab[..., 0] / 12.8, chroma]), 0, 19).astype(np.int64)
    return np.asarray((q[..., 0] * 20 + q[..., 1]) * 20 + q[..., 2])


def _likelihood(cells: NDArray[np.int64], seed: Float) -> Float:
    """[S, S] likelihood of each px's colour given the px weighted by ``seed``."""
    counts = np.bincount(cells.ravel(), seed.ravel().astype(np.float64), 8000).reshape(20, 20, 20)
    for axis, sigma in enumerate((1.2, 0.7, 0.7)):
        counts = gaussian_filter1d(counts, sigma, axis=axis, mode="constant")
    share = counts / max(float(counts.sum()), 1e-6)
    return np.asarray(share.ravel()[cells] + 1e-5, np.float32)
