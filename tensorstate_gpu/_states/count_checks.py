"""Checks of distinct packed states and their counts as arguments."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes


def check_counts(packed: NDArray[Any], counts: NDArray[Any], neurons: int) -> None:
    """Raise ValueError unless rows are distinct and in order, and each has a count."""
    width = row_bytes(neurons)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != width or width == 0:
        raise ValueError(
            f"packed must be uint8 of shape (distinct, {width}) for {neurons} neurons, "
            f"got {packed.dtype} of shape {packed.shape}"
        )
    if counts.dtype.kind not in "iu" or counts.shape != packed.shape[:1]:
        raise ValueError(
            f"counts must be integers of shape ({len(packed)},), "
            f"got {counts.dtype} of shape {counts.shape}"
        )
    if len(counts) and not 1 <= counts.min() <= counts.max() < 2**63:
        raise ValueError(
            f"counts must be from 1 to 2**63 - 1, got {counts.min()} to {counts.max()}"
        )
    if not _is_ascending(packed):
        raise ValueError("packed must be distinct and in order as little-endian integers")


def _is_ascending(packed: NDArray[np.uint8]) -> bool:
    """Return whether each row is greater than the previous one, comparing from the last byte."""
    undecided = np.arange(max(len(packed) - 1, 0))
    for byte in range(packed.shape[1] - 1, -1, -1):
        before, after = packed[undecided, byte], packed[undecided + 1, byte]
        if (before > after).any():
            return False
        undecided = undecided[before == after]
        if not len(undecided):
            return True
    return False


def where_counts_are(given: object) -> str:
    """Return where the counts are of something that has or names some, for an error."""
    if isinstance(given, str | PathLike):
        return ": open_stores() reads stores as one, merge_counts() adds up stores of counts"
    if isinstance(given, Mapping):
        return ": merge the histogram() of their layers"
    methods = (name for name in ("histogram", "load") if callable(getattr(given, name, None)))
    return next((f": its {name}() is one" for name in methods), "")
