"""The number of threads that the CPU kernels use."""

import os
import threading

from tensorstate_gpu._arguments import positive_integer

_chosen: int | None = None
_this_thread = threading.local()  # its attribute min_bytes overrides _MIN_BYTES

# Each thread gets this amount of work at least: what one moves while another wakes up (40 to 150 us
# on a virtual machine, at 10 to 45 GB/s).
_MIN_BYTES = 1 << 21
# Inside a forward pass, the framework's threads keep spinning on the other processors for
# milliseconds, and a second thread would compete with them.
_MIN_BYTES_IN_FORWARD_PASS = 1 << 26


def min_bytes_per_thread() -> int:
    """Return the amount of work below which a second thread costs more than it saves."""
    min_bytes: int = getattr(_this_thread, "min_bytes", _MIN_BYTES)
    return min_bytes


class prefer_single_thread:
    """Use only the calling thread inside the block, unless there is a lot of work."""

    def __enter__(self) -> None:
        self._before = min_bytes_per_thread()
        _this_thread.min_bytes = _MIN_BYTES_IN_FORWARD_PASS

    def __exit__(self, *_: object) -> None:
        _this_thread.min_bytes = self._before


def get_num_threads() -> int:
    """Return the number of threads that large calls use.

    This is the number given to set_num_threads(), or else the environment variable
    TENSORSTATE_NUM_THREADS, or else the number of processors that this process may use. Raises
    ValueError if the variable is not an integer above 0.
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
    """Set the number of threads for large calls; None restores the default.

    All callers in this process share one pool of that size: hooks that run in several threads do
    not multiply it.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    global _chosen
    _chosen = None if threads is None else positive_integer(threads, "threads")


def chosen_threads() -> int | None:
    """Return what set_num_threads() was given last."""
    return _chosen
