"""Histograms as Arrow tables."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.arrow_columns import binary_column, schema_of
from tensorstate_gpu._states.arrow_library import pa


def counts_schema(row_bytes: int, neurons: int) -> Any:
    """Return the schema of a histogram's table."""
    columns = {"state": pa.binary(row_bytes), "count": pa.int64()}
    return schema_of(columns, {}, {"neurons": neurons})


def counts_to_arrow(packed: NDArray[np.uint8], counts: NDArray[np.int64], neurons: int) -> Any:
    """Return a histogram as a table: distinct packed states (distinct, bytes) and their counts."""
    schema = counts_schema(packed.shape[1], neurons)
    return pa.table([binary_column(packed), pa.array(counts)], schema=schema)
