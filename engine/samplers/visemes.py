"""What each phone asks of the lips: targets and dominances, and how channels become columns.

The mouth is described by :data:`LIP_CHANNELS`, symmetric units of the motion space. A phone's target
is drawn by hand after the phonetic place of articulation; its *dominance* says how firmly it insists
on each channel against its neighbours (Cohen, Massaro, "Modeling coarticulation in synthetic visual
speech", 1993): /m b p/ insist on closed lips, /u w/ on rounding, /f v/ on the lower lip, whereas
/k t h/ take the lips of the vowel beside them.
"""

from __future__ import annotations

import numpy as np

from engine.samplers.noise import Floats
from engine.types import MOTION

__all__ = ["LIP_CHANNELS", "LIP_COLUMNS", "spread_columns", "viseme_table"]

LIP_CHANNELS: tuple[str, ...] = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmile", "mouthStretch",
    "mouthRollLower", "mouthRollUpper", "mouthPress", "mouthLowerDown", "mouthUpperUp",
    "lipsSealed", "lowerLipIn", "tongueUp", "tongueBack",
)  # fmt: skip

LIP_COLUMNS: tuple[tuple[int, ...], ...] = tuple(
    (MOTION.index(name),) if name in MOTION.names else tuple(MOTION.columns(name)) for name in LIP_CHANNELS
)
"""Motion columns each channel drives: one, or left and right."""

# Short names of the channels, in the order of LIP_CHANNELS.
_SHORT = (
    "jaw", "close", "funnel", "pucker", "smile", "stretch", "roll_lower", "roll_upper", "press",
    "lower", "upper", "seal", "lip_in", "tip", "back",
)  # fmt: skip

# phone -> targets. jaw, lower and upper in units of a wide vowel (1 = as in "father").
_T = dict[str, float]
_TARGETS: dict[str, _T] = {
    "SIL": {},
    "AA": {"jaw": 1.0, "lower": 0.55, "upper": 0.25},
    "AE": {"jaw": 0.85, "lower": 0.7, "upper": 0.4, "stretch": 0.3, "smile": 0.15},
    "AH": {"jaw": 0.6, "lower": 0.45, "upper": 0.2},
    "AO": {"jaw": 0.8, "funnel": 0.4, "pucker": 0.25, "lower": 0.25},
    "AW": {"jaw": 0.85, "funnel": 0.25, "lower": 0.4, "upper": 0.15},
    "AY": {"jaw": 0.8, "lower": 0.6, "upper": 0.3, "stretch": 0.2, "smile": 0.1},
    "EH": {"jaw": 0.6, "lower": 0.6, "upper": 0.35, "stretch": 0.3, "smile": 0.12},
    "ER": {"jaw": 0.4, "funnel": 0.3, "pucker": 0.1, "lower": 0.25, "back": 0.3},
    "EY": {"jaw": 0.5, "lower": 0.6, "upper": 0.35, "stretch": 0.4, "smile": 0.2},
    "IH": {"jaw": 0.4, "lower": 0.5, "upper": 0.3, "stretch": 0.35, "smile": 0.15},
    "IY": {"jaw": 0.3, "lower": 0.55, "upper": 0.35, "stretch": 0.5, "smile": 0.3},
    "OW": {"jaw": 0.4, "funnel": 0.25, "pucker": 0.6},
    "OY": {"jaw": 0.6, "funnel": 0.4, "pucker": 0.4},
    "UH": {"jaw": 0.35, "funnel": 0.25, "pucker": 0.4},
    "UW": {"jaw": 0.2, "funnel": 0.15, "pucker": 0.9},
    "UE": {"jaw": 0.2, "funnel": 0.2, "pucker": 0.8},
    "OE": {"jaw": 0.4, "funnel": 0.3, "pucker": 0.55},
    "B": {"jaw": 0.12, "close": 0.12, "seal": 1.0, "press": 0.3},
    "P": {"jaw": 0.12, "close": 0.12, "seal": 1.0, "press": 0.35},
    "M": {"jaw": 0.12, "close": 0.12, "seal": 1.0, "press": 0.2,
          "roll_lower": 0.12, "roll_upper": 0.08},
    "F": {"jaw": 0.15, "lip_in": 1.0, "upper": 0.3, "roll_lower": 0.15},
    "V": {"jaw": 0.17, "lip_in": 0.9, "upper": 0.28, "roll_lower": 0.12},
    "TH": {"jaw": 0.28, "lower": 0.4, "upper": 0.15, "tip": 0.7},
    "DH": {"jaw": 0.28, "lower": 0.4, "upper": 0.15, "tip": 0.6},
    "T": {"jaw": 0.2, "lower": 0.45, "upper": 0.15, "stretch": 0.1, "tip": 0.9},
    "D": {"jaw": 0.22, "lower": 0.45, "upper": 0.15, "stretch": 0.1, "tip": 0.9},
    "N": {"jaw": 0.24, "lower": 0.4, "upper": 0.12, "tip": 0.9},
    "L": {"jaw": 0.34, "lower": 0.4, "upper": 0.12, "tip": 1.0},
    "S": {"jaw": 0.1, "lower": 0.55, "upper": 0.25, "stretch": 0.3, "smile": 0.1,
          "tip": 0.4},
    "Z": {"jaw": 0.1, "lower": 0.5, "upper": 0.22, "stretch": 0.28, "tip": 0.4},
    "SH": {"jaw": 0.12, "funnel": 0.65, "pucker": 0.2, "lower": 0.2, "tip": 0.3},
    "ZH": {"jaw": 0.12, "funnel": 0.6, "pucker": 0.2, "lower": 0.2, "tip": 0.3},
    "CH": {"jaw": 0.12, "funnel": 0.6, "pucker": 0.15, "lower": 0.25, "tip": 0.5},
    "JH": {"jaw": 0.14, "funnel": 0.55, "pucker": 0.15, "lower": 0.25, "tip": 0.5},
    "K": {"jaw": 0.35, "lower": 0.4, "upper": 0.1, "back": 0.9},
    "G": {"jaw": 0.33, "lower": 0.4, "upper": 0.1, "back": 0.9},
    "NG": {"jaw": 0.35, "lower": 0.4, "upper": 0.1, "back": 0.8},
    "X": {"jaw": 0.35, "lower": 0.4, "upper": 0.1, "back": 0.7},
    "HH": {"jaw": 0.5, "lower": 0.4, "upper": 0.15},
    "R": {"jaw": 0.22, "funnel": 0.3, "pucker": 0.35, "back": 0.3},
    "W": {"jaw": 0.1, "funnel": 0.1, "pucker": 1.0},
    "Y": {"jaw": 0.25, "lower": 0.45, "upper": 0.25, "stretch": 0.4, "smile": 0.25},
}  # fmt: skip

# How firmly a phone insists: (opening, rounding and spreading, seal and lip-to-teeth, tongue).
_GROUPS = (
    ("jaw", "lower", "upper"),
    ("funnel", "pucker", "smile", "stretch"),
    ("seal", "lip_in", "close", "press", "roll_lower", "roll_upper"),
    ("tip", "back"),
)
_VOWEL = (1.0, 1.0, 1.0, 0.4)
_DOMINANCE: dict[str, tuple[float, float, float, float]] = {
    "SIL": (0.8, 0.4, 0.6, 0.5),
    **dict.fromkeys(("B", "P", "M"), (3.0, 0.3, 8.0, 0.2)),
    **dict.fromkeys(("F", "V"), (2.2, 0.4, 6.0, 0.2)),
    **dict.fromkeys(("W",), (1.5, 3.0, 1.0, 0.3)),
    **dict.fromkeys(("R",), (0.9, 1.2, 1.0, 0.5)),
    **dict.fromkeys(("SH", "ZH", "CH", "JH"), (1.8, 1.8, 1.0, 1.0)),
    **dict.fromkeys(("S", "Z"), (1.8, 0.6, 1.0, 1.0)),
    **dict.fromkeys(("TH", "DH"), (1.0, 0.4, 1.0, 1.5)),
    **dict.fromkeys(("T", "D", "N", "L"), (0.7, 0.25, 0.8, 2.0)),
    **dict.fromkeys(("K", "G", "NG", "X"), (0.5, 0.15, 0.7, 2.0)),
    **dict.fromkeys(("HH",), (0.15, 0.1, 0.5, 0.2)),
    **dict.fromkeys(("UW", "UE", "OW", "OY"), (1.0, 1.6, 1.0, 0.4)),
}


def viseme_table(phones: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Targets and dominances, each float64 [P, C], of ``phones`` in their order."""
    targets = np.zeros((len(phones), len(LIP_CHANNELS)))
    dominance = np.zeros_like(targets)
    for row, phone in enumerate(phones):
        for name, value in _TARGETS[phone].items():
            targets[row, _SHORT.index(name)] = value
        weights = _DOMINANCE.get(phone, _VOWEL)
        for group, weight in zip(_GROUPS, weights, strict=True):
            for name in group:
                dominance[row, _SHORT.index(name)] = weight
    return targets, dominance


def spread_columns(channels: Floats) -> Floats:
    """Channels [B, C] to motion columns [B, 72], left and right alike."""
    motion = np.zeros((channels.shape[0], MOTION.size))
    for k, columns in enumerate(LIP_COLUMNS):
        motion[:, columns] = channels[:, k : k + 1]
    return motion
