"""What else packs and counts, given its best case: keys are built before the clock starts."""

from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import torch

Call = Callable[[], Any]

# NumPy and torch sort wide rows by comparison: about 1 M rows/s, so only on fewer than this.
_SORTED_BY_COMPARISON = 100_000


def packers(x: Any, axis: int) -> dict[str, Call]:
    """NumPy's packbits of x > 0; where neurons are not last, moved before or after packing."""

    # NumPy compares float16 at 0.5 GB/s, and knows no bfloat16: there torch compares.
    compared = torch.as_tensor(x) if x.dtype in (np.float16, torch.bfloat16) else x

    def fires() -> np.ndarray:
        return np.asarray(compared > 0)

    if axis == -1:
        return {"packbits(x > 0)": lambda: np.packbits(fires(), axis=-1, bitorder="little")}

    def move_then_pack() -> np.ndarray:
        return np.packbits(np.moveaxis(fires(), axis, -1), axis=-1, bitorder="little")

    def pack_then_move() -> np.ndarray:
        packed = np.packbits(fires(), axis=axis, bitorder="little")
        return np.ascontiguousarray(np.moveaxis(packed, axis, -1))

    return {"move, packbits": move_then_pack, "packbits, move": pack_then_move}


def unpackers(packed: np.ndarray, neurons: int) -> dict[str, Call]:
    def unpackbits() -> np.ndarray:
        bits = np.unpackbits(packed, axis=-1, count=neurons, bitorder="little")
        return bits.view(np.bool_)

    return {"unpackbits": unpackbits}


def popcounters(packed: np.ndarray) -> dict[str, Call]:
    return {"bitwise_count": lambda: np.bitwise_count(packed).sum(-1, dtype=np.int32)}


def counters(packed: np.ndarray) -> dict[str, Call]:
    """Distinct rows and how often each occurs; every one of these calls returns both."""
    return _narrow(packed) if packed.shape[1] <= 8 else _wide(packed)


def as_integers(packed: np.ndarray) -> np.ndarray:
    """Rows of at most 8 bytes as little-endian numbers."""
    keys = np.zeros((len(packed), 8), np.uint8)
    keys[:, : packed.shape[1]] = packed
    return keys.view("<u8")[:, 0]


def _narrow(packed: np.ndarray) -> dict[str, Call]:
    keys = as_integers(packed)
    tensor = torch.from_numpy(keys.view(np.int64))
    return {
        "np.unique (u64)": lambda: np.unique(keys, return_counts=True),
        "torch.unique": lambda: torch.unique(tensor, return_counts=True),
        **_tables(pl.Series("key", keys), pa.array(keys)),
    }


def _wide(packed: np.ndarray) -> dict[str, Call]:
    rows, width = packed.shape
    column = pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(packed)])
    tables = _tables(pl.Series("key", column), column)
    if rows > _SORTED_BY_COMPARISON:
        return tables
    tensor = torch.from_numpy(packed)
    return {
        "np.unique (axis=0)": lambda: np.unique(packed, axis=0, return_counts=True),
        "torch.unique (dim=0)": lambda: torch.unique(tensor, dim=0, return_counts=True),
        **tables,
    }


def _tables(series: pl.Series, column: pa.Array) -> dict[str, Call]:
    """The engines for data frames, each on its own kind of column."""
    frame, table = series.to_frame(), pa.table({"key": column})
    if pa.types.is_fixed_size_binary(column.type):
        table = table.cast(pa.schema({"key": pa.binary()}))
    connection = duckdb.connect()
    connection.execute("set preserve_insertion_order = false")
    connection.register("arrow", table)
    connection.execute("create temp table rows as select key from arrow")
    query = "select key, count(*) as n from rows group by key"
    return {
        "Polars": lambda: frame.group_by("key").len(),
        "DuckDB": lambda: connection.sql(query).to_arrow_table(),
        "pyarrow": lambda: table.group_by("key").aggregate([("key", "count")]),
    }


def sorted_counts(result: Any) -> np.ndarray:
    """The counts that a counter gave, in increasing order."""
    if isinstance(result, pa.Table):
        column = result.column(
            result.column_names.index("n" if "n" in result.column_names else "key_count")
        )
    else:
        column = result[-1] if isinstance(result, tuple) else result["len"]
    return np.sort(np.asarray(column).astype(np.int64))
