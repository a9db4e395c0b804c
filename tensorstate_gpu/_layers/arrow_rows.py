"""The rows of a layer as an Arrow table or a Parquet file."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.labels import Sliding
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu._states.arrow_library import pa
from tensorstate_gpu._states.arrow_tables import (
    PIECE_ROWS,
    binary_column,
    schema_of,
    write_parquet,
)


class Rows:
    """The rows of a layer at one moment, with the instance of each and its label; read once.

    ``attributes``: how its states came about, as JSON. ``chunks``: its rows, in pieces (rows,
    bytes). TypeError or ValueError for labels that are not all strings, or all integers that int64
    holds.
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
        self._label_type, self._labels = self._find_labels(ledger)
        self._labels_from = 0  # the instance that the labels were read up to
        columns = {"instance": pa.int64(), "state": pa.binary(row_bytes(neurons))}
        if self._labels is not None:
            columns["label"] = self._label_type
        self.schema = schema_of(columns, {"name": name}, {"neurons": neurons, **attributes})

    def to_arrow(self) -> Any:
        return pa.Table.from_batches(self.batches(), self.schema)

    def to_parquet(self, path: Any, progress: Progress | None = None) -> None:
        write_parquet(self.schema, self.batches(), path, progress)

    def batches(self) -> Iterator[Any]:
        """The rows, in order, as record batches of at most PIECE_ROWS."""
        row = 0
        for chunk in self._chunks:
            for start in range(0, len(chunk), PIECE_ROWS):
                piece = chunk[start : start + PIECE_ROWS]
                yield self._batch(piece, self._ledger.of_rows(row, row + len(piece)))
                row += len(piece)

    def _batch(self, states: NDArray[np.uint8], instances: NDArray[np.int64]) -> Any:
        columns = [pa.array(instances), binary_column(states)]
        if self._labels is not None:
            # From the instance where the last batch ended: some in between may have no rows.
            start, self._labels_from = self._labels_from, int(instances[-1])
            labels = self._labels.between(start, self._labels_from + 1)
            array = pa.array(labels.tolist(), self._label_type)
            columns.append(array.take(pa.array(instances - start)))
        return pa.record_batch(columns, schema=self.schema)

    def _find_labels(self, ledger: Ledger) -> tuple[Any, Sliding | None]:
        try:
            ledger.require_labels()
        except ValueError:  # not every instance has one
            return None, None
        pieces = ledger.given_labels()
        first = next(pieces)
        if first.dtype.kind == "O":  # different ones, which are in memory then
            first, *rest = (np.array(labels.tolist()) for labels in chain([first], pieces))
            if len({labels.dtype.kind == "U" for labels in (first, *rest)}) > 1:
                raise TypeError(
                    f"{self._name}: labels in an export must be all integers or all strings"
                )
            pieces = iter(rest)
        every = chain([first], pieces)
        if first.dtype.kind == "U":
            return pa.string(), Sliding(every)
        return pa.int64(), Sliding(map(self._as_int64, every))

    def _as_int64(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        if labels.dtype.kind == "u" and labels.max() >= 2**63:
            raise ValueError(
                f"{self._name}: labels in an export must be below 2**63, got {labels.max()}"
            )
        return labels.astype(np.int64)
