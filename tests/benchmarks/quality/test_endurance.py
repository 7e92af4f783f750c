"""What the endurance run counts, on motion broken on purpose; and the shipped face for half a minute."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.driving import open_recipe
from benchmarks.quality.endurance import QUIET, TONAL, Piece, endure, freezes, judge, programme
from engine.types import MOTION

JAW = MOTION.index("jawOpen")


def _swaying(frames: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    motion = np.zeros((frames, 72))
    motion[:, MOTION.rotation.start] = np.radians(2.0) * np.sin(np.arange(frames) / 20)
    return motion


def _piece(kind: str, frames: int) -> Piece:
    return Piece(kind, np.zeros(frames * 640, np.float32))


def test_a_swaying_head_with_a_shut_mouth_holds() -> None:
    pieces = [_piece("voice", 100), _piece("silence", 100), _piece("noise", 100)]
    motion = _swaying(300)
    motion[:100, JAW] = 0.4
    found = judge("x", motion, np.full(300, 2.0), pieces)
    assert found.holds
    assert found.mouth == {"silence": 0.0, "noise": 0.0}
    assert found.speech_opening == 0.4
    assert found.p99_ms == 2.0


def test_a_mouth_that_talks_in_noise_fails_after_half_a_second() -> None:
    pieces = [_piece("noise", 100)]
    motion = _swaying(100)
    motion[:10, JAW] = 0.9
    assert judge("x", motion, np.ones(100), pieces).holds
    motion[50, JAW] = 0.3
    found = judge("x", motion, np.ones(100), pieces)
    assert found.mouth["noise"] == 0.3
    assert not found.holds


def test_nan_freeze_and_drift_are_seen() -> None:
    pieces = [_piece("voice", 600)]
    broken = _swaying(600)
    broken[7, 3] = np.nan
    assert judge("x", broken, np.ones(600), pieces).nan_frames == 1
    frozen = _swaying(600)
    frozen[200:260] = frozen[200]
    assert freezes(_swaying(600)) == 0
    assert freezes(frozen) == 1
    assert not judge("x", frozen, np.ones(600), pieces).holds
    drifting = _swaying(600)
    drifting[:, MOTION.rotation.start + 1] = np.radians(np.linspace(0, 12, 600))
    assert judge("x", drifting, np.ones(600), pieces).drift_deg == pytest.approx(6.0, abs=0.3)


def test_the_programme_has_every_kind_in_whole_frames() -> None:
    voice = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    pieces = programme([voice], 60.0)
    assert {p.kind for p in pieces} >= {*QUIET, *TONAL, "voice", "clipped", "broken voice"}
    assert all(len(p.samples) % 640 == 0 and np.isfinite(p.samples).all() for p in pieces)
    assert sum(len(p.samples) for p in pieces) >= 60 * 16_000
    clipped = next(p for p in pieces if p.kind == "clipped")
    assert np.mean(np.abs(clipped.samples) == 1.0) > 0.3
    lost = next(p for p in pieces if p.kind == "broken voice")
    assert 0.05 < np.mean(lost.samples == 0.0) < 0.5


def test_the_shipped_face_holds_for_half_a_minute() -> None:
    found = endure(open_recipe("default"), 0.5)
    assert found.nan_frames == 0
    assert found.mouth["silence"] < 0.02
    assert found.speech_opening > 0.1
