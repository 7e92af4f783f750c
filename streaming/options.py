"""What one session is made of."""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import Cond
from kernels.i420 import Matrix
from streaming.budget import Budget
from streaming.framing import Compose

__all__ = ["WEBRTC_MATRIX", "SessionOptions"]

WEBRTC_MATRIX: Matrix = "bt601"
"""What browsers assume for video without colour information, as VP8 is."""


@dataclass(frozen=True)
class SessionOptions:
    """What a session is made of; ``cond`` has one row."""

    name: str
    budget: Budget
    cond: Cond
    portrait: str = ""
    matrix: Matrix = WEBRTC_MATRIX
    compose: Compose | None = None
