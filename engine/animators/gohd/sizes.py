"""The larger of the two sizes; the smaller one, for CPUs, is :data:`engine.animators.gohd.network.LITE`."""

from __future__ import annotations

from engine.animators.gohd.network import Size

__all__ = ["BASE", "SIZES"]

BASE = Size(side=512, channels=(48, 96, 160, 192), code=160, directions=48)
"""For GPUs: 35 GFLOP a frame. Channels are multiples of 16, as tensor cores like them. Coarse levels
hold most parameters and do little of the work, so they grow less than fine ones: with two mean moments per
parameter the whole training state still fits into a few small files."""

SIZES = {"lite": Size(), "base": BASE}
"""By the names that the trainer takes."""
