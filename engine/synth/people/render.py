"""Draws a person: shadow map, what is seen, materials, lenses; reads back the picture and its truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.eyelight import lid_light
from engine.animators.mesh.grid import head_weight
from engine.face.residual import INNER_LIPS, LEFT_LIDS, RIGHT_LIDS
from engine.synth.people.cards import card_texture
from engine.synth.people.figure import IRIS_DEPTH, Figure, Pose, Posed
from engine.synth.people.gpu import Gpu, GpuMesh, projection
from engine.synth.people.lashes import lash_points, lash_strips
from engine.synth.people.look import Look
from engine.synth.people.lookup import Kind, Lookup, Part
from engine.synth.people.model import CHART, hair_mask, head_model, label
from engine.synth.people.scene import Lens, Scene
from engine.synth.people.seen import BLOCK, first_places, rectangles
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
_MOVING = ("head", "lash", "beard")
_SHADED = {Kind.SKIN: "skin", Kind.EYE: "eye", Kind.MOUTH: "mouth", Kind.CLOTH: "cloth", Kind.HAIR: "hair",
           Kind.BEARD: "hair"}  # fmt: skip
_UNITS = {"skin_map": 0, "relief_map": 1, "card": 2, "shade": 3, "seen": 4, "corners": 5, "vertices": 6}


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
        self.gpu = Gpu(size, samples)
        self.size, self.samples = size, samples
        self.model = head_model()
        ctx = self.gpu.context
        ctx.enable(self.gpu.moderngl.DEPTH_TEST)
        ctx.depth_func = "<"
        ctx.front_face = "cw"  # the projection turns the picture over
        self.card = self.gpu.texture(card_texture(), repeat=True)
        shadow = occlusion(self.gpu, self.model)
        for _ in range(2):
            count = len(self.model.hair)
            shadow[:count] = self.model.smooth @ shadow[:count]
        self.occlusion = np.clip(0.18 + 0.95 * shadow, 0.0, 1.0)
        zero = np.zeros((len(self.model.basis.mean), 3), np.float32)
        groups = {"skin": self.model.skin, "coarse": self.model.coarse, "mouth": self.model.mouth,
                  "eyes": self.model.eyes}  # fmt: skip
        self.head = GpuMesh(self.gpu, {"in_pos": zero, "in_weight": self.model.weight}, groups)
        self.open, self.always_open = True, False
        self.lookup = Lookup(self.gpu)
        self._meshes: dict[str, GpuMesh] = {}
        self._textures: list[Any] = []
        self._strips = lash_strips()
        blocks = (-(-self.gpu.targets.side // BLOCK)) ** 2
        self._corners = np.zeros((6 * len(Kind) * blocks, 2), np.float32)
        self._starts = np.zeros(len(Kind) + 2, np.int32)
        self._rectangles = GpuMesh(self.gpu, {"in_corner": self._corners}, {})
        self.gpu.set({**_UNITS, "step_px": size / self.gpu.targets.side})

    # -- a person ---------------------------------------------------------------------------------

    def begin(
        self, look: Look, figure: Figure, clothes: Clothes, scene: Scene, lens: Lens, first: Posed, pose: Pose
    ) -> None:
        """Load a person; ``first`` and ``pose`` are those of the first frame."""
        for thing in (*self._meshes.values(), *self._textures):
            thing.release()
        self.look, self.figure, self.clothes, self.scene, self.lens = look, figure, clothes, scene, lens
        samples_cm = lens.focal / scene.distance * self.gpu.targets.side / self.size
        self._textures = [self.gpu.texture(_fitting(t, samples_cm), mipmaps=False)
                          for t in (paint_skin(look), paint_relief(look))]  # fmt: skip
        paint = self._paint(look)
        bare = self._uncovered(clothes)
        parts = self._parts(figure, first, look, paint, bare)
        moving = sum(name in _MOVING for name in parts)
        self.lookup.load(parts, moving)
        self._meshes = {name: self._mesh(part) for name, part in parts.items() if name != "head"}
        if figure.lens is not None:
            self._meshes["lens"] = self._mesh(_rigid(figure.lens, 1.0, Kind.FRAME))
        if figure.hair is not None:
            self._meshes["hair"].regroup("few", figure.hair.few)
        if figure.beard is not None:
            self._meshes["beard"].regroup("few", figure.beard.few)
        self.head.regroup("skin", bare)
        self._pose0, self._ids0 = pose, np.zeros((0, 0), np.int32)
        self._uniforms(look, clothes, scene, lens)
        self.gpu.set({"card_lod": float(np.clip(np.log2(_CARD_TEXELS / samples_cm), 0.0, 4.0))})
        for unit, texture in enumerate(
            (*self._textures, self.card, self.gpu.targets.shade, self.gpu.targets.ids)
        ):
            texture.use(unit)
        self.lookup.use(_UNITS["corners"], _UNITS["vertices"])

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

    def _parts(self, figure: Figure, first: Posed, look: Look, paint: Float, bare: Int) -> dict[str, Part]:
        model = self.model
        points, normals = lash_points(first, figure, look)
        uv, long, triangles = self._strips
        parts = {
            "head": Part(
                first.vertices, model.weight,
                {Kind.SKIN: bare, Kind.EYE: model.eyes, Kind.MOUTH: model.mouth},
                first.normals, model.basis.mean, model.chart, paint, model.code,
            ),
            "lash": Part(
                points, np.ones(len(points), np.float32), {Kind.LASH: triangles}, normals, None, uv, long
            ),
        }  # fmt: skip
        for name, cards, kind in (("beard", figure.beard, Kind.BEARD), ("hair", figure.hair, Kind.HAIR)):
            if cards is not None:
                at = cards.points if kind == Kind.HAIR else self._beard_points(first)
                parts[name] = Part(at, cards.weight, {kind: cards.triangles}, cards.normal, cards.tangent,
                                   cards.uv, cards.paint)  # fmt: skip
        parts["cloth"] = _rigid(figure.clothes, 0.0, Kind.CLOTH)
        if figure.frame is not None:
            parts["frame"] = _rigid(figure.frame, 1.0, Kind.FRAME)
        return parts

    def _beard_points(self, posed: Posed) -> Float:
        beard = self.figure.beard
        assert beard is not None
        return beard.points + (posed.vertices - self.figure.neutral)[beard.root]

    def _mesh(self, part: Part) -> GpuMesh:
        arrays = {"in_pos": part.points, "in_weight": part.weight, "in_normal": part.normal,
                  "in_rest": part.soft, "in_uv": part.uv, "in_paint": part.paint}  # fmt: skip
        (triangles,) = part.triangles.values()
        return GpuMesh(self.gpu, {k: a for k, a in arrays.items() if a is not None}, {"all": triangles})

    def _uncovered(self, clothes: Clothes) -> NDArray[np.int32]:
        """Skin triangles, less what lies well under the clothes."""
        p = self.model.basis.mean
        drop = collar_drop(p, clothes)
        low = drop > np.where(np.abs(p[:, 0]) > 9.0, 1.2, 2.4)
        kept: NDArray[np.int32] = self.model.skin[~low[self.model.skin].all(1)]
        return kept

    def _uniforms(self, look: Look, clothes: Clothes, scene: Scene, lens: Lens) -> None:
        light, g = scene.light, self.gpu
        g.set({
            "proj": projection(lens.focal, lens.cx, lens.cy, self.size), "cut": _HAIR_CUT,
            "lens": np.array([lens.focal, lens.cx, lens.cy]), "harm": light.harmonics, "key_dir": light.key,
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
        points, lids = self.landmarks(posed, pose)
        self._upload(posed, pose, lids)
        middle = (pose.head @ np.array([0.0, 0.0, 2.0, 1.0], np.float32))[:3]
        proj = sun(self.scene.light.key, middle)
        self.gpu.set({"head": pose.head, "body": pose.body, "sun": proj})
        self._draw_shadow(proj)
        self._draw_seen()
        side, targets = self.gpu.targets.side, self.gpu.targets
        ids = np.frombuffer(targets.ids.read(), np.int32).reshape(side, side)
        if not self._ids0.size:
            self._ids0 = ids
        self._draw_materials(ids)
        colour = np.frombuffer(targets.colour.read(), np.uint8).reshape(side, side, 4)
        labels = np.frombuffer(targets.label.read(), np.uint8).reshape(side, side)
        small = cv2.resize(colour, (self.size, self.size), interpolation=cv2.INTER_AREA).astype(np.float32)
        cover = small[..., 3:] / 255.0
        rgb = small[..., :3] + (1.0 - cover) * self.scene.backdrop
        at = ((np.arange(self.size) + 0.5) * side / self.size).astype(int)
        return Drawn(rgb, labels[at[:, None], at], points, *self._flow(ids, pose))

    def _flow(self, ids: Int, pose: Pose) -> tuple[NDArray[np.float16], Bytes]:
        """Where the middles of blocks of 4 x 4 px were in the first frame, and whether it shows them."""
        side, n = self.gpu.targets.side, self.size // 4
        step = self.size / side
        at = ((np.arange(n) + 0.5) * 4 / step).astype(np.int32)
        rows, columns = (v.ravel() for v in np.meshgrid(at, at, indexing="ij"))
        there = self._first_places(ids, rows, columns, pose, now=True)
        seen = ids[rows, columns] > 0
        c, r = (np.round((there[:, k] + 0.5) / step - 0.5).astype(np.int32) for k in (0, 1))
        inside = seen & (c >= 0) & (c < side) & (r >= 0) & (r < side)
        r, c = r * inside, c * inside
        nearest = self._first_places(self._ids0, r, c, self._pose0, now=False)[:, 2]
        both = inside & (nearest > 0) & (there[:, 2] <= nearest + _VISIBLE_CM)
        here = (np.stack([columns, rows], 1) + 0.5) * step - 0.5
        flow = np.where(seen[:, None], there[:, :2] - here, 0.0)
        valid = seen.astype(np.uint8) + both
        return flow.reshape(n, n, 2).astype(np.float16), valid.reshape(n, n).astype(np.uint8)

    def _first_places(self, ids: Int, rows: Int, columns: Int, pose: Pose, now: bool) -> Float:
        """[N, 3] px and distance in the first frame; ``ids`` are this frame's (``now``) or the first's."""
        out = np.empty((len(rows), 3), np.float32)
        look, first, lens = self.lookup, self._pose0, self.lens
        first_places(
            ids, rows, columns, self.size / self.gpu.targets.side,
            np.array([lens.focal, lens.cx, lens.cy], np.float32), look.corners,
            np.ascontiguousarray(look.table[:, 0]) if now else look.first, pose.body, pose.head,
            look.first, first.body, first.head, out,
        )  # fmt: skip
        return out

    def landmarks(self, posed: Posed, pose: Pose) -> tuple[Float, tuple[Float, Float]]:
        """[478, 2] px; and px of the lids (left eye, right eye), [2, 9, 2], from image left to right."""
        model, lens = self.model, self.lens
        seen = project(blend(posed.vertices, model.weight, pose), lens)
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
                np.stack([middle, middle + x, middle + y, middle - x, middle - y]), lens
            )
        return points, (points[LEFT_LIDS[:, ::-1]], points[RIGHT_LIDS])

    def _upload(self, posed: Posed, pose: Pose, lids: tuple[Float, Float]) -> None:
        model, look = self.model, self.lookup
        head = look.table[look.slices["head"]]
        head[:, 0, :3], head[:, 1, :3] = posed.vertices, posed.normals
        head[: len(posed.soft), 2, :3] = posed.soft
        for eye, part in enumerate(model.eye_slices):
            seen = project(posed.vertices[part] @ pose.head[:3, :3].T + pose.head[:3, 3], self.lens)
            light = np.ones(len(seen), np.float32)
            lid_light(
                seen,
                np.ascontiguousarray(lids[eye][0]),
                np.ascontiguousarray(lids[eye][1]),
                light,
                light.copy(),
            )
            head[part, 3, 0] = np.clip(light * 1.1 - 0.1, 0.0, 1.0)
        self.head.write("in_pos", posed.vertices)
        if self.figure.beard is not None:
            look.points("beard")[:] = self._beard_points(posed)
            self._meshes["beard"].write("in_pos", look.points("beard"))
        points, normals = lash_points(posed, self.figure, self.look)
        look.points("lash")[:] = points
        self._meshes["lash"].write("in_pos", points)
        self._meshes["lash"].write("in_normal", normals)
        look.upload()
        axes = posed.axes @ pose.head[:3, :3].T
        centres = self.figure.centres @ pose.head[:3, :3].T + pose.head[:3, 3]
        self.gpu.set({"eye_at": centres, "eye_axis": axes}, ("eye",))
        upper, lower = model.basis.at_landmarks(posed.vertices)[INNER_LIPS]
        self.open = bool((upper - lower)[:, 1].max() > 0.04) or self.always_open
        self.gpu.set({"gape": float(np.clip((upper - lower)[:, 1].max() / 2.2, 0.0, 1.0))}, ("mouth",))

    def _draw_shadow(self, proj: Float) -> None:
        g = self.gpu
        g.targets.shadow.use()
        g.targets.shadow.clear(depth=1.0)
        g.set({"proj": proj, "cut": _SHADOW_CUT}, ("shadow_card", "shadow_solid"))
        g.context.enable(g.moderngl.CULL_FACE)
        g.context.front_face = "ccw"
        self.head.draw("shadow_solid", "coarse")
        g.context.front_face = "cw"
        g.context.disable(g.moderngl.CULL_FACE)
        if "frame" in self._meshes:
            self._meshes["frame"].draw("shadow_solid", "all")
        for name in ("hair", "beard"):
            if name in self._meshes:
                self._meshes[name].draw("shadow_card", "few")

    def _draw_seen(self) -> None:
        """Which triangle every sample sees. What has no holes goes first and hides much of what has."""
        g = self.gpu
        g.targets.seen.use()
        g.targets.seen.clear(depth=1.0)
        g.context.enable(g.moderngl.CULL_FACE)
        self._see(self.head, "skin", Kind.SKIN, "seen_solid")
        self._see(self.head, "eyes", Kind.EYE, "seen_solid")
        if self.open:
            self._see(self.head, "mouth", Kind.MOUTH, "seen_solid")
        g.context.disable(g.moderngl.CULL_FACE)
        for name, kind, programme in (
            ("frame", Kind.FRAME, "seen_solid"), ("cloth", Kind.CLOTH, "seen_cloth"),
            ("lash", Kind.LASH, "seen_lash"), ("beard", Kind.BEARD, "seen_card"),
            ("hair", Kind.HAIR, "seen_card"),
        ):  # fmt: skip
            if name in self._meshes:
                self._see(self._meshes[name], "all", kind, programme)

    def _see(self, mesh: GpuMesh, group: str, kind: Kind, programme: str) -> None:
        self.gpu.set({"first_id": self.lookup.first_id[kind]}, (programme,))
        mesh.draw(programme, group)

    def _draw_materials(self, ids: Int) -> None:
        g, m = self.gpu, self.gpu.moderngl
        rectangles(ids, len(Kind), self._corners, self._starts)
        self._rectangles.write("in_corner", self._corners[: self._starts[-1]])
        g.context.disable(m.DEPTH_TEST)
        g.targets.shaded.use()
        g.targets.shaded.clear()
        for kind, programme in _SHADED.items():
            first, end = (int(v) for v in self._starts[kind : kind + 2])
            if end > first:
                value = float(label("beard" if kind == Kind.BEARD else "hair"))
                g.set({"kind": int(kind), "hair_value": value}, (programme,))
                self._rectangles.draw_rows(programme, first, end - first)
        g.context.enable(m.DEPTH_TEST)
        g.targets.forward.use()
        g.context.depth_func = "=="
        self._meshes["lash"].draw("lash", "all")
        if "frame" in self._meshes:
            self._meshes["frame"].draw("glasses", "all")
        g.context.depth_func = "<"
        if "lens" in self._meshes:
            self._draw_lens()

    def _draw_lens(self) -> None:
        g, m = self.gpu, self.gpu.moderngl
        g.targets.only_colour.use()
        g.context.enable(m.BLEND)
        g.context.blend_func = (m.SRC_ALPHA, m.ONE_MINUS_SRC_ALPHA, m.ONE, m.ONE_MINUS_SRC_ALPHA)
        g.targets.only_colour.depth_mask = False
        self._meshes["lens"].draw("lens", "all")
        g.targets.only_colour.depth_mask = True
        g.context.disable(m.BLEND)


def _rigid(mesh: Mesh, weight: float, kind: Kind) -> Part:
    w = np.ones(len(mesh.points), np.float32) if weight else 0.9 * head_weight(mesh.points)
    return Part(mesh.points, w.astype(np.float32), {kind: mesh.triangles}, mesh.normal, mesh.points,
                mesh.points[:, :2].copy(), mesh.paint)  # fmt: skip


def _fitting(texture: Bytes, samples_cm: float) -> Bytes:
    """``texture`` of the skin chart at the resolution that ``samples_cm`` samples a cm can show."""
    texels = texture.shape[0] / _CHART_CM
    while texels > 1.4 * samples_cm and texture.shape[0] > CHART // 8:
        texture = np.asarray(
            cv2.resize(texture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8
        )
        texels /= 2.0
    return texture


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
