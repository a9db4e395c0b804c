"""Spread: how the states of a layer are spread over ranks, as in tensor parallelism."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._layers.counters import LabelledCounters
from tensorstate_gpu._layers.fixed_rows import FixedRows
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._states.rank_exchange import owners
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.bits import concatenate_neurons
from tensorstate_gpu.errors import RanksDisagree

FoundT = TypeVar("FoundT")
Block = tuple[int, Rows]  # rows, and before them the number of the first in the whole layer

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

        An error of this rank is returned: its partners wait for what it has to say of each block.
        What they count is incomplete then, which they learn from that rank.
        """
        widths = []
        for ranks in self._slices:
            widths.append(ranks.of_all(neurons))
            neurons = sum(widths[-1])
        counters = LabelledCounters(row_bytes(neurons), slices.number)
        own, blocks = _OwnWork(), _blocks(slices.chunks)
        for _ in range(-(-slices.ledger.rows // _BLOCK)):
            block = own.tried(lambda: next(blocks))
            for ranks, each in zip(self._slices, widths, strict=True):
                block = _join(ranks, own, block, each)
            own.tried(_count, counters, slices, block)
        return counters, own.failure

    def own_share(self, counts: StateCounts) -> StateCounts:
        """Return the states that this rank owns, among those that have copies of them."""
        for step in self.steps:
            if step.kind == "copies":
                own = owners(counts.packed, step.ranks.size) == step.ranks.rank
                counts = StateCounts.trusted(counts.packed[own], counts.counts[own], counts.neurons)
        return counts


class _OwnWork:
    """What this rank computes between exchanges. After an error it computes nothing any more.

    ``failure``: the error; None where only partners have failed.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def tried(self, work: Callable[..., FoundT], *args: object) -> FoundT | None:
        """Return what some work returns; None after an error, of this rank or of partners."""
        if self.failure is not None or any(each is None for each in args):
            return None
        try:
            return work(*args)
        except RanksDisagree:
            return None
        except Exception as error:
            self.failure = error
            return None


def _join(ranks: Ranks, own: _OwnWork, block: Block | None, neurons: list[int]) -> Block | None:
    """Give each rank a share of the rows; return this rank's, with the neurons of all ranks.

    None if a rank has failed. Collective also then: each asks the others before it sends.
    """
    sent = own.tried(_padded, block, row_bytes(max(neurons)))
    if not all(ranks.of_all(sent is not None)):
        return None
    return own.tried(_joined, ranks, sent, neurons)


def _padded(block: Block, width: int) -> Block:
    start, rows = block
    padded = np.zeros((len(rows), width), np.uint8)
    padded[:, : rows.shape[1]] = rows
    return start, padded


def _joined(ranks: Ranks, block: Block, neurons: list[int]) -> Block:
    start, rows = block
    ends = (np.arange(ranks.size + 1) * len(rows) // ranks.size).tolist()
    own = ranks.exchanged(rows, np.diff(ends).tolist())
    slices = [part[:, : row_bytes(of)] for part, of in zip(own, neurons, strict=True)]
    return start + ends[ranks.rank], concatenate_neurons(slices, neurons)


def _count(counters: LabelledCounters, slices: FixedRows, block: Block) -> None:
    start, rows = block
    if len(rows):  # of few rows, some partners have none
        counters.add(rows, *slices.notes_of_rows(start, start + len(rows)))


def _blocks(chunks: Iterable[Rows]) -> Iterator[Block]:
    """Return the same rows in blocks of ``_BLOCK`` rows; the last has the rest."""
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
