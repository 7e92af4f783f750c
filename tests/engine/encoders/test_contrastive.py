"""The contrastive encoder: the laws with the shipped weights, its columns, and what its code knows."""

from __future__ import annotations

import wave
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.config import asset_path
from engine.encoders.contrastive import CODE, FEATURES, ContrastiveEncoder, LipCodeModel
from engine.encoders.listener import PROSODY
from engine.encoders.mel import MelEncoder
from engine.errors import AssetError
from engine.types import AudioChunk, Cond
from tests.laws import LAWS, Case, audio_case


@lru_cache
def encoder(backend: str = "eager") -> ContrastiveEncoder:
    return ContrastiveEncoder(backend)


@lru_cache
def _voice() -> Tensor:
    with wave.open(str(asset_path("demo/voice_a.wav"))) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    return torch.from_numpy(data[: len(data) // 640 * 640])[None]


def _features(samples: Tensor) -> Tensor:
    return encoder().forward(AudioChunk(0, samples), Cond.default(samples.shape[0]))


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_law(law: Callable[[Case], None], backend: str) -> None:
    law(audio_case("contrastive", encoder(backend), tolerance=5e-4))


@pytest.mark.parametrize("chunk", [1, 159, 640, 641, 1999])
def test_chunks_do_not_matter_at_all(chunk: int) -> None:
    """Not within a tolerance: every chunking runs the same operations on the same shapes."""
    samples = _voice()[:, : 640 * (6 if chunk == 1 else 20)]
    stage = encoder()

    def streamed(size: int) -> Tensor:
        state = stage.init_state(1, Cond.default(1))
        parts = [
            stage.step(AudioChunk(at, samples[:, at : at + size]), state).data
            for at in range(0, samples.shape[1], size)
        ]
        return torch.cat([*parts, stage.drain(state).data], 1)

    assert torch.equal(streamed(chunk), streamed(samples.shape[1]))


def test_columns_are_prosody_and_a_code_of_fixed_length() -> None:
    assert len(set(FEATURES)) == len(FEATURES) == 508
    assert encoder().spec.output == "features:contrastive:508"
    samples = _voice()[:, : 640 * 100]
    data = _features(samples)
    code = data[..., len(PROSODY) :]
    torch.testing.assert_close(code.norm(dim=-1), torch.full(code.shape[:2], CODE**0.5), atol=1e-2, rtol=0.0)
    plain = MelEncoder().forward(AudioChunk(0, samples), Cond.default(1))
    assert torch.equal(data[..., : len(PROSODY)], plain[..., : len(PROSODY)])


def test_the_code_hardly_changes_with_the_level_and_much_with_the_sound() -> None:
    samples = _voice()[:, : 640 * 150]
    code = _features(samples)[0, 50:, len(PROSODY) :]
    quiet = _features(samples * 0.1)[0, 50:, len(PROSODY) :]
    same = torch.nn.functional.cosine_similarity(code, quiet, dim=-1)
    other = torch.nn.functional.cosine_similarity(code[:-10], code[10:], dim=-1)
    assert same.median() > 0.97
    assert other.median() < 0.6


def test_missing_weights_are_reported() -> None:
    with pytest.raises(AssetError, match="missing"):
        ContrastiveEncoder(weights="no_such_weights")


def test_the_network_streams_as_it_runs_whole() -> None:
    """With random weights, batch of three, so that nothing of the shipped ones hides a slip."""
    torch.manual_seed(1)
    model = LipCodeModel(width=24).eval()
    mel = torch.randn(3, 4 * 9, 64)
    state = model.init_state(3)
    with torch.no_grad():
        whole = model(mel)
        for s in range(9):
            code, *rest = model.advance(mel[:, 4 * s : 4 * s + 4], *state)
            state = (rest[0], rest[1], rest[2])
            torch.testing.assert_close(code, whole[:, s], atol=1e-4, rtol=1e-4)
