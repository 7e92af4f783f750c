"""Emotion transfer: the latent code of a reference clip, by the forward flow.

The paper replaces a sampled code by that of the reference's frames (Tan et al., 2024, section 3.2).
A live stream has other frames and another voice than the reference, so what is carried over is the
clip's mean code, taken without a past (every frame then shows its whole distance from neutral) under
the neutral label; the sampler decodes it the same way and adds it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import InputError
from engine.samplers.flowvq.networks import CLASSES, TAPS
from engine.samplers.flowvq.sampler import FlowvqWeights, load_flowvq
from engine.samplers.flowvq.vector import SIZE, to_vector
from engine.samplers.visemes import LIP_CHANNELS
from engine.types import MOTION, STYLE_SIZE

__all__ = ["style_code"]


def style_code(
    motion: NDArray[np.float32], features: NDArray[np.float32] | None, weights: FlowvqWeights | None = None
) -> NDArray[np.float32]:
    """The clip's style for ``CONTROLS.style``: float32 [STYLE_SIZE].

    ``motion`` [T, 72] of the clip, its expression as a difference from the person's **neutral** face
    (rows NaN where unseen); ``features`` [T, F] of its audio by the recipe's encoder, None for a
    silent clip. Columns 0:24 are the mean latent code less the neutral component's mean, 24:48 the
    deviation over the clip; the rest is 0.

    Raises:
        InputError: fewer than ten frames are known, or lengths differ.
        AssetError: the shipped weights are missing (where ``weights`` is None).
    """
    made = weights if weights is not None else load_flowvq()
    known = np.isfinite(motion[:, MOTION.expression]).mean(axis=1) > 0.8
    if known.sum() < 10:
        raise InputError(f"only {int(known.sum())} frames of the reference clip show a face; ten are needed")
    if features is not None and len(features) != len(motion):
        raise InputError(f"the clip has {len(motion)} frames of motion and {len(features)} of audio")
    net = made.exp
    heard = _silence(made, len(motion)) if features is None else features
    x = torch.from_numpy(np.asarray(heard, np.float32))[None]
    with torch.inference_mode():
        lips = np.zeros((len(motion), len(LIP_CHANNELS)), np.float32)
        if features is not None:
            lips = np.asarray(made.lips(x, made.lips.init_hidden(1))[0][0].numpy(), np.float32)
        vector = to_vector(motion, lips, np.zeros(len(motion), np.float32))
        values = torch.from_numpy(vector[known]).float()
        values = torch.maximum(torch.minimum(values, net.high), net.low)
        label = torch.zeros(len(values), CLASSES)
        label[:, 0] = 1.0
        audio = net.hearing(x)[0, torch.from_numpy(known)]
        past = torch.zeros(len(values), len(TAPS), SIZE)
        tokens = net.context(audio, label, past, torch.zeros(len(values), len(TAPS)))
        z = net.encode(values, label, tokens)[0] - net.prior.means[0]
    code = np.zeros(STYLE_SIZE, np.float32)
    code[:SIZE] = z.mean(0).numpy()
    code[SIZE : 2 * SIZE] = z.std(0).numpy()
    return np.clip(code, -8.0, 8.0)


def _silence(weights: FlowvqWeights, frames: int) -> NDArray[np.float32]:
    """Average features: a silent clip says nothing of its voice."""
    hearing = weights.exp.hearing
    columns = max(int(hearing.columns.max()), int(weights.lips.columns.max())) + 1
    made = np.zeros((frames, columns), np.float32)
    made[:, hearing.columns.numpy()] = hearing.mean.numpy()
    return made
