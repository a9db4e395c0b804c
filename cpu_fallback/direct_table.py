"""Counting rows of few bits: an array has a count for each possible state, in their order."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from .compiling import kernel
from .intrinsics import address_of
from .kernel_types import Bytes, Counts32, Int, Ints
from .merge import Histogram, write_pieces
from .threads import in_parallel, run, split_ranges, thread_ranges
from .words import row_word, store_bytes

_MOST_BITS = 22  # 16 MiB of counts for each thread
_MOST_ROWS = (1 << 32) - 1  # counts are 32 bits wide, so that more of them are in the caches
_APART = 16  # counts: with 64 tables, adding them up took a third of the time of tables in a row
_SAMPLE = 1 << 10  # rows that show at once that most layers have too many bits


def count_directly(rows: NDArray[np.uint8]) -> Histogram | None:
    """Count rows, uint8 (states, bytes) of up to 8 bytes; None if more states are possible."""
    most = min(_MOST_BITS, len(rows).bit_length() - 1)
    if len(rows) > _MOST_ROWS or _bits_of(rows[:_SAMPLE]) > most:
        return None
    traffic = len(rows) * (8 + rows.shape[1])
    bits = max(in_parallel(lambda start, stop: _bits_of(rows[start:stop]), len(rows), traffic))
    if bits > most:
        return None
    # No more threads than keep all tables smaller than four bytes for each row.
    threads = min(len(thread_ranges(len(rows), traffic)), len(rows) >> bits)
    parts = split_ranges(len(rows), threads)
    states = 1 << bits
    # The counts of a state in all tables are not in the same set of a cache.
    tables = np.zeros((len(parts), states + _APART), np.uint32)
    run(
        lambda table, start, stop: _count_rows(rows, start, stop, table[:states]),
        [(table, *part) for table, part in zip(tables, parts, strict=True)],
    )
    pieces = split_ranges(states, len(parts))
    found = run(lambda start, stop: _add_up(tables, start, stop), pieces)
    return write_pieces(partial(_write_states, tables[0]), pieces, found, rows.shape[1])


def _bits_of(rows: NDArray[np.uint8]) -> int:
    """Return how many bits the largest row needs."""
    return int(_all_bits(rows)).bit_length()


@kernel
def _all_bits(rows: Bytes) -> np.uint64:
    """Return the bits that are 1 in any row."""
    width, row = rows.shape[1], address_of(rows)
    end = row + rows.size
    bits = np.uint64(0)
    for _ in range(len(rows)):
        bits |= row_word(row, 0, width, end)
        row += width
    return bits


@kernel
def _count_rows(rows: Bytes, start: Int, stop: Int, counts: Counts32) -> None:
    width, end = rows.shape[1], address_of(rows) + rows.size
    row = address_of(rows) + start * width
    last = np.uint64(len(counts) - 1)  # all bits are 1: rows that change meanwhile stay in bounds
    for _ in range(start, stop):
        counts[row_word(row, 0, width, end) & last] += np.uint32(1)
        row += width


@kernel
def _add_up(tables: Counts32, start: Int, stop: Int) -> int:
    """Add the counts of states [start, stop) to the first table. Return how many states occur."""
    found = 0
    for state in range(start, stop):
        for table in range(1, len(tables)):
            tables[0, state] += tables[table, state]
        found += tables[0, state] != 0
    return found


@kernel
def _write_states(
    table: Counts32, start: Int, stop: Int, packed: Bytes, counts: Ints, at: Int
) -> None:
    """Write the states of [start, stop) that occur, and their counts, from row ``at`` on."""
    width, end = packed.shape[1], address_of(packed) + packed.size
    target = address_of(packed) + at * width
    for state in range(start, stop):
        if table[state]:
            store_bytes(np.uint64(state), target, width, end)
            counts[at] = table[state]
            target += width
            at += 1
