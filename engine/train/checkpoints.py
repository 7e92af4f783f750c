"""A training state as several small files, whole or not at all, and small enough to be carried about."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import AssetError

__all__ = ["compact", "join_state", "load_state", "save_state", "split_state"]

_MIB = 1 << 20


def compact(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a trainer with Adam's moments in bf16 and the mean weights in f16.

    Restoring gives them back their dtype, not the bits they have lost; the weights in training keep theirs.
    """
    small = dict(state)
    for name in ("optimiser", "judging"):
        moments = {
            key: {k: _half(v, torch.bfloat16) if k.startswith("exp_avg") else v for k, v in one.items()}
            for key, one in state[name]["state"].items()
        }
        small[name] = {**state[name], "state": moments}
    small["mean"] = {k: _half(v, torch.float16) for k, v in state["mean"].items()}
    return small


def _half(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def split_state(state: dict[str, Any], path: Path, mib: float) -> list[Path]:
    """Write ``state`` as files of at most ``mib`` MiB and, last, the list of them at ``path``.

    Whoever stops in between leaves the last state as it was.

    Returns:
        The parts, ``NAME.DIGEST.000`` and so on beside ``path``.

    Raises:
        ValueError: a size that is not positive.
    """
    if mib <= 0:
        raise ValueError(f"parts must have a size, got {mib} MiB")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data, size = buffer.getbuffer(), int(mib * _MIB)
    digest = hashlib.sha256(data).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for k, start in enumerate(range(0, len(data), size)):
        part = path.with_name(f"{path.name}.{digest[:8]}.{k:03d}")
        part.write_bytes(data[start : start + size])
        parts.append(part)
    fresh = path.with_name(f"{path.name}.part")
    fresh.write_text(json.dumps({"sha256": digest, "bytes": len(data), "parts": [p.name for p in parts]}))
    os.replace(fresh, path)
    for old in path.parent.glob(f"{path.name}.????????.[0-9][0-9][0-9]"):
        if old not in parts:
            old.unlink()
    return parts


def join_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What :func:`split_state` wrote at ``path``, its tensors on ``device``.

    Raises:
        AssetError: a part is missing or damaged.
    """
    about = json.loads(path.read_text())
    data = bytearray()
    for name in about["parts"]:
        part = path.with_name(Path(name).name)
        if not part.is_file():
            raise AssetError(f"the training state {path} lacks its part {part.name}")
        data += part.read_bytes()
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise AssetError(f"the training state {path} is damaged: its parts are not those that were written")
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    return state


def save_state(state: dict[str, Any], path: Path, mib: float | None = None) -> None:
    """One file, or :func:`compact` parts of at most ``mib`` MiB; never half of either."""
    if mib is not None:
        split_state(compact(state), path, mib)
        return
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What :func:`save_state` wrote, in either form.

    Raises:
        AssetError: a part is missing or damaged.
    """
    with path.open("rb") as file:
        listed = file.read(1) == b"{"
    if listed:
        return join_state(path, device)
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state
