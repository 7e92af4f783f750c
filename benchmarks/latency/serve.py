"""``visavis serve`` with stamped pipelines: ``python -m benchmarks.latency.serve --budget-ms 160 ...``.

Takes exactly the options of ``visavis serve``; every recipe serves its stamped twin.
"""

from __future__ import annotations

import sys

from benchmarks.latency.stamped import StampedPipeline
from engine.pipeline import Pipeline
from engine.recipes import RECIPES, Recipe
from engine.types import PixelFormat

__all__ = ["main"]


def _stamped(make: Recipe) -> Recipe:
    def stamped(pixels: PixelFormat, animator: str = "") -> Pipeline:
        return StampedPipeline(make(pixels, animator))

    return stamped


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted; the exit status of ``visavis serve``."""
    from streaming.cli import main as visavis

    for name, make in list(RECIPES.items()):
        RECIPES[name] = _stamped(make)
    return visavis(["serve", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
