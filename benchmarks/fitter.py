"""How well and how fast faces are fitted: every portrait of a folder, and one video frame.

    python benchmarks/fitter.py --data DIR [--repeat 5]

``DIR/portraits`` holds the pictures. For each: the mean landmark error in percent of the
inter-ocular distance, before and after the rest is spread over the mesh, and the time from the file to
the fit. Ends in one JSON line. Times are of this process, all its threads together.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engine.config import asset_path
from engine.errors import InputError
from engine.face.basis import read_basis
from engine.face.fitter import fit_face, fit_frame
from engine.face.image import load_image
from engine.face.portrait import Portrait, analyse_portrait
from engine.train.provenance import commit

__all__ = ["main", "measure"]


def clocked(repeat: int, call: Callable[[], Any]) -> tuple[Any, list[float]]:
    """The last result and all times, ms of this process (other programs do not count)."""
    times, result = [], None
    for _ in range(repeat):
        start = time.process_time()
        result = call()
        times.append(1000 * (time.process_time() - start))
    return result, times


def measure(path: Path, repeat: int) -> dict[str, Any]:
    """Errors and times of one picture; ``refused`` holds the reason where there is no fit."""
    try:
        portrait, whole = clocked(repeat, lambda: analyse_portrait(load_image(path)))
    except InputError as error:
        return {"name": path.name, "refused": str(error)}
    fit, times = clocked(repeat, lambda: fit_face(portrait.landmarks.points, 512))
    _, frames = clocked(repeat, lambda: _frame(portrait))
    return {
        "name": path.name,
        "error_percent": round(fit.error_percent, 3),
        "spread_percent": round(fit.spread_error_percent, 3),
        "yaw_degrees": round(float(np.degrees(fit.yaw)), 1),
        "all_ms": [round(min(whole), 1), round(float(np.median(whole)), 1)],
        "fit_ms": [round(min(times), 1), round(float(np.median(times)), 1)],
        "frame_ms": [round(min(frames), 2), round(float(np.median(frames)), 2)],
    }


def _frame(portrait: Portrait) -> None:
    first = fit_frame(portrait.landmarks.points, portrait.fit)
    fit_frame(portrait.landmarks.points, portrait.fit, first)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and largest error by kind of picture (the name up to the first underscore), and times."""
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    fitted = [r for r in rows if "refused" not in r]
    for row in fitted:
        kinds[row["name"].split("_")[0]].append(row)
    return {
        "kinds": {
            kind: {
                "count": len(members),
                "error_mean": round(float(np.mean([m["error_percent"] for m in members])), 3),
                "error_max": max(m["error_percent"] for m in members),
                "spread_mean": round(float(np.mean([m["spread_percent"] for m in members])), 3),
                "spread_max": max(m["spread_percent"] for m in members),
            }
            for kind, members in sorted(kinds.items())
        },
        "refused": [r["name"] for r in rows if "refused" in r],
        "all_ms": round(float(np.median([r["all_ms"][0] for r in fitted])), 1),
        "fit_ms": round(float(np.median([r["fit_ms"][0] for r in fitted])), 1),
        # Two calls are timed: the first finds the pose, the second follows it.
        "frame_ms": round(float(np.median([r["frame_ms"][0] for r in fitted])) / 2, 2),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds portraits/")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    _, loading = clocked(5, lambda: read_basis(asset_path("face_basis.safetensors")))
    rows = []
    for path in sorted((options.data / "portraits").iterdir()):
        rows.append(row := measure(path, options.repeat))
        print(
            row.get("refused")
            or f"{row['name']:40s} {row['error_percent']:.2f} -> {row['spread_percent']:.2f} %"
        )
    result = summary(rows) | {
        "basis_load_ms": round(min(loading), 1),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "commit": commit(),
    }
    for kind, row in result["kinds"].items():
        print(f"{kind:12s} {row}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
