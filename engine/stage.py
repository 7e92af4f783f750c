"""The one contract every part of the engine keeps.

A stage is frozen weights plus pure code; everything that changes during a stream lives in a state
object that ``init_state`` allocates and ``step`` mutates in place. ``forward`` is the definition,
streaming the optimisation, and ``tests/laws.py`` binds the two on every stage:

1. any chunking of the input gives the offline result;
2. the declared look-ahead is exact;
3. two states never talk; a reset row equals a fresh one;
4. a deep-copied state resumes bit-exactly;
5. the same input, condition and seed give the same output.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from engine.types import FRAME_RATE, Cond

__all__ = ["Animator", "Stage", "StageSpec"]

X = TypeVar("X", contravariant=True)
Y = TypeVar("Y", covariant=True)
S = TypeVar("S")


@dataclass(frozen=True)
class StageSpec:
    """What a stage promises.

    ``lookahead_frames`` L: output frame n is a function of input up to and including frame n + L
    (for audio: sample index < 640 (n + 1 + L) at 25 frames/s) and of nothing later; ``step``
    returns frame n as soon as that input has arrived. ``input`` and ``output`` name the spaces
    ("audio", "features:<name>:<size>", "motion", "frames"); the pipeline checks that they join.
    """

    name: str
    input: str
    output: str
    lookahead_frames: int = 0
    frame_rate: Fraction = FRAME_RATE

    @property
    def lookahead_ms(self) -> Fraction:
        return 1000 * self.lookahead_frames / self.frame_rate


@runtime_checkable
class Stage(Protocol[X, Y, S]):
    """A streaming part of the engine; see the module docstring for its laws."""

    spec: StageSpec

    def init_state(self, batch: int, cond: Cond) -> S:
        """Allocate everything a stream of ``batch`` rows will ever need."""
        ...

    def step(self, x: X, state: S) -> Y:
        """Take the chunk that continues the stream, return every output frame now due (maybe none).

        Raises :class:`~engine.errors.StreamError` if ``x.t0`` does not continue the stream.
        """
        ...

    def drain(self, state: S) -> Y:
        """Exactly the frames still held back, the missing future taken as silence or stillness."""
        ...

    def reset(self, state: S, rows: Tensor) -> None:
        """Rows where ``rows`` (bool [B]) is true start afresh; the time line goes on."""
        ...

    def forward(self, x: X, cond: Cond) -> Tensor:
        """The offline truth: the whole stream at once. Training calls this."""
        ...


@runtime_checkable
class Animator(Stage[Any, Any, Any], Protocol):
    """A stage from motion to pictures, for one prepared identity per row."""

    def prepare(self, portrait: Any) -> Any:
        """Once per face: an immutable identity that can be cached and saved to disk."""
        ...
