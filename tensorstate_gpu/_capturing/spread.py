"""Spread: how the states of a layer are spread over ranks, as in tensor parallelism."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._layers.counters import LabelledCounters
from tensorstate_gpu._layers.fixed_rows import FixedRows
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._states.rank_exchange import owners
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.bits import concatenate_neurons

_BLOCK = 1 << 18  # rows that are joined at a time


@dataclass(frozen=True, slots=True)
class Step:
    """The ranks along one axis of a mesh, and what they have of a layer.

    "neurons": each has a slice of the neurons, of the same rows. "copies": all have the same.
    """

    kind: Literal["neurons", "copies"]
    ranks: Ranks


@dataclass(frozen=True, slots=True)
class Spread:
    """How the states of a layer are spread over the axes of a mesh, the last axis first.

    The last axis cuts what the ones before it have left, so its slices are joined first. Ranks
    along axes that are not listed have rows of their own. ``neurons``: of the whole layer.
    """

    steps: tuple[Step, ...]
    neurons: int

    @property
    def has_slices(self) -> bool:
        """Whether each rank has a slice of the neurons only."""
        return bool(self._slices)

    @property
    def _slices(self) -> list[Ranks]:
        return [step.ranks for step in self.steps if step.kind == "neurons"]

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks for those that have the same inputs."""
        return all(step.ranks.rank == 0 for step in self.steps)

    @property
    def partners(self) -> tuple[int, ...]:
        """The ranks that have the same rows as this one, by their numbers in the whole job."""
        return tuple(sorted({place for step in self.steps for place in step.ranks.places}))

    def among(self, places: Sequence[int]) -> "Spread":
        """Return it without axes of copies of which this rank alone is among ``places``."""
        steps = (
            step
            for step in self.steps
            if step.kind == "neurons" or len({*places} & {*step.ranks.places}) > 1
        )
        return Spread(tuple(steps), self.neurons)

    def joined(self, slices: FixedRows, neurons: int) -> tuple[LabelledCounters, Exception | None]:
        """Count this rank's share of the rows, with all neurons. Collective, of the partners.

        ``slices``: the rows that this rank has, of ``neurons`` neurons. Those of the partners are
        of the same inputs, so only bits are exchanged: the number of a row tells its label and its
        group.

        An error while it counts is returned, for its partners wait for what it has to send.
        """
        widths = []
        for ranks in self._slices:
            widths.append(ranks.of_all(neurons))
            neurons = sum(widths[-1])
        counters = LabelledCounters(row_bytes(neurons), slices.number)
        failure: Exception | None = None
        for start, rows in _blocks(slices.chunks):
            for ranks, each in zip(self._slices, widths, strict=True):
                start, rows = _join(ranks, start, rows, each)
            if len(rows) and failure is None:  # of few rows, some partners have none
                try:
                    counters.add(rows, *slices.notes_of_rows(start, start + len(rows)))
                except Exception as error:
                    failure = error
        return counters, failure

    def own_share(self, counts: StateCounts) -> StateCounts:
        """Return the states that this rank owns, among those that have copies of them."""
        for step in self.steps:
            if step.kind == "copies":
                own = owners(counts.packed, step.ranks.size) == step.ranks.rank
                counts = StateCounts.trusted(counts.packed[own], counts.counts[own], counts.neurons)
        return counts


def _join(ranks: Ranks, start: int, rows: Rows, neurons: list[int]) -> tuple[int, Rows]:
    """Give each rank a share of the rows; return this rank's, with the neurons of all ranks.

    Before the rows is the number of the first, in the whole layer.
    """
    ends = (np.arange(ranks.size + 1) * len(rows) // ranks.size).tolist()
    padded = np.zeros((len(rows), row_bytes(max(neurons))), np.uint8)
    padded[:, : rows.shape[1]] = rows
    own = ranks.exchanged(padded, np.diff(ends).tolist())
    slices = [part[:, : row_bytes(of)] for part, of in zip(own, neurons, strict=True)]
    return start + ends[ranks.rank], concatenate_neurons(slices, neurons)


def _blocks(chunks: Iterable[Rows]) -> Iterator[tuple[int, Rows]]:
    """Return the same rows in blocks, whose sizes follow from the number of rows alone.

    Before each block is the number of its first row.
    """
    start, kept = 0, list[Rows]()
    for chunk in chunks:
        kept.append(chunk)
        if sum(map(len, kept)) >= _BLOCK:
            rows = np.concatenate(kept)
            end = len(rows) - len(rows) % _BLOCK
            for first in range(0, end, _BLOCK):
                yield start + first, rows[first : first + _BLOCK]
            start, kept = start + end, [rows[end:]]
    if any(map(len, kept)):
        yield start, np.concatenate(kept)
