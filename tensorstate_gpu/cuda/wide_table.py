"""A hash table on the device, for rows of more than 8 bytes: kernels/count_wide.cu."""

from typing import Any

import numpy as np

from . import device
from .launch import Launch, blocks_for
from .table import FIRST_SLOTS, Table, at


class WideTable(Table):
    """Slots point to rows that are kept side by side; counts lie beside the slots."""

    def __init__(self, row_bytes: int, slots: int = FIRST_SLOTS) -> None:
        xp = device.library()
        self._row_bytes = row_bytes
        self._used = xp.zeros(1, np.uint64)
        self._fresh_count = xp.zeros(1, np.uint64)
        self._rows = device.empty((0, row_bytes), np.uint8)
        self._make(slots, 0)

    def _make(self, slots: int, kept: int) -> None:
        """An empty table, with room for as many rows as it may hold; the ``kept`` first stay."""
        xp = device.library()
        if slots > 1 << 32:
            raise MemoryError(f"{kept} distinct rows are kept; slots number at most 2**31 of them")
        # All or nothing: where memory is short, the table stays what it was.
        rows = device.empty((slots // 2, self._row_bytes), np.uint8)
        places, counts = (xp.zeros(slots, np.uint64) for _ in range(2))
        rows[:kept] = self._rows[:kept]
        self._rows, self._places, self._counts = rows, places, counts
        self._slots, self._at_most = slots, 0

    def _grow(self, slots: int) -> None:
        kept, places, counts = len(self), self._places, self._counts
        self._make(slots, kept)
        arguments = (at(places), at(counts), np.int64(len(places)), at(self._rows))
        table = (at(self._places), at(self._counts), np.uint64(slots - 1))
        self._launch("place_slots", len(places), *arguments, np.int32(self._row_bytes), *table)
        self._at_most = kept

    def _count(self, rows: Any, weights: Any) -> None:
        fresh = device.empty((len(rows),), np.uint64)
        kept, width = at(self._used), np.int32(self._row_bytes)
        news = (at(fresh), at(self._fresh_count))
        batch = (at(rows), at(weights), np.int64(len(rows)), width)
        table = (at(self._rows), kept, at(self._places), at(self._counts))
        self._launch("count_batch", len(rows), *batch, *table, *news, np.uint64(self._slots - 1))
        targets = (at(self._rows), kept, at(self._places))
        self._launch("keep_fresh", rows.size, at(rows), width, *targets, *news)
        self._launch("point_to_kept", len(rows), kept, at(self._places), *news)
        self._launch("note_kept", 1, kept, at(self._fresh_count))

    def entries(self) -> tuple[Any, Any]:
        """Distinct rows (distinct, bytes) in order of arrival, and their int64 counts."""
        distinct = len(self)
        counts = device.empty((distinct,), np.int64)
        arguments = (at(self._places), at(self._counts), np.int64(self._slots), at(counts))
        self._launch("counts_of_kept", self._slots, *arguments)
        return self._rows[:distinct], counts

    def _launch(self, kernel: str, threads: int, *arguments: Any) -> None:
        defines = (("WORDS", int(self._row_bytes % 8 == 0)),)
        device.run(Launch("count_wide", kernel, defines, (blocks_for(threads), 1), arguments))
