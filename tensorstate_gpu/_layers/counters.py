"""Running counts by label and group: one counter for each device, whose keys contain both."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.backend_protocol import Counter
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._layers.numbered_keys import (
    NUMBER,
    LabelledGroups,
    all_of,
    groups_of_labels,
    merged_by_group,
    merged_by_label,
    numbered_bytes,
)
from tensorstate_gpu._process.progress import OnDone
from tensorstate_gpu._states.backends import backend_for, cpu, device_backend_for, device_of
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.sorted_runs import Histogram, MemoryRun, SortedRun
from tensorstate_gpu._states.spilling_counter import SpillingCounter
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts

Device = tuple[int, int]
Key = tuple[bool, Device]  # whether the rows have numbers, and where they are
# Sorted runs of rows (False), and of rows with the numbers of their labels and groups (True).
RunsByKind = dict[bool, list[SortedRun]]
WeightedRows = tuple[Rows, NDArray[np.int64] | None]
Numbers = NDArray[np.uint32]  # of labels and groups
ByRow = Callable[[Numbers], Numbers]


class LabelledCounters:
    """Running counts by label and group, on each device. None stands for rows without labels.

    Rows with labels or groups are counted with a number of both behind them. So a batch is counted
    completely or not at all, one table has all labels and groups, and rows of a label are next to
    each other when they are in order. Copies are independent, and in host memory.

    ``groups``: their number.
    """

    def __init__(self, row_bytes: int, groups: int = 1) -> None:
        self._row_bytes, self._groups = row_bytes, groups
        self._numbers: dict[Label, int] = {}
        self._counters: dict[Key, Counter] = {}
        self._held: list[tuple[Key, NativeArray]] | None = None  # None: batches are not held
        self._taken_back: dict[Key, Counter] = {}  # what counts no longer, in host memory

    @property
    def total(self) -> int:
        counted, taken = self._counters.values(), self._taken_back.values()
        return sum(each.total for each in counted) - sum(each.total for each in taken)

    def hold(self) -> None:
        """Hold the rows of the next batches, and no longer those of earlier ones."""
        self._held = []

    def release(self) -> None:
        """Hold no rows any more."""
        self._held = None

    def take_back(self) -> None:
        """Count the batches that are held no longer, and release them.

        Tables do not forget rows, so these are counted apart, and subtracted when counts are read.
        """
        taken = dict(self._taken_back)
        for key, rows in self._held or ():
            counter = new_counter(rows.shape[1])
            if key in taken:
                counter.add(*taken[key].result())
            counter.add(self._on_host(key, rows))
            taken[key] = counter
        self._taken_back, self._held = taken, None

    def _on_host(self, key: Key, rows: NativeArray) -> Rows:
        counter = self._counter(key)
        return counter.to_host(rows) if isinstance(counter, SpillingCounter) else np.asarray(rows)

    def _result(self, key: Key) -> Histogram:
        counted = self._counters[key].result()
        if key not in self._taken_back:
            return counted
        return without(counted, self._taken_back[key].result())

    def add(
        self,
        packed: NativeArray,
        labels: NDArray[Any] | None,
        groups: NDArray[np.integer] | None = None,
        by_row: ByRow | None = None,
    ) -> None:
        """Count rows, by their labels and groups if there are any.

        ``by_row``: makes an array with a number for each row of one with a number for each label or
        group; by default there is one of these for each row.

        Rows that find no room on their device are counted by the host. Raises MemoryError, and
        counts no row, if the host has no room either.
        """
        numbers = None
        if labels is not None or groups is not None:
            numbers = self._numbers_of_both(labels, groups)
            numbers = numbers if by_row is None else by_row(numbers)
        device = device_of(packed)
        try:
            self._add(packed, device, numbers)
        except MemoryError:
            if device[0] == CPU:
                raise
            self._add(device_backend_for(device).to_host(packed), (CPU, 0), numbers)

    def _add(self, packed: NativeArray, device: Device, numbers: Numbers | None) -> None:
        """Count rows; with ``numbers``, of labels and groups, rows that end with their number."""
        if numbers is not None:
            columns = np.zeros((len(numbers), self._key_bytes - self._row_bytes), np.uint8)
            columns[:, : NUMBER.itemsize] = numbers.view(np.uint8).reshape(len(numbers), -1)
            packed = backend_for(device).with_columns(packed, columns)
        held: NativeArray = packed
        if self._held is not None and numbers is None and device[0] == CPU:
            held = np.array(packed)  # a copy: the next batch may be packed into the same memory
        key = (numbers is not None, device)
        counter = self._counters.get(key)
        (self._counter(key) if counter is None else counter).add(packed)
        if self._held is not None:
            self._held.append((key, held))

    @property
    def _key_bytes(self) -> int:
        return numbered_bytes(self._row_bytes)

    def _numbers_of_both(
        self, labels: NDArray[Any] | None, groups: NDArray[np.integer] | None
    ) -> Numbers:
        """Return a number for each label with its group; one of the two may be missing."""
        if groups is None:
            assert labels is not None
            return self._numbers_of(labels) * NUMBER.type(self._groups)
        first = self._number_of(None) if labels is None else self._numbers_of(labels)
        return first * NUMBER.type(self._groups) + groups.astype(NUMBER)

    def _numbers_of(self, labels: NDArray[Any]) -> Numbers:
        """Return the number of each label; new labels get the next ones."""
        if labels.dtype.kind == "O":  # integers and strings, which have no order
            return np.array([self._number_of(label) for label in labels.tolist()], NUMBER)
        distinct, places = np.unique(labels, return_inverse=True)
        numbers = np.array([self._number_of(label) for label in distinct.tolist()], NUMBER)
        return numbers[places]

    def _number_of(self, label: Label) -> int:
        number = self._numbers.setdefault(label, len(self._numbers))
        if (number + 1) * self._groups > 2**32:
            raise OverflowError(f"more than {number:,} labels in {self._groups} groups")
        return number

    def _counter(self, key: Key) -> Counter:
        if key not in self._counters:
            numbered, device = key
            width = self._key_bytes if numbered else self._row_bytes
            self._counters[key] = self._new_counter(width, device)
        return self._counters[key]

    def _new_counter(self, row_bytes: int, device: Device) -> Counter:
        return new_counter(row_bytes, device)

    def __getstate__(self) -> dict[str, Any]:
        counters = [(key[0], self._result(key)) for key in self._counters]
        sizes = {"row_bytes": self._row_bytes, "groups": self._groups}
        return {**sizes, "numbers": dict(self._numbers), "counters": counters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["row_bytes"], state["groups"])  # type: ignore[misc]
        self._numbers = state["numbers"]
        for numbered, (rows, counts) in state["counters"]:
            self._counter((numbered, (CPU, 0))).add(rows, counts)

    # ``on_counted`` is called with the rows that were read since the last call, if what is counted
    # is in files; some may be read twice.

    def counted(self, neurons: int, on_counted: OnDone | None = None) -> StateCounts | StoredCounts:
        """Return all counts together: in files, where memory is short."""
        return all_of(self._by_label(neurons), neurons)

    def counted_by(
        self, neurons: int, on_counted: OnDone | None = None
    ) -> Mapping[Label, StateCounts | StoredCounts]:
        """Return the counts by label, integers before strings: in files, where memory is short."""
        return merged_by_label(self._by_label(neurons), neurons)

    def counted_by_group(
        self, neurons: int, on_counted: OnDone | None = None, *, by_label: bool
    ) -> Mapping[Label, Sequence[StateCounts] | Sequence[StoredCounts]]:
        """Return the counts by label and group: in files, where memory is short.

        Unless ``by_label``, those of several labels may be together.
        """
        return merged_by_group(self._by_label(neurons), neurons)

    def _by_label(self, neurons: int) -> Iterator[LabelledGroups]:
        return groups_of_labels(self._histograms(), self.labels, self._groups, neurons)

    def runs(self) -> RunsByKind:
        """Return sorted runs that together are all counts; some may take back those of others.

        They do not change when more is counted.
        """
        runs: RunsByKind = {}
        for numbered, histogram in self._histograms():
            runs.setdefault(numbered, []).append(MemoryRun(*histogram))
        return runs

    @property
    def labels(self) -> list[Label]:
        """The labels, in the order of their numbers."""
        return list(self._numbers)

    def _histograms(self) -> Iterator[tuple[bool, Histogram]]:
        """Return histograms, and first of each whether its rows have numbers."""
        for key in self._counters:
            yield key[0], self._result(key)


def without(counted: Histogram, taken_back: Histogram) -> Histogram:
    """Return a histogram without a part of it."""
    rows, counts = taken_back
    both = cpu().merge([counted, (rows, -counts)], rows.shape[1])
    left = both[1] > 0
    return both[0][left], both[1][left]


def new_counter(row_bytes: int, device: tuple[int, int] = (CPU, 0)) -> Counter:
    if device[0] == CPU:
        return cpu().counter(row_bytes)
    return SpillingCounter(device_backend_for(device), row_bytes)


def count_chunks(chunks: Iterable[Rows], neurons: int) -> StateCounts | StoredCounts:
    """Count rows that are given in chunks (rows, bytes): in files, where memory is short."""
    return count_weighted(((chunk, None) for chunk in chunks), neurons)


def count_weighted(
    chunks: Iterable[WeightedRows], neurons: int, budget: int | None = None
) -> StateCounts | StoredCounts:
    """Count rows that are given in chunks, each row as often as its weight says, or once."""
    counter = ExternalCounter(row_bytes(neurons), budget)
    for chunk, weights in chunks:
        counter.add(chunk, weights)
    if counter.has_spilled:
        return StoredCounts(counter.runs(), neurons)
    return StateCounts.trusted(*counter.result(), neurons)
