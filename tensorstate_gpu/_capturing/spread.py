"""Spread: how the states of a layer are spread over ranks, as in tensor parallelism."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._layers.counters import new_counter
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

    def joined(self, chunks: Iterable[Rows], neurons: int) -> StateCounts:
        """Count this rank's share of the rows, with all neurons. Collective, of the partners.

        ``chunks``: the slices that this rank has, of ``neurons`` neurons. The partners have as many
        rows.
        """
        widths = []
        for ranks in self._slices:
            widths.append(ranks.of_all(neurons))
            neurons = sum(widths[-1])
        counter = new_counter(row_bytes(neurons))
        for rows in _blocks(chunks):
            for ranks, each in zip(self._slices, widths, strict=True):
                rows = _join(ranks, rows, each)
            counter.add(rows)
        return self.own_share(StateCounts.trusted(*counter.result(), neurons))

    def own_share(self, counts: StateCounts) -> StateCounts:
        """Return the states that this rank owns, among those that have copies of them."""
        for step in self.steps:
            if step.kind == "copies":
                own = owners(counts.packed, step.ranks.size) == step.ranks.rank
                counts = StateCounts.trusted(counts.packed[own], counts.counts[own], counts.neurons)
        return counts


def _join(ranks: Ranks, rows: Rows, neurons: list[int]) -> Rows:
    """Give each rank a share of the rows; return this rank's, with the neurons of all ranks."""
    ends = np.arange(ranks.size + 1) * len(rows) // ranks.size
    padded = np.zeros((len(rows), row_bytes(max(neurons))), np.uint8)
    padded[:, : rows.shape[1]] = rows
    return concatenate_neurons(ranks.exchanged(padded, np.diff(ends).tolist()), neurons)


def _blocks(chunks: Iterable[Rows]) -> Iterator[Rows]:
    """Return the same rows in blocks, whose sizes follow from the number of rows alone."""
    kept: list[Rows] = []
    for chunk in chunks:
        kept.append(chunk)
        if sum(map(len, kept)) >= _BLOCK:
            rows = np.concatenate(kept)
            end = len(rows) - len(rows) % _BLOCK
            yield from np.split(rows[:end], range(_BLOCK, end, _BLOCK))
            kept = [rows[end:]]
    if any(map(len, kept)):
        yield np.concatenate(kept)
