"""Reading pictures: every colour model, orientation and size, and every way a file can be bad."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import ImageError
from engine.face.image import BACKGROUND, MAX_SIDE, decode_image, load_image


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 10, 10)
    pixels[: height // 2, width // 2 :] = (10, 250, 10)
    pixels[height // 2 :, : width // 2] = (10, 10, 250)
    pixels[height // 2 :, width // 2 :] = (250, 250, 250)
    return Image.fromarray(pixels)


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation: int, format: str) -> None:
    stored = scene()
    if orientation in _UPRIGHT:
        stored = stored.transpose(_UPRIGHT[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode_image(encode(stored, format, exif=exif, quality=95))
    assert picture.rgb.shape == (48, 64, 3)
    assert picture.original_size == (64, 48)
    assert np.abs(picture.rgb[4, 4].astype(int) - (250, 10, 10)).max() < 40
    assert np.abs(picture.rgb[-4, 4].astype(int) - (10, 10, 250)).max() < 40


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr"])
def test_colour_models(mode: str) -> None:
    image = scene().convert(mode)
    format = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    picture = decode_image(encode(image, format))
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.shape == (48, 64, 3)
    assert picture.alpha is None
    wanted = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(picture.rgb[6:12, 6:12] - wanted[6:12, 6:12]).max() < 40


def test_sixteen_bit_grey_keeps_its_tones() -> None:
    ramp = np.tile(np.linspace(0, 65535, 64), (32, 1)).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        picture = decode_image(encode(Image.fromarray(ramp), format))
        grey = picture.rgb[0, :, 0].astype(int)
        assert grey[0] == 0
        assert grey[-1] == 255
        assert np.abs(grey - np.linspace(0, 255, 64)).max() <= 1


def test_sixteen_bit_colour() -> None:
    """A 48-bit PNG, written by hand: Pillow cannot."""
    row = b"\x00" + struct.pack(">HHH", 65535, 32768, 0) * 32
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(row * 32))]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in [*chunks, (b"IEND", b"")]:
        data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    assert np.abs(decode_image(data).rgb[0, 0].astype(int) - (255, 128, 0)).max() <= 1


def test_float_tiff() -> None:
    ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1))
    assert decode_image(encode(Image.fromarray(ramp), "TIFF")).rgb[0, -1, 0] == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_shows_the_background_and_is_kept(mode: str) -> None:
    image = scene().convert("RGBA")
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :16] = 0
    image.putalpha(Image.fromarray(alpha))
    data = encode(image.convert("P"), transparency=0) if mode == "PA" else encode(image.convert(mode))
    picture = decode_image(data)
    assert picture.alpha is not None
    assert picture.alpha.shape == (48, 64)
    hidden = picture.alpha == 0
    assert hidden.any()
    assert (picture.rgb[hidden] == BACKGROUND).all()
    if mode != "PA":
        assert (picture.alpha == alpha).all()


def test_opaque_alpha_is_dropped() -> None:
    assert decode_image(encode(scene().convert("RGBA"))).alpha is None


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_huge_photo_is_scaled_down(format: str) -> None:
    image = Image.new("RGB", (8000, 6000), (200, 100, 50))
    picture = decode_image(encode(image, format, **({"compress_level": 1} if format == "PNG" else {})))
    assert max(picture.rgb.shape) <= MAX_SIDE
    assert picture.width / picture.height == pytest.approx(8 / 6, rel=1e-3)
    assert picture.original_size == (8000, 6000)
    assert np.abs(picture.rgb[5, 5].astype(int) - (200, 100, 50)).max() < 4


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (32, 32), c) for c in ((255, 0, 0), (0, 255, 0))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(decode_image(data).rgb[0, 0]) == (255, 0, 0)


def png_claiming(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("L", (16, 16))))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.parametrize("side", [12_000, 20_000, 60_000, 2_000_000])
def test_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    with pytest.raises(ImageError, match="scale it down"):
        decode_image(png_claiming(side, side), "bomb.png")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_truncated_file(format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise), format)
    try:
        picture = decode_image(data[: int(len(data) * share)], "cut")
    except ImageError as error:
        assert "again" in str(error) or "not an image" in str(error)  # noqa: PT017
    else:
        # Some formats keep what matters in the part that is left.
        assert picture.rgb.shape == (64, 64, 3)
        assert share > 0.9


@pytest.mark.parametrize(
    "data", [b"hello, I am text", b"", b"\x00" * 1000, b"\x89PNG\r\n\x1a\n", b"%PDF-1.7"]
)
def test_not_an_image(data: bytes) -> None:
    with pytest.raises(ImageError, match="give a JPEG, PNG or WebP"):
        decode_image(data, "note.txt")


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="check the path"):
        load_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="folder"):
        load_image(tmp_path)
    (tmp_path / "tiny.png").write_bytes(encode(Image.new("RGB", (4, 4))))
    with pytest.raises(ImageError, match="larger picture"):
        load_image(tmp_path / "tiny.png")


def test_provenance(tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(encode(scene()))
    picture = load_image(tmp_path / "me.png")
    assert picture.source == "me.png"
    assert len(picture.sha256) == 64
