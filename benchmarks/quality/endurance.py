"""Ten minutes of whatever a microphone may bring, one frame at a time: does the face stay well?

    python -m benchmarks.quality.endurance [--recipe NAME ... | all] [--minutes 10]

The input is a round of pieces, repeated until the time is up: a bundled voice as it is, digital
silence, chords (synthesised music), a quiet room, voice driven into clipping, white noise, voice over
noise, a hum, voice whose packets are lost in the middle of words, a microphone that is dead for
seconds. It needs no data besides the package.

Counted per recipe:

* **NaN**: frames with a value that is not finite.
* **freeze**: stretches of two seconds and more in which no angle of the head moves by 0.1 deg.
* **mouth in silence, room, noise, dead**: the most any lip column leaves its rest, half a second after
  the piece began; must stay under 0.05. Hum and music are given beside them: a tone is near to a
  voice, and a mouth that opens now and then to it is a fault, but not one of silence.
* **drift**: distance of the median head of the last minute from that of the first, deg and
  inter-ocular distances.
* **late share**: share of frames whose encoder and sampler took over 40 ms, and their p99.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.driving import open_recipe, recipe_names
from benchmarks.records import append_line
from engine.config import asset_path
from engine.pipeline import Pipeline
from engine.samplers.factors import LIPS
from engine.train.speech_data import load_audio
from engine.types import MOTION, SAMPLE_RATE, AudioChunk, Cond

__all__ = ["Endured", "Piece", "endure", "freezes", "judge", "main", "programme"]

Audio = NDArray[np.float32]
Floats = NDArray[np.float64]

_FRAME = 640
QUIET = ("silence", "room", "noise", "dead")
"""Pieces in which the mouth must stay shut."""
TONAL = ("hum", "music")
"""Pieces in which nobody speaks either, but that sound like a voice at times."""
_SETTLE_FRAMES = 13
_FREEZE_FRAMES = 50
_STILL_DEG = 0.1


@dataclass(frozen=True)
class Piece:
    """``kind`` of sound and its whole frames of samples."""

    kind: str
    samples: Audio


def _chords(seconds: float) -> Audio:
    """A slow progression of three-voice chords with partials and a soft attack."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = np.zeros(len(t))
    for k, root in enumerate((220.0, 174.6, 130.8, 196.0) * 8):
        inside = (t >= k * 1.2) & (t < (k + 1) * 1.2)
        local = t[inside] - k * 1.2
        swell = np.minimum(local / 0.05, 1.0) * np.exp(-1.2 * local)
        for interval in (1.0, 1.26, 1.5):
            for partial, strength in ((1, 1.0), (2, 0.5), (3, 0.25), (4, 0.12)):
                sound[inside] += strength * swell * np.sin(2 * np.pi * root * interval * partial * local)
    return (0.12 * sound).astype(np.float32)


def _lost_packets(voice: Audio, noise: np.random.Generator) -> Audio:
    """``voice`` with 20 to 120 ms missing two to three times a second."""
    broken = voice.copy()
    at = 0
    while at < len(broken):
        at += int(noise.uniform(0.2, 0.6) * SAMPLE_RATE)
        broken[at : at + int(noise.uniform(0.02, 0.12) * SAMPLE_RATE)] = 0.0
    return broken


def programme(voices: list[Audio], seconds: float, seed: int = 0) -> list[Piece]:
    """Pieces that last ``seconds`` together (rounded up to a whole piece)."""
    noise = np.random.default_rng(seed)
    pieces: list[Piece] = []
    total, turn = 0, 0
    while total < seconds * SAMPLE_RATE:
        for kind, sound in _round(voices[turn % len(voices)], noise).items():
            if total < seconds * SAMPLE_RATE:
                samples = np.asarray(sound, np.float32)[: len(sound) // _FRAME * _FRAME]
                pieces.append(Piece(kind, samples))
                total += len(samples)
        turn += 1
    return pieces


def _round(voice: Audio, noise: np.random.Generator) -> dict[str, Audio]:
    """Every kind of sound once."""
    silence = np.zeros(4 * SAMPLE_RATE, np.float32)
    return {
        "voice": voice,
        "silence": silence,
        "music": _chords(6.0),
        "room": _white(4.0, 0.002, noise),
        "clipped": np.clip(12.0 * voice, -1.0, 1.0),
        "noise": _white(5.0, 0.05, noise),
        "noisy voice": voice + _white(len(voice) / SAMPLE_RATE, 0.02, noise)[: len(voice)],
        "hum": _hum(4.0),
        "broken voice": _lost_packets(voice, noise),
        "dead": silence[: 3 * SAMPLE_RATE],
    }


def _white(seconds: float, level: float, noise: np.random.Generator) -> Audio:
    count = int(np.ceil(seconds * SAMPLE_RATE))
    return (level * noise.standard_normal(count)).astype(np.float32)


def _hum(seconds: float) -> Audio:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return np.asarray(0.05 * sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 7)), np.float32)


@dataclass(frozen=True)
class Endured:
    """What became of one recipe; ``mouth``: per kind without a voice, the most any lip column moved."""

    recipe: str
    minutes: float
    nan_frames: int
    freezes: int
    mouth: dict[str, float]
    drift_deg: float
    drift_iod: float
    speech_opening: float
    p99_ms: float
    late_share: float

    @property
    def holds(self) -> bool:
        """No NaN, no freeze, mouth shut where nobody speaks, head within 3 degrees of where it began."""
        shut = all(self.mouth[kind] < 0.05 for kind in QUIET if kind in self.mouth)
        return self.nan_frames == 0 and self.freezes == 0 and shut and self.drift_deg < 3.0


def _stream(pipeline: Pipeline, samples: Audio) -> tuple[Floats, Floats]:
    """Motion [T, 72] delivered frame by frame, and the milliseconds each frame took [T]."""
    state = pipeline.init_state(1, Cond.default(1))
    parts, took = [], []
    with torch.inference_mode():
        for start in range(0, len(samples), _FRAME):
            chunk = AudioChunk(start, torch.from_numpy(samples[start : start + _FRAME])[None])
            began = time.perf_counter()
            parts.append(pipeline.motion_step(chunk, state).data)
            took.append(1000.0 * (time.perf_counter() - began))
        parts.append(pipeline.sampler.step(pipeline.encoder.drain(state.encoder), state.sampler).data)
        parts.append(pipeline.sampler.drain(state.sampler).data)
    return np.asarray(torch.cat(parts, dim=1)[0].numpy(), np.float64), np.array(took)


def freezes(motion: Floats) -> int:
    """How often the head of ``motion`` [T, 72] stays within :data:`_STILL_DEG` for two seconds or longer."""
    if len(motion) < _FREEZE_FRAMES:
        return 0
    angle = np.degrees(motion[:, MOTION.rotation])
    windows = np.lib.stride_tricks.sliding_window_view(angle, _FREEZE_FRAMES, axis=0)
    still = (windows.max(axis=-1) - windows.min(axis=-1)).max(axis=1) < _STILL_DEG
    return int((np.diff(np.concatenate([[0], still.astype(np.int8)])) == 1).sum())


def judge(name: str, motion: Floats, took_ms: Floats, pieces: list[Piece]) -> Endured:
    """Count what ``motion`` [T, 72] did during ``pieces``."""
    bad = ~np.isfinite(motion).all(axis=1)
    clean = np.nan_to_num(motion)
    # The condition's rest is a mouth at 0, so what a lip column shows is how far it left its rest.
    mouth: dict[str, float] = {}
    opening = 0.0
    start = 0
    for piece in pieces:
        stop = start + len(piece.samples) // _FRAME
        inside = clean[min(start + _SETTLE_FRAMES, stop) : stop, LIPS]
        most = float(np.abs(inside).max(initial=0.0))
        if piece.kind in (*QUIET, *TONAL):
            mouth[piece.kind] = max(mouth.get(piece.kind, 0.0), most)
        elif piece.kind == "voice":
            opening = max(opening, most)
        start = stop
    minute = min(1500, len(clean) // 2)
    moved = np.median(clean[-minute:, MOTION.pose], axis=0) - np.median(clean[:minute, MOTION.pose], axis=0)
    return Endured(
        recipe=name,
        minutes=round(len(motion) / 1500, 2),
        nan_frames=int(bad.sum()),
        freezes=freezes(clean),
        mouth={kind: round(value, 4) for kind, value in mouth.items()},
        drift_deg=round(float(np.degrees(np.abs(moved[:3])).max()), 3),
        drift_iod=round(float(np.abs(moved[3:]).max()), 4),
        speech_opening=round(opening, 3),
        p99_ms=round(float(np.percentile(took_ms, 99)), 2),
        late_share=round(float((took_ms > 40.0).mean()), 5),
    )


def endure(pipeline: Pipeline, minutes: float, seed: int = 0) -> Endured:
    """Run ``pipeline`` through ``minutes`` of the programme."""
    voices = [load_audio(asset_path(f"demo/voice_{name}.wav")) for name in "ab"]
    pieces = programme(voices, 60.0 * minutes, seed)
    samples = np.concatenate([piece.samples for piece in pieces])
    motion, took = _stream(pipeline, samples)
    return judge(pipeline.name, motion, took, pieces)


def table(results: list[Endured]) -> str:
    """One line a recipe."""
    kinds = (*QUIET, *TONAL)
    lines = [f"{'recipe':<24}{'min':>6}{'NaN':>6}{'freeze':>8}" + "".join(f"{k:>9}" for k in kinds)]
    lines[0] += f"{'drift deg':>11}{'iod':>8}{'p99 ms':>9}{'late':>9}  holds"
    for e in results:
        mouths = "".join(f"{e.mouth.get(k, float('nan')):>9.3f}" for k in kinds)
        lines.append(
            f"{e.recipe[:23]:<24}{e.minutes:>6.1f}{e.nan_frames:>6}{e.freezes:>8}{mouths}"
            f"{e.drift_deg:>11.2f}{e.drift_iod:>8.3f}{e.p99_ms:>9.1f}{e.late_share:>9.4f}  {e.holds}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 if a recipe fails."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.endurance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", nargs="+", default=["default"], help="names, mixtures, or all")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--results", type=Path, default=None, help="append the JSON line to this file")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = recipe_names() if options.recipe == ["all"] else options.recipe
    results = [endure(open_recipe(name), options.minutes) for name in names]
    print(table(results))
    record = {"benchmark": "endurance", "machine": platform.machine(), "rows": [asdict(e) for e in results]}
    line = json.dumps(record)
    if options.results is not None:
        append_line(options.results, line)
    print(line)
    return 0 if all(e.holds for e in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
