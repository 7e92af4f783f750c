"""How well a clip is tracked whose motion is known.

    python -m benchmarks.tracking [--photo PICTURE] [--seconds 12] [--results FILE]
    python -m benchmarks.tracking --tracks TRACKS [--results FILE]

The motion: lips, jaw and cheeks that the shipped speech sampler gives a bundled voice; a full blink every
2.4 s; raised and lowered brows; slow turns of head and eyes. It is shown in two ways and tracked by
:func:`engine.face.clip.fit_clip`:

* **landmarks**: the portrait's person moves in the face basis, and its landmarks are projected and given
  the detector's scatter (:data:`SCATTER` of the inter-ocular distance, white). This is the fitter alone.
* **pixels**: the mesh animator draws the portrait, and the face is found in the drawn pictures. This
  contains the animator's errors too: what it does not draw cannot be found; a warped photo keeps
  the light and the outline of the pose it was taken in, and the landmark network, which knows real
  faces, reports turns smaller than they were.

Both motions are compared relative to their own rest, as :mod:`engine.face.clip` defines it:

* **mae**, **r**, **slope**: mean absolute error, correlation and regression slope (found on known) by group,
  mean over columns; ``still`` is the error of no motion at all, for comparison.
* **lips_mm**: mean distance of the lip landmarks of the mean head under both motions, front view, each
  relative to its own median mouth (a portrait's smile is not the tracker's error); likewise ``still``.
* **closures**: opening of the mouth, inter-ocular distances, at the known closures (known, found), and F1.

With ``--tracks``, real clips that `visavis track` wrote are fitted again from their landmarks in three
ways: with the person taken from one frame, from several frames without smoothing, and as shipped. There
is no truth here; what is told is the **residual** (mean landmark distance, % inter-ocular), the mouth's
**opening** at the real closures (landmarks' own opening beside it), the **blink** units at the peaks of
the lids' own blink curve, and the **tremble**: deviation of second differences of rotation (degrees), brows
and jaw.

One JSON line comes last.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.quality import closures, match_events, pearson
from benchmarks.records import append_line
from engine.animators.mesh.animator import MeshAnimator
from engine.config import asset_path
from engine.face.attention import LIPS_MESH
from engine.face.basis import load_basis
from engine.face.clip import REST_QUANTILE, ClipFit, choose_frames, fit_clip
from engine.face.fitter import IRIS_DEPTH, IS_RELATIVE, NECK_PIVOT, FaceFit, eye_centres, fit_face
from engine.face.image import load_image
from engine.face.landmarks import FaceTracker, mouth_opening
from engine.face.portrait import analyse_portrait
from engine.face.video import read_audio
from engine.train.mouth_geometry import landmarks_of, opening_of
from engine.train.provenance import commit
from engine.types import EXPRESSION_NAMES, MOTION, Cond, MotionChunk

__all__ = ["Rendered", "compare", "known_motion", "main", "project", "render", "track"]

Floats = NDArray[np.float32]

GROUPS = {
    "jaw": ("jawOpen",),
    "lips": ("mouth", "lipsSealed"),
    "brows": ("brow",),
    "blink": ("eyeBlink",),
    "rotation_deg": ("rx", "ry", "rz"),
    "place_percent": ("tx", "ty"),
    "distance_percent": ("tz",),
    "gaze_deg": ("gaze",),
}
_UNITS = {"deg": float(np.degrees(1.0)), "percent": 100.0}
_PX_PER_MM = 4.0  # landmarks_of draws 40 px per cm

SCATTER = 0.004
"""Deviation of a landmark per axis, inter-ocular distances."""


@dataclass(frozen=True)
class Rendered:
    """``points`` [T, 478, 2] px and ``valid`` [T] as tracked in pictures of side ``size``."""

    points: Floats
    valid: NDArray[np.bool_]
    size: int


def known_motion(rest: Floats, frames: int, spoken: Floats) -> Floats:
    """[T, 72] relative to nothing: what the animator is given.

    ``rest`` [72] is the portrait's own motion, ``spoken`` [T', 72] gives mouth and jaw.
    """
    t = np.arange(frames) / 25.0
    motion = np.tile(rest, (frames, 1))
    mouth = [k for k, n in enumerate(EXPRESSION_NAMES) if n.startswith(("jaw", "mouth", "lips"))]
    motion[:, mouth] = np.resize(spoken, (frames, MOTION.size))[:, mouth]
    lid = np.clip(1.0 - np.abs((np.arange(frames) + 30) % 60 - 30) / 3.0, 0.0, 1.0)
    up = np.clip(np.sin(2 * np.pi * t / 3.7), 0.0, 1.0) ** 2
    down = np.clip(-np.sin(2 * np.pi * t / 3.7), 0.0, 1.0) ** 2
    for side in ("Left", "Right"):
        motion[:, MOTION.index("eyeBlink" + side)] += lid
        motion[:, MOTION.index("browOuterUp" + side)] += 0.5 * up
        motion[:, MOTION.index("browDown" + side)] += 0.5 * down
    motion[:, MOTION.index("browInnerUp")] += 0.5 * up
    turns = {"rx": (5.0, 2.3), "ry": (10.0, 4.1), "rz": (5.0, 3.1), "gazeYaw": (10.0, 2.9)}
    turns["gazePitch"] = (6.0, 3.5)
    for name, (degrees, period) in turns.items():
        motion[:, MOTION.index(name)] += np.radians(degrees) * np.sin(2 * np.pi * t / period)
    for name, size in (("tx", 0.05), ("ty", 0.03), ("tz", 0.1)):
        motion[:, MOTION.index(name)] += size * np.sin(2 * np.pi * t / 5.3)
    motion[:, MOTION.expression] = np.clip(motion[:, MOTION.expression], 0.0, 1.0)
    return motion.astype(np.float32)


def render(animator: MeshAnimator, identity: Any, motion: Floats) -> Rendered:
    """Draw ``motion`` [T, 72] and follow the face through the pictures."""
    state = animator.init_state(1, Cond.for_identity(identity))
    tracker = FaceTracker()
    points = np.full((len(motion), 478, 2), np.nan, np.float32)
    side = 0
    for t, row in enumerate(motion):
        drawn = animator.step(MotionChunk(t, torch.from_numpy(row)[None, None]), state).data[0, 0].numpy()
        side = drawn.shape[0]
        if (face := tracker.track(np.asarray(drawn))) is not None:
            points[t] = face.points
    return Rendered(points, np.asarray(np.isfinite(points).all(axis=(1, 2))), side)


def project(person: FaceFit, motion: Floats, side: int = 512, seed: int = 0) -> Rendered:
    """Landmarks of ``person`` under ``motion`` [T, 72], with the detector's scatter."""
    basis = load_basis()
    centres = eye_centres(person.identity, person.correction)
    points = np.zeros((len(motion), 478, 2), np.float32)
    for t, row in enumerate(motion):
        turn = Rotation.from_rotvec(row[MOTION.rotation]).as_matrix() @ person.rotation
        pivot = person.to_camera(NECK_PIVOT) + row[MOTION.translation] * person.interocular_cm
        posed = replace(person, rotation=turn, translation=pivot - turn @ NECK_PIVOT)
        points[t, :468] = posed.project(basis.at_landmarks(person.vertices(row[MOTION.expression])))[:, :2]
        pitch, yaw = row[MOTION.gaze] + person.gaze
        way = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        irises = posed.project((centres + IRIS_DEPTH * way).astype(np.float32))[:, :2]
        points[t, 473:], points[t, 468:473] = irises[0], irises[1]
    noise = np.random.default_rng(seed).normal(0.0, SCATTER * person.interocular_px, points.shape)
    return Rendered((points + noise).astype(np.float32), np.ones(len(motion), np.bool_), side)


def track(rendered: Rendered) -> ClipFit:
    """The fit under test."""
    return fit_clip(rendered.points, rendered.valid, (rendered.size, rendered.size))


def _at_rest(motion: Floats) -> Floats:
    """``motion`` [T, 72] relative to its own rest, as :mod:`engine.face.clip` defines it."""
    out = motion.copy()
    relative = np.flatnonzero(IS_RELATIVE)
    out[:, relative] -= np.quantile(motion[:, relative], REST_QUANTILE, axis=0)
    for columns in (MOTION.pose, MOTION.gaze):
        out[:, columns] -= np.median(motion[:, columns], axis=0)
    return out


def compare(known: Floats, fit: ClipFit) -> dict[str, Any]:
    """Errors of ``fit`` against ``known`` [T, 72]; see the module's docstring."""
    seen = np.isfinite(fit.motion).all(axis=1)
    real, found = _at_rest(known[seen]), _at_rest(fit.motion[seen])
    result: dict[str, Any] = {"frames": len(known), "seen": int(seen.sum())}
    for group, starts in GROUPS.items():
        columns = [k for k, n in enumerate(MOTION.names) if n.startswith(starts)]
        unit = next((v for end, v in _UNITS.items() if group.endswith(end)), 1.0)
        moving = [k for k in columns if real[:, k].std() > 0.02 * (1.0 if unit == 1.0 else 0.1)]
        pairs = [(real[:, k].astype(np.float64), found[:, k].astype(np.float64)) for k in moving]
        result[group] = {
            "mae": round(unit * float(np.abs(real - found)[:, columns].mean()), 3),
            "still": round(unit * float(np.abs(real)[:, columns].mean()), 3),
            "r": round(float(np.mean([pearson(a, b) for a, b in pairs])), 3),
            "slope": round(float(np.mean([np.polyfit(a, b, 1)[0] for a, b in pairs])), 3),
        }
    blink = known[seen, MOTION.index("eyeBlinkLeft")]
    result["blink_curve_r"] = round(pearson(blink.astype(float), fit.blink[seen].astype(float)), 3)
    result["residual_percent"] = round(float(np.nanmean(fit.residual)), 3)
    result.update(_mouth(real, found))
    return result


def _mouth(real: Floats, found: Floats) -> dict[str, Any]:
    lips = list(LIPS_MESH)
    drawn = [landmarks_of(m)[:, lips] / _PX_PER_MM for m in (real, found)]
    a, b = (mouth - np.median(mouth, axis=0) for mouth in drawn)
    openings = [opening_of(m).astype(np.float64) for m in (real, found)]
    shut = closures(openings[0])
    return {
        "lips_mm": round(float(np.linalg.norm(a - b, axis=2).mean()), 3),
        "lips_mm_still": round(float(np.linalg.norm(a, axis=2).mean()), 3),
        "opening_r": round(pearson(*openings), 3),
        "opening_amplitude": round(float(openings[1].std() / openings[0].std()), 3),
        "closure_opening": [round(float(o[shut].mean()), 4) if len(shut) else None for o in openings],
        "closure_f1": round(match_events(closures(openings[1]), shut).f1, 3),
    }


def spoken_motion(seconds: float) -> Floats:
    """[T, 72] of the shipped speech sampler for the bundled voice."""
    from benchmarks.quality.lips import build_pipeline, drive

    audio = read_audio(asset_path("demo/voice_a.wav"))[: int(16_000 * seconds)]
    return drive(build_pipeline(), audio[: len(audio) // 640 * 640])


def measure(photo: Path, seconds: float) -> dict[str, Any]:
    """Both ways of showing one portrait's known motion."""
    portrait = analyse_portrait(load_image(photo))
    animator = MeshAnimator()
    identity = animator.prepare(portrait)
    spoken = spoken_motion(seconds)
    motion = known_motion(identity.rest, int(25 * seconds), spoken)
    return {
        "landmarks": compare(motion, track(project(portrait.fit, motion))),
        "pixels": compare(motion, track(render(animator, identity, motion))),
    }


def real_clips(folder: Path, most: int = 150) -> dict[str, Any]:
    """One-frame person, several frames, and several frames with smoothing on up to ``most`` frames of every
    clip in ``folder``, the 480 sentences of GRID's first speaker left out; means over clips."""
    rows: dict[str, list[dict[str, float]]] = {"one_frame": [], "unsmoothed": [], "shipped": []}
    for path in sorted(folder.glob("*.npz")):
        if path.name.startswith("grid_s1__"):
            continue
        with np.load(path) as file:
            points, valid = file["points"][:most], file["valid"][:most]
            height, width = (int(side) for side in file["size"])
        if valid.sum() < 25:
            continue
        first = points[choose_frames(points, valid)[0]]
        alone = fit_face(first, (width, height))
        fits = {
            "one_frame": fit_clip(points, valid, (width, height), alone, steady=False),
            "unsmoothed": fit_clip(points, valid, (width, height), steady=False),
            "shipped": fit_clip(points, valid, (width, height)),
        }
        for name, fit in fits.items():
            rows[name].append(_steadiness(points, valid, fit))
    return {
        name: {"clips": len(members)} | {key: _mean([m[key] for m in members]) for key in members[0]}
        for name, members in rows.items()
    }


def _mean(values: list[float]) -> float:
    return round(float(np.nanmean(values)), 4)


def _steadiness(points: Floats, valid: NDArray[np.bool_], fit: ClipFit) -> dict[str, float]:
    real = np.where(valid, mouth_opening(points), np.nan).astype(np.float64)
    made = opening_of(np.nan_to_num(fit.motion)).astype(np.float64)
    shut = closures(real)
    lids = np.nan_to_num(fit.blink)
    peaks = [t for t in range(1, len(lids) - 1) if lids[t] > 0.7 and lids[t - 1] < lids[t] >= lids[t + 1]]
    blink = fit.motion[:, [MOTION.index("eyeBlinkLeft"), MOTION.index("eyeBlinkRight")]].mean(axis=1)
    bends = np.diff(fit.motion, 2, axis=0)
    brows = [k for k, name in enumerate(MOTION.names) if name.startswith("brow")]
    return {
        "residual_percent": float(np.nanmean(fit.residual)),
        "opening_r": pearson(made, real),
        "closure_real": float(real[shut].mean()) if len(shut) else float("nan"),
        "closure_made": float(made[shut].mean()) if len(shut) else float("nan"),
        "blink_peak": float(blink[peaks].mean()) if peaks else float("nan"),
        "blinks": float(len(peaks)),
        "tremble_deg": float(np.degrees(np.nanstd(bends[:, MOTION.rotation], axis=0).mean())),
        "tremble_brows": float(np.nanstd(bends[:, brows], axis=0).mean()),
        "tremble_jaw": float(np.nanstd(bends[:, MOTION.index("jawOpen")])),
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photo", type=Path, default=asset_path("demo/astronaut.png"))
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--results", type=Path, default=None, help="append the JSON line to this file")
    parser.add_argument("--tracks", type=Path, default=None, help="measure these real clips instead")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.tracks is None:
        measured = measure(args.photo, args.seconds)
        result = {"benchmark": "tracking", "photo": args.photo.name} | measured
    else:
        measured = real_clips(args.tracks)
        result = {"benchmark": "tracking_real"} | measured
    result |= {"machine": platform.machine(), "commit": commit()}
    for way, rows in measured.items():
        print(way)
        for key, value in rows.items():
            print(f"  {key:18s} {value}")
    line = json.dumps(result)
    if args.results is not None:
        append_line(args.results, line)
    print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
