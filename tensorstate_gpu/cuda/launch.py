"""Kernel launches as plain data: the kernel, how to compile it, blocks and arguments."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

KERNELS = Path(__file__).parent / "kernels"
THREADS = 256  # of most blocks
BYTES_AT_ONCE = 4  # that a thread copies: kernels/copy_bytes.h
MOST_BLOCKS = (1 << 31) - 1, (1 << 16) - 1  # in x and y, on every GPU since compute capability 3.0


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel of ``kernels/{source}.cu``, compiled with ``defines``, and its arguments.

    Arguments are NumPy scalars of the kernel's parameter types; addresses are np.uint64.
    """

    source: str
    kernel: str
    defines: tuple[tuple[str, int], ...]
    grid: tuple[int, int]
    arguments: tuple[np.generic, ...]
    threads: int = THREADS
    shared_bytes: int = 0

    def __post_init__(self) -> None:
        for axis, (blocks, most) in enumerate(zip(self.grid, MOST_BLOCKS, strict=True)):
            if not 1 <= blocks <= most:
                raise ValueError(
                    f"{self.kernel} needs {blocks} blocks along axis {axis}; a GPU runs 1 to {most}"
                )


# The same launch is made for each batch of a layer, but for the addresses: see device.run().
cached_launch = lru_cache(maxsize=1024)(Launch)


def blocks_for(threads: int) -> int:
    """Return the number of blocks for a number of threads."""
    return -(-threads // THREADS)


def source_code(source: str) -> str:
    """Return a kernel file with its headers inserted, so that caches notice changes in them."""
    code = (KERNELS / f"{source}.cu").read_text()
    for header in sorted(KERNELS.glob("*.h")):
        code = code.replace(f'#include "{header.name}"\n', header.read_text())
    return code


def names_in(code: str) -> list[str]:
    """Return the names of the kernels in a source."""
    return re.findall(r"^(?:LARGE_)?KERNEL (\w+)\(", code, re.MULTILINE)
