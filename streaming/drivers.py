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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.config import cache_dir
from engine.errors import InputError
from engine.face.clip import fit_clip
from engine.face.video import track_video
from engine.samplers.factors import FACTOR_COLUMNS
from engine.types import CONTROLS, FACTORS, MOTION
from streaming.webcam import WebcamDriver, even_lids

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

_SEAM = 12
"""Frames over which a clip's end flows into its beginning."""
_ENOUGH = 0.3
_TRACKER_VERSION = "2"


class MotionSource(Protocol):
    """One row of motion per frame of a session, asked for in order."""

    name: str

    def row(self, frame: int) -> Floats:
        """float32 [72], finite, relative to the driver's rest."""
        ...

    def close(self) -> None: ...


# -- from landmarks to motion ------------------------------------------------------------------


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
        self.motion = even_lids(_fill(motion))
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


# -- several at once ---------------------------------------------------------------------------


class Drivers:
    """Which source drives which factor of one session.

    The lips' columns come from the source of the lips; where only the expression is driven, from that
    one: a family that separates expression from speech reads smiles there.
    """

    def __init__(self, sources: Mapping[str, MotionSource] | None = None) -> None:
        self._sources: dict[str, MotionSource] = {}
        self._begun: dict[int, int] = {}
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
        if former is None or any(former is other for other in self._sources.values()):
            return None
        self._begun.pop(id(former), None)
        return former

    def followed(self, controls: tuple[float, ...], share: float = 1.0) -> tuple[float, ...]:
        """``controls`` with ``follow.*`` at ``share`` for every factor that has a driver."""
        row = list(controls)
        for factor in self._sources:
            row[CONTROLS.index(f"follow.{factor}")] = share
        return tuple(row)

    def apply(self, controls: tuple[float, ...], frame: int) -> tuple[float, ...]:
        """``controls`` with the ``driver.*`` columns of ``frame`` filled in.

        Each source is asked once, its frames counted from the first one it is asked for.
        """
        if not self._sources:
            return controls
        rows = {id(s): s.row(frame - self._begun.setdefault(id(s), frame)) for s in self._distinct()}
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
        for source in self._distinct():
            source.close()
        self._sources.clear()
        self._begun.clear()

    def _distinct(self) -> list[MotionSource]:
        return list({id(source): source for source in self._sources.values()}.values())


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
