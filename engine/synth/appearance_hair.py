"""Hair of a photographed person: the own hair in another colour, or a rendered person's hair.

Rendered people (``visavis train synth``) come with an exact segmentation, so that their hair can be cut out;
it is carried onto the photo's own, which takes its colour first. It looks right where cut and turn of the
head are alike, mostly for short hair and frontal faces; it is drawn hair, and up close it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.face.inpaint import push_pull
from engine.synth.appearance_masks import OVAL, Sitter, blur, polygon
from engine.synth.shards import open_shards

__all__ = ["HairDonor", "donors_of", "hair", "hair_colour", "hair_swap"]

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rng = np.random.Generator


# Lightness and a*, b* of hair: black, dark brown, brown, chestnut, red, dark blond, blond, grey, white.
_HAIR = np.array(
    [[12, 1, 1], [20, 4, 6], [30, 8, 13], [33, 16, 18], [42, 25, 32], [50, 7, 20], [66, 6, 27],
     [55, 0, 2], [78, 0, 4]], float
)  # fmt: skip
_TOO_UNLIKE = 0.65
_MOST_TURN = np.radians(25.0)
_HAIR_CHANCE = np.array([0.15, 0.17, 0.16, 0.12, 0.09, 0.1, 0.1, 0.07, 0.04])


def hair(rgb: Bytes, sitter: Sitter, random: Rng, people: Sequence[HairDonor] = ()) -> Bytes:
    """Other hair: a donor's in two cases of five where there are any, else the own hair recoloured.

    Heads turned by more than 25 degrees only get another colour: most donors look ahead.
    """
    if len(people) and abs(sitter.fit.yaw) < _MOST_TURN and random.random() < 0.4:
        return hair_swap(rgb, sitter, random, people)
    return hair_colour(rgb, sitter, random)


def hair_colour(rgb: Bytes, sitter: Sitter, random: Rng, goal: Float | None = None) -> Bytes:
    """The photo's own hair in another colour: CIELAB ``goal`` [3], by chance if None.

    Lightness moves by a power, at most 26 steps up and 30 down; shine and strands stay. Without hair in the
    picture nothing changes.
    """
    if goal is None:
        goal = _HAIR[int(random.choice(len(_HAIR), p=_HAIR_CHANCE))] + random.normal(0.0, [3.0, 2.0, 3.0])
        if random.random() < 0.04:  # dyed
            turn = random.uniform(0.0, 2 * np.pi)
            goal = np.array([random.uniform(30, 55), 38 * np.cos(turn), 38 * np.sin(turn)])
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    sure = sitter.hair > 0.7
    if int(sure.sum()) < 50:
        return rgb.copy()
    own = np.median(lab[sure], 0)
    grey = float(np.hypot(own[1], own[2])) < 2.5 and float(np.abs(lab[sure][:, 1:]).mean()) < 2.5
    from_l = float(np.clip(own[0], 6.0, 94.0))
    to_l = float(np.clip(goal[0], max(5.0, from_l - 30.0), min(92.0, from_l + 26.0)))
    moved = lab.copy()
    power = np.log(to_l / 100.0) / np.log(from_l / 100.0)
    moved[..., 0] = 100.0 * np.power(np.clip(lab[..., 0], 0, 100) / 100.0, power)
    if not grey:  # a black-and-white picture stays one
        depth = np.clip(moved[..., :1] / max(to_l, 1.0), 0.3, 1.6) ** 0.7
        moved[..., 1:] = np.asarray(goal[1:], np.float32) * depth + 0.3 * (lab[..., 1:] - own[1:])
    weight = sitter.hair[..., None]
    new = cv2.cvtColor((lab + weight * (moved - lab)).astype(np.float32), cv2.COLOR_LAB2RGB)
    out = np.rint(np.clip(new, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.where(weight > 1e-3, out, rgb)


@dataclass(frozen=True)
class HairDonor:
    """A rendered head whose hair can be borrowed; S px."""

    rgb: Bytes
    """uint8 [S, S, 3]"""
    hair: NDArray[np.bool_]
    """[S, S]"""
    points: Float
    """[478, 2] landmarks, px"""


def donors_of(shards: Path, most: int = 200) -> list[HairDonor]:
    """Heads with hair from shards of ``visavis train synth``, the first frame of each person.

    Raises:
        InputError: no shards there, or none with labels and landmarks.
    """
    found: list[HairDonor] = []
    for shard in open_shards(shards):
        if not {"labels", "landmarks", "frames", "frame"} <= set(shard.fields):
            continue
        value = list(shard.meta["labels"]).index("hair")
        for row in np.flatnonzero(np.asarray(shard["frame"]) == 0).tolist():
            mask = np.asarray(shard["labels"][row]) == value
            # Hair that the frame cuts above would end in a straight line.
            if len(found) >= most or not 0.02 < mask.mean() < 0.5 or mask[:3].any():
                continue
            burnt = np.asarray(shard["frames"][row])[mask].min(-1) > 240
            if burnt.mean() < 0.05:
                points = np.array(shard["landmarks"][row], np.float32)
                found.append(HairDonor(np.array(shard["frames"][row]), mask, points))
    if not found:
        raise InputError(f"{shards} has no people with hair: write some with `visavis train synth`")
    return found


_HOLD = (*OVAL[:11], *OVAL[-10:], 70, 105, 107, 336, 334, 300, 168, 234, 454)
"""Landmarks that hair is carried over by: the upper outline, the brows, the root of the nose."""


def _turn(points: Float) -> Float:
    """[2] how far the nose is from the middle of the face, to the side and down, in face sizes."""
    middle, down = 0.5 * (points[234] + points[454]), points[152] - points[10]
    across, nose = points[454] - points[234], points[1] - middle
    wide = max(float(np.linalg.norm(down)), 1.0)
    side = float(nose @ across) / max(float(np.linalg.norm(across)) * wide, 1e-3)
    return np.array([side, float(nose @ down) / wide**2], np.float32)


def hair_swap(rgb: Bytes, sitter: Sitter, random: Rng, people: Sequence[HairDonor]) -> Bytes:
    """A donor's hair over the photo's own, which takes its colour first.

    Among some donors whose head is turned alike, the one is taken whose hair has most nearly the own hair's
    outline: own hair that is not covered stays, recoloured, so a cut can only replace one like it. The hair
    is carried by the similarity of brows and upper outline; it leaves the eyes and everything below them
    free, and shades the skin beneath it. A grey picture gets grey hair. Where no donor's outline is near,
    the own hair is recoloured instead.

    Raises:
        InputError: no donors.
    """
    if not len(people):
        raise InputError("no donors of hair: give some people")
    away = np.array([np.abs(_turn(d.points) - _turn(sitter.points)).sum() for d in people])
    near = np.argsort(away, kind="stable")[: max(12, len(people) // 3)]
    few = [people[int(k)] for k in random.permutation(near)[:10]]
    step = 4.0 * sitter.scale
    costs = [_unlike(donor, sitter, step) for donor in few]
    if min(costs) > _TOO_UNLIKE:
        return hair_colour(rgb, sitter, random)
    layer, alpha = _carried_hair(few[int(np.argmin(costs))], sitter)
    lab = cv2.cvtColor(layer / np.float32(255.0), cv2.COLOR_RGB2LAB)
    sure = sitter.skin > 0.8
    if sure.any() and float(np.abs(np.diff(rgb[sure].astype(np.float32), axis=-1)).mean()) < 3.0:
        lab[..., 1:] = 0.0
        layer = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255.0, np.float32)
    goal = np.median(lab[alpha > 0.6], 0) if (alpha > 0.6).any() else np.array([20.0, 3.0, 5.0])
    under = hair_colour(rgb, sitter, random, np.asarray(goal, np.float32)).astype(np.float32)
    cm = sitter.frame.width / 14.0
    shift = np.array([[1, 0, 0.25 * cm], [0, 1, 0.6 * cm]])
    fallen = cv2.warpAffine(alpha, shift, (rgb.shape[1], rgb.shape[0]))
    under *= 1.0 - (0.4 * blur(np.asarray(fallen, np.float32), 0.35 * cm) * sitter.skin)[..., None]
    out = under + alpha[..., None] * (layer - under)
    changed = (alpha > 1e-3) | (np.abs(under - rgb).max(-1) >= 0.5)
    return np.where(changed[..., None], np.rint(np.clip(out, 0, 255)).astype(np.uint8), rgb)


def _unlike(donor: HairDonor, sitter: Sitter, step: float) -> float:
    """Own hair that the donor's leaves bare, and half of what it adds, in areas of the own hair."""
    height, width = (max(8, round(n / step)) for n in sitter.hair.shape)
    own = np.asarray(cv2.resize(sitter.hair, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    matrix = _onto(donor, sitter) / step
    cover = cv2.warpAffine(donor.hair.astype(np.float32), matrix, (width, height))
    face = polygon((height, width), sitter.points[list(OVAL)] / np.float32(step))
    if float(own.sum()) < 0.15 * float(face.sum()):  # bald, or not recognised: hair would look stuck on
        return np.inf
    # Hair that the donor's frame cuts below must not end inside the picture.
    ends = np.flatnonzero(donor.hair[-1]).astype(float)
    bottom = matrix[1, 0] * ends + matrix[1, 1] * len(donor.hair) + matrix[1, 2]
    cut = float((bottom < 0.97 * height).mean()) if len(ends) else 0.0
    added = float((cover * (1.0 - own)).sum())
    return (float((own * (1.0 - cover)).sum()) + 0.5 * added) / float(own.sum()) + 0.6 * cut


def _onto(donor: HairDonor, sitter: Sitter) -> NDArray[np.float64]:
    """[2, 3] donor px to picture px: the least-squares similarity of :data:`_HOLD`."""
    a, b = donor.points[list(_HOLD)].astype(float), sitter.points[list(_HOLD)].astype(float)
    ca, cb = a.mean(0), b.mean(0)
    za, zb = (a - ca) @ [1, 1j], (b - cb) @ [1, 1j]
    turn = (np.conj(za) @ zb) / max(float((np.abs(za) ** 2).sum()), 1e-6)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, cb - linear @ ca])


def _carried_hair(donor: HairDonor, sitter: Sitter) -> tuple[Float, Float]:
    """The donor's hair in the picture: colour [H, W, 3] 0..255 and cover [H, W] 0..1."""
    height, width = sitter.hair.shape
    matrix = _onto(donor, sitter)
    # The parting and gaps between strands show the donor's scalp: hair of the same colour instead.
    gap = max(3, round(0.06 * len(donor.hair))) | 1
    kernel = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap)))
    mask = donor.hair.astype(np.uint8)
    closed = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel), np.float32)
    # The outermost px are mixed with what is behind them: they count for little.
    inner = np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8)), np.float32)
    colour = push_pull(donor.rgb.astype(np.float32), np.maximum(inner, np.float32(0.04) * mask))
    shrunk = min(float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))), 1.0)
    soft = blur(closed, 0.7 / max(shrunk, 0.25))
    if shrunk < 0.8:  # no aliasing
        colour = blur(colour, 0.4 / shrunk)
    size = (width, height)
    layer = cv2.warpAffine(colour, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(soft, matrix, size, flags=cv2.INTER_LINEAR)
    p = sitter.points
    free = polygon((height, width), np.concatenate([p[[46, 52, 55, 9, 285, 282, 276]], p[list(OVAL[7:30])]]))
    free = blur(np.asarray(free, np.float32), 0.02 * sitter.frame.width)
    cover = np.clip(1.15 * cover - 0.1, 0.0, 1.0) * (1.0 - np.clip(1.5 * free - 0.25, 0.0, 1.0))
    return np.asarray(layer, np.float32), np.asarray(cover, np.float32)
