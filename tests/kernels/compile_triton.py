"""Compiles every Triton body to machine code of one GPU, on any machine.

``python -m tests.kernels.compile_triton [--capability 90]``

Triton brings its own compiler and assembler, so this needs no GPU. It must not run under
``TRITON_INTERPRET=1``. Prints one line per kernel: name, variant, bytes.
"""

from __future__ import annotations

import argparse
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.fuse import gpu as fuse
from kernels.i420 import gpu as i420
from kernels.logmel import gpu as logmel
from kernels.raster_flow import gpu as raster_flow

_MATRIX = dict.fromkeys(("yr", "yg", "yb", "ur", "ug", "ub", "vr", "vg", "vb"), "fp32")
_FUSE = {"out": "*u8", "base": "*u8", "image": "*u8", "flow": "*fp16", "mask": "*fp16", "residual": "*fp16"}
_HALF = {**_FUSE, "image": "*fp16", "flow": "*fp32", "mask": "*fp32", "residual": "*fp32"}
_MEL = dict.fromkeys(("samples", "cosines", "sines", "filters", "out", "floor"), "*fp32") | {"floor": "fp32"}
_DRAW = {"xyz": "*fp32", "triangles": "*i32", "keys": "*i64"}
_RESOLVE = _DRAW | {"source": "*fp32", "flow": "*fp32", "mask": "*fp32", "step_y": "fp32", "step_x": "fp32"}


def _present(warp: bool, mask: bool, residual: bool, cubic: bool = False) -> dict[str, Any]:
    return {"WARP": warp, "CUBIC": cubic, "MASK": mask, "RESIDUAL": residual, "BLOCK": 128}


# Kernel, variant, types of arguments that are no 32-bit integers, and constants: the upper-case ones,
# and arguments that a launch with the value 1 would turn into constants.
CASES: list[tuple[Any, str, dict[str, str], dict[str, Any]]] = [
    (fuse._fuse, "all", _FUSE, _present(True, True, True)),
    (fuse._fuse, "one cell", _HALF, _present(True, True, True) | {"flow_h": 1, "mask_w": 1, "residual_h": 1}),
    (fuse._fuse, "no flow", _FUSE, _present(False, True, True)),
    (fuse._fuse, "one pixel", _FUSE, _present(True, False, False) | dict.fromkeys(("rows", "columns"), 1)),
    (fuse._fuse, "bicubic", _HALF, _present(True, True, True, True)),
    (fuse._fuse, "cubic spot", _FUSE, _present(True, False, False, True) | {"rows": 1, "columns": 1}),
    (fuse._fuse_i420, "all", _FUSE | _MATRIX, _present(True, True, True)),
    (fuse._fuse_i420, "bicubic", _FUSE | _MATRIX, _present(True, True, True, True)),
    (i420._convert, "i420", {"rgb": "*u8", "out": "*u8"} | _MATRIX, {"INTERLEAVED": False, "BLOCK": 128}),
    (i420._convert, "nv12", {"rgb": "*u8", "out": "*u8"} | _MATRIX, {"INTERLEAVED": True, "BLOCK": 128}),
    (
        logmel._log_mel, "one step", _MEL | {"extents": "*i32"},
        {"FRAMES": 16, "BANDS": 16, "BINS": 32, "TAPS": 32, "steps": 1, "samples_t": 1},
    ),
    (raster_flow._draw, "cull", _DRAW, {"CULL": True, "BLOCK": 64}),
    (raster_flow._draw, "thin", _DRAW, {"CULL": False, "BLOCK": 64, "width": 1, "count": 1}),
    (raster_flow._resolve, "all", _RESOLVE, {"NONE": 0x7F800000 << 32, "BLOCK": 128, "flow_c": 1}),
]  # fmt: skip


def compile_case(kernel: Any, types: dict[str, str], constants: dict[str, Any], capability: int) -> Any:
    """The compiled kernel for an NVIDIA GPU of ``capability`` (90: Hopper)."""
    names = list(kernel.arg_names)
    unknown = (types.keys() | constants.keys()) - set(names)
    assert not unknown, f"{kernel.__name__} has no arguments {sorted(unknown)}"
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    fixed = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--capability", type=int, default=90)
    args = parser.parse_args()
    for kernel, variant, types, constants in CASES:
        compiled = compile_case(kernel, types, constants, args.capability)
        print(f"{kernel.__name__:12s} {variant:10s} {len(compiled.asm['cubin']):7d} bytes")


if __name__ == "__main__":
    main()
