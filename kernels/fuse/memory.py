"""Reads and writes of the compiled loops, as LLVM instructions: what Numba's own do not say.

Scratch and pictures never overlap, and these loads and stores tell the compiler so. Numba's cache of
a function watches only the file the function is in: after a change here, :mod:`kernels.fuse.rows`
must change too (or its cached code be removed), or what was compiled before stays in use.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = ["CUBIC", "cubic_sample", "get", "put", "read", "read_four", "write"]

# Untyped, so that what it makes is not checked as if Python called it.
_device: Any = intrinsic

# Keys' cubic convolution with a = -0.75: what f cubed, f squared, f and 1 are multiplied by in each
# tap's weight, where f is how far the place is from the second tap towards the third.
CUBIC = (
    (-0.75, 1.25, -1.25, 0.75),
    (1.5, -2.25, 1.5, -0.75),
    (-0.75, 0.0, 0.75, 0.0),
    (0.0, 1.0, 0.0, 0.0),
)
_16 = ir.VectorType(ir.FloatType(), 16)


def _scopes(module: Any) -> Any:
    """The alias scope "pictures": scratch accesses are declared not to touch it."""
    domain = module.add_metadata([ir.MetaDataString(module, "kernels.fuse")])
    return module.add_metadata([module.add_metadata([ir.MetaDataString(module, "pictures"), domain])])


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Of item ``args[1]`` in the array ``args[0]``."""
    return builder.gep(_data(context, builder, signature.args[0], args[0]), [args[1]])


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Address of the first item of ``array``."""
    proxy: Any = cgutils.create_struct_proxy
    return proxy(kind)(context, builder, array).data


@_device
def get(typing_context: Any, scratch: Any, index: Any) -> Any:
    """``scratch[index]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, signature, args), align=4)
        value.set_metadata("noalias", _scopes(builder.module))
        return value

    return scratch.dtype(scratch, types.intp), codegen


@_device
def put(typing_context: Any, scratch: Any, index: Any, value: Any) -> Any:
    """``scratch[index] = value``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.store(args[2], _address(context, builder, signature, args), align=4)
        stored.set_metadata("noalias", _scopes(builder.module))
        return context.get_dummy_value()

    return types.void(scratch, types.intp, scratch.dtype), codegen


@_device
def read(typing_context: Any, picture: Any, index: Any) -> Any:
    """``picture[index]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, signature, args), align=1)
        value.set_metadata("alias.scope", _scopes(builder.module))
        return value

    return picture.dtype(picture, types.intp), codegen


@_device
def read_four(typing_context: Any, picture: Any, index: Any) -> Any:
    """The four bytes from ``picture[index]`` on, the first one lowest on little-endian machines."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature, args)
        value = builder.load(builder.bitcast(pointer, ir.IntType(32).as_pointer()), align=1)
        value.set_metadata("alias.scope", _scopes(builder.module))
        return value

    return types.int32(picture, types.intp), codegen


@_device
def write(typing_context: Any, picture: Any, index: Any, value: Any) -> Any:
    """``picture[index] = value``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.store(args[2], _address(context, builder, signature, args), align=1)
        stored.set_metadata("alias.scope", _scopes(builder.module))
        return context.get_dummy_value()

    return types.void(picture, types.intp, picture.dtype), codegen


def _across(factors: tuple[float, ...]) -> Any:
    """Each tap's factor for its R, G and B, and nothing in the last four lanes."""
    return ir.Constant(_16, [factor for factor in factors for _ in range(3)] + [0.0] * 4)


def _shuffled(builder: Any, value: Any, order: list[int]) -> Any:
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
    return builder.shuffle_vector(value, value, lanes)


def _multiplied(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, in one instruction where there is one."""
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _everywhere(builder: Any, floats: Any, index: Any) -> Any:
    """Item ``index`` of the scratch array in every lane."""
    value = builder.load(builder.gep(floats, [index]), align=4)
    value.set_metadata("noalias", _scopes(builder.module))
    first = builder.insert_element(ir.Constant(_16, ir.Undefined), value, ir.IntType(32)(0))
    return _shuffled(builder, first, [0] * 16)


def _summed(builder: Any, taps: Any) -> Any:
    """R, G, B of four taps that lie side by side, added up: four lanes, the last one without meaning."""
    apart = _shuffled(builder, taps, [3 * (n // 4) + n % 4 for n in range(16)])
    two = builder.fadd(*(_shuffled(builder, apart, list(range(n, n + 8))) for n in (0, 8)))
    return builder.fadd(*(_shuffled(builder, two, list(range(n, n + 4))) for n in (0, 4)))


@_device
def cubic_sample(
    typing_context: Any, picture: Any, start: Any, step: Any,
    scratch: Any, part: Any, weight: Any, stride: Any, target: Any,
) -> Any:  # fmt: skip
    """A bicubic sample of flat RGB ``picture``: R, G, B and a value without meaning.

    The upper left one of the 4 x 4 taps is at ``picture[start]``, rows of them are ``step`` apart, and
    16 values of each row are read. How far the sample lies from the second column towards the third
    is at ``scratch[part]``, the weight of row n at ``scratch[weight + n * stride]``; the four results
    go to ``scratch[target]`` and on.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, at, step, _, part, weight, stride, target = args
        pixels = _data(context, builder, picture, args[0])
        floats = _data(context, builder, scratch, args[3])
        sixteen = ir.VectorType(pixels.type.pointee, 16).as_pointer()
        total = None
        for _ in range(4):
            row = builder.load(builder.bitcast(builder.gep(pixels, [at]), sixteen), align=1)
            row.set_metadata("alias.scope", _scopes(builder.module))
            taps = builder.uitofp(row, _16) if picture.dtype == types.uint8 else row
            share = _everywhere(builder, floats, weight)
            total = builder.fmul(taps, share) if total is None else _multiplied(builder, taps, share, total)
            at, weight = builder.add(at, step), builder.add(weight, stride)
        f, weights = _everywhere(builder, floats, part), _across(CUBIC[0])
        for factors in CUBIC[1:]:
            weights = _multiplied(builder, weights, f, _across(factors))
        four = _summed(builder, builder.fmul(total, weights))
        place = builder.bitcast(builder.gep(floats, [target]), four.type.as_pointer())
        builder.store(four, place, align=4).set_metadata("noalias", _scopes(builder.module))
        return context.get_dummy_value()

    given = (picture, types.intp, types.intp, scratch, *[types.intp] * 4)
    return types.void(*given), codegen
