"""The mel encoder: the laws, its columns, and a voice gate that no stationary sound opens."""

from __future__ import annotations

import wave
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.config import asset_path
from engine.encoders.mel import BANDS, FEATURES, MelEncoder
from engine.encoders.mel_input import normalised_mel
from engine.encoders.ppg import FEATURES as PPG_FEATURES
from engine.encoders.ppg import PpgEncoder
from engine.types import AudioChunk, Cond
from tests.laws import LAWS, Case, audio_case


@lru_cache
def _voice(name: str = "voice_a.wav") -> Tensor:
    """A bundled synthetic voice, float32 [1, N] at 16 kHz, cut to whole frames."""
    with wave.open(str(asset_path(f"demo/{name}"))) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    return torch.from_numpy(data[: len(data) // 640 * 640])[None]


def _features(samples: Tensor) -> Tensor:
    return MelEncoder().forward(AudioChunk(0, samples), Cond.default(samples.shape[0]))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_law(law: Callable[[Case], None]) -> None:
    law(audio_case("mel", MelEncoder()))


@pytest.mark.parametrize("chunk", [1, 159, 160, 640, 641, 1999])
def test_chunks_do_not_matter_at_all(chunk: int) -> None:
    samples = _voice()[:, : 640 * (6 if chunk == 1 else 20)]
    stage = MelEncoder()
    state = stage.init_state(1, Cond.default(1))
    parts = [
        stage.step(AudioChunk(at, samples[:, at : at + chunk]), state).data
        for at in range(0, samples.shape[1], chunk)
    ]
    parts.append(stage.drain(state).data)
    assert torch.equal(torch.cat(parts, 1), _features(samples))


def test_columns_hold_the_spectrum_of_this_frame_and_the_next() -> None:
    assert len(FEATURES) == len(set(FEATURES)) == 168
    assert MelEncoder().spec.output == "features:mel:168"
    samples = _voice()[:, : 640 * 50]
    data = _features(samples)
    now, following = (data[..., FEATURES.index(f"{name}.00.00") :][..., :80] for name in ("mel", "melNext"))
    assert torch.equal(now[:, 1:], following[:, :-1])
    hops = normalised_mel(samples.numpy())
    halves = hops.reshape(1, 50, 2, 2, 64).mean(3)
    # Averages over all bands agree with those of the 64 bands they were pooled from, nearly: pools overlap.
    overall = now.reshape(1, 50, 2, BANDS).mean(-1)
    torch.testing.assert_close(overall, halves.mean(-1), atol=0.08, rtol=0.0)


@pytest.mark.parametrize("sound", ["silence", "hiss", "hum", "chord"])
@pytest.mark.parametrize("decibel", [-65, -30])
def test_stationary_sound_is_no_voice(sound: str, decibel: int) -> None:
    t = torch.arange(640 * 75) / 16_000
    sounds = {
        "silence": torch.zeros_like(t),
        "hiss": torch.randn(t.shape, generator=torch.Generator().manual_seed(1)),
        "hum": torch.stack([torch.sin(2 * torch.pi * 50 * k * t + k) / k for k in range(1, 16)]).sum(0),
        "chord": torch.stack([torch.sin(2 * torch.pi * f * t) for f in (220, 277, 330)]).sum(0),
    }
    samples = sounds[sound] / sounds[sound].std().clamp(min=1e-9) * 10 ** (decibel / 20)
    assert _features(samples[None])[0, 25:, FEATURES.index("voice")].max() < 0.1


@pytest.mark.parametrize("decibel", [-40, 0])
def test_speech_opens_the_gate_where_the_acoustic_model_hears_it(decibel: int) -> None:
    samples = _voice() * 10 ** (decibel / 20)
    mine = _features(samples)[0, 10:, FEATURES.index("voice")] > 0.5
    data = PpgEncoder().forward(AudioChunk(0, samples), Cond.default(1))
    other = data[0, 10:, PPG_FEATURES.index("voice")] > 0.5
    assert (mine == other).float().mean() > 0.85


def test_not_a_number_does_not_poison_the_stream() -> None:
    samples = _voice()[:, : 640 * 30].clone()
    samples[0, 5000:5003] = float("nan")
    assert torch.isfinite(_features(samples)).all()
