"""Tally: how many states occurred how often, added up piece by piece."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_TABULATED = 1 << 16  # counts below are tallied in a table; few states have greater ones


class Tally:
    """The numbers of states by how often they occurred. It is small: N rows have at most sqrt(2 N)
    different counts."""

    def __init__(self) -> None:
        self._table = np.zeros(_TABULATED, np.int64)
        self._great: dict[int, int] = {}

    @classmethod
    def of(cls, occurrences: NDArray[np.int64], states: NDArray[np.int64]) -> "Tally":
        """Return the tally that these arrays are; see arrays()."""
        tally = cls()
        small = occurrences < _TABULATED
        tally._table[occurrences[small]] = states[small]
        great = zip(occurrences[~small].tolist(), states[~small].tolist(), strict=True)
        tally._great = dict(great)
        return tally

    @classmethod
    def sum(cls, tallies: Iterable["Tally"]) -> "Tally":
        """Return the tally of all states, no two of which are equal."""
        whole = cls()
        for tally in tallies:
            whole._table += tally._table
            for value, states in tally._great.items():
                whole._great[value] = whole._great.get(value, 0) + states
        return whole

    def add(self, counts: NDArray[np.int64]) -> None:
        """Add states that occurred so often, each > 0."""
        if counts.max(initial=0) >= _TABULATED:
            is_great = counts >= _TABULATED
            values, states = np.unique(counts[is_great], return_counts=True)
            for value, number in zip(values.tolist(), states.tolist(), strict=True):
                self._great[value] = self._great.get(value, 0) + number
            counts = counts[~is_great]
        self._table += np.bincount(counts, minlength=_TABULATED)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each count that occurs, ascending, and the number of states that have it."""
        small = np.flatnonzero(self._table)
        great = sorted(self._great)
        states = [self._great[value] for value in great]
        return (
            np.concatenate([small, np.array(great, np.int64)]),
            np.concatenate([self._table[small], np.array(states, np.int64)]),
        )

    @property
    def distinct(self) -> int:
        return int(self._table.sum()) + sum(self._great.values())

    @property
    def total(self) -> int:
        """The number of rows."""
        small = int(np.arange(_TABULATED) @ self._table)
        return small + sum(value * states for value, states in self._great.items())
