"""Runs the default recipe once on a bundled portrait, so that the first session does not wait.

``python -m engine.warm_up`` (set-up runs it). What it compiles, numba caches beside the sources; a
second run takes seconds.
"""

from __future__ import annotations

import numpy as np
import torch

from engine.config import asset_path
from engine.face.image import load_image
from engine.face.portrait import analyse_portrait
from engine.recipes import build, prepare_identity
from engine.types import MOTION, AudioChunk, Cond, MotionChunk, PixelFormat
from kernels.i420 import rgb_to_i420

__all__ = ["main", "warm_up"]

_FRAMES = 4


def warm_up() -> int:
    """Draw a few frames in every quality tier and pixel format; returns how many were drawn.

    Raises:
        AssetError: weights or model files are missing.
    """
    torch.set_num_threads(1)
    pipeline = build("default", PixelFormat.I420)
    identity = prepare_identity(pipeline, analyse_portrait(load_image(asset_path("demo/astronaut.png"))))
    cond = Cond.for_identity(identity)
    noise = torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal((1, 640 * _FRAMES), np.float32))
    drawn = 0
    for tier in (0, 1):
        state = pipeline.init_state(1, cond)
        pipeline.set_tier(state, tier)
        drawn += pipeline.step(AudioChunk(0, noise), state).data.shape[1]
        drawn += int(pipeline.stages[-1].step(_extremes(state.next_frame or 0), state.animator).data.shape[1])
    rgb_to_i420(np.zeros((2, 2, 3), np.uint8))
    return drawn


def _extremes(t0: int) -> MotionChunk:
    """Motions that reach every branch: an open mouth, a blink, a turned head, eyes to the side."""
    motion = torch.zeros(1, 2, MOTION.size)
    for name in ("jawOpen", "mouthUpperUpLeft", "tongueOut"):
        motion[0, 0, MOTION.index(name)] = 0.6
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        motion[0, 1, MOTION.index(name)] = 1.0
    motion[0, :, MOTION.index("ry")] = 0.2
    motion[0, :, MOTION.index("gazeYaw")] = 0.2
    return MotionChunk(t0, motion)


def main() -> None:
    print(f"kernels compiled, {warm_up()} frames drawn")


if __name__ == "__main__":
    main()
