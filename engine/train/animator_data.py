"""Batches for the animator's training from the scenes that `visavis train heads` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from engine.train.corpus import mirrored

__all__ = [
    "Batch",
    "HeadPairs",
    "Scene",
    "Scenes",
    "augment",
    "collect",
    "cropped",
    "group_of",
    "region_weights",
    "rest_rows",
    "unguided",
]

_ARRAYS = ("guide", "target", "grid", "window", "points", "index")
_MOUTH = np.array([61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146])
_EYES = (
    np.array([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7]),
    np.array([263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249]),
)
_OUTLINE = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
     149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)  # fmt: skip


@dataclass
class Batch:
    """B frames in order of their runs; all pictures float32 [B, 3, S, S] in 0..1."""

    source: Tensor
    guide: Tensor
    target: Tensor
    grid: Tensor
    """float32 [B, S/4, S/4, 2]"""
    window: Tensor
    """float32 [B, W, 72]"""
    weight: Tensor
    """float32 [B, 1, S, S] what a pixel counts"""
    strength: Tensor
    """float32 [B, 1]"""
    follows: Tensor
    """bool [B]: this frame comes right after the batch's previous one"""
    real: Tensor
    """bool [B]: the truth comes from a camera"""
    run: Tensor
    """int64 [B], rising from 0: frames of one run have one source"""


@dataclass(frozen=True)
class Scene:
    """Memory-mapped arrays of one scene."""

    name: str
    group: str
    source: NDArray[np.uint8]
    arrays: Mapping[str, NDArray[Any]]

    @property
    def side(self) -> int:
        """Of the pictures, px."""
        return int(self.source.shape[0])

    @property
    def starts(self) -> NDArray[np.int64]:
        """Frames whose next one is there too."""
        return np.flatnonzero(np.diff(np.asarray(self.arrays["index"])) == 1)


def group_of(name: str) -> str:
    """Scenes of one person, or of one kind, share a group and with it a share of the batches."""
    if name.startswith("portraits__"):
        return "photos"
    if name.startswith("people__"):
        return "people"
    for person in ("obama", "reagan", "grid_s1", "latentsync_demo1"):
        if person in name.lower():
            return person
    return name.split(".")[0]


class Scenes:
    """Every scene under the given folders, and in the given files of `visavis train pack`.

    Raises:
        ConfigError: there is none.
        AssetError: a file is damaged.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.scenes: list[Scene] = []
        for meta in sorted(m for folder in folders for m in folder.glob("*/meta.json")):
            arrays = {name: np.load(meta.parent / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
            about = json.loads(meta.read_text())
            name = meta.parent.name
            source = np.load(meta.parent / "source.npy")
            if about["frames"] > 1:
                self.scenes.append(Scene(name, group_of(name), source, arrays))
        for packed in (path for path in folders if path.is_file()):
            from engine.train.animator_pack import unpack

            self.scenes += unpack(packed)
        if not self.scenes:
            raise ConfigError(
                f"no scenes under {', '.join(map(str, folders))}: run `visavis train heads` first"
            )
        self.groups: dict[str, list[Scene]] = {}
        for scene in self.scenes:
            self.groups.setdefault(scene.group, []).append(scene)


class HeadPairs:
    """Draws batches of short runs from scenes, groups with the given shares.

    Args:
        scenes: where from.
        shares: relative share of each group; groups that are not named share 1 between them.
        seed: of the order.
    """

    def __init__(self, scenes: Scenes, shares: Mapping[str, float], seed: int = 0) -> None:
        self.scenes = scenes
        self.random = np.random.default_rng(seed)
        names = list(scenes.groups)
        other = [n for n in names if n not in shares]
        weights = np.array([shares.get(n, 1.0 / max(1, len(other))) for n in names])
        self.names, self.weights = names, weights / weights.sum()

    def draw(self, runs: int) -> Batch:
        """``runs`` runs of two consecutive frames each."""
        picked = []
        for _ in range(runs):
            group = self.scenes.groups[self.names[self.random.choice(len(self.names), p=self.weights)]]
            scene = group[self.random.integers(len(group))]
            starts = scene.starts
            if len(starts) == 0:
                continue
            first = int(self.random.choice(starts))
            picked += [(scene, first, False), (scene, first + 1, True)]
        return collect(picked)


def collect(picked: Sequence[tuple[Scene, int, bool]]) -> Batch:
    """The batch of (scene, row, follows its predecessor)."""

    def pictures(rows: list[NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float().div_(255.0)

    points = np.stack([np.asarray(s.arrays["points"][k], np.float32) for s, k, _ in picked])
    side = picked[0][0].source.shape[0]
    return Batch(
        source=pictures([s.source for s, _, _ in picked]),
        guide=pictures([s.arrays["guide"][k] for s, k, _ in picked]),
        target=pictures([s.arrays["target"][k] for s, k, _ in picked]),
        grid=torch.from_numpy(np.stack([s.arrays["grid"][k] for s, k, _ in picked]).astype(np.float32)),
        window=torch.from_numpy(np.stack([s.arrays["window"][k] for s, k, _ in picked]).astype(np.float32)),
        weight=region_weights(points, side),
        strength=torch.ones(len(picked), 1),
        follows=torch.tensor([f for _, _, f in picked]),
        real=torch.tensor([s.group not in ("photos", "people") for s, _, _ in picked]),
        run=torch.cumsum(torch.tensor([not f for _, _, f in picked]), 0) - 1,
    )


def region_weights(points: NDArray[np.float32], side: int) -> Tensor:
    """What pixels count, float32 [B, 1, side, side]: 1 on the face, 5 on mouth and eyes, 0.25 outside.

    ``points`` [B, 478, 2] are the truth's landmarks, px (the masks of GoHD's losses).
    """
    import cv2

    out = np.empty((len(points), 1, side, side), np.float32)
    for b, marks in enumerate(points):
        mask = np.full((side, side), 0.25, np.float32)
        cv2.fillPoly(mask, [marks[_OUTLINE].astype(np.int32)], 1.0)
        for part in (_MOUTH, *_EYES):
            shape = marks[part]
            wide = shape.mean(0) + (shape - shape.mean(0)) * 1.25
            cv2.fillPoly(mask, [wide.astype(np.int32)], 5.0)
        out[b, 0] = cv2.GaussianBlur(mask, (0, 0), 3.0)
    return torch.from_numpy(out)


def augment(batch: Batch, random: np.random.Generator) -> Batch:
    """Mirrored, recoloured and softened; a run's frames alike, and source, guide and truth alike."""
    run = batch.run
    count = int(run[-1]) + 1
    pictures = [batch.source, batch.guide, batch.target]
    flip = torch.from_numpy(random.random(count) < 0.5)[run]
    if bool(flip.any()):
        pictures = [torch.where(flip[:, None, None, None], p.flip(3), p) for p in pictures]
        turned = batch.grid.flip(2) * torch.tensor([-1.0, 1.0])
        batch.grid = torch.where(flip[:, None, None, None], turned, batch.grid)
        other = torch.from_numpy(mirrored(batch.window.reshape(-1, 72).numpy())).view_as(batch.window)
        batch.window = torch.where(flip[:, None, None], other, batch.window)
        batch.weight = torch.where(flip[:, None, None, None], batch.weight.flip(3), batch.weight)
    gain = torch.from_numpy(random.uniform(0.75, 1.25, (count, 1)) * random.uniform(0.88, 1.12, (count, 3)))
    gamma = torch.from_numpy(np.exp(random.normal(0.0, 0.2, (count, 1))))
    vivid = torch.from_numpy(random.uniform(0.2, 1.3, (count, 1)))
    gain, gamma, vivid = (v.float()[run][:, :, None, None] for v in (gain, gamma, vivid))
    for k, p in enumerate(pictures):
        p = p.clamp(1e-4, 1.0) ** gamma * gain
        grey = p.mean(1, keepdim=True)
        pictures[k] = (grey + (p - grey) * vivid).clamp(0.0, 1.0)
    if random.random() < 0.25:
        small = int(random.choice([128, 160, 192]))
        side = pictures[0].shape[-1]
        for k, p in enumerate(pictures):
            low = F.interpolate(p, (small, small), mode="area")
            pictures[k] = F.interpolate(low, (side, side), mode="bicubic").clamp(0.0, 1.0)
    batch.source, batch.guide, batch.target = pictures
    return batch


def unguided(batch: Batch) -> Batch:
    """The ablation: the still source in place of the mesh animator's picture, and no flow of its."""
    side = batch.grid.shape[1]
    return replace(batch, guide=batch.source, grid=_still(side).to(batch.grid).expand_as(batch.grid))


def _still(side: int) -> Tensor:
    """Places of a region that has not moved, [1, side, side, 2]."""
    axis = (torch.arange(side) + 0.5) / side * 2.0 - 1.0
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij")[::-1], -1)[None]


def cropped(batch: Batch, random: np.random.Generator, side: int) -> tuple[Batch, tuple[int, int]]:
    """A square of ``side`` px out of every picture but the source, the same for all rows, and its corner.

    Sides and corners are multiples of 16, the network's coarsest cell: most of the time is spent per
    pixel, and a convolution learns as much from two small pieces as from one large one.
    """
    room = (batch.guide.shape[-1] - side) // 16
    y, x = (16 * int(v) for v in np.rint(random.beta(1.5, 1.5, 2) * room))
    rows, columns = slice(y, y + side), slice(x, x + side)
    part = replace(
        batch,
        guide=batch.guide[..., rows, columns],
        target=batch.target[..., rows, columns],
        weight=batch.weight[..., rows, columns],
        grid=batch.grid[:, y // 4 : (y + side) // 4, x // 4 : (x + side) // 4],
    )
    return part, (y, x)


def rest_rows(batch: Batch, random: np.random.Generator, share: float) -> Batch:
    """Some rows become the portrait at rest, at any strength: it must show itself."""
    rows = torch.from_numpy(random.random(len(batch.follows)) < share)
    if not bool(rows.any()):
        return batch
    at = rows[:, None, None, None]
    still = _still(batch.grid.shape[1])
    batch.guide = torch.where(at, batch.source, batch.guide)
    batch.target = torch.where(at, batch.source, batch.target)
    batch.grid = torch.where(at, still, batch.grid)
    batch.window = torch.where(rows[:, None, None], torch.zeros(()), batch.window)
    batch.strength = torch.where(rows[:, None], torch.rand(len(rows), 1), batch.strength)
    batch.follows = batch.follows & ~rows & ~torch.roll(rows, 1)
    return batch
