"""Self-reenactment: how near an animator's pictures come to the real video.

    python -m benchmarks.quality.animator --data DIR --tracks TRACKS [--split test] [--save]
        [--animator mesh ...] [--clip NAME ...] [--sheet out/animator.png]

The portrait is the clip's first usable frame (sure, frontal, eyes open), the motion that of the clip as
:func:`engine.face.reenact.fitted_motion` gives it, the crop the portrait's for all frames. ``TRACKS`` is what
``visavis track`` wrote. 48 frames a clip are measured, in four runs of twelve in which the track is sure
of the face. Metrics: :mod:`benchmarks.quality.pictures` and :mod:`benchmarks.quality.faces`; SSIM, PSNR and
CPBD of the whole crop at 256 x 256 as the papers have them, those of face and mouth at 512 x 512. Faces of
small clips are enlarged: ``scale`` says by how much.

Rows: ``real`` (its own sharpness, jitter and flicker), ``motion`` (the landmarks that the motion describes,
before any drawing), ``floor`` (the real frames under a grain of two levels: what detector and fitter call a
difference where there is none; its flicker is the grain), ``still`` (the portrait, unmoved), ``mesh``, and
every other animator a recipe can name. Below: on how many clips a row beats ``mesh``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import faces, pictures
from benchmarks.quality.reenacted import (
    STILL,
    Scene,
    animate,
    list_clips,
    make_animators,
    open_scene,
)
from benchmarks.quality.report import METRICS, PAPERS, groups_of, mean_rows, report
from benchmarks.quality.storyboard import strip, write_pages
from benchmarks.records import append_line
from engine.errors import FaceError, InputError, VisavisError
from engine.face.crop import CROP_SIDE
from engine.face.landmarks import LandmarkModel
from engine.face.reenact import landmarks_shown
from engine.stage import Animator
from engine.train.provenance import commit

__all__ = ["main", "measure", "measure_motion", "measure_real"]

Bytes = NDArray[np.uint8]
Row = dict[str, float]

RESULTS = Path(__file__).resolve().parents[1] / "results" / "animator.jsonl"
PAPERS_SIDE = 256


def _small(frame: Bytes) -> Bytes:
    return np.asarray(cv2.resize(frame, (PAPERS_SIDE, PAPERS_SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _pixels(scene: Scene, made: list[Bytes], looks: faces.Looks) -> Row:
    """Means over frames of what is measured on single pictures."""
    rows = []
    for k, (mine, real) in enumerate(zip(made, scene.frames, strict=True)):
        face = faces.face_mask(scene.looks.points[k], CROP_SIDE)
        mouth = faces.mouth_mask(scene.looks.points[k], CROP_SIDE)
        similar = pictures.ssim_map(mine, real)
        own = faces.face_mask(looks.points[k], CROP_SIDE)
        rows.append(
            {
                "ssim": float(pictures.ssim_map(_small(mine), _small(real)).mean()),
                "ssim_face": pictures.mean_in(similar, face),
                "ssim_mouth": pictures.mean_in(similar, mouth),
                "psnr": pictures.psnr(_small(mine), _small(real)),
                "psnr_face": pictures.psnr(mine, real, face),
                "colour": pictures.colour_distance(mine, own, real, face),
                "cpbd": pictures.cpbd(_small(mine)),
                "cpbd_512": pictures.cpbd(mine),
            }
        )
    return {key: float(np.nanmean([row[key] for row in rows])) for key in rows[0]}


def _trembling(scene: Scene, frames: list[Bytes]) -> tuple[float, float]:
    """(generated, real) flicker over all runs."""
    masks = [faces.face_mask(points, CROP_SIDE) for points in scene.looks.points]
    found = np.array([pictures.flicker(frames[r], scene.frames[r], masks[r]) for r in scene.runs])
    kept = found[np.isfinite(found).all(axis=1)]
    return (float(kept[:, 0].mean()), float(kept[:, 1].mean())) if len(kept) else (float("nan"), float("nan"))


def measure(scene: Scene, made: list[Bytes], model: LandmarkModel) -> Row:
    """Every metric of the frames ``made`` for a scene."""
    fit, unit = scene.source.portrait.fit, scene.unit_px
    looks = faces.look(made, scene.source.points[scene.shown], fit, model)
    own, real = (faces.jitter(v, scene.runs, unit) for v in (looks, scene.looks))
    return {
        **_pixels(scene, made, looks),
        "lmd": faces.lmd(looks, scene.looks, unit),
        "lmd_m": faces.lmd_mouth(looks, scene.looks, unit),
        "gaze_deg": faces.gaze_error(looks, scene.looks),
        "blink": faces.blink_error(looks, scene.looks),
        "pose_deg": faces.pose_error(looks, scene.looks),
        "shape_mm": faces.shape_distance(looks, scene.looks, CROP_SIDE),
        "jitter": own,
        "jitter_excess": own - real,
        "jitter_error": faces.jitter_error(looks, scene.looks, scene.runs, unit),
        "flicker": _trembling(scene, made)[0],
        "found": float(looks.found.mean()),
    }


def measure_real(scene: Scene) -> Row:
    """What the real frames have by themselves."""
    return {
        "cpbd": float(np.nanmean([pictures.cpbd(_small(frame)) for frame in scene.frames])),
        "cpbd_512": float(np.nanmean([pictures.cpbd(frame) for frame in scene.frames])),
        "jitter": faces.jitter(scene.looks, scene.runs, scene.unit_px),
        "flicker": _trembling(scene, scene.frames)[1],
        "found": float(scene.looks.found.mean()),
        "scale": scene.source.box.scale,
        "frames": float(len(scene.shown)),
    }


def measure_motion(scene: Scene) -> Row:
    """How far the landmarks that the motion itself describes are from the real ones."""
    source = scene.source
    shown = landmarks_shown(source.motion[scene.shown], source.portrait.fit)
    return {
        "lmd": faces.landmark_distance(shown, scene.looks.points, scene.unit_px),
        "lmd_m": faces.mouth_distance(shown, scene.looks.points, scene.unit_px),
    }


def _measure_clip(
    scene: Scene, animators: Mapping[str, Animator | None], model: LandmarkModel
) -> tuple[dict[str, Row], dict[str, list[Bytes]]]:
    """Rows by name, and the pictures behind them."""
    rows, shown = {"real": measure_real(scene), "motion": measure_motion(scene)}, {}
    rng = np.random.default_rng(0)
    rows["floor"] = measure(scene, [pictures.grainy(frame, rng) for frame in scene.frames], model)
    for name, animator in animators.items():
        shown[name] = animate(animator, scene)
        rows[name] = measure(scene, shown[name], model)
    return rows, shown


def _record(
    clips: Mapping[str, Mapping[str, Row]], split: Sequence[str], seconds: float
) -> dict[str, object]:
    """One JSON line: means by group, and per clip the values in the order of ``metrics``."""

    def brief(value: float) -> float | None:
        return float(f"{value:.4g}") if np.isfinite(value) else None

    keys = [m.key for m in METRICS]
    return {
        "benchmark": "animator_quality",
        "commit": commit(),
        "split": list(split),
        "seconds": round(seconds, 1),
        "metrics": keys,
        "rows": {
            group: {
                name: {k: brief(v) for k, v in row.items()} for name, row in mean_rows(clips, members).items()
            }
            for group, members in groups_of(clips).items()
        },
        "clips": {
            clip: {name: [brief(row.get(k, float("nan"))) for k in keys] for name, row in rows.items()}
            for clip, rows in clips.items()
        },
        "papers": PAPERS,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with MANIFEST.csv")
    parser.add_argument("--tracks", type=Path, required=True, help="what 'visavis track' wrote")
    parser.add_argument("--split", nargs="+", default=["test"])
    parser.add_argument("--clip", nargs="+", default=[], help="only clips whose name holds one of these")
    parser.add_argument("--animator", nargs="+", help="names, NAME=MODULE:MAKER; default: all")
    parser.add_argument("--sheet", type=Path, help="PNG of real and generated frames; pages are numbered")
    parser.add_argument("--save", action="store_true", help=f"append the JSON line to {RESULTS.name}")
    return parser


def run(args: argparse.Namespace) -> dict[str, dict[str, Row]]:
    """Rows by clip; writes the sheet, if one is wanted, as it goes."""
    clips = list_clips(args.data, args.tracks, args.split)
    clips = [c for c in clips if not args.clip or any(part in c.name for part in args.clip)]
    animators: dict[str, Animator | None] = {STILL: None, **make_animators(args.animator)}
    model = LandmarkModel()
    found: dict[str, dict[str, Row]] = {}
    strips: list[Bytes] = []
    for clip in clips:
        begun = time.perf_counter()
        try:
            scene = open_scene(clip, model)
        except (FaceError, InputError) as error:
            print(f"{clip.name} is left out: {error}", file=sys.stderr)
            continue
        found[clip.name], shown = _measure_clip(scene, animators, model)
        if args.sheet is not None:
            strips.append(strip(scene, {name: made for name, made in shown.items() if name != STILL}))
        print(f"{clip.name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
    if not found:
        raise InputError(f"no tracked clip of {', '.join(args.split)} can be measured")
    for page in write_pages(args.sheet, strips) if strips else []:
        print(page, file=sys.stderr)
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 where nothing can be measured."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(1)
    begun = time.perf_counter()
    try:
        clips = run(args)
    except VisavisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report(clips))
    line = json.dumps(_record(clips, args.split, time.perf_counter() - begun), separators=(",", ":"))
    if args.save:
        append_line(RESULTS, line)
    print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
