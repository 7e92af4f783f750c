"""Avatar packages: one file with all that a session needs of a prepared face.

The file is a safetensors archive (no code in it, nothing is executed on loading) whose metadata
holds a JSON header: format version, provenance, consent, checksums. Writing is atomic: the file
appears complete or not at all.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from engine.errors import AvatarError
from engine.face.basis import load_basis
from engine.face.fitter import FaceFit
from engine.face.image import Picture
from engine.face.landmarks import Landmarks
from engine.face.portrait import Portrait

__all__ = ["FORMAT_VERSION", "Avatar", "AvatarInfo", "load_avatar", "save_avatar"]

Arrays = dict[str, NDArray[Any]]

FORMAT_VERSION = 1
_AGAIN = "run 'visavis prepare' on the photo again"
_FIT_ARRAYS = ("identity", "expression", "rotation", "translation", "centre", "gaze", "correction")
_FIT_NUMBERS = ("focal", "error_percent", "spread_error_percent")


@dataclass(frozen=True)
class AvatarInfo:
    """Where an avatar comes from."""

    visavis: str
    """version that wrote it"""
    created: str
    """ISO 8601 date and time, given by the caller (the engine reads no clock)"""
    animator: str
    """name of the animator that filled the layers"""
    consent: str = ""
    """what the person in the photo agreed to, in the words of who prepared it"""
    source: str = ""
    """file name of the photo"""
    source_sha256: str = ""
    source_width: int = 0
    source_height: int = 0

    @staticmethod
    def of(picture: Picture, *, visavis: str, created: str, animator: str, consent: str = "") -> AvatarInfo:
        """The info of an avatar made from ``picture``."""
        width, height = picture.original_size
        return AvatarInfo(visavis, created, animator, consent, picture.source, picture.sha256, width, height)


@dataclass(frozen=True)
class Avatar:
    """A prepared face."""

    portrait: Portrait
    layers: Arrays
    """what the animator prepared, by name; its own ``from_arrays`` reads them"""
    info: AvatarInfo


def save_avatar(path: str | Path, avatar: Avatar) -> None:
    """Write ``avatar`` to ``path``, replacing a file that is there.

    Raises:
        AvatarError: the folder does not exist or cannot be written, or a layer is no plain array;
            nothing is left behind.
    """
    path = Path(path)
    arrays = _portrait_arrays(avatar.portrait)
    arrays |= {f"layers.{name}": value for name, value in avatar.layers.items()}
    odd = [name for name, value in arrays.items() if value.dtype.kind not in "biuf"]
    if odd:
        raise AvatarError(f"{', '.join(odd)} cannot be stored in an avatar: give arrays of numbers")
    # safetensors writes memory as it lies, so strides must be plain.
    arrays = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in arrays.items()}
    header = {
        "format": FORMAT_VERSION,
        "info": asdict(avatar.info),
        "fit": {name: float(getattr(avatar.portrait.fit, name)) for name in _FIT_NUMBERS},
        "score": avatar.portrait.landmarks.score,
        "crc32": {name: _checksum(value) for name, value in arrays.items()},
    }
    _write(path, save(arrays, {"visavis": json.dumps(header)}))


def _checksum(value: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _write(path: Path, data: bytes) -> None:
    """All of ``data`` or nothing: into a temporary neighbour, then renamed."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise AvatarError(
                f"cannot write {path} ({error.strerror}): choose a folder that exists and can be written"
            ) from error
        raise


def _portrait_arrays(portrait: Portrait) -> Arrays:
    arrays: Arrays = {
        "crop": portrait.crop,
        "crop_from_image": portrait.crop_from_image,
        "picture": portrait.picture.rgb,
        "landmarks": portrait.landmarks.points,
        "landmark_depth": portrait.landmarks.depth,
    }
    for name, alpha in (("crop_alpha", portrait.crop_alpha), ("picture_alpha", portrait.picture.alpha)):
        if alpha is not None:
            arrays[name] = alpha
    return arrays | {f"fit.{name}": getattr(portrait.fit, name) for name in _FIT_ARRAYS}


def load_avatar(path: str | Path) -> Avatar:
    """Read an avatar package.

    Raises:
        AvatarError: not there, not an avatar, damaged, or of another version; says what to do.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AvatarError(f"cannot read {path} ({error.strerror}): check the path") from error
    header = _header(path, data)
    try:
        arrays: Arrays = load(data)
        damaged = [name for name, crc in header["crc32"].items() if _checksum(arrays[name]) != crc]
        if damaged or set(arrays) != set(header["crc32"]):
            raise AvatarError(f"{path} is damaged (checksum of {', '.join(damaged) or 'contents'}): {_AGAIN}")
        return _assemble(arrays, header)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise AvatarError(f"{path} is damaged ({error}): {_AGAIN}") from error


def _header(path: Path, data: bytes) -> dict[str, Any]:
    """Our JSON header, version checked before anything else is looked at."""
    try:
        length = int.from_bytes(data[:8], "little")
        if len(data) < 8 or length > len(data) - 8:
            raise ValueError("cut short")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["visavis"])
        version = header["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise AvatarError(
            f"{path} is damaged or no avatar package: give a file that 'visavis prepare' wrote, or {_AGAIN}"
        ) from error
    if version != FORMAT_VERSION:
        wrote = header.get("info", {}).get("visavis", "unknown")
        raise AvatarError(
            f"{path} has format {version} (written by visavis {wrote}), this visavis reads {FORMAT_VERSION}: "
            f"{_AGAIN}, or use that version"
        )
    return dict(header)


def _assemble(arrays: Arrays, header: Mapping[str, Any]) -> Avatar:
    known = {f.name for f in fields(AvatarInfo)}
    info = AvatarInfo(**{k: v for k, v in header["info"].items() if k in known})
    fitted: dict[str, Any] = {name: arrays[f"fit.{name}"] for name in _FIT_ARRAYS}
    fitted |= {name: float(header["fit"][name]) for name in _FIT_NUMBERS}
    fit = FaceFit(**fitted)
    if fit.correction.shape != load_basis().mean.shape:
        raise AvatarError(f"this avatar was made with another face basis: {_AGAIN}")
    picture = Picture(
        rgb=arrays["picture"],
        alpha=arrays.get("picture_alpha"),
        source=info.source,
        original_size=(info.source_width, info.source_height),
        sha256=info.source_sha256,
    )
    portrait = Portrait(
        crop=arrays["crop"],
        crop_alpha=arrays.get("crop_alpha"),
        crop_from_image=arrays["crop_from_image"],
        landmarks=Landmarks(arrays["landmarks"], arrays["landmark_depth"], float(header["score"])),
        fit=fit,
        picture=picture,
    )
    prefix = "layers."
    layers = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    return Avatar(portrait, layers, info)
