"""Sheets to be looked at: a clip's portrait, then telling frames, real and generated beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.reenacted import Scene
from engine.types import MOTION

__all__ = ["grid", "labelled", "strip", "telling_rows", "write_pages"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

TILE = 224
PER_PAGE = 5
_APART = 5


def telling_rows(motion: Floats, count: int = 4) -> list[int]:
    """At most ``count`` rows of ``motion`` [T, 72], in order of time, that show most: in turns the mouth
    widest open, head furthest off, lids most shut, gaze furthest off, broadest smile; 5 rows apart if
    there are such."""
    value = motion.astype(float)
    lids = value[:, [MOTION.index("eyeBlinkLeft"), MOTION.index("eyeBlinkRight")]].mean(axis=1)
    curves = (
        value[:, MOTION.index("jawOpen")],
        np.linalg.norm(value[:, MOTION.rotation], axis=1),
        lids,
        np.linalg.norm(value[:, MOTION.gaze], axis=1) - 2.0 * lids,
        value[:, MOTION.index("mouthSmileLeft")] + value[:, MOTION.index("mouthSmileRight")],
    )
    orders = [np.argsort(-curve, kind="stable").tolist() for curve in curves]
    taken: list[int] = []
    for turn in range(min(count, len(motion))):
        free = [k for k in orders[turn % len(orders)] if k not in taken]
        apart = (k for k in free if all(abs(k - other) >= _APART for other in taken))
        taken.append(next(apart, free[0]))
    return sorted(taken)


def labelled(picture: Bytes, text: str, side: int = TILE) -> Bytes:
    """``picture`` at ``side`` px with ``text`` in its corner."""
    tile = np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    tile[side - high - 8 :, : wide + 8] //= 3
    cv2.putText(tile, text, (4, side - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return tile


def grid(rows: Sequence[Sequence[Bytes]]) -> Bytes:
    """Tiles [H, W, 3] of one size as one picture; short rows are filled with black."""
    longest = max(len(row) for row in rows)
    blank = np.zeros_like(rows[0][0])
    lines = [np.concatenate([*row, *[blank] * (longest - len(row))], axis=1) for row in rows]
    return np.concatenate(lines, axis=0)


def strip(scene: Scene, made: Mapping[str, list[Bytes]]) -> Bytes:
    """One clip: a row of real frames under its name, then a row per animator, the portrait first."""
    chosen = telling_rows(scene.source.motion[scene.shown])
    portrait = scene.source.portrait.crop
    rows = [[labelled(portrait, scene.name[-30:])] + [labelled(scene.frames[k], "real") for k in chosen]]
    for name, frames in made.items():
        rows.append([labelled(portrait, "portrait"), *(labelled(frames[k], name) for k in chosen)])
    return grid(rows)


def write_pages(path: Path, strips: Sequence[Bytes], per_page: int = PER_PAGE) -> list[Path]:
    """Strips under one another, ``per_page`` to a PNG: ``path``, or ``path`` with _1, _2, ... where there are
    several; returns the files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pages = [strips[k : k + per_page] for k in range(0, len(strips), per_page)]
    written = []
    for number, page in enumerate(pages, 1):
        target = path if len(pages) == 1 else path.with_stem(f"{path.stem}_{number}")
        wide = max(s.shape[1] for s in page)
        padded = [np.pad(s, ((0, 0), (0, wide - s.shape[1]), (0, 0))) for s in page]
        cv2.imwrite(str(target), cv2.cvtColor(np.concatenate(padded, axis=0), cv2.COLOR_RGB2BGR))
        written.append(target)
    return written
