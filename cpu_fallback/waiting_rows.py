"""Memory for rows that wait to be counted: a share of what all counters of the program may have."""

import weakref

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.interrupts import deferred_interrupts

# Enough for 128 layers with batches of 256 KiB. Layers that find none left count each batch as it
# comes, which takes longer.
_MOST_BYTES = 1 << 28

_lock = ForkSafeLock()
_taken = 0


def room_for_rows(least: int, most: int, row_bytes: int) -> NDArray[np.uint8]:
    """Return memory (rows, bytes) for at most so many rows: for none if there is not the least.

    It may be taken again when nothing refers to it. Raises MemoryError.
    """
    global _taken
    with deferred_interrupts(), _lock:  # one in between would give it back before it is taken
        rows = min(most, (_MOST_BYTES - _taken) // row_bytes)
        if rows < least:
            return np.empty((0, row_bytes), np.uint8)
        room = np.empty((rows, row_bytes), np.uint8)
        weakref.finalize(room, _give_back, room.nbytes).atexit = False
        _taken += room.nbytes
    return room


def _give_back(nbytes: int) -> None:
    global _taken
    with _lock:
        _taken -= nbytes
