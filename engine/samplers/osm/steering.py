"""Forcing what the head does: codes of the motion space that turn it one way, and how actions use them.

OSM-Net turns, tilts and straightens faces by replacing the motion feature with one of its bases (sec.
IV-E); here the replacement is a code per direction, one basis or a mixture of bases, so that an action
can be sent towards a goal from wherever the head is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.samplers.noise import Floats
from engine.samplers.osm.space import MotionSpace
from engine.types import ACTIONS

__all__ = ["DIRECTIONS", "Actions", "Steering"]

Actions = ACTIONS
DIRECTIONS: tuple[str, ...] = ("still", "rx+", "rx-", "ry+", "ry-", "rz+", "rz-")
"""What each code does: nothing, or one rotation up or down (down, up, image right, left, tilts)."""

_NOD, _TILT, _FRONTAL = (ACTIONS.index(name) for name in ("nod", "tilt", "frontal"))
_DEG = np.pi / 180.0
_NOD_DEG = 6.5
_TILT_DEG = 9.0
_HURRY = 0.6
"""Share of the way to its goal that a forced clip goes."""


class Steering:
    """Clips that go a wanted way.

    Args:
        codes: [7, C] features of :data:`DIRECTIONS`.
        reach: [7] how far the decoded clip of each turns the head along its own axis, rad.
    """

    def __init__(self, codes: Tensor, reach: Tensor) -> None:
        self.codes, self.reach = codes, reach.double().numpy()

    def wanted(self, action: Floats, pose: Floats, swing: Floats) -> Floats:
        """The change of rotation [B, 3] that the actions [B, 3] ask for from ``pose`` [B, 6].

        A nod goes down and back to the portrait's pose by turns (``swing`` [B], ±1, says which is next),
        counted from where the head is, for a clip may fall short; a tilt goes to the side the head
        already leans to; frontal leads back to the portrait.
        """
        goals = np.repeat(-_HURRY * pose[:, None, :3], len(ACTIONS), axis=1)
        goals[:, _NOD, 0] = _NOD_DEG * _DEG * np.maximum(swing, 0.0) - pose[:, 0]
        goals[:, _TILT, 2] += _HURRY * _TILT_DEG * _DEG * _side(pose)
        return _mixed(action, goals)

    def home(self, action: Floats, pose: Floats) -> Floats:
        """The rotation [B, 3] that a head held by the actions is drawn to: the portrait's, or the tilt."""
        homes = np.zeros((len(pose), len(ACTIONS), 3))
        homes[:, _TILT, 2] = _TILT_DEG * _DEG * _side(pose)
        strength = np.minimum(action.sum(axis=1, keepdims=True), 1.0)
        return np.asarray(strength * _mixed(action, homes))

    def clip(self, space: MotionSpace, wanted: Floats) -> Floats:
        """The clip [B, T, 6] of the mixture of codes that turns the head by ``wanted`` [B, 3]."""
        share = np.zeros((len(wanted), len(DIRECTIONS)))
        share[:, 1::2] = np.maximum(wanted, 0.0) / self.reach[1::2]
        share[:, 2::2] = np.maximum(-wanted, 0.0) / self.reach[2::2]
        total = share.sum(axis=1, keepdims=True)
        share /= np.maximum(total, 1.0)
        share[:, 0] = 1.0 - share.sum(axis=1)
        with torch.inference_mode():
            feature = torch.from_numpy(share.astype(np.float32)) @ self.codes
            return space.decode(feature).double().numpy()


def _side(pose: Floats) -> Floats:
    """The side [B] the head leans to, ±1."""
    return np.where(pose[:, 2] < 0, -1.0, 1.0)


def _mixed(action: Floats, goals: Floats) -> Floats:
    """Goals [B, A, 3] weighted by the actions [B, A]."""
    share = action / np.maximum(action.sum(axis=1, keepdims=True), 1e-6)
    return np.asarray((share[:, :, None] * goals).sum(axis=1))
