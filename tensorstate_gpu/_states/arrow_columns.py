"""Schemas and columns of Arrow tables that hold packed states."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.arrow_library import pa
from tensorstate_gpu._version import __version__


def schema_of(columns: dict[str, Any], texts: dict[str, str], about: dict[str, Any]) -> Any:
    """Build a schema without nulls; its metadata are ``texts``, and ``about`` as JSON."""
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns.items()]
    plain = {name: json.dumps(value) for name, value in about.items()}
    return pa.schema(fields, metadata={"tensorstate_gpu": __version__, **texts, **plain})


def binary_column(rows: NDArray[np.uint8]) -> Any:
    """Return packed rows as a column of fixed-size binary values, in the same memory."""
    data = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, data])
