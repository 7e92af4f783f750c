"""Writes synthetic people for training: frames with motion, landmarks, labels and flow.

    visavis train synth --out DIR --people 400 --frames 8 --size 256 --seed 0
    visavis train synth --sheet people.png

Each person is one look in K frames, the first one near neutral. A set that was cut off is continued by the
same command. Equal seeds give equal people, whatever was written before. With ``--tracks`` (npz files with
``motion``, named FOLDER__CLIP.npz) half of the people move as clips that ``--data``/MANIFEST.csv releases for
training.

Fields of a shard, N rows, S px: ``frames`` uint8 [N, S, S, 3]; ``person`` int32 [N]; ``frame`` int32 [N], 0
for the person's first; ``motion`` and ``absolute`` float32 [N, 72]; ``camera`` float32 [N, 6]; ``landmarks``
float32 [N, 478, 2] px; ``labels`` uint8 [N, S, S]; ``flow`` float16 [N, S/4, S/4, 2] and ``flow_valid``
uint8 [N, S/4, S/4]; ``identity`` float32 [N, 80]. What they mean is told in
:class:`engine.synth.people.person.Person`.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import InputError
from engine.synth.people.model import LABELS
from engine.synth.people.person import Person, Studio
from engine.synth.shards import ShardWriter
from engine.train.provenance import commit
from engine.types import MOTION

__all__ = ["main", "read_tracks", "sheet"]

Float = NDArray[np.float32]
_SHARD_ROWS = 512
_SHEET = 8


def read_tracks(folder: Path, data: Path) -> list[Float]:
    """Motion [T, 72] of every tracked clip that the manifest lets us train on, unseen frames left out.

    Raises:
        InputError: no manifest, or no such clip.
    """
    manifest = data / "MANIFEST.csv"
    if not manifest.is_file():
        raise InputError(f"{manifest} is missing: name the data folder with --data")
    found = []
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            path = folder / (row["path"].replace("/", "__") + ".npz")
            if row["split"] == "train" and row["use"] == "train" and path.is_file():
                with np.load(path) as npz:
                    motion = npz["motion"].astype(np.float32)
                motion = motion[np.isfinite(motion).all(1)]
                if motion.ndim == 2 and motion.shape[1] == MOTION.size and len(motion) > 8:
                    found.append(motion)
    if not found:
        raise InputError(f"{folder} has no tracks of clips with split=train, use=train in {manifest}")
    return found


def _row_arrays(person: Person, index: int) -> dict[str, NDArray[np.generic]]:
    count = len(person.frames)
    return {
        "frames": person.frames,
        "person": np.full(count, index, np.int32),
        "frame": np.arange(count, dtype=np.int32),
        "motion": person.motion,
        "absolute": person.absolute,
        "camera": person.camera,
        "landmarks": person.landmarks,
        "labels": person.labels,
        "flow": person.flow,
        "flow_valid": person.flow_valid,
        "identity": np.tile(person.look.identity, (count, 1)),
    }


def sheet(studio: Studio, seed: int, frames: int = 1) -> NDArray[np.uint8]:
    """First frames of 64 people; with ``frames`` > 1 as many frames of 64 / ``frames`` people, in rows."""
    people = _SHEET * _SHEET // frames
    cells = np.concatenate([studio.person(seed, k, frames).frames for k in range(people)])
    s = studio.size
    grid = cells.reshape(_SHEET, _SHEET, s, s, 3).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(_SHEET * s, _SHEET * s, 3))


def _write(studio: Studio, args: argparse.Namespace) -> None:
    meta = {
        "seed": args.seed, "frames": args.frames, "size": args.size, "tracks": bool(args.tracks),
        "labels": list(LABELS), "commit": commit(),
    }  # fmt: skip
    writer = ShardWriter(args.out, _SHARD_ROWS // args.frames * args.frames, meta)
    first = writer.written // args.frames
    start = time.perf_counter()
    for index in range(first, args.people):
        person = studio.person(args.seed, index, args.frames)
        writer.add(_row_arrays(person, index))
        if (index + 1) % 50 == 0:
            rate = (index + 1 - first) * args.frames / (time.perf_counter() - start)
            print(f"{index + 1} people, {rate:.1f} frames/s", flush=True)
    writer.close()


def main(argv: list[str] | None = None) -> int:
    """Write people as shards, or draw a sheet of 64."""
    parser = argparse.ArgumentParser(prog="visavis train synth", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder of the set; continued if it exists")
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--frames", type=int, default=8, help="frames a person")
    parser.add_argument("--size", type=int, default=256, help="px, a multiple of 8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tracks", type=Path, help="folder of tracked clips (npz) whose motion is borrowed")
    parser.add_argument("--data", type=Path, help="data folder with MANIFEST.csv, needed with --tracks")
    parser.add_argument("--sheet", type=Path, help="draw 64 people into this picture")
    parser.add_argument(
        "--sheet-frames", type=int, default=1, help="1: 64 people; 8: 8 people in 8 frames each"
    )
    args = parser.parse_args(argv)
    if args.out is None and args.sheet is None:
        parser.error("name --out or --sheet")
    if args.tracks and args.data is None:
        parser.error("--tracks needs --data: the manifest says which clips may be used")
    tracks = read_tracks(args.tracks, args.data) if args.tracks else None
    studio = Studio(args.size, tracks)
    if args.sheet is not None:
        Image.fromarray(sheet(studio, args.seed, args.sheet_frames)).save(args.sheet)
    if args.out is not None:
        _write(studio, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
