"""Live controls and the portrait's rest, joined with what was sampled, into one motion frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.samplers.factors import FACTOR_COLUMNS
from engine.samplers.noise import Floats
from engine.samplers.rows import Bools
from engine.types import CONTROLS, EMOTIONS, FACTORS, MOTION

__all__ = [
    "ControlState",
    "Controls",
    "add_eyes",
    "add_smile",
    "follow_driver",
    "fresh_controls",
    "smooth_controls",
]

_SEED = CONTROLS.index("seed")
_STYLE = CONTROLS.index("style")
_EMOTION_RATE = 0.2
_GAZE_LIMIT = np.array([0.6, 0.8])
# Gaze angle at which an eyeLook column reaches 1 (rad): up/down, in/out.
_LOOK_RANGE = (0.5, 0.6)


@dataclass
class ControlState:
    """``last`` [B, K]: the controls of the previous frame; ``begun`` [B]: 0 before the first;
    ``emotion`` [B, 7]: how far each has come; ``changing`` [B, 4]: 1 where a factor's source changed in the
    previous frame, of which this frame shows the second half."""

    last: Floats
    begun: Floats
    emotion: Floats
    changing: Floats


def fresh_controls(batch: int) -> ControlState:
    """Before the first frame."""
    zero = np.zeros(batch)
    return ControlState(
        np.zeros((batch, CONTROLS.size)), zero, np.zeros((batch, len(EMOTIONS))), np.zeros((batch, 4))
    )


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
    emotion: Floats
    """[B, 7] strength of each of :data:`~engine.types.EMOTIONS`, approached over a fifth of a second"""
    action: Floats
    """[B, 3] :data:`~engine.types.ACTIONS`"""
    follow: Floats
    """[B, 4] share of each of :data:`~engine.types.FACTORS` that the driver gives"""
    driver: Floats
    """[B, 72] the driver's motion"""
    style: Floats
    """[B] strength of the style code"""
    code: Floats
    """[B, STYLE_SIZE]"""
    seed: Floats
    """[B] whole numbers"""
    changed: Bools
    """[B, 4] the factor's source, seed or style is not that of the frame before: the motion may jump"""


def smooth_controls(values: Floats, state: ControlState) -> Controls:
    """Clamp ``values`` [B, K] and mix them half and half with the previous frame's.

    So a change shows half on its first frame and fully on the second. Emotions take longer, as faces
    do, from the first frame on; seed, driver and style code are not mixed.
    """
    low, high = np.array(CONTROLS.low), np.array(CONTROLS.high)
    neutral = np.array(CONTROLS.neutral)
    now = np.clip(np.where(np.isfinite(values), values, neutral), low, high)
    begun = state.begun[:, None] > 0
    before = np.where(begun, state.last, now)
    mixed = 0.5 * (now + before)
    goal = now[:, CONTROLS.emotion]
    state.emotion[...] = np.where(begun, state.emotion + _EMOTION_RATE * (goal - state.emotion), goal)
    jump = np.abs(now - before)
    whole = (jump[:, _SEED] > 0.5) | (jump[:, CONTROLS.style].max(1) > 1e-4) | (jump[:, _STYLE] > 0.05)
    changed = whole[:, None] | (jump[:, CONTROLS.follow] > 0.05)
    shown = changed | (state.changing > 0)
    state.changing[...] = changed
    state.last[...] = now
    state.begun[...] = 1.0
    return Controls(
        lips=mixed[:, CONTROLS.index("strengthLips")],
        brows=mixed[:, CONTROLS.index("strengthBrows")],
        eyes=mixed[:, CONTROLS.index("strengthEyes")],
        head=mixed[:, CONTROLS.index("strengthHead")] * (1.0 - mixed[:, CONTROLS.index("headLock")]),
        gaze=mixed[:, [CONTROLS.index("gazePitch"), CONTROLS.index("gazeYaw")]],
        smile=mixed[:, CONTROLS.index("smile")],
        emotion=state.emotion.copy(),
        action=mixed[:, CONTROLS.action],
        follow=mixed[:, CONTROLS.follow],
        driver=now[:, CONTROLS.driver],
        style=mixed[:, _STYLE],
        code=now[:, CONTROLS.style],
        seed=np.round(now[:, _SEED]),
        changed=shown,
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


def add_eyes(motion: Floats, gaze: Floats, blink: Floats, controls: Controls) -> None:
    """Gaze, the eyeLook columns that follow it, and the lids, added in place to ``motion`` [B, 72].

    ``gaze`` [B, 2] sampled, relative to the head; ``blink`` [B] closure. A blink keeps closing fully
    down to half strength: half-shut eyes look ill, not calm.
    """
    motion[:, MOTION.gaze] += np.clip(gaze + controls.gaze, -_GAZE_LIMIT, _GAZE_LIMIT)
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


def follow_driver(motion: Floats, controls: Controls, rest: Floats, skipped: tuple[str, ...] = ()) -> None:
    """Mix the driver's factors into ``motion`` [B, 72] in place, by the share each is followed.

    The driver's motion counts from the driver's own rest, so it is set upon the portrait's ``rest``.
    Factors in ``skipped`` have been taken up before.
    """
    if not np.any(controls.follow):
        return
    for k, factor in enumerate(FACTORS):
        if factor in skipped:
            continue
        columns, share = FACTOR_COLUMNS[factor], controls.follow[:, k, None]
        goal = controls.driver[:, columns] + (0.0 if factor == "lips" else rest[:, columns])
        motion[:, columns] += share * (goal - motion[:, columns])
