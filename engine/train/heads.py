"""Pairs that teach the animator: what the mesh animator draws, and what the camera saw.

``visavis train heads --data DIR --tracks TRACKS --out HEADS``

Every *scene* is one portrait and frames of the same person. Real scenes are tracked clips that may train
(``use`` = train in the manifest), each with several of its frames as the portrait. Photo scenes are the
training portraits themselves, moved by the mesh animator with tracked motion: one drawn frame becomes the
portrait, so that its hidden sides, shut mouths and turned eyes have to be made up again, and the other
drawn frames are the truth. A share of them (``--restyle``) first gets another skin, light, hair, glasses or
style (:mod:`engine.synth.appearance`). ``--split dev`` writes scenes to choose weights by, which never train.

A scene is a folder of arrays: ``source`` uint8 [S, S, 3] and, for N frames in runs of consecutive ones,
``guide`` and ``target`` uint8 [N, S, S, 3], ``grid`` float16 [N, S/4, S/4, 2], ``window`` float32
[N, W, 72] (motion minus the portrait's rest, oldest first), ``points`` float16 [N, 478, 2] (landmarks of
the truth, region px) and ``index`` int32 [N] (frame number; runs are where it grows by one).
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.animators.gohd.guide import guide_of, source_region
from engine.animators.gohd.network import LITE
from engine.animators.mesh.animator import MeshAnimator
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.render import SIZE, FrameBuffers
from engine.animators.mesh.semantics import head_motion
from engine.errors import FaceError, VisavisError
from engine.face.crop import cut
from engine.face.fitter import FaceFit
from engine.face.image import Picture, load_image
from engine.face.landmarks import find_faces
from engine.face.portrait import Portrait, analyse_portrait
from engine.face.reenact import box_of, fitted_motion, open_reenactment, usable_frames
from engine.synth.appearance import restyle
from engine.synth.appearance_hair import HairDonor, donors_of
from engine.synth.shards import open_shards
from engine.synth.wardrobe import Worn
from engine.train.provenance import commit
from engine.types import MOTION

__all__ = ["Scene", "main", "photo_scene", "real_scene", "write_scene"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

RUN = 4
"""Consecutive frames that are kept together, for what a loss says about motion."""
_LOST = 3.0
"""Motion beyond this, in any column, is a lost track."""
_APART = 45
"""Least distance of two portraits from one clip, frames."""


@dataclass
class Scene:
    """A portrait and truth frames: ``frames`` yields (index, crop uint8 [512, 512, 3])."""

    name: str
    portrait: Portrait
    motion: Float
    """float32 [T, 72]; NaN where unknown"""
    points: Float
    """float32 [T, 478, 2] crop px"""
    frames: Iterator[tuple[int, Bytes]]
    held: bool = False
    """the frames do not follow one another: each counts as held, its window is its own motion"""


def _runs(valid: NDArray[np.bool_], count: int) -> list[int]:
    """Indices of at most ``count`` frames in runs of :data:`RUN`, spread over the valid ones."""
    context = LITE.window - 1
    starts = [t for t in range(context, len(valid) - RUN + 1) if valid[t - context : t + RUN].all()]
    wanted = max(1, count // RUN)
    taken: list[int] = []
    for t in np.array(starts)[np.linspace(0, len(starts) - 1, wanted).astype(int)] if starts else []:
        taken.extend(k for k in range(int(t), int(t) + RUN) if not taken or k > taken[-1])
    return taken


def write_scene(
    scene: Scene, out: Path, wanted: Sequence[int], side: int = LITE.side, painted: bool = True
) -> int:
    """Draw ``wanted`` frames of the scene and write the arrays; the number of frames written.

    ``side`` px of the region; ``painted`` as :func:`engine.animators.gohd.guide.guide_of` takes it.
    """
    animator = MeshAnimator()
    identity: MeshIdentity = animator.prepare(scene.portrait)
    renderer = animator.renderer(identity)
    buffers, drawn = FrameBuffers.for_basis(renderer.basis), np.empty((SIZE, SIZE, 3), np.uint8)
    source = source_region(identity)
    rows: dict[str, list[NDArray[np.generic]]] = {
        k: [] for k in ("guide", "target", "grid", "window", "points", "index")
    }
    keep = set(wanted)
    for n, crop in scene.frames:
        if n not in keep:
            continue
        guide = guide_of(renderer, scene.motion[n], source, buffers, drawn, side, painted=painted)
        matrix = guide.region.matrix(side)
        rows["guide"].append(guide.picture)
        rows["target"].append(guide.region.cut(crop, side))
        rows["grid"].append(guide.grid.astype(np.float16))
        past = [n] * LITE.window if scene.held else range(n - LITE.window + 1, n + 1)
        rows["window"].append(scene.motion[list(past)] - identity.rest)
        rows["points"].append((scene.points[n] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float16))
        rows["index"].append(np.asarray(n, np.int32))
    if not rows["index"]:
        return 0
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "source.npy", source.cut(identity.crop, side))
    for name, values in rows.items():
        np.save(out / f"{name}.npy", np.stack(values))
    about = {"name": scene.name, "frames": len(rows["index"]), "commit": commit()}
    (out / "meta.json").write_text(json.dumps(about))
    return len(rows["index"])


# -- real clips --------------------------------------------------------------------------------


def portraits_in(track: dict[str, NDArray[np.generic]], count: int) -> list[int]:
    """Up to ``count`` frames of a track that can be portraits, far apart, the best first."""
    good = usable_frames(track["motion"], track["rest"], track["blink"], track["confidence"])  # type: ignore[arg-type]
    half = good[: max(1, len(good) // 2)]
    order = np.random.default_rng(len(good)).permutation(half)
    taken = [int(good[0])] if len(good) and count else []
    for n in order.tolist():
        if len(taken) >= count:
            break
        if all(abs(n - other) >= _APART for other in taken):
            taken.append(int(n))
    return taken


def real_scene(clip: Path, track: dict[str, NDArray[np.generic]], frame: int) -> Scene:
    """The clip with its ``frame`` as the portrait. Raises FaceError where it cannot be one."""
    found = open_reenactment(clip, track, [frame])
    every = list(range(len(found.motion)))
    frames = ((n, crop) for n, crop, _ in found.frames(every))
    return Scene(f"{clip.stem}.{frame}", found.portrait, found.motion, found.points, frames)


# -- photographs -------------------------------------------------------------------------------


def photo_scene(
    photo: Path,
    motions: Sequence[Float],
    seed: int,
    restyled: float = 0.0,
    people: Sequence[HairDonor] = (),
) -> Scene:
    """The portrait ``photo`` moved by tracked ``motions`` ([T, 72] each, no NaN), seen again as a clip.

    With the chance ``restyled`` the person first gets another appearance, the same in every frame;
    ``people`` may lend hair. Glasses are drawn into each frame, rigid: painted on the photo, the mesh would
    bend them with brows and lids.
    """
    random = np.random.default_rng(seed)
    animator = MeshAnimator()
    posed, worn = _another(analyse_portrait(load_image(photo)), seed, restyled, people)
    identity: MeshIdentity = animator.prepare(posed)
    renderer = animator.renderer(identity)
    buffers = FrameBuffers.for_basis(renderer.basis)
    drawn: list[Bytes] = []
    for motion in _lively(motions, identity.rest, random):
        frame = np.empty((SIZE, SIZE, 3), np.uint8)
        renderer.draw(motion, buffers, frame)
        if worn is not None:
            frame = worn.draw(frame, _moved(posed.fit, identity, motion), buffers.projected)
        drawn.append(frame)
    points = np.full((len(drawn), 478, 2), np.nan, np.float32)
    for n, frame in enumerate(drawn):
        faces = find_faces(frame)
        if len(faces) >= 1:
            points[n] = faces[0].points
    valid = np.asarray(np.isfinite(points).all(axis=(1, 2)))
    portrait, chosen = _drawn_portrait(drawn, valid, random, photo.stem)
    matrix = portrait.crop_from_image
    points = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    motion = fitted_motion(points, valid, portrait.fit)
    box = box_of(portrait)
    frames = ((n, cut(frame, box)) for n, frame in enumerate(drawn))
    return Scene(f"{photo.stem}.{chosen}.{seed}", portrait, motion, points, frames)


def _another(
    portrait: Portrait, seed: int, share: float, people: Sequence[HairDonor]
) -> tuple[Portrait, Worn | None]:
    """The portrait, with the chance ``share`` restyled, and what it wears. The geometry stays."""
    chance = np.random.default_rng([seed, 1])  # its own: motion is the same with and without
    if chance.random() >= share:
        return portrait, None
    # Only the crop is ever drawn: it becomes the picture, whatever size the photo has.
    whole = Picture(portrait.crop, portrait.crop_alpha, portrait.picture.source)
    portrait = replace(portrait, picture=whole, crop_from_image=np.eye(2, 3))
    changed = restyle(whole, portrait, chance, people)
    return replace(portrait, picture=changed.picture, crop=changed.picture.rgb), changed.worn


def _moved(fit: FaceFit, identity: MeshIdentity, motion: Float) -> FaceFit:
    """The portrait's fit with its head where ``motion`` [72] puts it."""
    head = head_motion(motion, identity.pivot, float(identity.scale[1]))
    rotation, shift = head[:, :3], head[:, 3]
    return replace(fit, rotation=rotation @ fit.rotation, translation=rotation @ fit.translation + shift)


def _lively(motions: Sequence[Float], rest: Float, random: np.random.Generator) -> Iterator[Float]:
    """Tracked motion about ``rest`` with a wandering head, gaze and some held expression."""
    held = np.zeros(MOTION.size, np.float32)
    for motion in motions:
        if random.random() < 0.5:
            for name in random.choice(_HELD, 2, replace=False):
                for column in (f"{name}Left", f"{name}Right"):
                    if column in MOTION.names:
                        held[MOTION.index(column)] = random.uniform(0.2, 0.8)
        away = np.zeros(MOTION.size, np.float32)
        away[MOTION.rotation] = random.normal(0.0, np.radians([7.0, 12.0, 5.0]))
        away[MOTION.gaze] = random.normal(0.0, np.radians([5.0, 10.0]))
        gain = random.uniform(0.8, 1.4)
        for n, row in enumerate(motion):
            moved = row.copy()
            moved[MOTION.expression] = np.clip(gain * row[MOTION.expression] + held[MOTION.expression], 0, 1)
            moved[64:] += away[64:] * np.float32(np.sin(np.pi * (n + 1) / len(motion)))
            moved[64:] += rest[64:]
            yield moved
        held *= 0.0


_HELD = ("mouthSmile", "browDown", "browOuterUp", "mouthFrown", "eyeSquint", "mouthStretch")


def _drawn_portrait(
    drawn: Sequence[Bytes], valid: NDArray[np.bool_], random: np.random.Generator, name: str
) -> tuple[Portrait, int]:
    """One of the drawn frames as the portrait. Raises FaceError where none can be one."""
    for n in random.permutation(np.flatnonzero(valid))[:6].tolist():
        try:
            return analyse_portrait(Picture(drawn[n], source=name)), int(n)
        except FaceError:
            continue
    raise FaceError(f"no drawn frame of {name} can be a portrait")


# -- synthetic people --------------------------------------------------------------------------


def people_scene(name: str, frames: NDArray[np.uint8]) -> Scene:
    """One synthetic person: ``frames`` uint8 [K, S, S, 3], the first one the portrait.

    Raises:
        FaceError: the first frame cannot be a portrait.
    """
    portrait = analyse_portrait(Picture(np.ascontiguousarray(frames[0]), source=name))
    box, points = box_of(portrait), np.full((len(frames), 478, 2), np.nan, np.float32)
    crops = [cut(np.ascontiguousarray(frame), box) for frame in frames]
    for k, crop in enumerate(crops):
        faces = find_faces(crop)
        if faces:
            points[k] = faces[0].points
    valid = np.asarray(np.isfinite(points).all(axis=(1, 2)))
    # Each frame by itself: they do not follow one another, so nothing may be smoothed over them.
    motion = np.full((len(frames), MOTION.size), np.nan, np.float32)
    for k in np.flatnonzero(valid).tolist():
        motion[k] = fitted_motion(points[k : k + 1], valid[k : k + 1], portrait.fit)[0]
    return Scene(name, portrait, motion, points, iter(list(enumerate(crops))), held=True)


# -- command -----------------------------------------------------------------------------------


def _manifest(data: Path, folder: str, split: str) -> list[str]:
    """Paths of the manifest's items in ``folder`` that belong to ``split``; training asks ``use`` too."""
    with (data / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith(f"{folder}/")]
    if split == "train":
        return [row["path"] for row in rows if row["use"] == "train"]
    return [row["path"] for row in rows if row["split"] == split]


def _load(tracks: Path, path: str) -> dict[str, NDArray[np.generic]] | None:
    name = path.removeprefix("talking/").replace("/", "__") + ".npz"
    if not (tracks / name).exists():
        return None
    with np.load(tracks / name) as file:
        return {key: file[key] for key in file.files}


def _real(args: argparse.Namespace) -> Iterator[tuple[str, Path, dict[str, NDArray[np.generic]], int, int]]:
    """(name, clip, track, portrait frame, frames wanted) of every real scene."""
    paths = _manifest(args.data, "talking", args.split)
    if args.split == "dev":
        paths += _manifest(args.data, "driving", "dev")
    short = [p for p in paths if "/grid_s1/" in p]
    kept = set(short[:: max(1, len(short) // max(args.sentences, 1))]) if args.sentences else set()
    for path in paths:
        if "/grid_s1/" in path and path not in kept:
            continue
        track = _load(args.tracks, path)
        if track is None:
            continue
        long = "/grid_s1/" not in path
        for frame in portraits_in(track, args.portraits if long else 1):
            name = f"{path.replace('/', '__')}.{frame}"
            yield name, args.data / path, track, frame, args.frames if long else args.frames // 6


def _motions(args: argparse.Namespace, count: int, seed: int) -> list[Float]:
    """Random pieces of 8 frames from tracks that may train."""
    random = np.random.default_rng(seed)
    paths = _manifest(args.data, "talking", "train")
    pieces: list[Float] = []
    while len(pieces) < count:
        track = _load(args.tracks, str(random.choice(paths)))
        if track is None:
            continue
        motion = np.asarray(track["motion"], np.float32)
        t = int(random.integers(0, max(1, len(motion) - 8)))
        piece = motion[t : t + 8]
        if len(piece) == 8 and np.isfinite(piece).all():
            pieces.append(piece)
    return pieces


def _write(args: argparse.Namespace, name: str, scene: Scene, count: int) -> str:
    valid = np.isfinite(scene.motion).all(1) & np.isfinite(scene.points).all((1, 2))
    valid &= np.abs(np.nan_to_num(scene.motion)).max(1) < _LOST
    wanted = np.flatnonzero(valid).tolist() if scene.held else _runs(valid, count)
    written = write_scene(scene, args.out / name, wanted, args.side, not args.plain)
    return f"{name}: {written} frames"


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 if nothing could be written."""
    parser = argparse.ArgumentParser(
        prog="visavis train heads", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with MANIFEST.csv")
    parser.add_argument("--tracks", type=Path, required=True, help="what `visavis track` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of scenes; existing ones are kept")
    parser.add_argument("--split", choices=("train", "dev"), default="train")
    parser.add_argument("--portraits", type=int, default=5, help="portraits per long clip")
    parser.add_argument("--frames", type=int, default=120, help="frames per scene of a long clip")
    parser.add_argument("--sentences", type=int, default=60, help="short sentence clips of the one reader")
    parser.add_argument("--photos", type=int, default=2, help="scenes per training portrait")
    parser.add_argument("--side", type=int, default=LITE.side, help="px of the face region (base: 512)")
    parser.add_argument("--plain", action="store_true", help="guides without painted mouth and eyes")
    parser.add_argument(
        "--people",
        type=Path,
        help="shards of `visavis train synth`: their people too, and their hair on photos",
    )
    parser.add_argument("--most-people", type=int, default=150)
    parser.add_argument(
        "--restyle", type=float, default=0.65, metavar="SHARE",
        help="photo scenes with another skin, light, hair, glasses or style (0: none)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    done = 0
    for name, clip, track, frame, count in tqdm(list(_real(args)), "clips"):
        done += _once(args, name, lambda c=clip, t=track, f=frame: real_scene(c, t, f), count)
    photos = _manifest(args.data, "portraits", "train") if args.split == "train" else []
    donors = donors_of(args.people) if args.people and args.restyle and photos else []
    for path in tqdm(photos, "photos"):
        for k in range(args.photos):
            seed = crc32(path.encode()) % 10000 + k
            name = f"{path.replace('/', '__')}.{k}"
            done += _once(
                args, name,
                lambda p=path, s=seed: photo_scene(
                    args.data / p, _motions(args, 12, s), s, args.restyle, donors
                ),
                args.frames,
            )  # fmt: skip
    for name, frames in _people(args) if args.people else ():
        done += _once(args, name, lambda n=name, f=frames: people_scene(n, f), 0)
    return 0 if done else 1


def _people(args: argparse.Namespace) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(name, frames) of synthetic people."""
    left = args.most_people
    for shard in open_shards(args.people):
        person = np.asarray(shard["person"])
        for one in np.unique(person)[: max(left, 0)].tolist():
            left -= 1
            yield f"people__{one:06d}", np.asarray(shard["frames"][person == one])


def _once(args: argparse.Namespace, name: str, make, count: int) -> int:  # type: ignore[no-untyped-def]
    """Write one scene unless it is there; 1 if it is there in the end."""
    if (args.out / name / "meta.json").exists():
        return 1
    try:
        print(_write(args, name, make(), count), flush=True)
    except VisavisError as error:
        print(f"{name}: left out: {error}", flush=True)
        return 0
    return int((args.out / name / "meta.json").exists())


if __name__ == "__main__":
    raise SystemExit(main())
