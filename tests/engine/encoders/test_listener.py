"""What all encoders share: pooled bands and the voice gate that needs no network."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.encoders.contrastive import FEATURES as CONTRASTIVE
from engine.encoders.listener import PROSODY, Heard, pool_bands, voice_of
from engine.encoders.mel import FEATURES as MEL
from engine.encoders.ppg import FEATURES as PPG


def _heard(loudness: float, snr: float, voicing: float, vad: float, lively: float) -> Heard:
    own = torch.tensor([[-3.0, loudness, snr, 0.0]])
    return Heard(own, own.clone(), torch.tensor([[voicing, 0.0, vad, lively]]))


def _voice(**changed: float) -> float:
    usual = {"loudness": -0.5, "snr": 2.0, "voicing": 0.9, "vad": 1.0, "lively": 1.0}
    return float(voice_of(_heard(**(usual | changed))))


def test_every_encoder_starts_with_the_same_columns() -> None:
    assert all(names[: len(PROSODY)] == PROSODY for names in (MEL, PPG, CONTRASTIVE))


def test_pooling_keeps_constants_and_the_order_of_bands() -> None:
    ramp = torch.arange(64.0).expand(2, 3, 64)
    pooled = pool_bands(ramp, 40)
    assert pooled.shape == (2, 3, 40)
    assert (pooled.diff(dim=-1) > 0).all()
    assert torch.equal(pool_bands(torch.ones(2, 64), 20), torch.ones(2, 20))


def test_voice_needs_level_change_and_two_witnesses() -> None:
    assert _voice() > 0.95
    assert _voice(lively=0.0) == 0.0
    assert _voice(loudness=-4.0) == 0.0
    assert _voice(voicing=0.0, vad=0.0, snr=0.2) < 0.15
    assert _voice(voicing=0.0) > 0.5  # an unvoiced consonant


def test_a_loud_next_frame_bridges_a_closure() -> None:
    closed = _heard(-4.0, 0.0, 0.3, 1.0, 1.0)
    after: Tensor = torch.tensor([[-3.0, -0.5, 2.0, 0.0]])
    assert float(voice_of(closed)) == 0.0
    assert float(voice_of(Heard(closed.own, after, closed.late))) > 0.5
