"""Live controls and the portrait's rest, joined with what was sampled, into one motion frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.gaze import Gaze
from engine.samplers.noise import Floats
from engine.types import CONTROLS, MOTION

__all__ = ["ControlState", "Controls", "add_eyes", "add_smile", "smooth_controls"]

_GAZE_LIMIT = np.array([0.6, 0.8])
# Gaze angle at which an eyeLook column reaches 1 (rad): up/down, in/out.
_LOOK_RANGE = (0.5, 0.6)


@dataclass
class ControlState:
    """``last`` [B, K]: the controls of the previous frame; ``begun`` [B]: 0 before the first."""

    last: Floats
    begun: Floats


@dataclass(frozen=True)
class Controls:
    """The controls of one frame, each [B]."""

    lips: Floats
    brows: Floats
    eyes: Floats
    head: Floats
    gaze: Floats
    """[B, 2] pitch, yaw (rad)"""
    smile: Floats


def smooth_controls(values: Floats, state: ControlState) -> Controls:
    """Clamp ``values`` [B, K] and mix them half and half with the previous frame's.

    So a change shows half on its first frame and fully on the second.
    """
    low, high = np.array(CONTROLS.low), np.array(CONTROLS.high)
    neutral = np.array(CONTROLS.neutral)
    now = np.clip(np.where(np.isfinite(values), values, neutral), low, high)
    before = np.where(state.begun[:, None] > 0, state.last, now)
    mixed = 0.5 * (now + before)
    state.last[...] = now
    state.begun[...] = 1.0

    def column(name: str) -> Floats:
        return np.asarray(mixed[:, CONTROLS.index(name)])

    free = 1.0 - column("headLock")
    return Controls(
        lips=column("strengthLips"),
        brows=column("strengthBrows"),
        eyes=column("strengthEyes"),
        head=column("strengthHead") * free,
        gaze=np.stack([column("gazePitch"), column("gazeYaw")], axis=1),
        smile=column("smile"),
    )


_LOOK = {
    name: [MOTION.index(f"eyeLook{name}{side}") for side in ("Left", "Right")]
    for name in ("Down", "In", "Out", "Up")
}
_BLINK = MOTION.columns("eyeBlink")
_SMILE = MOTION.columns("mouthSmile")
_FROWN = MOTION.columns("mouthFrown")
_CHEEK = MOTION.columns("cheekSquint")
_SQUINT = MOTION.columns("eyeSquint")


def add_eyes(motion: Floats, gaze: Floats, rotation: Floats, blink: Floats, controls: Controls) -> None:
    """Gaze, the eyeLook columns that follow it, and the lids, added in place to ``motion`` [B, 72].

    ``gaze`` [B, 2] sampled, in the world; ``rotation`` [B, 3] of the head; ``blink`` [B] closure.
    A blink keeps closing fully down to half strength: half-shut eyes look ill, not calm.
    """
    sampled = Gaze.against_head(gaze * controls.eyes[:, None], rotation)
    motion[:, MOTION.gaze] += np.clip(sampled + controls.gaze, -_GAZE_LIMIT, _GAZE_LIMIT)
    pitch, yaw = motion[:, MOTION.gaze].T
    motion[:, _LOOK["Up"]] += np.clip(pitch / _LOOK_RANGE[0], 0.0, 1.0)[:, None]
    motion[:, _LOOK["Down"]] += np.clip(-pitch / _LOOK_RANGE[0], 0.0, 1.0)[:, None]
    # yaw > 0 looks to image right, the subject's left: the left eye turns out, the right eye in.
    out = np.clip(np.stack([yaw, -yaw], axis=1) / _LOOK_RANGE[1], -1.0, 1.0)
    motion[:, _LOOK["Out"]] += np.maximum(out, 0.0)
    motion[:, _LOOK["In"]] += np.maximum(-out, 0.0)
    # Lids follow vertical gaze: about a third of a closure at 30 degrees down.
    droop = 0.35 * np.clip(-pitch / _LOOK_RANGE[0], 0.0, 1.0)
    shut = blink * np.clip(2.0 * controls.eyes, 0.0, 1.0)
    motion[:, _BLINK] += (shut + droop * (1.0 - shut))[:, None]
    motion[:, _SQUINT] += 0.12 * shut[:, None]


def add_smile(motion: Floats, smile: Floats) -> None:
    """The smile control, -1 (frown) .. 1, in place; cheeks and lids take part."""
    up, down = np.maximum(smile, 0.0)[:, None], np.maximum(-smile, 0.0)[:, None]
    motion[:, _SMILE] += 0.65 * up - 0.3 * down
    motion[:, _CHEEK] += 0.35 * up
    motion[:, _SQUINT] += 0.15 * up
    motion[:, _FROWN] += 0.6 * down - 0.3 * up
