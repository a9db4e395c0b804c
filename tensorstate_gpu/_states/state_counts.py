"""StateCounts: an immutable histogram of states. Merging is associative and commutative.

RankCounts is that of all ranks of a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer, listed, positive_integer
from tensorstate_gpu._arrays.frameworks import ranks_of
from tensorstate_gpu._arrays.host_arrays import host_array
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._listed_names import ListedNames
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.count_checks import check_counts, where_counts_are
from tensorstate_gpu._states.measured_counts import MeasuredCounts
from tensorstate_gpu._states.packed_arguments import check_unused_bits
from tensorstate_gpu._states.rank_exchange import (
    Tally,
    agreed,
    check_sum,
    exchange,
    same_on_all,
    summarised,
)
from tensorstate_gpu._states.sums_over_states import TOO_MANY, merged_at_once

MANY = 32  # histograms, of fewer states on average, which are sorted rather than merged in pairs


class StateCounts(ListedNames, MeasuredCounts):
    """How often each distinct state occurred.

    Parameters
    ----------
    packed : uint8 array of shape (distinct, ceil(neurons / 8))
        The distinct states, in order (as little-endian integers).
    counts : int64 array of shape (distinct,)
        How often each occurred, all > 0.
    neurons : int

    Raises
    ------
    ValueError
        If the arrays' shapes differ, the states are out of order, a count is below 1, or bits are
        set beyond ``neurons``.

    Examples
    --------
    >>> import numpy as np
    >>> a = StateCounts(np.array([[0], [2]], np.uint8), np.array([3, 1]), neurons=2)
    >>> (a + a).counts
    array([6, 2])
    >>> a  # doctest: +NORMALIZE_WHITESPACE
    StateCounts(2 distinct of 4 states, 2 neurons, entropy 0.811 bits, efficiency 40.6 %,
    coverage 75.0 %)
    """

    __module__ = "tensorstate_gpu"

    __slots__ = ("_counts", "_neurons", "_packed")
    _listed = (
        "aligned_counts counts counts_of_counts efficiency empty entropy load max_entropy merge "
        "merge_ranks neurons packed state_ids states to_arrow to_pandas to_parquet total"
    )

    def __init__(self, packed: Any, counts: Any, neurons: int) -> None:
        neurons = positive_integer(neurons, "neurons")
        rows = np.array(host_array(packed, "packed"), order="C")
        numbers = host_array(counts, "counts")
        check_counts(rows, numbers, neurons)
        self._set_arrays(rows, numbers.astype(np.int64), neurons)

    def _set_arrays(self, rows: NDArray[np.uint8], counts: NDArray[np.int64], neurons: int) -> None:
        check_unused_bits(rows[-1:], neurons)  # if any state has them, the greatest has
        most = int(counts.max()) if len(counts) else 0
        if most * len(counts) >= 2**63 and sum(counts.tolist()) >= 2**63:
            raise OverflowError(TOO_MANY)
        rows.flags.writeable = counts.flags.writeable = False
        self._packed, self._counts, self._neurons = rows, counts, int(neurons)

    @classmethod
    def trusted(
        cls, packed: NDArray[np.uint8], counts: NDArray[np.int64], neurons: int
    ) -> StateCounts:
        """Use a backend's result without a copy. Checks only for bits beyond ``neurons``."""
        self = cls.__new__(cls)
        self._set_arrays(packed, counts, neurons)
        return self

    @classmethod
    def unchecked(
        cls, packed: NDArray[np.uint8], counts: NDArray[np.int64], neurons: int
    ) -> StateCounts:
        """Use a part of read-only arrays that were checked: labels have millions of them."""
        self = cls.__new__(cls)
        self._packed, self._counts, self._neurons = packed, counts, neurons
        return self

    @classmethod
    def empty(cls, neurons: int) -> StateCounts:
        """Return the neutral element of merging."""
        neurons = positive_integer(neurons, "neurons")
        return cls(np.empty((0, row_bytes(neurons)), np.uint8), np.empty(0, np.int64), neurons)

    @property
    def packed(self) -> NDArray[np.uint8]:
        """Distinct packed states in order, read-only: (distinct, bytes)."""
        return self._packed.view()  # a view of a read-only array cannot be made writeable

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each distinct state occurred, read-only: (distinct,)."""
        return self._counts.view()

    @property
    def neurons(self) -> int:
        return self._neurons

    @property
    def total(self) -> int:
        """The number of states counted, including repetitions."""
        return int(self._counts.sum())

    @property
    def states(self) -> NDArray[np.bool_]:
        """The distinct states, unpacked: (distinct, neurons)."""
        unpacked: NDArray[np.bool_] = cpu().decompress(self._packed, self._neurons)
        return unpacked

    def state_ids(self) -> list[bytes]:
        """Return the distinct states as bytes, in order."""
        width, data = self._packed.shape[1], self._packed.tobytes()
        return [data[i : i + width] for i in range(0, len(data), width)]

    def counts_of_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each count that occurs, ascending, and the number of states that have it."""
        occurrences, states = np.unique(self._counts, return_counts=True)
        return occurrences, states.astype(np.int64)

    def load(self) -> StateCounts:
        """Return this histogram: it is in memory. StoredCounts.load() reads one from disk."""
        return self

    def merge(self, other: StateCounts) -> StateCounts:
        """Return the sum of both histograms. Raises ValueError if the numbers of neurons differ."""
        if not isinstance(other, StateCounts):
            raise TypeError(f"other must be StateCounts, got {type(other).__name__}")
        return merge_all([self, other], self._neurons)

    def merge_ranks(self, process_group: object = None) -> RankCounts:
        """Return the sum of the histograms of all ranks of a job. Collective: all ranks call it.

        ``process_group``: of torch.distributed, by default that of all ranks.

        Raises RuntimeError without a process group, ValueError if this process does not belong to
        it, and RanksDisagree, on every rank, if the numbers of neurons differ.
        """
        ranks = ranks_of(process_group)
        own = self._neurons, self.total
        neurons, totals = zip(*agreed(ranks, lambda: own), strict=True)
        same_on_all(neurons, "the number of neurons")
        check_sum(totals)
        return with_tallies(ranks, owned(ranks, [self]))[0]

    def aligned_counts(self, other: StateCounts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the counts of both for each state that occurs in either, in order, with zeros.

        Raises ValueError if the numbers of neurons differ.
        """
        if not isinstance(other, StateCounts):
            raise TypeError(f"other must be StateCounts, got {type(other).__name__}")
        marked = [
            StateCounts.trusted(part.packed, np.full(len(part), mark), self._neurons)
            for part, mark in ((self, 1), (_same_neurons(other, self._neurons), 2))
        ]
        origin = merge_all(marked, self._neurons).counts  # 3 for the states of both
        mine, others = np.zeros_like(origin), np.zeros_like(origin)
        mine[origin != 2] = self._counts
        others[origin != 1] = other._counts
        return mine, others

    def to_arrow(self) -> Any:
        """Return an Arrow table, in order. Needs pyarrow (the extra ``export``).

        Columns: ``state``, fixed-size binary, and ``count``, int64. ``neurons`` is in the schema's
        metadata.
        """
        from tensorstate_gpu._states.arrow_counts import counts_to_arrow

        return counts_to_arrow(self._packed, self._counts, self._neurons)

    def to_pandas(self) -> Any:
        """Return the table of to_arrow() as a pandas frame; states are bytes. Also needs pandas."""
        from tensorstate_gpu._states.arrow_library import to_pandas

        return to_pandas(self.to_arrow())

    def to_parquet(self, path: Any, *, progress: ProgressCallback | None = None) -> None:
        """Write the table of to_arrow() to a new Parquet file. Raises ValueError if it exists.

        The file gets its name when it is complete. If writing fails, no file is left. ``progress``
        is called with the number of distinct states written so far.
        """
        from tensorstate_gpu._states.parquet import write_table

        write_table(self.to_arrow(), path, progress)

    def __add__(self, other: object) -> StateCounts:
        return self.merge(other) if isinstance(other, StateCounts) else NotImplemented

    def __radd__(self, other: object) -> StateCounts:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __len__(self) -> int:
        return len(self._counts)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, StateCounts)
            and self._neurons == other._neurons
            and np.array_equal(self._packed, other._packed)
            and np.array_equal(self._counts, other._counts)
        )

    def __hash__(self) -> int:
        return hash((self._neurons, self._packed.tobytes(), self._counts.tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle is as trustworthy as its source: checking the order of 10**8 states takes longer
        # than reading them.
        return StateCounts.trusted, (self._packed, self._counts, self._neurons)


def merge(parts: Iterable[StateCounts]) -> StateCounts:
    """Return the sum of any number of histograms, of batches, processes or machines.

    Each state is copied log2(parts) times; ``sum(parts)`` copies it once for each later part.

    Parameters
    ----------
    parts : iterable of StateCounts
        Of the same number of neurons; at least one.

    Raises
    ------
    TypeError, ValueError
        For other objects, no parts, or different numbers of neurons.
    OverflowError
        If the counts add up to more than int64 holds.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu import count_states
    >>> merge(count_states(np.array([[k], [7]], np.uint8)) for k in range(3)).counts
    array([1, 1, 1, 3])
    """
    every = listed(parts, "parts", "StateCounts")
    for part in every:
        if not isinstance(part, StateCounts):
            kind = type(part).__name__
            raise TypeError(f"parts must be StateCounts, got {kind}{where_counts_are(part)}")
    if not every:
        raise ValueError("parts is empty: nothing tells the number of neurons")
    return merge_all(every, every[0].neurons)


def merge_all(parts: list[StateCounts], neurons: int) -> StateCounts:
    """Merge histograms in one pass. Raises ValueError if their numbers of neurons differ."""
    for other in {part._neurons for part in parts} - {neurons}:
        raise ValueError(f"cannot merge counts of {other} neurons with {neurons}")
    filled = [part for part in parts if len(part._counts)] or parts[:1]
    if len(filled) == 1:
        return filled[0]
    histograms = [(part._packed, part._counts) for part in filled]
    if len(filled) > MANY and sum(map(len, filled)) < MANY * len(filled):
        return StateCounts.trusted(*merged_at_once(histograms), neurons)
    if sum(part.total for part in filled) >= 2**63:
        raise OverflowError(TOO_MANY)
    packed, counts = cpu().merge(histograms, row_bytes(neurons))
    return StateCounts.trusted(packed, counts, neurons)


def _same_neurons(part: StateCounts, neurons: int) -> StateCounts:
    if part.neurons != neurons:
        raise ValueError(f"cannot merge counts of {part.neurons} neurons with {neurons}")
    return part


class RankCounts(MeasuredCounts):
    """How often each distinct state occurred on all ranks of a job.

    Each rank owns a part of the states, so none needs room for all. What the measures need of them
    is known to every rank: how many states occurred how often. So measures are the same on all
    ranks, and no rank waits for another; only gather() communicates.

    ``StateCounts.merge_ranks()`` and ``Run.sync()`` return it. Copies cannot communicate.
    """

    __module__ = "tensorstate_gpu"

    __slots__ = ("_firing", "_own", "_ranks", "_tally")

    def __init__(
        self, own: StateCounts, tally: Tally, firing: NDArray[np.int64], ranks: Ranks
    ) -> None:
        """``tally``: counts that occur, and how many states have each. ``firing``: by neuron."""
        self._own, self._tally, self._firing, self._ranks = own, tally, firing, ranks

    @property
    def own(self) -> StateCounts:
        """The states that this rank owns, and no other, with the counts of all ranks."""
        return self._own

    @property
    def neurons(self) -> int:
        return self._own.neurons

    @property
    def total(self) -> int:
        counts, states = self._tally
        return int(counts @ states)

    def __len__(self) -> int:
        return int(self._tally[1].sum())

    def counts_of_counts(self) -> Tally:
        """Return each count that occurs, ascending, and the number of states that have it."""
        counts, states = self._tally
        return counts.copy(), states.copy()

    def firing_counts(self) -> NDArray[np.int64]:
        """Return in how many states, with repetitions, each neuron fires: (neurons,)."""
        return self._firing.copy()

    def gather(self, dst: int = 0) -> StateCounts | None:
        """Return the whole histogram at rank ``dst`` of the group, None at the others. Collective.

        Raises RuntimeError for a copy, and ValueError, on every rank, if there is no such rank.
        """
        whole = gathered(self._ranks, [self._own], dst)
        return None if whole is None else whole[0]


def owned(ranks: Ranks, parts: Sequence[StateCounts]) -> list[StateCounts]:
    """Return of each histogram what this rank owns, with the counts of all ranks.

    Collective; every rank has as many parts, of the same neurons.
    """
    neurons = parts[0].neurons
    histograms = [(part.packed, part.counts) for part in parts]
    return [StateCounts.trusted(*part, neurons) for part in exchange(ranks, histograms, neurons)]


def gathered(ranks: Ranks, owns: Sequence[StateCounts], dst: int) -> list[StateCounts] | None:
    """Return whole histograms at rank ``dst``, None at the others. Collective.

    ``owns``: what this rank owns of each.
    """
    if not 0 <= integer(dst, "dst") < ranks.size:
        raise ValueError(f"dst must be from 0 to {ranks.size - 1}, got {dst}")
    of_ranks = ranks.gathered(list(owns), dst)
    if of_ranks is None:
        return None
    return [merge_all(list(parts), parts[0].neurons) for parts in zip(*of_ranks, strict=True)]


def with_tallies(ranks: Ranks, owns: Sequence[StateCounts]) -> list[RankCounts]:
    """Return the counts of all ranks, from what this rank owns of each. Collective."""
    summaries = summarised(ranks, [(own.packed, own.counts) for own in owns])
    return [
        RankCounts(own, tally, firing[: own.neurons], ranks)
        for own, (tally, firing) in zip(owns, summaries, strict=True)
    ]
