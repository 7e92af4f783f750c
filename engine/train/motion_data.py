"""Tracked talking clips as training and measuring data: audio, mouth shape, each clip's own A/V offset.

Reads what ``python -m engine.train.tracks`` wrote, the data folder's ``MANIFEST.csv`` (who may be
trained on) and ``talking/offsets.csv`` (how late each clip's mouth is). Frame n of everything here
belongs to samples 640 n .. 640 (n + 1) of the audio, the clip's offset already taken out.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.face.landmarks import mouth_opening

__all__ = [
    "Clip",
    "Item",
    "best_correlation",
    "clip_items",
    "load_clip",
    "log_mel",
    "mouth_shape",
    "read_offsets",
    "speaker_of",
    "window_features",
]

Floats = NDArray[np.float32]

FRAME_MS = 40.0
_MELS = 40
_HOP = 320  # 20 ms: two columns a frame


@dataclass(frozen=True)
class Item:
    """One line of the manifest that is a talking clip; ``name`` is relative to ``talking/``."""

    name: str
    split: str
    use: str
    offset_ms: float
    origin: str = ""
    licence: str = ""

    @property
    def trains(self) -> bool:
        """May shipped weights be trained on it?"""
        return self.split == "train" and self.use == "train"


@dataclass(frozen=True)
class Clip:
    """One person talking: T frames at 25 fps.

    ``audio`` float32 [640 T] at 16 kHz; ``opening`` float32 [T] in inter-ocular distances;
    ``shape`` float32 [T, 5] (:func:`mouth_shape`); ``good`` bool [T] where the face was seen.
    """

    item: Item
    audio: Floats
    opening: Floats
    shape: Floats
    good: NDArray[np.bool_]


def speaker_of(name: str) -> str:
    """Who talks in a clip, as far as names tell: clips of one person must not count twice."""
    lower = name.lower()
    for person in ("obama", "reagan"):
        if person in lower:
            return person
    if name.startswith(("grid_s1/", "grid/")):
        return "grid_" + ("s1" if name.startswith("grid_s1/") else name.split("/")[1].split("_")[0])
    if name.startswith("elospheres"):
        return "_".join(name.split("_")[:2])
    return name.rsplit(".", 1)[0]


def read_offsets(path: Path) -> dict[str, float]:
    """``mouth_minus_audio_ms`` by clip; a key that ends in ``*`` stands for a whole folder."""
    with path.open(newline="") as file:
        return {row["clip"]: float(row["mouth_minus_audio_ms"]) for row in csv.DictReader(file)}


def clip_items(data: Path) -> list[Item]:
    """Every talking clip of ``data``/MANIFEST.csv with its split and offset, in order of name.

    Raises:
        InputError: no manifest or offsets there.
    """
    manifest, offsets_file = data / "MANIFEST.csv", data / "talking" / "offsets.csv"
    if not manifest.is_file() or not offsets_file.is_file():
        raise InputError(
            f"{data} has no MANIFEST.csv or talking/offsets.csv; name the data folder with --data"
        )
    offsets = read_offsets(offsets_file)
    items = []
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            if not row["path"].startswith("talking/"):
                continue
            name = row["path"].removeprefix("talking/")
            if not name.lower().endswith((".mp4", ".mov", ".avi")):
                continue
            folder = name.split("/")[0] + "/*"
            offset = offsets.get(name, offsets.get(folder, 0.0))
            items.append(Item(name, row["split"], row["use"], offset, row["origin"], row["licence"]))
    return sorted(items, key=lambda item: item.name)


def load_clip(item: Item, tracks: Path) -> Clip | None:
    """The tracked clip, its mouth moved to where the audio says; None if it was not tracked."""
    path = tracks / (item.name.replace("/", "__") + ".npz")
    if not path.is_file():
        return None
    with np.load(path) as file:
        points, valid, audio = file["points"], file["valid"], file["audio"]
    shape = np.concatenate([mouth_opening(points)[:, None], mouth_shape(points)], axis=1)
    seen = valid & np.isfinite(shape).all(axis=1)
    if seen.sum() < 10:
        return None
    at = np.arange(len(shape)) + item.offset_ms / FRAME_MS
    known = np.flatnonzero(seen)
    moved = np.stack([np.interp(at, known, shape[known, k]) for k in range(shape.shape[1])], axis=1)
    good = np.interp(at, np.arange(len(seen)), seen.astype(np.float64), left=0.0, right=0.0) > 0.99
    return Clip(
        item=item,
        audio=audio.astype(np.float32) / 32768.0,
        opening=moved[:, 0].astype(np.float32),
        shape=moved[:, 1:].astype(np.float32),
        good=good,
    )


# MediaPipe indices: mouth corners; outer lips top and bottom; nose base; chin; rigid upper face.
_CORNERS = (61, 291)
_INNER = (13, 14)
_OUTER = (0, 17)
_NOSE, _CHIN = 2, 152


def mouth_shape(points: Floats) -> Floats:
    """Width, jaw, upper lip, lower lip and lip height: float32 [T, 5], in inter-ocular distances.

    ``points`` [T, 478, 2] px. Each frame is first brought upright by the line of its outer eye
    corners; lengths down the face are divided by the length of the nose bridge to base (a nod
    shortens both alike), lengths across by the distance of the outer eye corners.
    """
    right, left = points[:, 33], points[:, 263]
    across = left - right
    iod = np.linalg.norm(across, axis=-1)
    ex = across / np.maximum(iod, 1e-6)[:, None]
    ey = np.stack([-ex[:, 1], ex[:, 0]], axis=-1)

    def down(a: int, b: int) -> Floats:
        return np.asarray(((points[:, b] - points[:, a]) * ey).sum(-1))

    nose = np.maximum(down(168, _NOSE), 1e-6) / 0.62  # bridge to base is about 0.62 of the eyes' distance
    width = np.linalg.norm(points[:, _CORNERS[1]] - points[:, _CORNERS[0]], axis=-1) / np.maximum(iod, 1e-6)
    rows = [
        width,
        down(_NOSE, _CHIN) / nose,
        down(_NOSE, _INNER[0]) / nose,
        down(_NOSE, _INNER[1]) / nose,
        down(_OUTER[0], _OUTER[1]) / nose,
    ]
    return np.stack(rows, axis=1).astype(np.float32)


def log_mel(audio: Floats) -> Floats:
    """Plain log-mel of a whole clip, float32 [2 T, 40]: 25 ms windows every 20 ms, for baselines."""
    frame = 400
    padded = np.pad(audio, (frame // 2 - _HOP // 2, frame))
    count = len(audio) // _HOP
    window = np.hanning(frame).astype(np.float32)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, frame)[::_HOP][:count] * window
    power = np.abs(np.fft.rfft(pieces, 512)) ** 2
    return np.asarray(np.log(power @ _mel_bank().T + 1e-7), np.float32)


def _mel_bank() -> Floats:
    """Triangular filters [40, 257] evenly spaced in mel between 60 and 7600 Hz."""
    mel = np.linspace(2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 7600 / 700), _MELS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hz = np.arange(257) * 16_000 / 512
    rise = (hz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hz) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(np.minimum(rise, fall), 0.0).astype(np.float32)


def window_features(columns: Floats, per_frame: int, before: int, after: int) -> Floats:
    """Stack each frame's surroundings: [T * per_frame, F] to [T, (before + after) * F].

    ``before`` and ``after`` count columns around the start of the frame; edges repeat.
    """
    frames = len(columns) // per_frame
    padded = np.pad(columns, ((before, after), (0, 0)), mode="edge")
    at = np.arange(frames)[:, None] * per_frame + np.arange(before + after)[None]
    return np.asarray(padded[at].reshape(frames, -1))


def best_correlation(made: Floats, real: Floats, most: int = 2) -> float:
    """Highest Pearson correlation of two curves [T] within ±``most`` frames; NaN frames are left out."""
    best = -1.0
    length = min(len(made), len(real))
    for lag in range(-most, most + 1):
        a = made[max(0, lag) : length + min(0, lag)]
        b = real[max(0, -lag) : length - max(0, lag)]
        both = np.isfinite(a) & np.isfinite(b)
        if both.sum() > 2 and a[both].std() > 1e-9 and b[both].std() > 1e-9:
            best = max(best, float(np.corrcoef(a[both], b[both])[0, 1]))
    return best
