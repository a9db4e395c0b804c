"""Histograms over several ranks: each rank gets a part of the states, with all ranks' counts."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.sums_over_states import sum_over_states
from tensorstate_gpu.errors import RanksDisagree

Ints = NDArray[np.int64]
Histogram = tuple[NDArray[np.uint8], Ints]  # distinct rows in order, and their counts
Tally = tuple[Ints, Ints]  # counts that occur, ascending, and how many states have each
FoundT = TypeVar("FoundT")

_BLOCK = 1 << 26  # bytes of histograms that a rank sends at a time
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # that of Fibonacci hashing


def owners(packed: NDArray[np.uint8], ranks: int) -> Ints:
    """Return which of so many ranks owns each row: by a hash of its bytes, the same everywhere."""
    rows, width = packed.shape
    padded = np.zeros((rows, -(-width // 8) * 8), np.uint8)
    padded[:, :width] = packed
    mixed = np.zeros(rows, np.uint64)
    for word in padded.view("<u8").T:
        mixed = (mixed ^ word) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    high = mixed >> np.uint64(32)  # the best mixed bits of a product
    return (high * np.uint64(ranks) >> np.uint64(32)).astype(np.int64)


def exchange(ranks: Ranks, parts: Sequence[Histogram], neurons: int) -> list[Histogram]:
    """Return this rank's part of each histogram: the states that it owns, with all ranks' counts.

    Collective; every rank has as many parts, of the same neurons. Some parts are sent at a time, so
    that the copies that are under way are no second set of all of them.
    """
    owned: list[Histogram] = []
    for start, stop in _blocks(ranks, [len(counts) for _, counts in parts], row_bytes(neurons) + 8):
        owned += _exchanged(ranks, parts[start:stop], neurons)
    return owned


def _blocks(ranks: Ranks, states: Sequence[int], width: int) -> Iterator[tuple[int, int]]:
    """Yield the limits of blocks of parts, which are the same on all ranks. Collective.

    ``states``: of each part, how many this rank has, of ``width`` bytes each.
    """
    most = np.max(ranks.of_all(np.array(states, np.int64)), axis=0)  # of any rank
    start = size = 0
    for stop, more in enumerate((most * width).tolist()):
        if size and size + more > _BLOCK:
            yield start, stop
            start, size = stop, 0
        size += more
    yield start, len(states)


def _exchanged(ranks: Ranks, parts: Sequence[Histogram], neurons: int) -> list[Histogram]:
    """Exchange the states of some parts."""
    sizes, (all_rows, all_counts) = in_step(ranks, lambda: _for_owners(parts, ranks.size))
    from_each = ranks.exchanged(sizes, [1] * ranks.size)
    per_owner = sizes.sum(axis=1).tolist()
    rows, counts = ranks.exchanged(all_rows, per_owner), ranks.exchanged(all_counts, per_owner)

    def merged() -> list[Histogram]:
        received = [
            _split(rows[sender], counts[sender], from_each[sender][0])
            for sender in range(ranks.size)
        ]
        return [
            cpu().merge([part for part in of_part if len(part[0])], row_bytes(neurons))
            for of_part in zip(*received, strict=True)
        ]

    return in_step(ranks, merged)


def _for_owners(parts: Sequence[Histogram], size: int) -> tuple[Ints, Sequence[NDArray[Any]]]:
    """Return for each rank what it owns of all parts, one after the other.

    Before the rows and the counts: how many, (ranks, parts).
    """
    chosen = [_by_owner(packed, size) for packed, _ in parts]
    sizes = np.array([[len(rows) for rows in each] for each in chosen], np.int64)
    arrays = [
        np.concatenate(
            [
                part[each[owner]]
                for owner in range(size)
                for part, each in zip(of_parts, chosen, strict=True)
            ]
        )
        for of_parts in zip(*parts, strict=True)
    ]
    return np.ascontiguousarray(sizes.reshape(len(parts), size).T), arrays


def _by_owner(packed: NDArray[np.uint8], size: int) -> list[NDArray[np.intp]]:
    """Return for each rank which rows it owns. They stay in order."""
    owner = owners(packed, size)
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.searchsorted(owner[order], np.arange(1, size)))


def _split(rows: NDArray[np.uint8], counts: Ints, sizes: Ints) -> list[Histogram]:
    ends = np.cumsum(sizes)[:-1]
    return list(zip(np.split(rows, ends), np.split(counts, ends), strict=True))


def summarised(ranks: Ranks, owns: Sequence[Histogram]) -> list[tuple[Tally, Ints]]:
    """Return of each histogram how many states occur how often, and how often each neuron fires.

    ``owns``: what this rank owns of each. N rows have at most sqrt(2 N) different counts, so a rank
    learns all of this without room for the states.
    """
    of_ranks = agreed(ranks, lambda: [(_tally(own[1]), _firing(*own)) for own in owns])

    def together() -> list[tuple[Tally, Ints]]:
        return [
            (
                functools.reduce(_sum_of_tallies, (tally for tally, _ in each)),
                np.sum([firing for _, firing in each], axis=0),
            )
            for each in zip(*of_ranks, strict=True)
        ]

    return in_step(ranks, together)


def _tally(counts: Ints) -> Tally:
    occurring, states = np.unique(counts, return_counts=True)
    return occurring, states.astype(np.int64)


def _firing(packed: NDArray[np.uint8], counts: Ints) -> Ints:
    return sum_over_states(packed, counts, cpu().firing_counts)


def _sum_of_tallies(one: Tally, other: Tally) -> Tally:
    counts, places = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    states = np.zeros(len(counts), np.int64)
    np.add.at(states, places, np.concatenate([one[1], other[1]]))
    return counts, states


def agreed(ranks: Ranks, find: Callable[[], FoundT]) -> list[FoundT]:
    """Return what all ranks have found, before anything else is exchanged. Collective.

    A rank that finds an error raises it, and all others RanksDisagree: none waits for it.
    """
    found: FoundT | None = None
    failure: Exception | None = None
    try:
        found = find()
    except Exception as error:
        failure = error
    said = None if failure is None else f"{type(failure).__name__}: {failure}"
    answers = ranks.of_all((said, found))
    if failure is not None:
        raise failure
    for rank, (problem, _) in enumerate(answers):
        if problem is not None:
            raise RanksDisagree(f"rank {rank} cannot take part: {problem}")
    return [value for _, value in answers if value is not None]


def in_step(ranks: Ranks, find: Callable[[], FoundT]) -> FoundT:
    """Return what this rank finds, once all ranks have found theirs. Collective; see agreed().

    For whatever may fail between two exchanges, such as for want of memory.
    """
    found: list[FoundT] = []
    agreed(ranks, lambda: found.append(find()))
    return found[0]


def same_on_all(values: Sequence[object], what: str) -> None:
    """Raise RanksDisagree unless ranks have the same value; ``what`` begins the message."""
    for value in values:
        if value != values[0]:
            raise RanksDisagree(f"{what}: some ranks have {values[0]}, others {value}")


def check_sum(totals: Iterable[int]) -> None:
    """Raise OverflowError if all ranks together have counted more than int64 holds."""
    if sum(totals) >= 2**63:
        raise OverflowError("counts of all ranks add up to more than int64 holds")
