"""WebRTC connections: from an SDP offer to tracks that are wired to a session, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Callable
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp

from engine.errors import InputError, StreamError
from streaming.resample import ToMono48
from streaming.rtc import OpusMonoEncoder, VideoEncoder, install_encoder, install_immediate_buffer
from streaming.session import Session
from streaming.sinks.webrtc import WebRtcSink
from streaming.sources.live import LiveSource

__all__ = ["Peer"]

log = logging.getLogger("visavis")

CONNECT_S = 20.0
SILENT_S = 10.0
"""A viewer that has sent no receiver report for so long has vanished (they come about once a second)."""


class Peer:
    """One connection to one session: it may watch it, speak to it, or both.

    Args:
        session: what it is connected to; started when the connection is up.
        ice_servers: URLs of STUN or TURN servers; none for local networks.
        on_gone: called once, when the connection has ended for whatever reason.
    """

    def __init__(
        self, session: Session, ice_servers: tuple[str, ...], on_gone: Callable[[Peer], None]
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.session = session
        self.sink: WebRtcSink | None = None
        self._on_gone = on_gone
        # An explicit list: aiortc's default would ask a public STUN server.
        servers = [RTCIceServer(urls=url) for url in ice_servers]
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._connection.on("connectionstatechange", self._on_state)
        self._connection.on("track", self._on_track)
        self._listen = False
        self._live: LiveSource | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone = False
        self._spawn(self._expect_connection())
        self._spawn(self._follow_session())

    async def answer(self, sdp: str, *, watch: bool, speak: bool, codec: str | None = None) -> str:
        """Apply the offer and return the answer's SDP, candidates included.

        Args:
            watch: send the avatar.
            speak: take the peer's audio as the session's voice.
            codec: "vp8" or "h264" to insist on one; None leaves it to the peer's order.

        Raises:
            InputError: an offer that cannot be understood or has nothing in common with us.
        """
        self._listen = speak
        pc = self._connection
        kinds = set(re.findall(r"^m=(audio|video) ", sdp, re.MULTILINE))
        if watch:
            self._add_sink(codec, kinds)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            self._check_offer(watch, speak)
            self._install()
            await pc.setLocalDescription(await pc.createAnswer())
        except InputError:
            raise
        except Exception as error:
            # aiortc's parser raises whatever the text makes it stumble over.
            raise InputError(
                f"the SDP offer cannot be used ({error or type(error).__name__}); "
                "offer Opus audio and VP8 or H.264 video, bundled"
            ) from error
        return pc.localDescription.sdp

    async def add_candidates(self, fragment: str) -> None:
        """Trickled candidates (RFC 8840 fragment). Raises InputError."""
        mid: str | None = None
        for line in fragment.splitlines():
            if line.startswith("a=mid:"):
                mid = line[6:].strip()
            elif line.startswith("a=candidate:"):
                try:
                    candidate: Any = candidate_from_sdp(line[12:].strip())
                    candidate.sdpMid = mid
                    await self._connection.addIceCandidate(candidate)
                except (ValueError, AssertionError, IndexError) as error:
                    raise InputError(f"the candidate cannot be used: {line.strip()}") from error

    async def close(self) -> None:
        """End the connection; safe to call any number of times."""
        if self._gone:
            return
        self._gone = True
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        if self.sink is not None:
            await self.session.remove_sink(self.sink)
        await self._fall_silent()
        with contextlib.suppress(Exception):
            await self._connection.close()
        self._on_gone(self)

    def _add_sink(self, codec: str | None, kinds: set[str]) -> None:
        session = self.session
        rate = session.frame_rate
        self.sink = WebRtcSink(f"webrtc {self.id}", rate, lambda: session.metrics.count("sink_drops"))
        for track in (self.sink.audio_track, self.sink.video_track):
            if track.kind in kinds:
                self._connection.addTrack(track)
        if codec is not None and "video" in kinds:
            wanted = f"video/{codec}".lower()
            known = RTCRtpSender.getCapabilities("video").codecs
            preferred = [c for c in known if c.mimeType.lower() == wanted]
            if not preferred:
                raise InputError(f"no video codec {codec!r}; use vp8 or h264")
            # Before the offer is applied: afterwards it would be ignored.
            self._transceiver("video").setCodecPreferences(preferred)

    def _transceiver(self, kind: str) -> Any:
        return next(t for t in self._connection.getTransceivers() if t.kind == kind)

    def _check_offer(self, watch: bool, speak: bool) -> None:
        kinds = {t.kind for t in self._connection.getTransceivers() if t.mid is not None}
        if watch and "video" not in kinds:
            raise InputError("the offer has no video section; offer video with direction recvonly")
        if speak and "audio" not in kinds:
            raise InputError("the offer has no audio section; offer your microphone's track")

    def _install(self) -> None:
        """Put our encoders and buffers where aiortc would put its own."""
        for transceiver in self._connection.getTransceivers():
            if transceiver.mid is None:
                continue
            if transceiver.kind == "audio":
                install_immediate_buffer(transceiver.receiver)
            elif not self.sink:
                transceiver.direction = "inactive"
            if self.sink is None:
                continue
            name = transceiver._codecs[0].name.lower()
            if name == "opus":
                install_encoder(transceiver.sender, OpusMonoEncoder())
            elif name in ("vp8", "h264"):
                install_encoder(transceiver.sender, VideoEncoder(name.upper(), self.session.frame_rate))

    def _on_state(self) -> None:
        state = self._connection.connectionState
        log.debug("peer %s is %s", self.id, state)
        if state == "connected":
            self.session.start()
            if self.sink is not None:
                self._spawn(self._expect_reports())
            if self.sink is not None and self.sink not in self.session.sinks and not self._gone:
                self.session.add_sink(self.sink)
        elif state in ("failed", "closed"):
            self._spawn(self.close())

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and self._listen:
            self._spawn(self._hear(track))

    async def _hear(self, track: MediaStreamTrack) -> None:
        """The peer's voice into the session, until its track ends or another voice takes over."""
        live = self._live = self.session.live_source(f"webrtc {self.id}")
        convert: ToMono48 | None = None
        try:
            while True:
                frame: Any = await track.recv()
                if convert is None:
                    convert = ToMono48(frame.sample_rate, frame.layout.name, frame.format.name)
                    await self.session.set_source(live)
                elif self.session.source is not live:
                    return
                # Opus counts at 48 kHz; other codecs' stamps count their own samples.
                index = int(frame.pts) * 48_000 // frame.sample_rate
                live.push(convert.frame(frame), index)
        except (MediaStreamError, StreamError):
            # The peer has stopped to speak, or the session is ending and says why itself.
            await self._fall_silent()

    async def _fall_silent(self) -> None:
        if self.session.source is self._live and not self.session.closed.is_set():
            await self.session.silence()

    async def _expect_connection(self) -> None:
        await asyncio.sleep(CONNECT_S)
        if self._connection.connectionState != "connected":
            log.warning("peer %s did not connect within %g s", self.id, CONNECT_S)
            await self.close()

    async def _expect_reports(self) -> None:
        """Close when the viewer falls silent: ICE itself would notice only after half a minute."""
        loop = asyncio.get_running_loop()
        newest: object = None
        heard_at = loop.time()
        while loop.time() - heard_at < SILENT_S:
            await asyncio.sleep(1.0)
            stamps = [
                report.timestamp
                for sender in self._connection.getSenders()
                for report in (await sender.getStats()).values()
                if report.type == "remote-inbound-rtp"
            ]
            if stamps and max(stamps) != newest:
                newest, heard_at = max(stamps), loop.time()
        log.info("peer %s has fallen silent", self.id)
        await self.close()

    async def _follow_session(self) -> None:
        await self.session.closed.wait()
        await self.close()

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
