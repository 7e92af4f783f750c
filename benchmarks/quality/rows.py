"""All measures of one performer on one set of people: a recipe, a baseline, or the real person.

A performer is whatever gives motion for a clip: :class:`Performed` holds what it gave. The same
functions measure all of them, so that a number of a recipe can be read beside the same number of the
real person, a still face, a mouth that follows loudness, and a ridge regression.

Mouth correlation, lag, amplitude and closures compare ``openings``; everything else the motion. For
recipes ``openings`` come from a neutral face with seed 0 (as :mod:`benchmarks.quality.lips`
measures it), the motions start from the person's own rest, with seeds 0, 1, 2, ...; head and
blink statistics take all seeds, distances to the real person the mean over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import Events, agreement, closures, match_events
from benchmarks.quality.diversity import head_diversity, pairwise, seed_spread, segments
from benchmarks.quality.head import (
    amount,
    angles,
    audio_beats,
    band_power,
    beat_alignment,
    head_beats,
    head_strokes,
    jitter,
    spectral_distance_db,
    spectrum,
)
from benchmarks.quality.lips import speech_frames
from benchmarks.quality.mouth import lip_points, lmd, lmd_moving, lve_mm
from benchmarks.quality.subjects import Subject
from benchmarks.quality.upper import BlinkCount, blinks, eye_features, ssim, variance
from engine.samplers.factors import LIPS
from engine.types import MOTION

__all__ = ["AXES", "ClipRow", "Performed", "Row", "clip_rows", "interval_of_means", "measure", "summary"]

Floats = NDArray[np.float64]
Row = dict[str, float]

AXES = ("pitch", "yaw", "roll")


@dataclass(frozen=True)
class Performed:
    """What one performer made of one clip: ``motions`` [S, T, 72] and the mouth ``opening`` [T].

    ``flat`` = the mouth does not move, so that correlation and closures mean nothing.
    """

    motions: Floats
    opening: Floats
    flat: bool = False


@dataclass(frozen=True)
class ClipRow:
    """One clip under one performer: its name and its numbers; NaN where a measure does not apply."""

    clip: str
    free_talk: bool
    values: Row
    events: Events


def _mouth(subject: Subject, made: Performed) -> tuple[Row, Events]:
    length = min(len(subject.opening), len(made.opening))
    real, opening = subject.opening[:length], made.opening[:length]
    talking = np.where(speech_frames(subject.clip)[:length], real, np.nan)
    found = agreement(opening, real)
    lag = 0 if made.flat else round(found.lag_ms / 40.0)
    nothing = float("nan")
    values = {
        "r": nothing if made.flat else found.r,
        "r_speech": nothing if made.flat else agreement(opening, talking).r,
        "lag_ms": nothing if made.flat else found.lag_ms,
        "amplitude": nothing if made.flat else found.amplitude,
    }
    theirs = subject.motion
    distances = {
        "lmd_m": [lmd(m, theirs, lag) for m in made.motions],
        "lmd_m_no_lag": [lmd(m, theirs) for m in made.motions],
        "lmd_m_moving": [lmd_moving(m, theirs, lag) for m in made.motions],
        "lve_mm": [lve_mm(m, theirs, lag) for m in made.motions],
    }
    values |= {name: _mean(found) for name, found in distances.items()}
    return values, match_events(closures(opening), closures(real))


def _spontaneous(subject: Subject, made: Performed) -> Row:
    eyes = eye_features(subject.motion)
    pose = subject.motion[:, MOTION.pose]
    onsets = audio_beats(subject.clip.audio)
    values: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        values.setdefault(name, []).append(value)

    for motion in made.motions:
        features = eye_features(motion)
        add("ssim_eyes", ssim(features, eyes))
        add("ssim_pose", ssim(motion[:, MOTION.pose], pose))
        add("var_eyes_e3", 1e3 * variance(features))
        add("var_pose_e3", 1e3 * variance(motion[:, MOTION.pose]))
        curve = angles(motion)
        moved = amount(curve)
        for k, axis in enumerate(AXES):
            add(f"deviation_{axis}", float(moved.deviation[k]))
            add(f"speed_{axis}", float(moved.speed[k]))
            add(f"raw_speed_{axis}", float(moved.raw_speed[k]))
        alignment, gain = beat_alignment(head_beats(curve), onsets, len(curve))
        add("beat_alignment", alignment)
        add("beat_gain", gain)
        add("stroke_gain", beat_alignment(head_strokes(curve), onsets, len(curve))[1])
        add("jitter_head_deg", jitter(curve))
        add("jitter_lips", 100.0 * jitter(lip_points(motion).reshape(len(motion), -1)))
        add("jitter_brows", 100.0 * jitter(features[:, 1:]))
    return {name: _mean(found) for name, found in values.items()}


def clip_rows(subjects: list[Subject], performed: list[Performed]) -> list[ClipRow]:
    """Every clip's own numbers."""
    rows = []
    for subject, made in zip(subjects, performed, strict=True):
        mouth, events = _mouth(subject, made)
        rows.append(ClipRow(subject.name, subject.free_talk, mouth | _spontaneous(subject, made), events))
    return rows


def _mean(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _median(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.median(known)) if known else float("nan")


def summary(rows: list[ClipRow]) -> Row:
    """Means over clips (and medians of r, amplitude); closures counted over all clips."""
    out: Row = {"clips": float(len(rows))}
    if not rows:
        return out
    for name in rows[0].values:
        out[name] = _mean([row.values[name] for row in rows])
    for name in ("r", "amplitude", "lmd_m"):
        out[f"{name}_median"] = _median([row.values[name] for row in rows])
    events = sum((row.events for row in rows), Events(0, 0, 0))
    out["closure_f1"] = float("nan") if np.isnan(out["r"]) else events.f1
    for axis in AXES:
        out[f"deviation_{axis}_median"] = _median([row.values[f"deviation_{axis}"] for row in rows])
    return out


def _pooled(subjects: list[Subject], performed: list[Performed]) -> Row:
    """Measures that need many clips at once: spectrum, blinks, diversity."""
    hertz, real = spectrum([angles(s.motion) for s in subjects])
    curves = [motion for made in performed for motion in made.motions]
    _, power = spectrum([angles(m) for m in curves])
    low, middle, high = band_power(hertz, power)
    counted = sum((blinks(m) for m in curves), BlinkCount(0, ()))
    # One performance a clip, so that rows with one and with many seeds compare alike.
    first = [made.motions[0] for made in performed]
    pieces = segments(first, [s.rest for s in subjects])
    spread = seed_spread([made.motions for made in performed])
    return {
        "power_0_05": low,
        "power_05_2": middle,
        "power_2_5": high,
        "spectral_distance_db": spectral_distance_db(hertz, power, real),
        "blinks": float(len(counted.durations_ms)),
        "blinks_per_minute": counted.per_minute,
        "blink_ms": counted.median_ms,
        "head_diversity": head_diversity(curves),
        "dvt_all": pairwise(pieces),
        "dvt_lips": pairwise(pieces[:, :, LIPS]),
        "seeds_lips": spread["lips"],
        "seeds_upper": spread["upper"],
        "seeds_head_deg": spread["head_deg"],
    }


def measure(subjects: list[Subject], performed: list[Performed]) -> tuple[dict[str, Row], list[ClipRow]]:
    """({"all": ..., "free_talk": ..., "read": ...}, clips): every group that has clips."""
    rows = clip_rows(subjects, performed)
    groups: dict[str, Row] = {}
    for name, wanted in (("all", (True, False)), ("free_talk", (True,)), ("read", (False,))):
        chosen = [k for k, s in enumerate(subjects) if s.free_talk in wanted]
        if chosen and (name == "all" or len(chosen) < len(subjects)):
            pooled = _pooled([subjects[k] for k in chosen], [performed[k] for k in chosen])
            groups[name] = summary([rows[k] for k in chosen]) | pooled
    return groups, rows


def interval_of_means(
    subjects: list[Subject], performed: list[Performed], group: str, draws: int = 1000
) -> dict[str, tuple[float, float]]:
    """90 % bootstrap range over clips of head amounts and blink rate: how well so few people tell them."""
    wanted = {"all": (True, False), "free_talk": (True,), "read": (False,)}[group]
    chosen = [p for s, p in zip(subjects, performed, strict=True) if s.free_talk in wanted]
    moved = [amount(angles(p.motions[0])) for p in chosen]
    counted = [blinks(p.motions[0]) for p in chosen]
    noise = np.random.default_rng(0)
    picks = noise.integers(0, len(chosen), (draws, len(chosen)))
    found = {}
    for k, axis in enumerate(AXES):
        found[f"deviation_{axis}"] = _range(np.array([m.deviation[k] for m in moved])[picks].mean(axis=1))
        found[f"speed_{axis}"] = _range(np.array([m.speed[k] for m in moved])[picks].mean(axis=1))
    number = np.array([len(c.durations_ms) for c in counted])[picks].sum(axis=1)
    frames = np.array([c.frames for c in counted])[picks].sum(axis=1)
    found["blinks_per_minute"] = _range(1500.0 * number / np.maximum(frames, 1))
    return found


def _range(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [5, 95])
    return float(low), float(high)
