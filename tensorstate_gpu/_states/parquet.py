"""Writes Arrow tables and streams of record batches to new Parquet files."""

from collections.abc import Iterable, Iterator
from typing import Any

from tensorstate_gpu._arguments import function
from tensorstate_gpu._process.new_files import new_file
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu._states.arrow_library import pa, pq

# What is held at once: pieces of so many rows, and as many of them as make a row group. Narrow rows
# come in chunks of millions, wide ones in chunks that are too small for a row group.
PIECE_ROWS = 1 << 18
ROW_GROUP_BYTES = 1 << 24


def write_table(table: Any, path: Any, progress: ProgressCallback | None = None) -> None:
    """Write an Arrow table to a new file; ``progress`` as of write_batches()."""
    write_batches(table.schema, table.to_batches(max_chunksize=PIECE_ROWS), path, progress)


def write_batches(
    schema: Any, batches: Iterable[Any], path: Any, progress: ProgressCallback | None
) -> None:
    """Write record batches to a new Parquet file; ``progress`` is called with the rows written."""
    function(progress, "progress")
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
