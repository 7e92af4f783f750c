"""Which quality tier a session can afford, decided frame by frame from what its frames cost."""

from __future__ import annotations

from collections import deque

from streaming.clock import MS

__all__ = ["Governor"]


class Governor:
    """Lowers the tier under sustained overload and raises it again when there is room.

    Overload: within the last second more than a tenth of the frames missed, or the mean cost was
    above 85 % of a frame's time. Room: for ``patience`` seconds no miss and a mean cost below half.
    Each relapse doubles the patience (up to a minute), so the picture does not flicker between tiers.

    Args:
        frame_ms: time of one frame.
        tiers: number of tiers (0 is the best).
        tier: the one to begin with.
    """

    def __init__(self, frame_ms: float, tiers: int = 2, patience_s: float = 5.0, tier: int = 0) -> None:
        self._frame_ms = frame_ms
        self._tiers = tiers
        self._first_patience = patience_s
        self._patience = patience_s
        self._recent: deque[tuple[float, bool]] = deque(maxlen=max(2, round(1000 / frame_ms)))
        self._calm_since: int | None = None
        self._raised_at: int | None = None
        self.tier = tier

    def update(self, now_ns: int, compute_ms: float, missed: bool) -> int:
        """Take note of one frame and return the tier for the next."""
        self._recent.append((compute_ms, missed))
        if len(self._recent) < (self._recent.maxlen or 0):
            return self.tier
        mean = sum(cost for cost, _ in self._recent) / len(self._recent)
        misses = sum(miss for _, miss in self._recent)
        if misses > 0.1 * len(self._recent) or mean > 0.85 * self._frame_ms:
            self._lower(now_ns)
        elif misses or mean > 0.5 * self._frame_ms:
            self._calm_since = None
        else:
            self._maybe_raise(now_ns)
        return self.tier

    def _lower(self, now_ns: int) -> None:
        self._calm_since = None
        if self.tier + 1 >= self._tiers:
            return
        self.tier += 1
        self._recent.clear()
        relapse = self._raised_at is not None and now_ns - self._raised_at < 2 * self._patience * 1000 * MS
        self._patience = min(60.0, 2 * self._patience) if relapse else self._first_patience

    def _maybe_raise(self, now_ns: int) -> None:
        if self.tier == 0:
            return
        if self._calm_since is None:
            self._calm_since = now_ns
        if now_ns - self._calm_since >= self._patience * 1000 * MS:
            self.tier -= 1
            self._raised_at, self._calm_since = now_ns, None
            self._recent.clear()
