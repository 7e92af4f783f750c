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
from engine.animators.mesh.eyefit import LIDS, LOWER_LIDS, EyeFit, fit_eyes, smoothstep
from engine.animators.mesh.eyelight import lid_light, pick_triangles
from engine.animators.mesh.layers import Arrays, FrameGeometry, SourceGeometry
from engine.face.basis import FaceBasis
from engine.face.inpaint import push_pull
from engine.types import MOTION
from kernels.raster import Canvas, draw_textured

__all__ = ["EyeLayer"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Bytes = NDArray[np.uint8]

_GRID = (13, 9)  # columns and rows of the white's mesh
_RINGS, _SPOKES = 5, 28  # of the iris mesh
_RIM = 1.14  # the iris mesh and its soft edge end at this multiple of the iris radius
_GLINT_SHARE = 0.5  # how far a catch-light follows the iris
_MAX_PITCH, _MAX_YAW = 0.42, 0.62  # rad, turn away from the photo's own gaze
_DISC_CM = 1.3  # iris plane in front of the eyeball's centre


def _grid_triangles(columns: int, rows: int) -> Int:
    q = np.arange(columns * rows, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = q[:-1, :-1].ravel(), q[:-1, 1:].ravel(), q[1:, 1:].ravel(), q[1:, :-1].ravel()
    return np.ascontiguousarray(np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)]))


def _disc_triangles(rings: int, spokes: int) -> Int:
    """Vertex 0 is the centre, then ring after ring."""
    k = np.arange(spokes, dtype=np.int32)
    n = (k + 1) % spokes
    parts = [np.stack([np.zeros_like(k), 1 + k, 1 + n], 1)]
    for r in range(rings - 1):
        i, o = 1 + r * spokes, 1 + (r + 1) * spokes
        parts += [np.stack([i + k, o + k, o + n], 1), np.stack([i + k, o + n, i + n], 1)]
    return np.ascontiguousarray(np.concatenate(parts), np.int32)


_GRID_TRIANGLES = _grid_triangles(*_GRID)
_DISC_TRIANGLES = _disc_triangles(_RINGS, _SPOKES)
_QUAD = np.array([[0, 2, 1], [0, 3, 2]], np.int32)


@dataclass(frozen=True)
class _Eye:
    """One prepared eye; points are model space (cm), textures RGBA over the same region."""

    reliable: bool
    photo: Bytes
    white: Bytes
    iris: Bytes
    glint: Bytes
    has_glint: bool
    grid: Float
    """[117, 3] the white's mesh, rigid with the skull"""
    grid_uv: Float
    disc: Float
    """[141, 3] iris mesh at the photo's gaze"""
    disc_uv: Float
    centre: Float
    """[3] centre of rotation"""
    quad: Float
    """[4, 3] corners of the region"""
    quad_uv: Float
    lid: Float
    """[9, 2] upper lid in the photo, px, corner to corner"""
    grid_pixels: Float
    rest_light: Float
    """[117] light under the upper lid in the photo"""
    pull: Float
    """[117] how much each grid point of the photo's eye shifts with the gaze"""
    glint_offset: Float
    """[2] from the iris centre to the catch-light, px"""
    radius: float
    """iris radius, px"""
    width: float
    """eye width, px"""


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
        eye = self._eyes[part]
        pitch, yaw = _limited_gaze(frame.motion)
        lid, lower = frame.landmarks[LIDS[part]], frame.landmarks[LOWER_LIDS[part]]
        grid = frame.place(eye.grid)
        moved = np.abs(grid[:, :2] - eye.grid_pixels).max()
        turn = np.hypot(pitch, yaw) * _DISC_CM * frame.pixels_per_cm
        shift = max(float(moved), float(np.abs(lid - eye.lid).max()), float(turn))
        presence = float(smoothstep(0.02, 0.3, np.float32(shift)))
        if presence <= 0.0:
            return
        # The photo holds the shadow its own lids cast: only the change is drawn.
        light, seen = _lid_light(grid, lid, lower)
        shade = _warm(np.clip(light / eye.rest_light, 0.55, 1.15))
        triangles = np.empty_like(_GRID_TRIANGLES)
        triangles = triangles[: pick_triangles(_GRID_TRIANGLES, seen, triangles)]
        # Share of the photo's own eye: all of it for a still gaze, nothing beyond a few pixels.
        photo = 1.0 if not eye.reliable else 1.0 - float(smoothstep(1.0, 3.5, np.float32(turn)))
        if photo < 1.0:
            _draw(canvas, grid, triangles, eye.white, eye.grid_uv, presence, shade)
            _draw_iris(canvas, frame, eye, _turn(pitch, yaw), (lid, lower), presence)
        if photo > 0.0:
            at = _shifted(eye, frame, grid, pitch, yaw)
            _draw(canvas, at, triangles, eye.photo, eye.grid_uv, photo * presence, shade)


def _draw(
    canvas: Canvas, xyz: Float, triangles: Int, texture: Bytes, uv: Float, alpha: float, shade: Float | None
) -> None:
    """Textured triangles in paint order."""
    every = np.full(len(xyz), alpha, np.float32)
    draw_textured(canvas, xyz, triangles, texture, uv, every, shade, test=False, write=False)


def _draw_iris(
    canvas: Canvas, frame: FrameGeometry, eye: _Eye, turn: Float, lids: tuple[Float, Float], presence: float
) -> None:
    disc = frame.place(np.asarray((eye.disc - eye.centre) @ turn.T + eye.centre, np.float32))
    shade = _warm(_lid_light(disc, *lids)[0])
    _draw(canvas, disc, _DISC_TRIANGLES, eye.iris, eye.disc_uv, presence, shade)
    if eye.has_glint:
        quad = frame.place(np.concatenate([eye.quad, eye.disc[:1]]))
        move = disc[0, :2] - quad[4, :2]
        quad[:4, :2] += _GLINT_SHARE * move
        # A reflection that slides off the cornea goes out.
        off = float(np.hypot(*(eye.glint_offset - (1.0 - _GLINT_SHARE) * move))) / eye.radius
        left = presence * (1.0 - float(smoothstep(0.62, 0.92, np.float32(off))))
        _draw(canvas, quad[:4], _QUAD, eye.glint, eye.quad_uv, left, None)


def _limited_gaze(motion: Float) -> tuple[float, float]:
    """Pitch and yaw (rad) of the frame, saturating smoothly."""
    pitch, yaw = (float(v) for v in motion[MOTION.gaze])
    return _MAX_PITCH * float(np.tanh(pitch / _MAX_PITCH)), _MAX_YAW * float(np.tanh(yaw / _MAX_YAW))


def _turn(pitch: float, yaw: float) -> Float:
    """Rotation in model space: yaw turns +z towards +x, pitch turns +z towards +y."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return np.asarray(about_y @ about_x, np.float32)


def _lid_light(points: Float, upper: Float, lower: Float) -> tuple[Float, Float]:
    """Light [N] and visibility [N] of ``points`` [N, >= 2] between the lids; see ``lid_light``."""
    light, seen = np.empty(len(points), np.float32), np.empty(len(points), np.float32)
    lid_light(points, upper, lower, light, seen)
    return light, seen


def _warm(light: Float) -> Float:
    """Light [N] as shade per channel [N, 3]: shadows on the eyeball are warm, red fades least."""
    return np.ascontiguousarray(np.stack([light**0.85, light, light**1.05], 1), np.float32)


def _shifted(eye: _Eye, frame: FrameGeometry, grid: Float, pitch: float, yaw: float) -> Float:
    """The eye's own pixels moved with the gaze, strongest where the iris is, still at the lids.

    As far as the iris turns while the photo fades into its parts (so that both show the same), but
    only a little where the iris is not reliable.
    """
    if eye.reliable:
        centre = eye.disc[:1] - eye.centre
        ends = frame.place(np.concatenate([centre, centre @ _turn(pitch, yaw).T]) + eye.centre)
        move = ends[1, :2] - ends[0, :2]
    else:
        limit = 0.28 * eye.radius
        reach = 0.6 * _DISC_CM * frame.pixels_per_cm
        move = np.tanh(np.array([yaw, -pitch], np.float32) * reach / limit) * limit
    out = grid.copy()
    out[:, :2] += eye.pull[:, None] * move
    return out


def _read_eye(arrays: Mapping[str, NDArray[np.generic]], side: str) -> _Eye:
    def real(name: str) -> Float:
        return np.ascontiguousarray(arrays[f"{side}_{name}"], np.float32)

    def texture(name: str) -> Bytes:
        return np.ascontiguousarray(arrays[f"{side}_{name}"], np.uint8)

    numbers = real("numbers")
    return _Eye(
        reliable=bool(numbers[0] > 0.5), has_glint=bool(numbers[1] > 0.5),
        radius=float(numbers[2]), width=float(numbers[3]), glint_offset=numbers[4:6].copy(),
        photo=texture("photo"), white=texture("white"), iris=texture("iris"), glint=texture("glint"),
        grid=real("grid"), grid_uv=real("grid_uv"), disc=real("disc"), disc_uv=real("disc_uv"),
        centre=real("centre"), quad=real("quad"), quad_uv=real("quad_uv"),
        lid=real("lid"), grid_pixels=real("grid_pixels"),
        pull=real("pull"), rest_light=_lid_light(real("grid_pixels"), real("lid"), real("lower"))[0],
    )  # fmt: skip


def _prepare_eye(source: SourceGeometry, fit: EyeFit, part: int) -> Arrays:
    """Everything one eye needs, as plain arrays."""
    textures = _textures(source.crop, fit)
    grid_pixels = fit.region_grid(*_GRID)
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
    angle = np.arange(_SPOKES) * (2 * np.pi / _SPOKES)
    rings = np.linspace(0, _RIM, _RINGS + 1)[1:, None] * fit.radius
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
    front = _unproject(source, fit.iris[None], np.array([-(at[2] + _DISC_CM)]))[0]
    side_ways = front[:2] - at[:2]
    far = float(np.hypot(*side_ways))
    limit = 0.5 * _DISC_CM
    if far > limit:
        at[:2] += side_ways * (1.0 - limit / far)
    model = (at - source.fit.translation) @ source.fit.rotation
    return np.asarray(model, np.float32), float(np.hypot(_DISC_CM, min(far, limit)))


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
    light = _lid_light(fit.texel_points(), upper, lower)[0].reshape(polar.shape)[..., None]
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
