from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine.config import asset_path
from engine.errors import AudioError, InputError
from engine.recipes import build
from engine.types import Cond
from kernels.i420 import i420_to_rgb
from streaming.clock import OUT_RATE
from streaming.render import render_file, render_pictures
from streaming.resample import DECIMATOR_DELAY
from streaming.sinks.base import PACKET
from streaming.sinks.mp4 import Mp4Sink, Mp4Writer
from streaming.sources.file import FileSource, read_audio
from tests.streaming.helpers import stage

RATE = Fraction(25)


def grey(value: int, width: int = 64, height: int = 48) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    out = np.full((height * 3 // 2, width), 128, np.uint8)
    out[:height] = value
    return out


def read(path: Path) -> tuple[list[float], list[float], np.ndarray[Any, np.dtype[np.float32]], Any]:
    """Times and mean luma of the pictures, the sound from time zero, and the video stream's codec."""
    with av.open(str(path)) as file:
        context: Any = file.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_range)
        times, luma = [], []
        for frame in file.decode(video=0):
            times.append(float(frame.time or 0.0))
            luma.append(float(frame.to_ndarray(format="yuv420p")[: frame.height].mean()))
    sound = np.zeros(0, np.float32)
    with av.open(str(path)) as file:
        for heard in file.decode(audio=0):
            start = round(float(heard.time or 0.0) * OUT_RATE)
            block = heard.to_ndarray()[0].astype(np.float32)
            sound = np.concatenate([sound, np.zeros(max(0, start - sound.size), np.float32)])
            sound = np.concatenate([sound, block[max(0, sound.size - start) :]])
    return times, luma, sound, tags


def flash_and_click(frames: int, at: int) -> tuple[list[Any], np.ndarray[Any, np.dtype[np.float32]]]:
    pictures = [grey(220 if n == at else 30) for n in range(frames)]
    sound = np.zeros(frames * 1920, np.float32)
    sound[at * 1920 : at * 1920 + 48] = 0.9
    return pictures, sound


@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
def test_flash_and_click_meet_and_colours_are_tagged(tmp_path: Path, matrix: Any) -> None:
    path = tmp_path / "out.mp4"
    pictures, sound = flash_and_click(50, at=30)
    with Mp4Writer(path, RATE, matrix) as writer:
        for n, picture in enumerate(pictures):
            writer.video(n, picture)
            writer.audio(sound[n * 1920 : (n + 1) * 1920])
    times, luma, heard, tags = read(path)
    assert times == pytest.approx([n / 25 for n in range(50)])
    assert times[int(np.argmax(luma))] == pytest.approx(30 / 25)
    click = int(np.argmax(np.abs(heard) > 0.3))
    assert abs(click - 30 * 1920) <= 24  # half a millisecond: AAC smears an attack
    code = {"bt709": 1, "bt601": 6}[matrix]
    assert (int(tags[0]), int(tags[1]), int(tags[2])) == (code, code, 1)


def _write_then_fail(writer: Mp4Writer) -> None:
    writer.video(0, grey(50))
    read_audio(Path("nothing.wav"))


def test_a_broken_run_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(AudioError), Mp4Writer(path, RATE) as writer:
        _write_then_fail(writer)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no folder"):
        Mp4Writer(tmp_path / "missing" / "out.mp4", RATE)


async def test_a_recording_starts_with_a_picture_and_stays_aligned(tmp_path: Path) -> None:
    path = tmp_path / "live.mp4"
    sink = Mp4Sink(path, RATE, "bt601")
    pictures, sound = flash_and_click(60, at=40)
    for n in range(60):
        for k in range(4 * n, 4 * n + 4):
            if k not in (100, 101, 102):  # lost packets become silence, not a shift
                sink.audio(k, sound[k * PACKET : (k + 1) * PACKET])
        if n >= 7:
            sink.video(n, pictures[n])
    await sink.close()
    times, luma, heard, _ = read(path)
    assert len(times) == 53
    assert times[0] == 0.0
    assert times[int(np.argmax(luma))] == pytest.approx(33 / 25)
    assert abs(int(np.argmax(np.abs(heard) > 0.3)) - 33 * 1920) <= 24


async def test_render_gives_exactly_the_pixels_of_the_live_path() -> None:
    voice = asset_path("demo/voice_b.wav")
    live = stage()
    source = FileSource(voice)
    await live.session.set_source(source)
    source.start()
    while not source.buffered > 2 * OUT_RATE:
        await live.clock.advance_to(0)
    await live.run_until(2500)
    await live.session.close()
    drawn = render_pictures(build("tiny"), Cond.default(1, seed=3), read_audio(voice), matrix="bt601")
    offline = [picture for _, picture in zip(range(40), (p for _, p in drawn), strict=False)]
    assert len(offline) == 40
    for n in range(40):
        np.testing.assert_array_equal(live.sink.pictures[n], offline[n])
    # And they do show something that moves.
    assert any((offline[n] != offline[0]).any() for n in range(1, 40))


def test_render_file_is_as_long_as_its_audio(tmp_path: Path) -> None:
    voice, out = asset_path("demo/voice_a.wav"), tmp_path / "out.mp4"
    done: list[tuple[int, int]] = []
    frames = render_file(build("tiny"), Cond.default(), voice, out, progress=lambda a, b: done.append((a, b)))
    assert done[-1] == (frames, frames)
    times, _, heard, tags = read(out)
    samples = read_audio(voice)
    assert len(times) == frames == -(-samples.size // 1920)
    assert int(tags[0]) == 1
    n = min(heard.size - DECIMATOR_DELAY, samples.size, 5 * OUT_RATE)
    shifts = range(DECIMATOR_DELAY - 4, DECIMATOR_DELAY + 5)
    match = [float(np.dot(heard[s : s + n - 100], samples[: n - 100])) for s in shifts]
    assert shifts[int(np.argmax(match))] == DECIMATOR_DELAY


def test_what_cannot_be_rendered_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.mp4"):
        render_file(build("tiny"), Cond.default(), asset_path("demo/voice_a.wav"), tmp_path / "out.avi")
    with pytest.raises(AudioError):
        render_file(build("tiny"), Cond.default(), tmp_path / "none.wav", tmp_path / "out.mp4")


def test_tiny_pictures_look_like_a_face() -> None:
    _, picture = next(render_pictures(build("tiny"), Cond.default(), np.zeros(4800, np.float32)))
    rgb = i420_to_rgb(picture).astype(int)
    assert np.abs(rgb[32, 32] - rgb[0, 0]).sum() > 30
