"""Ops with one doorway each: documented shapes → dispatch → bodies.

Every op has a reference body (torch or numpy, slow and obvious) and one or more fast bodies. A body
that is asked for by name and cannot run raises :class:`BodyUnavailable`; ``auto`` picks the fastest.
Triton bodies run on CUDA tensors; with ``TRITON_INTERPRET=1`` set before the first one is imported,
Triton's interpreter runs them on CPU tensors, slowly, for tests.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any, Literal

__version__ = "0.1.0"
__all__ = ["BodyUnavailable", "__version__", "select_body"]

_GPU = "install the GPU packages with: pip install 'visavis[gpu]'"


class BodyUnavailable(RuntimeError):
    """A kernel body named by the caller cannot run here; the message says why and what to do."""


def select_body(impl: str, x: Any) -> Literal["ref", "cpu", "triton"]:
    """The body that runs on ``x`` (numpy array or torch tensor), for the caller's ``impl``.

    ``auto``: ``cpu`` for CPU arrays, ``triton`` for CUDA tensors, ``ref`` on any other device.

    Raises:
        ValueError: no such body.
        BodyUnavailable: the body cannot run on ``x`` or here.
    """
    device = str(getattr(x, "device", "cpu")).split(":")[0]
    if impl == "auto":
        impl = {"cpu": "cpu", "cuda": "triton"}.get(device, "ref")
    if impl in ("ref", "reference"):
        return "ref"
    if impl == "cpu":
        if device != "cpu":
            raise BodyUnavailable(f"the cpu body needs a CPU array, got one on {device}")
        return "cpu"
    if impl != "triton":
        raise ValueError(f"impl must be auto, ref, cpu or triton, got {impl!r}")
    if find_spec("triton") is None:
        raise BodyUnavailable(f"Triton is not installed; {_GPU}")
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise BodyUnavailable(f"the triton body needs a CUDA tensor, got one on {device}")
    return "triton"
