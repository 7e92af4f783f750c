"""Work of one frame on two threads: the caller's and, where there is one, a helper's.

What they run releases the GIL (numba, OpenCV), and pictures do not depend on who drew what.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

__all__ = ["in_bands", "start"]


def start(helper: Executor | None, work: Callable[..., None], *args: object) -> Callable[[], None]:
    """Run ``work`` on ``helper`` and return what waits for it; without one, run it now."""
    if helper is None:
        work(*args)
        return lambda: None
    return helper.submit(work, *args).result


def in_bands(
    helper: Executor | None, work: Callable[[int, int], None], rows: int, cut: int | None = None
) -> None:
    """``work(first, stop)`` for all of 0..``rows``, rows from ``cut`` (the middle) on by ``helper``;
    ends when both have."""
    middle = rows // 2 if cut is None else cut
    finish = start(helper, work, middle, rows)
    work(0, middle)
    finish()
