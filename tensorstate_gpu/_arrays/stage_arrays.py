"""StageArrays: the memory of packed rows that wait on their device, at addresses that never change.

What appends a batch reads and writes this memory only: no size of it is known to the host. So a
CUDA graph can append a batch each time that it is replayed.
"""

from typing import Generic, NamedTuple, TypeVar

from tensorstate_gpu._arrays.array_types import NativeArray

ArrayT = TypeVar("ArrayT", bound=NativeArray)

# What each number of ``status`` is. ROWS, INPUTS and BATCHES are waiting; LOST rows found no room,
# and LABELLED batches have labels. If ACTIVE is 0, batches are not appended, and not lost either.
ROWS, INPUTS, BATCHES, LABELLED, LOST, ACTIVE = range(6)
# What each row of ``notes`` has: of each batch the number of its rows, and that of its inputs, or
# UNKNOWN; of each input the label.
BATCH_ROWS, BATCH_INPUTS, LABELS = range(3)
UNKNOWN = -1


class StageArrays(NamedTuple, Generic[ArrayT]):
    """Rows that wait, and what is known of them.

    ``rows``: uint8 (capacity, bytes). ``status``: 6 integers of 64 bits. ``notes``: integers of 64
    bits (3, capacity); no batch and no input has less than one row.
    """

    rows: ArrayT
    status: ArrayT
    notes: ArrayT
