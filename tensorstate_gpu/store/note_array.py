"""NoteArray: the labels of a layer's instances, or their units, as an array that grows."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from tensorstate_gpu._layers.labels import (
    INTEGERS,
    STRINGS,
    empty_column,
    from_column,
    label_kind,
    to_column,
)
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.columns import ArrayReader, Column, ColumnSnapshot
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import note_key


class NoteArray:
    """The labels of a layer's instances, or their units. There is an array once there is a value.

    ``what``: "labels" or "units". ``column``: returns a growing array, as RunWriter.column() does.
    """

    def __init__(self, layer: str, what: str, column: Callable[..., Column]) -> None:
        self._layer, self._what, self._new_column = layer, what, column
        self._key = note_key(what, layer)
        self._column: Column | None = None
        self._kind = ""

    @property
    def rows(self) -> int:
        """Number of values: committed, written or buffered."""
        return 0 if self._column is None else self._column.rows

    def resume(self, files: Files, committed: ArrayRecord | None) -> None:
        """Continue after the committed values."""
        if committed is not None:
            reader = ArrayReader(files, self._key, committed, ())
            strings = reader.document()["data_type"] == "string"
            self._open(STRINGS if strings else INTEGERS).resume(committed)

    def _open(self, kind: str) -> Column:
        # Labels compress well, and are few compared with the rows.
        self._kind = kind
        codec = ZstdCodec(level=1)
        dimensions = (f"{self._layer}_instance",)
        self._column = self._new_column(self._key, empty_column(kind), dimensions, codec)
        return self._column

    def converted(self, values: NDArray[Any] | None) -> NDArray[Any] | None:
        """Return values in the dtype of the array. Raises TypeError or ValueError."""
        if values is None:
            return None
        converted, kind = to_column(values, f"{self._what} in a store"), label_kind(values)
        if self._column is None:
            self._open(kind)
        if kind != self._kind:
            raise TypeError(
                f"{self._layer}: {self._what} in this store are {self._kind}, got {kind}"
            )
        return converted

    def append(self, converted: NDArray[Any] | None) -> None:
        """Store what converted() has returned."""
        if converted is not None and self._column is not None:
            self._column.append(converted)

    def import_pieces(self, pieces: Iterable[NDArray[Any]]) -> None:
        """Store the values that were captured elsewhere."""
        for piece in pieces:
            self.append(self.converted(piece))

    def pieces(self, read: Callable[[Column], Iterator[NDArray[Any]]]) -> Iterator[NDArray[Any]]:
        """Return an iterator over the current values, in order, in chunks."""
        return iter(()) if self._column is None else map(from_column, read(self._column))

    def rewind(self, rows: int) -> None:
        """Discard all values but the first ``rows``. All jobs must be done."""
        if self._column is not None:
            self._column.rewind(rows)

    # ---- called by commits ---------------------------------------------------------------------

    def snapshot(self) -> ColumnSnapshot | None:
        """Return the current values, for a commit; None if there is no array."""
        return None if self._column is None else self._column.snapshot()

    def write_partial_chunk(self, snapshot: ColumnSnapshot | None) -> None:
        """Write the last, partial chunk of the array."""
        if self._column is not None and snapshot is not None:
            self._column.write_partial_chunk(snapshot)

    def commit_entry(self, snapshot: ColumnSnapshot | None) -> ArrayRecord | None:
        """Return the entry for the commit record; None if there are no values."""
        if self._column is None or snapshot is None or not snapshot.rows:
            return None
        return self._column.commit_entry(snapshot)

    def update_metadata(self, committed: ArrayRecord | None) -> None:
        """Write the committed number of values to the array's zarr.json."""
        if self._column is not None and committed is not None:
            self._column.update_metadata(committed.rows, {"name": self._layer})
