"""Sessions whose networks run together: pictures, lateness, and lanes over several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch

from engine.animators.gohd.animator import GohdAnimator
from engine.animators.gohd.identity import GohdIdentity
from engine.animators.gohd.network import GohdNet, Size
from engine.animators.mesh.sheet import moved
from engine.runtime import BatchRunner
from engine.runtime.batching import Costs
from engine.types import Cond, MotionChunk, PixelFormat
from streaming.batcher import BatchCore, Batcher
from streaming.clock import MS, RealClock
from streaming.shared import EnginePool, Shareable, SharedRunner, share_network
from tests.engine.animators.faces import face

SMALL = Size(side=128, channels=(8, 12, 16, 16), code=16, directions=8)
SESSIONS = 3


@lru_cache
def network() -> GohdNet:
    torch.manual_seed(0)
    net = GohdNet(SMALL).eval().requires_grad_(False)
    torch.nn.init.normal_(net.decoder.flow.weight, std=0.02)
    torch.nn.init.normal_(net.decoder.paint.weight, std=0.02)
    net.navigation.dictionary.freeze()
    return net


def animator() -> GohdAnimator:
    return GohdAnimator(PixelFormat.I420, backend="eager", network=network())


def motion(identity: GohdIdentity, session: int) -> MotionChunk:
    """Two frames that no other session has."""
    rows = [moved(identity.rest, {"jawOpen": 0.2 * session, "ry": 6.0 * (t + session)}) for t in range(2)]
    return MotionChunk(0, torch.from_numpy(np.stack(rows))[None])


def test_pictures_of_sessions_that_share_are_those_of_each_alone() -> None:
    shared, alone = animator(), animator()
    identity = alone.adopt(face("astronaut.png").identity)
    cond, clock = Cond.for_identity(identity), RealClock()
    assert isinstance(shared, Shareable)
    batcher = share_network(shared, clock, largest=4)
    together = Barrier(SESSIONS)

    def session(k: int) -> torch.Tensor:
        state = shared.init_state(1, cond)
        together.wait()
        with torch.inference_mode():
            return shared.step(motion(identity, k), state).data

    try:
        with ThreadPoolExecutor(SESSIONS) as threads:
            made = list(threads.map(session, range(SESSIONS)))
        stats = batcher.stats
    finally:
        batcher.close()
    for k, frames in enumerate(made):
        wanted = alone.forward(motion(identity, k), cond)
        # Convolutions of other batch sizes may round the last bit otherwise.
        assert (frames.int() - wanted.int()).abs().max() <= 1, k
    assert stats.rows == 2 * SESSIONS
    shared.share(None)
    assert torch.equal(shared.forward(motion(identity, 0), cond), alone.forward(motion(identity, 0), cond))


class _Doubled:
    backend, precision, reason = "test", "f32", "test"

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (2 * inputs[0],)


def _doubling(cost_ns: int) -> tuple[Batcher, SharedRunner]:
    maker: Any = lambda size: _Doubled()  # noqa: E731
    clock = RealClock()
    runner = BatchRunner(maker, (torch.zeros(1, 1),), (1, 2))
    batcher = Batcher(BatchCore(runner, Costs({1: cost_ns, 2: cost_ns}), clock))
    like: Any = _Doubled()
    return batcher, SharedRunner(batcher, clock, like)


def test_a_row_that_is_late_is_still_run() -> None:
    batcher, runner = _doubling(cost_ns=100 * MS)  # more than a row has
    try:
        assert runner(torch.full((1, 1), 3.0))[0].item() == 6.0
        assert batcher.stats.late == 1
    finally:
        batcher.close()


def test_calls_of_a_shared_runner_come_in_pairs() -> None:
    batcher, runner = _doubling(cost_ns=1)
    try:
        runner.start(torch.ones(1, 1))
        with pytest.raises(RuntimeError, match="before wait"):
            runner.start(torch.ones(1, 1))
        assert runner.wait()[0].item() == 2.0
        with pytest.raises(RuntimeError, match="without start"):
            runner.wait()
        with pytest.raises(ValueError, match="bound"):
            runner.bind([torch.zeros(1, 1)])
    finally:
        batcher.close()


class _Lane:
    """A lane that counts its steps."""

    def __init__(self, work: int) -> None:
        self.left = work

    def urgency(self) -> int | None:
        return 0 if self.left else None

    def step(self, clock: Any) -> None:
        self.left -= 1

    def fail(self, error: BaseException) -> None:
        pass


def test_lanes_are_spread_over_threads_and_all_are_served() -> None:
    pool = EnginePool(RealClock(), 2)
    lanes: list[Any] = [_Lane(3) for _ in range(4)]
    for lane in lanes:
        pool.add(lane)
    served = [len(worker._lanes) for worker in pool._workers]
    assert served == [2, 2]
    pool.remove(lanes[0])
    pool.add(lanes[0])
    for worker in pool._workers:
        while worker.run_once():
            pass
    assert [lane.left for lane in lanes] == [0, 0, 0, 0]
    pool.start()
    pool.wake()
    pool.stop()
