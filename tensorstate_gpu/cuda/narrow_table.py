"""A hash table on the device, for rows of at most 8 bytes: kernels/count.cu."""

from typing import Any

import numpy as np

from . import device
from .launch import Launch, blocks_for
from .table import FIRST_SLOTS, Table, at

_BLOCKS = 1 << 11  # several for each multiprocessor of any GPU
_LEAST_ROWS = 1 << 12  # for a block: emptying and flushing its own table is worth 1,024 rows


class NarrowTable(Table):
    """Keys and counts by slot; one more slot for rows of only ones, which len() leaves out."""

    def __init__(self, row_bytes: int, slots: int = FIRST_SLOTS) -> None:
        self._row_bytes = row_bytes
        self._make(slots)

    def _make(self, slots: int) -> None:
        xp = device.library()
        # All or nothing: where memory is short, the table stays what it was.
        keys = xp.full(slots + 1, ~np.uint64(0), np.uint64)
        counts, used = xp.zeros(slots + 1, np.uint64), xp.zeros(1, np.uint64)
        self._keys, self._counts, self._used = keys, counts, used
        self._slots, self._at_most = slots, 0

    def _grow(self, slots: int) -> None:
        rows, counts = self.entries()
        self._make(slots)
        if len(rows):
            self._count(rows, counts)
        self._at_most = len(rows)

    def _count(self, rows: Any, weights: Any) -> None:
        states = np.int64(len(rows))
        table = (at(self._keys), at(self._counts), at(self._used), np.uint64(self._slots - 1))
        if weights is None:
            each = max(_LEAST_ROWS, -(-len(rows) // _BLOCKS))
            self._launch("count_rows", -(-len(rows) // each), rows, states, np.int64(each), *table)
        else:
            self._launch("count_weighted", blocks_for(len(rows)), rows, at(weights), states, *table)

    def entries(self) -> tuple[Any, Any]:
        """Distinct rows (distinct, bytes) in no order, and their int64 counts."""
        distinct = len(self) + int(self._counts[self._slots] > 0)
        rows = device.empty((distinct, self._row_bytes), np.uint8)
        counts = device.empty((distinct,), np.int64)
        found = device.library().zeros(1, np.uint64)
        slots, targets = self._slots + 1, (at(rows), at(counts), at(found))
        arguments = (at(self._counts), np.int64(slots), *targets)
        self._launch("entries", blocks_for(slots), self._keys, *arguments)
        return rows, counts

    def _launch(self, kernel: str, blocks: int, first: Any, *arguments: Any) -> None:
        defines = (("WIDTH", self._row_bytes),)
        device.run(Launch("count", kernel, defines, (blocks, 1), (at(first), *arguments)))
