"""Finding faces: BlazeFace in two ranges, over a set of views of the picture.

Method: BlazeFace (Bazarevsky et al. 2019, arXiv:1907.05047). The short-range network (128 px)
knows faces that fill its input, the full-range one (192 px) smaller ones. Each finds faces in a
band of sizes only, so a photo is looked at as a whole, with a margin (faces that fill the frame to
its edges) and in overlapping tiles (small faces).

Coordinates are pixels of the given picture, as in :mod:`engine.face.roi`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from engine.face.models import compile_model
from engine.face.roi import Bytes, Floats, Roi, sample_roi

__all__ = ["Detection", "FaceDetector"]

WORKING_SIDE = 1280
"""Larger pictures are searched at this size: a face under 1/50 of the picture is no portrait."""

SMALLEST_TILE = 64
"""Sides of tiles below this (px) show no face worth animating."""

SAME_FACE_IOU = 0.3
SAME_FACE_INSIDE = 0.6


@dataclass(frozen=True)
class Detection:
    """One face found: where, how sure, and six keypoints."""

    box: Floats
    """float32 [4]: x0, y0, x1, y1 in px (brows to chin, about square)"""
    score: float
    """0..1"""
    keypoints: Floats
    """float32 [6, 2] px: right eye, left eye, nose tip, mouth, right ear, left ear (the subject's)"""

    @property
    def size(self) -> float:
        """Side of the square of equal area, px."""
        return float(np.sqrt(np.prod(np.maximum(self.box[2:] - self.box[:2], 0))))


@dataclass(frozen=True)
class _Network:
    """One BlazeFace network: its input side in px, its anchor grids as (stride, anchors per cell)."""

    name: str
    side: int
    grids: tuple[tuple[int, int], ...]

    def anchors(self) -> Floats:
        """Anchor centres in px of the network's input, float32 [A, 2]; all anchors have unit size."""
        parts = []
        for stride, count in self.grids:
            axis = (np.arange(self.side // stride, dtype=np.float32) + 0.5) * stride
            grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
            parts.append(np.repeat(grid, count, axis=0))
        return np.concatenate(parts)


SHORT = _Network("face_detection_short_range", 128, ((8, 2), (16, 6)))
FULL = _Network("face_detection_full_range_sparse", 192, ((4, 1),))


class _Runner:
    """Runs one network on square views of a picture and decodes what it says."""

    def __init__(self, network: _Network) -> None:
        self._side = network.side
        self._anchors = network.anchors()
        self._request: Any = compile_model(network.name).create_infer_request()

    def __call__(self, rgb: Bytes, view: Roi, low: float) -> Floats:
        """Candidates above ``low`` in ``view``: float32 [K, 17] = score, box 4, keypoints 12."""
        crop = sample_roi(rgb, view, self._side)
        tensor = crop.astype(np.float32)[None] * np.float32(1 / 127.5) - np.float32(1)
        self._request.infer({0: tensor})
        logits = self._request.get_output_tensor(1).data[0, :, 0]
        keep = np.flatnonzero(logits > np.log(low / (1 - low)))
        score = 1 / (1 + np.exp(-logits[keep]))
        raw, anchors = self._request.get_output_tensor(0).data[0, keep], self._anchors[keep]
        # SSD regression with unit anchors: offsets and sizes in px of the input, pixel edges at 0.
        matrix = view.to_image(self._side)
        centre = (raw[:, 0:2] + anchors - 0.5) @ matrix[:, :2].T + matrix[:, 2]
        half = raw[:, 2:4] * (0.5 * view.size / self._side)
        points = (raw[:, 4:16].reshape(-1, 6, 2) + anchors[:, None] - 0.5) @ matrix[:, :2].T + matrix[:, 2]
        columns = (score[:, None], centre - half, centre + half, points.reshape(-1, 12))
        return np.concatenate(columns, axis=1).astype(np.float32)


class FaceDetector:
    """Finds the faces of a picture.

    >>> FaceDetector().detect(rgb)[0].box     # the largest face
    """

    def __init__(self) -> None:
        self._short = _Runner(SHORT)
        self._full = _Runner(FULL)

    def detect(self, rgb: Bytes, low: float = 0.5, thorough: bool | None = None) -> list[Detection]:
        """Faces in ``rgb`` (uint8 [H, W, 3]) with a score above ``low``, the largest first.

        ``thorough`` True looks at every view (about 150 ms), False at the picture as a whole (about
        4 ms, three times that if it is long), None at every view only if the whole shows nothing.
        Small patches of anything look a little like a face: what ``thorough`` finds needs a judge
        (:func:`engine.face.landmarks.find_faces`).
        """
        scale = max(1.0, max(rgb.shape[:2]) / WORKING_SIDE)
        if scale > 1:
            size = (max(1, round(rgb.shape[1] / scale)), max(1, round(rgb.shape[0] / scale)))
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        rows = self._look(rgb, low, bool(thorough))
        if thorough is None and len(rows) == 0:
            rows = self._look(rgb, low, True)
        rows[:, 1:] = (rows[:, 1:] + 0.5) * scale - 0.5
        return sorted(map(_detection, rows), key=lambda face: face.size, reverse=True)

    def look_again(self, rgb: Bytes, view: Roi) -> Detection | None:
        """The surest face in a square ``view``, in which it should be upright and about half as large."""
        rows = np.concatenate([_merge_in_view(run(rgb, view, 0.1)) for run in (self._short, self._full)])
        return _detection(rows[np.argmax(rows[:, 0])]) if len(rows) else None

    def _look(self, rgb: Bytes, low: float, thorough: bool) -> Floats:
        """Sightings in all views, repeats dropped: float32 [K, 17]."""
        height, width = rgb.shape[:2]
        found = [
            _merge_in_view(run(rgb, view, low))
            for view in _views(height, width, thorough)
            for run in (self._short, self._full)
        ]
        return _drop_repeats(np.concatenate(found))


def _detection(row: Floats) -> Detection:
    return Detection(row[1:5], float(row[0]), row[5:].reshape(6, 2))


def _views(height: int, width: int, thorough: bool) -> Iterator[Roi]:
    """Square views: all of the picture; if it is long, also along it; if thorough, margin and tiles."""
    whole, short = float(max(height, width)), float(min(height, width))
    x, y = (width - 1) / 2, (height - 1) / 2
    yield Roi(x, y, whole)
    sides = [short] if whole > 1.5 * short and short >= SMALLEST_TILE else []
    if thorough:
        yield Roi(x, y, 1.6 * whole)
        sides = [side for side in (short, short / 2, short / 3.5) if whole != side >= SMALLEST_TILE]
    for side in sides:
        for top in _starts(height, side):
            for left in _starts(width, side):
                yield Roi(left + side / 2 - 0.5, top + side / 2 - 0.5, side)


def _starts(length: int, side: float) -> list[float]:
    """Starts of windows of ``side`` that cover ``length`` and overlap by at least 40 %."""
    count = int(np.ceil((length - side) / (0.6 * side))) + 1
    return [float(s) for s in np.linspace(0, length - side, count)]


def _overlap(row: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """IoU, and the share of the smaller box that lies in the other, of ``row`` with each of ``rows``."""
    low = np.maximum(row[1:3], rows[:, 1:3])
    high = np.minimum(row[3:5], rows[:, 3:5])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    area = np.prod(rows[:, 3:5] - rows[:, 1:3], axis=1)
    own = np.prod(row[3:5] - row[1:3])
    return common / (area + own - common + 1e-9), common / (np.minimum(area, own) + 1e-9)


def _merge_in_view(rows: Floats) -> Floats:
    """Blend the candidates that agree, weighted by score (BlazeFace §4.3: less jitter than suppression)."""
    rows = rows[np.argsort(-rows[:, 0])]
    merged = []
    while len(rows):
        same = _overlap(rows[0], rows)[0] > SAME_FACE_IOU
        same[0] = True
        blend = np.average(rows[same], axis=0, weights=rows[same, 0])
        blend[0] = rows[0, 0]
        merged.append(blend)
        rows = rows[~same]
    return np.array(merged, np.float32).reshape(-1, 17)


def _drop_repeats(rows: Floats) -> Floats:
    """Keep the surest of the sightings of one face; tiles also see parts of faces as small ones."""
    rows = rows[np.argsort(-rows[:, 0])]
    kept = []
    while len(rows):
        kept.append(rows[0])
        iou, inside = _overlap(rows[0], rows)
        same = (iou > SAME_FACE_IOU) | (inside > SAME_FACE_INSIDE)
        same[0] = True
        rows = rows[~same]
    return np.array(kept, np.float32).reshape(-1, 17)
