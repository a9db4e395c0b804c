"""Ranks, which are threads here, over which the states of a layer are spread."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._capturing import spread
from tests.support.points import new_point

NEURONS, OWN, COPIES = "neurons", "own", "copies"


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr(spread, "_BLOCK", 8)  # rows that are joined at a time


def part_of(states, shape, kinds, place):
    """The part of states (rows, neurons) that a rank of a mesh has, as torch cuts tensors."""
    for size, kind, index in zip(shape, kinds, place, strict=True):
        if kind != COPIES:
            axis = 1 if kind == NEURONS else 0
            states = np.array_split(states, size, axis)[index]
    return states


def gathered(layer):
    """All that a layer of ranks has counted, at the first rank."""
    return (
        layer.histogram().gather(),
        {label: counts.gather() for label, counts in layer.counts_by().items()},
        layer.grouped().gather(),
        {label: groups.gather() for label, groups in layer.grouped_by().items()},
    )


def whole_of(point):
    """The same of one process."""
    return point.histogram(), point.counts_by(), point.grouped(), point.grouped_by()


def labelled(rows, **options):
    """A capture point with an input for each row, with its label, which is its unit, too."""
    point = new_point(neurons=rows.shape[1], **options)
    labels = np.arange(len(rows)) % 5
    point.append(ts.compress_states(rows), len(rows), labels=labels, units=labels)
    return point
