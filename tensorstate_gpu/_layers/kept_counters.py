"""KeptCounters: running counts by label and group, of which a store keeps what was committed."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tensorstate_gpu._arrays.backend_protocol import Counter
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._layers.counters import (
    Device,
    Key,
    Label,
    LabelledCounters,
    count_weighted,
    new_counter,
    room_error,
)
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.memory_limit import get_memory_limit, working_memory
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.merging_runs import loaded, merged
from tensorstate_gpu._states.sorted_runs import Histogram, MemoryRun, SortedRun, length
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts

# Sorted runs of rows (False), and of rows with the numbers of their labels and groups (True).
RunsByKind = dict[bool, list[SortedRun]]

_COPIES = 4  # of a histogram, until there is one for each label and group


class CountsPart:
    """Counts that were taken from running counters to be written: nothing is added to them.

    ``rewrites``: whether they take back rows that are in earlier parts.
    """

    def __init__(
        self, counters: Mapping[Key, Counter], taken_back: Mapping[Key, Counter], rewrites: bool
    ) -> None:
        self._counters, self._taken_back, self.rewrites = counters, taken_back, rewrites
        self._runs: RunsByKind | None = None
        self._lock = ForkSafeLock()

    @property
    def total(self) -> int:
        """The number of rows, without those that are taken back."""
        counted, taken = self._counters.values(), self._taken_back.values()
        return sum(each.total for each in counted) - sum(each.total for each in taken)

    @property
    def is_empty(self) -> bool:
        return not (self._counters or self._taken_back)

    def runs(self) -> RunsByKind:
        """Return the sorted runs that together are the counts; those taken back are negative."""
        with self._lock:  # a commit and a reader may both ask
            if self._runs is None:
                runs: RunsByKind = {}
                for (numbered, _), counter in self._counters.items():
                    runs.setdefault(numbered, []).extend(_runs_of(counter))
                for (numbered, _), counter in self._taken_back.items():
                    rows, counts = counter.result()
                    runs.setdefault(numbered, []).append(MemoryRun(rows, -counts))
                self._runs = runs
            return self._runs


def joined(parts: Iterable[RunsByKind]) -> RunsByKind:
    """Return all runs of some parts."""
    found: RunsByKind = {}
    for part in parts:
        for numbered, runs in part.items():
            found.setdefault(numbered, []).extend(runs)
    return found


def _runs_of(counter: Counter) -> list[SortedRun]:
    if isinstance(counter, ExternalCounter):
        return counter.runs()
    return [MemoryRun(*counter.result())]


class KeptCounters(LabelledCounters):
    """Running counts, of which what was taken away is in a store, or on the way to it.

    ``labels``: those of the numbers in the store's keys, in order. ``layers``: how many layers
    share the memory.
    """

    def __init__(
        self,
        row_bytes: int,
        groups: int,
        labels: Sequence[Label] = (),
    ) -> None:
        super().__init__(row_bytes, groups)
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._kept: RunsByKind = {}
        self._waiting: list[CountsPart] = []  # to be written
        self._taken_away = 0  # rows, in the store or waiting
        self.layers = 1
        self._held_is_taken_away = self._rewrites = False
        self._lock = ForkSafeLock()  # of what a commit changes while somebody reads

    def start_from(self, kept: RunsByKind, total: int) -> None:
        """Go on from the runs in a store, which have so many rows."""
        self._kept, self._taken_away = kept, total

    @property
    def total(self) -> int:
        with self._lock:
            return self._taken_away + super().total

    @property
    def labels(self) -> list[Label]:
        """The labels, in the order of their numbers."""
        return list(self._numbers)

    def key_bytes(self, numbered: bool) -> int:
        """Return the bytes of the rows in a run."""
        return self._key_bytes if numbered else self._row_bytes

    def _new_counter(self, row_bytes: int, device: Device) -> Counter:
        if device[0] == CPU:
            return ExternalCounter(row_bytes, self._budget)
        return new_counter(row_bytes, device)

    @property
    def _budget(self) -> int:
        """The bytes that one layer may use. A quarter of all is for merges."""
        return working_memory() * 3 // 4 // self.layers

    # ---- taking counts away --------------------------------------------------------------------

    def take(self) -> tuple[CountsPart, ...]:
        """Take all counts away, to be written. Return them, and what was taken and still waits.

        It is read from here until replace_kept() is called.
        """
        with self._lock:
            part = CountsPart(self._counters, self._taken_back, self._rewrites)
            self._taken_away += part.total
            self._counters, self._taken_back, self._rewrites = {}, {}, False
            self._held_is_taken_away = bool(self._held)
            if not part.is_empty:
                self._waiting.append(part)
            return tuple(self._waiting)

    def replace_kept(self, written: Collection[CountsPart], kept: RunsByKind) -> None:
        """Note what the store has, now that some parts are written."""
        with self._lock:
            self._kept = kept
            self._waiting = [part for part in self._waiting if part not in written]

    def nbytes_of(self, parts: Collection[CountsPart]) -> int:
        """Return about how many bytes of memory parts take, or more."""
        return sum(min(self._budget, part.total * (self._key_bytes + 8)) for part in parts)

    def hold(self) -> None:
        super().hold()
        self._held_is_taken_away = False

    def take_back(self) -> None:
        with self._lock:
            self._rewrites = self._rewrites or self._held_is_taken_away
            self._held_is_taken_away = False
            super().take_back()

    # ---- reading -------------------------------------------------------------------------------

    def runs(self) -> RunsByKind:
        """Return sorted runs that together are all counts."""
        with self._lock:
            now = CountsPart(self._counters, self._taken_back, False)
            return joined([self._kept, *(part.runs() for part in [*self._waiting, now])])

    def counted(
        self, neurons: int, on_counted: Callable[[int], object] | None = None
    ) -> StateCounts | StoredCounts:
        """Return all counts together: in files, where memory is short.

        ``on_counted`` is called with the number of rows that were counted since the last call.
        """
        pieces = self._rows_of(self.runs(), on_counted)
        return count_weighted(pieces, neurons, working_memory() // 4)

    def _rows_of(
        self, runs: RunsByKind, on_counted: Callable[[int], object] | None
    ) -> Iterator[Histogram]:
        for numbered, some in runs.items():
            for rows, counts in summed(some, self.key_bytes(numbered), working_memory() // 8):
                yield np.ascontiguousarray(rows[:, : self._row_bytes]), counts
                if on_counted is not None:
                    on_counted(int(counts.sum()))

    def _histograms(self) -> Iterator[tuple[bool, Histogram]]:
        for numbered, runs in self.runs().items():
            width = self.key_bytes(numbered)
            needed = _COPIES * sum(map(length, runs)) * (width + 8)
            if needed > (limit := get_memory_limit()):
                raise room_error(needed, limit)
            rows, counts = loaded(runs, width, working_memory() // 4)
            left = counts > 0
            yield numbered, (rows[left], counts[left])


def summed(runs: Sequence[SortedRun], row_bytes: int, budget: int) -> Iterator[Histogram]:
    """Yield what is left of all rows, in order; some runs may have counts that are taken back."""
    for rows, counts in merged(runs, row_bytes, budget):
        left = counts > 0
        yield (rows, counts) if left.all() else (rows[left], counts[left])
