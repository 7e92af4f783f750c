from __future__ import annotations

import numpy as np
import pytest

from engine.errors import StreamError
from streaming.channel import AudioBlock, AudioChannel, FrameChannel


def block(frame: int) -> AudioBlock:
    return AudioBlock(frame, 640 * frame, np.zeros(640, np.float32), (1.0,))


def picture(value: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.full((3, 2), value, np.uint8)


def test_audio_keeps_the_newest_and_tells_about_a_loss() -> None:
    channel = AudioChannel(capacity=5, keep=2)
    assert all(channel.put(block(n)) for n in range(5))
    assert not channel.put(block(5))
    assert channel.put(block(6))
    got = [channel.get() for _ in range(4)]
    assert [b.frame if b else None for b in got] == [4, 5, 6, None]


def test_frames_that_are_late_are_counted_and_the_newest_is_told() -> None:
    channel = FrameChannel()
    for n in (2, 3, 4, 6):
        channel.put(n, picture(n))
    taken, late, newest = channel.take(4)
    assert taken is not None
    assert newest is not None
    assert (taken[0, 0], late, newest[0, 0]) == (4, 2, 3)
    assert channel.take(5) == (None, 0, None)
    taken, late, newest = channel.take(6)
    assert taken is not None
    assert (late, newest) == (0, None)


def test_frames_never_pile_up() -> None:
    channel = FrameChannel(capacity=4)
    for n in range(1000):
        channel.put(n, picture(n % 256))
    assert len(channel) == 4


@pytest.mark.parametrize("channel", [AudioChannel(), FrameChannel()])
def test_both_ends_see_why_a_channel_closed(channel: AudioChannel | FrameChannel) -> None:
    channel.close(ValueError("first"))
    channel.close(ValueError("second"))
    with pytest.raises(StreamError) as seen:
        channel.check()
    assert str(seen.value.__cause__) == "first"
    with pytest.raises(StreamError):
        channel.take(0) if isinstance(channel, FrameChannel) else channel.get()
    with pytest.raises(StreamError):
        channel.put(0, picture(0)) if isinstance(channel, FrameChannel) else channel.put(block(0))
