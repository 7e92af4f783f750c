"""The tracker network against what it replaces: landmark network and fitter, on clips and on renders.

    python -m benchmarks.quality.tracker --data DIR --tracks TRACKS [--split test] [--people SET] [--save]

* **clips**: frames of real clips of ``--split``, which trained nothing. The truth is the track: landmarks of
  the landmark network, and the fitter with the whole clip at hand. ``fitter`` beside it is the same landmark
  network once more on the small cut-out the tracker sees, and the fitter on that frame alone: how far the two
  agree with themselves.
* **photos**: eval portraits drawn by the mesh animator; **people**: first rows of a set of synthetic people,
  which did not train. The truth is what was drawn.

Errors: landmarks in % of the inter-ocular distance (all, and lids, lips and irises), mean absolute error of
the 64 expression columns, head turn in degrees, gaze in degrees between directions. ``still`` always answers
with the mean of the truth: what a number is worth. Times are medians, one thread, side by side on the same
pictures. One JSON line comes last; ``--save`` appends it to ``benchmarks/results/tracker.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.records import append_line
from engine.errors import FaceError
from engine.face.fitter import fit_face, fit_frame
from engine.face.landmarks import LandmarkModel, roi_from_points
from engine.face.tracker import SIDE, Look, TrackerNet
from engine.runtime import compile
from engine.train.provenance import commit
from engine.train.tracker import draw, errors, plain
from engine.train.tracker_data import (
    Rows,
    clip_rows,
    load_track,
    manifest,
    people_rows,
    photo_rows,
    tracked_rows,
)
from engine.weights import load_weights, weights_metadata

__all__ = ["fitter_look", "main", "measure", "network_look", "still_look", "timings"]

Float = NDArray[np.float32]
Net = Callable[[Tensor], Sequence[Tensor]]

RESULTS = Path(__file__).resolve().parents[1] / "results" / "tracker.jsonl"
COLUMNS = ("points_percent", "fine_percent", "expression", "rotation_deg", "gaze_deg", "blink")


def network_look(net: Net, rows: Rows) -> Look:
    """What the network says of every row."""
    found = []
    for k in range(len(rows)):
        picture = torch.from_numpy(draw(rows, k, None)[0])[None]
        with torch.no_grad():
            found.append([part.clone() for part in net(picture)])
    return Look(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def fitter_look(rows: Rows, model: LandmarkModel) -> Look:
    """Landmark network and single-frame fitter on the same pictures; rows they refuse are NaN.

    Its blinks are the fitted blink units: it has no idea of this person's open eye.
    """
    side = rows.frames.shape[1]
    found: list[tuple[Float, Float, Float, Float]] = []
    for k in range(len(rows)):
        rgb = np.ascontiguousarray(rows.frames[k])
        # The square is known to the network too; neither has to search.
        points = model(rgb, roi_from_points(rows.points[k]), passes=1).points
        try:
            fit = fit_face(points, side)
        except FaceError:
            nothing = np.float32(np.nan)
            found.append((points, np.full(64, nothing), np.full(3, nothing), np.full(2, nothing)))
            continue
        turn = cv2.Rodrigues(fit.rotation.astype(np.float64))[0][:, 0].astype(np.float32)
        found.append((points, fit.expression, turn, fit.gaze))
    marks, units, turns, gazes = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
    inner = rows.share * side
    places = (marks - side / 2.0 + 0.5) * (2.0 / inner)
    return Look(places.float(), units, turns, gazes, units[:, (0, 7)])


def still_look(rows: Rows) -> Look:
    """The mean of the truth as the answer to every picture."""
    truth = plain(rows, list(range(len(rows))))
    parts = (truth.points, truth.expression, truth.rotation, truth.gaze, truth.blink)
    return Look(*(part.mean(0, keepdim=True).expand_as(part) for part in parts))


def measure(look: Look, rows: Rows) -> dict[str, float]:
    """Mean errors over the rows, NaN rows left out."""
    found = errors(look, plain(rows, list(range(len(rows)))))
    return {name: float(np.nanmean(found[name])) for name in COLUMNS}


def timings(net: Net, rows: Rows, repeats: int = 40) -> dict[str, float]:
    """Median ms for one picture, on the clock: the network; the landmark network; two steps of the fitter."""
    model, side = LandmarkModel(), rows.frames.shape[1]
    rgb = np.ascontiguousarray(rows.frames[0])
    picture = torch.from_numpy(draw(rows, 0, None)[0])[None]
    roi = roi_from_points(rows.points[0])
    person = fit_face(rows.points[0], side)
    motion = fit_frame(rows.points[0], person)
    calls: dict[str, Callable[[], object]] = {
        "network_ms": lambda: net(picture),
        "landmarks_ms": lambda: model(rgb, roi),
        "fitter_ms": lambda: fit_frame(rows.points[0], person, motion, 2),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1000.0 * (time.perf_counter() - start))
    return {name: round(float(np.median(values)), 3) for name, values in times.items()}


# -- what is measured --------------------------------------------------------------------------


def _clips(args: argparse.Namespace) -> dict[str, Rows]:
    paths = manifest(args.data, "talking", args.split)
    if args.split == "dev":
        paths += manifest(args.data, "driving", "dev")
    found = {}
    for path in paths:
        track = load_track(args.tracks, path)
        rows = None if track is None else clip_rows(args.data / path, track, args.frames)
        if rows is not None:
            found[path] = rows
    return found


def _photos(args: argparse.Namespace) -> dict[str, Rows]:
    """Photographs of people among the eval portraits, by their names in the list."""
    lines = (args.data / "MANIFEST.csv").read_text(encoding="utf-8").splitlines()
    names = [line.split(",")[0] for line in lines if line.startswith("portraits/photo_") and ",eval," in line]
    motions, found = tracked_rows(args.data, args.tracks), {}
    for path in names[: args.photos]:
        try:
            rows = photo_rows(args.data / path, motions, args.frames, crc32(path.encode()))
        except FaceError as error:
            print(f"{path}: left out: {error}")
            continue
        if rows is not None:
            found[path] = rows
    return found


def _section(net: Net, sources: Mapping[str, Rows], model: LandmarkModel) -> dict[str, dict[str, float]]:
    """Mean over sources of each contender's errors."""
    rows: dict[str, list[dict[str, float]]] = {"network": [], "fitter": [], "still": []}
    for source in sources.values():
        rows["network"].append(measure(network_look(net, source), source))
        rows["fitter"].append(measure(fitter_look(source, model), source))
        rows["still"].append(measure(still_look(source), source))
    return {
        who: {name: round(float(np.mean([line[name] for line in lines])), 4) for name in COLUMNS}
        for who, lines in rows.items()
    }


def _table(sections: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    lines = [f"{'':<18}" + "".join(f"{name:>16}" for name in COLUMNS)]
    for title, section in sections.items():
        for who, numbers in section.items():
            lines.append(f"{title + ' ' + who:<18}" + "".join(f"{numbers[name]:>16.3f}" for name in COLUMNS))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and print; exit status 1 if there is nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with MANIFEST.csv")
    parser.add_argument("--tracks", type=Path, required=True, help="what `visavis track` wrote")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--people", type=Path, help="set of synthetic people")
    parser.add_argument(
        "--people-rows", type=int, default=96, help="first rows of the set, kept from training"
    )
    parser.add_argument("--photos", type=int, default=9)
    parser.add_argument("--frames", type=int, default=8, help="of every clip and photo")
    parser.add_argument("--weights", default="tracker")
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    net = TrackerNet()
    net.load_state_dict(load_weights(args.weights))
    runner = compile(net, (torch.zeros(1, 3, SIDE, SIDE),), precision="bf16")
    sources = {"clips": _clips(args), "photos": _photos(args)}
    people = people_rows(args.people, 0, args.people_rows) if args.people else None
    if people is not None:
        sources["people"] = {"people": people}
    if not any(sources.values()):
        print("nothing to measure: no tracked clips and no photos found")
        return 1
    model = LandmarkModel()
    sections = {name: _section(runner, found, model) for name, found in sources.items() if found}
    print(_table(sections))
    result = {
        "benchmark": "tracker", "split": args.split, "sources": {k: len(v) for k, v in sources.items()},
        "errors": sections, "times": timings(runner, next(iter(next(iter(sources.values())).values()))),
        "backend": runner.backend, "precision": runner.precision, "commit": commit(),
        "trained": weights_metadata(args.weights).get("steps", ""), "machine": platform.processor() or "cpu",
    }  # fmt: skip
    print(json.dumps(result))
    if args.save:
        append_line(RESULTS, json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
