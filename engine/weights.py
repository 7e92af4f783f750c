"""Reading and writing shipped weights: safetensors with their provenance in the metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.config import asset_path
from engine.errors import AssetError

__all__ = ["load_weights", "save_weights", "weights_metadata", "weights_path"]


def weights_path(name: str | Path) -> Path:
    """The file of weight ``name`` (``engine/assets/NAME.safetensors``), or the path given."""
    path = Path(name)
    return path if path.suffix == ".safetensors" else asset_path(f"{name}.safetensors")


def load_weights(name: str | Path) -> dict[str, Tensor]:
    """All tensors of weight ``name``.

    Raises:
        AssetError: the file is missing or damaged.
    """
    path = _existing(name)
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise AssetError(f"{path} is damaged ({error}); restore it from the repository") from error


def weights_metadata(name: str | Path) -> dict[str, str]:
    """The text metadata of weight ``name``: what it was trained on, seed, commit, metrics."""
    path = _existing(name)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise AssetError(f"{path} is damaged ({error}); restore it from the repository") from error


def save_weights(name: str | Path, tensors: dict[str, Tensor], metadata: dict[str, object]) -> Path:
    """Write weight ``name`` atomically; metadata values that are not text are stored as JSON."""
    path = weights_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    part = path.with_suffix(".part")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, metadata=text)
    os.replace(part, path)
    return path


def _existing(name: str | Path) -> Path:
    path = weights_path(name)
    if not path.is_file():
        raise AssetError(f"weights {path} are missing; restore them from the repository or rebuild them")
    return path
