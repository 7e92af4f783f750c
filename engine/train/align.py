"""Forced alignment with our own acoustic model, for languages and recordings that have no aligner.

The words are pronounced by espeak-ng, strung together with optional pauses, and laid over the
model's posteriors by Viterbi's algorithm: every phone in order, each at least 20 ms.
"""

from __future__ import annotations

import re
from pathlib import Path

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from engine.encoders.acoustic import AcousticModel, load_acoustic
from engine.encoders.mel_input import normalised_mel
from engine.encoders.phones import SILENCE, UNKNOWN
from engine.synth.voices import pronounce

__all__ = ["ModelAligner", "viterbi"]

_LEAST_POSTERIOR = 0.02
_MOST_DOUBT = 0.35


@numba.njit(cache=True, nogil=True)
def viterbi(
    scores: NDArray[np.float32], phones: NDArray[np.int64], optional: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Best path of states through time.

    ``scores`` [T, P] log-likelihoods; state k emits ``phones[k]``; a path starts in state 0 or 1
    and ends in the last or the one before it, stays, moves on, or jumps over an ``optional`` state.
    Returns the state at each time, int64 [T], all −1 where no path fits.
    """
    steps, states = scores.shape[0], len(phones)
    best = np.full((steps, states), -np.inf, np.float32)
    origin = np.zeros((steps, states), np.int8)
    for k in range(min(2, states)):
        best[0, k] = scores[0, phones[k]]
    for t in range(1, steps):
        for k in range(states):
            value, move = best[t - 1, k], 0
            if k >= 1 and best[t - 1, k - 1] > value:
                value, move = best[t - 1, k - 1], 1
            if k >= 2 and optional[k - 1] and best[t - 1, k - 2] > value:
                value, move = best[t - 1, k - 2], 2
            best[t, k] = value + scores[t, phones[k]]
            origin[t, k] = move
    path = np.full(steps, -1, np.int64)
    state = states - 1
    if states >= 2 and best[steps - 1, states - 2] > best[steps - 1, states - 1]:
        state = states - 2
    if best[steps - 1, state] == -np.inf:
        return path
    for t in range(steps - 1, -1, -1):
        path[t] = state
        state -= origin[t, state]
    return path


class ModelAligner:
    """Lays text over speech; labels it doubts become unknown."""

    def __init__(self, weights: Path, voice: str) -> None:
        self.model: AcousticModel = load_acoustic(weights)
        self.voice = voice

    def states(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Phones of ``text`` with an optional pause at both ends and between words."""
        phones, optional = [SILENCE], [True]
        for word in re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text):
            said = pronounce(word, self.voice)
            phones += [*said, SILENCE]
            optional += [False] * len(said) + [True]
        return np.array(phones, np.int64), np.array(optional)

    def __call__(self, samples: NDArray[np.float32], text: str) -> NDArray[np.int8] | None:
        """Labels int8 [N // 160], or None where the text does not fit the audio."""
        frames = len(samples) // 640
        padded = np.pad(samples[: frames * 640], (0, 640))
        with torch.no_grad():
            log_posteriors = self.model(normalised_mel(padded[None]))[0][0, 1:, :2].flatten(0, 1)
        phones, optional = self.states(text)
        # Frequent phones (silence first of all) are likely before anything is heard: divide that out.
        prior = log_posteriors.exp().mean(0).clamp_min(1e-3).log()
        path = viterbi((log_posteriors - 0.5 * prior).numpy(), phones, optional)
        if len(path) == 0 or path[0] < 0:
            return None
        labels = phones[path]
        sure = log_posteriors.exp().numpy()[np.arange(len(labels)), labels] > _LEAST_POSTERIOR
        if np.mean(~sure) > _MOST_DOUBT:
            return None
        halves = np.where(sure, labels, UNKNOWN).astype(np.int8)
        whole = np.full(len(samples) // 160, UNKNOWN, np.int8)
        whole[: 4 * frames] = halves.repeat(2)
        return whole
