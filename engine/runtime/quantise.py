"""int8 networks: quantised once by NNCF, shipped as one file, run without NNCF.

>>> network = quantise(module, (example,), calibration=[(frame,) for frame in frames])
>>> network.save("lite.int8.zip")
>>> runner = load("lite.int8.zip", threads=1)

The layer that makes a warp's coordinates, and all that follows it up to the warp, is never
quantised: an error of one step in 256 would move pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from engine.config import cache_dir
from engine.errors import AssetError, BackendError
from engine.runtime.ir import (
    convert,
    first_line,
    from_bytes,
    import_openvino,
    network_hash,
    to_bytes,
    warp_operations,
)
from engine.runtime.openvino import OpenVINORunner, cpu_name

__all__ = ["Calibration", "QuantisedNetwork", "load", "quantise"]

Calibration = Iterable[tuple[Tensor, ...]]
"""Inputs of real calls, each shaped like the example. They are held in memory: 32 to 128 varied frames
are enough to find the ranges."""


@dataclass(frozen=True)
class QuantisedNetwork:
    """An int8 network; ``data`` is the content of its file."""

    data: bytes

    def save(self, path: str | Path) -> Path:
        """Write it atomically."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        part.write_bytes(self.data)
        os.replace(part, target)
        return target

    def runner(self, threads: int = 1, reason: str = "chosen by name") -> OpenVINORunner:
        """Compile it for this CPU.

        Raises:
            BackendError: OpenVINO is missing or cannot run it.
        """
        return OpenVINORunner(from_bytes(self.data, "the int8 network"), "int8", threads, reason)


def load(path: str | Path, threads: int = 1) -> OpenVINORunner:
    """A runner for a saved int8 network. Needs no NNCF.

    Raises:
        AssetError: the file is missing or damaged.
        BackendError: OpenVINO is missing or cannot run it.
    """
    import_openvino()
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise AssetError(f"the network {path} cannot be read: {error}") from error
    return OpenVINORunner(from_bytes(data, str(path)), "int8", threads, f"loaded from {Path(path).name}")


def quantise(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    calibration: Calibration,
    *,
    keep: Sequence[str] = (),
    cached: bool = True,
) -> QuantisedNetwork:
    """Post-training quantisation of weights (per channel) and activations (per tensor).

    Args:
        example_inputs: fix the shapes.
        calibration: see :data:`Calibration`.
        keep: regular expressions of operation names (``.*out.*``) that stay in floating point.
        cached: look in the user's cache first, and store there. The key is made of the network, the
            calibration, ``keep``, the versions of OpenVINO and NNCF and the CPU.

    Raises:
        BackendError: OpenVINO or NNCF is missing, or cannot quantise this network.
        ValueError: no calibration inputs were given.
    """
    model = convert(module, tuple(example_inputs))
    frames = [tuple(value.detach().contiguous().numpy() for value in frame) for frame in calibration]
    if not frames:
        raise ValueError("int8 needs calibration inputs: real calls, each shaped like the example")
    path = _cache_path(model, frames, keep)
    if cached and path.is_file():
        network = QuantisedNetwork(path.read_bytes())
        try:
            from_bytes(network.data, str(path))
            return network
        except AssetError:  # a damaged cache entry is made again
            path.unlink(missing_ok=True)
    network = QuantisedNetwork(to_bytes(_quantised(model, frames, keep)))
    if cached:
        network.save(path)
    return network


def _quantised(model: Any, frames: list[tuple[Any, ...]], keep: Sequence[str]) -> Any:
    nncf = _import_nncf()
    scope = nncf.IgnoredScope(names=sorted(warp_operations(model)), patterns=list(keep), validate=False)
    try:
        return nncf.quantize(
            model,
            nncf.Dataset(frames, list),
            subset_size=len(frames),
            # Symmetric weights, asymmetric activations: silu and gelu are one-sided.
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=scope,
        )
    except (RuntimeError, ValueError, TypeError, nncf.ValidationError) as error:
        raise BackendError(f"nncf cannot quantise this network: {first_line(error)}") from error


def _import_nncf() -> Any:
    try:
        import nncf
    except ImportError as error:
        raise BackendError(
            f"int8 quantisation needs nncf ({error}); pip install 'visavis[int8]', "
            "or load a network that is quantised already"
        ) from error
    nncf.set_log_level(30)
    return nncf


def _cache_path(model: Any, frames: list[tuple[Any, ...]], keep: Sequence[str]) -> Path:
    digest = hashlib.sha256(network_hash(model).encode())
    for frame in frames:
        for value in frame:
            digest.update(str(value.shape).encode())
            digest.update(value.tobytes())
    about = (import_openvino().__version__, _nncf_version(), cpu_name(), "int8", *keep)
    digest.update(repr(about).encode())
    return cache_dir() / "networks" / f"{digest.hexdigest()[:32]}.int8.zip"


def _nncf_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nncf")
    except PackageNotFoundError:
        return "none"
