"""Instructions in the kernels' inner loops, in the machine code for each width of vectors.

``python -m benchmarks.cpu.instructions`` prints, for a straightforward loop and for our kernels,
how many instructions an inner loop has for every 64 activations, on x86 processors with SSE2,
AVX2 and AVX-512, and on 64-bit ARM processors with NEON. Numba compiles for the processor it runs
on; LLVM then makes code for the others of the same, which need not run here. Counts are the same
on every run, however busy the machine: the test suite compares them with LIMITS, which a kernel
exceeds that is no longer made of vectors.
"""

import functools
import platform
import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import pytest
from numba import types

from benchmarks.cpu.reference_loops import within
from tensorstate_gpu.cpu_fallback import lanes, pack_kernels, unpack

JUMP = re.compile(r"^\s+(?:j\w+\s+|b(?:\.\w+)?\s+|cbn?z\s+\w+, |tbn?z\s+\w+, #\d+, )(\.\w+)")
LABEL = re.compile(r"^(\.\w+):")
NO_CODE = re.compile(r"^\s*(\.|#|//|$)|^\.?\w+:")
COMPARE = re.compile(r"^v?pcmp(?:gt|n?lt|n?le)[bwd]\s.*%([xyz])mm|^cm(?:ge|gt)\s+(v)\d")
STORE = re.compile(r"^v?mov\w+\s+%([xyz])mm\d+, [^%]*\(|^(st[rp])\s+q")
COMPARE_ONE = re.compile(r"\bv?u?comiss\b|\bfcmp\s+s")
# Bits that an instruction compares, or stores.
BITS = {"x": 128, "y": 256, "z": 512, "v": 128, "str": 128, "stp": 256}

# LLVM's names for processors that have one kind of vectors and what came before it.
WIDTHS = {"SSE2": "x86-64", "AVX2": "x86-64-v3", "AVX-512": "x86-64-v4", "NEON": "generic"}
ARM = {
    "triple": "aarch64-unknown-linux-gnu",
    "datalayout": "e-m:e-p270:32:32-p271:32:32-p272:64:64-i8:8:32-i16:16:32-i64:64-i128:128"
    "-n32:64-S128-Fn32",
}
# 1.6 times what LLVM 22 makes; LLVM 15 makes up to 1.44 times as many. One by one it takes
# 316, or 232 on ARM.
LIMITS = {
    "rows, float32": (125, 64, 29, 127),
    "rows, float16": (71, 36, 16, 79),
    "rows of 20, float32": (116, 55, 23, 119),
    "NCHW, float32": (156, 88, 53, 138),
    "NCHW, float16": (101, 60, 40, 90),
    "unpack": (43, 19, 6, 32),
}


def plain_loop(x: Any, packed: Any) -> None:
    """What one writes first: a row's neurons one by one."""
    for row in range(x.shape[0]):
        for byte in range(packed.shape[1]):
            bits = 0
            for bit in range(8):
                if x[row, 8 * byte + bit] > 0:
                    bits |= 1 << bit
            packed[row, byte] = bits


def _packing(bits: int) -> tuple[Any, ...]:
    """How packing kernels are called for signed keys of so many bits; see lanes.py for the test."""
    key, rows = types.Integer.from_bitwidth(bits, True), types.Array(types.uint8, 2, "C")
    test = types.Tuple([key, key, *[types.none] * 4])
    return types.int64, types.Array(types.int64, 1, "C"), test, rows, types.int64, types.int64


_UNPACKING = (types.Array(types.uint8, 2, "C", readonly=True), types.Array(types.boolean, 2, "C"))
_BOUNDS = (types.int64, types.int64)
# Name -> kernel, argument types, and the bits of vectors compared, or stored, for 64 activations.
KERNELS: dict[str, tuple[Any, tuple[Any, ...], re.Pattern[str], int]] = {
    "rows, float32": (pack_kernels.pack_rows, _packing(32), COMPARE, 64 * 32),
    "rows, float16": (pack_kernels.pack_rows, _packing(16), COMPARE, 64 * 16),
    "rows of 20, float32": (pack_kernels.pack_flat, _packing(32), COMPARE, 64 * 32),
    "NCHW, float32": (pack_kernels.pack_planes, _packing(32), COMPARE, 64 * 32),
    "NCHW, float16": (pack_kernels.pack_planes, _packing(16), COMPARE, 64 * 16),
    "unpack": (unpack._unpack_rows, _UNPACKING + _BOUNDS, STORE, 64 * 8),
}


def on_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def machine_code(function: Callable[..., Any], signature: tuple[Any, ...], width: str) -> str:
    """The machine code of a function for the processors of a width."""
    code = compiled(function, signature, widens_bits=width != "NEON")
    if width == "NEON":
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        code = for_arm(code)
    module = llvm.parse_assembly(code)
    target = llvm.Target.from_triple(module.triple)
    machine = target.create_target_machine(
        cpu=WIDTHS[width], opt=3, reloc="static", codemodel="small"
    )
    return str(machine.emit_assembly(module))


@functools.lru_cache(2)  # of one function, for x86 and for ARM
def compiled(function: Callable[..., Any], signature: tuple[Any, ...], *, widens_bits: bool) -> str:
    """LLVM's form of a function, compiled anew: what comes from Numba's cache cannot be read."""
    dispatcher = numba.njit(nogil=True)(function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "widens_bits", widens_bits)
        dispatcher.compile(signature)
    return str(dispatcher.inspect_llvm(dispatcher.signatures[0]))


def for_arm(code: str) -> str:
    """The same for ARM processors, but for counts of references, which no inner loop changes."""
    for word, value in ARM.items():
        code = re.sub(f"^target {word} = .*$", f'target {word} = "{value}"', code, flags=re.M)
    return code.replace("@llvm.x86.", "@x86.")


def loops(assembly: str) -> list[list[str]]:
    """The instructions of each innermost loop: from a label to the jump back to it."""
    lines = assembly.splitlines()
    places = {found[1]: i for i, line in enumerate(lines) if (found := LABEL.match(line))}
    spans = []
    for i, line in enumerate(lines):
        jump = JUMP.match(line)
        if jump and places.get(jump[1], i) < i:
            spans.append((places[jump[1]], i))
    inner = [
        (first, last)
        for first, last in spans
        if not any(
            (first, last) != other and first <= other[0] and other[1] <= last for other in spans
        )
    ]
    return [
        [line.strip() for line in lines[first : last + 1] if not NO_CODE.match(line)]
        for first, last in inner
    ]


def widest_loop(assembly: str, sign: re.Pattern[str], bits: int) -> tuple[float, list[str]]:
    """The loop of whole vectors, and how many times 64 activations it has: how LLVM unrolled it.

    ``sign`` matches its comparisons or stores, of ``bits`` for 64 activations. 0 times if no loop
    has vectors.
    """
    found = []
    for loop in loops(assembly):
        widths = [BITS[match[match.lastindex]] for line in loop if (match := sign.match(line))]
        found.append((sum(widths) / bits, -len(loop), loop))
    times, _, loop = max(found, default=(0.0, 0, []))
    return times, loop


def per_64(assembly: str, sign: re.Pattern[str], bits: int) -> float:
    """Instructions for 64 activations in the widest loop. Infinite where no loop has vectors."""
    times, loop = widest_loop(assembly, sign, bits)
    return len(loop) / times if times else float("inf")


def counts(name: str, function: Any = None) -> dict[str, float]:
    """For each width, instructions for 64 activations of a kernel, or of ``function`` instead."""
    kernel, signature, sign, bits = KERNELS[name]
    code = function or kernel.py_func
    return {width: per_64(machine_code(code, signature, width), sign, bits) for width in WIDTHS}


def vector_bits() -> int:
    """The width of the vectors that Numba uses here; SSE2, NEON and others have 128 bits."""
    function = numba.njit(lambda at, low, high: within(at, low, high))
    function.compile((types.int64, types.int32, types.int32))
    code = next(iter(function.inspect_asm().values()))
    return max((BITS[kind] for kind in re.findall(r"%([xyz])mm", code)), default=128)


def plain_counts() -> dict[str, float]:
    """As counts, of the plain loop, which compares one by one."""
    floats, rows = types.Array(types.float32, 2, "C"), types.Array(types.uint8, 2, "C")
    found = {}
    for width in WIDTHS:
        inner = loops(machine_code(plain_loop, (floats, rows), width))
        compared, length = max((len(COMPARE_ONE.findall("\n".join(x))), len(x)) for x in inner)
        found[width] = 64 * length / compared
    return found


def main() -> None:
    if not on_x86():
        print("instructions are counted in the code of x86 processors only")
        return
    print("| |", " | ".join(WIDTHS), "|")
    for name in ("plain loop, float32", *KERNELS):
        found = counts(name) if name in KERNELS else plain_counts()
        print(f"| {name} |", " | ".join(f"{count:.0f}" for count in found.values()), "|")


if __name__ == "__main__":
    main()
