"""What colour the inside of this person's mouth has, told from the outside."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from engine.animators.mesh.eyefit import EyeFit, fit_eyes, smoothstep
from engine.animators.mesh.layers import SourceGeometry
from engine.face.basis import FaceBasis
from engine.face.residual import INNER_LIPS

__all__ = ["MouthColours", "mouth_colours", "vertex_colours"]

Float = NDArray[np.float32]

# Outer edge of the lips, once around.
_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
# Cheeks, for the side the light comes from: the subject's right (image left), then left.
_CHEEKS = ((50, 101, 205, 187), (280, 330, 425, 411))
_SKIN = (50, 101, 205, 280, 330, 425, 151, 9, 199)


@dataclass(frozen=True)
class MouthColours:
    """Colours 0..255 in full light."""

    tooth: Float
    lip: Float
    tongue: Float
    gum: Float
    socket: Float
    dark: Float
    """the throat"""
    direction: Float
    """[3] unit vector to the light, camera space"""


def mouth_colours(source: SourceGeometry) -> MouthColours:
    """Colours of one portrait's mouth."""
    image = source.crop.astype(np.float32)
    points = source.landmarks
    lip = _lip_colour(image, points)
    skin = np.median([_patch(image, points[k]) for k in _SKIN], 0)
    tooth = _tooth_colour(source, image, skin)
    # Wet inner tissue: redder than the lips, brightness tied to theirs but never black.
    level = float(np.clip(lip.mean(), 75.0, 0.66 * float(tooth.mean())))
    flesh = lip / max(float(lip.mean()), 1.0)
    saturated = float(np.clip(max(_saturation(lip), 1.6 * _saturation(skin)), 0.0, 0.6))
    red = np.array([1.0 + 0.55 * saturated, 1.0 - 0.32 * saturated, 1.0 - 0.26 * saturated])
    tongue = np.clip(level * 1.22 * (0.55 * flesh + 0.45) * red, 0, 235)
    gum = np.clip(level * 1.12 * (0.7 * flesh + 0.3) * red, 0, 225)
    return MouthColours(
        tooth=tooth.astype(np.float32),
        lip=lip.astype(np.float32),
        tongue=tongue.astype(np.float32),
        gum=gum.astype(np.float32),
        socket=(gum * np.array([0.88, 0.76, 0.76])).astype(np.float32),
        dark=(lip * np.array([0.20, 0.11, 0.11])).astype(np.float32),
        direction=_light_direction(image, points),
    )


def _saturation(colour: Float) -> float:
    return float((colour.max() - colour.min()) / max(float(colour.max()), 1.0))


def _patch(image: Float, point: Float) -> Float:
    """Median colour of the 5 x 5 pixels around ``point``."""
    size = image.shape[0]
    x, y = (int(v) for v in np.clip(np.round(point), 2, size - 3))
    return np.asarray(np.median(image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3), 0), np.float32)


def _lip_colour(image: Float, points: Float) -> Float:
    """Median colour between the outer and inner edges of the lips."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [points[list(_OUTER)].round().astype(np.int32)], 1)
    inner = np.concatenate([points[INNER_LIPS[0]], points[INNER_LIPS[1]][::-1]])
    cv2.fillPoly(mask, [inner.round().astype(np.int32)], 0)
    pixels = image[mask > 0]
    return np.asarray(np.median(pixels, 0), np.float32) if len(pixels) > 20 else _patch(image, points[17])


def _tooth_colour(source: SourceGeometry, image: Float, skin: Float) -> Float:
    """From teeth the photo shows, else from the whites of the eyes and the skin."""
    whites = [_white(image, fit) for fit in fit_eyes(source.crop, source.landmarks)]
    white = np.max([w for w in whites if w is not None] or [skin * 1.08], 0)
    tint = white / max(float(white.mean()), 1.0)
    skin_tint = skin / max(float(skin.mean()), 1.0)
    # Teeth are ivory, with some of the cast that the light gives to eyes and skin.
    tone = 0.25 * tint + 0.25 * skin_tint + 0.50 * np.array([1.02, 1.0, 0.94])
    tone = np.maximum(tone, 0.68 * tone.max())
    bright = float(np.percentile([_patch(image, source.landmarks[k]).mean() for k in _SKIN], 80))
    level = float(np.clip(max(1.12 * float(white.mean()), 1.16 * bright), 70.0, 236.0))
    guess = level * tone / tone.max()
    shown = _shown_teeth(source, image)
    if shown is not None:
        guess = 0.25 * guess + 0.75 * shown
    return np.asarray(np.clip(guess, 40, 245), np.float32)


def _white(image: Float, fit: EyeFit) -> Float | None:
    """Bright colour of one white of the eye, None where too little shows."""
    (x, y), (w, h) = fit.origin, fit.size
    gx, gy = np.meshgrid(np.arange(x, x + w), np.arange(y, y + h))
    polar = np.hypot(gx - fit.iris[0], gy - fit.iris[1]) / max(fit.radius, 1.0)
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [(fit.outline - [x, y]).round().astype(np.int32)], 1)
    pixels = image[y : y + h, x : x + w][(mask > 0) & (polar > 1.2)]
    if len(pixels) < 12:
        return None
    return np.asarray(np.percentile(pixels, 82, axis=0), np.float32)


def _shown_teeth(source: SourceGeometry, image: Float) -> Float | None:
    """Colour of teeth visible in the photo, None where there are none."""
    points = source.landmarks
    inner = np.concatenate([points[INNER_LIPS[0]], points[INNER_LIPS[1]][::-1]])
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [inner.round().astype(np.int32)], 1)
    mask = np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8)), np.uint8)
    pixels = image[mask > 0]
    if len(pixels) < 40:
        return None
    lip = _lip_colour(image, points)
    # Teeth: brighter than the lips, and far less red.
    redness = pixels[:, 0] / np.maximum(pixels[:, 1:].mean(1), 1.0)
    teeth = pixels[(pixels.mean(1) > 1.05 * lip.mean()) & (redness < 1.35)]
    if len(teeth) < 0.2 * len(pixels):
        return None
    return np.asarray(np.percentile(teeth, 70, axis=0), np.float32)


def _light_direction(image: Float, points: Float) -> Float:
    """From above and in front, leaning to the brighter cheek."""
    right, left = (np.mean([_patch(image, points[k]).mean() for k in cheek]) for cheek in _CHEEKS)
    lean = float(np.clip((left - right) / max(left + right, 1.0), -0.35, 0.35))
    vector = np.array([1.2 * lean, 0.34, 0.94])
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def vertex_colours(basis: FaceBasis, colours: MouthColours) -> tuple[Float, Float]:
    """Colour [V, 3] in full light and gloss [V, 5] (see ``light_interior``) of the interior."""
    base = np.zeros_like(basis.mean)
    gloss = np.zeros((len(basis.mean), 5), np.float32)
    for name, colour, shine in (
        ("socket", colours.socket, (0.05, 10.0, 0.22, 0.55)),
        ("gums", colours.gum, (0.14, 26.0, 0.17, 1.0)),
        ("tongue", colours.tongue, (0.13, 16.0, 0.20, 1.0)),
        ("teeth_upper", colours.tooth, (0.14, 30.0, 0.16, 0.32)),
        ("teeth_lower", colours.tooth * 0.96, (0.12, 30.0, 0.18, 0.40)),
    ):
        part = basis.part(name)
        base[part], gloss[part, :4] = colour, shine
    for name, up in (("teeth_upper", -1.0), ("teeth_lower", 1.0)):
        part = basis.part(name)
        base[part] *= _tooth_tone(basis, part, up)
        # Molars are seldom seen and never sharp: their bumps would look like noise.
        molar = smoothstep(1.7, 2.3, np.abs(basis.mean[part, 0]))
        gloss[part, 4] = 0.85 * molar
        gloss[part, 0] *= 1.0 - 0.8 * molar
    tongue = basis.part("tongue")
    base[tongue] *= _tongue_tone(basis.mean[tongue])[:, None]
    return base, gloss


def _tooth_tone(basis: FaceBasis, part: slice, up: float) -> Float:
    """Tone [N, 3] of teeth: warmer at the root, cooler and translucent at the edge, dark between.

    ``up`` is the direction of the biting edge, +1 or -1 in y.
    """
    points = basis.mean[part]
    triangles = basis.triangles
    own = triangles[((triangles >= part.start) & (triangles < part.stop)).all(1)] - part.start
    links = coo_matrix((np.ones(len(own) * 2), (own[:, :2].ravel(), own[:, 1:].ravel())), (len(points),) * 2)
    count, tooth = connected_components(links, directed=False)
    tone = np.ones((len(points), 3), np.float32)
    arch = np.array([0.0, points[:, 2].min() + 1.0])
    for k in range(count):
        mine = tooth == k
        p = points[mine]
        height = (p[:, 1] - p[:, 1].min()) / max(float(np.ptp(p[:, 1])), 1e-3)
        edge = height if up > 0 else 1.0 - height  # 0 root .. 1 biting edge
        centre = p.mean(0)
        outward = np.array([centre[0], centre[2]]) - arch
        outward /= max(float(np.linalg.norm(outward)), 1e-3)
        along = (p[:, 0] - centre[0]) * outward[1] - (p[:, 2] - centre[2]) * outward[0]
        front = (p[:, 0] - centre[0]) * outward[0] + (p[:, 2] - centre[2]) * outward[1]
        side = np.abs(along) / max(float(np.abs(along).max()), 1e-3)
        # Sides and backs are in their neighbours' shade.
        shade = 1.0 - 0.26 * smoothstep(0.72, 1.0, side.astype(np.float32))
        shade *= 1.0 - 0.35 * smoothstep(0.0, -0.35, front.astype(np.float32))
        # Canines (third from the middle) are a little yellower, molars darker and warmer (flesh lights them).
        canine = float(np.exp(-(((abs(centre[0]) - 1.75) / 0.35) ** 2)))
        molar = float(smoothstep(2.0, 2.9, np.float32(abs(centre[0]))))
        warm = 0.10 * (1.0 - edge) + 0.04 * canine + 0.18 * molar
        cool = 0.05 * smoothstep(0.80, 1.0, edge.astype(np.float32))
        level = shade * (1.0 - 0.05 * (1.0 - edge) - 0.18 * molar)
        tone[mine] = np.stack([level * (1 - cool), level * (1 - 0.45 * warm), level * (1 - warm + cool)], 1)
    return tone


def _tongue_tone(points: Float) -> Float:
    """Tone [N] of the tongue: a darker groove along the middle, paler towards the tip."""
    groove = np.exp(-((points[:, 0] / 0.22) ** 2))
    front = (points[:, 2] - points[:, 2].min()) / max(float(np.ptp(points[:, 2])), 1e-3)
    return np.asarray((1.0 - 0.14 * groove) * (0.90 + 0.14 * front), np.float32)
