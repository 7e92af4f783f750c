"""Where exactly the iris is in the photo, and whether to believe it.

Landmarks give the iris to about a tenth of its radius; Daugman's integro-differential operator
(Daugman 1993: the circle across which the mean brightness changes most) refines it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["LIDS", "LOWER_LIDS", "EyeFit", "fit_eyes", "smoothstep"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Landmarks per eye: the subject's right first. Outlines run once around, lids corner to corner in
# image order (left to right).
_OUTLINE = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382),
)
LIDS: tuple[list[int], list[int]] = (list(_OUTLINE[0][:9]), list(_OUTLINE[1][:9]))
"""Upper-lid landmarks of the right and the left eye, image left to right, corners included."""
LOWER_LIDS: tuple[list[int], list[int]] = tuple([o[0], *o[:7:-1]] for o in _OUTLINE)  # type: ignore[assignment]
"""Lower-lid landmarks, image left to right, corners included."""
_IRIS = (468, 473)
_SCALES = np.linspace(0.85, 1.55, 12)  # tried iris radii, in landmark radii


def smoothstep(low: float, high: float, x: Float | np.float32) -> Float:
    """0 below ``low``, 1 above ``high``, cubic between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


@dataclass(frozen=True)
class EyeFit:
    """One eye in the photo; pixels are crop pixels."""

    outline: Float
    """[16, 2] the opening between the lids"""
    iris: Float
    """[2] centre of the iris"""
    radius: float
    width: float
    """corner to corner"""
    reliable: bool
    origin: tuple[int, int]
    """first column and row of the region"""
    size: tuple[int, int]
    """columns and rows of the region, px"""
    zoom: int
    """texels per pixel"""

    def texel(self, pixels: Float) -> Float:
        """Crop pixels [N, 2] to texel coordinates of the region's textures."""
        start = np.array(self.origin, np.float32)
        return np.ascontiguousarray((pixels - start + 0.5) * self.zoom - 0.5, np.float32)

    def region_grid(self, columns: int, rows: int) -> Float:
        """Regular points over the region, border included: [rows * columns, 2] px."""
        x = self.origin[0] - 0.5 + np.linspace(0, self.size[0], columns)
        y = self.origin[1] - 0.5 + np.linspace(0, self.size[1], rows)
        return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)

    def magnify(self, crop: Bytes) -> Float:
        """The region at ``zoom`` texels per pixel whose box average is the photo again."""
        (x, y), (w, h) = self.origin, self.size
        pixels = crop[y : y + h, x : x + w].astype(np.float32)
        big = (w * self.zoom, h * self.zoom)
        texture = cv2.resize(pixels, big, interpolation=cv2.INTER_CUBIC)
        for _ in range(4):
            # Bilinear look-ups blur by about half a texel before the average: undo that as well.
            seen = cv2.resize(cv2.blur(texture, (2, 2)), (w, h), interpolation=cv2.INTER_AREA)
            texture = texture + cv2.resize(pixels - seen, big, interpolation=cv2.INTER_CUBIC)
        return np.asarray(np.clip(texture, 0, 255), np.float32)

    def _texel_grid(self) -> tuple[Float, Float]:
        (x, y), (w, h) = self.origin, self.size
        gx = x - 0.5 + (np.arange(w * self.zoom, dtype=np.float32) + 0.5) / self.zoom
        gy = y - 0.5 + (np.arange(h * self.zoom, dtype=np.float32) + 0.5) / self.zoom
        return np.broadcast_arrays(gx[None], gy[:, None])  # type: ignore[return-value]

    def opening(self) -> tuple[NDArray[np.bool_], Float]:
        """Texels inside the lids, and their signed distance to the outline in px (inside > 0)."""
        (w, h), zoom = self.size, self.zoom
        mask = np.zeros((h * zoom, w * zoom), np.uint8)
        fine = self.texel(self.outline) * 16.0
        cv2.fillPoly(mask, [fine.round().astype(np.int32)], 1, shift=4)
        into = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
        out = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
        return mask > 0, np.asarray((into - out) / zoom, np.float32)

    def freedom(self, pixels: Float) -> Float:
        """How far [N] the photo's eye may shift at crop ``pixels`` [N, 2], 0..1.

        A reliable eye's lids hide its edge; others bend inside the opening and stay at its edge, so that
        nothing tears.
        """
        if self.reliable:
            return np.ones(len(pixels), np.float32)
        outline = np.ascontiguousarray(self.outline, np.float32)[:, None]
        inside = [cv2.pointPolygonTest(outline, (float(x), float(y)), True) for x, y in pixels]
        return smoothstep(0.0, 0.2 * self.width, np.asarray(inside, np.float32))

    def texel_points(self) -> Float:
        """Crop pixels of all texels, row by row, [h * w, 2]."""
        gx, gy = self._texel_grid()
        return np.stack([gx.ravel(), gy.ravel()], 1).astype(np.float32)

    def polar(self) -> Float:
        """Distance of every texel from the iris centre, in iris radii."""
        gx, gy = self._texel_grid()
        return np.asarray(np.hypot(gx - self.iris[0], gy - self.iris[1]) / self.radius, np.float32)


def fit_eyes(crop: Bytes, landmarks: Float) -> tuple[EyeFit, EyeFit]:
    """The right and the left eye of landmarks [478, 2] on ``crop``.

    Both irises are the same size, and they are believed or not together: one eye that turns beside
    one that slides would look worse than two that slide.
    """
    outlines = [np.ascontiguousarray(landmarks[list(o)], np.float32) for o in _OUTLINE]
    found = _refine(crop, landmarks, outlines)
    fits = []
    for outline, (iris, radius, contrast) in zip(outlines, found, strict=True):
        width = max(float(np.linalg.norm(outline[8] - outline[0])), 4.0)
        height = float(np.linalg.norm(outline[4] - outline[12]))
        origin, size = _region(crop, outline, width)
        reliable = _believable(outline, iris, radius, width, height, contrast)
        fits.append(EyeFit(outline, iris, radius, width, reliable, origin, size, 4 if width < 80 else 2))
    mixed = [_iris_in_white(crop, fit) for fit in fits]
    spilt = max(_iris_on_skin(crop, fit) for fit in fits)
    clear = max(contrast for _, _, contrast in found) > 18.0 and all(fit.reliable for fit in fits)
    together = clear and min(mixed) < 0.35 and max(mixed) < 0.7 and spilt < 0.5
    first, second = (replace(fit, reliable=together) for fit in fits)
    return first, second


def _region(crop: Bytes, outline: Float, width: float) -> tuple[tuple[int, int], tuple[int, int]]:
    margin = np.array([0.14, 0.18], np.float32) * width
    low, high = outline.min(0) - margin, outline.max(0) + margin
    rows, columns = crop.shape[:2]
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(columns, int(high[0]) + 2), min(rows, int(high[1]) + 2)
    x0, y0 = min(x0, columns - 8), min(y0, rows - 8)
    return (x0, y0), (max(x1 - x0, 8), max(y1 - y0, 8))


def _refine(crop: Bytes, landmarks: Float, outlines: list[Float]) -> list[tuple[Float, float, float]]:
    """Per eye: iris centre and radius (px), and the brightness step across its rim (levels)."""
    # The weakest channel: the white is bright in all three, no iris is.
    grey = np.asarray(crop.min(-1), np.float32)
    # Left and right arcs only: lids cover the rest.
    side = np.radians(np.linspace(-38, 42, 17))
    angle = np.concatenate([side, np.pi - side])
    ray = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    tries: list[list[tuple[float, Float, float, float]]] = []
    for first, outline in zip(_IRIS, outlines, strict=True):
        centre = landmarks[first].astype(np.float32)
        around = landmarks[first + 1 : first + 5] - centre
        start = max(float(np.linalg.norm(around, axis=1).mean()), 1.0)
        smooth = np.asarray(cv2.GaussianBlur(grey, (0, 0), max(0.5, 0.06 * start)), np.float32)
        tries.append([_best_centre(smooth, outline, centre, start, float(k), ray) for k in _SCALES])
    together = [sum(eye[k][0] for eye in tries) for k in range(len(_SCALES))]
    best = int(np.argmax(together))
    return [(eye[best][1], eye[best][2], eye[best][3]) for eye in tries]


def _best_centre(
    grey: Float, outline: Float, centre: Float, start: float, scale: float, ray: Float
) -> tuple[float, Float, float, float]:
    """Score, centre, radius and rim step of the best circle of radius ``start * scale``."""
    dx, dy = np.meshgrid(np.linspace(-0.24, 0.24, 7), np.linspace(-0.16, 0.16, 5))
    offset = np.stack([dx.ravel(), dy.ravel()], 1).astype(np.float32)
    centres = centre + offset * np.float32(start)
    merit, step = _rim_steps(grey, outline, centres, start * scale, ray)
    # Prefer what the landmarks said unless the rim disagrees clearly.
    score = merit - 14.0 * np.square(offset).sum(1) - 8.0 * (scale - 1.0) ** 2
    best = int(score.argmax())
    return float(score[best]), centres[best], start * scale, float(step[best])


def _rim_steps(grey: Float, outline: Float, centres: Float, radius: float, ray: Float) -> tuple[Float, Float]:
    """Merit of circles about ``centres`` [C, 2], and the brightness just outside minus just inside
    them over their visible arcs, both [C].

    A pupil has a rim as well, but only the iris has the white of the eye around it: brightness
    outside counts too.
    """
    outer = centres[:, None] + ray * np.float32(1.12 * radius)
    inner = centres[:, None] + ray * np.float32(0.88 * radius)
    shape = outer.shape[:2]
    outside = _sample(grey, outer.reshape(-1, 2)).reshape(shape)
    step = outside - _sample(grey, inner.reshape(-1, 2)).reshape(shape)
    seen = _inside(outline, outer.reshape(-1, 2)).reshape(shape).astype(np.float32)
    half = len(ray) // 2
    counts, steps, merits = [], [], []
    for arc in (slice(0, half), slice(half, None)):
        count = seen[:, arc].sum(1)
        weight = seen[:, arc] / np.maximum(count, 1.0)[:, None]
        counts.append(count)
        steps.append((weight * step[:, arc]).sum(1))
        merits.append((weight * (step[:, arc] + 0.5 * outside[:, arc])).sum(1))
    # Both arcs must show: one-sided fits slide along the lid.
    lone = 0.5 * (seen * step).sum(1) / np.maximum(seen.sum(1), 1.0)
    both = np.minimum(*counts) >= 3
    merit = 0.7 * np.minimum(*merits) + 0.3 * np.maximum(*merits)
    rim = 0.7 * np.minimum(*steps) + 0.3 * np.maximum(*steps)
    return np.where(both, merit, lone).astype(np.float32), np.where(both, rim, lone).astype(np.float32)


def _sample(grey: Float, points: Float) -> Float:
    x = np.clip(points[:, 0], 0, grey.shape[1] - 1.001)
    y = np.clip(points[:, 1], 0, grey.shape[0] - 1.001)
    i, j = x.astype(np.int64), y.astype(np.int64)
    fx, fy = x - i, y - j
    top = grey[j, i] * (1 - fx) + grey[j, i + 1] * fx
    bottom = grey[j + 1, i] * (1 - fx) + grey[j + 1, i + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy, np.float32)


def _inside(outline: Float, points: Float) -> NDArray[np.bool_]:
    """Even-odd test of points [N, 2] against a closed polygon [M, 2]."""
    a, b = outline, np.roll(outline, -1, 0)
    px, py = points[:, 0, None], points[:, 1, None]
    crosses = (a[:, 1] > py) != (b[:, 1] > py)
    slope = (b[:, 0] - a[:, 0]) / np.where(np.abs(b[:, 1] - a[:, 1]) < 1e-9, 1e-9, b[:, 1] - a[:, 1])
    return np.asarray((crosses & (px < a[:, 0] + slope * (py - a[:, 1]))).sum(1) % 2 == 1)


def _believable(
    outline: Float, iris: Float, radius: float, width: float, height: float, contrast: float
) -> bool:
    """Human proportions, enough pixels, an open eye and a rim that can be seen."""
    return bool(
        width > 13.0
        and 0.13 < radius / width < 0.36
        and height / width > 0.15
        and contrast > 10.0
        and _inside(outline, iris[None])[0]
    )


def _iris_in_white(crop: Bytes, fit: EyeFit) -> float:
    """Share of the would-be white that looks like iris: high for tall drawn irises and bad fits."""
    photo = fit.magnify(crop)
    polar = fit.polar()
    _, distance = fit.opening()
    white = photo[(polar > 1.25) & (polar < 1.9) & (distance > 0.08 * fit.width)]
    iris = photo[(polar < 0.95) & (distance > 0.03 * fit.width)]
    if len(white) < 30 or len(iris) < 30:
        return 0.5  # cannot tell: the other eye decides
    brightness = white.mean(-1)
    bright = np.median(white[brightness >= np.quantile(brightness, 0.7)], 0)
    axis = np.median(iris, 0) - bright
    share = (white - bright) @ axis / max(float(axis @ axis), 1.0)
    return float((share > 0.55).mean())


def _iris_on_skin(crop: Bytes, fit: EyeFit) -> float:
    """Share of the circle below the lower lid that looks like iris: high where the landmarks' outline
    is smaller than the eye, as in cartoons; the painted iris would stay behind on the skin. (Above
    the upper lid lashes are as dark as an iris and say nothing.)"""
    photo = fit.magnify(crop)
    polar = fit.polar()
    _, distance = fit.opening()
    lower = (fit.texel_points()[:, 1] > fit.iris[1]).reshape(polar.shape)
    beyond = photo[(polar < 0.95) & (distance < -0.04 * fit.width) & lower]
    iris = photo[(polar < 0.95) & (distance > 0.03 * fit.width)]
    skin = photo[(polar > 1.2) & (distance < -0.10 * fit.width) & lower]
    if len(beyond) < 30 or len(iris) < 30 or len(skin) < 30:
        return 0.0
    start = np.median(skin, 0)
    axis = np.median(iris, 0) - start
    share = (beyond - start) @ axis / max(float(axis @ axis), 1.0)
    return float((share > 0.6).mean())
