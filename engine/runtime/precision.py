"""Mixed precision that can be seen in the graph: which operations run in 16 bits, and which never.

``Mixed`` puts its conversions into the traced graph, so that eager torch, a CUDA graph and an ONNX
export compute the same thing. Autocast cannot be exported, and converting a whole network to 16 bits
rounds warp coordinates to a quarter of a pixel or more at 512 pixels.

* Convolutions, matrix products and attention run in 16 bits, their weights are stored so.
* Warps (``grid_sample``) run in 32 bits, and so does every sum of coordinates.
* Normalisations run in 16 bits (torch accumulates in 32) or, where the backend would not, in 32.
* A module with the attribute ``full_precision = True`` runs in 32 bits whole, and so do recurrent
  and multi-head-attention modules of torch, whose weights cannot be converted one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["LOW_PRECISION", "Mixed", "mixed"]

LOW_PRECISION: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "f16": torch.float16}

_LOW: frozenset[Callable[..., Any]] = frozenset(
    [
        F.conv1d,
        F.conv2d,
        F.conv3d,
        F.conv_transpose1d,
        F.conv_transpose2d,
        F.conv_transpose3d,
        F.linear,
        F.bilinear,
        F.scaled_dot_product_attention,
        torch.matmul,
        torch.bmm,
        torch.baddbmm,
        torch.addmm,
        torch.mm,
        torch.einsum,
        Tensor.matmul,
        Tensor.__matmul__,
        Tensor.bmm,
    ]
)
_NORMS: frozenset[Callable[..., Any]] = frozenset(
    [F.group_norm, F.layer_norm, F.instance_norm, F.batch_norm, F.rms_norm]
)
_FULL: frozenset[Callable[..., Any]] = frozenset(
    [F.grid_sample, torch.grid_sampler, F.softmax, torch.softmax, Tensor.softmax, F.affine_grid]
)
_LOW_MODULES = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
_NORM_MODULES = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_WHOLE = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    # Not torch.Size and other subclasses, which hold no tensors.
    return type(value)(_cast(item, dtype) for item in value) if type(value) in (list, tuple) else value


class _Policy(TorchFunctionMode):
    """Converts the arguments of the functions named above; everything else promotes as torch does."""

    def __init__(self, low: torch.dtype, norms: torch.dtype) -> None:
        super().__init__()
        self._low = low
        self._norms = norms
        self.whole = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named: dict[str, Any] = kwargs or {}
        dtype = None if self.whole else self._dtype(func)
        if dtype is None:
            return func(*args, **named)
        args = tuple(_cast(value, dtype) for value in args)
        out = func(*args, **{name: _cast(value, dtype) for name, value in named.items()})
        return out.to(self._low) if func in _NORMS and isinstance(out, Tensor) else out

    def _dtype(self, func: Callable[..., Any]) -> torch.dtype | None:
        if func in _LOW:
            return self._low
        if func is F.batch_norm:  # its running statistics do not fit 16 bits
            return torch.float32
        if func in _NORMS:
            return self._norms
        return torch.float32 if func in _FULL else None


class Mixed(nn.Module):
    """``module`` under the policy above; takes what it takes, floating outputs come back in float32.

    Args:
        module: converted in place; :func:`mixed` converts a copy.
        low: bfloat16 or float16.
        norms: the dtype in which normalisations compute.
    """

    def __init__(self, module: nn.Module, low: torch.dtype, norms: torch.dtype | None = None) -> None:
        super().__init__()
        self._module = module
        self._policy = _Policy(low, norms or low)
        whole = {inner for part in module.modules() if _is_whole(part) for inner in part.modules()}
        for part in module.modules():
            if _is_whole(part):
                part.register_forward_pre_hook(self._enter, with_kwargs=True)
                part.register_forward_hook(self._leave, always_call=True)
            elif part not in whole and (
                isinstance(part, _LOW_MODULES) or (norms is None and isinstance(part, _NORM_MODULES))
            ):
                part.to(low)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self._policy.whole = 0
        with self._policy:
            outputs = self._module(*inputs)
        listed = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        return tuple(value.float() if value.is_floating_point() else value for value in listed)

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        self._policy.whole += 1
        named = {name: _cast(value, torch.float32) for name, value in kwargs.items()}
        return _cast(tuple(args), torch.float32), named

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._policy.whole -= 1


def _is_whole(module: nn.Module) -> bool:
    return isinstance(module, _WHOLE) or bool(getattr(module, "full_precision", False))


def mixed(module: nn.Module, precision: str, norms: torch.dtype | None = None) -> nn.Module:
    """A converted copy of ``module`` for ``precision``; the module itself for f32."""
    if precision == "f32":
        return module
    return Mixed(copy.deepcopy(module).eval(), LOW_PRECISION[precision], norms)
