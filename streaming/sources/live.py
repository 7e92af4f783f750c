"""Audio that arrives in real time from another clock: jitter, loss and drift are settled here.

Packets carry the sender's own sample index; each is placed on the time line at index + offset.

* Jitter: the offset is such that nine packets in ten are there within a third of the patience after
  their nominal time (being late costs no delay, only time to compute); what has not come when it is
  needed becomes silence.
* Drift: when lateness wanders, each packet is stretched or squeezed by a few samples (< 0.5 %), so
  delay never grows. Only a jump (a sender that paused, a first packet that was stuck) moves at once.
* Loss: missing indices become silence; duplicates and packets that come after their silence are lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from streaming.clock import OUT_RATE
from streaming.resample import stretch
from streaming.sources.base import Samples

__all__ = ["LiveSource"]

_PER_MS = OUT_RATE // 1000
_LEAST_TOLERATED = 2 * _PER_MS
_EARLY = -25 * _PER_MS
_JUMP = 60 * _PER_MS
_WINDOW = 100
_MAX_SLIP = 0.004
_LONGEST_GAP = 2 * OUT_RATE
_FAR_AHEAD = 250 * _PER_MS


class LiveSource:
    """Push packets as they arrive, read the time line.

    Args:
        head: gives the session's arrived samples (48 kHz) at this moment.
        patience_ms: how long the time line waits for late audio before it takes silence.
        on_data: called after each packet, so that the session can use it at once.
        on_slip: told how many samples were inserted or dropped.
    """

    def __init__(
        self,
        name: str,
        head: Callable[[], int],
        patience_ms: float,
        on_data: Callable[[], None] = lambda: None,
        on_slip: Callable[[int], None] = lambda n: None,
    ) -> None:
        self.name = name
        self._head = head
        self._patience = int(patience_ms * _PER_MS)
        self._tolerated = max(_LEAST_TOLERATED, self._patience // 3)
        self._on_data = on_data
        self._on_slip = on_slip
        self._offset: int | None = None
        self._expected = 0
        self._raw_lateness: deque[int] = deque(maxlen=_WINDOW)
        self._waiting: deque[tuple[int, Samples]] = deque()
        self._read_to = 0
        self._error: BaseException | None = None

    def push(self, samples: Samples, index: int | None = None) -> None:
        """One packet [N] at 48 kHz; ``index`` is the sender's own sample index (None: it follows on)."""
        if not samples.size:
            return
        index = self._expected if index is None else index
        head = self._head()
        if self._offset is None or not -_WINDOW <= index - self._expected <= _LONGEST_GAP:
            self._anchor(index + samples.size, head)
        elif index + samples.size + self._offset - head > _FAR_AHEAD:
            # A burst of old audio, sent all at once: only its end is of this moment.
            self._anchor(index + samples.size, head)
        assert self._offset is not None
        self._expected = index + samples.size
        self._raw_lateness.append(head - self._expected)
        extra = self._slip(samples.size)
        placed = stretch(samples, extra)
        self._waiting.append((index + self._offset, placed))
        self._offset += extra
        self._on_data()

    def read(self, start: int, head: int) -> Samples:
        parts: list[Samples] = []
        position = start
        while self._waiting:
            at, samples = self._waiting[0]
            if at + samples.size <= position:
                self._waiting.popleft()
                continue
            gap = at - position
            if gap > 0:
                # A hole with audio behind it is loss; time alone decides whether it may still fill.
                parts.append(np.zeros(gap, np.float32))
                position = at
            self._waiting.popleft()
            parts.append(samples[position - at :])
            position = at + samples.size
        overdue = head - self._patience - position
        if overdue > 0:
            parts.append(np.zeros(overdue, np.float32))
            position += overdue
        self._read_to = position
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def clear(self) -> int:
        forgotten = sum(samples.size for _, samples in self._waiting)
        self._waiting.clear()
        return forgotten

    async def close(self) -> None:
        self._waiting.clear()

    def fail(self, error: BaseException) -> None:
        """Mark the source as broken."""
        self._error = error

    def failure(self) -> BaseException | None:
        return self._error

    @property
    def lateness_ms(self) -> float:
        """Ninth decile of arrival minus nominal time over the last two seconds."""
        return self._lateness() / _PER_MS

    def _anchor(self, end: int, head: int) -> None:
        """Let the packet that ends at the sender's ``end`` end now."""
        self._offset = max(head, self._read_to) - end
        self._raw_lateness.clear()
        self._expected = end

    def _lateness(self) -> int:
        if not self._raw_lateness or self._offset is None:
            return 0
        return int(np.quantile(self._raw_lateness, 0.9)) - self._offset

    def _slip(self, size: int) -> int:
        """How many samples to add to (or take from) this packet."""
        assert self._offset is not None
        if len(self._raw_lateness) < 10:
            return 0
        late = self._lateness()
        if abs(late) > _JUMP:
            self._offset += late
            self._on_slip(abs(late))
            return 0
        error = max(0, late - self._tolerated) + min(0, late - _EARLY)
        if not error:
            return 0
        # A tenth of the error per packet, at most 0.4 % of it: quick at first, then gentle.
        limit = max(1, int(_MAX_SLIP * size))
        extra = int(np.clip(round(error / 10), -limit, limit)) or (1 if error > 0 else -1)
        self._on_slip(abs(extra))
        return extra
