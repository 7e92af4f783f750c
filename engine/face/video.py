"""Reading video and audio files, and following a face through them.

Files come in every frame rate, rotation and stream offset; what leaves here is a grid: frame n of
the video shows time n / fps, and audio sample 0 is time 0, which is when the first picture shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import AudioError, InputError
from engine.face.landmarks import FaceTracker
from engine.face.roi import Bytes, Floats
from engine.types import FRAME_RATE, SAMPLE_RATE

__all__ = ["Track", "read_audio", "read_video", "track_video"]


@dataclass(frozen=True)
class Track:
    """One face through a video."""

    fps: float
    points: Floats
    """float32 [T, 478, 2] px; where not ``valid``, those of the nearest earlier valid frame (or NaN)"""
    score: Floats
    """float32 [T], 0..1; 0 where no face was found"""
    valid: NDArray[np.bool_]
    """bool [T]: a face was found in this very frame"""
    size: tuple[int, int]
    """height, width of the frames in px"""

    def __len__(self) -> int:
        return len(self.valid)


def read_video(path: str | Path, fps: Fraction = FRAME_RATE) -> Iterator[tuple[float, Bytes]]:
    """Frames of ``path`` on an exact grid: yields (time in s, rgb uint8 [H, W, 3]).

    Grid frame n is the source frame whose time stamp is nearest to n / fps, counted from the first
    one; rotation marks are honoured. Raises :class:`InputError` if the file has no video that can
    be decoded.
    """
    count = 0
    gap = float(1 / fps)
    held: tuple[float, Any] | None = None
    for time, frame in _video_frames(path):
        while held is not None and count / fps - held[0] <= time - count / fps:
            yield float(count / fps), _rgb(held[1])
            count += 1
        gap = time - held[0] if held is not None else gap
        held = (time, frame)
    if held is None:
        raise InputError(f"{path} has a video track without a single picture; give another file")
    # The last picture is taken to last as long as the one before; half of that is nearest to it.
    while float(count / fps) < held[0] + 0.5 * gap:
        yield float(count / fps), _rgb(held[1])
        count += 1


def read_audio(path: str | Path, rate: int = SAMPLE_RATE) -> Floats:
    """The sound of ``path``, mono, float32 [N] in -1..1 at ``rate`` Hz; sample 0 is time 0.

    Where there is video too, time 0 is its first picture: audio that starts earlier is cut, audio
    that starts later is preceded by silence. Raises :class:`AudioError` if nothing can be decoded.
    """
    import av

    # Channels are averaged here: FFmpeg's own float downmix adds them up beyond full scale.
    resampler = av.AudioResampler(format="fltp", rate=rate)
    parts: list[Floats] = []
    start: float | None = None
    with _opened(path, AudioError) as container:
        if not container.streams.audio:
            raise AudioError(f"{path} has no audio track; give a file with sound")
        origin = _video_start(container)
        for frame in container.decode(container.streams.audio[0]):
            if start is None:
                start = float(frame.pts * frame.time_base) if frame.pts is not None else 0.0
            # Time stamps with gaps would be refused; samples are counted from the first one.
            frame.pts = None
            parts += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
        parts += [part.to_ndarray().mean(axis=0) for part in resampler.resample(None)]
    if start is None:
        raise AudioError(f"{path} has an empty audio track; give a file with sound")
    shift = round((start - (start if origin is None else origin)) * rate)
    samples = np.concatenate([np.zeros(max(shift, 0), np.float32), *parts])
    return np.asarray(np.clip(samples[max(-shift, 0) :], -1, 1), np.float32)


def track_video(path: str | Path, max_frames: int | None = None) -> Track:
    """Follow the largest face through ``path`` at 25 frames/s (at most ``max_frames`` of them).

    Raises :class:`InputError` if the file has no video that can be decoded; a video without a face
    gives a track that is nowhere valid.
    """
    tracker = FaceTracker()
    points, score = [], []
    last = np.full((478, 2), np.nan, np.float32)
    size = (0, 0)
    for _, rgb in islice(read_video(path), max_frames):
        face = tracker.track(rgb)
        last = face.points if face is not None else last
        points.append(last)
        score.append(face.score if face is not None else 0.0)
        size = (rgb.shape[0], rgb.shape[1])
    scores = np.array(score, np.float32)
    return Track(float(FRAME_RATE), np.array(points, np.float32), scores, scores > 0, size)


@contextmanager
def _opened(path: str | Path, kind: type[InputError]) -> Iterator[Any]:
    """The PyAV container of ``path``; what FFmpeg cannot read becomes an error of ``kind``."""
    import av

    try:
        with av.open(str(path)) as container:
            yield container
    except (av.error.FFmpegError, OSError) as error:
        raise kind(
            f"{path} cannot be read as audio or video: {error}; give a file FFmpeg can play"
        ) from error


def _video_frames(path: str | Path) -> Iterator[tuple[float, Any]]:
    """Decoded frames with their time in s since the first one, increasing."""
    with _opened(path, InputError) as container:
        if not container.streams.video:
            raise InputError(f"{path} has no video track; give a video file")
        stream = container.streams.video[0]
        period = 1 / (stream.average_rate or FRAME_RATE)
        first: float | None = None
        time = 0.0
        for frame in container.decode(stream):
            stamp = time + float(period) if frame.pts is None else float(frame.pts * frame.time_base)
            first = stamp if first is None else first
            time = max(stamp - first, time)
            yield time, frame


def _video_start(container: Any) -> float | None:
    """When the first picture shows, in s on the container's clock; None without video."""
    if not container.streams.video:
        return None
    stream = container.streams.video[0]
    return float((stream.start_time or 0) * stream.time_base)


def _rgb(frame: Any) -> Bytes:
    """Pixels of a frame, upright."""
    # The mark is the counter-clockwise turn that makes the picture upright.
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns), np.uint8)
