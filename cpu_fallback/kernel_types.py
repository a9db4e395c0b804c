"""Types of kernels and intrinsics, for type checkers. Numba ignores them, and infers its own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite.ir import IRBuilder as Builder
from llvmlite.ir import Value
from numba.core.base import BaseContext as Context
from numba.core.typing import Signature

from tensorstate_gpu._arrays.array_types import Index as Index
from tensorstate_gpu._arrays.array_types import Int as Int
from tensorstate_gpu._arrays.array_types import KernelArray as KernelArray

Bool = bool | np.bool_
Bools = KernelArray[np.bool_, np.bool_]
Bytes = KernelArray[np.uint8, np.uint8]
Cells = KernelArray[np.uint16, np.uint16]
Words = KernelArray[np.uint64, np.uint64]
Ints32 = KernelArray[np.int32, Int]
Counts32 = KernelArray[np.uint32, np.uint32]
Ints = KernelArray[np.int64, Int]
Sums = Ints32 | Ints
Scratch = tuple[Words, Ints | None, Ints, Ints]  # of radix.sort_run

# The firing test as an argument of kernels: shift, limit, bias, flip, lows, highs. See lanes.py.
Key = np.signedinteger[Any]
Test = tuple[Key, Key, Key | None, Key | None, int | None, int | None]

# Kinds of intrinsics.
Mask = Callable[[Int, Test, Int], np.uint64]
Plane = Callable[[Int, Test, Int, Int, Int], None]
Load = Callable[[Int], np.uint64]
Store = Callable[[np.uint64, Int], None]
AddBits = Callable[[Int, Int, Int], None]
CountPairs = Callable[[Int, Int], int]
Differ = Callable[[Int, Int], bool]

# What an intrinsic returns to Numba: its signature, and the generator of its code.
Values = Sequence[Value]
Declared = tuple[Signature, Callable[[Context, Builder, Signature, Values], Value]]
