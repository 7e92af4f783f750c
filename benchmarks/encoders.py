"""The audio encoders side by side: time of one 40 ms frame, and what opens their voice gate.

    python -m benchmarks.encoders [--frames N] [--no-record]

Every encoder hears the same voice in the same run, frame about with the others, on one thread, so that
whatever else the machine does disturbs all alike. ``wall`` is what a stream waits, ``cpu`` what the
thread itself used. The second table: share of frames whose ``voice`` is above a half, per sound, and
how often an encoder agrees with ``ppg`` about it. One JSON line goes to benchmarks/results/encoders.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.records import append_line
from engine.config import asset_path
from engine.encoders.contrastive import ContrastiveEncoder
from engine.encoders.listener import PROSODY, Listener
from engine.encoders.mel import MelEncoder
from engine.encoders.ppg import PpgEncoder
from engine.train.provenance import commit
from engine.types import AudioChunk, Cond

__all__ = ["costs", "main", "sounds", "voices"]

Floats = NDArray[np.float32]

RESULTS = Path(__file__).parent / "results" / "encoders.jsonl"
_HOP = 640
_WARM = 25
_VOICE = PROSODY.index("voice")


def bundled(name: str) -> Floats:
    """A synthetic voice of the package, float32 [N] at 16 kHz."""
    with wave.open(str(asset_path(f"demo/{name}"))) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return data.astype(np.float32) / np.float32(32768)


def sounds(seconds: float = 8.0) -> dict[str, Floats]:
    """What the gate is tried on, at −25 dBFS; the first two are speech, the rest must not open it."""
    noise = np.random.default_rng(0)
    t = np.arange(int(seconds * 16_000)) / 16_000
    pink = np.cumsum(noise.standard_normal(t.size))
    pink -= np.convolve(pink, np.full(400, 1 / 400), "same")
    notes = 220.0 * 2.0 ** (noise.choice([0, 3, 5, 7, 10, 12], int(seconds * 4) + 1) / 12)
    note = notes[(t * 4).astype(int)]
    pluck = np.exp(-6.0 * (t * 4 % 1.0) / 4)
    made = {
        "silence": np.zeros(t.size),
        "hiss": noise.standard_normal(t.size),
        "rumble": pink,
        "hum": sum(np.sin(2 * np.pi * 50 * k * t + k) / k for k in range(1, 16)),
        "chord": sum(np.sin(2 * np.pi * f * t) for f in (220, 277, 330)),
        "plucked notes": pluck * sum(np.sin(2 * np.pi * k * note * t) / k for k in range(1, 6)),
        "knocks": noise.standard_normal(t.size) * np.exp(-60.0 * (t * 1.5 % 1.0)),
    }
    voices = {f"speech {name[:-4]}": bundled(name) for name in ("voice_a.wav", "voice_b.wav")}
    level = {k: np.asarray(v / max(float(np.std(v)), 1e-9) * 10**-1.25, np.float32) for k, v in made.items()}
    return voices | level


def encoders() -> dict[str, Listener]:
    """All that ship."""
    return {"mel": MelEncoder(), "ppg": PpgEncoder(), "contrastive": ContrastiveEncoder()}


def _quantiles(seconds: list[float]) -> dict[str, float]:
    names = ("p50", "p95", "p99")
    values = np.quantile(np.array(seconds) * 1000.0, (0.5, 0.95, 0.99))
    return {name: round(float(value), 3) for name, value in zip(names, values, strict=True)}


def costs(
    stages: dict[str, Listener], samples: Floats, frames: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds of one ``step`` of one frame, by encoder: wall and CPU quantiles."""
    looped = np.resize(samples, frames * _HOP)
    states = {name: stage.init_state(1, Cond.default(1)) for name, stage in stages.items()}
    wall: dict[str, list[float]] = {name: [] for name in stages}
    cpu: dict[str, list[float]] = {name: [] for name in stages}
    for k in range(frames):
        chunk = AudioChunk(k * _HOP, torch.from_numpy(looped[k * _HOP : (k + 1) * _HOP])[None])
        for name, stage in stages.items():
            began, used = time.perf_counter(), time.thread_time()
            stage.step(chunk, states[name])
            if k >= _WARM:
                wall[name].append(time.perf_counter() - began)
                cpu[name].append(time.thread_time() - used)
    return {name: {"wall": _quantiles(wall[name]), "cpu": _quantiles(cpu[name])} for name in stages}


def voices(stages: dict[str, Listener]) -> dict[str, dict[str, dict[str, float]]]:
    """Per sound and encoder: share of frames with ``voice`` over a half, agreement with ``ppg``."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for sound, samples in sounds().items():
        chunk = AudioChunk(0, torch.from_numpy(samples[: len(samples) // _HOP * _HOP])[None])
        said = {
            name: (stage.forward(chunk, Cond.default(1))[0, _WARM:, _VOICE] > 0.5).numpy()
            for name, stage in stages.items()
        }
        table[sound] = {
            name: {"open": round(float(on.mean()), 3), "agrees": round(float((on == said["ppg"]).mean()), 3)}
            for name, on in said.items()
        }
    return table


def _print(cost: dict[str, Any], gate: dict[str, Any]) -> None:
    print(
        f"{'ms a frame':16s} {'wall p50':>9s} {'p95':>7s} {'p99':>7s} {'cpu p50':>9s} {'p95':>7s} {'p99':>7s}"
    )
    for name, parts in cost.items():
        row = [parts[kind][q] for kind in ("wall", "cpu") for q in ("p50", "p95", "p99")]
        widths = (9, 7, 7, 9, 7, 7)
        print(f"{name:16s} " + " ".join(f"{v:{w}.2f}" for v, w in zip(row, widths, strict=True)))
    print("\nvoice > 0.5, share of frames (agreement with ppg)")
    for sound, row in gate.items():
        print(f"{sound:16s} " + "  ".join(f"{n} {v['open']:.2f} ({v['agrees']:.2f})" for n, v in row.items()))


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1500, help="frames to time (25 a second)")
    parser.add_argument("--no-record", action="store_true", help="print only")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    stages = encoders()
    with torch.no_grad():
        cost, gate = costs(stages, bundled("voice_a.wav"), args.frames), voices(stages)
    _print(cost, gate)
    if not args.no_record:
        about: dict[str, Any] = {"benchmark": "encoders", "commit": commit(), "machine": platform.machine()}
        about |= {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "frames": args.frames}
        append_line(RESULTS, json.dumps(about | {"ms": cost, "voice": gate}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
