"""What happens to a voice between a mouth and a codec, drawn at random for training.

Everything takes and gives float32 [N] at 16 kHz and draws from the generator it is handed, so a
training run repeats exactly from its seed.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from engine.types import SAMPLE_RATE

__all__ = ["Floats", "add_noise", "channel", "gain", "mu_law", "stretch", "whisper"]

Floats = NDArray[np.float32]


def stretch(samples: Floats, labels: NDArray[np.int8], factor: float) -> tuple[Floats, NDArray[np.int8]]:
    """Play ``factor`` times faster: pitch, formants and tempo rise together, labels follow."""
    count, frames = int(len(samples) / factor), int(len(labels) / factor)
    at = np.arange(count) * factor
    faster = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    index = np.minimum(((np.arange(frames) + 0.5) * factor).astype(np.int64), len(labels) - 1)
    return faster, np.asarray(labels[index])


def channel(samples: Floats, noise: Generator) -> Floats:
    """A room and a microphone in one spectrum: reverberation, tilt, resonances, band limits."""
    size = next_fast_len(len(samples) + SAMPLE_RATE // 2, real=True)
    spectrum = rfft(samples, size)
    frequency = rfftfreq(size, 1 / SAMPLE_RATE)
    if noise.random() < 0.35:
        spectrum *= rfft(_room(noise), size)
    if noise.random() < 0.7:
        spectrum *= _equaliser(frequency, noise)
    out = irfft(spectrum, size)[: len(samples)]
    return np.asarray(out, dtype=np.float32)


def _room(noise: Generator) -> Floats:
    """An impulse response: the direct sound, then noise that decays 60 dB in 0.15..0.6 s."""
    decay_s = noise.uniform(0.15, 0.6)
    time = np.arange(int(0.5 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = noise.standard_normal(time.size) * np.exp(-6.9 * time / decay_s)
    tail[: int(noise.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0.0
    wet = 10 ** (noise.uniform(-18, 0) / 20)
    response = wet * tail / np.sqrt(np.square(tail).sum() + 1e-9)
    response[0] += 1.0
    return np.asarray(response, dtype=np.float32)


def _equaliser(frequency: NDArray[np.float64], noise: Generator) -> NDArray[np.float64]:
    octaves = np.log2(np.maximum(frequency, 60.0) / 1000.0)
    curve = noise.uniform(-4, 4) * octaves
    for _ in range(2):
        centre, width = noise.uniform(-3, 2.8), noise.uniform(0.3, 1.5)
        curve += noise.uniform(-8, 8) * np.exp(-(((octaves - centre) / width) ** 2))
    if noise.random() < 0.2:
        low, high = noise.uniform(100, 350), noise.uniform(3200, 5000)
        curve -= 12 * np.log2(np.maximum(low / np.maximum(frequency, 1.0), 1.0))
        curve -= 40 * np.log2(np.maximum(frequency / high, 1.0))
    return np.asarray(10 ** (np.clip(curve, -60, 20) / 20))


def add_noise(samples: Floats, other: Floats, noise: Generator) -> Floats:
    """Coloured noise or ``other`` people's talk, 3..35 dB under the voice."""
    if noise.random() < 0.3 and np.any(other):
        sound = other
    else:
        size = next_fast_len(len(samples), real=True)
        spectrum = rfft(noise.standard_normal(size).astype(np.float32))
        shape = np.maximum(rfftfreq(size, 1 / SAMPLE_RATE), 40.0) ** (-noise.uniform(0.0, 1.0))
        sound = irfft(spectrum * shape, size)[: len(samples)]
        if noise.random() < 0.3:
            sound = sound * (1 + 0.8 * np.sin(np.arange(len(samples)) * noise.uniform(1, 20) / SAMPLE_RATE))
    loud = np.sqrt(np.mean(np.square(samples))) + 1e-6
    scale = loud / (np.sqrt(np.mean(np.square(sound))) + 1e-9) * 10 ** (-noise.uniform(3, 35) / 20)
    return np.asarray(samples + scale * sound, dtype=np.float32)


def mu_law(samples: Floats) -> Floats:
    """Eight-bit µ-law and back (ITU-T G.711)."""
    peak = np.abs(samples).max() + 1e-6
    code = np.sign(samples) * np.log1p(255 * np.abs(samples) / peak) / np.log(256.0)
    code = np.round(code * 127) / 127
    return np.asarray(np.sign(code) * (256.0 ** np.abs(code) - 1) / 255 * peak, dtype=np.float32)


def whisper(samples: Floats, noise: Generator) -> Floats:
    """Noise with the voice's own spectral envelope: magnitudes smoothed over 250 Hz, random phase."""
    window, hop = 512, 128
    padded = np.pad(samples, (window, window))
    count = (len(padded) - window) // hop + 1
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:count] * hann
    size = np.abs(rfft(frames, axis=1))
    smooth = np.apply_along_axis(np.convolve, 1, size, np.ones(9) / 9, "same")
    tilt = np.minimum(np.arange(size.shape[1]) / 24.0, 1.0)
    phase = np.exp(2j * np.pi * noise.random(size.shape))
    made = irfft(smooth * tilt * phase, axis=1) * hann
    out = np.zeros(len(padded))
    for index in range(count):
        out[index * hop : index * hop + window] += made[index]
    return np.asarray(out[window : window + len(samples)] / 1.5, dtype=np.float32)


def gain(samples: Floats, noise: Generator) -> Floats:
    """From barely audible (−50 dBFS) to overdriven, a little hiss, 16-bit steps."""
    loud = np.sqrt(np.mean(np.square(samples))) + 1e-6
    target = 10 ** (noise.uniform(-62, -10) / 20)
    out = samples * (target / loud) + noise.standard_normal(len(samples)) * 10 ** (
        noise.uniform(-96, -76) / 20
    )
    return np.asarray(np.round(np.clip(out, -1, 1) * 32767) / 32768, dtype=np.float32)
