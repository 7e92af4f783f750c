"""The demo without a browser: serve on loopback, call ourselves, record what the caller receives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientSession, web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from numpy.typing import NDArray

from engine.errors import StreamError
from streaming.clock import MS, OUT_RATE, RealClock, SampleClock
from streaming.hub import Hub, HubOptions
from streaming.metrics import Histogram
from streaming.options import WEBRTC_MATRIX
from streaming.rtc import install_immediate_buffer
from streaming.server import ServerOptions, create_app
from streaming.session import Session
from streaming.sinks.base import PACKET
from streaming.sinks.mp4 import Mp4Sink
from streaming.sinks.webrtc import WebRtcSink

__all__ = ["Caller", "DemoReport", "run_demo"]


@dataclass
class Caller:
    """A WebRTC peer that watches: keeps the times of what it receives and hands it on.

    aiortc counts time stamps from the first packet of each track; ``first_frame`` and
    ``first_sample`` (the sender's indices of those packets) put both back on one time line.
    """

    recorder: Mp4Sink | None = None
    first_frame: int = 0
    first_sample: int = 0
    video_ns: list[tuple[int, int]] = field(default_factory=list)
    """(frame index, time received) of every decoded picture."""
    audio_ns: list[tuple[int, int]] = field(default_factory=list)
    """(sample index at 48 kHz, time received) of every decoded packet."""
    _clock: RealClock = field(default_factory=RealClock)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _connection: Any = None
    _sink: WebRtcSink | None = None

    async def call(self, url: str, body: dict[str, object]) -> str:
        """POST the offer to ``url``/offer; returns the session's name. Raises StreamError if refused."""
        pc = self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for kind in ("audio", "video"):
            pc.addTransceiver(kind, "recvonly")
        pc.on("track", self._on_track)
        await pc.setLocalDescription(await pc.createOffer())
        offer = {"sdp": pc.localDescription.sdp, "type": "offer", **body}
        async with ClientSession() as http, http.post(f"{url}/offer", json=offer) as response:
            answer = await response.json()
            if response.status != 200:
                raise StreamError(f"the server refused the call: {answer.get('error')}")
        for transceiver in pc.getTransceivers():
            install_immediate_buffer(transceiver.receiver)
        await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        return str(answer["session"])

    async def close(self) -> None:
        await self._connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def follow(self, sink: WebRtcSink) -> None:
        """Learn from the sender which frame and sample its first packets hold."""
        self._sink = sink

    def _on_track(self, track: MediaStreamTrack) -> None:
        receive = self._video if track.kind == "video" else self._audio
        self._tasks.append(asyncio.create_task(receive(track)))

    async def _video(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                now = self._clock.now_ns()
                if self._sink is None or self._sink.video_track.first is None:
                    continue
                self.first_frame = self._sink.video_track.first
                # 90 kHz stamps at 25 frames/s: 3600 a frame.
                index = self.first_frame + round(float(frame.pts * frame.time_base * self._sink.frame_rate))
                self.video_ns.append((index, now))
                if self.recorder is not None:
                    self.recorder.video(index, frame.to_ndarray(format="yuv420p"))

    async def _audio(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                now = self._clock.now_ns()
                if self._sink is None or self._sink.audio_track.first is None:
                    continue
                self.first_sample = self._sink.audio_track.first
                index = self.first_sample + int(frame.pts)
                self.audio_ns.append((index, now))
                if self.recorder is not None:
                    pcm = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
                    self.recorder.audio(index // PACKET, pcm.astype(np.float32) / 32768.0)


@dataclass(frozen=True)
class DemoReport:
    """What the demo measured; ``table`` is what it prints."""

    stats: dict[str, Any]
    received: int
    end_to_end_ms: Histogram
    av_offset_ms: Histogram
    seconds: float

    @property
    def fps(self) -> float:
        return self.received / self.seconds

    def table(self) -> str:
        rows = [("stage", "p50 ms", "p95 ms", "p99 ms")]
        stages = [
            (s["name"], f"{s['p50']:.2f}", f"{s['p95']:.2f}", f"{s['p99']:.2f}") for s in self.stats["stages"]
        ]
        rows.extend(stages)
        for name, values in (
            ("sample in -> picture decoded", self.end_to_end_ms),
            ("video - audio", self.av_offset_ms),
        ):
            q = values.quantiles()
            rows.append((name, f"{q.p50:.2f}", f"{q.p95:.2f}", f"{q.p99:.2f}"))
        lines = [f"{name:<30}{a:>10}{b:>10}{c:>10}" for name, a, b, c in rows]
        frames, counters = self.stats["frames"], self.stats["counters"]
        on_time = 100.0 * (1.0 - frames["late"] / max(1, frames["total"]))
        lines.append(
            f"{frames['total']} frames sent, {on_time:.2f} % on time, {self.received} received "
            f"({self.fps:.2f} frames/s), {counters['sink_drops']} dropped at the encoder, "
            f"tier {self.stats['tier']}"
        )
        return "\n".join(lines)


def _histogram(values: NDArray[np.float64]) -> Histogram:
    result = Histogram(max(1, values.size))
    for value in values:
        result.add(float(value))
    return result


def _measure(caller: Caller, time: SampleClock, stats: dict[str, Any]) -> DemoReport:
    """End-to-end latency per frame, and the offset between pictures and sound as received."""
    video = np.array([(ns - time.frame_ns(n)) / MS for n, ns in caller.video_ns])
    audio = np.array([(ns - time.sample_ns(p, OUT_RATE)) / MS for p, ns in caller.audio_ns])
    if not video.size or not audio.size:
        raise StreamError("nothing was received; is UDP on the loopback interface blocked?")
    when = np.array([ns for _, ns in caller.audio_ns])
    nearest = np.clip(np.searchsorted(when, [ns for _, ns in caller.video_ns]), 0, audio.size - 1)
    seconds = (caller.video_ns[-1][1] - caller.video_ns[0][1]) / 1e9
    return DemoReport(
        stats, video.size, _histogram(video), _histogram(video - audio[nearest]), max(seconds, 1e-3)
    )


async def run_demo(
    options: HubOptions, seconds: float, out: Path, say: Callable[[str], None], voice: str = "voice_a"
) -> DemoReport:
    """Stream ``voice`` for ``seconds`` to a local peer and record what it receives into ``out``.

    Raises:
        BudgetError, AssetError, InputError: as :meth:`Hub.start`.
        StreamError: nothing arrived.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    hub = Hub(options, say=say)
    caller: Caller | None = None
    runner: web.AppRunner | None = None
    recorder: Mp4Sink | None = None
    try:
        await hub.start()
        runner = web.AppRunner(create_app(hub, ServerOptions()), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        recorder = Mp4Sink(out, hub.pipeline.frame_rate, WEBRTC_MATRIX)
        caller = Caller(recorder)
        name = await caller.call(url, {"source": f"sample:{voice}", "seed": options.seed})
        session = hub.sessions[name]
        caller.follow(await _first_sink(session))
        say(f"streaming for {seconds:g} s")
        await asyncio.sleep(seconds)
        report = _measure(caller, session.time, session.stats())
    finally:
        if caller is not None:
            await caller.close()
        if runner is not None:
            await runner.cleanup()
        await hub.close()
        if recorder is not None:
            await recorder.close()
    return report


async def _first_sink(session: Session) -> WebRtcSink:
    for _ in range(1000):
        for sink in session.sinks:
            if isinstance(sink, WebRtcSink):
                return sink
        await asyncio.sleep(0.01)
    raise StreamError("the local call did not connect; is UDP on this machine's interfaces blocked?")
