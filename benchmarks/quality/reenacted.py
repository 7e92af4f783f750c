"""Clips to be reenacted, and animators that reenact them: pictures only, no numbers yet.

A scene is a clip whose first usable frame is the portrait (:mod:`engine.face.reenact`). What is measured are
runs of consecutive frames, evenly spread over the clip: speed needs few frames, jitter needs neighbours.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.faces import Looks, consecutive, look
from engine.errors import AssetError, ConfigError, InputError
from engine.face.landmarks import LandmarkModel
from engine.face.reenact import Reenactment, open_reenactment
from engine.recipes import ANIMATORS
from engine.stage import Animator
from engine.types import Cond, MotionChunk, PixelFormat

__all__ = [
    "STILL",
    "Clip",
    "Scene",
    "animate",
    "animator_makers",
    "bridged",
    "choose_frames",
    "draw",
    "list_clips",
    "make_animators",
    "open_scene",
]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

STILL = "still"
RUNS, RUN = 4, 12
SURE = 0.8
"""Tracked confidence of measured frames, where there are enough: beyond 42 degrees of yaw real landmarks are
guesses, and no measure of a generated face."""
WARM = 4
"""Frames an animator with a memory is shown before those that count."""
_SUFFIXES = (".mp4", ".mov", ".avi")


@dataclass(frozen=True)
class Clip:
    """A clip of the manifest and the file of its track."""

    name: str
    video: Path
    track: Path


@dataclass(frozen=True)
class Scene:
    """A clip in memory: the frames that are measured, and what our detector sees in them."""

    name: str
    source: Reenactment
    shown: list[int]
    """indices of the measured frames in the clip"""
    frames: list[Bytes]
    """uint8 [512, 512, 3] each"""
    looks: Looks

    @property
    def runs(self) -> list[slice]:
        """Slices of ``shown`` of consecutive frames."""
        return consecutive(self.shown)

    @property
    def unit_px(self) -> float:
        """Inter-ocular distance of the portrait, px."""
        return self.source.portrait.fit.interocular_px


def list_clips(data: Path, tracks: Path, splits: Sequence[str]) -> list[Clip]:
    """Every video of ``data``/MANIFEST.csv in ``splits`` that has a track, in order of name.

    Raises:
        InputError: there is no manifest.
    """
    manifest = data / "MANIFEST.csv"
    if not manifest.is_file():
        raise InputError(f"{data} has no MANIFEST.csv; name the data folder with --data")
    found = []
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            path = row["path"]
            if row["split"] not in splits or not path.lower().endswith(_SUFFIXES):
                continue
            name = path.removeprefix("talking/")
            track = tracks / (name.replace("/", "__") + ".npz")
            if track.is_file():
                found.append(Clip(name, data / path, track))
    return sorted(found, key=lambda clip: clip.name)


def choose_frames(seen: NDArray[np.bool_], runs: int = RUNS, length: int = RUN) -> list[int]:
    """At most ``runs`` runs of ``length`` frames all ``seen`` [T], evenly spread, not overlapping."""
    whole = np.convolve(seen, np.ones(length), "valid") > length - 0.5
    starts = np.flatnonzero(whole)
    chosen: list[int] = []
    for wanted in np.linspace(0, max(0, len(starts) - 1), runs):
        free = [s for s in starts[round(wanted) :] if not chosen or s >= chosen[-1] + length]
        if free:
            chosen.append(int(free[0]))
    return [n for start in chosen for n in range(start, start + length)]


def open_scene(clip: Clip, model: LandmarkModel) -> Scene:
    """Portrait, motion and measured frames of a clip.

    Raises:
        FaceError: no frame can be a portrait.
        InputError: the video cannot be read, or no 12 frames in a row show the face.
    """
    with np.load(clip.track) as file:
        track = {name: file[name] for name in ("points", "valid", "motion", "rest", "blink", "confidence")}
    source = open_reenactment(clip.video, track)
    seen = np.asarray(np.isfinite(source.motion).all(axis=1))
    sure = seen & (track["confidence"] > SURE)
    shown = choose_frames(sure) or choose_frames(seen)
    frames = {n: crop for n, crop, _ in source.frames(shown)}
    shown = [n for n in shown if n in frames]
    if not shown:
        raise InputError(f"{clip.name} shows its face in no {RUN} frames in a row")
    pictures = [frames[n] for n in shown]
    looks = look(pictures, source.points[shown], source.portrait.fit, model)
    return Scene(clip.name, source, shown, pictures, looks)


# -- animators ---------------------------------------------------------------------------------


def animator_makers() -> dict[str, Callable[[PixelFormat], Animator]]:
    """Every animator that a recipe can name."""
    return dict(ANIMATORS)


def make_animators(names: Sequence[str] | None) -> dict[str, Animator]:
    """RGB animators by name; None: every one there is and has its weights.

    ``NAME=MODULE:MAKER`` gives one that no recipe names, a checkpoint in training for instance:
    ``MAKER(PixelFormat.RGB)`` returns it.

    Raises:
        InputError: an unknown name, or no such maker.
        AssetError: one that is named has no weights here.
    """
    makers = animator_makers()
    chosen: dict[str, Callable[[PixelFormat], Animator]] = {}
    for text in makers if names is None else names:
        name, equals, path = text.partition("=")
        if equals:
            chosen[name] = _maker(path)
        elif name in makers:
            chosen[name] = makers[name]
        else:
            raise InputError(f"no animator {name}; there are {', '.join(makers)}, or NAME=MODULE:MAKER")
    made: dict[str, Animator] = {}
    for name, maker in chosen.items():
        try:
            made[name] = maker(PixelFormat.RGB)
        except AssetError as error:
            if names is not None:
                raise
            print(f"{name} is not measured: {error}", file=sys.stderr)
    return made


def _maker(path: str) -> Callable[[PixelFormat], Animator]:
    module, colon, name = path.partition(":")
    try:
        maker = getattr(import_module(module), name) if colon else None
    except (ImportError, AttributeError) as error:
        raise InputError(f"{path} cannot be imported: {error}") from error
    if not callable(maker):
        raise InputError(f"{path} is no MODULE:MAKER")
    return cast(Callable[[PixelFormat], Animator], maker)


def bridged(motion: Floats) -> Floats:
    """``motion`` [T, 72] with unseen rows (NaN) on the line between their neighbours."""
    seen = np.flatnonzero(np.isfinite(motion).all(axis=1))
    if not len(seen):
        raise InputError("the motion has no frame with a face")
    at = np.arange(len(motion))
    return np.stack([np.interp(at, seen, column) for column in motion[seen].T], axis=1).astype(np.float32)


def draw(animator: Animator, identity: Any, motion: Floats, shown: Sequence[int]) -> list[Bytes]:
    """The frames ``shown`` (increasing) of ``motion`` [T, 72], uint8 [512, 512, 3] each.

    Each run of consecutive frames is a stream of its own that begins :data:`WARM` frames and twice the
    animator's look-ahead earlier, so that windows around the first frame are whole.

    Raises:
        ConfigError: the animator did not return a frame it owes.
    """
    ahead = animator.spec.lookahead_frames
    out: list[Bytes] = []
    for run in consecutive(list(shown)):
        first, last = shown[run.start], shown[run.stop - 1]
        begin, end = max(0, first - WARM - 2 * ahead), min(len(motion), last + 1 + ahead)
        state = animator.init_state(1, Cond.for_identity(identity))
        x = MotionChunk(begin, torch.from_numpy(motion[begin:end])[None])
        with torch.inference_mode():
            made = [animator.step(x, state), animator.drain(state)]
        frames = {chunk.t0 + k: chunk.data[0, k] for chunk in made for k in range(chunk.data.shape[1])}
        missing = [n for n in range(first, last + 1) if n not in frames]
        if missing:
            raise ConfigError(f"{animator.spec.name} owes frames {missing} of {begin}..{end - 1}")
        out += [np.asarray(frames[n].cpu().numpy(), np.uint8) for n in range(first, last + 1)]
    return out


def animate(animator: Animator | None, scene: Scene) -> list[Bytes]:
    """The scene's frames as ``animator`` draws them from its portrait; the portrait itself for None."""
    if animator is None:
        return [scene.source.portrait.crop] * len(scene.shown)
    identity = animator.prepare(scene.source.portrait)
    return draw(animator, identity, bridged(scene.source.motion), scene.shown)
