"""Draws a person: shadow map, materials, lenses; reads back colour and truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.eyelight import lid_light
from engine.face.residual import INNER_LIPS, LEFT_LIDS, RIGHT_LIDS
from engine.synth.people.cards import Cards, card_texture
from engine.synth.people.figure import IRIS_DEPTH, Figure, Pose, Posed
from engine.synth.people.gpu import Gpu, GpuMesh, projection
from engine.synth.people.look import Look
from engine.synth.people.model import HeadModel, head_model, label
from engine.synth.people.scene import Lens, Scene
from engine.synth.people.skin import paint_relief, paint_skin
from engine.synth.people.wear import Clothes, Mesh, collar_drop

__all__ = ["Drawn", "PersonRenderer"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_SUN_REACH, _SUN_DEPTH = 22.0, 45.0  # cm covered by the shadow map
_LASH = 25
_HAIR_CUT = 0.42


@dataclass(frozen=True)
class Drawn:
    """One frame at the renderer's size S."""

    rgb: Float
    """[S, S, 3] 0..255, backdrop included, before lens and sensor"""
    labels: Bytes
    """[S, S]"""
    truth: Float
    """[1.5 S, 1.5 S, 4] samples: px x and y in the first frame, distance there (cm), label; 0: backdrop"""
    points: Float
    """[478, 2] landmarks, px"""


def _linear(colour: Float) -> Float:
    return np.asarray(np.power(np.clip(colour, 0.0, 1.0), 2.2), np.float32)


def _occlusion(gpu: Gpu, model: HeadModel, count: int = 72) -> Float:
    """[V] 0..1, how much of the sky each vertex of the mean head sees."""
    mean = model.basis.mean
    mesh = GpuMesh(
        gpu, {"in_pos": mean, "in_weight": np.zeros(len(mean), np.float32)}, {"all": model.basis.triangles}
    )
    normals = np.empty_like(mean)
    from engine.animators.mesh.geometry import unit_normals

    unit_normals(np.ascontiguousarray(mean), model.basis.triangles, np.eye(3, dtype=np.float32), normals)
    seen, total = np.zeros(len(mean)), np.full(len(mean), 1e-6)
    side = gpu.targets.shade.size[0]
    for k in range(count):
        y = 1.0 - 2.0 * (k + 0.5) / count
        angle = 2.39996 * k
        d = np.array([np.cos(angle) * np.sqrt(1 - y * y), y, np.sin(angle) * np.sqrt(1 - y * y)], np.float32)
        sun = _sun(d, np.array([0.0, -2.0, 1.0], np.float32))
        gpu.set({"body": np.eye(4), "head": np.eye(4), "proj": sun}, ("solid",))
        gpu.targets.shadow.use()
        gpu.targets.shadow.clear(depth=1.0)
        mesh.draw("solid", "all")
        depth = np.frombuffer(gpu.targets.shade.read(), np.float32).reshape(side, side)
        clip = mean @ sun[:3, :3].T + sun[:3, 3]
        c, r = (np.clip(((clip[:, i] * 0.5 + 0.5) * side).astype(int), 0, side - 1) for i in (0, 1))
        cos = np.maximum(normals @ d, 0.0)
        seen += cos * (clip[:, 2] * 0.5 + 0.5 <= depth[r, c] + 0.35 / (2 * _SUN_DEPTH))
        total += cos
    mesh.release()
    return np.asarray(seen / total, np.float32)


def _sun(direction: Float, middle: Float) -> Float:
    """[4, 4] camera space to the clip space of light from ``direction``, around ``middle``."""
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.02], z)
    x /= np.linalg.norm(x)
    axes = np.stack([x, np.cross(z, x), -z]) / np.array([_SUN_REACH, _SUN_REACH, _SUN_DEPTH])[:, None]
    out = np.eye(4, dtype=np.float32)
    out[:3, :3], out[:3, 3] = axes, -axes @ middle
    return out


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
        ctx.front_face = "cw"  # the projection turns the picture over
        self.card = self.gpu.texture(card_texture(), repeat=True)
        occlusion = _occlusion(self.gpu, self.model)
        for _ in range(2):
            count = len(self.model.hair)
            occlusion[:count] = self.model.smooth @ occlusion[:count]
        self.occlusion = np.clip(0.18 + 0.95 * occlusion, 0.0, 1.0)
        basis, v = self.model.basis, len(self.model.basis.mean)
        groups = {
            "skin": self.model.skin,
            "coarse": self.model.coarse,
            "mouth": self.model.mouth,
            "eyes": self.model.eyes,
        }
        zero = np.zeros((v, 3), np.float32)
        self.head = GpuMesh(
            self.gpu,
            {"in_pos": zero, "in_normal": zero, "in_soft": zero, "in_first": zero, "in_rest": basis.mean,
             "in_uv": self.model.chart, "in_paint": np.zeros((v, 4), np.float32),
             "in_weight": self.model.weight, "in_code": self.model.code},
            groups,
        )  # fmt: skip
        self.open, self.always_open = True, False
        self._meshes: dict[str, GpuMesh] = {}
        self._textures: list[Any] = []

    # -- a person ---------------------------------------------------------------------------------

    def begin(
        self, look: Look, figure: Figure, clothes: Clothes, scene: Scene, lens: Lens, first: Posed, pose: Pose
    ) -> None:
        """Load a person; ``first`` and ``pose`` are those of the first frame."""
        for thing in (*self._meshes.values(), *self._textures):
            thing.release()
        self.look, self.figure, self.clothes, self.scene, self.lens = look, figure, clothes, scene, lens
        skin, relief = self.gpu.texture(paint_skin(look)), self.gpu.texture(paint_relief(look))
        self._textures = [skin, relief]
        self.head.write("in_first", first.vertices)
        self.paint = self._paint(look)
        self._meshes = self._person_meshes(figure, first, look)
        self.head.regroup("skin", self._uncovered(clothes))
        self._first = first
        self._uniforms(look, clothes, scene, lens, pose)
        skin.use(0)
        relief.use(1)
        self.card.use(2)
        self.gpu.targets.shade.use(3)

    def _paint(self, look: Look) -> Float:
        model = self.model
        paint = np.zeros((len(model.basis.mean), 4), np.float32)
        count = len(model.hair)
        from engine.synth.people.model import hair_mask

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

    def _person_meshes(self, figure: Figure, first: Posed, look: Look) -> dict[str, GpuMesh]:
        meshes = {"clothes": self._rigid(figure.clothes, 0.0, "clothes")}
        if figure.hair is not None:
            meshes["hair"] = self._cards(figure.hair, figure.hair.points)
        if figure.beard is not None:
            b = figure.beard
            meshes["beard"] = self._cards(b, b.points + (first.vertices - figure.neutral)[b.root])
        if figure.frame is not None and figure.lens is not None:
            meshes["frame"] = self._rigid(figure.frame, 1.0, "glasses")
            meshes["lens"] = self._rigid(figure.lens, 1.0, "glasses")
        points, normals, uv, paint, triangles = self._lashes(first, look)
        meshes["lash"] = GpuMesh(
            self.gpu,
            {"in_pos": points, "in_normal": normals, "in_first": points, "in_uv": uv, "in_paint": paint,
             "in_weight": np.ones(len(points), np.float32)},
            {"all": triangles},
        )  # fmt: skip
        return meshes

    def _cards(self, cards: Cards, first: Float) -> GpuMesh:
        return GpuMesh(
            self.gpu,
            {"in_pos": cards.points, "in_normal": cards.normal, "in_soft": cards.tangent, "in_first": first,
             "in_rest": cards.points, "in_uv": cards.uv, "in_paint": cards.paint, "in_weight": cards.weight},
            {"all": cards.triangles, "few": cards.few},
        )  # fmt: skip

    def _rigid(self, mesh: Mesh, weight: float, name: str) -> GpuMesh:
        from engine.animators.mesh.grid import head_weight

        w = np.ones(len(mesh.points), np.float32) if weight else 0.9 * head_weight(mesh.points)
        return GpuMesh(
            self.gpu,
            {"in_pos": mesh.points, "in_normal": mesh.normal, "in_soft": mesh.normal, "in_first": mesh.points,
             "in_rest": mesh.points, "in_paint": mesh.paint, "in_weight": w.astype(np.float32),
             "in_uv": mesh.points[:, :2].copy(), "in_code": np.full(len(w), label(name), np.float32)},
            {"all": mesh.triangles},
        )  # fmt: skip

    def _uncovered(self, clothes: Clothes) -> NDArray[np.int32]:
        """Skin triangles, less what lies well under the clothes."""
        p = self.model.basis.mean
        drop = collar_drop(p, clothes)
        low = drop > np.where(np.abs(p[:, 0]) > 9.0, 1.2, 2.4)
        kept: NDArray[np.int32] = self.model.skin[~low[self.model.skin].all(1)]
        return kept

    def _uniforms(self, look: Look, clothes: Clothes, scene: Scene, lens: Lens, pose: Pose) -> None:
        light, g = scene.light, self.gpu
        self.proj = projection(lens.focal, lens.cx, lens.cy, self.size)
        g.set({
            "body0": pose.body, "head0": pose.head, "proj": self.proj,
            "lens0": np.array([lens.focal, lens.cx, lens.cy]), "harm": light.harmonics, "key_dir": light.key,
            "key_col": light.key_colour, "rim_dir": light.rims, "rim_col": light.rim_colours,
            "exposure": light.exposure, "contrast": scene.contrast, "sun_soft": light.softness,
            "shade": 3, "card": 2, "skin_map": 0, "relief_map": 1, "cut": _HAIR_CUT,
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
        """One frame of the loaded person."""
        points, lids = self.landmarks(posed, pose)
        self._upload(posed, pose, lids)
        middle = (pose.head @ np.array([0.0, 0.0, 2.0, 1.0], np.float32))[:3]
        self.gpu.set({"head": pose.head, "body": pose.body, "sun": _sun(self.scene.light.key, middle)})
        self._draw_shadow(_sun(self.scene.light.key, middle))
        self._draw_all()
        side = self.gpu.targets.side
        colour = np.frombuffer(self.gpu.targets.colour.read(), np.uint8).reshape(side, side, 4)
        truth = np.frombuffer(self.gpu.targets.truth.read(), np.float32).reshape(side, side, 4)
        small = cv2.resize(colour, (self.size, self.size), interpolation=cv2.INTER_AREA).astype(np.float32)
        cover = small[..., 3:] / 255.0
        rgb = small[..., :3] + (1.0 - cover) * self.scene.backdrop
        at = ((np.arange(self.size) + 0.5) * side / self.size).astype(int)
        labels = truth[at[:, None], at[None], 3].astype(np.uint8)
        return Drawn(rgb, labels, truth, points)

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
        model = self.model
        self.head.write("in_pos", posed.vertices)
        self.head.write("in_normal", posed.normals)
        self.head.write("in_soft", posed.soft)
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
            self.paint[part, 0] = np.clip(light * 1.1 - 0.1, 0.0, 1.0)
        self.head.write("in_paint", self.paint)
        axes = posed.axes @ pose.head[:3, :3].T
        centres = self.figure.centres @ pose.head[:3, :3].T + pose.head[:3, 3]
        self.gpu.set({"eye_at": centres, "eye_axis": axes}, ("eye",))
        upper, lower = model.basis.at_landmarks(posed.vertices)[INNER_LIPS]
        self.open = bool((upper - lower)[:, 1].max() > 0.04) or self.always_open
        self.gpu.set({"gape": float(np.clip((upper - lower)[:, 1].max() / 2.2, 0.0, 1.0))}, ("mouth",))
        if self.figure.beard is not None:
            b = self.figure.beard
            self._meshes["beard"].write("in_pos", b.points + (posed.vertices - self.figure.neutral)[b.root])
        points, normals, *_ = self._lashes(posed, self.look)
        self._meshes["lash"].write("in_pos", points)
        self._meshes["lash"].write("in_normal", normals)

    def _draw_shadow(self, sun: Float) -> None:
        g = self.gpu
        g.targets.shadow.use()
        g.targets.shadow.clear(depth=1.0)
        g.set({"proj": sun, "cut": 0.55}, ("shadow", "solid"))
        g.context.enable(g.moderngl.CULL_FACE)
        g.context.front_face = "ccw"
        self.head.draw("solid", "coarse")
        g.context.front_face = "cw"
        g.context.disable(g.moderngl.CULL_FACE)
        if "frame" in self._meshes:
            self._meshes["frame"].draw("solid", "all")
        for name in ("hair", "beard"):
            if name in self._meshes:
                self._meshes[name].draw("shadow", "few")

    def _draw_all(self) -> None:
        g, m = self.gpu, self.gpu.moderngl
        g.targets.all.use()
        g.targets.all.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        self._draw_depth()
        self._draw_materials()
        if "lens" in self._meshes:
            g.targets.only_colour.use()
            g.context.enable(m.BLEND)
            g.context.blend_func = (m.SRC_ALPHA, m.ONE_MINUS_SRC_ALPHA, m.ONE, m.ONE_MINUS_SRC_ALPHA)
            g.targets.only_colour.depth_mask = False
            self._meshes["lens"].draw("lens", "all")
            g.targets.only_colour.depth_mask = True
            g.context.disable(m.BLEND)

    def _draw_depth(self) -> None:
        """Depths of what is cut out by textures first: its costly material then runs once per sample."""
        g = self.gpu
        g.targets.depths.use()
        g.set({"proj": self.proj, "cut": _HAIR_CUT}, ("shadow", "cloth_cut"))
        self._meshes["clothes"].draw("cloth_cut", "all")
        for name in ("hair", "beard"):
            if name in self._meshes:
                self._meshes[name].draw("shadow", "all")
        g.targets.all.use()

    def _draw_materials(self) -> None:
        g = self.gpu
        g.context.enable(g.moderngl.CULL_FACE)
        self.head.draw("skin", "skin")
        self.head.draw("eye", "eyes")
        if self.open:
            self.head.draw("mouth", "mouth")
        g.context.disable(g.moderngl.CULL_FACE)
        if "frame" in self._meshes:
            self._meshes["frame"].draw("glasses", "all")
        self._meshes["lash"].draw("lash", "all")
        g.context.depth_func = "=="
        self._meshes["clothes"].draw("cloth", "all")
        for name in ("hair", "beard"):
            if name in self._meshes:
                g.set({"hair_value": float(label(name))}, ("hair",))
                self._meshes[name].draw("hair", "all")
        g.context.depth_func = "<"

    def _lashes(self, posed: Posed, look: Look) -> tuple[Float, Float, Float, Float, NDArray[np.int32]]:
        """Strips that leave the lids' edges: upper ones long, lower ones short."""
        basis = self.model.basis
        strips, normals, longest = [], [], []
        for eye, rows in enumerate((basis.lid_left, basis.lid_right)):
            for k, row in enumerate(rows):
                edge = posed.vertices[row]
                t = np.linspace(0, 1, len(edge))
                fine = np.stack(
                    [np.interp(np.linspace(0.04, 0.97, _LASH), t, edge[:, c]) for c in range(3)], 1
                )
                out = fine - self.figure.centres[eye]
                out /= np.linalg.norm(out, axis=1, keepdims=True)
                u = np.linspace(0, 1, _LASH)[:, None]
                size = (0.42 if k == 0 else 0.16) * look.lashes * (0.35 + 1.25 * u - 0.55 * u**2)
                lean = np.array([0.25 * (1 if eye == 0 else -1), 0.0, 0.0]) * (u - 0.3)
                curl = np.array([0.0, 0.4 if k == 0 else -0.4, 0.0])
                fine = fine + 0.05 * out
                rowset = [
                    fine,
                    fine + size * (0.95 * out + 0.3 * curl + lean),
                    fine + size * (1.35 * out + 0.9 * curl + 1.6 * lean),
                ]
                strips.append(np.stack(rowset))
                normals.append(np.broadcast_to(out, (3, _LASH, 3)))
                longest.append(np.full((3, _LASH), 1.0 if k == 0 else 0.8))
        points = np.array(strips, np.float32).reshape(-1, 3)
        n = len(strips)
        u, v = np.meshgrid(np.linspace(0, 1, _LASH), [0.0, 0.5, 1.0])
        uv = np.tile(np.stack([u, v], 2).reshape(1, -1, 2), (n, 1, 1)).reshape(-1, 2).astype(np.float32)
        paint = np.zeros((len(points), 4), np.float32)
        paint[:, 0] = np.array(longest).ravel()
        index = np.arange(3 * _LASH).reshape(3, _LASH)
        a, b, c, d = (
            index[:-1, :-1].ravel(),
            index[:-1, 1:].ravel(),
            index[1:, :-1].ravel(),
            index[1:, 1:].ravel(),
        )
        one = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
        triangles = (one[None] + (np.arange(n) * 3 * _LASH)[:, None, None]).reshape(-1, 3).astype(np.int32)
        return points, np.array(normals, np.float32).reshape(-1, 3), uv, paint, triangles


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
