"""The base class of the hash tables for narrow and for wide rows: filling and growing."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Called with (distinct rows, rows counted, rows remaining) whenever a table is full. True stops
# counting, False lets the table grow.
StopRule = Callable[[int, int, int], bool]

CHANGED = (
    "there was no memory for more states, and rows that were to be taken back are not those that "
    "were counted: another thread has changed them, and the counts are wrong"
)


def never_stop(distinct: int, seen: int, to_come: int) -> bool:
    """A stop rule that never stops."""
    return False


class Table(ABC):
    """A hash table of rows and their counts."""

    _used: int

    def __len__(self) -> int:
        return self._used

    def add(
        self,
        packed: NDArray[np.uint8],
        weights: NDArray[np.int64] | None,
        start: int,
        stop: int,
        stop_rule: StopRule,
    ) -> int:
        """Count rows [start, stop), each ``weights`` times (default once); return where it ends.

        Raises MemoryError, and counts none of the rows, if there is no memory for more states.
        """
        done = start
        while done < stop:
            done = self._insert(packed, weights, done, stop)
            if done < stop:
                if stop_rule(self._used, done - start, stop - done):
                    break
                try:
                    self._grow()
                except MemoryError as error:
                    self.take_back(packed, weights, start, done)
                    raise MemoryError(
                        f"no memory for more than {self._used:,} states of {packed.shape[1]:,} "
                        f"bytes ({error})"
                    ) from error
        return done

    @abstractmethod
    def take_back(
        self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None, start: int, stop: int
    ) -> None:
        """Count rows no longer that were counted last. Needs no memory.

        Raises RuntimeError if they are no longer those that were counted.
        """

    @abstractmethod
    def _insert(
        self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None, start: int, stop: int
    ) -> int:
        """Count rows from ``start`` on, until all are in or the table is full. Return where."""

    @abstractmethod
    def _grow(self) -> None:
        """Enlarge the table."""

    @abstractmethod
    def entries(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the distinct rows (distinct, bytes), in no order, and their counts."""
