"""What OSM-Net's motion half learns after its networks: the ball, the forced actions, the liveliness.

* **spread**: how real clips scatter about the centre that the voice predicts; the space is scaled so
  that ε = 1 holds 95 of 100 of them.
* **codes**: which bases turn the head one way when decoded; where none does so cleanly, a mixture of
  bases is optimised instead (a convex one, so it stays between clips that people made).
* **temper**: gain and pull with which sampled heads move as far and as fast as tracked free talkers of
  the training and dev splits.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.samplers.cues import VoiceCues, VoiceFrame
from engine.samplers.osm.audio import PAST_FRAMES, AudioMotion
from engine.samplers.osm.sampler import HeadMotion, Temper
from engine.samplers.osm.space import POSES, MotionSpace
from engine.samplers.osm.steering import DIRECTIONS, Actions
from engine.train.osm_motion import Moves, clips_of

__all__ = ["calibrate_temper", "find_codes", "fit_spread", "head_numbers", "roll_out"]

Floats = NDArray[np.float64]

_DIRECTIONS_KEPT = 16
_HELD = 0.95
_CLEAN, _REACH, _REACH_MOST = 0.9, float(np.radians(2.0)), float(np.radians(10.0))
"""A basis is used as it is if nine tenths of its turn is about one axis and it turns 2 to 10 degrees."""
_SEGMENT = 200
_APART = 3


def fit_spread(space: MotionSpace, audio: AudioMotion, moves: list[Moves]) -> Tensor:
    """Scale ``space`` so that ε = 1 holds 95 % of the clips of ``moves``; the spread [K, C] in it."""
    rest = []
    with torch.no_grad():
        for item in moves:
            x, pose = torch.from_numpy(item.features)[None], torch.from_numpy(item.pose)[None]
            clips = clips_of(audio, x, pose, space.config.clip, PAST_FRAMES + 1)
            own = space.mixed(space.attend(space.encode(clips.clip)).exp())
            heard = space.mixed(audio.weights(clips.memory, clips.pose, clips.steps).exp())
            rest.append((own - heard)[0])
        away = torch.cat(rest)
        factor = 1.0 / float(torch.quantile(away.norm(dim=1), _HELD))
        space.rescale(factor)
        _, lengths, axes = torch.linalg.svd(factor * away / len(away) ** 0.5, full_matrices=False)
    spread: Tensor = (lengths[:, None] * axes)[:_DIRECTIONS_KEPT].contiguous()
    return spread


def find_codes(space: MotionSpace, rounds: int = 400) -> tuple[Tensor, Tensor, dict[str, object]]:
    """Codes [7, C] of :data:`DIRECTIONS`, their reach [7] (rad), and which bases they are made of."""
    with torch.no_grad():
        ends = space.decode(space.bases)[:, -1, :3]
    codes, reach = [], []
    about: dict[str, object] = {}
    for name in DIRECTIONS:
        axis, sign = (
            (None, 0.0) if name == "still" else ("xyz".index(name[1]), 1.0 if name[2] == "+" else -1.0)
        )
        best, purity = _best_basis(ends, axis, sign)
        clean = purity >= _CLEAN and (axis is None or float(sign * ends[best, axis]) >= _REACH)
        if clean:
            code, made = space.bases[best].detach(), f"basis {best}"
        else:
            code, made = _optimised(space, axis, sign, rounds), f"mixture (nearest basis {best})"
        with torch.no_grad():
            end = space.decode(code)[-1, :3]
        codes.append(code)
        reach.append(0.0 if axis is None else abs(float(end[axis])))
        turned = [round(float(v), 2) for v in torch.rad2deg(end)]
        about[name] = {"code": made, "purity": round(purity, 3), "turn_deg": turned}
    return torch.stack(codes), torch.tensor(reach), about


def _best_basis(ends: Tensor, axis: int | None, sign: float) -> tuple[int, float]:
    """The basis whose clip turns most purely about ``axis`` (or least, for None), and how purely."""
    size = ends.norm(dim=1)
    if axis is None:
        best = int(size.argmin())
        return best, float(1.0 - size[best] / _REACH)
    share = sign * ends[:, axis] / size.clamp(min=1e-6)
    share = torch.where((size >= _REACH) & (size <= _REACH_MOST), share, share - 1.0)
    best = int(share.argmax())
    return best, float(share[best])


def _optimised(space: MotionSpace, axis: int | None, sign: float, rounds: int) -> Tensor:
    """The convex mixture of bases whose clip turns about ``axis`` alone, steadily, by about 3.5 degrees."""
    goal = torch.zeros(space.config.clip, POSES)
    if axis is not None:
        goal[:, axis] = sign * np.radians(3.5) * torch.linspace(0, 1, space.config.clip + 1)[1:]
    weight = torch.tensor([1.0, 1.0, 1.0, 0.1, 0.1, 0.02]) / torch.tensor([0.02, 0.02, 0.02, 0.03, 0.03, 0.1])
    logits = torch.zeros(space.config.bases, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.1)
    for _ in range(rounds):
        clip = space.decode(space.mixed(torch.softmax(logits, 0)))
        loss = ((clip - goal) * weight).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return space.mixed(torch.softmax(logits, 0)).detach()


def roll_out(head: HeadMotion, moves: list[Moves], features: tuple[str, ...], seed: int = 0) -> Floats:
    """Sampled poses [B, T, 6] of ``moves``, cut to the shortest, without controls."""
    frames = min(len(m.pose) for m in moves)
    x = torch.from_numpy(np.stack([m.features[:frames] for m in moves]))
    cues = VoiceCues()
    heard, state = cues.init_state(len(moves)), head.init_state(len(moves))
    seeds = np.arange(len(moves), dtype=np.uint64) + np.uint64(1000 * seed)
    columns = [features.index(n) for n in ("voice", "level", "pitch", "voicing")]
    still = np.zeros((len(moves), len(Actions)))
    poses = []
    for n in range(frames):
        voice, level, pitch, voicing = x[:, n, columns].double().numpy().T
        now = cues.step(VoiceFrame(voice, 10.0 * level, 12.0 * pitch, voicing), heard)
        poses.append(head.step(x[:, n], seeds, n, now, still, state))
    return np.stack(poses, axis=1)


def head_numbers(poses: list[Floats] | list[NDArray[np.float32]], apart: int = 1) -> tuple[Floats, Floats]:
    """(deviation within 8 s, mean speed a frame) [6] of poses [T, 6], the mean over segments.

    The speed is that of changes ``apart`` frames: over three it is nearly free of the tracker's jitter.
    """
    deviations, speeds = [], []
    for pose in poses:
        for start in range(0, max(1, len(pose) - _SEGMENT // 2), _SEGMENT):
            part = pose[start : start + _SEGMENT]
            deviations.append(part.std(axis=0))
            speeds.append(np.abs(part[apart:] - part[:-apart]).mean(axis=0) / apart)
    return np.mean(deviations, axis=0), np.mean(speeds, axis=0)


def people_numbers(people: list[Moves], apart: int = 1) -> tuple[Floats, Floats]:
    """:func:`head_numbers` with each person counting the same, however long they were filmed."""
    by: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for item in people:
        by[item.speaker].append(item.pose)
    each = [head_numbers(poses, apart) for poses in by.values()]
    return np.mean([far for far, _ in each], axis=0), np.mean([fast for _, fast in each], axis=0)


def calibrate_temper(head: HeadMotion, people: list[Moves], features: tuple[str, ...],
                     rounds: int = 6) -> dict[str, object]:  # fmt: skip
    """Set gain and pull of ``head`` so that its rotation moves as far and as fast as ``people`` do.

    A head that is a spring-held random walk has deviation² ∝ speed² / pull: the pull follows from the
    ratio of the two, each axis' gain from its speed; sound and seeds are those of ``people``.
    """
    real_far, real_fast = people_numbers(people, _APART)
    heard = [m for m in people if len(m.pose) >= _SEGMENT]
    head.temper = replace(head.temper, quiet=_quiet(people, features))
    for k in range(rounds):
        made = roll_out(head, heard, features, k)
        far, fast = head_numbers(list(made), _APART)
        loose = float(np.mean((far / real_far)[:3]) / np.mean((fast / real_fast)[:3]))
        pull = float(np.clip(head.temper.pull * loose**1.5, 0.004, 0.15))
        ratio = np.clip(np.sqrt((real_fast / fast) * (real_far / far)), 0.6, 1.6)
        gain = np.clip(np.array(head.temper.gain) * ratio, 0.3, 3.0)
        head.temper = replace(head.temper, pull=pull, gain=tuple(float(g) for g in gain))
    real_far, real_fast = people_numbers(people)
    far, fast = head_numbers(list(roll_out(head, heard, features, rounds)))
    return {
        "people_deviation": _rounded(real_far), "people_speed": _rounded(real_fast),
        "deviation": _rounded(far), "speed": _rounded(fast), "quiet": round(head.temper.quiet, 3),
    }  # fmt: skip


def _quiet(people: list[Moves], features: tuple[str, ...]) -> float:
    """How fast heads move in pauses of a third of a second and more, to their speed in speech."""
    silent, spoken = [], []
    column = features.index("voice")
    for item in people:
        speaks = np.convolve(item.features[:, column] > 0.5, np.ones(8), mode="same") > 0
        speed = np.linalg.norm(np.diff(item.pose[:, :3], axis=0), axis=1)
        silent.append(speed[~speaks[1:]])
        spoken.append(speed[speaks[1:]])
    pauses, speech = np.concatenate(silent), np.concatenate(spoken)
    print(f"{len(pauses)} silent frames of {len(pauses) + len(speech)}", flush=True)
    return float(np.clip(pauses.mean() / speech.mean(), 0.3, 1.0)) if len(pauses) >= 50 else Temper.quiet


def _rounded(values: Floats) -> list[float]:
    """Rotation in degrees, translation in inter-ocular distances."""
    return [round(float(v), 4) for v in np.concatenate([np.degrees(values[:3]), values[3:]])]
