"""Rows as elements of sets: the distinct ones, and which rows are among others."""

import numpy as np
from numpy.typing import NDArray

from .sort import sort

Ints = NDArray[np.int64]


def unique(packed: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Ints, Ints]:
    """Return the distinct rows in order, their counts, and of each row the index among them."""
    edges, order = sort(packed)
    inverse = np.empty_like(order)
    counts = np.diff(edges)
    inverse[order] = np.repeat(np.arange(len(counts)), counts)
    return packed[order[edges[:-1]]], counts, inverse


def isin(packed: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each row occurs in ``reference``: (states,)."""
    edges, order = sort(np.concatenate((reference, packed)))
    # The order is stable: of equal rows, those of the reference come first.
    known = np.repeat(order[edges[:-1]] < len(reference), np.diff(edges))
    found = np.empty(len(order), np.bool_)
    found[order] = known
    return found[len(reference) :]
