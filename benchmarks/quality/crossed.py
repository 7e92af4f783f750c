"""Cross-reenactment sheets: a stranger's motion on given portraits, animators under one another.

    python -m benchmarks.quality.crossed --portraits DIR --driver TRACK.npz[=VIDEO] [...]
        --sheet out/crossed.png [--animator mesh ...] [--count 20] [--frames 6]

Portraits are every picture in ``DIR`` that shows one usable face, evenly thinned to ``--count``; the drivers'
tracks (``visavis track``) take turns. Where the driver's video is named too, its frames stand above. Motion
is taken as live driving takes it: counted from the driver's own rest, added to the portrait's
(:mod:`streaming.drivers`). There is no truth to measure against: the sheets are to be looked at for identity,
teeth, eyes and edges.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.reenacted import draw, make_animators
from benchmarks.quality.storyboard import grid, labelled, telling_rows, write_pages
from engine.errors import InputError, VisavisError
from engine.face.crop import crop_box, cut
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.face.video import read_video
from engine.stage import Animator
from streaming.drivers import ClipDriver

__all__ = ["Driver", "driven", "main", "open_portraits", "rows_of"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def open_portraits(folder: Path, count: int, prefix: str = "") -> list[tuple[str, Portrait]]:
    """At most ``count`` (name, portrait), evenly spread over the usable pictures whose name has ``prefix``.

    Raises:
        InputError: there is none.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.name.startswith(prefix))
    found: list[tuple[str, Portrait]] = []
    for spread in _spread(files, count):
        if len(found) == count:
            break
        try:
            found.append((spread.stem, analyse_portrait(load_image(spread))))
        except VisavisError as error:
            print(f"{spread.name} is left out: {error}", file=sys.stderr)
    if not found:
        raise InputError(f"no picture in {folder} shows a usable face")
    return sorted(found, key=lambda pair: pair[0])


def _spread(files: Sequence[Path], count: int) -> list[Path]:
    """All ``files``, ``count`` evenly spread ones first."""
    first = {round(float(k)) for k in np.linspace(0, max(0, len(files) - 1), min(count, len(files)))}
    return [files[k] for k in sorted(first)] + [f for k, f in enumerate(files) if k not in first]


@dataclass(frozen=True)
class Driver:
    """Somebody else's motion, as live driving plays it: float32 [T, 72]; ``video`` where it can be shown."""

    name: str
    motion: Floats
    track: Path
    video: Path | None

    def frames(self, shown: Sequence[int]) -> list[Bytes]:
        """Crops uint8 [512, 512, 3] of the video around the face of the first tracked frame."""
        if self.video is None:
            return []
        with np.load(self.track) as file:
            points, size = file["points"], file["size"]
        first = points[np.isfinite(points).all(axis=(1, 2))][0]
        box = crop_box(first, int(size[1]), int(size[0]))
        frames = islice(read_video(self.video), max(shown) + 1)
        return [cut(rgb, box) for n, (_, rgb) in enumerate(frames) if n in shown]


def driven(drivers: Sequence[str]) -> list[Driver]:
    """``TRACK.npz`` or ``TRACK.npz=VIDEO`` each.

    Raises:
        InputError: a file that cannot be read or shows no face.
    """
    found = []
    for text in drivers:
        track, _, video = text.partition("=")
        motion = ClipDriver.open(track).motion
        name = Path(track).name.removesuffix(".npz")
        found.append(Driver(name, motion, Path(track), Path(video) if video else None))
    return found


def rows_of(
    portrait: tuple[str, Portrait], driver: Driver, animators: Mapping[str, Animator], frames: int
) -> Bytes:
    """One portrait: the driver's frames if they are there, then a row per animator, the photo first and then
    ``frames`` telling frames."""
    name, photo = portrait
    shown = telling_rows(driver.motion, frames)
    first = labelled(photo.crop, name[-30:])
    rows = []
    real = driver.frames(shown)
    if real:
        tiles = [labelled(frame, f"driver {n}") for frame, n in zip(real, shown, strict=True)]
        rows.append([np.zeros_like(first), *tiles])
    for title, animator in animators.items():
        made = draw(animator, animator.prepare(photo), driver.motion, shown)
        rows.append([first, *(labelled(frame, f"{title} {n}") for frame, n in zip(made, shown, strict=True))])
    return grid(rows)


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 where there is nothing to show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--prefix", default="", help="only pictures whose name starts so, as photo_")
    parser.add_argument("--driver", nargs="+", required=True, help="TRACK.npz or TRACK.npz=VIDEO")
    parser.add_argument("--animator", nargs="+", help="names, NAME=MODULE:MAKER; default: all")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--sheet", type=Path, required=True)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        animators = make_animators(args.animator)
        drivers = driven(args.driver)
        portraits = open_portraits(args.portraits, args.count, args.prefix)
        strips = [
            rows_of(portrait, drivers[k % len(drivers)], animators, args.frames)
            for k, portrait in enumerate(portraits)
        ]
    except VisavisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for page in write_pages(args.sheet, strips, max(1, 8 // len(animators))):
        print(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
