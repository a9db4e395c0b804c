"""Rows with the number of their label and group behind them, which are the keys of counters."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._states.histogram_pairs import merged_groups
from tensorstate_gpu._states.sorted_runs import Histogram
from tensorstate_gpu._states.state_counts import StateCounts, merge_all
from tensorstate_gpu._states.states_by_group import StatesByGroup

LabelledGroups = tuple[Label, StatesByGroup]  # a label, and its counts by group

NUMBER = np.dtype("<u4")  # of a label and a group, behind a row


def groups_of_labels(
    histograms: Iterable[tuple[bool, Histogram]], labels: Sequence[Label], groups: int, neurons: int
) -> Iterator[LabelledGroups]:
    """Return labels, and their counts by group; the same may come once for each device.

    Rows without a number have no label, and are of the first group. None of them is without rows:
    these were all taken back.
    """
    width = row_bytes(neurons)
    for numbered, (rows, counts) in histograms:
        if not len(rows):
            continue
        numbers = numbers_of(rows, width) if numbered else np.zeros(len(rows), NUMBER)
        packed = np.ascontiguousarray(rows[:, :width])
        for label, own in StatesByGroup.apart(packed, counts, numbers, groups, neurons):
            yield labels[label] if numbered else None, own


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


def all_of(labels: Iterable[LabelledGroups], neurons: int) -> StateCounts:
    """Return the counts of all labels together."""
    return merge_all([part for _, groups in labels for part in groups], neurons)


def merged_by_label(labels: Iterable[LabelledGroups], neurons: int) -> dict[Label, StateCounts]:
    """Return the counts of each label. Integers are sorted before strings."""
    found: dict[Label, list[StateCounts]] = {}
    for label, groups in labels:
        found.setdefault(label, []).extend(groups)
    return {label: merge_all(found[label], neurons) for label in in_order(found)}


def merged_by_group(
    labels: Iterable[LabelledGroups], neurons: int
) -> dict[Label, Sequence[StateCounts]]:
    """Return the counts of each label, by group. All rows have a group."""
    found: dict[Label, list[StatesByGroup]] = {}
    for label, groups in labels:
        found.setdefault(label, []).append(groups)
    return {
        label: of_devices[0] if len(of_devices) == 1 else merged_groups(of_devices, neurons)
        for label, of_devices in ((label, found[label]) for label in in_order(found))
    }


def numbered_bytes(row_bytes: int) -> int:
    """Return the bytes of a row with the number of its label and group: up to 8, or whole words."""
    least = row_bytes + NUMBER.itemsize
    return least if least <= 8 else -(-least // 8) * 8


def in_order(labels: Iterable[Label]) -> list[Label]:
    """Return labels in order: integers before strings."""
    return sorted(labels, key=lambda label: (type(label).__name__, label))
