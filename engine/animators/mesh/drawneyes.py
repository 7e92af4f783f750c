"""Drawn eyes: larger than any face model's, with the landmarks somewhere inside.

In drawings the white and the iris often reach well below the lower-lid landmarks, so a lid that
stops there leaves half an open eye. Where that is so, the whole eye is marked, to be painted over
with skin while it closes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["drawn_eyes"]

Float = NDArray[np.float32]

_SKIN_DISTANCE = (60.0, 120.0)
"""Colours further than this (RGB, 0..255) from the cheek below the eye are not skin: for certain,
and for certain even in deep shadow."""
_LEAST_REACH, _SHARPNESS = 0.13, 0.06
"""In eye widths: how far an eye must reach below its lower-lid landmarks to count as drawn, and over
how little it must turn into skin (shadows under real eyes fade slowly)."""


def drawn_eyes(crop: NDArray[np.uint8], eyes: tuple[Float, Float]) -> tuple[tuple[Float, Float], ...] | None:
    """Masks of both eyes if they are drawn larger than their landmarks, and the skin below them.

    ``crop`` uint8 [H, W, 3]; ``eyes`` the lids float32 [2, 9, 2] of the right and the left eye: upper and
    lower, corner to corner, px. Returns for each eye (mask float32 [H, W] 0..1, colour float32 [3]),
    or None for ordinary eyes.
    """
    found = [_look(crop, lids) for lids in eyes]
    if any(far < _LEAST_REACH or wide - far > _SHARPNESS for _, wide, far in found):
        return None
    masks = []
    for lids, (below, wide, _) in zip(eyes, found, strict=True):
        other = _distance(crop, below) > _SKIN_DISTANCE[0]
        masks.append((_blob(other, lids, wide * _width(lids)), below))
    return tuple(masks)


def _look(crop: NDArray[np.uint8], lids: Float) -> tuple[Float, float, float]:
    """Cheek colour below an eye, and how far the eye reaches below its lid by both distances."""
    width = _width(lids)
    below = _patch(crop, lids[1, 3:6].mean(0) + np.array([0.0, 0.65 * width]), 0.12 * width)
    distance = _distance(crop, below)
    reach = [
        float(np.median([_run_down(distance > limit, point, 0.5 * width) for point in lids[1, 3:6]])) / width
        for limit in _SKIN_DISTANCE
    ]
    return below, reach[0], reach[1]


def _width(lids: Float) -> float:
    return max(float(np.linalg.norm(lids[0, 0] - lids[0, -1])), 1.0)


def _distance(crop: NDArray[np.uint8], colour: Float) -> Float:
    return np.asarray(np.linalg.norm(crop.astype(np.float32) - colour, axis=2), np.float32)


def _patch(crop: NDArray[np.uint8], centre: Float, radius: float) -> Float:
    """Median colour [3] of a square patch."""
    x, y = np.clip(centre.round().astype(int), 0, crop.shape[0] - 1)
    r = max(int(radius), 1)
    part = crop[max(y - r, 0) : y + r + 1, max(x - r, 0) : x + r + 1].reshape(-1, 3)
    return np.asarray(np.median(part, axis=0), np.float32)


def _run_down(other: NDArray[np.bool_], start: Float, limit: float) -> int:
    """How far down from ``start`` the picture stays other than skin, px."""
    x, y = start.round().astype(int)
    column = other[max(y, 0) : y + int(limit), min(max(x, 0), other.shape[1] - 1)]
    skin = np.nonzero(~column)[0]
    return int(skin[0]) if len(skin) else len(column)


def _blob(other: NDArray[np.bool_], lids: Float, reach: float) -> Float:
    """The connected part of ``other`` around the eye, softened: float32 [H, W]."""
    width = _width(lids)
    rows, columns = np.mgrid[0 : other.shape[0], 0 : other.shape[1]]
    centre = lids.reshape(-1, 2).mean(0) + np.array([0.0, 0.5 * reach])
    height = 0.5 * float(np.ptp(lids[..., 1])) + reach + 0.12 * width
    near = ((columns - centre[0]) / (0.8 * width)) ** 2 + ((rows - centre[1]) / height) ** 2 < 1.0
    order = np.argsort(lids[0, :, 0])
    top = np.interp(columns[0], lids[0, order, 0], lids[0, order, 1]) - 0.16 * width
    mask = (other & near & (rows > top[None])).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    cv2.fillPoly(mask, [np.concatenate([lids[0], lids[1, ::-1]]).round().astype(np.int32)], [1])
    _, labels = cv2.connectedComponents(mask)
    middle = lids[:, 4].mean(0).round().astype(int)
    blob = (labels == labels[middle[1], middle[0]]).astype(np.uint8)
    grown = cv2.dilate(blob, np.ones((9, 9), np.uint8)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(grown, (0, 0), 1.5), np.float32)
