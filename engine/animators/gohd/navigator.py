"""The trained navigation for one stream's frame, in numpy.

The arithmetic is a tenth of what torch's dispatch of it costs, and it stands in the way of every frame.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.animators.gohd.network import EXPRESSION, GAZE, MOST, POSE, STEEPER, GohdNet

__all__ = ["Navigator"]

Float = NDArray[np.float32]
Layer = tuple[Float, Float]


def _layer(module: nn.Module) -> Layer:
    if not isinstance(module, nn.Linear):
        raise TypeError(f"navigation is made of linear layers, not {type(module).__name__}")
    weight, bias = (v.detach().float().cpu().numpy() for v in (module.weight, module.bias))
    return np.ascontiguousarray(weight.T), bias


def _rectified(x: Float, slope: float) -> Float:
    return np.asarray(np.maximum(x, np.float32(slope) * x))


class Navigator:
    """What :meth:`~engine.animators.gohd.network.GohdNet.navigate` computes, for a frozen network."""

    def __init__(self, net: GohdNet) -> None:
        parts = net.navigation
        self._row = (_layer(parts.row[0]), _layer(parts.row[2]))
        self._gaze = _layer(parts.gaze)
        self._magnitudes = (_layer(parts.magnitudes[0]), _layer(parts.magnitudes[2]))
        self._slopes = (_slope(parts.row[1]), _slope(parts.magnitudes[1]))
        with torch.no_grad():
            self._directions = np.ascontiguousarray(parts.dictionary.directions().cpu().numpy().T)

    def __call__(self, window: Float, code: Float, strength: float) -> Float:
        """``window`` float32 [W, 72] (motion minus the portrait's rest), ``code`` z_s [Z] to z_t [Z]."""
        window = np.clip(window, -MOST, MOST)
        rows = np.concatenate([window[:, EXPRESSION], STEEPER * window[:, POSE]], 1)
        (first, bias), (second, shift) = self._row
        driven = (_rectified(rows @ first + bias, self._slopes[0]) @ second + shift).max(0)
        gaze = (STEEPER * window[-1, GAZE]) @ self._gaze[0] + self._gaze[1]
        (first, bias), (second, shift) = self._magnitudes
        hidden = _rectified(np.concatenate([driven, gaze, code]) @ first + bias, self._slopes[1])
        w = (hidden @ second + shift) @ self._directions
        return np.asarray(code + np.float32(strength) * w, np.float32)


def _slope(module: nn.Module) -> float:
    if not isinstance(module, nn.LeakyReLU):
        raise TypeError(f"navigation bends by leaky ReLU, not {type(module).__name__}")
    return float(module.negative_slope)
