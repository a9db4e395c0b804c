"""ArrowRows: the rows of a layer as an Arrow table or a Parquet file."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
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
        self._label_type, self._labels = self._label_column(ledger)
        self._next_instance = 0  # the first instance whose label is still needed
        columns = {"instance": pa.int64(), "state": pa.binary(row_bytes(neurons))}
        if self._labels is not None:
            columns["label"] = self._label_type
        self.schema = schema_of(columns, {"name": name}, {"neurons": neurons, **attributes})

    def to_arrow(self) -> Any:
        return pa.Table.from_batches(self.batches(), self.schema)

    def to_parquet(self, path: Any, progress: ProgressCallback | None = None) -> None:
        write_batches(self.schema, self.batches(), path, progress)

    def batches(self) -> Iterator[Any]:
        """Yield the rows, in order, as record batches of at most PIECE_ROWS."""
        row = 0
        for chunk in self._chunks:
            for start in range(0, len(chunk), PIECE_ROWS):
                piece = chunk[start : start + PIECE_ROWS]
                yield self._batch(piece, self._ledger.instances_of_rows(row, row + len(piece)))
                row += len(piece)

    def _batch(self, states: NDArray[np.uint8], instances: NDArray[np.int64]) -> Any:
        columns = [pa.array(instances), binary_column(states)]
        if self._labels is not None:
            # Start where the last batch ended: instances without rows may be in between.
            start, self._next_instance = self._next_instance, int(instances[-1])
            labels = self._labels.read(start, self._next_instance + 1)
            array = pa.array(labels.tolist(), self._label_type)
            columns.append(array.take(pa.array(instances - start)))
        return pa.record_batch(columns, schema=self.schema)

    def _label_column(self, ledger: Ledger) -> tuple[Any, SlidingReader | None]:
        """Return the Arrow type and a reader of the labels, or nothing if some are missing."""
        try:
            pieces = ledger.label_pieces()
        except LabelsMissing:
            return None, None
        what = f"{self._name}: labels in an export"
        first = next(pieces)
        every = chain([first], pieces)
        if label_kind(first, what) == STRINGS:
            return pa.string(), SlidingReader(every)
        return pa.int64(), SlidingReader(to_column(labels, what) for labels in every)
