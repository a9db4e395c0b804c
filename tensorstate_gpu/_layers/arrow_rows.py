"""States and counts as Arrow tables, Parquet files and pandas frames."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError(
        f"exports need {error.name or 'pyarrow'}: pip install 'tensorstate_gpu[export]'"
    ) from error

from tensorstate_gpu._layers.ledger import Instances, Sliding
from tensorstate_gpu._process.new_files import new_file
from tensorstate_gpu._version import __version__

Progress = Callable[[int], object]

# What is held at once: pieces of so many rows, and as many of them as make a row group. Narrow rows
# come in chunks of millions, wide ones in chunks that are too small for a row group.
PIECE_ROWS = 1 << 18
ROW_GROUP_BYTES = 1 << 24


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
        ledger: Instances,
        chunks: Iterator[NDArray[np.uint8]],
    ) -> None:
        self._name, self._ledger, self._chunks = name, ledger, chunks
        self._label_type, self._labels = self._find_labels(ledger)
        self._labels_from = 0  # the instance that the labels were read up to
        columns = {"instance": pa.int64(), "state": pa.binary((neurons + 7) // 8)}
        if self._labels is not None:
            columns["label"] = self._label_type
        self.schema = _schema(columns, {"name": name}, {"neurons": neurons, **attributes})

    def to_arrow(self) -> Any:
        return pa.Table.from_batches(self.batches(), self.schema)

    def to_parquet(self, path: Any, progress: Progress | None = None) -> None:
        _write(self.schema, self.batches(), path, progress)

    def batches(self) -> Iterator[Any]:
        """The rows, in order, as record batches of at most PIECE_ROWS."""
        row = 0
        for chunk in self._chunks:
            for start in range(0, len(chunk), PIECE_ROWS):
                piece = chunk[start : start + PIECE_ROWS]
                yield self._batch(piece, self._ledger.of_rows(row, row + len(piece)))
                row += len(piece)

    def _batch(self, states: NDArray[np.uint8], instances: NDArray[np.int64]) -> Any:
        columns = [pa.array(instances), _binary(states)]
        if self._labels is not None:
            # From the instance where the last batch ended: some in between may have no rows.
            start, self._labels_from = self._labels_from, int(instances[-1])
            labels = self._labels.between(start, self._labels_from + 1)
            array = pa.array(labels.tolist(), self._label_type)
            columns.append(array.take(pa.array(instances - start)))
        return pa.record_batch(columns, schema=self.schema)

    def _find_labels(self, ledger: Instances) -> tuple[Any, Sliding | None]:
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


def counts_to_arrow(packed: NDArray[np.uint8], counts: NDArray[np.int64], neurons: int) -> Any:
    """A histogram as a table: distinct packed states (distinct, bytes), and how often each was."""
    columns = {"state": pa.binary(packed.shape[1]), "count": pa.int64()}
    schema = _schema(columns, {}, {"neurons": neurons})
    return pa.table([_binary(packed), pa.array(counts)], schema=schema)


def to_parquet(table: Any, path: Any) -> None:
    """Write an Arrow table to a new file."""
    _write(table.schema, table.to_batches(max_chunksize=PIECE_ROWS), path, None)


def to_pandas(table: Any) -> Any:
    """An Arrow table as a frame."""
    try:
        import pandas  # noqa: F401 pyarrow would name no extra
    except ImportError as error:
        raise ImportError(
            f"frames need {error.name or 'pandas'}: pip install 'tensorstate_gpu[export]'"
        ) from error
    return table.to_pandas()


def _schema(columns: dict[str, Any], texts: dict[str, str], about: dict[str, Any]) -> Any:
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns.items()]
    plain = {name: json.dumps(value) for name, value in about.items()}
    return pa.schema(fields, metadata={"tensorstate_gpu": __version__, **texts, **plain})


def _binary(rows: NDArray[np.uint8]) -> Any:
    """Packed rows as one fixed-size binary each, in the same memory."""
    data = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, data])


def _write(schema: Any, batches: Iterable[Any], path: Any, progress: Progress | None) -> None:
    written = 0
    # Instances only rise: as differences they take next to nothing.
    rising = {"instance": "DELTA_BINARY_PACKED"} if "instance" in schema.names else {}
    encodings = {
        "use_dictionary": [name for name in schema.names if name not in rising],
        "column_encoding": rising,
    }
    with new_file(path) as file, pq.ParquetWriter(file, schema, **encodings) as writer:
        for group in _row_groups(batches):
            writer.write_table(group)
            written += len(group)
            if progress is not None:
                progress(written)


def _row_groups(batches: Iterable[Any]) -> Iterator[Any]:
    held, size = [], 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held, size = [], 0
    if held:
        yield pa.Table.from_batches(held)
