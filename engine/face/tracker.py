"""A differentiable tracker: one look at a face's picture gives landmarks, expression, head turn and gaze.

What the landmark network and the Gauss-Newton fitter find in two steps, this network finds in one, for any
person, and gradients flow from every output to the picture. It serves as

* a **measure**: what a drawn face expresses, where it looks, how it is turned (``net(x)``);
* a **perceptual space** for the training of animators: maps at four scales (``net.features(x)``);
* a live tracker of webcam pictures (:class:`NeuralTracker`), about as fast as the landmark network alone.

Two stages. A trunk of convolutions without normalisation sees the whole face and gives a code, from which
come the landmarks (coefficients of a linear shape model), the turn and a first idea of the rest. Then both
eyes and the mouth are cut out of the finest map along the landmarks found, each eye looked at by the same
weights (the left one mirrored), and landmarks, lids, gaze and lips are refined (the idea of the attention
mesh, Grishchenko et al. 2020, arXiv:2006.10962).

The picture is the upright square :func:`face_square` around the face, 1.5 face widths a side, sRGB 0..1.
Nothing here knows a person: gaze and expression are absolute, rotation is from a frontal head, seen along
the line of sight to the middle of the square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from engine.face.attention import LEFT_EYE_MESH, LIPS_MESH, RIGHT_EYE_MESH
from engine.face.detector import FaceDetector
from engine.face.fitter import HEAD_DISTANCE_CM, IS_RELATIVE, NECK_PIVOT
from engine.face.landmarks import RIGID_POINTS
from engine.face.residual import SILHOUETTE
from engine.face.roi import Bytes, Roi, sample_roi
from engine.face.solver import MEAN_INTEROCULAR_CM, mark_basis
from engine.types import MOTION

__all__ = ["SIDE", "Look", "NeuralTracker", "Seen", "TrackerNet", "along_sight", "face_square"]

Float = NDArray[np.float32]
Double = NDArray[np.float64]

SIDE = 128
"""Pixels of the input."""
SHARE = 1.5
"""Side of the square in face widths."""
MODES = 64
"""Coefficients of the shape model."""

_CHANNELS = (24, 48, 80, 128)
_CODE = 256
_LATENT = 96
_RIGHT = (*RIGHT_EYE_MESH, 468, 469, 470, 471, 472)
# Edges of an iris are numbered as seen in the picture: mirrored, right (469) becomes left (476).
_LEFT = (*LEFT_EYE_MESH, 473, 476, 475, 474, 477)
_EYE_GRID, _MOUTH_GRID = (12, 16), (14, 20)
_STEADY = np.array([33, 263, 2, 2, 2, 2])
_LOWER = 0.05


class Look(NamedTuple):
    """What :class:`TrackerNet` sees in B pictures."""

    points: Tensor
    """[B, 478, 2] landmarks, -1..1 across the picture (from its first pixel's outer edge to the last's)"""
    expression: Tensor
    """[B, 64] in the order of ``EXPRESSION_NAMES``, about 0..1, absolute"""
    rotation: Tensor
    """[B, 3] axis-angle from a frontal head, rad, axes of :data:`~engine.types.MOTION`"""
    gaze: Tensor
    """[B, 2] pitch and yaw relative to the head, rad"""
    blink: Tensor
    """[B, 2] left and right eye: 0 as open as this person's eyes are, 1 shut"""


def face_square(points: Float) -> Roi:
    """The square around landmarks [>= 468, 2] that the tracker looks at, in px of the same picture."""
    wide, tall = np.ptp(points[SILHOUETTE], axis=0)
    side = float(SHARE * max(wide, tall / 1.25))
    x, y = points[_STEADY].mean(axis=0)
    return Roi(float(x), float(y) + _LOWER * side, side)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
    nn.init.kaiming_normal_(conv.weight, a=0.1)
    return conv


def _act() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.1)


class _Residual(nn.Module):
    """x + f(x), f zero at the start: depth without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv(channels, channels), _conv(channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.second(F.leaky_relu(self.first(x), 0.1)), 0.1)


class _Part(nn.Module):
    """A cut-out [B, C, h, w] of the finest map to a code [B, 96] and offsets of its N landmarks."""

    def __init__(self, grid: tuple[int, int], count: int) -> None:
        super().__init__()
        c = _CHANNELS[0]
        self.grid = grid
        self.places: Tensor
        self.convs = nn.Sequential(_conv(c, 32), _act(), _conv(32, 48, 2), _act(), _conv(48, 32), _act())
        self.summary = nn.Sequential(nn.Linear(32 * (grid[0] // 2) * (grid[1] // 2), _LATENT), _act())
        self.offsets = nn.Linear(_LATENT, 2 * count)
        nn.init.zeros_(self.offsets.weight)
        ys, xs = torch.meshgrid(
            torch.linspace(-1.0, 1.0, grid[0]) * (grid[0] / grid[1]), torch.linspace(-1.0, 1.0, grid[1]),
            indexing="ij",
        )  # fmt: skip
        self.register_buffer("places", torch.stack([xs, ys], -1), persistent=False)

    def forward(self, maps: Tensor, centre: Tensor, across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [K, B, 96] and offsets [K, B, N, 2] (-1..1 of the picture) of K cut-outs a picture.

        ``centre`` [K, B, 2]; ``across`` and ``down`` [K, B, 2] are half the cut-out's width, to the side
        where its last column is and to the one where its last row is: mirrored ones count to the left.
        """
        k, b, (h, w) = len(centre), len(maps), self.grid
        axes = torch.stack([across, down], 2)  # [K, B, 2 (which), 2]
        grid = centre[:, :, None, None] + torch.einsum("hwi,kbic->kbhwc", self.places, axes)
        stacked = grid.permute(1, 0, 2, 3, 4).reshape(b, k * h, w, 2)
        cut = F.grid_sample(maps, stacked.to(maps.dtype), align_corners=False, padding_mode="border")
        cut = cut.view(b, -1, k, h, w).permute(2, 0, 1, 3, 4).reshape(k * b, -1, h, w)
        code = self.summary(self.convs(cut).flatten(1))
        local = 0.25 * self.offsets(code).view(k, b, -1, 2).to(axes.dtype)
        return code.view(k, b, -1), torch.einsum("kbni,kbic->kbnc", local, axes)


class TrackerNet(nn.Module):
    """Pictures [B, 3, 128, 128] (0..1) to a :class:`Look`; about 0.3 GFLOP a picture.

    The shape model (``mean`` [956], ``modes`` [64, 956], -1..1) is a buffer that training sets.
    """

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4 = _CHANNELS
        self.stem = nn.Sequential(_conv(12, c1), _act(), _conv(c1, c1))
        self.level2 = nn.Sequential(_conv(c1, c2, 2), _act(), _Residual(c2))
        self.level3 = nn.Sequential(_conv(c2, c3, 2), _act(), _Residual(c3))
        self.level4 = nn.Sequential(_conv(c3, c4, 2), _act(), _Residual(c4))
        self.last = nn.Sequential(_conv(c4, 160, 2), _act(), nn.Conv2d(160, 96, 1), _act())
        self.summary = nn.Sequential(nn.Linear(96 * 16, _CODE), _act())
        self.shape = nn.Linear(_CODE, MODES)
        self.eye = _Part(_EYE_GRID, len(_RIGHT))
        self.mouth = _Part(_MOUTH_GRID, len(LIPS_MESH))
        self.turn = nn.Linear(_CODE, 3)
        joined = _CODE + 3 * _LATENT
        self.units = nn.Sequential(nn.Linear(joined, 192), _act(), nn.Linear(192, 64))
        self.eyes = nn.Sequential(nn.Linear(joined, 64), _act(), nn.Linear(64, 4))
        self.mean: Tensor
        self.modes: Tensor
        self.place: Tensor
        self.register_buffer("mean", torch.zeros(956))
        self.register_buffer("modes", torch.zeros(MODES, 956))
        order = torch.tensor([*_RIGHT, *_LEFT, *LIPS_MESH])
        place = torch.full((478,), len(order))
        place[order] = torch.arange(len(order))
        self.register_buffer("place", place, persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps of ``x`` [B, 3, S, S]: [B, 24, S/2, S/2], [B, 48, S/4, S/4], [B, 80, S/8, S/8] and
        [B, 128, S/16, S/16]. S is any multiple of 16; :data:`SIDE` is what training saw."""
        maps = [F.leaky_relu(self.stem(F.pixel_unshuffle(x - 0.5, 2)), 0.1)]
        for level in (self.level2, self.level3, self.level4):
            maps.append(level(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> Look:
        """See :class:`Look`; S must be :data:`SIDE`."""
        return self.look(self.features(x))

    def look(self, maps: list[Tensor]) -> Look:
        """From what :meth:`features` returned for pictures of :data:`SIDE` px."""
        code = self.summary(self.last(maps[-1]).flatten(1))
        rough = (self.mean + self.shape(code).float() @ self.modes).view(-1, 478, 2)
        points, parts = self._refined(maps[0], rough)
        joined = torch.cat([code, *parts], 1)
        eyes = self.eyes(joined).float()
        return Look(points, self.units(joined).float(), self.turn(code).float(), eyes[:, :2], eyes[:, 2:])

    def _refined(self, maps: Tensor, rough: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Landmarks with those of eyes and lips corrected, and the codes of right eye, left eye, mouth."""
        # Where to look is not itself learned from what is seen there.
        at = rough.detach()
        eyes = at[:, 263] - at[:, 33]
        width = eyes.norm(dim=1, keepdim=True)
        # A turned head shows its eyes closer together, but not its nose shorter.
        unit = torch.maximum(width, 1.3 * (at[:, 168] - at[:, 2]).norm(dim=1, keepdim=True))
        along = eyes / width.clamp_min(1e-3) * unit
        down = torch.stack([-along[:, 1], along[:, 0]], 1)
        middles = torch.stack([at[:, (33, 133)].mean(1), at[:, (263, 362)].mean(1)])
        both = self.eye(maps, middles, 0.3 * torch.stack([along, -along]), 0.3 * torch.stack([down, down]))
        lips = self.mouth(maps, at[:, (61, 291)].mean(1)[None], 0.5 * along[None], 0.5 * down[None])
        still = torch.zeros_like(rough[:, :1])
        moved = torch.cat([both[1][0], both[1][1], lips[1][0], still], 1)[:, self.place]
        return rough + moved, [both[0][0], both[0][1], lips[0][0]]


# -- live --------------------------------------------------------------------------------------


def along_sight(rotation: Rotation, place: Sequence[float] | Double, focal: float) -> Rotation:
    """``rotation`` of a head as seen by a camera turned towards it.

    ``place`` is the face's distance from the principal point, px (x right, y down), ``focal`` px. A head
    off the middle of a picture shows more of one side than its rotation says; a cut-out knows only what it
    shows.
    """
    return _to_sight(place, focal) * rotation


def _to_sight(place: Sequence[float] | Double, focal: float) -> Rotation:
    ray = np.array([place[0] / focal, -place[1] / focal, -1.0])
    ray /= np.linalg.norm(ray)
    axis = np.cross(ray, [0.0, 0.0, -1.0])
    sine = float(np.linalg.norm(axis))
    return Rotation.from_rotvec(axis / max(sine, 1e-12) * np.arctan2(sine, -ray[2]))


@dataclass(frozen=True)
class Seen:
    """One face in one frame of a video."""

    points: Float
    """float32 [478, 2] px"""
    motion: Float
    """float32 [72]: expression, gaze and rotation absolute (rotation from a frontal head, camera axes);
    translation is the place of the neck's pivot in camera space, inter-ocular distances, for a camera that
    has the mean head of the first frame at :data:`~engine.face.fitter.HEAD_DISTANCE_CM`"""
    blink: Float
    """float32 [2] left and right, 0..1"""

    def relative(self, rest: Seen) -> Float:
        """Motion [72] counted from ``rest``, as drivers give it: pose, gaze and the units of ``IS_RELATIVE``
        are differences, lips and jaw absolute, lids the share of the way from the rest's to shut."""
        out = self.motion - rest.motion
        absolute = ~IS_RELATIVE
        out[: MOTION.expression.stop][absolute] = self.motion[MOTION.expression][absolute]
        open_eye = np.minimum(rest.blink, 0.5)
        out[[MOTION.index("eyeBlinkLeft"), MOTION.index("eyeBlinkRight")]] = (self.blink - open_eye) / (
            1.0 - open_eye
        )
        out[MOTION.expression] = np.clip(out[MOTION.expression], 0.0, 1.0)
        turn = Rotation.from_rotvec(self.motion[MOTION.rotation])
        turn = turn * Rotation.from_rotvec(rest.motion[MOTION.rotation]).inv()
        out[MOTION.rotation] = turn.as_rotvec()
        return np.asarray(out, np.float32)


class NeuralTracker:
    """Follows one face through a video with :class:`TrackerNet`; this object is the state of that video.

    The face is searched with the detector, which also confirms it every :data:`CHECK` frames and whenever
    what is seen has changed much: the network itself cannot say that it sees no face.

    Args:
        net: the network or a compiled runner of it, for pictures float32 [1, 3, 128, 128].

    >>> tracker = NeuralTracker(compile(net, (torch.zeros(1, 3, SIDE, SIDE),), precision="bf16"))
    >>> for rgb in frames: seen = tracker.track(rgb)     # None while no face is seen
    """

    CHECK = 12
    SURE = 0.5
    CHANGED = 0.08
    """Mean difference from the last picture, 0..1, that asks for the detector."""

    def __init__(self, net: Callable[[Tensor], Sequence[Tensor]]) -> None:
        self._net = net
        self._detector = FaceDetector()
        self._square: Roi | None = None
        self._since = 0
        self._scale = 0.0
        self._picture = torch.zeros(1, 3, SIDE, SIDE)
        self._before = torch.zeros(1, 3, SIDE, SIDE)
        marks = mark_basis().mean[RIGID_POINTS]
        self._middle = marks.mean(axis=0)
        self._rigid = marks - self._middle

    def reset(self) -> None:
        """Forget the face; the next frame is searched afresh."""
        self._square, self._scale = None, 0.0

    def track(self, rgb: Bytes) -> Seen | None:
        """The face in the next frame (uint8 [H, W, 3]), None if there is none."""
        looks = 1
        if self._square is None:
            found = self._detector.detect(rgb, thorough=False)
            if not found:
                return None
            largest = max(found, key=lambda d: d.size)
            x, y = (largest.box[:2] + largest.box[2:]) / 2
            self._square, self._since, looks = Roi(float(x), float(y), SHARE * largest.size), self.CHECK, 3
        points, outputs, square = self._look(rgb, self._square)
        for _ in range(looks - 1):
            points, outputs, square = self._look(rgb, face_square(points))
        self._since += 1
        if float((self._picture - self._before).abs().mean()) > self.CHANGED:
            self._since = self.CHECK
        self._before.copy_(self._picture)
        if self._since >= self.CHECK and not self._confirmed(rgb, square):
            self._square = None
            return None
        new = face_square(points)
        # The side trembles with the landmarks; the face's size changes slowly.
        self._square = Roi(new.x, new.y, 0.7 * square.size + 0.3 * new.size)
        return self._seen(rgb, points, outputs, square)

    def _look(self, rgb: Bytes, square: Roi) -> tuple[Float, list[Float], Roi]:
        cut = torch.from_numpy(sample_roi(rgb, square, SIDE))
        self._picture.copy_(cut.permute(2, 0, 1)[None]).mul_(1.0 / 255.0)
        with torch.no_grad():
            points, *others = self._net(self._picture)
        to = square.to_image(SIDE)
        places = (points[0].numpy() + 1.0) * (0.5 * SIDE) - 0.5
        return (places @ to[:, :2].T + to[:, 2]).astype(np.float32), [o[0].numpy() for o in others], square

    def _confirmed(self, rgb: Bytes, square: Roi) -> bool:
        self._since = 0
        found = self._detector.look_again(rgb, square)
        return found is not None and found.score >= self.SURE

    def _seen(self, rgb: Bytes, points: Float, outputs: list[Float], square: Roi) -> Seen:
        expression, turn, gaze, blink = outputs
        centre = np.array([rgb.shape[1], rgb.shape[0]]) / 2.0
        marks = points[RIGID_POINTS].astype(np.float64)
        own = Rotation.from_rotvec(turn)
        # Scale of a weak-perspective camera, px a cm, for the turn that is already known.
        flat = own.apply(self._rigid)[:, :2] * [1.0, -1.0]
        middle = marks.mean(axis=0)
        scale = float((flat * (marks - middle)).sum() / (flat**2).sum())
        self._scale = self._scale or scale
        focal = self._scale * HEAD_DISTANCE_CM
        rotation = _to_sight([square.x - centre[0], square.y - centre[1]], focal).inv() * own
        place = np.append((middle - centre) * [1.0, -1.0] / scale, -focal / scale)
        pivot = place + rotation.apply(NECK_PIVOT.astype(float) - self._middle)
        motion = np.zeros(MOTION.size, np.float32)
        motion[MOTION.expression] = np.clip(expression, 0.0, 1.0)
        motion[MOTION.rotation] = rotation.as_rotvec()
        motion[MOTION.translation] = pivot / MEAN_INTEROCULAR_CM
        motion[MOTION.gaze] = gaze
        return Seen(points, motion, np.clip(blink, 0.0, 1.0).astype(np.float32))
