"""Imports pyarrow. If it is missing, the ImportError names what to install."""

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError(
        f"exports need {error.name or 'pyarrow'}: pip install 'tensorstate_gpu[export]'"
    ) from error

__all__ = ["pa", "pq"]
