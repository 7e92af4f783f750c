"""``visavis doctor``: what is here, what is missing, and how to get it."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.config import asset_path, cache_dir
from engine.errors import AssetError
from streaming.sources.microphone import load_sounddevice

__all__ = ["Check", "examine", "report"]

_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "numba",
    "openvino",
    "cv2",
    "PIL",
    "av",
    "aiortc",
    "aiohttp",
    "uvloop",
)
_NAMES = {"cv2": "opencv-python-headless", "PIL": "pillow"}
_OPTIONAL = {"uvloop"}
_ASSETS = ("face_basis", "ppg", "speech_motion")


@dataclass(frozen=True)
class Check:
    """One line of the report; ``needed`` False for things only some uses need."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True


def examine() -> Iterator[Check]:
    """Every check, in the order of the report."""
    yield Check("machine", True, f"{platform.platform()}, Python {platform.python_version()}")
    yield _cpu()
    for package in _PACKAGES:
        yield _package(package)
    for codec in ("libvpx", "libx264", "libopus", "aac"):
        yield _codec(codec)
    yield from _models()
    for name in _ASSETS:
        path = asset_path(f"{name}.safetensors")
        size = f"{path.stat().st_size / 1e6:.1f} MB" if path.is_file() else "missing"
        yield Check(
            f"weights {name}", path.is_file(), size, "reinstall visavis; CONTRIBUTING.md tells how to rebuild"
        )
    yield _microphone()
    yield _chromium()
    yield _gpu()


def report(say: Callable[[str], None]) -> bool:
    """Print every check; True if nothing that is needed is missing."""
    sound = True
    for check in examine():
        mark = "ok     " if check.ok else ("MISSING" if check.needed else "absent ")
        say(f"{mark}  {check.name:<28} {check.detail}")
        if not check.ok and check.remedy:
            say(f"         {'':<28} -> {check.remedy}")
        sound = sound and (check.ok or not check.needed)
    return sound


def _cpu() -> Check:
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "flags":
                flags = set(value.split())
            elif key.strip() == "model name":
                model = value.strip()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    import os

    have = [flag for flag in wanted if flag in flags]
    return Check(
        "CPU", True, f"{model}, {os.cpu_count()} cores, {' '.join(have) or 'no vector extensions seen'}"
    )


def _package(module: str) -> Check:
    name = _NAMES.get(module, module)
    needed = module not in _OPTIONAL
    try:
        importlib.import_module(module)
        return Check(f"package {name}", True, importlib.metadata.version(name), needed=needed)
    except (ImportError, OSError) as error:
        return Check(f"package {name}", False, str(error).splitlines()[0], f"pip install {name}", needed)


def _codec(name: str) -> Check:
    try:
        import av

        av.CodecContext.create(name, "w")
    except ImportError:
        return Check(f"codec {name}", False, "PyAV is missing", "pip install av")
    except Exception as error:
        return Check(f"codec {name}", False, str(error), "use the av wheels of PyPI, which carry it")
    return Check(f"codec {name}", True, "encodes")


def _models() -> Iterator[Check]:
    from engine.face.models import model_status

    for status in model_status():
        ok = status.present and status.sha256_ok
        detail = str(status.path) if ok else ("damaged" if status.present else f"not in {cache_dir()}")
        yield Check(f"face model {status.name}", ok, detail, status.remedy)


def _microphone() -> Check:
    try:
        devices = load_sounddevice().query_devices()
    except AssetError as error:
        return Check("local microphone", False, "no PortAudio", str(error), needed=False)
    inputs = sum(device["max_input_channels"] > 0 for device in devices)
    return Check(
        "local microphone", inputs > 0, f"{inputs} input devices", "connect a microphone", needed=False
    )


def _chromium() -> Check:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    remedy = "apt-get install chromium (only the browser tests and benchmarks need it)"
    return Check("Chromium", path is not None, path or "not found", remedy, needed=False)


def _gpu() -> Check:
    try:
        import torch
    except ImportError:
        return Check("GPU", False, "torch is missing", needed=False)
    if not torch.cuda.is_available():
        return Check("GPU", False, "no CUDA device; visavis runs on the CPU", needed=False)
    return Check("GPU", True, torch.cuda.get_device_name(0), needed=False)
