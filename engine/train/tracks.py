"""Track every talking clip of a data folder once, so that training and measuring never do it again.

    python -m engine.train.tracks --data DIR --out CACHE

Reads all videos under DIR/talking (any depth) and writes one file per clip, CACHE/NAME.npz, where
NAME is the clip's path relative to DIR/talking with ``/`` replaced by ``__`` and its suffix kept:
``grid_s1/srwc1a.mp4`` becomes ``grid_s1__srwc1a.mp4.npz``. Arrays in each file:

=========  =====================  ==============================================================
points     float32 [T, 478, 2]    landmarks, px of the clip (MediaPipe's numbering); NaN before
                                  the first face, the last ones where there is none
score      float32 [T]            0..1 face presence, 0 where no face was found
valid      bool [T]               a face was found in this very frame
opening    float32 [T]            :func:`engine.face.landmarks.mouth_opening` (NaN as in points)
audio      int16 [640 T]          16 kHz mono, sample 640 n is where frame n starts
fps        float64 []             25
size       int32 [2]              height, width of the clip, px
=========  =====================  ==============================================================

Clips whose face is seen in under 80 % of the frames are written all the same and listed at the end.
The work is resumable: clips that are already there are skipped, files appear whole or not at all.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import InputError
from engine.face.landmarks import mouth_opening
from engine.face.video import read_audio, track_video
from engine.types import samples_per_frame

__all__ = ["clip_name", "find_clips", "main", "track_clip"]

SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg"}
ENOUGH_VALID = 0.8


def find_clips(data: Path) -> list[Path]:
    """Every video under ``data``/talking, in order of name."""
    return sorted(p for p in (data / "talking").rglob("*") if p.suffix.lower() in SUFFIXES)


def clip_name(data: Path, clip: Path) -> str:
    """The cache file of ``clip``: ``grid/a.mp4`` → ``grid__a.mp4.npz``."""
    return clip.relative_to(data / "talking").as_posix().replace("/", "__") + ".npz"


def track_clip(clip: Path, target: Path) -> float:
    """Track ``clip``, write ``target`` atomically, return the share of frames with a face.

    Raises :class:`~engine.errors.InputError` if there is no picture or no sound to be had.
    """
    track = track_video(clip)
    audio = _fit(read_audio(clip), int(len(track) * samples_per_frame()))
    part = target.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(
            stream,
            points=track.points,
            score=track.score,
            valid=track.valid,
            opening=mouth_opening(track.points),
            audio=np.round(audio * 32767).astype(np.int16),
            fps=np.float64(track.fps),
            size=np.array(track.size, np.int32),
        )
    os.replace(part, target)
    return float(track.valid.mean())


def _fit(audio: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Cut or pad with silence to ``length`` samples."""
    return np.pad(audio[:length], (0, max(0, length - len(audio))))


def main() -> int:
    """Command line; exit status 1 if no clip was found."""
    parser = argparse.ArgumentParser(description="Track the face in every talking clip of a data folder.")
    parser.add_argument("--data", type=Path, required=True, help="folder that has talking/")
    parser.add_argument("--out", type=Path, required=True, help="where the .npz files go")
    args = parser.parse_args()
    clips = find_clips(args.data)
    if not clips:
        print(f"no video under {args.data / 'talking'}")
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    refused: list[str] = []
    for clip in tqdm(clips, unit="clip"):
        target = args.out / clip_name(args.data, clip)
        if target.exists():
            continue
        try:
            share = track_clip(clip, target)
        except InputError as error:
            refused.append(f"{clip.name}: {error}")
            continue
        if share < ENOUGH_VALID:
            refused.append(f"{clip.name}: a face in only {100 * share:.0f} % of the frames")
    print(f"{len(clips) - len(refused)} of {len(clips)} clips are sound; refused: {len(refused)}")
    print("\n".join(refused))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
