"""Where things live on the user's machine, and the few settings the engine needs."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

__all__ = ["asset_path", "cache_dir"]


def cache_dir() -> Path:
    """The user's cache folder for model files (``$VISAVIS_CACHE`` or the XDG cache)."""
    named = os.environ.get("VISAVIS_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "visavis"


def asset_path(name: str) -> Path:
    """A file shipped in ``engine/assets``, e.g. ``asset_path("face_basis.safetensors")``."""
    return Path(str(resources.files("engine"))) / "assets" / name
