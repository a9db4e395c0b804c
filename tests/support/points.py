"""Capture points, and random rows for them."""

import numpy as np

import tensorstate_gpu as ts


def new_point(where=None, name="layer", neurons=16, axis=1, **options):
    """A capture point that knows its neurons: in memory, or in a store or at its path."""
    point = ts.CapturePoint(name, where, **options)
    point.declare(neurons, axis)
    return point


def point_of_bits(name, bits, labels=None, **options):
    """A capture point with states, bools of shape (instances, neurons)."""
    point = new_point(name=name, neurons=bits.shape[1], **options)
    point.append(np.packbits(bits, axis=1, bitorder="little"), len(bits), labels)
    return point


def point_of_numbers(name, numbers, neurons, labels=None, **options):
    """A capture point whose states are these numbers, below 256: one for each instance."""
    point = new_point(name=name, neurons=neurons, **options)
    point.append(np.array(numbers, np.uint8)[:, None], len(numbers), labels)
    return point


def rows_of(count, neurons=16, seed=0):
    bits = np.random.default_rng(seed).integers(0, 2, (count, neurons), np.uint8)
    return np.packbits(bits, axis=1, bitorder="little")


def labels_of(point):
    return {label: counts.total for label, counts in point.counts_by().items()}
