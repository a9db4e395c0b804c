"""RunCounters: counts by label and group that are sorted runs, and may be larger than memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from tensorstate_gpu._arrays.backend_protocol import Counter
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._layers.counters import (
    Device,
    Key,
    LabelledCounters,
    RunsByKind,
    count_weighted,
)
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.numbered_keys import (
    NUMBER,
    LabelledGroups,
    in_order,
    merged_by_group,
    merged_by_label,
    numbered_bytes,
    numbers_of,
)
from tensorstate_gpu._layers.numbered_runs import NumberedRuns
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.memory_limit import get_memory_limit, working_memory
from tensorstate_gpu._process.progress import OnDone, with_progress
from tensorstate_gpu._states.backends import device_backend_for
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.sorted_runs import (
    Histogram,
    MemoryRun,
    SortedRun,
    length,
    rows_of,
)
from tensorstate_gpu._states.spilling_counter import SpillingCounter, runs_of_counter
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts

Counts = StateCounts | StoredCounts


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
        """The bytes that the counts may use. A quarter of all is for merges, and for reading."""
        return working_memory() * 3 // 4

    def _new_counter(self, row_bytes: int, device: Device) -> Counter:
        if device[0] == CPU:
            return ExternalCounter(row_bytes, self._budget)
        return SpillingCounter(device_backend_for(device), row_bytes, self._budget)

    def _parts_now(self) -> Sequence[CountsPart]:
        """Return what is counted, without what is in a store."""
        return [CountsPart(self._counters, self._taken_back, False)]

    def _read(self) -> Sequence[NumberedRuns]:
        """Return all counts. It sorts what is in memory: once for each call of other methods."""
        parts = self._parts_now()
        runs, takes_back = joined(part.runs() for part in parts), any(p.takes_back for p in parts)
        return [NumberedRuns(runs, takes_back, self.labels, self._groups, self._row_bytes)]

    def runs(self) -> RunsByKind:
        return joined(each.runs for each in self._read())

    def _by_label(self, neurons: int) -> Iterator[LabelledGroups]:
        return _in_memory(self._read(), neurons)

    # ---- all together --------------------------------------------------------------------------

    def counted(self, neurons: int, on_counted: OnDone | None = None) -> Counts:
        found = [each.left() for each in self._read()]
        if any(length(run) for each in found for run in each.runs.get(True, ())):
            rows = with_progress(self._rows(found), rows_of, on_counted)
            return count_weighted(rows, neurons, _share_of_reading())
        runs = [run for each in found for run in each.runs.get(False, ())]
        counts = StoredCounts(runs, neurons)  # runs are counts already
        fits = sum(map(length, runs)) * (self._row_bytes + 8) <= working_memory() // 4
        return counts.load() if fits else counts

    def _rows(self, found: Sequence[NumberedRuns]) -> Iterator[Histogram]:
        for each in found:
            for _, rows, counts in each.pieces():
                yield np.ascontiguousarray(rows[:, : self._row_bytes]), counts

    # ---- by label and group --------------------------------------------------------------------

    def counted_by(self, neurons: int, on_counted: OnDone | None = None) -> Mapping[Label, Counts]:
        found = self._read()
        if _fit_in_memory(found):
            return merged_by_label(_in_memory(found, neurons), neurons)
        runs: dict[Label, list[SortedRun]] = {}
        for each in found:
            for label, _, run in each.apart(on_counted):
                runs.setdefault(label, []).append(run)
        return {label: StoredCounts(runs[label], neurons) for label in in_order(runs)}

    def counted_by_group(
        self, neurons: int, on_counted: OnDone | None = None, *, by_label: bool
    ) -> Mapping[Label, Sequence[StateCounts] | Sequence[StoredCounts]]:
        found = self._read()
        if _fit_in_memory(found):
            return merged_by_group(_in_memory(found, neurons), neurons)
        if not by_label and any(len(each.labels) > 1 for each in found):
            found = self._without_labels(found, on_counted)
        parts: dict[Label, list[list[SortedRun]]] = {}
        for each in found:
            for label, group, run in each.apart(on_counted):
                parts.setdefault(label, [[] for _ in range(self._groups)])[group].append(run)
        return {
            label: [StoredCounts(runs, neurons) for runs in parts[label]]
            for label in in_order(parts)
        }

    def _without_labels(
        self, found: Sequence[NumberedRuns], on_read: OnDone | None
    ) -> Sequence[NumberedRuns]:
        """Count all rows by group alone."""
        counter = ExternalCounter(numbered_bytes(self._row_bytes), _share_of_reading())
        number = slice(self._row_bytes, self._row_bytes + NUMBER.itemsize)
        for each in found:
            for numbered, rows, counts in each.pieces():
                if numbered:  # all that are left: what has no group was taken back
                    groups = numbers_of(rows, self._row_bytes) % NUMBER.type(self._groups)
                    rows = rows.copy()
                    rows[:, number] = groups.view(np.uint8).reshape(len(rows), -1)
                    counter.add(rows, counts)
                    if on_read is not None:
                        on_read(int(counts.sum()))
        runs: RunsByKind = {True: counter.runs()}
        return [NumberedRuns(runs, False, [None], self._groups, self._row_bytes)]

    def key_bytes(self, numbered: bool) -> int:
        """Return the bytes of the rows in a run."""
        return numbered_bytes(self._row_bytes) if numbered else self._row_bytes


def _share_of_reading() -> int:
    """Return how many bytes one of two steps of reading may use: the running counts stay."""
    return working_memory() // 8


def _fit_in_memory(found: Sequence[NumberedRuns]) -> bool:
    return sum(each.bytes_needed() for each in found) <= get_memory_limit()


def _in_memory(found: Sequence[NumberedRuns], neurons: int) -> Iterator[LabelledGroups]:
    return chain.from_iterable(each.by_label(neurons) for each in found)
