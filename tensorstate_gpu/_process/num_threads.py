"""How many threads the CPU's kernels use."""

import os
import threading

from tensorstate_gpu._arguments import positive_integer

_chosen: int | None = None
_here = threading.local()  # .least: bytes that a second thread must have to move, in this thread

# About what one thread moves while another wakes up.
_LEAST = 1 << 20
# Inside a forward pass the framework's own threads still spin, for milliseconds, on the other
# processors: there a second thread competes with them.
_LEAST_BESIDE_OTHERS = 1 << 26


def least_bytes_per_thread() -> int:
    """Work below which a second thread costs more than it saves."""
    least: int = getattr(_here, "least", _LEAST)
    return least


class beside_busy_threads:
    """Keep to the calling thread in the block, unless there is much work."""

    def __enter__(self) -> None:
        _here.least = _LEAST_BESIDE_OTHERS

    def __exit__(self, *_: object) -> None:
        _here.least = _LEAST


def get_num_threads() -> int:
    """Threads that a large call uses.

    What set_num_threads() said, else the environment variable TENSORSTATE_NUM_THREADS, else the
    processors that this process may run on. ValueError where the variable is no number above 0.
    """
    if _chosen is not None:
        return _chosen
    text = os.environ.get("TENSORSTATE_NUM_THREADS")
    if text:
        if not text.strip().isdecimal() or int(text) == 0:
            raise ValueError(f"TENSORSTATE_NUM_THREADS must be an integer above 0, got {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(threads: int | None) -> None:
    """Let large calls use so many threads from now on; None goes back to the default.

    All callers of this process share one pool of that size, so that hooks in several threads, or
    beside a framework's own pool, do not multiply it.
    """
    global _chosen
    _chosen = None if threads is None else positive_integer(threads, "threads")
