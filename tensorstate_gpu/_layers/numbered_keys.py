"""Rows with the number of their label and group behind them, which are the keys of counters."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._states.sorted_runs import Histogram
from tensorstate_gpu._states.state_counts import StateCounts, merge_all

Label = int | str | None  # None: of rows without labels
Part = tuple[Label, int, StateCounts]  # a label, a group, and counts of both

NUMBER = np.dtype("<u4")  # of a label and a group, behind a row


def parts_of(
    histograms: Iterable[tuple[bool, Histogram]], labels: Sequence[Label], groups: int, neurons: int
) -> Iterator[Part]:
    """Return labels, groups and their counts; the same may come once for each device.

    None of them is without rows: these were all taken back.
    """
    width = row_bytes(neurons)
    for numbered, (rows, counts) in histograms:
        if not len(rows):
            continue
        runs = [*by_number(rows, width)] if numbered else [(None, slice(None))]
        packed = np.ascontiguousarray(rows[:, :width])
        each = StateCounts.cut(packed, counts, neurons, [part for _, part in runs])
        for (number, _), own in zip(runs, each, strict=True):
            if number is None:
                yield None, 0, own
            else:
                yield labels[number // groups], number % groups, own


def by_number(keys: Rows, width: int) -> Iterator[tuple[int, slice]]:
    """Return each number of keys in order, of which there are some, and which of them have it."""
    numbers = numbers_of(keys, width)
    edges = np.flatnonzero(np.diff(numbers)) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(keys)]):
        yield int(numbers[start]), slice(start, stop)


def numbers_of(keys: Rows, width: int) -> NDArray[np.uint32]:
    """Return the numbers behind rows of so many bytes."""
    columns = keys[:, width : width + NUMBER.itemsize]
    return np.ascontiguousarray(columns).view(NUMBER).reshape(-1)


def merged_by_label(parts: Iterable[Part], neurons: int) -> dict[Label, StateCounts]:
    """Return the counts of each label. Integers are sorted before strings."""
    found: dict[Label, list[StateCounts]] = {}
    for label, _, part in parts:
        found.setdefault(label, []).append(part)
    return {label: merge_all(found[label], neurons) for label in in_order(found)}


def merged_by_group(
    parts: Iterable[Part], groups: int, neurons: int
) -> dict[Label, list[StateCounts]]:
    """Return the counts of each label, by group. All rows have a group."""
    found: dict[Label, dict[int, StateCounts]] = {}
    for label, group, part in parts:
        own = found.setdefault(label, {})
        known = own.get(group)  # of another device
        own[group] = part if known is None else merge_all([known, part], neurons)
    empty = StateCounts.empty(neurons)  # of many labels, most groups are
    return {
        label: [found[label].get(group, empty) for group in range(groups)]
        for label in in_order(found)
    }


def numbered_bytes(row_bytes: int) -> int:
    """Return the bytes of a row with the number of its label and group: up to 8, or whole words."""
    least = row_bytes + NUMBER.itemsize
    return least if least <= 8 else -(-least // 8) * 8


def in_order(labels: Iterable[Label]) -> list[Label]:
    """Return labels in order: integers before strings."""
    return sorted(labels, key=lambda label: (type(label).__name__, label))
