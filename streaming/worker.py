"""The engine's thread: steps every session's pipeline, most urgent frame first.

One thread serves all sessions, so network runners need not be thread-safe and a second core stays
free for encoding. A session that is behind is advanced without drawing until it has caught up: a
late frame is dropped, never queued. Its very first picture is drawn all the same, and one every half
second while it stays behind: a face that trails shows what is wrong, no face at all does not.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque

import numpy as np
import torch

from engine.errors import StreamError
from engine.pipeline import Pipeline, PipelineState
from engine.types import AudioChunk, FrameChunk, PixelFormat
from kernels.i420 import rgb_to_i420
from streaming.channel import AudioBlock, AudioChannel, FrameChannel, Picture
from streaming.clock import MS, Clock, SampleClock
from streaming.governor import Governor
from streaming.metrics import StreamMetrics
from streaming.options import SessionOptions
from streaming.threads import one_torch_thread

__all__ = ["EngineWorker", "Lane"]

_UNSEEN_S = 0.5
"""A session that is behind draws at least this often."""


class Lane:
    """One session's way through the engine: audio blocks in, pictures out.

    Args:
        pipeline: shared, frozen.
        options: the session's condition, colour matrix and framing.
        time: the session's sample clock.
        delay_ns: D, so that frame n is due at ``time.frame_ns(n) + delay_ns``.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        options: SessionOptions,
        time: SampleClock,
        delay_ns: int,
        metrics: StreamMetrics,
    ) -> None:
        self.inbox = AudioChannel()
        # An engine that is ahead may have a whole delay's worth of pictures waiting.
        self.outbox = FrameChannel(4 + math.ceil(delay_ns * pipeline.frame_rate / 1_000_000_000))
        self._pipeline = pipeline
        self._options = options
        self._time = time
        self._delay_ns = delay_ns
        self._metrics = metrics
        # Made by the first step: it takes a while, and this runs on the event loop.
        self._state: PipelineState | None = None
        self._next_sample: int | None = None
        # The median of the last steps: one hiccup must not keep a session from drawing.
        self._costs: deque[float] = deque([0.0] * 9, maxlen=9)
        self._most_skipped = round(_UNSEEN_S * pipeline.frame_rate)
        self._skipped = self._most_skipped
        self._governor = Governor(float(1000 / pipeline.frame_rate), pipeline.tiers, tier=options.budget.tier)

    def due_ns(self, frame: int) -> int:
        return self._time.frame_ns(frame) + self._delay_ns

    def urgency(self) -> int | None:
        """When the frame that the next block yields must be ready; None if there is nothing to do."""
        if self.inbox.closed:
            return None
        if self._state is None:
            return 0
        block = self.inbox.peek()
        return None if block is None else self.due_ns(block.frame - self._pipeline.lookahead_frames)

    def step(self, clock: Clock) -> None:
        """Take one block through the engine (the first time: get ready). Raises whatever a stage raises."""
        if self._state is None:
            self._restart()
            return
        block = self.inbox.get()
        if block is None:
            return
        due = self.due_ns(block.frame - self._pipeline.lookahead_frames)
        in_time = clock.now_ns() + int(statistics.median(self._costs) * MS) <= due
        render = in_time or self._skipped >= self._most_skipped
        began = time.perf_counter_ns()
        frames = self._run(block, self._state, render)
        pictures = [self._picture(frames, i) for i in range(frames.data.shape[1])]
        cost = (time.perf_counter_ns() - began) / 1e6
        if pictures:
            self._skipped = 0
            self._metrics.compute.add(cost)
            self._costs.append(cost)
        elif not render:
            self._skipped += 1
            self._metrics.count("skipped")
            # Forget slowly: after a while without drawing it is worth another try.
            self._costs.append(0.9 * statistics.median(self._costs))
        for i, picture in enumerate(pictures):
            self.outbox.put(frames.t0 + i, picture)
        self._govern(clock.now_ns(), cost, missed=not in_time or clock.now_ns() > due)

    def fail(self, error: BaseException) -> None:
        """Close both channels so that each end of the session sees why."""
        self.inbox.close(error)
        self.outbox.close(error)

    def _restart(self) -> PipelineState:
        state = self._pipeline.init_state(1, self._options.cond)
        self._pipeline.set_tier(state, self._governor.tier)
        self._state = state
        return state

    def _run(self, block: AudioBlock, state: PipelineState, render: bool) -> FrameChunk:
        if self._next_sample is not None and block.t0 != self._next_sample:
            self._metrics.count("restarts")
            state = self._restart()
        self._next_sample = block.t0 + block.samples.size
        chunk = AudioChunk(
            block.t0, torch.from_numpy(block.samples)[None], controls=torch.tensor([block.controls])
        )
        mark = time.perf_counter_ns()

        def probe(stage: str) -> None:
            nonlocal mark
            now = time.perf_counter_ns()
            self._metrics.stage(stage).add((now - mark) / 1e6)
            mark = now

        with torch.inference_mode():
            return self._pipeline.step(chunk, state, render=render, probe=probe)

    def _picture(self, frames: FrameChunk, index: int) -> Picture:
        began = time.perf_counter_ns()
        data = np.asarray(frames.data[0, index].cpu().numpy())
        # The animator may reuse its own buffer: what leaves this thread is always a copy.
        if frames.format is PixelFormat.I420:
            picture = data.copy()
        else:
            rgb = data if self._options.compose is None else self._options.compose(data)
            picture = rgb_to_i420(rgb, self._options.matrix)
        self._metrics.stage("i420").add((time.perf_counter_ns() - began) / 1e6)
        return picture

    def _govern(self, now_ns: int, cost_ms: float, missed: bool) -> None:
        tier = self._governor.update(now_ns, cost_ms, missed)
        if tier != self._metrics.tier and self._state is not None:
            self._pipeline.set_tier(self._state, tier)
            self._metrics.tier = tier
            self._metrics.count("tier_changes")


class EngineWorker:
    """The thread. ``add`` a lane, ``wake`` it when its inbox has audio, ``remove`` it at the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lanes: list[Lane] = []
        self._ready = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end and wait for it; remaining lanes are closed."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, lane: Lane) -> None:
        with self._ready:
            self._lanes.append(lane)

    def remove(self, lane: Lane) -> None:
        with self._ready:
            if lane in self._lanes:
                self._lanes.remove(lane)

    def wake(self) -> None:
        with self._ready:
            self._ready.notify()

    def run_once(self) -> bool:
        """Step the most urgent lane; False if no lane had work. A lane that raises is closed."""
        with self._ready:
            waiting = [(due, i) for i, lane in enumerate(self._lanes) if (due := lane.urgency()) is not None]
            if not waiting:
                return False
            lane = self._lanes[min(waiting)[1]]
        try:
            lane.step(self._clock)
        except Exception as error:
            lane.fail(error)
        return True

    def _main(self) -> None:
        one_torch_thread()
        reason = "the engine has stopped"
        try:
            while not self._stopping:
                if not self.run_once():
                    with self._ready:
                        if not self._stopping:
                            self._ready.wait(0.02)
        finally:
            for lane in list(self._lanes):
                lane.fail(StreamError(reason))
