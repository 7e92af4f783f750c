"""How well the generated mouth follows real people's mouths.

    python -m benchmarks.quality.lips --data DIR [--tracks CACHE] [--out out] [--split test]

For every talking clip of the split: track the real person, drive the encoder and the speech sampler
with the same audio, and compare both mouth openings at 25 frames/s, the clip's own A/V offset taken
out (``talking/offsets.csv``). The generated opening is measured on the face basis's landmarks with
the neutral identity, by the formula used for the real one. Loudness alone and a ridge regression
from log-mel (trained on the training speakers) are measured the same way, in the same table.

* **r**: Pearson correlation at the best lag within ±80 ms of the clip's offset, mean over clips.
* **speech**: the same over frames near sound only. In pauses people leave their mouths open or
  breathe in, unheard; this engine shuts the mouth in silence by design and pays for it in **r**.
* **amplitude**: ratio of standard deviations, generated to real (units: inter-ocular distance;
  median over clips; loudness and ridge have no amplitude of their own and show none).
* **F1**: brief closures (:func:`benchmarks.quality.closures`), matched one to one within ±80 ms,
  counted over all clips.

Prints a table and, last, one JSON line; writes a plot of the curves to ``out/lips.png``.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import Agreement, Events, agreement, closures, match_events
from benchmarks.quality.baselines import fit_ridge, loudness
from benchmarks.records import append_line
from engine.pipeline import Pipeline
from engine.train.motion_data import Clip, clip_items, load_clip
from engine.train.mouth_geometry import opening_of
from engine.train.provenance import commit
from engine.train.tracks import clip_name, track_clip
from engine.types import AudioChunk, Cond

__all__ = ["Score", "drive", "main", "score", "summarise"]

Floats = NDArray[np.float64]
METHODS = ("loudness", "ridge", "ours")
SPLITS = ("test", "test_seen_speaker")
READ = ("grid/", "grid_s1/", "elospheres")
"""Clips of sentence corpora; all others are free talk."""


@dataclass(frozen=True)
class Score:
    """One clip under one method."""

    clip: str
    split: str
    method: str
    agreement: Agreement
    r_speech: float
    events: Events


def drive(pipeline: Pipeline, audio: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Motion [T, 72] of a whole clip, through the streaming path."""
    with torch.inference_mode():
        state = pipeline.init_state(1, Cond.default(1, seed=seed))
        x = AudioChunk(0, torch.from_numpy(audio)[None])
        parts = [pipeline.motion_step(x, state).data]
        features = pipeline.encoder.drain(state.encoder)
        parts.append(pipeline.sampler.step(features, state.sampler).data)
        parts.append(pipeline.sampler.drain(state.sampler).data)
    return np.asarray(torch.cat(parts, dim=1)[0].numpy())


def speech_frames(clip: Clip) -> NDArray[np.bool_]:
    """Frames within 120 ms of sound at most 25 dB under the clip's loud parts, bool [T]."""
    level_db = 10.0 / np.log(10.0) * loudness(clip)
    loud = level_db > np.percentile(level_db, 95) - 25.0
    return np.convolve(loud, np.ones(7), mode="same") > 0


def score(method: str, clip: Clip, generated: Floats) -> Score:
    """Compare a generated opening [T] with the clip's."""
    real = np.where(clip.good, clip.opening, np.nan).astype(np.float64)
    length = min(len(real), len(generated))
    real, made = real[:length], generated[:length].astype(np.float64)
    talking = np.where(speech_frames(clip)[:length], real, np.nan)
    return Score(
        clip=clip.item.name,
        split=clip.item.split,
        method=method,
        agreement=agreement(made, real),
        r_speech=agreement(made, talking).r,
        events=match_events(closures(made), closures(real)),
    )


def summarise(scores: list[Score]) -> dict[str, object]:
    """Means over clips of one method and split; closure counts added up."""
    r = [s.agreement.r for s in scores]
    total = sum((s.events for s in scores), Events(0, 0, 0))
    amplitude = float(np.median([s.agreement.amplitude for s in scores]))
    return {
        "clips": len(scores),
        "r_mean": round(float(np.mean(r)), 4),
        "r_median": round(float(np.median(r)), 4),
        "r_min": round(float(np.min(r)), 4),
        "r_max": round(float(np.max(r)), 4),
        "r_speech_mean": round(float(np.mean([s.r_speech for s in scores])), 4),
        "lag_ms_mean": round(float(np.mean([s.agreement.lag_ms for s in scores])), 1),
        "amplitude_median": round(amplitude, 3) if scores[0].method == "ours" else None,
        "closure_f1": round(total.f1, 4),
        "closures": asdict(total),
    }


def read_clips(data: Path, tracks: Path, splits: tuple[str, ...]) -> tuple[list[Clip], list[Clip]]:
    """(clips of ``splits``, clips the ridge may train on); tracks what is not yet in ``tracks``."""
    tracks.mkdir(parents=True, exist_ok=True)
    measured: list[Clip] = []
    training: list[Clip] = []
    for item in clip_items(data):
        if item.split not in splits and not item.trains:
            continue
        target = tracks / clip_name(data, data / "talking" / item.name)
        if not target.is_file():
            track_clip(data / "talking" / item.name, target)
        clip = load_clip(item, tracks)
        if clip is not None:
            (measured if item.split in splits else training).append(clip)
    return measured, training


def build_pipeline() -> Pipeline:
    """The shipped encoder and sampler, no animator."""
    from engine.encoders.ppg import FEATURES, PpgEncoder
    from engine.samplers.speech import SpeechSampler

    encoder = PpgEncoder()
    return Pipeline(encoder, SpeechSampler(FEATURES, encoder.spec.output), None, name="lips")


def plot(path: Path, clips: list[Clip], made: dict[str, Floats], scores: list[Score]) -> None:
    """Real and generated curves of every clip, standardised real range, one panel each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    r = {s.clip: s.agreement.r for s in scores if s.method == "ours"}
    rows = (len(clips) + 2) // 3
    figure, axes = pyplot.subplots(rows, 3, figsize=(18, 1.9 * rows), squeeze=False)
    for axis, clip in zip(axes.flat, clips, strict=False):
        seconds = np.arange(len(clip.opening)) / 25
        axis.plot(seconds, np.where(clip.good, clip.opening, np.nan), "k", lw=0.9, label="real")
        axis.plot(seconds[: len(made[clip.item.name])], made[clip.item.name], "C1", lw=0.9, label="generated")
        axis.set_title(f"{clip.item.name}  r = {r[clip.item.name]:.2f}", fontsize=7)
        axis.set_xlim(0, min(10, seconds[-1]))
        axis.tick_params(labelsize=6)
    axes.flat[0].legend(fontsize=6)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def print_table(scores: list[Score]) -> None:
    """Per clip: r of every method, ours' lag, amplitude and closures."""
    by_clip: dict[str, dict[str, Score]] = {}
    for s in scores:
        by_clip.setdefault(s.clip, {})[s.method] = s
    print(f"{'clip':<44}{'loudness':>9}{'ridge':>7}{'ours':>7}{'lag':>6}{'ampl.':>7}  closures m/g/r")
    for name, row in by_clip.items():
        ours = row["ours"]
        counts = f"{ours.events.matched}/{ours.events.generated}/{ours.events.real}"
        values = "".join(f"{row[m].agreement.r:>{w}.2f}" for m, w in zip(METHODS, (9, 7, 7), strict=True))
        print(
            f"{name[:43]:<44}{values}{ours.agreement.lag_ms:>6.0f}{ours.agreement.amplitude:>7.2f}  {counts}"
        )


def measure(
    measured: list[Clip], training: list[Clip], pipeline: Pipeline
) -> tuple[list[Score], dict[str, Floats]]:
    """Every method on every clip, and our curves by clip."""
    ridge = fit_ridge(training)
    made: dict[str, Floats] = {}

    def ours(clip: Clip) -> Floats:
        made[clip.item.name] = opening_of(drive(pipeline, clip.audio)).astype(np.float64)
        return made[clip.item.name]

    methods: dict[str, Callable[[Clip], Floats]] = {"loudness": loudness, "ridge": ridge, "ours": ours}
    return [score(m, clip, methods[m](clip)) for clip in measured for m in METHODS], made


def report(scores: list[Score], splits: list[str]) -> dict[str, object]:
    """Print and return the summary rows: each split, then its free talk apart from read sentences.

    Clips of sentence corpora begin and end in silence, which alone correlates; free talk is harder.
    """
    summary: dict[str, object] = {"benchmark": "lips", "commit": commit(), "machine": platform.machine()}
    print(f"\n{'rows':<28}{'clips':>6}{'r':>8}{'median':>8}{'speech':>8}{'lag ms':>8}{'ampl.':>7}{'F1':>7}")
    for split in splits:
        groups = {
            split: [s for s in scores if s.split == split],
            f"{split}_free_talk": [s for s in scores if s.split == split and not s.clip.startswith(READ)],
        }
        for name, members in groups.items():
            for method in METHODS:
                chosen = [s for s in members if s.method == method]
                if not chosen or (name != split and len(chosen) == len(groups[split]) // len(METHODS)):
                    continue
                row = summarise(chosen)
                summary[f"{name}/{method}"] = row
                amplitude = "" if row["amplitude_median"] is None else f"{row['amplitude_median']:.2f}"
                print(
                    f"{name + ' ' + method:<28}{row['clips']:>6}{row['r_mean']:>8.3f}{row['r_median']:>8.3f}"
                    f"{row['r_speech_mean']:>8.3f}"
                    f"{row['lag_ms_mean']:>8.0f}{amplitude:>7}{row['closure_f1']:>7.3f}"
                )
    print()
    return summary


def main() -> int:
    """Command line; exit status 1 if there is no clip to measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder that has MANIFEST.csv and talking/")
    parser.add_argument(
        "--tracks", type=Path, default=None, help="cache of tracked clips (default OUT/tracks)"
    )
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument(
        "--split", nargs="+", default=list(SPLITS), help="splits to measure (dev while developing)"
    )
    parser.add_argument("--results", type=Path, default=None, help="append the JSON line to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measured, training = read_clips(args.data, args.tracks or args.out / "tracks", tuple(args.split))
    if not measured:
        print(f"no clip of {args.split} under {args.data}")
        return 1
    scores, made = measure(measured, training, build_pipeline())
    print_table(scores)
    summary = report(scores, args.split)
    plot(args.out / "lips.png", measured, made, scores)
    line = json.dumps(summary)
    if args.results is not None:
        append_line(args.results, line)
    print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
