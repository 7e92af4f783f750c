"""The eye layer: white of the eye, iris that turns, catch-light that stays.

Prepared once from the photo:

* the eye region, super-resolved so that averaging a supersampled window gives the photo back
  (back-projection, Irani and Peleg 1991);
* the *white*: the same region with the iris removed, continued smoothly under iris and lids;
* the *iris*: un-mixed from the white along its soft rim (I = a F + (1 - a) B solved for F), the part
  that lids and their shadow hide completed by its own radial profile;
* the *glint*: highlights brighter than the iris, which belong to the room rather than to the eye.

Every frame the iris turns with the eyeball in 3D (so it narrows towards the corners), the shadow of
the upper lid follows the lid, and lids of the face mesh cut everything off. While the gaze is (nearly)
the photo's own, the untouched photo is shown instead of its parts. Where no believable iris is found
(drawings, tiny or half-closed eyes) the eye's own pixels shift a little instead: modest, but never
a monster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.drawneyes import drawn_eyes
from engine.animators.mesh.eyedraw import (
    DISC_CM,
    GRID,
    RINGS,
    SPOKES,
    EyeMeshes,
    EyeTextures,
    View,
    Window,
    draw_eye,
)
from engine.animators.mesh.eyefit import LIDS, LOWER_LIDS, EyeFit, fit_eyes, smoothstep
from engine.animators.mesh.eyelight import lid_light
from engine.animators.mesh.layers import Arrays, FrameGeometry, SourceGeometry
from engine.face.basis import FaceBasis
from engine.face.inpaint import push_pull
from engine.types import MOTION
from kernels.raster import Canvas

__all__ = ["EyeLayer"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Bytes = NDArray[np.uint8]

_RIM = 1.14  # the iris mesh and its soft edge end at this multiple of the iris radius
_UPPER, _LOWER = (tuple(np.array(rows) for rows in both) for both in (LIDS, LOWER_LIDS))


@dataclass(frozen=True)
class _Eye:
    """One prepared eye."""

    meshes: EyeMeshes
    textures: EyeTextures
    reliable: bool
    glint: tuple[bool, float, float, float]
    """As :func:`~engine.animators.mesh.eyedraw.draw_eye` takes it."""


class EyeLayer:
    """Draws both eyes; see :class:`~engine.animators.mesh.layers.Layer`."""

    @classmethod
    def prepare(cls, source: SourceGeometry) -> Arrays:
        """Textures and meshes of both eyes, names prefixed ``right_`` and ``left_``."""
        arrays: Arrays = {}
        fits = fit_eyes(source.crop, source.landmarks)
        lids = [source.landmarks[[LIDS[part], LOWER_LIDS[part]]] for part in range(2)]
        if drawn_eyes(source.crop, (lids[0], lids[1])) is not None:
            # The opening ends inside such an eye: parts that move on their own would be cut there.
            fits = (replace(fits[0], reliable=False), replace(fits[1], reliable=False))
        for part, side in enumerate(("right", "left")):
            for name, value in _prepare_eye(source, fits[part], part).items():
                arrays[f"{side}_{name}"] = value
        return arrays

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]], basis: FaceBasis) -> None:
        self._eyes = tuple(_read_eye(arrays, side) for side in ("right", "left"))

    def draw(self, canvas: Canvas, frame: FrameGeometry, part: int) -> None:
        """Paint the eye ``part`` (0 the subject's right, 1 the left) into ``canvas``."""
        eye, (cx, cy) = self._eyes[part], frame.centre
        pitch, yaw = (float(v) for v in frame.motion[MOTION.gaze])
        draw_eye(
            Window(canvas.pixels, canvas.depth, canvas.x0, canvas.y0, canvas.sx, canvas.sy),
            View(frame.camera, frame.head, frame.focal, cx, cy, frame.pixels_per_cm),
            eye.meshes, eye.textures, (pitch, yaw),
            (frame.landmarks[_UPPER[part]], frame.landmarks[_LOWER[part]]), eye.reliable, eye.glint,
        )  # fmt: skip


def _read_eye(arrays: Mapping[str, NDArray[np.generic]], side: str) -> _Eye:
    def real(name: str) -> Float:
        return np.ascontiguousarray(arrays[f"{side}_{name}"], np.float32)

    def texture(name: str) -> Bytes:
        return np.ascontiguousarray(arrays[f"{side}_{name}"], np.uint8)

    reliable, shown, radius, _, x, y = (float(v) for v in real("numbers"))
    rest_light, _ = lid_light(real("grid_pixels"), real("lid"), real("lower"))
    prepared = {name: real(name) for name in EyeMeshes._fields if name != "rest_light"}
    return _Eye(
        EyeMeshes(**prepared, rest_light=rest_light),
        EyeTextures(*(texture(name) for name in EyeTextures._fields)),
        reliable > 0.5,
        (shown > 0.5, x, y, radius),
    )


def _prepare_eye(source: SourceGeometry, fit: EyeFit, part: int) -> Arrays:
    """Everything one eye needs, as plain arrays."""
    textures = _textures(source.crop, fit)
    grid_pixels = fit.region_grid(*GRID)
    disc_pixels = _disc_points(fit)
    centre, ball = _eyeball(source, fit, part)
    quad_pixels = _glint_box(fit, textures["glint"][..., 3])
    off = np.asarray(np.hypot(*(grid_pixels - fit.iris).T) / max(fit.radius, 1.0), np.float32)
    shown = textures["glint"][..., 3]
    numbers = [float(fit.reliable), float(shown.any()), fit.radius, fit.width, *_glint_offset(fit, shown)]
    return {
        **textures,
        "numbers": np.array(numbers, np.float32),
        "grid": _on_ball(source, grid_pixels, centre, ball),
        "grid_uv": fit.texel(grid_pixels),
        "grid_pixels": grid_pixels,
        "disc": _on_ball(source, disc_pixels, centre, ball),
        "disc_uv": fit.texel(disc_pixels),
        "quad": _on_ball(source, quad_pixels, centre, ball, depth_of=fit.iris),
        "quad_uv": fit.texel(quad_pixels),
        "centre": centre,
        "lid": np.ascontiguousarray(source.landmarks[LIDS[part]], np.float32),
        "lower": np.ascontiguousarray(source.landmarks[LOWER_LIDS[part]], np.float32),
        "pull": (1.0 - smoothstep(0.9, 2.3, off)) * fit.freedom(grid_pixels),
    }


def _glint_offset(fit: EyeFit, shown: Bytes) -> tuple[float, float]:
    """From the iris centre to the middle of the catch-light mask ``shown``, px."""
    weight = shown.astype(np.float64)
    if not weight.any():
        return 0.0, 0.0
    row, column = np.indices(shown.shape)
    x, y = (float((weight * k).sum() / weight.sum()) for k in (column, row))
    start = fit.texel(fit.iris[None])[0]
    return (x - float(start[0])) / fit.zoom, (y - float(start[1])) / fit.zoom


def _glint_box(fit: EyeFit, shown: Bytes) -> Float:
    """Corners [4, 2] px, once around, of a box about the catch-light mask ``shown``."""
    row, column = np.nonzero(shown) if shown.any() else (np.zeros(1), np.zeros(1))
    low = np.array([column.min() - 1, row.min() - 1]) / fit.zoom
    high = np.array([column.max() + 2, row.max() + 2]) / fit.zoom
    box = np.array([low, [high[0], low[1]], high, [low[0], high[1]]]) + fit.origin - 0.5
    return np.ascontiguousarray(box, np.float32)


def _disc_points(fit: EyeFit) -> Float:
    """Iris mesh [1 + rings * spokes, 2] in the photo, px."""
    angle = np.arange(SPOKES) * (2 * np.pi / SPOKES)
    rings = np.linspace(0, _RIM, RINGS + 1)[1:, None] * fit.radius
    x, y = rings * np.cos(angle), rings * np.sin(angle)
    ring = np.stack([x.ravel(), y.ravel()], 1)
    return np.concatenate([fit.iris[None], fit.iris + ring]).astype(np.float32)


def _eyeball(source: SourceGeometry, fit: EyeFit, part: int) -> tuple[Float, float]:
    """Centre of rotation (model space) and the distance of the iris from it, cm.

    The model's own centre, shifted sideways so that the photo's iris is at most about 30 degrees
    off the eyeball's front: a bad centre would make the iris swing oddly.
    """
    basis, side = source.basis, ("right", "left")[part]
    ball = basis.part(f"iris_{side}")
    index = 1 - part  # the basis lists the left eye first
    centre = basis.eye_centre[index] + (source.neutral[ball] - basis.mean[ball]).mean(0)
    at = source.fit.to_camera(centre)
    front = _unproject(source, fit.iris[None], np.array([-(at[2] + DISC_CM)]))[0]
    side_ways = front[:2] - at[:2]
    far = float(np.hypot(*side_ways))
    limit = 0.5 * DISC_CM
    if far > limit:
        at[:2] += side_ways * (1.0 - limit / far)
    model = (at - source.fit.translation) @ source.fit.rotation
    return np.asarray(model, np.float32), float(np.hypot(DISC_CM, min(far, limit)))


def _unproject(source: SourceGeometry, pixels: Float, distance: NDArray[np.floating]) -> Float:
    """Camera-space points [N, 3] seen at ``pixels`` [N, 2] at camera ``distance`` [N]."""
    fit = source.fit
    x = (pixels[:, 0] - fit.centre[0]) * distance / fit.focal
    y = -(pixels[:, 1] - fit.centre[1]) * distance / fit.focal
    return np.stack([x, y, -distance], 1).astype(np.float32)


def _on_ball(
    source: SourceGeometry, pixels: Float, centre: Float, radius: float, depth_of: Float | None = None
) -> Float:
    """Model-space points on the eyeball (flattened towards its sides) seen at ``pixels`` [N, 2].

    With ``depth_of`` (a pixel) all points take that pixel's depth.
    """
    at = source.fit.to_camera(centre)
    asked = pixels if depth_of is None else np.asarray(depth_of, np.float32)[None]
    distance = np.full(len(asked), -at[2] - radius)
    for _ in range(2):
        points = _unproject(source, asked, distance)
        aside = np.square(points[:, :2] - at[:2]).sum(1)
        distance = -at[2] - np.sqrt(np.maximum(radius**2 - aside, (0.5 * radius) ** 2))
    points = _unproject(source, pixels, np.broadcast_to(distance, len(pixels)))
    return np.asarray((points - source.fit.translation) @ source.fit.rotation, np.float32)


def _textures(crop: Bytes, fit: EyeFit) -> dict[str, Bytes]:
    """``photo``, ``white``, ``iris`` and ``glint`` of one eye, uint8 RGBA at ``fit.zoom`` per pixel."""
    photo = fit.magnify(crop)
    region = _region_alpha(photo.shape[:2])
    none = np.zeros((2, 2, 4), np.uint8)
    if not fit.reliable:
        return {"photo": _rgba(photo, region), "white": none, "iris": none, "glint": none}
    inside, distance = fit.opening()
    polar = fit.polar()
    upper, lower = fit.outline[:9], fit.outline[[0, *range(15, 7, -1)]]
    light = lid_light(fit.texel_points(), upper, lower)[0].reshape(polar.shape)[..., None]
    lit = photo / light
    seeds = ((polar > 1.18) & (distance > 0.04 * fit.width)).astype(np.float32)
    # Where the upper lid meets the eyeball lies a thin dark line.
    line = 1.0 - 2.2 * np.maximum(0.75 - light[..., 0], 0.0)
    fill = _white_fill(lit, seeds, fit) * light * line[..., None]
    keep = smoothstep(-0.02, 0.03, distance / fit.width) * smoothstep(1.08, 1.30, polar)
    white = photo * keep[..., None] + fill * (1.0 - keep[..., None])

    alpha = 1.0 - smoothstep(0.93, 1.12, polar)
    profile = _radial_profile(lit, polar, distance > 0.05 * fit.width)
    pure = (photo - (1.0 - alpha[..., None]) * white) / np.maximum(alpha, 0.3)[..., None] / light
    seen = smoothstep(0.02, 0.10, distance / fit.width) * smoothstep(0.1, 0.5, alpha)
    glow = _glint_mask(lit, profile, polar, inside)
    spot = (lit - (1.0 - glow[..., None]) * profile) / np.maximum(glow, 0.2)[..., None]
    spot = np.maximum(spot, lit)
    wide = max(3, int(0.36 * fit.radius * fit.zoom) | 1)
    hidden = cv2.GaussianBlur(cv2.dilate(glow, np.ones((wide, wide), np.uint8)), (0, 0), 0.25 * wide)
    iris = profile + (pure - profile) * (seen * (1.0 - hidden))[..., None]
    return {
        "photo": _rgba(photo, region),
        "white": _rgba(white, region),
        "iris": _rgba(iris, alpha),
        "glint": _rgba(spot, glow),
    }


def _rgba(colour: NDArray[np.floating], alpha: Float) -> Bytes:
    both = np.dstack([colour, np.float32(255.0) * alpha])
    return np.ascontiguousarray(np.clip(both + 0.5, 0, 255), np.uint8)


def _region_alpha(shape: tuple[int, int]) -> Float:
    """1 in the region, fading at its border."""
    y = np.minimum(np.arange(shape[0]), np.arange(shape[0])[::-1]) / (0.12 * shape[0])
    x = np.minimum(np.arange(shape[1]), np.arange(shape[1])[::-1]) / (0.12 * shape[1])
    return smoothstep(0.0, 1.0, np.minimum(y[:, None], x[None]).astype(np.float32))


def _white_fill(photo: Float, seeds: Float, fit: EyeFit) -> Float:
    """White of the eye everywhere, continued from where it is seen; darker towards the corners."""
    luma = photo.mean(-1)
    seen = luma[seeds > 0]
    # Lashes and their shadows are not white.
    seeds = seeds * (luma > 0.6 * np.quantile(seen, 0.8)) if seen.size else seeds
    fill = push_pull(photo, seeds.astype(np.float32))
    typical = np.median(photo[seeds > 0], 0) if (seeds > 0).any() else np.array([190.0, 180.0, 175.0])
    smooth = cv2.GaussianBlur(fill, (0, 0), 0.06 * fit.width * fit.zoom)
    # What is far from any seen white falls back to its typical colour.
    near = cv2.GaussianBlur(seeds.astype(np.float32), (0, 0), 0.18 * fit.width * fit.zoom)
    trust = smoothstep(0.0, 0.05, np.asarray(near, np.float32))[..., None]
    return np.asarray(typical + (smooth - typical) * trust, np.float32)


def _radial_profile(photo: Float, polar: Float, seen: NDArray[np.bool_]) -> Float:
    """Median colour of the visible iris by radius, spread back over the region [h, w, 3]."""
    bins = 24
    ring = np.minimum((polar / _RIM * bins).astype(np.int64), bins)
    colours = np.zeros((bins + 1, 3), np.float32)
    last = np.median(photo[seen & (polar < 0.8)], 0) if (seen & (polar < 0.8)).any() else np.full(3, 60.0)
    for k in range(bins):
        pixels = photo[seen & (ring == k)]
        last = np.median(pixels, 0) if len(pixels) > 8 else last
        colours[k] = last
    colours[bins] = colours[bins - 1]
    # The rim's pixels are already mixed with white: hold the colour found just inside.
    rim = int(0.93 / _RIM * bins)
    colours[rim + 1 :] = colours[rim]
    # A catch-light in the middle must not turn the pupil white: take its darker pixels.
    pupil = photo[seen & (polar < 0.42)]
    if len(pupil) > 8:
        dark = np.quantile(pupil, 0.25, axis=0)
        colours[: int(0.40 / _RIM * bins)] = np.minimum(colours[: int(0.40 / _RIM * bins)], dark * 1.15 + 4.0)
    position = np.clip(polar / _RIM * bins - 0.5, 0, bins - 1)
    low = position.astype(np.int64)
    part = (position - low)[..., None].astype(np.float32)
    return np.asarray(colours[low] * (1 - part) + colours[low + 1] * part, np.float32)


def _glint_mask(photo: Float, profile: Float, polar: Float, inside: NDArray[np.bool_]) -> Float:
    """Soft mask of highlights inside the iris; none if they cover too much to be highlights."""
    excess = photo.min(-1) - profile.min(-1)
    bright = photo.mean(-1)
    mask = smoothstep(28.0, 75.0, excess) * smoothstep(110.0, 160.0, bright) * (polar < 0.80) * inside
    # One light: further spots would stay behind on the white.
    count, spots, sizes, _ = cv2.connectedComponentsWithStats((mask > 0.2).astype(np.uint8))
    if count > 2:
        largest = 1 + int(np.argmax(sizes[1:, cv2.CC_STAT_AREA]))
        mask = mask * cv2.dilate((spots == largest).astype(np.uint8), np.ones((5, 5), np.uint8))
    mask = np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8), np.float32)
    area = float(mask.sum()) / max(float((polar < 1.0).sum()), 1.0)
    return mask if 0.002 < area < 0.16 else np.zeros_like(mask)
