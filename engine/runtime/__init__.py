"""How a network runs: one doorway, ``compile``, and the backends behind it.

>>> runner = compile(network, (example,), backend="auto", precision="bf16")
>>> (output,) = runner(example)
>>> runner.backend, runner.reason
"""

from engine.runtime.base import Precision, Runner
from engine.runtime.batching import BatchRunner, power_sizes
from engine.runtime.doorway import BACKENDS, available_backends, compile
from engine.runtime.quantise import QuantisedNetwork, load, quantise

__all__ = [
    "BACKENDS",
    "BatchRunner",
    "Precision",
    "QuantisedNetwork",
    "Runner",
    "available_backends",
    "compile",
    "load",
    "power_sizes",
    "quantise",
]
