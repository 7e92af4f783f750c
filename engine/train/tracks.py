"""Real video to motion: one face through every clip, fitted to the face basis, with its sound.

    visavis track VIDEO... FOLDER... --out TRACKS
    visavis track --data DIR --out TRACKS          # DIR/talking and DIR/driving
    python -m engine.train.tracks --data DIR --out TRACKS

Writes one file per clip. Its name is the clip's path relative to the folder it was found in, with ``/``
replaced by ``__`` and its suffix kept: ``talking/grid_s1/srwc1a.mp4`` becomes
``grid_s1__srwc1a.mp4.npz``, ``driving/d0.mp4`` of a data folder ``driving__d0.mp4.npz``. Everything is
at 25 frames/s whatever the video's own rate. Arrays:

============  =====================  ===========================================================
points        float32 [T, 478, 2]    landmarks, px of the clip (MediaPipe's numbering); NaN before
                                     the first face, the last ones where there is none
score         float32 [T]            0..1 face presence, 0 where no face was found
valid         bool [T]               the face was found in this very frame, in the shot that is kept,
                                     and fits: frames whose residual makes the confidence 0 (broken
                                     pictures in which a network sees a face) are left out
opening       float32 [T]            :func:`engine.face.landmarks.mouth_opening` (NaN as in points)
motion        float32 [T, 72]        :data:`engine.types.MOTION` (expression 64, pose 6, gaze 2)
                                     relative to the clip's rest (:mod:`engine.face.clip` defines it);
                                     rows NaN where not ``valid``
rest          float32 [72]           that rest: absolute values of the units of ``IS_RELATIVE``, head
                                     rotation from facing the camera (axis-angle, rad), absolute
                                     gaze; 0 elsewhere. ``motion + rest`` is absolute (rotations
                                     nearly so)
blink         float32 [T]            0 open .. 1 shut, both eyes, from the lids; NaN as motion
confidence    float32 [T]            0..1, product of three: face presence (1 from 0.9, 0 at 0.5),
                                     landmark residual (1 up to 2.5 medians of the clip or 1 % of the
                                     inter-ocular distance, 0 at three times that), turn (1 up to 35
                                     degrees of yaw, 0 at 70); 0 where not ``valid``
residual      float32 [T]            mean landmark distance of the fitted face, % inter-ocular
identity      float32 [80]           the person, one for the clip
audio         int16 [640 T]          16 kHz mono, sample 640 n is where frame n starts
has_audio     bool []                false: no sound track, ``audio`` is silence
shots         int32 [S, 2]           first frame and end of every shot; the longest one is kept
fps           float64 []             25
size          int32 [2]              height, width of the clip, px
============  =====================  ===========================================================

A clip with several shots (a cut, or the tracker jumping to another person) keeps its longest one. Refused
and not written, each with its reason: no face in half of the longest shot's frames or no shot of a
second, a face under 20 px between the eyes, a head turned beyond 50 degrees for most of the time,
landmarks that fit no face, a file that cannot be read. No sound is fine.

The work is resumable: whole files are skipped, files appear whole or not at all, and ``report.csv`` in
the same folder tells what became of every clip; refused ones are tried again with ``--again`` only.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from engine.errors import AudioError, ConfigError, FaceError, InputError
from engine.face.clip import ClipFit, fit_clip
from engine.face.fitter import IS_RELATIVE
from engine.face.landmarks import mouth_opening
from engine.face.video import Track, read_audio, track_video
from engine.train.shots import eye_distance, find_shots
from engine.types import MOTION, samples_per_frame

__all__ = ["Outcome", "clip_name", "find_clips", "gather", "is_whole", "main", "track_clip"]

Floats = NDArray[np.float32]

SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg"}
LEAST_SEEN, LEAST_SECONDS, LEAST_EYES_PX = 0.5, 1.0, 20.0
MOST_YAW_DEG, MOST_RESIDUAL = 50.0, 6.0
REPORT = "report.csv"


@dataclass(frozen=True)
class Outcome:
    """One line of the report: ``state`` is ``tracked`` or ``refused``, ``note`` says why or what was cut."""

    name: str
    state: str
    note: str = ""
    seconds: float = 0.0
    seen: float = 0.0
    """share of the frames with the face that was kept"""
    confidence: float = 0.0
    residual_percent: float = 0.0
    yaw_deg: float = 0.0
    """median, absolute"""
    shots: int = 0
    has_audio: bool = False


@dataclass(frozen=True)
class _Tracked:
    """A clip in memory: everything that is written, and what refusals are judged by."""

    track: Track
    kept: NDArray[np.bool_]
    shots: list[slice]
    audio: Floats
    has_audio: bool
    fit: ClipFit | None


def find_clips(folder: Path) -> list[Path]:
    """Every video under ``folder``, at any depth, in order of name."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def clip_name(data: Path, clip: Path) -> str:
    """The file of a clip under ``data``/talking or /driving: ``grid/a.mp4`` → ``grid__a.mp4.npz``."""
    talking = data / "talking"
    inside = clip.relative_to(talking if clip.is_relative_to(talking) else data)
    return _flat(inside)


def _flat(inside: Path) -> str:
    return inside.as_posix().replace("/", "__") + ".npz"


def gather(inputs: list[Path], data: Path | None) -> dict[str, Path]:
    """File name by clip, in order, of videos, folders and a data folder.

    Raises:
        InputError: a path does not exist or holds no video, or two clips would get one name.
    """
    found: list[tuple[str, Path]] = []
    for path in inputs:
        if path.is_dir():
            found += [(_flat(clip.relative_to(path)), clip) for clip in find_clips(path)]
        elif path.is_file():
            found.append((path.name + ".npz", path))
        else:
            raise InputError(f"no video or folder {path}")
    if data is not None:
        found += [(clip_name(data, c), c) for part in ("talking", "driving") for c in find_clips(data / part)]
    if not found:
        raise InputError(f"no video in {', '.join(str(p) for p in [*inputs, *([data] if data else [])])}")
    named: dict[str, Path] = {}
    for name, clip in found:
        if named.setdefault(name, clip) != clip:
            raise InputError(f"{clip} and {named[name]} would both become {name}; track them separately")
    return named


def is_whole(target: Path) -> bool:
    """Whether ``target`` is a complete file of this version."""
    if not target.is_file():
        return False
    try:
        with np.load(target) as file:
            return {"motion", "confidence", "has_audio"} <= set(file.files)
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


# -- one clip ----------------------------------------------------------------------------------


def track_clip(clip: Path, target: Path) -> float:
    """Track ``clip``, write ``target`` atomically whatever it shows; returns the share of frames with a face.

    Raises :class:`~engine.errors.InputError` if there is no picture to be had.
    """
    tracked = _analyse(clip)
    _write(tracked, target)
    return float(tracked.kept.mean())


def _analyse(clip: Path) -> _Tracked:
    track = track_video(clip)
    try:
        audio, has_audio = read_audio(clip), True
    except AudioError:
        audio, has_audio = np.zeros(0, np.float32), False
    shots = find_shots(track.points, track.valid)
    kept = np.zeros(len(track), np.bool_)
    fit = None
    if shots:
        longest = max(shots, key=lambda shot: int(track.valid[shot].sum()))
        kept[longest] = track.valid[longest]
        fit = _fit(track, kept)
    if fit is not None:
        kept &= _fitting(fit.residual) > 0.0
        for curve in (fit.motion, fit.blink, fit.residual, fit.yaw):
            curve[~kept] = np.nan
    return _Tracked(track, kept, shots, _cut(audio, len(track)), has_audio, fit)


def _fit(track: Track, kept: NDArray[np.bool_]) -> ClipFit | None:
    height, width = track.size
    try:
        return fit_clip(track.points, kept, (width, height))
    except (FaceError, np.linalg.LinAlgError):
        return None


def _cut(audio: Floats, frames: int) -> Floats:
    """Cut or pad with silence to ``frames``."""
    length = int(frames * samples_per_frame())
    return np.pad(audio[:length], (0, max(0, length - len(audio))))


def refusal(tracked: _Tracked) -> str:
    """Why the clip is of no use; empty if it is."""
    kept, track, fit = tracked.kept, tracked.track, tracked.fit
    if not track.valid.any():
        return "no face"
    seconds = float(kept.sum()) / track.fps
    if seconds < LEAST_SECONDS:
        shots = f"; {len(tracked.shots)} shots" if len(tracked.shots) > 1 else ""
        return f"the face is seen for {seconds:.1f} s without a break only{shots}"
    longest = max(tracked.shots, key=lambda shot: int(track.valid[shot].sum()))
    share = float(kept[longest].mean())
    if share < LEAST_SEEN:
        return f"the face is seen in {100 * share:.0f} % of the frames only"
    size = float(np.median(eye_distance(track.points[kept])))
    if size < LEAST_EYES_PX:
        return f"the face is too small: {size:.0f} px between the eyes, at least {LEAST_EYES_PX:.0f} wanted"
    if fit is None:
        return "the landmarks fit no face"
    turned = float((np.abs(np.degrees(fit.yaw[kept])) > MOST_YAW_DEG).mean())
    if turned > 0.5:
        return f"the head is turned beyond {MOST_YAW_DEG:.0f} degrees in {100 * turned:.0f} % of the frames"
    residual = float(np.nanmedian(fit.residual))
    if residual > MOST_RESIDUAL:
        return f"the landmarks fit no face: {residual:.1f} % of the inter-ocular distance off"
    return ""


def confidence(score: Floats, fit: ClipFit) -> Floats:
    """float32 [T] 0..1, as the module's docstring says."""
    presence = np.clip((score - 0.5) / 0.4, 0.0, 1.0)
    fits = _fitting(fit.residual)
    facing = np.clip((70.0 - np.abs(np.degrees(fit.yaw))) / 35.0, 0.0, 1.0)
    return np.asarray(np.nan_to_num(presence * fits * facing), np.float32)


def _fitting(residual: Floats) -> Floats:
    """float32 [T], 1 for residuals [T] (%) usual in the clip, 0 for those of something else than its face."""
    usual = max(1.0, 2.5 * float(np.nanmedian(residual)))
    return np.asarray(np.nan_to_num(np.clip((3.0 * usual - residual) / (2.0 * usual), 0.0, 1.0)), np.float32)


def rest_of(fit: ClipFit) -> Floats:
    """float32 [72]: what ``motion`` is counted from."""
    rest = np.zeros(MOTION.size, np.float32)
    rest[MOTION.expression] = np.where(IS_RELATIVE, fit.person.expression, 0.0)
    rest[MOTION.rotation] = Rotation.from_matrix(fit.person.rotation).as_rotvec()
    rest[MOTION.gaze] = fit.person.gaze
    return rest


def _write(tracked: _Tracked, target: Path) -> None:
    track, fit = tracked.track, tracked.fit
    unseen = np.full(len(track), np.nan, np.float32)
    nobody = np.full((len(track), MOTION.size), np.nan, np.float32)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(
            stream,
            points=track.points,
            score=np.where(tracked.kept, track.score, 0.0).astype(np.float32),
            valid=tracked.kept,
            opening=mouth_opening(track.points),
            motion=nobody if fit is None else fit.motion,
            rest=np.zeros(MOTION.size, np.float32) if fit is None else rest_of(fit),
            blink=unseen if fit is None else fit.blink,
            confidence=np.zeros(len(track), np.float32) if fit is None else confidence(track.score, fit),
            residual=unseen if fit is None else fit.residual,
            identity=np.zeros(80, np.float32) if fit is None else fit.person.identity,
            audio=np.round(tracked.audio * 32767).astype(np.int16),
            has_audio=np.bool_(tracked.has_audio),
            shots=np.array([[s.start, s.stop] for s in tracked.shots], np.int32).reshape(-1, 2),
            fps=np.float64(track.fps),
            size=np.array(track.size, np.int32),
        )
    os.replace(part, target)


def attempt(clip: Path, target: Path) -> Outcome:
    """Track ``clip`` into ``target`` unless it is to be refused; never raises for a bad clip."""
    try:
        tracked = _analyse(clip)
    except InputError as error:
        return Outcome(target.stem, "refused", str(error))
    seconds = len(tracked.track) / tracked.track.fps
    reason = refusal(tracked)
    if reason or tracked.fit is None:
        return Outcome(target.stem, "refused", reason, seconds, shots=len(tracked.shots))
    _write(tracked, target)
    return Outcome(
        name=target.stem,
        state="tracked",
        note=_note(tracked),
        seconds=round(seconds, 2),
        seen=round(float(tracked.kept.mean()), 3),
        confidence=round(float(confidence(tracked.track.score, tracked.fit).mean()), 3),
        residual_percent=round(float(np.nanmedian(tracked.fit.residual)), 3),
        yaw_deg=round(float(np.nanmedian(np.abs(np.degrees(tracked.fit.yaw)))), 1),
        shots=len(tracked.shots),
        has_audio=tracked.has_audio,
    )


def _note(tracked: _Tracked) -> str:
    if len(tracked.shots) < 2:
        return ""
    seen = np.flatnonzero(tracked.kept) / tracked.track.fps
    return f"{len(tracked.shots)} shots; kept {seen[0]:.1f}..{seen[-1]:.1f} s"


# -- many clips --------------------------------------------------------------------------------


def _read_report(path: Path) -> dict[str, str]:
    """State by name; empty where there is no report."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: row["state"] for row in csv.DictReader(file)}


def _append(path: Path, outcome: Outcome) -> None:
    fresh = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Outcome)])
        if fresh:
            writer.writeheader()
        writer.writerow(asdict(outcome))


def _start_worker() -> None:
    # An interrupt ends a worker without a word: the parent says what is to be said.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cv2.setNumThreads(1)


def _outcomes(work: list[tuple[Path, Path]], jobs: int) -> Iterator[Outcome]:
    """Results as they come, from ``jobs`` processes of one thread each.

    The matrices are small: threads of the linear algebra would only wait for one another. How many it
    starts is read once, when a process loads it.
    """
    if not work:
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker)
    try:
        waiting = [pool.submit(attempt, clip, target) for clip, target in work]
        yield from (done.result() for done in as_completed(waiting))
    finally:
        # Interrupted: what has not begun is left for the next run.
        pool.shutdown(cancel_futures=True)


def track_all(named: dict[str, Path], out: Path, jobs: int = 1, again: bool = False) -> list[Outcome]:
    """Track what is not yet in ``out``; returns what was done in this run."""
    out.mkdir(parents=True, exist_ok=True)
    known = {} if again else _read_report(out / REPORT)
    work = [
        (clip, out / name)
        for name, clip in named.items()
        if not is_whole(out / name) and known.get(name.removesuffix(".npz")) != "refused"
    ]
    done = []
    with tqdm(total=len(named), initial=len(named) - len(work), unit="clip") as bar:
        for outcome in _outcomes(work, jobs):
            _append(out / REPORT, outcome)
            done.append(outcome)
            bar.set_postfix_str(outcome.name[:32])
            bar.update()
    return done


def _summary(named: dict[str, Path], out: Path) -> str:
    states = _read_report(out / REPORT)
    names = [name.removesuffix(".npz") for name in named]
    rows: dict[str, dict[str, str]] = {}
    if (out / REPORT).is_file():
        with (out / REPORT).open(newline="", encoding="utf-8") as file:
            rows = {row["name"]: row for row in csv.DictReader(file)}
    refused = [name for name in names if states.get(name) == "refused" and not is_whole(out / f"{name}.npz")]
    mine = [rows[name] for name in names if name in rows and name not in refused]
    lines = [f"{len(names) - len(refused)} of {len(names)} clips tracked into {out}; refused: {len(refused)}"]
    lines += [f"  refused {name}: {rows[name]['note']}" for name in refused]
    lines += [f"  {row['name']}: {row['note']}" for row in mine if row["note"]]
    silent = [row["name"] for row in mine if row["has_audio"] == "False"]
    if silent:
        some = ", ".join(silent[:6]) + (" ..." if len(silent) > 6 else "")
        lines.append(f"  without sound: {len(silent)} ({some})")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 if every clip was refused.

    Raises:
        InputError: nothing to track, or two clips of one name.
    """
    parser = argparse.ArgumentParser(
        prog="visavis track",
        description="Track the face in real videos: motion, blinks, confidence and sound, one .npz per clip.",
        epilog="Refused clips are named with their reason; report.csv in TRACKS has a line per clip.",
    )
    parser.add_argument("inputs", type=Path, nargs="*", metavar="VIDEO", help="videos, or folders of them")
    parser.add_argument("--data", type=Path, default=None, help="a folder that has talking/ and driving/")
    parser.add_argument("--out", type=Path, required=True, metavar="TRACKS", help="where the .npz files go")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="try refused clips once more")
    args = parser.parse_args(argv)
    if not args.inputs and args.data is None:
        raise ConfigError("nothing to track: name videos or folders, or a data folder with --data")
    if args.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {args.jobs}")
    named = gather(args.inputs, args.data)
    track_all(named, args.out, args.jobs, args.again)
    print(_summary(named, args.out))
    return 0 if any(is_whole(args.out / name) for name in named) else 1


if __name__ == "__main__":
    raise SystemExit(main())
