"""Contact sheets and motion plots of recipes, to be looked at: numbers do not see a wrong face.

    python -m benchmarks.quality.sheets --recipe all --portrait A.png B.jpg --voice C.wav --out out/sheets

One PNG per recipe, portrait and voice: frames in reading order, their time beside them, and below
the curves of mouth, brows, lids, gaze and head over the same seconds. Without ``--portrait`` and
``--voice`` the bundled ones are used. ``--emotion``, ``--set`` as in ``visavis render``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.driving import recipe_names
from engine.config import asset_path
from engine.face.image import load_image
from engine.face.portrait import analyse_portrait
from engine.pipeline import Pipeline
from engine.recipes import build, prepare_identity
from engine.train.speech_data import load_audio
from engine.types import CONTROLS, MOTION, AudioChunk, Cond, MotionChunk
from streaming.references import parse_controls

__all__ = ["main", "perform", "sheet"]

Pictures = NDArray[np.uint8]
Floats = NDArray[np.float32]

_CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("mouth", ("jawOpen", "lipsSealed", "mouthFunnel", "mouthPucker", "mouthSmileLeft")),
    ("brows, lids", ("browInnerUp", "browOuterUpLeft", "browDownLeft", "eyeBlinkLeft", "eyeSquintLeft")),
    ("head, rad", ("rx", "ry", "rz")),
    ("gaze, rad", ("gazePitch", "gazeYaw")),
)


def perform(
    pipeline: Pipeline, portrait: Path, audio: Floats, controls: tuple[float, ...], seed: int, every: int
) -> tuple[Pictures, Floats]:
    """Every ``every``-th frame [N, H, W, 3] and the whole motion [T, 72] of ``audio`` [640 T]."""
    identity = prepare_identity(pipeline, analyse_portrait(load_image(portrait)))
    state = pipeline.init_state(1, Cond.for_identity(identity, seed))
    pictures, motions = [], []
    with torch.inference_mode():
        for start in range(0, len(audio) // 640 * 640, 640):
            chunk = AudioChunk(
                start, torch.from_numpy(audio[start : start + 640])[None], torch.tensor([controls])
            )
            motion = pipeline.motion_step(chunk, state)
            for k in range(motion.data.shape[1]):
                motions.append(motion.data[0, k].numpy())
                one = MotionChunk(motion.t0 + k, motion.data[:, k : k + 1])
                shown = pipeline.animator.step(one, state.animator) if pipeline.animator else None
                if shown is not None and (motion.t0 + k) % every == 0:
                    pictures.append(shown.data[0, 0].numpy().copy())
    return np.stack(pictures), np.stack(motions)


def sheet(pictures: Pictures, motion: Floats, title: str, every: int, columns: int = 10) -> Pictures:
    """Frames in rows of ``columns``, curves below: uint8 [H, W, 3]."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = 176
    cells = []
    for n, picture in enumerate(pictures):
        cell = np.ascontiguousarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))
        cv2.putText(
            cell, f"{n * every / 25:.2f}", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1
        )
        cells.append(cell)
    cells += [np.zeros((size, size, 3), np.uint8)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[k : k + columns], axis=1) for k in range(0, len(cells), columns)]
    figure, axes = pyplot.subplots(len(_CURVES), 1, figsize=(size * columns / 100, 5.2), sharex=True)
    seconds = np.arange(len(motion)) / 25
    for axis, (name, units) in zip(axes, _CURVES, strict=True):
        for unit in units:
            axis.plot(seconds, motion[:, MOTION.index(unit)], lw=1, label=unit)
        axis.set_ylabel(name, fontsize=7)
        axis.tick_params(labelsize=6)
        axis.legend(fontsize=6, ncols=len(units), loc="upper right")
    axes[0].set_title(title, fontsize=9)
    axes[-1].set_xlim(0, seconds[-1])
    figure.tight_layout()
    figure.canvas.draw()
    plot = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    pyplot.close(figure)
    plot = cv2.resize(plot, (size * columns, int(plot.shape[0] * size * columns / plot.shape[1])))
    return np.concatenate([*rows, np.asarray(plot, np.uint8)], axis=0)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--recipe", nargs="+", default=["default"], help="names, mixtures, or all")
    parser.add_argument("--portrait", nargs="+", type=Path, default=[asset_path("demo/astronaut.png")])
    parser.add_argument("--voice", nargs="+", type=Path, default=[asset_path("demo/voice_a.wav")])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--start", type=float, default=0.0, help="seconds of the voice to leave out")
    parser.add_argument("--every", type=int, default=5, help="frames between the pictures")
    parser.add_argument("--emotion", action="append", default=[], metavar="NAME[=STRENGTH]")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/sheets"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    controls = CONTROLS.row(parse_controls(args.set, args.emotion))
    args.out.mkdir(parents=True, exist_ok=True)
    for name in recipe_names() if args.recipe == ["all"] else args.recipe:
        pipeline = build(name)
        for portrait in args.portrait:
            for voice in args.voice:
                first = int(16_000 * args.start)
                audio = load_audio(voice)[first : first + int(16_000 * args.seconds)]
                pictures, motion = perform(pipeline, portrait, audio, controls, args.seed, args.every)
                mood = "".join(f" {e}" for e in args.emotion)
                title = f"{name}: {portrait.stem}, {voice.stem}{mood}"
                target = args.out / (title.replace(": ", "_").replace(", ", "_").replace(" ", "_") + ".png")
                made = sheet(pictures, motion, title, args.every)
                cv2.imwrite(str(target), cv2.cvtColor(made, cv2.COLOR_RGB2BGR))
                print(target, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
