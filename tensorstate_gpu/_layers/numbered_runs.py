"""NumberedRuns: counts by label and group at one point in time, as sorted runs."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from tensorstate_gpu._layers.counters import RunsByKind
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.numbered_keys import (
    LabelledGroups,
    by_number,
    groups_of_labels,
    numbered_bytes,
)
from tensorstate_gpu._process.memory_limit import working_memory
from tensorstate_gpu._process.progress import OnDone, with_progress
from tensorstate_gpu._states.merging_runs import loaded, merged
from tensorstate_gpu._states.sorted_runs import (
    Histogram,
    RowsBehindPrefix,
    ScratchRun,
    SortedRun,
    length,
    rows_of,
)

_COPIES = 4  # of a histogram, until there is one for each label and group


class NumberedRuns(NamedTuple):
    """The sorted runs of all counts, and the labels of the numbers in them, in order.

    ``takes_back``: whether some runs take back counts of others. ``row_bytes``: without numbers.
    """

    runs: RunsByKind
    takes_back: bool
    labels: Sequence[Label]
    groups: int
    row_bytes: int

    def key_bytes(self, numbered: bool) -> int:
        """Return the bytes of the rows in a run."""
        return numbered_bytes(self.row_bytes) if numbered else self.row_bytes

    def bytes_needed(self) -> int:
        """Return how much memory histograms for each label and group would take, or more."""
        return _COPIES * sum(
            sum(map(length, runs)) * (self.key_bytes(numbered) + 8)
            for numbered, runs in self.runs.items()
        )

    def pieces(self) -> Iterator[tuple[bool, *Histogram]]:
        """Yield all rows with their counts, piece by piece, and first whether they have numbers."""
        for numbered, runs in self.runs.items():
            for rows, counts in summed(runs, self.key_bytes(numbered), working_memory() // 8):
                yield numbered, rows, counts

    def by_label(self, neurons: int) -> Iterator[LabelledGroups]:
        """Return labels, and their counts by group, in memory."""
        return groups_of_labels(self._histograms(), self.labels, self.groups, neurons)

    def _histograms(self) -> Iterator[tuple[bool, Histogram]]:
        for numbered, runs in self.runs.items():
            rows, counts = loaded(runs, self.key_bytes(numbered), working_memory() // 4)
            left = counts > 0
            yield numbered, (rows[left], counts[left])

    def left(self) -> "NumberedRuns":
        """Return runs of which none takes anything back."""
        return self.on_disk() if self.takes_back else self

    def on_disk(self, on_read: OnDone | None = None) -> "NumberedRuns":
        """Return one run of each kind, in a temporary file: whoever keeps it holds no memory.

        No block of it has rows of several numbers. ``on_read`` is called with the rows that were
        read since the last call.
        """
        found: RunsByKind = {}
        for numbered, runs in self.runs.items():
            width = self.key_bytes(numbered)
            pieces = with_progress(summed(runs, width, working_memory() // 4), rows_of, on_read)
            if numbered:
                pieces = _cut_at_numbers(pieces, self.row_bytes)
            found[numbered] = [ScratchRun.of(width, pieces)]
        return self._replace(runs=found, takes_back=False)

    def apart(self, on_read: OnDone | None = None) -> Iterator[tuple[Label, int, SortedRun]]:
        """Yield runs of the rows of each label and group that has some, without their numbers."""
        for numbered, runs in self.on_disk(on_read).runs.items():
            for run in runs:
                if numbered:
                    yield from self._by_number(run)
                elif run.sizes:
                    yield None, 0, run

    def _by_number(self, run: SortedRun) -> Iterator[tuple[Label, int, SortedRun]]:
        size, first = self.key_bytes(True) - self.row_bytes, 0
        for prefix, fences in groupby(run.fences, lambda fence: fence[:size]):
            last = first + sum(1 for _ in fences)
            label, group = divmod(int.from_bytes(prefix), self.groups)
            yield self.labels[label], group, RowsBehindPrefix(run, first, last, self.row_bytes)
            first = last


def _cut_at_numbers(pieces: Iterable[Histogram], row_bytes: int) -> Iterator[Histogram]:
    for rows, counts in pieces:
        for _, part in by_number(rows, row_bytes):
            yield rows[part], counts[part]


def summed(runs: Sequence[SortedRun], row_bytes: int, budget: int) -> Iterator[Histogram]:
    """Yield what is left of all rows, in order; some runs may have counts that are taken back."""
    for rows, counts in merged(runs, row_bytes, budget):
        left = counts > 0
        if left.all():
            yield rows, counts
        elif left.any():
            yield rows[left], counts[left]
