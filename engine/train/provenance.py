"""Where weights and results come from."""

from __future__ import annotations

import subprocess

__all__ = ["commit"]


def commit() -> str:
    """Short hash of the commit that is checked out; "unknown" outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
