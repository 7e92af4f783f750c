"""Person against background, without a trained network.

The face is known (468 landmarks), so most of the work is already done: the head, the neck and the
torso can only be in a few places around it. That spatial prior and two colour models (locally
adaptive histograms of the person and of the background) vote on every pixel of a small picture;
a contrast-sensitive random walk (Grady, "Random Walks for Image Segmentation", 2006, with priors)
turns the votes into one connected silhouette. At full size the silhouette's edge is un-mixed
against the nearest sure colours of both sides and smoothed by a colour guided filter (He et al.,
"Guided Image Filtering", 2013), which is what recovers hair.

Where the picture does not say, the matte errs towards keeping background near the hair: a halo that
moves with the head is seen less than a head that is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["FaceFrame", "face_frame", "person_matte"]

Float = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_SMALL = 128  # side of the picture that is segmented
_ROUNDS = 5  # colour models <-> silhouette
# Landmarks of MediaPipe's face oval, in order.
_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
         152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip


@dataclass(frozen=True)
class FaceFrame:
    """A face's own axes in the picture: ``centre`` (px), unit vectors ``right`` and ``down``,
    ``width`` between the cheeks and ``height`` from hairline to chin (px)."""

    centre: Float
    right: Float
    down: Float
    width: float
    height: float

    def coordinates(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Pixels to face units: u in face widths to the right, v in face heights down."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        u = (dx * self.right[0] + dy * self.right[1]) / self.width
        v = (dx * self.down[0] + dy * self.down[1]) / self.height
        return u, v


def face_frame(points: npt.ArrayLike) -> FaceFrame:
    """The frame of a face from its landmarks [>=468, 2] px."""
    p = np.asarray(points, np.float32)[:468, :2]
    top, chin = p[10], p[152]
    eyes = p[[263, 362]].mean(0) - p[[33, 133]].mean(0)
    right = eyes / max(float(np.linalg.norm(eyes)), 1e-6)
    down = np.array([-right[1], right[0]], np.float32)
    across = (p - p.mean(0)) @ right
    height = max(abs(float((chin - top) @ down)), 1.0)
    # A turned face is narrower than the head behind it.
    width = max(float(across.max() - across.min()), 0.72 * height)
    oval = p[list(_OVAL)]
    return FaceFrame(oval.mean(0), right, down, width, height)


def person_matte(crop: Bytes, points: npt.ArrayLike, alpha: Bytes | None = None) -> Float:
    """How much each pixel belongs to the person (hair, ears, neck, shoulders included).

    ``crop`` uint8 [H, W, 3], ``points`` landmarks [>=468, 2] in crop pixels, ``alpha`` uint8 [H, W]
    the picture's own transparency where it has one: it is the truth, and only a picture that is
    opaque almost everywhere is segmented. Returns float32 [H, W], 0 background .. 1 person.
    """
    if alpha is not None and float((alpha < 128).mean()) > 0.02:
        return np.asarray(alpha, np.float32) / 255.0
    height, width = crop.shape[:2]
    frame = face_frame(points)
    small = cv2.resize(crop, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    scale = np.array([_SMALL / width, _SMALL / height], np.float32)
    prior, sure = _spatial_prior(frame, np.asarray(points, np.float32), scale)
    coarse = _segment(np.asarray(small, np.uint8), prior, sure)
    coarse = _keep_person(coarse, sure)
    return _hold_shoulders(_refine(crop, coarse, frame), frame)


def _sigmoid(x: Float) -> Float:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), np.float32)


def _smoothstep(low: float, high: float, x: Float) -> Float:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def _spatial_prior(frame: FaceFrame, points: Float, scale: Float) -> tuple[Float, Bytes]:
    """Log-odds of person from position alone [S, S], and sure pixels (1 person, 2 background)."""
    y, x = np.mgrid[0:_SMALL, 0:_SMALL].astype(np.float32)
    u, v = frame.coordinates((x + 0.5) / scale[0], (y + 0.5) / scale[1])
    # Signed distances in face heights: the skull with short hair, then the torso below the chin.
    head = np.hypot(u / 0.66, (v + 0.13) / 0.78) - 1.0
    neck = np.abs(u) - 0.40 - np.maximum(0.45 - v, 0) * 4.0
    shoulder = 0.34 + 1.25 * _smoothstep(0.62, 1.05, v) + 0.5 * np.maximum(v - 1.05, 0.0)
    torso = np.where(v > 0.5, np.abs(u) - shoulder, 1.0 + np.abs(u))
    distance = np.minimum(np.minimum(head, np.maximum(neck, 0.5 - v)), torso)
    # Hair is the great unknown: doubt, not background, around the skull and down to the chest.
    hair = np.hypot(u / 1.15, (v + 0.25) / 1.15) - 1.0
    slope = np.where(distance > 0, 4.0, 12.0)
    prior = np.clip(-distance * slope, -3.2, 3.2)
    prior = np.where(hair < 0, np.maximum(prior, -1.0 - 1.2 * np.clip(distance, 0, 1)), prior)
    beside = (np.abs(u) < 0.95) & (v > -0.7) & (v < 1.2)
    prior = np.where(beside, np.maximum(prior, -1.0), prior)
    prior = np.where((v < -1.25) | ((np.abs(u) > 1.3) & (v < 0.6)), -3.2, prior)

    sure = np.zeros((_SMALL, _SMALL), np.uint8)
    hull = cv2.convexHull((points[:468, :2] * scale).astype(np.float32)).round().astype(np.int32)
    cv2.fillConvexPoly(sure, hull, 1)
    sure[(np.abs(u) < 0.20) & (v > 0.45)] = 1
    skull = np.hypot(u / 0.49, (v + 0.11) / 0.64) < 1.0
    sure[skull] = 1
    edge = np.zeros_like(sure, bool)
    edge[:2] = edge[:, :2] = edge[:, -2:] = True
    sure[edge & (prior < -3.0) & (sure == 0)] = 2
    # Beside the head, not above it: hair often touches the upper edge.
    beside_head = (np.abs(u) > 0.80) | ((np.abs(u) > 0.62) & (v < -0.6)) | (v < -1.5)
    sure[edge & beside_head & (v < 0.1) & (sure == 0)] = 2
    return np.asarray(prior, np.float32), sure


def _segment(small: Bytes, prior: Float, sure: Bytes) -> Float:
    """Soft silhouette [S, S] of the small picture from prior, colours and edges."""
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    edges = _edge_weights(lab)
    cells = _cells(lab)
    person = _sigmoid(prior)
    person[sure == 1], person[sure == 2] = 1.0, 0.0
    far = (prior <= max(-2.4, float(np.quantile(prior, 0.05)))).astype(np.float32)
    far[sure == 2] = 1.0
    for k in range(_ROUNDS):
        # Hair the prior does not expect must not teach the background: at first only far pixels do.
        back = np.clip(1.0 - 2.0 * person, 0, 1) ** 2 * (1.0 if k >= 3 else far)
        colour = _colour_log_odds(cells, np.clip(2.0 * person - 1.0, 0, 1) ** 2, back)
        # Position counts less once the colours are known.
        votes = 1.1 * colour + (0.8 if k < 2 else 0.55) * prior
        p = _sigmoid(votes)
        trust = 0.02 + 0.5 * np.abs(2.0 * p - 1.0) ** 2
        p[sure == 1], p[sure == 2] = 1.0, 0.0
        trust[sure > 0] = 20.0
        person = _random_walk(edges, trust.astype(np.float32), p, person)
    return person


def _cells(lab: Float) -> npt.NDArray[np.int64]:
    """Histogram cell of every pixel: 16 x 16 x 16 colours at 4 x 4 places, flat index [S, S]."""
    # Chroma on a square-root scale: greys (white hair, cream walls) need the finest cells.
    chroma = lab[..., 1:] - 128.0
    chroma = 8.0 + 0.95 * np.sign(chroma) * np.sqrt(np.abs(chroma))
    q = np.clip(np.dstack([lab[..., 0] / 16.0, chroma]), 0, 15).astype(np.int64)
    y, x = np.mgrid[0:_SMALL, 0:_SMALL] * 4 // _SMALL
    return np.asarray((((q[..., 0] * 16 + q[..., 1]) * 16 + q[..., 2]) * 4 + y) * 4 + x)


def _histogram(cells: npt.NDArray[np.int64], weight: Float) -> Float:
    """Blurred histograms of the weighted pixels: local plus a share of the global one."""
    h = np.bincount(cells.ravel(), weight.ravel().astype(np.float64), 16**4)
    h = h.reshape(16, 16, 16, 4, 4).astype(np.float32)
    for axis in (0, 1, 2):
        h = ndimage.gaussian_filter1d(h, 0.8, axis=axis, mode="constant", truncate=2.5)
    everywhere = h.sum((3, 4), keepdims=True)
    for axis in (3, 4):
        h = ndimage.gaussian_filter1d(h, 0.8, axis=axis, mode="nearest", truncate=2.0)
    return np.asarray(h + 0.04 * everywhere, np.float32)


def _colour_log_odds(cells: npt.NDArray[np.int64], person: Float, background: Float) -> Float:
    """Log-odds of person from colour alone [S, S], limited to +-3, given what both are taught by."""
    front, back = _histogram(cells, person), _histogram(cells, background)
    odds = np.log((front + 0.02) / (back + 0.02)).ravel()[cells]
    return np.asarray(np.clip(odds, -3.0, 3.0), np.float32)


def _edge_weights(lab: Float) -> tuple[Float, Float]:
    """Weights of the 4-neighbour edges (down [S-1, S], right [S, S-1]): small across contrast."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.6)
    down = np.square(np.diff(smooth, axis=0)).sum(-1)
    right = np.square(np.diff(smooth, axis=1)).sum(-1)
    beta = 1.0 / (2.5 * (0.5 * (down.mean() + right.mean())) + 4.0)
    return (np.exp(-beta * down) + 0.004).astype(np.float32), (np.exp(-beta * right) + 0.004).astype(
        np.float32
    )


def _random_walk(edges: tuple[Float, Float], trust: Float, target: Float, start: Float) -> Float:
    """Solve (L + diag(trust)) x = trust * target by preconditioned conjugate gradients."""
    down, right = edges
    diagonal = trust.copy()
    diagonal[:-1] += down
    diagonal[1:] += down
    diagonal[:, :-1] += right
    diagonal[:, 1:] += right

    def apply(x: Float) -> Float:
        y = diagonal * x
        y[:-1] -= down * x[1:]
        y[1:] -= down * x[:-1]
        y[:, :-1] -= right * x[:, 1:]
        y[:, 1:] -= right * x[:, :-1]
        return y

    x = start.copy()
    r = trust * target - apply(x)
    z = r / diagonal
    p = z.copy()
    rho = float(np.vdot(r, z))
    for _ in range(60):
        if rho < 1e-4:
            break
        q = apply(p)
        step = rho / float(np.vdot(p, q))
        x += step * p
        r -= step * q
        z = r / diagonal
        rho, old = float(np.vdot(r, z)), rho
        p = z + (rho / old) * p
    return np.clip(x, 0.0, 1.0)


def _keep_person(person: Float, sure: Bytes) -> Float:
    """Only what hangs together with the face, holes filled."""
    solid = person > 0.4
    labels, _ = ndimage.label(solid | (sure == 1))
    face = labels[sure == 1]
    keep = labels == np.bincount(face[face > 0]).argmax()
    filled = ndimage.binary_fill_holes(keep)
    near = cv2.dilate(np.asarray(filled, np.uint8), np.ones((3, 3), np.uint8)) > 0
    out = np.where(near, person, 0.0)
    inside = cv2.erode(np.asarray(filled, np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(inside, np.maximum(out, 0.75), out).astype(np.float32)


def _refine(crop: Bytes, coarse: Float, frame: FaceFrame) -> Float:
    """Full-size matte [H, W]: edge band un-mixed against the colours of both sides, then guided."""
    height, width = crop.shape[:2]
    alpha = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    alpha = _smoothstep(0.12, 0.72, alpha)
    band = 0.045 * frame.width
    image = crop.astype(np.float32) / 255.0
    front = ndimage.distance_transform_edt(alpha > 0.5)
    back = ndimage.distance_transform_edt(alpha <= 0.5)
    inside = (front > band).astype(np.float32)
    outside = (back > band * 1.3).astype(np.float32)
    unmixed, trust = _unmix(image, inside, outside, band)
    alpha = np.where((inside == 0) & (outside == 0), alpha + trust * (unmixed - alpha), alpha)
    known = np.where(inside > 0, 1.0, np.where(outside > 0, 0.0, alpha))
    guided = _guided_filter(image, np.asarray(known, np.float32), max(2, round(0.02 * frame.width)), 2e-4)
    return np.clip(_smoothstep(0.04, 0.92, guided), 0.0, 1.0)


def _hold_shoulders(alpha: Float, frame: FaceFrame) -> Float:
    """The body below the chin without holes, and generously: ``alpha`` [H, W] grown about the shoulders.

    They hardly move, so a little background that goes with them is never seen, a cut is. Only what
    stands on the picture's lower edge is body: hair above background stays as it is.
    """
    y, x = np.mgrid[0 : alpha.shape[0], 0 : alpha.shape[1]].astype(np.float32)
    below = _smoothstep(0.42, 0.62, frame.coordinates(x, y)[1])
    radius = max(1, round(0.1 * frame.width))
    kernel = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2))
    solid = np.asarray((alpha > 0.5) & (below > 0.0), np.uint8)
    # Gaps up to the growth do not end a column.
    closed = cv2.morphologyEx(cv2.copyMakeBorder(solid, 0, radius, 0, 0, cv2.BORDER_REPLICATE),
                              cv2.MORPH_CLOSE, kernel)[: len(solid)]  # fmt: skip
    standing = np.asarray(np.minimum.accumulate(closed[::-1], axis=0)[::-1], np.uint8)
    grown = cv2.GaussianBlur(cv2.dilate(standing, kernel).astype(np.float32), (0, 0), 0.3 * radius)
    return np.asarray(np.clip(np.maximum(alpha, below * grown), 0.0, 1.0), np.float32)


def _unmix(image: Float, inside: Float, outside: Float, reach: float) -> tuple[Float, Float]:
    """Alpha from the matting equation I = a F + (1 - a) B with local mean colours F and B."""
    front = _nearby_colour(image, inside, reach)
    back = _nearby_colour(image, outside, reach)
    axis = front - back
    contrast = np.square(axis).sum(-1)
    a = ((image - back) * axis).sum(-1) / (contrast + 1e-4)
    away = np.square(image - back - np.clip(a, 0, 1)[..., None] * axis).sum(-1)
    trust = _smoothstep(0.01, 0.08, contrast) * np.exp(-away / 0.02)
    return np.clip(a, 0.0, 1.0).astype(np.float32), trust.astype(np.float32)


def _nearby_colour(image: Float, mask: Float, reach: float) -> Float:
    """Mean colour of the masked pixels around each pixel, within about two reaches [H, W, 3]."""
    step = 4
    h, w = mask.shape[0] // step, mask.shape[1] // step
    m = cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA)
    c = cv2.resize(image * mask[..., None], (w, h), interpolation=cv2.INTER_AREA)
    colour, total = np.zeros_like(c), np.zeros_like(m)
    for k, sigma in enumerate((reach / step, 3 * reach / step, 12 * reach / step)):
        share = 0.02**k
        colour = colour + share * cv2.GaussianBlur(c, (0, 0), sigma)
        total = total + share * cv2.GaussianBlur(m, (0, 0), sigma)
    mean = colour / np.maximum(total, 1e-9)[..., None]
    return np.asarray(cv2.resize(mean, mask.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _guided_filter(guide: Float, source: Float, radius: int, eps: float) -> Float:
    """Colour guided filter (He et al. 2013): ``source`` [H, W] made locally affine in ``guide``."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Float) -> Float:
        return np.asarray(cv2.blur(x, size, borderType=cv2.BORDER_REFLECT), np.float32)

    centre, value = mean(guide), mean(source)
    covariance = mean(guide * source[..., None]) - centre * value[..., None]
    r, g, b = guide[..., 0], guide[..., 1], guide[..., 2]
    pairs = mean(np.dstack([r * r, r * g, r * b])), mean(np.dstack([g * g, g * b, b * b]))
    rr, rg, rb = (pairs[0][..., i] - centre[..., 0] * centre[..., i] for i in range(3))
    gg = pairs[1][..., 0] - centre[..., 1] ** 2
    gb = pairs[1][..., 1] - centre[..., 1] * centre[..., 2]
    bb = pairs[1][..., 2] - centre[..., 2] ** 2
    rr, gg, bb = rr + eps, gg + eps, bb + eps
    # Symmetric 3 x 3 inverse by cofactors.
    c0, c1, c2 = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    det = rr * c0 + rg * c1 + rb * c2
    d = covariance
    slope = np.dstack([
        c0 * d[..., 0] + c1 * d[..., 1] + c2 * d[..., 2],
        c1 * d[..., 0] + (rr * bb - rb * rb) * d[..., 1] + (rb * rg - rr * gb) * d[..., 2],
        c2 * d[..., 0] + (rb * rg - rr * gb) * d[..., 1] + (rr * gg - rg * rg) * d[..., 2],
    ]) / np.maximum(det, 1e-12)[..., None]  # fmt: skip
    offset = value - (slope * centre).sum(-1)
    return np.asarray((mean(slope) * guide).sum(-1) + mean(offset), np.float32)
