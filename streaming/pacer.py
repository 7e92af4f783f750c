"""Where a session's time is kept: frame n and its audio leave together, at exactly arrival + D.

Audio leaves in 10 ms packets, each at the deadline of its own first sample; a frame leaves at the
deadline of its first sample. Both are read off one clock, so their offset cannot grow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from streaming.channel import FrameChannel, Picture
from streaming.clock import MS, OUT_RATE, Clock, SampleClock
from streaming.metrics import StreamMetrics
from streaming.sinks.base import PACKET, Sink
from streaming.timeline import AudioTimeline

__all__ = ["Pacer"]


class Pacer:
    """Sends pictures and audio to the sinks on time.

    A frame that is not ready at its deadline is replaced by the newest picture there is, be it the
    previous one or one that came too late, and counted; audio never waits for video.

    Args:
        delay_ns: D.
        sinks: gives the sinks of this moment; they may come and go.
        on_sink_error: told about a sink that raised; the others go on.
    """

    def __init__(
        self,
        clock: Clock,
        time: SampleClock,
        delay_ns: int,
        frames: FrameChannel,
        audio: AudioTimeline,
        sinks: Callable[[], list[Sink]],
        on_sink_error: Callable[[Sink, Exception], None],
        metrics: StreamMetrics,
    ) -> None:
        self._clock = clock
        self._time = time
        self._delay_ns = delay_ns
        self._frames = frames
        self._audio = audio
        self._sinks = sinks
        self._on_sink_error = on_sink_error
        self._metrics = metrics
        self._previous: Picture | None = None
        self._fresh: deque[int] = deque(maxlen=200)
        self._audio_late_ms = 0.0
        self.frame = 0
        """Next frame to leave."""
        self.packet = 0
        """Next audio packet to leave."""

    def frame_due(self, frame: int) -> int:
        return self._time.frame_ns(frame) + self._delay_ns

    def packet_due(self, packet: int) -> int:
        return self._time.sample_ns(packet * PACKET, OUT_RATE) + self._delay_ns

    async def run(self) -> None:
        """Until cancelled, or until the frame channel closes (StreamError)."""
        while True:
            audio, video = self.packet_due(self.packet), self.frame_due(self.frame)
            # At the same instant the audio goes first: it must never wait for a picture.
            await self._clock.sleep_until(min(audio, video))
            if audio <= video:
                self._send_audio(audio)
            else:
                self._send_video(video)

    def _send_audio(self, due: int) -> None:
        packet, self.packet = self.packet, self.packet + 1
        self._metrics.count("concealed_samples", min(PACKET, self._audio.missing((packet + 1) * PACKET)))
        for sink in self._sinks():
            samples = self._audio.read(packet * PACKET + sink.audio_lead, PACKET)
            self._guard(sink, lambda sink=sink, samples=samples: sink.audio(packet, samples))  # type: ignore[misc]
        self._audio_late_ms = (self._clock.now_ns() - due) / MS
        self._metrics.audio_late.add(self._audio_late_ms)

    def _send_video(self, due: int) -> None:
        frame, self.frame = self.frame, self.frame + 1
        picture, late, newest_late = self._frames.take(frame)
        self._metrics.count("late_frames", late)
        self._metrics.count("frames")
        if picture is None:
            self._metrics.count("misses")
        else:
            self._fresh.append(due)
        if picture is None:
            picture = self._previous if newest_late is None else newest_late
        self._previous = picture
        self._metrics.fps = self._rate(due)
        # After a stall only the newest frame is worth sending; the ones it overtook are misses.
        if picture is None or self._clock.now_ns() >= self.frame_due(self.frame):
            return
        for sink in self._sinks():
            self._guard(sink, lambda sink=sink: sink.video(frame, picture))  # type: ignore[misc]
        late_ms = (self._clock.now_ns() - due) / MS
        self._metrics.video_late.add(late_ms)
        self._metrics.av_offset.add(late_ms - self._audio_late_ms)

    def _guard(self, sink: Sink, send: Callable[[], None]) -> None:
        try:
            send()
        except Exception as error:
            self._on_sink_error(sink, error)

    def _rate(self, due: int) -> float:
        """Fresh frames per second over the last two seconds."""
        window = 2000 * MS
        return float(np.sum(np.asarray(self._fresh) > due - window)) / 2.0
