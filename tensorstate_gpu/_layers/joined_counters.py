"""JoinedCounters: the counts of several stores as one; each numbers its labels on its own."""

from collections.abc import Iterator, Sequence
from itertools import chain

from tensorstate_gpu._layers.counters import Label
from tensorstate_gpu._layers.run_counters import RunCounters
from tensorstate_gpu._states.sorted_runs import Histogram, SortedRun
from tensorstate_gpu._states.state_counts import StateCounts


class JoinedCounters(RunCounters):
    """Counts of several stores, of the same groups, that are only read.

    Their runs are merged when they are read: nothing is copied.
    """

    def __init__(self, row_bytes: int, groups: int, parts: Sequence[RunCounters]) -> None:
        super().__init__(row_bytes, groups)
        self._each = tuple(parts)

    @property
    def total(self) -> int:
        return sum(part.total for part in self._each)

    @property
    def labels(self) -> list[Label]:
        return list(dict.fromkeys(label for part in self._each for label in part.labels))

    def pieces(self) -> Iterator[tuple[bool, *Histogram]]:
        return chain.from_iterable(part.pieces() for part in self._each)

    def _bytes_needed(self) -> int:
        return sum(part._bytes_needed() for part in self._each)

    def _plain_runs(self) -> list[SortedRun] | None:
        found: list[SortedRun] = []
        for part in self._each:
            runs = part._plain_runs()
            if runs is None:
                return None
            found += runs
        return found

    def _parts(self, neurons: int) -> Iterator[tuple[Label, int, StateCounts]]:
        return chain.from_iterable(part._parts(neurons) for part in self._each)

    def _runs_apart(self) -> Iterator[tuple[Label, int, SortedRun]]:
        return chain.from_iterable(part._runs_apart() for part in self._each)
