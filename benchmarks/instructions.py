"""Instructions in the inner loops of packing, from the machine code that Numba makes here.

``python -m benchmarks.instructions`` prints, for the loop one would write and for our kernels,
how many instructions an inner loop has for every 64 activations. Unlike times these counts are the
same on every run; they differ between processors, for which LLVM makes different code (this reads
that for AVX-512).
"""

import re
import tempfile
from typing import Any

import numba
import numpy as np

numba.config.CACHE_DIR = tempfile.mkdtemp()  # code that is read from the cache cannot be inspected

import tensorstate_gpu as ts  # noqa: E402
from tensorstate_gpu.cpu_fallback import pack  # noqa: E402

JUMP = re.compile(r"^\s+j\w+\s+(\.\w+)")
LABEL = re.compile(r"^(\.\w+):")
NO_CODE = re.compile(r"^\s*(\.|#|$)|^\.?\w+:")


@numba.njit
def plain_loop(x: Any, packed: Any) -> None:
    """What one writes first: a row's neurons one by one."""
    for row in range(x.shape[0]):
        for byte in range(packed.shape[1]):
            bits = 0
            for bit in range(8):
                if x[row, 8 * byte + bit] > 0:
                    bits |= 1 << bit
            packed[row, byte] = bits


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


def busiest(assembly: str, compare: str) -> list[str]:
    """The loop with the most instructions ``compare``: that of whole vectors, not of tails."""
    return max(loops(assembly), key=lambda loop: (" ".join(loop).count(compare), -len(loop)))


def compiled(dispatcher: Any) -> str:
    return str(next(iter(dispatcher.inspect_asm().values())))


def main() -> None:
    for dtype in (np.float32, np.float16):
        rows = np.ones((64, 512), dtype)
        maps = np.ones((1, 64, 28, 28), dtype)
        ts.compress_states(rows)
        ts.compress_states(maps, neuron_axis=1)
        for name, kernel in (("rows", pack._pack_rows), ("NCHW", pack._pack_planes)):
            code = list(kernel.inspect_asm().values())[-1]
            loop = busiest(code, "vpcmp")
            # Two comparisons for each 64-byte vector: how often LLVM unrolled the loop.
            times = " ".join(loop).count("vpcmp") / (2 * rows.itemsize)
            print(f"{name}, {dtype.__name__}: {len(loop) / times:.0f} for 64 activations")
    plain_loop(np.ones((64, 512), np.float32), np.zeros((64, 64), np.uint8))
    loop = busiest(compiled(plain_loop), "ucomiss")
    eight = " ".join(loop).count("ucomiss")
    print(f"plain loop, float32: {len(loop) * 64 // eight} for 64 activations")


if __name__ == "__main__":
    main()
