"""Rows as elements of sets on the GPU: the distinct ones, and which rows are among others."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .sort import sort, take


def unique(packed: DeviceArray) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """Return the distinct rows in order, their counts, and of each row the index among them."""
    xp = device.library()
    edges, order = sort(packed)
    inverse = xp.zeros(len(order), np.int64)
    inverse[order] = _runs(edges, len(order))
    return take(xp.ascontiguousarray(packed), order[edges[:-1]]), xp.diff(edges), inverse


def isin(packed: DeviceArray, reference: DeviceArray) -> DeviceArray:
    """Return whether each row occurs in ``reference``: (states,)."""
    xp = device.library()
    edges, order = sort(xp.concatenate((reference, packed)))
    # The order is stable: of equal rows, those of the reference come first.
    known = order[edges[:-1]] < len(reference)
    found = xp.zeros(len(order), np.bool_)
    found[order] = known[_runs(edges, len(order))]
    return found[len(reference) :]


def _runs(edges: DeviceArray, rows: int) -> DeviceArray:
    """Return the run of each row in order, from the bounds of the runs."""
    xp = device.library()
    begins = xp.zeros(rows, np.int64)
    begins[edges[1:-1]] = 1
    return xp.cumsum(begins)
