"""The data that flows between stages, and the motion space all families meet in.

Time is an integer index: samples at 16 kHz for audio, frames for everything else. Nothing here
knows about clocks, files or networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = [
    "ACTIONS",
    "ARKIT_NAMES",
    "CONTROLS",
    "EMOTIONS",
    "EXPRESSION_NAMES",
    "EXTRA_NAMES",
    "FACTORS",
    "FRAME_RATE",
    "GAZE_NAMES",
    "MOTION",
    "POSE_NAMES",
    "SAMPLE_RATE",
    "STYLE_SIZE",
    "AudioChunk",
    "Cond",
    "ControlSpace",
    "FeatureChunk",
    "FrameChunk",
    "MotionChunk",
    "MotionSpace",
    "PixelFormat",
    "samples_per_frame",
]

SAMPLE_RATE = 16_000
FRAME_RATE = Fraction(25)

# The 52 blendshapes of Apple's ARKit, in ARKit's own order.
ARKIT_NAMES: tuple[str, ...] = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft",
    "eyeSquintLeft", "eyeWideLeft",
    "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight",
    "jawForward", "jawLeft", "jawRight", "jawOpen",
    "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthUpperUpLeft", "mouthUpperUpRight",
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight",
    "tongueOut",
)  # fmt: skip

# Columns 52..63: units the face model has (or that we author) beyond ARKit's.
EXTRA_NAMES: tuple[str, ...] = (
    "browInnerUpLeft", "browInnerUpRight",   # asymmetric remainder of browInnerUp
    "cheekPuffLeft", "cheekPuffRight",       # asymmetric remainder of cheekPuff
    "cheekRaiserLeft", "cheekRaiserRight",
    "pupilDilateLeft", "pupilDilateRight",
    "lipsSealed",                            # corrective: visible lip edges pressed together
    "tongueUp",                              # tip to the upper teeth (l, n, t, d)
    "tongueBack",                            # body drawn back (k, g)
    "lowerLipIn",                            # lower lip under the upper teeth (f, v)
)  # fmt: skip

EXPRESSION_NAMES: tuple[str, ...] = ARKIT_NAMES + EXTRA_NAMES
POSE_NAMES: tuple[str, ...] = ("rx", "ry", "rz", "tx", "ty", "tz")
GAZE_NAMES: tuple[str, ...] = ("gazePitch", "gazeYaw")


@dataclass(frozen=True)
class MotionSpace:
    """Names and units of the 72 columns of a :class:`MotionChunk`.

    * ``expression`` 0:64, each 0..1 (0–51 ARKit's names and order, 52–63 :data:`EXTRA_NAMES`).
    * ``pose`` 64:70, head rotation as axis-angle (rad) and translation (inter-ocular distances),
      both **relative to the portrait**. Axes: +x to the subject's left (image right), +y up,
      +z to the camera; so ry > 0 turns the nose to image right, rx > 0 nods down, rz > 0 tilts
      the head counter-clockwise in the image.
    * ``gaze`` 70:72, pitch (up > 0) and yaw (image right > 0) in rad, relative to the head.

    "Left" and "right" in column names are the subject's own.
    """

    names: tuple[str, ...] = EXPRESSION_NAMES + POSE_NAMES + GAZE_NAMES
    expression: ClassVar[slice] = slice(0, 64)
    rotation: ClassVar[slice] = slice(64, 67)
    translation: ClassVar[slice] = slice(67, 70)
    pose: ClassVar[slice] = slice(64, 70)
    gaze: ClassVar[slice] = slice(70, 72)
    size: int = 72

    def index(self, name: str) -> int:
        """Column of ``name``; KeyError names the closest valid ones."""
        try:
            return self.names.index(name)
        except ValueError:
            near = [n for n in self.names if n.lower().startswith(name[:5].lower())]
            raise KeyError(f"no motion column {name!r}; did you mean one of {near}?") from None

    def columns(self, prefix: str) -> list[int]:
        """All columns whose name starts with ``prefix``, in order."""
        return [i for i, n in enumerate(self.names) if n.startswith(prefix)]


MOTION = MotionSpace()


# The emotions of MEAD (Wang et al., 2020) besides neutral, which is all of them at 0.
EMOTIONS: tuple[str, ...] = ("angry", "contempt", "disgusted", "fearful", "happy", "sad", "surprised")

STYLE_SIZE = 64
"""Columns of a style code: what a family made of a reference clip (VAST's style vector, FlowVQTalker's
latent code), padded with zeros."""

FACTORS: tuple[str, ...] = ("lips", "pose", "eyes", "expression")
ACTIONS: tuple[str, ...] = ("nod", "tilt", "frontal")

# name, neutral, low, high
_SLIDERS: tuple[tuple[str, float, float, float], ...] = (
    ("strengthLips", 1.0, 0.0, 2.0),  # 1 = as sampled
    ("strengthBrows", 1.0, 0.0, 2.0),
    ("strengthEyes", 1.0, 0.0, 2.0),
    ("strengthHead", 1.0, 0.0, 2.0),
    ("gazePitch", 0.0, -0.5, 0.5),  # rad, added to the sampled gaze
    ("gazeYaw", 0.0, -0.7, 0.7),
    ("headLock", 0.0, 0.0, 1.0),  # 0 free .. 1 still
    ("smile", 0.0, -1.0, 1.0),  # -1 frown .. 1 smile, added to the expression
    ("seed", 0.0, 0.0, 65535.0),  # a whole number: another one is another performance
    *((f"emotion.{name}", 0.0, 0.0, 1.0) for name in EMOTIONS),  # strength of each
    *((f"action.{name}", 0.0, 0.0, 1.0) for name in ACTIONS),  # head motion forced by osm's bases
    *((f"follow.{name}", 0.0, 0.0, 1.0) for name in FACTORS),  # share of a factor the driver gives
    ("style", 0.0, 0.0, 1.0),  # strength of the reference clip's style code
)


def _driver_range(name: str) -> float:
    return 1.0 if name in POSE_NAMES[:3] else 2.0 if name in POSE_NAMES else 0.8


# Long vectors that a program sets, never a slider: one frame of motion from a driving video or a
# webcam (relative to the driver's own rest), and a style code.
_VECTORS: tuple[tuple[str, float, float, float], ...] = (
    *((f"driver.{name}", 0.0, 0.0, 1.0) for name in EXPRESSION_NAMES),
    *((f"driver.{n}", 0.0, -_driver_range(n), _driver_range(n)) for n in POSE_NAMES + GAZE_NAMES),
    *((f"style.{k:02d}", 0.0, -8.0, 8.0) for k in range(STYLE_SIZE)),
)
_ROWS = _SLIDERS + _VECTORS


@dataclass(frozen=True)
class ControlSpace:
    """Names, neutral values and ranges of the live controls that travel beside the features.

    ``sliders`` are single values a person sets; ``driver.*`` (72 columns, :class:`MotionSpace`) and
    ``style.*`` (:data:`STYLE_SIZE` columns) are vectors that programs set as a whole.
    """

    names: tuple[str, ...] = tuple(row[0] for row in _ROWS)
    neutral: tuple[float, ...] = tuple(row[1] for row in _ROWS)
    low: tuple[float, ...] = tuple(row[2] for row in _ROWS)
    high: tuple[float, ...] = tuple(row[3] for row in _ROWS)
    sliders: ClassVar[tuple[str, ...]] = tuple(row[0] for row in _SLIDERS)
    emotion: ClassVar[slice] = slice(9, 16)
    action: ClassVar[slice] = slice(16, 19)
    follow: ClassVar[slice] = slice(19, 23)
    driver: ClassVar[slice] = slice(len(_SLIDERS), len(_SLIDERS) + 72)
    style: ClassVar[slice] = slice(len(_SLIDERS) + 72, len(_SLIDERS) + 72 + STYLE_SIZE)

    @property
    def size(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        return self.names.index(name)

    def default(self, batch: int = 1) -> Tensor:
        """Neutral controls, float32 [B, K]."""
        return torch.tensor(self.neutral).repeat(batch, 1)

    def row(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """Neutral but for ``values`` by name, limited to the valid ranges; KeyError for an unknown name."""
        row = list(self.neutral)
        for name, value in values.items():
            if name not in self.names:
                raise KeyError(name)
            k = self.index(name)
            row[k] = min(max(float(value), self.low[k]), self.high[k])
        return tuple(row)

    def clamp(self, values: Tensor) -> Tensor:
        """``values`` [..., K] limited to the valid ranges."""
        return torch.maximum(torch.minimum(values, torch.tensor(self.high)), torch.tensor(self.low))


CONTROLS = ControlSpace()


class PixelFormat(str, Enum):
    """Layout of :attr:`FrameChunk.data`."""

    RGB = "rgb"
    """uint8 [B, T, H, W, 3]"""
    I420 = "i420"
    """uint8 [B, T, H*3//2, W]: Y rows, then U and V planes packed (BT.709, limited range)"""


@dataclass
class AudioChunk:
    """Audio that continues a stream: ``samples`` float32 [B, N] in -1..1 at 16 kHz."""

    t0: int
    samples: Tensor
    controls: Tensor | None = None
    """float32 [B, K] in :class:`ControlSpace`, in force for frames that start inside this chunk;
    None keeps the ones in force."""

    @property
    def t1(self) -> int:
        return self.t0 + int(self.samples.shape[1])


@dataclass
class FeatureChunk:
    """Per-frame audio features: ``data`` float32 [B, T, F], ``controls`` float32 [B, T, K]."""

    t0: int
    data: Tensor
    controls: Tensor

    @property
    def t1(self) -> int:
        return self.t0 + int(self.data.shape[1])


@dataclass
class MotionChunk:
    """Per-frame motion: ``data`` float32 [B, T, 72] in :data:`MOTION`."""

    t0: int
    data: Tensor

    @property
    def t1(self) -> int:
        return self.t0 + int(self.data.shape[1])


@dataclass
class FrameChunk:
    """Pictures: ``data`` uint8, laid out as :class:`PixelFormat` says."""

    t0: int
    data: Tensor
    format: PixelFormat = PixelFormat.RGB

    @property
    def t1(self) -> int:
        return self.t0 + int(self.data.shape[1])


@dataclass(frozen=True)
class Cond:
    """What a session prepares once, one entry per batch row.

    ``seed`` int64 [B]; ``rest`` float32 [B, 72], the motion at which each identity shows its own
    portrait; ``identity`` whatever the recipe's animator prepared (``None`` where no animator
    runs).
    """

    seed: Tensor
    rest: Tensor
    identity: tuple[Any, ...] = field(default=())

    @staticmethod
    def default(batch: int = 1, seed: int = 0) -> Cond:
        """A neutral condition; row b has seed ``seed + b``."""
        return Cond(
            seed=torch.arange(seed, seed + batch),
            rest=torch.zeros(batch, MOTION.size),
            identity=(None,) * batch,
        )

    @staticmethod
    def for_identity(identity: Any, seed: int = 0) -> Cond:
        """The condition of one stream that shows ``identity`` (None where no animator runs).

        ``identity.rest`` [72] is the motion at which it shows its own portrait.
        """
        rest = getattr(identity, "rest", None)
        row = torch.zeros(MOTION.size) if rest is None else torch.as_tensor(rest, dtype=torch.float32)
        return Cond(torch.tensor([seed]), row.reshape(1, MOTION.size).clone(), (identity,))

    @property
    def batch(self) -> int:
        return int(self.seed.shape[0])

    def row(self, b: int) -> Cond:
        """The condition of one row, as a batch of one."""
        return Cond(self.seed[b : b + 1], self.rest[b : b + 1], self.identity[b : b + 1])


def samples_per_frame(frame_rate: Fraction = FRAME_RATE) -> Fraction:
    """Audio samples owned by one frame (640 at 25 frames/s)."""
    return Fraction(SAMPLE_RATE) / frame_rate
