"""What animators that move a prepared portrait do alike: checks, the time line, the frames' layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from engine.errors import ConfigError, StreamError
from engine.stage import StageSpec
from engine.types import MOTION, Cond, FrameChunk, MotionChunk, PixelFormat

__all__ = ["SIZE", "PortraitStage", "PortraitState"]

SIZE = 512
"""Side of the frames, px."""


class PortraitState(Protocol):
    """What the state of such an animator has."""

    frame: int | None
    """index of the frame that must come next, None before the first"""

    @property
    def rows(self) -> int:
        """Streams in the batch."""
        ...


I = TypeVar("I")  # noqa: E741
S = TypeVar("S", bound=PortraitState)


class PortraitStage(ABC, Generic[I, S]):
    """Base of the animators; ``identity`` is the type of a face that :meth:`prepare` made ready."""

    identity: ClassVar[type[Any]]
    tiers: ClassVar[int] = 1
    """Qualities that a state's ``tier`` chooses from, 0 the best."""
    spec: StageSpec
    pixels: PixelFormat

    @abstractmethod
    def init_state(self, batch: int, cond: Cond) -> S:
        """As :class:`~engine.stage.Stage` has it; see :meth:`faces`."""

    @abstractmethod
    def step(self, x: MotionChunk, state: S) -> FrameChunk:
        """As :class:`~engine.stage.Stage` has it; see :meth:`accept`."""

    def drain(self, state: S) -> FrameChunk:
        """No frame is ever held back."""
        empty = torch.zeros(state.rows, 0, *self.frame_shape, dtype=torch.uint8)
        return FrameChunk(state.frame or 0, empty, self.pixels)

    def forward(self, x: MotionChunk, cond: Cond) -> Tensor:
        return self.step(x, self.init_state(x.data.shape[0], cond)).data

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Of one frame: [512, 512, 3], or [768, 512] as I420."""
        return (SIZE, SIZE, 3) if self.pixels is PixelFormat.RGB else (SIZE * 3 // 2, SIZE)

    def faces(self, batch: int, cond: Cond) -> tuple[I, ...]:
        """The condition's prepared faces, one per row. Raises ConfigError for any other condition."""
        if len(cond.identity) != batch:
            raise ConfigError(f"the condition has {len(cond.identity)} identities for a batch of {batch}")
        for one in cond.identity:
            if not isinstance(one, self.identity):
                raise ConfigError(
                    f"the {self.spec.name} needs a prepared face per row, got {type(one).__name__}: "
                    "pass Cond(identity=(animator.prepare(portrait), ...))"
                )
        return cond.identity

    def accept(self, x: MotionChunk, state: S) -> Tensor:
        """The chunk's motion, float32 [B, T, 72] on the CPU; the time line moves on.

        Raises:
            ConfigError: not the state's rows, or not motion.
            StreamError: the chunk does not continue the stream.
        """
        if x.data.shape[0] != state.rows or x.data.shape[2] != MOTION.size:
            raise ConfigError(f"motion must be [{state.rows}, T, {MOTION.size}], got {list(x.data.shape)}")
        if x.data.shape[1] and state.frame is not None and x.t0 != state.frame:
            raise StreamError(f"the motion continues at {x.t0}, expected {state.frame}", stage=self.spec.name)
        state.frame = x.t1
        return x.data.detach().float().cpu().contiguous()
