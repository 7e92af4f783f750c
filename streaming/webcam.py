"""A webcam as a driver: live pictures to motion, in a thread of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import FaceError, InputError
from engine.face.fitter import FaceFit, fit_face, fit_frame
from engine.face.landmarks import FaceTracker, mouth_opening
from engine.face.tracker import SIDE, NeuralTracker, Seen, TrackerNet
from engine.runtime import compile
from engine.types import MOTION
from engine.weights import load_weights

__all__ = ["TRACKERS", "WebcamDriver", "even_lids", "rest_frame"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

TRACKERS = ("fitter", "neural")
"""What looks at a webcam's pictures: landmarks and the fitter, or the tracker network."""

_LIVE_STEPS = 2
_FAST = MOTION.columns("eyeBlink")
_OWN = [
    k
    for k, name in enumerate(MOTION.names)
    if name.startswith(
        ("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress", "mouthShrug")
    )
    or name in ("mouthLeft", "mouthRight", "jawLeft", "jawRight")
    or k >= MOTION.pose.start
]
"""What a webcam's rest takes away: pose, gaze, and the set of the person's own mouth."""


class WebcamDriver:
    """A live picture stream: :meth:`put` frames as they come, :meth:`row` gives the newest motion.

    Its own thread looks at the newest picture and drops the ones that came meanwhile. The first second
    with a face is taken for rest (``neutral``). Between pictures the motion glides; a face that is lost
    is held for ``hold`` frames and then relaxes to rest.

    Args:
        neutral: pictures with a face that make the rest; :meth:`recalibrate` starts them anew.
        hold: frames of the session that a lost face is held.
        tracker: one of :data:`TRACKERS`.

    Raises:
        InputError: no such tracker.
    """

    def __init__(
        self, name: str = "webcam", neutral: int = 15, hold: int = 12, tracker: str = "fitter"
    ) -> None:
        if tracker not in TRACKERS:
            raise InputError(f"no tracker {tracker!r}; there are {', '.join(TRACKERS)}")
        self.name = name
        self._tracker = tracker
        self._neutral = neutral
        self._hold = hold
        self._ready = threading.Condition()
        self._picture: Bytes | None = None
        self._newest: Floats | None = None
        self._fresh = False
        self._looking = False
        self._recalibrate = True
        self._closed = False
        self._age = hold
        self._shown = np.zeros(MOTION.size, np.float32)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._main, name=f"driver {name}", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a picture waits or is being looked at."""
        with self._ready:
            return self._looking or self._picture is not None

    @property
    def seen(self) -> bool:
        """Whether the rest is learnt and a face has been followed since."""
        return self._newest is not None

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
            eye: _Eye = (_LiveFitter if self._tracker == "fitter" else _LiveNetwork)(self._neutral)
            while (rgb := self._take()) is not None:
                with self._ready:
                    again, self._recalibrate = self._recalibrate, False
                if again:
                    eye.restart()
                motion = eye.look(rgb)
                with self._ready:
                    self._looking = False
                    if motion is not None:
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
            self._looking = True
            return None if self._closed else picture


class _Eye(ABC):
    """Pictures of one person, one after the other, to motion; the first ones are the rest."""

    def __init__(self, tracker: FaceTracker | NeuralTracker, neutral: int) -> None:
        self._forget = tracker.reset
        self._neutral = neutral
        self._size = (0, 0)

    @abstractmethod
    def restart(self) -> None:
        """Learn the rest anew."""

    def look(self, rgb: Bytes) -> Floats | None:
        """Motion [72], or None: no face, or still learning the rest."""
        size = (rgb.shape[1], rgb.shape[0])
        if size != self._size:
            self._size = size
            self._forget()
            self.restart()
        return self._look(rgb)

    @abstractmethod
    def _look(self, rgb: Bytes) -> Floats | None:
        """:meth:`look` at a picture of the size of those before."""


class _LiveFitter(_Eye):
    """By the landmark network and the fitter."""

    def __init__(self, neutral: int) -> None:
        self._tracker = FaceTracker()
        super().__init__(self._tracker, neutral)
        self._points: list[Floats] = []
        self._person: FaceFit | None = None
        self._previous: Floats | None = None
        self._rest = np.zeros(MOTION.size, np.float32)

    def restart(self) -> None:
        self._points, self._person, self._previous = [], None, None

    def _look(self, rgb: Bytes) -> Floats | None:
        face = self._tracker.track(rgb)
        if face is None:
            self._previous = None
            return None
        try:
            if self._person is None:
                self._learn(face.points)
                return None
            self._previous = fit_frame(face.points, self._person, self._previous, _LIVE_STEPS)
        except FaceError:
            self._previous = None
            return None
        motion = self._previous - self._rest
        motion[MOTION.expression] = np.clip(motion[MOTION.expression], 0.0, 1.0)
        return even_lids(motion)

    def _learn(self, points: Floats) -> None:
        self._points.append(points)
        if len(self._points) < self._neutral:
            return
        seen = np.stack(self._points)
        person = fit_face(seen[rest_frame(seen, np.ones(len(seen), bool))], self._size)
        poses = np.stack([fit_frame(p, person) for p in seen[:: max(1, len(seen) // 5)]])
        self._rest[_OWN] = np.median(poses[:, _OWN], axis=0)
        self._person, self._previous = person, None


class _LiveNetwork(_Eye):
    """By the tracker network; the rest is the median of the first pictures."""

    def __init__(self, neutral: int) -> None:
        net = TrackerNet()
        net.load_state_dict(load_weights("tracker"))
        self._tracker = NeuralTracker(compile(net, (torch.zeros(1, 3, SIDE, SIDE),), precision="bf16"))
        super().__init__(self._tracker, neutral)
        self._first: list[Seen] = []
        self._rest: Seen | None = None

    def restart(self) -> None:
        self._first, self._rest = [], None

    def _look(self, rgb: Bytes) -> Floats | None:
        seen = self._tracker.track(rgb)
        if seen is None:
            return None
        if self._rest is None:
            self._first.append(seen)
            if len(self._first) >= self._neutral:
                columns = (
                    np.stack([getattr(s, n) for s in self._first]) for n in ("points", "motion", "blink")
                )
                self._rest = Seen(*(np.median(column, axis=0) for column in columns))
            return None
        motion = seen.relative(self._rest)
        own = [k for k in _OWN if k < MOTION.expression.stop]
        motion[own] = np.clip(motion[own] - self._rest.motion[own], 0.0, 1.0)
        return even_lids(motion)


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


def even_lids(motion: Floats) -> Floats:
    """``motion`` [..., 72] with blinks alike on both eyes, winks as they are.

    Trackers see the lid that is turned away shut only half; carried over to another head that would
    be a wink. People who wink keep the other eye open.
    """
    out = motion.copy()
    lids = out[..., _FAST]
    most = lids.max(axis=-1, keepdims=True)
    ratio = lids.min(axis=-1, keepdims=True) / np.maximum(most, 1e-6)
    share = np.clip((ratio - 0.15) / 0.15, 0.0, 1.0)
    out[..., _FAST] = lids + share * (most - lids)
    return out
