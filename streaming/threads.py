"""How many threads the engine's libraries may use."""

from __future__ import annotations

import torch

__all__ = ["one_torch_thread"]


def one_torch_thread() -> None:
    """Let torch compute in the calling thread alone.

    Two of its threads wait for each other by spinning: as soon as anything else runs on a small
    machine (an encoder, another program) they collapse by an order of magnitude. Call it in every
    thread that steps a pipeline, before the first step.
    """
    torch.set_num_threads(1)
