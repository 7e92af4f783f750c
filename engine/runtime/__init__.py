"""How a network runs: one doorway, ``compile``, and the backends behind it.

>>> runner = compile(network, (example,), backend="auto")
>>> (output,) = runner(example)
>>> runner.backend, runner.reason
"""

from engine.runtime.doorway import BACKENDS, Runner, available_backends, compile

__all__ = ["BACKENDS", "Runner", "available_backends", "compile"]
