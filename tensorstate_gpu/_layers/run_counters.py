"""RunCounters: counts by label and group that are sorted runs, and may be larger than memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tensorstate_gpu._arrays.backend_protocol import Counter
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._layers.counters import (
    NUMBER,
    Device,
    Key,
    Label,
    LabelledCounters,
    RunsByKind,
    count_weighted,
    in_order,
    numbered_bytes,
)
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.memory_limit import get_memory_limit, working_memory
from tensorstate_gpu._states.backends import device_backend_for
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.merging_runs import loaded, merged
from tensorstate_gpu._states.sorted_runs import (
    Histogram,
    MemoryRun,
    RowsBehindPrefix,
    ScratchRun,
    SortedRun,
    is_empty,
    length,
)
from tensorstate_gpu._states.spilling_counter import SpillingCounter, runs_of_counter
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts

Counts = StateCounts | StoredCounts

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

    @property
    def takes_back(self) -> bool:
        """Whether some runs take back counts of others."""
        return bool(self._taken_back)

    def runs(self) -> RunsByKind:
        """Return the sorted runs that together are the counts; those taken back are negative."""
        with self._lock:  # a commit and a reader may both ask
            if self._runs is None:
                runs: RunsByKind = {}
                for (numbered, _), counter in self._counters.items():
                    runs.setdefault(numbered, []).extend(runs_of_counter(counter))
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


class RunCounters(LabelledCounters):
    """Running counts that continue in files where memory is short. Results are in memory if they
    fit into get_memory_limit().
    """

    @property
    def _budget(self) -> int:
        """The bytes that the counts may use. A quarter of all is for merges."""
        return working_memory() * 3 // 4

    def _new_counter(self, row_bytes: int, device: Device) -> Counter:
        if device[0] == CPU:
            return ExternalCounter(row_bytes, self._budget)
        return SpillingCounter(device_backend_for(device), row_bytes, self._budget)

    def _parts_now(self) -> Sequence[CountsPart]:
        """Return what is counted, without what is in a store."""
        return [CountsPart(self._counters, self._taken_back, False)]

    def runs(self) -> RunsByKind:
        return joined(part.runs() for part in self._parts_now())

    def key_bytes(self, numbered: bool) -> int:
        """Return the bytes of the rows in a run."""
        return numbered_bytes(self._row_bytes) if numbered else self._row_bytes

    # ---- all together --------------------------------------------------------------------------

    def counted(self, neurons: int, on_counted: Callable[[int], object] | None = None) -> Counts:
        """Return all counts together: in files, where memory is short.

        ``on_counted`` is called with the number of rows that were counted since the last call.
        """
        runs, budget = self._plain_runs(), working_memory() // 4
        if runs is None:
            return count_weighted(self._rows(on_counted), neurons, budget)
        counts = StoredCounts(runs, neurons)
        if on_counted is not None:
            on_counted(counts.total)
        fits = sum(map(length, runs)) * (self._row_bytes + 8) <= budget
        return counts.load() if fits else counts

    def _plain_runs(self) -> list[SortedRun] | None:
        """Return runs of rows without numbers that are all counts; None if some have numbers."""
        runs = self._runs_left()
        return None if any(runs.get(True, ())) else runs.get(False, [])

    def _rows(self, on_counted: Callable[[int], object] | None) -> Iterator[Histogram]:
        for _, rows, counts in self.pieces():
            yield np.ascontiguousarray(rows[:, : self._row_bytes]), counts
            if on_counted is not None:
                on_counted(int(counts.sum()))

    def pieces(self) -> Iterator[tuple[bool, *Histogram]]:
        """Yield all rows with their counts, piece by piece, and first whether they have numbers."""
        for numbered, some in self.runs().items():
            for rows, counts in summed(some, self.key_bytes(numbered), working_memory() // 8):
                yield numbered, rows, counts

    # ---- by label and group --------------------------------------------------------------------

    def counted_by(self, neurons: int) -> Mapping[Label, Counts]:
        if self._bytes_needed() <= get_memory_limit():
            return self.histograms(neurons)
        by_label: dict[Label, list[SortedRun]] = {}
        for label, _, run in self._runs_apart():
            by_label.setdefault(label, []).append(run)
        found = [label for label, runs in by_label.items() if not all(map(is_empty, runs))]
        return {label: StoredCounts(by_label[label], neurons) for label in in_order(found)}

    def counted_by_group(
        self, neurons: int, *, by_label: bool
    ) -> Mapping[Label, Sequence[StateCounts] | Sequence[StoredCounts]]:
        if self._bytes_needed() <= get_memory_limit():
            return self.histograms_by_group(neurons)
        counters = self if by_label or len(self.labels) < 2 else self._without_labels()
        parts: dict[Label, list[list[SortedRun]]] = {}
        for label, group, run in counters._runs_apart():
            parts.setdefault(label, [[] for _ in range(self._groups)])[group].append(run)
        return {
            label: [StoredCounts(runs, neurons) for runs in parts[label]]
            for label in in_order(parts)
            if not all(is_empty(run) for runs in parts[label] for run in runs)
        }

    def _bytes_needed(self) -> int:
        """Return how much memory histograms for each label and group would take, or more."""
        return _COPIES * sum(
            sum(map(length, runs)) * (self.key_bytes(numbered) + 8)
            for numbered, runs in self.runs().items()
        )

    def _histograms(self) -> Iterator[tuple[bool, Histogram]]:
        for numbered, runs in self.runs().items():
            rows, counts = loaded(runs, self.key_bytes(numbered), working_memory() // 4)
            left = counts > 0
            yield numbered, (rows[left], counts[left])

    def _runs_apart(self) -> Iterator[tuple[Label, int, SortedRun]]:
        """Yield runs of the rows of each label and group, without their numbers."""
        for numbered, runs in self._runs_left().items():
            for run in runs:
                if not numbered:
                    yield None, 0, run
                    continue
                for first, label in enumerate(self.labels):
                    for group in range(self._groups):
                        prefix = self._prefix(first * self._groups + group)
                        yield label, group, RowsBehindPrefix(run, prefix, self._row_bytes)

    def _prefix(self, number: int) -> bytes:
        """Return how the order_key() of all rows with a number begins."""
        return number.to_bytes(self.key_bytes(True) - self._row_bytes)

    def _runs_left(self) -> RunsByKind:
        """Return runs of which none takes anything back."""
        if not any(part.takes_back for part in self._parts_now()):
            return self.runs()
        budget, found = working_memory() // 4, RunsByKind()
        for numbered, runs in self.runs().items():
            width = self.key_bytes(numbered)
            found[numbered] = [ScratchRun.of(width, summed(runs, width, budget))]
        return found

    def _without_labels(self) -> "RunCounters":
        """Count all rows by group alone."""
        twin = RunCounters(self._row_bytes, self._groups)
        twin._number_of(None)  # is 0
        for numbered, rows, counts in self.pieces():
            if numbered:
                number = slice(self._row_bytes, self._row_bytes + NUMBER.itemsize)
                groups = rows[:, number].copy().view(NUMBER) % NUMBER.type(self._groups)
                rows = rows.copy()
                rows[:, number] = (groups).view(np.uint8)
            twin._counter((numbered, (CPU, 0))).add(rows, counts)
        return twin


def summed(runs: Sequence[SortedRun], row_bytes: int, budget: int) -> Iterator[Histogram]:
    """Yield what is left of all rows, in order; some runs may have counts that are taken back."""
    for rows, counts in merged(runs, row_bytes, budget):
        left = counts > 0
        yield (rows, counts) if left.all() else (rows[left], counts[left])
