"""CountsOfCounts: how many states occurred how often, which is all that an estimator needs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu.information.counts_argument import weights as check_weights

Floats = NDArray[np.float64]
Result = TypeVar("Result")
_TABULATED = 1 << 20  # counts below are tallied; greater ones are few, or sorting them takes longer
_SMALL = 8  # different counts of a sample whose measures are remembered
_BLOCK = 1 << 14  # counts at a time, so that temporary arrays stay in the cache


@dataclass(frozen=True, slots=True)
class CountsOfCounts:
    """Counts that occur, and the number of states that have each. Great counts may be repeated.

    Both arrays are int64 of one shape.
    """

    counts: NDArray[np.int64]
    states: NDArray[np.int64]

    @classmethod
    def of(cls, counts: Weights, argument: str, *, needed_by: str) -> CountsOfCounts:
        """Read integer counts. Counts on a GPU are sorted there; only the result is copied.

        Raises the errors of `weights`, and TypeError or ValueError for weights that are not counts.
        """
        if (found := tallied(counts, argument)) is not None:
            return found
        values = check_weights(counts, argument)
        if values.dtype.kind == "f":
            _check_whole(values, argument, needed_by)
        if int(values.max()) >= 2**63:
            raise ValueError(f"{argument} must be at most 2**63 - 1, got {values.max()}")
        return cls(*tally(values.astype(np.int64, copy=False)))

    @classmethod
    def together(cls, parts: Sequence[CountsOfCounts]) -> CountsOfCounts:
        """Return those of all states of several samples, of which no two have a common state."""
        counts, places = np.unique(
            np.concatenate([part.counts for part in parts]), return_inverse=True
        )
        states = np.zeros(len(counts), np.int64)
        np.add.at(states, places, np.concatenate([part.states for part in parts]))
        return cls(counts, states)

    @property
    def rows(self) -> int:
        """N, the sum of all counts, exact. It may be more than int64 holds."""
        high, low = self.counts >> 32, self.counts & 0xFFFFFFFF
        return (int(high @ self.states) << 32) + int(low @ self.states)

    @property
    def distinct(self) -> int:
        """D, the number of states that occurred."""
        return int(self.states.sum())

    def seen(self, times: int) -> int:
        """Return the number of states that occurred so many times."""
        return int(self.states[self.counts == times].sum())

    def floats(self) -> tuple[Floats, Floats]:
        """Return the counts, and the number of states of each, as float64."""
        return self.counts.astype(np.float64), self.states.astype(np.float64)

    def total(self, term: Callable[[Floats], Floats]) -> float:
        """Return the sum over the states of a term of their counts, of which it gets an array."""
        blocks = (slice(start, start + _BLOCK) for start in range(0, len(self.counts), _BLOCK))
        return math.fsum(
            float((self.states[block] * term(self.counts[block].astype(np.float64))).sum())
            for block in blocks
        )


def remembered(measure: Callable[[CountsOfCounts], Result]) -> Callable[[CountsOfCounts], Result]:
    """Make a measure remember its results for small samples.

    Labels of a few inputs have few different counts of counts, and so have all their rests without
    a group: a table of 100,000 labels computes a measure some hundred times.
    """

    @functools.lru_cache(maxsize=1 << 14)
    def of_bytes(counts: bytes, states: bytes) -> Result:
        return measure(
            CountsOfCounts(np.frombuffer(counts, np.int64), np.frombuffer(states, np.int64))
        )

    @functools.wraps(measure)
    def of(sample: CountsOfCounts) -> Result:
        if len(sample.counts) > _SMALL:
            return measure(sample)
        return of_bytes(sample.counts.tobytes(), sample.states.tobytes())

    return of


@runtime_checkable
class Tallied(Protocol):
    """A histogram that knows how many states occurred how often, such as a RankCounts."""

    def counts_of_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...


def tallied(counts: Weights, argument: str) -> CountsOfCounts | None:
    """Return the counts of counts of a histogram that has no array of counts here, else None.

    Raises ValueError if it is empty.
    """
    if hasattr(counts, "counts") or not isinstance(counts, Tallied):
        return None
    found = CountsOfCounts(*counts.counts_of_counts())
    if not found.rows:
        raise ValueError(f"{argument} is empty; at least one state is needed")
    return found


def _check_whole(values: NDArray[np.floating], argument: str, needed_by: str) -> None:
    fractions = values[values != np.floor(values)]
    if len(fractions):
        raise ValueError(f"{needed_by} needs integer counts: {argument} has {fractions[0]}")


def tally(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positive values, and how often each occurs. Great ones may be repeated."""
    if not isinstance(values, np.ndarray):  # CuPy's, which NumPy hands the call on to
        distinct, times = (part.get() for part in np.unique(values, return_counts=True))
        return distinct[distinct > 0], times[distinct > 0].astype(np.int64)
    is_great = values >= _TABULATED
    great = values[is_great]
    table = np.bincount(values[~is_great] if len(great) else values, minlength=1)
    table[0] = 0
    small = np.flatnonzero(table)
    return np.concatenate([small, great]), np.concatenate([table[small], np.ones_like(great)])
