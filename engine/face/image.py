"""Reads a picture file safely: any orientation, colour model, depth and size, or a clear error.

Knows nothing about faces. Pillow decodes; nothing is trusted before its size has been checked.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import ImageError

__all__ = ["BACKGROUND", "MAX_PIXELS", "MAX_SIDE", "Picture", "decode_image", "load_image"]

Bytes = NDArray[np.uint8]

MAX_PIXELS = 100_000_000
"""More pixels than any camera makes; a larger file is refused before it is decoded."""
MAX_BYTES = 200_000_000
MAX_SIDE = 4096
"""Larger pictures are scaled down to this side: a face needs no more."""
BACKGROUND = (128, 128, 128)
"""What shows through transparent pixels."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright; colour values as stored (embedded profiles are not applied)."""

    rgb: Bytes
    """uint8 [H, W, 3], transparent parts composited on :data:`BACKGROUND`"""
    alpha: Bytes | None = None
    """uint8 [H, W], None where the file is opaque"""
    source: str = ""
    """file name"""
    original_size: tuple[int, int] = (0, 0)
    """(width, height) in the file, after its orientation was applied"""
    sha256: str = ""
    """of the file, hexadecimal"""

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])


def load_image(path: str | Path) -> Picture:
    """The picture in the file ``path``; ImageError names what to do when it cannot be used."""
    path = Path(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    except IsADirectoryError as error:
        raise ImageError(f"{path} is a folder: give an image file") from error
    except OSError as error:
        raise ImageError(
            f"cannot read {path} ({error.strerror}): check the path and its permissions"
        ) from error
    if size > MAX_BYTES:
        raise ImageError(
            f"{path} has {size / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f}: save it smaller"
        )
    return decode_image(data, path.name)


def decode_image(data: bytes, name: str = "image") -> Picture:
    """The picture in the bytes of an image file; ``name`` appears in messages."""
    if not data:
        raise ImageError(f"{name} is empty: give a JPEG, PNG or WebP file")
    try:
        with warnings.catch_warnings():
            # Our own size check below takes the place of Pillow's warning.
            warnings.simplefilter("ignore")
            return _decode(data, name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that can be read: give a JPEG, PNG or WebP file") from error
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error)) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        MemoryError,
        OverflowError,
    ) as error:
        raise ImageError(f"{name} is damaged or cut short ({error}): export or download it again") from error


def _too_large(name: str, size: str) -> ImageError:
    return ImageError(
        f"{name} is too large ({size}; the limit is {MAX_PIXELS / 1e6:.0f} megapixels): scale it down first"
    )


def _decode(data: bytes, name: str) -> Picture:
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(name, f"{image.width} x {image.height} pixels")
        if min(image.size) < 16:
            raise ImageError(f"{name} has only {image.width} x {image.height} pixels: give a larger picture")
        full = image.size
        # JPEG can skip detail while decoding: an 8000 px photo then costs a quarter of the time.
        image.draft(None, (MAX_SIDE, MAX_SIDE))
        image.load()
        upright = ImageOps.exif_transpose(image)
        turned = upright.size[0] != image.size[0]
        colour, alpha = _to_rgb(upright)
    colour, alpha = _limit(colour, alpha)
    original = (full[1], full[0]) if turned else full
    return Picture(*_composite(np.array(colour), alpha), name, original, hashlib.sha256(data).hexdigest())


def _composite(rgb: Bytes, alpha: Image.Image | None) -> tuple[Bytes, Bytes | None]:
    """``rgb`` on the background where it is transparent, and the opacity unless all is opaque."""
    opacity = None if alpha is None else np.array(alpha)
    if opacity is None or opacity.min() == 255:
        return rgb, None
    weight = opacity[..., None].astype(np.float32) / 255
    blended = rgb * weight + np.array(BACKGROUND, np.float32) * (1 - weight)
    return np.rint(blended).astype(np.uint8), opacity


def _to_rgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """RGB and, where the file has transparency, an L image of it."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return _deep_grey(image).convert("RGB"), None
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("RGB"), None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        four = image.convert("RGBA")
        return four.convert("RGB"), four.getchannel("A")
    return image.convert("RGB"), None


def _deep_grey(image: Image.Image) -> Image.Image:
    """A greyscale image of more than 8 bits, scaled by its nominal range (Pillow would clip it)."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the image holds values that are not numbers")
    top = float(values.max(initial=0.0))
    if image.mode == "F":
        full = 1.0 if top <= 1.0 else 255.0 if top <= 255.0 else 65535.0
    else:
        full = 255.0 if top <= 255.0 else 65535.0
    return Image.fromarray(np.clip(values * (255.0 / full), 0, 255).round().astype(np.uint8), "L")


def _limit(colour: Image.Image, alpha: Image.Image | None) -> tuple[Image.Image, Image.Image | None]:
    """Both scaled down to MAX_SIDE."""
    scale = MAX_SIDE / max(colour.size)
    if scale >= 1:
        return colour, alpha
    size = (max(1, round(colour.width * scale)), max(1, round(colour.height * scale)))
    smaller = None if alpha is None else alpha.resize(size, Image.Resampling.BOX)
    return colour.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0), smaller
