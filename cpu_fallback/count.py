"""Counting distinct rows exactly: in hash tables while rows repeat, otherwise by sorting.

Where there are fewer possible states than rows, each possible state has a count of its own.

A hash chooses the slot, but rows are always compared byte by byte. A slot is empty if its count is
0, so the all-zero state needs no special case.
"""

import numpy as np
from numpy.typing import NDArray

from .direct_table import count_directly
from .merge import FEW, Histogram, count_by_sorting, in_order, merge
from .narrow_table import NarrowTable
from .table import StopRule, Table
from .threads import Range, run, thread_ranges
from .wide_table import WideTable

_SLACK = 64  # a table asks the stop rule when it is nearly full
DIRECT = 3  # bytes of rows that may have so few possible states that each can have a count
_TRIED = 1 << 18  # up to so many rows, a thread is woken only if the first repeat


def new_table(row_bytes: int, most: int = 0) -> Table:
    """Create an empty table; ``most``: the maximum number of rows, if known."""
    return NarrowTable(row_bytes, most) if row_bytes <= 8 else WideTable(row_bytes, most)


def _stop_when_distinct(
    row_bytes: int, before: int = 0, after: int = 0, threads: int = 1
) -> StopRule:
    """Build the rule that abandons a table that outgrows the cache while most rows are new.

    ``before`` and ``after``: numbers of rows that the table has counted, or will count, apart from
    those of which it asks.

    Rows drawn from 140,000 states have repeated by 3 % when the table knows 2**13 states, and
    counting many of them in a table is still faster than sorting. Later rows must repeat more.
    So must the last narrow rows, because sorting those is fast. Wide rows fill the cache earlier.

    Of rather few rows it asks earlier. Sorting them is faster if there is a state for each three
    wide rows, eight narrow ones, or twenty with several ``threads``, whose tables would be merged.
    If the states are equally frequent, that shows in the first rows: n of them have repeated by
    n / (2 * states).
    """
    scale = min(1.0, 64 / row_bytes)
    to_a_state = 3 if row_bytes > 8 else 8 if threads == 1 else 20
    steps = ((1 << 19, 3), (1 << 17, 1.5), (1 << 15, 1.1), (1 << 13, 1.03))

    def should_stop(distinct: int, seen: int, to_come: int) -> bool:
        seen, to_come = seen + before, to_come + after
        if row_bytes <= 8 and distinct >= (1 << 13) - _SLACK and to_come < 16 * distinct:
            return seen < 2 * distinct
        rows = seen + to_come
        if to_come < 64 * distinct and seen < distinct * (1 + to_a_state / 2 * distinct / rows):
            return True
        for known, repeats in steps:
            if distinct >= scale * known - _SLACK:
                return seen < repeats * distinct
        return False

    return should_stop


def count(packed: NDArray[np.uint8]) -> Histogram:
    """Return the distinct rows in order (distinct, bytes), and their int64 counts."""
    rows = np.ascontiguousarray(packed)
    width = rows.shape[1]
    if width <= 8 and 0 < len(rows) <= FEW:
        return count_by_sorting(rows, [(0, len(rows))])
    if width <= DIRECT and len(rows) and (counted := count_directly(rows)):
        return counted
    # Hashing reads and writes a cache line of a table for each row, of any width.
    ranges = thread_ranges(len(rows), len(rows) * (64 + width))
    tables = [new_table(width, stop - start) for start, stop in ranges]
    begins = [start for start, _ in ranges]
    if len(ranges) > 1 and len(rows) <= _TRIED:
        begins[0] = trial = min(len(rows) // 8, ranges[0][1])
        stop_rule = _stop_when_distinct(width, 0, len(rows) - trial, len(ranges))
        if tables[0].add(rows, None, 0, trial, stop_rule) < trial:
            return count_by_sorting(rows, ranges)

    def task(table: Table, start: int, begin: int, stop: int) -> tuple[list[Histogram], Range]:
        """Count some rows in a table that holds [start, begin) already.

        Return its histogram, and the range not counted yet.
        """
        stop_rule = _stop_when_distinct(width, before=begin - start)
        done = table.add(rows, None, begin, stop, stop_rule)
        # Sorting a few rows again is cheaper than merging a few with many.
        if done < stop and done - start < stop - done:
            return [], (start, stop)
        return [in_order(*table.entries(), 1)], (done, stop)

    starts, stops = zip(*ranges, strict=True)
    done = run(task, [*zip(tables, starts, begins, stops, strict=True)])
    parts = [part for counted, _ in done for part in counted]
    rest = [(start, stop) for _, (start, stop) in done if start < stop]
    if rest:
        parts.append(count_by_sorting(rows, rest))
    return merge([part for part in parts if len(part[0])], width)
