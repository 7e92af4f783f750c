"""Where there is no GPU, Triton bodies run in its interpreter; said before any is imported."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
