"""The PPG encoder: the laws, its columns, levels, voices and broken streams."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.config import asset_path
from engine.encoders.phones import PHONES
from engine.encoders.ppg import FEATURES, PpgEncoder
from engine.errors import StreamError
from engine.types import CONTROLS, AudioChunk, Cond
from tests.laws import LAWS, Case, audio_case


@lru_cache
def encoder(backend: str) -> PpgEncoder:
    return PpgEncoder(backend)


def _columns(prefix: str) -> list[int]:
    return [index for index, name in enumerate(FEATURES) if name.startswith(prefix)]


def _voice(name: str = "voice_a.wav") -> Tensor:
    """A bundled synthetic voice, float32 [1, N] at 16 kHz, cut to whole frames."""
    import wave

    with wave.open(str(asset_path(f"demo/{name}"))) as file:
        assert file.getframerate() == 16_000
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    return torch.from_numpy(data[: len(data) // 640 * 640])[None]


def _features(samples: Tensor) -> Tensor:
    return encoder("eager").forward(AudioChunk(0, samples), Cond.default(samples.shape[0]))


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_law(law: Callable[[Case], None], backend: str) -> None:
    law(audio_case("ppg", encoder(backend), tolerance=2e-4))


@pytest.mark.parametrize("chunk", [1, 159, 160, 640, 641, 1999])
def test_chunks_do_not_matter_at_all(chunk: int) -> None:
    """Not within a tolerance: every chunking runs the same operations on the same shapes."""
    samples = _voice()[:, : 640 * (6 if chunk == 1 else 20)]
    stage = encoder("eager")
    state = stage.init_state(1, Cond.default(1))
    whole = stage.step(AudioChunk(0, samples), state).data
    state = stage.init_state(1, Cond.default(1))
    parts = [
        stage.step(AudioChunk(at, samples[:, at : at + chunk]), state).data
        for at in range(0, samples.shape[1], chunk)
    ]
    assert torch.equal(torch.cat(parts, 1), whole)


def test_lookahead_is_sixty_milliseconds_and_no_more() -> None:
    """The last sample frame n may use is 640 (n + 2) − 1: changing the next one changes nothing."""
    samples = _voice()[:, 640 * 20 : 640 * 40]
    changed = samples.clone()
    changed[:, 640 * 12 :] = 0.3
    a, b = _features(samples), _features(changed)
    assert torch.equal(a[:, :11], b[:, :11])
    assert not torch.equal(a[:, 11], b[:, 11])


def test_columns_are_named_once_and_posteriors_sum_to_one() -> None:
    assert len(set(FEATURES)) == len(FEATURES)
    data = _features(_voice())
    assert data.shape[-1] == len(FEATURES)
    assert torch.isfinite(data).all()
    for part in ("phoneA.", "phoneB.", "phoneNext."):
        columns = _columns(part)
        assert len(columns) == len(PHONES)
        torch.testing.assert_close(data[..., columns].sum(-1), torch.ones(data.shape[:2]), atol=1e-4, rtol=0)
    assert data[..., _columns("hidden.")].abs().max() <= 1.0


def test_controls_travel_with_the_frames_that_start_under_them() -> None:
    stage = encoder("eager")
    state = stage.init_state(1, Cond.default(1))
    loud, neutral = CONTROLS.default(1), CONTROLS.default(1)
    loud[:, 0] = 2.0
    seen = [stage.step(AudioChunk(0, torch.zeros(1, 700), neutral), state).controls]
    # Frame 1 began at sample 640, inside the first chunk; frame 2 is the first to start later.
    seen.append(stage.step(AudioChunk(700, torch.zeros(1, 1000), loud), state).controls)
    seen.append(stage.step(AudioChunk(1700, torch.zeros(1, 860)), state).controls)
    seen.append(stage.drain(state).controls)
    assert torch.cat(seen, 1)[0, :, 0].tolist() == [1.0, 1.0, 2.0, 2.0]


def test_silence_is_silent_and_speech_is_heard() -> None:
    voice = FEATURES.index("voice")
    quiet = _features(torch.zeros(1, 640 * 25))
    assert quiet[0, 5:, voice].max() < 0.1
    speech = _features(_voice())
    assert speech[0, :, voice].quantile(0.75) > 0.8


@pytest.mark.parametrize(("decibel", "share"), [(-40, 0.9), (-20, 0.95), (4, 0.95), (12, 0.5)])
def test_level_hardly_matters(decibel: int, share: float) -> None:
    """Quiet copies are named like the original; at +12 dB every vowel is clipped, and still half are."""
    columns = _columns("phoneB.")
    plain = _features(_voice())[..., columns].argmax(-1)
    noise = torch.randn(_voice().shape, generator=torch.Generator().manual_seed(0)) * 1e-5
    scaled = ((_voice() + noise) * 10 ** (decibel / 20)).clamp(-1, 1)
    same = _features(scaled)[..., columns].argmax(-1) == plain
    assert same[:, 25:].float().mean() > share


@pytest.mark.parametrize("sound", ["hiss", "hum", "chord"])
@pytest.mark.parametrize("decibel", [-65, -30])
def test_stationary_sound_is_no_voice(sound: str, decibel: int) -> None:
    t = torch.arange(640 * 75) / 16_000
    sounds = {
        "hiss": torch.randn(t.shape, generator=torch.Generator().manual_seed(1)),
        "hum": torch.stack([torch.sin(2 * torch.pi * 50 * k * t + k) / k for k in range(1, 16)]).sum(0),
        "chord": torch.stack([torch.sin(2 * torch.pi * f * t) for f in (220, 277, 330)]).sum(0),
    }
    samples = sounds[sound] / sounds[sound].std() * 10 ** (decibel / 20)
    data = _features(samples[None])[0, 25:]
    assert data[:, FEATURES.index("voice")].max() < 0.2
    assert data[:, FEATURES.index("phoneA.SIL")].min() > 0.8


def test_pitch_follows_the_voice() -> None:
    t = torch.arange(640 * 50) / 16_000
    glide = 120.0 * 2.0 ** (0.5 * (t > 1.0))
    phase = torch.cumsum(2 * torch.pi * glide / 16_000, 0)
    tone = torch.stack([torch.sin(k * phase) / k for k in (1, 2, 3, 4)]).sum(0)[None] * 0.2
    data = _features(tone)
    assert data[0, 5:, FEATURES.index("voicing")].min() > 0.8
    pitch = data[0, :, FEATURES.index("pitch")]
    assert 0.35 < float(pitch[28] - pitch[22]) < 0.6


def test_not_a_number_does_not_poison_the_stream() -> None:
    samples = _voice()[:, : 640 * 30].clone()
    samples[0, 5000:5003] = float("nan")
    assert torch.isfinite(_features(samples)).all()


def test_gaps_and_wrong_shapes_are_refused() -> None:
    stage = encoder("eager")
    state = stage.init_state(2, Cond.default(2))
    with pytest.raises(StreamError, match="must start a frame"):
        stage.step(AudioChunk(100, torch.zeros(2, 640)), state)
    stage.step(AudioChunk(640, torch.zeros(2, 700)), state)
    with pytest.raises(StreamError, match="goes on at sample 1340"):
        stage.step(AudioChunk(2000, torch.zeros(2, 640)), state)
    with pytest.raises(StreamError, match=r"float32 \[2, N\]"):
        stage.step(AudioChunk(1340, torch.zeros(1, 640)), state)
