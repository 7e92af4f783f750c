"""Who else moves the face: driving videos and webcams, factor by factor.

A driver gives one row of motion (:data:`~engine.types.MOTION`, relative to the driver's own rest) for
every frame of a session. Lips, pose, eyes and expression may each come from another one (PD-FGC, Wang
et al., 2023); :class:`Drivers` joins them into the ``driver.*`` columns of the live controls, and the
``follow.*`` controls say how far the face takes each over from the voice.

>>> drivers = Drivers({"pose": ClipDriver.open("nods.mp4"), "expression": ClipDriver.open("smile.mp4")})
>>> controls = drivers.apply(drivers.followed(CONTROLS.neutral), frame)
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.config import cache_dir
from engine.errors import FaceError, InputError
from engine.face.clip import fit_clip
from engine.face.fitter import FaceFit, fit_face, fit_frame
from engine.face.landmarks import FaceTracker, mouth_opening
from engine.face.video import track_video
from engine.samplers.factors import FACTOR_COLUMNS
from engine.types import CONTROLS, FACTORS, MOTION

__all__ = [
    "ClipDriver",
    "Drivers",
    "MotionSource",
    "WebcamDriver",
    "open_drivers",
    "parse_drives",
    "track_motion",
]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_SEAM = 12
"""Frames over which a clip's end flows into its beginning."""
_ENOUGH = 0.3
_TRACKER_VERSION = "2"
_CENTRED = [*range(MOTION.pose.start, MOTION.gaze.stop)]
_FAST = MOTION.columns("eyeBlink")


class MotionSource(Protocol):
    """One row of motion per frame of a session, asked for in order."""

    name: str

    def row(self, frame: int) -> Floats:
        """float32 [72], finite, relative to the driver's rest."""
        ...

    def close(self) -> None: ...


# -- from landmarks to motion ------------------------------------------------------------------


def rest_frame(points: Floats, valid: NDArray[np.bool_]) -> int:
    """The frame of ``points`` [T, 478, 2] that looks most like the person at rest.

    Lids as open and nose as straight as in the median frame, lips as close as they come.
    """
    across = np.linalg.norm(points[:, 33] - points[:, 263], axis=1)
    lids = np.linalg.norm(points[:, 159] - points[:, 145], axis=1)
    lids = (lids + np.linalg.norm(points[:, 386] - points[:, 374], axis=1)) / across
    nose = (points[:, 4] - 0.5 * (points[:, 33] + points[:, 263])) / across[:, None]
    opening = mouth_opening(points)
    cost = np.abs(nose - np.median(nose[valid], axis=0)).sum(1) + 2 * np.abs(lids - np.median(lids[valid]))
    cost += 2 * np.maximum(0.0, opening - np.percentile(opening[valid], 15))
    return int(np.argmin(np.where(valid, cost, np.inf)))


def track_motion(path: str | Path, max_frames: int | None = None) -> Floats:
    """Follow the largest face of a video: motion float32 [T, 72], NaN where no face was seen.

    What counts as rest is said in :mod:`engine.face.clip`.

    Raises:
        InputError: not a video, or a face in under a third of its frames.
    """
    track = track_video(path, max_frames)
    valid = track.valid & np.isfinite(track.points).all(axis=(1, 2))
    if valid.sum() < max(2.0, _ENOUGH * len(valid)):
        share = 100 * float(valid.mean()) if len(valid) else 0.0
        raise InputError(f"{path} shows a face in {share:.0f} % of its frames; give a video of one face")
    height, width = track.size
    return fit_clip(track.points, valid, (width, height)).motion


def _fill(motion: Floats) -> Floats:
    """Unseen frames (NaN rows) on the straight line between their neighbours."""
    seen = np.flatnonzero(np.isfinite(motion).all(axis=1))
    if not len(seen):
        raise InputError("the driver's motion has no frame with a face; give another clip")
    at = np.arange(len(motion))
    return np.stack([np.interp(at, seen, column) for column in motion[seen].T], axis=1).astype(np.float32)


# -- a clip ------------------------------------------------------------------------------------


class ClipDriver:
    """A tracked clip, played from frame 0 and looped: its last half second flows into its first.

    Args:
        motion: float32 [T, 72]; NaN rows (no face seen) are bridged.

    Raises:
        InputError: no motion in it.
    """

    def __init__(self, motion: Floats, name: str = "clip") -> None:
        if motion.ndim != 2 or motion.shape[1] != MOTION.size or not len(motion):
            raise InputError(f"{name}: motion must be [T, {MOTION.size}], got {list(motion.shape)}")
        self.name = name
        self.motion = _fill(motion)
        self._seam = min(_SEAM, len(motion) // 2)
        self._period = len(motion) - self._seam
        ramp = (np.arange(self._seam, dtype=np.float32) + 0.5) / max(1, self._seam)
        share = (ramp * ramp * (3 - 2 * ramp))[:, None]
        self._bridge = (1 - share) * self.motion[self._period :] + share * self.motion[: self._seam]

    @staticmethod
    def open(path: str | Path, max_frames: int | None = None) -> ClipDriver:
        """A tracked ``.npz`` (array ``motion``) or a video, tracked on first use and then remembered.

        Raises:
            InputError: missing, unreadable, or without a face.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no driving clip {path}")
        if path.suffix == ".npz":
            return ClipDriver(_read_motion(path), path.name)
        cached = _cache_path(path, max_frames)
        if not cached.is_file():
            _write_motion(cached, track_motion(path, max_frames))
        return ClipDriver(_read_motion(cached), path.name)

    def __len__(self) -> int:
        return len(self.motion)

    def row(self, frame: int) -> Floats:
        """Row of frame ``frame`` of the session; any order."""
        if frame < self._period:
            return np.asarray(self.motion[max(0, frame)])
        at = frame % self._period
        return np.asarray(self._bridge[at] if at < self._seam else self.motion[at])

    def close(self) -> None:
        """Nothing is held open."""


def _read_motion(path: Path) -> Floats:
    try:
        with np.load(path) as file:
            return np.asarray(file["motion"], np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} holds no tracked motion ({error}); track its video again") from error


def _write_motion(path: Path, motion: Floats) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, motion=motion)
    os.replace(part, path)


def _cache_path(path: Path, max_frames: int | None) -> Path:
    """Where the motion of this very file is remembered: keyed by its content."""
    digest = hashlib.sha256(f"{_TRACKER_VERSION}:{max_frames}:".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return cache_dir() / "motion" / f"{digest.hexdigest()[:24]}.npz"


# -- a webcam ----------------------------------------------------------------------------------


class WebcamDriver:
    """A live picture stream: :meth:`put` frames as they come, :meth:`row` gives the newest motion.

    Its own thread looks at the newest picture and drops the ones that came meanwhile. The first second
    with a face is taken for rest (``neutral``). Between pictures the motion glides; a face that is lost
    is held for ``hold`` frames and then relaxes to rest.

    Args:
        neutral: pictures with a face that make the rest; :meth:`recalibrate` starts them anew.
        hold: frames of the session that a lost face is held.
    """

    def __init__(self, name: str = "webcam", neutral: int = 15, hold: int = 12) -> None:
        self.name = name
        self._neutral = neutral
        self._hold = hold
        self._ready = threading.Condition()
        self._picture: Bytes | None = None
        self._newest: Floats | None = None
        self._fresh = False
        self._recalibrate = True
        self._closed = False
        self._age = hold
        self._shown = np.zeros(MOTION.size, np.float32)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._main, name=f"driver {name}", daemon=True)
        self._thread.start()

    def put(self, rgb: Bytes) -> None:
        """The newest picture, uint8 [H, W, 3]; safe from any thread, never waits.

        Raises:
            InputError: not such a picture.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise InputError(f"a webcam picture must be uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
        with self._ready:
            self._picture = rgb
            self._ready.notify()

    @property
    def ready(self) -> bool:
        """The rest has been learnt and a face has been seen since."""
        return self._newest is not None

    def recalibrate(self) -> None:
        """Take the next second for the person's rest."""
        with self._ready:
            self._recalibrate = True

    def row(self, frame: int) -> Floats:
        """The motion for the next frame of the session; ask once per frame."""
        with self._ready:
            newest, fresh, self._fresh = self._newest, self._fresh, False
        self._age = 0 if fresh else self._age + 1
        lost = newest is None or self._age > self._hold
        goal = np.zeros_like(self._shown) if lost or newest is None else newest
        # Half way each frame hides a camera of 12 pictures a second; a lost face eases off in 0.5 s.
        gap = (0.12 if lost else 0.5) * (goal - self._shown)
        if not lost:
            gap[_FAST] = (goal - self._shown)[_FAST]
        self._shown = self._shown + gap
        return np.asarray(self._shown.copy())

    def close(self) -> None:
        """End the thread; does not wait for the picture it looks at."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def _main(self) -> None:
        try:
            eye = _LiveFitter(self._neutral)
            while (rgb := self._take()) is not None:
                with self._ready:
                    again, self._recalibrate = self._recalibrate, False
                if again:
                    eye.restart()
                motion = eye.look(rgb)
                if motion is not None:
                    with self._ready:
                        self._newest, self._fresh = motion, True
        except Exception as error:  # the thread's root: whoever asks for rows sees a face at rest
            self.error = error
            with self._ready:
                self._newest = None

    def _take(self) -> Bytes | None:
        with self._ready:
            while self._picture is None and not self._closed:
                self._ready.wait()
            picture, self._picture = self._picture, None
            return None if self._closed else picture


class _LiveFitter:
    """Pictures of one person, one after the other, to motion; the first ones are the rest."""

    def __init__(self, neutral: int) -> None:
        self._tracker = FaceTracker()
        self._neutral = neutral
        self._points: list[Floats] = []
        self._size = (0, 0)
        self._person: FaceFit | None = None
        self._previous: Floats | None = None
        self._centre = np.zeros(MOTION.size, np.float32)

    def restart(self) -> None:
        self._points, self._person, self._previous = [], None, None

    def look(self, rgb: Bytes) -> Floats | None:
        """Motion [72], or None: no face, or still learning the rest."""
        size = (rgb.shape[1], rgb.shape[0])
        if size != self._size:
            self._size = size
            self._tracker.reset()
            self.restart()
        face = self._tracker.track(rgb)
        if face is None:
            self._previous = None
            return None
        try:
            if self._person is None:
                self._learn(face.points)
                return None
            self._previous = fit_frame(face.points, self._person, self._previous)
        except FaceError:
            self._previous = None
            return None
        return np.asarray(self._previous - self._centre)

    def _learn(self, points: Floats) -> None:
        self._points.append(points)
        if len(self._points) < self._neutral:
            return
        seen = np.stack(self._points)
        person = fit_face(seen[rest_frame(seen, np.ones(len(seen), bool))], self._size)
        poses = np.stack([fit_frame(p, person) for p in seen[:: max(1, len(seen) // 5)]])
        self._centre[_CENTRED] = np.median(poses[:, _CENTRED], axis=0)
        self._person, self._previous = person, None


# -- several at once ---------------------------------------------------------------------------


class Drivers:
    """Which source drives which factor of one session.

    The lips' columns come from the source of the lips; where only the expression is driven, from that
    one: a family that separates expression from speech reads smiles there.
    """

    def __init__(self, sources: Mapping[str, MotionSource] | None = None) -> None:
        self._sources: dict[str, MotionSource] = {}
        for factor, source in (sources or {}).items():
            self.set(factor, source)

    def __bool__(self) -> bool:
        return bool(self._sources)

    @property
    def names(self) -> dict[str, str]:
        """Factor to the name of its source."""
        return {factor: source.name for factor, source in self._sources.items()}

    def source(self, factor: str) -> MotionSource | None:
        """Who drives ``factor``, if anyone does."""
        return self._sources.get(factor)

    def set(self, factor: str, source: MotionSource | None) -> MotionSource | None:
        """Let ``source`` (None: nobody) drive ``factor``; returns a former source that is free now.

        Raises:
            InputError: no such factor.
        """
        if factor not in FACTORS:
            raise InputError(f"no factor {factor!r} to drive; there are {', '.join(FACTORS)}")
        former = self._sources.pop(factor, None)
        if source is not None:
            self._sources[factor] = source
        return None if former is None or former in self._sources.values() else former

    def followed(self, controls: tuple[float, ...], share: float = 1.0) -> tuple[float, ...]:
        """``controls`` with ``follow.*`` at ``share`` for every factor that has a driver."""
        row = list(controls)
        for factor in self._sources:
            row[CONTROLS.index(f"follow.{factor}")] = share
        return tuple(row)

    def apply(self, controls: tuple[float, ...], frame: int) -> tuple[float, ...]:
        """``controls`` with the ``driver.*`` columns of ``frame`` filled in; each source is asked once."""
        if not self._sources:
            return controls
        rows = {id(s): s.row(frame) for s in _distinct(self._sources.values())}
        motion = np.array(controls[CONTROLS.driver], np.float32)
        sources = dict(self._sources)
        if "expression" in sources:
            sources.setdefault("lips", sources["expression"])
        for factor, source in sources.items():
            columns = FACTOR_COLUMNS[factor]
            motion[columns] = rows[id(source)][columns]
        low = np.array(CONTROLS.low[CONTROLS.driver], np.float32)
        high = np.array(CONTROLS.high[CONTROLS.driver], np.float32)
        values = np.clip(np.nan_to_num(motion), low, high).tolist()
        return (*controls[: CONTROLS.driver.start], *values, *controls[CONTROLS.driver.stop :])

    def close(self) -> None:
        """Close every source."""
        for source in _distinct(self._sources.values()):
            source.close()
        self._sources.clear()


def _distinct(sources: Iterable[MotionSource]) -> list[MotionSource]:
    return list({id(source): source for source in sources}.values())


def parse_drives(values: Iterable[str]) -> dict[str, Path]:
    """``FACTOR=FILE`` arguments as a mapping.

    Raises:
        InputError: another form, an unknown factor, or a factor named twice.
    """
    found: dict[str, Path] = {}
    for value in values:
        factor, equals, path = value.partition("=")
        if not equals or factor not in FACTORS or not path:
            raise InputError(
                f"--drive takes FACTOR=FILE with FACTOR one of {', '.join(FACTORS)}, got {value!r}"
            )
        if factor in found:
            raise InputError(f"--drive names {factor} twice")
        found[factor] = Path(path)
    return found


def open_drivers(drives: Mapping[str, Path]) -> Drivers:
    """A clip per factor; a file named twice is opened once."""
    clips = {path: ClipDriver.open(path) for path in dict.fromkeys(drives.values())}
    return Drivers({factor: clips[path] for factor, path in drives.items()})
