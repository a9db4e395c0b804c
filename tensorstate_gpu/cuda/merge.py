"""Merging histograms on the GPU."""

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .sort import sort, take

Histogram = tuple[DeviceArray, DeviceArray]
HostHistogram = tuple[NDArray[np.uint8], NDArray[np.int64]]


def merge(parts: list[Histogram], row_bytes: int) -> Histogram:
    """Merge histograms; the distinct rows of the result are in order."""
    xp = device.library()
    if not parts:
        return xp.empty((0, row_bytes), np.uint8), xp.empty(0, np.int64)
    if len(parts) == 1:
        return parts[0]
    rows, counts = (xp.concatenate(column) for column in zip(*parts, strict=True))
    return sum_equal_rows(rows, counts)


def sum_equal_rows(rows: DeviceArray, counts: DeviceArray) -> Histogram:
    """Return the distinct rows in order, and for each the sum of the counts of equal rows."""
    xp = device.library()
    edges, order = sort(rows)
    sums = xp.cumsum(counts[order])
    totals = xp.concatenate((xp.zeros(1, np.int64), sums[edges[1:] - 1]))
    return take(rows, order[edges[:-1]]), xp.diff(totals)
