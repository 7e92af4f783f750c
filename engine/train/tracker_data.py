"""Pictures of faces with everything the tracker network has to say about them.

* **scenes** that ``visavis train heads`` wrote: frames of real clips that may train, and training
  portraits that the mesh animator moved. Landmarks are the landmark network's, the rest is the fitter's:
  labels as good as these two.
* **people**: a set that ``visavis train synth`` wrote; labels are what was drawn.
* for measuring: **clips** with their tracks, and **photos** drawn by the mesh animator with the truth of
  what was drawn (:func:`clip_rows`, :func:`photo_rows`).

A row's picture is a square around the face; :attr:`Rows.share` of its side is the square that the network
sees, so that augmentation can shift and turn it. ``frames`` uint8 [N, S, S, 3]; ``points`` float32
[N, 478, 2] px; ``expression`` float32 [N, 64] absolute; ``rotation`` float32 [N, 3] axis-angle from a
frontal head, seen along the line of sight to the face; ``gaze`` and ``blink`` float32 [N, 2] (the latter
left, right).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.render import SIZE, FrameBuffers, FrameRenderer
from engine.errors import VisavisError
from engine.face.attention import LEFT_EYE_MESH, LIPS_MESH, RIGHT_EYE_MESH
from engine.face.basis import load_basis
from engine.face.fitter import HEAD_DISTANCE_CM, IRIS_DEPTH, eye_centres, fit_face
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.face.roi import Bytes, Roi, sample_roi
from engine.face.solver import MEAN_INTEROCULAR_CM
from engine.face.tracker import along_sight, face_square
from engine.face.video import read_video
from engine.synth.people.motions import first_motion, lively_motion
from engine.synth.shards import open_shards
from engine.types import MOTION

__all__ = [
    "WIDE", "Rows", "clip_rows", "load_scenes", "load_track", "manifest", "mirror_order", "people_rows",
    "photo_rows", "scene_rows", "tracked_rows",
]  # fmt: skip

Float = NDArray[np.float32]
Double = NDArray[np.float64]

WIDE = 192
"""Pixels of the pictures that are cut here: 4/3 of the square that the network sees."""
_BLINK = [MOTION.index("eyeBlinkLeft"), MOTION.index("eyeBlinkRight")]
_LOST = 3.0
_FIELDS = ("frames", "points", "expression", "rotation", "gaze", "blink")
_FOUND = [*range(64), 70, 71]


@dataclass(frozen=True)
class Rows:
    """N labelled pictures of one source; see the module."""

    frames: Bytes
    points: Float
    expression: Float
    rotation: Float
    gaze: Float
    blink: Float
    share: float = 0.75

    def __len__(self) -> int:
        return len(self.frames)


class _Collector:
    """Rows one by one."""

    def __init__(self) -> None:
        self._rows: dict[str, list[NDArray[np.generic]]] = {name: [] for name in _FIELDS}

    def add(self, rgb: Bytes, points: Float, square: Roi, motion: Double, blink: Float) -> None:
        """``motion`` [72] absolute, its rotation along the line of sight; ``points`` px of ``rgb``."""
        wide = replace(square, size=square.size * 4.0 / 3.0)
        to = wide.to_image(WIDE)
        self._rows["frames"].append(sample_roi(rgb, wide, WIDE))
        self._rows["points"].append(((points - to[:, 2]) / to[0, 0]).astype(np.float32))
        self._rows["expression"].append(np.clip(motion[MOTION.expression], 0.0, 1.0).astype(np.float32))
        self._rows["rotation"].append(motion[MOTION.rotation].astype(np.float32))
        self._rows["gaze"].append(motion[MOTION.gaze].astype(np.float32))
        self._rows["blink"].append(np.clip(blink, 0.0, 1.0).astype(np.float32))

    def rows(self) -> Rows | None:
        if not self._rows["frames"]:
            return None
        return Rows(**{name: np.stack(values) for name, values in self._rows.items()})  # type: ignore[arg-type]


# -- clips -------------------------------------------------------------------------------------


def clip_rows(clip: Path, track: dict[str, NDArray[np.generic]], wanted: int) -> Rows | None:
    """About ``wanted`` frames of a tracked clip, evenly spread; None where no frame is surely tracked."""
    motion, points = np.asarray(track["motion"], np.float64), np.asarray(track["points"], np.float32)
    good = np.isfinite(motion).all(1) & np.isfinite(points).all((1, 2)) & np.asarray(track["valid"], bool)
    good &= (np.abs(np.nan_to_num(motion)).max(1) < _LOST) & (np.asarray(track["confidence"]) > 0.0)
    at = np.flatnonzero(good)
    if not len(at):
        return None
    keep = set(at[np.unique(np.linspace(0, len(at) - 1, wanted).astype(int))].tolist())
    rest = np.asarray(track["rest"], np.float64)
    focal, size = _focal(points[at]), np.asarray(track["size"], np.float64)
    found = _Collector()
    for n, (_, rgb) in enumerate(islice(read_video(clip), max(keep) + 1)):
        if n not in keep:
            continue
        square = face_square(points[n])
        row = motion[n] + rest
        turn = Rotation.from_rotvec(motion[n, MOTION.rotation]) * Rotation.from_rotvec(rest[MOTION.rotation])
        middle = np.array([rgb.shape[1], rgb.shape[0]]) / 2.0
        if sorted(size) != sorted(rgb.shape[:2]):
            raise VisavisError(f"{clip}: tracked at {size}, read at {rgb.shape[:2]}; track it again")
        row[MOTION.rotation] = along_sight(
            turn, [square.x - middle[0], square.y - middle[1]], focal
        ).as_rotvec()
        found.add(rgb, points[n], square, row, motion[n, _BLINK].astype(np.float32))
    return found.rows()


def _focal(points: Float) -> float:
    """The fitter's focal length for a clip with ``points`` [T, 478, 2], px, roughly."""
    eyes = np.linalg.norm(points[:, 263] - points[:, 33], axis=1)
    nose = np.linalg.norm(points[:, 168] - points[:, 2], axis=1)
    return float(np.median(np.maximum(eyes, 1.3 * nose))) / MEAN_INTEROCULAR_CM * HEAD_DISTANCE_CM


# -- photographs -------------------------------------------------------------------------------


def photo_rows(photo: Path, motions: Float, count: int, seed: int) -> Rows | None:
    """``count`` drawn frames of the portrait ``photo``; ``motions`` [T, 72] tracked rows to borrow from.

    Raises:
        FaceError: the photo shows no face that can be animated.
    """
    random = np.random.default_rng(seed)
    animator = MeshAnimator()
    portrait = analyse_portrait(load_image(photo))
    identity: MeshIdentity = animator.prepare(portrait)
    renderer = animator.renderer(identity)
    buffers = FrameBuffers.for_basis(renderer.basis)
    irises = _Irises(portrait, renderer, buffers)
    found = _Collector()
    frame = np.empty((SIZE, SIZE, 3), np.uint8)
    for _ in range(count):
        motion = _photo_motion(motions, identity.rest, random)
        renderer.draw(motion, buffers, frame)
        drawn = renderer.geometry(motion, buffers)
        gaze = portrait.fit.gaze + motion[MOTION.gaze]
        points = np.concatenate([drawn.landmarks, irises(gaze, drawn.head)]).astype(np.float32)
        square = face_square(points)
        turned = Rotation.from_matrix(drawn.head[:, :3] @ identity.camera[:, :3])
        away = [square.x - drawn.centre[0], square.y - drawn.centre[1]]
        row = np.zeros(MOTION.size)
        row[MOTION.expression] = drawn.expression
        row[MOTION.rotation] = along_sight(turned, away, drawn.focal).as_rotvec()
        row[MOTION.gaze] = gaze
        found.add(frame, points, square, row, motion[_BLINK])
    return found.rows()


def _photo_motion(motions: Float, rest: Float, random: np.random.Generator) -> Float:
    """A tracked or an invented row with its own head turn and gaze, for a portrait that shows ``rest``."""
    if random.random() < 0.5:
        motion = motions[random.integers(len(motions))].copy()
        motion[MOTION.expression] = np.clip(random.uniform(0.8, 1.3) * motion[MOTION.expression], 0.0, 1.0)
        motion[MOTION.rotation] += random.normal(0.0, np.radians([7.0, 11.0, 5.0]))
        motion[MOTION.gaze] += random.normal(0.0, np.radians([5.0, 9.0]))
    else:
        motion = lively_motion(random, first_motion(random))
    motion[MOTION.rotation] = np.clip(motion[MOTION.rotation], -0.45, 0.45)
    motion[MOTION.gaze] = np.clip(motion[MOTION.gaze], [-0.4, -0.55], [0.4, 0.55])
    motion[MOTION.pose.start :] += rest[MOTION.pose.start :]
    return np.asarray(motion, np.float32)


class _Irises:
    """Where the mesh animator's irises are: ten points that turn with the eyeballs of the fitted head."""

    def __init__(self, portrait: Portrait, renderer: FrameRenderer, buffers: FrameBuffers) -> None:
        face = renderer.identity
        self.centres = eye_centres(portrait.fit.identity, portrait.fit.correction)
        self.camera, self.focal, self.middle = face.camera, float(face.intrinsics[0]), face.intrinsics[1:]
        own = portrait.landmarks.points
        self.discs = np.stack([own[k : k + 5] - own[k] for k in (468, 473)])
        rest = renderer.geometry(face.rest, buffers)
        self.offset = np.zeros((2, 2))
        self.offset = own[[468, 473]] - self._centres(portrait.fit.gaze, rest.head)

    def __call__(self, gaze: Float, head: Float) -> Double:
        """[10, 2] px, right iris first."""
        middle = self._centres(gaze, head)
        return np.asarray((self.discs + middle[:, None]).reshape(10, 2))

    def _centres(self, gaze: Float, head: Float) -> Double:
        pitch, yaw = gaze
        toward = np.array([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)])
        model = self.centres[::-1] + IRIS_DEPTH * toward
        seen = model @ self.camera[:, :3].T + self.camera[:, 3]
        seen = seen @ head[:, :3].T + head[:, 3]
        flat = self.focal * seen[:, :2] / -seen[:, 2:] * [1.0, -1.0]
        return np.asarray(flat + self.middle + self.offset)


# -- people ------------------------------------------------------------------------------------


def people_rows(folder: Path, first: int = 0, last: int | None = None) -> Rows | None:
    """Rows ``first`` to ``last`` of a set of synthetic people."""
    found = _Collector()
    passed = 0
    for shard in open_shards(folder):
        low, high = max(first - passed, 0), shard.rows if last is None else min(last - passed, shard.rows)
        passed += shard.rows
        names = ("frames", "landmarks", "absolute", "motion", "camera")
        frames, points, absolute, motion, camera = (shard[name] for name in names)
        for k in range(low, high):
            square = face_square(points[k])
            away = [square.x - camera[k, 1], square.y - camera[k, 2]]
            row = absolute[k].astype(np.float64)
            turn = along_sight(Rotation.from_rotvec(row[MOTION.rotation]), away, float(camera[k, 0]))
            row[MOTION.rotation] = turn.as_rotvec()
            found.add(np.asarray(frames[k]), np.asarray(points[k]), square, row, motion[k, _BLINK])
    return found.rows()


# -- scenes ------------------------------------------------------------------------------------


def scene_rows(folder: Path, fits: int = 2) -> Rows | None:
    """One scene of ``visavis train heads``; None where no frame can be fitted.

    Its motion counts from the portrait's rest, which the scene does not hold: the rest is the median, over
    a few frames, of what the fitter finds in them alone minus their motion.
    """
    points = np.load(folder / "points.npy").astype(np.float32)
    motion = np.load(folder / "window.npy")[:, -1].astype(np.float64)
    frames = np.load(folder / "target.npy", mmap_mode="r")
    good = np.flatnonzero(np.isfinite(points).all((1, 2)) & (np.abs(motion).max(1) < _LOST))
    if not len(good):
        return None
    side = frames.shape[1]
    rests, turns = [], []
    # A short scene is one sentence of one person, of whom there are many.
    fits = fits if len(good) > 30 else 1
    for n in good[np.unique(np.linspace(0, len(good) - 1, fits).astype(int))]:
        fit = fit_face(points[n], side)
        rests.append(np.concatenate([fit.expression, fit.gaze]) - motion[n, _FOUND])
        own = Rotation.from_rotvec(motion[n, MOTION.rotation])
        turns.append((own.inv() * Rotation.from_matrix(fit.rotation)).as_rotvec())
    rest = np.median(rests, axis=0)
    turn = Rotation.from_rotvec(motion[good][:, MOTION.rotation]) * Rotation.from_rotvec(np.median(turns, 0))
    found = motion[good][:, _FOUND] + rest
    return Rows(
        frames=np.asarray(frames[good]),
        points=points[good],
        expression=np.clip(found[:, :64], 0.0, 1.0).astype(np.float32),
        rotation=turn.as_rotvec().astype(np.float32),
        gaze=found[:, 64:].astype(np.float32),
        blink=np.clip(motion[good][:, _BLINK], 0.0, 1.0).astype(np.float32),
        share=1.0,
    )


def load_scenes(folders: Iterable[Path]) -> dict[str, Rows]:
    """Every scene under ``folders`` by name."""
    found = {}
    for meta in sorted(m for folder in folders for m in folder.glob("*/meta.json")):
        rows = scene_rows(meta.parent)
        if rows is not None:
            found[meta.parent.name] = rows
    return found


# -- what there is -----------------------------------------------------------------------------


def manifest(data: Path, folder: str, split: str) -> list[str]:
    """Paths of the manifest's items in ``folder`` of ``split``; "train" means what may train."""
    with (data / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith(f"{folder}/")]
    if split == "train":
        return [row["path"] for row in rows if row["use"] == "train"]
    return [row["path"] for row in rows if row["split"] == split]


def load_track(tracks: Path, path: str) -> dict[str, NDArray[np.generic]] | None:
    """The track of the clip ``path`` of the manifest, None where there is none."""
    name = path.removeprefix("talking/").replace("/", "__") + ".npz"
    if not (tracks / name).exists():
        return None
    with np.load(tracks / name) as file:
        return {key: file[key] for key in file.files}


def tracked_rows(data: Path, tracks: Path) -> Float:
    """[T, 72] tracked motion of all clips that may train, for photos to borrow."""
    rows = []
    for path in manifest(data, "talking", "train"):
        track = load_track(tracks, path)
        if track is not None:
            motion = np.asarray(track["motion"], np.float32)
            rows.append(motion[np.isfinite(motion).all(1) & (np.abs(np.nan_to_num(motion)).max(1) < _LOST)])
    return np.concatenate(rows)


def mirror_order() -> NDArray[np.int64]:
    """[478] which landmark lies where each one lies, in a mirror."""
    order = np.full(478, -1)
    lips = np.array(LIPS_MESH).reshape(4, 20)
    # Each ring: the lower lip from the right corner to the left one, then the upper lip without them.
    for lower, upper in zip(lips[:, :11], lips[:, 11:], strict=True):
        order[lower], order[upper] = lower[::-1], upper[::-1]
    right = np.array([*RIGHT_EYE_MESH, 468, 469, 470, 471, 472])
    left = np.array([*LEFT_EYE_MESH, 473, 476, 475, 474, 477])
    order[right], order[left] = left, right
    # The others by their places on the mean head.
    marks = load_basis().at_landmarks(load_basis().mean)
    rest = np.flatnonzero(order[:468] < 0)
    flipped = marks[rest] * np.array([-1.0, 1.0, 1.0], np.float32)
    _, found = linear_sum_assignment(np.linalg.norm(marks[rest][:, None] - flipped[None], axis=2))
    order[rest] = rest[found]
    return order
