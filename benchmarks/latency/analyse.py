"""From the page's raw observations to latencies: arithmetic only, no browser, no server.

Three clocks meet here: the page's ``performance.now()`` (ms), its audio context (s; the microphone
signal starts at a known moment of it) and the session's sample index (s; written into the pictures).
Marks tie the session's time line to the microphone's, so every frame tells when its first sample was
spoken.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.marks import GUARD, find_marks, match_marks
from benchmarks.latency.microphone import RATE, Utterances
from engine.types import SAMPLE_RATE

__all__ = ["SETTLE_S", "ContextClock", "Measured", "Observation", "Summary", "analyse", "summarise"]

Floats = NDArray[np.float64]
_FRAME_S = 0.04
SETTLE_S = 4.0
"""Seconds after the first frame in which jitter buffers and lip sync settle: not steady state."""


@dataclass(frozen=True)
class Observation:
    """What the probe in the page saw in one session; times in ms of ``performance.now()``."""

    frames: Floats
    """[N, 7]: callback, presentation, expected display, receive, decode, frame index, mark; -1 = none."""
    clock: Floats
    """[M, 2]: (ms, audio context's time in s), read again and again."""
    spoken_at: float
    """Moment of the audio context (s) at which the microphone signal began."""
    clicked_at: float
    first_frame_at: float
    heard: NDArray[np.float32]
    """Received audio [K] at 48 kHz ..."""
    heard_at: float
    """... and the audio context's time (s) of its first sample."""
    device_delay: float
    """Milliseconds from handing sound to the output device to hearing it, as the browser knows it."""
    playout: Floats
    """[P, 3]: (ms, audio's and video's estimated playout moment on the sender's clock, ms)."""
    time_origin: float

    @staticmethod
    def from_probe(raw: dict[str, Any]) -> Observation:
        """Of the object that ``visavisProbe.result()`` returns."""
        pcm = np.frombuffer(base64.b64decode(raw["heard"]), "<i2").astype(np.float32) / 32768
        playout = [
            (t, row["audio"], row["video"])
            for t, row in raw["playout"]
            if row.get("audio") and row.get("video")
        ]
        return Observation(
            frames=np.array(raw["frames"], np.float64).reshape(-1, 7),
            clock=np.array(raw["clock"], np.float64).reshape(-1, 2),
            spoken_at=float(raw["spokenAt"]),
            clicked_at=float(raw["clickedAt"]),
            first_frame_at=float(raw["firstFrameAt"]),
            heard=pcm.astype(np.float32),
            heard_at=raw["heardFrame"] / RATE,
            device_delay=_device_delay([row["device"] for _, row in raw["playout"] if row.get("device")]),
            playout=np.array(playout, np.float64).reshape(-1, 3),
            time_origin=float(raw["timeOrigin"]),
        )


def _device_delay(totals: list[list[float]]) -> float:
    """Mean delay in ms of growing totals (delay in s times samples, samples)."""
    if len(totals) < 2 or totals[-1][1] <= totals[0][1]:
        return 0.0
    return 1000 * (totals[-1][0] - totals[0][0]) / (totals[-1][1] - totals[0][1])


@dataclass(frozen=True)
class Measured:
    """Series of one session; ``*_at`` are seconds since its first shown frame, the rest ms."""

    frame_at: Floats
    frame_latency: Floats
    """First owned sample at the microphone -> frame on the screen, of every frame."""
    mark_at: Floats
    mark_latency: Floats
    """The same of single marked samples, nothing interpolated."""
    av_at: Floats
    av_offset: Floats
    """Picture of a mark on the screen minus its sound at the loudspeaker; positive = picture late."""
    playout_at: Floats
    playout_offset: Floats
    """The browser's own estimate of the same."""
    onset_latency: Floats
    """First audible sample after silence -> first shown frame that owns it (or a later one)."""
    shown: int
    missing: int
    repeated: int
    unreadable: int
    fps: float
    first_frame_ms: float

    def steady(self) -> dict[str, Floats]:
        """The series by name, without the first :data:`SETTLE_S` seconds; onsets are all kept."""
        return {
            "end_to_end_ms": self.frame_latency[self.frame_at >= SETTLE_S],
            "marked_samples_ms": self.mark_latency[self.mark_at >= SETTLE_S],
            "silence_to_speech_ms": self.onset_latency,
            "av_offset_ms": self.av_offset[self.av_at >= SETTLE_S],
            "av_offset_browser_ms": self.playout_offset[self.playout_at >= SETTLE_S],
        }


class ContextClock:
    """When a moment of the page's audio context (s) came to pass, in ms of ``performance.now()``.

    A reading can only be late (the context's time stands still between audio callbacks), so the
    earliest reading near a moment is the true one. Near, because the context falls behind for good
    whenever the browser's audio thread was starved.
    """

    STEP_S, REACH_S = 0.1, 0.25

    def __init__(self, clock: Floats) -> None:
        readings = clock[clock[:, 1] > 0]
        ms, context = readings[:, 0], readings[:, 1]
        excess = ms - 1000 * context
        self._at = np.arange(context[0], context[-1] + self.STEP_S, self.STEP_S)
        first = np.searchsorted(context, self._at - self.REACH_S)
        last = np.searchsorted(context, self._at + self.REACH_S)
        self._excess = np.array(
            [excess[i:j].min() if j > i else np.nan for i, j in zip(first, last, strict=True)]
        )
        known = np.isfinite(self._excess)
        self._at, self._excess = self._at[known], self._excess[known]

    def __call__(self, context_s: Floats) -> Floats:
        at = np.asarray(context_s, np.float64)
        return np.asarray(1000 * at + np.interp(at, self._at, self._excess), np.float64)


def _shown_frames(frames: Floats) -> tuple[Floats, int, int]:
    """First showing of every readable frame, in order; repeats; unreadable stamps."""
    readable = frames[frames[:, 5] >= 0]
    _, first = np.unique(readable[:, 5], return_index=True)
    return readable[first], len(readable) - len(first), len(frames) - len(readable)


def analyse(seen: Observation, said: Utterances) -> Measured:
    """All series of one session.

    Raises:
        ValueError: no marked frame was seen, so nothing ties picture to sound.
    """
    clock = ContextClock(seen.clock)
    shown, repeated, unreadable = _shown_frames(seen.frames)
    marked = shown[shown[:, 6] >= 0]
    heard = marked[:, 5] * _FRAME_S + (marked[:, 6] - GUARD) / SAMPLE_RATE
    pairs = match_marks(said.marks, heard)
    if len(pairs) < 2:
        raise ValueError(
            f"only {len(pairs)} of {said.marks.size} audio marks came back in {len(shown)} readable frames "
            f"({unreadable} unreadable); is the pipeline stamped, its audio the microphone?"
        )
    sent, back = (np.array(side) for side in zip(*pairs, strict=True))

    def entered(microphone_s: Floats) -> Floats:
        return clock(seen.spoken_at + microphone_s)

    display = np.maximum(marked[:, 1], marked[:, 2])
    within = 1000 * (heard - marked[:, 5] * _FRAME_S)
    # Session time -> microphone time, piecewise: concealed or slipped samples move it.
    lag = np.interp(shown[:, 5] * _FRAME_S, heard[back], heard[back] - said.marks[sent])
    spoken = shown[:, 5] * _FRAME_S - lag
    screen = np.maximum(shown[:, 1], shown[:, 2])
    first = screen[0]
    av_at, av = _sound_offsets(seen, display[back] + within[back], clock)
    steady = screen - first > 1000.0
    span = (shown[:, 5].max() - shown[:, 5].min()) + 1
    return Measured(
        frame_at=(screen - first) / 1000,
        frame_latency=screen - entered(spoken),
        mark_at=(display[back] - first) / 1000,
        mark_latency=display[back] + within[back] - entered(said.marks[sent]),
        av_at=(av_at - first) / 1000,
        av_offset=av,
        playout_at=(seen.playout[:, 0] - first) / 1000,
        playout_offset=seen.playout[:, 1] - seen.playout[:, 2],
        onset_latency=_onsets(spoken, screen, said.onsets, entered),
        shown=len(shown),
        missing=int(span) - len(shown),
        repeated=repeated,
        unreadable=unreadable,
        fps=float(1000 * (steady.sum() - 1) / np.ptp(screen[steady])) if steady.sum() > 2 else 0.0,
        first_frame_ms=seen.first_frame_at - seen.clicked_at,
    )


def _onsets(spoken: Floats, screen: Floats, onsets: Floats, entered: Any) -> Floats:
    """Per onset: the first shown frame whose samples reach the onset, minus the onset's own entry."""
    found = []
    for onset in onsets[(onsets > spoken[0]) & (onsets < spoken[-1])]:
        owner = int(np.searchsorted(spoken + _FRAME_S, onset, side="right"))
        found.append(float(screen[owner] - entered(onset)))
    return np.array(found)


def _sound_offsets(seen: Observation, picture: Floats, clock: ContextClock) -> tuple[Floats, Floats]:
    """(moment, picture minus sound) of every mark that was both seen and heard, in ms.

    Marks are paired by their own times: sound and picture that were further apart than a jump would
    be no avatar at all.
    """
    ears = clock(seen.heard_at + np.array(find_marks(seen.heard, RATE)) / RATE) + seen.device_delay
    pairs = match_marks(picture / 1000, ears / 1000, tolerance=0.04, near=0.0)
    both = [(ears[j], picture[i] - ears[j]) for i, j in pairs]
    table = np.array(both, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@dataclass(frozen=True)
class Summary:
    """Median, tails and extremes of a series; NaN-free: ``count`` 0 has zeros."""

    count: int
    low: float
    p50: float
    p95: float
    p99: float
    high: float


def summarise(values: Floats) -> Summary:
    if not values.size:
        return Summary(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p95, p99 = (float(np.quantile(values, q, method="higher")) for q in (0.5, 0.95, 0.99))
    return Summary(values.size, float(values.min()), p50, p95, p99, float(values.max()))
