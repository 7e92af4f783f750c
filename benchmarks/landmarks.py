"""Time of face tracking per video frame, and of finding a face in a photo, on one core.

    python -m benchmarks.landmarks [--image PICTURE] [--frames 300]

The picture drifts and sways through 640 × 480 frames, so that every frame's region differs. One JSON
line comes last; times in ms.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.config import asset_path
from engine.face.detector import FaceDetector
from engine.face.landmarks import FaceTracker, find_faces

WIDTH, HEIGHT = 640, 480
DISTINCT_FRAMES = 50


def moving_frames(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Frames [HEIGHT, WIDTH, 3] in which ``picture`` sways around the middle."""
    scale = HEIGHT / min(picture.shape[:2])
    frames = []
    for phase in np.linspace(0, 2 * np.pi, DISTINCT_FRAMES, endpoint=False):
        centre = (picture.shape[1] / 2, picture.shape[0] / 2)
        matrix = cv2.getRotationMatrix2D(centre, 5 * np.sin(phase), scale)
        matrix[:, 2] += [WIDTH / 2 - centre[0] + 20 * np.cos(phase), HEIGHT / 2 - centre[1]]
        frames.append(np.asarray(cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT)), np.uint8))
    return frames


def timed(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median, 95th percentile and minimum of ``call``'s time, ms."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return {
        "p50_ms": round(float(np.median(times)), 3),
        "p95_ms": round(float(np.percentile(times, 95)), 3),
        "min_ms": round(min(times), 3),
    }


def main() -> int:
    """Measure and print; exit status 1 if the picture shows no face."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--image", type=Path, default=asset_path("demo/astronaut.png"))
    parser.add_argument("--frames", type=int, default=300)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    loaded = cv2.imread(str(args.image), cv2.IMREAD_COLOR)
    if loaded is None or not find_faces(np.asarray(loaded[..., ::-1], np.uint8)):
        print(f"{args.image} shows no face; name another picture with --image")
        return 1
    picture = np.ascontiguousarray(loaded[..., ::-1], np.uint8)
    frames = moving_frames(picture)
    tracker, detector = FaceTracker(), FaceDetector()
    lost = sum(tracker.track(frame) is None for frame in frames)
    sequence = iter([frames[i % len(frames)] for i in range(args.frames)])
    result = {
        "benchmark": "landmarks",
        "track_640x480": timed(lambda: tracker.track(next(sequence)), args.frames),
        "detect_640x480": timed(lambda: detector.detect(frames[0], thorough=False), 100),
        "find_faces": timed(lambda: find_faces(picture, detector), 20),
        "frames": args.frames,
        "lost": lost,
        "picture": list(picture.shape[:2]),
        "machine": platform.machine(),
        "processor": platform.processor(),
        "openvino": version("openvino"),
        "opencv": cv2.__version__,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
