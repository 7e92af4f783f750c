"""What aiortc has no doorway for: our encoders with sane bitrates, and a jitter buffer without delay.

aiortc fixes low bitrates, starts a new codec (with a key frame) at each estimate, encodes H.264 at
x264's default speed, and holds four packets (80 ms) of incoming audio. These classes keep its
interfaces and are installed per connection, so nothing global changes. ``tests/streaming/test_rtc.py``
fails if a new aiortc moves the places they go to.
"""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import av
from aiortc import RTCRtpReceiver, RTCRtpSender
from aiortc.codecs.base import Encoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import VIDEO_TIME_BASE, convert_timebase
from aiortc.rtp import RtpPacket
from av.packet import Packet
from av.video.frame import PictureType

from engine.errors import BackendError
from streaming.clock import OUT_RATE
from streaming.sinks.base import PACKET

__all__ = [
    "OPUS_LEAD",
    "ImmediateBuffer",
    "OpusMonoEncoder",
    "VideoEncoder",
    "install_encoder",
    "install_immediate_buffer",
]

OPUS_LEAD = 312
"""Samples (6.5 ms) by which Opus' decoded audio trails its input: give it the audio this much early."""

_START_BITRATE = 2_500_000
_MIN_BITRATE = 300_000
_MAX_BITRATE = 6_000_000
_RECONFIGURE_S = 3.0


class VideoEncoder(Encoder):
    """VP8 or H.264 for one viewer, one thread, no frame held back.

    Args:
        codec: "VP8" or "H264".
        frame_rate: of the pictures; their time stamps must count frames.
    """

    def __init__(self, codec: str, frame_rate: Fraction) -> None:
        self._name = codec
        self._frame_rate = frame_rate
        self._codec: Any = None
        self._target = _START_BITRATE
        self._configured_at = 0.0
        self._picture_id = 0
        self.key_frames = 0

    @property
    def target_bitrate(self) -> int:
        """Bits per second; the receiver's estimate sets it."""
        return self._target

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self._target = max(_MIN_BITRATE, min(bitrate, _MAX_BITRATE))

    def encode(self, frame: Any, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """One picture (yuv420p) to RTP payloads and a 90 kHz time stamp."""
        codec = self._configure(frame.width, frame.height)
        frame.pict_type = PictureType.I if force_keyframe else PictureType.NONE
        packets = codec.encode(frame)
        self.key_frames += sum(packet.is_keyframe for packet in packets)
        data = b"".join(bytes(packet) for packet in packets)
        return self._payloads(data), convert_timebase(frame.pts, frame.time_base, VIDEO_TIME_BASE)

    def pack(self, packet: Packet[Any]) -> tuple[list[bytes], int]:
        """RTP payloads of a picture that is encoded already."""
        assert packet.pts is not None
        timestamp = convert_timebase(packet.pts, packet.time_base, VIDEO_TIME_BASE)
        return self._payloads(bytes(packet)), timestamp

    def _payloads(self, data: bytes) -> list[bytes]:
        if self._name == "H264":
            return H264Encoder._packetize(H264Encoder._split_bitstream(data))
        self._picture_id = (self._picture_id + 1) % (1 << 15)
        return Vp8Encoder._packetize(data, self._picture_id)

    def _configure(self, width: int, height: int) -> Any:
        codec = self._codec
        if codec is not None and (codec.width, codec.height) == (width, height):
            ratio = self._target / codec.bit_rate
            settled = time.monotonic() - self._configured_at > _RECONFIGURE_S
            # A new codec costs a key frame: only for a real change, and for less only at once.
            if not (ratio < 0.75 or (ratio > 1.4 and settled)):
                return codec
        self._codec = _vp8(width, height) if self._name == "VP8" else _h264(width, height)
        self._codec.bit_rate = self._target
        self._codec.framerate = self._frame_rate
        self._codec.time_base = 1 / self._frame_rate
        rate = str(self._target)
        limits = {"maxrate": rate, "bufsize": str(self._target // 2)}
        self._codec.options = {**self._codec.options, **limits}
        self._configured_at = time.monotonic()
        return self._codec


def _vp8(width: int, height: int) -> Any:
    codec: Any = av.CodecContext.create("libvpx", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.gop_size = 3000
    codec.qmin, codec.qmax = 2, 50
    codec.thread_count = 1
    codec.options = {
        "deadline": "realtime",
        "cpu-used": "-6",
        "lag-in-frames": "0",
        "static-thresh": "1",
        "undershoot-pct": "100",
        "overshoot-pct": "15",
        # A key frame of at most four average frames: no burst for a pacer-less sender.
        "max-intra-rate": "400",
    }
    return codec


def _h264(width: int, height: int) -> Any:
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.gop_size = 3000
    codec.thread_count = 1
    codec.profile = "Baseline"
    # Written into the stream (ITU-T H.273: 6 = BT.601, 1 = limited range): browsers take H.264 that
    # says nothing for BT.709, and VP8, which cannot say anything, for BT.601.
    codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range = 6, 6, 6, 1
    # Browsers take H.264 that says nothing for BT.709, VP8 for BT.601: say BT.601 (SMPTE 170M, limited).
    codec.colorspace = codec.color_primaries = codec.color_trc = 6
    codec.color_range = 1
    codec.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "level": "31",
        # A requested key frame must be one from which a decoder can start.
        "forced-idr": "1",
    }
    return codec


class OpusMonoEncoder(Encoder):
    """48 kHz mono Opus, one packet per frame of 10 ms, time stamps untouched."""

    def __init__(self, bit_rate: int = 64_000) -> None:
        self._codec: Any = av.CodecContext.create("libopus", "w")
        self._codec.bit_rate = bit_rate
        self._codec.format = "s16"
        self._codec.layout = "mono"
        self._codec.sample_rate = OUT_RATE
        self._codec.time_base = Fraction(1, OUT_RATE)
        self._codec.options = {
            "application": "audio",
            "frame_duration": str(1000 * PACKET // OUT_RATE),
            "fec": "0",
        }

    def encode(self, frame: Any, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        return [bytes(packet) for packet in self._codec.encode(frame)], frame.pts

    def pack(self, packet: Packet[Any]) -> tuple[list[bytes], int]:
        assert packet.pts is not None
        return [bytes(packet)], packet.pts


class ImmediateBuffer(JitterBuffer):
    """Hands on each audio packet at once, each picture with its last packet; out-of-order ones are lost.

    The time line settles jitter itself, within the session's budget: a second buffer in front of it
    would only add delay (aiortc's holds audio for 80 ms, and a picture until the next one begins).
    """

    def __init__(self, is_video: bool = False) -> None:
        super().__init__(capacity=16, is_video=is_video)
        self._last: int | None = None
        self._parts: list[bytes] = []
        self._broken = False

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        step = 1 if self._last is None else (packet.sequence_number - self._last) & 0xFFFF
        if step == 0 or step > 0x7FFF:
            return False, None
        self._last = packet.sequence_number
        data: bytes = packet._data  # type: ignore[attr-defined]
        if not self._is_video:
            return False, (JitterFrame(data, packet.timestamp) if data else None)
        self._broken = self._broken or step != 1
        self._parts.append(data)
        if not packet.marker:
            return False, None
        picture, whole = b"".join(self._parts), not self._broken
        self._parts, self._broken = [], False
        # A picture with a hole asks the sender for a key frame instead of being shown.
        return (False, JitterFrame(picture, packet.timestamp)) if whole else (True, None)


def _replace(owner: object, attribute: str, value: object) -> None:
    if not hasattr(owner, attribute):
        raise BackendError(
            f"this aiortc has no {attribute}; use one that is known to work (pip install aiortc==1.16.0)"
        )
    setattr(owner, attribute, value)


def install_encoder(sender: RTCRtpSender, encoder: Encoder) -> None:
    """Let ``sender`` use ``encoder`` instead of its own. Call after negotiation, before media flows.

    Raises:
        BackendError: this aiortc is built differently.
    """
    _replace(sender, "_RTCRtpSender__encoder", encoder)


def install_immediate_buffer(receiver: RTCRtpReceiver) -> None:
    """Let ``receiver`` hand on what it receives at once. Raises BackendError as above."""
    is_video = getattr(receiver, "_RTCRtpReceiver__kind", "audio") == "video"
    _replace(receiver, "_RTCRtpReceiver__jitter_buffer", ImmediateBuffer(is_video))
