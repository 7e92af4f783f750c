"""The portraits a server can animate: bundled ones, ones named at start, and uploads."""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from engine.config import asset_path
from engine.errors import ConfigError, InputError
from engine.pipeline import Pipeline
from engine.recipes import prepare_identity, restore_identity
from streaming.framing import LIVE_PIXELS, Compose, full_frame

__all__ = ["BUNDLED", "Face", "Portrait", "PortraitStore", "load_face", "load_identity"]

BUNDLED = {"astronaut": "Astronaut (photo)", "character": "Character (drawing)"}
_SIDE = 192
_STILL = 1024
_MOST_UPLOADS = 24


@dataclass(frozen=True)
class Face:
    """A prepared face: the animator's identity, and how its crop becomes the picture that is sent.

    Both are None for animators that draw a face of their own; ``compose`` also for the crop itself.
    """

    identity: Any = None
    compose: Compose | None = None


def load_face(
    pipeline: Pipeline,
    path: Path,
    face: int | None = None,
    framing: str = "crop",
    pixels: int | None = LIVE_PIXELS,
) -> Face:
    """The face in ``path`` (a photo or an .avatar), prepared for the pipeline's animator.

    Args:
        face: which one, where there are several.
        framing: "crop" or "full".
        pixels: see :func:`streaming.framing.full_frame`.

    Raises:
        InputError: not an image, no face, several faces, a damaged package; the message says what to do.
        AssetError: face-model files are missing.
    """
    from engine.face.image import load_image

    if not getattr(pipeline.animator, "needs_portrait", True):
        return Face()
    if path.suffix == ".avatar":
        from engine.face.avatar import load_avatar

        avatar = load_avatar(path)
        portrait = avatar.portrait
        identity = restore_identity(pipeline, avatar.info.animator, avatar.layers)
        return _framed(identity, portrait, framing, pixels)
    from engine.face.portrait import analyse_portrait

    portrait = analyse_portrait(load_image(path), face)
    identity = prepare_identity(pipeline, portrait)
    return _framed(identity, portrait, framing, pixels)


def _framed(identity: Any, portrait: Any, framing: str, pixels: int | None) -> Face:
    if framing != "full":
        return Face(identity)
    person = getattr(identity, "person", None)
    return Face(identity, full_frame(portrait, None if person is None else person[..., 3] / 255.0, pixels))


def load_identity(pipeline: Pipeline, path: Path, face: int | None = None) -> Any:
    """Only the identity of :func:`load_face`."""
    return load_face(pipeline, path, face).identity


@dataclass
class Portrait:
    """One entry: its pictures for the page, and the face once it has been prepared."""

    name: str
    title: str
    path: Path
    thumbnail: bytes
    still: bytes
    uploaded: bool = False
    face: Face | None = None


class PortraitStore:
    """Portraits by name. Preparing one runs in a thread, one at a time.

    Uploads lie in a private temporary folder until the store is closed; beyond 24 of them the oldest
    is forgotten.
    """

    def __init__(self, pipeline: Pipeline, framing: str = "crop") -> None:
        self._pipeline = pipeline
        self._framing = framing
        self._entries: dict[str, Portrait] = {}
        # One at a time: preparing takes all of a core, and sessions are running.
        self._preparing = asyncio.Semaphore(1)
        self._folder = tempfile.TemporaryDirectory(prefix="visavis-")

    def close(self) -> None:
        self._entries.clear()
        self._folder.cleanup()

    def add_bundled(self) -> None:
        for name, title in BUNDLED.items():
            path = asset_path(f"demo/{name}.png")
            if path.is_file():
                self._add(name, title, path)

    def add_path(self, path: Path) -> Portrait:
        """A file named by the user; it becomes the first of the list. Raises InputError."""
        if not path.is_file():
            raise InputError(f"no portrait file {path}")
        entry = self._add(self._free_name(path.stem), path.stem, path)
        self._entries = {entry.name: entry, **self._entries}
        return entry

    async def upload(self, filename: str, data: bytes) -> Portrait:
        """A photo sent by the page: kept only if a face in it can be animated. Raises InputError."""
        filename = unquote(filename).replace("\\", "/")
        name = self._free_name(Path(filename).stem)
        path = Path(self._folder.name) / f"{name}{_suffix(filename)}"
        path.write_bytes(data)
        try:
            entry = await asyncio.to_thread(self._add, name, Path(filename).stem[:60] or name, path)
            entry.uploaded = True
            await self.face(name)
        except Exception:
            self._forget(name, path)
            raise
        uploads = [e for e in self._entries.values() if e.uploaded]
        for old in uploads[: max(0, len(uploads) - _MOST_UPLOADS)]:
            self._forget(old.name, old.path)
        return entry

    def get(self, name: str | None) -> Portrait:
        """By name; the first one for None. Raises ConfigError."""
        if name is None and self._entries:
            return next(iter(self._entries.values()))
        if name not in self._entries:
            raise ConfigError(f"no portrait {name!r}; there are {', '.join(self._entries) or 'none'}")
        return self._entries[name]

    async def face(self, name: str | None) -> Face:
        """The prepared face of a portrait; prepared now if this is its first use."""
        entry = self.get(name)
        async with self._preparing:
            if entry.face is None:
                entry.face = await asyncio.to_thread(
                    load_face, self._pipeline, entry.path, framing=self._framing
                )
        return entry.face

    def listing(self) -> list[dict[str, object]]:
        """What the page shows."""
        return [
            {
                "name": e.name,
                "title": e.title,
                "thumbnail": f"api/portraits/{e.name}/thumbnail",
                "image": f"api/portraits/{e.name}/image",
                "uploaded": e.uploaded,
            }
            for e in self._entries.values()
        ]

    def _add(self, name: str, title: str, path: Path) -> Portrait:
        thumbnail, still = _pictures(path)
        entry = Portrait(name, title, path, thumbnail, still)
        self._entries[name] = entry
        return entry

    def _forget(self, name: str, path: Path) -> None:
        self._entries.pop(name, None)
        path.unlink(missing_ok=True)

    def _free_name(self, stem: str) -> str:
        base = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40] or "portrait"
        name, count = base, 1
        while name in self._entries:
            count += 1
            name = f"{base}-{count}"
        return name


def _suffix(filename: str) -> str:
    suffix = Path(filename).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ".img"


def _pictures(path: Path) -> tuple[bytes, bytes]:
    """JPEG thumbnail (square) and still (at most 1024 px) of a photo or an .avatar package."""
    from engine.face.image import load_image

    if path.suffix == ".avatar":
        from engine.face.avatar import load_avatar

        rgb = np.asarray(load_avatar(path).portrait.picture.rgb)
    else:
        rgb = load_image(path).rgb
    return _jpeg(rgb, _SIDE, square=True), _jpeg(rgb, _STILL, square=False)


def _jpeg(rgb: NDArray[np.uint8], size: int, *, square: bool) -> bytes:
    from PIL import Image, ImageOps

    image = Image.fromarray(rgb)
    if square:
        # Faces are more often above the middle than below it.
        image = ImageOps.fit(image, (size, size), centering=(0.5, 0.3))
    else:
        image.thumbnail((size, size))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()
