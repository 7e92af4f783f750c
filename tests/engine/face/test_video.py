"""Reading and tracking of real files, written here with known time stamps, offsets and rotation."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config import asset_path
from engine.errors import AudioError, InputError
from engine.face.landmarks import mouth_opening
from engine.face.video import read_audio, read_video, track_video
from engine.train.tracks import clip_name, find_clips, track_clip

TICKS = 600
"""Time base of the files written here; divides 24, 25 and 30 frames/s."""


def write(
    path: Path,
    frames: list[NDArray[np.uint8]],
    ticks: list[int],
    audio: NDArray[np.float32] | None = None,
    audio_start_s: float = 0.0,
) -> Path:
    """Frames at ``ticks`` / 600 s and 16 kHz mono audio from ``audio_start_s``, without loss of timing."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "12", "bf": "0"})
        assert isinstance(video, av.VideoStream)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt, video.time_base = "yuv420p", Fraction(1, TICKS)
        video.codec_context.time_base = Fraction(1, TICKS)
        sound = None
        if audio is not None:
            sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
            assert isinstance(sound, av.AudioStream)
        for rgb, tick in zip(frames, ticks, strict=True):
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts, picture.time_base = tick, Fraction(1, TICKS)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            pcm = np.round(audio * 32767).astype(np.int16)[None]
            chunk = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            chunk.sample_rate, chunk.pts = 16000, round(audio_start_s * 16000)
            chunk.time_base = Fraction(1, 16000)
            container.mux(sound.encode(chunk))
            container.mux(sound.encode(None))
    return path


def grey(level: int, size: tuple[int, int] = (64, 96)) -> NDArray[np.uint8]:
    return np.full((*size, 3), level, np.uint8)


def numbered(count: int) -> list[NDArray[np.uint8]]:
    """Frame n has brightness 20 + 5 n, so that a decoded frame tells its number."""
    return [grey(20 + 5 * n) for n in range(count)]


def numbers(path: Path) -> tuple[list[float], list[int]]:
    times, seen = [], []
    for time, rgb in read_video(path):
        times.append(time)
        seen.append(round((float(rgb.mean()) - 20) / 5))
    return times, seen


def astronaut() -> NDArray[np.uint8]:
    loaded = cv2.imread(str(asset_path("demo/astronaut.png")), cv2.IMREAD_COLOR)
    assert loaded is not None
    return np.ascontiguousarray(loaded[..., ::-1], np.uint8)


def test_25_frames_per_second_pass_unchanged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", numbered(12), [24 * n for n in range(12)])
    times, seen = numbers(path)
    assert seen == list(range(12))
    np.testing.assert_allclose(times, np.arange(12) / 25)


@pytest.mark.parametrize("rate", [24, 30, 50])
def test_other_rates_give_the_nearest_frame(tmp_path: Path, rate: int) -> None:
    count = 40
    path = write(tmp_path / "a.mp4", numbered(count), [TICKS // rate * n for n in range(count)])
    times, seen = numbers(path)
    assert len(seen) == pytest.approx(25 * count / rate, abs=1)
    for time, number in zip(times, seen, strict=True):
        assert abs(number / rate - time) <= 0.5 / rate + 1e-6


def test_variable_frame_rate(tmp_path: Path) -> None:
    ticks = [0, 24, 30, 36, 120, 144, 168]
    path = write(tmp_path / "a.mkv", numbered(7), ticks)
    times, seen = numbers(path)
    assert seen[:7] == [0, 1, 3, 3, 4, 4, 5] or seen[:7] == [0, 1, 3, 4, 4, 4, 5]
    for time, number in zip(times, seen, strict=True):
        nearest = min(abs(tick / TICKS - time) for tick in ticks)
        assert abs(ticks[number] / TICKS - time) == pytest.approx(nearest, abs=2e-3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_mark_is_honoured(tmp_path: Path, degrees: int) -> None:
    """A phone stores sideways pictures and marks how to turn them; the mark is the mp4's matrix."""
    upright = grey(40, (64, 96))
    upright[:20, :30] = 220
    stored = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
    path = write(tmp_path / "a.mp4", [stored] * 5, [24 * n for n in range(5)])
    data = bytearray(path.read_bytes())
    # tkhd version 0: 40 bytes of fields lie between the box's name and its matrix [a b u c d v x y w].
    at = data.index(b"tkhd") + 4 + 40
    turn = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}[degrees]
    for slot, value in zip((0, 1, 3, 4), turn, strict=True):
        data[at + 4 * slot : at + 4 * slot + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    _, rgb = next(iter(read_video(path)))
    assert rgb.shape == upright.shape
    assert np.abs(rgb.astype(int) - upright).mean() < 12


@pytest.mark.parametrize(("video_s", "audio_s"), [(0.0, 0.0), (0.0, 0.2), (0.2, 0.0)])
def test_audio_sample_0_is_the_first_picture(tmp_path: Path, video_s: float, audio_s: float) -> None:
    audio = np.zeros(16000, np.float32)
    click_s = 0.5
    audio[round(click_s * 16000) :][:16] = 0.8
    ticks = [round(video_s * TICKS) + 24 * n for n in range(25)]
    path = write(tmp_path / "a.mkv", numbered(25), ticks, audio, audio_s)
    heard = read_audio(path)
    first = int(np.argmax(np.abs(heard) > 0.4))
    assert first == pytest.approx(16000 * (click_s + audio_s - video_s), abs=16)
    assert next(iter(read_video(path)))[0] == 0


def test_audio_is_resampled_mixed_and_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    time = np.arange(48000) / 48000
    left = np.round(32000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        both = np.stack([left, left], axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    heard = read_audio(path)
    assert heard.dtype == np.float32
    assert len(heard) == pytest.approx(16000, abs=32)
    assert np.abs(heard).max() <= 1
    peak = np.argmax(np.abs(np.fft.rfft(heard[:16000] if len(heard) >= 16000 else heard, 16000)))
    assert peak == 440
    assert np.abs(heard[1000:-1000]).max() == pytest.approx(32000 / 32768, abs=0.02)


def test_bad_files_name_the_remedy(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(InputError, match="FFmpeg"):
        next(iter(read_video(text)))
    with pytest.raises(AudioError, match="FFmpeg"):
        read_audio(text)
    with pytest.raises(InputError, match="cannot be read"):
        next(iter(read_video(tmp_path / "missing.mp4")))
    silent = write(tmp_path / "silent.mp4", numbered(3), [0, 24, 48])
    with pytest.raises(AudioError, match="no audio track"):
        read_audio(silent)
    with pytest.raises(InputError, match="no video track"):
        next(iter(read_video(asset_path("demo/voice_a.wav"))))


def test_track_follows_the_face_and_says_where_it_is_not(tmp_path: Path) -> None:
    face = astronaut()
    frames = [np.ascontiguousarray(np.roll(face, 2 * n, axis=1)) for n in range(8)]
    frames[3:5] = [grey(90, (512, 512))] * 2
    path = write(tmp_path / "a.mp4", frames, [24 * n for n in range(8)])
    track = track_video(path)
    assert len(track) == 8
    assert track.fps == 25
    assert track.size == (512, 512)
    assert track.valid.tolist() == [True] * 3 + [False] * 2 + [True] * 3
    assert (track.score[~track.valid] == 0).all()
    np.testing.assert_array_equal(track.points[4], track.points[2])
    moved = (track.points[7] - track.points[0]).mean(axis=0)
    np.testing.assert_allclose(moved, (14, 0), atol=1)
    assert len(track_video(path, max_frames=2)) == 2


def test_track_without_a_face(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [grey(90)] * 3, [0, 24, 48])
    track = track_video(path)
    assert not track.valid.any()
    assert np.isnan(track.points).all()


def test_corpus_tracker_writes_the_documented_layout(tmp_path: Path) -> None:
    clip = tmp_path / "talking" / "grid" / "one.mkv"
    clip.parent.mkdir(parents=True)
    voice = np.asarray(np.sin(np.arange(5000) / 7) / 2, np.float32)
    write(clip, [astronaut()] * 6, [24 * n for n in range(6)], voice)
    assert find_clips(tmp_path) == [clip]
    target = tmp_path / clip_name(tmp_path, clip)
    assert target.name == "grid__one.mkv.npz"
    assert track_clip(clip, target) == 1.0
    with np.load(target) as saved:
        assert saved["points"].shape == (6, 478, 2)
        assert saved["valid"].all()
        assert saved["audio"].dtype == np.int16
        assert saved["audio"].shape == (6 * 640,)
        np.testing.assert_allclose(saved["audio"][100:200] / 32767, voice[100:200], atol=2e-3)
        np.testing.assert_allclose(saved["opening"], mouth_opening(saved["points"]))
        assert saved["size"].tolist() == [512, 512]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid__one.mkv.npz", "talking"]


def test_a_real_clip_speaks_with_its_lips(data: Path) -> None:
    """Lips open and close, eyes blink, and the audio is as long as the video."""
    clip = data / "talking" / "grid_s1" / "prbdzn.mp4"
    track = track_video(clip)
    assert track.valid.all()
    opening = mouth_opening(track.points)
    assert opening.min() < 0.01
    assert opening.max() > 0.1
    p = track.points
    lids = np.linalg.norm(p[:, 159] - p[:, 145], axis=1) / np.linalg.norm(p[:, 33] - p[:, 133], axis=1)
    assert lids.min() < 0.6 * np.median(lids)
    assert len(read_audio(clip)) == pytest.approx(640 * len(track), abs=640)
