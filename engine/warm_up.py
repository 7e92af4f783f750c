"""Compiles every numba kernel once, so that the first session does not wait for it.

``python -m engine.warm_up`` (set-up runs it; the compiled code is cached beside the sources).
"""

from __future__ import annotations

import numpy as np

from kernels.i420 import rgb_to_i420

__all__ = ["main", "warm_up"]


def warm_up() -> None:
    """Call each compiled kernel on a small input."""
    rgb_to_i420(np.zeros((2, 2, 3), np.uint8))


def main() -> None:
    warm_up()
    print("kernels compiled")


if __name__ == "__main__":
    main()
