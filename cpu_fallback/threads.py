"""The thread pool for nogil kernels: safe with Python threads, and rebuilt after fork.

Numba's workqueue layer aborts if two Python threads call parallel kernels, and its OpenMP layer
kills a forked child at its first parallel kernel. A plain pool of nogil calls has neither problem.
"""

import contextlib
import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.num_threads import get_num_threads, min_bytes_per_thread

Range = tuple[int, int]  # start, stop

_lock = ForkSafeLock()
_pool: ThreadPoolExecutor | None = None
_workers = 0
_allowed: dict[int, set[int]] = {}  # what each thread of the pool was told, by its id
_this_processor = None  # a function that returns its number, on Linux
if hasattr(os, "sched_setaffinity"):
    _this_processor = getattr(ctypes.CDLL(None), "sched_getcpu", None)


def _discard_pool() -> None:
    # A forked child inherits the executor but none of its threads.
    global _pool, _allowed
    _pool, _allowed = None, {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_discard_pool)


def _executor() -> ThreadPoolExecutor:
    """Return a pool of the current size. A pool of another size ends when its work is done."""
    global _pool, _workers, _allowed
    workers = max(1, get_num_threads() - 1)  # the calling thread works too
    if _pool is None or _workers != workers:
        if _pool is not None:
            _pool.shutdown(wait=False)
        _workers, _allowed = workers, {}
        started = _allowed
        _pool = ThreadPoolExecutor(
            workers, "tensorstate", lambda: started.update({threading.get_native_id(): set()})
        )
    return _pool


def _wake_elsewhere() -> None:
    """Keep the threads of the pool off the processor that this thread uses.

    Linux wakes a thread where its caller runs if no other processor seems idle, as on virtual
    machines, where an idle one may be lent to others. It then waits until its caller is done: on a
    machine with two processors in most calls after a pause of some milliseconds.

    Only threads that were told otherwise are told: each takes a microsecond.
    """
    if _this_processor is None:
        return
    with contextlib.suppress(OSError):  # not permitted, or others change what is allowed
        others = os.sched_getaffinity(0) - {_this_processor()}
        for thread, allowed in list(_allowed.items()):
            if others and allowed != others:
                os.sched_setaffinity(thread, others)
                _allowed[thread] = others


def thread_ranges(items: int, traffic: int) -> list[Range]:
    """Cut ``items``, which move ``traffic`` bytes, into one range (start, stop) per thread."""
    most = traffic // min_bytes_per_thread()
    return split_ranges(items, min(get_num_threads(), most)) if most > 1 else [(0, items)]


def split_ranges(items: int, parts: int) -> list[Range]:
    """Split into ranges (start, stop) of about equal size: at least one, at most one per item."""
    parts = max(1, min(parts, items))
    bounds = [items * part // parts for part in range(parts + 1)]
    return list(itertools.pairwise(bounds))


def in_parallel(task: Callable[[int, int], Any], items: int, traffic: int) -> list[Any]:
    """Call ``task(start, stop)`` for ranges that cover ``items`` (moving ``traffic`` bytes).

    Returns the results when all calls have ended, even if one raises, so that no kernel outlives
    its arrays.
    """
    if traffic < 2 * min_bytes_per_thread():  # the usual case in a forward pass
        return [task(0, items)]
    return run(task, thread_ranges(items, traffic))


def run(task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call ``task(*each)`` for each tuple, on a separate thread each. Return the results."""
    if len(arguments) == 1:
        return [task(*arguments[0])]
    # Ctrl-C while the pool starts a thread would leave one that it does not know: it would never
    # be told to end, and the program neither.
    with deferred_interrupts():
        return _run(task, arguments)


def _run(task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Run the first call in this thread, the others in the pool."""
    with _lock:  # no other thread ends the pool in between
        pool = _executor()
        _wake_elsewhere()
        futures = [pool.submit(task, *each) for each in arguments[1:]]
    try:
        first = task(*arguments[0])
    finally:
        wait(futures)
    return [first, *(future.result() for future in futures)]
