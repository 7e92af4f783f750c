"""Result files: one JSON line a run, oldest first."""

from __future__ import annotations

from pathlib import Path

__all__ = ["append_line"]


def append_line(path: Path, line: str) -> None:
    """Add ``line`` to the end of ``path``; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
