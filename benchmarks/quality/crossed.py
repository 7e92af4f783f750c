"""Cross-reenactment sheets: a stranger's motion on given portraits, animators under one another.

    python -m benchmarks.quality.crossed --portraits DIR --driver TRACK.npz [...] --sheet out/crossed.png
        [--animator mesh ...] [--count 20] [--frames 6]

Portraits are every picture in ``DIR`` that shows one usable face, evenly thinned to ``--count``; the drivers'
tracks (``visavis track``) take turns. Motion is taken as live driving takes it: counted from the driver's own
rest, added to the portrait's (:mod:`streaming.drivers`). There is no truth to measure against: the sheets
are to be looked at for identity, teeth, eyes and edges.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.reenacted import animator_makers, draw
from benchmarks.quality.storyboard import grid, labelled, telling_rows, write_pages
from engine.errors import InputError, VisavisError
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.stage import Animator
from engine.types import PixelFormat
from streaming.drivers import ClipDriver

__all__ = ["driven", "main", "open_portraits", "rows_of"]

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


def driven(tracks: Sequence[Path]) -> list[tuple[str, Floats]]:
    """(name, motion float32 [T, 72]) of each driver, as live driving plays it.

    Raises:
        InputError: a file that cannot be read or shows no face.
    """
    return [(path.name.removesuffix(".npz"), ClipDriver.open(path).motion) for path in tracks]


def rows_of(
    portrait: tuple[str, Portrait], driver: tuple[str, Floats], animators: Mapping[str, Animator], frames: int
) -> Bytes:
    """One portrait: a row per animator, the photo first, then ``frames`` telling frames of the driver."""
    name, photo = portrait
    shown = telling_rows(driver[1], frames)
    rows = []
    for title, animator in animators.items():
        made = draw(animator, animator.prepare(photo), driver[1], shown)
        tiles = [labelled(frame, f"{title} {n}") for frame, n in zip(made, shown, strict=True)]
        rows.append([labelled(photo.crop, name[-30:]), *tiles])
    return grid(rows)


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 where there is nothing to show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--prefix", default="", help="only pictures whose name starts so, as photo_")
    parser.add_argument("--driver", type=Path, nargs="+", required=True, help="tracks of driving clips")
    parser.add_argument("--animator", nargs="+", help="default: all there are")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--sheet", type=Path, required=True)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    makers = animator_makers()
    try:
        unknown = [name for name in args.animator or () if name not in makers]
        if unknown:
            raise InputError(f"no animator {', '.join(unknown)}; there are {', '.join(makers)}")
        animators = {name: makers[name](PixelFormat.RGB) for name in args.animator or makers}
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
