"""Ops with one doorway each: documented shapes → dispatch → bodies.

Every op has a reference body (torch or numpy, slow and obvious) and one or more fast bodies. A body
that is asked for by name and cannot run raises :class:`BodyUnavailable`; ``auto`` picks the fastest.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["BodyUnavailable", "__version__"]


class BodyUnavailable(RuntimeError):
    """A kernel body named by the caller cannot run here; the message says why and what to do."""
