"""Packing by the threads with which torch computes, each of which packs what it has just written.

In a forward pass, each processor has a part of a layer's output in its cache, and torch's threads
spin until the next operator begins. A pool of our own would compete with them. If one thread packed
everything, the others would wait for it, and a capture would cost the more, the more there are.

Two threads are left alone: a pass gained less than the spread of `make bench ARGS="-k capture"`,
and when another program had one of two processors for a time, each layer waited for it. More
threads have more to gain: that is arithmetic, for no machine with more processors has measured it.

torch computes with OpenMP: its parallel loops call GOMP_parallel, the entry of GCC's library, which
those of LLVM and Intel have as well. It runs a C function in all threads of the caller's team.
"""

import ctypes
import os
import sys
from functools import cache
from typing import Any

import numpy as np
from numba import carray

from tensorstate_gpu._process.num_threads import chosen_threads, get_num_threads

from .compiling import c_function
from .intrinsics import add_at, call_for_int, pointer_to
from .kernel_types import Int
from .pack import Plan
from .pack_kernels import pack_flat, pack_planes, pack_rows

_LEAST_BYTES = 1 << 17  # for each thread: as much as torch itself gives one
_LEAST_THREADS = 3
_KERNELS = (pack_flat, pack_rows, pack_planes)

_Data = ctypes.c_int64 * 5  # of one call: address, target, words of the plan, parts, rows done
_DONE = 4
_PLAN_WORDS = 9  # address and length of its numbers, shape, test (3), two functions of OpenMP


class Team:
    """The threads that work for those of this process which use torch."""

    def __init__(self, library: Any, torch: Any) -> None:
        """Raises AttributeError if the library, or what it depends on, has no OpenMP."""
        self.call_in_all = library.GOMP_parallel
        function, data, threads, flags = (ctypes.c_void_p, _Data, ctypes.c_uint, ctypes.c_uint)
        self.call_in_all.argtypes = [function, data, threads, flags]
        self.call_in_all.restype = None
        self.size = torch.get_num_threads  # of the team of the thread that calls it
        asked = library.omp_get_thread_num, library.omp_get_num_threads
        self.functions = [ctypes.cast(each, ctypes.c_void_p).value for each in asked]


@cache
def find_team() -> Team | None:
    """Return the team, once torch is imported; None if that has no OpenMP."""
    torch: Any = sys.modules["torch"]
    if not torch.backends.openmp.is_available():
        return None
    # As the linker looks for it: first among what is global, such as a library of LD_PRELOAD.
    for path in (None, torch._C.__file__):
        try:
            return Team(ctypes.CDLL(path), torch)
        except (AttributeError, OSError, TypeError):  # TypeError: Windows, without a path
            continue
    return None


_is_forked = False  # this process: it has none of the threads, for which GCC's library would wait


def _leave_team() -> None:
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_team)


class SharedPlan:
    """A Plan that a team carries out."""

    __slots__ = ("_parts", "_plan", "_task", "_team", "_words")

    def __init__(self, plan: Plan, team: Team, parts: int) -> None:
        self._plan, self._team, self._parts = plan, team, parts  # the words have addresses of it
        shift, limit, _, flip = plan.test[:4]
        self._task = task_of(plan)
        words = [plan.numbers.ctypes.data, len(plan.numbers), *plan.shape]
        words += [int(shift), int(limit), 0 if flip is None else int(flip)]
        self._words = np.array([*words, *team.functions], np.int64)

    def pack(self, address: int, target: int) -> bool:
        """Pack what is at an address into memory at another; return whether a team did.

        Raises MemoryError if there was none for a thread.
        """
        team = self._team
        parts = min(self._parts, team.size(), chosen_threads() or self._parts)
        if parts < _LEAST_THREADS or _is_forked:
            return False
        data = _Data(address, target, self._words.ctypes.data, parts, 0)
        # 0: in as many threads as torch uses. The library would end the others. Without the GIL.
        team.call_in_all(self._task, data, 0, 0)
        if data[_DONE] != self._plan.shape[0]:
            raise MemoryError(f"no memory to pack {self._plan.shape[0]:,} rows")
        return True


def shared_plan(plan: Plan) -> SharedPlan | None:
    """Return how a team carries out a plan for torch; None if one thread does so as well."""
    parts = min(get_num_threads(), plan.traffic // _LEAST_BYTES)
    team = find_team() if parts >= _LEAST_THREADS and not plan.tables else None
    return None if team is None else SharedPlan(plan, team, parts)


def task_of(plan: Plan) -> int:
    """Return the address of the C function by which each thread of a team does its part."""
    shift, _, _, flip, *_ = plan.test
    key: Any = type(shift)
    return _task(_KERNELS.index(plan.kernel), key, flip is not None)


@cache
def _task(kernel: int, key: Any, is_flipped: bool) -> int:
    """Compile task_of() for the kernel at a place in _KERNELS, and a type of numbers.

    These are plain values, by which the cache finds compiled code again in another process.
    """

    def pack_part(data: Int) -> None:
        address, target, plan, most, _ = carray(pointer_to(data), (5,), np.int64)
        words = carray(pointer_to(plan), (_PLAN_WORDS,), np.int64)
        rows, width, number = words[2], words[3], call_for_int(words[7])
        parts = min(most, call_for_int(words[8]))
        if number >= parts:
            return
        numbers = carray(pointer_to(words[0]), (words[1],), np.int64)
        packed = carray(pointer_to(target), (rows, width), np.uint8)
        start, stop = rows * number // parts, rows * (number + 1) // parts
        if is_flipped:
            test = (key(words[4]), key(words[5]), None, key(words[6]), None, None)
        else:
            test = (key(words[4]), key(words[5]), None, None, None, None)
        if kernel == 0:
            pack_flat(address, numbers, test, packed, start, stop)
        elif kernel == 1:
            pack_rows(address, numbers, test, packed, start, stop)
        else:
            pack_planes(address, numbers, test, packed, start, stop)
        add_at(data + 8 * _DONE, stop - start)

    return c_function(pack_part)
