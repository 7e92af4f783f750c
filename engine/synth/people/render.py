"""Draws a person: shadow map, what is seen, materials, lenses; the picture and what is true about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.eyelight import lid_light
from engine.animators.mesh.grid import head_weight
from engine.face.residual import INNER_LIPS, LEFT_LIDS, RIGHT_LIDS
from engine.synth.people.cards import Cards, card_texture
from engine.synth.people.figure import IRIS_DEPTH, Figure, Pose, Posed
from engine.synth.people.gpu import LINE, SHADOW, Gpu
from engine.synth.people.lashes import lash_points, lash_strips
from engine.synth.people.look import Look
from engine.synth.people.lookup import Kind, Lookup, Part
from engine.synth.people.model import CHART, hair_mask, head_model, label
from engine.synth.people.samples import compose, first_places, gather, scatter, taps, veil
from engine.synth.people.scene import Lens, Scene
from engine.synth.people.shade import occlusion, sun
from engine.synth.people.skin import paint_relief, paint_skin
from engine.synth.people.wear import Clothes, Mesh, collar_drop

__all__ = ["Drawn", "PersonRenderer"]

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Bytes = NDArray[np.uint8]

_HAIR_CUT, _SHADOW_CUT = 0.42, 0.55
_VISIBLE_CM = 0.6
_CHART_CM = 26.0  # height of the skin chart
_CARD_TEXELS = 36.0  # of the card texture per cm across
# What has no holes comes first and hides much of what has.
_ORDER = (Kind.SKIN, Kind.EYE, Kind.MOUTH, Kind.FRAME, Kind.CLOTH, Kind.LASH, Kind.BEARD, Kind.HAIR)
_MATERIALS = {
    Kind.SKIN: "skin", Kind.EYE: "eye", Kind.MOUTH: "mouth", Kind.CLOTH: "cloth", Kind.HAIR: "hair",
    Kind.BEARD: "hair", Kind.LASH: "lash", Kind.FRAME: "glasses", Kind.LENS: "lens",
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """One frame at the renderer's size S."""

    rgb: Float
    """[S, S, 3] 0..255, backdrop included, before lens and sensor"""
    labels: Bytes
    """[S, S]"""
    points: Float
    """[478, 2] landmarks, px"""
    flow: NDArray[np.float16]
    """[S/4, S/4, 2] px: see :class:`engine.synth.people.person.Person`"""
    flow_valid: Bytes
    """[S/4, S/4]"""


def _linear(colour: Float) -> Float:
    return np.asarray(np.power(np.clip(colour, 0.0, 1.0), 2.2), np.float32)


class PersonRenderer:
    """Draws the frames of one person after another; ``size`` px.

    >>> renderer = PersonRenderer(256)
    >>> renderer.begin(look, figure, clothes, scene, lens, posed0, pose0)
    >>> drawn = renderer.draw(posed, pose)
    """

    def __init__(self, size: int, samples: float = 1.5) -> None:
        self.size, self.samples = size, samples
        self.side = round(size * samples)
        lines = -(-self.side * self.side // LINE)
        self.gpu = Gpu(2 * lines + len(Kind))
        self.model = head_model()
        self.card = self.gpu.texture(card_texture(), repeat=True)
        self.covers = _levels(card_texture()[..., 1])
        shadow = occlusion(self.model)
        for _ in range(2):
            count = len(self.model.hair)
            shadow[:count] = self.model.smooth @ shadow[:count]
        self.occlusion = np.clip(0.18 + 0.95 * shadow, 0.0, 1.0)
        self.always_open = False
        self.lookup = Lookup()
        self._textures: list[Any] = []
        self._strips = lash_strips()
        self._ids = np.zeros((self.side, self.side), np.int32)
        self._near = np.zeros((self.side, self.side), np.float32)
        self._near0 = self._near.copy()
        self._rows = np.zeros((self.gpu.lines, LINE, 16), np.float32)
        self._where = np.zeros((self.gpu.lines, LINE), np.int32)
        self._samples = np.zeros((self.side, self.side, 4), np.uint8)
        self._taps = taps(self.side, size)

    # -- a person ---------------------------------------------------------------------------------

    def begin(
        self, look: Look, figure: Figure, clothes: Clothes, scene: Scene, lens: Lens, first: Posed, pose: Pose
    ) -> None:
        """Load a person; ``first`` and ``pose`` are those of the first frame."""
        for texture in self._textures:
            texture.release()
        self.look, self.figure, self.clothes, self.scene, self.lens = look, figure, clothes, scene, lens
        self._lens = np.array([lens.focal, lens.cx, lens.cy], np.float32)
        samples_cm = lens.focal / scene.distance * self.side / self.size
        chart = _chart_side(samples_cm)
        painted = (paint_skin(look, chart), paint_relief(look, chart))
        self._textures = [self.gpu.texture(pixels, mipmaps=False) for pixels in painted]
        self.lookup.load(self._parts(figure, first, look))
        self.lookup.stand(pose)
        self._stood0, self._first = self.lookup.stood.copy(), True
        self._uniforms(look, clothes, scene)
        level = float(np.clip(np.log2(_CARD_TEXELS / samples_cm), 0.0, len(self.covers) - 1.0))
        self._cover = self.covers[round(level)]
        self.gpu.set({"card_lod": level}, ("hair",))
        self.gpu.use([*self._textures, self.card])

    def _paint(self, look: Look) -> Float:
        model = self.model
        paint = np.zeros((len(model.basis.mean), 4), np.float32)
        count = len(model.hair)
        ear = model.basis.vertex_part[:count] == 1
        mask = hair_mask(model.basis.mean[:count], look.recede, look.temple, 0.12) * ~ear
        paint[:, 1] = self.occlusion
        paint[:count, 0] = mask
        paint[:count, 2] = model.basis.lower[:count] > 0.5
        cover = {"bald": 0.1 * look.male, "buzz": 0.72}.get(look.hair, 0.97)
        paint[:count, 3] = cover
        mouth = model.basis.parts("socket", "teeth_lower")
        z = model.basis.mean[mouth, 2]
        paint[mouth, 2] = np.maximum(10.9 - z, 0.0)
        paint[mouth, 3] = np.where(
            model.code[mouth] == label("teeth"), np.clip(0.6 + 0.5 * self.occlusion[mouth], 0, 1), 0.95
        )
        for part in ("teeth_upper", "teeth_lower"):
            paint[model.basis.part(part), 0] = 1.0
        paint[model.basis.part("tongue"), 1] = 1.0
        for part in ("socket", "gums", "teeth_upper", "teeth_lower"):
            paint[model.basis.part(part), 1] = 0.0
        return paint

    def _parts(self, figure: Figure, first: Posed, look: Look) -> dict[str, Part]:
        model = self.model
        points, normals = lash_points(first, figure, look)
        uv, paint, strips = self._strips
        bare = self._uncovered(self.clothes)
        parts = {
            "head": Part(
                first.vertices, model.weight,
                {Kind.SKIN: bare, Kind.EYE: model.eyes, Kind.MOUTH: model.mouth},
                first.normals, model.basis.mean, len(model.hair), model.chart, self._paint(look), model.code,
                shadow=model.coarse,
            ),
            "lash": Part(
                points, np.ones(len(points), np.float32), {Kind.LASH: strips}, normals, points, 0, uv, paint
            ),
            "cloth": _rigid(
                figure.clothes, 0.9 * head_weight(figure.clothes.points), Kind.CLOTH, self.clothes
            ),
        }  # fmt: skip
        if figure.beard is not None:
            parts["beard"] = _strands(figure.beard, self._beard_points(first), Kind.BEARD)
        if figure.hair is not None:
            parts["hair"] = _strands(figure.hair, figure.hair.points, Kind.HAIR)
        if figure.frame is not None and figure.lens is not None:
            one = np.ones(1, np.float32)
            parts["frame"] = _rigid(figure.frame, one, Kind.FRAME, None)
            parts["lens"] = _rigid(figure.lens, one, Kind.LENS, None)
        return parts

    def _beard_points(self, posed: Posed) -> Float:
        beard = self.figure.beard
        assert beard is not None
        return beard.points + (posed.vertices - self.figure.neutral)[beard.root]

    def _uncovered(self, clothes: Clothes) -> NDArray[np.int32]:
        """Skin triangles, less what lies well under the clothes."""
        p = self.model.basis.mean
        drop = collar_drop(p, clothes)
        low = drop > np.where(np.abs(p[:, 0]) > 9.0, 1.2, 2.4)
        kept: NDArray[np.int32] = self.model.skin[~low[self.model.skin].all(1)]
        return kept

    def _uniforms(self, look: Look, clothes: Clothes, scene: Scene) -> None:
        light, g = scene.light, self.gpu
        g.set({
            "harm": light.harmonics, "key_dir": light.key,
            "key_col": light.key_colour, "rim_dir": light.rims, "rim_col": light.rim_colours,
            "exposure": light.exposure, "contrast": scene.contrast, "sun_soft": light.softness,
            "collar_kind": float(clothes.kind), "collar_depth": clothes.depth,
        })  # fmt: skip
        dark = _linear(look.hair_colour)
        g.set({"scalp_colour": 0.36 * dark + 0.025 * _linear(look.skin),
              "gloss": look.gloss * (1.0 + 0.6 * look.tone), "relief": 1.0,
               "deep": 1.0 - 0.35 * look.tone}, ("skin",))  # fmt: skip
        g.set({"cloth_a": _linear(clothes.a), "cloth_b": _linear(clothes.b), "cloth_c": _linear(clothes.c),
               "pattern": float(clothes.pattern), "pattern_scale": clothes.scale, "folds": clothes.folds,
               "sheen": clothes.sheen, "open_front": float(clothes.front)}, ("cloth",))  # fmt: skip
        g.set({"iris_a": _linear(look.iris_inner), "iris_b": _linear(look.iris) * 1.25,
               "white": _linear(look.white), "iris_cm": 0.59 * look.iris_size, "pupil": look.pupil,
               "vein": 0.25 + 0.5 * look.age, "bright": 2.2, "seed": float(look.seed % 97),
               "eye_radius": 1.5}, ("eye",))  # fmt: skip
        gum = np.array([0.45, 0.16, 0.15]) * (1.0 - 0.45 * look.tone)
        g.set({"tooth": _linear(look.tooth) * 0.85, "gum": gum}, ("mouth",))
        g.set({"lash_colour": np.array([0.012, 0.01, 0.01])}, ("lash",))
        g.set({"hair_root": dark * 0.75, "hair_tip": _linear(look.hair_tip) * 1.1, "gray": look.gray * 0.7,
               "hair_gloss": np.sqrt(dark) * 0.5 + 0.25}, ("hair",))  # fmt: skip
        if look.glasses is not None:
            glasses = look.glasses
            g.set({"frame_colour": _linear(glasses.colour), "frame_gloss": glasses.gloss}, ("glasses",))
            g.set({"tint": glasses.tint, "shine": glasses.shine}, ("lens",))

    # -- a frame ----------------------------------------------------------------------------------

    def draw(self, posed: Posed, pose: Pose) -> Drawn:
        """One frame of the loaded person; their first one comes first."""
        opened = self._load(posed, pose)
        points = self._landmarks(posed, pose)
        middle = (pose.head @ np.array([0.0, 0.0, 2.0, 1.0], np.float32))[:3]
        proj = sun(self.scene.light.key, middle)
        shade = self.lookup.draw_shadow(proj, SHADOW, self._cover, _SHADOW_CUT)
        self._ids[:], self._near[:] = 0, 0.0
        kinds = tuple(k for k in _ORDER if opened or k != Kind.MOUTH)
        self.lookup.draw(kinds, self._ids, self._near, self._cover, _HAIR_CUT)
        if self._first:
            self._near0, self._first = self._near.copy(), False
        flow, valid = self._flow()
        self.gpu.set({"head": pose.head, "sun": proj})
        labels = self._shade_samples(shade)
        rgb = np.empty((self.size, self.size, 3), np.float32)
        compose(self._samples, self.scene.backdrop, *self._taps, rgb)
        return Drawn(rgb, labels, points, flow, valid)

    def _load(self, posed: Posed, pose: Pose) -> bool:
        """Bring the frame's vertices to the screen; whether the lips are open."""
        look = self.lookup
        head = look.rows("head")
        head[:, :3], head[:, 4:7] = posed.vertices, posed.normals
        head[: len(posed.soft), 8:11] = posed.soft
        lash = look.rows("lash")
        lash[:, :3], lash[:, 4:7] = lash_points(posed, self.figure, self.look)
        if self.figure.beard is not None:
            look.rows("beard")[:, :3] = self._beard_points(posed)
        look.stand(pose)
        look.see(self._lens, self.side / self.size)
        axes = posed.axes @ pose.head[:3, :3].T
        centres = self.figure.centres @ pose.head[:3, :3].T + pose.head[:3, 3]
        self.gpu.set({"eye_at": centres, "eye_axis": axes}, ("eye",))
        upper, lower = self.model.basis.at_landmarks(posed.vertices)[INNER_LIPS]
        gape = float((upper - lower)[:, 1].max())
        self.gpu.set({"gape": float(np.clip(gape / 2.2, 0.0, 1.0))}, ("mouth",))
        return gape > 0.04 or self.always_open

    def _landmarks(self, posed: Posed, pose: Pose) -> Float:
        """[478, 2] px; and the lids' shadow on the eyes."""
        model, step = self.model, self.size / self.side
        seen = (self.lookup.screen[self.lookup.slices["head"], :2] + 0.5) * np.float32(step) - np.float32(0.5)
        points = np.empty((478, 2), np.float32)
        points[:468] = model.basis.at_landmarks(seen)
        right, up = np.array([1.0, 0, 0], np.float32), np.array([0, 1.0, 0], np.float32)
        for start, eye in ((468, 1), (473, 0)):
            axis = pose.head[:3, :3] @ posed.axes[eye]
            middle = pose.head[:3, :3] @ self.figure.centres[eye] + pose.head[:3, 3] + IRIS_DEPTH * axis
            x = right - axis * (right @ axis)
            y = up - axis * (up @ axis)
            x, y = (0.59 * self.look.iris_size * v / np.linalg.norm(v) for v in (x, y))
            points[start : start + 5] = project(
                np.stack([middle, middle + x, middle + y, middle - x, middle - y]), self.lens
            )
        for part, lids in zip(
            model.eye_slices, (points[LEFT_LIDS[:, ::-1]], points[RIGHT_LIDS]), strict=True
        ):
            upper, lower = (np.ascontiguousarray(v) for v in lids)
            light, _ = lid_light(seen[part], upper, lower)
            self.lookup.stood[part, 12] = np.clip(light * 1.1 - 0.1, 0.0, 1.0)
        return points

    def _flow(self) -> tuple[NDArray[np.float16], Bytes]:
        """Where the middles of blocks of 4 x 4 px were in the first frame, and whether it shows them."""
        side, n, look = self.side, self.size // 4, self.lookup
        step = self.size / side
        at = ((np.arange(n) + 0.5) * 4 / step).astype(np.int32)
        there = np.empty((n, n, 3), np.float32)
        first_places(self._ids, at, self._stood0, look.screen, look.corners, self._lens, there)
        seen = self._ids[at[:, None], at] > 0
        c, r = (np.round((there[..., k] + 0.5) / step - 0.5).astype(np.int32) for k in (0, 1))
        inside = seen & (c >= 0) & (c < side) & (r >= 0) & (r < side)
        near = self._near0[r * inside, c * inside]
        both = inside & (near > 0) & (there[..., 2] <= 1.0 / np.maximum(near, 1e-6) + _VISIBLE_CM)
        px = (at + 0.5) * step - 0.5
        here = np.stack(np.meshgrid(px, px), 2)
        flow = np.where(seen[..., None], there[..., :2] - here, 0.0).astype(np.float16)
        return flow, seen.astype(np.uint8) + both

    def _shade_samples(self, shade: Float) -> Bytes:
        """Colours and labels of all samples, into ``_samples``; the labels [S, S] of the picture."""
        look, lines = self.lookup, np.zeros(len(Kind) + 2, np.int32)
        end = gather(self._ids, (Kind.SKIN, Kind.FRAME), 0, look.stood, look.screen, look.corners,
                     self._rows, self._where, lines)  # fmt: skip
        last = end
        if "lens" in look.slices:
            ids, near = np.zeros_like(self._ids), self._near.copy()
            look.draw((Kind.LENS,), ids, near, self._cover, _HAIR_CUT)
            last = gather(ids, (Kind.LENS, Kind.LENS), end, look.stood, look.screen, look.corners,
                          self._rows, self._where, lines)  # fmt: skip
        self.gpu.begin(shade, self._rows[:last])
        for kind, material in _MATERIALS.items():
            if kind in (Kind.HAIR, Kind.BEARD):
                value = float(label("beard" if kind == Kind.BEARD else "hair"))
                self.gpu.set({"hair_value": value}, ("hair",))
            self.gpu.shade(material, *(int(v) for v in lines[kind : kind + 2]))
        shaded = self.gpu.read(last)
        scatter(shaded[:end], self._where[:end], self._samples)
        at = ((np.arange(self.size) + 0.5) * self.side / self.size).astype(int)
        labels: Bytes = self._samples[at[:, None], at, 3]
        if last > end:
            veil(shaded[end:], self._where[end:last], self._samples, self.scene.backdrop, label("glasses"))
        return labels


def _rigid(mesh: Mesh, weight: Float, kind: Kind, cut: Clothes | None) -> Part:
    n = len(mesh.points)
    rim = None
    if cut is not None:
        rim = np.where(mesh.paint[:, 0] < 0.5, collar_drop(mesh.points, cut) - 0.45, 9.0).astype(np.float32)
    return Part(
        mesh.points, np.broadcast_to(weight, n).astype(np.float32), {kind: mesh.triangles}, mesh.normal,
        mesh.points, 0, None, mesh.paint, rim=rim, shadow=mesh.triangles if kind == Kind.FRAME else None,
    )  # fmt: skip


def _strands(cards: Cards, points: Float, kind: Kind) -> Part:
    return Part(
        points, cards.weight, {kind: cards.triangles}, cards.normal, cards.tangent, len(points), cards.uv,
        cards.paint, shadow=cards.few,
    )  # fmt: skip


def _levels(cover: Bytes) -> list[Float]:
    """``cover`` [H, W] as float32 0..1, and smaller and smaller."""
    levels = [cover.astype(np.float32) / 255.0]
    for _ in range(4):
        levels.append(np.asarray(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)))
    return levels


def _chart_side(samples_cm: float) -> int:
    """Side of the skin chart, px, that ``samples_cm`` samples a cm can show."""
    side = CHART
    while side / _CHART_CM > 1.4 * samples_cm and side > CHART // 8:
        side //= 2
    return side


def blend(points: Float, weight: Float, pose: Pose) -> Float:
    """Head coordinates [N, 3] to camera space, between shoulders and head by ``weight`` [N]."""
    body = points @ pose.body[:3, :3].T + pose.body[:3, 3]
    head = points @ pose.head[:3, :3].T + pose.head[:3, 3]
    return np.asarray(body + weight[:, None] * (head - body), np.float32)


def project(points: Float, lens: Lens) -> Float:
    """Camera space [N, 3] to px [N, 2]."""
    distance = -points[:, 2]
    x = lens.cx + lens.focal * points[:, 0] / distance
    y = lens.cy - lens.focal * points[:, 1] / distance
    return np.stack([x, y], 1).astype(np.float32)
