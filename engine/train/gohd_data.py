"""What GoHD's three parts learn from: mel features beside the tracked upper face and head of each take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from engine.samplers.factors import UPPER
from engine.train.corpus import Corpus, Entry, Features, mirrored
from engine.train.gohd_features import BLINK, eye_feature, eye_map
from engine.types import MOTION

__all__ = ["Person", "blink_onsets", "feature_scale", "free_talk", "people_of", "rest_of", "smoothed"]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_BLINK_HIGH, _BLINK_LOW = 0.4, 0.15
_READERS = ("grid", "elospheres")


@dataclass(frozen=True)
class Person:
    """One take of a tracked person, all arrays over T frames at 25 fps.

    ``features`` [T, F]; ``eyes`` [T, 21] eye feature relative to ``rest`` [21], without blinks, in
    training deviations; ``upper`` [T, 13] relative to the take's median; ``blink`` [T] closure, as
    tracked; ``pose`` [T, 6]; ``seen`` [T].
    """

    name: str
    speaker: str
    features: Floats
    eyes: Floats
    rest: Floats
    upper: Floats
    blink: Floats
    pose: Floats
    seen: Bools

    @property
    def reader(self) -> bool:
        """Sits still and reads sentences."""
        return self.speaker.startswith(_READERS)


def free_talk(people: list[Person]) -> list[Person]:
    """Those who talk freely."""
    return [p for p in people if not p.reader]


def smoothed(values: Floats, frames: float = 1.0) -> Floats:
    """[T, C] without the tracker's flicker: a Gaussian over time, never across unseen frames' edges
    (they are bridged first)."""
    return np.asarray(gaussian_filter1d(_bridged(values), frames, axis=0, mode="nearest"), np.float32)


def _bridged(values: Floats) -> Floats:
    """NaN rows replaced by straight lines between their neighbours."""
    seen = np.isfinite(values).all(axis=1)
    at, known = np.arange(len(values)), np.flatnonzero(seen)
    columns = [np.interp(at, known, values[known, k]) for k in range(values.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32)


def blink_onsets(blink: Floats) -> NDArray[np.int64]:
    """First frames above 0.15 of every closure that goes on to 0.4 (less is a lowered gaze)."""
    found, ready = [], True
    for t, value in enumerate(np.nan_to_num(blink)):
        if ready and value > _BLINK_HIGH:
            start = t
            while start > 0 and blink[start - 1] > _BLINK_LOW and blink[start - 1] < blink[start]:
                start -= 1
            found.append(start)
            ready = False
        elif value < _BLINK_LOW:
            ready = True
    return np.array(found, np.int64)


def feature_scale(motions: list[Floats]) -> Floats:
    """Deviation of each eye feature over tracked takes [21], never vanishing."""
    parts = []
    for motion in motions:
        still = _without_blinks(motion[:, MOTION.expression])
        made = eye_feature(smoothed(still))
        parts.append(made - np.median(made, axis=0))
    spread = np.concatenate(parts).std(axis=0)
    return np.asarray(np.maximum(spread, 0.3 * np.median(spread)), np.float32)


def _without_blinks(expression: Floats) -> Floats:
    open_eyed = expression.copy()
    open_eyed[:, BLINK] = np.where(np.isfinite(expression[:, BLINK]), 0.0, np.nan)
    return open_eyed


def rest_of(motion: Floats, scale: Floats) -> Floats:
    """A person's own eye feature [21]: that of the median expression of the take, in deviations."""
    middle = np.nanmedian(_without_blinks(motion[:, MOTION.expression]), axis=0)
    return np.asarray(np.clip((eye_map() @ middle) / scale, -4.0, 4.0), np.float32)


def people_of(
    corpus: Corpus, features: Features, entries: list[Entry], scale: Floats, mirror: bool = False
) -> list[Person]:
    """Tracked takes among ``entries`` (others are left out), also seen in a mirror where asked."""
    people: list[Person] = []
    for entry in entries:
        take = corpus.take(entry)
        if np.isfinite(take.motion).all(axis=1).mean() < 0.8:
            continue
        heard = features(take)
        seen = (take.motion, mirrored(take.motion))[: 1 + mirror]
        people.extend(_person(entry, heard, motion, scale) for motion in seen)
    return people


def _person(entry: Entry, heard: Floats, motion: Floats, scale: Floats) -> Person:
    frames = min(len(heard), len(motion))
    motion = motion[:frames]
    seen: Bools = np.asarray(np.isfinite(motion).all(axis=1))
    steady = smoothed(_without_blinks(motion[:, MOTION.expression]))
    rest = rest_of(motion, scale)
    upper = steady[:, UPPER]
    return Person(
        name=entry.name,
        speaker=entry.speaker,
        features=heard[:frames],
        eyes=np.clip(eye_feature(steady) / scale - rest, -6.0, 6.0),
        rest=rest,
        upper=np.asarray(upper - np.median(upper, axis=0), np.float32),
        blink=motion[:, BLINK].mean(axis=1),
        pose=smoothed(motion[:, MOTION.pose]),
        seen=seen,
    )
