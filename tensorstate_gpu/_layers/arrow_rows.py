"""ArrowRows: the rows of a layer as an Arrow table or a Parquet file."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.instance_notes import NOTES
from tensorstate_gpu._layers.labels import STRINGS, SlidingReader, label_kind, to_column
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu._states.arrow_columns import binary_column, schema_of
from tensorstate_gpu._states.arrow_library import pa
from tensorstate_gpu._states.parquet import PIECE_ROWS, write_batches
from tensorstate_gpu.errors import LabelsMissing


class ArrowRows:
    """The rows of a layer with their instances and labels, for one export.

    ``attributes``: how the states were captured, as JSON. ``chunks``: the rows, in chunks (rows,
    bytes), which are read once. Raises TypeError or ValueError unless all labels are strings, or
    all are integers that int64 can hold.
    """

    def __init__(
        self,
        name: str,
        neurons: int,
        attributes: dict[str, Any],
        ledger: Ledger,
        chunks: Iterator[NDArray[np.uint8]],
    ) -> None:
        self._name, self._ledger, self._chunks = name, ledger, chunks
        columns = {"instance": pa.int64(), "state": pa.binary(row_bytes(neurons))}
        self._notes = [
            column for what in NOTES if (column := _note_column(name, ledger, what)) is not None
        ]
        columns |= {column.name: column.type for column in self._notes}
        self.schema = schema_of(columns, {"name": name}, {"neurons": neurons, **attributes})

    def to_arrow(self) -> Any:
        return pa.Table.from_batches(self.batches(), self.schema)

    def to_parquet(self, path: Any, progress: ProgressCallback | None = None) -> None:
        write_batches(self.schema, self.batches(), path, progress)

    def to_stream(self, requested_schema: object) -> object:
        """Return the rows as a capsule of the Arrow PyCapsule interface, read as it is consumed."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        capsule: object = reader.__arrow_c_stream__(requested_schema)
        return capsule

    def batches(self) -> Iterator[Any]:
        """Yield the rows, in order, as record batches of at most PIECE_ROWS."""
        row = 0
        for chunk in self._chunks:
            for start in range(0, len(chunk), PIECE_ROWS):
                piece = chunk[start : start + PIECE_ROWS]
                yield self._batch(piece, row)
                row += len(piece)

    def _batch(self, states: NDArray[np.uint8], first_row: int) -> Any:
        rows = first_row, first_row + len(states)
        instances = self._ledger.instances_of_rows(*rows)
        columns = [
            pa.array(instances, mask=~self._ledger.assigned(*rows)),
            binary_column(states),
            *(column.of_instances(instances) for column in self._notes),
        ]
        return pa.record_batch(columns, schema=self.schema)


class _NoteColumn:
    """The labels or the units of instances, as a column that has one entry per row."""

    def __init__(self, name: str, kind: Any, pieces: Iterable[NDArray[Any]]) -> None:
        self.name, self.type = name, kind
        self._values = SlidingReader(pieces)
        self._next_instance = 0  # the first instance whose value is still needed

    def of_instances(self, instances: NDArray[np.int64]) -> Any:
        # Start where the last batch ended: instances without rows may be in between.
        start, self._next_instance = self._next_instance, int(instances[-1])
        values = self._values.read(start, self._next_instance + 1)
        return pa.array(values.tolist(), self.type).take(pa.array(instances - start))


def _note_column(layer: str, ledger: Ledger, what: str) -> _NoteColumn | None:
    """Return the column of labels or of units; None if some instances have none."""
    try:
        pieces = ledger.note_pieces(what)
    except LabelsMissing:
        return None
    about = f"{layer}: {what} in an export"
    first = next(pieces)
    every = chain([first], pieces)
    name = what.removesuffix("s")
    if label_kind(first, about) == STRINGS:
        return _NoteColumn(name, pa.string(), every)
    return _NoteColumn(name, pa.int64(), (to_column(values, about) for values in every))
