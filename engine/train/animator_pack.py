"""Training scenes in a file small enough to send: ``visavis train pack --heads DIR --out FILE --mib 60``.

Pictures become JPEG, coordinates and motion float16. Of every scene as many runs of consecutive frames are
kept as fit, spread over the scene; several ``--out`` files share the scenes and the size. The trainer takes
such a file where it takes a folder of scenes, and decodes all of it into memory.

A file is a zip archive with one ``NAME.npz`` a scene: ``source`` is a JPEG, ``pictures`` are the guides' and
then the targets' JPEGs end to end, of ``sizes`` bytes; ``grid`` has its two bytes apart, which compresses
better; ``window``, ``points`` and ``index`` as in a folder.
"""

from __future__ import annotations

import argparse
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import AssetError, ConfigError
from engine.train.animator_data import Scene, Scenes

__all__ = ["main", "pack", "unpack"]

Bytes = NDArray[np.uint8]

_QUALITY = 92
_MIB = 1 << 20
_ENTRY = 400
"""Bytes of the archive's own for an entry, generously."""


def pack(scenes: Scenes, files: Sequence[Path], mib: float, quality: int = _QUALITY) -> int:
    """Write ``scenes`` into ``files``, together at most ``mib`` MiB; the number of frames kept.

    Raises:
        ConfigError: not even one run of every scene fits.
    """
    room, kept = int(mib * _MIB / len(files)), 0
    for k, path in enumerate(files):
        mine = scenes.scenes[k :: len(files)]
        part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            left = room - _MIB // 64
            for n, scene in enumerate(mine):
                # What one scene does not need is there for those after it.
                data, frames = _fitted(scene, left // (len(mine) - n) - _ENTRY, quality)
                archive.writestr(f"{scene.name}.npz", data)
                left -= len(data) + _ENTRY
                kept += frames
        os.replace(part, path)
    return kept


def _runs(scene: Scene) -> list[NDArray[np.int64]]:
    """Rows of the scene in runs of consecutive frames, single ones left out."""
    index = np.asarray(scene.arrays["index"])
    runs = np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) != 1) + 1)
    return [run for run in runs if len(run) > 1]


def _fitted(scene: Scene, room: int, quality: int) -> tuple[bytes, int]:
    """The scene's archive entry in at most ``room`` bytes, and how many frames it holds."""
    runs = _runs(scene)
    if not runs:
        raise ConfigError(f"scene {scene.name} has no two consecutive frames")
    first, _ = _packed(scene, runs[:1], quality)
    count = max(1, min(len(runs), int(0.95 * room / len(first))))
    while True:
        chosen = [runs[k] for k in np.unique(np.linspace(0, len(runs) - 1, count).astype(int))]
        data, frames = _packed(scene, chosen, quality)
        if len(data) <= room:
            return data, frames
        if count == 1:
            raise ConfigError(
                f"a run of scene {scene.name} needs {len(data)} bytes, there is room for {room}: "
                "give more --mib or fewer scenes"
            )
        count = max(1, min(count - 1, int(count * room / len(data))))


def _packed(scene: Scene, runs: Sequence[NDArray[np.int64]], quality: int) -> tuple[bytes, int]:
    rows = np.concatenate(runs)
    arrays = scene.arrays
    pictures = [_jpeg(arrays[name][k], quality) for name in ("guide", "target") for k in rows]
    grid = np.ascontiguousarray(arrays["grid"][rows], np.float16)
    content: dict[str, NDArray[Any]] = {
        "source": _jpeg(scene.source, quality),
        "sizes": np.array([len(p) for p in pictures], np.int32),
        "pictures": np.concatenate(pictures),
        "grid": np.moveaxis(grid.view(np.uint8).reshape(*grid.shape, 2), -1, 0).copy(),
        "window": np.asarray(arrays["window"][rows], np.float16),
        "points": np.asarray(arrays["points"][rows], np.float16),
        "index": np.asarray(arrays["index"][rows], np.int32),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)  # type: ignore[arg-type]
    return buffer.getvalue(), len(rows)


def _jpeg(picture: Bytes, quality: int) -> Bytes:
    import cv2

    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return np.asarray(data, np.uint8).ravel()


def _picture(data: Bytes) -> Bytes:
    import cv2

    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("a picture cannot be decoded")
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


def unpack(path: Path) -> Iterator[Scene]:
    """The scenes of a packed file, decoded.

    Raises:
        AssetError: it is no such file, or damaged.
    """
    from engine.train.animator_data import group_of

    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                with np.load(io.BytesIO(archive.read(entry))) as content:
                    name = entry.removesuffix(".npz")
                    yield Scene(name, group_of(name), _picture(content["source"]), _unpacked(content))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise AssetError(f"{path} is no file of packed scenes, or damaged: {error}") from error


def _unpacked(content: Any) -> dict[str, NDArray[Any]]:
    ends = np.cumsum(content["sizes"])
    pieces = np.split(content["pictures"], ends[:-1])
    pictures = np.stack([_picture(piece) for piece in pieces])
    half = len(pictures) // 2
    grid = np.ascontiguousarray(np.moveaxis(content["grid"], 0, -1)).view(np.float16)[..., 0]
    arrays = {name: content[name] for name in ("window", "points", "index")}
    return {"guide": pictures[:half], "target": pictures[half:], "grid": grid, **arrays}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="visavis train pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=Path, nargs="+", required=True, help="folders of scenes")
    parser.add_argument("--out", type=Path, nargs="+", required=True, help="files to write")
    parser.add_argument(
        "--mib", type=float, default=60.0, help="of all files together (default: %(default)s)"
    )
    parser.add_argument("--quality", type=int, default=_QUALITY, help="of JPEG (default: %(default)s)")
    args = parser.parse_args(argv)
    scenes = Scenes(args.heads)
    frames = pack(scenes, args.out, args.mib, args.quality)
    for path in args.out:
        print(f"{path}: {path.stat().st_size / _MIB:.1f} MiB")
    print(f"{len(scenes.scenes)} scenes, {frames} frames")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
