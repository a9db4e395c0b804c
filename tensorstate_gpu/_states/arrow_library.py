"""pyarrow and pandas. If one is missing, the ImportError names what to install."""

from typing import Any

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError(
        f"exports need {error.name or 'pyarrow'}: pip install pyarrow pandas"
    ) from error

__all__ = ["pa", "pq", "to_pandas"]


def to_pandas(table: Any) -> Any:
    """Return an Arrow table as a pandas frame."""
    try:
        import pandas  # noqa: F401 the error of pyarrow does not name the extra
    except ImportError as error:
        raise ImportError(
            f"frames need {error.name or 'pandas'}: pip install pyarrow pandas"
        ) from error
    return table.to_pandas()
