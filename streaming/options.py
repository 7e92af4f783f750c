"""What one session is made of."""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import Cond
from kernels.i420 import Matrix
from streaming.budget import Budget
from streaming.framing import Compose

__all__ = ["WEBRTC_MATRIX", "SessionOptions"]

WEBRTC_MATRIX: Matrix = "bt601"
"""What browsers assume for VP8, which cannot carry colour information; our H.264 names it."""


@dataclass(frozen=True)
class SessionOptions:
    """What a session is made of; ``cond`` has one row."""

    name: str
    budget: Budget
    cond: Cond
    portrait: str = ""
    matrix: Matrix = WEBRTC_MATRIX
    compose: Compose | None = None
