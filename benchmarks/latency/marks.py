"""Marks in the sound: short rising tones that survive speech, Opus and resampling.

A mark is a linear chirp. Its position is the position of its **last** sample, so that a listener can
name it as soon as it has passed. Marks stand at irregular, known times: a list of heard positions fits
the list of sent ones in one way only, whatever the delay between them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.types import SAMPLE_RATE

__all__ = [
    "GUARD",
    "MARK_SECONDS",
    "MarkListener",
    "find_marks",
    "mark_waveform",
    "match_marks",
    "place_marks",
]

MARK_SECONDS = 0.03
_LOW_HZ, _HIGH_HZ = 1200.0, 4200.0
_THRESHOLD = 0.55
_LEAST_RUN = 3
_LARGEST_JUMP_S = 0.4
_BLOCK_S = 8.0
_LARGEST_START_S = 20.0

Floats = NDArray[np.float64]
GUARD = 80
"""Samples at 16 kHz a listener waits after a mark, to be sure that it saw the peak."""


def mark_waveform(rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """One mark with amplitude 1 at ``rate`` samples per second, float32 [MARK_SECONDS * rate]."""
    t = np.arange(round(MARK_SECONDS * rate)) / rate
    phase = 2 * np.pi * (_LOW_HZ * t + (_HIGH_HZ - _LOW_HZ) * t**2 / (2 * MARK_SECONDS))
    window = np.sin(np.pi * (np.arange(t.size) + 0.5) / t.size) ** 0.5
    return (np.sin(phase) * window).astype(np.float32)


def place_marks(start: float, end: float, seed: int, period: float = 0.5) -> list[float]:
    """Times (s) of marks between ``start`` and ``end``, about one per ``period``, irregular by seed."""
    rng = np.random.default_rng(seed)
    count = max(0, int((end - start) / period))
    return [start + period * (i + 0.5 + rng.uniform(-0.3, 0.3)) for i in range(count)]


def _correlation(signal: NDArray[np.float32], mark: NDArray[np.float32]) -> NDArray[np.float64]:
    """Normalised correlation -1..1 for marks that end at sample ``len(mark) - 1 + i``."""
    product = np.correlate(signal, mark, "valid").astype(np.float64)
    energy = np.convolve(signal.astype(np.float64) ** 2, np.ones(mark.size), "valid")
    floor = 1e-4 * mark.size  # -40 dBFS: noise alone is never a mark
    return product / np.sqrt(np.maximum(energy, floor) * float(mark @ mark))


def _peaks(score: NDArray[np.float64], guard: int) -> list[int]:
    """Indices with ``guard`` neighbours on both sides of which none is higher, above the threshold."""
    found = []
    for i in np.flatnonzero(score[guard : score.size - guard] > _THRESHOLD) + guard:
        around = score[i - guard : i + guard + 1]
        if score[i] >= around.max() and int(around.argmax()) == guard:
            found.append(int(i))
    return found


def find_marks(signal: NDArray[np.float32], rate: int) -> list[int]:
    """Positions (index of the last sample) of all marks in ``signal`` [N]."""
    mark = mark_waveform(rate)
    if signal.size < mark.size:
        return []
    from scipy.signal import oaconvolve

    product = oaconvolve(signal.astype(np.float64), mark[::-1].astype(np.float64), "valid")
    power = np.concatenate([[0.0], np.cumsum(signal.astype(np.float64) ** 2)])
    energy = power[mark.size :] - power[: -mark.size]
    score = product / np.sqrt(np.maximum(energy, 1e-4 * mark.size) * float(mark @ mark))
    guard = GUARD * rate // SAMPLE_RATE
    padded = np.pad(score, guard)
    return [i - guard + mark.size - 1 for i in _peaks(padded, guard)]


class MarkListener:
    """Finds marks in a stream of engine frames at 16 kHz; each frame costs a fraction of a millisecond.

    A mark is reported :data:`GUARD` samples after its last sample, in the frame that owns that moment.
    """

    def __init__(self) -> None:
        self._mark = mark_waveform()
        self._keep = self._mark.size - 1 + 2 * GUARD
        self._tail = np.zeros(self._keep, np.float32)

    def hear(self, samples: NDArray[np.float32]) -> int | None:
        """Offset 0..N-1 in ``samples`` [N] at which a mark is reported, or None."""
        signal = np.concatenate([self._tail, samples])
        self._tail = signal[-self._keep :]
        # score[i] belongs to a mark whose last sample is signal[i + mark - 1]; the report follows
        # GUARD samples later, at samples[i - GUARD].
        peaks = _peaks(_correlation(signal, self._mark), GUARD)
        return peaks[0] - GUARD if peaks else None


def match_marks(
    sent: Floats, heard: Floats, tolerance: float = 0.02, near: float | None = None
) -> list[tuple[int, int]]:
    """Pairs (index in ``sent``, index in ``heard``), ascending, of the delay that explains most of ``heard``.

    Both are ascending times in seconds on clocks that differ by any constant; the delay may wander
    slowly, by less than ``tolerance`` between neighbouring marks, and may jump now and then.
    ``near``: only delays that a jump from this one could lead to.

    Long recordings are matched block by block: over minutes a delay wanders far, and by then some
    wrong constant delay explains as many marks as the true one.
    """
    pairs: list[tuple[int, int]] = []
    lag, start = near, 0
    while start < heard.size:
        stop = int(np.searchsorted(heard, heard[start] + _BLOCK_S, side="right"))
        low, high = _reachable(sent, heard[start:stop], lag)
        low = max(low, pairs[-1][0] + 1 if pairs else 0)
        found = [(i + low, j + start) for i, j in _match(sent[low:high], heard[start:stop], tolerance, lag)]
        if found:
            pairs += found
            lag = float(heard[found[-1][1]] - sent[found[-1][0]])
        start = stop
    return pairs


def _reachable(sent: Floats, heard: Floats, lag: float | None) -> tuple[int, int]:
    """The range of ``sent`` that can have become ``heard`` if the delay is near ``lag`` (None: unknown)."""
    reach = _LARGEST_JUMP_S if lag is not None else _LARGEST_START_S
    low, high = np.searchsorted(sent, [heard[0] - (lag or 0.0) - reach, heard[-1] - (lag or 0.0) + reach])
    return int(low), int(high)


def _match(sent: Floats, heard: Floats, tolerance: float, lag: float | None) -> list[tuple[int, int]]:
    """As :func:`match_marks`; with ``lag``, only delays that a jump from it could lead to."""
    pairs = _best_run(sent, heard, tolerance, lag)
    if not pairs or (lag is not None and len(pairs) < _LEAST_RUN):
        return []
    # A jump (a starved sender) ends a run: what lies before and after it is matched by itself.
    (i0, j0), (i1, j1) = pairs[0], pairs[-1]
    before = _match(sent[:i0], heard[:j0], tolerance, float(heard[j0] - sent[i0]))
    after = _match(sent[i1 + 1 :], heard[j1 + 1 :], tolerance, float(heard[j1] - sent[i1]))
    return before + pairs + [(i + i1 + 1, j + j1 + 1) for i, j in after]


def _best_run(sent: Floats, heard: Floats, tolerance: float, lag: float | None) -> list[tuple[int, int]]:
    """The longest run of marks at a delay that only wanders."""
    if not sent.size or not heard.size:
        return []
    anchors = np.linspace(0, heard.size - 1, min(heard.size, 12)).astype(int)
    lags = (heard[anchors][:, None] - sent[None, :]).ravel()
    if lag is not None:
        lags = lags[np.abs(lags - lag) < _LARGEST_JUMP_S]
    seeds = sorted((_nearest(sent, heard - at, tolerance) for at in lags), key=len, reverse=True)
    found = max((_follow(sent, heard, seed, tolerance) for seed in seeds[:40]), key=len, default={})
    return sorted((i, j) for j, i in found.items())


def _nearest(sent: Floats, times: Floats, tolerance: float) -> dict[int, int]:
    """index in ``times`` -> index of the nearest of ``sent``, where that is near enough."""
    right = np.clip(np.searchsorted(sent, times), 1, max(1, sent.size - 1))
    left = right - 1
    near = np.where(np.abs(sent[left] - times) <= np.abs(sent[right % sent.size] - times), left, right)
    near = np.minimum(near, sent.size - 1)
    return {int(j): int(near[j]) for j in np.flatnonzero(np.abs(sent[near] - times) <= tolerance)}


def _follow(sent: Floats, heard: Floats, pairs: dict[int, int], tolerance: float) -> dict[int, int]:
    """Extend ``pairs`` forward and back, each mark expected at its neighbour's delay."""
    found = dict(pairs)
    for order in (range(heard.size), range(heard.size - 1, -1, -1)):
        lag: float | None = None
        for j in order:
            if j not in found and lag is not None:
                near = _nearest(sent, heard[j : j + 1] - lag, tolerance)
                if near and near[0] not in found.values():
                    found[j] = near[0]
            if j in found:
                lag = float(heard[j] - sent[found[j]])
    return found
