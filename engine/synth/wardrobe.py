"""Glasses put on a photographed person.

They are the meshes that synthetic people wear (:mod:`engine.synth.people.wear`), fitted to the fitted head
and drawn with its camera, 4 x 4 samples a px. :class:`Worn` is one pair on one face: it can be drawn into
the photo, or into every frame of the moving head, where it stays rigid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.face.basis import load_basis
from engine.face.fitter import FaceFit
from engine.synth.appearance_masks import Sitter, blur
from engine.synth.people.look import Glasses
from engine.synth.people.wear import Mesh, frame_mesh, lens_mesh
from kernels.raster import Canvas, draw_coloured, raster_attributes

__all__ = ["Worn", "glasses", "put_on", "random_glasses", "wears_glasses"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Int = NDArray[np.int32]
Rng = np.random.Generator

_FINE = 4  # samples per px and axis


# -- glasses -------------------------------------------------------------------------------------


def random_glasses(random: Rng) -> Glasses:
    """A pair by chance: shape, size, thickness, colour, tint and how much the lenses mirror."""
    shape = str(random.choice(["round", "square", "aviator", "cat"], p=[0.3, 0.4, 0.17, 0.13]))
    metal = random.random() < 0.35
    thick = float(random.uniform(0.06, 0.1) if metal else random.choice([0.14, 0.2, 0.28]))
    metals = np.array([[0.72, 0.58, 0.32], [0.66, 0.66, 0.68], [0.09, 0.09, 0.1], [0.6, 0.42, 0.36]])
    plastics = np.array([[0.05, 0.05, 0.06], [0.09, 0.06, 0.05], [0.3, 0.17, 0.08], [0.08, 0.1, 0.22],
                         [0.42, 0.06, 0.08], [0.75, 0.72, 0.68], [0.1, 0.2, 0.16]])  # fmt: skip
    weight = None if metal else [0.36, 0.2, 0.16, 0.09, 0.06, 0.07, 0.06]
    colour = random.choice(metals if metal else plastics, p=weight) * np.exp(random.normal(0, 0.15, 3))
    tint = np.append(random.choice([[0.05, 0.05, 0.06], [0.25, 0.16, 0.07], [0.1, 0.16, 0.2]]), 0.0)
    tint[3] = random.uniform(0.25, 0.45) if random.random() < 0.12 else random.uniform(0.0, 0.08)
    width = float(random.uniform(4.7, 5.5))
    high = {"round": 0.9, "square": 0.66, "aviator": 0.85, "cat": 0.7}[shape] * random.uniform(0.92, 1.06)
    return Glasses(
        shape, width, float(width * high), thick, np.clip(colour, 0.02, 0.95).astype(np.float32),
        float(random.uniform(0.6, 1.2) if metal else random.uniform(0.15, 0.6)), tint.astype(np.float32),
        float(random.random() ** 1.5),
    )  # fmt: skip


def wears_glasses(rgb: Bytes, sitter: Sitter) -> bool:
    """Whether something thin crosses the bridge of the nose: a guess, right for most photos."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[..., 0].astype(np.float32)
    p = sitter.points
    top, low = 0.5 * (p[168] + p[8]), p[197]
    across = sitter.frame.right * 0.035 * sitter.frame.width
    steps = np.linspace(0.0, 1.0, 48)[:, None, None]
    at = top + steps * (low - top) + across * np.linspace(-1, 1, 7)[None, :, None]
    at = at.astype(np.float32)
    values = np.asarray(cv2.remap(blur(lab, 0.6 * sitter.scale), at[..., 0], at[..., 1], cv2.INTER_LINEAR))
    profile = np.median(values, 1)
    smooth = cv2.GaussianBlur(profile[:, None], (1, 31), sigmaX=0.1, sigmaY=8.0)[:, 0]
    return bool(np.abs(profile - smooth)[4:-4].max() > 9.0)


@dataclass(frozen=True)
class Worn:
    """A pair of glasses on one person's face: drawn rigidly into any picture of that head."""

    glasses: Glasses
    frame: Mesh
    lens: Mesh
    bare: Float
    """[N] opacity of the frame's vertices: arms pass under hair"""
    mirrored: Float
    """[3] lean, place and breadth of the bright band on the lenses"""
    gain: float = 1.0
    """exposure of the picture against that of the photo"""
    saturation: float = 1.0
    """colour of the picture against that of the photo"""

    def draw(self, rgb: Bytes, fit: FaceFit, mesh: Float, onto: NDArray[np.floating] | None = None) -> Bytes:
        """``rgb`` uint8 [H, W, 3] with the glasses on.

        Args:
            rgb: the picture; px away from the glasses keep their very bytes.
            fit: rotation, translation and lens of the head there.
            mesh: float32 [V, 3] the head's vertices there: px, px, distance (cm). It hides what is behind it.
            onto: [2, 3] px of the fit to px of the picture, if they differ.
        """
        seen, glass = (_project(fit, m.points, onto) for m in (self.frame, self.lens))
        size = float(np.ptp(glass[:, 0]))
        window = _window(np.concatenate([seen, glass]), rgb.shape[:2], 0.15 * size)
        x0, y0, width, height = window
        if width < 8 or height < 8:
            return rgb.copy()
        part = rgb[y0 : y0 + height, x0 : x0 + width].astype(np.float32)
        fine = _FINE if width * height < 400_000 else 2
        depth = _head_depth(mesh, window, fine)
        below = _project(fit, self.frame.points + np.array([0.1, -0.55, -0.6], np.float32), onto)
        part *= 1.0 - _shadow(below, self.frame.triangles, window, depth[::fine, ::fine], size)[..., None]
        canvas = Canvas(np.ascontiguousarray(part.repeat(fine, 0).repeat(fine, 1)), depth, x0, y0, fine, fine)
        self._lenses(canvas, glass)
        draw_coloured(canvas, seen, self.frame.triangles, self._colours(fit.rotation), test=True, write=True)
        out = rgb.copy()
        out[y0 : y0 + height, x0 : x0 + width] = np.rint(np.clip(canvas.resolve(), 0, 255)).astype(np.uint8)
        return out

    def in_light(self, before: Bytes, after: Bytes, sitter: Sitter) -> Worn:
        """These glasses in the exposure and colour of ``after``, a changed photo ``before``."""
        sure = cv2.erode((sitter.skin > 0.8).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if not sure.any():
            return self
        old, new = (image[sure].astype(np.float32) for image in (before, after))
        gain = float(np.clip(new.mean() / max(float(old.mean()), 1.0), 0.2, 1.3))
        # Bare skin in colour spans at least 24 levels: a photo in black and white wears grey glasses.
        chroma = float(np.ptp(new, axis=1).mean()) / max(float(np.ptp(old, axis=1).mean()), 24.0)
        return replace(self, gain=gain, saturation=float(np.clip(chroma / gain, 0.0, 1.0)))

    def _toned(self, colour: NDArray[np.floating]) -> Float:
        """sRGB 0..255 of a colour 0..1 in this picture's light."""
        grey = np.asarray(colour @ np.array([0.3, 0.59, 0.11]))[..., None]
        return np.asarray(255.0 * self.gain * (grey + self.saturation * (colour - grey)), np.float32)

    def _lenses(self, canvas: Canvas, seen: Float) -> None:
        """Tint and a mirrored band on both lenses."""
        worn, points = self.glasses, self.lens.points
        local = np.ones((len(points), 3), np.float32)
        for first in (0, len(points) // 2):
            part = slice(first, first + len(points) // 2)
            local[part, :2] = (points[part, :2] - points[first, :2]) / (0.5 * worn.width)
        drawn = np.zeros((*canvas.depth.shape, 3), np.float32)
        raster_attributes(
            drawn, canvas.depth.copy(), seen, self.lens.triangles, local, x0=canvas.x0, y0=canvas.y0,
            sx=canvas.sx, sy=canvas.sy, cull=False,
        )  # fmt: skip
        across, up, cover = drawn[..., 0], drawn[..., 1], drawn[..., 2:]
        lean, place, broad = (float(v) for v in self.mirrored)
        band = np.clip(1.4 - np.abs(across + lean * up - place) / broad, 0.0, 1.0)
        bright = worn.shine * (0.28 * band * np.clip(0.6 + 0.6 * up, 0.1, 1.0) + 0.03)[..., None]
        tint = worn.tint[3] * np.clip(1.0 + 0.35 * up[..., None], 0.5, 1.3)
        canvas.pixels += cover * tint * (self._toned(worn.tint[:3]) - canvas.pixels)
        sky = self._toned(np.array([0.93, 0.97, 1.0]))
        canvas.pixels += cover * bright * np.maximum(sky - canvas.pixels, 0.0)

    def _colours(self, rotation: Float) -> Float:
        """[N, 4] shaded colours of the frame's vertices under light from above."""
        turned = self.frame.normal @ rotation.T
        light = np.array([0.25, 0.75, 0.6]) / np.linalg.norm([0.25, 0.75, 0.6])
        half = light + np.array([0.0, 0.0, 1.0])
        half /= np.linalg.norm(half)
        diffuse = 0.55 + 0.45 * np.clip(turned @ light, 0.0, 1.0)
        shine = self.glasses.gloss * 0.5 * np.clip(turned @ half, 0.0, 1.0) ** 24
        colour = np.clip(self.glasses.colour * diffuse[:, None] + shine[:, None], 0.0, 1.0)
        return np.concatenate([self._toned(colour), self.bare[:, None]], 1).astype(np.float32)


def put_on(sitter: Sitter, random: Rng, worn: Glasses | None = None) -> Worn:
    """``worn``, or a pair by chance, fitted to the face of ``sitter``."""
    worn = random_glasses(random) if worn is None else worn
    head = sitter.fit.neutral()
    frame, lens = frame_mesh(worn, head), lens_mesh(worn, head)
    seen = sitter.project(frame.points)
    at = np.rint(np.clip(seen[:, :2], 0, np.array(sitter.hair.shape[::-1]) - 1)).astype(int)
    behind = np.clip((frame.points[:, 2].max() - 2.2 - frame.points[:, 2]) / 1.0, 0.0, 1.0)
    bare = 1.0 - behind * np.clip(1.6 * sitter.hair[at[:, 1], at[:, 0]], 0.0, 1.0)
    band = np.array([random.uniform(-0.9, 0.9), random.uniform(-0.6, 0.6), random.uniform(0.1, 0.4)])
    return Worn(worn, frame, lens, bare.astype(np.float32), band.astype(np.float32))


def glasses(rgb: Bytes, sitter: Sitter, random: Rng, worn: Glasses | None = None) -> Bytes:
    """``rgb`` uint8 [H, W, 3], a picture of ``sitter``, with glasses on: ``worn``, or a pair by chance.

    Rims, bridge and arms are drawn in the head's own perspective and hidden by it; arms pass under hair.
    They shade the skin close to them; lenses tint what is behind them and mirror a bright band. Px away from
    the glasses keep their very bytes.
    """
    return put_on(sitter, random, worn).draw(rgb, sitter.fit, sitter.mesh, sitter.from_crop)


def _project(fit: FaceFit, points: Float, onto: NDArray[np.floating] | None) -> Float:
    """Head coordinates [N, 3] to px, px and distance (cm)."""
    seen = fit.project(points)
    if onto is not None:
        seen[:, :2] = seen[:, :2] @ onto[:, :2].T + onto[:, 2]
    return np.ascontiguousarray(seen, np.float32)


def _window(seen: Float, shape: tuple[int, ...], margin: float) -> tuple[int, int, int, int]:
    """x, y, width and height of the part of the picture that glasses can touch, px."""
    low = np.maximum(np.floor(seen[:, :2].min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(seen[:, :2].max(0) + margin), [shape[1], shape[0]]).astype(int)
    return int(low[0]), int(low[1]), int(max(high[0] - low[0], 0)), int(max(high[1] - low[1], 0))


def _head_depth(mesh: Float, window: tuple[int, int, int, int], fine: int) -> Float:
    """Distance (cm) of the head in each sample, a little further than it is: glasses lie on it."""
    x0, y0, width, height = window
    depth = np.full((height * fine, width * fine), np.inf, np.float32)
    scratch = np.zeros((height * fine, width * fine, 1), np.float32)
    triangles = np.ascontiguousarray(load_basis().triangles_of("face", "ear", "scalp"))
    nothing = np.zeros((len(mesh), 1), np.float32)
    raster_attributes(scratch, depth, mesh, triangles, nothing, x0=x0, y0=y0, sx=fine, sy=fine)
    return depth + np.float32(0.45)


def _shadow(
    below: Float, triangles: Int, window: tuple[int, int, int, int], depth: Float, size: float
) -> Float:
    """0..0.4 [h, w]: how much of the light the frame, ``size`` px wide, keeps off the head below it."""
    x0, y0, width, height = window
    cover = np.zeros((height, width, 1), np.float32)
    nearest = np.full((height, width), np.inf, np.float32)
    ones = np.ones((len(below), 1), np.float32)
    raster_attributes(cover, nearest, below, triangles, ones, x0=x0, y0=y0, cull=False)
    on = np.isfinite(depth).astype(np.float32)
    return np.asarray(0.42 * blur(cover[..., 0], 0.017 * size) * on, np.float32)
