"""Capture points of ranks, which are threads here, and of one process with all inputs."""

import numpy as np

import tensorstate_gpu as ts
from tests.support.points import new_point, rows_of
from tests.support.thread_ranks import on_ranks

PARTS = [range(25), range(0), range(25, 38), range(38, 40)]  # uneven, and a rank without inputs
FIELDS = ("value", "plugin", "plugin_of_half", "lower", "upper", "coverage", "standard_error")


def point_of(inputs, name="layer", labels=False, units=False, **options):
    """A capture point with some of the same 40 inputs, two states each."""
    point = new_point(name=name, neurons=5, **options)
    rows = rows_of(80, neurons=5).reshape(40, 2, -1)
    for number in inputs:
        point.append(
            rows[number],
            1,
            labels=[number % 3] if labels else None,
            units=[f"clip {number // 2}"] if units else None,
        )
    return point


def synchronised(make, parts=PARTS):
    """What sync() returns on each rank, and the run of one process with all inputs."""
    found = on_ranks(len(parts), lambda ranks: ts.Run([make(parts[ranks.rank])]).sync(ranks))
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found, make([number for part in parts for number in part])


def chain_of(inputs, neurons, labels=False, **options):
    """A capture point whose neurons depend on each other.

    The states of 30 of them are seldom seen twice, so the upper bound is by a dependence tree.
    """
    flips = np.random.default_rng(3).random((400, neurons)) < 0.1
    bits = np.logical_xor.accumulate(flips, axis=1)
    packed = np.packbits(bits, axis=1, bitorder="little").reshape(200, 2, -1)
    point = new_point(name="layer", neurons=neurons, **options)
    for number in inputs:
        point.append(packed[number], 1, labels=[number % 3] if labels else None, units=[number])
    return point
