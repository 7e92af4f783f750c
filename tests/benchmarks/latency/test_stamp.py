"""The picture code survives what a video codec does to it, and says when it does not."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.latency.stamp import Stamp, read_luma, read_rgb, strip_height, write_i420


def noise_picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(16, 235, (height * 3 // 2, width), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (256, 256), (480, 640), (720, 1280), (360, 202)])
@pytest.mark.parametrize("stamp", [Stamp(0), Stamp(1), Stamp(77_777, 0), Stamp(2**20 - 1, 639)])
def test_round_trip(height: int, width: int, stamp: Stamp) -> None:
    picture = noise_picture(height, width)
    before = picture.copy()
    write_i420(picture, stamp)
    assert read_luma(picture[:height]) == stamp
    untouched = height - strip_height(height)
    assert np.array_equal(picture[:untouched], before[:untouched])


def test_frame_counts_modulo_twenty_bits() -> None:
    picture = noise_picture(256, 256)
    write_i420(picture, Stamp(2**20 + 5))
    assert read_luma(picture[:256]) == Stamp(5)


def test_picture_without_stamp_reads_as_none() -> None:
    for seed in range(20):
        assert read_luma(noise_picture(256, 256, seed)[:256]) is None


def test_a_damaged_cell_is_noticed() -> None:
    picture = noise_picture(512, 512)
    write_i420(picture, Stamp(1234, 56))
    cell = picture[512 - 32 : 512 - 16, 21 * 10 : 21 * 11]
    cell[:] = 255 - cell
    assert read_luma(picture[:512]) is None


def test_offset_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="1024"):
        Stamp(0, 1024)


@pytest.mark.parametrize("codec", ["libvpx", "libx264"])
def test_survives_a_lossy_codec_at_a_low_bitrate(codec: str) -> None:
    import av

    sent = [Stamp(n, 37 * n % 640 if n % 3 == 0 else None) for n in range(12)]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 512
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 400_000
        picture = np.full((768, 512), 90, np.uint8)
        for n, stamp in enumerate(sent):
            write_i420(picture, stamp)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as source:
        assert isinstance(source, av.container.InputContainer)
        pictures = [f.to_ndarray(format="rgb24") for f in source.decode(video=0)]
    heard = [read_rgb(np.asarray(p, np.uint8)) for p in pictures]
    assert heard == sent
