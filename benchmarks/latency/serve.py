"""``visavis serve`` with stamped pipelines: ``python -m benchmarks.latency.serve --budget-ms 160 ...``.

Takes exactly the options of ``visavis serve``; every recipe serves its stamped twin.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.latency.stamped import StampedPipeline
from engine.pipeline import Pipeline
from engine.recipes import RECIPES
from engine.types import PixelFormat

__all__ = ["main"]


def _stamped(make: Callable[[PixelFormat], Pipeline]) -> Callable[[PixelFormat], Pipeline]:
    return lambda pixels: StampedPipeline(make(pixels))


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted; the exit status of ``visavis serve``."""
    from streaming.cli import main as visavis

    for name, make in list(RECIPES.items()):
        RECIPES[name] = _stamped(make)
    return visavis(["serve", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
