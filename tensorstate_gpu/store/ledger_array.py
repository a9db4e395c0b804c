"""LedgerArray: the ledger of a layer as an array that grows: a commit writes only its end."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from zarr.codecs import ZstdCodec

from tensorstate_gpu._layers.batches import Batch, Batches, totals
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu.errors import DamagedStore
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.columns import ArrayReader, Column, ColumnSnapshot
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import ledger_key

COLUMNS = ("instances", "states_per_instance")
CHUNK_BYTES = 1 << 16  # 4096 batches: each commit writes the last chunk again


class LedgerSnapshot(NamedTuple):
    """A ledger at one point in time.

    ``array``: all batches but the last, which is in ``last`` and may still grow. ``instances``,
    ``states`` and ``unassigned`` (states that belong to no known instance) are those of all
    batches.
    """

    array: ColumnSnapshot
    last: Batches
    instances: int
    states: int
    unassigned: int


class LedgerArray:
    """The batches of a ledger as a growing array (batches, 2), except the last one.

    The last batch grows when another with as many states per instance follows; the record has it.
    A layer whose instances all have equally many states thus needs no array.

    ``column``: returns a growing array, as RunWriter.column() does.
    """

    def __init__(self, name: str, column: Callable[..., Column]) -> None:
        empty = np.empty((0, len(COLUMNS)), np.int64)
        codec = ZstdCodec(level=1)  # the numbers are small
        names = (f"{name}_batch", "column")
        self._column = column(ledger_key(name), empty, names, codec, CHUNK_BYTES)
        # Of the batches in the array: instances, states, and states of no known instance.
        self._totals = (0, 0, 0)

    def resume(self, committed: LayerRecord) -> None:
        """Continue after the committed batches."""
        if committed.ledger is not None:
            self._column.resume(committed.ledger)
            whole = committed.instances, committed.rows, committed.unassigned
            last = totals(committed.batches)
            self._totals = whole[0] - last[0], whole[1] - last[1], whole[2] - last[2]

    def snapshot(self, ledger: Ledger) -> LedgerSnapshot:
        """Append what is new in a ledger, as far as its rows have arrived; return what there is."""
        stored, before = ledger.stored, self._totals
        new = ledger.first_batches(
            stored[0] - before[0], stored[1] - before[1], start=self._column.rows
        )
        complete, last = new[:-1], tuple(new[-1:])
        if complete:
            self._column.append(np.array(complete, np.int64))
            self._totals = _sum(self._totals, totals(complete))
        array = self._column.snapshot() if self._column.rows else _NO_ROWS
        return LedgerSnapshot(array, last, *_sum(self._totals, totals(last)))

    def rewind(self, ledger: Ledger) -> None:
        """Discard the batches that a ledger no longer has. All jobs must be done."""
        kept = ledger.batches[: min(self._column.rows, max(len(ledger.batches) - 1, 0))]
        if len(kept) < self._column.rows:
            self._column.rewind(len(kept))
            self._totals = totals(kept)

    # ---- called by commits ---------------------------------------------------------------------

    def write_partial_chunk(self, snapshot: LedgerSnapshot) -> None:
        """Write the last, partial chunk of the array."""
        self._column.write_partial_chunk(snapshot.array)

    def commit_entry(self, snapshot: LedgerSnapshot) -> ArrayRecord | None:
        """Return the entry for the commit record; None if the array is empty."""
        return self._column.commit_entry(snapshot.array) if snapshot.array.rows else None

    def update_metadata(self, committed: ArrayRecord | None, name: str) -> None:
        """Write the committed number of batches to the array's zarr.json."""
        if committed is not None:
            self._column.update_metadata(committed.rows, {"name": name, "columns": COLUMNS})


_NO_ROWS = ColumnSnapshot(0, np.empty((0, len(COLUMNS)), np.int64))


Totals = tuple[int, int, int]


def _sum(one: Totals, other: Totals) -> Totals:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def read_batches(files: Files, name: str, committed: LayerRecord) -> list[Batch]:
    """Return the batches of a ledger, in order. Raises DamagedStore if they do not fit the rows."""
    if committed.ledger is None:
        return list(committed.batches)
    key = ledger_key(name)
    chunks = ArrayReader(files, key, committed.ledger, (len(COLUMNS),)).chunks()
    batches = [batch for chunk in chunks for batch in map(tuple, chunk.tolist())]
    batches += committed.batches
    found = totals(batches)
    if found != (committed.instances, committed.rows, committed.unassigned):
        raise DamagedStore(
            f"{files}/{key} is damaged: it has {found[0]} instances with {found[1]} states, "
            f"committed are {committed.instances} with {committed.rows}; {found[2]} of the "
            f"states are unassigned, committed are {committed.unassigned}"
        )
    return batches
