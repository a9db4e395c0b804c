"""Histograms as Arrow tables, Parquet files and pandas frames; functions that all exports use."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._process.new_files import new_file
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu._states.arrow_library import pa, pq
from tensorstate_gpu._version import __version__

# What is held at once: pieces of so many rows, and as many of them as make a row group. Narrow rows
# come in chunks of millions, wide ones in chunks that are too small for a row group.
PIECE_ROWS = 1 << 18
ROW_GROUP_BYTES = 1 << 24


def counts_to_arrow(packed: NDArray[np.uint8], counts: NDArray[np.int64], neurons: int) -> Any:
    """Return a histogram as a table: distinct packed states (distinct, bytes) and their counts."""
    columns = {"state": pa.binary(packed.shape[1]), "count": pa.int64()}
    schema = schema_of(columns, {}, {"neurons": neurons})
    return pa.table([binary_column(packed), pa.array(counts)], schema=schema)


def to_parquet(table: Any, path: Any) -> None:
    """Write an Arrow table to a new file."""
    write_parquet(table.schema, table.to_batches(max_chunksize=PIECE_ROWS), path, None)


def to_pandas(table: Any) -> Any:
    """Return an Arrow table as a pandas frame."""
    try:
        import pandas  # noqa: F401 the error of pyarrow does not name the extra
    except ImportError as error:
        raise ImportError(
            f"frames need {error.name or 'pandas'}: pip install 'tensorstate_gpu[export]'"
        ) from error
    return table.to_pandas()


def schema_of(columns: dict[str, Any], texts: dict[str, str], about: dict[str, Any]) -> Any:
    """Build a schema without nulls; its metadata are ``texts``, and ``about`` as JSON."""
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns.items()]
    plain = {name: json.dumps(value) for name, value in about.items()}
    return pa.schema(fields, metadata={"tensorstate_gpu": __version__, **texts, **plain})


def binary_column(rows: NDArray[np.uint8]) -> Any:
    """Return packed rows as a column of fixed-size binary values, in the same memory."""
    data = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, data])


def write_parquet(
    schema: Any, batches: Iterable[Any], path: Any, progress: Progress | None
) -> None:
    """Write record batches to a new Parquet file; ``progress`` is called with the rows written."""
    written = 0
    # Instance numbers never decrease: stored as differences, they take almost no space.
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
    """Collect batches into tables of at least ROW_GROUP_BYTES, except the last."""
    held, size = [], 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held, size = [], 0
    if held:
        yield pa.Table.from_batches(held)
