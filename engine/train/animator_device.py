"""What the animator's training needs on a GPU: batches made ahead by many threads, and moved there."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields

import torch
from torch import Tensor, nn

from engine.errors import BackendError, ConfigError
from engine.train.animator_data import Batch, Scenes

__all__ = ["Ahead", "check_sides", "compiled", "device_named", "moved"]


def device_named(name: str) -> torch.device:
    """The device of ``--device``.

    Raises:
        BackendError: there is no such device here.
    """
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError("no CUDA device, or a torch without CUDA: train with --device cpu")
    return device


def check_sides(scenes: Scenes, side: int) -> None:
    """Raises ConfigError where the scenes' pictures are not the network's size."""
    for scene in scenes.scenes:
        if scene.side != side:
            raise ConfigError(
                f"scene {scene.name} is {scene.side} px, this size of the network takes {side} px: "
                f"run `visavis train heads --side {side}`"
            )


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on ``device``; itself where it is there."""
    if device.type == "cpu":
        return batch
    values: dict[str, Tensor] = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return Batch(**{name: value.to(device, non_blocking=True) for name, value in values.items()})


def compiled(*modules: nn.Module) -> None:
    """Let torch.compile fuse the forward passes of ``modules``, in place; parameters keep their names."""
    for module in modules:
        module.compile()


class Ahead:
    """Batches from several threads, at most ``depth`` of them waiting; pinned where there is a GPU.

    Args:
        makers: one per thread; each is called again and again by its thread alone.
        depth: batches that may wait.
    """

    def __init__(self, makers: list[Callable[[], Batch]], depth: int) -> None:
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(depth)
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(make,), name=f"batches-{k}", daemon=True)
            for k, make in enumerate(makers)
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch, in no order; raises what a maker raised."""
        got = self._ready.get()
        if isinstance(got, BaseException):
            self.close()
            raise got
        return got

    def close(self) -> None:
        """End the threads."""
        self._ended.set()
        while any(thread.is_alive() for thread in self._threads):
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def _work(self, make: Callable[[], Batch]) -> None:
        while not self._ended.is_set():
            try:
                batch = make()
                self._ready.put(_pinned(batch) if torch.cuda.is_available() else batch)
            except BaseException as error:  # whoever waits for a batch must hear of it
                self._ready.put(error)
                return


def _pinned(batch: Batch) -> Batch:
    return Batch(**{f.name: getattr(batch, f.name).pin_memory() for f in fields(batch)})
