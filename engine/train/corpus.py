"""The motion corpus: what `visavis train data` writes and every trainer of motion reads.

A folder with ``index.json`` and one ``takes/NAME.npz`` per take. A take is one stretch of one voice
with all that is known of the face that spoke it, at 25 frames/s; frame n belongs to samples
640 n .. 640 (n + 1). Unknown values are NaN, never zero.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import InputError
from engine.types import MOTION, AudioChunk, Cond
from engine.weights import weights_path

__all__ = ["Corpus", "Entry", "Features", "Take", "mirrored", "safe_name", "write_index", "write_take"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """One line of the index.

    ``kind``: ``real`` (tracked person), ``copy`` (a real one heard through an augmented channel),
    ``labelled`` (human speech with phone labels, the mouth made by the coarticulation model),
    ``synthetic`` (the same from a synthetic voice), ``styled`` (emotional speech with an authored
    expression style). ``split`` is ``train``, ``dev`` or ``test``; shipped weights learn from
    ``train`` only.
    """

    name: str
    kind: str
    split: str
    speaker: str
    frames: int
    emotion: str = ""
    language: str = ""
    licence: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Take:
    """An entry with its arrays.

    ``audio`` float32 [640 T]; ``lips`` float32 [T, 15] target channels
    (:data:`~engine.samplers.visemes.LIP_CHANNELS`) of the phonetic prior; ``opening`` float32 [T]
    of the real mouth on the common scale and ``width`` float32 [T] its change of width (NaN unknown);
    ``motion`` float32 [T, 72] as tracked, relative to the person's rest (rows NaN where unseen).
    """

    entry: Entry
    audio: Floats
    lips: Floats
    opening: Floats
    width: Floats
    motion: Floats

    @property
    def frames(self) -> int:
        return len(self.lips)


def safe_name(name: str) -> str:
    """``name`` as a file name."""
    return name.replace("/", "__").replace(":", "_")


def write_take(folder: Path, take: Take) -> None:
    """Write ``folder``/takes/NAME.npz atomically."""
    target = folder / "takes" / (safe_name(take.entry.name) + ".npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(
            file,
            audio=np.round(np.clip(take.audio, -1, 1) * 32767).astype(np.int16),
            lips=take.lips.astype(np.float16),
            opening=take.opening.astype(np.float32),
            width=take.width.astype(np.float32),
            motion=take.motion.astype(np.float32),
        )
    os.replace(part, target)


def write_index(folder: Path, entries: Iterable[Entry], about: dict[str, Any] | None = None) -> None:
    """Write ``folder``/index.json: the entries and what is worth knowing ``about`` them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"about": about or {}, "entries": [asdict(e) for e in entries]}, indent=1)
    part = folder / "index.part"
    part.write_text(text, encoding="utf-8")
    os.replace(part, folder / "index.json")


class Corpus:
    """Read access to a corpus folder.

    Raises:
        InputError: there is no index there.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "index.json"
        if not path.is_file():
            raise InputError(f"{folder} holds no motion corpus; build one with visavis train data")
        self.folder = folder
        raw = json.loads(path.read_text(encoding="utf-8"))
        self.about: dict[str, Any] = raw["about"]
        self.entries = [Entry(**row) for row in raw["entries"]]

    def select(self, split: str, *kinds: str) -> list[Entry]:
        """Entries of ``split`` and ``kinds`` (all kinds where none is named), in order."""
        return [e for e in self.entries if e.split == split and (not kinds or e.kind in kinds)]

    def take(self, entry: Entry) -> Take:
        """The arrays of ``entry``."""
        with np.load(self.folder / "takes" / (safe_name(entry.name) + ".npz")) as file:
            return Take(
                entry,
                file["audio"].astype(np.float32) / 32767.0,
                file["lips"].astype(np.float32),
                file["opening"],
                file["width"],
                file["motion"],
            )


@dataclass
class Features:
    """An encoder's features of takes, computed once and kept beside the corpus as float16.

    ``encoder`` is any audio stage; ``weights`` names the shipped weights it depends on ("" for none):
    other weights, another folder.
    """

    folder: Path
    encoder: Any
    weights: str = ""
    _digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        data = weights_path(self.weights).read_bytes() if self.weights else b""
        self._digest = hashlib.sha256(data).hexdigest()[:10]
        self.path.mkdir(parents=True, exist_ok=True)

    @cached_property
    def path(self) -> Path:
        return self.folder / f"features_{self.encoder.spec.output.replace(':', '_')}_{self._digest}"

    def __call__(self, take: Take) -> Floats:
        """float32 [T, F]."""
        path = self.path / (safe_name(take.entry.name) + ".npy")
        if path.is_file():
            return np.asarray(np.load(path), np.float32)
        chunk = AudioChunk(0, torch.from_numpy(take.audio)[None])
        with torch.no_grad():
            made = self.encoder.forward(chunk, Cond.default(1))[0].numpy().astype(np.float16)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, made)
        os.replace(part, path)
        return np.asarray(made, np.float32)


def mirrored(motion: Floats) -> Floats:
    """``motion`` [T, 72] of the same person in a mirror: sides swapped, yaw, roll and tx negated."""
    order = np.arange(MOTION.size)
    for k, name in enumerate(MOTION.names[: MOTION.expression.stop]):
        if name.endswith("Left") and name[:-4] + "Right" in MOTION.names:
            other = MOTION.index(name[:-4] + "Right")
            order[k], order[other] = other, k
    for left, right in (("jawLeft", "jawRight"), ("mouthLeft", "mouthRight")):
        a, b = MOTION.index(left), MOTION.index(right)
        order[a], order[b] = b, a
    sign = np.ones(MOTION.size, np.float32)
    sign[[MOTION.index(n) for n in ("ry", "rz", "tx", "gazeYaw")]] = -1.0
    return np.asarray(motion[:, order] * sign, np.float32)
