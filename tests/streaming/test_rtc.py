"""Our encoders and buffers in aiortc's places, against aiortc's own decoders."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection
from aiortc.codecs import depayload, get_decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from engine.errors import BackendError
from streaming.rtc import (
    OPUS_LEAD,
    ImmediateBuffer,
    OpusMonoEncoder,
    VideoEncoder,
    install_encoder,
    install_immediate_buffer,
)
from streaming.sinks.base import PACKET
from streaming.sinks.webrtc import AudioTrack, VideoTrack, WebRtcSink
from tests.streaming.helpers import tone


def parameters(name: str) -> RTCRtpCodecParameters:
    return RTCRtpCodecParameters(mimeType=f"video/{name}", clockRate=90_000, payloadType=97)


def picture(n: int, width: int = 128, height: int = 96) -> av.VideoFrame:
    rows = (np.arange(height * 3 // 2)[:, None] + 2 * np.arange(width)[None] + 5 * n) % 200 + 20
    frame = av.VideoFrame.from_ndarray(rows.astype(np.uint8), format="yuv420p")
    frame.pts, frame.time_base = n, Fraction(1, 25)
    return frame


def decode(name: str, payloads: list[bytes], decoder: Any) -> list[Any]:
    data = b"".join(depayload(parameters(name), p) for p in payloads)
    frames: list[Any] = decoder.decode(JitterFrame(data, 0))
    return frames


@pytest.mark.parametrize("name", ["VP8", "H264"])
def test_pictures_survive_and_no_frame_is_held_back(name: str) -> None:
    encoder, decoder = VideoEncoder(name, Fraction(25)), get_decoder(parameters(name))
    for n in range(8):
        sent = picture(n)
        payloads, stamp = encoder.encode(sent)
        assert stamp == 3600 * n
        assert all(len(p) <= 1300 for p in payloads)
        got = decode(name, payloads, decoder)
        assert len(got) == 1
        error = got[0].to_ndarray(format="yuv420p").astype(float) - sent.to_ndarray(format="yuv420p")
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 28
    assert encoder.key_frames == 1


def test_h264_says_which_colours_it_means() -> None:
    payloads, _ = VideoEncoder("H264", Fraction(25)).encode(picture(0))
    (frame,) = decode("H264", payloads, get_decoder(parameters("H264")))
    tags = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
    assert tuple(map(int, tags)) == (6, 6, 6, 1)


@pytest.mark.parametrize("name", ["VP8", "H264"])
def test_a_requested_key_frame_starts_a_new_viewer(name: str) -> None:
    encoder = VideoEncoder(name, Fraction(25))
    for n in range(5):
        encoder.encode(picture(n))
    payloads, _ = encoder.encode(picture(5), force_keyframe=True)
    assert encoder.key_frames == 2
    assert len(decode(name, payloads, get_decoder(parameters(name)))) == 1
    encoder.encode(picture(6))
    assert encoder.key_frames == 2


def test_small_estimates_cost_no_key_frame_large_ones_do() -> None:
    encoder = VideoEncoder("VP8", Fraction(25))
    encoder.encode(picture(0))
    for n, bitrate in enumerate((2_400_000, 2_700_000, 2_000_000), start=1):
        encoder.target_bitrate = bitrate
        encoder.encode(picture(n))
    assert encoder.key_frames == 1
    encoder.target_bitrate = 800_000
    encoder.encode(picture(4))
    assert encoder.key_frames == 2
    encoder.target_bitrate = 10
    assert encoder.target_bitrate == 300_000
    encoder.target_bitrate = 10**9
    assert encoder.target_bitrate == 6_000_000


def test_opus_trails_by_exactly_the_lead() -> None:
    encoder = OpusMonoEncoder()
    opus = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48_000, channels=2, payloadType=96)
    decoder = get_decoder(opus)
    signal = tone(48_000, 440.0)
    signal[:24_000] = 0
    heard: list[Any] = []
    for k in range(100):
        pcm = (signal[PACKET * k : PACKET * (k + 1)] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, PACKET * k, Fraction(1, 48_000)
        payloads, stamp = encoder.encode(frame)
        assert stamp == PACKET * k
        assert len(payloads) == 1
        frames: list[Any] = decoder.decode(JitterFrame(payloads[0], stamp))
        heard.extend(f.to_ndarray().reshape(-1, 2)[:, 0] for f in frames)
    out = np.concatenate(heard).astype(float)
    lags = np.arange(200, 420)
    match = [float(np.dot(out[26_000 + lag : 40_000 + lag], signal[26_000:40_000])) for lag in lags]
    period = 48_000 / 440.0
    best = int(lags[int(np.argmax(match))])
    # The correlation of a tone repeats with its period: compare modulo that.
    assert min((best - OPUS_LEAD) % period, (OPUS_LEAD - best) % period) < 3


def packet(sequence: int, stamp: int, data: bytes = b"x", marker: int = 0) -> RtpPacket:
    made = RtpPacket(payload_type=96, sequence_number=sequence & 0xFFFF, timestamp=stamp, marker=marker)
    made._data = data  # type: ignore[attr-defined]
    return made


def test_audio_passes_at_once_and_never_backwards() -> None:
    buffer = ImmediateBuffer()
    got = [buffer.add(packet(s, 960 * s)) for s in (65_534, 65_535, 0, 1, 0, 65_535, 3)]
    assert [frame is not None for _, frame in got] == [True, True, True, True, False, False, True]
    assert not any(pli for pli, _ in got)


def test_a_picture_passes_with_its_last_packet_and_a_torn_one_asks_for_a_key_frame() -> None:
    buffer = ImmediateBuffer(is_video=True)
    assert buffer.add(packet(1, 0, b"a"))[1] is None
    _, whole = buffer.add(packet(2, 0, b"b", marker=1))
    assert whole is not None
    assert whole.data == b"ab"
    assert buffer.add(packet(4, 3600, b"c", marker=1)) == (True, None)
    _, after = buffer.add(packet(5, 7200, b"d", marker=1))
    assert after is not None


async def test_aiortc_still_has_the_places_we_fill() -> None:
    connection = RTCPeerConnection()
    sender = connection.addTrack(VideoTrack(Fraction(25)))
    audio = connection.addTransceiver("audio")
    install_encoder(sender, VideoEncoder("VP8", Fraction(25)))
    install_immediate_buffer(audio.receiver)
    with pytest.raises(BackendError, match="aiortc"):
        install_encoder(object(), OpusMonoEncoder())  # type: ignore[arg-type]
    await connection.close()


async def test_a_slow_encoder_loses_the_oldest_picture_never_grows() -> None:
    lost: list[int] = []
    sink = WebRtcSink("viewer", Fraction(25), lambda: lost.append(1))
    for n in range(10):
        sink.video(n, np.zeros((24, 16), np.uint8))
        for k in range(4 * n, 4 * n + 4):
            sink.audio(k, np.zeros(PACKET, np.float32))
    assert len(lost) == 8
    frame = await sink.video_track.recv()
    assert (frame.pts, frame.time_base) == (8, Fraction(1, 25))
    sound = await sink.audio_track.recv()
    assert (sound.pts, sound.sample_rate, sound.samples) == (PACKET * 20, 48_000, PACKET)
    await sink.close()


async def test_tracks_end_when_the_sink_closes() -> None:
    from aiortc.mediastreams import MediaStreamError

    track = AudioTrack()
    track.stop()
    with pytest.raises(MediaStreamError):
        await track.recv()
