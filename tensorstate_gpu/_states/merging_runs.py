"""Merges sorted runs range by range, in order and in bounded memory.

All runs are cut at the same states, so a range of one is merged with the same range of the others.
The cuts are among the first rows of blocks: no distribution of states makes a range larger than its
share.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.num_threads import get_num_threads
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.sorted_runs import (
    Histogram,
    SortedRun,
    length,
    part_of,
    rows_of_block,
)

_MOST_ROWS = 1 << 20  # of a range: larger ones gain nothing, unless blocks are large
MOST = 2**63 - 1  # of a count
_MOST_BLOCK_BYTES, _FEW_RUNS = 1 << 17, 16
_COPIES = 4  # of the rows of a range: read, merged once, merged again, and written by the caller


def merged(runs: Sequence[SortedRun], row_bytes: int, budget: int) -> Iterator[Histogram]:
    """Yield all rows in order, each once, with the sums of their counts, piece by piece.

    ``budget``: the bytes that this may take. Ranges are merged on all threads, some in advance.
    """
    threads = get_num_threads()
    # Of each run, a range also reads a part of a block that it does not need.
    not_needed = sum(max(run.sizes, default=0) for run in runs)
    most = max(_MOST_ROWS, 4 * not_needed)
    rows = min(most, budget // ((threads + 1) * _COPIES * (row_bytes + 8)))
    if len(runs) < 2:
        for run in runs:
            yield from _alone(run, rows)
        return
    cuts = _cuts(runs, max(rows // 2, rows - not_needed))

    def merge(low: bytes | None, high: bytes | None) -> Histogram:
        return merged_range(runs, row_bytes, low, high)

    pool = ThreadPoolExecutor(threads, "tensorstate merge")
    waiting: deque[Future[Histogram]] = deque()
    try:
        for low, high in pairwise([None, *cuts, None]):
            with deferred_interrupts():  # else a thread that has just begun may never end
                waiting.append(pool.submit(merge, low, high))
            if len(waiting) > threads:
                yield from _if_any(waiting.popleft().result())
        while waiting:
            yield from _if_any(waiting.popleft().result())
    finally:  # without waiting for the result of what nobody wants
        pool.shutdown(wait=False, cancel_futures=True)


def rows_of_large_block(runs: int, row_bytes: int, budget: int) -> int:
    """Return how many rows a block of one more run may have, where the counts have a budget.

    Counting 20 million rows of 64 bytes takes a fifth less processor time with blocks of 128 KiB
    than of 32. But each thread that merges reads a part of a block of each run that it does not
    need: of sixteen runs, these take a quarter of what merging may.
    """
    threads = get_num_threads()
    most = budget // (4 * _COPIES * 4 * max(runs, _FEW_RUNS) * (threads + 1) * (row_bytes + 8))
    return max(rows_of_block(row_bytes), min(most, _MOST_BLOCK_BYTES // row_bytes))


def merged_range(
    runs: Sequence[SortedRun], row_bytes: int, low: bytes | None, high: bytes | None
) -> Histogram:
    """Return the rows from ``low`` on that are below ``high``, each once; None for no limit."""
    add_up = _merge if sum(run.most for run in runs) <= MOST else _merge_checked
    parts = [part_of(run, low, high) for run in runs]
    return add_up([part for part in parts if len(part[0])], row_bytes)


def _merge(parts: list[Histogram], row_bytes: int) -> Histogram:
    return cpu().merge(parts, row_bytes)


def _merge_checked(parts: list[Histogram], row_bytes: int) -> Histogram:
    """Merge histograms. Raises OverflowError if a sum is more than an int64 holds."""
    rows, high = cpu().merge([(rows, counts >> 32) for rows, counts in parts], row_bytes)
    _, low = cpu().merge([(rows, counts & 0xFFFFFFFF) for rows, counts in parts], row_bytes)
    if (high + (low >> 32)).max(initial=0) >= 1 << 31:
        raise OverflowError(f"a state occurred more than {MOST:,} times")
    return rows, (high << 32) + low


def _if_any(piece: Histogram) -> Iterator[Histogram]:
    """Yield a piece unless it is empty: a RangeOfRun may have no rows in its first block."""
    if len(piece[1]):
        yield piece


def _alone(run: SortedRun, rows: int) -> Iterator[Histogram]:
    """Yield a run as it is, about so many rows at a time."""
    blocks, step = len(run.fences), max(1, rows // max(run.sizes, default=1))
    for first in range(0, blocks, step):
        yield from _if_any(run.read(first, min(first + step, blocks)))


def ranges_of(
    runs: Sequence[SortedRun], number: int
) -> list[tuple[bytes | None, bytes | None] | None]:
    """Return the limits of so many ranges with about as many rows; None for those without any.

    Equal runs have equal ranges, in whatever order they are.
    """
    rows = sum(map(length, runs))
    cuts = _cuts(runs, -(-rows // number))  # fewer than ``number``
    return [*pairwise([None, *cuts, None]), *[None] * (number - len(cuts) - 1)]


def _cuts(runs: Sequence[SortedRun], most: int) -> list[bytes]:
    """Return keys between which all runs together have about ``most`` rows, or one block."""
    blocks = sorted(pair for run in runs for pair in zip(run.fences, run.sizes, strict=True))
    cuts: list[bytes] = []
    rows = 0
    for (fence, size), (following, _) in pairwise(blocks):
        rows += size
        if rows >= most and following != fence:
            cuts.append(following)
            rows = 0
    return cuts


def loaded(runs: Sequence[SortedRun], row_bytes: int, budget: int) -> Histogram:
    """Return all rows in order, with the sums of their counts, in memory."""
    most = sum(map(length, runs))
    rows, counts = np.empty((most, row_bytes), np.uint8), np.empty(most, np.int64)
    found = 0
    for some_rows, some_counts in merged(runs, row_bytes, budget):
        part = slice(found, found + len(some_counts))
        rows[part], counts[part] = some_rows, some_counts
        found = part.stop
    return rows[:found], counts[:found]  # the memory behind them was never written
